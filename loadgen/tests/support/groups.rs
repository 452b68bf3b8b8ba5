//! Coordinators of groups, as good as a test needs: of the classic protocol and of the consumer protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::header::{RequestHeader, encode_response};
use wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, SyncGroupRequest, SyncGroupResponse, consumer_group_heartbeat_response, join_group_response,
    offset_commit_response,
};
use wire::{Message, Reader, Uuid};

/// What the coordinator does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupFault {
    None,
    /// Gives every member of a classic group what the leader gave the first one.
    SameForAll,
    /// Gives members of the consumer protocol partitions that others have not given up.
    Hasty,
    /// Forgets a member of a classic group at the heartbeat of this number.
    Forget(u32),
    /// Refuses all commits.
    RefuseCommits(ErrorCode),
}

/// All groups of a broker.
pub struct Groups {
    pub fault: GroupFault,
    state: Mutex<BTreeMap<String, Group>>,
    changed: Condvar,
}

#[derive(Default)]
struct Group {
    members: BTreeMap<String, Member>,
    generation: i32,
    /// Classic: members that have asked to be in the next generation.
    joining: BTreeSet<String>,
    /// Classic: what the leader has given, by member; empty until it has.
    assignments: BTreeMap<String, Vec<u8>>,
    named: u32,
    forgotten: String,
    heartbeats: u32,
    commits: u32,
    offsets: u32,
}

#[derive(Default)]
struct Member {
    metadata: Vec<u8>,
    /// Consumer protocol: what it has or may have.
    owned: BTreeSet<i32>,
}

const LONG: Duration = Duration::from_secs(20);
const INTERVAL_MS: i32 = 20;

