//! The load generator `weir-load`: its command lines for each load, and the figures in its report.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitStatus;

use serde_json::Value;

use crate::cases::{Batch, Load, Metric, Pace};
use crate::record::Settings;

/// The form of the report that [`Report`] reads.
const SCHEMA: u64 = 1;

/// Whom the generator talks to, and how topics are made.
#[derive(Debug)]
pub struct Target {
    /// `host:port`.
    pub bootstrap: String,
    /// True for `flush.messages=1`.
    pub flush_each: bool,
    /// `retention.bytes`, where given.
    pub retention_bytes: Option<u64>,
}

/// How long a load runs.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Seconds before the measurement.
    pub warmup_seconds: u64,
    /// Seconds of the measurement.
    pub measured_seconds: u64,
}

/// Arguments that make a topic and write a record to each of its partitions.
pub fn create(target: &Target, topic: &str, partitions: u32) -> Vec<String> {
    let mut arguments = Arguments::new("produce", target, topic, partitions);
    arguments.add("--acks", 1).add("--connections", partitions).add("--in-flight", 1).add("--batch-records", 1);
    arguments.add("--warmup", 0).add("--records", partitions);
    arguments.0
}

/// Arguments that write [`Load::PREFILL_BYTES`] to a topic that is to be read.
pub fn prefill(target: &Target, topic: &str, partitions: u32) -> Vec<String> {
    const RECORD_BYTES: u64 = 1024;
    let mut arguments = Arguments::new("produce", target, topic, partitions);
    arguments.add("--acks", 1).add("--connections", partitions).add("--in-flight", 5);
    arguments.add("--batch-bytes", 64 << 10).add("--record-size", RECORD_BYTES);
    arguments.add("--warmup", 0).add("--records", Load::PREFILL_BYTES / RECORD_BYTES);
    arguments.0
}

/// Arguments for the load of a case on `topic`, measured on the process `broker_pid`, with the report going to the file
/// `report`. Must not be asked for idling, where there is no generator.
pub fn measured(
    load: Load,
    target: &Target,
    topic: &str,
    timing: Timing,
    settings: &Settings,
    broker_pid: u32,
    report: &str,
) -> Vec<String> {
    let mode = match load {
        Load::Produce { .. } | Load::OtherCore { .. } | Load::Transactions { .. } | Load::Idle => "produce",
        Load::Fetch { .. } => "fetch",
        Load::EndToEnd { .. } => "e2e",
        Load::Groups { .. } => "group",
    };
    let mut arguments = Arguments::new(mode, target, topic, load.partitions());
    match load {
        Load::Produce { connections, batch, pace } => {
            arguments.add("--acks", 1).add("--connections", connections);
            arguments.add_batch(batch);
            match pace {
                Pace::Closed { in_flight } => arguments.add("--in-flight", in_flight),
                Pace::Open { rate } => arguments.add("--rate", rate).add("--tick", TICK),
            };
        }
        Load::Fetch { connections, range_bytes } => {
            // Short of the end, where a fetch would wait for more.
            let reread_bytes = Load::PREFILL_BYTES / u64::from(connections) * 9 / 10;
            arguments.add("--connections", connections).add("--fetch-bytes", range_bytes);
            arguments.add("--loop-range", reread_bytes);
        }
        Load::EndToEnd { rate, record_bytes, batch_bytes } => {
            arguments.add("--acks", 1).add("--rate", rate).add("--tick", TICK);
            arguments.add("--record-size", record_bytes).add("--batch-bytes", batch_bytes);
        }
        Load::OtherCore { batch, in_flight } => {
            arguments.add("--acks", 1).add("--connections", 1).add_batch(batch).add("--in-flight", in_flight);
        }
        Load::Groups { groups, members, late_members, .. } => {
            arguments.add("--groups", groups).add("--members", members).add("--late-members", late_members);
        }
        Load::Transactions { connections, batch } => {
            arguments.add("--connections", connections).add_batch(batch);
            arguments.0.push("--transactional".to_owned());
        }
        Load::Idle => {}
    }
    arguments.add("--warmup", format!("{}s", timing.warmup_seconds));
    arguments.add("--duration", format!("{}s", timing.measured_seconds));
    if mode != "group" {
        arguments.add("--threads", settings.load_threads);
    }
    arguments.add("--pin", &settings.load_cores);
    arguments.add("--broker-pid", broker_pid).add("--json", report);
    arguments.0
}

