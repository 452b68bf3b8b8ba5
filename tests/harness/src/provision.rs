//! Puts the foreign clients on the machine, each by its own package manager, in the versions of `tests/versions.toml`.
//!
//! A missing interpreter, registry or package is a panic that says what to install: a client that is not there must
//! never look like a client that passed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::cache;

const VERSIONS: &str = include_str!("../../versions.toml");
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A Python interpreter with the packages of `[python.NAME]`, in a virtual environment of their own.
pub fn python(name: &str) -> PathBuf {
    let packages = pinned(&["python", name]);
    let version = output_of(Command::new("python3").arg("--version"), "Debian: apt-get install python3 python3-venv");
    let requirements: Vec<String> = packages.iter().map(|(package, version)| format!("{package}=={version}")).collect();
    let dir = cache::once(name, &format!("{version} {requirements:?}"), |dir| {
        let hint = "the virtual environment needs python3 with venv (Debian: apt-get install python3-venv)";
        output_of(Command::new("python3").args(["-m", "venv"]).arg(dir), hint);
        let mut pip = Command::new(dir.join("bin/python"));
        pip.args(["-m", "pip", "install", "--no-input", "--quiet", "--retries", "10", "--no-deps"]).args(&requirements);
        output_of(&mut pip, "pip must reach the Python package index");
    });
    report(name, &format!("{version}, {}", requirements.join(", ")));
    dir.join("bin/python")
}

/// The path of `program` in a copy of `tests/DIR` next to the packages of `[node]`.
pub fn node(dir: &str, program: &str) -> PathBuf {
    let packages = pinned(&["node"]);
    let version = output_of(Command::new("node").arg("--version"), "Debian: apt-get install nodejs npm");
    let source = sources(&format!("{TESTS}/{dir}"), "js");
    let wanted: Vec<String> = packages.iter().map(|(package, version)| format!("{package}@{version}")).collect();
    let modules = cache::once("node", &format!("{version} {wanted:?}"), |dir| {
        write(&dir.join("package.json"), "{\"private\": true}\n");
        let mut npm = Command::new("npm");
        let quietly = ["--no-save", "--no-audit", "--no-fund", "--silent", "--fetch-retries", "5"];
        npm.current_dir(dir).arg("install").args(quietly).args(&wanted);
        output_of(&mut npm, "npm must be installed and reach its registry (Debian: apt-get install npm)");
    });
    let programs = cache::once(&dir.replace('/', "-"), &format!("{} {source:?}", modules.display()), |dir| {
        // Node looks for packages beside the program's own file.
        std::os::unix::fs::symlink(modules.join("node_modules"), dir.join("node_modules"))
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for (name, text) in &source {
            write(&dir.join(name), text);
        }
    });
    report("node", &format!("{version}, {}", wanted.join(", ")));
    programs.join(program)
}

/// The program of `tests/DIR`, built with the modules of `[SECTION]`.
pub fn go(dir: &str, section: &str) -> PathBuf {
    let modules = pinned(&[section]);
    let version = output_of(Command::new("go").arg("version"), "install Go 1.24 or later from go.dev/dl");
    let source = sources(&format!("{TESTS}/{dir}"), "go");
    let requires: String = modules.iter().map(|(module, version)| format!("require {module} {version}\n")).collect();
    let dir = cache::once(&dir.replace('/', "-"), &format!("{version} {requires} {source:?}"), |dir| {
        write(&dir.join("go.mod"), &format!("module weir/{section}\n\ngo 1.24\n\n{requires}"));
        for (name, text) in &source {
            write(&dir.join(name), text);
        }
        let hint = "go must reach its module proxy";
        // The modules below these are chosen by minimal version selection, so they are pinned by the versions above.
        output_of(Command::new("go").current_dir(dir).args(["mod", "tidy"]), hint);
        output_of(Command::new("go").current_dir(dir).args(["build", "-o", "program", "."]), hint);
    });
    report(section, &format!("{version}, {}", requires.replace("require ", "").replace('\n', "; ")));
    dir.join("program")
}

/// The jars of `[maven.NAME]` and of all that they need, as a class path.
pub fn maven(name: &str) -> String {
    format!("{}/*", maven_jars(name).display())
}

/// The directory with the jars of `[maven.NAME]` and of all that they need.
pub fn maven_jars(name: &str) -> PathBuf {
    let artifacts = pinned(&["maven", name]);
    let coordinates: Vec<String> =
        artifacts.iter().map(|(artifact, version)| format!("{artifact}:{version}")).collect();
    let dir = cache::once(name, &format!("{coordinates:?}"), |dir| {
        let dependencies: String = artifacts
            .iter()
            .map(|(artifact, version)| {
                let (group, artifact) = artifact.split_once(':').expect("an artifact is named GROUP:NAME");
                let coordinates = [("groupId", group), ("artifactId", artifact), ("version", version)];
                let fields: String = coordinates.iter().map(|(tag, text)| format!("<{tag}>{text}</{tag}>")).collect();
                format!("<dependency>{fields}</dependency>")
            })
            .collect();
        let project = format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>weir</groupId><artifactId>clients</artifactId>\
             <version>1</version><dependencies>{dependencies}</dependencies></project>\n"
        );
        write(&dir.join("pom.xml"), &project);
        // Maven's repository is not made for two at a time, and the jars of Kafka are fetched by others as well.
        kafka();
        let _repository = cache::alone("maven");
        let mut maven = Command::new("mvn");
        maven.current_dir(dir).args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"]);
        output_of(&mut maven, "mvn must be installed and reach Maven Central (Debian: apt-get install maven)");
    });
    report(name, &coordinates.join(", "));
    dir.join("jars")
}

