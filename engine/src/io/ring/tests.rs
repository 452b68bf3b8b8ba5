//! The ring against the real kernel: a temporary directory and TCP on loopback.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::rc::Rc;
use std::thread;

use bytes::BytesMut;

use crate::io::tests::{CHUNK, LOCAL, NEW, echo, pattern, poll_once, ring_reactor as reactor, slice, writer};
use crate::io::{Open, Part, SendBuf};
use crate::limits::ACCEPT_QUEUE;
use crate::reactor::Notify;

#[test]
fn a_refusal_of_direct_access_is_reported_as_such() {
    // /proc files have no O_DIRECT.
    let r = reactor();
    let how = Open { direct: true, ..Open::default() };
    let error = r.block_on(r.open(Path::new("/proc/self/stat"), how)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let refused = error.get_ref().unwrap().downcast_ref::<crate::io::DirectRefused>().unwrap();
    assert_eq!(refused.path, Path::new("/proc/self/stat"));
}

#[test]
fn dropped_file_operations_finish_and_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let open_files = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(dir.path())))
            .count()
    };
    let r = reactor();
    r.block_on(async {
        assert!(poll_once(r.open(&path, NEW)).await.is_none());
        // The open goes to the kernel after the future is gone; what it opens is closed.
        let file = loop {
            match r.open(&path, Open { write: true, ..Open::default() }).await {
                Ok(file) => break file,
                Err(e) => assert_eq!(e.kind(), ErrorKind::NotFound),
            }
        };
        assert!(poll_once(r.write_at(&file, 0, slice(&pattern(0, 5000)))).await.is_none());
        drop(file);
        let file = r.open(&path, Open::default()).await.unwrap();
        while r.file_len(&file).await.unwrap() < 5000 {
            r.end_of_turn().await;
        }
        drop(file);
        while open_files() > 0 {
            r.end_of_turn().await;
        }
    });
}

#[test]
fn many_connections_are_echoed() {
    const THREADS: usize = 4;
    const EACH: usize = 50;
    let r = reactor();
    let listener = r.listen(LOCAL, true).unwrap();
    let addr = listener.local_addr();
    let clients: Vec<_> = (0..THREADS)
        .map(|t| {
            thread::spawn(move || {
                let mut all: Vec<_> = (0..EACH).map(|_| TcpStream::connect(addr).unwrap()).collect();
                for round in 0..20 {
                    for (i, stream) in all.iter_mut().enumerate() {
                        stream.write_all(&pattern(t * 1000 + i + round, 3000)).unwrap();
                    }
                    for (i, stream) in all.iter_mut().enumerate() {
                        let mut back = vec![0; 3000];
                        stream.read_exact(&mut back).unwrap();
                        assert_eq!(back, pattern(t * 1000 + i + round, 3000));
                    }
                }
            })
        })
        .collect();
    r.block_on(async {
        for _ in 0..THREADS * EACH {
            let (socket, peer) = r.accept(&listener).await.unwrap();
            assert!(peer.ip().is_loopback());
            r.spawn(echo(r.clone(), socket));
        }
    });
    r.run();
    for client in clients {
        client.join().unwrap();
    }
    assert!(r.stats().io.cqes > 0);
    r.drop_tasks();
}

#[test]
fn accepted_sockets_have_no_delay() {
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let client = TcpStream::connect(listener.local_addr()).unwrap();
    let (socket, peer) = r.block_on(r.accept(&listener)).unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    let crate::io::SocketOf::Ring(socket) = &socket.0 else { panic!("accepted on a ring") };
    assert!(socket.nodelay());
}

#[test]
fn a_send_of_many_pieces_arrives_in_order() {
    // More pieces than one message takes, more bytes than the socket's buffers.
    const PIECES: usize = 5000;
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let addr = listener.local_addr();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        TcpStream::connect(addr).unwrap().read_to_end(&mut all).unwrap();
        all
    });
    let mut expected = Vec::new();
    r.block_on(async {
        let (socket, _) = r.accept(&listener).await.unwrap();
        let mut chunk = writer();
        let bytes = chunk.append(&pattern(0, CHUNK));
        let mut buf = SendBuf::default();
        for i in 0..PIECES {
            let start = buf.head.len();
            buf.head.extend_from_slice(&pattern(i, i % 50));
            // Two parts that lie side by side.
            let (head, end) = (start..start + i % 50 / 2, start + i % 50 / 2..buf.head.len());
            let slice = bytes.part(i * 100, i * 100 + 3000 + i % 7);
            expected.extend_from_slice(&buf.head[start..]);
            expected.extend_from_slice(slice.as_bytes());
            buf.parts.push(Part::Head(head));
            buf.parts.push(Part::Head(end));
            buf.parts.push(Part::Slice(slice));
        }
        assert_eq!(buf.len(), expected.len());
        let (sent, mut buf) = r.send(&socket, buf).await;
        sent.unwrap();
        assert_eq!(buf.parts.len(), 3 * PIECES, "what was sent comes back");
        buf.clear();
        assert!(buf.is_empty());
        // Nothing to send is sent at once.
        r.send(&socket, buf).await.0.unwrap();
    });
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_reactor_waits_for_its_operations_when_it_is_dropped() {
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let mut client = TcpStream::connect(listener.local_addr()).unwrap();
    let (socket, _) = r.block_on(r.accept(&listener)).unwrap();
    let (r2, kept) = (r.clone(), Rc::new(RefCell::new(Some(socket))));
    let kept2 = kept.clone();
    r.spawn(async move {
        let socket = kept2.borrow().clone().unwrap();
        r2.recv(&socket, BytesMut::with_capacity(1 << 16)).await.0.unwrap();
    });
    r.block_on(r.end_of_turn());
    r.drop_tasks();
    drop((listener, r));
    // The ring is gone, its receive with it. The socket lives on in its handle, and is closed with it.
    client.write_all(b"nobody reads this").unwrap();
    kept.borrow_mut().take();
    assert!(client.read(&mut [0; 10]).is_err(), "closed with unread bytes: a reset");
}

