//! Requests on the wire: a signed 32-bit big-endian length, then that many bytes (Kafka protocol guide, "Network").
//!
//! [`scan`] finds how many whole requests a receive buffer starts with, without touching more than their lengths.
//! [`ReceiveBuffer`] decides how much memory a connection receives into: little while it is quiet, more while it is
//! busy, and exactly one frame when a frame is larger than that. A frame is always contiguous, so it is received in
//! place and never copied together.

use std::cell::Cell;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{BUSY_BYTES, COPIED_BYTES, QUIET_BYTES};

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// After this many receives in a row that never filled a quarter of the buffer, it is halved.
const QUIET_RECEIVES: u8 = 32;

/// Why a connection's bytes are not a sequence of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A length below zero.
    NegativeLength(i32),
    /// A length above `socket.request.max.bytes`.
    TooLarge {
        /// The length that the frame announces, in bytes.
        len: usize,
        /// The largest length allowed, in bytes.
        max: usize,
    },
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::NegativeLength(len) => write!(f, "a request's length is negative ({len})"),
            FrameError::TooLarge { len, max } => {
                write!(f, "a request of {len} bytes is larger than socket.request.max.bytes ({max})")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// What a receive buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Length of all whole frames at the front, with their length fields, in bytes.
    pub whole: usize,
    /// Bytes still missing of the frame after them; 1 when not even its length has arrived.
    pub missing: usize,
    /// Set when the bytes after the whole frames cannot begin a frame. Nothing after them may be read.
    pub error: Option<FrameError>,
}

/// Finds the whole frames at the front of `buf`, none of which may be longer than `max` bytes.
#[must_use]
pub fn scan(buf: &[u8], max: usize) -> Scan {
    let mut whole = 0;
    loop {
        let rest = &buf[whole..];
        let Some(len) = rest.first_chunk::<LENGTH_BYTES>() else {
            return Scan { whole, missing: 1, error: None };
        };
        let len = i32::from_be_bytes(*len);
        let Ok(body) = usize::try_from(len) else {
            return Scan { whole, missing: 0, error: Some(FrameError::NegativeLength(len)) };
        };
        if body > max {
            return Scan { whole, missing: 0, error: Some(FrameError::TooLarge { len: body, max }) };
        }
        let total = LENGTH_BYTES + body;
        if rest.len() < total {
            return Scan { whole, missing: total - rest.len(), error: None };
        }
        whole += total;
    }
}

/// Whole frames, as one counted piece of receive memory, taken off one by one.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Bytes,
    total: usize,
    shared: Cell<bool>,
}

impl Frames {
    /// The next frame without its length, left in place; `None` when all are taken.
    #[must_use]
    pub fn peek(&self) -> Option<&[u8]> {
        let len = self.next_len()?;
        Some(&self.bytes[LENGTH_BYTES..LENGTH_BYTES + len])
    }

    /// The next frame as bytes that may be kept, and how many bytes of memory that costs: a large frame keeps all that
    /// was received with it, which is charged to the first one kept.
    #[must_use]
    pub fn share(&self) -> (Bytes, usize) {
        let frame = self.peek().unwrap_or_default();
        if frame.len() <= COPIED_BYTES {
            return (Bytes::copy_from_slice(frame), frame.len());
        }
        let first = !self.shared.replace(true);
        (self.bytes.slice_ref(frame), if first { self.total } else { frame.len() })
    }

    /// A part of the next frame as bytes that may be kept. Whoever asks for parts asks for the whole frame as well
    /// ([`Frames::share`]), which is where they are charged.
    #[must_use]
    pub fn share_part(&self, range: Range<usize>) -> Bytes {
        let part = &self.peek().unwrap_or_default()[range];
        if part.len() <= COPIED_BYTES { Bytes::copy_from_slice(part) } else { self.bytes.slice_ref(part) }
    }

    /// Drops the next frame.
    pub fn advance(&mut self) {
        if let Some(len) = self.next_len() {
            self.bytes.advance(LENGTH_BYTES + len);
        }
    }

