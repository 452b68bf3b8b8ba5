//! One thread of the generator: its connections, one epoll, one timer.
//!
//! A thread passes through four phases. It runs until the end of the measurement; it drains, which is waiting for answers
//! and, in an open loop, sending what is overdue; it reads on until its consumers are at the ends of their partitions, if
//! the run is audited; then it reports. All it shares with the others is the clock, a flag that ends the run early and
//! the ends of the partitions.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;

use crate::audit::{ReadLog, SentLog};
use crate::client::{ClientError, connect};
use crate::clock::{Clock, Timeline};
use crate::consumer::{Consumer, FetchContext};
use crate::cpu::OwnCpu;
use crate::histogram::Latencies;
use crate::link::{Link, Lost};
use crate::producer::{ConnectionPace, ProduceContext, Producer, Pumped};
use crate::tally::Tally;
use crate::transaction::Session;

/// Events taken from one wait.
const EVENTS: usize = 1024;
/// Marks the timer's events; all other events carry the place of a connection.
const TIMER: u64 = u64::MAX;
/// How often a thread looks for connections that fell silent and partitions that have rested.
const HOUSEKEEPING_NS: u64 = 10_000_000;
/// The answers to a hundred Produce requests fit into this; more of them take more reads.
const PRODUCE_ANSWER_BYTES: usize = 16 << 10;
/// A receive buffer starts no larger than this; it grows when a longer answer comes.
const MAX_FIRST_BUFFER: usize = 8 << 20;

/// What a thread has to do.
pub struct Job {
    /// Its number, from 0.
    pub number: usize,
    /// The run's clock.
    pub clock: Clock,
    /// The processor it runs on, if it is pinned.
    pub cpu: Option<usize>,
    /// Its producing connections.
    pub producers: Vec<ProducerJob>,
    /// What they share; there if there are any.
    pub produce: Option<ProduceContext>,
    /// Its consuming connections.
    pub consumers: Vec<ConsumerJob>,
    /// What they share; there if there are any.
    pub fetch: Option<FetchContext>,
    /// Unanswered fetch requests that a connection may have.
    pub fetch_in_flight: usize,
    /// Whether the load follows a schedule, so that only time ends it.
    pub open_loop: bool,
    /// A connection without an answer for this long is given up.
    pub answer_timeout: Duration,
    /// Ends the run early.
    pub stop: Arc<AtomicBool>,
}

/// A producing connection to be made.
pub struct ProducerJob {
    /// Its number among all producers of the run.
    pub number: u32,
    /// `HOST:PORT`.
    pub address: String,
    /// The partitions it writes to.
    pub partitions: Vec<i32>,
    /// When it sends.
    pub pace: ConnectionPace,
    /// Its transactions, if it has any.
    pub session: Option<Session>,
}

/// A consuming connection to be made.
pub struct ConsumerJob {
    /// `HOST:PORT`.
    pub address: String,
    /// The partitions it reads, each with its first offset.
    pub partitions: Vec<(i32, i64)>,
    /// Records after which it stops.
    pub left: Option<u64>,
}

/// News from a thread.
pub enum News {
    /// All its connections are made; it waits for the timeline.
    Ready,
    /// It cannot begin.
    Failed(ClientError),
    /// A second is over.
    Second {
        /// Counted from the end of the warm-up.
        second: i64,
        /// The part of the run that it belongs to.
        part: Part,
        /// Its counts.
        tally: Box<Tally>,
    },
    /// It has stopped running; nanoseconds of the clock.
    Stopped {
        /// When.
        at_ns: u64,
    },
    /// Its producers have their answers.
    Drained,
    /// It has ended.
    Done(Box<ThreadReport>),
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Load that is not measured.
    WarmUp,
    /// The measurement.
    Measured,
    /// What came after it.
    Drain,
}

/// What a thread knows at its end.
#[derive(Debug)]
pub struct ThreadReport {
    /// CPU time it spent while measuring.
    pub cpu: OwnCpu,
    /// How long it measured, in nanoseconds.
    pub measured_ns: u64,
    /// Lateness of batches that nothing but the generator held up.
    pub slip: Latencies,
    /// Batches that the broker held up: due while the window or the socket was full.
    pub held_batches: u64,
    /// Requests without an answer at the end.
    pub unanswered_requests: u64,
    /// Their records.
    pub unanswered_records: u64,
    /// Connections given up, each with the reason.
    pub lost: Vec<Lost>,
    /// The audit's books of its producers.
    pub sent_log: SentLog,
    /// Transactional ids of audited producers that left a transaction open.
    pub left_open: Vec<String>,
    /// The audit's findings of its consumers.
    pub read_log: Option<ReadLog>,
    /// Whether its consumers reached the ends of all their partitions.
    pub read_to_end: bool,
}

