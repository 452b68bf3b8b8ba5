//! Produce responses, written as their partitions are known.

use super::{FLEXIBLE_FROM, MAX_VERSION, MIN_VERSION};
use crate::error::ErrorCode;
use crate::produce_fetch::{Announced, CurrentLeader, NodeEndpoint, TopicRef};
use crate::{EncodeError, put};

const THROTTLE_TIME_FROM: i16 = 1;
const LOG_APPEND_TIME_FROM: i16 = 2;
const LOG_START_OFFSET_FROM: i16 = 5;
const RECORD_ERRORS_FROM: i16 = 8;
const CURRENT_LEADER_FROM: i16 = 10;
/// A partition without errors in a flexible version, in bytes.
const PARTITION_LEN: usize = 30 + NO_ERRORS_NOR_TAGS.len();
/// In a flexible version: an empty array of record errors, a null error message, no tagged fields.
const NO_ERRORS_NOR_TAGS: [u8; 3] = [1, 0, 0];

/// What became of one partition's batch. What the version of the response has no field for is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducedPartition<'a> {
    /// The index of the partition.
    pub index: i32,
    /// The error, or `None`.
    pub error: ErrorCode,
    /// Offset of the first record; -1 after an error.
    pub base_offset: i64,
    /// Ms since the epoch where the topic has LogAppendTime, otherwise -1. From version 2 on.
    pub log_append_time_ms: i64,
    /// First offset of the log, or -1. From version 5 on.
    pub log_start_offset: i64,
    /// The records that caused the error (KIP-467). From version 8 on.
    pub record_errors: &'a [RecordFailure<'a>],
    /// What is wrong with the batch as a whole. From version 8 on.
    pub error_message: Option<&'a str>,
    /// Who leads the partition, where it is not this broker (KIP-951). From version 10 on.
    pub current_leader: Option<CurrentLeader>,
}

impl Default for ProducedPartition<'_> {
    fn default() -> Self {
        ProducedPartition {
            index: 0,
            error: ErrorCode::None,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: &[],
            error_message: None,
            current_leader: None,
        }
    }
}

/// A record that caused its batch to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFailure<'a> {
    /// Its place in the batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<&'a str>,
}

/// Writes the body of a Produce response: [`ProduceResponseWriter::topic`] once a topic, after each as many
/// [`ProduceResponseWriter::partition`] as it announced, then [`ProduceResponseWriter::finish`].
///
/// After an error the buffer holds a part of the response.
///
/// # Panics
/// If topics or partitions are more or fewer than announced.
#[derive(Debug)]
pub struct ProduceResponseWriter<'o> {
    out: &'o mut Vec<u8>,
    version: i16,
    flexible: bool,
    announced: Announced,
}

impl<'o> ProduceResponseWriter<'o> {
    /// Begins a response with this many topics behind what `out` holds.
    pub fn new(out: &'o mut Vec<u8>, version: i16, topics: usize) -> Result<Self, EncodeError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(EncodeError::UnsupportedVersion(version));
        }
        let flexible = version >= FLEXIBLE_FROM;
        put::len(out, flexible, topics)?;
        Ok(ProduceResponseWriter { out, version, flexible, announced: Announced::topics(topics) })
    }

    /// Begins a topic with this many partitions.
    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) -> Result<(), EncodeError> {
        self.announced.topic(partitions);
        topic.write(self.out, self.flexible, self.version)?;
        put::len(self.out, self.flexible, partitions)?;
        if partitions == 0 {
            self.end_struct();
        }
        Ok(())
    }

    /// Writes one partition.
    pub fn partition(&mut self, partition: &ProducedPartition<'_>) -> Result<(), EncodeError> {
        let last = self.announced.partition();
        let mut bytes = [0; PARTITION_LEN];
        bytes[..4].copy_from_slice(&partition.index.to_be_bytes());
        bytes[4..6].copy_from_slice(&(partition.error as i16).to_be_bytes());
        bytes[6..14].copy_from_slice(&partition.base_offset.to_be_bytes());
        bytes[14..22].copy_from_slice(&partition.log_append_time_ms.to_be_bytes());
        bytes[22..30].copy_from_slice(&partition.log_start_offset.to_be_bytes());
        bytes[30..].copy_from_slice(&NO_ERRORS_NOR_TAGS);
        let plain = partition.record_errors.is_empty()
            && partition.error_message.is_none()
            && (partition.current_leader.is_none() || self.version < CURRENT_LEADER_FROM);
        if self.flexible && plain {
            // A success, as nearly all are: one copy.
            self.out.extend_from_slice(&bytes);
        } else {
            let fixed_len = match self.version {
                LOG_START_OFFSET_FROM.. => 30,
                LOG_APPEND_TIME_FROM.. => 22,
                _ => 14,
            };
            self.out.extend_from_slice(&bytes[..fixed_len]);
            self.details(partition)?;
        }
        if last {
            self.end_struct();
        }
        Ok(())
    }

    /// Writes what follows the numbers of a partition.
    fn details(&mut self, partition: &ProducedPartition<'_>) -> Result<(), EncodeError> {
        if self.version >= RECORD_ERRORS_FROM {
            put::len(self.out, self.flexible, partition.record_errors.len())?;
            for error in partition.record_errors {
                put::i32(self.out, error.batch_index);
                put::nullable_string(self.out, self.flexible, error.message)?;
                self.end_struct();
            }
            put::nullable_string(self.out, self.flexible, partition.error_message)?;
        }
        match partition.current_leader {
            Some(leader) if self.version >= CURRENT_LEADER_FROM => {
                put::uvarint(self.out, 1);
                leader.write_tag(self.out, 0);
            }
            _ => self.end_struct(),
        }
        Ok(())
    }

    /// Ends the response: for how long the client has been throttled, in ms (from version 1 on), and where the leaders named
    /// are (from version 10 on).
    pub fn finish(self, throttle_time_ms: i32, endpoints: &[NodeEndpoint<'_>]) -> Result<(), EncodeError> {
        self.announced.finish();
        if self.version >= THROTTLE_TIME_FROM {
            put::i32(self.out, throttle_time_ms);
        }
        if self.version >= CURRENT_LEADER_FROM {
            NodeEndpoint::write_tags(self.out, endpoints)
        } else {
            if self.flexible {
                put::uvarint(self.out, 0);
            }
            Ok(())
        }
    }

    /// Ends a struct without tagged fields.
    fn end_struct(&mut self) {
        if self.flexible {
            put::uvarint(self.out, 0);
        }
    }
}
