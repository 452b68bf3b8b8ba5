//! The store against a model: a plain list of batches per partition that does what the log should do.

mod common;

use std::collections::HashMap;

use common::{Random, batch, config, key, reopen};
use engine::io::Io;
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{AppendError, Durability, Isolation, PartitionSpec, Read, Slot, Store};
use wire::batch::BatchView;

/// What a partition should hold: the bytes of each batch as stored, with its base offset.
#[derive(Default)]
struct Model {
    batches: Vec<(i64, Vec<u8>)>,
    end: i64,
}

async fn append(store: &Store, slot: Slot, bytes: &[u8], model: &mut Model) -> u64 {
    loop {
        let view = BatchView::parse(bytes).unwrap();
        match store.append(slot, &view, 3) {
            Ok(appended) => {
                assert_eq!(appended.base_offset, model.end);
                let mut stored = bytes.to_vec();
                wire::batch::assign(&mut stored, model.end, 3);
                model.batches.push((model.end, stored));
                model.end = appended.last_offset + 1;
                return appended.seq;
            }
            Err(AppendError::Busy) => store.wait_capacity().await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn read(store: &Store, slot: Slot, offset: i64, max_bytes: usize) -> Vec<u8> {
    let data = match store.read(slot, Isolation::ReadUncommitted, offset, max_bytes, true).unwrap() {
        Read::Hot(data) => data,
        Read::Cold => store.read_cold(slot, Isolation::ReadUncommitted, offset, max_bytes, true).await.unwrap(),
    };
    data.slices.iter().flat_map(|slice| slice.as_bytes().to_vec()).collect()
}

/// Reads the whole partition in pieces of `max_bytes` and compares it with the model.
async fn compare(store: &Store, slot: Slot, model: &Model, max_bytes: usize) {
    let mut offset = 0;
    let mut at = 0;
    assert_eq!(store.info(slot).unwrap().high_watermark, model.end);
    while offset < model.end {
        let bytes = read(store, slot, offset, max_bytes).await;
        let mut rest = &bytes[..];
        assert!(!rest.is_empty(), "nothing read at {offset} of {}", model.end);
        while !rest.is_empty() {
            let view = BatchView::parse(rest).unwrap();
            let (base, expected) = &model.batches[at];
            assert_eq!(view.base_offset(), *base);
            assert_eq!(view.bytes(), expected, "batch at offset {base}");
            rest = &rest[view.total_len()..];
            offset = view.last_offset() + 1;
            at += 1;
        }
    }
}

/// A seeded life of a few partitions: appends of all sizes, reads of any offset, clean and unclean restarts.
fn life(seed: u64, durability: Durability) {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::tiny();
    let mut random = Random(seed);
    let mut models: HashMap<u32, Model> = HashMap::new();
    for round in 0..6 {
        let reactor = Reactor::new(Io::ring().unwrap());
        reactor.block_on(async {
            let (store, mut slots) = reopen(&reactor, dir.path(), durability, &limits).await.unwrap();
            for partition in 0..4 {
                if round == 0 {
                    let spec = PartitionSpec { key: key(partition), topic: "t".to_owned(), config: config() };
                    slots.insert(partition, store.create_partition(spec).await.unwrap());
                    models.insert(partition, Model::default());
                }
                compare(&store, slots[&partition], &models[&partition], 3000).await;
            }
            let mut last = 0;
            for _ in 0..150 {
                let partition = random.below(4) as u32;
                // Small ones, large ones in bursts, and now and then one that is larger than a chunk.
                let (times, bytes) = match random.below(20) {
                    0 => (6, 5000),
                    1 => (1, 18_000),
                    _ => (1, 10 + random.below(900)),
                };
                for _ in 0..times {
                    let records = 1 + random.below(3) as usize;
                    let bytes = batch(&mut random, records, bytes as usize);
                    last = append(&store, slots[&partition], &bytes, models.get_mut(&partition).unwrap()).await;
                }
                if random.below(3) == 0 {
                    store.wait_commit(last).await.unwrap();
                    let model = &models[&partition];
                    let offset = random.below(model.end as u64) as i64;
                    let bytes = read(&store, slots[&partition], offset, 100).await;
                    let first = BatchView::parse(&bytes).unwrap();
                    assert!(first.base_offset() <= offset && offset <= first.last_offset());
                }
            }
            store.wait_commit(last).await.unwrap();
            for partition in 0..4 {
                compare(&store, slots[&partition], &models[&partition], 20_000).await;
            }
            if random.below(2) == 0 {
                store.close().await.unwrap();
            }
        });
        reactor.drop_tasks();
    }
}

#[test]
fn a_log_holds_what_was_appended_on_disk() {
    (1..=4).for_each(|seed| life(seed * 7919, Durability::Disk));
}

#[test]
fn a_log_holds_what_was_appended_in_the_page_cache() {
    (1..=4).for_each(|seed| life(seed * 104_729, Durability::Os));
}
