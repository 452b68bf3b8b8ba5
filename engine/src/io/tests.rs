//! What both sides of the seam must do alike: each test runs on the ring and in a simulated world.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::BytesMut;

use super::sim::{Sim, SimConfig};
use super::{Io, Open, Part, SendBuf, Socket};
use crate::cache::{ChunkPool, ChunkWriter, Slice};
use crate::limits::BLOCK_BYTES;
use crate::reactor::{Notify, Reactor};

pub(super) const CHUNK: usize = 1 << 20;
pub(super) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
pub(super) const NEW: Open = Open { direct: false, create: false, create_new: true, write: true };
pub(super) const NEW_DIRECT: Open = Open { direct: true, ..NEW };

/// Runs a test with an empty directory, on the ring and in simulated worlds: a smooth one, and rough ones in which
/// transfers are cut short and operations stall.
fn everywhere(test: impl AsyncFn(Reactor, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let r = ring_reactor();
    r.block_on(test(r.clone(), dir.path()));
    r.drop_tasks();
    for seed in 0..20 {
        let rough = if seed == 0 { 0 } else { 500_000 };
        let config = SimConfig { seed, short_transfer: rough, stall: rough, ..SimConfig::default() };
        let r = Reactor::new(Sim::new(config).io());
        r.block_on(test(r.clone(), Path::new("/")));
        r.drop_tasks();
    }
}

pub(super) fn ring_reactor() -> Reactor {
    Reactor::new(Io::ring().expect("tests need io_uring"))
}

pub(super) fn writer() -> ChunkWriter {
    ChunkPool::new(CHUNK, 2 * CHUNK).take().expect("a fresh pool")
}

/// Bytes that tell at which position they belong.
pub(super) fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|i| (i * 7 + i / 251) as u8).collect()
}

pub(super) fn slice(bytes: &[u8]) -> Slice {
    let chunk = bytes.len().next_multiple_of(BLOCK_BYTES);
    ChunkPool::new(chunk, 2 * chunk).take().expect("a fresh pool").append(bytes)
}

pub(super) fn head(bytes: &[u8]) -> SendBuf {
    SendBuf { head: bytes.to_vec(), parts: vec![Part::Head(0..bytes.len())] }
}

/// Polls a future once and drops it.
pub(super) async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Sends back what it receives, until the end.
pub(super) async fn echo(r: Reactor, socket: Socket) {
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

/// Receives exactly `len` bytes.
pub(super) async fn receive(r: &Reactor, socket: &Socket, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let (received, buf) = r.recv(socket, BytesMut::with_capacity(len - all.len())).await;
        assert!(received.unwrap() > 0, "the stream ended after {} of {len} bytes", all.len());
        let most = len - all.len();
        all.extend_from_slice(&buf[..buf.len().min(most)]);
    }
    all
}

