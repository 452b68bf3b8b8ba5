//! Fetch (key 1), versions 0 to 18: reads records from many partitions, and waits for them if there are not enough. Up to
//! version 3 what was read becomes message sets in the end, see `legacy`.
//!
//! What is in memory is answered in the turn in which the request arrives, with slices of the chunks as the response's
//! parts: no record is copied. Otherwise the request becomes a task: it reads from disk, asks the cores that own the
//! partitions, or waits until one of them has something new, `max_wait_ms` at most.
//!
//! ```text
//! begin: parse ─▶ session (what is wanted of which partition) ─▶ read ─▶ enough? ─▶ session (what to tell) ─▶ encode
//!                                                                 ▲         │ no
//!                                                                 └── wait ◀┘
//! ```
//!
//! Limits on bytes count in the order of the partitions; the first batch comes whatever its size (KIP-74). Each core that
//! is asked gets the whole limit, and what is too much is cut here: slices cost nothing to let go.
//!
//! A reader of committed records gets what lies below the last stable offset, waits for that to move, and is told which
//! transactions among the records were aborted: it leaves out their records itself.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use engine::reactor::Notify;
use engine::{Isolation, Read, ReadData, ReadError, Slot};
use wire::api::ApiKey;
use wire::batch::Batches;
use wire::error::ErrorCode;
use wire::fetch::{AbortedTransaction, EpochEnd, FetchResponseWriter, FetchView, FetchedPartition};
use wire::header::RequestHeader;

use super::epochs::{check_epoch, end_of_epoch};
use super::fetch_session::{Answered, Context, NO_SESSION, SessionRequest, Sessions, TopicRef, Wanted};
use super::legacy::fetch::{self as legacy, Converted};
use crate::api::{RequestError, begin_response};
use crate::connection::Connection;
use crate::connection::responses::{Reply, Ticket};
use crate::limits::{CONVERTED_FETCH_BYTES, SWEEP_MS};
use crate::router::Cancelled;
use crate::shard::Shard;

/// The first version whose records are batches of magic 2 (KIP-98).
const MAGIC_2_FROM: i16 = 4;

/// Up to this version clients do not know KAFKA_STORAGE_ERROR.
const NO_STORAGE_ERROR_UP_TO: i16 = 5;

/// The first version that names topics by id (KIP-516).
const IDS_FROM: i16 = 13;

/// What fetches of one core share.
#[derive(Debug)]
pub(crate) struct FetchState {
    sessions: Sessions,
    /// Scratch: which partitions a response tells of.
    tell: Vec<bool>,
    answers: Vec<Answered>,
}

impl FetchState {
    pub(crate) fn new(max_sessions: usize, core: usize, cores: usize) -> FetchState {
        let sessions = Sessions::new(max_sessions, core as u32, cores as u32);
        FetchState { sessions, tell: Vec::new(), answers: Vec::new() }
    }
}

/// A fetch request under way.
#[derive(Debug)]
struct Fetch {
    version: i16,
    correlation_id: i32,
    from_replica: bool,
    max_wait_ms: u64,
    min_bytes: usize,
    max_bytes: usize,
    /// None where the client asks for a level that does not exist.
    isolation: Option<Isolation>,
    context: Context,
    wanted: Vec<Wanted>,
    /// One for each wanted.
    got: Vec<Got>,
    /// How many partitions could be read.
    found: usize,
    /// A partition that was there is no more.
    lost: bool,
}

/// What has been found in a partition.
#[derive(Debug, Clone)]
struct Got {
    error: ErrorCode,
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    diverging: Option<EpochEnd>,
    data: ReadData,
    /// For readers of committed records.
    aborted: Option<Vec<AbortedTransaction>>,
    /// It was looked for where it should be: an error is that of the read.
    was_read: bool,
}

/// Where the partitions of a request are.
#[derive(Debug, Default)]
struct Located {
    /// By core, each in the order of the request.
    groups: Vec<(usize, Vec<Spec>)>,
    /// What is wrong with those that are nowhere.
    errors: Vec<(usize, ErrorCode)>,
}

/// A read of one partition, for the core that owns it.
#[derive(Debug, Clone)]
struct Spec {
    /// Its place among what is wanted.
    at: usize,
    slot: Slot,
    leader_epoch: i32,
    isolation: Isolation,
    offset: i64,
    max_bytes: usize,
    known_epoch: i32,
    last_fetched_epoch: i32,
}

