//! A client of a few requests on a plain socket, for what stock clients never send and for loads whose every record is
//! known.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use wire::api::ApiKey;
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;
use wire::header::{self, RequestHeader};
use wire::messages::*;
use wire::{Message, Reader, Uuid};

use crate::wait::Wait;

/// Versions that name topics and not their ids, and whose answers carry what the tests look at.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 10;
const CREATE_TOPICS_VERSION: i16 = 7;
const INIT_PRODUCER_ID_VERSION: i16 = 5;

/// Isolation levels.
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// Answers come in milliseconds; this only ends a test that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// More than any answer here has.
const ANSWER_MAX: usize = 64 << 20;

/// A connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    next_correlation_id: i32,
}

/// What a broker says of one partition of a Produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// 0, or what was wrong.
    pub error_code: i16,
    /// Offset of the batch's first record, -1 with an error.
    pub base_offset: i64,
}

/// What a broker says of one partition of a Fetch request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// 0, or what was wrong.
    pub error_code: i16,
    /// The first offset that is not committed.
    pub high_watermark: i64,
    /// Batches; the last one may be cut.
    pub records: Vec<u8>,
}

impl Connection {
    /// Connects to `host:port`.
    pub fn open(bootstrap: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Connection { stream, next_correlation_id: 1 })
    }

    /// Sends a request and returns its correlation id.
    pub fn send<'a>(&mut self, api: ApiKey, version: i16, request: &impl Message<'a>) -> io::Result<i32> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let mut frame = Vec::new();
        let head = RequestHeader { api, version, correlation_id, client_id: Some("weir-tests") };
        head.encode(&mut frame).map_err(io::Error::other)?;
        request.encode(&mut frame, version).map_err(io::Error::other)?;
        self.send_frame(&frame)?;
        Ok(correlation_id)
    }

    /// Sends bytes as one frame.
    pub fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.send_bytes(&[&len.to_be_bytes(), frame].concat())
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame without its length; `None` where the broker has closed the connection.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut len = [0; 4];
        match self.stream.read_exact(&mut len) {
            Ok(()) => {}
            Err(error) if closed(error.kind()) => return Ok(None),
            Err(error) => return Err(error),
        }
        let len = u32::from_be_bytes(len) as usize;
        if len > ANSWER_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {len} bytes")));
        }
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame)?;
        Ok(Some(frame))
    }

    /// The body of the next answer, which must be the one to `correlation_id`.
    pub fn answer(&mut self, api: ApiKey, version: i16, correlation_id: i32) -> io::Result<Vec<u8>> {
        let frame = self.receive()?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let mut reader = Reader::new(&frame);
        let found = header::decode_response(&mut reader, api, version).map_err(io::Error::other)?;
        if found != correlation_id {
            let what = format!("the answer to {found} where the one to {correlation_id} is due");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let mut head = Vec::new();
        header::encode_response(&mut head, api, version, correlation_id);
        Ok(frame[head.len()..].to_vec())
    }

    /// Sends a request and returns the body of its answer.
    pub fn call<'a>(&mut self, api: ApiKey, version: i16, request: &impl Message<'a>) -> io::Result<Vec<u8>> {
        let correlation_id = self.send(api, version, request)?;
        self.answer(api, version, correlation_id)
    }

    /// Creates a topic, waits until its partitions have a leader and returns the error code of the creation.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> io::Result<i16> {
        let topic = create_topics_request::CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs
                .iter()
                .map(|(name, value)| create_topics_request::CreatableTopicConfig { name, value: Some(value) })
                .collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        let body = self.call(ApiKey::CreateTopics, CREATE_TOPICS_VERSION, &request)?;
        let answer = decode::<CreateTopicsResponse<'_>>(&body, CREATE_TOPICS_VERSION)?;
        let error_code = one(&answer.topics)?.error_code;
        if error_code == 0 {
            // Kafka answers when its controller has decided, and its broker follows later.
            for partition in 0..partitions {
                let mut wait = Wait::begin();
                while self.ask_end_offset(name, partition, READ_UNCOMMITTED)?.is_err() {
                    wait.goes_on(|| format!("partition {partition} of {name}"));
                }
            }
        }
        Ok(error_code)
    }

    /// Id and epoch of a new idempotent producer.
    pub fn init_producer(&mut self) -> io::Result<(i64, i16)> {
        let request =
            InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 60_000, ..Default::default() };
        let mut wait = Wait::begin();
        loop {
            wait.goes_on(|| "a producer's id".to_owned());
            let body = self.call(ApiKey::InitProducerId, INIT_PRODUCER_ID_VERSION, &request)?;
            let answer = decode::<InitProducerIdResponse>(&body, INIT_PRODUCER_ID_VERSION)?;
            match wire::error::ErrorCode::from_code(answer.error_code) {
                Some(wire::error::ErrorCode::None) => return Ok((answer.producer_id, answer.producer_epoch)),
                // Kafka fetches a block of ids first.
                Some(wire::error::ErrorCode::CoordinatorLoadInProgress) => {}
                other => return Err(io::Error::other(format!("InitProducerId: {other:?}"))),
            }
        }
    }

    /// Sends records to one partition and returns the correlation id.
    pub fn send_produce(&mut self, topic: &str, partition: i32, records: &[u8], acks: i16) -> io::Result<i32> {
        let partition = produce_request::PartitionProduceData { index: partition, records: Some(records) };
        let topic =
            produce_request::TopicProduceData { name: topic, topic_id: Uuid::ZERO, partition_data: vec![partition] };
        let request = ProduceRequest { transactional_id: None, acks, timeout_ms: 30_000, topic_data: vec![topic] };
        self.send(ApiKey::Produce, PRODUCE_VERSION, &request)
    }

    /// The answer to [`Connection::send_produce`].
    pub fn produced(&mut self, correlation_id: i32) -> io::Result<Produced> {
        let body = self.answer(ApiKey::Produce, PRODUCE_VERSION, correlation_id)?;
        let answer = decode::<ProduceResponse<'_>>(&body, PRODUCE_VERSION)?;
        let partition = one(&one(&answer.responses)?.partition_responses)?;
        Ok(Produced { error_code: partition.error_code, base_offset: partition.base_offset })
    }

    /// Writes records with acks from all replicas and waits for the answer.
    pub fn produce(&mut self, topic: &str, partition: i32, records: &[u8]) -> io::Result<Produced> {
        let correlation_id = self.send_produce(topic, partition, records, -1)?;
        self.produced(correlation_id)
    }

    /// Asks for records and returns the correlation id. The broker waits up to `max_wait_ms` for `min_bytes`.
    pub fn send_fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait_ms: i32,
        min_bytes: i32,
    ) -> io::Result<i32> {
        let partition = fetch_request::FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = fetch_request::FetchTopic { topic, topic_id: Uuid::ZERO, partitions: vec![partition] };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms,
            min_bytes,
            max_bytes: 1 << 20,
            session_id: 0,
            session_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        self.send(ApiKey::Fetch, FETCH_VERSION, &request)
    }

    /// The answer to [`Connection::send_fetch`].
    pub fn fetched(&mut self, correlation_id: i32) -> io::Result<Fetched> {
        let body = self.answer(ApiKey::Fetch, FETCH_VERSION, correlation_id)?;
        let answer = decode::<FetchResponse<'_>>(&body, FETCH_VERSION)?;
        let partition = one(&one(&answer.responses)?.partitions)?;
        Ok(Fetched {
            error_code: partition.error_code,
            high_watermark: partition.high_watermark,
            records: partition.records.unwrap_or_default().to_vec(),
        })
    }

    /// Records from `offset` on, without waiting for any.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> io::Result<Fetched> {
        let correlation_id = self.send_fetch(topic, partition, offset, 0, 1)?;
        self.fetched(correlation_id)
    }

    /// The offset behind the last record of a partition.
    pub fn end_offset(&mut self, topic: &str, partition: i32) -> io::Result<i64> {
        let answer = self.ask_end_offset(topic, partition, READ_UNCOMMITTED)?;
        answer.map_err(|code| io::Error::other(format!("ListOffsets: error {code}")))
    }

    /// The offset of a partition's first open transaction, or its end where there is none.
    pub fn stable_offset(&mut self, topic: &str, partition: i32) -> io::Result<i64> {
        let answer = self.ask_end_offset(topic, partition, READ_COMMITTED)?;
        answer.map_err(|code| io::Error::other(format!("ListOffsets: error {code}")))
    }

    /// The end of a partition as one of this isolation level sees it, or the broker's own error.
    fn ask_end_offset(&mut self, topic: &str, partition: i32, isolation_level: i8) -> io::Result<Result<i64, i16>> {
        let partition = list_offsets_request::ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp: -1,
            ..Default::default()
        };
        let topic = list_offsets_request::ListOffsetsTopic { name: topic, partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics: vec![topic], ..Default::default() };
        let body = self.call(ApiKey::ListOffsets, LIST_OFFSETS_VERSION, &request)?;
        let answer = decode::<ListOffsetsResponse<'_>>(&body, LIST_OFFSETS_VERSION)?;
        let partition = one(&one(&answer.topics)?.partitions)?;
        Ok(match partition.error_code {
            0 => Ok(partition.offset),
            code => Err(code),
        })
    }
}

