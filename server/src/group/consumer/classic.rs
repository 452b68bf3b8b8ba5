//! Members of the classic protocol in a group of the consumer protocol. While a group is upgraded one member at a time,
//! those of the old protocol take part as if each rebalance were theirs alone: they are told to join again when there
//! is something new for them, and fetch it by SyncGroup.

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::error::ErrorCode;
use wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, SyncGroupRequest, consumer_protocol_assignment,
};
use wire::{Message, Reader};

use super::member::without_epochs;
use super::timers::Wait;
use super::{
    Aftermath, Caller, ClassicMember, ClassicSeed, ConsumerGroup, ConsumerOptions, Member, MemberState, Record, Refusal,
};
use crate::group::assignor::Partitions;
use crate::group::topics::Topics;
use crate::state_machine::Now;

/// The protocol type of consumers.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

/// A JoinGroup request.
#[derive(Debug, Clone, Copy)]
pub struct ClassicJoin<'a> {
    /// The member's id, or nothing.
    pub member_id: &'a str,
    /// What a static member calls itself.
    pub instance_id: Option<&'a str>,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long it may take to join and to sync, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The kind of group that it expects.
    pub protocol_type: &'a str,
    /// The assignors that it knows, with its subscription in the form of each.
    pub protocols: &'a [(&'a str, &'a [u8])],
    /// Whether a member has to come back with the id that it is given (JoinGroup from version 4).
    pub needs_known_id: bool,
}

/// The answer to a JoinGroup request. There is no leader: the coordinator assigns.
#[derive(Debug, PartialEq, Eq)]
pub enum ClassicJoined {
    /// The member is to join again with this id.
    MemberIdRequired(Arc<str>),
    /// It is a member.
    Member {
        /// Its id.
        member_id: Arc<str>,
        /// Its epoch, which it knows as the generation.
        generation: i32,
        /// The assignor in whose form its assignment will be.
        protocol: String,
        /// What becomes of the group, since the last member of the consumer protocol may just have been replaced.
        aftermath: Aftermath,
    },
}

impl ConsumerGroup {
    /// A member of the classic protocol joins, for the first time or again.
    pub fn join_classic(
        &mut self,
        now: Now,
        join: &ClassicJoin<'_>,
        caller: Caller<'_>,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> Result<ClassicJoined, Refusal> {
        let inconsistent = |message: String| Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        if !options.migration.upgrade && !options.migration.downgrade {
            let group = &self.id;
            return inconsistent(format!(
                "Cannot join the consumer group {group} with the classic protocol because the group migration is \
                 disabled."
            ));
        }
        let is_unknown = join.member_id.is_empty();
        let member_id = if is_unknown { caller.new_member_id } else { join.member_id };
        self.check_room(member_id, options)?;
        if !self.supports_protocols(join) {
            return inconsistent(format!("Member {member_id}'s protocols are not supported."));
        }
        let member_id: Arc<str> = member_id.into();
        if join.needs_known_id && is_unknown && join.instance_id.is_none() {
            return Ok(ClassicJoined::MemberIdRequired(member_id));
        }
        let replaced = match join.instance_id {
            Some(instance) if is_unknown => self.index.static_members.get(instance).cloned(),
            Some(instance) => self.static_member(instance, join.member_id).map(|_| None)?,
            None => None,
        };
        let Some(subscription) = join.protocols.first().and_then(|(_, bytes)| Subscription::decode(bytes)) else {
            let message = "Malformed embedded consumer protocol in subscription deserialization.";
            return Err(Refusal::new(ErrorCode::UnknownServerError, message));
        };
        // Nothing is refused from here on.
        let static_before = join.instance_id.and_then(|instance| self.index.static_members.get(instance));
        let downgrades = static_before.is_some_and(|id| self.downgrades_without(id, options));
        if let Some(old) = replaced {
            self.replace_member(&old, &member_id, out);
        }
        let mut metadata = self.members.get(&member_id).map(|member| member.metadata.clone()).unwrap_or_default();
        if let Some(instance) = join.instance_id {
            metadata.instance_id = Some(instance.to_owned());
        }
        if let Some(rack) = subscription.rack_id {
            metadata.rack_id = Some(rack);
        }
        if join.rebalance_timeout_ms != -1 {
            metadata.rebalance_timeout_ms = join.rebalance_timeout_ms;
        }
        metadata.topics = subscription.topics;
        metadata.regex.clear();
        metadata.client_id = caller.client_id.to_owned();
        metadata.client_host = caller.client_host.to_owned();
        metadata.classic = Some(ClassicMember {
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.iter().map(|(name, metadata)| ((*name).to_owned(), metadata.to_vec())).collect(),
        });
        let owned: Partitions = subscription
            .owned
            .into_iter()
            .filter_map(|(name, partitions)| Some((topics.id(&name)?, partitions)))
            .collect();
        let changed = self.subscribe(now, &member_id, metadata, topics, options, out);
        if !downgrades {
            self.update_target(now, topics, options, out);
        }
        let stale = downgrades && self.target_epoch < self.epoch;
        if !stale {
            self.reconcile(now, &member_id, changed, Some(&owned), topics, out);
        }
        let generation = self.members[&member_id].current.epoch;
        let aftermath = if downgrades {
            let seed = self.to_classic(&BTreeSet::new(), stale, topics);
            self.delete(out);
            Aftermath::Downgraded(seed)
        } else {
            let after_ms = |timeout_ms: i32| now.ms + i64::from(timeout_ms);
            self.timers.stop(&member_id, Wait::Join);
            self.timers.start(&member_id, Wait::Session, after_ms(join.session_timeout_ms));
            self.timers.start(&member_id, Wait::Sync, after_ms(join.rebalance_timeout_ms));
            Aftermath::Remains
        };
        let protocol = join.protocols[0].0.to_owned();
        Ok(ClassicJoined::Member { member_id, generation, protocol, aftermath })
    }

