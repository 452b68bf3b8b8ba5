use super::*;
use crate::error::ErrorCode;
use crate::messages::{self, produce_request, produce_response};
use crate::test_random::Random;
use crate::{EncodeError, Message, Uuid};

const VERSIONS: std::ops::RangeInclusive<i16> = MIN_VERSION..=MAX_VERSION;
const NAMES: [&str; 4] = ["t", "sensors", "", "a-topic.with_a-longer.name"];

/// What the view shows, in the form of the generated message.
fn message<'a>(view: &ProduceView<'a>) -> messages::ProduceRequest<'a> {
    messages::ProduceRequest {
        transactional_id: view.transactional_id,
        acks: view.acks,
        timeout_ms: view.timeout_ms,
        topic_data: view
            .topics()
            .map(|topic| {
                let (name, topic_id) = match topic.topic {
                    TopicRef::Name(name) => (name, Uuid::ZERO),
                    TopicRef::Id(id) => ("", id),
                };
                let partition_data = topic
                    .partitions
                    .map(|p| produce_request::PartitionProduceData { index: p.index, records: p.records })
                    .collect();
                produce_request::TopicProduceData { name, topic_id, partition_data }
            })
            .collect(),
    }
}

fn random_request(random: &mut Random, version: i16) -> messages::ProduceRequest<'static> {
    static RECORDS: [u8; 300] = [0xab; 300];
    messages::ProduceRequest {
        transactional_id: (version >= 3 && random.chance(2)).then(|| random.pick(&NAMES)),
        acks: random.pick(&[-1, 0, 1]),
        timeout_ms: random.i32(),
        topic_data: (0..random.below(4))
            .map(|_| produce_request::TopicProduceData {
                name: if version < 13 { random.pick(&NAMES) } else { "" },
                topic_id: if version < 13 { Uuid::ZERO } else { Uuid([random.bits() as u8; 16]) },
                partition_data: (0..random.below(4))
                    .map(|_| produce_request::PartitionProduceData {
                        index: random.i32(),
                        records: (!random.chance(4)).then(|| &RECORDS[..random.below(300)]),
                    })
                    .collect(),
            })
            .collect(),
    }
}

/// Reads by the view and by the generated codec: both refuse, or both see the same.
fn agree(body: &[u8], version: i16) -> bool {
    let mut r = Reader::new(body);
    let decoded = messages::ProduceRequest::decode(&mut r, version).and_then(|m| r.finish().map(|()| m));
    match (ProduceView::parse(body, version), decoded) {
        (Ok(view), Ok(decoded)) => {
            assert_eq!(message(&view), decoded, "version {version}, {body:02x?}");
            let counted: usize = view.topics().map(|topic| topic.partitions.len()).sum();
            assert_eq!(view.partition_count, counted);
            assert_eq!(view.topics().len(), view.topics().count());
            true
        }
        (Err(_), Err(_)) => false,
        (view, decoded) => panic!("version {version}, {body:02x?}: {view:?}, {decoded:?}"),
    }
}

#[test]
fn requests_as_the_generated_codec_reads_them() {
    for version in VERSIONS {
        let mut random = Random::new(version as u64);
        for _ in 0..300 {
            let request = random_request(&mut random, version);
            let mut body = Vec::new();
            request.encode(&mut body, version).unwrap();
            assert!(agree(&body, version));
            for len in 0..body.len().min(60) {
                assert!(!agree(&body[..len], version), "cut at {len}");
            }
        }
    }
}

#[test]
fn mutated_requests_never_panic() {
    for version in VERSIONS {
        let mut random = Random::new(100 + version as u64);
        for _ in 0..3000 {
            let mut body = Vec::new();
            random_request(&mut random, version).encode(&mut body, version).unwrap();
            random.mutate(&mut body);
            agree(&body, version);
        }
    }
}

