//! JoinGroup (key 11, versions 0 to 9), SyncGroup (14, 0 to 5), Heartbeat (12, 0 to 4) and LeaveGroup (13, 0 to 5): how
//! members come, are given their part, stay and go.
//!
//! - The protocol is that of classic groups, for any protocol type; static members (KIP-345), ids that are given before
//!   members join (KIP-394), assignments that stay (KIP-814), several that leave at once.
//! - JoinGroup and SyncGroup are answered when the group is complete or the leader has assigned.
//! - While the coordinator loads, heartbeats are answered as if all were well: the member may well be.
//! - Owner core: that of the group's partition of `__consumer_offsets`.

use wire::error::ErrorCode;
use wire::messages::join_group_response::JoinGroupResponseMember;
use wire::messages::leave_group_request::MemberIdentity;
use wire::messages::leave_group_response::MemberResponse;
use wire::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};

use super::group_calls::{again, ask, caller, random_uuid, shown_host};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::group::answers::{Answer, JoinAnswer, SyncAnswer};
use crate::shard::Shard;

/// Up to this version of JoinGroup the response has no null for a protocol that there is not.
const NO_NULL_PROTOCOL_UP_TO: i16 = 6;
/// From this version of SyncGroup on a member says which protocol it believes in.
const NAMES_PROTOCOL_FROM: i16 = 5;
/// Up to this version of LeaveGroup one member leaves, and the outcome is the response's.
const ONE_LEAVES_UP_TO: i16 = 2;

/// Answers JoinGroup.
pub async fn handle_join(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: JoinGroupRequest<'_> = request.decode()?;
    let answer = if asked.group_id.is_empty() {
        JoinAnswer::refusal(asked.member_id, ErrorCode::InvalidGroupId)
    } else {
        let new_member = random_uuid(|| shard.reactor().random());
        let client_host = shown_host(request.peer.ip());
        let answer = ask(&shard, asked.group_id, &request, move |own, groups, now, ticket, effects| {
            let caller = caller(own, &client_host, &new_member);
            groups.join(&again(own), &caller, (now, ticket), effects);
        });
        match answer.await {
            Ok(Answer::Join(answer)) => answer,
            Ok(_) => JoinAnswer::refusal("", ErrorCode::UnknownServerError),
            Err(error) => JoinAnswer::refusal("", error),
        }
    };
    let none = (request.version <= NO_NULL_PROTOCOL_UP_TO).then_some("");
    request.reply(&JoinGroupResponse {
        error_code: answer.error as i16,
        generation_id: answer.generation,
        protocol_type: answer.protocol_type.as_deref(),
        protocol_name: answer.protocol.as_deref().or(none),
        leader: &answer.leader,
        skip_assignment: answer.skip_assignment,
        member_id: &answer.member_id,
        members: answer
            .members
            .iter()
            .map(|member| JoinGroupResponseMember {
                member_id: &member.member_id,
                group_instance_id: member.instance_id.as_deref(),
                metadata: &member.metadata,
            })
            .collect(),
        ..JoinGroupResponse::default()
    })
}

/// Answers SyncGroup.
pub async fn handle_sync(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: SyncGroupRequest<'_> = request.decode()?;
    let names_protocol = asked.protocol_type.is_some() && asked.protocol_name.is_some();
    let answer = if request.version >= NAMES_PROTOCOL_FROM && !names_protocol {
        SyncAnswer::refusal(ErrorCode::InconsistentGroupProtocol)
    } else if asked.group_id.is_empty() {
        SyncAnswer::refusal(ErrorCode::InvalidGroupId)
    } else {
        let answer = ask(&shard, asked.group_id, &request, move |own, groups, now, ticket, effects| {
            groups.sync(&again(own), (now, ticket), effects);
        });
        match answer.await {
            Ok(Answer::Sync(answer)) => answer,
            Ok(_) => SyncAnswer::refusal(ErrorCode::UnknownServerError),
            Err(error) => SyncAnswer::refusal(error),
        }
    };
    request.reply(&SyncGroupResponse {
        error_code: answer.error as i16,
        protocol_type: answer.protocol_type.as_deref(),
        protocol_name: answer.protocol.as_deref(),
        assignment: &answer.assignment,
        ..SyncGroupResponse::default()
    })
}

/// Answers Heartbeat.
pub async fn handle_heartbeat(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: HeartbeatRequest<'_> = request.decode()?;
    let error = if asked.group_id.is_empty() {
        ErrorCode::InvalidGroupId
    } else {
        let answer = ask(&shard, asked.group_id, &request, move |own, groups, now, ticket, effects| {
            groups.heartbeat(&again(own), (now, ticket), effects);
        });
        match answer.await {
            Ok(Answer::Heartbeat(error)) => error,
            Ok(_) => ErrorCode::UnknownServerError,
            Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
            Err(error) => error,
        }
    };
    request.reply(&HeartbeatResponse { error_code: error as i16, ..HeartbeatResponse::default() })
}

/// Answers LeaveGroup.
pub async fn handle_leave(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: LeaveGroupRequest<'_> = request.decode()?;
    let leaving = leaving(&asked, request.version);
    let outcomes = if asked.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        let answer = ask(&shard, asked.group_id, &request, move |own, groups, now, ticket, effects| {
            let asked: LeaveGroupRequest<'_> = again(own);
            groups.leave(asked.group_id, &self::leaving(&asked, own.version), (now, ticket), effects);
        });
        match answer.await {
            Ok(Answer::Leave(outcomes)) => outcomes,
            Ok(_) => Err(ErrorCode::UnknownServerError),
            Err(error) => Err(error),
        }
    };
    let (error, outcomes) = match outcomes {
        Ok(outcomes) => (ErrorCode::None, outcomes),
        Err(error) => (error, Vec::new()),
    };
    let is_one = request.version <= ONE_LEAVES_UP_TO;
    let of_one = outcomes.first().copied().filter(|_| is_one).unwrap_or(ErrorCode::None);
    let members = leaving.iter().zip(&outcomes).map(|(member, outcome)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code: *outcome as i16,
    });
    request.reply(&LeaveGroupResponse {
        error_code: if error == ErrorCode::None { of_one } else { error } as i16,
        members: if is_one { Vec::new() } else { members.collect() },
        ..LeaveGroupResponse::default()
    })
}

/// Who leaves.
fn leaving<'a>(asked: &LeaveGroupRequest<'a>, version: i16) -> Vec<MemberIdentity<'a>> {
    match version <= ONE_LEAVES_UP_TO {
        true => vec![MemberIdentity { member_id: asked.member_id, ..MemberIdentity::default() }],
        false => asked.members.clone(),
    }
}
