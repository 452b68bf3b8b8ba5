//! Lives of a broker's stores in one simulated world: several cores with a journal each, topics that come, are cut at
//! the front, deleted and made again, some of them compacted, producers that repeat themselves, transactions, stops of every
//! kind. After each life the disk is recovered aside and held against what the clients know.

mod check;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod model;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::Path;
use std::rc::Rc;

use engine::io::sim::{Crash, Image, Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::{Notify, Reactor};
use engine::{Durability, PartitionKey, Slot, Store, recovery};

use check::verify;
use client::client;
use common::compacted::few_keys;
use common::{DIR, Random, empty_disk, options, or_end};
use model::{History, Known, PLACES, settings};

/// When the first life begins.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// How one life goes.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    cores: usize,
    durability: Durability,
    /// Steps of each of a core's two clients.
    ops: usize,
    /// Whether the life ends with a clean stop.
    close: bool,
}

#[test]
fn lives_that_end_with_a_power_cut() {
    let of_disk: usize = (1..=60).map(|seed| lives(seed, Durability::Disk, Crash::Power)).sum();
    let of_os: usize = (61..=90).map(|seed| lives(seed, Durability::Os, Crash::Power)).sum();
    assert!(of_disk > 1000 && of_os > 100, "compaction has removed no more than {of_disk} and {of_os} records");
}

#[test]
fn lives_that_end_with_a_kill() {
    let of_os: usize = (1..=30).map(|seed| lives(seed, Durability::Os, Crash::Process)).sum();
    let of_disk: usize = (31..=50).map(|seed| lives(seed, Durability::Disk, Crash::Process)).sum();
    assert!(of_os > 300 && of_disk > 100, "compaction has removed no more than {of_os} and {of_disk} records");
}

#[test]
#[ignore = "minutes"]
fn long_lives() {
    for seed in 1000..1300 {
        lives(seed, Durability::Disk, Crash::Power);
        lives(seed, Durability::Os, Crash::Process);
        lives(seed, Durability::Os, Crash::Power);
    }
}

/// The same seed gives the same schedule to the last completion, and the same disk.
#[test]
fn the_same_seed_gives_the_same_life() {
    let disk = empty_disk();
    for seed in 1..=4 {
        let plan = Plan { seed, cores: 2, durability: Durability::Disk, ops: 60, close: true };
        let once = || {
            let config = SimConfig { seed, unix_ms: BEGIN_MS, short_transfer: 20_000, ..SimConfig::default() };
            let (sim, _, ended) = run(&disk, config, plan, &History::default());
            assert!(ended);
            (sim.schedule_hash(), sim.steps(), sim.crash(Crash::Power, 1))
        };
        let (first, second) = (once(), once());
        assert_eq!((first.0, first.1), (second.0, second.1), "seed {seed}");
        assert!(first.2 == second.2, "seed {seed}: the disks differ");
    }
}

/// Several lives in a row on one disk, each ended by a crash or a clean stop, with another number of cores each time. Answers
/// how many records compaction has removed.
fn lives(seed: u64, durability: Durability, crash: Crash) -> usize {
    let mut random = Random(seed * 7919);
    let mut image = empty_disk();
    let mut known = History::default();
    for number in 0..5 {
        let plan = Plan {
            seed: seed * 100 + number,
            cores: 1 + random.below(3) as usize,
            durability,
            ops: 20 + random.below(60) as usize,
            close: random.below(4) == 0,
        };
        let crash_at = (random.below(4) != 0).then(|| random.below(1200));
        let unix_ms = BEGIN_MS + number as i64 * 10_000;
        let config = SimConfig {
            seed: plan.seed,
            unix_ms,
            short_transfer: [20_000, 500_000][random.below(2) as usize],
            stall: if random.below(4) == 0 { 5_000 } else { 0 },
            crash_at,
            ..SimConfig::default()
        };
        let context = format!("seed {seed}, {durability:?}, {crash:?}, life {number}, crash at {crash_at:?}");
        let (sim, mut after, _) = run(&image, config, plan, &known);
        image = sim.crash(crash, seed + number);
        if (durability, crash) == (Durability::Os, Crash::Power) && after.clean != Some(true) {
            // A beginning of each log is all that is promised.
            after.partitions.values_mut().for_each(|model| model.acked_end = model.start_seen);
        }
        let check = Plan { cores: 1 + random.below(3) as usize, ..plan };
        known = verify(&image, check, unix_ms + 5_000, &after, &context);
    }
    known.removed
}

/// One life on an image, as far as it gets. True when it was not cut short.
fn run(image: &Image, config: SimConfig, plan: Plan, known: &History) -> (Sim, History, bool) {
    let sim = Sim::with_image(config, image);
    let cores: Vec<Reactor> = (0..plan.cores).map(|_| Reactor::new(sim.io())).collect();
    let shared = Rc::new(RefCell::new(known.clone()));
    let ended = match Reactor::block_on_cores(&cores, live(sim.clone(), cores.clone(), plan, shared.clone())) {
        Ok(()) => true,
        Err(stalled) => {
            assert!(sim.is_halted(), "seed {}: {stalled}", plan.seed);
            false
        }
    };
    cores.iter().for_each(Reactor::drop_tasks);
    let after = shared.borrow().clone();
    (sim, after, ended)
}

