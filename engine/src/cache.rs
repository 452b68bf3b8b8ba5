//! Chunk memory: where a batch lives from the moment it is received until its segment alone holds it.
//!
//! A chunk is a block-aligned piece of memory from a pool that is touched once and recycled (first touch of memory is
//! what makes a cold page cache slow). The same bytes serve the journal or segment write and every fetch of the hot
//! tail, so a record is copied once, from the receive buffer into its chunk.
//!
//! Who may touch what:
//! - A [`ChunkWriter`] is the only writer of its chunk. It fills the chunk front to back.
//! - A [`Slice`] is a counted reference to bytes which the writer has finished. They never change while it lives.
//! - A chunk goes back to its pool's free list when nothing but the pool refers to it ([`ChunkPool::retire`]).
//!
//! Slices may be sent to other cores and to the kernel; the pool and the writers stay with their core.
#![allow(unsafe_code)]

mod ahead;

use std::alloc::{self, Layout};
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::limits::BLOCK_BYTES;
use ahead::Ahead;

/// Huge pages of x86-64 and of AArch64 with 4 KiB pages, in bytes. A chunk that consists of them goes to the disk in a few
/// large pieces where one of 4 KiB pages takes hundreds: half the time per large write on a virtual disk.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// One aligned piece of memory. Only [`ChunkWriter`] writes to it, only [`Slice`] reads from it.
struct Chunk {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a chunk is plain memory that it owns. Bytes are written only through the unique `ChunkWriter`, before the
// `Slice`s that cover them exist, and are read only through `Slice`s; so no access of one thread races with a write
// of another, provided that a `Slice` reaches another thread through a synchronising channel, as every `Send` does.
unsafe impl Send for Chunk {}
// SAFETY: as above; shared references give read access to finished bytes alone.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn layout(len: usize) -> Layout {
        let align = if len.is_multiple_of(HUGE_PAGE_BYTES) { HUGE_PAGE_BYTES } else { BLOCK_BYTES };
        Layout::from_size_align(len, align).expect("a chunk's size is bounded by Limits")
    }

    /// Zeroed memory of `len` bytes, all of it touched.
    fn allocate(len: usize) -> Chunk {
        assert!(len >= BLOCK_BYTES && len.is_multiple_of(BLOCK_BYTES));
        let layout = Chunk::layout(len);
        // SAFETY: the layout's size is not zero (asserted above).
        let base = unsafe { alloc::alloc(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        if layout.align() == HUGE_PAGE_BYTES {
            // SAFETY: the range is page-aligned memory that was just allocated; the advice changes no content. Where
            // the kernel has no huge pages it refuses, and ordinary pages do.
            unsafe { libc::madvise(base.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
        // SAFETY: the `len` bytes were just allocated. Zeroed, so that no byte is ever uninitialised.
        unsafe { base.as_ptr().write_bytes(0, len) };
        Chunk { base, len }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc` with this very layout, and this is the last owner.
        unsafe { alloc::dealloc(self.base.as_ptr(), Chunk::layout(self.len)) }
    }
}

/// Finished, immutable bytes of a chunk. Cloning counts a reference; the chunk is not recycled while one lives.
#[derive(Clone)]
pub struct Slice {
    chunk: Arc<Chunk>,
    off: u32,
    len: u32,
}

impl Slice {
    /// A copy of `bytes` in memory of its own, which no pool counts: for what is made for one answer.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Slice {
        let len = bytes.len().max(1).next_multiple_of(BLOCK_BYTES);
        ChunkWriter { chunk: Arc::new(Chunk::allocate(len)), filled: 0 }.append(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `off + len` was within the writer's filled part when the slice was made, and those bytes are not
        // written again until every slice of the chunk is gone.
        unsafe { std::slice::from_raw_parts(self.chunk.base.as_ptr().add(self.off as usize), self.len as usize) }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True when the slice holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Offset of the first byte within its chunk, in bytes.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.off as usize
    }

    /// The part from `start` to `end`, both in bytes from this slice's beginning.
    #[must_use]
    pub fn part(&self, start: usize, end: usize) -> Slice {
        assert!(start <= end && end <= self.len as usize, "part {start}..{end} of {}", self.len);
        Slice { chunk: self.chunk.clone(), off: self.off + start as u32, len: (end - start) as u32 }
    }

    /// True when `next` begins, in the same chunk, where this slice ends.
    #[must_use]
    pub fn is_followed_by(&self, next: &Slice) -> bool {
        Arc::ptr_eq(&self.chunk, &next.chunk) && self.off + self.len == next.off
    }

    /// Grows the slice over `next`, which must follow it ([`Slice::is_followed_by`]).
    pub fn join(&mut self, next: &Slice) {
        assert!(self.is_followed_by(next));
        self.len += next.len;
    }

    /// The chunk that holds the bytes.
    #[must_use]
    pub fn chunk(&self) -> ChunkId {
        ChunkId(self.chunk.base.as_ptr() as usize)
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({:?}+{}, {} bytes)", self.chunk.base, self.off, self.len)
    }
}

/// Identity of a chunk while a reference to it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkId(usize);

/// The unique writer of a chunk. Bytes before `filled` are finished, bytes after it belong to the writer alone.
pub struct ChunkWriter {
    chunk: Arc<Chunk>,
    filled: usize,
}

impl ChunkWriter {
    /// Bytes that still fit.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.chunk.len - self.filled
    }

    /// Offset in the chunk at which the next byte goes.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Size of the chunk, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.chunk.len
    }

    /// The chunk that is written.
    #[must_use]
    pub fn chunk(&self) -> ChunkId {
        ChunkId(self.chunk.base.as_ptr() as usize)
    }

    /// Copies `bytes` to the end of the filled part. The caller has checked [`ChunkWriter::remaining`].
    pub fn append(&mut self, bytes: &[u8]) -> Slice {
        self.append_with(bytes, |_| ())
    }

    /// Like [`ChunkWriter::append`], and lets `finish` change the copy before anyone can see it.
    pub fn append_with(&mut self, bytes: &[u8], finish: impl FnOnce(&mut [u8])) -> Slice {
        let start = self.filled;
        let copy = self.spare(bytes.len());
        copy.copy_from_slice(bytes);
        finish(copy);
        self.filled += bytes.len();
        self.slice(start, self.filled)
    }

    /// Fills with zeros up to offset `to` of the chunk.
    pub fn pad_to(&mut self, to: usize) {
        let missing = to.checked_sub(self.filled).expect("padding never goes back");
        self.spare(missing).fill(0);
        self.filled = to;
    }

    /// Leaves `len` zeroed bytes to be written later, by [`ChunkWriter::fill_reserved`].
    pub fn reserve(&mut self, len: usize) -> Reserved {
        let off = self.filled;
        self.pad_to(off + len);
        Reserved { off, len }
    }

    /// Writes the bytes of a reservation, of which no slice may have been made before.
    pub fn fill_reserved(&mut self, reserved: Reserved, bytes: &[u8]) {
        assert!(bytes.len() == reserved.len && reserved.off + reserved.len <= self.filled);
        // SAFETY: the range lies inside the chunk (asserted; `filled <= len` always). `Reserved` is neither Clone nor
        // Copy, and callers make no slice over it before this call, so no reader holds these bytes.
        unsafe {
            self.chunk.base.as_ptr().add(reserved.off).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// The next `len` bytes, to be written before [`ChunkWriter::advance`] finishes them.
    pub fn spare(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= self.remaining(), "{len} bytes asked of {}", self.remaining());
        // SAFETY: the range lies inside the chunk (asserted) and beyond `filled`, where no slice reaches; the writer is
        // unique and mutably borrowed for as long as the reference lives. The memory is initialised since allocation.
        unsafe { std::slice::from_raw_parts_mut(self.chunk.base.as_ptr().add(self.filled), len) }
    }

    /// Declares the next `len` bytes finished: they were written through [`ChunkWriter::spare`] or by the kernel.
    pub fn advance(&mut self, len: usize) {
        assert!(len <= self.remaining());
        self.filled += len;
    }

    /// Starts again at the front, provided that no slice of the chunk lives any more; else changes nothing.
    pub fn clear(&mut self) -> bool {
        // As in `ChunkPool::collect`: the last reader's accesses happened before.
        let unique = Arc::get_mut(&mut self.chunk).is_some();
        if unique {
            self.filled = 0;
        }
        unique
    }

    /// Finished bytes from `start` to `end`, both offsets in the chunk.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> Slice {
        assert!(start <= end && end <= self.filled, "slice {start}..{end} of {} filled", self.filled);
        Slice { chunk: self.chunk.clone(), off: start as u32, len: (end - start) as u32 }
    }
}

impl fmt::Debug for ChunkWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkWriter({:?}, {} of {})", self.chunk.base, self.filled, self.chunk.len)
    }
}

/// Bytes set aside in a chunk, to be filled once ([`ChunkWriter::reserve`]).
#[derive(Debug)]
pub struct Reserved {
    off: usize,
    len: usize,
}

/// The chunks of one core: allocated on demand up to a cap, recycled for ever after.
#[derive(Debug)]
pub struct ChunkPool {
    chunk_bytes: usize,
    max_chunks: usize,
    allocated: usize,
    free: Vec<Arc<Chunk>>,
    /// Given back while a send or a write still reads them; looked at again when the free list is empty.
    referenced: Vec<Arc<Chunk>>,
    /// Touches the next chunk. What it was asked for counts as allocated.
    ahead: Option<Ahead>,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({:?}, {})", self.base, self.len)
    }
}

impl ChunkPool {
    /// A pool of chunks of `chunk_bytes` each, that never holds more than `pool_bytes`.
    #[must_use]
    pub fn new(chunk_bytes: usize, pool_bytes: usize) -> ChunkPool {
        assert!(pool_bytes >= 2 * chunk_bytes, "a pool holds at least two chunks");
        ChunkPool {
            chunk_bytes,
            max_chunks: pool_bytes / chunk_bytes,
            allocated: 0,
            free: Vec::new(),
            referenced: Vec::new(),
            ahead: None,
        }
    }

    /// The pool with a thread that touches its memory before it is needed.
    pub fn with_memory_ahead(self) -> io::Result<ChunkPool> {
        Ok(ChunkPool { ahead: Some(Ahead::start(self.chunk_bytes)?), ..self })
    }

    /// An empty chunk, or `None` when the cap is reached and nothing has been given back.
    pub fn take(&mut self) -> Option<ChunkWriter> {
        if self.free.is_empty() {
            self.collect();
        }
        let chunk = match self.free.pop() {
            Some(chunk) => chunk,
            None => Arc::new(self.fresh()?),
        };
        Some(ChunkWriter { chunk, filled: 0 })
    }

    /// A chunk that has not been used before.
    fn fresh(&mut self) -> Option<Chunk> {
        let chunk = match self.ahead.as_mut().and_then(Ahead::take) {
            Some(chunk) => chunk,
            None if self.allocated < self.max_chunks => {
                self.allocated += 1;
                Chunk::allocate(self.chunk_bytes)
            }
            // The last one may be on its way.
            None => self.ahead.as_mut()?.wait()?,
        };
        if let Some(ahead) = &mut self.ahead
            && ahead.asked() == 0
            && self.allocated < self.max_chunks
        {
            self.allocated += usize::from(ahead.ask());
        }
        Some(chunk)
    }

    /// An empty chunk of at least `bytes`, for a batch that fits into no ordinary one. It counts against the cap, and
    /// its memory goes back to the system when it is retired.
    pub fn take_large(&mut self, bytes: usize) -> Option<ChunkWriter> {
        let units = bytes.div_ceil(self.chunk_bytes);
        self.collect();
        while self.allocated + units > self.max_chunks
            && (self.free.pop().is_some() || self.ahead.as_mut().is_some_and(|ahead| ahead.wait().is_some()))
        {
            self.allocated -= 1;
        }
        if self.allocated + units > self.max_chunks {
            return None;
        }
        self.allocated += units;
        Some(ChunkWriter { chunk: Arc::new(Chunk::allocate(units * self.chunk_bytes)), filled: 0 })
    }

    /// Gives back a chunk that will not be written any more. It is used again once the last slice of it is dropped.
    pub fn retire(&mut self, writer: ChunkWriter) {
        self.referenced.push(writer.chunk);
    }

    /// Chunks that could be taken now or after their last reader is done, without evicting anything.
    #[must_use]
    pub fn available(&self) -> usize {
        let asked = self.ahead.as_ref().map_or(0, Ahead::asked);
        self.max_chunks - self.allocated + asked + self.free.len() + self.referenced.len()
    }

    /// Chunks the cap allows.
    #[must_use]
    pub fn max_chunks(&self) -> usize {
        self.max_chunks
    }

    fn collect(&mut self) {
        let mut at = 0;
        while at < self.referenced.len() {
            // `get_mut` succeeds only when this is the last reference, and synchronises with the drop of the others:
            // whatever another core read through its slice was read before the memory is written again.
            if Arc::get_mut(&mut self.referenced[at]).is_some() {
                let chunk = self.referenced.swap_remove(at);
                if chunk.len == self.chunk_bytes {
                    self.free.push(chunk);
                } else {
                    self.allocated -= chunk.len / self.chunk_bytes;
                }
            } else {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_not_recycled_while_a_slice_of_it_lives() {
        let mut pool = ChunkPool::new(4096, 8192);
        let mut a = pool.take().unwrap();
        let kept = a.append(b"first");
        let id = a.chunk();
        pool.retire(a);
        let b = pool.take().unwrap();
        assert_ne!(b.chunk(), id);
        assert!(pool.take().is_none(), "the cap holds while the slice lives");
        assert_eq!(kept.as_bytes(), b"first");
        drop(kept);
        assert_eq!(pool.take().unwrap().chunk(), id);
    }

    #[test]
    fn a_large_chunk_counts_against_the_cap_and_is_returned() {
        let mut pool = ChunkPool::new(4096, 4 * 4096);
        let kept = pool.take().unwrap();
        let large = pool.take_large(4097 * 2).unwrap();
        assert_eq!(large.capacity(), 3 * 4096);
        assert!(pool.take().is_none() && pool.take_large(1).is_none());
        pool.retire(large);
        assert!(pool.take_large(3 * 4096).is_some());
        drop(kept);
    }

    #[test]
    fn adjacent_slices_join() {
        let mut pool = ChunkPool::new(4096, 8192);
        let mut w = pool.take().unwrap();
        let mut a = w.append(b"ab");
        let b = w.append_with(b"cd", |copy| copy[0] = b'C');
        assert!(a.is_followed_by(&b));
        a.join(&b);
        assert_eq!(a.as_bytes(), b"abCd");
        assert_eq!(a.part(1, 3).as_bytes(), b"bC");
    }

    #[test]
    fn reserved_bytes_are_zero_until_filled() {
        let mut pool = ChunkPool::new(4096, 8192);
        let mut w = pool.take().unwrap();
        w.append(&[7; 100]);
        pool.retire(w);
        let mut w = pool.take().unwrap();
        let r = w.reserve(4);
        w.append(b"x");
        w.pad_to(8);
        w.fill_reserved(r, b"head");
        assert_eq!(w.slice(0, 8).as_bytes(), b"headx\0\0\0");
    }
}
