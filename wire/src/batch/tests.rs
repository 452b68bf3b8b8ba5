use proptest::prelude::*;

use super::*;

/// Written by the Java classes of Apache Kafka 4.3.1 (`MemoryRecordsBuilder`, `MemoryRecords.withEndTransactionMarker`).
mod golden {
    pub(super) const NONE: &str = "00000000000000000000008dffffffff02febf861d0000000000020000018bcfe568000000018bcfe5680700000000000012670003000000110000000386010000001073656e736f722d315032312e3520646567726565732c2032312e3520646567726565732c2032312e3520646567726565730408756e69740243086e6f6e65010e000e02010278001c0009041073656e736f722d320100";
    pub(super) const GZIP: &str = "000000000000000000000083ffffffff02cd9901d50001000000020000018bcfe568000000018bcfe568070000000000001267000300000011000000031f8b08000000000000ff6b6364606010284ecd2bce2fd2350c3032d4335548494d2f4a4d2dd651c0cd63e128cdcb2c6172e6c8cbcf4b65e463e0636264aa609061e064819965c4c800009cc189b35c000000";
    pub(super) const SNAPPY: &str = "00000000000000000000008dffffffff027748c3780002000000020000018bcfe568000000018bcfe5680700000000000012670003000000110000000382534e41505059000000000100000001000000485c7086010000001073656e736f722d315032312e3520646567726565732c20660e00900408756e69740243086e6f6e65010e000e02010278001c0009041073656e736f722d320100";
    pub(super) const LZ4: &str = "000000000000000000000089ffffffff02ccac485a0003000000020000018bcfe568000000018bcfe5680700000000000012670003000000110000000304224d1860408249000000ff0e86010000001073656e736f722d315032312e3520646567726565732c200e0007f0160408756e69740243086e6f6e65010e000e02010278001c0009041073656e736f722d32010000000000";
    pub(super) const ZSTD: &str = "000000000000000000000081ffffffff028058f45c0004000000020000018bcfe568000000018bcfe5680700000000000012670003000000110000000328b52ffd0058240200a40386010000001073656e736f722d315032312e3520646567726565732c200408756e69740243086e6f6e65010e000e02010278001c00090432010002003e8118853df3010000";
    pub(super) const COMMIT: &str = "000000000000000000000042ffffffff02a8da87310030000000000000018bcfe568000000018bcfe5680000000000000012670003ffffffff000000012000000008000000010c00000000000900";
    pub(super) const ABORT: &str = "000000000000002a0000004200000005020f79cefa0030000000000000018bcfe568010000018bcfe5680100000000000012670003ffffffff000000012000000008000000000c00000000000900";
    pub(super) const LOG_APPEND_TIME: &str = "000000000000006400000039000000070232eae6880008000000000000018bcfe568000000018bcfe56cd2ffffffffffffffffffffffffffff000000010e00000001027600";
}

