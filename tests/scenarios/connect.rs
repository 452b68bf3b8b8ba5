//! Kafka Connect: a file into a topic and the topic into another file, by one process and by a worker of a cluster; a topic into
//! PostgreSQL. What Connect remembers in topics and groups is there after the broker and the workers have been stopped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::broker::{Broker, free_port};
use harness::process::Running;
use harness::wait::Wait;
use harness::{cache, provision, suite};

use crate::java;
use crate::postgres::Postgres;
use crate::tools::{GROUPS, Tools, rows};

/// How long to wait before a file, a database or a worker is looked at again.
const POLL: Duration = Duration::from_millis(100);
/// A worker answers within this, or is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const LINES: usize = 200;

#[test]
#[ignore = "needs Java, and Apache Kafka Connect from Maven"]
fn scenario_connect_standalone() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "scenario-connect-standalone", &[]);
    let files = Files::new(&broker);
    let offsets = broker.dir().join("connect.offsets");
    let worker =
        files.write("worker.properties", &settings(&broker, &[("offset.storage.file.filename", &shown(&offsets))]));
    let source = files.write("source.properties", &properties(&files.source()));
    let sink = files.write("sink.properties", &properties(&files.sink()));
    for round in 0..2 {
        files.append(round);
        let mut command = java(&provision::maven_jars("connect"));
        command.arg("org.apache.kafka.connect.cli.ConnectStandalone").args([&worker, &source, &sink]);
        let process = Running::start(&mut quiet(command), &broker.dir().join(format!("standalone-{round}.log")));
        files.wait_for_copy(round);
        process.terminate();
        broker.restart();
    }
}

#[test]
#[ignore = "needs Java, Apache Kafka Connect and a Debezium connector from Maven, and PostgreSQL"]
fn scenario_connect_distributed() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "scenario-connect-distributed", &[]);
    let tools = Tools::new(&broker);
    let files = Files::new(&broker);
    let postgres = Postgres::start(&broker);
    let mut worker = Worker::start(&broker, 0);
    files.append(0);
    worker.put("file-source", &files.source());
    worker.put("file-sink", &files.sink());
    tools.create("readings", 2);
    worker.put("database-sink", &database_sink(&postgres));

    let mut expected = Vec::new();
    for round in 0..2 {
        let rows: Vec<String> = (0..LINES).map(|row| reading(round * LINES + row)).collect();
        tools.produce("readings", rows.iter().map(String::as_str));
        expected.extend((0..LINES).map(|row| stored(round * LINES + row)));
        files.wait_for_copy(round);
        wait_until("the rows in PostgreSQL", || {
            postgres.query("select id, device, value from readings order by id") == expected
        });
        if round == 0 {
            // Everything that is remembered is in the broker now: another process of the same cluster finds its connectors.
            worker.stop();
            broker.restart();
            worker = Worker::start(&broker, 1);
            // It does not say while the workers of the cluster agree.
            wait_until("the three connectors", || {
                let connectors = worker.request("GET", "/connectors", "").unwrap_or_default();
                ["file-source", "file-sink", "database-sink"]
                    .iter()
                    .all(|name| connectors.matches(&format!("\"{name}\"")).count() == 1)
            });
        }
        if round == 1 {
            // The broker goes away under a running worker, which waits for it. What a sink has written and not committed by
            // then it may write once more.
            wait_until("the commit of the file's sink", || lag(&tools, "connect-file-sink") == Some(0));
            broker.restart();
        }
        files.append(round + 1);
    }
    files.wait_for_copy(2);
    worker.stop();

    let groups = tools.run(GROUPS, &["--list"]);
    for group in ["connect-file-sink", "connect-database-sink"] {
        assert!(groups.iter().any(|listed| listed == group), "{group} in {groups:?}");
    }
}

/// The file that Connect reads and the one that it writes.
struct Files {
    dir: PathBuf,
}

