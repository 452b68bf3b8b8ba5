//! What is not Produce or Fetch: versions, metadata, topics, offsets.

use std::net::SocketAddr;

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::header::{RequestHeader, encode_response};
use wire::messages::{
    ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, FindCoordinatorResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, api_versions_response, create_topics_response,
    find_coordinator_response, list_offsets_response, metadata_response,
};
use wire::{Message, Reader, Uuid};

/// The newest versions that the broker claims to speak.
#[derive(Debug, Clone, Copy)]
pub struct Speaks {
    pub produce: i16,
    pub fetch: i16,
    pub metadata: i16,
    pub api_versions: i16,
    /// The level of the feature `transaction.version`.
    pub transaction: i16,
}

impl Speaks {
    /// What Apache Kafka 4.3 speaks.
    pub const NEWEST: Speaks = Speaks { produce: 13, fetch: 18, metadata: 13, api_versions: 4, transaction: 2 };
    /// About what brokers without flexible versions and topic ids speak.
    pub const OLD: Speaks = Speaks { produce: 7, fetch: 11, metadata: 7, api_versions: 2, transaction: 0 };
}

/// The broker's one topic.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: i32,
    pub configs: Vec<(String, String)>,
}

/// What the control requests look at.
pub struct Control<'a> {
    pub speaks: Speaks,
    pub address: SocketAddr,
    pub topic: &'a mut Option<Topic>,
    /// The error that a creation gets.
    pub refuse_creation: Option<ErrorCode>,
    /// The first and the next offset of a partition.
    pub ends: &'a dyn Fn(i32) -> (i64, i64),
}

/// Appends the answer to a control request, without its length.
pub fn answer(header: &RequestHeader<'_>, body: &mut Reader<'_>, control: &mut Control<'_>, out: &mut Vec<u8>) {
    let version = header.version;
    if header.api == ApiKey::ApiVersions {
        return api_versions(header, control.speaks, out);
    }
    encode_response(out, header.api, version, header.correlation_id);
    match header.api {
        ApiKey::Metadata => metadata(&MetadataRequest::decode(body, version).unwrap(), version, control, out),
        ApiKey::CreateTopics => {
            create_topics(&CreateTopicsRequest::decode(body, version).unwrap(), version, control, out)
        }
        ApiKey::ListOffsets => list_offsets(&ListOffsetsRequest::decode(body, version).unwrap(), version, control, out),
        ApiKey::FindCoordinator => find_coordinator(version, control, out),
        other => panic!("the generator asked for {other}"),
    }
}

fn api_versions(header: &RequestHeader<'_>, speaks: Speaks, out: &mut Vec<u8>) {
    let known = header.version <= speaks.api_versions;
    let version = if known { header.version } else { 0 };
    encode_response(out, ApiKey::ApiVersions, version, header.correlation_id);
    let newest = |api: ApiKey| match api {
        ApiKey::Produce => speaks.produce,
        ApiKey::Fetch => speaks.fetch,
        ApiKey::Metadata => speaks.metadata,
        ApiKey::ApiVersions => speaks.api_versions,
        _ => api.info().max_version,
    };
    let served = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::ApiVersions,
        ApiKey::CreateTopics,
        ApiKey::FindCoordinator,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::OffsetCommit,
        ApiKey::ConsumerGroupHeartbeat,
        ApiKey::InitProducerId,
        ApiKey::AddPartitionsToTxn,
        ApiKey::EndTxn,
    ];
    let feature = api_versions_response::FinalizedFeatureKey {
        name: "transaction.version",
        max_version_level: speaks.transaction,
        min_version_level: speaks.transaction,
    };
    let response = ApiVersionsResponse {
        error_code: if known { 0 } else { ErrorCode::UnsupportedVersion.code() },
        api_keys: served
            .into_iter()
            .map(|api| api_versions_response::ApiVersion {
                api_key: api.key(),
                min_version: 0,
                max_version: newest(api),
            })
            .collect(),
        finalized_features: if speaks.transaction > 0 && version >= 3 { vec![feature] } else { Vec::new() },
        ..Default::default()
    };
    response.encode(out, version).unwrap();
}

fn find_coordinator(version: i16, control: &Control<'_>, out: &mut Vec<u8>) {
    let host = control.address.ip().to_string();
    let port = control.address.port().into();
    let one = find_coordinator_response::Coordinator { node_id: 7, host: &host, port, ..Default::default() };
    let response = match version {
        4.. => FindCoordinatorResponse { coordinators: vec![one], ..Default::default() },
        _ => FindCoordinatorResponse { node_id: 7, host: &host, port, ..Default::default() },
    };
    response.encode(out, version).unwrap();
}

fn metadata(request: &MetadataRequest<'_>, version: i16, control: &Control<'_>, out: &mut Vec<u8>) {
    assert!(!request.allow_auto_topic_creation, "a generator makes topics by name, never by accident");
    let asked = request.topics.as_ref().unwrap()[0].name.unwrap();
    let host = control.address.ip().to_string();
    let known = control.topic.as_ref().filter(|topic| topic.name == asked);
    let partition = |index| metadata_response::MetadataResponsePartition {
        partition_index: index,
        leader_id: 7,
        replica_nodes: vec![7],
        isr_nodes: vec![7],
        ..Default::default()
    };
    let topic = metadata_response::MetadataResponseTopic {
        error_code: if known.is_some() { 0 } else { ErrorCode::UnknownTopicOrPartition.code() },
        name: Some(asked),
        topic_id: known.filter(|_| version >= 10).map(|topic| topic.id).unwrap_or_default(),
        partitions: known.map_or_else(Vec::new, |topic| (0..topic.partitions).map(partition).collect()),
        ..Default::default()
    };
    let broker = metadata_response::MetadataResponseBroker {
        node_id: 7,
        host: &host,
        port: control.address.port().into(),
        ..Default::default()
    };
    let response = MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() };
    response.encode(out, version).unwrap();
}

fn create_topics(request: &CreateTopicsRequest<'_>, version: i16, control: &mut Control<'_>, out: &mut Vec<u8>) {
    let asked = &request.topics[0];
    let error = control.refuse_creation;
    if error.is_none() {
        *control.topic = Some(Topic {
            name: asked.name.to_owned(),
            id: Uuid([3; 16]),
            partitions: asked.num_partitions,
            configs: asked
                .configs
                .iter()
                .map(|config| (config.name.to_owned(), config.value.unwrap().to_owned()))
                .collect(),
        });
    }
    let result = create_topics_response::CreatableTopicResult {
        name: asked.name,
        error_code: error.map_or(0, ErrorCode::code),
        error_message: error.map(|_| "not today"),
        ..Default::default()
    };
    let response = CreateTopicsResponse { topics: vec![result], ..Default::default() };
    response.encode(out, version).unwrap();
}

fn list_offsets(request: &ListOffsetsRequest<'_>, version: i16, control: &Control<'_>, out: &mut Vec<u8>) {
    let topics = request.topics.iter().map(|topic| list_offsets_response::ListOffsetsTopicResponse {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let (first, next) = (control.ends)(partition.partition_index);
                list_offsets_response::ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    offset: if partition.timestamp == -2 { first } else { next },
                    ..Default::default()
                }
            })
            .collect(),
    });
    let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
    response.encode(out, version).unwrap();
}
