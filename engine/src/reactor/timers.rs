//! Tasks that wait for a time. A tree rather than a heap, because most waits end early (a long poll that is answered, an
//! idle timeout that is moved) and are then taken out instead of being kept until their time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Inner;

/// Waiting tasks, by time in nanoseconds and then by the order in which they began to wait.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<(u64, u64), Waker>,
    next: u64,
}

impl Timers {
    /// The earliest time that somebody waits for.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(&(at_ns, _), _)| at_ns)
    }

    /// Wakes every task whose time has come.
    pub(super) fn fire(&mut self, now_ns: u64) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now_ns
        {
            first.remove().wake();
        }
    }
}

/// Waits until `at_ns`.
pub(super) struct Sleep<'a> {
    inner: &'a Inner,
    at_ns: u64,
    /// The second half of its key in [`Timers`].
    order: Option<u64>,
}

impl<'a> Sleep<'a> {
    pub(super) fn new(inner: &'a Inner, at_ns: u64) -> Sleep<'a> {
        Sleep { inner, at_ns, order: None }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.now_ns.get() >= self.at_ns {
            return Poll::Ready(());
        }
        let mut timers = self.inner.timers.borrow_mut();
        let order = match self.order {
            Some(order) => order,
            None => {
                timers.next += 1;
                timers.next
            }
        };
        timers.waiting.insert((self.at_ns, order), cx.waker().clone());
        drop(timers);
        self.order = Some(order);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(order) = self.order {
            self.inner.timers.borrow_mut().waiting.remove(&(self.at_ns, order));
        }
    }
}
