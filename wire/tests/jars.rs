//! The field tables, error codes and encodings against Apache Kafka's own jars.
//!
//! Needs Maven, a JDK and, the first time, the network: `cargo test -p wire --test jars -- --include-ignored`.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use support::jars::{self, LEGACY_RELEASE, RELEASE, java};
use support::rng::Rng;
use support::sample::sample;
use support::schema::{Field, Kind, Message, Versions};
use wire::api::{ApiInfo, ApiKey};
use wire::error::ErrorCode;
use wire::header;

/// A message's name is not unique: a coordinator's record and a piece of data may share one.
type Key = (String, &'static str);

#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn jars_hold_the_same_fields() {
    let mut tables = BTreeMap::new();
    for message in support::tables() {
        let duplicate = tables.insert(key(&message), message);
        assert!(duplicate.is_none(), "{duplicate:?} stands twice in the tables");
    }
    let mut differences = String::new();
    let mut checked = 0;
    for (artifact, folder) in jars::DEFINITIONS {
        for theirs in jars::definitions(artifact, folder, RELEASE) {
            match tables.remove(&key(&theirs)) {
                Some(ours) => checked += compare(&ours, &theirs, &mut differences),
                None => writeln!(differences, "{} is missing", theirs.name).unwrap(),
            }
        }
    }
    for (name, _) in tables.into_keys() {
        writeln!(differences, "{name} is not in Kafka {RELEASE}").unwrap();
    }
    assert!(differences.is_empty(), "{differences}");
    // So many fields are in that release: a reader that finds fewer has overlooked some.
    assert!(checked > 1_900, "only {checked} fields were compared");
}

#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn jars_hold_the_same_legacy_fields() {
    let theirs: BTreeMap<Key, Message> = jars::definitions("kafka-clients", "common/message", LEGACY_RELEASE)
        .into_iter()
        .map(|message| (key(&message), message))
        .collect();
    let mut checked = 0;
    for ours in support::tables() {
        let (Some(versions), Some(kafka)) = (ours.versions, ours.kafka) else { continue };
        let Some(theirs) = (versions != kafka).then(|| &theirs[&key(&ours)]) else { continue };
        for version in versions.min..kafka.min {
            let (mut our_shape, mut their_shape) = (String::new(), String::new());
            shape(&ours, &ours.fields, version, 1, &mut our_shape);
            shape(theirs, &theirs.fields, version, 1, &mut their_shape);
            assert_eq!(our_shape, their_shape, "{} v{version}", ours.name);
            checked += our_shape.lines().count();
        }
    }
    assert!(checked > 150, "only {checked} fields were compared");
}

#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn jars_name_the_same_errors() {
    let mut ours = String::new();
    for error in ErrorCode::ALL {
        writeln!(ours, "{} {} {}", error.code(), error.name(), error.is_retriable()).unwrap();
        assert_eq!(ErrorCode::from_code(error.code()), Some(*error));
    }
    assert_eq!(ours, java(&class_path(RELEASE), "Facts.java", &["errors"], String::new()));
}

#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn jars_choose_the_same_headers() {
    let mut ours = String::new();
    for api in ApiKey::ALL {
        let ApiInfo { name, kafka_min_version, max_version, on_broker, on_controller, .. } = *api.info();
        assert_eq!(ApiKey::from_key(api.key()), Some(*api));
        for version in kafka_min_version..=max_version {
            let (request, response) = (header::request_version(*api, version), header::response_version(*api, version));
            writeln!(ours, "{} {name} {version} {request} {response} {on_broker} {on_controller}", api.key()).unwrap();
        }
    }
    assert_eq!(ours, java(&class_path(RELEASE), "Facts.java", &["apis"], String::new()));
}

/// Random values in every version that Kafka speaks: its own classes must read our bytes and write the same. That our
/// generated code reads and writes these bytes too is what `every_message` tests.
#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn jars_read_and_write_the_same_bytes() {
    echo(&class_path(RELEASE), |message| message.kafka);
}

#[test]
#[ignore = "fetches Kafka's jars with Maven"]
fn jars_read_and_write_the_same_legacy_bytes() {
    echo(&class_path(LEGACY_RELEASE), |message| {
        let (versions, kafka) = message.versions.zip(message.kafka)?;
        versions.and(Versions { min: 0, max: kafka.min - 1 })
    });
}

