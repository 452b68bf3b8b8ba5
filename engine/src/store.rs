//! One core's store: its partitions, the commit that gathers their appends, and the memory that holds them.
//!
//! An append is a plain call: it checks the batch, assigns offsets and copies the bytes into a chunk. Everything that
//! waits for the disk is a task on the core's reactor: the commit loop (`commit`), which makes appends durable in
//! groups; the checkpoint (`checkpoint`), which moves journaled bytes into segments; retention; and reads of segments
//! (`read`). None of them holds the state borrowed while it waits.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Waker;

use wire::batch::{self, BatchView};

use crate::cache::{ChunkPool, ChunkWriter};
use crate::compaction::CompactionControl;
use crate::direct::{Direct, DirectDone, DirectWrite};
use crate::gather::{FullChunk, Gather};
use crate::io::File;
use crate::join::Turnstile;
use crate::journal::{Entry, EntryKind, digest};
use crate::journal_files::JournalFiles;
use crate::limits::{BLOCK_BYTES, DIRECT_START_CHUNKS, Limits, READ_CHUNKS};
use crate::pace::Pace;
use crate::partition::{AppendError, Appended, Origin, Partition, PartitionConfig, Placed};
use crate::producer::Sequence;
use crate::reactor::{Notify, Reactor};
use crate::read::Isolation;
use crate::segment::Segment;
use crate::spares::Spares;
use crate::transactions::TransactionGuard;

/// Index of a partition in its core's store.
pub type Slot = u32;

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The record survives a power cut: it was written, and a sync that began after that has ended.
    Disk,
    /// The record survives the death of the process: the kernel has it. What Kafka promises by default.
    Os,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory of the broker; shared by all cores.
    pub dir: PathBuf,
    /// The core's number, from 0.
    pub core: u16,
    /// From [`crate::recovery::Recovered`].
    pub incarnation: u64,
    /// The class of all topics that do not ask for more.
    pub durability: Durability,
    /// A thread touches the pool's memory before it is needed, with a schedule that no simulation knows.
    pub memory_ahead: bool,
    /// The bounds.
    pub limits: Limits,
}

/// One core's store. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Rc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) reactor: Reactor,
    pub(crate) state: RefCell<State>,
    pub(crate) journal: JournalFiles,
    /// Rings when there is something to commit.
    pub(crate) work: Notify,
    /// Rings when there is so much to commit that it should not wait for the end of a commit.
    pub(crate) crowded: Notify,
    /// Rings when journal or memory run short, or a segment has been rolled.
    pub(crate) pressure: Notify,
    /// Taken by a commit until its journal groups have their places.
    pub(crate) placing_turn: Turnstile,
    pub(crate) checkpoint_turn: Turnstile,
    /// Taken to open, make, rename or remove files of partitions by name. A name may be another partition's as soon as
    /// its directory was renamed, so whoever uses one makes sure in its turn that the partition is still there.
    pub(crate) names_turn: Turnstile,
    /// In the class `Os`: syncs of what commits have written.
    pub(crate) syncing_turn: Turnstile,
    pub(crate) spares: Spares,
    /// Rings when segments have been completed, or a spare file has come.
    pub(crate) retention_wake: Notify,
    pub(crate) compaction: CompactionControl,
}

/// Whether the store accepts appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    Running,
    /// Space could not be allocated. Appends are refused until it can.
    DiskFull,
    /// The store was closed in good order.
    Closed,
    /// A write or a sync failed. Nothing is acknowledged any more.
    Failed(String),
}

