//! Whether a connection and its partition were on the same core of Weir, read from the processor time of its threads.
//!
//! The kernel deals connections to the cores, and the broker deals partitions to them, neither by the client's wish. But with one
//! connection and one partition the threads tell: where both are on one core, the others do nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cases::Metric;
use crate::stats::median;

/// Runs of each kind that a figure rests on.
const RUNS_MIN: usize = 2;
/// A core that has received or appended everything has had at least this share of the cores' time; what the cores do besides, such as
/// serving metadata, is far less.
const SHARE_MIN: f64 = 0.1;

/// Where the partition was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Placement {
    SameCore,
    OtherCore,
}

/// CPU per GB of the runs so far, by placement.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    same: Vec<f64>,
    other: Vec<f64>,
}

impl Placements {
    /// Adds a run: the seconds of processor time of the broker's threads, by name, and its CPU per GB.
    pub(crate) fn add(&mut self, threads: &[(&str, f64)], cpu_seconds_per_gb: f64) -> Placement {
        let place = placement(threads);
        match place {
            Placement::SameCore => self.same.push(cpu_seconds_per_gb),
            Placement::OtherCore => self.other.push(cpu_seconds_per_gb),
        }
        place
    }

    /// Runs so far.
    pub(crate) fn attempts(&self) -> u32 {
        (self.same.len() + self.other.len()) as u32
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.same.len() >= RUNS_MIN && self.other.len() >= RUNS_MIN
    }

    /// The figures; none before there is a run of each kind.
    pub(crate) fn figures(&self) -> BTreeMap<Metric, f64> {
        let (Some(same), Some(other)) = (median(&self.same), median(&self.other)) else { return BTreeMap::new() };
        BTreeMap::from([
            (Metric::SameCoreCpuSecondsPerGb, same),
            (Metric::OtherCoreCpuSecondsPerGb, other),
            (Metric::OtherCoreFactor, other / same),
        ])
    }
}

fn placement(threads: &[(&str, f64)]) -> Placement {
    // Core 0 is the main thread. Kernel workers of a ring belong to neither.
    let is_core = |name: &str| name == "weir" || name.starts_with("weir-core-");
    let cores: Vec<f64> = threads.iter().filter(|(name, _)| is_core(name)).map(|(_, seconds)| *seconds).collect();
    let total: f64 = cores.iter().sum();
    let busy = cores.iter().filter(|&&seconds| seconds > total * SHARE_MIN).count();
    if busy > 1 { Placement::OtherCore } else { Placement::SameCore }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_busy_core_means_the_same_core() {
        assert_eq!(placement(&[("weir", 0.02), ("weir-core-1", 1.9), ("iou-wrk-7", 0.8)]), Placement::SameCore);
        assert_eq!(placement(&[("weir", 1.9), ("weir-core-1", 0.0)]), Placement::SameCore);
        assert_eq!(placement(&[("weir", 0.6), ("weir-core-1", 1.3), ("iou-wrk-7", 0.2)]), Placement::OtherCore);
        assert_eq!(placement(&[("weir", 0.6), ("weir-core-1", 0.0), ("weir-core-2", 0.9)]), Placement::OtherCore);
    }

    #[test]
    fn figures_are_medians_by_placement() {
        let mut found = Placements::default();
        for (other, cpu) in [(0.0, 0.4), (0.5, 0.9), (0.5, 0.5), (0.0, 0.5)] {
            assert!(!found.is_enough());
            found.add(&[("weir", 1.0), ("weir-core-1", other)], cpu);
        }
        assert!(found.is_enough());
        assert_eq!(found.attempts(), 4);
        let figures = found.figures();
        assert_eq!(figures[&Metric::SameCoreCpuSecondsPerGb], 0.45);
        assert_eq!(figures[&Metric::OtherCoreCpuSecondsPerGb], 0.7);
        assert!((figures[&Metric::OtherCoreFactor] - 0.7 / 0.45).abs() < 1e-12);
    }
}
