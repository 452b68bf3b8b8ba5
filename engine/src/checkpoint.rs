//! The checkpoint: moves journaled bytes into segments, so that journal files and memory can be used again, and
//! completes segments that have been rolled.
//!
//! It works through the partitions in rounds. A round copies what fits from memory into one chunk and writes the pieces, a
//! few at once: the commits of appends share the disk with them. When appends wait for the checkpoint, or soon will, it
//! writes all at once. After some rounds all their files are synced at once: the file system turns these syncs into few
//! commits of its own, and the commits of appends wait for few flushes that are not theirs. Only whole blocks go to a
//! growing segment; the rest is carried, written again into a newer journal group, so that the journal always holds every
//! partition's newest end, and a durable block of a segment is never written again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::pin::Pin;

use crate::cache::{ChunkWriter, Slice};
use crate::io::{File, Open, WriteSync};
use crate::join::all;
use crate::journal::{Entry, EntryKind};
use crate::limits::{BLOCK_BYTES, MEMORY_PAUSE_NS, ROUNDS_PER_SYNC};
use crate::log::Mark;
use crate::reactor::Reactor;
use crate::read::one_chunk;
use crate::segment::{self, Segment};
use crate::store::{Durability, Slot, State, Store};

/// One piece of a segment on its way to the file.
struct Piece {
    slot: Slot,
    base: i64,
    pos: u64,
    bytes: Slice,
    written: Written,
}

/// How far a segment's file has been written, and not yet synced.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// `flushed` once it is synced.
    to: u64,
    /// The segment is complete with this.
    seals: bool,
}

/// What has been written since the last sync, by segment.
type Unsynced = BTreeMap<(Slot, i64), (File, Written)>;

impl Store {
    /// Runs checkpoints whenever journal or memory run short or a segment was rolled, for as long as the store lives.
    /// An error is one of the disk: see [`Store::run`].
    pub async fn run_checkpoints(&self) -> io::Error {
        loop {
            self.shared.pressure.wait().await;
            if let Some(failed) = self.failure() {
                return failed.into();
            }
            let was_short = self.state().memory_short;
            let has_freed = match self.checkpoint(false).await {
                Ok(has_freed) => has_freed,
                Err(error) => return self.fail(&error).into(),
            };
            // Readers hold what this checkpoint could not free, and give it back without a word. Without a pause whoever
            // wants it would ask for a checkpoint each turn.
            if was_short && !has_freed {
                self.pause().await;
            }
        }
    }

    async fn pause(&self) {
        let until_ns = self.shared.reactor.now_ns() + MEMORY_PAUSE_NS;
        self.shared.reactor.sleep_until(until_ns).await;
    }

    /// Flushes what has to be flushed; `everything` means all that is durable. Returns whether anything was.
    pub(crate) async fn checkpoint(&self, everything: bool) -> io::Result<bool> {
        let _turn = self.shared.checkpoint_turn.enter().await;
        let journal = &self.shared.journal;
        // A file may be full of groups whose commit is still being written: what they hold cannot be flushed yet.
        let durable_group = self.state().durable_group;
        let full = durable_group.and_then(|newest| journal.newest_full(newest));
        let full = full.filter(|_| everything || journal.wants_checkpoint());
        let (slots, newest) = {
            let mut state = self.state_mut();
            let memory_short = std::mem::take(&mut state.memory_short);
            let newest = state.gather.seq;
            let flush_to = if everything || memory_short { Some(newest) } else { full };
            (state.start_flush(flush_to), newest)
        };
        let flushed = self.flush(&slots).await;
        self.state_mut().end_flush(&slots);
        let has_flushed = flushed?;
        if let Some(target) = full {
            let oldest_needed = self.state().oldest_needed_after_flush(target);
            self.carry_below(oldest_needed).await?;
            journal.free_below(&self.shared.reactor, oldest_needed).await?;
        }
        debug_assert!(newest <= self.state().gather.seq);
        // Where the journal is still short a commit is in flight, whose end frees it, and wakes the waiters.
        if !journal.is_short() {
            self.state_mut().wake_capacity();
        }
        // A commit that lacked memory can be completed now.
        self.shared.work.notify();
        Ok(has_flushed || full.is_some())
    }

