//! Offsets by time and by name, deleted records and the ends of epochs.

use wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use wire::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::*;

/// Timestamps and offsets that a partition answers for a timestamp: error, timestamp, offset.
async fn list(client: &mut Client, version: i16, topic: &Topic, index: i32, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition { partition_index: index, timestamp, ..ListOffsetsPartition::default() };
    let topics = vec![ListOffsetsTopic { name: &topic.name, partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    let found = client.call(ApiKey::ListOffsets, version, &request, |body| {
        let response: ListOffsetsResponse<'_> = decode(body, version);
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.timestamp, partition.offset)
    });
    found.await
}

#[test]
fn offsets_are_found_by_time_and_by_name() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            let now = broker.cores[0].reactor().unix_ms();
            for index in 0..2 {
                for (first, second, codec) in [(10, 30, Codec::None), (50, 40, Codec::Zstd), (20, 25, Codec::None)] {
                    let records = [(None, &b"v"[..], now + first), (None, &b"v"[..], now + second)];
                    let bytes = build(records.into_iter(), codec);
                    assert_eq!(client.produce(9, &topic, 1, &[(index, &bytes)]).await[0].error, ErrorCode::None);
                }
                let answers = [
                    (-1, (0, -1, 6)),
                    (-2, (0, -1, 0)),
                    (-3, (0, now + 50, 2)),
                    (-4, (0, -1, 0)),
                    (-5, (0, -1, -1)),
                    (now, (0, now + 10, 0)),
                    (now + 30, (0, now + 30, 1)),
                    (now + 31, (0, now + 50, 2)),
                    (now + 51, (0, -1, -1)),
                    (-7, (ErrorCode::UnsupportedVersion.code(), -1, -1)),
                ];
                for (timestamp, answer) in answers {
                    assert_eq!(list(&mut client, 11, &topic, index, timestamp).await, answer, "{timestamp}");
                }
                let too_new = ErrorCode::UnsupportedVersion.code();
                assert_eq!(list(&mut client, 6, &topic, index, -3).await, (too_new, -1, -1));
                assert_eq!(list(&mut client, 1, &topic, index, -1).await, (0, -1, 6));
            }
            assert_eq!(list(&mut client, 5, &topic, 9, -1).await.0, ErrorCode::UnknownTopicOrPartition.code());
        });
    }
}

#[test]
fn what_was_deleted_is_not_found_by_time() {
    with_broker(1, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let mut client = broker.client().await;
        let now = broker.cores[0].reactor().unix_ms();
        for times in [[90, 10], [60, 60], [20, 40]] {
            let records = times.iter().map(|time| (None, &b"v"[..], now + time));
            let bytes = build(records, Codec::None);
            assert_eq!(client.produce(9, &topic, 1, &[(0, &bytes)]).await[0].error, ErrorCode::None);
        }
        // Up to which offset, then the newest record of all, and the first one at or after `now + 50`.
        let cases = [
            (1, (now + 60, 2), (now + 60, 2)),
            (3, (now + 60, 3), (now + 60, 3)),
            (4, (now + 40, 5), (-1, -1)),
            (5, (now + 40, 5), (-1, -1)),
            (6, (-1, -1), (-1, -1)),
        ];
        for (offset, newest, late) in cases {
            let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
            let topics = vec![DeleteRecordsTopic { name: &topic.name, partitions }];
            let request = DeleteRecordsRequest { topics, timeout_ms: 1000 };
            let deleted = client.call(ApiKey::DeleteRecords, 2, &request, |body| {
                let response: DeleteRecordsResponse<'_> = decode(body, 2);
                response.topics[0].partitions[0].low_watermark
            });
            assert_eq!(deleted.await, offset);
            assert_eq!(list(&mut client, 11, &topic, 0, -3).await, (0, newest.0, newest.1), "from {offset} on");
            assert_eq!(list(&mut client, 11, &topic, 0, now + 50).await, (0, late.0, late.1), "from {offset} on");
        }
    });
}

