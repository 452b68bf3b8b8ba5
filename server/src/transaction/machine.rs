//! The coordinator of one partition of `__transaction_state` as a state machine that the driver runs: requests come with
//! tickets, changes become records, and the answers leave when all records are durable that they rest on.
//!
//! A write that finds its transaction's predecessor still ending is not refused at once, as that lasts a few milliseconds:
//! it waits here, for at most what the operator allows. So a client that begins its next transaction without a pause is
//! spared a retry after its own back-off.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use engine::reactor::Notify;
use wire::error::ErrorCode;

use super::coordinator::{Change, Coordinator, Ending, Step};
use super::record;
use super::state::{ClientVersion, Outcome, Partition, Producer, State};
use crate::image::Image;
use crate::limits::EXPIRED_TRANSACTIONAL_IDS;
use crate::state_machine::{Effects, LogRecord, LoggedRecord, Now, ProducerEpoch, ReplayError, StateMachine, Ticket};

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was refused.
    Refused(ErrorCode),
    /// It is to be asked for again, with a producer id that nobody has.
    NeedId,
    /// It was done.
    Done {
        /// What the client is told.
        producer: Producer,
        /// Partitions that are to be told now.
        ending: Option<Ending>,
    },
    /// Partitions that are not part of the transaction.
    Missing(BTreeSet<Partition>),
    /// Partitions of several transactions that are to be told now.
    Endings(Vec<Ending>),
    /// Ids were forgotten; whether more are left.
    Forgotten {
        /// They are to be asked for again.
        more: bool,
    },
    /// States of ids, in the order of the ids.
    States(Vec<(Arc<str>, State)>),
}

/// A producer begins, or goes on after an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// By which name.
    pub transactional_id: Arc<str>,
    /// How long its transactions may be open, in milliseconds.
    pub timeout_ms: i32,
    /// What it was known by, if it goes on.
    pub expected: Option<Producer>,
}

/// A producer ends its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Whose.
    pub transactional_id: Arc<str>,
    /// The producer.
    pub producer: Producer,
    /// How.
    pub outcome: Outcome,
    /// By which protocol.
    pub client: ClientVersion,
}

/// A write to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// The producer.
    pub producer: Producer,
    /// Where it writes.
    pub partitions: BTreeSet<Partition>,
    /// Whether the partitions are to be added, or must be part already.
    pub intent: Intent,
}

/// What is wanted of a [`Join`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// The partitions are added.
    Add(ClientVersion),
    /// They must have been added.
    Verify,
}

/// Partitions of the log that have been loaded, for whoever tells the partitions of their transactions.
#[derive(Debug, Default)]
pub struct Loads {
    /// Their numbers.
    pub numbers: RefCell<Vec<i32>>,
    /// Rings when there are some.
    pub bell: Notify,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    number: i32,
    loads: Rc<Loads>,
    coordinator: Coordinator,
    /// Writes that wait for the end of the transaction before theirs, by their deadline.
    parked: BTreeMap<(i64, Ticket), Join>,
    patience_ms: i64,
}

impl Machine {
    /// An empty one of the partition of this number, in which a write waits for up to `patience_ms`. When it has been loaded
    /// `loads` is told.
    #[must_use]
    pub fn new(number: i32, patience_ms: i64, loads: Rc<Loads>) -> Machine {
        Machine { number, loads, coordinator: Coordinator::default(), parked: BTreeMap::new(), patience_ms }
    }

    /// See [`Coordinator::set_cluster`].
    pub fn set_cluster(&mut self, cluster: ClientVersion) {
        self.coordinator.set_cluster(cluster);
    }

    /// A producer begins: see [`Coordinator::init`].
    pub fn init(
        &mut self,
        init: &Init,
        fresh_id: Option<i64>,
        now: Now,
        ticket: Ticket,
        effects: &mut Effects<Answer>,
    ) {
        let step = self.coordinator.init(&init.transactional_id, init.timeout_ms, init.expected, fresh_id, now.unix_ms);
        let answer = self.take(step, effects);
        effects.answer(ticket, answer);
    }

    /// A producer writes to partitions.
    pub fn join(&mut self, join: Join, now: Now, ticket: Ticket, effects: &mut Effects<Answer>) {
        match self.try_join(&join, now, effects) {
            Answer::Refused(ErrorCode::ConcurrentTransactions) => {
                self.parked.insert((now.ms.saturating_add(self.patience_ms), ticket), join);
            }
            answer => effects.answer(ticket, answer),
        }
    }

    /// As [`Machine::join`], for a write that will be asked for once more if it has to wait.
    pub fn join_at_once(&mut self, join: &Join, now: Now, ticket: Ticket, effects: &mut Effects<Answer>) {
        let answer = self.try_join(join, now, effects);
        effects.answer(ticket, answer);
    }

    /// A producer ends its transaction: see [`Coordinator::end`].
    pub fn end(&mut self, end: &End, fresh_id: Option<i64>, now: Now, ticket: Ticket, effects: &mut Effects<Answer>) {
        let End { transactional_id: id, producer, outcome, client } = end;
        let step = self.coordinator.end(id, *producer, *outcome, *client, fresh_id, now.unix_ms);
        let answer = self.take(step, effects);
        effects.answer(ticket, answer);
    }

