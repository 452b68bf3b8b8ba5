//! What a run is to do: the command line's options with every default filled in and every contradiction refused.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use wire::compression::Codec;

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Whom it talks to.
    pub target: Target,
    /// How long it takes.
    pub timing: Timing,
    /// How the generator itself runs.
    pub generator: Generator,
    /// What it does.
    pub load: Load,
}

/// The broker and the topic.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// `HOST:PORT` of any broker of the cluster.
    pub bootstrap: String,
    /// The topic's name.
    pub topic: String,
    /// Partitions to create the topic with if it is missing; an existing topic keeps its own.
    pub partitions: i32,
    /// Replication factor to create it with; -1 is the broker's default.
    pub replication_factor: i16,
    /// Configuration to create it with: (name, value).
    pub topic_config: Vec<(String, String)>,
    /// The client id that every request carries.
    pub client_id: String,
    /// A connection without an answer for this long is given up.
    #[serde(rename = "answer_timeout_s", serialize_with = "seconds")]
    pub answer_timeout: Duration,
}

/// The length of the run.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Load without measuring, before the measurement.
    #[serde(rename = "warmup_s", serialize_with = "seconds")]
    pub warmup: Duration,
    /// Length of the measurement. Without it and without `records`, a fetch ends where the log ended at its start.
    #[serde(rename = "duration_s", serialize_with = "optional_seconds")]
    pub duration: Option<Duration>,
    /// The measurement ends after this many records, over all connections, rounded up to whole batches in a closed loop.
    pub records: Option<u64>,
}

/// The generator's threads.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// Threads; connections are dealt to them in turn.
    pub threads: u32,
    /// Processors to pin the threads to, in turn; empty leaves them to the scheduler.
    pub pin: Vec<usize>,
    /// Seed of payloads and random keys.
    pub seed: u64,
}

/// What a run does.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Load {
    /// Writes.
    Produce {
        /// How it writes.
        produce: ProduceLoad,
    },
    /// Reads.
    Fetch {
        /// How it reads.
        fetch: FetchLoad,
    },
    /// Writes by the schedule and reads the same records.
    E2e {
        /// How it writes; always an open loop, always audited.
        produce: ProduceLoad,
        /// How it reads.
        fetch: FetchLoad,
    },
    /// Joins groups, heartbeats and commits.
    Group {
        /// How many, and how often.
        group: GroupLoad,
    },
}

impl Load {
    /// The writing half, if there is one.
    pub fn produce(&self) -> Option<&ProduceLoad> {
        match self {
            Load::Produce { produce } | Load::E2e { produce, .. } => Some(produce),
            Load::Fetch { .. } | Load::Group { .. } => None,
        }
    }

    /// The reading half, if there is one.
    pub fn fetch(&self) -> Option<&FetchLoad> {
        match self {
            Load::Fetch { fetch } | Load::E2e { fetch, .. } => Some(fetch),
            Load::Produce { .. } | Load::Group { .. } => None,
        }
    }
}

/// Producers.
#[derive(Debug, Clone, Serialize)]
pub struct ProduceLoad {
    /// Connections; each is one producer.
    pub connections: u32,
    /// Unanswered requests that a connection may have. In an open loop this bounds memory, not the load.
    pub in_flight: u32,
    /// When requests are sent.
    pub pace: Pace,
    /// How large a batch may be.
    pub batch: BatchBound,
    /// Bytes of a record's value.
    pub record_bytes: u32,
    /// What an acknowledgement waits for.
    pub acks: Acks,
    /// Codec of the batches.
    #[serde(serialize_with = "codec_name")]
    pub compression: Codec,
    /// Keys of the records.
    pub keys: Keys,
    /// The share of a value's bytes that is random, 0 to 1; the others repeat, so that codecs have something to do.
    pub entropy: f64,
    /// Whether records carry stamps and everything is read back and judged.
    pub audit: bool,
    /// Batches of a transaction, where each connection has a transactional id.
    pub transaction_batches: Option<u32>,
    /// Of so many transactions of a connection the last is aborted; none without it.
    pub abort_every: Option<u32>,
    /// How long the broker may wait for other replicas, as the request says it.
    #[serde(rename = "request_timeout_s", serialize_with = "seconds")]
    pub request_timeout: Duration,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// As soon as an answer makes room.
    Closed,
    /// At times fixed in advance.
    Open {
        /// Records per second, over all connections.
        records_per_second: u64,
        /// Records that become due within a tick are sent at its beginning.
        #[serde(rename = "tick_s", serialize_with = "seconds")]
        tick: Duration,
    },
}

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchBound {
    /// This many records.
    Records(u32),
    /// As many records as fit into this many bytes before compression, header included; at least one.
    Bytes(u32),
}

