use super::*;
use crate::error::ErrorCode;
use crate::messages::{self, fetch_request, fetch_response};
use crate::test_random::Random;
use crate::{EncodeError, Message};

const VERSIONS: std::ops::RangeInclusive<i16> = MIN_VERSION..=MAX_VERSION;
const NAMES: [&str; 4] = ["t", "sensors", "", "a-topic.with_a-longer.name"];

fn name_and_id(topic: TopicRef<'_>) -> (&str, Uuid) {
    match topic {
        TopicRef::Name(name) => (name, Uuid::ZERO),
        TopicRef::Id(id) => ("", id),
    }
}

/// What the view shows, in the form of the generated message.
fn message<'a>(view: &FetchView<'a>, version: i16) -> messages::FetchRequest<'a> {
    let in_state = version >= 15;
    messages::FetchRequest {
        cluster_id: view.cluster_id,
        replica_id: if in_state { -1 } else { view.replica_id },
        replica_state: fetch_request::ReplicaState {
            replica_id: if in_state { view.replica_id } else { -1 },
            replica_epoch: view.replica_epoch,
        },
        max_wait_ms: view.max_wait_ms,
        min_bytes: view.min_bytes,
        max_bytes: view.max_bytes,
        isolation_level: view.isolation_level,
        session_id: view.session_id,
        session_epoch: view.session_epoch,
        topics: view
            .topics()
            .map(|topic| {
                let (name, topic_id) = name_and_id(topic.topic);
                let partitions = topic
                    .partitions
                    .map(|p| fetch_request::FetchPartition {
                        partition: p.index,
                        current_leader_epoch: p.current_leader_epoch,
                        fetch_offset: p.fetch_offset,
                        last_fetched_epoch: p.last_fetched_epoch,
                        log_start_offset: p.log_start_offset,
                        partition_max_bytes: p.max_bytes,
                        replica_directory_id: p.replica_directory_id,
                        high_watermark: p.high_watermark,
                    })
                    .collect();
                fetch_request::FetchTopic { topic: name, topic_id, partitions }
            })
            .collect(),
        forgotten_topics_data: view
            .forgotten()
            .map(|topic| {
                let (name, topic_id) = name_and_id(topic.topic);
                fetch_request::ForgottenTopic { topic: name, topic_id, partitions: topic.partitions.collect() }
            })
            .collect(),
        rack_id: view.rack_id,
    }
}

fn random_topic(random: &mut Random, version: i16) -> TopicRef<'static> {
    if version < 13 { TopicRef::Name(random.pick(&NAMES)) } else { TopicRef::Id(Uuid([random.bits() as u8; 16])) }
}

fn random_request(random: &mut Random, version: i16) -> messages::FetchRequest<'static> {
    let replica_id = random.i32();
    messages::FetchRequest {
        cluster_id: (version >= 12 && random.chance(2)).then(|| random.pick(&NAMES)),
        replica_id: if version < 15 { replica_id } else { -1 },
        replica_state: if version < 15 || random.chance(2) {
            fetch_request::ReplicaState::default()
        } else {
            fetch_request::ReplicaState { replica_id, replica_epoch: random.i64() }
        },
        max_wait_ms: random.i32(),
        min_bytes: random.i32(),
        max_bytes: if version < 3 { i32::MAX } else { random.i32() },
        isolation_level: if version < 4 { 0 } else { random.below(3) as i8 },
        session_id: if version < 7 { 0 } else { random.i32() },
        session_epoch: if version < 7 { -1 } else { random.i32() },
        topics: (0..random.below(4))
            .map(|_| {
                let (topic, topic_id) = name_and_id(random_topic(random, version));
                let partitions = (0..random.below(4)).map(|_| random_partition(random, version)).collect();
                fetch_request::FetchTopic { topic, topic_id, partitions }
            })
            .collect(),
        forgotten_topics_data: (0..if version < 7 { 0 } else { random.below(3) })
            .map(|_| {
                let (topic, topic_id) = name_and_id(random_topic(random, version));
                let partitions = (0..random.below(4)).map(|_| random.i32()).collect();
                fetch_request::ForgottenTopic { topic, topic_id, partitions }
            })
            .collect(),
        rack_id: if version < 11 { "" } else { random.pick(&NAMES) },
    }
}