    /// Writes what is durable of these partitions to their segments, whole blocks, and completes rolled segments.
    /// Returns whether there was anything to write.
    async fn flush(&self, slots: &[Slot]) -> io::Result<bool> {
        let mut staging = self.state_mut().staging.take().expect("checkpoints take turns");
        let result = self.flush_through(&mut staging, slots).await;
        self.state_mut().staging = Some(staging);
        result
    }

    async fn flush_through(&self, staging: &mut ChunkWriter, slots: &[Slot]) -> io::Result<bool> {
        let mut next = 0;
        let mut has_written = false;
        let mut is_done = false;
        while !is_done {
            let mut unsynced = Unsynced::new();
            for _ in 0..ROUNDS_PER_SYNC {
                assert!(staging.clear(), "a write of the last round still holds the chunk");
                let pieces = self.state().plan(slots, &mut next, &unsynced, staging);
                is_done = pieces.is_empty();
                if is_done {
                    break;
                }
                has_written = true;
                self.write_pieces(pieces, &mut unsynced).await?;
            }
            self.sync_segments(&unsynced).await?;
        }
        Ok(has_written)
    }

    async fn write_pieces(&self, pieces: Vec<Piece>, unsynced: &mut Unsynced) -> io::Result<()> {
        let mut writes: Vec<Pin<Box<dyn Future<Output = io::Result<()>> + '_>>> = Vec::new();
        let most = self.state().options.limits.checkpoint_bytes;
        let mut bytes_at_once = 0;
        for Piece { slot, base, pos, bytes, written } in pieces {
            let end = pos + bytes.len() as u64;
            // A partition that was deleted meanwhile has nothing left to write.
            let Some(file) = self.segment_file(slot, base, end).await? else { continue };
            unsynced.insert((slot, base), (file.clone(), written));
            for start in (0..bytes.len()).step_by(most) {
                let part = bytes.part(start, bytes.len().min(start + most));
                // A commit that comes now finds no more than this before it in the disk's queue.
                if bytes_at_once + part.len() > most && !self.is_urgent() {
                    all(std::mem::take(&mut writes)).await?;
                    bytes_at_once = 0;
                }
                bytes_at_once += part.len();
                let (file, pos) = (file.clone(), pos + start as u64);
                writes.push(Box::pin(async move { self.write_blocks(&file, pos, &part, WriteSync::No).await }));
            }
        }
        all(writes).await
    }

    /// Appends wait for what the checkpoint frees, or will soon; or no commit needs the disk.
    fn is_urgent(&self) -> bool {
        !self.shared.journal.is_direct()
            || self.shared.journal.is_nearly_short()
            || !self.state().capacity_waiters.is_empty()
    }

    /// Makes durable what was written, and takes note of it.
    async fn sync_segments(&self, unsynced: &Unsynced) -> io::Result<()> {
        let reactor = &self.shared.reactor;
        for (file, written) in unsynced.values().filter(|(_, written)| written.seals) {
            // The last block was padded with zeros, and space may have been set aside beyond it.
            reactor.truncate(file, written.to).await?;
        }
        all(unsynced.values().map(|(file, _)| Box::pin(async move { reactor.fdatasync(file).await }) as _).collect())
            .await?;
        // Oldest first, and each one by itself: where the disk is full retention can remove those that are complete.
        for (&(slot, base), (_, written)) in unsynced {
            if written.seals {
                self.write_aborted(slot, base).await?;
                self.write_snapshots(slot, base).await?;
                self.remove_reused_marker(slot, base).await?;
            }
            self.note_synced(slot, base, written);
        }
        Ok(())
    }

    fn note_synced(&self, slot: Slot, base: i64, written: &Written) {
        let state = &mut *self.state_mut();
        let Some(partition) = state.partition_mut(slot) else { return };
        let Some(at) = partition.log.find_base(base) else { return };
        let segment = &mut partition.log.segments[at];
        segment.flushed = segment.flushed.max(written.to);
        segment.sealed = written.seals;
        segment.check();
        partition.has_sealed |= written.seals;
        partition.log.forget_flushed_tail();
        if written.seals {
            state.completed.insert(slot);
            self.shared.retention_wake.notify();
        }
    }

