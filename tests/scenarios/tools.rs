//! Apache Kafka's command line tools, told where the broker is.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use compare::kafka::Jars;
use harness::broker::Broker;
use harness::process::{Output, Running, run};
use harness::provision;
use harness::wait::Wait;

use crate::group::produce;

/// `kafka-topics.sh`.
pub(crate) const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
/// `kafka-consumer-groups.sh`.
pub(crate) const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// `kafka-console-producer.sh`.
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
/// `kafka-console-consumer.sh`.
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// How long one look at a consumer waits for its next line.
const POLL: Duration = Duration::from_millis(20);

/// The tools.
pub(crate) struct Tools {
    jars: Jars,
    bootstrap: String,
    dir: PathBuf,
    /// How often a topic was read to its end.
    ends: Cell<u32>,
}

impl Tools {
    pub(crate) fn new(broker: &Broker) -> Tools {
        Tools {
            jars: provision::kafka(),
            bootstrap: broker.bootstrap(),
            dir: broker.dir().to_owned(),
            ends: Cell::new(0),
        }
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

    /// All that is in a topic, in each partition's order. What was there when this was called is followed by a record in each
    /// partition that says so, and these are waited for: how long a consumer takes to its first record says nothing.
    pub(crate) fn consume_to_end(
        &self,
        broker: &Broker,
        topic: &str,
        partitions: u32,
        arguments: &[&str],
    ) -> Vec<String> {
        /// How the values begin that no program writes.
        const MARK: &str = "until-here-";
        let number = self.ends.replace(self.ends.get() + 1);
        let end = format!("{MARK}{number}");
        for partition in 0..partitions {
            produce(broker, topic, partition as usize, &[end.clone().into_bytes()]);
        }
        let mut consumer = self.start_consumer(topic, &[&["--from-beginning"], arguments].concat());
        let mut lines = Vec::new();
        let mut ended = 0;
        let mut wait = Wait::begin();
        while ended < partitions {
            wait.goes_on(|| {
                format!("the end of {topic} at a console consumer, which has read {} records", lines.len())
            });
            match consumer.next(POLL) {
                Output::Line(line) if line.ends_with(&end) => ended += 1,
                Output::Line(line) if line.contains(MARK) => {}
                Output::Line(line) => lines.push(line),
                Output::Nothing => {}
                Output::End => panic!("the console consumer of {topic} has ended: {:?}", consumer.terminate()),
            }
        }
        consumer.terminate();
        lines
    }

    /// What the console consumer reads until nothing comes for `timeout_ms`, for a topic where nothing is to come.
    pub(crate) fn consume_for(&self, topic: &str, timeout_ms: u32, arguments: &[&str]) -> Vec<String> {
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
