//! `uniform` where members subscribe to different topics: shares as equal as the subscriptions allow, reached by giving
//! away what is free and then moving partitions from members with more to members with less, topic by topic.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use wire::Uuid;

use super::{GroupSpec, Partitions, add, standing};

/// How often all topics are gone through to balance them. Each round only improves on the one before.
const MAX_ROUNDS: usize = 16;

pub(super) fn assign(group: &GroupSpec<'_>) -> BTreeMap<Arc<str>, Partitions> {
    let mut plan = Plan::new(group);
    plan.give_away();
    plan.balance();
    group.members.keys().cloned().zip(plan.assignment).collect()
}

/// The assignment in the making. Members are known by their index in the order of their ids.
struct Plan {
    /// The topics in the order in which they are given away: those with the most partitions per subscriber first, then
    /// those with few subscribers, since they leave the fewest choices.
    topics: Vec<Topic>,
    assignment: Vec<Partitions>,
    /// How many partitions each member has.
    loads: Vec<usize>,
}

struct Topic {
    id: Uuid,
    /// Who may have its partitions, by index.
    subscribers: Rc<[usize]>,
    /// Who has each.
    owners: Vec<Option<usize>>,
}

impl Plan {
    /// What members have and still subscribe to.
    fn new(group: &GroupSpec<'_>) -> Plan {
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, member) in group.members.values().enumerate() {
            for topic in member.topics.iter() {
                subscribers.entry(*topic).or_default().push(index);
            }
        }
        let mut topics: BTreeMap<Uuid, Topic> = subscribers
            .into_iter()
            .map(|(id, subscribers)| {
                let owners = vec![None; group.partition_counts[&id] as usize];
                (id, Topic { id, subscribers: subscribers.into(), owners })
            })
            .collect();

        let mut assignment = Vec::with_capacity(group.members.len());
        let mut loads = Vec::with_capacity(group.members.len());
        for (index, kept) in standing(group).into_iter().enumerate() {
            for (topic, partitions) in &kept {
                let topic = topics.get_mut(topic).expect("a subscribed topic");
                for partition in partitions {
                    topic.owners[*partition as usize] = Some(index);
                }
            }
            loads.push(kept.values().map(|partitions| partitions.len()).sum());
            assignment.push(kept);
        }

        let mut topics: Vec<Topic> = topics.into_values().collect();
        // a/b before c/d where a·d > c·b: exact, unlike a division.
        topics.sort_by(|a, b| {
            let a_weight = a.owners.len() * b.subscribers.len();
            let b_weight = b.owners.len() * a.subscribers.len();
            b_weight.cmp(&a_weight).then(a.subscribers.len().cmp(&b.subscribers.len())).then(a.id.cmp(&b.id))
        });
        Plan { topics, assignment, loads }
    }

    /// Gives every free partition to the least loaded subscriber.
    fn give_away(&mut self) {
        for at in 0..self.topics.len() {
            let free: Vec<usize> =
                (0..self.topics[at].owners.len()).filter(|p| self.topics[at].owners[*p].is_none()).collect();
            if free.is_empty() {
                continue;
            }
            let mut balancer = Balancer::new(&self.topics[at].subscribers, &self.loads);
            for partition in free {
                let member = balancer.least_loaded(&self.loads);
                self.assign(at, partition, member);
            }
        }
    }

    /// Moves partitions until a whole round of all topics moves none.
    fn balance(&mut self) {
        let movable: Vec<usize> = (0..self.topics.len()).filter(|at| self.topics[*at].subscribers.len() >= 2).collect();
        let mut last_moved = None;
        for _ in 0..MAX_ROUNDS {
            for at in &movable {
                if last_moved == Some(*at) {
                    return;
                }
                if self.balance_topic(*at) > 0 || last_moved.is_none() {
                    last_moved = Some(*at);
                }
            }
        }
    }

    /// Moves partitions of one topic from its most loaded to its least loaded subscribers. Returns how many.
    fn balance_topic(&mut self, at: usize) -> usize {
        let topic = &self.topics[at];
        let mut balancer = Balancer::new(&topic.subscribers, &self.loads);
        if balancer.imbalance(&self.loads) <= 1 {
            return 0;
        }
        // What each had at the start, of which the last goes first.
        let mut had: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in topic.owners.iter().enumerate() {
            had.entry(owner.expect("nothing is free any more")).or_default().push(partition);
        }
        let mut moved = 0;
        while !balancer.is_balanced() {
            let Some(most) = balancer.most_loaded(&self.loads) else { break };
            let Some(partition) = had.get_mut(&most).and_then(Vec::pop) else {
                balancer.exclude_most_loaded();
                continue;
            };
            let least = balancer.least_loaded(&self.loads);
            // The choice of the least loaded may have shown that they are level by now.
            if balancer.is_balanced() {
                break;
            }
            self.assign(at, partition, least);
            moved += 1;
        }
        moved
    }

    fn assign(&mut self, at: usize, partition: usize, member: usize) {
        let topic = &mut self.topics[at];
        if let Some(old) = topic.owners[partition].replace(member) {
            remove(&mut self.assignment[old], &topic.id, partition as i32);
            self.loads[old] -= 1;
        }
        add(&mut self.assignment[member], topic.id, partition as i32);
        self.loads[member] += 1;
    }
}