const TIME: i64 = 1_700_000_000_000;
const HEADERS: [Header<'_>; 2] = [Header { key: b"unit", value: Some(b"C") }, Header { key: b"none", value: None }];
const VALUE: &[u8] = b"21.5 degrees, 21.5 degrees, 21.5 degrees";

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// The records of the golden batches.
fn golden_records() -> [NewRecord<'static>; 3] {
    [
        NewRecord { timestamp: TIME, key: Some(b"sensor-1"), value: Some(VALUE), headers: &HEADERS },
        NewRecord { timestamp: TIME + 7, key: None, value: Some(b"x"), headers: &[] },
        NewRecord { timestamp: TIME - 5, key: Some(b"sensor-2"), value: None, headers: &[] },
    ]
}

fn built(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    builder.producer(4711, 3, 17);
    for record in golden_records() {
        builder.push(&record).unwrap();
    }
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

fn assert_records(records: Records<'_>, base_offset: i64, expected: &[NewRecord<'_>]) {
    let mut count = 0;
    for (i, (record, expected)) in records.zip(expected).enumerate() {
        let record = record.unwrap();
        assert_eq!(record.offset, base_offset + i as i64);
        assert_eq!(record.offset_delta, i as i32);
        assert_eq!((record.timestamp, record.key, record.value), (expected.timestamp, expected.key, expected.value));
        assert_eq!(record.headers.len(), expected.headers.len());
        assert_eq!(record.headers.collect::<Vec<_>>(), expected.headers);
        count += 1;
    }
    assert_eq!(count, expected.len());
}

#[test]
fn batches_of_kafka() {
    for (codec, hex) in [
        (Codec::None, golden::NONE),
        (Codec::Gzip, golden::GZIP),
        (Codec::Snappy, golden::SNAPPY),
        (Codec::Lz4, golden::LZ4),
        (Codec::Zstd, golden::ZSTD),
    ] {
        let bytes = unhex(hex);
        let batch = BatchView::parse(&bytes).unwrap();
        assert_eq!(batch.total_len(), bytes.len());
        assert!(batch.crc_matches());
        assert_eq!(batch.codec(), Ok(codec));
        assert_eq!(batch.validate_counts(), Ok(()));
        let header = BatchHeader {
            base_offset: 0,
            leader_epoch: -1,
            attributes: Attributes(i16::from(codec.id())),
            last_offset_delta: 2,
            base_timestamp: TIME,
            max_timestamp: TIME + 7,
            producer_id: 4711,
            producer_epoch: 3,
            base_sequence: 17,
            record_count: 3,
        };
        assert_eq!(batch.header(), header);
        assert_eq!(batch.last_sequence(), 19);
        let mut scratch = Vec::new();
        let body = batch.decompress(1000, &mut scratch).unwrap();
        assert_eq!(batch.records_in(body).validate(), Ok(()));
        assert_records(batch.records_in(body), 0, &golden_records());
        // What we build carries the same header and records; the compressed bytes may differ.
        let ours = built(codec);
        let ours = BatchView::parse(&ours).unwrap();
        assert_eq!(ours.header(), header);
        assert!(ours.crc_matches());
        let mut scratch = Vec::new();
        assert_eq!(ours.decompress(1000, &mut scratch).unwrap(), body);
    }
    assert_eq!(built(Codec::None), unhex(golden::NONE));
}

#[test]
fn ends_of_transactions() {
    let mut commit = Vec::new();
    write_end_transaction(&mut commit, EndTransaction::Commit, 4711, 3, 9, TIME).unwrap();
    assert_eq!(commit, unhex(golden::COMMIT));

    let mut abort = Vec::new();
    write_end_transaction(&mut abort, EndTransaction::Abort, 4711, 3, 9, TIME + 1).unwrap();
    assign(&mut abort, 42, 5);
    assert_eq!(abort, unhex(golden::ABORT));

    for (bytes, end) in [(commit, EndTransaction::Commit), (abort, EndTransaction::Abort)] {
        let batch = BatchView::parse(&bytes).unwrap();
        assert!(batch.attributes().is_control() && batch.attributes().is_transactional());
        let record = batch.records().unwrap().next().unwrap().unwrap();
        assert_eq!(ControlRecord::parse(&record), Ok(ControlRecord::EndTransaction { end, coordinator_epoch: 9 }));
    }
}

#[test]
fn control_records_that_are_none() {
    let parse = |key: Option<&'static [u8]>, value: Option<&'static [u8]>| {
        ControlRecord::parse(&Record {
            offset: 0,
            timestamp: 0,
            offset_delta: 0,
            timestamp_delta: 0,
            key,
            value,
            headers: Headers::default(),
        })
    };
    assert_eq!(parse(None, None), Err(ControlError::KeyCut));
    assert_eq!(parse(Some(&[0, 0, 0]), None), Err(ControlError::KeyCut));
    assert_eq!(parse(Some(&[0xff, 0xff, 0, 0]), None), Err(ControlError::KeyVersion(-1)));
    assert_eq!(parse(Some(&[0, 0, 0, 1]), None), Err(ControlError::ValueCut));
    assert_eq!(parse(Some(&[0, 0, 0, 1]), Some(&[0; 5])), Err(ControlError::ValueCut));
    assert_eq!(parse(Some(&[0, 0, 0, 1]), Some(&[0x80, 0, 0, 0, 0, 0])), Err(ControlError::ValueVersion(i16::MIN)));
    assert_eq!(parse(Some(&[0, 0, 0, 2]), Some(b"v")), Ok(ControlRecord::Other { kind: 2, value: Some(b"v") }));
}

#[test]
fn assigned_fields_lie_outside_the_crc() {
    let mut bytes = unhex(golden::NONE);
    let before = BatchView::parse(&bytes).unwrap().header();
    assign(&mut bytes, 1_000_000_007, 12);
    let batch = BatchView::parse(&bytes).unwrap();
    assert!(batch.crc_matches());
    assert_eq!(batch.header(), BatchHeader { base_offset: 1_000_000_007, leader_epoch: 12, ..before });
    assert_eq!(batch.last_offset(), 1_000_000_009);
    assert_records(batch.records().unwrap(), 1_000_000_007, &golden_records());
}

#[test]
fn log_append_time() {
    let bytes = unhex(golden::LOG_APPEND_TIME);
    let batch = BatchView::parse(&bytes).unwrap();
    assert!(batch.crc_matches());
    assert_eq!(batch.attributes().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.records().unwrap().next().unwrap().unwrap().timestamp, TIME + 1234);

    // The same, made from a batch of CreateTime as a broker does it, and by the builder.
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(&NewRecord { timestamp: TIME, value: Some(b"v"), ..NewRecord::default() }).unwrap();
    builder.assigned(100, 7);
    let mut stored = Vec::new();
    builder.finish(&mut stored).unwrap();
    assert_eq!(BatchView::parse(&stored).unwrap().attributes().timestamp_type(), TimestampType::CreateTime);
    set_log_append_time(&mut stored, TIME + 1234);
    assert_eq!(stored, bytes);

    let mut built = Vec::new();
    builder.log_append_time(Some(TIME + 1234)).finish(&mut built).unwrap();
    assert_eq!(built, bytes);
}

#[test]
fn headers_that_break_the_format() {
    let good = unhex(golden::NONE);
    for len in 0..good.len() {
        let expected = if len < HEADER_LEN {
            BatchError::HeaderCut { have: len }
        } else {
            BatchError::Cut { total: good.len(), have: len }
        };
        assert_eq!(BatchView::parse(&good[..len]), Err(expected));
    }
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    for magic in [0, 1, 3, -1] {
        let bytes = with(layout::MAGIC, &[magic as u8]);
        assert_eq!(BatchView::parse(&bytes), Err(BatchError::Magic(magic)));
        // An old message set may be smaller than the header of a batch.
        assert_eq!(BatchView::parse(&bytes[..layout::MAGIC + 1]), Err(BatchError::Magic(magic)));
    }
    for length in [0, 48, -1, i32::MIN] {
        let bytes = with(layout::BATCH_LENGTH, &i32::to_be_bytes(length));
        assert_eq!(BatchView::parse(&bytes), Err(BatchError::Length(length)));
    }
    let bytes = with(layout::BATCH_LENGTH, &i32::MAX.to_be_bytes());
    assert_eq!(BatchView::parse(&bytes), Err(BatchError::Cut { total: (1 << 31) + 11, have: good.len() }));
    let bytes = with(layout::BATCH_LENGTH, &49_i32.to_be_bytes());
    let view = BatchView::parse(&bytes).unwrap();
    assert_eq!((view.total_len(), view.body()), (61, &[][..]));
    assert!(!view.crc_matches());
}

#[test]
fn counts_that_lie() {
    let mut out = Vec::new();
    let mut counts = |record_count: i32, last_offset_delta: i32, base_offset: i64, attributes: i16| {
        out.clear();
        let header = BatchHeader {
            record_count,
            last_offset_delta,
            base_offset,
            attributes: Attributes(attributes),
            ..BatchHeader::default()
        };
        header.write(&[], &mut out).unwrap();
        BatchView::parse(&out).unwrap().validate_counts()
    };
    assert_eq!(counts(3, 2, 0, 0), Ok(()));
    assert_eq!(counts(i32::MAX, i32::MAX - 1, 0, 0), Ok(()));
    for count in [0, -1, i32::MIN] {
        assert_eq!(counts(count, 0, 0, 0), Err(BatchError::RecordCount(count)));
    }
    assert_eq!(counts(1, -1, 0, 0), Err(BatchError::LastOffsetDelta(-1)));
    for (count, last_offset_delta) in [(1, 1), (3, 1), (1, i32::MAX)] {
        assert_eq!(counts(count, last_offset_delta, 0, 0), Err(BatchError::CountMismatch { count, last_offset_delta }));
    }
    assert_eq!(counts(2, 1, i64::MAX, 0), Err(BatchError::OffsetOverflow));
    assert_eq!(counts(1, 0, 0, 5), Err(BatchError::UnknownCodec(5)));
}

#[test]
fn records_that_break_the_format() {
    // Body, records that the header claims, fault, its index.
    let faults: [(&[u8], i32, RecordFault, i32); 22] = [
        (&[], 1, RecordFault::Cut, 0),
        (&[0x80], 1, RecordFault::Cut, 0),
        (&[0xff; 30], 1, RecordFault::VarintTooLong, 0),
        (&[0x01], 1, RecordFault::Length(-1), 0),
        (&[0xfe, 0xff, 0xff, 0xff, 0x0f], 1, RecordFault::Length(i32::MAX), 0),
        (&[0x0e, 0, 0, 0, 1, 1], 1, RecordFault::Length(7), 0),
        (&[0x00], 1, RecordFault::Cut, 0),
        (&[0x02, 0], 1, RecordFault::Cut, 0),
        (&[0x04, 0, 0], 1, RecordFault::Cut, 0),
        (&[0x06, 0, 0, 0], 1, RecordFault::Cut, 0),
        (&[0x08, 0, 0, 0, 3], 1, RecordFault::FieldLength(-2), 0),
        (&[0x08, 0, 0, 0, 2], 1, RecordFault::FieldLength(1), 0),
        (&[0x08, 0, 0, 0, 1], 1, RecordFault::Cut, 0),
        (&[0x0a, 0, 0, 0, 1, 2], 1, RecordFault::FieldLength(1), 0),
        (&[0x0a, 0, 0, 0, 1, 1], 1, RecordFault::Cut, 0),
        (&[0x0c, 0, 0, 0, 1, 1, 1], 1, RecordFault::HeaderCount(-1), 0),
        (&[0x0e, 0, 0, 0, 1, 1, 2, 0], 1, RecordFault::HeaderCount(1), 0),
        (&[0x10, 0, 0, 0, 1, 1, 2, 1, 0], 1, RecordFault::NullHeaderKey, 0),
        (&[0x10, 0, 0, 0, 1, 1, 2, 0, 2], 1, RecordFault::FieldLength(1), 0),
        (&[0x0e, 0, 0, 0, 1, 1, 0, 9], 1, RecordFault::RecordTooLong { bytes: 1 }, 0),
        (&[0x0c, 0, 0, 0, 1, 1, 0, 9, 9], 1, RecordFault::TrailingBytes { bytes: 2 }, 1),
        (&[0x0c, 0, 0, 0, 1, 1, 0], i32::MAX, RecordFault::Cut, 1),
    ];
    for (body, record_count, fault, index) in faults {
        let mut out = Vec::new();
        let header = BatchHeader { record_count, last_offset_delta: record_count - 1, ..BatchHeader::default() };
        header.write(body, &mut out).unwrap();
        let batch = BatchView::parse(&out).unwrap();
        let error = RecordError { index, fault };
        assert_eq!(batch.validate_records(), Err(BatchError::Record(error)), "{body:02x?}");
        let mut records = batch.records().unwrap();
        assert_eq!(records.find_map(Result::err), Some(error));
        assert!(records.next().is_none(), "an error ends the iteration");
    }
}

#[test]
fn offset_deltas_rise_within_the_batch() {
    let validate = |deltas: &[i32], last_offset_delta: i32| {
        let mut body = Vec::new();
        for &delta in deltas {
            write_record(&mut body, delta, 0, &NewRecord::default()).unwrap();
        }
        let mut out = Vec::new();
        let record_count = deltas.len() as i32;
        BatchHeader { record_count, last_offset_delta, ..BatchHeader::default() }.write(&body, &mut out).unwrap();
        BatchView::parse(&out).unwrap().validate_records()
    };
    let fault = |index, delta| Err(BatchError::Record(RecordError { index, fault: RecordFault::OffsetDelta(delta) }));
    assert_eq!(validate(&[0, 1, 2], 2), Ok(()));
    assert_eq!(validate(&[1, 5], 9), Ok(()), "compaction leaves gaps");
    assert_eq!(validate(&[0, 0], 1), fault(1, 0));
    assert_eq!(validate(&[1, 0], 1), fault(1, 0));
    assert_eq!(validate(&[-1, 0], 1), fault(0, -1));
    assert_eq!(validate(&[0, 2], 1), fault(1, 2));
}

#[test]
fn compressed_records_are_not_walked_as_they_are() {
    let bytes = unhex(golden::LZ4);
    let batch = BatchView::parse(&bytes).unwrap();
    assert_eq!(batch.records().err(), Some(BatchError::Compressed(Codec::Lz4)));
    let mut scratch = Vec::new();
    let result = batch.decompress(50, &mut scratch);
    assert_eq!(result, Err(BatchError::Compression(CompressionError::TooLarge { cap: 50 })));
}

#[test]
fn batches_of_a_buffer() {
    let (one, two) = (unhex(golden::NONE), unhex(golden::COMMIT));
    let buffer = [&one[..], &two, &one[..70]].concat();
    let mut batches = Batches::new(&buffer);
    assert_eq!(batches.next().unwrap().unwrap().bytes(), one);
    assert_eq!(batches.next().unwrap().unwrap().bytes(), two);
    assert_eq!(batches.next(), Some(Err(BatchError::Cut { total: one.len(), have: 70 })));
    assert_eq!(batches.next(), None);
    assert_eq!(batches.rest(), &one[..70]);
    assert_eq!(Batches::new(&[]).next(), None);
}

#[test]
fn attributes() {
    let all = Attributes::default()
        .with_codec(Codec::Zstd)
        .with_timestamp_type(TimestampType::LogAppendTime)
        .with_transactional(true)
        .with_control(true)
        .with_delete_horizon(true);
    assert_eq!(all.0, 0b111_1100);
    assert!(all.is_transactional() && all.is_control() && all.has_delete_horizon());
    assert_eq!(all.codec(), Some(Codec::Zstd));
    assert_eq!(all.with_control(false).with_codec(Codec::Gzip).0, 0b101_1001);
    assert_eq!(Attributes(7).codec(), None);

    let mut out = Vec::new();
    let header =
        BatchHeader { attributes: Attributes(1 << 6), base_timestamp: 99, record_count: 1, ..BatchHeader::default() };
    header.write(&[], &mut out).unwrap();
    assert_eq!(BatchView::parse(&out).unwrap().delete_horizon(), Some(99));
}

#[test]
fn sequences_wrap() {
    let mut out = Vec::new();
    let header = BatchHeader {
        producer_id: 1,
        base_sequence: i32::MAX - 1,
        last_offset_delta: 4,
        record_count: 5,
        ..BatchHeader::default()
    };
    header.write(&[], &mut out).unwrap();
    assert_eq!(BatchView::parse(&out).unwrap().last_sequence(), 2);
}

#[test]
fn a_builder_serves_many_batches() {
    let mut builder = BatchBuilder::new(Codec::None);
    assert_eq!(builder.finish(&mut Vec::new()), Err(BuildError::Empty));
    let mut first = Vec::new();
    for _ in 0..2 {
        for record in golden_records() {
            builder.push(&record).unwrap();
        }
        let mut out = Vec::new();
        builder.producer(4711, 3, 17).finish(&mut out).unwrap();
        assert_eq!(builder.uncompressed_len(), out.len());
        assert_eq!(builder.record_count(), 3);
        assert!(first.is_empty() || first == out);
        first = out;
        builder.clear();
        assert!(builder.is_empty());
    }
}

/// Every byte of a batch replaced by some others, and cut everywhere: errors, never a panic, and a walk that ends.
#[test]
fn mutated_batches_never_panic() {
    let mut scratch = Vec::new();
    for hex in [golden::NONE, golden::GZIP, golden::SNAPPY, golden::LZ4, golden::ZSTD, golden::COMMIT] {
        let good = unhex(hex);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, good[at] ^ 1, good[at] ^ 0x40, good[at].wrapping_add(1)] {
                let mut bytes = good.clone();
                bytes[at] = value;
                walk(&bytes, &mut scratch);
                walk(&bytes[..at], &mut scratch);
            }
        }
    }
}

