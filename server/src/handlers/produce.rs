//! Produce (key 0), versions 0 to 13: appends one batch to each partition named. Up to version 2 the records are a message
//! set, which `legacy` makes a batch of.
//!
//! A request is handled in the turn in which it arrives. Batches for partitions of this core are appended by a plain call
//! and answered at once, with the commit as a gate; batches for other cores go there as messages, and the answer is
//! written when the last of them has come back. Neither path allocates for a request whose partitions are all here:
//! what is known of each partition is kept in a [`Work`] that is recycled.
//!
//! ```text
//! begin: parse all ─▶ check each batch's header ─▶ go_on: append, or send to its core ─▶ encode, gated
//!                                                    │ no memory: Step::Busy, later go_on again
//! ```
//!
//! The records themselves are looked at only when the topic's configuration demands it: keys of a compacted topic, another
//! compression, timestamps that are out of bounds. The CRC is checked by the store, once.
//!
//! A batch of a transaction is appended like another one while its transaction is open in the partition. Of the first one
//! the transaction's coordinator has to know before. It is asked at once where it is on this core as well; else the batch
//! goes to the partition's core, even if that is this one, and waits there for the coordinator (see [`crate::router`]).

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use engine::{AppendError, Appended, Origin, Slot};
use wire::api::ApiKey;
use wire::batch::BatchView;
use wire::error::ErrorCode;
use wire::header::RequestHeader;
use wire::produce::{ProduceResponseWriter, ProduceView, ProducedPartition, RecordFailure, TopicRef};

use super::produce_rules::{self as rules, Checked, Refusal, Terms};
use super::{legacy, places};
use crate::api::{RequestError, begin_response, end_response};
use crate::connection::responses::{Gate, Reply, Ticket};
use crate::connection::{Connection, Step};
use crate::frame::Frames;
use crate::image::Topic;
use crate::limits::{KEPT_ENTRIES, KEPT_REQUESTS};
use crate::router::{Append, CoreMsg};
use crate::shard::Shard;
use crate::transaction::admission::{self, Refused, Writer};
use crate::transaction::state::Producer;

/// The first version whose writes add their partitions to the transaction (KIP-890).
const ADDS_FROM: i16 = 12;

/// A produce request under way.
#[derive(Debug, Default)]
pub(crate) struct Work {
    correlation_id: i32,
    version: i16,
    acks: i16,
    /// Where the body begins in the frame.
    body: usize,
    transactional_id: Option<TransactionalId>,
    /// The partitions, in the order of the request.
    entries: Vec<Entry>,
    /// The entry to be appended next.
    next: usize,
    /// The commit of this core that makes its own part durable.
    gate: Gate,
    /// The request's place among those that wait for other cores, once it has one.
    job: Option<JobId>,
    /// Answers of other cores that have not come.
    awaited: u32,
}

/// The transactional id of a request.
#[derive(Debug)]
struct TransactionalId {
    /// Where it is in the frame.
    at: Range<usize>,
    /// The same for those who keep it, made when the first of them asks.
    kept: OnceCell<Arc<str>>,
}

/// One partition of a request.
#[derive(Debug)]
struct Entry {
    index: i32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be appended.
    Checked {
        core: usize,
        slot: Slot,
        leader_epoch: i32,
        batch: Batch,
        /// The topic, where the batch is part of a transaction.
        transaction: Option<Arc<str>>,
    },
    /// Another core appends it, or this one when the coordinator of its transaction has been asked.
    Sent {
        batch: Batch,
    },
    Appended(Appended),
    Refused(Refusal),
    /// A message set without messages, which only old versions may send: a success that appends nothing.
    Nothing,
}

/// Where a batch's bytes are.
#[derive(Debug, Clone)]
enum Batch {
    /// In the request.
    InFrame(Range<usize>),
    /// Rewritten.
    Own(Bytes),
}

/// Names a request that waits for other cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobId {
    place: u32,
    /// Told apart from earlier ones in the same place.
    number: u32,
}