const TICK: &str = "1ms";

struct Arguments(Vec<String>);

impl Arguments {
    fn new(mode: &str, target: &Target, topic: &str, partitions: u32) -> Arguments {
        let mut arguments = Arguments(vec![mode.to_owned(), "--quiet".to_owned()]);
        arguments.add("--bootstrap", &target.bootstrap).add("--topic", topic);
        if mode != "fetch" {
            arguments.add("--partitions", partitions);
            if target.flush_each {
                arguments.add("--topic-config", "flush.messages=1");
            }
            if let Some(bytes) = target.retention_bytes {
                arguments.add("--topic-config", format!("retention.bytes={bytes}"));
            }
        }
        arguments
    }

    fn add_batch(&mut self, batch: Batch) -> &mut Arguments {
        match batch {
            Batch::Bytes(bytes) => self.add("--batch-bytes", bytes),
            Batch::Records { count, bytes } => self.add("--batch-records", count).add("--record-size", bytes),
        }
    }

    fn add(&mut self, name: &str, value: impl fmt::Display) -> &mut Arguments {
        self.0.extend([name.to_owned(), value.to_string()]);
        self
    }
}

/// Whether the generator has written a report: it went through, or its audit failed, or the broker answered with errors. The
/// report says which; every other status means that there was no run.
pub fn has_report(status: ExitStatus) -> bool {
    const AUDIT_FAILED: i32 = 1;
    const NOT_CLEAN: i32 = 4;
    matches!(status.code(), Some(0 | AUDIT_FAILED | NOT_CLEAN))
}

/// A report of the generator.
#[derive(Debug)]
pub struct Report(Value);

/// Why a report could not be used.
#[derive(Debug)]
pub enum ReportError {
    /// There is none, or it cannot be read.
    File(io::Error),
    /// It is not JSON.
    Json(serde_json::Error),
    /// It has another form than this program knows.
    Schema {
        /// The number in it.
        found: Value,
    },
    /// It lacks a figure that the load must have.
    FigureMissing {
        /// Where it should be, as a JSON pointer.
        pointer: &'static str,
    },
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReportError::File(source) => write!(f, "{source}"),
            ReportError::Json(source) => write!(f, "{source}"),
            ReportError::Schema { found } => write!(f, "its schema is {found}, known is {SCHEMA}"),
            ReportError::FigureMissing { pointer } => write!(f, "there is no number at {pointer}"),
        }
    }
}

impl std::error::Error for ReportError {}

impl Report {
    /// Reads the file that the generator wrote.
    pub fn read(path: &Path) -> Result<Report, ReportError> {
        let bytes = fs::read(path).map_err(ReportError::File)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(ReportError::Json)?;
        match value["schema"].as_u64() {
            Some(SCHEMA) => Ok(Report(value)),
            _ => Err(ReportError::Schema { found: value["schema"].clone() }),
        }
    }

    /// The figures that `load` is about, in the units of their names. Must not be asked for a load that is judged from
    /// several reports.
    pub fn figures(&self, load: Load) -> Result<BTreeMap<Metric, f64>, ReportError> {
        load.metrics().iter().map(|&metric| Ok((metric, self.figure(load, metric)?))).collect()
    }

    /// One figure.
    pub fn figure(&self, load: Load, metric: Metric) -> Result<f64, ReportError> {
        let pointer = pointer(load, metric);
        let figure = self.0.pointer(pointer).and_then(Value::as_f64).ok_or(ReportError::FigureMissing { pointer })?;
        Ok(if metric == Metric::RebalanceSeconds { figure / 1e6 } else { figure })
    }

    /// Seconds of processor time of each thread of the broker, by name, as far as the system told.
    pub fn broker_threads(&self) -> Vec<(&str, f64)> {
        let threads = self.0["broker_cpu"]["threads"].as_array().map(Vec::as_slice).unwrap_or_default();
        threads.iter().filter_map(|thread| Some((thread["name"].as_str()?, thread["total_s"].as_f64()?))).collect()
    }

