//! A chart of ratios as SVG: one row for each case, bars on a logarithmic axis, 95 % intervals, and what is to be reached.
//! It brings its own background and follows the reader's light or dark setting.

use std::fmt::Write;

use crate::stats::Estimate;
use crate::text::short;

/// A chart.
#[derive(Debug)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// One line below the heading.
    pub subtitle: String,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// A case with its bars.
#[derive(Debug)]
pub struct Row {
    /// Name of the case.
    pub label: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// A ratio; above 1 means that Weir is better.
#[derive(Debug)]
pub struct Bar {
    /// What is compared.
    pub kind: Kind,
    /// Which figure it is where several of a kind stand in one row, for instance `p99`; otherwise empty.
    pub note: &'static str,
    /// The ratio and its interval.
    pub estimate: Estimate,
    /// The ratio to be reached, where there is one.
    pub floor: Option<f64>,
}

/// What a bar compares; decides about its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes per second.
    Throughput,
    /// Processor time for the same work.
    Cpu,
    /// Latency.
    Latency,
}

const KINDS: [(Kind, &str, &str); 3] = [
    (Kind::Throughput, "throughput", "throughput"),
    (Kind::Cpu, "cpu", "broker CPU for the same work"),
    (Kind::Latency, "latency", "latency"),
];

const WIDTH: f64 = 940.0;
const PLOT_LEFT: f64 = 290.0;
const PLOT_RIGHT: f64 = 750.0;
/// Room for a note between the plot and the figures.
const NOTE: f64 = 56.0;
const MARGIN: f64 = 24.0;
const HEAD: f64 = 112.0;
const BAR: f64 = 12.0;
const BAR_STEP: f64 = 16.0;
const ROW_GAP: f64 = 14.0;
const FOOT: f64 = 40.0;