#[test]
fn request_by_name() {
    #[rustfmt::skip]
    let body = [
        0xff, 0xff,                          // no transactional id
        0xff, 0xff,                          // acks -1
        0, 0, 0x75, 0x30,                    // 30,000 ms
        0, 0, 0, 2,
        0, 2, b't', b'1', 0, 0, 0, 2,        // t1
        0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3,     // 0: three bytes
        0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff,  // 7: null
        0, 2, b't', b'2', 0, 0, 0, 0,        // t2
    ];
    for version in 3..=8 {
        let view = ProduceView::parse(&body, version).unwrap();
        assert_eq!((view.transactional_id, view.acks, view.timeout_ms), (None, -1, 30_000));
        assert_eq!(view.partition_count, 2);
        for _ in 0..2 {
            let mut topics = view.topics();
            let first = topics.next().unwrap();
            assert_eq!(first.topic, TopicRef::Name("t1"));
            assert_eq!(
                first.partitions.collect::<Vec<_>>(),
                [
                    ProducePartition { index: 0, records: Some(&[1, 2, 3]) },
                    ProducePartition { index: 7, records: None }
                ]
            );
            let second = topics.next().unwrap();
            assert_eq!((second.topic, second.partitions.len()), (TopicRef::Name("t2"), 0));
            assert!(topics.next().is_none());
        }
    }
}

#[test]
fn request_by_id_with_unknown_tags() {
    #[rustfmt::skip]
    let body = [
        3, b't', b'x',
        0, 1,
        0, 0, 0, 5,
        2,
        9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
        2,
        0, 0, 0, 1, 3, 0xaa, 0xbb, 1, 5, 2, 0, 0, // tag 5 of two bytes
        1, 0, 1, 0xcc,                            // tag 0 of one byte
        2, 1, 0, 4, 0,                            // two empty tags
    ];
    let view = ProduceView::parse(&body, 13).unwrap();
    assert_eq!((view.transactional_id, view.acks, view.timeout_ms), (Some("tx"), 1, 5));
    let topic = view.topics().next().unwrap();
    assert_eq!(topic.topic, TopicRef::Id(Uuid([9; 16])));
    assert_eq!(topic.partitions.collect::<Vec<_>>(), [ProducePartition { index: 1, records: Some(&[0xaa, 0xbb]) }]);
    assert!(agree(&body, 13));
}

#[test]
fn requests_that_lie() {
    let start = [0xff, 0xff, 0, 1, 0, 0, 0, 5];
    let error = |rest: &[u8], version| ProduceView::parse(&[&start[..], rest].concat(), version).unwrap_err();
    assert_eq!(error(&[0x7f, 0xff, 0xff, 0xff], 3), DecodeError::ArrayTooLong);
    assert_eq!(error(&[0xff, 0xff, 0xff, 0xff], 3), DecodeError::UnexpectedNull);
    assert_eq!(error(&[0x80, 0, 0, 0], 3), DecodeError::NegativeLength);
    assert_eq!(error(&[0, 0, 0, 0, 0], 3), DecodeError::TrailingBytes);
    assert_eq!(error(&[0, 0, 0, 1, 0, 1, 0xff, 0, 0, 0, 0], 3), DecodeError::InvalidUtf8);
    let records = [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    assert_eq!(error(&records, 3), DecodeError::UnexpectedEnd);
    for version in [-1, 14, i16::MAX] {
        assert_eq!(ProduceView::parse(&start, version).unwrap_err(), DecodeError::UnsupportedVersion);
    }
}

const RECORD_FAILURES: [RecordFailure<'_>; 2] =
    [RecordFailure { batch_index: 3, message: Some("too old") }, RecordFailure { batch_index: 9, message: None }];
const ENDPOINTS: [NodeEndpoint<'_>; 2] = [
    NodeEndpoint { node_id: 1, host: "localhost", port: 9092, rack: None },
    NodeEndpoint { node_id: 2, host: "other.example", port: 9093, rack: Some("r1") },
];

#[test]
fn responses_as_the_generated_codec_writes_them() {
    for version in VERSIONS {
        let mut random = Random::new(200 + version as u64);
        for _ in 0..200 {
            let endpoints = &ENDPOINTS[..random.below(3)];
            let throttle_time_ms = random.i32();
            let topics: Vec<(TopicRef<'_>, Vec<ProducedPartition<'_>>)> = (0..random.below(4))
                .map(|_| {
                    let topic = if version < 13 {
                        TopicRef::Name(random.pick(&NAMES))
                    } else {
                        TopicRef::Id(Uuid([random.bits() as u8; 16]))
                    };
                    (topic, (0..random.below(4)).map(|_| random_partition(&mut random)).collect())
                })
                .collect();

            let mut out = vec![1, 2, 3];
            let mut writer = ProduceResponseWriter::new(&mut out, version, topics.len()).unwrap();
            for (topic, partitions) in &topics {
                writer.topic(*topic, partitions.len()).unwrap();
                for partition in partitions {
                    writer.partition(partition).unwrap();
                }
            }
            writer.finish(throttle_time_ms, endpoints).unwrap();

            let mut expected = vec![1, 2, 3];
            generated(&topics, throttle_time_ms, endpoints, version).encode(&mut expected, version).unwrap();
            assert_eq!(out, expected, "version {version}");
        }
    }
}

fn random_partition(random: &mut Random) -> ProducedPartition<'static> {
    ProducedPartition {
        index: random.i32(),
        error: random.pick(&[ErrorCode::None, ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownServerError]),
        base_offset: random.i64(),
        log_append_time_ms: random.i64(),
        log_start_offset: random.i64(),
        record_errors: &RECORD_FAILURES[..random.below(3)],
        error_message: random.chance(2).then_some("a message"),
        current_leader: random.chance(2).then(|| CurrentLeader { leader_id: random.below(9) as i32, leader_epoch: 5 }),
    }
}

/// The same response as the generated message, without what the version has no field for.
fn generated<'a>(
    topics: &[(TopicRef<'a>, Vec<ProducedPartition<'a>>)],
    throttle_time_ms: i32,
    endpoints: &[NodeEndpoint<'a>],
    version: i16,
) -> messages::ProduceResponse<'a> {
    let partition = |p: &ProducedPartition<'a>| produce_response::PartitionProduceResponse {
        index: p.index,
        error_code: p.error as i16,
        base_offset: p.base_offset,
        log_append_time_ms: p.log_append_time_ms,
        log_start_offset: p.log_start_offset,
        record_errors: p
            .record_errors
            .iter()
            .map(|e| produce_response::BatchIndexAndErrorMessage {
                batch_index: e.batch_index,
                batch_index_error_message: e.message,
            })
            .collect(),
        error_message: p.error_message,
        current_leader: p
            .current_leader
            .filter(|_| version >= 10)
            .map(|l| produce_response::LeaderIdAndEpoch { leader_id: l.leader_id, leader_epoch: l.leader_epoch })
            .unwrap_or_default(),
    };
    messages::ProduceResponse {
        responses: topics
            .iter()
            .map(|(topic, partitions)| {
                let (name, topic_id) = match *topic {
                    TopicRef::Name(name) => (name, Uuid::ZERO),
                    TopicRef::Id(id) => ("", id),
                };
                let partition_responses = partitions.iter().map(partition).collect();
                produce_response::TopicProduceResponse { name, topic_id, partition_responses }
            })
            .collect(),
        throttle_time_ms,
        node_endpoints: endpoints
            .iter()
            .filter(|_| version >= 10)
            .map(|e| produce_response::NodeEndpoint { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack })
            .collect(),
    }
}

