//! The kinds of value that a setting or a topic configuration can have, and how text becomes one.
//!
//! Parsing follows Kafka: text is trimmed, numbers are decimal with an optional sign, booleans ignore case, lists are
//! separated by commas. The sentences of the errors are the ones that Kafka's tools show, since people search for them.

use std::fmt;

/// What a value is, with its bounds (both included).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number of 16 bits.
    Short {
        /// The smallest value.
        min: i16,
        /// The largest value.
        max: i16,
    },
    /// A whole number of 32 bits.
    Int {
        /// The smallest value.
        min: i32,
        /// The largest value.
        max: i32,
    },
    /// A whole number of 64 bits.
    Long {
        /// The smallest value.
        min: i64,
        /// The largest value.
        max: i64,
    },
    /// A number with a fraction.
    Double {
        /// The smallest value.
        min: f64,
        /// The largest value.
        max: f64,
    },
    /// The level of gzip: 1 to 9, or -1 for the codec's own default.
    GzipLevel,
    /// Any text.
    Text,
    /// One of a few words.
    OneOf(&'static [&'static str]),
    /// A list of any texts.
    List,
    /// A list in which each word is one of a few. Repetitions are dropped.
    ListOf(&'static [&'static str]),
    /// Replicas whose replication is throttled: `*`, or a list of `partition:broker`.
    ThrottledReplicas,
    /// A number of bytes, plain or with a unit (`512MiB`, `2g`): units are powers of 1024.
    Size {
        /// The fewest bytes.
        min: u64,
    },
    /// CPU numbers and ranges of them (`0,2-3`), or `all`.
    Cores,
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Short`], [`Kind::Int`], [`Kind::Long`], [`Kind::GzipLevel`] and [`Kind::Size`].
    Number(i64),
    /// Of [`Kind::Double`].
    Double(f64),
    /// Of [`Kind::Text`], [`Kind::OneOf`] and [`Kind::Cores`].
    Text(String),
    /// Of the lists.
    List(Vec<String>),
}

/// Why a text is not a value of its kind.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueError {
    /// Not a number, or one that does not fit the type.
    NotANumber(&'static str),
    /// Neither `true` nor `false`.
    NotABoolean,
    /// Below the smallest value.
    TooSmall(String),
    /// Above the largest value.
    TooLarge(String),
    /// A gzip level out of range.
    NotAGzipLevel,
    /// Not one of the words.
    NotOneOf(&'static [&'static str]),
    /// A list with nothing between two commas.
    EmptyWord,
    /// Not a list of throttled replicas.
    NotThrottledReplicas,
    /// Not a number of bytes.
    NotASize,
    /// Not a list of CPUs.
    NotCores,
}

impl Kind {
    /// Parses and checks `text`.
    pub fn parse(&self, text: &str) -> Result<Value, ValueError> {
        let text = text.trim();
        match *self {
            Kind::Bool if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            Kind::Bool if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            Kind::Bool => Err(ValueError::NotABoolean),
            Kind::Short { min, max } => {
                let number: i16 = text.parse().map_err(|_| ValueError::NotANumber("SHORT"))?;
                within(i64::from(number), i64::from(min), i64::from(max))
            }
            Kind::Int { min, max } => {
                let number: i32 = text.parse().map_err(|_| ValueError::NotANumber("INT"))?;
                within(i64::from(number), i64::from(min), i64::from(max))
            }
            Kind::Long { min, max } => within(text.parse().map_err(|_| ValueError::NotANumber("LONG"))?, min, max),
            Kind::Double { min, max } => {
                let number: f64 = text.parse().map_err(|_| ValueError::NotANumber("DOUBLE"))?;
                if number.is_nan() {
                    Err(ValueError::NotANumber("DOUBLE"))
                } else if number < min {
                    Err(ValueError::TooSmall(min.to_string()))
                } else if number > max {
                    Err(ValueError::TooLarge(max.to_string()))
                } else {
                    Ok(Value::Double(number))
                }
            }
            Kind::GzipLevel => match text.parse::<i32>().map_err(|_| ValueError::NotANumber("INT"))? {
                level @ (-1 | 1..=9) => Ok(Value::Number(i64::from(level))),
                _ => Err(ValueError::NotAGzipLevel),
            },
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::OneOf(words) => Err(ValueError::NotOneOf(words)),
            Kind::List => Ok(Value::List(split_list(text)?)),
            Kind::ListOf(words) => {
                let mut list = Vec::new();
                for word in split_list(text)? {
                    if !words.contains(&word.as_str()) {
                        return Err(ValueError::NotOneOf(words));
                    }
                    if !list.contains(&word) {
                        list.push(word);
                    }
                }
                Ok(Value::List(list))
            }
            Kind::ThrottledReplicas => {
                let list = split_list(text)?;
                let is_replica = |word: &String| {
                    word.split_once(':').is_some_and(|(partition, broker)| is_digits(partition) && is_digits(broker))
                };
                if list == ["*"] || list.iter().all(is_replica) {
                    Ok(Value::List(list))
                } else {
                    Err(ValueError::NotThrottledReplicas)
                }
            }
            Kind::Size { min } => {
                let bytes = parse_size(text).ok_or(ValueError::NotASize)?;
                let min = i64::try_from(min).expect("a minimum in the table is far below 2^63");
                within(bytes, min, i64::MAX)
            }
            Kind::Cores => {
                parse_cores(text).ok_or(ValueError::NotCores)?;
                Ok(Value::Text(text.to_owned()))
            }
        }
    }

    /// A stored value in the form in which it is shown.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        self.parse(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
    }

    /// Kafka's name of the type, as its documentation has it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Kind::Bool => "boolean",
            Kind::Short { .. } => "short",
            Kind::Int { .. } | Kind::GzipLevel => "int",
            Kind::Long { .. } => "long",
            Kind::Double { .. } => "double",
            Kind::Text | Kind::OneOf(_) | Kind::Cores => "string",
            Kind::List | Kind::ListOf(_) | Kind::ThrottledReplicas => "list",
            Kind::Size { .. } => "size",
        }
    }

    /// The type's number in DescribeConfigs responses (KIP-569).
    #[must_use]
    pub fn protocol_type(&self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Text | Kind::OneOf(_) | Kind::Cores | Kind::Size { .. } => 2,
            Kind::Int { .. } | Kind::GzipLevel => 3,
            Kind::Short { .. } => 4,
            Kind::Long { .. } => 5,
            Kind::Double { .. } => 6,
            Kind::List | Kind::ListOf(_) | Kind::ThrottledReplicas => 7,
        }
    }

    /// Whether APPEND and SUBTRACT apply (KIP-339).
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.protocol_type() == 7
    }

    /// The legal values, for people. Empty when everything of the type is legal.
    #[must_use]
    pub fn bounds(&self) -> String {
        match *self {
            Kind::Short { min, max } => {
                bounds(i64::from(min), i64::from(i16::MIN), i64::from(max), i64::from(i16::MAX))
            }
            Kind::Int { min, max } => bounds(i64::from(min), i64::from(i32::MIN), i64::from(max), i64::from(i32::MAX)),
            Kind::Long { min, max } => bounds(min, i64::MIN, max, i64::MAX),
            Kind::Double { min: f64::MIN, max: f64::MAX } => String::new(),
            Kind::Double { min, max } => format!("{min} to {max}"),
            Kind::GzipLevel => "1 to 9, or -1".to_owned(),
            Kind::OneOf(words) => words.join(", "),
            Kind::ListOf(words) => format!("of: {}", words.join(", ")),
            Kind::ThrottledReplicas => "`*`, or `partition:broker,…`".to_owned(),
            Kind::Size { min } => format!("at least {}", SizeText(min)),
            Kind::Cores => "`all`, or CPUs such as `0,2-3`".to_owned(),
            Kind::Bool | Kind::Text | Kind::List => String::new(),
        }
    }
}

impl fmt::Display for Value {
    /// The value in the one form in which it is shown to clients.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(value) => write!(f, "{value}"),
            Value::Double(value) => f.write_str(&double(*value)),
            Value::Text(value) => f.write_str(value),
            Value::List(words) => f.write_str(&words.join(",")),
        }
    }
}

/// A number as Java writes it: with a fraction always, as in `1.0`, and with an exponent where it is large or small.
fn double(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::NotANumber(kind) => write!(f, "Not a number of type {kind}"),
            ValueError::NotABoolean => f.write_str("Expected value to be either true or false"),
            ValueError::TooSmall(min) => write!(f, "Value must be at least {min}"),
            ValueError::TooLarge(max) => write!(f, "Value must be no more than {max}"),
            ValueError::NotAGzipLevel => f.write_str("Value must be between 1 and 9 or equal to -1"),
            ValueError::NotOneOf(words) => write!(f, "String must be one of: {}", words.join(", ")),
            ValueError::EmptyWord => f.write_str("values must not be empty."),
            ValueError::NotThrottledReplicas => f.write_str(
                "must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            ),
            ValueError::NotASize => f.write_str("a size is a number of bytes such as 1073741824, 512MiB or 1GiB"),
            ValueError::NotCores => f.write_str("cores are `all`, or CPU numbers and ranges such as `0,2-3`"),
        }
    }
}

impl std::error::Error for ValueError {}

/// Parses the value of a named setting. The error is the whole sentence, as Kafka words it.
pub fn parse_named(name: &str, kind: &Kind, text: &str) -> Result<Value, String> {
    kind.parse(text).map_err(|error| match error {
        ValueError::EmptyWord => format!("Configuration '{name}' {error}"),
        ValueError::NotThrottledReplicas => {
            let words: Vec<&str> = text.split(',').map(str::trim).collect();
            format!("Invalid value [{}] for configuration {name}: {name} {error}", words.join(", "))
        }
        error => {
            // Bounds are checked on the number, so the number is what Kafka shows: `-5` for ` -5`.
            format!("Invalid value {} for configuration {name}: {error}", text.trim())
        }
    })
}

/// The CPUs that a value of [`Kind::Cores`] names, ascending; `None` within `Some` stands for all.
#[must_use]
pub fn parse_cores(text: &str) -> Option<Option<Vec<usize>>> {
    if text == "all" {
        return Some(None);
    }
    let mut cores = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_core(first)?, parse_core(last)?);
        if first > last {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(Some(cores.into_iter().collect()))
}

/// More CPUs than Linux supports (`CONFIG_NR_CPUS` is at most 8192): a range is bounded before it is expanded.
const MAX_CPUS: usize = 8192;

fn parse_core(text: &str) -> Option<usize> {
    let text = text.trim();
    if !is_digits(text) {
        return None;
    }
    text.parse().ok().filter(|cpu| *cpu < MAX_CPUS)
}

fn parse_size(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: i64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split_list(text: &str) -> Result<Vec<String>, ValueError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|word| match word.trim() {
            "" => Err(ValueError::EmptyWord),
            word => Ok(word.to_owned()),
        })
        .collect()
}

fn within(number: i64, min: i64, max: i64) -> Result<Value, ValueError> {
    if number < min {
        Err(ValueError::TooSmall(min.to_string()))
    } else if number > max {
        Err(ValueError::TooLarge(max.to_string()))
    } else {
        Ok(Value::Number(number))
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn bounds(min: i64, type_min: i64, max: i64, type_max: i64) -> String {
    match (min == type_min, max == type_max) {
        (true, true) => String::new(),
        (false, true) => format!("at least {min}"),
        (true, false) => format!("at most {max}"),
        (false, false) => format!("{min} to {max}"),
    }
}

/// Bytes with the largest unit that divides them.
struct SizeText(u64);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT: Kind = Kind::Int { min: 1, max: i32::MAX };
    const RATIO: Kind = Kind::Double { min: 0.0, max: 1.0 };
    const POLICY: Kind = Kind::ListOf(&["compact", "delete"]);

    #[test]
    fn numbers_with_a_fraction_are_shown_as_java_writes_them() {
        let kind = Kind::Double { min: f64::MIN, max: f64::MAX };
        for (text, shown) in [
            ("0", "0.0"),
            ("1", "1.0"),
            ("-0.25", "-0.25"),
            ("1e6", "1000000.0"),
            ("9999999.5", "9999999.5"),
            ("1e7", "1.0E7"),
            ("12345678", "1.2345678E7"),
            ("0.001", "0.001"),
            ("0.0005", "5.0E-4"),
            ("1.7976931348623157E308", "1.7976931348623157E308"),
        ] {
            assert_eq!(kind.shown(text), shown);
            assert_eq!(kind.shown(shown), shown);
        }
    }

    #[test]
    fn values_are_shown_in_one_form() {
        let cases = [
            (Kind::Bool, " TRUE ", "true"),
            (INT, "+5", "5"),
            (Kind::Long { min: -1, max: i64::MAX }, " 100 ", "100"),
            (RATIO, "0.50", "0.5"),
            (RATIO, "1", "1.0"),
            (Kind::GzipLevel, "-1", "-1"),
            (Kind::OneOf(&["gzip", "zstd"]), " gzip", "gzip"),
            (POLICY, "delete, compact", "delete,compact"),
            (POLICY, "delete,delete", "delete"),
            (POLICY, "", ""),
            (Kind::ThrottledReplicas, "*", "*"),
            (Kind::ThrottledReplicas, "0:1, 1:2", "0:1,1:2"),
            (Kind::Size { min: 0 }, "512MiB", "536870912"),
            (Kind::Size { min: 0 }, "2g", "2147483648"),
            (Kind::Size { min: 0 }, "4096", "4096"),
            (Kind::Cores, "0,2-3", "0,2-3"),
        ];
        for (kind, text, shown) in cases {
            assert_eq!(kind.parse(text).map(|value| value.to_string()).as_deref(), Ok(shown), "{kind:?} {text:?}");
        }
    }

    #[test]
    fn errors_are_kafkas_sentences() {
        let cases = [
            (Kind::Bool, "yes", "Expected value to be either true or false"),
            (INT, "99999999999", "Not a number of type INT"),
            (INT, "", "Not a number of type INT"),
            (INT, "1e6", "Not a number of type INT"),
            (INT, "0", "Value must be at least 1"),
            (Kind::Int { min: 1, max: 17 }, "99", "Value must be no more than 17"),
            (Kind::Short { min: 1, max: i16::MAX }, "32768", "Not a number of type SHORT"),
            (Kind::Short { min: 1, max: i16::MAX }, "0", "Value must be at least 1"),
            (Kind::Long { min: 0, max: i64::MAX }, "9223372036854775808", "Not a number of type LONG"),
            (RATIO, "1.5", "Value must be no more than 1"),
            (RATIO, "-1", "Value must be at least 0"),
            (RATIO, "NaN", "Not a number of type DOUBLE"),
            (Kind::GzipLevel, "0", "Value must be between 1 and 9 or equal to -1"),
            (POLICY, "Delete", "String must be one of: compact, delete"),
            (POLICY, "delete,", "values must not be empty."),
            (Kind::Size { min: 1024 }, "1", "Value must be at least 1024"),
        ];
        for (kind, text, sentence) in cases {
            assert_eq!(kind.parse(text).unwrap_err().to_string(), sentence, "{kind:?} {text:?}");
        }
        for text in ["0:1,*", "a", "0:", ":1", "0:1:2"] {
            assert_eq!(Kind::ThrottledReplicas.parse(text), Err(ValueError::NotThrottledReplicas), "{text:?}");
        }
        for text in ["", "x", "1x", "-1", "9223372036854775807k", "1.5g"] {
            assert_eq!(Kind::Size { min: 0 }.parse(text), Err(ValueError::NotASize), "{text:?}");
        }
    }

    #[test]
    fn cores_are_sets() {
        assert_eq!(parse_cores("all"), Some(None));
        assert_eq!(parse_cores("3, 0,2-3"), Some(Some(vec![0, 2, 3])));
        for text in ["", "a", "3-1", "1-", "-1", "0,,1", "0-99999999", "9000"] {
            assert_eq!(parse_cores(text), None, "{text:?}");
        }
    }
}
