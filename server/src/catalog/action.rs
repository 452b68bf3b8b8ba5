//! Decisions about the cluster. An admin API turns its request into actions; the controller writes the records of all
//! of them as one batch, so that they take effect together or not at all.

use wire::Uuid;
use wire::records::register_broker_record::{BrokerEndpoint, BrokerFeature};
use wire::records::{
    ConfigRecord, FeatureLevelRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord,
    RemoveTopicRecord, TopicRecord,
};

use super::Record;
use crate::config::topic::Configs;
use crate::features;
use crate::image::{Endpoint, RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::limits::{METADATA_BYTES, METADATA_RECORDS};

// The largest topic still fits.
const _: () = assert!(METADATA_RECORDS * PARTITION_RECORD_BYTES <= METADATA_BYTES);
const _: () = assert!(METADATA_BYTES < 1 << 20);

/// No less than the bytes of a partition's record in a batch: three ids and numbers, its frame and its deltas.
const PARTITION_RECORD_BYTES: usize = 100;

/// No less than the bytes of any other record without its texts.
const RECORD_BYTES: usize = 64;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A topic is created, with all its partitions on this broker.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its id.
        id: Uuid,
        /// How many partitions it has.
        partitions: i32,
        /// Its own configurations.
        configs: Configs,
    },
    /// A topic is deleted.
    DeleteTopic {
        /// Its id.
        id: Uuid,
    },
    /// A topic gets more partitions.
    AddPartitions {
        /// The topic's id.
        id: Uuid,
        /// How many partitions it has.
        from: i32,
        /// How many it is to have.
        to: i32,
    },
    /// Configurations are set or, where there is no value, removed.
    SetConfigs {
        /// Whose.
        target: ConfigTarget,
        /// Keys, and values as they were given.
        changes: Vec<(String, Option<String>)>,
    },
    /// This broker leads partitions anew: their leader epochs rise.
    Lead {
        /// The topic's id.
        id: Uuid,
        /// How many partitions it has.
        partitions: i32,
    },
    /// This broker says where it is reached.
    RegisterBroker {
        /// One endpoint per listener.
        endpoints: Vec<Endpoint>,
        /// Its rack.
        rack: Option<String>,
        /// An id of this run of the broker.
        incarnation: Uuid,
    },
    /// Producer ids are given away.
    ReserveProducerIds {
        /// The first one that is not.
        next: i64,
    },
    /// A feature gets a level.
    SetFeature {
        /// Its name.
        name: String,
        /// Its level; 0 removes it.
        level: i16,
    },
}

/// Whose configurations are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigTarget {
    /// Those of the topic of a name.
    Topic(String),
    /// Those of one broker, named by its number.
    Broker(String),
    /// Those of all brokers.
    AllBrokers,
    /// Those of the group of a name, which need not exist.
    Group(String),
}

impl Action {
    /// How many records it makes.
    #[must_use]
    pub fn record_count(&self) -> usize {
        let count = |partitions: i32| usize::try_from(partitions).unwrap_or(0);
        match self {
            Action::CreateTopic { partitions, configs, .. } => 1 + configs.len() + count(*partitions),
            Action::AddPartitions { from, to, .. } => count(to - from),
            Action::Lead { partitions, .. } => count(*partitions),
            Action::SetConfigs { changes, .. } => changes.len(),
            Action::DeleteTopic { .. }
            | Action::RegisterBroker { .. }
            | Action::ReserveProducerIds { .. }
            | Action::SetFeature { .. } => 1,
        }
    }

