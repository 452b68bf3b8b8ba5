//! Settings as types: what the parts of the broker are given. Whatever the table cannot check by itself is checked
//! here, against the machine that the broker runs on.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use wire::Uuid;

use super::coordinators::CoordinatorOptions;
use super::kind::{self, Kind, Value};
use super::live::LiveSettings;
use super::load::Loaded;
use super::settings;
use super::topic::Configs;
use crate::limits::{CORE_BYTES, PROCESS_BYTES};

/// What the broker has to know about its machine before it starts.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The CPUs that the process may use, ascending.
    pub cpus: Vec<usize>,
    /// The memory of the machine or, where it is less, of the control group, in bytes.
    pub memory_bytes: u64,
    /// The name by which others know the machine.
    pub host_name: String,
}

/// The broker's settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where clients connect. At least one.
    pub listeners: Vec<Listener>,
    /// The one directory for everything.
    pub data_dir: PathBuf,
    /// The CPUs to run on, one thread each. At least one.
    pub cores: Vec<usize>,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// The most memory to use, in bytes.
    pub memory_bytes: u64,
    /// How much to log: a level of the `tracing` crate.
    pub log_level: String,
    /// To be written when clients can connect.
    pub ready_file: Option<PathBuf>,
    /// The number of this broker.
    pub node_id: i32,
    /// The id of the cluster, for a new data directory.
    pub cluster_id: Option<Uuid>,
    /// The rack that clients are told.
    pub rack: Option<String>,
    /// Bounds on clients.
    pub limits: ClientLimits,
    /// How topics are created and deleted.
    pub topics: TopicOptions,
    /// Groups and transactions.
    pub coordinators: CoordinatorOptions,
    /// How often old segments are looked for, in milliseconds.
    pub retention_check_interval_ms: u64,
    /// Whether logs are compacted. How, [`LiveSettings`] say.
    pub compacts: bool,
    /// The settings that were given: the base of every topic's configuration, and what DescribeConfigs answers.
    pub fixed: Configs,
    /// For the log: what was given and has no effect.
    pub notes: Vec<String>,
}

/// Where clients connect, and what they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name, `PLAINTEXT` unless it was given another.
    pub name: String,
    /// The address to bind: an IP address or a name. Empty is every interface.
    pub host: String,
    /// The port to bind; 0 takes a free one.
    pub port: u16,
    /// The host that clients are told.
    pub advertised_host: String,
    /// The port that clients are told; `None` is the one that was bound.
    pub advertised_port: Option<u16>,
}

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The record survives a power cut.
    Disk,
    /// The record survives the end of the process.
    Os,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Disk => "disk",
            Durability::Os => "os",
        })
    }
}

/// Bounds on clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// The largest request, in bytes.
    pub request_bytes: u32,
    /// Silence after which a connection is closed, in milliseconds; `None` is never.
    pub idle_ms: Option<u64>,
    /// Bytes of records in one fetch response.
    pub fetch_bytes: u32,
    /// Fetch sessions at a time.
    pub fetch_sessions: u32,
    /// Partitions in one response of DescribeTopicPartitions.
    pub described_partitions: u32,
}

/// How topics are created and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicOptions {
    /// Whether a topic is created when a client first asks for it.
    pub auto_create: bool,
    /// Whether topics may be deleted.
    pub may_delete: bool,
    /// The partitions of a topic whose creator names no number.
    pub num_partitions: i32,
    /// The replicas of a topic whose creator names no number.
    pub replication_factor: i16,
}

