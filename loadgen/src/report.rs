//! The report: the same facts as JSON for programs and as text for people.
//!
//! The fields are described in the crate's `README.md`; a test holds the two together.

use std::fmt::{self, Write};

use serde::Serialize;
use wire::compression::Codec;

use crate::audit::Verdict;
use crate::client::code_name;
use crate::collect::Row;
use crate::cpu::{CpuSpent, Meter};
use crate::group::{GroupFigures, Traffic};
use crate::histogram::{Latencies, LatencySummary};
use crate::plan::{Acks, BatchBound, FetchLoad, GroupLoad, GroupProtocol, Load, Pace, Plan, ProduceLoad};
use crate::run::Outcome;
use crate::tally::Counters;

/// The version of the JSON's form. It rises when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;
/// Above this share of a processor a thread of an open loop may itself be what delays.
const BUSY_OPEN_LOOP: f64 = 0.9;
/// Above this share of a processor a thread of a closed loop may itself be what limits.
const BUSY_CLOSED_LOOP: f64 = 0.95;
/// An open loop whose broker acknowledges at least this share of what was intended keeps up.
const KEPT_UP_SHARE: f64 = 0.99;
/// Above this share of stolen processor time the machine was not ours.
const STOLEN_SHARE: f64 = 0.05;
/// A generator thread that waited for its processor for a larger share of the time shared it with others.
const WAITED_SHARE: f64 = 0.05;

/// A run's report.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    schema: u32,
    tool: &'static str,
    version: &'static str,
    started_unix_ms: i64,
    config: &'a Plan,
    broker: BrokerFacts<'a>,
    outcome: &'static str,
    window_s: f64,
    produce: Option<ProduceFigures>,
    fetch: Option<FetchFigures>,
    end_to_end_latency_us: Option<LatencySummary>,
    group: Option<&'a GroupFigures>,
    errors: Vec<ErrorLine>,
    lost_connections: Vec<String>,
    audit: Option<&'a Verdict>,
    generator: GeneratorFigures,
    broker_cpu: Option<BrokerCpu<'a>>,
    machine: MachineFigures,
    kept_up: Option<bool>,
    honest: bool,
    reasons: Vec<Reason>,
    whole_run: Counters,
    seconds: &'a [Row],
}

#[derive(Debug, Serialize)]
struct BrokerFacts<'a> {
    topic: &'a str,
    partitions: usize,
    leaders: Vec<&'a str>,
    produce_version: Option<i16>,
    fetch_version: Option<i16>,
}

#[derive(Debug, Serialize)]
struct ProduceFigures {
    batch_records: u32,
    batch_bytes: usize,
    intended: Option<Amount>,
    sent: Amount,
    acked: Amount,
    acked_late_records: u64,
    unanswered_requests: u64,
    unanswered_records: u64,
    held_batches: u64,
    throughput: Throughput,
    ack_latency_us: Option<LatencySummary>,
    transactions: Option<TransactionFigures>,
}

#[derive(Debug, Serialize)]
struct TransactionFigures {
    transaction_version: i16,
    committed: u64,
    aborted: u64,
    retries: u64,
    committed_per_s: f64,
    commit_latency_us: Option<LatencySummary>,
}

