//! IncrementalAlterConfigs (key 44), versions 0 and 1, and AlterConfigs (key 33), versions 0 to 2.
//!
//! - The incremental one sets, deletes, appends to and subtracts from single keys (KIP-339). The other replaces all
//!   keys of a resource: what it does not name is removed.
//! - Resources are topics, groups, which need not exist, this broker, and all brokers (the empty name). For brokers only
//!   settings that may change while they run are accepted; unknown ones are refused too, which Kafka would store.
//! - The levels of this broker's loggers are changed at once, for all cores, and by the incremental one only (KIP-412).
//! - Each resource stands for itself: one that is refused does not hinder the others.
//! - Owner core: 0.

use std::collections::HashSet;
use std::mem;

use wire::error::ErrorCode;
use wire::messages::alter_configs_request::AlterConfigsRequest;
use wire::messages::alter_configs_response::{self, AlterConfigsResponse};
use wire::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use wire::messages::incremental_alter_configs_response::{self, IncrementalAlterConfigsResponse};

use super::admin::{Plan, Refusal, Texts, check_size, check_topic_name, count_by};
use super::describe_configs::RESOURCE_BROKER_LOGGER;
use crate::api::{Request, RequestError};
use crate::catalog::{Action, ConfigTarget};
use crate::config::kafka_keys;
use crate::config::kind::{Value, parse_named};
use crate::config::live::{self, LiveSettings};
use crate::config::settings;
use crate::config::topic::{self, Configs, Layers, validate};
use crate::connection::responses::Reply;
use crate::image::{Image, RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::limits::CONFIGURED_GROUPS;
use crate::loggers::{self, Level, Loggers};
use crate::services::Services;
use crate::shard::Shard;

/// Answers a request, after its plan has been carried out. On core 0.
pub async fn handle_incremental(core0: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: IncrementalAlterConfigsRequest<'_> = request.decode()?;
    let (services, texts) = (Services::of(&core0), Texts::new());
    let turn = services.controller().turn().await;
    let image = turn.image();
    let (mut plan, levels) = plan_incremental(&asked, &image, &texts);
    if !levels.is_empty() {
        services.options.loggers.set(&levels);
    }
    if let Err(error) = turn.carry_out(mem::take(&mut plan.actions)).await {
        fail_incremental(&mut plan.response, error.code());
    }
    request.reply(&plan.response)
}

/// Answers a request, after its plan has been carried out. On core 0.
pub async fn handle_replacing(core0: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: AlterConfigsRequest<'_> = request.decode()?;
    let (services, texts) = (Services::of(&core0), Texts::new());
    let turn = services.controller().turn().await;
    let image = turn.image();
    let mut plan = plan_replacing(&asked, &image, &texts);
    if let Err(error) = turn.carry_out(mem::take(&mut plan.actions)).await {
        fail_replacing(&mut plan.response, error.code());
    }
    request.reply(&plan.response)
}

/// A logger that gets a level of its own, or loses it.
pub type LevelChange = (&'static str, Option<Level>);

/// Plans changes of single keys, and of the levels of loggers.
pub fn plan_incremental<'a>(
    request: &IncrementalAlterConfigsRequest<'a>,
    image: &Image,
    texts: &'a Texts,
) -> (Plan<IncrementalAlterConfigsResponse<'a>>, Vec<LevelChange>) {
    let resources = request.resources.iter().map(|resource| Resource {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: resource.configs.iter().map(|it| (it.name, it.config_operation, it.value)).collect(),
    });
    let (outcomes, actions, levels) = plan(&resources.collect::<Vec<_>>(), Mode::Incremental, image, texts);
    let response = |outcome: Outcome<'a>| incremental_alter_configs_response::AlterConfigsResourceResponse {
        error_code: outcome.error_code,
        error_message: outcome.error_message,
        resource_type: outcome.kind,
        resource_name: outcome.name,
    };
    let responses = outcomes.into_iter().map(response).collect();
    let response = IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() };
    if request.validate_only {
        return (Plan { response, actions: Vec::new() }, Vec::new());
    }
    (Plan { response, actions }, levels)
}