/// What an acknowledgement waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acks {
    /// There is no answer at all.
    None,
    /// The leader.
    Leader,
    /// All in-sync replicas.
    All,
}

impl Acks {
    /// The number in the request.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Keys of the records: eight bytes. They do not choose the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keys {
    /// Null.
    None,
    /// One of this many, drawn anew for every record.
    Random(u64),
    /// Ascending for each connection, and different between connections.
    Sequential,
}

/// Consumers.
#[derive(Debug, Clone, Serialize)]
pub struct FetchLoad {
    /// Connections; each is one consumer.
    pub connections: u32,
    /// Unanswered requests that a connection may have, each for other partitions.
    pub in_flight: u32,
    /// Bytes that an answer and each of its partitions may hold; a larger batch comes alone.
    pub max_bytes: u32,
    /// How long the broker may wait for `min_bytes`.
    #[serde(rename = "max_wait_s", serialize_with = "seconds")]
    pub max_wait: Duration,
    /// Bytes for which the broker waits.
    pub min_bytes: u32,
    /// Where reading begins.
    pub from: StartAt,
    /// After this many bytes of a partition, reading begins again at its first offset.
    pub loop_range: Option<u64>,
    /// Whether the CRC of every batch is checked.
    pub check: bool,
}

/// Members of consumer groups.
#[derive(Debug, Clone, Serialize)]
pub struct GroupLoad {
    /// What members speak with their coordinator.
    pub protocol: GroupProtocol,
    /// Groups; all read the one topic.
    pub groups: u32,
    /// Members of each.
    pub members: u32,
    /// Of these, the last ones to join: one at a time, each when the group has settled.
    pub late_members: u32,
    /// What the groups' ids begin with.
    pub group_id: String,
    /// Between two heartbeats of a member of a classic group; the consumer protocol has the broker say it.
    #[serde(rename = "heartbeat_interval_s", serialize_with = "seconds")]
    pub heartbeat_interval: Duration,
    /// Between two commits of a member; zero is none at all.
    #[serde(rename = "commit_interval_s", serialize_with = "seconds")]
    pub commit_interval: Duration,
}

/// What members speak with their coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// JoinGroup, SyncGroup, Heartbeat; the leader assigns.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848); the coordinator assigns.
    Consumer,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// At the first offset of the log.
    Beginning,
    /// Behind the last one.
    Latest,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Closed => f.write_str("closed loop"),
            Pace::Open { records_per_second, tick } => {
                write!(f, "open loop of {records_per_second} records/s in ticks of {tick:?}")
            }
        }
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Acks::None => "acks=0",
            Acks::Leader => "acks=1",
            Acks::All => "acks=all",
        })
    }
}

impl fmt::Display for GroupProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupProtocol::Classic => "classic protocol",
            GroupProtocol::Consumer => "consumer protocol",
        })
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::None => f.write_str("no keys"),
            Keys::Random(of) => write!(f, "random keys of {of}"),
            Keys::Sequential => f.write_str("sequential keys"),
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

fn codec_name<S: Serializer>(codec: &Codec, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(codec.name())
}
