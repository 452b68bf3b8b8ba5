//! When the next commit begins.
//!
//! Clients that send, wait for the answer and send again fall into two halves: while the commit of one half is in flight
//! the other half gathers, and goes alone as soon as the disk is free. Each half then waits for two commits, and each
//! commit, each answer and each turn serves half of the requests that it could. So a small commit that finds the disk free
//! gives those who have just been answered a moment to come back, and takes both halves.
//!
//! The moment is bounded by what it can save: half of the time that the last commit took. Large commits do not wait:
//! there the work of receiving one half is done while the disk writes the other. Nobody waits who comes alone: one client
//! that is answered and comes back is all that was expected.
//!
//! In the class `Os` no disk is waited for, and appends can fill the journal faster than a checkpoint empties it. Clients
//! would be answered at once until it is full, and then not for as long as the checkpoint takes. So the fuller it is the
//! longer a commit waits after the one before it, until both are equally fast.

use crate::limits::{BRAKE_NS, PACE_BYTES, PACE_NS};

/// Decides when the next commit begins.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// No commit waits beyond this moment.
    until_ns: u64,
    /// Appends that make further waiting pointless: those waiting when the last commit ended, and those it answered.
    expected: u32,
    /// In the class `Os` no commit begins before this moment.
    braked_until_ns: u64,
}

impl Pace {
    /// Takes note of a commit's end: it took `took_ns` and answered `answered` appends; `waiting` more have come meanwhile.
    pub(crate) fn ended(&mut self, now_ns: u64, took_ns: u64, answered: u32, waiting: u32) {
        self.until_ns = now_ns + (took_ns / 2).min(PACE_NS);
        self.expected = answered + waiting;
    }

    /// The moment until which a commit of `waiting` appends of together `bytes` should wait for more. None: it should begin.
    pub(crate) fn wait_until(&self, now_ns: u64, waiting: u32, bytes: u64) -> Option<u64> {
        let early = now_ns < self.until_ns && waiting < self.expected && bytes < PACE_BYTES;
        early.then_some(self.until_ns)
    }

    /// Takes note of a commit of `bytes` in the class `Os`. `fill` says how much of the room is taken that appends have
    /// while a checkpoint is under way, 0 to 1.
    pub(crate) fn brake(&mut self, now_ns: u64, bytes: u64, fill: f64) {
        // Next to nothing in the first third; at nine tenths 8 ns a byte, which leaves 120 MB/s.
        let ns_per_byte = fill * fill / (1.0 - fill);
        // A float that is too large becomes the largest integer.
        self.braked_until_ns = now_ns + ((bytes as f64 * ns_per_byte) as u64).min(BRAKE_NS);
    }

    /// The moment until which a commit in the class `Os` should wait. None: it should begin.
    pub(crate) fn braked_until(&self, now_ns: u64) -> Option<u64> {
        (now_ns < self.braked_until_ns).then_some(self.braked_until_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_were_answered_are_waited_for_and_nobody_else() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait_until(5, 1, 100), None, "the first commit of all");
        pace.ended(1_000, 60_000, 4, 6);
        assert_eq!(pace.wait_until(1_000, 6, 100), Some(31_000), "half of the last commit's time");
        assert_eq!(pace.wait_until(20_000, 9, 100), Some(31_000));
        assert_eq!(pace.wait_until(20_000, 10, 100), None, "all are back");
        assert_eq!(pace.wait_until(31_000, 7, 100), None, "the time is over");
        assert_eq!(pace.wait_until(1_000, 6, PACE_BYTES), None, "large enough");
        pace.ended(50_000, u64::MAX, 2, 0);
        assert_eq!(pace.wait_until(50_000, 1, 100), Some(50_000 + PACE_NS), "a slow disk does not make it longer");
    }
    #[test]
    fn a_journal_that_fills_slows_commits_down() {
        let wait = |fill| {
            let mut pace = Pace::default();
            pace.brake(1_000, 100_000, fill);
            pace.braked_until(1_000).map_or(0, |until_ns| until_ns - 1_000)
        };
        assert_eq!(wait(0.0), 0);
        assert_eq!(wait(0.5), 50_000);
        assert!((809_000..811_000).contains(&wait(0.9)), "{}", wait(0.9));
        assert_eq!(wait(1.0), BRAKE_NS, "appends wait for the checkpoint itself now");
        let mut pace = Pace::default();
        pace.brake(1_000, 100_000, 0.5);
        assert_eq!(pace.braked_until(51_000), None, "the time is over");
    }
}