#[derive(Debug, Serialize)]
struct FetchFigures {
    received: Amount,
    empty_answers: u64,
    corrupt_batches: u64,
    throughput: Throughput,
    latency_us: Option<LatencySummary>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Amount {
    requests: Option<u64>,
    records: u64,
    batch_bytes: Option<u64>,
    value_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Throughput {
    requests_per_s: f64,
    records_per_s: f64,
    mb_per_s: f64,
}

#[derive(Debug, Serialize)]
struct ErrorLine {
    api: &'static str,
    code: i16,
    name: String,
    times: u64,
    records: u64,
}

#[derive(Debug, Serialize)]
struct GeneratorFigures {
    user_s: f64,
    system_s: f64,
    busiest_thread_share: f64,
    waited_share: f64,
    threads: Vec<ThreadFigures>,
    slip_us: Option<LatencySummary>,
}

#[derive(Debug, Serialize)]
struct ThreadFigures {
    user_s: f64,
    system_s: f64,
    share: f64,
    waited_share: f64,
}

#[derive(Debug, Serialize)]
struct BrokerCpu<'a> {
    #[serde(flatten)]
    spent: &'a CpuSpent,
    source: String,
    interval_s: f64,
    cores: f64,
    s_per_gb: Option<f64>,
    us_per_request: Option<f64>,
}

#[derive(Debug, Serialize)]
struct MachineFigures {
    steal_share: f64,
}

/// Why the figures may not be the broker's own.
#[derive(Debug, Serialize)]
struct Reason {
    code: &'static str,
    text: String,
}

impl<'a> Report<'a> {
    /// What is to be said of a run.
    pub fn new(plan: &'a Plan, meter: Option<&Meter>, outcome: &'a Outcome) -> Report<'a> {
        let measured = &outcome.totals.measured;
        let drained = &outcome.totals.drained;
        let window_s = outcome.measured_ns as f64 / 1e9;
        let mut ack = measured.ack.clone();
        let mut end_to_end = measured.end_to_end.clone();
        let open_loop = matches!(plan.load.produce().map(|produce| produce.pace), Some(Pace::Open { .. }));
        if open_loop {
            // What was due within the measurement counts whenever its answer came.
            ack.merge(&drained.ack);
            end_to_end.merge(&drained.end_to_end);
        }
        let produce = plan.load.produce().map(|load| produce_figures(plan, load, outcome, &ack, window_s));
        let fetch = plan.load.fetch().map(|_| fetch_figures(outcome, window_s));
        let generator = generator_figures(outcome);
        let errors = &outcome.totals.whole_run.errors;
        let mut report = Report {
            schema: SCHEMA,
            tool: "weir-load",
            version: env!("CARGO_PKG_VERSION"),
            started_unix_ms: outcome.started_unix_ms,
            config: plan,
            broker: broker_facts(outcome),
            outcome: if outcome.interrupted { "interrupted" } else { "completed" },
            window_s,
            kept_up: produce.as_ref().and_then(kept_up),
            produce,
            fetch,
            end_to_end_latency_us: end_to_end.summary(),
            group: outcome.group.as_ref(),
            errors: errors
                .iter()
                .map(|((api, code), count)| ErrorLine {
                    api: api.name(),
                    code: *code,
                    name: code_name(*code),
                    times: count.times,
                    records: count.records,
                })
                .collect(),
            lost_connections: outcome.threads.iter().flat_map(|thread| &thread.lost).map(ToString::to_string).collect(),
            audit: outcome.verdict.as_ref(),
            generator,
            broker_cpu: broker_cpu(&plan.load, meter, outcome),
            machine: MachineFigures { steal_share: outcome.steal_share },
            honest: true,
            reasons: Vec::new(),
            whole_run: outcome.totals.whole_run.counters,
            seconds: &outcome.rows,
        };
        report.reasons = report.doubts(outcome, open_loop);
        report.honest = report.reasons.is_empty();
        report
    }