pub(crate) struct State {
    pub(crate) options: StoreOptions,
    pub(crate) partitions: Vec<Option<Box<Partition>>>,
    pub(crate) gather: Gather,
    pub(crate) pool: ChunkPool,
    /// Nothing could be evicted, because segments lack the oldest batches.
    pub(crate) memory_short: bool,
    /// A chunk that only the completion of a commit may take.
    pub(crate) reserve: Option<ChunkWriter>,
    /// The checkpoint's own chunk, so that it can free memory when there is none.
    pub(crate) staging: Option<ChunkWriter>,
    /// Full chunks whose batches readers may still want, oldest first.
    pub(crate) cached: VecDeque<FullChunk>,
    /// Partitions in the gathering commit.
    pub(crate) touched: Vec<Slot>,
    /// Partitions in the commit that is being sealed.
    pub(crate) sealed: Vec<Slot>,
    pub(crate) direct_writes: Vec<DirectWrite>,
    pub(crate) direct_done: Vec<DirectDone>,
    pub(crate) direct_partitions: usize,
    /// The gathering commit must be synced whatever the durability class.
    pub(crate) must_sync: bool,
    /// Partitions of which segments have been completed since retention was applied to them.
    pub(crate) completed: BTreeSet<Slot>,
    /// Files of segments that were written without a sync, in the class `Os`.
    pub(crate) unsynced_segments: BTreeMap<(Slot, i64), File>,
    pub(crate) gathered: Gathered,
    pub(crate) pace: Pace,
    /// The newest durable commit.
    pub(crate) committed: u64,
    /// The newest journal group of a durable commit.
    pub(crate) durable_group: Option<u64>,
    pub(crate) health: Health,
    pub(crate) commit_waiters: Vec<Waker>,
    pub(crate) capacity_waiters: Vec<Waker>,
}

/// What the gathering commit has been given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gathered {
    /// Batches.
    pub(crate) appends: u32,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Those of them that go through the journal.
    pub(crate) journaled: u64,
}

impl Gathered {
    fn add(&mut self, bytes: u64, direct: bool) {
        self.appends += 1;
        self.bytes += bytes;
        self.journaled += if direct { 0 } else { bytes };
    }
}

impl Store {
    /// Opens the store of one core, without partitions. [`Store::adopt`] and [`Store::create_partition`] add them;
    /// [`Store::run`] must be spawned for anything to become durable.
    pub async fn open(reactor: Reactor, options: StoreOptions) -> std::io::Result<Store> {
        let salt = reactor.random();
        let journal = JournalFiles::open(&reactor, &options, salt).await?;
        let spares = Spares::new(&options);
        let limits = &options.limits;
        let mut pool = ChunkPool::new(limits.chunk_bytes, limits.pool_bytes);
        if options.memory_ahead {
            pool = pool.with_memory_ahead()?;
        }
        let state = State {
            partitions: Vec::new(),
            reserve: pool.take(),
            staging: pool.take(),
            memory_short: false,
            gather: Gather::new(options.incarnation, salt),
            pool,
            cached: VecDeque::new(),
            touched: Vec::new(),
            sealed: Vec::new(),
            direct_writes: Vec::new(),
            direct_done: Vec::new(),
            direct_partitions: 0,
            must_sync: false,
            completed: BTreeSet::new(),
            unsynced_segments: BTreeMap::new(),
            gathered: Gathered::default(),
            pace: Pace::default(),
            committed: 0,
            durable_group: None,
            health: Health::Running,
            commit_waiters: Vec::new(),
            capacity_waiters: Vec::new(),
            options,
        };
        let shared = Shared {
            reactor,
            state: RefCell::new(state),
            journal,
            work: Notify::new(),
            crowded: Notify::new(),
            pressure: Notify::new(),
            placing_turn: Turnstile::default(),
            checkpoint_turn: Turnstile::default(),
            names_turn: Turnstile::default(),
            syncing_turn: Turnstile::default(),
            spares,
            retention_wake: Notify::new(),
            compaction: CompactionControl::default(),
        };
        Ok(Store { shared: Rc::new(shared) })
    }

    /// Checks a batch, gives it offsets and copies it. It is durable, and may be acknowledged, when
    /// [`Store::committed`] has reached `seq` of the result; readers see it from then on. A batch of a transaction is taken
    /// if its transaction is open here: the first one needs [`Store::append_as`].
    pub fn append(&self, slot: Slot, batch: &BatchView<'_>, leader_epoch: i32) -> Result<Appended, AppendError> {
        self.append_as(Origin::Client, None, slot, batch, leader_epoch)
    }

