//! One partition: its log, its producers, the checks that a batch passes before it gets offsets, and who waits for it.

use wire::batch::{BatchView, ControlRecord, EndTransaction, NO_TIMESTAMP};

use crate::cache::ChunkId;
use crate::direct::Direct;
use crate::journal::PartitionKey;
use crate::log::{Log, Mark};
use crate::producer::{Claim, ProducerBatch, ProducerError, ProducerTable, Sequence};
use crate::reactor::Notify;
use crate::read::Isolation;
use crate::transactions::{TransactionGuard, Transactions};

/// Settings of a partition, from its topic's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionConfig {
    /// `segment.bytes`: a segment is rolled before it would exceed this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment whose first batch is older than this is rolled, in ms.
    pub segment_ms: i64,
    /// `retention.ms`, or -1 for no limit.
    pub retention_ms: i64,
    /// `retention.bytes`, or -1 for no limit.
    pub retention_bytes: i64,
    /// `cleanup.policy` contains `delete`.
    pub delete_by_retention: bool,
    /// `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio`: the part of the log that must be dirty before it is compacted, 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: records younger than this stay.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a log with a dirty record older than this is compacted in any case. Segments are rolled
    /// at this age too.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: how long compaction keeps tombstones and the ends of transactions.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`: how long the file of a deleted segment may stay, to be written again.
    pub file_delete_delay_ms: i64,
    /// `max.message.bytes`: the largest batch, in bytes.
    pub max_message_bytes: u32,
    /// `message.timestamp.type` is LogAppendTime.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `flush.messages` is 1: every append is on disk before it is acknowledged, whatever the durability class.
    pub flush_every_append: bool,
}

impl Default for PartitionConfig {
    /// Kafka's defaults.
    fn default() -> PartitionConfig {
        PartitionConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            delete_by_retention: true,
            compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
            file_delete_delay_ms: 60_000,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            flush_every_append: false,
        }
    }
}

/// Who appends a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client: its sequence numbers are checked and its retries recognised.
    Client,
    /// A coordinator of this broker. It gives no sequence numbers that mean anything.
    Coordinator,
}

/// A successful append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The time given to all records under LogAppendTime, in ms; else -1.
    pub log_append_time_ms: i64,
    /// First offset that readers may see.
    pub log_start: i64,
    /// The commit after which the append may be acknowledged.
    pub seq: u64,
    /// The batch had been appended before; the offsets are those of the first time.
    pub duplicate: bool,
}

