//! Answers side by side: what differs from run to run is masked, the rest is compared field by field, and what
//! `accepted.toml` explains is left out.

use std::collections::{BTreeMap, BTreeSet};

use crate::forms::Tree;

/// Fields that differ from run to run or from machine to machine. That there is a value is compared all the same.
const MASKED: &[&str] = &[
    "AssignmentId",
    "BrokerEpoch",
    "ClusterId",
    "FinalizedFeaturesEpoch",
    "Host",
    "JoinGroupTimeMs",
    "LastCaughtUpTimestamp",
    "LastFetchTimestamp",
    "LastTimestamp",
    "LogAppendTimeMs",
    "LogDir",
    "Port",
    "ReplicaDirectoryId",
    "SessionId",
    "TopicId",
    "TotalBytes",
    "TransactionStartTimeMs",
    "UsableBytes",
];

/// Fields that say which element of a list one is. The others may come in any order.
const NAMES: &[&str] = &[
    "Name",
    "Topic",
    "TopicName",
    "ResourceType",
    "ResourceName",
    "GroupId",
    "GroupInstanceId",
    "TransactionalId",
    "Feature",
    "ApiKey",
    "Key",
    "NodeId",
    "BrokerId",
    "Partition",
    "PartitionIndex",
    "PartitionId",
    "Index",
    "ReplicaId",
    "BatchIndex",
    "ProtocolName",
];

/// Names that a broker has chosen, for elements that have no other.
const CHOSEN: &[&str] = &["TopicId", "MemberId"];

/// The fields of an answer by their places: `Topics[nope].Partitions[0].ErrorCode`.
pub(crate) type Flat = BTreeMap<String, String>;

/// Flattens an answer. What a variable holds is shown as the variable, since brokers choose such things freely.
pub(crate) fn flatten(tree: &Tree, variables: &BTreeMap<String, String>) -> Flat {
    let mut flat = Flat::new();
    walk(tree, "", "", variables, &mut flat);
    flat
}

/// The value at a place of an answer, in which `*` stands for anything.
pub(crate) fn find(tree: &Tree, place: &str) -> Option<String> {
    let mut flat = Flat::new();
    raw(tree, "", &mut flat);
    flat.into_iter().find(|(path, _)| matches(place, path)).map(|(_, value)| value)
}

fn walk(tree: &Tree, path: &str, name: &str, variables: &BTreeMap<String, String>, flat: &mut Flat) {
    match tree {
        Tree::Null => drop(flat.insert(path.to_owned(), "null".to_owned())),
        Tree::Leaf(value) => drop(flat.insert(path.to_owned(), mask(name, value, variables))),
        Tree::Fields(fields) => {
            for (name, field) in fields {
                walk(field, &join(path, name), name, variables, flat);
            }
        }
        Tree::List(items) => {
            flat.insert(format!("{path}.count"), items.len().to_string());
            for (label, item) in labelled(items, variables) {
                walk(item, &format!("{path}[{label}]"), name, variables, flat);
            }
        }
    }
}

