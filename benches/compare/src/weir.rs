//! Weir as a child process: start, wait for its ready file, stop.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::process::{StopError, TempDir, last_lines, terminate};

/// An empty start takes milliseconds. Touching the memory pool for the first time may take seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const DATA_DIR: &str = "data";

/// How to run Weir.
#[derive(Debug, Clone)]
pub struct WeirOptions<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where its own directory is made.
    pub parent_dir: &'a Path,
    /// Processors, for instance `0` or `0,2-3`: given to Weir and to `taskset`, so that helper threads stay there as well.
    pub cores: &'a str,
    /// `disk` or `os`.
    pub durability: &'a str,
}

/// A running Weir. Dropping it stops it and deletes its directory.
#[derive(Debug)]
pub struct Weir {
    child: Child,
    bootstrap: String,
    dir: TempDir,
}

impl Weir {
    /// Starts Weir in a new directory and returns when its ready file is there.
    pub fn start(options: &WeirOptions<'_>) -> Result<Weir, WeirError> {
        let dir = TempDir::create(options.parent_dir, "weir-data").map_err(WeirError::Directory)?;
        let ready = dir.path().join("ready");
        let log = dir.path().join("weir.log");
        let output = File::create(&log).map_err(WeirError::Directory)?;
        let errors = output.try_clone().map_err(WeirError::Directory)?;
        // A port that was free a moment ago; nothing else on the machine should be opening ports during a comparison.
        let bootstrap =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(WeirError::Port)?.to_string();
        // taskset replaces itself by Weir, so the process id is Weir's.
        let child = Command::new("taskset")
            .args(["--cpu-list", options.cores])
            .arg(options.program)
            .args(["serve", "--listen", &bootstrap, "--cores", options.cores, "--durability", options.durability])
            // As it is told Kafka: three seconds of waiting for further members make no sense in a run of seconds.
            .args(["--group-initial-rebalance-delay-ms", "0"])
            .arg("--data-dir")
            .arg(dir.path().join(DATA_DIR))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(WeirError::Spawn)?;
        let mut weir = Weir { child, bootstrap, dir };
        let deadline = Instant::now() + START_TIMEOUT;
        while !ready.exists() {
            if let Some(status) = weir.child.try_wait().map_err(WeirError::Wait)? {
                return Err(WeirError::Exited { status, log: last_lines(&log, 40) });
            }
            if Instant::now() > deadline {
                return Err(WeirError::NotReady { log: last_lines(&log, 40) });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(weir)
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The directory of the partitions.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join(DATA_DIR)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of the log of a broker that ended by itself; `None` while it runs.
    pub fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("{status}\n{}", last_lines(&self.dir.path().join("weir.log"), 40)))
    }

    /// Stops Weir by SIGTERM, waits for its end and deletes its directory.
    pub fn stop(mut self) -> Result<(), WeirError> {
        terminate(&mut self.child, STOP_TIMEOUT).map_err(WeirError::Stop)?;
        self.dir.remove().map_err(WeirError::Directory)
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // After `stop` the process is gone and this does nothing. An error has no one to go to here.
        let _ = terminate(&mut self.child, STOP_TIMEOUT);
    }
}

/// Why Weir did not start or stop.
#[derive(Debug)]
pub enum WeirError {
    /// Its directory or a file in it could not be written or deleted.
    Directory(io::Error),
    /// No free port on loopback.
    Port(io::Error),
    /// `taskset` did not start.
    Spawn(io::Error),
    /// Its state could not be asked for.
    Wait(io::Error),
    /// It ended before it was ready.
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It was not ready in time.
    NotReady {
        /// The end of its log.
        log: String,
    },
    /// It did not stop as it should.
    Stop(StopError),
}

impl fmt::Display for WeirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeirError::Directory(source) => write!(f, "the directory of Weir: {source}"),
            WeirError::Port(source) => write!(f, "no free port for Weir: {source}"),
            WeirError::Spawn(source) => write!(f, "taskset did not start: {source}"),
            WeirError::Wait(source) => write!(f, "the process of Weir: {source}"),
            WeirError::Exited { status, log } => write!(f, "Weir ended early ({status}):\n{log}"),
            WeirError::NotReady { log } => {
                write!(f, "Weir was not ready within {} s:\n{log}", START_TIMEOUT.as_secs())
            }
            WeirError::Stop(source) => write!(f, "Weir: {source}"),
        }
    }
}

impl std::error::Error for WeirError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(durability: &str, parent: &TempDir) -> Result<Weir, WeirError> {
        let program = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/weir-stub"));
        Weir::start(&WeirOptions { program, parent_dir: parent.path(), cores: "0", durability })
    }

    #[test]
    fn starts_with_its_options_and_leaves_nothing_behind() {
        let parent = TempDir::create(&std::env::temp_dir(), "weir-start-test").unwrap();
        let mut weir = start("disk", &parent).unwrap();
        assert!(weir.last_words().is_none(), "it runs");
        let log = last_lines(&weir.dir.path().join("weir.log"), 1);
        let options = "--cores 0 --durability disk --group-initial-rebalance-delay-ms 0 --data-dir";
        let expected = format!("serve --listen {} {options} ", weir.bootstrap());
        assert!(log.starts_with(&expected), "{log}");
        assert!(weir.bootstrap().starts_with("127.0.0.1:"));
        weir.stop().unwrap();
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);

        drop(start("disk", &parent).unwrap());
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "dropping stops and deletes as well");
    }

    #[test]
    fn an_early_end_is_told_with_its_log() {
        let parent = TempDir::create(&std::env::temp_dir(), "weir-start-test").unwrap();
        let error = start("os", &parent).unwrap_err();
        assert!(matches!(&error, WeirError::Exited { status, .. } if status.code() == Some(7)), "{error}");
        assert!(error.to_string().contains("no such class"), "{error}");
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
