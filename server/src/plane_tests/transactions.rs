//! What clients see of transactions in partitions: reads of committed records, markers, and what is told of producers.
//! There is no coordinator in these tests: batches of transactions are put into the stores directly.

use engine::Origin;
use wire::batch::BatchView;
use wire::messages::describe_producers_request::TopicRequest;
use wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use wire::messages::{
    DescribeProducersRequest, DescribeProducersResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

use super::*;

const PRODUCER: i64 = 41;
const COMMITTED: i8 = 1;

/// A partition's part of a Fetch response: error, high watermark, last stable offset, aborted transactions, and the
/// offsets of the records.
type Seen = (ErrorCode, i64, i64, Option<Vec<(i64, i64)>>, Vec<i64>);

impl Broker {
    /// Appends a batch of one record to a transaction, which begins with it if none is open, and waits until it is
    /// durable.
    async fn append_to_transaction(&self, topic: &Topic, index: i32, epoch: i16, sequence: i32) {
        let partition = &topic.partitions[index as usize];
        let (slot, leader_epoch) = (partition.slot, partition.leader_epoch);
        let done = self.cores[0].run_on(partition.core, move |shard| async move {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.producer(PRODUCER, epoch, sequence).transactional(true);
            builder.push(&NewRecord { timestamp: 1_000, key: None, value: Some(b"t"), headers: &[] }).unwrap();
            let mut bytes = Vec::new();
            builder.finish(&mut bytes).unwrap();
            let view = BatchView::parse(&bytes).unwrap();
            let guard = shard.store().verify_transaction(slot, PRODUCER, epoch, sequence, true).unwrap();
            let appended = shard.store().append_as(Origin::Client, guard, slot, &view, leader_epoch).unwrap();
            shard.store().wait_commit(appended.seq).await.unwrap();
        });
        done.await;
    }
}

impl Client {
    /// Ends the producer's transaction on partitions, and gives what each of them answers.
    async fn mark(
        &mut self,
        version: i16,
        topic: &str,
        indexes: &[i32],
        marker: WritableTxnMarker<'_>,
    ) -> Vec<ErrorCode> {
        let topics = vec![WritableTxnMarkerTopic { name: topic, partition_indexes: indexes.to_vec() }];
        let marker = WritableTxnMarker { producer_id: PRODUCER, topics, ..marker };
        let request = WriteTxnMarkersRequest { markers: vec![marker] };
        let answered = self.call(ApiKey::WriteTxnMarkers, version, &request, |body| {
            let response: WriteTxnMarkersResponse<'_> = decode(body, version);
            assert_eq!((response.markers.len(), response.markers[0].producer_id), (1, PRODUCER));
            let partitions = &response.markers[0].topics[0].partitions;
            assert!(partitions.iter().map(|partition| partition.partition_index).eq(indexes.iter().copied()));
            partitions.iter().map(|partition| ErrorCode::from_code(partition.error_code).unwrap()).collect()
        });
        answered.await
    }

    async fn see(&mut self, request: &FetchRequest<'_>) -> Vec<Seen> {
        self.call(ApiKey::Fetch, 12, request, seen).await
    }

    async fn latest(&mut self, topic: &Topic, isolation_level: i8, timestamp: i64) -> i64 {
        let partition = ListOffsetsPartition { partition_index: 0, timestamp, ..ListOffsetsPartition::default() };
        let topics = vec![ListOffsetsTopic { name: &topic.name, partitions: vec![partition] }];
        let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..ListOffsetsRequest::default() };
        let found = self.call(ApiKey::ListOffsets, 9, &request, |body| {
            let response: ListOffsetsResponse<'_> = decode(body, 9);
            let partition = &response.topics[0].partitions[0];
            assert_eq!(partition.error_code, 0);
            partition.offset
        });
        found.await
    }
}

