//! What members subscribe to, and the target assignment that follows from it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::{ConsumerGroup, ConsumerOptions, GroupEpoch, Member, Metadata, Record, TargetEpoch};
use crate::group::assignor::{Assignor, GroupSpec, MemberSpec};
use crate::group::topics::{Topics, combine_hashes};
use crate::state_machine::Now;

impl ConsumerGroup {
    /// Sets what a member says of itself, and raises the group's epoch if an assignment would come out differently for
    /// it or for what has become of the topics. Returns whether the member's subscription has changed.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        member_id: &Arc<str>,
        metadata: Metadata,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> bool {
        let known = self.members.get(member_id).map(|member| &member.metadata);
        let names_changed = known.map_or(!metadata.topics.is_empty(), |known| known.topics != metadata.topics);
        let old_regex = known.map(|known| known.regex.clone()).unwrap_or_default();
        let regex_changed = old_regex != metadata.regex;
        if known != Some(&metadata) {
            self.emit(Record::Member(member_id.clone(), Some(metadata)), out);
        }
        let resolution_changed = self.resolve_regexes(now, topics, options, out);
        let changed = names_changed || regex_changed || resolution_changed;
        if changed || self.compared != Some(topics.version()) {
            self.compared = Some(topics.version());
            let metadata_hash = self.hash_topics(topics);
            if changed || metadata_hash != self.metadata_hash {
                self.emit(Record::Group(Some(GroupEpoch { epoch: self.epoch + 1, metadata_hash })), out);
            }
            if self.has_partition_metadata {
                self.emit(Record::PartitionMetadata { present: false }, out);
            }
        }
        names_changed || regex_changed
    }

    /// Makes the target assignment of the group's epoch, unless there is one or the last one is too recent.
    pub(super) fn update_target(
        &mut self,
        now: Now,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) {
        let interval_ms = i64::from(options.assignment_interval_ms);
        let too_recent = self.target_timestamp_ms != 0
            && interval_ms != 0
            && now.unix_ms < self.target_timestamp_ms.saturating_add(interval_ms);
        if self.target_epoch >= self.epoch || too_recent {
            return;
        }
        let default = options.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let assignor = self.preferred_assignor().unwrap_or(default);
        for (member_id, partitions) in assignor.assign(&self.spec(topics)) {
            if self.target.get(&member_id) != Some(&partitions) {
                self.emit(Record::Target(member_id, Some(partitions)), out);
            }
        }
        self.emit(Record::TargetEpoch(Some(TargetEpoch { epoch: self.epoch, timestamp_ms: now.unix_ms })), out);
    }

    /// The hash of all subscribed topics that exist.
    pub(super) fn hash_topics(&self, topics: &Topics<'_>) -> i64 {
        combine_hashes(self.index.topics.keys().filter_map(|name| topics.hash(name)))
    }

    /// The group as its assignor sees it.
    fn spec<'g>(&'g self, topics: &Topics<'_>) -> GroupSpec<'g> {
        // Most groups have one subscription for all: its ids are looked up once.
        let mut known: BTreeMap<(&std::collections::BTreeSet<String>, &str), Rc<_>> = BTreeMap::new();
        let mut partition_counts = BTreeMap::new();
        let mut of_member = |member: &'g Member| {
            let metadata = &member.metadata;
            let topics = known.entry((&metadata.topics, &metadata.regex)).or_insert_with(|| {
                let ids = self.subscribed_ids(metadata, topics);
                partition_counts.extend(ids.iter().filter_map(|id| Some((*id, topics.partition_count(id)?))));
                Rc::new(ids)
            });
            (metadata.instance_id.as_deref(), topics.clone())
        };
        let mut members = BTreeMap::new();
        for (id, member) in &self.members {
            let (instance_id, topics) = of_member(member);
            let target = self.target.get(id).unwrap_or(&super::replay::NO_TARGET);
            members.insert(id.clone(), MemberSpec { instance_id, topics, target });
        }
        GroupSpec { members, homogeneous: self.is_homogeneous(), partition_counts }
    }

    /// Whether all members subscribe to the same topics, as Kafka finds out: by counting.
    fn is_homogeneous(&self) -> bool {
        let members = self.members.len();
        let mut counts = self.index.topics.values();
        match self.index.regex_members.values().next() {
            None => counts.all(|count| count.by_name == members),
            Some(subscribers) => {
                *subscribers == members && counts.all(|count| count.by_regex == 1 && count.by_name == 0)
            }
        }
    }
}