    /// No less than the bytes that its records take in a batch.
    #[must_use]
    pub fn bytes_bound(&self) -> usize {
        let count = |partitions: i32| usize::try_from(partitions).unwrap_or(0) * PARTITION_RECORD_BYTES;
        match self {
            Action::CreateTopic { name, partitions, configs, .. } => {
                let config = |(key, value): (&String, &String)| RECORD_BYTES + name.len() + key.len() + value.len();
                RECORD_BYTES + name.len() + configs.iter().map(config).sum::<usize>() + count(*partitions)
            }
            Action::AddPartitions { from, to, .. } => count(to - from),
            Action::Lead { partitions, .. } => count(*partitions),
            Action::SetConfigs { target, changes } => {
                let name = match target {
                    ConfigTarget::Topic(name) | ConfigTarget::Broker(name) | ConfigTarget::Group(name) => name.len(),
                    ConfigTarget::AllBrokers => 0,
                };
                let change = |(key, value): &(String, Option<String>)| {
                    RECORD_BYTES + name + key.len() + value.as_ref().map_or(0, String::len)
                };
                changes.iter().map(change).sum()
            }
            Action::RegisterBroker { endpoints, rack, .. } => {
                let endpoint = |it: &Endpoint| RECORD_BYTES + it.listener.len() + it.host.len();
                let features = features::SUPPORTED.len() * RECORD_BYTES;
                2 * RECORD_BYTES
                    + features
                    + rack.as_ref().map_or(0, String::len)
                    + endpoints.iter().map(endpoint).sum::<usize>()
            }
            Action::DeleteTopic { .. } | Action::ReserveProducerIds { .. } => RECORD_BYTES,
            Action::SetFeature { name, .. } => RECORD_BYTES + name.len(),
        }
    }

    /// The longest value that it sets, in bytes.
    #[must_use]
    pub fn longest_text(&self) -> usize {
        let longest = match self {
            Action::CreateTopic { configs, .. } => configs.values().map(String::len).max(),
            Action::SetConfigs { changes, .. } => changes.iter().flat_map(|(_, value)| value).map(String::len).max(),
            _ => None,
        };
        longest.unwrap_or(0)
    }

    /// Appends its records. `node_id` is this broker's number and `directory` the id of its data directory.
    pub fn records<'a>(&'a self, node_id: i32, directory: Uuid, out: &mut Vec<Record<'a>>) {
        let partition = |id: Uuid, partition_id: i32| {
            Record::Partition(PartitionRecord {
                partition_id,
                topic_id: id,
                replicas: vec![node_id],
                isr: vec![node_id],
                leader: node_id,
                leader_epoch: 0,
                partition_epoch: 0,
                directories: vec![directory],
                ..PartitionRecord::default()
            })
        };
        match self {
            Action::CreateTopic { name, id, partitions, configs } => {
                out.push(Record::Topic(TopicRecord { name, topic_id: *id }));
                out.extend(configs.iter().map(|(key, value)| config(RESOURCE_TOPIC, name, key, Some(value))));
                out.extend((0..*partitions).map(|index| partition(*id, index)));
            }
            Action::DeleteTopic { id } => out.push(Record::RemoveTopic(RemoveTopicRecord { topic_id: *id })),
            Action::AddPartitions { id, from, to } => out.extend((*from..*to).map(|index| partition(*id, index))),
            Action::SetConfigs { target, changes } => {
                let (kind, name) = match target {
                    ConfigTarget::Topic(name) => (RESOURCE_TOPIC, name.as_str()),
                    ConfigTarget::Broker(id) => (RESOURCE_BROKER, id.as_str()),
                    ConfigTarget::AllBrokers => (RESOURCE_BROKER, ""),
                    ConfigTarget::Group(name) => (RESOURCE_GROUP, name.as_str()),
                };
                out.extend(changes.iter().map(|(key, value)| config(kind, name, key, value.as_deref())));
            }
            Action::Lead { id, partitions } => out.extend((0..*partitions).map(|partition_id| {
                Record::PartitionChange(PartitionChangeRecord {
                    partition_id,
                    topic_id: *id,
                    leader: node_id,
                    ..PartitionChangeRecord::default()
                })
            })),
            Action::RegisterBroker { endpoints, rack, incarnation } => {
                let endpoint = |it: &'a Endpoint| BrokerEndpoint {
                    name: &it.listener,
                    host: &it.host,
                    port: it.port,
                    security_protocol: PLAINTEXT,
                };
                let feature = |it: &features::Feature| BrokerFeature {
                    name: it.name,
                    min_supported_version: it.min,
                    max_supported_version: it.max,
                };
                out.push(Record::RegisterBroker(RegisterBrokerRecord {
                    broker_id: node_id,
                    incarnation_id: *incarnation,
                    end_points: endpoints.iter().map(endpoint).collect(),
                    features: features::SUPPORTED.iter().map(feature).collect(),
                    rack: rack.as_deref(),
                    fenced: false,
                    log_dirs: vec![directory],
                    ..RegisterBrokerRecord::default()
                }));
            }
            Action::ReserveProducerIds { next } => out.push(Record::ProducerIds(ProducerIdsRecord {
                broker_id: node_id,
                next_producer_id: *next,
                ..ProducerIdsRecord::default()
            })),
            Action::SetFeature { name, level } => {
                out.push(Record::FeatureLevel(FeatureLevelRecord { name, feature_level: *level }));
            }
        }
    }
}