    /// True when every frame is taken. The memory is given back then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn next_len(&self) -> Option<usize> {
        // `scan` has proved that the bytes are whole frames with lengths in range.
        self.bytes.first_chunk::<LENGTH_BYTES>().map(|len| u32::from_be_bytes(*len) as usize)
    }
}

/// The memory that one connection receives into.
#[derive(Debug)]
pub struct ReceiveBuffer {
    buf: BytesMut,
    max_frame: usize,
    /// Spare bytes offered to the next receive: from [`QUIET_BYTES`] to [`BUSY_BYTES`], or the size of recent frames.
    target: usize,
    /// Size of the allocation behind `buf`, in bytes.
    held: usize,
    missing: usize,
    /// The most bytes that waited in the buffer within the last `receives` receives.
    peak: usize,
    receives: u8,
}

impl ReceiveBuffer {
    /// An empty buffer for frames of at most `max_frame` bytes.
    #[must_use]
    pub fn new(max_frame: usize) -> ReceiveBuffer {
        ReceiveBuffer {
            buf: BytesMut::new(),
            max_frame,
            target: QUIET_BYTES,
            held: 0,
            missing: 1,
            peak: 0,
            receives: 0,
        }
    }

    /// Bytes of memory behind the buffer.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes of memory that would be behind the buffer after [`ReceiveBuffer::lend`]. With `grow` false only the frame
    /// that has begun to arrive may make it larger.
    #[must_use]
    pub fn wanted(&self, grow: bool) -> usize {
        let spare = self.spare(grow);
        if self.buf.capacity() - self.buf.len() >= spare {
            self.held
        } else {
            (self.buf.len() + spare).max(QUIET_BYTES)
        }
    }

    /// Takes the buffer out to receive into its spare capacity, which is at least what the next frame misses.
    pub fn lend(&mut self, grow: bool) -> BytesMut {
        let spare = self.spare(grow);
        let shrinks = self.buf.is_empty() && self.held > 2 * spare.max(QUIET_BYTES);
        if shrinks {
            // A new allocation: whoever still reads frames of the old one keeps it alive for as long as it takes.
            self.buf = BytesMut::with_capacity(spare);
            self.held = self.buf.capacity();
        } else if !self.has_room(spare) {
            self.buf.reserve(spare);
            self.held = self.held.max(self.buf.capacity());
        }
        std::mem::take(&mut self.buf)
    }

    /// Takes the buffer back with `received` more bytes in it and splits off the whole frames.
    pub fn give_back(&mut self, buf: BytesMut, received: usize) -> (Frames, Option<FrameError>) {
        let filled = received > 0 && buf.capacity() == buf.len();
        self.buf = buf;
        let found = scan(&self.buf, self.max_frame);
        self.missing = found.missing.max(1);
        self.adapt(filled);
        let frames =
            Frames { bytes: self.buf.split_to(found.whole).freeze(), total: found.whole, shared: Cell::new(false) };
        (frames, found.error)
    }

    /// While frames are kept the rest of their memory is used up, before more is asked for.
    fn has_room(&self, spare: usize) -> bool {
        self.buf.capacity() - self.buf.len() >= self.missing.max(spare / 4)
    }

    fn spare(&self, grow: bool) -> usize {
        self.missing.max(if grow { self.target } else { QUIET_BYTES })
    }

    fn adapt(&mut self, filled: bool) {
        self.peak = self.peak.max(self.buf.len() + self.missing);
        self.receives += 1;
        if self.missing > self.target {
            // A stream of large frames keeps a buffer of their size, rather than touching new memory for each of them.
            self.target = self.missing;
        } else if filled && self.target < BUSY_BYTES {
            self.target *= 2;
        } else if self.receives < QUIET_RECEIVES {
            return;
        } else if self.peak < self.target / 4 {
            self.target = (self.target / 2).max(QUIET_BYTES);
        }
        self.receives = 0;
        self.peak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = (body.len() as i32).to_be_bytes().to_vec();
        out.extend_from_slice(body);
        out
    }

