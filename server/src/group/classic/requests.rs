//! What members ask of a classic group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::error::ErrorCode;
use wire::messages::join_group_request::JoinGroupRequestProtocol;
use wire::messages::leave_group_request::MemberIdentity;
use wire::messages::{HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

use super::member::Member;
use super::{ClassicGroup, Phase, State};
use crate::config::coordinators::GroupOptions;
use crate::group::Caller;
use crate::group::answers::{Answer, JoinAnswer, SyncAnswer};
use crate::limits::{COORDINATOR_BATCH_BYTES, PENDING_MEMBERS};
use crate::state_machine::{Effects, Now, Ticket};

/// The first version of JoinGroup in which a member joins with an id that it was given (KIP-394).
const ID_REQUIRED_FROM: i16 = 4;
/// The first version of JoinGroup whose leader can be told to keep the assignment (KIP-814).
const SKIPS_ASSIGNMENT_FROM: i16 = 9;
/// How long a member that does not know its id yet is kept, in milliseconds: it cannot send heartbeats
/// (`NEW_MEMBER_JOIN_TIMEOUT_MS` in Kafka).
const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// A JoinGroup as the group works on it.
struct Joining<'a> {
    ticket: Ticket,
    request: &'a JoinGroupRequest<'a>,
    caller: &'a Caller<'a>,
    options: &'a GroupOptions,
    now: Now,
}

impl ClassicGroup {
    /// A member joins, for the first time or again.
    pub fn join(
        &mut self,
        request: &JoinGroupRequest<'_>,
        caller: &Caller<'_>,
        options: &GroupOptions,
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        let joining = Joining { ticket, request, caller, options, now };
        let id = request.member_id;
        let refused = if !self.accepts(id, options.max_size) {
            self.remove(id);
            Some(JoinAnswer::refusal("", ErrorCode::GroupMaxSizeReached))
        } else if !self.supports(request.protocol_type, &request.protocols) {
            Some(JoinAnswer::refusal(id, ErrorCode::InconsistentGroupProtocol))
        } else if id.is_empty() {
            self.join_unknown(&joining, effects)
        } else {
            self.join_known(&joining, effects)
        };
        if let Some(answer) = refused {
            effects.answer(ticket, Answer::Join(answer));
        }
    }

