//! Child processes that are not waited for without end, and whose output is shown when they fail.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::Wait;

/// Runs `command` to its end and returns the lines of its standard output. `log` takes what it wrote to standard error.
///
/// # Panics
/// When it does not start, fails or does not end in time; the message carries both streams.
pub fn run(command: &mut Command, log: &Path) -> Vec<String> {
    Running::start(command, log).finish()
}

/// What a program did while it was watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// It printed this.
    Line(String),
    /// It printed nothing yet.
    Nothing,
    /// It has closed its output, which it does when it ends.
    End,
}

/// A program that is running.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with pipes for its input and output.
    pub fn start(command: &mut Command, log: &Path) -> Running {
        let what = format!("{command:?}");
        let errors = File::create(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} did not start: {error}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                // Bytes that are no UTF-8 end the output as far as the test is concerned, as does a reader that has gone.
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { what, child, stdin, lines, seen: Vec::new(), log: log.to_owned() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has printed the line `wanted`.
    pub fn wait_for(&mut self, wanted: &str) {
        let mut wait = Wait::begin();
        while self.seen.last().is_none_or(|line| line != wanted) {
            if !self.read_line(&mut wait, &format!("print {wanted:?}")) {
                self.fail(&format!("ended before it printed {wanted:?}"));
            }
        }
    }

    /// What it does within `timeout`. One who calls it again and again has a [`Wait`] of its own.
    pub fn next(&mut self, timeout: Duration) -> Output {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => {
                self.seen.push(line.clone());
                Output::Line(line)
            }
            Err(RecvTimeoutError::Timeout) => Output::Nothing,
            Err(RecvTimeoutError::Disconnected) => Output::End,
        }
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("finish closes standard input and consumes self");
        if let Err(error) = stdin.write_all(bytes).and_then(|()| stdin.flush()) {
            self.fail(&format!("does not read its input: {error}"));
        }
    }

    /// Closes its standard input, waits for its end, which must be a success, and returns all lines that it printed.
    pub fn finish(mut self) -> Vec<String> {
        drop(self.stdin.take());
        self.read_to_end();
        let status = self.child.wait().unwrap_or_else(|error| panic!("waiting for {}: {error}", self.what));
        if !status.success() {
            self.fail(&status.to_string());
        }
        std::mem::take(&mut self.seen)
    }

    /// Ends it by SIGKILL, as a crash would, and returns all lines that it printed.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap_or_else(|error| panic!("SIGKILL to {}: {error}", self.what));
        self.read_to_end();
        std::mem::take(&mut self.seen)
    }

    /// Asks it to end by SIGTERM, waits for that and returns all lines that it printed, and how it ended.
    pub fn terminate(mut self) -> (Vec<String>, ExitStatus) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("SIGTERM to our own child");
        self.read_to_end();
        let status = self.child.wait().unwrap_or_else(|error| panic!("waiting for {}: {error}", self.what));
        (std::mem::take(&mut self.seen), status)
    }

    fn read_to_end(&mut self) {
        let mut wait = Wait::begin();
        while self.read_line(&mut wait, "end") {}
    }

    /// Takes the next line, or says that there is none any more. The caller waits for the program to do `what`.
    fn read_line(&mut self, wait: &mut Wait, what: &str) -> bool {
        loop {
            match self.lines.recv_timeout(wait.pause()) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) if wait.has_time(|| self.awaited(what)) => continue,
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("did not {what} in time")),
            }
            // One that goes on printing something else is waited for no longer.
            if !wait.has_time(|| self.awaited(what)) {
                self.fail(&format!("did not {what} in time"));
            }
            return true;
        }
    }

    fn awaited(&self, what: &str) -> String {
        let last = self.seen.last().map_or("nothing", String::as_str);
        format!("a program to {what}, which has printed {last} so far: {}", self.what)
    }

    fn fail(&mut self, how: &str) -> ! {
        // A process that has ended already cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let errors = std::fs::read(&self.log).unwrap_or_default();
        panic!(
            "{}: {how}\n--- standard output\n{}\n--- standard error ({})\n{}",
            self.what,
            last_lines(&self.seen.join("\n"), 40),
            self.log.display(),
            last_lines(&String::from_utf8_lossy(&errors), 60)
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails elsewhere must not leave its client behind; after `finish` there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
