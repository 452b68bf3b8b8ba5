//! The offsets of all groups of a partition: those committed, and those that open transactions will commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::Uuid;
use wire::error::ErrorCode;

use super::answers::{FetchedOffset, FetchedTopic};
use super::records::Offset;

/// The offsets of a partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub struct Offsets {
    /// By group, topic and partition.
    committed: BTreeMap<Arc<str>, Topics>,
    /// By producer, group, topic and partition.
    pending: BTreeMap<i64, BTreeMap<Arc<str>, Topics>>,
    /// Producers with pending offsets, by group.
    open: BTreeMap<Arc<str>, BTreeSet<i64>>,
    /// The place of the next offset in the order of the log.
    next_place: u64,
}

type Topics = BTreeMap<Arc<str>, BTreeMap<i32, Kept>>;

/// An offset, and its place in the order of the log. Of two offsets of one partition the later one counts, even if the
/// earlier one belongs to a transaction that ends after it: compaction keeps the later record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    offset: Offset,
    place: u64,
}

impl Offsets {
    /// Keeps a committed offset.
    pub fn put(&mut self, group: &Arc<str>, topic: &str, partition: i32, offset: Offset) {
        self.put_all(group, [(topic, partition, offset)]);
    }

    /// Keeps committed offsets of a group, by topic and partition. Neighbours of one topic are found together.
    pub fn put_all<'a>(&mut self, group: &Arc<str>, offsets: impl IntoIterator<Item = (&'a str, i32, Offset)>) {
        let topics = self.committed.entry(group.clone()).or_default();
        let mut offsets = offsets.into_iter().peekable();
        while let Some(&(topic, ..)) = offsets.peek() {
            let partitions = of_topic(topics, topic);
            while let Some((_, partition, offset)) = offsets.next_if(|(next, ..)| *next == topic) {
                partitions.insert(partition, Kept { offset, place: self.next_place });
                self.next_place += 1;
            }
        }
    }

    /// Keeps an offset until the producer's transaction ends.
    pub fn put_pending(&mut self, producer: i64, group: &Arc<str>, topic: &str, partition: i32, offset: Offset) {
        let topics = self.pending.entry(producer).or_default().entry(group.clone()).or_default();
        of_topic(topics, topic).insert(partition, Kept { offset, place: self.next_place });
        self.next_place += 1;
        self.open.entry(group.clone()).or_default().insert(producer);
    }

    /// Forgets an offset, also where it is pending.
    pub fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        if let Some(topics) = self.committed.get_mut(group) {
            remove(topics, topic, partition);
            if topics.is_empty() {
                self.committed.remove(group);
            }
        }
        for producer in self.open.get(group).into_iter().flatten() {
            if let Some(topics) = self.pending.get_mut(producer).and_then(|groups| groups.get_mut(group)) {
                remove(topics, topic, partition);
            }
        }
    }

    /// A producer's transaction has ended: what it had pending counts, or is forgotten.
    pub fn end(&mut self, producer: i64, committed: bool) {
        for (group, topics) in self.pending.remove(&producer).unwrap_or_default() {
            if let Some(producers) = self.open.get_mut(&group) {
                producers.remove(&producer);
                if producers.is_empty() {
                    self.open.remove(&group);
                }
            }
            if !committed || topics.is_empty() {
                continue;
            }
            let into = self.committed.entry(group).or_default();
            for (topic, partitions) in topics {
                let into = into.entry(topic).or_default();
                for (partition, kept) in partitions {
                    if into.get(&partition).is_none_or(|known| known.place < kept.place) {
                        into.insert(partition, kept);
                    }
                }
            }
        }
    }

    /// Whether an open transaction may still change an offset.
    #[must_use]
    pub fn is_pending(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.open.get(group).into_iter().flatten().any(|producer| {
            let topics = self.pending.get(producer).and_then(|groups| groups.get(group));
            topics.and_then(|topics| topics.get(topic)).is_some_and(|partitions| partitions.contains_key(&partition))
        })
    }

    /// Whether a group has an open transaction.
    #[must_use]
    pub fn has_open(&self, group: &str) -> bool {
        self.open.contains_key(group)
    }

    /// Whether there is an offset, committed or pending.
    #[must_use]
    pub fn has(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.get(group, topic, partition).is_some() || self.is_pending(group, topic, partition)
    }

    /// The offset of one partition. `stable` asks for an error where it may still change; `topic_id` is the topic's, or
    /// zero: an offset of an earlier topic of the same name does not count.
    #[must_use]
    pub fn fetch(&self, group: &str, topic: &str, topic_id: Uuid, partition: i32, stable: bool) -> FetchedOffset {
        if stable && self.is_pending(group, topic, partition) {
            return FetchedOffset::none(partition, ErrorCode::UnstableOffsetCommit);
        }
        let is_other = |id: Uuid| !topic_id.is_zero() && !id.is_zero() && id != topic_id;
        match self.get(group, topic, partition) {
            Some(offset) if !is_other(offset.topic_id) => FetchedOffset {
                partition,
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.clone(),
                error: ErrorCode::None,
            },
            _ => FetchedOffset::none(partition, ErrorCode::None),
        }
    }

    /// All committed offsets of a group.
    #[must_use]
    pub fn fetch_all(&self, group: &str, stable: bool) -> Vec<FetchedTopic> {
        let topics = self.committed.get(group).into_iter().flatten();
        let topic = |(name, partitions): (&Arc<str>, &BTreeMap<i32, Kept>)| FetchedTopic {
            name: name.clone(),
            id: Uuid::ZERO,
            partitions: partitions
                .keys()
                .map(|partition| self.fetch(group, name, Uuid::ZERO, *partition, stable))
                .collect(),
        };
        topics.map(topic).collect()
    }

    /// All committed offsets of a group, by topic and partition.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32, &Offset)> {
        let topics = self.committed.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.iter().map(move |(it, kept)| (topic, *it, &kept.offset)))
    }

    /// Where a group has pending offsets.
    pub fn pending_of_group(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let producers = self.open.get(group).into_iter().flatten();
        let topics = producers.filter_map(move |producer| self.pending.get(producer)?.get(group));
        topics.flatten().flat_map(|(topic, partitions)| partitions.keys().map(move |it| (topic, *it)))
    }

    /// Offsets, committed or pending, of topics that are gone or have become others: `current` gives the id of a topic,
    /// none where there is no such topic.
    #[must_use]
    pub fn orphans(&self, current: impl Fn(&str) -> Option<Uuid>) -> Vec<(Arc<str>, Arc<str>, i32)> {
        let mut orphans = Vec::new();
        for (group, topics) in self.committed.iter().chain(self.pending.values().flatten()) {
            for (topic, partitions) in topics {
                let current = current(topic);
                let is_orphan = |id: Uuid| current.is_none_or(|current| !id.is_zero() && id != current);
                let lost = partitions.iter().filter(|(_, kept)| is_orphan(kept.offset.topic_id));
                orphans.extend(lost.map(|(partition, _)| (group.clone(), topic.clone(), *partition)));
            }
        }
        orphans
    }

    fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Offset> {
        Some(&self.committed.get(group)?.get(topic)?.get(&partition)?.offset)
    }
}

