//! What the micro-benchmarks work on: the same bytes in every run.

use wire::Message;
use wire::batch::{BatchBuilder, NewRecord};
use wire::compression::Codec;
use wire::messages::{MetadataResponse, ProduceRequest, metadata_response, produce_request};

/// The version of Produce that is measured: the last with topic names, whose text is checked.
pub const PRODUCE_VERSION: i16 = 12;

/// The version of Metadata that is measured.
pub const METADATA_VERSION: i16 = 13;

/// Whether a benchmark runs once, to show that it still works: with `--test`, and without the `--bench` that Cargo adds for
/// `cargo bench`. Criterion sees it the same way.
#[must_use]
pub fn is_test_run() -> bool {
    !std::env::args().any(|arg| arg == "--bench") || std::env::args().any(|arg| arg == "--test")
}

/// Bytes without a pattern that a codec or a CPU could use.
#[must_use]
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A batch of `records` records, each with a value of 100 bytes.
///
/// # Panics
/// If `records` is zero.
#[must_use]
pub fn batch(records: usize, codec: Codec) -> Vec<u8> {
    let values = noise(100 * records);
    let mut builder = BatchBuilder::new(codec);
    for (i, value) in values.chunks(100).enumerate() {
        let record = NewRecord { timestamp: 1_700_000_000_000 + i as i64, value: Some(value), ..NewRecord::default() };
        builder.push(&record).expect("the record is small");
    }
    let mut batch = Vec::new();
    builder.finish(&mut batch).expect("there are records");
    batch
}

/// The body of a Produce request with this batch for each of `partitions` partitions of one topic.
///
/// # Panics
/// If the request is too large for its format.
#[must_use]
pub fn produce_request(batch: &[u8], partitions: i32) -> Vec<u8> {
    let partition = |index| produce_request::PartitionProduceData { index, records: Some(batch) };
    let partition_data = (0..partitions).map(partition).collect();
    let topic = produce_request::TopicProduceData { name: "sensors", partition_data, ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let mut body = Vec::new();
    request.encode(&mut body, PRODUCE_VERSION).expect("the request is valid");
    body
}

/// A Metadata response: one broker and `topics` topics of ten partitions.
#[must_use]
pub fn metadata_response(topics: usize) -> MetadataResponse<'static> {
    let partition = |partition_index| metadata_response::MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    let topic = metadata_response::MetadataResponseTopic {
        name: Some("sensors"),
        topic_id: wire::Uuid([7; 16]),
        partitions: (0..10).map(partition).collect(),
        ..Default::default()
    };
    MetadataResponse {
        brokers: vec![metadata_response::MetadataResponseBroker {
            node_id: 1,
            host: "localhost",
            port: 9092,
            ..Default::default()
        }],
        cluster_id: Some("4L6g3nShT-eMCtK--X86sw"),
        topics: vec![topic; topics],
        ..Default::default()
    }
}
