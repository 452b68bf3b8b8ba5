//! Settings that may change while the broker runs, as types. The image has those in force; handlers check a change here
//! before it is decided. Those that are defaults of topics have their own place ([`super::topic`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::consumer_groups::ConsumerGroupOptions;
use super::kind::parse_named;
use super::options::{OptionsError, Values};
use super::settings::{self, Group};
use super::topic::{Configs, Layers};

/// The settings in force.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveSettings {
    /// Who may connect.
    pub connections: ConnectionLimits,
    /// Groups of the consumer protocol, as far as a group does not say otherwise.
    pub consumer_groups: ConsumerGroupOptions,
    /// Whether a partition must have been added before its transaction's first record.
    pub verifies_partitions: bool,
    /// How logs are compacted.
    pub compaction: CompactionSettings,
    /// After which silence an idempotent producer is forgotten, in milliseconds.
    pub producer_expiration_ms: u64,
}

/// How logs are compacted, of all cores together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionSettings {
    /// Memory for keys, in bytes.
    pub map_bytes: u64,
    /// The part of it that is used.
    pub load_factor: f64,
    /// Memory for reading and writing, in bytes.
    pub io_bytes: u64,
    /// Bytes read and written in a second.
    pub bytes_per_second: f64,
    /// How often logs are looked at while there is nothing to do, in milliseconds.
    pub backoff_ms: u64,
}

/// How many connections there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// At a time.
    pub all: usize,
    /// From one address at a time.
    pub per_address: usize,
    /// The same for addresses that have a limit of their own.
    pub of_address: BTreeMap<IpAddr, usize>,
    /// New ones in a second.
    pub per_second: u32,
}

impl LiveSettings {
    /// What the layers come to. What has been set while the broker ran and no longer fits what the operator has given
    /// since is left out, as Kafka does it.
    #[must_use]
    pub fn resolve(layers: Layers<'_>) -> LiveSettings {
        let mut merged = merge(layers);
        ConsumerGroupOptions::confine(&mut merged);
        let given = Values(layers.fixed);
        LiveSettings::parse(&Values(&merged)).or_else(|_| LiveSettings::parse(&given)).unwrap_or_else(|_| {
            // What the operator gives is checked when the broker starts.
            LiveSettings::parse(&Values(&Configs::new())).expect("the table's defaults fit each other")
        })
    }

    /// Checks what `layers` would come to, were they in force. The error is Kafka's sentence.
    pub fn check(layers: Layers<'_>) -> Result<(), String> {
        LiveSettings::parse(&Values(&merge(layers))).map(drop).map_err(|error| error.to_string())
    }

    /// Takes the settings from what was given.
    pub(super) fn parse(values: &Values<'_>) -> Result<LiveSettings, OptionsError> {
        ConsumerGroupOptions::check(values)?;
        Ok(LiveSettings {
            connections: ConnectionLimits::parse(values)?,
            consumer_groups: ConsumerGroupOptions::new(values),
            verifies_partitions: values.flag("transaction.partition.verification.enable"),
            compaction: CompactionSettings::parse(values)?,
            producer_expiration_ms: values.number("producer.id.expiration.ms").expect("the table allows no other"),
        })
    }
}

/// Settings of which 0 stops everybody: that may be given at the start, and not be set while the broker runs.
const NEVER_SET_TO_ZERO: &[&str] = &["max.connections", "max.connection.creation.rate"];

/// Checks a value that is to be set while the broker runs, beyond its kind.
pub fn check_value(name: &str, value: &str) -> Result<(), String> {
    if NEVER_SET_TO_ZERO.contains(&name) && value == "0" {
        return Err(format!("Invalid {name} {value}"));
    }
    Ok(())
}

/// Kafka refuses memory for keys that is not more than this, in bytes.
const TOO_FEW_KEYS_BYTES: u64 = 1 << 20;

