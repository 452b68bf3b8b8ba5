//! Record batches of magic 2: the bytes of Produce requests, of Fetch responses and of log segments alike.
//!
//! Source: KIP-98 and the section "Record Batch" of the Kafka protocol documentation; the delete horizon is KIP-534.
//! All integers are big-endian.
//!
//! ```text
//! at   size
//!  0   8  base offset            offset of the first record; the broker assigns it
//!  8   4  batch length           bytes that follow this field: the size of the batch minus 12
//! 12   4  partition leader epoch the broker assigns it
//! 16   1  magic                  2
//! 17   4  crc                    CRC-32C of everything from the attributes to the end
//! 21   2  attributes             see `Attributes`
//! 23   4  last offset delta      offset of the last record minus the base offset
//! 27   8  base timestamp         ms since the epoch; the delete horizon where attributes say so
//! 35   8  max timestamp          ms since the epoch
//! 43   8  producer id            -1 without
//! 51   2  producer epoch         -1 without
//! 53   4  base sequence          -1 without
//! 57   4  record count
//! 61      records                one after the other, compressed as a whole
//! ```
//! Base offset and leader epoch lie outside the CRC, so that a broker stores a batch as it arrived but for these two.
//! [`BatchView`] reads one batch in place. It checks sizes and magic; the CRC, the counts and the records are checked by
//! the methods that say so, since not every reader needs them. Nothing here allocates but [`BatchBuilder`] and
//! decompression.

use std::fmt;

use crate::compression::{self, Codec, CompressionError};

mod builder;
mod control;
mod records;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, BatchHeader, BuildError, NewRecord, write_record};
pub use control::{ControlError, ControlRecord, EndTransaction, write_end_transaction};
pub use records::{Header, Headers, Record, RecordError, RecordFault, Records};

/// Positions of the fields of the header, in bytes from the start of the batch.
pub mod layout {
    /// `i64`
    pub const BASE_OFFSET: usize = 0;
    /// `i32`: the bytes that follow this field
    pub const BATCH_LENGTH: usize = 8;
    /// `i32`
    pub const LEADER_EPOCH: usize = 12;
    /// `i8`
    pub const MAGIC: usize = 16;
    /// `u32`
    pub const CRC: usize = 17;
    /// `i16`; the CRC covers everything from here on
    pub const ATTRIBUTES: usize = 21;
    /// `i32`
    pub const LAST_OFFSET_DELTA: usize = 23;
    /// `i64`, ms
    pub const BASE_TIMESTAMP: usize = 27;
    /// `i64`, ms
    pub const MAX_TIMESTAMP: usize = 35;
    /// `i64`
    pub const PRODUCER_ID: usize = 43;
    /// `i16`
    pub const PRODUCER_EPOCH: usize = 51;
    /// `i32`
    pub const BASE_SEQUENCE: usize = 53;
    /// `i32`
    pub const RECORD_COUNT: usize = 57;
    /// The records; also the size of the header
    pub const RECORDS: usize = 61;
}

/// Size of the header: the smallest batch, in bytes.
pub const HEADER_LEN: usize = layout::RECORDS;
/// What the batch length does not count: the base offset and itself, in bytes.
pub const LENGTH_OVERHEAD: usize = layout::LEADER_EPOCH;
/// The smallest batch length that the format allows.
pub const MIN_BATCH_LENGTH: i32 = (HEADER_LEN - LENGTH_OVERHEAD) as i32;
/// The only magic that is read here. Message sets of magic 0 and 1 have another layout.
pub const MAGIC: i8 = 2;
/// Producer id of a batch without one.
pub const NO_PRODUCER_ID: i64 = -1;
/// Producer epoch of a batch without a producer id.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// Base sequence of a batch without a producer id, and of control batches.
pub const NO_SEQUENCE: i32 = -1;
/// Leader epoch of a batch that no broker has stored.
pub const NO_LEADER_EPOCH: i32 = -1;
/// Timestamp of a record without one.
pub const NO_TIMESTAMP: i64 = -1;

/// CRC-32C (Castagnoli) as batches carry it.
///
/// Measured on two cores of an AMD EPYC with AVX-512 and VPCLMULQDQ, crates `crc-fast` 1.10 and `crc32c` 0.6.9, in ns:
///
/// | bytes | 100 | 149 | 170 | 256 | 1 Ki | 16 Ki | 64 Ki | 1 Mi |
/// | --- | --- | --- | --- | --- | --- | --- | --- | --- |
/// | crc-fast | 7.0 | 11.6 | 11.5 | 15.7 | 35 | 296 | 1,127 | 17,796 (59 GB/s) |
/// | crc32c | 11.6 | 15.7 | 15.7 | 22.2 | 56 | 708 | 2,480 | 36,965 (28 GB/s) |
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// What the timestamps of a batch mean: bit 3 of the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's time of each record.
    CreateTime,
    /// The broker's time of the append: the max timestamp of the batch is the timestamp of every record.
    LogAppendTime,
}

