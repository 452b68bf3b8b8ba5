//! The report of a comparison as Markdown, its charts, and the table for the main README.

use crate::cases::{Bound, CASES, Case, Class, Floor, Metric};
use crate::chart::{Bar, Chart, Kind, Row};
use crate::kafka::SETTINGS_IN_WORDS;
use crate::prewarm::{Prewarm, Slice};
use crate::record::{Circumstances, Outcome, Record, Side};
use crate::stats::{Estimate, median};
use crate::summary::{Comparison, Verdict, compare, judge, noise, of};
use crate::text::{short, value};

/// The files of a report besides the raw data.
#[derive(Debug)]
pub struct Report {
    /// `README.md`.
    pub readme: String,
    /// File name and content of each chart.
    pub charts: Vec<(String, String)>,
}

/// Writes the report of all runs of a comparison.
pub fn report(circumstances: &Circumstances, records: &[Record]) -> Report {
    let classes: Vec<Class> = Class::ALL.into_iter().filter(|class| has_runs(records, *class)).collect();
    let mut out = String::new();
    heading(&mut out, circumstances, records);
    if !circumstances.settings.kafka_on_both_sides {
        floors(&mut out, records, &classes);
    }
    for &class in &classes {
        class_section(&mut out, circumstances, records, class);
    }
    if !circumstances.settings.kafka_on_both_sides {
        losses(&mut out, records, &classes);
    }
    doubts(&mut out, records);
    prewarming(&mut out, records, &classes);
    kernel_threads(&mut out, records, &classes);
    method(&mut out, circumstances);
    let charts =
        classes.iter().map(|&class| (chart_file(class), chart(circumstances, records, class).to_svg())).collect();
    Report { readme: out, charts }
}

/// The part of the main README: the first class in a table, its chart, and where to find the rest. `folder` is the path of
/// the results relative to that README.
pub fn readme_section(circumstances: &Circumstances, records: &[Record], folder: &str) -> String {
    let mut out = String::new();
    let shown: Vec<Class> = Class::ALL.into_iter().filter(|class| has_runs(records, *class)).collect();
    for (index, &class) in shown.iter().enumerate() {
        line(&mut out, &format!("**{}.** {}\n", class.title(), class.promise()));
        if index == 0 {
            line(&mut out, &format!("![Ratios of Weir and Apache Kafka]({folder}/{})\n", chart_file(class)));
        }
        headline_tables(&mut out, records, class);
    }
    let machine = &circumstances.machine;
    line(
        &mut out,
        &format!(
            "Medians of interleaved runs on {} × {}, {}, broker on core {}, generator on core {}. In brackets: 95 % intervals. \
             Below 1× Weir is worse. All figures, raw data and circumstances: [{folder}]({folder}/README.md).",
            machine.cpus,
            machine.cpu_model,
            machine.kernel,
            circumstances.settings.broker_cores,
            circumstances.settings.load_cores
        ),
    );
    out
}

fn heading(out: &mut String, circumstances: &Circumstances, records: &[Record]) {
    let kafka = &circumstances.kafka;
    if circumstances.settings.kafka_on_both_sides {
        line(out, &format!("# Apache Kafka {kafka} against itself\n"));
        line(
            out,
            "**A check of the harness, not of Weir.** Apache Kafka ran on both sides; what is called Weir below is Kafka in \
             Weir's place. The intervals should hold 1.\n",
        );
    } else {
        line(out, &format!("# Weir and Apache Kafka {kafka} on the same hardware\n"));
    }
    line(out, "## What was asked\n");
    line(
        out,
        "How much does each broker carry on the same cores, what does it cost in CPU, how long do clients wait, and which of \
         the project's floors are reached?\n",
    );
    let command = command(circumstances, records);
    line(out, &format!("```\n{command}\n```\n"));
    let machine = &circumstances.machine;
    line(out, "| | |\n| --- | --- |");
    let rows = [
        ("date", circumstances.date.clone()),
        ("commit", circumstances.commit.clone()),
        ("Weir", circumstances.weir.clone()),
        ("Apache Kafka", format!("{kafka} on {}", circumstances.java)),
        (
            "processors",
            format!(
                "{} × {}{}",
                machine.cpus,
                machine.cpu_model,
                if machine.virtual_machine { ", virtual machine" } else { "" }
            ),
        ),
        ("memory", format!("{:.1} GiB", machine.memory_bytes as f64 / f64::from(1 << 30))),
        ("kernel", machine.kernel.clone()),
        ("data directories", format!("{} on {}", machine.file_system, machine.device)),
    ];
    for (name, value) in rows {
        line(out, &format!("| {name} | {} |", value.replace('|', "\\|")));
    }
    out.push('\n');
}

