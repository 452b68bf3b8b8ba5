//! The regular expressions of clients: whole names match, in the syntax of RE2, which is that of Kafka's brokers, and within
//! bounded memory.

use regex::{Regex, RegexBuilder};

use crate::limits::{REGEX_BYTES, REGEX_NESTING};

/// Compiles an expression that whole texts match. One that would take too much memory is refused.
pub fn compile(regex: &str) -> Result<Regex, regex::Error> {
    let whole = format!(r"\A(?:{})\z", translate(regex));
    // A bracket too many must not close the group around the expression.
    let builder = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).nest_limit(REGEX_NESTING).build()
    };
    builder(&translate(regex))?;
    builder(&whole)
}

/// Why an expression was refused, in one line.
#[must_use]
pub fn reason(error: &regex::Error) -> String {
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
}
