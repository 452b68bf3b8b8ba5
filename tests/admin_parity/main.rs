//! The admin APIs beside those of a stock Apache Kafka: the same requests to both, and the answers compared. What the
//! two decide differently on purpose is named here, with the reason.

mod configs;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use harness::broker::{Broker, Peer};
use harness::cache;
use harness::raw::{Connection, decode};
use wire::Uuid;
use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use wire::messages::delete_topics_request::DeleteTopicState;
use wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::*;

/// How long Kafka's broker may take to follow its controller.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(20);

/// Kafka's reasons for these say what every client knows; Weir says it in words of its own.
const OWN_WORDS: &[ErrorCode] =
    &[ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId, ErrorCode::TopicDeletionDisabled];

/// A connection to either broker.
struct Pair {
    weir: Connection,
    kafka: Connection,
}

impl Pair {
    /// Asks both once, and compares what `see` makes of the answers: for requests that change something.
    fn once<T: Debug + PartialEq>(&mut self, what: &str, see: impl Fn(&mut Connection) -> T) {
        let (weir, kafka) = (see(&mut self.weir), see(&mut self.kafka));
        assert_eq!(weir, kafka, "{what}: Weir's answer, then Kafka's");
    }

    /// Asks both, Kafka again until it has followed: for requests that change nothing.
    fn same<T: Debug + PartialEq>(&mut self, what: &str, see: impl Fn(&mut Connection) -> T) {
        let weir = see(&mut self.weir);
        let deadline = Instant::now() + FOLLOWS_WITHIN;
        loop {
            let kafka = see(&mut self.kafka);
            if weir == kafka {
                return;
            }
            assert!(Instant::now() < deadline, "{what}:\nWeir  {weir:#?}\nKafka {kafka:#?}");
        }
    }
}

/// An error and its message, where the message is worth a comparison.
type Fault = (Option<ErrorCode>, Option<String>);

fn fault(code: i16, message: Option<&str>) -> Fault {
    let code = ErrorCode::from_code(code);
    let message = message.filter(|message| !message.is_empty() && !code.is_some_and(|code| OWN_WORDS.contains(&code)));
    (code, message.map(|message| sentence(message).to_owned()))
}

/// A message without the Java around it: the exception that another one wraps, and what Java says of a text's indexes.
fn sentence(message: &str) -> &str {
    let wrapped = message.strip_prefix("Invalid value org.apache.kafka.common.config.ConfigException: ");
    let wrapped = wrapped.and_then(|it| it.strip_suffix(" for configuration Invalid dynamic configuration"));
    let message = wrapped.unwrap_or(message);
    let parsed = "Error parsing configuration property";
    message.split_once("': ").filter(|(before, _)| before.starts_with(parsed)).map_or(message, |(before, _)| before)
}

fn ask<'a, 'b, R: wire::Message<'a>>(connection: &mut Connection, api: ApiKey, version: i16, request: &R) -> Vec<u8> {
    connection.call(api, version, request).unwrap_or_else(|error| panic!("{api} {version}: {error}"))
}

fn topic(name: &str) -> CreatableTopic<'_> {
    CreatableTopic { name, num_partitions: 1, replication_factor: 1, ..CreatableTopic::default() }
}

fn with<'a>(name: &'a str, configs: &[(&'a str, Option<&'a str>)]) -> CreatableTopic<'a> {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: *value }).collect();
    CreatableTopic { configs, ..topic(name) }
}

fn assigned<'a>(name: &'a str, assignments: &[(i32, &[i32])]) -> CreatableTopic<'a> {
    let assignment =
        |it: &(i32, &[i32])| CreatableReplicaAssignment { partition_index: it.0, broker_ids: it.1.to_vec() };
    let assignments = assignments.iter().map(assignment).collect();
    CreatableTopic { num_partitions: -1, replication_factor: -1, assignments, ..topic(name) }
}

/// What a creation comes to, by topic: fault, partitions, replicas, and the configurations that are not defaults.
type Created = BTreeMap<String, (Fault, i32, i16, Vec<(String, String)>)>;

fn create(connection: &mut Connection, topics: &[CreatableTopic<'_>], validate_only: bool) -> Created {
    let request = CreateTopicsRequest { topics: topics.to_vec(), timeout_ms: 30_000, validate_only };
    let answer = ask(connection, ApiKey::CreateTopics, 7, &request);
    let answer: CreateTopicsResponse<'_> = decode(&answer, 7).expect("an answer");
    let result = |it: &create_topics_response::CreatableTopicResult<'_>| {
        assert_eq!(it.topic_id.is_zero(), it.error_code != 0, "{it:?}");
        let configs = it.configs.iter().flatten().filter(|config| config.config_source == 1);
        let configs = configs.map(|it| (it.name.to_owned(), it.value.unwrap_or_default().to_owned())).collect();
        let fault = fault(it.error_code, it.error_message);
        (it.name.to_owned(), (fault, it.num_partitions, it.replication_factor, configs))
    };
    answer.topics.iter().map(result).collect()
}

