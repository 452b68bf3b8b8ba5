//! Fetch requests read in place, and everything of their responses but the records: no allocation, no copy of records.
//!
//! Source: `FetchRequest` and `FetchResponse` of Apache Kafka 4.3, versions 4 to 18; flexible from 12 (KIP-482), topic ids
//! in place of names from 13 (KIP-516). Versions 0 to 3 are those of Apache Kafka 3.9: their records are a message set (see
//! [`crate::message_set`]).
//!
//! ```text
//! request:   replica id i32 up to 14 | max wait ms i32 | min bytes i32 | max bytes i32 from 3 | isolation level i8 from 4
//!            | session id i32 and epoch i32 from 7 | topics | forgotten topics from 7 | rack id from 11
//!            | tag 0 from 12: cluster id | tag 1 from 15: replica id i32 and epoch i64
//!   topic:     name, or id from 13 | partitions
//!   partition: index i32 | current leader epoch i32 from 9 | fetch offset i64 | last fetched epoch i32 from 12
//!              | log start offset i64 from 5 | max bytes i32
//!              | tag 0 from 17: replica directory id | tag 1 from 18: high watermark i64
//!   forgotten: name, or id from 13 | partition indexes i32
//! response:  throttle time ms i32 from 1 | error i16 and session id i32 from 7 | topics | tag 0 from 16: node endpoints
//!   topic:     name, or id from 13 | partitions
//!   partition: index i32 | error i16 | high watermark i64 | last stable offset i64 from 4 | log start offset i64 from 5
//!              | aborted transactions from 4, nullable: producer id i64, first offset i64
//!              | preferred read replica i32 from 11
//!              | records, nullable | tags from 12: 0 diverging epoch, 1 current leader, 2 snapshot id
//! ```

use crate::{DecodeError, Reader, Uuid};

mod response;

#[cfg(test)]
mod tests;

pub use crate::produce_fetch::{CurrentLeader, NodeEndpoint, TopicRef};
pub use response::{AbortedTransaction, EpochEnd, FetchResponseWriter, FetchedPartition};

/// The oldest version that is read and written here.
pub const MIN_VERSION: i16 = 0;
/// The newest.
pub const MAX_VERSION: i16 = 18;
const THROTTLE_TIME_FROM: i16 = 1;
const MAX_BYTES_FROM: i16 = 3;
const ISOLATION_FROM: i16 = 4;
const LOG_START_OFFSET_FROM: i16 = 5;
const SESSIONS_FROM: i16 = 7;
const CURRENT_LEADER_EPOCH_FROM: i16 = 9;
const RACKS_FROM: i16 = 11;
const FLEXIBLE_FROM: i16 = 12;
const REPLICA_STATE_FROM: i16 = 15;
const DIRECTORY_ID_FROM: i16 = 17;
const HIGH_WATERMARK_FROM: i16 = 18;

/// A Fetch request, read in place.
///
/// [`FetchView::parse`] has walked all of it, so topics and partitions are read again without errors, as often as needed.
/// Fields that a version lacks have Kafka's defaults.
#[derive(Debug, Clone)]
pub struct FetchView<'a> {
    /// The cluster that a replica takes this broker for, if it says so.
    pub cluster_id: Option<&'a str>,
    /// Node id of a replica; -1 for a consumer.
    pub replica_id: i32,
    /// Broker epoch of a replica, or -1.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`, in ms.
    pub max_wait_ms: i32,
    /// Bytes of records, over all partitions, that are worth an answer at once.
    pub min_bytes: i32,
    /// Bytes of records that the response may hold; the first batch comes whatever its size (KIP-74). From version 3 on.
    pub max_bytes: i32,
    /// 0: read uncommitted, 1: read committed.
    pub isolation_level: i8,
    /// The fetch session (KIP-227), or 0.
    pub session_id: i32,
    /// The place of this request in its session: 0 asks for a session, -1 for none or its end.
    pub session_epoch: i32,
    /// The consumer's rack, or "".
    pub rack_id: &'a str,
    /// How many partitions all topics have together.
    pub partition_count: usize,
    topics: FetchTopics<'a>,
    forgotten: ForgottenTopics<'a>,
}