    /// Whether every request was answered without an error and no connection was lost.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.lost_connections.is_empty()
    }

    /// Whether the audit, if there was one, found nothing, and groups gave every partition to one member.
    pub fn audit_passed(&self) -> bool {
        let owned_once = self.group.is_none_or(|group| group.overlaps == 0 && group.not_owned_once == 0);
        self.audit.is_none_or(|verdict| verdict.passed) && owned_once
    }

    /// What stands against taking the figures for the broker's own.
    fn doubts(&self, outcome: &Outcome, open_loop: bool) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut doubt = |code, text| reasons.push(Reason { code, text });
        if outcome.measured_ns == 0 {
            doubt("no_measurement", "the run ended before the measurement began".to_owned());
        }
        let busy = self.generator.busiest_thread_share;
        let bound = if open_loop { BUSY_OPEN_LOOP } else { BUSY_CLOSED_LOOP };
        if busy > bound {
            let effect = if open_loop { "latency may be its own" } else { "throughput may be limited by it" };
            doubt("generator_cpu", format!("a generator thread used {:.0} % of a processor: {effect}", busy * 100.0));
        }
        let waited = self.generator.waited_share;
        if waited > WAITED_SHARE {
            let share = waited * 100.0;
            doubt(
                "generator_waited",
                format!("a generator thread waited {share:.0} % of the time for a processor that others had"),
            );
        }
        if let (Some(Pace::Open { tick, .. }), Some(slip)) =
            (self.config.load.produce().map(|produce| produce.pace), &self.generator.slip_us)
            && slip.p99 > tick.as_secs_f64() * 1e6
        {
            let slip = latency(slip.p99);
            doubt(
                "generator_slip",
                format!("the generator sent late by itself: p99 {slip}, more than a tick of {tick:?}"),
            );
        }
        if !self.lost_connections.is_empty() {
            let count = self.lost_connections.len();
            doubt(
                "lost_connections",
                format!("{count} connections were lost, the first because {}", self.lost_connections[0]),
            );
        }
        if let Some(Err(error)) = &outcome.broker_cpu {
            doubt("broker_cpu_unread", format!("the broker's CPU time could not be read at the end: {error}"));
        }
        if outcome.steal_share > STOLEN_SHARE {
            let share = outcome.steal_share * 100.0;
            doubt("stolen_time", format!("the hypervisor gave {share:.0} % of the processors' time to others"));
        }
        reasons
    }
}

fn broker_facts(outcome: &Outcome) -> BrokerFacts<'_> {
    let mut leaders: Vec<&str> = outcome.topic.partitions.iter().map(|partition| partition.leader.as_str()).collect();
    leaders.sort_unstable();
    leaders.dedup();
    BrokerFacts {
        topic: &outcome.topic.name,
        partitions: outcome.topic.partitions.len(),
        leaders,
        produce_version: outcome.produce_version,
        fetch_version: outcome.fetch_version,
    }
}

fn produce_figures(
    plan: &Plan,
    load: &ProduceLoad,
    outcome: &Outcome,
    ack: &Latencies,
    window_s: f64,
) -> ProduceFigures {
    let counters = &outcome.totals.measured.counters;
    let amount = |requests, records: u64, batch_bytes| Amount {
        requests: Some(requests),
        records,
        batch_bytes: Some(batch_bytes),
        value_bytes: Some(records * u64::from(load.record_bytes)),
    };
    let (batch_records, batch_bytes) = outcome.batch.unwrap_or_default();
    let of_threads = |count: fn(&crate::worker::ThreadReport) -> u64| outcome.threads.iter().map(count).sum();
    let (requests, records, bytes) = served(&plan.load, counters);
    ProduceFigures {
        batch_records,
        batch_bytes,
        intended: outcome.intended_records.map(|records| Amount {
            requests: None,
            records,
            batch_bytes: None,
            value_bytes: Some(records * u64::from(load.record_bytes)),
        }),
        sent: amount(counters.sent_requests, counters.sent_records, counters.sent_bytes),
        acked: amount(counters.acked_requests, counters.acked_records, counters.acked_bytes),
        acked_late_records: outcome.totals.drained.counters.acked_records,
        unanswered_requests: of_threads(|thread| thread.unanswered_requests),
        unanswered_records: of_threads(|thread| thread.unanswered_records),
        held_batches: of_threads(|thread| thread.held_batches),
        throughput: throughput(requests, records, bytes, window_s),
        ack_latency_us: ack.summary(),
        transactions: outcome.transaction_version.map(|version| TransactionFigures {
            transaction_version: version,
            committed: counters.committed_transactions,
            aborted: counters.aborted_transactions,
            retries: counters.transaction_retries,
            committed_per_s: if window_s > 0.0 { counters.committed_transactions as f64 / window_s } else { 0.0 },
            commit_latency_us: outcome.totals.measured.transaction.summary(),
        }),
    }
}

fn fetch_figures(outcome: &Outcome, window_s: f64) -> FetchFigures {
    let tally = &outcome.totals.measured;
    let counters = &tally.counters;
    let (requests, records, bytes) = (counters.fetched_requests, counters.fetched_records, counters.fetched_bytes);
    FetchFigures {
        received: Amount { requests: Some(requests), records, batch_bytes: Some(bytes), value_bytes: None },
        empty_answers: counters.empty_fetches,
        corrupt_batches: outcome.totals.whole_run.counters.corrupt_batches,
        throughput: throughput(requests, records, bytes, window_s),
        latency_us: tally.fetch.summary(),
    }
}