/// What produce requests of one core share.
#[derive(Debug, Default)]
pub(crate) struct ProduceState {
    /// Kept for their memory.
    #[expect(clippy::vec_box, reason = "a request moves as a pointer between here, its connection and its job")]
    free: Vec<Box<Work>>,
    jobs: Vec<Option<Job>>,
    free_jobs: Vec<u32>,
    next_number: u32,
}

/// A request that waits for other cores.
#[derive(Debug)]
struct Job {
    number: u32,
    connection: Connection,
    results: Vec<(u32, Result<Appended, Refused>)>,
    /// Set once the request has been gone through to its end. Results may come before that, if it finds no memory.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    work: Box<Work>,
    frame: Bytes,
    kept_bytes: usize,
    ticket: Ticket,
}

/// Begins a request.
pub(crate) fn begin(
    connection: &Connection,
    header: &RequestHeader<'_>,
    frame: &[u8],
    body: usize,
    frames: &Frames,
) -> Result<Step, RequestError> {
    let shard = connection.shard();
    let view = ProduceView::parse(&frame[body..], header.version)?;
    let mut work = shard.0.produce.borrow_mut().free.pop().unwrap_or_default();
    work.correlation_id = header.correlation_id;
    work.version = header.version;
    work.acks = view.acks;
    work.body = body;
    work.transactional_id = view.transactional_id.map(|id| {
        let start = id.as_ptr().addr() - frame.as_ptr().addr();
        TransactionalId { at: start..start + id.len(), kept: OnceCell::new() }
    });
    let terms = Terms {
        version: header.version,
        acks: view.acks,
        client_id: header.client_id,
        now_ms: shard.reactor().unix_ms(),
    };
    let image = shard.image();
    // The producer of the batches that are part of a transaction, and whether they have another one as well.
    let mut producer = None;
    let mut has_several = false;
    for topic in view.topics() {
        let known = match topic.topic {
            TopicRef::Name(name) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
            TopicRef::Id(id) => image.topic_by_id(&id).ok_or(ErrorCode::UnknownTopicId),
        };
        for partition in topic.partitions {
            let state = match known {
                Ok(topic) => check(topic, partition.index, partition.records, frame, terms),
                Err(error) => Err(Refusal::from(error)),
            };
            if let Ok(State::Checked { transaction: Some(_), batch, .. }) = &state
                && let Ok(batch) = BatchView::parse(batch.bytes(frame))
            {
                let its = (batch.producer_id(), batch.producer_epoch());
                has_several |= *producer.get_or_insert(its) != its;
            }
            work.entries.push(Entry { index: partition.index, state: state.unwrap_or_else(State::Refused) });
        }
    }
    drop(image);
    // Nobody may write for a transaction without its id, nor for several of them: Kafka refuses the request as a whole.
    let refused = match producer {
        Some(_) if work.transactional_id.is_none() => Some(ErrorCode::TransactionalIdAuthorizationFailed),
        Some((id, _)) if id < 0 || has_several => Some(ErrorCode::InvalidProducerIdMapping),
        _ => None,
    };
    if let Some(refused) = refused {
        work.entries.iter_mut().for_each(|entry| entry.state = State::Refused(refused.into()));
    }
    go_on(connection, work, frame, frames)
}

