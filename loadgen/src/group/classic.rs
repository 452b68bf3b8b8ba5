//! The classic protocol: members agree among themselves, the leader assigns by ranges.

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest, SyncGroupResponse, consumer_protocol_assignment,
    join_group_request, leave_group_request, sync_group_request,
};
use wire::{DecodeError, Message, Reader, put};

use crate::group::member::{Asks, NEVER, Surroundings};
use crate::link::Lost;

/// `session.timeout.ms` and `max.poll.interval.ms` of Kafka's consumer.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
/// The version of what members tell each other about subscriptions and assignments.
const INNER_VERSION: i16 = 0;
/// From this version of LeaveGroup on a request names a list of members.
const LEAVES_MANY: i16 = 3;

/// A member of a classic group.
#[derive(Debug, Default)]
pub(crate) struct Classic {
    member_id: String,
    generation: i32,
}

impl Classic {
    /// The member id, and the generation that it is in.
    pub(crate) fn names(&self) -> (&str, i32) {
        (&self.member_id, self.generation)
    }

    /// Asks to be in, and has nothing until it is.
    pub(crate) fn join(&mut self, asks: &mut Asks, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        with.ledger.drops(asks.number);
        with.ledger.asks(asks.number, with.now);
        (asks.heartbeat_due_ns, asks.commit_due_ns) = (NEVER, NEVER);
        let topics = vec![with.context.topic.name.as_str()];
        let metadata = inner(&ConsumerProtocolSubscription { topics, ..Default::default() })?;
        let request = JoinGroupRequest {
            group_id: with.group_id,
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: &self.member_id,
            protocol_type: PROTOCOL_TYPE,
            protocols: vec![join_group_request::JoinGroupRequestProtocol { name: ASSIGNOR, metadata: &metadata }],
            ..Default::default()
        };
        asks.push(ApiKey::JoinGroup, with.context.versions.join, &request, with)
    }

    pub(crate) fn heartbeat(&self, asks: &mut Asks, with: &Surroundings<'_>) -> Result<(), Lost> {
        let request = HeartbeatRequest {
            group_id: with.group_id,
            generation_id: self.generation,
            member_id: &self.member_id,
            ..Default::default()
        };
        asks.push(ApiKey::Heartbeat, with.context.versions.heartbeat, &request, with)
    }

    pub(crate) fn leave(&self, asks: &mut Asks, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        let version = with.context.versions.leave;
        let one = leave_group_request::MemberIdentity { member_id: &self.member_id, ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: with.group_id,
            member_id: if version < LEAVES_MANY { &self.member_id } else { "" },
            members: if version < LEAVES_MANY { Vec::new() } else { vec![one] },
        };
        asks.push(ApiKey::LeaveGroup, version, &request, with)
    }

    /// Reads an answer; answers whether it was a heartbeat's without an error.
    pub(crate) fn answer(
        &mut self,
        asks: &mut Asks,
        api: ApiKey,
        version: i16,
        reader: &mut Reader<'_>,
        with: &mut Surroundings<'_>,
    ) -> Result<bool, Lost> {
        let broken = |error: DecodeError| Lost::Protocol(api, error);
        match api {
            ApiKey::JoinGroup => {
                let answer = JoinGroupResponse::decode(reader, version).map_err(broken)?;
                self.joined(asks, &answer, with)?;
            }
            ApiKey::SyncGroup => {
                let answer = SyncGroupResponse::decode(reader, version).map_err(broken)?;
                self.synced(asks, &answer, with)?;
            }
            ApiKey::Heartbeat => {
                let answer = HeartbeatResponse::decode(reader, version).map_err(broken)?;
                if answer.error_code != 0 {
                    self.refused(asks, api, answer.error_code, with)?;
                    return Ok(false);
                }
                asks.heartbeat_due_ns = with.now + with.context.heartbeat_ns;
                return Ok(true);
            }
            // What a member that leaves is told changes nothing.
            _ => {}
        }
        Ok(false)
    }

