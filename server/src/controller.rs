//! The controller: decides about topics, configurations and everything else that the catalog holds. It lives on core 0.
//!
//! Decisions are made one after another, each on the image that the last one left. A handler takes its [`Turn`], plans
//! on the newest image, and has the plan's actions carried out:
//!
//! ```text
//! create new partitions in the stores of their owner cores     durable, and seen by nobody yet
//! append the actions' records to the catalog, one batch        from here on it is decided
//! publish the next image to all cores                          from here on it is seen
//! change settings of partitions, delete those that are gone
//! ```
//!
//! A crash before the catalog has the batch leaves empty partitions that nothing names; one after it leaves partitions
//! of deleted topics. Both are removed at the next start ([`crate::broker`]).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use engine::reactor::Notify;
use engine::{AppendError, PartitionConfig, PartitionKey, PartitionSpec, Slot, StoreFailed};
use tracing::{error, warn};
use wire::Uuid;
use wire::batch::BatchView;
use wire::error::ErrorCode;

use crate::catalog::{Action, Record, write_batch};
use crate::config::topic::TopicSettings;
use crate::image::{ApplyError, CATALOG_TOPIC_ID, Image, Topic, UNPLACED};
use crate::shard::Shard;

/// The owner of the catalog.
pub struct Controller {
    core0: Shard,
    catalog: Slot,
    directory: Uuid,
    busy: Cell<bool>,
    free: Notify,
}

/// The right to decide. Others wait until it is dropped or what it decides has been carried out.
pub struct Turn(Rc<Controller>);

/// Why actions were not carried out.
#[derive(Debug)]
pub enum DecisionError {
    /// They contradict the image that they were planned on.
    Contradiction(ApplyError),
    /// A partition could not be created.
    Create(io::Error),
    /// The catalog did not take them.
    Append(AppendError),
    /// The catalog's store has failed; whether they took effect shows at the next start.
    Failed(StoreFailed),
}

impl DecisionError {
    /// What clients are told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            DecisionError::Contradiction(_) => ErrorCode::UnknownServerError,
            DecisionError::Create(_) | DecisionError::Append(_) | DecisionError::Failed(_) => {
                ErrorCode::KafkaStorageError
            }
        }
    }
}

impl fmt::Display for DecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecisionError::Contradiction(error) => write!(f, "{error}"),
            DecisionError::Create(error) => write!(f, "a partition cannot be created: {error}"),
            DecisionError::Append(error) => write!(f, "the catalog cannot be appended to: {error:?}"),
            DecisionError::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for DecisionError {}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("catalog", &self.catalog).field("busy", &self.busy.get()).finish()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

impl Controller {
    /// The controller on core 0, with the catalog in this slot of its store. `directory` is the id of the data
    /// directory.
    #[must_use]
    pub fn new(core0: Shard, catalog: Slot, directory: Uuid) -> Rc<Controller> {
        Rc::new(Controller { core0, catalog, directory, busy: Cell::new(false), free: Notify::new() })
    }

    /// The id of the data directory.
    #[must_use]
    pub fn directory(&self) -> Uuid {
        self.directory
    }

    /// Waits for the right to decide.
    pub async fn turn(self: &Rc<Controller>) -> Turn {
        while self.busy.replace(true) {
            self.free.wait().await;
        }
        Turn(self.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.free.notify();
    }
}

impl Turn {
    /// The newest image. It stays the newest until this turn is over.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.0.core0.image().clone()
    }

    /// Carries out actions that were planned on [`Turn::image`], all of them or none. It goes on to the end even if the
    /// caller stops waiting for it.
    pub async fn carry_out(self, actions: Vec<Action>) -> Result<(), DecisionError> {
        if actions.is_empty() {
            return Ok(());
        }
        let outcome = Rc::new(RefCell::new(None));
        let done = Notify::new();
        let (told, ring) = (outcome.clone(), done.clone());
        let reactor = self.0.core0.reactor().clone();
        reactor.spawn(async move {
            let result = self.0.decide(&actions).await;
            if let Err(error) = &result {
                warn!("a change of the metadata failed: {error}");
            }
            told.replace(Some(result));
            drop(self);
            ring.notify();
        });
        loop {
            if let Some(result) = outcome.take() {
                return result;
            }
            done.wait().await;
        }
    }
}

