//! Requests that meet a group of the consumer protocol, or make one.

use std::sync::Arc;

use wire::error::ErrorCode;
use wire::messages::leave_group_request::MemberIdentity;
use wire::messages::{ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

use super::answers::{Answer, JoinAnswer, SyncAnswer};
use super::assignor::Assignor;
use super::classic::ClassicGroup;
use super::consumer::{
    self, Aftermath, ClassicJoin, ClassicJoined, ConsumerDescription, ConsumerGroup, ConsumerOptions,
    HeartbeatResponse, JOIN_EPOCH, MigrationPolicy, Record, Refusal,
};
use super::topics::Topics;
use super::{Caller, Group, Groups, records};
use crate::image::Image;
use crate::state_machine::{Effects, LogRecord, Now, Ticket};

/// The first version of JoinGroup in which a member joins with an id that it was given (KIP-394).
const ID_REQUIRED_FROM: i16 = 4;

impl Groups {
    /// Answers ConsumerGroupHeartbeat.
    pub fn consumer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        caller: &Caller<'_>,
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        let outcome = self.try_consumer_heartbeat(request, caller, now, effects);
        effects.answer(ticket, Answer::ConsumerHeartbeat(outcome));
        self.note_deadline(request.group_id);
    }

    /// Answers ConsumerGroupDescribe for one group.
    pub fn describe_consumer(&self, group_id: &str, ticket: Ticket, effects: &mut Effects<Answer>) {
        let outcome = match (self.groups.get(group_id), &self.image) {
            (Some(Group::Consumer(group)), Some(image)) => {
                Ok(group.describe(&Topics::new(image), &options(image, group_id, self.options.max_size)))
            }
            (Some(_), _) => Err(format!("Group {group_id} is not a consumer group.")),
            (None, _) => Err(format!("Group {group_id} not found.")),
        };
        let outcome: Result<ConsumerDescription, Refusal> =
            outcome.map_err(|message| Refusal::new(ErrorCode::GroupIdNotFound, message));
        effects.answer(ticket, Answer::DescribeConsumer(outcome));
    }

    fn try_consumer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        caller: &Caller<'_>,
        now: Now,
        effects: &mut Effects<Answer>,
    ) -> Result<HeartbeatResponse, Refusal> {
        let (id, joins) = (request.group_id, request.member_epoch == JOIN_EPOCH);
        let not_found = |message: String| Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        // Requests are worked on once the log has been read, with the metadata of then.
        let Some(image) = self.image.clone() else { return not_found(format!("Group {id} not found.")) };
        let options = options(&image, id, self.options.max_size);
        consumer::check_request(request, caller.version, &options.assignors)?;
        let topics = Topics::new(&image);
        let caller = who(caller);
        let mut out = Vec::new();
        match self.groups.get_mut(id) {
            Some(Group::Consumer(group)) if request.member_epoch < JOIN_EPOCH => {
                let (response, aftermath) = group.leave(request, &topics, &options, &mut out)?;
                write(id, out, effects);
                self.settle_aftermath(id, aftermath, now, effects);
                return Ok(response);
            }
            Some(Group::Consumer(group)) => {
                let response = group.heartbeat(now, request, caller, &topics, &options, &mut out)?;
                write(id, out, effects);
                return Ok(response);
            }
            None if !joins => return not_found(format!("Consumer group {id} not found.")),
            Some(Group::Classic(_)) if !joins => return not_found(format!("Group {id} is not a consumer group.")),
            None | Some(Group::Classic(_)) => {}
        }
        // The group becomes one of the consumer protocol, unless its first member is refused.
        let classic = match self.groups.get(id) {
            Some(Group::Classic(group)) => Some(group),
            _ => None,
        };
        let mut group = match classic.filter(|group| !group.is_empty()).map(ClassicGroup::seed) {
            None => ConsumerGroup::new(id),
            Some(Some(seed)) => ConsumerGroup::from_classic(id, &seed, now, &topics, &options, &mut out)?,
            Some(None) => {
                return not_found(format!(
                    "Cannot upgrade classic group {id} to consumer group because the group does not use the consumer \
                     embedded protocol."
                ));
            }
        };
        let response = group.heartbeat(now, request, caller, &topics, &options, &mut out)?;
        if let Some(classic) = classic {
            classic.dissolve(effects);
            effects.write(records::no_group(id));
        }
        write(id, out, effects);
        self.remove_group(id);
        self.groups.insert(id.into(), Group::Consumer(group));
        Ok(response)
    }

    /// A member of the classic protocol joins a group of the consumer protocol. Returns false if there is none with
    /// members: one without gives way to a classic group.
    pub(super) fn join_consumer(
        &mut self,
        request: &JoinGroupRequest<'_>,
        caller: &Caller<'_>,
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) -> bool {
        let id = request.group_id;
        let Some(Group::Consumer(group)) = self.groups.get_mut(id) else { return false };
        if group.members().is_empty() {
            let mut out = Vec::new();
            group.delete(&mut out);
            write(id, out, effects);
            self.remove_group(id);
            return false;
        }
        let Some(image) = self.image.clone() else { return false };
        let options = options(&image, id, self.options.max_size);
        let protocols: Vec<(&str, &[u8])> = request.protocols.iter().map(|it| (it.name, it.metadata)).collect();
        let join = ClassicJoin {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            session_timeout_ms: request.session_timeout_ms,
            // Before version 1 the session's time stands for both.
            rebalance_timeout_ms: match request.rebalance_timeout_ms {
                -1 => request.session_timeout_ms,
                timeout_ms => timeout_ms,
            },
            protocol_type: request.protocol_type,
            protocols: &protocols,
            needs_known_id: caller.version >= ID_REQUIRED_FROM,
        };
        let mut out = Vec::new();
        let joined = group.join_classic(now, &join, who(caller), &Topics::new(&image), &options, &mut out);
        write(id, out, effects);
        let answer = match joined {
            // The member that asked is not named: what refuses it in Kafka knows the error only.
            Err(refusal) => JoinAnswer::refusal("", refusal.code),
            Ok(ClassicJoined::MemberIdRequired(member_id)) => {
                JoinAnswer::refusal(&member_id, ErrorCode::MemberIdRequired)
            }
            Ok(ClassicJoined::Member { member_id, generation, protocol, aftermath }) => {
                self.settle_aftermath(id, aftermath, now, effects);
                JoinAnswer {
                    error: ErrorCode::None,
                    generation,
                    protocol_type: Some(request.protocol_type.to_owned()),
                    protocol: Some(protocol),
                    leader: String::new(),
                    skip_assignment: false,
                    member_id: member_id.to_string(),
                    members: Vec::new(),
                }
            }
        };
        effects.answer(ticket, Answer::Join(answer));
        true
    }

    /// What becomes of a group that members were taken out of.
    fn settle_aftermath(&mut self, group_id: &str, aftermath: Aftermath, now: Now, effects: &mut Effects<Answer>) {
        if let Aftermath::Downgraded(seed) = aftermath {
            let id: Arc<str> = group_id.into();
            let group = ClassicGroup::from_seed(id.clone(), seed, now, effects);
            self.remove_group(group_id);
            self.groups.insert(id, Group::Classic(group));
        }
    }

    /// Members of either protocol leave a group of the consumer protocol.
    pub(super) fn leave_consumer(
        &mut self,
        group_id: &str,
        leaving: &[MemberIdentity<'_>],
        now: Now,
        effects: &mut Effects<Answer>,
    ) -> Vec<ErrorCode> {
        let leaving: Vec<(&str, Option<&str>)> =
            leaving.iter().map(|member| (member.member_id, member.group_instance_id)).collect();
        let (Some(Group::Consumer(group)), Some(image)) = (self.groups.get_mut(group_id), &self.image) else {
            return vec![ErrorCode::UnknownMemberId; leaving.len()];
        };
        let options = options(image, group_id, self.options.max_size);
        let mut out = Vec::new();
        let (outcomes, aftermath) = group.leave_classic(&leaving, &Topics::new(image), &options, &mut out);
        write(group_id, out, effects);
        self.settle_aftermath(group_id, aftermath, now, effects);
        outcomes.into_iter().map(|outcome| outcome.map_or_else(|refusal| refusal.code, |()| ErrorCode::None)).collect()
    }

    /// Does what is due in a group of the consumer protocol.
    pub(super) fn on_consumer_deadline(&mut self, group_id: &str, now: Now, effects: &mut Effects<Answer>) {
        let (Some(Group::Consumer(group)), Some(image)) = (self.groups.get_mut(group_id), &self.image) else { return };
        let options = options(image, group_id, self.options.max_size);
        let mut out = Vec::new();
        let aftermath = group.on_timeout(now, &Topics::new(image), &options, &mut out);
        write(group_id, out, effects);
        self.settle_aftermath(group_id, aftermath, now, effects);
    }

    /// Takes in a record of a group of the consumer protocol. Records that take something back from a group that there
    /// is not say nothing.
    pub(super) fn replay_consumer(&mut self, group_id: &str, record: &Record) {
        if matches!(record, Record::Group(None)) {
            if matches!(self.groups.get(group_id), Some(Group::Consumer(_))) {
                self.remove_group(group_id);
            }
            return;
        }
        if !matches!(self.groups.get(group_id), Some(Group::Consumer(_))) {
            if record.takes_back() {
                return;
            }
            self.groups.insert(group_id.into(), Group::Consumer(ConsumerGroup::new(group_id)));
        }
        if let Some(Group::Consumer(group)) = self.groups.get_mut(group_id) {
            group.apply(record);
        }
    }
}

