//! A connection that carries load: non-blocking, one write for all requests that may go, one read for many answers.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use wire::api::ApiKey;
use wire::batch::BatchError;
use wire::header::RequestHeader;
use wire::{DecodeError, EncodeError, Message};

use crate::client::code_name;
use crate::frame::AnswerError;
use crate::workload::WorkloadError;

/// The longest answer that is accepted.
pub const MAX_FRAME_BYTES: usize = 256 << 20;
/// How many pieces one write gathers. The kernel takes up to 1,024; a window is seldom as long.
const PIECES_PER_WRITE: usize = 128;
/// What is left of the buffer besides the frame that it is made for.
const READ_SLACK: usize = 16 << 10;

/// Why a connection was given up.
#[derive(Debug)]
pub enum Lost {
    /// The broker closed it.
    Closed,
    /// The kernel reported an error.
    Io(io::Error),
    /// A frame that claims to be this long.
    FrameLength(i32),
    /// A Produce answer that makes no sense.
    Answer(AnswerError),
    /// A Fetch answer that breaks the protocol.
    Fetch(DecodeError),
    /// Record data that breaks the format.
    Batch(BatchError),
    /// An answer that nobody asked for.
    Unasked,
    /// An answer out of turn: not the number or partition of the oldest unanswered request.
    OutOfTurn {
        /// The correlation id of the oldest unanswered request.
        expected: i32,
        /// The one that came.
        got: i32,
    },
    /// No answer within the time allowed, in seconds.
    Silent(u64),
    /// A request that cannot be written.
    Encode(EncodeError),
    /// A batch that cannot be made.
    Workload(WorkloadError),
    /// An answer to another API that breaks the protocol.
    Protocol(ApiKey, DecodeError),
    /// An error after which the connection has nothing more to do.
    Refused {
        /// The API that was asked.
        api: ApiKey,
        /// What it answered.
        code: i16,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Closed => f.write_str("the broker closed the connection"),
            Lost::Io(error) => write!(f, "the connection broke: {error}"),
            Lost::FrameLength(len) => write!(f, "an answer claims {len} bytes"),
            Lost::Answer(error) => write!(f, "{error}"),
            Lost::Fetch(error) => write!(f, "a fetch answer breaks the protocol: {error}"),
            Lost::Batch(error) => write!(f, "fetched records break the format: {error}"),
            Lost::Unasked => f.write_str("an answer came that nobody had asked for"),
            Lost::OutOfTurn { expected, got } => write!(f, "answer {got} came where {expected} was due"),
            Lost::Silent(seconds) => write!(f, "no answer within {seconds} s"),
            Lost::Encode(error) => write!(f, "a request cannot be written: {error}"),
            Lost::Workload(error) => write!(f, "{error}"),
            Lost::Protocol(api, error) => write!(f, "an answer to {api} breaks the protocol: {error}"),
            Lost::Refused { api, code } => write!(f, "the broker answered {api} with {}", code_name(*code)),
        }
    }
}

impl std::error::Error for Lost {}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Lost {
        Lost::Io(error)
    }
}

impl From<EncodeError> for Lost {
    fn from(error: EncodeError) -> Lost {
        Lost::Encode(error)
    }
}

impl From<WorkloadError> for Lost {
    fn from(error: WorkloadError) -> Lost {
        Lost::Workload(error)
    }
}

/// What a read of the socket brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The buffer was filled; there may be more.
    More,
    /// Everything that was there.
    Drained,
}

/// One connection's socket, what waits to be sent, and what has come in.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    /// What waits to be sent.
    pub out: Outbox,
    inbox: Inbox,
}

