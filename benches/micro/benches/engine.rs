//! The engine: chunks, appends, commits on a real disk, messages between cores, hot reads.
//!
//! Files go to a directory in `TMPDIR`, which is to be on a disk: a commit on tmpfs says nothing, and O_DIRECT is refused
//! there.

use std::collections::VecDeque;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::cache::{ChunkPool, ChunkWriter};
use engine::io::Io;
use engine::limits::Limits;
use engine::mailbox::{Mailbox, mesh};
use engine::reactor::Reactor;
use engine::{
    AppendError, Durability, Isolation, PartitionConfig, PartitionKey, PartitionSpec, Read, Slot, Store, StoreOptions,
    recovery,
};
use micro_bench::{batch, is_test_run, noise};
use tempfile::TempDir;
use wire::batch::BatchView;
use wire::compression::Codec;

/// A batch of one record (170 bytes), and what 1, 16 and 64 KiB hold.
const RECORDS: [usize; 4] = [1, 9, 150, 600];

/// Bytes that are appended before they are committed, where appends alone are measured.
const BETWEEN_COMMITS_BYTES: usize = 512 << 10;

/// Memory of a store.
const POOL_BYTES: usize = 64 << 20;

/// Few and short samples: each of them leaves bytes on the disk.
fn short(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
}

fn chunk(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk");
    short(&mut group);
    let bytes = noise(64 << 10);
    for len in [170, 1 << 10, 16 << 10, 64 << 10] {
        // More memory than caches hold, in a circle: what an append to a busy broker meets.
        let mut pool = ChunkPool::new(2 << 20, 64 << 20);
        let mut circle: VecDeque<ChunkWriter> = VecDeque::new();
        while let Some(mut writer) = pool.take() {
            writer.pad_to(writer.capacity());
            circle.push_back(writer);
        }
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("append", len), &bytes[..len], |b, bytes| {
            b.iter(|| {
                let writer = circle.back_mut().expect("it holds the whole pool");
                if writer.remaining() >= bytes.len() {
                    return writer.append(black_box(bytes));
                }
                pool.retire(circle.pop_front().expect("it holds the whole pool"));
                circle.push_back(pool.take().expect("one was given back"));
                circle.back_mut().expect("just pushed").append(black_box(bytes))
            });
        });
    }
    group.finish();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("store append");
    short(&mut group);
    for (path, direct_commit_bytes) in [("journal", usize::MAX), ("direct", 1)] {
        for records in RECORDS {
            let bytes = batch(records, Codec::None);
            let store = Bed::new(Durability::Os, direct_commit_bytes);
            let appends = (BETWEEN_COMMITS_BYTES / bytes.len()) as u64;
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_with_input(BenchmarkId::new(path, bytes.len()), &bytes[..], |b, bytes| {
                b.iter_custom(|times| store.append(bytes, times, appends, false));
            });
        }
    }
    group.finish();
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("store commit");
    short(&mut group);
    for (class, durability) in [("os", Durability::Os), ("disk", Durability::Disk)] {
        // One small batch alone, a group of small ones, and bulk by either path.
        for (name, records, appends, direct_commit_bytes) in [
            ("1 x 170 B", 1, 1, usize::MAX),
            ("64 x 170 B", 1, 64, usize::MAX),
            ("1 x 16 KiB", 150, 1, usize::MAX),
            ("8 x 64 KiB journal", 600, 8, usize::MAX),
            ("8 x 64 KiB direct", 600, 8, 1),
        ] {
            let bytes = batch(records, Codec::None);
            let store = Bed::new(durability, direct_commit_bytes);
            group.throughput(Throughput::Bytes(appends * bytes.len() as u64));
            group.bench_with_input(BenchmarkId::new(class, name), &bytes[..], |b, bytes| {
                b.iter_custom(|times| store.append(bytes, times * appends, appends, true));
            });
        }
    }
    group.finish();
}

fn hot_read(c: &mut Criterion) {
    const BYTES: usize = 1 << 20;
    let mut group = c.benchmark_group("hot read of 1 MiB");
    short(&mut group);
    for records in [600, 1] {
        let bytes = batch(records, Codec::None);
        let bed = Bed::new(Durability::Os, usize::MAX);
        let from = bed.store.info(bed.slot).expect("a partition").log_end;
        bed.append(&bytes, (2 * BYTES / bytes.len()) as u64, 1000, true);
        let read =
            || match bed.store.read(bed.slot, Isolation::ReadUncommitted, from, BYTES, true).expect("it is there") {
                Read::Hot(data) => data,
                Read::Cold => panic!("what was just appended is in memory"),
            };
        assert!((BYTES - bytes.len()..=BYTES).contains(&read().bytes));
        group.throughput(Throughput::Bytes(BYTES as u64));
        group.bench_function(BenchmarkId::new("batches of bytes", bytes.len()), |b| b.iter(read));
    }
    group.finish();
}

fn mailbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox");
    short(&mut group);
    group.throughput(Throughput::Elements(1));
    group.bench_function("round trip", |b| b.iter_custom(|times| between_cores(times, true)));
    group.bench_function("one way", |b| b.iter_custom(|times| between_cores(times, false)));
    group.finish();
}

