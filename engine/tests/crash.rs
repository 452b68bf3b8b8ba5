//! A store that crashes at every step of its I/O, on a simulated disk, and what it finds afterwards: nothing that was
//! acknowledged is lost, nothing is invented, offsets have no gap.

mod common;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use common::{Random, batch, config, key, reopen};
use engine::io::Io;
use engine::io::sim::{Crash, Image, Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{AppendError, Durability, PartitionSpec, Store};
use wire::batch::BatchView;

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
    let (store, mut slots) = or_wait(reopen(reactor, Path::new("data"), durability, &Limits::tiny()).await).await;
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
            let bytes = batch(&mut random, 1 + size as usize % 2, size as usize);
            let view = BatchView::parse(&bytes).unwrap();
            let appended = loop {
                match store.append(slot, &view, 0) {
                    Ok(appended) => break appended,
                    Err(AppendError::Busy) => store.wait_capacity().await,
                    Err(AppendError::Failed) => std::future::pending().await,
                    Err(error) => panic!("{error:?}"),
                }
            };
            let mut stored = bytes;
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
        let (store, slots) = reopen(&reactor, Path::new("data"), durability, &Limits::tiny())
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
            assert_eq!(store.info(*slot).unwrap().high_watermark, end, "{context}: partition {partition}");
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

fn empty_disk() -> Image {
    let sim = Sim::new(SimConfig::default());
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        reactor.create_dir(Path::new("data")).await.unwrap();
        reactor.sync_dir(Path::new("")).await.unwrap();
    });
    sim.crash(Crash::Power, 0)
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
    for seed in 811..=830 {
        crash_everywhere(seed, Durability::Os, Crash::Power, 1);
    }
}
