//! A classic group as the seed of one of the consumer protocol, and back.

use std::sync::Arc;

use wire::error::ErrorCode;

use super::member::Member;
use super::{CONSUMER, ClassicGroup, State};
use crate::group::answers::{Answer, JoinAnswer, SyncAnswer};
use crate::group::consumer::{ClassicSeed, ClassicSeedMember};
use crate::state_machine::{Effects, Now};

impl ClassicGroup {
    /// What a group of the consumer protocol takes over; none if the members are no consumers.
    #[must_use]
    pub fn seed(&self) -> Option<ClassicSeed> {
        let member = |member: &Member| ClassicSeedMember {
            id: member.id.as_str().into(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.iter().map(|(name, metadata)| (name.clone(), metadata.to_vec())).collect(),
            assignment: member.assignment.to_vec(),
        };
        self.has_consumers().then(|| ClassicSeed {
            generation: self.generation,
            protocol: self.protocol.clone().unwrap_or_default(),
            rebalance: false,
            members: self.in_order().map(member).collect(),
        })
    }

    /// The group ends: members that wait are told to join again.
    pub fn dissolve(&self, effects: &mut Effects<Answer>) {
        for member in self.in_order() {
            if let Some(ticket) = member.join {
                let answer = JoinAnswer::refusal(&member.id, ErrorCode::RebalanceInProgress);
                effects.answer(ticket, Answer::Join(answer));
            }
            if let Some(ticket) = member.sync {
                effects.answer(ticket, Answer::Sync(SyncAnswer::refusal(ErrorCode::RebalanceInProgress)));
            }
        }
    }

    /// The group that takes over from one of the consumer protocol.
    #[must_use]
    pub fn from_seed(id: Arc<str>, seed: ClassicSeed, now: Now, effects: &mut Effects<Answer>) -> ClassicGroup {
        let mut group = ClassicGroup::new(id, now.unix_ms);
        group.generation = seed.generation;
        group.protocol_type = Some(CONSUMER.to_owned());
        group.protocol = Some(seed.protocol);
        group.state = State::Stable;
        let mut sessions = Vec::with_capacity(seed.members.len());
        for member in seed.members {
            sessions.push((member.id.to_string(), member.session_timeout_ms));
            group.insert(Member {
                id: member.id.to_string(),
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.into_iter().map(|(name, metadata)| (name, metadata.into())).collect(),
                assignment: member.assignment.into(),
                is_new: false,
                join: None,
                sync: None,
                deadline_ms: 0,
                looked_at_ms: None,
            });
        }
        group.subscribed = group.compute_subscribed();
        for (member, timeout_ms) in sessions {
            group.expect_by(&member, now.ms + i64::from(timeout_ms));
        }
        effects.write(group.record());
        if seed.rebalance {
            group.prepare_rebalance(0, now, effects);
        }
        group
    }
}
