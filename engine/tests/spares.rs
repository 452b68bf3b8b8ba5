//! Segments in files that were another partition's: what the other one has left there never passes for a record, however a
//! world ends; and such a file is nobody else's any more.

mod common;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use common::{DIR, config, empty_disk, key, reopen};
use engine::io::sim::{Crash, Image, Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{AppendError, Durability, Isolation, PartitionConfig, PartitionSpec, Read, ReadError, Slot, Store};
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;

/// The partition that is deleted and the one that comes after it. Their batches have the same sizes, counts and so offsets.
const OLD: (u32, u8) = (0, b'o');
const NEW: (u32, u8) = (1, b'n');

/// What the client of the new partition knows.
#[derive(Default)]
struct Known {
    is_created: Cell<bool>,
    acked: Cell<i64>,
}

/// A batch of half a block: commits often end with a block, and then nothing of them is in the journal.
fn batch_of(content: u8) -> Vec<u8> {
    let of = |len: usize| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .push(&NewRecord { timestamp: 1_000, key: None, value: Some(&[content].repeat(len)), headers: &[] })
            .unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        bytes
    };
    let bytes = of(2048 - (of(1900).len() - 1900));
    assert_eq!(bytes.len(), 2048);
    bytes
}

/// What becomes of the old partition.
#[derive(Clone, Copy)]
struct Old {
    commits: usize,
    segment_bytes: u64,
}

async fn create(store: &Store, partition: (u32, u8)) -> std::io::Result<Slot> {
    create_with(store, partition, config().segment_bytes).await
}

async fn create_with(store: &Store, (partition, _): (u32, u8), segment_bytes: u64) -> std::io::Result<Slot> {
    let config = PartitionConfig { segment_bytes, ..config() };
    store.create_partition(PartitionSpec { key: key(partition), topic: "t".to_owned(), config }).await
}

/// Appends batches, several in one commit, so that most go the direct way. Three and a third fill a segment.
async fn fill(store: &Store, slot: Slot, content: u8, commits: usize, acked: impl Fn(i64)) {
    for _ in 0..commits {
        let mut newest = None;
        for _ in 0..6 {
            let bytes = batch_of(content);
            let view = BatchView::parse(&bytes).unwrap();
            newest = loop {
                match store.append(slot, &view, 0) {
                    Ok(appended) => break Some(appended),
                    Err(AppendError::Busy) => store.wait_capacity().await,
                    // The world has ended.
                    Err(AppendError::Failed) => std::future::pending().await,
                    Err(error) => panic!("{error:?}"),
                }
            };
        }
        let newest = newest.unwrap();
        if store.wait_commit(newest.seq).await.is_ok() {
            acked(newest.last_offset + 1);
        }
    }
}

/// Until the checkpoint has nothing open that it has written.
async fn come_to_rest(reactor: &Reactor) {
    reactor.sleep_until(reactor.now_ns() + 1_000_000_000).await;
}

/// The old partition comes and goes, the new one comes. `deleted` is called in between.
async fn script(
    reactor: Reactor,
    durability: Durability,
    old: Old,
    known: Rc<Known>,
    deleted: impl Fn(),
) -> std::io::Result<()> {
    let (store, _) = reopen(&reactor, Path::new(DIR), durability, &Limits::tiny()).await?;
    let Old { commits, segment_bytes } = old;
    let old = create_with(&store, OLD, segment_bytes).await?;
    fill(&store, old, OLD.1, commits, |_| ()).await;
    come_to_rest(&reactor).await;
    store.delete_partition(old).await?;
    deleted();
    let new = create(&store, NEW).await?;
    known.is_created.set(true);
    fill(&store, new, NEW.1, 10, |end| known.acked.set(end)).await;
    store.close().await
}

/// Runs the script up to a step, or to its end. Returns the step at which the old partition was gone.
fn run(seed: u64, durability: Durability, old: Old, crash_at: Option<u64>) -> (Sim, Rc<Known>, u64) {
    let sim = Sim::with_image(SimConfig { seed, crash_at, ..SimConfig::default() }, &empty_disk());
    let reactor = Reactor::new(sim.io());
    let known = Rc::new(Known::default());
    let gone = Rc::new(Cell::new(0));
    let note = {
        let (sim, gone) = (sim.clone(), gone.clone());
        move || gone.set(sim.steps())
    };
    let ended = reactor.try_block_on(script(reactor.clone(), durability, old, known.clone(), note));
    if crash_at.is_none() {
        ended.expect("the script ends").unwrap();
    }
    reactor.drop_tasks();
    (sim, known, gone.get())
}