impl Files {
    fn new(broker: &Broker) -> Files {
        Files { dir: broker.dir().to_owned() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn source(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", "file-source".to_owned()),
            ("connector.class", "org.apache.kafka.connect.file.FileStreamSourceConnector".to_owned()),
            ("tasks.max", "1".to_owned()),
            ("file", shown(&self.dir.join("in.txt"))),
            ("topic", "connect-lines".to_owned()),
        ]
    }

    fn sink(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", "file-sink".to_owned()),
            ("connector.class", "org.apache.kafka.connect.file.FileStreamSinkConnector".to_owned()),
            ("tasks.max", "1".to_owned()),
            ("file", shown(&self.dir.join("out.txt"))),
            ("topics", "connect-lines".to_owned()),
        ]
    }

    /// Adds the lines of a round to the file that is read.
    fn append(&self, round: usize) {
        let path = self.dir.join("in.txt");
        let mut file = File::options().create(true).append(true).open(&path).expect("the file of the source");
        let lines: String = (0..LINES).map(|line| format!("{}\n", Files::line(round * LINES + line))).collect();
        file.write_all(lines.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Waits until the file that is written has all lines of this round and those before it, each once and in order.
    fn wait_for_copy(&self, round: usize) {
        let expected: String = (0..(round + 1) * LINES).map(|line| format!("{}\n", Files::line(line))).collect();
        let path = self.dir.join("out.txt");
        wait_until("the lines in the sink's file", || {
            let copied = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                expected.starts_with(&copied),
                "the copy differs after {} of {} bytes",
                copied.len(),
                expected.len()
            );
            copied == expected
        });
    }

    fn line(number: usize) -> String {
        format!("line {number} of the file")
    }
}

/// A worker of a cluster, which is told what to do through its REST interface.
struct Worker {
    process: Running,
    port: u16,
}

impl Worker {
    fn start(broker: &Broker, number: usize) -> Worker {
        let port = free_port();
        let listener = format!("HTTP://127.0.0.1:{port}");
        let settings = settings(
            broker,
            &[
                ("listeners", &listener),
                ("group.id", "connect-cluster"),
                ("config.storage.topic", "connect-configs"),
                ("offset.storage.topic", "connect-offsets"),
                ("status.storage.topic", "connect-status"),
                ("config.storage.replication.factor", "1"),
                ("offset.storage.replication.factor", "1"),
                ("status.storage.replication.factor", "1"),
                ("offset.storage.partitions", "5"),
                // Without these a change among the workers waits for minutes.
                ("scheduled.rebalance.max.delay.ms", "0"),
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "500"),
            ],
        );
        let file = Files::new(broker).write(&format!("worker-{number}.properties"), &settings);
        let mut command = java(&provision::maven_jars("connect"));
        command.arg("org.apache.kafka.connect.cli.ConnectDistributed").arg(file);
        let process = Running::start(&mut quiet(command), &broker.dir().join(format!("worker-{number}.log")));
        let worker = Worker { process, port };
        wait_until("a worker that answers", || worker.request("GET", "/connectors", "").is_some());
        worker
    }

    /// Makes a connector, as soon as the worker is a member of its cluster.
    fn put(&self, name: &str, config: &[(&str, String)]) {
        let fields: Vec<String> = config.iter().map(|(key, value)| format!("{key:?}: {value:?}")).collect();
        let body = format!("{{{}}}", fields.join(", "));
        wait_until("a connector", || self.request("PUT", &format!("/connectors/{name}/config"), &body).is_some());
    }

    fn stop(self) {
        self.process.terminate();
    }

    /// The body of an answer that says success.
    fn request(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).ok()?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let head = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 2").then(|| body.to_owned())
    }
}

/// How many records of its topics a group has not committed, where it has committed any of each partition.
fn lag(tools: &Tools, group: &str) -> Option<i64> {
    let rows = rows(&tools.run(GROUPS, &["--describe", "--group", group]), "GROUP");
    rows.iter().map(|row| row.get(5)?.parse::<i64>().ok()).sum()
}

