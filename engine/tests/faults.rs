//! A disk that fails, fills up, lies or stalls while a store runs on it.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use common::{DIR, Random, batch, config, key, options, reopen};
use engine::io::Io;
use engine::io::sim::{Call, Crash, Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{
    AppendError, Durability, Isolation, PartitionConfig, PartitionSpec, Read, ReadError, Slot, Store, recovery,
};
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;

const ALL: Isolation = Isolation::ReadUncommitted;

const EIO: i32 = 5;

/// A store in a simulated world whose tasks report how they ended.
struct World {
    sim: Sim,
    reactor: Reactor,
    store: Store,
    /// What ended the commit loop.
    ended: Rc<RefCell<Option<String>>>,
}

impl World {
    fn new(config: SimConfig) -> World {
        World::with_limits(config, Limits::tiny())
    }

    fn with_limits(config: SimConfig, limits: Limits) -> World {
        let sim = Sim::new(config);
        let reactor = Reactor::new(sim.io());
        let ended = Rc::new(RefCell::new(None));
        let store = reactor.block_on(async {
            reactor.create_dir(Path::new(DIR)).await.unwrap();
            reactor.sync_dir(Path::new("")).await.unwrap();
            let found = recovery::recover(&reactor, Path::new(DIR), &limits).await.unwrap();
            let options = options(Path::new(DIR), found.incarnation, Durability::Disk, &limits);
            let store = Store::open(reactor.clone(), options).await.unwrap();
            let (running, noted) = (store.clone(), ended.clone());
            reactor.spawn(async move {
                let failed = running.run().await;
                *noted.borrow_mut() = Some(failed.0);
            });
            let running = store.clone();
            reactor.spawn(async move {
                running.run_checkpoints().await;
            });
            store
        });
        World { sim, reactor, store, ended }
    }

    async fn create(&self, partition: u32, config: PartitionConfig) -> Slot {
        let spec = PartitionSpec { key: key(partition), topic: "t".to_owned(), config };
        self.store.create_partition(spec).await.unwrap()
    }

    async fn append(&self, slot: Slot, bytes: &[u8]) -> Result<engine::Appended, AppendError> {
        let view = BatchView::parse(bytes).unwrap();
        loop {
            match self.store.append(slot, &view, 0) {
                Err(AppendError::Busy) => self.store.wait_capacity().await,
                result => return result,
            }
        }
    }

    async fn acked(&self, slot: Slot, bytes: &[u8]) {
        let appended = self.append(slot, bytes).await.unwrap();
        self.store.wait_commit(appended.seq).await.unwrap();
    }

    async fn pause(&self, ms: u64) {
        self.pause_ns(ms * 1_000_000).await;
    }

    async fn pause_ns(&self, ns: u64) {
        self.reactor.sleep_until(self.reactor.now_ns() + ns).await;
    }

    /// The end of partition 0 as another world recovers it from a power cut now.
    fn recovered_end(&self, seed: u64) -> i64 {
        let image = self.sim.crash(Crash::Power, seed);
        let sim = Sim::with_image(SimConfig::default(), &image);
        let reactor = Reactor::new(sim.io());
        let end = reactor.block_on(async {
            let reopened = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await;
            let (store, slots) = reopened.unwrap();
            let end = store.info(slots[&0]).unwrap().high_watermark;
            let mut offset = 0;
            while offset < end {
                for slice in store.read_any(slots[&0], offset).await.unwrap().slices {
                    offset = wire::batch::Batches::new(slice.as_bytes()).last().unwrap().unwrap().last_offset() + 1;
                }
            }
            end
        });
        reactor.drop_tasks();
        end
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.reactor.drop_tasks();
    }
}

fn segment(base: i64) -> PathBuf {
    Path::new(DIR).join(format!("t-0/{base:020}.log"))
}

/// After any failed write or sync, whoever met it, nothing is acknowledged any more, everyone who waits is told, and what
/// had been acknowledged is there after a restart.
#[test]
fn a_failed_write_or_sync_is_the_end() {
    type Break = fn(&Sim);
    let cases: [(&str, Break); 6] = [
        ("any write", |sim| sim.change(|config| config.write_error = 1_000_000)),
        ("any sync", |sim| sim.change(|config| config.sync_error = 1_000_000)),
        ("a checkpoint's write", |sim| sim.fail_next(Call::Write, &segment(0), EIO)),
        ("a checkpoint's sync", |sim| sim.fail_next(Call::Sync, &segment(0), EIO)),
        ("a checkpoint's cut", |sim| sim.fail_next(Call::Truncate, &segment(0), EIO)),
        ("the opening of a segment", |sim| sim.fail_next(Call::Open, &segment(0), EIO)),
    ];
    for (name, break_disk) in cases {
        for seed in 1..=8 {
            let world = World::new(SimConfig { seed, ..SimConfig::default() });
            let mut random = Random(seed);
            let acked = world.reactor.block_on(async {
                let slot = world.create(0, config()).await;
                let mut acked = 0;
                for _ in 0..5 {
                    world.acked(slot, &batch(&mut random, 1, 300)).await;
                    acked += 1;
                }
                break_disk(&world.sim);
                // A batch a time, until one is not acknowledged: checkpoints come by themselves.
                loop {
                    let appended = match world.append(slot, &batch(&mut random, 1, 3000)).await {
                        Ok(appended) => appended,
                        Err(error) => break assert_eq!(error, AppendError::Failed, "{name}"),
                    };
                    match world.store.wait_commit(appended.seq).await {
                        Ok(()) => acked += 1,
                        Err(failed) => break assert!(failed.0.contains("os error 5"), "{name}: {failed}"),
                    }
                    assert!(acked < 1000, "{name}: nobody has met the error");
                }
                world.pause(1).await;
                assert!(world.ended.borrow().as_ref().is_some_and(|why| why.contains("os error 5")), "{name}");
                let bytes = batch(&mut random, 1, 100);
                assert_eq!(world.append(slot, &bytes).await.unwrap_err(), AppendError::Failed, "{name}");
                assert!(world.store.close().await.is_err(), "{name}");
                assert!(world.store.delete_records(slot, 1).await.is_err(), "{name}");
                acked
            });
            let end = world.recovered_end(seed);
            assert!(end >= acked, "{name}, seed {seed}: {end} of {acked}");
        }
    }
}

#[test]
fn a_cold_segment_that_cannot_be_read_is_the_readers_problem_alone() {
    let world = World::new(SimConfig { seed: 3, ..SimConfig::default() });
    let mut random = Random(3);
    world.reactor.block_on(async {
        let slot = world.create(0, PartitionConfig { retention_ms: 1_000_000_000_000, ..config() }).await;
        // More than the pool holds, so that the first batches are in no memory.
        for _ in 0..400 {
            world.acked(slot, &batch(&mut random, 1, 3000)).await;
        }
        assert!(matches!(world.store.read(slot, ALL, 0, 100, true), Ok(Read::Cold)));
        world.sim.change(|config| config.read_error = 1_000_000);
        assert!(matches!(world.store.read_cold(slot, ALL, 0, 100, true).await, Err(ReadError::Io(_))));
        world.store.apply_retention().await.unwrap();
        world.acked(slot, &batch(&mut random, 1, 3000)).await;
        world.sim.change(|config| config.read_error = 0);
        assert_eq!(world.store.read_cold(slot, ALL, 0, 100, true).await.unwrap().slices.len(), 1);
        assert_eq!(world.store.info(slot).unwrap().high_watermark, 401);
    });
    assert_eq!(*world.ended.borrow(), None);
}

/// A full disk refuses appends with its own error, lets readers go on, and is over when there is room.
#[test]
fn a_full_disk_is_waited_for() {
    for seed in 1..=12 {
        let has_allocate = seed % 2 == 0;
        let world = World::new(SimConfig { seed, has_allocate, ..SimConfig::default() });
        let mut random = Random(seed);
        world.reactor.block_on(async {
            let slot = world.create(0, config()).await;
            world.acked(slot, &batch(&mut random, 1, 3000)).await;
            let used: u64 =
                world.sim.crash(Crash::Process, 0).files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
            world.sim.change(|config| config.capacity_bytes = Some(used + 20_000 + seed * 30_000));
            let mut last = 0;
            let mut end = 1;
            let refused = loop {
                let size = [500, 3000, 14_000][random.below(3) as usize];
                match world.append(slot, &batch(&mut random, 1, size)).await {
                    Ok(appended) => (last, end) = (appended.seq, appended.last_offset + 1),
                    Err(error) => break error,
                }
                assert!(end < 2000, "seed {seed}: the disk never fills");
            };
            assert_eq!(refused, AppendError::DiskFull, "seed {seed}");
            let seen = world.store.info(slot).unwrap().high_watermark;
            for offset in (0..seen).step_by(7) {
                assert!(!world.store.read_any(slot, offset).await.unwrap().slices.is_empty());
            }
            world.pause(5_000).await;
            assert_eq!(*world.ended.borrow(), None, "seed {seed}");
            world.sim.change(|config| config.capacity_bytes = None);
            world.store.wait_commit(last).await.unwrap();
            let mut attempts = 0;
            while world.append(slot, &batch(&mut random, 1, 3000)).await.is_err() {
                attempts += 1;
                assert!(attempts < 100, "seed {seed}: still refused");
                world.pause(100).await;
            }
            world.store.close().await.unwrap();
            assert_eq!(world.store.info(slot).unwrap().high_watermark, end + 1);
        });
        assert!(world.recovered_end(seed) > 0);
    }
}

/// Retention makes room on a full disk without a word to the journal, for which there may be no room.
#[test]
fn retention_frees_a_full_disk() {
    for seed in 1..=4 {
        let mut refusals = 0;
        let world = World::new(SimConfig { seed, capacity_bytes: Some(900 << 10), ..SimConfig::default() });
        let mut random = Random(seed);
        let retaining = world.store.clone();
        world.reactor.spawn(async move {
            retaining.run_retention(50).await;
        });
        world.reactor.block_on(async {
            let kept = PartitionConfig { retention_bytes: 60_000, ..config() };
            let slots = [world.create(0, kept.clone()).await, world.create(1, kept).await];
            for number in 0..400 {
                let bytes = batch(&mut random, 1, 5000);
                while let Err(error) = world.append(slots[number % 2], &bytes).await {
                    assert_eq!(error, AppendError::DiskFull);
                    refusals += 1;
                    assert!(refusals < 3000, "seed {seed}: stuck at {number}");
                    world.pause(50).await;
                }
            }
            assert_eq!(*world.ended.borrow(), None, "seed {seed}");
            assert!(refusals > 0, "seed {seed}: the disk was never full");
        });
        world.recovered_start_is_sane(seed);
    }
}

/// The same when all of a partition has expired and the journal does not know of the next segment yet: the last one
/// stays, since recovery looks for it, and of those before it nothing comes back.
#[test]
fn retention_on_a_full_disk_keeps_what_recovery_looks_for() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    world.reactor.block_on(async {
        let idle = world.create(0, PartitionConfig { retention_ms: 1000, segment_bytes: 16 << 10, ..config() }).await;
        let busy = world.create(1, config()).await;
        // The first segment is all in the journal, the others are not.
        for size in [100, 16 << 10, 16 << 10] {
            world.acked(idle, &batch(&mut random, 1, size)).await;
        }
        world.store.apply_retention().await.unwrap();
        world.pause(50).await;
        world.sim.change(|config| config.capacity_bytes = Some(0));
        while world.append(busy, &batch(&mut random, 1, 14_000)).await != Err(AppendError::DiskFull) {}
        world.store.apply_retention().await.unwrap();
        assert_eq!(world.store.info(idle).unwrap().log_start, 3);
    });
    for crash in [Crash::Process, Crash::Power] {
        let (start, end) = world.recovered(crash)[&0];
        assert!(start <= 2 && end == 3, "{crash:?}: {start} to {end}");
    }
    assert!(!world.has_file(&segment(0)) && !world.has_file(&segment(1)));
    world.reactor.block_on(async {
        world.sim.change(|config| config.capacity_bytes = None);
        world.pause(1_000).await;
        world.store.apply_retention().await.unwrap();
    });
    assert!(!world.has_file(&segment(2)));
    assert_eq!(world.recovered(Crash::Power)[&0], (3, 3));
}

