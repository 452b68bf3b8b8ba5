//! The transaction coordinator of one partition of `__transaction_state`: it decides, and others write and tell.
//!
//! ```text
//!          init                      add                    end                      told
//! (none) ──────▶ Empty ────────────▶ Ongoing ──────▶ PrepareCommit ────────▶ CompleteCommit ─┐
//!                  ▲                 ▲    │          PrepareAbort            CompleteAbort ──┤ add
//!                  │ init            │    │ overdue, or another init            │            │
//!                  └─────────────────┼────┴─▶ fenced: PrepareAbort              │ init       │
//!                                    └──────────────────────────────────────────┴────────────┘
//! ```
//!
//! A change takes effect at once, and its record is appended before anything else is decided. Nothing leaves the
//! coordinator, no answer and no marker, before the records are durable that it rests on: see [`super::machine`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::error::ErrorCode;

use super::state::{ClientVersion, NO_PRODUCER_ID, Outcome, Partition, Phase, Producer, State};

/// What an operation comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing has changed: the producer that the client is told of.
    Done(Producer),
    /// This has changed.
    Changed(Change),
    /// A producer id that nobody has is needed: the operation is to be asked for again with one.
    NeedId,
}

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub transactional_id: Arc<str>,
    /// None: the id has been forgotten.
    pub state: Option<State>,
}

/// Partitions that are to be told of a transaction's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whose.
    pub transactional_id: Arc<str>,
    /// The producer that the markers name.
    pub producer: Producer,
    /// How it ends.
    pub outcome: Outcome,
    /// By which protocol, which decides what epochs a partition takes.
    pub client: ClientVersion,
    /// All that took part.
    pub partitions: BTreeSet<Partition>,
}

/// The transactional ids of one partition.
#[derive(Debug, Default)]
pub struct Coordinator {
    ids: BTreeMap<Arc<str>, State>,
    /// The protocol by which the coordinator itself ends transactions.
    cluster: ClientVersion,
}

impl Coordinator {
    /// Takes over what the cluster goes by: the finalized level of `transaction.version`.
    pub fn set_cluster(&mut self, cluster: ClientVersion) {
        self.cluster = cluster;
    }

    /// Takes over a record, as the log gives them.
    pub fn load(&mut self, transactional_id: Arc<str>, state: Option<State>) {
        match state {
            Some(state) => drop(self.ids.insert(transactional_id, state)),
            None => drop(self.ids.remove(&transactional_id)),
        }
    }

    /// Transactions that were decided and may not have been told to all: after the log has been read.
    #[must_use]
    pub fn unfinished(&self) -> Vec<Ending> {
        self.ids.iter().filter_map(|(id, state)| ending(id, state)).collect()
    }

    /// The end that an id's partitions are to be told of.
    #[must_use]
    pub fn ending(&self, id: &str) -> Option<Ending> {
        let (id, state) = self.ids.get_key_value(id)?;
        ending(id, state)
    }