/// Why settings that are legal one by one cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionsError {
    /// More than one data directory, or none.
    NotOneDirectory(usize),
    /// A listener that is no `ADDR:PORT`.
    BadListener(String),
    /// Listeners of one name.
    SameName(String),
    /// Only listeners for controllers.
    NoListener,
    /// A listener's name without a protocol.
    NoProtocol(String),
    /// A listener with a protocol that is not served.
    ProtocolNotServed {
        /// The listener.
        name: String,
        /// Its protocol.
        protocol: String,
    },
    /// An entry of `listener.security.protocol.map` that is no `NAME:PROTOCOL`.
    BadProtocolEntry(String),
    /// Something advertised that is no `HOST:PORT`.
    BadAdvertised(String),
    /// An advertised listener that there is none of.
    AdvertisedUnknown(String),
    /// Several listeners, and something advertised without a name.
    AdvertisedAmbiguous(String),
    /// An address that stands for every interface, which no client can connect to.
    AdvertisedEverywhere(String),
    /// A CPU that the process may not use.
    NoSuchCore {
        /// The CPU.
        cpu: usize,
        /// Those that it may.
        allowed: Vec<usize>,
    },
    /// A cluster id that is no id.
    BadClusterId(String),
    /// A memory cap that leaves a core too little to work with.
    TooLittleMemory {
        /// What was asked for, in bytes.
        asked: u64,
        /// How many cores there are.
        cores: usize,
        /// What they need, in bytes.
        needed: u64,
    },
    /// A memory cap above what there is.
    TooMuchMemory {
        /// What was asked for, in bytes.
        asked: u64,
        /// What there is, in bytes.
        machine: u64,
    },
    /// A setting that another one rules out.
    NotInOrder {
        /// The setting.
        name: String,
        /// How it has to be.
        relation: &'static str,
        /// The other one.
        other: String,
    },
    /// Limits for addresses that are none; the sentence says why.
    BadOverrides(String),
    /// No connections from any address.
    NobodyMayConnect,
    /// Too little memory for the keys of logs that are compacted.
    TooFewKeys,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionsError::NotOneDirectory(count) => {
                write!(
                    f,
                    "log.dirs (--data-dir) names {count} directories; Weir uses exactly one, stripe below it if need be"
                )
            }
            OptionsError::BadListener(text) => {
                write!(f, "listeners (--listen): {text:?} is not ADDR:PORT or NAME://ADDR:PORT")
            }
            OptionsError::SameName(name) => {
                write!(
                    f,
                    "listeners (--listen): two listeners have the name {name}; give each its own, such as \
                     INTERNAL://ADDR:PORT, and map it in listener.security.protocol.map"
                )
            }
            OptionsError::NoListener => {
                f.write_str("listeners (--listen) names none for clients: all are in controller.listener.names")
            }
            OptionsError::NoProtocol(name) => {
                write!(f, "the listener {name} has no protocol: add {name}:PLAINTEXT to listener.security.protocol.map")
            }
            OptionsError::ProtocolNotServed { name, protocol } => {
                write!(
                    f,
                    "the listener {name} asks for {protocol}; Weir serves PLAINTEXT only and will not serve it in its \
                     place"
                )
            }
            OptionsError::BadProtocolEntry(text) => {
                write!(f, "listener.security.protocol.map: {text:?} is not NAME:PROTOCOL")
            }
            OptionsError::BadAdvertised(text) => {
                write!(f, "advertised.listeners (--advertise): {text:?} is not HOST:PORT or NAME://HOST:PORT")
            }
            OptionsError::AdvertisedUnknown(name) => {
                write!(f, "advertised.listeners (--advertise): there is no listener {name}")
            }
            OptionsError::AdvertisedAmbiguous(text) => {
                write!(
                    f,
                    "advertised.listeners (--advertise): {text:?} must name one of the listeners, as NAME://HOST:PORT"
                )
            }
            OptionsError::AdvertisedEverywhere(host) => {
                write!(
                    f,
                    "clients cannot connect to {host}, which stands for every interface; say with --advertise \
                     HOST:PORT how they reach this machine"
                )
            }
            OptionsError::NoSuchCore { cpu, allowed } => {
                write!(f, "cores (--cores): the process may not use CPU {cpu}; it may use {}", Ranges(allowed))
            }
            OptionsError::BadClusterId(text) => {
                write!(f, "cluster.id (--cluster-id): {text:?} is not 22 characters of base64url")
            }
            OptionsError::TooLittleMemory { asked, cores, needed } => write!(
                f,
                "memory (--memory): {asked} bytes are too few for {cores} cores, which need {needed}; use fewer --cores \
                 or more memory"
            ),
            OptionsError::TooMuchMemory { asked, machine } => {
                write!(f, "memory (--memory): {asked} bytes are more than the {machine} that there are")
            }
            OptionsError::NotInOrder { name, relation, other } => write!(f, "{name} must be {relation} {other}"),
            OptionsError::BadOverrides(sentence) => f.write_str(sentence),
            OptionsError::NobodyMayConnect => f.write_str(
                "requirement failed: max.connections.per.ip can be set to zero only if \
                 max.connections.per.ip.overrides property is set.",
            ),
            OptionsError::TooFewKeys => f.write_str(
                "requirement failed: log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
            ),
        }
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    /// Makes types of what was given, with the table's defaults for the rest.
    pub fn new(loaded: Loaded, machine: &Machine) -> Result<Options, OptionsError> {
        let values = Values(&loaded.given);
        let directories = values.list("log.dirs");
        let [data_dir] = directories.as_slice() else {
            return Err(OptionsError::NotOneDirectory(directories.len()));
        };
        let cluster_id = match values.text("cluster.id") {
            Some(text) => match Uuid::from_str(&text) {
                Ok(id) if !id.is_zero() => Some(id),
                _ => return Err(OptionsError::BadClusterId(text)),
            },
            None => None,
        };
        let cores = cores(&values, machine)?;
        let needed = CORE_BYTES * cores.len() as u64 + PROCESS_BYTES;
        let memory_bytes = match values.number("memory") {
            Some(asked) if asked > machine.memory_bytes => {
                return Err(OptionsError::TooMuchMemory { asked, machine: machine.memory_bytes });
            }
            Some(asked) if asked < needed => {
                return Err(OptionsError::TooLittleMemory { asked, cores: cores.len(), needed });
            }
            Some(asked) => asked,
            None => default_memory(machine, cores.len()).max(needed),
        };
        let set = |name| values.number(name).expect("the table has a default");
        // Bounded by 31 bits in the table.
        let set_u32 = |name| u32::try_from(set(name)).unwrap_or(u32::MAX);
        LiveSettings::parse(&values)?;
        Ok(Options {
            listeners: listeners(&values, machine)?,
            data_dir: PathBuf::from(data_dir),
            cores,
            durability: match values.text("durability").as_deref() {
                Some("os") => Durability::Os,
                _ => Durability::Disk,
            },
            memory_bytes,
            log_level: values.text("log.level").expect("the table has a default"),
            ready_file: values.text("ready.file").map(PathBuf::from),
            node_id: i32::try_from(set("node.id")).unwrap_or(i32::MAX),
            cluster_id,
            rack: values.text("broker.rack").filter(|rack| !rack.is_empty()),
            limits: ClientLimits {
                request_bytes: set_u32("socket.request.max.bytes"),
                idle_ms: values.number("connections.max.idle.ms"),
                fetch_bytes: set_u32("fetch.max.bytes"),
                fetch_sessions: set_u32("max.incremental.fetch.session.cache.slots"),
                described_partitions: set_u32("max.request.partition.size.limit"),
            },
            topics: TopicOptions {
                auto_create: values.flag("auto.create.topics.enable"),
                may_delete: values.flag("delete.topic.enable"),
                num_partitions: i32::try_from(set("num.partitions")).unwrap_or(i32::MAX),
                replication_factor: i16::try_from(set("default.replication.factor")).unwrap_or(i16::MAX),
            },
            coordinators: CoordinatorOptions::new(&values),
            retention_check_interval_ms: set("log.retention.check.interval.ms"),
            compacts: values.flag("log.cleaner.enable"),
            fixed: loaded.given.clone(),
            notes: loaded.notes,
        })
    }
}

