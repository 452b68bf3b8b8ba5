//! From runs to comparisons: medians, ratios turned so that above 1 means that Weir is better, and verdicts on the floors.

use crate::cases::{Bound, Case, Class, Floor, Metric};
use crate::machine::Noise;
use crate::record::{Record, Side};
use crate::stats::{Estimate, median, ratio_of_medians};

/// A figure of both sides in one case and class.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The figure.
    pub metric: Metric,
    /// Median over Weir's runs.
    pub weir: Option<f64>,
    /// Median over Kafka's runs.
    pub kafka: Option<f64>,
    /// How many times better Weir is, from the rounds that both sides finished; below 1 it is worse.
    pub advantage: Option<Estimate>,
}

/// Whether a floor was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The estimate and the whole interval lie on the good side.
    Reached,
    /// The estimate does, and the interval does not, or there is none: more rounds are needed to be sure.
    ReachedWithinNoise,
    /// The estimate lies on the bad side.
    NotReached,
    /// There is no figure.
    NotMeasured,
}

impl Verdict {
    /// Words for a table.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Reached => "reached",
            Verdict::ReachedWithinNoise => "reached (not beyond noise)",
            Verdict::NotReached => "**not reached**",
            Verdict::NotMeasured => "not measured",
        }
    }
}

/// Compares one figure over all rounds.
pub fn compare(records: &[Record], class: Class, case: &Case, metric: Metric) -> Comparison {
    let figures = |side: Side| -> Vec<(u32, f64)> {
        of(records, class, case)
            .filter(|record| record.side == side)
            .filter_map(|record| Some((record.round, record.figure(metric)?)))
            .collect()
    };
    let (weir, kafka) = (figures(Side::Weir), figures(Side::Kafka));
    let pairs: Vec<(f64, f64)> = weir
        .iter()
        .filter_map(|&(round, weir)| {
            let (_, kafka) = *kafka.iter().find(|(other, _)| *other == round)?;
            Some(if metric.more_is_better() { (weir, kafka) } else { (kafka, weir) })
        })
        .collect();
    let middle = |figures: &[(u32, f64)]| median(&figures.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    Comparison { metric, weir: middle(&weir), kafka: middle(&kafka), advantage: ratio_of_medians(&pairs) }
}

/// Judges a floor of `case`.
pub fn judge(records: &[Record], case: &Case, floor: &Floor) -> Verdict {
    let comparison = compare(records, floor.class, case, floor.metric);
    match floor.bound {
        Bound::TimesBetter(factor) => match comparison.advantage {
            None => Verdict::NotMeasured,
            Some(Estimate { ratio, .. }) if ratio < factor => Verdict::NotReached,
            Some(Estimate { interval: Some((low, _)), .. }) if low >= factor => Verdict::Reached,
            Some(_) => Verdict::ReachedWithinNoise,
        },
        Bound::AtMost(limit) | Bound::AtLeast(limit) => {
            let reaches = |figure: f64| match floor.bound {
                Bound::AtLeast(_) => figure >= limit,
                _ => figure <= limit,
            };
            let all = of(records, floor.class, case)
                .filter(|record| record.side == Side::Weir)
                .filter_map(|record| record.figure(floor.metric))
                .all(reaches);
            match comparison.weir {
                None => Verdict::NotMeasured,
                Some(value) if !reaches(value) => Verdict::NotReached,
                Some(_) if all => Verdict::Reached,
                Some(_) => Verdict::ReachedWithinNoise,
            }
        }
    }
}

/// The runs of one case in one class.
pub fn of<'a>(records: &'a [Record], class: Class, case: &Case) -> impl Iterator<Item = &'a Record> {
    let name = case.name;
    records.iter().filter(move |record| record.class == class.number() && record.case == name)
}

/// How noisy the machine was over all runs.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSummary {
    /// Runs that it rests on.
    pub runs: usize,
    /// Median share of processor time that the host took.
    pub steal_median: f64,
    /// Largest such share.
    pub steal_max: f64,
    /// Largest load average before a run.
    pub load_average_max: f64,
}

