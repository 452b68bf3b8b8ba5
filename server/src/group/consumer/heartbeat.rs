//! ConsumerGroupHeartbeat: joining, staying and leaving, and what happens to those who fall silent.

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::error::ErrorCode;
use wire::messages::ConsumerGroupHeartbeatRequest;

use super::member::{Assigned, Current, Metadata, without_epochs};
use super::reconcile::Reconciliation;
use super::replay::NO_TARGET;
use super::timers::Wait;
use super::{
    Aftermath, ConsumerGroup, ConsumerOptions, GroupEpoch, JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, MemberState,
    Record, Refusal,
};
use crate::group::assignor::{Assignor, Partitions};
use crate::group::topics::Topics;
use crate::limits::REMOVED_MEMBERS;
use crate::state_machine::Now;

/// Who sends a request.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The client's id.
    pub client_id: &'a str,
    /// The client's address, as Kafka writes it: `/127.0.0.1`.
    pub client_host: &'a str,
    /// The id for a member that comes without one.
    pub new_member_id: &'a str,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// When the next heartbeat is expected, in milliseconds from now. 0 for one that has left.
    pub heartbeat_interval_ms: i32,
    /// What the member may read; `None`: as before.
    pub assignment: Option<Partitions>,
}

/// Checks a request without looking at its group. `version` is that of ConsumerGroupHeartbeat.
pub fn check_request(
    request: &ConsumerGroupHeartbeatRequest<'_>,
    version: i16,
    assignors: &[Assignor],
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let is_blank = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
    let epoch = request.member_epoch;
    if (version >= 1 || epoch > JOIN_EPOCH || epoch == LEAVE_EPOCH) && is_blank(Some(request.member_id)) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(Some(request.group_id)) {
        return invalid("GroupId can't be empty.");
    }
    if is_blank(request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_blank(request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    if epoch == JOIN_EPOCH {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
    } else if epoch == LEAVE_STATIC_EPOCH && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < LEAVE_STATIC_EPOCH {
        return invalid("MemberEpoch is invalid.");
    }
    match request.server_assignor {
        Some(name) if !assignors.iter().any(|assignor| assignor.name() == name) => {
            let supported: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
            let supported = supported.join(", ");
            let message = format!("ServerAssignor {name} is not supported. Supported assignors: {supported}.");
            Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}

impl ConsumerGroup {
    /// A heartbeat of a member that joins or stays. [`check_request`] has passed the request.
    ///
    /// # Panics
    /// If the member leaves: see [`ConsumerGroup::leave`].
    pub fn heartbeat(
        &mut self,
        now: Now,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        caller: Caller<'_>,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> Result<HeartbeatResponse, Refusal> {
        assert!(request.member_epoch >= JOIN_EPOCH, "a member that leaves has no heartbeat");
        self.check_room(request.member_id, options)?;
        let member_id = if request.member_id.is_empty() { caller.new_member_id } else { request.member_id };
        let owned: Option<Partitions> = request.topic_partitions.as_ref().map(|owned| {
            owned.iter().map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect())).collect()
        });
        let replaced = self.check_member(request, member_id, owned.as_ref())?;
        let subscribes_to_new = |regex: &&str| !regex.is_empty() && !self.index.regex_members.contains_key(*regex);
        if let Some(regex) = request.subscribed_topic_regex.filter(subscribes_to_new) {
            super::resolve::check(regex)?;
        }
        // Nothing is refused from here on.
        let member_id: Arc<str> = member_id.into();
        if let Some(old) = replaced {
            self.replace_member(&old, &member_id, out);
        }
        let known = self.members.get(&member_id);
        let before: Assigned = known.map(|member| member.current.assigned.clone()).unwrap_or_default();
        let mut metadata = known.map(|member| member.metadata.clone()).unwrap_or_default();
        metadata.update(request, caller);
        let subscription_changed = self.subscribe(now, &member_id, metadata, topics, options, out);
        self.update_target(now, topics, options, out);
        self.reconcile(now, &member_id, subscription_changed, owned.as_ref(), topics, out);
        self.timers.start(&member_id, Wait::Session, now.ms + i64::from(options.session_timeout_ms));

        let current = &self.members[&member_id].current;
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && owned.is_some();
        let tells = request.member_epoch == JOIN_EPOCH || is_full || current.assigned != before;
        Ok(HeartbeatResponse {
            member_epoch: current.epoch,
            heartbeat_interval_ms: options.heartbeat_interval_ms,
            assignment: tells.then(|| without_epochs(&current.assigned)),
            member_id,
        })
    }

    /// A heartbeat of a member that leaves, for good or for a while.
    pub fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> Result<(HeartbeatResponse, Aftermath), Refusal> {
        let member_id: Arc<str> = match request.instance_id {
            None => {
                self.member(request.member_id)?;
                request.member_id.into()
            }
            Some(instance) => self.static_member(instance, request.member_id)?,
        };
        let response = HeartbeatResponse {
            member_id: member_id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        if request.member_epoch == LEAVE_STATIC_EPOCH {
            self.leave_for_a_while(&member_id, out);
            return Ok((response, Aftermath::Remains));
        }
        let aftermath = self.remove_members(&BTreeSet::from([member_id]), topics, options, out);
        Ok((response, aftermath))
    }

    /// Takes out the members whose time is over, as many as fit one batch: it is called again while more are due.
    pub fn on_timeout(
        &mut self,
        now: Now,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> Aftermath {
        for _ in 0..REMOVED_MEMBERS {
            let Some((member_id, wait)) = self.timers.pop_ended(now.ms) else { break };
            let Some(member) = self.members.get(&member_id) else { continue };
            // A member that has left the epoch has done what it was given time for.
            if matches!(wait, Wait::Revoke(epoch) if member.current.epoch != epoch) {
                continue;
            }
            let aftermath = self.remove_members(&BTreeSet::from([member_id]), topics, options, out);
            if aftermath != Aftermath::Remains {
                return aftermath;
            }
        }
        Aftermath::Remains
    }

    /// Takes members out of the group.
    pub(super) fn remove_members(
        &mut self,
        leaving: &BTreeSet<Arc<str>>,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> Aftermath {
        if leaving.is_empty() {
            return Aftermath::Remains;
        }
        if let Some(seed) = self.downgrade_after_leave(leaving, topics, options) {
            self.delete(out);
            return Aftermath::Downgraded(seed);
        }
        for member_id in leaving {
            self.emit(Record::Current(member_id.clone(), None), out);
            self.emit(Record::Target(member_id.clone(), None), out);
            self.emit(Record::Member(member_id.clone(), None), out);
        }
        let unused = |regex: &&String| !self.index.regex_members.contains_key(*regex);
        for regex in self.regexes.keys().filter(unused).cloned().collect::<Vec<_>>() {
            self.emit(Record::Regex(regex, None), out);
        }
        let metadata_hash = self.hash_topics(topics);
        self.emit(Record::Group(Some(GroupEpoch { epoch: self.epoch + 1, metadata_hash })), out);
        Aftermath::Remains
    }

    /// Refuses a further member of a group that is full.
    pub(super) fn check_room(&self, member_id: &str, options: &ConsumerOptions) -> Result<(), Refusal> {
        if self.members.len() < options.max_size || self.members.contains_key(member_id) {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {} members.", options.max_size);
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    /// The static member that calls itself `instance`, if it has the id `member_id`.
    pub(super) fn static_member(&self, instance: &str, member_id: &str) -> Result<Arc<str>, Refusal> {
        match self.index.static_members.get(instance) {
            None => Err(Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))),
            Some(known) if **known != *member_id => {
                let message =
                    format!("Static member {member_id} with instance id {instance} was fenced by member {known}.");
                Err(Refusal::new(ErrorCode::FencedInstanceId, message))
            }
            Some(known) => Ok(known.clone()),
        }
    }

    /// Whether the member may send this heartbeat. Returns the static member whose place it takes.
    fn check_member(
        &self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        member_id: &str,
        owned: Option<&Partitions>,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let joins = request.member_epoch == JOIN_EPOCH;
        let known = match request.instance_id {
            Some(instance) if joins => {
                let Some(old) = self.index.static_members.get(instance) else { return Ok(None) };
                let member = &self.members[old];
                if !member.is_classic() && member.current.epoch != LEAVE_STATIC_EPOCH {
                    let message = format!(
                        "Static member {member_id} with instance id {instance} cannot join the group because the \
                         instance id is owned by {old} member."
                    );
                    return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
                }
                return Ok(Some(old.clone()));
            }
            Some(instance) => &self.members[&self.static_member(instance, member_id)?],
            None if joins => match self.members.get(member_id) {
                Some(known) => known,
                None => return Ok(None),
            },
            None => self.member(member_id)?,
        };
        known.current.check_epoch(request.member_epoch, owned)?;
        Ok(None)
    }

    /// Gives a static member's place to the same one with another id.
    pub(super) fn replace_member(&mut self, old_id: &Arc<str>, new_id: &Arc<str>, out: &mut Vec<Record>) {
        let old = self.members[old_id].clone();
        let target = self.target.get(old_id).cloned().unwrap_or_default();
        self.emit(Record::Current(old_id.clone(), None), out);
        self.emit(Record::Target(old_id.clone(), None), out);
        self.emit(Record::Member(old_id.clone(), None), out);
        self.emit(Record::Member(new_id.clone(), Some(old.metadata)), out);
        self.emit(Record::Target(new_id.clone(), Some(target)), out);
        let current = Current { epoch: JOIN_EPOCH, previous_epoch: JOIN_EPOCH, ..old.current };
        self.emit(Record::Current(new_id.clone(), Some(current)), out);
    }

    fn leave_for_a_while(&mut self, member_id: &Arc<str>, out: &mut Vec<Record>) {
        let mut current = self.members[member_id].current.clone();
        current.epoch = LEAVE_STATIC_EPOCH;
        current.revoking.clear();
        for epoch in current.assigned.values_mut().flat_map(|partitions| partitions.values_mut()) {
            *epoch = 0;
        }
        self.emit(Record::Current(member_id.clone(), Some(current)), out);
    }

    /// Leads a member one step towards the target assignment.
    pub(super) fn reconcile(
        &mut self,
        now: Now,
        member_id: &Arc<str>,
        subscription_changed: bool,
        owned: Option<&Partitions>,
        topics: &Topics<'_>,
        out: &mut Vec<Record>,
    ) {
        let member = &self.members[member_id];
        if !subscription_changed && member.is_reconciled_to(self.target_epoch) {
            return;
        }
        let subscribed = self.subscribed_ids(&member.metadata, topics);
        let step = Reconciliation {
            target_epoch: self.target_epoch,
            target: self.target.get(member_id).unwrap_or(&NO_TARGET),
            subscribed: &subscribed,
            subscription_changed,
            owned,
        };
        let next = step.next(&member.current, |topic, partition| self.is_taken(topic, partition, member_id));
        if next == member.current {
            return;
        }
        if !member.is_classic() {
            let wait = Wait::Revoke(next.epoch);
            if next.state == MemberState::UnrevokedPartitions {
                let deadline_ms = now.ms + i64::from(member.metadata.rebalance_timeout_ms);
                self.timers.start(member_id, wait, deadline_ms);
            } else {
                self.timers.stop(member_id, wait);
            }
        }
        self.emit(Record::Current(member_id.clone(), Some(next)), out);
    }
}

impl Metadata {
    /// Takes in what a heartbeat says. What it leaves out stays as it was.
    fn update(&mut self, request: &ConsumerGroupHeartbeatRequest<'_>, caller: Caller<'_>) {
        let set = |field: &mut Option<String>, value: Option<&str>| {
            if let Some(value) = value {
                *field = Some(value.to_owned());
            }
        };
        set(&mut self.instance_id, request.instance_id);
        set(&mut self.rack_id, request.rack_id);
        set(&mut self.assignor, request.server_assignor);
        if request.rebalance_timeout_ms != -1 {
            self.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(names) = &request.subscribed_topic_names {
            self.topics = names.iter().map(|name| (*name).to_owned()).collect();
        }
        if let Some(regex) = request.subscribed_topic_regex {
            self.regex = regex.to_owned();
        }
        self.client_id = caller.client_id.to_owned();
        self.client_host = caller.client_host.to_owned();
        self.classic = None;
    }
}

impl Current {
    /// Refuses an epoch that the member cannot have. One behind is right for a member that has not seen the last
    /// answer, as long as it claims nothing that it is to give up.
    fn check_epoch(&self, received: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
        if self.state == MemberState::Unknown && owned.is_none_or(|owned| !owned.is_empty()) {
            let message = "The consumer group member is in a unknown state. The member must abandon all its partitions \
                           and rejoin.";
            return Err(Refusal::new(ErrorCode::FencedMemberEpoch, message));
        }
        let behind = || received == self.previous_epoch && owned.is_some_and(|owned| self.has_assigned(owned));
        let relation = match received.cmp(&self.epoch) {
            _ if received == JOIN_EPOCH => return Ok(()),
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less if behind() => return Ok(()),
            std::cmp::Ordering::Less => "smaller",
            std::cmp::Ordering::Greater => "greater",
        };
        let message = format!(
            "The consumer group member has a {relation} member epoch ({received}) than the one known by the group \
             coordinator ({}). The member must abandon all its partitions and rejoin.",
            self.epoch
        );
        Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
    }
}
