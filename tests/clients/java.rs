//! Apache Kafka's Java client and its command line tools, of the release that Weir is measured against.

use std::path::{Path, PathBuf};
use std::process::Command;

use compare::kafka::Jars;
use harness::broker::{Broker, Peer};
use harness::client::Client;
use harness::partitioner::Partitioner;
use harness::process::{Running, run};
use harness::workload::{self, ReadBack, Record, Timestamps};
use harness::{cache, provision, suite};

const PARTITIONS: u32 = 4;

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java() {
    Client {
        name: "java",
        program: &|| {
            let jars = provision::kafka();
            let mut command = Command::new(jars.java());
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/java/JavaClient.java");
            command.args(["-Xmx512m", "-cp", &jars.class_path()]).arg(source);
            command
        },
        codecs: &["none", "gzip", "snappy", "lz4", "zstd"],
        partitioner: Partitioner::Murmur2,
        existing: "TopicExistsException",
        missing: "TimeoutException",
        large: "RecordTooLargeException",
    }
    .check(&suite!());
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_console() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "java-console", &[("auto.create.topics.enable", "false")]);
    let tools = Tools::new(&broker);
    let records = workload::text(0x7a7a, 10_000);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        tools.run(TOPICS, &["--create", "--topic", codec, "--partitions", "4"]);
    }
    for half in [&records[..5_000], &records[5_000..]] {
        for codec in codecs {
            tools.produce(codec, half);
        }
        broker.restart();
    }
    for codec in codecs {
        let ends = tools.offsets(codec, "latest");
        let read: Vec<ReadBack> =
            ends.iter().flat_map(|(partition, end)| tools.consume(codec, *partition, *end)).collect();
        let what = format!("console tools, {codec}");
        workload::assert_read_back(&what, &records, &read, Partitioner::Murmur2, PARTITIONS, Timestamps::Clock);
        assert_eq!(tools.offsets(codec, "earliest"), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    }

    let errors = tools.produce_errors("never-created", "k\tv\n", "max.block.ms=3000");
    assert!(errors.contains("Topic never-created not present in metadata after 3000 ms"), "{errors}");
    let errors = tools.produce_errors("none", &format!("k\t{}\n", "x".repeat(2 << 20)), "max.request.size=8388608");
    assert!(errors.contains("RecordTooLargeException"), "{errors}");
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_topics_and_configs() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "java-topics", &[("auto.create.topics.enable", "false")]);
    let tools = Tools::new(&broker);

    let created =
        tools.run(TOPICS, &["--create", "--topic", "one", "--partitions", "4", "--config", "retention.ms=86400000"]);
    assert_eq!(created, ["Created topic one."]);
    tools.run(TOPICS, &["--create", "--topic", "two", "--partitions", "1"]);
    for (arguments, reason) in [
        (&["--create", "--topic", "one", "--partitions", "1"][..], "Topic 'one' already exists."),
        (&["--create", "--topic", "a/b", "--partitions", "1"], "InvalidTopicException"),
        (
            &["--create", "--topic", "far", "--partitions", "1", "--replication-factor", "2"],
            "InvalidReplicationFactorException",
        ),
        (
            &["--create", "--topic", "odd", "--partitions", "1", "--config", "retention.ms=soon"],
            "Not a number of type LONG",
        ),
        (&["--create", "--topic", "odd", "--partitions", "1", "--config", "no.such=1"], "no.such"),
        (&["--alter", "--topic", "one", "--partitions", "2"], "InvalidPartitionsException"),
        (&["--describe", "--topic", "missing"], "Topic 'missing' does not exist as expected"),
        (&["--delete", "--topic", "missing"], "Topic 'missing' does not exist as expected"),
    ] {
        let said = tools.refused(TOPICS, arguments);
        assert!(said.contains(reason), "kafka-topics {arguments:?} said\n{said}");
    }
    tools.run(TOPICS, &["--alter", "--topic", "one", "--partitions", "6"]);
    assert_eq!(tools.run(TOPICS, &["--list"]), ["one", "two"]);
    broker.restart();
    let described = tools.run(TOPICS, &["--describe", "--topic", "one"]);
    let summary = &described[0];
    assert!(summary.contains("PartitionCount: 6\tReplicationFactor: 1"), "{summary}");
    assert!(summary.contains("retention.ms=86400000"), "{summary}");
    assert_eq!(described.len(), 7, "{described:?}");
    for (partition, line) in described[1..].iter().enumerate() {
        let expected = format!("\tTopic: one\tPartition: {partition}\tLeader: 1\tReplicas: 1\tIsr: 1");
        assert!(line.starts_with(&expected), "{line:?}");
    }

    let entity = ["--entity-type", "topics", "--entity-name", "one"];
    let configs = |arguments: &[&str]| tools.run(CONFIGS, &[&entity, arguments].concat());
    configs(&["--alter", "--add-config", "segment.bytes=1048576,cleanup.policy=[compact,delete],flush.messages=1"]);
    configs(&["--alter", "--delete-config", "retention.ms"]);
    broker.restart();
    let described = configs(&["--describe"]).join("\n");
    for set in ["segment.bytes=1048576", "cleanup.policy=compact,delete", "flush.messages=1"] {
        assert!(described.contains(set), "{described}");
    }
    assert!(!described.contains("retention.ms="), "{described}");
    let all = configs(&["--describe", "--all"]).join("\n");
    for default in [
        "retention.ms=604800000 ",
        "max.message.bytes=1048588 ",
        "message.timestamp.type=CreateTime ",
        "min.insync.replicas=1 ",
    ] {
        assert!(all.contains(default), "{default} in\n{all}");
    }
    for (arguments, reason) in [
        (["--alter", "--add-config", "segment.bytes=many"], "InvalidConfigurationException"),
        (["--alter", "--add-config", "no.such.setting=1"], "InvalidConfigurationException"),
    ] {
        let said = tools.refused(CONFIGS, &[&entity[..], &arguments].concat());
        assert!(said.contains(reason), "kafka-configs {arguments:?} said\n{said}");
    }
    // Kafka takes the removal of what was never there.
    configs(&["--alter", "--delete-config", "no.such.setting"]);
    let broker_configs =
        tools.run(CONFIGS, &["--entity-type", "brokers", "--entity-name", "1", "--describe", "--all"]).join("\n");
    assert!(broker_configs.contains("auto.create.topics.enable=false "), "{broker_configs}");

    tools.run(TOPICS, &["--delete", "--topic", "one"]);
    assert_eq!(tools.run(TOPICS, &["--list"]), ["two"]);
    broker.restart();
    assert_eq!(tools.run(TOPICS, &["--list"]), ["two"]);
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_measuring_and_inspecting() {
    let _machine = cache::whole_machine();
    let broker = Broker::start(&suite!(), "java-perf", &[]);
    let tools = Tools::new(&broker);
    tools.run(TOPICS, &["--create", "--topic", "perf", "--partitions", "4"]);
    let arguments = ["--topic", "perf", "--num-records", "50000", "--record-size", "100", "--throughput", "-1"];
    let report = tools.run("org.apache.kafka.tools.ProducerPerformance", &arguments);
    assert!(report.last().is_some_and(|line| line.starts_with("50000 records sent, ")), "{report:?}");
    let ends = tools.offsets("perf", "latest");
    assert_eq!(ends.iter().map(|(_, end)| end).sum::<i64>(), 50_000, "{ends:?}");

    let before = tools.dir.join("delete.json");
    let (partition, end) = ends[1];
    let position = end / 2;
    let request = format!(
        "{{\"version\": 1, \"partitions\": [{{\"topic\": \"perf\", \"partition\": {partition}, \"offset\": {position}}}]}}"
    );
    std::fs::write(&before, request).expect("a file for the test");
    let file = before.display().to_string();
    let deleted = tools.run("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", &file]).join("\n");
    assert!(deleted.contains(&format!("partition: perf-{partition}\tlow_watermark: {position}")), "{deleted}");
    assert_eq!(tools.offsets("perf", "earliest")[1], (partition, position));

    let dirs = tools.run("org.apache.kafka.tools.LogDirsCommand", &["--describe", "--topic-list", "perf"]).join("\n");
    for partition in 0..4 {
        assert!(dirs.contains(&format!("\"partition\":\"perf-{partition}\"")), "{dirs}");
    }
    let versions = tools.run("org.apache.kafka.tools.BrokerApiVersionsCommand", &[]).join("\n");
    // Weir serves older clients as well.
    let (fetch, create_topics) = match Peer::from_environment() {
        Peer::Weir => ("Fetch(1): 0 to 18", "CreateTopics(19): 0 to 7"),
        Peer::Kafka => ("Fetch(1): 4 to 18", "CreateTopics(19): 2 to 7"),
    };
    for api in ["Produce(0): ", fetch, create_topics, "DescribeTopicPartitions(75): 0"] {
        assert!(versions.contains(api), "{api} in\n{versions}");
    }
    let arguments = ["cluster-id", "--bootstrap-server", &tools.bootstrap];
    let cluster = tools.run_plain("org.apache.kafka.tools.ClusterTool", &arguments).join("\n");
    assert!(cluster.contains("Cluster ID: "), "{cluster}");
}

