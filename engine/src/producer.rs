//! Idempotent producers of one partition (KIP-98): which sequence numbers have been appended, so that a retry is
//! answered with the offsets of the first attempt and a gap is refused.

use std::collections::{HashMap, VecDeque};

use crate::limits::PRODUCER_BATCHES;

/// What a batch says about its producer, and where it went.
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

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceError {
    /// The epoch is older than one seen before: the producer was replaced.
    Fenced,
    /// The sequence number does not follow the last one.
    OutOfOrder,
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
    /// The newest batches of this epoch, oldest first, at most [`PRODUCER_BATCHES`].
    batches: VecDeque<ProducerBatch>,
    last_used_ms: i64,
}

impl ProducerTable {
    /// A table that forgets the longest silent producer above `max_producers`.
    #[must_use]
    pub(crate) fn new(max_producers: usize) -> ProducerTable {
        ProducerTable { producers: HashMap::new(), max_producers }
    }

    /// Checks a batch's sequence numbers. A producer that is not known may start anywhere: its state may have expired
    /// or have been deleted with its records.
    pub(crate) fn check(
        &self,
        id: i64,
        epoch: i16,
        first_sequence: i32,
        records: i32,
    ) -> Result<Sequence, SequenceError> {
        let Some(producer) = self.producers.get(&id) else { return Ok(Sequence::Next) };
        if epoch < producer.epoch {
            return Err(SequenceError::Fenced);
        }
        if epoch > producer.epoch {
            // A new epoch begins a new numbering.
            return if first_sequence == 0 { Ok(Sequence::Next) } else { Err(SequenceError::OutOfOrder) };
        }
        let last_sequence = sequence_after(first_sequence, records - 1);
        let seen = |b: &&ProducerBatch| b.first_sequence == first_sequence && b.last_sequence == last_sequence;
        if let Some(batch) = producer.batches.iter().find(seen) {
            return Ok(Sequence::Duplicate(*batch));
        }
        match producer.batches.back() {
            Some(last) if sequence_after(last.last_sequence, 1) != first_sequence => Err(SequenceError::OutOfOrder),
            _ => Ok(Sequence::Next),
        }
    }

    /// Remembers an appended batch.
    pub(crate) fn record(&mut self, id: i64, epoch: i16, batch: ProducerBatch, now_ms: i64) {
        if !self.producers.contains_key(&id) && self.producers.len() >= self.max_producers {
            self.forget_oldest();
        }
        let producer = self.producers.entry(id).or_insert_with(|| Producer {
            epoch,
            batches: VecDeque::with_capacity(PRODUCER_BATCHES),
            last_used_ms: now_ms,
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        producer.last_used_ms = now_ms;
    }

    /// Forgets producers that were last heard of before `before_ms` (`producer.id.expiration.ms`).
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.producers.retain(|_, p| p.last_used_ms >= before_ms);
    }

    /// A bounded table that is full makes room. It is linear in the table, and happens once per new producer above the
    /// bound: far from any steady state.
    fn forget_oldest(&mut self) {
        if let Some(id) = self.producers.iter().min_by_key(|(id, p)| (p.last_used_ms, **id)).map(|(id, _)| *id) {
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
            let epoch = i16::from_le_bytes(take(&mut at)?);
            let last_used_ms = i64::from_le_bytes(take(&mut at)?);
            let [count] = take::<1>(&mut at)?;
            let mut batches = VecDeque::with_capacity(PRODUCER_BATCHES);
            for _ in 0..count {
                batches.push_back(ProducerBatch {
                    first_sequence: i32::from_le_bytes(take(&mut at)?),
                    last_sequence: i32::from_le_bytes(take(&mut at)?),
                    base_offset: i64::from_le_bytes(take(&mut at)?),
                    last_offset: i64::from_le_bytes(take(&mut at)?),
                    log_append_time_ms: i64::from_le_bytes(take(&mut at)?),
                });
            }
            if batches.len() > PRODUCER_BATCHES || table.producers.len() >= max_producers {
                return None;
            }
            table.producers.insert(id, Producer { epoch, batches, last_used_ms });
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

    fn batch(first: i32, records: i32, offset: i64) -> ProducerBatch {
        ProducerBatch {
            first_sequence: first,
            last_sequence: sequence_after(first, records - 1),
            base_offset: offset,
            last_offset: offset + i64::from(records) - 1,
            log_append_time_ms: -1,
        }
    }

    #[test]
    fn retries_are_recognised_and_gaps_refused() {
        let mut table = ProducerTable::new(4);
        assert_eq!(table.check(1, 0, 17, 3), Ok(Sequence::Next), "an unknown producer starts anywhere");
        for n in 0..7 {
            assert_eq!(table.check(1, 0, n * 3, 3), Ok(Sequence::Next));
            table.record(1, 0, batch(n * 3, 3, i64::from(n) * 10), 0);
        }
        assert_eq!(table.check(1, 0, 18, 3), Ok(Sequence::Duplicate(batch(18, 3, 60))));
        assert_eq!(table.check(1, 0, 6, 3), Ok(Sequence::Duplicate(batch(6, 3, 20))), "the fifth newest");
        assert_eq!(table.check(1, 0, 3, 3), Err(SequenceError::OutOfOrder), "the sixth newest is forgotten");
        assert_eq!(table.check(1, 0, 18, 2), Err(SequenceError::OutOfOrder), "same start, other length");
        assert_eq!(table.check(1, 0, 24, 3), Err(SequenceError::OutOfOrder));
        assert_eq!(table.check(1, 1, 5, 1), Err(SequenceError::OutOfOrder), "a new epoch starts at 0");
        assert_eq!(table.check(1, 1, 0, 1), Ok(Sequence::Next));
        table.record(1, 1, batch(0, 1, 99), 0);
        assert_eq!(table.check(1, 0, 21, 3), Err(SequenceError::Fenced));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut table = ProducerTable::new(4);
        table.record(1, 0, batch(i32::MAX - 1, 2, 0), 0);
        assert_eq!(table.check(1, 0, 0, 1), Ok(Sequence::Next));
        table.record(1, 0, batch(0, 1, 2), 0);
        assert_eq!(table.check(1, 0, i32::MAX, 2), Err(SequenceError::OutOfOrder));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_longest_silent() {
        let mut table = ProducerTable::new(2);
        table.record(1, 0, batch(0, 1, 0), 10);
        table.record(2, 0, batch(0, 1, 1), 5);
        table.record(3, 0, batch(0, 1, 2), 20);
        assert_eq!(table.producers.len(), 2);
        assert_eq!(table.check(2, 0, 9, 1), Ok(Sequence::Next), "2 was forgotten");
        table.expire(15);
        assert_eq!(table.producers.len(), 1);
    }

    #[test]
    fn the_encoding_reads_back_and_survives_cuts() {
        let mut table = ProducerTable::new(4);
        table.record(1, 3, batch(0, 1, 0), 10);
        table.record(1, 3, batch(1, 5, 1), 11);
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        table.encode(&mut bytes);
        ProducerTable::decode(&bytes, 4).unwrap().encode(&mut again);
        assert_eq!(again, bytes);
        for cut in 0..bytes.len() {
            assert!(ProducerTable::decode(&bytes[..cut], 4).is_none());
        }
    }
}
