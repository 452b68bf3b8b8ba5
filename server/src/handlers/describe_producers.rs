//! DescribeProducers (key 61), version 0: what partitions know of their producers, and of the transactions that these have
//! open (KIP-664). Each partition's owner answers for it.

use wire::error::ErrorCode;
use wire::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use wire::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::admin::{Refusal, Texts, check_topic_name};
use super::places::{self, Place};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::Image;
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeProducersRequest<'_> = request.decode()?;
    let mut questions = Vec::new();
    for topic in &asked.topics {
        for index in &topic.partition_indexes {
            questions.push(places::find(&shard, topic.name, *index).map(|place| (place, ())));
        }
    }
    let mut answers = places::ask(&shard, questions, answer).await.into_iter();
    let (image, texts) = (shard.image().clone(), Texts::new());
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let refused = check(&image, topic.name).err().map(|refusal| refusal.parts(&texts));
        let answered = topic.partition_indexes.iter().zip(answers.by_ref());
        let partitions = answered
            .map(|(index, answer)| {
                let (active_producers, error) =
                    answer.map_or_else(|error| (Vec::new(), error), |producers| (producers, ErrorCode::None));
                // Kafka has words for the topic only.
                let (error_code, error_message) = refused.unwrap_or((error.code(), None));
                PartitionResponse { partition_index: *index, error_code, error_message, active_producers }
            })
            .collect();
        topics.push(TopicResponse { name: topic.name, partitions });
    }
    request.reply(&DescribeProducersResponse { topics, ..DescribeProducersResponse::default() })
}

/// Whether there is a topic of this name.
fn check(image: &Image, name: &str) -> Result<(), Refusal> {
    check_topic_name(name)?;
    match image.topic(name) {
        Some(_) => Ok(()),
        None => Err(Refusal::plain(ErrorCode::UnknownTopicOrPartition)),
    }
}

async fn answer(shard: Shard, place: Place, (): ()) -> Result<Vec<ProducerState>, ErrorCode> {
    let producers = shard.store().producers(place.slot).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let told = |producer: engine::ProducerInfo| ProducerState {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.open_since.unwrap_or(-1),
    };
    Ok(producers.into_iter().map(told).collect())
}
