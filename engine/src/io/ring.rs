//! The kernel's side of the seam: one io_uring per core.
//!
//! The ring is set up for a single thread (`SINGLE_ISSUER`), completions are worked on only when that thread asks
//! (`DEFER_TASKRUN`), and a bad submission does not hold up those behind it (`SUBMIT_ALL`). One `io_uring_enter` per
//! turn submits everything that the turn's tasks have asked for and fetches, or waits for, completions.
//!
//! **Ownership.** The kernel reads and writes memory by address. So an operation moves everything that it refers to
//! (slices, chunk writers, receive buffers, paths, iovecs) into its slot ([`Slots`]), and takes it out after its last
//! completion. Dropping the future which waits for it changes nothing but the waiter. Dropping the ring waits for what is
//! still in flight.
//!
//! The exception to "everything through io_uring" are calls that never block, or which the kernel would hand to a worker
//! thread for no gain: `shutdown`, `fstat`, `getpeername`, the set-up of listeners, small buffered writes
//! ([`Ring::write_now`]) and, at start-up, `getdents`.
#![allow(unsafe_code)]

mod files;
mod ops;
mod sockets;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue, types};

use super::setup::{SetupError, io_uring_disabled};
use super::slots::{Completed, InFlight, Key, Slots};
use super::transfer::{count, is_interrupted};
use super::{IoStats, Wait};
use crate::limits::{CQ_ENTRIES, IO_WORKERS, SQ_ENTRIES, TURN_CALLS};
use ops::{Op, SendState};

pub(super) use files::RingFile;
pub(super) use sockets::{RingListener, RingSocket};

/// Completions of requests which nobody waits for: cancellations, closes, messages to other rings.
const IGNORED: u64 = u64::MAX;

/// A message of another core's ring, which ends this core's wait.
const WOKEN: u64 = u64::MAX - 1;

/// A ring and what is in flight on it. Clones share it.
#[derive(Clone)]
pub struct Ring(Rc<Shared>);

struct Shared {
    ring: RefCell<IoUring>,
    slots: RefCell<Slots<Op>>,
    /// Submissions that found the queue full, in order.
    backlog: RefCell<VecDeque<squeue::Entry>>,
    /// Descriptors whose last handle was dropped.
    closing: Rc<RefCell<Vec<OwnedFd>>>,
    /// Reused from send to send.
    #[expect(clippy::vec_box, reason = "operations carry the boxes, and the kernel is given addresses inside them")]
    spare_sends: RefCell<Vec<Box<SendState>>>,
    spare_keys: RefCell<Vec<Key>>,
    has_ftruncate: bool,
    stats: Cell<IoStats>,
}

impl Ring {
    /// Sets up the ring of the calling thread.
    pub(super) fn new() -> Result<Ring, SetupError> {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_cqsize(CQ_ENTRIES)
            .setup_clamp()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // A word in shared memory says whether completions wait to be worked on: a busy turn looks instead of asking.
            .setup_taskrun_flag()
            .setup_submit_all();
        let ring = builder.build(SQ_ENTRIES).map_err(|e| SetupError::from_setup(e, io_uring_disabled()))?;
        for (present, missing) in [
            (ring.params().is_feature_nodrop(), "IORING_FEAT_NODROP"),
            (ring.params().is_feature_ext_arg(), "IORING_FEAT_EXT_ARG"),
        ] {
            if !present {
                return Err(SetupError::KernelTooOld { missing });
            }
        }
        let submitter = ring.submitter();
        submitter.register_iowq_max_workers(&mut [IO_WORKERS, IO_WORKERS]).map_err(SetupError::Refused)?;
        let mut probe = Probe::new();
        submitter.register_probe(&mut probe).map_err(SetupError::Refused)?;
        Ok(Ring(Rc::new(Shared {
            ring: RefCell::new(ring),
            slots: RefCell::new(Slots::new()),
            backlog: RefCell::default(),
            closing: Rc::default(),
            spare_sends: RefCell::default(),
            spare_keys: RefCell::default(),
            has_ftruncate: probe.is_supported(opcode::Ftruncate::CODE),
            stats: Cell::default(),
        })))
    }

    pub(super) fn stats(&self) -> IoStats {
        self.0.stats.get()
    }

