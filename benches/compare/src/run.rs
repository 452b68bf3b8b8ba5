//! The runs themselves: one broker and one generator at a time, the sides taking turns.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bench::{Bench, Failure};
use crate::cases::{Case, Class, Load};
use crate::cores::CoreList;
use crate::generator;
use crate::kafka::Jars;
use crate::machine::{available_memory_bytes, free_disk_bytes};
use crate::peer::RunningBroker;
use crate::prewarm::Slice;
use crate::record::{Folder, FolderError, Outcome, Record, Settings, Side};

/// Disk that is never used: a full file system would hurt more than this program.
pub(crate) const DISK_RESERVE_BYTES: u64 = 4_000_000_000;
/// The memory of Weir for one core, which it fills as records come and then uses again.
const WEIR_POOL_BYTES: u64 = 1 << 30;
/// Of the memory that could be had, the share that is touched at most: nothing else may be pushed out.
const TOUCH_SHARE: f64 = 0.6;
/// After so many failed runs of one side in a row there is no use in going on.
const FAILURES_MAX: usize = 3;

/// What to run, and with what.
#[derive(Debug)]
pub struct Plan {
    /// Options that go into the report.
    pub settings: Settings,
    /// Rounds of each case.
    pub rounds: u32,
    /// The runs of a round, in order.
    pub cases: Vec<(Class, &'static Case)>,
    /// The program `weir`; not needed where Kafka runs on both sides.
    pub weir: Option<PathBuf>,
    /// The program `weir-load`.
    pub weir_load: PathBuf,
    /// Apache Kafka.
    pub jars: Jars,
    /// Where the brokers keep their data.
    pub data_parent: PathBuf,
    /// Set by a signal.
    pub interrupted: Arc<AtomicBool>,
}

/// Why a comparison stopped before its end.
#[derive(Debug)]
pub enum RunError {
    /// By a signal.
    Interrupted,
    /// A run could fill the disk.
    TooLittleSpace {
        /// The case.
        case: &'static str,
        /// Where the data would go.
        path: PathBuf,
        /// Bytes that the run may write, and the reserve.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// One side fails again and again.
    Hopeless {
        /// Which.
        side: Side,
        /// Why it failed the last time.
        why: String,
    },
    /// The data directory could not be looked at.
    Disk(io::Error),
    /// The results could not be read or written.
    Folder(FolderError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Interrupted => write!(f, "interrupted; the runs so far are kept, the same command continues"),
            RunError::TooLittleSpace { case, path, needed, free } => write!(
                f,
                "a run of {case} may write {} GB to {}, where {} GB are free: free some, choose another place by --data-dir, \
                 or shorten it by --seconds and --warmup",
                needed / 1_000_000_000,
                path.display(),
                free / 1_000_000_000
            ),
            RunError::Hopeless { side, why } => {
                write!(f, "{FAILURES_MAX} runs of {} in a row failed, the last because: {why}", side.name())
            }
            RunError::Disk(source) => write!(f, "the data directory: {source}"),
            RunError::Folder(source) => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs everything in `plan` that `folder` does not have yet. Returns how many runs failed.
///
/// The first round goes through all cases, then the second with the sides in the other order, and so on: within a case they
/// take turns A B B A, and a bad quarter of an hour of the machine hits every case a little instead of one case fully.
pub fn run_all(plan: &Plan, folder: &Folder) -> Result<u32, RunError> {
    // Asked for all cases before the first run, so that an evening's comparison does not end half-way.
    for (_, case) in &plan.cases {
        check_disk(plan, case)?;
    }
    let total = plan.rounds as usize * plan.cases.iter().map(|(_, case)| case.load.sides().len()).sum::<usize>();
    let (mut number, mut failed) = (0, 0);
    let mut in_a_row = BTreeMap::<Side, usize>::new();
    for round in 0..plan.rounds {
        for &(class, case) in &plan.cases {
            let sides = order(round).into_iter().filter(|side| case.load.sides().contains(side));
            for (position, side) in (0..).zip(sides) {
                number += 1;
                if folder.has(class, case.name, round, side) {
                    continue;
                }
                check_disk(plan, case)?;
                let (class_number, name) = (class.number(), case.name);
                stdio::say(&format!("[{number}/{total}] class {class_number} {name} round {round} {}: ", side.name()));
                let record = run_one(plan, class, case, round, position, side).inspect_err(|_| stdio::say("\n"))?;
                stdio::say(&format!("{}\n", in_short(case, &record)));
                folder.add(&record).map_err(RunError::Folder)?;
                let row = in_a_row.entry(side).or_default();
                match record.outcome {
                    Outcome::Measured { .. } => *row = 0,
                    Outcome::Failed { why } => {
                        failed += 1;
                        *row += 1;
                        if *row == FAILURES_MAX {
                            return Err(RunError::Hopeless { side, why });
                        }
                    }
                }
            }
        }
    }
    Ok(failed)
}

/// Who begins alternates, so that neither side always runs after the other.
fn order(round: u32) -> [Side; 2] {
    if round.is_multiple_of(2) { [Side::Kafka, Side::Weir] } else { [Side::Weir, Side::Kafka] }
}

fn in_short(case: &Case, record: &Record) -> String {
    if let Outcome::Failed { why } = &record.outcome {
        // The raw data has all of it.
        return format!("FAILED: {}", why.lines().next().unwrap_or_default());
    }
    let figures: Vec<String> = case
        .load
        .headline()
        .iter()
        .filter_map(|&metric| Some(format!("{} {:.4}", metric.title(), record.figure(metric)?)))
        .collect();
    let flags = record.flags();
    let doubts = if flags.is_empty() { String::new() } else { format!("  (doubtful: {})", flags.join("; ")) };
    let prewarm = match &record.prewarm {
        Some(prewarm) => {
            let in_words = |slice: &Slice| match slice.compiling {
                0.0 => format!("{:.4}", slice.value),
                share => format!("{:.4}/{:.0}%", slice.value, share * 100.0),
            };
            let slices: Vec<String> = prewarm.slices.iter().map(in_words).collect();
            let end = if prewarm.steady { "steady" } else { "not steady" };
            format!("  (prewarm: {}: {end})", slices.join(" "))
        }
        None => String::new(),
    };
    format!("{}{prewarm}{doubts}", figures.join(", "))
}

fn check_disk(plan: &Plan, case: &'static Case) -> Result<(), RunError> {
    let needed = disk_bytes(&plan.settings, case) + DISK_RESERVE_BYTES;
    let free = free_disk_bytes(&plan.data_parent).map_err(RunError::Disk)?;
    if free < needed {
        return Err(RunError::TooLittleSpace { case: case.name, path: plan.data_parent.clone(), needed, free });
    }
    Ok(())
}

/// What a run has on the disk at most. A slice of the prewarming is deleted before the next.
fn disk_bytes(settings: &Settings, case: &Case) -> u64 {
    let prefill = if matches!(case.load, Load::Fetch { .. }) { Load::PREFILL_BYTES } else { 0 };
    let slice_bytes = case.write_mb_per_s_max * 1_000_000 * settings.prewarm_slice_seconds;
    measured_bytes(settings, case).max(slice_bytes) + prefill
}

/// What the warm-up and the measured seconds write at most.
fn measured_bytes(settings: &Settings, case: &Case) -> u64 {
    case.write_mb_per_s_max * 1_000_000 * measured_seconds(settings)
}

fn measured_seconds(settings: &Settings) -> u64 {
    settings.warmup_seconds + settings.measured_seconds
}

fn run_one(
    plan: &Plan,
    class: Class,
    case: &'static Case,
    round: u32,
    position: u32,
    side: Side,
) -> Result<Record, RunError> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut record = Record {
        class: class.number(),
        case: case.name.into(),
        round,
        position,
        side,
        started_unix_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        prewarm: None,
        touched_bytes: 0,
        load_command: Vec::new(),
        noise: None,
        outcome: Outcome::Failed { why: String::new() },
    };
    record.outcome = match measure(plan, class, case, side, &mut record) {
        Ok(outcome) => outcome,
        Err(Failure::Interrupted) => return Err(RunError::Interrupted),
        Err(failure) => Outcome::Failed { why: failure.to_string() },
    };
    Ok(record)
}

fn measure(
    plan: &Plan,
    class: Class,
    case: &'static Case,
    side: Side,
    record: &mut Record,
) -> Result<Outcome, Failure> {
    let settings = &plan.settings;
    let two_or_more = settings.two_or_more_cores();
    let cores = if matches!(case.load, Load::OtherCore { .. }) { &two_or_more } else { &settings.broker_cores };
    let mut broker = RunningBroker::start(plan, class, side, cores)?;
    let bench = Bench::new(plan)?;
    let target = generator::Target {
        bootstrap: broker.bootstrap(),
        flush_each: side_flushes(plan, class, side),
        retention_bytes: settings.retention_bytes,
    };
    if let Some(figure) = case.load.steady_by().filter(|_| settings.prewarm_max_seconds > 0) {
        record.prewarm = Some(bench.prewarm(case.load, figure, &target, &mut broker)?);
    }
    let touch_bytes = bytes_to_touch(settings, class, case, cores).map_err(Failure::Memory)?;
    let outcome = match case.load {
        Load::Idle => bench.idle(record, &broker)?,
        load @ Load::OtherCore { .. } => bench.other_core(load, &target, touch_bytes, record, &mut broker)?,
        Load::Transactions { connections, batch } => {
            bench.transactions((connections, batch), &target, touch_bytes, record, &mut broker)?
        }
        load => bench.loaded(load, &target, touch_bytes, record, &mut broker)?,
    };
    broker.stop()?;
    Ok(outcome)
}

/// Kafka flushes in its class; where it stands in for Weir it does whatever the other side does, so that both are equal.
fn side_flushes(plan: &Plan, class: Class, side: Side) -> bool {
    class.kafka_flushes() && (side == Side::Kafka || plan.settings.kafka_on_both_sides)
}

/// Page cache for all that is written and memory for Weir, the same before the runs of either side.
fn bytes_to_touch(settings: &Settings, class: Class, case: &Case, cores: &str) -> io::Result<u64> {
    let limit = (available_memory_bytes()? as f64 * TOUCH_SHARE) as u64;
    let written = measured_bytes(settings, case);
    // With its records on disk Weir writes past the page cache: then only Kafka fills it.
    let cached = match class.weir_durability() {
        "disk" => written.min(measured_seconds(settings) * case.kafka_mb_per_s_max * 1_000_000),
        _ => written,
    };
    let pool = cores.parse::<CoreList>().map_or(1, |cores| cores.count() as u64) * WEIR_POOL_BYTES;
    // Of its pool a broker takes no more than it is given records.
    let wanted = settings.touch_bytes.unwrap_or_else(|| cached + written.min(pool));
    Ok(wanted.min(limit))
}