/// What a core uses without being told. More would hold more of the log for readers who lag behind, but memory that is
/// touched for the first time costs the kernel, and a hypervisor even more, than memory that is used again: a broker that
/// grows for minutes is a slow one for minutes.
const DEFAULT_CORE_MEMORY_BYTES: u64 = 1 << 30;

/// A quarter of the machine, unless that is more than its cores make good use of.
fn default_memory(machine: &Machine, cores: usize) -> u64 {
    (machine.memory_bytes / 4).min(DEFAULT_CORE_MEMORY_BYTES * cores as u64).max(DEFAULT_MEMORY_FLOOR_BYTES)
}

/// What a machine of any size can spare: the pool needs room for a few requests of the largest size.
const DEFAULT_MEMORY_FLOOR_BYTES: u64 = 256 << 20;

/// Given values, and the table's defaults behind them.
pub(super) struct Values<'a>(pub(super) &'a Configs);

impl Values<'_> {
    fn get(&self, name: &str) -> Option<Value> {
        let setting = settings::find(name).expect("the name is in the table");
        let text = self.0.get(name).map(String::as_str).or(setting.default)?;
        // Checked when it was given, or by a test of the table.
        setting.kind.parse(text).ok()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string())
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Value::List(list)) => list,
            _ => Vec::new(),
        }
    }

    /// A number that is not negative; a negative one stands for "none" where the table allows it.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Value::Number(number)) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    pub(super) fn double(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Value::Double(number)) => number,
            _ => 0.0,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(Value::Bool(true))
    }
}

