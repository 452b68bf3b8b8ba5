//! Message sets of magic 0 and 1: the records of Produce up to version 2 and of Fetch up to version 3, and their conversion
//! from and to batches of magic 2.
//!
//! Source: the sections "Message sets" and "Old message format" of the Kafka protocol documentation, KIP-31 (relative
//! offsets), KIP-32 (timestamps) and KIP-57 (LZ4). All integers are big-endian.
//!
//! ```text
//! set:      entry | entry | …            the last one may be cut: then it is not there
//! entry:    offset i64 | size i32 | message
//! message:  crc u32 | magic i8 | attributes i8 | timestamp i64 in magic 1 | key i32 and bytes | value i32 and bytes
//!           └ CRC-32 (IEEE) of what follows it        bits 0-2 codec, bit 3 the broker's timestamp     -1: null
//! ```
//! A compressed message is a *wrapper*: its value is a message set of the same magic, its offset that of the last message
//! inside. The offsets inside are absolute in magic 0; in magic 1 they count from any start, and only their distance from
//! the last one says something. With the broker's timestamp the one of the wrapper stands for all of them.
//!
//! LZ4 frames have a wrong header checksum in magic 0. Zstandard does not exist here, nor do headers, producers,
//! transactions and leader epochs. [`to_batch`] and [`from_batch`] convert.

use std::fmt;

use crate::batch::NO_TIMESTAMP;
use crate::compression::{Codec, CompressionError};

mod down;
mod up;

#[cfg(test)]
mod tests;

pub use down::{Down, from_batch};
pub use up::to_batch;

/// Offset and size in front of each message, in bytes.
const ENTRY_LEN: usize = 12;
/// The bytes of an entry up to and with the magic.
const UP_TO_MAGIC: usize = ENTRY_LEN + 5;
/// A message of magic 0 with null key and null value, in bytes; also the smallest size that an entry of any magic has.
const MIN_SIZE_V0: usize = 14;
/// The same of magic 1, which has a timestamp.
const MIN_SIZE_V1: usize = 22;
/// Bits 0 to 2 of the attributes.
const CODEC_MASK: u8 = 0b111;
/// Bit 3 of the attributes, in magic 1.
const LOG_APPEND_TIME: u8 = 1 << 3;

/// Which of the two formats a message set has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Magic {
    /// Kafka 0.8 and 0.9: no timestamps.
    V0 = 0,
    /// Kafka 0.10: timestamps (KIP-32) and relative offsets (KIP-31).
    V1 = 1,
}

impl Magic {
    /// A message with null key and null value, in bytes.
    const fn min_size(self) -> usize {
        match self {
            Magic::V0 => MIN_SIZE_V0,
            Magic::V1 => MIN_SIZE_V1,
        }
    }
}

/// Which rule of the format a message set breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    /// A message is smaller than the smallest, or negative.
    Size(i32),
    /// Neither 0 nor 1.
    Magic(i8),
    /// The CRC over the message is not the one in it.
    Crc,
    /// Key and value do not fill the message as their lengths say.
    Fields,
    /// The messages of one set are of both formats.
    MixedMagic,
    /// A wrapper is not the only message of its set.
    NotAlone,
    /// A wrapper within a wrapper.
    Nested,
    /// A wrapper without messages.
    EmptyWrapper,
    /// A wrapper whose last message is cut.
    CutWrapper,
    /// A timestamp before 1970 other than -1.
    Timestamp(i64),
    /// The codec is not one of the message format.
    Codec(u8),
    /// A wrapper cannot be decompressed, or is too large.
    Compression(CompressionError),
    /// What a conversion gives is longer than its format can say.
    TooLarge,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Size(size) => write!(f, "a message of {size} bytes"),
            SetError::Magic(magic) => write!(f, "a message of magic {magic} in a message set"),
            SetError::Crc => f.write_str("the CRC of a message does not match"),
            SetError::Fields => f.write_str("key and value do not fill their message"),
            SetError::MixedMagic => f.write_str("messages of magic 0 and 1 in one set"),
            SetError::NotAlone => f.write_str("a compressed message beside others"),
            SetError::Nested => f.write_str("a compressed message within a compressed one"),
            SetError::EmptyWrapper => f.write_str("a compressed message without messages in it"),
            SetError::CutWrapper => f.write_str("a compressed message whose content is cut"),
            SetError::Timestamp(timestamp) => write!(f, "the timestamp {timestamp}"),
            SetError::Codec(id) => write!(f, "the message format knows no codec {id}"),
            SetError::Compression(error) => error.fmt(f),
            SetError::TooLarge => f.write_str("the converted records are too large for one batch"),
        }
    }
}