impl Link {
    /// Takes over a connected socket. `answer_bytes` is about the largest answer to be expected.
    pub fn new(stream: TcpStream, answer_bytes: usize) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        Ok(Link { stream, out: Outbox::default(), inbox: Inbox::new(answer_bytes + READ_SLACK) })
    }

    /// The socket, to wait for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends what waits, as far as the socket takes it. `shared` is what the pieces of [`Outbox::push_shared`] refer to.
    /// Answers whether everything went; if not, the socket will become writable.
    pub fn flush(&mut self, shared: &[Vec<u8>]) -> Result<bool, Lost> {
        while !self.out.is_empty() {
            match self.out.write_to(&mut self.stream, shared) {
                Ok(0) => return Err(Lost::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(closed_or(error)),
            }
        }
        Ok(true)
    }

    /// Reads once, as much as there is room for.
    pub fn receive(&mut self) -> Result<Received, Lost> {
        loop {
            let room = self.inbox.room();
            let wanted = room.len();
            match self.stream.read(room) {
                Ok(0) => return Err(Lost::Closed),
                Ok(read) => {
                    self.inbox.end += read;
                    return Ok(if read == wanted { Received::More } else { Received::Drained });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(closed_or(error)),
            }
        }
    }

    /// The next whole answer, without its length.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Lost> {
        let frame = self.inbox.next_frame()?;
        Ok(frame.map(|frame| &self.inbox.buffer[frame]))
    }
}

/// Appends a request with its header and length.
pub fn push_request<'a>(
    out: &mut Vec<u8>,
    header: &RequestHeader<'_>,
    request: &impl Message<'a>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    header.encode(out)?;
    request.encode(out, header.version)?;
    let len = i32::try_from(out.len() - start - 4).map_err(|_| EncodeError::TooLong)?;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

fn closed_or(error: io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Lost::Closed,
        _ => Lost::Io(error),
    }
}

/// Bytes to be sent: own ones, and references to prepared ones that are sent from where they are.
///
/// Its users add only when it is empty, so that it holds one round of requests and no more.
#[derive(Debug, Default)]
pub struct Outbox {
    own: Vec<u8>,
    pieces: Vec<Piece>,
    /// The first piece not sent whole, and how much of it was sent.
    at: (usize, usize),
    total: usize,
}

#[derive(Debug, Clone)]
enum Piece {
    Own(Range<usize>),
    Shared { index: usize, from: usize },
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes added since it was last empty.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Adds the bytes that `write` appends.
    pub fn push_own<T, E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Result<T, E> {
        let start = self.own.len();
        let outcome = match write(&mut self.own) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.own.truncate(start);
                return Err(error);
            }
        };
        let end = self.own.len();
        self.total += end - start;
        match self.pieces.last_mut() {
            Some(Piece::Own(last)) => last.end = end,
            _ => self.pieces.push(Piece::Own(start..end)),
        }
        Ok(outcome)
    }

    /// Adds the bytes of `shared[index]` from `from` on; `len` is how many that are.
    pub fn push_shared(&mut self, index: usize, from: usize, len: usize) {
        self.total += len;
        self.pieces.push(Piece::Shared { index, from });
    }

    fn write_to(&mut self, stream: &mut impl Write, shared: &[Vec<u8>]) -> io::Result<usize> {
        let (first, sent) = self.at;
        let written = if let [Piece::Own(only)] = &self.pieces[first..] {
            stream.write(&self.own[only.start + sent..only.end])?
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces[first..]) {
                let bytes = self.bytes(piece, shared);
                *slice = IoSlice::new(if count == 0 { &bytes[sent..] } else { bytes });
                count += 1;
            }
            stream.write_vectored(&slices[..count])?
        };
        self.advance(written, shared);
        Ok(written)
    }

    fn bytes<'a>(&'a self, piece: &Piece, shared: &'a [Vec<u8>]) -> &'a [u8] {
        match piece {
            Piece::Own(range) => &self.own[range.clone()],
            Piece::Shared { index, from } => &shared[*index][*from..],
        }
    }

    fn advance(&mut self, written: usize, shared: &[Vec<u8>]) {
        let (mut piece, mut sent) = self.at;
        sent += written;
        while let Some(current) = self.pieces.get(piece) {
            let len = self.bytes(current, shared).len();
            if sent < len {
                break;
            }
            sent -= len;
            piece += 1;
        }
        self.at = (piece, sent);
        if piece == self.pieces.len() {
            *self = Outbox {
                own: clear(std::mem::take(&mut self.own)),
                pieces: clear(std::mem::take(&mut self.pieces)),
                ..Outbox::default()
            };
        }
    }
}

/// The same memory, empty.
fn clear<T>(mut vec: Vec<T>) -> Vec<T> {
    vec.clear();
    vec
}

/// The receive buffer. It grows to the longest frame that comes and never beyond [`MAX_FRAME_BYTES`] and some slack.
#[derive(Debug)]
struct Inbox {
    buffer: Vec<u8>,
    /// Bytes received and not yet given out are `start..end`.
    start: usize,
    end: usize,
}