impl ThreadReport {
    /// The report of a thread that has done nothing yet.
    pub fn new() -> ThreadReport {
        ThreadReport {
            cpu: OwnCpu::default(),
            measured_ns: 0,
            slip: Latencies::new(),
            held_batches: 0,
            unanswered_requests: 0,
            unanswered_records: 0,
            lost: Vec::new(),
            sent_log: SentLog::default(),
            left_open: Vec::new(),
            read_log: None,
            read_to_end: true,
        }
    }
}

impl Default for ThreadReport {
    fn default() -> ThreadReport {
        ThreadReport::new()
    }
}

/// Runs a thread's job to its end. The run begins when `timeline` brings the timeline; if it never does, the thread ends.
/// Tallies that the supervisor is done with come back through `spare`.
pub fn run(job: Job, timeline: &Receiver<Timeline>, spare: Receiver<Tally>, news: &Sender<(usize, News)>) {
    let number = job.number;
    // The supervisor waits for news of every thread, so that a send fails only when it has given up.
    let say = |what| drop(news.send((number, what)));
    match Worker::new(job, spare, news) {
        Ok(mut worker) => {
            say(News::Ready);
            let Ok(timeline) = timeline.recv() else { return };
            worker.begin(timeline);
            while worker.phase != Phase::Over {
                worker.turn();
            }
            say(News::Done(Box::new(worker.into_report())));
        }
        Err(error) => say(News::Failed(error)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining { until_ns: u64 },
    Reading { since_ns: u64 },
    Over,
}

struct Worker<'a> {
    number: usize,
    clock: Clock,
    produce: Option<ProduceContext>,
    fetch: Option<FetchContext>,
    producers: Vec<Option<Producer>>,
    consumers: Vec<Option<Consumer>>,
    open_loop: bool,
    answer_timeout_ns: u64,
    stop: Arc<AtomicBool>,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    timer: TimerFd,
    armed_ns: u64,
    /// When the next batch of an open loop is due, over all producers that wait for the clock.
    next_due_ns: u64,
    /// Producers with more to send than one turn takes.
    more: Vec<usize>,
    timeline: Timeline,
    phase: Phase,
    part: Part,
    second: i64,
    tally: Tally,
    spare: Receiver<Tally>,
    news: &'a Sender<(usize, News)>,
    next_housekeeping_ns: u64,
    /// Own CPU time and the clock when measuring began.
    measuring_since: Option<(OwnCpu, u64)>,
    report: ThreadReport,
}

impl<'a> Worker<'a> {
    fn new(job: Job, spare: Receiver<Tally>, news: &'a Sender<(usize, News)>) -> Result<Worker<'a>, ClientError> {
        if let Some(cpu) = job.cpu {
            pin(&[cpu])?;
        }
        let setup = |source: nix::Error| ClientError::Wait(source.into());
        let link = |address: &str, answer_bytes| {
            let socket_error = |source| ClientError::Connect { address: address.to_owned(), source };
            connect(address, job.answer_timeout)
                .and_then(|stream| Link::new(stream, answer_bytes).map_err(socket_error))
        };
        let mut producers = Vec::with_capacity(job.producers.len());
        for one in job.producers {
            let link = link(&one.address, PRODUCE_ANSWER_BYTES)?;
            producers.push(Some(Producer::new(link, one.number, &one.partitions, one.pace, one.session)));
        }
        let answer_bytes = job.fetch.as_ref().map_or(0, |fetch| fetch.max_bytes.unsigned_abs() as usize);
        let mut consumers = Vec::with_capacity(job.consumers.len());
        for one in job.consumers {
            let link = link(&one.address, answer_bytes.min(MAX_FIRST_BUFFER))?;
            consumers.push(Some(Consumer::new(link, &one.partitions, job.fetch_in_flight, one.left)));
        }
        Ok(Worker {
            number: job.number,
            clock: job.clock,
            produce: job.produce,
            fetch: job.fetch,
            producers,
            consumers,
            open_loop: job.open_loop,
            answer_timeout_ns: nanos(job.answer_timeout),
            stop: job.stop,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(setup)?,
            events: vec![EpollEvent::empty(); EVENTS],
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC).map_err(setup)?,
            armed_ns: u64::MAX,
            next_due_ns: u64::MAX,
            more: Vec::new(),
            timeline: Timeline::default(),
            phase: Phase::Running,
            part: Part::WarmUp,
            second: 0,
            tally: Tally::default(),
            spare,
            news,
            next_housekeeping_ns: 0,
            measuring_since: None,
            report: ThreadReport::new(),
        })
    }

    /// Waits for the start and sends what is to be sent first.
    fn begin(&mut self, timeline: Timeline) {
        self.timeline = timeline;
        if let Some(produce) = &mut self.produce {
            produce.timeline = timeline;
        }
        if let Some(fetch) = &mut self.fetch {
            fetch.timeline = timeline;
        }
        // Each connection's first event says that it is writable, and lets it begin.
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        let watch =
            |stream: &TcpStream, place: usize| self.epoll.add(stream.as_fd(), EpollEvent::new(interest, place as u64));
        let mut refused = Vec::new();
        for (place, producer) in self.producers.iter().flatten().enumerate() {
            refused.extend(watch(producer.link().stream(), place).err().map(|error| (place, error)));
        }
        for (place, consumer) in self.consumers.iter().flatten().enumerate() {
            let place = self.producers.len() + place;
            refused.extend(watch(consumer.link().stream(), place).err().map(|error| (place, error)));
        }
        let timer = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER);
        self.epoll.add(self.timer.as_fd(), timer).expect("a fresh timer can be waited for");
        for (place, error) in refused {
            self.give_up(place, Lost::Io(error.into()));
        }
        self.find_next_due();
        std::thread::sleep(Duration::from_nanos(timeline.start_ns.saturating_sub(self.now())));
        let now = self.now();
        self.second = timeline.second_of(now);
        if let Some(fetch) = &mut self.fetch {
            fetch.last_records_ns = now;
        }
    }

    /// One round: the time, overdue work, then whatever the sockets and the timer bring.
    fn turn(&mut self) {
        let now = self.now();
        self.keep_time(now);
        if self.phase == Phase::Over {
            return;
        }
        for place in std::mem::take(&mut self.more) {
            self.pump(place);
        }
        if self.next_due_ns <= now {
            self.pump_due(now);
        }
        self.arm_timer();
        let timeout = if self.more.is_empty() { self.wait_ms(now) } else { 0 };
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::ZERO);
        let mut events = std::mem::take(&mut self.events);
        // An error is an interruption by a signal: the next turn sees what it meant.
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        for event in &events[..count] {
            if event.data() != TIMER {
                let readable = !(event.events() & !EpollFlags::EPOLLOUT).is_empty();
                self.ready(event.data() as usize, readable);
            }
        }
        self.events = events;
    }

    fn ready(&mut self, place: usize, readable: bool) {
        let outcome = if place < self.producers.len() {
            let (Some(producer), Some(context)) = (&mut self.producers[place], &mut self.produce) else { return };
            let outcome = producer.ready(context, &mut self.tally, readable);
            self.next_due_ns = self.next_due_ns.min(producer.next_due(context).unwrap_or(u64::MAX));
            outcome
        } else {
            let consumer = &mut self.consumers[place - self.producers.len()];
            let (Some(consumer), Some(context)) = (consumer, &mut self.fetch) else { return };
            consumer.ready(context, &mut self.tally, readable).map(|()| Pumped::Waiting)
        };
        self.settle(place, outcome);
    }

    fn pump(&mut self, place: usize) {
        let (Some(producer), Some(context)) = (&mut self.producers[place], &mut self.produce) else { return };
        let outcome = producer.pump(context, &mut self.tally);
        self.settle(place, outcome);
    }

    fn pump_due(&mut self, now: u64) {
        for place in 0..self.producers.len() {
            let (Some(producer), Some(context)) = (&self.producers[place], &self.produce) else { continue };
            if producer.next_due(context).is_some_and(|due| due <= now) {
                self.pump(place);
            }
        }
        self.find_next_due();
    }

    fn find_next_due(&mut self) {
        let Some(context) = &self.produce else { return };
        let due = self.producers.iter().flatten().filter_map(|producer| producer.next_due(context)).min();
        self.next_due_ns = due.unwrap_or(u64::MAX);
    }

    fn settle(&mut self, place: usize, outcome: Result<Pumped, Lost>) {
        match outcome {
            Ok(Pumped::Waiting) => {}
            Ok(Pumped::More) => {
                if !self.more.contains(&place) {
                    self.more.push(place);
                }
            }
            Err(reason) => self.give_up(place, reason),
        }
    }

    /// Closes a connection and keeps its books.
    fn give_up(&mut self, place: usize, reason: Lost) {
        if place < self.producers.len() {
            if let Some(producer) = self.producers[place].take() {
                self.close_books(producer);
            }
        } else if self.consumers[place - self.producers.len()].take().is_some() {
            self.report.read_to_end = false;
        }
        self.report.lost.push(reason);
    }

    /// Closes all producing connections, with or without answers to their last requests.
    fn end_producers(&mut self) {
        for place in 0..self.producers.len() {
            if let Some(producer) = self.producers[place].take() {
                self.close_books(producer);
            }
        }
    }

    fn close_books(&mut self, producer: Producer) {
        let (requests, records) = producer.unanswered();
        self.report.unanswered_requests += requests;
        self.report.unanswered_records += records;
        if self.produce.as_ref().is_some_and(|context| context.audit) {
            self.report.left_open.extend(producer.close_books(&mut self.report.sent_log));
        }
    }

    fn keep_time(&mut self, now: u64) {
        if self.phase == Phase::Running {
            let told = self.stop.load(Ordering::Relaxed);
            if told || now >= self.timeline.end_ns {
                self.stop_running(now, now.min(self.timeline.end_ns), !told);
            }
        }
        let second = self.timeline.second_of(now);
        if second != self.second {
            self.hand_over_tally();
            self.second = second;
        }
        if self.part == Part::WarmUp && now >= self.timeline.measure_ns {
            // Measuring begins with a whole second, so that the last tally of the warm-up has just been handed over.
            self.part = Part::Measured;
            self.measuring_since = Some((OwnCpu::now(), now));
        }
        let housekeeping = now >= self.next_housekeeping_ns;
        if housekeeping {
            self.next_housekeeping_ns = now + HOUSEKEEPING_NS;
            self.look_for_silence(now);
            self.wake_rested();
        }
        match self.phase {
            Phase::Running => {
                if housekeeping && self.has_nothing_left(now) {
                    let last = self.produce.as_ref().map(|context| context.last_answer_ns);
                    let last = last.or(self.fetch.as_ref().map(|context| context.last_records_ns));
                    self.stop_running(now, last.filter(|at| *at > self.timeline.measure_ns).unwrap_or(now), false);
                }
            }
            Phase::Draining { until_ns } => {
                if self.stop.load(Ordering::Relaxed)
                    && let Some(context) = &mut self.produce
                {
                    context.sending = false;
                }
                let quiet = self.produce.as_ref().is_none_or(|context| {
                    self.producers.iter().flatten().all(|producer| producer.is_finished(context))
                });
                if quiet || now >= until_ns {
                    // Before anyone looks where the logs end: what is acknowledged later could lie behind that.
                    self.end_producers();
                    self.say(News::Drained);
                    self.phase = Phase::Reading { since_ns: now };
                }
            }
            Phase::Reading { since_ns } => {
                let over = self.fetch.as_ref().is_none_or(|context| {
                    let full = context.read_log.as_ref().is_none_or(|log| log.gave_up());
                    full || self.is_stalled(context, since_ns, now)
                        || self.consumers.iter().flatten().all(|consumer| consumer.is_finished(context))
                });
                if over {
                    self.phase = Phase::Over;
                }
            }
            Phase::Over => {}
        }
    }

    /// Ends the measurement. `overdue` tells whether an open loop still sends what is overdue.
    fn stop_running(&mut self, now: u64, at_ns: u64, overdue: bool) {
        self.hand_over_tally();
        self.part = Part::Drain;
        if let Some((before, since_ns)) = self.measuring_since {
            self.report.cpu = OwnCpu::now().since(before);
            self.report.measured_ns = now - since_ns;
        }
        if let Some(context) = &mut self.produce {
            context.sending = self.open_loop && overdue;
        }
        self.say(News::Stopped { at_ns });
        self.phase = Phase::Draining { until_ns: now + self.answer_timeout_ns };
    }

    /// Whether this thread's load ended by itself: its records are sent or read, or its connections are gone.
    fn has_nothing_left(&self, now: u64) -> bool {
        if self.open_loop {
            return !self.producers.is_empty() && self.producers.iter().all(Option::is_none);
        }
        match (&self.produce, &self.fetch) {
            (Some(context), _) => self.producers.iter().flatten().all(|producer| producer.is_finished(context)),
            (None, Some(context)) => {
                // An audit reads to an end that is known. A transaction that never ends keeps it from there.
                let stalled = context.read_log.is_some() && self.is_stalled(context, 0, now);
                stalled || self.consumers.iter().flatten().all(|consumer| consumer.is_finished(context))
            }
            (None, None) => true,
        }
    }

    /// Whether no records have come for as long as an answer may take, since `since_ns` at the earliest.
    fn is_stalled(&self, context: &FetchContext, since_ns: u64, now: u64) -> bool {
        context.last_records_ns.max(since_ns) + self.answer_timeout_ns < now
    }

    fn look_for_silence(&mut self, now: u64) {
        let timeout_ns = self.answer_timeout_ns;
        let silent = |since: Option<u64>, allowed: u64| since.is_some_and(|since| since.saturating_add(allowed) < now);
        let mut given_up = Vec::new();
        for (place, producer) in self.producers.iter().enumerate() {
            if producer.as_ref().is_some_and(|producer| silent(producer.waiting_since(), timeout_ns)) {
                given_up.push(place);
            }
        }
        let max_wait_ns =
            self.fetch.as_ref().map_or(0, |fetch| u64::from(fetch.max_wait_ms.unsigned_abs()) * 1_000_000);
        for (place, consumer) in self.consumers.iter().enumerate() {
            if consumer.as_ref().is_some_and(|consumer| silent(consumer.waiting_since(), timeout_ns + max_wait_ns)) {
                given_up.push(self.producers.len() + place);
            }
        }
        for place in given_up {
            self.give_up(place, Lost::Silent(timeout_ns / 1_000_000_000));
        }
    }

    /// Lets partitions that had an error be asked for again.
    fn wake_rested(&mut self) {
        for place in 0..self.consumers.len() {
            let (Some(consumer), Some(context)) = (&mut self.consumers[place], &mut self.fetch) else { continue };
            if let Err(reason) = consumer.pump(context) {
                self.give_up(self.producers.len() + place, reason);
            }
        }
    }

    fn hand_over_tally(&mut self) {
        let fresh = self.spare.try_recv().unwrap_or_default();
        let tally = Box::new(std::mem::replace(&mut self.tally, fresh));
        self.say(News::Second { second: self.second, part: self.part, tally });
    }

    fn arm_timer(&mut self) {
        if self.next_due_ns == self.armed_ns {
            return;
        }
        self.armed_ns = self.next_due_ns;
        let outcome = if self.next_due_ns == u64::MAX {
            self.timer.unset()
        } else {
            let at = i64::try_from(self.clock.monotonic(self.next_due_ns)).unwrap_or(i64::MAX);
            self.timer.set(Expiration::OneShot(TimeSpec::nanoseconds(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
        };
        outcome.expect("a timer takes any time");
    }

    /// How long nothing but sockets and the timer can matter, in milliseconds, rounded up.
    fn wait_ms(&self, now: u64) -> i32 {
        let until = match self.phase {
            Phase::Running => self.next_housekeeping_ns.min(self.timeline.end_ns),
            // Short phases whose ends are looked for in every turn.
            _ => now + 1_000_000,
        };
        i32::try_from(until.saturating_sub(now).div_ceil(1_000_000)).unwrap_or(i32::MAX)
    }

    fn into_report(mut self) -> ThreadReport {
        self.hand_over_tally();
        if let Some(context) = self.produce {
            self.report.slip = context.slip;
            self.report.held_batches = context.held_batches;
        }
        if let Some(context) = self.fetch {
            let mut consumers = self.consumers.iter().flatten();
            self.report.read_to_end &= consumers.all(|consumer| consumer.has_read_all(&context));
            self.report.read_log = context.read_log;
        }
        self.report
    }

    fn now(&self) -> u64 {
        self.clock.now_ns()
    }

    fn say(&self, what: News) {
        // A supervisor that has given up listens no more; the thread then ends by its own timeline.
        drop(self.news.send((self.number, what)));
    }
}

/// Confines the calling thread, and threads that it makes later, to these processors.
pub fn pin(cpus: &[usize]) -> Result<(), ClientError> {
    let mut set = CpuSet::new();
    cpus.iter()
        .try_for_each(|cpu| set.set(*cpu))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|source| ClientError::Pin { cpus: cpus.to_vec(), source: source.into() })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