/// Goes on with a request that found no memory, in the same frame.
pub(crate) fn go_on(
    connection: &Connection,
    mut work: Box<Work>,
    frame: &[u8],
    frames: &Frames,
) -> Result<Step, RequestError> {
    let shard = connection.shard();
    while let Some(entry) = work.entries.get(work.next) {
        if let State::Checked { core, .. } = entry.state {
            let appended = if core == shard.core() { append_here(shard, &work, entry, frame) } else { Here::Elsewhere };
            match appended {
                Here::Appended(appended) => {
                    work.gate = work.gate.max(appended.seq);
                    work.entries[work.next].state = State::Appended(appended);
                }
                Here::Refused(AppendError::Busy) => return Ok(Step::Busy(work)),
                Here::Refused(error) => {
                    let refusal = explain(shard, &work, work.next, frame, error);
                    work.entries[work.next].state = State::Refused(refusal);
                }
                Here::Elsewhere => send(connection, &mut work, frame, frames),
            }
        }
        work.next += 1;
    }
    match work.job {
        None => finish_here(connection, work, frame)?,
        Some(job) => {
            let (frame, kept_bytes) = frames.share();
            let ticket = connection.respond_later(kept_bytes);
            let pending = Pending { work, frame, kept_bytes, ticket };
            let done = shard.0.produce.borrow_mut().set_pending(job, pending);
            if let Some(done) = done {
                finish_job(shard, done);
            }
        }
    }
    Ok(Step::Done)
}

/// What became of a batch for a partition of this core.
enum Here {
    Appended(Appended),
    Refused(AppendError),
    /// It has to be sent, to another core or to where batches wait for a coordinator.
    Elsewhere,
}

fn append_here(shard: &Shard, work: &Work, entry: &Entry, frame: &[u8]) -> Here {
    let State::Checked { slot, leader_epoch, ref batch, ref transaction, .. } = entry.state else {
        return Here::Elsewhere;
    };
    let Ok(batch) = BatchView::parse(batch.bytes(frame)) else { return Here::Refused(AppendError::InvalidRecord) };
    if transaction.is_some() && shard.0.router.is_joining(slot, batch.producer_id()) {
        return Here::Elsewhere;
    }
    let mut result = shard.store().append(slot, &batch, leader_epoch);
    if let Err(AppendError::InvalidTxnState) = result
        && let Some(writer) = work.writer(entry, frame)
    {
        // The transaction is not open in the partition.
        let Some(guard) = admission::admit_at_once(shard, slot, &writer) else { return Here::Elsewhere };
        result = shard.store().append_as(Origin::Client, Some(guard), slot, &batch, leader_epoch);
    }
    result.map_or_else(Here::Refused, Here::Appended)
}

/// Sends the next batch of a request to its core.
fn send(connection: &Connection, work: &mut Work, frame: &[u8], frames: &Frames) {
    let shard = connection.shard();
    let entry = &work.entries[work.next];
    let State::Checked { core, slot, leader_epoch, ref batch, .. } = entry.state else { return };
    let (batch, writer) = (batch.clone(), work.writer(entry, frame));
    let job = *work.job.get_or_insert_with(|| shard.0.produce.borrow_mut().new_job(connection));
    let bytes = match &batch {
        Batch::InFrame(range) => frames.share_part(range.clone()),
        Batch::Own(bytes) => bytes.clone(),
    };
    work.awaited += 1;
    work.entries[work.next].state = State::Sent { batch };
    let append = Append { job, entry: work.next as u32, slot, leader_epoch, batch: bytes, writer };
    shard.send(core, CoreMsg::Append(append));
}

/// Takes the answer of another core.
pub(crate) fn on_appended(shard: &Shard, job: JobId, entry: u32, result: Result<Appended, Refused>) {
    let done = shard.0.produce.borrow_mut().add_result(job, entry, result);
    if let Some(done) = done {
        finish_job(shard, done);
    }
}

/// Answers a request whose partitions are all on this core.
fn finish_here(connection: &Connection, work: Box<Work>, frame: &[u8]) -> Result<(), RequestError> {
    let result = match work.acks {
        0 => work.confirm(),
        _ => connection.respond(work.gate, |out| work.encode(frame, out)),
    };
    connection.shard().0.produce.borrow_mut().keep(work);
    result
}