/// Plans the replacement of all keys.
pub fn plan_replacing<'a>(
    request: &AlterConfigsRequest<'a>,
    image: &Image,
    texts: &'a Texts,
) -> Plan<AlterConfigsResponse<'a>> {
    let resources = request.resources.iter().map(|resource| Resource {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: resource.configs.iter().map(|it| (it.name, operation::SET, it.value)).collect(),
    });
    let (outcomes, actions, _) = plan(&resources.collect::<Vec<_>>(), Mode::Replacing, image, texts);
    let response = |outcome: Outcome<'a>| alter_configs_response::AlterConfigsResourceResponse {
        error_code: outcome.error_code,
        error_message: outcome.error_message,
        resource_type: outcome.kind,
        resource_name: outcome.name,
    };
    let responses = outcomes.into_iter().map(response).collect();
    let response = AlterConfigsResponse { responses, ..AlterConfigsResponse::default() };
    Plan { response, actions: if request.validate_only { Vec::new() } else { actions } }
}

/// Makes the response one of failure, for a plan that could not be carried out. Levels of loggers are no part of it.
pub fn fail_incremental(response: &mut IncrementalAlterConfigsResponse<'_>, code: ErrorCode) {
    let of_plan = response.responses.iter_mut().filter(|it| it.resource_type != RESOURCE_BROKER_LOGGER);
    for resource in of_plan.filter(|it| it.error_code == ErrorCode::None as i16) {
        (resource.error_code, resource.error_message) = (code as i16, Some(code.message()));
    }
}

/// Makes the response one of failure, for a plan that could not be carried out.
pub fn fail_replacing(response: &mut AlterConfigsResponse<'_>, code: ErrorCode) {
    for resource in response.responses.iter_mut().filter(|it| it.error_code == ErrorCode::None as i16) {
        (resource.error_code, resource.error_message) = (code as i16, Some(code.message()));
    }
}

/// What is to be done to a key (`AlterConfigOp.OpType` in Kafka).
mod operation {
    pub(super) const SET: i8 = 0;
    pub(super) const DELETE: i8 = 1;
    pub(super) const APPEND: i8 = 2;
    pub(super) const SUBTRACT: i8 = 3;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Incremental,
    Replacing,
}

/// A resource of either request.
struct Resource<'a> {
    kind: i8,
    name: &'a str,
    /// Key, operation, value.
    changes: Vec<(&'a str, i8, Option<&'a str>)>,
}

/// What becomes of a resource, in the form of either response.
struct Outcome<'a> {
    kind: i8,
    name: &'a str,
    error_code: i16,
    error_message: Option<&'a str>,
}

fn plan<'a>(
    resources: &[Resource<'a>],
    mode: Mode,
    image: &Image,
    texts: &'a Texts,
) -> (Vec<Outcome<'a>>, Vec<Action>, Vec<LevelChange>) {
    let counts = count_by(resources.iter().map(|resource| (resource.kind, resource.name)));
    let mut outcomes = Vec::new();
    let mut actions = Vec::new();
    let mut levels = Vec::new();
    for resource in resources {
        let (kind, name) = (resource.kind, resource.name);
        let checked = if counts[&(kind, name)] > 1 {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once."))
        } else {
            check(resource, mode, image)
        };
        let (error_code, error_message) = match checked {
            Ok(change) => {
                match change {
                    Change::Nothing => {}
                    Change::Decided(action) => actions.push(action),
                    Change::Levels(changes) => levels.extend(changes),
                }
                (ErrorCode::None as i16, None)
            }
            Err(refusal) => refusal.parts(texts),
        };
        outcomes.push(Outcome { kind, name, error_code, error_message });
    }
    if let Err(refusal) = check_size(&actions) {
        actions.clear();
        let (code, message) = refusal.parts(texts);
        let of_plan = outcomes.iter_mut().filter(|outcome| outcome.kind != RESOURCE_BROKER_LOGGER);
        for outcome in of_plan.filter(|outcome| outcome.error_code == ErrorCode::None as i16) {
            (outcome.error_code, outcome.error_message) = (code, message);
        }
    }
    (outcomes, actions, levels)
}

/// What a request comes to for one resource.
enum Change {
    Nothing,
    Decided(Action),
    Levels(Vec<LevelChange>),
}