fn seen(body: &[u8]) -> Vec<Seen> {
    let response: FetchResponse<'_> = decode(body, 12);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let seen = partitions.map(|partition| {
        let aborted = partition.aborted_transactions.as_ref().map(|aborted| {
            aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect::<Vec<_>>()
        });
        let batches = Batches::new(partition.records.unwrap_or_default());
        let offsets = batches.flat_map(|batch| {
            let batch = batch.unwrap();
            batch.base_offset()..=batch.last_offset()
        });
        let error = ErrorCode::from_code(partition.error_code).unwrap();
        (error, partition.high_watermark, partition.last_stable_offset, aborted, offsets.collect())
    });
    seen.collect()
}

fn committed<'a>(topic: &'a Topic, partitions: &[(i32, i64)]) -> FetchRequest<'a> {
    FetchRequest { isolation_level: COMMITTED, ..fetch_request(12, topic, partitions) }
}

fn ends(epoch: i16, commit: bool) -> WritableTxnMarker<'static> {
    let transaction_version = 2;
    WritableTxnMarker {
        producer_epoch: epoch,
        transaction_result: commit,
        transaction_version,
        ..WritableTxnMarker::default()
    }
}

#[test]
fn committed_records_are_read_when_the_marker_is_durable_and_aborted_ones_are_named() {
    for cores in 1..=3 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let (mut reader, mut waiting, mut writer) =
                (broker.client().await, broker.client().await, broker.client().await);
            let plain = batch(&[b"p"]);
            writer.produce(9, &topic, -1, &[(0, &plain)]).await;
            broker.append_to_transaction(&topic, 0, 0, 0).await;
            writer.produce(9, &topic, -1, &[(0, &plain)]).await;
            // 0 plain, 1 in a transaction, 2 plain.
            let all = reader.see(&fetch_request(12, &topic, &[(0, 0)])).await;
            assert_eq!(all, [(ErrorCode::None, 3, 1, None, vec![0, 1, 2])]);
            let some = reader.see(&committed(&topic, &[(0, 0)])).await;
            assert_eq!(some, [(ErrorCode::None, 3, 1, Some(vec![]), vec![0])]);
            let none = reader.see(&committed(&topic, &[(0, 2)])).await;
            assert_eq!(none, [(ErrorCode::None, 3, 1, Some(vec![]), vec![])]);
            assert_eq!((reader.latest(&topic, 0, -1).await, reader.latest(&topic, COMMITTED, -1).await), (3, 1));

            // A long poll is woken by the marker, not by a record behind an open transaction.
            let poll = FetchRequest { max_wait_ms: 600_000, ..committed(&topic, &[(0, 1), (1, 0)]) };
            waiting.send(ApiKey::Fetch, 12, &poll).await;
            writer.produce(9, &topic, -1, &[(0, &plain)]).await;
            let core0 = broker.cores[0].clone();
            core0.reactor().sleep_until(core0.reactor().now_ns() + 50_000_000).await;
            assert_eq!(writer.mark(2, "events", &[0], ends(1, false)).await, [ErrorCode::None]);
            let response = waiting.receive().await.unwrap();
            assert!(core0.reactor().now_ns() < 60_000_000_000, "it did not wait for its time to be up");
            let told = seen(body_of(&response, ApiKey::Fetch, 12, waiting.next - 1));
            assert_eq!(told[0], (ErrorCode::None, 5, 5, Some(vec![(PRODUCER, 1)]), vec![1, 2, 3, 4]));
            assert_eq!(told[1], (ErrorCode::None, 0, 0, Some(vec![]), vec![]));

            // The next one commits: nothing is named but what was aborted before.
            broker.append_to_transaction(&topic, 0, 1, 0).await;
            assert_eq!(writer.mark(2, "events", &[0], ends(2, true)).await, [ErrorCode::None]);
            let behind = reader.see(&committed(&topic, &[(0, 5)])).await;
            assert_eq!(behind, [(ErrorCode::None, 7, 7, Some(vec![]), vec![5, 6])]);
            let all = reader.see(&committed(&topic, &[(0, 0)])).await;
            assert_eq!(all, [(ErrorCode::None, 7, 7, Some(vec![(PRODUCER, 1)]), (0..7).collect())]);
        });
    }
}

