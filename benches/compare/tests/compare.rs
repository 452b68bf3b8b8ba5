//! Runs the program itself, with Apache Kafka on both sides. Needs Java, Maven, two processors and, the first time, the network.

use std::path::{Path, PathBuf};
use std::process::Command;

use compare::record::{Folder, Outcome};

/// A directory that is deleted in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let path = std::env::temp_dir().join(format!("weir-compare-test-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn compare(scratch: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--kafka-on-both-sides", "--quick", "--class", "3", "--case", "flush-16k", "--out"])
        .arg(scratch.join("results"))
        .arg("--data-dir")
        .arg(scratch)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    errors
}

#[test]
#[ignore = "builds weir-load and starts Apache Kafka: needs Java, Maven and the network"]
fn a_quick_comparison_leaves_a_report_and_is_not_run_twice() {
    let scratch = Scratch::new();
    let said = compare(&scratch.0);
    assert!(said.contains("[2/2] class 3 flush-16k round 0 weir"), "{said}");

    let folder = scratch.0.join("results");
    let records = Folder::at(&folder).records().unwrap();
    assert_eq!(records.len(), 2);
    for record in &records {
        let Outcome::Measured { report, .. } = &record.outcome else { panic!("{record:?}") };
        assert!(report["produce"]["acked"]["records"].as_u64().unwrap() > 0, "{record:?}");
        assert!(record.noise.is_some());
        let command = record.load_command.join(" ");
        assert!(command.contains("--partitions 8 --topic-config flush.messages=1 "), "{command}");
    }
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(readme.contains("**16 KiB × 8 connections, 1 in flight each**"), "{readme}");
    assert!(std::fs::read_to_string(folder.join("class-3.svg")).unwrap().contains("</svg>"));
    let left: Vec<_> =
        std::fs::read_dir(scratch.0.join("compare-data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "the brokers' data is deleted");

    let said = compare(&scratch.0);
    assert!(!said.contains("class 3 flush-16k"), "what is there is not run again\n{said}");
}