/// A life that nothing but the plan or the world's end stops.
async fn live(sim: Sim, cores: Vec<Reactor>, plan: Plan, known: Known) {
    let context = format!("seed {}", plan.seed);
    let started = start(&sim, &cores, plan, &known, &context).await;
    for core in &started {
        let (running, world) = (core.store.clone(), sim.clone());
        core.reactor.spawn(async move {
            running.set_compaction(few_keys());
            let failed = running.run_compaction(|remark| panic!("{remark}")).await;
            assert!(world.is_halted(), "compaction failed by itself: {failed}");
        });
    }
    let running = started.clone();
    on_all(&cores, |number, _| {
        let (core, known) = (running[number].clone(), known.clone());
        async move {
            // Two clients of a core, so that what one does overlaps with what the other does.
            let clients: Vec<_> = (0..2)
                .map(|client| {
                    let random = Random(plan.seed * 1_000_003 + number as u64 * 31 + client as u64 + 1);
                    let places: Vec<usize> = (0..PLACES)
                        .filter(|place| place % plan.cores == number && place / plan.cores % 2 == client)
                        .collect();
                    (core.clone(), known.clone(), random, places)
                })
                .filter(|(.., places)| !places.is_empty())
                .collect();
            let left = Rc::new(Cell::new(clients.len()));
            let done = Notify::new();
            for (core, known, random, places) in clients {
                let (left, done) = (left.clone(), done.clone());
                let reactor = core.reactor.clone();
                reactor.spawn(async move {
                    client(core, known, random, places, plan.ops).await;
                    left.set(left.get() - 1);
                    done.notify();
                });
            }
            while left.get() > 0 {
                done.wait().await;
            }
            if plan.close {
                or_end(&core.sim, core.store.close().await).await;
            }
        }
    })
    .await;
    if plan.close {
        known.borrow_mut().clean = None;
        or_end(&sim, recovery::mark_clean(&cores[0], Path::new(DIR)).await).await;
        known.borrow_mut().clean = Some(true);
    }
}

/// One core of a broker.
#[derive(Clone)]
struct Core {
    sim: Sim,
    reactor: Reactor,
    store: Store,
    /// By place.
    slots: Rc<RefCell<HashMap<usize, (PartitionKey, Slot)>>>,
}

/// Recovers the directory and starts a store on every core. Partitions belong to the core that their place says, which is
/// another one whenever the number of cores has changed.
async fn start(sim: &Sim, cores: &[Reactor], plan: Plan, known: &Known, context: &str) -> Vec<Core> {
    let dir = Path::new(DIR);
    let clean = known.borrow_mut().clean.take();
    let found = or_end(sim, recovery::recover(&cores[0], dir, &Limits::tiny()).await).await;
    assert!(clean.is_none_or(|clean| clean == found.clean), "{context}: clean is {}", found.clean);
    known.borrow_mut().clean = Some(false);
    {
        let known = known.borrow();
        let keys: BTreeSet<PartitionKey> = found.seeds.iter().map(|seed| seed.key).collect();
        assert_eq!(keys.len(), found.seeds.len(), "{context}: one partition twice");
        for (key, model) in &known.partitions {
            assert!(keys.contains(key) || !model.must_exist, "{context}: {key:?} is gone, {:?}", found.remarks);
        }
        for key in &keys {
            assert!(!known.gone.contains(key), "{context}: {key:?} was deleted");
            assert!(known.partitions.contains_key(key), "{context}: {key:?} was never made");
        }
    }
    let seeds = Rc::new(found.seeds);
    let started = on_all(cores, |number, reactor| {
        let (sim, seeds) = (sim.clone(), seeds.clone());
        let incarnation = found.incarnation;
        async move {
            let mut options = options(dir, incarnation, plan.durability, &Limits::tiny());
            options.core = number as u16;
            let store = or_end(&sim, Store::open(reactor.clone(), options).await).await;
            let (running, world) = (store.clone(), sim.clone());
            reactor.spawn(async move {
                let failed = running.run().await;
                assert!(world.is_halted(), "the store failed by itself: {failed}");
            });
            let (running, world) = (store.clone(), sim.clone());
            reactor.spawn(async move {
                let failed = running.run_checkpoints().await;
                assert!(world.is_halted(), "a checkpoint failed by itself: {failed}");
            });
            let mut slots = HashMap::new();
            for seed in seeds.iter() {
                let place = seed.key.partition as usize;
                if place % plan.cores == number {
                    let slot = or_end(&sim, store.adopt(seed.clone(), settings(place)).await).await;
                    slots.insert(place, (seed.key, slot));
                }
            }
            or_end(&sim, store.carry().await).await;
            Core { sim, reactor, store, slots: Rc::new(RefCell::new(slots)) }
        }
    })
    .await;
    or_end(sim, recovery::discard_journals_before(&cores[0], dir, found.incarnation).await).await;
    started
}

/// Runs the same on every core, at the same time, and waits for all.
async fn on_all<T: 'static, F: Future<Output = T> + 'static>(
    cores: &[Reactor],
    work: impl Fn(usize, Reactor) -> F,
) -> Vec<T> {
    let results: Rc<RefCell<Vec<Option<T>>>> = Rc::new(RefCell::new(cores.iter().map(|_| None).collect()));
    let left = Rc::new(Cell::new(cores.len()));
    let done = Notify::new();
    for (core, reactor) in cores.iter().enumerate() {
        let (results, left, done) = (results.clone(), left.clone(), done.clone());
        let running = work(core, reactor.clone());
        reactor.spawn(async move {
            let result = running.await;
            results.borrow_mut()[core] = Some(result);
            left.set(left.get() - 1);
            done.notify();
        });
    }
    while left.get() > 0 {
        done.wait().await;
    }
    results.take().into_iter().map(Option::unwrap).collect()
}
