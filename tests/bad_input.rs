//! What no stock client sends: the broker answers it as Kafka does, and goes on serving everyone else.

use harness::broker::{Broker, Peer};
use harness::raw::{self, Connection, Producer};
use harness::suite;
use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::header::{self, RequestHeader};
use wire::messages::*;
use wire::{Message, Reader};

const TOPIC: &str = "input";

fn start(name: &str) -> (Broker, Connection) {
    let broker = Broker::start(&suite!(), name, &[("auto.create.topics.enable", "false")]);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    assert_eq!(connection.create_topic(TOPIC, 2, &[]).expect("an answer"), 0);
    (broker, connection)
}

fn frame(api_key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let correlation_id = 7i32;
    let client_id = [&5i16.to_be_bytes()[..], b"tests"].concat();
    [&api_key.to_be_bytes()[..], &version.to_be_bytes(), &correlation_id.to_be_bytes(), &client_id, rest].concat()
}

fn metadata_works(bootstrap: &str) {
    let mut connection = Connection::open(bootstrap).expect("a connection");
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let body = connection.call(ApiKey::Metadata, 12, &request).expect("an answer");
    let answer: MetadataResponse<'_> = raw::decode(&body, 12).expect("a Metadata response");
    assert_eq!(answer.brokers.len(), 1);
}

/// KIP-511: a client of a newer version learns the versions from the refusal.
#[test]
fn unknown_version_of_api_versions_is_answered() {
    let (_broker, mut connection) = start("bad-api-versions");
    // A flexible header (its tags empty), then a body of a version that nobody knows.
    connection.send_frame(&frame(18, 99, &[0, 1, 2, 3])).expect("sent");
    let answer = connection.receive().expect("an answer").expect("an open connection");
    let mut reader = Reader::new(&answer);
    assert_eq!(header::decode_response(&mut reader, ApiKey::ApiVersions, 0).expect("a header"), 7);
    let answer = ApiVersionsResponse::decode(&mut reader, 0).expect("a response of version 0");
    reader.finish().expect("nothing behind the response");
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion as i16);
    let own = answer.api_keys.iter().find(|entry| entry.api_key == 18).expect("ApiVersions itself is listed");
    assert_eq!((own.min_version, own.max_version), (0, 4));
    // The connection goes on.
    let body = connection.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).expect("an answer");
    let answer: ApiVersionsResponse<'_> = raw::decode(&body, 0).expect("a response");
    assert_eq!(answer.error_code, 0);
}

/// Kafka closes the connection on everything that it cannot read, since it cannot know what comes next.
#[test]
fn unreadable_requests_close_the_connection() {
    let (broker, _) = start("bad-frames");
    let huge = i32::MAX.to_be_bytes();
    let metadata_v9 = |body: &[u8]| frame(3, 9, &[&[0][..], body].concat());
    let cases: [(&str, Vec<u8>); 9] = [
        ("unknown version", with_length(&frame(3, 99, &[0, 0]))),
        ("negative version", with_length(&frame(3, -1, &[0, 0]))),
        ("unknown API", with_length(&frame(999, 0, &[]))),
        ("API of controllers", with_length(&frame(52, 0, &[0, 0, 0]))),
        ("body cut short", with_length(&frame(3, 1, &[0, 0]))),
        ("array of two thousand million", with_length(&frame(3, 1, &huge))),
        ("compact array of two thousand million", with_length(&metadata_v9(&[0xff, 0xff, 0xff, 0xff, 0x07]))),
        ("negative length", (-1i32).to_be_bytes().to_vec()),
        ("frame of two gigabytes", huge.to_vec()),
    ];
    for (what, bytes) in cases {
        let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
        connection.send_bytes(&bytes).expect("sent");
        let answer = connection.receive().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(answer.is_none(), "{what}: answered with {answer:02x?}");
        metadata_works(&broker.bootstrap());
    }
    // A client that goes away in the middle of a frame.
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    connection.send_bytes(&[0, 0, 1, 0, 0, 3]).expect("sent");
    drop(connection);
    metadata_works(&broker.bootstrap());
}

