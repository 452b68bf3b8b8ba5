//! Subscriptions by regular expression: they are looked up at the coordinator, in the syntax of RE2.
//!
//! Kafka looks up in the background and tells the member at a later heartbeat. Names are matched in linear time here,
//! so a new expression is looked up at once. All of them are looked up again when topics have changed, at most every
//! ten seconds, and from time to time.

use regex::{Regex, RegexBuilder};
use wire::error::ErrorCode;

use super::{ConsumerGroup, ConsumerOptions, Record, Refusal, ResolvedRegex};
use crate::group::topics::Topics;
use crate::limits::{REGEX_BYTES, REGEX_NESTING};
use crate::state_machine::Now;

/// The shortest time between two look-ups of all expressions of a group, in milliseconds.
const LOOKUP_INTERVAL_MS: i64 = 10_000;

/// Refuses what is no regular expression, or one that is too large.
pub(super) fn check(regex: &str) -> Result<(), Refusal> {
    compile(regex).map(drop).map_err(|error| {
        let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {}.", reason(&error));
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
    let names =
        compile(regex).map(|regex| topics.names().filter(|name| regex.is_match(name)).map(str::to_owned).collect());
    ResolvedRegex { topics: names.unwrap_or_default(), version, timestamp_ms: now_unix_ms }
}

fn compile(regex: &str) -> Result<Regex, regex::Error> {
    let whole = format!(r"\A(?:{})\z", translate(regex));
    // A bracket too many must not close the group around the expression.
    let builder = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).nest_limit(REGEX_NESTING).build()
    };
    builder(&translate(regex))?;
    builder(&whole)
}

/// Why an expression was refused, in one line.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(bytes) => format!("it takes more than {bytes} bytes"),
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// From RE2's syntax to ours, where they differ: `\Q…\E` quotes, a brace that counts nothing is itself, and within a
/// class brackets and doubled signs mean themselves.
fn translate(regex: &str) -> String {
    let mut out = String::with_capacity(regex.len());
    let mut rest = regex;
    let mut in_class = false;
    while let Some(next) = rest.chars().next() {
        let (taken, text) = match next {
            '\\' if rest.starts_with(r"\Q") => {
                let quoted = &rest[2..];
                let (quoted, taken) = match quoted.find(r"\E") {
                    Some(end) => (&quoted[..end], end + 4),
                    None => (quoted, rest.len()),
                };
                (taken, regex::escape(quoted))
            }
            '\\' => {
                let escaped = rest[1..].chars().next().map_or(0, char::len_utf8);
                (1 + escaped, rest[..1 + escaped].to_owned())
            }
            '[' if !in_class => {
                in_class = true;
                // A bracket that closes right at the start is a member.
                let start = if rest[1..].starts_with('^') { 2 } else { 1 };
                let taken = start + usize::from(rest[start..].starts_with(']'));
                (taken, rest[..start].to_owned() + if taken > start { r"\]" } else { "" })
            }
            '[' if rest.starts_with("[:") => match rest.find(":]") {
                Some(end) => (end + 2, rest[..end + 2].to_owned()),
                None => (1, r"\[".to_owned()),
            },
            '[' | '&' | '~' if in_class => (1, format!(r"\{next}")),
            ']' if in_class => {
                in_class = false;
                (1, "]".to_owned())
            }
            '{' if !in_class && !counts(&rest[1..]) => (1, r"\{".to_owned()),
            other => (other.len_utf8(), other.to_string()),
        };
        out.push_str(&text);
        rest = &rest[taken..];
    }
    out
}

/// Whether what follows a brace makes it a repetition: `3}`, `3,}` or `3,5}`.
fn counts(rest: &str) -> bool {
    let Some((inner, _)) = rest.split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_whole_names_as_re2_does() {
        let matches = |regex: &str, name: &str| compile(regex).unwrap().is_match(name);
        assert!(matches("sensor-[0-9]+", "sensor-12"));
        assert!(!matches("sensor", "sensor-12"), "the whole name");
        assert!(matches("a|b", "b") && !matches("a|b", "ab"), "alternatives are whole names too");
        assert!(matches("(?i)SENSOR.*", "sensor-1"));
        assert!(matches(r"\Qa.b\E.*", "a.bc") && !matches(r"\Qa.b\E", "axb"));
        assert!(matches("a{", "a{") && matches("a{2}", "aa") && matches("a{x}", "a{x}"));
        assert!(matches("[[a]", "[") && matches("[a&&b]", "&") && matches("[]a]", "]") && matches("[^]a]", "b"));
        assert!(matches("[[:alpha:]]+", "abc"));
        assert!(matches("", "") && !matches("", "a"));
    }

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
