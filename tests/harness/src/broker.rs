//! The broker under test as a child process: Weir, or Apache Kafka where `WEIR_TEST_PEER=kafka` asks for the proof that
//! the expectations are Kafka's.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use compare::kafka;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::last_lines;
use crate::{Suite, provision};

/// A broker starts in far less than a second and a loaded machine may take ten; this only ends a test that hangs.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Which broker the suite runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The broker of this repository.
    Weir,
    /// A stock Apache Kafka.
    Kafka,
}

impl Peer {
    /// What `WEIR_TEST_PEER` names: `weir`, which is the default, or `kafka`.
    pub fn from_environment() -> Peer {
        match std::env::var("WEIR_TEST_PEER").as_deref() {
            Err(_) | Ok("weir") => Peer::Weir,
            Ok("kafka") => Peer::Kafka,
            Ok(other) => panic!("WEIR_TEST_PEER is weir or kafka, not {other}"),
        }
    }
}

/// A broker with a directory of its own. It is stopped when dropped; its directory stays when the test failed.
#[derive(Debug)]
pub struct Broker {
    node: Node,
    dir: PathBuf,
}

#[derive(Debug)]
enum Node {
    Weir { weir: &'static str, port: u16, process: Option<Child> },
    Kafka { jars: kafka::Jars, broker: Option<kafka::Broker> },
}

impl Broker {
    /// Starts a broker with an empty directory and returns when it serves. `name` names the directory, `properties` are
    /// settings in the notation of Kafka's `server.properties`.
    pub fn start(suite: &Suite, name: &str, properties: &[(&str, &str)]) -> Broker {
        Broker::start_peer(Peer::from_environment(), suite, name, properties)
    }