impl<'a> FetchView<'a> {
    /// Reads the body of a request, to its end.
    pub fn parse(body: &'a [u8], version: i16) -> Result<FetchView<'a>, DecodeError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(DecodeError::UnsupportedVersion);
        }
        let flexible = version >= FLEXIBLE_FROM;
        let mut r = Reader::new(body);
        let replica_id = if version < REPLICA_STATE_FROM { r.i32()? } else { -1 };
        let max_wait_ms = r.i32()?;
        let min_bytes = r.i32()?;
        let max_bytes = if version >= MAX_BYTES_FROM { r.i32()? } else { i32::MAX };
        let isolation_level = if version >= ISOLATION_FROM { r.i8()? } else { 0 };
        let (session_id, session_epoch) = if version >= SESSIONS_FROM { (r.i32()?, r.i32()?) } else { (0, -1) };

        let array_and_tags_len = if flexible { 2 } else { 4 };
        let topic_min = TopicRef::min_size(flexible, version) + array_and_tags_len;
        let left = r.count(flexible, topic_min)?;
        let topics = FetchTopics { reader: r, left, version };
        let mut walk = topics.clone();
        let mut partition_count = 0;
        while let Some(topic) = walk.read()? {
            partition_count += topic.partitions.left;
        }
        let mut r = walk.reader;

        let left = if version >= SESSIONS_FROM { r.count(flexible, topic_min)? } else { 0 };
        let forgotten = ForgottenTopics { reader: r, left, version };
        let mut walk = forgotten.clone();
        while walk.read()?.is_some() {}
        let mut r = walk.reader;

        let rack_id = if version >= RACKS_FROM { r.string(flexible)? } else { "" };
        let mut view = FetchView {
            cluster_id: None,
            replica_id,
            replica_epoch: -1,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            rack_id,
            partition_count,
            topics,
            forgotten,
        };
        if flexible {
            view.read_tags(&mut r, version)?;
        }
        r.finish()?;
        Ok(view)
    }

    fn read_tags(&mut self, r: &mut Reader<'a>, version: i16) -> Result<(), DecodeError> {
        let mut tags = r.tags()?;
        while let Some(tag) = tags.next(r)? {
            match tag {
                0 => self.cluster_id = r.nullable_string(true)?,
                1 if version >= REPLICA_STATE_FROM => {
                    self.replica_id = r.i32()?;
                    self.replica_epoch = r.i64()?;
                    r.skip_tags()?;
                }
                _ => tags.skip(r),
            }
        }
        Ok(())
    }

    /// The topics, in the order of the request, which is the order in which `max_bytes` is used up.
    #[must_use]
    pub fn topics(&self) -> FetchTopics<'a> {
        self.topics.clone()
    }

    /// The partitions to remove from the session.
    #[must_use]
    pub fn forgotten(&self) -> ForgottenTopics<'a> {
        self.forgotten.clone()
    }
}

/// One topic of a Fetch request.
#[derive(Debug, Clone)]
pub struct FetchTopic<'a> {
    /// Its name or id.
    pub topic: TopicRef<'a>,
    /// Its partitions, in the order of the request.
    pub partitions: FetchPartitions<'a>,
}

/// One partition of a Fetch request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    /// The index of the partition.
    pub index: i32,
    /// The leader epoch that the client knows, or -1 (KIP-320).
    pub current_leader_epoch: i32,
    /// Offset of the first record wanted.
    pub fetch_offset: i64,
    /// Epoch of the last record that the client has, or -1.
    pub last_fetched_epoch: i32,
    /// First offset of a replica's log, or -1.
    pub log_start_offset: i64,
    /// Bytes of records that this partition may bring.
    pub max_bytes: i32,
    /// A replica's log directory, or zero (KIP-853).
    pub replica_directory_id: Uuid,
    /// The high watermark that a replica knows, -1 if none, `i64::MAX` if it does not say (KIP-1166).
    pub high_watermark: i64,
}

/// The topics of a Fetch request.
#[derive(Debug, Clone)]
pub struct FetchTopics<'a> {
    reader: Reader<'a>,
    left: usize,
    version: i16,
}