    /// As [`Store::append`], for coordinators, and for the first batch of a transaction, which needs a guard
    /// ([`Store::verify_transaction`]).
    pub fn append_as(
        &self,
        origin: Origin,
        guard: Option<TransactionGuard>,
        slot: Slot,
        batch: &BatchView<'_>,
        leader_epoch: i32,
    ) -> Result<Appended, AppendError> {
        self.append_with(|state, now_ms| state.append(origin, guard, slot, batch, leader_epoch, now_ms))
    }

    /// Has something appended, if this is the time for it, and committed.
    pub(crate) fn append_with(
        &self,
        append: impl FnOnce(&mut State, i64) -> Result<Appended, AppendError>,
    ) -> Result<Appended, AppendError> {
        let now_ms = self.shared.reactor.unix_ms();
        let mut state = self.shared.state.borrow_mut();
        state.accepts_appends()?;
        let result = match self.shared.journal.is_short() {
            true => Err(AppendError::Busy),
            false => append(&mut state, now_ms),
        };
        match result {
            Ok(_) => {
                self.shared.work.notify();
                if state.is_crowded() {
                    self.shared.crowded.notify();
                }
            }
            Err(AppendError::Busy) => self.shared.pressure.notify(),
            Err(_) => {}
        }
        result
    }

    /// The newest commit that is durable.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.state().committed
    }

    /// True while appends are refused because the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.state().health == Health::DiskFull
    }

    /// Changes a partition's settings.
    pub fn set_config(&self, slot: Slot, config: PartitionConfig) {
        if let Some(partition) = self.state_mut().live_mut(slot) {
            partition.config = config;
        }
    }

    /// Rings `notify` once, when the end of what a reader may see is above `above_offset`. A notify that has been closed is
    /// forgotten in time.
    pub fn watch(&self, slot: Slot, isolation: Isolation, above_offset: i64, notify: Notify) {
        match self.state_mut().live_mut(slot) {
            Some(partition) if partition.visible_end(isolation) <= above_offset => {
                let watches = match isolation {
                    Isolation::ReadUncommitted => &mut partition.watches,
                    Isolation::ReadCommitted => &mut partition.stable_watches,
                };
                if watches.len() == watches.capacity() {
                    // Readers that gave up stay in the list of a quiet partition; they go before the list grows.
                    watches.retain(|(_, notify)| !notify.is_closed());
                }
                watches.push((above_offset, notify));
            }
            // Passed already, or deleted: let the reader look again.
            _ => notify.notify(),
        }
    }

    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.shared.state.borrow()
    }

    pub(crate) fn state_mut(&self) -> RefMut<'_, State> {
        self.shared.state.borrow_mut()
    }
}

impl State {
    /// A partition for commits and checkpoints, which serve it until its deletion is durable.
    pub(crate) fn partition(&self, slot: Slot) -> Option<&Partition> {
        self.partitions.get(slot as usize)?.as_deref()
    }

    /// As [`State::partition`].
    pub(crate) fn partition_mut(&mut self, slot: Slot) -> Option<&mut Partition> {
        self.partitions.get_mut(slot as usize)?.as_deref_mut()
    }

    /// A segment, until it or its partition is gone.
    pub(crate) fn segment(&self, slot: Slot, base: i64) -> Option<&Segment> {
        let log = &self.partition(slot)?.log;
        Some(&log.segments[log.find_base(base)?])
    }

    /// As [`State::segment`].
    pub(crate) fn segment_mut(&mut self, slot: Slot, base: i64) -> Option<&mut Segment> {
        let log = &mut self.partition_mut(slot)?.log;
        let at = log.find_base(base)?;
        Some(&mut log.segments[at])
    }

