//! The raw data of a comparison: one JSON file for each run, one for the circumstances of all of them.
//!
//! ```text
//! results/2026-11-21-weir-and-kafka/
//!   machine.json                     Circumstances
//!   raw/1-produce-64k-r0-kafka.json  Record: class 1, case, round 0, peer
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cases::{Class, Metric};
use crate::machine::{Machine, Noise};
use crate::prewarm::Prewarm;

/// One of the two sides of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Weir, or in a run of Kafka against itself the Kafka in Weir's place.
    Weir,
    /// Apache Kafka.
    Kafka,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Side; 2] = [Side::Weir, Side::Kafka];

    /// For file names.
    pub fn name(self) -> &'static str {
        match self {
            Side::Weir => "weir",
            Side::Kafka => "kafka",
        }
    }
}

/// What holds for all runs of a comparison. Runs under other circumstances never go into the same folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    /// Date of the first run, UTC.
    pub date: String,
    /// Commit of Weir; ends in `-dirty` where the tree had changes.
    pub commit: String,
    /// What the side of Weir is, with its version.
    pub weir: String,
    /// Release of Apache Kafka.
    pub kafka: String,
    /// First line of `java -version`.
    pub java: String,
    /// The machine.
    pub machine: Machine,
    /// Options of the comparison.
    pub settings: Settings,
}

/// Options that shape every run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Processors of the broker.
    pub broker_cores: String,
    /// Processors of the generator.
    pub load_cores: String,
    /// Threads of the generator, one for each of its processors.
    pub load_threads: usize,
    /// Seconds that are measured in a run.
    pub measured_seconds: u64,
    /// Seconds of the same load before that, not measured.
    pub warmup_seconds: u64,
    /// Length of a slice of the load that goes before until it is steady, in seconds: see [`Prewarm`].
    pub prewarm_slice_seconds: u64,
    /// When that ends at the latest, in seconds of load; 0 for none.
    pub prewarm_max_seconds: u64,
    /// `retention.bytes` of the topics on both sides, where it was given.
    pub retention_bytes: Option<u64>,
    /// Memory touched before each run, where it was given; otherwise by case.
    pub touch_bytes: Option<u64>,
    /// True where Apache Kafka ran on both sides, to show what the harness makes of equals.
    pub kafka_on_both_sides: bool,
}

impl Settings {
    /// Processors of a broker that is to have two cores or more: its own, and where that is one, those of the generator as well.
    pub fn two_or_more_cores(&self) -> String {
        if self.broker_cores.contains([',', '-']) {
            self.broker_cores.clone()
        } else {
            format!("{},{}", self.broker_cores, self.load_cores)
        }
    }
}

/// One run of one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the class.
    pub class: u8,
    /// Name of the case.
    pub case: String,
    /// Counted from 0; a round is one run of each side, next to each other in time.
    pub round: u32,
    /// 0 for the first run of the round, 1 for the second.
    pub position: u32,
    /// Which side.
    pub side: Side,
    /// Milliseconds since 1970 at the start of the run.
    pub started_unix_ms: u64,
    /// The load until it was steady; absent where there was none.
    pub prewarm: Option<Prewarm>,
    /// Memory touched after that, in bytes.
    pub touched_bytes: u64,
    /// The command line of the generator; empty for idle runs.
    pub load_command: Vec<String>,
    /// What else the machine did while it was measured; absent where it did not come to that.
    pub noise: Option<Noise>,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It ran to its end.
    Measured {
        /// The figures.
        figures: BTreeMap<Metric, f64>,
        /// Why the figures are to be doubted: what the generator found about itself, or lost and repeated records.
        flags: Vec<String>,
        /// The generator's report as it wrote it; null for idle runs.
        report: serde_json::Value,
    },
    /// It failed.
    Failed {
        /// Why.
        why: String,
    },
}

impl Record {
    /// The figure, where the run has it.
    pub fn figure(&self, metric: Metric) -> Option<f64> {
        match &self.outcome {
            Outcome::Measured { figures, .. } => figures.get(&metric).copied(),
            Outcome::Failed { .. } => None,
        }
    }