/// Why a batch was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendError {
    /// No such partition in this store.
    UnknownPartition,
    /// The checksum does not match the bytes.
    InvalidCrc,
    /// Counts or offsets in the header contradict each other.
    InvalidRecord,
    /// Larger than `max.message.bytes`.
    TooLarge,
    /// The batch's largest timestamp is further from the clock than the topic allows.
    InvalidTimestamp,
    /// The producer's sequence number does not follow its last one.
    OutOfOrderSequence,
    /// The producer's epoch is older than one seen before.
    InvalidProducerEpoch,
    /// A batch of a transaction that is not open here and was not verified, or one outside of the transaction that its
    /// producer has open.
    InvalidTxnState,
    /// A newer transaction coordinator has written a marker of this producer before.
    CoordinatorFenced,
    /// As many producers as are remembered have a transaction open.
    TooManyTransactions,
    /// No memory at this moment: keep the request and try again when [`crate::store::Store::wait_capacity`] resolves.
    Busy,
    /// The disk is full. Nothing is appended until there is space again; reading goes on.
    DiskFull,
    /// The store was closed, or failed and acknowledges nothing any more.
    Failed,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) key: PartitionKey,
    pub(crate) config: PartitionConfig,
    pub(crate) log: Log,
    pub(crate) producers: ProducerTable,
    pub(crate) transactions: Transactions,
    /// Start offsets of the leader epochs, ascending.
    pub(crate) epochs: Vec<(i32, i64)>,
    /// The chunk of the direct path; none while appends go through the journal.
    pub(crate) direct: Option<Box<Direct>>,
    /// Commits in a row that speak for leaving the present path.
    pub(crate) other_path_commits: u8,
    /// The chunk that got the newest batch; its list of partitions has this one already.
    pub(crate) last_chunk: Option<ChunkId>,
    /// The gathering commit carries bytes of this partition.
    pub(crate) in_gather: bool,
    /// Bytes that the gathering commit carries.
    pub(crate) gathered_bytes: u64,
    /// The log's end when the newest commit was sealed.
    pub(crate) sealed_end: Mark,
    /// The oldest journal group that holds bytes which no segment holds.
    pub(crate) dirty_since: Option<u64>,
    /// The journal group with the newest entry.
    pub(crate) entry_seq: Option<u64>,
    /// A segment was completed since the journal was last told which ones are. Before older groups go it has to be told,
    /// or what is left of them would say less of the segment than its file holds.
    pub(crate) has_sealed: bool,
    /// A flush to its segments is under way.
    pub(crate) flushing: bool,
    /// Its deletion was asked for and is not durable yet.
    pub(crate) deleted: bool,
    /// Producer states as they were when a segment began, to be written beside it: base offset and bytes.
    pub(crate) snapshots: Vec<(i64, Vec<u8>)>,
    /// Readers that wait for the high watermark to be above an offset.
    pub(crate) watches: Vec<(i64, Notify)>,
    /// Readers that wait for the last stable offset to be above an offset.
    pub(crate) stable_watches: Vec<(i64, Notify)>,
    /// Compaction has covered what is below this offset.
    pub(crate) cleaned_to: i64,
    /// Compaction has met something that it cannot read, and leaves the partition alone.
    pub(crate) is_uncleanable: bool,
}

/// Where a batch went, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) segment_base: i64,
    pub(crate) base_offset: i64,
    /// -1 unless the log has given it.
    pub(crate) log_append_time_ms: i64,
    /// The latest timestamp of its records, in ms.
    pub(crate) timestamp_ms: i64,
    pub(crate) now_ms: i64,
}

impl Partition {
    pub(crate) fn new(key: PartitionKey, config: PartitionConfig, log: Log, producers: ProducerTable) -> Partition {
        let durable = log.durable;
        Partition {
            key,
            config,
            log,
            producers,
            transactions: Transactions::default(),
            epochs: Vec::new(),
            direct: None,
            other_path_commits: 0,
            last_chunk: None,
            in_gather: false,
            gathered_bytes: 0,
            sealed_end: durable,
            dirty_since: None,
            entry_seq: None,
            has_sealed: false,
            flushing: false,
            deleted: false,
            snapshots: Vec::new(),
            watches: Vec::new(),
            stable_watches: Vec::new(),
            cleaned_to: 0,
            is_uncleanable: false,
        }
    }

    /// Checks a batch against the topic's settings and the producer's history.
    pub(crate) fn check(
        &self,
        batch: &BatchView<'_>,
        origin: Origin,
        guard: Option<TransactionGuard>,
        now_ms: i64,
    ) -> Result<Sequence, AppendError> {
        if batch.total_len() > self.config.max_message_bytes as usize {
            return Err(AppendError::TooLarge);
        }
        let records = batch.record_count();
        if records < 1 || batch.last_offset_delta() != records - 1 {
            return Err(AppendError::InvalidRecord);
        }
        if !batch.crc_matches() {
            return Err(AppendError::InvalidCrc);
        }
        if !self.config.log_append_time {
            let time_ms = batch.max_timestamp();
            // Records without a timestamp lie within any bounds.
            let is_out_of_bounds = time_ms.saturating_sub(now_ms) > self.config.timestamp_after_max_ms
                || now_ms.saturating_sub(time_ms) > self.config.timestamp_before_max_ms;
            if time_ms != NO_TIMESTAMP && is_out_of_bounds {
                return Err(AppendError::InvalidTimestamp);
            }
        }
        if batch.producer_id() < 0 {
            return Ok(Sequence::Next);
        }
        if batch.base_sequence() < 0 || batch.producer_epoch() < 0 {
            return Err(AppendError::InvalidRecord);
        }
        self.check_producer(&Claim::of(batch), origin, guard)
    }

