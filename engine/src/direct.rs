//! The direct path: a partition with large commits copies its batches into a chunk of its own, laid out as its segment
//! is, and each commit writes the whole blocks straight to the segment. Only the rest, less than a block, goes through
//! the journal with the new end of the log. So a bulk stream costs one disk write per byte.
//!
//! ```text
//! segment   … | block | block | block | block | rest
//! chunk       ^pos0                   ^written ^end
//! ```

use crate::cache::{ChunkWriter, Slice};
use crate::segment::Segment;
use crate::store::Slot;

/// The chunk of a partition on the direct path.
#[derive(Debug)]
pub(crate) struct Direct {
    /// Base offset of the segment that the positions refer to.
    pub(crate) segment_base: i64,
    pub(crate) writer: ChunkWriter,
    /// Position in the segment of the chunk's first byte; a block's start.
    pub(crate) pos0: u64,
    /// Position in the segment up to which blocks were handed to a commit.
    pub(crate) written: u64,
    /// Position of the first batch of the gathering commit.
    pub(crate) batch_pos: u64,
    /// Offset of that batch's first record.
    pub(crate) batch_offset: i64,
    /// Digest of the gathering commit's batches ([`crate::journal::digest`]).
    pub(crate) digest: u32,
}

/// Blocks to be written to a segment.
#[derive(Debug)]
pub(crate) struct DirectWrite {
    pub(crate) slot: Slot,
    pub(crate) segment_base: i64,
    pub(crate) pos: u64,
    pub(crate) bytes: Slice,
}

/// What becomes true of a segment when the commit is durable.
#[derive(Debug)]
pub(crate) struct DirectDone {
    pub(crate) slot: Slot,
    pub(crate) segment_base: i64,
    pub(crate) flushed: u64,
    /// The journal group that holds the rest.
    pub(crate) rest_seq: u64,
}

impl Direct {
    /// Starts in an empty chunk at position `end` of a segment. `rest` holds the bytes of the unfinished block there.
    pub(crate) fn start(segment_base: i64, end: u64, rest: &[u8], mut writer: ChunkWriter) -> Direct {
        let pos0 = Segment::block_floor(end);
        assert_eq!(pos0 + rest.len() as u64, end);
        writer.append(rest);
        Direct { segment_base, writer, pos0, written: pos0, batch_pos: end, batch_offset: segment_base, digest: 0 }
    }

    /// Position in the segment after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.pos0 + self.writer.filled() as u64
    }

    /// The whole blocks that no commit has yet, with their position.
    pub(crate) fn take_blocks(&mut self) -> Option<(u64, Slice)> {
        let floor = Segment::block_floor(self.end());
        (floor > self.written).then(|| {
            let pos = self.written;
            self.written = floor;
            (pos, self.writer.slice((pos - self.pos0) as usize, (floor - self.pos0) as usize))
        })
    }

    /// The bytes beyond the last whole block.
    pub(crate) fn rest(&self) -> Slice {
        let floor = Segment::block_floor(self.end());
        self.writer.slice((floor - self.pos0) as usize, self.writer.filled())
    }
}
