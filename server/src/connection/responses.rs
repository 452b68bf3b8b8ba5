//! The responses of one connection, in the order of its requests.
//!
//! A response is either *ready*, with a gate: the commit of this core that must be durable before it may leave. Or it is
//! *waiting*: a long poll, a read from disk, or work of another core completes it later. Whatever stands behind a
//! response that cannot leave yet stays behind it.
//!
//! ```text
//! entries  │ inline 3 requests, gate 17 │ waiting │ inline 1, gate 18 │ whole, gate 0 │ close │
//!          └──────────────┐                       ┌────┘
//! arena    │ sent ........│ 3 responses, 171 bytes│ 57 bytes │
//! ```
//!
//! Small responses that are ready at once are encoded one behind the other into the arena, and neighbours that wait for
//! the same commit share an entry, so that a run of produce requests costs no allocation and leaves as one piece. A
//! response that was completed later brings its own bytes.

use std::collections::VecDeque;

use engine::cache::Slice;
use engine::io::{Part, SendBuf};

use crate::limits::KEPT_BYTES;

/// A commit of this core, as [`engine::Appended::seq`]. Zero is durable from the start.
pub type Gate = u64;

/// Names a response that is completed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// A response with its length in front: bytes of its own, and pieces of the log between them.
#[derive(Debug, Default)]
pub struct Reply {
    /// Everything but records.
    pub head: Vec<u8>,
    /// Records, each with the number of bytes of `head` that come before it, ascending.
    pub slices: Vec<(usize, Slice)>,
}

impl Reply {
    /// Length on the wire, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.slices.iter().map(|(_, slice)| slice.len()).sum::<usize>()
    }

    /// True when there is nothing to send: the request wanted no response.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.slices.is_empty()
    }
}

impl From<Vec<u8>> for Reply {
    fn from(head: Vec<u8>) -> Reply {
        Reply { head, slices: Vec::new() }
    }
}

/// What keeps the first response from leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// There is none.
    Empty,
    /// It is not complete.
    Waiting,
    /// It waits for this commit, or for none if it is zero.
    Gated(Gate),
}

/// What [`Responses::take`] took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes put into the send buffer.
    pub bytes: usize,
    /// The connection ends after these bytes.
    pub close: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Responses {
    entries: VecDeque<Entry>,
    /// Number of the first entry. Entries are numbered from 0 in the order in which they were made.
    first: u64,
    arena: Vec<u8>,
    /// Bytes of the arena that have been taken.
    taken: usize,
    unsent_bytes: usize,
    requests: usize,
    closes: bool,
}

#[derive(Debug)]
struct Entry {
    state: State,
    gate: Gate,
    requests: usize,
}

#[derive(Debug)]
enum State {
    /// The next bytes of the arena.
    Inline(usize),
    Whole(Reply),
    Waiting,
    Close,
}

impl Responses {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Responses {
        Responses::default()
    }

