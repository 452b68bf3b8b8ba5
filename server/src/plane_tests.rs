//! The data path as clients see it: brokers of several cores in a simulated world, all in one thread, spoken to over its
//! network.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use engine::io::sim::{Sim, SimConfig};
use engine::io::{Part, SendBuf, Socket};
use engine::limits::Limits;
use engine::mailbox;
use engine::reactor::Reactor;
use engine::{Durability, PartitionConfig, PartitionKey, PartitionSpec, Slot};
use wire::api::ApiKey;
use wire::batch::{BatchBuilder, Batches, NewRecord};
use wire::compression::Codec;
use wire::error::ErrorCode;
use wire::header::{self, RequestHeader};
use wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DeleteRecordsRequest, DeleteRecordsResponse, FetchRequest, FetchResponse,
    ListOffsetsRequest, ListOffsetsResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
};
use wire::{Message, Reader, Uuid};

use crate::assembly::{self, StorePlan};
use crate::broker;
use crate::catalog::Action;
use crate::config::coordinators::CoordinatorOptions;
use crate::config::live::LiveSettings;
use crate::config::topic::Configs;
use crate::connection::admission::Admission;
use crate::handlers::test_image::OPTIONS;
use crate::image::{Image, Topic};
use crate::limits::{MAILBOX_MESSAGES, REQUESTS_IN_FLIGHT, UNSENT_BYTES};
use crate::loggers::{Level, Loggers};
use crate::services::{ServiceOptions, Services};
use crate::shard::{Shard, ShardOptions};

mod configs;
mod legacy;
mod transactions;

/// A broker under test.
#[derive(Clone)]
struct Broker {
    cores: Vec<Shard>,
    address: SocketAddr,
    plan: StorePlan,
}

/// Runs `test` against a broker of `cores` cores. The test runs on the first of them, as do its clients.
fn with_broker(cores: usize, test: impl AsyncFnOnce(&Broker)) {
    with_options(cores, SimConfig::default(), options(), test);
}

fn options() -> ShardOptions {
    ShardOptions {
        node_id: 1,
        request_max_bytes: 1 << 20,
        idle_max_ms: Some(600_000),
        fetch_max_bytes: 55 << 20,
        fetch_sessions: 100,
        receive_bytes: 16 << 20,
        unsent_bytes: 16 << 20,
    }
}

fn with_options(cores: usize, config: SimConfig, options: ShardOptions, test: impl AsyncFnOnce(&Broker)) {
    let sim = Sim::new(config);
    let ends = mailbox::mesh(cores, MAILBOX_MESSAGES);
    let image = Arc::new(Image::new("test", 1, cores, Arc::new(Configs::new())));
    let admission = Admission::new(LiveSettings::default().connections);
    let shards: Vec<Shard> = ends
        .into_iter()
        .map(|end| {
            let reactor = Reactor::new(sim.io());
            let mailbox = end.bind(&reactor);
            let shard = Shard::new(reactor, mailbox, image.clone(), admission.clone(), options.clone());
            shard.start();
            shard
        })
        .collect();
    let reactors: Vec<Reactor> = shards.iter().map(|shard| shard.reactor().clone()).collect();
    let plan = StorePlan {
        dir: PathBuf::from("/data"),
        durability: Durability::Disk,
        memory_ahead: false,
        limits: Limits::tiny(),
        retention_check_interval_ms: 1_000_000,
        compaction_bytes: Some(1 << 20),
    };
    let result = Reactor::block_on_cores(&reactors, async {
        shards[0].reactor().create_dir(&plan.dir).await.unwrap();
        let services = ServiceOptions {
            topics: OPTIONS,
            coordinators: CoordinatorOptions::default(),
            described_partitions: 10,
            data_dir: "/data".to_owned(),
            loggers: Loggers::new(Level::Info, drop),
        };
        Services::install(&shards[0], &services).await;
        broker::open(&shards[0], &plan, Uuid([9; 16])).await.unwrap();
        Services::start_coordinators(&shards[0]).await;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = assembly::listen(&shards[0], &[any]).await.unwrap()[0];
        test(&Broker { cores: shards.clone(), address, plan }).await;
    });
    result.unwrap();
    reactors.iter().for_each(Reactor::drop_tasks);
}

impl Broker {
    /// Creates a topic on every core's store and in every core's image.
    async fn create(&self, name: &str, partitions: i32, own: &[(&str, &str)]) -> Arc<Topic> {
        let core0 = &self.cores[0];
        let old = core0.image().clone();
        let number = old.topics().len() as u8 + 1;
        let configs: Configs = own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let action = Action::CreateTopic { name: name.to_owned(), id: Uuid([number; 16]), partitions, configs };
        let mut records = Vec::new();
        action.records(1, Uuid([9; 16]), &mut records);
        let mut draft = old.draft();
        records.iter().for_each(|record| draft.apply(record).unwrap());
        let image = draft.finish();
        let topic = image.topic(name).unwrap();
        let mut draft = image.draft();
        for (index, partition) in topic.partitions.iter().enumerate() {
            let key = PartitionKey { topic_id: topic.id.0, partition: index as u32 };
            let config = PartitionConfig {
                segment_bytes: topic.settings.segment_bytes as u64,
                retention_ms: topic.settings.retention_ms,
                max_message_bytes: topic.settings.max_message_bytes as u32,
                log_append_time: topic.settings.log_append_time,
                timestamp_after_max_ms: topic.settings.timestamp_after_max_ms,
                compact: topic.settings.cleanup.compact,
                min_cleanable_dirty_ratio: topic.settings.min_cleanable_dirty_ratio,
                ..PartitionConfig::default()
            };
            let spec = PartitionSpec { key, topic: name.to_owned(), config };
            let created =
                core0.run_on(partition.core, |shard| async move { shard.store().create_partition(spec).await });
            let slot: Slot = created.await.unwrap();
            draft.place(&topic.id, index as i32, slot).unwrap();
        }
        let image = Arc::new(draft.finish());
        core0.publish(image.clone()).await;
        image.topic(name).unwrap().clone()
    }

