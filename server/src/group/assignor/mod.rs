//! Who gets which partitions: the assignors that run at the coordinator (KIP-848).
//!
//! They are Kafka's `uniform` and `range`, with Kafka's results. Where Kafka goes through members and topics in the
//! order of a hash table, these go by member id and topic id, so that the same input always gives the same result.

mod even;
mod range;
mod uneven;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use wire::Uuid;

/// Partitions by the id of their topic. A topic without partitions is left out.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// An assignor, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Every member gets as many partitions as every other, give or take one. What a member has it keeps if it can.
    Uniform,
    /// Every topic is cut into ranges, one per member: topics with as many partitions are cut alike, so that
    /// partitions of the same number meet at one member. Nothing is kept on purpose.
    Range,
}

/// A group as its assignor sees it.
#[derive(Debug)]
pub struct GroupSpec<'a> {
    /// The members, by id.
    pub members: BTreeMap<Arc<str>, MemberSpec<'a>>,
    /// Whether all members subscribe to the same topics.
    pub homogeneous: bool,
    /// How many partitions each topic has that a member subscribes to.
    pub partition_counts: BTreeMap<Uuid, i32>,
}

/// A member as its assignor sees it.
#[derive(Debug)]
pub struct MemberSpec<'a> {
    /// What a static member calls itself.
    pub instance_id: Option<&'a str>,
    /// The topics that it subscribes to, of those that exist.
    pub topics: Rc<BTreeSet<Uuid>>,
    /// What it was to have by the assignment before this one.
    pub target: &'a Partitions,
}

impl Assignor {
    /// All of them. The first is the default.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// Its name in Kafka.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The assignor of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each member is to have. Every partition of every subscribed topic goes to exactly one of the topic's
    /// subscribers.
    #[must_use]
    pub fn assign(self, group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
        match self {
            Assignor::Uniform if group.homogeneous => even::assign(group),
            Assignor::Uniform => uneven::assign(group),
            Assignor::Range => range::assign(group),
        }
    }
}

/// What each member had and may keep: partitions that exist, of topics that it still subscribes to. One that two members
/// claim stays with the first; a log that others wrote may say so.
fn standing(group: &GroupSpec<'_>) -> Vec<Partitions> {
    let mut free: BTreeMap<&Uuid, Vec<bool>> =
        group.partition_counts.iter().map(|(topic, count)| (topic, vec![true; *count as usize])).collect();
    let mut of_member = |member: &MemberSpec<'_>| {
        let mut kept = Partitions::new();
        for (topic, partitions) in member.target.iter().filter(|(topic, _)| member.topics.contains(topic)) {
            let Some(free) = free.get_mut(topic) else { continue };
            let mut is_free = |partition: &&i32| {
                let slot = usize::try_from(**partition).ok().and_then(|at| free.get_mut(at));
                slot.is_some_and(std::mem::take)
            };
            let partitions: BTreeSet<i32> = partitions.iter().filter(&mut is_free).copied().collect();
            if !partitions.is_empty() {
                kept.insert(*topic, partitions);
            }
        }
        kept
    };
    group.members.values().map(&mut of_member).collect()
}

/// Adds a partition to an assignment.
fn add(partitions: &mut Partitions, topic: Uuid, partition: i32) {
    partitions.entry(topic).or_default().insert(partition);
}
