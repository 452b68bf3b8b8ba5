//! What the state machines of coordinators (groups, transactions) have in common: they are given the time and an event,
//! and they say which records are to be written and which requests are to be answered. They know no clock, no socket and
//! no store; [`crate::coordinator`] drives them.
//!
//! A state machine changes its state at once and gives the records that say so. The driver appends them in order. If
//! that fails the state is dropped and built anew from the log, so that both agree again.

use std::sync::Arc;

use crate::image::Image;

/// The time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For time-outs: milliseconds from an arbitrary beginning, which never go back.
    pub ms: i64,
    /// For records: the wall clock, in milliseconds since the epoch.
    pub unix_ms: i64,
}

/// Names a request that will be answered. Numbers are not used again while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A record for the coordinator's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its type and what it is about.
    pub key: Vec<u8>,
    /// What is said of it; none takes back what was said before.
    pub value: Option<Vec<u8>>,
}

/// A key or a value of a record seldom has more bytes: memory that is as large at first need not grow.
pub const RECORD_PART_BYTES: usize = 128;

/// What a record takes in a batch beside key and value, at most, in bytes: lengths, deltas and attributes.
const RECORD_OVERHEAD_BYTES: usize = 23;

impl LogRecord {
    /// No less than the bytes that it takes in a batch.
    #[must_use]
    pub fn bytes_bound(&self) -> usize {
        RECORD_OVERHEAD_BYTES + self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Records for the coordinator's log, in order. Their bytes lie one behind the other: a commit of offsets writes a small
/// record for each partition, which would be two allocations each.
#[derive(Debug, Clone, Default)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<Ends>,
}

/// Where a record's key and value end in the bytes of all.
#[derive(Debug, Clone, Copy)]
struct Ends {
    key: usize,
    value: Option<usize>,
}

impl Records {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a record.
    pub fn push(&mut self, record: &LogRecord) {
        self.bytes.extend_from_slice(&record.key);
        let key = self.bytes.len();
        let value = record.value.as_ref().map(|value| {
            self.bytes.extend_from_slice(value);
            self.bytes.len()
        });
        self.ends.push(Ends { key, value });
    }

    /// Adds a record with the key and the value that are appended to the bytes given.
    pub fn push_with(&mut self, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        key(&mut self.bytes);
        let key = self.bytes.len();
        value(&mut self.bytes);
        self.ends.push(Ends { key, value: Some(self.bytes.len()) });
    }

    /// Takes back all but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.end_of(len));
        self.ends.truncate(len);
    }

    /// No less than the bytes that those behind the first `len` take in a batch.
    #[must_use]
    pub fn bytes_bound_behind(&self, len: usize) -> usize {
        (self.len() - len) * RECORD_OVERHEAD_BYTES + self.bytes.len() - self.end_of(len)
    }

    /// The records as keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut from = 0;
        self.ends.iter().map(move |&Ends { key, value }| {
            let start = std::mem::replace(&mut from, value.unwrap_or(key));
            (&self.bytes[start..key], value.map(|end| &self.bytes[key..end]))
        })
    }

    /// Bytes of memory behind them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<Ends>()
    }

    /// Where the first `len` end.
    fn end_of(&self, len: usize) -> usize {
        self.ends[..len].last().map_or(0, |ends| ends.value.unwrap_or(ends.key))
    }
}

/// A record of the log, as it is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedRecord<'a> {
    /// Its offset.
    pub offset: i64,
    /// When it was written, in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The transaction that it is part of, if it is part of one.
    pub producer: Option<ProducerEpoch>,
    /// As in [`LogRecord`].
    pub key: &'a [u8],
    /// As in [`LogRecord`].
    pub value: Option<&'a [u8]>,
}

/// A transactional producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// What a state machine wants to happen. The answers of one call are given when its records are durable.
#[derive(Debug)]
pub struct Effects<A> {
    /// To be appended together, in order.
    pub records: Records,
    /// The transaction that the records are part of, if they are part of one. The log may refuse those, so they take effect
    /// only when it has taken them: by [`StateMachine::replay`].
    pub producer: Option<ProducerEpoch>,
    /// Requests that are answered.
    pub answers: Vec<(Ticket, A)>,
}

impl<A> Default for Effects<A> {
    fn default() -> Effects<A> {
        Effects { records: Records::default(), producer: None, answers: Vec::new() }
    }
}

impl<A> Effects<A> {
    /// Answers a request.
    pub fn answer(&mut self, ticket: Ticket, answer: A) {
        self.answers.push((ticket, answer));
    }

    /// Writes a record.
    pub fn write(&mut self, record: LogRecord) {
        self.records.push(&record);
    }

    /// True when nothing is to happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty()
    }
}

/// The state of one partition of a coordinator's topic.
pub trait StateMachine: 'static {
    /// What a request is answered with.
    type Answer: 'static;

    /// Takes in a record of the log. One that makes no sense is an error, which is logged; loading goes on without it.
    fn replay(&mut self, record: LoggedRecord<'_>) -> Result<(), ReplayError>;

    /// Takes in the end of a producer's transaction.
    fn replay_end(&mut self, producer: ProducerEpoch, committed: bool);

    /// The whole log has been replayed: time-outs begin.
    fn loaded(&mut self, image: &Arc<Image>, now: Now, effects: &mut Effects<Self::Answer>);

    /// When [`StateMachine::on_deadline`] is to be called, on the scale of [`Now::ms`]. It may be early.
    fn next_deadline_ms(&self) -> Option<i64>;

    /// Does what is due, as much of it as one batch holds: it is called again while more is due.
    fn on_deadline(&mut self, now: Now, effects: &mut Effects<Self::Answer>);

    /// The metadata have changed.
    fn on_image(&mut self, image: &Arc<Image>, now: Now, effects: &mut Effects<Self::Answer>);
}

/// Why a record of a coordinator's log was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayError(pub String);

impl std::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReplayError {}

impl From<wire::DecodeError> for ReplayError {
    fn from(error: wire::DecodeError) -> ReplayError {
        ReplayError(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_put_in() {
        let said = LogRecord { key: b"one".to_vec(), value: Some(b"first".to_vec()) };
        let taken_back = LogRecord { key: b"two".to_vec(), value: None };
        let mut records = Records::default();
        assert!(records.is_empty() && records.bytes_bound_behind(0) == 0);
        records.push(&said);
        records.push(&taken_back);
        records.push_with(|bytes| bytes.extend_from_slice(b"three"), |bytes| bytes.extend_from_slice(b""));
        let all: [(&[u8], Option<&[u8]>); 3] = [(b"one", Some(b"first")), (b"two", None), (b"three", Some(b""))];
        assert_eq!(records.iter().collect::<Vec<_>>(), all);
        assert_eq!(records.bytes_bound_behind(0), said.bytes_bound() + taken_back.bytes_bound() + 28);
        assert_eq!(records.bytes_bound_behind(1), taken_back.bytes_bound() + 28);
        assert_eq!(records.bytes_bound_behind(3), 0);
        records.truncate(2);
        assert_eq!((records.len(), records.bytes_bound_behind(1)), (2, taken_back.bytes_bound()));
        records.push(&said);
        assert_eq!(records.iter().last(), Some(all[0]));
        records.truncate(0);
        assert_eq!((records.iter().count(), records.bytes_bound_behind(0)), (0, 0));
    }
}
