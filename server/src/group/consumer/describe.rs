//! A group as ConsumerGroupDescribe shows it.

use std::collections::BTreeMap;

use wire::Uuid;

use super::{Assigned, ConsumerGroup, ConsumerOptions, Member};
use crate::group::assignor::{Assignor, Partitions};
use crate::group::topics::Topics;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// The name of its state.
    pub state: &'static str,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub target_epoch: i32,
    /// The name of its assignor.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<DescribedConsumer>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// Its id.
    pub id: String,
    /// What it says of itself and what it has.
    pub member: Member,
    /// What it has, with what it is giving up.
    pub assignment: Vec<DescribedPartitions>,
    /// What it is to have.
    pub target: Vec<DescribedPartitions>,
}

/// The partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedPartitions {
    /// The topic's id.
    pub topic: Uuid,
    /// The topic's name.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

impl ConsumerGroup {
    /// The group as it is.
    #[must_use]
    pub fn describe(&self, topics: &Topics<'_>, options: &ConsumerOptions) -> ConsumerDescription {
        let default = options.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let describe = |(id, member): (&std::sync::Arc<str>, &Member)| DescribedConsumer {
            id: id.to_string(),
            assignment: held(&member.current.assigned, &member.current.revoking, topics),
            target: self.target(id).map(|target| named(target, topics)).unwrap_or_default(),
            member: member.clone(),
        };
        ConsumerDescription {
            state: self.state().name(),
            epoch: self.epoch(),
            target_epoch: self.target_epoch(),
            assignor: self.preferred_assignor().unwrap_or(default).name(),
            members: self.members().iter().map(describe).collect(),
        }
    }
}

fn held(assigned: &Assigned, revoking: &Assigned, topics: &Topics<'_>) -> Vec<DescribedPartitions> {
    let mut all = Partitions::new();
    for (topic, partitions) in assigned.iter().chain(revoking) {
        all.entry(*topic).or_default().extend(partitions.keys());
    }
    named(&all, topics)
}

/// Topics that are gone have no name and are left out.
fn named(partitions: &Partitions, topics: &Topics<'_>) -> Vec<DescribedPartitions> {
    let of_topic = |(topic, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        let name = topics.name(topic)?.to_owned();
        Some((
            name.clone(),
            DescribedPartitions { topic: *topic, name, partitions: partitions.iter().copied().collect() },
        ))
    };
    // By name, as people read it.
    partitions.iter().filter_map(of_topic).collect::<BTreeMap<_, _>>().into_values().collect()
}
