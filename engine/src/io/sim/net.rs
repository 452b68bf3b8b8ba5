//! Simulated TCP between the cores of one simulation: bytes arrive in seeded pieces, buffers are bounded, and connections
//! may be reset.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::Waker;

use super::super::slots::Key;
use super::{SimCore, World};

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    pub(super) bytes: VecDeque<u8>,
    /// The writer sends no more.
    pub(super) ended: bool,
    /// The reader reads no more.
    pub(super) refused: bool,
    pub(super) reset: bool,
    /// Operations that wait for bytes, and for room.
    pub(super) receiving: Vec<(usize, Key)>,
    pub(super) sending: Vec<(usize, Key)>,
}

/// One end of a connection. Closed when the last clone of it is dropped.
#[derive(Clone)]
pub(in crate::io) struct SimSocket(pub(super) Rc<Ends>);

pub(super) struct Ends {
    world: Weak<World>,
    pub(super) incoming: Rc<RefCell<Pipe>>,
    pub(super) outgoing: Rc<RefCell<Pipe>>,
}

/// A listening socket.
#[derive(Clone)]
pub(in crate::io) struct SimListener(pub(super) Rc<Backlog>);

pub(super) struct Backlog {
    pub(super) addr: SocketAddr,
    pub(super) queue: RefCell<VecDeque<(SimSocket, SocketAddr)>>,
    pub(super) waiters: RefCell<Vec<Waker>>,
}

/// Who listens where.
#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<SocketAddr, Vec<Weak<Backlog>>>,
    last_port: u16,
}

impl Net {
    pub(super) fn listen(&mut self, addr: SocketAddr, reuse_port: bool) -> Result<SimListener, i32> {
        let mut addr = addr;
        if addr.port() == 0 {
            addr.set_port(self.free_port());
        }
        let here = self.listeners.entry(addr).or_default();
        here.retain(|listener| listener.strong_count() > 0);
        if !here.is_empty() && !reuse_port {
            return Err(-libc::EADDRINUSE);
        }
        let backlog = Rc::new(Backlog { addr, queue: RefCell::default(), waiters: RefCell::default() });
        here.push(Rc::downgrade(&backlog));
        Ok(SimListener(backlog))
    }

    /// Those who listen on `addr`.
    pub(super) fn at(&self, addr: SocketAddr) -> Vec<Rc<Backlog>> {
        self.listeners.get(&addr).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// A port that nobody has used, from those for connecting sockets.
    pub(super) fn free_port(&mut self) -> u16 {
        self.last_port = self.last_port.checked_add(1).map_or(FIRST_PORT, |port| port.max(FIRST_PORT));
        self.last_port
    }
}

const FIRST_PORT: u16 = 32_768;

/// The two ends of a new connection.
pub(super) fn pair(world: &Weak<World>) -> (SimSocket, SimSocket) {
    let (a, b) = (Rc::<RefCell<Pipe>>::default(), Rc::<RefCell<Pipe>>::default());
    let end = |incoming: &Rc<RefCell<Pipe>>, outgoing: &Rc<RefCell<Pipe>>| {
        SimSocket(Rc::new(Ends { world: world.clone(), incoming: incoming.clone(), outgoing: outgoing.clone() }))
    };
    (end(&a, &b), end(&b, &a))
}

impl SimListener {
    pub(in crate::io) fn local_addr(&self) -> SocketAddr {
        self.0.addr
    }
}

impl Ends {
    /// Ends both directions, and lets whoever waits on them see it.
    pub(super) fn shutdown(&self) {
        let Some(world) = self.world.upgrade() else { return };
        {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.ended = true;
            let mut incoming = self.incoming.borrow_mut();
            incoming.ended = true;
            incoming.refused = true;
            incoming.bytes.clear();
        }
        let mut state = world.state.borrow_mut();
        state.unpark(&self.incoming);
        state.unpark(&self.outgoing);
    }

    pub(super) fn reset(&self) -> [Rc<RefCell<Pipe>>; 2] {
        for pipe in [&self.incoming, &self.outgoing] {
            let mut pipe = pipe.borrow_mut();
            pipe.reset = true;
            pipe.bytes.clear();
        }
        [self.incoming.clone(), self.outgoing.clone()]
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl SimCore {
    pub(in crate::io) fn shutdown(&self, socket: &SimSocket) {
        socket.0.shutdown();
    }
}
