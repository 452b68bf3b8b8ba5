//! The ring against the real kernel: a temporary directory and TCP on loopback.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;

use bytes::BytesMut;

use crate::cache::{ChunkPool, ChunkWriter, Slice};
use crate::io::{Io, Open, Part, SendBuf, Socket};
use crate::limits::{ACCEPT_QUEUE, BLOCK_BYTES};
use crate::reactor::{Notify, Reactor};

const CHUNK: usize = 1 << 20;

fn reactor() -> Reactor {
    Reactor::new(Io::ring().expect("tests need io_uring"))
}

fn writer() -> ChunkWriter {
    ChunkPool::new(CHUNK, 2 * CHUNK).take().expect("a fresh pool")
}

/// Bytes that tell at which position they belong.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn slice(bytes: &[u8]) -> Slice {
    let chunk = bytes.len().next_multiple_of(BLOCK_BYTES);
    ChunkPool::new(chunk, 2 * chunk).take().expect("a fresh pool").append(bytes)
}

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const NEW: Open = Open { direct: false, create: false, create_new: true, write: true };
const NEW_DIRECT: Open = Open { direct: true, ..NEW };

/// Polls a future once and drops it.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[test]
fn files_are_written_read_cut_renamed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let r = reactor();
    r.block_on(async {
        let path = dir.path().join("a");
        let file = r.open(&path, NEW).await.unwrap();
        assert_eq!(r.open(&path, NEW).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let bytes = pattern(0, 100_000);
        r.write_at(&file, 10, slice(&bytes)).await.unwrap();
        r.write_now(&file, 0, &slice(b"0123456789")).unwrap();
        r.fdatasync(&file).await.unwrap();
        assert_eq!(r.file_len(&file).await.unwrap(), 100_010);

        let (read, w) = r.read_at(&file, 8, writer(), 50).await;
        assert_eq!((read.unwrap(), w.filled()), (50, 50));
        assert_eq!(&w.slice(0, 2).as_bytes(), b"89");
        assert_eq!(w.slice(2, 50).as_bytes(), &bytes[..48]);
        let (read, w) = r.read_at(&file, 100_000, w, 50).await;
        assert_eq!(read.unwrap(), 10, "a read is short at the end of the file only");
        assert_eq!(w.slice(50, 60).as_bytes(), &bytes[99_990..]);

        r.truncate(&file, 5).await.unwrap();
        assert_eq!(r.file_len(&file).await.unwrap(), 5);
        r.allocate(&file, 8192).await.unwrap();
        assert_eq!(r.file_len(&file).await.unwrap(), 8192);
        r.fsync(&file).await.unwrap();

        let sub = dir.path().join("sub");
        r.create_dir(&sub).await.unwrap();
        r.rename(&path, &sub.join("b")).await.unwrap();
        r.sync_dir(&sub).await.unwrap();
        r.sync_dir(dir.path()).await.unwrap();
        let names = |path: &Path| -> Vec<(String, bool)> {
            let entries = r.list_dir(path).unwrap();
            entries.into_iter().map(|e| (e.name.into_string().unwrap(), e.is_dir)).collect()
        };
        assert_eq!(names(dir.path()), [("sub".to_owned(), true)]);
        assert_eq!(names(&sub), [("b".to_owned(), false)]);
        assert_eq!(r.remove_dir(&sub).await.unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        r.remove_file(&sub.join("b")).await.unwrap();
        r.remove_dir(&sub).await.unwrap();
        assert_eq!(r.open(&path, Open::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(r.sync_dir(&sub).await.unwrap_err().kind(), ErrorKind::NotFound);
        let nul = dir.path().join("a\0b");
        assert_eq!(r.open(&nul, NEW).await.unwrap_err().kind(), ErrorKind::InvalidFilename);
    });
}

#[test]
fn direct_files_keep_bytes_and_refuse_misaligned_transfers() {
    let dir = tempfile::tempdir().unwrap();
    let r = reactor();
    r.block_on(async {
        let file = r.open(&dir.path().join("d"), NEW_DIRECT).await.unwrap();
        let bytes = pattern(0, 64 * BLOCK_BYTES);
        r.write_at(&file, BLOCK_BYTES as u64, slice(&bytes)).await.unwrap();
        r.fdatasync(&file).await.unwrap();
        let (read, w) = r.read_at(&file, 0, writer(), CHUNK).await;
        assert_eq!(read.unwrap(), 65 * BLOCK_BYTES);
        assert_eq!(w.slice(BLOCK_BYTES, 65 * BLOCK_BYTES).as_bytes(), &bytes);
        let misaligned = r.write_at(&file, 100, slice(&bytes)).await;
        assert_eq!(misaligned.unwrap_err().kind(), ErrorKind::InvalidInput);
        // A file whose length is no multiple of the block is read to its end.
        r.truncate(&file, BLOCK_BYTES as u64 + 100).await.unwrap();
        let (read, _) = r.read_at(&file, 0, writer(), CHUNK).await;
        assert_eq!(read.unwrap(), BLOCK_BYTES + 100);
    });
}

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

async fn echo(r: Reactor, socket: Socket) {
    let mut buf = BytesMut::with_capacity(4096);
    let mut out = SendBuf::default();
    loop {
        buf.reserve(1024);
        let (received, back) = r.recv(&socket, buf).await;
        buf = back;
        if received.is_err() || received.is_ok_and(|n| n == 0) {
            return;
        }
        out.clear();
        out.head.extend_from_slice(&buf);
        out.parts.push(Part::Head(0..buf.len()));
        buf.clear();
        let (sent, back) = r.send(&socket, out).await;
        out = back;
        if sent.is_err() {
            return;
        }
    }
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
    let crate::io::SocketOf::Ring(socket) = &socket.0;
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
            let head = start..buf.head.len();
            let slice = bytes.part(i * 100, i * 100 + 3000 + i % 7);
            expected.extend_from_slice(&buf.head[head.clone()]);
            expected.extend_from_slice(slice.as_bytes());
            buf.parts.push(Part::Head(head));
            buf.parts.push(Part::Slice(slice));
        }
        assert_eq!(buf.len(), expected.len());
        let (sent, mut buf) = r.send(&socket, buf).await;
        sent.unwrap();
        assert_eq!(buf.parts.len(), 2 * PIECES, "what was sent comes back");
        buf.clear();
        assert!(buf.is_empty());
        // Nothing to send is sent at once.
        r.send(&socket, buf).await.0.unwrap();
    });
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn shutdown_ends_a_receive_and_a_send_that_wait() {
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let client = TcpStream::connect(listener.local_addr()).unwrap();
    r.block_on(async {
        let (socket, _) = r.accept(&listener).await.unwrap();
        let ended = Rc::new(Cell::new(0));
        let done = Notify::new();
        let (r2, s2, ended2, done2) = (r.clone(), socket.clone(), ended.clone(), done.clone());
        r.spawn(async move {
            let (received, _) = r2.recv(&s2, BytesMut::with_capacity(10)).await;
            assert_eq!(received.unwrap(), 0);
            ended2.set(ended2.get() + 1);
            done2.notify();
        });
        let (r2, s2, ended2, done2) = (r.clone(), socket.clone(), ended.clone(), done.clone());
        r.spawn(async move {
            let bytes = slice(&pattern(0, CHUNK));
            let parts = (0..64).map(|_| Part::Slice(bytes.clone())).collect();
            let (sent, back) = r2.send(&s2, SendBuf { head: Vec::new(), parts }).await;
            assert!(sent.is_err(), "the client never reads");
            assert_eq!(back.parts.len(), 64);
            ended2.set(ended2.get() + 1);
            done2.notify();
        });
        // Both are in flight after a turn.
        r.end_of_turn().await;
        r.end_of_turn().await;
        assert_eq!(ended.get(), 0);
        r.shutdown(&socket);
        while ended.get() < 2 {
            done.wait().await;
        }
    });
    drop(client);
}

#[test]
fn a_dropped_receive_is_cancelled_and_the_socket_closes() {
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let mut client = TcpStream::connect(listener.local_addr()).unwrap();
    r.block_on(async {
        let (socket, _) = r.accept(&listener).await.unwrap();
        assert!(poll_once(r.recv(&socket, BytesMut::with_capacity(10))).await.is_none());
        r.end_of_turn().await;
    });
    // The socket's only owner was the receive, which has been cancelled: the client sees the end of the stream.
    let reader = thread::spawn(move || client.read(&mut [0; 10]).unwrap());
    r.block_on(async {
        while !reader.is_finished() {
            r.end_of_turn().await;
        }
    });
    assert_eq!(reader.join().unwrap(), 0);
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
    let count = ACCEPT_QUEUE + 50;
    let clients = r.block_on(async {
        // Armed by an accept that nobody waits for.
        assert!(poll_once(r.accept(&listener)).await.is_none());
        r.end_of_turn().await;
        let connecting =
            thread::spawn(move || (0..count).map(|_| TcpStream::connect(addr).unwrap()).collect::<Vec<_>>());
        while !connecting.is_finished() {
            r.end_of_turn().await;
        }
        connecting.join().unwrap()
    });
    let accepted = r.block_on(async {
        let mut accepted = Vec::new();
        for _ in 0..count {
            accepted.push(r.accept(&listener).await.unwrap());
        }
        accepted
    });
    assert_eq!(accepted.len(), clients.len());
    // Dropped with its accept in flight, a listener refuses.
    drop(listener);
    r.block_on(async {
        while TcpStream::connect(addr).is_ok() {
            r.end_of_turn().await;
        }
    });
}

#[test]
fn connecting_and_a_refused_connection() {
    let r = reactor();
    let listener = r.listen(LOCAL, false).unwrap();
    let addr = listener.local_addr();
    r.block_on(async {
        let client = r.connect(addr).await.unwrap();
        let (server, _) = r.accept(&listener).await.unwrap();
        r.spawn(echo(r.clone(), server));
        let sent = SendBuf { head: b"ping".to_vec(), parts: vec![Part::Head(0..4)] };
        r.send(&client, sent).await.0.unwrap();
        let (received, buf) = r.recv(&client, BytesMut::with_capacity(10)).await;
        assert_eq!((received.unwrap(), &buf[..]), (4, &b"ping"[..]));
        // A receive appends.
        let sent = SendBuf { head: b"pong".to_vec(), parts: vec![Part::Head(0..4)] };
        r.send(&client, sent).await.0.unwrap();
        let (received, buf) = r.recv(&client, buf).await;
        assert_eq!((received.unwrap(), &buf[..]), (4, &b"pingpong"[..]));
        drop(client);
    });
    r.run();
    drop(listener);
    r.block_on(async {
        r.end_of_turn().await;
        loop {
            match r.connect(addr).await {
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => break,
                other => drop(other),
            }
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
