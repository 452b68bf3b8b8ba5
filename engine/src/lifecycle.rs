//! Partitions come and go: created, taken over from an earlier run, deleted, cut at the front; and the store's end.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use wire::batch::{BatchView, TimestampType};

use crate::checkpoint::{checksummed, write_file};
use crate::commit::StoreFailed;
use crate::compaction;
use crate::gather::FullChunk;
use crate::index::Index;
use crate::io::{File, Open};
use crate::journal::PartitionKey;
use crate::limits::UNNAMED_AT_ONCE;
use crate::log::Log;
use crate::partition::{Partition, PartitionConfig, Placed};
use crate::producer::ProducerTable;
use crate::read::{Scan, batches};
use crate::recovery::{self, PartitionSeed};
use crate::segment::{self, Segment};
use crate::store::{Durability, Health, Slot, Store};
use crate::transactions::encode_aborted;

/// A partition to be created.
#[derive(Debug, Clone)]
pub struct PartitionSpec {
    /// Its identity.
    pub key: PartitionKey,
    /// The topic's name, from which the directory is named.
    pub topic: String,
    /// Its settings.
    pub config: PartitionConfig,
}

/// Directories of deleted partitions.
#[derive(Default)]
#[must_use = "their files are still there"]
pub struct Unnamed {
    dirs: Vec<PathBuf>,
    /// Segments in them that were open, with their length and how long their files may stay, in ms.
    open: Vec<(PathBuf, File, u64, i64)>,
}

impl Store {
    /// Creates a partition. It is durable when this returns. [`Store::run`] must be running. A directory that an
    /// unfinished creation has left is taken over; one that holds records is `AlreadyExists`.
    pub async fn create_partition(&self, spec: PartitionSpec) -> io::Result<Slot> {
        let (data_dir, max_producers) = {
            let state = self.state();
            (state.options.dir.clone(), state.options.limits.producers_per_partition)
        };
        let reactor = &self.shared.reactor;
        let dir = data_dir.join(format!("{}-{}", spec.topic, spec.key.partition));
        let slot = {
            let _turn = self.shared.names_turn.enter().await;
            match reactor.create_dir(&dir).await {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.clear_leftovers(&dir).await?,
                result => result?,
            }
            let metadata = recovery::encode_partition_metadata(&spec.key.topic_id);
            write_file(reactor, &dir.join(recovery::PARTITION_METADATA), metadata.as_bytes()).await?;
            reactor.sync_dir(&data_dir).await?;
            let log = Log::new(dir, VecDeque::from([Segment::new(0)]), 0, Vec::new());
            self.add(Partition::new(spec.key, spec.config, log, ProducerTable::new(max_producers)))
        };
        // From here on the journal knows the partition: recovery takes segments that it does not know for a stranger's.
        self.carry_slots(&[slot]).await?;
        Ok(slot)
    }

    /// Removes what a creation that did not finish may have left in a partition's directory.
    async fn clear_leftovers(&self, dir: &Path) -> io::Result<()> {
        let reactor = &self.shared.reactor;
        let in_use =
            |message: &str| io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: {message}", dir.display()));
        if self.state().partitions.iter().flatten().any(|partition| partition.log.dir == dir) {
            return Err(in_use("a partition of this name exists"));
        }
        let mut leftovers = Vec::new();
        for entry in reactor.list_dir(dir)? {
            let name = entry.name.to_str().unwrap_or_default();
            if segment::base_of(name).is_some() {
                let file = reactor.open(&dir.join(name), Open::default()).await?;
                if reactor.file_len(&file).await? > 0 {
                    return Err(in_use("it holds records of another partition"));
                }
                leftovers.push(dir.join(name));
            } else if segment::producers_base_of(name).or_else(|| segment::aborted_base_of(name)).is_some()
                || name == compaction::CLEANER_OFFSET
            {
                leftovers.push(dir.join(name));
            }
        }
        for path in leftovers {
            reactor.remove_file(&path).await?;
        }
        Ok(())
    }

