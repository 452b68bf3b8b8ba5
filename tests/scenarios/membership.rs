//! Who is a member of a group and for how long: one with a name of its own (`group.instance.id`, KIP-345), which keeps its
//! partitions while it is away, and one that stops polling (`max.poll.interval.ms`), which loses them although it lives.

use std::collections::BTreeSet;
use std::process::Command;

use harness::broker::Broker;
use harness::process;
use harness::raw::{self, Connection};
use harness::{cache, provision, suite};
use wire::api::ApiKey;
use wire::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use crate::clients::{PARTITIONS, STEP, TOPIC, confluent, java_member, write};
use crate::group::{Group, ends};
use crate::{here, java};

/// Longer than the harness waits for anything: what happens in these tests is not that a session has ended.
const SESSION_TIMEOUT_MS: &str = "600000";
/// Where it may be that: librdkafka wants sessions no longer than the time between two polls.
const SHORT_SESSION_TIMEOUT_MS: &str = "3000";
/// How long a member may not poll that is going to stall.
const POLL_INTERVAL_MS: &str = "3000";
/// Static members.
const ONE: &str = "one";
const TWO: &str = "two";

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn scenario_static_members_java() {
    check_static("static-java", &|| java_client("RangeAssignor"), "FencedInstanceIdException");
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index, Java, and Apache Kafka from Maven"]
fn scenario_static_members_confluent_kafka() {
    check_static("static-confluent-kafka", &|| confluent("range"), "FENCED_INSTANCE_ID");
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn scenario_static_members_java_kip_848() {
    check_static_kip_848("static-java-848", &|| java_client("consumer"), "UnreleasedInstanceIdException");
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index, Java, and Apache Kafka from Maven"]
fn scenario_static_members_confluent_kafka_kip_848() {
    check_static_kip_848("static-confluent-kafka-848", &|| confluent("consumer"), "UNRELEASED_INSTANCE_ID");
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn scenario_poll_interval_java() {
    let stalling = with_session(java_client("RangeAssignor"), SESSION_TIMEOUT_MS);
    let members = [stalling, java_client("RangeAssignor")];
    check_poll_interval("poll-interval-java", SESSION_TIMEOUT_MS, members, "CommitFailedException");
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn scenario_poll_interval_confluent_kafka() {
    let stalling = with_session(confluent("range"), SHORT_SESSION_TIMEOUT_MS);
    let members = [stalling, confluent("range")];
    check_poll_interval("poll-interval-confluent-kafka", SESSION_TIMEOUT_MS, members, "_ASSIGNMENT_LOST");
}

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn scenario_poll_interval_java_kip_848() {
    let members = [java_client("consumer"), java_client("consumer")];
    check_poll_interval("poll-interval-java-848", SESSION_TIMEOUT_MS, members, "CommitFailedException");
}

/// With this protocol librdkafka does not say that it leaves: it sends no heartbeats any more.
#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn scenario_poll_interval_confluent_kafka_kip_848() {
    let members = [confluent("consumer"), confluent("consumer")];
    check_poll_interval("poll-interval-confluent-kafka-848", SHORT_SESSION_TIMEOUT_MS, members, "_ASSIGNMENT_LOST");
}

/// Static members of a classic group die, end, and come back under their names, and the others notice nothing. The second
/// under a name fences the first, and an administrator gives what is kept for a name to the others.
fn check_static(name: &str, client: &dyn Fn() -> Command, fenced: &str) {
    let _machine = cache::whole_machine();
    let broker = start(name, SESSION_TIMEOUT_MS);
    let mut group = Group::new(&broker, name, TOPIC, PARTITIONS);
    let mut written = 0;
    let mut settle = |group: &mut Group| {
        group.wait_until_shared();
        written += write(&broker, STEP);
        group.wait_for_records(written);
    };
    let member = |instance: &str| {
        let mut member = with_session(named(client(), instance), SESSION_TIMEOUT_MS);
        // librdkafka has no longer sessions than this.
        member.arg(format!("max.poll.interval.ms={SESSION_TIMEOUT_MS}"));
        member
    };
    // The first to come leads, and assigns.
    let mut leader = group.start(member(ONE));
    settle(&mut group);
    let mut follower = group.start(member(TWO));
    settle(&mut group);
    let of_leader = group.assigned(leader).clone();
    let of_follower = group.assigned(follower).clone();

    let before = group.assignments(follower).to_vec();
    group.kill(leader);
    leader = group.start(member(ONE));
    settle(&mut group);
    assert_eq!(group.assignments(leader), std::slice::from_ref(&of_leader));
    assert_eq!(group.assignments(follower), before);

    group.stop(follower);
    follower = group.start(member(TWO));
    settle(&mut group);
    assert_eq!(group.assignments(follower), std::slice::from_ref(&of_follower));

    let twin = group.start(member(TWO));
    assert_eq!(group.wait_for_refusal(follower), fenced);
    settle(&mut group);
    assert_eq!(group.assignments(twin), std::slice::from_ref(&of_follower));

    group.stop(twin);
    remove(&broker, name, TWO);
    settle(&mut group);
    assert_eq!(group.assignments(leader), [of_leader, BTreeSet::new(), (0..PARTITIONS).collect()]);
    group.stop_all();
    group.assert_complete(&ends(&broker, TOPIC, PARTITIONS));
}

/// As [`check_static`] in a group of the consumer protocol, where a name belongs to the first until that one has left or its
/// session is over.
fn check_static_kip_848(name: &str, client: &dyn Fn() -> Command, unreleased: &str) {
    let _machine = cache::whole_machine();
    let broker = start(name, SESSION_TIMEOUT_MS);
    let mut group = Group::new(&broker, name, TOPIC, PARTITIONS);
    let mut written = 0;
    let mut settle = |group: &mut Group| {
        group.wait_until_shared();
        written += write(&broker, STEP);
        group.wait_for_records(written);
    };
    let mut one = group.start(named(client(), ONE));
    settle(&mut group);
    let two = group.start(named(client(), TWO));
    settle(&mut group);
    let of_one = group.assigned(one).clone();
    let before = group.assignments(two).to_vec();
    let epoch = group_epoch(&broker, name);

    group.stop(one);
    one = group.start(named(client(), ONE));
    settle(&mut group);
    assert_eq!(group.assignments(one), std::slice::from_ref(&of_one));
    assert_eq!(group.assignments(two), before);

    let twin = group.start(named(client(), TWO));
    assert_eq!(group.wait_for_refusal(twin), unreleased);
    settle(&mut group);
    assert_eq!(group.assignments(two), before);

    group.kill(two);
    let early = group.start(named(client(), TWO));
    assert_eq!(group.wait_for_refusal(early), unreleased);
    assert_eq!(group_epoch(&broker, name), epoch);
    remove(&broker, name, TWO);
    settle(&mut group);
    assert_eq!(group.assignments(one), [of_one, (0..PARTITIONS).collect()]);
    group.stop_all();
    group.assert_complete(&ends(&broker, TOPIC, PARTITIONS));
}

/// A member stops polling with records that it has not committed. The other gets its partitions, with these records, and the
/// commit that comes after all is refused. A session of a group of the consumer protocol lasts `session_timeout_ms`.
fn check_poll_interval(name: &str, session_timeout_ms: &str, [mut stalling, other]: [Command; 2], refused: &str) {
    let _machine = cache::whole_machine();
    let broker = start(name, session_timeout_ms);
    let mut group = Group::new(&broker, name, TOPIC, PARTITIONS);
    let mut written = 0;
    stalling.arg(format!("max.poll.interval.ms={POLL_INTERVAL_MS}"));
    let stalling = group.start(stalling);
    let other = group.start(other);
    group.wait_until_shared();
    written += write(&broker, STEP);
    group.wait_for_records(written);

    group.stall(stalling, || written += write(&broker, STEP));
    group.wait_for_partitions(other, PARTITIONS as usize);
    group.resume(stalling);
    assert_eq!(group.wait_for_refusal(stalling), refused);
    group.wait_for_committed(written);
    group.stop_all();
    group.assert_complete(&ends(&broker, TOPIC, PARTITIONS));
}

/// A broker with the topic, for sessions of so many milliseconds in groups of the consumer protocol.
fn start(name: &str, session_timeout_ms: &str) -> Broker {
    let properties = [
        ("auto.create.topics.enable", "false"),
        ("group.min.session.timeout.ms", SHORT_SESSION_TIMEOUT_MS),
        ("group.consumer.heartbeat.interval.ms", "500"),
        ("group.consumer.min.heartbeat.interval.ms", "500"),
        ("group.consumer.session.timeout.ms", session_timeout_ms),
        ("group.consumer.min.session.timeout.ms", session_timeout_ms),
        ("group.consumer.max.session.timeout.ms", SESSION_TIMEOUT_MS),
    ];
    let broker = Broker::start(&suite!(), &format!("scenario-{name}"), &properties);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    assert_eq!(connection.create_topic(TOPIC, PARTITIONS as i32, &[]).expect("an answer"), 0);
    broker
}

fn java_client(protocol: &str) -> Command {
    java_member(&provision::kafka().dir(), protocol)
}

fn named(mut member: Command, instance: &str) -> Command {
    member.arg(format!("group.instance.id={instance}"));
    member
}

/// A member of a classic group, whose sessions are as long as it says.
fn with_session(mut member: Command, timeout_ms: &str) -> Command {
    member.arg(format!("session.timeout.ms={timeout_ms}"));
    member
}

/// Takes a static member out of its group, as an administrator does.
fn remove(broker: &Broker, group: &str, instance: &str) {
    let mut command = java(&provision::kafka().dir());
    command.arg(here("java").join("RemoveMember.java")).args([&broker.bootstrap(), group, instance]);
    process::run(&mut command, &broker.dir().join("remove.log"));
}

/// How often a group of the consumer protocol has had to assign anew.
fn group_epoch(broker: &Broker, group: &str) -> i32 {
    const VERSION: i16 = 1;
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    let request = ConsumerGroupDescribeRequest { group_ids: vec![group], include_authorized_operations: false };
    let body = connection.call(ApiKey::ConsumerGroupDescribe, VERSION, &request).expect("an answer");
    let answer: ConsumerGroupDescribeResponse<'_> = raw::decode(&body, VERSION).expect("an answer of its form");
    assert_eq!(answer.groups[0].error_code, 0);
    answer.groups[0].group_epoch
}
