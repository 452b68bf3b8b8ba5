//! Messages between cores: for every ordered pair of cores one bounded queue with one writer and one reader, so that nobody
//! ever waits for a lock and a message costs two stores.
//!
//! Messages of one core to another arrive in the order in which they were sent. A core that sleeps is woken once per turn
//! of the sender, however many messages that turn has sent (see `reactor/doorbell.rs`).
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::reactor::{Doorbell, Doors, Reactor};

/// Connects `cores` cores with queues of `capacity` messages each, a power of two. The ends go to their threads, in the
/// order of the cores, and are bound to their reactors there.
#[must_use]
pub fn mesh<M: Send>(cores: usize, capacity: usize) -> Vec<MailboxEnd<M>> {
    assert!(capacity.is_power_of_two() && capacity <= 1 << 24, "a lane holds a power of two, not {capacity}");
    let mesh = Arc::new(Mesh {
        cores,
        lanes: (0..cores * cores).map(|_| Lane::new(capacity)).collect(),
        doors: Arc::new(Doors::new(cores)),
    });
    (0..cores).map(|me| MailboxEnd { mesh: mesh.clone(), me }).collect()
}

/// A core's mailbox on its way to the core's thread.
pub struct MailboxEnd<M> {
    mesh: Arc<Mesh<M>>,
    me: usize,
}

/// A core's mailbox: what it sends to the others and what they send to it. Bound to one reactor.
pub struct Mailbox<M> {
    mesh: Arc<Mesh<M>>,
    me: usize,
    /// By receiver: where this core writes.
    outgoing: Box<[Position]>,
    /// By sender: where this core reads.
    incoming: Box<[Position]>,
    /// The lane from which the next message is taken, so that no sender starves another.
    next: Cell<usize>,
    doorbell: Rc<Doorbell>,
}

struct Mesh<M> {
    cores: usize,
    /// By sender times cores plus receiver.
    lanes: Box<[Lane<M>]>,
    doors: Arc<Doors>,
}

/// One end of a lane: its own index, and the other end's as last seen. Both count messages and wrap around.
#[derive(Default)]
struct Position {
    mine: Cell<u32>,
    theirs: Cell<u32>,
}

/// A ring of messages with one writer and one reader. Those in `head..tail` are initialised.
struct Lane<M> {
    /// Moved by the writer.
    tail: Padded<AtomicU32>,
    /// Moved by the reader.
    head: Padded<AtomicU32>,
    slots: Box<[UnsafeCell<MaybeUninit<M>>]>,
}

/// On cache lines of its own: the two ends of a lane do not disturb each other.
#[repr(align(128))]
struct Padded<T>(T);

// SAFETY: messages are moved from the writing thread to the reading one, which `M: Send` allows. Access to the slots is
// ordered by `head` and `tail`: see `push` and `pop`.
unsafe impl<M: Send> Sync for Lane<M> {}

impl<M: Send> MailboxEnd<M> {
    /// The mailbox of the calling thread's core, whose reactor it wakes from now on.
    #[must_use]
    pub fn bind(self, reactor: &Reactor) -> Mailbox<M> {
        let positions = || (0..self.mesh.cores).map(|_| Position::default()).collect();
        Mailbox {
            me: self.me,
            outgoing: positions(),
            incoming: positions(),
            next: Cell::new(0),
            doorbell: reactor.doorbell(self.mesh.doors.clone(), self.me),
            mesh: self.mesh,
        }
    }
}

impl<M: Send> Mailbox<M> {
    /// This core's number in the mesh.
    #[must_use]
    pub fn core(&self) -> usize {
        self.me
    }