    /// A segment in a file that had been another's has been cut to its length: there is nothing else in the file now.
    async fn remove_reused_marker(&self, slot: Slot, base: i64) -> io::Result<()> {
        let _turn = self.shared.names_turn.enter().await;
        let marker = {
            let mut state = self.state_mut();
            let Some(partition) = state.partition_mut(slot) else { return Ok(()) };
            let Some(at) = partition.log.find_base(base) else { return Ok(()) };
            let was_reused = std::mem::take(&mut partition.log.segments[at].reused);
            was_reused.then(|| segment::reused_path(&partition.log.dir, base))
        };
        match marker {
            Some(marker) => self.shared.reactor.remove_file(&marker).await,
            None => Ok(()),
        }
    }

    /// Writes the producer states that were taken when the segments up to the one after `base` began: what they count
    /// is durable. Recovery relies on it that no segment is sealed before the state behind it is durable.
    async fn write_snapshots(&self, slot: Slot, base: i64) -> io::Result<()> {
        loop {
            let due = {
                let mut state = self.state_mut();
                let Some(partition) = state.partition_mut(slot) else { return Ok(()) };
                let next = partition.log.find_base(base).and_then(|at| partition.log.segments.get(at + 1));
                let is_due = next.zip(partition.snapshots.first()).is_some_and(|(next, first)| first.0 <= next.base);
                is_due.then(|| partition.snapshots.remove(0))
            };
            let Some((began, bytes)) = due else { return Ok(()) };
            let bytes = checksummed(&bytes);
            self.when_there_is_space(async || {
                let _turn = self.shared.names_turn.enter().await;
                let Some(dir) = self.state().partition(slot).map(|p| p.log.dir.clone()) else { return Ok(()) };
                write_file(&self.shared.reactor, &segment::producers_path(&dir, began), &bytes).await
            })
            .await?;
        }
    }

    /// Writes, into newer groups, the newest state of every partition that has it in a group below `oldest_needed`, and says
    /// that those are not needed.
    async fn carry_below(&self, oldest_needed: u64) -> io::Result<()> {
        let slots: Vec<Slot> = {
            let state = self.state();
            let needs = |p: &crate::partition::Partition| {
                p.has_sealed
                    || p.dirty_since.is_some_and(|seq| seq < oldest_needed)
                    || p.entry_seq.is_some_and(|seq| seq < oldest_needed)
            };
            (0..state.partitions.len() as Slot).filter(|&slot| state.partition(slot).is_some_and(needs)).collect()
        };
        // The new bound is durable, with what it relies on, before any older group may be overwritten.
        let durability = self.state().options.durability;
        match durability {
            Durability::Disk => self.write_carried(&slots, Some(oldest_needed), true).await?,
            Durability::Os => {
                // A header with the new bound may come to the disk by itself, and recovery believes it: so all that it
                // relies on is there first.
                self.write_carried(&slots, None, true).await?;
                self.sync_needed(oldest_needed).await?;
                self.write_carried(&[], Some(oldest_needed), true).await?;
                self.sync_committed(oldest_needed).await?;
            }
        }
        let mut state = self.state_mut();
        for slot in slots {
            if let Some(partition) = state.partition_mut(slot) {
                // What was dirty below has been flushed or carried.
                partition.dirty_since = partition.dirty_since.map(|seq| seq.max(oldest_needed));
            }
        }
        Ok(())
    }

    /// Adds an entry with the newest durable state of each partition to the journal, and waits until it is durable.
    pub(crate) async fn carry_slots(&self, slots: &[Slot]) -> io::Result<()> {
        self.write_carried(slots, None, false).await?;
        // Others rely on it: files are removed or used again. So it is on the disk in either class.
        self.sync_committed(0).await
    }

