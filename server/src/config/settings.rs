//! The one table of settings. The command line, the environment, the file, the checks, `docs/configuration.md` and
//! DescribeConfigs are all made from it.
//!
//! A setting that Kafka has carries Kafka's key and means what Kafka means. The broker-level defaults of topic
//! configurations come from [`super::topic`].

use std::sync::LazyLock;

use super::consumer_groups::{ASSIGNORS, MIGRATION_POLICIES};
use super::kind::Kind;
use super::topic::{Effect, TOPIC_CONFIGS};

/// A setting of the broker.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key in the file, and the name in responses.
    pub name: &'static str,
    /// Other keys that the file may use for it.
    pub aliases: &'static [&'static str],
    /// What values it takes.
    pub kind: Kind,
    /// The value where it is not set; `None` is explained by `doc`.
    pub default: Option<&'static str>,
    /// The flag on the command line, without its dashes. The variable of the environment is made from it.
    pub flag: String,
    /// What the value is called in the help.
    pub value_name: &'static str,
    /// What it does, one or two sentences.
    pub doc: String,
    /// Whether it is one of Kafka's keys.
    pub is_kafkas: bool,
    /// Whether it may be changed while the broker runs.
    pub dynamic: bool,
    /// Where it stands in the documentation and in the help.
    pub group: Group,
}

/// The headings of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What most people set.
    Broker,
    /// Bounds on clients.
    Limits,
    /// Topics and their creation.
    Topics,
    /// Consumer groups and transactions.
    Coordinators,
    /// Defaults of topic configurations.
    TopicDefaults,
}

impl Group {
    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Group::Broker => "Broker",
            Group::Limits => "Limits",
            Group::Topics => "Topics",
            Group::Coordinators => "Groups and transactions",
            Group::TopicDefaults => "Defaults of topics",
        }
    }
}

impl Setting {
    /// The variable of the environment: `WEIR_DATA_DIR` for `--data-dir`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.flag.replace('-', "_").to_ascii_uppercase())
    }
}

/// What the variables of the environment begin with.
pub const ENVIRONMENT_PREFIX: &str = "WEIR_";

/// The flag that names the file. It is no setting, since a file cannot name itself.
pub const CONFIG_FLAG: &str = "config";

/// All settings, grouped, in the order of the documentation.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let own = OWN.iter().map(|row| Setting {
        name: row.name,
        aliases: row.aliases,
        kind: row.kind,
        default: row.default,
        flag: row.flag.map_or_else(|| row.name.replace('.', "-"), str::to_owned),
        value_name: row.value_name,
        doc: row.doc.to_owned(),
        is_kafkas: row.is_kafkas,
        dynamic: row.dynamic,
        group: row.group,
    });
    let of_topics = TOPIC_CONFIGS.iter().flat_map(|row| {
        row.server.iter().map(|synonym| Setting {
            name: synonym.key,
            aliases: &[],
            kind: synonym.kind,
            default: synonym.default,
            flag: synonym.key.replace('.', "-"),
            value_name: "VALUE",
            doc: match (row.server.first(), row.effect) {
                (Some(first), _) if first.key != synonym.key => {
                    format!("The same in another unit: used where `{}` is not set.", first.key)
                }
                (_, Effect::Stored(why)) => format!("{} Changes nothing here: {why}.", row.doc),
                _ => row.doc.to_owned(),
            },
            is_kafkas: true,
            dynamic: synonym.dynamic,
            group: Group::TopicDefaults,
        })
    });
    own.chain(of_topics).collect()
});

/// The setting of a key or alias.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == key || setting.aliases.contains(&key))
}

/// A row of the table below.
struct Row {
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    default: Option<&'static str>,
    flag: Option<&'static str>,
    value_name: &'static str,
    doc: &'static str,
    is_kafkas: bool,
    dynamic: bool,
    group: Group,
}

const fn kafkas(name: &'static str, kind: Kind, default: &'static str, group: Group, doc: &'static str) -> Row {
    Row {
        name,
        aliases: &[],
        kind,
        default: Some(default),
        flag: None,
        value_name: "VALUE",
        doc,
        is_kafkas: true,
        dynamic: false,
        group,
    }
}

/// A setting that may be changed while the broker runs: [`super::live`] has its value from then on.
const fn live(row: Row) -> Row {
    Row { dynamic: true, ..row }
}

