//! Reading: from memory where the batches are still there, else from segment files.

use std::fmt;
use std::io;

use wire::batch::BatchView;

use crate::cache::{ChunkPool, ChunkWriter, Slice};
use crate::index::Index;
use crate::io::File;
use crate::limits::{BLOCK_BYTES, MIN_BATCH_BYTES};
use crate::reactor::Reactor;
use crate::segment::Segment;
use crate::store::{Slot, State, Store};

/// What a reader is told of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    /// First offset that can be read.
    pub log_start: i64,
    /// The offset after the last durable record: what readers may see ends here.
    pub high_watermark: i64,
    /// The offset that the next record gets.
    pub log_end: i64,
    /// What readers of committed records may see ends here: at the first offset of an open transaction, or at the high
    /// watermark.
    pub last_stable: i64,
    /// Bytes of all segments.
    pub bytes: u64,
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All below the high watermark.
    ReadUncommitted,
    /// Those below the last stable offset; with [`Store::aborted`] the reader tells which of them count.
    ReadCommitted,
}

/// Batches, whole, in offset order.
#[derive(Debug, Clone, Default)]
pub struct ReadData {
    /// Their bytes.
    pub slices: Vec<Slice>,
    /// The sum of the slices' lengths.
    pub bytes: usize,
}

impl ReadData {
    /// The offset after the last record. None when there is nothing.
    #[must_use]
    pub fn end_offset(&self) -> Option<i64> {
        let (_, last) = batches(self.slices.last()?.as_bytes()).last()?;
        Some(last.last_offset() + 1)
    }
}

/// The answer of [`Store::read`].
#[derive(Debug)]
pub enum Read {
    /// From memory; empty at the end of what is visible.
    Hot(ReadData),
    /// The offset lies before what memory holds: use [`Store::read_cold`].
    Cold,
}

/// Why nothing was read.
#[derive(Debug)]
pub enum ReadError {
    /// No such partition in this store.
    UnknownPartition,
    /// The offset lies outside of what the partition holds.
    OutOfRange,
    /// The segment's bytes are not batches where batches should be.
    Corrupt,
    /// The disk failed.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::UnknownPartition => f.write_str("there is no such partition"),
            ReadError::OutOfRange => f.write_str("there is no such offset"),
            ReadError::Corrupt => f.write_str("there are no batches where batches should be"),
            ReadError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Where a search in a segment's file begins.
struct Cold {
    file: Option<File>,
    base: i64,
    /// A batch boundary at or before what is searched.
    pos: u64,
    /// Bytes of the segment that may be read.
    end: u64,
    flushed: u64,
    limit: i64,
    /// As [`Segment::generation`]: positions are good for as long as it stays the same.
    generation: u32,
    /// The offset after the segment, if it is one whose batches need not follow each other: compaction leaves gaps in
    /// sealed segments.
    sealed_to: Option<i64>,
}

/// What a segment's file has for a reader.
enum Piece {
    Batches(ReadData),
    /// Compaction has left nothing at or behind the offset. The next segment begins here.
    NothingBefore(i64),
}

impl Store {
    /// What is known of a partition.
    #[must_use]
    pub fn info(&self, slot: Slot) -> Option<PartitionInfo> {
        let state = self.state();
        let partition = state.live(slot)?;
        let log = &partition.log;
        Some(PartitionInfo {
            log_start: log.log_start,
            high_watermark: log.durable.offset,
            log_end: log.end_offset(),
            last_stable: partition.last_stable(),
            bytes: log.bytes(),
        })
    }

