//! One script of requests, valid, at the edge and wrong, played to Weir and to Apache Kafka. The answers are compared
//! field by field; what may differ stands in `accepted.toml` with the reason, and must go on to differ.
//!
//! `script.rs` describes the notation of the cases. Beside them every API that Kafka's broker serves to clients is sent
//! a version that nobody has, half of a body, and no body.
//!
//! `WEIR_DIFFERENTIAL_SHOW=CASE` (a name, with `*` for anything) prints what Kafka answers.

mod compare;
mod forms;
#[path = "../../wire/build/schema.rs"]
#[allow(dead_code, reason = "the generator and the comparison with the jars use all of it")]
mod schema;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use harness::broker::{Broker, Peer};
use harness::raw::Connection;
use harness::{cache, suite};
use wire::Reader;
use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::header::{self, RequestHeader};

use compare::{Acceptance, Flat, flatten, matches};
use forms::{Forms, Tree, Variables};
use script::Case;

/// How long brokers may take to come to the same answer: Kafka's follows its controller, and the markers of a transaction
/// are written after its end was answered. What stays different for so long is different.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);
/// Between two questions of that kind: Kafka needs its processors for the answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(30);

/// How often a broker is asked for what is on its way: for 30 s, where Kafka takes one to create a coordinator's topic.
const ASKED_AT_MOST: usize = 1_000;
/// What a coordinator says then; clients ask again as well.
const ON_ITS_WAY: &[ErrorCode] = &[
    ErrorCode::CoordinatorLoadInProgress,
    ErrorCode::CoordinatorNotAvailable,
    ErrorCode::NotCoordinator,
    ErrorCode::ConcurrentTransactions,
];

/// Settings of both brokers, so that groups do not wait for members to come, records stay whenever they are from,
/// metadata of offsets is soon too long, transactions that take too long are looked for often, and consumers are given
/// their partitions at once.
const PROPERTIES: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.consumer.assignment.interval.ms", "0"),
    ("log.retention.ms", "-1"),
    ("offset.metadata.max.bytes", "16"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "100"),
];

#[test]
#[ignore = "starts Apache Kafka beside Weir"]
fn answers_are_those_of_kafka() {
    let _machine = cache::whole_machine();
    let (forms, cases) = (Forms::read(), script::read());
    let weir = Broker::start_peer(Peer::Weir, &suite!(), "differential-weir", PROPERTIES);
    let kafka = Broker::start_peer(Peer::Kafka, &suite!(), "differential-kafka", PROPERTIES);
    let (mut weir, mut kafka) = (Side::new(&forms, weir.bootstrap()), Side::new(&forms, kafka.bootstrap()));
    let mut acceptance = Acceptance::read();
    let (in_weir, in_kafka) = (weir.served(), kafka.served());
    let mut report = Vec::new();
    let mut asked: BTreeSet<(ApiKey, i16)> = BTreeSet::new();

    for case in &cases {
        let Some((first, last)) = in_kafka.get(&case.api).copied() else { panic!("Kafka does not serve {}", case.api) };
        // What Weir does not serve is told once, below.
        let Some((_, weir_last)) = in_weir.get(&case.api).copied() else { continue };
        for version in case.versions.of(first.max(case.api.info().kafka_min_version), last) {
            asked.insert((case.api, version));
            if version > weir_last {
                let same = acceptance.differences(
                    case.api.name(),
                    &case.name,
                    version,
                    &Flat::from([("version".to_owned(), "served".to_owned())]),
                    &Flat::from([("version".to_owned(), "not served".to_owned())]),
                );
                report.extend(same.into_iter().map(|it| format!("{} {} {version}\n{it}", case.name, case.api)));
                continue;
            }
            let different = play(case, version, &mut weir, &mut kafka, &mut acceptance);
            report.extend(told(&case.name, case.api, version, &different));
        }
    }
    for api in in_kafka.keys().filter(|api| !in_weir.contains_key(api)) {
        if !acceptance.unserved(api.name()) {
            report.push(format!("Weir does not serve {api}"));
        }
    }
    for (api, (first, last)) in in_weir.iter().filter(|(api, _)| in_kafka.contains_key(api)) {
        let untold: Vec<i16> =
            (*first.max(&api.info().kafka_min_version)..=*last).filter(|it| !asked.contains(&(*api, *it))).collect();
        if !untold.is_empty() {
            report.push(format!("no case asks for {api} in the versions {untold:?}"));
        }
        let sample = cases.iter().find(|case| case.api == *api && case.answer.is_none());
        report
            .extend(sample.into_iter().flat_map(|case| malformed(case, *last, &mut weir, &mut kafka, &mut acceptance)));
    }
    report.extend(acceptance.idle());
    assert!(report.is_empty(), "{} differences\n\n{}\n", report.len(), report.join("\n"));
}