const PLAINTEXT: &str = "PLAINTEXT";

fn listeners(values: &Values<'_>, machine: &Machine) -> Result<Vec<Listener>, OptionsError> {
    let mut protocols = Vec::new();
    let map = values.text("listener.security.protocol.map").unwrap_or_default();
    for entry in map.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let bad = || OptionsError::BadProtocolEntry(entry.to_owned());
        let (name, protocol) = entry.split_once(':').ok_or_else(bad)?;
        protocols.push((name.trim().to_ascii_uppercase(), protocol.trim().to_owned()));
    }
    let for_controllers: Vec<String> =
        values.list("controller.listener.names").iter().map(|name| name.to_ascii_uppercase()).collect();
    let mut listeners: Vec<Listener> = Vec::new();
    for text in values.list("listeners") {
        let (name, host, port) = split_listener(&text).ok_or_else(|| OptionsError::BadListener(text.clone()))?;
        let name = name.unwrap_or_else(|| PLAINTEXT.to_owned());
        if for_controllers.contains(&name) {
            continue;
        }
        match protocols.iter().find(|(mapped, _)| *mapped == name) {
            Some((_, protocol)) if protocol == PLAINTEXT => {}
            Some((_, protocol)) => {
                return Err(OptionsError::ProtocolNotServed { name, protocol: protocol.clone() });
            }
            None => return Err(OptionsError::NoProtocol(name)),
        }
        if listeners.iter().any(|listener| listener.name == name) {
            return Err(OptionsError::SameName(name));
        }
        let advertised_host = if host.is_empty() { machine.host_name.clone() } else { host.clone() };
        let advertised_port = (port != 0).then_some(port);
        listeners.push(Listener { name, host, port, advertised_host, advertised_port });
    }
    if listeners.is_empty() {
        return Err(OptionsError::NoListener);
    }
    for text in values.list("advertised.listeners") {
        let (name, host, port) = split_listener(&text)
            .filter(|(_, host, port)| !host.is_empty() && *port != 0)
            .ok_or_else(|| OptionsError::BadAdvertised(text.clone()))?;
        let listener = match name {
            Some(name) if for_controllers.contains(&name) => continue,
            Some(name) => match listeners.iter_mut().find(|listener| listener.name == name) {
                Some(listener) => listener,
                None => return Err(OptionsError::AdvertisedUnknown(name)),
            },
            None => match listeners.as_mut_slice() {
                [only] => only,
                _ => return Err(OptionsError::AdvertisedAmbiguous(text)),
            },
        };
        listener.advertised_host = host;
        listener.advertised_port = Some(port);
    }
    match listeners.iter().find(|it| matches!(it.advertised_host.as_str(), "0.0.0.0" | "::")) {
        Some(listener) => Err(OptionsError::AdvertisedEverywhere(listener.advertised_host.clone())),
        None => Ok(listeners),
    }
}

