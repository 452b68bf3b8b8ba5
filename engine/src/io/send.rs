//! What one send carries: freshly encoded bytes and slices of chunks, in any order, without copying either.

use std::ops::Range;

use crate::cache::Slice;

/// Bytes to send, in the order of `parts`. Reused by its owner from send to send.
#[derive(Debug, Default)]
pub struct SendBuf {
    /// Bytes of the caller's own, such as response headers, which [`Part::Head`] refers to.
    pub head: Vec<u8>,
    /// What is sent, in order.
    pub parts: Vec<Part>,
}

/// A piece of a [`SendBuf`].
#[derive(Debug, Clone)]
pub enum Part {
    /// A range of [`SendBuf::head`].
    Head(Range<usize>),
    /// Bytes of a chunk.
    Slice(Slice),
}

impl SendBuf {
    /// Makes it empty and keeps its memory. Slices are released.
    pub fn clear(&mut self) {
        self.head.clear();
        self.parts.clear();
    }

    /// Bytes in all parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// True when there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.len() == 0)
    }

    /// The bytes of one part.
    pub(super) fn bytes<'a>(&'a self, part: &'a Part) -> &'a [u8] {
        match part {
            Part::Head(range) => &self.head[range.clone()],
            Part::Slice(slice) => slice.as_bytes(),
        }
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Head(range) => range.len(),
            Part::Slice(slice) => slice.len(),
        }
    }
}

/// How far a send has come: the part that is next and the bytes of it that are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) part: usize,
    pub(super) offset: usize,
}

impl Progress {
    /// Counts `sent` more bytes, and steps over empty parts.
    pub(super) fn advance(&mut self, buf: &SendBuf, mut sent: usize) {
        while let Some(part) = buf.parts.get(self.part) {
            let left = part.len() - self.offset;
            if sent < left {
                self.offset += sent;
                return;
            }
            sent -= left;
            self.part += 1;
            self.offset = 0;
        }
        debug_assert!(sent == 0, "{sent} bytes sent beyond the end");
    }

    pub(super) fn is_done(self, buf: &SendBuf) -> bool {
        self.part >= buf.parts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_steps_over_parts_and_empty_parts() {
        let buf = SendBuf {
            head: b"abcdef".to_vec(),
            parts: vec![Part::Head(0..0), Part::Head(0..2), Part::Head(3..3), Part::Head(2..6), Part::Head(6..6)],
        };
        assert_eq!(buf.len(), 6);
        let mut at = Progress::default();
        at.advance(&buf, 0);
        assert_eq!(at, Progress { part: 1, offset: 0 });
        at.advance(&buf, 1);
        assert_eq!(at, Progress { part: 1, offset: 1 });
        at.advance(&buf, 2);
        assert_eq!(at, Progress { part: 3, offset: 1 });
        at.advance(&buf, 3);
        assert!(at.is_done(&buf));
    }
}
