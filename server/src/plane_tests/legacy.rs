//! Clients older than Kafka 0.11, and what they and newer ones see of each other.

use wire::batch::BatchView;
use wire::message_set::{Down, Magic, Messages, from_batch, to_batch};

use super::*;

const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4];
const CAP: usize = 1 << 20;

fn magic_of_produce(version: i16) -> Magic {
    if version < 2 { Magic::V0 } else { Magic::V1 }
}

/// The records of a batch as an old client sends them.
fn set(batch: &[u8], magic: Magic) -> Vec<u8> {
    let mut set = Vec::new();
    let view = BatchView::parse(batch).unwrap();
    assert_eq!(from_batch(&view, magic, 0, usize::MAX, CAP, &mut set), Ok(Down::Whole));
    set
}

/// Offsets and values in records of any version of Fetch, as a client reads them that has asked from `from` on.
fn values(records: &[u8], version: i16, from: i64) -> Vec<(i64, Vec<u8>)> {
    let mut out = Vec::new();
    if version >= 4 {
        for batch in Batches::new(records) {
            let batch = batch.unwrap();
            let mut scratch = Vec::new();
            for record in batch.records_in(batch.decompress(CAP, &mut scratch).unwrap()) {
                let record = record.unwrap();
                out.push((record.offset, record.value.unwrap().to_vec()));
            }
        }
    } else {
        for message in Messages::new(records) {
            let message = message.unwrap();
            assert_eq!(message.magic, if version < 2 { Magic::V0 } else { Magic::V1 });
            if message.codec == Codec::None {
                out.push((message.offset, message.value.unwrap().to_vec()));
                continue;
            }
            // As clients do it: the wrapper has the offset of its last message.
            let mut plain = Vec::new();
            let (entry, magic) = (entry_of(records, message.offset), message.magic);
            assert_eq!(to_batch(entry, Some(Codec::None), CAP, &mut plain).map(|count| count > 0), Ok(true));
            let batch = BatchView::parse(&plain).unwrap();
            let base = message.offset - i64::from(batch.last_offset_delta());
            assert!(magic <= Magic::V1);
            for record in batch.records().unwrap() {
                let record = record.unwrap();
                out.push((base + i64::from(record.offset_delta), record.value.unwrap().to_vec()));
            }
        }
    }
    out.retain(|(offset, _)| *offset >= from);
    out
}

/// The bytes of the entry with this offset.
fn entry_of(records: &[u8], offset: i64) -> &[u8] {
    let mut rest = records;
    loop {
        let len = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        if rest[..8] == offset.to_be_bytes() {
            return &rest[..len];
        }
        rest = &rest[len..];
    }
}

#[test]
fn old_and_new_clients_read_each_other_in_every_version_and_codec() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 3, &[]).await;
            let mut client = broker.client().await;
            let mut written: Vec<Vec<u8>> = Vec::new();
            for codec in CODECS {
                for version in [0, 1, 2, 3, 9] {
                    let texts: Vec<String> = (0..5).map(|at| format!("{codec} {version} {at}")).collect();
                    let records = texts.iter().map(|text| (Some(&b"key"[..]), text.as_bytes(), 1_700_000_000_000));
                    let mut bytes = build(records, codec);
                    if version < 3 {
                        bytes = set(&bytes, magic_of_produce(version));
                    }
                    for partition in 0..3 {
                        let produced = client.produce(version, &topic, -1, &[(partition, &bytes)]).await;
                        assert_eq!(produced[0].error, ErrorCode::None, "{codec}, version {version}");
                        assert_eq!(produced[0].base_offset, written.len() as i64);
                    }
                    written.extend(texts.into_iter().map(String::into_bytes));
                }
            }
            for version in 0..=18 {
                for from in [0, 1, 7, 29, 62, 99] {
                    let request = fetch_request(version, &topic, &[(0, from), (1, from), (2, from)]);
                    let fetched = client.fetch(version, &request).await;
                    for partition in &fetched.partitions {
                        assert_eq!((partition.error, partition.high_watermark), (ErrorCode::None, 100));
                        let found = values(&partition.records, version, from);
                        let expected = (from..100).zip(written[from as usize..].iter().cloned());
                        assert_eq!(found, expected.collect::<Vec<_>>(), "version {version} from {from}");
                    }
                    assert_eq!(fetched.partitions.len(), 3);
                }
            }
        });
    }
}