fn database_sink(postgres: &Postgres) -> Vec<(&'static str, String)> {
    let settings = [
        ("name", "database-sink"),
        ("connector.class", "io.debezium.connector.jdbc.JdbcSinkConnector"),
        ("tasks.max", "1"),
        ("topics", "readings"),
        ("connection.url", &postgres.url()),
        ("connection.username", "weir"),
        ("connection.password", "unused"),
        ("insert.mode", "insert"),
        ("primary.key.mode", "record_value"),
        ("primary.key.fields", "id"),
        ("schema.evolution", "basic"),
        ("collection.name.format", "readings"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "true"),
    ];
    settings.map(|(key, value)| (key, value.to_owned())).to_vec()
}

/// A record with its schema, as Connect's converter for JSON wants it.
fn reading(id: usize) -> String {
    let field =
        |kind: &str, name: &str| format!("{{\"type\": \"{kind}\", \"optional\": false, \"field\": \"{name}\"}}");
    let fields = [field("int32", "id"), field("string", "device"), field("double", "value")].join(", ");
    let schema =
        format!("{{\"type\": \"struct\", \"name\": \"reading\", \"optional\": false, \"fields\": [{fields}]}}");
    let payload = format!("{{\"id\": {id}, \"device\": \"device-{}\", \"value\": {id}.5}}", id % 7);
    format!("{{\"schema\": {schema}, \"payload\": {payload}}}")
}

/// The row of a record.
fn stored(id: usize) -> String {
    format!("{id}|device-{}|{id}.5", id % 7)
}

/// What every worker is told.
fn settings(broker: &Broker, further: &[(&str, &str)]) -> String {
    let plugins = shown(&plugins(broker));
    let string = "org.apache.kafka.connect.storage.StringConverter";
    let listener = format!("HTTP://127.0.0.1:{}", free_port());
    let bootstrap = broker.bootstrap();
    let common = [
        ("bootstrap.servers", bootstrap.as_str()),
        ("key.converter", string),
        ("value.converter", string),
        ("offset.flush.interval.ms", "500"),
        // A task that does not end in time does not commit either.
        ("task.shutdown.graceful.timeout.ms", "60000"),
        ("plugin.path", &plugins),
        ("plugin.discovery", "hybrid_warn"),
        ("listeners", &listener),
        // A worker that was stopped by force is not waited for as long as by default.
        ("consumer.session.timeout.ms", "6000"),
        ("consumer.heartbeat.interval.ms", "500"),
    ];
    // The last one of two lines with one key counts.
    common.iter().chain(further).map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// The directory of plugins, which has one, made as its publisher packs it: without what Connect brings itself.
fn plugins(broker: &Broker) -> PathBuf {
    let plugins = broker.dir().join("plugins");
    let plugin = plugins.join("debezium-connector-jdbc");
    if plugin.exists() {
        return plugins;
    }
    std::fs::create_dir_all(&plugin).unwrap_or_else(|error| panic!("{}: {error}", plugin.display()));
    let jars = provision::maven_jars("jdbc-sink");
    for entry in std::fs::read_dir(&jars).unwrap_or_else(|error| panic!("{}: {error}", jars.display())) {
        let jar = entry.unwrap_or_else(|error| panic!("{}: {error}", jars.display())).file_name();
        let own = ["jackson-", "connect-", "kafka-", "slf4j-", "lz4-", "snappy-", "zstd-"];
        if !own.iter().any(|own| jar.to_string_lossy().starts_with(own)) {
            std::os::unix::fs::symlink(jars.join(&jar), plugin.join(&jar))
                .unwrap_or_else(|error| panic!("{}: {error}", plugin.display()));
        }
    }
    plugins
}

fn properties(settings: &[(&str, String)]) -> String {
    settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Warnings only, on standard error.
fn quiet(mut command: Command) -> Command {
    command.env("JDK_JAVA_OPTIONS", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let mut wait = Wait::begin();
    while !reached() {
        wait.goes_on(|| what.to_owned());
        std::thread::sleep(POLL);
    }
}