/// A rolled segment is Kafka's own file format, byte for byte, so Kafka's tool reads it and finds nothing wrong.
#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_dump_log() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "java-dump-log", &[]);
    let tools = Tools::new(&broker);
    let create = ["--create", "--topic", "rolled", "--partitions", "1", "--config", "segment.bytes=1048576"];
    tools.run(TOPICS, &create);
    let mut records = workload::text(0xd09, 20_000);
    for record in &mut records {
        record.headers.clear();
    }
    for (codec, part) in ["none", "zstd"].iter().zip(records.chunks(10_000)) {
        tools.produce_with("rolled", codec, part);
    }
    // The broker has stopped, so what it holds back of full segments is written.
    broker.restart();

    let segments = segments_of(&broker.data_dir());
    assert!(segments.len() > 1, "no segment was rolled: {segments:?}");
    let (_, rolled) = segments.split_last().expect("at least two");
    let mut offset = 0;
    for segment in rolled {
        let file = segment.display().to_string();
        let lines = tools.run_plain(
            "org.apache.kafka.tools.DumpLogSegments",
            &["--deep-iteration", "--print-data-log", "--files", &file],
        );
        for line in &lines {
            if line.starts_with("baseOffset: ") {
                assert!(line.contains(" isvalid: true"), "{line}");
                continue;
            }
            let Some(record) = line.strip_prefix("| offset: ") else { continue };
            let expected = &records[offset];
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (key, value) = (text(&expected.key), text(expected.value.as_deref().unwrap_or_default()));
            assert!(record.starts_with(&format!("{offset} CreateTime: ")), "{record}, expected offset {offset}");
            assert!(record.ends_with(&format!(" key: {key} payload: {value}")), "{record}, expected {key} {value}");
            offset += 1;
        }
        assert!(
            !lines.iter().any(|line| line.contains("Found ") || line.contains("rror")),
            "{file}: {:?}",
            lines.last()
        );
    }
    assert!(offset > 5_000, "{offset} records in {rolled:?}");
}

