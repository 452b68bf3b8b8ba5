//! One consuming connection: asks for the next bytes of its partitions, walks what comes, advances.
//!
//! A connection's partitions are dealt to lanes. Each lane has at most one request on its way, for all its partitions, as
//! a stock consumer does; several lanes make a deeper pipeline. Requests carry no fetch session.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use wire::api::ApiKey;
use wire::batch::{BatchError, BatchView, Batches};
use wire::error::ErrorCode;
use wire::header::{RequestHeader, decode_response};
use wire::messages::{FetchRequest, FetchResponse, fetch_request};
use wire::{EncodeError, Message, Reader, Uuid};

use crate::audit::ReadLog;
use crate::clock::{Clock, Timeline};
use crate::committed::Aborted;
use crate::link::{Link, Lost, Received};
use crate::tally::Tally;

/// Memory that the decoded arrays of one answer may take.
const DECODE_BUDGET: usize = 64 << 20;
/// Bytes that one compressed batch may become.
const MAX_BATCH_BYTES: usize = 256 << 20;
/// How long a partition rests after an error that may pass.
const RETRY_AFTER_NS: u64 = 100_000_000;

/// The offset at which each partition ends, once it is known: reading stops there.
pub type LogEnds = Arc<OnceLock<BTreeMap<i32, i64>>>;

/// What the consumers of a thread have in common.
pub struct FetchContext {
    /// The run's clock.
    pub clock: Clock,
    /// When the parts of the run begin and end.
    pub timeline: Timeline,
    /// Version of Fetch, 4 or later.
    pub version: i16,
    /// The client id of the header.
    pub client_id: String,
    /// The topic's name, sent up to version 12.
    pub topic: String,
    /// The topic's id, sent from version 13 on (KIP-516).
    pub topic_id: Uuid,
    /// Bytes that an answer, and each partition in it, may hold.
    pub max_bytes: i32,
    /// How long the broker may wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Bytes for which the broker waits.
    pub min_bytes: i32,
    /// Reading begins again after this many bytes of a partition.
    pub loop_range: Option<u64>,
    /// Whether CRCs are checked.
    pub check: bool,
    /// Whether only committed records are read (`isolation.level=read_committed`).
    pub committed_only: bool,
    /// What the audit has read; `None` without audit.
    pub read_log: Option<ReadLog>,
    /// Where reading ends.
    pub ends: LogEnds,
    /// For compressed batches.
    pub scratch: Vec<u8>,
    /// When records last came, in nanoseconds of the clock.
    pub last_records_ns: u64,
}

/// A partition and how far it was read.
#[derive(Debug, Clone)]
struct Reading {
    partition: i32,
    /// Where reading began, and begins again in a loop.
    first: i64,
    /// The next offset to be read.
    next: i64,
    /// Bytes since `first`.
    looped: u64,
    /// Not asked for before this time: it had an error that may pass.
    rests_until_ns: u64,
    /// An error that does not pass: it is not asked for any more.
    failed: bool,
}

/// Partitions that share a request.
#[derive(Debug)]
struct Lane {
    /// Ascending by partition.
    readings: Vec<Reading>,
    on_its_way: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    lane: usize,
    correlation_id: i32,
    sent_ns: u64,
}

/// One consuming connection.
#[derive(Debug)]
pub struct Consumer {
    link: Link,
    lanes: Vec<Lane>,
    pending: VecDeque<Pending>,
    correlation_id: i32,
    /// Records it may still read once measuring has begun; `None` is without bound.
    left: Option<u64>,
    waiting_since_ns: u64,
}

impl Consumer {
    /// A consumer on a connected link. `partitions` are indexes with the offset where reading begins; `in_flight` is the
    /// number of lanes at most.
    pub fn new(link: Link, partitions: &[(i32, i64)], in_flight: usize, left: Option<u64>) -> Consumer {
        let lanes = in_flight.clamp(1, partitions.len().max(1));
        let mut dealt: Vec<Lane> = (0..lanes).map(|_| Lane { readings: Vec::new(), on_its_way: false }).collect();
        let mut partitions = partitions.to_vec();
        partitions.sort_unstable();
        for (place, (partition, first)) in partitions.iter().enumerate() {
            dealt[place % lanes].readings.push(Reading {
                partition: *partition,
                first: *first,
                next: *first,
                looped: 0,
                rests_until_ns: 0,
                failed: false,
            });
        }
        Consumer { link, lanes: dealt, pending: VecDeque::new(), correlation_id: 0, left, waiting_since_ns: 0 }
    }

