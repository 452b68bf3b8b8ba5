//! Frames and answers captured from Apache Kafka 4.3.1.
//!
//! `frames/API.txt` holds requests as Kafka's own classes encode them and the broker's responses, one exchange a line:
//! `version TAB case TAB request TAB response`, in hex without the length in front. `frames/answers.txt` holds what the
//! responses say, as JSON with what differs from run to run masked: `api TAB version TAB case TAB response`.
//! `Capture.java` makes both. To capture again:
//! `WEIR_TEST_PEER=kafka WEIR_GOLDEN_UPDATE=1 cargo test --test golden -- --ignored`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::broker::{Broker, Peer};
use harness::process::run;
use harness::{cache, provision, suite};
use wire::api::ApiKey;
use wire::header::{self, RequestHeader};
use wire::messages::*;
use wire::{Message, Reader};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
const ANSWERS: &str = "answers.txt";
/// What both brokers are started with: no topics by accident, no waiting for more members of a group, and assignments at
/// once, in the answer to the request that makes them necessary.
const SETTINGS: [(&str, &str); 5] = [
    ("auto.create.topics.enable", "false"),
    ("node.id", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.consumer.assignment.interval.ms", "0"),
    ("group.consumer.assignor.offload.enable", "false"),
];

/// Where Weir's answers differ from Kafka's on purpose: the API, the case (any where it is empty), what Kafka says and
/// what Weir says in its place.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    // A fresh Kafka writes this default down as a dynamic one of the cluster (KIP-966); Weir has no such step.
    ("", "", MIN_INSYNC_DYNAMIC, MIN_INSYNC_DEFAULT),
    // Kafka fails inside and says so; Weir says what is wrong with the request.
    (
        "IncrementalAlterConfigs",
        "unknown-operation",
        "\"errorCode\":-1,\"errorMessage\":null",
        "\"errorCode\":42,\"errorMessage\":\"*\"",
    ),
    // Kafka repeats the batch's newest timestamp as if it were the time of the append. No client looks at it.
    ("Produce", "duplicate", "\"logAppendTimeMs\":1760000000005", "\"logAppendTimeMs\":-1"),
    // Beside an error no client looks at the start of the log, and Weir may not have asked the partition.
    ("Produce", "control-batch", "\"logStartOffset\":0", "\"logStartOffset\":-1"),
    ("Produce", "from-the-future", "\"logStartOffset\":0", "\"logStartOffset\":-1"),
    ("Produce", "sequence-gap", "\"logStartOffset\":0", "\"logStartOffset\":-1"),
];
const MIN_INSYNC_DYNAMIC: &str = r#""name":"min.insync.replicas","value":"1","readOnly":false,"configSource":3"#;
const MIN_INSYNC_DEFAULT: &str = r#""name":"min.insync.replicas","value":"1","readOnly":false,"configSource":5"#;

/// Every API that a single broker serves to plain clients and tools, with the types of its messages.
macro_rules! served {
    ($visit:ident) => {
        $visit!(
            AddOffsetsToTxn AddOffsetsToTxnRequest AddOffsetsToTxnResponse,
            AddPartitionsToTxn AddPartitionsToTxnRequest AddPartitionsToTxnResponse,
            AlterConfigs AlterConfigsRequest AlterConfigsResponse,
            AlterPartitionReassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
            AlterReplicaLogDirs AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse,
            ApiVersions ApiVersionsRequest ApiVersionsResponse,
            ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse,
            ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
            CreateAcls CreateAclsRequest CreateAclsResponse,
            CreatePartitions CreatePartitionsRequest CreatePartitionsResponse,
            CreateTopics CreateTopicsRequest CreateTopicsResponse,
            DeleteGroups DeleteGroupsRequest DeleteGroupsResponse,
            DeleteAcls DeleteAclsRequest DeleteAclsResponse,
            DeleteRecords DeleteRecordsRequest DeleteRecordsResponse,
            DeleteTopics DeleteTopicsRequest DeleteTopicsResponse,
            DescribeAcls DescribeAclsRequest DescribeAclsResponse,
            DescribeCluster DescribeClusterRequest DescribeClusterResponse,
            DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse,
            DescribeGroups DescribeGroupsRequest DescribeGroupsResponse,
            DescribeLogDirs DescribeLogDirsRequest DescribeLogDirsResponse,
            DescribeProducers DescribeProducersRequest DescribeProducersResponse,
            DescribeQuorum DescribeQuorumRequest DescribeQuorumResponse,
            DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
            DescribeTransactions DescribeTransactionsRequest DescribeTransactionsResponse,
            ElectLeaders ElectLeadersRequest ElectLeadersResponse,
            EndTxn EndTxnRequest EndTxnResponse,
            Fetch FetchRequest FetchResponse,
            FindCoordinator FindCoordinatorRequest FindCoordinatorResponse,
            Heartbeat HeartbeatRequest HeartbeatResponse,
            IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
            InitProducerId InitProducerIdRequest InitProducerIdResponse,
            JoinGroup JoinGroupRequest JoinGroupResponse,
            LeaveGroup LeaveGroupRequest LeaveGroupResponse,
            ListGroups ListGroupsRequest ListGroupsResponse,
            ListConfigResources ListConfigResourcesRequest ListConfigResourcesResponse,
            ListOffsets ListOffsetsRequest ListOffsetsResponse,
            ListPartitionReassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
            ListTransactions ListTransactionsRequest ListTransactionsResponse,
            Metadata MetadataRequest MetadataResponse,
            OffsetCommit OffsetCommitRequest OffsetCommitResponse,
            OffsetDelete OffsetDeleteRequest OffsetDeleteResponse,
            OffsetFetch OffsetFetchRequest OffsetFetchResponse,
            OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
            Produce ProduceRequest ProduceResponse,
            SyncGroup SyncGroupRequest SyncGroupResponse,
            TxnOffsetCommit TxnOffsetCommitRequest TxnOffsetCommitResponse,
            UnregisterBroker UnregisterBrokerRequest UnregisterBrokerResponse,
            UpdateFeatures UpdateFeaturesRequest UpdateFeaturesResponse,
            WriteTxnMarkers WriteTxnMarkersRequest WriteTxnMarkersResponse,
        )
    };
}

