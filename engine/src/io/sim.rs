//! The simulated side of the seam: a world of cores, one disk and one network, driven by a seed.
//!
//! Nothing happens by itself. An operation is put on a core's schedule with a seeded delay of virtual time; when the core
//! takes its turn, what is due happens, in seeded order, with the faults that the configuration asks for; when it
//! has nothing to do, time jumps to the next entry. The same seed and the same program give the same schedule, which
//! [`Sim::schedule_hash`] proves.
//!
//! Writes and syncs happen when their completion is delivered. Until then, a crash finds any part of a write; after it, any
//! part of what no later sync has covered ([`Sim::crash`]).

mod calls;
mod disk;
mod image;
mod net;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Waker;

use super::random::Random;
use super::slots::{Completed, Key, Slots};
use super::{Io, IoStats, Stalled, Wait};
use calls::Op;
use disk::{Disk, normal};
use net::{Net, Pipe};

pub(super) use calls::SimFile;
pub use disk::Crash;
pub use image::Image;
pub(super) use net::{SimListener, SimSocket};

/// What a simulated world is like. Chances are in cases per million.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Determines everything that is not determined by the program.
    pub seed: u64,
    /// The wall clock at the beginning, in milliseconds since 1970.
    pub unix_ms: i64,
    /// The longest turn of a core, in nanoseconds; a turn takes up to it.
    pub turn_ns: u64,
    /// The shortest and the longest that an operation on files takes, in nanoseconds.
    pub file_ns: (u64, u64),
    /// The shortest and the longest that a piece of a connection's bytes takes, in nanoseconds.
    pub net_ns: (u64, u64),
    /// How often an operation takes `stall_ns` longer.
    pub stall: u32,
    /// See `stall`.
    pub stall_ns: u64,
    /// How often a read or write transfers only part of what was asked for.
    pub short_transfer: u32,
    /// How often a read fails with `EIO`.
    pub read_error: u32,
    /// How often a write fails with `EIO`.
    pub write_error: u32,
    /// How often an fsync, fdatasync or sync of a directory fails with `EIO`.
    pub sync_error: u32,
    /// How often a write lands elsewhere in its file, and says nothing.
    pub misdirected_write: u32,
    /// How often a connection is reset, at any of its steps.
    pub reset: u32,
    /// Bytes that a direction of a connection holds.
    pub socket_buffer_bytes: usize,
    /// Bytes that fit on the disk, in whole blocks. `None`: no end of them.
    pub capacity_bytes: Option<u64>,
    /// Whether the file system has `O_DIRECT`.
    pub has_direct: bool,
    /// Whether the file system can allocate (else `EOPNOTSUPP`).
    pub has_allocate: bool,
    /// The operation on files, counted from 0 in the order of completion, at which the world stops: it and everything
    /// after it never completes.
    pub crash_at: Option<u64>,
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig {
            seed: 0,
            unix_ms: 1_700_000_000_000,
            turn_ns: 5_000,
            file_ns: (10_000, 200_000),
            net_ns: (5_000, 50_000),
            stall: 0,
            stall_ns: 50_000_000,
            short_transfer: 0,
            read_error: 0,
            write_error: 0,
            sync_error: 0,
            misdirected_write: 0,
            reset: 0,
            socket_buffer_bytes: 64 << 10,
            capacity_bytes: None,
            has_direct: true,
            has_allocate: true,
            crash_at: None,
        }
    }
}

/// An operation on files, to name one that is to fail ([`Sim::fail_next`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Opening or creating a file.
    Open,
    /// A read of a file.
    Read,
    /// A write to a file.
    Write,
    /// An fsync or fdatasync of a file.
    Sync,
    /// An fallocate of a file.
    Allocate,
    /// A cut of a file.
    Truncate,
    /// A rename: the path is the old name.
    Rename,
    /// The removal of a file or directory.
    Remove,
    /// The creation of a directory.
    CreateDir,
    /// An fsync of a directory.
    SyncDir,
}

/// A simulated world. Clones are the same world.
#[derive(Clone)]
pub struct Sim(Rc<World>);

pub(super) struct World {
    state: RefCell<State>,
}

struct State {
    config: SimConfig,
    random: Random,
    now_ns: u64,
    halted: bool,
    /// Operations on files that have completed.
    steps: u64,
    hash: u64,
    /// By core: what is to happen, by time and then in seeded order.
    schedules: Vec<BTreeMap<(u64, u64), Key>>,
    disk: Disk,
    net: Net,
    failures: Vec<(Call, PathBuf, i32)>,
    /// To be woken when the state is not borrowed any more.
    woken: Vec<Waker>,
}