fn creations(pair: &mut Pair) {
    let made = [
        CreatableTopic {
            num_partitions: 3,
            ..with("three", &[("retention.ms", Some("1000")), ("retention.ms", Some("2000"))])
        },
        CreatableTopic { num_partitions: -1, replication_factor: -1, ..topic("default") },
        with("listed", &[("cleanup.policy", Some("compact,delete")), ("segment.bytes", Some("2097152"))]),
        assigned("assigned", &[(1, &[1]), (0, &[1])]),
        topic("dot.ted"),
        with("empty.policy", &[("cleanup.policy", Some(""))]),
        with("internal", &[("internal.segment.bytes", Some("1400"))]),
    ];
    pair.once("creation", |connection| create(connection, &made, false));
    let count = |partitions, replicas| CreatableTopic {
        num_partitions: partitions,
        replication_factor: replicas,
        ..topic("count")
    };
    let long = "a".repeat(250);
    let mut refused = vec![
        vec![topic("three")],
        vec![topic("dot_ted")],
        vec![topic(""), topic("."), topic("a b"), topic(&long)],
        vec![topic("__cluster_metadata")],
        vec![topic("twice"), topic("twice"), topic("once")],
        vec![CreatableTopic { num_partitions: 20_000, ..topic("many") }, topic("few")],
        vec![CreatableTopic { num_partitions: 10_000, ..topic("many") }],
        vec![CreatableTopic { num_partitions: 1, ..assigned("x", &[(0, &[1])]) }],
        vec![CreatableTopic { replication_factor: 1, ..assigned("x", &[(0, &[1])]) }],
        vec![assigned("x", &[(0, &[1]), (0, &[1])])],
        vec![assigned("x", &[(1, &[1])])],
        vec![assigned("x", &[(0, &[2])])],
        vec![assigned("x", &[(0, &[])])],
        vec![assigned("x", &[(0, &[1, 1])])],
        vec![with("x", &[("retention.ms", None), ("segment.ms", None)])],
        vec![with("x", &[("min.compaction.lag.ms", Some("10")), ("max.compaction.lag.ms", Some("5"))])],
    ];
    refused.extend([(0, 1), (-5, 1), (1, 0), (1, -2), (1, 3)].map(|(a, b)| vec![count(a, b)]));
    let values = [
        ("bogus", "1"),
        ("message.format.version", "3.0"),
        ("retention.ms", "abc"),
        ("retention.ms", "-5"),
        ("retention.ms", ""),
        ("retention.ms", "9223372036854775808"),
        ("retention.ms", "+5"),
        ("retention.bytes", "-7"),
        ("segment.bytes", "99999999999"),
        ("segment.bytes", "14"),
        ("segment.bytes", "1e6"),
        ("cleanup.policy", "shred"),
        ("cleanup.policy", "Delete"),
        ("cleanup.policy", "delete,"),
        ("preallocate", "yes"),
        ("preallocate", "true"),
        ("compression.type", "brotli"),
        ("compression.type", "GZIP"),
        ("compression.gzip.level", "0"),
        ("compression.gzip.level", "10"),
        ("compression.lz4.level", "99"),
        ("compression.zstd.level", "23"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "abc"),
        ("message.timestamp.type", "x"),
        ("leader.replication.throttled.replicas", "a"),
        ("leader.replication.throttled.replicas", "0:1,*"),
        ("leader.replication.throttled.replicas", "*"),
        ("local.retention.ms", "-3"),
        ("min.insync.replicas", "0"),
        ("min.insync.replicas", "5"),
        ("remote.storage.enable", "true"),
    ];
    refused.extend(values.map(|(key, value)| vec![with("value", &[(key, Some(value))])]));
    for topics in &refused {
        pair.once(&format!("{topics:?}"), |connection| create(connection, topics, true));
    }
}

type Described = BTreeMap<String, (Option<ErrorCode>, bool, i32, Vec<(i32, i32, Vec<i32>, Vec<i32>)>)>;

