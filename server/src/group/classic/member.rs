//! A member of a classic group.

use std::sync::Arc;

use crate::group::answers::{DescribedMember, JoinedMember};
use crate::state_machine::Ticket;

/// A member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// The protocols that it can, the preferred one first, with what it says for each.
    pub(super) protocols: Vec<(String, Arc<[u8]>)>,
    pub(super) assignment: Arc<[u8]>,
    /// It has not been told its id yet, so it cannot send heartbeats.
    pub(super) is_new: bool,
    /// The JoinGroup that waits for the others.
    pub(super) join: Option<Ticket>,
    /// The SyncGroup that waits for the leader.
    pub(super) sync: Option<Ticket>,
    /// When its session ends, unless it is heard of.
    pub(super) deadline_ms: i64,
    /// When it is looked at next. Earlier than the deadline where heartbeats have moved that: they are many, so they do
    /// not move the entry among the deadlines.
    pub(super) looked_at_ms: Option<i64>,
}

impl Member {
    /// Whether it needs no heartbeat: it waits for an answer, which it can only do while it lives.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    /// What it says for a protocol.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Arc<[u8]> {
        let found = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// The one it likes best among protocols that all can.
    pub(super) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        self.protocols.iter().map(|(name, _)| name.as_str()).find(|name| is_candidate(name))
    }

    pub(super) fn joined(&self, protocol: Option<&str>) -> JoinedMember {
        JoinedMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub(super) fn described(&self, metadata: Arc<[u8]>) -> DescribedMember {
        DescribedMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata,
            assignment: self.assignment.clone(),
        }
    }
}
