//! The table of the APIs that this broker serves: one row each, with the versions and the handler.
//!
//! What ApiVersions advertises is generated from the table, so nothing is advertised that is not served.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use wire::api::ApiKey;
use wire::header::{self, RequestHeader};
use wire::{DecodeError, EncodeError, Message, Reader};

use crate::connection::responses::Reply;
use crate::frame::LENGTH_BYTES;
use crate::handlers;
use crate::shard::Shard;

/// One API.
#[derive(Debug)]
pub struct Api {
    /// Which.
    pub key: ApiKey,
    /// The oldest version served. Below [`ApiInfo::kafka_min_version`](wire::api::ApiInfo::kafka_min_version) are versions
    /// that Kafka 4 has dropped and Kafka 3.9 served: for clients older than that, and advertised like all others.
    pub min: i16,
    /// The newest version served.
    pub max: i16,
    /// Who answers.
    pub handler: Handler,
}

/// Who answers a request, and where.
pub enum Handler {
    /// [`handlers::produce`], on the connection's core, within the turn in which the request arrives.
    Produce,
    /// [`handlers::fetch`], likewise; it becomes a task when it has to wait.
    Fetch,
    /// A task on the connection's core.
    Task(HandlerFn),
    /// A task on core 0, which owns the catalog.
    Controller(HandlerFn),
}

/// A handler answers one request. An error closes the connection, as Kafka does with a request that it cannot parse.
pub type HandlerFn = fn(Shard, Request) -> Pin<Box<dyn Future<Output = Result<Reply, RequestError>>>>;

/// A handler module's `handle`, as a task on the connection's core.
macro_rules! task {
    ($module:ident) => {
        task!($module::handle)
    };
    ($module:ident::$handle:ident) => {
        Handler::Task(|shard, request| Box::pin(handlers::$module::$handle(shard, request)))
    };
}

/// A handler, as a task on core 0.
macro_rules! controller {
    ($module:ident::$handle:ident) => {
        Handler::Controller(|core0, request| Box::pin(handlers::$module::$handle(core0, request)))
    };
}

