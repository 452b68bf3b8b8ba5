//! What a crash or a stop has left, recovered aside and held against what the clients know.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use engine::Slot;
use engine::io::sim::{Image, Sim, SimConfig};
use engine::reactor::Reactor;
use wire::batch::BatchView;

use crate::client::expect_duplicate;
use crate::common::compacted::{check_left, compact_next, many_keys, newest, read_all};
use crate::model::{History, Known, Model, PRODUCERS, is_compacted};
use crate::{Core, Plan, start};

/// Recovers an image aside, on `cores` cores, holds it against what is known and returns what is known from then on.
pub(crate) fn verify(image: &Image, plan: Plan, unix_ms: i64, known: &History, context: &str) -> History {
    let sim = Sim::with_image(SimConfig { seed: 99, unix_ms, ..SimConfig::default() }, image);
    let cores: Vec<Reactor> = (0..plan.cores).map(|_| Reactor::new(sim.io())).collect();
    let after = Rc::new(RefCell::new(known.clone()));
    let checking = async {
        let started = start(&sim, &cores, plan, &after, context).await;
        let mut present = BTreeSet::new();
        for core in &started {
            let slots = core.slots.borrow().clone();
            for (key, slot) in slots.into_values() {
                present.insert(key);
                let context = format!("{context}: {key:?}");
                let mut model = after.borrow().partitions[&key].clone();
                let is_compacted = is_compacted(key.partition as usize);
                check_partition(core, slot, &mut model, is_compacted, &context).await;
                if is_compacted {
                    after.borrow_mut().removed += check_newest(core, slot, &model, &context).await;
                } else {
                    check_whole(core, slot, &model, &context).await;
                }
                after.borrow_mut().partitions.insert(key, model);
            }
            check_compacted(core, &after, context).await;
        }
        let mut after = after.borrow_mut();
        after.partitions.retain(|key, _| present.contains(key));
        after.partitions.values_mut().for_each(|model| model.must_exist = true);
        after.clean = known.clean;
    };
    Reactor::block_on_cores(&cores, checking).unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    cores.iter().for_each(Reactor::drop_tasks);
    after.take()
}

async fn check_partition(core: &Core, slot: Slot, model: &mut Model, is_compacted: bool, context: &str) {
    let info = core.store.info(slot).unwrap();
    let (start, end) = (info.log_start, info.high_watermark);
    assert!(
        (model.start_seen..=model.start_limit).contains(&start),
        "{context}: log start {start} is not in {}..={}",
        model.start_seen,
        model.start_limit
    );
    assert!(end >= model.acked_end, "{context}: lost acknowledged records: {end} of {}", model.acked_end);
    model.cut(end);
    assert_eq!(model.end(), end, "{context}: the log ends within a batch");
    model.start_seen = start;
    let story = model.story();
    assert_eq!(info.last_stable, story.last_stable(end, start), "{context}: {info:?}, {story:?}");
    for producer in 0..PRODUCERS {
        // What was deleted may be forgotten with its records, and what was compacted but for the newest.
        let recent = model.recent(producer).take(if is_compacted { 1 } else { usize::MAX });
        for sent in recent.filter(|sent| sent.end > start) {
            expect_duplicate(core, slot, sent, &format!("{context}, producer {producer}")).await;
        }
    }
}

/// Every batch from the log's start on is there as it was sent, and every aborted transaction is told.
async fn check_whole(core: &Core, slot: Slot, model: &Model, context: &str) {
    let info = core.store.info(slot).unwrap();
    let (start, end) = (info.log_start, info.high_watermark);
    let first = model.sent.partition_point(|sent| sent.end <= start);
    let mut expected = model.sent[first..].iter();
    let mut offset = start;
    while offset < end {
        let data = match core.store.read_any(slot, offset).await {
            Ok(data) => data,
            Err(error) => panic!("{context}: at {offset} of {info:?}: {error:?}"),
        };
        assert!(!data.slices.is_empty(), "{context}: nothing at {offset} of {info:?}");
        for slice in data.slices {
            let mut rest = slice.as_bytes();
            while !rest.is_empty() {
                let view = BatchView::parse(rest).unwrap();
                let sent = expected.next().unwrap_or_else(|| panic!("{context}: a batch at {offset} was never sent"));
                assert!(sent.stored == view.bytes(), "{context}: the batch at {offset} differs");
                offset = sent.end;
                rest = &rest[view.total_len()..];
            }
        }
    }
    let story = model.story();
    let middle = start + (end - start) / 2;
    for (from, to) in [(start, end), (start, middle), (middle, end), (middle, middle + 1)] {
        let found = core.store.aborted_cold(slot, from, to).await.unwrap();
        story.check_aborted(from, to, &found, context);
    }
}

/// The newest record of each key is there. Answers how many records are gone.
async fn check_newest(core: &Core, slot: Slot, model: &Model, context: &str) -> usize {
    let info = core.store.info(slot).unwrap();
    let (records, story) = (model.records(), model.story());
    let is_aborted = |offset| model.is_aborted(&story, offset);
    let found = read_all(&core.store, slot, &records, is_aborted).await;
    // What is not stable yet replaces nothing.
    let mut expected = newest(&records, info.last_stable, is_aborted);
    expected.extend(records.range(info.last_stable..).map(|(offset, record)| (*offset, record)));
    for (offset, (key, value)) in expected.into_iter().filter(|(offset, _)| *offset >= info.log_start) {
        assert!(found.contains_key(&offset) || value.is_none(), "{context}: {key:?} of offset {offset} is gone");
    }
    records.range(info.log_start..).count() - found.range(info.log_start..).count()
}

/// Compacts all that there is, and looks for records that are left besides the newest.
async fn check_compacted(core: &Core, known: &Known, context: &str) {
    let mut cleaned_to = HashMap::new();
    while let Some(done) = compact_next(&core.store, &many_keys()).await {
        cleaned_to.insert(done.slot, done.cleaned_to);
    }
    let slots: Vec<_> = core.slots.borrow().values().copied().collect();
    for (key, slot) in slots.into_iter().filter(|(_, slot)| cleaned_to.contains_key(slot)) {
        let model = known.borrow().partitions[&key].clone();
        let (records, story) = (model.records(), model.story());
        let is_aborted = |offset| model.is_aborted(&story, offset);
        let left = read_all(&core.store, slot, &records, is_aborted).await;
        let log_start = core.store.info(slot).unwrap().log_start;
        check_left(&left, &records, is_aborted, log_start, cleaned_to[&slot], &format!("{context}: {key:?}"));
    }
}