/// Version 2 has timestamps and says when the broker has set them; versions 0 and 1 have none.
#[test]
fn timestamps_of_old_producers() {
    with_broker(1, async |broker| {
        let mut client = broker.client().await;
        let timestamps = async |client: &mut Client, topic: &Topic| {
            let fetched = client.fetch(4, &fetch_request(4, topic, &[(0, 0)])).await;
            let mut out = Vec::new();
            for batch in Batches::new(&fetched.partitions[0].records) {
                out.extend(batch.unwrap().records().unwrap().map(|record| record.unwrap().timestamp));
            }
            out
        };
        let record = build([(Some(&b"k"[..]), &b"v"[..], 1_700_000_000_123)].into_iter(), Codec::None);
        let created = broker.create("created", 1, &[]).await;
        let stamped = broker.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        for topic in [&created, &stamped] {
            for version in 0..=2 {
                let bytes = set(&record, magic_of_produce(version));
                assert_eq!(client.produce(version, topic, 1, &[(0, &bytes)]).await[0].error, ErrorCode::None);
            }
        }
        assert_eq!(timestamps(&mut client, &created).await, [-1, -1, 1_700_000_000_123]);
        let now = timestamps(&mut client, &stamped).await;
        assert!(now.iter().all(|time| *time > 1_700_000_000_123 || *time >= 0) && !now.contains(&1_700_000_000_123));
        let fetched = client.fetch(2, &fetch_request(2, &stamped, &[(0, 0)])).await;
        assert!(Messages::new(&fetched.partitions[0].records).all(|message| message.unwrap().is_stamped));
        // A producer has no right to the broker's timestamp type there.
        let mut builder = BatchBuilder::new(Codec::None);
        builder.log_append_time(Some(5)).push(&NewRecord::default()).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        let produced = client.produce(2, &stamped, 1, &[(0, &set(&bytes, Magic::V1))]).await;
        assert_eq!(produced[0].error, ErrorCode::InvalidTimestamp);
    });
}

#[test]
fn bad_sets_are_refused_and_leave_no_trace() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let compacted = broker.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
        let mut client = broker.client().await;
        let good = set(&batch(&[b"good"]), Magic::V1);
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let new = batch(&[b"magic 2"]);
        let large = set(&batch(&[&vec![b'x'; 2 << 20]]), Magic::V1);
        let wrapper = set(&build([(None, &b"v"[..], 1)].into_iter(), Codec::Gzip), Magic::V1);
        let twice = [&wrapper[..], &wrapper].concat();
        for (what, bytes, error) in [
            ("damaged", &damaged, ErrorCode::CorruptMessage),
            ("magic 2", &new, ErrorCode::CorruptMessage),
            ("too large", &large, ErrorCode::MessageTooLarge),
            ("two wrappers", &twice, ErrorCode::InvalidRecord),
        ] {
            // The request is too large for its frame where the message is, so that one goes alone.
            if bytes.len() > 1 << 20 {
                continue;
            }
            for partition in 0..2 {
                let produced = client.produce(2, &topic, -1, &[(partition, bytes)]).await;
                assert_eq!((produced[0].error, produced[0].base_offset), (error, -1), "{what}");
            }
        }
        let keyless = set(&build([(None, &b"v"[..], 1)].into_iter(), Codec::None), Magic::V0);
        assert_eq!(client.produce(0, &compacted, 1, &[(0, &keyless)]).await[0].error, ErrorCode::InvalidRecord);
        // Nothing to append is a success, as is what is cut at the end.
        let empty: &[u8] = &[];
        let produced = client.produce(1, &topic, -1, &[(0, empty), (1, &good[..20])]).await;
        assert!(produced.iter().all(|one| (one.error, one.base_offset) == (ErrorCode::None, -1)));
        let produced = client.produce(2, &topic, -1, &[(0, &good), (1, &good)]).await;
        assert!(produced.iter().all(|one| (one.error, one.base_offset) == (ErrorCode::None, 0)));
        // Without acknowledgement a failure ends the connection, and nothing to append does not.
        let quiet = produce_request(0, &topic, 0, &[(0, empty)]);
        client.send(ApiKey::Produce, 0, &quiet).await;
        client.next -= 1;
        assert_eq!(client.fetch(0, &fetch_request(0, &topic, &[(0, 0)])).await.partitions[0].high_watermark, 1);
        client.send(ApiKey::Produce, 0, &produce_request(0, &topic, 0, &[(0, &damaged)])).await;
        assert_eq!(client.receive().await, None);
    });
}