#[test]
fn frames_decode_completely_and_encode_to_the_same_bytes() {
    for frame in frames(&Path::new(GOLDEN).join("frames")) {
        check_frame(&frame);
    }
}

/// Kafka's own versions decide, so that a version that is forgotten here is found.
#[test]
fn every_version_of_every_served_api_is_captured() {
    let mut captured: BTreeMap<ApiKey, BTreeSet<i16>> = BTreeMap::new();
    let frames = frames(&Path::new(GOLDEN).join("frames"));
    for frame in &frames {
        captured.entry(frame.api).or_default().insert(frame.version);
    }
    let listed = frames.iter().find(|frame| frame.api == ApiKey::ApiVersions && frame.version == 4);
    let listed = listed.expect("a frame of ApiVersions 4");
    let mut reader = Reader::new(&listed.response);
    header::decode_response(&mut reader, ApiKey::ApiVersions, 4).expect("a response header");
    let listed = ApiVersionsResponse::decode(&mut reader, 4).expect("a response");
    assert_eq!(captured.len(), 49);
    for (api, versions) in captured {
        let kafka = listed.api_keys.iter().find(|entry| entry.api_key == api.key()).expect("Kafka serves it");
        // Kafka lists Produce from 0 for the sake of librdkafka and serves it from 3.
        let first = kafka.min_version.max(api.info().kafka_min_version);
        assert_eq!(versions, (first..=kafka.max_version).collect(), "versions of {api}");
    }
}

/// Asks the broker what Kafka was asked, in every version, and compares the answers field by field.
#[test]
#[ignore = "needs Java, and Apache Kafka's classes from Maven"]
fn golden_answers_are_those_of_kafka() {
    let _machine = cache::whole_machine();
    let broker = Broker::start(&suite!(), "golden", &SETTINGS);
    let jars = provision::kafka();
    let captured = broker.dir().join("frames");
    let mut capture = Command::new(jars.java());
    capture.args(["-Xmx512m", "-cp", &jars.class_path()]).arg(Path::new(GOLDEN).join("Capture.java"));
    run(capture.arg(broker.bootstrap()).arg(&captured), &broker.dir().join("capture.log"));

    for frame in frames(&captured) {
        check_frame(&frame);
    }
    let update = std::env::var("WEIR_GOLDEN_UPDATE").is_ok_and(|value| value == "1");
    if update && Peer::from_environment() == Peer::Kafka {
        replace_frames(&captured);
    }
    let expected = answers(&Path::new(GOLDEN).join("frames").join(ANSWERS));
    let found = answers(&captured.join(ANSWERS));
    let mut different = Vec::new();
    let weir = Peer::from_environment() == Peer::Weir;
    let mut used = BTreeSet::new();
    for (question, answer) in &expected {
        let answer = if weir { &as_weir_says(question, answer, &mut used) } else { answer };
        match found.get(question) {
            Some(same) if same == answer => {}
            Some(other) => different.push(format!("{question}\n    Kafka {answer}\n    here  {other}")),
            None => different.push(format!("{question}\n    Kafka {answer}\n    here  nothing")),
        }
    }
    assert!(
        different.is_empty(),
        "{} of {} answers differ from Kafka's\n{}",
        different.len(),
        expected.len(),
        different.join("\n")
    );
    assert_eq!(found.len(), expected.len());
    assert!(!weir || used.len() == DIFFERENCES.len(), "of DIFFERENCES only {used:?} are there");
}

