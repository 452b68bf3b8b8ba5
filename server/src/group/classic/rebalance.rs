//! The way from one generation of a classic group to the next, and what time does to it.

use wire::error::ErrorCode;

use super::{ClassicGroup, Phase, State};
use crate::group::answers::{Answer, JoinAnswer, SyncAnswer};
use crate::state_machine::{Effects, Now};

impl ClassicGroup {
    /// When [`ClassicGroup::on_deadline`] is to be called.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let look = self.looks.first().map(|(at_ms, _)| *at_ms);
        let join = match self.state {
            State::Preparing { deadline_ms, .. } => Some(deadline_ms),
            _ => None,
        };
        [look, join, self.sync_deadline_ms].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Now, effects: &mut Effects<Answer>) {
        while let Some((_, id)) = self.looks.first().filter(|(at_ms, _)| *at_ms <= now.ms).cloned() {
            self.look_at(&id, now, effects);
        }
        if let State::Preparing { deadline_ms, phase } = self.state
            && deadline_ms <= now.ms
        {
            match phase {
                Phase::Initial { delay_ms, remaining_ms, joined_meanwhile: true } if remaining_ms > 0 => {
                    let next_ms = delay_ms.min(remaining_ms);
                    let phase = Phase::Initial {
                        delay_ms,
                        remaining_ms: (remaining_ms - next_ms).max(0),
                        joined_meanwhile: false,
                    };
                    self.state = State::Preparing { deadline_ms: later(now, next_ms), phase };
                }
                _ => self.complete_join(now, effects),
            }
        }
        if self.sync_deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now.ms) {
            self.sync_deadline_ms = None;
            self.give_up_unsynced(now, effects);
        }
    }

    /// Looks whether a member has been heard of in time.
    fn look_at(&mut self, id: &str, now: Now, effects: &mut Effects<Answer>) {
        if self.pending.contains_key(id) {
            self.remove(id);
            if self.is_ready_to_complete() {
                self.complete_join(now, effects);
            }
            return;
        }
        let Some(member) = self.members.get_mut(id) else {
            self.looks.retain(|(_, of)| of != id);
            return;
        };
        if let Some(at_ms) = member.looked_at_ms.take() {
            self.looks.remove(&(at_ms, id.to_owned()));
        }
        if member.deadline_ms > now.ms {
            let deadline_ms = member.deadline_ms;
            self.expect_by(id, deadline_ms);
        } else if !member.is_waiting() {
            self.drop_member(id, effects);
            match self.state {
                State::Stable | State::Completing => self.prepare_rebalance(0, now, effects),
                _ if self.is_ready_to_complete() => self.complete_join(now, effects),
                _ => {}
            }
        }
    }

    /// Takes a member out. A JoinGroup of it that waits is told to begin anew.
    pub(super) fn drop_member(&mut self, id: &str, effects: &mut Effects<Answer>) {
        if let Some(member) = self.remove(id) {
            if let Some(ticket) = member.join {
                effects.answer(ticket, Answer::Join(JoinAnswer::refusal("", ErrorCode::UnknownMemberId)));
            }
            if let Some(ticket) = member.sync {
                effects.answer(ticket, Answer::Sync(SyncAnswer::refusal(ErrorCode::UnknownMemberId)));
            }
        }
    }

    /// Asks all members to join anew. An empty group waits `initial_delay_ms` for more of them.
    pub(super) fn prepare_rebalance(&mut self, initial_delay_ms: i32, now: Now, effects: &mut Effects<Answer>) {
        if self.state == State::Completing {
            self.refuse_syncs(ErrorCode::RebalanceInProgress, now, effects);
        }
        self.unsynced.clear();
        self.sync_deadline_ms = None;
        let timeout_ms = self.rebalance_timeout_ms();
        if self.state == State::Empty {
            let remaining_ms = (timeout_ms - initial_delay_ms).max(0);
            let phase = Phase::Initial { delay_ms: initial_delay_ms, remaining_ms, joined_meanwhile: false };
            self.enter(State::Preparing { deadline_ms: later(now, initial_delay_ms), phase }, now);
            return;
        }
        self.enter(State::Preparing { deadline_ms: later(now, timeout_ms), phase: Phase::Rejoin }, now);
        if self.have_all_joined() {
            self.complete_join(now, effects);
        }
    }

    /// Begins a rebalance, or goes on with the one that there is, after members have come, gone or changed.
    pub(super) fn rebalance(&mut self, initial_delay_ms: i32, now: Now, effects: &mut Effects<Answer>) {
        match self.state {
            State::Preparing { .. } if self.is_ready_to_complete() => self.complete_join(now, effects),
            State::Preparing { .. } => {}
            _ => self.prepare_rebalance(initial_delay_ms, now, effects),
        }
    }

    /// Whether nobody is waited for. The first rebalance of a group takes its time all the same.
    pub(super) fn is_ready_to_complete(&self) -> bool {
        matches!(self.state, State::Preparing { phase: Phase::Rejoin, .. }) && self.have_all_joined()
    }

    /// Ends the joining: begins the next generation with those who have joined.
    fn complete_join(&mut self, now: Now, effects: &mut Effects<Answer>) {
        let missing = self.in_order().filter(|member| member.join.is_none() && member.instance_id.is_none());
        let missing: Vec<String> = missing.map(|member| member.id.clone()).collect();
        for id in missing {
            self.remove(&id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left, and none of them has joined: their sessions end, or they come.
            let deadline_ms = later(now, self.rebalance_timeout_ms());
            self.state = State::Preparing { deadline_ms, phase: Phase::Rejoin };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.unsynced.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.subscribed = self.compute_subscribed();
            self.enter(State::Empty, now);
            effects.write(self.record());
            return;
        }
        self.protocol = self.select_protocol();
        self.subscribed = self.compute_subscribed();
        self.enter(State::Completing, now);
        let ids: Vec<String> = self.in_order().map(|member| member.id.clone()).collect();
        for id in ids {
            let members = if self.is_leader(&id) { self.joined_members() } else { Vec::new() };
            let answer = self.generation_for(&id, members);
            self.answer_join(&id, answer, effects);
            self.heard_of(&id, now);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.unsynced.insert(id);
        }
        self.sync_deadline_ms = Some(later(now, self.rebalance_timeout_ms()));
    }

    /// Makes sure that the leader is a member that has joined. False when there is none.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|member| member.join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let first =
            self.members.values().filter(|member| member.join.is_some()).map(|member| &member.id).min().cloned();
        if let Some(id) = first {
            self.leader = Some(id);
            return true;
        }
        false
    }

    pub(super) fn answer_join(&mut self, id: &str, answer: JoinAnswer, effects: &mut Effects<Answer>) {
        if let Some(ticket) = self.members.get_mut(id).and_then(|member| member.join.take()) {
            self.joining -= 1;
            effects.answer(ticket, Answer::Join(answer));
        }
    }

    /// Gives every member that waits its assignment.
    pub(super) fn pass_assignments_on(&mut self, now: Now, effects: &mut Effects<Answer>) {
        self.enter(State::Stable, now);
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        let mut told = Vec::new();
        for member in self.members.values_mut() {
            if let Some(ticket) = member.sync.take() {
                let assignment = member.assignment.clone();
                let (protocol_type, protocol) = (protocol_type.clone(), protocol.clone());
                let answer = SyncAnswer { error: ErrorCode::None, protocol_type, protocol, assignment };
                effects.answer(ticket, Answer::Sync(answer));
                told.push(member.id.clone());
            }
        }
        told.iter().for_each(|id| self.heard_of(id, now));
    }

    /// Tells every member that waits for its assignment that there is none.
    pub(super) fn refuse_syncs(&mut self, error: ErrorCode, now: Now, effects: &mut Effects<Answer>) {
        let mut told = Vec::new();
        for member in self.members.values_mut() {
            member.assignment = Default::default();
            if let Some(ticket) = member.sync.take() {
                effects.answer(ticket, Answer::Sync(SyncAnswer::refusal(error)));
                told.push(member.id.clone());
            }
        }
        told.iter().for_each(|id| self.heard_of(id, now));
    }

    /// Takes out the members that have not asked for their assignment in time.
    fn give_up_unsynced(&mut self, now: Now, effects: &mut Effects<Answer>) {
        if !matches!(self.state, State::Completing | State::Stable) || self.unsynced.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.drop_member(&id, effects);
        }
        self.prepare_rebalance(0, now, effects);
    }
}

/// A moment that lies in the future.
fn later(now: Now, ms: i32) -> i64 {
    now.ms + i64::from(ms.max(1))
}
