//! Message sets of magic 0 and 1 against Apache Kafka's own classes, both ways and in every codec that they know.
//!
//! Needs Maven, a JDK and, the first time, the network: `cargo test -p wire --test message_sets -- --include-ignored`.

mod support;

use std::fmt::Write as _;

use support::jars;
use support::rng::Rng;
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;
use wire::message_set::{Down, Magic, from_batch, to_batch};

const CAP: usize = 16 << 20;
const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4];

struct Case {
    magic: Magic,
    /// The batch that a broker stores.
    stored: Vec<u8>,
    /// Its messages, as they are written here.
    set: Vec<u8>,
}

#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn kafka_reads_what_is_written_here_and_the_other_way_round() {
    let mut rng = Rng::new(8);
    let mut cases = Vec::new();
    for magic in [Magic::V0, Magic::V1] {
        for codec in CODECS {
            for append_time in [None, Some(1_700_000_999_999)] {
                // One block of each codec's framing, and many.
                for records in [1, 7, 300, 4000] {
                    let stored = batch(&mut rng, codec, records, append_time);
                    let mut set = Vec::new();
                    let view = BatchView::parse(&stored).unwrap();
                    assert_eq!(from_batch(&view, magic, 0, usize::MAX, CAP, &mut set), Ok(Down::Whole));
                    cases.push(Case { magic, stored, set });
                }
            }
        }
    }

    let lines: String = cases.iter().map(|case| hex(&case.set) + "\n").collect();
    let output = jars::java(&jars::client_class_path(), "MessageSets.java", &[], lines);
    assert_eq!(output.lines().count(), cases.len());
    for (case, line) in cases.iter().zip(output.lines()) {
        let (text, theirs) = line.split_once(' ').expect("two words");
        let stored = BatchView::parse(&case.stored).unwrap();
        let codec = stored.codec().unwrap();
        let what = format!("{:?}, {codec}, {} records", case.magic, stored.record_count());
        assert!(describe(&stored, case.magic, stored.base_offset()) == text, "{what}: Kafka reads other messages");

        // What Kafka writes of the same records: converted to a batch here it holds the same again.
        let theirs = unhex(theirs);
        if codec == Codec::None {
            assert!(case.set == theirs, "{what}: Kafka writes other bytes");
        }
        let mut back = Vec::new();
        assert_eq!(to_batch(&theirs, None, CAP, &mut back), Ok(stored.record_count() as usize), "{what}");
        let back = BatchView::parse(&back).unwrap();
        assert!(describe(&back, case.magic, stored.base_offset()) == text, "{what}: other messages are read here");
    }
}

fn batch(rng: &mut Rng, codec: Codec, records: usize, append_time: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    builder.assigned(1000, 5).log_append_time(append_time);
    for i in 0..records {
        let key = format!("sensor-{}", rng.below(100));
        let mut value = format!("temperature {} at {i}; ", rng.below(40)).repeat(1 + rng.below(8)).into_bytes();
        value.extend((0..rng.below(40)).map(|_| rng.next() as u8));
        let record = NewRecord {
            timestamp: 1_700_000_000_000 + rng.below(100_000) as i64,
            key: (rng.below(5) > 0).then_some(key.as_bytes()),
            value: (rng.below(9) > 0).then_some(&value),
            headers: &[],
        };
        builder.push(&record).unwrap();
    }
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

/// What a batch holds as far as messages of this magic can say it, as `MessageSets.java` prints it.
fn describe(batch: &BatchView<'_>, magic: Magic, base_offset: i64) -> String {
    let mut scratch = Vec::new();
    let body = batch.decompress(CAP, &mut scratch).unwrap();
    let is_stamped = magic == Magic::V1 && batch.max_timestamp() == 1_700_000_999_999;
    let mut text = format!("{},{},{is_stamped}", magic as u8, batch.codec().unwrap());
    for record in batch.records_in(body) {
        let record = record.unwrap();
        let field = |bytes: Option<&[u8]>| bytes.map_or("null".to_string(), hex);
        let timestamp = if magic == Magic::V1 { record.timestamp } else { -1 };
        let offset = base_offset + i64::from(record.offset_delta);
        write!(text, "|{offset},{timestamp},{},{}", field(record.key), field(record.value)).unwrap();
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