/// Whose records a batch holds, for brokers that remember producers.
#[derive(Debug, Clone, Copy)]
pub struct Producer {
    /// Producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence number of the batch's first record.
    pub sequence: i32,
}

/// An uncompressed batch of records with these values, no keys, and the timestamp of now.
pub fn batch(producer: Option<Producer>, values: &[Vec<u8>]) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(now.as_millis()).expect("the clock is before the year 292 million");
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(Producer { id, epoch, sequence }) = producer {
        builder.producer(id, epoch, sequence);
    }
    for value in values {
        builder
            .push(&NewRecord { timestamp, value: Some(value), ..NewRecord::default() })
            .expect("records of tests fit into a batch");
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).expect("a batch of at least one record");
    bytes
}

/// Offsets and values of the whole batches at the beginning of `records`, which must not be compressed.
///
/// # Errors
/// What is wrong with a batch, in words.
pub fn values(records: &[u8]) -> Result<Vec<(i64, Vec<u8>)>, String> {
    let mut values = Vec::new();
    for batch in batches(records) {
        for record in batch?.records().map_err(|error| format!("{error:?}"))? {
            let record = record.map_err(|error| format!("{error:?}"))?;
            values.push((record.offset, record.value.unwrap_or_default().to_vec()));
        }
    }
    Ok(values)
}

