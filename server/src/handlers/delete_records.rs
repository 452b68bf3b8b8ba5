//! DeleteRecords (key 21), versions 0 to 2: moves the start of a log forward (KIP-107). Each partition's owner does it,
//! and it is durable when it is answered.

use wire::error::ErrorCode;
use wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::places::{self, Place};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::shard::Shard;

/// The offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DeleteRecordsRequest<'_> = request.decode()?;
    let mut questions = Vec::new();
    {
        let image = shard.image();
        for topic in &asked.topics {
            for partition in &topic.partitions {
                let known = image.topic(topic.name).ok_or(ErrorCode::UnknownTopicOrPartition);
                questions.push(known.and_then(|topic| {
                    let place = places::place(topic, partition.partition_index)?;
                    if topic.internal {
                        Err(ErrorCode::InvalidTopicException)
                    } else if !topic.settings.cleanup.delete {
                        Err(ErrorCode::PolicyViolation)
                    } else {
                        Ok((place, partition.offset))
                    }
                }));
            }
        }
    }
    let mut answers = places::ask(&shard, questions, answer).await.into_iter();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let answered = topic.partitions.iter().zip(answers.by_ref());
        let partitions = answered
            .map(|(partition, answer)| {
                let (low_watermark, error) = answer.map_or_else(|error| (-1, error), |start| (start, ErrorCode::None));
                DeleteRecordsPartitionResult {
                    partition_index: partition.partition_index,
                    low_watermark,
                    error_code: error.code(),
                }
            })
            .collect();
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    request.reply(&DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() })
}

async fn answer(shard: Shard, place: Place, offset: i64) -> Result<i64, ErrorCode> {
    let info = shard.store().info(place.slot).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let offset = if offset == HIGH_WATERMARK { info.high_watermark } else { offset };
    if offset < 0 || offset > info.high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    match shard.store().delete_records(place.slot, offset).await {
        Ok(start) => start.ok_or(ErrorCode::UnknownTopicOrPartition),
        Err(_) => Err(ErrorCode::KafkaStorageError),
    }
}
