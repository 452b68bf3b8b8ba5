//! Producers of one partition (KIP-98): which sequence numbers have been appended, so that a retry is answered with the
//! offsets of the first attempt and a gap is refused; which epoch each has, so that a producer which was replaced is
//! fenced; and whether a transaction of it is open here.

use std::collections::{HashMap, VecDeque};

use crate::limits::PRODUCER_BATCHES;

/// A data batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    /// Sequence number of the first record.
    pub(crate) first_sequence: i32,
    /// Sequence number of the last record.
    pub(crate) last_sequence: i32,
    /// Offset of the first record.
    pub(crate) base_offset: i64,
    /// Offset of the last record.
    pub(crate) last_offset: i64,
    /// Time of the append as the log answers it: the append time under LogAppendTime, else -1.
    pub(crate) log_append_time_ms: i64,
}

/// What the header of a data batch says of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) is_transactional: bool,
}

/// The end of a transaction, as its coordinator asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The producer.
    pub producer_id: i64,
    /// Its epoch. Under transaction version 2 the coordinator has raised it, so that it is above that of the records.
    pub producer_epoch: i16,
    /// The epoch of the coordinator.
    pub coordinator_epoch: i32,
    /// The transaction is committed; else aborted.
    pub commit: bool,
    /// The feature level `transaction.version` under which the coordinator writes: it decides which epochs are old.
    pub transaction_version: i16,
}

/// What is known of one producer of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Its id.
    pub id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// Sequence number of its last record under this epoch; -1 when there is none yet.
    pub last_sequence: i32,
    /// The latest timestamp of its last batch, in ms.
    pub last_timestamp_ms: i64,
    /// Epoch of the coordinator that wrote its last marker; -1 when there was none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub open_since: Option<i64>,
}

/// Why a batch or a marker is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProducerError {
    /// The epoch is older than one seen before: the producer was replaced, or its transaction has ended.
    Fenced,
    /// The sequence number does not follow the last one.
    OutOfOrder,
    /// A batch outside of transactions, while a transaction of its producer is open.
    NotInTransaction,
    /// A newer transaction coordinator has written before.
    CoordinatorFenced,
    /// The table is full of producers whose transactions are open.
    TooMany,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Append it, then [`ProducerTable::record`] it.
    Next,
    /// It has been appended already, there.
    Duplicate(ProducerBatch),
}

/// All producers of a partition, bounded.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerTable {
    producers: HashMap<i64, Producer>,
    max_producers: usize,
}

#[derive(Debug, Clone)]
struct Producer {
    epoch: i16,
    /// -1 before its first marker.
    coordinator_epoch: i32,
    /// The newest data batches of this epoch, oldest first, at most [`PRODUCER_BATCHES`].
    batches: VecDeque<ProducerBatch>,
    /// First offset of its open transaction.
    open_since: Option<i64>,
    /// The latest timestamp of its last batch, in ms.
    last_timestamp_ms: i64,
    /// Wall clock of the last append, in ms; after a restart the batch's own time.
    last_used_ms: i64,
}

impl Producer {
    fn new(epoch: i16) -> Producer {
        Producer {
            epoch,
            coordinator_epoch: -1,
            batches: VecDeque::new(),
            open_since: None,
            last_timestamp_ms: -1,
            last_used_ms: 0,
        }
    }

    fn set_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    /// The sequence number that the next batch of this epoch begins with.
    fn next_sequence(&self) -> i32 {
        self.batches.back().map_or(0, |last| sequence_after(last.last_sequence, 1))
    }
}

impl ProducerTable {
    /// A table that forgets the longest silent producer above `max_producers`.
    #[must_use]
    pub(crate) fn new(max_producers: usize) -> ProducerTable {
        ProducerTable { producers: HashMap::new(), max_producers }
    }

    /// The batch that was appended with exactly these sequence numbers, if it is one of the newest of its producer.
    #[must_use]
    pub(crate) fn duplicate_of(&self, claim: &Claim) -> Option<ProducerBatch> {
        let producer = self.producers.get(&claim.id).filter(|producer| producer.epoch == claim.epoch)?;
        let seen =
            |b: &&ProducerBatch| (b.first_sequence, b.last_sequence) == (claim.first_sequence, claim.last_sequence);
        producer.batches.iter().find(seen).copied()
    }