/// The attributes of a batch: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC_MASK: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec, or `None` for an id that Kafka has not given away.
    #[must_use]
    pub const fn codec(self) -> Option<Codec> {
        Codec::from_id((self.0 & Attributes::CODEC_MASK) as u8)
    }

    /// The meaning of the timestamps.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.has(Attributes::LOG_APPEND_TIME) { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    /// Whether the records belong to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.has(Attributes::TRANSACTIONAL)
    }

    /// Whether the one record is a control record, such as the end of a transaction.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.has(Attributes::CONTROL)
    }

    /// Whether the base timestamp is the delete horizon that the log cleaner has set (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.has(Attributes::DELETE_HORIZON)
    }

    /// The same with this codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Attributes {
        Attributes(self.0 & !Attributes::CODEC_MASK | codec.id() as i16)
    }

    /// The same with this meaning of the timestamps.
    #[must_use]
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Attributes {
        self.with(Attributes::LOG_APPEND_TIME, matches!(kind, TimestampType::LogAppendTime))
    }

    /// The same, in a transaction or not.
    #[must_use]
    pub const fn with_transactional(self, on: bool) -> Attributes {
        self.with(Attributes::TRANSACTIONAL, on)
    }

    /// The same, a control batch or not.
    #[must_use]
    pub const fn with_control(self, on: bool) -> Attributes {
        self.with(Attributes::CONTROL, on)
    }

    /// The same, with the base timestamp said to be a delete horizon or not.
    #[must_use]
    pub const fn with_delete_horizon(self, on: bool) -> Attributes {
        self.with(Attributes::DELETE_HORIZON, on)
    }

    const fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }

    const fn with(self, bit: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// Which rule of the format a batch breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than a header has: the rest is missing, or this is no batch.
    HeaderCut {
        /// The bytes there are.
        have: usize,
    },
    /// Another magic: 0 and 1 are older formats, everything else is no batch.
    Magic(i8),
    /// The batch length is less than the header's own, or negative.
    Length(i32),
    /// The batch goes on beyond the bytes given.
    Cut {
        /// The size of the whole batch, in bytes.
        total: usize,
        /// The bytes there are.
        have: usize,
    },
    /// The CRC over the bytes is not the one in the header.
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The codec id is not one that Kafka has given away.
    UnknownCodec(u8),
    /// There is no record, or a negative number of them.
    RecordCount(i32),
    /// The last offset delta is negative.
    LastOffsetDelta(i32),
    /// The record count and the last offset delta do not agree: a new batch has no gaps.
    CountMismatch {
        /// The records.
        count: i32,
        /// The last offset delta, which is one less in a batch without gaps.
        last_offset_delta: i32,
    },
    /// The last offset is beyond what an offset can be.
    OffsetOverflow,
    /// The records are compressed, where the caller needs them uncompressed.
    Compressed(Codec),
    /// The records cannot be decompressed, or are too large.
    Compression(CompressionError),
    /// A record breaks the format.
    Record(RecordError),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::HeaderCut { have } => write!(f, "batch header cut: {have} of {HEADER_LEN} bytes"),
            BatchError::Magic(magic) => write!(f, "batch magic {magic}, not {MAGIC}"),
            BatchError::Length(length) => write!(f, "batch length {length}, below {MIN_BATCH_LENGTH}"),
            BatchError::Cut { total, have } => write!(f, "batch cut: {have} of {total} bytes"),
            BatchError::Crc { stored, computed } => {
                write!(f, "batch CRC {stored:#010x} in the header, {computed:#010x} over the bytes")
            }
            BatchError::UnknownCodec(id) => write!(f, "unknown codec {id}"),
            BatchError::RecordCount(count) => write!(f, "record count {count}"),
            BatchError::LastOffsetDelta(delta) => write!(f, "last offset delta {delta}"),
            BatchError::CountMismatch { count, last_offset_delta } => {
                write!(f, "{count} records, but a last offset delta of {last_offset_delta}")
            }
            BatchError::OffsetOverflow => f.write_str("the last offset is beyond 2^63 - 1"),
            BatchError::Compressed(codec) => write!(f, "the records are compressed with {codec}"),
            BatchError::Compression(e) => e.fmt(f),
            BatchError::Record(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BatchError::Compression(e) => Some(e),
            BatchError::Record(e) => Some(e),
            _ => None,
        }
    }
}

impl From<CompressionError> for BatchError {
    fn from(e: CompressionError) -> BatchError {
        BatchError::Compression(e)
    }
}

impl From<RecordError> for BatchError {
    fn from(e: RecordError) -> BatchError {
        BatchError::Record(e)
    }
}