    /// SyncGroup: a member of the classic protocol fetches its assignment, in the form of its clients.
    pub fn sync_classic(
        &mut self,
        now: Now,
        request: &SyncGroupRequest<'_>,
        topics: &Topics<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let (protocol_type, protocol) = (request.protocol_type, request.protocol_name);
        let member_id = self.classic_member(request.member_id, request.group_instance_id)?;
        self.check_generation(&member_id, request.generation_id)?;
        let member = &self.members[&member_id];
        let classic = member.metadata.classic.as_ref().expect("a member of the classic protocol");
        let (joined, subscription) = classic.protocols.first().cloned().unwrap_or_default();
        if protocol_type.is_some_and(|kind| kind != PROTOCOL_TYPE) || protocol.is_some_and(|name| name != joined) {
            let message = format!("Member {member_id} has joined with the protocol {joined} of consumers.");
            return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        }
        if self.target_epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            let deadline_ms = now.ms + i64::from(member.metadata.rebalance_timeout_ms);
            self.timers.start_if_absent(&member_id, Wait::Join, deadline_ms);
            let message = format!("Member {member_id} of group {} is to join again.", self.id);
            return Err(Refusal::new(ErrorCode::RebalanceInProgress, message));
        }
        let assignment = encode_assignment(&without_epochs(&member.current.assigned), &subscription, topics);
        let deadline_ms = now.ms + i64::from(classic.session_timeout_ms);
        self.timers.stop(&member_id, Wait::Sync);
        self.timers.start(&member_id, Wait::Session, deadline_ms);
        Ok(assignment)
    }

    /// Heartbeat: whether a member of the classic protocol is to join again.
    pub fn heartbeat_classic(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<bool, Refusal> {
        let member_id = self.classic_member(member_id, instance_id)?;
        self.check_generation(&member_id, generation)?;
        let member = &self.members[&member_id];
        let session_ms = member.metadata.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
        let rebalance_ms = member.metadata.rebalance_timeout_ms;
        let rejoins = member.current.epoch < self.target_epoch
            || match member.current.state {
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(&member_id, member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        self.timers.start(&member_id, Wait::Session, now.ms + i64::from(session_ms));
        if rejoins {
            self.timers.start_if_absent(&member_id, Wait::Join, now.ms + i64::from(rebalance_ms));
        }
        Ok(rejoins)
    }

    /// LeaveGroup: members by id and by what static ones call themselves, of either protocol. An answer for each.
    pub fn leave_classic(
        &mut self,
        leaving: &[(&str, Option<&str>)],
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> (Vec<Result<(), Refusal>>, Aftermath) {
        let mut gone = BTreeSet::new();
        let mut leave = |(member_id, instance_id): &(&str, Option<&str>)| {
            let member_id: Arc<str> = match instance_id {
                None => self.member(member_id).map(|_| (*member_id).into())?,
                // Tools name a static member by what it calls itself alone.
                Some(instance) if member_id.is_empty() => match self.index.static_members.get(*instance) {
                    Some(known) => known.clone(),
                    None => self.static_member(instance, member_id)?,
                },
                Some(instance) => self.static_member(instance, member_id)?,
            };
            gone.insert(member_id);
            Ok(())
        };
        let answers = leaving.iter().map(&mut leave).collect();
        let aftermath = self.remove_members(&gone, topics, options, out);
        (answers, aftermath)
    }

    /// Whether members of the classic protocol who know these assignors can join: one of them all such members know.
    fn supports_protocols(&self, join: &ClassicJoin<'_>) -> bool {
        let known_to_all = |name: &str| {
            let knowing = self.index.classic_protocols.get(name).copied().unwrap_or_default();
            self.members.is_empty() || knowing == self.index.classic_members
        };
        join.protocol_type == PROTOCOL_TYPE && join.protocols.iter().any(|(name, _)| known_to_all(name))
    }

    fn classic_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<Arc<str>, Refusal> {
        let id = match instance_id {
            None => self.member(member_id).map(|_| member_id.into())?,
            Some(instance) => self.static_member(instance, member_id)?,
        };
        if self.members[&id].is_classic() {
            return Ok(id);
        }
        let message = format!("Member {id} does not use the classic protocol.");
        Err(Refusal::new(ErrorCode::UnknownMemberId, message))
    }

    fn check_generation(&self, member_id: &Arc<str>, generation: i32) -> Result<(), Refusal> {
        let epoch = self.members[member_id].current.epoch;
        if generation == epoch {
            return Ok(());
        }
        let message = format!(
            "The request generation id {generation} is not equal to the member epoch {epoch} of member {member_id}."
        );
        Err(Refusal::new(ErrorCode::IllegalGeneration, message))
    }

    /// Whether something that a member is to have is still with another.
    fn waits_for_others(&self, member_id: &Arc<str>, member: &Member) -> bool {
        let target = self.target.get(member_id).into_iter().flatten();
        let mut missing = target.flat_map(|(topic, partitions)| {
            let has = member.current.assigned.get(topic);
            let is_missing = move |partition: &&i32| !has.is_some_and(|has| has.contains_key(partition));
            partitions.iter().filter(is_missing).map(move |partition| (topic, *partition))
        });
        missing.any(|(topic, partition)| self.index.owners.get(topic).is_some_and(|it| it.contains_key(&partition)))
    }
}

/// A consumer's subscription in the classic protocol.
pub(super) struct Subscription {
    pub topics: BTreeSet<String>,
    pub owned: Vec<(String, BTreeSet<i32>)>,
    pub rack_id: Option<String>,
}

impl Subscription {
    pub(super) fn decode(bytes: &[u8]) -> Option<Subscription> {
        let subscription: ConsumerProtocolSubscription<'_> = decode(bytes)?;
        Some(Subscription {
            topics: subscription.topics.iter().map(|name| (*name).to_owned()).collect(),
            owned: subscription
                .owned_partitions
                .into_iter()
                .map(|topic| (topic.topic.to_owned(), topic.partitions.into_iter().collect()))
                .collect(),
            rack_id: subscription.rack_id.filter(|rack| !rack.is_empty()).map(str::to_owned),
        })
    }
}

/// An assignment in the classic protocol: partitions, and whether there is data of a client's own assignor beside them.
pub(super) fn decode_assignment(bytes: &[u8], topics: &Topics<'_>) -> Option<(Partitions, bool)> {
    let assignment: ConsumerProtocolAssignment<'_> = decode(bytes)?;
    let of_topic = |topic: consumer_protocol_assignment::TopicPartition<'_>| {
        Some((topics.id(topic.topic)?, topic.partitions.into_iter().collect()))
    };
    let partitions = assignment.assigned_partitions.into_iter().filter_map(of_topic).collect();
    Some((partitions, assignment.user_data.is_some_and(|data| !data.is_empty())))
}

/// The same, written: in the version of the client's subscription, which it understands.
pub(super) fn encode_assignment(partitions: &Partitions, subscription: &[u8], topics: &Topics<'_>) -> Vec<u8> {
    let newest = ConsumerProtocolAssignment::MAX_VERSION;
    let version = Reader::new(subscription).i16().unwrap_or_default().clamp(0, newest);
    let assigned_partitions = partitions
        .iter()
        .filter_map(|(topic, partitions)| {
            let partitions = partitions.iter().copied().collect();
            Some(consumer_protocol_assignment::TopicPartition { topic: topics.name(topic)?, partitions })
        })
        .collect();
    let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
    let mut bytes = version.to_be_bytes().to_vec();
    assignment.encode(&mut bytes, version).expect("every version has these fields, and names are bounded");
    bytes
}

/// Data of the classic protocol behind its version. Of a newer version the part is read that is known.
fn decode<'a, M: Message<'a>>(bytes: &'a [u8]) -> Option<M> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16().ok()?;
    M::decode(&mut reader, version.min(M::MAX_VERSION)).ok()
}

/// What a group of the classic protocol begins with.
pub(super) fn select_protocol(seed: &ClassicSeed) -> String {
    let known_to_all =
        |name: &str| seed.members.iter().all(|member| member.protocols.iter().any(|(known, _)| known == name));
    let mut votes: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for member in &seed.members {
        if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known_to_all(name)) {
            *votes.entry(name).or_default() += 1;
        }
    }
    let most = votes.into_iter().max_by_key(|(name, votes)| (*votes, std::cmp::Reverse(*name)));
    most.map(|(name, _)| name.to_owned()).unwrap_or_default()
}
