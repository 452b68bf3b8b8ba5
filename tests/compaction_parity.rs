//! Compaction beside that of a stock Apache Kafka: the same batches to both, and what is left of them compared, batch by
//! batch and record by record. Kafka's own tool reads Weir's compacted segments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::broker::{Broker, Peer};
use harness::random::Random;
use harness::raw::{Connection, batches};
use harness::{cache, provision};
use wire::batch::{BatchBuilder, BatchHeader, BatchView, NewRecord};
use wire::compression::Codec;

const TOPIC: &str = "table";
const SEGMENT_BYTES: usize = 20_000;
const KEYS: u64 = 150;
const BATCHES: usize = 600;
/// Both look every few milliseconds; a loaded machine may take longer.
const COMPACTS_WITHIN: Duration = Duration::from_secs(120);
const DECOMPRESSED_BYTES: usize = 1 << 20;

/// A record as a client reads it.
#[derive(Debug, Clone, PartialEq)]
struct Read {
    timestamp_ms: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: usize,
}

/// What is left of a log.
#[derive(Debug, Clone, Default, PartialEq)]
struct Left {
    records: BTreeMap<i64, Read>,
    /// By base offset. The time at which tombstones go differs between two brokers; whether there is one does not.
    batches: BTreeMap<i64, (BatchHeader, bool)>,
}

#[test]
#[ignore = "starts Apache Kafka beside Weir"]
fn the_same_records_survive_as_in_kafka() {
    let _machine = cache::whole_machine();
    let suite = harness::suite!();
    let eager = [("log.cleaner.backoff.ms", "20"), ("log.cleaner.min.cleanable.ratio", "0.01")];
    let mut weir = Broker::start_peer(Peer::Weir, &suite, "compaction-weir", &eager);
    let kafka = Broker::start_peer(Peer::Kafka, &suite, "compaction-kafka", &eager);
    let open = |broker: &Broker| Connection::open(&broker.bootstrap()).expect("a connection");
    let mut connections = [open(&weir), open(&kafka)];
    let segment_bytes = SEGMENT_BYTES.to_string();
    let configs = [("cleanup.policy", "compact"), ("internal.segment.bytes", segment_bytes.as_str())];
    for connection in &mut connections {
        assert_eq!(connection.create_topic(TOPIC, 1, &configs).expect("an answer"), 0);
    }

    let producers = connections.each_mut().map(|connection| connection.init_producer().expect("a producer"));
    let mut random = Random::new(0xc0de);
    let mut sequence = 0;
    let mut sent: BTreeMap<i64, Read> = BTreeMap::new();
    let (mut offset, mut active_base, mut active_bytes) = (0, 0, 0);
    for number in 0..BATCHES {
        let codec = Codec::ALL[number % Codec::ALL.len()];
        let records = some_records(&mut random, number);
        let is_idempotent = number % 3 == 0;
        let mut len = 0;
        for (connection, (id, epoch)) in connections.iter_mut().zip(producers) {
            let mut builder = BatchBuilder::new(codec);
            if is_idempotent {
                builder.producer(id, epoch, sequence);
            }
            let bytes = finish(builder, &records);
            len = bytes.len();
            let produced = connection.produce(TOPIC, 0, &bytes).expect("an answer");
            assert_eq!((produced.error_code, produced.base_offset), (0, offset));
        }
        if active_bytes + len > SEGMENT_BYTES {
            (active_base, active_bytes) = (offset, 0);
        }
        active_bytes += len;
        sequence += if is_idempotent { records.len() as i32 } else { 0 };
        for record in records {
            sent.insert(offset, record);
            offset += 1;
        }
    }
    assert!(active_base > offset / 2);

    let expected = survivors(&sent, active_base);
    let [from_weir, from_kafka] = connections.each_mut().map(|connection| compacted(connection, offset, &expected));
    assert_same(&from_weir, &from_kafka);
    let emptied = from_weir.batches.values().filter(|(header, _)| header.record_count == 0).count();
    assert!(emptied < 5 && from_weir.batches.len() < BATCHES, "{} batches, {emptied} empty", from_weir.batches.len());

    weir.restart();
    let again = read(&mut open(&weir), offset);
    assert_same(&again, &from_weir);
    let segments = segments_of(&weir.data_dir().join(format!("{TOPIC}-0")));
    assert!(segments.len() < offset as usize / 100, "{segments:?}");
    let mut dumped = 0;
    for segment in &segments {
        dumped += dump(segment);
    }
    assert_eq!(dumped, from_weir.records.len());
}

