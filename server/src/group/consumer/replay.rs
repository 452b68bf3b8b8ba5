//! How records change a group: when they are written, and when the log is read again.
//!
//! Reading never fails. Compaction may have removed records that others follow, and other brokers' logs may hold what
//! no group of ours has written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::member::{Assigned, Current};
use super::timers::Wait;
use super::{ConsumerGroup, ConsumerOptions, FIRST_EPOCH, Index, Member, MemberState, Record};
use crate::group::assignor::Partitions;
use crate::state_machine::Now;

impl ConsumerGroup {
    /// Applies a record of this group.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Group(Some(group)) => {
                self.epoch = group.epoch;
                self.metadata_hash = group.metadata_hash;
            }
            Record::Group(None) => {
                self.epoch = FIRST_EPOCH;
                self.metadata_hash = 0;
            }
            Record::PartitionMetadata { present } => self.has_partition_metadata = *present,
            Record::Member(id, Some(metadata)) => {
                let current = self.members.get(id).map(|member| member.current.clone()).unwrap_or_default();
                self.set_member(id, Some(Member { metadata: metadata.clone(), current }));
            }
            Record::Member(id, None) => self.set_member(id, None),
            Record::TargetEpoch(Some(target)) => {
                self.target_epoch = target.epoch;
                self.target_timestamp_ms = target.timestamp_ms;
            }
            Record::TargetEpoch(None) => {
                self.target_epoch = FIRST_EPOCH;
                self.target_timestamp_ms = 0;
            }
            Record::Target(id, Some(partitions)) => {
                self.target.insert(id.clone(), partitions.clone());
            }
            Record::Target(id, None) => {
                self.target.remove(id);
            }
            Record::Current(id, Some(current)) => {
                let metadata = self.members.get(id).map(|member| member.metadata.clone()).unwrap_or_default();
                self.set_member(id, Some(Member { metadata, current: current.clone() }));
            }
            // The member itself goes with the record about its subscription, which follows.
            Record::Current(id, None) => {
                if let Some(member) = self.members.get(id) {
                    let current = Current { epoch: -1, previous_epoch: -1, ..Current::default() };
                    let metadata = member.metadata.clone();
                    self.set_member(id, Some(Member { metadata, current }));
                }
            }
            Record::Regex(regex, resolved) => {
                if let Some(old) = self.regexes.remove(regex) {
                    for topic in &old.topics {
                        self.index.count(topic, |count| count.by_regex = count.by_regex.saturating_sub(1));
                    }
                }
                if let Some(resolved) = resolved {
                    for topic in &resolved.topics {
                        self.index.count(topic, |count| count.by_regex += 1);
                    }
                    self.regexes.insert(regex.clone(), resolved.clone());
                }
            }
        }
    }

    /// Starts the members' time-outs when all records have been applied.
    pub fn on_loaded(&mut self, now: Now, options: &ConsumerOptions) {
        for (id, member) in &self.members {
            self.timers.start(id, Wait::Session, now.ms + i64::from(options.session_timeout_ms));
            if member.current.state == MemberState::UnrevokedPartitions {
                let deadline_ms = now.ms + i64::from(member.metadata.rebalance_timeout_ms);
                self.timers.start(id, Wait::Revoke(member.current.epoch), deadline_ms);
            }
        }
        self.regex_lookup = None;
        self.compared = None;
    }

    /// Whether the group has nothing left that a record would have to take back.
    #[cfg(test)]
    #[must_use]
    pub(super) fn is_deleted(&self) -> bool {
        self.members.is_empty() && self.target.is_empty() && self.regexes.is_empty() && self.epoch == FIRST_EPOCH
    }

    fn set_member(&mut self, id: &Arc<str>, new: Option<Member>) {
        if let Some(old) = self.members.remove(id) {
            self.index.remove(id, &old);
        }
        match new {
            Some(member) => {
                self.index.add(id, &member);
                self.members.insert(id.clone(), member);
            }
            None => self.timers.forget(id),
        }
    }

    /// Everything that records say, for tests: a group that has been read again equals the one that has written.
    #[cfg(test)]
    pub(super) fn recorded(&self) -> impl PartialEq + std::fmt::Debug + '_ {
        (
            (self.epoch, self.metadata_hash, self.target_epoch, self.target_timestamp_ms),
            (&self.members, &self.target, &self.regexes, &self.index),
        )
    }
}

impl Index {
    fn add(&mut self, id: &Arc<str>, member: &Member) {
        let metadata = &member.metadata;
        if let Some(instance) = &metadata.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        for topic in &metadata.topics {
            self.count(topic, |count| count.by_name += 1);
        }
        if !metadata.regex.is_empty() {
            increment(&mut self.regex_members, &metadata.regex);
        }
        if let Some(assignor) = &metadata.assignor {
            increment(&mut self.assignors, assignor);
        }
        if let Some(classic) = &metadata.classic {
            self.classic_members += 1;
            for (protocol, _) in &classic.protocols {
                increment(&mut self.classic_protocols, protocol);
            }
        }
        for partitions in [&member.current.assigned, &member.current.revoking] {
            self.own(id, partitions);
        }
    }

    fn remove(&mut self, id: &Arc<str>, member: &Member) {
        let metadata = &member.metadata;
        if let Some(instance) = &metadata.instance_id
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
        for topic in &metadata.topics {
            self.count(topic, |count| count.by_name = count.by_name.saturating_sub(1));
        }
        if !metadata.regex.is_empty() {
            decrement(&mut self.regex_members, &metadata.regex);
        }
        if let Some(assignor) = &metadata.assignor {
            decrement(&mut self.assignors, assignor);
        }
        if let Some(classic) = &metadata.classic {
            self.classic_members = self.classic_members.saturating_sub(1);
            for (protocol, _) in &classic.protocols {
                decrement(&mut self.classic_protocols, protocol);
            }
        }
        for partitions in [&member.current.assigned, &member.current.revoking] {
            self.disown(id, partitions);
        }
    }

    fn own(&mut self, id: &Arc<str>, partitions: &Assigned) {
        for (topic, partitions) in partitions {
            let owners = self.owners.entry(*topic).or_default();
            for partition in partitions.keys() {
                owners.insert(*partition, id.clone());
            }
        }
    }

    /// A partition that somebody else has by now stays with them.
    fn disown(&mut self, id: &Arc<str>, partitions: &Assigned) {
        for (topic, partitions) in partitions {
            let Some(owners) = self.owners.get_mut(topic) else { continue };
            for partition in partitions.keys() {
                if owners.get(partition) == Some(id) {
                    owners.remove(partition);
                }
            }
            if owners.is_empty() {
                self.owners.remove(topic);
            }
        }
    }

    fn count(&mut self, topic: &str, change: impl FnOnce(&mut super::SubscriptionCount)) {
        let mut count = self.topics.get(topic).copied().unwrap_or_default();
        change(&mut count);
        if count == super::SubscriptionCount::default() {
            self.topics.remove(topic);
        } else if let Some(known) = self.topics.get_mut(topic) {
            *known = count;
        } else {
            self.topics.insert(topic.to_owned(), count);
        }
    }
}

fn increment(counts: &mut BTreeMap<String, usize>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => {
            counts.insert(key.to_owned(), 1);
        }
    }
}

fn decrement(counts: &mut BTreeMap<String, usize>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A target that nobody has.
pub(super) static NO_TARGET: Partitions = Partitions::new();
