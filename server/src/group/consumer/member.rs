//! A member of a consumer group: what it says of itself, and what it has.

use std::collections::{BTreeMap, BTreeSet};

use wire::Uuid;

use crate::group::assignor::Partitions;

/// Partitions by topic id, each with the member's epoch in which it was assigned.
pub type Assigned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// The epoch with which a member joins.
pub const JOIN_EPOCH: i32 = 0;

/// The epoch with which a member leaves.
pub const LEAVE_EPOCH: i32 = -1;

/// The epoch with which a static member leaves for a while: its partitions wait for its return.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// What it says of itself.
    pub metadata: Metadata,
    /// What it has.
    pub current: Current,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What a static member calls itself.
    pub instance_id: Option<String>,
    /// Its rack.
    pub rack_id: Option<String>,
    /// The id of its client.
    pub client_id: String,
    /// The address of its client, as Kafka writes it: `/127.0.0.1`.
    pub client_host: String,
    /// The names of the topics that it subscribes to.
    pub topics: BTreeSet<String>,
    /// The regular expression for further names. Empty: none.
    pub regex: String,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wants.
    pub assignor: Option<String>,
    /// What only a member has that uses the classic protocol.
    pub classic: Option<ClassicMember>,
}

/// A member that uses the classic protocol in a group of the consumer protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMember {
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// The assignors that it knows, with its subscription in the form of each.
    pub protocols: Vec<(String, Vec<u8>)>,
}

/// What a member has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its epoch: that of the target assignment that it has reached.
    pub epoch: i32,
    /// The epoch before. A member that has not seen the answer to a heartbeat still uses it.
    pub previous_epoch: i32,
    /// How far it is with its assignment.
    pub state: MemberState,
    /// What it may read.
    pub assigned: Assigned,
    /// What it was told to give up and has not given up yet.
    pub revoking: Assigned,
}

/// How far a member is with its assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have.
    Stable,
    /// It has to give up partitions first.
    UnrevokedPartitions,
    /// It waits for partitions that others still have.
    UnreleasedPartitions,
    /// A state that a newer program has written.
    Unknown,
}

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata {
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: BTreeSet::new(),
            regex: String::new(),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
}

impl Default for Current {
    fn default() -> Current {
        Current {
            epoch: JOIN_EPOCH,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Assigned::new(),
            revoking: Assigned::new(),
        }
    }
}

impl Member {
    /// Whether it uses the classic protocol.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }

    /// Whether it has all that the target assignment of an epoch gives it, and nothing more.
    #[must_use]
    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == target_epoch
    }
}

impl Current {
    /// The epoch in which a partition was assigned that the member has or is giving up.
    #[must_use]
    pub fn assignment_epoch(&self, topic: &Uuid, partition: i32) -> Option<i32> {
        let of = |assigned: &Assigned| assigned.get(topic)?.get(&partition).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// Whether the member has all of `owned`, and not just for the time until it has given them up.
    #[must_use]
    pub fn has_assigned(&self, owned: &Partitions) -> bool {
        owned.iter().all(|(topic, partitions)| {
            let assigned = self.assigned.get(topic);
            assigned.is_some_and(|assigned| partitions.iter().all(|partition| assigned.contains_key(partition)))
        })
    }
}

impl MemberState {
    /// Its number in records.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => i8::MAX,
        }
    }

    /// The state of a number.
    #[must_use]
    pub fn of_code(code: i8) -> MemberState {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }
}

/// The numbers of partitions without their epochs.
pub(super) fn without_epochs(assigned: &Assigned) -> Partitions {
    assigned.iter().map(|(topic, epochs)| (*topic, epochs.keys().copied().collect())).collect()
}

/// The same partitions, all assigned in one epoch.
pub(super) fn with_epoch(partitions: &Partitions, epoch: i32) -> Assigned {
    let of_topic = |partitions: &BTreeSet<i32>| partitions.iter().map(|partition| (*partition, epoch)).collect();
    partitions.iter().map(|(topic, partitions)| (*topic, of_topic(partitions))).collect()
}