fn check(resource: &Resource<'_>, mode: Mode, image: &Image) -> Result<Change, Refusal> {
    let invalid = |sentence: String| Refusal::new(ErrorCode::InvalidRequest, sentence);
    let mut keys = HashSet::new();
    if !resource.changes.iter().all(|(key, _, _)| keys.insert(*key)) {
        return Err(invalid("Error due to duplicate config keys".to_owned()));
    }
    let needs_value = |operation: i8| operation != operation::DELETE;
    let nulls = resource.changes.iter().filter(|(_, operation, value)| needs_value(*operation) && value.is_none());
    let nulls: Vec<&str> = nulls.map(|(key, _, _)| *key).collect();
    if !nulls.is_empty() {
        return Err(invalid(format!("Null value not supported for : {}", nulls.join(","))));
    }
    let (name, none) = (resource.name, Configs::new());
    let (current, target) = match resource.kind {
        RESOURCE_TOPIC if name.is_empty() => {
            return Err(invalid("Default topic resources are not allowed.".to_owned()));
        }
        RESOURCE_TOPIC => {
            check_topic_name(name)?;
            let Some(topic) = image.topic(name) else {
                let sentence = format!("The topic '{name}' does not exist.");
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, sentence));
            };
            (&topic.configs, ConfigTarget::Topic(name.to_owned()))
        }
        RESOURCE_BROKER if name.is_empty() => (image.layers().dynamic_default, ConfigTarget::AllBrokers),
        RESOURCE_BROKER => {
            let id = name.parse::<i32>();
            let id = id.map_err(|_| invalid(format!("Node id must be an integer, but it is: {name}")))?;
            if id != image.node_id() {
                let expected = image.node_id();
                return Err(invalid(format!("Unexpected broker id, expected {expected}, but received {name}")));
            }
            (image.layers().dynamic_broker, ConfigTarget::Broker(id.to_string()))
        }
        RESOURCE_GROUP if name.is_empty() => {
            return Err(invalid("Default group resources are not allowed.".to_owned()));
        }
        RESOURCE_GROUP => {
            let groups = image.configured_groups();
            if groups.len() >= CONFIGURED_GROUPS && !groups.contains_key(name) && !resource.changes.is_empty() {
                let sentence = format!("{CONFIGURED_GROUPS} groups have configurations; no more may.");
                return Err(Refusal::new(ErrorCode::PolicyViolation, sentence));
            }
            (groups.get(name).unwrap_or(&none), ConfigTarget::Group(name.to_owned()))
        }
        RESOURCE_BROKER_LOGGER if mode == Mode::Incremental => {
            return check_loggers(resource, image).map(Change::Levels);
        }
        other => return Err(invalid(format!("Unknown resource type {other}"))),
    };
    let next = apply(resource, mode, current, image)?;
    let bad = |sentence: String| Refusal::new(ErrorCode::InvalidConfig, sentence);
    match target {
        ConfigTarget::Topic(_) => validate(&next, image.layers()).map_err(bad)?,
        ConfigTarget::Group(_) => image.live().consumer_groups.check_group(&next).map_err(bad)?,
        ConfigTarget::Broker(_) => {
            check_broker_configs(resource, &next, Layers { dynamic_broker: &next, ..image.layers() })?;
        }
        ConfigTarget::AllBrokers => {
            check_broker_configs(resource, &next, Layers { dynamic_default: &next, ..image.layers() })?;
        }
    }
    let changes = difference(current, &next);
    Ok(if changes.is_empty() { Change::Nothing } else { Change::Decided(Action::SetConfigs { target, changes }) })
}

