//! The settings of consumer groups (KIP-848), as types. Each of three times has bounds of its own, within which it can be
//! set for one group: [`GROUP_CONFIGS`].

use super::kind::{Kind, Value, parse_named};
use super::options::{OptionsError, Values};
use super::topic::Configs;

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

/// A configuration of one group.
#[derive(Debug)]
pub struct GroupConfig {
    /// Kafka's key.
    pub name: &'static str,
    /// What values it takes, but for the bounds that the broker has.
    pub kind: Kind,
    /// The broker-level key that gives its default. Its bounds have `min.` and `max.` in it.
    pub broker: &'static str,
    /// What it does.
    pub doc: &'static str,
    time: fn(&mut ConsumerGroupOptions) -> &mut Bounded,
}

/// The configurations that a group can have, in alphabetical order. Those that Kafka has for share and streams groups are
/// not among them: nothing would act on them, so they are refused as unknown.
pub static GROUP_CONFIGS: &[GroupConfig] = &[
    GroupConfig {
        name: "consumer.assignment.interval.ms",
        kind: Kind::Int { min: 0, max: i32::MAX },
        broker: ASSIGNMENT_INTERVAL,
        doc: "The shortest time between two assignments of the group, in milliseconds.",
        time: |options| &mut options.assignment_interval,
    },
    GroupConfig {
        name: "consumer.heartbeat.interval.ms",
        kind: Kind::Int { min: 1, max: i32::MAX },
        broker: HEARTBEAT_INTERVAL,
        doc: "How often members of the group are told to send heartbeats, in milliseconds.",
        time: |options| &mut options.heartbeat_interval,
    },
    GroupConfig {
        name: "consumer.session.timeout.ms",
        kind: Kind::Int { min: 1, max: i32::MAX },
        broker: SESSION_TIMEOUT,
        doc: "How long a member of the group may be silent, in milliseconds.",
        time: |options| &mut options.session_timeout,
    },
];

/// The row of a key of groups.
#[must_use]
pub fn find_group_config(name: &str) -> Option<&'static GroupConfig> {
    GROUP_CONFIGS.iter().find(|row| row.name == name)
}

/// The assignors by name, as a list of the file may name them.
pub(super) const ASSIGNORS: &[&str] = &["uniform", "range"];

/// The ways of `group.consumer.migration.policy`.
pub(super) const MIGRATION_POLICIES: &[&str] = &["bidirectional", "upgrade", "downgrade", "disabled"];

const SESSION_TIMEOUT: &str = "group.consumer.session.timeout.ms";
const HEARTBEAT_INTERVAL: &str = "group.consumer.heartbeat.interval.ms";
const ASSIGNMENT_INTERVAL: &str = "group.consumer.assignment.interval.ms";

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

    /// Brings what can be set while the broker runs within the bounds, which may be others since.
    pub(super) fn confine(given: &mut Configs) {
        let confined = bounded(&Values(given), "assignment.interval.ms").confined();
        if let Some(value) = given.get_mut(ASSIGNMENT_INTERVAL) {
            *value = confined.ms.to_string();
        }
    }

    /// The options for a group with the configurations `own`. They were within the bounds when they were set, which may be
    /// others since.
    #[must_use]
    pub fn of_group(mut self, own: &Configs) -> ConsumerGroupOptions {
        for row in GROUP_CONFIGS {
            let own = own.get(row.name).and_then(|text| row.kind.parse(text).ok());
            if let Some(Value::Number(ms)) = own {
                let time = (row.time)(&mut self);
                // Bounded by 31 bits in the table.
                *time = Bounded { ms: i32::try_from(ms).unwrap_or(i32::MAX), ..*time }.confined();
            }
        }
        self
    }

    /// Checks the configurations of a group as a whole. The error is Kafka's sentence.
    pub fn check_group(mut self, own: &Configs) -> Result<(), String> {
        if let Some(name) = own.keys().find(|name| find_group_config(name).is_none()) {
            return Err(format!("Unknown group config name: {name}"));
        }
        for row in GROUP_CONFIGS {
            let Some(text) = own.get(row.name) else { continue };
            if let Value::Number(ms) = parse_named(row.name, &row.kind, text)? {
                (row.time)(&mut self).ms = i32::try_from(ms).unwrap_or(i32::MAX);
            }
        }
        for row in GROUP_CONFIGS {
            let Bounded { ms, min_ms, max_ms } = *(row.time)(&mut self);
            let (_, min, max) = names(row.broker.trim_start_matches("group.consumer."));
            if ms < min_ms {
                return Err(format!("{} must be greater than or equal to {min}", row.name));
            }
            if ms > max_ms {
                return Err(format!("{} must be less than or equal to {max}", row.name));
            }
        }
        if self.session_timeout.ms <= self.heartbeat_interval.ms {
            return Err("consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms".to_owned());
        }
        Ok(())
    }
}

impl Bounded {
    fn confined(self) -> Bounded {
        Bounded { ms: self.ms.clamp(self.min_ms, self.max_ms.max(self.min_ms)), ..self }
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

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn check(given: &[(&str, &str)]) -> Result<ConsumerGroupOptions, String> {
        let given = configs(given);
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

    #[test]
    fn a_group_has_times_of_its_own_within_the_bounds() {
        let broker = check(&[("group.consumer.max.session.timeout.ms", "50000")]).unwrap();
        assert_eq!(broker.of_group(&Configs::new()), broker);
        let own = configs(&[("consumer.session.timeout.ms", "60000"), ("consumer.heartbeat.interval.ms", " 6000")]);
        let options = broker.of_group(&own);
        assert_eq!(options.session_timeout, Bounded { ms: 50_000, min_ms: 45_000, max_ms: 50_000 });
        assert_eq!(options.heartbeat_interval, Bounded { ms: 6_000, min_ms: 5_000, max_ms: 15_000 });
        assert_eq!(options.assignment_interval, broker.assignment_interval);
    }

    #[test]
    fn what_a_group_cannot_have_is_refused_in_kafkas_words() {
        let broker = check(&[]).unwrap();
        let refused = |own: &[(&str, &str)]| broker.check_group(&configs(own)).unwrap_err();
        let cases = [
            ("bogus", "1", "Unknown group config name: bogus"),
            ("share.session.timeout.ms", "45000", "Unknown group config name: share.session.timeout.ms"),
            (
                "consumer.session.timeout.ms",
                "x",
                "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
            (
                "consumer.assignment.interval.ms",
                "-1",
                "Invalid value -1 for configuration consumer.assignment.interval.ms: Value must be at least 0",
            ),
            (
                "consumer.session.timeout.ms",
                "44999",
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                "consumer.heartbeat.interval.ms",
                "15001",
                "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms",
            ),
        ];
        for (name, value, sentence) in cases {
            assert_eq!(refused(&[(name, value)]), sentence);
        }
        let broker = check(&[("group.consumer.max.heartbeat.interval.ms", "60000")]).unwrap();
        assert_eq!(
            broker.check_group(&configs(&[("consumer.heartbeat.interval.ms", "45000")])).unwrap_err(),
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms"
        );
        let both = [("consumer.heartbeat.interval.ms", "45000"), ("consumer.session.timeout.ms", "45001")];
        assert_eq!(broker.check_group(&configs(&both)), Ok(()));
    }
}