impl std::error::Error for SetError {}

impl From<CompressionError> for SetError {
    fn from(error: CompressionError) -> SetError {
        SetError::Compression(error)
    }
}

/// One message, borrowed from its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldMessage<'a> {
    /// As it stands in the entry.
    pub offset: i64,
    /// The format.
    pub magic: Magic,
    /// How the value is compressed, which makes the message a wrapper.
    pub codec: Codec,
    /// Whether the timestamp is the broker's.
    pub is_stamped: bool,
    /// Ms since the epoch, or [`NO_TIMESTAMP`].
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
}

/// The messages of a set, as they stand there: wrappers are not opened. The CRC of each is checked. The first message that
/// breaks the format ends the iteration with its error; one that is cut ends it silently.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Messages<'a> {
    /// The messages of `set`.
    #[must_use]
    pub fn new(set: &'a [u8]) -> Messages<'a> {
        Messages { rest: set, failed: false }
    }

    /// What follows the messages seen so far.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Result<Option<OldMessage<'a>>, SetError> {
        let Some(head) = self.rest.first_chunk::<UP_TO_MAGIC>() else { return Ok(None) };
        let offset = i64::from_be_bytes(part(head, 0));
        let size = i32::from_be_bytes(part(head, 8));
        let len = usize::try_from(size).ok().filter(|len| *len >= MIN_SIZE_V0).ok_or(SetError::Size(size))?;
        let magic = match head[UP_TO_MAGIC - 1] {
            0 => Magic::V0,
            1 => Magic::V1,
            other => return Err(SetError::Magic(other as i8)),
        };
        let Some(message) = self.rest[ENTRY_LEN..].get(..len) else { return Ok(None) };
        self.rest = &self.rest[ENTRY_LEN + len..];
        if len < magic.min_size() {
            return Err(SetError::Size(size));
        }
        if crc32(&message[4..]) != u32::from_be_bytes(part(head, ENTRY_LEN)) {
            return Err(SetError::Crc);
        }
        let attributes = message[5];
        let codec = match Codec::from_id(attributes & CODEC_MASK) {
            Some(codec) if codec != Codec::Zstd => codec,
            _ => return Err(SetError::Codec(attributes & CODEC_MASK)),
        };
        let mut fields = &message[6..];
        let mut timestamp = NO_TIMESTAMP;
        if magic == Magic::V1 {
            let (bytes, rest) = fields.split_first_chunk().ok_or(SetError::Fields)?;
            timestamp = i64::from_be_bytes(*bytes);
            fields = rest;
        }
        if timestamp < NO_TIMESTAMP {
            return Err(SetError::Timestamp(timestamp));
        }
        let (key, value) = (read_nullable(&mut fields)?, read_nullable(&mut fields)?);
        if !fields.is_empty() {
            return Err(SetError::Fields);
        }
        let is_stamped = magic == Magic::V1 && attributes & LOG_APPEND_TIME != 0;
        Ok(Some(OldMessage { offset, magic, codec, is_stamped, timestamp, key, value }))
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<OldMessage<'a>, SetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read().transpose();
        self.failed = matches!(read, Some(Err(_)));
        read
    }
}

fn read_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, SetError> {
    let (len, rest) = bytes.split_first_chunk().ok_or(SetError::Fields)?;
    let len = i32::from_be_bytes(*len);
    if len == -1 {
        *bytes = rest;
        return Ok(None);
    }
    let (field, rest) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or(SetError::Fields)?;
    *bytes = rest;
    Ok(Some(field))
}

fn part<const N: usize>(head: &[u8; UP_TO_MAGIC], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[at..at + N]);
    bytes
}

/// CRC-32 as message sets carry it (ISO-HDLC: that of zip and Ethernet).
fn crc32(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}
