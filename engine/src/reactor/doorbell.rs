//! Wakes between cores: one flag that says "look at your lanes", one that says "I may be asleep", and a message of the
//! sender's ring for a core that is.
//!
//! **Why no wake-up is lost.** A sender first puts its message into the lane, then sets `mail`, then passes a sequentially
//! consistent fence, then reads `asleep`. A receiver that is about to sleep first sets `asleep`, then passes such a fence,
//! then reads `mail`. The two fences have an order. If the sender's is first, the receiver reads `mail` set and does not
//! sleep; it then clears `mail` with an acquiring exchange, which synchronises with the releasing store that set it, so
//! the message is in the lane for it to see. If the receiver's is first, the sender reads `asleep` set, and sends a message
//! to the receiver's ring, which ends its wait however the two go on. One exchange of `asleep` picks one sender, so
//! a sleeping core gets one message.
//!
//! The same holds, with the roles exchanged, for a sender that waits for room in a lane: it sets `wants_room`, passes
//! the fence and looks at the lane; the receiver makes room, passes the fence and looks at `wants_room`.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};

use super::Notify;
use crate::io::Io;

/// What the cores of a mesh share, beside the lanes themselves.
pub(crate) struct Doors {
    doors: Box<[Door]>,
    /// By sender times cores plus receiver.
    wants_room: Box<[AtomicBool]>,
}

/// One core's flags, on a pair of cache lines of their own (the hardware prefetches lines in pairs).
#[repr(align(128))]
struct Door {
    mail: AtomicBool,
    asleep: AtomicBool,
    /// The core's ring, or -1 while there is none.
    ring: AtomicI32,
}

impl Doors {
    pub(crate) fn new(cores: usize) -> Doors {
        let door = || Door { mail: false.into(), asleep: false.into(), ring: AtomicI32::new(-1) };
        Doors {
            doors: (0..cores).map(|_| door()).collect(),
            wants_room: (0..cores * cores).map(|_| AtomicBool::new(false)).collect(),
        }
    }
}

/// One core's side of a mesh.
pub(crate) struct Doorbell {
    doors: Arc<Doors>,
    me: usize,
    /// Cores to which something was sent, or for which room was made, since the last [`Doorbell::ring`].
    dirty: RefCell<Vec<usize>>,
    is_dirty: Box<[Cell<bool>]>,
    /// Whether messages were taken out of a lane since then.
    received: Cell<bool>,
    /// Rings when there may be mail, or room.
    pub(crate) arrived: Notify,
    pub(crate) room: Notify,
}

impl Doorbell {
    pub(crate) fn new(doors: Arc<Doors>, me: usize, io: &Io) -> Doorbell {
        let cores = doors.doors.len();
        // Read only after `asleep` was read set, which is set later than this.
        doors.doors[me].ring.store(io.wake_fd().unwrap_or(-1), Ordering::Relaxed);
        Doorbell {
            doors,
            me,
            dirty: RefCell::default(),
            is_dirty: (0..cores).map(|_| Cell::new(false)).collect(),
            received: Cell::new(false),
            arrived: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Notes that a message was put into the lane to core `to`.
    #[inline]
    pub(crate) fn sent(&self, to: usize) {
        self.mark(to);
        // A hint for a core that is awake, which may then begin before this turn ends. When the flag seems to be set already
        // the core may just have cleared it; `ring` will set it again.
        let mail = &self.doors.doors[to].mail;
        if !mail.load(Ordering::Relaxed) {
            mail.store(true, Ordering::Release);
        }
    }

    /// Notes that a message was taken out of a lane.
    #[inline]
    pub(crate) fn received(&self) {
        self.received.set(true);
    }

    /// Asks core `to` to ring when it has made room. The lane is to be looked at once more after this.
    pub(crate) fn want_room(&self, to: usize) {
        let cores = self.doors.doors.len();
        self.doors.wants_room[self.me * cores + to].store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Wakes the cores that this turn has sent something to, if they sleep: once per turn, before its submissions go out.
    pub(super) fn ring(&self, io: &Io) {
        let received = self.received.take();
        if !received && self.dirty.borrow().is_empty() {
            return;
        }
        if received {
            // After the lanes' heads were moved, before the flags are read.
            fence(Ordering::SeqCst);
            let cores = self.doors.doors.len();
            for from in 0..cores {
                let wants = &self.doors.wants_room[from * cores + self.me];
                if wants.load(Ordering::Relaxed) && wants.swap(false, Ordering::Relaxed) {
                    self.mark(from);
                }
            }
        }
        let mut dirty = self.dirty.borrow_mut();
        for &to in &*dirty {
            self.is_dirty[to].set(false);
            self.doors.doors[to].mail.store(true, Ordering::Release);
        }
        fence(Ordering::SeqCst);
        for to in dirty.drain(..) {
            let door = &self.doors.doors[to];
            // Acquire: `ring` was stored before `asleep` was set.
            if door.asleep.load(Ordering::Relaxed) && door.asleep.swap(false, Ordering::Acquire) {
                let ring: RawFd = door.ring.load(Ordering::Relaxed);
                if ring >= 0 {
                    io.wake(ring);
                }
            }
        }
    }

    /// Announces that the core is about to sleep. False if it must not, because there is mail.
    pub(super) fn fall_asleep(&self) -> bool {
        let door = &self.doors.doors[self.me];
        door.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        !door.mail.load(Ordering::Relaxed)
    }

    /// The core is awake. A message on its way to it is ignored when it arrives.
    pub(super) fn wake_up(&self) {
        self.doors.doors[self.me].asleep.store(false, Ordering::Relaxed);
    }

    /// Whether another core has rung.
    pub(super) fn has_rung(&self) -> bool {
        self.doors.doors[self.me].mail.load(Ordering::Relaxed)
    }

    /// Whether [`Doorbell::ring`] has something to do.
    pub(super) fn is_to_ring(&self) -> bool {
        self.received.get() || !self.dirty.borrow().is_empty()
    }

    /// Wakes the tasks that wait for mail or for room, if another core has rung.
    pub(super) fn answer(&self) {
        let mail = &self.doors.doors[self.me].mail;
        if mail.load(Ordering::Relaxed) && mail.swap(false, Ordering::Acquire) {
            self.arrived.notify();
            self.room.notify();
        }
    }

    fn mark(&self, to: usize) {
        if !self.is_dirty[to].replace(true) {
            self.dirty.borrow_mut().push(to);
        }
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        // Nobody rings at a ring that may be gone; a message that is under way is harmless.
        let door = &self.doors.doors[self.me];
        door.asleep.store(false, Ordering::Relaxed);
        door.ring.store(-1, Ordering::Relaxed);
    }
}
