//! The log of one partition: its segments, oldest first, and the batches that are still in memory.
//!
//! This file is bookkeeping only. It decides what goes where and answers from memory; files are written and read by
//! `commit`, `checkpoint` and `read`.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;

use wire::batch::BatchView;

use crate::cache::{ChunkId, ChunkWriter, Slice};
use crate::limits::{BLOCK_BYTES, HOT_ENTRY_BYTES};
use crate::segment::Segment;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark {
    /// The offset.
    pub(crate) offset: i64,
    /// Base offset of the segment.
    pub(crate) segment_base: i64,
    /// Position in the segment, in bytes.
    pub(crate) pos: u64,
}

/// Consecutive batches in memory.
#[derive(Debug)]
struct Hot {
    base_offset: i64,
    end_offset: i64,
    segment_base: i64,
    pos: u64,
    /// The commit that makes them durable. Entries never span commits, so the high watermark is an entry's end.
    commit: u64,
    slice: Slice,
}

impl Hot {
    fn end_pos(&self) -> u64 {
        self.pos + self.slice.len() as u64
    }
}

/// The rest of a segment beyond its last whole block, kept when the chunk that held it was recycled.
#[derive(Debug)]
struct TailCopy {
    segment_base: i64,
    pos: u64,
    bytes: Vec<u8>,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    /// The partition's directory.
    pub(crate) dir: PathBuf,
    /// All segments, oldest first; the last one is appended to.
    pub(crate) segments: VecDeque<Segment>,
    /// First offset that readers may see.
    pub(crate) log_start: i64,
    /// A log start that is durable: segments before it may be removed.
    pub(crate) durable_start: i64,
    /// Everything below is durable: the high watermark of a partition without replicas.
    pub(crate) durable: Mark,
    hot: VecDeque<Hot>,
    tail: Option<TailCopy>,
}

impl Log {
    /// A log of the given segments (at least one), all of it durable. `tail` holds the bytes of the last segment
    /// beyond its `flushed`.
    #[must_use]
    pub(crate) fn new(dir: PathBuf, segments: VecDeque<Segment>, log_start: i64, tail: Vec<u8>) -> Log {
        let last = segments.back().expect("a log has a segment");
        assert_eq!(last.flushed + tail.len() as u64, last.end_pos);
        assert!(tail.len() < BLOCK_BYTES);
        let durable = Mark { offset: last.end_offset, segment_base: last.base, pos: last.end_pos };
        let tail = (!tail.is_empty()).then_some(TailCopy { segment_base: last.base, pos: last.flushed, bytes: tail });
        Log { dir, segments, log_start, durable_start: log_start, durable, hot: VecDeque::new(), tail }
    }

    /// The segment that is appended to.
    #[must_use]
    pub(crate) fn active(&self) -> &Segment {
        self.segments.back().expect("a log has a segment")
    }

