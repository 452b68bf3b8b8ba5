//! Lists of processors in the notation of `taskset --cpu-list`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

/// A list such as `0` or `0,2-3`, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreList {
    text: String,
    cores: BTreeSet<u32>,
}

/// Why a list or a pair of lists cannot be used.
#[derive(Debug)]
pub enum CoreError {
    /// A part is neither a number nor a range of numbers.
    NotANumber(String),
    /// A range ends before it begins.
    Reversed(String),
    /// A number that no processor has.
    TooLarge(u32),
    /// A processor that is not online.
    Offline(u32),
    /// A processor in both lists.
    Shared(u32),
    /// Which processors are online could not be read.
    Sysfs(io::Error),
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreError::NotANumber(part) => write!(f, "{part:?} is neither a processor nor a range such as 2-3"),
            CoreError::Reversed(part) => write!(f, "the range {part} ends before it begins"),
            CoreError::TooLarge(core) => write!(f, "there is no processor {core}"),
            CoreError::Offline(core) => write!(f, "processor {core} is not online"),
            CoreError::Shared(core) => write!(
                f,
                "processor {core} is given to both the broker and the generator: each would measure the other"
            ),
            CoreError::Sysfs(source) => write!(f, "{ONLINE_FILE}: {source}"),
        }
    }
}

impl std::error::Error for CoreError {}

const ONLINE_FILE: &str = "/sys/devices/system/cpu/online";
/// The kernel's own limit is 8,192; a range beyond it is a slip.
const CORE_MAX: u32 = 8_191;

impl FromStr for CoreList {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<CoreList, CoreError> {
        let mut cores = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| match text.parse::<u32>() {
                Ok(core) if core > CORE_MAX => Err(CoreError::TooLarge(core)),
                Ok(core) => Ok(core),
                Err(_) => Err(CoreError::NotANumber(part.to_owned())),
            };
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(CoreError::Reversed(part.to_owned()));
            }
            cores.extend(first..=last);
        }
        Ok(CoreList { text: text.to_owned(), cores })
    }
}

impl CoreList {
    /// How many processors it names.
    pub fn count(&self) -> usize {
        self.cores.len()
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Makes sure that both lists name processors that are online, and none in both.
pub fn check_disjoint(broker: &CoreList, load: &CoreList) -> Result<(), CoreError> {
    let online: CoreList = fs::read_to_string(ONLINE_FILE).map_err(CoreError::Sysfs)?.trim().parse()?;
    check(broker, load, &online)
}

fn check(broker: &CoreList, load: &CoreList, online: &CoreList) -> Result<(), CoreError> {
    if let Some(&core) = broker.cores.union(&load.cores).find(|core| !online.cores.contains(core)) {
        return Err(CoreError::Offline(core));
    }
    match broker.cores.intersection(&load.cores).next() {
        Some(&core) => Err(CoreError::Shared(core)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CoreList {
        text.parse().unwrap()
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(list("0").cores, BTreeSet::from([0]));
        assert_eq!(list("0,2-4,3").cores, BTreeSet::from([0, 2, 3, 4]));
        assert_eq!(list("0,2-4,3").count(), 4);
        assert_eq!(list("0,2-4").to_string(), "0,2-4");
        for bad in ["", "a", "1,", "1-", "-1", "3-1", "1-2-3", "0-99999999"] {
            assert!(bad.parse::<CoreList>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lists_must_be_online_and_disjoint() {
        let online = list("0-3");
        assert!(check(&list("0-1"), &list("2,3"), &online).is_ok());
        assert!(matches!(check(&list("0-1"), &list("1"), &online), Err(CoreError::Shared(1))));
        assert!(matches!(check(&list("4"), &list("1"), &online), Err(CoreError::Offline(4))));
        assert!(matches!(check(&list("0"), &list("7"), &online), Err(CoreError::Offline(7))));
    }
}
