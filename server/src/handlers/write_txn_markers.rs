//! WriteTxnMarkers (key 27), versions 1 and 2: another broker's coordinator ends transactions on partitions of this one
//! (KIP-98). It is also what aborts a transaction that hangs (KIP-664).
//!
//! - Each partition's owner appends the marker, and it is durable when it is answered. Partitions without a transaction of
//!   the producer get it as well: it fences.
//! - Refused: partitions that do not exist, epochs of the producer or of its coordinator that are old. From version 2 on
//!   the marker says under which transaction version it was written: from 2 on its epoch must be a new one (KIP-1228).

use engine::Marker;
use wire::error::ErrorCode;
use wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use wire::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::places::{self, Place};
use super::produce_rules::refusal;
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::markers;
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: WriteTxnMarkersRequest<'_> = request.decode()?;
    let mut questions = Vec::new();
    for asked in &asked.markers {
        let marker = Marker {
            producer_id: asked.producer_id,
            producer_epoch: asked.producer_epoch,
            coordinator_epoch: asked.coordinator_epoch,
            commit: asked.transaction_result,
            transaction_version: asked.transaction_version.into(),
        };
        for topic in &asked.topics {
            for index in &topic.partition_indexes {
                questions.push(places::find(&shard, topic.name, *index).map(|place| (place, marker)));
            }
        }
    }
    let mut answers = places::ask(&shard, questions, answer).await.into_iter();
    let mut results = Vec::with_capacity(asked.markers.len());
    for marker in &asked.markers {
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in &marker.topics {
            let answered = topic.partition_indexes.iter().zip(answers.by_ref());
            let partitions = answered
                .map(|(index, answer)| WritableTxnMarkerPartitionResult {
                    partition_index: *index,
                    error_code: answer.err().unwrap_or(ErrorCode::None).code(),
                })
                .collect();
            topics.push(WritableTxnMarkerTopicResult { name: topic.name, partitions });
        }
        results.push(WritableTxnMarkerResult { producer_id: marker.producer_id, topics });
    }
    request.reply(&WriteTxnMarkersResponse { markers: results })
}

async fn answer(shard: Shard, place: Place, marker: Marker) -> Result<(), ErrorCode> {
    markers::append(&shard, place.slot, place.leader_epoch, &marker).await.map_err(|error| refusal(error).error)
}
