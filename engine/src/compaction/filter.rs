//! What is left of each batch: the rules of Kafka's log cleaner, without files and clocks.
//!
//! | | stays when |
//! | --- | --- |
//! | record | it lies behind what the key map covers, or it is the newest of its key and no tombstone whose time is over |
//! | tombstone | as a record, until the delete horizon of its batch, which the first pass over it sets (KIP-534) |
//! | record of an aborted transaction | never |
//! | end of a transaction | a pass has met records of the transaction; then until the delete horizon |
//! | batch without records | it holds the newest sequence number of a producer, or the last offset of the pass |
//!
//! Offsets stay what they are: a batch keeps its base and last offset, and its records their distance from the base.

use std::collections::{BTreeMap, BTreeSet};

use wire::batch::{
    BatchHeader, BatchView, ControlRecord, EndTransaction, Header, NO_TIMESTAMP, NewRecord, Record, TimestampType,
    write_record,
};
use wire::compression::{self, Codec};

use super::key_map::KeyMap;
use crate::limits::DECOMPRESSED_BYTES;
use crate::transactions::AbortedTransaction;

/// What a producer that is still known wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRecord {
    /// Offset of its newest record; none when only the ends of its transactions are known.
    pub(super) data_offset: Option<i64>,
    pub(super) epoch: i16,
}

/// What one pass over a log goes by.
pub(super) struct Rules<'a> {
    /// The newest offset of each key.
    pub(super) newest: &'a KeyMap,
    /// What the map does not cover begins here.
    pub(super) mapped_to: i64,
    /// The pass ends at this offset.
    pub(super) end_offset: i64,
    /// Wall clock, in ms.
    pub(super) now_ms: i64,
    /// `delete.retention.ms`.
    pub(super) delete_retention_ms: i64,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It stays as it is.
    Same,
    /// It is replaced by another one, which was appended to the output.
    Changed,
    /// It goes.
    Gone,
}

/// A batch that is not what it should be. Nothing of its log is compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) String);

/// Which transactions a walk over a log is in.
pub(super) struct Transactions {
    /// Aborted ones that the walk has not reached, the last one first.
    ahead: Vec<AbortedTransaction>,
    /// By producer: the aborted one that the walk is in, and whether it has met records of it.
    aborted: BTreeMap<i64, (AbortedTransaction, bool)>,
    /// Producers of which the walk has met records of a transaction that is not aborted.
    committed: BTreeSet<i64>,
    /// Aborted ones of which records were met: readers have to know of them for as long as their ends are there.
    met: Vec<AbortedTransaction>,
}

impl Transactions {
    /// `aborted` has all that end behind the walk's beginning, and none that end before it.
    #[must_use]
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Transactions {
        aborted.sort_unstable_by_key(|it| std::cmp::Reverse(it.first_offset));
        Transactions { ahead: aborted, aborted: BTreeMap::new(), committed: BTreeSet::new(), met: Vec::new() }
    }

    /// Takes note of the next batch of the log. True when its records are not needed: those of an aborted transaction, or
    /// the end of one of which no record is left.
    pub(super) fn note(&mut self, batch: &BatchView<'_>) -> bool {
        let producer_id = batch.producer_id();
        while let Some(next) = self.ahead.pop_if(|it| it.first_offset <= batch.last_offset()) {
            self.aborted.entry(next.producer_id).or_insert((next, false));
        }
        if !batch.attributes().is_control() {
            if !batch.attributes().is_transactional() {
                return false;
            }
            return match self.aborted.get_mut(&producer_id) {
                Some((_, has_met)) => {
                    *has_met = true;
                    true
                }
                None => {
                    self.committed.insert(producer_id);
                    false
                }
            };
        }
        // An end without its record has been through this before.
        let Some(Ok(record)) = batch.records().ok().and_then(|mut records| records.next()) else { return true };
        match ControlRecord::parse(&record) {
            Ok(ControlRecord::EndTransaction { end: EndTransaction::Abort, .. }) => {
                let ended = self.aborted.remove(&producer_id);
                let met = ended.and_then(|(aborted, has_met)| has_met.then_some(aborted));
                self.met.extend(met);
                met.is_none()
            }
            Ok(ControlRecord::EndTransaction { end: EndTransaction::Commit, .. }) => {
                !self.committed.remove(&producer_id)
            }
            Ok(ControlRecord::Other { .. }) | Err(_) => false,
        }
    }

