//! What both brokers need from the system: ending a child, a directory of one's own, the end of a log.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Why a child did not end as it should.
#[derive(Debug)]
pub enum StopError {
    /// It did not end in time after SIGTERM and was killed.
    Killed {
        /// How long it was given.
        after: Duration,
    },
    /// Signalling or waiting failed.
    Process(io::Error),
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopError::Killed { after } => write!(f, "did not stop within {} s and was killed", after.as_secs()),
            StopError::Process(source) => write!(f, "stopping the process: {source}"),
        }
    }
}

impl std::error::Error for StopError {}

/// Ends `child` by SIGTERM, and by SIGKILL after `timeout`, which is an error. Returns at once when it has ended already.
pub(crate) fn terminate(child: &mut Child, timeout: Duration) -> Result<(), StopError> {
    if child.try_wait().map_err(StopError::Process)?.is_some() {
        return Ok(());
    }
    let pid = i32::try_from(child.id()).map_err(|error| StopError::Process(io::Error::other(error)))?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|errno| StopError::Process(errno.into()))?;
    let deadline = Instant::now() + timeout;
    while child.try_wait().map_err(StopError::Process)?.is_none() {
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).map_err(StopError::Process)?;
            return Err(StopError::Killed { after: timeout });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// The last `count` lines of a file; empty where it cannot be read, since this only explains another error.
pub(crate) fn last_lines(file: &Path, count: usize) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A directory of this process's own, deleted when dropped.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Makes `parent/prefix-PID-N`, and `parent` where it is missing.
    pub(crate) fn create(parent: &Path, prefix: &str) -> io::Result<TempDir> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(parent)?;
        let parent = parent.canonicalize()?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{prefix}-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(TempDir(path)),
                // Left by an earlier process with the same id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Deletes the directory now; a second call does nothing.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_ignores_sigterm_is_killed_and_reported() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        assert!(matches!(terminate(&mut child, Duration::ZERO), Err(StopError::Killed { .. })));
        terminate(&mut child, Duration::ZERO).unwrap();
    }

    #[test]
    fn directories_of_one_process_differ_and_go_away() {
        let first = TempDir::create(&std::env::temp_dir(), "weir-temp-test").unwrap();
        let second = TempDir::create(&std::env::temp_dir(), "weir-temp-test").unwrap();
        assert_ne!(first.path(), second.path());
        fs::write(second.path().join("file"), "one\ntwo\nthree\n").unwrap();
        assert_eq!(last_lines(&second.path().join("file"), 2), "two\nthree");
        assert_eq!(last_lines(&second.path().join("missing"), 2), "");
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
        first.remove().unwrap();
        first.remove().unwrap();
    }
}