/// What recovery finds of the new partition: the end of its log, all of it checked.
fn recovered(image: &Image, durability: Durability, context: &str) -> Option<i64> {
    let sim = Sim::with_image(SimConfig::default(), image);
    let reactor = Reactor::new(sim.io());
    let end = reactor.block_on(async {
        let reopened = reopen(&reactor, Path::new(DIR), durability, &Limits::tiny()).await;
        let (store, slots) = reopened.unwrap_or_else(|error| panic!("{context}: {error}"));
        let slot = *slots.get(&NEW.0)?;
        let end = store.info(slot).unwrap().high_watermark;
        let mut offset = 0;
        while offset < end {
            for slice in store.read_any(slot, offset).await.unwrap().slices {
                for batch in wire::batch::Batches::new(slice.as_bytes()).map(Result::unwrap) {
                    let mut sent = batch_of(NEW.1);
                    wire::batch::assign(&mut sent, offset, 0);
                    assert!(batch.bytes() == sent, "{context}: the batch of offset {offset} is another");
                    offset += 1;
                }
            }
        }
        Some(end)
    });
    reactor.drop_tasks();
    end
}

fn crash_everywhere(seed: u64, durability: Durability, crash: Crash) {
    // The first segment, whose offsets are those of the new partition's first one, is the only spare file.
    let old = Old { commits: 2, segment_bytes: config().segment_bytes };
    let (whole, _, gone) = run(seed, durability, old, None);
    let steps = whole.steps();
    let is_reused = |(path, _): &(PathBuf, &[u8])| path.extension().is_some_and(|e| e == "reused");
    let mut has_reused = false;
    for step in gone..steps {
        let context = format!("seed {seed}, {durability:?}, {crash:?}, step {step} of {steps}");
        let (sim, known, _) = run(seed, durability, old, Some(step));
        let image = sim.crash(crash, step);
        has_reused |= image.files().iter().any(is_reused);
        let end = recovered(&image, durability, &context);
        assert!(end.is_some() || !known.is_created.get(), "{context}: the partition is gone");
        let promised = (durability, crash) != (Durability::Os, Crash::Power);
        assert!(!promised || end.unwrap_or(0) >= known.acked.get(), "{context}: lost acknowledged records");
    }
    assert!(has_reused, "seed {seed}, {durability:?}: no file was used again");
}

#[test]
fn a_crash_never_brings_back_what_a_file_held_before() {
    for seed in 1..=12 {
        for durability in [Durability::Disk, Durability::Os] {
            crash_everywhere(seed, durability, Crash::Power);
            crash_everywhere(seed, durability, Crash::Process);
        }
    }
}

/// Without the journal nobody can tell where a segment ends whose file holds more.
#[test]
fn without_a_journal_a_used_file_is_not_taken_for_a_log() {
    let (sim, ..) = run(1, Durability::Disk, Old { commits: 10, segment_bytes: config().segment_bytes }, None);
    let mut copied = Image::default();
    for (path, bytes) in sim.crash(Crash::Process, 0).files() {
        if !path.starts_with(Path::new(DIR).join("journal")) {
            copied.write(&path, bytes.to_vec());
        }
    }
    let sim = Sim::with_image(SimConfig::default(), &copied);
    let reactor = Reactor::new(sim.io());
    let found = reactor.block_on(engine::recovery::recover(&reactor, Path::new(DIR), &Limits::tiny()));
    let error = found.expect_err("the log's end is unknown").to_string();
    assert!(error.contains("no journal says where the segments"), "{error}");
}

/// A segment's file is used again and sealed: then it is as long as the segment, and nothing says any more that it is not.
#[test]
fn a_sealed_segment_holds_nothing_else() {
    // The files are half as long again as the segments that come into them.
    let old = Old { commits: 20, segment_bytes: config().segment_bytes / 2 * 3 };
    let (sim, ..) = run(1, Durability::Disk, old, None);
    let image = sim.crash(Crash::Process, 0);
    let dir = Path::new(DIR).join("t-1");
    let of = |extension: &str| -> Vec<(PathBuf, usize)> {
        let files = image.files();
        let found = files.iter().filter(|(path, _)| path.starts_with(&dir));
        let found = found.filter(|(path, _)| path.extension().is_some_and(|e| e == extension));
        found.map(|(path, bytes)| (path.clone(), bytes.len())).collect()
    };
    let (logs, reused) = (of("log"), of("reused"));
    assert!(logs.len() >= 3 && reused.len() == 1, "{logs:?}, {reused:?}");
    for (path, len) in &logs[..logs.len() - 1] {
        let bytes = image.read(path).unwrap();
        let held: usize = wire::batch::Batches::new(bytes).map(|batch| batch.unwrap().total_len()).sum();
        assert_eq!(held, *len, "{}", path.display());
    }
}