/// Summarises the noise; `None` when no run recorded any.
pub fn noise(records: &[Record]) -> Option<NoiseSummary> {
    let all: Vec<&Noise> = records.iter().filter_map(|record| record.noise.as_ref()).collect();
    let steal: Vec<f64> = all.iter().map(|noise| noise.steal).collect();
    Some(NoiseSummary {
        runs: all.len(),
        steal_median: median(&steal)?,
        steal_max: steal.iter().copied().fold(0.0, f64::max),
        load_average_max: all.iter().map(|noise| noise.load_average_before).fold(0.0, f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::find;
    use crate::record::tests::record;

    const CLASS: Class = Class::DiskAgainstShipped;

    fn runs(metric: Metric, pairs: &[(f64, f64)]) -> Vec<Record> {
        let run = |round: usize, side, value| record("produce-64k", round as u32, side, &[(metric, value)]);
        pairs
            .iter()
            .enumerate()
            .flat_map(|(round, &(weir, kafka))| [run(round, Side::Weir, weir), run(round, Side::Kafka, kafka)])
            .collect()
    }

    fn floor(metric: Metric, bound: Bound) -> Floor {
        Floor { class: CLASS, metric, bound }
    }

    #[test]
    fn ratios_are_turned_so_that_more_than_one_is_better() {
        let case = find("produce-64k").unwrap();
        let more =
            compare(&runs(Metric::MegabytesPerSecond, &[(2000.0, 500.0); 3]), CLASS, case, Metric::MegabytesPerSecond);
        assert_eq!((more.weir, more.kafka, more.advantage.unwrap().ratio), (Some(2000.0), Some(500.0), 4.0));
        let less = compare(&runs(Metric::CpuSecondsPerGb, &[(0.5, 2.0); 3]), CLASS, case, Metric::CpuSecondsPerGb);
        assert_eq!((less.weir, less.kafka, less.advantage.unwrap().ratio), (Some(0.5), Some(2.0), 4.0));
    }

    #[test]
    fn only_rounds_that_both_sides_finished_make_a_ratio() {
        let case = find("produce-64k").unwrap();
        let mut records = runs(Metric::CpuSecondsPerGb, &[(1.0, 2.0), (1.0, 3.0)]);
        records.push(record("produce-64k", 2, Side::Weir, &[(Metric::CpuSecondsPerGb, 9.0)]));
        records.push(record("produce-16k", 3, Side::Kafka, &[(Metric::CpuSecondsPerGb, 9.0)]));
        let comparison = compare(&records, CLASS, case, Metric::CpuSecondsPerGb);
        assert_eq!(comparison.advantage.unwrap().rounds, 2);
        assert_eq!(comparison.advantage.unwrap().ratio, 2.5);
        let other = compare(&records, Class::OsAgainstShipped, case, Metric::CpuSecondsPerGb);
        assert_eq!((other.weir, other.kafka, other.advantage), (None, None, None));
    }

    #[test]
    fn verdicts_on_ratios() {
        let case = find("produce-64k").unwrap();
        let verdict = |pairs: &[(f64, f64)], factor| {
            let metric = Metric::MegabytesPerSecond;
            judge(&runs(metric, pairs), case, &floor(metric, Bound::TimesBetter(factor)))
        };
        assert_eq!(verdict(&[(4.0, 1.0); 5], 3.2), Verdict::Reached);
        assert_eq!(verdict(&[(3.0, 1.0); 5], 3.2), Verdict::NotReached);
        assert_eq!(
            verdict(&[(1.0, 1.0), (3.0, 1.0), (4.0, 1.0), (4.0, 1.0), (4.0, 1.0)], 3.2),
            Verdict::ReachedWithinNoise
        );
        assert_eq!(verdict(&[(4.0, 1.0)], 3.2), Verdict::ReachedWithinNoise, "one round has no interval");
        assert_eq!(verdict(&[], 3.2), Verdict::NotMeasured);
    }

    #[test]
    fn verdicts_on_figures() {
        let case = find("idle").unwrap();
        let verdict = |values: &[f64]| {
            let records: Vec<Record> = (0..)
                .zip(values)
                .map(|(round, &value)| record("idle", round, Side::Weir, &[(Metric::CpuCores, value)]))
                .collect();
            judge(&records, case, &floor(Metric::CpuCores, Bound::AtMost(0.002)))
        };
        assert_eq!(verdict(&[0.001, 0.0, 0.002]), Verdict::Reached);
        assert_eq!(verdict(&[0.001, 0.001, 0.004]), Verdict::ReachedWithinNoise);
        assert_eq!(verdict(&[0.001, 0.003, 0.004]), Verdict::NotReached);
        assert_eq!(verdict(&[]), Verdict::NotMeasured);

        let case = find("transactions-16k").unwrap();
        let verdict = |values: &[f64]| {
            let records: Vec<Record> = (0..)
                .zip(values)
                .map(|(round, &value)| {
                    record("transactions-16k", round, Side::Weir, &[(Metric::TransactionalShare, value)])
                })
                .collect();
            judge(&records, case, &case.floors[0])
        };
        assert_eq!(verdict(&[0.6, 0.7]), Verdict::Reached);
        assert_eq!(verdict(&[0.5, 0.7, 0.7]), Verdict::ReachedWithinNoise);
        assert_eq!(verdict(&[0.5, 0.5, 0.7]), Verdict::NotReached);
    }

    #[test]
    fn noise_of_all_runs() {
        let mut records = runs(Metric::CpuCores, &[(1.0, 1.0)]);
        records[1].noise = Some(Noise {
            steal: 0.05,
            idle: 0.0,
            load_average_before: 3.0,
            load_average_after: 9.0,
            kernel_cores: None,
        });
        let summary = noise(&records).unwrap();
        assert_eq!((summary.runs, summary.steal_max, summary.load_average_max), (2, 0.05, 3.0));
        assert!((summary.steal_median - 0.03).abs() < 1e-12);
        records.iter_mut().for_each(|record| record.noise = None);
        assert_eq!(noise(&records), None);
    }
}
