//! Kill the broker at arbitrary moments under load, again and again: everything that it acknowledged and everything that
//! it let a consumer read is there afterwards, at the same offset, once, with no gaps.
//!
//! `WEIR_CRASH_ROUNDS` and `WEIR_CRASH_SEED` choose more rounds and other moments.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use harness::broker::Broker;
use harness::random::Random;
use harness::raw::{self, Connection, Producer};
use harness::{cache, suite};
use wire::error::ErrorCode;

const TOPIC: &str = "crash";
/// Partitions 0 to 2 have an idempotent writer each, partition 3 one that may write twice what it resends.
const IDEMPOTENT: i32 = 3;
const PARTITIONS: i32 = 4;
/// As many as a broker checks the sequence of.
const IN_FLIGHT: usize = 5;
/// How long a writer or reader waits before it tries again to reach a broker that is down.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);
/// Only ends a test that hangs: a round takes a second or two.
const ROUND_TIMEOUT: Duration = Duration::from_secs(300);

#[test]
#[ignore = "kills and restarts a broker for half a minute"]
fn acknowledged_records_survive_kills_with_durability_disk() {
    crash_loop("disk");
}

/// The page cache survives the process.
#[test]
#[ignore = "kills and restarts a broker for half a minute"]
fn acknowledged_records_survive_kills_with_durability_os() {
    crash_loop("os");
}

fn crash_loop(durability: &str) {
    let _machine = cache::whole_machine();
    let number = |name, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    };
    let (rounds, seed) = (number("WEIR_CRASH_ROUNDS", 12), number("WEIR_CRASH_SEED", 1));
    println!("WEIR_CRASH_ROUNDS={rounds} WEIR_CRASH_SEED={seed}");

    let properties = [("durability", durability), ("auto.create.topics.enable", "false")];
    let mut broker = Broker::start(&suite!(), &format!("crash-{durability}"), &properties);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    // Small segments, so that kills meet rolls as well.
    let created = connection.create_topic(TOPIC, PARTITIONS, &[("segment.bytes", "1048576")]);
    assert_eq!(created.expect("an answer"), 0);

    let shared = Arc::new(Shared::default());
    let writers: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let producer = (partition < IDEMPOTENT).then(|| connection.init_producer().expect("a producer id"));
            let mut writer = Writer::new(broker.bootstrap(), partition, producer, seed, shared.clone());
            std::thread::spawn(move || {
                writer.run();
                writer
            })
        })
        .collect();
    let readers: Vec<_> = (0..IDEMPOTENT)
        .map(|partition| {
            let (bootstrap, shared) = (broker.bootstrap(), shared.clone());
            std::thread::spawn(move || follow(&bootstrap, partition, seed, &shared))
        })
        .collect();

    let mut random = Random::new(seed);
    for round in 0..rounds {
        shared.wait_for_more(1 + random.below(1200));
        if round % 4 == 3 {
            broker.restart();
            continue;
        }
        broker.kill();
        if round % 4 == 1 {
            // Once more in the middle of the recovery.
            broker.resume_and_kill(Duration::from_micros(random.below(60_000)));
        }
        broker.resume();
    }
    shared.wait_for_more(200);
    shared.stop.store(true, Ordering::Relaxed);
    let writers: Vec<Writer> = writers.into_iter().map(|writer| writer.join().expect("a writer failed")).collect();
    for reader in readers {
        reader.join().expect("a reader failed");
    }
    broker.kill();
    broker.resume();

    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    for writer in &writers {
        let log = read_all(&mut connection, writer.partition);
        println!(
            "partition {}: {} records, {} acknowledged batches",
            writer.partition,
            log.len(),
            writer.acknowledged.len()
        );
        match writer.producer {
            Some(_) => check_exactly_once(writer, &log),
            None => check_at_least_once(writer, &log),
        }
    }
}

/// What writers, readers and the one who kills tell each other.
#[derive(Default)]
struct Shared {
    acknowledged: Mutex<Progress>,
    more: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct Progress {
    batches: u64,
    failed: bool,
}

impl Shared {
    fn acknowledge(&self) {
        self.acknowledged.lock().expect("no one panics with the lock").batches += 1;
        self.more.notify_all();
    }

    /// Waits until `count` more batches are acknowledged.
    fn wait_for_more(&self, count: u64) {
        let guard = self.acknowledged.lock().expect("no one panics with the lock");
        let end = guard.batches + count;
        let waited = self.more.wait_timeout_while(guard, ROUND_TIMEOUT, |now| now.batches < end && !now.failed);
        let (now, timeout) = waited.expect("no one panics with the lock");
        assert!(!now.failed, "a writer or a reader failed");
        assert!(!timeout.timed_out(), "only {} of {end} batches were acknowledged in time", now.batches);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Wakes the test when the thread that holds it panics.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.acknowledged.lock().expect("no one panics with the lock").failed = true;
            self.0.more.notify_all();
        }
    }
}