/// One batch, read in place. It has at least a header, its magic is 2 and its length agrees with its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchView<'a> {
    header: &'a [u8; HEADER_LEN],
    /// The whole batch, header included, and nothing behind it.
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Reads the batch at the start of `bytes`. More bytes may follow it: see [`BatchView::total_len`].
    ///
    /// The magic is looked at first, as far as it is there, so that an older format is told from a cut batch.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        if let Some(&magic) = bytes.get(layout::MAGIC)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(BatchError::HeaderCut { have: bytes.len() })?;
        let length = i32::from_be_bytes(field(header, layout::BATCH_LENGTH));
        if length < MIN_BATCH_LENGTH {
            return Err(BatchError::Length(length));
        }
        let total = length as usize + LENGTH_OVERHEAD;
        let bytes = bytes.get(..total).ok_or(BatchError::Cut { total, have: bytes.len() })?;
        Ok(BatchView { header, bytes })
    }

    /// The whole batch, header included.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The size of the whole batch, header included, in bytes.
    #[inline]
    #[must_use]
    pub fn total_len(&self) -> usize {
        self.bytes.len()
    }

    /// The records as they are stored, perhaps compressed.
    #[inline]
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Offset of the first record.
    #[inline]
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(field(self.header, layout::BASE_OFFSET))
    }

    /// Offset of the last record, wrapping where the header lies: see [`BatchView::validate_counts`].
    #[inline]
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset().wrapping_add(i64::from(self.last_offset_delta()))
    }

    /// Epoch of the leader that stored the batch.
    #[inline]
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(field(self.header, layout::LEADER_EPOCH))
    }

    /// The CRC that the header carries.
    #[inline]
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(field(self.header, layout::CRC))
    }

    /// Codec, timestamp type and flags.
    #[inline]
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes(i16::from_be_bytes(field(self.header, layout::ATTRIBUTES)))
    }

    /// The codec of the records; an error for an id that Kafka has not given away.
    #[inline]
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let attributes = self.attributes();
        attributes.codec().ok_or(BatchError::UnknownCodec((attributes.0 & Attributes::CODEC_MASK) as u8))
    }

    /// Offset of the last record minus the base offset. Compaction keeps it when it removes the last record.
    #[inline]
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(self.header, layout::LAST_OFFSET_DELTA))
    }

    /// What the timestamp deltas of the records count from, in ms since the epoch.
    #[inline]
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(self.header, layout::BASE_TIMESTAMP))
    }

    /// When tombstones and markers of this batch may go, in ms since the epoch, once the cleaner has set it.
    #[inline]
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes().has_delete_horizon().then(|| self.base_timestamp())
    }

    /// The latest timestamp of the records, or the time of the append, in ms since the epoch.
    #[inline]
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(self.header, layout::MAX_TIMESTAMP))
    }

    /// The idempotent producer, or [`NO_PRODUCER_ID`].
    #[inline]
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(field(self.header, layout::PRODUCER_ID))
    }

    /// The producer's epoch, or [`NO_PRODUCER_EPOCH`].
    #[inline]
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(field(self.header, layout::PRODUCER_EPOCH))
    }

    /// The producer's sequence of the first record, or [`NO_SEQUENCE`].
    #[inline]
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(field(self.header, layout::BASE_SEQUENCE))
    }

    /// The producer's sequence of the last record. Sequences go on at 0 after 2^31 - 1.
    #[inline]
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        let first = self.base_sequence();
        if first == NO_SEQUENCE { first } else { first.wrapping_add(self.last_offset_delta()) & i32::MAX }
    }

    /// The number of records.
    #[inline]
    #[must_use]
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(field(self.header, layout::RECORD_COUNT))
    }

    /// The fields of the header that a writer chooses, to build another batch with some of them changed.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        BatchHeader {
            base_offset: self.base_offset(),
            leader_epoch: self.leader_epoch(),
            attributes: self.attributes(),
            last_offset_delta: self.last_offset_delta(),
            base_timestamp: self.base_timestamp(),
            max_timestamp: self.max_timestamp(),
            producer_id: self.producer_id(),
            producer_epoch: self.producer_epoch(),
            base_sequence: self.base_sequence(),
            record_count: self.record_count(),
        }
    }

    /// The CRC-32C over the bytes that it covers.
    #[inline]
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        crc32c(&self.bytes[layout::ATTRIBUTES..])
    }

    /// Whether the CRC of the header is that of the bytes.
    #[inline]
    #[must_use]
    pub fn crc_matches(&self) -> bool {
        self.crc() == self.computed_crc()
    }

    /// Checks what the header of a new batch says of its records: a known codec, at least one record, offsets without gaps
    /// that fit behind the base offset. A stored batch may have gaps (compaction makes them), so this is for produce only.
    #[inline]
    pub fn validate_counts(&self) -> Result<(), BatchError> {
        self.codec()?;
        let (count, last_offset_delta) = (self.record_count(), self.last_offset_delta());
        if count < 1 {
            return Err(BatchError::RecordCount(count));
        }
        if last_offset_delta < 0 {
            return Err(BatchError::LastOffsetDelta(last_offset_delta));
        }
        if last_offset_delta != count - 1 {
            return Err(BatchError::CountMismatch { count, last_offset_delta });
        }
        if self.base_offset().checked_add(i64::from(last_offset_delta)).is_none() {
            return Err(BatchError::OffsetOverflow);
        }
        Ok(())
    }

    /// The records of an uncompressed batch.
    #[inline]
    pub fn records(&self) -> Result<Records<'a>, BatchError> {
        match self.codec()? {
            Codec::None => Ok(self.records_in(self.body())),
            codec => Err(BatchError::Compressed(codec)),
        }
    }

    /// The records of this batch in `body`, which is what [`BatchView::decompress`] gave.
    #[inline]
    #[must_use]
    pub fn records_in<'b>(&self, body: &'b [u8]) -> Records<'b> {
        Records::new(self, body)
    }

    /// The uncompressed records: those of the batch itself, or decompressed into `scratch`, which is overwritten and never
    /// grows beyond `cap` bytes.
    pub fn decompress<'s>(&self, cap: usize, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], BatchError>
    where
        'a: 's,
    {
        match self.codec()? {
            Codec::None => Ok(self.body()),
            codec => {
                scratch.clear();
                compression::decompress(codec, self.body(), cap, scratch)?;
                Ok(scratch)
            }
        }
    }

    /// Walks the records of an uncompressed batch and checks their structure: every length within its bounds, as many
    /// records as the header says and nothing behind them, offset deltas that rise and end within the last offset delta.
    /// Keys, values and headers are not looked into.
    pub fn validate_records(&self) -> Result<(), BatchError> {
        Ok(self.records()?.validate()?)
    }
}