const fn ours(name: &'static str, kind: Kind, value_name: &'static str, doc: &'static str) -> Row {
    Row {
        name,
        aliases: &[],
        kind,
        default: None,
        flag: None,
        value_name,
        doc,
        is_kafkas: false,
        dynamic: false,
        group: Group::Broker,
    }
}

const POSITIVE: Kind = Kind::Int { min: 1, max: i32::MAX };
const NOT_NEGATIVE: Kind = Kind::Int { min: 0, max: i32::MAX };

/// Settings other than the defaults of topic configurations.
static OWN: &[Row] = &[
    Row {
        flag: Some("listen"),
        value_name: "ADDR:PORT",
        ..kafkas(
            "listeners",
            Kind::List,
            "PLAINTEXT://127.0.0.1:9092",
            Group::Broker,
            "Where clients connect: `ADDR:PORT` or `NAME://ADDR:PORT`, several with commas. Port 0 takes a free one. \
             An \
             empty address is every interface. Listeners that `controller.listener.names` names are left out.",
        )
    },
    Row {
        flag: Some("advertise"),
        value_name: "HOST:PORT",
        default: None,
        ..kafkas(
            "advertised.listeners",
            Kind::List,
            "",
            Group::Broker,
            "What clients are told to connect to. By default the same as `listeners`, with this host's name in place \
             of \
             an empty address.",
        )
    },
    Row {
        aliases: &["log.dir"],
        flag: Some("data-dir"),
        value_name: "PATH",
        ..kafkas(
            "log.dirs",
            Kind::List,
            "./weir-data",
            Group::Broker,
            "The directory that holds everything. Exactly one. It is made if it does not exist.",
        )
    },
    Row {
        default: Some("all"),
        ..ours(
            "cores",
            Kind::Cores,
            "CPUS",
            "The CPUs that the broker runs on: one thread on each. `all` are those that the process may use.",
        )
    },
    Row {
        default: Some("disk"),
        ..ours(
            "durability",
            Kind::OneOf(&["disk", "os"]),
            "CLASS",
            "What an acknowledgement promises. `disk`: the record is on disk and survives a power cut. `os`: the \
             operating system has it, it survives the end of the process and not a power cut; this is what Kafka \
             promises by default.",
        )
    },
    ours(
        "memory",
        Kind::Size { min: 128 << 20 },
        "SIZE",
        "The most memory that the broker uses, such as `2GiB`. By default 1 GiB per core, but no more than a quarter of \
         what the machine or the control group has, and at least 256 MiB.",
    ),
    Row {
        default: Some("info"),
        ..ours(
            "log.level",
            Kind::OneOf(&["error", "warn", "info", "debug", "trace"]),
            "LEVEL",
            "How much the broker says on standard error.",
        )
    },
    ours(
        "ready.file",
        Kind::Text,
        "PATH",
        "A file that is written once clients can connect, with one listener per line as `NAME://ADDR:PORT`, and \
         removed \
         at the end.",
    ),
    Row {
        aliases: &["broker.id"],
        ..kafkas(
            "node.id",
            NOT_NEGATIVE,
            "1",
            Group::Broker,
            "The number of this broker. It is kept in the data directory and cannot change afterwards.",
        )
    },
    ours(
        "cluster.id",
        Kind::Text,
        "ID",
        "The id of the cluster, 22 characters of base64url, for a data directory that is new. By default a random one.",
    ),
    Row {
        default: None,
        ..kafkas(
            "broker.rack",
            Kind::Text,
            "",
            Group::Broker,
            "The rack that clients are told, for fetching from the nearest replica.",
        )
    },
    kafkas(
        "listener.security.protocol.map",
        Kind::Text,
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        Group::Broker,
        "The protocol of each listener's name. Only listeners of `PLAINTEXT` can be served.",
    ),
    Row {
        default: None,
        ..kafkas(
            "controller.listener.names",
            Kind::List,
            "",
            Group::Broker,
            "Names of listeners that are for controllers. They are not served: there is no quorum.",
        )
    },
    kafkas(
        "socket.request.max.bytes",
        POSITIVE,
        "104857600",
        Group::Limits,
        "The largest request, in bytes. A larger one closes its connection.",
    ),
    live(kafkas(
        "max.connections",
        NOT_NEGATIVE,
        "2147483647",
        Group::Limits,
        "The most connections at a time. Others are closed as they come, and so are the quietest ones when a lower number is \
         set.",
    )),
    live(kafkas(
        "max.connections.per.ip",
        NOT_NEGATIVE,
        "2147483647",
        Group::Limits,
        "The most connections from one address at a time.",
    )),
    live(kafkas(
        "max.connections.per.ip.overrides",
        Kind::Text,
        "",
        Group::Limits,
        "Other limits than `max.connections.per.ip` for some addresses, as `ADDRESS:NUMBER,…`. Names of hosts are not \
         taken.",
    )),
    live(kafkas(
        "max.connection.creation.rate",
        NOT_NEGATIVE,
        "2147483647",
        Group::Limits,
        "The most new connections in a second.",
    )),
    kafkas(
        "connections.max.idle.ms",
        Kind::Long { min: -1, max: i64::MAX },
        "600000",
        Group::Limits,
        "After how many milliseconds without a request a connection is closed. A negative number is never.",
    ),
    kafkas(
        "fetch.max.bytes",
        Kind::Int { min: 1024, max: i32::MAX },
        "57671680",
        Group::Limits,
        "The most bytes of records in one fetch response, beyond its first batch.",
    ),
    kafkas(
        "max.incremental.fetch.session.cache.slots",
        NOT_NEGATIVE,
        "1000",
        Group::Limits,
        "The most fetch sessions at a time (KIP-227).",
    ),
    kafkas(
        "max.request.partition.size.limit",
        POSITIVE,
        "2000",
        Group::Limits,
        "The most partitions in one response of DescribeTopicPartitions (KIP-966).",
    ),
    live(kafkas(
        "producer.id.expiration.ms",
        POSITIVE,
        "86400000",
        Group::Limits,
        "After how many milliseconds without a write an idempotent producer is forgotten.",
    )),
    kafkas(
        "auto.create.topics.enable",
        Kind::Bool,
        "true",
        Group::Topics,
        "Whether a topic is created when a client first asks for it.",
    ),
    kafkas("delete.topic.enable", Kind::Bool, "true", Group::Topics, "Whether topics may be deleted."),
    kafkas("num.partitions", POSITIVE, "1", Group::Topics, "The partitions of a topic whose creator names no number."),
    kafkas(
        "default.replication.factor",
        Kind::Int { min: 1, max: i16::MAX as i32 },
        "1",
        Group::Topics,
        "The replicas of a topic whose creator names no number. There is one broker, so more than 1 refuses such \
         topics.",
    ),
    kafkas(
        "log.retention.check.interval.ms",
        Kind::Long { min: 1, max: i64::MAX },
        "300000",
        Group::Topics,
        "How often old segments are looked for, in milliseconds. A partition is also looked at whenever one of its segments is \
         full.",
    ),
    kafkas(
        "log.cleaner.enable",
        Kind::Bool,
        "true",
        Group::Topics,
        "Whether topics with `cleanup.policy=compact` are compacted.",
    ),
    live(kafkas(
        "log.cleaner.backoff.ms",
        Kind::Long { min: 0, max: i64::MAX },
        "15000",
        Group::Topics,
        "How often logs are looked at while there is nothing to compact, in milliseconds.",
    )),
    live(kafkas(
        "log.cleaner.dedupe.buffer.size",
        Kind::Long { min: i64::MIN, max: i64::MAX },
        "134217728",
        Group::Topics,
        "The memory for the keys of logs that are compacted, in bytes, of all cores together. With \
         `log.cleaner.io.buffer.size` a sixteenth of `memory` at most.",
    )),
    live(kafkas(
        "log.cleaner.io.buffer.load.factor",
        Kind::Double { min: f64::MIN, max: f64::MAX },
        "0.9",
        Group::Topics,
        "The part of the memory for keys that is used, up to 0.95. A pass that has more keys covers a part of the log.",
    )),
    live(kafkas(
        "log.cleaner.io.buffer.size",
        NOT_NEGATIVE,
        "524288",
        Group::Topics,
        "The memory for reading and writing logs that are compacted, in bytes, of all cores together, but not less \
         than 128 KiB for each, and not more than a 64th of `memory`. It grows for batches that need more.",
    )),
    live(kafkas(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Double { min: f64::MIN, max: f64::MAX },
        "1.7976931348623157E308",
        Group::Topics,
        "The most bytes that compaction reads and writes in a second, of all cores together.",
    )),
    kafkas(
        "offsets.topic.num.partitions",
        POSITIVE,
        "50",
        Group::Coordinators,
        "The partitions of `__consumer_offsets` when it is created.",
    ),
    kafkas(
        "offsets.topic.replication.factor",
        Kind::Short { min: 1, max: i16::MAX },
        "3",
        Group::Coordinators,
        "The replicas of `__consumer_offsets` when it is created, no more than there are brokers.",
    ),
    kafkas(
        "offsets.topic.segment.bytes",
        POSITIVE,
        "104857600",
        Group::Coordinators,
        "The size at which a segment of `__consumer_offsets` is closed, in bytes.",
    ),
    kafkas(
        "offsets.retention.minutes",
        POSITIVE,
        "10080",
        Group::Coordinators,
        "For how many minutes the offsets of a group are kept after its last member has left, and those of a client \
         without a group after its last commit.",
    ),
    kafkas(
        "offsets.retention.check.interval.ms",
        Kind::Long { min: 1, max: i64::MAX },
        "600000",
        Group::Coordinators,
        "How often expired offsets are looked for, in milliseconds.",
    ),
    kafkas(
        "offset.metadata.max.bytes",
        NOT_NEGATIVE,
        "4096",
        Group::Coordinators,
        "The most text that a client may keep with an offset, in characters.",
    ),
    kafkas(
        "group.initial.rebalance.delay.ms",
        NOT_NEGATIVE,
        "3000",
        Group::Coordinators,
        "How long an empty group waits for more members before its first rebalance, in milliseconds.",
    ),
    kafkas(
        "group.min.session.timeout.ms",
        POSITIVE,
        "6000",
        Group::Coordinators,
        "The shortest session timeout that a member may ask for, in milliseconds.",
    ),
    kafkas(
        "group.max.session.timeout.ms",
        POSITIVE,
        "1800000",
        Group::Coordinators,
        "The longest session timeout that a member may ask for, in milliseconds.",
    ),
    kafkas("group.max.size", POSITIVE, "2147483647", Group::Coordinators, "The most members of one group."),
    kafkas(
        "group.consumer.session.timeout.ms",
        POSITIVE,
        "45000",
        Group::Coordinators,
        "How long a member of a consumer group may be silent, in milliseconds.",
    ),
    kafkas(
        "group.consumer.min.session.timeout.ms",
        POSITIVE,
        "45000",
        Group::Coordinators,
        "The least that `group.consumer.session.timeout.ms` can be set to, for all groups or one, in milliseconds.",
    ),
    kafkas(
        "group.consumer.max.session.timeout.ms",
        POSITIVE,
        "60000",
        Group::Coordinators,
        "The most that `group.consumer.session.timeout.ms` can be set to, for all groups or one, in milliseconds.",
    ),
    kafkas(
        "group.consumer.heartbeat.interval.ms",
        POSITIVE,
        "5000",
        Group::Coordinators,
        "How often members of a consumer group are told to send heartbeats, in milliseconds.",
    ),
    kafkas(
        "group.consumer.min.heartbeat.interval.ms",
        POSITIVE,
        "5000",
        Group::Coordinators,
        "The least that `group.consumer.heartbeat.interval.ms` can be set to, for all groups or one, in milliseconds.",
    ),
    kafkas(
        "group.consumer.max.heartbeat.interval.ms",
        POSITIVE,
        "15000",
        Group::Coordinators,
        "The most that `group.consumer.heartbeat.interval.ms` can be set to, for all groups or one, in milliseconds.",
    ),
    live(kafkas(
        "group.consumer.assignment.interval.ms",
        NOT_NEGATIVE,
        "1000",
        Group::Coordinators,
        "The shortest time between two assignments of a consumer group, in milliseconds.",
    )),
    kafkas(
        "group.consumer.min.assignment.interval.ms",
        NOT_NEGATIVE,
        "0",
        Group::Coordinators,
        "The least that `group.consumer.assignment.interval.ms` can be set to, for all groups or one, in milliseconds.",
    ),
    kafkas(
        "group.consumer.max.assignment.interval.ms",
        NOT_NEGATIVE,
        "15000",
        Group::Coordinators,
        "The most that `group.consumer.assignment.interval.ms` can be set to, for all groups or one, in milliseconds.",
    ),
    kafkas(
        "group.consumer.max.size",
        POSITIVE,
        "2147483647",
        Group::Coordinators,
        "The most members of one consumer group. Groups of the classic protocol have `group.max.size`.",
    ),
    kafkas(
        "group.consumer.assignors",
        Kind::ListOf(ASSIGNORS),
        "uniform,range",
        Group::Coordinators,
        "The assignors that members of consumer groups may ask for. The first is for those that do not ask.",
    ),
    kafkas(
        "group.consumer.migration.policy",
        Kind::OneOf(MIGRATION_POLICIES),
        "bidirectional",
        Group::Coordinators,
        "Which way groups with members may change between the classic and the consumer protocol. Empty ones always may.",
    ),
    kafkas(
        "group.consumer.regex.refresh.interval.ms",
        Kind::Int { min: 10_000, max: i32::MAX },
        "600000",
        Group::Coordinators,
        "How often the topics that match a consumer group's regular expressions are looked up again though no topic has \
         changed, in milliseconds.",
    ),
    kafkas(
        "transaction.state.log.num.partitions",
        POSITIVE,
        "50",
        Group::Coordinators,
        "The partitions of `__transaction_state` when it is created.",
    ),
    kafkas(
        "transaction.state.log.replication.factor",
        Kind::Short { min: 1, max: i16::MAX },
        "3",
        Group::Coordinators,
        "The replicas of `__transaction_state` when it is created, no more than there are brokers.",
    ),
    kafkas(
        "transaction.state.log.min.isr",
        POSITIVE,
        "2",
        Group::Coordinators,
        "The replicas of `__transaction_state` that must be in sync, no more than there are.",
    ),
    kafkas(
        "transaction.state.log.segment.bytes",
        POSITIVE,
        "104857600",
        Group::Coordinators,
        "The size at which a segment of `__transaction_state` is closed, in bytes.",
    ),
    kafkas(
        "transaction.max.timeout.ms",
        POSITIVE,
        "900000",
        Group::Coordinators,
        "The longest time that a producer may ask for its transactions, in milliseconds.",
    ),
    kafkas(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        POSITIVE,
        "10000",
        Group::Coordinators,
        "How often transactions are looked for that have taken longer than their producer asked for, in milliseconds. \
         They are aborted.",
    ),
    kafkas(
        "transactional.id.expiration.ms",
        POSITIVE,
        "604800000",
        Group::Coordinators,
        "After how many milliseconds without a transaction a transactional id is forgotten.",
    ),
    kafkas(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        POSITIVE,
        "3600000",
        Group::Coordinators,
        "How often transactional ids are looked for that can be forgotten, in milliseconds.",
    ),
    live(kafkas(
        "transaction.partition.verification.enable",
        Kind::Bool,
        "true",
        Group::Coordinators,
        "Whether the first record of a transaction in a partition is refused when the partition was not added to the \
         transaction.",
    )),
    kafkas(
        "add.partitions.to.txn.retry.backoff.max.ms",
        NOT_NEGATIVE,
        "100",
        Group::Coordinators,
        "How long the first record of a transaction waits for the end of the transaction before, in milliseconds.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_flags_and_variables_are_unique() {
        let mut names = HashSet::new();
        let mut flags = HashSet::from([CONFIG_FLAG.to_owned()]);
        for setting in SETTINGS.iter() {
            assert!(names.insert(setting.name), "{}", setting.name);
            for alias in setting.aliases {
                assert!(names.insert(alias), "{alias}");
            }
            assert!(flags.insert(setting.flag.clone()), "{}", setting.flag);
        }
    }

    #[test]
    fn defaults_are_legal() {
        for setting in SETTINGS.iter() {
            if let Some(default) = setting.default {
                assert!(setting.kind.parse(default).is_ok(), "{}={default}", setting.name);
            }
        }
    }

    #[test]
    fn groups_are_in_order() {
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.group));
    }

    #[test]
    fn variables_come_from_flags() {
        assert_eq!(find("log.dir").unwrap().variable(), "WEIR_DATA_DIR");
        assert_eq!(find("log.retention.ms").unwrap().variable(), "WEIR_LOG_RETENTION_MS");
    }
}
