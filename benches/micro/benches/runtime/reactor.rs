//! The loop on the broker's own executor.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use bytes::BytesMut;
use engine::io::{Io, Part, SendBuf, Socket};
use engine::reactor::{Notify, Reactor};

use crate::both;
use crate::load::Case;
use crate::work::{Served, Work, make_room};

/// Serves until every connection has ended. `overlap`: the next receive is asked for together with the send, else after it.
pub(crate) fn serve(case: Case, overlap: bool, work: Work, ready: &Sender<SocketAddr>) -> Served {
    let reactor = Reactor::new(Io::ring().expect("io_uring"));
    let work = Rc::new(RefCell::new(work));
    reactor.block_on(async {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = reactor.listen(any_port, false).expect("a port");
        ready.send(listener.local_addr()).expect("the load generator waits for it");
        let (left, ended) = (Rc::new(Cell::new(case.connections)), Notify::new());
        for _ in 0..case.connections {
            let (socket, _) = reactor.accept(&listener).await.expect("a connection");
            let (own, work, left, ended) = (reactor.clone(), work.clone(), left.clone(), ended.clone());
            reactor.spawn(async move {
                connection(&own, &socket, case.receive_bytes, overlap, &work).await;
                left.set(left.get() - 1);
                ended.notify();
            });
        }
        while left.get() > 0 {
            ended.wait().await;
        }
    });
    work.borrow().measured()
}

async fn connection(reactor: &Reactor, socket: &Socket, capacity: usize, overlap: bool, work: &RefCell<Work>) {
    let mut buf = BytesMut::with_capacity(capacity);
    let mut used = 0;
    let mut out = SendBuf::default();
    loop {
        let (len, from) = make_room(&mut buf, used, capacity);
        buf.truncate(len);
        used = from;
        let received;
        if out.is_empty() {
            (received, buf) = reactor.recv(socket, buf).await;
        } else if overlap {
            let sent;
            ((sent, out), (received, buf)) = both(reactor.send(socket, out), reactor.recv(socket, buf)).await;
            sent.expect("the load generator reads all answers");
        } else {
            let sent;
            (sent, out) = reactor.send(socket, out).await;
            sent.expect("the load generator reads all answers");
            (received, buf) = reactor.recv(socket, buf).await;
        }
        if received.expect("the load generator closes in good order") == 0 {
            return;
        }
        out.clear();
        used += work.borrow_mut().answer(&buf[used..], &mut out.head);
        if !out.head.is_empty() {
            out.parts.push(Part::Head(0..out.head.len()));
        }
    }
}