    /// A partition for those who append, read and configure.
    pub(crate) fn live(&self, slot: Slot) -> Option<&Partition> {
        self.partition(slot).filter(|p| !p.deleted)
    }

    /// As [`State::live`].
    pub(crate) fn live_mut(&mut self, slot: Slot) -> Option<&mut Partition> {
        self.partition_mut(slot).filter(|p| !p.deleted)
    }

    fn accepts_appends(&self) -> Result<(), AppendError> {
        match self.health {
            Health::Running => Ok(()),
            Health::DiskFull => Err(AppendError::DiskFull),
            Health::Closed | Health::Failed(_) => Err(AppendError::Failed),
        }
    }

    fn append(
        &mut self,
        origin: Origin,
        guard: Option<TransactionGuard>,
        slot: Slot,
        batch: &BatchView<'_>,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let newest_commit = self.newest_commit();
        let partition = self.live_mut(slot).ok_or(AppendError::UnknownPartition)?;
        if let Sequence::Duplicate(first) = partition.check(batch, origin, guard, now_ms)? {
            return Ok(Appended {
                base_offset: first.base_offset,
                last_offset: first.last_offset,
                log_append_time_ms: first.log_append_time_ms,
                log_start: partition.log.log_start,
                // The first copy may still be on its way to the disk.
                seq: newest_commit,
                duplicate: true,
            });
        }
        if partition.must_roll(batch.total_len(), batch.max_timestamp(), now_ms, batch.record_count()) {
            self.roll(slot)?;
        }
        self.place(slot, batch, leader_epoch, now_ms)
    }

    /// Copies a checked batch into memory and does the books.
    pub(crate) fn place(
        &mut self,
        slot: Slot,
        batch: &BatchView<'_>,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let direct = self.make_room(slot, batch.total_len())?;
        let commit = self.gather.commit;
        let interval = self.options.limits.index_interval_bytes;
        let partition = self.partitions[slot as usize].as_deref_mut().expect("the caller found it");
        let start = partition.log.end();
        let base_offset = start.offset;
        let last_offset = base_offset + i64::from(batch.last_offset_delta());
        let log_append_time_ms = if partition.config.log_append_time { now_ms } else { -1 };
        let finish = |copy: &mut [u8]| {
            batch::assign(copy, base_offset, leader_epoch);
            if log_append_time_ms >= 0 {
                batch::set_log_append_time(copy, log_append_time_ms);
            }
        };
        if !partition.in_gather {
            partition.in_gather = true;
            self.touched.push(slot);
            if let Some(direct) = &mut partition.direct {
                (direct.batch_pos, direct.batch_offset, direct.digest) = (start.pos, base_offset, 0);
            }
        }
        partition.gathered_bytes += batch.total_len() as u64;
        self.gathered.add(batch.total_len() as u64, direct);
        self.must_sync |= partition.config.flush_every_append;

        let slice = if direct {
            let direct = partition.direct.as_mut().expect("make_room prepared it");
            let slice = direct.writer.append_with(batch.bytes(), finish);
            direct.digest = digest(direct.digest, slice.as_bytes());
            slice
        } else {
            if partition.last_chunk != self.gather.chunk_id() {
                partition.last_chunk = self.gather.chunk_id();
                self.gather.note_slot(slot);
            }
            let seq = self.gather.seq;
            partition.dirty_since.get_or_insert(seq);
            partition.entry_seq = Some(seq);
            let entry = Entry {
                key: partition.key,
                kind: EntryKind::Data,
                segment_base: start.segment_base,
                pos: start.pos,
                data_off: 0,
                data_len: 0,
                batch_pos: start.pos,
                digest: 0,
                batch_offset: base_offset,
                end_offset: last_offset + 1,
                log_start: partition.log.log_start,
            };
            self.gather.add(entry, batch.bytes(), finish)
        };
        partition.log.push(slice, last_offset, commit);

        let timestamp_ms = if log_append_time_ms >= 0 { log_append_time_ms } else { batch.max_timestamp() };
        let active = partition.log.active_mut();
        active.first_timestamp_ms.get_or_insert(timestamp_ms);
        active.last_append_ms = now_ms;
        if let Some(index) = &mut active.index {
            index.note(active.base, base_offset, start.pos, timestamp_ms, interval);
        }
        partition.note_epoch(leader_epoch, base_offset);
        partition.note_producer(
            batch,
            Placed { segment_base: start.segment_base, base_offset, log_append_time_ms, timestamp_ms, now_ms },
        );
        Ok(Appended {
            base_offset,
            last_offset,
            log_append_time_ms,
            log_start: partition.log.log_start,
            seq: commit,
            duplicate: false,
        })
    }

