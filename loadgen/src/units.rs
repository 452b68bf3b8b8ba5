//! Sizes and durations as people write them on a command line.

use std::fmt;
use std::time::Duration;

/// Why a size or a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitError {
    /// The text does not begin with a number.
    NotANumber(String),
    /// The letters behind the number are none of the known units.
    UnknownUnit(String),
    /// The value does not fit, or is not a whole number of bytes or nanoseconds.
    OutOfRange(String),
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnitError::NotANumber(text) => write!(f, "`{text}` is not a number"),
            UnitError::UnknownUnit(unit) => write!(f, "`{unit}` is not a known unit"),
            UnitError::OutOfRange(text) => write!(f, "`{text}` is out of range"),
        }
    }
}

impl std::error::Error for UnitError {}

/// Bytes: a whole number, with B, K, KB (1,000), Ki, KiB (1,024), and so for M and G.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "ki" | "kib" => 1 << 10,
        "m" | "mb" => 1_000_000,
        "mi" | "mib" => 1 << 20,
        "g" | "gb" => 1_000_000_000,
        "gi" | "gib" => 1 << 30,
        _ => return Err(UnitError::UnknownUnit(unit.to_owned())),
    };
    scale(number, factor).ok_or_else(|| UnitError::OutOfRange(text.to_owned()))
}

/// A duration: a number with ns, us, ms, s, m or h; seconds when nothing is given.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    let nanos: u64 = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(UnitError::UnknownUnit(unit.to_owned())),
    };
    scale(number, nanos).map(Duration::from_nanos).ok_or_else(|| UnitError::OutOfRange(text.to_owned()))
}

fn split(text: &str) -> Result<(&str, &str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    if !text[..end].contains(|c: char| c.is_ascii_digit()) || text[..end].matches('.').count() > 1 {
        return Err(UnitError::NotANumber(text.to_owned()));
    }
    Ok((&text[..end], text[end..].trim()))
}

/// `number · factor`, exact, or `None` when it is no whole number or does not fit.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let unit = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
        if !part.is_multiple_of(unit) {
            return None;
        }
        value = value.checked_add(part / unit)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("170", 170),
            ("1KiB", 1_024),
            ("500KB", 500_000),
            ("500k", 500_000),
            ("1 MiB", 1 << 20),
            ("1.5KiB", 1_536),
            ("2g", 2_000_000_000),
            ("1_000", 1_000),
            ("0", 0),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_bytes("KiB"), Err(UnitError::NotANumber("KiB".into())));
        assert_eq!(parse_bytes("1.2.3"), Err(UnitError::NotANumber("1.2.3".into())));
        assert_eq!(parse_bytes("."), Err(UnitError::NotANumber(".".into())));
        assert_eq!(parse_bytes("1 parsec"), Err(UnitError::UnknownUnit("parsec".into())));
        assert_eq!(parse_bytes("0.3"), Err(UnitError::OutOfRange("0.3".into())));
        assert_eq!(parse_bytes("99999999999GiB"), Err(UnitError::OutOfRange("99999999999GiB".into())));
        assert_eq!(parse_bytes("-1"), Err(UnitError::NotANumber("-1".into())));
    }

    #[test]
    fn durations() {
        for (text, nanos) in [("1ms", 1_000_000), ("10", 10_000_000_000), ("0.5s", 500_000_000), ("250us", 250_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1fortnight"), Err(UnitError::UnknownUnit("fortnight".into())));
    }
}
