//! The loop on a bare ring, without an executor: what the executor costs, and whether a multishot receive into a ring of
//! provided buffers is better than a receive at a time into the connection's own buffer.
#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::Sender;

use io_uring::types::BufRingEntry;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use crate::load::Case;
use crate::work::{Served, Work, frame_len, make_room};

/// How bytes are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    /// One receive at a time, into the connection's buffer.
    Single,
    /// Multishot, into provided buffers.
    Multi,
    /// As `Multi`, and one completion may fill several buffers.
    Bundle,
}

/// `IORING_RECVSEND_POLL_FIRST` (linux/io_uring.h).
const POLL_FIRST: u16 = 1 << 0;

const GROUP: u16 = 0;
/// All provided buffers together.
const PIECES_BYTES: usize = 4 << 20;

const LISTENING: u64 = u64::MAX;
const RECEIVE: u64 = 0;
const SEND: u64 = 1;

struct Connection {
    stream: TcpStream,
    buf: Vec<u8>,
    used: usize,
    nonempty: bool,
    /// Answers that are being sent, and those that follow.
    sending: Vec<u8>,
    sent: usize,
    in_flight: bool,
    out: Vec<u8>,
    receiving: bool,
    ended: bool,
}

struct Server {
    connections: Vec<Connection>,
    pieces: Option<Pieces>,
    how: Receive,
    capacity: usize,
    work: Work,
    queue: Vec<squeue::Entry>,
    /// Connections that this turn's completions concern.
    dirty: Vec<usize>,
    left: usize,
}

/// Serves until every connection has ended.
pub(crate) fn serve(case: Case, how: Receive, work: Work, ready: &Sender<SocketAddr>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    ready.send(listener.local_addr().expect("a bound socket")).expect("the load generator waits for it");
    // As the broker's ring is set up.
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(16 << 10).setup_clamp().setup_submit_all();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut ring: IoUring = builder.build(2048).expect("io_uring");
    let mut server = Server {
        connections: Vec::new(),
        pieces: None,
        how,
        capacity: case.receive_bytes,
        work,
        queue: Vec::new(),
        dirty: Vec::new(),
        left: case.connections,
    };
    if how != Receive::Single {
        let pieces = Pieces::new(case.piece_bytes);
        // SAFETY: the memory lives in `server`, which is dropped after `ring`'s operations have ended: every connection has
        // seen its last receive when the loop below ends, and nothing else uses the group.
        let registered = unsafe {
            ring.submitter().register_buf_ring_with_flags(pieces.entries.as_ptr() as u64, pieces.count, GROUP, 0)
        };
        registered.expect("a buffer ring");
        server.pieces = Some(pieces);
    }
    server.queue.push(opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(LISTENING));
    let mut completions = Vec::with_capacity(1024);
    while server.left > 0 {
        for entry in server.queue.drain(..) {
            // SAFETY: an entry points to a buffer of a connection, which is neither moved nor freed nor touched before its
            // completion: receives and sends of a connection are asked for one at a time, and connections stay until the
            // loop's end.
            while unsafe { ring.submission().push(&entry) }.is_err() {
                ring.submit().expect("room for submissions");
            }
        }
        enter(&mut ring, true);
        loop {
            let before = completions.len();
            completions.extend(ring.completion().map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())));
            // The flag alone does not end the loop: another core sets it after it has queued its work, and when this one
            // takes the work in between, the flag stays set with nothing behind it until more comes.
            if completions.len() == before || !ring.submission().taskrun() {
                break;
            }
            enter(&mut ring, false);
        }
        for (id, result, flags) in completions.drain(..) {
            server.complete(id, result, flags);
        }
        server.flush();
    }
    server.work.measured()
}

fn enter(ring: &mut IoUring, wait: bool) {
    let queued = ring.submission().len() as u32;
    let want = u32::from(wait && ring.completion().is_empty());
    // SAFETY: no argument is passed.
    let entered =
        unsafe { ring.submitter().enter::<types::Timespec>(queued, want, EnterFlags::GETEVENTS.bits(), None) };
    entered.expect("io_uring_enter");
}

