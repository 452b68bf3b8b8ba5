//! Clients of Kafka 0.8 to 2.8, and what they and new ones read of each other. Kafka 4 serves most of them no more.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::broker::{Broker, Peer};
use harness::partitioner::Partitioner;
use harness::process::{Running, run};
use harness::raw::{self, Connection};
use harness::workload::{self, ReadBack, Record, Timestamps};
use harness::{cache, provision, suite};
use wire::api::ApiKey;
use wire::batch::{BatchBuilder, Header, NewRecord};
use wire::compression::{self, Codec};
use wire::error::ErrorCode;
use wire::messages::{FindCoordinatorRequest, OffsetCommitRequest, OffsetCommitResponse};
use wire::messages::{OffsetFetchRequest, OffsetFetchResponse};
use wire::messages::{offset_commit_request, offset_fetch_request};

const PARTITIONS: u32 = 4;
const RECORDS: usize = 4_000;
/// Records of one batch of the new producer.
const BATCH: usize = 50;
/// No batch of the test decompresses to more, in bytes.
const CAP: usize = 16 << 20;
/// The codecs of message sets.
const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4];

/// What takes milliseconds has taken so long only where it never ends.
const HANGS: Duration = Duration::from_secs(60);

/// An old client.
struct OldClient<'a> {
    name: &'a str,
    /// The program for a verb, `write` or `read`.
    program: &'a dyn Fn(&Scene, &str) -> Command,
    partitioner: Partitioner,
    /// It knows no timestamps.
    timeless: bool,
}

/// What a program is told.
struct Scene {
    broker: Broker,
    topics: Vec<(String, Codec)>,
}

#[test]
#[ignore = "needs PyKafka from the Python package index"]
fn client_pykafka() {
    for version in ["0.8.2", "0.9.0", "0.10.0", "1.0.0"] {
        let mut scene = OldClient {
            name: &format!("pykafka-{version}"),
            program: &|scene, verb| python("pykafka", "pykafka_client.py", version, scene, verb),
            partitioner: Partitioner::Crc32,
            timeless: ["0.8.2", "0.9.0"].contains(&version),
        }
        .check();
        let mut groups = vec!["simple"];
        run(
            &mut python("pykafka", "pykafka_client.py", version, &scene, "commit"),
            &scene.broker.dir().join("commit.log"),
        );
        // Kafka 0.8 had no membership.
        if version != "0.8.2" {
            run(
                &mut python("pykafka", "pykafka_client.py", version, &scene, "share"),
                &scene.broker.dir().join("share.log"),
            );
            groups.push("managed");
        }
        scene.broker.restart();
        scene.assert_committed(&groups);
    }
}

/// Versions 0 and 1 of OffsetCommit, and version 0 of OffsetFetch, in which a partition without an offset is an error.
#[test]
fn offsets_of_the_oldest_versions() {
    let properties = [("offsets.retention.minutes", "1"), ("offsets.retention.check.interval.ms", "10")];
    let broker = Broker::start_peer(Peer::Weir, &suite!(), "oldest-offsets", &properties);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    assert_eq!(connection.create_topic("kept", PARTITIONS as i32, &[]).expect("an answer"), 0);
    let none = (-1, ErrorCode::UnknownTopicOrPartition as i16);
    commit(&mut connection, 0, "oldest", 7, -1);
    commit(&mut connection, 1, "now", 8, -1);
    assert_eq!(committed(&mut connection, "kept", "oldest"), [(7, 0), none, none, none]);
    // Version 1 says when it was committed, and this was too long ago to be kept.
    commit(&mut connection, 1, "long-ago", 9, 1);
    let deadline = Instant::now() + HANGS;
    while committed(&mut connection, "kept", "long-ago")[0] != none {
        assert!(Instant::now() < deadline, "an old offset is kept");
        std::thread::yield_now();
    }
    assert_eq!(committed(&mut connection, "kept", "now"), [(8, 0), none, none, none]);
}

#[test]
#[ignore = "needs kafka-python 1.4 from the Python package index"]
fn client_kafka_python_1() {
    for version in ["0.8.2", "0.9", "0.10", "0.11", ""] {
        kafka_python("kafka-python-1", version);
    }
}

#[test]
#[ignore = "needs kafka-python 2.0 from the Python package index"]
fn client_kafka_python_2() {
    for version in ["0.9", "0.10", ""] {
        kafka_python("kafka-python-2", version);
    }
}

