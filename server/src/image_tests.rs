//! Tests of the image: records in, metadata out.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use wire::Uuid;
use wire::batch::BatchView;
use wire::records::{ConfigRecord, PartitionRecord, RemoveTopicRecord, TopicRecord};

use super::*;
use crate::catalog::{Action, CatalogError, ConfigTarget, read_batch, write_batch};

const NODE: i32 = 1;

fn empty() -> Image {
    Image::new("cluster", NODE, 3, Arc::new(Configs::new()))
}

fn id(n: u8) -> Uuid {
    Uuid([n; 16])
}

fn configs(pairs: &[(&str, &str)]) -> Configs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The image after `actions`, each of them written, read back and applied on its own.
fn after(image: &Image, actions: &[Action]) -> Image {
    let mut image = image.clone();
    for action in actions {
        image = replay(&image, &[bytes_of(action)]);
    }
    image
}

fn bytes_of(action: &Action) -> Vec<u8> {
    let mut records = Vec::new();
    action.records(NODE, Uuid([9; 16]), &mut records);
    write_batch(&records, 0).unwrap()
}

/// The image after batches of the catalog, all in one draft.
fn replay(image: &Image, batches: &[Vec<u8>]) -> Image {
    let mut draft = image.draft();
    for batch in batches {
        read_batch(&BatchView::parse(batch).unwrap(), |record| {
            draft.apply(record).unwrap();
            Ok::<_, CatalogError>(())
        })
        .unwrap();
    }
    draft.finish()
}

fn create(name: &str, n: u8, partitions: i32, own: &[(&str, &str)]) -> Action {
    Action::CreateTopic { name: name.to_owned(), id: id(n), partitions, configs: configs(own) }
}

#[test]
fn a_topic_is_found_by_name_and_id_and_its_partitions_are_spread() {
    let image =
        after(&empty(), &[create("t", 7, 4, &[("retention.ms", "5")]), create("__consumer_offsets", 8, 1, &[])]);
    let topic = image.topic("t").unwrap();
    assert!(Arc::ptr_eq(topic, image.topic_by_id(&id(7)).unwrap()));
    assert_eq!((topic.internal, topic.settings.retention_ms), (false, 5));
    assert!(image.topic("__consumer_offsets").unwrap().internal);
    let first = owner_core(&id(7), 0, 3);
    let cores: Vec<usize> = topic.partitions.iter().map(|partition| partition.core).collect();
    assert_eq!(cores, [first, (first + 1) % 3, (first + 2) % 3, first]);
    let partition = &topic.partitions[0];
    assert_eq!((partition.leader, partition.leader_epoch, partition.slot), (NODE, 0, UNPLACED));
    assert_eq!((partition.replicas.as_slice(), partition.isr.as_slice()), (&[NODE][..], &[NODE][..]));
    assert_eq!((image.partition_count(), image.applied()), (5, 6 + 2));
}

#[test]
fn a_draft_changes_nothing_until_it_is_finished_and_shares_what_stays() {
    let before = after(&empty(), &[create("a", 1, 1, &[]), create("b", 2, 1, &[])]);
    let mut draft = before.draft();
    draft.place(&id(2), 0, 17).unwrap();
    assert_eq!(before.topic("b").unwrap().partitions[0].slot, UNPLACED);
    let next = draft.finish();
    assert_eq!(next.topic("b").unwrap().partitions[0].slot, 17);
    assert_eq!(next.topic_by_id(&id(2)).unwrap().partitions[0].slot, 17);
    assert!(Arc::ptr_eq(before.topic("a").unwrap(), next.topic("a").unwrap()));
}

#[test]
fn a_name_may_be_used_again() {
    let image = after(&empty(), &[create("t", 1, 2, &[("retention.ms", "5")])]);
    let again = [bytes_of(&Action::DeleteTopic { id: id(1) }), bytes_of(&create("t", 2, 1, &[]))];
    let image = replay(&image, &again);
    assert!(image.topic_by_id(&id(1)).is_none());
    let topic = image.topic("t").unwrap();
    assert_eq!((topic.id, topic.partitions.len(), topic.configs.len()), (id(2), 1, 0));
    assert_eq!((image.partition_count(), image.topics().len()), (1, 1));
}

#[test]
fn a_default_of_all_topics_reaches_those_that_do_not_set_it() {
    let image = after(&empty(), &[create("own", 1, 1, &[("segment.bytes", "2000000")]), create("other", 2, 1, &[])]);
    let set = |target, value: Option<&str>| Action::SetConfigs {
        target,
        changes: vec![("log.segment.bytes".to_owned(), value.map(str::to_owned))],
    };
    let segment_bytes = |image: &Image, name: &str| image.topic(name).unwrap().settings.segment_bytes;
    let image = after(&image, &[set(ConfigTarget::AllBrokers, Some("3000000"))]);
    assert_eq!((segment_bytes(&image, "own"), segment_bytes(&image, "other")), (2_000_000, 3_000_000));
    let image = after(&image, &[set(ConfigTarget::Broker("1".to_owned()), Some("4000000"))]);
    assert_eq!(segment_bytes(&image, "other"), 4_000_000);
    let image = after(&image, &[set(ConfigTarget::Broker("1".to_owned()), None), set(ConfigTarget::AllBrokers, None)]);
    assert_eq!(segment_bytes(&image, "other"), 1 << 30);
}

