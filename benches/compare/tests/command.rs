//! The program as its users meet it, as far as nothing is measured: its output and exit codes.

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

fn compare(arguments: &[&str], stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        Command::new(env!("CARGO_BIN_EXE_compare")).args(arguments).stdout(stdout).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_reader_that_has_gone_is_no_fault() {
    for arguments in ["--list", "--help", "--version"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(compare(&[arguments], writer), (Some(0), String::new()), "{arguments}");
    }
}

#[test]
fn a_list_that_cannot_be_written_is_a_fault() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, said) = compare(&["--list"], full);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("compare: cannot write to standard output: "), "{said}");
}
