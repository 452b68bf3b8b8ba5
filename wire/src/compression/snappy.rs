//! Snappy, raw and in the framing of snappy-java, which Kafka's Java client and most others write.
//!
//! The framing (`SnappyOutputStream` of snappy-java): the magic `82 "SNAPPY" 00`, a version and the oldest compatible
//! version as big-endian `i32`, then blocks of a big-endian `i32` length and that many bytes of raw Snappy. The header may
//! come again between blocks, where streams were concatenated. Data without the magic is one raw Snappy block.

use super::{Codec, CompressionError, lengthen};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_LEN: usize = 16;
const VERSION: i32 = 1;
/// The block size of snappy-java, in bytes before compression.
const BLOCK_BYTES: usize = 32 << 10;

pub(super) fn decompress(input: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    if !input.starts_with(&MAGIC) {
        return decompress_block(input, out.len(), cap, out);
    }
    let start = out.len();
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER_LEN..).ok_or_else(|| corrupt("the stream header is cut short"))?;
            continue;
        }
        let (len, after) = rest.split_first_chunk().ok_or_else(|| corrupt("a block length is cut short"))?;
        let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| corrupt("a block length is negative"))?;
        let block = after.get(..len).ok_or_else(|| corrupt("a block is cut short"))?;
        decompress_block(block, start, cap, out)?;
        rest = &after[len..];
    }
    Ok(())
}

pub(super) fn compress_framed(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_BYTES) {
        let len_at = out.len();
        out.extend_from_slice(&[0; 4]);
        compress_block(&mut encoder, block, out)?;
        // Snappy adds at most a sixth to a block of 32 KiB, so the length fits.
        let len = (out.len() - len_at - 4) as i32;
        out[len_at..len_at + 4].copy_from_slice(&len.to_be_bytes());
    }
    Ok(())
}

/// Appends `input` as one raw Snappy block without framing, as librdkafka writes it.
pub fn compress_raw(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let start = out.len();
    let result = compress_block(&mut snap::raw::Encoder::new(), input, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Decompresses one raw block behind the output so far, which began at `start` of `out`.
fn decompress_block(block: &[u8], start: usize, cap: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let at = out.len();
    let len = snap::raw::decompress_len(block).map_err(corrupt)?;
    if len > cap - (at - start) {
        return Err(CompressionError::TooLarge { cap });
    }
    // An element of three bytes puts out 64 at most. A length beyond that is a lie, and not worth its memory.
    if len / 22 > block.len() {
        return Err(corrupt("the block says that it is larger than it can be"));
    }
    lengthen(out, start, len, cap);
    snap::raw::Decoder::new().decompress(block, &mut out[at..]).map_err(corrupt)?;
    Ok(())
}

fn compress_block(encoder: &mut snap::raw::Encoder, block: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let start = out.len();
    out.resize(start + snap::raw::max_compress_len(block.len()), 0);
    let len = encoder.compress(block, &mut out[start..]).map_err(|e| CompressionError::compress(Codec::Snappy, e))?;
    out.truncate(start + len);
    Ok(())
}

fn corrupt(detail: impl std::fmt::Display) -> CompressionError {
    CompressionError::corrupt(Codec::Snappy, detail)
}