fn walk(bytes: &[u8], scratch: &mut Vec<u8>) {
    const CAP: usize = 4096;
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { return };
        let _ = (batch.crc_matches(), batch.validate_counts(), batch.validate_records(), batch.last_sequence());
        let _ = format!("{batch:?}");
        let Ok(body) = batch.decompress(CAP, scratch) else { continue };
        for record in batch.records_in(body) {
            let Ok(record) = record else { break };
            assert_eq!(record.headers.len(), record.headers.count());
            let _ = ControlRecord::parse(&record);
        }
    }
    assert!(scratch.capacity() <= CAP);
}

#[derive(Debug, Clone)]
struct OwnedRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    (
        prop_oneof![any::<i64>(), TIME..TIME + 1000],
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        prop::collection::vec((bytes(), prop::option::of(bytes())), 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_built_is_read(
        records in prop::collection::vec(record(), 1..20),
        codec in prop::sample::select(&Codec::ALL),
        base_offset in 0..i64::MAX / 2,
        id in any::<i64>(), epoch in any::<i16>(), sequence in any::<i32>(),
        transactional in any::<bool>(),
    ) {
        let headers: Vec<Vec<Header<'_>>> = records
            .iter()
            .map(|r| r.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect())
            .collect();
        let expected: Vec<NewRecord<'_>> = records
            .iter()
            .zip(&headers)
            .map(|(r, headers)| NewRecord {
                timestamp: r.timestamp,
                key: r.key.as_deref(),
                value: r.value.as_deref(),
                headers,
            })
            .collect();
        let mut builder = BatchBuilder::new(codec);
        builder.producer(id, epoch, sequence).transactional(transactional).assigned(base_offset, 3);
        for record in &expected {
            builder.push(record).unwrap();
        }
        let mut out = vec![9; 3];
        builder.finish(&mut out).unwrap();
        let batch = BatchView::parse(&out[3..]).unwrap();
        prop_assert_eq!(batch.total_len(), out.len() - 3);
        prop_assert!(batch.crc_matches());
        prop_assert_eq!(batch.validate_counts(), Ok(()));
        prop_assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (id, epoch, sequence));
        prop_assert_eq!(batch.attributes().is_transactional(), transactional);
        prop_assert_eq!(batch.base_timestamp(), records[0].timestamp);
        prop_assert_eq!(batch.max_timestamp(), records.iter().map(|r| r.timestamp).max().unwrap());
        let mut scratch = Vec::new();
        let body = batch.decompress(1 << 20, &mut scratch).unwrap();
        prop_assert_eq!(batch.records_in(body).validate(), Ok(()));
        assert_records(batch.records_in(body), base_offset, &expected);
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..300), count in any::<i32>(), codec in 0..8_i16) {
        let mut out = Vec::new();
        let header = BatchHeader { record_count: count, attributes: Attributes(codec), ..BatchHeader::default() };
        header.write(&body, &mut out).unwrap();
        walk(&out, &mut Vec::new());
    }
}