/// Kafka's answer with Weir's differences; `used` collects which they were.
fn as_weir_says(question: &str, answer: &str, used: &mut BTreeSet<usize>) -> String {
    let mut words = question.split(' ');
    let (api, case) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
    let mut answer = answer.to_owned();
    for (number, (of_api, of_case, kafka, weir)) in DIFFERENCES.iter().enumerate() {
        let applies = [(of_api, api), (of_case, case)].iter().all(|(of, this)| of.is_empty() || *of == this);
        if applies && answer.contains(kafka) {
            answer = answer.replace(kafka, weir);
            used.insert(number);
        }
    }
    answer
}

/// One captured exchange.
struct Frame {
    api: ApiKey,
    version: i16,
    case: String,
    request: Vec<u8>,
    response: Vec<u8>,
}

fn frames(dir: &Path) -> Vec<Frame> {
    let mut frames = Vec::new();
    for path in files(dir) {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let Some(api) = ApiKey::ALL.iter().find(|api| api.name() == name) else {
            assert_eq!(path.file_name().expect("a file has a name"), ANSWERS, "a file of no API");
            continue;
        };
        for line in read(&path).lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            let [version, case, request, response] = columns[..] else { panic!("{}: {line:?}", path.display()) };
            frames.push(Frame {
                api: *api,
                version: version.parse().expect("a version is a number"),
                case: case.to_owned(),
                request: unhex(request),
                response: unhex(response),
            });
        }
    }
    assert!(!frames.is_empty(), "no frames in {}", dir.display());
    frames
}

fn check_frame(frame: &Frame) {
    let Frame { api, version, case, request, response } = frame;
    let what = format!("{api} {version} {case}");
    let mut reader = Reader::new(request);
    let head = RequestHeader::decode(&mut reader).unwrap_or_else(|error| panic!("{what}: request header: {error:?}"));
    assert_eq!((head.api, head.version), (*api, *version), "{what}");
    let mut head_again = Vec::new();
    head.encode(&mut head_again).unwrap_or_else(|error| panic!("{what}: request header: {error:?}"));
    let request_body = &request[head_again.len()..];
    assert_eq!(head_again, request[..head_again.len()], "{what}: request header");

    let mut reader = Reader::new(response);
    let correlation_id = header::decode_response(&mut reader, *api, *version)
        .unwrap_or_else(|error| panic!("{what}: response header: {error:?}"));
    assert_eq!(correlation_id, head.correlation_id, "{what}");
    let mut head_again = Vec::new();
    header::encode_response(&mut head_again, *api, *version, correlation_id);
    let response_body = &response[head_again.len()..];
    assert_eq!(head_again, response[..head_again.len()], "{what}: response header");

    macro_rules! dispatch {
        ($($name:ident $request:ident $response:ident,)*) => {
            match api {
                $(ApiKey::$name => {
                    round_trip::<$request>(&format!("{what}: request"), request_body, *version);
                    round_trip::<$response>(&format!("{what}: response"), response_body, *version);
                })*
                other => panic!("{other} is not among the APIs served"),
            }
        };
    }
    served!(dispatch);
}

fn round_trip<'a, M: Message<'a> + Debug>(what: &str, bytes: &'a [u8], version: i16) {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    reader.finish().unwrap_or_else(|error| panic!("{what}: {error:?} after {message:?}"));
    let mut again = Vec::new();
    message.encode(&mut again, version).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(
        again == bytes,
        "{what}: encodes to other bytes: {message:?}\n captured {bytes:02x?}\n  encoded {again:02x?}"
    );
}

/// Question (api, version, case) to answer.
fn answers(path: &Path) -> BTreeMap<String, String> {
    let text = read(path);
    let lines = text.lines().map(|line| {
        let (question, answer) = line.rsplit_once('\t').unwrap_or_else(|| panic!("{}: {line:?}", path.display()));
        (question.replace('\t', " "), answer.to_owned())
    });
    lines.collect()
}

fn replace_frames(captured: &Path) {
    let committed = Path::new(GOLDEN).join("frames");
    std::fs::create_dir_all(&committed).unwrap_or_else(|error| panic!("{}: {error}", committed.display()));
    for path in files(&committed) {
        std::fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    for path in files(captured) {
        let to = committed.join(path.file_name().expect("a file has a name"));
        std::fs::copy(&path, &to).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", dir.display())).path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn unhex(text: &str) -> Vec<u8> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of hex digits");
    pairs
        .iter()
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hex digits are ASCII");
            u8::from_str_radix(pair, 16).expect("hex digits")
        })
        .collect()
}