/// The table, ascending by key.
pub static APIS: &[Api] = &[
    Api { key: ApiKey::Produce, min: 0, max: 13, handler: Handler::Produce },
    Api { key: ApiKey::Fetch, min: 0, max: 18, handler: Handler::Fetch },
    Api { key: ApiKey::ListOffsets, min: 0, max: 11, handler: task!(list_offsets) },
    Api { key: ApiKey::Metadata, min: 0, max: 13, handler: task!(metadata) },
    Api { key: ApiKey::OffsetCommit, min: 0, max: 10, handler: task!(group_offsets::handle_commit) },
    Api { key: ApiKey::OffsetFetch, min: 0, max: 10, handler: task!(group_offsets::handle_fetch) },
    Api { key: ApiKey::FindCoordinator, min: 0, max: 6, handler: task!(find_coordinator) },
    Api { key: ApiKey::JoinGroup, min: 0, max: 9, handler: task!(group_membership::handle_join) },
    Api { key: ApiKey::Heartbeat, min: 0, max: 4, handler: task!(group_membership::handle_heartbeat) },
    Api { key: ApiKey::LeaveGroup, min: 0, max: 5, handler: task!(group_membership::handle_leave) },
    Api { key: ApiKey::SyncGroup, min: 0, max: 5, handler: task!(group_membership::handle_sync) },
    Api { key: ApiKey::DescribeGroups, min: 0, max: 6, handler: task!(group_admin::handle_describe) },
    Api { key: ApiKey::ListGroups, min: 0, max: 5, handler: task!(group_admin::handle_list) },
    Api { key: ApiKey::ApiVersions, min: 0, max: 4, handler: task!(api_versions) },
    Api { key: ApiKey::CreateTopics, min: 0, max: 7, handler: controller!(create_topics::handle) },
    Api { key: ApiKey::DeleteTopics, min: 0, max: 6, handler: controller!(delete_topics::handle) },
    Api { key: ApiKey::DeleteRecords, min: 0, max: 2, handler: task!(delete_records) },
    Api { key: ApiKey::InitProducerId, min: 0, max: 5, handler: task!(init_producer_id) },
    Api { key: ApiKey::OffsetForLeaderEpoch, min: 2, max: 4, handler: task!(offset_for_leader_epoch) },
    Api { key: ApiKey::AddPartitionsToTxn, min: 0, max: 5, handler: task!(add_partitions_to_txn) },
    Api { key: ApiKey::AddOffsetsToTxn, min: 0, max: 4, handler: task!(add_offsets_to_txn) },
    Api { key: ApiKey::EndTxn, min: 0, max: 5, handler: task!(end_txn) },
    Api { key: ApiKey::WriteTxnMarkers, min: 1, max: 2, handler: task!(write_txn_markers) },
    Api { key: ApiKey::TxnOffsetCommit, min: 0, max: 5, handler: task!(group_offsets::handle_txn_commit) },
    Api { key: ApiKey::DescribeAcls, min: 1, max: 3, handler: task!(acls::handle_describe) },
    Api { key: ApiKey::CreateAcls, min: 1, max: 3, handler: task!(acls::handle_create) },
    Api { key: ApiKey::DeleteAcls, min: 1, max: 3, handler: task!(acls::handle_delete) },
    Api { key: ApiKey::DescribeConfigs, min: 1, max: 4, handler: task!(describe_configs) },
    Api { key: ApiKey::AlterConfigs, min: 0, max: 2, handler: controller!(alter_configs::handle_replacing) },
    Api { key: ApiKey::AlterReplicaLogDirs, min: 1, max: 2, handler: task!(alter_replica_log_dirs) },
    Api { key: ApiKey::DescribeLogDirs, min: 1, max: 5, handler: task!(describe_log_dirs) },
    Api { key: ApiKey::CreatePartitions, min: 0, max: 3, handler: controller!(create_partitions::handle) },
    Api { key: ApiKey::DeleteGroups, min: 0, max: 2, handler: task!(group_admin::handle_delete) },
    Api { key: ApiKey::ElectLeaders, min: 0, max: 2, handler: task!(elect_leaders) },
    Api {
        key: ApiKey::IncrementalAlterConfigs,
        min: 0,
        max: 1,
        handler: controller!(alter_configs::handle_incremental),
    },
    Api { key: ApiKey::AlterPartitionReassignments, min: 0, max: 1, handler: task!(reassignments::handle_alter) },
    Api { key: ApiKey::ListPartitionReassignments, min: 0, max: 0, handler: task!(reassignments::handle_list) },
    Api { key: ApiKey::OffsetDelete, min: 0, max: 0, handler: task!(group_offsets::handle_delete) },
    Api { key: ApiKey::DescribeQuorum, min: 0, max: 2, handler: controller!(describe_quorum::handle) },
    Api { key: ApiKey::UpdateFeatures, min: 0, max: 2, handler: controller!(update_features::handle) },
    Api { key: ApiKey::DescribeCluster, min: 0, max: 2, handler: task!(describe_cluster) },
    Api { key: ApiKey::DescribeProducers, min: 0, max: 0, handler: task!(describe_producers) },
    Api { key: ApiKey::UnregisterBroker, min: 0, max: 0, handler: task!(unregister_broker) },
    Api { key: ApiKey::DescribeTransactions, min: 0, max: 0, handler: task!(describe_transactions) },
    Api { key: ApiKey::ListTransactions, min: 0, max: 2, handler: task!(list_transactions) },
    Api { key: ApiKey::ConsumerGroupHeartbeat, min: 0, max: 1, handler: task!(consumer_groups::handle_heartbeat) },
    Api { key: ApiKey::ConsumerGroupDescribe, min: 0, max: 1, handler: task!(consumer_groups::handle_describe) },
    Api { key: ApiKey::ListConfigResources, min: 0, max: 1, handler: task!(list_config_resources) },
    Api { key: ApiKey::DescribeTopicPartitions, min: 0, max: 0, handler: task!(describe_topic_partitions) },
];

/// The row of an API, if it is served.
#[must_use]
pub fn find(key: ApiKey) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == key)
}

/// A request that its handler owns: it may be kept over an await and sent to another core.
#[derive(Debug, Clone)]
pub struct Request {
    frame: Bytes,
    body: usize,
    /// Which API is asked.
    pub api: ApiKey,
    /// The version of body and answer. It is one that the API's row serves.
    pub version: i16,
    /// To be echoed.
    pub correlation_id: i32,
    /// The client's address.
    pub peer: SocketAddr,
    /// By which of the broker's listeners the client came, from 0: it is told of endpoints of that listener.
    pub listener: usize,
}