    /// Takes over a partition that recovery found. [`Store::carry`] must follow before the store is used.
    pub async fn adopt(&self, seed: PartitionSeed, config: PartitionConfig) -> io::Result<Slot> {
        let limits = self.state().options.limits.clone();
        let reactor = &self.shared.reactor;
        let mut segments: VecDeque<Segment> = VecDeque::new();
        for (at, found) in seed.segments.iter().enumerate() {
            let end_offset = seed.segments.get(at + 1).map_or(seed.end_offset, |next| next.base);
            segments.push_back(Segment::sealed(found.base, found.bytes, end_offset));
        }
        let mut active = segments.pop_back().unwrap_or_else(|| Segment::sealed(seed.log_start, 0, seed.log_start));
        active.flushed = Segment::block_floor(active.end_pos);
        (active.rolled, active.sealed, active.index) = (false, false, Some(Index::new()));
        let mut partition = Partition::new(
            seed.key,
            config,
            Log::new(seed.dir.clone(), VecDeque::from([Segment::new(0)]), 0, Vec::new()),
            ProducerTable::new(limits.producers_per_partition),
        );
        seed.aborted.iter().for_each(|base| partition.transactions.add_stored(*base));
        partition.cleaned_to = compaction::read_cleaner_offset(reactor, &seed.dir).await?;
        self.restore(&mut partition, &segments, active.base).await?;
        let mut rest = Vec::new();
        if active.end_pos > 0 {
            let path = segment::log_path(&seed.dir, active.base);
            let file = reactor.open(&path, Open { direct: true, write: true, ..Open::default() }).await;
            let file = file.map_err(|error| recovery::at(&path, &error))?;
            active.file = Some(file.clone());
            let mut scan = Scan::new(file, active.base, active.end_pos, limits.chunk_bytes);
            let mut offset = active.base;
            while let Some((pos, piece)) = scan.next(reactor).await.map_err(|error| recovery::at(&path, &error))? {
                for (from, batch) in batches(piece.as_bytes()) {
                    let pos = pos + from as u64;
                    if batch.base_offset() != offset || !recovery::holds(&batch) {
                        let cause = recovery::damage(format!("no batch of offset {offset} at position {pos}"));
                        return Err(recovery::at(&path, &cause));
                    }
                    offset = batch.last_offset() + 1;
                    partition.replay(&batch, active.base);
                    active.note_stored(&batch, pos, limits.index_interval_bytes);
                }
                if pos + piece.len() as u64 > active.flushed {
                    rest.extend_from_slice(&piece.as_bytes()[active.flushed.saturating_sub(pos) as usize..]);
                }
            }
            if offset != active.end_offset {
                let cause = recovery::damage(format!("it ends at offset {offset} instead of {}", active.end_offset));
                return Err(recovery::at(&path, &cause));
            }
        }
        segments.push_back(active);
        partition.transactions.on_durable(seed.end_offset);
        partition.log = Log::new(seed.dir, segments, seed.log_start, rest);
        partition.sealed_end = partition.log.durable;
        Ok(self.add(partition))
    }

    /// Brings a partition to the state that the segments before the active one have left: from the newest snapshot, and
    /// from the segments behind it. There are such when the last run ended between the roll of a segment and its
    /// completion; when a snapshot is damaged or missing, the one before it serves.
    async fn restore(&self, partition: &mut Partition, sealed: &VecDeque<Segment>, active: i64) -> io::Result<()> {
        let limits = self.state().options.limits.clone();
        let reactor = &self.shared.reactor;
        let dir = partition.log.dir.clone();
        let mut from = 0;
        for at in (0..=sealed.len()).rev() {
            let path = segment::producers_path(&dir, sealed.get(at).map_or(active, |segment| segment.base));
            let found = recovery::read_checksummed(reactor, &path).await?;
            if found.is_some_and(|bytes| partition.restore(&bytes, limits.producers_per_partition)) {
                from = at;
                break;
            }
        }
        for segment in sealed.range(from..) {
            partition.transactions.forget(segment.base);
            let path = segment::log_path(&dir, segment.base);
            let file = reactor.open(&path, Open { direct: true, ..Open::default() }).await;
            let file = file.map_err(|error| recovery::at(&path, &error))?;
            let mut scan = Scan::new(file, segment.base, segment.end_pos, limits.chunk_bytes);
            while let Some((_, piece)) = scan.next(reactor).await.map_err(|error| recovery::at(&path, &error))? {
                batches(piece.as_bytes()).for_each(|(_, batch)| partition.replay(&batch, segment.base));
            }
            if let Some(list) = partition.transactions.unstored(segment.base) {
                let bytes = checksummed(&encode_aborted(list));
                write_file(reactor, &segment::aborted_path(&dir, segment.base), &bytes).await?;
                partition.transactions.note_stored(segment.base, limits.aborted_cached);
            }
        }
        if from < sealed.len() {
            let path = segment::producers_path(&dir, active);
            write_file(reactor, &path, &checksummed(&partition.snapshot())).await?;
        }
        Ok(())
    }