/// The command that makes runs such as these.
fn command(circumstances: &Circumstances, records: &[Record]) -> String {
    let s = &circumstances.settings;
    let rounds = records.iter().map(|record| record.round + 1).max().unwrap_or(0);
    let mut command = format!(
        "cargo run --release -p compare -- --rounds {rounds} --seconds {} --warmup {} --prewarm {} --prewarm-max {} --broker-cores {} --load-cores {}",
        s.measured_seconds,
        s.warmup_seconds,
        s.prewarm_slice_seconds,
        s.prewarm_max_seconds,
        s.broker_cores,
        s.load_cores
    );
    let mut add = |words: String| {
        command.push(' ');
        command.push_str(&words);
    };
    let classes: Vec<Class> = Class::ALL.into_iter().filter(|class| has_runs(records, *class)).collect();
    if classes.len() < Class::ALL.len() {
        classes.iter().for_each(|class| add(format!("--class {}", class.number())));
    }
    let possible = CASES.iter().filter(|case| case.classes.iter().any(|class| classes.contains(class)));
    let (run, left_out): (Vec<&Case>, Vec<&Case>) =
        possible.partition(|case| records.iter().any(|record| record.case == case.name));
    if !left_out.is_empty() {
        run.iter().for_each(|case| add(format!("--case {}", case.name)));
    }
    if let Some(bytes) = s.retention_bytes {
        add(format!("--retention-bytes {bytes}"));
    }
    if let Some(bytes) = s.touch_bytes {
        add(format!("--touch-gb {}", bytes / 1_000_000_000));
    }
    if s.kafka_on_both_sides {
        add("--kafka-on-both-sides".into());
    }
    command
}

fn floors(out: &mut String, records: &[Record], classes: &[Class]) {
    let asked: Vec<(&Case, &Floor, Verdict)> = CASES
        .iter()
        .flat_map(|case| case.floors.iter().map(move |floor| (case, floor)))
        .filter(|(_, floor)| classes.contains(&floor.class))
        .map(|(case, floor)| (case, floor, judge(records, case, floor)))
        .collect();
    if asked.is_empty() {
        return;
    }
    let count = |wanted: &[Verdict]| asked.iter().filter(|(.., verdict)| wanted.contains(verdict)).count();
    line(out, "## What was to be reached\n");
    line(
        out,
        &format!(
            "Of {} floors {} were reached ({} of them not beyond noise), {} were not, {} were not measured.\n",
            asked.len(),
            count(&[Verdict::Reached, Verdict::ReachedWithinNoise]),
            count(&[Verdict::ReachedWithinNoise]),
            count(&[Verdict::NotReached]),
            count(&[Verdict::NotMeasured])
        ),
    );
    line(out, "| class | case | figure | asked | found | |\n| --- | --- | --- | --- | --- | --- |");
    for (case, floor, verdict) in asked {
        let comparison = compare(records, floor.class, case, floor.metric);
        let found = match floor.bound {
            Bound::TimesBetter(_) => times(comparison.advantage),
            Bound::AtMost(_) | Bound::AtLeast(_) => cell(comparison.weir),
        };
        line(
            out,
            &format!(
                "| {} | {} | {} | {} | {found} | {} |",
                floor.class.number(),
                case.title,
                floor.metric.title(),
                floor.bound,
                verdict.words()
            ),
        );
    }
    out.push('\n');
}

