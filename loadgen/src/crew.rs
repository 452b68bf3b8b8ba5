//! The generator's threads: who gets which connections, how they are started together, how their news is gathered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::assign::{Assignment, share};
use crate::audit::{AuditedRun, ReadLog};
use crate::clock::{Clock, Timeline};
use crate::cluster::Cluster;
use crate::collect::{Collector, Row, Totals};
use crate::consumer::{FetchContext, LogEnds};
use crate::cpu::Meter;
use crate::error::RunError;
use crate::frame::{ProduceAnswer, ProduceFrame, ProduceTarget};
use crate::gauges::{BrokerCpu, Gauges};
use crate::histogram::Latencies;
use crate::plan::{Acks, FetchLoad, Pace, Plan, ProduceLoad};
use crate::producer::{ConnectionPace, Content, ProduceContext};
use crate::progress::Progress;
use crate::schedule::{Cursor, Schedule};
use crate::tally::Tally;
use crate::transaction::Session;
use crate::worker::{self, ConsumerJob, Job, News, ProducerJob, ThreadReport};
use crate::workload::Workload;

/// From the decision to start to the start: all threads are awake by then.
const START_DELAY_NS: u64 = 20_000_000;

/// What a run is observed with.
pub struct Observers<'a> {
    /// Where the broker's CPU time is read, if it is.
    pub meter: Option<&'a Meter>,
    /// Where progress is shown.
    pub progress: &'a Progress,
    /// Ends the run early when it becomes true.
    pub stop: &'a Arc<AtomicBool>,
}

/// The jobs of all threads, and how they are carried out.
pub struct Crew<'a> {
    plan: &'a Plan,
    observers: &'a Observers<'a>,
    clock: Clock,
    jobs: Vec<Job>,
}

/// What carrying the jobs out brought.
pub struct Driven {
    /// When the parts of the run began, and when they were to end.
    pub timeline: Timeline,
    /// When the measurement did end, in nanoseconds of the clock.
    pub stopped_ns: u64,
    /// One row for every second.
    pub rows: Vec<Row>,
    /// All counts.
    pub totals: Totals,
    /// What each thread reported.
    pub threads: Vec<ThreadReport>,
    /// What the broker spent.
    pub broker_cpu: Option<BrokerCpu>,
    /// The share of this machine's processor time that its hypervisor gave to others.
    pub steal_share: f64,
}