#[test]
fn an_old_consumer_waits_and_is_woken() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let mut waiting = broker.client().await;
        let mut client = broker.client().await;
        for version in 0..=3 {
            let from = i64::from(version);
            let mut request = fetch_request(version, &topic, &[(0, from), (1, from)]);
            request.max_wait_ms = 600_000;
            waiting.send(ApiKey::Fetch, version, &request).await;
            for partition in 0..2 {
                client.produce(9, &topic, -1, &[(partition, &batch(&[b"wake"]))]).await;
            }
            let response = waiting.receive().await.unwrap();
            let fetched = fetched(body_of(&response, ApiKey::Fetch, version, waiting.next - 1), version);
            assert!(fetched.partitions.iter().any(|one| !values(&one.records, version, from).is_empty()));
        }
        // Nothing comes: the time is over.
        let mut request = fetch_request(0, &topic, &[(0, 4)]);
        request.max_wait_ms = 50;
        assert!(waiting.fetch(0, &request).await.partitions[0].records.is_empty());
    });
}

#[test]
fn what_old_consumers_cannot_read() {
    with_broker(1, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let mut client = broker.client().await;
        let value = vec![b'z'; 500];
        client.produce(9, &topic, -1, &[(0, &batch(&[b"before"]))]).await;
        let zstd = build([(None, &value[..], 1)].into_iter(), Codec::Zstd);
        client.produce(9, &topic, -1, &[(0, &zstd)]).await;
        client.produce(9, &topic, -1, &[(0, &batch(&[b"after"]))]).await;
        for version in 0..=3 {
            let fetch = async |client: &mut Client, from| {
                let fetched = client.fetch(version, &fetch_request(version, &topic, &[(0, from)])).await;
                let partition = &fetched.partitions[0];
                (partition.error, values(&partition.records, version, from))
            };
            assert_eq!(fetch(&mut client, 0).await, (ErrorCode::None, vec![(0, b"before".to_vec())]));
            assert_eq!(fetch(&mut client, 1).await, (ErrorCode::UnsupportedCompressionType, Vec::new()));
            assert_eq!(fetch(&mut client, 2).await, (ErrorCode::None, vec![(2, b"after".to_vec())]));
            assert_eq!(fetch(&mut client, 9).await, (ErrorCode::OffsetOutOfRange, Vec::new()));
        }
    });
}

/// Records of a transaction's end are no messages: an old consumer gets what is behind them, or waits for it.
#[test]
fn control_batches_are_passed_over() {
    with_broker(1, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let mut client = broker.client().await;
        let control = |_: usize| {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.control(true).push(&NewRecord { value: Some(b"end"), ..NewRecord::default() }).unwrap();
            let mut bytes = Vec::new();
            builder.finish(&mut bytes).unwrap();
            let view = BatchView::parse(&bytes).unwrap();
            broker.cores[0].store().append(topic.partitions[0].slot, &view, 0).unwrap();
        };
        (0..50).for_each(control);
        let mut request = fetch_request(1, &topic, &[(0, 0)]);
        request.topics[0].partitions[0].partition_max_bytes = 100;
        request.max_wait_ms = 20;
        assert!(client.fetch(1, &request).await.partitions[0].records.is_empty());
        client.produce(9, &topic, -1, &[(0, &batch(&[b"there"]))]).await;
        (0..3).for_each(control);
        // Each read brings one control batch; the answer still has the record behind all of them.
        let fetched = client.fetch(1, &request).await;
        assert_eq!(values(&fetched.partitions[0].records, 1, 0), [(50, b"there".to_vec())]);
    });
}