    /// A member asks for its assignment; the leader brings everybody's.
    pub fn sync(
        &mut self,
        request: &SyncGroupRequest<'_>,
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        if let Err(error) = self.check_sync(request) {
            return effects.answer(ticket, Answer::Sync(SyncAnswer::refusal(error)));
        }
        let id = request.member_id;
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_deadline_ms = None;
        }
        let Some(member) = self.members.get_mut(id) else { return };
        if self.state == State::Stable {
            let answer = SyncAnswer {
                error: ErrorCode::None,
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment.clone(),
            };
            return effects.answer(ticket, Answer::Sync(answer));
        }
        // A member that asks twice is answered twice: what it sent first may have been lost on its way.
        if let Some(earlier) = member.sync.replace(ticket) {
            effects.answer(earlier, Answer::Sync(SyncAnswer::refusal(ErrorCode::RebalanceInProgress)));
        }
        if !self.is_leader(id) {
            return;
        }
        let given: BTreeMap<&str, &[u8]> = request.assignments.iter().map(|it| (it.member_id, it.assignment)).collect();
        for member in self.members.values_mut() {
            member.assignment = given.get(member.id.as_str()).copied().unwrap_or_default().into();
        }
        let record = self.record();
        if record.bytes_bound() > COORDINATOR_BATCH_BYTES {
            self.refuse_syncs(ErrorCode::UnknownServerError, now, effects);
            return self.prepare_rebalance(0, now, effects);
        }
        effects.write(record);
        self.pass_assignments_on(now, effects);
    }

    /// A member lives.
    pub fn heartbeat(&mut self, request: &HeartbeatRequest<'_>, now: Now) -> ErrorCode {
        if let Err(error) = self.check_member(request.member_id, request.group_instance_id) {
            return error;
        }
        if request.generation_id != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.heard_of(request.member_id, now);
        match self.state {
            State::Empty => ErrorCode::UnknownMemberId,
            State::Preparing { .. } => ErrorCode::RebalanceInProgress,
            State::Completing | State::Stable => ErrorCode::None,
        }
    }

    /// Members leave; one is named by its id or, by an administrator, by its instance id.
    pub fn leave(&mut self, leaving: &[MemberIdentity<'_>], now: Now, effects: &mut Effects<Answer>) -> Vec<ErrorCode> {
        let mut outcomes = Vec::with_capacity(leaving.len());
        for it in leaving {
            let found = match it.member_id {
                "" => it
                    .group_instance_id
                    .and_then(|instance| self.instances.get(instance).cloned())
                    .ok_or(ErrorCode::UnknownMemberId),
                id if self.pending.contains_key(id) => Ok(id.to_owned()),
                id => self.check_member(id, it.group_instance_id).map(|()| id.to_owned()),
            };
            outcomes.push(match found {
                Ok(id) => {
                    self.drop_member(&id, effects);
                    ErrorCode::None
                }
                Err(error) => error,
            });
        }
        if outcomes.contains(&ErrorCode::None) && !self.is_empty() {
            self.rebalance(0, now, effects);
        }
        outcomes
    }

    /// Whether a member may commit offsets, or somebody who is none.
    pub fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        is_transactional: bool,
        now: Now,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !is_transactional && !self.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if is_transactional {
            return Ok(());
        }
        match self.state {
            State::Completing => Err(ErrorCode::RebalanceInProgress),
            State::Stable | State::Preparing { .. } => {
                self.heard_of(member_id, now);
                Ok(())
            }
            State::Empty => Ok(()),
        }
    }

    /// Whether there is room for a member. In a rebalance those count that have joined: so the last ones stay out if the
    /// group has become too large.
    fn accepts(&self, id: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::Preparing { .. } => {
                self.members.get(id).is_some_and(|member| member.join.is_some()) || self.joining < max_size
            }
            State::Completing | State::Stable => self.members.contains_key(id) || self.members.len() < max_size,
        }
    }

    fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol<'_>]) -> bool {
        match self.state {
            State::Empty => !protocol_type.is_empty() && !protocols.is_empty(),
            _ => {
                self.protocol_type.as_deref() == Some(protocol_type)
                    && protocols.iter().any(|it| self.members.is_empty() || self.is_common(it.name))
            }
        }
    }

    /// A member without an id: a new one, or a static one that has started again.
    fn join_unknown(&mut self, joining: &Joining<'_>, effects: &mut Effects<Answer>) -> Option<JoinAnswer> {
        let Joining { request, caller, now, .. } = *joining;
        let first_part = request.group_instance_id.unwrap_or(caller.client_id);
        let id = format!("{first_part}-{}", caller.new_member);
        if i16::try_from(id.len()).is_err() {
            // It would not fit the records.
            return Some(JoinAnswer::refusal("", ErrorCode::UnknownServerError));
        }
        if let Some(instance) = request.group_instance_id {
            return match self.instances.get(instance).cloned() {
                Some(old) => self.replace_static(joining, instance, &old, &id, effects),
                None => self.add_member(joining, id, effects),
            };
        }
        if caller.version < ID_REQUIRED_FROM {
            return self.add_member(joining, id, effects);
        }
        if self.pending.len() >= PENDING_MEMBERS {
            return Some(JoinAnswer::refusal("", ErrorCode::GroupMaxSizeReached));
        }
        let deadline_ms = now.ms + i64::from(request.session_timeout_ms);
        self.pending.insert(id.clone(), deadline_ms);
        self.looks.insert((deadline_ms, id.clone()));
        Some(JoinAnswer::refusal(&id, ErrorCode::MemberIdRequired))
    }

    /// A member with an id.
    fn join_known(&mut self, joining: &Joining<'_>, effects: &mut Effects<Answer>) -> Option<JoinAnswer> {
        let Joining { request, options, now, .. } = *joining;
        let id = request.member_id;
        if let Some(deadline_ms) = self.pending.get(id) {
            if request.group_instance_id.is_some() {
                // Only members without a name are asked to come again.
                return Some(JoinAnswer::refusal(id, ErrorCode::UnknownServerError));
            }
            self.looks.remove(&(*deadline_ms, id.to_owned()));
            self.pending.remove(id);
            return self.add_member(joining, id.to_owned(), effects);
        }
        if let Err(error) = self.check_member(id, request.group_instance_id) {
            return Some(JoinAnswer::refusal(id, error));
        }
        let same = self.members.get(id).is_some_and(|member| is_same(&member.protocols, &request.protocols));
        match self.state {
            // Its answer may have been lost on the way.
            State::Completing if same => {
                let members = if self.is_leader(id) { self.joined_members() } else { Vec::new() };
                Some(self.generation_for(id, members))
            }
            // The leader may know of changes that its metadata do not show.
            State::Stable if same && !self.is_leader(id) => Some(self.generation_for(id, Vec::new())),
            State::Empty => Some(JoinAnswer::refusal(id, ErrorCode::UnknownMemberId)),
            State::Preparing { .. } | State::Completing | State::Stable => {
                self.update_member(id, joining, effects);
                self.rebalance(options.initial_delay_ms, now, effects);
                None
            }
        }
    }

    fn add_member(&mut self, joining: &Joining<'_>, id: String, effects: &mut Effects<Answer>) -> Option<JoinAnswer> {
        let Joining { ticket, request, caller, options, now } = *joining;
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.to_owned());
        }
        if let State::Preparing { phase: Phase::Initial { joined_meanwhile, .. }, .. } = &mut self.state {
            *joined_meanwhile = true;
        }
        self.insert(Member {
            id: id.clone(),
            instance_id: request.group_instance_id.map(str::to_owned),
            client_id: caller.client_id.to_owned(),
            client_host: caller.client_host.to_owned(),
            rebalance_timeout_ms: rebalance_timeout_ms(request, caller.version),
            session_timeout_ms: request.session_timeout_ms,
            protocols: owned(&request.protocols),
            assignment: Arc::default(),
            is_new: true,
            join: Some(ticket),
            sync: None,
            deadline_ms: 0,
            looked_at_ms: None,
        });
        self.expect_by(&id, now.ms + NEW_MEMBER_TIMEOUT_MS);
        self.rebalance(options.initial_delay_ms, now, effects);
        None
    }

    /// Takes what a member says now, and has its request wait.
    fn update_member(&mut self, id: &str, joining: &Joining<'_>, effects: &mut Effects<Answer>) {
        let Joining { ticket, request, caller, .. } = *joining;
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.protocols, owned(&request.protocols));
        let after = member.protocols.clone();
        member.rebalance_timeout_ms = rebalance_timeout_ms(request, caller.version);
        member.session_timeout_ms = request.session_timeout_ms;
        match member.join.replace(ticket) {
            Some(earlier) => {
                let answer = JoinAnswer::refusal(id, ErrorCode::RebalanceInProgress);
                effects.answer(earlier, Answer::Join(answer));
            }
            None => self.joining += 1,
        }
        self.count_protocols(&before, false);
        self.count_protocols(&after, true);
    }

    /// A static member has started again: it takes the place of its former self, which is fenced. If nothing that the
    /// group has agreed on changes, there is no rebalance.
    fn replace_static(
        &mut self,
        joining: &Joining<'_>,
        instance: &str,
        old: &str,
        new: &str,
        effects: &mut Effects<Answer>,
    ) -> Option<JoinAnswer> {
        let Joining { ticket, options, caller, now, .. } = *joining;
        let leader_before = self.leader.clone().unwrap_or_default();
        let was_unsynced = self.unsynced.contains(old);
        let mut member = self.members.get(old)?.clone();
        self.answer_join(old, JoinAnswer::refusal(old, ErrorCode::FencedInstanceId), effects);
        if let Some(ticket) = member.sync.take() {
            effects.answer(ticket, Answer::Sync(SyncAnswer::refusal(ErrorCode::FencedInstanceId)));
        }
        self.remove(old);
        (member.id, member.join, member.looked_at_ms) = (new.to_owned(), None, None);
        self.insert(member);
        self.instances.insert(instance.to_owned(), new.to_owned());
        if leader_before == old {
            self.leader = Some(new.to_owned());
        }
        if was_unsynced {
            self.unsynced.insert(new.to_owned());
        }
        self.update_member(new, joining, effects);
        self.heard_of(new, now);
        match self.state {
            State::Stable if self.protocol == self.select_protocol() => {
                let record = self.record();
                if record.bytes_bound() > COORDINATOR_BATCH_BYTES {
                    self.prepare_rebalance(options.initial_delay_ms, now, effects);
                    return None;
                }
                effects.write(record);
                let is_leader = self.is_leader(new);
                let mut answer = self.generation_for(new, Vec::new());
                if caller.version < SKIPS_ASSIGNMENT_FROM {
                    // It must not believe that it leads: it would assign anew, and nobody waits for that.
                    answer.leader = leader_before;
                } else if is_leader {
                    (answer.skip_assignment, answer.members) = (true, self.joined_members());
                }
                self.joining -= 1;
                if let Some(member) = self.members.get_mut(new) {
                    member.join = None;
                }
                effects.answer(ticket, Answer::Join(answer));
            }
            // The leader may be assigning to the former self.
            State::Completing => self.prepare_rebalance(options.initial_delay_ms, now, effects),
            _ => self.rebalance(options.initial_delay_ms, now, effects),
        }
        None
    }

    fn check_sync(&self, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        self.check_member(request.member_id, request.group_instance_id)?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |asked: Option<&str>, own: &Option<String>| asked.is_some_and(|it| Some(it) != own.as_deref());
        if differs(request.protocol_type, &self.protocol_type) || differs(request.protocol_name, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::Preparing { .. } => Err(ErrorCode::RebalanceInProgress),
            State::Completing | State::Stable => Ok(()),
        }
    }

    /// Whether there is such a member, and whether it is the newest of its name.
    fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }
}

/// Version 0 has one time-out for everything.
fn rebalance_timeout_ms(request: &JoinGroupRequest<'_>, version: i16) -> i32 {
    if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms }
}

/// The protocols of a request; of one that is repeated the first counts.
fn owned(protocols: &[JoinGroupRequestProtocol<'_>]) -> Vec<(String, Arc<[u8]>)> {
    let mut names = BTreeSet::new();
    let first = protocols.iter().filter(|it| names.insert(it.name));
    first.map(|it| (it.name.to_owned(), it.metadata.into())).collect()
}

fn is_same(known: &[(String, Arc<[u8]>)], asked: &[JoinGroupRequestProtocol<'_>]) -> bool {
    let known = known.iter().map(|(name, metadata)| (name.as_str(), &**metadata));
    known.eq(asked.iter().map(|it| (it.name, it.metadata)))
}