    /// A producer begins (InitProducerId). What it is told is the producer of the [`Step`]; but after a change to
    /// [`Phase::PrepareAbort`] it is told to ask again, since an older producer's transaction has to end first.
    pub fn init(
        &mut self,
        id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
        fresh_id: Option<i64>,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        let Some((id, state)) = self.ids.get_key_value(id) else {
            let Some(fresh_id) = fresh_id else { return Ok(Step::NeedId) };
            let state = State::new(fresh_id, timeout_ms, now_ms);
            let next = state.prepare_bump(timeout_ms, expected.map(|it| it.epoch), now_ms)?;
            return Ok(self.change(&Arc::from(id), next));
        };
        if expected.is_some_and(|expected| !state.may_be(expected)) {
            return Err(ErrorCode::ProducerFenced);
        }
        let next = match state.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => return Err(ErrorCode::ConcurrentTransactions),
            Phase::Ongoing => state.prepare_fence(self.cluster, now_ms),
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => {
                if state.is_exhausted() && expected.is_none_or(|it| it.epoch == state.producer.epoch) {
                    let Some(fresh_id) = fresh_id else { return Ok(Step::NeedId) };
                    state.prepare_rotation(fresh_id, timeout_ms, expected.is_some(), now_ms)
                } else {
                    state.prepare_bump(timeout_ms, expected.map(|it| it.epoch), now_ms)?
                }
            }
        };
        let id = id.clone();
        Ok(self.change(&id, next))
    }

    /// Partitions join the producer's transaction (AddPartitionsToTxn, AddOffsetsToTxn, and the first write to a partition
    /// under the newer protocol).
    pub fn add(
        &mut self,
        id: &str,
        producer: Producer,
        partitions: &BTreeSet<Partition>,
        client: ClientVersion,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        let (id, state) = self.writable(id, producer)?;
        match state.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => Err(ErrorCode::ConcurrentTransactions),
            Phase::Ongoing if partitions.is_subset(&state.partitions) => Ok(Step::Done(producer)),
            _ => {
                let (id, next) = (id.clone(), state.prepare_add(partitions, client, now_ms));
                Ok(self.change(&id, next))
            }
        }
    }

    /// Whether partitions take part in the producer's transaction (AddPartitionsToTxn that verifies only, and the first
    /// write to a partition under the older protocol): those that do not.
    pub fn verify(
        &self,
        id: &str,
        producer: Producer,
        partitions: &BTreeSet<Partition>,
    ) -> Result<BTreeSet<Partition>, ErrorCode> {
        let (_, state) = self.writable(id, producer)?;
        if state.phase.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(partitions.difference(&state.partitions).cloned().collect())
    }

    /// The producer ends its transaction (EndTxn).
    pub fn end(
        &mut self,
        id: &str,
        producer: Producer,
        outcome: Outcome,
        client: ClientVersion,
        fresh_id: Option<i64>,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        let (id, state) = self.find(id)?;
        let verdict = match client {
            ClientVersion::V1 => judge_end_v1(state, producer, outcome),
            ClientVersion::V2 => judge_end_v2(state, producer, outcome),
        };
        if verdict? == Verdict::AlreadyDone {
            return Ok(Step::Done(state.producer));
        }
        let fresh_id = match client {
            ClientVersion::V2 if state.is_exhausted() => match fresh_id {
                Some(fresh_id) => fresh_id,
                None => return Ok(Step::NeedId),
            },
            _ => NO_PRODUCER_ID,
        };
        let (id, next) = (id.clone(), state.prepare_end(outcome, client, fresh_id, now_ms));
        Ok(self.change(&id, next))
    }

    /// All partitions have been told of the end.
    pub fn told(&mut self, told: &Ending, now_ms: i64) -> Result<Step, ErrorCode> {
        let (id, state) = self.find(&told.transactional_id)?;
        if ending(id, state).as_ref() != Some(told) {
            return Err(ErrorCode::InvalidTxnState);
        }
        let (id, next) = (id.clone(), state.prepare_complete(told.outcome, now_ms));
        Ok(self.change(&id, next))
    }

    /// Aborts transactions that have been open for too long, and fences their producers.
    pub fn abort_overdue(&mut self, now_ms: i64) -> Vec<Change> {
        let overdue = self.ids.iter().filter(|(_, state)| state.is_overdue(now_ms));
        let overdue: Vec<_> =
            overdue.map(|(id, state)| (id.clone(), state.prepare_fence(self.cluster, now_ms))).collect();
        overdue.into_iter().filter_map(|(id, next)| self.change(&id, next).change()).collect()
    }

    /// Forgets ids of which nothing has been heard for `after_ms`, at most `most` at a time.
    pub fn forget_expired(&mut self, after_ms: i64, now_ms: i64, most: usize) -> Vec<Change> {
        let expired = self.ids.iter().filter(|(_, state)| state.is_expired(now_ms, after_ms)).take(most);
        let changes: Vec<_> = expired.map(|(id, _)| Change { transactional_id: id.clone(), state: None }).collect();
        changes.iter().for_each(|change| drop(self.ids.remove(&change.transactional_id)));
        changes
    }

    /// All ids with their states, in order.
    pub fn list(&self) -> impl Iterator<Item = (&Arc<str>, &State)> {
        self.ids.iter()
    }

    /// The state of one id.
    #[must_use]
    pub fn describe(&self, id: &str) -> Option<&State> {
        self.ids.get(id)
    }

    fn change(&mut self, id: &Arc<str>, next: State) -> Step {
        self.ids.insert(id.clone(), next.clone());
        Step::Changed(Change { transactional_id: id.clone(), state: Some(next) })
    }

    fn find(&self, id: &str) -> Result<(&Arc<str>, &State), ErrorCode> {
        self.ids.get_key_value(id).ok_or(ErrorCode::InvalidProducerIdMapping)
    }

    /// The state of an id in whose transaction this producer may write.
    fn writable(&self, id: &str, producer: Producer) -> Result<(&Arc<str>, &State), ErrorCode> {
        let (id, state) = self.find(id)?;
        // Its next id is known to the client already, and comes into use when the partitions have been told of the end.
        let is_ahead = state.phase.is_prepared() && producer == state.announced();
        if producer.id != state.producer.id && !is_ahead {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if producer.epoch != state.producer.epoch && !is_ahead {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok((id, state))
    }
}

/// The end that partitions are to be told of.
fn ending(id: &Arc<str>, state: &State) -> Option<Ending> {
    let outcome = match state.phase {
        Phase::PrepareCommit => Outcome::Commit,
        Phase::PrepareAbort => Outcome::Abort,
        _ => return None,
    };
    Some(Ending {
        transactional_id: id.clone(),
        producer: state.producer,
        outcome,
        client: state.client,
        partitions: state.partitions.clone(),
    })
}

/// Whether a transaction may be ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It may.
    End,
    /// A retry: it has been.
    AlreadyDone,
}

