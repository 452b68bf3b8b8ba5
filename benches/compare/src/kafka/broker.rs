//! One Apache Kafka node as a child process: format, start, wait until it serves, stop.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{Jars, ToolError};
use crate::client::Client;
use crate::process::{StopError, TempDir, last_lines, terminate};

/// Base64 of the 16 bytes "WeirCompareKafka": the nodes are alone and short-lived, so one id serves all of them.
const CLUSTER_ID: &str = "V2VpckNvbXBhcmVLYWZrYQ";

/// The options of the scripts of the distribution (`KAFKA_HEAP_OPTS`, `KAFKA_JVM_PERFORMANCE_OPTS`).
const JVM_OPTIONS: [&str; 8] = [
    "-Xmx1g",
    "-Xms1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// A node takes about 4 s; a machine that is busy building may take ten times that.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Kafka flushes every log at a clean stop, which takes a while after gigabytes in the page cache.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Another process may take a port between our choice and Kafka's bind.
const PORT_ATTEMPTS: usize = 3;

/// How to run a node. The default is a node as it ships on ports of the system's choice.
#[derive(Debug, Clone, Default)]
pub struct BrokerOptions {
    /// Port for clients on 127.0.0.1; a free one where absent.
    pub port: Option<u16>,
    /// Processors for the whole process in the notation of `taskset --cpu-list`, for instance `0` or `0,2-3`; all where absent.
    pub cpus: Option<String>,
    /// Further lines for `server.properties`; they come last, so they win.
    pub properties: Vec<(String, String)>,
    /// Where the node's own directory is made: the system's temporary directory where absent. It decides about the file
    /// system that is measured.
    pub parent_dir: Option<PathBuf>,
}

/// A running node. Dropping it stops it and deletes its directory.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    port: u16,
    cpus: Option<String>,
    dir: TempDir,
}

impl Broker {
    /// Formats a new directory, starts a node in it and returns when the node answers ApiVersions and knows itself as a broker.
    pub fn start(jars: &Jars, options: &BrokerOptions) -> Result<Broker, BrokerError> {
        let mut attempt = 1;
        loop {
            match start_once(jars, options) {
                Err(BrokerError::Exited { log, .. })
                    if log.contains("BindException") && options.port.is_none() && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        address(self.port).to_string()
    }

    /// The process id of the Java process, the one whose processor time is the node's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory of the partitions (`log.dirs`).
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join(DATA_DIR)
    }

    /// The node's log.
    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join(LOG_FILE)
    }

    /// Creates a topic with Kafka's own tool; `configs` are topic settings such as `("flush.messages", "1")`.
    pub fn create_topic(
        &self,
        jars: &Jars,
        topic: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Result<(), ToolError> {
        let bootstrap = self.bootstrap();
        let mut arguments: Vec<String> = [
            "--bootstrap-server",
            &bootstrap,
            "--create",
            "--topic",
            topic,
            "--replication-factor",
            "1",
            "--partitions",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(partitions.to_string());
        for (key, value) in configs {
            arguments.extend(["--config".to_owned(), format!("{key}={value}")]);
        }
        jars.run_tool("org.apache.kafka.tools.TopicCommand", &arguments).map(drop)
    }

    /// Stops the node by SIGTERM where it still runs, and starts it again on the same port and directory.
    pub fn restart(&mut self, jars: &Jars) -> Result<(), BrokerError> {
        terminate(&mut self.child, STOP_TIMEOUT).map_err(BrokerError::Stop)?;
        self.child = launch(jars, self.dir.path(), self.cpus.as_deref())?;
        self.wait_until_ready()
    }

    /// Ends the node by SIGKILL, as a crash would; [`Broker::restart`] brings it back.
    pub fn kill(&mut self) -> Result<(), BrokerError> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(BrokerError::Process)
    }

    /// How a node that ended by itself ended, and the end of its output and log; `None` while it runs.
    pub fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("{status}\n{}", self.log_end()))
    }

    /// Stops the node by SIGTERM, waits for its end and deletes its directory.
    pub fn stop(mut self) -> Result<(), BrokerError> {
        terminate(&mut self.child, STOP_TIMEOUT).map_err(BrokerError::Stop)?;
        self.dir.remove().map_err(BrokerError::Directory)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // After `stop` the process is gone and this does nothing. An error has no one to go to here.
        let _ = terminate(&mut self.child, STOP_TIMEOUT);
    }
}

