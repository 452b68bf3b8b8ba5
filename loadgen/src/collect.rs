//! What the supervisor makes of the threads' tallies: one row for every second, and the totals.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Timeline;
use crate::histogram::LatencySummary;
use crate::tally::{Counters, Tally};
use crate::worker::Part;

/// One second of the run, all threads together.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// When it began, in seconds from the end of the warm-up.
    pub at_s: f64,
    /// Its length in seconds; the first and the last one may be shorter.
    pub length_s: f64,
    /// Whether it belongs to the measurement and not to the warm-up.
    pub measured: bool,
    /// Requests, records and bytes.
    #[serde(flatten)]
    pub counters: Counters,
    /// Errors of all kinds.
    pub errors: u64,
    /// Latency of acknowledgements that came in this second.
    pub ack_latency_us: Option<LatencySummary>,
    /// Latency of records that were received in this second.
    pub end_to_end_latency_us: Option<LatencySummary>,
    /// Latency of fetches answered in this second.
    pub fetch_latency_us: Option<LatencySummary>,
}

/// Everything that was counted, over all threads.
#[derive(Debug, Default)]
pub struct Totals {
    /// Counts and latencies of the measurement.
    pub measured: Tally,
    /// Of what came after it. An open loop's latencies in it belong to records that were due within the measurement.
    pub drained: Tally,
    /// Counts from the first request to the last answer.
    pub whole_run: Tally,
}

/// Gathers tallies.
#[derive(Debug)]
pub struct Collector {
    timeline: Timeline,
    threads: usize,
    /// Seconds that not all threads have told about.
    open: BTreeMap<i64, (Tally, usize)>,
    rows: Vec<Row>,
    totals: Totals,
}

impl Collector {
    /// A collector of the tallies of so many threads.
    pub fn new(timeline: Timeline, threads: usize) -> Collector {
        Collector { timeline, threads, open: BTreeMap::new(), rows: Vec::new(), totals: Totals::default() }
    }

    /// Adds a thread's tally. Answers the row of a second that this completes.
    pub fn add(&mut self, second: i64, part: Part, tally: &Tally) -> Option<&Row> {
        self.totals.whole_run.add_counts(tally);
        let total = match part {
            Part::WarmUp => None,
            Part::Measured => Some(&mut self.totals.measured),
            Part::Drain => Some(&mut self.totals.drained),
        };
        if let Some(total) = total {
            total.add_counts(tally);
            total.add_latencies(tally);
        }
        if part == Part::Drain {
            return None;
        }
        let (sum, threads) = self.open.entry(second).or_default();
        sum.add_counts(tally);
        sum.add_latencies(tally);
        *threads += 1;
        if *threads < self.threads {
            return None;
        }
        self.close(second, self.timeline.end_ns);
        self.rows.last()
    }

    /// The rows in order and the totals, of a measurement that ended at `stopped_ns` of the clock.
    pub fn finish(mut self, stopped_ns: u64) -> (Vec<Row>, Totals) {
        for second in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(second, stopped_ns);
        }
        self.rows.sort_by(|one, two| one.at_s.total_cmp(&two.at_s));
        (self.rows, self.totals)
    }

    fn close(&mut self, second: i64, stopped_ns: u64) {
        let Some((sum, _)) = self.open.remove(&second) else { return };
        let begin = self.timeline.begin_of(second).max(self.timeline.start_ns);
        let end = self.timeline.begin_of(second + 1).min(stopped_ns);
        self.rows.push(Row {
            at_s: (begin as f64 - self.timeline.measure_ns as f64) / 1e9,
            length_s: end.saturating_sub(begin) as f64 / 1e9,
            measured: second >= 0,
            counters: sum.counters,
            errors: sum.errors.values().map(|count| count.times).sum(),
            ack_latency_us: sum.ack.summary(),
            end_to_end_latency_us: sum.end_to_end.summary(),
            fetch_latency_us: sum.fetch.summary(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(acked: u64, latency_ns: u64) -> Tally {
        let mut tally = Tally::default();
        tally.counters.acked_records = acked;
        tally.ack.record(latency_ns, acked);
        tally
    }

    #[test]
    fn rows_are_complete_and_totals_leave_out_the_warm_up() {
        let timeline = Timeline { start_ns: 100, measure_ns: 500_000_100, end_ns: 2_000_000_100 };
        let mut collector = Collector::new(timeline, 2);
        assert!(collector.add(-1, Part::WarmUp, &tally(1, 1_000_000)).is_none());
        let row = collector.add(-1, Part::WarmUp, &tally(2, 1_000_000)).unwrap();
        assert_eq!((row.counters.acked_records, row.measured), (3, false));
        assert!((row.length_s - 0.5).abs() < 1e-9 && (row.at_s + 0.5).abs() < 1e-9, "{row:?}");
        assert!(collector.add(0, Part::Measured, &tally(10, 2_000_000)).is_none());
        // One thread is a second ahead of the other.
        assert!(collector.add(1, Part::Measured, &tally(5, 2_000_000)).is_none());
        assert_eq!(collector.add(0, Part::Measured, &tally(20, 9_000_000)).unwrap().counters.acked_records, 30);
        assert!(collector.add(2, Part::Drain, &tally(100, 50_000_000)).is_none());
        let (rows, totals) = collector.finish(2_000_000_100);
        assert_eq!(rows.iter().map(|row| row.counters.acked_records).collect::<Vec<_>>(), [3, 30, 5]);
        assert!((rows[2].length_s - 0.5).abs() < 1e-9, "the last second was cut: {rows:?}");
        assert_eq!(totals.measured.counters.acked_records, 35);
        assert_eq!(totals.drained.counters.acked_records, 100);
        assert_eq!(totals.whole_run.counters.acked_records, 138);
        assert_eq!(totals.measured.ack.summary().unwrap().count, 35);
        assert_eq!(rows[1].ack_latency_us.unwrap().count, 30);
    }
}
