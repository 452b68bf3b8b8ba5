//! The records of a batch, read in place from its uncompressed body.
//!
//! ```text
//! length           varint  bytes that follow in this record
//! attributes       i8      unused
//! timestamp delta  varlong from the base timestamp of the batch
//! offset delta     varint  from the base offset of the batch
//! key length       varint  -1: null;  key
//! value length     varint  -1: null;  value
//! header count     varint
//! headers: key length varint, key (UTF-8), value length varint (-1: null), value
//! ```

use std::fmt;

use super::varint::{self, VarintError};
use super::{BatchView, TimestampType};

/// Which record breaks the format, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in its batch, from 0: the batch index of a Produce response's record errors.
    pub index: i32,
    /// The rule that it breaks.
    pub fault: RecordFault,
}

/// A rule of the record format that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// The bytes end within a field.
    Cut,
    /// A varint goes on beyond what its type can hold.
    VarintTooLong,
    /// The record's length is negative or goes beyond the batch.
    Length(i32),
    /// The length of a key, a value or a header is below -1 or goes beyond the record.
    FieldLength(i32),
    /// The key of a header is null.
    NullHeaderKey,
    /// The number of headers is negative or more than the record can hold.
    HeaderCount(i32),
    /// The record is longer than its fields.
    RecordTooLong {
        /// The bytes behind the last field.
        bytes: usize,
    },
    /// Bytes follow the last record.
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// The offset delta does not rise, or is beyond the last offset delta of the batch.
    OffsetDelta(i32),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}: ", self.index)?;
        match self.fault {
            RecordFault::Cut => f.write_str("cut within a field"),
            RecordFault::VarintTooLong => f.write_str("a varint is longer than its type"),
            RecordFault::Length(length) => write!(f, "length {length}"),
            RecordFault::FieldLength(length) => write!(f, "a field of length {length}"),
            RecordFault::NullHeaderKey => f.write_str("the key of a header is null"),
            RecordFault::HeaderCount(count) => write!(f, "{count} headers"),
            RecordFault::RecordTooLong { bytes } => write!(f, "{bytes} bytes behind its last field"),
            RecordFault::TrailingBytes { bytes } => write!(f, "{bytes} bytes where the batch should end"),
            RecordFault::OffsetDelta(delta) => write!(f, "offset delta {delta}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl From<VarintError> for RecordFault {
    fn from(e: VarintError) -> RecordFault {
        match e {
            VarintError::Cut => RecordFault::Cut,
            VarintError::TooLong => RecordFault::VarintTooLong,
        }
    }
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset in the partition, wrapping where the batch lies.
    pub offset: i64,
    /// Ms since the epoch: the producer's time, or the time of the append where the batch says so.
    pub timestamp: i64,
    /// Offset minus the base offset of the batch.
    pub offset_delta: i32,
    /// The producer's timestamp minus the base timestamp of the batch, in ms.
    pub timestamp_delta: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null: a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers. Their structure has been checked.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key. It should be UTF-8; brokers do not check.
    pub key: &'a [u8],
    /// The value, or null.
    pub value: Option<&'a [u8]>,
}

/// The records of a batch. The first one that breaks the format ends the iteration with its error; bytes behind the last
/// record are such an error too.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    next_index: i32,
    count: i32,
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    /// Set where it is the timestamp of every record.
    append_time: Option<i64>,
    done: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(batch: &BatchView<'_>, body: &'a [u8]) -> Records<'a> {
        let log_append_time = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
        Records {
            rest: body,
            next_index: 0,
            count: batch.record_count(),
            base_offset: batch.base_offset(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp: batch.base_timestamp(),
            append_time: log_append_time.then(|| batch.max_timestamp()),
            done: false,
        }
    }

    /// Checks the structure of the records that are left: see [`BatchView::validate_records`].
    pub fn validate(self) -> Result<(), RecordError> {
        let mut rest = self.rest;
        let mut previous = -1;
        for index in self.next_index..self.count {
            let delta = match Fields::read(&mut rest) {
                Ok(fields) => fields.offset_delta,
                Err(fault) => return Err(RecordError { index, fault }),
            };
            if delta <= previous || delta > self.last_offset_delta {
                return Err(RecordError { index, fault: RecordFault::OffsetDelta(delta) });
            }
            previous = delta;
        }
        match rest.len() {
            0 => Ok(()),
            bytes => Err(RecordError { index: self.count, fault: RecordFault::TrailingBytes { bytes } }),
        }
    }

    fn read(&mut self) -> Result<Record<'a>, RecordFault> {
        let fields = Fields::read(&mut self.rest)?;
        Ok(Record {
            offset: self.base_offset.wrapping_add(i64::from(fields.offset_delta)),
            timestamp: self.append_time.unwrap_or(self.base_timestamp.wrapping_add(fields.timestamp_delta)),
            offset_delta: fields.offset_delta,
            timestamp_delta: fields.timestamp_delta,
            key: fields.key,
            value: fields.value,
            headers: fields.headers,
        })
    }
}

