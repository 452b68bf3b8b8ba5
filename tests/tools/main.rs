//! Kafka's command line tools, run against Weir and against Apache Kafka: what they print must be the same, line by line,
//! after what differs from run to run has been masked. [`COMMANDS`] are played in order to each broker, in one virtual
//! machine each (`Run.java`) but for a few; [`ACCEPTED`] are the lines in which the two may differ, with the reason.
//!
//! `WEIR_TOOLS_SHOW=NAME` prints what a command printed on both sides.

mod commands;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use harness::broker::{Broker, Peer};
use harness::process::run;
use harness::{cache, provision, suite};

use crate::commands::{ACCEPTED, APART, COMMANDS, FILES, LONG_NAMES, MEASURING, Row, UNORDERED};

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn tools_print_the_same() {
    let _machine = cache::whole_machine();
    let weir = outputs(Peer::Weir);
    let kafka = outputs(Peer::Kafka);
    let mut met = BTreeSet::new();
    let mut different = Vec::new();
    let show = std::env::var("WEIR_TOOLS_SHOW").unwrap_or_default();
    for ((name, of_weir), (_, of_kafka)) in weir.iter().zip(&kafka) {
        if show == *name || show == "*" {
            println!("{name}\n  Kafka\n    {}\n  Weir\n    {}", of_kafka.join("\n    "), of_weir.join("\n    "));
        }
        let expected = of_kafka.iter().filter_map(|line| as_weir_says(name, line, &mut met));
        let expected: Vec<String> =
            expected.flat_map(|text| text.split('\n').map(str::to_owned).collect::<Vec<_>>()).collect();
        if *of_weir != expected {
            let (theirs, ours) = (missing(&expected, of_weir), missing(of_weir, &expected));
            different.push(format!("{name}\n  Kafka\n    {theirs}\n  Weir\n    {ours}"));
        }
    }
    let idle = ACCEPTED.iter().enumerate().filter(|(row, _)| !met.contains(row));
    different.extend(idle.map(|(_, row)| format!("accepted, and never met: {row:?}")));
    assert!(different.is_empty(), "{} commands differ\n{}", different.len(), different.join("\n"));
}

/// The lines that only the first one has, or all of it if it has none.
fn missing(own: &[String], others: &[String]) -> String {
    let only: Vec<String> = own.iter().filter(|line| !others.contains(line)).cloned().collect();
    if only.is_empty() { own } else { &only }.join("\n    ")
}

/// What each command prints, with its exit status.
fn outputs(peer: Peer) -> Vec<(&'static str, Vec<String>)> {
    let broker = Broker::start_peer(peer, &suite!(), "tools", &[]);
    let jars = provision::kafka();
    let dir = broker.dir().join("tools");
    std::fs::create_dir_all(&dir).expect("a directory for the outputs");
    for (name, text) in FILES {
        std::fs::write(dir.join(name), text).expect("a file for the tools");
    }
    let bootstrap = broker.bootstrap();
    let fill = |arguments: &str| {
        let arguments = arguments.replace("{}", &format!("--bootstrap-server {bootstrap}"));
        arguments.replace("{broker}", &bootstrap).replace("{dir}", &dir.display().to_string())
    };
    // Those that run in one virtual machine first.
    let line = |(name, input, class, arguments): &Row| {
        format!("{name}\t{}\t{class}\t{}\n", input.replace('\n', "\\n"), fill(arguments).replace(' ', "\t"))
    };
    let together = COMMANDS.iter().filter(|row| !APART.contains(&row.2)).map(line);
    let commands = dir.join("commands");
    std::fs::write(&commands, together.collect::<String>()).expect("a file for the tools");
    let mut java = Command::new(jars.java());
    java.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", &jars.class_path()]);
    java.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tools/Run.java")).arg(&commands).arg(&dir);
    run(&mut java, &dir.join("java.log"));
    for (name, _, class, arguments) in COMMANDS.iter().filter(|row| APART.contains(&row.2)) {
        let output = jars.command(class).args(fill(arguments).split(' ')).output().expect("java starts");
        let status = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
        for (kind, text) in [("out", output.stdout), ("err", output.stderr), ("rc", status.into_bytes())] {
            std::fs::write(dir.join(format!("{name}.{kind}")), text).expect("a file for the output of a tool");
        }
    }
    let output = |(name, ..): &Row| (*name, seen(name, &dir, &broker));
    COMMANDS.iter().map(output).collect()
}