    /// Collects batches that a reader may see from the one that holds `offset` on, within `max_bytes`; the first one
    /// regardless of that when `at_least_one`.
    pub fn read(
        &self,
        slot: Slot,
        isolation: Isolation,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let state = self.state();
        let partition = state.live(slot).ok_or(ReadError::UnknownPartition)?;
        let (log, end) = (&partition.log, partition.visible_end(isolation));
        if offset < log.log_start || offset > log.end_offset() {
            return Err(ReadError::OutOfRange);
        }
        let mut data = ReadData::default();
        // Beyond the end of what is visible there is nothing yet, wherever it will be.
        if offset >= end {
            return Ok(Read::Hot(data));
        }
        match log.read_hot(offset, end, max_bytes, at_least_one, &mut data.slices) {
            Some(bytes) => {
                data.bytes = bytes;
                Ok(Read::Hot(data))
            }
            None => Ok(Read::Cold),
        }
    }

    /// Like [`Store::read`], from the segment's file. It reads one segment: a reader at its end comes again. What it gives may
    /// begin behind `offset` where compaction has removed records.
    pub async fn read_cold(
        &self,
        slot: Slot,
        isolation: Isolation,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadData, ReadError> {
        let mut offset = offset;
        loop {
            match self.read_segment(slot, isolation, offset, max_bytes, at_least_one).await? {
                Piece::Batches(data) => return Ok(data),
                Piece::NothingBefore(next) => offset = next,
            }
            if let Read::Hot(data) = self.read(slot, isolation, offset, max_bytes, at_least_one)? {
                return Ok(data);
            }
        }
    }

    async fn read_segment(
        &self,
        slot: Slot,
        isolation: Isolation,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Piece, ReadError> {
        let mut skipped = 0;
        let mut generation = None;
        let chunk_bytes = self.state().options.limits.chunk_bytes;
        let mut wanted = max_bytes.saturating_add(chunk_bytes / 4).min(chunk_bytes - BLOCK_BYTES);
        loop {
            self.load_index(slot, offset).await?;
            // Looked up anew each time: a flush may have moved the segment's rest from memory to the file meanwhile, or
            // compaction may have replaced the file.
            let mut cold = self.state().locate(slot, isolation, offset)?;
            if cold.file.is_none() && cold.flushed > 0 {
                self.segment_file(slot, cold.base, 0).await.map_err(ReadError::Io)?.ok_or(ReadError::OutOfRange)?;
                continue;
            }
            if generation.replace(cold.generation).is_some_and(|known| known != cold.generation) {
                skipped = 0;
            }
            cold.pos += skipped;
            if let Some(next) = cold.sealed_to.filter(|_| cold.pos == cold.end) {
                return Ok(Piece::NothingBefore(next));
            }
            let (slice, from) = self.read_range(slot, &cold, wanted).await?;
            let bytes = &slice.as_bytes()[from..];
            match find(bytes, offset, &cold, max_bytes, at_least_one) {
                Found::Batches { start, end } => {
                    let slices = if end > start { vec![slice.part(from + start, from + end)] } else { Vec::new() };
                    return Ok(Piece::Batches(ReadData { slices, bytes: end - start }));
                }
                Found::Broken => return Err(ReadError::Corrupt),
                // The walk from the index entry used up the buffer: go on behind it.
                Found::Further { skip } if skip > 0 => skipped += skip as u64,
                // The batch is larger than the buffer, or its end has left memory during the read: for the file, or
                // because the segment is gone.
                Found::Further { .. } => {
                    let now = self.state().locate(slot, isolation, offset)?;
                    let moved = now.flushed != cold.flushed || now.generation != cold.generation;
                    match batch_len(bytes) {
                        Some(needed) if needed > wanted || moved => {
                            if cold.pos + needed as u64 > cold.end {
                                return Err(ReadError::Corrupt);
                            }
                            wanted = wanted.max(needed);
                        }
                        None if moved => {}
                        _ => return Err(ReadError::Corrupt),
                    }
                }
            }
        }
    }

    /// The first batch from `from` on, and from the log's start, with a record at or after `timestamp_ms`, as its largest
    /// timestamp says: the caller that needs the record decodes the batch. The log may start within the batch, behind the
    /// record; then the search goes on behind the batch. None when all records are older.
    pub async fn batch_at_time(&self, slot: Slot, from: i64, timestamp_ms: i64) -> Result<Option<ReadData>, ReadError> {
        let (mut offset, high_watermark) = {
            let state = self.state();
            let log = &state.live(slot).ok_or(ReadError::UnknownPartition)?.log;
            (log.log_start.max(from), log.durable.offset)
        };
        while offset < high_watermark {
            self.load_index(slot, offset).await?;
            let (next_segment, start) = {
                let state = self.state();
                let log = &state.live(slot).ok_or(ReadError::UnknownPartition)?.log;
                let segment = &log.segments[log.find_offset(offset)];
                let index = segment.index.as_ref().ok_or(ReadError::OutOfRange)?;
                let holds = index.max_timestamp_ms() >= timestamp_ms;
                let start = index.offset_before_time(segment.base, timestamp_ms).max(offset);
                (segment.end_offset, if holds { start } else { segment.end_offset })
            };
            offset = start;
            while offset < next_segment.min(high_watermark) {
                let data = self.read_any(slot, offset).await?;
                for slice in &data.slices {
                    for (from, batch) in batches(slice.as_bytes()) {
                        if batch.max_timestamp() >= timestamp_ms && batch.record_count() > 0 {
                            let found = slice.part(from, from + batch.total_len());
                            return Ok(Some(ReadData { bytes: found.len(), slices: vec![found] }));
                        }
                    }
                }
                let Some(end) = data.end_offset() else { return Ok(None) };
                offset = end;
            }
            offset = offset.max(next_segment);
        }
        Ok(None)
    }

    /// The first batch that carries the largest timestamp from `from` on, and from the log's start, that can be read. The
    /// log may start within the batch, behind the record with that timestamp. None when there is no record.
    pub async fn batch_of_max_time(&self, slot: Slot, from: i64) -> Result<Option<ReadData>, ReadError> {
        let mut newest_ms = i64::MIN;
        for base in self.segments_with_records(slot, from)? {
            self.load_index(slot, base).await?;
            let unread = {
                let state = self.state();
                let log = &state.live(slot).ok_or(ReadError::UnknownPartition)?.log;
                let Some(at) = log.find_base(base) else { continue };
                let segment = &log.segments[at];
                let Some(index) = &segment.index else { continue };
                let from = log.log_start.max(from);
                let (start, end) = (base.max(from), segment.end_offset.min(log.durable.offset));
                if (start..end).contains(&index.max_timestamp_batch()) {
                    newest_ms = newest_ms.max(index.max_timestamp_ms());
                    continue;
                }
                // The batch that the index names is not asked for, deleted, or not durable yet.
                let (known_ms, known_to) = match from <= base {
                    true => index.max_timestamp_up_to(base, end),
                    false => (i64::MIN, start),
                };
                newest_ms = newest_ms.max(known_ms);
                known_to..end
            };
            let mut offset = unread.start;
            while offset < unread.end {
                let data = self.read_any(slot, offset).await?;
                let Some(end) = data.end_offset() else { break };
                let batches = data.slices.iter().flat_map(|slice| batches(slice.as_bytes()));
                let with_records = batches.filter(|(_, batch)| batch.record_count() > 0);
                newest_ms = with_records.fold(newest_ms, |newest, (_, batch)| newest.max(batch.max_timestamp()));
                offset = end;
            }
        }
        if newest_ms == i64::MIN { Ok(None) } else { self.batch_at_time(slot, from, newest_ms).await }
    }

    /// First offsets of the segments that hold records at or behind `from` which can be read, oldest first.
    fn segments_with_records(&self, slot: Slot, from: i64) -> Result<Vec<i64>, ReadError> {
        let state = self.state();
        let log = &state.live(slot).ok_or(ReadError::UnknownPartition)?.log;
        let from = log.log_start.max(from);
        Ok(log.segments.iter().filter(|s| s.end_pos > 0 && s.end_offset > from).map(|s| s.base).collect())
    }

    /// The segments of a partition that hold records, oldest first: the first offset of each that can be read, and its
    /// largest timestamp, in ms.
    pub async fn segment_starts(&self, slot: Slot) -> Result<Vec<(i64, i64)>, ReadError> {
        let bases = self.segments_with_records(slot, 0)?;
        let mut starts = Vec::with_capacity(bases.len());
        for base in bases {
            self.load_index(slot, base).await?;
            let state = self.state();
            let log = &state.live(slot).ok_or(ReadError::UnknownPartition)?.log;
            let Some(at) = log.find_base(base) else { continue };
            let Some(index) = &log.segments[at].index else { continue };
            starts.push((base.max(log.log_start), index.max_timestamp_ms()));
        }
        Ok(starts)
    }

    /// One read from wherever the bytes are.
    pub async fn read_any(&self, slot: Slot, offset: i64) -> Result<ReadData, ReadError> {
        let max_bytes = self.state().options.limits.chunk_bytes / 2;
        match self.read(slot, Isolation::ReadUncommitted, offset, max_bytes, true)? {
            Read::Hot(data) => Ok(data),
            Read::Cold => self.read_cold(slot, Isolation::ReadUncommitted, offset, max_bytes, true).await,
        }
    }

    /// The leader epoch asked for, or the largest below it, and the offset at which it ends (KIP-320). None when the
    /// partition knows no epoch up to it.
    #[must_use]
    pub fn end_of_epoch(&self, slot: Slot, epoch: i32) -> Option<(i32, i64)> {
        let state = self.state();
        let partition = state.live(slot)?;
        let after = partition.epochs.partition_point(|&(e, _)| e <= epoch);
        let (found, _) = *partition.epochs.get(after.checked_sub(1)?)?;
        let end = partition.epochs.get(after).map_or(partition.log.durable.offset, |&(_, start)| start);
        Some((found, end))
    }

    /// Builds the index of the segment that holds `offset` from its file, if it has none.
    pub(crate) async fn load_index(&self, slot: Slot, offset: i64) -> Result<(), ReadError> {
        loop {
            let (base, end, generation, file, interval) = {
                let state = self.state();
                let log = &state.live(slot).ok_or(ReadError::UnknownPartition)?.log;
                if offset < log.segments[0].base {
                    return Err(ReadError::OutOfRange);
                }
                let segment = &log.segments[log.find_offset(offset)];
                if segment.index.is_some() {
                    return Ok(());
                }
                let interval = state.options.limits.index_interval_bytes;
                (segment.base, segment.end_pos, segment.generation, segment.file.clone(), interval)
            };
            let Some(file) = file else {
                self.segment_file(slot, base, 0).await.map_err(ReadError::Io)?.ok_or(ReadError::OutOfRange)?;
                continue;
            };
            let mut index = Index::new();
            let mut first_timestamp_ms = None;
            let mut scan = Scan::new(file, base, end, self.state().options.limits.chunk_bytes);
            while let Some((pos, piece)) = scan.next(&self.shared.reactor).await.map_err(ReadError::Io)? {
                for (from, batch) in batches(piece.as_bytes()) {
                    index.note_batch(base, &batch, pos + from as u64, interval);
                    first_timestamp_ms.get_or_insert(batch.max_timestamp());
                }
            }
            let mut state = self.state_mut();
            if let Some(partition) = state.live_mut(slot)
                && let Some(at) = partition.log.find_base(base)
                && partition.log.segments[at].generation == generation
            {
                let segment = &mut partition.log.segments[at];
                segment.index.get_or_insert(index);
                segment.first_timestamp_ms = segment.first_timestamp_ms.or(first_timestamp_ms);
            }
        }
    }

    /// Reads up to `wanted` bytes of a segment from `cold.pos` on into a chunk. Returns them with where they begin. They
    /// are fewer where the file is too short, and where memory does not hold the segment's rest any more.
    async fn read_range(&self, slot: Slot, cold: &Cold, wanted: usize) -> Result<(Slice, usize), ReadError> {
        let start = Segment::block_floor(cold.pos);
        let from = (cold.pos - start) as usize;
        let stop = (cold.pos + wanted as u64).min(cold.end);
        let file_stop = stop.min(cold.flushed);
        let total = (stop - start) as usize + BLOCK_BYTES;
        let large = (total > self.state().options.limits.chunk_bytes).then_some(total);
        let mut writer = loop {
            let taken = self.state_mut().take_chunk(large);
            match taken {
                Ok(writer) => break writer,
                Err(_) => {
                    if let Some(failed) = self.failure() {
                        return Err(ReadError::Io(failed.into()));
                    }
                    self.shared.pressure.notify();
                    self.wait_capacity().await;
                }
            }
        };
        if file_stop > start {
            let file = cold.file.as_ref().expect("what is flushed has a file");
            let len = (file_stop - start).next_multiple_of(BLOCK_BYTES as u64) as usize;
            let (result, filled) = self.shared.reactor.read_at(file, start, writer, len).await;
            writer = filled;
            if let Err(error) = result {
                self.state_mut().pool.retire(writer);
                return Err(ReadError::Io(error));
            }
        }
        let mut state = self.state_mut();
        let mut have = ((file_stop.max(start) - start) as usize).min(writer.filled());
        // The rest beyond the last whole block is not in the file: it continues there from memory.
        if start + have as u64 == cold.flushed && stop > cold.flushed && writer.filled() == have {
            let rest = state.live(slot).and_then(|p| p.log.tail_from(cold.base, cold.flushed)).map(<[u8]>::to_vec);
            if let Some(rest) = rest {
                writer.append(&rest[..rest.len().min((stop - cold.flushed) as usize)]);
                have = writer.filled();
            }
        }
        let slice = writer.slice(0, have);
        state.pool.retire(writer);
        Ok((slice, from.min(have)))
    }
}

impl State {
    fn locate(&self, slot: Slot, isolation: Isolation, offset: i64) -> Result<Cold, ReadError> {
        let partition = self.live(slot).ok_or(ReadError::UnknownPartition)?;
        let log = &partition.log;
        if offset < log.log_start || offset < log.segments[0].base || offset >= log.durable.offset {
            return Err(ReadError::OutOfRange);
        }
        let segment = &log.segments[log.find_offset(offset)];
        let index = segment.index.as_ref().ok_or(ReadError::OutOfRange)?;
        let end = if segment.base == log.durable.segment_base { log.durable.pos } else { segment.end_pos };
        Ok(Cold {
            file: segment.file.clone(),
            base: segment.base,
            generation: segment.generation,
            sealed_to: segment.sealed.then_some(segment.end_offset),
            pos: index.position_of(segment.base, offset),
            end,
            flushed: segment.flushed,
            limit: partition.visible_end(isolation),
        })
    }
}

/// Reads a segment's file from front to back, in pieces of whole batches, through memory of its own.
pub(crate) struct Scan {
    file: File,
    base: i64,
    end: u64,
    pos: u64,
    scratch: Option<ChunkWriter>,
}

impl Scan {
    /// A scan of the first `end` bytes of a segment. `file` may be open for direct I/O.
    pub(crate) fn new(file: File, base: i64, end: u64, chunk_bytes: usize) -> Scan {
        Scan::starting_at(file, base, 0, end, chunk_bytes)
    }

    /// A scan from the batch at position `pos` on.
    pub(crate) fn starting_at(file: File, base: i64, pos: u64, end: u64, chunk_bytes: usize) -> Scan {
        let whole = Segment::block_ceil(end.saturating_sub(Segment::block_floor(pos))).max(BLOCK_BYTES as u64);
        let scratch = one_chunk(whole.min(chunk_bytes as u64) as usize);
        Scan { file, base, end, pos, scratch: Some(scratch) }
    }

    /// The next batches and their position in the file; none at the end. Bytes that are no batch end the scan as an
    /// error of the kind `InvalidData`. The slice must be dropped before the next call.
    pub(crate) async fn next(&mut self, reactor: &Reactor) -> io::Result<Option<(u64, Slice)>> {
        while self.pos < self.end {
            let mut scratch = self.scratch.take().expect("put back below");
            assert!(scratch.clear(), "the last piece is still held");
            let start = Segment::block_floor(self.pos);
            let len = Segment::block_ceil(self.end - start).min(scratch.capacity() as u64) as usize;
            let (result, scratch) = reactor.read_at(&self.file, start, scratch, len).await;
            let have = (scratch.filled() as u64).min(self.end - start) as usize;
            let from = ((self.pos - start) as usize).min(have);
            let piece = scratch.slice(from, have);
            self.scratch = Some(scratch);
            result?;
            let whole = batches(piece.as_bytes()).last().map_or(0, |(at, batch)| at + batch.total_len());
            if whole > 0 {
                let pos = self.pos;
                self.pos += whole as u64;
                return Ok(Some((pos, piece.part(0, whole))));
            }
            let needed = batch_len(piece.as_bytes()).unwrap_or(0);
            let is_cut = have < len.min((self.end - start) as usize);
            if needed <= piece.len() || self.pos + needed as u64 > self.end || is_cut {
                let message = format!("segment {}: no batch at position {}", self.base, self.pos);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            drop(piece);
            self.scratch = Some(one_chunk((needed + from).next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES));
        }
        Ok(None)
    }
}

/// Memory outside of the pool, for what happens at start-up and off the request path.
pub(crate) fn one_chunk(bytes: usize) -> ChunkWriter {
    ChunkPool::new(bytes, 2 * bytes).take().expect("a fresh pool has a chunk")
}

enum Found {
    /// The batch that should hold the offset does not.
    Broken,
    Batches {
        start: usize,
        end: usize,
    },
    /// Neither found nor excluded within the bytes given; the search goes on `skip` bytes further.
    Further {
        skip: usize,
    },
}

/// Finds the batch that holds `offset`, or the first one behind it where there is none any more, and as many after it as
/// fit.
fn find(bytes: &[u8], offset: i64, cold: &Cold, max_bytes: usize, at_least_one: bool) -> Found {
    let mut start = None;
    let mut end = 0;
    let mut next = offset;
    for (at, batch) in batches(bytes) {
        if batch.last_offset() < offset {
            end = at + batch.total_len();
            continue;
        }
        // The first batch may begin before the offset.
        let follows = match start {
            None if batch.base_offset() <= offset => true,
            Some(_) if batch.base_offset() == next => true,
            _ => batch.base_offset() > next && is_behind_gap(&batch, cold),
        };
        let first = *start.get_or_insert(at);
        let with = at + batch.total_len();
        let fits = with - first <= max_bytes || (at_least_one && at == first);
        if batch.base_offset() >= cold.limit || !fits || !follows {
            return if at == first && !follows { Found::Broken } else { Found::Batches { start: first, end: at } };
        }
        end = with;
        next = batch.last_offset().wrapping_add(1);
    }
    match start {
        Some(start) => Found::Batches { start, end },
        None => Found::Further { skip: end },
    }
}

/// Whether a batch that does not follow the one before it is in its place: compaction may have removed what was there. A
/// write that has gone astray does not leave a whole batch of this segment.
fn is_behind_gap(batch: &BatchView<'_>, cold: &Cold) -> bool {
    cold.sealed_to.is_some_and(|end_offset| batch.last_offset() < end_offset) && batch.crc_matches()
}

/// The whole batches at the start of `bytes`, each with its position.
pub(crate) fn batches(bytes: &[u8]) -> impl Iterator<Item = (usize, BatchView<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let batch = BatchView::parse(&bytes[at..]).ok()?;
        let from = at;
        at += batch.total_len();
        Some((from, batch))
    })
}

/// The length of the batch that begins at `bytes`, by its header, whether or not all of it is there.
fn batch_len(bytes: &[u8]) -> Option<usize> {
    let field: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
    let len = usize::try_from(i32::from_be_bytes(field)).ok()? + 12;
    (len >= MIN_BATCH_BYTES).then_some(len)
}