    /// Why the run is to be doubted; empty for a failed run, which has no figures to doubt.
    pub fn flags(&self) -> &[String] {
        match &self.outcome {
            Outcome::Measured { flags, .. } => flags,
            Outcome::Failed { .. } => &[],
        }
    }

    fn file_name(&self) -> String {
        format!("{}-{}-r{}-{}.json", self.class, self.case, self.round, self.side.name())
    }
}

/// The folder of one comparison.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// Why a folder of results could not be used.
#[derive(Debug)]
pub enum FolderError {
    /// A file or directory could not be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what this program writes.
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The folder has runs under other circumstances.
    OtherCircumstances {
        /// The folder.
        path: PathBuf,
        /// The first circumstance that differs.
        what: &'static str,
    },
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FolderError::File { path, source } => write!(f, "{}: {source}", path.display()),
            FolderError::Format { path, source } => write!(f, "{}: {source}", path.display()),
            FolderError::OtherCircumstances { path, what } => write!(
                f,
                "{} holds runs with another {what}: choose another folder by --out or --question",
                path.display()
            ),
        }
    }
}

impl std::error::Error for FolderError {}

impl Folder {
    /// A folder that exists, for reading.
    pub fn at(path: &Path) -> Folder {
        Folder(path.to_owned())
    }

    /// Makes the folder, or continues one whose runs had the same circumstances. Returns those of its first run.
    pub fn create(path: &Path, circumstances: &Circumstances) -> Result<(Folder, Circumstances), FolderError> {
        let folder = Folder(path.to_owned());
        fs::create_dir_all(folder.raw()).map_err(file_error(path))?;
        let file = folder.circumstances_file();
        if file.exists() {
            let first: Circumstances = read(&file)?;
            return match difference(&first, circumstances) {
                None => Ok((folder, first)),
                Some(what) => Err(FolderError::OtherCircumstances { path: path.to_owned(), what }),
            };
        }
        write(&file, circumstances)?;
        Ok((folder, circumstances.clone()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The circumstances of the runs.
    pub fn circumstances(&self) -> Result<Circumstances, FolderError> {
        read(&self.circumstances_file())
    }

    /// Adds a run.
    pub fn add(&self, record: &Record) -> Result<(), FolderError> {
        write(&self.raw().join(record.file_name()), record)
    }

    /// True when the run is there and did not fail, so that a continued comparison leaves it out.
    pub fn has(&self, class: Class, case: &str, round: u32, side: Side) -> bool {
        let name = format!("{}-{case}-r{round}-{}.json", class.number(), side.name());
        read::<Record>(&self.raw().join(name)).is_ok_and(|record| matches!(record.outcome, Outcome::Measured { .. }))
    }

    /// All runs, ordered by class, case, round and side.
    pub fn records(&self) -> Result<Vec<Record>, FolderError> {
        let raw = self.raw();
        let mut records = Vec::new();
        for entry in fs::read_dir(&raw).map_err(file_error(&raw))? {
            let path = entry.map_err(file_error(&raw))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.push(read::<Record>(&path)?);
            }
        }
        records.sort_by(|a, b| (a.class, &a.case, a.round, a.side).cmp(&(b.class, &b.case, b.round, b.side)));
        Ok(records)
    }

    fn raw(&self) -> PathBuf {
        self.0.join("raw")
    }

    fn circumstances_file(&self) -> PathBuf {
        self.0.join("machine.json")
    }
}

/// What differs so that figures may not be put side by side; the date may.
fn difference(a: &Circumstances, b: &Circumstances) -> Option<&'static str> {
    let same = [
        ("commit", a.commit == b.commit),
        ("version of Weir", a.weir == b.weir),
        ("release of Kafka", a.kafka == b.kafka),
        ("version of Java", a.java == b.java),
        ("machine", a.machine == b.machine),
        ("set of options", a.settings == b.settings),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, FolderError> {
    let bytes = fs::read(path).map_err(file_error(path))?;
    serde_json::from_slice(&bytes).map_err(|source| FolderError::Format { path: path.to_owned(), source })
}

/// Through a neighbouring file, so that a run that was interrupted while it wrote leaves nothing that cannot be read.
fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), FolderError> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|source| FolderError::Format { path: path.to_owned(), source })?;
    text.push('\n');
    let partial = path.with_added_extension("partial");
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(file_error(path))
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::File { path: path.clone(), source }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::process::TempDir;