/// The name, if there is one, the host without brackets and the port.
fn split_listener(text: &str) -> Option<(Option<String>, String, u16)> {
    let (name, address) = match text.split_once("://") {
        Some((name, address)) => (Some(name.to_ascii_uppercase()), address),
        None => (None, text),
    };
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if name.as_deref().is_some_and(|name| !is_name(name)) {
        return None;
    }
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        // An IPv6 address without brackets cannot be told from its port.
        None if host.contains(':') => return None,
        None => host,
    };
    let is_host = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:%".contains(&b));
    (is_host && port.bytes().all(|b| b.is_ascii_digit())).then(|| Some((name, host.to_owned(), port.parse().ok()?)))?
}

fn cores(values: &Values<'_>, machine: &Machine) -> Result<Vec<usize>, OptionsError> {
    let text = values.text("cores").expect("the table has a default");
    debug_assert!(Kind::Cores.parse(&text).is_ok());
    let Some(Some(cpus)) = kind::parse_cores(&text) else { return Ok(machine.cpus.clone()) };
    match cpus.iter().find(|cpu| !machine.cpus.contains(cpu)) {
        Some(&cpu) => Err(OptionsError::NoSuchCore { cpu, allowed: machine.cpus.clone() }),
        None => Ok(cpus),
    }
}

