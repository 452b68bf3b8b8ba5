//! What the store's tests share. Not every test uses all of it.
#![allow(dead_code)]

pub(crate) mod compacted;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use engine::io::sim::{Crash, Image, Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{
    AbortedTransaction, Durability, Marker, PartitionConfig, PartitionKey, Slot, Store, StoreOptions, recovery,
};
use wire::batch::{BatchBuilder, BatchView, ControlRecord, EndTransaction, NewRecord, write_end_transaction};
use wire::compression::Codec;

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The data directory of stores on a simulated disk.
pub(crate) const DIR: &str = "data";

/// A simulated disk with nothing but the data directory.
pub(crate) fn empty_disk() -> Image {
    let sim = Sim::new(SimConfig::default());
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        reactor.create_dir(Path::new(DIR)).await.unwrap();
        reactor.sync_dir(Path::new("")).await.unwrap();
    });
    sim.crash(Crash::Power, 0)
}

pub(crate) fn batch(random: &mut Random, records: usize, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    let mut value = vec![0; value_bytes];
    for _ in 0..records {
        value.iter_mut().for_each(|byte| *byte = random.next() as u8);
        builder.push(&NewRecord { timestamp: 1_000, key: None, value: Some(&value), headers: &[] }).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

pub(crate) fn options(dir: &Path, incarnation: u64, durability: Durability, limits: &Limits) -> StoreOptions {
    StoreOptions { dir: dir.to_owned(), core: 0, incarnation, durability, memory_ahead: false, limits: limits.clone() }
}

pub(crate) fn config() -> PartitionConfig {
    PartitionConfig {
        segment_bytes: 40 << 10,
        timestamp_after_max_ms: i64::MAX,
        max_message_bytes: 1 << 20,
        retention_ms: -1,
        ..PartitionConfig::default()
    }
}

pub(crate) fn key(partition: u32) -> PartitionKey {
    PartitionKey { topic_id: [9; 16], partition }
}

/// In a world that has ended, an error is the end and not an answer.
pub(crate) async fn or_end<T>(sim: &Sim, result: io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            assert!(sim.is_halted(), "failed by itself: {error}");
            std::future::pending().await
        }
    }
}

pub(crate) fn start(reactor: &Reactor, store: &Store) {
    let running = store.clone();
    reactor.spawn(async move {
        running.run().await;
    });
    let running = store.clone();
    reactor.spawn(async move {
        running.run_checkpoints().await;
    });
}

/// Opens what the directory holds.
pub(crate) async fn reopen(
    reactor: &Reactor,
    dir: &Path,
    durability: Durability,
    limits: &Limits,
) -> io::Result<(Store, HashMap<u32, Slot>)> {
    let found = recovery::recover(reactor, dir, limits).await?;
    let store = Store::open(reactor.clone(), options(dir, found.incarnation, durability, limits)).await?;
    start(reactor, &store);
    let mut slots = HashMap::new();
    for seed in found.seeds {
        let partition = seed.key.partition;
        slots.insert(partition, store.adopt(seed, config()).await?);
    }
    store.carry().await?;
    recovery::discard_journals_before(reactor, dir, found.incarnation).await?;
    Ok((store, slots))
}

/// What a log says of its producers and their transactions, told by going through all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    /// Epoch, next sequence number and first offset of the open transaction, by producer.
    pub(crate) producers: BTreeMap<i64, (i16, i32, Option<i64>)>,
    /// First offset and marker of transactions that have ended.
    ended: Vec<(i64, i64)>,
    /// Producer, first offset and marker, in the order of the markers.
    aborted: Vec<(i64, i64, i64)>,
}

impl Story {
    pub(crate) fn of<'a>(stored: impl Iterator<Item = &'a [u8]>) -> Story {
        let mut story = Story::default();
        stored.for_each(|batch| story.add(&BatchView::parse(batch).unwrap()));
        story
    }

    fn add(&mut self, batch: &BatchView<'_>) {
        if batch.producer_id() < 0 {
            return;
        }
        let (id, at) = (batch.producer_id(), batch.base_offset());
        let (epoch, next, open) = self.producers.entry(id).or_default();
        if batch.producer_epoch() != *epoch {
            (*epoch, *next) = (batch.producer_epoch(), 0);
        }
        if batch.attributes().is_control() {
            let record = batch.records().unwrap().next().unwrap().unwrap();
            let ControlRecord::EndTransaction { end, .. } = ControlRecord::parse(&record).unwrap() else { panic!() };
            if let Some(first) = open.take() {
                self.ended.push((first, at));
                if end == EndTransaction::Abort {
                    self.aborted.push((id, first, at));
                }
            }
        } else {
            *next = batch.base_sequence() + batch.record_count();
            if batch.attributes().is_transactional() {
                open.get_or_insert(at);
            }
        }
    }

    /// Whether the transaction of a producer's record was aborted.
    pub(crate) fn is_aborted(&self, producer_id: i64, offset: i64) -> bool {
        self.aborted.iter().any(|(id, first, marker)| *id == producer_id && (*first..*marker).contains(&offset))
    }

    pub(crate) fn last_stable(&self, high_watermark: i64, log_start: i64) -> i64 {
        let open = self.producers.values().filter_map(|(.., open)| *open);
        let ending = self.ended.iter().filter(|(_, marker)| *marker >= high_watermark).map(|(first, _)| *first);
        open.chain(ending).min().map_or(high_watermark, |first| first.max(log_start).min(high_watermark))
    }

    pub(crate) fn check_aborted(&self, from: i64, to: i64, found: &[AbortedTransaction], context: &str) {
        let found: Vec<(i64, i64, i64)> =
            found.iter().map(|a| (a.producer_id, a.first_offset, a.last_offset)).collect();
        let overlaps = |(_, first, last): &&(i64, i64, i64)| *first < to && *last >= from;
        let expected: Vec<(i64, i64, i64)> = self.aborted.iter().filter(overlaps).copied().collect();
        assert_eq!(found, expected, "{context}: aborted in {from}..{to}");
    }
}

/// A marker's batch as the log holds it.
pub(crate) fn marker_batch(marker: &Marker, offset: i64, now_ms: i64, log_append_time: bool) -> Vec<u8> {
    let end = if marker.commit { EndTransaction::Commit } else { EndTransaction::Abort };
    let Marker { producer_id, producer_epoch, coordinator_epoch, .. } = *marker;
    let mut stored = Vec::new();
    write_end_transaction(&mut stored, end, producer_id, producer_epoch, coordinator_epoch, now_ms).unwrap();
    wire::batch::assign(&mut stored, offset, 0);
    if log_append_time {
        wire::batch::set_log_append_time(&mut stored, now_ms);
    }
    stored
}
