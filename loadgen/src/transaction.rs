//! Transactions of a producing connection, request for request as Apache Kafka's Java producer makes them.
//!
//! Where the broker has transaction version 2 (KIP-890), the first batch opens the transaction, and the answer to EndTxn
//! brings the epoch of the next one. Before it, AddPartitionsToTxn goes ahead. EndTxn is sent when all batches have their
//! answers, the next transaction begins with the answer to it. Every so many of them may be aborted. What the broker refuses for a moment is sent again after
//! the pauses of the Java producer.

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::header::{RequestHeader, decode_response};
use wire::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, add_partitions_to_txn_request,
};
use wire::{DecodeError, Message, Reader};

use crate::audit::TransactionEnd;
use crate::client::{Client, ClientError};
use crate::cluster::Cluster;
use crate::coordinators::CoordinatorOf;
use crate::error::RunError;
use crate::frame::{ProduceFrame, ProduceTarget};
use crate::link::{Lost, push_request};
use crate::plan::{ProduceLoad, Target};
use crate::tally::Tally;

/// `retry.backoff.ms`.
const PAUSE_NS: u64 = 100_000_000;
/// The pause where nothing but the end of the transaction before is waited for.
const SHORT_PAUSE_NS: u64 = 20_000_000;
/// The level of the feature `transaction.version` from which batches open transactions.
const VERSION_2: i16 = 2;
/// Produce and EndTxn as transactions of version 2 need them, at least.
const VERSION_2_PRODUCE: i16 = 12;
const VERSION_2_END: i16 = 5;

/// What the broker lets transactions be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// 2 where batches open transactions, 1 where AddPartitionsToTxn does.
    pub transaction: i16,
    /// Of Produce.
    pub produce: i16,
    init: i16,
    add: i16,
    end: i16,
}

impl Versions {
    /// What a leader and its clients agree on, given the newest Produce that all leaders speak.
    pub fn agreed(leader: &Client, produce: i16) -> Result<Versions, ClientError> {
        let end = leader.version(ApiKey::EndTxn, 0..=5)?;
        let second =
            leader.feature("transaction.version") >= VERSION_2 && produce >= VERSION_2_PRODUCE && end >= VERSION_2_END;
        Ok(Versions {
            transaction: if second { 2 } else { 1 },
            // Later versions would open transactions by themselves.
            produce: if second { produce } else { produce.min(VERSION_2_PRODUCE - 1) },
            init: leader.version(ApiKey::InitProducerId, 0..=5)?,
            // From version 4 on brokers ask it of brokers.
            add: leader.version(ApiKey::AddPartitionsToTxn, 0..=3)?,
            end: if second { end } else { end.min(VERSION_2_END - 1) },
        })
    }
}

/// A producer's place in the log: what its next batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerMark {
    /// The producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The number of the batch's first record among those to its partition.
    pub sequence: i32,
}

/// What a connection with a transactional id is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until an answer comes or a pause is over.
    Wait,
    /// Name the partitions.
    Add,
    /// Send a batch.
    Batch,
    /// Commit or abort.
    End,
}

/// Ends what connections of these transactional ids left open: a reader of committed records comes past it then, and how
/// it ended is decided.
pub fn end_left_open(cluster: &mut Cluster, ids: &[String]) -> Result<(), ClientError> {
    for id in ids {
        let versions = cluster.transactions.ok_or(ClientError::NoCommonVersion(ApiKey::EndTxn))?;
        // One of the leaders: no connection begins with a coordinator elsewhere.
        let any = cluster.topic.partitions[0].leader.clone();
        let coordinator = cluster.leader(&any)?.coordinator(CoordinatorOf::Transaction, id)?;
        cluster.leader(&coordinator)?.init_producer_id(id, versions.init)?;
    }
    Ok(())
}

/// The transactions of one connection, one after the other.
#[derive(Debug)]
pub struct Session {
    /// The form of its Produce requests, which carry the transactional id.
    pub frame: ProduceFrame,
    id: String,
    client_id: String,
    topic: String,
    versions: Versions,
    batches: u32,
    abort_every: Option<u32>,
    /// Transactions until one is aborted, this one included.
    until_abort: u32,
    producer_id: i64,
    epoch: i16,
    /// The next sequence of each partition, by its place among the connection's.
    sequences: Vec<i32>,
    /// Batches of this transaction that are sent and not refused.
    sent: u32,
    /// Whether the broker knows of it.
    open: bool,
    /// Whether a batch was refused and those behind it are waited for.
    refused: bool,
    /// Whether its commit was asked for.
    committing: bool,
    began_ns: u64,
    rest_until_ns: u64,
    /// The correlation id of the request besides Produce that is not answered.
    asked: Option<(ApiKey, i32)>,
}

