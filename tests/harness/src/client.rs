//! The scenario that every client with an API goes through: create, write one half, restart the broker, write the other
//! half with the same producers, restart again, read back; then the refusals.
//!
//! A client is a program `VERB PLAN` where the verb is `create`, `write`, `read` or `refuse` and the plan a JSON file. Its
//! records come from and go to files in the notation of [`crate::workload`]. `write` prints `PAUSED` when the first half
//! is acknowledged and reads a line before it goes on. `create` and `refuse` print the errors that the client saw as
//! `existing=…`, `missing=…`, `large=…`.

use std::collections::BTreeSet;
use std::process::Command;

use crate::broker::Broker;
use crate::partitioner::Partitioner;
use crate::process::{Running, run};
use crate::raw::{self, Connection};
use crate::workload::{self, Timestamps};
use crate::{Suite, cache};

/// A client with an API.
pub struct Client<'a> {
    /// Its name in directories and messages.
    pub name: &'a str,
    /// The program, which takes the verb and the plan as its last arguments.
    pub program: &'a dyn Fn() -> Command,
    /// The codecs that it can write, `none` included.
    pub codecs: &'a [&'a str],
    /// Its rule for the partition of a key.
    pub partitioner: Partitioner,
    /// What it calls Kafka's TOPIC_ALREADY_EXISTS.
    pub existing: &'a str,
    /// What it makes of a topic that is not there and is not created.
    pub missing: &'a str,
    /// What it calls Kafka's MESSAGE_TOO_LARGE.
    pub large: &'a str,
}

const PARTITIONS: u32 = 4;
const RECORDS: usize = 10_000;
/// Twice what a broker takes by default (`message.max.bytes`, 1 MiB and 12 bytes).
const LARGE_BYTES: usize = 2 << 20;
const MISSING_TOPIC: &str = "never-created";

impl Client<'_> {
    /// Runs the scenario.
    ///
    /// # Panics
    /// Wherever the client sees something else than with Apache Kafka.
    pub fn check(&self, suite: &Suite) {
        let _machine = cache::whole_machine();
        let mut broker = Broker::start(suite, self.name, &[("auto.create.topics.enable", "false")]);
        let records = workload::binary(0x5ea1, RECORDS);
        // Each codec with an idempotent producer, and once a producer without acknowledgements of replicas.
        let mut topics: Vec<Topic> = self
            .codecs
            .iter()
            .map(|codec| Topic { name: format!("idempotent-{codec}"), codec, idempotent: true })
            .collect();
        topics.push(Topic { name: "leader-only".to_owned(), codec: "none", idempotent: false });
        let plan = Plan { broker: &broker, topics: &topics, records: &records };
        plan.write_files();

        let answers = run(&mut self.verb("create", &broker), &broker.dir().join("create.log"));
        assert_eq!(answers, [format!("existing={}", self.existing)], "{}: creating a topic twice", self.name);

        let mut writer = Running::start(&mut self.verb("write", &broker), &broker.dir().join("write.log"));
        writer.wait_for("PAUSED");
        broker.restart();
        writer.write(b"\n");
        writer.finish();

        broker.restart();
        run(&mut self.verb("read", &broker), &broker.dir().join("read.log"));
        for topic in &topics {
            let file = broker.dir().join(format!("{}.tsv", topic.name));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let read = workload::parse_read_back(&text);
            let what = format!("{}, topic {}", self.name, topic.name);
            workload::assert_read_back(&what, &records, &read, self.partitioner, PARTITIONS, Timestamps::Exact);
            assert_stored_as(topic, &broker, &what);
        }

        let answers = run(&mut self.verb("refuse", &broker), &broker.dir().join("refuse.log"));
        let expected = [format!("missing={}", self.missing), format!("large={}", self.large)];
        assert_eq!(answers, expected, "{}: errors of the client", self.name);
    }

    fn verb(&self, verb: &str, broker: &Broker) -> Command {
        let mut command = (self.program)();
        command.arg(verb).arg(broker.dir().join(PLAN_FILE));
        command
    }
}

/// Checks that the client did what it was told: some clients drop compression or idempotence without a word when the
/// broker's answers make them believe that it knows neither.
fn assert_stored_as(topic: &Topic<'_>, broker: &Broker, what: &str) {
    let connection = Connection::open(&broker.bootstrap());
    let mut connection = connection.unwrap_or_else(|error| panic!("{what}: a connection: {error}"));
    let mut codecs = BTreeSet::new();
    for partition in 0..PARTITIONS as i32 {
        let fetched = connection.fetch(&topic.name, partition, 0);
        let fetched = fetched.unwrap_or_else(|error| panic!("{what}, partition {partition}: {error}"));
        for batch in raw::batches(&fetched.records) {
            let batch = batch.unwrap_or_else(|error| panic!("{what}, partition {partition}: {error}"));
            codecs.insert(batch.codec().map(|codec| format!("{codec:?}").to_lowercase()).unwrap_or_default());
            let idempotent = batch.producer_id() >= 0;
            assert_eq!(idempotent, topic.idempotent, "{what}: the producer's id is {}", batch.producer_id());
        }
    }
    // A batch that would not shrink may stay as it is.
    assert!(codecs.contains(topic.codec), "{what}: stored with {codecs:?}");
    codecs.remove(topic.codec);
    codecs.remove("none");
    assert!(codecs.is_empty(), "{what}: stored with {codecs:?} as well");
}

const PLAN_FILE: &str = "plan.json";
const WORKLOAD_FILE: &str = "workload.tsv";

struct Topic<'a> {
    name: String,
    codec: &'a str,
    idempotent: bool,
}

struct Plan<'a> {
    broker: &'a Broker,
    topics: &'a [Topic<'a>],
    records: &'a [workload::Record],
}

impl Plan<'_> {
    fn write_files(&self) {
        let dir = self.broker.dir();
        let topics: Vec<String> = self
            .topics
            .iter()
            .map(|topic| {
                let Topic { name, codec, idempotent } = topic;
                format!("{{\"name\": {name:?}, \"codec\": {codec:?}, \"idempotent\": {idempotent}}}")
            })
            .collect();
        let plan = format!(
            "{{\"bootstrap\": {:?}, \"partitions\": {PARTITIONS}, \"half\": {}, \"workload\": {:?}, \"out\": {:?}, \
             \"missing_topic\": {MISSING_TOPIC:?}, \"large_bytes\": {LARGE_BYTES}, \"topics\": [{}]}}\n",
            self.broker.bootstrap(),
            self.records.len() / 2,
            dir.join(WORKLOAD_FILE).display().to_string(),
            dir.display().to_string(),
            topics.join(", ")
        );
        for (name, text) in [(PLAN_FILE, plan), (WORKLOAD_FILE, workload::to_lines(self.records))] {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}