/// What is left of a limit on bytes.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: usize,
    /// Nothing has been found yet: the next batch comes whatever its size.
    first: bool,
}

/// Begins a request.
pub(crate) fn begin(
    connection: &Connection,
    header: &RequestHeader<'_>,
    frame: &[u8],
    body: usize,
) -> Result<(), RequestError> {
    let shard = connection.shard();
    let view = FetchView::parse(&frame[body..], header.version)?;
    let mut fetch = match Fetch::new(shard, header, &view) {
        Ok(fetch) => fetch,
        Err(error) => return connection.respond(0, |out| refuse(header, error, out)),
    };
    let has_read = fetch.read_here(shard);
    if has_read && fetch.is_enough() && fetch.version >= MAGIC_2_FROM {
        connection.respond_whole(fetch.answer(shard)?);
        return Ok(());
    }
    let kept_bytes = frame.len();
    let ticket = connection.respond_later(kept_bytes);
    let connection = connection.clone();
    let count = connection.count_fetch();
    shard.reactor().spawn(async move {
        let reply = fetch.run(&connection, ticket, has_read).await;
        drop(count);
        connection.complete(ticket, kept_bytes, 0, reply);
    });
    Ok(())
}

impl Fetch {
    /// Settles with the session what is wanted.
    fn new(shard: &Shard, header: &RequestHeader<'_>, view: &FetchView<'_>) -> Result<Fetch, ErrorCode> {
        let mut wanted = Vec::with_capacity(view.partition_count);
        for topic in view.topics() {
            let name = TopicRef::from(topic.topic);
            for partition in topic.partitions {
                wanted.push(Wanted {
                    topic: name.clone(),
                    partition: partition.index,
                    offset: partition.fetch_offset,
                    max_bytes: partition.max_bytes,
                    leader_epoch: partition.current_leader_epoch,
                    last_fetched_epoch: partition.last_fetched_epoch,
                });
            }
        }
        let mut forgotten = Vec::new();
        for topic in view.forgotten() {
            let name = TopicRef::from(topic.topic);
            forgotten.extend(topic.partitions.map(|partition| (name.clone(), partition)));
        }
        let session = SessionRequest {
            id: view.session_id,
            epoch: view.session_epoch,
            uses_topic_ids: header.version >= IDS_FROM,
        };
        let sessions = &mut shard.0.fetch.borrow_mut().sessions;
        let context = sessions.begin(session, &mut wanted, &forgotten, now_ms(shard))?;
        let mut max_bytes = (view.max_bytes.max(0) as usize).min(shard.options().fetch_max_bytes);
        if header.version < MAGIC_2_FROM {
            max_bytes = max_bytes.min(CONVERTED_FETCH_BYTES);
            legacy::rotate(&mut wanted, header.version, shard.reactor().random());
        }
        Ok(Fetch {
            version: header.version,
            correlation_id: header.correlation_id,
            from_replica: view.replica_id >= 0,
            max_wait_ms: view.max_wait_ms.max(0) as u64,
            min_bytes: (view.min_bytes.max(0) as usize).min(max_bytes),
            max_bytes,
            isolation: match view.isolation_level {
                0 => Some(Isolation::ReadUncommitted),
                1 => Some(Isolation::ReadCommitted),
                _ => None,
            },
            context,
            got: vec![Got::default(); wanted.len()],
            wanted,
            found: 0,
            lost: false,
        })
    }