    /// Nanoseconds of the monotonic clock, from one origin for all cores of the process.
    pub(super) fn now_ns(&self) -> u64 {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    pub(super) fn unix_ms(&self) -> i64 {
        // A clock before 1970 is as wrong as one at 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }

    pub(super) fn seed(&self) -> u64 {
        // The standard library seeds its hashers from the system's random numbers.
        RandomState::new().hash_one(self.now_ns())
    }

    /// The descriptor that other cores' rings send their wake-ups to.
    pub(super) fn wake_fd(&self) -> RawFd {
        self.0.ring.borrow().as_raw_fd()
    }

    /// Ends the wait of the core whose ring is `fd`, once this turn's submissions go to the kernel.
    pub(super) fn wake(&self, fd: RawFd) {
        // Were the other ring closed and its number reused, the kernel would answer EBADFD, or wake a ring that then
        // finds nothing to do.
        let message = opcode::MsgRingData::new(types::Fd(fd), 0, WOKEN, None).build();
        self.0.push(message.user_data(IGNORED).flags(squeue::Flags::SKIP_SUCCESS));
    }

    /// Submits what is queued, waits as `wait` says, and wakes the owners of everything that has completed.
    pub(super) fn turn(&self, wait: Wait) {
        self.0.flush();
        self.0.enter(wait, self);
        self.0.reap();
        for _ in 0..TURN_CALLS {
            if !self.0.ring.borrow_mut().submission().taskrun() {
                break;
            }
            self.0.enter(Wait::No, self);
            // The flag can outlive the work: the kernel sets it after queueing, and this core may have done it in between.
            if self.0.reap() == 0 {
                break;
            }
        }
    }
}

impl Shared {
    /// Puts an operation into a slot and its submission into the queue.
    fn submit(&self, mut op: Op) -> InFlight<'_, Op> {
        let entry = op.entry();
        let key = self.slots.borrow_mut().insert(op);
        self.push(entry.user_data(key.0));
        InFlight::new(&self.slots, key)
    }

    fn push(&self, entry: squeue::Entry) {
        let mut backlog = self.backlog.borrow_mut();
        if !backlog.is_empty() || !self.try_push(&entry) {
            backlog.push_back(entry);
        }
    }

    fn try_push(&self, entry: &squeue::Entry) -> bool {
        let mut ring = self.ring.borrow_mut();
        // SAFETY: what an entry points to lives until its completion: `Op::entry` points only to heap memory that the
        // operation owns, and `submit` has put the operation into its slot, where it stays until `complete`. Moving the
        // operation (or the slab) moves handles, not that memory. Cancellations, closes and messages carry no pointer.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return true;
        }
        // Full: hand over what is there, and leave completions for the turn. An error (the kernel is short of memory, or
        // wants its completions reaped first) shows in the second try.
        let submitted = ring.submit().unwrap_or(0);
        let mut stats = self.stats.get();
        stats.enters += 1;
        stats.sqes += submitted as u64;
        self.stats.set(stats);
        // SAFETY: as above.
        unsafe { ring.submission().push(entry) }.is_ok()
    }

    /// Turns what has been put aside (a full queue, dropped futures and handles) into submissions.
    fn flush(&self) {
        if !self.backlog.borrow().is_empty() {
            let mut entries = self.backlog.take();
            while let Some(entry) = entries.front() {
                if !self.try_push(entry) {
                    break;
                }
                entries.pop_front();
            }
            self.backlog.replace(entries);
        }
        if self.slots.borrow().has_abandoned() {
            let mut keys = self.spare_keys.take();
            self.slots.borrow_mut().swap_abandoned(&mut keys);
            for key in keys.drain(..) {
                let waits_for_peer = self.slots.borrow_mut().payload(key).is_some_and(|op| op.waits_for_peer());
                if waits_for_peer {
                    self.push(opcode::AsyncCancel::new(key.0).build().user_data(IGNORED));
                }
            }
            self.spare_keys.replace(keys);
        }
        if !self.closing.borrow().is_empty() {
            let mut fds = self.closing.take();
            for fd in fds.drain(..) {
                let close = opcode::Close::new(types::Fd(fd.into_raw_fd())).build();
                self.push(close.user_data(IGNORED).flags(squeue::Flags::SKIP_SUCCESS));
            }
            self.closing.replace(fds);
        }
    }

