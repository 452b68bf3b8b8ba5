//! The table of topic configurations: every key that Kafka 4.3 knows for a topic, with the broker-level keys that give
//! its default (KIP-226), and how the value that is in force is found.
//!
//! The table is data without state. The image and the admin handlers use it, and the broker's own settings
//! ([`super::settings`]) take the broker-level keys from it, so that no default is written down twice.

use std::collections::BTreeMap;

use super::kind::{Kind, Value, parse_named};

/// A configuration of topics.
#[derive(Debug)]
pub struct TopicConfig {
    /// Kafka's key.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value where neither the topic nor the broker says another. `None` for the internal key, which may be unset.
    pub default: Option<&'static str>,
    /// The broker-level keys that set the default, the finest unit first.
    pub server: &'static [Synonym],
    /// What it does. One or two sentences.
    pub doc: &'static str,
    /// Whether Weir acts on it.
    pub effect: Effect,
}

/// A broker-level key that gives a topic configuration its default.
#[derive(Debug)]
pub struct Synonym {
    /// Kafka's key.
    pub key: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value where it is not set. `None`: the next synonym decides.
    pub default: Option<&'static str>,
    /// What one unit of it is in the unit of the topic configuration: 3,600,000 for hours.
    pub factor: i64,
    /// Whether it may be changed while the broker runs.
    pub dynamic: bool,
}

/// Whether a configuration changes what the broker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does what Kafka does with it.
    Applied,
    /// It is checked, stored and returned, and changes nothing. The text says why.
    Stored(&'static str),
    /// A key of Kafka's own tests: applied, and never listed.
    Internal,
}

/// Where a value comes from, with its number in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Source {
    /// The topic's own.
    Topic = 1,
    /// Set for this broker while it ran.
    DynamicBroker = 2,
    /// Set for all brokers while they ran.
    DynamicDefault = 3,
    /// From the command line, the environment or the file.
    Static = 4,
    /// From the table.
    Default = 5,
    /// Set for a logger, or for all of them.
    BrokerLogger = 6,
    /// The group's own.
    Group = 8,
}

/// Keys and values, checked and in the form in which they are shown.
pub type Configs = BTreeMap<String, String>;

/// The broker-level layers of configuration, the strongest first.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// Set for this broker while it ran.
    pub dynamic_broker: &'a Configs,
    /// Set for all brokers while they ran.
    pub dynamic_default: &'a Configs,
    /// From the command line, the environment or the file.
    pub fixed: &'a Configs,
}

/// One row of DescribeConfigs' list of synonyms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The key.
    pub name: &'static str,
    /// Its value, in its own unit.
    pub value: String,
    /// Where it is set.
    pub source: Source,
}

const NOT_NEGATIVE: Kind = Kind::Long { min: 0, max: i64::MAX };
const POSITIVE: Kind = Kind::Long { min: 1, max: i64::MAX };
const FROM_MINUS_ONE: Kind = Kind::Long { min: -1, max: i64::MAX };
const FROM_MINUS_TWO: Kind = Kind::Long { min: -2, max: i64::MAX };
const POSITIVE_INT: Kind = Kind::Int { min: 1, max: i32::MAX };
const NOT_NEGATIVE_INT: Kind = Kind::Int { min: 0, max: i32::MAX };
const SEGMENT_BYTES: Kind = Kind::Int { min: 1 << 20, max: i32::MAX };
const COMPRESSION: Kind = Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
const POLICY: Kind = Kind::ListOf(&["compact", "delete"]);
const TIMESTAMP_TYPE: Kind = Kind::OneOf(&["CreateTime", "LogAppendTime"]);
const RATIO: Kind = Kind::Double { min: 0.0, max: 1.0 };

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const MAX_LONG: &str = "9223372036854775807";

const REPLICATION: Effect = Effect::Stored("there are no other replicas");
const LEVEL: Effect = Effect::Stored("the broker compresses at the codec's own level");
const TIERED: Effect = Effect::Stored("there is no tiered storage");
const LAYOUT: Effect = Effect::Stored("the store lays out its files and indexes by itself");

/// A broker-level key that equals the topic's in kind and unit, and may change while the broker runs.
const fn same(key: &'static str, kind: Kind, default: &'static str) -> Synonym {
    Synonym { key, kind, default: Some(default), factor: 1, dynamic: true }
}