/// The number of PLAINTEXT (`SecurityProtocol` in Kafka).
const PLAINTEXT: i16 = 0;

fn config<'a>(kind: i8, resource: &'a str, key: &'a str, value: Option<&'a str>) -> Record<'a> {
    Record::Config(ConfigRecord { resource_type: kind, resource_name: resource, name: key, value })
}

/// An id for a topic that is new: random, of version 4 (RFC 9562), and none of those with a meaning.
///
/// `random` gives 64 random bits at each call.
#[must_use]
pub fn new_topic_id(mut random: impl FnMut() -> u64) -> Uuid {
    loop {
        let mut bits = u128::from(random()) << 64 | u128::from(random());
        bits &= !(0xf << 76 | 0b11 << 62);
        bits |= 0x4 << 76 | 0b10 << 62;
        let id = Uuid(bits.to_be_bytes());
        // Kafka avoids the dash too: such an id looks like a flag to its tools.
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::limits::MIN_BATCH_BYTES;

    use super::*;

    #[test]
    fn topic_ids_are_random_and_of_version_4() {
        // All bits set would begin with a dash and an underscore, so the second draw is taken.
        let mut draws = [0xf800_0000_0000_0000, 0, 0x0123_4567_89ab_cdef, 0xffff_ffff_ffff_ffff].into_iter();
        let id = new_topic_id(|| draws.next().unwrap());
        assert_eq!(id.0[..], 0x0123_4567_89ab_4def_bfff_ffff_ffff_ffff_u128.to_be_bytes()[..]);
        let zero = new_topic_id(|| 0);
        assert!(!zero.is_zero());
    }

    #[test]
    fn counts_and_bounds_are_told_beforehand() {
        let id = Uuid([7; 16]);
        let actions = [
            Action::CreateTopic {
                name: "t".to_owned(),
                id,
                partitions: 3,
                configs: Configs::from([("retention.ms".to_owned(), "1".to_owned())]),
            },
            Action::AddPartitions { id, from: 3, to: 5 },
            Action::SetConfigs {
                target: ConfigTarget::AllBrokers,
                changes: vec![("log.retention.ms".to_owned(), None), ("log.roll.ms".to_owned(), Some("1".to_owned()))],
            },
            Action::SetConfigs {
                target: ConfigTarget::Group("g".repeat(300)),
                changes: vec![("consumer.session.timeout.ms".to_owned(), Some("50000".to_owned()))],
            },
            Action::Lead { id, partitions: 5 },
            Action::DeleteTopic { id },
            Action::RegisterBroker {
                endpoints: vec![Endpoint { listener: "l".repeat(200), host: "h".repeat(200), port: 1 }; 3],
                rack: Some("r".repeat(300)),
                incarnation: id,
            },
            Action::ReserveProducerIds { next: 1000 },
            Action::SetFeature { name: "f".to_owned(), level: 1 },
        ];
        for action in &actions {
            let mut records = Vec::new();
            action.records(1, Uuid([9; 16]), &mut records);
            assert_eq!(records.len(), action.record_count(), "{action:?}");
            let bytes = crate::catalog::write_batch(&records, i64::MAX).unwrap().len() - MIN_BATCH_BYTES;
            assert!(bytes <= action.bytes_bound(), "{bytes} bytes of {action:?}");
        }
    }
}
