//! `range`: every topic's partitions in consecutive ranges, in the order of its subscribers.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::Uuid;

use super::{GroupSpec, Partitions};

/// How far a topic has been given away.
struct Cut {
    partitions: i32,
    /// What each subscriber gets at least.
    quota: i32,
    /// How many subscribers, from the first, get one more.
    extra: i32,
    next: i32,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
    let mut subscribers: BTreeMap<Uuid, i32> = BTreeMap::new();
    for topic in group.members.values().flat_map(|member| member.topics.iter()) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let mut cuts: BTreeMap<Uuid, Cut> = subscribers
        .into_iter()
        .map(|(topic, subscribers)| {
            let partitions = group.partition_counts[&topic];
            (topic, Cut { partitions, quota: partitions / subscribers, extra: partitions % subscribers, next: 0 })
        })
        .collect();

    // Static members come first, by what they call themselves, so that a restart with a new member id changes nothing.
    let mut members: Vec<_> = group.members.iter().collect();
    members.sort_by_key(|(id, member)| (member.instance_id.is_none(), member.instance_id, *id));

    let mut assignment = BTreeMap::new();
    for (id, member) in members {
        let mut partitions = Partitions::new();
        for topic in member.topics.iter() {
            let cut = cuts.get_mut(topic).expect("every subscribed topic is cut");
            let mut end = cut.next + cut.quota;
            if cut.extra > 0 {
                cut.extra -= 1;
                end += 1;
            }
            let end = end.min(cut.partitions);
            if cut.next < end {
                partitions.insert(*topic, (cut.next..end).collect());
            }
            cut.next = end;
        }
        assignment.insert(id.clone(), partitions);
    }
    assignment
}