/// A broker-level key that is unset by default.
const fn unset(key: &'static str, kind: Kind, factor: i64, dynamic: bool) -> Synonym {
    Synonym { key, kind, default: None, factor, dynamic }
}

/// Every topic configuration of Kafka 4.3, in alphabetical order.
pub static TOPIC_CONFIGS: &[TopicConfig] = &[
    TopicConfig {
        name: "cleanup.policy",
        kind: POLICY,
        default: Some("delete"),
        server: &[same("log.cleanup.policy", POLICY, "delete")],
        doc: "What happens to old records: `delete` drops whole segments by age and size, `compact` keeps the last \
              record of each key. With `compact` alone nothing is dropped by age or size.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "compression.gzip.level",
        kind: Kind::GzipLevel,
        default: Some("-1"),
        server: &[same("compression.gzip.level", Kind::GzipLevel, "-1")],
        doc: "The level of gzip where the broker compresses: `compression.type=gzip`.",
        effect: LEVEL,
    },
    TopicConfig {
        name: "compression.lz4.level",
        kind: Kind::Int { min: 1, max: 17 },
        default: Some("9"),
        server: &[same("compression.lz4.level", Kind::Int { min: 1, max: 17 }, "9")],
        doc: "The level of lz4 where the broker compresses: `compression.type=lz4`.",
        effect: LEVEL,
    },
    TopicConfig {
        name: "compression.type",
        kind: COMPRESSION,
        default: Some("producer"),
        server: &[same("compression.type", COMPRESSION, "producer")],
        doc: "The codec in which batches are stored. `producer` keeps each batch as it arrived, which is what costs \
              nothing.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "compression.zstd.level",
        kind: Kind::Int { min: -131_072, max: 22 },
        default: Some("3"),
        server: &[same("compression.zstd.level", Kind::Int { min: -131_072, max: 22 }, "3")],
        doc: "The level of zstd where the broker compresses: `compression.type=zstd`.",
        effect: LEVEL,
    },
    TopicConfig {
        name: "delete.retention.ms",
        kind: NOT_NEGATIVE,
        default: Some("86400000"),
        server: &[same("log.cleaner.delete.retention.ms", NOT_NEGATIVE, "86400000")],
        doc: "How long a compacted topic keeps its tombstones, so that a reader from the beginning sees them.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "file.delete.delay.ms",
        kind: NOT_NEGATIVE,
        default: Some("60000"),
        server: &[same("log.segment.delete.delay.ms", NOT_NEGATIVE, "60000")],
        doc: "How long the file of a dropped segment may stay on disk: it is written again meanwhile, which costs less than a \
              new one. When the disk is full it goes at once.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "flush.messages",
        kind: POSITIVE,
        default: Some(MAX_LONG),
        server: &[same("log.flush.interval.messages", POSITIVE, MAX_LONG)],
        doc: "Records after which the log is flushed to disk. 1 makes every acknowledgement wait for the flush, \
              whatever `durability` says. Other values change nothing: with `durability=disk` every acknowledgement \
              waits for the flush anyway.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "flush.ms",
        kind: NOT_NEGATIVE,
        default: Some(MAX_LONG),
        server: &[
            unset("log.flush.interval.ms", NOT_NEGATIVE, 1, true),
            Synonym {
                key: "log.flush.scheduler.interval.ms",
                kind: NOT_NEGATIVE,
                default: Some(MAX_LONG),
                factor: 1,
                dynamic: false,
            },
        ],
        doc: "Milliseconds after which the log is flushed to disk.",
        effect: Effect::Stored("`durability` decides when acknowledged records are on disk"),
    },
    TopicConfig {
        name: "follower.replication.throttled.replicas",
        kind: Kind::ThrottledReplicas,
        default: Some(""),
        server: &[],
        doc: "Followers whose replication is throttled.",
        effect: REPLICATION,
    },
    TopicConfig {
        name: "index.interval.bytes",
        kind: NOT_NEGATIVE_INT,
        default: Some("4096"),
        server: &[same("log.index.interval.bytes", NOT_NEGATIVE_INT, "4096")],
        doc: "Bytes of the log between two entries of its offset index.",
        effect: LAYOUT,
    },
    TopicConfig {
        name: "internal.segment.bytes",
        kind: POSITIVE_INT,
        default: None,
        server: &[],
        doc: "The size of a segment in tests, below the least that `segment.bytes` allows.",
        effect: Effect::Internal,
    },
    TopicConfig {
        name: "leader.replication.throttled.replicas",
        kind: Kind::ThrottledReplicas,
        default: Some(""),
        server: &[],
        doc: "Leaders whose replication is throttled.",
        effect: REPLICATION,
    },
    TopicConfig {
        name: "local.retention.bytes",
        kind: FROM_MINUS_TWO,
        default: Some("-2"),
        server: &[same("log.local.retention.bytes", FROM_MINUS_TWO, "-2")],
        doc: "Bytes that a partition of a tiered topic keeps on the broker.",
        effect: TIERED,
    },
    TopicConfig {
        name: "local.retention.ms",
        kind: FROM_MINUS_TWO,
        default: Some("-2"),
        server: &[same("log.local.retention.ms", FROM_MINUS_TWO, "-2")],
        doc: "How long a tiered topic keeps records on the broker.",
        effect: TIERED,
    },
    TopicConfig {
        name: "max.compaction.lag.ms",
        kind: POSITIVE,
        default: Some(MAX_LONG),
        server: &[same("log.cleaner.max.compaction.lag.ms", POSITIVE, MAX_LONG)],
        doc: "The longest time for which a record of a compacted topic stays uncompacted.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "max.message.bytes",
        kind: NOT_NEGATIVE_INT,
        default: Some("1048588"),
        server: &[same("message.max.bytes", NOT_NEGATIVE_INT, "1048588")],
        doc: "The largest record batch that is accepted, in bytes, compressed as it is.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "message.timestamp.after.max.ms",
        kind: NOT_NEGATIVE,
        default: Some("3600000"),
        server: &[same("log.message.timestamp.after.max.ms", NOT_NEGATIVE, "3600000")],
        doc: "How far a record's timestamp may lie ahead of the broker's clock. Only with `CreateTime`.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "message.timestamp.before.max.ms",
        kind: NOT_NEGATIVE,
        default: Some(MAX_LONG),
        server: &[same("log.message.timestamp.before.max.ms", NOT_NEGATIVE, MAX_LONG)],
        doc: "How far a record's timestamp may lie behind the broker's clock. Only with `CreateTime`.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "message.timestamp.type",
        kind: TIMESTAMP_TYPE,
        default: Some("CreateTime"),
        server: &[same("log.message.timestamp.type", TIMESTAMP_TYPE, "CreateTime")],
        doc: "Whose timestamp records carry: the producer's, or the broker's at append.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "min.cleanable.dirty.ratio",
        kind: RATIO,
        default: Some("0.5"),
        server: &[same("log.cleaner.min.cleanable.ratio", RATIO, "0.5")],
        doc: "The part of a compacted log that must be uncompacted before it is compacted again.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "min.compaction.lag.ms",
        kind: NOT_NEGATIVE,
        default: Some("0"),
        server: &[same("log.cleaner.min.compaction.lag.ms", NOT_NEGATIVE, "0")],
        doc: "The shortest time for which a record of a compacted topic stays uncompacted.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "min.insync.replicas",
        kind: POSITIVE_INT,
        default: Some("1"),
        server: &[same("min.insync.replicas", POSITIVE_INT, "1")],
        doc: "Replicas that must have a record before it is acknowledged with acks=all, up to those that there are.",
        effect: REPLICATION,
    },
    TopicConfig {
        name: "preallocate",
        kind: Kind::Bool,
        default: Some("false"),
        server: &[same("log.preallocate", Kind::Bool, "false")],
        doc: "Whether the file of a new segment is allocated in full.",
        effect: LAYOUT,
    },
    TopicConfig {
        name: "remote.log.copy.disable",
        kind: Kind::Bool,
        default: Some("false"),
        server: &[],
        doc: "Whether a tiered topic stops copying segments to remote storage.",
        effect: TIERED,
    },
    TopicConfig {
        name: "remote.log.delete.on.disable",
        kind: Kind::Bool,
        default: Some("false"),
        server: &[],
        doc: "Whether a topic's remote segments are deleted when tiering is disabled for it.",
        effect: TIERED,
    },
    TopicConfig {
        name: "remote.storage.enable",
        kind: Kind::Bool,
        default: Some("false"),
        server: &[],
        doc: "Whether a topic is tiered. `true` is refused.",
        effect: TIERED,
    },
    TopicConfig {
        name: "retention.bytes",
        kind: Kind::Long { min: i64::MIN, max: i64::MAX },
        default: Some("-1"),
        server: &[same("log.retention.bytes", Kind::Long { min: i64::MIN, max: i64::MAX }, "-1")],
        doc: "Bytes that a partition keeps before its oldest segments are dropped. A negative number is no limit.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "retention.ms",
        kind: FROM_MINUS_ONE,
        default: Some("604800000"),
        server: &[
            unset("log.retention.ms", FROM_MINUS_ONE, 1, true),
            unset("log.retention.minutes", Kind::Int { min: -1, max: i32::MAX }, MINUTE_MS, false),
            Synonym {
                key: "log.retention.hours",
                kind: Kind::Int { min: -1, max: i32::MAX },
                default: Some("168"),
                factor: HOUR_MS,
                dynamic: false,
            },
        ],
        doc: "How long a segment is kept after its newest record's timestamp, in milliseconds. -1 is for ever.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "segment.bytes",
        kind: SEGMENT_BYTES,
        default: Some("1073741824"),
        server: &[same("log.segment.bytes", SEGMENT_BYTES, "1073741824")],
        doc: "The size at which a segment is closed and the next one begins, in bytes.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "segment.index.bytes",
        kind: Kind::Int { min: 4, max: i32::MAX },
        default: Some("10485760"),
        server: &[same("log.index.size.max.bytes", Kind::Int { min: 4, max: i32::MAX }, "10485760")],
        doc: "The largest offset index of a segment, in bytes.",
        effect: LAYOUT,
    },
    TopicConfig {
        name: "segment.jitter.ms",
        kind: NOT_NEGATIVE,
        default: Some("0"),
        server: &[
            unset("log.roll.jitter.ms", NOT_NEGATIVE, 1, true),
            Synonym {
                key: "log.roll.jitter.hours",
                kind: NOT_NEGATIVE_INT,
                default: Some("0"),
                factor: HOUR_MS,
                dynamic: false,
            },
        ],
        doc: "The most that is taken off `segment.ms` at random, so that segments do not all close at once.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "segment.ms",
        kind: POSITIVE,
        default: Some("604800000"),
        server: &[
            unset("log.roll.ms", POSITIVE, 1, true),
            Synonym {
                key: "log.roll.hours",
                kind: POSITIVE_INT,
                default: Some("168"),
                factor: HOUR_MS,
                dynamic: false,
            },
        ],
        doc: "The age at which a segment is closed and the next one begins, in milliseconds.",
        effect: Effect::Applied,
    },
    TopicConfig {
        name: "unclean.leader.election.enable",
        kind: Kind::Bool,
        default: Some("false"),
        server: &[same("unclean.leader.election.enable", Kind::Bool, "false")],
        doc: "Whether a replica that lags may become the leader.",
        effect: REPLICATION,
    },
];