    async fn client(&self) -> Client {
        self.try_client().await.expect("a connection")
    }

    async fn try_client(&self) -> Option<Client> {
        Client::connect(self.cores[0].reactor(), self.address).await
    }
}

/// A client of one connection.
pub(crate) struct Client {
    reactor: Reactor,
    socket: Socket,
    received: BytesMut,
    next: i32,
}

impl Client {
    pub(crate) async fn connect(reactor: &Reactor, address: SocketAddr) -> Option<Client> {
        let socket = reactor.connect(address).await.ok()?;
        Some(Client { reactor: reactor.clone(), socket, received: BytesMut::new(), next: 0 })
    }

    /// Sends a request; its correlation id is the number of requests before it.
    pub(crate) async fn send<'a>(&mut self, api: ApiKey, version: i16, message: &impl Message<'a>) {
        let mut body = Vec::new();
        message.encode(&mut body, version).unwrap();
        self.send_body(api, version, &body).await;
    }

    async fn send_body(&mut self, api: ApiKey, version: i16, body: &[u8]) {
        let mut frame = vec![0; 4];
        let header = RequestHeader { api, version, correlation_id: self.next, client_id: Some("test") };
        header.encode(&mut frame).unwrap();
        frame.extend_from_slice(body);
        let len = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        self.next += 1;
        self.send_bytes(frame).await;
    }

    async fn send_bytes(&mut self, bytes: Vec<u8>) {
        let parts = vec![Part::Head(0..bytes.len())];
        // A broker that closes the connection meanwhile is for the reading side to notice.
        let _ = self.reactor.send(&self.socket, SendBuf { head: bytes, parts }).await;
    }

    /// The next response without its length; none when the connection has ended.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(len) = self.received.first_chunk::<4>() {
                let len = u32::from_be_bytes(*len) as usize;
                if self.received.len() >= 4 + len {
                    self.received.advance(4);
                    return Some(self.received.split_to(len).to_vec());
                }
            }
            let mut buf = std::mem::take(&mut self.received);
            buf.reserve(64 << 10);
            let result;
            (result, self.received) = self.reactor.recv(&self.socket, buf).await;
            if !result.is_ok_and(|received| received > 0) {
                return None;
            }
        }
    }

    /// Sends a request and gives its response to `check`.
    pub(crate) async fn call<'a, Q: Message<'a>, T>(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &Q,
        check: impl FnOnce(&[u8]) -> T,
    ) -> T {
        self.send(api, version, request).await;
        let response = self.receive().await.expect("a response");
        check(body_of(&response, api, version, self.next - 1))
    }

    async fn produce(&mut self, version: i16, topic: &Topic, acks: i16, batches: &[(i32, &[u8])]) -> Vec<Produced> {
        let request = produce_request(version, topic, acks, batches);
        self.call(ApiKey::Produce, version, &request, |body| produced(body, version)).await
    }

    async fn fetch(&mut self, version: i16, request: &FetchRequest<'_>) -> Fetched {
        self.call(ApiKey::Fetch, version, request, |body| fetched(body, version)).await
    }
}

fn body_of(response: &[u8], api: ApiKey, version: i16, correlation_id: i32) -> &[u8] {
    let mut reader = Reader::new(response);
    assert_eq!(header::decode_response(&mut reader, api, version), Ok(correlation_id), "answers keep their order");
    reader.rest()
}

fn decode<'a, M: Message<'a>>(body: &'a [u8], version: i16) -> M {
    let mut reader = Reader::new(body);
    let message = M::decode(&mut reader, version).unwrap();
    reader.finish().unwrap();
    message
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Produced {
    index: i32,
    error: ErrorCode,
    base_offset: i64,
    records: Vec<i32>,
}

fn produced(body: &[u8], version: i16) -> Vec<Produced> {
    let response: ProduceResponse<'_> = decode(body, version);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions
        .map(|partition| Produced {
            index: partition.index,
            error: ErrorCode::from_code(partition.error_code).unwrap(),
            base_offset: partition.base_offset,
            records: partition.record_errors.iter().map(|record| record.batch_index).collect(),
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Fetched {
    error: i16,
    session: i32,
    partitions: Vec<FetchedPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FetchedPartition {
    index: i32,
    error: ErrorCode,
    high_watermark: i64,
    log_start: i64,
    records: Vec<u8>,
}

impl Fetched {
    /// Values of the records of a partition, with their offsets.
    fn values(&self, index: i32) -> Vec<(i64, Vec<u8>)> {
        let partition = self.partitions.iter().find(|partition| partition.index == index);
        let records = partition.map(|partition| &partition.records[..]).unwrap_or_default();
        let mut out = Vec::new();
        for batch in Batches::new(records) {
            let batch = batch.unwrap();
            assert!(batch.crc_matches());
            for record in batch.records().unwrap() {
                let record = record.unwrap();
                out.push((record.offset, record.value.unwrap().to_vec()));
            }
        }
        out
    }
}

fn fetched(body: &[u8], version: i16) -> Fetched {
    let response: FetchResponse<'_> = decode(body, version);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    Fetched {
        error: response.error_code,
        session: response.session_id,
        partitions: partitions
            .map(|partition| FetchedPartition {
                index: partition.partition_index,
                error: ErrorCode::from_code(partition.error_code).unwrap(),
                high_watermark: partition.high_watermark,
                log_start: partition.log_start_offset,
                records: partition.records.unwrap_or_default().to_vec(),
            })
            .collect(),
    }
}

fn produce_request<'a>(version: i16, topic: &'a Topic, acks: i16, batches: &[(i32, &'a [u8])]) -> ProduceRequest<'a> {
    let partition = |&(index, records): &(i32, &'a [u8])| PartitionProduceData { index, records: Some(records) };
    let name = if version >= 13 { "" } else { &*topic.name };
    let topic_id = if version >= 13 { topic.id } else { Uuid::default() };
    let partition_data = batches.iter().map(partition).collect();
    ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData { name, topic_id, partition_data }],
        ..ProduceRequest::default()
    }
}

/// A request for partitions with the offsets from which they are wanted.
fn fetch_request<'a>(version: i16, topic: &'a Topic, partitions: &[(i32, i64)]) -> FetchRequest<'a> {
    let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let name = if version >= 13 { "" } else { &*topic.name };
    let topic_id = if version >= 13 { topic.id } else { Uuid::default() };
    FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 10 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: name, topic_id, partitions: partitions.iter().map(partition).collect() }],
        ..FetchRequest::default()
    }
}