    /// The link, to be waited for.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Reads all answers that have come, if the socket is readable, then asks for more.
    pub fn ready(&mut self, context: &mut FetchContext, tally: &mut Tally, readable: bool) -> Result<(), Lost> {
        let mut more = readable;
        while more {
            let received = self.link.receive()?;
            let now = context.clock.now_ns();
            self.read_answers(context, tally, now)?;
            more = received == Received::More;
        }
        self.pump(context)
    }

    /// Sends the requests of all lanes that have none on its way.
    pub fn pump(&mut self, context: &mut FetchContext) -> Result<(), Lost> {
        if !self.link.flush(&[])? {
            return Ok(());
        }
        let now = context.clock.now_ns();
        if self.left != Some(0) {
            for index in 0..self.lanes.len() {
                self.ask(index, context, now)?;
            }
        }
        self.link.flush(&[])?;
        Ok(())
    }

    /// Whether nothing is left to be read, because of the bound or because all partitions are at their ends.
    pub fn is_finished(&self, context: &FetchContext) -> bool {
        if self.left == Some(0) {
            return true;
        }
        let ends = context.ends.get();
        self.readings().all(|reading| reading.failed || ends.is_some_and(|ends| reading.is_at_end(ends)))
    }

    /// Whether all partitions were read to their ends.
    pub fn has_read_all(&self, context: &FetchContext) -> bool {
        context.ends.get().is_some_and(|ends| self.readings().all(|reading| reading.is_at_end(ends)))
    }

    /// Since when it has waited for an answer, if it waits. Nanoseconds of the clock.
    pub fn waiting_since(&self) -> Option<u64> {
        (!self.pending.is_empty()).then_some(self.waiting_since_ns)
    }

    fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.lanes.iter().flat_map(|lane| &lane.readings)
    }

    fn ask(&mut self, index: usize, context: &FetchContext, now: u64) -> Result<(), Lost> {
        let lane = &mut self.lanes[index];
        if lane.on_its_way {
            return Ok(());
        }
        let ends = context.ends.get();
        let wanted = |reading: &&Reading| {
            !reading.failed && reading.rests_until_ns <= now && !ends.is_some_and(|ends| reading.is_at_end(ends))
        };
        let partitions: Vec<fetch_request::FetchPartition> = lane
            .readings
            .iter()
            .filter(wanted)
            .map(|reading| fetch_request::FetchPartition {
                partition: reading.partition,
                fetch_offset: reading.next,
                partition_max_bytes: context.max_bytes,
                ..Default::default()
            })
            .collect();
        if partitions.is_empty() {
            return Ok(());
        }
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let correlation_id = self.correlation_id;
        self.link.out.push_own(|out| encode(context, correlation_id, partitions, out))?;
        lane.on_its_way = true;
        if self.pending.is_empty() {
            self.waiting_since_ns = now;
        }
        self.pending.push_back(Pending { lane: index, correlation_id, sent_ns: now });
        Ok(())
    }

    fn read_answers(&mut self, context: &mut FetchContext, tally: &mut Tally, now: u64) -> Result<(), Lost> {
        let Consumer { link, lanes, pending, left, .. } = self;
        while let Some(frame) = link.next_frame()? {
            let request = pending.pop_front().ok_or(Lost::Unasked)?;
            self.waiting_since_ns = now;
            let mut reader = Reader::with_budget(frame, DECODE_BUDGET);
            let got = decode_response(&mut reader, ApiKey::Fetch, context.version).map_err(Lost::Fetch)?;
            if got != request.correlation_id {
                return Err(Lost::OutOfTurn { expected: request.correlation_id, got });
            }
            let answer = FetchResponse::decode(&mut reader, context.version).map_err(Lost::Fetch)?;
            let lane = &mut lanes[request.lane];
            lane.on_its_way = false;
            if answer.error_code != 0 {
                tally.error(ApiKey::Fetch, answer.error_code, 0);
                lane.readings.iter_mut().for_each(|reading| reading.fail(answer.error_code, now));
                continue;
            }
            let before = tally.counters.fetched_records;
            for data in answer.responses.iter().flat_map(|topic| &topic.partitions) {
                let place = lane.readings.binary_search_by_key(&data.partition_index, |reading| reading.partition);
                let reading = &mut lane.readings[place.map_err(|_| Lost::Unasked)?];
                if data.error_code != 0 {
                    tally.error(ApiKey::Fetch, data.error_code, 0);
                    reading.fail(data.error_code, now);
                } else {
                    let listed = data.aborted_transactions.iter().flatten();
                    let aborted = Aborted::new(listed.map(|one| (one.producer_id, one.first_offset)));
                    reading.read(data.records.unwrap_or_default(), aborted, context, tally, now)?;
                }
            }
            let records = tally.counters.fetched_records - before;
            tally.counters.fetched_requests += 1;
            tally.fetch.record(now.saturating_sub(request.sent_ns), 1);
            if records == 0 {
                tally.counters.empty_fetches += 1;
                continue;
            }
            context.last_records_ns = now;
            if let Some(left) = left
                && now >= context.timeline.measure_ns
            {
                *left = left.saturating_sub(records);
            }
        }
        Ok(())
    }
}

