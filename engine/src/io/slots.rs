//! Operations in flight: each owns its buffers until it is complete, whether or not someone still awaits it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Names one operation: the index of its slot in the low half, the slot's generation in the high half. A completion
/// that arrives for a slot which has been reused since carries an old generation and is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) u64);

impl Key {
    fn new(index: usize, generation: u32) -> Key {
        Key(u64::from(generation) << 32 | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    InFlight,
    /// In flight, and nobody waits for it any more.
    Abandoned,
    Done,
}

struct Slot<P> {
    generation: u32,
    state: State,
    /// What the kernel answered: a count or a descriptor, or a negative errno.
    result: i32,
    flags: u32,
    payload: Option<P>,
    waker: Option<Waker>,
}

/// A slab of operations with the payload `P`, which holds every buffer that the operation touches.
pub(super) struct Slots<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u32>,
    in_flight: usize,
    /// Operations whose future was dropped, for the owner of the slab to cancel.
    abandoned: Vec<Key>,
}

/// What is to be done after a completion, once the slab is no longer borrowed.
pub(super) enum Completed<P> {
    /// Wake whoever waits for it.
    Wake(Option<Waker>),
    /// Nobody waits: drop the payload, close what the operation opened.
    Drop(P),
    /// The slot has moved on.
    Stale,
}

impl<P> Slots<P> {
    pub(super) fn new() -> Slots<P> {
        Slots { slots: Vec::new(), free: Vec::new(), in_flight: 0, abandoned: Vec::new() }
    }

    /// Operations which the kernel may still work on.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn insert(&mut self, payload: P) -> Key {
        self.in_flight += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.state = State::InFlight;
            slot.payload = Some(payload);
            return Key::new(index as usize, slot.generation);
        }
        self.slots.push(Slot {
            generation: 0,
            state: State::InFlight,
            result: 0,
            flags: 0,
            payload: Some(payload),
            waker: None,
        });
        Key::new(self.slots.len() - 1, 0)
    }

    /// Like [`Slots::insert`], for an operation that nobody awaits: its payload tells where completions go.
    pub(super) fn insert_detached(&mut self, payload: P) -> Key {
        let key = self.insert(payload);
        self.slots[key.index()].state = State::Abandoned;
        key
    }

    /// Puts an operation on the list of those to cancel.
    pub(super) fn cancel(&mut self, key: Key) {
        self.abandoned.push(key);
    }

    /// The payload of an operation that has not been taken yet.
    pub(super) fn payload(&mut self, key: Key) -> Option<&mut P> {
        self.live(key)?.payload.as_mut()
    }

    /// Stores a final result.
    pub(super) fn complete(&mut self, key: Key, result: i32, flags: u32) -> Completed<P> {
        let Some(slot) = self.live(key) else { return Completed::Stale };
        match slot.state {
            State::InFlight => {
                slot.state = State::Done;
                slot.result = result;
                slot.flags = flags;
                let waker = slot.waker.take();
                self.in_flight -= 1;
                Completed::Wake(waker)
            }
            State::Abandoned => {
                let payload = self.release(key);
                self.in_flight -= 1;
                payload.map_or(Completed::Stale, Completed::Drop)
            }
            State::Free | State::Done => Completed::Stale,
        }
    }

    /// Drops the interest in an operation. Its payload comes back if the operation is over, else it stays here until it
    /// is, and the key is put on the list of those to cancel.
    pub(super) fn abandon(&mut self, key: Key) -> Option<P> {
        let slot = self.live(key)?;
        match slot.state {
            State::InFlight => {
                slot.state = State::Abandoned;
                slot.waker = None;
                self.abandoned.push(key);
                None
            }
            State::Done => self.release(key),
            State::Free | State::Abandoned => None,
        }
    }

    /// The operations abandoned since the last call. The vector given is swapped in, so that both are reused.
    pub(super) fn swap_abandoned(&mut self, with: &mut Vec<Key>) {
        std::mem::swap(&mut self.abandoned, with);
    }

    /// True while some abandoned operation has not been handed out for cancellation.
    pub(super) fn has_abandoned(&self) -> bool {
        !self.abandoned.is_empty()
    }

    fn poll(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<Done<P>> {
        let slot = self.live(key).expect("an operation is polled until it is taken");
        if slot.state != State::Done {
            match &mut slot.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let (result, flags) = (slot.result, slot.flags);
        let payload = self.release(key).expect("a payload stays until it is taken");
        Poll::Ready(Done { payload, result, flags })
    }

    fn live(&mut self, key: Key) -> Option<&mut Slot<P>> {
        self.slots.get_mut(key.index()).filter(|slot| slot.generation == key.generation())
    }

    fn release(&mut self, key: Key) -> Option<P> {
        let slot = self.live(key)?;
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        slot.waker = None;
        let payload = slot.payload.take();
        self.free.push(key.index() as u32);
        payload
    }
}

/// The result of an operation, with its payload given back.
pub(super) struct Done<P> {
    pub(super) payload: P,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// Waits for one operation. Dropped before its end, it abandons the operation.
pub(super) struct InFlight<'a, P> {
    slots: &'a RefCell<Slots<P>>,
    key: Option<Key>,
}

impl<'a, P> InFlight<'a, P> {
    pub(super) fn new(slots: &'a RefCell<Slots<P>>, key: Key) -> InFlight<'a, P> {
        InFlight { slots, key: Some(key) }
    }
}

impl<P> Future for InFlight<'_, P> {
    type Output = Done<P>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done<P>> {
        let key = self.key.expect("an operation is not polled after its end");
        let polled = self.slots.borrow_mut().poll(key, cx);
        if polled.is_ready() {
            self.key = None;
        }
        polled
    }
}

impl<P> Drop for InFlight<'_, P> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // The payload is dropped after the slab is free again: it may close a file, which looks at the slab's owner.
            let payload = self.slots.borrow_mut().abandon(key);
            drop(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_completion_of_a_reused_slot_is_ignored() {
        let mut slots = Slots::new();
        let old = slots.insert("old");
        assert!(slots.abandon(old).is_none());
        assert!(matches!(slots.complete(old, 1, 0), Completed::Drop("old")));
        let new = slots.insert("new");
        assert_eq!(new.index(), old.index());
        assert!(matches!(slots.complete(old, 2, 0), Completed::Stale));
        assert_eq!(slots.in_flight(), 1);
        assert!(matches!(slots.complete(new, 3, 0), Completed::Wake(None)));
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn an_operation_abandoned_after_its_end_gives_its_payload_back_at_once() {
        let mut slots = Slots::new();
        let key = slots.insert(7);
        assert!(matches!(slots.complete(key, 0, 0), Completed::Wake(None)));
        assert_eq!(slots.abandon(key), Some(7));
        assert!(!slots.has_abandoned());
    }
}