    /// Commits an entry with the newest state of each partition, and the word that groups below `oldest_needed` are not
    /// needed. `in_turn`: see [`Store::make_memory`].
    async fn write_carried(&self, slots: &[Slot], oldest_needed: Option<u64>, in_turn: bool) -> io::Result<()> {
        let mut next = 0;
        loop {
            let (complete, newest) = {
                let mut state = self.state_mut();
                while next < slots.len() && state.carry(slots[next]) {
                    next += 1;
                }
                let complete = next == slots.len() && oldest_needed.is_none_or(|oldest| state.declare_needed(oldest));
                (complete, state.newest_commit())
            };
            self.shared.work.notify();
            if complete {
                return Ok(self.wait_commit(newest).await?);
            }
            self.make_memory(in_turn).await?;
        }
    }

    /// Waits until there is a chance of memory. No commit can be waited for here: it may be lacking the same memory.
    /// `in_turn`: the caller is the checkpoint, for which nobody else flushes.
    async fn make_memory(&self, in_turn: bool) -> io::Result<()> {
        let mut has_freed = false;
        if in_turn {
            let slots = {
                let mut state = self.state_mut();
                let newest = state.gather.seq;
                state.start_flush(Some(newest))
            };
            let flushed = self.flush(&slots).await;
            self.state_mut().end_flush(&slots);
            has_freed = flushed?;
        } else {
            self.state_mut().memory_short = true;
            self.shared.pressure.notify();
            self.wait_capacity().await;
        }
        if let Some(failed) = self.failure() {
            return Err(failed.into());
        }
        self.shared.work.notify();
        if in_turn && !has_freed {
            self.pause().await;
        }
        Ok(())
    }
}

impl State {
    /// The partitions to flush: those with bytes in journal groups at or below `flush_to`, and those with a rolled
    /// segment. They stay off the direct path until [`State::end_flush`].
    fn start_flush(&mut self, flush_to: Option<u64>) -> Vec<Slot> {
        let mut slots = Vec::new();
        for (slot, partition) in self.partitions.iter_mut().enumerate() {
            let Some(partition) = partition.as_deref_mut() else { continue };
            let dirty = flush_to.is_some_and(|to| partition.dirty_since.is_some_and(|seq| seq <= to));
            if dirty || partition.log.has_unsealed() {
                partition.flushing = true;
                slots.push(slot as Slot);
            }
        }
        slots
    }

    fn end_flush(&mut self, slots: &[Slot]) {
        for &slot in slots {
            if let Some(partition) = self.partition_mut(slot) {
                partition.flushing = false;
            }
        }
    }

    /// The oldest group that is needed when all that was dirty up to group `target` has been flushed. What the journal held of
    /// a partition that goes the direct path from now on is not flushed but written by the first commit there, which may
    /// be under way: its groups are needed until that commit has ended.
    fn oldest_needed_after_flush(&self, target: u64) -> u64 {
        let under_way = self.partitions.iter().flatten().filter_map(|partition| {
            let since = partition.dirty_since.filter(|seq| *seq <= target)?;
            let durable = partition.log.durable;
            partition.direct.as_ref().filter(|direct| direct.segment_base == durable.segment_base)?;
            let segment = &partition.log.segments[partition.log.find_base(durable.segment_base)?];
            (segment.flushed < Segment::block_floor(durable.pos)).then_some(since)
        });
        under_way.min().unwrap_or(target + 1)
    }