    /// Checks what a batch says of its producer, in the order in which Kafka does.
    fn check_producer(
        &self,
        claim: &Claim,
        origin: Origin,
        guard: Option<TransactionGuard>,
    ) -> Result<Sequence, AppendError> {
        let from_coordinator = origin == Origin::Coordinator;
        if !from_coordinator && let Some(first) = self.producers.duplicate_of(claim) {
            return Ok(Sequence::Duplicate(first));
        }
        if claim.is_transactional && !self.producers.is_open(claim.id, claim.epoch) {
            let verified = self.transactions.verified(claim.id, guard).ok_or(AppendError::InvalidTxnState)?;
            let begins_late =
                verified.bumps_epoch && claim.first_sequence != 0 && !self.producers.has_batches(claim.id);
            if !from_coordinator && (begins_late || claim.first_sequence > verified.lowest_sequence) {
                // Fenced counts first.
                self.producers.check(claim, true)?;
                return Err(AppendError::OutOfOrderSequence);
            }
        }
        self.producers.check(claim, from_coordinator)?;
        Ok(Sequence::Next)
    }

    /// True when a batch of `bytes` with this timestamp belongs into a new segment.
    pub(crate) fn must_roll(&self, bytes: usize, max_timestamp_ms: i64, now_ms: i64, records: i32) -> bool {
        let active = self.log.active();
        if active.end_pos == 0 {
            return false;
        }
        let time_ms = if self.config.log_append_time { now_ms } else { max_timestamp_ms };
        let max_age_ms = match self.config.compact {
            // The segment that is appended to is not compacted.
            true => self.config.segment_ms.min(self.config.max_compaction_lag_ms),
            false => self.config.segment_ms,
        };
        let too_old = active.first_timestamp_ms.is_some_and(|first| time_ms.saturating_sub(first) > max_age_ms);
        // Offsets are stored relative to the base in 31 bits, in Kafka's indexes as in ours.
        let offsets_full = active.end_offset + i64::from(records) - active.base > i64::from(i32::MAX);
        active.end_pos + bytes as u64 > self.config.segment_bytes || too_old || offsets_full
    }

