//! What is durable of one transactional id: the content of a record of `__transaction_state`, and how it may change.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use wire::error::ErrorCode;

/// No producer id.
pub const NO_PRODUCER_ID: i64 = -1;
/// No epoch: the id has been made up and was never given to a producer.
pub const NO_EPOCH: i16 = -1;
/// The highest epoch that a producer is given. The one above it is kept for the coordinator, so that it can always fence.
const LAST_GIVEN_EPOCH: i16 = i16::MAX - 1;
/// When a transaction began, where there is none.
const NO_START: i64 = -1;
/// The time-out of a transaction of two phases (KIP-939), which has none.
const NO_TIMEOUT: i32 = i32::MAX;

/// A partition that takes part in a transaction: topic and number.
pub type Partition = (Arc<str>, i32);

/// Where a transactional id stands. The numbers are those of the records, the names those of the admin APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Phase {
    /// A producer has begun and no transaction has.
    Empty = 0,
    /// A transaction is open.
    Ongoing = 1,
    /// It is decided that the transaction's records count; their partitions are being told.
    PrepareCommit = 2,
    /// It is decided that they do not count; their partitions are being told.
    PrepareAbort = 3,
    /// All partitions know that they count.
    CompleteCommit = 4,
    /// All partitions know that they do not count.
    CompleteAbort = 5,
}

impl Phase {
    const ALL: [Phase; 6] = [
        Phase::Empty,
        Phase::Ongoing,
        Phase::PrepareCommit,
        Phase::PrepareAbort,
        Phase::CompleteCommit,
        Phase::CompleteAbort,
    ];

    /// The name in ListTransactions and DescribeTransactions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Ongoing => "Ongoing",
            Phase::PrepareCommit => "PrepareCommit",
            Phase::PrepareAbort => "PrepareAbort",
            Phase::CompleteCommit => "CompleteCommit",
            Phase::CompleteAbort => "CompleteAbort",
        }
    }

    /// The phase of a record's number.
    #[must_use]
    pub fn of(number: i8) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| *phase as i8 == number)
    }

    /// Whether an admin client may filter by this name. Kafka knows two more, in which no id is ever seen.
    #[must_use]
    pub fn is_known(name: &str) -> bool {
        Phase::ALL.iter().any(|phase| phase.name() == name) || matches!(name, "Dead" | "PrepareEpochFence")
    }

    /// Whether the outcome is decided and the partitions do not all know.
    #[must_use]
    pub fn is_prepared(self) -> bool {
        matches!(self, Phase::PrepareCommit | Phase::PrepareAbort)
    }
}

/// How far client and broker go along with KIP-890.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientVersion {
    /// Partitions are added by AddPartitionsToTxn, and an epoch serves many transactions.
    V1,
    /// Partitions are added by the first write, and every transaction has an epoch of its own.
    #[default]
    V2,
}

impl ClientVersion {
    /// The level of `transaction.version` that Kafka notes for it: clients of the older protocol count as 0.
    #[must_use]
    pub fn level(self) -> i16 {
        match self {
            ClientVersion::V1 => 0,
            ClientVersion::V2 => 2,
        }
    }

    /// The version of a level.
    #[must_use]
    pub fn of(level: i16) -> ClientVersion {
        if level >= 2 { ClientVersion::V2 } else { ClientVersion::V1 }
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its records count.
    Commit,
    /// They do not.
    Abort,
}

impl Outcome {
    fn prepared(self) -> Phase {
        match self {
            Outcome::Commit => Phase::PrepareCommit,
            Outcome::Abort => Phase::PrepareAbort,
        }
    }

    fn complete(self) -> Phase {
        match self {
            Outcome::Commit => Phase::CompleteCommit,
            Outcome::Abort => Phase::CompleteAbort,
        }
    }
}

/// What a producer is known by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its epoch, by which older producers of the same transactional id are told apart.
    pub epoch: i16,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.epoch)
    }
}

/// The state of a transactional id. Changes are made on copies, by the `prepare` functions; a copy takes the place of the
/// original when its record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The producer that may write.
    pub producer: Producer,
    /// The id before the last change, or [`NO_PRODUCER_ID`].
    pub previous_id: i64,
    /// The id that the producer is to have after this transaction, as its epochs are used up; or [`NO_PRODUCER_ID`].
    pub next_id: i64,
    /// The epoch before the last bump that the producer asked for, by which its retry is recognised; or [`NO_EPOCH`]. It
    /// is not part of the record.
    pub last_epoch: i16,
    /// How long a transaction may be open, in milliseconds.
    pub timeout_ms: i32,
    /// Where it stands.
    pub phase: Phase,
    /// What takes part in the open transaction.
    pub partitions: BTreeSet<Partition>,
    /// When it was opened, in ms since the epoch; -1 where none is.
    pub started_ms: i64,
    /// The time of the last change, in ms since the epoch.
    pub updated_ms: i64,
    /// The protocol of the client that made the last change to a transaction.
    pub client: ClientVersion,
}

impl State {
    /// The state before the first producer of a transactional id.
    #[must_use]
    pub fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> State {
        State {
            producer: Producer { id: producer_id, epoch: NO_EPOCH },
            previous_id: NO_PRODUCER_ID,
            next_id: NO_PRODUCER_ID,
            last_epoch: NO_EPOCH,
            timeout_ms,
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            started_ms: NO_START,
            updated_ms: now_ms,
            client: ClientVersion::V1,
        }
    }

    /// What the producer is told that it is known by from now on.
    #[must_use]
    pub fn announced(&self) -> Producer {
        if self.next_id == NO_PRODUCER_ID { self.producer } else { Producer { id: self.next_id, epoch: 0 } }
    }