/// A batch with these values.
fn batch(values: &[&[u8]]) -> Vec<u8> {
    build(values.iter().map(|value| (Some(&b"key"[..]), *value, 1_700_000_000_000)), Codec::None)
}

fn build<'a>(records: impl Iterator<Item = (Option<&'a [u8]>, &'a [u8], i64)>, codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (key, value, timestamp) in records {
        builder.push(&NewRecord { timestamp, key, value: Some(value), headers: &[] }).unwrap();
    }
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

/// Puts a batch's CRC right after a change of its bytes.
fn seal(batch: &mut [u8]) {
    let crc = wire::batch::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn what_is_written_is_read_in_every_version_on_every_core() {
    for cores in 1..=3 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 4, &[]).await;
            let mut client = broker.client().await;
            let mut ends = [0i64; 4];
            for version in 3..=13 {
                let batches: Vec<Vec<u8>> =
                    (0..4).map(|p| batch(&[format!("{version}/{p}").as_bytes(), b"x"])).collect();
                let parts: Vec<(i32, &[u8])> = batches.iter().enumerate().map(|(p, b)| (p as i32, &b[..])).collect();
                for (index, produced) in client.produce(version, &topic, -1, &parts).await.into_iter().enumerate() {
                    assert_eq!((produced.index, produced.error), (index as i32, ErrorCode::None));
                    assert_eq!(produced.base_offset, ends[index]);
                    ends[index] += 2;
                }
            }
            for version in 4..=18 {
                let request = fetch_request(version, &topic, &[(0, 0), (1, 0), (2, 0), (3, 0)]);
                let fetched = client.fetch(version, &request).await;
                for index in 0..4 {
                    let values = fetched.values(index);
                    assert_eq!(values.len(), 22, "version {version}, partition {index}, {cores} cores");
                    for (at, (offset, value)) in values.iter().enumerate() {
                        assert_eq!(*offset, at as i64);
                        if at % 2 == 0 {
                            assert_eq!(*value, format!("{}/{index}", 3 + at / 2).into_bytes());
                        }
                    }
                }
            }
        });
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_appended_in_order() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let mut client = broker.client().await;
        for n in 0..200i32 {
            let bytes = batch(&[&n.to_be_bytes()]);
            let request = produce_request(9, &topic, 1, &[(n % 2, &bytes)]);
            client.send(ApiKey::Produce, 9, &request).await;
        }
        for n in 0..200i32 {
            let response = client.receive().await.unwrap();
            let produced = produced(body_of(&response, ApiKey::Produce, 9, n), 9);
            assert_eq!((produced[0].error, produced[0].base_offset), (ErrorCode::None, i64::from(n / 2)));
        }
        let fetched = client.fetch(12, &fetch_request(12, &topic, &[(0, 0), (1, 0)])).await;
        for index in 0..2 {
            let values: Vec<i32> =
                fetched.values(index).iter().map(|(_, v)| i32::from_be_bytes(v[..].try_into().unwrap())).collect();
            assert_eq!(values, (0..200).filter(|n| n % 2 == index).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_fetch_waits_for_records_of_any_core_and_no_longer_than_asked() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let (mut reader, mut writer) = (broker.client().await, broker.client().await);
            for index in 0..2 {
                let request = FetchRequest { max_wait_ms: 60_000, ..fetch_request(12, &topic, &[(0, 0), (1, 0)]) };
                let mut request = request;
                request.topics[0].partitions[0].fetch_offset = i64::from(index > 0);
                reader.send(ApiKey::Fetch, 12, &request).await;
                let began_ns = reader.reactor.now_ns();
                writer.produce(9, &topic, 1, &[(index, &batch(&[b"news"]))]).await;
                let response = reader.receive().await.unwrap();
                let fetched = fetched(body_of(&response, ApiKey::Fetch, 12, index), 12);
                assert_eq!(fetched.values(index).len(), 1);
                assert!(reader.reactor.now_ns() - began_ns < 1_000_000_000, "long before the time is up");
            }
            let began_ns = reader.reactor.now_ns();
            let fetched = reader.fetch(12, &fetch_request(12, &topic, &[(0, 1), (1, 1)])).await;
            assert!(fetched.partitions.iter().all(|partition| partition.records.is_empty()));
            let took_ms = (reader.reactor.now_ns() - began_ns) / 1_000_000;
            assert!((100..110).contains(&took_ms), "{took_ms} ms");
        });
    }
}

