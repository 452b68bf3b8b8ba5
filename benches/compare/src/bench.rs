//! One run from the generator's side: warm the broker, settle the machine, load, read the figures.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cases::{Batch, Load, Metric, Pace};
use crate::generator::{self, Timing};
use crate::kafka::BrokerError;
use crate::machine::{Noise, NoiseSample, free_disk_bytes, process_cpu_ns, touch_memory, write_back};
use crate::other_core::Placements;
use crate::peer::RunningBroker;
use crate::prewarm::{Prewarm, Slice};
use crate::process::{TempDir, last_lines, terminate};
use crate::record::{Outcome, Record};
use crate::run::{DISK_RESERVE_BYTES, Plan};
use crate::weir::WeirError;

/// Time that a generator gets beyond its own plan: connecting, draining, reading back for its audit.
const GENERATOR_GRACE: Duration = Duration::from_secs(90);
const GENERATOR_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// In the generator's own directory, so that recorded command lines hold no path of this machine.
const REPORT_FILE: &str = "report.json";
/// How often a new topic is tried before it is given up.
const CREATE_ATTEMPTS: u32 = 50;
/// An idle broker wakes so rarely that a short look sees chance.
const IDLE_SECONDS_MIN: u64 = 20;
/// With two cores, all of so many connections are alike once in 32,000 times.
const OTHER_CORE_ATTEMPTS_MAX: u32 = 16;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The generator's side of one run.
pub(crate) struct Bench<'a> {
    plan: &'a Plan,
    dir: TempDir,
}

/// The topic of a measured load.
const TOPIC: &str = "load";

