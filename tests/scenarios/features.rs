//! What a tutorial shows of one consumer: where it begins, what it commits, how it moves about, and what retention leaves for
//! one that comes late. The checks are in `python/features.py`, the same for three clients.

use harness::broker::{Broker, Peer};
use harness::process::run;
use harness::raw::Connection;
use harness::{cache, suite};

use crate::python;

/// Checks that every client goes through.
const CORE: [&str; 7] = ["content", "reset", "auto_commit", "manual_commit", "seek", "pause", "times"];

#[test]
#[ignore = "needs kafka-python from the Python package index"]
fn scenario_features_kafka_python() {
    let further = ["consumer_timeout", "retention_by_time", "retention_by_size"];
    check("kafka-python", "features_kafka_python.py", &[&CORE[..], &further].concat());
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn scenario_features_confluent_kafka() {
    check("confluent-kafka", "features_confluent.py", &CORE);
}

#[test]
#[ignore = "needs aiokafka from the Python package index"]
fn scenario_features_aiokafka() {
    check("aiokafka", "features_aiokafka.py", &CORE);
}

fn check(client: &str, program: &str, checks: &[&str]) {
    let _machine = cache::whole_machine();
    let mut properties = vec![("auto.create.topics.enable", "false"), ("log.retention.check.interval.ms", "300")];
    if Peer::from_environment() == Peer::Kafka {
        // Kafka looks for the first time after half a minute, and not again until the interval has passed.
        properties.push(("log.initial.task.delay.ms", "300"));
    }
    let broker = Broker::start(&suite!(), &format!("scenario-features-{client}"), &properties);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    let segments = ("segment.bytes", "1048576");
    for (topic, partitions, configs) in [
        ("mixed", 4, &[][..]),
        ("pair", 2, &[]),
        ("growing", 1, &[]),
        ("single", 1, &[]),
        ("times", 1, &[]),
        ("by-time", 1, &[segments, ("retention.ms", "3600000")]),
        ("by-size", 1, &[segments, ("retention.bytes", "1048576")]),
    ] {
        assert_eq!(connection.create_topic(topic, partitions, configs).expect("an answer"), 0, "{topic}");
    }
    let passed = run(python(client, program).arg(broker.bootstrap()), &broker.dir().join("features.log"));
    let expected: Vec<String> = checks.iter().map(|check| format!("ok {check}")).collect();
    assert_eq!(passed, expected);
}