    /// True when no further epoch of this producer id may be given away.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.producer.epoch >= LAST_GIVEN_EPOCH
    }

    /// True when the open transaction should have ended.
    #[must_use]
    pub fn is_overdue(&self, now_ms: i64) -> bool {
        let deadline = self.started_ms.saturating_add(i64::from(self.timeout_ms));
        self.phase == Phase::Ongoing && self.timeout_ms != NO_TIMEOUT && deadline < now_ms
    }

    /// True when nothing has been heard of the id for so long that it may be forgotten.
    #[must_use]
    pub fn is_expired(&self, now_ms: i64, after_ms: i64) -> bool {
        let is_idle = matches!(self.phase, Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort);
        is_idle && self.updated_ms <= now_ms.saturating_sub(after_ms)
    }

    /// Whether a producer that asks to go on may be one that this id has known: an id that was given up for its epochs
    /// may come from a retry whose first answer was lost.
    #[must_use]
    pub fn may_be(&self, expected: Producer) -> bool {
        self.producer.epoch == NO_EPOCH
            || expected.id == self.producer.id
            || (expected.id == self.previous_id && expected.epoch >= LAST_GIVEN_EPOCH)
    }

    /// A producer begins, or goes on after an error: it gets the next epoch.
    pub fn prepare_bump(&self, timeout_ms: i32, expected_epoch: Option<i16>, now_ms: i64) -> Result<State, ErrorCode> {
        let current = self.producer.epoch;
        let next = current.checked_add(1).ok_or(ErrorCode::UnknownServerError)?;
        let (epoch, last_epoch) = match expected_epoch {
            None => (next, NO_EPOCH),
            Some(expected) if current == NO_EPOCH || expected == current => (next, current),
            // A retry of a call that had worked. No other producer has begun since: that would have unset the last epoch.
            Some(expected) if expected == self.last_epoch => (current, self.last_epoch),
            Some(_) => return Err(ErrorCode::ProducerFenced),
        };
        let producer = Producer { epoch, ..self.producer };
        Ok(State { producer, last_epoch, ..self.emptied(timeout_ms, now_ms) })
    }

    /// A producer begins or goes on, and the epochs of its id are used up.
    #[must_use]
    pub fn prepare_rotation(&self, fresh_id: i64, timeout_ms: i32, keeps_last_epoch: bool, now_ms: i64) -> State {
        let last_epoch = if keeps_last_epoch { self.producer.epoch } else { NO_EPOCH };
        State { producer: Producer { id: fresh_id, epoch: 0 }, last_epoch, ..self.emptied(timeout_ms, now_ms) }
    }

    /// Partitions join the transaction, which is opened by that.
    #[must_use]
    pub fn prepare_add(&self, partitions: &BTreeSet<Partition>, client: ClientVersion, now_ms: i64) -> State {
        let mut next = self.successor(Phase::Ongoing, now_ms);
        if self.phase != Phase::Ongoing {
            next.started_ms = now_ms;
        }
        next.partitions.extend(partitions.iter().cloned());
        next.client = client;
        next
    }

    /// The transaction's end is decided. Under the newer protocol the end takes an epoch, so that what the producer still
    /// has on the way cannot join the next transaction; `fresh_id` is given when that uses up the epochs.
    #[must_use]
    pub fn prepare_end(&self, outcome: Outcome, client: ClientVersion, fresh_id: i64, now_ms: i64) -> State {
        let mut next = self.successor(outcome.prepared(), now_ms);
        if client == ClientVersion::V2 {
            // The highest epoch of all stays: the abort must go through even so.
            next.producer.epoch = self.producer.epoch.saturating_add(1);
            next.last_epoch = self.producer.epoch;
        }
        if self.phase != Phase::Ongoing {
            // An abort of a transaction that nothing has joined.
            next.started_ms = now_ms;
        }
        next.next_id = fresh_id;
        next.client = client;
        next
    }

    /// The transaction's abort is decided by the coordinator, and its producer is shut out by that: it loses one epoch. Under
    /// the newer protocol the end takes that epoch as any end does, and the producer may ask to go on with the next one.
    /// That is for the cluster to say, whatever the producer speaks, as in Kafka: so clients of the older protocol go on after
    /// a transaction of theirs has taken too long.
    #[must_use]
    pub fn prepare_fence(&self, cluster: ClientVersion, now_ms: i64) -> State {
        let fenced = match cluster {
            ClientVersion::V1 => {
                let epoch = self.producer.epoch.saturating_add(1);
                State { producer: Producer { epoch, ..self.producer }, last_epoch: NO_EPOCH, ..self.clone() }
            }
            ClientVersion::V2 => self.clone(),
        };
        fenced.prepare_end(Outcome::Abort, cluster, NO_PRODUCER_ID, now_ms)
    }

    /// All partitions know the end.
    #[must_use]
    pub fn prepare_complete(&self, outcome: Outcome, now_ms: i64) -> State {
        let mut next = self.successor(outcome.complete(), now_ms);
        if self.client == ClientVersion::V2 && self.next_id != NO_PRODUCER_ID {
            next.producer = Producer { id: self.next_id, epoch: 0 };
        }
        next.next_id = NO_PRODUCER_ID;
        next.partitions.clear();
        next
    }

    fn successor(&self, phase: Phase, now_ms: i64) -> State {
        State { previous_id: self.producer.id, phase, updated_ms: now_ms, ..self.clone() }
    }

    fn emptied(&self, timeout_ms: i32, now_ms: i64) -> State {
        State { timeout_ms, partitions: BTreeSet::new(), started_ms: NO_START, ..self.successor(Phase::Empty, now_ms) }
    }
}
