//! One producing connection: fills its window, reads its answers, keeps its books.

use std::collections::VecDeque;

use wire::api::ApiKey;

use crate::audit::{SentLog, SentStream, Stamp, StreamId};
use crate::clock::{Clock, Timeline, unix_ms};
use crate::frame::{Answered, ProduceAnswer, ProduceFrame};
use crate::histogram::Latencies;
use crate::link::{Link, Lost, Received};
use crate::schedule::Cursor;
use crate::tally::Tally;
use crate::transaction::{Session, Step};
use crate::workload::{BatchWriter, Marks, Workload};

/// Bytes gathered for one write; a window of larger requests takes several. Bounds the memory of a connection.
const BYTES_PER_WRITE: usize = 1 << 20;
/// Batches above this are sent from where they were prepared; below it a copy costs less than one more piece of a write.
const COPIED_BYTES: usize = 4 << 10;

/// What the producers of a thread have in common.
pub struct ProduceContext {
    /// The run's clock.
    pub clock: Clock,
    /// When the parts of the run begin and end.
    pub timeline: Timeline,
    /// The requests' form.
    pub frame: ProduceFrame,
    /// The answers' form.
    pub answer: ProduceAnswer,
    /// What is sent.
    pub content: Content,
    /// Unanswered requests that a connection may have.
    pub in_flight: usize,
    /// Whether the broker answers at all (acks is not 0).
    pub answers: bool,
    /// Whether the audit's books are kept.
    pub audit: bool,
    /// The number of the run in stamps.
    pub run: u64,
    /// Closed loop: whether new requests may be sent. Open loop: whether overdue batches may still be sent.
    pub sending: bool,
    /// How late the generator itself was: from the intended time to the write of batches that nothing held up.
    pub slip: Latencies,
    /// Batches that were due while the connection's window or socket was full.
    pub held_batches: u64,
    /// When the last answer came, in nanoseconds of the clock.
    pub last_answer_ns: u64,
}

/// Where batches come from.
pub enum Content {
    /// Whole requests, prepared; each is sent again and again.
    Finished {
        /// The requests. Correlation id and partition are set in a copy.
        frames: Vec<Vec<u8>>,
        /// Where the batch of each begins.
        head_lens: Vec<usize>,
        /// Bytes of each batch alone.
        batch_lens: Vec<usize>,
        /// Records of each batch.
        records: u32,
        /// The next one to be sent.
        next: usize,
    },
    /// Batches written for each request.
    Written {
        /// The writer.
        writer: BatchWriter,
        /// The batch being written.
        batch: Vec<u8>,
    },
}

impl Content {
    /// Whole requests of a constant workload in the form of `frame`.
    pub fn finished(workload: &Workload, frame: &ProduceFrame) -> Result<Content, Lost> {
        let (mut frames, mut head_lens, mut batch_lens) = (Vec::new(), Vec::new(), Vec::new());
        for batch in workload.finished()? {
            let mut bytes = Vec::new();
            frame.begin(&mut bytes, 0, 0, batch.len())?;
            head_lens.push(bytes.len());
            batch_lens.push(batch.len());
            bytes.extend_from_slice(&batch);
            frame.end(&mut bytes);
            frames.push(bytes);
        }
        Ok(Content::Finished { frames, head_lens, batch_lens, records: workload.max_records(), next: 0 })
    }

    fn max_records(&self) -> u32 {
        match self {
            Content::Finished { records, .. } => *records,
            Content::Written { writer, .. } => writer.workload().max_records(),
        }
    }

    /// What the connection's shared pieces refer to.
    fn shared(&self) -> &[Vec<u8>] {
        match self {
            Content::Finished { frames, .. } => frames,
            Content::Written { .. } => &[],
        }
    }
}

/// When a connection sends.
#[derive(Debug)]
pub enum ConnectionPace {
    /// When there is room in the window.
    Closed {
        /// Records it may still send once measuring has begun; `None` is without bound.
        left: Option<u64>,
    },
    /// At its times of the schedule.
    Open(Cursor),
}

