//! Configurations: those of topics, brokers, groups and loggers, described and changed.

use std::collections::BTreeSet;

use server::config::kafka_keys::treatment;
use server::config::settings;
use wire::messages::alter_configs_request::{self, AlterConfigsResource};
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::incremental_alter_configs_request::{self, AlterableConfig};

use super::*;

/// Everything but [`restarts`].
pub(super) fn all(pair: &mut Pair) {
    configurations(pair);
    live_settings(pair);
    replaced_settings(pair);
    groups(pair);
    loggers(pair);
}

/// The value, where it comes from, its type, whether it may not be changed, and its synonyms.
type Config = (Option<String>, i8, i8, bool, Vec<(String, Option<String>, i8)>);

fn configs(
    connection: &mut Connection,
    kind: i8,
    name: &str,
    keys: Option<Vec<&'static str>>,
) -> (Fault, BTreeMap<String, Config>) {
    let name: &'static str = name.to_owned().leak();
    let resource = DescribeConfigsResource { resource_type: kind, resource_name: name, configuration_keys: keys };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: false };
    let answer = ask(connection, ApiKey::DescribeConfigs, 4, &request);
    let answer: DescribeConfigsResponse<'_> = decode(&answer, 4).expect("an answer");
    let result = &answer.results[0];
    let config = |it: &describe_configs_response::DescribeConfigsResourceResult<'_>| {
        let value = |value: Option<&str>| value.map(str::to_owned);
        let synonyms = it.synonyms.iter().map(|it| (it.name.to_owned(), value(it.value), it.source)).collect();
        (it.name.to_owned(), (value(it.value), it.config_source, it.config_type, it.read_only, synonyms))
    };
    (fault(result.error_code, result.error_message), result.configs.iter().map(config).collect())
}

/// Key, operation, value.
type Change = (&'static str, i8, Option<&'static str>);