    /// All partitions have been told of an end.
    pub fn told(&mut self, ending: &Ending, now: Now, ticket: Ticket, effects: &mut Effects<Answer>) {
        let step = self.coordinator.told(ending, now.unix_ms);
        let answer = self.take(step, effects);
        effects.answer(ticket, answer);
        let id = &ending.transactional_id;
        let waited: Vec<_> = self.parked.extract_if(.., |_, join| join.transactional_id == *id).collect();
        for ((deadline_ms, ticket), join) in waited {
            match self.try_join(&join, now, effects) {
                Answer::Refused(ErrorCode::ConcurrentTransactions) => {
                    self.parked.insert((deadline_ms, ticket), join);
                }
                answer => effects.answer(ticket, answer),
            }
        }
    }

    /// Transactions whose partitions are to be told: those that a restart has found.
    pub fn unfinished(&mut self, ticket: Ticket, effects: &mut Effects<Answer>) {
        effects.answer(ticket, Answer::Endings(self.coordinator.unfinished()));
    }

    /// Aborts what is overdue: see [`Coordinator::abort_overdue`].
    pub fn abort_overdue(&mut self, now: Now, ticket: Ticket, effects: &mut Effects<Answer>) {
        let mut endings = Vec::new();
        for change in self.coordinator.abort_overdue(now.unix_ms) {
            endings.extend(self.coordinator.ending(&change.transactional_id));
            write(&change, effects);
        }
        effects.answer(ticket, Answer::Endings(endings));
    }

    /// Forgets ids of which nothing has been heard for `after_ms`, as many as one batch should hold.
    pub fn forget_expired(&mut self, after_ms: i64, now: Now, ticket: Ticket, effects: &mut Effects<Answer>) {
        let forgotten = self.coordinator.forget_expired(after_ms, now.unix_ms, EXPIRED_TRANSACTIONAL_IDS);
        forgotten.iter().for_each(|change| write(change, effects));
        effects.answer(ticket, Answer::Forgotten { more: forgotten.len() == EXPIRED_TRANSACTIONAL_IDS });
    }

    /// The states of ids that a filter takes.
    pub fn list(&self, is_wanted: impl Fn(&str, &State) -> bool, ticket: Ticket, effects: &mut Effects<Answer>) {
        let states = self.coordinator.list().filter(|(id, state)| is_wanted(id, state));
        effects.answer(ticket, Answer::States(states.map(|(id, state)| (id.clone(), state.clone())).collect()));
    }

    fn try_join(&mut self, join: &Join, now: Now, effects: &mut Effects<Answer>) -> Answer {
        let Join { transactional_id, producer, partitions, intent } = join;
        match intent {
            Intent::Add(client) => {
                let step = self.coordinator.add(transactional_id, *producer, partitions, *client, now.unix_ms);
                self.take(step, effects)
            }
            Intent::Verify => match self.coordinator.verify(transactional_id, *producer, partitions) {
                Ok(missing) => Answer::Missing(missing),
                Err(error) => Answer::Refused(error),
            },
        }
    }

    /// Writes what has changed, and gives the answer to who has asked.
    fn take(&self, step: Result<Step, ErrorCode>, effects: &mut Effects<Answer>) -> Answer {
        match step {
            Err(error) => Answer::Refused(error),
            Ok(Step::NeedId) => Answer::NeedId,
            Ok(Step::Done(producer)) => Answer::Done { producer, ending: None },
            Ok(Step::Changed(change)) => {
                write(&change, effects);
                let ending = self.coordinator.ending(&change.transactional_id);
                match change.state {
                    Some(state) => Answer::Done { producer: state.announced(), ending },
                    None => Answer::Forgotten { more: false },
                }
            }
        }
    }
}

/// Appends the record of a change. Names and lists that are too long for it have been refused before.
fn write(change: &Change, effects: &mut Effects<Answer>) {
    let key = record::encode_key(&change.transactional_id);
    let value = change.state.as_ref().map(record::encode_value).transpose();
    if let (Ok(key), Ok(value)) = (key, value) {
        effects.write(LogRecord { key, value });
    }
}

impl StateMachine for Machine {
    type Answer = Answer;

    fn replay(&mut self, record: LoggedRecord<'_>) -> Result<(), ReplayError> {
        let read = record::decode(Some(record.key), record.value).map_err(|error| ReplayError(error.to_string()))?;
        self.coordinator.load(read.transactional_id, read.state);
        Ok(())
    }

    /// The coordinator's own records are part of no transaction.
    fn replay_end(&mut self, _: ProducerEpoch, _: bool) {}

    fn loaded(&mut self, _: &Arc<Image>, _: Now, _: &mut Effects<Answer>) {
        self.loads.numbers.borrow_mut().push(self.number);
        self.loads.bell.notify();
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        self.parked.keys().next().map(|(at_ms, _)| *at_ms)
    }

    fn on_deadline(&mut self, now: Now, effects: &mut Effects<Answer>) {
        while let Some(entry) = self.parked.first_entry().filter(|entry| entry.key().0 <= now.ms) {
            let ((_, ticket), _) = entry.remove_entry();
            effects.answer(ticket, Answer::Refused(ErrorCode::ConcurrentTransactions));
        }
    }

    fn on_image(&mut self, _: &Arc<Image>, _: Now, _: &mut Effects<Answer>) {}
}
