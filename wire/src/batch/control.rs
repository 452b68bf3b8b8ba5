//! Control records: the ends of transactions (KIP-98), and the types that a KRaft log has besides (KIP-595, KIP-630, KIP-853).
//!
//! A control batch holds one record, which no consumer is given.
//!
//! ```text
//! key:   version i16 (0) | type i16
//! value of the end of a transaction: version i16 (0) | coordinator epoch i32
//! ```
//! Later versions may add bytes behind these fields, which are ignored.

use std::fmt;

use super::{Attributes, BatchHeader, BuildError, NO_SEQUENCE, NewRecord, Record, write_record};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum EndTransaction {
    /// Its records are to be ignored.
    Abort = 0,
    /// Its records count.
    Commit = 1,
}

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRecord<'a> {
    /// A transaction of the batch's producer ends.
    EndTransaction {
        /// How.
        end: EndTransaction,
        /// Epoch of the transaction coordinator that wrote the marker.
        coordinator_epoch: i32,
    },
    /// Another type: 2 leader change, 3 snapshot header, 4 snapshot footer, 5 KRaft version, 6 KRaft voters; readers skip
    /// those they do not know.
    Other {
        /// The type.
        kind: i16,
        /// The value, in the schema of its type.
        value: Option<&'a [u8]>,
    },
}

/// Why a record is not a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlError {
    /// The key is null or shorter than version and type.
    KeyCut,
    /// The version of the key is negative.
    KeyVersion(i16),
    /// The value of a transaction's end is null or shorter than version and epoch.
    ValueCut,
    /// The version of the value is negative.
    ValueVersion(i16),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::KeyCut => f.write_str("control record with too short a key"),
            ControlError::KeyVersion(version) => write!(f, "control record with key version {version}"),
            ControlError::ValueCut => f.write_str("end of a transaction with too short a value"),
            ControlError::ValueVersion(version) => write!(f, "end of a transaction with value version {version}"),
        }
    }
}

impl std::error::Error for ControlError {}

impl<'a> ControlRecord<'a> {
    /// Reads a record of a control batch.
    pub fn parse(record: &Record<'a>) -> Result<ControlRecord<'a>, ControlError> {
        let &[v0, v1, k0, k1] = record.key.and_then(<[u8]>::first_chunk).ok_or(ControlError::KeyCut)?;
        let (version, kind) = (i16::from_be_bytes([v0, v1]), i16::from_be_bytes([k0, k1]));
        if version < 0 {
            return Err(ControlError::KeyVersion(version));
        }
        let end = match kind {
            0 => EndTransaction::Abort,
            1 => EndTransaction::Commit,
            _ => return Ok(ControlRecord::Other { kind, value: record.value }),
        };
        let &[v0, v1, epoch @ ..] = record.value.and_then(<[u8]>::first_chunk::<6>).ok_or(ControlError::ValueCut)?;
        match i16::from_be_bytes([v0, v1]) {
            version @ ..0 => Err(ControlError::ValueVersion(version)),
            _ => Ok(ControlRecord::EndTransaction { end, coordinator_epoch: i32::from_be_bytes(epoch) }),
        }
    }
}

/// Appends the control batch that ends a transaction of this producer. Base offset and leader epoch are assigned when it is
/// stored, as for any other batch. `timestamp` is in ms since the epoch.
pub fn write_end_transaction(
    out: &mut Vec<u8>,
    end: EndTransaction,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Result<(), BuildError> {
    let mut key = [0; 4];
    key[2..].copy_from_slice(&(end as i16).to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut body = Vec::with_capacity(32);
    write_record(&mut body, 0, 0, &NewRecord { key: Some(&key), value: Some(&value), ..NewRecord::default() })?;
    let header = BatchHeader {
        attributes: Attributes::default().with_transactional(true).with_control(true),
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id,
        producer_epoch,
        base_sequence: NO_SEQUENCE,
        record_count: 1,
        ..BatchHeader::default()
    };
    header.write(&body, out)
}