#[test]
fn min_bytes_count_over_all_partitions() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let (mut reader, mut writer) = (broker.client().await, broker.client().await);
        let bytes = batch(&[&[7; 100]]);
        let request = FetchRequest {
            max_wait_ms: 60_000,
            min_bytes: 2 * bytes.len() as i32,
            ..fetch_request(12, &topic, &[(0, 0), (1, 0)])
        };
        reader.send(ApiKey::Fetch, 12, &request).await;
        writer.produce(9, &topic, 1, &[(0, &bytes)]).await;
        writer.produce(9, &topic, 1, &[(1, &bytes)]).await;
        let response = reader.receive().await.unwrap();
        let fetched = fetched(body_of(&response, ApiKey::Fetch, 12, 0), 12);
        assert_eq!((fetched.values(0).len(), fetched.values(1).len()), (1, 1));
    });
}

#[test]
fn limits_on_bytes_leave_at_least_one_batch() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            let bytes = batch(&[&[7; 500]]);
            for _ in 0..3 {
                client.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
            }
            let two = [(0, 0), (1, 0)];
            let batches = |fetched: &Fetched| (fetched.values(0).len(), fetched.values(1).len());
            let request = FetchRequest { max_bytes: 1, ..fetch_request(12, &topic, &two) };
            assert_eq!(batches(&client.fetch(12, &request).await), (1, 0));
            let max_bytes = 4 * bytes.len() as i32;
            let request = FetchRequest { max_bytes, ..fetch_request(12, &topic, &two) };
            assert_eq!(batches(&client.fetch(12, &request).await), (3, 1));
            let mut request = fetch_request(12, &topic, &two);
            request.topics[0].partitions[0].partition_max_bytes = 1;
            request.topics[0].partitions[1].partition_max_bytes = 2 * bytes.len() as i32;
            assert_eq!(batches(&client.fetch(12, &request).await), (1, 2));
        });
    }
}

#[test]
fn an_incremental_session_tells_what_changed() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 3, &[]).await;
        let mut client = broker.client().await;
        let mut request = fetch_request(13, &topic, &[(0, 0), (1, 0), (2, 0)]);
        (request.session_epoch, request.max_wait_ms) = (0, 0);
        let first = client.fetch(13, &request).await;
        assert_eq!(first.partitions.len(), 3);
        assert_ne!(first.session, 0);
        client.produce(13, &topic, 1, &[(1, &batch(&[b"a"]))]).await;
        let mut request = FetchRequest { session_id: first.session, session_epoch: 1, ..FetchRequest::default() };
        let second = client.fetch(13, &request).await;
        assert_eq!(second.partitions.iter().map(|p| p.index).collect::<Vec<_>>(), [1]);
        assert_eq!(second.values(1), [(0, b"a".to_vec())]);
        request.session_epoch = 2;
        request.topics = fetch_request(13, &topic, &[(1, 1)]).topics;
        request.forgotten_topics_data =
            vec![ForgottenTopic { topic_id: topic.id, partitions: vec![0], ..ForgottenTopic::default() }];
        assert_eq!(client.fetch(13, &request).await.partitions, []);
        request.session_epoch = 9;
        assert_eq!(client.fetch(13, &request).await.error, ErrorCode::InvalidFetchSessionEpoch.code());
        request.session_id = 77;
        assert_eq!(client.fetch(13, &request).await.error, ErrorCode::FetchSessionIdNotFound.code());
    });
}