impl Reading {
    fn is_at_end(&self, ends: &BTreeMap<i32, i64>) -> bool {
        ends.get(&self.partition).is_none_or(|end| self.next >= *end)
    }

    fn fail(&mut self, code: i16, now: u64) {
        match ErrorCode::from_code(code) {
            Some(known) if known.is_retriable() => self.rests_until_ns = now + RETRY_AFTER_NS,
            _ => self.failed = true,
        }
    }

    /// Walks the batches of an answer and moves behind the last whole one.
    fn read(
        &mut self,
        records: &[u8],
        mut aborted: Aborted,
        context: &mut FetchContext,
        tally: &mut Tally,
        now: u64,
    ) -> Result<(), Lost> {
        let mut bytes = 0;
        for batch in Batches::new(records) {
            let batch = match batch {
                Ok(batch) => batch,
                // The byte limit may cut the last batch; it comes again, whole, with the next answer.
                Err(BatchError::HeaderCut { .. } | BatchError::Cut { .. }) => break,
                Err(error) => return Err(Lost::Batch(error)),
            };
            let left_out = aborted.leaves_out(&batch).map_err(Lost::Batch)?;
            let last = batch.last_offset();
            if last < self.next {
                continue;
            }
            if context.check && !batch.crc_matches() {
                tally.counters.corrupt_batches += 1;
                if let Some(log) = &mut context.read_log {
                    log.corrupt_batch(self.partition, batch.base_offset());
                }
            }
            // The first batch may begin before the offset asked for: its earlier records are not counted again.
            let fresh = if batch.base_offset() >= self.next {
                u64::try_from(batch.record_count()).unwrap_or(0)
            } else {
                (last - self.next).unsigned_abs() + 1
            };
            tally.counters.fetched_records += fresh;
            bytes += batch.total_len() as u64;
            if context.read_log.is_some() && !left_out {
                self.audit(&batch, context, tally, now)?;
            }
            self.next = last.checked_add(1).ok_or(Lost::Batch(BatchError::OffsetOverflow))?;
        }
        tally.counters.fetched_bytes += bytes;
        self.looped += bytes;
        // At the end of the log a loop begins again too: waiting there would measure nothing.
        if context.loop_range.is_some_and(|range| self.looped >= range || bytes == 0) {
            self.next = self.first;
            self.looped = 0;
        }
        Ok(())
    }

    fn audit(
        &self,
        batch: &BatchView<'_>,
        context: &mut FetchContext,
        tally: &mut Tally,
        now: u64,
    ) -> Result<(), Lost> {
        let Some(log) = context.read_log.as_mut() else { return Ok(()) };
        let body = batch.decompress(MAX_BATCH_BYTES, &mut context.scratch).map_err(Lost::Batch)?;
        let measured = context.timeline.measure_ns..context.timeline.end_ns;
        for record in batch.records_in(body) {
            let record = record.map_err(|error| Lost::Batch(BatchError::Record(error)))?;
            if record.offset < self.next {
                continue;
            }
            let stamp = log.record(self.partition, record.offset, record.value.unwrap_or_default());
            if let Some(stamp) = stamp.filter(|stamp| measured.contains(&stamp.intended_ns)) {
                tally.end_to_end.record(now.saturating_sub(stamp.intended_ns), 1);
            }
        }
        Ok(())
    }
}

fn encode(
    context: &FetchContext,
    correlation_id: i32,
    partitions: Vec<fetch_request::FetchPartition>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let version = context.version;
    let by_id = version >= 13;
    let request = FetchRequest {
        max_wait_ms: context.max_wait_ms,
        min_bytes: context.min_bytes,
        max_bytes: context.max_bytes,
        isolation_level: i8::from(context.committed_only),
        topics: vec![fetch_request::FetchTopic {
            topic: if by_id { "" } else { &context.topic },
            topic_id: if by_id { context.topic_id } else { Uuid::default() },
            partitions,
        }],
        ..Default::default()
    };
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let header = RequestHeader { api: ApiKey::Fetch, version, correlation_id, client_id: Some(&context.client_id) };
    header.encode(out)?;
    request.encode(out, version)?;
    let len = i32::try_from(out.len() - start - 4).map_err(|_| EncodeError::TooLong)?;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}
