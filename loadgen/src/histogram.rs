//! Latency histograms: nanoseconds in, microseconds out.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Values below this count as this: half a microsecond is finer than any answer over a socket.
const LOWEST_NS: u64 = 1_000;
/// Values above this count as this: ten minutes is longer than any run waits for an answer.
const HIGHEST_NS: u64 = 600_000_000_000;
/// Three significant digits: an error of at most 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of latencies.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS);
        Latencies(histogram.expect("constant bounds that hdrhistogram accepts"))
    }

    /// Counts `times` values of `latency_ns`: records of one batch share one latency.
    pub fn record(&mut self, latency_ns: u64, times: u64) {
        self.0.saturating_record_n(latency_ns, times);
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which a share of `quantile` (0 to 1) of all values lies, in nanoseconds.
    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The figures of the report, or `None` when nothing was recorded.
    pub fn summary(&self) -> Option<LatencySummary> {
        if self.is_empty() {
            return None;
        }
        let at = |quantile| self.at(quantile) as f64 / 1e3;
        Some(LatencySummary {
            count: self.0.len(),
            mean: self.0.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: self.0.max() as f64 / 1e3,
        })
    }
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies::new()
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Latencies({} values)", self.0.len())
    }
}

/// Percentiles of a histogram, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many values there are. Produce counts records; fetch counts requests.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p99_9: f64,
    /// 99.99 % are at most this.
    pub p99_99: f64,
    /// The highest value.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) -> bool {
        (got - want).abs() <= want * 0.002 + 0.6
    }

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latencies = Latencies::new();
        for us in 1..=10_000 {
            latencies.record(us * 1_000, 1);
        }
        let summary = latencies.summary().unwrap();
        assert_eq!(summary.count, 10_000);
        for (got, want) in [
            (summary.mean, 5_000.5),
            (summary.p50, 5_000.0),
            (summary.p90, 9_000.0),
            (summary.p99, 9_900.0),
            (summary.p99_9, 9_990.0),
            (summary.p99_99, 9_999.0),
            (summary.max, 10_000.0),
        ] {
            assert!(close(got, want), "{got} against {want}");
        }
    }

    #[test]
    fn records_of_a_batch_weigh_as_many_as_they_are() {
        let mut latencies = Latencies::new();
        latencies.record(1_000_000, 99);
        latencies.record(50_000_000, 1);
        let summary = latencies.summary().unwrap();
        assert_eq!(summary.count, 100);
        assert!(close(summary.p99, 1_000.0) && close(summary.p99_9, 50_000.0), "{summary:?}");
    }

    #[test]
    fn merging_equals_recording_together() {
        let (mut one, mut two, mut both) = (Latencies::new(), Latencies::new(), Latencies::new());
        for ns in (0..5_000_000).step_by(777) {
            if ns % 2 == 0 {
                one.record(ns, 1)
            } else {
                two.record(ns, 3)
            }
            both.record(ns, if ns % 2 == 0 { 1 } else { 3 });
        }
        one.merge(&two);
        assert_eq!(one.summary(), both.summary());
    }

    #[test]
    fn values_outside_the_bounds_are_kept_at_the_bound() {
        let mut latencies = Latencies::new();
        latencies.record(0, 1);
        latencies.record(u64::MAX, 1);
        assert_eq!(latencies.summary().unwrap().count, 2);
        assert!(close(latencies.summary().unwrap().max, HIGHEST_NS as f64 / 1e3));
        assert_eq!(Latencies::new().summary(), None);
    }
}