#[test]
fn files_are_written_read_cut_renamed_and_removed() {
    everywhere(async |r, dir| {
        let path = dir.join("a");
        let file = r.open(&path, NEW).await.unwrap();
        assert_eq!(r.open(&path, NEW).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let bytes = pattern(0, 100_000);
        r.write_at(&file, 10, slice(&bytes)).await.unwrap();
        r.write_now(&file, 0, &slice(b"0123456789")).unwrap();
        r.fdatasync(&file).await.unwrap();
        assert_eq!(r.file_len(&file).await.unwrap(), 100_010);

        let (read, w) = r.read_at(&file, 8, writer(), 50).await;
        assert_eq!((read.unwrap(), w.filled()), (50, 50));
        assert_eq!(w.slice(0, 2).as_bytes(), b"89");
        assert_eq!(w.slice(2, 50).as_bytes(), &bytes[..48]);
        let (read, w) = r.read_at(&file, 100_000, w, 50).await;
        assert_eq!(read.unwrap(), 10, "a read is short at the end of the file only");
        assert_eq!(w.slice(50, 60).as_bytes(), &bytes[99_990..]);
        let (read, _) = r.read_at(&file, 200_000, w, 50).await;
        assert_eq!(read.unwrap(), 0);

        r.truncate(&file, 5).await.unwrap();
        assert_eq!(r.file_len(&file).await.unwrap(), 5);
        r.allocate(&file, 8192).await.unwrap();
        assert_eq!(r.file_len(&file).await.unwrap(), 8192);
        r.allocate(&file, 10).await.unwrap();
        assert_eq!(r.file_len(&file).await.unwrap(), 8192, "allocating does not cut");
        r.fsync(&file).await.unwrap();
        let (read, w) = r.read_at(&file, 0, writer(), 10).await;
        assert_eq!((read.unwrap(), w.slice(0, 10).as_bytes()), (10, &b"01234\0\0\0\0\0"[..]));

        let read_only = r.open(&path, Open::default()).await.unwrap();
        assert!(r.write_at(&read_only, 0, slice(b"x")).await.is_err());
    });
}

#[test]
fn names_are_listed_renamed_and_removed() {
    everywhere(async |r, dir| {
        let names = |path: &Path| -> Vec<(String, bool)> {
            let entries = r.list_dir(path).unwrap();
            entries.into_iter().map(|e| (e.name.into_string().unwrap(), e.is_dir)).collect()
        };
        let sub = dir.join("sub");
        r.create_dir(&sub).await.unwrap();
        assert_eq!(r.create_dir(&sub).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        r.open(&sub.join("b"), NEW).await.unwrap();
        r.open(&sub.join("a"), NEW).await.unwrap();
        assert_eq!(names(dir), [("sub".to_owned(), true)]);
        assert_eq!(names(&sub), [("a".to_owned(), false), ("b".to_owned(), false)]);

        r.rename(&sub.join("b"), &sub.join("c")).await.unwrap();
        r.rename(&sub.join("a"), &sub.join("c")).await.unwrap();
        assert_eq!(names(&sub), [("c".to_owned(), false)], "a rename replaces a file");
        assert_eq!(r.rename(&sub.join("a"), &sub.join("d")).await.unwrap_err().kind(), ErrorKind::NotFound);
        r.rename(&sub, &dir.join("bus")).await.unwrap();
        let sub = dir.join("bus");
        r.sync_dir(&sub).await.unwrap();
        r.sync_dir(dir).await.unwrap();

        assert_eq!(r.remove_dir(&sub).await.unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        assert!(r.remove_file(&sub).await.is_err(), "a directory is no file");
        assert!(r.remove_dir(&sub.join("c")).await.is_err(), "a file is no directory");
        r.remove_file(&sub.join("c")).await.unwrap();
        r.remove_dir(&sub).await.unwrap();
        assert_eq!(names(dir), []);
        assert_eq!(r.open(&sub, Open::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(r.open(&sub.join("c"), NEW).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(r.sync_dir(&sub).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(r.list_dir(&sub).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn direct_files_keep_bytes_and_refuse_misaligned_transfers() {
    everywhere(async |r, dir| {
        let file = r.open(&dir.join("d"), NEW_DIRECT).await.unwrap();
        let bytes = pattern(0, 64 * BLOCK_BYTES);
        r.write_at(&file, BLOCK_BYTES as u64, slice(&bytes)).await.unwrap();
        r.fdatasync(&file).await.unwrap();
        let (read, w) = r.read_at(&file, 0, writer(), CHUNK).await;
        assert_eq!(read.unwrap(), 65 * BLOCK_BYTES);
        assert!(w.slice(BLOCK_BYTES, 65 * BLOCK_BYTES).as_bytes() == bytes);
        let misaligned = r.write_at(&file, 100, slice(&bytes)).await;
        assert_eq!(misaligned.unwrap_err().kind(), ErrorKind::InvalidInput);
        let (misaligned, _) = r.read_at(&file, 100, writer(), BLOCK_BYTES).await;
        assert_eq!(misaligned.unwrap_err().kind(), ErrorKind::InvalidInput);
        // A file whose length is no multiple of the block is read to its end.
        r.truncate(&file, BLOCK_BYTES as u64 + 100).await.unwrap();
        let (read, _) = r.read_at(&file, 0, writer(), CHUNK).await;
        assert_eq!(read.unwrap(), BLOCK_BYTES + 100);
    });
}

#[test]
fn a_removed_file_lives_until_it_is_closed() {
    everywhere(async |r, dir| {
        let file = r.open(&dir.join("f"), NEW).await.unwrap();
        r.remove_file(&dir.join("f")).await.unwrap();
        r.write_at(&file, 0, slice(b"still here")).await.unwrap();
        let (read, w) = r.read_at(&file, 0, writer(), 10).await;
        assert_eq!((read.unwrap(), w.slice(0, 10).as_bytes()), (10, &b"still here"[..]));
    });
}

#[test]
fn a_dropped_write_is_made_all_the_same() {
    everywhere(async |r, dir| {
        let file = r.open(&dir.join("f"), NEW).await.unwrap();
        assert!(poll_once(r.write_at(&file, 0, slice(b"x"))).await.is_none());
        while r.file_len(&file).await.unwrap() == 0 {
            r.end_of_turn().await;
        }
        let (read, w) = r.read_at(&file, 0, writer(), 10).await;
        assert_eq!((read.unwrap(), w.slice(0, 1).as_bytes()), (1, &b"x"[..]));
    });
}

#[test]
fn connections_are_made_echoed_and_refused() {
    everywhere(async |r, _| {
        let listener = r.listen(LOCAL, false).unwrap();
        let addr = listener.local_addr();
        assert_ne!(addr.port(), 0);
        assert_eq!(r.listen(addr, false).unwrap_err().kind(), ErrorKind::AddrInUse);
        let finished = Rc::new(Cell::new(0));
        let done = Notify::new();
        for i in 0..20 {
            let (r2, finished, done) = (r.clone(), finished.clone(), done.clone());
            r.spawn(async move {
                let socket = r2.connect(addr).await.unwrap();
                for round in 0..10 {
                    let bytes = pattern(i * 1000 + round, 1 + round * 500);
                    r2.send(&socket, head(&bytes)).await.0.unwrap();
                    assert!(receive(&r2, &socket, bytes.len()).await == bytes);
                }
                drop(socket);
                finished.set(finished.get() + 1);
                done.notify();
            });
        }
        for _ in 0..20 {
            let (socket, peer) = r.accept(&listener).await.unwrap();
            assert!(peer.ip().is_loopback());
            r.spawn(echo(r.clone(), socket));
        }
        while finished.get() < 20 {
            done.wait().await;
        }
        drop(listener);
        loop {
            match r.connect(addr).await {
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => break,
                other => drop(other),
            }
        }
    });
}

#[test]
fn a_large_send_waits_for_its_reader() {
    everywhere(async |r, _| {
        let listener = r.listen(LOCAL, false).unwrap();
        let client = r.connect(listener.local_addr()).await.unwrap();
        let (server, _) = r.accept(&listener).await.unwrap();
        let bytes = slice(&pattern(0, CHUNK));
        let sent = Rc::new(Cell::new(false));
        let (r2, sent2, bytes2) = (r.clone(), sent.clone(), bytes.clone());
        r.spawn(async move {
            // More than any socket buffer holds.
            let parts = (0..16).map(|_| Part::Slice(bytes2.clone())).collect();
            let (result, back) = r2.send(&server, SendBuf { head: Vec::new(), parts }).await;
            result.unwrap();
            assert_eq!(back.parts.len(), 16);
            sent2.set(true);
        });
        for _ in 0..5 {
            r.end_of_turn().await;
        }
        assert!(!sent.get());
        for _ in 0..16 {
            assert!(receive(&r, &client, CHUNK).await == bytes.as_bytes());
        }
        // The server's only handle is dropped with its task: the stream ends.
        let (received, _) = r.recv(&client, BytesMut::with_capacity(10)).await;
        assert_eq!(received.unwrap(), 0);
        assert!(sent.get());
    });
}

#[test]
fn shutdown_ends_a_receive_and_a_send_that_wait() {
    everywhere(async |r, _| {
        let listener = r.listen(LOCAL, false).unwrap();
        let client = r.connect(listener.local_addr()).await.unwrap();
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
        for _ in 0..5 {
            r.end_of_turn().await;
        }
        assert_eq!(ended.get(), 0);
        r.shutdown(&socket);
        while ended.get() < 2 {
            done.wait().await;
        }
        assert!(r.send(&socket, head(b"late")).await.0.is_err());
        drop(client);
    });
}

#[test]
fn a_dropped_receive_is_cancelled_and_its_socket_closes() {
    everywhere(async |r, _| {
        let listener = r.listen(LOCAL, false).unwrap();
        let client = r.connect(listener.local_addr()).await.unwrap();
        let (socket, _) = r.accept(&listener).await.unwrap();
        assert!(poll_once(r.recv(&socket, BytesMut::with_capacity(10))).await.is_none());
        // The receive is now the socket's only owner.
        drop(socket);
        let (received, _) = r.recv(&client, BytesMut::with_capacity(10)).await;
        assert_eq!(received.unwrap(), 0);
    });
}
