//! The leaders of a topic's partitions and what they speak.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::Uuid;
use wire::api::ApiKey;
use wire::compression::Codec;
use wire::error::ErrorCode;

use crate::assign::by_leader;
use crate::client::{Client, ClientError, LogEnd, POLL_INTERVAL, TOPIC_READY_WITHIN, Topic};
use crate::error::RunError;
use crate::plan::Plan;
use crate::transaction::Versions;

/// The leaders of the topic's partitions and what they speak.
pub struct Cluster {
    /// The topic.
    pub topic: Topic,
    leaders: BTreeMap<String, Client>,
    /// The newest version of Produce that all leaders speak.
    pub produce_version: i16,
    /// The newest version of Fetch that all leaders speak.
    pub fetch_version: i16,
    /// What transactions are here, if the load has them.
    pub transactions: Option<Versions>,
}

impl Cluster {
    /// Connects to every leader of `topic`.
    pub fn connect(plan: &Plan, topic: Topic) -> Result<Cluster, RunError> {
        let by_id = topic.id != Uuid::default();
        // From these versions on topics are named by their ids alone (KIP-516), which not every broker has.
        let produce = 3..=if by_id { 13 } else { 12 };
        let fetch = 4..=if by_id { 18 } else { 12 };
        let (mut produce_version, mut fetch_version) = (*produce.end(), *fetch.end());
        let mut leaders = BTreeMap::new();
        for partition in &topic.partitions {
            if leaders.contains_key(&partition.leader) {
                continue;
            }
            let client = Client::connect(&partition.leader, &plan.target)?;
            produce_version = produce_version.min(client.version(ApiKey::Produce, produce.clone())?);
            fetch_version = fetch_version.min(client.version(ApiKey::Fetch, fetch.clone())?);
            leaders.insert(partition.leader.clone(), client);
        }
        let codec = plan.load.produce().map_or(Codec::None, |produce| produce.compression);
        if codec == Codec::Zstd {
            for (api, version, from) in [(ApiKey::Produce, produce_version, 7), (ApiKey::Fetch, fetch_version, 10)] {
                if version < from {
                    return Err(RunError::CodecUnknown { codec, api, version });
                }
            }
        }
        let mut transactions = None;
        if plan.load.produce().is_some_and(|produce| produce.transaction_batches.is_some()) {
            for leader in leaders.values() {
                let agreed = Versions::agreed(leader, produce_version)?;
                produce_version = agreed.produce;
                transactions = Some(agreed);
            }
        }
        Ok(Cluster { topic, leaders, produce_version, fetch_version, transactions })
    }

    /// The connection to a leader.
    pub fn leader(&mut self, address: &str) -> Result<&mut Client, ClientError> {
        let unknown = || ClientError::TopicMissing(self.topic.name.clone());
        self.leaders.get_mut(address).ok_or_else(unknown)
    }

    /// The offset at one end of every partition. A leader may take a moment until it serves a new partition: errors that
    /// may pass are waited out.
    pub fn log_ends(&mut self, end: LogEnd) -> Result<BTreeMap<i32, i64>, ClientError> {
        let deadline = Instant::now() + TOPIC_READY_WITHIN;
        let mut offsets = BTreeMap::new();
        for (leader, partitions) in by_leader(&self.topic.partitions) {
            let Some(client) = self.leaders.get_mut(leader) else { continue };
            offsets.extend(loop {
                match client.log_ends(&self.topic.name, &partitions, end) {
                    Err(ClientError::Broker { code, .. })
                        if ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
                            && Instant::now() < deadline =>
                    {
                        std::thread::sleep(POLL_INTERVAL);
                    }
                    outcome => break outcome?,
                }
            });
        }
        Ok(offsets)
    }
}
