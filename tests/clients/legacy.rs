//! Clients of Kafka 0.8 to 2.8, and what they and new ones read of each other. Kafka 4 serves most of them no more.

use std::path::Path;
use std::process::Command;

use harness::broker::{Broker, Peer};
use harness::partitioner::Partitioner;
use harness::process::{Running, run};
use harness::raw::{self, Connection};
use harness::workload::{self, ReadBack, Record, Timestamps};
use harness::{cache, provision, suite};
use wire::batch::{BatchBuilder, Header, NewRecord};
use wire::compression::{self, Codec};

const PARTITIONS: u32 = 4;
const RECORDS: usize = 4_000;
/// Records of one batch of the new producer.
const BATCH: usize = 50;
/// No batch of the test decompresses to more, in bytes.
const CAP: usize = 16 << 20;
/// The codecs of message sets.
const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4];

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
        OldClient {
            name: &format!("pykafka-{version}"),
            program: &|scene, verb| python("pykafka", "pykafka_client.py", version, scene, verb),
            partitioner: Partitioner::Crc32,
            timeless: ["0.8.2", "0.9.0"].contains(&version),
        }
        .check();
    }
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
    fn check(&self) {
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
    fn write_plan(&self, records: &[Record]) {
        let dir = self.broker.dir();
        let topics: Vec<String> = self
            .topics
            .iter()
            .map(|(name, codec)| format!("{{\"name\": {name:?}, \"codec\": {:?}}}", codec.name()))
            .collect();
        let plan = format!(
            "{{\"bootstrap\": {:?}, \"partitions\": {PARTITIONS}, \"half\": 0, \"workload\": {:?}, \"out\": {:?}, \
             \"missing_topic\": null, \"large_bytes\": 0, \"topics\": [{}]}}\n",
            self.broker.bootstrap(),
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
