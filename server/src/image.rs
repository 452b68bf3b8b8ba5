//! The metadata: topics, partitions, configurations, brokers, features. An [`Image`] never changes; every core holds an
//! `Arc` of the newest one. The next image is drafted from it by applying records of the catalog ([`crate::catalog`]).
//!
//! A topic is shared between images, so a new image costs two maps of pointers and the topics that changed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use engine::Slot;
use wire::Uuid;

use crate::catalog::Record;
use crate::config::consumer_groups::ConsumerGroupOptions;
use crate::config::live::LiveSettings;
use crate::config::topic::{Configs, Layers, TopicSettings};
use crate::hash::Hasher;

/// The slot of a partition that its core's store does not have.
pub const UNPLACED: Slot = Slot::MAX;

/// The catalog's own topic: Kafka's metadata log.
pub const CATALOG_TOPIC: &str = "__cluster_metadata";

/// The id that Kafka reserves for the metadata log (`Uuid.METADATA_TOPIC_ID`).
pub const CATALOG_TOPIC_ID: Uuid = Uuid(1_u128.to_be_bytes());

/// Topics that belong to the broker: clients may not write to them as they like (`Topic.isInternal` in Kafka).
pub const INTERNAL_TOPICS: &[&str] = &["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// The number of topics among resources (`ConfigResource.Type` in Kafka).
pub const RESOURCE_TOPIC: i8 = 2;

/// The number of brokers among resources.
pub const RESOURCE_BROKER: i8 = 4;

/// The number of groups among resources.
pub const RESOURCE_GROUP: i8 = 32;

/// Everything that the broker knows about its cluster at one point of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    cluster_id: Arc<str>,
    node_id: i32,
    cores: usize,
    /// Records of the catalog that were applied.
    applied: u64,
    by_name: HashMap<Arc<str>, Arc<Topic>, Hasher>,
    by_id: HashMap<Uuid, Arc<Topic>, Hasher>,
    partitions: usize,
    brokers: BTreeMap<i32, Broker>,
    features: BTreeMap<String, i16>,
    next_producer_id: i64,
    dynamic_default: Configs,
    dynamic_broker: Configs,
    fixed: Arc<Configs>,
    /// What the layers above come to, beside the defaults of topics.
    live: Arc<LiveSettings>,
    /// Groups that have configurations.
    groups: Arc<BTreeMap<String, Configs>>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: neither zero nor one of those that Kafka reserves.
    pub id: Uuid,
    /// Whether it belongs to the broker.
    pub internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// Its own configurations, as they were given.
    pub configs: Configs,
    /// The configuration in force.
    pub settings: TopicSettings,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The core that owns it, from 0.
    pub core: usize,
    /// Its place in that core's store, or [`UNPLACED`].
    pub slot: Slot,
    /// The broker that leads it, or -1.
    pub leader: i32,
    /// Raised each time a leader takes over.
    pub leader_epoch: i32,
    /// Raised each time anything of the partition changes.
    pub partition_epoch: i32,
    /// The brokers that have a replica, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The brokers whose replicas are in sync.
    pub isr: Vec<i32>,
}

/// A broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Broker {
    /// Where clients reach it: one endpoint per listener.
    pub endpoints: Vec<Endpoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it is kept from leading partitions.
    pub fenced: bool,
}

