//! The script: cases in the order in which they are played, from the files in `script/` in the order of [`FILES`].
//!
//! ```toml
//! [[case]]
//! name = "produce-to-nothing"              # of the case, for reports and for `accepted.toml`
//! api = "Produce"                          # Kafka's name
//! versions = "3-12"                        # "all" if it is left out, "newest", "7", "7+", "3-12"
//! connection = "other"                     # a connection of that name; "main" if it is left out
//! body = { Acks = -1, TopicData = [{ Name = "nope" }] }   # the fields that matter; "~" is null
//! save = { offset = "Responses[nope].BaseOffset" }        # for later bodies, as "$offset";
//!                                          # "${version}" is the version, in texts and in these names
//! send = true                              # sends only; a later case with `answer = NAME` reads the answer
//! retry = true                             # asks again while the coordinator is loading or unknown
//! until = { "Groups[g].GroupState" = "Stable" }           # asks again until the answer has this
//! ```
//!
//! What Apache Kafka never answers cannot be asked here: a Produce of null records, which fails inside it, and
//! AddPartitionsToTxn from version 4 on without a transaction or with one twice, since it answers when it has as many results as
//! transactions were named.

use std::collections::{BTreeMap, BTreeSet};

use wire::api::ApiKey;

/// The files of the script.
const FILES: &[(&str, &str)] = &[
    ("topics.toml", include_str!("script/topics.toml")),
    ("records.toml", include_str!("script/records.toml")),
    ("admin.toml", include_str!("script/admin.toml")),
    ("groups.toml", include_str!("script/groups.toml")),
    ("consumers.toml", include_str!("script/consumers.toml")),
    ("transactions.toml", include_str!("script/transactions.toml")),
];

/// One request, or the answer to one that was only sent.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// The API asked.
    pub(crate) api: ApiKey,
    /// In which versions, of those that Kafka serves.
    pub(crate) versions: Versions,
    /// On which connection.
    pub(crate) connection: String,
    /// The fields of the body.
    pub(crate) body: toml::Table,
    /// Variable by variable, where in the answer its value is.
    pub(crate) save: BTreeMap<String, String>,
    /// Whether the answer is left for a later case.
    pub(crate) send_only: bool,
    /// The case whose answer is read here.
    pub(crate) answer: Option<String>,
    /// Whether to ask again while the coordinator is on its way.
    pub(crate) retry: bool,
    /// Place by place, what the answer has in the end.
    pub(crate) until: BTreeMap<String, String>,
}

/// A choice among the versions of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    /// The newest one.
    Newest,
    /// Those in a range.
    Range(i16, i16),
}

/// Reads the script.
///
/// # Panics
/// Where it breaks its notation.
pub(crate) fn read() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (file, text) in FILES {
        let table: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(table.keys().all(|key| key == "case"), "{file}: only cases stand here");
        for entry in table["case"].as_array().expect("cases are a list") {
            let case = Case::read(entry.as_table().expect("a case is a table"), &cases);
            let case = case.unwrap_or_else(|error| panic!("{file}: {error} in {entry:?}"));
            cases.push(case);
        }
    }
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "names of cases are unique");
    cases
}

impl Case {
    fn read(entry: &toml::Table, before: &[Case]) -> Result<Case, String> {
        const KEYS: &[&str] =
            &["name", "api", "versions", "connection", "body", "save", "send", "answer", "retry", "until"];
        if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(format!("unknown key {key}"));
        }
        let text = |key: &str| entry.get(key).and_then(toml::Value::as_str);
        let truth = |key: &str| entry.get(key).and_then(toml::Value::as_bool).unwrap_or_default();
        let name = text("name").ok_or("a case has a name")?.to_owned();
        let answer = text("answer").map(str::to_owned);
        let sent = match &answer {
            Some(sent) => Some(before.iter().find(|case| case.name == *sent).ok_or("the case was not sent before")?),
            None => None,
        };
        let api = match sent {
            Some(sent) => sent.api,
            None => {
                let name = text("api").ok_or("a case has an API")?;
                *ApiKey::ALL.iter().find(|api| api.name() == name).ok_or("no such API")?
            }
        };
        let body = entry.get("body").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let texts = |key: &str| {
            let table = entry.get(key).and_then(toml::Value::as_table).cloned().unwrap_or_default();
            table.into_iter().map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect()
        };
        Ok(Case {
            name,
            api,
            versions: sent
                .map_or_else(|| Versions::parse(text("versions").unwrap_or("all")), |sent| Ok(sent.versions))?,
            connection: sent
                .map_or_else(|| text("connection").unwrap_or("main").to_owned(), |sent| sent.connection.clone()),
            body,
            save: texts("save"),
            send_only: truth("send"),
            answer,
            retry: truth("retry"),
            until: texts("until"),
        })
    }
}

impl Versions {
    fn parse(text: &str) -> Result<Versions, String> {
        let number = |text: &str| text.parse::<i16>().map_err(|_| format!("no version {text}"));
        Ok(match text {
            "all" => Versions::Range(0, i16::MAX),
            "newest" => Versions::Newest,
            _ => match (text.strip_suffix('+'), text.split_once('-')) {
                (Some(first), _) => Versions::Range(number(first)?, i16::MAX),
                (None, Some((first, last))) => Versions::Range(number(first)?, number(last)?),
                (None, None) => Versions::Range(number(text)?, number(text)?),
            },
        })
    }

    /// The versions meant, of those from `first` to `last`.
    pub(crate) fn of(self, first: i16, last: i16) -> impl Iterator<Item = i16> {
        let (from, to) = match self {
            Versions::Newest => (last, last),
            Versions::Range(from, to) => (from.max(first), to.min(last)),
        };
        from..=to
    }
}
