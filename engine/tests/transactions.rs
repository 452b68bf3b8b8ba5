//! Transactions at a store: who may write for them, when readers of committed records are woken, and what a damaged list
//! of aborted transactions costs.

mod common;

use std::path::{Path, PathBuf};

use common::{Random, Story, batch, config, key, reopen};
use engine::io::Open;
use engine::io::sim::{Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::{Notify, Reactor};
use engine::{AppendError, Appended, Durability, Isolation, Marker, Origin, PartitionSpec, Read, Slot, Store};
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;

const DIR: &str = "data";
const PRODUCER: i64 = 7;

/// Runs a test on a store with one empty partition.
fn with_store(test: impl AsyncFnOnce(&Reactor, Store, Slot)) {
    let sim = Sim::new(SimConfig::default());
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        reactor.create_dir(Path::new(DIR)).await.unwrap();
        let (store, _) = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await.unwrap();
        let spec = PartitionSpec { key: key(0), topic: "t".to_owned(), config: config() };
        let slot = store.create_partition(spec).await.unwrap();
        test(&reactor, store, slot).await;
    });
    reactor.drop_tasks();
}

fn transactional(epoch: i16, sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(PRODUCER, epoch, sequence).transactional(true);
    builder.push(&NewRecord { timestamp: 1_000, key: None, value: Some(b"x"), headers: &[] }).unwrap();
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

/// Appends the next batch as a client does whose coordinator confirms everything.
fn append(store: &Store, slot: Slot, epoch: i16, sequence: i32) -> Result<Appended, AppendError> {
    let guard = store.verify_transaction(slot, PRODUCER, epoch, sequence, true)?;
    let bytes = transactional(epoch, sequence);
    store.append_as(Origin::Client, guard, slot, &BatchView::parse(&bytes).unwrap(), 0)
}

fn marker(epoch: i16, commit: bool) -> Marker {
    Marker { producer_id: PRODUCER, producer_epoch: epoch, coordinator_epoch: 0, commit, transaction_version: 2 }
}

#[test]
fn no_batch_follows_the_end_of_its_transaction() {
    with_store(async |_, store, slot| {
        let bytes = transactional(0, 0);
        let view = BatchView::parse(&bytes).unwrap();
        assert_eq!(store.append(slot, &view, 0), Err(AppendError::InvalidTxnState), "nobody has verified it");
        let guard = store.verify_transaction(slot, PRODUCER, 0, 0, false).unwrap();
        assert!(guard.is_some());
        // The transaction ends while its first batch is still under way.
        let end = Marker { transaction_version: 1, ..marker(0, false) };
        store.append_marker(slot, &end, 0).unwrap();
        let late = store.append_as(Origin::Client, guard, slot, &view, 0);
        assert_eq!(late, Err(AppendError::InvalidTxnState));
        // And again, as the next transaction; then under version 2, where epochs fence as well.
        assert_eq!(append(&store, slot, 0, 0).unwrap().base_offset, 1);
        assert_eq!(store.verify_transaction(slot, PRODUCER, 0, 1, true), Ok(None), "it is open");
        store.append_marker(slot, &marker(1, true), 0).unwrap();
        assert_eq!(append(&store, slot, 0, 1), Err(AppendError::InvalidProducerEpoch));
        assert_eq!(append(&store, slot, 1, 3), Err(AppendError::OutOfOrderSequence));
        assert_eq!(append(&store, slot, 1, 0).unwrap().base_offset, 3);
        assert!(store.append(slot, &view, 0).is_err());
        assert_eq!(store.open_transaction(slot, PRODUCER), Some(3));
        let late = store.append_marker(slot, &marker(1, true), 0);
        assert_eq!(late, Err(AppendError::InvalidProducerEpoch), "the marker of the transaction before");
    });
}

#[test]
fn a_producer_outside_of_its_transaction_is_refused() {
    with_store(async |_, store, slot| {
        append(&store, slot, 0, 0).unwrap();
        let mut builder = BatchBuilder::new(Codec::None);
        builder.producer(PRODUCER, 0, 1);
        builder.push(&NewRecord { timestamp: 1_000, key: None, value: None, headers: &[] }).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        let refused = store.append(slot, &BatchView::parse(&bytes).unwrap(), 0);
        assert_eq!(refused, Err(AppendError::InvalidTxnState));
    });
}

#[test]
fn an_unknown_producer_begins_at_0_where_epochs_are_raised() {
    with_store(async |_, store, slot| {
        assert_eq!(append(&store, slot, 0, 5), Err(AppendError::OutOfOrderSequence));
        let bytes = transactional(0, 5);
        let view = BatchView::parse(&bytes).unwrap();
        let guard = store.verify_transaction(slot, PRODUCER, 0, 5, false).unwrap();
        assert!(store.append_as(Origin::Client, guard, slot, &view, 0).is_ok());
        // A coordinator numbers nothing.
        assert!(store.append_as(Origin::Coordinator, None, slot, &view, 0).is_ok());
    });
}

/// A batch behind one that has to be verified again waits, or the earlier one could never be written.
#[test]
fn a_batch_does_not_overtake_one_that_is_verified_again() {
    with_store(async |_, store, slot| {
        let guard = store.verify_transaction(slot, PRODUCER, 0, 0, false).unwrap();
        assert_eq!(store.verify_transaction(slot, PRODUCER, 0, 1, false), Ok(guard));
        let second = transactional(0, 1);
        let refused = store.append_as(Origin::Client, guard, slot, &BatchView::parse(&second).unwrap(), 0);
        assert_eq!(refused, Err(AppendError::OutOfOrderSequence));
        let first = transactional(0, 0);
        store.append_as(Origin::Client, guard, slot, &BatchView::parse(&first).unwrap(), 0).unwrap();
        store.append(slot, &BatchView::parse(&second).unwrap(), 0).unwrap();
    });
}

#[test]
fn a_reader_of_committed_records_is_woken_by_the_marker() {
    with_store(async |reactor, store, slot| {
        let mut random = Random(3);
        append(&store, slot, 0, 0).unwrap();
        let plain = batch(&mut random, 1, 100);
        let newest = store.append(slot, &BatchView::parse(&plain).unwrap(), 0).unwrap();
        let (all, committed) = (Notify::new(), Notify::new());
        store.watch(slot, Isolation::ReadUncommitted, 0, all.clone());
        store.watch(slot, Isolation::ReadCommitted, 0, committed.clone());
        store.wait_commit(newest.seq).await.unwrap();
        all.wait().await;
        let info = store.info(slot).unwrap();
        assert_eq!((info.high_watermark, info.last_stable), (2, 0));
        let read = |isolation, from| match store.read(slot, isolation, from, 1 << 20, true).unwrap() {
            Read::Hot(data) => data.end_offset(),
            Read::Cold => panic!("it is in memory"),
        };
        assert_eq!(read(Isolation::ReadUncommitted, 0), Some(2));
        assert_eq!(read(Isolation::ReadCommitted, 0), None);
        let marked = store.append_marker(slot, &marker(1, false), 0).unwrap();
        assert_eq!(store.info(slot).unwrap().last_stable, 0, "the marker is not durable yet");
        committed.wait().await;
        assert!(store.committed() >= marked.seq);
        assert_eq!(store.info(slot).unwrap().last_stable, 3);
        assert_eq!(read(Isolation::ReadCommitted, 0), Some(3));
        let aborted = store.aborted(slot, 0, 3).unwrap().unwrap();
        assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (PRODUCER, 0));
        // The next transaction lies within what one commit put into memory: readers stop inside of it.
        append(&store, slot, 1, 0).unwrap();
        let newest = store.append(slot, &BatchView::parse(&plain).unwrap(), 0).unwrap();
        store.wait_commit(newest.seq).await.unwrap();
        assert_eq!((read(Isolation::ReadUncommitted, 1), read(Isolation::ReadCommitted, 1)), (Some(5), Some(3)));
        // What is deleted does not hold readers back.
        store.watch(slot, Isolation::ReadCommitted, 3, committed.clone());
        store.delete_records(slot, 4).await.unwrap();
        committed.wait().await;
        assert_eq!(store.info(slot).unwrap().last_stable, 4);
        let _ = reactor;
    });
}

