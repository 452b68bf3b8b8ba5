//! Apache Kafka's command line tools, told where the broker is.

use std::path::PathBuf;
use std::process::Command;

use compare::kafka::Jars;
use harness::broker::Broker;
use harness::process::{Running, run};
use harness::provision;

/// `kafka-topics.sh`.
pub(crate) const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
/// `kafka-consumer-groups.sh`.
pub(crate) const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// `kafka-console-producer.sh`.
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
/// `kafka-console-consumer.sh`.
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// The tools.
pub(crate) struct Tools {
    jars: Jars,
    bootstrap: String,
    dir: PathBuf,
}

impl Tools {
    pub(crate) fn new(broker: &Broker) -> Tools {
        Tools { jars: provision::kafka(), bootstrap: broker.bootstrap(), dir: broker.dir().to_owned() }
    }

    /// What a tool prints; it must succeed, and in time: a consumer would wait forever for a record that is lost.
    pub(crate) fn run(&self, class: &str, arguments: &[&str]) -> Vec<String> {
        run(&mut self.command(class, arguments), &self.dir.join("tool.log"))
    }

    /// What a tool prints on both streams, however it ends: some end with success after they have said what is wrong.
    pub(crate) fn said(&self, class: &str, arguments: &[&str]) -> String {
        let output = self.command(class, arguments).output().expect("java starts");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Creates a topic.
    pub(crate) fn create(&self, topic: &str, partitions: u32) {
        let created = self.run(
            TOPICS,
            &["--create", "--topic", topic, "--partitions", &partitions.to_string(), "--replication-factor", "1"],
        );
        assert_eq!(created, [format!("Created topic {topic}.")]);
    }

    /// Writes lines with the console producer, each a record.
    pub(crate) fn produce<'a>(&self, topic: &str, lines: impl IntoIterator<Item = &'a str>) {
        let log = self.dir.join(format!("produce-{topic}.log"));
        let mut producer = Running::start(&mut self.command(PRODUCER, &["--topic", topic]), &log);
        producer.write(lines.into_iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes());
        producer.finish();
        // The console producer says what it could not send, and ends with success all the same.
        let errors = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(!errors.contains("ERROR"), "the console producer, {topic}:\n{errors}");
    }

    /// Reads `count` records with the console consumer.
    pub(crate) fn consume(&self, topic: &str, count: usize, arguments: &[&str]) -> Vec<String> {
        let count = count.to_string();
        self.run(CONSUMER, &[&["--topic", topic, "--max-messages", &count], arguments].concat())
    }

    /// What the console consumer reads until nothing comes for `timeout_ms`.
    pub(crate) fn consume_all(&self, topic: &str, timeout_ms: u32, arguments: &[&str]) -> Vec<String> {
        let timeout_ms = timeout_ms.to_string();
        self.run(CONSUMER, &[&["--topic", topic, "--timeout-ms", &timeout_ms], arguments].concat())
    }

    /// Starts a console consumer that reads until it is stopped.
    pub(crate) fn start_consumer(&self, topic: &str, arguments: &[&str]) -> Running {
        let log = self.dir.join(format!("consume-{topic}.log"));
        Running::start(&mut self.command(CONSUMER, &[&["--topic", topic], arguments].concat()), &log)
    }

    fn command(&self, class: &str, arguments: &[&str]) -> Command {
        let mut command = self.jars.command(class);
        command.args(["--bootstrap-server", &self.bootstrap]).args(arguments);
        command
    }
}

/// The rows of a table such as `kafka-consumer-groups --describe` prints, as columns, without blank lines and the row
/// that begins with `header`.
pub(crate) fn rows(lines: &[String], header: &str) -> Vec<Vec<String>> {
    let rows = lines.iter().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>());
    rows.filter(|row| row.first().is_some_and(|first| first != header)).collect()
}
