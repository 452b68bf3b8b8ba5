//! A run from the first connection to the verdict.
//!
//! The supervising thread connects, finds out what the broker speaks, deals the connections to the generator's threads,
//! starts them together, and from then on only collects: tallies, CPU readings, reports. It touches no request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::assign::{by_leader, once, share};
use crate::audit::{AuditedRun, ReadLog, SentLog, Verdict, judge, unread};
use crate::client::{Client, LogEnd, Topic};
use crate::clock::{Clock, unix_ms};
use crate::cluster::Cluster;
use crate::collect::{Row, Totals};
use crate::consumer::LogEnds;
use crate::crew::{Crew, Driven, Observers, length_of, schedule_of};
use crate::error::RunError;
use crate::gauges::BrokerCpu;
use crate::group::{self, GroupFigures};
use crate::plan::{FetchLoad, Load, Plan, StartAt};
use crate::progress::Progress;
use crate::random::unique;
use crate::transaction::end_left_open;
use crate::worker::ThreadReport;
use crate::workload::Workload;

/// How the log is read back for the audit: large answers, a few connections.
const READ_BACK_CONNECTIONS: u32 = 4;
const READ_BACK_BYTES: u32 = 4 << 20;
const READ_BACK_WAIT: Duration = Duration::from_millis(100);

/// Everything that is known after a run.
#[derive(Debug)]
pub struct Outcome {
    /// When the load began, in milliseconds since 1970.
    pub started_unix_ms: i64,
    /// The topic as it was found or made.
    pub topic: Topic,
    /// Version of Produce, if records were written.
    pub produce_version: Option<i16>,
    /// Version of transactions, if records were written in some.
    pub transaction_version: Option<i16>,
    /// Version of Fetch, if records were read.
    pub fetch_version: Option<i16>,
    /// Records and bytes of the largest batch, if records were written.
    pub batch: Option<(u32, usize)>,
    /// Open loop: records due within the measurement.
    pub intended_records: Option<u64>,
    /// Length of the measurement in nanoseconds.
    pub measured_ns: u64,
    /// One row for every second.
    pub rows: Vec<Row>,
    /// All counts.
    pub totals: Totals,
    /// What each thread reported.
    pub threads: Vec<ThreadReport>,
    /// What the broker spent, and over how many nanoseconds; or why it could not be read at the end.
    pub broker_cpu: Option<BrokerCpu>,
    /// The share of this machine's processor time that its hypervisor gave to others.
    pub steal_share: f64,
    /// Whether the run was ended early from outside.
    pub interrupted: bool,
    /// The audit's verdict, if there was one.
    pub verdict: Option<Verdict>,
    /// What was found of groups, if there were any.
    pub group: Option<GroupFigures>,
}

/// Carries out `plan`.
pub fn run(plan: &Plan, observers: &Observers<'_>) -> Result<Outcome, RunError> {
    if let Load::Group { group } = &plan.load {
        return group::run(plan, group, observers);
    }
    let mut bootstrap = Client::connect(&plan.target.bootstrap, &plan.target)?;
    let topic = match plan.load {
        Load::Fetch { .. } => bootstrap.topic(&plan.target.topic)?,
        _ => bootstrap.ensure_topic(&plan.target)?,
    };
    let mut cluster = Cluster::connect(plan, topic)?;
    let clock = Clock::start();
    let run_number = unique();
    let audited = plan.load.produce().is_some_and(|produce| produce.audit);
    let firsts = match &plan.load {
        Load::Fetch { fetch } if fetch.from == StartAt::Beginning => cluster.log_ends(LogEnd::First)?,
        // Asked for by every load: the leaders of a new topic answer when they are ready for it.
        _ => cluster.log_ends(LogEnd::Last)?,
    };
    // In an end-to-end run the ends are known when the producers have their answers.
    let ends = LogEnds::default();
    if plan.timing.duration.is_none() && plan.timing.records.is_none() {
        // Nobody else sets it.
        drop(ends.set(cluster.log_ends(LogEnd::Last)?));
    }

    let mut crew = Crew::new(plan, observers, clock);
    let (mut batch, mut schedule) = (None, None);
    if let Some(produce) = plan.load.produce() {
        let workload = Arc::new(Workload::new(produce, plan.generator.seed, unix_ms())?);
        batch = Some((workload.max_records(), workload.max_batch_bytes()));
        schedule = schedule_of(plan, produce);
        crew.add_producers(&mut cluster, produce, &workload, schedule, run_number)?;
    }
    if let Some(fetch) = plan.load.fetch() {
        let assignments = match plan.load {
            Load::E2e { .. } => once(&cluster.topic.partitions, fetch.connections)?,
            _ => share(&cluster.topic.partitions, fetch.connections)?,
        };
        let audited_run = audited.then_some(AuditedRun { number: run_number, transactional: false });
        crew.add_consumers(&cluster, fetch, &assignments, &firsts, &ends, audited_run);
    }
    let end_to_end = matches!(plan.load, Load::E2e { .. });
    let length = match &schedule {
        // Time alone ends an open loop: the schedule's last tick is in it.
        Some(schedule) => Some(length_of(schedule, plan)),
        None => plan.timing.duration,
    };
    let started_unix_ms = unix_ms();
    let mut no_ends = None;
    let driven = crew.drive(length, || {
        if end_to_end {
            let found = cluster.log_ends(LogEnd::Last).map_err(|error| no_ends = Some(error));
            // Without ends the consumers have nothing to wait for.
            drop(ends.set(found.unwrap_or_default()));
        }
    })?;
    let interrupted = observers.stop.load(Ordering::Relaxed);
    let Driven { timeline, stopped_ns, rows, totals, mut threads, broker_cpu, steal_share } = driven;
    // A broker that died must not cost the report.
    let unreadable = |why: &dyn fmt::Display| unread(&books(&threads), format!("nothing could be read back: {why}"));
    let verdict = match (audited, &no_ends) {
        (false, _) => None,
        (true, Some(error)) => Some(unreadable(error)),
        (true, None) if end_to_end => {
            let sent = books(&threads);
            let logs = threads.iter_mut().map(|thread| (thread.read_log.take(), thread.read_to_end));
            Some(verdict(&sent, logs, run_number))
        }
        (true, None) => {
            let judged = read_back(plan, observers, &mut cluster, &firsts, run_number, &threads);
            Some(judged.unwrap_or_else(|error| unreadable(&error)))
        }
    };
    // A run that was ended early intended only what was due by then.
    let intended_records = schedule.map(|schedule| {
        let due = |until_ns: u64| schedule.due_before(until_ns.saturating_sub(timeline.start_ns));
        due(stopped_ns).saturating_sub(due(timeline.measure_ns))
    });
    Ok(Outcome {
        started_unix_ms,
        produce_version: plan.load.produce().map(|_| cluster.produce_version),
        transaction_version: cluster.transactions.map(|versions| versions.transaction),
        fetch_version: (plan.load.fetch().is_some() || audited).then_some(cluster.fetch_version),
        topic: cluster.topic,
        batch,
        intended_records,
        measured_ns: stopped_ns.saturating_sub(timeline.measure_ns),
        rows,
        totals,
        threads,
        broker_cpu,
        steal_share,
        interrupted,
        verdict,
        group: None,
    })
}