impl Session {
    /// Gets a producer id for the connection of this number, and with it ends what an earlier run left open.
    pub fn begin(
        target: &Target,
        load: &ProduceLoad,
        cluster: &mut Cluster,
        leader: &str,
        (number, partitions): (u32, usize),
        form: &ProduceTarget<'_>,
    ) -> Result<Session, RunError> {
        let id = format!("{}-{number}", target.client_id);
        let versions = cluster.transactions.ok_or(ClientError::NoCommonVersion(ApiKey::EndTxn))?;
        let client = cluster.leader(leader)?;
        let coordinator = client.coordinator(CoordinatorOf::Transaction, &id)?;
        if coordinator != leader {
            return Err(RunError::CoordinatorElsewhere { id, coordinator, leader: leader.to_owned() });
        }
        let (producer_id, epoch) = client.init_producer_id(&id, versions.init)?;
        Ok(Session {
            frame: ProduceFrame::new(&ProduceTarget { transactional_id: Some(&id), ..*form })?,
            client_id: target.client_id.clone(),
            topic: target.topic.clone(),
            versions,
            batches: load.transaction_batches.unwrap_or(1),
            abort_every: load.abort_every,
            until_abort: load.abort_every.unwrap_or_default(),
            producer_id,
            epoch,
            sequences: vec![0; partitions],
            sent: 0,
            open: false,
            refused: false,
            committing: false,
            began_ns: 0,
            rest_until_ns: 0,
            asked: None,
            id,
        })
    }

    /// What is to be done, when all Produce requests are answered (`quiet`) or not, and when further batches are
    /// wanted (`more`) or not.
    pub fn step(&mut self, quiet: bool, more: bool, now: u64) -> Step {
        if self.asked.is_some() || now < self.rest_until_ns || (self.refused && !quiet) {
            return Step::Wait;
        }
        self.rest_until_ns = 0;
        if self.sent == self.batches || !more {
            return if quiet && self.open { Step::End } else { Step::Wait };
        }
        if self.versions.transaction == 1 && !self.open { Step::Add } else { Step::Batch }
    }

    /// When the pause after a refusal is over, if there is one. Nanoseconds of the clock.
    pub fn rests_until(&self) -> Option<u64> {
        (self.rest_until_ns > 0 && self.asked.is_none()).then_some(self.rest_until_ns)
    }

    /// Whether no transaction is open and nothing but Produce is unanswered.
    pub fn is_idle(&self) -> bool {
        self.asked.is_none() && !self.open
    }

    /// Whether a request besides Produce is unanswered.
    pub fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// How its transaction ends if the connection is given up now.
    pub fn end_if_left(&self) -> TransactionEnd {
        if self.committing { TransactionEnd::InDoubt } else { TransactionEnd::Aborted }
    }

    /// Its transactional id.
    pub fn into_id(self) -> String {
        self.id
    }

    /// What the next batch of `records` records to the partition at this place carries.
    pub fn next_batch(&mut self, place: usize, records: u32, now: u64) -> ProducerMark {
        if self.sent == 0 && !self.refused && self.versions.transaction == 2 {
            self.began_ns = now;
        }
        self.sent += 1;
        self.refused = false;
        let sequence = self.sequences[place];
        self.sequences[place] = after(sequence, records);
        ProducerMark { id: self.producer_id, epoch: self.epoch, sequence }
    }

    /// A batch was appended.
    pub fn appended(&mut self) {
        self.open = true;
    }

    /// A batch was refused with an error that passes; it is sent again. Any other error is the connection's end.
    pub fn refused(&mut self, place: usize, sequence: i32, code: i16, now: u64) -> Result<(), Lost> {
        // Behind a refused batch the sequence has a hole.
        let follows = self.refused && code == ErrorCode::OutOfOrderSequenceNumber.code();
        if !follows {
            self.check_passing(ApiKey::Produce, code)?;
            self.sequences[place] = sequence;
        }
        self.refused = true;
        self.sent -= 1;
        self.rest_until_ns = now + if self.open { PAUSE_NS } else { SHORT_PAUSE_NS };
        Ok(())
    }