    /// Requests that have no response on its way yet.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// Bytes of responses which are ready and have not been taken.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Where a response that is ready at once is encoded: the caller appends it, its length in front, and then calls
    /// [`Open::seal`]. Nothing else may be done with the queue in between.
    pub fn open(&mut self) -> Open<'_> {
        let start = self.arena.len();
        Open { responses: self, start }
    }

    /// Queues a response that is ready and waits for no commit.
    pub fn push(&mut self, reply: Reply) {
        let ticket = self.reserve();
        self.complete(ticket, 0, reply);
    }

    /// Holds the place of a response that is completed later.
    pub fn reserve(&mut self) -> Ticket {
        self.requests += 1;
        self.entries.push_back(Entry { state: State::Waiting, gate: 0, requests: 1 });
        Ticket(self.first + self.entries.len() as u64 - 1)
    }

    /// Completes a response. An empty reply takes the place out of the queue.
    pub fn complete(&mut self, ticket: Ticket, gate: Gate, reply: Reply) {
        self.unsent_bytes += reply.len();
        let entry = self.waiting(ticket);
        entry.state = State::Whole(reply);
        entry.gate = gate;
    }

    /// Ends the connection in place of a response.
    pub fn complete_with_close(&mut self, ticket: Ticket) {
        self.closes = true;
        self.waiting(ticket).state = State::Close;
    }

    /// Ends the connection after all responses so far.
    pub fn close(&mut self) {
        self.closes = true;
        self.entries.push_back(Entry { state: State::Close, gate: 0, requests: 0 });
    }

    /// True when the queue ends the connection at some point.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// What the first response waits for.
    #[must_use]
    pub fn front(&self) -> Front {
        match self.entries.front() {
            None => Front::Empty,
            Some(Entry { state: State::Waiting, .. }) => Front::Waiting,
            Some(entry) => Front::Gated(entry.gate),
        }
    }

    /// Moves to `out` what may leave once `committed` is durable, up to the response that reaches `limit` bytes.
    pub fn take(&mut self, committed: Gate, limit: usize, out: &mut SendBuf) -> Taken {
        let mut bytes = 0;
        let mut close = false;
        while bytes < limit && !close {
            match self.entries.front() {
                Some(Entry { state: State::Waiting, .. }) | None => break,
                Some(entry) if entry.gate > committed => break,
                Some(_) => {}
            }
            let Some(entry) = self.entries.pop_front() else { break };
            self.first += 1;
            self.requests -= entry.requests;
            match entry.state {
                State::Inline(len) => {
                    let end = self.taken + len;
                    push_head(out, &self.arena[self.taken..end]);
                    self.taken = end;
                    bytes += len;
                }
                State::Whole(reply) => {
                    bytes += reply.len();
                    push_reply(out, reply);
                }
                State::Close => close = true,
                State::Waiting => unreachable!("a waiting response is not taken"),
            }
        }
        self.unsent_bytes -= bytes;
        self.trim();
        Taken { bytes, close }
    }

    fn waiting(&mut self, ticket: Ticket) -> &mut Entry {
        let entry = &mut self.entries[(ticket.0 - self.first) as usize];
        assert!(matches!(entry.state, State::Waiting), "a response is completed once");
        entry
    }

    fn push_inline(&mut self, len: usize, gate: Gate) {
        self.requests += 1;
        self.unsent_bytes += len;
        // Behind a response with a later gate this one has to wait for that gate anyway.
        if let Some(Entry { state: State::Inline(bytes), gate: before, requests }) = self.entries.back_mut()
            && *before >= gate
        {
            *bytes += len;
            *requests += 1;
        } else {
            self.entries.push_back(Entry { state: State::Inline(len), gate, requests: 1 });
        }
    }

    /// Drops taken bytes of the arena when they are the larger part of it, so that each byte is moved once at most.
    fn trim(&mut self) {
        if self.taken == self.arena.len() {
            self.arena.clear();
            self.arena.shrink_to(KEPT_BYTES);
            self.taken = 0;
        } else if self.taken > self.arena.len() / 2 {
            self.arena.drain(..self.taken);
            self.taken = 0;
        }
    }
}

/// A response being encoded into the arena. Dropped without [`Open::seal`], it leaves nothing behind.
#[derive(Debug)]
pub struct Open<'a> {
    responses: &'a mut Responses,
    start: usize,
}

impl Open<'_> {
    /// Where to append the response.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.responses.arena
    }

    /// Bytes of the arena in front of the response.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Takes the encoded bytes out again, for a response that cannot be finished now.
    #[must_use]
    pub fn take(self) -> Vec<u8> {
        self.responses.arena.split_off(self.start)
    }

    /// Queues the response, which leaves after commit `gate`.
    pub fn seal(self, gate: Gate) {
        let len = self.responses.arena.len() - self.start;
        self.responses.push_inline(len, gate);
        std::mem::forget(self);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.responses.arena.truncate(self.start);
    }
}

