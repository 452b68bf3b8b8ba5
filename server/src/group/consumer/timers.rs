//! The time-outs of a group's members, in the order in which they end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a member is given time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// To send a heartbeat.
    Session,
    /// To give partitions up in one epoch.
    Revoke(i32),
    /// To join again, of a member that uses the classic protocol.
    Join,
    /// To fetch its assignment, likewise.
    Sync,
}

impl Wait {
    /// A member waits for each of these once at a time.
    fn slot(self) -> usize {
        match self {
            Wait::Session => 0,
            Wait::Revoke(_) => 1,
            Wait::Join => 2,
            Wait::Sync => 3,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    of_member: BTreeMap<Arc<str>, [Option<(i64, Wait)>; 4]>,
    queue: BTreeSet<(i64, Arc<str>, Wait)>,
}

impl Timers {
    /// Starts a time-out, in place of the one that runs.
    pub(super) fn start(&mut self, member: &Arc<str>, wait: Wait, deadline_ms: i64) {
        self.stop(member, wait);
        self.of_member.entry(member.clone()).or_default()[wait.slot()] = Some((deadline_ms, wait));
        self.queue.insert((deadline_ms, member.clone(), wait));
    }

    /// Starts a time-out unless one runs.
    pub(super) fn start_if_absent(&mut self, member: &Arc<str>, wait: Wait, deadline_ms: i64) {
        if self.of_member.get(member).is_none_or(|waits| waits[wait.slot()].is_none()) {
            self.start(member, wait, deadline_ms);
        }
    }

    /// Stops a time-out if it runs.
    pub(super) fn stop(&mut self, member: &Arc<str>, wait: Wait) {
        let running = self.of_member.get_mut(member).and_then(|waits| waits[wait.slot()].take());
        if let Some((deadline_ms, wait)) = running {
            self.queue.remove(&(deadline_ms, member.clone(), wait));
        }
    }

    /// Stops all that run for a member.
    pub(super) fn forget(&mut self, member: &Arc<str>) {
        for (deadline_ms, wait) in self.of_member.remove(member).into_iter().flatten().flatten() {
            self.queue.remove(&(deadline_ms, member.clone(), wait));
        }
    }

    /// When the next one ends.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        self.queue.first().map(|(deadline_ms, ..)| *deadline_ms)
    }

    /// Takes one that has ended.
    pub(super) fn pop_ended(&mut self, now_ms: i64) -> Option<(Arc<str>, Wait)> {
        let (_, member, wait) = self.queue.first().filter(|(deadline_ms, ..)| *deadline_ms <= now_ms)?.clone();
        self.stop(&member, wait);
        Some((member, wait))
    }
}