impl Request {
    /// The request in `frame`, whose body begins at offset `body`.
    #[must_use]
    pub fn new(frame: Bytes, header: &RequestHeader<'_>, body: usize, peer: SocketAddr, listener: usize) -> Request {
        Request {
            frame,
            body,
            api: header.api,
            version: header.version,
            correlation_id: header.correlation_id,
            peer,
            listener,
        }
    }

    /// Decodes the body, which borrows its strings from the frame. Bytes behind it are ignored, as Kafka does: librdkafka
    /// sends some behind Metadata requests.
    pub fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, RequestError> {
        let mut reader = Reader::new(&self.frame[self.body..]);
        Ok(M::decode(&mut reader, self.version)?)
    }

    /// The client's own name.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        RequestHeader::decode(&mut Reader::new(&self.frame)).ok()?.client_id
    }

    /// The whole frame without its length.
    #[must_use]
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The offset of the body in the frame.
    #[must_use]
    pub fn body(&self) -> usize {
        self.body
    }

    /// Encodes an answer, with length and header in front.
    pub fn reply<'a>(&self, message: &impl Message<'a>) -> Result<Reply, RequestError> {
        let mut head = Vec::with_capacity(REPLY_BYTES);
        begin_response(&mut head, self.api, self.version, self.correlation_id);
        message.encode(&mut head, self.version)?;
        end_response(&mut head, 0)?;
        Ok(head.into())
    }
}

/// Most answers of the APIs that are tasks have fewer bytes: memory that is as large at first need not grow.
const REPLY_BYTES: usize = 256;

/// Appends the room for a response's length, and its header. [`end_response`] fills in the length.
pub fn begin_response(out: &mut Vec<u8>, api: ApiKey, version: i16, correlation_id: i32) {
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    header::encode_response(out, api, version, correlation_id);
}

/// Fills in the length of the response that begins at `start` and ends with `out`.
pub fn end_response(out: &mut [u8], start: usize) -> Result<(), RequestError> {
    let len = out.len() - start - LENGTH_BYTES;
    let len = i32::try_from(len).map_err(|_| RequestError::ResponseTooLarge(len))?;
    out[start..start + LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

/// Why a connection is closed instead of a request answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// The header or the body breaks the protocol.
    Malformed(DecodeError),
    /// The API is known to Kafka and not served here.
    NotServed(ApiKey),
    /// The API is served, but not in this version.
    UnsupportedVersion(ApiKey, i16),
    /// An answer does not fit its form.
    Encode(EncodeError),
    /// An answer has more bytes than a length can say.
    ResponseTooLarge(usize),
    /// A field has the number that stands for what its sender does not know.
    UnknownKind,
    /// A produce request that wants no answer has failed, and closing is the only way to tell (acks=0).
    FailedWithoutAcks,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Malformed(error) => write!(f, "malformed request: {error}"),
            RequestError::NotServed(api) => write!(f, "{api} is not served"),
            RequestError::UnsupportedVersion(api, version) => write!(f, "{api} version {version} is not served"),
            RequestError::Encode(error) => write!(f, "the answer cannot be encoded: {error}"),
            RequestError::ResponseTooLarge(len) => write!(f, "an answer of {len} bytes is too large to send"),
            RequestError::UnknownKind => f.write_str("a field holds the number of an unknown kind"),
            RequestError::FailedWithoutAcks => f.write_str("a produce request with acks=0 failed"),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<DecodeError> for RequestError {
    fn from(error: DecodeError) -> RequestError {
        RequestError::Malformed(error)
    }
}

impl From<EncodeError> for RequestError {
    fn from(error: EncodeError) -> RequestError {
        RequestError::Encode(error)
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Handler::Produce => "Produce",
            Handler::Fetch => "Fetch",
            Handler::Task(_) => "Task",
            Handler::Controller(_) => "Controller",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The APIs that are served to clients older than those of Kafka 4, from version 0 on.
    const LEGACY: [ApiKey; 7] = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::CreateTopics,
        ApiKey::DeleteTopics,
    ];

    #[test]
    fn the_table_is_ascending_and_serves_what_kafka_serves() {
        assert!(APIS.is_sorted_by_key(|api| api.key.key()));
        for api in APIS {
            let info = api.key.info();
            let min = if LEGACY.contains(&api.key) { 0 } else { info.kafka_min_version };
            let max = info.max_version - i16::from(info.latest_unstable);
            assert_eq!((api.min, api.max), (min, max), "{}", api.key);
            assert!(api.min >= info.min_version, "{}: the field tables lack version {}", api.key, api.min);
            assert!(info.on_broker, "{}", api.key);
        }
    }
}