/// One epoch serves many transactions, so a retry looks like what it repeats.
fn judge_end_v1(state: &State, producer: Producer, outcome: Outcome) -> Result<Verdict, ErrorCode> {
    if producer.id != state.producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if producer.epoch != state.producer.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    match (state.phase, outcome) {
        (Phase::Ongoing, _) => Ok(Verdict::End),
        (Phase::CompleteCommit, Outcome::Commit) | (Phase::CompleteAbort, Outcome::Abort) => Ok(Verdict::AlreadyDone),
        (Phase::PrepareCommit, Outcome::Commit) | (Phase::PrepareAbort, Outcome::Abort) => {
            Err(ErrorCode::ConcurrentTransactions)
        }
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// Every end takes an epoch, so a retry comes with the epoch before the current one. An abort is taken also where
/// nothing has joined: the client cannot know whether its first write has come through.
///
/// ```text
///                   abort: retry   current     commit: retry   current
/// Empty                    fenced  ends                fenced  invalid
/// CompleteAbort            done    ends                invalid invalid
/// CompleteCommit           invalid ends                done    invalid
/// ```
fn judge_end_v2(state: &State, producer: Producer, outcome: Outcome) -> Result<Verdict, ErrorCode> {
    let current = state.producer;
    // The answer that was lost may have carried the first epoch of another id.
    let is_overflow_retry = state.previous_id == producer.id && producer.epoch == i16::MAX - 1 && current.epoch == 0;
    // After an end by the older protocol the epoch before is that of a producer which another has replaced.
    let is_bump_retry = producer.epoch.checked_add(1) == Some(current.epoch) && state.client == ClientVersion::V2;
    let is_current = producer.epoch == current.epoch;
    if producer.id != current.id && !is_overflow_retry {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let is_known = match state.phase {
        Phase::Ongoing | Phase::Empty => is_current,
        Phase::PrepareCommit | Phase::PrepareAbort => is_bump_retry,
        Phase::CompleteCommit | Phase::CompleteAbort => is_bump_retry || is_overflow_retry || is_current,
    };
    if !is_known {
        return Err(ErrorCode::ProducerFenced);
    }
    let is_retry = is_bump_retry || is_overflow_retry;
    match (state.phase, outcome) {
        (Phase::Ongoing, _) | (Phase::Empty, Outcome::Abort) => Ok(Verdict::End),
        (Phase::CompleteCommit | Phase::CompleteAbort, Outcome::Abort) if !is_retry => Ok(Verdict::End),
        (Phase::CompleteCommit, Outcome::Commit) | (Phase::CompleteAbort, Outcome::Abort) if is_retry => {
            Ok(Verdict::AlreadyDone)
        }
        (Phase::PrepareCommit, Outcome::Commit) | (Phase::PrepareAbort, Outcome::Abort) => {
            Err(ErrorCode::ConcurrentTransactions)
        }
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

impl Step {
    fn change(self) -> Option<Change> {
        match self {
            Step::Changed(change) => Some(change),
            Step::Done(_) | Step::NeedId => None,
        }
    }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
