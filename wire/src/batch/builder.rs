//! Writing batches: records into a body, a header in front of it.

use std::fmt;

use super::varint;
use super::{
    Attributes, HEADER_LEN, Header, LENGTH_OVERHEAD, MAGIC, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    NO_SEQUENCE, NO_TIMESTAMP, TimestampType, crc32c, layout,
};
use crate::compression::{self, Codec, CompressionError};

/// Why a batch cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildError {
    /// A record, or a field of it, is longer than the format can say (2^31 - 1 bytes).
    RecordTooLarge,
    /// The batch is longer than the format can say (2^31 - 1 bytes).
    BatchTooLarge,
    /// There are more records than the format can say (2^31 - 1).
    TooManyRecords,
    /// There is no record.
    Empty,
    /// The codec refused.
    Compression(CompressionError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::RecordTooLarge => f.write_str("a record of more than 2^31 - 1 bytes"),
            BuildError::BatchTooLarge => f.write_str("a batch of more than 2^31 - 1 bytes"),
            BuildError::TooManyRecords => f.write_str("more than 2^31 - 1 records"),
            BuildError::Empty => f.write_str("a batch without records"),
            BuildError::Compression(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::Compression(e) => Some(e),
            _ => None,
        }
    }
}

impl From<CompressionError> for BuildError {
    fn from(e: CompressionError) -> BuildError {
        BuildError::Compression(e)
    }
}

/// The fields of a batch's header that a writer chooses. Magic, length and CRC follow from the body.
///
/// The default is what a producer sends: base offset 0, no leader epoch, no producer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Epoch of the leader, or [`NO_LEADER_EPOCH`].
    pub leader_epoch: i32,
    /// Codec, timestamp type and flags.
    pub attributes: Attributes,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// What the timestamp deltas count from, in ms since the epoch.
    pub base_timestamp: i64,
    /// The latest timestamp, in ms since the epoch.
    pub max_timestamp: i64,
    /// The producer, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// Its epoch, or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// Its sequence of the first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// The number of records.
    pub record_count: i32,
}

impl Default for BatchHeader {
    fn default() -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            leader_epoch: NO_LEADER_EPOCH,
            attributes: Attributes::default(),
            last_offset_delta: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            record_count: 0,
        }
    }
}

