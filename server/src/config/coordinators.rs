//! The settings of the coordinators, as types.

use super::options::Values;

/// What the operator decides about groups and transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoordinatorOptions {
    /// `__consumer_offsets`.
    pub offsets_topic: LogTopicOptions,
    /// `__transaction_state`.
    pub transactions_topic: LogTopicOptions,
    /// Groups.
    pub groups: GroupOptions,
    /// Transactions.
    pub transactions: TransactionOptions,
}

/// How a coordinator's topic is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTopicOptions {
    /// Its partitions.
    pub partitions: i32,
    /// The size of a segment, in bytes.
    pub segment_bytes: i32,
}

/// What the operator decides about groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupOptions {
    /// How long offsets are kept that nobody uses, in milliseconds.
    pub retention_ms: i64,
    /// How often they are looked for, in milliseconds.
    pub retention_check_interval_ms: i64,
    /// The most text with an offset, in characters.
    pub metadata_max_chars: usize,
    /// How long a group waits for more members before its first rebalance, in milliseconds.
    pub initial_delay_ms: i32,
    /// The shortest session timeout, in milliseconds.
    pub session_min_ms: i32,
    /// The longest session timeout, in milliseconds.
    pub session_max_ms: i32,
    /// The most members of one group.
    pub max_size: usize,
}

/// What the operator decides about transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionOptions {
    /// The longest time that a producer may ask for, in milliseconds.
    pub max_timeout_ms: i32,
    /// How often transactions are looked for that took too long, in milliseconds.
    pub abort_interval_ms: u64,
    /// After what silence a transactional id is forgotten, in milliseconds.
    pub expiration_ms: i64,
    /// How often silent ids are looked for, in milliseconds.
    pub expiration_interval_ms: u64,
    /// How long a write waits for the end of the transaction before its own, in milliseconds.
    pub join_patience_ms: i64,
}

impl CoordinatorOptions {
    /// Takes the settings from what was given.
    pub(super) fn new(values: &Values<'_>) -> CoordinatorOptions {
        // Bounded by 31 bits in the table.
        let int = |name: &str| i32::try_from(values.number(name).expect("the table has a default")).unwrap_or(i32::MAX);
        let long =
            |name: &str| i64::try_from(values.number(name).expect("the table has a default")).unwrap_or(i64::MAX);
        CoordinatorOptions {
            offsets_topic: LogTopicOptions {
                partitions: int("offsets.topic.num.partitions"),
                segment_bytes: int("offsets.topic.segment.bytes"),
            },
            transactions_topic: LogTopicOptions {
                partitions: int("transaction.state.log.num.partitions"),
                segment_bytes: int("transaction.state.log.segment.bytes"),
            },
            groups: GroupOptions {
                retention_ms: i64::from(int("offsets.retention.minutes")) * 60_000,
                retention_check_interval_ms: long("offsets.retention.check.interval.ms"),
                metadata_max_chars: int("offset.metadata.max.bytes").unsigned_abs() as usize,
                initial_delay_ms: int("group.initial.rebalance.delay.ms"),
                session_min_ms: int("group.min.session.timeout.ms"),
                session_max_ms: int("group.max.session.timeout.ms"),
                max_size: int("group.max.size").unsigned_abs() as usize,
            },
            transactions: TransactionOptions {
                max_timeout_ms: int("transaction.max.timeout.ms"),
                abort_interval_ms: long("transaction.abort.timed.out.transaction.cleanup.interval.ms").unsigned_abs(),
                expiration_ms: long("transactional.id.expiration.ms"),
                expiration_interval_ms: long("transaction.remove.expired.transaction.cleanup.interval.ms")
                    .unsigned_abs(),
                join_patience_ms: long("add.partitions.to.txn.retry.backoff.max.ms"),
            },
        }
    }
}

#[cfg(test)]
impl Default for CoordinatorOptions {
    /// The table's defaults.
    fn default() -> CoordinatorOptions {
        CoordinatorOptions::new(&Values(&super::topic::Configs::new()))
    }
}
