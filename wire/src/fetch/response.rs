//! Fetch responses without their records, which the sender splices in from where they are kept.

use super::{
    FLEXIBLE_FROM, ISOLATION_FROM, LOG_START_OFFSET_FROM, MAX_VERSION, MIN_VERSION, RACKS_FROM, SESSIONS_FROM,
    THROTTLE_TIME_FROM,
};
use crate::error::ErrorCode;
use crate::produce_fetch::{Announced, CurrentLeader, NodeEndpoint, TopicRef};
use crate::{EncodeError, put};

const NODE_ENDPOINTS_FROM: i16 = 16;

/// An epoch and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The leader epoch.
    pub epoch: i32,
    /// The offset behind its last record.
    pub end_offset: i64,
}

/// A transaction that was aborted: its records are in the response, and a reader of committed records skips them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// Where the transaction begins.
    pub first_offset: i64,
}

/// One partition of a Fetch response, but for its records. What the version has no field for is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchedPartition<'a> {
    /// The index of the partition.
    pub index: i32,
    /// The error, or `None`.
    pub error: ErrorCode,
    /// The offset up to which records may be read; -1 after an error.
    pub high_watermark: i64,
    /// The offset up to which transactions have ended, or -1. From version 4 on.
    pub last_stable_offset: i64,
    /// First offset of the log, or -1. From version 5 on.
    pub log_start_offset: i64,
    /// For readers of committed records: the aborted transactions among the records. Otherwise null. From version 4 on.
    pub aborted_transactions: Option<&'a [AbortedTransaction]>,
    /// The replica that a consumer should rather ask, or -1 (KIP-392). From version 11 on.
    pub preferred_read_replica: i32,
    /// Where the log of a client that has diverged parts from this one (KIP-595). From version 12 on.
    pub diverging_epoch: Option<EpochEnd>,
    /// Who leads the partition, where it is not this broker (KIP-951). From version 12 on.
    pub current_leader: Option<CurrentLeader>,
    /// The snapshot to load in place of records before the log start (KIP-630). From version 12 on.
    pub snapshot_id: Option<EpochEnd>,
    /// The size of the records in bytes, or `None` for null. Kafka's brokers write 0 where there are none.
    pub records_len: Option<usize>,
}

impl Default for FetchedPartition<'_> {
    fn default() -> Self {
        FetchedPartition {
            index: 0,
            error: ErrorCode::None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            records_len: Some(0),
        }
    }
}

/// Writes the body of a Fetch response without its records: [`FetchResponseWriter::topic`] once a topic, after each as
/// many [`FetchResponseWriter::partition`] as it announced, then [`FetchResponseWriter::finish`].
///
/// ```text
/// out:  length | header | … | records length | tags | … | records length | tags | …
///                                            ^ position of the first splice      ^ of the second
/// ```
/// After an error the buffer holds a part of the response.
///
/// # Panics
/// If topics or partitions are more or fewer than announced.
#[derive(Debug)]
pub struct FetchResponseWriter<'o> {
    out: &'o mut Vec<u8>,
    version: i16,
    flexible: bool,
    announced: Announced,
    spliced: usize,
}