/// Only a segment that was completed can have been deleted by retention. Any other that is missing is damage.
#[test]
fn a_missing_segment_that_was_never_completed_is_damage() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    world.reactor.block_on(async {
        let slot = world.create(0, PartitionConfig { segment_bytes: 24 << 10, ..config() }).await;
        for _ in 0..2 {
            world.acked(slot, &batch(&mut random, 1, 17_000)).await;
        }
        world.pause(50).await;
    });
    let image = world.sim.crash(Crash::Process, 0);
    let recover_without = |removed: &[&str]| {
        let sim = Sim::with_image(SimConfig::default(), &image);
        let reactor = Reactor::new(sim.io());
        let found = reactor.block_on(async {
            for name in removed {
                reactor.remove_file(&Path::new(DIR).join("t-0").join(name)).await.unwrap();
            }
            recovery::recover(&reactor, Path::new(DIR), &Limits::tiny()).await
        });
        reactor.drop_tasks();
        found.map(|found| (found.seeds[0].log_start, found.seeds[0].end_offset)).map_err(|error| error.to_string())
    };
    let (log, snapshot) = ("00000000000000000000.log", "00000000000000000001.producers");
    assert_eq!(recover_without(&[]), Ok((0, 2)));
    assert_eq!(recover_without(&[log]), Ok((1, 2)));
    let refused = recover_without(&[log, snapshot]).unwrap_err();
    assert!(refused.contains("segment 0 is gone"), "{refused}");
}