/// librdkafka sends some behind Metadata requests.
#[test]
fn bytes_behind_a_request_are_ignored() {
    let (_broker, mut connection) = start("trailing-bytes");
    for version in [1, 12] {
        let mut request = Vec::new();
        let head = RequestHeader { api: ApiKey::Metadata, version, correlation_id: 3, client_id: None };
        head.encode(&mut request).expect("a header");
        MetadataRequest { topics: None, ..Default::default() }.encode(&mut request, version).expect("a request");
        request.extend_from_slice(&[0, 1, 2]);
        connection.send_frame(&request).expect("sent");
        let body = connection.answer(ApiKey::Metadata, version, 3).expect("an answer");
        let answer: MetadataResponse<'_> = raw::decode(&body, version).expect("a Metadata response");
        assert_eq!(answer.topics.len(), 1);
    }
}

#[test]
fn damaged_batches_are_refused_and_leave_no_trace() {
    let (_broker, mut connection) = start("bad-batches");
    let good = raw::batch(None, &[b"one".to_vec(), b"two".to_vec()]);
    let change = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        batch
    };
    let with_crc = |mut batch: Vec<u8>| {
        let crc = wire::batch::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    };
    // Kafka takes the whole batches at the beginning, which must be one: a cut one is none.
    let corrupt = ErrorCode::CorruptMessage;
    let invalid = ErrorCode::InvalidRecord;
    // Kafka has no answer ready for a codec that it does not know, and reports its own failure; Weir says what is wrong.
    let unknown_codec = match Peer::from_environment() {
        Peer::Kafka => ErrorCode::UnknownServerError,
        Peer::Weir => ErrorCode::UnsupportedCompressionType,
    };
    let cases = [
        ("a damaged record", change(good.len() - 2, b"X"), corrupt),
        ("a damaged header", change(30, &[9]), corrupt),
        ("a wrong CRC", change(17, &[1, 2, 3, 4]), corrupt),
        ("a length beyond the end", change(8, &9_999u32.to_be_bytes()), invalid),
        ("a length of nothing", change(8, &0u32.to_be_bytes()), corrupt),
        ("magic 1", change(16, &[1]), invalid),
        ("magic 9", change(16, &[9]), corrupt),
        ("half a batch", good[..40].to_vec(), invalid),
        ("half a header", good[..10].to_vec(), invalid),
        ("no batch", Vec::new(), invalid),
        ("two batches", [good.clone(), good.clone()].concat(), invalid),
        ("more records than there are", with_crc(change(57, &3u32.to_be_bytes())), invalid),
        ("a negative number of records", with_crc(change(57, &(-1i32).to_be_bytes())), invalid),
        ("an offset delta that lies", with_crc(change(23, &7u32.to_be_bytes())), invalid),
        ("an unknown codec", with_crc(change(22, &[7])), unknown_codec),
    ];
    let mut different = Vec::new();
    for (what, batch, expected) in cases {
        let produced = connection.produce(TOPIC, 0, &batch);
        match produced {
            Ok(produced) if (produced.error_code, produced.base_offset) == (expected as i16, -1) => {}
            other => different.push(format!("{what}: expected {} {expected:?}, got {other:?}", expected as i16)),
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(connection.end_offset(TOPIC, 0).expect("an answer"), 0);
    assert_eq!(connection.produce(TOPIC, 0, &good).expect("an answer").base_offset, 0);
    let fetched = connection.fetch(TOPIC, 0, 0).expect("an answer");
    assert_eq!(raw::values(&fetched.records), Ok(vec![(0, b"one".to_vec()), (1, b"two".to_vec())]));
}

/// A request without acknowledgement has no answer to carry an error, so Kafka closes the connection.
#[test]
fn unacknowledged_requests_have_no_answer() {
    let (broker, mut connection) = start("acks-0");
    let batch = raw::batch(None, &[b"quiet".to_vec()]);
    connection.send_produce(TOPIC, 0, &batch, 0).expect("sent");
    let correlation_id = connection.send_fetch(TOPIC, 0, 0, 30_000, 1).expect("sent");
    let fetched = connection.fetched(correlation_id).expect("the answer to the next request comes first");
    assert_eq!(raw::values(&fetched.records), Ok(vec![(0, b"quiet".to_vec())]));

    let mut damaged = batch;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    connection.send_produce(TOPIC, 0, &damaged, 0).expect("sent");
    assert_eq!(connection.receive().expect("no time-out"), None);
    metadata_works(&broker.bootstrap());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (broker, mut connection) = start("pipelined");
    let mut other = Connection::open(&broker.bootstrap()).expect("a connection");
    // The first one waits for data that comes last; everything behind it must wait for its turn to be answered.
    let waiting = connection.send_fetch(TOPIC, 1, 0, 30_000, 1).expect("sent");
    let produced: Vec<i32> = (0..100)
        .map(|number: i32| {
            let batch = raw::batch(None, &[number.to_be_bytes().to_vec()]);
            connection.send_produce(TOPIC, 0, &batch, -1).expect("sent")
        })
        .collect();
    let metadata = MetadataRequest { topics: None, ..Default::default() };
    let listed = connection.send(ApiKey::Metadata, 12, &metadata).expect("sent");

    assert_eq!(other.produce(TOPIC, 1, &raw::batch(None, &[b"wake".to_vec()])).expect("an answer").error_code, 0);
    let fetched = connection.fetched(waiting).expect("the waiting fetch is answered first");
    assert_eq!(raw::values(&fetched.records), Ok(vec![(0, b"wake".to_vec())]));
    for (offset, correlation_id) in (0..).zip(produced) {
        assert_eq!(connection.produced(correlation_id).expect("an answer").base_offset, offset);
    }
    let body = connection.answer(ApiKey::Metadata, 12, listed).expect("an answer");
    let answer: MetadataResponse<'_> = raw::decode(&body, 12).expect("a Metadata response");
    assert_eq!(answer.topics.len(), 1);
}

/// A frame may arrive byte by byte, and many may arrive at once.
#[test]
fn frames_arrive_in_any_pieces() {
    let (_broker, mut connection) = start("pieces");
    let mut one = Vec::new();
    let head = RequestHeader { api: ApiKey::Metadata, version: 12, correlation_id: 5, client_id: None };
    head.encode(&mut one).expect("a header");
    MetadataRequest { topics: None, ..Default::default() }.encode(&mut one, 12).expect("a request");
    let bytes = with_length(&one);
    for byte in &bytes {
        connection.send_bytes(&[*byte]).expect("sent");
    }
    assert!(connection.receive().expect("an answer").is_some());
    connection.send_bytes(&bytes.repeat(500)).expect("sent");
    for _ in 0..500 {
        connection.answer(ApiKey::Metadata, 12, 5).expect("an answer");
    }
}

#[test]
fn idle_fetch_is_answered_when_its_time_is_over() {
    let (_broker, mut connection) = start("idle-fetch");
    let correlation_id = connection.send_fetch(TOPIC, 0, 0, 50, 1).expect("sent");
    let fetched = connection.fetched(correlation_id).expect("an answer");
    assert_eq!((fetched.error_code, fetched.high_watermark, fetched.records.len()), (0, 0, 0));
}

/// The sequence of a producer is checked across restarts: what was written is remembered.
#[test]
fn producer_sequences_survive_a_restart() {
    let (mut broker, mut connection) = start("sequences");
    let (id, epoch) = connection.init_producer().expect("a producer id");
    let batch = |sequence: i32| {
        raw::batch(Some(Producer { id, epoch, sequence }), &[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()])
    };
    for number in 0..7 {
        assert_eq!(
            connection.produce(TOPIC, 0, &batch(3 * number)).expect("an answer").base_offset,
            i64::from(3 * number)
        );
    }
    for restarted in [false, true] {
        if restarted {
            broker.kill();
            broker.resume();
            connection = Connection::open(&broker.bootstrap()).expect("a connection");
        }
        // The last five batches are duplicates whose first offset is known; a gap is an error. Kafka's snapshots keep one
        // batch, so after a restart it knows less.
        let first_known = if restarted && Peer::from_environment() == Peer::Kafka { 6 } else { 2 };
        for number in first_known..7 {
            let produced = connection.produce(TOPIC, 0, &batch(3 * number)).expect("an answer");
            assert_eq!(
                (produced.error_code, produced.base_offset),
                (0, i64::from(3 * number)),
                "restarted: {restarted}"
            );
        }
        let gap = connection.produce(TOPIC, 0, &batch(100)).expect("an answer");
        assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber as i16);
        assert_eq!(connection.end_offset(TOPIC, 0).expect("an answer"), 21);
    }
    assert_eq!(connection.produce(TOPIC, 0, &batch(21)).expect("an answer").base_offset, 21);
}

fn with_length(frame: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frame.len()).expect("a small frame");
    [&len.to_be_bytes()[..], frame].concat()
}
