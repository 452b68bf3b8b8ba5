//! Subscriptions by regular expression: they are looked up at the coordinator, in the syntax of RE2.
//!
//! Kafka looks up in the background and tells the member at a later heartbeat. Names are matched in linear time here,
//! so a new expression is looked up at once. All of them are looked up again when topics have changed, at most every
//! ten seconds, and from time to time.

use wire::error::ErrorCode;

use super::{ConsumerGroup, ConsumerOptions, Record, Refusal, ResolvedRegex};
use crate::group::topics::Topics;
use crate::pattern;
use crate::state_machine::Now;

/// The shortest time between two look-ups of all expressions of a group, in milliseconds.
const LOOKUP_INTERVAL_MS: i64 = 10_000;

/// Refuses what is no regular expression, or one that is too large.
pub(super) fn check(regex: &str) -> Result<(), Refusal> {
    pattern::compile(regex).map(drop).map_err(|error| {
        let message =
            format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {}.", pattern::reason(&error));
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    })
}

impl ConsumerGroup {
    /// Looks up the expressions that are new, and all of them if it is time. Forgets those without subscribers. Returns
    /// whether the group subscribes to other topics now.
    pub(super) fn resolve_regexes(
        &mut self,
        now: Now,
        topics: &Topics<'_>,
        options: &ConsumerOptions,
        out: &mut Vec<Record>,
    ) -> bool {
        let mut changed = false;
        let unused = |regex: &&String| !self.index.regex_members.contains_key(*regex);
        for regex in self.regexes.keys().filter(unused).cloned().collect::<Vec<_>>() {
            self.emit(Record::Regex(regex, None), out);
            changed = true;
        }
        if self.index.regex_members.is_empty() {
            return changed;
        }
        let all = match self.regex_lookup {
            None => true,
            Some((then_ms, version)) => {
                let is_old = now.ms > then_ms.saturating_add(i64::from(options.regex_refresh_interval_ms));
                now.ms > then_ms.saturating_add(LOOKUP_INTERVAL_MS) && (is_old || version != topics.version())
            }
        };
        if all {
            self.regex_lookup = Some((now.ms, topics.version()));
        }
        for regex in self.index.regex_members.keys().cloned().collect::<Vec<_>>() {
            let known = self.regexes.get(&regex);
            if known.is_some() && !all {
                continue;
            }
            let found = resolve(&regex, now.unix_ms, topics);
            if known.is_none_or(|known| known.topics != found.topics) {
                changed = true;
                self.emit(Record::Regex(regex, Some(found)), out);
            }
        }
        changed
    }
}

/// The topics whose whole names match. An expression that another broker has accepted and that is none here matches
/// nothing.
fn resolve(regex: &str, now_unix_ms: i64, topics: &Topics<'_>) -> ResolvedRegex {
    let version = topics.version() as i64;
    let names = pattern::compile(regex)
        .map(|regex| topics.names().filter(|name| regex.is_match(name)).map(str::to_owned).collect());
    ResolvedRegex { topics: names.unwrap_or_default(), version, timestamp_ms: now_unix_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_expression_is_refused() {
        for regex in ["(", ")", "a)|(b", "[a", "*", "(?=a)", r"\1", "(?P<n", "a{1001}{1001}{1001}"] {
            let refusal = check(regex).expect_err(regex);
            assert_eq!(refusal.code, ErrorCode::InvalidRegularExpression, "{regex}");
            assert!(refusal.message.starts_with(&format!("SubscribedTopicRegex `{regex}` is not")), "{refusal}");
            assert!(!refusal.message.contains('\n'));
        }
        assert!(check(&"(".repeat(30_000)).is_err(), "deep nesting is refused, not recursed into");
    }
}