#[test]
fn batches_that_break_a_rule_are_refused_with_kafkas_errors() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[("max.message.bytes", "1000")]).await;
        let compacted = broker.create("table", 1, &[("cleanup.policy", "compact")]).await;
        let internal = broker.create("__consumer_offsets", 1, &[]).await;
        let mut client = broker.client().await;
        let good = batch(&[b"v"]);
        let changed = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            if at >= 21 {
                seal(&mut changed);
            }
            changed
        };
        let two = [&good[..], &good[..]].concat();
        let future = build([(None, &b"v"[..], 1_700_000_000_000), (None, b"w", i64::MAX / 2)].into_iter(), Codec::None);
        let zstd = build([(None, &b"v"[..], 0)].into_iter(), Codec::Zstd);
        let cases: Vec<(&str, Vec<u8>, ErrorCode, Vec<i32>)> = vec![
            ("nothing", Vec::new(), ErrorCode::InvalidRecord, vec![]),
            ("cut", good[..good.len() - 1].to_vec(), ErrorCode::InvalidRecord, vec![]),
            ("two batches", two, ErrorCode::InvalidRecord, vec![]),
            ("magic 1", changed(16, &[1]), ErrorCode::InvalidRecord, vec![]),
            ("magic 7", changed(16, &[7]), ErrorCode::CorruptMessage, vec![]),
            ("length 3", changed(8, &[0, 0, 0, 3]), ErrorCode::CorruptMessage, vec![]),
            ("crc", changed(17, &[0, 0, 0, 0]), ErrorCode::CorruptMessage, vec![]),
            ("control", changed(21, &[0, 0x20]), ErrorCode::InvalidRecord, vec![]),
            ("codec 7", changed(21, &[0, 7]), ErrorCode::UnsupportedCompressionType, vec![]),
            ("base offset", changed(0, &[0, 0, 0, 0, 0, 0, 0, 1]), ErrorCode::InvalidRecord, vec![]),
            ("count", changed(57, &[0, 0, 0, 2]), ErrorCode::InvalidRecord, vec![]),
            ("zstd before version 7", zstd, ErrorCode::UnsupportedCompressionType, vec![]),
            ("too large", batch(&[&[1; 1000]]), ErrorCode::MessageTooLarge, vec![]),
            ("timestamp", future, ErrorCode::InvalidTimestamp, vec![1]),
        ];
        for (name, bytes, error, records) in cases {
            // Both cores, and beside a batch that is right.
            for index in 0..2 {
                let version = if name.starts_with("zstd") { 6 } else { 9 };
                let produced = client.produce(version, &topic, -1, &[(index, &bytes), (1 - index, &good)]).await;
                assert_eq!((produced[0].error, produced[0].base_offset), (error, -1), "{name}");
                assert_eq!(produced[0].records, records, "{name}");
                assert_eq!(produced[1].error, ErrorCode::None, "{name}");
            }
        }
        let keyless = build([(Some(&b"k"[..]), &b"v"[..], 0), (None, b"w", 0)].into_iter(), Codec::Gzip);
        let produced = client.produce(9, &compacted, -1, &[(0, &keyless)]).await;
        assert_eq!((produced[0].error, &produced[0].records), (ErrorCode::InvalidRecord, &vec![1]));
        assert_eq!(client.produce(9, &compacted, -1, &[(0, &good)]).await[0].error, ErrorCode::None);
        assert_eq!(client.produce(9, &topic, 2, &[(0, &good)]).await[0].error, ErrorCode::InvalidRequiredAcks);
        let in_transaction = changed(21, &[0, 0x10]);
        let produced = client.produce(9, &topic, 1, &[(0, &in_transaction), (1, &good)]).await;
        assert!(produced.iter().all(|p| p.error == ErrorCode::TransactionalIdAuthorizationFailed), "{produced:?}");
        let stamped = changed(21, &[0, 8]);
        let produced = client.produce(9, &topic, 1, &[(0, &stamped)]).await;
        assert_eq!(produced[0].error, ErrorCode::None);
        let fetched = client.fetch(12, &fetch_request(12, &topic, &[(0, produced[0].base_offset)])).await;
        let stored = &fetched.partitions[0].records;
        assert_eq!((fetched.values(0).len(), stored[22] & 8), (1, 0), "the timestamp type is put right");
        assert_eq!(client.produce(9, &internal, 1, &[(0, &good)]).await[0].error, ErrorCode::InvalidTopicException);
        for (index, good) in [(-1, &good), (2, &good)] {
            let produced = client.produce(9, &topic, 1, &[(index, good)]).await;
            assert_eq!(produced[0].error, ErrorCode::UnknownTopicOrPartition);
        }
        let unknown = Topic { name: "nowhere".into(), id: Uuid([99; 16]), ..Topic::clone(&topic) };
        for (version, error) in [(12, ErrorCode::UnknownTopicOrPartition), (13, ErrorCode::UnknownTopicId)] {
            assert_eq!(client.produce(version, &unknown, 1, &[(0, &good)]).await[0].error, error);
            let fetched = client.fetch(version, &fetch_request(version, &unknown, &[(0, 0)])).await;
            assert_eq!(fetched.partitions[0].error, error);
        }
    });
}

#[test]
fn no_acks_no_answer_and_an_error_ends_the_connection() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            let bytes = batch(&[b"v"]);
            client.send(ApiKey::Produce, 9, &produce_request(9, &topic, 0, &[(0, &bytes), (1, &bytes)])).await;
            // The next answer is that of the next request.
            let produced = client.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
            assert_eq!((produced[0].base_offset, produced[1].base_offset), (1, 1));
            for index in 0..2 {
                let mut client = broker.client().await;
                client.send(ApiKey::Produce, 9, &produce_request(9, &topic, 1, &[(0, &bytes)])).await;
                client.send(ApiKey::Produce, 9, &produce_request(9, &topic, 0, &[(index, b"no batch")])).await;
                assert!(client.receive().await.is_some(), "what was before is answered");
                assert_eq!(client.receive().await, None);
            }
        });
    }
}