fn push_head(out: &mut SendBuf, bytes: &[u8]) {
    let start = out.head.len();
    out.head.extend_from_slice(bytes);
    let end = out.head.len();
    match out.parts.last_mut() {
        Some(Part::Head(last)) if last.end == start => last.end = end,
        _ => out.parts.push(Part::Head(start..end)),
    }
}

fn push_reply(out: &mut SendBuf, reply: Reply) {
    let mut at = 0;
    for (before, slice) in reply.slices {
        if before > at {
            push_head(out, &reply.head[at..before]);
            at = before;
        }
        out.parts.push(Part::Slice(slice));
    }
    if at < reply.head.len() {
        push_head(out, &reply.head[at..]);
    }
}

#[cfg(test)]
mod tests {
    use engine::cache::ChunkPool;

    use super::*;

    fn push(q: &mut Responses, bytes: &[u8], gate: Gate) {
        let mut open = q.open();
        open.out().extend_from_slice(bytes);
        open.seal(gate);
    }

    /// What leaves when `committed` is durable, flattened, and whether the connection ends.
    fn take(q: &mut Responses, committed: Gate) -> (Vec<u8>, bool) {
        let mut out = SendBuf::default();
        let taken = q.take(committed, usize::MAX, &mut out);
        assert_eq!(out.len(), taken.bytes);
        let mut flat = Vec::new();
        for part in &out.parts {
            match part {
                Part::Head(range) => flat.extend_from_slice(&out.head[range.clone()]),
                Part::Slice(slice) => flat.extend_from_slice(slice.as_bytes()),
            }
        }
        (flat, taken.close)
    }

    #[test]
    fn nothing_leaves_before_its_commit() {
        let mut q = Responses::new();
        push(&mut q, b"a", 0);
        push(&mut q, b"b", 5);
        push(&mut q, b"c", 5);
        push(&mut q, b"d", 6);
        assert_eq!((q.requests(), q.unsent_bytes()), (4, 4));
        assert_eq!(take(&mut q, 4).0, b"a");
        assert_eq!(q.front(), Front::Gated(5));
        assert_eq!(take(&mut q, 5).0, b"bc");
        push(&mut q, b"e", 6);
        assert_eq!(take(&mut q, 5).0, b"");
        assert_eq!(take(&mut q, 7).0, b"de");
        assert_eq!((q.requests(), q.unsent_bytes(), q.front()), (0, 0, Front::Empty));
    }

    #[test]
    fn neighbours_of_one_commit_share_an_entry() {
        let mut q = Responses::new();
        for _ in 0..10 {
            push(&mut q, b"x", 3);
        }
        push(&mut q, b"y", 0);
        assert_eq!(q.entries.len(), 1);
        assert_eq!(q.requests(), 11);
        let mut out = SendBuf::default();
        q.take(3, usize::MAX, &mut out);
        assert_eq!(out.parts.len(), 1);
    }

    #[test]
    fn a_waiting_response_holds_back_what_follows() {
        let mut q = Responses::new();
        push(&mut q, b"a", 0);
        let first = q.reserve();
        push(&mut q, b"b", 0);
        let second = q.reserve();
        push(&mut q, b"c", 2);
        q.complete(second, 0, b"2".to_vec().into());
        assert_eq!(take(&mut q, 9).0, b"a");
        assert_eq!(q.front(), Front::Waiting);
        q.complete(first, 10, b"1".to_vec().into());
        assert_eq!(q.front(), Front::Gated(10));
        assert_eq!(take(&mut q, 9).0, b"");
        assert_eq!(take(&mut q, 10).0, b"1b2c");
        assert_eq!(q.requests(), 0);
    }

    #[test]
    fn an_empty_reply_leaves_the_queue_without_a_byte() {
        let mut q = Responses::new();
        let ticket = q.reserve();
        push(&mut q, b"a", 0);
        q.complete(ticket, 0, Reply::default());
        assert_eq!(take(&mut q, 0), (b"a".to_vec(), false));
    }

