//! The live line on standard error: one that renews itself on a terminal, one a second elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::collect::Row;
use crate::report::{count, latency};

/// Where progress goes.
pub enum Progress {
    /// Nowhere.
    Silent,
    /// A line that renews itself.
    Terminal(ProgressBar),
    /// A line for each second.
    Lines,
}

impl Progress {
    /// What suits standard error.
    pub fn on_stderr() -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Progress::Terminal(bar)
    }

    /// Says what is being done now.
    pub fn say(&self, what: &str) {
        match self {
            Progress::Silent => {}
            Progress::Terminal(bar) => {
                bar.set_message(what.to_owned());
                bar.tick();
            }
            Progress::Lines => stdio::say(&format!("{what}\n")),
        }
    }

    /// Shows a second that is over.
    pub fn show(&self, row: &Row) {
        if !matches!(self, Progress::Silent) {
            self.say(&line(row));
        }
    }

    /// Removes the line.
    pub fn end(&self) {
        if let Progress::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn line(row: &Row) -> String {
    let rate = |number: u64| count((number as f64 / row.length_s.max(1e-3)).round() as u64);
    let counters = &row.counters;
    let mut line = format!("{:>4.0} s", row.at_s + row.length_s);
    if !row.measured {
        line.push_str(" warm-up");
    }
    if counters.sent_requests > 0 {
        line += &format!("  sent {} rec/s", rate(counters.sent_records));
    }
    if counters.acked_requests > 0 {
        line += &format!("  acked {} rec/s, {} req/s", rate(counters.acked_records), rate(counters.acked_requests));
        line += &format!(", {:.1} MB/s", counters.acked_bytes as f64 / 1e6 / row.length_s.max(1e-3));
    }
    if counters.fetched_requests > 0 {
        line += &format!("  fetched {} rec/s", rate(counters.fetched_records));
        line += &format!(", {:.1} MB/s", counters.fetched_bytes as f64 / 1e6 / row.length_s.max(1e-3));
    }
    for (name, summary) in
        [("ack", &row.ack_latency_us), ("end to end", &row.end_to_end_latency_us), ("fetch", &row.fetch_latency_us)]
    {
        if let Some(summary) = summary {
            line += &format!("  {name} p50 {} p99 {}", latency(summary.p50), latency(summary.p99));
        }
    }
    if row.errors > 0 {
        line += &format!("  {} errors", count(row.errors));
    }
    line
}