impl Server {
    fn complete(&mut self, id: u64, result: i32, flags: u32) {
        if id == LISTENING {
            assert!(result >= 0 && cqueue::more(flags), "accept: {result}");
            return self.accepted(result);
        }
        let at = (id >> 1) as usize;
        assert!(result >= 0 || result == -ENOBUFS, "an operation failed: {result}");
        self.dirty.push(at);
        if id & 1 == SEND {
            let connection = &mut self.connections[at];
            connection.sent += result as usize;
            connection.in_flight = false;
            return;
        }
        let more = cqueue::more(flags);
        let connection = &mut self.connections[at];
        connection.nonempty = cqueue::sock_nonempty(flags);
        connection.receiving = more;
        match (self.how, result) {
            (_, 0) => {
                connection.ended = true;
                self.left -= 1;
            }
            (_, result) if result < 0 => {}
            (Receive::Single, received) => {
                let len = connection.buf.len() + received as usize;
                // SAFETY: the kernel has written so many bytes behind the buffer's length, within its capacity.
                unsafe { connection.buf.set_len(len) };
                connection.used += self.work.answer(&connection.buf[connection.used..], &mut connection.out);
            }
            (_, received) => {
                let first = cqueue::buffer_select(flags).expect("received into a provided buffer");
                self.take_pieces(at, first, received as usize);
            }
        }
    }

    /// Asks for what this turn's completions have left to do: one send per connection for all of its answers.
    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for at in dirty.drain(..) {
            self.send(at);
            self.receive(at);
        }
        self.dirty = dirty;
    }

    fn accepted(&mut self, fd: i32) {
        use std::os::fd::FromRawFd;
        // SAFETY: the kernel has just opened the descriptor for us.
        let stream = unsafe { TcpStream::from_raw_fd(fd) };
        stream.set_nodelay(true).expect("an open socket");
        self.connections.push(Connection {
            stream,
            buf: Vec::with_capacity(self.capacity),
            used: 0,
            nonempty: true,
            sending: Vec::new(),
            sent: 0,
            in_flight: false,
            out: Vec::new(),
            receiving: false,
            ended: false,
        });
        self.dirty.push(self.connections.len() - 1);
    }

    /// Asks for the next bytes, unless that is under way.
    fn receive(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.receiving || connection.ended {
            return;
        }
        connection.receiving = true;
        let fd = types::Fd(connection.stream.as_raw_fd());
        let entry = match self.how {
            Receive::Single => {
                let (len, from) = make_room(&mut connection.buf, connection.used, self.capacity);
                connection.buf.truncate(len);
                connection.used = from;
                let spare = connection.buf.spare_capacity_mut();
                let poll_first = if connection.nonempty { 0 } else { POLL_FIRST };
                opcode::Recv::new(fd, spare.as_mut_ptr().cast(), spare.len() as u32).ioprio(poll_first).build()
            }
            Receive::Multi => opcode::RecvMulti::new(fd, GROUP).build(),
            Receive::Bundle => opcode::RecvMultiBundle::new(fd, GROUP).build(),
        };
        self.queue.push(entry.user_data((at as u64) << 1 | RECEIVE));
    }

    /// Sends what is left of the answers under way, or those that follow.
    fn send(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.in_flight {
            return;
        }
        if connection.sent == connection.sending.len() {
            connection.sending.clear();
            connection.sent = 0;
            if connection.out.is_empty() {
                return;
            }
            std::mem::swap(&mut connection.sending, &mut connection.out);
        }
        connection.in_flight = true;
        let rest = &connection.sending[connection.sent..];
        let fd = types::Fd(connection.stream.as_raw_fd());
        let entry = opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32).flags(MSG_NOSIGNAL).build();
        self.queue.push(entry.user_data((at as u64) << 1 | SEND));
    }

    /// Answers what lies in provided buffers, from `first` on in the order of the ring, and gives them back.
    fn take_pieces(&mut self, at: usize, first: u16, received: usize) {
        let connection = &mut self.connections[at];
        let pieces = self.pieces.as_mut().expect("made with the ring");
        let mut piece = first;
        let mut left = received;
        loop {
            let next = pieces.behind(piece);
            let mut bytes = &pieces.bytes(piece)[..left.min(pieces.piece_bytes)];
            left -= bytes.len();
            // A request that began in an earlier piece is put together first.
            while !connection.buf.is_empty() && !bytes.is_empty() {
                let have = connection.buf.len();
                let wanted = if have < 4 { 4 } else { frame_len(&connection.buf).expect("the length is there") };
                let (missing, rest) = bytes.split_at((wanted - have).min(bytes.len()));
                connection.buf.extend_from_slice(missing);
                bytes = rest;
                if have >= 4 && self.work.answer(&connection.buf, &mut connection.out) > 0 {
                    connection.buf.clear();
                }
            }
            let used = self.work.answer(bytes, &mut connection.out);
            connection.buf.extend_from_slice(&bytes[used..]);
            pieces.give_back(piece);
            if left == 0 {
                return;
            }
            piece = next;
        }
    }
}