impl<'o> FetchResponseWriter<'o> {
    /// Begins a response with this many topics behind what `out` holds. `throttle_time_ms` is for how long the client has
    /// been throttled (from version 1 on); `error` concerns the whole request and `session_id` its session (0: none), both from version 7 on.
    pub fn new(
        out: &'o mut Vec<u8>,
        version: i16,
        throttle_time_ms: i32,
        error: ErrorCode,
        session_id: i32,
        topics: usize,
    ) -> Result<Self, EncodeError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(EncodeError::UnsupportedVersion(version));
        }
        let flexible = version >= FLEXIBLE_FROM;
        if version >= THROTTLE_TIME_FROM {
            put::i32(out, throttle_time_ms);
        }
        if version >= SESSIONS_FROM {
            put::i16(out, error as i16);
            put::i32(out, session_id);
        }
        put::len(out, flexible, topics)?;
        Ok(FetchResponseWriter { out, version, flexible, announced: Announced::topics(topics), spliced: 0 })
    }

    /// Begins a topic with this many partitions.
    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) -> Result<(), EncodeError> {
        self.announced.topic(partitions);
        topic.write(self.out, self.flexible, self.version)?;
        put::len(self.out, self.flexible, partitions)?;
        if partitions == 0 && self.flexible {
            put::uvarint(self.out, 0);
        }
        Ok(())
    }

    /// Writes one partition. Its records belong at the position returned: between the bytes of the buffer before it and
    /// those from it on.
    pub fn partition(&mut self, partition: &FetchedPartition<'_>) -> Result<usize, EncodeError> {
        let last = self.announced.partition();
        put::i32(self.out, partition.index);
        put::i16(self.out, partition.error as i16);
        put::i64(self.out, partition.high_watermark);
        if self.version >= ISOLATION_FROM {
            put::i64(self.out, partition.last_stable_offset);
        }
        if self.version >= LOG_START_OFFSET_FROM {
            put::i64(self.out, partition.log_start_offset);
        }
        if self.version >= ISOLATION_FROM {
            put::nullable_len(self.out, self.flexible, partition.aborted_transactions.map(<[_]>::len))?;
            for transaction in partition.aborted_transactions.unwrap_or_default() {
                put::i64(self.out, transaction.producer_id);
                put::i64(self.out, transaction.first_offset);
                if self.flexible {
                    put::uvarint(self.out, 0);
                }
            }
        }
        if self.version >= RACKS_FROM {
            put::i32(self.out, partition.preferred_read_replica);
        }
        put::nullable_len(self.out, self.flexible, partition.records_len)?;
        let position = self.out.len();
        self.spliced += partition.records_len.unwrap_or(0);
        if self.flexible {
            self.partition_tags(partition);
        }
        if last && self.flexible {
            put::uvarint(self.out, 0);
        }
        Ok(position)
    }

    fn partition_tags(&mut self, partition: &FetchedPartition<'_>) {
        /// An `i32`, an `i64` and no tags, in bytes.
        const EPOCH_END_SIZE: u32 = 13;
        let count = u32::from(partition.diverging_epoch.is_some())
            + u32::from(partition.current_leader.is_some())
            + u32::from(partition.snapshot_id.is_some());
        put::uvarint(self.out, count);
        if let Some(end) = partition.diverging_epoch {
            put::uvarint(self.out, 0);
            put::uvarint(self.out, EPOCH_END_SIZE);
            put::i32(self.out, end.epoch);
            put::i64(self.out, end.end_offset);
            put::uvarint(self.out, 0);
        }
        if let Some(leader) = partition.current_leader {
            leader.write_tag(self.out, 1);
        }
        if let Some(end) = partition.snapshot_id {
            put::uvarint(self.out, 2);
            put::uvarint(self.out, EPOCH_END_SIZE);
            // The same two fields, the other way round.
            put::i64(self.out, end.end_offset);
            put::i32(self.out, end.epoch);
            put::uvarint(self.out, 0);
        }
    }

    /// Ends the response: where the leaders named are (from version 16 on).
    ///
    /// `frame_at` is where in the buffer the frame began with four bytes for its length. They get the size of what follows
    /// them, header, body and all records to be spliced in. Returns the size of the whole frame, these four bytes included.
    pub fn finish(self, frame_at: usize, endpoints: &[NodeEndpoint<'_>]) -> Result<usize, EncodeError> {
        self.announced.finish();
        if self.version >= NODE_ENDPOINTS_FROM {
            NodeEndpoint::write_tags(self.out, endpoints)?;
        } else if self.flexible {
            put::uvarint(self.out, 0);
        }
        let total = self.out.len() - frame_at + self.spliced;
        let length = i32::try_from(total - 4).map_err(|_| EncodeError::TooLong)?;
        self.out[frame_at..frame_at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(total)
    }
}