/// Checks changes of loggers' levels.
fn check_loggers(resource: &Resource<'_>, image: &Image) -> Result<Vec<LevelChange>, Refusal> {
    let invalid = |sentence: String| Refusal::new(ErrorCode::InvalidRequest, sentence);
    let bad = |sentence: String| Refusal::new(ErrorCode::InvalidConfig, sentence);
    let (name, node_id) = (resource.name, image.node_id());
    let id = name.parse::<i32>();
    let id = id.map_err(|_| invalid(format!("Node id must be an integer, but it is: {name}")))?;
    if id != node_id {
        return Err(invalid(format!("Unexpected node id. Expected {node_id}, but received {id}")));
    }
    let not_allowed = |word: &str| invalid(format!("{word} operation is not allowed for the BROKER_LOGGER resource"));
    let known = |name: &str| Loggers::find(name).ok_or_else(|| bad(format!("Logger {name} does not exist!")));
    let mut changes = Vec::new();
    for &(name, operation, value) in &resource.changes {
        match operation {
            operation::SET => {
                let (logger, level) = (known(name)?, value.unwrap_or_default());
                let parsed = Level::of_name(level).ok_or_else(|| {
                    bad(format!(
                        "Cannot set the log level of {name} to {level} as it is not a supported log level. \
                         Valid log levels are {}",
                        Level::names().join(", ")
                    ))
                })?;
                changes.push((logger, Some(parsed)));
            }
            operation::DELETE => match known(name)? {
                loggers::ROOT => {
                    return Err(invalid("Removing the log level of the root logger is not allowed".to_owned()));
                }
                logger => changes.push((logger, None)),
            },
            operation::APPEND => return Err(not_allowed("APPEND")),
            operation::SUBTRACT => return Err(not_allowed("SUBTRACT")),
            other => return Err(invalid(format!("Unknown operation type {other}"))),
        }
    }
    Ok(changes)
}

/// The configurations of a resource after the request.
fn apply(resource: &Resource<'_>, mode: Mode, current: &Configs, image: &Image) -> Result<Configs, Refusal> {
    let mut next = if mode == Mode::Replacing { Configs::new() } else { current.clone() };
    for &(key, operation, value) in &resource.changes {
        let value = value.unwrap_or_default();
        match operation {
            operation::SET => {
                next.insert(key.to_owned(), value.to_owned());
            }
            operation::DELETE => {
                next.remove(key);
            }
            operation::APPEND | operation::SUBTRACT => {
                let mut words = list(resource, key, operation, current, image)?;
                for word in value.split(',').map(str::trim) {
                    if operation == operation::SUBTRACT {
                        words.retain(|known| known != word);
                    } else if !words.iter().any(|known| known == word) {
                        words.push(word.to_owned());
                    }
                }
                next.insert(key.to_owned(), words.join(","));
            }
            other => {
                let sentence = format!("Unknown operation type {other}");
                return Err(Refusal::new(ErrorCode::InvalidRequest, sentence));
            }
        }
    }
    Ok(next)
}

/// The words of a list as they are in force, to be appended to or subtracted from.
fn list(
    resource: &Resource<'_>,
    key: &str,
    operation: i8,
    current: &Configs,
    image: &Image,
) -> Result<Vec<String>, Refusal> {
    let of_topic = (resource.kind == RESOURCE_TOPIC).then(|| topic::find(key)).flatten();
    let of_broker = (resource.kind == RESOURCE_BROKER).then(|| settings::find(key)).flatten();
    let kind = of_topic.map(|row| row.kind).or(of_broker.map(|setting| setting.kind)).filter(|kind| kind.is_list());
    let Some(kind) = kind else {
        let appends = operation == operation::APPEND;
        let sentence = if resource.kind != RESOURCE_BROKER {
            let what = if appends { "APPEND" } else { "SUBTRACT" };
            format!("Can't {what} to key {key} because its type is not LIST.")
        } else if of_broker.is_none() && kafka_keys::treatment(key).is_none() {
            format!("Unknown config name: {key}")
        } else {
            let what = if appends { "append" } else { "subtract" };
            format!("Config value {what} is not allowed for config key: {key}")
        };
        return Err(Refusal::new(ErrorCode::InvalidConfig, sentence));
    };
    let text = match of_topic {
        Some(row) => row.effective(current, image.layers()).0,
        None => current
            .get(key)
            .or_else(|| image.layers().fixed.get(key))
            .cloned()
            .or_else(|| of_broker?.default.map(str::to_owned)),
    };
    match kind.parse(&text.unwrap_or_default()) {
        Ok(Value::List(words)) => Ok(words),
        _ => Ok(Vec::new()),
    }
}

