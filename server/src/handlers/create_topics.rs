//! CreateTopics (key 19), versions 0 to 7.
//!
//! - A topic is created with a number of partitions or with the brokers of each partition. -1 for both numbers means
//!   the broker's defaults. There is one broker, so every partition has one replica.
//! - Refused: names that are illegal, taken, or differ from another topic's in dots and underscores only; unknown or
//!   illegal configurations; names that occur twice in the request; more than 10,000 partitions in one request.
//! - `validate_only` does all but the creation. Version 5 and later answer with the configurations in force, 7 with the
//!   id.
//! - Owner core: 0.

use std::mem;

use wire::error::ErrorCode;
use wire::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse};

use super::admin::{
    Plan, Refusal, TOO_MANY_PARTITIONS, Texts, check_assignment, check_size, check_topic_name, count_by, names_collide,
};
use crate::api::{Request, RequestError};
use crate::catalog::{Action, new_topic_id};
use crate::config::options::TopicOptions;
use crate::config::topic::{Configs, Effect, TOPIC_CONFIGS, validate};
use crate::connection::responses::Reply;
use crate::image::{CATALOG_TOPIC, Image};
use crate::limits::METADATA_RECORDS;
use crate::services::Services;
use crate::shard::Shard;

/// Answers a request, after its plan has been carried out. On core 0.
pub async fn handle(core0: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: CreateTopicsRequest<'_> = request.decode()?;
    let (services, texts) = (Services::of(&core0), Texts::new());
    let turn = services.controller().turn().await;
    let image = turn.image();
    let mut plan = plan(&asked, &image, &services.options.topics, || core0.reactor().random(), &texts);
    if let Err(error) = turn.carry_out(mem::take(&mut plan.actions)).await {
        fail(&mut plan.response, error.code());
    }
    request.reply(&plan.response)
}

/// Plans the creation of topics. `random` gives 64 random bits at each call.
pub fn plan<'a>(
    request: &CreateTopicsRequest<'a>,
    image: &Image,
    options: &TopicOptions,
    mut random: impl FnMut() -> u64,
    texts: &'a Texts,
) -> Plan<CreateTopicsResponse<'a>> {
    let counts = count_by(request.topics.iter().map(|topic| topic.name));
    let mut seen = std::collections::HashSet::new();
    let mut topics = Vec::new();
    let mut actions = Vec::new();
    let too_many = total_partitions(request, options) > METADATA_RECORDS as u64;
    for topic in request.topics.iter().filter(|topic| seen.insert(topic.name)) {
        let checked = if counts[topic.name] > 1 {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else if too_many {
            Err(Refusal::new(ErrorCode::PolicyViolation, TOO_MANY_PARTITIONS))
        } else {
            check(topic, image, options)
        };
        topics.push(match checked {
            Ok((partitions, configs)) => {
                let id = new_topic_id(&mut random);
                let described = describe_configs(&configs, image, texts);
                actions.push(Action::CreateTopic { name: topic.name.to_owned(), id, partitions, configs });
                CreatableTopicResult {
                    name: topic.name,
                    topic_id: id,
                    num_partitions: partitions,
                    replication_factor: 1,
                    error_message: None,
                    configs: Some(described),
                    ..CreatableTopicResult::default()
                }
            }
            Err(refusal) => refuse(topic.name, refusal, texts),
        });
    }
    if let Err(refusal) = check_size(&actions) {
        actions.clear();
        for topic in topics.iter_mut().filter(|topic| topic.error_code == ErrorCode::None as i16) {
            *topic = refuse(topic.name, refusal.clone(), texts);
        }
    }
    if request.validate_only {
        actions.clear();
    }
    Plan { response: CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }, actions }
}

/// The creation of one topic with the broker's defaults, as a client's question for it causes it.
pub fn plan_default(
    name: &str,
    image: &Image,
    options: &TopicOptions,
    random: impl FnMut() -> u64,
) -> Result<Action, Refusal> {
    let topic = CreatableTopic {
        name,
        num_partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    };
    let (partitions, configs) = check(&topic, image, options)?;
    let action = Action::CreateTopic { name: name.to_owned(), id: new_topic_id(random), partitions, configs };
    check_size(std::slice::from_ref(&action)).map(|()| action)
}

/// Makes the response one of failure, for a plan that could not be carried out.
pub fn fail(response: &mut CreateTopicsResponse<'_>, code: ErrorCode) {
    for topic in response.topics.iter_mut().filter(|topic| topic.error_code == ErrorCode::None as i16) {
        *topic = CreatableTopicResult {
            name: topic.name,
            error_code: code as i16,
            error_message: Some(code.message()),
            ..CreatableTopicResult::default()
        };
    }
}

