//! What the clients do with the partitions of one core, and what they look at while they do it.

use engine::{
    AppendError, Isolation, Marker, Origin, PartitionConfig, PartitionKey, PartitionSpec, Read, ReadError, Slot,
    TransactionGuard,
};
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;

use crate::Core;
use crate::common::compacted::check_batches;
use crate::common::{Random, Story, marker_batch, or_end};
use crate::model::{KEYS, Known, Model, PRODUCERS, Sent, TRANSACTIONAL, id, is_compacted, settings, with};

pub(crate) async fn client(core: Core, known: Known, mut random: Random, places: Vec<usize>, ops: usize) {
    for _ in 0..ops {
        let place = places[random.below(places.len() as u64) as usize];
        let found = core.slots.borrow().get(&place).copied();
        let Some((key, slot)) = found else {
            create(&core, &known, place).await;
            continue;
        };
        match random.below(40) {
            0 => delete(&core, &known, place).await,
            1 | 2 => delete_records(&core, &known, &mut random, key, slot).await,
            3 | 4 => retain(&core, &known, &mut random, key, slot).await,
            5..=7 => read_aside(&core, &known, &mut random, key, slot),
            8..=10 => retry(&core, &known, &mut random, key, slot).await,
            11 => {
                let until_ns = core.reactor.now_ns() + random.below(3_000_000);
                core.reactor.sleep_until(until_ns).await;
            }
            12..=16 => end_transaction(&core, &known, &mut random, key, slot).await,
            17 | 18 => check_transactions(&core, &known, &mut random, key, slot).await,
            _ => append(&core, &known, &mut random, key, slot).await,
        }
    }
}

async fn create(core: &Core, known: &Known, place: usize) {
    let key = {
        let mut known = known.borrow_mut();
        known.topics += 1;
        let key = PartitionKey { topic_id: [known.topics; 16], partition: place as u32 };
        known.partitions.insert(key, Model::new());
        key
    };
    let spec = PartitionSpec { key, topic: topic(place), config: settings(place) };
    let slot = or_end(&core.sim, core.store.create_partition(spec).await).await;
    known.borrow_mut().partitions.get_mut(&key).unwrap().must_exist = true;
    core.slots.borrow_mut().insert(place, (key, slot));
}

fn topic(place: usize) -> String {
    format!("t{place}")
}

async fn delete(core: &Core, known: &Known, place: usize) {
    let (key, slot) = core.slots.borrow_mut().remove(&place).unwrap();
    known.borrow_mut().partitions.get_mut(&key).unwrap().must_exist = false;
    or_end(&core.sim, core.store.delete_partition(slot).await).await;
    known.borrow_mut().gone.insert(key);
    known.borrow_mut().partitions.remove(&key);
}

async fn delete_records(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let info = core.store.info(slot).unwrap();
    let offset = info.log_start + random.below((info.high_watermark - info.log_start) as u64 + 1) as i64;
    with(known, key, |model| model.start_limit = model.start_limit.max(offset));
    let start = or_end(&core.sim, core.store.delete_records(slot, offset).await).await;
    assert_eq!(start, Some(offset));
    with(known, key, |model| model.start_seen = model.start_seen.max(offset));
}

async fn retain(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let place = key.partition as usize;
    let by_size = random.below(2) == 0;
    let (retention_bytes, retention_ms) =
        if by_size { (random.below(60_000) as i64, -1) } else { (-1, random.below(4) as i64) };
    with(known, key, |model| {
        let mut behind = 0;
        let all = model.end();
        let kept = |sent: &&Sent| {
            behind += sent.stored.len() as i64;
            behind >= retention_bytes
        };
        let limit = if by_size && retention_bytes > 0 {
            model.sent.iter().rev().find(kept).map_or(0, |sent| sent.base)
        } else {
            all
        };
        model.start_limit = model.start_limit.max(limit);
    });
    core.store.set_config(slot, PartitionConfig { retention_bytes, retention_ms, ..settings(place) });
    or_end(&core.sim, core.store.apply_retention().await).await;
    core.store.set_config(slot, settings(place));
    // Where the log starts now may not be durable yet: the other client's retention may have moved it a moment ago.
}