    /// Fills the staging chunk with pieces of the partitions from `slots[*next]` on, behind what was written already.
    fn plan(&self, slots: &[Slot], next: &mut usize, unsynced: &Unsynced, staging: &mut ChunkWriter) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(&slot) = slots.get(*next) {
            let Some(partition) = self.partition(slot) else {
                *next += 1;
                continue;
            };
            let durable = partition.log.durable;
            // A commit writes the blocks of a segment on the direct path, but not those of the rolled one before it.
            let is_direct = |base| partition.direct.as_ref().is_some_and(|direct| direct.segment_base == base);
            for segment in partition.log.segments.iter().filter(|s| !s.sealed) {
                let written = unsynced.get(&(slot, segment.base)).map(|(_, written)| *written);
                if written.is_some_and(|written| written.seals) {
                    continue;
                }
                let from = written.map_or(segment.flushed, |written| written.to);
                let complete = segment.rolled && durable.segment_base > segment.base;
                let to = match complete {
                    true => segment.end_pos,
                    false if durable.segment_base != segment.base || is_direct(segment.base) => break,
                    false => Segment::block_floor(durable.pos),
                };
                if from == to && !complete {
                    break;
                }
                let room = staging.remaining() as u64;
                let end = to.min(from + room);
                // Only the last piece of a complete segment may end inside a block.
                let end = if end < to { Segment::block_floor(end) } else { end };
                let padded = Segment::block_ceil(end);
                if (end == from && end < to) || padded - from > room {
                    return pieces;
                }
                let start = staging.filled();
                partition.log.copy_from_memory(segment.base, from..end, staging);
                staging.pad_to(start + (padded - from) as usize);
                pieces.push(Piece {
                    slot,
                    base: segment.base,
                    pos: from,
                    bytes: staging.slice(start, staging.filled()),
                    written: Written { to: end, seals: complete && end == to },
                });
                if end < to {
                    return pieces;
                }
            }
            *next += 1;
        }
        pieces
    }

    /// Lets the gathering group say that groups below `oldest` are covered. False when memory is short.
    fn declare_needed(&mut self, oldest: u64) -> bool {
        let has_room = self.make_gather_room(0).is_ok();
        if has_room {
            self.gather.declare_needed(oldest);
        }
        has_room
    }

    /// Adds a partition's newest durable state to the gathering group: that of the segment which holds the durable end,
    /// and of those before it that have been rolled since the last flush and are not complete. False when memory is
    /// short.
    fn carry(&mut self, slot: Slot) -> bool {
        let Some(partition) = self.partition(slot) else { return true };
        let durable = partition.log.durable;
        let open = partition.log.segments.iter().filter(|s| !s.sealed && s.base <= durable.segment_base);
        let bases: Vec<i64> = open.map(|s| s.base).collect();
        let mut first_seq = None;
        for base in bases {
            if self.make_gather_room(BLOCK_BYTES).is_err() {
                return false;
            }
            let partition = self.partition_mut(slot).expect("making room removes no partition");
            let segment = &partition.log.segments[partition.log.find_base(base).expect("found above")];
            let newest = match base == durable.segment_base {
                true => durable,
                false => Mark { offset: segment.end_offset, segment_base: base, pos: segment.end_pos },
            };
            let pos = segment.flushed;
            let end = newest.pos.min(pos + BLOCK_BYTES as u64);
            let rest = partition.log.memory(base, pos..end);
            let entry = Entry {
                key: partition.key,
                kind: if base == durable.segment_base { EntryKind::Carry } else { EntryKind::CarryOpen },
                segment_base: base,
                pos,
                data_off: 0,
                data_len: 0,
                batch_pos: end,
                digest: 0,
                batch_offset: newest.offset,
                // Bytes beyond one block are in newer groups, with their offsets.
                end_offset: if end == newest.pos { newest.offset } else { base },
                log_start: partition.log.log_start,
            };
            first_seq.get_or_insert(self.gather.seq);
            self.gather.add(entry, &rest, |_| ());
        }
        if let Some(partition) = self.partition_mut(slot) {
            partition.entry_seq = first_seq.or(partition.entry_seq);
            partition.has_sealed = false;
        }
        true
    }
}

/// Writes a small file in one go: under another name, synced, then renamed, then its directory synced.
pub(crate) async fn write_file(reactor: &Reactor, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let how = Open { create: true, write: true, ..Open::default() };
    let file = reactor.open(&temporary, how).await?;
    reactor.truncate(&file, 0).await?;
    let mut chunk = one_chunk(bytes.len().next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES));
    reactor.write_at(&file, 0, chunk.append(bytes)).await?;
    reactor.fsync(&file).await?;
    reactor.rename(&temporary, path).await?;
    match path.parent() {
        Some(dir) => reactor.sync_dir(dir).await,
        None => Ok(()),
    }
}

/// The bytes behind their CRC-32C, little-endian.
pub(crate) fn checksummed(bytes: &[u8]) -> Vec<u8> {
    let mut out = wire::batch::crc32c(bytes).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}
