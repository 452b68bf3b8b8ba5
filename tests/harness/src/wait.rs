//! How long a test waits for others, and what it says meanwhile. A test that is cut off from outside has said by then what it
//! waited for, and one that is not ends by itself.

use std::io::Write;
use std::time::{Duration, Instant};

/// No step of a test takes a quarter of this on an idle machine: it only ends a test that hangs.
const STEP_TIMEOUT: Duration = Duration::from_secs(240);
/// A step that takes so long is told of, and again each time that so much has passed.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// One step of a test, which waits for something that another program does.
#[derive(Debug)]
pub struct Wait {
    began: Instant,
    told: Duration,
}

impl Wait {
    /// The step begins now.
    pub fn begin() -> Wait {
        Wait { began: Instant::now(), told: Duration::ZERO }
    }

    /// To be called again and again as long as `what` is waited for.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn goes_on(&mut self, what: impl Fn() -> String) {
        if !self.has_time(&what) {
            panic!("{} s were not enough for {}", STEP_TIMEOUT.as_secs(), what());
        }
    }

    /// As [`Wait::goes_on`] for a caller that has more to say: whether there is time left.
    pub(crate) fn has_time(&mut self, what: impl Fn() -> String) -> bool {
        let passed = self.began.elapsed();
        if passed - self.told >= TOLD_EVERY {
            self.told = passed;
            let test = std::thread::current().name().unwrap_or("a thread of a test").to_owned();
            // Not by a macro: what these print is held back until the test has ended.
            let _ = writeln!(std::io::stderr(), "{test} has waited {} s for {}", passed.as_secs(), what());
        }
        passed < STEP_TIMEOUT
    }

    /// How long one who has nothing else to do may sleep before there is something to be told.
    pub(crate) fn pause(&self) -> Duration {
        let next = (self.told + TOLD_EVERY).min(STEP_TIMEOUT);
        next.saturating_sub(self.began.elapsed())
    }
}