/// The `.log` files below `dir` that hold the one topic which has more than one, in order of their base offsets.
fn segments_of(dir: &Path) -> Vec<PathBuf> {
    let mut longest = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap_or_else(|error| panic!("{}: {error}", dir.display())).path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                segments.push(path);
            }
        }
        if segments.len() > longest.len() {
            longest = segments;
        }
    }
    longest.sort();
    longest
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";

/// Kafka's tools, told where the broker is.
struct Tools {
    jars: Jars,
    bootstrap: String,
    dir: PathBuf,
}

impl Tools {
    fn new(broker: &Broker) -> Tools {
        Tools { jars: provision::kafka(), bootstrap: broker.bootstrap(), dir: broker.dir().to_owned() }
    }

    /// What a tool prints; it must succeed.
    fn run(&self, class: &str, arguments: &[&str]) -> Vec<String> {
        self.run_plain(class, &[&["--bootstrap-server", &self.bootstrap], arguments].concat())
    }

    fn run_plain(&self, class: &str, arguments: &[&str]) -> Vec<String> {
        let output = self.jars.run_tool(class, arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        output.lines().map(str::to_owned).collect()
    }

    /// What a tool says when it fails, which it must.
    fn refused(&self, class: &str, arguments: &[&str]) -> String {
        let mut command = self.jars.command(class);
        let output =
            command.args(["--bootstrap-server", &self.bootstrap]).args(arguments).output().expect("java starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success(), "{class} {arguments:?} succeeded\n{said}");
        said
    }

    /// Writes to a topic that has the name of the codec.
    fn produce(&self, codec: &str, records: &[Record]) {
        self.produce_with(codec, codec, records);
    }

    fn produce_with(&self, topic: &str, codec: &str, records: &[Record]) {
        let log = self.dir.join(format!("produce-{topic}.log"));
        let mut producer = Running::start(&mut self.producer(topic, &["--compression-codec", codec]), &log);
        producer.write(&lines(records));
        producer.finish();
        // The console producer says what it could not send, and ends with success all the same.
        let errors = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(!errors.contains("ERROR"), "console producer, {codec}:\n{errors}");
    }

    /// What the console producer says of one line that it cannot send, with a setting under which it is told so.
    fn produce_errors(&self, topic: &str, line: &str, setting: &str) -> String {
        let log = self.dir.join("refuse.log");
        let mut command = self.producer(topic, &["--command-property", setting]);
        let file = self.dir.join("line.txt");
        let without_headers = format!("-\t{line}");
        std::fs::write(&file, without_headers).expect("a file for the test");
        let stdin = std::fs::File::open(&file).expect("a file for the test");
        let output = command.stdin(stdin).output().expect("java starts");
        std::fs::write(log, &output.stderr).expect("a file for the test");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn producer(&self, topic: &str, arguments: &[&str]) -> Command {
        let mut command = self.jars.command("org.apache.kafka.tools.ConsoleProducer");
        command.args(["--bootstrap-server", &self.bootstrap, "--topic", topic]).args(arguments);
        for property in ["parse.key=true", "parse.headers=true", "null.marker=-"] {
            command.args(["--reader-property", property]);
        }
        command
    }

    fn consume(&self, topic: &str, partition: u32, end: i64) -> Vec<ReadBack> {
        let (partition, end) = (partition.to_string(), end.to_string());
        let mut arguments =
            vec!["--topic", topic, "--partition", &partition, "--offset", "earliest", "--max-messages", &end];
        for what in ["timestamp", "partition", "offset", "headers", "key"] {
            arguments.push("--formatter-property");
            arguments.push(match what {
                "timestamp" => "print.timestamp=true",
                "partition" => "print.partition=true",
                "offset" => "print.offset=true",
                "headers" => "print.headers=true",
                _ => "print.key=true",
            });
        }
        let lines = self.run("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments);
        lines
            .iter()
            .map(|line| parse(line).unwrap_or_else(|| panic!("the console consumer printed {line:?}")))
            .collect()
    }

    /// Partitions and offsets that kafka-get-offsets prints.
    fn offsets(&self, topic: &str, time: &str) -> Vec<(u32, i64)> {
        let lines = self.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", topic, "--time", time]);
        let parse = |line: &str| {
            let mut parts = line.split(':').skip(1);
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        };
        lines.iter().map(|line| parse(line).unwrap_or_else(|| panic!("kafka-get-offsets printed {line:?}"))).collect()
    }
}

/// `headers TAB key TAB value` for each record, as the console producer reads them.
fn lines(records: &[Record]) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        let headers: Vec<String> =
            record.headers.iter().map(|(name, value)| format!("{name}:{}", String::from_utf8_lossy(value))).collect();
        let headers = if headers.is_empty() { "-".to_owned() } else { headers.join(",") };
        for part in [headers.as_bytes(), b"\t", &record.key, b"\t", record.value.as_deref().unwrap_or_default(), b"\n"]
        {
            lines.extend_from_slice(part);
        }
    }
    lines
}

/// A line such as `CreateTime:1795239369737 TAB Partition:0 TAB Offset:7 TAB h0:abc,h1:def TAB key TAB value`.
fn parse(line: &str) -> Option<ReadBack> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [timestamp_ms, partition, offset, headers, key, value] = columns[..] else { return None };
    let headers = match headers {
        "NO_HEADERS" => Vec::new(),
        headers => headers
            .split(',')
            .map(|header| header.split_once(':').map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())))
            .collect::<Option<_>>()?,
    };
    let record = Record {
        timestamp_ms: timestamp_ms.strip_prefix("CreateTime:")?.parse().ok()?,
        key: key.as_bytes().to_vec(),
        value: Some(value.as_bytes().to_vec()),
        headers,
    };
    Some(ReadBack {
        partition: partition.strip_prefix("Partition:")?.parse().ok()?,
        offset: offset.strip_prefix("Offset:")?.parse().ok()?,
        record,
    })
}

/// Groups of the consumer protocol: shared, taken over, static, by regular expression, and changed from the classic
/// protocol and back. In between the broker is killed: what was committed stays.
#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_consumer_groups() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "java-consumer-groups", &[("auto.create.topics.enable", "false")]);
    let jars = provision::kafka();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/java/ConsumerGroups.java");
    for part in ["share", "after-restart", "regex", "static", "migrate"] {
        if part == "after-restart" {
            broker.kill();
            broker.resume();
        }
        let mut command = Command::new(jars.java());
        command.args(["-Xmx512m", "-cp", &jars.class_path()]).arg(&source).arg(broker.bootstrap()).arg(part);
        let said = run(&mut command, &broker.dir().join(format!("{part}.log")));
        assert_eq!(said.last(), Some(&format!("done {part}")), "{said:?}");
    }
}
