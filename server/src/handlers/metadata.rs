//! Metadata (key 3), versions 0 to 13. What clients ask first: brokers, topics, partitions and their leaders.
//!
//! - Topics are asked by name or, from version 12, by id; one id in the request makes it one by ids alone. No topics at
//!   all means every topic in version 0 and none in later ones, where null means every topic.
//! - A topic that does not exist is created on the way if the client and the operator allow it: [`creations`] says
//!   which. The answer is made afterwards, from the image that has it.
//! - Owner core: any; creations core 0.

use std::collections::HashSet;

use tracing::info;
use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use wire::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

use super::admin::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, check_topic_name};
use super::create_topics;
use crate::api::{Request, RequestError};
use crate::config::options::TopicOptions;
use crate::connection::responses::Reply;
use crate::image::{CATALOG_TOPIC, INTERNAL_TOPICS, Image, Partition, Topic};
use crate::services::Services;
use crate::shard::Shard;

/// The first version in which a null means every topic.
const NULL_IS_ALL: i16 = 1;
/// The first version in which topics may be asked by id. The form has ids from version 10.
const BY_ID: i16 = 12;
/// The first version whose form has ids.
const HAS_IDS: i16 = 10;
/// The versions that tell what may be done with the cluster.
const CLUSTER_OPERATIONS_UNTIL: i16 = 10;

/// Answers a request, after the topics that it creates have been created.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: MetadataRequest<'_> = request.decode()?;
    let options = Services::of(&shard).options.topics;
    let names: Vec<String> = {
        let image = shard.image();
        creations(&asked, request.version, &image, &options).into_iter().map(str::to_owned).collect()
    };
    if !names.is_empty() {
        shard.run_on(0, move |core0| create(core0, names)).await;
    }
    let image = shard.image().clone();
    request.reply(&answer(&asked, request.version, &image, image.listener(request.listener)))
}

/// Creates topics with the broker's defaults, on core 0.
async fn create(core0: Shard, names: Vec<String>) {
    let services = Services::of(&core0);
    for name in names {
        let turn = services.controller().turn().await;
        let image = turn.image();
        let planned = create_topics::plan_default(&name, &image, &services.options.topics, || core0.reactor().random());
        let result = match planned {
            Ok(action) => turn.carry_out(vec![action]).await.map_err(|error| error.to_string()),
            // Another client was faster.
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => Ok(()),
            Err(refusal) => Err(refusal.message.unwrap_or_default().into_owned()),
        };
        if let Err(cause) = result {
            info!("the topic {name}, which a client asks for, is not created: {cause}");
        }
    }
}

/// The answer to a client that is connected through the listener of this name.
#[must_use]
pub fn answer<'a>(
    request: &MetadataRequest<'a>,
    version: i16,
    image: &'a Image,
    listener: &str,
) -> MetadataResponse<'a> {
    let asked = request.topics.as_deref().unwrap_or_default();
    if is_malformed(asked, version) {
        return malformed(asked);
    }
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { OPERATIONS_NOT_ASKED };
    let topics = if asks_for_all(request, version) {
        image.sorted_topics().into_iter().map(|topic| describe(topic, operations)).collect()
    } else if asked.iter().any(|topic| !topic.topic_id.is_zero()) {
        let mut seen = HashSet::new();
        let ids = asked.iter().map(|topic| topic.topic_id).filter(|id| !id.is_zero() && seen.insert(*id));
        ids.map(|id| match image.topic_by_id(&id) {
            Some(topic) => describe(topic, operations),
            None => refuse(ErrorCode::UnknownTopicId, None, id, OPERATIONS_NOT_ASKED),
        })
        .collect()
    } else {
        let mut seen = HashSet::new();
        let names = asked.iter().filter_map(|topic| topic.name).filter(|name| seen.insert(*name));
        names
            .map(|name| match image.topic(name) {
                Some(topic) => describe(topic, operations),
                None => {
                    let code = match check_topic_name(name) {
                        Ok(()) => ErrorCode::UnknownTopicOrPartition,
                        Err(refusal) => refusal.code,
                    };
                    refuse(code, Some(name), Uuid::ZERO, operations)
                }
            })
            .collect()
    };
    let tells_cluster = request.include_cluster_authorized_operations && version <= CLUSTER_OPERATIONS_UNTIL;
    MetadataResponse {
        brokers: brokers(image, listener),
        cluster_id: Some(image.cluster_id()),
        controller_id: image.node_id(),
        topics,
        cluster_authorized_operations: if tells_cluster { CLUSTER_OPERATIONS } else { OPERATIONS_NOT_ASKED },
        ..MetadataResponse::default()
    }
}

