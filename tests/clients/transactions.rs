//! Transactions by clients that we did not write: the Java client of today (transaction version 2), one from before KIP-890
//! and librdkafka (version 1), and Kafka's tool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use compare::kafka::Jars;
use harness::broker::Broker;
use harness::process::Running;
use harness::{cache, provision, suite};

const PARTITIONS: usize = 4;
const COUNT: usize = 60;
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_transactions() {
    let jars = provision::kafka();
    let classes = jars.class_path();
    check("java-transactions", &Program::Java { jars, classes });
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_old_java_transactions() {
    let jars = provision::kafka();
    let classes = provision::maven("java-2");
    check("old-java-transactions", &Program::Java { jars, classes });
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn client_confluent_kafka_transactions() {
    check("confluent-transactions", &Program::Python(provision::python("confluent-kafka")));
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_exactly_once() {
    let jars = provision::kafka();
    let classes = jars.class_path();
    check_exactly_once("java-exactly-once", &Program::Java { jars, classes });
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_old_java_exactly_once() {
    let jars = provision::kafka();
    let classes = provision::maven("java-2");
    check_exactly_once("old-java-exactly-once", &Program::Java { jars, classes });
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn client_confluent_kafka_exactly_once() {
    check_exactly_once("confluent-exactly-once", &Program::Python(provision::python("confluent-kafka")));
}

/// A transaction that its producer has left open is seen and ended by Kafka's tool.
#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn client_java_transactions_tool() {
    let _machine = cache::whole_machine();
    let broker = Broker::start(&suite!(), "transactions-tool", &[("auto.create.topics.enable", "false")]);
    let jars = provision::kafka();
    create(&jars, &broker, "t");
    let classes = jars.class_path();
    let program = Program::Java { jars: jars.clone(), classes };
    assert_eq!(program.run(&broker, "hang", &["t", "left"]), ["open"]);
    let tool = |arguments: &[&str]| {
        let bootstrap = broker.bootstrap();
        let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
        jars.run_tool(TRANSACTIONS, &all).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    };
    let listed = tool(&["list"]);
    assert!(listed.lines().any(|line| line.starts_with("left") && line.contains("Ongoing")), "{listed}");
    assert!(!tool(&["list", "--transactional-id-pattern", "nobody.*"]).contains("Ongoing"));
    let described = tool(&["describe", "--transactional-id", "left"]);
    assert!(described.contains("Ongoing") && described.contains("t-0"), "{described}");
    let producers = tool(&["describe-producers", "--topic", "t", "--partition", "0"]);
    assert!(producers.lines().nth(1).is_some_and(|line| !line.trim_end().ends_with("None")), "{producers}");
    assert_eq!(program.read(&broker, "t", "read_committed"), [].into());
    tool(&["abort", "--topic", "t", "--partition", "0", "--start-offset", "0"]);
    let producers = tool(&["describe-producers", "--topic", "t", "--partition", "0"]);
    assert!(producers.lines().nth(1).is_some_and(|line| line.trim_end().ends_with("None")), "{producers}");
    assert_eq!(program.read(&broker, "t", "read_uncommitted"), [("left open".to_owned(), 1)].into());
}

/// Commits and aborts over several partitions, through a crash of the broker, and a producer that is replaced.
fn check(name: &str, program: &Program) {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), name, &[("auto.create.topics.enable", "false")]);
    let jars = provision::kafka();
    create(&jars, &broker, "t");
    create(&jars, &broker, "fenced");
    let (count, partitions) = (COUNT.to_string(), PARTITIONS.to_string());
    let mut expected = BTreeMap::new();
    for half in ["one", "two"] {
        assert_eq!(program.run(&broker, "write", &["t", half, &count, &partitions]), ["written"]);
        expected.extend(committed(half));
        broker.kill();
        broker.resume();
        assert_eq!(program.read(&broker, "t", "read_committed"), expected);
    }
    let all = program.read(&broker, "t", "read_uncommitted");
    assert_eq!(all.values().sum::<usize>(), 2 * COUNT * PARTITIONS);

    assert_eq!(program.run(&broker, "fence", &["fenced", "both"]), ["fenced", "committed"]);
    assert_eq!(program.read(&broker, "fenced", "read_committed"), [("second".to_owned(), 1)].into());
}

/// Records are copied from topic to topic with their offsets in the same transactions: each arrives once, although the
/// program is killed in the middle of a transaction, and the broker with it.
fn check_exactly_once(name: &str, program: &Program) {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), name, &[("auto.create.topics.enable", "false")]);
    let jars = provision::kafka();
    create(&jars, &broker, "from");
    create(&jars, &broker, "to");
    let (count, partitions) = (COUNT.to_string(), PARTITIONS.to_string());
    assert_eq!(program.run(&broker, "write", &["from", "w", &count, &partitions]), ["written"]);
    let copy = ["from", "to", "copier", "copiers", &partitions];
    for with_broker in [false, true] {
        let mut killed = program.start(&broker, "stall", &copy);
        killed.wait_for("stalled");
        if with_broker {
            broker.kill();
        }
        drop(killed);
        if with_broker {
            broker.resume();
        }
    }
    let copied = program.run(&broker, "copy", &copy);
    assert_eq!(copied.last().map(String::as_str), Some("done"));
    assert!(copied.len() > 3, "nothing was left to be copied: {copied:?}");
    let all = program.run(&broker, "read", &["to", &partitions, "read_uncommitted"]).len();
    assert!(all > committed("w").values().sum(), "nothing was written in the transactions that were left open");
    assert_eq!(program.read(&broker, "to", "read_committed"), committed("w"));
}