    /// The state that the log's batches so far have left: leader epochs and producers. It is stored when a segment begins,
    /// so that a restart need not read the segments before it.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut out = (self.epochs.len() as u32).to_le_bytes().to_vec();
        for (epoch, start) in &self.epochs {
            out.extend_from_slice(&epoch.to_le_bytes());
            out.extend_from_slice(&start.to_le_bytes());
        }
        self.producers.encode(&mut out);
        out
    }

    /// Takes over what [`Partition::snapshot`] gave. False, and nothing is changed, when the bytes cannot be that.
    pub(crate) fn restore(&mut self, bytes: &[u8], max_producers: usize) -> bool {
        const EPOCH_BYTES: usize = 12;
        let Some((count, rest)) = bytes.split_first_chunk::<4>() else { return false };
        let Some(epoch_bytes) = (u32::from_le_bytes(*count) as usize).checked_mul(EPOCH_BYTES) else { return false };
        let Some((epochs, rest)) = rest.split_at_checked(epoch_bytes) else { return false };
        let Some(producers) = ProducerTable::decode(rest, max_producers) else { return false };
        let epoch = |[a, b, c, d, start @ ..]: &[u8; EPOCH_BYTES]| {
            (i32::from_le_bytes([*a, *b, *c, *d]), i64::from_le_bytes(*start))
        };
        self.epochs = epochs.as_chunks().0.iter().map(epoch).collect();
        self.transactions.restart(&producers);
        self.producers = producers;
        true
    }

    /// Takes note of a batch's producer, if it has one, and of the transaction that it begins or ends.
    pub(crate) fn note_producer(&mut self, batch: &BatchView<'_>, placed: Placed) {
        if batch.producer_id() < 0 {
            return;
        }
        let Placed { segment_base, base_offset, log_append_time_ms, timestamp_ms, now_ms } = placed;
        let id = batch.producer_id();
        if batch.attributes().is_control() {
            // A marker that compaction has emptied says nothing any more.
            let Some((end, coordinator_epoch)) = end_of_transaction(batch) else { return };
            let epoch = batch.producer_epoch();
            let began = self.producers.end_transaction(id, epoch, coordinator_epoch, timestamp_ms, now_ms);
            self.transactions.end_verification(id);
            if let Some(first_offset) = began {
                let commit = end == EndTransaction::Commit;
                self.transactions.end(id, first_offset, base_offset, commit, segment_base);
            }
        } else if batch.base_sequence() >= 0 {
            let claim = Claim::of(batch);
            let appended = ProducerBatch {
                first_sequence: claim.first_sequence,
                last_sequence: claim.last_sequence,
                base_offset,
                last_offset: base_offset + i64::from(batch.last_offset_delta()),
                log_append_time_ms,
            };
            if self.producers.record(&claim, appended, timestamp_ms, now_ms) {
                self.transactions.begin(id, base_offset);
            }
        }
    }

    /// Where a reader stops.
    pub(crate) fn visible_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.log.durable.offset,
            Isolation::ReadCommitted => self.last_stable(),
        }
    }

    /// Where readers of committed records stop.
    pub(crate) fn last_stable(&self) -> i64 {
        self.transactions.last_stable(self.log.durable.offset, self.log.log_start)
    }

    /// Remembers where a leader epoch begins (KIP-101).
    pub(crate) fn note_epoch(&mut self, epoch: i32, offset: i64) {
        if self.epochs.last().is_none_or(|&(last, _)| epoch > last) {
            self.epochs.push((epoch, offset));
        }
    }

    /// Takes over the end of the commit that has become durable, and rings whoever waited for it.
    pub(crate) fn on_durable(&mut self, end: Mark) {
        // The log may have been rolled at this very end.
        self.log.durable = self.log.durable.max(end);
        self.log.check();
        ring(&mut self.watches, end.offset);
        self.transactions.on_durable(end.offset);
        self.ring_stable();
    }

    /// Rings readers of committed records that wait for less than the last stable offset.
    pub(crate) fn ring_stable(&mut self) {
        if !self.stable_watches.is_empty() {
            let last_stable = self.last_stable();
            ring(&mut self.stable_watches, last_stable);
        }
    }
}

impl Claim {
    fn of(batch: &BatchView<'_>) -> Claim {
        Claim {
            id: batch.producer_id(),
            epoch: batch.producer_epoch(),
            first_sequence: batch.base_sequence(),
            last_sequence: batch.last_sequence(),
            is_transactional: batch.attributes().is_transactional(),
        }
    }
}

impl From<ProducerError> for AppendError {
    fn from(error: ProducerError) -> AppendError {
        match error {
            ProducerError::Fenced => AppendError::InvalidProducerEpoch,
            ProducerError::OutOfOrder => AppendError::OutOfOrderSequence,
            ProducerError::NotInTransaction => AppendError::InvalidTxnState,
            ProducerError::CoordinatorFenced => AppendError::CoordinatorFenced,
            ProducerError::TooMany => AppendError::TooManyTransactions,
        }
    }
}

fn ring(watches: &mut Vec<(i64, Notify)>, reached: i64) {
    watches.retain(|(above, notify)| {
        let passed = reached > *above;
        if passed {
            notify.notify();
        }
        !passed
    });
}

/// What the marker in a control batch says.
fn end_of_transaction(batch: &BatchView<'_>) -> Option<(EndTransaction, i32)> {
    let record = batch.records().ok()?.next()?.ok()?;
    match ControlRecord::parse(&record) {
        Ok(ControlRecord::EndTransaction { end, coordinator_epoch }) => Some((end, coordinator_epoch)),
        _ => None,
    }
}
