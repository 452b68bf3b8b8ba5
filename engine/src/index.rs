//! A segment's sparse index, in memory: from offset and time to a position in the file.
//!
//! Kafka keeps two memory-mapped files per segment for this; here it is one vector that can be rebuilt from the batch
//! headers at any time, so nothing depends on it for correctness.

use wire::batch::BatchView;

/// One indexed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Base offset of the batch, relative to the segment's base offset.
    pub(crate) relative_offset: u32,
    /// Position of the batch in the segment, in bytes.
    pub(crate) pos: u32,
    /// Largest timestamp of all batches before this one, in ms; `i64::MIN` for the first.
    pub(crate) max_timestamp_before_ms: i64,
}

/// Entries at least `interval` bytes apart, in the order of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
    max_timestamp_ms: i64,
    /// Base offset of the batch with the largest timestamp.
    max_timestamp_batch: i64,
}

impl Index {
    /// An index of no batches.
    #[must_use]
    pub(crate) fn new() -> Index {
        Index { entries: Vec::new(), max_timestamp_ms: i64::MIN, max_timestamp_batch: -1 }
    }

    /// Notes a batch. Batches come in log order; `segment_base` is the segment's base offset.
    pub(crate) fn note(&mut self, segment_base: i64, base_offset: i64, pos: u64, max_timestamp_ms: i64, interval: u32) {
        let due = self.entries.last().is_none_or(|last| pos - u64::from(last.pos) >= u64::from(interval));
        if due {
            self.entries.push(IndexEntry {
                relative_offset: (base_offset - segment_base) as u32,
                pos: pos as u32,
                max_timestamp_before_ms: self.max_timestamp_ms,
            });
        }
        if max_timestamp_ms > self.max_timestamp_ms {
            self.max_timestamp_ms = max_timestamp_ms;
            self.max_timestamp_batch = base_offset;
        }
    }

    /// As [`Index::note`], for a batch as it is stored. One whose records compaction has taken is no answer to a search by
    /// time.
    pub(crate) fn note_batch(&mut self, segment_base: i64, batch: &BatchView<'_>, pos: u64, interval: u32) {
        let has_records = batch.record_count() > 0;
        let max_timestamp_ms = if has_records { batch.max_timestamp() } else { i64::MIN };
        self.note(segment_base, batch.base_offset(), pos, max_timestamp_ms, interval);
    }

    /// A position at or before the batch that holds `offset`, from which a walk over batch headers finds it.
    #[must_use]
    pub(crate) fn position_of(&self, segment_base: i64, offset: i64) -> u64 {
        let relative = offset - segment_base;
        let after = self.entries.partition_point(|e| i64::from(e.relative_offset) <= relative);
        after.checked_sub(1).map_or(0, |at| u64::from(self.entries[at].pos))
    }

    /// Base offset of a batch at or before the first one whose largest timestamp is at least `timestamp_ms`.
    #[must_use]
    pub(crate) fn offset_before_time(&self, segment_base: i64, timestamp_ms: i64) -> i64 {
        let after = self.entries.partition_point(|e| e.max_timestamp_before_ms < timestamp_ms);
        after.checked_sub(1).map_or(segment_base, |at| segment_base + i64::from(self.entries[at].relative_offset))
    }

    /// Largest timestamp of the segment, in ms; `i64::MIN` when it holds no batch.
    #[must_use]
    pub(crate) fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms
    }

    /// The largest timestamp of the batches before one at or before `end`, in ms, and that batch's base offset: what is
    /// between it and `end` is not counted.
    #[must_use]
    pub(crate) fn max_timestamp_up_to(&self, segment_base: i64, end: i64) -> (i64, i64) {
        let after = self.entries.partition_point(|e| segment_base + i64::from(e.relative_offset) <= end);
        after.checked_sub(1).map_or((i64::MIN, segment_base), |at| {
            let entry = self.entries[at];
            (entry.max_timestamp_before_ms, segment_base + i64::from(entry.relative_offset))
        })
    }

    /// Base offset of the first batch that carries the largest timestamp; -1 when there is none.
    #[must_use]
    pub(crate) fn max_timestamp_batch(&self) -> i64 {
        self.max_timestamp_batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_up_never_land_behind_the_batch() {
        let mut index = Index::new();
        // (offset, position, timestamp), ten records a batch, out of time order once.
        let batches = [(100, 0, 5), (110, 300, 9), (120, 600, 7), (130, 900, 20), (140, 1200, 21)];
        for (offset, pos, time) in batches {
            index.note(100, offset, pos, time, 500);
        }
        for (offset, pos, _) in batches {
            for within in 0..10 {
                assert!(index.position_of(100, offset + within) <= pos);
            }
        }
        assert_eq!(index.position_of(100, 125), 600);
        for time in 0..=21 {
            let first = batches.iter().find(|b| b.2 >= time).unwrap().0;
            assert!(index.offset_before_time(100, time) <= first, "time {time}");
        }
        assert_eq!((index.max_timestamp_ms(), index.max_timestamp_batch()), (21, 140));
    }
}