    /// Everything that stands against taking the figures at face value, in words.
    pub fn flags(&self) -> Vec<String> {
        let list = |name: &str| self.0[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut flags: Vec<String> = list("reasons")
            .iter()
            .map(|reason| reason["text"].as_str().map_or_else(|| reason.to_string(), str::to_owned))
            .collect();
        if self.0["honest"] != true && flags.is_empty() {
            flags.push("the generator calls the run dishonest without a reason".into());
        }
        if self.0["kept_up"] == false {
            let records = |which: &str| &self.0["produce"][which]["records"];
            flags.push(format!(
                "the broker fell behind: {} of {} intended records were acknowledged in time",
                records("acked"),
                records("intended")
            ));
        }
        for error in list("errors") {
            let part = |name: &str| error[name].as_str().unwrap_or_default();
            flags.push(format!("the broker answered {} with {} {} times", part("api"), part("name"), error["times"]));
        }
        if self.0["audit"]["passed"] == false {
            let counts = ["lost", "duplicates", "reordered", "misplaced", "invented", "aborted", "corrupt_batches"]
                .map(|name| format!("{name} {}", self.0["audit"][name]));
            flags.push(format!("the audit failed: {}", counts.join(", ")));
        }
        if self.0["outcome"] != "completed" {
            flags.push(format!("the run ended early: {}", self.0["outcome"]));
        }
        flags
    }

    /// Share of the broker's processor time that the compilers of a JVM took, 0 to 1; 0 for other programs.
    pub fn compiling_share(&self) -> f64 {
        // The names of the threads of HotSpot, as far as the system keeps them.
        let compiles = |name: &str| name.starts_with("C1 Compiler") || name.starts_with("C2 Compiler");
        let total = self.0["broker_cpu"]["total_s"].as_f64().unwrap_or_default();
        let compiling: f64 =
            self.broker_threads().iter().filter(|(name, _)| compiles(name)).map(|(_, seconds)| seconds).sum();
        // Without such threads the sum is a zero with a sign.
        if compiling > 0.0 && total > 0.0 { compiling / total } else { 0.0 }
    }

    /// The whole report.
    pub fn into_json(self) -> Value {
        self.0
    }
}

/// Where the report has a figure.
fn pointer(load: Load, metric: Metric) -> &'static str {
    let by_load = |produce, fetch, end_to_end| match load {
        Load::Groups { .. } => unreachable!("groups have figures of their own"),
        Load::Transactions { .. } | Load::Produce { .. } | Load::OtherCore { .. } | Load::Idle => produce,
        Load::Fetch { .. } => fetch,
        Load::EndToEnd { .. } => end_to_end,
    };
    match (load, metric) {
        (Load::Groups { .. }, Metric::P50Micros) => return "/group/commits/latency_us/p50",
        (Load::Groups { .. }, Metric::P99Micros) => return "/group/commits/latency_us/p99",
        (Load::Transactions { .. }, Metric::P50Micros) => return "/produce/transactions/commit_latency_us/p50",
        (Load::Transactions { .. }, Metric::P99Micros) => return "/produce/transactions/commit_latency_us/p99",
        _ => {}
    }
    match metric {
        Metric::RebalanceSeconds => "/group/rebalance_us/max",
        Metric::RebalanceAfterLastMicros => "/group/rebalance_after_last_us/p50",
        // Of several reports; the caller knows which is which.
        Metric::PlainMegabytesPerSecond | Metric::TransactionalShare => "/produce/throughput/mb_per_s",
        Metric::MegabytesPerSecond => {
            by_load("/produce/throughput/mb_per_s", "/fetch/throughput/mb_per_s", "/fetch/throughput/mb_per_s")
        }
        // A report knows nothing of the place of its partition; the caller does.
        Metric::CpuSecondsPerGb
        | Metric::SameCoreCpuSecondsPerGb
        | Metric::OtherCoreCpuSecondsPerGb
        | Metric::OtherCoreFactor => "/broker_cpu/s_per_gb",
        Metric::CpuMicrosPerRequest => "/broker_cpu/us_per_request",
        Metric::CpuCores => "/broker_cpu/cores",
        Metric::P50Micros => {
            by_load("/produce/ack_latency_us/p50", "/fetch/latency_us/p50", "/end_to_end_latency_us/p50")
        }
        Metric::P99Micros => {
            by_load("/produce/ack_latency_us/p99", "/fetch/latency_us/p99", "/end_to_end_latency_us/p99")
        }
        Metric::P999Micros => {
            by_load("/produce/ack_latency_us/p99_9", "/fetch/latency_us/p99_9", "/end_to_end_latency_us/p99_9")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cases::{CASES, find};
    use crate::process::TempDir;

    /// A report as the generator writes it, cut to what is read here.
    fn sample() -> Value {
        let latency = json!({ "count": 10, "p50": 200.0, "p99": 700.0, "p99_9": 4700.0, "max": 9000.0 });
        json!({
            "schema": 1,
            "outcome": "completed",
            "produce": {
                "intended": { "records": 1000 },
                "acked": { "records": 1000 },
                "throughput": { "mb_per_s": 530.5 },
                "ack_latency_us": latency.clone(),
                "transactions": { "commit_latency_us": latency.clone() },
            },
            "group": {
                "commits": { "latency_us": latency.clone() },
                "rebalance_us": { "max": 1_700_000.0 },
                "rebalance_after_last_us": { "p50": 900.0 },
            },
            "fetch": { "throughput": { "mb_per_s": 2520 }, "latency_us": latency.clone() },
            "end_to_end_latency_us": latency,
            "errors": [],
            "audit": { "passed": true, "lost": 0 },
            "broker_cpu": {
                "total_s": 3.0,
                "cores": 0.98,
                "s_per_gb": 1.85,
                "us_per_request": 121.0,
                "threads": [{ "name": "weir", "total_s": 0.5 }, { "name": "weir-core-1", "total_s": 0.25 }],
            },
            "kept_up": true,
            "honest": true,
            "reasons": [],
        })
    }

    fn read(value: &Value) -> Result<Report, ReportError> {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-report-test").unwrap();
        let path = temp.path().join("report.json");
        fs::write(&path, value.to_string()).unwrap();
        Report::read(&path)
    }

    fn target() -> Target {
        Target { bootstrap: "127.0.0.1:9092".into(), flush_each: false, retention_bytes: None }
    }

    fn settings() -> Settings {
        crate::record::tests::circumstances().settings
    }

    #[test]
    fn every_load_finds_its_figures() {
        let report = read(&sample()).unwrap();
        let measured_once = |load| !matches!(load, Load::Idle | Load::OtherCore { .. } | Load::Transactions { .. });
        for case in CASES.iter().filter(|case| measured_once(case.load)) {
            let figures = report.figures(case.load).unwrap();
            assert_eq!(figures.len(), case.load.metrics().len(), "{}", case.name);
        }
        let figures = report.figures(find("produce-64k").unwrap().load).unwrap();
        assert_eq!(figures[&Metric::MegabytesPerSecond], 530.5);
        assert_eq!(figures[&Metric::P999Micros], 4700.0);
        let figures = report.figures(find("fetch-1m").unwrap().load).unwrap();
        assert_eq!(figures[&Metric::MegabytesPerSecond], 2520.0);
        let figures = report.figures(find("rebalance-100").unwrap().load).unwrap();
        assert_eq!(figures[&Metric::RebalanceSeconds], 1.7);
        let transactions = find("transactions-16k").unwrap().load;
        assert_eq!(report.figure(transactions, Metric::P99Micros).unwrap(), 700.0);
        assert_eq!(report.flags(), Vec::<String>::new());
        assert_eq!(report.broker_threads(), [("weir", 0.5), ("weir-core-1", 0.25)]);
        assert!(report.compiling_share().is_sign_positive() && report.compiling_share() == 0.0);
    }

    #[test]
    fn time_of_compilers_is_a_share_of_the_brokers() {
        let mut value = sample();
        value["broker_cpu"]["threads"] = json!([
            { "name": "C2 CompilerThre", "total_s": 0.5 },
            { "name": "C1 CompilerThre", "total_s": 0.25 },
            { "name": "data-plane-kafk", "total_s": 1.0 },
        ]);
        assert_eq!(read(&value).unwrap().compiling_share(), 0.75 / 3.0);
        value["broker_cpu"] = Value::Null;
        assert_eq!(read(&value).unwrap().compiling_share(), 0.0);
    }

    #[test]
    fn doubts_are_carried_through() {
        let mut value = sample();
        value["honest"] = json!(false);
        value["reasons"] = json!([{ "code": "generator_cpu", "text": "a generator thread used 99 %" }]);
        value["kept_up"] = json!(false);
        value["produce"]["acked"]["records"] = json!(900);
        value["errors"] =
            json!([{ "api": "Produce", "code": 7, "name": "REQUEST_TIMED_OUT", "times": 3, "records": 30 }]);
        value["audit"] = json!({ "passed": false, "lost": 5, "duplicates": 0 });
        value["outcome"] = json!("interrupted");
        let flags = read(&value).unwrap().flags();
        let expected = [
            "a generator thread used 99 %",
            "900 of 1000 intended",
            "Produce with REQUEST_TIMED_OUT 3 times",
            "lost 5",
            "ended early",
        ];
        assert_eq!(flags.len(), expected.len(), "{flags:?}");
        for (flag, words) in flags.iter().zip(expected) {
            assert!(flag.contains(words), "{flag}");
        }

        let mut silent = sample();
        silent["honest"] = json!(false);
        assert_eq!(read(&silent).unwrap().flags().len(), 1);
    }

    #[test]
    fn a_report_of_another_form_or_with_a_hole_is_refused() {
        let mut other = sample();
        other["schema"] = json!(2);
        assert!(matches!(read(&other), Err(ReportError::Schema { .. })));
        assert!(matches!(read(&json!("no object")), Err(ReportError::Schema { .. })));
        let mut hole = sample();
        hole["broker_cpu"] = Value::Null;
        let load = find("produce-64k").unwrap().load;
        let missing = read(&hole).unwrap().figures(load).unwrap_err();
        assert!(missing.to_string().contains("/broker_cpu/s_per_gb"), "{missing}");
        assert!(matches!(Report::read(Path::new("/no/such/file")), Err(ReportError::File(_))));
    }

    #[test]
    fn command_lines_say_what_the_table_says() {
        let line = |name: &str, target: &Target| {
            let timing = Timing { warmup_seconds: 3, measured_seconds: 6 };
            measured(find(name).unwrap().load, target, "load", timing, &settings(), 42, "r.json").join(" ")
        };
        assert_eq!(
            line("fleet-170b", &target()),
            "produce --quiet --bootstrap 127.0.0.1:9092 --topic load --partitions 64 --acks 1 --connections 64 \
             --batch-records 1 --record-size 100 --in-flight 10 --warmup 3s --duration 6s --threads 1 --pin 1 \
             --broker-pid 42 --json r.json"
        );
        assert!(line("trickle", &target()).contains(" --rate 1000 --tick 1ms "));
        assert!(line("e2e-1m", &target()).starts_with("e2e "));
        assert!(line("fetch-1m", &target()).contains(" --fetch-bytes 1048576 --loop-range 57600000 "));
        assert!(!line("flush-16k", &target()).contains("flush.messages"));
        assert!(
            line("other-core", &target()).contains(" --partitions 1 --acks 1 --connections 1 --batch-bytes 65536 ")
        );
        assert_eq!(
            line("rebalance-100", &target()),
            "group --quiet --bootstrap 127.0.0.1:9092 --topic load --partitions 1000 --groups 1 --members 100 \
             --late-members 4 --warmup 3s --duration 6s --pin 1 --broker-pid 42 --json r.json"
        );
        let text = line("transactions-16k", &target());
        assert!(text.contains(" --connections 32 --batch-records 100 --record-size 150 --transactional "), "{text}");
        let flushed = Target { flush_each: true, retention_bytes: Some(5), ..target() };
        let text = line("flush-16k", &flushed);
        assert!(text.contains(" --topic-config flush.messages=1 --topic-config retention.bytes=5 "), "{text}");
    }
}
