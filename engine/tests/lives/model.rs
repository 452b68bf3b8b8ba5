//! What the clients know: what a broker has to have, and what it may have besides.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use engine::{PartitionConfig, PartitionKey};
use wire::batch::BatchView;

use crate::common::compacted::{Records, records_of};
use crate::common::{Story, config};

/// Places for partitions: topic `t<place>`, partition `place`. Each holds one after the other.
pub(crate) const PLACES: usize = 5;
/// The places whose partitions are compacted: all records have keys there. One of them is compacted and deleted from.
pub(crate) const COMPACTED: [usize; 2] = [1, 3];
pub(crate) const KEYS: u64 = 12;
/// Producers per partition, as many as the tiny limits remember. The last two write in transactions.
pub(crate) const PRODUCERS: usize = 4;
pub(crate) const TRANSACTIONAL: std::ops::Range<usize> = 2..4;
/// The id of the first producer.
pub(crate) const FIRST_ID: i64 = 1000;

/// A batch that was appended.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) base: i64,
    pub(crate) end: i64,
    /// As the log holds it.
    pub(crate) stored: Vec<u8>,
    /// As the client sent it.
    pub(crate) original: Vec<u8>,
    pub(crate) producer: Option<usize>,
}

/// What the clients know of a partition.
#[derive(Clone)]
pub(crate) struct Model {
    /// Its creation was acknowledged and its deletion has not been asked for.
    pub(crate) must_exist: bool,
    pub(crate) sent: Vec<Sent>,
    /// Everything below was acknowledged.
    pub(crate) acked_end: i64,
    /// A log start that was acknowledged.
    pub(crate) start_seen: i64,
    /// No log start above this was ever asked for.
    pub(crate) start_limit: i64,
    /// Per producer: its epoch and its next sequence number.
    pub(crate) producers: [(i16, i32); PRODUCERS],
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            must_exist: false,
            sent: Vec::new(),
            acked_end: 0,
            start_seen: 0,
            start_limit: 0,
            producers: [(0, 0); PRODUCERS],
        }
    }

    pub(crate) fn end(&self) -> i64 {
        self.sent.last().map_or(0, |sent| sent.end)
    }

    /// The batches of a producer's present epoch that a broker must recognise, newest first.
    pub(crate) fn recent(&self, producer: usize) -> impl Iterator<Item = &Sent> {
        let epoch = self.producers[producer].0;
        let of_epoch = move |sent: &&Sent| {
            let batch = BatchView::parse(&sent.stored).unwrap();
            sent.producer == Some(producer) && batch.producer_epoch() == epoch && !batch.attributes().is_control()
        };
        self.sent.iter().rev().filter(of_epoch).take(5)
    }

    /// Forgets what a crash has lost: everything from `end` on.
    pub(crate) fn cut(&mut self, end: i64) {
        self.sent.retain(|sent| sent.end <= end);
        self.acked_end = end;
        let story = self.story();
        for (producer, state) in self.producers.iter_mut().enumerate() {
            let (epoch, next, _) = story.producers.get(&id(producer)).copied().unwrap_or_default();
            *state = (epoch, next);
        }
    }

    /// The records of a compacted partition.
    pub(crate) fn records(&self) -> Records {
        let data = |sent: &&Sent| !BatchView::parse(&sent.stored).unwrap().attributes().is_control();
        self.sent.iter().filter(data).flat_map(|sent| records_of(&sent.stored, sent.base)).collect()
    }

    pub(crate) fn is_aborted(&self, story: &Story, offset: i64) -> bool {
        let sent = &self.sent[self.sent.partition_point(|sent| sent.end <= offset)];
        sent.producer.is_some_and(|producer| story.is_aborted(id(producer), offset))
    }

    pub(crate) fn story(&self) -> Story {
        Story::of(self.sent.iter().map(|sent| sent.stored.as_slice()))
    }
}

/// What all clients know.

#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) partitions: BTreeMap<PartitionKey, Model>,
    /// Deletions that were acknowledged.
    pub(crate) gone: BTreeSet<PartitionKey>,
    /// Topic ids used so far.
    pub(crate) topics: u8,
    /// Whether the stores were closed and that was written down. None when the last life ended while it was about to
    /// change.
    pub(crate) clean: Option<bool>,
    /// Records that compaction has removed, over all lives.
    pub(crate) removed: usize,
}

pub(crate) type Known = Rc<RefCell<History>>;

pub(crate) fn with(known: &Known, key: PartitionKey, change: impl FnOnce(&mut Model)) {
    // A partition that was deleted meanwhile has no model any more.
    if let Some(model) = known.borrow_mut().partitions.get_mut(&key) {
        change(model);
    }
}

pub(crate) fn id(producer: usize) -> i64 {
    FIRST_ID + producer as i64
}

/// The settings of the partition at a place.
pub(crate) fn settings(place: usize) -> PartitionConfig {
    PartitionConfig {
        log_append_time: place == 3,
        segment_bytes: [40, 12, 24, 9, 60][place] << 10,
        compact: is_compacted(place),
        delete_by_retention: place != 1,
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: 2,
        ..config()
    }
}

pub(crate) fn is_compacted(place: usize) -> bool {
    COMPACTED.contains(&place)
}
