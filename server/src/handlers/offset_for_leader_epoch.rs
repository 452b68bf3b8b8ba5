//! OffsetForLeaderEpoch (key 23), versions 2 to 4: where a leader epoch ends, so that a client whose leader has changed
//! finds out whether it has read records that are gone (KIP-320). Each partition's owner answers for it.

use wire::error::ErrorCode;
use wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::epochs::{check_epoch, end_of_epoch};
use super::places::{self, Place};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: OffsetForLeaderEpochRequest<'_> = request.decode()?;
    let mut questions = Vec::new();
    for topic in &asked.topics {
        for partition in &topic.partitions {
            let place = places::find(&shard, topic.topic, partition.partition);
            questions.push(place.map(|place| (place, (partition.current_leader_epoch, partition.leader_epoch))));
        }
    }
    let mut answers = places::ask(&shard, questions, answer).await.into_iter();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let answered = topic.partitions.iter().zip(answers.by_ref());
        let partitions = answered
            .map(|(partition, answer)| {
                let (end, error) = answer.map_or_else(|error| (None, error), |end| (end, ErrorCode::None));
                let (leader_epoch, end_offset) = end.unwrap_or((-1, -1));
                EpochEndOffset { error_code: error.code(), partition: partition.partition, leader_epoch, end_offset }
            })
            .collect();
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    request.reply(&OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() })
}

async fn answer(shard: Shard, place: Place, (known_epoch, asked): (i32, i32)) -> Result<Option<(i32, i64)>, ErrorCode> {
    check_epoch(known_epoch, place.leader_epoch)?;
    shard.store().info(place.slot).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(end_of_epoch(&shard, place.slot, place.leader_epoch, asked))
}
