//! Fetches the jars of Apache Kafka with Maven, once per user, and runs main classes from them.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release that Weir is compared with.
pub const VERSION: &str = "4.3.1";

/// Logging as the distribution has it: Kafka's jars bring log4j but not the binding of slf4j to it.
const LOG4J_VERSION: &str = "2.25.4";

/// The oldest Java that this release of Kafka runs on.
const JAVA_MIN: u32 = 17;

/// Group, artifact and version of what is fetched; Maven adds what these depend on.
const ARTIFACTS: [(&str, &str, &str); 3] = [
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
];

const POM_FILE: &str = "pom.xml";
const JARS_DIR: &str = "jars";
/// One line `size name` for each jar, written last: its absence or a difference means a damaged cache.
const MANIFEST_FILE: &str = "manifest";
const TOOL_LOGGING_FILE: &str = "tool-log4j2.properties";

/// Apache Kafka's jars in the cache directory, complete.
#[derive(Debug, Clone)]
pub struct Jars {
    home: PathBuf,
    java: PathBuf,
    java_version: String,
}

impl Jars {
    /// The directory that holds the jars.
    pub fn dir(&self) -> PathBuf {
        self.home.join(JARS_DIR)
    }

    /// The path of one jar of this Kafka release, for instance `kafka-clients`.
    pub fn kafka_jar(&self, artifact: &str) -> PathBuf {
        self.dir().join(format!("{artifact}-{VERSION}.jar"))
    }

    /// The Java launcher in use.
    pub fn java(&self) -> &Path {
        &self.java
    }

    /// The first line of `java -version`.
    pub fn java_version(&self) -> &str {
        &self.java_version
    }

    /// The argument for `java -cp`.
    pub fn class_path(&self) -> String {
        format!("{}/*", self.dir().display())
    }

    /// A command that runs `main_class` as the distribution's scripts run tools: 256 MiB of heap, warnings on standard error.
    /// The caller adds arguments and decides about input and output.
    pub fn command(&self, main_class: &str) -> Command {
        let mut command = Command::new(&self.java);
        command
            .arg("-Xmx256m")
            // Tools live for two seconds: the optimising compiler would only take processor time from what is measured.
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}", self.home.join(TOOL_LOGGING_FILE).display()))
            .args(["-cp", &self.class_path(), main_class]);
        command
    }

    /// Runs `main_class` to its end and returns its standard output. An exit status other than 0 is an error that carries
    /// both streams.
    pub fn run_tool<S: AsRef<OsStr>>(&self, main_class: &str, arguments: &[S]) -> Result<String, ToolError> {
        let output = self
            .command(main_class)
            .args(arguments)
            .output()
            .map_err(|source| ToolError::Start { main_class: main_class.into(), source })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            return Err(ToolError::Failed {
                main_class: main_class.into(),
                status: output.status.to_string(),
                stdout: text(&output.stdout),
                stderr: text(&output.stderr),
            });
        }
        Ok(text(&output.stdout))
    }
}

/// Why a tool of Apache Kafka gave no answer.
#[derive(Debug)]
pub enum ToolError {
    /// The Java launcher did not start.
    Start {
        /// Main class of the tool.
        main_class: String,
        /// What the system said.
        source: io::Error,
    },
    /// The tool ended with a status other than 0.
    Failed {
        /// Main class of the tool.
        main_class: String,
        /// Its exit status in words.
        status: String,
        /// What it wrote to standard output.
        stdout: String,
        /// What it wrote to standard error.
        stderr: String,
    },
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolError::Start { main_class, source } => {
                write!(f, "{main_class} did not start: {source}")
            }
            ToolError::Failed { main_class, status, stdout, stderr } => {
                write!(f, "{main_class} failed ({status})\n{stdout}{stderr}")
            }
        }
    }
}

impl std::error::Error for ToolError {}

/// The directory that [`provision`] fills: `$XDG_CACHE_HOME/weir/kafka-4.3.1`, or below `~/.cache`.
pub fn cache_dir() -> Result<PathBuf, ProvisionError> {
    // The XDG base directory specification says that a relative path there is invalid and to be ignored.
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| home.map(|home| home.join(".cache"))).ok_or(ProvisionError::NoCacheDirectory)?;
    Ok(cache.join("weir").join(format!("kafka-{VERSION}")))
}

/// Makes sure that the jars of Apache Kafka are in [`cache_dir`] and complete, by Maven where they are not.
///
/// May run in many processes and threads at once: a file lock lets one of them fetch while the others wait. The download
/// goes into a neighbouring directory that is renamed when it is whole, so that an interrupted one leaves nothing behind
/// that looks complete.
pub fn provision() -> Result<Jars, ProvisionError> {
    let (java, java_version) = find_java()?;
    let home = cache_dir()?;
    provision_with(&home, run_maven)?;
    Ok(Jars { home, java, java_version })
}

