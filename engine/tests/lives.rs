//! Lives of a broker's stores in one simulated world: several cores with a journal each, topics that come, are cut at
//! the front, deleted and made again, some of them compacted, producers that repeat themselves, transactions, stops of every
//! kind. After each life the disk is recovered aside and held against what the clients know.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;

use common::compacted::{
    Records, check_batches, check_left, compact_next, few_keys, many_keys, newest, read_all, records_of,
};
use common::{DIR, Random, Story, config, empty_disk, marker_batch, options};
use engine::io::sim::{Crash, Image, Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::{Notify, Reactor};
use engine::{
    AppendError, Durability, Isolation, Marker, Origin, PartitionConfig, PartitionKey, PartitionSpec, Read, ReadError,
    Slot, Store, TransactionGuard, recovery,
};
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;

/// Places for partitions: topic `t<place>`, partition `place`. Each holds one after the other.
const PLACES: usize = 5;
/// The places whose partitions are compacted: all records have keys there. One of them is compacted and deleted from.
const COMPACTED: [usize; 2] = [1, 3];
const KEYS: u64 = 12;
/// Producers per partition, as many as the tiny limits remember. The last two write in transactions.
const PRODUCERS: usize = 4;
const TRANSACTIONAL: std::ops::Range<usize> = 2..4;
/// The id of the first producer.
const FIRST_ID: i64 = 1000;
/// When the first life begins.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// A batch that was appended.
#[derive(Clone)]
struct Sent {
    base: i64,
    end: i64,
    /// As the log holds it.
    stored: Vec<u8>,
    /// As the client sent it.
    original: Vec<u8>,
    producer: Option<usize>,
}

/// What the clients know of a partition.
#[derive(Clone)]
struct Model {
    /// Its creation was acknowledged and its deletion has not been asked for.
    must_exist: bool,
    sent: Vec<Sent>,
    /// Everything below was acknowledged.
    acked_end: i64,
    /// A log start that was acknowledged.
    start_seen: i64,
    /// No log start above this was ever asked for.
    start_limit: i64,
    /// Per producer: its epoch and its next sequence number.
    producers: [(i16, i32); PRODUCERS],
}

impl Model {
    fn new() -> Model {
        Model {
            must_exist: false,
            sent: Vec::new(),
            acked_end: 0,
            start_seen: 0,
            start_limit: 0,
            producers: [(0, 0); PRODUCERS],
        }
    }

    fn end(&self) -> i64 {
        self.sent.last().map_or(0, |sent| sent.end)
    }

    /// The batches of a producer's present epoch that a broker must recognise, newest first.
    fn recent(&self, producer: usize) -> impl Iterator<Item = &Sent> {
        let epoch = self.producers[producer].0;
        let of_epoch = move |sent: &&Sent| {
            let batch = BatchView::parse(&sent.stored).unwrap();
            sent.producer == Some(producer) && batch.producer_epoch() == epoch && !batch.attributes().is_control()
        };
        self.sent.iter().rev().filter(of_epoch).take(5)
    }

    /// Forgets what a crash has lost: everything from `end` on.
    fn cut(&mut self, end: i64) {
        self.sent.retain(|sent| sent.end <= end);
        self.acked_end = end;
        let story = self.story();
        for (producer, state) in self.producers.iter_mut().enumerate() {
            let (epoch, next, _) = story.producers.get(&id(producer)).copied().unwrap_or_default();
            *state = (epoch, next);
        }
    }

    /// The records of a compacted partition.
    fn records(&self) -> Records {
        let data = |sent: &&Sent| !BatchView::parse(&sent.stored).unwrap().attributes().is_control();
        self.sent.iter().filter(data).flat_map(|sent| records_of(&sent.stored, sent.base)).collect()
    }

    fn is_aborted(&self, story: &Story, offset: i64) -> bool {
        let sent = &self.sent[self.sent.partition_point(|sent| sent.end <= offset)];
        sent.producer.is_some_and(|producer| story.is_aborted(id(producer), offset))
    }

    fn story(&self) -> Story {
        Story::of(self.sent.iter().map(|sent| sent.stored.as_slice()))
    }
}

/// What all clients know.
#[derive(Clone, Default)]
struct History {
    partitions: BTreeMap<PartitionKey, Model>,
    /// Deletions that were acknowledged.
    gone: BTreeSet<PartitionKey>,
    /// Topic ids used so far.
    topics: u8,
    /// Whether the stores were closed and that was written down. None when the last life ended while it was about to
    /// change.
    clean: Option<bool>,
    /// Records that compaction has removed, over all lives.
    removed: usize,
}

type Known = Rc<RefCell<History>>;

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

fn id(producer: usize) -> i64 {
    FIRST_ID + producer as i64
}

/// The settings of the partition at a place.
fn settings(place: usize) -> PartitionConfig {
    PartitionConfig {
        log_append_time: place == 3,
        segment_bytes: [40, 12, 24, 9, 60][place] << 10,
        compact: is_compacted(place),
        delete_by_retention: place != 1,
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: 2,
        ..config()
    }
}

fn is_compacted(place: usize) -> bool {
    COMPACTED.contains(&place)
}

fn topic(place: usize) -> String {
    format!("t{place}")
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

/// In a world that has ended, an error is the end and not an answer.
async fn or_end<T>(sim: &Sim, result: io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            assert!(sim.is_halted(), "failed by itself: {error}");
            std::future::pending().await
        }
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

async fn client(core: Core, known: Known, mut random: Random, places: Vec<usize>, ops: usize) {
    for _ in 0..ops {
        let place = places[random.below(places.len() as u64) as usize];
        let found = core.slots.borrow().get(&place).copied();
        let Some((key, slot)) = found else {
            create(&core, &known, place).await;
            continue;
        };
        match random.below(40) {
            0 => delete(&core, &known, place).await,
            1 | 2 => delete_records(&core, &known, &mut random, key, slot).await,
            3 | 4 => retain(&core, &known, &mut random, key, slot).await,
            5..=7 => read_aside(&core, &known, &mut random, key, slot),
            8..=10 => retry(&core, &known, &mut random, key, slot).await,
            11 => {
                let until_ns = core.reactor.now_ns() + random.below(3_000_000);
                core.reactor.sleep_until(until_ns).await;
            }
            12..=16 => end_transaction(&core, &known, &mut random, key, slot).await,
            17 | 18 => check_transactions(&core, &known, &mut random, key, slot).await,
            _ => append(&core, &known, &mut random, key, slot).await,
        }
    }
}

async fn create(core: &Core, known: &Known, place: usize) {
    let key = {
        let mut known = known.borrow_mut();
        known.topics += 1;
        let key = PartitionKey { topic_id: [known.topics; 16], partition: place as u32 };
        known.partitions.insert(key, Model::new());
        key
    };
    let spec = PartitionSpec { key, topic: topic(place), config: settings(place) };
    let slot = or_end(&core.sim, core.store.create_partition(spec).await).await;
    known.borrow_mut().partitions.get_mut(&key).unwrap().must_exist = true;
    core.slots.borrow_mut().insert(place, (key, slot));
}

async fn delete(core: &Core, known: &Known, place: usize) {
    let (key, slot) = core.slots.borrow_mut().remove(&place).unwrap();
    known.borrow_mut().partitions.get_mut(&key).unwrap().must_exist = false;
    or_end(&core.sim, core.store.delete_partition(slot).await).await;
    known.borrow_mut().gone.insert(key);
    known.borrow_mut().partitions.remove(&key);
}

async fn delete_records(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let info = core.store.info(slot).unwrap();
    let offset = info.log_start + random.below((info.high_watermark - info.log_start) as u64 + 1) as i64;
    with(known, key, |model| model.start_limit = model.start_limit.max(offset));
    let start = or_end(&core.sim, core.store.delete_records(slot, offset).await).await;
    assert_eq!(start, Some(offset));
    with(known, key, |model| model.start_seen = model.start_seen.max(offset));
}

async fn retain(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let place = key.partition as usize;
    let by_size = random.below(2) == 0;
    let (retention_bytes, retention_ms) =
        if by_size { (random.below(60_000) as i64, -1) } else { (-1, random.below(4) as i64) };
    with(known, key, |model| {
        let mut behind = 0;
        let all = model.end();
        let kept = |sent: &&Sent| {
            behind += sent.stored.len() as i64;
            behind >= retention_bytes
        };
        let limit = if by_size && retention_bytes > 0 {
            model.sent.iter().rev().find(kept).map_or(0, |sent| sent.base)
        } else {
            all
        };
        model.start_limit = model.start_limit.max(limit);
    });
    core.store.set_config(slot, PartitionConfig { retention_bytes, retention_ms, ..settings(place) });
    or_end(&core.sim, core.store.apply_retention().await).await;
    core.store.set_config(slot, settings(place));
    // Where the log starts now may not be durable yet: the other client's retention may have moved it a moment ago.
}

/// A read that nobody waits for: it meets deletions, rolls and flushes.
fn read_aside(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let info = core.store.info(slot).unwrap();
    let offset = info.log_start + random.below((info.high_watermark - info.log_start) as u64 + 1) as i64;
    let (core, known) = (core.clone(), known.clone());
    let reactor = core.reactor.clone();
    reactor.spawn(async move {
        let data = match core.store.read_any(slot, offset).await {
            Ok(data) => data,
            Err(ReadError::UnknownPartition | ReadError::OutOfRange) => return,
            Err(error) => {
                assert!(core.sim.is_halted(), "{key:?} at {offset}: {error:?}");
                return;
            }
        };
        let known = known.borrow();
        let Some(model) = known.partitions.get(&key) else { return };
        if is_compacted(key.partition as usize) {
            let bytes: Vec<u8> = data.slices.iter().flat_map(|slice| slice.as_bytes().to_vec()).collect();
            check_batches(&bytes, offset, &model.records());
            return;
        }
        for slice in data.slices {
            let mut rest = slice.as_bytes();
            while !rest.is_empty() {
                let view = BatchView::parse(rest).unwrap();
                let at = model.sent.partition_point(|sent| sent.base < view.base_offset());
                assert!(model.sent[at].stored == view.bytes(), "{key:?}: read something else at {offset}");
                rest = &rest[view.total_len()..];
            }
        }
    });
}

/// Sends one of a producer's newest batches again.
async fn retry(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let producer = random.below(PRODUCERS as u64) as usize;
    let again = if is_compacted(key.partition as usize) { 0 } else { random.below(5) as usize };
    let sent = known.borrow().partitions[&key].recent(producer).nth(again).cloned();
    if let Some(sent) = sent {
        expect_duplicate(core, slot, &sent, &format!("{key:?}, producer {producer}")).await;
    }
}

async fn expect_duplicate(core: &Core, slot: Slot, sent: &Sent, context: &str) {
    let view = BatchView::parse(&sent.original).unwrap();
    let appended = patient(core, None, slot, &view, context).await;
    assert!(
        appended.duplicate && (appended.base_offset, appended.last_offset + 1) == (sent.base, sent.end),
        "{context}: {appended:?} instead of offsets {} to {}",
        sent.base,
        sent.end
    );
    if let Some(time_ms) = is_log_append_time(&sent.stored) {
        assert_eq!(appended.log_append_time_ms, time_ms, "{context}");
    }
}

fn is_log_append_time(stored: &[u8]) -> Option<i64> {
    let batch = BatchView::parse(stored).unwrap();
    let by_log = batch.attributes().timestamp_type() == wire::batch::TimestampType::LogAppendTime;
    by_log.then(|| batch.max_timestamp())
}

async fn patient(
    core: &Core,
    guard: Option<TransactionGuard>,
    slot: Slot,
    view: &BatchView<'_>,
    context: &str,
) -> engine::Appended {
    loop {
        match core.store.append_as(Origin::Client, guard, slot, view, 0) {
            Ok(appended) => return appended,
            Err(AppendError::Busy) => core.store.wait_capacity().await,
            Err(AppendError::Failed) if core.sim.is_halted() => std::future::pending().await,
            Err(error) => panic!("{context}: {error:?}, {view:?}"),
        }
    }
}

async fn append(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let (times, size) = match random.below(14) {
        0 => (5, 4500),
        1 => (1, 18_000),
        2 => (12, 700),
        _ => (1, 20 + random.below(600) as usize),
    };
    let mut newest = None;
    for _ in 0..times {
        let producer = random.below(6) as usize;
        let producer = (producer < PRODUCERS).then_some(producer);
        let records = 1 + random.below(3) as usize;
        let mut builder = BatchBuilder::new(Codec::None);
        let mut guard = None;
        if let Some(producer) = producer {
            let is_transactional = TRANSACTIONAL.contains(&producer);
            let mut known = known.borrow_mut();
            let story = known.partitions[&key].story();
            let (epoch, next) = &mut known.partitions.get_mut(&key).unwrap().producers[producer];
            if random.below(30) == 0 && *next > 0 && !is_transactional {
                (*epoch, *next) = (*epoch + 1, 0);
            }
            builder.producer(id(producer), *epoch, *next).transactional(is_transactional);
            if is_transactional {
                guard = core.store.verify_transaction(slot, id(producer), *epoch, *next, false).unwrap();
                let is_open = is_open(&story, producer);
                assert_eq!(guard.is_none(), is_open, "{key:?}: producer {producer}");
            }
            *next += records as i32;
        }
        let mut value = vec![0; size / records];
        for _ in 0..records {
            value.iter_mut().for_each(|byte| *byte = random.next() as u8);
            let timestamp = core.reactor.unix_ms();
            let name = is_compacted(key.partition as usize).then(|| format!("key-{}", random.below(KEYS)));
            let is_deletion = name.is_some() && random.below(6) == 0;
            let value = (!is_deletion).then_some(value.as_slice());
            let key = name.as_ref().map(String::as_bytes);
            builder.push(&NewRecord { timestamp, key, value, headers: &[] }).unwrap();
        }
        let mut original = Vec::new();
        builder.finish(&mut original).unwrap();
        let view = BatchView::parse(&original).unwrap();
        let appended = patient(core, guard, slot, &view, "a new batch").await;
        assert!(!appended.duplicate);
        let mut stored = original.clone();
        wire::batch::assign(&mut stored, appended.base_offset, 0);
        if appended.log_append_time_ms >= 0 {
            wire::batch::set_log_append_time(&mut stored, appended.log_append_time_ms);
        }
        let (base, end) = (appended.base_offset, appended.last_offset + 1);
        with(known, key, |model| {
            assert_eq!(base, model.end(), "{key:?}");
            model.sent.push(Sent { base, end, stored, original, producer });
        });
        newest = Some((appended.seq, end));
    }
    let (seq, end) = newest.unwrap();
    acknowledge(core, known, random, key, seq, end).await;
}

/// Ends a producer's transaction, whether or not it has one, under either version.
async fn end_transaction(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let producer = TRANSACTIONAL.start + random.below(TRANSACTIONAL.len() as u64) as usize;
    let transaction_version = 1 + random.below(2) as i16;
    let (epoch, next) = known.borrow().partitions[&key].producers[producer];
    let (producer_epoch, next) = if transaction_version == 2 { (epoch + 1, 0) } else { (epoch, next) };
    let commit = random.below(3) == 0;
    let marker =
        Marker { producer_id: id(producer), producer_epoch, coordinator_epoch: 0, commit, transaction_version };
    let (appended, now_ms) = loop {
        let now_ms = core.reactor.unix_ms();
        match core.store.append_marker(slot, &marker, 0) {
            Ok(appended) => break (appended, now_ms),
            Err(AppendError::Busy) => core.store.wait_capacity().await,
            Err(AppendError::Failed) if core.sim.is_halted() => std::future::pending().await,
            Err(error) => panic!("{key:?}: {error:?}, {marker:?}"),
        }
    };
    let stored = marker_batch(&marker, appended.base_offset, now_ms, appended.log_append_time_ms >= 0);
    let (base, end) = (appended.base_offset, appended.last_offset + 1);
    with(known, key, |model| {
        assert_eq!(base, model.end(), "{key:?}");
        model.sent.push(Sent { base, end, original: stored.clone(), stored, producer: Some(producer) });
        model.producers[producer] = (producer_epoch, next);
    });
    acknowledge(core, known, random, key, appended.seq, end).await;
}

fn is_open(story: &Story, producer: usize) -> bool {
    story.producers.get(&id(producer)).is_some_and(|(.., open)| open.is_some())
}

/// Looks at the last stable offset, at what lies below it, and at the aborted transactions of a part of the log.
async fn check_transactions(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let info = core.store.info(slot).unwrap();
    let story = known.borrow().partitions[&key].story();
    assert_eq!(
        info.last_stable,
        story.last_stable(info.high_watermark, info.log_start),
        "{key:?}: {info:?}, {story:?}"
    );
    let from = info.log_start + random.below((info.last_stable - info.log_start) as u64 + 1) as i64;
    let read = match core.store.read(slot, Isolation::ReadCommitted, from, 20_000, true) {
        Ok(Read::Hot(data)) => Ok(data),
        Ok(Read::Cold) => core.store.read_cold(slot, Isolation::ReadCommitted, from, 20_000, true).await,
        Err(error) => Err(error),
    };
    let to = match read {
        Ok(data) => data.end_offset().unwrap_or(from),
        // The other client's retention has been there.
        Err(ReadError::OutOfRange) => return,
        Err(error) => {
            assert!(core.sim.is_halted(), "{key:?} at {from}: {error:?}");
            return;
        }
    };
    assert!(to <= core.store.info(slot).unwrap().last_stable, "{key:?}: read up to {to}");
    assert!(to > from || from == info.last_stable, "{key:?}: nothing at {from} of {info:?}");
    let found = match core.store.aborted(slot, from, to).unwrap() {
        Some(found) => Ok(found),
        None => core.store.aborted_cold(slot, from, to).await,
    };
    match found {
        // What compaction has left nothing of is not told.
        Ok(_) if is_compacted(key.partition as usize) => {}
        Ok(found) if core.store.info(slot).unwrap().log_start <= from => {
            story.check_aborted(from, to, &found, &format!("{key:?}"));
        }
        Ok(_) | Err(ReadError::OutOfRange) => {}
        Err(error) => assert!(core.sim.is_halted(), "{key:?} at {from}: {error:?}"),
    }
}

/// Takes note of an acknowledgement. Some clients wait for it, the others go on.
async fn acknowledge(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, seq: u64, end: i64) {
    let acknowledge = {
        let (core, known) = (core.clone(), known.clone());
        async move {
            if core.store.wait_commit(seq).await.is_ok() {
                with(&known, key, |model| model.acked_end = model.acked_end.max(end));
            }
        }
    };
    if random.below(4) == 0 { acknowledge.await } else { core.reactor.spawn(acknowledge) }
}

fn with(known: &Known, key: PartitionKey, change: impl FnOnce(&mut Model)) {
    // A partition that was deleted meanwhile has no model any more.
    if let Some(model) = known.borrow_mut().partitions.get_mut(&key) {
        change(model);
    }
}

/// Recovers an image aside, on `cores` cores, holds it against what is known and returns what is known from then on.
fn verify(image: &Image, plan: Plan, unix_ms: i64, known: &History, context: &str) -> History {
    let sim = Sim::with_image(SimConfig { seed: 99, unix_ms, ..SimConfig::default() }, image);
    let cores: Vec<Reactor> = (0..plan.cores).map(|_| Reactor::new(sim.io())).collect();
    let after = Rc::new(RefCell::new(known.clone()));
    let checking = async {
        let started = start(&sim, &cores, plan, &after, context).await;
        let mut present = BTreeSet::new();
        for core in &started {
            let slots = core.slots.borrow().clone();
            for (key, slot) in slots.into_values() {
                present.insert(key);
                let context = format!("{context}: {key:?}");
                let mut model = after.borrow().partitions[&key].clone();
                let is_compacted = is_compacted(key.partition as usize);
                check_partition(core, slot, &mut model, is_compacted, &context).await;
                if is_compacted {
                    after.borrow_mut().removed += check_newest(core, slot, &model, &context).await;
                } else {
                    check_whole(core, slot, &model, &context).await;
                }
                after.borrow_mut().partitions.insert(key, model);
            }
            check_compacted(core, &after, context).await;
        }
        let mut after = after.borrow_mut();
        after.partitions.retain(|key, _| present.contains(key));
        after.partitions.values_mut().for_each(|model| model.must_exist = true);
        after.clean = known.clean;
    };
    Reactor::block_on_cores(&cores, checking).unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    cores.iter().for_each(Reactor::drop_tasks);
    after.take()
}

async fn check_partition(core: &Core, slot: Slot, model: &mut Model, is_compacted: bool, context: &str) {
    let info = core.store.info(slot).unwrap();
    let (start, end) = (info.log_start, info.high_watermark);
    assert!(
        (model.start_seen..=model.start_limit).contains(&start),
        "{context}: log start {start} is not in {}..={}",
        model.start_seen,
        model.start_limit
    );
    assert!(end >= model.acked_end, "{context}: lost acknowledged records: {end} of {}", model.acked_end);
    model.cut(end);
    assert_eq!(model.end(), end, "{context}: the log ends within a batch");
    model.start_seen = start;
    let story = model.story();
    assert_eq!(info.last_stable, story.last_stable(end, start), "{context}: {info:?}, {story:?}");
    for producer in 0..PRODUCERS {
        // What was deleted may be forgotten with its records, and what was compacted but for the newest.
        let recent = model.recent(producer).take(if is_compacted { 1 } else { usize::MAX });
        for sent in recent.filter(|sent| sent.end > start) {
            expect_duplicate(core, slot, sent, &format!("{context}, producer {producer}")).await;
        }
    }
}

/// Every batch from the log's start on is there as it was sent, and every aborted transaction is told.
async fn check_whole(core: &Core, slot: Slot, model: &Model, context: &str) {
    let info = core.store.info(slot).unwrap();
    let (start, end) = (info.log_start, info.high_watermark);
    let first = model.sent.partition_point(|sent| sent.end <= start);
    let mut expected = model.sent[first..].iter();
    let mut offset = start;
    while offset < end {
        let data = match core.store.read_any(slot, offset).await {
            Ok(data) => data,
            Err(error) => panic!("{context}: at {offset} of {info:?}: {error:?}"),
        };
        assert!(!data.slices.is_empty(), "{context}: nothing at {offset} of {info:?}");
        for slice in data.slices {
            let mut rest = slice.as_bytes();
            while !rest.is_empty() {
                let view = BatchView::parse(rest).unwrap();
                let sent = expected.next().unwrap_or_else(|| panic!("{context}: a batch at {offset} was never sent"));
                assert!(sent.stored == view.bytes(), "{context}: the batch at {offset} differs");
                offset = sent.end;
                rest = &rest[view.total_len()..];
            }
        }
    }
    let story = model.story();
    let middle = start + (end - start) / 2;
    for (from, to) in [(start, end), (start, middle), (middle, end), (middle, middle + 1)] {
        let found = core.store.aborted_cold(slot, from, to).await.unwrap();
        story.check_aborted(from, to, &found, context);
    }
}

/// The newest record of each key is there. Answers how many records are gone.
async fn check_newest(core: &Core, slot: Slot, model: &Model, context: &str) -> usize {
    let info = core.store.info(slot).unwrap();
    let (records, story) = (model.records(), model.story());
    let is_aborted = |offset| model.is_aborted(&story, offset);
    let found = read_all(&core.store, slot, &records, is_aborted).await;
    // What is not stable yet replaces nothing.
    let mut expected = newest(&records, info.last_stable, is_aborted);
    expected.extend(records.range(info.last_stable..).map(|(offset, record)| (*offset, record)));
    for (offset, (key, value)) in expected.into_iter().filter(|(offset, _)| *offset >= info.log_start) {
        assert!(found.contains_key(&offset) || value.is_none(), "{context}: {key:?} of offset {offset} is gone");
    }
    records.range(info.log_start..).count() - found.range(info.log_start..).count()
}

/// Compacts all that there is, and looks for records that are left besides the newest.
async fn check_compacted(core: &Core, known: &Known, context: &str) {
    let mut cleaned_to = HashMap::new();
    while let Some(done) = compact_next(&core.store, &many_keys()).await {
        cleaned_to.insert(done.slot, done.cleaned_to);
    }
    let slots: Vec<_> = core.slots.borrow().values().copied().collect();
    for (key, slot) in slots.into_iter().filter(|(_, slot)| cleaned_to.contains_key(slot)) {
        let model = known.borrow().partitions[&key].clone();
        let (records, story) = (model.records(), model.story());
        let is_aborted = |offset| model.is_aborted(&story, offset);
        let left = read_all(&core.store, slot, &records, is_aborted).await;
        let log_start = core.store.info(slot).unwrap().log_start;
        check_left(&left, &records, is_aborted, log_start, cleaned_to[&slot], &format!("{context}: {key:?}"));
    }
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
        let (sim, after, _) = run(&image, config, plan, &known);
        image = sim.crash(crash, seed + number);
        let check = Plan { cores: 1 + random.below(3) as usize, ..plan };
        known = verify(&image, check, unix_ms + 5_000, &after, &context);
    }
    known.removed
}

#[test]
fn lives_that_end_with_a_power_cut() {
    let removed: usize = (1..=60).map(|seed| lives(seed, Durability::Disk, Crash::Power)).sum();
    assert!(removed > 1000, "compaction has removed no more than {removed} records");
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
