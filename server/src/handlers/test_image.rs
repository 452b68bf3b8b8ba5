//! Images for the tests of the admin handlers.

use std::sync::Arc;

use wire::Uuid;

use crate::catalog::{Action, ConfigTarget};
use crate::config::options::TopicOptions;
use crate::config::topic::Configs;
use crate::image::{Endpoint, Image};

/// The broker's defaults.
pub(crate) const OPTIONS: TopicOptions =
    TopicOptions { auto_create: true, may_delete: true, num_partitions: 1, replication_factor: 1 };

/// The id of the n-th topic of [`image`].
pub(crate) fn id(n: u8) -> Uuid {
    Uuid([n; 16])
}

/// Broker 1 with the topics `configured` (1), `dot.ted` (2), `plain` (3, with 3 partitions) and `__consumer_offsets`
/// (4). The group `configured` has a session timeout of its own.
pub(crate) fn image() -> Image {
    image_with(&[], &[])
}

/// The same with settings of the operator and settings of all brokers.
pub(crate) fn image_with(fixed: &[(&str, &str)], all_brokers: &[(&str, &str)]) -> Image {
    let configs = |pairs: &[(&str, &str)]| -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let create = |name: &str, n, partitions, own: &[(&str, &str)]| Action::CreateTopic {
        name: name.to_owned(),
        id: id(n),
        partitions,
        configs: configs(own),
    };
    let endpoint = |listener: &str, port| Endpoint { listener: listener.to_owned(), host: "host".to_owned(), port };
    let actions = [
        Action::RegisterBroker {
            endpoints: vec![endpoint("PLAINTEXT", 9092), endpoint("OUTSIDE", 19092)],
            rack: Some("rack".to_owned()),
            incarnation: id(9),
        },
        create("configured", 1, 1, &[("retention.ms", "1000")]),
        create("dot.ted", 2, 1, &[]),
        create("plain", 3, 3, &[]),
        create("__consumer_offsets", 4, 1, &[]),
        Action::SetConfigs {
            target: ConfigTarget::AllBrokers,
            changes: all_brokers.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect(),
        },
        Action::SetConfigs {
            target: ConfigTarget::Group("configured".to_owned()),
            changes: vec![("consumer.session.timeout.ms".to_owned(), Some(" 50000".to_owned()))],
        },
    ];
    let empty = Image::new("cluster-id", 1, 2, Arc::new(configs(fixed)));
    let mut draft = empty.draft();
    for action in &actions {
        let mut records = Vec::new();
        action.records(1, id(8), &mut records);
        for record in &records {
            draft.apply(record).expect("the actions fit each other");
        }
    }
    draft.finish()
}
