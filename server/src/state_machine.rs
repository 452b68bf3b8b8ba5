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

impl LogRecord {
    /// No less than the bytes that it takes in a batch.
    #[must_use]
    pub fn bytes_bound(&self) -> usize {
        // Lengths, deltas and attributes are at most 23 bytes.
        23 + self.key.len() + self.value.as_ref().map_or(0, Vec::len)
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
    pub records: Vec<LogRecord>,
    /// The transaction that the records are part of, if they are part of one. The log may refuse those, so they take effect
    /// only when it has taken them: by [`StateMachine::replay`].
    pub producer: Option<ProducerEpoch>,
    /// Requests that are answered.
    pub answers: Vec<(Ticket, A)>,
}

impl<A> Default for Effects<A> {
    fn default() -> Effects<A> {
        Effects { records: Vec::new(), producer: None, answers: Vec::new() }
    }
}

impl<A> Effects<A> {
    /// Answers a request.
    pub fn answer(&mut self, ticket: Ticket, answer: A) {
        self.answers.push((ticket, answer));
    }

    /// Writes a record.
    pub fn write(&mut self, record: LogRecord) {
        self.records.push(record);
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