#[test]
fn leading_anew_raises_the_epoch() {
    let image = after(&empty(), &[create("t", 1, 2, &[]), Action::Lead { id: id(1), partitions: 2 }]);
    for partition in &image.topic("t").unwrap().partitions {
        assert_eq!((partition.leader, partition.leader_epoch, partition.partition_epoch), (NODE, 1, 1));
    }
}

#[test]
fn brokers_and_features() {
    let endpoint = Endpoint { listener: "PLAINTEXT".to_owned(), host: "h".to_owned(), port: 9 };
    let register = |rack: Option<&str>| Action::RegisterBroker {
        endpoints: vec![endpoint.clone()],
        rack: rack.map(str::to_owned),
        incarnation: id(5),
    };
    let feature = |level| Action::SetFeature { name: "metadata.version".to_owned(), level };
    let image = after(&empty(), &[register(None), register(Some("r")), feature(30)]);
    let expected = Broker { endpoints: vec![endpoint.clone()], rack: Some("r".to_owned()), fenced: false };
    assert_eq!(image.brokers(), &BTreeMap::from([(NODE, expected)]));
    assert_eq!(image.features()["metadata.version"], 30);
    assert_eq!((image.listener(0), image.listener(1)), ("PLAINTEXT", ""));
    assert!(after(&image, &[feature(0)]).features().is_empty());
}

#[test]
fn producer_ids_are_never_given_away_twice() {
    let reserve = |next| Action::ReserveProducerIds { next };
    assert_eq!(after(&empty(), &[reserve(2000), reserve(1000)]).next_producer_id(), 2000);
}

#[test]
fn contradictions_are_errors() {
    let image = after(&empty(), &[create("t", 1, 1, &[])]);
    let topic = |name, n| Record::Topic(TopicRecord { name, topic_id: id(n) });
    let partition = |n, partition_id| {
        Record::Partition(PartitionRecord { topic_id: id(n), partition_id, ..PartitionRecord::default() })
    };
    let config = |resource_type, resource_name| {
        Record::Config(ConfigRecord { resource_type, resource_name, name: "retention.ms", value: None })
    };
    let cases = [
        (topic("t", 2), ApplyError::TopicExists("t".to_owned())),
        (topic("u", 1), ApplyError::TopicExists("u".to_owned())),
        (partition(2, 0), ApplyError::NoSuchTopic(id(2).to_string())),
        (partition(1, 0), ApplyError::NoSuchPartition("t".to_owned(), 0)),
        (partition(1, 2), ApplyError::NoSuchPartition("t".to_owned(), 2)),
        (partition(1, -1), ApplyError::NoSuchPartition("t".to_owned(), -1)),
        (Record::RemoveTopic(RemoveTopicRecord { topic_id: id(2) }), ApplyError::NoSuchTopic(id(2).to_string())),
        (config(RESOURCE_TOPIC, "u"), ApplyError::NoSuchTopic("u".to_owned())),
        (config(RESOURCE_BROKER, "2"), ApplyError::NoSuchBroker("2".to_owned())),
        (config(7, ""), ApplyError::UnknownResource(7)),
    ];
    for (record, error) in cases {
        assert_eq!(image.draft().apply(&record), Err(error), "{record:?}");
    }
    assert_eq!(image.draft().place(&id(1), 1, 0), Err(ApplyError::NoSuchPartition("t".to_owned(), 1)));
}

/// What a topic comes to, kept in the plainest way.
#[derive(Debug, Default, Clone, PartialEq)]
struct Model {
    topics: BTreeMap<String, (Uuid, i32, Configs)>,
    defaults: Configs,
}