/// A store with one partition in a directory of its own.
struct Bed {
    reactor: Reactor,
    store: Store,
    slot: Slot,
    _dir: TempDir,
}

impl Bed {
    fn new(durability: Durability, direct_commit_bytes: usize) -> Bed {
        let dir = tempfile::tempdir().expect("a directory");
        let reactor = Reactor::new(Io::ring().expect("io_uring"));
        // A pool that is soon touched as a whole. Journal files are written once before they are used.
        let journal_file_bytes = if is_test_run() { 4 << 20 } else { 64 << 20 };
        let limits = Limits { direct_commit_bytes, journal_file_bytes, pool_bytes: POOL_BYTES, ..Limits::default() };
        let (store, slot) = reactor.block_on(async {
            let found = recovery::recover(&reactor, dir.path(), &limits).await.expect("an empty directory");
            let incarnation = found.incarnation;
            let options = StoreOptions {
                dir: dir.path().to_owned(),
                core: 0,
                incarnation,
                durability,
                memory_ahead: true,
                limits,
            };
            let store = Store::open(reactor.clone(), options).await.expect("a store");
            let running = store.clone();
            reactor.spawn(async move { panic!("{}", running.run().await) });
            let running = store.clone();
            reactor.spawn(async move {
                running.run_checkpoints().await;
            });
            let key = PartitionKey { topic_id: [1; 16], partition: 0 };
            let spec = PartitionSpec { key, topic: "bench".to_owned(), config: PartitionConfig::default() };
            let slot = store.create_partition(spec).await.expect("a partition");
            (store, slot)
        });
        let bed = Bed { reactor, store, slot, _dir: dir };
        if !is_test_run() {
            // Memory is slow when it is touched first, by far.
            let bytes = batch(600, Codec::None);
            bed.append(&bytes, (2 * POOL_BYTES / bytes.len()) as u64, 8, true);
        }
        bed
    }

    /// Appends `times` batches, with a commit after every `per_commit` of them, which is measured or not.
    fn append(&self, bytes: &[u8], times: u64, per_commit: u64, with_commit: bool) -> Duration {
        let Bed { reactor, store, slot, .. } = self;
        reactor.block_on(async {
            let mut spent = Duration::ZERO;
            let mut left = times;
            while left > 0 {
                let mut begin = Instant::now();
                let now = left.min(per_commit);
                let mut seq = 0;
                for _ in 0..now {
                    seq = loop {
                        let view = BatchView::parse(black_box(bytes)).expect("a batch");
                        match store.append(*slot, &view, 0) {
                            Ok(appended) => break appended.seq,
                            Err(AppendError::Busy) => {}
                            Err(error) => panic!("{error:?}"),
                        }
                        // The checkpoint has to free memory or journal files, which is no part of an append.
                        spent += begin.elapsed();
                        store.wait_capacity().await;
                        begin = Instant::now();
                    };
                }
                if !with_commit {
                    spent += begin.elapsed();
                }
                store.wait_commit(seq).await.expect("a working disk");
                if with_commit {
                    spent += begin.elapsed();
                }
                left -= now;
            }
            spent
        })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Its tasks and the reactor hold each other.
        self.reactor.drop_tasks();
    }
}

/// Messages from one core to another: answered one by one, or all together at their end.
fn between_cores(times: u64, answer_each: bool) -> Duration {
    let mut ends = mesh::<u64>(2, 1024).into_iter();
    let (here, there) = (ends.next().expect("two ends"), ends.next().expect("two ends"));
    // The first message and its answer say that both are there.
    let total = times + 1;
    let answerer = thread::spawn(move || {
        let reactor = Reactor::new(Io::ring().expect("io_uring"));
        let mailbox = there.bind(&reactor);
        reactor.block_on(async {
            for number in 0..total {
                let message = next(&mailbox).await;
                assert_eq!(message, number, "in order and complete");
                if answer_each || number == 0 || number + 1 == total {
                    mailbox.send(0, message).expect("the queue was empty");
                }
            }
        });
    });
    let reactor = Reactor::new(Io::ring().expect("io_uring"));
    let mailbox = here.bind(&reactor);
    let spent = reactor.block_on(async {
        mailbox.send(1, 0).expect("the queue was empty");
        assert_eq!(next(&mailbox).await, 0);
        let begin = Instant::now();
        for number in 1..total {
            while mailbox.send(1, number).is_err() {
                mailbox.room(1).await;
            }
            if answer_each {
                assert_eq!(next(&mailbox).await, number);
            }
        }
        if !answer_each {
            assert_eq!(next(&mailbox).await, times);
        }
        begin.elapsed()
    });
    answerer.join().expect("the other core ends");
    spent
}

async fn next(mailbox: &Mailbox<u64>) -> u64 {
    loop {
        if let Some((_, message)) = mailbox.recv() {
            return message;
        }
        mailbox.ready().await;
    }
}

criterion_group!(benches, chunk, append, commit, hot_read, mailbox);
criterion_main!(benches);