impl fmt::Debug for BatchView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchView")
            .field("total_len", &self.total_len())
            .field("crc", &format_args!("{:#010x}", self.crc()))
            .field("header", &self.header())
            .finish()
    }
}

/// The batches of a buffer, one after the other.
///
/// The first batch that breaks the format ends the iteration with its error. The bytes of a Fetch response may end within
/// a batch: [`BatchError::HeaderCut`] or [`BatchError::Cut`] is then the end and no fault.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Batches<'a> {
    /// The batches of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { rest: bytes, failed: false }
    }

    /// What follows the batches seen so far; after an error the bytes that broke the format.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::parse(self.rest);
        match &batch {
            Ok(batch) => self.rest = &self.rest[batch.total_len()..],
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}

/// Writes the two fields that a broker assigns into a stored copy. They lie outside the CRC.
///
/// # Panics
/// If `bytes` does not hold a whole header: only what [`BatchView::parse`] took may be stored.
#[inline]
pub fn assign(bytes: &mut [u8], base_offset: i64, leader_epoch: i32) {
    let header = header_mut(bytes);
    put(header, layout::BASE_OFFSET, base_offset.to_be_bytes());
    put(header, layout::LEADER_EPOCH, leader_epoch.to_be_bytes());
}

/// Turns a stored copy into one of LogAppendTime: sets the attribute and the max timestamp (`append_time_ms` since the
/// epoch) and computes the CRC anew, as KIP-32 demands.
///
/// # Panics
/// If `bytes` is not one whole batch, as [`BatchView::bytes`] gives it.
pub fn set_log_append_time(bytes: &mut [u8], append_time_ms: i64) {
    let header = header_mut(bytes);
    let attributes = Attributes(i16::from_be_bytes(field(header, layout::ATTRIBUTES)));
    let attributes = attributes.with_timestamp_type(TimestampType::LogAppendTime);
    put(header, layout::ATTRIBUTES, attributes.0.to_be_bytes());
    put(header, layout::MAX_TIMESTAMP, append_time_ms.to_be_bytes());
    let crc = crc32c(&bytes[layout::ATTRIBUTES..]);
    put(header_mut(bytes), layout::CRC, crc.to_be_bytes());
}

#[inline]
fn header_mut(bytes: &mut [u8]) -> &mut [u8; HEADER_LEN] {
    bytes.first_chunk_mut().expect("a stored batch has a whole header")
}

/// The bytes of the field at a constant position. Inlined, so that no check of bounds is left.
#[inline(always)]
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

#[inline(always)]
fn put<const N: usize>(header: &mut [u8; HEADER_LEN], at: usize, value: [u8; N]) {
    header[at..at + N].copy_from_slice(&value);
}