    /// Whether a transaction of this producer is open, under this epoch.
    #[must_use]
    pub(crate) fn is_open(&self, id: i64, epoch: i16) -> bool {
        self.producers.get(&id).is_some_and(|producer| producer.epoch == epoch && producer.open_since.is_some())
    }

    /// First offset of the producer's open transaction.
    #[must_use]
    pub(crate) fn open_since(&self, id: i64) -> Option<i64> {
        self.producers.get(&id)?.open_since
    }

    /// Whether there are batches of the producer's present epoch.
    #[must_use]
    pub(crate) fn has_batches(&self, id: i64) -> bool {
        self.producers.get(&id).is_some_and(|producer| !producer.batches.is_empty())
    }

    /// Checks a batch that is not a duplicate: its epoch, its sequence numbers unless `from_coordinator`, and that it keeps
    /// to an open transaction. A producer that is not known may start anywhere: its state may have expired or have been
    /// deleted with its records.
    pub(crate) fn check(&self, claim: &Claim, from_coordinator: bool) -> Result<(), ProducerError> {
        let Some(producer) = self.producers.get(&claim.id) else {
            return if self.has_room() { Ok(()) } else { Err(ProducerError::TooMany) };
        };
        if claim.epoch < producer.epoch {
            return Err(ProducerError::Fenced);
        }
        // A new epoch begins a new numbering.
        let expected = if claim.epoch > producer.epoch { 0 } else { producer.next_sequence() };
        if !from_coordinator && claim.first_sequence != expected {
            return Err(ProducerError::OutOfOrder);
        }
        if producer.open_since.is_some() && !claim.is_transactional {
            return Err(ProducerError::NotInTransaction);
        }
        Ok(())
    }

    /// Remembers an appended data batch. Returns whether it has begun a transaction.
    pub(crate) fn record(&mut self, claim: &Claim, batch: ProducerBatch, timestamp_ms: i64, now_ms: i64) -> bool {
        let producer = self.entry(claim.id, claim.epoch);
        producer.set_epoch(claim.epoch);
        if producer.batches.len() == PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        producer.last_timestamp_ms = timestamp_ms;
        producer.last_used_ms = now_ms;
        let begins = claim.is_transactional && producer.open_since.is_none();
        if begins {
            producer.open_since = Some(batch.base_offset);
        }
        begins
    }

    /// Every producer with its epoch and the offset of its newest record, in no order.
    pub(crate) fn last_records(&self) -> impl Iterator<Item = (i64, i16, Option<i64>)> {
        self.producers.iter().map(|(id, p)| (*id, p.epoch, p.batches.back().map(|batch| batch.last_offset)))
    }

    /// Checks a marker. Under transaction version 2 every transaction ends with an epoch of its own, so one that is not
    /// above the last is late (KIP-1228), unless it is the repetition of the marker that has ended the transaction.
    pub(crate) fn check_marker(&self, marker: &Marker) -> Result<(), ProducerError> {
        let Some(producer) = self.producers.get(&marker.producer_id) else { return Ok(()) };
        let is_repeated = marker.producer_epoch == producer.epoch && producer.open_since.is_none();
        let is_old = match marker.transaction_version {
            ..2 => marker.producer_epoch < producer.epoch,
            2.. => marker.producer_epoch <= producer.epoch && !is_repeated,
        };
        if is_old {
            return Err(ProducerError::Fenced);
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(ProducerError::CoordinatorFenced);
        }
        Ok(())
    }

    /// Remembers an appended marker, but not of an unknown producer when every other one has a transaction open. Returns
    /// the first offset of the transaction that it has ended.
    pub(crate) fn end_transaction(
        &mut self,
        id: i64,
        epoch: i16,
        coordinator_epoch: i32,
        timestamp_ms: i64,
        now_ms: i64,
    ) -> Option<i64> {
        if !self.producers.contains_key(&id) && !self.has_room() {
            return None;
        }
        let producer = self.entry(id, epoch);
        producer.set_epoch(epoch);
        producer.coordinator_epoch = coordinator_epoch;
        producer.last_timestamp_ms = timestamp_ms;
        producer.last_used_ms = now_ms;
        producer.open_since.take()
    }