impl BatchHeader {
    /// Appends a batch of this header and `body`, whose records are compressed as the attributes say.
    pub fn write(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.write_with(out, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
    }

    /// Appends a batch whose body `write_body` appends.
    fn write_with(
        &self,
        out: &mut Vec<u8>,
        write_body: impl FnOnce(&mut Vec<u8>) -> Result<(), CompressionError>,
    ) -> Result<(), BuildError> {
        let start = out.len();
        out.extend_from_slice(&self.bytes());
        let length = write_body(out)
            .map_err(BuildError::Compression)
            .and_then(|()| i32::try_from(out.len() - start - LENGTH_OVERHEAD).map_err(|_| BuildError::BatchTooLarge));
        let length = match length {
            Ok(length) => length,
            Err(e) => {
                out.truncate(start);
                return Err(e);
            }
        };
        let batch = &mut out[start..];
        batch[layout::BATCH_LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c(&batch[layout::ATTRIBUTES..]);
        batch[layout::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }

    /// The header with length and CRC still zero.
    fn bytes(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let mut put = |at: usize, value: &[u8]| header[at..at + value.len()].copy_from_slice(value);
        put(layout::BASE_OFFSET, &self.base_offset.to_be_bytes());
        put(layout::LEADER_EPOCH, &self.leader_epoch.to_be_bytes());
        put(layout::MAGIC, &MAGIC.to_be_bytes());
        put(layout::ATTRIBUTES, &self.attributes.0.to_be_bytes());
        put(layout::LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(layout::BASE_TIMESTAMP, &self.base_timestamp.to_be_bytes());
        put(layout::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(layout::PRODUCER_ID, &self.producer_id.to_be_bytes());
        put(layout::PRODUCER_EPOCH, &self.producer_epoch.to_be_bytes());
        put(layout::BASE_SEQUENCE, &self.base_sequence.to_be_bytes());
        put(layout::RECORD_COUNT, &self.record_count.to_be_bytes());
        header
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Ms since the epoch, or [`NO_TIMESTAMP`].
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header<'a>],
}

impl Default for NewRecord<'_> {
    fn default() -> Self {
        NewRecord { timestamp: NO_TIMESTAMP, key: None, value: None, headers: &[] }
    }
}

/// Appends one uncompressed record to a body, for batches whose offsets have gaps; [`BatchBuilder`] writes all others.
/// The deltas count from the base offset and base timestamp (ms) of the batch; the timestamp of `record` is not used.
pub fn write_record(
    out: &mut Vec<u8>,
    offset_delta: i32,
    timestamp_delta: i64,
    record: &NewRecord<'_>,
) -> Result<(), BuildError> {
    let header_count = i32::try_from(record.headers.len()).map_err(|_| BuildError::RecordTooLarge)?;
    let mut len = 1 + varint::len_i64(timestamp_delta) + varint::len_i32(offset_delta) + varint::len_i32(header_count);
    len += nullable_len(record.key)? + nullable_len(record.value)?;
    for header in record.headers {
        len += nullable_len(Some(header.key))? + nullable_len(header.value)?;
    }
    varint::write_i32(out, i32::try_from(len).map_err(|_| BuildError::RecordTooLarge)?);
    out.push(0);
    varint::write_i64(out, timestamp_delta);
    varint::write_i32(out, offset_delta);
    write_nullable(out, record.key);
    write_nullable(out, record.value);
    varint::write_i32(out, header_count);
    for header in record.headers {
        write_nullable(out, Some(header.key));
        write_nullable(out, header.value);
    }
    Ok(())
}

fn nullable_len(field: Option<&[u8]>) -> Result<usize, BuildError> {
    match field {
        None => Ok(varint::len_i32(-1)),
        Some(bytes) => {
            let len = i32::try_from(bytes.len()).map_err(|_| BuildError::RecordTooLarge)?;
            Ok(varint::len_i32(len) + bytes.len())
        }
    }
}

/// Writes what [`nullable_len`] has found to fit.
fn write_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::write_i32(out, -1),
        Some(bytes) => {
            varint::write_i32(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

/// Gathers records and writes them as a batch: offsets without gaps, the base timestamp that of the first record.
///
/// One builder serves many batches, so that a steady producer allocates nothing: [`BatchBuilder::clear`] forgets the
/// records and keeps everything else.
#[derive(Debug, Clone, Default)]
pub struct BatchBuilder {
    header: BatchHeader,
    append_time: Option<i64>,
    codec: Codec,
    body: Vec<u8>,
}

impl BatchBuilder {
    /// A builder of batches from no particular producer, compressed with `codec`.
    #[must_use]
    pub fn new(codec: Codec) -> BatchBuilder {
        let header = BatchHeader { attributes: Attributes::default().with_codec(codec), ..BatchHeader::default() };
        BatchBuilder { header, codec, ..BatchBuilder::default() }
    }

    /// Sets the idempotent producer, and its sequence of the first record.
    pub fn producer(&mut self, id: i64, epoch: i16, base_sequence: i32) -> &mut BatchBuilder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Sets whether the records belong to a transaction.
    pub fn transactional(&mut self, on: bool) -> &mut BatchBuilder {
        self.header.attributes = self.header.attributes.with_transactional(on);
        self
    }

    /// Sets whether the batch is a control batch.
    pub fn control(&mut self, on: bool) -> &mut BatchBuilder {
        self.header.attributes = self.header.attributes.with_control(on);
        self
    }

    /// Sets what a broker assigns: the offset of the first record and the leader epoch.
    pub fn assigned(&mut self, base_offset: i64, leader_epoch: i32) -> &mut BatchBuilder {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
        self
    }

    /// Sets the time of the append (ms since the epoch) that stands for every timestamp, or `None` for the records' own.
    pub fn log_append_time(&mut self, append_time_ms: Option<i64>) -> &mut BatchBuilder {
        let kind = if append_time_ms.is_some() { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        self.header.attributes = self.header.attributes.with_timestamp_type(kind);
        self.append_time = append_time_ms;
        self
    }

    /// Adds a record.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), BuildError> {
        let index = self.header.record_count;
        let count = index.checked_add(1).ok_or(BuildError::TooManyRecords)?;
        let base_timestamp = if index == 0 { record.timestamp } else { self.header.base_timestamp };
        write_record(&mut self.body, index, record.timestamp.wrapping_sub(base_timestamp), record)?;
        self.header.base_timestamp = base_timestamp;
        self.header.max_timestamp =
            if index == 0 { record.timestamp } else { self.header.max_timestamp.max(record.timestamp) };
        self.header.record_count = count;
        self.header.last_offset_delta = index;
        Ok(())
    }

    /// The number of records so far.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.header.record_count as usize
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// The size of the batch so far, in bytes, if it is not compressed.
    #[must_use]
    pub fn uncompressed_len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// Appends the batch to `out`. The records stay: see [`BatchBuilder::clear`]. On an error `out` is as long as it was.
    pub fn finish(&self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let mut header = self.header;
        if let Some(append_time) = self.append_time {
            header.max_timestamp = append_time;
        }
        header.write_with(out, |out| compression::compress(self.codec, &self.body, out))
    }

    /// Forgets the records, and keeps the settings and the memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.header.record_count = 0;
        self.header.last_offset_delta = 0;
        self.header.base_timestamp = NO_TIMESTAMP;
        self.header.max_timestamp = NO_TIMESTAMP;
    }
}
