//! Connections that are reset, bytes that mean nothing, and what the log says of a disk that is full or cannot be read.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Mutex;

use super::*;

/// A seeded sequence for tests (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Writes numbered values until `count` are acknowledged, several requests in flight, over a connection that may be reset
/// at any time. Returns what was acknowledged: partition, offset, value.
async fn write_numbers(broker: &Broker, topic: &Topic, writer: u64, count: usize) -> Vec<(i32, i64, Vec<u8>)> {
    let mut dice = Dice(writer);
    let mut acknowledged = Vec::new();
    let mut number = 0u64;
    while acknowledged.len() < count {
        let Some(mut client) = broker.try_client().await else { continue };
        loop {
            let mut sent = Vec::new();
            for _ in 0..=dice.below(8) {
                number += 1;
                let value =
                    [&writer.to_be_bytes()[..], &number.to_be_bytes(), &vec![9; dice.below(400) as usize]].concat();
                let index = dice.below(topic.partitions.len() as u64) as i32;
                let bytes = batch(&[&value]);
                client.send(ApiKey::Produce, 9, &produce_request(9, topic, 1, &[(index, &bytes)])).await;
                sent.push((client.next - 1, index, value));
            }
            let mut is_lost = false;
            for (correlation_id, index, value) in sent {
                let Some(response) = client.receive().await else {
                    is_lost = true;
                    break;
                };
                let produced = produced(body_of(&response, ApiKey::Produce, 9, correlation_id), 9);
                assert_eq!(produced[0].error, ErrorCode::None);
                acknowledged.push((index, produced[0].base_offset, value));
            }
            if is_lost || acknowledged.len() >= count {
                break;
            }
        }
    }
    acknowledged
}

/// Reads partitions from the beginning with sessions and long polls, until `done` says so and all is read.
async fn read_all(broker: &Broker, topic: &Topic, done: &Cell<bool>) -> Vec<Vec<Vec<u8>>> {
    let mut read: Vec<Vec<Vec<u8>>> = vec![Vec::new(); topic.partitions.len()];
    loop {
        let Some(mut client) = broker.try_client().await else { continue };
        let offsets = |read: &[Vec<Vec<u8>>]| -> Vec<(i32, i64)> {
            read.iter().enumerate().map(|(index, values)| (index as i32, values.len() as i64)).collect()
        };
        let (mut session, mut epoch) = (0, 0);
        loop {
            let is_last = done.get();
            let mut request = fetch_request(13, topic, &offsets(&read));
            (request.session_id, request.session_epoch) = (session, epoch);
            client.send(ApiKey::Fetch, 13, &request).await;
            let Some(response) = client.receive().await else { break };
            let fetched = fetched(body_of(&response, ApiKey::Fetch, 13, client.next - 1), 13);
            assert_eq!(fetched.error, 0);
            (session, epoch) = (fetched.session, epoch + 1);
            let mut news = 0;
            for partition in &fetched.partitions {
                assert_eq!(partition.error, ErrorCode::None);
                for (offset, value) in fetched.values(partition.index) {
                    let values = &mut read[partition.index as usize];
                    assert_eq!(offset, values.len() as i64, "offsets are dense");
                    assert!(offset < partition.high_watermark);
                    values.push(value);
                    news += 1;
                }
            }
            if is_last && news == 0 {
                return read;
            }
        }
    }
}

#[test]
fn what_was_acknowledged_is_read_where_it_was_said_to_be_whatever_breaks() {
    for seed in 0..12u64 {
        let cores = 1 + seed as usize % 3;
        let config = SimConfig { seed, reset: 3_000, stall: 2_000, short_transfer: 100_000, ..SimConfig::default() };
        with_options(cores, config, options(), async |broker| {
            let topic = broker.create("events", 5, &[]).await;
            let done = Rc::new(Cell::new(false));
            let reactor = broker.cores[0].reactor().clone();
            let written = Rc::new(RefCell::new(Vec::new()));
            let writers = Rc::new(Cell::new(4));
            for writer in 0..4 {
                let (broker, topic) = (broker.clone(), topic.clone());
                let (written, writers, done) = (written.clone(), writers.clone(), done.clone());
                reactor.spawn(async move {
                    let acknowledged = write_numbers(&broker, &topic, seed * 10 + writer, 150).await;
                    written.borrow_mut().extend(acknowledged);
                    writers.set(writers.get() - 1);
                    done.set(writers.get() == 0);
                });
            }
            let read = read_all(broker, &topic, &done).await;
            let mut seen = HashSet::new();
            for (index, offset, value) in written.borrow().iter() {
                assert_eq!(&read[*index as usize][*offset as usize], value, "seed {seed}");
                assert!(seen.insert((*index, *offset)), "an offset is given once");
            }
            let all: Vec<&Vec<u8>> = read.iter().flatten().collect();
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "nothing is written twice");
        });
    }
}