/// What came of an attempt to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing more can be sent now; the socket or the clock will tell.
    Waiting,
    /// There is more to send: call again after the other connections had their turn.
    More,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// Open loop: the intended time. Closed loop: when it was handed to the socket. Nanoseconds of the clock.
    from_ns: u64,
    /// The audit's number of the first record.
    sequence: u64,
    /// The broker's number of it, where it belongs to a transaction.
    base_sequence: i32,
    correlation_id: i32,
    /// Place in `Producer::streams`.
    stream: u32,
    records: u32,
    batch_bytes: u32,
}

/// The records to one partition.
#[derive(Debug)]
struct Stream {
    partition: i32,
    /// Of acknowledgements and ends of transactions it knows only in an audited run.
    sent: SentStream,
}

/// One producing connection.
#[derive(Debug)]
pub struct Producer {
    link: Link,
    number: u32,
    pace: ConnectionPace,
    session: Option<Session>,
    streams: Vec<Stream>,
    /// The stream of the next batch.
    turn: usize,
    pending: VecDeque<Pending>,
    correlation_id: i32,
    /// Records sent to any partition.
    sent_records: u64,
    /// Whether the window or the socket was full when it was last looked at.
    blocked: bool,
    /// When it ceased to be.
    free_since_ns: u64,
    /// When the oldest unanswered request could first have been answered; for noticing silence.
    waiting_since_ns: u64,
}

impl Producer {
    /// A producer on a connected link, writing to these partitions in turn.
    pub fn new(
        link: Link,
        number: u32,
        partitions: &[i32],
        pace: ConnectionPace,
        session: Option<Session>,
    ) -> Producer {
        let stream = |partition: &i32| Stream { partition: *partition, sent: SentStream::default() };
        Producer {
            link,
            number,
            pace,
            session,
            streams: partitions.iter().map(stream).collect(),
            turn: 0,
            pending: VecDeque::new(),
            correlation_id: 0,
            sent_records: 0,
            blocked: false,
            free_since_ns: 0,
            waiting_since_ns: 0,
        }
    }

    /// The link, to be waited for.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Reads all answers that have come, if the socket is readable, then sends what may be sent.
    pub fn ready(&mut self, context: &mut ProduceContext, tally: &mut Tally, readable: bool) -> Result<Pumped, Lost> {
        let mut more = readable;
        while more {
            let received = self.link.receive()?;
            let now = context.clock.now_ns();
            self.read_answers(context, tally, now)?;
            more = received == Received::More;
        }
        self.pump(context, tally)
    }

    /// Sends what may be sent: in one write what fits into it.
    pub fn pump(&mut self, context: &mut ProduceContext, tally: &mut Tally) -> Result<Pumped, Lost> {
        // Nothing is added behind bytes that the socket did not take, so that no more than one round is ever held.
        if !self.link.flush(context.content.shared())? {
            self.blocked = true;
            return Ok(Pumped::Waiting);
        }
        let now = context.clock.now_ns();
        if std::mem::take(&mut self.blocked) {
            self.free_since_ns = now;
        }
        while self.link.out.len() < BYTES_PER_WRITE {
            if !self.may_send_batch(context, now)? {
                break;
            }
            let Some((due_ns, records)) = self.next_batch(context, now) else { break };
            if self.is_quiet() {
                self.waiting_since_ns = now;
            }
            self.add_request(context, tally, due_ns, records)?;
        }
        if self.link.out.is_empty() {
            return Ok(Pumped::Waiting);
        }
        let full = self.link.out.len() >= BYTES_PER_WRITE;
        if !self.link.flush(context.content.shared())? {
            self.blocked = true;
            return Ok(Pumped::Waiting);
        }
        Ok(if full { Pumped::More } else { Pumped::Waiting })
    }

    /// When the next batch is due, if this connection waits for the clock alone. Nanoseconds of the clock.
    pub fn next_due(&self, context: &ProduceContext) -> Option<u64> {
        if let Some(session) = &self.session {
            return session.rests_until();
        }
        match &self.pace {
            ConnectionPace::Open(cursor) if !self.blocked && context.sending => {
                cursor.peek().map(|due| context.timeline.start_ns + due.at_ns)
            }
            _ => None,
        }
    }

    /// Whether everything that it had to send is sent and answered.
    pub fn is_finished(&self, context: &ProduceContext) -> bool {
        let more = match &self.pace {
            ConnectionPace::Closed { left } => left.is_none_or(|left| left > 0),
            ConnectionPace::Open(cursor) => cursor.peek().is_some(),
        };
        let idle = self.session.as_ref().is_none_or(Session::is_idle);
        self.is_quiet() && idle && !(more && context.sending)
    }