/// Numbers in short: `0,2-3`.
struct Ranges<'a>(&'a [usize]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut separator = "";
        while let Some(&first) = rest.first() {
            let len = rest.iter().zip(first..).take_while(|(cpu, expected)| **cpu == *expected).count();
            match len {
                1 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{}", first + len - 1)?,
            }
            separator = ",";
            rest = &rest[len..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { cpus: vec![0, 1, 2, 5], memory_bytes: 8 << 30, host_name: "box.example".to_owned() }
    }

    fn options(pairs: &[(&str, &str)]) -> Result<Options, OptionsError> {
        let given = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options::new(Loaded { given, notes: Vec::new() }, &machine())
    }

    #[test]
    fn nothing_given() {
        let options = options(&[]).unwrap();
        let expected = Listener {
            name: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
            advertised_host: "127.0.0.1".to_owned(),
            advertised_port: Some(9092),
        };
        assert_eq!(options.listeners, [expected]);
        assert_eq!(options.data_dir, PathBuf::from("./weir-data"));
        assert_eq!(options.cores, [0, 1, 2, 5]);
        assert_eq!(options.durability, Durability::Disk);
        assert_eq!(options.memory_bytes, 2 << 30);
        assert_eq!((options.node_id, options.cluster_id, options.rack), (1, None, None));
        assert_eq!(options.limits.idle_ms, Some(600_000));
        assert_eq!((options.topics.num_partitions, options.topics.auto_create), (1, true));
    }

    #[test]
    fn listeners_have_names_and_advertised_sides() {
        let brief = |pairs: &[(&str, &str)]| -> Vec<String> {
            let show = |it: &Listener| {
                format!("{} {}:{} {}:{:?}", it.name, it.host, it.port, it.advertised_host, it.advertised_port)
            };
            options(pairs).unwrap().listeners.iter().map(show).collect()
        };
        assert_eq!(brief(&[("listeners", "[::1]:0")]), ["PLAINTEXT ::1:0 ::1:None"]);
        assert_eq!(brief(&[("listeners", "plaintext://:9092")]), ["PLAINTEXT :9092 box.example:Some(9092)"]);
        assert_eq!(
            brief(&[("listeners", "0.0.0.0:9092"), ("advertised.listeners", "kafka.example:19092")]),
            ["PLAINTEXT 0.0.0.0:9092 kafka.example:Some(19092)"]
        );
        assert_eq!(
            brief(&[
                ("listeners", "IN://10.0.0.1:9092,OUT://:9093,CONTROLLER://:9094"),
                ("listener.security.protocol.map", "IN:PLAINTEXT,OUT:PLAINTEXT,CONTROLLER:SSL"),
                ("controller.listener.names", "CONTROLLER"),
                ("advertised.listeners", "OUT://out.example:443,CONTROLLER://x:1"),
            ]),
            ["IN 10.0.0.1:9092 10.0.0.1:Some(9092)", "OUT :9093 out.example:Some(443)"]
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let text = str::to_owned;
        let cases: &[(&[(&str, &str)], OptionsError)] = &[
            (&[("log.dirs", "/a,/b")], OptionsError::NotOneDirectory(2)),
            (&[("listeners", "9092")], OptionsError::BadListener(text("9092"))),
            (&[("listeners", "::1:9092")], OptionsError::BadListener(text("::1:9092"))),
            (&[("listeners", "a:99999")], OptionsError::BadListener(text("a:99999"))),
            (&[("listeners", ":1,:2")], OptionsError::SameName(text("PLAINTEXT"))),
            (&[("listeners", "OTHER://:1")], OptionsError::NoProtocol(text("OTHER"))),
            (
                &[("listeners", "SSL://:1")],
                OptionsError::ProtocolNotServed { name: text("SSL"), protocol: text("SSL") },
            ),
            (&[("controller.listener.names", "PLAINTEXT")], OptionsError::NoListener),
            (&[("listener.security.protocol.map", "X")], OptionsError::BadProtocolEntry(text("X"))),
            (&[("listeners", "0.0.0.0:1")], OptionsError::AdvertisedEverywhere(text("0.0.0.0"))),
            (&[("advertised.listeners", "host")], OptionsError::BadAdvertised(text("host"))),
            (&[("advertised.listeners", "X://host:1")], OptionsError::AdvertisedUnknown(text("X"))),
            (&[("cores", "0,3")], OptionsError::NoSuchCore { cpu: 3, allowed: vec![0, 1, 2, 5] }),
            (&[("cluster.id", "AAAAAAAAAAAAAAAAAAAAAA")], OptionsError::BadClusterId(text("AAAAAAAAAAAAAAAAAAAAAA"))),
            (
                &[("memory", "134217728")],
                OptionsError::TooLittleMemory { asked: 128 << 20, cores: 4, needed: 160 << 20 },
            ),
            (
                &[("max.connections.per.ip.overrides", "host:1")],
                OptionsError::BadOverrides(text("max.connections.per.ip.overrides contains invalid addresses : host")),
            ),
            (&[("max.connections.per.ip", "0")], OptionsError::NobodyMayConnect),
            (&[("memory", "9663676416")], OptionsError::TooMuchMemory { asked: 9 << 30, machine: 8 << 30 }),
        ];
        for (pairs, error) in cases {
            assert_eq!(options(pairs).unwrap_err(), *error, "{pairs:?}");
            assert!(!error.to_string().is_empty());
        }
        let error = OptionsError::NoSuchCore { cpu: 3, allowed: vec![0, 1, 2, 5] };
        assert_eq!(error.to_string(), "cores (--cores): the process may not use CPU 3; it may use 0-2,5");
    }

    #[test]
    fn never_is_no_number() {
        assert_eq!(options(&[("connections.max.idle.ms", "-1")]).unwrap().limits.idle_ms, None);
        assert_eq!(options(&[("durability", "os")]).unwrap().durability, Durability::Os);
        assert_eq!(options(&[("cores", "1-2")]).unwrap().cores, [1, 2]);
    }
}