/// Colours of the light scheme, then the same classes for the dark one. Not custom properties, which some viewers lack.
const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1f2328}\
.title{font-size:17px;font-weight:600}\
.quiet{fill:#59636e}\
.value{font-variant-numeric:tabular-nums}\
.card{fill:#ffffff;stroke:#d1d9e0}\
.grid{stroke:#e4e8ec}\
.one{stroke:#59636e}\
.throughput{fill:#2f6bd8}\
.cpu{fill:#c4620a}\
.latency{fill:#1f8a5b}\
.whisker{stroke:#1f2328;stroke-width:1.5}\
.floor{stroke:#b3007d;stroke-width:3}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}\
.quiet{fill:#9198a1}\
.card{fill:#0d1117;stroke:#3d444d}\
.grid{stroke:#262c34}\
.one{stroke:#9198a1}\
.throughput{fill:#6ea2ff}\
.cpu{fill:#f0a04b}\
.latency{fill:#56c596}\
.whisker{stroke:#e6edf3}\
.floor{stroke:#ff7bd5}\
}";

impl Chart {
    /// The chart as a document. Rows without bars are left out.
    pub fn to_svg(&self) -> String {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| !row.bars.is_empty()).collect();
        let axis = Axis::over(rows.iter().flat_map(|row| &row.bars));
        let row_height = |row: &Row| row.bars.len() as f64 * BAR_STEP + ROW_GAP;
        let plot_bottom = HEAD + rows.iter().map(|row| row_height(row)).sum::<f64>();
        let height = plot_bottom + FOOT;

        let mut svg = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(svg, "{text}");
        };
        line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        ));
        line(format_args!("<style>{STYLE}</style>"));
        line(format_args!(
            "<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>",
            WIDTH - 1.0,
            height - 1.0
        ));
        line(format_args!("<text class=\"title\" x=\"{MARGIN}\" y=\"34\">{}</text>", escape(&self.title)));
        line(format_args!("<text class=\"quiet\" x=\"{MARGIN}\" y=\"56\">{}</text>", escape(&self.subtitle)));
        self.legend(&mut line);

        for tick in axis.ticks() {
            let x = axis.x(tick);
            let class = if tick == 1.0 { "one" } else { "grid" };
            line(format_args!(
                "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{plot_bottom:.1}\"/>",
                HEAD - 8.0
            ));
            line(format_args!(
                "<text class=\"quiet\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}×</text>",
                plot_bottom + 18.0
            ));
        }
        let mut y = HEAD;
        for row in rows {
            let middle = y + row.bars.len() as f64 * BAR_STEP / 2.0 + 2.0;
            line(format_args!(
                "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
                PLOT_LEFT - 14.0,
                escape(&row.label)
            ));
            for (index, bar) in row.bars.iter().enumerate() {
                draw_bar(&mut line, &axis, bar, y + index as f64 * BAR_STEP);
            }
            y += row_height(row);
        }
        line(format_args!("</svg>"));
        svg
    }

    fn legend(&self, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
        let bars = || self.rows.iter().flat_map(|row| &row.bars);
        let mut x = MARGIN;
        for (kind, class, words) in KINDS {
            if bars().any(|bar| bar.kind == kind) {
                line(format_args!("<rect class=\"{class}\" x=\"{x}\" y=\"72\" width=\"12\" height=\"12\" rx=\"2\"/>"));
                line(format_args!("<text class=\"quiet\" x=\"{}\" y=\"83\">{words}</text>", x + 18.0));
                x += 40.0 + words.chars().count() as f64 * 7.0;
            }
        }
        if bars().any(|bar| bar.floor.is_some()) {
            line(format_args!("<line class=\"floor\" x1=\"{x}\" y1=\"71\" x2=\"{x}\" y2=\"85\"/>"));
            line(format_args!("<text class=\"quiet\" x=\"{}\" y=\"83\">to be reached</text>", x + 10.0));
            x += 120.0;
        }
        if bars().any(|bar| bar.estimate.interval.is_some()) {
            line(format_args!("<line class=\"whisker\" x1=\"{x}\" y1=\"78\" x2=\"{}\" y2=\"78\"/>", x + 18.0));
            line(format_args!("<text class=\"quiet\" x=\"{}\" y=\"83\">95 % interval</text>", x + 26.0));
        }
    }
}

fn draw_bar(line: &mut impl FnMut(std::fmt::Arguments<'_>), axis: &Axis, bar: &Bar, y: f64) {
    let class = KINDS.iter().find(|(kind, ..)| *kind == bar.kind).map_or("", |(_, class, _)| class);
    let (from, to) = (axis.x(bar.estimate.ratio.min(1.0)), axis.x(bar.estimate.ratio.max(1.0)));
    // A ratio of exactly 1 would be invisible.
    let width = (to - from).max(1.0);
    line(format_args!(
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
    ));
    let middle = y + BAR / 2.0;
    if let Some((low, high)) = bar.estimate.interval {
        line(format_args!(
            "<line class=\"whisker\" x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\"/>",
            axis.x(low),
            axis.x(high)
        ));
    }
    if let Some(floor) = bar.floor {
        let x = axis.x(floor);
        line(format_args!(
            "<line class=\"floor\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>",
            y - 1.0,
            y + BAR + 1.0
        ));
    }
    if !bar.note.is_empty() {
        line(format_args!(
            "<text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            PLOT_RIGHT + NOTE - 8.0,
            y + BAR - 1.5,
            bar.note
        ));
    }
    let interval =
        bar.estimate.interval.map(|(low, high)| format!(" ({}–{})", short(low), short(high))).unwrap_or_default();
    line(format_args!(
        "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}×{interval}</text>",
        PLOT_RIGHT + NOTE,
        y + BAR - 1.5,
        short(bar.estimate.ratio)
    ));
}

/// A logarithmic axis from `low` to `high`, both powers of two.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over<'a>(bars: impl Iterator<Item = &'a Bar>) -> Axis {
        // At least from a half to four, so that equal peers do not look far apart.
        let (mut low, mut high) = (0.5f64, 4.0f64);
        for bar in bars {
            let (interval_low, interval_high) = bar.estimate.interval.unwrap_or((1.0, 1.0));
            low = low.min(bar.estimate.ratio).min(interval_low);
            high = high.max(bar.estimate.ratio).max(interval_high).max(bar.floor.unwrap_or(1.0));
        }
        Axis { low: low.log2().floor().exp2(), high: high.log2().ceil().exp2() }
    }

    fn x(&self, ratio: f64) -> f64 {
        let share = (ratio / self.low).log2() / (self.high / self.low).log2();
        PLOT_LEFT + share.clamp(0.0, 1.0) * (PLOT_RIGHT - PLOT_LEFT)
    }

    /// Powers of two, thinned out where they would not fit.
    fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.low.log2().round() as i32, self.high.log2().round() as i32);
        let step = (high - low) / 9 + 1;
        // Counted from 1 in both directions, so that 1 itself is always marked.
        (low..=high).filter(|power| power % step == 0).map(|power| f64::from(power).exp2()).collect()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(kind: Kind, ratio: f64, floor: Option<f64>) -> Bar {
        let estimate = Estimate { ratio, interval: Some((ratio * 0.9, ratio * 1.1)), rounds: 5 };
        Bar { kind, note: "p99", estimate, floor }
    }

    fn chart() -> Chart {
        Chart {
            title: "Weir & Kafka".into(),
            subtitle: "more than 1× means <better>".into(),
            rows: vec![
                Row {
                    label: "64 KiB \"bulk\"".into(),
                    bars: vec![bar(Kind::Throughput, 5.0, Some(3.2)), bar(Kind::Cpu, 0.25, Some(4.2))],
                },
                Row { label: "not run".into(), bars: vec![] },
            ],
        }
    }

    /// Attribute `name` of every element with this class.
    fn numbers(svg: &str, class: &str, name: &str) -> Vec<f64> {
        svg.lines()
            .filter(|line| line.starts_with('<') && line.contains(&format!("class=\"{class}\"")))
            .filter_map(|line| line.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn document_is_well_formed() {
        let svg = chart().to_svg();
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, _) = piece.split_once('>').unwrap();
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            match tag {
                _ if tag.ends_with('/') => {}
                _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name)),
                _ => open.push(name),
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(svg.contains("Weir &amp; Kafka") && svg.contains("&lt;better&gt;") && svg.contains("&quot;bulk&quot;"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(!svg.contains("not run"));
        assert!(svg.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn losses_go_left_and_gains_right_of_one() {
        let svg = chart().to_svg();
        let one = numbers(&svg, "one", "x1")[0];
        // The first rectangle of each class belongs to the legend.
        assert!((numbers(&svg, "throughput", "x")[1] - one).abs() < 0.2);
        let (x, width) = (numbers(&svg, "cpu", "x")[1], numbers(&svg, "cpu", "width")[1]);
        assert!((x + width - one).abs() < 0.2 && width > 10.0);
    }

    #[test]
    fn everything_lies_inside_the_picture() {
        let svg = chart().to_svg();
        for (class, name) in [("whisker", "x2"), ("floor", "x1"), ("grid", "x1"), ("value", "x")] {
            let found = numbers(&svg, class, name);
            assert!(!found.is_empty(), "{class}");
            assert!(found.iter().all(|&x| (0.0..WIDTH).contains(&x)), "{class} {found:?}");
        }
    }

    #[test]
    fn the_axis_marks_one_and_stays_readable() {
        for (low, high) in [(0.5, 4.0), (0.001, 2000.0), (0.25, 16.0), (1e-6, 1e9)] {
            let axis = Axis { low: f64::log2(low).floor().exp2(), high: f64::log2(high).ceil().exp2() };
            let ticks = axis.ticks();
            assert!(ticks.contains(&1.0), "{ticks:?}");
            assert!((3..=10).contains(&ticks.len()), "{ticks:?}");
        }
    }

    #[test]
    fn an_empty_chart_is_still_a_picture() {
        let svg = Chart { title: "nothing".into(), subtitle: String::new(), rows: vec![] }.to_svg();
        assert!(svg.ends_with("</svg>\n"));
        assert_eq!(svg, Chart { title: "nothing".into(), subtitle: String::new(), rows: vec![] }.to_svg());
    }
}
