//! The loggers of the broker (KIP-412): which parts of it say something, and how much each says. Levels may be changed
//! while the broker runs and are not kept over a restart, which begins with `log.level` for all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::filter::Targets;

/// The logger that stands for all which have no level of their own.
pub const ROOT: &str = "root";

/// The other loggers: the modules that say something, by path, in alphabetical order. One stands for the modules in it too.
const MODULES: &[&str] = &[
    "server::assembly",
    "server::broker",
    "server::connection",
    "server::controller",
    "server::coordinator::driver",
    "server::coordinator::log",
    "server::disk",
    "server::handlers::find_coordinator",
    "server::handlers::metadata",
    "server::listener",
    "server::loggers",
    "server::transaction::markers",
    "server::transaction::service",
    "weir",
];

/// How much a logger says: what is as grave as the level, or graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing: the broker has no message of this level.
    Fatal,
    /// What needs the operator.
    Error,
    /// What may need the operator.
    Warn,
    /// What the operator may want to know.
    Info,
    /// What helps to find a fault.
    Debug,
    /// More of it.
    Trace,
}

/// The levels by name, in alphabetical order.
const NAMES: [(&str, Level); 6] = [
    ("DEBUG", Level::Debug),
    ("ERROR", Level::Error),
    ("FATAL", Level::Fatal),
    ("INFO", Level::Info),
    ("TRACE", Level::Trace),
    ("WARN", Level::Warn),
];

impl Level {
    /// The level of a name. The names are in capital letters.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Level> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
    }

    /// All names.
    #[must_use]
    pub fn names() -> [&'static str; 6] {
        NAMES.map(|(name, _)| name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Fatal => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

/// The loggers of this process, for all cores.
pub struct Loggers {
    levels: Mutex<Levels>,
    apply: Box<dyn Fn(Targets) + Send + Sync>,
}

struct Levels {
    root: Level,
    /// Of those that have one of their own.
    own: BTreeMap<&'static str, Level>,
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.all()).finish()
    }
}

impl Loggers {
    /// All say as much as `root`. `apply` puts levels into force, and is called at once.
    pub fn new(root: Level, apply: impl Fn(Targets) + Send + Sync + 'static) -> Arc<Loggers> {
        let levels = Levels { root, own: BTreeMap::new() };
        apply(levels.targets());
        Arc::new(Loggers { levels: Mutex::new(levels), apply: Box::new(apply) })
    }

    /// The logger of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static str> {
        [ROOT].iter().chain(MODULES).find(|known| **known == name).copied()
    }

    /// All loggers, each with the level that counts for it.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, Level)> {
        let levels = self.lock();
        let root = (ROOT, levels.root);
        [root].into_iter().chain(MODULES.iter().map(|name| (*name, levels.of(name)))).collect()
    }

    /// Gives loggers levels of their own, or takes them back: then the next one above counts. The root keeps one.
    pub fn set(&self, changes: &[(&'static str, Option<Level>)]) {
        for (name, level) in changes {
            // Before it is in force, so that whoever silences this one is told as well.
            warn!("the log level of {name} is set to {}", level.map_or("that of its parent", Level::name));
        }
        let mut levels = self.lock();
        for &(name, level) in changes {
            match level {
                Some(level) if name == ROOT => levels.root = level,
                Some(level) => drop(levels.own.insert(name, level)),
                None => drop(levels.own.remove(name)),
            }
        }
        (self.apply)(levels.targets());
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        // Whoever panicked left levels, at worst some of those that were to be set.
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Levels {
    fn of(&self, module: &str) -> Level {
        let is_above =
            |name: &str| module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
        // The nearest one has the longest name.
        self.own.iter().rev().find(|(name, _)| is_above(name)).map_or(self.root, |(_, level)| *level)
    }

    fn targets(&self) -> Targets {
        let own = self.own.iter().map(|(name, level)| (*name, level.filter()));
        Targets::new().with_default(self.root.filter()).with_targets(own)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::Level as Of;

    use super::*;

    fn files(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, out);
            } else if path.extension().is_some_and(|it| it == "rs") {
                out.push(path);
            }
        }
    }

    #[test]
    fn every_module_that_says_something_is_a_logger() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        files(&root, &mut paths);
        let mut modules = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if !["error!(", "warn!(", "info!(", "debug!(", "trace!("].iter().any(|call| code.contains(call)) {
                continue;
            }
            let path = path.strip_prefix(&root).unwrap().with_extension("");
            let parts: Vec<&str> =
                path.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
            modules.push(if parts == ["main"] { "weir".to_owned() } else { format!("server::{}", parts.join("::")) });
        }
        modules.sort();
        assert_eq!(modules, MODULES);
    }

    #[test]
    fn the_nearest_level_above_counts() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let loggers = Loggers::new(Level::Info, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let level = |name: &str| loggers.all().into_iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(loggers.all().len(), MODULES.len() + 1);
        assert!(loggers.all().iter().all(|(_, level)| *level == Level::Info));
        loggers.set(&[("server::connection", Some(Level::Trace)), (ROOT, Some(Level::Error))]);
        assert_eq!((level("server::connection"), level("server::controller"), level(ROOT)), {
            (Level::Trace, Level::Error, Level::Error)
        });
        let targets = loggers.lock().targets();
        for (module, at, said) in [
            ("server::connection", Of::TRACE, true),
            ("server::connection::admission", Of::TRACE, true),
            ("server::controller", Of::WARN, false),
            ("somebody::else", Of::ERROR, true),
        ] {
            assert_eq!(targets.would_enable(module, &at), said, "{module} {at}");
        }
        loggers.set(&[("server::connection", None)]);
        assert_eq!(level("server::connection"), Level::Error);
        loggers.set(&[("server::broker", Some(Level::Fatal))]);
        assert!(!loggers.lock().targets().would_enable("server::broker", &Of::ERROR));
        assert_eq!(calls.load(Ordering::Relaxed), 4, "at the beginning and with each change");
    }

    #[test]
    fn names() {
        assert_eq!(Level::of_name("WARN"), Some(Level::Warn));
        assert_eq!((Level::of_name("warn"), Level::of_name("OFF"), Level::of_name("")), (None, None, None));
        assert_eq!(Level::names().join(", "), "DEBUG, ERROR, FATAL, INFO, TRACE, WARN");
        assert!(Level::names().iter().all(|name| Level::of_name(name).map(Level::name) == Some(name)));
        assert_eq!((Loggers::find("root"), Loggers::find("server")), (Some("root"), None));
    }
}
