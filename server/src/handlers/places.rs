//! Requests that ask something of many partitions: finds each, and asks its owner core.

use std::future::Future;

use engine::Slot;
use wire::error::ErrorCode;

use crate::image::Topic;
use crate::shard::Shard;

/// Where a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) core: usize,
    pub(crate) slot: Slot,
    pub(crate) leader_epoch: i32,
}

/// The place of a partition of a topic.
pub(crate) fn place(topic: &Topic, index: i32) -> Result<Place, ErrorCode> {
    let partition = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index));
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(Place { core: partition.core, slot: partition.slot, leader_epoch: partition.leader_epoch })
}

/// The place of a partition that is named.
pub(crate) fn find(shard: &Shard, topic: &str, index: i32) -> Result<Place, ErrorCode> {
    place(shard.image().topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?, index)
}

/// Asks each partition's owner, all at once, and gives the answers in the order of the questions.
pub(crate) async fn ask<Q, A, F, Fut>(
    shard: &Shard,
    questions: Vec<Result<(Place, Q), ErrorCode>>,
    answer: F,
) -> Vec<Result<A, ErrorCode>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Fn(Shard, Place, Q) -> Fut + Send + Copy + 'static,
    Fut: Future<Output = Result<A, ErrorCode>> + 'static,
{
    let calls: Vec<_> = questions
        .into_iter()
        .map(|question| {
            question.map(|(place, question)| shard.run_on(place.core, move |shard| answer(shard, place, question)))
        })
        .collect();
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        answers.push(match call {
            Ok(call) => call.await,
            Err(error) => Err(error),
        });
    }
    answers
}