/// Where a broker is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A record that contradicts the records before it: the catalog is damaged, or another program wrote to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// A topic whose name or id exists.
    TopicExists(String),
    /// A record about a topic that does not exist.
    NoSuchTopic(String),
    /// A partition that is not the next one of its topic, or a change of one that does not exist.
    NoSuchPartition(String, i32),
    /// A configuration of another broker.
    NoSuchBroker(String),
    /// A configuration of something other than topics, brokers and groups.
    UnknownResource(i8),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::TopicExists(topic) => write!(f, "the catalog creates the topic {topic}, which exists"),
            ApplyError::NoSuchTopic(topic) => {
                write!(f, "the catalog speaks of the topic {topic}, which does not exist")
            }
            ApplyError::NoSuchPartition(topic, partition) => {
                write!(f, "the catalog speaks of {topic}-{partition} out of order")
            }
            ApplyError::NoSuchBroker(broker) => {
                write!(f, "the catalog configures the broker {broker}, which does not exist")
            }
            ApplyError::UnknownResource(kind) => {
                write!(f, "the catalog configures a resource of the unknown type {kind}")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

impl Image {
    /// The image before the first record.
    ///
    /// `cores` is how many cores own partitions; `fixed` are the settings that the operator has given.
    #[must_use]
    pub fn new(cluster_id: &str, node_id: i32, cores: usize, fixed: Arc<Configs>) -> Image {
        assert!(cores > 0, "a broker runs on at least one core");
        let none = Configs::new();
        let layers = Layers { dynamic_broker: &none, dynamic_default: &none, fixed: &fixed };
        let live = Arc::new(LiveSettings::resolve(layers));
        Image {
            cluster_id: cluster_id.into(),
            node_id,
            cores,
            applied: 0,
            by_name: HashMap::default(),
            by_id: HashMap::default(),
            partitions: 0,
            brokers: BTreeMap::new(),
            features: BTreeMap::new(),
            next_producer_id: 0,
            dynamic_default: Configs::new(),
            dynamic_broker: Configs::new(),
            fixed,
            live,
            groups: Arc::default(),
        }
    }

    /// A draft of the next image.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft { image: self.clone(), changed: BTreeMap::new(), names: HashMap::default(), defaults_changed: false }
    }

    /// The topic of a name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of an id.
    #[must_use]
    pub fn topic_by_id(&self, id: &Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    /// All topics, in no order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// All topics, by name.
    #[must_use]
    pub fn sorted_topics(&self) -> Vec<&Arc<Topic>> {
        let mut topics: Vec<_> = self.topics().collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// How many partitions all topics have.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// This broker's number.
    #[must_use]
    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    /// How many cores own partitions.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// How many records of the catalog this image has taken in: the offset of the next one.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The brokers, by number.
    #[must_use]
    pub fn brokers(&self) -> &BTreeMap<i32, Broker> {
        &self.brokers
    }

    /// The finalized features and their levels (KIP-584).
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The first producer id that has not been given away.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The name of one of this broker's listeners, which are numbered as their endpoints are.
    #[must_use]
    pub fn listener(&self, number: usize) -> &str {
        let endpoints = self.brokers.get(&self.node_id).map(|broker| broker.endpoints.as_slice()).unwrap_or_default();
        endpoints.get(number).map(|endpoint| endpoint.listener.as_str()).unwrap_or_default()
    }

    /// The layers of configuration below the topics'.
    #[must_use]
    pub fn layers(&self) -> Layers<'_> {
        Layers { dynamic_broker: &self.dynamic_broker, dynamic_default: &self.dynamic_default, fixed: &self.fixed }
    }

    /// The settings in force of those that may change, beside the defaults of topics.
    #[must_use]
    pub fn live(&self) -> &LiveSettings {
        &self.live
    }

    /// The groups that have configurations of their own, by name.
    #[must_use]
    pub fn configured_groups(&self) -> &BTreeMap<String, Configs> {
        &self.groups
    }

    /// What is decided about a group of the consumer protocol.
    #[must_use]
    pub fn consumer_group_options(&self, group: &str) -> ConsumerGroupOptions {
        let of_all = self.live.consumer_groups;
        self.groups.get(group).map_or(of_all, |own| of_all.of_group(own))
    }
}

/// Which core owns a partition: its topic's id says where the topic's first partition goes, the others follow in turn.
/// So one topic's partitions are spread evenly, and a restart with as many cores finds each where it was.
#[must_use]
pub fn owner_core(topic: &Uuid, partition: i32, cores: usize) -> usize {
    let id = u128::from_be_bytes(topic.0);
    // A random id's lower half is as good as any hash of it.
    let first = (id as u64) % cores as u64;
    ((first + u64::from(partition.unsigned_abs())) % cores as u64) as usize
}

/// The next image, while records are applied to it.
#[derive(Debug)]
pub struct Draft {
    image: Image,
    /// Topics that differ from those in the image's maps; `None` is removed.
    changed: BTreeMap<Uuid, Option<Topic>>,
    /// Names that mean something else than in the image's map; `None` means nothing any more.
    names: HashMap<Arc<str>, Option<Uuid>, Hasher>,
    defaults_changed: bool,
}

impl Draft {
    /// Applies one record.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        match record {
            Record::Topic(record) => {
                if self.find(record.name).is_some() || self.topic(&record.topic_id).is_some() {
                    return Err(ApplyError::TopicExists(record.name.to_owned()));
                }
                let topic = Topic {
                    name: record.name.into(),
                    id: record.topic_id,
                    internal: INTERNAL_TOPICS.contains(&record.name),
                    partitions: Vec::new(),
                    configs: Configs::new(),
                    settings: TopicSettings::resolve(&Configs::new(), self.image.layers()),
                };
                self.names.insert(topic.name.clone(), Some(topic.id));
                self.changed.insert(record.topic_id, Some(topic));
            }
            Record::Partition(record) => {
                let core = owner_core(&record.topic_id, record.partition_id, self.image.cores);
                let topic = self.topic_mut(&record.topic_id)?;
                if usize::try_from(record.partition_id) != Ok(topic.partitions.len()) {
                    return Err(ApplyError::NoSuchPartition(topic.name.to_string(), record.partition_id));
                }
                topic.partitions.push(Partition {
                    core,
                    slot: UNPLACED,
                    leader: record.leader,
                    leader_epoch: record.leader_epoch,
                    partition_epoch: record.partition_epoch,
                    replicas: record.replicas.clone(),
                    isr: record.isr.clone(),
                });
                self.image.partitions += 1;
            }
            Record::PartitionChange(record) => {
                let topic = self.topic_mut(&record.topic_id)?;
                let found = usize::try_from(record.partition_id).ok().and_then(|it| topic.partitions.get_mut(it));
                let Some(partition) = found else {
                    return Err(ApplyError::NoSuchPartition(topic.name.to_string(), record.partition_id));
                };
                // Any record that names a leader starts a leadership, the same leader's included.
                if record.leader != LEADER_UNCHANGED {
                    partition.leader = record.leader;
                    partition.leader_epoch += 1;
                }
                partition.partition_epoch += 1;
                if let Some(isr) = &record.isr {
                    partition.isr.clone_from(isr);
                }
                if let Some(replicas) = &record.replicas {
                    partition.replicas.clone_from(replicas);
                }
            }
            Record::RemoveTopic(record) => {
                let topic = self.topic_mut(&record.topic_id)?;
                let (name, partitions) = (topic.name.clone(), topic.partitions.len());
                self.image.partitions -= partitions;
                self.names.insert(name, None);
                self.changed.insert(record.topic_id, None);
            }
            Record::Config(record) => {
                let configs = match record.resource_type {
                    RESOURCE_TOPIC => {
                        let id = self.find(record.resource_name);
                        let id = id.ok_or_else(|| ApplyError::NoSuchTopic(record.resource_name.to_owned()))?;
                        &mut self.topic_mut(&id)?.configs
                    }
                    RESOURCE_BROKER if record.resource_name.is_empty() => {
                        self.defaults_changed = true;
                        &mut self.image.dynamic_default
                    }
                    RESOURCE_BROKER if record.resource_name == self.image.node_id.to_string() => {
                        self.defaults_changed = true;
                        &mut self.image.dynamic_broker
                    }
                    RESOURCE_BROKER => return Err(ApplyError::NoSuchBroker(record.resource_name.to_owned())),
                    RESOURCE_GROUP => {
                        let groups = Arc::make_mut(&mut self.image.groups);
                        groups.entry(record.resource_name.to_owned()).or_default()
                    }
                    other => return Err(ApplyError::UnknownResource(other)),
                };
                match record.value {
                    Some(value) => configs.insert(record.name.to_owned(), value.to_owned()),
                    None => configs.remove(record.name),
                };
                if record.resource_type == RESOURCE_GROUP && configs.is_empty() {
                    Arc::make_mut(&mut self.image.groups).remove(record.resource_name);
                }
            }
            Record::FeatureLevel(record) => {
                if record.feature_level == 0 {
                    self.image.features.remove(record.name);
                } else {
                    self.image.features.insert(record.name.to_owned(), record.feature_level);
                }
            }
            Record::RegisterBroker(record) => {
                let endpoint = |it: &wire::records::register_broker_record::BrokerEndpoint<'_>| Endpoint {
                    listener: it.name.to_owned(),
                    host: it.host.to_owned(),
                    port: it.port,
                };
                let broker = Broker {
                    endpoints: record.end_points.iter().map(endpoint).collect(),
                    rack: record.rack.map(str::to_owned),
                    fenced: record.fenced,
                };
                self.image.brokers.insert(record.broker_id, broker);
            }
            Record::ProducerIds(record) => {
                // Never back: an id must not be given away twice.
                self.image.next_producer_id = self.image.next_producer_id.max(record.next_producer_id);
            }
            Record::NoOp => {}
        }
        self.image.applied += 1;
        Ok(())
    }

    /// Notes in which slot of its core's store a partition is.
    pub fn place(&mut self, topic: &Uuid, partition: i32, slot: Slot) -> Result<(), ApplyError> {
        let topic = self.topic_mut(topic)?;
        match usize::try_from(partition).ok().and_then(|at| topic.partitions.get_mut(at)) {
            Some(place) => {
                place.slot = slot;
                Ok(())
            }
            None => Err(ApplyError::NoSuchPartition(topic.name.to_string(), partition)),
        }
    }

    /// A topic as it stands in the draft.
    #[must_use]
    pub fn topic(&self, id: &Uuid) -> Option<&Topic> {
        match self.changed.get(id) {
            Some(changed) => changed.as_ref(),
            None => self.image.by_id.get(id).map(Arc::as_ref),
        }
    }

    /// The image.
    #[must_use]
    pub fn finish(self) -> Image {
        let Draft { mut image, mut changed, defaults_changed, .. } = self;
        if defaults_changed {
            image.live = Arc::new(LiveSettings::resolve(image.layers()));
            // Every topic's settings may have changed with the layers below them.
            for topic in image.by_id.values() {
                changed.entry(topic.id).or_insert_with(|| Some(Topic::clone(topic)));
            }
        }
        for (id, topic) in changed {
            if let Some(old) = image.by_id.remove(&id)
                && image.by_name.get(&old.name).is_some_and(|named| named.id == id)
            {
                image.by_name.remove(&old.name);
            }
            if let Some(mut topic) = topic {
                topic.settings = TopicSettings::resolve(&topic.configs, image.layers());
                let topic = Arc::new(topic);
                image.by_name.insert(topic.name.clone(), topic.clone());
                image.by_id.insert(id, topic);
            }
        }
        image
    }

    /// The id of the topic that has a name in the draft.
    fn find(&self, name: &str) -> Option<Uuid> {
        match self.names.get(name) {
            Some(id) => *id,
            None => self.image.topic(name).map(|topic| topic.id),
        }
    }

    /// A topic, to be changed.
    fn topic_mut(&mut self, id: &Uuid) -> Result<&mut Topic, ApplyError> {
        let current = self.image.by_id.get(id);
        let entry = self.changed.entry(*id).or_insert_with(|| current.map(|topic| Topic::clone(topic)));
        entry.as_mut().ok_or_else(|| ApplyError::NoSuchTopic(id.to_string()))
    }
}

/// "The leader stays" in a PartitionChangeRecord.
pub const LEADER_UNCHANGED: i32 = -2;

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