impl World {
    fn has_file(&self, path: &Path) -> bool {
        self.sim.crash(Crash::Process, 0).read(path).is_some()
    }

    /// First offset and end of every partition, as another world recovers them from a crash now. All records between
    /// are read.
    fn recovered(&self, crash: Crash) -> BTreeMap<u32, (i64, i64)> {
        let sim = Sim::with_image(SimConfig::default(), &self.sim.crash(crash, 1));
        let reactor = Reactor::new(sim.io());
        let bounds = reactor.block_on(async {
            let reopened = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await;
            let (store, slots) = reopened.unwrap();
            let mut bounds = BTreeMap::new();
            for (partition, slot) in slots {
                let info = store.info(slot).unwrap();
                let mut offset = info.log_start;
                while offset < info.high_watermark {
                    for slice in store.read_any(slot, offset).await.unwrap().slices {
                        offset = wire::batch::Batches::new(slice.as_bytes()).last().unwrap().unwrap().last_offset() + 1;
                    }
                }
                bounds.insert(partition, (info.log_start, info.high_watermark));
            }
            bounds
        });
        reactor.drop_tasks();
        bounds
    }
    fn recovered_start_is_sane(&self, seed: u64) {
        let image = self.sim.crash(Crash::Power, seed);
        let sim = Sim::with_image(SimConfig::default(), &image);
        let reactor = Reactor::new(sim.io());
        reactor.block_on(async {
            let reopened = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await;
            let (store, slots) = reopened.unwrap();
            for slot in slots.into_values() {
                let info = store.info(slot).unwrap();
                if info.log_start < info.high_watermark {
                    store.read_any(slot, info.log_start).await.unwrap();
                }
            }
        });
        reactor.drop_tasks();
    }
}

