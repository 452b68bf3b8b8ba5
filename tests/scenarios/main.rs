//! What the users of tutorials and of the programs around Apache Kafka do, from the first record to the last, each with a
//! broker of its own. The programs are theirs or written by us after their manuals; nothing in them knows Weir.
//!
//! `cargo test --test scenarios -- --ignored` runs them against Weir. With `WEIR_TEST_PEER=kafka` they run against Apache
//! Kafka, which shows that what they expect is what Kafka does.

mod clients;
mod connect;
mod console;
mod features;
mod group;
mod membership;
mod numbers;
mod postgres;
mod sensors;
mod spark;
mod streams;
mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::provision;

/// A program of `tests/scenarios/python` with the packages of `[python.PACKAGES]`.
fn python(packages: &str, program: &str) -> Command {
    let mut command = Command::new(provision::python(packages));
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(here("python").join(program));
    command
}

/// The Java launcher for a program of a few seconds, with all jars of a directory.
fn java(jars: &Path) -> Command {
    let mut command = Command::new(provision::kafka().java());
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]);
    command.arg(format!("{}/*", jars.display()));
    command
}

/// A path beside this file.
fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios").join(path)
}
