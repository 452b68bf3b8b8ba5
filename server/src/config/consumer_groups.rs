//! The settings of consumer groups (KIP-848), as types. Each of three times has bounds of its own, within which it can be
//! set for one group.

use super::options::{OptionsError, Values};

/// What the operator decides about consumer groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerGroupOptions {
    /// How long a member may be silent.
    pub session_timeout: Bounded,
    /// How often members are told to send heartbeats.
    pub heartbeat_interval: Bounded,
    /// The shortest time between two assignments.
    pub assignment_interval: Bounded,
    /// How often regular expressions are looked up again though no topic has changed, in milliseconds.
    pub regex_refresh_interval_ms: i32,
    /// The most members of a group.
    pub max_size: usize,
    /// The names of the assignors that members may ask for, the default one first.
    pub assignors: &'static [&'static str],
    /// Whether groups with members may go from the classic to the consumer protocol.
    pub upgrade: bool,
    /// Whether they may go back.
    pub downgrade: bool,
}

/// A time, and within what it can be set for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// In milliseconds.
    pub ms: i32,
    /// At least, in milliseconds.
    pub min_ms: i32,
    /// At most, in milliseconds.
    pub max_ms: i32,
}

/// The assignors by name, as a list of the file may name them.
pub(super) const ASSIGNORS: &[&str] = &["uniform", "range"];

/// The ways of `group.consumer.migration.policy`.
pub(super) const MIGRATION_POLICIES: &[&str] = &["bidirectional", "upgrade", "downgrade", "disabled"];

const SESSION_TIMEOUT: &str = "group.consumer.session.timeout.ms";
const HEARTBEAT_INTERVAL: &str = "group.consumer.heartbeat.interval.ms";

impl ConsumerGroupOptions {
    /// Takes the settings from what was given.
    pub(super) fn new(values: &Values<'_>) -> ConsumerGroupOptions {
        let policy = values.text("group.consumer.migration.policy").unwrap_or_default();
        let assignors = values.list("group.consumer.assignors");
        ConsumerGroupOptions {
            session_timeout: bounded(values, "session.timeout.ms"),
            heartbeat_interval: bounded(values, "heartbeat.interval.ms"),
            assignment_interval: bounded(values, "assignment.interval.ms"),
            regex_refresh_interval_ms: int(values, "group.consumer.regex.refresh.interval.ms"),
            max_size: int(values, "group.consumer.max.size").unsigned_abs() as usize,
            assignors: match assignors.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["range", "uniform"] => &["range", "uniform"],
                ["range"] => &["range"],
                ["uniform"] => &["uniform"],
                _ => ASSIGNORS,
            },
            upgrade: matches!(policy.as_str(), "bidirectional" | "upgrade"),
            downgrade: matches!(policy.as_str(), "bidirectional" | "downgrade"),
        }
    }

    /// Checks what one setting cannot be without another.
    pub(super) fn check(values: &Values<'_>) -> Result<(), OptionsError> {
        for what in ["heartbeat.interval.ms", "session.timeout.ms", "assignment.interval.ms"] {
            let (name, min, max) = names(what);
            in_order(values, &max, "greater than or equal to", &min, i32::ge)?;
            in_order(values, &name, "greater than or equal to", &min, i32::ge)?;
            in_order(values, &name, "less than or equal to", &max, i32::le)?;
        }
        in_order(values, HEARTBEAT_INTERVAL, "less than", SESSION_TIMEOUT, i32::lt)
    }
}

/// A setting and those of its bounds, without what all begin with.
fn names(what: &str) -> (String, String, String) {
    (format!("group.consumer.{what}"), format!("group.consumer.min.{what}"), format!("group.consumer.max.{what}"))
}

fn bounded(values: &Values<'_>, what: &str) -> Bounded {
    let (name, min, max) = names(what);
    Bounded { ms: int(values, &name), min_ms: int(values, &min), max_ms: int(values, &max) }
}

fn in_order(
    values: &Values<'_>,
    name: &str,
    relation: &'static str,
    other: &str,
    holds: fn(&i32, &i32) -> bool,
) -> Result<(), OptionsError> {
    if holds(&int(values, name), &int(values, other)) {
        return Ok(());
    }
    Err(OptionsError::NotInOrder { name: name.to_owned(), relation, other: other.to_owned() })
}

/// Bounded by 31 bits in the table.
fn int(values: &Values<'_>, name: &str) -> i32 {
    i32::try_from(values.number(name).expect("the table has a default")).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::Configs;

    fn check(given: &[(&str, &str)]) -> Result<ConsumerGroupOptions, String> {
        let given: Configs = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let values = Values(&given);
        ConsumerGroupOptions::check(&values).map_err(|error| error.to_string())?;
        Ok(ConsumerGroupOptions::new(&values))
    }

    #[test]
    fn defaults_are_kafkas() {
        let options = check(&[]).unwrap();
        assert_eq!(options.session_timeout, Bounded { ms: 45_000, min_ms: 45_000, max_ms: 60_000 });
        assert_eq!(options.heartbeat_interval, Bounded { ms: 5_000, min_ms: 5_000, max_ms: 15_000 });
        assert_eq!(options.assignment_interval, Bounded { ms: 1_000, min_ms: 0, max_ms: 15_000 });
        assert_eq!((options.assignors, options.upgrade, options.downgrade), (ASSIGNORS, true, true));
        assert_eq!((options.max_size, options.regex_refresh_interval_ms), (i32::MAX as usize, 600_000));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let session = |ms| ("group.consumer.session.timeout.ms", ms);
        let refused = check(&[session("1000")]).unwrap_err();
        assert_eq!(
            refused,
            "group.consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"
        );
        let refused = check(&[session("5000"), ("group.consumer.min.session.timeout.ms", "1")]).unwrap_err();
        assert_eq!(refused, "group.consumer.heartbeat.interval.ms must be less than group.consumer.session.timeout.ms");
        let options = check(&[
            ("group.consumer.assignors", "range"),
            ("group.consumer.migration.policy", "upgrade"),
            ("group.consumer.max.size", "7"),
        ]);
        let options = options.unwrap();
        assert_eq!((options.assignors, options.upgrade, options.downgrade), (&["range"][..], true, false));
        assert_eq!(options.max_size, 7);
    }
}