/// One core's access to a simulated world.
#[derive(Clone)]
pub struct SimCore(Rc<Core>);

struct Core {
    world: Rc<World>,
    number: usize,
    slots: RefCell<Slots<Op>>,
    spare_keys: RefCell<Vec<Key>>,
    stats: Cell<IoStats>,
}

impl Sim {
    /// A world with an empty disk.
    #[must_use]
    pub fn new(config: SimConfig) -> Sim {
        Sim::with_image(config, &Image::default())
    }

    /// A world whose disk holds `image`, all of it durable.
    #[must_use]
    pub fn with_image(config: SimConfig, image: &Image) -> Sim {
        let state = State {
            random: Random::new(config.seed),
            now_ns: 0,
            halted: false,
            steps: 0,
            hash: 0,
            schedules: Vec::new(),
            disk: Disk::new(image, config.capacity_bytes),
            net: Net::default(),
            failures: Vec::new(),
            woken: Vec::new(),
            config,
        };
        Sim(Rc::new(World { state: RefCell::new(state) }))
    }

    /// One more core of this world, for a reactor of its own.
    #[must_use]
    pub fn io(&self) -> Io {
        let mut state = self.0.state.borrow_mut();
        state.schedules.push(BTreeMap::new());
        Io::Sim(SimCore(Rc::new(Core {
            world: self.0.clone(),
            number: state.schedules.len() - 1,
            slots: RefCell::new(Slots::new()),
            spare_keys: RefCell::default(),
            stats: Cell::default(),
        })))
    }

    /// What the disk holds if the world ends now. Nothing changes by asking, so several seeds show several ends.
    #[must_use]
    pub fn crash(&self, crash: Crash, seed: u64) -> Image {
        self.0.state.borrow().disk.crash(crash, &mut Random::new(seed))
    }

    /// Operations on files that have completed.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.state.borrow().steps
    }

    /// True after [`SimConfig::crash_at`] was reached.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.0.state.borrow().halted
    }

    /// A digest of everything that has happened: which operation completed when, and how.
    #[must_use]
    pub fn schedule_hash(&self) -> u64 {
        self.0.state.borrow().hash
    }

    /// Changes the world while it runs: a disk that gets room, a network that begins to fail. The seed has had its effect.
    pub fn change(&self, change: impl FnOnce(&mut SimConfig)) {
        let mut state = self.0.state.borrow_mut();
        change(&mut state.config);
        state.disk.capacity_bytes = state.config.capacity_bytes;
    }

    /// Lets the next operation of this kind on this path fail with `errno`. A file goes by the name under which it was
    /// opened. Several failures of one kind and path are met in turn.
    pub fn fail_next(&self, call: Call, path: &Path, errno: i32) {
        self.0.state.borrow_mut().failures.push((call, normal(path), errno));
    }

    /// The time that has passed in this world, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.0.state.borrow().now_ns
    }
}

impl SimCore {
    pub(super) fn now_ns(&self) -> u64 {
        self.state().borrow().now_ns
    }

    pub(super) fn unix_ms(&self) -> i64 {
        let state = self.state().borrow();
        state.config.unix_ms + (state.now_ns / 1_000_000) as i64
    }

    pub(super) fn seed(&self) -> u64 {
        self.state().borrow_mut().random.next()
    }

    pub(super) fn stats(&self) -> IoStats {
        self.0.stats.get()
    }