/// The row of a key.
#[must_use]
pub fn find(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.binary_search_by(|row| row.name.cmp(name)).ok().map(|at| &TOPIC_CONFIGS[at])
}

/// The row and the synonym of a broker-level key.
#[must_use]
pub fn find_synonym(key: &str) -> Option<(&'static TopicConfig, &'static Synonym)> {
    TOPIC_CONFIGS.iter().find_map(|row| row.server.iter().find(|synonym| synonym.key == key).map(|it| (row, it)))
}

/// Checks the configurations of a topic as a whole: `own` with what the broker adds. The error is Kafka's sentence.
pub fn validate(own: &Configs, layers: Layers<'_>) -> Result<(), String> {
    for (name, value) in own {
        let row = find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        parse_named(name, &row.kind, value)?;
    }
    let settings = TopicSettings::resolve(own, layers);
    if settings.remote_storage {
        return Err("Tiered Storage functionality is disabled in the broker. \
                    Topic cannot be configured with remote log storage."
            .to_owned());
    }
    let (min, max) = (settings.min_compaction_lag_ms, settings.max_compaction_lag_ms);
    if min > max {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        ));
    }
    Ok(())
}

impl TopicConfig {
    /// The value in force for a topic with the configurations `own`, and where it comes from. `None` is unset.
    #[must_use]
    pub fn effective(&self, own: &Configs, layers: Layers<'_>) -> (Option<String>, Source) {
        if let Some(value) = own.get(self.name) {
            return (Some(self.kind.shown(value)), Source::Topic);
        }
        for (configs, source) in layers.strongest_first() {
            for synonym in self.server {
                if let Some(value) = configs.get(synonym.key) {
                    return (Some(synonym.in_topic_unit(value)), source);
                }
            }
        }
        (self.default.map(str::to_owned), Source::Default)
    }

