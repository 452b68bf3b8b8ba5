//! Partitions come and go: created, taken over from an earlier run, deleted, cut at the front; and the store's end.

use std::collections::VecDeque;
use std::io;

use crate::checkpoint::write_file;
use crate::gather::FullChunk;
use crate::index::Index;
use crate::io::Open;
use crate::journal::PartitionKey;
use crate::log::Log;
use crate::partition::{Partition, PartitionConfig};
use crate::producer::{ProducerBatch, ProducerTable, sequence_after};
use crate::read::{Scan, batches};
use crate::recovery::{self, PartitionSeed};
use crate::segment::{self, Segment};
use crate::store::{Health, Slot, Store};

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

impl Store {
    /// Creates a partition. It is durable when this returns. [`Store::run`] must be running.
    pub async fn create_partition(&self, spec: PartitionSpec) -> io::Result<Slot> {
        let (data_dir, max_producers) = {
            let state = self.state();
            (state.options.dir.clone(), state.options.limits.producers_per_partition)
        };
        let reactor = &self.shared.reactor;
        let dir = data_dir.join(format!("{}-{}", spec.topic, spec.key.partition));
        match reactor.create_dir(&dir).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let metadata = recovery::encode_partition_metadata(&spec.key.topic_id);
        write_file(reactor, &dir.join(recovery::PARTITION_METADATA), metadata.as_bytes()).await?;
        reactor.sync_dir(&data_dir).await?;
        let log = Log::new(dir, VecDeque::from([Segment::new(0)]), 0, Vec::new());
        let slot = self.add(Partition::new(spec.key, spec.config, log, ProducerTable::new(max_producers)));
        // From here on the journal knows the partition: recovery takes segments that it does not know for a stranger's.
        self.carry_slots(&[slot]).await?;
        Ok(slot)
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
        // Damaged or missing, it costs only the memory of old sequence numbers.
        let producers = recovery::read_checksummed(reactor, &segment::producers_path(&seed.dir, active.base)).await?;
        let mut partition = Partition::new(
            seed.key,
            config,
            Log::new(seed.dir.clone(), VecDeque::from([Segment::new(0)]), 0, Vec::new()),
            producers
                .and_then(|bytes| ProducerTable::decode(&bytes, limits.producers_per_partition))
                .unwrap_or_else(|| ProducerTable::new(limits.producers_per_partition)),
        );
        let mut rest = Vec::new();
        if active.end_pos > 0 {
            let path = segment::log_path(&seed.dir, active.base);
            let file = reactor.open(&path, Open { direct: true, write: true, ..Open::default() }).await?;
            active.file = Some(file.clone());
            let mut scan = Scan::new(file, active.base, active.end_pos, limits.chunk_bytes);
            while let Some((pos, piece)) = scan.next(reactor).await? {
                for (from, batch) in batches(piece.as_bytes()) {
                    partition.replay(&batch, &mut active, pos + from as u64, limits.index_interval_bytes);
                }
                if pos + piece.len() as u64 > active.flushed {
                    rest.extend_from_slice(&piece.as_bytes()[active.flushed.saturating_sub(pos) as usize..]);
                }
            }
        }
        segments.push_back(active);
        partition.log = Log::new(seed.dir, segments, seed.log_start, rest);
        partition.sealed_end = partition.log.durable;
        Ok(self.add(partition))
    }

    /// Writes the newest state of every adopted partition into this incarnation's journal. Resolves when it is durable;
    /// after that of all cores the journals of earlier incarnations may go. [`Store::run`] must be running.
    pub async fn carry(&self) -> io::Result<()> {
        let slots: Vec<Slot> = (0..self.state().partitions.len() as Slot).collect();
        self.carry_slots(&slots).await
    }