    /// The time of the next thing that happens on this core, if there is one.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.state().borrow().schedules[self.0.number].first_key_value().map(|(&(at_ns, _), _)| at_ns)
    }

    /// A seeded number for whoever drives the cores.
    pub(super) fn draw(&self, bound: u64) -> u64 {
        self.state().borrow_mut().random.below(bound)
    }

    /// Lets time pass until `at_ns`.
    pub(super) fn pass_until(&self, at_ns: u64) {
        let mut state = self.state().borrow_mut();
        state.now_ns = state.now_ns.max(at_ns);
    }

    pub(super) fn turn(&self, wait: Wait) -> Result<(), Stalled> {
        let mut stats = self.0.stats.get();
        stats.enters += 1;
        self.cancel_abandoned();
        {
            let mut state = self.state().borrow_mut();
            let turn_ns = state.config.turn_ns;
            state.now_ns += state.random.between(1, turn_ns.max(1));
        }
        let mut happened = self.happen()?;
        if happened == 0 && wait != Wait::No {
            stats.waits += 1;
            let until = match wait {
                Wait::Until(at_ns) => Some(self.next_ns().map_or(at_ns, |next_ns| next_ns.min(at_ns))),
                _ => self.next_ns(),
            };
            self.pass_until(until.ok_or(Stalled::Deadlock)?);
            happened = self.happen()?;
        }
        stats.cqes += happened;
        self.0.stats.set(stats);
        Ok(())
    }

    /// Lets everything happen on this core that is due. Returns how much that was.
    fn happen(&self) -> Result<u64, Stalled> {
        let mut count = 0;
        loop {
            let mut state = self.state().borrow_mut();
            if state.halted {
                return Err(Stalled::Halted);
            }
            let now_ns = state.now_ns;
            let schedule = &mut state.schedules[self.0.number];
            let Some(first) = schedule.first_entry().filter(|first| first.key().0 <= now_ns) else { return Ok(count) };
            let key = first.remove();
            let mut slots = self.0.slots.borrow_mut();
            // Operations that were cancelled leave their entries behind.
            let Some(op) = slots.payload(key) else { continue };
            if op.is_on_files() {
                if state.config.crash_at == Some(state.steps) {
                    state.halted = true;
                    return Err(Stalled::Halted);
                }
                state.steps += 1;
            }
            let kind = op.kind();
            let result = calls::happen(&self.0, &mut state, key, op);
            state.digest([now_ns, self.0.number as u64, kind, result.map_or(u64::MAX, |result| result as u64)]);
            count += 1;
            let completed = match result {
                Some(result) => slots.complete(key, result, 0),
                None => Completed::Stale,
            };
            let woken = std::mem::take(&mut state.woken);
            drop((slots, state));
            for waker in woken {
                waker.wake();
            }
            match completed {
                Completed::Wake(Some(waker)) => waker.wake(),
                Completed::Wake(None) | Completed::Stale => {}
                Completed::Drop(op) => drop(op),
            }
        }
    }

    /// Operations that wait for a peer end when nobody awaits them any more; the others happen all the same.
    fn cancel_abandoned(&self) {
        let mut keys = self.0.spare_keys.take();
        self.0.slots.borrow_mut().swap_abandoned(&mut keys);
        for key in keys.drain(..) {
            let mut slots = self.0.slots.borrow_mut();
            if slots.payload(key).is_some_and(|op| !op.is_on_files()) {
                let completed = slots.complete(key, -libc::ECANCELED, 0);
                drop(slots);
                drop(completed);
            }
        }
        self.0.spare_keys.replace(keys);
    }

    fn state(&self) -> &RefCell<State> {
        &self.0.world.state
    }
}

impl State {
    /// Puts an operation on a core's schedule.
    fn schedule(&mut self, core: usize, key: Key, (low_ns, high_ns): (u64, u64)) {
        let mut delay_ns = self.random.between(low_ns, high_ns.max(low_ns));
        if self.random.chance(self.config.stall) {
            delay_ns += self.config.stall_ns;
        }
        // Entries of one time are in seeded order. Should two draw the same number, the later draws again.
        let at_ns = self.now_ns + delay_ns;
        loop {
            let order = self.random.next();
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.schedules[core].entry((at_ns, order)) {
                vacant.insert(key);
                return;
            }
        }
    }

    /// Schedules whatever waits on one direction of a connection.
    fn unpark(&mut self, pipe: &RefCell<Pipe>) {
        let (receiving, sending) = {
            let mut pipe = pipe.borrow_mut();
            (std::mem::take(&mut pipe.receiving), std::mem::take(&mut pipe.sending))
        };
        for (core, key) in receiving.into_iter().chain(sending) {
            self.schedule(core, key, self.config.net_ns);
        }
    }

    /// The failure that a test has ordered for this operation, if it has.
    fn ordered_failure(&mut self, call: Call, path: &Path) -> Option<i32> {
        if self.failures.is_empty() {
            return None;
        }
        let path = normal(path);
        let at = self.failures.iter().position(|(c, p, _)| *c == call && *p == path)?;
        Some(-self.failures.remove(at).2)
    }

    fn digest(&mut self, words: [u64; 4]) {
        for word in words {
            self.hash = Random::new(self.hash ^ word).next();
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.borrow();
        write!(f, "Sim(seed {}, {} ns, {} steps)", state.config.seed, state.now_ns, state.steps)
    }
}
