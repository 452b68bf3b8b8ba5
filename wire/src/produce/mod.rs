//! Produce requests read in place, and their responses written straight into a buffer: no allocation, no copy of records.
//!
//! Source: `ProduceRequest` and `ProduceResponse` of Apache Kafka 4.3, versions 3 to 13; flexible from 9 (KIP-482), topic
//! ids in place of names from 13 (KIP-516). Versions 0 to 2 are those of Apache Kafka 3.9: their records are a message set
//! (see [`crate::message_set`]).
//!
//! ```text
//! request:   transactional id from 3, nullable | acks i16 | timeout ms i32 | topics
//!   topic:     name, or id from 13 | partitions
//!   partition: index i32 | records, nullable
//! response:  topics | throttle time ms i32 from 1 | tag 0 from 10: node endpoints
//!   topic:     name, or id from 13 | partitions
//!   partition: index i32 | error i16 | base offset i64 | log append time ms i64 from 2 | log start offset i64 from 5
//!              | record errors and error message from 8 | tag 0 from 10: current leader
//! ```

use crate::{DecodeError, Reader};

mod response;

#[cfg(test)]
mod tests;

pub use crate::produce_fetch::{CurrentLeader, NodeEndpoint, TopicRef};
pub use response::{ProduceResponseWriter, ProducedPartition, RecordFailure};

/// The oldest version that is read and written here.
pub const MIN_VERSION: i16 = 0;
/// The newest.
pub const MAX_VERSION: i16 = 13;
const TRANSACTIONS_FROM: i16 = 3;
const FLEXIBLE_FROM: i16 = 9;

/// A Produce request, read in place.
///
/// [`ProduceView::parse`] has walked all of it, so topics and partitions are read again without errors, as often as needed:
/// a broker can check a whole request before it appends anything.
#[derive(Debug, Clone)]
pub struct ProduceView<'a> {
    /// The transactional id, or null.
    pub transactional_id: Option<&'a str>,
    /// 0: send no response. 1: once the leader has it. -1: once all replicas in sync have it.
    pub acks: i16,
    /// How long the client waits, in ms.
    pub timeout_ms: i32,
    /// How many partitions all topics have together.
    pub partition_count: usize,
    topics: ProduceTopics<'a>,
}

impl<'a> ProduceView<'a> {
    /// Reads the body of a request, to its end.
    pub fn parse(body: &'a [u8], version: i16) -> Result<ProduceView<'a>, DecodeError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(DecodeError::UnsupportedVersion);
        }
        let flexible = version >= FLEXIBLE_FROM;
        let mut r = Reader::new(body);
        let transactional_id = if version >= TRANSACTIONS_FROM { r.nullable_string(flexible)? } else { None };
        let acks = r.i16()?;
        let timeout_ms = r.i32()?;
        let (partitions_len, tags_len) = if flexible { (1, 1) } else { (4, 0) };
        let left = r.count(flexible, TopicRef::min_size(flexible, version) + partitions_len + tags_len)?;
        let topics = ProduceTopics { rest: r.rest(), left, version };
        let mut partition_count = 0;
        for _ in 0..left {
            let (_, count) = read_topic(&mut r, version)?;
            partition_count += count;
            for _ in 0..count {
                read_partition(&mut r, flexible)?;
            }
            if flexible {
                r.skip_tags()?;
            }
        }
        if flexible {
            r.skip_tags()?;
        }
        r.finish()?;
        Ok(ProduceView { transactional_id, acks, timeout_ms, partition_count, topics })
    }

    /// The topics, in the order of the request.
    #[must_use]
    pub fn topics(&self) -> ProduceTopics<'a> {
        self.topics.clone()
    }
}

/// One topic of a Produce request.
#[derive(Debug, Clone)]
pub struct ProduceTopic<'a> {
    /// Its name or id.
    pub topic: TopicRef<'a>,
    /// Its partitions, in the order of the request. A client may name one twice.
    pub partitions: ProducePartitions<'a>,
}

/// One partition of a Produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducePartition<'a> {
    /// The index of the partition.
    pub index: i32,
    /// The record batch, or up to version 2 the message set, unchecked, or null.
    pub records: Option<&'a [u8]>,
}

/// The topics of a Produce request.
#[derive(Debug, Clone)]
pub struct ProduceTopics<'a> {
    rest: &'a [u8],
    left: usize,
    version: i16,
}

impl<'a> ProduceTopics<'a> {
    #[inline]
    fn read(&mut self) -> Result<ProduceTopic<'a>, DecodeError> {
        let flexible = self.version >= FLEXIBLE_FROM;
        let mut r = Reader::new(self.rest);
        let (topic, left) = read_topic(&mut r, self.version)?;
        let partitions = ProducePartitions { rest: r.rest(), left, flexible };
        self.left -= 1;
        // Nothing follows the last topic, so its partitions need not be passed over.
        if self.left > 0 {
            for _ in 0..left {
                read_partition(&mut r, flexible)?;
            }
            if flexible {
                r.skip_tags()?;
            }
        }
        self.rest = r.rest();
        Ok(ProduceTopic { topic, partitions })
    }
}

impl<'a> Iterator for ProduceTopics<'a> {
    type Item = ProduceTopic<'a>;

    #[inline]
    fn next(&mut self) -> Option<ProduceTopic<'a>> {
        // Parsing has read the same bytes without an error.
        if self.left == 0 { None } else { self.read().ok() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ProduceTopics<'_> {}

/// The partitions of one topic of a Produce request.
#[derive(Debug, Clone)]
pub struct ProducePartitions<'a> {
    rest: &'a [u8],
    left: usize,
    flexible: bool,
}

impl<'a> Iterator for ProducePartitions<'a> {
    type Item = ProducePartition<'a>;

    #[inline]
    fn next(&mut self) -> Option<ProducePartition<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let mut r = Reader::new(self.rest);
        // Parsing has read the same bytes without an error.
        let partition = read_partition(&mut r, self.flexible).ok();
        self.rest = r.rest();
        partition
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ProducePartitions<'_> {}

/// Reads a topic up to its partitions, and their number.
#[inline]
fn read_topic<'a>(r: &mut Reader<'a>, version: i16) -> Result<(TopicRef<'a>, usize), DecodeError> {
    let flexible = version >= FLEXIBLE_FROM;
    let topic = TopicRef::read(r, flexible, version)?;
    // Index, length of the records, and tags where there are any.
    Ok((topic, r.count(flexible, if flexible { 6 } else { 8 })?))
}

#[inline(always)]
fn read_partition<'a>(r: &mut Reader<'a>, flexible: bool) -> Result<ProducePartition<'a>, DecodeError> {
    let index = r.i32()?;
    let records = r.nullable_bytes(flexible)?;
    if flexible {
        r.skip_tags()?;
    }
    Ok(ProducePartition { index, records })
}