fn alter(connection: &mut Connection, kind: i8, name: &str, changes: &[Change], validate_only: bool) -> (Fault, i8) {
    let config = |it: &Change| AlterableConfig { name: it.0, config_operation: it.1, value: it.2 };
    let resource = incremental_alter_configs_request::AlterConfigsResource {
        resource_type: kind,
        resource_name: name,
        configs: changes.iter().map(config).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let answer = ask(connection, ApiKey::IncrementalAlterConfigs, 1, &request);
    let answer: IncrementalAlterConfigsResponse<'_> = decode(&answer, 1).expect("an answer");
    let result = &answer.responses[0];
    assert_eq!(result.resource_name, name);
    (fault(result.error_code, result.error_message), result.resource_type)
}

/// Replaces all configurations of a resource.
fn replace(
    connection: &mut Connection,
    kind: i8,
    name: &str,
    values: &[(&'static str, Option<&'static str>)],
) -> Fault {
    let config =
        |it: &(&'static str, Option<&'static str>)| alter_configs_request::AlterableConfig { name: it.0, value: it.1 };
    let resource =
        AlterConfigsResource { resource_type: kind, resource_name: name, configs: values.iter().map(config).collect() };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = ask(connection, ApiKey::AlterConfigs, 2, &request);
    let answer: AlterConfigsResponse<'_> = decode(&answer, 2).expect("an answer");
    fault(answer.responses[0].error_code, answer.responses[0].error_message)
}

fn configurations(pair: &mut Pair) {
    // Kafka keeps a default of its own for this key while it tracks eligible leaders, which a single broker has no use for.
    let tracked = "min.insync.replicas";
    let of_topic = |connection: &mut Connection, name: &str| {
        let mut found = configs(connection, 2, name, None);
        assert!(found.1.is_empty() || found.1.remove(tracked).is_some());
        found
    };
    for name in ["three", "default", "listed", "nope", "a b", ""] {
        pair.same(&format!("configurations of {name:?}"), |connection| of_topic(connection, name));
    }
    for (kind, name) in [(4, "7"), (4, "x"), (8, ""), (8, "2"), (8, "x"), (16, ""), (32, "")] {
        pair.same(&format!("configurations of {kind} {name:?}"), |connection| configs(connection, kind, name, None));
    }
    for kind in [0, 3] {
        pair.same("configurations of nothing known", |connection| configs(connection, kind, "x", None).0.0);
    }
    let steps: Vec<(i8, &str, Vec<Change>)> = vec![
        (2, "three", vec![("retention.ms", 0, Some("1000")), ("cleanup.policy", 2, Some("compact"))]),
        (2, "three", vec![("cleanup.policy", 3, Some("delete"))]),
        (2, "three", vec![("cleanup.policy", 3, Some("compact"))]),
        (2, "three", vec![("retention.ms", 1, None), ("cleanup.policy", 1, None), ("segment.ms", 1, Some(""))]),
        (2, "three", vec![("leader.replication.throttled.replicas", 2, Some("0:1,1:1"))]),
        (2, "three", vec![("follower.replication.throttled.replicas", 3, Some("0:1"))]),
        (2, "three", vec![]),
        (2, "three", vec![("bogus", 1, Some(""))]),
        (2, "three", vec![("bogus", 2, Some("x"))]),
        (2, "three", vec![("bogus", 0, Some("x"))]),
        (2, "three", vec![("retention.ms", 2, Some("1"))]),
        (2, "three", vec![("retention.ms", 0, None)]),
        (2, "three", vec![("retention.ms", 0, Some("1")), ("retention.ms", 1, None)]),
        (2, "nope", vec![("retention.ms", 0, Some("1"))]),
        (2, "", vec![("retention.ms", 0, Some("1"))]),
        (2, "a b", vec![("retention.ms", 0, Some("1"))]),
        (4, "1", vec![("num.partitions", 0, Some("2"))]),
        (4, "1", vec![("log.retention.ms", 0, Some("abc"))]),
        (4, "9", vec![("log.retention.ms", 0, Some("2"))]),
        (4, "x", vec![("log.retention.ms", 0, Some("2"))]),
        (4, "", vec![("message.max.bytes", 0, Some("-1")), ("log.retention.hours", 0, Some("3"))]),
        (4, "1", vec![("node.id", 1, None)]),
        (3, "x", vec![("a", 0, Some("2"))]),
        (8, "1", vec![("kafka.x", 0, Some("INFO"))]),
        (4, "", vec![("log.retention.ms", 0, Some("777777")), ("log.cleanup.policy", 2, Some("compact"))]),
        (4, "1", vec![("log.retention.ms", 0, Some("888888")), ("log.segment.bytes", 0, Some("5000000"))]),
    ];
    for (kind, name, changes) in &steps {
        let what = format!("{kind} {name:?} {changes:?}");
        pair.once(&what, |connection| alter(connection, *kind, name, changes, false));
        pair.same(&format!("configurations after {what}"), |connection| of_topic(connection, "three"));
        pair.same(&format!("broker configurations after {what}"), |connection| {
            configs(connection, 4, "1", Some(vec!["log.retention.ms", "log.segment.bytes", "log.cleanup.policy"]))
        });
    }
    for (name, values) in [
        ("three", vec![("retention.ms", Some("1000")), ("segment.ms", Some("2000"))]),
        ("three", vec![("retention.ms", Some("3000"))]),
        ("three", vec![("retention.ms", None)]),
        ("three", vec![("bogus", Some("1"))]),
        ("nope", vec![("retention.ms", Some("1"))]),
    ] {
        pair.once(&format!("AlterConfigs {name} {values:?}"), |connection| replace(connection, 2, name, &values));
        pair.same("configurations after AlterConfigs", |connection| of_topic(connection, "three"));
    }
}

/// Settings of brokers that may be changed while they run, beside the defaults of topics.
const LIVE: &[&str] = &[
    "group.consumer.assignment.interval.ms",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "producer.id.expiration.ms",
    "transaction.partition.verification.enable",
];

fn live_settings(pair: &mut Pair) {
    const INTERVAL: &str = "group.consumer.assignment.interval.ms";
    const OVERRIDES: &str = "max.connections.per.ip.overrides";
    const VERIFIES: &str = "transaction.partition.verification.enable";
    const BACKOFF: &str = "log.cleaner.backoff.ms";
    const KEYS_MEMORY: &str = "log.cleaner.dedupe.buffer.size";
    const LOAD: &str = "log.cleaner.io.buffer.load.factor";
    const IO_MEMORY: &str = "log.cleaner.io.buffer.size";
    const PACE: &str = "log.cleaner.io.max.bytes.per.second";
    const EXPIRATION: &str = "producer.id.expiration.ms";
    let steps: Vec<(&str, Vec<Change>)> = vec![
        ("1", vec![("max.connections", 0, Some("500"))]),
        ("1", vec![("max.connections", 0, Some("0"))]),
        ("1", vec![("max.connections", 0, Some("-1"))]),
        ("1", vec![("max.connections", 0, Some("x"))]),
        ("1", vec![("max.connections", 2, Some("1"))]),
        ("1", vec![("max.connections", 0, Some("5")), ("node.id", 0, Some("2"))]),
        ("", vec![("max.connections", 0, Some("400"))]),
        ("1", vec![("max.connections", 1, None)]),
        ("1", vec![("max.connection.creation.rate", 0, Some("0"))]),
        ("1", vec![("max.connection.creation.rate", 0, Some("10000"))]),
        ("1", vec![("max.connections.per.ip", 0, Some("0"))]),
        ("1", vec![("max.connections.per.ip", 0, Some("0")), (OVERRIDES, 0, Some("127.0.0.1:300,::1:7"))]),
        ("1", vec![(OVERRIDES, 1, None)]),
        ("1", vec![(OVERRIDES, 1, None), ("max.connections.per.ip", 1, None)]),
        ("1", vec![(OVERRIDES, 0, Some("a b:5"))]),
        ("1", vec![(OVERRIDES, 0, Some("127.0.0.1"))]),
        ("1", vec![(OVERRIDES, 0, Some("127.0.0.1:x"))]),
        ("1", vec![(OVERRIDES, 3, Some("127.0.0.1:5"))]),
        ("1", vec![("bogus", 2, Some("5"))]),
        ("1", vec![(INTERVAL, 0, Some("20000"))]),
        ("1", vec![(INTERVAL, 0, Some("500"))]),
        // It counts for nobody while the broker has its own, which may not go then.
        ("", vec![(INTERVAL, 0, Some("20000"))]),
        ("1", vec![(INTERVAL, 1, None)]),
        ("", vec![(INTERVAL, 0, Some("700"))]),
        ("1", vec![(INTERVAL, 1, None)]),
        ("1", vec![(VERIFIES, 0, Some("maybe"))]),
        ("", vec![(VERIFIES, 0, Some("false"))]),
        ("1", vec![("advertised.listeners", 0, Some("PLAINTEXT://127.0.0.1:9"))]),
        ("", vec![("group.consumer.max.assignment.interval.ms", 0, Some("9"))]),
        ("1", vec![(BACKOFF, 0, Some("-1"))]),
        ("1", vec![(BACKOFF, 0, Some("x"))]),
        ("1", vec![(BACKOFF, 0, Some("9000"))]),
        ("", vec![(BACKOFF, 0, Some("8000")), (IO_MEMORY, 0, Some("1000000"))]),
        ("1", vec![(BACKOFF, 2, Some("1"))]),
        ("1", vec![(KEYS_MEMORY, 0, Some("1048576"))]),
        ("1", vec![(KEYS_MEMORY, 0, Some("-1"))]),
        ("", vec![(KEYS_MEMORY, 0, Some("2097152"))]),
        ("1", vec![(LOAD, 0, Some("abc"))]),
        ("1", vec![(LOAD, 0, Some("0.8"))]),
        ("1", vec![(IO_MEMORY, 0, Some("-1"))]),
        ("1", vec![(PACE, 0, Some("1e6"))]),
        ("", vec![(PACE, 0, Some("20000000"))]),
        ("1", vec![(PACE, 0, Some("5e-5"))]),
        ("1", vec![("log.cleaner.enable", 0, Some("false"))]),
        ("1", vec![(EXPIRATION, 0, Some("0"))]),
        ("1", vec![(EXPIRATION, 0, Some("3600000"))]),
        ("", vec![(EXPIRATION, 0, Some("7200000"))]),
        ("1", vec![(EXPIRATION, 1, None), (BACKOFF, 1, None), (LOAD, 1, None), (PACE, 1, None)]),
    ];
    for (name, changes) in &steps {
        let what = format!("broker {name:?} {changes:?}");
        pair.once(&format!("validation of {what}"), |connection| alter(connection, 4, name, changes, true));
        pair.once(&what, |connection| alter(connection, 4, name, changes, false));
        pair.same(&format!("configurations of the broker after {what}"), |connection| {
            configs(connection, 4, "1", Some(LIVE.to_vec()))
        });
        pair.same(&format!("configurations of all brokers after {what}"), |connection| {
            configs(connection, 4, "", Some(LIVE.to_vec()))
        });
    }
}

/// AlterConfigs of a broker: what is not named goes.
fn replaced_settings(pair: &mut Pair) {
    for values in [
        vec![("max.connections", Some("250")), ("log.retention.ms", Some("666666"))],
        vec![("max.connections", Some("250")), ("node.id", Some("1"))],
        vec![("max.connections", None)],
        vec![],
    ] {
        pair.once(&format!("AlterConfigs of the broker {values:?}"), |connection| replace(connection, 4, "1", &values));
        pair.same(&format!("configurations of the broker after AlterConfigs {values:?}"), |connection| {
            configs(connection, 4, "1", Some([LIVE, &["log.retention.ms", "log.segment.bytes"]].concat()))
        });
    }
}

fn groups(pair: &mut Pair) {
    const ASSIGNMENT: &str = "consumer.assignment.interval.ms";
    const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
    const SESSION: &str = "consumer.session.timeout.ms";
    let set = |key, value| vec![(key, 0, Some(value))];
    let steps: Vec<(&str, Vec<Change>)> = vec![
        ("g", set(SESSION, "50000")),
        ("g", set(SESSION, "44999")),
        ("g", set(SESSION, "60001")),
        ("g", set(SESSION, "0")),
        ("g", set(SESSION, "x")),
        ("g", set(SESSION, "")),
        ("g", set(HEARTBEAT, "4999")),
        ("g", set(HEARTBEAT, "15001")),
        ("g", set(HEARTBEAT, "6000")),
        ("g", set(ASSIGNMENT, "15001")),
        ("g", set(ASSIGNMENT, "-1")),
        ("g", set(ASSIGNMENT, "500")),
        ("g", set("bogus", "1")),
        ("g", set("consumer.assignor.offload.enable", "true")),
        ("g", vec![("bogus", 1, None)]),
        ("g", vec![("bogus", 2, Some("1"))]),
        ("g", vec![(SESSION, 3, Some("1"))]),
        ("g", vec![(SESSION, 0, None)]),
        ("g", vec![(SESSION, 0, Some("55000")), ("bogus", 0, Some("1"))]),
        ("", set(SESSION, "50000")),
        ("a group, with spaces", set(HEARTBEAT, "7000")),
        ("g", vec![(SESSION, 1, None), (ASSIGNMENT, 1, None)]),
        ("a group, with spaces", vec![(HEARTBEAT, 1, None)]),
    ];
    let of_group = |connection: &mut Connection, name: &str| {
        let mut found = configs(connection, 32, name, None);
        // Nothing here would act on these.
        found.1.retain(|key, _| !key.starts_with("share.") && !key.starts_with("streams."));
        found
    };
    for (name, changes) in &steps {
        let what = format!("group {name:?} {changes:?}");
        pair.once(&format!("validation of {what}"), |connection| alter(connection, 32, name, changes, true));
        pair.once(&what, |connection| alter(connection, 32, name, changes, false));
        pair.same(&format!("configurations after {what}"), |connection| of_group(connection, "g"));
        pair.same(&format!("groups with configurations after {what}"), |connection| resources(connection, 1, &[32]));
    }
    for key in ["share.session.timeout.ms", "streams.session.timeout.ms"] {
        let refused = alter(&mut pair.weir, 32, "g", &set(key, "50000"), false);
        let sentence = format!("Unknown group config name: {key}");
        assert_eq!(refused.0, (Some(ErrorCode::InvalidConfig), Some(sentence)));
    }
    // The interval that members are told is the group's own, once Kafka's coordinator has loaded.
    pair.same("coordinator", |connection| {
        let request = FindCoordinatorRequest { coordinator_keys: vec!["g"], ..FindCoordinatorRequest::default() };
        let answer = ask(connection, ApiKey::FindCoordinator, 4, &request);
        let answer: FindCoordinatorResponse<'_> = decode(&answer, 4).expect("an answer");
        answer.coordinators[0].error_code == 0
    });
    for group_id in ["g", "other"] {
        pair.same(&format!("heartbeat in {group_id}"), |connection| {
            let request = ConsumerGroupHeartbeatRequest {
                group_id,
                member_id: "member",
                rebalance_timeout_ms: 30_000,
                subscribed_topic_names: Some(vec!["three"]),
                topic_partitions: Some(Vec::new()),
                ..ConsumerGroupHeartbeatRequest::default()
            };
            let answer = ask(connection, ApiKey::ConsumerGroupHeartbeat, 1, &request);
            let answer: ConsumerGroupHeartbeatResponse<'_> = decode(&answer, 1).expect("an answer");
            (answer.error_code, answer.heartbeat_interval_ms)
        });
    }
    for (name, values) in [("g", vec![(SESSION, Some("50000"))]), ("g", vec![("bogus", Some("1"))]), ("g", vec![])] {
        pair.once(&format!("AlterConfigs of group {values:?}"), |connection| replace(connection, 32, name, &values));
        pair.same("configurations after AlterConfigs", |connection| of_group(connection, "g"));
    }
}

fn resources(connection: &mut Connection, version: i16, kinds: &[i8]) -> (i16, BTreeSet<(i8, String)>) {
    let request = ListConfigResourcesRequest { resource_types: kinds.to_vec() };
    let answer = ask(connection, ApiKey::ListConfigResources, version, &request);
    let answer: ListConfigResourcesResponse<'_> = decode(&answer, version).expect("an answer");
    let resource =
        |it: &list_config_resources_response::ConfigResource<'_>| (it.resource_type, it.resource_name.to_owned());
    (answer.error_code, answer.config_resources.iter().map(resource).collect())
}

fn loggers(pair: &mut Pair) {
    let set = |level| vec![("root", 0, Some(level))];
    let steps: Vec<(&str, Vec<Change>)> = vec![
        ("1", set("WARN")),
        ("1", set("FATAL")),
        ("1", set("warn")),
        ("1", set("OFF")),
        ("1", set("")),
        ("1", vec![("root", 0, None)]),
        ("1", vec![("root", 1, None)]),
        ("1", vec![("root", 2, Some("INFO"))]),
        ("1", vec![("root", 3, Some("INFO"))]),
        ("1", vec![("bogus", 0, Some("INFO"))]),
        ("1", vec![("bogus", 1, None)]),
        ("1", vec![("root", 0, Some("INFO")), ("bogus", 0, Some("INFO"))]),
        ("1", vec![("root", 0, Some("INFO")), ("root", 0, Some("WARN"))]),
        ("1", vec![]),
        ("7", set("WARN")),
        ("x", set("WARN")),
        ("", set("WARN")),
        ("1", set("INFO")),
    ];
    for (name, changes) in &steps {
        let what = format!("loggers of {name:?} {changes:?}");
        pair.once(&format!("validation of {what}"), |connection| alter(connection, 8, name, changes, true));
        pair.once(&what, |connection| alter(connection, 8, name, changes, false));
        pair.same(&format!("root after {what}"), |connection| configs(connection, 8, "1", Some(vec!["root"])));
    }
    pair.once("AlterConfigs of loggers", |connection| replace(connection, 8, "1", &[("root", Some("WARN"))]));
    // The other loggers are each broker's own.
    let described = |connection: &mut Connection| configs(connection, 8, "1", None).1;
    let (of_weir, of_kafka) = (described(&mut pair.weir), described(&mut pair.kafka));
    let forms = |loggers: &BTreeMap<String, Config>| -> BTreeSet<Config> { loggers.values().cloned().collect() };
    assert_eq!(forms(&of_weir), forms(&of_kafka));
    for (connection, loggers) in [(&mut pair.weir, of_weir), (&mut pair.kafka, of_kafka)] {
        let logger: &'static str = loggers.keys().find(|name| *name != "root").expect("a logger").clone().leak();
        let level = |connection: &mut Connection| configs(connection, 8, "1", Some(vec![logger])).1[logger].0.clone();
        for (operation, given, then) in [(0, Some("TRACE"), "TRACE"), (1, None, "INFO")] {
            assert_eq!(alter(connection, 8, "1", &[(logger, operation, given)], false).0.0, Some(ErrorCode::None));
            assert_eq!(level(connection).as_deref(), Some(then));
        }
    }
    for (version, kinds) in [(1, &[4, 8][..]), (1, &[8]), (1, &[16]), (1, &[3]), (0, &[])] {
        pair.same(&format!("resources {kinds:?}"), |connection| resources(connection, version, kinds));
    }
}

/// What was set is there after a restart, but for the levels of loggers.
pub(super) fn restarts(pair: &mut Pair, weir: &mut Broker) {
    let set = [
        (4, "1", "max.connections", "300"),
        (4, "", "max.connections.per.ip", "200"),
        (4, "1", "log.cleaner.backoff.ms", "7000"),
        (4, "", "producer.id.expiration.ms", "5000000"),
    ];
    for (kind, name, key, value) in set.into_iter().chain([(32, "kept", "consumer.session.timeout.ms", "50000")]) {
        assert_eq!(alter(&mut pair.weir, kind, name, &[(key, 0, Some(value))], false).0.0, Some(ErrorCode::None));
    }
    assert_eq!(alter(&mut pair.weir, 8, "1", &[("root", 0, Some("WARN"))], false).0.0, Some(ErrorCode::None));
    let see = |connection: &mut Connection| {
        let of_brokers = ["1", ""].map(|name| configs(connection, 4, name, Some(LIVE.to_vec())));
        (of_brokers, configs(connection, 32, "kept", None))
    };
    let before = see(&mut pair.weir);
    weir.restart();
    pair.weir = Connection::open(&weir.bootstrap()).expect("a connection");
    assert_eq!(see(&mut pair.weir), before);
    assert_eq!(configs(&mut pair.weir, 8, "1", Some(vec!["root"])).1["root"].0.as_deref(), Some("INFO"));
}

/// Every public key of Kafka's broker stands in one of Weir's tables, and where it is a setting of Weir it has Kafka's
/// default and type, and may be changed while the broker runs where Kafka can and it is not named here.
#[test]
#[ignore = "starts Apache Kafka"]
fn broker_keys_are_kafkas() {
    /// Settings whose default is another than Kafka's: Weir listens on loopback until told otherwise, keeps its data
    /// beside it, and has a number without being told one.
    const OTHER_DEFAULTS: &[&str] = &["listeners", "log.dir", "log.dirs", "node.id", "broker.id"];
    /// Settings that Kafka can change while it runs: what clients connect to.
    const FIXED: &[&str] = &["listener.security.protocol.map", "listeners"];
    /// Keys that Kafka reads and does not describe: its code defines them as internal.
    const INTERNAL: &[&str] = &["group.consumer.regex.refresh.interval.ms"];
    let _machine = cache::whole_machine();
    let suite = harness::suite!();
    let kafka = Broker::start_peer(Peer::Kafka, &suite, "parity-keys", &[]);
    let mut connection = Connection::open(&kafka.bootstrap()).expect("a connection");
    let (_, keys) = configs(&mut connection, 4, "1", None);
    assert!(keys.len() > 200, "Kafka has described only {} keys", keys.len());
    let mut wrong = BTreeSet::new();
    let mut fixed = BTreeSet::new();
    for (key, (_, _, kind, read_only, synonyms)) in &keys {
        let Some(setting) = settings::find(key) else {
            if treatment(key).is_none() {
                wrong.insert(format!("{key} is in no table"));
            }
            continue;
        };
        if !setting.dynamic && !read_only {
            fixed.insert(key.as_str());
        }
        if setting.dynamic && *read_only {
            wrong.insert(format!("{key} cannot be changed in Kafka"));
        }
        let default = synonyms.iter().find(|(name, _, source)| name == key && *source == 5);
        let default = default.and_then(|(_, value, _)| value.clone());
        if setting.kind.protocol_type() != *kind {
            wrong.insert(format!("{key} has the type {kind} in Kafka"));
        }
        if !OTHER_DEFAULTS.contains(&key.as_str()) && default.as_deref() != setting.default {
            wrong.insert(format!("{key} has the default {default:?} in Kafka, here {:?}", setting.default));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fixed, FIXED.iter().copied().collect(), "what Kafka can change and Weir cannot");
    let ours = settings::SETTINGS.iter().filter(|setting| setting.is_kafkas);
    let unknown: Vec<_> = ours.filter(|setting| !keys.contains_key(setting.name)).map(|setting| setting.name).collect();
    assert_eq!(unknown, INTERNAL, "what Kafka does not describe");
}