    /// Writes the newest state of every adopted partition into this incarnation's journal. Resolves when it is durable;
    /// after that of all cores the journals of earlier incarnations may go. [`Store::run`] must be running.
    pub async fn carry(&self) -> io::Result<()> {
        let slots: Vec<Slot> = (0..self.state().partitions.len() as Slot).collect();
        self.carry_slots(&slots).await
    }

    /// Deletes a partition. Its records are gone for readers at once and from the disk when this returns.
    pub async fn delete_partition(&self, slot: Slot) -> io::Result<()> {
        let (doomed, failed) = self.unname_partitions(&[slot]).await;
        self.remove_unnamed(doomed).await?;
        failed.map_or(Ok(()), Err)
    }

    /// Deletes partitions but for their files, which are left to [`Store::remove_unnamed`]: they may be many and large. Their
    /// records are gone for readers at once, and the deletion is durable, and the names free, when this returns. Returns
    /// what is left to be removed, and the first failure. A crash in between leaves the rest to recovery.
    ///
    /// Until a partition's directory has lost its name for good, commits and checkpoints go on to serve it: a crash would
    /// bring it back, and recovery would find that it lacks what the journal says.
    pub async fn unname_partitions(&self, slots: &[Slot]) -> (Unnamed, Option<io::Error>) {
        let mut unnamed = Unnamed::default();
        let mut failed = None;
        for slots in slots.chunks(UNNAMED_AT_ONCE) {
            if let Err(error) = self.unname(slots, &mut unnamed).await {
                failed.get_or_insert(error);
            }
        }
        (unnamed, failed)
    }