/// Writes numbered records to one partition, which has no other writer.
struct Writer {
    bootstrap: String,
    partition: i32,
    producer: Option<(i64, i16)>,
    seed: u64,
    random: Random,
    shared: Arc<Shared>,
    /// Number of the next record that was never sent.
    next: u64,
    /// Sent and not acknowledged, oldest first.
    pending: VecDeque<Batch>,
    /// Offset to the number of the record there, for the first record of every acknowledged batch.
    acknowledged: BTreeMap<i64, (u64, u64)>,
}

/// Records `first` to `first + count - 1`.
struct Batch {
    first: u64,
    count: u64,
    correlation_id: i32,
}

impl Writer {
    fn new(bootstrap: String, partition: i32, producer: Option<(i64, i16)>, seed: u64, shared: Arc<Shared>) -> Writer {
        let random = Random::new(seed ^ (partition as u64) << 32);
        let (pending, acknowledged) = (VecDeque::new(), BTreeMap::new());
        Writer { bootstrap, partition, producer, seed, random, shared, next: 0, pending, acknowledged }
    }

    /// Writes until it is told to stop, and then until all is acknowledged.
    fn run(&mut self) {
        let _alarm = Alarm(self.shared.clone());
        while !self.shared.stopped() || !self.pending.is_empty() {
            // Whatever breaks a connection, all that is not acknowledged is sent again on the next one.
            if self.write_on_one_connection().is_err() {
                std::thread::sleep(RECONNECT_PAUSE);
            }
        }
    }

    fn write_on_one_connection(&mut self) -> io::Result<()> {
        let mut connection = Connection::open(&self.bootstrap)?;
        for index in 0..self.pending.len() {
            let bytes = self.encode(self.pending[index].first, self.pending[index].count);
            self.pending[index].correlation_id = connection.send_produce(TOPIC, self.partition, &bytes, -1)?;
        }
        loop {
            while self.pending.len() < IN_FLIGHT && !self.shared.stopped() {
                // Now and then a large batch, which takes another path to the disk.
                let count = if self.random.below(25) == 0 { 150 } else { 1 + self.random.below(5) };
                let bytes = self.encode(self.next, count);
                // It counts as sent from here on: whether it arrives when the next line fails is not known.
                self.pending.push_back(Batch { first: self.next, count, correlation_id: 0 });
                self.next += count;
                let correlation_id = connection.send_produce(TOPIC, self.partition, &bytes, -1)?;
                self.pending.back_mut().expect("just pushed").correlation_id = correlation_id;
            }
            let Some(oldest) = self.pending.front() else { return Ok(()) };
            let produced = connection.produced(oldest.correlation_id)?;
            match ErrorCode::from_code(produced.error_code) {
                Some(ErrorCode::None) => {
                    let (first, count) = (oldest.first, oldest.count);
                    self.acknowledged.insert(produced.base_offset, (first, count));
                    self.pending.pop_front();
                    self.shared.acknowledge();
                }
                Some(error) if is_starting(error) => return Err(io::Error::other(format!("{error:?}"))),
                error => panic!(
                    "partition {}: records {} to {} were refused: {} {error:?}",
                    self.partition,
                    oldest.first,
                    oldest.first + oldest.count - 1,
                    produced.error_code
                ),
            }
        }
    }

    fn encode(&self, first: u64, count: u64) -> Vec<u8> {
        let values: Vec<Vec<u8>> =
            (first..first + count).map(|number| value(self.seed, self.partition, number)).collect();
        let producer = self.producer.map(|(id, epoch)| Producer {
            id,
            epoch,
            sequence: i32::try_from(first).expect("a test writes fewer records than sequence numbers"),
        });
        raw::batch(producer, &values)
    }
}

/// What Kafka answers while it comes up: it listens before it leads its partitions.
fn is_starting(error: ErrorCode) -> bool {
    use ErrorCode::{LeaderNotAvailable, NotLeaderOrFollower, UnknownTopicOrPartition};
    matches!(error, LeaderNotAvailable | NotLeaderOrFollower | UnknownTopicOrPartition)
}

/// The value of a writer's record: its number, and bytes that only this record has.
fn value(seed: u64, partition: i32, number: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ (partition as u64) << 56 ^ number);
    let len = 40 + if number.is_multiple_of(10) { random.below(4000) } else { random.below(400) };
    let mut value = number.to_be_bytes().to_vec();
    while (value.len() as u64) < len {
        value.extend_from_slice(&random.bits().to_be_bytes());
    }
    value
}