    /// Forgets producers that were last heard of before `before_ms` (`producer.id.expiration.ms`), but none whose
    /// transaction is open.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.producers.retain(|_, p| p.open_since.is_some() || p.last_used_ms >= before_ms);
    }

    /// First offset and producer of every open transaction.
    pub(crate) fn open(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.producers.iter().filter_map(|(id, producer)| Some((producer.open_since?, *id)))
    }

    /// What is known of each producer, by id.
    #[must_use]
    pub(crate) fn infos(&self) -> Vec<ProducerInfo> {
        let info = |(id, producer): (&i64, &Producer)| ProducerInfo {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |last| last.last_sequence),
            last_timestamp_ms: producer.last_timestamp_ms,
            coordinator_epoch: producer.coordinator_epoch,
            open_since: producer.open_since,
        };
        let mut infos: Vec<ProducerInfo> = self.producers.iter().map(info).collect();
        infos.sort_unstable_by_key(|info| info.id);
        infos
    }

    fn entry(&mut self, id: i64, epoch: i16) -> &mut Producer {
        if !self.producers.contains_key(&id) && self.producers.len() >= self.max_producers {
            self.forget_oldest();
        }
        self.producers.entry(id).or_insert_with(|| Producer::new(epoch))
    }

    /// Whether a producer that is not known may be taken in: one that may be forgotten is there, or a free place.
    fn has_room(&self) -> bool {
        self.producers.len() < self.max_producers || self.producers.values().any(|p| p.open_since.is_none())
    }

    /// A bounded table that is full makes room. It is linear in the table, and happens once per new producer above the
    /// bound: far from any steady state.
    fn forget_oldest(&mut self) {
        let silent = self.producers.iter().filter(|(_, p)| p.open_since.is_none());
        if let Some(id) = silent.min_by_key(|(id, p)| (p.last_used_ms, **id)).map(|(id, _)| *id) {
            self.producers.remove(&id);
        }
    }

    /// Appends the table as bytes, to be stored beside a segment: a producer per record, little-endian, its batches after
    /// it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.producers.len() as u32).to_le_bytes());
        // In order, so that equal tables have equal bytes.
        let mut producers: Vec<(&i64, &Producer)> = self.producers.iter().collect();
        producers.sort_unstable_by_key(|(id, _)| **id);
        for (id, p) in producers {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&p.epoch.to_le_bytes());
            out.extend_from_slice(&p.coordinator_epoch.to_le_bytes());
            out.extend_from_slice(&p.open_since.unwrap_or(-1).to_le_bytes());
            out.extend_from_slice(&p.last_timestamp_ms.to_le_bytes());
            out.extend_from_slice(&p.last_used_ms.to_le_bytes());
            out.push(p.batches.len() as u8);
            for b in &p.batches {
                out.extend_from_slice(&b.first_sequence.to_le_bytes());
                out.extend_from_slice(&b.last_sequence.to_le_bytes());
                out.extend_from_slice(&b.base_offset.to_le_bytes());
                out.extend_from_slice(&b.last_offset.to_le_bytes());
                out.extend_from_slice(&b.log_append_time_ms.to_le_bytes());
            }
        }
    }

    /// Reads what [`ProducerTable::encode`] wrote; `None` when the bytes cannot be that.
    #[must_use]
    pub(crate) fn decode(bytes: &[u8], max_producers: usize) -> Option<ProducerTable> {
        let mut at = bytes;
        let mut table = ProducerTable::new(max_producers);
        for _ in 0..u32::from_le_bytes(take(&mut at)?) {
            let id = i64::from_le_bytes(take(&mut at)?);
            let mut producer = Producer::new(i16::from_le_bytes(take(&mut at)?));
            producer.coordinator_epoch = i32::from_le_bytes(take(&mut at)?);
            producer.open_since = Some(i64::from_le_bytes(take(&mut at)?)).filter(|offset| *offset >= 0);
            producer.last_timestamp_ms = i64::from_le_bytes(take(&mut at)?);
            producer.last_used_ms = i64::from_le_bytes(take(&mut at)?);
            let [count] = take::<1>(&mut at)?;
            if usize::from(count) > PRODUCER_BATCHES {
                return None;
            }
            for _ in 0..count {
                producer.batches.push_back(ProducerBatch {
                    first_sequence: i32::from_le_bytes(take(&mut at)?),
                    last_sequence: i32::from_le_bytes(take(&mut at)?),
                    base_offset: i64::from_le_bytes(take(&mut at)?),
                    last_offset: i64::from_le_bytes(take(&mut at)?),
                    log_append_time_ms: i64::from_le_bytes(take(&mut at)?),
                });
            }
            // There may be more of them than the bound, which may have been larger: none with an open transaction may go.
            table.producers.insert(id, producer);
        }
        at.is_empty().then_some(table)
    }
}