impl CompactionSettings {
    fn parse(values: &Values<'_>) -> Result<CompactionSettings, OptionsError> {
        let number = |name| values.number(name).unwrap_or(0);
        let map_bytes = number("log.cleaner.dedupe.buffer.size");
        if map_bytes <= TOO_FEW_KEYS_BYTES {
            return Err(OptionsError::TooFewKeys);
        }
        Ok(CompactionSettings {
            map_bytes,
            load_factor: values.double("log.cleaner.io.buffer.load.factor"),
            io_bytes: number("log.cleaner.io.buffer.size"),
            bytes_per_second: values.double("log.cleaner.io.max.bytes.per.second"),
            backoff_ms: number("log.cleaner.backoff.ms"),
        })
    }
}

const OVERRIDES: &str = "max.connections.per.ip.overrides";

impl ConnectionLimits {
    fn parse(values: &Values<'_>) -> Result<ConnectionLimits, OptionsError> {
        let count =
            |name| values.number(name).map_or(usize::MAX, |number| usize::try_from(number).unwrap_or(usize::MAX));
        let limits = ConnectionLimits {
            all: count("max.connections"),
            per_address: count("max.connections.per.ip"),
            of_address: parse_overrides(&values.text(OVERRIDES).unwrap_or_default())
                .map_err(OptionsError::BadOverrides)?,
            per_second: u32::try_from(count("max.connection.creation.rate")).unwrap_or(u32::MAX),
        };
        if limits.per_address == 0 && limits.of_address.is_empty() {
            return Err(OptionsError::NobodyMayConnect);
        }
        Ok(limits)
    }

    /// How many connections of an address there may be.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> usize {
        self.of_address.get(&address).copied().unwrap_or(self.per_address)
    }
}

/// Addresses and their limits. Of two limits for one address the later one counts; a negative one is none at all.
fn parse_overrides(text: &str) -> Result<BTreeMap<IpAddr, usize>, String> {
    let mut limits = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let Some((address, limit)) = entry.rsplit_once(':') else {
            return Err(format!("Error parsing configuration property '{OVERRIDES}': {entry} is not ADDRESS:NUMBER"));
        };
        let limit: i32 = limit.trim().parse().map_err(|_| format!("For input string: \"{}\"", limit.trim()))?;
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        let parsed: IpAddr =
            bare.trim().parse().map_err(|_| format!("{OVERRIDES} contains invalid addresses : {address}"))?;
        limits.insert(parsed.to_canonical(), usize::try_from(limit).unwrap_or(0));
    }
    Ok(limits)
}

/// The operator's settings with those that were set while the broker ran in their place, where they may be and are legal.
fn merge(layers: Layers<'_>) -> Configs {
    let mut merged = layers.fixed.clone();
    for (name, value) in layers.dynamic_default.iter().chain(layers.dynamic_broker) {
        let setting = settings::find(name).filter(|it| it.dynamic && it.group != Group::TopicDefaults);
        if let Some(value) = setting.and_then(|setting| parse_named(name, &setting.kind, value).ok()) {
            merged.insert(name.clone(), value.to_string());
        }
    }
    merged
}

