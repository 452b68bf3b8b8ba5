//! `weir-load`: see the library for what it does and `README.md` for how it is used.
//!
//! Exit codes: 0 the run went through; 1 the audit failed; 2 the command line is wrong; 3 the run could not begin or be
//! judged; 4 the broker answered with errors or connections were lost.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use loadgen::cli::{Cli, Invocation};
use loadgen::crew::Observers;
use loadgen::progress::Progress;
use loadgen::report::Report;
use loadgen::run::run;
use loadgen::worker;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

const AUDIT_FAILED: u8 = 1;
const WRONG_COMMAND_LINE: u8 = 2;
const NO_RUN: u8 = 3;
const NOT_CLEAN: u8 = 4;
/// What a shell reports of a process that an interrupt ended.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let invocation = match Cli::parse().into_invocation() {
        Ok(invocation) => invocation,
        Err(error) => {
            stdio::say(&format!("weir-load: {error}\n"));
            return ExitCode::from(WRONG_COMMAND_LINE);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = stop_on_signals(&stop) {
        stdio::say(&format!("weir-load: cannot listen for signals: {error}\n"));
        return ExitCode::from(NO_RUN);
    }
    allow_many_connections();
    match execute(&invocation, &stop) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            stdio::say(&format!("weir-load: {error}\n"));
            ExitCode::from(NO_RUN)
        }
    }
}

/// Runs, reports, and answers the exit code.
fn execute(invocation: &Invocation, stop: &Arc<AtomicBool>) -> Result<u8, Box<dyn std::error::Error>> {
    let pin = &invocation.plan.generator.pin;
    if !pin.is_empty() {
        // The supervising thread too must stay off the broker's processors; those of the load then take one each.
        worker::pin(pin)?;
    }
    let progress = if invocation.progress { Progress::on_stderr() } else { Progress::Silent };
    let observers = Observers { meter: invocation.meter.as_ref(), progress: &progress, stop };
    let outcome = run(&invocation.plan, &observers);
    progress.end();
    let outcome = outcome?;
    let report = Report::new(&invocation.plan, invocation.meter.as_ref(), &outcome);
    let mut text = report.to_string();
    if let Some(path) = &invocation.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        match path.as_os_str() == "-" {
            true => text = json,
            false => {
                std::fs::write(path, json).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
        }
    }
    stdio::print(&text).map_err(|error| format!("cannot write to standard output: {error}"))?;
    Ok(match (report.audit_passed(), report.is_clean()) {
        (false, _) => AUDIT_FAILED,
        (true, false) => NOT_CLEAN,
        (true, true) => 0,
    })
}

/// Raises the soft limit of open files to the hard one: each connection is a file. A refusal shows when a connection is
/// refused, with its reason.
fn allow_many_connections() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The first SIGINT or SIGTERM ends the load early, with a report; the second ends the process.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> nix::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Every thread made from here on inherits the mask, so that only the one below takes these signals.
    signals.thread_block()?;
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            if stop.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED);
            }
        }
    });
    Ok(())
}