/// A reader that has a deleted segment's file open reads that segment or learns of the deletion.
#[test]
fn a_file_that_somebody_reads_is_not_used_again() {
    for seed in 1..=40 {
        let sim = Sim::with_image(SimConfig { seed, ..SimConfig::default() }, &empty_disk());
        let reactor = Reactor::new(sim.io());
        reactor.block_on(async {
            let opened = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await;
            let (store, _) = opened.unwrap();
            let old = create(&store, OLD).await.unwrap();
            fill(&store, old, OLD.1, 10, |_| ()).await;
            let other = create(&store, (2, b'x')).await.unwrap();
            // Until memory has forgotten the old one.
            while !matches!(store.read(old, Isolation::ReadUncommitted, 7, 1 << 20, true), Ok(Read::Cold)) {
                fill(&store, other, b'x', 10, |_| ()).await;
            }
            // The disk takes longer for the reads than for all that follows.
            sim.change(|config| (config.stall, config.stall_ns) = (1_000_000, 10_000_000_000));
            let answers = Rc::new(RefCell::new(Vec::new()));
            for offset in 0..8 {
                let (store, answers) = (store.clone(), answers.clone());
                reactor.spawn(async move {
                    let answer = store.read_any(old, offset).await;
                    answers.borrow_mut().push(answer);
                });
            }
            reactor.end_of_turn().await;
            sim.change(|config| config.stall = 0);
            store.delete_partition(old).await.unwrap();
            // All but the one that is being read.
            assert_eq!(reactor.list_dir(&Path::new(DIR).join("spare")).unwrap().len(), 2, "seed {seed}");
            let new = create(&store, NEW).await.unwrap();
            fill(&store, new, NEW.1, 10, |_| ()).await;
            while answers.borrow().len() < 8 {
                reactor.sleep_until(reactor.now_ns() + 1_000_000).await;
            }
            for answer in answers.take() {
                match answer {
                    Ok(data) => {
                        let bytes = data.slices.iter().flat_map(|slice| slice.as_bytes().to_vec()).collect::<Vec<_>>();
                        for batch in wire::batch::Batches::new(&bytes).map(Result::unwrap) {
                            let mut sent = batch_of(OLD.1);
                            wire::batch::assign(&mut sent, batch.base_offset(), 0);
                            assert!(batch.bytes() == sent, "seed {seed}: a reader met another partition's batch");
                        }
                    }
                    Err(ReadError::UnknownPartition) => {}
                    Err(error) => panic!("seed {seed}: {error:?}"),
                }
            }
        });
        reactor.drop_tasks();
    }
}

/// A store that looks at all partitions once an hour.
fn with_retention(script: impl AsyncFnOnce(&Reactor, &Store)) {
    let sim = Sim::with_image(SimConfig { seed: 1, ..SimConfig::default() }, &empty_disk());
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        let (store, _) = reopen(&reactor, Path::new(DIR), Durability::Disk, &Limits::tiny()).await.unwrap();
        let running = store.clone();
        reactor.spawn(async move {
            running.run_retention(3_600_000).await;
        });
        script(&reactor, &store).await;
    });
    reactor.drop_tasks();
}

/// Nobody has wanted the files: they go when their time is over.
#[test]
fn spare_files_go_in_time() {
    with_retention(async |reactor, store| {
        let old = create(store, OLD).await.unwrap();
        fill(store, old, OLD.1, 10, |_| ()).await;
        come_to_rest(reactor).await;
        store.delete_partition(old).await.unwrap();
        let spares = || reactor.list_dir(&Path::new(DIR).join("spare")).unwrap().len();
        assert!(spares() >= 3, "{} spare files", spares());
        reactor.sleep_until(reactor.now_ns() + (config().file_delete_delay_ms as u64 + 100) * 1_000_000).await;
        assert_eq!(spares(), 0);
    });
}

/// A log that has reached its size deletes as it grows, long before retention comes to all partitions, and is written into
/// the files that it has given up.
#[test]
fn a_log_at_its_size_is_written_into_its_own_files() {
    with_retention(async |reactor, store| {
        let segment_bytes = config().segment_bytes;
        let config = PartitionConfig { retention_bytes: 2 * segment_bytes as i64, ..config() };
        let spec = PartitionSpec { key: key(NEW.0), topic: "t".to_owned(), config };
        let slot = store.create_partition(spec).await.unwrap();
        let mut reused = 0;
        for _ in 0..10 {
            fill(store, slot, NEW.1, 4, |_| ()).await;
            come_to_rest(reactor).await;
            let files = reactor.list_dir(&Path::new(DIR).join("t-1")).unwrap();
            let of = |end: &str| files.iter().filter(|file| file.name.to_str().unwrap().ends_with(end)).count();
            assert!(of(".log") <= 4, "{files:?}");
            reused += of(".reused");
        }
        assert!(reused >= 5, "{reused} times in 10");
        assert!(store.info(slot).unwrap().log_start > 0);
    });
}