/// kcat, from Debian's archive where it is not installed.
pub fn kcat() -> PathBuf {
    static KCAT: OnceLock<PathBuf> = OnceLock::new();
    KCAT.get_or_init(|| {
        let path = installed_kcat().unwrap_or_else(|| {
            install("kafkacat");
            installed_kcat().expect("apt-get installed kafkacat, and neither kcat nor kafkacat is in PATH")
        });
        let version = output_of(Command::new(&path).arg("-V"), "kcat -V");
        let version = version.lines().find(|line| line.contains("Version")).unwrap_or_default().to_owned();
        report_debian("kafkacat", &version);
        path
    })
    .clone()
}

/// The directory of PostgreSQL's programs, from Debian's archive where it is not installed.
pub fn postgresql() -> PathBuf {
    static POSTGRESQL: OnceLock<PathBuf> = OnceLock::new();
    POSTGRESQL
        .get_or_init(|| {
            let path = installed_postgresql().unwrap_or_else(|| {
                install("postgresql");
                installed_postgresql().expect("apt-get installed postgresql, and there is no postgres in its directory")
            });
            let version = output_of(Command::new(path.join("postgres")).arg("--version"), "postgres --version");
            report_debian("postgresql", &version);
            path
        })
        .clone()
}

/// Apache Kafka's jars, for its command line tools and as a peer.
pub fn kafka() -> compare::kafka::Jars {
    let jars = compare::kafka::provision().unwrap_or_else(|error| panic!("{error}"));
    report("Apache Kafka", compare::kafka::VERSION);
    jars
}

/// Debian's directory of the newest PostgreSQL, or that of the `postgres` in `PATH`.
fn installed_postgresql() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut dirs: Vec<PathBuf> = debian.map(|dir| dir.join("bin")).collect();
    dirs.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    dirs.into_iter().rev().chain(std::env::split_paths(&path)).find(|dir| dir.join("postgres").is_file())
}

/// Installs one of Debian's packages.
fn install(package: &str) {
    let hint = format!("{package} is installed by apt-get, as root or with sudo; on other systems install it by hand");
    let apt = |arguments: &[&str]| {
        let mut command = match rustix::process::geteuid().is_root() {
            true => Command::new("apt-get"),
            false => Command::new("sudo"),
        };
        if !rustix::process::geteuid().is_root() {
            command.args(["--non-interactive", "apt-get"]);
        }
        output_of(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments), &hint)
    };
    // Who finds it in use fails.
    let _packages = cache::alone("apt");
    apt(&["update", "-q"]);
    apt(&["install", "-q", "-y", "--no-install-recommends", package]);
}

/// Says what is installed of one of Debian's packages, and whether that is the version of `versions.toml`.
fn report_debian(package: &str, version: &str) {
    let pinned = pinned(&["debian"]);
    let wanted = pinned.iter().find(|(name, _)| name == package).map(|(_, version)| version);
    let wanted = wanted.unwrap_or_else(|| panic!("no {package} in [debian] of versions.toml"));
    let same = if version.contains(wanted) { "" } else { ", not the version that versions.toml names" };
    report(package, &format!("{version}{same}"));
}

fn installed_kcat() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|dir| [dir.join("kcat"), dir.join("kafkacat")])
        .find(|candidate| candidate.is_file())
}

/// Names and versions of one section of `versions.toml`, in order of their names.
fn pinned(section: &[&str]) -> Vec<(String, String)> {
    let versions: toml::Table = toml::from_str(VERSIONS).expect("tests/versions.toml is valid TOML");
    let mut table = &versions;
    for name in section {
        table = table
            .get(*name)
            .and_then(toml::Value::as_table)
            .unwrap_or_else(|| panic!("no {section:?} in versions.toml"));
    }
    table
        .iter()
        .map(|(name, version)| (name.clone(), version.as_str().expect("a version is a string").to_owned()))
        .collect()
}

/// File names and texts of the sources with the given extension in a directory, in order of their names.
fn sources(dir: &str, extension: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let mut sources: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{dir}: {error}")).path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_name().expect("a file has a name").to_string_lossy().into_owned(), text)
        })
        .collect();
    sources.sort();
    sources
}

fn output_of(command: &mut Command, hint: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} did not start: {error}\n{hint}"));
    // Some programs print their version to standard error.
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    assert!(output.status.success(), "{command:?} failed ({})\n{hint}\n{text}", output.status);
    text
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Says once per process what a client is, so that the output of a run names the versions that it ran.
fn report(client: &str, versions: &str) {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let first = REPORTED.lock().is_ok_and(|mut reported| reported.insert(client.to_owned()));
    if first {
        println!("{client}: {versions}");
    }
}
