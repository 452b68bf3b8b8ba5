//! AlterPartitionReassignments (key 45), versions 0 and 1, and ListPartitionReassignments (key 46), version 0: which
//! brokers have the replicas of a partition (KIP-455).
//!
//! - There is one broker, and every partition has its replica there. A reassignment to where it is changes nothing;
//!   every other one names a broker that is not registered. So none is ever going on: none can be cancelled or listed.
//! - Owner core: any.

use wire::error::ErrorCode;
use wire::messages::ListPartitionReassignmentsRequest;
use wire::messages::ListPartitionReassignmentsResponse;
use wire::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use wire::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::admin::{Refusal, Texts, check_assignment};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::Image;
use crate::shard::Shard;

/// Answers a request for changes.
pub async fn handle_alter(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: AlterPartitionReassignmentsRequest<'_> = request.decode()?;
    let (image, texts) = (shard.image().clone(), Texts::new());
    request.reply(&alter(&asked, &image, &texts))
}

/// Answers a question for what is going on.
pub async fn handle_list(_: Shard, request: Request) -> Result<Reply, RequestError> {
    let _: ListPartitionReassignmentsRequest<'_> = request.decode()?;
    request.reply(&ListPartitionReassignmentsResponse { error_message: None, ..Default::default() })
}

/// The answer to a request for changes.
#[must_use]
pub fn alter<'a>(
    request: &AlterPartitionReassignmentsRequest<'a>,
    image: &Image,
    texts: &'a Texts,
) -> AlterPartitionReassignmentsResponse<'a> {
    let may_grow = request.allow_replication_factor_change;
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let (error_code, error_message) = match reassign(topic.name, asked, may_grow, image) {
                Ok(()) => (ErrorCode::None as i16, None),
                Err(refusal) => refusal.parts(texts),
            };
            ReassignablePartitionResponse { partition_index: asked.partition_index, error_code, error_message }
        });
        ReassignableTopicResponse { name: topic.name, partitions: partitions.collect() }
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_grow,
        error_message: None,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

fn reassign(topic: &str, asked: &ReassignablePartition, may_grow: bool, image: &Image) -> Result<(), Refusal> {
    let unknown = |sentence: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, sentence);
    let index = asked.partition_index;
    let found = image.topic(topic).ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
    let partition = usize::try_from(index).ok().and_then(|index| found.partitions.get(index));
    let partition = partition.ok_or_else(|| unknown(format!("Unable to find partition {topic}:{index}.")))?;
    let Some(replicas) = &asked.replicas else {
        return Err(Refusal { code: ErrorCode::NoReassignmentInProgress, message: None });
    };
    check_assignment(replicas, image.node_id(), None)?;
    if !may_grow && replicas.len() != partition.replicas.len() {
        let sentence =
            format!("The replication factor is changed from {} to {}", partition.replicas.len(), replicas.len());
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, sentence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wire::Message;
    use wire::messages::alter_partition_reassignments_request::ReassignableTopic;

    use super::super::test_image::image;
    use super::*;

    #[test]
    fn replicas_are_where_they_can_be() {
        let cases: [(&str, i32, Option<&[i32]>, i16); 8] = [
            ("plain", 0, Some(&[1]), 0),
            ("plain", 2, Some(&[1]), 0),
            ("plain", 0, None, 85),
            ("plain", 0, Some(&[]), 39),
            ("plain", 0, Some(&[7]), 39),
            ("plain", 0, Some(&[1, 1]), 39),
            ("plain", 3, Some(&[1]), 3),
            ("nope", 0, None, 3),
        ];
        let (image, texts) = (image(), Texts::new());
        for (name, index, replicas, code) in cases {
            let partition = ReassignablePartition { partition_index: index, replicas: replicas.map(<[i32]>::to_vec) };
            let topics = vec![ReassignableTopic { name, partitions: vec![partition] }];
            let request =
                AlterPartitionReassignmentsRequest { timeout_ms: 1000, allow_replication_factor_change: true, topics };
            let answer = alter(&request, &image, &texts);
            for version in 0..=1 {
                answer.encode(&mut Vec::new(), version).unwrap();
            }
            let told = &answer.responses[0].partitions[0];
            assert_eq!((told.partition_index, told.error_code), (index, code), "{name} {replicas:?}");
        }
    }
}