fn raw(tree: &Tree, path: &str, flat: &mut Flat) {
    match tree {
        Tree::Null => {}
        Tree::Leaf(value) => drop(flat.insert(path.to_owned(), value.clone())),
        Tree::Fields(fields) => fields.iter().for_each(|(name, field)| raw(field, &join(path, name), flat)),
        Tree::List(items) => {
            labelled(items, &BTreeMap::new()).for_each(|(label, item)| raw(item, &format!("{path}[{label}]"), flat));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The elements of a list with what names them, or with their place where nothing does.
fn labelled<'a>(items: &'a [Tree], variables: &BTreeMap<String, String>) -> impl Iterator<Item = (String, &'a Tree)> {
    let mut seen = BTreeMap::new();
    items.iter().enumerate().map(move |(index, item)| {
        let Tree::Fields(fields) = item else { return (index.to_string(), item) };
        let names = fields.iter().filter_map(|(name, field)| match field {
            Tree::Leaf(value) if NAMES.contains(&name.as_str()) && value.is_empty() => Some("\"\"".to_owned()),
            Tree::Leaf(value) if NAMES.contains(&name.as_str()) => Some(value.clone()),
            _ => None,
        });
        let mut label = names.collect::<Vec<_>>().join(" ");
        if label.is_empty()
            && let Some((name, Tree::Leaf(id))) = fields.iter().find(|(name, _)| CHOSEN.contains(&name.as_str()))
        {
            let variable = variables.iter().find(|(_, held)| *held == id);
            let other = if name == "TopicId" { id.clone() } else { String::new() };
            label = variable.map_or(other, |(variable, _)| format!("${variable}"));
        }
        let count: &mut usize = seen.entry(label.clone()).or_default();
        *count += 1;
        match (label.is_empty(), *count) {
            (true, _) => (index.to_string(), item),
            (false, 1) => (label, item),
            (false, count) => (format!("{label} #{count}"), item),
        }
    })
}

fn mask(name: &str, value: &str, variables: &BTreeMap<String, String>) -> String {
    let is_it = |(variable, held): &(&String, &String)| {
        // What follows a dash tells variables of one kind apart.
        let kind = variable.split('-').next().unwrap_or_default().to_lowercase();
        *held == value && !held.is_empty() && (value.len() > 4 || name.to_lowercase().contains(&kind))
    };
    if let Some((variable, _)) = variables.iter().find(is_it) {
        return format!("${variable}");
    }
    let nothing = ["", "0", "-1", "AAAAAAAAAAAAAAAAAAAAAA"];
    if MASKED.contains(&name) && !nothing.contains(&value) { "*".to_owned() } else { value.to_owned() }
}

/// A difference that is as it should be.
#[derive(Debug)]
struct Accepted {
    api: String,
    case: String,
    versions: String,
    field: String,
    kafka: String,
    weir: String,
}

/// The differences that are accepted, and which of them have been met.
#[derive(Debug)]
pub(crate) struct Acceptance {
    differences: Vec<Accepted>,
    met: BTreeSet<usize>,
    unserved: BTreeMap<String, bool>,
}

/// The word for a field that an answer does not have.
const ABSENT: &str = "absent";

impl Acceptance {
    /// Reads `accepted.toml`.
    pub(crate) fn read() -> Acceptance {
        let table: toml::Table = toml::from_str(include_str!("accepted.toml")).expect("accepted.toml is TOML");
        let list = |key: &str| table.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let text = |entry: &toml::Value, key: &str, missing: &str| -> String {
            entry.get(key).and_then(toml::Value::as_str).unwrap_or(missing).to_owned()
        };
        let explained = |entry: &toml::Value| {
            assert!(!text(entry, "why", "").is_empty(), "accepted.toml: {entry:?} does not say why");
        };
        let difference = |entry: &toml::Value| {
            explained(entry);
            Accepted {
                api: text(entry, "api", "*"),
                case: text(entry, "case", "*"),
                versions: text(entry, "version", "*"),
                field: text(entry, "field", "*"),
                kafka: text(entry, "kafka", "*"),
                weir: text(entry, "weir", "*"),
            }
        };
        let unserved = list("unserved");
        unserved.iter().for_each(explained);
        Acceptance {
            differences: list("difference").iter().map(difference).collect(),
            met: BTreeSet::new(),
            unserved: unserved.iter().map(|entry| (text(entry, "api", ""), false)).collect(),
        }
    }

    /// Whether it is accepted that Weir does not serve an API.
    pub(crate) fn unserved(&mut self, api: &str) -> bool {
        self.unserved.get_mut(api).map(|met| *met = true).is_some()
    }

    /// The differences between two answers that are not accepted, one a line.
    pub(crate) fn differences(
        &mut self,
        api: &str,
        case: &str,
        version: i16,
        kafka: &Flat,
        weir: &Flat,
    ) -> Vec<String> {
        let fields: BTreeSet<&String> = kafka.keys().chain(weir.keys()).collect();
        let mut different = Vec::new();
        for field in fields {
            let value = |flat: &Flat| flat.get(field).cloned().unwrap_or_else(|| ABSENT.to_owned());
            let (of_kafka, of_weir) = (value(kafka), value(weir));
            if of_kafka == of_weir {
                continue;
            }
            let explains = |it: &Accepted| {
                matches(&it.api, api)
                    && matches(&it.case, case)
                    && matches(&it.versions, &version.to_string())
                    && matches(&it.field, field)
                    && matches(&it.kafka, &of_kafka)
                    && matches(&it.weir, &of_weir)
            };
            match self.differences.iter().position(explains) {
                Some(number) => drop(self.met.insert(number)),
                None => different.push(format!("    {field}\n        Kafka {of_kafka}\n        Weir  {of_weir}")),
            }
        }
        different
    }

    /// What is accepted and has not been met.
    pub(crate) fn idle(&self) -> Vec<String> {
        let idle = self.differences.iter().enumerate().filter(|(number, _)| !self.met.contains(number));
        let idle = idle.map(|(_, difference)| format!("accepted, and never met: {difference:?}"));
        let unserved = self.unserved.iter().filter(|(_, met)| !**met);
        idle.chain(unserved.map(|(api, _)| format!("accepted as not served, and served or in no case: {api}")))
            .collect()
    }
}

/// Whether a text is of a pattern, in which `*` stands for any text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abd", false),
            ("ab", "abc", false),
            ("*[x]*b", "a[x].b", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_field_that_differs_or_lacks_is_found_and_may_be_accepted() {
        let leaf = |text: &str| Tree::Leaf(text.to_owned());
        let fields = |fields: Vec<(&str, Tree)>| {
            Tree::Fields(fields.into_iter().map(|(name, tree)| (name.to_owned(), tree)).collect())
        };
        let answer = |code: &str, topics: &[&str]| {
            let topic =
                |name: &&str| fields(vec![("ErrorCode", leaf(code)), ("Name", leaf(name)), ("Port", leaf(code))]);
            flatten(&fields(vec![("Topics", Tree::List(topics.iter().map(topic).collect()))]), &BTreeMap::new())
        };
        let accepted = Accepted {
            api: "*".to_owned(),
            case: "c".to_owned(),
            versions: "*".to_owned(),
            field: "Topics[a].ErrorCode".to_owned(),
            kafka: "3".to_owned(),
            weir: "*".to_owned(),
        };
        let mut acceptance =
            Acceptance { differences: vec![accepted], met: BTreeSet::new(), unserved: BTreeMap::new() };
        let mut differ =
            |case: &str, kafka: &Flat, weir: &Flat| acceptance.differences("x", case, 1, kafka, weir).len();
        assert_eq!(differ("c", &answer("3", &["a", "b"]), &answer("3", &["b", "a"])), 0, "order means nothing");
        assert_eq!(differ("d", &answer("3", &["a"]), &answer("4", &["a"])), 1, "the port is masked, the code is not");
        assert_eq!(differ("c", &answer("3", &["a"]), &answer("4", &["a"])), 0);
        assert_eq!(differ("c", &answer("3", &["b"]), &answer("3", &["c"])), 6);
        assert!(acceptance.idle().is_empty());
    }
}
