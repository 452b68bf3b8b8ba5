//! The commit loop: makes appends durable, all that arrived during one commit together in the next.
//!
//! A commit writes its journal groups and its direct blocks at once, each with a sync of its own that the kernel begins
//! when the disk has the bytes, and counts as durable when all of them have ended. Small commits go one at a time, so that
//! a commit's end answers as many requests as can be. When much has been gathered a second one begins beside the first
//! ([`Limits::second_commit_bytes`](crate::limits::Limits::second_commit_bytes)): the disk is not idle while the answers of
//! one are on their way and their clients come back. Commits end in their order, whatever the disk does.
//!
//! In the class `Os` the journal goes through the page cache and is not synced, unless a topic's settings say that each of its
//! appends is: then what earlier commits have left unsynced is synced with it, after its own writes have ended. Others
//! that need the disk's word ask for it when their commit has ended ([`Store::sync_committed`]), so that no append waits
//! for their sync.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use crate::cache::Slice;
use crate::direct::{DirectDone, DirectWrite};
use crate::gather::ClosedGroup;
use crate::io::{File, Open, WriteSync};
use crate::join::{all, first};
use crate::limits::{COMMITS_IN_FLIGHT, FULL_DISK_PAUSE_NS};
use crate::log::Mark;
use crate::reactor::Reactor;
use crate::segment::{self, Segment};
use crate::spares::Spare;
use crate::store::{Durability, Gathered, Health, Slot, State, Store};

/// What one turn of the loop makes durable.
struct Commit {
    seq: u64,
    began_ns: u64,
    appends: u32,
    groups: Vec<ClosedGroup>,
    writes: Vec<DirectWrite>,
    done: Vec<DirectDone>,
    ends: Vec<(Slot, Mark)>,
    sync: bool,
}

/// The store acknowledges nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailed(pub String);

impl std::fmt::Display for StoreFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the store has failed: {}", self.0)
    }
}

impl std::error::Error for StoreFailed {}

impl From<StoreFailed> for io::Error {
    fn from(failed: StoreFailed) -> io::Error {
        io::Error::other(failed)
    }
}

type Task<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

impl Store {
    /// Commits appends for as long as the store lives. Resolves with the cause when a write or a sync has failed: what
    /// the disk holds is then unknown, nothing more is acknowledged, and the process should say so and stop.
    pub async fn run(&self) -> StoreFailed {
        loop {
            self.shared.work.wait().await;
            if let Some(failed) = self.failure() {
                return failed;
            }
            if let Err(error) = self.commit_all().await {
                return self.fail(&error);
            }
        }
    }

    /// Ends the store because of an error of the disk, whoever met it: nothing is acknowledged from here on.
    pub(crate) fn fail(&self, error: &io::Error) -> StoreFailed {
        let mut state = self.state_mut();
        // The first error is the cause of all others.
        let failed = match &state.health {
            Health::Failed(cause) => StoreFailed(cause.clone()),
            _ => StoreFailed(error.to_string()),
        };
        state.health = Health::Failed(failed.0.clone());
        state.commit_waiters.drain(..).for_each(std::task::Waker::wake);
        state.wake_capacity();
        drop(state);
        self.shared.work.notify();
        self.shared.pressure.notify();
        failed
    }

    /// Why the store has failed, if it has.
    pub(crate) fn failure(&self) -> Option<StoreFailed> {
        match &self.state().health {
            Health::Failed(cause) => Some(StoreFailed(cause.clone())),
            _ => None,
        }
    }

