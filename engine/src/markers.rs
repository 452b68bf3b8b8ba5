//! What transactions ask of a store (KIP-98, KIP-890): the verification before a transaction's first batch, the markers
//! that end it, and which transactions were aborted.
//!
//! ```text
//! verify_transaction ─▶ guard ─▶ the coordinator confirms ─▶ append_as(guard) ─▶ append … ─▶ append_marker
//! ```
//! A marker that comes before the first batch takes the guard back: without that, a batch that was long under way would
//! open a transaction that nobody ends.

use std::collections::VecDeque;
use std::io;

use wire::batch::{BatchView, EndTransaction, write_end_transaction};

use crate::checkpoint::{checksummed, write_file};
use crate::io::Open;
use crate::log::Log;
use crate::partition::{AppendError, Appended, Partition};
use crate::producer::{Marker, ProducerInfo, ProducerTable};
use crate::read::{ReadError, Scan, batches};
use crate::recovery;
use crate::segment::{self, Segment};
use crate::store::{Slot, State, Store};
use crate::transactions::{AbortedTransaction, NotInMemory, TransactionGuard, decode_aborted, encode_aborted};

/// Bytes of a marker's batch: what decides whether it fits into a segment.
const MARKER_BYTES: usize = 78;

impl Store {
    /// What the next batch of a producer's transaction needs: nothing while its transaction is open here; else a guard for
    /// [`Store::append_as`], with which it may be appended once the coordinator has confirmed that the partition belongs
    /// to the transaction. `bumps_epoch`: the client speaks transaction version 2.
    pub fn verify_transaction(
        &self,
        slot: Slot,
        producer_id: i64,
        producer_epoch: i16,
        first_sequence: i32,
        bumps_epoch: bool,
    ) -> Result<Option<TransactionGuard>, AppendError> {
        let now_ms = self.shared.reactor.unix_ms();
        let mut state = self.state_mut();
        let max = state.options.limits.producers_per_partition;
        let partition = state.live_mut(slot).ok_or(AppendError::UnknownPartition)?;
        if partition.producers.is_open(producer_id, producer_epoch) {
            return Ok(None);
        }
        let transactions = &mut partition.transactions;
        Ok(Some(transactions.verify(producer_id, producer_epoch, first_sequence, bumps_epoch, now_ms, max)))
    }

    /// Appends the marker that ends a producer's transaction, whether or not the producer has one here. The transaction
    /// has ended for readers when [`Store::committed`] has reached `seq` of the result.
    pub fn append_marker(&self, slot: Slot, marker: &Marker, leader_epoch: i32) -> Result<Appended, AppendError> {
        self.append_with(|state, now_ms| state.append_marker(slot, marker, leader_epoch, now_ms))
    }

    /// First offset of the producer's open transaction.
    #[must_use]
    pub fn open_transaction(&self, slot: Slot, producer_id: i64) -> Option<i64> {
        self.state().live(slot)?.producers.open_since(producer_id)
    }

    /// What is known of the partition's producers, by id. None when the partition is gone.
    #[must_use]
    pub fn producers(&self, slot: Slot) -> Option<Vec<ProducerInfo>> {
        Some(self.state().live(slot)?.producers.infos())
    }

    /// The aborted transactions that a reader of committed records must know for `from..to`, in the order of their ends.
    /// None when that is not all in memory: use [`Store::aborted_cold`].
    pub fn aborted(&self, slot: Slot, from: i64, to: i64) -> Result<Option<Vec<AbortedTransaction>>, ReadError> {
        let state = self.state();
        let partition = state.live(slot).ok_or(ReadError::UnknownPartition)?;
        let mut found = Vec::new();
        let search = partition.transactions.find_aborted(partition.log.base_holding(from), from, to, &mut found);
        Ok(search.ok().map(|()| found))
    }

    /// Like [`Store::aborted`], from the files of completed segments.
    pub async fn aborted_cold(&self, slot: Slot, from: i64, to: i64) -> Result<Vec<AbortedTransaction>, ReadError> {
        let mut found = Vec::new();
        let mut next = None;
        loop {
            // Not anew from the beginning: the lists need not all be in memory at one time.
            let missing = {
                let state = self.state();
                let partition = state.live(slot).ok_or(ReadError::UnknownPartition)?;
                let segment_base = next.unwrap_or_else(|| partition.log.base_holding(from));
                match partition.transactions.find_aborted(segment_base, from, to, &mut found) {
                    Ok(()) => return Ok(found),
                    Err(NotInMemory { segment_base }) => segment_base,
                }
            };
            match self.load_aborted(slot, missing).await {
                // Compaction has joined it to another one, or the log begins later now.
                Err(ReadError::OutOfRange) if self.state().has_segment_at(slot, from) => {
                    found.clear();
                    next = None;
                }
                loaded => {
                    loaded?;
                    next = Some(missing);
                }
            }
        }
    }