fn metadata(connection: &mut Connection, version: i16, topics: Option<&[&str]>, operations: bool) -> Described {
    let by_name = |name: &&'static str| MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(name) };
    let topics: Option<Vec<&'static str>> =
        topics.map(|names| names.iter().map(|it| &*it.to_string().leak()).collect());
    let request = MetadataRequest {
        topics: topics.map(|names| names.iter().map(by_name).collect()),
        allow_auto_topic_creation: version < 4,
        include_topic_authorized_operations: operations,
        ..MetadataRequest::default()
    };
    let answer = ask(connection, ApiKey::Metadata, version, &request);
    let answer: MetadataResponse<'_> = decode(&answer, version).expect("an answer");
    assert_eq!((answer.brokers.len(), answer.brokers[0].node_id, answer.brokers[0].host), (1, 1, "127.0.0.1"));
    assert!(version < 1 || answer.controller_id == 1);
    assert!(version < 2 || answer.cluster_id.is_some());
    let partition = |it: &metadata_response::MetadataResponsePartition| {
        (it.partition_index, it.leader_id, it.replica_nodes.clone(), it.isr_nodes.clone())
    };
    let described = answer.topics.iter().map(|it| {
        let mut partitions: Vec<_> = it.partitions.iter().map(partition).collect();
        partitions.sort();
        let code = ErrorCode::from_code(it.error_code);
        (it.name.unwrap_or("?").to_owned(), (code, it.is_internal, it.topic_authorized_operations, partitions))
    });
    described.collect()
}

fn descriptions(pair: &mut Pair) {
    for version in 1..=13 {
        let asked = ["three", "nope", "a b", "__consumer_offsets", "three"];
        // Before version 4 there is no way to ask without creating.
        let asked = if version < 4 { &asked[..1] } else { &asked };
        pair.same("Metadata", |connection| metadata(connection, version, Some(asked), version >= 8));
        pair.same("Metadata of nothing", |connection| metadata(connection, version, Some(&[]), false));
        pair.same("Metadata of all", |connection| metadata(connection, version, None, false));
    }
    pair.same("Metadata 0", |connection| metadata(connection, 0, Some(&[]), false));
    pair.same("Metadata by id", |connection| {
        let by_id = MetadataRequestTopic { topic_id: Uuid([5; 16]), name: None };
        let by_name = MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some("three") };
        let codes = |version, topics: Vec<MetadataRequestTopic<'static>>, connection: &mut Connection| {
            let request = MetadataRequest { topics: Some(topics), ..MetadataRequest::default() };
            let answer = ask(connection, ApiKey::Metadata, version, &request);
            let answer: MetadataResponse<'_> = decode(&answer, version).expect("an answer");
            let topics: Vec<_> =
                answer.topics.iter().map(|it| (it.error_code, it.name.map(str::to_owned), it.topic_id)).collect();
            (topics, answer.brokers.len())
        };
        (codes(13, vec![by_name.clone(), by_id.clone()], connection), codes(10, vec![by_id.clone()], connection))
    });
    /// Topics, the limit, and where to begin.
    type Page<'a> = (&'a [&'a str], i32, Option<(&'a str, i32)>);
    let pages: [Page<'_>; 9] = [
        (&["three", "nope", "default", "three"], 2000, None),
        (&["three", "default"], 2, None),
        (&["three", "default"], 2, Some(("three", 1))),
        (&["three", "default"], 1, None),
        (&["three", "default"], 4, None),
        (&["three", "default"], 3, Some(("three", 7))),
        (&["three", "default"], 3, Some(("three", -1))),
        (&["three", "default"], 3, Some(("gone", 1))),
        (&["three"], 0, None),
    ];
    for (names, limit, cursor) in pages {
        pair.same(&format!("page {names:?} {limit} {cursor:?}"), |connection| {
            let request = DescribeTopicPartitionsRequest {
                topics: names.iter().map(|name| TopicRequest { name }).collect(),
                response_partition_limit: limit,
                cursor: cursor.map(|(topic_name, partition_index)| Cursor { topic_name, partition_index }),
            };
            let answer = ask(connection, ApiKey::DescribeTopicPartitions, 0, &request);
            let mut answer: DescribeTopicPartitionsResponse<'_> = decode(&answer, 0).expect("an answer");
            answer.topics.iter_mut().for_each(|topic| topic.topic_id = Uuid::ZERO);
            format!("{answer:?}")
        });
    }
    for (version, kind) in [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)] {
        pair.same("DescribeCluster", |connection| {
            let request = DescribeClusterRequest {
                include_cluster_authorized_operations: true,
                endpoint_type: kind,
                include_fenced_brokers: version > 1,
            };
            let answer = ask(connection, ApiKey::DescribeCluster, version, &request);
            let answer: DescribeClusterResponse<'_> = decode(&answer, version).expect("an answer");
            let brokers: Vec<_> = answer.brokers.iter().map(|it| (it.broker_id, it.is_fenced)).collect();
            let fault = fault(answer.error_code, answer.error_message);
            (fault, answer.controller_id, brokers, answer.cluster_authorized_operations, answer.cluster_id.is_empty())
        });
    }
}

