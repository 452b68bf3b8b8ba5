//! ConsumerGroupHeartbeat (key 68) and ConsumerGroupDescribe (key 69), versions 0 and 1: groups whose members are led by
//! the coordinator (KIP-848).
//!
//! - One request joins, stays, tells what was given up, and leaves; the answer says what to read. A group of the classic
//!   protocol whose members are consumers becomes one of this protocol when its first member joins by it.
//! - From version 1 on members bring their own ids (KIP-1082) and may subscribe by regular expression.
//! - Both are refused while the cluster's `group.version` is 0.
//! - Owner core: that of the group's partition of `__consumer_offsets`.

use wire::error::ErrorCode;
use wire::messages::consumer_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
use wire::messages::consumer_group_heartbeat_response;
use wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};

use super::admin::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED};
use super::group_calls::{again, ask, caller, random_uuid, shown_host};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::features::GROUP_VERSION;
use crate::group::answers::Answer;
use crate::group::consumer::{ConsumerDescription, DescribedConsumer, DescribedPartitions, HeartbeatResponse, Refusal};
use crate::image::Image;
use crate::shard::Shard;

/// The numbers of the protocols that a member may use.
mod member_type {
    pub(super) const CLASSIC: i8 = 0;
    pub(super) const CONSUMER: i8 = 1;
}

/// Answers ConsumerGroupHeartbeat.
pub async fn handle_heartbeat(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: ConsumerGroupHeartbeatRequest<'_> = request.decode()?;
    let outcome = if is_served(&shard.image()) {
        let new_member = random_uuid(|| shard.reactor().random());
        let client_host = shown_host(request.peer.ip());
        let answer = ask(&shard, asked.group_id, &request, move |own, groups, now, ticket, effects| {
            let caller = caller(own, &client_host, &new_member);
            groups.consumer_heartbeat(&again(own), &caller, (now, ticket), effects);
        });
        match answer.await {
            Ok(Answer::ConsumerHeartbeat(outcome)) => outcome,
            Ok(_) => Err(unexplained(ErrorCode::UnknownServerError)),
            Err(error) => Err(unexplained(error)),
        }
    } else {
        Err(unexplained(ErrorCode::UnsupportedVersion))
    };
    request.reply(&match &outcome {
        Ok(response) => accepted(response),
        Err(refusal) => ConsumerGroupHeartbeatResponse {
            error_code: refusal.code as i16,
            error_message: Some(&refusal.message),
            ..ConsumerGroupHeartbeatResponse::default()
        },
    })
}

/// Answers ConsumerGroupDescribe.
pub async fn handle_describe(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: ConsumerGroupDescribeRequest<'_> = request.decode()?;
    let mut found: Vec<Result<ConsumerDescription, Refusal>> = Vec::with_capacity(asked.group_ids.len());
    for (number, group_id) in asked.group_ids.iter().enumerate() {
        let outcome = if !is_served(&shard.image()) {
            Err(unexplained(ErrorCode::UnsupportedVersion))
        } else if group_id.is_empty() {
            // Kafka gives no reason here.
            Err(Refusal { code: ErrorCode::InvalidGroupId, message: String::new() })
        } else {
            let answer = ask(&shard, group_id, &request, move |own, groups, _, ticket, effects| {
                let asked: ConsumerGroupDescribeRequest<'_> = again(own);
                groups.describe_consumer(asked.group_ids[number], ticket, effects);
            });
            match answer.await {
                Ok(Answer::DescribeConsumer(outcome)) => outcome,
                Ok(_) => Err(unexplained(ErrorCode::UnknownServerError)),
                Err(error) => Err(unexplained(error)),
            }
        };
        found.push(outcome);
    }
    let described = asked.group_ids.iter().zip(&found).map(|(group_id, found)| match found {
        Err(refusal) => DescribedGroup {
            group_id,
            error_code: refusal.code as i16,
            error_message: Some(refusal.message.as_str()).filter(|message| !message.is_empty()),
            authorized_operations: OPERATIONS_NOT_ASKED,
            ..DescribedGroup::default()
        },
        Ok(found) => DescribedGroup {
            group_id,
            group_state: found.state,
            group_epoch: found.epoch,
            assignment_epoch: found.target_epoch,
            assignor_name: found.assignor,
            members: found.members.iter().map(described_member).collect(),
            authorized_operations: match asked.include_authorized_operations {
                true => GROUP_OPERATIONS,
                false => OPERATIONS_NOT_ASKED,
            },
            ..DescribedGroup::default()
        },
    });
    request.reply(&ConsumerGroupDescribeResponse {
        groups: described.collect(),
        ..ConsumerGroupDescribeResponse::default()
    })
}

fn is_served(image: &Image) -> bool {
    image.features().get(GROUP_VERSION).is_some_and(|level| *level >= 1)
}

/// An error that says it all.
fn unexplained(code: ErrorCode) -> Refusal {
    Refusal { code, message: code.message().to_owned() }
}

fn accepted(response: &HeartbeatResponse) -> ConsumerGroupHeartbeatResponse<'_> {
    let assignment = response.assignment.as_ref().map(|partitions| consumer_group_heartbeat_response::Assignment {
        topic_partitions: partitions
            .iter()
            .map(|(topic, partitions)| consumer_group_heartbeat_response::TopicPartitions {
                topic_id: *topic,
                partitions: partitions.iter().copied().collect(),
            })
            .collect(),
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(&response.member_id),
        member_epoch: response.member_epoch,
        heartbeat_interval_ms: response.heartbeat_interval_ms,
        assignment,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn described_member(described: &DescribedConsumer) -> Member<'_> {
    let member = &described.member;
    Member {
        member_id: &described.id,
        instance_id: member.metadata.instance_id.as_deref(),
        rack_id: member.metadata.rack_id.as_deref(),
        member_epoch: member.current.epoch,
        client_id: &member.metadata.client_id,
        client_host: &member.metadata.client_host,
        subscribed_topic_names: member.metadata.topics.iter().map(String::as_str).collect(),
        subscribed_topic_regex: Some(&member.metadata.regex),
        assignment: assignment(&described.assignment),
        target_assignment: assignment(&described.target),
        member_type: if member.is_classic() { member_type::CLASSIC } else { member_type::CONSUMER },
    }
}

fn assignment(partitions: &[DescribedPartitions]) -> Assignment<'_> {
    let named = partitions.iter().map(|it| TopicPartitions {
        topic_id: it.topic,
        topic_name: &it.name,
        partitions: it.partitions.clone(),
    });
    Assignment { topic_partitions: named.collect() }
}