impl Controller {
    async fn decide(&self, actions: &[Action]) -> Result<(), DecisionError> {
        let before = self.core0.image().clone();
        let mut records = Vec::new();
        for action in actions {
            action.records(before.node_id(), self.directory, &mut records);
        }
        let mut draft = before.draft();
        for record in &records {
            draft.apply(record).map_err(DecisionError::Contradiction)?;
        }
        let decided = draft.finish();
        let created = self.create(&before, &decided).await?;
        if let Err(error) = self.append(&records).await {
            self.delete(created.iter().map(|place| (place.core, place.slot)).collect()).await;
            return Err(error);
        }
        let mut draft = decided.draft();
        for place in &created {
            draft.place(&place.topic, place.partition, place.slot).map_err(DecisionError::Contradiction)?;
        }
        let after = Arc::new(draft.finish());
        self.core0.publish(after.clone()).await;
        self.reconfigure(&before, &after).await;
        self.delete(gone(&before, &after)).await;
        Ok(())
    }

    /// Creates the partitions that `decided` has and `before` has not. If one fails, none stays.
    async fn create(&self, before: &Image, decided: &Image) -> Result<Vec<Place>, DecisionError> {
        let mut wanted: Vec<Vec<Wanted>> = (0..self.core0.cores()).map(|_| Vec::new()).collect();
        for topic in decided.topics() {
            let has = before.topic_by_id(&topic.id);
            // Most topics are shared with the image before.
            if has.is_some_and(|has| Arc::ptr_eq(has, topic)) {
                continue;
            }
            let known = has.map_or(0, |has| has.partitions.len());
            for (index, partition) in topic.partitions.iter().enumerate().skip(known) {
                wanted[partition.core].push(Wanted::new(topic, index));
            }
        }
        let mut created = Vec::new();
        let mut failed = None;
        let calls: Vec<_> = wanted
            .into_iter()
            .enumerate()
            .filter(|(_, wanted)| !wanted.is_empty())
            .map(|(core, wanted)| self.core0.run_on(core, move |shard| create_all(shard, wanted)))
            .collect();
        for call in calls {
            let (places, error) = call.await;
            created.extend(places);
            failed = failed.or(error);
        }
        match failed {
            None => Ok(created),
            Some(error) => {
                self.delete(created.iter().map(|place| (place.core, place.slot)).collect()).await;
                Err(DecisionError::Create(error))
            }
        }
    }

