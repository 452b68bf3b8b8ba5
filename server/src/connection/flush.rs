//! When responses leave: once a turn, so that all answers that a commit or a turn has brought for a connection go in one
//! send.
//!
//! A connection with new responses is *marked*. At the end of the turn each marked connection either begins a send, or
//! waits among the *gated* for the next commit. A commit looks at the gated ones alone.

use std::cell::{Cell, RefCell};

use engine::reactor::Notify;

use super::Connection;
use super::responses::{Front, Gate};
use crate::shard::Shard;

/// The connections of one core that have something to send.
#[derive(Default)]
pub(crate) struct Flush {
    marked: RefCell<Vec<Connection>>,
    gated: RefCell<Vec<Connection>>,
    /// Empty between uses: swapped with the lists above, so that all keep their memory.
    spare: RefCell<Vec<Connection>>,
    /// The commit up to which the gated ones have been looked at.
    seen: Cell<Gate>,
    work: Notify,
}

impl Flush {
    /// Has a connection looked at when this turn ends.
    pub(crate) fn mark(&self, connection: &Connection) {
        if !connection.set_queued(true) {
            self.marked.borrow_mut().push(connection.clone());
            self.work.notify();
        }
    }
}

impl Shard {
    /// Starts the tasks that flush responses.
    pub(crate) fn start_flush(&self) {
        let shard = self.clone();
        self.reactor().spawn(async move {
            loop {
                shard.0.flush.work.wait().await;
                shard.reactor().end_of_turn().await;
                shard.flush();
            }
        });
        let shard = self.clone();
        self.reactor().spawn(async move {
            let mut committed = shard.store().committed();
            // After a failure of the store nothing is acknowledged any more; whoever runs the store says so.
            while shard.store().wait_commit(committed + 1).await.is_ok() {
                committed = shard.store().committed();
                shard.answer_committed(committed);
                shard.0.flush.work.notify();
            }
        });
    }

    fn flush(&self) {
        let flush = &self.0.flush;
        let committed = self.store().committed();
        if flush.seen.replace(committed) != committed {
            self.look_at(&flush.gated, committed);
        }
        self.look_at(&flush.marked, committed);
    }

    fn look_at(&self, list: &RefCell<Vec<Connection>>, committed: Gate) {
        let flush = &self.0.flush;
        let mut connections = list.replace(flush.spare.take());
        for connection in connections.drain(..) {
            match connection.front() {
                Front::Gated(gate) if gate > committed => flush.gated.borrow_mut().push(connection),
                Front::Gated(_) => {
                    connection.set_queued(false);
                    connection.begin_send();
                }
                // A response that is completed later marks its connection again.
                Front::Empty | Front::Waiting => drop(connection.set_queued(false)),
            }
        }
        flush.spare.replace(connections);
    }
}