#[cfg(test)]
impl Default for LiveSettings {
    /// The table's defaults.
    fn default() -> LiveSettings {
        LiveSettings::parse(&Values(&Configs::new())).expect("the defaults fit each other")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn resolve(fixed: &[(&str, &str)], all: &[(&str, &str)], own: &[(&str, &str)]) -> LiveSettings {
        let (fixed, all, own) = (configs(fixed), configs(all), configs(own));
        LiveSettings::resolve(Layers { dynamic_broker: &own, dynamic_default: &all, fixed: &fixed })
    }

    fn check(fixed: &[(&str, &str)], own: &[(&str, &str)]) -> Result<(), String> {
        let (fixed, none, own) = (configs(fixed), Configs::new(), configs(own));
        LiveSettings::check(Layers { dynamic_broker: &own, dynamic_default: &none, fixed: &fixed })
    }

    #[test]
    fn the_strongest_layer_decides() {
        type Set<'a> = &'a [(&'a str, &'a str)];
        let limits = |fixed: Set<'_>, all: Set<'_>, own: Set<'_>| resolve(fixed, all, own).connections;
        let set = |value| [("max.connections", value)];
        assert_eq!(limits(&[], &[], &[]).all, i32::MAX as usize);
        assert_eq!(limits(&set("3"), &[], &[]).all, 3);
        assert_eq!(limits(&set("3"), &set("4"), &[]).all, 4);
        assert_eq!(limits(&set("3"), &set("4"), &set("5")).all, 5);
        assert_eq!(limits(&set("3"), &set("x"), &[]).all, 3, "what is not legal is not there");
        assert!(!resolve(&[], &[("transaction.partition.verification.enable", "false")], &[]).verifies_partitions);
        let expiration = ("producer.id.expiration.ms", "9");
        assert_eq!(resolve(&[], &[expiration], &[]).producer_expiration_ms, 9);
    }

    #[test]
    fn compaction_goes_by_what_was_set() {
        let own = [
            ("log.cleaner.dedupe.buffer.size", "1048577"),
            ("log.cleaner.io.buffer.load.factor", "0.5"),
            ("log.cleaner.io.buffer.size", "7"),
            ("log.cleaner.io.max.bytes.per.second", "1e6"),
            ("log.cleaner.backoff.ms", "8"),
        ];
        let expected = CompactionSettings {
            map_bytes: 1_048_577,
            load_factor: 0.5,
            io_bytes: 7,
            bytes_per_second: 1e6,
            backoff_ms: 8,
        };
        assert_eq!(resolve(&[], &[], &own).compaction, expected);
    }

    #[test]
    fn addresses_have_limits_of_their_own() {
        let own = [("max.connections.per.ip.overrides", "127.0.0.1:5, ::1:7,127.0.0.1:6,[fe80::1]:-1")];
        let limits = resolve(&[("max.connections.per.ip", "9")], &[], &own).connections;
        for (address, limit) in [("127.0.0.1", 6), ("::1", 7), ("fe80::1", 0), ("127.0.0.2", 9)] {
            assert_eq!(limits.of(address.parse().unwrap()), limit, "{address}");
        }
        assert!(resolve(&[], &[], &[]).connections.of_address.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_in_kafkas_words() {
        let none = "requirement failed: max.connections.per.ip can be set to zero only if \
                    max.connections.per.ip.overrides property is set.";
        let overrides = |value| [("max.connections.per.ip.overrides", value)];
        assert_eq!(check(&[], &[("max.connections.per.ip", "0")]).unwrap_err(), none);
        assert_eq!(check(&overrides("::1:3"), &[("max.connections.per.ip", "0")]), Ok(()));
        for (value, sentence) in [
            ("127.0.0.1:x", "For input string: \"x\""),
            ("a b:5", "max.connections.per.ip.overrides contains invalid addresses : a b"),
            (
                "one",
                "Error parsing configuration property 'max.connections.per.ip.overrides': one is not ADDRESS:NUMBER",
            ),
            (",", "Error parsing configuration property 'max.connections.per.ip.overrides':  is not ADDRESS:NUMBER"),
        ] {
            assert_eq!(check(&[], &overrides(value)).unwrap_err(), sentence);
        }
        assert_eq!(
            check(&[], &[("group.consumer.assignment.interval.ms", "20000")]).unwrap_err(),
            "group.consumer.assignment.interval.ms must be less than or equal to \
             group.consumer.max.assignment.interval.ms"
        );
        for few in ["1048576", "-1"] {
            assert_eq!(
                check(&[], &[("log.cleaner.dedupe.buffer.size", few)]).unwrap_err(),
                "requirement failed: log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."
            );
        }
        assert_eq!(check_value("max.connections", "0").unwrap_err(), "Invalid max.connections 0");
        assert_eq!(check_value("max.connections.per.ip", "0"), Ok(()));
    }

    #[test]
    fn what_the_operator_has_given_since_comes_first() {
        let bound = [("group.consumer.max.assignment.interval.ms", "3000")];
        let own = [("group.consumer.assignment.interval.ms", "9000"), ("max.connections", "7")];
        let settings = resolve(&bound, &[], &own);
        assert_eq!((settings.consumer_groups.assignment_interval.ms, settings.connections.all), (3000, 7));
        // The overrides that made this legal are gone.
        let settings = resolve(&[], &[], &[("max.connections.per.ip", "0")]);
        assert_eq!(settings, LiveSettings::default());
    }
}