#[test]
fn a_request_that_cannot_be_read_ends_its_connection() {
    with_broker(1, async |broker| {
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("a negative length", vec![0xff; 4]),
            ("a length beyond the limit", ((1 << 20) + 1i32).to_be_bytes().to_vec()),
            ("no header", vec![0, 0, 0, 0]),
            ("an unknown API", vec![0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("an API for controllers", vec![0, 0, 0, 10, 0, 52, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("a version too high", vec![0, 0, 0, 10, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0]),
            ("a version too low", vec![0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]),
            ("a body cut short", vec![0, 0, 0, 11, 0, 0, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff]),
        ];
        for (name, bytes) in cases {
            let mut client = broker.client().await;
            client.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
            client.send_bytes(bytes).await;
            assert!(client.receive().await.is_some(), "{name}: what was before is answered");
            assert_eq!(client.receive().await, None, "{name}");
        }
        let mut client = broker.client().await;
        let bytes = batch(&[b"v"]);
        client.send_body(ApiKey::Produce, 9, &bytes).await;
        assert_eq!(client.receive().await, None, "a body that is something else");
    });
}

#[test]
fn api_versions_are_told_in_any_version() {
    with_broker(1, async |broker| {
        let mut client = broker.client().await;
        for version in 0..=4 {
            let request = ApiVersionsRequest { client_software_name: "test", client_software_version: "1" };
            let keys = client.call(ApiKey::ApiVersions, version, &request, |body| {
                let response: ApiVersionsResponse<'_> = decode(body, version);
                assert_eq!(response.error_code, 0);
                response.api_keys.len()
            });
            assert_eq!(keys.await, crate::api::APIS.len());
        }
        client.send_body(ApiKey::ApiVersions, 50, b"whatever comes in later versions").await;
        let response = client.receive().await.unwrap();
        let response: ApiVersionsResponse<'_> = decode(body_of(&response, ApiKey::ApiVersions, 50, 5), 0);
        assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
        let request = ApiVersionsRequest { client_software_name: "no name", client_software_version: "1" };
        let error =
            client.call(ApiKey::ApiVersions, 3, &request, |body| decode::<ApiVersionsResponse<'_>>(body, 3).error_code);
        assert_eq!(error.await, ErrorCode::InvalidRequest.code());
    });
}

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
fn there_are_two_levels_of_isolation() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let mut client = broker.client().await;
        client.produce(9, &topic, 1, &[(0, &batch(&[b"a"])), (1, &batch(&[b"b"]))]).await;
        for (isolation_level, error) in [(1, ErrorCode::None), (2, ErrorCode::InvalidRequest)] {
            for version in [4, 12] {
                let request = FetchRequest {
                    isolation_level,
                    max_wait_ms: 600_000,
                    ..fetch_request(version, &topic, &[(0, 0), (1, 0)])
                };
                let fetched = client.fetch(version, &request).await;
                let errors: Vec<_> = fetched.partitions.iter().map(|partition| partition.error).collect();
                assert_eq!(errors, [error; 2], "level {isolation_level}, version {version}");
                assert_eq!(fetched.values(0).is_empty(), error != ErrorCode::None);
            }
            let partition = ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() };
            let topics = vec![ListOffsetsTopic { name: &topic.name, partitions: vec![partition] }];
            let request =
                ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..ListOffsetsRequest::default() };
            let told = client.call(ApiKey::ListOffsets, 9, &request, |body| {
                let response: ListOffsetsResponse<'_> = decode(body, 9);
                response.topics[0].partitions[0].error_code
            });
            assert_eq!(told.await, error.code(), "level {isolation_level}");
        }
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

#[test]
fn records_leave_memory_and_are_still_read() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            // Ten times what the pool of a core holds.
            let total = 10 * (512 << 10) / 8000;
            for n in 0..total {
                let value = [&(n as u32).to_be_bytes()[..], &[7; 7900]].concat();
                let bytes = batch(&[&value]);
                let produced = client.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
                assert_eq!((produced[0].error, produced[1].error), (ErrorCode::None, ErrorCode::None));
            }
            let mut next = [0i64; 2];
            while next.iter().any(|next| *next < total as i64) {
                let request = fetch_request(12, &topic, &[(0, next[0]), (1, next[1])]);
                let fetched = client.fetch(12, &request).await;
                for index in 0..2 {
                    for (offset, value) in fetched.values(index) {
                        assert_eq!(offset, next[index as usize]);
                        assert_eq!(value[..4], (offset as u32).to_be_bytes());
                        next[index as usize] += 1;
                    }
                }
            }
        });
    }
}

#[test]
fn a_client_that_does_not_read_stops_its_own_requests_only() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let (mut slow, mut other) = (broker.client().await, broker.client().await);
        let bytes = batch(&[&[7; 8000]]);
        for _ in 0..100 {
            other.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
        }
        let (reactor, topic2) = (slow.reactor.clone(), topic.clone());
        let sent = Rc::new(Cell::new(0));
        let counted = sent.clone();
        let socket = slow.socket.clone();
        reactor.spawn(async move {
            for _ in 0..10_000 {
                slow.send(ApiKey::Fetch, 12, &fetch_request(12, &topic2, &[(0, 0), (1, 0)])).await;
                counted.set(counted.get() + 1);
            }
        });
        for _ in 0..100 {
            let produced = other.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
            assert_eq!(produced[0].error, ErrorCode::None);
        }
        assert!(sent.get() < 10_000, "requests stay in the sockets");
        let unsent: usize = broker.cores.iter().map(|core| core.0.unsent_bytes.get()).sum();
        // Beside the bound: the answer that crosses it, and the send under way with its own.
        assert!(unsent <= 2 * (UNSENT_BYTES + (2 << 20)), "{unsent} bytes wait to be sent");
        drop(socket);
    });
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let options = ShardOptions { idle_max_ms: Some(5_000), ..options() };
    with_options(1, SimConfig::default(), options, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let (mut idle, mut waiting) = (broker.client().await, broker.client().await);
        let request = FetchRequest { max_wait_ms: 20_000, ..fetch_request(12, &topic, &[(0, 0)]) };
        waiting.send(ApiKey::Fetch, 12, &request).await;
        assert_eq!(idle.receive().await, None);
        let closed_ms = idle.reactor.now_ns() / 1_000_000;
        assert!((5_000..7_000).contains(&closed_ms), "{closed_ms} ms");
        assert!(waiting.receive().await.is_some(), "a long poll is not idle");
    });
}

#[test]
fn a_stop_answers_what_has_begun_and_keeps_what_was_acknowledged() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let (mut reader, mut writer) = (broker.client().await, broker.client().await);
        let request = FetchRequest { max_wait_ms: 600_000, ..fetch_request(12, &topic, &[(0, 0), (1, 0)]) };
        reader.send(ApiKey::Fetch, 12, &request).await;
        let bytes = batch(&[b"v"]);
        writer.send(ApiKey::Produce, 9, &produce_request(9, &topic, 1, &[(0, &bytes), (1, &bytes)])).await;
        let core0 = broker.cores[0].clone();
        core0.reactor().sleep_until(core0.reactor().now_ns() + 50_000_000).await;
        let began_ns = core0.reactor().now_ns();
        assembly::stop(&core0, &broker.plan).await.unwrap();
        assert!(core0.reactor().now_ns() - began_ns < 500_000_000, "nobody was waited for");
        assert!(reader.receive().await.is_some() && writer.receive().await.is_some());
        assert_eq!(reader.receive().await, None);
        assert!(core0.reactor().connect(broker.address).await.is_err() || broker.cores[0].all_connections().is_empty());
    });
}

