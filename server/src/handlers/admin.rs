//! What the admin APIs share: refusals, topic names, replica assignments, and the plan of a request.
//!
//! An admin handler is pure. One that only reads turns a request and the [`Image`] into a response. One that changes
//! something makes a [`Plan`]: the response that holds once the actions have been carried out, and the actions. Core 0
//! owns the catalog, makes all plans one after another on the newest image, and carries them out
//! ([`crate::controller`]).
//!
//! [`Image`]: crate::image::Image

use std::borrow::Cow;
use std::collections::HashMap;

use elsa::FrozenVec;
use wire::error::ErrorCode;

use crate::catalog::Action;
use crate::limits::{METADATA_BYTES, METADATA_RECORDS};

/// Texts that a handler has made, for as long as its response borrows them.
pub type Texts = FrozenVec<String>;

/// What a request comes to, if its actions can be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<R> {
    /// The response for then.
    pub response: R,
    /// What is to be done, all at once. Nothing if the request only asks whether it could be done.
    pub actions: Vec<Action>,
}

/// Why a part of a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error.
    pub code: ErrorCode,
    /// What exactly; null in the response where there is nothing to add.
    pub message: Option<Cow<'static, str>>,
}

impl Refusal {
    /// A refusal with a sentence of its own.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, message: Some(message.into()) }
    }

    /// A refusal with the sentence that the error has anyway.
    #[must_use]
    pub fn plain(code: ErrorCode) -> Refusal {
        Refusal { code, message: Some(Cow::Borrowed(code.message())) }
    }

    /// The number and the message, as a response has them.
    #[must_use]
    pub fn parts(self, texts: &Texts) -> (i16, Option<&str>) {
        let message = self.message.map(|message| match message {
            Cow::Borrowed(message) => message,
            Cow::Owned(message) => texts.push_get(message),
        });
        (self.code as i16, message)
    }
}

/// What a client may do with a topic where nothing is authorised: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE,
/// DESCRIBE_CONFIGS and ALTER_CONFIGS, a bit each (KIP-430).
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// What a client may do with the cluster where nothing is authorised: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION,
/// DESCRIBE_CONFIGS, ALTER_CONFIGS and IDEMPOTENT_WRITE.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// What a client may do with a group where nothing is authorised: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and
/// ALTER_CONFIGS.
pub const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// "Was not asked for", in the fields of authorised operations.
pub const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// The longest name of a topic, in bytes. With a partition's number it must make a file name.
const MAX_TOPIC_NAME_BYTES: usize = 249;

/// Checks a topic's name. The sentences are Kafka's.
pub fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let rule = match name {
        "" => Cow::Borrowed("the empty string is not allowed"),
        "." | ".." => Cow::Owned(format!("'{name}' is not allowed")),
        _ if name.len() > MAX_TOPIC_NAME_BYTES => {
            Cow::Owned(format!("the length of '{name}' is longer than the max allowed length {MAX_TOPIC_NAME_BYTES}"))
        }
        _ if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => Cow::Owned(format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )),
        _ => return Ok(()),
    };
    Err(Refusal::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {rule}")))
}

/// Whether two names differ in nothing but dots and underscores: metrics could not tell them apart.
#[must_use]
pub fn names_collide(a: &str, b: &str) -> bool {
    let unify = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| unify(a) == unify(b))
}

/// Checks the brokers that a client has chosen for one partition. `expected` is how many the partitions before it have.
pub fn check_assignment(brokers: &[i32], node_id: i32, expected: Option<usize>) -> Result<(), Refusal> {
    const WHAT: &str = "The manual partition assignment includes";
    let rule = if brokers.is_empty() {
        "an empty replica list.".to_owned()
    } else if let Some(unknown) = brokers.iter().find(|broker| **broker != node_id) {
        format!("broker {unknown}, but no such broker is registered.")
    } else if brokers.len() > 1 {
        format!("the broker {node_id} more than once.")
    } else if let Some(expected) = expected.filter(|expected| *expected != brokers.len()) {
        format!(
            "a partition with {} replica(s), but this is not consistent with previous partitions, which have \
             {expected} \
             replica(s).",
            brokers.len()
        )
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, format!("{WHAT} {rule}")))
}

/// How often each item occurs.
pub fn count_by<K: std::hash::Hash + Eq>(items: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut counts = HashMap::new();
    for item in items {
        *counts.entry(item).or_insert(0) += 1;
    }
    counts
}