#[test]
fn min_bytes_count_what_is_committed() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let (mut reader, mut writer) = (broker.client().await, broker.client().await);
        let plain = batch(&[&[7; 500]]);
        writer.produce(9, &topic, -1, &[(0, &plain)]).await;
        broker.append_to_transaction(&topic, 0, 0, 0).await;
        writer.produce(9, &topic, -1, &[(0, &plain)]).await;
        let began_ns = broker.cores[0].reactor().now_ns();
        let poll = FetchRequest { max_wait_ms: 500, min_bytes: 800, ..committed(&topic, &[(0, 0)]) };
        let late = reader.see(&poll).await;
        assert_eq!(late, [(ErrorCode::None, 3, 1, Some(vec![]), vec![0])]);
        assert!(broker.cores[0].reactor().now_ns() - began_ns >= 500_000_000, "there was not enough");
    });
}

#[test]
fn a_reader_of_committed_records_is_told_of_no_aborted_ones_where_no_bytes_are_left_for_a_partition() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let (mut reader, mut writer) = (broker.client().await, broker.client().await);
            // So much that the first records have left the memory of their cores.
            let (large, total) = (batch(&[&[7; 7900]]), 10 * (512 << 10) / 8000);
            for _ in 0..total {
                writer.produce(9, &topic, 1, &[(0, &large), (1, &large)]).await;
            }
            let total = total as i64;
            for (first, records) in [(0, vec![0]), (total - 1, vec![total - 1])] {
                let request = FetchRequest { max_bytes: 1, ..committed(&topic, &[(0, first), (1, 0), (1, total - 1)]) };
                let none = (ErrorCode::None, total, total, Some(vec![]), vec![]);
                let one = (ErrorCode::None, total, total, Some(vec![]), records);
                assert_eq!(reader.see(&request).await, [one, none.clone(), none], "{cores} cores, from {first}");
            }
        });
    }
}

#[test]
fn a_session_of_committed_records_goes_on_when_the_transaction_ends() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let (mut reader, mut writer) = (broker.client().await, broker.client().await);
        broker.append_to_transaction(&topic, 0, 0, 0).await;
        let mut opening = committed(&topic, &[(0, 0), (1, 0)]);
        opening.session_epoch = 0;
        let session = reader.call(ApiKey::Fetch, 12, &opening, |body| fetched(body, 12).session).await;
        assert!(session > 0);
        let mut next = committed(&topic, &[]);
        (next.session_id, next.session_epoch) = (session, 1);
        assert_eq!(reader.see(&next).await, [], "nothing has changed");
        assert_eq!(writer.mark(2, "events", &[0], ends(1, false)).await, [ErrorCode::None]);
        next.session_epoch = 2;
        let told = reader.see(&next).await;
        assert_eq!(told, [(ErrorCode::None, 2, 2, Some(vec![(PRODUCER, 0)]), vec![0, 1])]);
    });
}

#[test]
fn records_found_by_time_lie_below_the_last_stable_offset() {
    with_broker(1, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let (mut reader, mut writer) = (broker.client().await, broker.client().await);
        broker.append_to_transaction(&topic, 0, 0, 0).await;
        for timestamp in [900, -3] {
            assert_eq!(reader.latest(&topic, 0, timestamp).await, 0, "{timestamp}");
            assert_eq!(reader.latest(&topic, COMMITTED, timestamp).await, -1, "{timestamp}");
        }
        writer.mark(2, "events", &[0], ends(1, true)).await;
        assert_eq!(reader.latest(&topic, COMMITTED, 900).await, 0);
    });
}