fn class_section(out: &mut String, circumstances: &Circumstances, records: &[Record], class: Class) {
    line(out, &format!("## Class {}: {}\n", class.number(), class.title()));
    line(out, &format!("{}\n", class.promise()));
    let chart = chart(circumstances, records, class);
    line(out, &format!("![{}]({})\n", chart.title, chart_file(class)));
    line(
        out,
        "Medians over the rounds; the ratio is that of the medians, in brackets its 95 % interval; more than 1× means that Weir \
         is better. † marks cases with runs to be doubted, see below.\n",
    );
    line(
        out,
        "| case | figure | Weir | Kafka | Weir is better by | asked | |\n| --- | --- | --: | --: | --: | --- | --- |",
    );
    let judged = !circumstances.settings.kafka_on_both_sides;
    for case in cases_of(records, class) {
        let doubted = of(records, class, case).any(|record| !record.flags().is_empty());
        for (index, &metric) in case.load.metrics().iter().enumerate() {
            let title = match index {
                0 => format!("**{}**{}", case.title, if doubted { " †" } else { "" }),
                _ => String::new(),
            };
            let Comparison { weir, kafka, advantage, .. } = compare(records, class, case, metric);
            let floors: Vec<&Floor> =
                case.floors.iter().filter(|floor| judged && floor.class == class && floor.metric == metric).collect();
            let asked: Vec<String> = floors.iter().map(|floor| floor.bound.to_string()).collect();
            let verdicts: Vec<&str> = floors.iter().map(|floor| judge(records, case, floor).words()).collect();
            line(
                out,
                &format!(
                    "| {title} | {} | {} | {} | {} | {} | {} |",
                    metric.title(),
                    cell(weir),
                    cell(kafka),
                    times(advantage),
                    asked.join("; "),
                    verdicts.join("; ")
                ),
            );
        }
    }
    out.push('\n');
}

fn losses(out: &mut String, records: &[Record], classes: &[Class]) {
    line(out, "## Where Weir is worse\n");
    let mut any = false;
    for &class in classes {
        for case in cases_of(records, class) {
            for &metric in case.load.metrics() {
                let comparison = compare(records, class, case, metric);
                let Some(advantage) = comparison.advantage.filter(|advantage| advantage.ratio < 1.0) else { continue };
                any = true;
                let sure = advantage.interval.is_some_and(|(_, high)| high < 1.0);
                line(
                    out,
                    &format!(
                        "- class {}, {}: {} {} against {}, {}{}",
                        class.number(),
                        case.title,
                        metric.title(),
                        cell(comparison.weir),
                        cell(comparison.kafka),
                        times(Some(advantage)),
                        if sure { "" } else { " (not beyond noise)" }
                    ),
                );
            }
        }
    }
    if !any {
        line(out, "In none of the figures above.");
    }
    out.push('\n');
}

fn doubts(out: &mut String, records: &[Record]) {
    line(out, "## Runs to be doubted\n");
    // What was said of several runs of one side in one case, in the same words but for the numbers in them, is said once.
    let mut said: Vec<(&Record, String, Vec<u32>)> = Vec::new();
    for record in records {
        let words = match &record.outcome {
            Outcome::Failed { why } => vec![format!("failed and left out: {}", why.lines().next().unwrap_or_default())],
            Outcome::Measured { flags, .. } => flags.clone(),
        };
        for text in words {
            let alike = |(first, other, _): &&mut (&Record, String, Vec<u32>)| {
                (first.class, &first.case, first.side) == (record.class, &record.case, record.side)
                    && without_digits(other) == without_digits(&text)
            };
            match said.iter_mut().find(alike) {
                Some((.., rounds)) => rounds.push(record.round),
                None => said.push((record, text, vec![record.round])),
            }
        }
    }
    for (first, text, rounds) in &said {
        let rounds: Vec<String> = rounds.iter().map(u32::to_string).collect();
        let which = if rounds.len() == 1 { "round" } else { "rounds" };
        let (class, case, side) = (first.class, &first.case, first.side.name());
        line(out, &format!("- class {class}, {case}, {side}, {which} {}: {text}", rounds.join(", ")));
    }
    if said.is_empty() {
        line(
            out,
            "None: the generator kept to its schedule in every run, and no record was lost, repeated or out of order.",
        );
    }
    out.push('\n');
    if let Some(noise) = noise(records) {
        line(
            out,
            &format!(
                "Noise of the machine over {} runs: the host took {:.1} % of the processor time in the median and {:.1} % at most; \
                 the load average before a run was {:.1} at most.\n",
                noise.runs,
                noise.steal_median * 100.0,
                noise.steal_max * 100.0,
                noise.load_average_max
            ),
        );
    }
}