#[test]
fn the_script_keeps_its_notation() {
    let (forms, cases) = (Forms::read(), script::read());
    for case in cases.iter().filter(|case| case.answer.is_none()) {
        let info = case.api.info();
        let wanted = variables_of(&case.body);
        for version in case.versions.of(info.kafka_min_version, info.max_version) {
            // Every variable holds something that is a number as well as an id.
            let name_of = |name: &String| name.replace("${version}", &version.to_string());
            let variables = wanted.iter().map(|name| (name_of(name), held_for(name))).collect();
            forms.encode(case.api, version, &case.body, &variables);
        }
    }
    Acceptance::read();
}

/// The variables that a body wants.
fn variables_of(body: &toml::Table) -> BTreeSet<String> {
    fn collect(value: &toml::Value, found: &mut BTreeSet<String>) {
        match value {
            toml::Value::String(text) if !text.starts_with("${") => {
                found.extend(text.strip_prefix('$').map(str::to_owned))
            }
            toml::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            toml::Value::Table(table) => table.values().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    body.values().for_each(|value| collect(value, &mut found));
    found
}

/// Something for a variable to hold where nobody answers.
fn held_for(name: &str) -> String {
    if name.ends_with("id") { "AAAAAAAAAAAAAAAAAAAAAQ".to_owned() } else { "7".to_owned() }
}

/// One broker and what it has said.
struct Side<'a> {
    forms: &'a Forms,
    bootstrap: String,
    connections: BTreeMap<String, Connection>,
    variables: Variables,
    /// Correlation ids of requests whose answers are still to be read.
    open: BTreeMap<(String, i16), i32>,
    next_correlation_id: i32,
}

/// What a broker does with a request.
enum Outcome {
    Answer(Tree),
    Undecodable(String),
    Closed,
    /// None for as long as the connection waits for one.
    Silence(io::Error),
    Sent,
}

impl<'a> Side<'a> {
    fn new(forms: &'a Forms, bootstrap: String) -> Side<'a> {
        let (connections, variables, open) = Default::default();
        Side { forms, bootstrap, connections, variables, open, next_correlation_id: 1 }
    }

    /// The APIs that the broker advertises, with their versions.
    fn served(&mut self) -> BTreeMap<ApiKey, (i16, i16)> {
        let body = toml::toml! { ClientSoftwareName = "weir-tests" ClientSoftwareVersion = "1" };
        let correlation_id = self.send("main", ApiKey::ApiVersions, 3, &self.encode(ApiKey::ApiVersions, 3, &body));
        let Outcome::Answer(Tree::Fields(fields)) = self.receive("main", ApiKey::ApiVersions, 3, correlation_id) else {
            panic!("{} does not answer ApiVersions", self.bootstrap)
        };
        let keys = fields.into_iter().find(|(name, _)| name == "ApiKeys");
        let Some((_, Tree::List(keys))) = keys else { panic!("ApiVersions lists the keys") };
        let row = |key: Tree| {
            let number = |name: &str| compare::find(&key, name).and_then(|it| it.parse::<i16>().ok());
            Some((ApiKey::from_key(number("ApiKey")?)?, (number("MinVersion")?, number("MaxVersion")?)))
        };
        keys.into_iter().filter_map(row).collect()
    }

    fn ask(&mut self, case: &Case, version: i16) -> Outcome {
        let correlation_id = match &case.answer {
            Some(sent) => self.open.remove(&(sent.clone(), version)).expect("the request has been sent"),
            None => self.send(&case.connection, case.api, version, &self.encode(case.api, version, &case.body)),
        };
        if case.send_only {
            self.open.insert((case.name.clone(), version), correlation_id);
            return Outcome::Sent;
        }
        self.receive(&case.connection, case.api, version, correlation_id)
    }

    fn encode(&self, api: ApiKey, version: i16, body: &toml::Table) -> Vec<u8> {
        self.forms.encode(api, version, body, &self.variables)
    }

    fn send(&mut self, connection: &str, api: ApiKey, version: i16, body: &[u8]) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let mut frame = Vec::new();
        let head = RequestHeader { api, version, correlation_id, client_id: Some("differential") };
        head.encode(&mut frame).expect("a request header");
        frame.extend_from_slice(body);
        let bootstrap = self.bootstrap.clone();
        let open = || Connection::open(&bootstrap).unwrap_or_else(|error| panic!("{bootstrap}: {error}"));
        let connection = self.connections.entry(connection.to_owned()).or_insert_with(open);
        // A broker that has closed the connection shows at the answer.
        let _ = connection.send_frame(&frame);
        correlation_id
    }

    fn receive(&mut self, name: &str, api: ApiKey, version: i16, correlation_id: i32) -> Outcome {
        let connection = self.connections.get_mut(name).expect("the request has been sent");
        let frame = match connection.receive() {
            Ok(Some(frame)) => frame,
            closed => {
                self.connections.remove(name);
                return closed.map_or_else(Outcome::Silence, |_| Outcome::Closed);
            }
        };
        let mut reader = Reader::new(&frame);
        let found = header::decode_response(&mut reader, api, version);
        if found != Ok(correlation_id) {
            return Outcome::Undecodable(format!("header {found:?}"));
        }
        match self.forms.decode(api, version, reader.rest()) {
            Ok(tree) => Outcome::Answer(tree),
            Err(error) => Outcome::Undecodable(format!("{error:?}")),
        }
    }

    /// The fields of the answer, after the variables have been saved that it is to be asked for.
    ///
    /// # Panics
    /// Where there is no answer: a broker that never answers holds up all that follows.
    fn see(&mut self, outcome: &Outcome, case: &str, version: i16, save: &BTreeMap<String, String>) -> Flat {
        let word = |word: &str| Flat::from([("outcome".to_owned(), word.to_owned())]);
        match outcome {
            Outcome::Closed => word("closed"),
            Outcome::Undecodable(error) => word(error),
            Outcome::Silence(error) => panic!("{case} {version}: no answer from {}: {error}", self.bootstrap),
            Outcome::Sent => Flat::new(),
            Outcome::Answer(tree) => {
                for (name, place) in save {
                    if let Some(value) = compare::find(tree, place) {
                        self.variables.insert(name.replace("${version}", &version.to_string()), value);
                    }
                }
                flatten(tree, &self.variables)
            }
        }
    }
}

/// Plays one case in one version, and says what differs.
fn play(
    case: &Case,
    version: i16,
    weir: &mut Side<'_>,
    kafka: &mut Side<'_>,
    acceptance: &mut Acceptance,
) -> Vec<String> {
    let deadline = Instant::now() + FOLLOWS_WITHIN;
    loop {
        let (weir_says, kafka_says) = (settled(case, version, weir), settled(case, version, kafka));
        let different = acceptance.differences(case.api.name(), &case.name, version, &kafka_says, &weir_says);
        if different.is_empty() || !(reads_only(case.api) && case.answer.is_none()) || Instant::now() > deadline {
            show(case, version, &kafka_says);
            return different;
        }
        std::thread::sleep(ASK_AGAIN_AFTER);
    }
}

/// The answer of one broker, asked again where the case wants that: while a coordinator is on its way, or until it says so.
fn settled(case: &Case, version: i16, side: &mut Side<'_>) -> Flat {
    for _ in 0..ASKED_AT_MOST {
        let outcome = side.ask(case, version);
        let flat = side.see(&outcome, &case.name, version, &case.save);
        let comes = case.retry && flat.iter().any(|(field, value)| on_its_way(field, value));
        if !comes && case.until.iter().all(|(field, value)| flat.get(field) == Some(value)) {
            return flat;
        }
        std::thread::sleep(ASK_AGAIN_AFTER);
    }
    panic!("{} {} {version}: what it waits for never comes from {}", case.name, case.api, side.bootstrap);
}

/// Whether a field says that a coordinator is on its way.
fn on_its_way(field: &str, value: &str) -> bool {
    let code = || value.parse().ok().and_then(ErrorCode::from_code);
    field.ends_with("ErrorCode") && code().is_some_and(|code| ON_ITS_WAY.contains(&code))
}

/// Whether asking twice is the same as asking once.
fn reads_only(api: ApiKey) -> bool {
    let name = api.name();
    let reads =
        ["Describe", "List", "Metadata", "FindCoordinator", "OffsetFetch", "OffsetForLeaderEpoch", "ApiVersions"];
    reads.iter().any(|prefix| name.starts_with(prefix))
}

/// Sends what cannot be read: a version that nobody has, half of a body, and no body.
fn malformed(
    case: &Case,
    version: i16,
    weir: &mut Side<'_>,
    kafka: &mut Side<'_>,
    acceptance: &mut Acceptance,
) -> Vec<String> {
    const UNKNOWN_VERSION: i16 = 99;
    const CONNECTION: &str = "malformed";
    let forms = ["version-nobody-has", "cut", "cut-to-nothing"];
    let mut report = Vec::new();
    for form in forms {
        let say = |side: &mut Side<'_>| {
            let body = side.encode(case.api, version, &case.body);
            let (version, body) = match form {
                "version-nobody-has" => (UNKNOWN_VERSION, &body[..]),
                "cut" => (version, &body[..body.len() / 2]),
                _ => (version, &body[..0]),
            };
            let correlation_id = side.send(CONNECTION, case.api, version, body);
            let read_as = if version == UNKNOWN_VERSION { 0 } else { version };
            let outcome = side.receive(CONNECTION, case.api, read_as, correlation_id);
            side.see(&outcome, &format!("{form} {}", case.api), version, &BTreeMap::new())
        };
        let (weir_says, kafka_says) = (say(weir), say(kafka));
        let different = acceptance.differences(case.api.name(), form, version, &kafka_says, &weir_says);
        report.extend(told(form, case.api, version, &different));
    }
    report
}

/// What differs in one answer, in as many fields as a reader wants to see.
fn told(case: &str, api: ApiKey, version: i16, different: &[String]) -> Option<String> {
    const TOLD: usize = 20;
    let (first, more) = different.split_at(different.len().min(TOLD));
    let more = if more.is_empty() { String::new() } else { format!("\n    and {} more fields", more.len()) };
    (!first.is_empty()).then(|| format!("{case} {api} {version}\n{}{more}", first.join("\n")))
}

/// Prints an answer of Kafka's, if it was asked for.
fn show(case: &Case, version: i16, flat: &Flat) {
    if std::env::var("WEIR_DIFFERENTIAL_SHOW").is_ok_and(|pattern| matches(&pattern, &case.name)) {
        println!("{} {} {version}", case.name, case.api);
        for (field, value) in flat {
            println!("    {field} = {value}");
        }
    }
}