/// Answers a request which other cores have completed.
fn finish_job(shard: &Shard, mut job: Job) {
    let Some(Pending { mut work, frame, kept_bytes, ticket }) = job.pending.take() else { return };
    for (at, result) in job.results.drain(..) {
        let state = match result {
            Ok(appended) => State::Appended(appended),
            Err(Refused::Store(error)) => State::Refused(explain(shard, &work, at as usize, &frame, error)),
            Err(Refused::Coordinator(error)) => State::Refused(rules::coordinator_refusal(error, work.version)),
        };
        work.entries[at as usize].state = state;
    }
    let reply = match work.acks {
        0 => work.confirm().map(|()| Reply::default()),
        _ => {
            let mut head = Vec::new();
            work.encode(&frame, &mut head).map(|()| head.into())
        }
    };
    job.connection.complete(ticket, kept_bytes, work.gate, reply);
    shard.0.produce.borrow_mut().keep(work);
}

/// Checks what the header of a batch says, and finds where it goes.
fn check(topic: &Topic, index: i32, records: Option<&[u8]>, frame: &[u8], terms: Terms<'_>) -> Result<State, Refusal> {
    let place = places::place(topic, index)?;
    let batch = if terms.version >= rules::MAGIC_2_FROM {
        match rules::check(topic, records, terms)? {
            Checked::AsItIs(batch) => {
                let start = batch.as_ptr().addr() - frame.as_ptr().addr();
                Batch::InFrame(start..start + batch.len())
            }
            Checked::Rewritten(batch) => Batch::Own(batch.into()),
        }
    } else {
        match legacy::produce::check(topic, records, terms)? {
            Some(batch) => Batch::Own(batch.into()),
            None => return Ok(State::Nothing),
        }
    };
    let header = BatchView::parse(batch.bytes(frame)).map_err(|_| ErrorCode::CorruptMessage)?;
    let transaction = header.attributes().is_transactional().then(|| topic.name.clone());
    Ok(State::Checked { core: place.core, slot: place.slot, leader_epoch: place.leader_epoch, batch, transaction })
}

/// What the client is told of a batch that the store has refused.
fn explain(shard: &Shard, work: &Work, at: usize, frame: &[u8], error: AppendError) -> Refusal {
    let (State::Checked { batch, .. } | State::Sent { batch }) = &work.entries[at].state else {
        return rules::refusal(error);
    };
    if error == AppendError::InvalidTimestamp
        && let Ok(view) = ProduceView::parse(&frame[work.body..], work.version)
        && let Some(topic) = view.topics().flat_map(|topic| topic.partitions.map(move |_| topic.topic)).nth(at)
        && let Some(topic) = match topic {
            TopicRef::Name(name) => shard.image().topic(name).cloned(),
            TopicRef::Id(id) => shard.image().topic_by_id(&id).cloned(),
        }
        && let Ok(batch) = BatchView::parse(batch.bytes(frame))
    {
        let checked = rules::check_records(&topic, &batch, shard.reactor().unix_ms());
        return checked.err().unwrap_or_else(|| rules::refusal(error));
    }
    rules::refusal(error)
}

impl Work {
    /// Who writes a batch that is to be appended, if it is part of a transaction.
    fn writer(&self, entry: &Entry, frame: &[u8]) -> Option<Writer> {
        let State::Checked { batch, transaction: Some(topic), .. } = &entry.state else { return None };
        let batch = BatchView::parse(batch.bytes(frame)).ok()?;
        let TransactionalId { at, kept } = self.transactional_id.as_ref()?;
        let id = kept.get_or_init(|| String::from_utf8_lossy(&frame[at.clone()]).into());
        Some(Writer {
            transactional_id: id.clone(),
            producer: Producer { id: batch.producer_id(), epoch: batch.producer_epoch() },
            first_sequence: batch.base_sequence(),
            partition: (topic.clone(), entry.index),
            adds: self.version >= ADDS_FROM,
        })
    }

    /// What a request that wants no response comes to: any failure ends the connection, as the only way to tell.
    fn confirm(&self) -> Result<(), RequestError> {
        match self.entries.iter().all(|entry| matches!(entry.state, State::Appended(_) | State::Nothing)) {
            true => Ok(()),
            false => Err(RequestError::FailedWithoutAcks),
        }
    }