/// The requests, records and bytes that the broker served. End to end counts what was written, once, as it counts for the
/// one who pays for it; without acknowledgements what was handed to the socket is all that is known.
fn served(load: &Load, counters: &Counters) -> (u64, u64, u64) {
    match load.produce() {
        None => (counters.fetched_requests, counters.fetched_records, counters.fetched_bytes),
        Some(produce) if produce.acks == Acks::None => {
            (counters.sent_requests, counters.sent_records, counters.sent_bytes)
        }
        Some(_) => (counters.acked_requests, counters.acked_records, counters.acked_bytes),
    }
}

fn throughput(requests: u64, records: u64, bytes: u64, window_s: f64) -> Throughput {
    let rate = |number: u64| if window_s > 0.0 { number as f64 / window_s } else { 0.0 };
    Throughput { requests_per_s: rate(requests), records_per_s: rate(records), mb_per_s: rate(bytes) / 1e6 }
}

fn kept_up(produce: &ProduceFigures) -> Option<bool> {
    let intended = produce.intended?.records;
    Some(produce.acked.records as f64 >= intended as f64 * KEPT_UP_SHARE)
}

fn generator_figures(outcome: &Outcome) -> GeneratorFigures {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let threads: Vec<ThreadFigures> = outcome
        .threads
        .iter()
        .map(|thread| {
            let (user_s, system_s) = (seconds(thread.cpu.user_ns), seconds(thread.cpu.system_ns));
            let measured_s = seconds(thread.measured_ns).max(f64::MIN_POSITIVE);
            let share = |seconds: f64| (seconds / measured_s).min(1.0);
            let waited_share = share(seconds(thread.cpu.waited_ns));
            ThreadFigures { user_s, system_s, share: share(user_s + system_s), waited_share }
        })
        .collect();
    let mut slip = Latencies::new();
    outcome.threads.iter().for_each(|thread| slip.merge(&thread.slip));
    let highest = |share: fn(&ThreadFigures) -> f64| threads.iter().map(share).fold(0.0, f64::max);
    GeneratorFigures {
        user_s: threads.iter().map(|thread| thread.user_s).sum(),
        system_s: threads.iter().map(|thread| thread.system_s).sum(),
        busiest_thread_share: highest(|thread| thread.share),
        waited_share: highest(|thread| thread.waited_share),
        threads,
        slip_us: slip.summary(),
    }
}

fn broker_cpu<'a>(load: &Load, meter: Option<&Meter>, outcome: &'a Outcome) -> Option<BrokerCpu<'a>> {
    let counters = &outcome.totals.measured.counters;
    let (spent, interval_ns) = outcome.broker_cpu.as_ref()?.as_ref().ok()?;
    let interval_s = *interval_ns as f64 / 1e9;
    let (requests, bytes) = match &outcome.group {
        Some(group) => (group.heartbeats.answered + group.commits.answered, 0),
        None => {
            let (requests, _, bytes) = served(load, counters);
            (requests, bytes)
        }
    };
    let per = |amount: u64, unit: f64| (amount > 0).then(|| spent.total_s / (amount as f64 / unit));
    Some(BrokerCpu {
        spent,
        source: meter.map(Meter::describe).unwrap_or_default(),
        interval_s,
        cores: if interval_s > 0.0 { spent.total_s / interval_s } else { 0.0 },
        s_per_gb: per(bytes, 1e9),
        us_per_request: per(requests, 1e6),
    })
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        if let Some(produce) = &self.produce {
            write_produce(f, produce)?;
        }
        if let Some(fetch) = &self.fetch {
            write_fetch(f, fetch)?;
        }
        if let Some(summary) = &self.end_to_end_latency_us {
            line(f, "end to end", &latencies(summary))?;
        }
        if let Some(group) = self.group {
            write_group(f, group)?;
        }
        for error in &self.errors {
            let what = format!("{} {} × {}", error.api, error.name, count(error.times));
            let records =
                if error.records > 0 { format!(" ({} records)", count(error.records)) } else { String::new() };
            line(f, "errors", &(what + &records))?;
        }
        for (reason, times) in grouped(&self.lost_connections) {
            line(f, "lost", &format!("{times} connections: {reason}"))?;
        }
        self.write_cpu(f)?;
        if let Some(verdict) = self.audit {
            write_audit(f, verdict)?;
        }
        if self.outcome == "interrupted" {
            line(f, "outcome", "interrupted before its end")?;
        }
        if let Some(kept_up) = self.kept_up {
            line(f, "kept up", if kept_up { "yes" } else { "NO: the broker acknowledged less than was intended" })?;
        }
        if self.honest {
            line(f, "honest", "yes")?;
        }
        self.reasons.iter().try_for_each(|reason| line(f, "honest", &format!("NO: {}", reason.text)))
    }
}