    /// The number of cores in the mesh.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.mesh.cores
    }

    /// Sends a message to core `to`. It comes back if the queue to that core is full: see [`Mailbox::room`].
    pub fn send(&self, to: usize, message: M) -> Result<(), M> {
        let lane = &self.mesh.lanes[self.me * self.mesh.cores + to];
        // SAFETY: this mailbox is the only writer of the lane: the mesh has made one end per core, binding consumes it, and
        // a mailbox is neither `Clone` nor `Sync`.
        unsafe { lane.push(&self.outgoing[to], message) }?;
        self.doorbell.sent(to);
        Ok(())
    }

    /// The next message and the core that sent it. Senders take turns.
    pub fn recv(&self) -> Option<(usize, M)> {
        let cores = self.mesh.cores;
        let mut from = self.next.get();
        for _ in 0..cores {
            let lane = &self.mesh.lanes[from * cores + self.me];
            // SAFETY: this mailbox is the only reader of the lane, as in `send`.
            let message = unsafe { lane.pop(&self.incoming[from]) };
            let sender = from;
            from = if from + 1 == cores { 0 } else { from + 1 };
            if let Some(message) = message {
                self.next.set(from);
                self.doorbell.received();
                return Some((sender, message));
            }
        }
        None
    }

    /// Waits until [`Mailbox::recv`] has something. One task waits at a time.
    pub async fn ready(&self) {
        while !self.has_mail() {
            self.doorbell.arrived.wait().await;
        }
    }

    /// Waits until [`Mailbox::send`] to core `to` has room.
    pub async fn room(&self, to: usize) {
        let lane = &self.mesh.lanes[self.me * self.mesh.cores + to];
        while lane.is_full(&self.outgoing[to]) {
            self.doorbell.want_room(to);
            if !lane.is_full(&self.outgoing[to]) {
                break;
            }
            self.doorbell.room.wait().await;
        }
    }

    fn has_mail(&self) -> bool {
        let cores = self.mesh.cores;
        (0..cores).any(|from| !self.mesh.lanes[from * cores + self.me].is_empty(&self.incoming[from]))
    }
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailbox({} of {})", self.me, self.mesh.cores)
    }
}

impl<M> std::fmt::Debug for MailboxEnd<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MailboxEnd({} of {})", self.me, self.mesh.cores)
    }
}

impl<M> Lane<M> {
    fn new(capacity: usize) -> Lane<M> {
        Lane {
            tail: Padded(AtomicU32::new(0)),
            head: Padded(AtomicU32::new(0)),
            slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        }
    }

    fn slot(&self, index: u32) -> *mut MaybeUninit<M> {
        self.slots[index as usize & (self.slots.len() - 1)].get()
    }

    /// # Safety
    /// The caller is the lane's only writer, and `at` is its position in this lane.
    #[inline]
    unsafe fn push(&self, at: &Position, message: M) -> Result<(), M> {
        if self.is_full(at) {
            return Err(message);
        }
        let tail = at.mine.get();
        // SAFETY: fewer than `capacity` messages lie in `head..tail`, so the reader has taken what this slot held before,
        // and its last access happened before its store of `head`, which `is_full` has acquired. It does not look at the
        // slot again before it sees the new tail. The only writer is this call.
        unsafe { (*self.slot(tail)).write(message) };
        at.mine.set(tail.wrapping_add(1));
        self.tail.0.store(at.mine.get(), Ordering::Release);
        Ok(())
    }

    /// # Safety
    /// The caller is the lane's only reader, and `at` is its position in this lane.
    #[inline]
    unsafe fn pop(&self, at: &Position) -> Option<M> {
        if self.is_empty(at) {
            return None;
        }
        let head = at.mine.get();
        // SAFETY: the slot is below the tail that `is_empty` has acquired, so the write of the message happened before,
        // and the writer does not touch the slot again before it sees the new head. The message is read once: `head` moves
        // past it here.
        let message = unsafe { (*self.slot(head)).assume_init_read() };
        at.mine.set(head.wrapping_add(1));
        self.head.0.store(at.mine.get(), Ordering::Release);
        Some(message)
    }

    /// For the writer. Looks at the reader's index only when the one last seen leaves no room.
    fn is_full(&self, at: &Position) -> bool {
        let capacity = self.slots.len() as u32;
        if at.mine.get().wrapping_sub(at.theirs.get()) < capacity {
            return false;
        }
        at.theirs.set(self.head.0.load(Ordering::Acquire));
        at.mine.get().wrapping_sub(at.theirs.get()) == capacity
    }

    /// For the reader. Looks at the writer's index only when everything up to the one last seen is taken.
    fn is_empty(&self, at: &Position) -> bool {
        if at.mine.get() != at.theirs.get() {
            return false;
        }
        at.theirs.set(self.tail.0.load(Ordering::Acquire));
        at.mine.get() == at.theirs.get()
    }
}