impl Groups {
    pub fn new(fault: GroupFault) -> Groups {
        Groups { fault, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Members, heartbeats, commits and committed offsets of a group.
    pub fn counts(&self, id: &str) -> (usize, u32, u32, u32) {
        let groups = self.state.lock().unwrap();
        let group = &groups[id];
        (group.members.len(), group.heartbeats, group.commits, group.offsets)
    }

    /// Heartbeats of a group that may not be there yet.
    pub fn heartbeats(&self, id: &str) -> u32 {
        self.state.lock().unwrap().get(id).map_or(0, |group| group.heartbeats)
    }

    /// Appends the answer to a request of a group, if it is one.
    pub fn answer(
        &self,
        header: &RequestHeader<'_>,
        body: &mut Reader<'_>,
        topic: (Uuid, i32),
        out: &mut Vec<u8>,
    ) -> bool {
        let version = header.version;
        let mut answer = Vec::new();
        match header.api {
            ApiKey::JoinGroup => self.join(&JoinGroupRequest::decode(body, version).unwrap(), version, &mut answer),
            ApiKey::SyncGroup => self.sync(&SyncGroupRequest::decode(body, version).unwrap(), version, &mut answer),
            ApiKey::Heartbeat => {
                let error_code = self.heartbeat(&HeartbeatRequest::decode(body, version).unwrap());
                HeartbeatResponse { error_code, ..Default::default() }.encode(&mut answer, version).unwrap();
            }
            ApiKey::LeaveGroup => {
                let request = LeaveGroupRequest::decode(body, version).unwrap();
                let mut groups = self.state.lock().unwrap();
                let group = groups.get_mut(request.group_id).unwrap();
                request.members.iter().for_each(|member| {
                    group.members.remove(member.member_id).unwrap();
                });
                LeaveGroupResponse::default().encode(&mut answer, version).unwrap();
            }
            ApiKey::OffsetCommit => {
                self.commit(&OffsetCommitRequest::decode(body, version).unwrap(), version, &mut answer);
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let request = ConsumerGroupHeartbeatRequest::decode(body, version).unwrap();
                self.consumer(&request, topic, version, &mut answer);
            }
            _ => return false,
        }
        encode_response(out, header.api, version, header.correlation_id);
        out.extend_from_slice(&answer);
        true
    }

    fn join(&self, request: &JoinGroupRequest<'_>, version: i16, out: &mut Vec<u8>) {
        let mut groups = self.state.lock().unwrap();
        let group = groups.entry(request.group_id.to_owned()).or_default();
        if request.member_id.is_empty() {
            group.named += 1;
            let member_id = format!("member-{}", group.named);
            let error_code = ErrorCode::MemberIdRequired.code();
            let refused = JoinGroupResponse { error_code, member_id: &member_id, ..Default::default() };
            return refused.encode(out, version).unwrap();
        }
        if request.member_id == group.forgotten {
            let error_code = ErrorCode::UnknownMemberId.code();
            return JoinGroupResponse { error_code, ..Default::default() }.encode(out, version).unwrap();
        }
        let id = request.member_id.to_owned();
        let metadata = request.protocols[0].metadata.to_vec();
        group.members.insert(id.clone(), Member { metadata, ..Member::default() });
        group.joining.insert(id.clone());
        let before = group.generation;
        if group.joining.len() == group.members.len() {
            group.generation += 1;
            group.joining.clear();
            group.assignments.clear();
            self.changed.notify_all();
        }
        let groups = self.wait(groups, |groups| groups[request.group_id].generation > before);
        let group = &groups[request.group_id];
        let leader = group.members.keys().next().unwrap();
        let members = if *leader == id {
            let one = |(member_id, member): (&'_ String, &'_ Member)| (member_id.clone(), member.metadata.clone());
            group.members.iter().map(one).collect()
        } else {
            Vec::new()
        };
        let one = |(member_id, metadata)| join_group_response::JoinGroupResponseMember {
            member_id,
            metadata,
            ..Default::default()
        };
        let response = JoinGroupResponse {
            generation_id: group.generation,
            protocol_type: Some("consumer"),
            protocol_name: Some(request.protocols[0].name),
            leader,
            member_id: &id,
            members: members.iter().map(|(id, bytes)| one((id.as_str(), bytes.as_slice()))).collect(),
            ..Default::default()
        };
        response.encode(out, version).unwrap();
    }

    fn sync(&self, request: &SyncGroupRequest<'_>, version: i16, out: &mut Vec<u8>) {
        let mut groups = self.state.lock().unwrap();
        let group = groups.get_mut(request.group_id).unwrap();
        if group.generation == request.generation_id && !request.assignments.is_empty() {
            let given = request.assignments.iter();
            group.assignments = given.map(|one| (one.member_id.to_owned(), one.assignment.to_vec())).collect();
            self.changed.notify_all();
        }
        let over = |group: &Group| group.generation != request.generation_id || !group.joining.is_empty();
        let groups = self.wait(groups, |groups| {
            let group = &groups[request.group_id];
            over(group) || !group.assignments.is_empty()
        });
        let group = &groups[request.group_id];
        let response = if over(group) {
            SyncGroupResponse { error_code: ErrorCode::RebalanceInProgress.code(), ..Default::default() }
        } else {
            let assignment = match self.fault {
                GroupFault::SameForAll => group.assignments.values().next().unwrap(),
                _ => &group.assignments[request.member_id],
            };
            SyncGroupResponse { assignment, ..Default::default() }
        };
        response.encode(out, version).unwrap();
    }

    fn heartbeat(&self, request: &HeartbeatRequest<'_>) -> i16 {
        let mut groups = self.state.lock().unwrap();
        let group = groups.get_mut(request.group_id).unwrap();
        group.heartbeats += 1;
        if self.fault == GroupFault::Forget(group.heartbeats) {
            group.members.remove(request.member_id).unwrap();
            group.forgotten = request.member_id.to_owned();
        }
        let error = match group.members.contains_key(request.member_id) {
            false => ErrorCode::UnknownMemberId,
            true if !group.joining.is_empty() => ErrorCode::RebalanceInProgress,
            true if group.generation != request.generation_id => ErrorCode::IllegalGeneration,
            true => ErrorCode::None,
        };
        error.code()
    }

    fn commit(&self, request: &OffsetCommitRequest<'_>, version: i16, out: &mut Vec<u8>) {
        let mut groups = self.state.lock().unwrap();
        let group = groups.get_mut(request.group_id).unwrap();
        assert!(group.members.contains_key(request.member_id));
        group.commits += 1;
        let error_code = match self.fault {
            GroupFault::RefuseCommits(error) => error.code(),
            _ => 0,
        };
        let topic = &request.topics[0];
        group.offsets += topic.partitions.len() as u32;
        let one = |index| offset_commit_response::OffsetCommitResponsePartition { partition_index: index, error_code };
        let topic = offset_commit_response::OffsetCommitResponseTopic {
            name: topic.name,
            partitions: topic.partitions.iter().map(|partition| one(partition.partition_index)).collect(),
            ..Default::default()
        };
        OffsetCommitResponse { topics: vec![topic], ..Default::default() }.encode(out, version).unwrap();
    }

    fn consumer(
        &self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        (topic_id, partitions): (Uuid, i32),
        version: i16,
        out: &mut Vec<u8>,
    ) {
        let mut groups = self.state.lock().unwrap();
        let group = groups.entry(request.group_id.to_owned()).or_default();
        group.heartbeats += 1;
        let id = request.member_id.to_owned();
        if request.member_epoch < 0 {
            group.members.remove(&id).unwrap();
            return ConsumerGroupHeartbeatResponse { member_epoch: -1, ..Default::default() }
                .encode(out, version)
                .unwrap();
        }
        if request.member_epoch == 0 {
            assert!(request.subscribed_topic_names.is_some());
            group.members.insert(id.clone(), Member::default());
            group.generation += 1;
        }
        if let Some(owned) = &request.topic_partitions {
            let owned = owned.iter().flat_map(|topic| topic.partitions.iter().copied());
            group.members.get_mut(&id).unwrap().owned = owned.collect();
        }
        let place = group.members.keys().position(|other| *other == id).unwrap() as i32;
        let count = group.members.len() as i32;
        let target: BTreeSet<i32> = (0..partitions).filter(|partition| partition % count == place).collect();
        let taken: BTreeSet<i32> = group
            .members
            .iter()
            .filter(|(other, _)| **other != id && self.fault != GroupFault::Hasty)
            .flat_map(|(_, member)| member.owned.iter().copied())
            .collect();
        let owned = group.members[&id].owned.clone();
        let given: BTreeSet<i32> = match owned.is_subset(&target) {
            true => target.difference(&taken).copied().collect(),
            // First it gives up what is not to be its own.
            false => owned.intersection(&target).copied().collect(),
        };
        let may_have = group.members.get_mut(&id).unwrap();
        may_have.owned.extend(&given);
        let partitions = given.into_iter().collect();
        let assigned = consumer_group_heartbeat_response::TopicPartitions { topic_id, partitions };
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(&id),
            member_epoch: group.generation,
            heartbeat_interval_ms: INTERVAL_MS,
            assignment: Some(consumer_group_heartbeat_response::Assignment { topic_partitions: vec![assigned] }),
            ..Default::default()
        };
        response.encode(out, version).unwrap();
    }

    fn wait<'a>(
        &'a self,
        groups: MutexGuard<'a, BTreeMap<String, Group>>,
        until: impl Fn(&BTreeMap<String, Group>) -> bool,
    ) -> MutexGuard<'a, BTreeMap<String, Group>> {
        let (groups, waited) = self.changed.wait_timeout_while(groups, LONG, |groups| !until(groups)).unwrap();
        assert!(!waited.timed_out(), "a group does not come to its next generation");
        groups
    }
}