    /// Makes sure that the next `len` bytes of a partition have a place. True when it is the partition's own chunk.
    fn make_room(&mut self, slot: Slot, len: usize) -> Result<bool, AppendError> {
        let chunk_bytes = self.options.limits.chunk_bytes;
        let oversize = len > Gather::max_data(chunk_bytes).min(chunk_bytes - BLOCK_BYTES);
        let partition = self.partitions[slot as usize].as_deref_mut().expect("the caller found it");
        let active = (partition.log.active().base, partition.log.active().end_pos);
        if let Some(direct) = &mut partition.direct {
            debug_assert_eq!((direct.segment_base, direct.end()), active);
            if direct.writer.remaining() >= len {
                return Ok(true);
            }
            // The chunk is full. Its blocks go to the commit, its unfinished block begins the next chunk.
            if let Some((pos, bytes)) = direct.take_blocks() {
                self.direct_writes.push(DirectWrite { slot, segment_base: direct.segment_base, pos, bytes });
            }
            let first = (direct.batch_pos, direct.batch_offset, direct.digest);
            let writer = self.take_append_chunk(oversize.then_some(len + BLOCK_BYTES))?;
            let partition = self.partitions[slot as usize].as_deref_mut().expect("evicting removes no partition");
            let full = partition.direct.take().expect("checked above");
            let mut next = Direct::start(full.segment_base, full.end(), full.rest().as_bytes(), writer);
            (next.batch_pos, next.batch_offset, next.digest) = first;
            partition.direct = Some(Box::new(next));
            self.cached.push_back(FullChunk { writer: full.writer, slots: vec![slot], commit: self.gather.commit });
            return Ok(true);
        }
        let wanted = partition.other_path_commits > 0 && !partition.flushing;
        if oversize || wanted {
            match self.start_direct(slot, len, oversize) {
                Ok(()) => return Ok(true),
                Err(error) if oversize => return Err(error),
                // The journal takes it as well.
                Err(_) => {}
            }
        }
        if !self.gather.has_room(len) {
            let writer = self.take_append_chunk(None)?;
            if let Some(full) = self.gather.change_chunk(writer) {
                self.cached.push_back(full);
            }
        }
        Ok(false)
    }