/// What stands before numbers that differ from run to run: epochs that count the records of a log, and times.
const VARYING: &[&str] = &["Epoch: ", "\"timestamp\":", "\"avg_throughput\":", "test-group-"];

/// What one command has printed and said, masked.
fn seen(name: &str, dir: &Path, broker: &Broker) -> Vec<String> {
    let read = |kind: &str| std::fs::read_to_string(dir.join(format!("{name}.{kind}"))).expect("the output of a tool");
    let data = std::fs::canonicalize(broker.data_dir()).expect("the broker's directory").display().to_string();
    let bootstrap = broker.bootstrap();
    let port = bootstrap.rsplit(':').next().unwrap_or_default();
    let mask =
        |line: &str| {
            let line = line.replace(&bootstrap, "BROKER").replace(&data, "DATA").replace(port, "PORT");
            let line = line.replace(&dir.display().to_string(), "DIR");
            let line = VARYING.iter().fold(sorted(&line), |line, name| without_value(&line, name));
            let line = words(&line, |word| {
                if is_id(word) && !is_one_of(LONG_NAMES, name) { "ID".to_owned() } else { word.to_owned() }
            });
            if is_one_of(MEASURING, name) { numbers(&line) } else { without_times(&line) }
        };
    let mut lines = vec![format!("exit status {}", read("rc"))];
    lines.extend(read("out").lines().map(mask));
    // Frames of the tools' own code say nothing of the broker.
    let said = read("err");
    let said = said.lines().filter(|line| !line.trim_start().starts_with("at ") && !line.contains("... "));
    lines.extend(said.map(|line| format!("error: {}", mask(&without_time(line)))));
    if is_one_of(UNORDERED, name) {
        lines.sort();
    }
    lines
}

/// A topic's or cluster's id: 22 characters of base64url with digits and letters of both cases.
fn is_id(word: &str) -> bool {
    let has = |kind: fn(&char) -> bool| word.chars().any(|it| kind(&it));
    word.len() == 22
        && word.chars().all(|it| it.is_ascii_alphanumeric() || "-_".contains(it))
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_lowercase)
}

/// Applies `change` to each run of characters that an id may have.
fn words(line: &str, change: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for it in line.chars().chain(['\n']) {
        if it.is_ascii_alphanumeric() || "-_".contains(it) {
            word.push(it);
            continue;
        }
        out.push_str(&change(&word));
        word.clear();
        out.push(it);
    }
    out.trim_end_matches('\n').to_owned()
}

/// Every number as `#`, and columns that are as wide as their numbers with one space between them.
fn numbers(line: &str) -> String {
    let mut out = String::new();
    for it in line.chars() {
        let in_number = out.ends_with('#') && (it == '.' || it == ',');
        match it {
            _ if it.is_ascii_digit() && out.ends_with('#') => {}
            _ if it.is_ascii_digit() => out.push('#'),
            _ if in_number && it == '.' => {}
            ' ' if out.ends_with(' ') => {}
            _ => out.push(it),
        }
    }
    out
}

/// A line with `#` for each number that has as many digits as the milliseconds since 1970.
fn without_times(line: &str) -> String {
    let pieces = line.split_inclusive(|it: char| !it.is_ascii_digit());
    let piece = |piece: &str| match piece.trim_end_matches(|it: char| !it.is_ascii_digit()) {
        number if number.len() == 13 => piece.replacen(number, "#", 1),
        _ => piece.to_owned(),
    };
    pieces.map(piece).collect()
}