    async fn unname(&self, slots: &[Slot], unnamed: &mut Unnamed) -> io::Result<()> {
        let reactor = &self.shared.reactor;
        let data_dir = self.state().options.dir.clone();
        let mut places = Vec::with_capacity(slots.len());
        for &slot in slots {
            let mut state = self.state_mut();
            let Some(partition) = state.live_mut(slot) else { continue };
            partition.deleted = true;
            let waiting = partition.watches.drain(..).chain(partition.stable_watches.drain(..));
            waiting.for_each(|(_, notify)| notify.notify());
            places.push((slot, partition.log.dir.clone()));
        }
        let _turn = self.shared.names_turn.enter().await;
        let mut renamed = Vec::with_capacity(places.len());
        let mut failed = None;
        for (slot, dir) in places {
            // Renamed first: a crash half way leaves a directory that says what it is. The longest name of a topic leaves
            // no room for more than its partition in a file name.
            let doomed = data_dir.join(format!("{:016x}{}", reactor.random(), recovery::DELETED_SUFFIX));
            match reactor.rename(&dir, &doomed).await {
                Ok(()) => renamed.push((slot, doomed)),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        reactor.sync_dir(&data_dir).await?;
        let mut state = self.state_mut();
        for (slot, doomed) in renamed {
            if let Some(mut partition) = state.partitions[slot as usize].take() {
                if let Some(direct) = partition.direct.take() {
                    state.direct_partitions -= 1;
                    state.cached.push_back(FullChunk { writer: direct.writer, slots: Vec::new(), commit: 0 });
                }
                for Segment { base, file, end_pos, .. } in partition.log.segments.drain(..) {
                    state.unsynced_segments.remove(&(slot, base));
                    let path = segment::log_path(&doomed, base);
                    let keep_ms = partition.config.file_delete_delay_ms;
                    unnamed.open.extend(file.map(|file| (path, file, end_pos, keep_ms)));
                }
            }
            unnamed.dirs.push(doomed);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Removes the files of deleted partitions. All are tried; the result is the first failure.
    pub async fn remove_unnamed(&self, unnamed: Unnamed) -> io::Result<()> {
        let mut result = Ok(());
        for (path, file, bytes, keep_ms) in unnamed.open {
            result = result.and(self.retire_file(&path, Some(file), bytes, keep_ms).await);
        }
        for doomed in unnamed.dirs {
            result = result.and(recovery::remove_tree(&self.shared.reactor, &doomed).await);
        }
        result
    }

    /// Makes `offset` the first that readers may see, and deletes the segments that lie before it. Returns the new
    /// start. The change is durable when this returns. None when the partition is gone or `offset` lies outside of it.
    pub async fn delete_records(&self, slot: Slot, offset: i64) -> io::Result<Option<i64>> {
        {
            let mut state = self.state_mut();
            let Some(partition) = state.live_mut(slot) else { return Ok(None) };
            let log = &mut partition.log;
            if offset > log.durable.offset {
                return Ok(None);
            }
            log.log_start = log.log_start.max(offset);
            partition.ring_stable();
        }
        self.carry_slots(&[slot]).await?;
        self.start_is_durable(slot, offset);
        self.remove_segments(slot).await
    }

    pub(crate) fn start_is_durable(&self, slot: Slot, start: i64) {
        if let Some(partition) = self.state_mut().live_mut(slot) {
            partition.log.durable_start = partition.log.durable_start.max(start);
        }
    }

    /// Deletes the segments that lie wholly before the log's start.
    pub(crate) async fn remove_segments(&self, slot: Slot) -> io::Result<Option<i64>> {
        let reactor = &self.shared.reactor;
        let _turn = self.shared.names_turn.enter().await;
        let (removed, dir, keep_ms, start) = {
            let state = &mut *self.state_mut();
            let partition = state.partitions.get_mut(slot as usize).and_then(Option::as_deref_mut);
            let Some(partition) = partition.filter(|p| !p.deleted) else {
                return Ok(None);
            };
            let log = &mut partition.log;
            let behind = |s: &Segment| s.sealed && s.end_offset <= log.durable_start;
            let keep = log.segments.iter().take_while(|s| behind(s)).count();
            let removed = log.remove_before(keep);
            partition.transactions.remove_before(log.segments[0].base);
            for Segment { base, .. } in &removed {
                state.unsynced_segments.remove(&(slot, *base));
            }
            (removed, log.dir.clone(), partition.config.file_delete_delay_ms, log.log_start)
        };
        for Segment { base, file, end_pos, .. } in removed {
            self.retire_file(&segment::log_path(&dir, base), file, end_pos, keep_ms).await?;
            for path in [segment::producers_path(&dir, base), segment::aborted_path(&dir, base)] {
                recovery::remove_if_there(reactor, &path).await?;
            }
        }
        Ok(Some(start))
    }

    /// Refuses appends from now on, commits what was appended and moves it into segments.
    pub async fn close(&self) -> io::Result<()> {
        let (newest, is_unsynced) = {
            let mut state = self.state_mut();
            if let Health::Failed(cause) = &state.health {
                return Err(StoreFailed(cause.clone()).into());
            }
            state.health = Health::Closed;
            (state.newest_commit(), state.options.durability == Durability::Os)
        };
        self.shared.work.notify();
        self.wait_commit(newest).await?;
        self.checkpoint(true).await?;
        self.discard_spares(u64::MAX).await?;
        // What segments do not hold, less than a block each, is on the disk now in either class.
        if is_unsynced { self.carry().await } else { Ok(()) }
    }

    fn add(&self, partition: Partition) -> Slot {
        let mut state = self.state_mut();
        state.partitions.push(Some(Box::new(partition)));
        (state.partitions.len() - 1) as Slot
    }
}

impl Partition {
    /// Takes note of a batch that an earlier run appended.
    pub(crate) fn replay(&mut self, batch: &BatchView<'_>, segment_base: i64) {
        self.note_epoch(batch.leader_epoch(), batch.base_offset());
        let by_log = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
        self.note_producer(
            batch,
            Placed {
                segment_base,
                base_offset: batch.base_offset(),
                log_append_time_ms: if by_log { batch.max_timestamp() } else { -1 },
                timestamp_ms: batch.max_timestamp(),
                now_ms: batch.max_timestamp(),
            },
        );
    }
}

impl Segment {
    /// Takes note of a batch that is in the segment's file, at `pos`.
    pub(crate) fn note_stored(&mut self, batch: &BatchView<'_>, pos: u64, interval: u32) {
        if let Some(index) = &mut self.index {
            index.note_batch(self.base, batch, pos, interval);
        }
        self.first_timestamp_ms.get_or_insert(batch.max_timestamp());
        self.last_append_ms = self.last_append_ms.max(batch.max_timestamp());
    }
}
