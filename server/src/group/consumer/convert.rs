//! From one protocol to the other while members stay: a group is upgraded when its first member of the consumer
//! protocol joins, and downgraded when the last one is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::error::ErrorCode;

use super::classic::{Subscription, decode_assignment, encode_assignment, select_protocol};
use super::member::with_epoch;
use super::timers::Wait;
use super::{
    ClassicMember, ConsumerGroup, ConsumerOptions, Current, GroupEpoch, MemberState, Metadata, Record, Refusal,
    TargetEpoch,
};
use crate::group::assignor::Partitions;
use crate::group::topics::Topics;
use crate::state_machine::Now;

/// What a group of the classic protocol takes over, or hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicSeed {
    /// Its generation.
    pub generation: i32,
    /// The assignor that its members have agreed on.
    pub protocol: String,
    /// Whether its members have to join again.
    pub rebalance: bool,
    /// Its members.
    pub members: Vec<ClassicSeedMember>,
}

/// A member of a group of the classic protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicSeedMember {
    /// Its id.
    pub id: Arc<str>,
    /// What a static member calls itself.
    pub instance_id: Option<String>,
    /// The client's id.
    pub client_id: String,
    /// The client's address, as Kafka writes it.
    pub client_host: String,
    /// How long it may take to join, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// The assignors that it knows, with its subscription in the form of each.
    pub protocols: Vec<(String, Vec<u8>)>,
    /// Its assignment in the form of the clients. Nothing: none.
    pub assignment: Vec<u8>,
}

impl ConsumerGroup {
    /// The group that takes over from one of the classic protocol. What ends that one comes before its records.
    pub fn from_classic(
        id: &str,
        seed: &ClassicSeed,
        now: Now,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> Result<ConsumerGroup, Refusal> {
        let refuse = |why: &str| {
            let message = format!("Cannot upgrade classic group {id} to consumer group because {why}.");
            Refusal::new(ErrorCode::GroupIdNotFound, message)
        };
        if !options.migration.upgrade {
            return Err(refuse("online upgrade is disabled"));
        }
        if seed.members.len() > options.max_size {
            return Err(refuse("the group size exceeds the consumer group maximum size"));
        }
        let mut members: Vec<(Arc<str>, Metadata, Partitions)> = Vec::new();
        for member in &seed.members {
            let malformed = || refuse("the embedded consumer protocol is malformed");
            let (assigned, has_own_data) = match member.assignment.as_slice() {
                [] => (Partitions::new(), false),
                bytes => decode_assignment(bytes, topics).ok_or_else(malformed)?,
            };
            if has_own_data {
                return Err(refuse(
                    "an unsupported custom assignor is in use. Please refer to the documentation or switch to a \
                     default assignor before re-attempting the upgrade",
                ));
            }
            let in_use = member.protocols.iter().find(|(name, _)| *name == seed.protocol);
            let subscription = in_use.and_then(|(_, bytes)| Subscription::decode(bytes)).ok_or_else(malformed)?;
            let metadata = Metadata {
                instance_id: member.instance_id.clone(),
                rack_id: subscription.rack_id,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                topics: subscription.topics,
                regex: String::new(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                assignor: None,
                classic: Some(ClassicMember {
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: member.protocols.clone(),
                }),
            };
            members.push((member.id.clone(), metadata, assigned));
        }

        let mut group = ConsumerGroup::new(id);
        let epoch = seed.generation;
        for (id, metadata, _) in &members {
            group.emit(Record::Member(id.clone(), Some(metadata.clone())), out);
        }
        let metadata_hash = group.hash_topics(topics);
        group.emit(Record::Group(Some(GroupEpoch { epoch, metadata_hash })), out);
        for (id, _, assigned) in &members {
            group.emit(Record::Target(id.clone(), Some(assigned.clone())), out);
        }
        group.emit(Record::TargetEpoch(Some(TargetEpoch { epoch, timestamp_ms: 0 })), out);
        for (id, metadata, assigned) in members {
            let current = Current {
                epoch,
                previous_epoch: epoch,
                state: MemberState::Stable,
                assigned: with_epoch(&assigned, epoch),
                revoking: super::Assigned::new(),
            };
            group.emit(Record::Current(id.clone(), Some(current)), out);
            let session_ms = metadata.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
            group.timers.start(&id, Wait::Session, now.ms + i64::from(session_ms));
        }
        Ok(group)
    }

    /// The group of the classic protocol that takes over when `leaving` are gone, if it is time for one.
    pub(super) fn downgrade_after_leave(
        &self,
        leaving: &BTreeSet<Arc<str>>,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
    ) -> Option<ClassicSeed> {
        let staying = || self.members.iter().filter(|(id, _)| !leaving.contains(*id)).map(|(_, member)| member);
        let count = staying().count();
        let downgrades = count > 0
            && count <= options.classic_max_size
            && options.migration.downgrade
            && staying().all(super::Member::is_classic);
        downgrades.then(|| self.to_classic(leaving, true, topics))
    }

    /// Whether it is time for a group of the classic protocol when a static member of the consumer protocol comes back
    /// with the classic one.
    pub(super) fn downgrades_without(&self, static_id: &Arc<str>, options: &ConsumerOptions) -> bool {
        !self.members[static_id].is_classic()
            && self.index.classic_members == self.members.len() - 1
            && self.members.len() <= options.classic_max_size
            && options.migration.downgrade
    }

    /// The members that stay, as a group of the classic protocol has them.
    pub(super) fn to_classic(&self, leaving: &BTreeSet<Arc<str>>, rebalance: bool, topics: &Topics<'_>) -> ClassicSeed {
        let mut seed = ClassicSeed { generation: self.epoch, protocol: String::new(), rebalance, members: Vec::new() };
        for (id, member) in self.members.iter().filter(|(id, _)| !leaving.contains(*id)) {
            let Some(classic) = &member.metadata.classic else { continue };
            seed.members.push(ClassicSeedMember {
                id: id.clone(),
                instance_id: member.metadata.instance_id.clone(),
                client_id: member.metadata.client_id.clone(),
                client_host: member.metadata.client_host.clone(),
                rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.protocols.clone(),
                assignment: Vec::new(),
            });
        }
        seed.protocol = select_protocol(&seed);
        for member in &mut seed.members {
            let in_use = member.protocols.iter().find(|(name, _)| *name == seed.protocol);
            let subscription = in_use.map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
            let target = self.target.get(&member.id).unwrap_or(&super::replay::NO_TARGET);
            member.assignment = encode_assignment(target, subscription, topics);
        }
        seed
    }
}