/// Checks what the request sets for brokers. `next` are the configurations after it, `layers` those of the broker then.
fn check_broker_configs(resource: &Resource<'_>, next: &Configs, layers: Layers<'_>) -> Result<(), Refusal> {
    let invalid = |sentence: String| Refusal::new(ErrorCode::InvalidRequest, sentence);
    let set: Vec<&str> = resource.changes.iter().filter(|it| it.1 != operation::DELETE).map(|it| it.0).collect();
    let dynamic = |key: &str| settings::find(key).filter(|setting| setting.dynamic);
    let fixed: Vec<&str> = set.iter().copied().filter(|key| dynamic(key).is_none()).collect();
    if !fixed.is_empty() {
        return Err(invalid(format!("Cannot update these configs dynamically: [{}]", fixed.join(", "))));
    }
    for (key, setting) in set.iter().filter_map(|key| Some((*key, dynamic(key)?))) {
        let value = next.get(key).map(String::as_str).unwrap_or_default();
        let value = parse_named(key, &setting.kind, value).map_err(invalid)?;
        live::check_value(key, &value.to_string()).map_err(invalid)?;
    }
    LiveSettings::check(layers).map_err(invalid)
}

/// What must be set and removed to come from one to the other.
fn difference(current: &Configs, next: &Configs) -> Vec<(String, Option<String>)> {
    let set = next.iter().filter(|(key, value)| current.get(*key) != Some(*value));
    let set = set.map(|(key, value)| (key.clone(), Some(value.clone())));
    let removed = current.keys().filter(|key| !next.contains_key(*key)).map(|key| (key.clone(), None));
    set.chain(removed).collect()
}

#[cfg(test)]
mod tests {
    use wire::messages::alter_configs_request;
    use wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    use wire::records::ConfigRecord;

    use super::super::test_image::{image, image_with};
    use super::*;
    use crate::catalog::Record;

