//! The Python clients.

use std::path::Path;
use std::process::Command;

use harness::broker::Broker;
use harness::client::Client;
use harness::partitioner::Partitioner;
use harness::process::run;
use harness::{cache, provision, suite};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[test]
#[ignore = "needs kafka-python from the Python package index"]
fn client_kafka_python() {
    Client {
        name: "kafka-python",
        program: &|| script("kafka-python", "kafka_python.py"),
        codecs: &CODECS,
        partitioner: Partitioner::Murmur2,
        existing: "TopicAlreadyExistsError",
        missing: "KafkaTimeoutError",
        large: "MessageSizeTooLargeError",
    }
    .check(&suite!());
}

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn client_confluent_kafka() {
    Client {
        name: "confluent-kafka",
        program: &|| script("confluent-kafka", "confluent.py"),
        codecs: &CODECS,
        partitioner: Partitioner::Crc32,
        existing: "TOPIC_ALREADY_EXISTS",
        missing: "UNKNOWN_TOPIC_OR_PART",
        large: "MSG_SIZE_TOO_LARGE",
    }
    .check(&suite!());
}

#[test]
#[ignore = "needs aiokafka from the Python package index"]
fn client_aiokafka() {
    Client {
        name: "aiokafka",
        program: &|| script("aiokafka", "aiokafka_client.py"),
        codecs: &CODECS,
        partitioner: Partitioner::Murmur2,
        existing: "TopicAlreadyExistsError",
        missing: "UnknownTopicOrPartitionError",
        large: "MessageSizeTooLargeError",
    }
    .check(&suite!());
}

/// librdkafka's members of groups of the consumer protocol (KIP-848).
#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn client_confluent_kafka_consumer_groups() {
    let _machine = cache::whole_machine();
    let broker = Broker::start(&suite!(), "confluent-consumer-groups", &[("auto.create.topics.enable", "false")]);
    let mut command = script("confluent-kafka", "consumer_groups.py");
    let said = run(command.arg(broker.bootstrap()), &broker.dir().join("client.log"));
    assert_eq!(said.last().map(String::as_str), Some("done"), "{said:?}");
}

fn script(client: &str, name: &str) -> Command {
    let mut command = Command::new(provision::python(client));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/python").join(name);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(path);
    command
}