    /// Resolves when commit `seq` is durable.
    pub async fn wait_commit(&self, seq: u64) -> Result<(), StoreFailed> {
        std::future::poll_fn(|context| {
            let mut state = self.state_mut();
            if state.committed >= seq {
                return Poll::Ready(Ok(()));
            }
            if let Health::Failed(cause) = &state.health {
                return Poll::Ready(Err(StoreFailed(cause.clone())));
            }
            state.commit_waiters.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Resolves when an append that was refused as [`Busy`](crate::partition::AppendError::Busy) is worth another try.
    pub async fn wait_capacity(&self) {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.state_mut().capacity_waiters.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn commit_all(&self) -> io::Result<()> {
        let mut in_flight = InFlight::default();
        loop {
            // Everything that this turn's receives brought joins the commit.
            self.shared.reactor.end_of_turn().await;
            if in_flight.is_empty()
                && let Some(until_ns) = self.is_early()
            {
                first(self.shared.work.wait(), self.shared.reactor.sleep_until(until_ns)).await;
                continue;
            }
            let begins = in_flight.is_empty() || (in_flight.has_room() && self.state().is_crowded());
            let commit = if begins { self.seal() } else { None };
            // Without memory to complete a commit it is the end of another that helps.
            let may_begin = commit.is_some() || !begins;
            if let Some(commit) = commit {
                in_flight.push(Box::pin(async move {
                    self.write(&commit).await?;
                    Ok(commit)
                }));
            }
            if in_flight.is_empty() {
                return Ok(());
            }
            in_flight.wait(may_begin.then(|| self.wait_crowded())).await?;
            while let Some(commit) = in_flight.pop_ended() {
                if let Some(failed) = self.failure() {
                    return Err(failed.into());
                }
                self.finish(&commit);
            }
        }
    }

    /// Resolves when enough has been gathered for a commit that begins beside another.
    async fn wait_crowded(&self) {
        while !self.state().is_crowded() {
            self.shared.crowded.wait().await;
        }
    }

    /// The moment until which the next commit should wait for more appends, if it should ([`crate::pace`]).
    fn is_early(&self) -> Option<u64> {
        let state = self.state();
        let Gathered { appends, bytes, .. } = state.gathered;
        if appends == 0 {
            return None;
        }
        let now_ns = self.shared.reactor.now_ns();
        match state.options.durability {
            Durability::Disk => state.pace.wait_until(now_ns, appends, bytes),
            Durability::Os => state.pace.braked_until(now_ns),
        }
    }

    /// Takes what has been gathered. None when nothing was, or when there is no memory to complete it at this moment;
    /// the checkpoint, which frees memory, rings `work` again.
    fn seal(&self) -> Option<Commit> {
        let mut state = self.state_mut();
        if state.gather.is_empty() && state.touched.is_empty() {
            return None;
        }
        if !state.finish_gather() {
            self.shared.pressure.notify();
            return None;
        }
        let seq = state.gather.commit;
        let sealed = std::mem::take(&mut state.sealed);
        let ends = sealed.iter().filter_map(|&slot| Some((slot, state.partition(slot)?.sealed_end))).collect();
        let sync = state.options.durability == Durability::Disk || state.must_sync;
        state.must_sync = false;
        let Gathered { appends, .. } = std::mem::take(&mut state.gathered);
        Some(Commit {
            seq,
            began_ns: self.shared.reactor.now_ns(),
            appends,
            groups: state.gather.seal(),
            writes: std::mem::take(&mut state.direct_writes),
            done: std::mem::take(&mut state.direct_done),
            ends,
            sync,
        })
    }

    async fn write(&self, commit: &Commit) -> io::Result<()> {
        let reactor = &self.shared.reactor;
        let journal = &self.shared.journal;
        // Groups lie in the journal in their order.
        let placing = self.shared.placing_turn.enter().await;
        // A journal past the page cache is that of the class `Disk`, where every commit is durable by itself.
        let how = if journal.is_direct() { WriteSync::Data } else { WriteSync::No };
        let mut writes: Vec<Task<'_>> = Vec::new();
        let mut segments: BTreeMap<(Slot, i64), File> = BTreeMap::new();
        for write in &commit.writes {
            let end = write.pos + write.bytes.len() as u64;
            // A partition that was deleted meanwhile has nothing left to write.
            let Some(file) = self.segment_file(write.slot, write.segment_base, end).await? else { continue };
            segments.entry((write.slot, write.segment_base)).or_insert_with(|| file.clone());
            writes.push(Box::pin(async move { self.write_blocks(&file, write.pos, &write.bytes, how).await }));
        }
        for group in &commit.groups {
            let len = group.bytes.len() as u64;
            let place = self.when_there_is_space(async || journal.place(reactor, group.seq, len).await).await?;
            if journal.is_direct() {
                let bytes = group.bytes.clone();
                writes.push(Box::pin(async move { reactor.write_with(&place.file, place.pos, bytes, how).await }));
            } else {
                reactor.write_now(&place.file, place.pos, &group.bytes)?;
            }
        }
        drop(placing);
        all(writes).await?;
        if how == WriteSync::No {
            self.state_mut().unsynced_segments.extend(segments);
            if commit.sync {
                self.sync_files(0).await?;
            }
        }
        if journal.wants_file() {
            let store = self.clone();
            reactor.spawn(async move {
                // Whoever needed it at once has made it meanwhile, or is about to.
                if !store.shared.journal.wants_file() {
                    return;
                }
                // A disk that is full now may not be when the file is needed, and then the error has a reader.
                if let Err(error) = store.shared.journal.add_file(&store.shared.reactor).await
                    && !is_full(&error)
                {
                    store.fail(&error);
                }
            });
        }
        Ok(())
    }

    /// Syncs what commits have written and not synced, in the class `Os`: all groups from `oldest` on, below which the journal
    /// says that none is needed, since recovery reads from there up to the first gap.
    pub(crate) async fn sync_committed(&self, oldest: u64) -> io::Result<()> {
        if self.state().options.durability == Durability::Disk {
            return Ok(());
        }
        let written = self.state().durable_group;
        // What a failed sync has not written no later one writes.
        self.sync_files(oldest).await.inspect_err(|error| drop(self.fail(error)))?;
        if let Some(written) = written {
            self.state_mut().gather.note_proven(written + 1);
        }
        Ok(())
    }

    /// Syncs the groups from `oldest` on and what commits have written straight to segments, in the class `Os`, where the
    /// journal does not say yet that older groups are not needed: so none is called durable.
    pub(crate) async fn sync_needed(&self, oldest: u64) -> io::Result<()> {
        self.sync_files(oldest).await.inspect_err(|error| drop(self.fail(error)))
    }

    async fn sync_files(&self, oldest: u64) -> io::Result<()> {
        // Whoever finds nothing to sync must not be done before what was found by another has been synced.
        let _turn = self.shared.syncing_turn.enter().await;
        let mut files = self.shared.journal.take_unsynced(oldest);
        files.extend(std::mem::take(&mut self.state_mut().unsynced_segments).into_values());
        let reactor = &self.shared.reactor;
        all(files.iter().map(|file| Box::pin(reactor.fdatasync(file)) as Task<'_>).collect()).await
    }

    fn finish(&self, commit: &Commit) {
        let mut state = self.state_mut();
        for done in &commit.done {
            let Some(partition) = state.partition_mut(done.slot) else { continue };
            let Some(at) = partition.log.find_base(done.segment_base) else { continue };
            let segment = &mut partition.log.segments[at];
            segment.flushed = segment.flushed.max(done.flushed);
            // All older bytes are in the segment now, unless an older segment still waits for its completion.
            if !partition.log.has_unsealed() || partition.dirty_since.is_none() {
                partition.dirty_since = Some(done.rest_seq);
            }
        }
        for &(slot, end) in &commit.ends {
            let Some(partition) = state.partition_mut(slot) else { continue };
            partition.on_durable(end);
            partition.log.forget_flushed_tail();
            if partition.log.has_unsealed() {
                self.shared.pressure.notify();
            }
        }
        let now_ns = self.shared.reactor.now_ns();
        let waiting = state.gathered.appends;
        state.pace.ended(now_ns, now_ns - commit.began_ns, commit.appends, waiting);
        if state.options.durability == Durability::Os {
            let journaled = commit.groups.iter().map(|group| group.bytes.len() as u64).sum();
            state.pace.brake(now_ns, journaled, self.shared.journal.fill());
        }
        state.committed = commit.seq;
        if let Some(group) = commit.groups.last() {
            state.durable_group = Some(group.seq);
            if commit.sync {
                state.gather.note_proven(group.seq + 1);
            }
        }
        if self.shared.journal.wants_checkpoint() {
            self.shared.pressure.notify();
        }
        state.commit_waiters.drain(..).for_each(std::task::Waker::wake);
        // What went the direct way may be evicted now.
        state.wake_capacity();
    }

    /// The file of a segment, open and with space set aside up to `end`. None when the segment is gone. Waits while the
    /// disk is full: appends are refused meanwhile, and accepted again by themselves.
    pub(crate) async fn segment_file(&self, slot: Slot, base: i64, end: u64) -> io::Result<Option<File>> {
        let reactor = &self.shared.reactor;
        let open = self.state().segment(slot, base).and_then(|segment| segment.file.clone());
        let file = match open {
            Some(file) => file,
            None => {
                let open = async || self.open_segment(slot, base, end > 0).await;
                let Some(file) = self.when_there_is_space(open).await? else { return Ok(None) };
                file
            }
        };
        let ahead = {
            let state = self.state();
            let (Some(partition), Some(segment)) = (state.partition(slot), state.segment(slot, base)) else {
                return Ok(None);
            };
            // A reader opens a segment as it is; its length means something once it is sealed.
            if segment.allocated >= end {
                return Ok(Some(file));
            }
            let doubled = (2 * segment.end_pos).min(segment.end_pos + state.options.limits.segment_allocate_bytes);
            Segment::block_ceil(doubled.min(partition.config.segment_bytes).max(end))
        };
        let allocated = self.when_there_is_space(async || allocate(reactor, &file, ahead, end).await).await?;
        let mut state = self.state_mut();
        let Some(segment) = state.segment_mut(slot, base) else { return Ok(None) };
        segment.allocated = segment.allocated.max(allocated);
        Ok(Some(file))
    }

    /// Opens a segment's file; makes it when the caller is going to write. None when the segment is gone.
    async fn open_segment(&self, slot: Slot, base: i64, create: bool) -> io::Result<Option<File>> {
        let reactor = &self.shared.reactor;
        let _turn = self.shared.names_turn.enter().await;
        let dir = {
            let state = self.state();
            let (Some(partition), Some(segment)) = (state.partition(slot), state.segment(slot, base)) else {
                return Ok(None);
            };
            if segment.file.is_some() {
                // Another task has opened it meanwhile.
                return Ok(segment.file.clone());
            }
            partition.log.dir.clone()
        };
        let spare = if create { self.place_spare(&dir, base).await? } else { None };
        let reused = spare.is_some();
        let (file, allocated) = match spare {
            Some(spare) => (spare.file, Segment::block_floor(spare.bytes)),
            None => {
                let how = Open { direct: true, create, write: true, ..Open::default() };
                (reactor.open(&segment::log_path(&dir, base), how).await?, 0)
            }
        };
        if create {
            reactor.sync_dir(&dir).await?;
        }
        let mut state = self.state_mut();
        let Some(segment) = state.segment_mut(slot, base) else { return Ok(None) };
        segment.file = Some(file.clone());
        segment.reused = reused;
        segment.allocated = segment.allocated.max(allocated);
        Ok(Some(file))
    }

    /// Gives a segment's name to a spare file, if there is one, and says so beside it.
    async fn place_spare(&self, dir: &Path, base: i64) -> io::Result<Option<Spare>> {
        let reactor = &self.shared.reactor;
        let Some(spare) = self.shared.spares.take() else { return Ok(None) };
        let marker = segment::reused_path(dir, base);
        if let Err(error) = reactor.open(&marker, Open { create: true, write: true, ..Open::default() }).await {
            self.shared.spares.give_back(spare);
            return Err(error);
        }
        if reactor.rename(&spare.path, &segment::log_path(dir, base)).await.is_ok() {
            return Ok(Some(spare));
        }
        // The partition is on a file system of its own.
        reactor.remove_file(&marker).await?;
        reactor.remove_file(&spare.path).await?;
        Ok(None)
    }

    /// Writes blocks of a segment that no commit or checkpoint has made durable yet. Where the file system does not set
    /// space aside, this is where a full disk shows, and writing them again is harmless.
    pub(crate) async fn write_blocks(&self, file: &File, pos: u64, bytes: &Slice, how: WriteSync) -> io::Result<()> {
        self.when_there_is_space(async || self.shared.reactor.write_with(file, pos, bytes.clone(), how).await).await
    }

    /// Repeats `operation` while the disk is full, with a pause, and keeps appends away until it succeeds.
    pub(crate) async fn when_there_is_space<T>(&self, operation: impl AsyncFn() -> io::Result<T>) -> io::Result<T> {
        loop {
            match operation().await {
                Err(error) if is_full(&error) => {
                    if let Some(failed) = self.failure() {
                        return Err(failed.into());
                    }
                    if self.discard_spares(u64::MAX).await? {
                        continue;
                    }
                    self.state_mut().note_full_disk();
                    let again_ns = self.shared.reactor.now_ns() + FULL_DISK_PAUSE_NS;
                    self.shared.reactor.sleep_until(again_ns).await;
                }
                result => {
                    let mut state = self.state_mut();
                    if state.health == Health::DiskFull {
                        state.health = Health::Running;
                        state.wake_capacity();
                    }
                    return result;
                }
            }
        }
    }
}

/// Commits that are being written, oldest first.
#[derive(Default)]
struct InFlight<'a>(VecDeque<Write<'a>>);

struct Write<'a> {
    task: Pin<Box<dyn Future<Output = io::Result<Commit>> + 'a>>,
    /// All of it is on the disk, and perhaps not of those before it.
    written: Option<Commit>,
}

impl<'a> InFlight<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has_room(&self) -> bool {
        self.0.len() < COMMITS_IN_FLIGHT
    }

    fn push(&mut self, task: Pin<Box<dyn Future<Output = io::Result<Commit>> + 'a>>) {
        self.0.push_back(Write { task, written: None });
    }

    /// Waits until the oldest commit is on the disk, or until another may begin and `crowded` says that it should.
    async fn wait(&mut self, crowded: Option<impl Future<Output = ()>>) -> io::Result<()> {
        let mut crowded = pin!(crowded);
        std::future::poll_fn(|context| {
            self.poll(context)?;
            let has_ended = self.0.front().is_some_and(|write| write.written.is_some());
            let mut has_crowd =
                || crowded.as_mut().as_pin_mut().is_some_and(|crowded| crowded.poll(context).is_ready());
            if has_ended || (self.has_room() && has_crowd()) { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        for write in self.0.iter_mut().filter(|write| write.written.is_none()) {
            if let Poll::Ready(commit) = write.task.as_mut().poll(context) {
                write.written = Some(commit?);
            }
        }
        Ok(())
    }

    /// The oldest commit, if it is on the disk.
    fn pop_ended(&mut self) -> Option<Commit> {
        self.0.pop_front_if(|write| write.written.is_some())?.written
    }
}

impl State {
    /// Enough has been gathered for a commit that begins beside another. What goes straight to segments does not count: a
    /// sync of each of their files is dear, so there fewer and larger commits are better.
    pub(crate) fn is_crowded(&self) -> bool {
        let enough = self.options.limits.second_commit_bytes;
        self.gathered.journaled >= enough && self.options.durability == Durability::Disk
    }

    /// Refuses appends until there is space; whoever waits to append is told so.
    fn note_full_disk(&mut self) {
        if self.health == Health::Running {
            self.health = Health::DiskFull;
            self.wake_capacity();
        }
    }
}

/// Sets space aside up to `ahead`, or up to `end` where there is no more. Returns how far.
async fn allocate(reactor: &Reactor, file: &File, ahead: u64, end: u64) -> io::Result<u64> {
    let mut len = ahead;
    let mut result = reactor.allocate(file, len).await;
    if result.as_ref().is_err_and(is_full) {
        len = Segment::block_ceil(end);
        result = reactor.allocate(file, len).await;
    }
    match result {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(len),
        result => result.map(|()| len),
    }
}

/// There is no space on the disk.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
