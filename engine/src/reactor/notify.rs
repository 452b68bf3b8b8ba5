//! An event between tasks of one core.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// An event between tasks of one core. Clones are the same event.
///
/// [`Notify::notify`] wakes every task that waits at that moment. When none does, the notification is remembered, once,
/// for the next wait. So "change the state, notify" on one side and "look at the state, wait, look again" on the other lose
/// nothing. A waiter may be woken for a change that it has seen already.
#[derive(Clone, Default)]
pub struct Notify(Rc<Event>);

#[derive(Default)]
struct Event {
    /// A notification that nobody has received yet.
    remembered: Cell<bool>,
    /// Nobody will wait any more.
    closed: Cell<bool>,
    /// Notifications that were delivered to waiters.
    delivered: Cell<u64>,
    waiting: RefCell<Vec<Waiting>>,
    next: Cell<u64>,
}

struct Waiting {
    id: u64,
    waker: Waker,
}

impl Notify {
    /// An event that has not happened.
    #[must_use]
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes all who wait, or the next one to wait if nobody does.
    pub fn notify(&self) {
        let event = &*self.0;
        let mut waiting = event.waiting.borrow_mut();
        if waiting.is_empty() {
            event.remembered.set(true);
            return;
        }
        event.delivered.set(event.delivered.get() + 1);
        for waiting in waiting.drain(..) {
            waiting.waker.wake();
        }
    }

    /// Says that nobody will wait any more: whoever keeps the event in order to ring it may let go of it.
    pub fn close(&self) {
        self.0.closed.set(true);
    }

    /// True after [`Notify::close`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Waits for the next notification, or takes the one remembered.
    pub async fn wait(&self) {
        Wait { event: &self.0, registered: None }.await;
    }
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notify")
            .field("remembered", &self.0.remembered.get())
            .field("waiting", &self.0.waiting.borrow().len())
            .finish()
    }
}

struct Wait<'a> {
    event: &'a Event,
    /// The number among those waiting, and the count of deliveries when it began.
    registered: Option<(u64, u64)>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let event = self.event;
        match self.registered {
            Some((_, delivered)) if event.delivered.get() != delivered => {
                self.registered = None;
                Poll::Ready(())
            }
            Some((id, _)) => {
                let mut waiting = event.waiting.borrow_mut();
                if let Some(waiting) = waiting.iter_mut().find(|waiting| waiting.id == id) {
                    waiting.waker.clone_from(cx.waker());
                }
                Poll::Pending
            }
            None if event.remembered.take() => Poll::Ready(()),
            None => {
                let id = event.next.get();
                event.next.set(id + 1);
                event.waiting.borrow_mut().push(Waiting { id, waker: cx.waker().clone() });
                self.registered = Some((id, event.delivered.get()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some((id, delivered)) = self.registered else { return };
        if self.event.delivered.get() != delivered {
            // Woken, and dropped before it could look: the notification is somebody else's.
            self.event.remembered.set(true);
        } else {
            self.event.waiting.borrow_mut().retain(|waiting| waiting.id != id);
        }
    }
}