fn random_partition(random: &mut Random, version: i16) -> fetch_request::FetchPartition {
    fetch_request::FetchPartition {
        partition: random.i32(),
        current_leader_epoch: if version < 9 { -1 } else { random.i32() },
        fetch_offset: random.i64(),
        last_fetched_epoch: if version < 12 { -1 } else { random.i32() },
        log_start_offset: if version < 5 { -1 } else { random.i64() },
        partition_max_bytes: random.i32(),
        replica_directory_id: if version < 17 || random.chance(2) { Uuid::ZERO } else { Uuid([7; 16]) },
        high_watermark: if version < 18 || random.chance(2) { i64::MAX } else { random.i64() },
    }
}

/// Reads by the view and by the generated codec: both refuse, or both see the same.
fn agree(body: &[u8], version: i16) -> bool {
    let mut r = Reader::new(body);
    let decoded = messages::FetchRequest::decode(&mut r, version).and_then(|m| r.finish().map(|()| m));
    match (FetchView::parse(body, version), decoded) {
        (Ok(view), Ok(decoded)) => {
            assert_eq!(message(&view, version), decoded, "version {version}, {body:02x?}");
            let counted: usize = view.topics().map(|topic| topic.partitions.len()).sum();
            assert_eq!(view.partition_count, counted);
            assert_eq!(view.topics().len(), view.topics().count());
            assert_eq!(view.forgotten().len(), view.forgotten().count());
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
            let mut body = Vec::new();
            random_request(&mut random, version).encode(&mut body, version).unwrap();
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
        for _ in 0..2000 {
            let mut body = Vec::new();
            random_request(&mut random, version).encode(&mut body, version).unwrap();
            random.mutate(&mut body);
            agree(&body, version);
        }
    }
}

#[test]
fn request_of_version_4() {
    #[rustfmt::skip]
    let body = [
        0xff, 0xff, 0xff, 0xff,  // a consumer
        0, 0, 1, 0xf4,           // 500 ms
        0, 0, 0, 1,
        0, 0x10, 0, 0,           // 1 MiB
        1,                       // read committed
        0, 0, 0, 1, 0, 2, b't', b'1', 0, 0, 0, 1,
        0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x10, 0,
    ];
    let view = FetchView::parse(&body, 4).unwrap();
    assert_eq!((view.replica_id, view.max_wait_ms, view.min_bytes, view.max_bytes), (-1, 500, 1, 1 << 20));
    assert_eq!((view.isolation_level, view.session_id, view.session_epoch, view.rack_id), (1, 0, -1, ""));
    let topic = view.topics().next().unwrap();
    assert_eq!(topic.topic, TopicRef::Name("t1"));
    let expected = FetchPartition {
        index: 3,
        current_leader_epoch: -1,
        fetch_offset: 256,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 4096,
        replica_directory_id: Uuid::ZERO,
        high_watermark: i64::MAX,
    };
    assert_eq!(topic.partitions.collect::<Vec<_>>(), [expected]);
    assert_eq!(view.forgotten().count(), 0);
}

#[test]
fn request_of_version_18() {
    #[rustfmt::skip]
    let body = [
        0, 0, 1, 0xf4, 0, 0, 0, 1, 0, 0x10, 0, 0, 0,
        0, 0, 0, 9, 0, 0, 0, 2,                                                 // session 9, epoch 2
        2,
        8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8,
        2,
        0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x10, 0,
        2, 0, 16, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5,               // directory id
        1, 8, 0, 0, 0, 0, 0, 0, 0, 77,                                          // high watermark
        0,
        2,
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, // forget 1 and 2
        3, b'r', b'1',
        3, 0, 2, 2 - 1, b'c', 1, 13, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 12, 0, 9, 0,
    ];
    // The cluster id of tag 0 says one byte more than its string has.
    assert_eq!(FetchView::parse(&body, 18).unwrap_err(), DecodeError::TagTooLong);
    let mut body = body;
    let at = body.len() - 19;
    assert_eq!(body[at..at + 2], [1, b'c']);
    body[at] = 2;
    let view = FetchView::parse(&body, 18).unwrap();
    assert_eq!((view.session_id, view.session_epoch, view.rack_id), (9, 2, "r1"));
    assert_eq!((view.cluster_id, view.replica_id, view.replica_epoch), (Some("c"), 4, 12));
    let topic = view.topics().next().unwrap();
    assert_eq!(topic.topic, TopicRef::Id(Uuid([8; 16])));
    let expected = FetchPartition {
        index: 3,
        current_leader_epoch: 6,
        fetch_offset: 256,
        last_fetched_epoch: 5,
        log_start_offset: 1,
        max_bytes: 4096,
        replica_directory_id: Uuid([5; 16]),
        high_watermark: 77,
    };
    assert_eq!(topic.partitions.collect::<Vec<_>>(), [expected]);
    let forgotten = view.forgotten().next().unwrap();
    assert_eq!(forgotten.topic, TopicRef::Id(Uuid([4; 16])));
    assert_eq!(forgotten.partitions.collect::<Vec<_>>(), [1, 2]);
    assert!(agree(&body, 18));
}

#[test]
fn versions_that_are_not_read() {
    for version in [-1, 19, i16::MAX] {
        assert_eq!(FetchView::parse(&[0; 100], version).unwrap_err(), DecodeError::UnsupportedVersion);
    }
}

const ABORTED: [AbortedTransaction; 2] =
    [AbortedTransaction { producer_id: 4, first_offset: 100 }, AbortedTransaction { producer_id: 5, first_offset: 7 }];
const ENDPOINTS: [NodeEndpoint<'_>; 2] = [
    NodeEndpoint { node_id: 1, host: "localhost", port: 9092, rack: None },
    NodeEndpoint { node_id: 2, host: "other.example", port: 9093, rack: Some("r1") },
];
static RECORDS: [u8; 20_000] = [0xcd; 20_000];

fn random_fetched(random: &mut Random) -> FetchedPartition<'static> {
    FetchedPartition {
        index: random.i32(),
        error: random.pick(&[ErrorCode::None, ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownServerError]),
        high_watermark: random.i64(),
        last_stable_offset: random.i64(),
        log_start_offset: random.i64(),
        aborted_transactions: random.chance(2).then(|| &ABORTED[..random.below(3)]),
        preferred_read_replica: random.i32(),
        diverging_epoch: random.chance(3).then_some(EpochEnd { epoch: 3, end_offset: 300 }),
        current_leader: random.chance(3).then_some(CurrentLeader { leader_id: 2, leader_epoch: 9 }),
        snapshot_id: random.chance(3).then_some(EpochEnd { epoch: 1, end_offset: 10 }),
        records_len: (!random.chance(5)).then(|| random.pick(&[0, 1, 126, 127, 128, 16_383, 20_000])),
    }
}

