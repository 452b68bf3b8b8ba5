//! When a broker is warm: the rule by which the load before a measured run ends.
//!
//! A JVM compiles what runs often, on the same processors that serve the load, and is several times faster afterwards. So each run
//! begins with the case's own load in slices, until a slice is like those before it. The rule is the same for both sides.

use serde::{Deserialize, Serialize};

use crate::cases::Metric;

/// How far a slice may lie from the best of the two before it, relative to that.
const TOLERANCE: f64 = 0.05;
/// What the compilers of a JVM may take of the broker's processor time in a slice. On a noisy machine two slices may be alike by
/// chance; while there is still much to compile, the next ones will be better.
const COMPILING_MAX: f64 = 0.05;

/// The load before a measured run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prewarm {
    /// What was looked at.
    pub figure: Metric,
    /// Length of a slice in seconds.
    pub slice_seconds: u64,
    /// In order of time.
    pub slices: Vec<Slice>,
    /// False where the cap ended it.
    pub steady: bool,
}

/// A few seconds of load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The figure.
    pub value: f64,
    /// Share of the broker's processor time that the compilers of a JVM took, 0 to 1.
    pub compiling: f64,
}

impl Prewarm {
    /// Nothing yet.
    pub fn new(figure: Metric, slice_seconds: u64) -> Prewarm {
        Prewarm { figure, slice_seconds, slices: Vec::new(), steady: false }
    }

    /// Adds a slice and says whether the load has become steady.
    pub fn add(&mut self, slice: Slice) -> bool {
        self.steady = slice.compiling <= COMPILING_MAX && self.is_like_those_before(slice.value);
        self.slices.push(slice);
        self.steady
    }

    fn is_like_those_before(&self, value: f64) -> bool {
        let before = self.slices.iter().rev().take(2).map(|slice| slice.value);
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
        let still = |value| Slice { value, compiling: 0.0 };
        slices.iter().position(|&value| prewarm.add(still(value))).map(|index| index + 1)
    }

    #[test]
    fn nothing_is_steady_while_much_is_compiled() {
        let mut prewarm = Prewarm::new(Metric::MegabytesPerSecond, 5);
        for (compiling, steady) in [(0.6, false), (0.3, false), (0.06, false), (0.04, true)] {
            assert_eq!(prewarm.add(Slice { value: 100.0, compiling }), steady, "{compiling}");
        }
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
