//! Transactions of one partition (KIP-98): which are open, and which were aborted where, so that a reader of committed
//! records knows how far it may read and what to leave out.
//!
//! ```text
//! offsets   0 ...... 40 ........ 55 ........ 60 ...... 71 ....... 90
//!                    └ open: 7    └ open: 9   └ marker: 9 aborted  └ high watermark
//!                    └ last stable offset
//! ```
//!
//! The last stable offset is the first offset of a transaction that is open, or whose marker is not durable yet; without
//! such it is the high watermark.
//!
//! Aborted transactions are kept by the segment that holds their marker, in the order of their markers. When a segment is
//! completed its list goes to a file beside it ([`encode_aborted`]), and from then on memory is a cache of that file.

use std::collections::{BTreeMap, HashMap};

use crate::producer::ProducerTable;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
    /// The last stable offset as the marker leaves it: transactions that end later begin at or behind it.
    pub last_stable: i64,
}

/// Permission to append the first batch of a transaction, once its coordinator has confirmed that the partition belongs to
/// it. A marker that comes in between takes it back, so that no batch follows the end of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionGuard(u64);

/// A verification that has begun, and that no batch or marker has ended.
#[derive(Debug, Clone, Copy)]
struct Verification {
    guard: TransactionGuard,
    epoch: i16,
    /// The lowest sequence number that was to be verified: batches behind one that is tried again must wait for it.
    lowest_sequence: i32,
    /// The producer's epoch is raised by each transaction (KIP-890): what is not known begins at 0.
    bumps_epoch: bool,
    began_ms: i64,
}

/// What a guard says of the batch that it lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) lowest_sequence: i32,
    pub(crate) bumps_epoch: bool,
}

/// The transactions of a partition.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Producers of open transactions, by first offset.
    open: BTreeMap<i64, i64>,
    /// Markers that are not durable yet, by the first offset of their transactions.
    ending: BTreeMap<i64, i64>,
    /// By the base of the segment that holds the markers. A segment without any has no entry.
    aborted: BTreeMap<i64, Aborted>,
    /// Transactions in the lists that files have as well.
    cached: usize,
    verifications: HashMap<i64, Verification>,
    next_guard: u64,
}

/// The aborted transactions of a segment. At least one of the two holds.
#[derive(Debug, Default)]
struct Aborted {
    list: Option<Vec<AbortedTransaction>>,
    is_stored: bool,
}

/// The list of a segment must be read from its file first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotInMemory {
    pub(crate) segment_base: i64,
}

impl Transactions {
    /// Where readers of committed records stop.
    #[must_use]
    pub(crate) fn last_stable(&self, high_watermark: i64, log_start: i64) -> i64 {
        let first = |offsets: &BTreeMap<i64, i64>| offsets.first_key_value().map(|(first, _)| *first);
        let unstable = [first(&self.open), first(&self.ending)].into_iter().flatten().min();
        // Of a transaction that reaches back to before the log's start only the rest counts.
        unstable.map_or(high_watermark, |first| first.max(log_start).min(high_watermark))
    }

    /// A transaction begins.
    pub(crate) fn begin(&mut self, producer_id: i64, first_offset: i64) {
        self.open.insert(first_offset, producer_id);
        self.verifications.remove(&producer_id);
    }

    /// A transaction ends with a marker in the segment at `segment_base`.
    pub(crate) fn end(
        &mut self,
        producer_id: i64,
        first_offset: i64,
        marker_offset: i64,
        commit: bool,
        segment_base: i64,
    ) {
        self.open.remove(&first_offset);
        self.ending.insert(first_offset, marker_offset);
        if !commit {
            let last_stable = self.open.first_key_value().map_or(marker_offset + 1, |(first, _)| *first);
            let aborted = AbortedTransaction { producer_id, first_offset, last_offset: marker_offset, last_stable };
            self.aborted.entry(segment_base).or_default().list.get_or_insert_default().push(aborted);
        }
    }

    /// A marker came for this producer, whether or not it had a transaction here.
    pub(crate) fn end_verification(&mut self, producer_id: i64) {
        self.verifications.remove(&producer_id);
    }

    /// Everything below `offset` has become durable.
    pub(crate) fn on_durable(&mut self, offset: i64) {
        if !self.ending.is_empty() {
            self.ending.retain(|_, marker| *marker >= offset);
        }
    }