    fn resource<'a>(kind: i8, name: &'a str, configs: &[(&'a str, i8, Option<&'a str>)]) -> AlterConfigsResource<'a> {
        let config =
            |it: &(&'a str, i8, Option<&'a str>)| AlterableConfig { name: it.0, config_operation: it.1, value: it.2 };
        AlterConfigsResource { resource_type: kind, resource_name: name, configs: configs.iter().map(config).collect() }
    }

    type Changes = Vec<(String, Option<String>)>;

    /// Key, operation and value.
    type Change<'a> = (&'a str, i8, Option<&'a str>);

    /// Error, message and changes of a request about one resource.
    fn incremental(
        image: &Image,
        kind: i8,
        name: &str,
        configs: &[(&str, i8, Option<&str>)],
    ) -> (i16, Option<String>, Changes) {
        let texts = Texts::new();
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource(kind, name, configs)], validate_only: false };
        let (plan, _) = plan_incremental(&request, image, &texts);
        let outcome = &plan.response.responses[0];
        let changes = match plan.actions.as_slice() {
            [] => Vec::new(),
            [Action::SetConfigs { changes, .. }] => changes.clone(),
            other => panic!("{other:?}"),
        };
        (outcome.error_code, outcome.error_message.map(str::to_owned), changes)
    }

    fn change(key: &str, value: Option<&str>) -> (String, Option<String>) {
        (key.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn keys_are_set_deleted_appended_to_and_subtracted_from() {
        let image = image();
        let done = |configs: &[(&str, i8, Option<&str>)]| {
            let (code, message, changes) = incremental(&image, 2, "configured", configs);
            assert_eq!((code, message), (0, None));
            changes
        };
        assert_eq!(done(&[("segment.ms", 0, Some("5"))]), [change("segment.ms", Some("5"))]);
        assert_eq!(done(&[("retention.ms", 1, None)]), [change("retention.ms", None)]);
        assert_eq!(done(&[("retention.ms", 0, Some("1000"))]), [], "it has that value");
        assert_eq!(done(&[("segment.ms", 1, Some("ignored"))]), [], "it is not set");
        assert_eq!(done(&[("bogus", 1, None)]), [], "what is not there can be deleted");
        assert_eq!(done(&[]), []);
        assert_eq!(done(&[("cleanup.policy", 2, Some("compact"))]), [change("cleanup.policy", Some("delete,compact"))]);
        assert_eq!(done(&[("cleanup.policy", 2, Some("delete"))]), [change("cleanup.policy", Some("delete"))]);
        assert_eq!(done(&[("cleanup.policy", 3, Some("delete"))]), [change("cleanup.policy", Some(""))]);
        assert_eq!(
            done(&[("leader.replication.throttled.replicas", 2, Some("0:1, 1:1"))]),
            [change("leader.replication.throttled.replicas", Some("0:1,1:1"))]
        );
    }

    #[test]
    fn what_is_refused_is_said_in_kafkas_words() {
        let image = image();
        let set = |key, value| vec![(key, 0, Some(value))];
        let cases: Vec<(i8, &str, Vec<Change<'_>>, ErrorCode, &str)> = vec![
            (2, "plain", set("bogus", "1"), ErrorCode::InvalidConfig, "Unknown topic config name: bogus"),
            (
                2,
                "plain",
                set("retention.ms", "x"),
                ErrorCode::InvalidConfig,
                "Invalid value x for configuration retention.ms: Not a number of type LONG",
            ),
            (
                2,
                "plain",
                vec![("retention.ms", 2, Some("1"))],
                ErrorCode::InvalidConfig,
                "Can't APPEND to key retention.ms because its type is not LIST.",
            ),
            (
                2,
                "plain",
                vec![("bogus", 3, Some("1"))],
                ErrorCode::InvalidConfig,
                "Can't SUBTRACT to key bogus because its type is not LIST.",
            ),
            (2, "plain", vec![("retention.ms", 7, Some("1"))], ErrorCode::InvalidRequest, "Unknown operation type 7"),
            (
                2,
                "plain",
                vec![("retention.ms", 0, None), ("segment.ms", 2, None)],
                ErrorCode::InvalidRequest,
                "Null value not supported for : retention.ms,segment.ms",
            ),
            (
                2,
                "plain",
                vec![("retention.ms", 0, Some("1")), ("retention.ms", 1, None)],
                ErrorCode::InvalidRequest,
                "Error due to duplicate config keys",
            ),
            (
                2,
                "nope",
                set("retention.ms", "1"),
                ErrorCode::UnknownTopicOrPartition,
                "The topic 'nope' does not exist.",
            ),
            (2, "", set("retention.ms", "1"), ErrorCode::InvalidRequest, "Default topic resources are not allowed."),
            (
                2,
                "..",
                set("retention.ms", "1"),
                ErrorCode::InvalidTopicException,
                "Topic name is invalid: '..' is not allowed",
            ),
            (
                4,
                "1",
                vec![("num.partitions", 0, Some("2")), ("message.max.bytes", 0, Some("-1"))],
                ErrorCode::InvalidRequest,
                "Cannot update these configs dynamically: [num.partitions]",
            ),
            (
                4,
                "",
                set("bogus.key", "2"),
                ErrorCode::InvalidRequest,
                "Cannot update these configs dynamically: [bogus.key]",
            ),
            (
                4,
                "1",
                set("log.retention.ms", "abc"),
                ErrorCode::InvalidRequest,
                "Invalid value abc for configuration log.retention.ms: Not a number of type LONG",
            ),
            (
                4,
                "",
                vec![("log.cleanup.policy", 2, Some("shred"))],
                ErrorCode::InvalidRequest,
                "Invalid value delete,shred for configuration log.cleanup.policy: \
                 String must be one of: compact, delete",
            ),
            (
                4,
                "9",
                set("log.retention.ms", "2"),
                ErrorCode::InvalidRequest,
                "Unexpected broker id, expected 1, but received 9",
            ),
            (
                4,
                "x",
                set("log.retention.ms", "2"),
                ErrorCode::InvalidRequest,
                "Node id must be an integer, but it is: x",
            ),
            (3, "x", set("a", "2"), ErrorCode::InvalidRequest, "Unknown resource type 3"),
            (4, "1", set("max.connections", "0"), ErrorCode::InvalidRequest, "Invalid max.connections 0"),
            (
                4,
                "",
                set("group.consumer.assignment.interval.ms", "15001"),
                ErrorCode::InvalidRequest,
                "group.consumer.assignment.interval.ms must be less than or equal to \
                 group.consumer.max.assignment.interval.ms",
            ),
            (
                4,
                "1",
                vec![("max.connections", 2, Some("1"))],
                ErrorCode::InvalidConfig,
                "Config value append is not allowed for config key: max.connections",
            ),
            (4, "1", vec![("bogus", 3, Some("1"))], ErrorCode::InvalidConfig, "Unknown config name: bogus"),
            (32, "g", set("bogus", "1"), ErrorCode::InvalidConfig, "Unknown group config name: bogus"),
            (
                32,
                "g",
                vec![("consumer.session.timeout.ms", 2, Some("1"))],
                ErrorCode::InvalidConfig,
                "Can't APPEND to key consumer.session.timeout.ms because its type is not LIST.",
            ),
            (
                32,
                "configured",
                set("consumer.heartbeat.interval.ms", "4999"),
                ErrorCode::InvalidConfig,
                "consumer.heartbeat.interval.ms must be greater than or equal to \
                 group.consumer.min.heartbeat.interval.ms",
            ),
            (32, "", set("a", "2"), ErrorCode::InvalidRequest, "Default group resources are not allowed."),
            (8, "1", set("kafka.x", "INFO"), ErrorCode::InvalidConfig, "Logger kafka.x does not exist!"),
            (
                8,
                "1",
                set("root", "info"),
                ErrorCode::InvalidConfig,
                "Cannot set the log level of root to info as it is not a supported log level. \
                 Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
            ),
            (
                8,
                "1",
                vec![("server::broker", 0, Some("INFO")), ("root", 1, None)],
                ErrorCode::InvalidRequest,
                "Removing the log level of the root logger is not allowed",
            ),
            (
                8,
                "1",
                vec![("root", 2, Some("INFO"))],
                ErrorCode::InvalidRequest,
                "APPEND operation is not allowed for the BROKER_LOGGER resource",
            ),
            (8, "x", set("root", "INFO"), ErrorCode::InvalidRequest, "Node id must be an integer, but it is: x"),
            (8, "2", set("root", "INFO"), ErrorCode::InvalidRequest, "Unexpected node id. Expected 1, but received 2"),
        ];
        for (kind, name, configs, code, sentence) in cases {
            let expected = (code as i16, Some(sentence.to_owned()), Vec::new());
            assert_eq!(incremental(&image, kind, name, &configs), expected, "{kind} {name} {configs:?}");
        }
    }

    #[test]
    fn brokers_take_what_may_change_while_they_run() {
        let image = image_with(&[("log.cleanup.policy", "compact")], &[("log.segment.ms", "1")]);
        let (code, _, changes) = incremental(
            &image,
            4,
            "1",
            &[("log.segment.bytes", 0, Some("2000000")), ("log.cleanup.policy", 2, Some("delete"))],
        );
        let expected =
            [change("log.cleanup.policy", Some("compact,delete")), change("log.segment.bytes", Some("2000000"))];
        assert_eq!((code, changes.as_slice()), (0, &expected[..]));
    }

    #[test]
    fn groups_need_not_exist() {
        let image = image();
        let key = "consumer.session.timeout.ms";
        let done = |name: &str, configs: &[(&str, i8, Option<&str>)]| {
            let (code, message, changes) = incremental(&image, 32, name, configs);
            assert_eq!((code, message), (0, None));
            changes
        };
        assert_eq!(done("g", &[(key, 0, Some("60000"))]), [change(key, Some("60000"))]);
        assert_eq!(done("configured", &[(key, 1, None), ("bogus", 1, None)]), [change(key, None)]);
        assert_eq!(done("configured", &[("consumer.assignment.interval.ms", 0, Some("0"))]), {
            [change("consumer.assignment.interval.ms", Some("0"))]
        });
    }

    #[test]
    fn groups_with_configurations_are_bounded() {
        let mut draft = image().draft();
        let names: Vec<String> = (1..CONFIGURED_GROUPS).map(|n| format!("group-{n}")).collect();
        for name in &names {
            let (resource_type, value) = (RESOURCE_GROUP, Some("50000"));
            let record =
                ConfigRecord { resource_type, resource_name: name, name: "consumer.session.timeout.ms", value };
            draft.apply(&Record::Config(record)).unwrap();
        }
        let image = draft.finish();
        let set = [("consumer.session.timeout.ms", 0, Some("60000"))];
        assert_eq!(incremental(&image, 32, "one-more", &set).0, ErrorCode::PolicyViolation as i16);
        assert_eq!(incremental(&image, 32, "group-1", &set).0, 0);
    }

    #[test]
    fn what_brokers_come_to_is_checked_as_a_whole() {
        let set = [("max.connections.per.ip", "0"), ("max.connections.per.ip.overrides", "::1:9")];
        let image = image_with(&[], &set);
        let (code, sentence, _) = incremental(&image, 4, "", &[(set[1].0, 1, None)]);
        assert_eq!(code, ErrorCode::InvalidRequest as i16);
        assert!(sentence.unwrap().contains("can be set to zero only if"));
        let (code, _, changes) = incremental(&image, 4, "", &[(set[0].0, 1, None), (set[1].0, 1, None)]);
        assert_eq!((code, changes.len()), (0, 2));
    }

    #[test]
    fn levels_of_loggers_are_changed_or_only_checked() {
        let (image, texts) = (image(), Texts::new());
        let changes = [("server::broker", 0, Some("FATAL")), ("server::listener", 1, None)];
        let mut request =
            IncrementalAlterConfigsRequest { resources: vec![resource(8, "1", &changes)], validate_only: false };
        let (mut plan, levels) = plan_incremental(&request, &image, &texts);
        assert_eq!(plan.actions, []);
        assert_eq!(levels, [("server::broker", Some(Level::Fatal)), ("server::listener", None)]);
        fail_incremental(&mut plan.response, ErrorCode::KafkaStorageError);
        assert_eq!(plan.response.responses[0].error_code, 0, "they are no part of the catalog");
        request.validate_only = true;
        assert_eq!(plan_incremental(&request, &image, &texts).1, []);
    }

    #[test]
    fn replacing_removes_what_is_not_named() {
        let image = image();
        let texts = Texts::new();
        let config = |name, value| alter_configs_request::AlterableConfig { name, value };
        let resource = |name, configs| alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: name,
            configs,
        };
        let request = AlterConfigsRequest {
            resources: vec![
                resource("configured", vec![config("segment.ms", Some("5"))]),
                resource("nope", vec![config("segment.ms", Some("5"))]),
                resource("plain", vec![config("segment.ms", None)]),
            ],
            validate_only: false,
        };
        let mut plan = plan_replacing(&request, &image, &texts);
        let codes: Vec<i16> = plan.response.responses.iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [0, 3, 42]);
        assert_eq!(
            plan.actions,
            [Action::SetConfigs {
                target: ConfigTarget::Topic("configured".to_owned()),
                changes: vec![change("segment.ms", Some("5")), change("retention.ms", None)],
            }]
        );
        fail_replacing(&mut plan.response, ErrorCode::KafkaStorageError);
        let codes: Vec<i16> = plan.response.responses.iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [56, 3, 42]);
        let only = AlterConfigsRequest { validate_only: true, ..request };
        assert_eq!(plan_replacing(&only, &image, &texts).actions, []);
        let loggers = alter_configs_request::AlterConfigsResource { resource_type: 8, ..resource("1", Vec::new()) };
        let request = AlterConfigsRequest { resources: vec![loggers], validate_only: false };
        let plan = plan_replacing(&request, &image, &texts);
        assert_eq!(plan.response.responses[0].error_message, Some("Unknown resource type 8"));
    }

    #[test]
    fn a_resource_may_occur_once() {
        let image = image();
        let texts = Texts::new();
        let set = [("retention.ms", 0, Some("1"))];
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource(2, "plain", &set), resource(2, "configured", &set), resource(2, "plain", &set)],
            validate_only: false,
        };
        let (mut plan, _) = plan_incremental(&request, &image, &texts);
        let codes: Vec<i16> = plan.response.responses.iter().map(|it| it.error_code).collect();
        assert_eq!((codes.as_slice(), plan.actions.len()), (&[42, 0, 42][..], 1));
        fail_incremental(&mut plan.response, ErrorCode::KafkaStorageError);
        assert_eq!(plan.response.responses[1].error_code, 56);
    }
}