/// Sends random values in the versions chosen to Kafka's classes, which must give back the same bytes.
fn echo(class_path: &str, versions: fn(&Message) -> Option<Versions>) {
    let mut rng = Rng::new(3);
    let mut input = String::new();
    for message in support::tables() {
        let Some(versions) = versions(&message) else { continue };
        for version in versions.min..=versions.max {
            for _ in 0..20 {
                write!(input, "{} {version} ", class(&message)).unwrap();
                for byte in sample(&message, version, &mut rng) {
                    write!(input, "{byte:02x}").unwrap();
                }
                input.push('\n');
            }
        }
    }
    let output = java(class_path, "Echo.java", &[], input.clone());
    assert_eq!(output.lines().count(), input.lines().count());
    let mut differences = BTreeMap::new();
    for (sent, echoed) in input.lines().zip(output.lines()) {
        let (name, bytes) = sent.rsplit_once(' ').unwrap();
        if bytes != echoed {
            differences.insert(name, format!("{name}: sent {bytes}, got {echoed}"));
        }
    }
    let differences: Vec<String> = differences.into_values().collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn key(message: &Message) -> Key {
    let kind = match message.kind {
        Kind::CoordinatorKey | Kind::CoordinatorValue => "coordinator",
        _ => "",
    };
    (message.name.clone(), kind)
}

/// Compares a table with the definition, and returns how many fields that were.
fn compare(ours: &Message, theirs: &Message, differences: &mut String) -> usize {
    let name = &theirs.name;
    let mut differ = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            writeln!(differences, "{name}, {what}: the table says {ours}, Kafka {theirs}").unwrap();
        }
    };
    differ("kind", format!("{:?}", ours.kind), format!("{:?}", theirs.kind));
    differ("key", format!("{:?}", ours.key), format!("{:?}", theirs.key));
    differ("versions", show(ours.kafka), show(theirs.versions));
    differ("flexible versions", show(ours.flexible), show(theirs.flexible));
    differ("listeners", format!("{:?}", ours.listeners), format!("{:?}", theirs.listeners));
    differ("unstable", ours.unstable.to_string(), theirs.unstable.to_string());
    let Some((our_versions, kafka)) = ours.versions.zip(ours.kafka) else { return 0 };
    differ("newest version", our_versions.max.to_string(), kafka.max.to_string());
    if our_versions.min > kafka.min {
        differ("oldest version", our_versions.min.to_string(), kafka.min.to_string());
    }
    let mut checked = compare_fields(name, &ours.fields, &theirs.fields, kafka, differences);
    let structs = |message: &Message| -> Vec<String> {
        message.structs.iter().map(|common| format!("{} {}", common.name, common.versions)).collect()
    };
    if structs(ours) != structs(theirs) {
        writeln!(differences, "{name}: structs {:?}, Kafka {:?}", structs(ours), structs(theirs)).unwrap();
        return checked;
    }
    for (ours, theirs) in ours.structs.iter().zip(&theirs.structs) {
        let path = format!("{name}, struct {}", ours.name);
        checked += compare_fields(&path, &ours.fields, &theirs.fields, kafka, differences);
    }
    checked
}

fn compare_fields(path: &str, ours: &[Field], theirs: &[Field], kafka: Versions, differences: &mut String) -> usize {
    // A field that Kafka has dropped together with the versions that had it.
    let is_legacy =
        |field: &Field| field.versions.and(kafka).is_none() && !theirs.iter().any(|known| known.name == field.name);
    let ours: Vec<&Field> = ours.iter().filter(|field| !is_legacy(field)).collect();
    let names = |fields: &[&Field]| fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>().join(" ");
    let theirs: Vec<&Field> = theirs.iter().collect();
    if names(&ours) != names(&theirs) {
        writeln!(differences, "{path}: fields {}; Kafka: {}", names(&ours), names(&theirs)).unwrap();
        return 0;
    }
    let mut checked = 0;
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        let show = |field: &Field| {
            let Field { kind, versions, nullable, tag, default, ignorable, never_flexible, .. } = field;
            format!(
                "{kind:?} {versions} null {} tag {tag:?} default {default:?} ignorable {ignorable} \
                 never flexible {never_flexible}",
                self::show(*nullable)
            )
        };
        let path = format!("{path}.{}", ours.name);
        if show(ours) != show(theirs) {
            writeln!(differences, "{path}: {}; Kafka: {}", show(ours), show(theirs)).unwrap();
        }
        checked += 1 + compare_fields(&path, &ours.fields, &theirs.fields, kafka, differences);
    }
    checked
}

fn show(versions: Option<Versions>) -> String {
    versions.map_or("none".to_string(), |versions| versions.to_string())
}

/// What is on the wire in one version: a line per field.
fn shape(message: &Message, fields: &[Field], version: i16, depth: usize, out: &mut String) {
    for field in fields.iter().filter(|field| field.versions.contains(version)) {
        let nullable = field.nullable.is_some_and(|nullable| nullable.contains(version));
        let indent = "  ".repeat(depth);
        writeln!(out, "{indent}{} {:?} nullable {nullable} tag {:?}", field.name, field.kind, field.tag).unwrap();
        if let Some(name) = field.kind.struct_name() {
            shape(message, message.fields_of(name).expect(name), version, depth + 1, out);
        }
    }
}

/// The class that Kafka generates for a message.
fn class(message: &Message) -> String {
    let name = &message.name;
    match message.kind {
        Kind::Request | Kind::Response | Kind::Header => format!("org.apache.kafka.common.message.{name}Data"),
        Kind::Data => format!("org.apache.kafka.common.message.{name}"),
        Kind::MetadataRecord => format!("org.apache.kafka.common.metadata.{name}"),
        Kind::CoordinatorKey | Kind::CoordinatorValue if name.starts_with("TransactionLog") => {
            format!("org.apache.kafka.coordinator.transaction.generated.{name}")
        }
        Kind::CoordinatorKey | Kind::CoordinatorValue => {
            format!("org.apache.kafka.coordinator.group.generated.{name}")
        }
    }
}

/// Kafka's classes of a release; of a legacy release only those that it is asked for, the client's.
fn class_path(release: &str) -> String {
    let mut path = jars::jar("org.slf4j", "slf4j-api", "1.7.36").display().to_string();
    let artifacts = if release == RELEASE { &jars::DEFINITIONS[..] } else { &jars::DEFINITIONS[..1] };
    for (artifact, _) in artifacts {
        write!(path, ":{}", jars::kafka_jar(artifact, release).display()).unwrap();
    }
    path
}
