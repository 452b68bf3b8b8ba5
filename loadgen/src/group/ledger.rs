//! Who owns which partitions of one group, as its members say it, and whether that is final.

use crate::plan::GroupProtocol;

/// The owners in one group.
#[derive(Debug)]
pub(crate) struct Ledger {
    protocol: GroupProtocol,
    /// How many members have each partition.
    owners: Vec<u32>,
    /// Partitions that one member has.
    owned_once: usize,
    /// What each member is at, by its number.
    members: Vec<Entry>,
    /// The newest generation or epoch that any member was told.
    generation: i32,
    /// Generations or epochs that were seen.
    rebalances: u64,
    overlaps: u64,
    /// When the last member began, and when a member last asked to be in. Nanoseconds of the clock.
    last_begun_ns: u64,
    last_asked_ns: u64,
    settled_ns: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    begun: bool,
    /// The generation or epoch of its assignment; 0 without one.
    generation: i32,
    partitions: Vec<i32>,
}

impl Ledger {
    pub(crate) fn new(protocol: GroupProtocol, members: usize, partitions: usize) -> Ledger {
        Ledger {
            protocol,
            owners: vec![0; partitions],
            owned_once: 0,
            members: vec![Entry::default(); members],
            generation: 0,
            rebalances: 0,
            overlaps: 0,
            last_begun_ns: 0,
            last_asked_ns: 0,
            settled_ns: None,
        }
    }

    /// A member asks to be in; at the first time it begins.
    pub(crate) fn asks(&mut self, member: usize, now: u64) {
        let entry = &mut self.members[member];
        if !entry.begun {
            entry.begun = true;
            self.last_begun_ns = now;
        }
        self.last_asked_ns = now;
        self.settled_ns = None;
    }

    /// A member gave up what it had: it rejoins, or is gone.
    pub(crate) fn drops(&mut self, member: usize) {
        self.take_over(member, 0, &[]);
        self.settled_ns = None;
    }

    /// A member has this assignment.
    pub(crate) fn assigned(&mut self, member: usize, generation: i32, partitions: &[i32], now: u64) {
        if generation > self.generation {
            self.generation = generation;
            self.rebalances += 1;
        }
        let before = &self.members[member];
        if before.generation == generation && before.partitions == partitions {
            return;
        }
        self.take_over(member, generation, partitions);
        if self.settled_ns.is_none() && self.is_final() {
            self.settled_ns = Some(now);
        }
    }

    /// What this member has.
    pub(crate) fn partitions(&self, member: usize) -> &[i32] {
        &self.members[member].partitions
    }

    /// When it became final who has what, if it is. Nanoseconds of the clock.
    pub(crate) fn settled_ns(&self) -> Option<u64> {
        self.settled_ns
    }

    /// From the first request of the last member to that.
    pub(crate) fn settled_after_ns(&self) -> Option<u64> {
        self.settled_ns.map(|at| at.saturating_sub(self.last_begun_ns))
    }

    /// From the last time that a member asked to be in to that.
    pub(crate) fn settled_after_last_ns(&self) -> Option<u64> {
        self.settled_ns.map(|at| at.saturating_sub(self.last_asked_ns))
    }

    pub(crate) fn rebalances(&self) -> u64 {
        self.rebalances
    }

    pub(crate) fn overlaps(&self) -> u64 {
        self.overlaps
    }

    /// Partitions that have no owner or several.
    pub(crate) fn not_owned_once(&self) -> usize {
        self.owners.len() - self.owned_once
    }

    fn take_over(&mut self, member: usize, generation: i32, partitions: &[i32]) {
        let entry = &mut self.members[member];
        entry.generation = generation;
        let before = std::mem::replace(&mut entry.partitions, partitions.to_vec());
        for (list, up) in [(before.as_slice(), false), (partitions, true)] {
            for partition in list {
                // What the topic does not have is nobody's business here, and shows as a partition without an owner.
                let Some(owners) = self.owners.get_mut(*partition as usize) else { continue };
                self.owned_once -= usize::from(*owners == 1);
                *owners = if up { *owners + 1 } else { *owners - 1 };
                self.owned_once += usize::from(*owners == 1);
                // One that it keeps was counted down before.
                self.overlaps += u64::from(up && *owners > 1);
            }
        }
    }

    /// Whether every partition has one owner and every member what it is to have: in a classic group by the newest
    /// generation, in one of the consumer protocol, where members are led there step by step, an equal share.
    fn is_final(&self) -> bool {
        if self.not_owned_once() > 0 {
            return false;
        }
        let begun: Vec<&Entry> = self.members.iter().filter(|entry| entry.begun).collect();
        match self.protocol {
            GroupProtocol::Classic => begun.iter().all(|entry| entry.generation == self.generation),
            GroupProtocol::Consumer => {
                let share = self.owners.len() / begun.len();
                let fair =
                    |len: usize| len == share || (len == share + 1 && !self.owners.len().is_multiple_of(begun.len()));
                begun.iter().all(|entry| entry.generation > 0 && fair(entry.partitions.len()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classic_group_is_final_when_all_have_the_newest_generation() {
        let mut ledger = Ledger::new(GroupProtocol::Classic, 2, 3);
        ledger.asks(0, 10);
        ledger.assigned(0, 1, &[0, 1, 2], 20);
        assert_eq!((ledger.settled_after_ns(), ledger.settled_ns()), (Some(10), Some(20)));
        ledger.asks(1, 30);
        assert_eq!(ledger.settled_ns(), None);
        ledger.drops(0);
        ledger.asks(0, 45);
        ledger.assigned(0, 2, &[0, 1], 50);
        assert_eq!((ledger.settled_ns(), ledger.not_owned_once()), (None, 1));
        ledger.assigned(1, 2, &[2], 60);
        assert_eq!((ledger.settled_after_ns(), ledger.settled_after_last_ns()), (Some(30), Some(15)));
        assert_eq!((ledger.rebalances(), ledger.overlaps()), (2, 0));
    }

    #[test]
    fn a_group_of_the_consumer_protocol_is_final_when_shares_are_equal() {
        let mut ledger = Ledger::new(GroupProtocol::Consumer, 2, 3);
        ledger.asks(0, 0);
        ledger.asks(1, 1);
        ledger.assigned(1, 2, &[], 2);
        ledger.assigned(0, 2, &[0, 1, 2], 3);
        assert_eq!(ledger.settled_ns(), None, "one has all");
        ledger.assigned(0, 3, &[0, 1], 4);
        assert_eq!(ledger.settled_ns(), None, "one is nobody's");
        ledger.assigned(1, 3, &[2], 5);
        assert_eq!(ledger.settled_ns(), Some(5));
        assert_eq!(ledger.partitions(0), [0, 1]);
    }

    #[test]
    fn a_partition_of_two_members_is_an_overlap() {
        let mut ledger = Ledger::new(GroupProtocol::Consumer, 2, 2);
        ledger.asks(0, 0);
        ledger.asks(1, 0);
        ledger.assigned(0, 1, &[0, 1], 1);
        ledger.assigned(1, 1, &[1], 2);
        assert_eq!((ledger.overlaps(), ledger.not_owned_once(), ledger.settled_ns()), (1, 1, None));
        ledger.assigned(0, 2, &[0], 3);
        assert_eq!((ledger.overlaps(), ledger.not_owned_once()), (1, 0));
        ledger.drops(1);
        assert_eq!(ledger.not_owned_once(), 1);
    }
}
