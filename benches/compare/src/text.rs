//! Numbers in tables and charts.

/// Two or three digits that matter.
pub(crate) fn short(ratio: f64) -> String {
    match ratio {
        r if r >= 100.0 => format!("{r:.0}"),
        r if r >= 10.0 => format!("{r:.1}"),
        r => format!("{r:.2}"),
    }
}

/// Three digits that matter, thousands apart.
pub(crate) fn value(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(whole, fraction)| (whole, fraction));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_short() {
        assert_eq!([0.084, 1.0, 9.876, 16.04, 1234.5].map(short), ["0.08", "1.00", "9.88", "16.0", "1234"]);
    }

    #[test]
    fn values_are_short_and_grouped() {
        let found = [0.0, 0.00123, 0.27, 5.5, 12.34, 999.6, 1234.0, 1_234_567.0].map(value);
        assert_eq!(found, ["0", "0.00123", "0.270", "5.50", "12.3", "1,000", "1,234", "1,234,567"]);
    }
}
