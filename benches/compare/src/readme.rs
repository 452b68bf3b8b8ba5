//! The comparison's place in the main README: between two markers, written by the program alone.

use std::fmt;

/// Begins the part that is replaced.
pub const BEGIN: &str = "<!-- compare:begin -->";
/// Ends it.
pub const END: &str = "<!-- compare:end -->";

/// Why the part could not be replaced.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadmeError {
    /// A marker is missing.
    MarkerMissing(&'static str),
    /// A marker occurs more than once.
    MarkerTwice(&'static str),
    /// The end comes before the beginning.
    MarkersReversed,
}

impl fmt::Display for ReadmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadmeError::MarkerMissing(marker) => write!(f, "the marker {marker} is missing"),
            ReadmeError::MarkerTwice(marker) => write!(f, "the marker {marker} occurs more than once"),
            ReadmeError::MarkersReversed => write!(f, "the marker {END} comes before {BEGIN}"),
        }
    }
}

impl std::error::Error for ReadmeError {}

/// Returns `readme` with `section` between the markers and everything else as it was.
pub fn replace_section(readme: &str, section: &str) -> Result<String, ReadmeError> {
    let begin = position(readme, BEGIN)? + BEGIN.len();
    let end = position(readme, END)?;
    if end < begin {
        return Err(ReadmeError::MarkersReversed);
    }
    Ok(format!("{}\n{}\n{}", &readme[..begin], section.trim(), &readme[end..]))
}

fn position(readme: &str, marker: &'static str) -> Result<usize, ReadmeError> {
    let mut found = readme.match_indices(marker);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (None, _) => Err(ReadmeError::MarkerMissing(marker)),
        (Some(_), Some(_)) => Err(ReadmeError::MarkerTwice(marker)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_changes() {
        let readme = format!("# Weir\n\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace_section(&readme, "\n| new |\n\n").unwrap();
        assert_eq!(new, format!("# Weir\n\n{BEGIN}\n| new |\n{END}\nafter\n"));
        assert_eq!(replace_section(&new, "| new |").unwrap(), new, "a second time changes nothing");
    }

    #[test]
    fn a_readme_without_its_markers_is_left_alone() {
        assert_eq!(replace_section("# Weir\n", "x"), Err(ReadmeError::MarkerMissing(BEGIN)));
        assert_eq!(replace_section(BEGIN, "x"), Err(ReadmeError::MarkerMissing(END)));
        assert_eq!(replace_section(&format!("{END}{BEGIN}"), "x"), Err(ReadmeError::MarkersReversed));
        assert_eq!(replace_section(&format!("{BEGIN}{BEGIN}{END}"), "x"), Err(ReadmeError::MarkerTwice(BEGIN)));
    }
}
