//! The loop on epoll, level-triggered, one receive per readiness.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::load::Case;
use crate::work::{Served, Work, make_room};

struct Connection {
    stream: TcpStream,
    buf: Vec<u8>,
    used: usize,
    out: Vec<u8>,
    /// Bytes of `out` that are sent.
    sent: usize,
    /// Waits for the socket to take more, and receives nothing meanwhile.
    blocked: bool,
}

/// Serves until every connection has ended.
pub(crate) fn serve(case: Case, mut work: Work, ready: &Sender<SocketAddr>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    ready.send(listener.local_addr().expect("a bound socket")).expect("the load generator waits for it");
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    let mut connections: Vec<Connection> = Vec::new();
    // The first connection speaks before the others are there.
    listener.set_nonblocking(true).expect("an open socket");
    let listening = u64::MAX;
    epoll::add(&poll, &listener, EventData::new_u64(listening), EventFlags::IN).expect("a listener");
    let mut left = case.connections;
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    while left > 0 {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait: {error}"),
        }
        for event in &events {
            let id = event.data.u64();
            if id == listening {
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_nonblocking(true).expect("an open socket");
                stream.set_nodelay(true).expect("an open socket");
                let data = EventData::new_u64(connections.len() as u64);
                epoll::add(&poll, &stream, data, EventFlags::IN).expect("an open socket");
                let buf = Vec::with_capacity(case.receive_bytes);
                connections.push(Connection { stream, buf, used: 0, out: Vec::new(), sent: 0, blocked: false });
                continue;
            }
            let connection = &mut connections[id as usize];
            let was_blocked = connection.blocked;
            if !was_blocked && !connection.receive(case.receive_bytes, &mut work) {
                epoll::delete(&poll, &connection.stream).expect("it was added");
                left -= 1;
                continue;
            }
            connection.blocked = !connection.send();
            if connection.blocked != was_blocked {
                let wanted = if connection.blocked { EventFlags::OUT } else { EventFlags::IN };
                epoll::modify(&poll, &connection.stream, EventData::new_u64(id), wanted).expect("it was added");
            }
        }
    }
    work.measured()
}

impl Connection {
    /// False at the end of the stream.
    fn receive(&mut self, capacity: usize, work: &mut Work) -> bool {
        let (len, from) = make_room(&mut self.buf, self.used, capacity);
        self.buf.truncate(len);
        self.used = from;
        match recv(&self.stream, spare_capacity(&mut self.buf), RecvFlags::empty()) {
            Ok((_, 0)) => return false,
            Ok(_) => self.used += work.answer(&self.buf[self.used..], &mut self.out),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("recv: {error}"),
        }
        true
    }

    /// False when the socket takes no more.
    fn send(&mut self) -> bool {
        while self.sent < self.out.len() {
            match send(&self.stream, &self.out[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(error) => panic!("send: {error}"),
            }
        }
        self.out.clear();
        self.sent = 0;
        true
    }
}
