//! Who may connect: bounds on the number of connections and on how fast they come, over all cores.
//!
//! The kernel spreads connections over the cores' listeners, so a count per core could not keep a bound per address.
//! This is therefore the one table that cores share under a lock, taken when a connection begins and ends. It also tells
//! all cores when the memory of one runs short, since what a slow client holds may belong to any of them.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::live::ConnectionLimits;
use crate::hash::Hasher;
use crate::limits::SWEEP_MS;

/// Counts connections.
#[derive(Debug)]
pub struct Admission {
    /// When a store lacked memory last, monotonic, in nanoseconds.
    short_ns: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    limits: ConnectionLimits,
    all: usize,
    /// Of these, those that have been told to end, since there were too many.
    leaving: usize,
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
    /// Nobody has connected yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Arc<Admission> {
        let counts = Counts { limits, all: 0, leaving: 0, due_ns: 0, by_address: HashMap::default() };
        Arc::new(Admission { short_ns: AtomicU64::new(0), counts: Mutex::new(counts) })
    }

    /// Puts other limits into force. Connections above a lower `max.connections` end with the next sweep, those above a
    /// lower limit of their address stay.
    pub(crate) fn set_limits(&self, limits: &ConnectionLimits) {
        let mut counts = self.lock();
        if counts.limits != *limits {
            counts.limits = limits.clone();
        }
    }

    /// Takes one connection's share of the rate. Returns until when the next one must wait, if it comes too soon: a burst
    /// of a second's worth may come at once.
    pub fn pace(&self, now_ns: u64) -> Option<u64> {
        let mut counts = self.lock();
        // The time between two new connections.
        let interval_ns = 1_000_000_000 / u64::from(counts.limits.per_second.max(1));
        counts.due_ns = counts.due_ns.max(now_ns.saturating_sub(1_000_000_000)) + interval_ns;
        (counts.due_ns > now_ns).then_some(counts.due_ns)
    }

    /// Counts a connection in. It is counted out when the pass is dropped.
    pub fn enter(self: &Arc<Admission>, address: IpAddr) -> Result<Pass, Refused> {
        // An IPv4 client of a listener for IPv6 is the same as one of a listener for IPv4.
        let address = address.to_canonical();
        let mut counts = self.lock();
        if counts.all >= counts.limits.all {
            return Err(Refused::Full(counts.limits.all));
        }
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        let max_of_address = counts.limits.of(address);
        if of_address >= max_of_address {
            return Err(Refused::AddressFull(address, max_of_address));
        }
        counts.all += 1;
        counts.by_address.insert(address, of_address + 1);
        Ok(Pass { admission: self.clone(), address, leaving: Cell::new(false) })
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

    /// Whether there are more connections than `max.connections`, which has been lowered.
    pub(crate) fn is_over(&self) -> bool {
        let counts = self.lock();
        counts.all - counts.leaving > counts.limits.all
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
    leaving: Cell<bool>,
}

impl Pass {
    /// Whether the connection has to end since there are too many. Once it has been told, the others need not.
    pub(crate) fn must_leave(&self) -> bool {
        let mut counts = self.admission.lock();
        let must = !self.leaving.get() && counts.all - counts.leaving > counts.limits.all;
        if must {
            self.leaving.set(true);
            counts.leaving += 1;
        }
        must
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all -= 1;
        counts.leaving -= usize::from(self.leaving.get());
        match counts.by_address.get_mut(&self.address) {
            Some(1) => drop(counts.by_address.remove(&self.address)),
            Some(count) => *count -= 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn limits(all: usize, per_address: usize, per_second: u32) -> ConnectionLimits {
        ConnectionLimits { all, per_address, of_address: BTreeMap::new(), per_second }
    }

    #[test]
    fn both_bounds_hold_and_a_place_comes_back() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let admission = Admission::new(limits(3, 2, u32::MAX));
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
    fn an_address_may_have_a_limit_of_its_own() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let admission = Admission::new(ConnectionLimits { of_address: [(a, 2)].into(), ..limits(9, 1, u32::MAX) });
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let _passes = [admission.enter(a).unwrap(), admission.enter(mapped).unwrap(), admission.enter(b).unwrap()];
        assert_eq!(admission.enter(a).unwrap_err(), Refused::AddressFull(a, 2));
        assert_eq!(admission.enter(b).unwrap_err(), Refused::AddressFull(b, 1));
        admission.set_limits(&limits(9, 3, u32::MAX));
        assert!(admission.enter(a).is_ok() && admission.enter(b).is_ok());
    }

    #[test]
    fn a_lower_limit_ends_as_many_as_are_too_many() {
        let admission = Admission::new(limits(9, 9, u32::MAX));
        let mut passes: Vec<Pass> = (0..4).map(|_| admission.enter(IpAddr::from([127, 0, 0, 1])).unwrap()).collect();
        assert!(!admission.is_over() && passes.iter().all(|pass| !pass.must_leave()));
        admission.set_limits(&limits(2, 9, u32::MAX));
        assert!(admission.is_over());
        let told: Vec<bool> = passes.iter().chain(&passes).map(Pass::must_leave).collect();
        assert_eq!(told, [true, true, false, false, false, false, false, false]);
        assert!(!admission.is_over());
        passes.drain(..2);
        assert_eq!((admission.count(), admission.is_over(), passes[0].must_leave()), (2, false, false));
    }

    #[test]
    fn a_rate_allows_a_burst_and_then_its_pace() {
        let admission = Admission::new(limits(100, 100, 10));
        let start = 5_000_000_000;
        for _ in 0..10 {
            assert_eq!(admission.pace(start), None);
        }
        assert_eq!(admission.pace(start), Some(start + 100_000_000));
        assert_eq!(admission.pace(start + 100_000_000), Some(start + 200_000_000));
        assert_eq!(admission.pace(start + 2_000_000_000), None);
        admission.set_limits(&limits(100, 100, 1));
        assert_eq!(admission.pace(start + 2_000_000_000), Some(start + 2_100_000_000));
    }
}