/// Writes that land elsewhere and say nothing. Whatever they hit, a reader gets what was sent, an error, or a batch whose
/// checksum tells: never a wrong record that looks right.
#[test]
fn a_misdirected_write_never_passes_for_data() {
    let mut noticed = 0;
    for seed in 1..=60 {
        let world = World::new(SimConfig { seed, ..SimConfig::default() });
        let mut random = Random(seed);
        let sent = world.reactor.block_on(async {
            let slot = world.create(0, config()).await;
            world.sim.change(|config| config.misdirected_write = 30_000);
            let mut sent = Vec::new();
            for _ in 0..60 {
                let size = [200, 3000, 14_000][random.below(3) as usize];
                let mut bytes = batch(&mut random, 1, size);
                let appended = world.append(slot, &bytes).await.unwrap();
                wire::batch::assign(&mut bytes, appended.base_offset, 0);
                sent.push(bytes);
                if random.below(3) == 0 {
                    world.store.wait_commit(appended.seq).await.unwrap();
                }
            }
            world.store.close().await.unwrap();
            sent
        });
        let image = world.sim.crash(Crash::Power, seed);
        let sim = Sim::with_image(SimConfig::default(), &image);
        let reactor = Reactor::new(sim.io());
        reactor.block_on(async {
            let Ok((store, slots)) = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await else {
                noticed += 1;
                return;
            };
            let Some(&slot) = slots.get(&0) else { return };
            for offset in 0..store.info(slot).unwrap().high_watermark {
                let Ok(data) = store.read_any(slot, offset).await else {
                    noticed += 1;
                    continue;
                };
                for slice in data.slices {
                    let mut rest = slice.as_bytes();
                    while let Ok(view) = BatchView::parse(rest) {
                        let is_what_was_sent = sent.get(view.base_offset() as usize).is_some_and(|s| s == view.bytes());
                        assert!(is_what_was_sent || !view.crc_matches(), "seed {seed}: wrong data at {offset}");
                        noticed += usize::from(!view.crc_matches());
                        rest = &rest[view.total_len()..];
                    }
                }
            }
        });
        reactor.drop_tasks();
    }
    assert!(noticed > 0, "no write was misdirected");
}