    async fn load_aborted(&self, slot: Slot, segment_base: i64) -> Result<(), ReadError> {
        let reactor = &self.shared.reactor;
        let stored = {
            let _turn = self.shared.names_turn.enter().await;
            let dir = match self.state().live(slot) {
                Some(partition) if partition.log.find_base(segment_base).is_some() => partition.log.dir.clone(),
                _ => return Err(ReadError::OutOfRange),
            };
            let path = segment::aborted_path(&dir, segment_base);
            recovery::read_checksummed(reactor, &path).await.map_err(ReadError::Io)?
        };
        let list = match stored.and_then(|bytes| decode_aborted(&bytes)) {
            Some(list) => list,
            None => self.find_aborted(slot, segment_base).await?,
        };
        let mut state = self.state_mut();
        let max_cached = state.options.limits.aborted_cached;
        if let Some(partition) = state.live_mut(slot) {
            partition.transactions.note_loaded(segment_base, list, max_cached);
        }
        Ok(())
    }

    /// Makes the list of a completed segment anew, whose file is damaged: from the state of the producers when the segment
    /// began, and its batches.
    async fn find_aborted(&self, slot: Slot, segment_base: i64) -> Result<Vec<AbortedTransaction>, ReadError> {
        let reactor = &self.shared.reactor;
        let (key, config, dir, limits, end) = {
            let state = self.state();
            let partition = state.live(slot).ok_or(ReadError::UnknownPartition)?;
            let at = partition.log.find_base(segment_base).ok_or(ReadError::OutOfRange)?;
            let end = partition.log.segments[at].end_pos;
            (partition.key, partition.config.clone(), partition.log.dir.clone(), state.options.limits.clone(), end)
        };
        let log = Log::new(dir.clone(), VecDeque::from([Segment::new(segment_base)]), segment_base, Vec::new());
        let mut aside = Partition::new(key, config, log, ProducerTable::new(limits.producers_per_partition));
        let (file, state) = {
            let _turn = self.shared.names_turn.enter().await;
            if self.state().live(slot).is_none_or(|partition| partition.log.find_base(segment_base).is_none()) {
                return Err(ReadError::OutOfRange);
            }
            let how = Open { direct: true, ..Open::default() };
            let file = reactor.open(&segment::log_path(&dir, segment_base), how).await.map_err(ReadError::Io)?;
            let state = recovery::read_checksummed(reactor, &segment::producers_path(&dir, segment_base)).await;
            (file, state.map_err(ReadError::Io)?)
        };
        let is_known = state.is_some_and(|bytes| aside.restore(&bytes, limits.producers_per_partition));
        if !is_known && segment_base > 0 {
            // Which transactions were open there cannot be said.
            return Err(ReadError::Corrupt);
        }
        let mut scan = Scan::new(file, segment_base, end, limits.chunk_bytes);
        while let Some((_, piece)) = scan.next(reactor).await.map_err(ReadError::Io)? {
            batches(piece.as_bytes()).for_each(|(_, batch)| aside.replay(&batch, segment_base));
        }
        Ok(aside.transactions.unstored(segment_base).unwrap_or_default().to_vec())
    }

    /// Writes the list of a segment that is being completed: recovery relies on it that a completed segment which ends
    /// aborted transactions has one.
    pub(crate) async fn write_aborted(&self, slot: Slot, segment_base: i64) -> io::Result<()> {
        let (bytes, max_cached) = {
            let state = self.state();
            let Some(partition) = state.partition(slot) else { return Ok(()) };
            let Some(list) = partition.transactions.unstored(segment_base) else { return Ok(()) };
            (checksummed(&encode_aborted(list)), state.options.limits.aborted_cached)
        };
        self.when_there_is_space(async || {
            let _turn = self.shared.names_turn.enter().await;
            let Some(dir) = self.state().partition(slot).map(|p| p.log.dir.clone()) else { return Ok(()) };
            write_file(&self.shared.reactor, &segment::aborted_path(&dir, segment_base), &bytes).await
        })
        .await?;
        if let Some(partition) = self.state_mut().partition_mut(slot) {
            partition.transactions.note_stored(segment_base, max_cached);
        }
        Ok(())
    }
}

impl State {
    fn has_segment_at(&self, slot: Slot, offset: i64) -> bool {
        self.live(slot).is_some_and(|partition| partition.log.segments[0].base <= offset)
    }

    fn append_marker(
        &mut self,
        slot: Slot,
        marker: &Marker,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let max_aborted = self.options.limits.aborted_per_segment;
        let partition = self.live_mut(slot).ok_or(AppendError::UnknownPartition)?;
        partition.producers.check_marker(marker)?;
        let mut bytes = Vec::with_capacity(MARKER_BYTES);
        let end = if marker.commit { EndTransaction::Commit } else { EndTransaction::Abort };
        write_end_transaction(
            &mut bytes,
            end,
            marker.producer_id,
            marker.producer_epoch,
            marker.coordinator_epoch,
            now_ms,
        )
        .map_err(|_| AppendError::InvalidRecord)?;
        let batch = BatchView::parse(&bytes).map_err(|_| AppendError::InvalidRecord)?;
        let is_list_full = partition.transactions.aborted_by(partition.log.active().base) >= max_aborted;
        if is_list_full || partition.must_roll(bytes.len(), now_ms, now_ms, batch.record_count()) {
            self.roll(slot)?;
        }
        self.place(slot, &batch, leader_epoch, now_ms)
    }
}
