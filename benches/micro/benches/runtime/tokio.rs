//! The loop on `tokio-uring`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::both;
use crate::load::Case;
use crate::work::{Served, Work, make_room};

/// Serves until every connection has ended. `overlap`: the next receive is asked for together with the send, else after it.
pub(crate) fn serve(case: Case, overlap: bool, work: Work, ready: &Sender<SocketAddr>) -> Served {
    let work = Rc::new(RefCell::new(work));
    let shared = work.clone();
    // Of the set-up flags that help the broker's ring this runtime bears all but DEFER_TASKRUN: it sleeps in epoll.
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun().setup_cqsize(16 << 10).setup_clamp();
    tokio_uring::builder().entries(2048).uring_builder(&ring).start(async move {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        ready.send(listener.local_addr().expect("a bound socket")).expect("the load generator waits for it");
        let mut tasks = Vec::new();
        for _ in 0..case.connections {
            let (stream, _) = listener.accept().await.expect("a connection");
            let work = shared.clone();
            tasks
                .push(tokio_uring::spawn(async move { connection(&stream, case.receive_bytes, overlap, &work).await }));
        }
        for task in tasks {
            task.await.expect("a connection does not panic");
        }
    });
    work.borrow().measured()
}

async fn connection(stream: &TcpStream, capacity: usize, overlap: bool, work: &RefCell<Work>) {
    stream.set_nodelay(true).expect("an open socket");
    let mut buf: Vec<u8> = Vec::with_capacity(capacity);
    let mut used = 0;
    let mut out: Vec<u8> = Vec::new();
    loop {
        let (len, from) = make_room(&mut buf, used, capacity);
        buf.truncate(len);
        used = from;
        let spare = buf.slice(len..capacity);
        let (received, back);
        if out.is_empty() {
            (received, back) = stream.read(spare).await;
        } else if overlap {
            let sent;
            ((sent, out), (received, back)) = both(stream.write_all(out), stream.read(spare)).await;
            sent.expect("the load generator reads all answers");
        } else {
            let sent;
            (sent, out) = stream.write_all(out).await;
            sent.expect("the load generator reads all answers");
            (received, back) = stream.read(spare).await;
        }
        buf = back.into_inner();
        if received.expect("the load generator closes in good order") == 0 {
            return;
        }
        out.clear();
        used += work.borrow_mut().answer(&buf[used..], &mut out);
    }
}
