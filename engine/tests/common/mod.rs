//! What the store's tests share. Not every test uses all of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io;
use std::path::Path;

use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{Durability, PartitionConfig, PartitionKey, Slot, Store, StoreOptions, recovery};
use wire::batch::{BatchBuilder, NewRecord};
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
    StoreOptions { dir: dir.to_owned(), core: 0, incarnation, durability, limits: limits.clone() }
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