    pub(crate) fn circumstances() -> Circumstances {
        Circumstances {
            date: "2026-11-21".into(),
            commit: "0123456789abcdef".into(),
            weir: "weir 0.1.0".into(),
            kafka: "4.3.1".into(),
            java: "openjdk version \"17.0.15\"".into(),
            machine: Machine {
                cpu_model: "AMD EPYC".into(),
                cpus: 2,
                virtual_machine: true,
                kernel: "Linux 6.18".into(),
                memory_bytes: 24 << 30,
                file_system: "ext4".into(),
                device: "/dev/vda".into(),
                disk_bytes: 250 << 30,
            },
            settings: Settings {
                broker_cores: "0".into(),
                load_cores: "1".into(),
                load_threads: 1,
                measured_seconds: 6,
                warmup_seconds: 3,
                prewarm_slice_seconds: 5,
                prewarm_max_seconds: 45,
                retention_bytes: None,
                touch_bytes: None,
                kafka_on_both_sides: false,
            },
        }
    }

    pub(crate) fn record(case: &str, round: u32, side: Side, figures: &[(Metric, f64)]) -> Record {
        Record {
            class: 1,
            case: case.into(),
            round,
            position: 0,
            side,
            started_unix_ms: 1,
            prewarm: None,
            touched_bytes: 2,
            load_command: vec!["weir-load".into()],
            noise: Some(Noise {
                steal: 0.01,
                idle: 0.2,
                load_average_before: 1.0,
                load_average_after: 1.5,
                kernel_cores: Some(0.25),
            }),
            outcome: Outcome::Measured {
                figures: figures.iter().copied().collect(),
                flags: vec![],
                report: serde_json::json!({ "kept": [1, 2.5, null] }),
            },
        }
    }

    #[test]
    fn runs_are_read_back_as_they_were_written() {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-results-test").unwrap();
        let (folder, first) = Folder::create(&temp.path().join("results"), &circumstances()).unwrap();
        assert_eq!(first, circumstances());
        let measured = record("produce-64k", 1, Side::Weir, &[(Metric::P999Micros, 12.5)]);
        let mut failed = record("produce-64k", 0, Side::Kafka, &[]);
        failed.outcome = Outcome::Failed { why: "no space".into() };
        folder.add(&measured).unwrap();
        folder.add(&failed).unwrap();
        assert_eq!(folder.records().unwrap(), [failed, measured]);
        assert_eq!(folder.circumstances().unwrap(), circumstances());

        assert!(folder.has(Class::DiskAgainstShipped, "produce-64k", 1, Side::Weir));
        assert!(!folder.has(Class::DiskAgainstShipped, "produce-64k", 0, Side::Kafka), "a failed run is run again");
        assert!(!folder.has(Class::OsAgainstShipped, "produce-64k", 1, Side::Weir));
    }

    #[test]
    fn a_folder_is_continued_only_under_the_same_circumstances() {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-results-test").unwrap();
        Folder::create(temp.path(), &circumstances()).unwrap();
        let mut later = circumstances();
        later.date = "2026-11-22".into();
        let (_, kept) = Folder::create(temp.path(), &later).unwrap();
        assert_eq!(kept.date, "2026-11-21");

        later.commit = "fedcba".into();
        let refused = Folder::create(temp.path(), &later).unwrap_err();
        assert!(refused.to_string().contains("commit"), "{refused}");
        let mut other = circumstances();
        other.settings.measured_seconds = 60;
        let refused = Folder::create(temp.path(), &other).unwrap_err();
        assert!(refused.to_string().contains("set of options"), "{refused}");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-results-test").unwrap();
        let (folder, _) = Folder::create(temp.path(), &circumstances()).unwrap();
        fs::write(folder.raw().join("1-x-r0-weir.json"), "{").unwrap();
        assert!(folder.records().unwrap_err().to_string().contains("1-x-r0-weir.json"));
    }
}