    fn joined(
        &mut self,
        asks: &mut Asks,
        answer: &JoinGroupResponse<'_>,
        with: &mut Surroundings<'_>,
    ) -> Result<(), Lost> {
        if answer.error_code == ErrorCode::MemberIdRequired.code() {
            self.member_id = answer.member_id.to_owned();
            return self.join(asks, with);
        }
        if answer.error_code != 0 {
            return self.refused(asks, ApiKey::JoinGroup, answer.error_code, with);
        }
        self.member_id = answer.member_id.to_owned();
        self.generation = answer.generation_id;
        let mut assignments = Vec::new();
        if answer.leader == answer.member_id && !answer.skip_assignment {
            let mut members: Vec<&str> = answer.members.iter().map(|member| member.member_id).collect();
            members.sort_unstable();
            let count = members.len();
            for (place, member) in members.into_iter().enumerate() {
                let partitions = range(with.context.partitions, place, count);
                let topic = &with.context.topic.name;
                let assigned = vec![consumer_protocol_assignment::TopicPartition { topic, partitions }];
                assignments.push((member, inner(&assignment(assigned))?));
            }
        }
        let one = |(member_id, assignment)| sync_group_request::SyncGroupRequestAssignment { member_id, assignment };
        let request = SyncGroupRequest {
            group_id: with.group_id,
            generation_id: self.generation,
            member_id: &self.member_id,
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(ASSIGNOR),
            assignments: assignments.iter().map(|(member, bytes)| one((*member, bytes.as_slice()))).collect(),
            ..Default::default()
        };
        asks.push(ApiKey::SyncGroup, with.context.versions.sync, &request, with)
    }

    fn synced(
        &mut self,
        asks: &mut Asks,
        answer: &SyncGroupResponse<'_>,
        with: &mut Surroundings<'_>,
    ) -> Result<(), Lost> {
        if answer.error_code != 0 {
            return self.refused(asks, ApiKey::SyncGroup, answer.error_code, with);
        }
        let partitions =
            assigned_partitions(answer.assignment).map_err(|error| Lost::Protocol(ApiKey::SyncGroup, error))?;
        with.ledger.assigned(asks.number, self.generation, &partitions, with.now);
        asks.heartbeat_due_ns = with.now + with.context.heartbeat_ns;
        if with.context.commit_ns > 0 {
            asks.commit_due_ns = with.now + with.context.commit_ns;
        }
        Ok(())
    }

    /// Joins again: because others do, which is no error, or because the group knows this member no more.
    fn refused(&mut self, asks: &mut Asks, api: ApiKey, code: i16, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::RebalanceInProgress) => {}
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                with.counts.tally.error(api, code, 0);
                self.member_id.clear();
            }
            _ => {
                with.counts.tally.error(api, code, 0);
                return Err(Lost::Refused { api, code });
            }
        }
        self.join(asks, with)
    }
}

/// The partitions of the member at `place` of `members`, where the first ones have one more when the numbers do not divide.
fn range(partitions: usize, place: usize, members: usize) -> Vec<i32> {
    let (each, more) = (partitions / members, partitions % members);
    let first = place * each + place.min(more);
    let count = each + usize::from(place < more);
    (first..first + count).map(|partition| partition as i32).collect()
}

fn assignment(assigned: Vec<consumer_protocol_assignment::TopicPartition<'_>>) -> ConsumerProtocolAssignment<'_> {
    ConsumerProtocolAssignment { assigned_partitions: assigned, ..Default::default() }
}

/// What members tell each other: a version, and the message in it.
fn inner<'a>(message: &impl Message<'a>) -> Result<Vec<u8>, Lost> {
    let mut out = Vec::new();
    put::i16(&mut out, INNER_VERSION);
    message.encode(&mut out, INNER_VERSION)?;
    Ok(out)
}

/// The partitions of an assignment. A member that was given none may get no bytes at all.
fn assigned_partitions(bytes: &[u8]) -> Result<Vec<i32>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    reader.i16()?;
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, INNER_VERSION)?;
    Ok(assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_partition_once() {
        for (partitions, members) in [(10, 3), (3, 10), (1_000, 100), (1, 1), (7, 7)] {
            let all: Vec<i32> = (0..members).flat_map(|place| range(partitions, place, members)).collect();
            assert_eq!(all, (0..partitions as i32).collect::<Vec<_>>());
        }
        assert_eq!(range(10, 0, 3), [0, 1, 2, 3]);
        assert_eq!(range(10, 2, 3), [7, 8, 9]);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let topic = consumer_protocol_assignment::TopicPartition { topic: "t", partitions: vec![3, 4] };
        let bytes = inner(&assignment(vec![topic])).unwrap();
        assert_eq!(assigned_partitions(&bytes).unwrap(), [3, 4]);
        assert_eq!(assigned_partitions(&[]).unwrap(), []);
        assert!(assigned_partitions(&bytes[..7]).is_err());
    }
}
