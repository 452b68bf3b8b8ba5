//! The control connection: blocking, one request at a time. It finds out what the broker speaks, makes the topic and
//! asks for offsets; load travels on connections of its own (see `link`).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::header::{RequestHeader, decode_response};
use wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, create_topics_request, list_offsets_request,
    metadata_request,
};
use wire::{DecodeError, EncodeError, Message, Reader, Uuid};

use crate::plan::Target;

/// The largest answer on a control connection: metadata of very many partitions.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How often a topic that is not ready yet is looked at again.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a new topic may take until all its partitions have leaders.
pub const TOPIC_READY_WITHIN: Duration = Duration::from_secs(30);

/// Why the broker could not be talked to.
#[derive(Debug)]
pub enum ClientError {
    /// The address is not `HOST:PORT` or the name is not known.
    Resolve {
        /// The address as given.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection.
    Connect {
        /// The address as given.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke in the middle of a request.
    Io {
        /// The request.
        api: ApiKey,
        /// What the kernel said.
        source: io::Error,
    },
    /// The broker closed the connection instead of answering.
    Closed(ApiKey),
    /// An answer longer than any answer may be.
    TooLong(ApiKey, i32),
    /// An answer with the number of another request.
    Correlation(ApiKey),
    /// An answer that breaks the protocol.
    Decode(ApiKey, DecodeError),
    /// A request that cannot be said in the version agreed on.
    Encode(ApiKey, EncodeError),
    /// Broker and generator share no version of this API.
    NoCommonVersion(ApiKey),
    /// The broker refused.
    Broker {
        /// The request.
        api: ApiKey,
        /// What it was about.
        what: String,
        /// The error code.
        code: i16,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// The topic does not exist and cannot be read.
    TopicMissing(String),
    /// The topic's partitions did not all get a leader in time.
    NoLeader {
        /// The topic.
        topic: String,
        /// One partition without a leader.
        partition: i32,
    },
    /// A thread cannot be pinned.
    Pin {
        /// The processors.
        cpus: Vec<usize>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel gave no epoll or no timer.
    Wait(io::Error),
    /// A leader that the metadata names no address for.
    UnknownBroker(i32),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Resolve { address, source } => write!(f, "cannot resolve {address}: {source}"),
            ClientError::Connect { address, source } => write!(f, "cannot connect to {address}: {source}"),
            ClientError::Io { api, source } => write!(f, "the connection broke during {api}: {source}"),
            ClientError::Closed(api) => write!(f, "the broker closed the connection during {api}"),
            ClientError::TooLong(api, len) => write!(f, "the answer to {api} claims {len} bytes"),
            ClientError::Correlation(api) => write!(f, "the answer to {api} carries another request's number"),
            ClientError::Decode(api, error) => write!(f, "the answer to {api} breaks the protocol: {error}"),
            ClientError::Encode(api, error) => write!(f, "{api} cannot be written: {error}"),
            ClientError::NoCommonVersion(api) => write!(f, "broker and generator share no version of {api}"),
            ClientError::Broker { api, what, code, message } => {
                write!(f, "{api} of {what} failed: {}", code_name(*code))?;
                message.as_ref().map_or(Ok(()), |message| write!(f, " ({message})"))
            }
            ClientError::TopicMissing(topic) => write!(f, "topic {topic} does not exist"),
            ClientError::NoLeader { topic, partition } => {
                write!(f, "partition {partition} of topic {topic} has no leader after {TOPIC_READY_WITHIN:?}")
            }
            ClientError::Pin { cpus, source } => write!(f, "cannot pin a thread to processors {cpus:?}: {source}"),
            ClientError::Wait(source) => write!(f, "cannot wait for sockets: {source}"),
            ClientError::UnknownBroker(node) => write!(f, "the metadata names no address of broker {node}"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Resolve { source, .. }
            | ClientError::Connect { source, .. }
            | ClientError::Io { source, .. } => Some(source),
            ClientError::Decode(_, error) => Some(error),
            ClientError::Encode(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Kafka's name of an error code, or its number.
pub fn code_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error code {code}"), |known| known.name().to_owned())
}

/// A topic as the metadata shows it.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; zero where the broker has no topic ids.
    pub id: Uuid,
    /// Its partitions in order of their indexes, each with the address of its leader.
    pub partitions: Vec<Partition>,
}

/// A partition and where its leader listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The index in the topic.
    pub index: i32,
    /// `HOST:PORT` of the leader.
    pub leader: String,
}

/// One end of a partition's log, as ListOffsets names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEnd {
    /// The first offset.
    First,
    /// The offset behind the last record.
    Last,
}

/// A connection for requests one at a time.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    client_id: String,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
    features: BTreeMap<String, i16>,
    correlation_id: i32,
    out: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Connects and asks which versions the broker speaks.
    pub fn connect(address: &str, target: &Target) -> Result<Client, ClientError> {
        let stream = connect(address, target.answer_timeout)?;
        let mut client = Client {
            stream,
            client_id: target.client_id.clone(),
            versions: BTreeMap::new(),
            features: BTreeMap::new(),
            correlation_id: 0,
            out: Vec::new(),
            answer: Vec::new(),
        };
        client.negotiate()?;
        Ok(client)
    }

    /// The newest version of `api` that the broker speaks and that lies within `own`.
    pub fn version(&self, api: ApiKey, own: RangeInclusive<i16>) -> Result<i16, ClientError> {
        let theirs = self.versions.get(&api.key()).ok_or(ClientError::NoCommonVersion(api))?;
        let version = *theirs.end().min(own.end());
        if version < *theirs.start() || version < *own.start() {
            return Err(ClientError::NoCommonVersion(api));
        }
        Ok(version)
    }

    /// The level of a feature that the cluster has finalized; 0 where it has not.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// The topic, once all its partitions have leaders; made first if it is missing.
    pub fn ensure_topic(&mut self, target: &Target) -> Result<Topic, ClientError> {
        match self.topic(&target.topic) {
            Err(ClientError::TopicMissing(_)) => self.create_topic(target)?,
            Ok(topic) => return Ok(topic),
            Err(ClientError::NoLeader { .. }) => {}
            Err(error) => return Err(error),
        }
        let deadline = Instant::now() + TOPIC_READY_WITHIN;
        loop {
            match self.topic(&target.topic) {
                // The metadata may be a moment behind the creation.
                Err(ClientError::TopicMissing(_) | ClientError::NoLeader { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(POLL_INTERVAL);
                }
                outcome => return outcome,
            }
        }
    }

    /// The topic as the metadata shows it now. Never creates it.
    pub fn topic(&mut self, name: &str) -> Result<Topic, ClientError> {
        let api = ApiKey::Metadata;
        // From version 4 on the request can say that nothing is to be created.
        let version = self.version(api, 4..=api.info().max_version)?;
        let asked = metadata_request::MetadataRequestTopic { name: Some(name), ..Default::default() };
        let request =
            MetadataRequest { topics: Some(vec![asked]), allow_auto_topic_creation: false, ..Default::default() };
        let answer: MetadataResponse<'_> = self.call(api, version, &request)?;
        let topic = answer.topics.first().ok_or_else(|| ClientError::TopicMissing(name.to_owned()))?;
        match ErrorCode::from_code(topic.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::UnknownTopicOrPartition) => return Err(ClientError::TopicMissing(name.to_owned())),
            Some(ErrorCode::LeaderNotAvailable) => {
                return Err(ClientError::NoLeader { topic: name.to_owned(), partition: 0 });
            }
            _ => {
                let what = format!("topic {name}");
                return Err(ClientError::Broker { api, what, code: topic.error_code, message: None });
            }
        }
        let addresses: BTreeMap<i32, String> =
            answer.brokers.iter().map(|broker| (broker.node_id, host_port(broker.host, broker.port))).collect();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            if partition.leader_id < 0 {
                return Err(ClientError::NoLeader { topic: name.to_owned(), partition: partition.partition_index });
            }
            let leader = addresses.get(&partition.leader_id).ok_or(ClientError::UnknownBroker(partition.leader_id))?;
            partitions.push(Partition { index: partition.partition_index, leader: leader.clone() });
        }
        if partitions.is_empty() {
            return Err(ClientError::NoLeader { topic: name.to_owned(), partition: 0 });
        }
        partitions.sort_by_key(|partition| partition.index);
        Ok(Topic { name: name.to_owned(), id: topic.topic_id, partitions })
    }

    fn create_topic(&mut self, target: &Target) -> Result<(), ClientError> {
        let api = ApiKey::CreateTopics;
        let version = self.version(api, 2..=api.info().max_version)?;
        let configs = target
            .topic_config
            .iter()
            .map(|(name, value)| create_topics_request::CreatableTopicConfig { name, value: Some(value) });
        let topic = create_topics_request::CreatableTopic {
            name: &target.topic,
            num_partitions: target.partitions,
            replication_factor: target.replication_factor,
            configs: configs.collect(),
            ..Default::default()
        };
        let timeout_ms = i32::try_from(target.answer_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms, ..Default::default() };
        let answer: CreateTopicsResponse<'_> = self.call(api, version, &request)?;
        for topic in &answer.topics {
            // Another generator may have made it in the meantime.
            if topic.error_code != 0 && topic.error_code != ErrorCode::TopicAlreadyExists.code() {
                return Err(ClientError::Broker {
                    api,
                    what: format!("topic {}", topic.name),
                    code: topic.error_code,
                    message: topic.error_message.map(str::to_owned),
                });
            }
        }
        Ok(())
    }

    /// The offset at one end of each partition, which this broker must lead.
    pub fn log_ends(
        &mut self,
        topic: &str,
        partitions: &[i32],
        end: LogEnd,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let api = ApiKey::ListOffsets;
        // Version 0 answers a list of offsets; nothing in use today needs it.
        let version = self.version(api, 1..=api.info().max_version)?;
        let timestamp = match end {
            LogEnd::First => -2,
            LogEnd::Last => -1,
        };
        let asked = partitions.iter().map(|partition| list_offsets_request::ListOffsetsPartition {
            partition_index: *partition,
            timestamp,
            ..Default::default()
        });
        let topics = vec![list_offsets_request::ListOffsetsTopic { name: topic, partitions: asked.collect() }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let answer: ListOffsetsResponse<'_> = self.call(api, version, &request)?;
        let mut offsets = BTreeMap::new();
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 {
                return Err(ClientError::Broker {
                    api,
                    what: format!("{topic}-{}", partition.partition_index),
                    code: partition.error_code,
                    message: None,
                });
            }
            offsets.insert(partition.partition_index, partition.offset);
        }
        Ok(offsets)
    }

    fn negotiate(&mut self) -> Result<(), ClientError> {
        let api = ApiKey::ApiVersions;
        let request = ApiVersionsRequest {
            client_software_name: "weir-load",
            client_software_version: env!("CARGO_PKG_VERSION"),
        };
        // A broker that does not know this version answers in version 0 (KIP-511), whatever was asked.
        let asked = 3;
        let frame = self.exchange(api, asked, &request)?;
        let version = match frame.get(4..6) {
            Some(code) if code == ErrorCode::UnsupportedVersion.code().to_be_bytes() => 0,
            _ => asked,
        };
        (self.versions, self.features) = match version {
            0 => read_versions(self.exchange(api, 0, &request)?, 0)?,
            _ => read_versions(frame, version)?,
        };
        Ok(())
    }

    /// One request and its answer.
    pub(crate) fn call<'a, 'q, A: Message<'a>>(
        &'a mut self,
        api: ApiKey,
        version: i16,
        request: &impl Message<'q>,
    ) -> Result<A, ClientError> {
        let frame = self.exchange(api, version, request)?;
        let mut reader = Reader::new(frame);
        decode_response(&mut reader, api, version).map_err(|error| ClientError::Decode(api, error))?;
        A::decode(&mut reader, version).map_err(|error| ClientError::Decode(api, error))
    }