impl Report<'_> {
    fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.config.target;
        let mode = match self.config.load {
            Load::Produce { .. } => "produce",
            Load::Fetch { .. } => "fetch",
            Load::E2e { .. } => "e2e",
            Load::Group { .. } => "group",
        };
        let BrokerFacts { topic, partitions, produce_version, fetch_version, .. } = &self.broker;
        let version =
            |name, version: &Option<i16>| version.map_or(String::new(), |version| format!(", {name} v{version}"));
        writeln!(
            f,
            "weir-load {mode}  {}  topic {topic} ({partitions} partitions){}{}",
            target.bootstrap,
            version("Produce", produce_version),
            version("Fetch", fetch_version),
        )?;
        if let (Some(load), Some(produce)) = (self.config.load.produce(), &self.produce) {
            line(f, "writes", &describe_produce(load, produce))?;
        }
        if let Some(load) = self.config.load.fetch() {
            line(f, "reads", &describe_fetch(load))?;
        }
        if let Load::Group { group } = &self.config.load {
            line(f, "members", &describe_group(group))?;
        }
        let timing = &self.config.timing;
        line(f, "measured", &format!("{:.2} s after {:.2} s of warm-up", self.window_s, timing.warmup.as_secs_f64()))?;
        writeln!(f)
    }

    fn write_cpu(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cpu) = &self.broker_cpu {
            let mut text = format!("{:.3} s ({:.2} cores", cpu.spent.total_s, cpu.cores);
            write!(text, ", user {:.2}, system {:.2})", cpu.spent.user_s, cpu.spent.system_s)?;
            if let Some(per_gb) = cpu.s_per_gb {
                write!(text, "  {per_gb:.3} s/GB")?;
            }
            if let Some(per_request) = cpu.us_per_request {
                write!(text, "  {per_request:.2} µs/request")?;
            }
            line(f, "broker CPU", &text)?;
            let threads = cpu.spent.threads.iter().take(4);
            let busiest: Vec<String> =
                threads.map(|thread| format!("{} {:.2} s", thread.name, thread.total_s)).collect();
            if !busiest.is_empty() {
                line(f, "", &busiest.join(", "))?;
            }
        }
        let generator = &self.generator;
        let share = generator.busiest_thread_share * 100.0;
        let mut text = format!("{:.3} s CPU", generator.user_s + generator.system_s);
        write!(text, " (user {:.2}, system {:.2}", generator.user_s, generator.system_s)?;
        write!(text, "), busiest of {} threads {share:.0} %", generator.threads.len())?;
        if generator.waited_share >= 0.01 {
            write!(text, ", waited {:.0} % for a processor", generator.waited_share * 100.0)?;
        }
        if let Some(slip) = &generator.slip_us {
            write!(text, ", own slip p99 {} max {}", latency(slip.p99), latency(slip.max))?;
        }
        line(f, "generator", &text)
    }
}

