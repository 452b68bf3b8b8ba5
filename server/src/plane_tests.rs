//! The data path as clients see it: brokers of several cores in a simulated world, all in one thread, spoken to over its
//! network.

use std::cell::Cell;
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
use engine::{Durability, Slot};
use wire::api::ApiKey;
use wire::batch::{BatchBuilder, Batches, NewRecord};
use wire::compression::Codec;
use wire::error::ErrorCode;
use wire::header::{self, RequestHeader};
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{
    ApiVersionsRequest, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest,
    ProduceResponse,
};
use wire::{Message, Reader, Uuid};

use crate::assembly::{self, StorePlan};
use crate::broker;
use crate::catalog::Action;
use crate::config::coordinators::CoordinatorOptions;
use crate::config::live::LiveSettings;
use crate::config::topic::Configs;
use crate::connection::admission::Admission;
use crate::controller::partition_spec;
use crate::handlers::test_image::OPTIONS;
use crate::image::{Image, Topic};
use crate::limits::MAILBOX_MESSAGES;
use crate::loggers::{Level, Loggers};
use crate::services::{ServiceOptions, Services};
use crate::shard::{Shard, ShardOptions};

mod breakage;
mod configs;
mod connections;
mod legacy;
mod offsets;
mod records;
mod transactions;

/// A broker under test.
#[derive(Clone)]
struct Broker {
    cores: Vec<Shard>,
    address: SocketAddr,
    plan: StorePlan,
    sim: Sim,
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
        test(&Broker { cores: shards.clone(), address, plan, sim: sim.clone() }).await;
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
            let spec = partition_spec(topic, index);
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
