//! The file that a pass writes: batches one after the other, past the page cache.

use std::io;
use std::path::Path;

use wire::batch::BatchView;

use crate::cache::ChunkWriter;
use crate::io::{File, Open};
use crate::limits::BLOCK_BYTES;
use crate::reactor::Reactor;
use crate::read::one_chunk;
use crate::segment::Segment;

/// A segment that is being written.
pub(super) struct Output {
    file: File,
    buffer: ChunkWriter,
    /// Bytes of whole blocks that the file has.
    written: u64,
    /// Of these, what the caller has been told of.
    told: u64,
    interval: u32,
    segment: Segment,
}

impl Output {
    /// A new file at `path`, for a segment that begins at offset `base`. `buffer_bytes` is rounded up to whole blocks.
    pub(super) async fn create(
        reactor: &Reactor,
        path: &Path,
        base: i64,
        index_interval_bytes: u32,
        buffer_bytes: usize,
    ) -> io::Result<Output> {
        let file = reactor.open(path, Open { direct: true, create: true, write: true, ..Open::default() }).await?;
        reactor.truncate(&file, 0).await?;
        Ok(Output {
            file,
            buffer: one_chunk(buffer_bytes.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES)),
            written: 0,
            told: 0,
            interval: index_interval_bytes,
            segment: Segment::new(base),
        })
    }

    /// Adds a batch.
    pub(super) async fn push(&mut self, reactor: &Reactor, batch: &BatchView<'_>) -> io::Result<()> {
        let Segment { base, end_pos, .. } = self.segment;
        self.segment.note_stored(batch, end_pos, self.interval);
        self.segment.end_pos += batch.total_len() as u64;
        debug_assert!(batch.base_offset() >= base);
        let mut rest = batch.bytes();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.buffer.remaining()));
            self.buffer.append(now);
            rest = later;
            if self.buffer.remaining() == 0 {
                self.write(reactor).await?;
            }
        }
        Ok(())
    }

    /// Bytes written since the last call.
    pub(super) fn take_written(&mut self) -> u64 {
        self.written - std::mem::replace(&mut self.told, self.written)
    }

    /// Makes the file durable, at its exact length. The segment that it is reaches to `end_offset`.
    pub(super) async fn finish(mut self, reactor: &Reactor, end_offset: i64) -> io::Result<Segment> {
        let padded = self.buffer.filled().next_multiple_of(BLOCK_BYTES);
        self.buffer.pad_to(padded);
        if padded > 0 {
            self.write(reactor).await?;
        }
        let mut segment = self.segment;
        reactor.truncate(&self.file, segment.end_pos).await?;
        reactor.fsync(&self.file).await?;
        (segment.end_offset, segment.flushed, segment.allocated) = (end_offset, segment.end_pos, segment.end_pos);
        (segment.rolled, segment.sealed, segment.file) = (true, true, Some(self.file));
        segment.check();
        Ok(segment)
    }

    /// Writes the buffer, which holds whole blocks.
    async fn write(&mut self, reactor: &Reactor) -> io::Result<()> {
        let bytes = self.buffer.slice(0, self.buffer.filled());
        let len = bytes.len() as u64;
        reactor.write_at(&self.file, self.written, bytes).await?;
        self.written += len;
        assert!(self.buffer.clear(), "the write has ended");
        Ok(())
    }
}