    /// As [`Broker::start`] with the peer of the caller's choice.
    pub fn start_peer(peer: Peer, suite: &Suite, name: &str, properties: &[(&str, &str)]) -> Broker {
        let dir = Path::new(suite.tmp).join(format!("{name}-{}", std::process::id()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        }
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let node = match peer {
            Peer::Weir => {
                // Without a wish of the test a group is ready as soon as with Apache Kafka, which is started so as well.
                let delay = ("group.initial.rebalance.delay.ms", "0");
                let delay = properties.iter().all(|(key, _)| *key != delay.0).then_some(&delay);
                let properties = delay.into_iter().chain(properties);
                let lines: String = properties.map(|(key, value)| format!("{key}={value}\n")).collect();
                let file = dir.join(PROPERTIES_FILE);
                std::fs::write(&file, lines).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                Node::Weir { weir: suite.weir, port: free_port(), process: None }
            }
            Peer::Kafka => {
                let jars = provision::kafka();
                let options = kafka::BrokerOptions {
                    properties: properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
                    parent_dir: Some(dir.clone()),
                    ..Default::default()
                };
                let broker = kafka::Broker::start(&jars, &options).unwrap_or_else(|error| panic!("{error}"));
                Node::Kafka { jars, broker: Some(broker) }
            }
        };
        let mut broker = Broker { node, dir };
        if peer == Peer::Weir {
            broker.resume();
        }
        broker
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        match &self.node {
            Node::Weir { port, .. } => format!("127.0.0.1:{port}"),
            Node::Kafka { broker, .. } => broker.as_ref().expect("Kafka runs until it is dropped").bootstrap(),
        }
    }

    /// A directory for the files of the test; it lives as long as the broker's own.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of the partitions.
    pub fn data_dir(&self) -> PathBuf {
        match &self.node {
            Node::Weir { .. } => self.dir.join(DATA_DIR),
            Node::Kafka { broker, .. } => broker.as_ref().expect("Kafka runs until it is dropped").data_dir(),
        }
    }

    /// Stops the broker by SIGTERM, which must end it with success, and starts it again on the same port and directory.
    pub fn restart(&mut self) {
        self.terminate();
        self.resume();
    }

    /// Stops the broker by SIGTERM and checks that it calls that a success.
    pub fn terminate(&mut self) {
        match &mut self.node {
            Node::Weir { process, .. } => {
                let mut process = process.take().expect("the broker runs");
                kill_process(Pid::from_child(&process), Signal::TERM).expect("SIGTERM to our own child");
                let status = wait(&mut process, STOP_TIMEOUT);
                let status = status.unwrap_or_else(|| self.panic("did not stop within a minute of SIGTERM"));
                if !status.success() {
                    self.panic(&format!("ended with {status} after SIGTERM"));
                }
            }
            // Kafka stops inside `restart`.
            Node::Kafka { .. } => {}
        }
    }

    /// Ends the broker by SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        match &mut self.node {
            Node::Weir { process, .. } => {
                let mut process = process.take().expect("the broker runs");
                process.kill().and_then(|()| process.wait()).expect("SIGKILL to our own child");
            }
            Node::Kafka { broker, .. } => {
                broker
                    .as_mut()
                    .expect("Kafka runs until it is dropped")
                    .kill()
                    .unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    /// Starts the broker again after [`Broker::terminate`] or [`Broker::kill`] and returns when it serves.
    pub fn resume(&mut self) {
        match &mut self.node {
            Node::Weir { weir, port, process } => {
                *process = Some(spawn(weir, *port, &self.dir));
                self.wait_until_ready();
            }
            Node::Kafka { jars, broker } => {
                let broker = broker.as_mut().expect("Kafka runs until it is dropped");
                broker.restart(jars).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    /// Starts the broker and ends it by SIGKILL after `delay`, whether it serves by then or not.
    pub fn resume_and_kill(&mut self, delay: Duration) {
        match &mut self.node {
            Node::Weir { weir, port, process } => {
                *process = Some(spawn(weir, *port, &self.dir));
                std::thread::sleep(delay);
                self.kill();
            }
            // Kafka's start takes seconds and is no subject of these tests.
            Node::Kafka { .. } => {}
        }
    }

    /// The process id, for what `/proc` says of the broker.
    pub fn pid(&self) -> u32 {
        match &self.node {
            Node::Weir { process, .. } => process.as_ref().expect("the broker runs").id(),
            Node::Kafka { broker, .. } => broker.as_ref().expect("Kafka runs until it is dropped").pid(),
        }
    }

    fn wait_until_ready(&mut self) {
        let ready = self.dir.join(READY_FILE);
        let deadline = Instant::now() + START_TIMEOUT;
        while !ready.exists() {
            let Node::Weir { process: Some(process), .. } = &mut self.node else { return };
            if let Some(status) = process.try_wait().expect("waiting for our own child") {
                self.panic(&format!("ended with {status} before it was ready"));
            }
            if Instant::now() > deadline {
                self.panic("was not ready within a minute");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn panic(&self, how: &str) -> ! {
        // `drop` shows the log.
        panic!("the broker {how}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match &mut self.node {
            Node::Weir { process, .. } => {
                if let Some(process) = process {
                    let _ = kill_process(Pid::from_child(process), Signal::TERM);
                    if wait(process, STOP_TIMEOUT).is_none() {
                        let _ = process.kill();
                        let _ = process.wait();
                    }
                }
            }
            Node::Kafka { broker, .. } => {
                if std::thread::panicking()
                    && let Some(broker) = broker
                {
                    let _ = std::fs::copy(broker.log_file(), self.dir.join(LOG_FILE));
                }
                drop(broker.take());
            }
        }
        if std::thread::panicking() {
            let log = std::fs::read(self.dir.join(LOG_FILE)).unwrap_or_default();
            // Kafka writes hundreds of lines at every start and stop.
            let log: String = String::from_utf8_lossy(&log)
                .lines()
                .filter(|line| !line.contains("] INFO ") && !line.starts_with('\t'))
                .map(|line| format!("{line}\n"))
                .collect();
            eprintln!(
                "--- the end of the broker's log; everything is kept in {}\n{}",
                self.dir.display(),
                last_lines(&log, 60)
            );
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

const DATA_DIR: &str = "data";
const LOG_FILE: &str = "broker.log";
const PROPERTIES_FILE: &str = "server.properties";
const READY_FILE: &str = "ready";

fn spawn(weir: &str, port: u16, dir: &Path) -> Child {
    let ready = dir.join(READY_FILE);
    if ready.exists() {
        std::fs::remove_file(&ready).unwrap_or_else(|error| panic!("{}: {error}", ready.display()));
    }
    let log = File::options().create(true).append(true).open(dir.join(LOG_FILE)).expect("the broker's log");
    let cores = match std::thread::available_parallelism() {
        Ok(count) if count.get() > 1 => "0,1",
        _ => "0",
    };
    let mut command = Command::new(weir);
    // Variables that begin so are settings of the broker, or ours, which it would refuse.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"WEIR_")) {
        command.env_remove(name);
    }
    command
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--cores", cores, "--data-dir"])
        .arg(dir.join(DATA_DIR))
        .arg("--ready-file")
        .arg(&ready)
        .arg("--config")
        .arg(dir.join(PROPERTIES_FILE))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the broker's log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{weir} did not start: {error}"))
}

fn wait(process: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = process.try_wait().expect("waiting for our own child") {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A port for a server that wants to be told its own, and that may be started on it again. The kernel gives it to nobody, be it
/// for an outgoing connection or to a listener that takes any, so it is free when the server binds it, and when it comes back;
/// nor does this function give it twice.
pub fn free_port() -> u16 {
    /// How many were tried.
    static TRIED: AtomicU32 = AtomicU32::new(0);
    /// Below are the ports of well-known services.
    const FIRST: u32 = 10_000;
    /// Processes of neighbouring numbers begin far from each other.
    const STRIDE: u32 = 997;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first_of_kernel = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(FIRST);
    let count = u32::saturating_sub(first_of_kernel, FIRST);
    for _ in 0..count {
        let number = std::process::id().wrapping_mul(STRIDE).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % count).expect("the kernel's ports begin above ours");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    // A kernel that was told to use all of them: one that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    listener.local_addr().expect("a listener has an address").port()
}