#[test]
#[ignore = "needs Java, and old clients from Maven"]
fn client_java_of_earlier_releases() {
    for name in ["java-0-10", "java-2"] {
        OldClient {
            name,
            program: &|scene, verb| java(name, scene, verb),
            partitioner: Partitioner::Murmur2,
            timeless: false,
        }
        .check();
    }
}

/// librdkafka speaks the protocol of old brokers when it is told to.
#[test]
#[ignore = "needs kcat from Debian's archive"]
fn client_kcat_of_old_brokers() {
    let _machine = cache::whole_machine();
    for version in ["0.8.2", "0.9.0", "0.10.0"] {
        let name = format!("kcat-{version}");
        let mut broker = Broker::start(&suite!(), &name, &[("num.partitions", "4")]);
        let mut records = workload::text(0xca7, RECORDS);
        records.iter_mut().for_each(|record| record.headers.clear());
        let fallback = format!("broker.version.fallback={version}");
        let kcat = |broker: &Broker, arguments: &[&str]| {
            let mut command = Command::new(provision::kcat());
            command
                .args(["-b", &broker.bootstrap(), "-X", "api.version.request=false", "-X", &fallback])
                .args(arguments);
            command
        };
        for codec in CODECS {
            let arguments = ["-P", "-t", codec.name(), "-K", "\\t", "-z", codec.name(), "-X", "linger.ms=5"];
            let mut producer = Running::start(&mut kcat(&broker, &arguments), &broker.dir().join("produce.log"));
            let lines: Vec<u8> = records
                .iter()
                .flat_map(|record| {
                    [&record.key, &b"\t"[..], record.value.as_deref().unwrap_or_default(), b"\n"].concat()
                })
                .collect();
            producer.write(&lines);
            producer.finish();
        }
        broker.restart();
        for codec in CODECS {
            let mut read = Vec::new();
            for partition in 0..PARTITIONS {
                let number = partition.to_string();
                let format = "%o\\t%k\\t%s\\n";
                let arguments = ["-C", "-t", codec.name(), "-p", &number, "-o", "beginning", "-e", "-q", "-f", format];
                for line in run(&mut kcat(&broker, &arguments), &broker.dir().join("consume.log")) {
                    let mut columns = line.splitn(3, '\t').map(str::to_owned);
                    let mut next = || columns.next().unwrap_or_else(|| panic!("kcat printed {line:?}"));
                    let (offset, key, value) = (next().parse().expect("an offset"), next().into(), next().into());
                    let record = Record { timestamp_ms: 0, key, value: Some(value), headers: Vec::new() };
                    read.push(ReadBack { partition, offset, record });
                }
            }
            let mut expected = records.clone();
            expected.iter_mut().for_each(|record| record.timestamp_ms = 0);
            let what = format!("{name}, {codec}");
            workload::assert_read_back(&what, &expected, &read, Partitioner::Crc32, PARTITIONS, Timestamps::Exact);
            let stored = stored(&broker, codec.name(), codec);
            assert_eq!(stored.len(), records.len(), "{what}: as a new client reads it");
        }
    }
}

fn kafka_python(name: &str, version: &str) {
    OldClient {
        name: &format!("{name}-{version}"),
        program: &|scene, verb| python(name, "kafka_python_old.py", version, scene, verb),
        partitioner: Partitioner::Murmur2,
        timeless: ["0.8.2", "0.9"].contains(&version),
    }
    .check();
}