    /// Where the value in force comes from and what it hides, the strongest first, as DescribeConfigs lists it. A key
    /// of a coarser unit is listed only behind one of the finest: that is how Kafka does it.
    #[must_use]
    pub fn origins(&self, own: &Configs, layers: Layers<'_>) -> Vec<Origin> {
        let mut origins = match self.server.first() {
            Some(first) => origins_of(first.key, self.server, layers),
            None => Vec::new(),
        };
        if let Some(value) = own.get(self.name) {
            origins.insert(0, Origin { name: self.name, value: self.kind.shown(value), source: Source::Topic });
        }
        origins
    }
}

impl Synonym {
    /// The value of this key in the unit of the topic configuration. Negative numbers mean "no limit" in any unit.
    #[must_use]
    pub fn in_topic_unit(&self, value: &str) -> String {
        match self.kind.parse(value) {
            Ok(Value::Number(number)) if number > 0 => number.saturating_mul(self.factor).to_string(),
            Ok(value) => value.to_string(),
            Err(_) => value.to_owned(),
        }
    }
}

impl<'a> Layers<'a> {
    /// The layers with their numbers in the protocol.
    #[must_use]
    pub fn strongest_first(self) -> [(&'a Configs, Source); 3] {
        [
            (self.dynamic_broker, Source::DynamicBroker),
            (self.dynamic_default, Source::DynamicDefault),
            (self.fixed, Source::Static),
        ]
    }
}

/// The origins of a broker-level key that is one of `synonyms`.
#[must_use]
pub fn origins_of(key: &str, synonyms: &'static [Synonym], layers: Layers<'_>) -> Vec<Origin> {
    let mut origins = Vec::new();
    for (configs, source) in layers.strongest_first() {
        for synonym in synonyms {
            if let Some(value) = configs.get(synonym.key) {
                origins.push(Origin { name: synonym.key, value: value.clone(), source });
            }
        }
    }
    for synonym in synonyms {
        if let Some(value) = synonym.default {
            origins.push(Origin { name: synonym.key, value: value.to_owned(), source: Source::Default });
        }
    }
    let own = origins.iter().position(|origin| origin.name == key).unwrap_or(origins.len());
    origins.split_off(own)
}

/// How old records are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Segments are dropped by age and size. A topic that only compacts keeps everything.
    pub delete: bool,
    /// The last record of each key is kept.
    pub compact: bool,
}