/// A line of a tool's log without the time in brackets before it.
fn without_time(line: &str) -> String {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, rest)) if time.starts_with("20") => rest.to_owned(),
        _ => line.to_owned(),
    }
}

/// JSON with the members of each object in the order of their names: these tools print them in any order. Another text stays
/// as it is.
fn sorted(text: &str) -> String {
    let inside = |open, close| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let Some(inner) = inside('{', '}').or(inside('[', ']')) else { return text.to_owned() };
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, it) in inner.char_indices() {
        match it {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    if text.starts_with('[') {
        return format!("[{}]", parts.into_iter().map(sorted).collect::<Vec<_>>().join(","));
    }
    let member = |part: &str| match part.split_once(':') {
        Some((name, value)) => format!("{name}:{}", sorted(value)),
        None => part.to_owned(),
    };
    let members: BTreeSet<String> = parts.into_iter().map(member).collect();
    format!("{{{}}}", members.into_iter().collect::<Vec<_>>().join(","))
}

/// A line with `#` for the number behind `name`.
fn without_value(line: &str, name: &str) -> String {
    let in_number = |it: char| it.is_ascii_digit() || it == '.';
    match line.split_once(name) {
        Some((before, rest)) => format!("{before}{name}#{}", rest.trim_start_matches(in_number)),
        None => line.to_owned(),
    }
}

/// What stands with Weir where Kafka prints `line`, which is nothing for some. `met` is told which rows were of use.
fn as_weir_says(name: &str, line: &str, met: &mut BTreeSet<usize>) -> Option<String> {
    let found = ACCEPTED.iter().enumerate().find_map(|(index, (command, kafka, weir, _))| {
        captures(command, name)?;
        Some((index, *weir, captures(kafka, line)?))
    });
    let Some((row, weir, captured)) = found else { return Some(line.to_owned()) };
    met.insert(row);
    let mut captured = captured.into_iter();
    let parts: Vec<&str> = weir.split('*').collect();
    let text: String = parts.iter().enumerate().fold(String::new(), |text, (index, part)| {
        let before = if index == 0 { "" } else { captured.next().expect("as many in either line") };
        text + before + part
    });
    (!weir.is_empty()).then_some(text)
}

fn is_one_of(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| captures(pattern, name).is_some())
}

/// What stands for each `*` of a pattern in a text, if the text is of that pattern. `…` is any text too, and is not told.
fn captures<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let Some(at) = pattern.find(['*', '…']) else { return (pattern == text).then(Vec::new) };
    let text = text.strip_prefix(&pattern[..at])?;
    let told = pattern[at..].starts_with('*');
    let rest = pattern[at..].trim_start_matches(if told { "*" } else { "…" });
    let mut ends = (0..=text.len()).filter(|end| text.is_char_boundary(*end));
    ends.find_map(|end| {
        let mut found = captures(rest, &text[end..])?;
        if told {
            found.insert(0, &text[..end]);
        }
        Some(found)
    })
}

#[test]
fn what_differs_from_run_to_run_is_masked() {
    assert_eq!(
        words("TopicId: XAvYkqQ5SPeZkAmZgx0PZg\tx", |it| if is_id(it) { "ID".into() } else { it.into() }),
        "TopicId: ID\tx"
    );
    assert_eq!(numbers("500 records sent, 1.25 records/sec (0.12 MB/sec)"), "# records sent, # records/sec (# MB/sec)");
    assert_eq!(without_time("[2026-01-01 00:00:00,000] WARN x"), "WARN x");
    assert_eq!(sorted(r#"{"b":[{"y":1,"x":2}],"a":"z"}"#), r#"{"a":"z","b":[{"x":2,"y":1}]}"#);
    assert_eq!(without_value("Epoch: 112", "Epoch: "), "Epoch: #");
    assert_eq!(without_times("7\t1795771055826 -1"), "7\t# -1");
    assert_eq!(captures("a*c…", "abcd"), Some(vec!["b"]));
    assert_eq!(captures("a*c", "abcd"), None);
}
