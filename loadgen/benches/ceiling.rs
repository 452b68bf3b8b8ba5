//! What the generator itself can drive: closed loops against a sink on another processor that stores nothing.
//!
//! `cargo bench -p loadgen --bench ceiling -- produce --connections 64 --in-flight 10 --batch-records 1`
//! runs one case; without arguments the cases that the comparison needs are run one after the other. As a test
//! (`cargo test -p loadgen --benches`) all cases run for a moment, on whatever processor is free.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use loadgen::cli::Cli;
use loadgen::crew::Observers;
use loadgen::progress::Progress;
use loadgen::report::Report;
use loadgen::run::run;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

#[path = "../tests/support/mod.rs"]
mod support;

const CASES: [&str; 4] = [
    "produce --connections 64 --in-flight 10 --batch-records 1",
    "produce --connections 64 --in-flight 10 --batch-records 9",
    "produce --connections 4 --in-flight 5 --batch-bytes 64KiB",
    "produce --connections 4 --in-flight 5 --batch-bytes 500KB --record-size 1KiB",
];

fn main() -> ExitCode {
    // Cargo passes `--bench` for a benchmark; every other argument belongs to a case of the caller's own.
    let measure = std::env::args().any(|argument| argument == "--bench");
    let own: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (sink_cpu, load_cpu) = if cpus > 1 { (0, cpus - 1) } else { (0, 0) };
    let cases = if own.is_empty() { CASES.map(str::to_owned).to_vec() } else { vec![own.join(" ")] };
    for case in cases {
        let address = support::sink::start(move || {
            if !measure {
                return;
            }
            let mut set = CpuSet::new();
            set.set(sink_cpu).expect("the first processor");
            sched_setaffinity(Pid::from_raw(0), &set).expect("the first processor may be used");
        });
        let length = match measure {
            true => format!("--duration 3s --warmup 500ms --pin {load_cpu}"),
            false => "--records 1000".to_owned(),
        };
        let line = format!("weir-load {case} {length} --bootstrap {address}");
        let invocation = match Cli::try_parse_from(line.split_whitespace()) {
            Ok(cli) => cli.into_invocation().expect("a sound case"),
            Err(error) => error.exit(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let observers = Observers { meter: None, progress: &Progress::Silent, stop: &stop };
        match run(&invocation.plan, &observers) {
            Ok(outcome) => println!("{}", Report::new(&invocation.plan, None, &outcome)),
            Err(error) => {
                eprintln!("{case}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