    /// One request; answers the frame of its answer, correlation id first.
    fn exchange<'q>(&mut self, api: ApiKey, version: i16, request: &impl Message<'q>) -> Result<&[u8], ClientError> {
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => ClientError::Closed(api),
            _ => ClientError::Io { api, source },
        };
        self.correlation_id = self.correlation_id.wrapping_add(1);
        self.out.clear();
        self.out.extend_from_slice(&[0; 4]);
        let header =
            RequestHeader { api, version, correlation_id: self.correlation_id, client_id: Some(&self.client_id) };
        header.encode(&mut self.out).map_err(|error| ClientError::Encode(api, error))?;
        request.encode(&mut self.out, version).map_err(|error| ClientError::Encode(api, error))?;
        let len = i32::try_from(self.out.len() - 4).map_err(|_| ClientError::Encode(api, EncodeError::TooLong))?;
        self.out[..4].copy_from_slice(&len.to_be_bytes());
        self.stream.write_all(&self.out).map_err(io_error)?;
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).map_err(io_error)?;
        let len = i32::from_be_bytes(len);
        match usize::try_from(len) {
            Ok(bytes) if (4..=MAX_ANSWER_BYTES).contains(&bytes) => self.answer.resize(bytes, 0),
            _ => return Err(ClientError::TooLong(api, len)),
        }
        self.stream.read_exact(&mut self.answer).map_err(io_error)?;
        if self.answer[..4] != self.correlation_id.to_be_bytes() {
            return Err(ClientError::Correlation(api));
        }
        Ok(&self.answer)
    }
}