/// The subscribers of a topic in the order of their loads. It hands out the least and the most loaded in turn, and knows
/// their loads from having handed them out: each one handed out is given, or relieved of, one partition.
struct Balancer {
    sorted: Vec<usize>,
    /// The first members, up to here, have or had `least` partitions.
    least_end: usize,
    least: isize,
    next_least: usize,
    /// The members from here to `most_end` have or had `most` partitions; those behind are excluded or relieved.
    most_start: usize,
    most_end: usize,
    most: isize,
    /// One above the index of the member to be handed out next, so that 0 means none.
    next_most: usize,
}

impl Balancer {
    fn new(subscribers: &[usize], loads: &[usize]) -> Balancer {
        let mut sorted = subscribers.to_vec();
        sorted.sort_by_key(|member| (loads[*member], *member));
        let least = loads[sorted[0]] as isize - 1;
        let most = loads[sorted[sorted.len() - 1]] as isize + 1;
        let end = sorted.len();
        Balancer { sorted, least_end: 0, least, next_least: 0, most_start: end, most_end: end, most, next_most: end }
    }

    fn load(&self, at: usize, loads: &[usize]) -> isize {
        loads[self.sorted[at]] as isize
    }

    fn imbalance(&self, loads: &[usize]) -> isize {
        self.load(self.sorted.len() - 1, loads) - self.load(0, loads)
    }

    fn is_balanced(&self) -> bool {
        self.most - self.least <= 1
    }

    /// Who has the fewest partitions and is to get one.
    fn least_loaded(&mut self, loads: &[usize]) -> usize {
        if self.next_least >= self.least_end {
            self.least += 1;
            while self.least_end < self.sorted.len() && self.load(self.least_end, loads) == self.least {
                self.least_end += 1;
            }
            self.next_least = 0;
        }
        self.next_least += 1;
        self.sorted[self.next_least - 1]
    }

    /// Who has the most partitions and is to lose one.
    fn most_loaded(&mut self, loads: &[usize]) -> Option<usize> {
        if self.next_most <= self.most_start {
            if self.most_end <= self.most_start && self.most_start > 0 {
                // All of the range were excluded: the next one is that of the next lower load.
                self.most = self.load(self.most_start - 1, loads);
            } else {
                self.most -= 1;
            }
            while self.most_start > 0 && self.load(self.most_start - 1, loads) == self.most {
                self.most_start -= 1;
            }
            self.next_most = self.most_end;
        }
        if self.next_most == 0 {
            return None;
        }
        self.next_most -= 1;
        Some(self.sorted[self.next_most])
    }

    /// Leaves out who was handed out last: it has nothing of this topic to lose.
    fn exclude_most_loaded(&mut self) {
        self.most_end -= 1;
        self.sorted.swap(self.next_most, self.most_end);
    }
}

/// Takes a partition out of an assignment, and with its last partition the topic.
fn remove(partitions: &mut Partitions, topic: &Uuid, partition: i32) {
    if let Some(of_topic) = partitions.get_mut(topic) {
        of_topic.remove(&partition);
        if of_topic.is_empty() {
            partitions.remove(topic);
        }
    }
}
