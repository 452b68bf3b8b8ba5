//! The monotonic clock that all threads of a run share.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since a run's clock was made, the same for all threads.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin_ns: u64,
}

impl Clock {
    /// A clock that stands at zero now.
    pub fn start() -> Clock {
        Clock { origin_ns: monotonic_ns() }
    }

    /// Nanoseconds since [`Clock::start`].
    #[inline]
    pub fn now_ns(self) -> u64 {
        monotonic_ns() - self.origin_ns
    }

    /// The time `at_ns` of this clock as `CLOCK_MONOTONIC` counts it, for timers of the kernel.
    pub fn monotonic(self, at_ns: u64) -> u64 {
        self.origin_ns.saturating_add(at_ns)
    }
}

/// Milliseconds since 1970, as record batches carry them.
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[inline]
fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every Linux");
    time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs()
}

/// When the parts of a run begin and end, in nanoseconds of its [`Clock`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The first requests leave; time zero of an open-loop schedule.
    pub start_ns: u64,
    /// The warm-up is over, measuring begins.
    pub measure_ns: u64,
    /// Measuring ends; `u64::MAX` for a run that ends by count alone.
    pub end_ns: u64,
}

impl Timeline {
    /// The whole second of the measurement that `at_ns` lies in: 0 is the first, negative ones are warm-up.
    pub fn second_of(&self, at_ns: u64) -> i64 {
        let since = i64::try_from(at_ns).unwrap_or(i64::MAX) - i64::try_from(self.measure_ns).unwrap_or(i64::MAX);
        since.div_euclid(1_000_000_000)
    }

    /// When second `second` begins; the first one of a warm-up may have begun before the start.
    pub fn begin_of(&self, second: i64) -> u64 {
        let begin =
            i64::try_from(self.measure_ns).unwrap_or(i64::MAX).saturating_add(second.saturating_mul(1_000_000_000));
        u64::try_from(begin).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_from_the_end_of_the_warm_up() {
        let line = Timeline { start_ns: 20, measure_ns: 1_500_000_020, end_ns: u64::MAX };
        for (at_ns, second) in [(20, -2), (500_000_019, -2), (500_000_020, -1), (1_500_000_020, 0), (2_500_000_020, 1)]
        {
            assert_eq!(line.second_of(at_ns), second, "{at_ns}");
        }
        assert_eq!(line.begin_of(1), 2_500_000_020);
        assert_eq!(line.begin_of(-1), 500_000_020);
        assert_eq!(line.begin_of(-2), 0);
    }

    #[test]
    fn the_clock_never_goes_back() {
        let clock = Clock::start();
        let (one, two) = (clock.now_ns(), clock.now_ns());
        assert!(one <= two);
        assert!(clock.monotonic(two) <= Clock::start().monotonic(0));
    }
}
