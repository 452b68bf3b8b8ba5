//! The page on the clients that the tests run, `docs/clients.md`, and its summary in `README.md`. Versions are those of
//! `tests/versions.toml`, which are what the tests install.
//!
//! `WEIR_PAGES_UPDATE=1 cargo test -p server --test clients page` writes both anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A client, or a program that is one.
struct Row {
    client: &'static str,
    language: &'static str,
    version: Version,
    /// What the tests do with it.
    run: &'static str,
    tests: &'static [&'static str],
}

/// Where a version is pinned.
enum Version {
    /// With the broker that Weir is compared with.
    OfKafka,
    /// In a section of `tests/versions.toml`, by the name of the package.
    Pinned(&'static str, &'static str),
}
use Version::{OfKafka, Pinned};

const JAVA: &str = "Apache Kafka's client";

/// The rows of the page. Clients of one language stand together, and so do versions of one client.
const ROWS: &[Row] = &[
    Row {
        client: JAVA,
        language: "Java",
        version: OfKafka,
        run: "records in every codec, topics, groups of both protocols, also with other clients, static members and members that stop polling, transactions, exactly once",
        tests: &[
            "client_java",
            "client_java_consumer_groups",
            "client_java_exactly_once",
            "client_java_transactions",
            "group_of_java",
            "scenario_group_java",
            "scenario_group_java_kip_848",
            "scenario_group_of_confluent_kafka_and_java_kip_848",
            "scenario_group_of_kafka_python_and_java",
            "scenario_poll_interval_java",
            "scenario_poll_interval_java_kip_848",
            "scenario_static_members_java",
            "scenario_static_members_java_kip_848",
        ],
    },
    Row {
        client: JAVA,
        language: "Java",
        version: Pinned("maven.java-2", "org.apache.kafka:kafka-clients"),
        run: "records in the codecs of its time, groups, transactions, exactly once",
        tests: &[
            "client_java_of_earlier_releases",
            "client_old_java_exactly_once",
            "client_old_java_transactions",
            "scenario_group_java_2",
        ],
    },
    Row {
        client: JAVA,
        language: "Java",
        version: Pinned("maven.java-0-10", "org.apache.kafka:kafka-clients"),
        run: "message sets, written and read, in the codecs of its time",
        tests: &["client_java_of_earlier_releases"],
    },
    Row {
        client: "Apache Kafka's command line tools",
        language: "Java",
        version: OfKafka,
        run: "what they print is compared line by line with what they print of Apache Kafka; the console tutorials",
        tests: &[
            "client_java_console",
            "client_java_dump_log",
            "client_java_measuring_and_inspecting",
            "client_java_topics_and_configs",
            "client_java_transactions_tool",
            "scenario_console",
            "tools_print_the_same",
        ],
    },
    Row {
        client: "Kafka Streams",
        language: "Java",
        version: Pinned("maven.streams", "org.apache.kafka:kafka-streams"),
        run: "WordCountDemo; an exactly-once application, killed twice",
        tests: &["scenario_streams_exactly_once", "scenario_streams_word_count"],
    },
    Row {
        client: "Kafka Connect",
        language: "Java",
        version: Pinned("maven.connect", "org.apache.kafka:connect-runtime"),
        run: "standalone and distributed, from file to file, over restarts of the broker and the worker",
        tests: &["scenario_connect_distributed", "scenario_connect_standalone"],
    },
    Row {
        client: "Debezium's JDBC sink",
        language: "Java",
        version: Pinned("maven.jdbc-sink", "io.debezium:debezium-connector-jdbc"),
        run: "a topic into PostgreSQL",
        tests: &["scenario_connect_distributed"],
    },
    Row {
        client: "kafka-python",
        language: "Python",
        version: Pinned("python.kafka-python", "kafka-python"),
        run: "records in every codec, topics, groups, also with other clients, everything that tutorials show of a consumer, numbers into MongoDB",
        tests: &[
            "client_kafka_python",
            "group_of_kafka_python",
            "scenario_features_kafka_python",
            "scenario_group_kafka_python",
            "scenario_group_of_kafka_python_and_aiokafka",
            "scenario_group_of_kafka_python_and_java",
            "scenario_numbers_into_mongodb",
        ],
    },
    Row {
        client: "kafka-python",
        language: "Python",
        version: Pinned("python.kafka-python-2", "kafka-python"),
        run: "records and message sets, as a client of Kafka 0.9, 0.10 and of what it finds",
        tests: &["client_kafka_python_2"],
    },
    Row {
        client: "kafka-python",
        language: "Python",
        version: Pinned("python.kafka-python-1", "kafka-python"),
        run: "records and message sets, as a client of Kafka 0.8.2, 0.9, 0.10, 0.11 and of what it finds",
        tests: &["client_kafka_python_1"],
    },
    Row {
        client: "confluent-kafka (librdkafka)",
        language: "Python",
        version: Pinned("python.confluent-kafka", "confluent-kafka"),
        run: "records in every codec, topics, groups of both protocols, also with other clients, static members and members that stop polling, transactions, exactly once, a sensor fleet",
        tests: &[
            "client_confluent_kafka",
            "client_confluent_kafka_consumer_groups",
            "client_confluent_kafka_exactly_once",
            "client_confluent_kafka_transactions",
            "group_of_confluent_kafka",
            "scenario_features_confluent_kafka",
            "scenario_group_confluent_kafka",
            "scenario_group_confluent_kafka_kip_848",
            "scenario_group_of_confluent_kafka_and_franz_go",
            "scenario_group_of_confluent_kafka_and_java_kip_848",
            "scenario_poll_interval_confluent_kafka",
            "scenario_poll_interval_confluent_kafka_kip_848",
            "scenario_sensor_fleet",
            "scenario_static_members_confluent_kafka",
            "scenario_static_members_confluent_kafka_kip_848",
        ],
    },
    Row {
        client: "aiokafka",
        language: "Python",
        version: Pinned("python.aiokafka", "aiokafka"),
        run: "records in every codec, topics, groups, also with other clients, what tutorials show of a consumer",
        tests: &[
            "client_aiokafka",
            "scenario_features_aiokafka",
            "scenario_group_aiokafka",
            "scenario_group_of_kafka_python_and_aiokafka",
        ],
    },
    Row {
        client: "PyKafka",
        language: "Python",
        version: Pinned("python.pykafka", "pykafka"),
        run: "message sets by both producers, committed offsets and managed groups, as a client of Kafka 0.8.2, 0.9, 0.10 and 1.0",
        tests: &["client_pykafka"],
    },
    Row {
        client: "PySpark, structured streaming",
        language: "Python",
        version: Pinned("python.pyspark", "pyspark"),
        run: "one topic into another, with a checkpoint, over a restart of the broker",
        tests: &["scenario_spark"],
    },
    Row {
        client: "franz-go",
        language: "Go",
        version: Pinned("go", "github.com/twmb/franz-go"),
        run: "records in every codec, topics, groups, also with other clients",
        tests: &["client_franz_go", "scenario_group_franz_go", "scenario_group_of_confluent_kafka_and_franz_go"],
    },
    Row {
        client: "sarama",
        language: "Go",
        version: Pinned("go", "github.com/IBM/sarama"),
        run: "records in every codec, topics, groups",
        tests: &["client_sarama", "scenario_group_sarama"],
    },
    Row {
        client: "kafkajs",
        language: "JavaScript",
        version: Pinned("node", "kafkajs"),
        run: "records in every codec, topics, groups",
        tests: &["client_kafkajs", "scenario_group_kafkajs"],
    },
    Row {
        client: "kcat (librdkafka)",
        language: "C",
        version: Pinned("debian", "kafkacat"),
        run: "records in every codec, queries, message sets as a client of Kafka 0.8.2, 0.9 and 0.10",
        tests: &["client_kcat", "client_kcat_of_old_brokers"],
    },
];