const ENOBUFS: i32 = 105;
const MSG_NOSIGNAL: i32 = 0x4000;

/// The provided buffers and the ring that offers them to the kernel.
struct Pieces {
    entries: NonNull<BufRingEntry>,
    count: u16,
    piece_bytes: usize,
    memory: NonNull<u8>,
    /// By place in the ring: the buffer that was put there last; and by buffer, its place.
    at_place: Vec<u16>,
    place_of: Vec<u16>,
    /// Buffers given so far.
    tail: u16,
}

impl Pieces {
    fn new(piece_bytes: usize) -> Pieces {
        let count = (PIECES_BYTES / piece_bytes) as u16;
        assert!(count.is_power_of_two());
        // SAFETY: neither layout is empty. Zeroed, so that no byte is ever uninitialised.
        let (entries, memory) =
            unsafe { (alloc::alloc_zeroed(ring_layout(count)), alloc::alloc_zeroed(memory_layout())) };
        let mut pieces = Pieces {
            entries: NonNull::new(entries.cast()).expect("memory for a ring"),
            memory: NonNull::new(memory).expect("memory for buffers"),
            count,
            piece_bytes,
            at_place: vec![0; count.into()],
            place_of: vec![0; count.into()],
            tail: 0,
        };
        for piece in 0..count {
            pieces.give_back(piece);
        }
        pieces
    }

    /// The buffer that lies behind `piece` in the ring.
    fn behind(&self, piece: u16) -> u16 {
        self.at_place[usize::from((self.place_of[usize::from(piece)] + 1) & (self.count - 1))]
    }

    fn bytes(&self, piece: u16) -> &[u8] {
        // SAFETY: the range lies in the memory, and the kernel has handed the buffer back to us.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.add(usize::from(piece) * self.piece_bytes).as_ptr(),
                self.piece_bytes,
            )
        }
    }

    /// Offers a buffer to the kernel.
    fn give_back(&mut self, piece: u16) {
        let place = self.tail & (self.count - 1);
        self.at_place[usize::from(place)] = piece;
        self.place_of[usize::from(piece)] = place;
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the place lies in the ring, which has as many places as there are buffers, so the kernel is done with
        // what was there. The fields are written one by one: the first place shares its bytes with the tail.
        unsafe {
            let entry = &mut *self.entries.add(place.into()).as_ptr();
            entry.set_addr(self.memory.add(usize::from(piece) * self.piece_bytes).as_ptr() as u64);
            entry.set_len(self.piece_bytes as u32);
            entry.set_bid(piece);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts.
        unsafe {
            alloc::dealloc(self.entries.as_ptr().cast(), ring_layout(self.count));
            alloc::dealloc(self.memory.as_ptr(), memory_layout());
        }
    }
}

fn ring_layout(count: u16) -> Layout {
    // The kernel wants a page's alignment.
    Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), 4096).expect("a small ring")
}

fn memory_layout() -> Layout {
    Layout::from_size_align(PIECES_BYTES, 4096).expect("a constant")
}
