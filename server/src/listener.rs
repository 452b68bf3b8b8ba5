//! Accepts connections: each core has a listening socket of its own on the same address (`SO_REUSEPORT`), over which the
//! kernel spreads the clients.

use std::io;
use std::net::SocketAddr;

use engine::io::Listener;
use tracing::{info, warn};

use crate::connection::Connection;
use crate::limits::ACCEPT_PAUSE_MS;
use crate::shard::Shard;

impl Shard {
    /// Listens on an address. Connections are accepted from [`Shard::accept_held`] on.
    pub fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        self.reactor().listen(address, true)
    }

    /// Keeps a listener for [`Shard::accept_held`].
    pub(crate) fn hold(&self, listener: Listener) {
        self.0.listeners.borrow_mut().push(listener);
    }

    /// Starts to accept the connections of the listeners held, which are numbered in the order in which they came.
    pub(crate) fn accept_held(&self) {
        for (number, listener) in self.0.listeners.take().into_iter().enumerate() {
            let shard = self.clone();
            self.reactor().spawn(async move { shard.accept(&listener, number).await });
        }
    }

    async fn accept(&self, listener: &Listener, number: usize) {
        loop {
            let (socket, peer) = match self.reactor().accept(listener).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!("accepting a connection failed: {error}");
                    self.reactor().sleep_until(self.reactor().now_ns() + ACCEPT_PAUSE_MS * 1_000_000).await;
                    continue;
                }
            };
            if self.0.stopping.get() {
                return;
            }
            match self.0.admission.enter(peer.ip()) {
                Ok(pass) => Connection::begin(self, socket, peer, number, pass),
                // The socket is dropped, and so closed.
                Err(refused) => info!(%peer, "refusing a connection: {refused}"),
            }
            if let Some(until_ns) = self.0.admission.pace(self.reactor().now_ns()) {
                self.reactor().sleep_until(until_ns).await;
            }
        }
    }
}