/// The same response as the generated message, without what the version has no field for.
fn generated<'a>(
    topics: &[(TopicRef<'a>, Vec<FetchedPartition<'a>>)],
    endpoints: &[NodeEndpoint<'a>],
    version: i16,
) -> messages::FetchResponse<'a> {
    let partition = |p: &FetchedPartition<'a>| fetch_response::PartitionData {
        partition_index: p.index,
        error_code: p.error as i16,
        high_watermark: p.high_watermark,
        last_stable_offset: p.last_stable_offset,
        log_start_offset: p.log_start_offset,
        diverging_epoch: p
            .diverging_epoch
            .filter(|_| version >= 12)
            .map(|e| fetch_response::EpochEndOffset { epoch: e.epoch, end_offset: e.end_offset })
            .unwrap_or_default(),
        current_leader: p
            .current_leader
            .filter(|_| version >= 12)
            .map(|l| fetch_response::LeaderIdAndEpoch { leader_id: l.leader_id, leader_epoch: l.leader_epoch })
            .unwrap_or_default(),
        snapshot_id: p
            .snapshot_id
            .filter(|_| version >= 12)
            .map(|e| fetch_response::SnapshotId { end_offset: e.end_offset, epoch: e.epoch })
            .unwrap_or_default(),
        aborted_transactions: p.aborted_transactions.map(|aborted| {
            aborted
                .iter()
                .map(|t| fetch_response::AbortedTransaction {
                    producer_id: t.producer_id,
                    first_offset: t.first_offset,
                })
                .collect()
        }),
        preferred_read_replica: if version >= 11 { p.preferred_read_replica } else { -1 },
        records: p.records_len.map(|len| &RECORDS[..len]),
    };
    messages::FetchResponse {
        throttle_time_ms: 11,
        error_code: if version >= 7 { ErrorCode::FetchSessionIdNotFound as i16 } else { 0 },
        session_id: if version >= 7 { 12 } else { 0 },
        responses: topics
            .iter()
            .map(|(topic, partitions)| {
                let (name, topic_id) = name_and_id(*topic);
                let partitions = partitions.iter().map(partition).collect();
                fetch_response::FetchableTopicResponse { topic: name, topic_id, partitions }
            })
            .collect(),
        node_endpoints: endpoints
            .iter()
            .filter(|_| version >= 16)
            .map(|e| fetch_response::NodeEndpoint { node_id: e.node_id, host: e.host, port: e.port, rack: e.rack })
            .collect(),
    }
}