    /// Whether nothing is being sent or waits for an answer.
    pub fn is_quiet(&self) -> bool {
        let asking = self.session.as_ref().is_some_and(Session::is_asking);
        self.pending.is_empty() && self.link.out.is_empty() && !asking
    }

    /// Since when it has waited in vain for an answer or for the socket, if it waits. Nanoseconds of the clock.
    pub fn waiting_since(&self) -> Option<u64> {
        (!self.is_quiet()).then_some(self.waiting_since_ns)
    }

    /// Requests and records without an answer.
    pub fn unanswered(&self) -> (u64, u64) {
        (self.pending.len() as u64, self.pending.iter().map(|pending| u64::from(pending.records)).sum())
    }

    /// Writes its books into the audit's log. Answers its transactional id if it leaves a transaction open.
    pub fn close_books(self, log: &mut SentLog) -> Option<String> {
        let left_open = self.streams.iter().any(|stream| stream.sent.is_transaction_open());
        let end = self.session.as_ref().map(Session::end_if_left);
        for mut stream in self.streams {
            if let Some(end) = end {
                stream.sent.end_transaction(end);
            }
            log.add(StreamId { producer: self.number, partition: stream.partition }, stream.sent);
        }
        self.session.filter(|_| left_open).map(Session::into_id)
    }

    /// Whether the next request is a batch. Within transactions it may be another, which this adds, or none.
    fn may_send_batch(&mut self, context: &ProduceContext, now: u64) -> Result<bool, Lost> {
        let Some(session) = &mut self.session else { return Ok(true) };
        let more = context.sending && !matches!(self.pace, ConnectionPace::Closed { left: Some(0) });
        let step = session.step(self.pending.is_empty(), more, now);
        if let Step::Add | Step::End = step {
            self.correlation_id = self.correlation_id.wrapping_add(1);
            self.waiting_since_ns = now;
            let streams = self.streams.iter().cycle().skip(self.turn).take(self.streams.len());
            let partitions: Vec<i32> = streams.map(|stream| stream.partition).collect();
            let correlation_id = self.correlation_id;
            self.link.out.push_own(|out| session.ask(out, step, correlation_id, &partitions, now))?;
        }
        Ok(step == Step::Batch)
    }

    /// The next batch that may leave: from when its latency counts, and how many records it has.
    fn next_batch(&mut self, context: &mut ProduceContext, now: u64) -> Option<(u64, u32)> {
        if context.answers && self.pending.len() >= context.in_flight {
            self.blocked = matches!(self.pace, ConnectionPace::Open(_));
            return None;
        }
        if !context.sending {
            return None;
        }
        match &mut self.pace {
            ConnectionPace::Closed { left } => {
                let records = context.content.max_records();
                if let Some(left) = left {
                    if *left == 0 {
                        return None;
                    }
                    if now >= context.timeline.measure_ns {
                        *left = left.saturating_sub(records.into());
                    }
                }
                Some((now, records))
            }
            ConnectionPace::Open(cursor) => {
                let due_ns = context.timeline.start_ns + cursor.peek()?.at_ns;
                if due_ns > now {
                    return None;
                }
                let records = cursor.take()?.records;
                if due_ns < self.free_since_ns {
                    context.held_batches += 1;
                } else {
                    context.slip.record(now - due_ns, 1);
                }
                Some((due_ns, records))
            }
        }
    }