impl OldClient<'_> {
    /// The client writes, a new producer writes, and both read everything.
    fn check(&self) -> Scene {
        assert_eq!(Peer::from_environment(), Peer::Weir, "Kafka 4 does not serve these clients");
        let _machine = cache::whole_machine();
        let mut records = workload::binary(0x01d, RECORDS);
        records.iter_mut().for_each(|record| record.headers.clear());
        let broker = Broker::start(&suite!(), self.name, &[("auto.create.topics.enable", "false")]);
        let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
        let mut scene = Scene { broker, topics: Vec::new() };
        let mut all = Vec::new();
        for codec in CODECS {
            for author in ["old", "new"] {
                let name = format!("{author}-{codec}");
                assert_eq!(connection.create_topic(&name, PARTITIONS as i32, &[]).expect("an answer"), 0);
                all.push((name, codec));
            }
            self.write_new(&mut connection, &format!("new-{codec}"), codec, &records);
        }
        scene.topics = all.iter().filter(|(name, _)| name.starts_with("old")).cloned().collect();
        scene.write_plan(&records);
        run(&mut (self.program)(&scene, "write"), &scene.broker.dir().join("write.log"));

        scene.broker.restart();
        scene.topics = all;
        scene.write_plan(&records);
        run(&mut (self.program)(&scene, "read"), &scene.broker.dir().join("read.log"));
        let mut timeless = records.clone();
        timeless.iter_mut().for_each(|record| record.timestamp_ms = -1);
        let seen = if self.timeless { &timeless } else { &records };
        for (topic, codec) in &scene.topics {
            let what = format!("{}, topic {topic}", self.name);
            let file = scene.broker.dir().join(format!("{topic}.tsv"));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let read = workload::parse_read_back(&text);
            workload::assert_read_back(&what, seen, &read, self.partitioner, PARTITIONS, Timestamps::Exact);
            let written = if topic.starts_with("old") { seen } else { &records };
            let stored = stored(&scene.broker, topic, *codec);
            let what = format!("{what}, as a new client reads it");
            workload::assert_read_back(&what, written, &stored, self.partitioner, PARTITIONS, Timestamps::Exact);
        }
        scene
    }

    /// Writes what an old client cannot write: batches with headers.
    fn write_new(&self, connection: &mut Connection, topic: &str, codec: Codec, records: &[Record]) {
        for partition in 0..PARTITIONS {
            let own = |record: &&Record| self.partitioner.partition(&record.key, PARTITIONS) == partition;
            let own: Vec<&Record> = records.iter().filter(own).collect();
            for part in own.chunks(BATCH) {
                let mut builder = BatchBuilder::new(codec);
                for record in part {
                    let headers = [Header { key: b"new", value: Some(b"header") }];
                    let record = NewRecord {
                        timestamp: record.timestamp_ms,
                        key: Some(&record.key),
                        value: record.value.as_deref(),
                        headers: &headers,
                    };
                    builder.push(&record).expect("a small record");
                }
                let mut batch = Vec::new();
                builder.finish(&mut batch).expect("a small batch");
                let produced = connection.produce(topic, partition as i32, &batch).expect("an answer");
                assert_eq!(produced.error_code, 0, "{topic}");
            }
        }
    }
}

impl Scene {
    /// The groups have committed the ends of the first topic's partitions.
    fn assert_committed(&self, groups: &[&str]) {
        let mut connection = Connection::open(&self.broker.bootstrap()).expect("a connection");
        let topic = self.topics[0].0.as_str();
        let end = |connection: &mut Connection, index| connection.end_offset(topic, index).expect("an answer");
        let ends: Vec<i64> = (0..PARTITIONS as i32).map(|index| end(&mut connection, index)).collect();
        for group in groups {
            let expected: Vec<(i64, i16)> = ends.iter().map(|end| (*end, 0)).collect();
            assert_eq!(committed(&mut connection, topic, group), expected, "{group}");
        }
    }