#[test]
fn more_requests_than_may_be_in_flight_are_all_answered() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            let bytes = batch(&[b"v"]);
            let total = 3 * REQUESTS_IN_FLIGHT as i32;
            let mut all = Vec::new();
            for n in 0..total {
                let mut frame = vec![0; 4];
                let header =
                    RequestHeader { api: ApiKey::Produce, version: 9, correlation_id: n, client_id: Some("test") };
                header.encode(&mut frame).unwrap();
                produce_request(9, &topic, 1, &[(1, &bytes)]).encode(&mut frame, 9).unwrap();
                let len = (frame.len() - 4) as i32;
                frame[..4].copy_from_slice(&len.to_be_bytes());
                all.extend(frame);
            }
            let (reactor, socket) = (client.reactor.clone(), client.socket.clone());
            client.reactor.spawn(async move {
                let parts = vec![Part::Head(0..all.len())];
                reactor.send(&socket, SendBuf { head: all, parts }).await.0.unwrap();
            });
            for n in 0..total {
                let response = client.receive().await.unwrap();
                let produced = produced(body_of(&response, ApiKey::Produce, 9, n), 9);
                assert_eq!(produced[0].base_offset, i64::from(n));
            }
        });
    }
}

/// A seeded sequence for tests (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Writes numbered values until `count` are acknowledged, several requests in flight, over a connection that may be reset
/// at any time. Returns what was acknowledged: partition, offset, value.
async fn write_numbers(broker: &Broker, topic: &Topic, writer: u64, count: usize) -> Vec<(i32, i64, Vec<u8>)> {
    let mut dice = Dice(writer);
    let mut acknowledged = Vec::new();
    let mut number = 0u64;
    while acknowledged.len() < count {
        let Some(mut client) = broker.try_client().await else { continue };
        loop {
            let mut sent = Vec::new();
            for _ in 0..=dice.below(8) {
                number += 1;
                let value =
                    [&writer.to_be_bytes()[..], &number.to_be_bytes(), &vec![9; dice.below(400) as usize]].concat();
                let index = dice.below(topic.partitions.len() as u64) as i32;
                let bytes = batch(&[&value]);
                client.send(ApiKey::Produce, 9, &produce_request(9, topic, 1, &[(index, &bytes)])).await;
                sent.push((client.next - 1, index, value));
            }
            let mut is_lost = false;
            for (correlation_id, index, value) in sent {
                let Some(response) = client.receive().await else {
                    is_lost = true;
                    break;
                };
                let produced = produced(body_of(&response, ApiKey::Produce, 9, correlation_id), 9);
                assert_eq!(produced[0].error, ErrorCode::None);
                acknowledged.push((index, produced[0].base_offset, value));
            }
            if is_lost || acknowledged.len() >= count {
                break;
            }
        }
    }
    acknowledged
}

/// Reads partitions from the beginning with sessions and long polls, until `done` says so and all is read.
async fn read_all(broker: &Broker, topic: &Topic, done: &Cell<bool>) -> Vec<Vec<Vec<u8>>> {
    let mut read: Vec<Vec<Vec<u8>>> = vec![Vec::new(); topic.partitions.len()];
    loop {
        let Some(mut client) = broker.try_client().await else { continue };
        let offsets = |read: &[Vec<Vec<u8>>]| -> Vec<(i32, i64)> {
            read.iter().enumerate().map(|(index, values)| (index as i32, values.len() as i64)).collect()
        };
        let (mut session, mut epoch) = (0, 0);
        loop {
            let is_last = done.get();
            let mut request = fetch_request(13, topic, &offsets(&read));
            (request.session_id, request.session_epoch) = (session, epoch);
            client.send(ApiKey::Fetch, 13, &request).await;
            let Some(response) = client.receive().await else { break };
            let fetched = fetched(body_of(&response, ApiKey::Fetch, 13, client.next - 1), 13);
            assert_eq!(fetched.error, 0);
            (session, epoch) = (fetched.session, epoch + 1);
            let mut news = 0;
            for partition in &fetched.partitions {
                assert_eq!(partition.error, ErrorCode::None);
                for (offset, value) in fetched.values(partition.index) {
                    let values = &mut read[partition.index as usize];
                    assert_eq!(offset, values.len() as i64, "offsets are dense");
                    assert!(offset < partition.high_watermark);
                    values.push(value);
                    news += 1;
                }
            }
            if is_last && news == 0 {
                return read;
            }
        }
    }
}

