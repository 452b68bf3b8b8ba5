//! A compacted log held against what was sent to it: which records have to be there, which may, and whom they are given to.

use std::collections::{BTreeMap, BTreeSet};

use engine::{AbortedTransaction, Compacted, CompactionOptions, Slot, Store};
use wire::batch::{BatchView, Batches, ControlRecord, EndTransaction};

/// A key and its value, or the key's deletion.
pub(crate) type Record = (Vec<u8>, Option<Vec<u8>>);
/// By offset.
pub(crate) type Records = BTreeMap<i64, Record>;

/// A map of five keys: most passes cover a part of what is dirty.
pub(crate) fn few_keys() -> CompactionOptions {
    CompactionOptions { map_bytes: 7 * 24, io_bytes: 16 << 10, backoff_ms: 1, ..CompactionOptions::default() }
}

pub(crate) fn many_keys() -> CompactionOptions {
    CompactionOptions { map_bytes: 1 << 20, ..few_keys() }
}

/// The records of a batch that was stored at `base`.
pub(crate) fn records_of(bytes: &[u8], base: i64) -> Records {
    let view = BatchView::parse(bytes).unwrap();
    let mut scratch = Vec::new();
    let body = view.decompress(1 << 20, &mut scratch).unwrap();
    let records = view.records_in(body).map(Result::unwrap).map(|record| {
        let offset = base + i64::from(record.offset_delta);
        (offset, (record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec)))
    });
    records.collect()
}

/// The records that are the newest of their keys among those below `end`.
pub(crate) fn newest(records: &Records, end: i64, is_aborted: impl Fn(i64) -> bool) -> BTreeMap<i64, &Record> {
    let mut by_key: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (offset, (key, _)) in records.range(..end).filter(|(offset, _)| !is_aborted(**offset)) {
        by_key.insert(key, *offset);
    }
    by_key.into_values().map(|offset| (offset, &records[&offset])).collect()
}

/// Whole batches that hold what was sent, from the one with `offset`, or behind it, on. Returns the offset after the last
/// one, and the records.
pub(crate) fn check_batches(bytes: &[u8], offset: i64, records: &Records) -> (i64, Records) {
    let mut next = offset;
    let mut found = BTreeMap::new();
    let mut rest = bytes;
    let mut scratch = Vec::new();
    while !rest.is_empty() {
        let view = BatchView::parse(rest).unwrap();
        assert!(view.crc_matches());
        assert!(view.last_offset() >= next && (view.base_offset() >= next || next == offset), "{view:?} at {next}");
        let body = view.decompress(1 << 20, &mut scratch).unwrap();
        let left = if view.attributes().is_control() { None } else { Some(view.records_in(body)) };
        for record in left.into_iter().flatten().map(Result::unwrap) {
            let record_of = (record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec));
            assert!(records[&record.offset] == record_of, "offset {} is something else", record.offset);
            found.insert(record.offset, record_of);
        }
        next = view.last_offset() + 1;
        rest = &rest[view.total_len()..];
    }
    (next, found)
}

/// All records that are left, and whether a reader of committed records is given them.
pub(crate) async fn read_all(
    store: &Store,
    slot: Slot,
    records: &Records,
    is_aborted: impl Fn(i64) -> bool,
) -> Records {
    let info = store.info(slot).unwrap();
    let end = info.high_watermark;
    let (mut offset, mut all) = (info.log_start, BTreeMap::new());
    let mut reader = CommittedReader::new(store.aborted_cold(slot, offset, end).await.unwrap());
    while offset < end {
        let data = store.read_any(slot, offset).await.unwrap_or_else(|error| panic!("at {offset}: {error:?}"));
        let bytes: Vec<u8> = data.slices.iter().flat_map(|slice| slice.as_bytes().to_vec()).collect();
        assert!(!bytes.is_empty(), "nothing at {offset} of {end}");
        let (next, found) = check_batches(&bytes, offset, records);
        assert!(next > offset);
        for batch in Batches::new(&bytes).map(Result::unwrap) {
            let is_given = reader.takes(&batch);
            for (offset, _) in found.range(batch.base_offset()..=batch.last_offset()) {
                let is_wanted = !is_aborted(*offset);
                let is_stable = *offset < info.last_stable;
                assert!(is_given == is_wanted || !is_stable, "offset {offset}: given {is_given}, {:?}", reader.aborted);
            }
        }
        (offset, _) = (next, all.extend(found));
    }
    assert_eq!(offset, end);
    all
}

/// Holds what is left when all is compacted up to `cleaned_to` against what has to be.
pub(crate) fn check_left(
    left: &Records,
    records: &Records,
    is_aborted: impl Fn(i64) -> bool,
    start: i64,
    cleaned_to: i64,
    context: &str,
) {
    if cleaned_to == 0 {
        return;
    }
    let mut expected = newest(records, cleaned_to, &is_aborted);
    expected.extend(records.range(cleaned_to..).map(|(offset, record)| (*offset, record)));
    // Behind what the map covers, only what is aborted goes; before it, tombstones whose time is over.
    let may_be_gone = |offset: &i64| match *offset >= cleaned_to {
        _ if *offset < start => true,
        true => is_aborted(*offset),
        false => records[offset].1.is_none(),
    };
    let offsets = |all: Vec<i64>| all.into_iter().filter(|it| !may_be_gone(it)).collect::<Vec<_>>();
    let (left, expected) = (left.keys().copied().collect(), expected.into_keys().collect());
    assert_eq!(offsets(left), offsets(expected), "{context}: compacted to {cleaned_to}");
}

/// What consumers do with the list of aborted transactions.
struct CommittedReader {
    aborted: Vec<AbortedTransaction>,
    producers: BTreeSet<i64>,
}

impl CommittedReader {
    fn new(mut aborted: Vec<AbortedTransaction>) -> CommittedReader {
        aborted.sort_by_key(|it| it.first_offset);
        CommittedReader { aborted, producers: BTreeSet::new() }
    }

    /// Whether the application gets the records of the next batch.
    fn takes(&mut self, batch: &BatchView<'_>) -> bool {
        let reached = self.aborted.partition_point(|it| it.first_offset <= batch.last_offset());
        self.producers.extend(self.aborted.drain(..reached).map(|it| it.producer_id));
        if !batch.attributes().is_control() {
            return !(batch.attributes().is_transactional() && self.producers.contains(&batch.producer_id()));
        }
        if let Some(Ok(record)) = batch.records().unwrap().next()
            && let Ok(ControlRecord::EndTransaction { end: EndTransaction::Abort, .. }) = ControlRecord::parse(&record)
        {
            self.producers.remove(&batch.producer_id());
        }
        false
    }
}

pub(crate) async fn compact_all(store: &Store, options: &CompactionOptions) -> Option<Compacted> {
    let mut last = None;
    while let Some(done) = compact_next(store, options).await {
        last = Some(done);
    }
    last
}

pub(crate) async fn compact_next(store: &Store, options: &CompactionOptions) -> Option<Compacted> {
    store.set_compaction(*options);
    store.compact_next(&|remark| panic!("{remark}")).await.unwrap()
}