    /// Deletes a partition. Its records are gone for readers at once and from the disk when this returns.
    pub async fn delete_partition(&self, slot: Slot) -> io::Result<()> {
        let (dir, data_dir) = {
            let mut state = self.state_mut();
            let Some(mut partition) = state.partitions.get_mut(slot as usize).and_then(Option::take) else {
                return Ok(());
            };
            if let Some(direct) = partition.direct.take() {
                state.direct_partitions -= 1;
                state.cached.push_back(FullChunk { writer: direct.writer, slots: Vec::new() });
            }
            partition.watches.drain(..).for_each(|(_, notify)| notify.notify());
            (partition.log.dir, state.options.dir.clone())
        };
        let reactor = &self.shared.reactor;
        // Renamed first: a crash half way leaves a directory that says what it is.
        let doomed = dir.with_file_name(format!(
            "{}.{:016x}{}",
            dir.file_name().unwrap_or_default().to_string_lossy(),
            reactor.random(),
            recovery::DELETED_SUFFIX
        ));
        reactor.rename(&dir, &doomed).await?;
        reactor.sync_dir(&data_dir).await?;
        recovery::remove_tree(reactor, &doomed).await
    }

    /// Makes `offset` the first that readers may see, and deletes the segments that lie before it. Returns the new
    /// start. The change is durable when this returns. None when the partition is gone or `offset` lies outside of it.
    pub async fn delete_records(&self, slot: Slot, offset: i64) -> io::Result<Option<i64>> {
        {
            let mut state = self.state_mut();
            let Some(partition) = state.partition_mut(slot) else { return Ok(None) };
            let log = &mut partition.log;
            if offset > log.durable.offset {
                return Ok(None);
            }
            log.log_start = log.log_start.max(offset);
        }
        self.carry_slots(&[slot]).await?;
        self.remove_segments(slot).await
    }

    /// Deletes the segments that lie wholly before the log's start.
    pub(crate) async fn remove_segments(&self, slot: Slot) -> io::Result<Option<i64>> {
        let (removed, dir, start) = {
            let mut state = self.state_mut();
            let Some(partition) = state.partition_mut(slot) else { return Ok(None) };
            let log = &mut partition.log;
            let behind = |s: &Segment| s.sealed && s.end_offset <= log.log_start;
            let keep = log.segments.iter().take_while(|s| behind(s)).count();
            (log.remove_before(keep), log.dir.clone(), log.log_start)
        };
        let reactor = &self.shared.reactor;
        for segment in removed {
            for path in [segment::log_path(&dir, segment.base), segment::producers_path(&dir, segment.base)] {
                match reactor.remove_file(&path).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(Some(start))
    }

    /// Refuses appends from now on, commits what was appended and moves it into segments.
    pub async fn close(&self) -> io::Result<()> {
        let newest = {
            let mut state = self.state_mut();
            state.health = Health::Closed;
            state.newest_commit()
        };
        self.shared.work.notify();
        self.wait_commit(newest).await.map_err(|failed| io::Error::other(failed.to_string()))?;
        self.checkpoint(true).await
    }

    fn add(&self, partition: Partition) -> Slot {
        let mut state = self.state_mut();
        state.partitions.push(Some(Box::new(partition)));
        (state.partitions.len() - 1) as Slot
    }
}

impl Partition {
    /// Takes note of a batch that an earlier run appended.
    fn replay(&mut self, batch: &wire::batch::BatchView<'_>, active: &mut Segment, pos: u64, interval: u32) {
        if let Some(index) = &mut active.index {
            index.note(active.base, batch.base_offset(), pos, batch.max_timestamp(), interval);
        }
        active.first_timestamp_ms.get_or_insert(batch.max_timestamp());
        active.last_append_ms = active.last_append_ms.max(batch.max_timestamp());
        self.note_epoch(batch.leader_epoch(), batch.base_offset());
        if batch.producer_id() >= 0 && batch.base_sequence() >= 0 {
            let first_sequence = batch.base_sequence();
            let appended = ProducerBatch {
                first_sequence,
                last_sequence: sequence_after(first_sequence, batch.record_count() - 1),
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset(),
                log_append_time_ms: if self.config.log_append_time { batch.max_timestamp() } else { -1 },
            };
            self.producers.record(batch.producer_id(), batch.producer_epoch(), appended, batch.max_timestamp());
        }
    }
}
