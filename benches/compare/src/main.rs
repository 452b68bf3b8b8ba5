//! `compare`: runs Weir and Apache Kafka side by side and publishes whatever comes out.

use std::fmt::Display;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use compare::cases::{self, CASES, Case, Class};
use compare::cores::{CoreList, check_disjoint};
use compare::kafka;
use compare::machine::{Machine, today};
use compare::readme::replace_section;
use compare::record::{Circumstances, Folder, Settings, Side};
use compare::report::{readme_section, report};
use compare::run::{Plan, run_all};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Runs Weir and Apache Kafka 4.3.1 in turn on the same pinned cores and writes a report with all raw data.
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
struct Options {
    /// Only this case; may be given several times. --list names them
    #[arg(long = "case", value_name = "NAME", value_parser = parse_case)]
    cases: Vec<&'static Case>,
    /// Only this class; may be given several times. 1: Weir disk, Kafka as it ships; 2: Weir os, Kafka as it ships;
    /// 3: Weir disk, Kafka flush.messages=1
    #[arg(long = "class", value_name = "N", value_parser = parse_class)]
    classes: Vec<Class>,
    /// Rounds; each is one run of each side in every case
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that are measured in a run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds of the same load before that
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warmup: u64,
    /// Seconds of a slice: before that the same load runs in slices until one is like those before it
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    prewarm: u64,
    /// Seconds after which the slices end even so; 0 for none
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    prewarm_max: u64,
    /// One round of two seconds, neither warmed nor with memory touched: shows that everything works, its figures mean nothing
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "warmup", "prewarm", "prewarm_max", "touch_gb"])]
    quick: bool,
    /// Prints the cases with their floors and ends
    #[arg(long)]
    list: bool,
    /// Processors of the broker, for instance 0 or 0,2-3
    #[arg(long, value_name = "LIST", default_value = "0")]
    broker_cores: CoreList,
    /// Processors of the generator
    #[arg(long, value_name = "LIST", default_value = "1")]
    load_cores: CoreList,
    /// The program weir; built from this workspace where absent
    #[arg(long, value_name = "FILE")]
    weir_bin: Option<PathBuf>,
    /// The program weir-load; built from this workspace where absent
    #[arg(long, value_name = "FILE")]
    load_bin: Option<PathBuf>,
    /// Where the brokers keep their data: decides about the disk that is measured. Default: target/compare-data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// GB of memory to touch before each measured run; by case where absent
    #[arg(long, value_name = "GB")]
    touch_gb: Option<u64>,
    /// retention.bytes of the topics on both sides, for long runs
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<u64>,
    /// What is asked, for the name of the folder results/DATE-QUESTION
    #[arg(long, value_name = "WORDS", default_value = "weir-and-kafka", value_parser = parse_question)]
    question: String,
    /// The folder of the results. One that exists is continued: runs that it has are left out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Writes the table and chart into the main README, between its markers
    #[arg(long, conflicts_with = "quick")]
    readme: bool,
    /// Runs nothing: writes the report of a folder of results anew
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    report: Option<PathBuf>,
    /// Runs Apache Kafka on both sides: shows what the harness makes of equals
    #[arg(long)]
    kafka_on_both_sides: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(code) => code,
        Err(message) => {
            stdio::say(&format!("compare: {message}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, String> {
    if options.list {
        stdio::print(&listed()).map_err(|error| format!("cannot write to standard output: {error}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &options.report {
        publish(options, &Folder::at(folder))?;
        return Ok(ExitCode::SUCCESS);
    }
    if (1..2 * options.prewarm).contains(&options.prewarm_max) {
        return Err("--prewarm-max has no room for two slices of --prewarm".into());
    }
    let plan_cases = chosen_cases(options)?;
    check_disjoint(&options.broker_cores, &options.load_cores).map_err(in_words)?;

    let root = workspace_root();
    let data_parent = options.data_dir.clone().unwrap_or_else(|| root.join("target")).join("compare-data");
    let _lock = claim(&data_parent)?;
    let cache = kafka::cache_dir().map_err(in_words)?;
    stdio::say(&format!("Apache Kafka {}: from {}\n", kafka::VERSION, cache.display()));
    let jars = kafka::provision().map_err(in_words)?;
    let weir = match &options.weir_bin {
        _ if options.kafka_on_both_sides => None,
        Some(program) => Some(absolute(program)?),
        None => Some(build(&root, "server", "weir")?),
    };
    let weir_load = match &options.load_bin {
        Some(program) => absolute(program)?,
        None => build(&root, "loadgen", "weir-load")?,
    };

    let settings = settings(options);
    let circumstances = Circumstances {
        date: today(),
        commit: commit(&root)?,
        weir: match &weir {
            Some(program) => version(program)?,
            None => format!("Apache Kafka {} in Weir's place", kafka::VERSION),
        },
        kafka: kafka::VERSION.into(),
        java: jars.java_version().into(),
        machine: Machine::read(&data_parent).map_err(in_words)?,
        settings: settings.clone(),
    };
    let out = options
        .out
        .clone()
        .unwrap_or_else(|| root.join("results").join(format!("{}-{}", circumstances.date, options.question)));
    let (folder, _) = Folder::create(&out, &circumstances).map_err(in_words)?;

    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second signal ends the program at once; the first lets it stop the broker and delete its data.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted)).map_err(in_words)?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(in_words)?;
    }
    let rounds = if options.quick { 1 } else { options.rounds };
    let plan = Plan { settings, rounds, cases: plan_cases, weir, weir_load, jars, data_parent, interrupted };
    let outcome = run_all(&plan, &folder);
    // Also what an interrupted comparison has is worth reading.
    publish(options, &folder)?;
    match outcome.map_err(in_words)? {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(format!("{failed} runs failed: see {}", folder.path().display())),
    }
}

/// The cases with their floors.
fn listed() -> String {
    let mut text = String::new();
    for case in CASES {
        let classes: Vec<String> = case.classes.iter().map(|class| class.number().to_string()).collect();
        text += &format!("{:<18} class {:<5} {}\n", case.name, classes.join(","), case.title);
        for floor in case.floors {
            let (class, metric) = (floor.class.number(), floor.metric.title());
            text += &format!("{:18}   class {class}: {metric} {}\n", "", floor.bound);
        }
    }
    text
}

fn chosen_cases(options: &Options) -> Result<Vec<(Class, &'static Case)>, String> {
    let wanted_class = |class: &Class| options.classes.is_empty() || options.classes.contains(class);
    let wanted_case =
        |case: &Case| options.cases.is_empty() || options.cases.iter().any(|other| other.name == case.name);
    let chosen: Vec<(Class, &Case)> = Class::ALL
        .into_iter()
        .filter(wanted_class)
        .flat_map(|class| CASES.iter().filter(move |case| case.classes.contains(&class)).map(move |case| (class, case)))
        .filter(|(_, case)| wanted_case(case))
        .filter(|(_, case)| !options.kafka_on_both_sides || case.load.sides().contains(&Side::Kafka))
        .collect();
    if chosen.is_empty() {
        return Err("none of the cases is run in any of the classes: see --list".into());
    }
    Ok(chosen)
}

fn settings(options: &Options) -> Settings {
    let quick = options.quick;
    Settings {
        broker_cores: options.broker_cores.to_string(),
        load_cores: options.load_cores.to_string(),
        load_threads: options.load_cores.count(),
        measured_seconds: if quick { 2 } else { options.seconds },
        warmup_seconds: if quick { 1 } else { options.warmup },
        prewarm_slice_seconds: options.prewarm,
        prewarm_max_seconds: if quick { 0 } else { options.prewarm_max },
        retention_bytes: options.retention_bytes,
        touch_bytes: if quick { Some(0) } else { options.touch_gb.map(|gb| gb * 1_000_000_000) },
        kafka_on_both_sides: options.kafka_on_both_sides,
    }
}

/// Writes the report beside the raw data and, where asked, the section of the main README.
fn publish(options: &Options, folder: &Folder) -> Result<(), String> {
    let circumstances = folder.circumstances().map_err(in_words)?;
    let records = folder.records().map_err(in_words)?;
    let report = report(&circumstances, &records);
    let write = |path: &Path, text: &str| fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    for (name, svg) in &report.charts {
        write(&folder.path().join(name), svg)?;
    }
    let readme = folder.path().join("README.md");
    write(&readme, &report.readme)?;
    stdio::say(&format!("the report: {}\n", readme.display()));

    if options.readme {
        if circumstances.settings.kafka_on_both_sides {
            return Err("Apache Kafka against itself says nothing about Weir: not for the README".into());
        }
        let root = workspace_root();
        let main = root.join("README.md");
        let text = fs::read_to_string(&main).map_err(|error| format!("{}: {error}", main.display()))?;
        let results = folder.path().canonicalize().map_err(in_words)?;
        let relative = results
            .strip_prefix(&root)
            .map_err(|_| format!("{} lies outside the repository, so the README cannot show it", results.display()))?;
        let section = readme_section(&circumstances, &records, &relative.display().to_string());
        let new = replace_section(&text, &section).map_err(|error| format!("{}: {error}", main.display()))?;
        write(&main, &new)?;
    }
    Ok(())
}

/// Makes the data directory this program's own for its lifetime and deletes what an earlier one left there.
fn claim(data_parent: &Path) -> Result<File, String> {
    let named = |error: io::Error| format!("{}: {error}", data_parent.display());
    fs::create_dir_all(data_parent).map_err(named)?;
    let lock = File::create(data_parent.join("lock")).map_err(named)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(format!("another comparison runs in {}", data_parent.display()));
        }
        Err(TryLockError::Error(error)) => return Err(named(error)),
    }
    for entry in fs::read_dir(data_parent).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(named)?;
        }
    }
    Ok(lock)
}