fn some_records(random: &mut Random, number: usize) -> Vec<Read> {
    let records = 1 + random.below(8);
    let one = |at: u64, random: &mut Random| {
        let value: Vec<u8> = (0..10 + random.below(120)).map(|_| b'a' + random.below(26) as u8).collect();
        Read {
            timestamp_ms: 1_700_000_000_000 + (number as i64) * 10 + at as i64,
            key: format!("key-{}", random.below(KEYS)).into_bytes(),
            value: (random.below(8) > 0).then_some(value),
            headers: random.below(3) as usize,
        }
    };
    (0..records).map(|at| one(at, random)).collect()
}

fn finish(mut builder: BatchBuilder, records: &[Read]) -> Vec<u8> {
    let headers =
        [wire::batch::Header { key: b"one", value: Some(b"1") }, wire::batch::Header { key: b"", value: None }];
    for record in records {
        let new = NewRecord {
            timestamp: record.timestamp_ms,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &headers[..record.headers],
        };
        builder.push(&new).expect("records of tests fit into a batch");
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).expect("a batch of at least one record");
    bytes
}

/// The newest record of each key before the segment that is appended to, and all in that one.
fn survivors(sent: &BTreeMap<i64, Read>, active_base: i64) -> BTreeMap<i64, Read> {
    let mut newest: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (offset, record) in sent.range(..active_base) {
        newest.insert(&record.key, *offset);
    }
    let mut left: BTreeMap<i64, Read> = newest.into_values().map(|offset| (offset, sent[&offset].clone())).collect();
    left.extend(sent.range(active_base..).map(|(offset, record)| (*offset, record.clone())));
    left
}

/// What is left when compaction has come to its end, which is when the records are those expected.
fn compacted(connection: &mut Connection, end: i64, expected: &BTreeMap<i64, Read>) -> Left {
    let deadline = Instant::now() + COMPACTS_WITHIN;
    loop {
        let left = read(connection, end);
        if left.records == *expected {
            return left;
        }
        let only = |one: &BTreeMap<i64, Read>, other: &BTreeMap<i64, Read>| -> Vec<i64> {
            one.keys().filter(|offset| !other.contains_key(offset)).copied().collect()
        };
        assert!(
            Instant::now() < deadline,
            "still there: {:?}, and gone: {:?}",
            only(&left.records, expected),
            only(expected, &left.records)
        );
    }
}

fn read(connection: &mut Connection, end: i64) -> Left {
    let (mut left, mut offset) = (Left::default(), 0);
    let mut scratch = Vec::new();
    while offset < end {
        let fetched = connection.fetch(TOPIC, 0, offset).expect("an answer");
        assert_eq!((fetched.error_code, fetched.high_watermark), (0, end));
        let before = offset;
        for batch in batches(&fetched.records) {
            let batch: BatchView<'_> = batch.unwrap_or_else(|error| panic!("at {offset}: {error}"));
            offset = batch.last_offset() + 1;
            let has_horizon = batch.delete_horizon().is_some();
            let base_timestamp = if has_horizon { 0 } else { batch.base_timestamp() };
            // Who gave out the producer's id, and what the leader's epoch is, are the broker's own affairs.
            let header = BatchHeader {
                base_timestamp,
                leader_epoch: 0,
                producer_id: batch.producer_id().min(0),
                ..batch.header()
            };
            left.batches.insert(batch.base_offset(), (header, has_horizon));
            let body = batch.decompress(DECOMPRESSED_BYTES, &mut scratch).expect("records");
            for record in batch.records_in(body) {
                let record = record.expect("a record");
                let read = Read {
                    timestamp_ms: record.timestamp,
                    key: record.key.expect("a key").to_vec(),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record.headers.len(),
                };
                left.records.insert(record.offset, read);
            }
        }
        assert!(offset > before, "nothing at {offset} of {end}");
    }
    left
}

fn assert_same(one: &Left, other: &Left) {
    assert_eq!(one.records.keys().collect::<Vec<_>>(), other.records.keys().collect::<Vec<_>>());
    assert_eq!(one.records, other.records);
    for (base, batch) in &one.batches {
        assert_eq!(Some(batch), other.batches.get(base), "the batch at {base}");
    }
    assert_eq!(one.batches.len(), other.batches.len());
}

fn segments_of(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    segments.sort();
    segments
}

/// The records that Kafka's tool finds in a segment, with nothing to complain about.
fn dump(segment: &Path) -> usize {
    let file = segment.display().to_string();
    let arguments = ["--deep-iteration", "--print-data-log", "--files", &file];
    let output = provision::kafka().run_tool("org.apache.kafka.tools.DumpLogSegments", &arguments);
    let output = output.unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut records = 0;
    for line in output.lines() {
        assert!(!line.contains("Found ") && !line.contains("rror"), "{file}: {line}");
        assert!(!line.starts_with("baseOffset: ") || line.contains(" isvalid: true"), "{file}: {line}");
        records += usize::from(line.starts_with("| offset: "));
    }
    records
}
