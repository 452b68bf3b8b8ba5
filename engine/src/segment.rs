//! One segment of a partition's log: a file in Kafka's own `.log` layout, record batches one after the other.
//!
//! ```text
//! 0                flushed              end_pos          allocated
//! | on disk, synced | in memory, journal | preallocated…  |
//! ```
//!
//! `flushed` is a whole number of blocks while the segment grows, because a durable block is never written again: the
//! rest, less than a block, lives in the journal until more bytes complete it or the segment is sealed.

use std::path::{Path, PathBuf};

use crate::index::Index;
use crate::io::File;
use crate::limits::BLOCK_BYTES;

/// A segment and what is known of it.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Offset of its first record; also its file's name.
    pub(crate) base: i64,
    /// Bytes of batches appended to it, durable or not.
    pub(crate) end_pos: u64,
    /// The offset after its last record.
    pub(crate) end_offset: i64,
    /// Bytes of the file that are written and synced.
    pub(crate) flushed: u64,
    /// Bytes of the file for which the file system has set space aside.
    pub(crate) allocated: u64,
    /// Nothing will be appended any more.
    pub(crate) rolled: bool,
    /// Rolled, complete on disk and cut to its exact length.
    pub(crate) sealed: bool,
    /// Its file was another's ([`crate::spares`]), and has not been cut to its length yet.
    pub(crate) reused: bool,
    /// The open file; none before its first write or use.
    pub(crate) file: Option<File>,
    /// Its index; none for a segment of an earlier run until something asks.
    pub(crate) index: Option<Index>,
    /// Timestamp of the first batch, in ms, from which `segment.ms` runs; none when empty.
    pub(crate) first_timestamp_ms: Option<i64>,
    /// Wall clock of the newest append, in ms.
    pub(crate) last_append_ms: i64,
    /// How often compaction has replaced its file: whoever goes by a position in it makes sure that it is still the same.
    pub(crate) generation: u32,
}

impl Segment {
    /// An empty segment that starts at offset `base`.
    #[must_use]
    pub(crate) fn new(base: i64) -> Segment {
        Segment {
            base,
            end_pos: 0,
            end_offset: base,
            flushed: 0,
            allocated: 0,
            rolled: false,
            sealed: false,
            reused: false,
            file: None,
            index: Some(Index::new()),
            first_timestamp_ms: None,
            last_append_ms: 0,
            generation: 0,
        }
    }

    /// A segment of an earlier run, complete in its file.
    #[must_use]
    pub(crate) fn sealed(base: i64, bytes: u64, end_offset: i64) -> Segment {
        Segment {
            end_pos: bytes,
            end_offset,
            flushed: bytes,
            allocated: bytes,
            rolled: true,
            sealed: true,
            index: None,
            ..Segment::new(base)
        }
    }

    /// The end of the last whole block at or below `pos`.
    #[must_use]
    pub(crate) fn block_floor(pos: u64) -> u64 {
        pos & !(BLOCK_BYTES as u64 - 1)
    }

    /// The end of the block that holds `pos`, or `pos` when it is a block's end.
    #[must_use]
    pub(crate) fn block_ceil(pos: u64) -> u64 {
        pos.next_multiple_of(BLOCK_BYTES as u64)
    }

    /// Holds at every moment; asserted wherever one of the positions moves.
    pub(crate) fn check(&self) {
        assert!(self.flushed <= self.end_pos, "segment {}: flushed {} > end {}", self.base, self.flushed, self.end_pos);
        assert!(
            self.sealed || self.flushed.is_multiple_of(BLOCK_BYTES as u64),
            "segment {}: flushed {} is no block's end",
            self.base,
            self.flushed
        );
        assert!(!self.sealed || (self.rolled && self.flushed == self.end_pos), "segment {} sealed early", self.base);
    }
}

/// The name of a segment's file: its base offset in twenty digits, as Kafka names it.
#[must_use]
pub(crate) fn log_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// The name of the producer snapshot taken when the segment began.
#[must_use]
pub(crate) fn producers_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.producers"))
}

/// The name of the list of aborted transactions whose markers the segment holds. There is none if it holds no such marker.
#[must_use]
pub(crate) fn aborted_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.aborted"))
}

/// The name of the file that says that a segment's file holds more than the segment ([`crate::spares`]).
#[must_use]
pub(crate) fn reused_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.reused"))
}

/// The base offset in a segment's file name, or `None` for any other name.
#[must_use]
pub(crate) fn base_of(name: &str) -> Option<i64> {
    parse_base(name.strip_suffix(".log")?)
}

/// The base offset in a producer snapshot's file name, or `None` for any other name.
#[must_use]
pub(crate) fn producers_base_of(name: &str) -> Option<i64> {
    parse_base(name.strip_suffix(".producers")?)
}

/// The base offset in the name of a list of aborted transactions, or `None` for any other name.
#[must_use]
pub(crate) fn aborted_base_of(name: &str) -> Option<i64> {
    parse_base(name.strip_suffix(".aborted")?)
}

/// The base offset in the name of a file that says so of a segment's, or `None` for any other name.
#[must_use]
pub(crate) fn reused_base_of(name: &str) -> Option<i64> {
    parse_base(name.strip_suffix(".reused")?)
}

/// An offset as file names have it: twenty digits.
#[must_use]
pub(crate) fn parse_base(digits: &str) -> Option<i64> {
    let is_number = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let path = log_path(Path::new("d"), 1234);
        assert_eq!(path, Path::new("d/00000000000000001234.log"));
        assert_eq!(base_of("00000000000000001234.log"), Some(1234));
        assert_eq!(producers_base_of("00000000000000001234.producers"), Some(1234));
        assert_eq!(aborted_base_of("00000000000000001234.aborted"), Some(1234));
        for other in [
            "1234.log",
            "-0000000000000000001.log",
            "+0000000000000000001.log",
            "00000000000000001234.index",
            "0000000000000000123x.log",
            "99999999999999999999.log",
        ] {
            assert_eq!(base_of(other), None, "{other}");
        }
    }
}