/// Reads everything back that was written since `firsts` and judges it; of transactions what was committed.
fn read_back(
    plan: &Plan,
    observers: &Observers<'_>,
    cluster: &mut Cluster,
    firsts: &BTreeMap<i32, i64>,
    run_number: u64,
    threads: &[ThreadReport],
) -> Result<Verdict, RunError> {
    observers.progress.say("reading back for the audit");
    let fetch = FetchLoad {
        connections: READ_BACK_CONNECTIONS.max(by_leader(&cluster.topic.partitions).len() as u32),
        in_flight: 1,
        max_bytes: READ_BACK_BYTES,
        max_wait: READ_BACK_WAIT,
        min_bytes: 1,
        from: StartAt::Beginning,
        loop_range: None,
        check: true,
    };
    let mut read_plan = plan.clone();
    read_plan.timing.warmup = Duration::ZERO;
    read_plan.load = Load::Fetch { fetch: fetch.clone() };
    // What ended the load early must not end its audit.
    let quiet = Observers { meter: None, progress: &Progress::Silent, stop: &Arc::new(AtomicBool::new(false)) };
    let left_open: Vec<String> = threads.iter().flat_map(|thread| thread.left_open.clone()).collect();
    end_left_open(cluster, &left_open)?;
    // Readers of committed records go to the end of the log as well: it may take a moment until all is ended there that
    // the coordinator has answered for.
    let ends: LogEnds = Arc::new(OnceLock::from(cluster.log_ends(LogEnd::Last)?));
    let mut crew = Crew::new(&read_plan, &quiet, Clock::start());
    let assignments = once(&cluster.topic.partitions, fetch.connections)?;
    let audited_run = AuditedRun { number: run_number, transactional: cluster.transactions.is_some() };
    crew.add_consumers(cluster, &fetch, &assignments, firsts, &ends, Some(audited_run));
    let driven = crew.drive(None, || ())?;
    let logs = driven.threads.into_iter().map(|thread| (thread.read_log, thread.read_to_end));
    Ok(verdict(&books(threads), logs, run_number))
}

/// What all producers sent.
fn books(threads: &[ThreadReport]) -> SentLog {
    let mut log = SentLog::default();
    threads.iter().for_each(|thread| log.merge(&thread.sent_log));
    log
}

/// What was sent against what these readers found.
fn verdict(sent: &SentLog, readers: impl Iterator<Item = (Option<ReadLog>, bool)>, run_number: u64) -> Verdict {
    let mut found = ReadLog::new(run_number);
    let mut all_to_end = true;
    for (log, to_end) in readers {
        all_to_end &= to_end;
        if let Some(log) = log {
            found.merge(log);
        }
    }
    judge(sent, &found, all_to_end)
}