    fn write_plan(&self, records: &[Record]) {
        let dir = self.broker.dir();
        let topics: Vec<String> = self
            .topics
            .iter()
            .map(|(name, codec)| format!("{{\"name\": {name:?}, \"codec\": {:?}}}", codec.name()))
            .collect();
        let plan = format!(
            "{{\"bootstrap\": {:?}, \"partitions\": {PARTITIONS}, \"half\": {}, \"workload\": {:?}, \"out\": {:?}, \
             \"missing_topic\": null, \"large_bytes\": 0, \"topics\": [{}]}}\n",
            self.broker.bootstrap(),
            records.len() / 2,
            dir.join(WORKLOAD_FILE).display().to_string(),
            dir.display().to_string(),
            topics.join(", ")
        );
        for (name, text) in [(PLAN_FILE, plan), (WORKLOAD_FILE, workload::to_lines(records))] {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

/// Whether a client that compresses with `codec` would have gained anything. Encoders of one codec differ by a few bytes.
fn shrinks(codec: Codec, body: &[u8]) -> bool {
    const ENCODERS_DIFFER: usize = 32;
    let mut compressed = Vec::new();
    compression::compress(codec, body, &mut compressed).expect("a codec that is served");
    compressed.len() + ENCODERS_DIFFER < body.len()
}

const PLAN_FILE: &str = "plan.json";
const WORKLOAD_FILE: &str = "workload.tsv";

/// Commits an offset of partition 0 as a client without a group does, as soon as the group has a coordinator.
fn commit(connection: &mut Connection, version: i16, group: &str, offset: i64, commit_timestamp: i64) {
    let partition = offset_commit_request::OffsetCommitRequestPartition {
        committed_offset: offset,
        commit_timestamp,
        committed_metadata: Some("oldest"),
        ..Default::default()
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic {
        name: "kept",
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest { group_id: group, topics: vec![topic], ..Default::default() };
    loop {
        let find = FindCoordinatorRequest { key: group, ..Default::default() };
        connection.call(ApiKey::FindCoordinator, 0, &find).expect("an answer");
        let body = connection.call(ApiKey::OffsetCommit, version, &request).expect("an answer");
        let answer: OffsetCommitResponse<'_> = raw::decode(&body, version).expect("a response");
        match ErrorCode::from_code(answer.topics[0].partitions[0].error_code) {
            Some(ErrorCode::None) => return,
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress) => std::thread::yield_now(),
            error => panic!("{group}: {error:?}"),
        }
    }
}

/// The offset and the error of each partition, by OffsetFetch of version 0.
fn committed(connection: &mut Connection, topic: &str, group: &str) -> Vec<(i64, i16)> {
    let partition_indexes = (0..PARTITIONS as i32).collect();
    let topics = vec![offset_fetch_request::OffsetFetchRequestTopic { name: topic, partition_indexes }];
    let request = OffsetFetchRequest { group_id: group, topics: Some(topics), ..Default::default() };
    let body = connection.call(ApiKey::OffsetFetch, 0, &request).expect("an answer");
    let answer: OffsetFetchResponse<'_> = raw::decode(&body, 0).expect("a response");
    answer.topics[0].partitions.iter().map(|it| (it.committed_offset, it.error_code)).collect()
}

/// What is in the log, which must be batches compressed with `codec`, or not at all where that would not shrink them.
fn stored(broker: &Broker, topic: &str, codec: Codec) -> Vec<ReadBack> {
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    let mut read: Vec<ReadBack> = Vec::new();
    for partition in 0..PARTITIONS {
        let end = connection.end_offset(topic, partition as i32).expect("an answer");
        let mut next = 0;
        while next < end {
            let fetched = connection.fetch(topic, partition as i32, next).expect("an answer");
            for batch in raw::batches(&fetched.records) {
                let batch = batch.unwrap_or_else(|error| panic!("{topic}: {error}"));
                let mut plain = Vec::new();
                let body = batch.decompress(CAP, &mut plain).expect("records that can be decompressed");
                if batch.codec() != Ok(codec) {
                    assert_eq!(batch.codec(), Ok(Codec::None), "{topic}");
                    assert!(!shrinks(codec, body), "{topic}: {} bytes would shrink", body.len());
                }
                for record in batch.records_in(body) {
                    let record = record.expect("a record");
                    let record_of = Record {
                        timestamp_ms: record.timestamp,
                        key: record.key.unwrap_or_default().to_vec(),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: Vec::new(),
                    };
                    read.push(ReadBack { partition, offset: record.offset, record: record_of });
                    next = record.offset + 1;
                }
            }
        }
    }
    read
}

fn python(client: &str, script: &str, version: &str, scene: &Scene, verb: &str) -> Command {
    let mut command = Command::new(provision::python(client));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/python").join(script);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("WEIR_BROKER_VERSION", version);
    command.arg(path).arg(verb).arg(scene.broker.dir().join(PLAN_FILE));
    command
}

fn java(client: &str, scene: &Scene, verb: &str) -> Command {
    let mut command = Command::new("java");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/java/OldJavaClient.java");
    command.args(["-Xmx512m", "-cp", &provision::maven(client)]).arg(source).arg(verb).arg(scene.broker.bootstrap());
    command.arg(scene.broker.dir().join(WORKLOAD_FILE)).arg(scene.broker.dir()).arg(PARTITIONS.to_string());
    command.args(scene.topics.iter().map(|(name, codec)| format!("{name}={codec}")));
    command
}
