//! Sockets on the ring.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::BytesMut;
use io_uring::{cqueue, opcode, types};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::super::send::{Progress, SendBuf};
use super::super::slots::Key;
use super::ops::{Op, SendState};
use super::{Handle, IGNORED, Ring, Shared, count, is_interrupted};
use crate::limits::{ACCEPT_QUEUE, LISTEN_BACKLOG};

pub(super) type SocketHandle = Handle<TcpStream>;

/// A connected TCP socket.
#[derive(Clone)]
pub(in crate::io) struct RingSocket {
    handle: Rc<SocketHandle>,
    /// Whether the kernel said, at the last receive, that more bytes are waiting.
    ///
    /// A receive that will most likely find nothing is submitted with `POLL_FIRST`, which saves the failing attempt before
    /// the kernel starts to wait; one that will find something is attempted at once. The kernel says which it is with
    /// every receive (`IORING_CQE_F_SOCK_NONEMPTY`). With 1 to 64 connections on loopback the two ways, and this choice
    /// between them, differed by less than 3 % of the CPU per request, so it is kept for the better case of each.
    nonempty: Rc<Cell<bool>>,
}

/// A listening TCP socket. Its multishot accept ends when the last clone is dropped.
#[derive(Clone)]
pub(in crate::io) struct RingListener(Rc<ListenerOwner>);

struct ListenerOwner {
    ring: Ring,
    acceptor: Rc<Acceptor>,
    local_addr: SocketAddr,
}

/// What the multishot accept delivers into. The operation in flight owns it together with the listener.
pub(super) struct Acceptor {
    handle: Handle<TcpListener>,
    /// Connections which nobody has asked for yet.
    queue: RefCell<VecDeque<OwnedFd>>,
    error: Cell<Option<i32>>,
    /// The operation in flight, if there is one.
    armed: Cell<Option<Key>>,
    waiters: RefCell<Vec<Waker>>,
}

impl Acceptor {
    pub(super) fn fd(&self) -> types::Fd {
        self.handle.fd()
    }
}

impl RingListener {
    pub(in crate::io) fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }
}

#[cfg(test)]
impl RingListener {
    /// Connections accepted and not asked for.
    pub(super) fn queued(&self) -> usize {
        self.0.acceptor.queue.borrow().len()
    }
}

#[cfg(test)]
impl RingSocket {
    pub(super) fn nodelay(&self) -> bool {
        self.handle.get().nodelay().expect("an open socket")
    }
}

