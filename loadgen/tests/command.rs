//! The program as its users meet it: exit codes, output, files, signals; and its README, held against what it writes.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use wire::error::ErrorCode;

use support::broker::{Broker, Fault, Setup};

mod support;

fn weir_load(broker: Option<&Broker>, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-load"));
    command.args(line.split_whitespace());
    if let Some(broker) = broker {
        command.args(["--bootstrap", &broker.address.to_string()]);
    }
    command
}

fn output(broker: Option<&Broker>, line: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = weir_load(broker, line).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn faulty(fault: Fault) -> Broker {
    Broker::start(Setup { fault, ..Setup::default() })
}

#[test]
fn exit_codes_tell_what_happened() {
    let (code, stdout, stderr) = output(Some(&faulty(Fault::None)), "produce --records 10 --audit");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("passed: 1") && stdout.contains("throughput"), "{stdout}");

    let (code, stdout, _) =
        output(Some(&faulty(Fault::Lose(1))), "produce --records 300 --batch-records 10 --audit -q");
    assert_eq!(code, Some(1));
    assert!(stdout.contains("FAILED") && stdout.contains("10 lost"), "{stdout}");

    for wrong in ["produce --audit --acks 0", "produce --no-such-option", "", "fetch --from middle"] {
        let (code, stdout, stderr) = output(None, wrong);
        assert_eq!(code, Some(2), "{wrong}: {stderr}");
        assert!(stdout.is_empty() && !stderr.is_empty());
    }

    let (code, stdout, stderr) = output(Some(&faulty(Fault::None)), "fetch --topic missing");
    assert_eq!(code, Some(3));
    assert!(stdout.is_empty());
    assert_eq!(stderr, "weir-load: topic missing does not exist\n");

    let refusing = faulty(Fault::Refuse(3, ErrorCode::MessageTooLarge));
    let (code, stdout, _) = output(Some(&refusing), "produce --records 300 --batch-records 10 -q");
    assert_eq!(code, Some(4));
    assert!(stdout.contains("Produce MESSAGE_TOO_LARGE × 10 (100 records)"), "{stdout}");
}

#[test]
fn progress_goes_to_standard_error_and_can_be_turned_off() {
    let line = "produce --records 300 --batch-records 10 --warmup 1s";
    let (_, _, stderr) = output(Some(&faulty(Fault::None)), line);
    assert!(stderr.contains("warm-up") && stderr.contains("acked"), "{stderr}");
    let (_, _, stderr) = output(Some(&faulty(Fault::None)), &format!("{line} --quiet"));
    assert_eq!(stderr, "");
}

#[test]
fn readers_that_have_gone_are_no_fault() {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for line in ["produce --records 10 --audit", "produce --records 10 --audit --json -"] {
        let status = weir_load(Some(&faulty(Fault::None)), line).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{line}");
    }
    for line in ["--help", "produce --help", "--version"] {
        let Output { status, stderr, .. } = weir_load(None, line).stdout(closed()).output().unwrap();
        assert_eq!((status.code(), stderr), (Some(0), Vec::new()), "{line}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let line = "produce --records 10 --quiet";
    let Output { status, stderr, .. } = weir_load(Some(&faulty(Fault::None)), line).stdout(full).output().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(String::from_utf8(stderr).unwrap().starts_with("weir-load: cannot write to standard output: "));
}

#[test]
fn an_interrupt_ends_the_run_with_a_report() {
    let broker = faulty(Fault::None);
    let mut child = weir_load(Some(&broker), "produce --duration 1h --warmup 0 --audit -q --json -")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while broker.batches() < 50 {
        std::thread::yield_now();
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["outcome"], "interrupted");
    assert_eq!(report["audit"]["passed"], true, "{report:#}");
}

/// The names of all fields of a report. Those of `config.load` depend on the mode; every mode is asked for.
fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                into.insert(name.clone());
                names(value, into);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

#[test]
fn the_readme_describes_every_field_of_the_report() {
    let readme = include_str!("../README.md");
    let directory = std::env::temp_dir().join(format!("weir-load-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let broker = faulty(Fault::Refuse(7, ErrorCode::RequestTimedOut));
    let own = std::process::id();
    let mut found = BTreeSet::new();
    for (number, line) in [
        format!("produce --records 300 --batch-records 10 --audit --broker-pid {own}"),
        "produce --rate 1000 --records 50 --keys random:3".to_owned(),
        "fetch".to_owned(),
        "e2e --rate 1000 --records 50".to_owned(),
        "produce --transactional --records 20 --batch-records 10 --audit".to_owned(),
        "group --members 2 --late-members 1 --duration 50ms --warmup 0 --heartbeat-interval 5ms --commit-interval 5ms"
            .to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let file = directory.join(format!("{number}.json"));
        let (code, stdout, stderr) = output(Some(&broker), &format!("{line} -q --json {}", file.display()));
        assert!(matches!(code, Some(0 | 4)), "{line}: {stderr}");
        assert!(stdout.starts_with("weir-load "), "the text is written too: {stdout}");
        let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        names(&report, &mut found);
    }
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(found.len() > 80, "{found:?}");
    // Keys and paces are values that serde writes as objects when they carry a number.
    found.remove("random");
    for name in found {
        assert!(readme.contains(&format!("`{name}`")), "`{name}` is not described");
    }
}