/// Sections of `tests/versions.toml` that hold no client of their own: databases, and what a client above needs.
const NO_CLIENTS: &[&str] = &["python.mongo", "ferretdb", "maven.spark"];

/// Where tests of clients are.
const TESTS: &[&str] = &["clients", "scenarios", "tools"];

const INTRODUCTION: &str = "\
# Clients

What the tests run against Weir, unmodified and in these versions. The table is made from `tests/versions.toml` and held against the tests in
`tests/clients`, `tests/scenarios` and `tests/tools`. With `WEIR_TEST_PEER=kafka` they run against Apache Kafka, but for clients that Kafka 4
no longer serves.

| client | language | version | what is run |
| --- | --- | --- | --- |
";

#[test]
fn the_page_is_current() {
    let mut page = INTRODUCTION.to_owned();
    for row in ROWS {
        let _ = writeln!(page, "| {} | {} | {} | {} |", row.client, row.language, row.version.text(), row.run);
    }
    assert_current("docs/clients.md", &page);
}

#[test]
fn the_summary_is_current() {
    const BEGIN: &str = "<!-- clients:begin -->\n";
    const END: &str = "<!-- clients:end -->";
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("README.md says where its table of clients begins");
    let (_, after) = rest.split_once(END).expect("README.md says where its table of clients ends");
    let mut table = "| language | clients in the versions tried |\n| --- | --- |\n".to_owned();
    for rows in ROWS.chunk_by(|one, next| one.language == next.language) {
        let clients: Vec<String> = rows
            .chunk_by(|one, next| one.client == next.client)
            .map(|rows| {
                let versions: Vec<String> = rows.iter().map(|row| row.version.text()).collect();
                format!("{} {}", rows[0].client, versions.join(", "))
            })
            .collect();
        let _ = writeln!(table, "| {} | {} |", rows[0].language, clients.join("; "));
    }
    assert_current("README.md", &format!("{before}{BEGIN}{table}{END}{after}"));
}