    /// Appends records to the catalog. They are durable when this resolves.
    async fn append(&self, records: &[Record<'_>]) -> Result<(), DecisionError> {
        let store = self.core0.store();
        let now_ms = self.core0.reactor().unix_ms();
        let batch = write_batch(records, now_ms).map_err(|_| DecisionError::Append(AppendError::TooLarge))?;
        let view = BatchView::parse(&batch).map_err(|_| DecisionError::Append(AppendError::InvalidRecord))?;
        let appended = loop {
            match store.append(self.catalog, &view, CATALOG_EPOCH) {
                Ok(appended) => break appended,
                Err(AppendError::Busy) => store.wait_capacity().await,
                Err(error) => return Err(DecisionError::Append(error)),
            }
        };
        store.wait_commit(appended.seq).await.map_err(DecisionError::Failed)
    }

    /// Gives partitions the settings that have changed with their topics.
    async fn reconfigure(&self, before: &Image, after: &Image) {
        let mut changed: Vec<Vec<(Slot, PartitionConfig)>> = (0..self.core0.cores()).map(|_| Vec::new()).collect();
        for topic in after.topics() {
            let had = before.topic_by_id(&topic.id).map(|had| &had.settings);
            if had.is_none_or(|had| *had == topic.settings) {
                continue;
            }
            for (index, partition) in topic.partitions.iter().enumerate() {
                changed[partition.core].push((partition.slot, partition_config(&topic.settings, &topic.id, index)));
            }
        }
        for (core, changed) in changed.into_iter().enumerate().filter(|(_, changed)| !changed.is_empty()) {
            let apply = move |shard: Shard| {
                changed.into_iter().for_each(|(slot, config)| shard.store().set_config(slot, config));
                std::future::ready(())
            };
            self.core0.run_on(core, apply).await;
        }
    }

    /// Deletes partitions. What fails is said, and deleted at the next start.
    async fn delete(&self, places: Vec<(usize, Slot)>) {
        for core in 0..self.core0.cores() {
            let of_core = places.iter().filter(|(owner, slot)| *owner == core && *slot != UNPLACED);
            let slots: Vec<Slot> = of_core.map(|(_, slot)| *slot).collect();
            if !slots.is_empty() {
                self.core0.run_on(core, move |shard| delete_all(shard, slots)).await;
            }
        }
    }
}

/// The leader epoch of the catalog: it has had one leader from the beginning.
const CATALOG_EPOCH: i32 = 0;

/// The partition of the catalog.
#[must_use]
pub fn catalog_key() -> PartitionKey {
    PartitionKey { topic_id: CATALOG_TOPIC_ID.0, partition: 0 }
}

/// Settings of the catalog: kept for ever, and always on disk before a change takes effect.
#[must_use]
pub fn catalog_config() -> PartitionConfig {
    PartitionConfig {
        retention_ms: -1,
        retention_bytes: -1,
        delete_by_retention: false,
        max_message_bytes: 1 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        flush_every_append: true,
        ..PartitionConfig::default()
    }
}

/// What a topic's settings mean for one of its partitions.
#[must_use]
pub fn partition_config(settings: &TopicSettings, topic: &Uuid, index: usize) -> PartitionConfig {
    // The same for a partition at every start, and different between partitions: that is all that jitter is for.
    let spread = (u128::from_be_bytes(topic.0) as u64).wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let jitter_ms = (spread >> 33).checked_rem(settings.segment_jitter_ms.unsigned_abs()).unwrap_or(0);
    let jitter_ms = i64::try_from(jitter_ms).unwrap_or(0);
    PartitionConfig {
        segment_bytes: u64::from(settings.segment_bytes.unsigned_abs()),
        segment_ms: settings.segment_ms.saturating_sub(jitter_ms).max(1),
        retention_ms: settings.retention_ms,
        retention_bytes: settings.retention_bytes.max(-1),
        delete_by_retention: settings.cleanup.delete,
        compact: settings.cleanup.compact,
        min_cleanable_dirty_ratio: settings.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: settings.min_compaction_lag_ms,
        max_compaction_lag_ms: settings.max_compaction_lag_ms,
        delete_retention_ms: settings.delete_retention_ms,
        file_delete_delay_ms: settings.file_delete_delay_ms,
        max_message_bytes: settings.max_message_bytes.unsigned_abs(),
        log_append_time: settings.log_append_time,
        timestamp_before_max_ms: settings.timestamp_before_max_ms,
        timestamp_after_max_ms: settings.timestamp_after_max_ms,
        flush_every_append: settings.flush_messages == 1,
    }
}

/// A partition to be created.
struct Wanted {
    topic: Uuid,
    partition: i32,
    spec: PartitionSpec,
}

/// A partition that has been created.
struct Place {
    topic: Uuid,
    partition: i32,
    core: usize,
    slot: Slot,
}

impl Wanted {
    fn new(topic: &Topic, index: usize) -> Wanted {
        // Partitions are numbered with 31 bits.
        let partition = i32::try_from(index).unwrap_or(i32::MAX);
        Wanted { topic: topic.id, partition, spec: partition_spec(topic, index) }
    }
}

/// A partition of a topic, as the store is asked for it.
#[must_use]
pub fn partition_spec(topic: &Topic, index: usize) -> PartitionSpec {
    PartitionSpec {
        key: PartitionKey { topic_id: topic.id.0, partition: u32::try_from(index).unwrap_or(u32::MAX) },
        topic: topic.name.to_string(),
        config: partition_config(&topic.settings, &topic.id, index),
    }
}

/// Creates partitions on their owner core, up to the first that fails.
async fn create_all(shard: Shard, wanted: Vec<Wanted>) -> (Vec<Place>, Option<io::Error>) {
    let mut places = Vec::with_capacity(wanted.len());
    for Wanted { topic, partition, spec } in wanted {
        match shard.store().create_partition(spec).await {
            Ok(slot) => places.push(Place { topic, partition, core: shard.core(), slot }),
            Err(error) => return (places, Some(error)),
        }
    }
    (places, None)
}

/// Deletes partitions. Their files are removed by a task of their core: a decision does not wait for large ones.
async fn delete_all(shard: Shard, slots: Vec<Slot>) {
    const CAUSE: &str = "a partition's files cannot be deleted, and will be at the next start";
    let store = shard.store().clone();
    let (unnamed, failed) = store.unname_partitions(&slots).await;
    if let Some(failed) = failed {
        error!("{CAUSE}: {failed}");
    }
    shard.reactor().spawn(async move {
        if let Err(failed) = store.remove_unnamed(unnamed).await {
            error!("{CAUSE}: {failed}");
        }
    });
}

/// The partitions that `before` has and `after` has not.
fn gone(before: &Image, after: &Image) -> Vec<(usize, Slot)> {
    let topics = before.topics().filter(|topic| after.topic_by_id(&topic.id).is_none());
    topics.flat_map(|topic| topic.partitions.iter().map(|partition| (partition.core, partition.slot))).collect()
}