/// The values that every partition has, of transactions by one id of which each third was aborted.
fn committed(id: &str) -> BTreeMap<String, usize> {
    let numbers = (0..COUNT).filter(|number| number % 3 != 2);
    numbers.map(|number| (format!("{id}-{number}"), PARTITIONS)).collect()
}

fn create(jars: &Jars, broker: &Broker, topic: &str) {
    let arguments = ["--bootstrap-server", &broker.bootstrap(), "--create", "--topic", topic, "--partitions", "4"];
    jars.run_tool("org.apache.kafka.tools.TopicCommand", &arguments).unwrap_or_else(|error| panic!("{error}"));
}

/// A client under test.
enum Program {
    Java { jars: Jars, classes: String },
    Python(PathBuf),
}

impl Program {
    /// What the program prints; it must succeed.
    fn run(&self, broker: &Broker, what: &str, arguments: &[&str]) -> Vec<String> {
        self.start(broker, what, arguments).finish()
    }

    fn start(&self, broker: &Broker, what: &str, arguments: &[&str]) -> Running {
        let mut command = self.command();
        command.arg(what).arg(broker.bootstrap()).args(arguments);
        Running::start(&mut command, &broker.dir().join(format!("{what}.log")))
    }

    /// Values of a topic, and in how many partitions each of them is.
    fn read(&self, broker: &Broker, topic: &str, isolation: &str) -> BTreeMap<String, usize> {
        let lines = self.run(broker, "read", &[topic, &PARTITIONS.to_string(), isolation]);
        let mut seen = BTreeSet::new();
        let mut values = BTreeMap::new();
        for line in lines {
            let (_, value) = line.split_once(' ').unwrap_or_else(|| panic!("the reader printed {line:?}"));
            *values.entry(value.to_owned()).or_default() += 1;
            assert!(seen.insert(line.clone()), "{line} was read twice");
        }
        values
    }

    fn command(&self) -> Command {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients");
        match self {
            Program::Java { jars, classes } => {
                let mut command = Command::new(jars.java());
                command.args(["-Xmx512m", "-cp", classes]).arg(clients.join("java/Transactions.java"));
                command
            }
            Program::Python(python) => {
                let mut command = Command::new(python);
                command.env("PYTHONDONTWRITEBYTECODE", "1").arg(clients.join("python/transactions.py"));
                command
            }
        }
    }
}