/// A step whose numbers choose among what is possible at that point.
#[derive(Debug, Clone)]
enum Step {
    Create { name: u8, partitions: i32, config: Option<u32> },
    Delete(u8),
    Grow(u8, i32),
    Configure(u8, Option<u32>),
    Default(Option<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop::option::of(any::<u32>());
    prop_oneof![
        (0..6_u8, 1..5, value.clone()).prop_map(|(name, partitions, config)| Step::Create { name, partitions, config }),
        (0..6_u8).prop_map(Step::Delete),
        (0..6_u8, 1..4).prop_map(|(name, more)| Step::Grow(name, more)),
        (0..6_u8, value.clone()).prop_map(|(name, value)| Step::Configure(name, value)),
        value.prop_map(Step::Default),
    ]
}

impl Model {
    /// The action of a step, if it is possible now; the model takes it into account.
    fn take(&mut self, step: &Step, next_id: u8) -> Option<Action> {
        let (Step::Create { name, .. } | Step::Delete(name) | Step::Grow(name, _) | Step::Configure(name, _)) = step
        else {
            let Step::Default(value) = step else { unreachable!() };
            let key = "log.retention.ms".to_owned();
            let value = value.map(|number| number.to_string());
            match &value {
                Some(value) => self.defaults.insert(key.clone(), value.clone()),
                None => self.defaults.remove(&key),
            };
            return Some(Action::SetConfigs { target: ConfigTarget::AllBrokers, changes: vec![(key, value)] });
        };
        let name = format!("topic-{name}");
        if let Step::Create { partitions, config, .. } = step {
            if self.topics.contains_key(&name) {
                return None;
            }
            let own: Configs = config.iter().map(|it| ("retention.ms".to_owned(), it.to_string())).collect();
            self.topics.insert(name.clone(), (id(next_id), *partitions, own.clone()));
            return Some(Action::CreateTopic { name, id: id(next_id), partitions: *partitions, configs: own });
        }
        let (topic, partitions, own) = self.topics.get_mut(&name)?;
        match step {
            Step::Delete(_) => {
                let id = *topic;
                self.topics.remove(&name);
                Some(Action::DeleteTopic { id })
            }
            Step::Grow(_, more) => {
                let from = *partitions;
                *partitions += more;
                Some(Action::AddPartitions { id: *topic, from, to: from + more })
            }
            Step::Configure(_, value) => {
                let key = "retention.ms".to_owned();
                let value = value.map(|number| number.to_string());
                match &value {
                    Some(value) => own.insert(key.clone(), value.clone()),
                    None => own.remove(&key),
                };
                Some(Action::SetConfigs { target: ConfigTarget::Topic(name), changes: vec![(key, value)] })
            }
            Step::Create { .. } | Step::Default(_) => unreachable!("handled above"),
        }
    }

    fn of(image: &Image) -> Model {
        let topic = |it: &Arc<Topic>| {
            (it.name.to_string(), (it.id, i32::try_from(it.partitions.len()).unwrap(), it.configs.clone()))
        };
        Model { topics: image.topics().map(topic).collect(), defaults: image.layers().dynamic_default.clone() }
    }
}

proptest! {
    /// However the catalog is cut into drafts, its replay gives the image that the broker had, and that image is what
    /// the decisions say.
    #[test]
    fn a_replay_gives_the_same_image(steps in prop::collection::vec(step(), 0..40)) {
        let mut model = Model::default();
        let mut actions = Vec::new();
        for (n, step) in (1..).zip(&steps) {
            actions.extend(model.take(step, n));
        }
        let live = after(&empty(), &actions);
        let replayed = replay(&empty(), &actions.iter().map(bytes_of).collect::<Vec<_>>());
        prop_assert_eq!(&live, &replayed);
        prop_assert_eq!(Model::of(&live), model.clone());
        let default = model.defaults.get("log.retention.ms").map_or(604_800_000, |it| it.parse().unwrap());
        for (name, (topic, partitions, own)) in &model.topics {
            let found = live.topic(name).unwrap();
            prop_assert!(Arc::ptr_eq(found, live.topic_by_id(topic).unwrap()));
            prop_assert_eq!(i32::try_from(found.partitions.len()), Ok(*partitions));
            let expected = own.get("retention.ms").map_or(default, |it| it.parse().unwrap());
            prop_assert_eq!(found.settings.retention_ms, expected);
        }
    }
}

#[test]
fn groups_and_brokers_have_configurations_in_force() {
    let set = |image: &Image, target: ConfigTarget, changes: &[(&str, Option<&str>)]| {
        let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
        after(image, &[Action::SetConfigs { target, changes }])
    };
    let group = || ConfigTarget::Group("g".to_owned());
    let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    let image = set(&empty(), group(), &[(session, Some("50000")), (heartbeat, Some("6000"))]);
    let options = image.consumer_group_options("g");
    assert_eq!((options.session_timeout.ms, options.heartbeat_interval.ms), (50_000, 6_000));
    assert_eq!(image.consumer_group_options("h").session_timeout.ms, 45_000);

    let key = "group.consumer.assignment.interval.ms";
    let image = set(&image, ConfigTarget::AllBrokers, &[(key, Some("7")), ("max.connections", Some("9"))]);
    assert_eq!((image.consumer_group_options("g").assignment_interval.ms, image.live().connections.all), (7, 9));
    let image = set(&image, ConfigTarget::Broker("1".to_owned()), &[(key, Some("8"))]);
    assert_eq!(image.consumer_group_options("g").assignment_interval.ms, 8);
    let image = set(&image, group(), &[("consumer.assignment.interval.ms", Some("9"))]);
    assert_eq!(image.consumer_group_options("g").assignment_interval.ms, 9);

    let image = set(&image, group(), &[(session, None), (heartbeat, None)]);
    assert_eq!(image.configured_groups().keys().collect::<Vec<_>>(), ["g"]);
    let image = set(&image, group(), &[("consumer.assignment.interval.ms", None)]);
    assert!(image.configured_groups().is_empty());
}