    /// Puts a partition on the direct path. Journaled bytes that its segment lacks are written by the same commit; when
    /// they are many, the checkpoint has to come first.
    fn start_direct(&mut self, slot: Slot, len: usize, oversize: bool) -> Result<(), AppendError> {
        let limits = &self.options.limits;
        let (chunk_bytes, share) = (limits.chunk_bytes, limits.direct_share);
        if !oversize && self.direct_partitions >= self.pool.max_chunks() / share {
            return Err(AppendError::Busy);
        }
        let partition = self.partitions[slot as usize].as_deref().expect("the caller found it");
        let end = partition.log.end();
        let flushed = partition.log.active().flushed;
        let floor = Segment::block_floor(end.pos);
        if floor - flushed > (DIRECT_START_CHUNKS * chunk_bytes) as u64 || partition.flushing {
            // A batch that must go this way waits for the checkpoint.
            self.memory_short |= oversize;
            return Err(AppendError::Busy);
        }
        let writer = self.take_append_chunk(oversize.then_some(len + BLOCK_BYTES))?;
        let mut staged = Vec::new();
        for _ in (flushed..floor).step_by(chunk_bytes) {
            match self.take_append_chunk(None) {
                Ok(staging) => staged.push(staging),
                Err(error) => {
                    staged.into_iter().chain([writer]).for_each(|unused| self.pool.retire(unused));
                    return Err(error);
                }
            }
        }
        let partition = self.partitions[slot as usize].as_deref_mut().expect("evicting removes no partition");
        for (mut staging, pos) in staged.into_iter().zip((flushed..floor).step_by(chunk_bytes)) {
            partition.log.copy_from_memory(end.segment_base, pos..floor.min(pos + chunk_bytes as u64), &mut staging);
            let bytes = staging.slice(0, staging.filled());
            self.direct_writes.push(DirectWrite { slot, segment_base: end.segment_base, pos, bytes });
            self.pool.retire(staging);
        }
        let rest = partition.log.memory(end.segment_base, floor..end.pos);
        let mut direct = Direct::start(end.segment_base, end.pos, &rest, writer);
        direct.batch_offset = end.offset;
        partition.direct = Some(Box::new(direct));
        partition.other_path_commits = 0;
        self.direct_partitions += 1;
        if !partition.in_gather {
            partition.in_gather = true;
            self.touched.push(slot);
        }
        Ok(())
    }

    /// Takes a partition off the direct path. Everything it holds is with the gathering commit.
    fn stop_direct(&mut self, slot: Slot) {
        let partition = self.partitions[slot as usize].as_deref_mut().expect("the caller found it");
        if let Some(direct) = partition.direct.take() {
            self.direct_partitions -= 1;
            partition.other_path_commits = 0;
            self.cached.push_back(FullChunk { writer: direct.writer, slots: vec![slot], commit: self.gather.commit });
        }
    }

    /// Closes a partition's active segment and begins the next.
    pub(crate) fn roll(&mut self, slot: Slot) -> Result<(), AppendError> {
        self.finish_direct(slot)?;
        self.stop_direct(slot);
        let partition = self.partitions[slot as usize].as_deref_mut().expect("the caller found it");
        partition.log.roll();
        partition.snapshots.push((partition.log.active().base, partition.snapshot()));
        Ok(())
    }

    /// Hands the blocks of a partition on the direct path to the gathering commit, and the rest to its journal group.
    fn finish_direct(&mut self, slot: Slot) -> Result<(), AppendError> {
        if self.partitions[slot as usize].as_ref().is_none_or(|p| p.direct.is_none()) {
            return Ok(());
        }
        self.make_gather_room(BLOCK_BYTES)?;
        let Some(partition) = self.partitions[slot as usize].as_deref_mut() else { return Ok(()) };
        let Some(direct) = &mut partition.direct else { return Ok(()) };
        if let Some((pos, bytes)) = direct.take_blocks() {
            self.direct_writes.push(DirectWrite { slot, segment_base: direct.segment_base, pos, bytes });
        }
        let entry = Entry {
            key: partition.key,
            kind: EntryKind::Direct,
            segment_base: direct.segment_base,
            pos: direct.written,
            data_off: 0,
            data_len: 0,
            batch_pos: direct.batch_pos,
            digest: direct.digest,
            batch_offset: direct.batch_offset,
            end_offset: partition.log.end_offset(),
            log_start: partition.log.log_start,
        };
        let done =
            DirectDone { slot, segment_base: direct.segment_base, flushed: direct.written, rest_seq: self.gather.seq };
        self.gather.add(entry, direct.rest().as_bytes(), |_| ());
        partition.entry_seq = Some(done.rest_seq);
        self.direct_done.push(done);
        Ok(())
    }