#[test]
fn every_client_and_every_test_of_one_is_listed() {
    let mut listed: BTreeSet<&str> = NO_CLIENTS.iter().copied().collect();
    listed.extend(ROWS.iter().filter_map(|row| match row.version {
        Pinned(section, _) => Some(section),
        OfKafka => None,
    }));
    let mut pinned = BTreeSet::new();
    let versions = versions();
    for (section, entries) in &versions {
        let entries = entries.as_table().expect("a section");
        match entries.values().any(toml::Value::is_table) {
            true => pinned.extend(entries.keys().map(|name| format!("{section}.{name}"))),
            false => _ = pinned.insert(section.clone()),
        }
    }
    assert_eq!(listed, pinned.iter().map(String::as_str).collect(), "sections of versions.toml");

    let named: BTreeSet<&str> = ROWS.iter().flat_map(|row| row.tests).copied().collect();
    let sources: String = TESTS.iter().flat_map(|dir| rust_files(dir)).map(|file| read(&file)).collect();
    let ignored = sources.split("\n#[ignore = ").skip(1);
    let tests: BTreeSet<&str> = ignored.map(|rest| between(rest, "\nfn ", "(")).collect();
    assert_eq!(named, tests, "tests of clients");
}

impl Version {
    fn text(&self) -> String {
        let Pinned(section, package) = self else { return compare::kafka::VERSION.to_owned() };
        let versions = versions();
        let pinned = section.split('.').try_fold(&versions, |table, name| table.get(name)?.as_table());
        let version = pinned.and_then(|packages| packages.get(*package)?.as_str());
        let version = version.unwrap_or_else(|| panic!("no {package} in [{section}] of tests/versions.toml"));
        version.trim_start_matches('v').to_owned()
    }
}

fn versions() -> toml::Table {
    toml::from_str(include_str!("../versions.toml")).expect("tests/versions.toml is valid TOML")
}

/// The paths of the Rust sources of a directory of tests.
fn rust_files(dir: &str) -> Vec<String> {
    let dir = format!("tests/{dir}");
    let entries = std::fs::read_dir(root().join(&dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let names = entries.map(|entry| entry.expect("a directory that can be read").file_name());
    names.map(|name| format!("{dir}/{}", name.display())).filter(|path| path.ends_with(".rs")).collect()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let found = text.split_once(before).and_then(|(_, rest)| Some(rest.split_once(after)?.0));
    found.unwrap_or_else(|| panic!("a test without a name: {text:.80}"))
}

/// Checks that a file of the repository has this text, or gives it this text.
fn assert_current(path: &str, text: &str) {
    if std::env::var_os("WEIR_PAGES_UPDATE").is_some() {
        return std::fs::write(root().join(path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(read(path) == text, "{path} is out of date: WEIR_PAGES_UPDATE=1 cargo test -p server --test clients page");
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