/// The whole batches at the beginning of `records`, each checked by its CRC; an error says in words what is wrong with one.
pub fn batches(mut records: &[u8]) -> impl Iterator<Item = Result<BatchView<'_>, String>> {
    const LENGTH_AT: usize = 8;
    const AFTER_LENGTH: usize = 12;
    std::iter::from_fn(move || {
        let length = records.first_chunk::<AFTER_LENGTH>()?[LENGTH_AT..].first_chunk::<4>()?;
        let (bytes, rest) = records.split_at_checked(AFTER_LENGTH + u32::from_be_bytes(*length) as usize)?;
        records = rest;
        let batch = BatchView::parse(bytes).map_err(|error| format!("{error:?}"));
        Some(batch.and_then(|batch| match batch.crc_matches() {
            true => Ok(batch),
            false => Err(format!("the CRC of the batch at offset {} is wrong", batch.base_offset())),
        }))
    })
}

/// Decodes a body that nothing may follow.
pub fn decode<'a, M: Message<'a>>(body: &'a [u8], version: i16) -> io::Result<M> {
    let mut reader = Reader::new(body);
    let message = M::decode(&mut reader, version).map_err(io::Error::other)?;
    reader.finish().map_err(io::Error::other)?;
    Ok(message)
}

fn one<T>(items: &[T]) -> io::Result<&T> {
    match items {
        [item] => Ok(item),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} items where one is due", items.len()))),
    }
}

/// A broker that closes a connection with bytes unread makes the kernel send a reset.
fn closed(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}