#[test]
fn a_listener_that_is_not_asked_leaves_connections_to_the_kernel() {
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let addr = listener.local_addr();
    let crate::io::ListenerOf::Ring(ring_listener) = &listener.0 else { panic!("listening on a ring") };
    let mut clients = Vec::new();
    r.block_on(async {
        // Armed by an accept that nobody waits for.
        assert!(poll_once(r.accept(&listener)).await.is_none());
        while ring_listener.queued() < ACCEPT_QUEUE {
            clients.push(TcpStream::connect(addr).unwrap());
            r.end_of_turn().await;
        }
        // The accept is cancelled in the next turn; a file operation after that shows that the kernel has seen it.
        r.end_of_turn().await;
        r.open(Path::new("/"), Open::default()).await.unwrap();
        let queued = ring_listener.queued();
        for _ in 0..50 {
            clients.push(TcpStream::connect(addr).unwrap());
            r.end_of_turn().await;
        }
        assert_eq!(ring_listener.queued(), queued);
        for _ in 0..clients.len() {
            r.accept(&listener).await.unwrap();
        }
    });
    // Dropped with its accept in flight, a listener refuses.
    drop(listener);
    r.block_on(async {
        while TcpStream::connect(addr).is_ok() {
            r.end_of_turn().await;
        }
    });
}

#[test]
fn more_operations_than_the_queues_hold() {
    let dir = tempfile::tempdir().unwrap();
    let r = reactor();
    let count = 3 * crate::limits::SQ_ENTRIES as usize;
    r.block_on(async {
        let file = r.open(&dir.path().join("f"), NEW).await.unwrap();
        let finished = Rc::new(Cell::new(0));
        let done = Notify::new();
        for i in 0..count {
            let (r, file, finished, done) = (r.clone(), file.clone(), finished.clone(), done.clone());
            let bytes = slice(&pattern(i, 16));
            r.clone().spawn(async move {
                r.write_at(&file, i as u64 * 16, bytes).await.unwrap();
                finished.set(finished.get() + 1);
                done.notify();
            });
        }
        while finished.get() < count {
            done.wait().await;
        }
        let (read, w) = r.read_at(&file, 0, writer(), count * 16).await;
        assert_eq!(read.unwrap(), count * 16);
        for i in 0..count {
            assert_eq!(w.slice(i * 16, i * 16 + 16).as_bytes(), pattern(i, 16));
        }
    });
}

#[test]
fn completions_that_overflow_their_queue_arrive() {
    // More receives than the completion queue has entries end while they are submitted.
    let connections = 200;
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let addr = listener.local_addr();
    let clients: Vec<_> = (0..connections).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let received = Rc::new(Cell::new(0));
    let mut clients = Some(clients);
    let each = crate::limits::CQ_ENTRIES as usize / connections + 10;
    r.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..connections {
            sockets.push(r.accept(&listener).await.unwrap().0);
        }
        clients.take();
        for socket in sockets {
            for _ in 0..each {
                let (r2, socket, received) = (r.clone(), socket.clone(), received.clone());
                r.spawn(async move {
                    let (n, _) = r2.recv(&socket, BytesMut::with_capacity(1)).await;
                    assert_eq!(n.unwrap(), 0);
                    received.set(received.get() + 1);
                });
            }
        }
    });
    r.run();
    assert_eq!(received.get(), connections * each);
    assert!(r.stats().io.overflows > 0, "the test is about overflows: {:?}", r.stats());
}

#[test]
fn a_pair_made_elsewhere_is_received_from() {
    let reactor = reactor();
    let (mut theirs, ours) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let socket = reactor.adopt(ours.into());
    std::io::Write::write_all(&mut theirs, b"x").expect("room for a byte");
    let (received, buf) = reactor.block_on(reactor.recv(&socket, BytesMut::with_capacity(1)));
    assert_eq!((received.expect("an open stream"), &buf[..]), (1, &b"x"[..]));
}