fn refuse<'a>(name: &'a str, refusal: Refusal, texts: &'a Texts) -> CreatableTopicResult<'a> {
    let (error_code, error_message) = refusal.parts(texts);
    CreatableTopicResult { name, error_code, error_message, ..CreatableTopicResult::default() }
}

fn total_partitions(request: &CreateTopicsRequest<'_>, options: &TopicOptions) -> u64 {
    let count = |topic: &CreatableTopic<'_>| match topic.num_partitions {
        -1 if !topic.assignments.is_empty() => topic.assignments.len() as u64,
        -1 => u64::from(options.num_partitions.unsigned_abs()),
        number => u64::try_from(number).unwrap_or(0),
    };
    request.topics.iter().map(count).sum()
}

/// The number of partitions and the configurations of a topic that may be created.
fn check(topic: &CreatableTopic<'_>, image: &Image, options: &TopicOptions) -> Result<(i32, Configs), Refusal> {
    let name = topic.name;
    if name == CATALOG_TOPIC {
        let sentence = format!("Creation of internal topic {name} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, sentence));
    }
    if image.topic(name).is_some() {
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    check_topic_name(name)?;
    if name.contains(['.', '_'])
        && let Some(other) = image.topics().find(|other| names_collide(&other.name, name))
    {
        let sentence = format!("Topic '{name}' collides with existing topic: {}", other.name);
        return Err(Refusal::new(ErrorCode::InvalidTopicException, sentence));
    }
    let configs = check_configs(topic, image)?;
    let partitions = check_partitions(topic, image, options)?;
    Ok((partitions, configs))
}

fn check_configs(topic: &CreatableTopic<'_>, image: &Image) -> Result<Configs, Refusal> {
    let nulls: Vec<&str> = topic.configs.iter().filter(|config| config.value.is_none()).map(|it| it.name).collect();
    if !nulls.is_empty() {
        let sentence = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(Refusal::new(ErrorCode::InvalidConfig, sentence));
    }
    // Of two values for one key the last counts, as in Kafka.
    let own = topic.configs.iter().filter_map(|it| Some((it.name.to_owned(), it.value?.to_owned())));
    let configs: Configs = own.collect();
    validate(&configs, image.layers()).map_err(|sentence| Refusal::new(ErrorCode::InvalidConfig, sentence))?;
    Ok(configs)
}

fn check_partitions(topic: &CreatableTopic<'_>, image: &Image, options: &TopicOptions) -> Result<i32, Refusal> {
    if !topic.assignments.is_empty() {
        return check_assignments(topic, image);
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ));
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ));
    }
    let replicas = if topic.replication_factor == -1 { options.replication_factor } else { topic.replication_factor };
    if replicas > 1 {
        let sentence = format!(
            "Unable to replicate the partition {replicas} time(s): The target replication factor of {replicas} cannot be \
             reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, sentence));
    }
    Ok(if topic.num_partitions == -1 { options.num_partitions } else { topic.num_partitions })
}

fn check_assignments(topic: &CreatableTopic<'_>, image: &Image) -> Result<i32, Refusal> {
    let manual = |what| {
        let sentence = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Refusal::new(ErrorCode::InvalidRequest, sentence)
    };
    if topic.replication_factor != -1 {
        return Err(manual("replication factor"));
    }
    if topic.num_partitions != -1 {
        return Err(manual("numPartitions"));
    }
    let invalid = |sentence: String| Refusal::new(ErrorCode::InvalidReplicaAssignment, sentence);
    let mut indexes = std::collections::BTreeSet::new();
    let mut replicas = None;
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        if !indexes.insert(index) {
            return Err(invalid(format!("Found multiple manual partition assignments for partition {index}")));
        }
        check_assignment(&assignment.broker_ids, image.node_id(), replicas)?;
        replicas = Some(assignment.broker_ids.len());
    }
    if !indexes.iter().copied().eq((0..).take(indexes.len())) {
        return Err(invalid("partitions should be a consecutive 0-based integer sequence".to_owned()));
    }
    // The request's size bounds the number of assignments.
    Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX))
}

/// The configurations in force, by name.
fn describe_configs<'a>(own: &Configs, image: &Image, texts: &'a Texts) -> Vec<CreatableTopicConfigs<'a>> {
    let shown = TOPIC_CONFIGS.iter().filter(|row| row.effect != Effect::Internal || own.contains_key(row.name));
    let describe = |row: &'static crate::config::topic::TopicConfig| {
        let (value, source) = row.effective(own, image.layers());
        // The topic's own are told as they were given.
        let value = own.get(row.name).cloned().or(value);
        CreatableTopicConfigs {
            name: row.name,
            value: value.map(|value| texts.push_get(value)),
            read_only: false,
            config_source: source as i8,
            is_sensitive: false,
        }
    };
    shown.map(describe).collect()
}