    fn encode(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), RequestError> {
        let start = out.len();
        begin_response(out, ApiKey::Produce, self.version, self.correlation_id);
        let view = ProduceView::parse(&frame[self.body..], self.version)?;
        let topics = view.topics();
        let mut writer = ProduceResponseWriter::new(out, self.version, topics.len())?;
        let mut entries = self.entries.iter();
        for topic in topics {
            writer.topic(topic.topic, topic.partitions.len())?;
            for entry in entries.by_ref().take(topic.partitions.len()) {
                entry.encode(&mut writer)?;
            }
        }
        writer.finish(0, &[])?;
        end_response(out, start)
    }
}

impl Entry {
    fn encode(&self, writer: &mut ProduceResponseWriter<'_>) -> Result<(), RequestError> {
        match &self.state {
            State::Appended(appended) => writer.partition(&ProducedPartition {
                index: self.index,
                base_offset: appended.base_offset,
                log_append_time_ms: appended.log_append_time_ms,
                log_start_offset: appended.log_start,
                ..ProducedPartition::default()
            })?,
            State::Refused(refusal) => {
                let detail = refusal.detail.as_deref();
                let records: Vec<RecordFailure<'_>> = detail.map_or_else(Vec::new, |detail| {
                    let failures = detail.records.iter();
                    failures.map(|(at, message)| RecordFailure { batch_index: *at, message: Some(message) }).collect()
                });
                writer.partition(&ProducedPartition {
                    index: self.index,
                    error: refusal.error,
                    record_errors: &records,
                    error_message: detail.map(|detail| detail.message.as_str()),
                    ..ProducedPartition::default()
                })?;
            }
            State::Nothing => {
                writer.partition(&ProducedPartition { index: self.index, ..ProducedPartition::default() })?;
            }
            State::Checked { .. } | State::Sent { .. } => unreachable!("a response is encoded when all is settled"),
        }
        Ok(())
    }
}

impl Batch {
    fn bytes<'a>(&'a self, frame: &'a [u8]) -> &'a [u8] {
        match self {
            Batch::InFrame(range) => &frame[range.clone()],
            Batch::Own(bytes) => bytes,
        }
    }
}

impl ProduceState {
    /// Keeps a finished request's memory for the next one.
    fn keep(&mut self, mut work: Box<Work>) {
        if self.free.len() < KEPT_REQUESTS && work.entries.capacity() <= KEPT_ENTRIES {
            work.entries.clear();
            (work.next, work.gate, work.job, work.awaited) = (0, 0, None, 0);
            work.transactional_id = None;
            self.free.push(work);
        }
    }

    fn new_job(&mut self, connection: &Connection) -> JobId {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let job = Job { number, connection: connection.clone(), results: Vec::new(), pending: None };
        let place = self.free_jobs.pop().unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() as u32 - 1
        });
        self.jobs[place as usize] = Some(job);
        JobId { place, number }
    }

    fn set_pending(&mut self, id: JobId, pending: Pending) -> Option<Job> {
        self.jobs[id.place as usize].as_mut()?.pending = Some(pending);
        self.take_if_done(id)
    }

    fn add_result(&mut self, id: JobId, entry: u32, result: Result<Appended, Refused>) -> Option<Job> {
        let job = self.jobs.get_mut(id.place as usize)?.as_mut().filter(|job| job.number == id.number)?;
        job.results.push((entry, result));
        self.take_if_done(id)
    }

    fn take_if_done(&mut self, id: JobId) -> Option<Job> {
        let slot = &mut self.jobs[id.place as usize];
        let job = slot.as_ref()?;
        let awaited = job.pending.as_ref()?.work.awaited as usize;
        if job.results.len() < awaited {
            return None;
        }
        self.free_jobs.push(id.place);
        slot.take()
    }
}