/// Reads a partition of an idempotent writer as it grows: record `n` is at offset `n`, and what was there once stays.
fn follow(bootstrap: &str, partition: i32, seed: u64, shared: &Arc<Shared>) {
    let _alarm = Alarm(shared.clone());
    let mut next = 0;
    while !shared.stopped() {
        let mut on_one_connection = || -> io::Result<()> {
            let mut connection = Connection::open(bootstrap)?;
            while !shared.stopped() {
                let correlation_id = connection.send_fetch(TOPIC, partition, next, 100, 1)?;
                let fetched = connection.fetched(correlation_id)?;
                match ErrorCode::from_code(fetched.error_code) {
                    Some(ErrorCode::None) => next = check_values(partition, seed, next, &fetched.records),
                    Some(error) if is_starting(error) => {
                        return Err(io::Error::other(format!("{error:?}")));
                    }
                    error => {
                        panic!("partition {partition}: {error:?} at offset {next}, below which all was read before")
                    }
                }
            }
            Ok(())
        };
        // The broker is down: the next attempt goes on where this one ended.
        if on_one_connection().is_err() {
            std::thread::sleep(RECONNECT_PAUSE);
        }
    }
}

/// Checks that `records` hold record `n` at offset `n` from `next` on and returns the offset behind them.
fn check_values(partition: i32, seed: u64, next: i64, records: &[u8]) -> i64 {
    let values =
        raw::values(records).unwrap_or_else(|error| panic!("partition {partition}, from offset {next}: {error}"));
    // A batch is answered whole, so it may begin before the offset that was asked for.
    let mut expected = next;
    for (offset, found) in values.iter().filter(|(offset, _)| *offset >= next) {
        assert_eq!(*offset, expected, "partition {partition}: the offset behind {}", expected - 1);
        let number = u64::try_from(expected).expect("offsets are not negative");
        assert!(*found == value(seed, partition, number), "partition {partition}, offset {offset}: another record");
        expected += 1;
    }
    expected
}

fn read_all(connection: &mut Connection, partition: i32) -> Vec<Vec<u8>> {
    let mut log: Vec<Vec<u8>> = Vec::new();
    let end = connection.end_offset(TOPIC, partition).expect("an answer");
    while (log.len() as i64) < end {
        let next = log.len() as i64;
        let fetched = connection.fetch(TOPIC, partition, next).expect("an answer");
        assert_eq!(fetched.error_code, 0, "partition {partition}, offset {next} of {end}");
        let values = raw::values(&fetched.records).unwrap_or_else(|error| panic!("partition {partition}: {error}"));
        for (offset, value) in values.into_iter().filter(|(offset, _)| *offset >= next) {
            assert_eq!(offset, log.len() as i64, "partition {partition}: offsets are dense");
            log.push(value);
        }
        assert!(log.len() as i64 > next, "partition {partition}: nothing at offset {next} of {end}");
    }
    log
}

fn check_exactly_once(writer: &Writer, log: &[Vec<u8>]) {
    let partition = writer.partition;
    assert_eq!(log.len() as u64, writer.next, "partition {partition}: records written once each");
    for (number, found) in (0..).zip(log) {
        assert!(
            *found == value(writer.seed, partition, number),
            "partition {partition}, offset {number}: another record"
        );
    }
    for (offset, (first, _)) in &writer.acknowledged {
        assert_eq!(*offset as u64, *first, "partition {partition}: the offset acknowledged for record {first}");
    }
}

fn check_at_least_once(writer: &Writer, log: &[Vec<u8>]) {
    let partition = writer.partition;
    for (offset, (first, count)) in &writer.acknowledged {
        for index in 0..*count {
            let found = log.get(*offset as usize + index as usize);
            let expected = value(writer.seed, partition, first + index);
            assert!(
                found == Some(&expected),
                "partition {partition}: record {} was acknowledged at offset {}",
                first + index,
                *offset as u64 + index
            );
        }
    }
    // A resend repeats what is there already; it never skips.
    let mut next = 0;
    for (offset, found) in log.iter().enumerate() {
        let number = u64::from_be_bytes(*found.first_chunk().expect("a value begins with its number"));
        assert!(number <= next, "partition {partition}, offset {offset}: record {number} where {next} is due");
        assert!(
            *found == value(writer.seed, partition, number),
            "partition {partition}, offset {offset}: another record"
        );
        next = next.max(number + 1);
    }
    assert_eq!(next, writer.next, "partition {partition}: the last record");
}
