//! How much memory the requests of one core's connections may hold: what they are received into beyond a quiet
//! connection's few KiB, and the frames that wait for another core or for time to pass.

use std::cell::Cell;

use engine::reactor::Notify;

/// The budget of one core.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    held: Cell<usize>,
    freed: Notify,
}

impl Memory {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Memory {
        Memory { limit, held: Cell::new(0), freed: Notify::new() }
    }

    /// Whether a buffer may be larger than what the next frame needs.
    pub(crate) fn is_ample(&self) -> bool {
        self.held.get() < self.limit / 2
    }

    /// Waits until `to` bytes may be held in place of `from`. Whoever holds all there is may grow further: a single frame
    /// may be as large as `socket.request.max.bytes` whatever the budget.
    pub(crate) async fn change(&self, from: usize, to: usize) {
        while to > from && self.held.get() > from && self.held.get() - from + to > self.limit {
            self.freed.wait().await;
        }
        self.held.set(self.held.get() - from + to);
        if to < from {
            self.freed.notify();
        }
    }

    /// Counts bytes that are held already and will be given back by [`Memory::give`].
    pub(crate) fn add(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
    }

    /// Gives bytes back.
    pub(crate) fn give(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        self.freed.notify();
    }
}