/// A chunk of memory that is used again is another chunk: a partition that seldom appends must not pin the one that it
/// was in before, or a pool's worth of such partitions would stop the store.
#[test]
fn seldom_used_partitions_do_not_pin_memory() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    world.reactor.block_on(async {
        let busy = world.create(0, config()).await;
        let mut seldom = Vec::new();
        for partition in 1..=60 {
            seldom.push(world.create(partition, config()).await);
        }
        for round in 0..1500 {
            let bytes = batch(&mut random, 1, 2500);
            world.acked(busy, &bytes).await;
            if round % 2 == 0 {
                let slot = seldom[random.below(60) as usize];
                world.acked(slot, &batch(&mut random, 1, 50)).await;
            }
        }
        // What the busy one has sent since then is far more than the pool.
        for slot in &seldom {
            world.acked(*slot, &batch(&mut random, 1, 50)).await;
        }
        for _ in 0..600 {
            world.acked(busy, &batch(&mut random, 1, 2500)).await;
        }
        for slot in seldom {
            assert!(
                matches!(world.store.read(slot, ALL, 0, 100, true), Ok(Read::Cold)),
                "still in memory: slot {slot}"
            );
        }
    });
}

/// A checkpoint has to restate more partitions in the journal than there is memory for, while appends take what there is.
#[test]
fn a_checkpoint_of_many_partitions_finds_memory() {
    let limits = Limits { pool_bytes: 128 << 10, ..Limits::tiny() };
    for seed in 1..=6 {
        let world = World::with_limits(SimConfig { seed, ..SimConfig::default() }, limits.clone());
        let mut random = Random(seed);
        world.reactor.block_on(async {
            let mut slots = Vec::new();
            for partition in 0..80 {
                slots.push(world.create(partition, config()).await);
            }
            let mut last = 0;
            for _ in 0..1500 {
                let slot = slots[random.below(80) as usize];
                let size = 100 + random.below(3500) as usize;
                last = world.append(slot, &batch(&mut random, 1, size)).await.unwrap().seq;
            }
            world.store.wait_commit(last).await.unwrap();
        });
        assert_eq!(*world.ended.borrow(), None, "seed {seed}");
    }
}

/// Calls about a partition that is being deleted come back, whichever way.
#[test]
fn nobody_waits_for_a_deleted_partition() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    world.reactor.block_on(async {
        let slot = world.create(0, config()).await;
        let other = world.store.clone();
        let deleted = Rc::new(RefCell::new(false));
        let noted = deleted.clone();
        world.reactor.spawn(async move {
            other.delete_partition(slot).await.unwrap();
            *noted.borrow_mut() = true;
        });
        while !*deleted.borrow() {
            let _ = world.store.delete_records(slot, 0).await.unwrap();
            world.store.apply_retention().await.unwrap();
            world.reactor.end_of_turn().await;
        }
        assert_eq!(world.store.delete_records(slot, 0).await.unwrap(), None);
        assert!(matches!(world.store.read_any(slot, 0).await, Err(ReadError::UnknownPartition)));
    });
}

