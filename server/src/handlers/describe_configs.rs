//! DescribeConfigs (key 32), versions 1 to 4. The configurations in force for topics and for this broker, with where
//! each comes from (KIP-226) and, from version 3, its type and what it does (KIP-569).
//!
//! - A topic has every key of the table. This broker has every setting. The broker without a name stands for all: only
//!   what was set for all while they ran.
//! - A group has the keys of the consumer protocol, whether there is such a group or not.
//! - The loggers of this broker have their levels (KIP-412).
//! - Client metrics have no configurations here: the list is empty.
//! - Owner core: any.

use wire::error::ErrorCode;
use wire::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::admin::{Refusal, Texts, check_topic_name};
use crate::api::{Request, RequestError};
use crate::config::consumer_groups::{GROUP_CONFIGS, GroupConfig};
use crate::config::settings::{self, SETTINGS, Setting};
use crate::config::topic::{Effect, Origin, Source, TOPIC_CONFIGS, TopicConfig, find_synonym, origins_of};
use crate::connection::responses::Reply;
use crate::image::{Image, RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC, Topic};
use crate::loggers::{Level, Loggers};
use crate::services::Services;
use crate::shard::Shard;

/// The number of brokers' loggers among resources (`ConfigResource.Type` in Kafka).
pub const RESOURCE_BROKER_LOGGER: i8 = 8;
/// The number of client metrics subscriptions among resources.
pub const RESOURCE_CLIENT_METRICS: i8 = 16;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeConfigsRequest<'_> = request.decode()?;
    let (image, texts) = (shard.image().clone(), Texts::new());
    request.reply(&answer(&asked, &image, &Services::of(&shard).options.loggers, &texts))
}

/// The answer.
#[must_use]
pub fn answer<'a>(
    request: &DescribeConfigsRequest<'a>,
    image: &'a Image,
    loggers: &Loggers,
    texts: &'a Texts,
) -> DescribeConfigsResponse<'a> {
    let known = [RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP];
    let all_known = request.resources.iter().all(|resource| known.contains(&resource.resource_type));
    let describe = |resource: &DescribeConfigsResource<'a>| {
        // One resource of an unknown type makes the whole request invalid, as in Kafka.
        let described = if all_known {
            configs(resource, request, (image, loggers), texts)
        } else {
            Err(Refusal::plain(ErrorCode::InvalidRequest))
        };
        let (error_code, error_message, configs) = match described {
            Ok(configs) => (ErrorCode::None as i16, Some(""), configs),
            Err(refusal) => {
                let (code, message) = refusal.parts(texts);
                (code, message, Vec::new())
            }
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
        }
    };
    DescribeConfigsResponse {
        results: request.resources.iter().map(describe).collect(),
        ..DescribeConfigsResponse::default()
    }
}