/// Why a node did not start or stop.
#[derive(Debug)]
pub enum BrokerError {
    /// The node's directory or a file in it could not be written.
    Directory(io::Error),
    /// No free port on loopback.
    Port(io::Error),
    /// Kafka's tool could not format the directory.
    Format(ToolError),
    /// Java, or `taskset` where processors were named, did not start.
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The node ended before it served.
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// The end of its output and log.
        log: String,
    },
    /// The node did not serve in time.
    NotReady {
        /// The end of its output and log.
        log: String,
    },
    /// The node did not stop as it should.
    Stop(StopError),
    /// Waiting for the process or signalling it failed.
    Process(io::Error),
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerError::Directory(source) => write!(f, "the directory of Apache Kafka: {source}"),
            BrokerError::Port(source) => write!(f, "no free port for Apache Kafka: {source}"),
            BrokerError::Format(source) => {
                write!(f, "formatting the directory of Apache Kafka: {source}")
            }
            BrokerError::Spawn { program, source } => {
                write!(f, "{program} did not start: {source}")
            }
            BrokerError::Exited { status, log } => {
                write!(f, "Apache Kafka ended early ({status}):\n{log}")
            }
            BrokerError::NotReady { log } => {
                write!(f, "Apache Kafka did not serve within {} s:\n{log}", START_TIMEOUT.as_secs())
            }
            BrokerError::Stop(source) => write!(f, "Apache Kafka: {source}"),
            BrokerError::Process(source) => write!(f, "the process of Apache Kafka: {source}"),
        }
    }
}

impl std::error::Error for BrokerError {}

const DATA_DIR: &str = "data";
const LOG_FILE: &str = "broker.log";
const CONSOLE_FILE: &str = "console.log";
const PROPERTIES_FILE: &str = "server.properties";
const LOGGING_FILE: &str = "log4j2.properties";

fn start_once(jars: &Jars, options: &BrokerOptions) -> Result<Broker, BrokerError> {
    let parent = options.parent_dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = TempDir::create(&parent, "weir-kafka").map_err(BrokerError::Directory)?;
    let [free_port, controller_port] = free_ports().map_err(BrokerError::Port)?;
    let port = options.port.unwrap_or(free_port);
    let file = |name: &str| dir.path().join(name);
    fs::write(file(PROPERTIES_FILE), properties(&dir, port, controller_port, &options.properties))
        .and_then(|()| fs::write(file(LOGGING_FILE), logging(&file(LOG_FILE))))
        .map_err(BrokerError::Directory)?;

    let config = file(PROPERTIES_FILE).display().to_string();
    jars.run_tool("kafka.tools.StorageTool", &["format", "--standalone", "-t", CLUSTER_ID, "-c", &config])
        .map_err(BrokerError::Format)?;

    let child = launch(jars, dir.path(), options.cpus.as_deref())?;
    let mut broker = Broker { child, port, cpus: options.cpus.clone(), dir };
    broker.wait_until_ready()?;
    Ok(broker)
}

/// Starts the process on a directory that is formatted already. What it prints is added to what an earlier one printed.
fn launch(jars: &Jars, dir: &Path, cpus: Option<&str>) -> Result<Child, BrokerError> {
    let console =
        File::options().create(true).append(true).open(dir.join(CONSOLE_FILE)).map_err(BrokerError::Directory)?;
    let console_errors = console.try_clone().map_err(BrokerError::Directory)?;
    // taskset replaces itself by Java, so the process id is Java's in both cases.
    let (program, mut command) = match cpus {
        Some(cpus) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", cpus]).arg(jars.java());
            ("taskset".to_owned(), command)
        }
        None => (jars.java().display().to_string(), Command::new(jars.java())),
    };
    command
        .args(JVM_OPTIONS)
        .arg(format!("-Dlog4j2.configurationFile={}", dir.join(LOGGING_FILE).display()))
        .args(["-cp", &jars.class_path(), "kafka.Kafka"])
        .arg(dir.join(PROPERTIES_FILE))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(console_errors)
        .spawn()
        .map_err(|source| BrokerError::Spawn { program, source })
}