#[test]
fn no_bytes_bring_the_broker_down() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let mut dice = Dice(1);
        let good = batch(&[b"v"]);
        let mut samples: Vec<Vec<u8>> = Vec::new();
        for api in crate::api::APIS {
            for version in api.min..=api.max {
                let mut body = Vec::new();
                match api.key {
                    ApiKey::Produce => {
                        produce_request(version, &topic, 1, &[(0, &good), (1, &good)])
                            .encode(&mut body, version)
                            .unwrap();
                    }
                    ApiKey::Fetch => {
                        let request =
                            FetchRequest { max_wait_ms: 0, ..fetch_request(version, &topic, &[(0, 0), (1, 0)]) };
                        request.encode(&mut body, version).unwrap();
                    }
                    _ => body = (0..dice.below(60)).map(|_| dice.below(256) as u8).collect(),
                }
                let mut frame = vec![0; 4];
                let header = RequestHeader { api: api.key, version, correlation_id: 1, client_id: Some("test") };
                header.encode(&mut frame).unwrap();
                frame.extend(body);
                samples.push(frame);
            }
        }
        for round in 0..6000 {
            let mut frame = samples[round % samples.len()].clone();
            for _ in 0..1 + dice.below(4) {
                let at = 4 + dice.below(frame.len() as u64 - 4) as usize;
                match dice.below(4) {
                    0 => frame.truncate(at.max(5)),
                    1 => frame[at] = dice.below(256) as u8,
                    2 => frame[at] ^= 1 << dice.below(8),
                    _ => frame.extend((0..dice.below(20)).map(|n| n as u8)),
                }
            }
            let len = (frame.len() - 4) as u32;
            frame[..4].copy_from_slice(&len.to_be_bytes());
            let mut client = broker.client().await;
            client.send_bytes(frame).await;
            client.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
            // An answer to the first, and one to the second, or the end of the connection.
            while client.receive().await.is_some_and(|response| !response.starts_with(&[0, 0, 0, 0])) {}
        }
        let mut client = broker.client().await;
        assert_eq!(client.produce(9, &topic, 1, &[(0, &good), (1, &good)]).await[1].error, ErrorCode::None);
    });
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Lines with all of the words.
    fn count(&self, words: &[&str]) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs `test` against a broker of one core, with its log.
fn with_log(test: impl AsyncFnOnce(&Broker, &Log)) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || with_broker(1, async |broker| test(broker, &log).await));
}

async fn pass_seconds(broker: &Broker, seconds: u64) {
    let reactor = broker.cores[0].reactor();
    reactor.sleep_until(reactor.now_ns() + seconds * 1_000_000_000).await;
}

#[test]
fn the_log_says_once_that_the_disk_is_full_and_once_that_it_has_space() {
    with_log(async |broker, log| {
        let topic = broker.create("events", 1, &[]).await;
        let (writing, written) = (broker.clone(), Rc::new(Cell::new(false)));
        let done = written.clone();
        broker.sim.change(|config| config.capacity_bytes = Some(1));
        broker.cores[0].reactor().spawn(async move {
            let mut client = writing.client().await;
            // Until the journal has to be moved to a segment.
            for _ in 0..100 {
                let bytes = batch(&[&[7; 8000]]);
                client.produce(9, &topic, 1, &[(0, &bytes)]).await;
            }
            done.set(true);
        });
        pass_seconds(broker, 10).await;
        assert_eq!(log.count(&["WARN", "the disk is full"]), 1);
        assert_eq!(log.count(&["has space again"]), 0);
        broker.sim.change(|config| config.capacity_bytes = None);
        pass_seconds(broker, 10).await;
        assert_eq!((log.count(&["the disk is full"]), log.count(&["INFO", "has space again"])), (1, 1));
        assert!(written.get());
    });
}

#[test]
fn the_log_says_once_which_partition_cannot_be_read() {
    with_log(async |broker, log| {
        let topic = broker.create("events", 2, &[]).await;
        let mut client = broker.client().await;
        // More than the pool of the core holds.
        for _ in 0..100 {
            let bytes = batch(&[&[7; 8000]]);
            client.produce(9, &topic, 1, &[(1, &bytes)]).await;
        }
        broker.sim.change(|config| config.read_error = 1_000_000);
        for _ in 0..3 {
            let fetched = client.fetch(12, &fetch_request(12, &topic, &[(1, 0)])).await;
            assert_eq!(fetched.partitions[0].error, ErrorCode::KafkaStorageError);
        }
        assert_eq!((log.count(&["cannot be read"]), log.count(&["WARN", "events-1 cannot be read"])), (1, 1));
        broker.sim.change(|config| config.read_error = 0);
    });
}