#[test]
fn old_markers_are_refused_and_producers_are_told() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 3, &[]).await;
        let mut client = broker.client().await;
        broker.append_to_transaction(&topic, 0, 3, 0).await;
        broker.append_to_transaction(&topic, 0, 3, 1).await;
        let describe = |name, indexes: &[i32]| DescribeProducersRequest {
            topics: vec![TopicRequest { name, partition_indexes: indexes.to_vec() }],
        };
        let told = |body: &[u8]| {
            let response: DescribeProducersResponse<'_> = decode(body, 0);
            let partitions = &response.topics[0].partitions;
            let states = partitions.iter().map(|partition| {
                assert_eq!(partition.error_message, None);
                let producers = partition.active_producers.iter().map(|producer| {
                    assert_eq!(producer.producer_id, PRODUCER);
                    (
                        producer.producer_epoch,
                        producer.last_sequence,
                        producer.last_timestamp == 1_000,
                        producer.coordinator_epoch,
                        producer.current_txn_start_offset,
                    )
                });
                (ErrorCode::from_code(partition.error_code).unwrap(), producers.collect::<Vec<_>>())
            });
            states.collect::<Vec<_>>()
        };
        let asked = describe("events", &[0, 1, 9]);
        assert_eq!(
            client.call(ApiKey::DescribeProducers, 0, &asked, told).await,
            [
                (ErrorCode::None, vec![(3, 1, true, -1, 0)]),
                (ErrorCode::None, vec![]),
                (ErrorCode::UnknownTopicOrPartition, vec![])
            ]
        );
        let with = |epoch, coordinator_epoch, transaction_version| WritableTxnMarker {
            coordinator_epoch,
            transaction_version,
            ..ends(epoch, true)
        };
        // Version 1 of the request says nothing of the transaction version: the epoch may stay.
        assert_eq!(client.mark(2, "events", &[0], with(3, 0, 2)).await, [ErrorCode::InvalidProducerEpoch]);
        assert_eq!(client.mark(1, "events", &[0], with(2, 0, 0)).await, [ErrorCode::InvalidProducerEpoch]);
        let answered = client.mark(1, "events", &[0, 1, 9], with(3, 5, 0)).await;
        assert_eq!(answered, [ErrorCode::None, ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
        let answered = client.mark(2, "events", &[0], with(4, 4, 2)).await;
        assert_eq!(answered, [ErrorCode::TransactionCoordinatorFenced]);
        assert_eq!(client.mark(2, "missing", &[0], with(4, 4, 2)).await, [ErrorCode::UnknownTopicOrPartition]);
        assert_eq!(
            client.call(ApiKey::DescribeProducers, 0, &asked, told).await[..2],
            [(ErrorCode::None, vec![(3, 1, false, 5, -1)]), (ErrorCode::None, vec![(3, -1, false, 5, -1)])]
        );
    });
}

#[test]
fn producers_of_topics_that_are_not_there_are_answered_in_words() {
    with_broker(2, async |broker| {
        broker.create("events", 1, &[]).await;
        let mut client = broker.client().await;
        let topic = |name, indexes: &[i32]| TopicRequest { name, partition_indexes: indexes.to_vec() };
        let asked = DescribeProducersRequest {
            topics: vec![topic("a b", &[0, 1]), topic("events", &[7, 0]), topic("nowhere", &[0])],
        };
        let told = client.call(ApiKey::DescribeProducers, 0, &asked, |body| {
            let response: DescribeProducersResponse<'_> = decode(body, 0);
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let told = partitions.map(|it| {
                let words = it.error_message.map(str::to_owned).unwrap_or_default();
                (it.partition_index, ErrorCode::from_code(it.error_code).unwrap(), words)
            });
            told.collect::<Vec<_>>()
        });
        let told = told.await;
        let told: Vec<_> = told.iter().map(|(index, error, words)| (*index, *error, words.as_str())).collect();
        let impossible = "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, \
                          '.', '_' and '-'";
        assert_eq!(
            told,
            [
                (0, ErrorCode::InvalidTopicException, impossible),
                (1, ErrorCode::InvalidTopicException, impossible),
                (7, ErrorCode::UnknownTopicOrPartition, ""),
                (0, ErrorCode::None, ""),
                (0, ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicOrPartition.message()),
            ]
        );
    });
}
