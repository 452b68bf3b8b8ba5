//! Consumer groups of the clients that programs use: members come and go, the broker restarts, and every record is handled once.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use harness::broker::Broker;
use harness::raw::Connection;
use harness::{cache, provision, suite};

use crate::group::{Group, ends, produce};
use crate::{here, java, python};

pub(crate) const TOPIC: &str = "shared";
pub(crate) const PARTITIONS: u32 = 6;
/// Records that each step adds to a partition.
pub(crate) const STEP: usize = 50;
/// Records that each partition gets at a time while a group changes.
const TRICKLE: usize = 5;
/// In place of [`TRICKLE`] with kafka-python, whose polls must be longer than a rebalance, and in groups of one client whose
/// members agree among themselves, but for Java.
const QUIET: usize = 0;

#[test]
#[ignore = "needs kafka-python from the Python package index"]
fn scenario_group_kafka_python() {
    check("kafka-python", &|| python("kafka-python", "member_kafka_python.py"));
}

#[test]
#[ignore = "needs aiokafka from the Python package index"]
fn scenario_group_aiokafka() {
    check("aiokafka", &|| python("aiokafka", "member_aiokafka.py"));
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn scenario_group_confluent_kafka() {
    check("confluent-kafka", &|| confluent("range"));
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn scenario_group_confluent_kafka_kip_848() {
    check_under("confluent-kafka-848", &|| confluent("consumer"), TRICKLE);
}

#[test]
#[ignore = "needs Go and franz-go from the module proxy"]
fn scenario_group_franz_go() {
    check("franz-go", &|| go("franz-go"));
}

#[test]
#[ignore = "needs Go and sarama from the module proxy"]
fn scenario_group_sarama() {
    check("sarama", &|| go("sarama"));
}

#[test]
#[ignore = "needs Node and kafkajs from the npm registry"]
fn scenario_group_kafkajs() {
    check("kafkajs", &|| {
        let mut command = Command::new("node");
        command.arg(provision::node("scenarios/node", "member.js"));
        command
    });
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn scenario_group_java() {
    check_under("java", &|| java_member(&provision::kafka().dir(), "CooperativeStickyAssignor"), TRICKLE);
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn scenario_group_java_kip_848() {
    check_under("java-848", &|| java_member(&provision::kafka().dir(), "consumer"), TRICKLE);
}

#[test]
#[ignore = "needs Java, and an old client of Apache Kafka from Maven"]
fn scenario_group_java_2() {
    check("java-2", &|| java_member(&provision::maven_jars("java-2"), "RangeAssignor"));
}

#[test]
#[ignore = "needs kafka-python from the Python package index, Java, and Apache Kafka from Maven"]
fn scenario_group_of_kafka_python_and_java() {
    let java = || java_member(&provision::kafka().dir(), "RangeAssignor");
    check_together("kafka-python-and-java", &|| python("kafka-python", "member_kafka_python.py"), &java, QUIET);
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index, and Go and franz-go from the module proxy"]
fn scenario_group_of_confluent_kafka_and_franz_go() {
    check_together("confluent-kafka-and-franz-go", &|| confluent("cooperative-sticky"), &|| go("franz-go"), TRICKLE);
}

/// The one assignor that both know is not what kafka-python would rather have.
#[test]
#[ignore = "needs kafka-python and aiokafka from the Python package index"]
fn scenario_group_of_kafka_python_and_aiokafka() {
    let aiokafka = || python("aiokafka", "member_aiokafka.py");
    let kafka_python = || python("kafka-python", "member_kafka_python.py");
    check_together("kafka-python-and-aiokafka", &kafka_python, &aiokafka, QUIET);
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index, Java, and Apache Kafka from Maven"]
fn scenario_group_of_confluent_kafka_and_java_kip_848() {
    let java = || java_member(&provision::kafka().dir(), "consumer");
    check_together("confluent-kafka-and-java-848", &|| confluent("consumer"), &java, TRICKLE);
}

/// Members of one client come and go.
fn check(name: &str, member: &dyn Fn() -> Command) {
    check_under(name, member, QUIET);
}

/// As [`check`], with so many new records in each partition at a time as long as the group changes.
fn check_under(name: &str, member: &dyn Fn() -> Command, trickle: usize) {
    let _machine = cache::whole_machine();
    let mut broker = start(name);
    let mut group = Group::new(&broker, name, TOPIC, PARTITIONS);
    let written = Cell::new(0);
    let share = |group: &mut Group, broker: &Broker| {
        group.wait_until_shared_while(|| written.set(written.get() + write(broker, trickle)));
    };
    let add = |group: &mut Group, broker: &Broker| {
        written.set(written.get() + write(broker, STEP));
        group.wait_for_records(written.get());
    };
    let first = group.start(member());
    share(&mut group, &broker);
    add(&mut group, &broker);
    group.start(member());
    share(&mut group, &broker);
    add(&mut group, &broker);
    group.start(member());
    share(&mut group, &broker);
    add(&mut group, &broker);
    group.stop(first);
    add(&mut group, &broker);
    share(&mut group, &broker);
    group.stop_all();
    broker.restart();
    group.start(member());
    group.start(member());
    add(&mut group, &broker);
    group.stop_all();
    group.assert_complete(&ends(&broker, TOPIC, PARTITIONS));
}

/// Members of two clients share the partitions. One leaves in good order and one dies, and the other client takes over. As long as
/// the group changes there are new records to be read, `trickle` in each partition at a time.
fn check_together(name: &str, one: &dyn Fn() -> Command, other: &dyn Fn() -> Command, trickle: usize) {
    let _machine = cache::whole_machine();
    let broker = start(name);
    let mut group = Group::new(&broker, name, TOPIC, PARTITIONS);
    let mut written = write(&broker, STEP);
    let mut settle = |group: &mut Group| {
        group.wait_until_shared_while(|| written += write(&broker, trickle));
        written += write(&broker, STEP);
        group.wait_for_records(written);
    };
    let first = group.start(one());
    settle(&mut group);
    let second = group.start(other());
    settle(&mut group);
    group.stop(first);
    settle(&mut group);
    group.start(one());
    settle(&mut group);
    group.kill(second);
    settle(&mut group);
    group.start(other());
    settle(&mut group);
    group.stop_all();
    group.assert_complete(&ends(&broker, TOPIC, PARTITIONS));
}

/// A broker with the topic.
fn start(name: &str) -> Broker {
    let properties = [
        ("auto.create.topics.enable", "false"),
        // Members by the protocol of KIP-848 learn of each other at a heartbeat, every five seconds by default.
        ("group.consumer.heartbeat.interval.ms", "500"),
        ("group.consumer.min.heartbeat.interval.ms", "500"),
        // And they send no time-out of their own.
        ("group.consumer.session.timeout.ms", "6000"),
        ("group.consumer.min.session.timeout.ms", "6000"),
    ];
    let broker = Broker::start(&suite!(), &format!("scenario-group-{name}"), &properties);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    assert_eq!(connection.create_topic(TOPIC, PARTITIONS as i32, &[]).expect("an answer"), 0);
    broker
}

/// Adds so many records to each partition and says how many in all.
pub(crate) fn write(broker: &Broker, count: usize) -> usize {
    if count == 0 {
        return 0;
    }
    let values: Vec<Vec<u8>> = (0..count).map(|number| format!("value-{number}").into_bytes()).collect();
    for partition in 0..PARTITIONS as usize {
        produce(broker, TOPIC, partition, &values);
    }
    PARTITIONS as usize * count
}

pub(crate) fn confluent(assignor: &str) -> Command {
    let mut member = python("confluent-kafka", "member_confluent.py");
    member.arg(assignor);
    member
}

fn go(client: &str) -> Command {
    let mut member = Command::new(provision::go("scenarios/go", "go"));
    member.arg(client);
    member
}

pub(crate) fn java_member(jars: &Path, protocol: &str) -> Command {
    let mut member = java(jars);
    member.arg(here("java").join("GroupMember.java")).arg(protocol);
    member
}
