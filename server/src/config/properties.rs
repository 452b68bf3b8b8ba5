//! Files in the syntax of Java's properties, which is the one of Kafka's `server.properties`: see the documentation of
//! `java.util.Properties.load`. The text is UTF-8, of which Java's Latin-1 with escapes is a part for ASCII files.

use std::fmt;

/// One key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The key, without escapes.
    pub key: String,
    /// The value, without escapes.
    pub value: String,
    /// The line that the key is on, from 1.
    pub line: usize,
}

/// A line that is no property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEscape {
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: \\u must be followed by four hexadecimal digits of a character", self.line)
    }
}

impl std::error::Error for BadEscape {}

/// All properties of `text`, in order. A key may occur more than once.
pub fn parse(text: &str) -> Result<Vec<Property>, BadEscape> {
    let mut properties = Vec::new();
    // Java ends lines at \n, \r and \r\n.
    let mut lines = text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')).enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start_matches(is_space);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_space)),
                None => break,
            }
        }
        let line = index + 1;
        let (key, value) = split(&logical);
        let unescaped = |text| unescape(text).ok_or(BadEscape { line });
        properties.push(Property { key: unescaped(key)?, value: unescaped(value)?, line });
    }
    Ok(properties)
}

/// White space of the format: no line ends, and nothing beyond ASCII.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Whether a line ends with an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or white space that no backslash precedes.
fn split(logical: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = logical.find(|c| {
        let ends = !escaped && (matches!(c, '=' | ':') || is_space(c));
        escaped = !escaped && c == '\\';
        ends
    });
    let Some(end) = end else { return (logical, "") };
    let (key, rest) = logical.split_at(end);
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(is_space))
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => {
                let mut code = 0;
                for _ in 0..4 {
                    code = code << 4 | chars.next()?.to_digit(16)?;
                }
                // Half of a surrogate pair is refused: no setting needs characters beyond the basic plane.
                out.push(char::from_u32(code)?);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, usize)> {
        parse(text).unwrap().into_iter().map(|it| (it.key, it.value, it.line)).collect()
    }

    #[test]
    fn the_forms_of_the_format() {
        let cases = [
            ("a=1", "a", "1"),
            ("a = 1", "a", "1"),
            ("a:1", "a", "1"),
            ("a 1", "a", "1"),
            ("  a\t:\t1", "a", "1"),
            ("a==1", "a", "=1"),
            ("a", "a", ""),
            ("a=", "a", ""),
            ("a\\=b=c", "a=b", "c"),
            ("a\\ b=c", "a b", "c"),
            ("a=x\\ty\\u0041\\z", "a", "x\tyAz"),
            ("a=b=c:d", "a", "b=c:d"),
            ("a=1\\\n   2,\\\r\n 3", "a", "12,3"),
            ("a=back\\\\\nb", "a", "back\\"),
            ("a=end\\", "a", "end"),
            ("a=grün", "a", "grün"),
        ];
        for (text, key, value) in cases {
            let all = pairs(text);
            assert_eq!((all[0].0.as_str(), all[0].1.as_str()), (key, value), "{text:?}");
        }
    }

    #[test]
    fn comments_and_empty_lines_count() {
        let text = "# one\n\n! two\r\nlisteners=PLAINTEXT://:9092\n\n   # three\nlog.dirs=/x\n";
        assert_eq!(
            pairs(text),
            [("listeners".to_owned(), "PLAINTEXT://:9092".to_owned(), 4), ("log.dirs".to_owned(), "/x".to_owned(), 7)]
        );
    }

    #[test]
    fn bad_escapes_are_named() {
        for text in ["a=1\nb=\\u00g0", "\nb=\\u12", "\nb=\\ud800"] {
            assert_eq!(parse(text), Err(BadEscape { line: 2 }), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
