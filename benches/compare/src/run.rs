//! The runs themselves: one broker and one generator at a time, the sides taking turns.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cases::{Case, Class, Load, Metric};
use crate::generator;
use crate::kafka::{Broker, BrokerError, BrokerOptions, Jars};
use crate::machine::{Noise, NoiseSample, available_memory_bytes, free_disk_bytes, process_cpu_ns, touch_memory};
use crate::process::{TempDir, last_lines, terminate};
use crate::record::{Folder, FolderError, Outcome, Record, Settings, Side};
use crate::weir::{Weir, WeirError, WeirOptions};

/// Disk that is never used: a full file system would hurt more than this program.
const DISK_RESERVE_BYTES: u64 = 4_000_000_000;
/// What small requests before a run may write in a second; far above what any peer does with them.
const PREWARM_BYTES_PER_SECOND: u64 = 500_000_000;
/// The heap of the JVM and a little more, which a run touches besides the page cache.
const BROKER_MEMORY_BYTES: u64 = 2_000_000_000;
/// Of the memory that could be had, the share that is touched at most: nothing else may be pushed out.
const TOUCH_SHARE: f64 = 0.6;
/// An idle broker wakes so rarely that a short look sees chance.
const IDLE_SECONDS_MIN: u64 = 20;
/// Time that a generator gets beyond its own plan: connecting, draining, reading back for its audit.
const GENERATOR_GRACE: Duration = Duration::from_secs(90);
const GENERATOR_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// In the generator's own directory, so that recorded command lines hold no path of this machine.
const REPORT_FILE: &str = "report.json";
/// How often a new topic is tried before it is given up.
const CREATE_ATTEMPTS: u32 = 50;
/// After so many failed runs of one side in a row there is no use in going on.
const FAILURES_MAX: usize = 3;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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
    let total = plan.rounds as usize * plan.cases.len() * Side::BOTH.len();
    let (mut number, mut failed) = (0, 0);
    let mut in_a_row = BTreeMap::<Side, usize>::new();
    for round in 0..plan.rounds {
        for &(class, case) in &plan.cases {
            for (position, side) in (0..).zip(order(round)) {
                number += 1;
                if folder.has(class, case.name, round, side) {
                    continue;
                }
                check_disk(plan, case)?;
                eprint!("[{number}/{total}] class {} {} round {round} {}: ", class.number(), case.name, side.name());
                let record = run_one(plan, class, case, round, position, side).inspect_err(|_| eprintln!())?;
                eprintln!("{}", in_short(case, &record));
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
    format!("{}{doubts}", figures.join(", "))
}

fn check_disk(plan: &Plan, case: &'static Case) -> Result<(), RunError> {
    let needed = written_bytes(&plan.settings, case) + DISK_RESERVE_BYTES;
    let free = free_disk_bytes(&plan.data_parent).map_err(RunError::Disk)?;
    if free < needed {
        return Err(RunError::TooLittleSpace { case: case.name, path: plan.data_parent.clone(), needed, free });
    }
    Ok(())
}

/// What a run writes at most.
fn written_bytes(settings: &Settings, case: &Case) -> u64 {
    let loaded_seconds = settings.warmup_seconds + settings.measured_seconds;
    let prefill = if matches!(case.load, Load::Fetch { .. }) { Load::PREFILL_BYTES } else { 0 };
    case.write_mb_per_s_max * 1_000_000 * loaded_seconds + settings.prewarm_seconds * PREWARM_BYTES_PER_SECOND + prefill
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

/// Why one run failed. The comparison goes on.
#[derive(Debug)]
enum Failure {
    Interrupted,
    Memory(io::Error),
    Kafka(BrokerError),
    Weir(WeirError),
    NoWeir,
    Directory(io::Error),
    GeneratorStart(io::Error),
    GeneratorFailed { status: ExitStatus, output: String, broker: Option<String> },
    GeneratorStuck { after: Duration },
    DiskFilling { free: u64 },
    Report(generator::ReportError),
    Proc(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Interrupted => write!(f, "interrupted"),
            Failure::Memory(source) => write!(f, "reading how much memory is available: {source}"),
            Failure::Kafka(source) => write!(f, "{source}"),
            Failure::Weir(source) => write!(f, "{source}"),
            Failure::NoWeir => write!(f, "the program weir was not given"),
            Failure::Directory(source) => write!(f, "the generator's directory: {source}"),
            Failure::GeneratorStart(source) => write!(f, "weir-load did not start: {source}"),
            Failure::GeneratorFailed { status, output, broker } => {
                write!(f, "weir-load failed ({status}): {output}")?;
                match broker {
                    Some(log) => write!(f, "\nand the broker had ended: {log}"),
                    None => Ok(()),
                }
            }
            Failure::GeneratorStuck { after } => write!(f, "weir-load did not end within {} s", after.as_secs()),
            Failure::DiskFilling { free } => {
                write!(f, "stopped because only {} MB of disk were left", free / 1_000_000)
            }
            Failure::Report(source) => write!(f, "weir-load's report: {source}"),
            Failure::Proc(source) => write!(f, "reading /proc: {source}"),
        }
    }
}

fn measure(
    plan: &Plan,
    class: Class,
    case: &'static Case,
    side: Side,
    record: &mut Record,
) -> Result<Outcome, Failure> {
    let settings = &plan.settings;
    record.touched_bytes = bytes_to_touch(settings, case).map_err(Failure::Memory)?;
    touch_memory(record.touched_bytes);
    let mut broker = RunningBroker::start(plan, class, side)?;
    let bench = Bench { plan, dir: TempDir::create(&plan.data_parent, "weir-load").map_err(Failure::Directory)? };
    let target = generator::Target {
        bootstrap: broker.bootstrap(),
        flush_each: side_flushes(plan, class, side),
        retention_bytes: settings.retention_bytes,
    };
    if settings.prewarm_seconds > 0 {
        bench.create_topic(&generator::create(&target, None), &mut broker)?;
        let arguments = generator::prewarm(&target, case.load, settings.prewarm_seconds);
        bench.load_cleanly(&arguments, Duration::from_secs(settings.prewarm_seconds), &mut broker)?;
    }
    let outcome = match case.load {
        Load::Idle => bench.idle(record, &broker)?,
        load => {
            bench.create_topic(&generator::create(&target, Some(load)), &mut broker)?;
            if let Load::Fetch { connections, .. } = load {
                bench.load_cleanly(&generator::prefill(&target, connections), Duration::ZERO, &mut broker)?;
            }
            bench.loaded(load, &target, record, &mut broker)?
        }
    };
    broker.stop()?;
    Ok(outcome)
}

/// Kafka flushes in its class; where it stands in for Weir it does whatever the other side does, so that both are equal.
fn side_flushes(plan: &Plan, class: Class, side: Side) -> bool {
    class.kafka_flushes() && (side == Side::Kafka || plan.settings.kafka_on_both_sides)
}

fn bytes_to_touch(settings: &Settings, case: &Case) -> io::Result<u64> {
    let limit = (available_memory_bytes()? as f64 * TOUCH_SHARE) as u64;
    let wanted = settings.touch_bytes.unwrap_or_else(|| written_bytes(settings, case) + BROKER_MEMORY_BYTES);
    Ok(wanted.min(limit))
}

/// The generator's side of one run.
struct Bench<'a> {
    plan: &'a Plan,
    dir: TempDir,
}

impl Bench<'_> {
    /// Runs the load of a case and reads its figures.
    fn loaded(
        &self,
        load: Load,
        target: &generator::Target,
        record: &mut Record,
        broker: &mut RunningBroker,
    ) -> Result<Outcome, Failure> {
        let settings = &self.plan.settings;
        let arguments = generator::measured(load, target, settings, broker.pid(), REPORT_FILE);
        record.load_command = std::iter::once("weir-load".to_owned()).chain(arguments.iter().cloned()).collect();
        let planned = Duration::from_secs(settings.warmup_seconds + settings.measured_seconds);
        let before = NoiseSample::now().map_err(Failure::Proc)?;
        let status = self.load(&arguments, planned)?;
        if !generator::has_report(status) {
            return Err(self.failed(status, broker));
        }
        record.noise = Some(noise_since(&before)?);
        let report = generator::Report::read(&self.dir.path().join(REPORT_FILE)).map_err(Failure::Report)?;
        let figures = report.figures(load).map_err(Failure::Report)?;
        Ok(Outcome::Measured { figures, flags: report.flags(), report: report.into_json() })
    }

    /// Watches a broker that nobody talks to.
    fn idle(&self, record: &mut Record, broker: &RunningBroker) -> Result<Outcome, Failure> {
        let settings = &self.plan.settings;
        // What the broker does after its last client has gone is not idling yet.
        self.wait(Duration::from_secs(settings.warmup_seconds))?;
        let before = NoiseSample::now().map_err(Failure::Proc)?;
        let cpu_before = process_cpu_ns(broker.pid()).map_err(Failure::Proc)?;
        let started = Instant::now();
        self.wait(Duration::from_secs(settings.measured_seconds.max(IDLE_SECONDS_MIN)))?;
        let cpu = process_cpu_ns(broker.pid()).map_err(Failure::Proc)?.saturating_sub(cpu_before);
        let cores = cpu as f64 / started.elapsed().as_nanos() as f64;
        record.noise = Some(noise_since(&before)?);
        Ok(Outcome::Measured {
            figures: BTreeMap::from([(Metric::CpuCores, cores)]),
            flags: Vec::new(),
            report: serde_json::Value::Null,
        })
    }

    /// Makes a topic and returns when every partition takes records: a broker may name itself as the leader of a new partition
    /// and refuse its records for a moment.
    fn create_topic(&self, arguments: &[String], broker: &mut RunningBroker) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            match self.load_cleanly(arguments, Duration::ZERO, broker) {
                Err(Failure::GeneratorFailed { .. }) if attempt < CREATE_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs the generator to its end; anything but a clean run is a failure.
    fn load_cleanly(&self, arguments: &[String], planned: Duration, broker: &mut RunningBroker) -> Result<(), Failure> {
        let status = self.load(arguments, planned)?;
        if status.success() { Ok(()) } else { Err(self.failed(status, broker)) }
    }

    fn failed(&self, status: ExitStatus, broker: &mut RunningBroker) -> Failure {
        let output = last_lines(&self.output_file(), 20);
        Failure::GeneratorFailed { status, output, broker: broker.last_words() }
    }

    fn output_file(&self) -> PathBuf {
        self.dir.path().join("output")
    }

    /// Runs the generator to its end, while watching the disk and the signal.
    fn load(&self, arguments: &[String], planned: Duration) -> Result<ExitStatus, Failure> {
        let output = std::fs::File::create(self.output_file()).map_err(Failure::Directory)?;
        let errors = output.try_clone().map_err(Failure::Directory)?;
        let mut child = Command::new("taskset")
            .args(["--cpu-list", &self.plan.settings.load_cores])
            .arg(&self.plan.weir_load)
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Failure::GeneratorStart)?;
        let outcome = self.watch(&mut child, planned + GENERATOR_GRACE);
        if outcome.is_err() {
            // Why it has to end says more than whether it ended by itself.
            let _ = terminate(&mut child, GENERATOR_STOP_TIMEOUT);
        }
        outcome
    }

    fn watch(&self, child: &mut Child, limit: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait().map_err(Failure::GeneratorStart)? {
                return Ok(status);
            }
            if self.plan.interrupted.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            let free = free_disk_bytes(&self.plan.data_parent).map_err(Failure::Directory)?;
            if free < DISK_RESERVE_BYTES / 2 {
                return Err(Failure::DiskFilling { free });
            }
            if Instant::now() > deadline {
                return Err(Failure::GeneratorStuck { after: limit });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn wait(&self, duration: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            if self.plan.interrupted.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            std::thread::sleep(POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}

fn noise_since(before: &NoiseSample) -> Result<Noise, Failure> {
    Ok(before.until(&NoiseSample::now().map_err(Failure::Proc)?))
}

/// The broker of a run. Dropping it stops it and deletes its data.
enum RunningBroker {
    Weir(Weir),
    Kafka(Broker),
}

impl RunningBroker {
    fn start(plan: &Plan, class: Class, side: Side) -> Result<RunningBroker, Failure> {
        let cores = &plan.settings.broker_cores;
        match side {
            Side::Weir if !plan.settings.kafka_on_both_sides => {
                let program: &Path = plan.weir.as_deref().ok_or(Failure::NoWeir)?;
                let options =
                    WeirOptions { program, parent_dir: &plan.data_parent, cores, durability: class.weir_durability() };
                Weir::start(&options).map(RunningBroker::Weir).map_err(Failure::Weir)
            }
            Side::Weir | Side::Kafka => {
                let options = BrokerOptions {
                    cpus: Some(cores.clone()),
                    parent_dir: Some(plan.data_parent.clone()),
                    ..BrokerOptions::default()
                };
                Broker::start(&plan.jars, &options).map(RunningBroker::Kafka).map_err(Failure::Kafka)
            }
        }
    }

    fn bootstrap(&self) -> String {
        match self {
            RunningBroker::Weir(weir) => weir.bootstrap().to_owned(),
            RunningBroker::Kafka(kafka) => kafka.bootstrap(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            RunningBroker::Weir(weir) => weir.pid(),
            RunningBroker::Kafka(kafka) => kafka.pid(),
        }
    }

    /// The end of the log of a broker that ended by itself.
    fn last_words(&mut self) -> Option<String> {
        match self {
            RunningBroker::Weir(weir) => weir.last_words(),
            RunningBroker::Kafka(kafka) => kafka.last_words(),
        }
    }

    fn stop(self) -> Result<(), Failure> {
        match self {
            RunningBroker::Weir(weir) => weir.stop().map_err(Failure::Weir),
            RunningBroker::Kafka(kafka) => kafka.stop().map_err(Failure::Kafka),
        }
    }
}