    /// The segment that is appended to.
    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("a log has a segment")
    }

    /// The offset that the next record gets.
    #[must_use]
    pub(crate) fn end_offset(&self) -> i64 {
        self.active().end_offset
    }

    /// Where the next batch goes.
    #[must_use]
    pub(crate) fn end(&self) -> Mark {
        let active = self.active();
        Mark { offset: active.end_offset, segment_base: active.base, pos: active.end_pos }
    }

    /// Bytes of all segments.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.end_pos).sum()
    }

    /// Index in `segments` of the segment with this base offset.
    #[must_use]
    pub(crate) fn find_base(&self, base: i64) -> Option<usize> {
        self.segments.binary_search_by_key(&base, |s| s.base).ok()
    }

    /// Index in `segments` of the segment that holds `offset`, which is not below the first segment.
    #[must_use]
    pub(crate) fn find_offset(&self, offset: i64) -> usize {
        self.segments.partition_point(|s| s.base <= offset).saturating_sub(1)
    }

    /// Base offset of the segment that holds `offset`, which is not below the first segment.
    #[must_use]
    pub(crate) fn base_holding(&self, offset: i64) -> i64 {
        self.segments[self.find_offset(offset)].base
    }

    /// Closes the active segment and starts the next one.
    pub(crate) fn roll(&mut self) {
        let active = self.active_mut();
        active.rolled = true;
        let base = active.end_offset;
        self.segments.push_back(Segment::new(base));
        // Otherwise a segment that was rolled while the log rests would not count as complete before the next append.
        if self.durable.offset == base {
            self.durable = self.end();
        }
    }

    /// Adds a batch that was copied into a chunk as part of commit `commit`. The active segment's end moves behind it.
    pub(crate) fn push(&mut self, slice: Slice, last_offset: i64, commit: u64) {
        let end = self.end();
        let active = self.active_mut();
        active.end_pos += slice.len() as u64;
        active.end_offset = last_offset + 1;
        if let Some(last) = self.hot.back_mut()
            && last.commit == commit
            && last.segment_base == end.segment_base
            && last.slice.len() + slice.len() <= HOT_ENTRY_BYTES
            && last.slice.is_followed_by(&slice)
        {
            last.slice.join(&slice);
            last.end_offset = last_offset + 1;
            return;
        }
        self.hot.push_back(Hot {
            base_offset: end.offset,
            end_offset: last_offset + 1,
            segment_base: end.segment_base,
            pos: end.pos,
            commit,
            slice,
        });
    }

    /// The first offset that memory can answer.
    #[must_use]
    pub(crate) fn hot_start(&self) -> i64 {
        self.hot.front().map_or_else(|| self.end_offset(), |h| h.base_offset)
    }

    /// Collects whole batches from memory into `out`: from the one that holds `offset`, up to `limit` (exclusive, an
    /// offset at which a batch begins), within `max_bytes`, though the first batch regardless when `at_least_one`.
    /// Returns their bytes, or `None` when memory does not reach back to `offset`.
    pub(crate) fn read_hot(
        &self,
        offset: i64,
        limit: i64,
        max_bytes: usize,
        at_least_one: bool,
        out: &mut Vec<Slice>,
    ) -> Option<usize> {
        if offset < self.hot_start() {
            return None;
        }
        let mut bytes = 0;
        let first = self.hot.partition_point(|h| h.end_offset <= offset);
        for hot in self.hot.range(first..) {
            if hot.base_offset >= limit {
                break;
            }
            let start = if hot.base_offset < offset { skip_to(hot.slice.as_bytes(), offset) } else { 0 };
            let mut end = hot.slice.len();
            if hot.end_offset > limit {
                end = start + skip_to(&hot.slice.as_bytes()[start..], limit);
            }
            let fits = max_bytes.saturating_sub(bytes);
            if end - start > fits {
                end = start + whole_batches(&hot.slice.as_bytes()[start..end], fits, at_least_one && bytes == 0);
            }
            if end == start {
                break;
            }
            bytes += end - start;
            let part = hot.slice.part(start, end);
            let cut = end < hot.slice.len();
            match out.last_mut() {
                Some(last) if last.is_followed_by(&part) => last.join(&part),
                _ => out.push(part),
            }
            if cut {
                break;
            }
        }
        Some(bytes)
    }

    /// Copies bytes of a segment from memory to the end of `to`. They are all in memory: nothing that is not flushed
    /// is ever evicted, but for the tail's copy.
    pub(crate) fn copy_from_memory(&self, segment_base: i64, range: Range<u64>, to: &mut ChunkWriter) {
        let mut at = range.start;
        if let Some(tail) = self.tail.as_ref().filter(|t| t.segment_base == segment_base) {
            let tail_end = tail.pos + tail.bytes.len() as u64;
            if (tail.pos..tail_end).contains(&at) {
                let end = tail_end.min(range.end);
                to.append(&tail.bytes[(at - tail.pos) as usize..(end - tail.pos) as usize]);
                at = end;
            }
        }
        let first = self.hot.partition_point(|h| (h.segment_base, h.end_pos()) <= (segment_base, at));
        for hot in self.hot.range(first..) {
            if at == range.end || hot.segment_base != segment_base {
                break;
            }
            assert!(hot.pos <= at, "a hole in memory at {at} of segment {segment_base}: next is {}", hot.pos);
            let end = hot.end_pos().min(range.end);
            to.append(&hot.slice.as_bytes()[(at - hot.pos) as usize..(end - hot.pos) as usize]);
            at = end;
        }
        assert_eq!(at, range.end, "segment {segment_base}: memory ends early");
    }

    /// Forgets every batch up to the last one in `chunk`, provided that segments hold them; `commit` is the newest that may
    /// have batches there. The rest beyond a segment's last whole block is copied aside. Returns false, and forgets nothing,
    /// while more than that is only in memory.
    pub(crate) fn evict(&mut self, chunk: ChunkId, commit: u64) -> bool {
        let behind = count_in_front(&self.hot, |h| h.commit <= commit);
        debug_assert!(self.hot.range(behind..).all(|h| h.slice.chunk() != chunk), "a newer commit has used the chunk");
        let Some(last) = self.hot.range(..behind).rposition(|h| h.slice.chunk() == chunk) else { return true };
        let end = (self.hot[last].segment_base, self.hot[last].end_pos());
        let Some(unsealed) = self.segments.iter().find(|s| !s.sealed) else { return false };
        let flushed = (unsealed.base, unsealed.flushed);
        if end > flushed {
            let rest = end.1 - flushed.1.min(end.1);
            let durable = end <= (self.durable.segment_base, self.durable.pos);
            if end.0 != flushed.0 || rest >= BLOCK_BYTES as u64 || !durable {
                return false;
            }
            self.tail =
                Some(TailCopy { segment_base: end.0, pos: flushed.1, bytes: self.memory(end.0, flushed.1..end.1) });
        }
        self.hot.drain(..=last);
        true
    }

    /// Bytes of a segment from memory, less than a block.
    #[must_use]
    pub(crate) fn memory(&self, segment_base: i64, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        if let Some(tail) = self.tail.as_ref().filter(|t| t.segment_base == segment_base && t.pos <= range.start) {
            let skip = ((range.start - tail.pos) as usize).min(tail.bytes.len());
            let take = (tail.bytes.len() - skip).min((range.end - range.start) as usize);
            bytes.extend_from_slice(&tail.bytes[skip..skip + take]);
        }
        for hot in self.hot.iter().filter(|h| h.segment_base == segment_base) {
            let at = range.start + bytes.len() as u64;
            if at < range.end && (hot.pos..hot.end_pos()).contains(&at) {
                let end = hot.end_pos().min(range.end);
                bytes.extend_from_slice(&hot.slice.as_bytes()[(at - hot.pos) as usize..(end - hot.pos) as usize]);
            }
        }
        assert_eq!(bytes.len() as u64, range.end - range.start, "segment {segment_base}: memory lacks {range:?}");
        bytes
    }

    /// True when a segment has been rolled and is not yet complete on disk.
    #[must_use]
    pub(crate) fn has_unsealed(&self) -> bool {
        self.segments.len() > 1 && !self.segments[self.segments.len() - 2].sealed
    }

    /// Drops the tail's copy once the segment's file holds it.
    pub(crate) fn forget_flushed_tail(&mut self) {
        if let Some(tail) = &self.tail {
            let held = match self.find_base(tail.segment_base) {
                Some(at) => self.segments[at].flushed >= tail.pos + tail.bytes.len() as u64,
                None => true,
            };
            if held {
                self.tail = None;
            }
        }
    }

    /// The tail's copy, if it continues `segment_base` at `pos` in its range: the bytes from `pos` on.
    #[must_use]
    pub(crate) fn tail_from(&self, segment_base: i64, pos: u64) -> Option<&[u8]> {
        let tail = self.tail.as_ref().filter(|t| t.segment_base == segment_base)?;
        (tail.pos..tail.pos + tail.bytes.len() as u64).contains(&pos).then(|| &tail.bytes[(pos - tail.pos) as usize..])
    }

    /// Removes the segments before index `keep`, which are sealed, and gives them to the caller to delete.
    pub(crate) fn remove_before(&mut self, keep: usize) -> Vec<Segment> {
        assert!(keep < self.segments.len(), "the active segment stays");
        self.segments.drain(..keep).collect()
    }

    /// Puts a compacted segment in the place of those at `range`, which are sealed. What memory has of them, and of all before
    /// them, is forgotten: it is not what the log is any more.
    pub(crate) fn replace(&mut self, range: Range<usize>, segment: Segment) {
        let old = || self.segments.range(range.clone());
        assert!(segment.sealed && old().all(|old| old.sealed), "only what is complete is compacted");
        assert!(old().next().is_some_and(|old| old.base == segment.base));
        assert!(old().next_back().is_some_and(|old| old.end_offset == segment.end_offset));
        let in_memory = self.hot.partition_point(|hot| hot.end_offset <= segment.end_offset);
        self.hot.drain(..in_memory);
        self.segments.drain(range.start + 1..range.end);
        self.segments[range.start] = segment;
    }

    /// Asserts that the positions are in order, `flushed ≤ durable ≤ end`, in every segment that can still change.
    pub(crate) fn check(&self) {
        let end = self.end();
        let durable = (self.durable.segment_base, self.durable.pos);
        assert!(durable <= (end.segment_base, end.pos) && self.durable.offset <= end.offset);
        assert!(self.log_start <= self.durable.offset);
        for segment in self.segments.iter().rev().take_while(|s| !s.sealed) {
            segment.check();
            let begun = segment.flushed > 0;
            assert!(!begun || (segment.base, segment.flushed) <= durable, "flushed before durable");
        }
    }
}