impl<M> Drop for Lane<M> {
    fn drop(&mut self) {
        let tail = *self.tail.0.get_mut();
        let mut head = *self.head.0.get_mut();
        while head != tail {
            // SAFETY: messages in `head..tail` are initialised, and nobody else refers to the lane any more.
            unsafe { (*self.slot(head)).assume_init_drop() };
            head = head.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::thread;

    use super::*;
    use crate::io::Io;

    fn reactor() -> Reactor {
        Reactor::new(Io::ring().expect("tests need io_uring"))
    }

    #[test]
    fn a_lane_is_bounded_and_in_order_and_drops_what_is_left() {
        let token = Rc::new(());
        let lane = Lane::new(4);
        let (write, read) = (Position::default(), Position::default());
        // Start close to the wrap-around of the indexes.
        for at in [&write, &read] {
            at.mine.set(u32::MAX - 1);
            at.theirs.set(u32::MAX - 1);
        }
        lane.tail.0.store(u32::MAX - 1, Ordering::Relaxed);
        lane.head.0.store(u32::MAX - 1, Ordering::Relaxed);
        // SAFETY: one thread is the only writer and the only reader.
        let (push, pop) = (|m| unsafe { lane.push(&write, m) }, || unsafe { lane.pop(&read) });
        for round in 0..10 {
            for i in 0..4 {
                assert!(push((round, i, token.clone())).is_ok());
            }
            assert!(push((round, 4, token.clone())).is_err());
            for i in 0..4 {
                assert_eq!(pop().map(|(r, i, _)| (r, i)), Some((round, i)));
            }
            assert!(pop().is_none());
        }
        assert!(push((0, 0, token.clone())).is_ok());
        assert!(push((0, 1, token.clone())).is_ok());
        assert_eq!(Rc::strong_count(&token), 3);
        drop(lane);
        assert_eq!(Rc::strong_count(&token), 1);
    }

    #[test]
    fn a_mailbox_takes_from_its_senders_in_turn() {
        let reactors: Vec<_> = (0..3).map(|_| reactor()).collect();
        let boxes: Vec<_> = mesh::<u32>(3, 8).into_iter().zip(&reactors).map(|(end, r)| end.bind(r)).collect();
        for i in 0..3 {
            boxes[0].send(2, i).unwrap();
            boxes[1].send(2, 10 + i).unwrap();
            boxes[2].send(2, 20 + i).unwrap();
        }
        let got: Vec<_> = std::iter::from_fn(|| boxes[2].recv()).collect();
        assert_eq!(got, [(0, 0), (1, 10), (2, 20), (0, 1), (1, 11), (2, 21), (0, 2), (1, 12), (2, 22)]);
        assert!(boxes[0].recv().is_none());
    }

    /// Every core sends numbered messages to every core, itself included, in bursts with sleeps between them that only
    /// another core's messages end. A lost message fails the count; a lost wake-up leaves all cores asleep.
    #[test]
    fn cores_exchange_messages_through_sleep_and_full_lanes() {
        const CORES: usize = 3;
        const MESSAGES: u64 = 100_000;
        let threads: Vec<_> = mesh::<(u64, Box<u64>)>(CORES, 64)
            .into_iter()
            .map(|end| {
                thread::spawn(move || {
                    let r = reactor();
                    let mailbox = Rc::new(end.bind(&r));
                    for to in 0..CORES {
                        let (r2, mailbox) = (r.clone(), mailbox.clone());
                        r.spawn(async move {
                            for i in 0..MESSAGES {
                                let mut message = (i, Box::new(i * 3));
                                while let Err(back) = mailbox.send(to, message) {
                                    message = back;
                                    mailbox.room(to).await;
                                }
                                if r2.random() % 16 == 0 {
                                    r2.end_of_turn().await;
                                }
                            }
                        });
                    }
                    let next = RefCell::new([0; CORES]);
                    r.block_on(async {
                        while next.borrow().iter().any(|&n| n < MESSAGES) {
                            mailbox.ready().await;
                            while let Some((from, (i, payload))) = mailbox.recv() {
                                let expected = &mut next.borrow_mut()[from];
                                assert_eq!((i, *payload), (*expected, *expected * 3), "from {from}");
                                *expected += 1;
                            }
                        }
                    });
                    // Others may still wait for room that has been made.
                    r.run();
                    r.stats()
                })
            })
            .collect();
        for thread in threads {
            let stats = thread.join().unwrap();
            assert!(stats.io.enters > 0);
        }
    }

    /// One message at a time, so that each finds its receiver asleep or about to fall asleep.
    #[test]
    fn a_message_wakes_a_sleeping_core_every_time() {
        const ROUNDS: u64 = 20_000;
        let threads: Vec<_> = mesh::<u64>(2, 4)
            .into_iter()
            .map(|end| {
                thread::spawn(move || {
                    let r = reactor();
                    let mailbox = end.bind(&r);
                    let other = 1 - mailbox.core();
                    r.block_on(async {
                        for round in 0..ROUNDS {
                            if mailbox.core() == 0 {
                                mailbox.send(other, round).unwrap();
                            }
                            mailbox.ready().await;
                            assert_eq!(mailbox.recv(), Some((other, round)));
                            if mailbox.core() == 1 {
                                mailbox.send(other, round).unwrap();
                            }
                        }
                    });
                    r.stats()
                })
            })
            .collect();
        for thread in threads {
            let stats = thread.join().unwrap();
            assert!(stats.io.waits > 0, "{stats:?}");
        }
    }
}