impl Ring {
    pub(in crate::io) fn listen(&self, addr: SocketAddr, reuse_port: bool) -> io::Result<RingListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        // Accepted sockets inherit it on Linux, which saves a call for each.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&addr.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        let listener = TcpListener::from(OwnedFd::from(socket));
        let local_addr = listener.local_addr()?;
        let acceptor = Rc::new(Acceptor {
            handle: Handle::new(listener, &self.0),
            queue: RefCell::default(),
            error: Cell::default(),
            armed: Cell::default(),
            waiters: RefCell::default(),
        });
        Ok(RingListener(Rc::new(ListenerOwner { ring: self.clone(), acceptor, local_addr })))
    }

    pub(in crate::io) async fn accept(&self, listener: &RingListener) -> io::Result<(RingSocket, SocketAddr)> {
        let acceptor = &listener.0.acceptor;
        loop {
            let fd = poll_fn(|cx| {
                if let Some(fd) = acceptor.queue.borrow_mut().pop_front() {
                    return Poll::Ready(Ok(fd));
                }
                if let Some(errno) = acceptor.error.take() {
                    return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
                }
                if acceptor.armed.get().is_none() {
                    acceptor.armed.set(Some(self.0.submit_detached(Op::Accept(acceptor.clone()))));
                }
                let mut waiters = acceptor.waiters.borrow_mut();
                if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiters.push(cx.waker().clone());
                }
                Poll::Pending
            })
            .await?;
            let stream = TcpStream::from(fd);
            // A connection that its peer has reset already has no address any more.
            if let Ok(peer) = stream.peer_addr() {
                return Ok((self.socket(stream), peer));
            }
        }
    }

    pub(in crate::io) async fn connect(&self, addr: SocketAddr) -> io::Result<RingSocket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let socket = self.socket(TcpStream::from(OwnedFd::from(socket)));
        let op = Op::Connect { socket: socket.handle.clone(), addr: Box::new(SockAddr::from(addr)) };
        count(self.0.submit(op).await.result)?;
        Ok(socket)
    }

    pub(in crate::io) fn adopt(&self, stream: OwnedFd) -> RingSocket {
        // A typed owner of the descriptor; what is received and sent does not depend on the family.
        self.socket(TcpStream::from(stream))
    }

    pub(in crate::io) async fn recv(&self, socket: &RingSocket, mut buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        assert!(buf.capacity() > buf.len(), "a receive needs spare capacity");
        loop {
            let poll_first = !socket.nonempty.get();
            let done = self.0.submit(Op::Recv { socket: socket.handle.clone(), buf, poll_first }).await;
            let Op::Recv { buf: back, .. } = done.payload else { unreachable!("an operation keeps its kind") };
            buf = back;
            if is_interrupted(done.result) {
                continue;
            }
            socket.nonempty.set(cqueue::sock_nonempty(done.flags));
            let received = count(done.result);
            if let Ok(received) = received {
                let len = buf.len() + received;
                debug_assert!(len <= buf.capacity());
                // SAFETY: the kernel has written `received` bytes into the spare capacity, which begins at `buf.len()`:
                // the buffer has not changed since the submission, and no more was offered than it has.
                unsafe { buf.set_len(len) };
            }
            return (received, buf);
        }
    }

    pub(in crate::io) async fn send(&self, socket: &RingSocket, data: SendBuf) -> (io::Result<()>, SendBuf) {
        let mut state = self.0.spare_sends.borrow_mut().pop().unwrap_or_else(|| Box::new(SendState::new()));
        state.buf = data;
        state.progress = Progress::default();
        state.progress.advance(&state.buf, 0);
        let mut sent = Ok(());
        while !state.progress.is_done(&state.buf) {
            let done = self.0.submit(Op::Send { socket: socket.handle.clone(), state }).await;
            let Op::Send { state: back, .. } = done.payload else { unreachable!("an operation keeps its kind") };
            state = back;
            if is_interrupted(done.result) {
                continue;
            }
            match count(done.result) {
                Ok(count) => state.progress.advance(&state.buf, count),
                Err(e) => {
                    sent = Err(e);
                    break;
                }
            }
        }
        let data = std::mem::take(&mut state.buf);
        self.0.spare_sends.borrow_mut().push(state);
        (sent, data)
    }

    /// Inline, because io_uring always hands it to a worker thread, and it does not block.
    pub(in crate::io) fn shutdown(&self, socket: &RingSocket) {
        // It fails only when the connection is gone already.
        let _ = socket.handle.get().shutdown(Shutdown::Both);
    }

    fn socket(&self, stream: TcpStream) -> RingSocket {
        RingSocket { handle: Rc::new(Handle::new(stream, &self.0)), nonempty: Rc::new(Cell::new(true)) }
    }
}

impl Shared {
    /// A completion of a multishot accept that goes on.
    pub(super) fn accepted(&self, key: Key, result: i32) {
        let acceptor = match self.slots.borrow_mut().payload(key) {
            Some(Op::Accept(acceptor)) => acceptor.clone(),
            _ => return,
        };
        if self.deliver(&acceptor, result) == ACCEPT_QUEUE {
            // The tasks above do not keep up: leave further connections in the kernel's bounded queue. The accept is armed
            // again when this queue is empty.
            self.slots.borrow_mut().cancel(key);
        }
    }

    /// The last completion of a multishot accept.
    pub(super) fn accept_ended(&self, acceptor: &Acceptor, result: i32) {
        acceptor.armed.set(None);
        self.deliver(acceptor, result);
    }

    /// Hands a connection or an error to whoever accepts. Returns the length of the queue.
    fn deliver(&self, acceptor: &Acceptor, result: i32) -> usize {
        if result >= 0 {
            acceptor.queue.borrow_mut().push_back(self.own(result));
        } else if !matches!(-result, libc::ECANCELED | libc::EINTR | libc::ECONNABORTED) {
            acceptor.error.set(Some(-result));
        }
        for waker in acceptor.waiters.borrow_mut().drain(..) {
            waker.wake();
        }
        acceptor.queue.borrow().len()
    }

    /// Submits an operation whose completions are not awaited by a future.
    fn submit_detached(&self, mut op: Op) -> Key {
        let entry = op.entry();
        let key = self.slots.borrow_mut().insert_detached(op);
        self.push(entry.user_data(key.0));
        key
    }
}

impl Drop for ListenerOwner {
    fn drop(&mut self) {
        if let Some(key) = self.acceptor.armed.get() {
            self.ring.0.push(opcode::AsyncCancel::new(key.0).build().user_data(IGNORED));
        }
        // What was accepted and not asked for is closed with the queue. A connection that arrives before the
        // cancellation takes effect lands there too, and the operation is then its last owner.
    }
}