/// The names of topics that the request creates, each once: to be created with the broker's defaults, each on its own,
/// before the request is answered. Whatever fails is unknown in the answer, and the client asks again.
#[must_use]
pub fn creations<'a>(
    request: &MetadataRequest<'a>,
    version: i16,
    image: &Image,
    options: &TopicOptions,
) -> Vec<&'a str> {
    let asked = request.topics.as_deref().unwrap_or_default();
    let allowed = options.auto_create && request.allow_auto_topic_creation;
    let by_id = asked.iter().any(|topic| !topic.topic_id.is_zero());
    if !allowed || by_id || is_malformed(asked, version) {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let names = asked.iter().filter_map(|topic| topic.name);
    // The broker's own topics have settings of their own, and are created by what needs them.
    let may_be_created = |name: &str| {
        name != CATALOG_TOPIC
            && !INTERNAL_TOPICS.contains(&name)
            && check_topic_name(name).is_ok()
            && image.topic(name).is_none()
    };
    names.filter(|name| may_be_created(name) && seen.insert(*name)).collect()
}

fn asks_for_all(request: &MetadataRequest<'_>, version: i16) -> bool {
    match &request.topics {
        None => version >= NULL_IS_ALL,
        Some(topics) => version < NULL_IS_ALL && topics.is_empty(),
    }
}

/// Whether a topic has no name where names count, or an id where those do not count yet.
fn is_malformed(asked: &[MetadataRequestTopic<'_>], version: i16) -> bool {
    let by_id = asked.iter().any(|topic| !topic.topic_id.is_zero());
    let nameless = asked.iter().any(|topic| topic.name.is_none());
    match version {
        ..HAS_IDS => false,
        HAS_IDS..BY_ID => by_id || nameless,
        BY_ID.. => nameless && !by_id,
    }
}

fn malformed<'a>(asked: &[MetadataRequestTopic<'a>]) -> MetadataResponse<'a> {
    let code = ErrorCode::InvalidRequest;
    let refused = |topic: &MetadataRequestTopic<'a>| {
        refuse(code, Some(topic.name.unwrap_or_default()), topic.topic_id, OPERATIONS_NOT_ASKED)
    };
    MetadataResponse { topics: asked.iter().map(refused).collect(), ..MetadataResponse::default() }
}

fn refuse(code: ErrorCode, name: Option<&str>, id: Uuid, operations: i32) -> MetadataResponseTopic<'_> {
    MetadataResponseTopic {
        error_code: code as i16,
        name,
        topic_id: id,
        is_internal: name.is_some_and(|name| INTERNAL_TOPICS.contains(&name)),
        partitions: Vec::new(),
        topic_authorized_operations: operations,
    }
}

fn describe(topic: &Topic, operations: i32) -> MetadataResponseTopic<'_> {
    MetadataResponseTopic {
        error_code: ErrorCode::None as i16,
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: (0..)
            .zip(&topic.partitions)
            .map(|(index, partition)| describe_partition(index, partition))
            .collect(),
        topic_authorized_operations: operations,
    }
}

fn describe_partition(index: i32, partition: &Partition) -> MetadataResponsePartition {
    let code = if partition.leader < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
    MetadataResponsePartition {
        error_code: code as i16,
        partition_index: index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        offline_replicas: Vec::new(),
    }
}

fn brokers<'a>(image: &'a Image, listener: &str) -> Vec<MetadataResponseBroker<'a>> {
    let on_listener = image.brokers().iter().filter_map(|(id, broker)| {
        let endpoint = broker.endpoints.iter().find(|endpoint| endpoint.listener == listener)?;
        Some(MetadataResponseBroker {
            node_id: *id,
            host: &endpoint.host,
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref(),
        })
    });
    on_listener.collect()
}

#[cfg(test)]
mod tests {
    use wire::{Message, Reader};

    use super::super::test_image::{OPTIONS, id, image};
    use super::*;