/// Refuses what is too much for one decision: it must fit into one batch of the catalog.
pub fn check_size(actions: &[Action]) -> Result<(), Refusal> {
    let records: usize = actions.iter().map(Action::record_count).sum();
    let bytes: usize = actions.iter().map(Action::bytes_bound).sum();
    let longest = actions.iter().map(Action::longest_text).max().unwrap_or(0);
    if longest > MAX_TEXT_BYTES {
        let sentence = format!("A value is longer than {MAX_TEXT_BYTES} bytes.");
        return Err(Refusal::new(ErrorCode::InvalidConfig, sentence));
    }
    if records > METADATA_RECORDS {
        return Err(Refusal::new(ErrorCode::PolicyViolation, TOO_MANY_RECORDS));
    }
    if bytes > METADATA_BYTES {
        let sentence =
            format!("The request changes more than the {METADATA_BYTES} bytes of metadata that one request may.");
        return Err(Refusal::new(ErrorCode::PolicyViolation, sentence));
    }
    Ok(())
}

/// The longest text of the protocol, in bytes: its length has 15 bits. Appending to a list may exceed it.
const MAX_TEXT_BYTES: usize = 32_767;

/// Kafka's sentence for requests that would make more than 10,000 records.
pub const TOO_MANY_RECORDS: &str = "Unable to perform excessively large batch operation.";

/// Kafka's sentence for requests that would create more than 10,000 partitions.
pub const TOO_MANY_PARTITIONS: &str = "Excessively large number of partitions per request.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "A-z_0.9", "...", "_", &"a".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        let long = "a".repeat(250);
        let cases = [
            ("", "Topic name is invalid: the empty string is not allowed".to_owned()),
            ("..", "Topic name is invalid: '..' is not allowed".to_owned()),
            (
                "a b",
                "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' \
                 and '-'"
                .to_owned(),
            ),
            (&long, format!("Topic name is invalid: the length of '{long}' is longer than the max allowed length 249")),
        ];
        for (name, sentence) in cases {
            let refusal = check_topic_name(name).unwrap_err();
            assert_eq!(refusal, Refusal::new(ErrorCode::InvalidTopicException, sentence));
        }
        assert!(check_topic_name("ä").is_err() && check_topic_name("a/b").is_err());
    }

    #[test]
    fn collisions() {
        for (a, b, collide) in [("a.b", "a_b", true), ("a.b", "a.b", true), ("a.b", "a-b", false), ("a", "ab", false)] {
            assert_eq!(names_collide(a, b), collide, "{a} {b}");
        }
    }

    #[test]
    fn assignments() {
        let sentence = |brokers: &[i32], expected| check_assignment(brokers, 1, expected).unwrap_err().message.unwrap();
        assert_eq!(check_assignment(&[1], 1, Some(1)), Ok(()));
        assert_eq!(sentence(&[], None), "The manual partition assignment includes an empty replica list.");
        assert_eq!(
            sentence(&[1, 2], None),
            "The manual partition assignment includes broker 2, but no such broker is registered."
        );
        assert_eq!(sentence(&[1, 1], None), "The manual partition assignment includes the broker 1 more than once.");
        assert_eq!(
            sentence(&[1], Some(2)),
            "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with \
             previous partitions, which have 2 replica(s)."
        );
    }

    #[test]
    fn one_request_is_bounded() {
        let id = wire::Uuid([1; 16]);
        let grow = |to| Action::AddPartitions { id, from: 0, to };
        assert_eq!(check_size(&[grow(4_000), grow(6_000)]), Ok(()));
        let refusal = check_size(&[grow(4_000), grow(6_001)]).unwrap_err();
        assert_eq!(refusal, Refusal::new(ErrorCode::PolicyViolation, TOO_MANY_RECORDS));
        let long = Action::SetConfigs {
            target: crate::catalog::ConfigTarget::AllBrokers,
            changes: vec![("k".to_owned(), Some("v".repeat(32_767))); 40],
        };
        assert_eq!(check_size(&[long]).unwrap_err().code, ErrorCode::PolicyViolation);
        let text = Action::SetConfigs {
            target: crate::catalog::ConfigTarget::AllBrokers,
            changes: vec![("k".to_owned(), Some("v".repeat(32_768)))],
        };
        assert_eq!(check_size(&[text]).unwrap_err().code, ErrorCode::InvalidConfig);
    }
}