/// In which codec batches are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredCodec {
    /// As they arrived.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4.
    Lz4,
    /// zstd.
    Zstd,
}

/// The configuration in force for a topic, typed: what the store and the data path act on.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    /// How old records are dropped.
    pub cleanup: Cleanup,
    /// In which codec batches are stored.
    pub codec: StoredCodec,
    /// Records after which the log is flushed; 1 makes every acknowledgement wait for the disk.
    pub flush_messages: i64,
    /// The largest batch accepted, in bytes.
    pub max_message_bytes: i32,
    /// How far timestamps may lie ahead of the clock, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// How far timestamps may lie behind the clock, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// Whether the broker stamps records at append.
    pub log_append_time: bool,
    /// Bytes that a partition keeps; negative is no limit.
    pub retention_bytes: i64,
    /// How long segments are kept, in milliseconds; -1 is for ever.
    pub retention_ms: i64,
    /// The size at which a segment is closed, in bytes.
    pub segment_bytes: i32,
    /// The age at which a segment is closed, in milliseconds.
    pub segment_ms: i64,
    /// The most that is taken off `segment_ms` at random, in milliseconds.
    pub segment_jitter_ms: i64,
    /// The part of a compacted log that must be dirty before it is compacted again, 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// Records younger than this are not compacted, in milliseconds.
    pub min_compaction_lag_ms: i64,
    /// Records older than this are compacted whatever part of the log they are, in milliseconds.
    pub max_compaction_lag_ms: i64,
    /// How long a compacted topic keeps tombstones and the ends of transactions, in milliseconds.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// Whether tiered storage is asked for, which is refused.
    pub remote_storage: bool,
}