/// The last segment of a partition that nobody writes to goes from the disk when its time has come.
#[test]
fn retention_reclaims_the_last_segment_of_an_idle_partition() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    world.reactor.block_on(async {
        let slot = world.create(0, PartitionConfig { retention_ms: 1000, ..config() }).await;
        for _ in 0..4 {
            world.acked(slot, &batch(&mut random, 1, 3000)).await;
        }
        for _ in 0..3 {
            world.store.apply_retention().await.unwrap();
            world.pause(50).await;
        }
        let info = world.store.info(slot).unwrap();
        assert_eq!((info.log_start, info.high_watermark, info.bytes), (4, 4, 0));
        let image = world.sim.crash(Crash::Process, 0);
        assert_eq!(image.read(&segment(0)), None, "its file is still there");
        world.acked(slot, &batch(&mut random, 1, 100)).await;
    });
}

/// A batch of which the file holds four bytes, and memory the rest until the partition is deleted: a reader that is on its
/// way to the file learns of the deletion and of no damage.
#[test]
fn a_read_that_meets_a_deletion_finds_no_damage() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    world.reactor.block_on(async {
        let slot = world.create(0, config()).await;
        let other = world.create(1, config()).await;
        let overhead = batch(&mut random, 1, 4000).len() - 4000;
        let first = batch(&mut random, 1, 4092 - overhead);
        assert_eq!(first.len(), 4092);
        world.acked(slot, &first).await;
        world.acked(slot, &batch(&mut random, 1, 3000)).await;
        while !matches!(world.store.read(slot, ALL, 1, 1 << 20, true), Ok(Read::Cold)) {
            world.acked(other, &batch(&mut random, 1, 3000)).await;
        }
        let answer = Rc::new(RefCell::new(None));
        let (store, answered) = (world.store.clone(), answer.clone());
        world.reactor.spawn(async move { *answered.borrow_mut() = Some(store.read_any(slot, 1).await) });
        world.reactor.end_of_turn().await;
        world.store.delete_partition(slot).await.unwrap();
        let answer = answer.take().expect("the read is over before the directory is removed");
        assert!(matches!(answer, Err(ReadError::UnknownPartition)), "{answer:?}");
    });
}

/// What a producer has sent is remembered when all records are deleted, also when the journal knows a deleted segment as
/// the newest and holds all of it.
#[test]
fn producers_outlive_a_log_that_was_deleted_to_its_end() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    let mut sent = Vec::new();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(77, 0, 0);
    builder.push(&NewRecord { timestamp: 1_000, key: None, value: Some(&[1; 3000]), headers: &[] }).unwrap();
    builder.finish(&mut sent).unwrap();
    world.reactor.block_on(async {
        let slot = world.create(0, PartitionConfig { retention_ms: 1000, segment_bytes: 4096, ..config() }).await;
        world.acked(slot, &sent).await;
        world.acked(slot, &batch(&mut random, 1, 2000)).await;
        world.pause(50).await;
        assert_eq!(world.store.delete_records(slot, 2).await.unwrap(), Some(2));
        world.store.apply_retention().await.unwrap();
        world.pause(50).await;
        world.store.apply_retention().await.unwrap();
    });
    assert!(!world.has_file(&segment(0)) && !world.has_file(&segment(1)));
    let sim = Sim::with_image(SimConfig::default(), &world.sim.crash(Crash::Process, 0));
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        let reopened = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await;
        let (store, slots) = reopened.unwrap();
        assert_eq!(store.info(slots[&0]).unwrap().log_start, 2);
        let again = store.append(slots[&0], &BatchView::parse(&sent).unwrap(), 0).unwrap();
        assert!(again.duplicate && again.base_offset == 0, "{again:?}");
    });
    reactor.drop_tasks();
}

