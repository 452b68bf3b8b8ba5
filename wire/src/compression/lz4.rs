//! The LZ4 frame format, version 1.6.4 (`lz4_Frame_format.md` of the LZ4 project).
//!
//! ```text
//! magic 04 22 4D 18 | FLG | BD | content size, 8 bytes if FLG bit 3 | header checksum
//! blocks: length, 4 bytes little-endian, bit 31: stored as it is | data | checksum, 4 bytes if FLG bit 4
//! end mark: 4 zero bytes | content checksum, 4 bytes if FLG bit 2
//! ```
//! Frames are read here and not by `lz4_flex::frame`, because that keeps buffers as large as the header asks for (16 MiB)
//! besides the output, and takes a frame without an end mark for a whole one.

use std::io::Write;

use lz4_flex::block;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{Codec, CompressionError, lengthen};

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// How far back a linked block may refer, in bytes.
const WINDOW_BYTES: usize = 64 << 10;
const STORED: u32 = 1 << 31;

/// What is done about the checksum of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderChecksum {
    Checked,
    Ignored,
}

pub(super) fn decompress(
    input: &[u8],
    checksum: HeaderChecksum,
    cap: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let mut input = Input(input);
    let frame = read_header(&mut input, checksum)?;
    let start = out.len();
    loop {
        let word = input.u32_le("a block length is cut short")?;
        if word == 0 {
            break;
        }
        let len = (word & !STORED) as usize;
        if len > frame.block_bytes {
            return Err(corrupt("a block is larger than the frame allows"));
        }
        let data = input.take(len, "a block is cut short")?;
        if frame.block_checksums && input.u32_le("a block checksum is cut short")? != XxHash32::oneshot(0, data) {
            return Err(corrupt("a block checksum does not match"));
        }
        let room = cap - (out.len() - start);
        if word & STORED == 0 {
            decompress_block(data, &frame, start, cap, out)?;
        } else if len > room {
            return Err(CompressionError::TooLarge { cap });
        } else {
            let at = out.len();
            lengthen(out, start, len, cap);
            out[at..].copy_from_slice(data);
        }
    }
    if frame.content_checksum
        && input.u32_le("the content checksum is cut short")? != XxHash32::oneshot(0, &out[start..])
    {
        return Err(corrupt("the content checksum does not match"));
    }
    if frame.content_size.is_some_and(|size| size != (out.len() - start) as u64) {
        return Err(corrupt("the content is not as long as the frame says"));
    }
    match input.0.len() {
        0 => Ok(()),
        bytes => Err(CompressionError::TrailingBytes { codec: Codec::Lz4, bytes }),
    }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input).map_err(|e| CompressionError::compress(Codec::Lz4, e))?;
    encoder.finish().map_err(|e| CompressionError::compress(Codec::Lz4, e))?;
    Ok(())
}

/// Puts the checksum into the header of a frame of [`compress`] that clients of magic 0 expect: it covers the magic as well,
/// by a mistake of Kafka's first implementation which became the format (KIP-57).
pub(crate) fn break_header_checksum(frame: &mut [u8]) {
    /// The magic, FLG and BD: [`compress`] writes no content size.
    const COVERED: usize = 6;
    if frame.len() > COVERED {
        frame[COVERED] = (XxHash32::oneshot(0, &frame[..COVERED]) >> 8) as u8;
    }
}

struct Frame {
    /// The most that one block holds, in bytes, before and after compression.
    block_bytes: usize,
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
}

fn read_header(input: &mut Input<'_>, checksum: HeaderChecksum) -> Result<Frame, CompressionError> {
    const CUT: &str = "the frame header is cut short";
    if input.take(4, CUT)? != MAGIC {
        return Err(corrupt("not an LZ4 frame"));
    }
    let descriptor_from = input.0;
    let flags = input.take(2, CUT)?;
    let (flg, bd) = (flags[0], flags[1]);
    if flg >> 6 != 1 {
        return Err(corrupt("not version 1 of the frame format"));
    }
    if flg & 1 != 0 {
        return Err(corrupt("the frame needs a dictionary"));
    }
    let block_bytes = match bd >> 4 & 7 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(corrupt("unknown block size")),
    };
    let content_size = match flg & 8 {
        0 => None,
        _ => {
            let low = u64::from(input.u32_le(CUT)?);
            Some(low | u64::from(input.u32_le(CUT)?) << 32)
        }
    };
    let descriptor = &descriptor_from[..descriptor_from.len() - input.0.len()];
    let expected = (XxHash32::oneshot(0, descriptor) >> 8) as u8;
    if input.take(1, CUT)? != [expected] && checksum == HeaderChecksum::Checked {
        return Err(corrupt("the header checksum does not match"));
    }
    Ok(Frame {
        block_bytes,
        linked: flg & 0x20 == 0,
        block_checksums: flg & 0x10 != 0,
        content_checksum: flg & 4 != 0,
        content_size,
    })
}

/// Decompresses one block behind the output of the frame so far, which began at `start` of `out`.
fn decompress_block(
    data: &[u8],
    frame: &Frame,
    start: usize,
    cap: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let at = out.len();
    let room = cap - (at - start);
    // A byte of input yields 255 of output at most, so a short block need not clear a long stretch of memory.
    let most = data.len().saturating_mul(255).min(frame.block_bytes);
    lengthen(out, start, most.min(room), cap);
    let (before, into) = out.split_at_mut(at);
    let window = if frame.linked { &before[start.max(at.saturating_sub(WINDOW_BYTES))..] } else { &[][..] };
    match block::decompress_into_with_dict(data, into, window) {
        Ok(len) => {
            out.truncate(at + len);
            Ok(())
        }
        Err(block::DecompressError::OutputTooSmall { .. }) if room < most => Err(CompressionError::TooLarge { cap }),
        Err(e) => Err(corrupt(e)),
    }
}

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize, cut: &str) -> Result<&'a [u8], CompressionError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| corrupt(cut))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32_le(&mut self, cut: &str) -> Result<u32, CompressionError> {
        let (word, rest) = self.0.split_first_chunk().ok_or_else(|| corrupt(cut))?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*word))
    }
}

fn corrupt(detail: impl std::fmt::Display) -> CompressionError {
    CompressionError::corrupt(Codec::Lz4, detail)
}