/// The sequence number `count` after `sequence`: numbers run from 0 to `i32::MAX` and start again.
#[must_use]
pub(crate) fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

fn take<const N: usize>(at: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = at.split_first_chunk::<N>()?;
    *at = rest;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: i64, epoch: i16, first: i32, records: i32) -> Claim {
        let last_sequence = sequence_after(first, records - 1);
        Claim { id, epoch, first_sequence: first, last_sequence, is_transactional: false }
    }

    fn in_transaction(id: i64, epoch: i16, first: i32, records: i32) -> Claim {
        Claim { is_transactional: true, ..claim(id, epoch, first, records) }
    }

    fn batch(claim: &Claim, offset: i64) -> ProducerBatch {
        ProducerBatch {
            first_sequence: claim.first_sequence,
            last_sequence: claim.last_sequence,
            base_offset: offset,
            last_offset: offset + i64::from(claim.last_sequence - claim.first_sequence),
            log_append_time_ms: -1,
        }
    }

    impl ProducerTable {
        fn append(&mut self, claim: Claim, offset: i64, now_ms: i64) -> Result<bool, ProducerError> {
            self.check(&claim, false)?;
            Ok(self.record(&claim, batch(&claim, offset), now_ms, now_ms))
        }

        fn mark(&mut self, marker: Marker, now_ms: i64) -> Result<Option<i64>, ProducerError> {
            self.check_marker(&marker)?;
            let Marker { producer_id, producer_epoch, coordinator_epoch, .. } = marker;
            Ok(self.end_transaction(producer_id, producer_epoch, coordinator_epoch, now_ms, now_ms))
        }
    }

    fn marker(id: i64, epoch: i16, coordinator_epoch: i32, transaction_version: i16) -> Marker {
        Marker { producer_id: id, producer_epoch: epoch, coordinator_epoch, commit: true, transaction_version }
    }

    #[test]
    fn retries_are_recognised_and_gaps_refused() {
        let mut table = ProducerTable::new(4);
        assert_eq!(table.check(&claim(1, 0, 17, 3), false), Ok(()), "an unknown producer starts anywhere");
        for n in 0..7 {
            table.append(claim(1, 0, n * 3, 3), i64::from(n) * 10, 0).unwrap();
        }
        let duplicate = |first, records| table.duplicate_of(&claim(1, 0, first, records)).map(|b| b.base_offset);
        assert_eq!(duplicate(18, 3), Some(60));
        assert_eq!(duplicate(6, 3), Some(20), "the fifth newest");
        assert_eq!(duplicate(3, 3), None, "the sixth newest is forgotten");
        assert_eq!(duplicate(18, 2), None, "same start, other length");
        assert_eq!(table.duplicate_of(&claim(1, 1, 18, 3)), None, "another epoch");
        assert_eq!(table.check(&claim(1, 0, 3, 3), false), Err(ProducerError::OutOfOrder));
        assert_eq!(table.check(&claim(1, 0, 24, 3), false), Err(ProducerError::OutOfOrder));
        assert_eq!(table.check(&claim(1, 0, 24, 3), true), Ok(()), "coordinators number nothing");
        assert_eq!(table.check(&claim(1, 1, 5, 1), false), Err(ProducerError::OutOfOrder), "a new epoch starts at 0");
        table.append(claim(1, 1, 0, 1), 99, 0).unwrap();
        assert_eq!(table.check(&claim(1, 0, 21, 3), false), Err(ProducerError::Fenced));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut table = ProducerTable::new(4);
        let last = claim(1, 0, i32::MAX - 1, 2);
        assert_eq!(last.last_sequence, i32::MAX);
        table.append(last, 0, 0).unwrap();
        table.append(claim(1, 0, 0, 1), 2, 0).unwrap();
        assert_eq!(table.check(&claim(1, 0, i32::MAX, 2), false), Err(ProducerError::OutOfOrder));
    }

    #[test]
    fn a_marker_ends_the_transaction_and_an_epoch_begins_at_0() {
        let mut table = ProducerTable::new(4);
        assert_eq!(table.append(in_transaction(1, 0, 0, 2), 10, 0), Ok(true));
        assert_eq!(table.append(in_transaction(1, 0, 2, 1), 12, 0), Ok(false));
        assert!(table.is_open(1, 0) && !table.is_open(1, 1));
        assert_eq!(table.check(&claim(1, 0, 3, 1), false), Err(ProducerError::NotInTransaction));
        // Transaction version 1: the epoch stays, and so does the numbering.
        assert_eq!(table.mark(marker(1, 0, 7, 1), 0), Ok(Some(10)));
        assert_eq!(table.append(in_transaction(1, 0, 3, 1), 14, 0), Ok(true));
        // Version 2: an epoch of its own.
        assert_eq!(table.mark(marker(1, 0, 7, 2), 0), Err(ProducerError::Fenced));
        assert_eq!(table.mark(marker(1, 1, 6, 2), 0), Err(ProducerError::CoordinatorFenced));
        assert_eq!(table.mark(marker(1, 1, 7, 2), 0), Ok(Some(14)));
        assert_eq!(table.mark(marker(1, 1, 7, 2), 0), Ok(None), "the coordinator repeats itself");
        assert_eq!(table.mark(marker(1, 0, 7, 1), 0), Err(ProducerError::Fenced));
        assert_eq!(table.check(&in_transaction(1, 0, 4, 1), false), Err(ProducerError::Fenced));
        assert_eq!(table.check(&in_transaction(1, 1, 4, 1), false), Err(ProducerError::OutOfOrder));
        assert_eq!(table.append(in_transaction(1, 1, 0, 1), 16, 0), Ok(true));
        assert_eq!(table.mark(marker(1, 1, 7, 2), 0), Err(ProducerError::Fenced), "late: a new one has begun");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_longest_silent() {
        let mut table = ProducerTable::new(2);
        table.append(claim(1, 0, 0, 1), 0, 10).unwrap();
        table.append(claim(2, 0, 0, 1), 1, 5).unwrap();
        table.append(claim(3, 0, 0, 1), 2, 20).unwrap();
        assert_eq!(table.producers.len(), 2);
        assert_eq!(table.check(&claim(2, 0, 9, 1), false), Ok(()), "2 was forgotten");
        table.expire(15);
        assert_eq!(table.producers.len(), 1);
    }

    #[test]
    fn a_producer_with_an_open_transaction_is_never_forgotten() {
        let mut table = ProducerTable::new(2);
        table.append(in_transaction(1, 0, 0, 1), 0, 1).unwrap();
        table.append(claim(2, 0, 0, 1), 1, 2).unwrap();
        table.append(in_transaction(3, 0, 0, 1), 2, 3).unwrap();
        table.expire(100);
        assert_eq!(table.open().map(|(first, _)| first).sum::<i64>(), 2);
        assert_eq!(table.append(claim(2, 0, 0, 1), 3, 4), Err(ProducerError::TooMany));
        assert_eq!(table.mark(marker(9, 0, 0, 1), 5), Ok(None));
        assert_eq!(table.producers.len(), 2, "a marker of nobody's takes no place");
        table.mark(marker(1, 0, 0, 1), 5).unwrap();
        table.append(claim(2, 0, 0, 1), 4, 6).unwrap();
    }

    #[test]
    fn the_encoding_reads_back_and_survives_cuts() {
        let mut table = ProducerTable::new(4);
        table.append(claim(1, 3, 0, 1), 0, 10).unwrap();
        table.append(claim(1, 3, 1, 5), 1, 11).unwrap();
        table.append(in_transaction(2, 0, 0, 1), 6, 12).unwrap();
        table.mark(marker(2, 1, 9, 2), 13).unwrap();
        table.append(in_transaction(2, 1, 0, 1), 8, 14).unwrap();
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        table.encode(&mut bytes);
        let read = ProducerTable::decode(&bytes, 4).unwrap();
        read.encode(&mut again);
        assert_eq!(again, bytes);
        assert_eq!(read.infos(), table.infos());
        assert_eq!(read.infos()[1].open_since, Some(8));
        for cut in 0..bytes.len() {
            assert!(ProducerTable::decode(&bytes[..cut], 4).is_none());
        }
    }
}
