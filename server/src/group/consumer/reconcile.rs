//! One member's way from what it has to what it is to have: first it gives up, then it gets.
//!
//! A partition is given to a member only when nobody else has it or is still giving it up. So at any time at most one
//! member reads it.

use std::collections::BTreeSet;

use wire::Uuid;

use super::member::{Assigned, Current, MemberState};
use crate::group::assignor::Partitions;

/// What the next step of a member depends on.
pub(super) struct Reconciliation<'a> {
    /// The epoch of the target assignment.
    pub target_epoch: i32,
    /// What the member is to have.
    pub target: &'a Partitions,
    /// The topics that it subscribes to, of those that exist.
    pub subscribed: &'a BTreeSet<Uuid>,
    /// Whether its subscription has just changed.
    pub subscription_changed: bool,
    /// What it says it has; `None`: it does not say.
    pub owned: Option<&'a Partitions>,
}

impl Reconciliation<'_> {
    /// The member's next state. `is_taken` says whether another member has a partition or is still giving it up.
    pub(super) fn next(&self, current: &Current, is_taken: impl Fn(&Uuid, i32) -> bool) -> Current {
        match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => self.advance(current, current.epoch, is_taken),
            MemberState::UnrevokedPartitions if !self.still_owns(&current.revoking) => {
                self.advance(current, current.epoch, is_taken)
            }
            MemberState::Stable | MemberState::UnrevokedPartitions if self.subscription_changed => {
                self.drop_unsubscribed(current)
            }
            MemberState::Stable | MemberState::UnrevokedPartitions => current.clone(),
            MemberState::UnreleasedPartitions => self.advance(current, current.epoch, is_taken),
            // The member has come without partitions, or it was fenced before.
            MemberState::Unknown => self.advance(current, self.target_epoch, is_taken),
        }
    }

    /// Towards the target assignment as far as possible. `epoch` is the member's while it has to give up something.
    fn advance(&self, current: &Current, epoch: i32, is_taken: impl Fn(&Uuid, i32) -> bool) -> Current {
        let nothing = BTreeSet::new();
        let mut assigned = Assigned::new();
        let mut revoking = Assigned::new();
        let mut gained = Assigned::new();
        let mut waits = false;
        let topics: BTreeSet<&Uuid> = self.target.keys().chain(current.assigned.keys()).collect();
        for topic in topics {
            let subscribed = self.subscribed.contains(topic);
            let target = self.target.get(topic).filter(|_| subscribed).unwrap_or(&nothing);
            let has = current.assigned.get(topic);
            for (partition, epoch) in has.into_iter().flatten() {
                let to = if target.contains(partition) { &mut assigned } else { &mut revoking };
                to.entry(*topic).or_default().insert(*partition, *epoch);
            }
            let is_new = |partition: &&i32| !has.is_some_and(|has| has.contains_key(partition));
            for partition in target.iter().filter(is_new) {
                if is_taken(topic, *partition) {
                    waits = true;
                } else {
                    gained.entry(*topic).or_default().insert(*partition, self.target_epoch);
                }
            }
        }

        if !revoking.is_empty() && self.still_owns(&revoking) {
            // Its epoch stays: it reaches the next one when it has given up everything.
            return Current {
                epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned,
                revoking,
            };
        }
        for (topic, partitions) in gained {
            assigned.entry(topic).or_default().extend(partitions);
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable },
            assigned,
            revoking: Assigned::new(),
        }
    }

    /// Takes away at once what the member no longer subscribes to. The next target assignment does the rest.
    fn drop_unsubscribed(&self, current: &Current) -> Current {
        let mut next = current.clone();
        next.assigned.retain(|topic, _| self.subscribed.contains(topic));
        if next.assigned.len() == current.assigned.len() {
            return next;
        }
        next.previous_epoch = current.epoch;
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in current.assigned.iter().filter(|(topic, _)| !self.subscribed.contains(*topic)) {
            revoking.entry(*topic).or_default().extend(partitions);
        }
        if self.still_owns(&revoking) {
            next.state = MemberState::UnrevokedPartitions;
            next.revoking = revoking;
        }
        next
    }

    /// Whether the member has any of `revoking` left. One that does not say may have.
    fn still_owns(&self, revoking: &Assigned) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, partitions)| {
            let revoking = revoking.get(topic);
            revoking.is_some_and(|revoking| partitions.iter().any(|partition| revoking.contains_key(partition)))
        })
    }
}