    fn enter(&self, wait: Wait, clock: &Ring) {
        let mut ring = self.ring.borrow_mut();
        let sq = ring.submission();
        let (queued, overflow, work) = (sq.len(), sq.cq_overflow(), sq.taskrun());
        drop(sq);
        let may_sleep = wait != Wait::No && ring.completion().is_empty() && self.backlog.borrow().is_empty();
        if queued == 0 && !may_sleep && !overflow && !work {
            return;
        }

        let mut stats = self.stats.get();
        stats.enters += 1;
        stats.waits += u64::from(may_sleep);
        stats.sqes += queued as u64;
        stats.overflows += u64::from(overflow);
        self.stats.set(stats);

        // Completions are worked on only by a call with GETEVENTS; it also brings in those that overflowed.
        let flags = EnterFlags::GETEVENTS;
        let entered = match wait {
            Wait::Until(deadline_ns) if may_sleep => {
                let left_ns = deadline_ns.saturating_sub(clock.now_ns());
                let left = Timespec::new().sec(left_ns / 1_000_000_000).nsec((left_ns % 1_000_000_000) as u32);
                let args = SubmitArgs::new().timespec(&left);
                let flags = flags | EnterFlags::EXT_ARG;
                // SAFETY: the argument is what EXT_ARG asks for, and it and the timespec live until the call returns.
                unsafe { ring.submitter().enter(queued as u32, 1, flags.bits(), Some(&args)) }
            }
            // SAFETY: no argument is passed.
            _ => unsafe {
                ring.submitter().enter::<libc::sigset_t>(queued as u32, u32::from(may_sleep), flags.bits(), None)
            },
        };
        match entered {
            Ok(_) => {}
            Err(e) => match e.raw_os_error() {
                // The time is over; a signal came; completions must be reaped first; the kernel is short of memory. What
                // was not submitted stays in the queue for the next turn.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => panic!("io_uring_enter failed: {e}"),
            },
        }
    }

    fn reap(&self) -> u64 {
        let mut ring = self.ring.borrow_mut();
        let mut count = 0;
        // The slab is borrowed per completion, because a waker may run code that looks at it. No waker touches the ring.
        for cqe in ring.completion() {
            count += 1;
            match cqe.user_data() {
                IGNORED | WOKEN => {}
                key => self.complete(Key(key), cqe.result(), cqe.flags()),
            }
        }
        let mut stats = self.stats.get();
        stats.cqes += count;
        self.stats.set(stats);
        count
    }

    #[inline]
    fn complete(&self, key: Key, result: i32, flags: u32) {
        if cqueue::more(flags) {
            return self.accepted(key, result);
        }
        let completed = self.slots.borrow_mut().complete(key, result, flags);
        match completed {
            Completed::Wake(Some(waker)) => waker.wake(),
            Completed::Wake(None) | Completed::Stale => {}
            Completed::Drop(op) => self.unawaited(op, result),
        }
    }

    /// The end of an operation that no future awaits.
    fn unawaited(&self, op: Op, result: i32) {
        match op {
            Op::Accept(acceptor) => self.accept_ended(&acceptor, result),
            Op::Open { .. } if result >= 0 => drop(self.own(result)),
            _ => {}
        }
    }

    /// Takes possession of a descriptor that the kernel has just returned.
    fn own(&self, fd: RawFd) -> OwnedFd {
        // SAFETY: callers pass the non-negative result of an open or accept, once: the descriptor is open and nobody else
        // has it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Closing a ring does not wait for its operations, and they refer to memory that is freed with the slots.
        self.flush();
        self.push(opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(IGNORED));
        while self.slots.borrow().in_flight() > 0 {
            self.flush();
            match self.ring.get_mut().submit_and_wait(1) {
                Ok(_) => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
                Err(e) => panic!("operations in flight cannot be awaited: {e}"),
            }
            self.reap();
        }
        // Closes that were queued in the meantime; the rest of the descriptors is closed as the list is dropped.
        let _ = self.ring.get_mut().submit();
    }
}

/// A descriptor that is closed through the ring when its last owner is gone. An operation in flight is an owner.
struct Handle<T: Into<OwnedFd>> {
    inner: Option<T>,
    fd: RawFd,
    closing: Weak<RefCell<Vec<OwnedFd>>>,
}

impl<T: Into<OwnedFd> + AsRawFd> Handle<T> {
    fn new(inner: T, shared: &Shared) -> Handle<T> {
        Handle { fd: inner.as_raw_fd(), inner: Some(inner), closing: Rc::downgrade(&shared.closing) }
    }

    fn get(&self) -> &T {
        self.inner.as_ref().expect("taken only by drop")
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.fd)
    }
}

impl<T: Into<OwnedFd>> Drop for Handle<T> {
    fn drop(&mut self) {
        // Without the ring, the descriptor is closed right here.
        if let (Some(inner), Some(closing)) = (self.inner.take(), self.closing.upgrade()) {
            closing.borrow_mut().push(inner.into());
        }
    }
}