fn describe_produce(load: &ProduceLoad, produce: &ProduceFigures) -> String {
    let pace = load.pace;
    let bound = match load.batch {
        BatchBound::Records(_) => "",
        BatchBound::Bytes(_) => "up to ",
    };
    let compression = match load.compression {
        Codec::None => "not compressed".to_owned(),
        codec => format!("compressed with {codec}"),
    };
    let window = match load.pace {
        Pace::Closed => format!(" × {} in flight", load.in_flight),
        Pace::Open { .. } => String::new(),
    };
    let transactions = match load.transaction_batches {
        Some(1) => "; a transaction for each".to_owned(),
        Some(batches) => format!("; transactions of {batches} batches"),
        None => String::new(),
    };
    let aborts = load.abort_every.map_or_else(String::new, |every| format!(", of {every} one aborted"));
    format!(
        "{pace}; {} connections{window}; batches of {bound}{} records of {} B ({} B){transactions}{aborts}; {}, {compression}, {}",
        load.connections,
        count(produce.batch_records.into()),
        count(load.record_bytes.into()),
        count(produce.batch_bytes as u64),
        load.acks,
        load.keys,
    )
}

fn describe_fetch(load: &FetchLoad) -> String {
    let mut text = format!(
        "{} connections × {} in flight; {} B a fetch, {} B at least, waits up to {:?}",
        load.connections,
        load.in_flight,
        count(load.max_bytes.into()),
        load.min_bytes,
        load.max_wait
    );
    if let Some(range) = load.loop_range {
        text += &format!("; the same {} B of each partition again and again", count(range));
    }
    text
}

fn write_produce(f: &mut fmt::Formatter<'_>, produce: &ProduceFigures) -> fmt::Result {
    line(f, "throughput", &rates(&produce.throughput))?;
    let mut text = String::new();
    if let Some(intended) = &produce.intended {
        write!(text, "intended {}, ", count(intended.records))?;
    }
    write!(text, "sent {}, acknowledged {}", count(produce.sent.records), count(produce.acked.records))?;
    if produce.acked_late_records > 0 {
        write!(text, " and {} after the end", count(produce.acked_late_records))?;
    }
    if produce.unanswered_records > 0 {
        write!(text, ", never answered {}", count(produce.unanswered_records))?;
    }
    if produce.held_batches > 0 {
        write!(text, "; {} batches held up by the broker", count(produce.held_batches))?;
    }
    line(f, "records", &text)?;
    if let Some(summary) = &produce.ack_latency_us {
        line(f, "ack latency", &latencies(summary))?;
    }
    let Some(transactions) = &produce.transactions else { return Ok(()) };
    let TransactionFigures { transaction_version, committed, aborted, retries, committed_per_s, commit_latency_us } =
        transactions;
    let rate = count(committed_per_s.round() as u64);
    let mut text = format!("{} transactions, {rate}/s, version {transaction_version}", count(*committed));
    if *aborted > 0 {
        write!(text, "; {} aborted", count(*aborted))?;
    }
    if *retries > 0 {
        write!(text, "; {} requests sent again", count(*retries))?;
    }
    line(f, "committed", &text)?;
    commit_latency_us.as_ref().map_or(Ok(()), |summary| line(f, "commit", &latencies(summary)))
}

fn write_fetch(f: &mut fmt::Formatter<'_>, fetch: &FetchFigures) -> fmt::Result {
    line(f, "fetched", &rates(&fetch.throughput))?;
    let mut text = format!("{} received", count(fetch.received.records));
    if fetch.empty_answers > 0 {
        write!(text, "; {} empty answers", count(fetch.empty_answers))?;
    }
    if fetch.corrupt_batches > 0 {
        write!(text, "; {} BATCHES WITH A WRONG CRC", count(fetch.corrupt_batches))?;
    }
    line(f, "records", &text)?;
    fetch.latency_us.as_ref().map_or(Ok(()), |summary| line(f, "fetch time", &latencies(summary)))
}

fn describe_group(load: &GroupLoad) -> String {
    let GroupLoad { protocol, groups, members, late_members, heartbeat_interval, commit_interval, .. } = load;
    let mut text = format!("{} groups of {} members, {protocol}", count((*groups).into()), count((*members).into()));
    if *late_members > 0 {
        text += &format!(", {late_members} of them late");
    }
    if *protocol == GroupProtocol::Classic {
        text += &format!("; a heartbeat every {heartbeat_interval:?}");
    }
    if !commit_interval.is_zero() {
        text += &format!("; a commit every {commit_interval:?}");
    }
    text
}

