//! Consumer groups: members that join, heartbeat and commit as clients do, and read nothing.
//!
//! ```text
//! run → driver → member → classic, consumer
//!                  ↘ ledger
//! ```
//! One thread carries all members, each on a connection of its own. A run has four parts: all members join and each group
//! settles; late members join one at a time, each a rebalance that is timed; heartbeats and commits are measured while
//! nothing else happens; all leave.

mod classic;
mod consumer;
mod driver;
mod ledger;
mod member;

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use wire::api::ApiKey;

use crate::client::{Client, ClientError};
use crate::clock::{Clock, unix_ms};
use crate::collect::Totals;
use crate::cpu::OwnCpu;
use crate::crew::Observers;
use crate::error::RunError;
use crate::gauges::Gauges;
use crate::group::driver::Driver;
use crate::histogram::LatencySummary;
use crate::plan::{GroupLoad, GroupProtocol, Plan};
use crate::run::Outcome;
use crate::worker::ThreadReport;

/// What a run of groups found.
#[derive(Debug, Serialize)]
pub struct GroupFigures {
    /// Time from the first request of a group's last member to the moment that every partition has its owner; one value
    /// for each group.
    pub formed_us: Option<LatencySummary>,
    /// The same for each member that joined late.
    pub rebalance_us: Option<LatencySummary>,
    /// Of that, what passed after the last member had asked to be in: the broker's own part, and the members' answers.
    /// Classic groups only.
    pub rebalance_after_last_us: Option<LatencySummary>,
    /// Generations or epochs that all groups went through.
    pub rebalances: u64,
    /// Those of them that began within the measurement.
    pub measured_rebalances: u64,
    /// Times that a partition was given to a member while another one had it.
    pub overlaps: u64,
    /// Partitions of all groups that have other than one owner at the end.
    pub not_owned_once: u64,
    /// Heartbeats of the measurement.
    pub heartbeats: Traffic,
    /// Commits of the measurement.
    pub commits: Traffic,
    /// Offsets in a commit, of a member that has the most partitions.
    pub offsets_per_commit: usize,
    /// The time between two heartbeats of a member, in seconds, as the broker or the plan has it.
    pub heartbeat_interval_s: f64,
}

/// Requests of one kind.
#[derive(Debug, Serialize)]
pub struct Traffic {
    /// Requests answered without an error.
    pub answered: u64,
    /// The same in a second.
    pub answered_per_s: f64,
    /// From the write to the answer; counts requests.
    pub latency_us: Option<LatencySummary>,
}

/// What requests and answers are versions of, and what all of them say.
pub(crate) struct Context {
    pub(crate) clock: Clock,
    pub(crate) client_id: String,
    pub(crate) topic: crate::client::Topic,
    pub(crate) partitions: usize,
    pub(crate) versions: Versions,
    pub(crate) heartbeat_ns: u64,
    pub(crate) commit_ns: u64,
    pub(crate) answer_timeout_ns: u64,
}

/// Versions of the APIs that members use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Versions {
    pub(crate) join: i16,
    pub(crate) sync: i16,
    pub(crate) heartbeat: i16,
    pub(crate) leave: i16,
    pub(crate) commit: i16,
    pub(crate) consumer_heartbeat: i16,
}

impl Versions {
    fn agreed(client: &Client, protocol: GroupProtocol) -> Result<Versions, ClientError> {
        let consumer = protocol == GroupProtocol::Consumer;
        let if_consumer = |api, own| if consumer { client.version(api, own) } else { Ok(0) };
        let if_classic = |api, own| if consumer { Ok(0) } else { client.version(api, own) };
        Ok(Versions {
            join: if_classic(ApiKey::JoinGroup, 1..=9)?,
            sync: if_classic(ApiKey::SyncGroup, 0..=5)?,
            heartbeat: if_classic(ApiKey::Heartbeat, 0..=4)?,
            leave: if_classic(ApiKey::LeaveGroup, 0..=5)?,
            // From version 9 on a member of the consumer protocol may commit; later ones name topics by their ids.
            commit: client.version(ApiKey::OffsetCommit, if consumer { 9..=9 } else { 2..=9 })?,
            // Members name themselves from version 1 on.
            consumer_heartbeat: if_consumer(ApiKey::ConsumerGroupHeartbeat, 1..=1)?,
        })
    }
}

/// Carries out `plan`, whose load is `load`.
pub(crate) fn run(plan: &Plan, load: &GroupLoad, observers: &Observers<'_>) -> Result<Outcome, RunError> {
    let mut bootstrap = Client::connect(&plan.target.bootstrap, &plan.target)?;
    let topic = bootstrap.ensure_topic(&plan.target)?;
    let clock = Clock::start();
    let mut gauges = Gauges::new(observers.meter)?;
    let context = Context {
        clock,
        client_id: plan.target.client_id.clone(),
        partitions: topic.partitions.len(),
        topic: topic.clone(),
        versions: Versions::agreed(&bootstrap, load.protocol)?,
        heartbeat_ns: nanos(load.heartbeat_interval),
        commit_ns: nanos(load.commit_interval),
        answer_timeout_ns: nanos(plan.target.answer_timeout),
    };
    let started_unix_ms = unix_ms();
    let mut driver = Driver::new(context, plan, load, &mut bootstrap, observers)?;
    driver.form()?;
    driver.let_late_ones_join()?;

    observers.progress.say("heartbeats and commits");
    driver.spread();
    let measure_ns = clock.now_ns() + nanos(plan.timing.warmup);
    driver.drive(measure_ns);
    let (cpu, begun_ns) = (OwnCpu::now(), clock.now_ns());
    gauges.begin(begun_ns)?;
    driver.measure(true);
    let length = plan.timing.duration.unwrap_or_default();
    driver.drive(begun_ns + nanos(length));
    driver.measure(false);
    let stopped_ns = clock.now_ns();
    gauges.end(stopped_ns);
    let cpu = OwnCpu::now().since(cpu);
    let interrupted = observers.stop.load(Ordering::Relaxed);
    let measured_ns = if interrupted && stopped_ns < measure_ns { 0 } else { stopped_ns - begun_ns };
    let (broker_cpu, steal_share) = gauges.finish();
    let figures = driver.figures(measured_ns);
    driver.end();
    let mut totals = Totals { measured: driver.take_tally(), ..Totals::default() };
    totals.whole_run.add_counts(&totals.measured);
    Ok(Outcome {
        started_unix_ms,
        topic,
        produce_version: None,
        transaction_version: None,
        fetch_version: None,
        batch: None,
        intended_records: None,
        measured_ns,
        rows: Vec::new(),
        totals,
        threads: vec![ThreadReport { cpu, measured_ns, lost: driver.take_lost(), ..ThreadReport::new() }],
        broker_cpu,
        steal_share,
        interrupted,
        verdict: None,
        group: Some(figures),
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