impl<'a> FetchTopics<'a> {
    /// Reads one topic, and passes over its partitions.
    fn read(&mut self) -> Result<Option<FetchTopic<'a>>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let flexible = self.version >= FLEXIBLE_FROM;
        let topic = TopicRef::read(&mut self.reader, flexible, self.version)?;
        // Every version has the index, the fetch offset and the maximum.
        let left = self.reader.count(flexible, 16)?;
        let partitions = FetchPartitions { reader: self.reader.clone(), left, version: self.version };
        let mut walk = partitions.clone();
        while walk.read()?.is_some() {}
        self.reader = walk.reader;
        if flexible {
            self.reader.skip_tags()?;
        }
        Ok(Some(FetchTopic { topic, partitions }))
    }
}

impl<'a> Iterator for FetchTopics<'a> {
    type Item = FetchTopic<'a>;

    fn next(&mut self) -> Option<FetchTopic<'a>> {
        // Parsing has read the same bytes without an error.
        self.read().ok().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for FetchTopics<'_> {}

/// The partitions of one topic of a Fetch request.
#[derive(Debug, Clone)]
pub struct FetchPartitions<'a> {
    reader: Reader<'a>,
    left: usize,
    version: i16,
}

impl FetchPartitions<'_> {
    fn read(&mut self) -> Result<Option<FetchPartition>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let (r, version) = (&mut self.reader, self.version);
        let mut partition = FetchPartition {
            index: r.i32()?,
            current_leader_epoch: if version >= CURRENT_LEADER_EPOCH_FROM { r.i32()? } else { -1 },
            fetch_offset: r.i64()?,
            last_fetched_epoch: if version >= FLEXIBLE_FROM { r.i32()? } else { -1 },
            log_start_offset: if version >= LOG_START_OFFSET_FROM { r.i64()? } else { -1 },
            max_bytes: r.i32()?,
            replica_directory_id: Uuid::ZERO,
            high_watermark: i64::MAX,
        };
        if version >= FLEXIBLE_FROM {
            let mut tags = r.tags()?;
            while let Some(tag) = tags.next(r)? {
                match tag {
                    0 if version >= DIRECTORY_ID_FROM => partition.replica_directory_id = r.uuid()?,
                    1 if version >= HIGH_WATERMARK_FROM => partition.high_watermark = r.i64()?,
                    _ => tags.skip(r),
                }
            }
        }
        Ok(Some(partition))
    }
}

impl Iterator for FetchPartitions<'_> {
    type Item = FetchPartition;

    fn next(&mut self) -> Option<FetchPartition> {
        // Parsing has read the same bytes without an error.
        self.read().ok().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for FetchPartitions<'_> {}

/// One topic of which a fetch session is to forget partitions.
#[derive(Debug, Clone)]
pub struct ForgottenTopic<'a> {
    /// Its name or id.
    pub topic: TopicRef<'a>,
    /// The indexes of the partitions.
    pub partitions: ForgottenPartitions<'a>,
}

/// The topics of which a fetch session is to forget partitions.
#[derive(Debug, Clone)]
pub struct ForgottenTopics<'a> {
    reader: Reader<'a>,
    left: usize,
    version: i16,
}

impl<'a> ForgottenTopics<'a> {
    fn read(&mut self) -> Result<Option<ForgottenTopic<'a>>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let flexible = self.version >= FLEXIBLE_FROM;
        let topic = TopicRef::read(&mut self.reader, flexible, self.version)?;
        let count = self.reader.count(flexible, 4)?;
        let indexes = self.reader.take(4 * count)?;
        if flexible {
            self.reader.skip_tags()?;
        }
        Ok(Some(ForgottenTopic { topic, partitions: ForgottenPartitions { rest: indexes } }))
    }
}

impl<'a> Iterator for ForgottenTopics<'a> {
    type Item = ForgottenTopic<'a>;

    fn next(&mut self) -> Option<ForgottenTopic<'a>> {
        // Parsing has read the same bytes without an error.
        self.read().ok().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ForgottenTopics<'_> {}

/// The indexes of the partitions to forget.
#[derive(Debug, Clone)]
pub struct ForgottenPartitions<'a> {
    rest: &'a [u8],
}

impl Iterator for ForgottenPartitions<'_> {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        let (index, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(i32::from_be_bytes(*index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.len() / 4, Some(self.rest.len() / 4))
    }
}

impl ExactSizeIterator for ForgottenPartitions<'_> {}