impl TopicSettings {
    /// The settings in force for a topic with the configurations `own`, whose values have been checked.
    #[must_use]
    pub fn resolve(own: &Configs, layers: Layers<'_>) -> TopicSettings {
        let value = |name: &str| {
            let row = find(name).expect("the key is in the table");
            row.effective(own, layers).0
        };
        let long = |name: &str| value(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(i64::MAX);
        // Bounded by the table's kinds, so nothing is cut off.
        let int = |name: &str| i32::try_from(long(name)).unwrap_or(i32::MAX);
        let is = |name: &str, word: &str| value(name).is_some_and(|text| text.split(',').any(|it| it == word));
        let codec = match value("compression.type").as_deref() {
            Some("uncompressed") => StoredCodec::Uncompressed,
            Some("gzip") => StoredCodec::Gzip,
            Some("snappy") => StoredCodec::Snappy,
            Some("lz4") => StoredCodec::Lz4,
            Some("zstd") => StoredCodec::Zstd,
            _ => StoredCodec::Producer,
        };
        let internal_segment_bytes = own.get("internal.segment.bytes").and_then(|text| text.trim().parse::<i32>().ok());
        TopicSettings {
            cleanup: Cleanup { delete: is("cleanup.policy", "delete"), compact: is("cleanup.policy", "compact") },
            codec,
            flush_messages: long("flush.messages"),
            max_message_bytes: int("max.message.bytes"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            log_append_time: is("message.timestamp.type", "LogAppendTime"),
            retention_bytes: long("retention.bytes"),
            retention_ms: long("retention.ms"),
            segment_bytes: internal_segment_bytes.unwrap_or_else(|| int("segment.bytes")),
            segment_ms: long("segment.ms"),
            segment_jitter_ms: long("segment.jitter.ms"),
            min_cleanable_dirty_ratio: value("min.cleanable.dirty.ratio").and_then(|it| it.parse().ok()).unwrap_or(0.5),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            delete_retention_ms: long("delete.retention.ms"),
            file_delete_delay_ms: long("file.delete.delay.ms"),
            remote_storage: is("remote.storage.enable", "true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn none() -> Configs {
        Configs::new()
    }

    #[test]
    fn rows_are_sorted_and_their_defaults_are_legal() {
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
        for row in TOPIC_CONFIGS {
            let Some(default) = row.default else { continue };
            assert_eq!(row.kind.parse(default).map(|it| it.to_string()).as_deref(), Ok(default), "{}", row.name);
            if let Some(last) = row.server.last() {
                let default = last.default.expect("the coarsest unit has the default");
                assert_eq!(last.kind.parse(default).map(|it| it.to_string()).as_deref(), Ok(default), "{}", last.key);
                assert_eq!(last.in_topic_unit(default), row.default.unwrap(), "{}", last.key);
            }
        }
    }

    #[test]
    fn the_strongest_layer_decides() {
        let row = find("retention.ms").unwrap();
        let (broker, default) = (configs(&[("log.retention.ms", "3")]), configs(&[("log.retention.ms", "2")]));
        let fixed = configs(&[("log.retention.minutes", "1"), ("log.retention.hours", "9")]);
        let own = configs(&[("retention.ms", " 4 ")]);
        let empty = none();
        let mut layers = Layers { dynamic_broker: &broker, dynamic_default: &default, fixed: &fixed };
        let value = |text: &str| Some(text.to_owned());
        assert_eq!(row.effective(&own, layers), (value("4"), Source::Topic));
        assert_eq!(row.effective(&empty, layers), (value("3"), Source::DynamicBroker));
        layers.dynamic_broker = &empty;
        assert_eq!(row.effective(&empty, layers), (value("2"), Source::DynamicDefault));
        layers.dynamic_default = &empty;
        assert_eq!(row.effective(&empty, layers), (value("60000"), Source::Static));
        layers.fixed = &empty;
        assert_eq!(row.effective(&empty, layers), (value("604800000"), Source::Default));
    }

    #[test]
    fn origins_are_listed_as_kafka_lists_them() {
        let row = find("retention.ms").unwrap();
        let (broker, default, empty) =
            (configs(&[("log.retention.ms", "888888")]), configs(&[("log.retention.ms", "777777")]), none());
        let layers = Layers { dynamic_broker: &broker, dynamic_default: &default, fixed: &empty };
        let origin = |name, value: &str, source| Origin { name, value: value.to_owned(), source };
        assert_eq!(
            row.origins(&configs(&[("retention.ms", "1")]), layers),
            [
                origin("retention.ms", "1", Source::Topic),
                origin("log.retention.ms", "888888", Source::DynamicBroker),
                origin("log.retention.ms", "777777", Source::DynamicDefault),
                origin("log.retention.hours", "168", Source::Default),
            ]
        );
        let layers = Layers { dynamic_broker: &empty, dynamic_default: &empty, fixed: &empty };
        assert_eq!(row.origins(&empty, layers), []);
        assert_eq!(
            find("cleanup.policy").unwrap().origins(&empty, layers),
            [origin("log.cleanup.policy", "delete", Source::Default)]
        );
        assert_eq!(find("remote.storage.enable").unwrap().origins(&empty, layers), []);
    }

    #[test]
    fn a_negative_limit_keeps_its_meaning_in_every_unit() {
        let fixed = configs(&[("log.retention.hours", "-1")]);
        let empty = none();
        let layers = Layers { dynamic_broker: &empty, dynamic_default: &empty, fixed: &fixed };
        assert_eq!(TopicSettings::resolve(&empty, layers).retention_ms, -1);
    }

    #[test]
    fn topics_are_checked_as_a_whole() {
        let empty = none();
        let layers = Layers { dynamic_broker: &empty, dynamic_default: &empty, fixed: &empty };
        let cases = [
            ("bogus", "1", "Unknown topic config name: bogus"),
            ("retention.ms", "abc", "Invalid value abc for configuration retention.ms: Not a number of type LONG"),
            ("retention.ms", "-5", "Invalid value -5 for configuration retention.ms: Value must be at least -1"),
            ("cleanup.policy", "delete,", "Configuration 'cleanup.policy' values must not be empty."),
            (
                "remote.storage.enable",
                "true",
                "Tiered Storage functionality is disabled in the broker. \
                 Topic cannot be configured with remote log storage.",
            ),
            ("min.compaction.lag.ms", "9223372036854775807", ""),
        ];
        for (name, value, sentence) in cases {
            let expected = if sentence.is_empty() { Ok(()) } else { Err(sentence.to_owned()) };
            assert_eq!(validate(&configs(&[(name, value)]), layers), expected, "{name}={value}");
        }
        let lag = configs(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]);
        assert_eq!(
            validate(&lag, layers).unwrap_err(),
            "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
        );
    }

    #[test]
    fn settings_are_typed() {
        let empty = none();
        let layers = Layers { dynamic_broker: &empty, dynamic_default: &empty, fixed: &empty };
        let settings = TopicSettings::resolve(&empty, layers);
        assert_eq!(settings.cleanup, Cleanup { delete: true, compact: false });
        assert_eq!(settings.codec, StoredCodec::Producer);
        assert_eq!((settings.segment_bytes, settings.segment_ms), (1 << 30, 604_800_000));
        assert_eq!((settings.flush_messages, settings.log_append_time), (i64::MAX, false));

        let own = configs(&[
            ("cleanup.policy", "compact"),
            ("compression.type", "zstd"),
            ("internal.segment.bytes", "4096"),
            ("message.timestamp.type", "LogAppendTime"),
        ]);
        let settings = TopicSettings::resolve(&own, layers);
        assert_eq!(settings.cleanup, Cleanup { delete: false, compact: true });
        assert_eq!(settings.codec, StoredCodec::Zstd);
        assert_eq!((settings.segment_bytes, settings.log_append_time), (4096, true));
    }
}