#[test]
fn a_damaged_list_of_aborted_transactions_is_made_anew() {
    with_store(async |reactor, store, slot| {
        let mut random = Random(5);
        let mut stored: Vec<Vec<u8>> = Vec::new();
        let mut newest = None;
        // Several segments, and in each of them transactions that began in the one before.
        for number in 0..24_i16 {
            append(&store, slot, number, 0).unwrap();
            for _ in 0..3 {
                let plain = batch(&mut random, 1, 1000);
                while store.append(slot, &BatchView::parse(&plain).unwrap(), 0) == Err(AppendError::Busy) {
                    store.wait_capacity().await;
                }
            }
            newest = Some(store.append_marker(slot, &marker(number + 1, number % 3 == 0), 0).unwrap());
        }
        store.wait_commit(newest.unwrap().seq).await.unwrap();
        let end = store.info(slot).unwrap().high_watermark;
        let mut offset = 0;
        while offset < end {
            let data = store.read_any(slot, offset).await.unwrap();
            for slice in &data.slices {
                stored.extend(wire::batch::Batches::new(slice.as_bytes()).map(|b| b.unwrap().bytes().to_vec()));
            }
            offset = data.end_offset().unwrap();
        }
        let story = Story::of(stored.iter().map(Vec::as_slice));
        store.close().await.unwrap();

        let lists: Vec<PathBuf> = reactor
            .list_dir(Path::new("data/t-0"))
            .unwrap()
            .iter()
            .filter(|entry| entry.name.to_str().unwrap().ends_with(".aborted"))
            .map(|entry| Path::new("data/t-0").join(&entry.name))
            .collect();
        assert!(lists.len() >= 2, "{lists:?}");
        for path in &lists {
            let file = reactor.open(path, Open { write: true, ..Open::default() }).await.unwrap();
            reactor.truncate(&file, 20).await.unwrap();
        }
        let (store, slots) = reopen(reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await.unwrap();
        for (from, to) in [(0, end), (end / 3, end / 2), (end / 2, end)] {
            let found = store.aborted_cold(slots[&0], from, to).await.unwrap();
            story.check_aborted(from, to, &found, "after the damage");
        }
    });
}
