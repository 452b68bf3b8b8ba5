//! Who may connect: bounds on the number of connections and on how fast they come, over all cores.
//!
//! The kernel spreads connections over the cores' listeners, so a count per core could not keep a bound per address.
//! This is therefore the one table that cores share under a lock, taken when a connection begins and ends. It also tells
//! all cores when the memory of one runs short, since what a slow client holds may belong to any of them.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hash::Hasher;
use crate::limits::SWEEP_MS;

/// Counts connections.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    max_per_address: usize,
    /// The time between two new connections, in nanoseconds.
    interval_ns: u64,
    /// When a store lacked memory last, monotonic, in nanoseconds.
    short_ns: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// When the next connection is due at the rate allowed, monotonic, in nanoseconds.
    due_ns: u64,
    by_address: HashMap<IpAddr, usize, Hasher>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// `max.connections` is reached.
    Full(usize),
    /// `max.connections.per.ip` is reached by this address.
    AddressFull(IpAddr, usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Full(max) => write!(f, "max.connections ({max}) is reached"),
            Refused::AddressFull(address, max) => {
                write!(f, "max.connections.per.ip ({max}) is reached by {address}")
            }
        }
    }
}

impl std::error::Error for Refused {}

impl Admission {
    /// At most `max` connections (`max.connections`), of one address at most `max_per_address`
    /// (`max.connections.per.ip`), and `per_second` new ones in a second (`max.connection.creation.rate`).
    #[must_use]
    pub fn new(max: usize, max_per_address: usize, per_second: u32) -> Arc<Admission> {
        let interval_ns = 1_000_000_000 / u64::from(per_second.max(1));
        Arc::new(Admission { max, max_per_address, interval_ns, short_ns: AtomicU64::new(0), counts: Mutex::default() })
    }

    /// Takes one connection's share of the rate. Returns until when the next one must wait, if it comes too soon: a burst
    /// of a second's worth may come at once.
    pub fn pace(&self, now_ns: u64) -> Option<u64> {
        let mut counts = self.lock();
        counts.due_ns = counts.due_ns.max(now_ns.saturating_sub(1_000_000_000)) + self.interval_ns;
        (counts.due_ns > now_ns).then_some(counts.due_ns)
    }

    /// Counts a connection in. It is counted out when the pass is dropped.
    pub fn enter(self: &Arc<Admission>, address: IpAddr) -> Result<Pass, Refused> {
        let mut counts = self.lock();
        if counts.all >= self.max {
            return Err(Refused::Full(self.max));
        }
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= self.max_per_address {
            return Err(Refused::AddressFull(address, self.max_per_address));
        }
        counts.all += 1;
        counts.by_address.insert(address, of_address + 1);
        Ok(Pass { admission: self.clone(), address })
    }

    /// Notes that a store lacks memory.
    pub(crate) fn note_shortage(&self, now_ns: u64) {
        self.short_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Whether a store has lacked memory since the last sweep over the connections.
    pub(crate) fn is_short(&self, now_ns: u64) -> bool {
        let short_ns = self.short_ns.load(Ordering::Relaxed);
        short_ns > 0 && now_ns.saturating_sub(short_ns) <= SWEEP_MS * 1_000_000
    }

    /// Connections at this moment.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are right whatever thread has panicked: each change is one step.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct Pass {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all -= 1;
        match counts.by_address.get_mut(&self.address) {
            Some(1) => drop(counts.by_address.remove(&self.address)),
            Some(count) => *count -= 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_a_place_comes_back() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let admission = Admission::new(3, 2, u32::MAX);
        let first = admission.enter(a).unwrap();
        let _second = admission.enter(a).unwrap();
        assert_eq!(admission.enter(a).unwrap_err(), Refused::AddressFull(a, 2));
        let _third = admission.enter(b).unwrap();
        assert_eq!(admission.enter(b).unwrap_err(), Refused::Full(3));
        drop(first);
        assert!(admission.enter(b).is_ok());
        assert_eq!(admission.count(), 2);
    }

    #[test]
    fn a_rate_allows_a_burst_and_then_its_pace() {
        let admission = Admission::new(100, 100, 10);
        let start = 5_000_000_000;
        for _ in 0..10 {
            assert_eq!(admission.pace(start), None);
        }
        assert_eq!(admission.pace(start), Some(start + 100_000_000));
        assert_eq!(admission.pace(start + 100_000_000), Some(start + 200_000_000));
        assert_eq!(admission.pace(start + 2_000_000_000), None);
    }
}
