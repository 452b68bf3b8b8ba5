//! The journal group that is being gathered: appends of all partitions, copied one after the other into a chunk, until
//! a commit takes them. The format is in [`crate::journal`].

use crate::cache::{ChunkId, ChunkWriter, Reserved, Slice};
use crate::journal::{self, ENTRY_BYTES, Entry, EntryKind, GROUP_HEADER_BYTES, GroupHeader};
use crate::limits::BLOCK_BYTES;
use crate::store::Slot;

/// A group that is ready to be written: whole blocks.
#[derive(Debug)]
pub(crate) struct ClosedGroup {
    pub(crate) seq: u64,
    pub(crate) bytes: Slice,
}

/// A chunk that nothing is appended to any more, and the partitions that have batches in it.
#[derive(Debug)]
pub(crate) struct FullChunk {
    pub(crate) writer: ChunkWriter,
    pub(crate) slots: Vec<Slot>,
    /// The last commit that may have batches in it.
    pub(crate) commit: u64,
}

/// The group being gathered.
#[derive(Debug)]
pub(crate) struct Gather {
    incarnation: u64,
    salt: u64,
    /// Number of the commit that will write the group.
    pub(crate) commit: u64,
    /// Number of the group that is open, or of the next one.
    pub(crate) seq: u64,
    /// Groups below it are covered by segments; goes into the next header.
    oldest_needed: u64,
    /// Groups below it are known to be durable; goes into the next header.
    proven: u64,
    chunk: Option<FullChunk>,
    open: Option<OpenGroup>,
    entries: Vec<Entry>,
    closed: Vec<ClosedGroup>,
    table: Vec<u8>,
}

#[derive(Debug)]
struct OpenGroup {
    header: Reserved,
    start: usize,
}

impl OpenGroup {
    fn begin(writer: &mut ChunkWriter) -> OpenGroup {
        let start = writer.filled();
        debug_assert!(start.is_multiple_of(BLOCK_BYTES));
        OpenGroup { header: writer.reserve(GROUP_HEADER_BYTES), start }
    }
}

impl Gather {
    pub(crate) fn new(incarnation: u64, salt: u64) -> Gather {
        Gather {
            incarnation,
            salt,
            commit: 1,
            seq: 0,
            oldest_needed: 0,
            proven: 0,
            chunk: None,
            open: None,
            entries: Vec::new(),
            closed: Vec::new(),
            table: Vec::new(),
        }
    }

    /// The largest batch that a group in a chunk of `chunk_bytes` can carry.
    pub(crate) fn max_data(chunk_bytes: usize) -> usize {
        chunk_bytes - GROUP_HEADER_BYTES - ENTRY_BYTES
    }

    /// True when `len` more bytes of data, with an entry of their own, fit into the present chunk.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        let Some(chunk) = &self.chunk else { return false };
        let filled = match self.open {
            Some(_) => chunk.writer.filled(),
            None => chunk.writer.filled() + GROUP_HEADER_BYTES,
        };
        filled + len + (self.entries.len() + 1) * ENTRY_BYTES <= chunk.writer.capacity()
    }

    /// Puts a new chunk in the place of the present one, which is returned if there is one. The open group is closed.
    pub(crate) fn change_chunk(&mut self, writer: ChunkWriter) -> Option<FullChunk> {
        self.close_group();
        let full = self.chunk.replace(FullChunk { writer, slots: Vec::new(), commit: 0 })?;
        Some(FullChunk { commit: self.commit, ..full })
    }

    /// The chunk that is appended to.
    pub(crate) fn chunk_id(&self) -> Option<ChunkId> {
        self.chunk.as_ref().map(|c| c.writer.chunk())
    }

    /// Notes that a partition has batches in the present chunk.
    pub(crate) fn note_slot(&mut self, slot: Slot) {
        if let Some(chunk) = &mut self.chunk {
            chunk.slots.push(slot);
        }
    }

    /// Copies `bytes` into the group under `entry` (whose data fields are set here); `finish` may change the copy.
    /// The caller has checked [`Gather::has_room`].
    pub(crate) fn add(&mut self, mut entry: Entry, bytes: &[u8], finish: impl FnOnce(&mut [u8])) -> Slice {
        let chunk = self.chunk.as_mut().expect("has_room was true");
        let open = self.open.get_or_insert_with(|| OpenGroup::begin(&mut chunk.writer));
        let data_off = chunk.writer.filled() - open.start - GROUP_HEADER_BYTES;
        let slice = chunk.writer.append_with(bytes, finish);
        entry.data_off = data_off as u32;
        entry.data_len = bytes.len() as u32;
        match self.entries.last_mut() {
            Some(last) if continues(last, &entry) => {
                last.data_len += entry.data_len;
                last.end_offset = entry.end_offset;
                last.log_start = entry.log_start;
            }
            _ => self.entries.push(entry),
        }
        slice
    }

    /// True when there is anything for a commit to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    /// Groups below `oldest` are covered: the open group's header will say so, and all later ones.
    pub(crate) fn declare_needed(&mut self, oldest: u64) {
        debug_assert!(oldest >= self.oldest_needed, "older groups may have been overwritten");
        self.oldest_needed = oldest;
        let chunk = self.chunk.as_mut().expect("has_room was true");
        self.open.get_or_insert_with(|| OpenGroup::begin(&mut chunk.writer));
    }

    /// Groups below `proven` have become durable: later headers will say so.
    pub(crate) fn note_proven(&mut self, proven: u64) {
        debug_assert!(proven <= self.seq);
        // Syncs end in another order than they begin.
        self.proven = self.proven.max(proven);
    }

    /// Closes the open group and gives all closed ones to the commit, whose number is counted up.
    pub(crate) fn seal(&mut self) -> Vec<ClosedGroup> {
        self.close_group();
        self.commit += 1;
        std::mem::take(&mut self.closed)
    }

    fn close_group(&mut self) {
        let (Some(open), Some(chunk)) = (self.open.take(), self.chunk.as_mut()) else { return };
        let writer = &mut chunk.writer;
        let body = open.start + GROUP_HEADER_BYTES;
        let data_bytes = writer.filled() - body;
        self.table.clear();
        for entry in &self.entries {
            entry.encode(&mut self.table);
        }
        writer.append(&self.table);
        let header = GroupHeader {
            incarnation: self.incarnation,
            salt: self.salt,
            seq: self.seq,
            proven: self.proven,
            oldest_needed: self.oldest_needed,
            data_bytes: data_bytes as u32,
            entries: self.entries.len() as u32,
        };
        let crc = journal::group_crc(&header, writer.slice(body, writer.filled()).as_bytes());
        writer.fill_reserved(open.header, &journal::encode_header(&header, crc));
        writer.pad_to(writer.filled().next_multiple_of(BLOCK_BYTES));
        self.closed.push(ClosedGroup { seq: self.seq, bytes: writer.slice(open.start, writer.filled()) });
        self.entries.clear();
        self.seq += 1;
    }
}

/// True when `next` carries on where `last` ends, in the segment and in the group.
fn continues(last: &Entry, next: &Entry) -> bool {
    last.kind == EntryKind::Data
        && next.kind == EntryKind::Data
        && last.key == next.key
        && last.segment_base == next.segment_base
        && last.end_pos() == next.pos
        && last.data_off + last.data_len == next.data_off
}