impl<'a> Bench<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Result<Bench<'a>, Failure> {
        let dir = TempDir::create(&plan.data_parent, "weir-load").map_err(Failure::Directory)?;
        Ok(Bench { plan, dir })
    }

    /// Runs the load of a case in slices until it is steady, or for as long as allowed.
    ///
    /// Each slice has a topic of its own, as the measured run has, and its files are deleted afterwards: else the page cache would grow
    /// with every slice, and slices would differ by what the kernel writes back meanwhile.
    pub(crate) fn prewarm(
        &self,
        load: Load,
        figure: Metric,
        target: &generator::Target,
        broker: &mut RunningBroker,
    ) -> Result<Prewarm, Failure> {
        let slice_seconds = self.plan.settings.prewarm_slice_seconds;
        let timing = Timing { warmup_seconds: 0, measured_seconds: slice_seconds };
        let mut prewarm = Prewarm::new(figure, slice_seconds);
        for number in 1..=self.plan.settings.prewarm_max_seconds / slice_seconds {
            let topic = format!("warm{number}");
            self.prepare(load, target, &topic, broker)?;
            let (report, _) = self.run_load(load, target, &topic, timing, broker)?;
            let value = report.figure(load, figure).map_err(Failure::Report)?;
            broker.delete_topic(&topic)?;
            if prewarm.add(Slice { value, compiling: report.compiling_share() }) {
                break;
            }
        }
        Ok(prewarm)
    }

    /// Makes the topic of a load, with what is to be read.
    fn prepare(
        &self,
        load: Load,
        target: &generator::Target,
        topic: &str,
        broker: &mut RunningBroker,
    ) -> Result<(), Failure> {
        // Members of groups make their topic themselves: nothing is written to it.
        if !matches!(load, Load::Groups { .. }) {
            self.create_topic(&generator::create(target, topic, load.partitions()), broker)?;
        }
        if let Load::Fetch { connections, .. } = load {
            self.load_cleanly(&generator::prefill(target, topic, connections), Duration::ZERO, broker)?;
        }
        Ok(())
    }

    /// Leaves nothing to be written back, and memory that the host has backed.
    fn settle(&self, record: &mut Record, touch_bytes: u64) {
        write_back();
        touch_memory(touch_bytes);
        record.touched_bytes = touch_bytes;
    }

    /// Runs the load of a case and reads its figures.
    pub(crate) fn loaded(
        &self,
        load: Load,
        target: &generator::Target,
        touch_bytes: u64,
        record: &mut Record,
        broker: &mut RunningBroker,
    ) -> Result<Outcome, Failure> {
        self.prepare(load, target, TOPIC, broker)?;
        self.settle(record, touch_bytes);
        let before = NoiseSample::now().map_err(Failure::Proc)?;
        let (report, command) = self.run_load(load, target, TOPIC, self.measured(), broker)?;
        record.noise = Some(noise_since(&before)?);
        record.load_command = command;
        // What is deleted need not be written to disk at the broker's stop.
        broker.delete_topic(TOPIC)?;
        let figures = report.figures(load).map_err(Failure::Report)?;
        Ok(Outcome::Measured { figures, flags: report.flags(), report: report.into_json() })
    }

    /// Runs one connection with one partition again and again, until it has been on the partition's core and on another often enough.
    pub(crate) fn other_core(
        &self,
        load: Load,
        target: &generator::Target,
        touch_bytes: u64,
        record: &mut Record,
        broker: &mut RunningBroker,
    ) -> Result<Outcome, Failure> {
        self.settle(record, touch_bytes);
        let before = NoiseSample::now().map_err(Failure::Proc)?;
        let mut found = Placements::default();
        let (mut flags, mut reports) = (Vec::new(), Vec::new());
        while !found.is_enough() {
            if found.attempts() == OTHER_CORE_ATTEMPTS_MAX {
                return Err(Failure::OnOneSideOnly { attempts: OTHER_CORE_ATTEMPTS_MAX });
            }
            let topic = format!("{TOPIC}{}", found.attempts());
            self.prepare(load, target, &topic, broker)?;
            let (report, command) = self.run_load(load, target, &topic, self.measured(), broker)?;
            broker.delete_topic(&topic)?;
            let cpu = report.figure(load, Metric::CpuSecondsPerGb).map_err(Failure::Report)?;
            let place = found.add(&report.broker_threads(), cpu);
            flags.extend(report.flags());
            reports.push(serde_json::json!({ "placement": place, "report": report.into_json() }));
            record.load_command = command;
        }
        record.noise = Some(noise_since(&before)?);
        Ok(Outcome::Measured { figures: found.figures(), flags, report: serde_json::Value::Array(reports) })
    }

    /// Runs producers without transactions and with them, twice each, so that a machine that gets slower hits both.
    pub(crate) fn transactions(
        &self,
        (connections, batch): (u32, Batch),
        target: &generator::Target,
        touch_bytes: u64,
        record: &mut Record,
        broker: &mut RunningBroker,
    ) -> Result<Outcome, Failure> {
        let within = Load::Transactions { connections, batch };
        let without = Load::Produce { connections, batch, pace: Pace::Closed { in_flight: 1 } };
        self.settle(record, touch_bytes);
        let before = NoiseSample::now().map_err(Failure::Proc)?;
        let mut found = BTreeMap::<Metric, Vec<f64>>::new();
        let (mut flags, mut reports) = (Vec::new(), Vec::new());
        for (number, load) in [without, within, within, without].into_iter().enumerate() {
            let topic = format!("{TOPIC}{number}");
            self.prepare(load, target, &topic, broker)?;
            let (report, command) = self.run_load(load, target, &topic, self.measured(), broker)?;
            broker.delete_topic(&topic)?;
            let mut add = |metric, as_metric| {
                let figure = report.figure(load, metric).map_err(Failure::Report)?;
                found.entry(as_metric).or_default().push(figure);
                Ok(())
            };
            if load == within {
                for metric in [Metric::MegabytesPerSecond, Metric::P50Micros, Metric::P99Micros] {
                    add(metric, metric)?;
                }
                record.load_command = command;
            } else {
                add(Metric::MegabytesPerSecond, Metric::PlainMegabytesPerSecond)?;
            }
            flags.extend(report.flags());
            reports.push(report.into_json());
        }
        record.noise = Some(noise_since(&before)?);
        let mean = |figures: &Vec<f64>| figures.iter().sum::<f64>() / figures.len() as f64;
        let mut figures: BTreeMap<Metric, f64> =
            found.iter().map(|(metric, figures)| (*metric, mean(figures))).collect();
        let share = figures[&Metric::MegabytesPerSecond] / figures[&Metric::PlainMegabytesPerSecond];
        figures.insert(Metric::TransactionalShare, share);
        Ok(Outcome::Measured { figures, flags, report: serde_json::Value::Array(reports) })
    }

    fn measured(&self) -> Timing {
        let settings = &self.plan.settings;
        Timing { warmup_seconds: settings.warmup_seconds, measured_seconds: settings.measured_seconds }
    }

    /// Runs a load to its end. Returns the generator's report and command line.
    fn run_load(
        &self,
        load: Load,
        target: &generator::Target,
        topic: &str,
        timing: Timing,
        broker: &mut RunningBroker,
    ) -> Result<(generator::Report, Vec<String>), Failure> {
        let arguments =
            generator::measured(load, target, topic, timing, &self.plan.settings, broker.pid(), REPORT_FILE);
        let status = self.load(&arguments, Duration::from_secs(timing.warmup_seconds + timing.measured_seconds))?;
        if !generator::has_report(status) {
            return Err(self.failed(status, broker));
        }
        let report = generator::Report::read(&self.dir.path().join(REPORT_FILE)).map_err(Failure::Report)?;
        Ok((report, std::iter::once("weir-load".to_owned()).chain(arguments).collect()))
    }

    /// Watches a broker that nobody talks to.
    pub(crate) fn idle(&self, record: &mut Record, broker: &RunningBroker) -> Result<Outcome, Failure> {
        let settings = &self.plan.settings;
        self.settle(record, 0);
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

/// Why one run failed. The comparison goes on.
#[derive(Debug)]
pub(crate) enum Failure {
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
    Deleting { topic: String, source: io::Error },
    OnOneSideOnly { attempts: u32 },
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
            Failure::Deleting { topic, source } => write!(f, "deleting the topic {topic}: {source}"),
            Failure::OnOneSideOnly { attempts } => {
                write!(f, "of {attempts} connections too few were on the core of their partition, or too few were not")
            }
            Failure::Proc(source) => write!(f, "reading /proc: {source}"),
        }
    }
}
