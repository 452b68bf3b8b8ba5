//! Ratios of paired runs, with intervals by bootstrap.
//!
//! A comparison is a list of pairs: the figure of each peer from the two runs of one round, which lie next to each other in
//! time. The estimate is the ratio of the two medians. Its interval comes from drawing whole rounds with replacement
//! (percentile bootstrap), so that a slow minute of the machine, which hits both runs of a round, counts for both.
//! The generator of random numbers is seeded by a constant: the same runs give the same report.

/// How often the rounds are drawn anew. The 2.5 and 97.5 percentiles then rest on 250 draws each.
const DRAWS: usize = 10_000;
/// With fewer rounds an interval would claim knowledge that is not there.
const ROUNDS_MIN: usize = 3;
const SEED: u64 = 0x5745_4952;

/// A ratio and what is known about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Ratio of the medians.
    pub ratio: f64,
    /// Bounds of the 95 % interval; absent where there were fewer than three rounds.
    pub interval: Option<(f64, f64)>,
    /// Rounds that it rests on.
    pub rounds: usize,
}

/// The estimate of `numerator : denominator` over the rounds; `None` without rounds or where a figure is zero, negative or
/// not a number, since then no ratio exists.
pub fn ratio_of_medians(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let sound = |x: f64| x.is_finite() && x > 0.0;
    if pairs.is_empty() || !pairs.iter().all(|&(numerator, denominator)| sound(numerator) && sound(denominator)) {
        return None;
    }
    let ratio = median_ratio(pairs);
    let interval = (pairs.len() >= ROUNDS_MIN).then(|| bootstrap(pairs));
    Some(Estimate { ratio, interval, rounds: pairs.len() })
}

/// The middle value, or the mean of the two in the middle; `None` for an empty slice.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

fn bootstrap(pairs: &[(f64, f64)]) -> (f64, f64) {
    let mut random = SplitMix64(SEED);
    let mut drawn = Vec::with_capacity(pairs.len());
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            drawn.clear();
            drawn.extend((0..pairs.len()).map(|_| pairs[random.below(pairs.len())]));
            median_ratio(&drawn)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    (ratios[DRAWS * 25 / 1000], ratios[DRAWS * 975 / 1000 - 1])
}

/// `pairs` is not empty.
fn median_ratio(pairs: &[(f64, f64)]) -> f64 {
    let numerators: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
    let denominators: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    median(&numerators).unwrap_or(f64::NAN) / median(&denominators).unwrap_or(f64::NAN)
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for drawing indexes.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `bound`. The bias of the multiplication is below 2^-50 for any number of rounds that a person waits for.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn ratio_is_of_medians_and_not_moved_by_one_bad_round() {
        let estimate = ratio_of_medians(&[(10.0, 5.0), (12.0, 6.0), (1.0, 5.0), (10.0, 5.0), (11.0, 5.0)]).unwrap();
        assert_eq!(estimate.ratio, 2.0);
        assert_eq!(estimate.rounds, 5);
        let (low, high) = estimate.interval.unwrap();
        assert!(low <= 2.0 && 2.0 <= high, "{low} to {high}");
    }

    #[test]
    fn interval_is_a_point_without_noise_and_widens_with_it() {
        let exact = ratio_of_medians(&[(8.0, 2.0); 6]).unwrap();
        assert_eq!(exact.interval, Some((4.0, 4.0)));
        let noisy = ratio_of_medians(&[(8.0, 2.0), (4.0, 2.0), (12.0, 2.0), (7.0, 2.0), (9.0, 2.0)]).unwrap();
        let (low, high) = noisy.interval.unwrap();
        assert!(low < 4.0 && high > 4.0, "{low} to {high}");
    }

    #[test]
    fn interval_keeps_the_two_runs_of_a_round_together() {
        // Both peers lose half in every second round: the ratio never moves, and drawn rounds show just that.
        let pairs = [(8.0, 2.0), (4.0, 1.0), (8.0, 2.0), (4.0, 1.0), (8.0, 2.0)];
        assert_eq!(ratio_of_medians(&pairs).unwrap().interval, Some((4.0, 4.0)));
    }

    #[test]
    fn interval_covers_the_truth_about_as_often_as_it_says() {
        // Rounds of log-normal noise around a true ratio of 3, by the sum of twelve uniforms.
        let mut random = SplitMix64(7);
        let mut noise = move || {
            let sum: f64 = (0..12).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).sum();
            ((sum - 6.0) * 0.2).exp()
        };
        let experiments = 200;
        let covered = (0..experiments)
            .filter(|_| {
                let pairs: Vec<(f64, f64)> = (0..9).map(|_| (3.0 * noise(), noise())).collect();
                let (low, high) = ratio_of_medians(&pairs).unwrap().interval.unwrap();
                low <= 3.0 && 3.0 <= high
            })
            .count();
        assert!(covered > experiments * 85 / 100, "{covered} of {experiments}");
        assert!(covered < experiments, "an interval that always covers says nothing");
    }

    #[test]
    fn same_runs_give_the_same_interval() {
        let pairs = [(5.0, 1.0), (6.0, 1.5), (7.0, 1.2), (4.0, 0.8)];
        assert_eq!(ratio_of_medians(&pairs), ratio_of_medians(&pairs));
    }

    #[test]
    fn no_ratio_without_rounds_or_with_impossible_figures() {
        assert_eq!(ratio_of_medians(&[]), None);
        assert_eq!(ratio_of_medians(&[(1.0, 0.0)]), None);
        assert_eq!(ratio_of_medians(&[(0.0, 1.0)]), None);
        assert_eq!(ratio_of_medians(&[(f64::NAN, 1.0)]), None);
        assert_eq!(ratio_of_medians(&[(2.0, 1.0)]).unwrap().interval, None);
    }

    #[test]
    fn indexes_are_in_range_and_all_occur() {
        let mut random = SplitMix64(SEED);
        let mut seen = [0u32; 5];
        for _ in 0..5000 {
            seen[random.below(5)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
    }
}
