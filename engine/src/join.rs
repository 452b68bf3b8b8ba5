//! Waiting for several operations at once, and for one's turn.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};

/// Runs all tasks to their end, also when one has failed, and gives the first error. All of them: an operation that is
/// still writing when its commit is given up could land in blocks that have been used again.
pub(crate) async fn all(mut tasks: Vec<Pin<Box<dyn Future<Output = io::Result<()>> + '_>>>) -> io::Result<()> {
    let mut first_error = None;
    std::future::poll_fn(move |context| {
        tasks.retain_mut(|task| match task.as_mut().poll(context) {
            Poll::Ready(result) => {
                if let Err(error) = result {
                    first_error.get_or_insert(error);
                }
                false
            }
            Poll::Pending => true,
        });
        if !tasks.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(first_error.take().map_or(Ok(()), Err))
    })
    .await
}

/// Waits for the one of two events that comes first.
pub(crate) async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Pending => other.as_mut().poll(context),
        ready => ready,
    })
    .await;
}

/// Lets one task at a time do what must not overlap with itself.
#[derive(Default)]
pub(crate) struct Turnstile {
    taken: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
}

/// The turn, until dropped.
pub(crate) struct Turn<'a>(&'a Turnstile);

impl Turnstile {
    pub(crate) async fn enter(&self) -> Turn<'_> {
        std::future::poll_fn(|context| {
            if self.taken.replace(true) {
                self.waiters.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        self.0.waiters.borrow_mut().drain(..).for_each(Waker::wake);
    }
}
