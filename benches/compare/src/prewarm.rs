//! When a broker is warm: the rule by which the load before a measured run ends.
//!
//! A JVM compiles what runs often, on the same processors that serve the load, and is several times faster afterwards. So each run
//! begins with the case's own load in slices, until a slice is like those before it. The rule is the same for both sides.

use serde::{Deserialize, Serialize};

use crate::cases::Metric;

/// How far a slice may lie from the best of the two before it, relative to that.
const TOLERANCE: f64 = 0.05;

/// The load before a measured run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prewarm {
    /// What was looked at.
    pub figure: Metric,
    /// Length of a slice in seconds.
    pub slice_seconds: u64,
    /// The figure in each slice.
    pub slices: Vec<f64>,
    /// False where the cap ended it.
    pub steady: bool,
}

impl Prewarm {
    /// Nothing yet.
    pub fn new(figure: Metric, slice_seconds: u64) -> Prewarm {
        Prewarm { figure, slice_seconds, slices: Vec::new(), steady: false }
    }

    /// Adds a slice and says whether the load has become steady.
    pub fn add(&mut self, value: f64) -> bool {
        self.steady = self.is_like_those_before(value);
        self.slices.push(value);
        self.steady
    }

    fn is_like_those_before(&self, value: f64) -> bool {
        let before = self.slices.iter().rev().take(2).copied();
        let best = if self.figure.more_is_better() { before.reduce(f64::max) } else { before.reduce(f64::min) };
        best.is_some_and(|best| (value - best).abs() <= best * TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many slices it is steady.
    fn steady_after(figure: Metric, slices: &[f64]) -> Option<usize> {
        let mut prewarm = Prewarm::new(figure, 5);
        slices.iter().position(|&value| prewarm.add(value)).map(|index| index + 1)
    }

    #[test]
    fn more_throughput_goes_on_until_it_stays() {
        let figure = Metric::MegabytesPerSecond;
        assert_eq!(steady_after(figure, &[100.0]), None);
        assert_eq!(steady_after(figure, &[1000.0, 1049.0]), Some(2));
        assert_eq!(steady_after(figure, &[1000.0, 951.0]), Some(2));
        assert_eq!(steady_after(figure, &[100.0, 300.0, 480.0, 520.0, 510.0]), Some(5));
        assert_eq!(
            steady_after(figure, &[500.0, 400.0, 405.0, 400.0]),
            Some(4),
            "the better one of the two before counts"
        );
    }

    #[test]
    fn less_cpu_goes_on_until_it_stays() {
        let figure = Metric::CpuCores;
        assert_eq!(steady_after(figure, &[0.9, 0.5, 0.3, 0.29]), Some(4));
        assert_eq!(steady_after(figure, &[0.3, 0.4, 0.39, 0.38]), Some(4));
    }
}
