//! Kafka's own jars: fetched by Maven, and the message definitions inside.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::{env, fs, thread};

use serde_json::Value;

use super::schema::{Field, Kind, Message, Struct, Type, Versions};

/// The release that the field tables describe.
pub(crate) const RELEASE: &str = "4.3.1";

/// The last release with the versions that `RELEASE` dropped.
pub(crate) const LEGACY_RELEASE: &str = "3.9.1";

/// The artifacts that hold message definitions, and the folder of each with the definitions.
pub(crate) const DEFINITIONS: [(&str, &str); 4] = [
    ("kafka-clients", "common/message"),
    ("kafka-metadata", "common/metadata"),
    ("kafka-group-coordinator", "common/message"),
    ("kafka-transaction-coordinator", "common/message"),
];

/// What `kafka-clients` needs at run time: its codecs, and an interface for logs.
const CODECS: [(&str, &str, &str); 4] = [
    ("at.yawk.lz4", "lz4-java", "1.10.2"),
    ("com.github.luben", "zstd-jni", "1.5.6-10"),
    ("org.slf4j", "slf4j-api", "1.7.36"),
    ("org.xerial.snappy", "snappy-java", "1.1.10.7"),
];

/// The path of an artifact's jar, fetched into the user's cache if it is not there yet.
pub(crate) fn jar(group: &str, artifact: &str, version: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache"));
    let folder = cache.join("weir/jars");
    let name = format!("{artifact}-{version}.jar");
    let path = folder.join(&name);
    if !path.exists() {
        // Renamed into place when whole: another process may fetch the same.
        let partial = folder.join(format!("fetch-{}", std::process::id()));
        fs::create_dir_all(&partial).expect("the cache directory can be written");
        run(Command::new("mvn").args(["-q", "-B", "dependency:copy"]).args([
            format!("-Dartifact={group}:{artifact}:{version}"),
            format!("-DoutputDirectory={}", partial.display()),
        ]));
        fs::rename(partial.join(&name), &path).expect("Maven copied the artifact");
        fs::remove_dir_all(&partial).expect("the folder is ours");
    }
    path
}

pub(crate) fn kafka_jar(artifact: &str, version: &str) -> PathBuf {
    jar("org.apache.kafka", artifact, version)
}

/// Runs a command to its end and returns what it printed. Anything but success fails the test.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}\n{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

/// Kafka's client with its codecs.
pub(crate) fn client_class_path() -> String {
    let mut path = kafka_jar("kafka-clients", RELEASE).display().to_string();
    for (group, artifact, version) in CODECS {
        write!(path, ":{}", jar(group, artifact, version).display()).unwrap();
    }
    path
}

/// Runs a program of `tests/java` over the input and returns what it prints.
pub(crate) fn java(class_path: &str, program: &str, arguments: &[&str], input: String) -> String {
    let mut java = Command::new("java")
        .args(["-cp", class_path])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java").join(program))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java can be run");
    let mut stdin = java.stdin.take().expect("it is piped");
    // From another thread, because the program answers while it reads.
    let feeder = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = java.wait_with_output().expect("java ends");
    assert!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    feeder.join().expect("the feeder does not panic").expect("the program reads all its input");
    String::from_utf8(output.stdout).expect("it prints ASCII")
}

/// All message definitions of an artifact.
pub(crate) fn definitions(artifact: &str, folder: &str, version: &str) -> Vec<Message> {
    let jar = kafka_jar(artifact, version);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{artifact}-{version}"));
    fs::create_dir_all(&target).expect("the target directory can be written");
    run(Command::new("jar").current_dir(&target).arg("xf").arg(&jar).arg(folder));
    let mut messages = Vec::new();
    for entry in fs::read_dir(target.join(folder)).expect("the jar holds definitions") {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            messages.push(message(&json(&fs::read_to_string(&path).unwrap())));
        }
    }
    messages
}

/// Parses JSON with lines of comments, and whatever stands after the first value.
fn json(text: &str) -> Value {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let text = lines.join("\n");
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    values.next().expect("a value").unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn message(value: &Value) -> Message {
    let kind = text(value, "type").expect("a type");
    let versions = versions(value, "validVersions");
    Message {
        kind: Kind::WORDS.iter().find(|(word, _)| *word == kind).unwrap_or_else(|| panic!("unknown type {kind}")).1,
        key: value.get("apiKey").map(|key| key.as_i64().expect("a number") as i16),
        name: text(value, "name").expect("a name").to_string(),
        versions,
        kafka: versions,
        flexible: versions.and_then(|_| self::versions(value, "flexibleVersions")),
        listeners: items(value, "listeners").map(|listener| listener.as_str().unwrap().to_string()).collect(),
        unstable: flag(value, "latestVersionUnstable"),
        fields: items(value, "fields").map(field).collect(),
        structs: items(value, "commonStructs")
            .map(|common| Struct {
                name: text(common, "name").expect("a name").to_string(),
                versions: self::versions(common, "versions").expect("versions"),
                fields: items(common, "fields").map(field).collect(),
            })
            .collect(),
    }
}

fn field(value: &Value) -> Field {
    let tagged = versions(value, "taggedVersions");
    // A number in most places, digits in a string in some.
    let tag = value.get("tag").map(|tag| tag.to_string().trim_matches('"').parse().expect("a number"));
    // A default of null is the text "null". The bare JSON null, which some definitions have, is to Kafka's generator
    // the same as no default, so that its classes begin with an empty value and write a null out.
    let default = value.get("default").filter(|default| !default.is_null()).map(|default| match default {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    Field {
        name: text(value, "name").expect("a name").to_string(),
        kind: Type::parse(text(value, "type").expect("a type")),
        versions: versions(value, "versions").or(tagged).expect("versions"),
        nullable: versions(value, "nullableVersions"),
        tag: tag.zip(tagged),
        default: default.filter(|text| !text.is_empty()),
        ignorable: flag(value, "ignorable"),
        never_flexible: text(value, "flexibleVersions") == Some("none"),
        fields: items(value, "fields").map(field).collect(),
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).is_some_and(|flag| flag == &Value::Bool(true) || flag == "true")
}

fn versions(value: &Value, key: &str) -> Option<Versions> {
    Versions::parse(text(value, key)?).expect("versions")
}

fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}