/// A record as it is stored.
struct Fields<'a> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Fields<'a> {
    /// Reads one record and moves `rest` behind it. Inlined, so that validation pays only for what it looks at.
    #[inline(always)]
    fn read(rest: &mut &'a [u8]) -> Result<Fields<'a>, RecordFault> {
        let length = varint::read_i32(rest)?;
        let (mut record, behind) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(RecordFault::Length(length))?;
        *rest = behind;
        record = record.get(1..).ok_or(RecordFault::Cut)?;
        Ok(Fields {
            timestamp_delta: varint::read_i64(&mut record)?,
            offset_delta: varint::read_i32(&mut record)?,
            key: read_nullable(&mut record)?,
            value: read_nullable(&mut record)?,
            headers: Headers::read(record)?,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let index = self.next_index;
        if index >= self.count {
            self.done = true;
            let bytes = self.rest.len();
            return (bytes > 0).then_some(Err(RecordError { index, fault: RecordFault::TrailingBytes { bytes } }));
        }
        self.next_index += 1;
        let record = self.read();
        self.done = record.is_err();
        Some(record.map_err(|fault| RecordError { index, fault }))
    }
}

/// The headers of a record, whose structure has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Headers<'a> {
    /// The number of headers that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Reads and checks what follows the value of a record up to its end.
    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Headers<'a>, RecordFault> {
        // Most records have none.
        if bytes == [0] { Ok(Headers::default()) } else { Headers::read_some(bytes) }
    }

    #[inline(never)]
    fn read_some(mut bytes: &'a [u8]) -> Result<Headers<'a>, RecordFault> {
        let count = varint::read_i32(&mut bytes)?;
        // Two lengths of a byte each are the smallest header.
        if usize::try_from(count).map_or(true, |count| count > bytes.len() / 2) {
            return Err(RecordFault::HeaderCount(count));
        }
        let headers = Headers { rest: bytes, left: count };
        for _ in 0..count {
            read_header(&mut bytes)?;
        }
        match bytes.len() {
            0 => Ok(headers),
            bytes => Err(RecordFault::RecordTooLong { bytes }),
        }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        read_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

fn read_header<'a>(bytes: &mut &'a [u8]) -> Result<Header<'a>, RecordFault> {
    let key = read_nullable(bytes)?.ok_or(RecordFault::NullHeaderKey)?;
    Ok(Header { key, value: read_nullable(bytes)? })
}

#[inline(always)]
fn read_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    let length = varint::read_i32(bytes)?;
    if length == -1 {
        return Ok(None);
    }
    let (field, rest) = usize::try_from(length)
        .ok()
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or(RecordFault::FieldLength(length))?;
    *bytes = rest;
    Ok(Some(field))
}