impl<'a> Crew<'a> {
    /// A crew of as many threads as there is use for, without connections yet.
    pub fn new(plan: &'a Plan, observers: &'a Observers<'a>, clock: Clock) -> Crew<'a> {
        let produce = plan.load.produce();
        let connections =
            produce.map_or(0, |produce| produce.connections) + plan.load.fetch().map_or(0, |fetch| fetch.connections);
        let pin = &plan.generator.pin;
        let job = |number: usize| Job {
            number,
            clock,
            cpu: (!pin.is_empty()).then(|| pin[number % pin.len()]),
            producers: Vec::new(),
            produce: None,
            consumers: Vec::new(),
            fetch: None,
            fetch_in_flight: plan.load.fetch().map_or(1, |fetch| fetch.in_flight as usize),
            open_loop: produce.is_some_and(|produce| produce.pace != Pace::Closed),
            answer_timeout: plan.target.answer_timeout,
            stop: Arc::clone(observers.stop),
        };
        let threads = plan.generator.threads.min(connections).max(1) as usize;
        Crew { plan, observers, clock, jobs: (0..threads).map(job).collect() }
    }

    /// Deals the producing connections to the threads.
    pub fn add_producers(
        &mut self,
        cluster: &mut Cluster,
        produce: &ProduceLoad,
        workload: &Arc<Workload>,
        schedule: Option<Schedule>,
        run_number: u64,
    ) -> Result<(), RunError> {
        let topic = cluster.topic.name.clone();
        let target = ProduceTarget {
            version: cluster.produce_version,
            client_id: &self.plan.target.client_id,
            transactional_id: None,
            topic: &topic,
            topic_id: cluster.topic.id,
            acks: produce.acks.code(),
            timeout_ms: i32::try_from(produce.request_timeout.as_millis()).unwrap_or(i32::MAX),
        };
        let frame = ProduceFrame::new(&target)?;
        let answer = ProduceAnswer::new(&target)?;
        let assignments = share(&cluster.topic.partitions, produce.connections)?;
        let count = assignments.len() as u32;
        let threads = self.jobs.len();
        for (assignment, number) in assignments.into_iter().zip(0_u32..) {
            let pace = match schedule {
                Some(schedule) => ConnectionPace::Open(Cursor::new(schedule, number, count, workload.max_records())),
                None => ConnectionPace::Closed { left: share_of(self.plan.timing.records, number, count) },
            };
            let mut session = None;
            if produce.transaction_batches.is_some() {
                let about = (number, assignment.partitions.len());
                session =
                    Some(Session::begin(&self.plan.target, produce, cluster, &assignment.address, about, &target)?);
            }
            self.jobs[number as usize % threads].producers.push(ProducerJob {
                number,
                session,
                address: assignment.address,
                partitions: assignment.partitions,
                pace,
            });
        }
        for (job, number) in self.jobs.iter_mut().zip(0_u32..) {
            let content = if workload.is_constant() && schedule.is_none() && produce.transaction_batches.is_none() {
                Content::finished(workload, &frame).map_err(RunError::Prepare)?
            } else {
                Content::Written { writer: workload.writer(number), batch: Vec::new() }
            };
            job.produce = Some(ProduceContext {
                clock: self.clock,
                timeline: Timeline::default(),
                frame: frame.clone(),
                answer: answer.clone(),
                content,
                in_flight: produce.in_flight as usize,
                answers: produce.acks != Acks::None,
                audit: produce.audit,
                run: run_number,
                sending: true,
                slip: Latencies::new(),
                held_batches: 0,
                last_answer_ns: 0,
            });
        }
        Ok(())
    }

    /// Deals the consuming connections to the threads. With `audited_run` what they read is kept for the audit.
    pub fn add_consumers(
        &mut self,
        cluster: &Cluster,
        fetch: &FetchLoad,
        assignments: &[Assignment],
        firsts: &BTreeMap<i32, i64>,
        ends: &LogEnds,
        audited_run: Option<AuditedRun>,
    ) {
        let threads = self.jobs.len();
        let count = assignments.len() as u32;
        // In an end-to-end run the bound is the producers'.
        let records = if audited_run.is_some() { None } else { self.plan.timing.records };
        for (assignment, number) in assignments.iter().zip(0_u32..) {
            let first = |partition: &i32| (*partition, firsts.get(partition).copied().unwrap_or(0));
            // The last threads first: where there are more threads than producers, the others take the consumers.
            self.jobs[threads - 1 - number as usize % threads].consumers.push(ConsumerJob {
                address: assignment.address.clone(),
                partitions: assignment.partitions.iter().map(first).collect(),
                left: share_of(records, number, count),
            });
        }
        for job in &mut self.jobs {
            job.fetch = Some(FetchContext {
                clock: self.clock,
                timeline: Timeline::default(),
                version: cluster.fetch_version,
                client_id: self.plan.target.client_id.clone(),
                topic: cluster.topic.name.clone(),
                topic_id: cluster.topic.id,
                max_bytes: i32::try_from(fetch.max_bytes).unwrap_or(i32::MAX),
                max_wait_ms: i32::try_from(fetch.max_wait.as_millis()).unwrap_or(i32::MAX),
                min_bytes: i32::try_from(fetch.min_bytes).unwrap_or(i32::MAX),
                loop_range: fetch.loop_range,
                check: fetch.check,
                committed_only: audited_run.is_some_and(|run| run.transactional),
                read_log: audited_run.map(|run| ReadLog::new(run.number)),
                ends: Arc::clone(ends),
                scratch: Vec::new(),
                last_records_ns: 0,
            });
        }
    }

    /// Carries the jobs out. `length` is that of the measurement; `drained` is called when all producers have their
    /// answers, or no longer wait for them.
    pub fn drive(self, length: Option<Duration>, drained: impl FnOnce()) -> Result<Driven, RunError> {
        let (warmup, clock, observers, jobs) = (self.plan.timing.warmup, self.clock, self.observers, self.jobs);
        let threads = jobs.len();
        let (news_sender, news) = channel();
        std::thread::scope(|scope| {
            let mut starters = Vec::new();
            let mut spares = Vec::new();
            for job in jobs {
                let (starter, timeline) = channel();
                let (spare_sender, spare) = channel();
                starters.push(starter);
                spares.push(spare_sender);
                let sender = news_sender.clone();
                std::thread::Builder::new()
                    .name(format!("load-{}", job.number))
                    .spawn_scoped(scope, move || worker::run(job, &timeline, spare, &sender))
                    .map_err(|_| RunError::ThreadDied)?;
            }
            // With the last thread's sender the channel closes.
            drop(news_sender);
            for _ in 0..threads {
                match news.recv() {
                    Ok((_, News::Ready)) => {}
                    // The others end when the starters are dropped.
                    Ok((_, News::Failed(error))) => return Err(error.into()),
                    _ => return Err(RunError::ThreadDied),
                }
            }
            let start_ns = clock.now_ns() + START_DELAY_NS;
            let measure_ns = start_ns.saturating_add(nanos(warmup));
            let end_ns = length.map_or(u64::MAX, |length| measure_ns.saturating_add(nanos(length)));
            let timeline = Timeline { start_ns, measure_ns, end_ns };
            for starter in &starters {
                // A thread that is gone is noticed below.
                let _ = starter.send(timeline);
            }
            let driven = supervise(&news, &spares, timeline, clock, threads, observers, drained);
            if driven.is_err() {
                observers.stop.store(true, Ordering::Relaxed);
            }
            driven
        })
    }
}

/// Collects the threads' news until all of them are done.
fn supervise(
    news: &Receiver<(usize, News)>,
    spares: &[Sender<Tally>],
    timeline: Timeline,
    clock: Clock,
    threads: usize,
    observers: &Observers<'_>,
    drained: impl FnOnce(),
) -> Result<Driven, RunError> {
    let mut collector = Collector::new(timeline, threads);
    let mut gauges = Gauges::new(observers.meter)?;
    let mut drained = Some(drained);
    let (mut stopped, mut drained_threads, mut stopped_ns) = (0, 0, 0);
    let mut reports = Vec::with_capacity(threads);
    while reports.len() < threads {
        let until_measuring = timeline.measure_ns.saturating_sub(clock.now_ns());
        if until_measuring == 0 {
            gauges.begin(clock.now_ns())?;
        }
        let next = match gauges.has_begun() {
            true => news.recv().map_err(|_| RunTimeout::Closed),
            false => news.recv_timeout(Duration::from_nanos(until_measuring)).map_err(RunTimeout::from),
        };
        let (thread, what) = match next {
            Ok(news) => news,
            Err(RunTimeout::Elapsed) => continue,
            Err(RunTimeout::Closed) => return Err(RunError::ThreadDied),
        };
        match what {
            News::Second { second, part, mut tally } => {
                if let Some(row) = collector.add(second, part, &tally) {
                    observers.progress.show(row);
                }
                tally.clear();
                // The thread may have ended in the meantime.
                drop(spares[thread].send(*tally));
            }
            News::Stopped { at_ns } => {
                stopped += 1;
                stopped_ns = stopped_ns.max(at_ns);
                if stopped == threads {
                    gauges.end(clock.now_ns());
                }
            }
            News::Drained => {
                drained_threads += 1;
                if drained_threads == threads
                    && let Some(drained) = drained.take()
                {
                    drained();
                }
            }
            News::Done(report) => reports.push(*report),
            News::Ready | News::Failed(_) => return Err(RunError::ThreadDied),
        }
    }
    let (rows, totals) = collector.finish(stopped_ns);
    let (broker_cpu, steal_share) = gauges.finish();
    Ok(Driven { timeline, stopped_ns, rows, totals, threads: reports, broker_cpu, steal_share })
}

enum RunTimeout {
    Elapsed,
    Closed,
}

impl From<RecvTimeoutError> for RunTimeout {
    fn from(error: RecvTimeoutError) -> RunTimeout {
        match error {
            RecvTimeoutError::Timeout => RunTimeout::Elapsed,
            RecvTimeoutError::Disconnected => RunTimeout::Closed,
        }
    }
}

/// The schedule of an open loop, over warm-up and measurement.
pub fn schedule_of(plan: &Plan, produce: &ProduceLoad) -> Option<Schedule> {
    let Pace::Open { records_per_second, tick } = produce.pace else { return None };
    let whole = |limit| {
        let forever = Duration::from_secs(u32::MAX.into());
        let length = plan.timing.warmup + plan.timing.duration.unwrap_or(forever);
        Schedule::new(records_per_second, tick, length, limit)
    };
    let unlimited = whole(None);
    let limit =
        plan.timing.records.map(|records| unlimited.due_before(nanos(plan.timing.warmup)).saturating_add(records));
    Some(whole(limit))
}

/// How long the measurement of an open loop takes: when records bound it, to the end of the tick of the last one.
pub fn length_of(schedule: &Schedule, plan: &Plan) -> Duration {
    let by_records = Duration::from_nanos(schedule.end_ns()).saturating_sub(plan.timing.warmup);
    match (plan.timing.duration, plan.timing.records) {
        (Some(duration), None) => duration,
        (Some(duration), Some(_)) => duration.min(by_records),
        (None, _) => by_records,
    }
}

/// One connection's part of a bound on records.
fn share_of(records: Option<u64>, number: u32, count: u32) -> Option<u64> {
    let (number, count) = (u64::from(number), u64::from(count));
    records.map(|records| records / count + u64::from(number < records % count))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
