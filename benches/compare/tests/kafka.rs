//! Provisions Apache Kafka and runs it. Needs Java, Maven and, the first time, the network.

use compare::kafka::{self, Broker, BrokerOptions};

#[test]
#[ignore = "starts Apache Kafka: needs Java, Maven and the network"]
fn kafka_starts_makes_a_topic_and_stops() {
    let jars = kafka::provision().unwrap();
    assert!(jars.kafka_jar("kafka-clients").is_file());
    let options = BrokerOptions { cpus: Some("0".into()), ..BrokerOptions::default() };
    let broker = Broker::start(&jars, &options).unwrap();
    broker.create_topic(&jars, "flushed", 3, &[("flush.messages", "1")]).unwrap();
    let described = jars
        .run_tool(
            "org.apache.kafka.tools.TopicCommand",
            &["--bootstrap-server", &broker.bootstrap(), "--describe", "--topic", "flushed"],
        )
        .unwrap();
    assert!(described.contains("PartitionCount: 3"), "{described}");
    assert!(described.contains("flush.messages=1"), "{described}");
    let error = broker.create_topic(&jars, "flushed", 3, &[]).unwrap_err();
    assert!(error.to_string().contains("already exists"), "{error}");

    let affinity = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    assert!(affinity.contains("Cpus_allowed_list:\t0\n"), "{affinity}");
    let data = broker.data_dir();
    assert!(data.join("flushed-2").is_dir());
    broker.stop().unwrap();
    assert!(!data.exists(), "the data directory is deleted");
}