    /// Completes the gathering commit for its partitions and decides which path each takes from here. Returns false
    /// when memory is short at this moment.
    pub(crate) fn finish_gather(&mut self) -> bool {
        let large = self.options.limits.direct_commit_bytes as u64;
        let mut touched = std::mem::take(&mut self.touched);
        while let Some(&slot) = touched.last() {
            if self.finish_direct(slot).is_err() {
                self.touched = touched;
                return false;
            }
            touched.pop();
            let Some(partition) = self.partitions[slot as usize].as_deref_mut() else { continue };
            partition.in_gather = false;
            partition.sealed_end = partition.log.end();
            self.sealed.push(slot);
            let bytes = std::mem::take(&mut partition.gathered_bytes);
            if partition.direct.is_some() {
                // A stream that pauses keeps its path; one that has become small gives its chunk back.
                partition.other_path_commits = if bytes < large / 4 { partition.other_path_commits + 1 } else { 0 };
                if partition.other_path_commits >= SMALL_COMMITS_LEAVE_DIRECT {
                    self.stop_direct(slot);
                }
            } else {
                partition.other_path_commits = u8::from(bytes >= large);
            }
        }
        true
    }

    /// The number of the newest commit that carries anything.
    pub(crate) fn newest_commit(&self) -> u64 {
        let is_empty = self.touched.is_empty() && self.gather.is_empty();
        if is_empty { self.gather.commit - 1 } else { self.gather.commit }
    }

    /// An empty chunk: a free one, or one whose batches are all in segments, oldest first.
    pub(crate) fn take_chunk(&mut self, large: Option<usize>) -> Result<ChunkWriter, AppendError> {
        self.take_chunk_above(0, large)
    }

    /// As [`State::take_chunk`], for appends: they leave a few chunks to readers of segments, who would have no memory
    /// for as long as the disk is full.
    fn take_append_chunk(&mut self, large: Option<usize>) -> Result<ChunkWriter, AppendError> {
        self.take_chunk_above(READ_CHUNKS.min(self.pool.max_chunks() / 8), large)
    }

    fn take_chunk_above(&mut self, kept: usize, large: Option<usize>) -> Result<ChunkWriter, AppendError> {
        let chunks = large.map_or(1, |bytes| bytes.div_ceil(self.options.limits.chunk_bytes));
        loop {
            let taken = match large {
                _ if self.pool.available() < kept + chunks => None,
                None => self.pool.take(),
                Some(bytes) => self.pool.take_large(bytes),
            };
            if let Some(writer) = taken {
                return Ok(writer);
            }
            if !self.evict_oldest() {
                self.memory_short = true;
                return Err(AppendError::Busy);
            }
        }
    }

    fn evict_oldest(&mut self) -> bool {
        let Some(oldest) = self.cached.front() else { return false };
        let chunk = oldest.writer.chunk();
        for &slot in &oldest.slots {
            let Some(partition) = self.partitions[slot as usize].as_deref_mut() else { continue };
            if !partition.log.evict(chunk, oldest.commit) {
                return false;
            }
            // The chunk's next use is another chunk: its list of partitions begins anew.
            partition.last_chunk = partition.last_chunk.filter(|last| *last != chunk);
        }
        let oldest = self.cached.pop_front().expect("looked at above");
        self.pool.retire(oldest.writer);
        true
    }

    /// Makes room in the journal's chunk for what completes a commit. Unlike an append it may use the reserved chunk:
    /// without it, appends that fill the pool could never be committed and so never be evicted.
    pub(crate) fn make_gather_room(&mut self, len: usize) -> Result<(), AppendError> {
        if !self.gather.has_room(len) {
            let writer = self.take_chunk(None).or_else(|busy| self.reserve.take().ok_or(busy))?;
            if let Some(full) = self.gather.change_chunk(writer) {
                self.cached.push_back(full);
            }
        }
        if self.reserve.is_none() {
            self.reserve = self.take_chunk(None).ok();
        }
        Ok(())
    }

    /// Wakes whoever waits for memory or journal space.
    pub(crate) fn wake_capacity(&mut self) {
        self.capacity_waiters.drain(..).for_each(Waker::wake);
    }
}

/// So many small commits in a row take a partition off the direct path.
const SMALL_COMMITS_LEAVE_DIRECT: u8 = 8;