/// Builds a package of the workspace and returns the path of its program.
fn build(root: &Path, package: &str, program: &str) -> Result<PathBuf, String> {
    stdio::say(&format!("building {program}\n"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--message-format=json-render-diagnostics", "-p", package])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("building {program} failed"));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == program)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| format!("the package {package} has no program {program}"))
}

/// The generator runs in a directory of its own, so a relative path would not be found.
fn absolute(program: &Path) -> Result<PathBuf, String> {
    program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))
}

fn version(program: &Path) -> Result<String, String> {
    let output =
        Command::new(program).arg("--version").output().map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        _ => Err(format!("{} --version says nothing ({})", program.display(), output.status)),
    }
}

/// The commit of the working tree. What a comparison itself writes does not count as a change.
fn commit(root: &Path) -> Result<String, String> {
    let git = |arguments: &[&str]| -> Result<String, String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(arguments)
            .output()
            .map_err(|error| format!("git: {error}"))?;
        if !output.status.success() {
            return Err(format!("git: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", ".", ":!results", ":!README.md"])?;
    Ok(if changes.is_empty() { head } else { format!("{head}-dirty") })
}

fn workspace_root() -> PathBuf {
    // benches/compare lies two levels below.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .components()
        .collect::<PathBuf>()
        .join("../..")
        .canonicalize()
        .unwrap_or_default()
}

fn parse_case(name: &str) -> Result<&'static Case, String> {
    cases::find(name).ok_or_else(|| "no such case: see --list".into())
}

fn parse_class(number: &str) -> Result<Class, String> {
    Class::ALL.into_iter().find(|class| class.number().to_string() == number).ok_or_else(|| "1, 2 or 3".into())
}

fn parse_question(words: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !words.is_empty() && words.chars().all(fits) {
        Ok(words.to_owned())
    } else {
        Err("letters, digits and hyphens, since it names a folder".into())
    }
}

fn in_words(error: impl Display) -> String {
    error.to_string()
}