    /// The aborted transactions of which the walk has met records and, since the last call, the end.
    pub(super) fn take_met(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.met)
    }
}

/// Calls `each` with the records of a batch that its checksum says are what was written.
pub(super) fn for_each_record(
    batch: &BatchView<'_>,
    scratch: &mut Vec<u8>,
    mut each: impl FnMut(&Record<'_>) -> bool,
) -> Result<(), Damaged> {
    let damaged = |cause: &dyn std::fmt::Display| Damaged(format!("batch at offset {}: {cause}", batch.base_offset()));
    if batch.record_count() == 0 {
        return Ok(());
    }
    let body = batch.decompress(DECOMPRESSED_BYTES, scratch).map_err(|error| damaged(&error))?;
    for record in batch.records_in(body) {
        if !each(&record.map_err(|error| damaged(&error))?) {
            break;
        }
    }
    Ok(())
}

/// Applies the rules to batches, in the order of the log.
pub(super) struct Filter<'a> {
    rules: Rules<'a>,
    pub(super) transactions: Transactions,
    scratch: Vec<u8>,
    /// Records of the batch that is being made.
    body: Vec<u8>,
    packed: Vec<u8>,
}

impl<'a> Filter<'a> {
    #[must_use]
    pub(super) fn new(rules: Rules<'a>, transactions: Transactions) -> Filter<'a> {
        Filter { rules, transactions, scratch: Vec::new(), body: Vec::new(), packed: Vec::new() }
    }

    /// Decides on the next batch. `last` is what its producer wrote last, as far as it is still known.
    pub(super) fn batch(
        &mut self,
        batch: &BatchView<'_>,
        last: Option<LastRecord>,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Damaged> {
        let is_control = batch.attributes().is_control();
        let is_unneeded = self.transactions.note(batch);
        let is_over = batch.delete_horizon().is_some_and(|horizon_ms| horizon_ms <= self.rules.now_ms);
        let discards = is_unneeded && (!is_control || is_over);
        let must_stay = batch.last_offset() + 1 == self.rules.end_offset
            || last.is_some_and(|last| match last.data_offset {
                Some(offset) => offset == batch.last_offset(),
                None => is_control && last.epoch == batch.producer_epoch(),
            });
        if discards && !must_stay {
            return Ok(Outcome::Gone);
        }
        let mut kept = Kept::default();
        if !discards {
            let mut scratch = std::mem::take(&mut self.scratch);
            let result = for_each_record(batch, &mut scratch, |record| {
                kept.all += 1;
                if is_control || self.stays(batch, record) {
                    kept.stayed += 1;
                    kept.has_tombstone |= record.value.is_none();
                }
                true
            });
            self.scratch = scratch;
            result?;
        }
        let wants_horizon = kept.has_tombstone || (is_control && is_unneeded);
        let sets_horizon = wants_horizon && batch.delete_horizon().is_none();
        match kept.stayed {
            0 if must_stay && batch.record_count() == 0 => Ok(Outcome::Same),
            0 if must_stay => empty(batch, out).map(|()| Outcome::Changed),
            0 => Ok(Outcome::Gone),
            stayed if stayed == kept.all && !sets_horizon => Ok(Outcome::Same),
            _ => self.rewrite(batch, sets_horizon, out).map(|()| Outcome::Changed),
        }
    }

    fn stays(&self, batch: &BatchView<'_>, record: &Record<'_>) -> bool {
        if record.offset >= self.rules.mapped_to {
            return true;
        }
        // A record without a key is from a time when the topic was not compacted.
        let Some(key) = record.key else { return false };
        let is_newest = self.rules.newest.get(key).is_none_or(|newest| record.offset >= newest);
        let is_over = batch.delete_horizon().is_some_and(|horizon_ms| horizon_ms <= self.rules.now_ms);
        is_newest && (record.value.is_some() || !is_over)
    }

    /// Writes the batch anew with the records that stay.
    fn rewrite(&mut self, batch: &BatchView<'_>, sets_horizon: bool, out: &mut Vec<u8>) -> Result<(), Damaged> {
        let mut header = batch.header();
        let horizon_ms = match sets_horizon {
            true => Some(self.rules.now_ms.saturating_add(self.rules.delete_retention_ms)),
            false => batch.delete_horizon(),
        };
        header.attributes = header.attributes.with_delete_horizon(horizon_ms.is_some());
        let by_log = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let (mut base_ms, mut max_ms, mut count) = (horizon_ms, NO_TIMESTAMP, 0);
        let (mut scratch, mut body) = (std::mem::take(&mut self.scratch), std::mem::take(&mut self.body));
        body.clear();
        let mut failed = None;
        let walked = for_each_record(batch, &mut scratch, |record| {
            if !header.attributes.is_control() && !self.stays(batch, record) {
                return true;
            }
            let base_ms = *base_ms.get_or_insert(record.timestamp);
            let headers: Vec<Header<'_>> = record.headers.collect();
            // The timestamp is in the delta.
            let new = NewRecord { timestamp: NO_TIMESTAMP, key: record.key, value: record.value, headers: &headers };
            let delta_ms = record.timestamp.wrapping_sub(base_ms);
            failed = write_record(&mut body, record.offset_delta, delta_ms, &new).err();
            max_ms = max_ms.max(record.timestamp);
            count += 1;
            failed.is_none()
        });
        self.scratch = scratch;
        walked?;
        header.base_timestamp = base_ms.unwrap_or(NO_TIMESTAMP);
        header.max_timestamp = if by_log { header.max_timestamp } else { max_ms };
        header.record_count = count;
        let codec = batch.codec().map_err(|error| Damaged(error.to_string()))?;
        let written = match (failed, codec) {
            (Some(error), _) => Err(error.to_string()),
            (None, Codec::None) => header.write(&body, out).map_err(|error| error.to_string()),
            (None, codec) => {
                self.packed.clear();
                compression::compress(codec, &body, &mut self.packed)
                    .map_err(|error| error.to_string())
                    .and_then(|()| header.write(&self.packed, out).map_err(|error| error.to_string()))
            }
        };
        self.body = body;
        written.map_err(|error| Damaged(format!("batch at offset {}: {error}", batch.base_offset())))
    }
}

#[derive(Default)]
struct Kept {
    all: usize,
    stayed: usize,
    has_tombstone: bool,
}

/// The header of a batch whose records are gone: it keeps the producer's sequence numbers and the offsets.
fn empty(batch: &BatchView<'_>, out: &mut Vec<u8>) -> Result<(), Damaged> {
    let old = batch.header();
    let header = BatchHeader {
        attributes: old.attributes.with_codec(Codec::None).with_delete_horizon(false),
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..old
    };
    header.write(&[], out).map_err(|error| Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use wire::batch::{Attributes, BatchBuilder, write_end_transaction};

    use super::*;

    const NOW_MS: i64 = 50_000;
    const RETENTION_MS: i64 = 1_000;

    /// Key, value, timestamp.
    type Plain<'a> = (&'a str, Option<&'a str>, i64);

    fn batch(base: i64, codec: Codec, producer: Option<i64>, records: &[Plain<'_>]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        builder.assigned(base, 3);
        if let Some(id) = producer {
            builder.producer(id, 0, 7);
        }
        finish(builder, records)
    }

    fn finish(mut builder: BatchBuilder, records: &[Plain<'_>]) -> Vec<u8> {
        let headers = [Header { key: b"h", value: Some(b"v") }];
        for (key, value, timestamp) in records {
            let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
            builder.push(&NewRecord { timestamp: *timestamp, key, value, headers: &headers }).unwrap();
        }
        let mut out = Vec::new();
        builder.finish(&mut out).unwrap();
        out
    }

    fn in_transaction(base: i64, producer: i64, records: &[Plain<'_>]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.assigned(base, 3).producer(producer, 0, 0).transactional(true);
        finish(builder, records)
    }

    fn end(base: i64, producer: i64, end: EndTransaction) -> Vec<u8> {
        let mut out = Vec::new();
        write_end_transaction(&mut out, end, producer, 0, 0, 40).unwrap();
        wire::batch::assign(&mut out, base, 3);
        out
    }

    fn aborted() -> AbortedTransaction {
        AbortedTransaction { producer_id: 5, first_offset: 10, last_offset: 12, last_stable: 11 }
    }

    fn map(newest: &[(&str, i64)]) -> KeyMap {
        let mut map = KeyMap::new([1, 2], 100, 1 << 20, 0.9);
        newest.iter().for_each(|(key, offset)| assert!(map.put(key.as_bytes(), *offset)));
        map
    }

    fn rules(newest: &KeyMap, now_ms: i64) -> Rules<'_> {
        Rules { newest, mapped_to: 100, end_offset: 1_000, now_ms, delete_retention_ms: RETENTION_MS }
    }

    /// What one pass makes of batches.
    fn pass(
        rules: Rules<'_>,
        aborted: &[AbortedTransaction],
        batches: &[Vec<u8>],
        last: &[(i64, LastRecord)],
    ) -> Vec<Vec<u8>> {
        let mut filter = Filter::new(rules, Transactions::new(aborted.to_vec()));
        let decide = |bytes: &Vec<u8>| {
            let view = BatchView::parse(bytes).unwrap();
            let of_producer = last.iter().find(|(id, _)| *id == view.producer_id()).map(|(_, last)| *last);
            let mut out = Vec::new();
            match filter.batch(&view, of_producer, &mut out).unwrap() {
                Outcome::Same => Some(bytes.clone()),
                Outcome::Changed => Some(out),
                Outcome::Gone => None,
            }
        };
        batches.iter().filter_map(decide).collect()
    }

    /// Offset, key, value, timestamp, of records that all have their header.
    fn records(bytes: &[u8]) -> Vec<(i64, String, Option<String>, i64)> {
        let view = BatchView::parse(bytes).unwrap();
        assert!(view.crc_matches());
        let mut scratch = Vec::new();
        let body = view.decompress(1 << 20, &mut scratch).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        view.records_in(body)
            .map(Result::unwrap)
            .map(|record| {
                assert_eq!(record.headers.len(), 1);
                (record.offset, text(record.key.unwrap()), record.value.map(text), record.timestamp)
            })
            .collect()
    }

    #[test]
    fn the_newest_record_of_a_key_stays_where_it_is() {
        for codec in Codec::ALL {
            let records_of = [("a", Some("1"), 40), ("b", Some("2"), 45), ("a", Some("3"), 44), ("c", Some("4"), 30)];
            let bytes = batch(10, codec, Some(5), &records_of);
            let newest = map(&[("a", 12), ("b", 20), ("c", 13)]);
            let left = pass(rules(&newest, NOW_MS), &[], std::slice::from_ref(&bytes), &[]);
            let text = |it: &str| it.to_owned();
            let expected = [(12, text("a"), Some(text("3")), 44), (13, text("c"), Some(text("4")), 30)];
            assert_eq!(records(&left[0]), expected);
            let (old, new) = (BatchView::parse(&bytes).unwrap().header(), BatchView::parse(&left[0]).unwrap().header());
            assert_eq!(new, BatchHeader { record_count: 2, base_timestamp: 44, max_timestamp: 44, ..old });
            // Nothing more goes, so nothing changes.
            assert_eq!(pass(rules(&newest, NOW_MS), &[], &left, &[]), left);
        }
    }

    #[test]
    fn what_the_map_does_not_cover_stays() {
        let newest = map(&[("a", 99)]);
        let batches = [batch(98, Codec::None, None, &[("a", Some("1"), 1), ("a", Some("2"), 2), ("a", None, 3)])];
        let left = pass(rules(&newest, NOW_MS), &[], &batches, &[]);
        assert_eq!(records(&left[0]).iter().map(|it| it.0).collect::<Vec<_>>(), [99, 100]);
    }

    #[test]
    fn a_tombstone_stays_until_its_horizon() {
        let newest = map(&[("a", 11), ("b", 10)]);
        let batches = [batch(10, Codec::Lz4, None, &[("b", Some("1"), 40), ("a", None, 41)])];
        let marked = pass(rules(&newest, NOW_MS), &[], &batches, &[]);
        let view = BatchView::parse(&marked[0]).unwrap();
        assert_eq!(view.delete_horizon(), Some(NOW_MS + RETENTION_MS));
        assert_eq!(records(&marked[0]), records(&batches[0]), "only the base of the timestamps has changed");
        // The horizon stays, whatever the time and the setting.
        assert_eq!(pass(rules(&newest, NOW_MS + RETENTION_MS - 1), &[], &marked, &[]), marked);
        let left = pass(rules(&newest, NOW_MS + RETENTION_MS), &[], &marked, &[]);
        assert_eq!(records(&left[0]).iter().map(|it| it.0).collect::<Vec<_>>(), [10]);
        assert_eq!(BatchView::parse(&left[0]).unwrap().delete_horizon(), Some(NOW_MS + RETENTION_MS));
    }

    #[test]
    fn a_batch_without_records_stays_for_its_producer_or_as_the_last() {
        let newest = map(&[("a", 90)]);
        let batches = [
            batch(10, Codec::Zstd, Some(5), &[("a", Some("1"), 40), ("a", Some("2"), 41)]),
            batch(12, Codec::None, Some(5), &[("a", Some("3"), 42)]),
            batch(13, Codec::None, Some(6), &[("a", Some("4"), 43)]),
            batch(14, Codec::Gzip, None, &[("a", Some("5"), 44)]),
        ];
        let last = [(5, LastRecord { data_offset: Some(12), epoch: 0 })];
        let rules = |now_ms| Rules { end_offset: 15, ..rules(&newest, now_ms) };
        let left = pass(rules(NOW_MS), &[], &batches, &last);
        assert_eq!(left.len(), 2);
        for (left, old) in left.iter().zip([&batches[1], &batches[3]]) {
            let (new, old) = (BatchView::parse(left).unwrap(), BatchView::parse(old).unwrap().header());
            assert!(new.crc_matches() && new.total_len() == wire::batch::HEADER_LEN);
            let attributes = Attributes::default();
            let expected = BatchHeader { record_count: 0, base_timestamp: -1, attributes, ..old };
            assert_eq!(new.header(), expected);
        }
        assert_eq!(pass(rules(NOW_MS), &[], &left, &last), left);
        assert_eq!(pass(super::tests::rules(&newest, NOW_MS), &[], &left, &[]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn an_aborted_transaction_goes_and_its_end_later() {
        let newest = map(&[("a", 30)]);
        let batches = [
            in_transaction(10, 5, &[("x", Some("1"), 40)]),
            in_transaction(11, 6, &[("y", Some("2"), 41)]),
            end(12, 5, EndTransaction::Abort),
            end(13, 6, EndTransaction::Commit),
            in_transaction(14, 5, &[("z", Some("3"), 42)]),
            end(15, 5, EndTransaction::Commit),
        ];
        let aborted = [aborted()];
        let offsets = |batches: &[Vec<u8>]| -> Vec<i64> {
            batches.iter().map(|bytes| BatchView::parse(bytes).unwrap().base_offset()).collect()
        };
        let first = pass(rules(&newest, NOW_MS), &aborted, &batches, &[]);
        assert_eq!(offsets(&first), [11, 12, 13, 14, 15]);
        assert!(first.iter().all(|bytes| BatchView::parse(bytes).unwrap().delete_horizon().is_none()));
        // Its records are gone: the end gets its horizon, and goes when that is over.
        let second = pass(rules(&newest, NOW_MS), &aborted, &first, &[]);
        assert_eq!(offsets(&second), offsets(&first));
        assert_eq!(BatchView::parse(&second[1]).unwrap().delete_horizon(), Some(NOW_MS + RETENTION_MS));
        let third = pass(rules(&newest, NOW_MS + RETENTION_MS), &[], &second, &[]);
        assert_eq!(offsets(&third), [11, 13, 14, 15]);
        // It stays where it is all that is known of its producer.
        let last = [(5, LastRecord { data_offset: None, epoch: 0 })];
        let kept = pass(rules(&newest, NOW_MS + RETENTION_MS), &[], &second, &last);
        assert_eq!(offsets(&kept), [11, 12, 13, 14, 15]);
        assert_eq!(BatchView::parse(&kept[1]).unwrap().record_count(), 0);
    }

    #[test]
    fn an_aborted_transaction_is_known_while_records_of_it_are_met() {
        let batches = [in_transaction(10, 5, &[("x", Some("1"), 40)]), end(11, 5, EndTransaction::Abort)];
        let aborted = aborted();
        let walk = |batches: &[Vec<u8>]| {
            let mut transactions = Transactions::new(vec![aborted]);
            for bytes in batches {
                transactions.note(&BatchView::parse(bytes).unwrap());
            }
            transactions.take_met()
        };
        assert_eq!(walk(&batches), [aborted]);
        assert_eq!(walk(&batches[1..]), []);
    }
}