/// How warm the brokers were, which decides whether the figures of a JVM mean anything.
fn prewarming(out: &mut String, records: &[Record], classes: &[Class]) {
    let mut rows = Vec::new();
    for &class in classes {
        for case in cases_of(records, class) {
            for side in Side::BOTH {
                let runs = of(records, class, case).filter(|record| record.side == side);
                rows.extend(prewarm_row(
                    class,
                    case,
                    side,
                    &runs.filter_map(|run| run.prewarm.as_ref()).collect::<Vec<_>>(),
                ));
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    line(out, "## How warm the brokers were\n");
    line(
        out,
        "The load before the measured run, in slices: medians over the runs of the first and of the last slice, and of the share of the \
         broker's CPU that the compilers of its JVM took in them; how many slices there were, and how many runs were not steady by the \
         rule below when the time for it was over.\n",
    );
    line(
        out,
        "| class | case | side | figure | first slice | last slice | compilers, first | last | slices | not steady |",
    );
    line(out, "| --- | --- | --- | --- | --: | --: | --: | --: | --: | --: |");
    rows.iter().for_each(|row| line(out, row));
    out.push('\n');
}

/// What the kernel did in threads of its own, which is in neither side's CPU.
fn kernel_threads(out: &mut String, records: &[Record], classes: &[Class]) {
    if !records.iter().any(|run| run.noise.as_ref().is_some_and(|noise| noise.kernel_cores.is_some())) {
        return;
    }
    let mut rows = Vec::new();
    for &class in classes {
        for case in cases_of(records, class) {
            let middle = |side| {
                let runs = of(records, class, case).filter(|record| record.side == side);
                let cores = runs.filter_map(|run| run.noise.as_ref()?.kernel_cores);
                cell(median(&cores.collect::<Vec<_>>()))
            };
            let (weir, kafka) = (middle(Side::Weir), middle(Side::Kafka));
            rows.push(format!("| {} | {} | {weir} | {kafka} |", class.number(), case.title));
        }
    }
    line(out, "## What the kernel's own threads took\n");
    line(
        out,
        "Processors, median over the runs, of all kernel threads of the machine: they end Weir's synced writes and write back Kafka's \
         page cache. It is in no other figure here.\n",
    );
    line(out, "| class | case | while Weir ran | while Kafka ran |");
    line(out, "| --- | --- | --: | --: |");
    rows.iter().for_each(|row| line(out, row));
    out.push('\n');
}

fn prewarm_row(class: Class, case: &Case, side: Side, prewarms: &[&Prewarm]) -> Option<String> {
    let figure = prewarms.first()?.figure;
    let middle = |slice: fn(&[Slice]) -> Option<&Slice>, figure: fn(&Slice) -> f64| {
        median(&prewarms.iter().filter_map(|prewarm| slice(&prewarm.slices).map(figure)).collect::<Vec<_>>())
    };
    let value = |slice| cell(middle(slice, |slice| slice.value));
    let compiling = |slice| {
        middle(slice, |slice| slice.compiling).map_or_else(|| "–".into(), |share| format!("{:.0} %", share * 100.0))
    };
    let counts = || prewarms.iter().map(|prewarm| prewarm.slices.len());
    let (fewest, most) = (counts().min()?, counts().max()?);
    let slices = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
    Some(format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {slices} | {} of {} |",
        class.number(),
        case.title,
        side.name(),
        figure.title(),
        value(<[Slice]>::first),
        value(<[Slice]>::last),
        compiling(<[Slice]>::first),
        compiling(<[Slice]>::last),
        prewarms.iter().filter(|prewarm| !prewarm.steady).count(),
        prewarms.len()
    ))
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn method(out: &mut String, circumstances: &Circumstances) {
    let s = &circumstances.settings;
    line(out, "## How it was run\n");
    let touched = match s.touch_bytes {
        Some(0) => "No memory was touched before the measured runs, so the page cache of whoever ran may have been cold.".to_owned(),
        Some(bytes) => format!(
            "After that {} GB of memory were touched and given back, on both sides, so that nobody paid for the first touch of pages \
             that the host of the virtual machine had not backed yet.",
            bytes / 1_000_000_000
        ),
        None => "After that as much memory as the case may fill was touched and given back, the same on both sides, so that nobody paid \
                 for the first touch of pages that the host of the virtual machine had not backed yet (the raw data has the amounts)."
            .to_owned(),
    };
    let prewarmed = match s.prewarm_max_seconds {
        0 => "The brokers were not warmed before: Apache Kafka's figures are those of a JVM that still compiles, and mean nothing.".to_owned(),
        max => format!(
            "Each run began with the case's own load in slices of {} s, until a slice was within 5 % of the better of the two before it \
             (throughput; CPU where the rate is given) and the compilers of a JVM took no more than 5 % of the broker's CPU in it, for \
             {max} s at most. Each slice had a topic of its own, which was deleted with its \
             files after it; then everything was written back to disk (sync). Weir writes new segments into the files of \
             deleted ones (file.delete.delay.ms), so its measured run may find such files, as a log with retention does.",
            s.prewarm_slice_seconds
        ),
    };
    let retention =
        s.retention_bytes.map(|bytes| format!(" with `retention.bytes={bytes}` on both sides")).unwrap_or_default();
    let points = [
        format!(
            "Each run has a broker process and a data directory of its own, both gone before the next. Broker on core {}, generator \
             on core {}, all threads pinned. Both on one machine, over loopback.",
            s.broker_cores, s.load_cores
        ),
        "The sides take turns: a round goes through all cases with one run of each side next to the other, the next round with the \
         sides in the other order, so that a case sees A B B A ….".to_owned(),
        prewarmed,
        touched,
        format!(
            "Then {} s of the load on a new topic, and {} s that are measured. The same for both sides.",
            s.warmup_seconds, s.measured_seconds
        ),
        format!("One partition for each connection; topics with the defaults of each broker{retention}."),
        format!(
            "Apache Kafka: {SETTINGS_IN_WORDS} So that the topics of the slices go away in time, `log.segment.delete.delay.ms` and \
             `log.initial.task.delay.ms` are 500."
        ),
        "Produce requests ask for acks=1; records hold random bytes. MB and GB are 10^6 and 10^9 bytes of record batches. Broker CPU \
         is user and system time of all threads of the broker's process, the workers of its rings among them. What the kernel does in threads \
         of its own, such as writing back the page cache, is counted for neither side."
            .to_owned(),
        "Closed loops measure latency from the sending of a request; open loops from the intended time of a record, so that a stall \
         counts against the broker for every record that it delayed."
            .to_owned(),
        "Intervals: rounds drawn with replacement 10,000 times (percentile bootstrap, fixed seed).".to_owned(),
        "`raw/` has every run with the generator's full report; `machine.json` the circumstances.".to_owned(),
    ];
    for point in points {
        line(out, &format!("- {point}"));
    }
}

/// Tables of the headline figures of one class: closed loops in one, the rest in another.
fn headline_tables(out: &mut String, records: &[Record], class: Class) {
    const BULK: [Metric; 2] = [Metric::MegabytesPerSecond, Metric::CpuSecondsPerGb];
    let (bulk, rest): (Vec<&Case>, Vec<&Case>) =
        cases_of(records, class).into_iter().partition(|case| case.load.headline() == BULK);
    if !bulk.is_empty() {
        line(
            out,
            "| case | Weir, MB/s | Kafka, MB/s | more | Weir, CPU s/GB | Kafka, CPU s/GB | less |\n\
             | --- | --: | --: | --: | --: | --: | --: |",
        );
        for case in bulk {
            let cells = BULK.map(|metric| {
                let comparison = compare(records, class, case, metric);
                format!("{} | {} | {}", cell(comparison.weir), cell(comparison.kafka), times(comparison.advantage))
            });
            line(out, &format!("| {} | {} |", case.title, cells.join(" | ")));
        }
        out.push('\n');
    }
    if !rest.is_empty() {
        line(out, "| case | figure | Weir | Kafka | better |\n| --- | --- | --: | --: | --: |");
        for case in rest {
            for &metric in case.load.headline() {
                let comparison = compare(records, class, case, metric);
                line(
                    out,
                    &format!(
                        "| {} | {} | {} | {} | {} |",
                        case.title,
                        metric.title(),
                        cell(comparison.weir),
                        cell(comparison.kafka),
                        times(comparison.advantage)
                    ),
                );
            }
        }
        out.push('\n');
    }
}

fn chart(circumstances: &Circumstances, records: &[Record], class: Class) -> Chart {
    let judged = !circumstances.settings.kafka_on_both_sides;
    let bar = |case: &Case, metric: Metric| -> Option<Bar> {
        let estimate = compare(records, class, case, metric).advantage?;
        let floor = case.floors.iter().find_map(|floor| match floor.bound {
            Bound::TimesBetter(factor) if judged && floor.class == class && floor.metric == metric => Some(factor),
            _ => None,
        });
        let (kind, note) = look(metric);
        Some(Bar { kind, note, estimate, floor })
    };
    let rows = cases_of(records, class)
        .into_iter()
        .map(|case| Row {
            label: case.short_title.into(),
            bars: case.load.headline().iter().filter_map(|&metric| bar(case, metric)).collect(),
        })
        .collect();
    Chart {
        title: match circumstances.settings.kafka_on_both_sides {
            true => format!("Apache Kafka {} against itself", circumstances.kafka),
            false => class.title().into(),
        },
        subtitle: format!(
            "How many times better Weir is: more throughput, less CPU, less latency. {}, commit {}.",
            circumstances.date,
            circumstances.commit.get(..10).unwrap_or(&circumstances.commit)
        ),
        rows,
    }
}

/// Colour and note of a bar.
fn look(metric: Metric) -> (Kind, &'static str) {
    match metric {
        Metric::MegabytesPerSecond | Metric::PlainMegabytesPerSecond | Metric::TransactionalShare => {
            (Kind::Throughput, "")
        }
        Metric::RebalanceSeconds | Metric::RebalanceAfterLastMicros => (Kind::Latency, "rebalance"),
        Metric::CpuSecondsPerGb
        | Metric::SameCoreCpuSecondsPerGb
        | Metric::OtherCoreCpuSecondsPerGb
        | Metric::OtherCoreFactor
        | Metric::CpuMicrosPerRequest
        | Metric::CpuCores => (Kind::Cpu, ""),
        Metric::P50Micros => (Kind::Latency, "p50"),
        Metric::P99Micros => (Kind::Latency, "p99"),
        Metric::P999Micros => (Kind::Latency, "p99.9"),
    }
}

fn chart_file(class: Class) -> String {
    format!("class-{}.svg", class.number())
}

fn has_runs(records: &[Record], class: Class) -> bool {
    records.iter().any(|record| record.class == class.number())
}

fn cases_of(records: &[Record], class: Class) -> Vec<&'static Case> {
    CASES.iter().filter(|case| of(records, class, case).next().is_some()).collect()
}

fn times(advantage: Option<Estimate>) -> String {
    match advantage {
        None => "–".into(),
        Some(Estimate { ratio, interval: Some((low, high)), .. }) => {
            format!("{}× ({}–{})", short(ratio), short(low), short(high))
        }
        Some(Estimate { ratio, interval: None, .. }) => format!("{}×", short(ratio)),
    }
}

fn cell(figure: Option<f64>) -> String {
    figure.map_or_else(|| "–".into(), value)
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{circumstances, record};

    fn records() -> Vec<Record> {
        let mut records = Vec::new();
        for round in 0..3 {
            let figures = |throughput, cpu, p999| {
                vec![
                    (Metric::MegabytesPerSecond, throughput),
                    (Metric::CpuSecondsPerGb, cpu),
                    (Metric::P999Micros, p999),
                ]
            };
            records.push(record("produce-64k", round, Side::Weir, &figures(2500.0, 0.3, 1800.0)));
            records.push(record("produce-64k", round, Side::Kafka, &figures(500.0, 1.8, 900.0)));
            records.push(record("e2e-100k", round, Side::Weir, &figures(10.0, 1.0, 2000.0)));
            records.push(record("e2e-100k", round, Side::Kafka, &figures(10.0, 1.0, 3000.0)));
        }
        records
    }

    #[test]
    fn report_has_floors_losses_and_circumstances() {
        let report = report(&circumstances(), &records());
        let text = &report.readme;
        assert!(
            text.contains("| 1 | 64 KiB × 4 connections | throughput, MB/s | ≥ 3.2× | 5.00× (5.00–5.00) | reached |"),
            "{text}"
        );
        assert!(
            text.contains("| 1 | end to end, 100,000 rec/s | p99.9, µs | ≥ 2× | 1.50× (1.50–1.50) | **not reached** |"),
            "{text}"
        );
        assert!(text.contains("| 1 | hot fetch, 1 MiB | throughput, MB/s | ≥ 1.5× | – | not measured |"), "{text}");
        assert!(
            text.contains("- class 1, 64 KiB × 4 connections: p99.9, µs 1,800 against 900, 0.50× (0.50–0.50)\n"),
            "{text}"
        );
        assert!(text.contains("| commit | 0123456789abcdef |"), "{text}");
        assert!(text.contains("--rounds 3 --seconds 6"), "{text}");
        assert!(text.contains(" --class 1 --case produce-64k --case e2e-100k\n"), "{text}");
        assert!(!text.contains("Class 2"), "a class without runs is left out\n{text}");
        assert_eq!(report.charts.len(), 1);
        assert_eq!(report.charts[0].0, "class-1.svg");
        assert!(text.contains("(class-1.svg)"));
    }

    #[test]
    fn doubted_and_failed_runs_are_named() {
        let mut records = records();
        let mut doubt = |index: usize, text: &str| {
            let Outcome::Measured { flags, .. } = &mut records[index].outcome else { unreachable!() };
            flags.push(text.into());
        };
        doubt(0, "the generator was 3 ms late");
        doubt(4, "the generator was 12 ms late");
        doubt(4, "lost 1");
        records[1].outcome = Outcome::Failed { why: "disk full\nsecond line".into() };
        let text = report(&circumstances(), &records).readme;
        assert!(text.contains("- class 1, produce-64k, weir, rounds 0, 1: the generator was 3 ms late\n"), "{text}");
        assert!(text.contains("- class 1, produce-64k, weir, round 1: lost 1\n"), "{text}");
        assert!(text.contains("- class 1, produce-64k, kafka, round 0: failed and left out: disk full\n"), "{text}");
        assert!(text.contains("**64 KiB × 4 connections** †"), "{text}");
        assert!(!text.contains("**end to end, 100,000 rec/s** †"), "{text}");
    }

    #[test]
    fn prewarming_is_told_for_each_side() {
        let mut records = records();
        let prewarm = |slices: &[f64], steady| {
            let slices = slices.iter().map(|&value| Slice { value, compiling: value / 1000.0 }).collect();
            Some(Prewarm { figure: Metric::MegabytesPerSecond, slice_seconds: 5, slices, steady })
        };
        assert!(!report(&circumstances(), &records).readme.contains("How warm"));
        records[1].prewarm = prewarm(&[100.0, 480.0, 500.0], true);
        records[5].prewarm = prewarm(&[120.0, 300.0, 400.0, 500.0], false);
        let text = report(&circumstances(), &records).readme;
        assert!(
            text.contains(
                "| 1 | 64 KiB × 4 connections | kafka | throughput, MB/s | 110 | 500 | 11 % | 50 % | 3 to 4 | 1 of 2 |"
            ),
            "{text}"
        );
    }

    #[test]
    fn the_report_tells_what_the_kernel_did_by_itself() {
        let mut records = records();
        assert!(report(&circumstances(), &records).readme.contains("| 1 | 64 KiB × 4 connections | 0.250 | 0.250 |"));
        records.iter_mut().filter_map(|run| run.noise.as_mut()).for_each(|noise| noise.kernel_cores = None);
        assert!(!report(&circumstances(), &records).readme.contains("kernel's own threads"), "older raw data");
    }

    #[test]
    fn every_table_row_has_the_columns_of_its_heading() {
        let circumstances = circumstances();
        for text in [report(&circumstances, &records()).readme, readme_section(&circumstances, &records(), "results/x")]
        {
            let mut columns = None;
            for row in text.lines() {
                let count = row.starts_with('|').then(|| row.matches('|').count());
                if let (Some(expected), Some(count)) = (columns, count) {
                    assert_eq!(count, expected, "{row}");
                }
                columns = count;
            }
        }
    }

    #[test]
    fn readme_section_shows_headlines_and_links() {
        let text = readme_section(&circumstances(), &records(), "results/2026-11-21-x");
        assert!(
            text.contains(
                "| 64 KiB × 4 connections | 2,500 | 500 | 5.00× (5.00–5.00) | 0.300 | 1.80 | 6.00× (6.00–6.00) |"
            ),
            "{text}"
        );
        assert!(
            text.contains("| end to end, 100,000 rec/s | p99.9, µs | 2,000 | 3,000 | 1.50× (1.50–1.50) |"),
            "{text}"
        );
        assert!(text.contains("(results/2026-11-21-x/class-1.svg)"), "{text}");
        assert!(text.contains("(results/2026-11-21-x/README.md)"), "{text}");
    }

    #[test]
    fn a_run_of_kafka_against_itself_says_so_first() {
        let mut circumstances = circumstances();
        circumstances.settings.kafka_on_both_sides = true;
        let text = report(&circumstances, &records()).readme;
        assert!(text.starts_with("# Apache Kafka 4.3.1 against itself\n"), "{text}");
        assert!(text.contains("--kafka-on-both-sides"), "{text}");
        assert!(!text.contains("Where Weir is worse") && !text.contains("not reached"), "{text}");
    }
}
