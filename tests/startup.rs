//! The program as its operator sees it: what it refuses and with which code, when it is ready, how it stops, and that
//! what was decided survives its end.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use harness::raw::Connection;
use rustix::process::{Pid, Signal, kill_process};
use wire::api::ApiKey;
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::delete_topics_request::DeleteTopicState;
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest,
    InitProducerIdResponse, MetadataRequest, MetadataResponse,
};
use wire::{Message, Reader};

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory beside the test's program: the one for temporary files may refuse direct access.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory of our own")
}

fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    // Nothing of the environment that runs the tests may decide.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end: its exit code and what it said.
fn ends(arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = weir().args(arguments).spawn().expect("the program starts");
    let status = wait(&mut child);
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    (status.code(), said)
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the program did not end");
        }
        std::thread::yield_now();
    }
}

/// A broker that is ready.
struct Broker {
    child: Child,
    data: PathBuf,
    ready: PathBuf,
    port: u16,
}

impl Broker {
    fn start(place: &Path, more: &[&str]) -> Broker {
        let (data, ready) = (place.join("data"), place.join("ready"));
        // A kill leaves it behind.
        let _ = fs::remove_file(&ready);
        let mut command = weir();
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).arg("--ready-file").arg(&ready).args(more);
        // What it says is read only if it fails, so it must not fill a pipe.
        command.stderr(fs::File::create(place.join("log")).expect("a log"));
        let mut child = command.spawn().expect("the program starts");
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            if let Ok(text) = fs::read_to_string(&ready) {
                break text;
            }
            if let Some(status) = child.try_wait().expect("our own child") {
                panic!("{status}: {}", fs::read_to_string(place.join("log")).unwrap_or_default());
            }
            assert!(
                Instant::now() < deadline,
                "not ready: {}",
                fs::read_to_string(place.join("log")).unwrap_or_default()
            );
            std::thread::yield_now();
        };
        let port = text.trim().strip_prefix("PLAINTEXT://127.0.0.1:").and_then(|port| port.parse().ok());
        Broker { child, data, ready, port: port.unwrap_or_else(|| panic!("{text:?}")) }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our own child");
    }

    /// Stops it with a signal and gives its exit code.
    fn stop(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        wait(&mut self.child).code()
    }

    /// Sends one request and gives the answer's body.
    fn ask<'a>(&self, api: ApiKey, version: i16, request: &impl Message<'a>) -> Vec<u8> {
        let mut connection = Connection::open(&format!("127.0.0.1:{}", self.port)).expect("it listens");
        connection.call(api, version, request).expect("an answer")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Ended already, unless a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn decode<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> M {
    M::decode(&mut Reader::new(bytes), version).expect("an answer of that form")
}

#[test]
fn a_reader_of_pages_that_has_gone_is_no_fault() {
    let print = |argument: &str, stdout: Stdio| {
        let output = weir().arg(argument).stdout(stdout).output().expect("the program runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    for argument in ["config", "compatibility", "--help", "--version"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(print(argument, writer.into()), (Some(0), String::new()), "{argument}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let (code, said) = print("config", full.into());
    assert_eq!(code, Some(1));
    assert!(said.starts_with("weir: cannot write to standard output: "), "{said}");
}

#[test]
fn loggers_say_what_they_are_asked_to_while_the_broker_runs() {
    let place = place();
    let broker = Broker::start(place.path(), &["--log-level", "error"]);
    let set = |logger: &str, level: &str| {
        let config = AlterableConfig { name: logger, config_operation: 0, value: Some(level) };
        let resource = AlterConfigsResource { resource_type: 8, resource_name: "1", configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = broker.ask(ApiKey::IncrementalAlterConfigs, 1, &request);
        let answer: IncrementalAlterConfigsResponse<'_> = decode(&answer, 1);
        assert_eq!(answer.responses[0].error_code, 0, "{logger}={level}");
    };
    // Each is told of at the level of warnings, by the levels before it.
    set("server::connection", "INFO");
    set("server::loggers", "WARN");
    set("server::listener", "INFO");
    set("server::loggers", "FATAL");
    set("server::broker", "INFO");
    set("root", "TRACE");
    set("server::assembly", "INFO");
    assert_eq!(broker.stop(Signal::TERM), Some(0));
    let log = fs::read_to_string(place.path().join("log")).expect("a log");
    let said: Vec<&str> = log.lines().filter_map(|line| line.split_once(" the log level of ").map(|it| it.1)).collect();
    assert_eq!(said, ["server::listener is set to INFO", "server::loggers is set to FATAL"], "{log}");
    assert!(!log.contains("ready") && log.contains("stopped, everything is on disk"), "{log}");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let place = place();
    let file = place.path().join("server.properties");
    let file = file.to_str().expect("text");
    fs::write(file, "num.partitions=1\nnum.partition=2\n").expect("a file");
    for (arguments, sentence) in [
        (&["--durability", "maybe"][..], "weir: --durability: Invalid value maybe for configuration durability"),
        (&["--config", file], "server.properties:2: unknown key num.partition; did you mean num.partitions?"),
        (&["--data-dri", "x"], "unexpected argument '--data-dri'"),
        (&["--listen", "SSL://127.0.0.1:0"], "asks for SSL; Weir serves PLAINTEXT only"),
        (&["--cores", "8191"], "the process may not use CPU 8191"),
    ] {
        let (code, said) = ends(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
    let (code, said) = ends(&["--memory", "1000000GiB"]);
    assert_eq!(code, Some(8), "{said}");
}

#[test]
fn a_directory_serves_one_process() {
    let place = place();
    let broker = Broker::start(place.path(), &[]);
    let data = broker.data.to_str().expect("text").to_owned();
    let (code, said) = ends(&["--listen", "127.0.0.1:0", "--data-dir", &data]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&format!("in use by process {}", broker.child.id())), "{said}");
    assert_eq!(broker.stop(Signal::TERM), Some(0));
    let (code, said) = ends(&["--listen", "127.0.0.1:0", "--data-dir", &data, "--node-id", "2"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("belongs to node 1"), "{said}");
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let place = place();
    let data = place.path().to_str().expect("text");
    fs::write(place.path().join("meta.properties"), "version=1\ncluster.id=x\nnode.id=1\n").expect("a file");
    let (code, said) = ends(&["--data-dir", data]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("is a data directory of Apache Kafka"), "{said}");
    fs::rename(place.path().join("meta.properties"), place.path().join("notes")).expect("a file");
    let (code, said) = ends(&["--data-dir", data]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("it has files (notes)"), "{said}");
    assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 1, "nothing was added");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = place();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let data = place.path().join("data");
    let (code, said) = ends(&["--listen", &address, "--data-dir", data.to_str().expect("text")]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(&format!("{address} is in use by another process")), "{said}");
    // Its own sockets share their port, but not with another broker.
    let broker = Broker::start(place.path(), &[]);
    let address = format!("127.0.0.1:{}", broker.port);
    let other = place.path().join("other");
    let (code, said) = ends(&["--listen", &address, "--data-dir", other.to_str().expect("text")]);
    assert_eq!(code, Some(5), "{said}");
}

#[test]
fn both_signals_stop_it_cleanly() {
    let place = place();
    for signal in [Signal::TERM, Signal::INT] {
        let broker = Broker::start(place.path(), &[]);
        let (data, ready) = (broker.data.clone(), broker.ready.clone());
        assert!(!data.join("clean-stop").exists());
        assert_eq!(broker.stop(signal), Some(0));
        assert!(data.join("clean-stop").exists() && !ready.exists());
    }
}

#[test]
fn decisions_survive_a_stop_and_a_kill() {
    let place = place();
    for (round, signal) in [Signal::TERM, Signal::KILL].into_iter().enumerate() {
        let broker = Broker::start(place.path(), &["--num-partitions", "3"]);
        let cluster = metadata(&broker, &[]).0;
        let name = format!("made-{round}");
        let own = vec![CreatableTopicConfig { name: "retention.ms", value: Some("12345") }];
        let topic = |name, configs| CreatableTopic {
            name,
            num_partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs,
        };
        let request = CreateTopicsRequest {
            topics: vec![topic(&name, own), topic("doomed", Vec::new())],
            ..CreateTopicsRequest::default()
        };
        let answer = broker.ask(ApiKey::CreateTopics, 7, &request);
        let answer: CreateTopicsResponse<'_> = decode(&answer, 7);
        assert!(answer.topics.iter().all(|topic| topic.error_code == 0), "{answer:?}");
        let id = answer.topics[0].topic_id;
        let doomed = DeleteTopicState { name: Some("doomed"), topic_id: wire::Uuid::ZERO };
        let request = DeleteTopicsRequest { topics: vec![doomed], ..DeleteTopicsRequest::default() };
        let answer = broker.ask(ApiKey::DeleteTopics, 6, &request);
        let answer: DeleteTopicsResponse<'_> = decode(&answer, 6);
        assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
        let first_id = producer_id(&broker);

        assert_eq!(broker.stop(signal).is_some(), signal == Signal::TERM);
        let broker = Broker::start(place.path(), &[]);
        let (same_cluster, topics) = metadata(&broker, &[&name, "doomed"]);
        assert_eq!(same_cluster, cluster);
        assert_eq!(topics, [(0, Some(id), 3), (3, None, 0)]);
        assert_eq!(configured(&broker, &name, "retention.ms"), "12345");
        assert!(producer_id(&broker) > first_id, "a producer id was given away twice");
        assert_eq!(broker.stop(Signal::TERM), Some(0));
    }
}

/// The cluster's id, and the error, id and number of partitions of each topic.
fn metadata(broker: &Broker, names: &[&str]) -> (String, Vec<(i16, Option<wire::Uuid>, usize)>) {
    let topics = names.iter().map(|name| MetadataRequestTopic { topic_id: wire::Uuid::ZERO, name: Some(name) });
    let request = MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let answer = broker.ask(ApiKey::Metadata, 12, &request);
    let answer: MetadataResponse<'_> = decode(&answer, 12);
    assert_eq!(answer.brokers[0].port, i32::from(broker.port));
    let id = |id: wire::Uuid| (!id.is_zero()).then_some(id);
    let topics = answer.topics.iter().map(|topic| (topic.error_code, id(topic.topic_id), topic.partitions.len()));
    (answer.cluster_id.expect("an id").to_owned(), topics.collect())
}

fn configured(broker: &Broker, topic: &str, key: &str) -> String {
    let resource =
        DescribeConfigsResource { resource_type: 2, resource_name: topic, configuration_keys: Some(vec![key]) };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let answer = broker.ask(ApiKey::DescribeConfigs, 4, &request);
    let answer: DescribeConfigsResponse<'_> = decode(&answer, 4);
    answer.results[0].configs[0].value.expect("a value").to_owned()
}

fn producer_id(broker: &Broker) -> i64 {
    let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
    let answer = broker.ask(ApiKey::InitProducerId, 4, &request);
    let answer: InitProducerIdResponse = decode(&answer, 4);
    assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
    answer.producer_id
}
