//! The four codecs of record batches, with a cap on what decompression may put out.
//!
//! | codec | on the wire | read | written |
//! | --- | --- | --- | --- |
//! | gzip | RFC 1952, one or more members | any | one member, level 6 |
//! | snappy | raw Snappy, or the framing of snappy-java (the "xerial" framing) | both | framed, 32 KiB blocks |
//! | lz4 | one LZ4 frame | any but with a dictionary | independent 64 KiB blocks, no content size |
//! | zstd | RFC 8878, one or more frames | any | one frame, level 3 |
//!
//! What is written is what Apache Kafka's own clients write by default, so that every client can read it: the Java client
//! refuses LZ4 frames with linked blocks, for one.
//!
//! Decompression appends to a buffer of the caller and never grows it beyond `cap` bytes over its old length, whatever the
//! input says about its own size. On an error the buffer is cut back to its old length.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

mod lz4;
mod snappy;
mod zstd;

#[cfg(test)]
mod tests;

pub(crate) use lz4::break_header_checksum;
pub use snappy::compress_raw as compress_snappy_raw;

/// How the records of a batch are compressed: the low three bits of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Codec {
    /// Not compressed.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy, raw or in the framing of snappy-java.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// Zstandard (KIP-110): Produce from version 7 and Fetch from version 10 on.
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of the ids.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this id, or `None` for the ids that Kafka has not given away (5 to 7 in a batch).
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Codec> {
        match id {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// The id in the attributes of a batch.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name in Kafka's configuration (`compression.type`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of a codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCodecName;

impl fmt::Display for UnknownCodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not one of none, gzip, snappy, lz4, zstd")
    }
}

impl std::error::Error for UnknownCodecName {}

impl FromStr for Codec {
    type Err = UnknownCodecName;

    fn from_str(name: &str) -> Result<Codec, UnknownCodecName> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name).ok_or(UnknownCodecName)
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompressionError {
    /// The output would be larger than the caller allows.
    TooLarge {
        /// The bytes that the caller allows.
        cap: usize,
    },
    /// The input is not what the codec says, or it is cut short, or a checksum in it does not match.
    Corrupt {
        /// The codec that refused.
        codec: Codec,
        /// What it found.
        detail: String,
    },
    /// Bytes follow the end of the compressed data.
    TrailingBytes {
        /// The codec whose data ended.
        codec: Codec,
        /// How many bytes follow.
        bytes: usize,
    },
    /// The codec could not compress: the input is larger than its format can say, or it found no memory.
    Compress {
        /// The codec that refused.
        codec: Codec,
        /// What it says.
        detail: String,
    },
}

impl CompressionError {
    fn corrupt(codec: Codec, detail: impl fmt::Display) -> CompressionError {
        CompressionError::Corrupt { codec, detail: detail.to_string() }
    }

    fn compress(codec: Codec, detail: impl fmt::Display) -> CompressionError {
        CompressionError::Compress { codec, detail: detail.to_string() }
    }
}

impl fmt::Display for CompressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressionError::TooLarge { cap } => write!(f, "decompressed data is larger than {cap} bytes"),
            CompressionError::Corrupt { codec, detail } => write!(f, "corrupt {codec} data: {detail}"),
            CompressionError::TrailingBytes { codec, bytes } => {
                write!(f, "{bytes} bytes after the end of {codec} data")
            }
            CompressionError::Compress { codec, detail } => write!(f, "cannot compress with {codec}: {detail}"),
        }
    }
}

impl std::error::Error for CompressionError {}

/// Appends what `input` decompresses to, `cap` bytes at most. [`Codec::None`] copies.
///
/// On an error `out` is as long as it was.
pub fn decompress(codec: Codec, input: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let start = out.len();
    let result = match codec {
        Codec::None if input.len() > cap => Err(CompressionError::TooLarge { cap }),
        Codec::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Codec::Gzip => gunzip(input, cap, out),
        Codec::Snappy => snappy::decompress(input, cap, out),
        Codec::Lz4 => lz4::decompress(input, lz4::HeaderChecksum::Checked, cap, out),
        Codec::Zstd => zstd::decompress(input, cap, out),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends what an LZ4 frame of a message of magic 0 decompresses to, `cap` bytes at most. Its writers put a wrong checksum
/// of the header there, which is therefore not looked at (KIP-57).
///
/// On an error `out` is as long as it was.
pub(crate) fn decompress_old_lz4(input: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let start = out.len();
    let result = lz4::decompress(input, lz4::HeaderChecksum::Ignored, cap, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends `input`, compressed at the default level of Kafka's clients. [`Codec::None`] copies.
///
/// On an error `out` is as long as it was.
pub fn compress(codec: Codec, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let start = out.len();
    let result = match codec {
        Codec::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Codec::Gzip => gzip(input, out),
        Codec::Snappy => snappy::compress_framed(input, out),
        Codec::Lz4 => lz4::compress(input, out),
        Codec::Zstd => zstd::compress(input, out),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The first buffer for output of unknown size, and the least by which it grows, in bytes.
const GROWTH_BYTES: usize = 16 << 10;

/// The next size to try for output of unknown size: twice what there is, within the cap.
fn grown(have: usize, cap: usize) -> usize {
    have.saturating_mul(2).max(GROWTH_BYTES).min(cap)
}

/// Lengthens the output, which began at `start` of `out`, by `more` bytes: at most to `cap`, as the caller made sure.
/// Memory grows by doubling, but for that it stays within the cap too.
fn lengthen(out: &mut Vec<u8>, start: usize, more: usize, cap: usize) {
    let len = out.len() + more;
    if out.capacity() < len {
        let room = grown(out.len() - start, cap).max(len - start);
        out.reserve_exact(start + room - out.len());
    }
    out.resize(len, 0);
}

fn gunzip(input: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut decoder = MultiGzDecoder::new(input);
    let start = out.len();
    let mut filled = 0;
    loop {
        let room = grown(filled, cap);
        if room == filled {
            // The cap is used up. The stream may end here, with its checksum; it may not go on.
            let read = decoder.read(&mut [0]).map_err(|e| CompressionError::corrupt(Codec::Gzip, e))?;
            return if read == 0 { Ok(()) } else { Err(CompressionError::TooLarge { cap }) };
        }
        lengthen(out, start, room - filled, cap);
        while filled < room {
            match decoder.read(&mut out[start + filled..]) {
                Ok(0) => {
                    out.truncate(start + filled);
                    return Ok(());
                }
                Ok(read) => filled += read,
                Err(e) => return Err(CompressionError::corrupt(Codec::Gzip, e)),
            }
        }
    }
}

fn gzip(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut encoder = GzEncoder::new(out, flate2::Compression::new(6));
    encoder.write_all(input).and_then(|()| encoder.finish()).map_err(|e| CompressionError::compress(Codec::Gzip, e))?;
    Ok(())
}