#[cfg(test)]
mod tests {
    use wire::Message;
    use wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};

    use super::super::test_image::{OPTIONS, image, image_with};
    use super::*;

    fn topic(name: &str) -> CreatableTopic<'_> {
        CreatableTopic { name, num_partitions: 1, replication_factor: 1, assignments: Vec::new(), configs: Vec::new() }
    }

    fn with<'a>(name: &'a str, configs: &[(&'a str, Option<&'a str>)]) -> CreatableTopic<'a> {
        let config = |it: &(&'a str, Option<&'a str>)| CreatableTopicConfig { name: it.0, value: it.1 };
        CreatableTopic { configs: configs.iter().map(config).collect(), ..topic(name) }
    }

    fn assigned<'a>(name: &'a str, assignments: &[(i32, &[i32])]) -> CreatableTopic<'a> {
        let assignment =
            |it: &(i32, &[i32])| CreatableReplicaAssignment { partition_index: it.0, broker_ids: it.1.to_vec() };
        CreatableTopic {
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments.iter().map(assignment).collect(),
            ..topic(name)
        }
    }

    fn request(topics: Vec<CreatableTopic<'_>>) -> CreateTopicsRequest<'_> {
        CreateTopicsRequest { topics, ..CreateTopicsRequest::default() }
    }

    fn random() -> impl FnMut() -> u64 {
        let mut last = 0;
        move || {
            last += 1;
            last
        }
    }

    fn planned<'a>(request: &CreateTopicsRequest<'a>, texts: &'a Texts) -> Plan<CreateTopicsResponse<'a>> {
        plan(request, &image(), &OPTIONS, random(), texts)
    }

    #[test]
    fn topics_are_created_as_asked() {
        let texts = Texts::new();
        let mut request = request(vec![
            CreatableTopic {
                num_partitions: 3,
                ..with("a", &[("retention.ms", Some(" 5 ")), ("retention.ms", Some("6"))])
            },
            CreatableTopic { num_partitions: -1, replication_factor: -1, ..topic("b") },
            assigned("c", &[(1, &[1]), (0, &[1])]),
        ]);
        let plan_of = planned(&request, &texts);
        let ids: Vec<_> = plan_of.response.topics.iter().map(|it| it.topic_id).collect();
        let create = |at: usize, name: &str, partitions, configs: Configs| Action::CreateTopic {
            name: name.to_owned(),
            id: ids[at],
            partitions,
            configs,
        };
        let own = Configs::from([("retention.ms".to_owned(), "6".to_owned())]);
        assert_eq!(
            plan_of.actions,
            [create(0, "a", 3, own), create(1, "b", 1, Configs::new()), create(2, "c", 2, Configs::new())]
        );
        let counts: Vec<_> =
            plan_of.response.topics.iter().map(|it| (it.num_partitions, it.replication_factor)).collect();
        assert_eq!(counts, [(3, 1), (1, 1), (2, 1)]);
        assert!(ids[0] != ids[1] && !ids[0].is_zero());
        assert!(plan_of.response.topics.iter().all(|it| it.error_code == 0 && it.error_message.is_none()));
        for version in 2..=7 {
            plan_of.response.encode(&mut Vec::new(), version).unwrap();
        }
        request.validate_only = true;
        let only = planned(&request, &texts);
        assert_eq!((only.actions.len(), only.response.topics[0].error_code), (0, 0));
    }

    #[test]
    fn the_configurations_in_force_are_told() {
        let texts = Texts::new();
        let image = image_with(&[("log.segment.bytes", "2000000")], &[("log.retention.ms", "7")]);
        let request = request(vec![with("a", &[("cleanup.policy", Some("delete, compact"))])]);
        let plan = plan(&request, &image, &OPTIONS, random(), &texts);
        let configs = plan.response.topics[0].configs.as_deref().unwrap();
        assert!(configs.is_sorted_by_key(|it| it.name));
        assert_eq!(configs.len(), TOPIC_CONFIGS.len() - 1, "all but the internal one");
        let row = |name| configs.iter().find(|it| it.name == name).map(|it| (it.value.unwrap(), it.config_source));
        assert_eq!(row("cleanup.policy"), Some(("delete, compact", 1)));
        assert_eq!(row("retention.ms"), Some(("7", 3)));
        assert_eq!(row("segment.bytes"), Some(("2000000", 4)));
        assert_eq!(row("segment.ms"), Some(("604800000", 5)));
    }

    #[test]
    fn what_is_refused_is_said_in_kafkas_words() {
        let texts = Texts::new();
        let one = |partitions, replicas| CreatableTopic {
            num_partitions: partitions,
            replication_factor: replicas,
            ..topic("a")
        };
        let cases = [
            (topic("plain"), 36, "Topic 'plain' already exists."),
            (topic("dot.ted"), 36, "Topic 'dot.ted' already exists."),
            (topic("dot_ted"), 17, "Topic 'dot_ted' collides with existing topic: dot.ted"),
            (topic(""), 17, "Topic name is invalid: the empty string is not allowed"),
            (topic("__cluster_metadata"), 42, "Creation of internal topic __cluster_metadata is prohibited."),
            (one(0, 1), 37, "Number of partitions was set to an invalid non-positive value."),
            (one(-5, 1), 37, "Number of partitions was set to an invalid non-positive value."),
            (one(1, 0), 38, "Replication factor must be larger than 0, or -1 to use the default value."),
            (
                one(1, 3),
                38,
                "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached \
                 because only 1 broker(s) are registered or some brokers have all their log directories cordoned.",
            ),
            (
                with("a", &[("retention.ms", None), ("segment.ms", None)]),
                40,
                "Null value not supported for topic configs: retention.ms,segment.ms",
            ),
            (with("a", &[("bogus", Some("1"))]), 40, "Unknown topic config name: bogus"),
            (
                with("a", &[("compression.type", Some("brotli"))]),
                40,
                "Invalid value brotli for configuration compression.type: String must be one of: uncompressed, zstd, \
                 lz4, snappy, gzip, producer",
            ),
            (
                CreatableTopic { num_partitions: 1, ..assigned("a", &[(0, &[1])]) },
                42,
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            ),
            (
                CreatableTopic { replication_factor: 1, ..assigned("a", &[(0, &[1])]) },
                42,
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            ),
            (assigned("a", &[(0, &[1]), (0, &[1])]), 39, "Found multiple manual partition assignments for partition 0"),
            (assigned("a", &[(1, &[1])]), 39, "partitions should be a consecutive 0-based integer sequence"),
            (assigned("a", &[(-1, &[1])]), 39, "partitions should be a consecutive 0-based integer sequence"),
            (
                assigned("a", &[(0, &[2])]),
                39,
                "The manual partition assignment includes broker 2, but no such broker is registered.",
            ),
            (one(10_001, 1), 44, "Excessively large number of partitions per request."),
        ];
        for (topic, code, sentence) in cases {
            let request = request(vec![topic]);
            let plan = planned(&request, &texts);
            let result = &plan.response.topics[0];
            assert_eq!((result.error_code, result.error_message), (code, Some(sentence)), "{request:?}");
            assert_eq!((result.num_partitions, result.replication_factor, plan.actions.len()), (-1, -1, 0));
        }
    }

    #[test]
    fn topics_of_one_request_stand_for_themselves() {
        let texts = Texts::new();
        let request = request(vec![topic("twice"), topic("good"), topic("plain"), topic("twice")]);
        let mut plan = planned(&request, &texts);
        let codes = |plan: &Plan<CreateTopicsResponse<'_>>| -> Vec<(String, i16)> {
            plan.response.topics.iter().map(|it| (it.name.to_owned(), it.error_code)).collect()
        };
        let text = str::to_owned;
        assert_eq!(codes(&plan), [(text("twice"), 42), (text("good"), 0), (text("plain"), 36)]);
        assert_eq!(plan.actions.len(), 1);
        fail(&mut plan.response, ErrorCode::KafkaStorageError);
        assert_eq!(codes(&plan), [(text("twice"), 42), (text("good"), 56), (text("plain"), 36)]);
        assert!(plan.response.topics[1].topic_id.is_zero());
    }

    #[test]
    fn too_much_for_one_request_is_refused_whole() {
        let texts = Texts::new();
        let big = |name| CreatableTopic { num_partitions: 6_000, ..topic(name) };
        let request = request(vec![big("a"), big("b")]);
        let plan = planned(&request, &texts);
        assert!(plan.actions.is_empty() && plan.response.topics.iter().all(|it| it.error_code == 44));
        // Ten thousand partitions are allowed, but no record beside theirs.
        let most = CreateTopicsRequest {
            topics: vec![CreatableTopic { num_partitions: 10_000, ..topic("a") }],
            ..CreateTopicsRequest::default()
        };
        let plan = planned(&most, &texts);
        assert_eq!(plan.response.topics[0].error_code, 44);
    }

    #[test]
    fn a_topic_with_the_brokers_defaults() {
        let options = TopicOptions { num_partitions: 4, ..OPTIONS };
        let Ok(Action::CreateTopic { name, partitions, .. }) = plan_default("new", &image(), &options, random()) else {
            panic!("refused");
        };
        assert_eq!((name.as_str(), partitions), ("new", 4));
        let options = TopicOptions { replication_factor: 3, ..OPTIONS };
        let refusal = plan_default("new", &image(), &options, random()).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidReplicationFactor);
        assert_eq!(
            plan_default("plain", &image(), &OPTIONS, random()).unwrap_err().code,
            ErrorCode::TopicAlreadyExists
        );
    }
}
