//! Transfers that the kernel, or the simulation, made in part, and how they go on.

use std::io;

use super::{File, Io, WriteSync};
use crate::cache::{ChunkWriter, Slice};
use crate::limits::BLOCK_BYTES;

impl Io {
    /// Writes all of `data`.
    pub(crate) async fn write_at(&self, file: &File, pos: u64, mut data: Slice, sync: WriteSync) -> io::Result<()> {
        let mut from = 0;
        while from < data.len() {
            let (result, back) = self.write_some(file, pos + from as u64, data, from, sync).await;
            data = back;
            if is_interrupted(result) {
                continue;
            }
            let mut written = count(result)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            if file.is_direct() && from + written < data.len() {
                // What goes on after a short write must be aligned too: the last partial block is written again, even
                // if it is the only one. If it cannot be written, an error will say why.
                written &= !(BLOCK_BYTES - 1);
            }
            from += written;
        }
        Ok(())
    }

    /// Reads `len` bytes, fewer only at the end of the file.
    pub(crate) async fn read_at(
        &self,
        file: &File,
        pos: u64,
        mut into: ChunkWriter,
        len: usize,
    ) -> (io::Result<usize>, ChunkWriter) {
        let mut filled = 0;
        while filled < len {
            let (result, back) = self.read_some(file, pos + filled as u64, into, len - filled).await;
            into = back;
            if is_interrupted(result) {
                continue;
            }
            let read = match count(result) {
                Ok(read) => read,
                Err(e) => return (Err(e), into),
            };
            into.advance(read);
            filled += read;
            // A direct read ends within a block only where the file does, and could not go on from there.
            if read == 0 || (file.is_direct() && !read.is_multiple_of(BLOCK_BYTES)) {
                break;
            }
        }
        (Ok(filled), into)
    }
}

/// The error in a negative result, else the count.
pub(super) fn count(result: i32) -> io::Result<usize> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) }
}

/// True for results which only ask to try again.
pub(super) fn is_interrupted(result: i32) -> bool {
    matches!(-result, libc::EINTR | libc::EAGAIN)
}
