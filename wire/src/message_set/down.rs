//! From a batch to messages: what a broker does with its records for an old consumer.

use super::{CODEC_MASK, ENTRY_LEN, LOG_APPEND_TIME, Magic, crc32};
use crate::batch::{BatchError, BatchView, NO_TIMESTAMP, Record, TimestampType};
use crate::compression::{self, Codec};
use crate::put;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// It is in the set. A control batch leaves no trace there.
    Whole,
    /// It is not, or not all of it, for lack of room: nothing behind it may be appended.
    Full,
}

/// Appends the records of a batch to a message set: one message each, or one wrapper where the batch is compressed.
///
/// Records before `from_offset` are left out where single messages are written. A wrapper has all of them, and its readers
/// leave out the first ones. Headers, producers and transactions are lost, control batches left out. `room` is how long `out`
/// may become; the first record or wrapper of the set comes whatever its size, so that a reader makes progress. `cap` bounds
/// what the batch may decompress to and what its messages may have together, in bytes.
///
/// An error leaves `out` as it was. [`BatchError::UnknownCodec`] stands for Zstandard too, which has no place in a message.
pub fn from_batch(
    batch: &BatchView<'_>,
    magic: Magic,
    from_offset: i64,
    room: usize,
    cap: usize,
    out: &mut Vec<u8>,
) -> Result<Down, BatchError> {
    if batch.attributes().is_control() {
        return Ok(Down::Whole);
    }
    let start = out.len();
    let codec = batch.codec()?;
    let result = match codec {
        Codec::None => write_each(batch, magic, from_offset, room, out),
        Codec::Zstd => Err(BatchError::UnknownCodec(Codec::Zstd.id())),
        codec => write_wrapper(batch, codec, magic, room, cap, out),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn write_each(
    batch: &BatchView<'_>,
    magic: Magic,
    from_offset: i64,
    room: usize,
    out: &mut Vec<u8>,
) -> Result<Down, BatchError> {
    let is_stamped = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
    for record in batch.records()? {
        let record = record?;
        if record.offset < from_offset {
            continue;
        }
        if !out.is_empty() && out.len() + message_len(magic, &record) > room {
            return Ok(Down::Full);
        }
        write_record(magic, record.offset, is_stamped, &record, out);
    }
    Ok(Down::Whole)
}

fn write_wrapper(
    batch: &BatchView<'_>,
    codec: Codec,
    magic: Magic,
    room: usize,
    cap: usize,
    out: &mut Vec<u8>,
) -> Result<Down, BatchError> {
    let is_stamped = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
    let mut body = Vec::new();
    let body = batch.decompress(cap, &mut body)?;
    let too_large = || BatchError::Compression(compression::CompressionError::TooLarge { cap });
    let mut inner = Vec::new();
    let mut ends: Option<(i64, i64)> = None;
    let mut latest = NO_TIMESTAMP;
    for record in batch.records_in(body) {
        let record = record?;
        let (first, _) = *ends.get_or_insert((record.offset, record.offset));
        ends = Some((first, record.offset));
        latest = latest.max(record.timestamp);
        let offset = match magic {
            Magic::V0 => record.offset,
            Magic::V1 => record.offset.wrapping_sub(first),
        };
        if inner.len() + message_len(magic, &record) > cap {
            return Err(too_large());
        }
        write_record(magic, offset, is_stamped, &record, &mut inner);
    }
    let Some((_, last)) = ends else { return Ok(Down::Whole) };
    let mut packed = Vec::new();
    compression::compress(codec, &inner, &mut packed)?;
    if magic == Magic::V0 && codec == Codec::Lz4 {
        compression::break_header_checksum(&mut packed);
    }
    let len = ENTRY_LEN + magic.min_size() + packed.len();
    if !out.is_empty() && out.len() + len > room {
        return Ok(Down::Full);
    }
    write_message(magic, last, attributes(magic, codec, is_stamped), latest, None, Some(&packed), out);
    Ok(Down::Whole)
}

fn message_len(magic: Magic, record: &Record<'_>) -> usize {
    let bytes = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
    ENTRY_LEN + magic.min_size() + bytes(record.key) + bytes(record.value)
}

fn attributes(magic: Magic, codec: Codec, is_stamped: bool) -> u8 {
    let stamp = if is_stamped && magic == Magic::V1 { LOG_APPEND_TIME } else { 0 };
    codec.id() & CODEC_MASK | stamp
}

fn write_record(magic: Magic, offset: i64, is_stamped: bool, record: &Record<'_>, out: &mut Vec<u8>) {
    let attributes = attributes(magic, Codec::None, is_stamped);
    write_message(magic, offset, attributes, record.timestamp, record.key, record.value, out);
}

/// Appends one entry. Its size fits: a message has at most the key and value of a record, whose batch is shorter than 2^31
/// bytes with a header that is longer than that of a message, or a wrapper's content, which is capped.
fn write_message(
    magic: Magic,
    offset: i64,
    attributes: u8,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let bytes = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
    put::i64(out, offset);
    put::i32(out, (magic.min_size() + bytes(key) + bytes(value)) as i32);
    let crc_at = out.len();
    put::i32(out, 0);
    put::i8(out, magic as i8);
    out.push(attributes);
    if magic == Magic::V1 {
        // Batches may hold any number; messages have no other than -1 before 1970.
        put::i64(out, timestamp.max(NO_TIMESTAMP));
    }
    write_nullable(out, key);
    write_nullable(out, value);
    let crc = crc32(&out[crc_at + 4..]);
    out[crc_at..crc_at + 4].copy_from_slice(&crc.to_be_bytes());
}

fn write_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put::i32(out, -1),
        Some(bytes) => {
            put::i32(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}
