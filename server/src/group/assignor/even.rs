//! `uniform` where all members subscribe to the same topics: equal shares, and as few moves as equal shares allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::Uuid;

use super::{GroupSpec, Partitions, add, standing};

pub(super) fn assign(group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
    let Some(topics) = group.members.values().next().map(|member| member.topics.clone()) else {
        return BTreeMap::new();
    };
    let total: usize = topics.iter().map(|topic| group.partition_counts[topic] as usize).sum();
    let members = group.members.len();
    let least = total / members;
    let mut with_one_more = total % members;

    let standing = standing(group);
    let mut free = unassigned(group, &topics, &standing);
    let mut assignment = BTreeMap::new();
    let mut unfilled = Vec::new();
    for (index, (id, had)) in group.members.keys().zip(standing).enumerate() {
        let mut has_one_more = with_one_more > 0;
        let mut quota = least + usize::from(has_one_more);
        let mut kept = Partitions::new();
        for (topic, partitions) in had {
            let stay = quota.min(partitions.len());
            quota -= stay;
            free.extend(partitions.iter().skip(stay).map(|partition| (topic, *partition)));
            if stay > 0 {
                kept.insert(topic, partitions.into_iter().take(stay).collect());
            }
        }
        // A member that would need the extra partition from somewhere else leaves it to a later one, as long as there
        // are later ones for all extra partitions.
        if quota > 0 && has_one_more && members - index > with_one_more {
            quota -= 1;
            has_one_more = false;
        }
        if quota > 0 {
            unfilled.push((id.clone(), quota));
        }
        with_one_more -= usize::from(has_one_more);
        assignment.insert(id.clone(), kept);
    }

    let mut free = free.into_iter();
    for (id, quota) in unfilled {
        let partitions = assignment.get_mut(&id).expect("every member has an assignment");
        for (topic, partition) in free.by_ref().take(quota) {
            add(partitions, topic, partition);
        }
    }
    debug_assert!(free.next().is_none(), "the quotas add up to all partitions");
    assignment
}

/// The partitions that no member has.
fn unassigned(group: &GroupSpec<'_>, topics: &BTreeSet<Uuid>, standing: &[Partitions]) -> Vec<(Uuid, i32)> {
    let mut free: BTreeMap<&Uuid, BTreeSet<i32>> =
        topics.iter().map(|topic| (topic, (0..group.partition_counts[topic]).collect())).collect();
    for (topic, partitions) in standing.iter().flatten() {
        if let Some(free) = free.get_mut(topic) {
            for partition in partitions {
                free.remove(partition);
            }
        }
    }
    free.into_iter().flat_map(|(topic, free)| free.into_iter().map(move |partition| (*topic, partition))).collect()
}