#[test]
fn the_newest_record_is_one_that_is_durable() {
    with_broker(1, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let mut client = broker.client().await;
        let now = broker.cores[0].reactor().unix_ms();
        for time in [20, 10] {
            let bytes = build([(None, &b"v"[..], now + time)].into_iter(), Codec::None);
            client.produce(9, &topic, -1, &[(0, &bytes)]).await;
        }
        let (store, slot) = (broker.cores[0].store(), topic.partitions[0].slot);
        let bytes = build([(None, &b"v"[..], now + 30)].into_iter(), Codec::None);
        store.append(slot, &wire::batch::BatchView::parse(&bytes).unwrap(), 0).unwrap();
        // The commit cannot begin before this core's next turn.
        let found = store.batch_of_max_time(slot, 0).await.unwrap().unwrap();
        assert_eq!(wire::batch::BatchView::parse(found.slices[0].as_bytes()).unwrap().base_offset(), 0);
    });
}

#[test]
fn deleted_records_are_gone_and_epochs_have_ends() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let compacted = broker.create("table", 1, &[("cleanup.policy", "compact")]).await;
        let mut client = broker.client().await;
        for _ in 0..3 {
            let bytes = batch(&[b"a", b"b"]);
            client.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
        }
        let epoch_end = |partition: i32| OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: &topic.name,
                partitions: vec![OffsetForLeaderPartition { partition, leader_epoch: 0, ..Default::default() }],
            }],
        };
        for index in 0..2 {
            let request = epoch_end(index);
            let end = client.call(ApiKey::OffsetForLeaderEpoch, 4, &request, |body| {
                let response: OffsetForLeaderEpochResponse<'_> = decode(body, 4);
                let partition = &response.topics[0].partitions[0];
                (partition.error_code, partition.leader_epoch, partition.end_offset)
            });
            assert_eq!(end.await, (0, 0, 6));
        }
        let delete = |name, partition_index, offset| DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name,
                partitions: vec![DeleteRecordsPartition { partition_index, offset }],
            }],
            timeout_ms: 1000,
        };
        let cases = [
            (&*topic.name, 0, 4, ErrorCode::None, 4),
            (&*topic.name, 1, -1, ErrorCode::None, 6),
            (&*topic.name, 0, 7, ErrorCode::OffsetOutOfRange, -1),
            (&*topic.name, 0, -2, ErrorCode::OffsetOutOfRange, -1),
            (&*compacted.name, 0, 0, ErrorCode::PolicyViolation, -1),
            ("nowhere", 0, 0, ErrorCode::UnknownTopicOrPartition, -1),
        ];
        for (name, index, offset, error, low_watermark) in cases {
            let request = delete(name, index, offset);
            let deleted = client.call(ApiKey::DeleteRecords, 2, &request, |body| {
                let response: DeleteRecordsResponse<'_> = decode(body, 2);
                let partition = &response.topics[0].partitions[0];
                (partition.error_code, partition.low_watermark)
            });
            assert_eq!(deleted.await, (error.code(), low_watermark), "{name} {index} {offset}");
        }
        let fetched = client.fetch(12, &fetch_request(12, &topic, &[(0, 0), (1, 6)])).await;
        let partitions: Vec<_> = fetched.partitions.iter().map(|p| (p.error, p.log_start)).collect();
        assert_eq!(partitions, [(ErrorCode::OffsetOutOfRange, -1), (ErrorCode::None, 6)]);
    });
}

#[test]
fn offsets_of_a_group_without_a_name_are_not_deleted() {
    with_broker(1, async |broker| {
        let mut client = broker.client().await;
        let request = OffsetDeleteRequest::default();
        let told = client.call(ApiKey::OffsetDelete, 0, &request, |body| {
            let response: OffsetDeleteResponse<'_> = decode(body, 0);
            response.error_code
        });
        assert_eq!(told.await, ErrorCode::InvalidGroupId.code());
    });
}