fn growth(pair: &mut Pair) {
    type Asked<'a> = Vec<(&'a str, i32, Option<&'a [&'a [i32]]>)>;
    let cases: Vec<Asked<'_>> = vec![
        vec![("three", 2, None), ("nope", 4, None), ("a b", 4, None)],
        vec![("three", 3, None)],
        vec![("three", 0, None), ("default", -1, None)],
        vec![("three", 5, Some(&[&[1]]))],
        vec![("three", 5, Some(&[]))],
        vec![("three", 5, Some(&[&[1], &[2]]))],
        vec![("three", 5, Some(&[&[1], &[1, 1]]))],
        vec![("three", 5, Some(&[&[], &[1]]))],
        vec![("three", 4, None), ("three", 5, None)],
        vec![("three", 5, Some(&[&[1], &[1]])), ("default", 2, None)],
        vec![],
    ];
    for topics in &cases {
        pair.once(&format!("{topics:?}"), |connection| {
            let assignment = |brokers: &&[i32]| CreatePartitionsAssignment { broker_ids: brokers.to_vec() };
            let topic = |it: &(&'static str, i32, Option<&[&[i32]]>)| CreatePartitionsTopic {
                name: it.0,
                count: it.1,
                assignments: it.2.map(|it| it.iter().map(assignment).collect()),
            };
            let request = CreatePartitionsRequest {
                topics: topics.iter().map(|it| topic(&(&*it.0.to_owned().leak(), it.1, it.2))).collect(),
                timeout_ms: 30_000,
                validate_only: false,
            };
            let answer = ask(connection, ApiKey::CreatePartitions, 3, &request);
            let answer: CreatePartitionsResponse<'_> = decode(&answer, 3).expect("an answer");
            let results = answer.results.iter().map(|it| (it.name.to_owned(), fault(it.error_code, it.error_message)));
            results.collect::<BTreeMap<_, _>>()
        });
    }
    pair.same("Metadata after growth", |connection| metadata(connection, 13, Some(&["three", "default"]), false));
}

fn deletions(pair: &mut Pair) {
    type Asked = Vec<(Option<&'static str>, u8)>;
    let cases: Vec<Asked> = vec![
        vec![(Some("nope"), 0), (None, 77), (None, 0), (Some("three"), 7)],
        vec![(Some("nope"), 0), (Some("nope"), 0), (None, 77), (None, 77)],
        vec![(Some("three"), 0), (Some("default"), 0)],
        vec![],
    ];
    for topics in &cases {
        pair.once(&format!("{topics:?}"), |connection| {
            let state = |it: &(Option<&'static str>, u8)| DeleteTopicState { name: it.0, topic_id: Uuid([it.1; 16]) };
            let request = DeleteTopicsRequest {
                topics: topics.iter().map(state).collect(),
                timeout_ms: 30_000,
                ..DeleteTopicsRequest::default()
            };
            let answer = ask(connection, ApiKey::DeleteTopics, 6, &request);
            let answer: DeleteTopicsResponse<'_> = decode(&answer, 6).expect("an answer");
            let result = |it: &delete_topics_response::DeletableTopicResult<'_>| {
                (it.name.map(str::to_owned), fault(it.error_code, it.error_message))
            };
            let mut results: Vec<_> = answer.responses.iter().map(result).map(|it| format!("{it:?}")).collect();
            results.sort();
            results
        });
    }
    pair.once("DeleteTopics 1", |connection| {
        let request = DeleteTopicsRequest {
            topic_names: vec!["nope", "twice", "twice", "listed"],
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let answer = ask(connection, ApiKey::DeleteTopics, 1, &request);
        let answer: DeleteTopicsResponse<'_> = decode(&answer, 1).expect("an answer");
        let results = answer.responses.iter().map(|it| (it.name.unwrap_or("?").to_owned(), it.error_code));
        results.collect::<BTreeMap<_, _>>()
    });
    pair.same("Metadata after deletions", |connection| metadata(connection, 13, None, false));
}

#[test]
#[ignore = "starts Apache Kafka beside Weir"]
fn admin_apis_answer_as_kafkas_do() {
    let _machine = cache::whole_machine();
    let suite = harness::suite!();
    let mut weir = Broker::start_peer(Peer::Weir, &suite, "parity-weir", &[]);
    let kafka = Broker::start_peer(Peer::Kafka, &suite, "parity-kafka", &[]);
    let open = |broker: &Broker| Connection::open(&broker.bootstrap()).expect("a connection");
    let mut pair = Pair { weir: open(&weir), kafka: open(&kafka) };
    creations(&mut pair);
    descriptions(&mut pair);
    growth(&mut pair);
    configs::all(&mut pair);
    deletions(&mut pair);
    configs::restarts(&mut pair, &mut weir);
}