/// What is decided about a group of the consumer protocol.
pub(super) fn options(image: &Image, group_id: &str, classic_max_size: usize) -> ConsumerOptions {
    let set = image.consumer_group_options(group_id);
    ConsumerOptions {
        session_timeout_ms: set.session_timeout.ms,
        heartbeat_interval_ms: set.heartbeat_interval.ms,
        assignment_interval_ms: set.assignment_interval.ms,
        regex_refresh_interval_ms: set.regex_refresh_interval_ms,
        max_size: set.max_size,
        assignors: set.assignors.iter().filter_map(|name| Assignor::of_name(name)).collect(),
        migration: MigrationPolicy { upgrade: set.upgrade, downgrade: set.downgrade },
        classic_max_size,
    }
}

/// SyncGroup of a member of the classic protocol.
pub(super) fn sync(group: &mut ConsumerGroup, request: &SyncGroupRequest<'_>, now: Now, image: &Image) -> SyncAnswer {
    match group.sync_classic(now, request, &Topics::new(image)) {
        Err(refusal) => SyncAnswer::refusal(refusal.code),
        Ok(assignment) => SyncAnswer {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.map(str::to_owned),
            protocol: request.protocol_name.map(str::to_owned),
            assignment: assignment.into(),
        },
    }
}

/// Heartbeat of a member of the classic protocol.
pub(super) fn heartbeat(group: &mut ConsumerGroup, request: &HeartbeatRequest<'_>, now: Now) -> ErrorCode {
    let (member_id, instance_id) = (request.member_id, request.group_instance_id);
    match group.heartbeat_classic(now, member_id, instance_id, request.generation_id) {
        Err(refusal) => refusal.code,
        Ok(true) => ErrorCode::RebalanceInProgress,
        Ok(false) => ErrorCode::None,
    }
}

/// The records that end a group.
pub(super) fn end(group: &mut ConsumerGroup) -> Vec<LogRecord> {
    let mut out = Vec::new();
    group.delete(&mut out);
    let id: Arc<str> = group.id().into();
    out.iter().map(|record| logged(&id, record)).collect()
}

fn who<'a>(caller: &Caller<'a>) -> consumer::Caller<'a> {
    consumer::Caller { client_id: caller.client_id, client_host: caller.client_host, new_member_id: caller.new_member }
}

fn write(group_id: &str, out: Vec<Record>, effects: &mut Effects<Answer>) {
    for record in out {
        effects.write(logged(group_id, &record));
    }
}

fn logged(group_id: &str, record: &Record) -> LogRecord {
    // Texts that came in a request are as long as a record's may be.
    let (key, value) = record.encode(group_id).expect("a record has one form");
    LogRecord { key, value }
}