/// The versions served and the levels of features.
type Served = (BTreeMap<i16, RangeInclusive<i16>>, BTreeMap<String, i16>);

fn read_versions(frame: &[u8], version: i16) -> Result<Served, ClientError> {
    let api = ApiKey::ApiVersions;
    let decode = |error| ClientError::Decode(api, error);
    let mut reader = Reader::new(frame);
    decode_response(&mut reader, api, version).map_err(decode)?;
    let answer = ApiVersionsResponse::decode(&mut reader, version).map_err(decode)?;
    if answer.error_code != 0 {
        let what = format!("version {version}");
        return Err(ClientError::Broker { api, what, code: answer.error_code, message: None });
    }
    let versions = answer.api_keys.iter().map(|served| (served.api_key, served.min_version..=served.max_version));
    let features = answer.finalized_features.iter().map(|feature| (feature.name.to_owned(), feature.max_version_level));
    Ok((versions.collect(), features.collect()))
}

/// A connected blocking socket without Nagle's delay; reads and writes give up after `timeout`.
pub fn connect(address: &str, timeout: Duration) -> Result<TcpStream, ClientError> {
    let resolved =
        address.to_socket_addrs().map_err(|source| ClientError::Resolve { address: address.to_owned(), source })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for socket_address in resolved {
        let stream = TcpStream::connect_timeout(&socket_address, timeout).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ClientError::Connect { address: address.to_owned(), source: last })
}

pub(crate) fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