/// A segment may be closed, with bytes that only the journal holds, while its successor is already written directly. The
/// checkpoint that frees these groups moves the bytes first: they are not lost when their segment is completed late.
#[test]
fn a_checkpoint_moves_a_closed_segment_whose_successor_is_written_directly() {
    // Somewhere in between the commit in flight is the one that fills a file, and wakes the checkpoint.
    for appends in 1..=40 {
        let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
        let mut random = Random(1);
        world.reactor.block_on(async {
            let slot = world.create(0, PartitionConfig { segment_bytes: 24 << 10, ..config() }).await;
            let busy = world.create(1, PartitionConfig { segment_bytes: 1 << 20, ..config() }).await;
            let small = batch(&mut random, 1, 3000);
            for _ in 0..40 {
                world.acked(busy, &small).await;
            }
            for _ in 0..4 {
                world.acked(slot, &small).await;
            }
            for _ in 1..appends {
                world.acked(busy, &small).await;
            }
            // The log must not rest when its segment is closed.
            world.append(slot, &small).await.unwrap();
            world.pause_ns(20_000).await;
            world.append(slot, &batch(&mut random, 1, 17_000)).await.unwrap();
            // That commit fills a file. Whoever wants to append meanwhile wakes the checkpoint.
            let little = batch(&mut random, 1, 10);
            for step in 0..60 {
                world.append(busy, &little).await.unwrap();
                world.pause_ns(20_000).await;
                if step == 20 {
                    // They keep the checkpoint from opening files.
                    for maker in 0..10 {
                        let store = world.store.clone();
                        world.reactor.spawn(async move {
                            for number in 0..4 {
                                let key = key(2 + maker * 4 + number);
                                let spec = PartitionSpec { key, topic: "t".to_owned(), config: config() };
                                store.create_partition(spec).await.unwrap();
                            }
                        });
                    }
                }
            }
            for _ in 0..10 {
                for _ in 0..6 {
                    world.acked(busy, &small).await;
                }
                let end = world.store.info(slot).unwrap().high_watermark;
                let found = world.recovered(Crash::Process)[&0];
                assert!(found.0 == 0 && found.1 >= end, "after {appends} appends: {found:?} of {end}");
            }
        });
    }
}

/// A segment that was deleted before the journal knew of its successor, while the one before it, deleted too, is all in
/// the journal: the log is empty and goes on where it was.
#[test]
fn a_log_is_deleted_to_its_end_before_the_journal_knows_what_follows() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    world.reactor.block_on(async {
        let slot = world.create(0, PartitionConfig { retention_ms: 1000, segment_bytes: 16 << 10, ..config() }).await;
        world.acked(slot, &batch(&mut random, 1, 100)).await;
        world.acked(slot, &batch(&mut random, 1, 16 << 10)).await;
        // Joins the journal before the checkpoint has completed the first segment.
        assert_eq!(world.store.delete_records(slot, 2).await.unwrap(), Some(2));
        for _ in 0..2 {
            world.store.apply_retention().await.unwrap();
            world.pause(50).await;
        }
        world.store.apply_retention().await.unwrap();
    });
    assert!(!world.has_file(&segment(0)) && !world.has_file(&segment(1)));
    assert_eq!(world.recovered(Crash::Process)[&0], (2, 2));
}

/// Kafka allows 249 characters, which leaves no room for any addition to the directory's name.
#[test]
fn the_longest_topic_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let reactor = Reactor::new(Io::ring().unwrap());
    reactor.block_on(async {
        let (store, _) = reopen(&reactor, dir.path(), Durability::Disk, &Limits::tiny()).await.unwrap();
        let spec = PartitionSpec { key: key(12_345), topic: "x".repeat(249), config: config() };
        let slot = store.create_partition(spec.clone()).await.unwrap();
        store.delete_partition(slot).await.unwrap();
        store.create_partition(spec).await.unwrap();
    });
    reactor.drop_tasks();
}

/// A directory of the same name that holds records is never taken over.
#[test]
fn a_partition_does_not_take_over_anothers_records() {
    let world = World::new(SimConfig { seed: 1, ..SimConfig::default() });
    let mut random = Random(1);
    world.reactor.block_on(async {
        let slot = world.create(0, config()).await;
        let again = PartitionSpec {
            key: engine::PartitionKey { topic_id: [1; 16], partition: 0 },
            topic: "t".to_owned(),
            config: config(),
        };
        let refused = world.store.create_partition(again).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
        world.acked(slot, &batch(&mut random, 1, 100)).await;
    });
}