    fn by_name(name: &str) -> MetadataRequestTopic<'_> {
        MetadataRequestTopic { name: Some(name), topic_id: Uuid::ZERO }
    }

    fn by_id(n: u8) -> MetadataRequestTopic<'static> {
        MetadataRequestTopic { name: None, topic_id: id(n) }
    }

    fn asking(topics: Option<Vec<MetadataRequestTopic<'_>>>) -> MetadataRequest<'_> {
        MetadataRequest { topics, ..MetadataRequest::default() }
    }

    /// Error, name and number of partitions of each topic in the answer.
    fn brief(request: &MetadataRequest<'_>, version: i16) -> Vec<(i16, Option<String>, usize)> {
        let image = image();
        let answer = answer(request, version, &image, "PLAINTEXT");
        let topic = |it: &MetadataResponseTopic<'_>| (it.error_code, it.name.map(str::to_owned), it.partitions.len());
        answer.topics.iter().map(topic).collect()
    }

    #[test]
    fn no_topics_mean_all_or_none() {
        let all = ["__consumer_offsets", "configured", "dot.ted", "plain"];
        let names = |request, version| -> Vec<String> {
            brief(&request, version).into_iter().filter_map(|(_, name, _)| name).collect()
        };
        assert_eq!(names(asking(Some(Vec::new())), 0), all);
        assert_eq!(names(asking(Some(Vec::new())), 1), [] as [&str; 0]);
        assert_eq!(names(asking(None), 1), all);
        assert_eq!(names(asking(None), 13), all);
    }

    #[test]
    fn every_topic_is_known_unknown_or_illegal() {
        let topics = ["nope", "plain", "a b", "plain", "__transaction_state"].map(by_name).to_vec();
        let text = |name: &str| Some(name.to_owned());
        assert_eq!(
            brief(&asking(Some(topics)), 13),
            [(3, text("nope"), 0), (0, text("plain"), 3), (17, text("a b"), 0), (3, text("__transaction_state"), 0)]
        );
        let topics = vec![by_id(3), by_id(77), by_name("plain"), by_id(3)];
        assert_eq!(brief(&asking(Some(topics)), 12), [(0, text("plain"), 3), (100, None, 0)]);
    }

    #[test]
    fn a_request_that_makes_no_sense_is_refused_whole() {
        let nameless = MetadataRequestTopic { name: None, topic_id: Uuid::ZERO };
        for (topics, version) in
            [(vec![by_name("plain"), by_id(3)], 10), (vec![nameless.clone()], 11), (vec![nameless], 13)]
        {
            let image = image();
            let request = asking(Some(topics));
            let answer = answer(&request, version, &image, "PLAINTEXT");
            assert!(answer.topics.iter().all(|topic| topic.error_code == 42), "{version}");
            assert_eq!((answer.brokers.len(), answer.cluster_id, answer.controller_id), (0, None, -1));
        }
    }

    #[test]
    fn brokers_are_told_as_the_client_sees_them() {
        let image = image();
        let endpoint = |listener: &str| {
            let answer = answer(&asking(None), 13, &image, listener);
            assert_eq!((answer.cluster_id, answer.controller_id), (Some("cluster-id"), 1));
            answer.brokers.first().map(|it| (it.node_id, it.host.to_owned(), it.port, it.rack.map(str::to_owned)))
        };
        let rack = Some("rack".to_owned());
        assert_eq!(endpoint("PLAINTEXT"), Some((1, "host".to_owned(), 9092, rack.clone())));
        assert_eq!(endpoint("OUTSIDE"), Some((1, "host".to_owned(), 19092, rack)));
        assert_eq!(endpoint("OTHER"), None);
    }

    #[test]
    fn operations_are_told_when_asked_for() {
        let image = image();
        let mut request = asking(Some(vec![by_name("plain"), by_name("nope")]));
        request.include_cluster_authorized_operations = true;
        request.include_topic_authorized_operations = true;
        let operations = |version| {
            let answer = answer(&request, version, &image, "PLAINTEXT");
            let topics: Vec<i32> = answer.topics.iter().map(|it| it.topic_authorized_operations).collect();
            (topics, answer.cluster_authorized_operations)
        };
        assert_eq!(operations(8), (vec![3576, 3576], 8096));
        request.include_cluster_authorized_operations = false;
        request.include_topic_authorized_operations = false;
        let answer = answer(&request, 8, &image, "PLAINTEXT");
        assert_eq!(
            (answer.topics[0].topic_authorized_operations, answer.cluster_authorized_operations),
            (i32::MIN, i32::MIN)
        );
    }

    #[test]
    fn every_version_can_be_encoded() {
        let image = image();
        let request = asking(Some(vec![by_name("plain"), by_name("nope"), by_name("__consumer_offsets")]));
        for version in 0..=13 {
            let mut bytes = Vec::new();
            answer(&request, version, &image, "PLAINTEXT").encode(&mut bytes, version).unwrap();
            let back = MetadataResponse::decode(&mut Reader::new(&bytes), version).unwrap();
            assert_eq!(back.topics[0].partitions.len(), 3);
            assert_eq!(back.topics[2].is_internal, version >= 1);
        }
    }

    #[test]
    fn topics_are_created_when_client_and_operator_agree() {
        let image = image();
        let names = ["new", "plain", "new", "a b", "__consumer_offsets", "__transaction_state", "__cluster_metadata"];
        let mut request = asking(Some(names.map(by_name).to_vec()));
        assert_eq!(creations(&request, 4, &image, &OPTIONS), ["new"]);
        assert_eq!(creations(&asking(None), 4, &image, &OPTIONS), [] as [&str; 0]);
        assert_eq!(creations(&request, 4, &image, &TopicOptions { auto_create: false, ..OPTIONS }), [] as [&str; 0]);
        request.allow_auto_topic_creation = false;
        assert_eq!(creations(&request, 4, &image, &OPTIONS), [] as [&str; 0]);
        let ids = asking(Some(vec![by_name("new"), by_id(3)]));
        assert_eq!(creations(&ids, 12, &image, &OPTIONS), [] as [&str; 0]);
    }
}
