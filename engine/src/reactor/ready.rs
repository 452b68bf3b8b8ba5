//! Which tasks are to be polled, and the wakers that say so.
//!
//! A [`Waker`] may be sent to any thread and outlive everything, so whatever it points to would have to be counted
//! atomically. These wakers point to nothing: the word that they carry is the number of a reactor and of one of its tasks.
//! Waking looks the reactor up among those of the calling thread. No task of it there means that the reactor is gone,
//! which is harmless, or lives on another thread, which is a mistake of the caller and a panic: cores talk through
//! mailboxes, never through wakers.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::ptr;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// The queue of a reactor's tasks that are to be polled, in the order in which they were woken.
pub(super) struct Ready {
    id: u32,
    tasks: RefCell<Tasks>,
}

#[derive(Default)]
struct Tasks {
    queue: VecDeque<u32>,
    /// By task: whether it is in the queue.
    queued: Vec<bool>,
}

thread_local! {
    /// The reactors of this thread. Production has one; simulations and tests have several.
    static REACTORS: RefCell<Vec<Rc<Ready>>> = const { RefCell::new(Vec::new()) };
}

/// The numbers of all reactors of the process.
static LIVE: Mutex<Option<Live>> = Mutex::new(None);

#[derive(Default)]
struct Live {
    ids: HashSet<u32>,
    next: u32,
}

impl Ready {
    /// A queue known to the wakers of this thread, until [`Ready::remove`].
    pub(super) fn register() -> Rc<Ready> {
        let id = with_live(|live| {
            loop {
                live.next = live.next.wrapping_add(1);
                if live.ids.insert(live.next) {
                    return live.next;
                }
            }
        });
        let ready = Rc::new(Ready { id, tasks: RefCell::default() });
        REACTORS.with_borrow_mut(|all| all.push(ready.clone()));
        ready
    }

    /// Forgets the queue. Wakers of its tasks have no effect from then on.
    pub(super) fn remove(&self) {
        // At the thread's end the list may be gone already, and with it every queue.
        let _ = REACTORS.try_with(|all| all.borrow_mut().retain(|ready| ready.id != self.id));
        with_live(|live| live.ids.remove(&self.id));
    }

    /// Makes room for tasks with numbers below `count`.
    pub(super) fn grow(&self, count: usize) {
        let mut tasks = self.tasks.borrow_mut();
        if tasks.queued.len() < count {
            tasks.queued.resize(count, false);
        }
    }

    /// Queues a task, unless it is in the queue.
    #[inline]
    pub(super) fn push(&self, task: u32) {
        let tasks = &mut *self.tasks.borrow_mut();
        // A waker of an earlier reactor with this number may name a task that does not exist.
        if let Some(queued) = tasks.queued.get_mut(task as usize)
            && !*queued
        {
            *queued = true;
            tasks.queue.push_back(task);
        }
    }

    /// The next task. From here on it can be queued again.
    #[inline]
    pub(super) fn pop(&self) -> Option<u32> {
        let tasks = &mut *self.tasks.borrow_mut();
        let task = tasks.queue.pop_front()?;
        tasks.queued[task as usize] = false;
        Some(task)
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.borrow().queue.len()
    }

    /// A waker of one task.
    #[inline]
    pub(super) fn waker(&self, task: u32) -> Waker {
        const _: () = assert!(usize::BITS == 64, "a waker's word holds two numbers of 32 bits");
        let word = (self.id as usize) << 32 | task as usize;
        // SAFETY: the vtable's functions never dereference the pointer, which carries a number, so it need not be valid;
        // they touch only the calling thread's list, so they may run on any thread and at any time; there is nothing to
        // count, so clone and drop have nothing to balance.
        unsafe { Waker::from_raw(RawWaker::new(ptr::without_provenance(word), &VTABLE)) }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(|word| RawWaker::new(word, &VTABLE), wake, wake, |_| ());

#[inline]
fn wake(word: *const ()) {
    let (id, task) = ((word.addr() >> 32) as u32, word.addr() as u32);
    let found = REACTORS.try_with(|all| {
        let all = all.borrow();
        let ready = all.iter().find(|ready| ready.id == id);
        if let Some(ready) = ready {
            ready.push(task);
        }
        ready.is_some()
    });
    if found != Ok(true) {
        not_of_this_thread(id);
    }
}

#[cold]
fn not_of_this_thread(id: u32) {
    let lives_elsewhere = with_live(|live| live.ids.contains(&id));
    assert!(!lives_elsewhere, "a task of reactor {id} was woken by another thread than its own");
}

fn with_live<T>(f: impl FnOnce(&mut Live) -> T) -> T {
    // Whoever panicked with the lock held (the assertion above does not) left a set that is still a set.
    let mut live = LIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    f(live.get_or_insert_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_queued_once_and_in_order() {
        let ready = Ready::register();
        ready.grow(3);
        ready.waker(2).wake();
        ready.waker(1).wake_by_ref();
        ready.waker(2).wake();
        ready.waker(9).wake();
        assert_eq!((ready.pop(), ready.pop(), ready.pop()), (Some(2), Some(1), None));
        ready.waker(2).wake();
        assert_eq!(ready.pop(), Some(2));
        ready.remove();
    }

    #[test]
    fn a_waker_may_outlive_its_reactor() {
        let ready = Ready::register();
        ready.grow(1);
        let waker = ready.waker(0);
        ready.remove();
        waker.wake_by_ref();
        assert_eq!(ready.pop(), None);
        std::thread::spawn(move || waker.wake()).join().expect("a reactor that is gone is nobody's mistake");
    }

    #[test]
    fn waking_from_another_thread_is_a_mistake_that_shows() {
        let ready = Ready::register();
        ready.grow(1);
        let waker = ready.waker(0);
        assert!(std::thread::spawn(move || waker.wake()).join().is_err());
        ready.remove();
    }
}
