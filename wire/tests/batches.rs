//! Record batches against Apache Kafka's own classes, both ways and in every codec.
//!
//! Needs Maven, a JDK and, the first time, the network: `cargo test -p wire --test batches -- --include-ignored`.

mod support;

use std::fmt::Write as _;

use support::jars;
use support::rng::Rng;
use wire::batch::{BatchBuilder, BatchView, Header, NewRecord};
use wire::compression::{Codec, compress_snappy_raw};

#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn kafka_reads_what_is_written_here_and_the_other_way_round() {
    let mut rng = Rng::new(5);
    let mut batches = Vec::new();
    for codec in Codec::ALL {
        // One block of each codec's framing, and many.
        for records in [1, 7, 300, 4000] {
            batches.push(batch(&mut rng, codec, records));
        }
    }
    batches.push(snappy_without_framing(&mut rng));

    let lines: String = batches.iter().map(|batch| hex(batch) + "\n").collect();
    let output = jars::java(&jars::client_class_path(), "Batches.java", &[], lines);
    assert_eq!(output.lines().count(), batches.len());
    for (ours, line) in batches.iter().zip(output.lines()) {
        let (text, theirs) = line.split_once(' ').expect("two words");
        assert!(describe(ours) == text, "Kafka reads another batch: {} bytes of {}", ours.len(), &text[..20]);
        assert!(describe(&unhex(theirs)) == text, "another batch is read here: {}", &text[..20]);
    }
}

fn batch(rng: &mut Rng, codec: Codec, records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    builder.producer(4711, 3, 17).transactional(records == 7).assigned(1000, 5);
    for i in 0..records {
        let key = format!("sensor-{}", rng.below(100));
        let mut value = format!("temperature {} at {i}; ", rng.below(40)).repeat(1 + rng.below(8)).into_bytes();
        value.extend((0..rng.below(40)).map(|_| rng.next() as u8));
        let headers = [Header { key: b"unit", value: Some(b"C") }, Header { key: b"place", value: Some(&value[..5]) }];
        let record = NewRecord {
            timestamp: 1_700_000_000_000 + rng.below(100_000) as i64,
            key: (rng.below(5) > 0).then_some(key.as_bytes()),
            value: (rng.below(9) > 0).then_some(&value),
            headers: &headers[..rng.below(3)],
        };
        builder.push(&record).unwrap();
    }
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

/// A batch as librdkafka compresses it.
fn snappy_without_framing(rng: &mut Rng) -> Vec<u8> {
    let plain = batch(rng, Codec::None, 300);
    let plain = BatchView::parse(&plain).unwrap();
    let mut body = Vec::new();
    compress_snappy_raw(plain.body(), &mut body).unwrap();
    let mut header = plain.header();
    header.attributes = header.attributes.with_codec(Codec::Snappy);
    let mut out = Vec::new();
    header.write(&body, &mut out).unwrap();
    out
}

/// What a batch holds, as `Batches.java` prints it.
fn describe(bytes: &[u8]) -> String {
    let batch = BatchView::parse(bytes).unwrap();
    assert_eq!(batch.total_len(), bytes.len());
    assert!(batch.crc_matches());
    batch.validate_counts().unwrap();
    let mut scratch = Vec::new();
    let body = batch.decompress(16 << 20, &mut scratch).unwrap();
    let mut text = format!("{},{}", batch.codec().unwrap(), batch.max_timestamp());
    for record in batch.records_in(body) {
        let record = record.unwrap();
        let field = |bytes: Option<&[u8]>| bytes.map_or("null".to_string(), hex);
        write!(text, "|{},{},{},{}", record.offset, record.timestamp, field(record.key), field(record.value)).unwrap();
        for header in record.headers {
            write!(text, ",{}={}", String::from_utf8_lossy(header.key), field(header.value)).unwrap();
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}