#[test]
fn what_was_acknowledged_is_read_where_it_was_said_to_be_whatever_breaks() {
    for seed in 0..12u64 {
        let cores = 1 + seed as usize % 3;
        let config = SimConfig { seed, reset: 3_000, stall: 2_000, short_transfer: 100_000, ..SimConfig::default() };
        with_options(cores, config, options(), async |broker| {
            let topic = broker.create("events", 5, &[]).await;
            let done = Rc::new(Cell::new(false));
            let reactor = broker.cores[0].reactor().clone();
            let written = Rc::new(RefCell::new(Vec::new()));
            let writers = Rc::new(Cell::new(4));
            for writer in 0..4 {
                let (broker, topic) = (broker.clone(), topic.clone());
                let (written, writers, done) = (written.clone(), writers.clone(), done.clone());
                reactor.spawn(async move {
                    let acknowledged = write_numbers(&broker, &topic, seed * 10 + writer, 150).await;
                    written.borrow_mut().extend(acknowledged);
                    writers.set(writers.get() - 1);
                    done.set(writers.get() == 0);
                });
            }
            let read = read_all(broker, &topic, &done).await;
            let mut seen = HashSet::new();
            for (index, offset, value) in written.borrow().iter() {
                assert_eq!(&read[*index as usize][*offset as usize], value, "seed {seed}");
                assert!(seen.insert((*index, *offset)), "an offset is given once");
            }
            let all: Vec<&Vec<u8>> = read.iter().flatten().collect();
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "nothing is written twice");
        });
    }
}

#[test]
fn no_bytes_bring_the_broker_down() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let mut dice = Dice(1);
        let good = batch(&[b"v"]);
        let mut samples: Vec<Vec<u8>> = Vec::new();
        for api in crate::api::APIS {
            for version in api.min..=api.max {
                let mut body = Vec::new();
                match api.key {
                    ApiKey::Produce => {
                        produce_request(version, &topic, 1, &[(0, &good), (1, &good)])
                            .encode(&mut body, version)
                            .unwrap();
                    }
                    ApiKey::Fetch => {
                        let request =
                            FetchRequest { max_wait_ms: 0, ..fetch_request(version, &topic, &[(0, 0), (1, 0)]) };
                        request.encode(&mut body, version).unwrap();
                    }
                    _ => body = (0..dice.below(60)).map(|_| dice.below(256) as u8).collect(),
                }
                let mut frame = vec![0; 4];
                let header = RequestHeader { api: api.key, version, correlation_id: 1, client_id: Some("test") };
                header.encode(&mut frame).unwrap();
                frame.extend(body);
                samples.push(frame);
            }
        }
        for round in 0..6000 {
            let mut frame = samples[round % samples.len()].clone();
            for _ in 0..1 + dice.below(4) {
                let at = 4 + dice.below(frame.len() as u64 - 4) as usize;
                match dice.below(4) {
                    0 => frame.truncate(at.max(5)),
                    1 => frame[at] = dice.below(256) as u8,
                    2 => frame[at] ^= 1 << dice.below(8),
                    _ => frame.extend((0..dice.below(20)).map(|n| n as u8)),
                }
            }
            let len = (frame.len() - 4) as u32;
            frame[..4].copy_from_slice(&len.to_be_bytes());
            let mut client = broker.client().await;
            client.send_bytes(frame).await;
            client.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
            // An answer to the first, and one to the second, or the end of the connection.
            while client.receive().await.is_some_and(|response| !response.starts_with(&[0, 0, 0, 0])) {}
        }
        let mut client = broker.client().await;
        assert_eq!(client.produce(9, &topic, 1, &[(0, &good), (1, &good)]).await[1].error, ErrorCode::None);
    });
}

#[test]
fn topics_that_ask_for_it_have_each_record_looked_at() {
    with_broker(2, async |broker| {
        let early = broker.create("early", 1, &[("message.timestamp.before.max.ms", "1000")]).await;
        let stamped = broker.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        let gzip = broker.create("gzip", 1, &[("compression.type", "gzip")]).await;
        let plain = broker.create("plain", 1, &[("compression.type", "uncompressed")]).await;
        let mut client = broker.client().await;
        let now = broker.cores[0].reactor().unix_ms();
        let times = |times: &[i64], codec| build(times.iter().map(|time| (None, &b"v"[..], *time)), codec);

        let produced = client.produce(9, &early, 1, &[(0, &times(&[now, now - 100_000, now], Codec::Zstd))]).await;
        assert_eq!((produced[0].error, &produced[0].records[..]), (ErrorCode::InvalidTimestamp, &[1][..]));
        for times in [times(&[now, now - 10], Codec::None), times(&[-1], Codec::None)] {
            assert_eq!(client.produce(9, &early, 1, &[(0, &times)]).await[0].error, ErrorCode::None);
        }

        let far = times(&[now + 1_000_000_000], Codec::None);
        assert_eq!(client.produce(9, &stamped, 1, &[(0, &far)]).await[0].error, ErrorCode::None);
        let mut claimed = far.clone();
        claimed[22] |= 8;
        seal(&mut claimed);
        let produced = client.produce(9, &stamped, 1, &[(0, &claimed)]).await;
        assert_eq!((produced[0].error, &produced[0].records[..]), (ErrorCode::InvalidTimestamp, &[0][..]));

        for (topic, from, to) in
            [(&gzip, Codec::None, 1), (&gzip, Codec::Lz4, 1), (&gzip, Codec::Gzip, 1), (&plain, Codec::Snappy, 0)]
        {
            let produced = client.produce(9, topic, 1, &[(0, &times(&[now, now], from))]).await;
            assert_eq!(produced[0].error, ErrorCode::None);
            let fetched = client.fetch(12, &fetch_request(12, topic, &[(0, produced[0].base_offset)])).await;
            let stored = Batches::new(&fetched.partitions[0].records).next().unwrap().unwrap();
            assert_eq!((stored.crc_matches(), stored.attributes().0 & 7, stored.record_count()), (true, to, 2));
            let mut scratch = Vec::new();
            let body = stored.decompress(1000, &mut scratch).unwrap();
            assert!(stored.records_in(body).all(|record| record.unwrap().value == Some(b"v")));
        }
    });
}
