//! The topics of the coordinators: their creation, and which partition an id belongs to.

use wire::error::ErrorCode;

use crate::catalog::{Action, new_topic_id};
use crate::config::topic::Configs;
use crate::image::Image;
use crate::services::Services;
use crate::shard::Shard;

/// A coordinator's topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTopic {
    /// Groups and their offsets.
    Offsets,
    /// Transactions.
    Transactions,
}

impl LogTopic {
    /// The topic of a name, if it is a coordinator's.
    #[must_use]
    pub fn named(name: &str) -> Option<LogTopic> {
        [LogTopic::Offsets, LogTopic::Transactions].into_iter().find(|topic| topic.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogTopic::Offsets => "__consumer_offsets",
            LogTopic::Transactions => "__transaction_state",
        }
    }

    /// Its creation as the operator wants it.
    #[must_use]
    pub fn creation(self, services: &Services, random: impl FnMut() -> u64) -> Action {
        let options = &services.options.coordinators;
        let (topic, more): (_, &[(&str, &str)]) = match self {
            LogTopic::Offsets => (options.offsets_topic, &[("compression.type", "producer")]),
            LogTopic::Transactions => (
                options.transactions_topic,
                &[
                    ("compression.type", "uncompressed"),
                    // No more than there are replicas.
                    ("min.insync.replicas", "1"),
                    ("unclean.leader.election.enable", "false"),
                ],
            ),
        };
        let mut configs: Configs = more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        configs.insert("cleanup.policy".to_owned(), "compact".to_owned());
        configs.insert("segment.bytes".to_owned(), topic.segment_bytes.to_string());
        Action::CreateTopic {
            name: self.name().to_owned(),
            id: new_topic_id(random),
            partitions: topic.partitions,
            configs,
        }
    }
}

/// Creates a coordinator's topic if there is none. When this resolves, every core knows it.
pub async fn ensure(shard: &Shard, topic: LogTopic) -> Result<(), ErrorCode> {
    if shard.image().topic(topic.name()).is_some() {
        return Ok(());
    }
    shard.run_on(0, move |core0| create(core0, topic)).await
}

/// On core 0.
async fn create(core0: Shard, topic: LogTopic) -> Result<(), ErrorCode> {
    let services = Services::of(&core0);
    let turn = services.controller().turn().await;
    // Others may have asked for it before.
    if turn.image().topic(topic.name()).is_none() {
        let action = topic.creation(&services, || core0.reactor().random());
        turn.carry_out(vec![action]).await.map_err(|error| error.code())?;
    }
    Ok(())
}

/// The partition that a group or a transactional id belongs to: Kafka's choice, which is Java's hash of the id. None
/// where the topic does not exist.
#[must_use]
pub fn partition_of(id: &str, topic: LogTopic, image: &Image) -> Option<i32> {
    partition_among(id, image.topic(topic.name())?.partitions.len())
}

/// As [`partition_of`], for a topic of that many partitions.
#[must_use]
pub fn partition_among(id: &str, count: usize) -> Option<i32> {
    let count = i32::try_from(count).ok()?;
    let hash = id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0).checked_rem(count)
}