/// Position in `batches` of the batch that holds `offset`.
fn skip_to(batches: &[u8], offset: i64) -> usize {
    let mut at = 0;
    while let Ok(batch) = BatchView::parse(&batches[at..]) {
        if batch.last_offset() >= offset {
            break;
        }
        at += batch.total_len();
    }
    at
}

/// Bytes of the whole batches at the start of `batches` that fit into `max_bytes`; the first in any case when
/// `at_least_one`.
fn whole_batches(batches: &[u8], max_bytes: usize, at_least_one: bool) -> usize {
    let mut end = 0;
    while let Ok(batch) = BatchView::parse(&batches[end..]) {
        let with = end + batch.total_len();
        if with > max_bytes && !(at_least_one && end == 0) {
            break;
        }
        end = with;
    }
    end
}

/// As [`VecDeque::partition_point`], where few count: it looks at as many as count, and not far beyond. Small batches make
/// long lists, each look at which is a miss of the processor's caches, and every partition of a core is asked when a chunk
/// is evicted.
fn count_in_front<T>(list: &VecDeque<T>, counts: impl Fn(&T) -> bool) -> usize {
    let mut next = 1;
    while list.get(next - 1).is_some_and(&counts) {
        next *= 2;
    }
    let (mut low, mut high) = (next / 2, (next - 1).min(list.len()));
    while low < high {
        let middle = low.midpoint(high);
        match counts(&list[middle]) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_in_front_counts_as_any_search_does() {
        for len in 0..40 {
            let list: VecDeque<usize> = (0..len).collect();
            for counted in 0..=len {
                assert_eq!(count_in_front(&list, |it| *it < counted), counted, "{counted} of {len}");
            }
        }
    }
}