fn of_topic<'a>(topics: &'a mut Topics, topic: &str) -> &'a mut BTreeMap<i32, Kept> {
    if !topics.contains_key(topic) {
        topics.insert(topic.into(), BTreeMap::new());
    }
    topics.get_mut(topic).expect("it is there now")
}

fn remove(topics: &mut Topics, topic: &str, partition: i32) {
    if let Some(partitions) = topics.get_mut(topic) {
        partitions.remove(&partition);
        if partitions.is_empty() {
            topics.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_several_topics_are_kept_together_and_the_last_of_a_partition_counts() {
        let group: Arc<str> = "group".into();
        let at = |offset| Offset {
            offset,
            leader_epoch: -1,
            metadata: Arc::default(),
            commit_unix_ms: 0,
            expire_unix_ms: None,
            topic_id: Uuid::ZERO,
        };
        let mut offsets = Offsets::default();
        offsets.put(&group, "b", 7, at(1));
        offsets.put_all(&group, [("a", 0, at(2)), ("a", 1, at(3)), ("b", 0, at(4)), ("a", 0, at(5)), ("b", 7, at(6))]);
        let kept: Vec<(&str, i32, i64)> =
            offsets.of_group("group").map(|(topic, partition, it)| (&**topic, partition, it.offset)).collect();
        assert_eq!(kept, [("a", 0, 5), ("a", 1, 3), ("b", 0, 4), ("b", 7, 6)]);
        // One that a transaction has pending from before is older than those, one from now is newer.
        offsets.put_pending(1, &group, "b", 0, at(8));
        offsets.put_all(&group, [("b", 0, at(9)), ("b", 7, at(11))]);
        offsets.put_pending(1, &group, "b", 7, at(10));
        offsets.end(1, true);
        let offset = |partition| offsets.fetch("group", "b", Uuid::ZERO, partition, true).offset;
        assert_eq!((offset(0), offset(7)), (9, 10));
        offsets.put_all(&group, []);
        assert_eq!(offsets.of_group("group").count(), 4);
    }
}