impl Inbox {
    fn new(len: usize) -> Inbox {
        Inbox { buffer: vec![0; len.min(MAX_FRAME_BYTES)], start: 0, end: 0 }
    }

    /// The free part behind what has come in; never empty.
    fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        // A frame that does not fit behind `start` is moved to the front; if that is not enough the buffer grows.
        let needed = self.frame_len().ok().flatten().map_or(1, |len| len + 4).max(self.end - self.start + 1);
        if self.start + needed > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if needed > self.buffer.len() {
                self.buffer.resize(needed + READ_SLACK, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// Length of the frame at the front, its own four bytes not counted, once these have come.
    fn frame_len(&self) -> Result<Option<usize>, Lost> {
        let Some(len) = self.buffer[self.start..self.end].first_chunk() else { return Ok(None) };
        let len = i32::from_be_bytes(*len);
        match usize::try_from(len) {
            Ok(bytes) if bytes <= MAX_FRAME_BYTES => Ok(Some(bytes)),
            _ => Err(Lost::FrameLength(len)),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Range<usize>>, Lost> {
        let Some(len) = self.frame_len()? else { return Ok(None) };
        let begin = self.start + 4;
        if self.end < begin + len {
            return Ok(None);
        }
        self.start = begin + len;
        Ok(Some(begin..begin + len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a limited number of bytes at each write.
    struct Narrow {
        taken: Vec<u8>,
        at_once: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.at_once);
            self.taken.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn push(out: &mut Outbox, text: &str) {
        let write = |own: &mut Vec<u8>| {
            own.extend_from_slice(text.as_bytes());
            Ok::<(), ()>(())
        };
        out.push_own(write).unwrap();
    }

    #[test]
    fn pieces_arrive_in_order_however_narrow_the_socket_is() {
        let shared = [b"0123456789".to_vec(), b"abc".to_vec()];
        for at_once in 1..40 {
            let mut out = Outbox::default();
            let mut socket = Narrow { taken: Vec::new(), at_once };
            for _ in 0..2 {
                push(&mut out, "<");
                push(&mut out, "head");
                out.push_shared(0, 4, 6);
                out.push_shared(1, 0, 3);
                push(&mut out, ">");
                assert_eq!(out.len(), 15);
                while !out.is_empty() {
                    out.write_to(&mut socket, &shared).unwrap();
                }
                assert_eq!(out.len(), 0);
            }
            assert_eq!(socket.taken, b"<head456789abc><head456789abc>");
        }
    }

    #[test]
    fn a_failed_addition_leaves_nothing_behind() {
        let mut out = Outbox::default();
        let fail = |own: &mut Vec<u8>| {
            own.push(1);
            Err::<(), &str>("no")
        };
        assert_eq!(out.push_own(fail), Err("no"));
        assert!(out.is_empty());
    }

    #[test]
    fn frames_come_whole_in_any_division() {
        let frames: Vec<Vec<u8>> = [0_usize, 1, 5, 300, 70_000, 2].iter().map(|len| vec![*len as u8; *len]).collect();
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend_from_slice(&(frame.len() as i32).to_be_bytes());
            stream.extend_from_slice(frame);
        }
        for at_once in [1, 3, 64, 1_000, 1 << 20] {
            let mut inbox = Inbox::new(16);
            let mut rest = stream.as_slice();
            let mut got = Vec::new();
            while !rest.is_empty() {
                let room = inbox.room();
                let len = room.len().min(at_once).min(rest.len());
                room[..len].copy_from_slice(&rest[..len]);
                inbox.end += len;
                rest = &rest[len..];
                while let Some(frame) = inbox.next_frame().unwrap() {
                    got.push(inbox.buffer[frame].to_vec());
                }
            }
            assert_eq!(got, frames);
            assert!(inbox.buffer.len() < 200_000);
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for len in [-1, i32::MIN, i32::MAX] {
            let mut inbox = Inbox::new(16);
            inbox.room()[..4].copy_from_slice(&len.to_be_bytes());
            inbox.end = 4;
            assert!(matches!(inbox.next_frame(), Err(Lost::FrameLength(got)) if got == len));
        }
    }
}