#[test]
fn response_by_hand() {
    let mut out = Vec::new();
    let mut writer = ProduceResponseWriter::new(&mut out, 3, 1).unwrap();
    writer.topic(TopicRef::Name("t1"), 1).unwrap();
    writer.partition(&ProducedPartition { index: 4, base_offset: 258, ..ProducedPartition::default() }).unwrap();
    writer.finish(7, &[]).unwrap();
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 1, 0, 2, b't', b'1', 0, 0, 0, 1,
        0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 255, 255, 255, 255, 255, 255, 255, 255,
        0, 0, 0, 7,
    ];
    assert_eq!(out, expected);
}

#[test]
fn a_topic_is_named_as_the_version_does() {
    let mut out = Vec::new();
    let mut topic =
        |version, topic| ProduceResponseWriter::new(&mut out, version, 1).and_then(|mut writer| writer.topic(topic, 0));
    assert!(matches!(topic(13, TopicRef::Name("t")), Err(EncodeError::NotInVersion(_))));
    assert!(matches!(topic(12, TopicRef::Id(Uuid::ZERO)), Err(EncodeError::NotInVersion(_))));
    assert_eq!(topic(-1, TopicRef::Name("t")), Err(EncodeError::UnsupportedVersion(-1)));
    assert_eq!(topic(14, TopicRef::Name("t")), Err(EncodeError::UnsupportedVersion(14)));
}

#[test]
#[should_panic(expected = "the last topic lacks 1 partitions")]
fn a_response_holds_what_it_announces() {
    let mut out = Vec::new();
    let mut writer = ProduceResponseWriter::new(&mut out, 9, 1).unwrap();
    writer.topic(TopicRef::Name("t"), 2).unwrap();
    writer.partition(&ProducedPartition::default()).unwrap();
    let _ = writer.finish(0, &[]);
}