#[test]
fn an_answer_has_no_more_than_was_asked_for_but_always_something() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 4, &[]).await;
        let mut client = broker.client().await;
        for _ in 0..4 {
            let bytes = batch(&[&[b'a'; 100], &[b'b'; 100], &[b'c'; 100]]);
            let parts: Vec<(i32, &[u8])> = (0..4).map(|partition| (partition, &bytes[..])).collect();
            client.produce(9, &topic, -1, &parts).await;
        }
        let mut request = fetch_request(2, &topic, &[(0, 0), (1, 0), (2, 0), (3, 0)]);
        request.topics[0].partitions.iter_mut().for_each(|partition| partition.partition_max_bytes = 500);
        let fetched = client.fetch(2, &request).await;
        for partition in &fetched.partitions {
            assert!(partition.records.len() <= 500);
            assert_eq!(values(&partition.records, 2, 0).len(), 3, "messages of 137 bytes, of a batch that was read");
        }
        request.topics[0].partitions.iter_mut().for_each(|partition| partition.partition_max_bytes = 1);
        let some = client.fetch(2, &request).await;
        let with_records = some.partitions.iter().filter(|partition| !partition.records.is_empty()).count();
        assert_eq!(with_records, 1);
        assert_eq!(some.partitions.iter().map(|partition| values(&partition.records, 2, 0).len()).sum::<usize>(), 1);
        // With a limit for all of them, which version 3 has.
        let mut request = fetch_request(3, &topic, &[(0, 0), (1, 0), (2, 0), (3, 0)]);
        request.max_bytes = 500;
        let fetched = client.fetch(3, &request).await;
        assert!(fetched.partitions.iter().map(|partition| partition.records.len()).sum::<usize>() <= 500);
    });
}

#[test]
fn several_offsets_of_a_partition() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 1, &[("internal.segment.bytes", "4096"), ("retention.ms", "-1")]).await;
        let mut client = broker.client().await;
        let offsets = async |client: &mut Client, name: &str, timestamp: i64, count: i32| {
            let partition = ListOffsetsPartition { timestamp, max_num_offsets: count, ..Default::default() };
            let topic = ListOffsetsTopic { name, partitions: vec![partition] };
            let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
            let read = |body: &[u8]| {
                let answer: ListOffsetsResponse<'_> = decode(body, 0);
                let partition = &answer.topics[0].partitions[0];
                (partition.error_code, partition.old_style_offsets.clone())
            };
            client.call(ApiKey::ListOffsets, 0, &request, read).await
        };
        assert_eq!(offsets(&mut client, "events", -1, 1).await, (0, vec![0]));
        let value = vec![b'v'; 900];
        for at in 0..30 {
            let bytes = build([(None, &value[..], 1000 + at)].into_iter(), Codec::None);
            assert_eq!(client.produce(9, &topic, -1, &[(0, &bytes)]).await[0].error, ErrorCode::None);
        }
        assert_eq!(offsets(&mut client, "events", -2, 1).await, (0, vec![0]));
        assert_eq!(offsets(&mut client, "events", -1, 1).await, (0, vec![30]));
        let (error, all) = offsets(&mut client, "events", -1, 1000).await;
        assert!(error == 0 && all.len() > 2 && all[0] == 30 && *all.last().unwrap() == 0, "{all:?}");
        assert!(all.is_sorted_by(|a, b| a > b));
        // The last record of the oldest segment was written at this time.
        let second = all[all.len() - 2];
        assert_eq!(offsets(&mut client, "events", 1000 + second - 1, 9).await, (0, vec![0]));
        assert_eq!(offsets(&mut client, "events", 999, 9).await, (0, Vec::new()));
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(offsets(&mut client, "nowhere", -1, 1).await, (unknown, Vec::new()));
    });
}