    fn add_request(
        &mut self,
        context: &mut ProduceContext,
        tally: &mut Tally,
        due_ns: u64,
        records: u32,
    ) -> Result<(), Lost> {
        let slot = self.turn;
        self.turn = if slot + 1 == self.streams.len() { 0 } else { slot + 1 };
        let stream = &mut self.streams[slot];
        let first_sequence = stream.sent.send(records.into());
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let mark = self.session.as_mut().map(|session| session.next_batch(slot, records, due_ns));
        let frame = self.session.as_ref().map_or(&context.frame, |session| &session.frame);
        let (correlation_id, partition) = (self.correlation_id, stream.partition);
        let out = &mut self.link.out;
        let batch_bytes = match &mut context.content {
            Content::Finished { frames, head_lens, batch_lens, next, .. } => {
                let index = *next;
                *next = if index + 1 == frames.len() { 0 } else { index + 1 };
                let prepared = &frames[index];
                let own = if prepared.len() <= COPIED_BYTES { prepared.len() } else { head_lens[index] };
                out.push_own(|bytes| {
                    let start = bytes.len();
                    bytes.extend_from_slice(&prepared[..own]);
                    frame.aim(&mut bytes[start..], correlation_id, partition);
                    Ok::<(), Lost>(())
                })?;
                if own < prepared.len() {
                    out.push_shared(index, own, prepared.len() - own);
                }
                batch_lens[index]
            }
            Content::Written { writer, batch } => {
                let first = Stamp {
                    run: context.run,
                    producer: self.number,
                    partition,
                    sequence: first_sequence,
                    intended_ns: due_ns,
                };
                let marks = Marks { first, key_number: self.sent_records, timestamp_ms: unix_ms(), producer: mark };
                writer.write(batch, records, &marks)?;
                out.push_own(|bytes| {
                    frame.begin(bytes, correlation_id, partition, batch.len())?;
                    bytes.extend_from_slice(batch);
                    frame.end(bytes);
                    Ok::<(), Lost>(())
                })?;
                batch.len()
            }
        };
        if context.answers {
            self.pending.push_back(Pending {
                from_ns: due_ns,
                sequence: first_sequence,
                base_sequence: mark.map_or(-1, |mark| mark.sequence),
                correlation_id,
                stream: slot as u32,
                records,
                batch_bytes: batch_bytes as u32,
            });
        }
        self.sent_records += u64::from(records);
        tally.counters.sent_requests += 1;
        tally.counters.sent_records += u64::from(records);
        tally.counters.sent_bytes += batch_bytes as u64;
        Ok(())
    }

    fn read_answers(&mut self, context: &mut ProduceContext, tally: &mut Tally, now: u64) -> Result<(), Lost> {
        let Producer { link, pending, streams, pace, session, .. } = self;
        let open = matches!(pace, ConnectionPace::Open(_));
        while let Some(frame) = link.next_frame()? {
            if let Some(session) = session.as_mut().filter(|session| session.is_asking()) {
                let ended = session.answered(frame, tally, now)?;
                if let Some(end) = ended.filter(|_| context.audit) {
                    streams.iter_mut().for_each(|stream| stream.sent.end_transaction(end));
                }
                context.last_answer_ns = now;
                continue;
            }
            let answered = context.answer.read(frame).map_err(Lost::Answer)?;
            let request = pending.pop_front().ok_or(Lost::Unasked)?;
            let stream = &mut streams[request.stream as usize];
            check_turn(&request, stream.partition, &answered)?;
            let records = u64::from(request.records);
            let code = answered.error_code;
            if let Some(session) = session.as_mut().filter(|_| code != 0) {
                let place = request.stream as usize;
                session.refused(place, request.base_sequence, code, now).inspect_err(|_| {
                    tally.error(ApiKey::Produce, code, records);
                })?;
                tally.counters.transaction_retries += 1;
                if let ConnectionPace::Closed { left: Some(left) } = pace {
                    *left += records;
                }
                continue;
            }
            if answered.error_code != 0 {
                tally.error(ApiKey::Produce, answered.error_code, records);
                continue;
            }
            if let Some(session) = session {
                session.appended();
            }
            tally.counters.acked_requests += 1;
            tally.counters.acked_records += records;
            tally.counters.acked_bytes += u64::from(request.batch_bytes);
            // An open loop counts what was intended within the measurement, whenever it was answered; a closed loop
            // what was answered within it, which the second of the tally decides.
            let line = &context.timeline;
            if !open || (line.measure_ns..line.end_ns).contains(&request.from_ns) {
                tally.ack.record(now.saturating_sub(request.from_ns), records);
            }
            if context.audit {
                stream.sent.acknowledge(request.sequence..request.sequence + records);
            }
            context.last_answer_ns = now;
            self.waiting_since_ns = now;
        }
        Ok(())
    }
}

fn check_turn(request: &Pending, partition: i32, answered: &Answered) -> Result<(), Lost> {
    if answered.correlation_id == request.correlation_id && answered.partition == partition {
        return Ok(());
    }
    Err(Lost::OutOfTurn { expected: request.correlation_id, got: answered.correlation_id })
}