#[test]
fn responses_as_the_generated_codec_writes_them() {
    const FRAME_AT: usize = 3;
    for version in VERSIONS {
        let mut random = Random::new(200 + version as u64);
        for _ in 0..200 {
            let endpoints = &ENDPOINTS[..random.below(3)];
            let topics: Vec<(TopicRef<'_>, Vec<FetchedPartition<'_>>)> = (0..random.below(4))
                .map(|_| {
                    let topic = random_topic(&mut random, version);
                    (topic, (0..random.below(4)).map(|_| random_fetched(&mut random)).collect())
                })
                .collect();

            // Something before the frame, its length, a header of five bytes, the body.
            let mut out = vec![9; FRAME_AT];
            out.extend([0; 4]);
            out.extend([1, 2, 3, 4, 5]);
            let mut splices = Vec::new();
            let error = ErrorCode::FetchSessionIdNotFound;
            let mut writer = FetchResponseWriter::new(&mut out, version, 11, error, 12, topics.len()).unwrap();
            for (topic, partitions) in &topics {
                writer.topic(*topic, partitions.len()).unwrap();
                for partition in partitions {
                    splices.push((writer.partition(partition).unwrap(), partition.records_len.unwrap_or(0)));
                }
            }
            let total = writer.finish(FRAME_AT, endpoints).unwrap();

            // What the sender does.
            let (mut sent, mut from) = (Vec::new(), 0);
            for (at, len) in splices {
                sent.extend_from_slice(&out[from..at]);
                sent.extend_from_slice(&RECORDS[..len]);
                from = at;
            }
            sent.extend_from_slice(&out[from..]);
            assert_eq!(sent.len(), FRAME_AT + total);
            let length = i32::from_be_bytes(sent[FRAME_AT..FRAME_AT + 4].try_into().unwrap());
            assert_eq!(length as usize, total - 4);

            let mut expected = Vec::new();
            generated(&topics, endpoints, version).encode(&mut expected, version).unwrap();
            assert_eq!(&sent[FRAME_AT + 9..], expected, "version {version}");
        }
    }
}

#[test]
fn response_by_hand() {
    let mut out = vec![0; 4];
    let mut writer = FetchResponseWriter::new(&mut out, 4, 7, ErrorCode::None, 0, 1).unwrap();
    writer.topic(TopicRef::Name("t1"), 1).unwrap();
    let partition = FetchedPartition { index: 4, high_watermark: 258, records_len: Some(61), ..Default::default() };
    assert_eq!(writer.partition(&partition), Ok(50));
    assert_eq!(writer.finish(0, &[]), Ok(50 + 61));
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 107,
        0, 0, 0, 7, 0, 0, 0, 1, 0, 2, b't', b'1', 0, 0, 0, 1,
        0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 0, 0, 0, 61,
    ];
    assert_eq!(out, expected);
}

#[test]
fn a_frame_is_at_most_two_gigabytes() {
    let mut out = vec![0; 4];
    let mut writer = FetchResponseWriter::new(&mut out, 12, 0, ErrorCode::None, 0, 1).unwrap();
    writer.topic(TopicRef::Name("t"), 3).unwrap();
    let partition = |records_len| FetchedPartition { records_len: Some(records_len), ..FetchedPartition::default() };
    assert_eq!(writer.partition(&partition(1 << 31)), Err(EncodeError::TooLong));
    writer.partition(&partition(i32::MAX as usize)).unwrap();
    writer.partition(&partition(1)).unwrap();
    assert_eq!(writer.finish(0, &[]), Err(EncodeError::TooLong));
}

#[test]
#[should_panic(expected = "the topic before lacks 1 partitions")]
fn a_response_holds_what_it_announces() {
    let mut out = Vec::new();
    let mut writer = FetchResponseWriter::new(&mut out, 12, 0, ErrorCode::None, 0, 2).unwrap();
    writer.topic(TopicRef::Name("t"), 1).unwrap();
    let _ = writer.topic(TopicRef::Name("u"), 1);
}