impl Broker {
    fn wait_until_ready(&mut self) -> Result<(), BrokerError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().map_err(BrokerError::Process)? {
                return Err(BrokerError::Exited { status, log: self.log_end() });
            }
            if serves(address(self.port)).unwrap_or(false) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(BrokerError::NotReady { log: self.log_end() });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn log_end(&self) -> String {
        [CONSOLE_FILE, LOG_FILE].map(|name| last_lines(&self.dir.path().join(name), 40)).join("\n")
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Two ports that were free a moment ago, different from each other because both are held until both are chosen.
fn free_ports() -> io::Result<[u16; 2]> {
    let first = TcpListener::bind(address(0))?;
    let second = TcpListener::bind(address(0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// What a single combined node must be told; everything else is the default of the release.
fn properties(dir: &TempDir, port: u16, controller_port: u16, further: &[(String, String)]) -> String {
    let data = dir.path().join(DATA_DIR);
    let own = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", "1".to_owned()),
        ("controller.quorum.bootstrap.servers", address(controller_port).to_string()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned()),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        ("listeners", format!("PLAINTEXT://{},CONTROLLER://{}", address(port), address(controller_port))),
        ("advertised.listeners", format!("PLAINTEXT://{},CONTROLLER://{}", address(port), address(controller_port))),
        ("log.dirs", data.display().to_string()),
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
        ("share.coordinator.state.topic.min.isr", "1".to_owned()),
        // Three seconds of waiting for further members make sense in production and not in a run of seconds.
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value));
    own.iter().chain(further).map(|(key, value)| format!("{key}={value}\n")).collect()
}

fn logging(log_file: &Path) -> String {
    format!(
        "appender.file.type = File\n\
         appender.file.name = file\n\
         appender.file.fileName = {}\n\
         appender.file.layout.type = PatternLayout\n\
         appender.file.layout.pattern = [%d] %p %m (%c)%n\n\
         rootLogger.level = INFO\n\
         rootLogger.appenderRef.file.ref = file\n",
        log_file.display()
    )
}

/// True when the node answers ApiVersions without an error and Metadata with itself as a broker: it then has registered
/// with its controller and is no longer fenced.
fn serves(to: SocketAddr) -> io::Result<bool> {
    let mut client = Client::connect(to)?;
    // ApiVersions (key 18) version 0 has an empty body; its answer starts with an error code.
    let versions = client.call(18, 0, &[])?;
    // Metadata (key 3) version 1 with an empty list of topics; its answer starts with the count of brokers.
    let metadata = client.call(3, 1, &0u32.to_be_bytes())?;
    Ok(versions.starts_with(&[0, 0]) && metadata.get(..4).is_some_and(|count| count != [0; 4]))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn further_properties_come_last_and_listeners_stay_on_loopback() {
        let dir = TempDir::create(&std::env::temp_dir(), "weir-kafka-test").unwrap();
        let text = properties(&dir, 1234, 1235, &[("num.partitions".into(), "7".into())]);
        assert!(text.ends_with("num.partitions=7\n"), "{text}");
        assert!(text.contains("listeners=PLAINTEXT://127.0.0.1:1234,CONTROLLER://127.0.0.1:1235\n"), "{text}");
        let keys: Vec<&str> = text.lines().map(|line| line.split_once('=').unwrap().0).collect();
        let mut unique = keys.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), keys.len(), "a key is given twice");
    }

    #[test]
    fn a_server_that_is_not_kafka_does_not_serve() {
        let listener = TcpListener::bind(address(0)).unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        assert!(serves(to).is_err());
        server.join().unwrap();
        assert!(serves(to).is_err(), "nothing listens any more");
    }
}
