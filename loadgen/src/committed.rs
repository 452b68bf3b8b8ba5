//! What a reader is not given of the batches that a broker serves: the markers of transactions, and, where it reads
//! committed records alone, the batches of transactions that the answer lists as aborted.

use std::collections::{BTreeSet, VecDeque};

use wire::batch::{BatchError, BatchView, ControlRecord, EndTransaction};

/// The aborted transactions of one partition in one answer.
#[derive(Debug, Default)]
pub struct Aborted {
    /// Producer ids and first offsets, ascending by offset: those behind the batches seen so far.
    ahead: VecDeque<(i64, i64)>,
    /// Producers of which an aborted transaction has begun and its marker has not come.
    open: BTreeSet<i64>,
}

impl Aborted {
    /// The producer ids and first offsets as the answer lists them, in any order; none where all records are read.
    pub fn new(listed: impl Iterator<Item = (i64, i64)>) -> Aborted {
        let mut ahead: Vec<(i64, i64)> = listed.collect();
        ahead.sort_unstable_by_key(|(_, first)| *first);
        Aborted { ahead: ahead.into(), open: BTreeSet::new() }
    }

    /// Whether the records of the answer's next batch are nobody's to read.
    pub fn leaves_out(&mut self, batch: &BatchView<'_>) -> Result<bool, BatchError> {
        while let Some((producer, _)) = self.ahead.pop_front_if(|(_, first)| *first <= batch.last_offset()) {
            self.open.insert(producer);
        }
        if batch.attributes().is_control() {
            if !self.open.is_empty() && is_abort(batch)? {
                self.open.remove(&batch.producer_id());
            }
            return Ok(true);
        }
        Ok(batch.attributes().is_transactional() && self.open.contains(&batch.producer_id()))
    }
}

/// Whether a control batch ends a transaction by aborting it. Brokers do not compress control batches.
fn is_abort(batch: &BatchView<'_>) -> Result<bool, BatchError> {
    let Some(record) = batch.records()?.next() else { return Ok(false) };
    let record = record.map_err(BatchError::Record)?;
    let aborts = |said| matches!(said, ControlRecord::EndTransaction { end: EndTransaction::Abort, .. });
    Ok(ControlRecord::parse(&record).is_ok_and(aborts))
}

#[cfg(test)]
mod tests {
    use wire::batch::{BatchBuilder, NewRecord, assign, write_end_transaction};
    use wire::compression::Codec;

    use super::*;

    fn batch(producer: Option<i64>, offset: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        if let Some(producer) = producer {
            builder.producer(producer, 0, 0).transactional(true);
        }
        builder.push(&NewRecord { timestamp: 0, key: None, value: Some(b"v"), headers: &[] }).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        assign(&mut bytes, offset, 0);
        bytes
    }

    fn marker(end: EndTransaction, producer: i64, offset: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_end_transaction(&mut bytes, end, producer, 0, 0, 0).unwrap();
        assign(&mut bytes, offset, 0);
        bytes
    }

    fn left_out(listed: &[(i64, i64)], batches: &[Vec<u8>]) -> Vec<bool> {
        let mut aborted = Aborted::new(listed.iter().copied());
        batches.iter().map(|bytes| aborted.leaves_out(&BatchView::parse(bytes).unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_transaction_is_left_out_from_its_first_offset_to_its_marker() {
        let history = [
            batch(Some(1), 0),
            marker(EndTransaction::Commit, 1, 1),
            batch(Some(1), 2),
            batch(Some(2), 3),
            batch(None, 4),
            marker(EndTransaction::Commit, 2, 5),
            batch(Some(1), 6),
            marker(EndTransaction::Abort, 1, 7),
            batch(Some(1), 8),
        ];
        let left = [false, true, true, false, false, true, true, true, false];
        assert_eq!(left_out(&[(1, 2)], &history), left);
        assert_eq!(left_out(&[], &history), [false, true, false, false, false, true, false, true, false]);
        assert_eq!(left_out(&[(1, 8), (1, 2)], &history)[8..], [true], "two of one producer, in any order");
    }

    #[test]
    fn an_answer_may_begin_within_a_transaction() {
        let history = [batch(Some(1), 10), marker(EndTransaction::Abort, 1, 11), batch(Some(1), 12)];
        assert_eq!(left_out(&[(1, 3)], &history), [true, true, false]);
    }
}