    /// Appends the request of `step`, which is [`Step::Add`] or [`Step::End`].
    pub fn ask(
        &mut self,
        out: &mut Vec<u8>,
        step: Step,
        correlation_id: i32,
        partitions: &[i32],
        now: u64,
    ) -> Result<(), Lost> {
        let (producer_id, epoch) = (self.producer_id, self.epoch);
        let api = if step == Step::Add { ApiKey::AddPartitionsToTxn } else { ApiKey::EndTxn };
        let version = if step == Step::Add { self.versions.add } else { self.versions.end };
        let header = RequestHeader { api, version, correlation_id, client_id: Some(&self.client_id) };
        if step == Step::Add {
            if self.sent == 0 && !self.refused {
                self.began_ns = now;
            }
            let partitions = partitions.iter().copied().take(self.batches as usize).collect();
            let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic { name: &self.topic, partitions };
            let request = AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: &self.id,
                v3_and_below_producer_id: producer_id,
                v3_and_below_producer_epoch: epoch,
                v3_and_below_topics: vec![topic],
                ..Default::default()
            };
            push_request(out, &header, &request)?;
        } else {
            let committed = self.abort_every.is_none() || self.until_abort > 1;
            self.committing |= committed;
            let request = EndTxnRequest { transactional_id: &self.id, producer_id, producer_epoch: epoch, committed };
            push_request(out, &header, &request)?;
        }
        self.asked = Some((api, correlation_id));
        Ok(())
    }

    /// Reads the answer to [`Session::ask`], without its length. Answers how the transaction ended, if it has.
    pub fn answered(&mut self, frame: &[u8], tally: &mut Tally, now: u64) -> Result<Option<TransactionEnd>, Lost> {
        let (api, expected) = self.asked.take().ok_or(Lost::Unasked)?;
        let mut reader = Reader::new(frame);
        let version = if api == ApiKey::EndTxn { self.versions.end } else { self.versions.add };
        let got = decode_response(&mut reader, api, version).map_err(|error| Lost::Protocol(api, error))?;
        if got != expected {
            return Err(Lost::OutOfTurn { expected, got });
        }
        let decoded = |error: DecodeError| Lost::Protocol(api, error);
        let code = if api == ApiKey::EndTxn {
            let answer = EndTxnResponse::decode(&mut reader, version).map_err(decoded)?;
            if answer.error_code == 0 {
                return Ok(Some(self.ended(&answer, tally, now)));
            }
            answer.error_code
        } else {
            let answer = AddPartitionsToTxnResponse::decode(&mut reader, version).map_err(decoded)?;
            let mut results = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
            let code = results.find_map(|one| (one.partition_error_code != 0).then_some(one.partition_error_code));
            self.open |= code.is_none();
            code.unwrap_or_default()
        };
        if code == 0 {
            return Ok(None);
        }
        if let Err(error) = self.check_passing(api, code) {
            tally.error(api, code, 0);
            return Err(error);
        }
        tally.counters.transaction_retries += 1;
        let concurrent = code == ErrorCode::ConcurrentTransactions.code();
        let short = api == ApiKey::AddPartitionsToTxn && concurrent;
        self.rest_until_ns = now + if short { SHORT_PAUSE_NS } else { PAUSE_NS };
        self.refused |= api == ApiKey::AddPartitionsToTxn;
        Ok(None)
    }

    fn ended(&mut self, answer: &EndTxnResponse, tally: &mut Tally, now: u64) -> TransactionEnd {
        let end = if std::mem::take(&mut self.committing) {
            tally.counters.committed_transactions += 1;
            tally.transaction.record(now.saturating_sub(self.began_ns), 1);
            self.until_abort = self.until_abort.saturating_sub(1);
            TransactionEnd::Committed
        } else {
            tally.counters.aborted_transactions += 1;
            self.until_abort = self.abort_every.unwrap_or_default();
            TransactionEnd::Aborted
        };
        (self.sent, self.open, self.refused) = (0, false, false);
        if self.versions.transaction == 2 {
            (self.producer_id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.fill(0);
        }
        end
    }

    fn check_passing(&self, api: ApiKey, code: i16) -> Result<(), Lost> {
        let known = ErrorCode::from_code(code);
        let passes = known.is_some_and(|known| known == ErrorCode::ConcurrentTransactions || known.is_retriable());
        if passes { Ok(()) } else { Err(Lost::Refused { api, code }) }
    }
}

/// The sequence after `records` more records: it begins again at 0 behind the largest number.
fn after(sequence: i32, records: u32) -> i32 {
    ((i64::from(sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1)) as i32
}