    fn receive(buffer: &mut ReceiveBuffer, bytes: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let mut lent = buffer.lend(true);
        assert!(lent.capacity() - lent.len() >= bytes.len().min(QUIET_BYTES / 4));
        lent.extend_from_slice(bytes);
        let (mut frames, error) = buffer.give_back(lent, bytes.len());
        let mut out = Vec::new();
        while let Some(frame) = frames.peek() {
            out.push(frame.to_vec());
            assert_eq!(frames.share().0, out.last().unwrap());
            frames.advance();
        }
        assert!(frames.is_empty());
        (out, error)
    }

    #[test]
    fn frames_come_out_whole_wherever_the_stream_is_cut() {
        let mut stream = frame(b"first");
        stream.extend(frame(b""));
        stream.extend(frame(&[7; 300]));
        for cut in 0..=stream.len() {
            let mut buffer = ReceiveBuffer::new(1000);
            let (mut got, error) = receive(&mut buffer, &stream[..cut]);
            assert_eq!(error, None);
            let (rest, error) = receive(&mut buffer, &stream[cut..]);
            assert_eq!(error, None);
            got.extend(rest);
            assert_eq!(got, [b"first".to_vec(), Vec::new(), vec![7; 300]], "cut at {cut}");
        }
    }

    #[test]
    fn a_length_out_of_bounds_ends_the_stream_after_the_frames_before_it() {
        let mut stream = frame(b"ok");
        stream.extend((-2i32).to_be_bytes());
        let (got, error) = receive(&mut ReceiveBuffer::new(1000), &stream);
        assert_eq!((got.len(), error), (1, Some(FrameError::NegativeLength(-2))));

        let mut stream = frame(&[1; 1000]);
        stream.extend(1001i32.to_be_bytes());
        let (got, error) = receive(&mut ReceiveBuffer::new(1000), &stream);
        assert_eq!((got.len(), error), (1, Some(FrameError::TooLarge { len: 1001, max: 1000 })));
    }

    #[test]
    fn a_large_frame_is_received_in_place() {
        let mut buffer = ReceiveBuffer::new(10 << 20);
        let (none, _) = receive(&mut buffer, &(5i32 << 20).to_be_bytes());
        assert!(none.is_empty());
        let lent = buffer.lend(false);
        assert!(lent.capacity() - lent.len() >= 5 << 20, "the rest of the frame fits behind what has arrived");
        assert_eq!(buffer.held(), lent.capacity());
    }

    #[test]
    fn the_buffer_grows_while_it_is_filled_and_shrinks_when_it_is_not() {
        let mut buffer = ReceiveBuffer::new(10 << 20);
        for _ in 0..10 {
            let mut lent = buffer.lend(true);
            let fill = lent.capacity() - lent.len();
            lent.resize(lent.capacity(), 0); // frames of length zero
            let _ = buffer.give_back(lent, fill);
        }
        assert!(buffer.held() >= BUSY_BYTES);
        for _ in 0..10 * usize::from(QUIET_RECEIVES) {
            let lent = buffer.lend(true);
            let (frames, _) = buffer.give_back(lent, 0);
            assert!(frames.is_empty());
        }
        let lent = buffer.lend(true);
        assert!(lent.capacity() <= 2 * QUIET_BYTES);
    }

    #[test]
    fn a_steady_stream_of_small_requests_keeps_one_allocation() {
        let mut buffer = ReceiveBuffer::new(1 << 20);
        let stream: Vec<u8> = (0..10).flat_map(|_| frame(&[3; 200])).collect();
        for _ in 0..100 {
            receive(&mut buffer, &stream);
        }
        let mut lent = buffer.lend(true);
        let held = buffer.held();
        let memory = lent.as_ptr().addr() - held..lent.as_ptr().addr() + held;
        for _ in 0..1000 {
            lent.extend_from_slice(&stream);
            let (frames, _) = buffer.give_back(lent, stream.len());
            drop(frames);
            lent = buffer.lend(true);
            assert!(memory.contains(&lent.as_ptr().addr()), "the same memory is received into again");
        }
        assert_eq!(buffer.held(), held);
    }
}
