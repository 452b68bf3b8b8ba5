//! Consumer groups of stock clients: two members share the partitions of a topic and read each record once, also when the
//! broker dies by SIGKILL between their reads; what they have committed is there afterwards, and Kafka's own tool says so.

use std::path::Path;
use std::process::Command;

use harness::broker::Broker;
use harness::process::{Running, run};
use harness::raw::{Connection, batch};
use harness::{cache, provision, suite};

const TOPIC: &str = "shared";
const GROUP: &str = "readers";
const PARTITIONS: i32 = 6;
/// Records that each partition gets each time.
const RECORDS: usize = 50;

#[test]
#[ignore = "needs kafka-python from the Python package index, and Apache Kafka's tools from Maven"]
fn group_of_kafka_python() {
    check("kafka-python", &mut python("kafka-python"));
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index, and Apache Kafka's tools from Maven"]
fn group_of_confluent_kafka() {
    check("confluent-kafka", &mut python("confluent-kafka"));
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn group_of_java() {
    let jars = provision::kafka();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/java/Groups.java");
    let mut command = Command::new(jars.java());
    command.args(["-Xmx512m", "-cp", &jars.class_path()]).arg(source);
    check("java", &mut command);
}

fn check(client: &str, program: &mut Command) {
    let _machine = cache::whole_machine();
    let settings = [("auto.create.topics.enable", "false"), ("group.initial.rebalance.delay.ms", "500")];
    let mut broker = Broker::start(&suite!(), &format!("group-{client}"), &settings);
    let mut connection = Connection::open(&broker.bootstrap()).expect("the broker listens");
    assert_eq!(connection.create_topic(TOPIC, PARTITIONS, &[]).expect("an answer"), 0);
    let count = RECORDS * PARTITIONS as usize;
    program.args([&broker.bootstrap(), TOPIC, GROUP, &count.to_string()]);
    let mut members = Running::start(program, &broker.dir().join("members.log"));
    members.wait_for("WAITING 1");
    write(&mut connection);
    members.write(b"\n");
    members.wait_for("WAITING 2");
    broker.kill();
    broker.resume();
    let mut connection = Connection::open(&broker.bootstrap()).expect("the broker listens");
    write(&mut connection);
    members.write(b"\n");
    let lines = members.finish();
    assert_eq!(lines.last().map(String::as_str), Some(format!("COMMITTED {}", 2 * count).as_str()));

    broker.kill();
    broker.resume();
    let described = tool(&broker, &["--describe", "--group", GROUP]);
    let rows: Vec<Vec<&str>> = described.iter().map(|line| line.split_whitespace().collect()).collect();
    let of_topic: Vec<_> = rows.iter().filter(|row| row.get(1) == Some(&TOPIC)).collect();
    assert_eq!(of_topic.len(), PARTITIONS as usize, "{described:?}");
    let each = (2 * RECORDS).to_string();
    for row in of_topic {
        assert_eq!(row[3..6], [&each, &each, "0"], "offset, end and lag: {described:?}");
    }
    tool(&broker, &["--delete", "--group", GROUP]);
    assert!(!tool(&broker, &["--list"]).iter().any(|line| line == GROUP));
}

fn write(connection: &mut Connection) {
    for partition in 0..PARTITIONS {
        let values: Vec<Vec<u8>> = (0..RECORDS).map(|n| n.to_string().into_bytes()).collect();
        let produced = connection.produce(TOPIC, partition, &batch(None, &values)).expect("an answer");
        assert_eq!(produced.error_code, 0);
    }
}

fn python(client: &str) -> Command {
    let mut command = Command::new(provision::python(client));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/python/groups.py");
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(client);
    command
}

/// Runs Kafka's tool for groups.
fn tool(broker: &Broker, arguments: &[&str]) -> Vec<String> {
    let jars = provision::kafka();
    let mut command = Command::new(jars.java());
    command.args(["-Xmx256m", "-cp", &jars.class_path(), "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"]);
    command.args(["--bootstrap-server", &broker.bootstrap()]).args(arguments);
    run(&mut command, &broker.dir().join("tool.log"))
}
