//! Zstandard frames.
//!
//! Decompression is one call straight into the output. That needs no window buffer, whose size (up to 128 MiB) the input
//! would choose, as the streaming interface does. Its price is that output of unknown size may be decompressed again into
//! a larger buffer: Kafka's Java client does not write the content size.

use std::io::Cursor;

use zstd::zstd_safe::{self, CCtx, DCtx};

use super::{Codec, CompressionError, grown};

/// The level of Kafka's clients, and of zstd itself.
const LEVEL: i32 = 3;

/// What libzstd calls the error of an output buffer that is too small. The crate gives errors by name alone.
const OUTPUT_TOO_SMALL: &str = "Destination buffer is too small";

pub(super) fn decompress(input: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let start = out.len();
    let mut context = DCtx::try_create().ok_or_else(|| corrupt("no memory for the decoder"))?;
    let mut room = match zstd_safe::get_frame_content_size(input) {
        // The size of the first frame. Others may follow it.
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX).min(cap),
        Ok(None) => grown(input.len().saturating_mul(2), cap),
        Err(_) => return Err(corrupt("not a zstd frame")),
    };
    loop {
        out.reserve_exact(room);
        let mut to = Cursor::new(&mut *out);
        to.set_position(start as u64);
        match context.decompress(&mut to, input) {
            Ok(len) if len <= cap => return Ok(()),
            Ok(_) => return Err(CompressionError::TooLarge { cap }),
            Err(code) => {
                let error = zstd_safe::get_error_name(code);
                if error != OUTPUT_TOO_SMALL {
                    return Err(corrupt(error));
                }
            }
        }
        if room == cap {
            return Err(CompressionError::TooLarge { cap });
        }
        room = grown(room.saturating_mul(2), cap);
    }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let failed = |detail: &str| CompressionError::compress(Codec::Zstd, detail);
    let mut context = CCtx::try_create().ok_or_else(|| failed("no memory for the encoder"))?;
    let start = out.len();
    out.reserve(zstd_safe::compress_bound(input.len()));
    let mut to = Cursor::new(&mut *out);
    to.set_position(start as u64);
    context.compress(&mut to, input, LEVEL).map_err(|code| failed(zstd_safe::get_error_name(code)))?;
    Ok(())
}

fn corrupt(detail: impl std::fmt::Display) -> CompressionError {
    CompressionError::corrupt(Codec::Zstd, detail)
}