    /// Begins anew with the open transactions of a table that was read back. What is stored in files stays known.
    pub(crate) fn restart(&mut self, producers: &ProducerTable) {
        self.open = producers.open().collect();
        self.ending.clear();
    }

    /// A guard for the first batch of a transaction. Calls for the same transaction give the same guard. Of more than `max`
    /// verifications the oldest is forgotten: those that their coordinators refuse are never made use of.
    pub(crate) fn verify(
        &mut self,
        producer_id: i64,
        epoch: i16,
        sequence: i32,
        bumps_epoch: bool,
        now_ms: i64,
        max: usize,
    ) -> TransactionGuard {
        if !self.verifications.contains_key(&producer_id) && self.verifications.len() >= max {
            let oldest = self.verifications.iter().min_by_key(|(_, verification)| verification.guard.0);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.verifications.remove(&oldest);
            }
        }
        let next_guard = &mut self.next_guard;
        let verification = self.verifications.entry(producer_id).or_insert_with(|| {
            *next_guard += 1;
            let guard = TransactionGuard(*next_guard);
            Verification { guard, epoch, lowest_sequence: sequence, bumps_epoch, began_ms: now_ms }
        });
        if epoch > verification.epoch {
            (verification.epoch, verification.lowest_sequence) = (epoch, sequence);
        } else if epoch == verification.epoch {
            verification.lowest_sequence = verification.lowest_sequence.min(sequence);
        }
        verification.bumps_epoch = bumps_epoch;
        verification.guard
    }

    /// What the guard lets in, if it still counts.
    #[must_use]
    pub(crate) fn verified(&self, producer_id: i64, guard: Option<TransactionGuard>) -> Option<Verified> {
        let verification = self.verifications.get(&producer_id).filter(|found| Some(found.guard) == guard)?;
        Some(Verified { lowest_sequence: verification.lowest_sequence, bumps_epoch: verification.bumps_epoch })
    }

    /// Forgets verifications that nobody has made use of.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.verifications.retain(|_, verification| verification.began_ms >= before_ms);
    }

    /// Adds to `found` the aborted transactions that have records in `from..to` or end there, of the segment at
    /// `segment_base`, which holds `from`, and those behind it. An error where a list is not in memory: the search may go
    /// on with that segment.
    pub(crate) fn find_aborted(
        &self,
        segment_base: i64,
        from: i64,
        to: i64,
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<(), NotInMemory> {
        for (base, aborted) in self.aborted.range(segment_base..) {
            let list = aborted.list.as_ref().ok_or(NotInMemory { segment_base: *base })?;
            let first = list.partition_point(|aborted| aborted.last_offset < from);
            for aborted in &list[first..] {
                if aborted.first_offset < to {
                    found.push(*aborted);
                }
                // What ends later begins at or behind `to`.
                if aborted.last_stable >= to {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Aborted transactions that the segment at `segment_base` ends.
    #[must_use]
    pub(crate) fn aborted_by(&self, segment_base: i64) -> usize {
        self.aborted.get(&segment_base).and_then(|aborted| aborted.list.as_ref()).map_or(0, Vec::len)
    }

    /// The list of a segment that no file has.
    #[must_use]
    pub(crate) fn unstored(&self, segment_base: i64) -> Option<&[AbortedTransaction]> {
        self.aborted.get(&segment_base).filter(|aborted| !aborted.is_stored)?.list.as_deref()
    }

    /// The file of a segment's list is durable.
    pub(crate) fn note_stored(&mut self, segment_base: i64, max_cached: usize) {
        if let Some(aborted) = self.aborted.get_mut(&segment_base)
            && !std::mem::replace(&mut aborted.is_stored, true)
        {
            self.cached += aborted.list.as_ref().map_or(0, Vec::len);
            self.shrink(segment_base, max_cached);
        }
    }

    /// There is a file with a segment's list.
    pub(crate) fn add_stored(&mut self, segment_base: i64) {
        self.aborted.insert(segment_base, Aborted { list: None, is_stored: true });
    }

    /// The list of a segment was read from its file.
    pub(crate) fn note_loaded(&mut self, segment_base: i64, list: Vec<AbortedTransaction>, max_cached: usize) {
        if let Some(aborted) = self.aborted.get_mut(&segment_base)
            && aborted.list.is_none()
        {
            self.cached += list.len();
            aborted.list = Some(list);
            self.shrink(segment_base, max_cached);
        }
    }

    /// Forgets what is known of a segment, which is about to be read again.
    pub(crate) fn forget(&mut self, segment_base: i64) {
        if let Some(aborted) = self.aborted.remove(&segment_base)
            && aborted.is_stored
        {
            self.cached -= aborted.list.map_or(0, |list| list.len());
        }
    }

    /// Whether a segment has a list.
    #[must_use]
    pub(crate) fn has_list(&self, segment_base: i64) -> bool {
        self.aborted.contains_key(&segment_base)
    }

    /// Compaction has made one segment of those at `bases`, with this list, which its file has already.
    pub(crate) fn replace(&mut self, bases: &[i64], list: Vec<AbortedTransaction>, max_cached: usize) {
        bases.iter().for_each(|base| self.forget(*base));
        if let Some(&base) = bases.first().filter(|_| !list.is_empty()) {
            self.add_stored(base);
            self.note_loaded(base, list, max_cached);
        }
    }

    /// Forgets the lists of segments before `segment_base`, which are gone.
    pub(crate) fn remove_before(&mut self, segment_base: i64) {
        while let Some(entry) = self.aborted.first_entry().filter(|entry| *entry.key() < segment_base) {
            let aborted = entry.remove();
            if aborted.is_stored {
                self.cached -= aborted.list.map_or(0, |list| list.len());
            }
        }
    }

    /// Gives the memory of lists back that files have as well, oldest first, but not that of the segment at `but`.
    fn shrink(&mut self, but: i64, max_cached: usize) {
        for (base, aborted) in &mut self.aborted {
            if self.cached <= max_cached {
                break;
            }
            if *base != but && aborted.is_stored {
                self.cached -= aborted.list.take().map_or(0, |list| list.len());
            }
        }
    }
}

const ABORTED_BYTES: usize = 32;

/// The list of a segment as bytes, little-endian, 32 for each: producer id, first offset, last offset, last stable offset.
#[must_use]
pub(crate) fn encode_aborted(list: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len() * ABORTED_BYTES);
    for aborted in list {
        for field in [aborted.producer_id, aborted.first_offset, aborted.last_offset, aborted.last_stable] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    out
}

/// Reads what [`encode_aborted`] wrote; `None` when the bytes cannot be that.
#[must_use]
pub(crate) fn decode_aborted(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    let (records, []) = bytes.as_chunks::<ABORTED_BYTES>() else { return None };
    let decode = |record: &[u8; ABORTED_BYTES]| {
        let field = |at: usize| i64::from_le_bytes(record.as_chunks::<8>().0[at]);
        AbortedTransaction {
            producer_id: field(0),
            first_offset: field(1),
            last_offset: field(2),
            last_stable: field(3),
        }
    };
    Some(records.iter().map(decode).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURABLE: i64 = i64::MAX;

    fn search(transactions: &Transactions, segment: i64, from: i64, to: i64) -> (Vec<i64>, Option<i64>) {
        let mut found = Vec::new();
        let missing = transactions.find_aborted(segment, from, to, &mut found).err();
        (found.iter().map(|aborted| aborted.first_offset).collect(), missing.map(|missing| missing.segment_base))
    }

    fn firsts(transactions: &Transactions, segment: i64, from: i64, to: i64) -> Vec<i64> {
        let (found, missing) = search(transactions, segment, from, to);
        assert_eq!(missing, None);
        found
    }

    #[test]
    fn the_last_stable_offset_waits_for_markers_to_be_durable() {
        let mut transactions = Transactions::default();
        assert_eq!(transactions.last_stable(50, 0), 50);
        transactions.begin(7, 10);
        transactions.begin(9, 20);
        assert_eq!(transactions.last_stable(50, 0), 10);
        assert_eq!(transactions.last_stable(5, 0), 5, "nothing beyond the high watermark");
        assert_eq!(transactions.last_stable(50, 15), 15, "nothing before the log's start");
        transactions.end(7, 10, 60, true, 0);
        transactions.on_durable(60);
        assert_eq!(transactions.last_stable(60, 0), 10, "the marker at 60 is not durable yet");
        transactions.on_durable(61);
        assert_eq!(transactions.last_stable(61, 0), 20);
        transactions.end(9, 20, 61, false, 0);
        transactions.on_durable(DURABLE);
        assert_eq!(transactions.last_stable(62, 0), 62);
    }

    #[test]
    fn a_range_finds_the_aborted_that_overlap_it() {
        let mut transactions = Transactions::default();
        // 1: 0..=30 and 2: 10..=20 in the first segment, 3: 25..=45 ends in the second, 4 is committed.
        transactions.begin(1, 0);
        transactions.begin(2, 10);
        transactions.end(2, 10, 20, false, 0);
        transactions.begin(3, 25);
        transactions.end(1, 0, 30, false, 0);
        transactions.begin(4, 35);
        transactions.end(4, 35, 44, true, 40);
        transactions.end(3, 25, 45, false, 40);
        assert_eq!(firsts(&transactions, 0, 0, 5), [0]);
        assert_eq!(firsts(&transactions, 0, 5, 15), [10, 0]);
        assert_eq!(firsts(&transactions, 0, 20, 26), [10, 0, 25], "the marker counts");
        assert_eq!(firsts(&transactions, 0, 21, 26), [0, 25], "one that ends in a later segment");
        assert_eq!(firsts(&transactions, 0, 31, 40), [25]);
        assert_eq!(firsts(&transactions, 40, 41, 45), [25]);
        assert_eq!(firsts(&transactions, 40, 46, 90), [0; 0]);
    }

    #[test]
    fn lists_leave_memory_when_files_have_them() {
        let mut transactions = Transactions::default();
        for base in [0, 10, 20] {
            for at in [0, 2] {
                transactions.begin(1, base + at);
                transactions.end(1, base + at, base + at + 1, false, base);
            }
        }
        let list = transactions.unstored(0).unwrap().to_vec();
        assert_eq!(decode_aborted(&encode_aborted(&list)), Some(list.clone()));
        assert_eq!(decode_aborted(&encode_aborted(&list)[1..]), None);
        [0, 10].into_iter().for_each(|base| transactions.note_stored(base, 3));
        assert_eq!(transactions.cached, 2);
        assert_eq!(search(&transactions, 0, 0, 3), (vec![], Some(0)));
        assert_eq!(firsts(&transactions, 10, 10, 90), [10, 12, 20, 22]);
        transactions.note_loaded(0, list, 3);
        assert_eq!(firsts(&transactions, 0, 0, 3), [0, 2]);
        assert_eq!(search(&transactions, 0, 0, 90), (vec![0, 2], Some(10)), "what is there is found");
        transactions.remove_before(20);
        assert_eq!((transactions.cached, transactions.aborted.len()), (0, 1));
    }

    #[test]
    fn a_marker_and_a_batch_take_the_guard_back() {
        let mut transactions = Transactions::default();
        let forgotten = transactions.verify(2, 0, 0, false, 0, 1);
        let guard = transactions.verify(1, 0, 5, false, 0, 1);
        assert_eq!(transactions.verified(2, Some(forgotten)), None, "there may be one");
        assert_eq!(transactions.verify(1, 0, 3, false, 0, 1), guard);
        assert_eq!(transactions.verify(1, 0, 4, false, 0, 1), guard);
        let verified = Verified { lowest_sequence: 3, bumps_epoch: false };
        assert_eq!(transactions.verified(1, Some(guard)), Some(verified));
        assert_eq!(transactions.verified(1, None), None);
        assert_eq!(transactions.verified(2, Some(guard)), None);
        transactions.verify(1, 1, 9, true, 0, 1);
        let verified = Verified { lowest_sequence: 9, bumps_epoch: true };
        assert_eq!(transactions.verified(1, Some(guard)), Some(verified), "a new epoch numbers anew");
        transactions.end_verification(1);
        assert_eq!(transactions.verified(1, Some(guard)), None);
        let next = transactions.verify(1, 0, 5, false, 0, 1);
        assert_ne!(next, guard);
        transactions.begin(1, 40);
        assert_eq!(transactions.verified(1, Some(next)), None);
    }
}