    /// Finds the partitions.
    fn locate(&self, shard: &Shard) -> Located {
        let image = shard.image();
        let mut located = Located::default();
        for (at, wanted) in self.wanted.iter().enumerate() {
            let (topic, unknown) = match &wanted.topic {
                TopicRef::Name(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
                TopicRef::Id(id) => (image.topic_by_id(id), ErrorCode::UnknownTopicId),
            };
            let Some(topic) = topic else {
                located.errors.push((at, unknown));
                continue;
            };
            let place = usize::try_from(wanted.partition).ok().and_then(|index| topic.partitions.get(index));
            let Some(place) = place else {
                located.errors.push((at, ErrorCode::UnknownTopicOrPartition));
                continue;
            };
            if self.from_replica {
                // No other broker has a replica of it.
                located.errors.push((at, ErrorCode::NotLeaderOrFollower));
                continue;
            }
            let Some(isolation) = self.isolation else {
                located.errors.push((at, ErrorCode::InvalidRequest));
                continue;
            };
            let spec = Spec {
                at,
                slot: place.slot,
                leader_epoch: place.leader_epoch,
                isolation,
                offset: wanted.offset,
                max_bytes: wanted.max_bytes.max(0) as usize,
                known_epoch: wanted.leader_epoch,
                last_fetched_epoch: wanted.last_fetched_epoch,
            };
            match located.groups.iter_mut().find(|(of, _)| *of == place.core) {
                Some((_, specs)) => specs.push(spec),
                None => located.groups.push((place.core, vec![spec])),
            }
        }
        located
    }

    fn take(&mut self, located: &Located) {
        let found = located.groups.iter().map(|(_, specs)| specs.len()).sum();
        self.lost |= found < self.found;
        self.found = found;
        for (at, error) in &located.errors {
            self.got[*at] = Got { error: *error, ..Got::default() };
        }
    }

    /// Reads what is in this core's memory. False when that is not all there is to it.
    fn read_here(&mut self, shard: &Shard) -> bool {
        let located = self.locate(shard);
        self.take(&located);
        let specs = match &located.groups[..] {
            [] => return true,
            [(core, specs)] if *core == shard.core() => specs,
            _ => return false,
        };
        let mut budget = Budget::new(self.limit(shard));
        for spec in specs {
            let Some(got) = read_memory(shard, spec, budget) else { return false };
            budget.spend(got.data.bytes);
            self.got[spec.at] = got;
        }
        true
    }

    /// Reads from wherever the records are.
    async fn read(&mut self, shard: &Shard) {
        let located = self.locate(shard);
        self.take(&located);
        let budget = Budget::new(self.limit(shard));
        let mut here = Vec::new();
        let mut calls = Vec::new();
        for (core, specs) in located.groups {
            if core == shard.core() {
                here = specs;
            } else {
                calls.push(shard.run_on(core, move |shard| read_anywhere(shard, specs, budget)));
            }
        }
        let mut results = read_anywhere(shard.clone(), here, budget).await;
        for call in calls {
            results.extend(call.await);
        }
        for (at, got) in results {
            self.got[at] = got;
        }
        let mut budget = budget;
        for (wanted, got) in self.wanted.iter().zip(&mut self.got) {
            cut(&mut got.data, budget.of(wanted.max_bytes.max(0) as usize), budget.first);
            budget.spend(got.data.bytes);
        }
    }

    async fn run(mut self, connection: &Connection, ticket: Ticket, has_read: bool) -> Result<Reply, RequestError> {
        let shard = connection.shard();
        let deadline_ns = shard.reactor().now_ns().saturating_add(self.max_wait_ms.saturating_mul(1_000_000));
        let wake = Notify::new();
        connection.notify_on_close(ticket, wake.clone());
        if !has_read {
            self.read(shard).await;
        }
        let is_over = || shard.reactor().now_ns() >= deadline_ns || connection.is_closed() || shard.0.stopping.get();
        loop {
            while !self.is_enough() && !is_over() {
                self.wait(shard, &wake, deadline_ns).await;
                self.read(shard).await;
            }
            if self.version >= MAGIC_2_FROM || !self.convert(shard).await {
                break;
            }
            self.read(shard).await;
        }
        connection.forget_on_close(ticket);
        wake.close();
        self.answer(shard)
    }

    /// Makes message sets of what was read. True when some partition had nothing that a message can say: it is to be read
    /// again, behind that.
    async fn convert(&mut self, shard: &Shard) -> bool {
        let mut again = false;
        let mut budget = Budget::new(self.max_bytes);
        for (wanted, got) in self.wanted.iter_mut().zip(&mut self.got) {
            let data = std::mem::take(&mut got.data);
            if data.bytes == 0 || budget.left == 0 && !budget.first {
                continue;
            }
            let room = budget.of(wanted.max_bytes.max(0) as usize);
            match legacy::convert(shard, &data, self.version, wanted.offset, room).await {
                Ok(Converted::Set(data)) => got.data = data,
                Ok(Converted::Nothing { next }) => {
                    wanted.offset = next;
                    again = true;
                }
                Err(error) => *got = Got::failed(error),
            }
            budget.spend(got.data.bytes);
        }
        again
    }

    /// Waits until one of the partitions may have something new, or until `until_ns`.
    async fn wait(&self, shard: &Shard, wake: &Notify, until_ns: u64) {
        let mut elsewhere = Vec::new();
        for (core, specs) in self.locate(shard).groups {
            let Some(isolation) = self.isolation else { continue };
            let watches = specs.iter().map(|spec| (spec.slot, self.got[spec.at].visible_end(isolation))).collect();
            if core == shard.core() {
                watch_here(shard, isolation, watches, wake);
            } else {
                let watch =
                    shard.run_on_while(core, move |shard, gone| watch_for_other(shard, isolation, watches, gone));
                elsewhere.push(Box::pin(watch));
            }
        }
        let mut woken = pin!(wake.wait());
        let mut late = pin!(shard.reactor().sleep_until(until_ns));
        poll_fn(|context| {
            let any = woken.as_mut().poll(context).is_ready()
                || late.as_mut().poll(context).is_ready()
                || elsewhere.iter_mut().any(|watch| watch.as_mut().poll(context).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether there is something worth an answer before the time is up. A topic that is unknown from the beginning is not:
    /// a consumer that asks for others as well would not wait at all.
    fn is_enough(&self) -> bool {
        let bytes: usize = self.got.iter().map(|got| got.data.bytes).sum();
        let failed = |got: &Got| got.diverging.is_some() || (got.error != ErrorCode::None && got.was_read);
        bytes >= self.min_bytes || self.found == 0 || self.lost || self.got.iter().any(failed)
    }

    /// How many bytes the answer may have. When too much waits to be sent, each answer carries the least that makes
    /// progress.
    fn limit(&self, shard: &Shard) -> usize {
        let is_short = shard.0.unsent_bytes.get() > shard.options().unsent_bytes;
        if is_short { 0 } else { self.max_bytes }
    }

    fn answer(&self, shard: &Shard) -> Result<Reply, RequestError> {
        let state = &mut *shard.0.fetch.borrow_mut();
        state.answers.clear();
        state.answers.extend(self.got.iter().map(Got::answered));
        let (random, now_ms) = (shard.reactor().random(), now_ms(shard));
        let (wanted, answers, tell) = (&self.wanted, &state.answers, &mut state.tell);
        let session = state.sessions.finish(&self.context, wanted, answers, tell, now_ms, random);
        let (error, session_id) = match session {
            Ok(session_id) => (ErrorCode::None, session_id),
            Err(error) => {
                state.tell.clear();
                (error, NO_SESSION)
            }
        };
        let told: Vec<usize> = (0..state.tell.len()).filter(|at| state.tell[*at]).collect();
        // Neighbours of one topic share its name. A topic may come up more than once, as in Kafka's responses.
        let topics: Vec<&[usize]> = told.chunk_by(|a, b| self.wanted[*a].topic == self.wanted[*b].topic).collect();
        let mut reply = Reply::default();
        begin_response(&mut reply.head, ApiKey::Fetch, self.version, self.correlation_id);
        let mut writer = FetchResponseWriter::new(&mut reply.head, self.version, 0, error, session_id, topics.len())?;
        for partitions in topics {
            writer.topic(self.wanted[partitions[0]].topic.as_wire(), partitions.len())?;
            for at in partitions {
                let got = &self.got[*at];
                let at = writer.partition(&self.fetched(self.wanted[*at].partition, got))?;
                reply.slices.extend(got.data.slices.iter().map(|slice| (at, slice.clone())));
            }
        }
        writer.finish(0, &[])?;
        Ok(reply)
    }

    fn fetched<'a>(&self, index: i32, got: &'a Got) -> FetchedPartition<'a> {
        let error = match got.error {
            ErrorCode::KafkaStorageError if self.version <= NO_STORAGE_ERROR_UP_TO => ErrorCode::NotLeaderOrFollower,
            error => error,
        };
        FetchedPartition {
            index,
            error,
            high_watermark: got.high_watermark,
            last_stable_offset: got.last_stable,
            log_start_offset: got.log_start,
            // Kafka has an empty list as well where there is no such partition.
            aborted_transactions: if got.was_read { got.aborted.as_deref() } else { Some(&[]) },
            diverging_epoch: got.diverging,
            records_len: Some(got.data.bytes),
            ..FetchedPartition::default()
        }
    }
}

impl Default for Got {
    fn default() -> Got {
        Got {
            error: ErrorCode::None,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            diverging: None,
            data: ReadData::default(),
            aborted: None,
            was_read: false,
        }
    }
}

impl Got {
    fn failed(error: ErrorCode) -> Got {
        Got { error, was_read: true, ..Got::default() }
    }

    /// Where this reader's records end.
    fn visible_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }

    fn answered(&self) -> Answered {
        Answered {
            error: self.error,
            high_watermark: self.high_watermark,
            log_start: self.log_start,
            has_data: self.data.bytes > 0 || self.diverging.is_some(),
        }
    }
}

impl Budget {
    fn new(bytes: usize) -> Budget {
        Budget { left: bytes, first: true }
    }

    /// What a partition with this limit of its own may have.
    fn of(&self, max_bytes: usize) -> usize {
        max_bytes.min(self.left)
    }

    fn spend(&mut self, bytes: usize) {
        self.first &= bytes == 0;
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Reads a partition from this core's memory; none when it must be read from disk.
fn read_memory(shard: &Shard, spec: &Spec, budget: Budget) -> Option<Got> {
    let mut got = match look(shard, spec) {
        Ok(got) => got,
        Err(error) => return Some(Got::failed(error)),
    };
    if got.diverging.is_none() {
        let max_bytes = budget.of(spec.max_bytes);
        match shard.store().read(spec.slot, spec.isolation, spec.offset, max_bytes, budget.first) {
            Ok(Read::Hot(data)) => {
                if let (Isolation::ReadCommitted, Some(to)) = (spec.isolation, data.end_offset()) {
                    match shard.store().aborted(spec.slot, spec.offset, to) {
                        Ok(aborted) => got.aborted = Some(told(&aborted?)),
                        Err(error) => return Some(failed_read(shard, spec, &error)),
                    }
                }
                got.data = data;
            }
            Ok(Read::Cold) => return None,
            Err(error) => return Some(failed_read(shard, spec, &error)),
        }
    }
    Some(got)
}

/// Reads partitions of this core, one after the other.
async fn read_anywhere(shard: Shard, specs: Vec<Spec>, mut budget: Budget) -> Vec<(usize, Got)> {
    let mut results = Vec::with_capacity(specs.len());
    for spec in specs {
        let got = match read_memory(&shard, &spec, budget) {
            Some(got) => got,
            None => read_disk(&shard, &spec, budget).await,
        };
        budget.spend(got.data.bytes);
        results.push((spec.at, got));
    }
    results
}

async fn read_disk(shard: &Shard, spec: &Spec, budget: Budget) -> Got {
    let max_bytes = budget.of(spec.max_bytes);
    if max_bytes == 0 && !budget.first {
        return look(shard, spec).unwrap_or_else(Got::failed);
    }
    let mut read = pin!(read_cold(shard, spec, max_bytes, budget.first));
    let data = loop {
        let patience_ns = shard.reactor().now_ns() + SWEEP_MS * 500_000;
        let mut late = pin!(shard.reactor().sleep_until(patience_ns));
        let data = poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(data) => Poll::Ready(Some(data)),
            Poll::Pending => late.as_mut().poll(context).map(|()| None),
        });
        match data.await {
            Some(data) => break data,
            // So long a read waits for memory that others hold.
            None => shard.0.admission.note_shortage(shard.reactor().now_ns()),
        }
    };
    // Looked at after the read: the watermarks told are never older than the records.
    match (data, look(shard, spec)) {
        (_, Err(error)) => Got::failed(error),
        (Ok((data, aborted)), Ok(got)) => Got { data, aborted, ..got },
        (Err(error), Ok(_)) => failed_read(shard, spec, &error),
    }
}

/// The records, with the aborted transactions among them where the reader wants only committed ones.
async fn read_cold(
    shard: &Shard,
    spec: &Spec,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<(ReadData, Option<Vec<AbortedTransaction>>), ReadError> {
    let store = shard.store();
    let data = match store.read(spec.slot, spec.isolation, spec.offset, max_bytes, at_least_one)? {
        Read::Hot(data) => data,
        Read::Cold => store.read_cold(spec.slot, spec.isolation, spec.offset, max_bytes, at_least_one).await?,
    };
    let aborted = match (spec.isolation, data.end_offset()) {
        (Isolation::ReadUncommitted, _) => None,
        (Isolation::ReadCommitted, None) => Some(Vec::new()),
        (Isolation::ReadCommitted, Some(to)) => Some(told(&store.aborted_cold(spec.slot, spec.offset, to).await?)),
    };
    Ok((data, aborted))
}

fn told(aborted: &[engine::AbortedTransaction]) -> Vec<AbortedTransaction> {
    let told = |of: &engine::AbortedTransaction| AbortedTransaction {
        producer_id: of.producer_id,
        first_offset: of.first_offset,
    };
    aborted.iter().map(told).collect()
}

/// What is told of a partition beside its records, if the client's view of its leader is right.
fn look(shard: &Shard, spec: &Spec) -> Result<Got, ErrorCode> {
    check_epoch(spec.known_epoch, spec.leader_epoch)?;
    let info = shard.store().info(spec.slot).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let mut got = Got {
        high_watermark: info.high_watermark,
        last_stable: info.last_stable,
        log_start: info.log_start,
        was_read: true,
        ..Got::default()
    };
    if spec.last_fetched_epoch >= 0 {
        let end = end_of_epoch(shard, spec.slot, spec.leader_epoch, spec.last_fetched_epoch);
        let (epoch, end_offset) = end.ok_or(ErrorCode::OffsetOutOfRange)?;
        if epoch < spec.last_fetched_epoch || end_offset < spec.offset {
            got.diverging = Some(EpochEnd { epoch, end_offset });
        }
    }
    if spec.isolation == Isolation::ReadCommitted && got.diverging.is_none() {
        // None among no records.
        got.aborted = Some(Vec::new());
    }
    Ok(got)
}

fn failed_read(shard: &Shard, spec: &Spec, error: &ReadError) -> Got {
    Got::failed(shard.read_failed(spec.slot, error, ErrorCode::OffsetOutOfRange))
}

/// Has `wake` rung when a partition of this core has more than the reader has seen.
fn watch_here(shard: &Shard, isolation: Isolation, watches: Vec<(Slot, i64)>, wake: &Notify) {
    for (slot, seen) in watches {
        shard.store().watch(slot, isolation, seen, wake.clone());
    }
}

/// Resolves when a partition of this core has more than a reader on another core has seen, or when that reader has gone.
async fn watch_for_other(shard: Shard, isolation: Isolation, watches: Vec<(Slot, i64)>, gone: Cancelled) {
    watch_here(&shard, isolation, watches, &gone);
    gone.wait().await;
    gone.close();
}

/// Takes batches off the end until at most `max_bytes` are left; the first one stays if `at_least_one`.
fn cut(data: &mut ReadData, max_bytes: usize, at_least_one: bool) {
    while data.bytes > max_bytes {
        let Some(last) = data.slices.pop() else { break };
        data.bytes -= last.len();
        let is_first = data.slices.is_empty() && at_least_one;
        let mut keep = 0;
        for batch in Batches::new(last.as_bytes()).flatten() {
            let fits = data.bytes + keep + batch.total_len() <= max_bytes;
            let is_needed = is_first && keep == 0;
            if !fits && !is_needed {
                break;
            }
            keep += batch.total_len();
        }
        if keep > 0 {
            data.bytes += keep;
            data.slices.push(last.part(0, keep));
            break;
        }
    }
}

/// Appends the answer to a request whose session is not as it says.
fn refuse(header: &RequestHeader<'_>, error: ErrorCode, out: &mut Vec<u8>) -> Result<(), RequestError> {
    let start = out.len();
    begin_response(out, ApiKey::Fetch, header.version, header.correlation_id);
    FetchResponseWriter::new(out, header.version, 0, error, NO_SESSION, 0)?.finish(start, &[])?;
    Ok(())
}

fn now_ms(shard: &Shard) -> i64 {
    (shard.reactor().now_ns() / 1_000_000) as i64
}