/// Why Apache Kafka could not be made ready.
#[derive(Debug)]
pub enum ProvisionError {
    /// There is no Java launcher, neither in `JAVA_HOME` nor in `PATH`.
    JavaMissing {
        /// What the system said.
        source: io::Error,
    },
    /// Java is there and older than this release of Kafka needs.
    JavaTooOld {
        /// The first line of `java -version`.
        found: String,
    },
    /// `mvn` is not in `PATH`, and the jars are not in the cache.
    MavenMissing {
        /// What the system said.
        source: io::Error,
    },
    /// Maven ran and failed.
    MavenFailed {
        /// The end of its output.
        output: String,
    },
    /// Maven said that it succeeded, and a jar that was asked for is not there.
    JarMissing {
        /// Its file name.
        name: String,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` names an absolute path.
    NoCacheDirectory,
    /// A file operation in the cache failed.
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProvisionError::JavaMissing { source } => write!(
                f,
                "no Java: Apache Kafka {VERSION} needs Java {JAVA_MIN} or later in JAVA_HOME or PATH \
                 (Debian: apt install openjdk-17-jre-headless): {source}"
            ),
            ProvisionError::JavaTooOld { found } => {
                write!(f, "Apache Kafka {VERSION} needs Java {JAVA_MIN} or later, found: {found}")
            }
            ProvisionError::MavenMissing { source } => write!(
                f,
                "no Maven: the jars of Apache Kafka {VERSION} are fetched by mvn, which must be in PATH \
                 (Debian: apt install maven): {source}"
            ),
            ProvisionError::MavenFailed { output } => {
                write!(f, "Maven could not fetch Apache Kafka {VERSION}:\n{output}")
            }
            ProvisionError::JarMissing { name } => {
                write!(f, "Maven succeeded without fetching {name}")
            }
            ProvisionError::NoCacheDirectory => {
                write!(f, "no place for Apache Kafka's jars: set HOME or XDG_CACHE_HOME to an absolute path")
            }
            ProvisionError::Cache { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ProvisionError {}

fn provision_with(
    home: &Path,
    fetch: impl FnOnce(&Path, &Path) -> Result<(), ProvisionError>,
) -> Result<(), ProvisionError> {
    let parent = home.parent().ok_or(ProvisionError::NoCacheDirectory)?;
    fs::create_dir_all(parent).map_err(cache_error(parent))?;
    let lock_path = home.with_added_extension("lock");
    let lock = File::create(&lock_path).map_err(cache_error(&lock_path))?;
    // Released when `lock` is dropped, or by the kernel when the process dies.
    lock.lock().map_err(cache_error(&lock_path))?;
    if is_complete(home) {
        return Ok(());
    }

    let partial = home.with_added_extension("partial");
    remove_dir(&partial)?;
    let jars = partial.join(JARS_DIR);
    fs::create_dir_all(&jars).map_err(cache_error(&jars))?;
    let pom_path = partial.join(POM_FILE);
    write(&pom_path, &pom())?;
    write(&partial.join(TOOL_LOGGING_FILE), TOOL_LOGGING)?;
    fetch(&pom_path, &jars)?;
    for (_, artifact, version) in ARTIFACTS {
        let name = format!("{artifact}-{version}.jar");
        if !jars.join(&name).is_file() {
            return Err(ProvisionError::JarMissing { name });
        }
    }
    write(&partial.join(MANIFEST_FILE), &manifest_of(&jars).map_err(cache_error(&jars))?)?;
    remove_dir(home)?;
    fs::rename(&partial, home).map_err(cache_error(home))
}

/// True when the cache holds what this version of the program would fetch, every file with its recorded size.
fn is_complete(home: &Path) -> bool {
    let same = |name: &str, wanted: &str| fs::read_to_string(home.join(name)).is_ok_and(|found| found == wanted);
    same(POM_FILE, &pom())
        && same(TOOL_LOGGING_FILE, TOOL_LOGGING)
        && manifest_of(&home.join(JARS_DIR)).is_ok_and(|found| same(MANIFEST_FILE, &found))
}

fn manifest_of(jars: &Path) -> io::Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(jars)? {
        let entry = entry?;
        lines.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    lines.sort();
    Ok(lines.into_iter().map(|(name, size)| format!("{size} {name}\n")).collect())
}

fn run_maven(pom: &Path, jars: &Path) -> Result<(), ProvisionError> {
    let output = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .output()
        .map_err(|source| ProvisionError::MavenMissing { source })?;
    if output.status.success() {
        return Ok(());
    }
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all);
    let lines: Vec<&str> = text.lines().collect();
    Err(ProvisionError::MavenFailed { output: lines[lines.len().saturating_sub(30)..].join("\n") })
}

fn pom() -> String {
    let dependencies: String = ARTIFACTS
        .iter()
        .map(|(group, artifact, version)| {
            format!(
                "    <dependency>\n      <groupId>{group}</groupId>\n      <artifactId>{artifact}</artifactId>\n      \
                 <version>{version}</version>\n    </dependency>\n"
            )
        })
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  \
         <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>weir</groupId>\n  <artifactId>kafka-jars</artifactId>\n  <version>1</version>\n  \
         <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )
}

/// Tools print their result on standard output, so what they log goes to standard error.
const TOOL_LOGGING: &str = "\
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.stderr.ref = stderr
";

/// The launcher and the line that names its version.
fn find_java() -> Result<(PathBuf, String), ProvisionError> {
    let java = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Path::new(&home).join("bin/java"),
        None => PathBuf::from("java"),
    };
    let output =
        Command::new(&java).arg("-version").output().map_err(|source| ProvisionError::JavaMissing { source })?;
    // Java prints its version to standard error.
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains(" version ")).unwrap_or_default();
    match java_major(line) {
        Some(major) if major >= JAVA_MIN => Ok((java, line.to_owned())),
        _ => Err(ProvisionError::JavaTooOld { found: text.lines().next().unwrap_or_default().to_owned() }),
    }
}

/// The feature release in a line such as `openjdk version "17.0.15" 2025-04-15`; 1 for the old scheme `"1.8.0_292"`.
fn java_major(line: &str) -> Option<u32> {
    let quoted = line.split('"').nth(1)?;
    let digits = quoted.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn write(path: &Path, text: &str) -> Result<(), ProvisionError> {
    fs::write(path, text).map_err(cache_error(path))
}

fn remove_dir(path: &Path) -> Result<(), ProvisionError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cache_error(path)(error)),
        _ => Ok(()),
    }
}

fn cache_error(path: &Path) -> impl FnOnce(io::Error) -> ProvisionError {
    let path = path.to_owned();
    move |source| ProvisionError::Cache { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::TempDir;

    #[test]
    fn pom_names_every_artifact_once() {
        let pom = pom();
        for (group, artifact, version) in ARTIFACTS {
            let entry = format!(
                "<groupId>{group}</groupId>\n      <artifactId>{artifact}</artifactId>\n      <version>{version}</version>"
            );
            assert_eq!(pom.matches(&entry).count(), 1, "{artifact} in\n{pom}");
        }
        assert_eq!(pom.matches("<dependency>").count(), ARTIFACTS.len());
        assert_eq!(pom.matches("</dependency>").count(), ARTIFACTS.len());
        assert!(pom.ends_with("</project>\n"));
    }

    #[test]
    fn java_versions_are_read() {
        assert_eq!(java_major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(java_major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(java_major("openjdk version \"24-ea\" 2025-03-18"), Some(24));
        assert_eq!(java_major("java version \"1.8.0_292\""), Some(1));
        assert_eq!(java_major("no version here"), None);
    }

    fn fetch_all(_pom: &Path, jars: &Path) -> Result<(), ProvisionError> {
        for (_, artifact, version) in ARTIFACTS {
            write(&jars.join(format!("{artifact}-{version}.jar")), artifact)?;
        }
        Ok(())
    }

    fn fetch_nothing(_pom: &Path, _jars: &Path) -> Result<(), ProvisionError> {
        panic!("a complete cache is fetched again");
    }

    #[test]
    fn complete_cache_is_kept_and_a_damaged_one_replaced() {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-provision").unwrap();
        let home = temp.path().join("kafka");
        provision_with(&home, fetch_all).unwrap();
        provision_with(&home, fetch_nothing).unwrap();

        let jar = home.join(JARS_DIR).join(format!("kafka_2.13-{VERSION}.jar"));
        fs::write(&jar, "cut").unwrap();
        assert!(!is_complete(&home));
        provision_with(&home, fetch_all).unwrap();
        assert_eq!(fs::read_to_string(&jar).unwrap(), "kafka_2.13");
    }

    #[test]
    fn interrupted_download_leaves_nothing_that_looks_complete() {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-provision").unwrap();
        let home = temp.path().join("kafka");
        let interrupted = |_: &Path, jars: &Path| {
            write(&jars.join("half.jar"), "half")?;
            Err(ProvisionError::MavenFailed { output: "connection lost".into() })
        };
        assert!(matches!(provision_with(&home, interrupted), Err(ProvisionError::MavenFailed { .. })));
        assert!(!home.exists());
        let silent = |_: &Path, _: &Path| Ok(());
        assert!(matches!(provision_with(&home, silent), Err(ProvisionError::JarMissing { .. })));
        assert!(!home.exists());

        provision_with(&home, fetch_all).unwrap();
        assert!(!home.join(JARS_DIR).join("half.jar").exists());
    }

    #[test]
    fn concurrent_callers_fetch_once() {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-provision").unwrap();
        let home = temp.path().join("kafka");
        let fetches = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    provision_with(&home, |pom, jars| {
                        fetches.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        fetch_all(pom, jars)
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(fetches.into_inner(), 1);
        assert!(is_complete(&home));
    }
}
