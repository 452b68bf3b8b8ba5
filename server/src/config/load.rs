//! Collects what the command line, the environment and the file say, checks it against the table, and decides which
//! says it last: command line, environment, file, default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::kafka_keys::{Treatment, treatment};
use super::kind::parse_named;
use super::properties::{self, BadEscape};
use super::settings::{self, CONFIG_FLAG, ENVIRONMENT_PREFIX, SETTINGS, Setting};
use super::topic::{Configs, TOPIC_CONFIGS};

/// Where a value was given. The order is the precedence, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file of `--config`.
    File,
    /// A variable of the environment.
    Environment,
    /// A flag.
    CommandLine,
}

/// What was given, checked key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Settings that were given, by the table's names, in the form in which they are shown.
    pub given: Configs,
    /// One sentence for the log for each thing that was accepted and has no effect.
    pub notes: Vec<String>,
}

/// Why the settings cannot be used.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file breaks the syntax.
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        error: BadEscape,
    },
    /// The file has a key that neither Weir nor Kafka 4.3 knows.
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// The file has a key whose neglect would mislead.
    RefusedKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with its value.
        property: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A variable of the environment that begins as Weir's do and is none of them.
    UnknownVariable(String),
    /// A variable that is no text.
    VariableNotText(String),
    /// A value that its setting does not allow.
    BadValue {
        /// The flag, the variable, or the file with its line.
        place: String,
        /// The sentence.
        error: String,
    },
    /// Two keys for one setting, with different values.
    Contradiction {
        /// The file.
        path: PathBuf,
        /// One key.
        key: &'static str,
        /// The other.
        alias: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unreadable { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            LoadError::Syntax { path, error } => write!(f, "{}: {error}", path.display()),
            LoadError::UnknownKey { path, line, key } => {
                write!(f, "{}:{line}: unknown key {key}", path.display())?;
                match nearest(key) {
                    Some(known) => write!(f, "; did you mean {known}?"),
                    None => f.write_str("; `weir config` lists all keys"),
                }
            }
            LoadError::RefusedKey { path, line, property, why } => {
                write!(f, "{}:{line}: {property} cannot be had: {why}", path.display())
            }
            LoadError::UnknownVariable(name) => {
                write!(f, "unknown variable {name} in the environment; `weir config` lists all settings")
            }
            LoadError::VariableNotText(name) => write!(f, "the variable {name} is not valid UTF-8"),
            LoadError::BadValue { place, error } => write!(f, "{place}: {error}"),
            LoadError::Contradiction { path, key, alias } => {
                write!(f, "{}: {key} and {alias} are one setting and have different values", path.display())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Collects all settings that are given.
///
/// `flags` are pairs of a flag's name and its value, `environment` all variables of the process.
pub fn load(
    flags: &[(String, String)],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, LoadError> {
    let mut notes = Vec::new();
    let mut given = Given::default();
    let (variables, file_variable) = read_environment(environment, &mut notes)?;
    let file_flag = flags.iter().rev().find(|(name, _)| name == CONFIG_FLAG).map(|(_, value)| value);
    if let Some(path) = file_flag.or(file_variable.as_ref()) {
        read_file(Path::new(path), &mut given, &mut notes)?;
    }
    for (setting, value) in variables {
        given.put(setting, &value, Place::Environment, || setting.variable())?;
    }
    for (flag, value) in flags {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.flag == *flag) {
            given.put(setting, value, Place::CommandLine, || format!("--{flag}"))?;
        }
    }
    Ok(Loaded { given: given.resolve(), notes })
}

/// Values with the place that gave them.
#[derive(Default)]
struct Given(BTreeMap<&'static str, (String, Place)>);

impl Given {
    /// Notes a value. Places are read from the weakest to the strongest, so a later one replaces an earlier one.
    fn put(
        &mut self,
        setting: &'static Setting,
        text: &str,
        place: Place,
        shown: impl FnOnce() -> String,
    ) -> Result<(), LoadError> {
        let value = parse_named(setting.name, &setting.kind, text)
            .map_err(|error| LoadError::BadValue { place: shown(), error })?;
        self.0.insert(setting.name, (value.to_string(), place));
        Ok(())
    }

    /// Leaves one unit of each duration: where a stronger place gives hours, the weaker place's milliseconds go.
    fn resolve(mut self) -> Configs {
        for row in TOPIC_CONFIGS {
            let places = || row.server.iter().filter_map(|synonym| self.0.get(synonym.key).map(|(_, place)| *place));
            let Some(strongest) = places().max() else { continue };
            for synonym in row.server {
                if self.0.get(synonym.key).is_some_and(|(_, place)| *place < strongest) {
                    self.0.remove(synonym.key);
                }
            }
        }
        self.0.into_iter().map(|(name, (value, _))| (name.to_owned(), value)).collect()
    }
}

fn read_file(path: &Path, given: &mut Given, notes: &mut Vec<String>) -> Result<(), LoadError> {
    let text = std::fs::read_to_string(path).map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
    let properties = properties::parse(&text).map_err(|error| LoadError::Syntax { path: path.to_owned(), error })?;
    let mut without_effect = Vec::new();
    let mut last_key: BTreeMap<&str, String> = BTreeMap::new();
    for property in properties {
        let (key, line) = (property.key, property.line);
        if let Some(setting) = settings::find(&key) {
            let before = given.0.get(setting.name).map(|(value, _)| value.clone());
            given.put(setting, &property.value, Place::File, || format!("{}:{line}", path.display()))?;
            let other_key = last_key.insert(setting.name, key.clone()).filter(|other| *other != key);
            if let Some(alias) = other_key
                && before.as_deref() != given.0.get(setting.name).map(|(value, _)| value.as_str())
            {
                return Err(LoadError::Contradiction {
                    path: path.to_owned(),
                    key: setting.name,
                    alias: pick(alias, key, setting.name),
                });
            }
            continue;
        }
        match treatment(&key) {
            Some(Treatment::NoEffect) => without_effect.push(key),
            Some(Treatment::Unless(refusal)) if (refusal.harmless)(property.value.trim()) => without_effect.push(key),
            Some(Treatment::Unless(refusal)) => {
                return Err(LoadError::RefusedKey {
                    path: path.to_owned(),
                    line,
                    property: format!("{key}={}", property.value),
                    why: refusal.why,
                });
            }
            None => return Err(LoadError::UnknownKey { path: path.to_owned(), line, key }),
        }
    }
    if !without_effect.is_empty() {
        notes.push(format!("{}: these keys have no effect: {}", path.display(), without_effect.join(", ")));
    }
    Ok(())
}

/// Of two keys the one that is not the setting's name.
fn pick(one: String, other: String, name: &str) -> String {
    if one == name { other } else { one }
}

type Variables = Vec<(&'static Setting, String)>;

/// The settings in the environment, and the file that it names.
fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    notes: &mut Vec<String>,
) -> Result<(Variables, Option<String>), LoadError> {
    let mut variables = Variables::new();
    let mut file = None;
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else { continue };
        let value = value.into_string().map_err(|_| LoadError::VariableNotText(name.to_owned()))?;
        if name[ENVIRONMENT_PREFIX.len()..].eq_ignore_ascii_case(CONFIG_FLAG) {
            file = Some(value);
        } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
            variables.push((setting, value));
        } else if is_service_link(name) {
            notes.push(format!("the variable {name} has no effect: it is one that container platforms set"));
        } else {
            return Err(LoadError::UnknownVariable(name.to_owned()));
        }
    }
    Ok((variables, file))
}

/// Kubernetes and Docker set such variables in every container beside a service of the name `weir`.
fn is_service_link(name: &str) -> bool {
    let rest = &name[ENVIRONMENT_PREFIX.len()..];
    rest == "PORT"
        || rest == "NAME"
        || rest.starts_with("PORT_")
        || rest.starts_with("SERVICE_")
        || rest.starts_with("ENV_")
}

/// A known key that differs from `key` by a slip.
fn nearest(key: &str) -> Option<&'static str> {
    let names = SETTINGS.iter().map(|setting| setting.name);
    names.map(|name| (distance(key, name), name)).min().filter(|(distance, _)| *distance <= 2).map(|(_, name)| name)
}

/// Letters to insert, remove or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.properties");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    fn from(flags: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Loaded, LoadError> {
        let flags: Vec<_> = flags.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        load(&flags, environment.iter().map(|(a, b)| (OsString::from(a), OsString::from(b))))
    }

    fn from_file(text: &str) -> Result<Loaded, LoadError> {
        let (_dir, path) = file(text);
        from(&[("config", &path)], &[])
    }

    #[test]
    fn the_command_line_wins_then_the_environment_then_the_file() {
        let (_dir, path) = file("num.partitions=3\nnode.id=3\nlog.dirs=/three\nmessage.max.bytes=3");
        let loaded = from(
            &[("config", &path), ("num-partitions", "1")],
            &[("WEIR_NUM_PARTITIONS", "2"), ("WEIR_NODE_ID", "2"), ("WEIR_DATA_DIR", "/two"), ("HOME", "/root")],
        )
        .unwrap();
        let expected = [("log.dirs", "/two"), ("message.max.bytes", "3"), ("node.id", "2"), ("num.partitions", "1")];
        assert_eq!(loaded.given, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }

    #[test]
    fn the_environment_may_name_the_file_and_the_command_line_another() {
        let (_one, one) = file("node.id=11");
        let (_two, two) = file("node.id=12");
        assert_eq!(from(&[], &[("WEIR_CONFIG", &one)]).unwrap().given["node.id"], "11");
        assert_eq!(from(&[("config", &two)], &[("WEIR_CONFIG", &one)]).unwrap().given["node.id"], "12");
    }

    #[test]
    fn a_coarse_unit_from_a_stronger_place_wins() {
        let (_dir, path) = file("log.retention.ms=5\nlog.roll.ms=7\nlog.roll.hours=9");
        let loaded = from(&[("config", &path), ("log-retention-hours", "1")], &[]).unwrap();
        assert_eq!(loaded.given.get("log.retention.ms"), None);
        assert_eq!(loaded.given["log.retention.hours"], "1");
        assert_eq!((loaded.given["log.roll.ms"].as_str(), loaded.given["log.roll.hours"].as_str()), ("7", "9"));
    }

    #[test]
    fn the_stock_file_is_accepted_and_says_what_has_no_effect() {
        let loaded = from_file(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
             listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
             socket.receive.buffer.bytes=102400\nsocket.request.max.bytes=104857600\nlog.dirs=/tmp/kraft\n\
             num.partitions=1\nnum.recovery.threads.per.data.dir=2\noffsets.topic.replication.factor=1\n\
             share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\nlog.retention.hours=168\n\
             log.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n",
        )
        .unwrap();
        assert_eq!(loaded.given["log.dirs"], "/tmp/kraft");
        assert_eq!(loaded.notes.len(), 1);
        assert!(
            loaded.notes[0].contains("num.network.threads, num.io.threads, socket.send.buffer.bytes"),
            "{loaded:?}"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("num.partition=3", ":1: unknown key num.partition; did you mean num.partitions?"),
            ("\nzookeeper.connect=x", ":2: unknown key zookeeper.connect; `weir config` lists all keys"),
            ("num.partitions=0", ":1: Invalid value 0 for configuration num.partitions: Value must be at least 1"),
            ("node.id=1\nbroker.id=2", ": node.id and broker.id are one setting and have different values"),
            ("log.dir=/a\nlog.dirs=/b", ": log.dirs and log.dir are one setting and have different values"),
            ("a=\\u12", ": line 1: \\u must be followed by four hexadecimal digits of a character"),
            (
                "authorizer.class.name=org.example.A",
                ":1: authorizer.class.name=org.example.A cannot be had: Weir does not authorise clients yet, so \
                 everything would be open; remove the key to agree to that",
            ),
        ];
        for (text, sentence) in cases {
            let error = from_file(text).unwrap_err().to_string();
            assert!(error.ends_with(sentence), "{text:?} gives {error:?}");
        }
        let error = from(&[("config", "/nowhere/x")], &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/x: "), "{error}");
        let error = from(&[], &[("WEIR_DATADIR", "x")]).unwrap_err().to_string();
        assert_eq!(error, "unknown variable WEIR_DATADIR in the environment; `weir config` lists all settings");
        let error = from(&[("durability", "maybe")], &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            "--durability: Invalid value maybe for configuration durability: String must be one of: disk, os"
        );
        let error = from(&[], &[("WEIR_CORES", "3-1")]).unwrap_err().to_string();
        assert!(error.starts_with("WEIR_CORES: Invalid value 3-1 for configuration cores: "), "{error}");
    }

    #[test]
    fn one_setting_under_two_keys_may_agree() {
        assert_eq!(from_file("node.id=7\nbroker.id=7").unwrap().given["node.id"], "7");
        assert_eq!(from_file("node.id=7\nnode.id=8").unwrap().given["node.id"], "8");
    }

    #[test]
    fn variables_of_container_platforms_are_named_and_pass() {
        let loaded = from(&[], &[("WEIR_SERVICE_HOST", "10.0.0.1"), ("WEIR_PORT_9092_TCP", "tcp://10.0.0.1")]).unwrap();
        assert!(loaded.given.is_empty());
        assert_eq!(loaded.notes.len(), 2);
    }
}