/// A read that nobody waits for: it meets deletions, rolls and flushes.
fn read_aside(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let info = core.store.info(slot).unwrap();
    let offset = info.log_start + random.below((info.high_watermark - info.log_start) as u64 + 1) as i64;
    let (core, known) = (core.clone(), known.clone());
    let reactor = core.reactor.clone();
    reactor.spawn(async move {
        let data = match core.store.read_any(slot, offset).await {
            Ok(data) => data,
            Err(ReadError::UnknownPartition | ReadError::OutOfRange) => return,
            Err(error) => {
                assert!(core.sim.is_halted(), "{key:?} at {offset}: {error:?}");
                return;
            }
        };
        let known = known.borrow();
        let Some(model) = known.partitions.get(&key) else { return };
        if is_compacted(key.partition as usize) {
            let bytes: Vec<u8> = data.slices.iter().flat_map(|slice| slice.as_bytes().to_vec()).collect();
            check_batches(&bytes, offset, &model.records());
            return;
        }
        for slice in data.slices {
            let mut rest = slice.as_bytes();
            while !rest.is_empty() {
                let view = BatchView::parse(rest).unwrap();
                let at = model.sent.partition_point(|sent| sent.base < view.base_offset());
                assert!(model.sent[at].stored == view.bytes(), "{key:?}: read something else at {offset}");
                rest = &rest[view.total_len()..];
            }
        }
    });
}

/// Sends one of a producer's newest batches again.
async fn retry(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let producer = random.below(PRODUCERS as u64) as usize;
    let again = if is_compacted(key.partition as usize) { 0 } else { random.below(5) as usize };
    let sent = known.borrow().partitions[&key].recent(producer).nth(again).cloned();
    if let Some(sent) = sent {
        expect_duplicate(core, slot, &sent, &format!("{key:?}, producer {producer}")).await;
    }
}

pub(crate) async fn expect_duplicate(core: &Core, slot: Slot, sent: &Sent, context: &str) {
    let view = BatchView::parse(&sent.original).unwrap();
    let appended = patient(core, None, slot, &view, context).await;
    assert!(
        appended.duplicate && (appended.base_offset, appended.last_offset + 1) == (sent.base, sent.end),
        "{context}: {appended:?} instead of offsets {} to {}",
        sent.base,
        sent.end
    );
    if let Some(time_ms) = is_log_append_time(&sent.stored) {
        assert_eq!(appended.log_append_time_ms, time_ms, "{context}");
    }
}

fn is_log_append_time(stored: &[u8]) -> Option<i64> {
    let batch = BatchView::parse(stored).unwrap();
    let by_log = batch.attributes().timestamp_type() == wire::batch::TimestampType::LogAppendTime;
    by_log.then(|| batch.max_timestamp())
}

async fn append(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let (times, size) = match random.below(14) {
        0 => (5, 4500),
        1 => (1, 18_000),
        2 => (12, 700),
        _ => (1, 20 + random.below(600) as usize),
    };
    let mut newest = None;
    for _ in 0..times {
        let producer = random.below(6) as usize;
        let producer = (producer < PRODUCERS).then_some(producer);
        let records = 1 + random.below(3) as usize;
        let mut builder = BatchBuilder::new(Codec::None);
        let mut guard = None;
        if let Some(producer) = producer {
            let is_transactional = TRANSACTIONAL.contains(&producer);
            let mut known = known.borrow_mut();
            let story = known.partitions[&key].story();
            let (epoch, next) = &mut known.partitions.get_mut(&key).unwrap().producers[producer];
            if random.below(30) == 0 && *next > 0 && !is_transactional {
                (*epoch, *next) = (*epoch + 1, 0);
            }
            builder.producer(id(producer), *epoch, *next).transactional(is_transactional);
            if is_transactional {
                guard = core.store.verify_transaction(slot, id(producer), *epoch, *next, false).unwrap();
                let is_open = is_open(&story, producer);
                assert_eq!(guard.is_none(), is_open, "{key:?}: producer {producer}");
            }
            *next += records as i32;
        }
        let mut value = vec![0; size / records];
        for _ in 0..records {
            value.iter_mut().for_each(|byte| *byte = random.next() as u8);
            let timestamp = core.reactor.unix_ms();
            let name = is_compacted(key.partition as usize).then(|| format!("key-{}", random.below(KEYS)));
            let is_deletion = name.is_some() && random.below(6) == 0;
            let value = (!is_deletion).then_some(value.as_slice());
            let key = name.as_ref().map(String::as_bytes);
            builder.push(&NewRecord { timestamp, key, value, headers: &[] }).unwrap();
        }
        let mut original = Vec::new();
        builder.finish(&mut original).unwrap();
        let view = BatchView::parse(&original).unwrap();
        let appended = patient(core, guard, slot, &view, "a new batch").await;
        assert!(!appended.duplicate);
        let mut stored = original.clone();
        wire::batch::assign(&mut stored, appended.base_offset, 0);
        if appended.log_append_time_ms >= 0 {
            wire::batch::set_log_append_time(&mut stored, appended.log_append_time_ms);
        }
        let (base, end) = (appended.base_offset, appended.last_offset + 1);
        with(known, key, |model| {
            assert_eq!(base, model.end(), "{key:?}");
            model.sent.push(Sent { base, end, stored, original, producer });
        });
        newest = Some((appended.seq, end));
    }
    let (seq, end) = newest.unwrap();
    acknowledge(core, known, random, key, seq, end).await;
}