    #[test]
    fn slices_go_between_the_bytes_of_their_reply() {
        let mut pool = ChunkPool::new(4096, 8192);
        let mut chunk = pool.take().unwrap();
        let (x, y) = (chunk.append(b"XX"), chunk.append(b"YYY"));
        let mut q = Responses::new();
        push(&mut q, b"<", 0);
        let ticket = q.reserve();
        push(&mut q, b">", 0);
        let reply = Reply { head: b"abcd".to_vec(), slices: vec![(1, x.clone()), (1, y.clone()), (4, x)] };
        assert_eq!(reply.len(), 11);
        q.complete(ticket, 0, reply);
        assert_eq!(take(&mut q, 0).0, b"<aXXYYYbcdXX>");
    }

    #[test]
    fn a_close_lets_what_is_before_it_leave_and_nothing_after_it() {
        let mut q = Responses::new();
        push(&mut q, b"a", 1);
        q.close();
        push(&mut q, b"b", 0);
        assert_eq!(take(&mut q, 0), (Vec::new(), false));
        assert_eq!(take(&mut q, 1), (b"a".to_vec(), true));

        let mut q = Responses::new();
        let ticket = q.reserve();
        q.complete_with_close(ticket);
        assert_eq!(take(&mut q, 0), (Vec::new(), true));
    }

    #[test]
    fn a_response_given_up_leaves_no_trace() {
        let mut q = Responses::new();
        push(&mut q, b"a", 0);
        let mut open = q.open();
        open.out().extend_from_slice(b"half");
        assert_eq!(open.take(), b"half");
        let mut open = q.open();
        open.out().extend_from_slice(b"half");
        drop(open);
        push(&mut q, b"b", 0);
        assert_eq!(take(&mut q, 0).0, b"ab");
    }

    #[test]
    fn a_limit_ends_a_send_after_the_response_that_reaches_it() {
        let mut q = Responses::new();
        push(&mut q, b"aaaa", 1);
        push(&mut q, b"bbbb", 2);
        push(&mut q, b"cccc", 3);
        let mut out = SendBuf::default();
        assert_eq!(q.take(3, 5, &mut out).bytes, 8);
        assert_eq!(take(&mut q, 3).0, b"cccc");
    }

    #[test]
    fn the_arena_does_not_grow_under_a_steady_load() {
        let mut q = Responses::new();
        let mut out = SendBuf::default();
        for commit in 1..10_000u64 {
            for _ in 0..10 {
                push(&mut q, &[1; 60], commit);
            }
            out.clear();
            q.take(commit - 1, usize::MAX, &mut out);
        }
        assert!(q.arena.capacity() < 8192, "{} bytes", q.arena.capacity());
    }

    proptest::proptest! {
        #[test]
        fn order_is_that_of_the_requests(ops in proptest::collection::vec((0u8..4, 0u64..6), 1..200)) {
            let mut q = Responses::new();
            let mut tickets = VecDeque::new();
            let (mut next, mut committed, mut got) = (0u32, 0u64, Vec::new());
            for (op, n) in ops {
                match op {
                    0 => { push(&mut q, &next.to_be_bytes(), committed + n); next += 1; }
                    1 => { tickets.push_back((q.reserve(), next)); next += 1; }
                    2 if !tickets.is_empty() => {
                        let (ticket, number) = tickets.remove(n as usize % tickets.len()).unwrap();
                        q.complete(ticket, n, number.to_be_bytes().to_vec().into());
                    }
                    _ => { committed += n; got.extend(take(&mut q, committed).0); }
                }
            }
            for (ticket, number) in tickets {
                q.complete(ticket, 0, number.to_be_bytes().to_vec().into());
            }
            got.extend(take(&mut q, u64::MAX).0);
            let want: Vec<u8> = (0..next).flat_map(u32::to_be_bytes).collect();
            proptest::prop_assert_eq!(got, want);
            proptest::prop_assert_eq!((q.requests(), q.unsent_bytes()), (0, 0));
        }
    }
}
