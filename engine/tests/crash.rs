//! A store that crashes at every step of its I/O, on a simulated disk, and what it finds afterwards: nothing that was
//! acknowledged is lost, nothing is invented, offsets have no gap, and transactions are as their batches and markers say.

mod common;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use common::{DIR, Random, Story, batch, config, empty_disk, key, marker_batch, reopen};
use engine::io::Io;
use engine::io::sim::{Crash, Image, Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{AppendError, Appended, Durability, Marker, Origin, PartitionSpec, Slot, Store};
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;

const PARTITIONS: usize = 3;

/// What the clients of one life know.
#[derive(Clone, Default)]
struct History {
    /// Per partition: every batch sent, as it should be stored, in the order of its offsets.
    sent: [Vec<Vec<u8>>; PARTITIONS],
    /// Per partition: the offset below which everything was acknowledged.
    acked: [i64; PARTITIONS],
    /// Partitions whose creation was acknowledged.
    created: usize,
}

/// Opens the store, appends until the script ends, and notes what was acknowledged. False when the world ended first.
fn life(io: Io, durability: Durability, seed: u64, history: Rc<RefCell<History>>, appends: usize) -> bool {
    let reactor = Reactor::new(io);
    let ended = reactor.try_block_on(script(&reactor, durability, seed, &history, appends)).is_ok();
    reactor.drop_tasks();
    ended
}

async fn script(reactor: &Reactor, durability: Durability, seed: u64, history: &Rc<RefCell<History>>, appends: usize) {
    let mut random = Random(seed);
    let (store, mut slots) = or_wait(reopen(reactor, Path::new(DIR), durability, &Limits::tiny()).await).await;
    for partition in 0..PARTITIONS as u32 {
        if let std::collections::hash_map::Entry::Vacant(vacant) = slots.entry(partition) {
            let spec = PartitionSpec { key: key(partition), topic: "t".to_owned(), config: config() };
            vacant.insert(or_wait(store.create_partition(spec).await).await);
        }
        let mut known = history.borrow_mut();
        known.created = known.created.max(partition as usize + 1);
    }
    for _ in 0..appends {
        let partition = random.below(PARTITIONS as u64) as usize;
        let slot = slots[&(partition as u32)];
        let (times, size) = match random.below(12) {
            0 => (5, 4500),
            1 => (1, 18_000),
            _ => (1, 20 + random.below(600)),
        };
        let mut newest = None;
        for _ in 0..times {
            let story = Story::of(history.borrow().sent[partition].iter().map(Vec::as_slice));
            let (stored, appended) = match random.below(8) {
                0 => end_transaction(reactor, &store, &story, &mut random, slot).await,
                1 | 2 => append_in_transaction(&store, &story, &mut random, slot).await,
                _ => {
                    let bytes = batch(&mut random, 1 + size as usize % 2, size as usize);
                    let view = BatchView::parse(&bytes).unwrap();
                    let appended = patient(&store, || store.append(slot, &view, 0)).await;
                    (bytes, appended)
                }
            };
            let mut stored = stored;
            wire::batch::assign(&mut stored, appended.base_offset, 0);
            history.borrow_mut().sent[partition].push(stored);
            newest = Some((appended.seq, appended.last_offset + 1));
        }
        let (seq, end) = newest.unwrap();
        let acknowledge = {
            let (store, history) = (store.clone(), history.clone());
            async move {
                if store.wait_commit(seq).await.is_ok() {
                    let acked = &mut history.borrow_mut().acked[partition];
                    *acked = end.max(*acked);
                }
            }
        };
        // Some clients wait, the others keep sending.
        if random.below(4) == 0 { acknowledge.await } else { reactor.spawn(acknowledge) }
    }
    or_wait(store.close().await).await;
}

async fn patient(store: &Store, append: impl Fn() -> Result<Appended, AppendError>) -> Appended {
    loop {
        match append() {
            Ok(appended) => return appended,
            Err(AppendError::Busy) => store.wait_capacity().await,
            Err(AppendError::Failed) => std::future::pending().await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// The next batch of one of two producers, whose transaction it begins if none is open.
async fn append_in_transaction(store: &Store, story: &Story, random: &mut Random, slot: Slot) -> (Vec<u8>, Appended) {
    let id = 500 + random.below(2) as i64;
    let (epoch, next, open) = story.producers.get(&id).copied().unwrap_or_default();
    let guard = store.verify_transaction(slot, id, epoch, next, true).unwrap();
    assert_eq!(guard.is_none(), open.is_some());
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(id, epoch, next).transactional(true);
    let value = vec![random.next() as u8; random.below(400) as usize];
    builder.push(&NewRecord { timestamp: 1_000, key: None, value: Some(&value), headers: &[] }).unwrap();
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    let view = BatchView::parse(&bytes).unwrap();
    let appended = patient(store, || store.append_as(Origin::Client, guard, slot, &view, 0)).await;
    assert!(!appended.duplicate);
    (bytes, appended)
}

/// The end of a producer's transaction, if it has one, under either version.
async fn end_transaction(
    reactor: &Reactor,
    store: &Store,
    story: &Story,
    random: &mut Random,
    slot: Slot,
) -> (Vec<u8>, Appended) {
    let id = 500 + random.below(2) as i64;
    let (epoch, ..) = story.producers.get(&id).copied().unwrap_or_default();
    let transaction_version = 1 + random.below(2) as i16;
    let marker = Marker {
        producer_id: id,
        producer_epoch: if transaction_version == 2 { epoch + 1 } else { epoch },
        coordinator_epoch: 0,
        commit: random.below(2) == 0,
        transaction_version,
    };
    let now_ms = Cell::new(0);
    let appended = patient(store, || {
        now_ms.set(reactor.unix_ms());
        store.append_marker(slot, &marker, 0)
    });
    let appended = appended.await;
    (marker_batch(&marker, appended.base_offset, now_ms.get(), false), appended)
}

/// An inline write cannot wait for ever in a world that has ended, as everything else does: it fails. A failure in a
/// world that goes on shows as a script that does not end.
async fn or_wait<T>(result: std::io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(_) => std::future::pending().await,
    }
}

/// Recovers an image and compares what it holds with what was sent. Returns the history as the next life knows it:
/// what was found is what has been sent.
fn verify(image: &Image, durability: Durability, history: &History, context: &str) -> History {
    let sim = Sim::with_image(SimConfig { seed: 99, ..SimConfig::default() }, image);
    let reactor = Reactor::new(sim.io());
    let mut after = history.clone();
    reactor.block_on(async {
        let (store, slots) = reopen(&reactor, Path::new(DIR), durability, &Limits::tiny())
            .await
            .unwrap_or_else(|error| panic!("{context}: recovery failed: {error}"));
        for partition in 0..history.created {
            let slot =
                slots.get(&(partition as u32)).unwrap_or_else(|| panic!("{context}: partition {partition} gone"));
            let found = read_all(&store, *slot, context).await;
            let sent = &history.sent[partition];
            assert!(found.len() <= sent.len(), "{context}: partition {partition} has batches that were never sent");
            for (at, (found, sent)) in found.iter().zip(sent).enumerate() {
                assert!(found == sent, "{context}: partition {partition}, batch {at} differs");
            }
            let end = found.last().map_or(0, |last| BatchView::parse(last).unwrap().last_offset() + 1);
            let acked = history.acked[partition];
            assert!(end >= acked, "{context}: partition {partition} lost acknowledged records: {end} of {acked}");
            let info = store.info(*slot).unwrap();
            assert_eq!(info.high_watermark, end, "{context}: partition {partition}");
            let story = Story::of(found.iter().map(Vec::as_slice));
            assert_eq!(info.last_stable, story.last_stable(end, 0), "{context}: partition {partition}");
            for (from, to) in [(0, end), (end / 2, end), (end / 3, end / 2), (end / 2, end / 2 + 1)] {
                let aborted = store.aborted_cold(*slot, from, to).await.unwrap();
                story.check_aborted(from, to, &aborted, &format!("{context}: partition {partition}"));
            }
            after.sent[partition].truncate(found.len());
            after.acked[partition] = end;
        }
    });
    reactor.drop_tasks();
    after
}

async fn read_all(store: &Store, slot: u32, context: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset < store.info(slot).unwrap().high_watermark {
        let data = match store.read_any(slot, offset).await {
            Ok(data) => data,
            Err(error) => panic!("{context}: slot {slot} at {offset}: {error:?}, {:?}", store.info(slot)),
        };
        for slice in data.slices {
            let mut rest = slice.as_bytes();
            while !rest.is_empty() {
                let view = BatchView::parse(rest).unwrap();
                assert_eq!(view.base_offset(), offset, "a gap or an overlap");
                assert!(view.crc_matches());
                found.push(view.bytes().to_vec());
                offset = view.last_offset() + 1;
                rest = &rest[view.total_len()..];
            }
        }
    }
    found
}

fn run(
    image: &Image,
    config: SimConfig,
    durability: Durability,
    history: &History,
    appends: usize,
) -> (Sim, History, bool) {
    let seed = config.seed * 31 + 7;
    let sim = Sim::with_image(config, image);
    let history = Rc::new(RefCell::new(history.clone()));
    let io = sim.io();
    let ended = life(io, durability, seed, history.clone(), appends);
    let known = history.borrow().clone();
    (sim, known, ended)
}

/// What a crash may take: the class `Os` promises nothing when the power goes, but that what is found is a beginning of
/// what was sent.
fn promised(history: History, durability: Durability, crash: Crash) -> History {
    match (durability, crash) {
        (Durability::Os, Crash::Power) => History { acked: [0; PARTITIONS], ..history },
        _ => history,
    }
}

/// Crashes one scenario at every `stride`-th step; after each crash, a second life on what was found crashes as well.
fn crash_everywhere(seed: u64, durability: Durability, crash: Crash, stride: usize) {
    let disk = empty_disk();
    let config = SimConfig { seed, short_transfer: 20_000, ..SimConfig::default() };
    let (whole, history, ended) = run(&disk, config.clone(), durability, &History::default(), 40);
    assert!(ended, "seed {seed}: the scenario fails without a crash");
    // After a clean stop all is on the disk, in either class.
    verify(&whole.crash(crash, 0), durability, &history, &format!("seed {seed}, {durability:?}, after the stop"));
    let steps = whole.steps();
    assert!(steps > 50, "the scenario has only {steps} steps");
    for step in (0..steps).step_by(stride) {
        let context = format!("seed {seed}, {durability:?}, {crash:?}, step {step} of {steps}");
        let config = SimConfig { crash_at: Some(step), ..config.clone() };
        let (sim, history, _) = run(&disk, config, durability, &History::default(), 40);
        assert!(sim.is_halted(), "{context}: did not crash");
        let history = promised(history, durability, crash);
        let image = sim.crash(crash, step);
        let found = verify(&image, durability, &history, &context);

        // The crash again, during the recovery or soon after it.
        let again = step % 61;
        let context = format!("{context}, then step {again}");
        let config = SimConfig { seed: seed + step, crash_at: Some(again), ..SimConfig::default() };
        let (sim, history, ended) = run(&image, config, durability, &found, 10);
        let history = if ended { history } else { promised(history, durability, crash) };
        verify(&sim.crash(crash, step + 1), durability, &history, &context);
    }
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    for seed in 1..=40 {
        crash_everywhere(seed, Durability::Disk, Crash::Power, 1);
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    for seed in 421..=430 {
        crash_everywhere(seed, Durability::Disk, Crash::Process, 1);
        crash_everywhere(seed, Durability::Os, Crash::Process, 1);
    }
}

/// The kernel writes its page cache in any order: after a power cut the class `Os` has a beginning of each log, and starts.
#[test]
fn a_power_cut_without_syncs_leaves_a_beginning() {
    for seed in (811..=880).chain([1006]) {
        crash_everywhere(seed, Durability::Os, Crash::Power, 1);
    }
}