async fn patient(
    core: &Core,
    guard: Option<TransactionGuard>,
    slot: Slot,
    view: &BatchView<'_>,
    context: &str,
) -> engine::Appended {
    loop {
        match core.store.append_as(Origin::Client, guard, slot, view, 0) {
            Ok(appended) => return appended,
            Err(AppendError::Busy) => core.store.wait_capacity().await,
            Err(AppendError::Failed) if core.sim.is_halted() => std::future::pending().await,
            Err(error) => panic!("{context}: {error:?}, {view:?}"),
        }
    }
}

/// Ends a producer's transaction, whether or not it has one, under either version.
async fn end_transaction(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let producer = TRANSACTIONAL.start + random.below(TRANSACTIONAL.len() as u64) as usize;
    let transaction_version = 1 + random.below(2) as i16;
    let (epoch, next) = known.borrow().partitions[&key].producers[producer];
    let (producer_epoch, next) = if transaction_version == 2 { (epoch + 1, 0) } else { (epoch, next) };
    let commit = random.below(3) == 0;
    let marker =
        Marker { producer_id: id(producer), producer_epoch, coordinator_epoch: 0, commit, transaction_version };
    let (appended, now_ms) = loop {
        let now_ms = core.reactor.unix_ms();
        match core.store.append_marker(slot, &marker, 0) {
            Ok(appended) => break (appended, now_ms),
            Err(AppendError::Busy) => core.store.wait_capacity().await,
            Err(AppendError::Failed) if core.sim.is_halted() => std::future::pending().await,
            Err(error) => panic!("{key:?}: {error:?}, {marker:?}"),
        }
    };
    let stored = marker_batch(&marker, appended.base_offset, now_ms, appended.log_append_time_ms >= 0);
    let (base, end) = (appended.base_offset, appended.last_offset + 1);
    with(known, key, |model| {
        assert_eq!(base, model.end(), "{key:?}");
        model.sent.push(Sent { base, end, original: stored.clone(), stored, producer: Some(producer) });
        model.producers[producer] = (producer_epoch, next);
    });
    acknowledge(core, known, random, key, appended.seq, end).await;
}

fn is_open(story: &Story, producer: usize) -> bool {
    story.producers.get(&id(producer)).is_some_and(|(.., open)| open.is_some())
}

/// Looks at the last stable offset, at what lies below it, and at the aborted transactions of a part of the log.
async fn check_transactions(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, slot: Slot) {
    let info = core.store.info(slot).unwrap();
    let story = known.borrow().partitions[&key].story();
    assert_eq!(
        info.last_stable,
        story.last_stable(info.high_watermark, info.log_start),
        "{key:?}: {info:?}, {story:?}"
    );
    let from = info.log_start + random.below((info.last_stable - info.log_start) as u64 + 1) as i64;
    let read = match core.store.read(slot, Isolation::ReadCommitted, from, 20_000, true) {
        Ok(Read::Hot(data)) => Ok(data),
        Ok(Read::Cold) => core.store.read_cold(slot, Isolation::ReadCommitted, from, 20_000, true).await,
        Err(error) => Err(error),
    };
    let to = match read {
        Ok(data) => data.end_offset().unwrap_or(from),
        // The other client's retention has been there.
        Err(ReadError::OutOfRange) => return,
        Err(error) => {
            assert!(core.sim.is_halted(), "{key:?} at {from}: {error:?}");
            return;
        }
    };
    assert!(to <= core.store.info(slot).unwrap().last_stable, "{key:?}: read up to {to}");
    assert!(to > from || from == info.last_stable, "{key:?}: nothing at {from} of {info:?}");
    let found = match core.store.aborted(slot, from, to).unwrap() {
        Some(found) => Ok(found),
        None => core.store.aborted_cold(slot, from, to).await,
    };
    match found {
        // What compaction has left nothing of is not told.
        Ok(_) if is_compacted(key.partition as usize) => {}
        Ok(found) if core.store.info(slot).unwrap().log_start <= from => {
            story.check_aborted(from, to, &found, &format!("{key:?}"));
        }
        Ok(_) | Err(ReadError::OutOfRange) => {}
        Err(error) => assert!(core.sim.is_halted(), "{key:?} at {from}: {error:?}"),
    }
}

/// Takes note of an acknowledgement. Some clients wait for it, the others go on.
async fn acknowledge(core: &Core, known: &Known, random: &mut Random, key: PartitionKey, seq: u64, end: i64) {
    let acknowledge = {
        let (core, known) = (core.clone(), known.clone());
        async move {
            if core.store.wait_commit(seq).await.is_ok() {
                with(&known, key, |model| model.acked_end = model.acked_end.max(end));
            }
        }
    };
    if random.below(4) == 0 { acknowledge.await } else { core.reactor.spawn(acknowledge) }
}