fn configs<'a>(
    resource: &DescribeConfigsResource<'a>,
    request: &DescribeConfigsRequest<'a>,
    (image, loggers): (&'a Image, &Loggers),
    texts: &'a Texts,
) -> Result<Vec<DescribeConfigsResourceResult<'a>>, Refusal> {
    let wanted = |name: &str| match resource.configuration_keys.as_deref() {
        None | Some([]) => true,
        Some(keys) => keys.contains(&name),
    };
    let invalid = |sentence: &'static str| Err(Refusal::new(ErrorCode::InvalidRequest, sentence));
    let name = resource.resource_name;
    let form = Form { synonyms: request.include_synonyms, documentation: request.include_documentation, texts };
    match resource.resource_type {
        RESOURCE_TOPIC => {
            check_topic_name(name)?;
            let Some(topic) = image.topic(name) else {
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, ""));
            };
            let rows = TOPIC_CONFIGS.iter().filter(|row| row.effect != Effect::Internal && wanted(row.name));
            Ok(rows.map(|row| form.of_topic(row, topic, image)).collect())
        }
        RESOURCE_BROKER if name.is_empty() => {
            let set = image.layers().dynamic_default.iter();
            let rows = set.filter_map(|(key, _)| SETTINGS.iter().find(|setting| setting.name == key));
            Ok(rows.filter(|setting| wanted(setting.name)).map(|setting| form.of_all(setting, image)).collect())
        }
        RESOURCE_BROKER => {
            check_broker(name, image, " or empty string")?;
            let rows = SETTINGS.iter().filter(|setting| wanted(setting.name));
            Ok(rows.map(|setting| form.of_broker(setting, image)).collect())
        }
        RESOURCE_BROKER_LOGGER if name.is_empty() => invalid("Broker id must not be empty"),
        RESOURCE_BROKER_LOGGER => {
            check_broker(name, image, "")?;
            let loggers = loggers.all().into_iter().filter(|(name, _)| wanted(name));
            Ok(loggers.map(|(name, level)| of_logger(name, level)).collect())
        }
        RESOURCE_CLIENT_METRICS if name.is_empty() => invalid("Client metrics subscription name must not be empty"),
        RESOURCE_GROUP if name.is_empty() => invalid("Group name must not be empty"),
        RESOURCE_GROUP => {
            let rows = GROUP_CONFIGS.iter().filter(|row| wanted(row.name));
            Ok(rows.map(|row| form.of_group(row, name, image)).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn check_broker(name: &str, image: &Image, or: &str) -> Result<(), Refusal> {
    let Ok(id) = name.parse::<i32>() else {
        let sentence = format!("Broker id must be an integer, but it is: {name}");
        return Err(Refusal::new(ErrorCode::InvalidRequest, sentence));
    };
    if id == image.node_id() {
        return Ok(());
    }
    let sentence = format!("Unexpected broker id, expected {}{or}, but received {name}", image.node_id());
    // Kafka has the comma only where the empty name is legal.
    let sentence = if or.is_empty() { sentence.replacen(", but", " but", 1) } else { sentence };
    Err(Refusal::new(ErrorCode::InvalidRequest, sentence))
}

/// What the client wants to know beside the values.
struct Form<'a> {
    synonyms: bool,
    documentation: bool,
    texts: &'a Texts,
}

impl<'a> Form<'a> {
    fn of_topic(&self, row: &'static TopicConfig, topic: &Topic, image: &Image) -> DescribeConfigsResourceResult<'a> {
        let (value, source) = row.effective(&topic.configs, image.layers());
        let origins = row.origins(&topic.configs, image.layers());
        DescribeConfigsResourceResult {
            name: row.name,
            value: value.map(|value| self.texts.push_get(value)),
            read_only: false,
            config_source: source as i8,
            is_sensitive: false,
            synonyms: self.synonyms(origins),
            config_type: row.kind.protocol_type(),
            documentation: self.documentation.then_some(row.doc),
        }
    }

    /// A group's own value is shown as it was given, though the broker's bounds may confine it.
    fn of_group(&self, row: &'static GroupConfig, group: &str, image: &Image) -> DescribeConfigsResourceResult<'a> {
        let own = image.configured_groups().get(group).and_then(|own| own.get(row.name));
        let own = own.map(|value| Origin { name: row.name, value: row.kind.shown(value), source: Source::Group });
        let of_broker = settings::find(row.broker).map(|setting| origins(setting, image)).unwrap_or_default();
        let origins: Vec<Origin> = own.into_iter().chain(of_broker).collect();
        let first = origins.first();
        DescribeConfigsResourceResult {
            name: row.name,
            value: first.map(|origin| self.texts.push_get(origin.value.clone())),
            read_only: false,
            config_source: first.map_or(Source::Default, |origin| origin.source) as i8,
            is_sensitive: false,
            synonyms: self.synonyms(origins),
            config_type: row.kind.protocol_type(),
            documentation: self.documentation.then_some(row.doc),
        }
    }

    /// What is in force is shown in the one form of its kind, where it comes from as it was given.
    fn of_broker(&self, setting: &'static Setting, image: &Image) -> DescribeConfigsResourceResult<'a> {
        let origins = origins(setting, image);
        let first = origins.first();
        self.row(
            setting,
            first.map(|origin| setting.kind.shown(&origin.value)),
            first.map_or(Source::Default, |origin| origin.source),
            origins,
        )
    }

    /// A setting that was set for all brokers while they ran.
    fn of_all(&self, setting: &'static Setting, image: &Image) -> DescribeConfigsResourceResult<'a> {
        let mut origins = origins(setting, image);
        origins.retain(|origin| origin.source == Source::DynamicDefault);
        let value = image.layers().dynamic_default.get(setting.name).cloned();
        self.row(setting, value, Source::DynamicDefault, origins)
    }

    fn row(
        &self,
        setting: &'static Setting,
        value: Option<String>,
        source: Source,
        origins: Vec<Origin>,
    ) -> DescribeConfigsResourceResult<'a> {
        DescribeConfigsResourceResult {
            name: setting.name,
            value: value.map(|value| self.texts.push_get(value)),
            read_only: !setting.dynamic,
            config_source: source as i8,
            is_sensitive: false,
            synonyms: self.synonyms(origins),
            config_type: setting.kind.protocol_type(),
            documentation: self.documentation.then_some(&setting.doc),
        }
    }

    fn synonyms(&self, origins: Vec<Origin>) -> Vec<DescribeConfigsSynonym<'a>> {
        if !self.synonyms {
            return Vec::new();
        }
        let synonym = |origin: Origin| DescribeConfigsSynonym {
            name: origin.name,
            value: Some(self.texts.push_get(origin.value)),
            source: origin.source as i8,
        };
        origins.into_iter().map(synonym).collect()
    }
}

fn of_logger(name: &'static str, level: Level) -> DescribeConfigsResourceResult<'static> {
    DescribeConfigsResourceResult {
        name,
        value: Some(level.name()),
        config_source: Source::BrokerLogger as i8,
        ..DescribeConfigsResourceResult::default()
    }
}

/// Where a setting's value comes from, the strongest first.
fn origins(setting: &'static Setting, image: &Image) -> Vec<Origin> {
    if let Some((row, _)) = find_synonym(setting.name) {
        return origins_of(setting.name, row.server, image.layers());
    }
    let set = image.layers().strongest_first().into_iter();
    let set = set.filter_map(|(configs, source)| Some((configs.get(setting.name)?.clone(), source)));
    let default = setting.default.map(|value| (value.to_owned(), Source::Default));
    let origin = |(value, source)| Origin { name: setting.name, value, source };
    set.chain(default).map(origin).collect()
}

#[cfg(test)]
mod tests {
    use wire::Message;

    use super::super::test_image::{image, image_with};
    use super::*;

    fn loggers() -> std::sync::Arc<Loggers> {
        Loggers::new(Level::Info, drop)
    }

    fn resource<'a>(kind: i8, name: &'a str, keys: Option<Vec<&'a str>>) -> DescribeConfigsResource<'a> {
        DescribeConfigsResource { resource_type: kind, resource_name: name, configuration_keys: keys }
    }

    fn request(resources: Vec<DescribeConfigsResource<'_>>) -> DescribeConfigsRequest<'_> {
        DescribeConfigsRequest { resources, include_synonyms: true, ..DescribeConfigsRequest::default() }
    }

    /// Name, value, source and synonyms of each configuration of the only resource.
    type Rows = Vec<(String, Option<String>, i8, Vec<(String, String, i8)>)>;

    fn rows(image: &Image, kind: i8, name: &str, keys: &[&str]) -> Rows {
        let texts = Texts::new();
        let request = request(vec![resource(kind, name, Some(keys.to_vec()))]);
        let answer = answer(&request, image, &loggers(), &texts);
        for version in 1..=4 {
            answer.encode(&mut Vec::new(), version).unwrap();
        }
        let [result] = answer.results.as_slice() else { panic!("{answer:?}") };
        assert_eq!((result.error_code, result.error_message), (0, Some("")));
        let synonym = |it: &DescribeConfigsSynonym<'_>| (it.name.to_owned(), it.value.unwrap().to_owned(), it.source);
        let row = |it: &DescribeConfigsResourceResult<'_>| {
            let synonyms = it.synonyms.iter().map(synonym).collect();
            (it.name.to_owned(), it.value.map(str::to_owned), it.config_source, synonyms)
        };
        result.configs.iter().map(row).collect()
    }

    fn row(name: &str, value: Option<&str>, source: i8, synonyms: &[(&str, &str, i8)]) -> Rows {
        let synonym = |it: &(&str, &str, i8)| (it.0.to_owned(), it.1.to_owned(), it.2);
        vec![(name.to_owned(), value.map(str::to_owned), source, synonyms.iter().map(synonym).collect())]
    }

    #[test]
    fn topics() {
        let image = image_with(&[("log.segment.bytes", "2000000")], &[("log.retention.ms", "777777")]);
        assert_eq!(
            rows(&image, 2, "configured", &["retention.ms", "bogus", "internal.segment.bytes"]),
            row(
                "retention.ms",
                Some("1000"),
                1,
                &[("retention.ms", "1000", 1), ("log.retention.ms", "777777", 3), ("log.retention.hours", "168", 5)]
            )
        );
        assert_eq!(
            rows(&image, 2, "plain", &["segment.bytes"]),
            row(
                "segment.bytes",
                Some("2000000"),
                4,
                &[("log.segment.bytes", "2000000", 4), ("log.segment.bytes", "1073741824", 5)]
            )
        );
        assert_eq!(rows(&image, 2, "plain", &["segment.ms"]), row("segment.ms", Some("604800000"), 5, &[]));
        assert_eq!(rows(&image, 2, "plain", &[]).len(), TOPIC_CONFIGS.len() - 1, "all but the internal one");
    }

    #[test]
    fn brokers() {
        let image = image_with(&[("num.partitions", "4")], &[("log.retention.ms", "777777")]);
        assert_eq!(
            rows(&image, 4, "1", &["num.partitions"]),
            row("num.partitions", Some("4"), 4, &[("num.partitions", "4", 4), ("num.partitions", "1", 5)])
        );
        assert_eq!(rows(&image, 4, "1", &["log.roll.ms"]), row("log.roll.ms", None, 5, &[]));
        assert_eq!(
            rows(&image, 4, "1", &["log.retention.ms"]),
            row(
                "log.retention.ms",
                Some("777777"),
                3,
                &[("log.retention.ms", "777777", 3), ("log.retention.hours", "168", 5)]
            )
        );
        assert_eq!(rows(&image, 4, "1", &[]).len(), SETTINGS.len());
        assert_eq!(
            rows(&image, 4, "", &[]),
            row("log.retention.ms", Some("777777"), 3, &[("log.retention.ms", "777777", 3)])
        );
        assert_eq!(rows(&image, 16, "x", &[]), []);
    }

    #[test]
    fn what_may_change_is_told_of_with_what_it_hides() {
        let image = image_with(&[("max.connections", "5")], &[("max.connections", "6")]);
        let expected = [("max.connections", "6", 3), ("max.connections", "5", 4), ("max.connections", "2147483647", 5)];
        assert_eq!(rows(&image, 4, "1", &["max.connections"]), row("max.connections", Some("6"), 3, &expected));
        assert_eq!(rows(&image, 4, "", &[]), row("max.connections", Some("6"), 3, &expected[..1]));
    }

    #[test]
    fn a_value_has_one_form_and_its_synonyms_are_as_they_were_given() {
        let key = "log.cleaner.io.max.bytes.per.second";
        let image = image_with(&[], &[(key, "1e7")]);
        let synonyms = [(key, "1e7", 3), (key, "1.7976931348623157E308", 5)];
        assert_eq!(rows(&image, 4, "1", &[key]), row(key, Some("1.0E7"), 3, &synonyms));
        assert_eq!(rows(&image, 4, "", &[]), row(key, Some("1e7"), 3, &synonyms[..1]));
    }

    #[test]
    fn groups() {
        let key = "group.consumer.assignment.interval.ms";
        let image = image_with(&[("group.consumer.session.timeout.ms", "46000")], &[(key, "9")]);
        let (session, interval) = ("consumer.session.timeout.ms", "consumer.assignment.interval.ms");
        assert_eq!(rows(&image, 32, "plain", &[]).len(), 3);
        assert_eq!(
            rows(&image, 32, "plain", &[interval]),
            row(interval, Some("9"), 3, &[(key, "9", 3), (key, "1000", 5)])
        );
        let of_broker =
            [("group.consumer.session.timeout.ms", "46000", 4), ("group.consumer.session.timeout.ms", "45000", 5)];
        assert_eq!(rows(&image, 32, "plain", &[session]), row(session, Some("46000"), 4, &of_broker));
        let own = [&[(session, "50000", 8)], &of_broker[..]].concat();
        assert_eq!(rows(&image, 32, "configured", &[session]), row(session, Some("50000"), 8, &own));
    }

    #[test]
    fn loggers_have_levels() {
        let image = image();
        assert_eq!(rows(&image, 8, "1", &["root", "bogus"]), row("root", Some("INFO"), 6, &[]));
        assert_eq!(rows(&image, 8, "1", &[]).len(), loggers().all().len());
    }

    #[test]
    fn types_documentation_and_what_may_change() {
        let image = image();
        let texts = Texts::new();
        let request = DescribeConfigsRequest {
            include_documentation: true,
            ..request(vec![
                resource(2, "plain", Some(vec!["cleanup.policy"])),
                resource(4, "1", Some(vec!["log.cleanup.policy", "log.retention.hours"])),
            ])
        };
        let answer = answer(&request, &image, &loggers(), &texts);
        let configs: Vec<_> = answer.results.iter().flat_map(|result| &result.configs).collect();
        let brief: Vec<_> = configs.iter().map(|it| (it.name, it.read_only, it.config_type)).collect();
        assert_eq!(
            brief,
            [("cleanup.policy", false, 7), ("log.cleanup.policy", false, 7), ("log.retention.hours", true, 3)]
        );
        assert!(configs.iter().all(|it| it.documentation.is_some_and(|doc| !doc.is_empty())));
    }

    #[test]
    fn what_is_refused_is_said_in_kafkas_words() {
        let image = image();
        let texts = Texts::new();
        let cases = [
            (2, "nope", 3, ""),
            (2, "", 17, "Topic name is invalid: the empty string is not allowed"),
            (4, "7", 42, "Unexpected broker id, expected 1 or empty string, but received 7"),
            (4, "x", 42, "Broker id must be an integer, but it is: x"),
            (8, "", 42, "Broker id must not be empty"),
            (8, "2", 42, "Unexpected broker id, expected 1 but received 2"),
            (16, "", 42, "Client metrics subscription name must not be empty"),
            (32, "", 42, "Group name must not be empty"),
        ];
        let resources = cases.iter().map(|(kind, name, ..)| resource(*kind, name, None));
        let request_of = request(resources.collect());
        let described = answer(&request_of, &image, &loggers(), &texts);
        for ((kind, name, code, sentence), result) in cases.iter().zip(&described.results) {
            assert_eq!((result.error_code, result.error_message), (*code, Some(*sentence)), "{kind} {name}");
            assert_eq!((result.resource_type, result.resource_name, result.configs.len()), (*kind, *name, 0));
        }
        let unknown = request(vec![resource(2, "plain", None), resource(3, "x", None)]);
        let answer = answer(&unknown, &image, &loggers(), &texts);
        assert!(answer.results.iter().all(|result| result.error_code == 42 && result.configs.is_empty()));
    }
}