fn write_group(f: &mut fmt::Formatter<'_>, group: &GroupFigures) -> fmt::Result {
    let traffic = |requests: &Traffic| {
        let each = requests.latency_us.as_ref().map_or_else(String::new, latencies);
        format!("{:.0}/s   {each}", requests.answered_per_s)
    };
    let heartbeats = traffic(&group.heartbeats);
    line(f, "heartbeats", &format!("{heartbeats}   (every {} s)", group.heartbeat_interval_s))?;
    line(f, "commits", &format!("{}   ({} offsets each)", traffic(&group.commits), group.offsets_per_commit))?;
    let times = [
        ("formed", &group.formed_us),
        ("rebalanced", &group.rebalance_us),
        ("  last in", &group.rebalance_after_last_us),
    ];
    for (name, summary) in times {
        if let Some(summary) = summary {
            let LatencySummary { p50, max, count, .. } = *summary;
            line(f, name, &format!("p50 {}   max {}   ({count} times)", latency(p50), latency(max)))?;
        }
    }
    let mut text =
        format!("{} in all, {} in the measurement", count(group.rebalances), count(group.measured_rebalances));
    if group.overlaps > 0 {
        write!(text, "; {} PARTITIONS WERE GIVEN TO TWO MEMBERS AT ONCE", count(group.overlaps))?;
    }
    if group.not_owned_once > 0 {
        write!(text, "; {} PARTITIONS WITHOUT ONE OWNER AT THE END", count(group.not_owned_once))?;
    }
    line(f, "rebalances", &text)
}

fn write_audit(f: &mut fmt::Formatter<'_>, verdict: &Verdict) -> fmt::Result {
    let outcome = if verdict.passed { "passed" } else { "FAILED" };
    let mut text = format!("{outcome}: {} acknowledged, {} read", count(verdict.acked), count(verdict.read));
    for (number, name) in [
        (verdict.lost, "lost"),
        (verdict.duplicates, "duplicated"),
        (verdict.reordered, "reordered"),
        (verdict.misplaced, "in a wrong partition"),
        (verdict.invented, "never sent"),
        (verdict.aborted, "of aborted transactions"),
        (verdict.offsets_backwards, "offsets backwards"),
        (verdict.corrupt_batches, "corrupt batches"),
        (verdict.stored_unacked, "stored without acknowledgement"),
        (verdict.foreign, "of other runs"),
    ] {
        if number > 0 {
            write!(text, ", {} {name}", count(number))?;
        }
    }
    if !verdict.complete {
        text.push_str("; NOT EVERYTHING COULD BE READ");
    }
    line(f, "audit", &text)?;
    verdict.examples.iter().try_for_each(|example| line(f, "", example))
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {name:<12}{text}")
}

fn rates(throughput: &Throughput) -> String {
    let Throughput { requests_per_s, records_per_s, mb_per_s } = throughput;
    let whole = |rate: &f64| count(rate.round() as u64);
    format!("{mb_per_s:.1} MB/s   {} requests/s   {} records/s", whole(requests_per_s), whole(records_per_s))
}

fn latencies(summary: &LatencySummary) -> String {
    let LatencySummary { p50, p90, p99, p99_9, p99_99, max, .. } = *summary;
    let parts = [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p99_9), ("p99.99", p99_99), ("max", max)];
    parts.map(|(name, us)| format!("{name} {}", latency(us))).join("   ")
}

/// A latency in the unit that suits it.
pub fn latency(us: f64) -> String {
    match us {
        us if us < 10_000.0 => format!("{} µs", count(us.round() as u64)),
        us if us < 10_000_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// A number with its thousands marked.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Equal texts and how often each comes.
fn grouped(texts: &[String]) -> Vec<(&str, usize)> {
    let mut groups = std::collections::BTreeMap::<&str, usize>::new();
    for text in texts {
        *groups.entry(text).or_default() += 1;
    }
    groups.into_iter().collect()
}
