//! DescribeGroups (key 15, versions 0 to 6), ListGroups (16, 0 to 5) and DeleteGroups (42, 0 to 2): what operators ask
//! about groups.
//!
//! - A group that does not exist is described as `Dead`, and from version 6 on with GROUP_ID_NOT_FOUND (KIP-1043).
//! - ListGroups asks every core, and filters by state (KIP-518) and type (KIP-848).
//! - A group is deleted with its offsets, if it has no members.
//! - Owner core: that of the group's partition of `__consumer_offsets`; for ListGroups all.

use std::collections::HashSet;

use wire::error::ErrorCode;
use wire::messages::delete_groups_response::DeletableGroupResult;
use wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use wire::messages::list_groups_response::ListedGroup;
use wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest,
    ListGroupsResponse,
};

use super::admin::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED};
use super::group_calls::{again, ask};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::coordinator::{LogTopic, Unavailable};
use crate::group::answers::{Answer, Description, Listed};
use crate::services::Services;
use crate::shard::Shard;

/// Answers DescribeGroups.
pub async fn handle_describe(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeGroupsRequest<'_> = request.decode()?;
    let mut found: Vec<Result<Description, ErrorCode>> = Vec::with_capacity(asked.groups.len());
    for (number, group) in asked.groups.iter().enumerate() {
        let answer = ask(&shard, group, &request, move |own, groups, _, ticket, effects| {
            let asked: DescribeGroupsRequest<'_> = again(own);
            groups.describe(asked.groups[number], own.version, ticket, effects);
        });
        found.push(match answer.await {
            Ok(Answer::Describe(description)) => Ok(description),
            Ok(_) => Err(ErrorCode::UnknownServerError),
            Err(error) => Err(error),
        });
    }
    let described = asked.groups.iter().zip(&found).map(|(group_id, found)| match found {
        Err(error) => DescribedGroup { group_id, error_code: *error as i16, ..DescribedGroup::default() },
        Ok(found) => {
            let error = found.error.as_ref();
            let operations = match asked.include_authorized_operations && error.is_none() {
                true => GROUP_OPERATIONS,
                false => OPERATIONS_NOT_ASKED,
            };
            DescribedGroup {
                error_code: error.map_or(ErrorCode::None, |(error, _)| *error) as i16,
                error_message: error.map(|(_, sentence)| sentence.as_str()),
                group_id,
                group_state: found.state,
                protocol_type: &found.protocol_type,
                protocol_data: &found.protocol,
                members: found
                    .members
                    .iter()
                    .map(|member| DescribedGroupMember {
                        member_id: &member.member_id,
                        group_instance_id: member.instance_id.as_deref(),
                        client_id: &member.client_id,
                        client_host: &member.client_host,
                        member_metadata: &member.metadata,
                        member_assignment: &member.assignment,
                    })
                    .collect(),
                authorized_operations: operations,
            }
        }
    });
    request.reply(&DescribeGroupsResponse { groups: described.collect(), ..DescribeGroupsResponse::default() })
}

/// Answers ListGroups.
pub async fn handle_list(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let _: ListGroupsRequest<'_> = request.decode()?;
    let calls: Vec<_> = (0..shard.cores())
        .map(|core| {
            let own = request.clone();
            shard.run_on(core, move |shard| list_here(shard, own))
        })
        .collect();
    let mut listed = Vec::new();
    let mut error = ErrorCode::None;
    for call in calls {
        match call.await {
            Ok(groups) => listed.extend(groups),
            Err(unavailable) => error = unavailable.code(),
        }
    }
    if error != ErrorCode::None {
        return request.reply(&ListGroupsResponse { error_code: error as i16, ..ListGroupsResponse::default() });
    }
    let groups = listed.iter().map(|group| ListedGroup {
        group_id: &group.group_id,
        protocol_type: &group.protocol_type,
        group_state: group.state,
        group_type: group.kind,
    });
    request.reply(&ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() })
}

/// The groups of one core.
async fn list_here(shard: Shard, request: Request) -> Result<Vec<Listed>, Unavailable> {
    let image = shard.image().clone();
    let count = image.topic(LogTopic::Offsets.name()).map_or(0, |topic| topic.partitions.len());
    let groups = Services::of(&shard).groups().clone();
    let mut listed = Vec::new();
    for partition in (0..).take(count) {
        let answer = groups.run(&shard, partition, |groups, _, ticket, effects| {
            let asked: ListGroupsRequest<'_> = again(&request);
            groups.list(&asked.states_filter, &asked.types_filter, ticket, effects);
        });
        match answer.await {
            Ok(Answer::List(groups)) => listed.extend(groups),
            // Another core's.
            Ok(_) | Err(Unavailable::NotHere) => {}
            Err(unavailable) => return Err(unavailable),
        }
    }
    Ok(listed)
}

/// Answers DeleteGroups.
pub async fn handle_delete(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DeleteGroupsRequest<'_> = request.decode()?;
    let mut seen = HashSet::new();
    let mut results = Vec::new();
    for (number, group_id) in asked.groups_names.iter().enumerate().filter(|(_, id)| seen.insert(**id)) {
        let answer = ask(&shard, group_id, &request, move |own, groups, _, ticket, effects| {
            let asked: DeleteGroupsRequest<'_> = again(own);
            groups.delete(asked.groups_names[number], ticket, effects);
        });
        let outcome = match answer.await {
            Ok(Answer::Delete(outcome)) => outcome,
            Ok(_) => ErrorCode::UnknownServerError,
            Err(error) => error,
        };
        results.push(DeletableGroupResult { group_id, error_code: outcome as i16 });
    }
    request.reply(&DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() })
}
