//! Records to write and to read back: the same for every client, from a seed, compared record by record.
//!
//! In files a record is one line, its columns divided by tabs: timestamp in milliseconds, key, value, headers. Key and
//! value are in hex, `-` is null. Headers are `name:hex` divided by `;`, `-` for none. What a client has read back has
//! partition and offset in front. So a client program in any language needs no generator of its own, and a difference is
//! found here, with the record that differs, and not in a digest.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::partitioner::Partitioner;
use crate::random::Random;

/// A record as the client gave it to its producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Every record has a key, so that its partition is known.
    pub key: Vec<u8>,
    /// `None` is a null value, a tombstone where a topic is compacted.
    pub value: Option<Vec<u8>>,
    /// In order; a name may come twice.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A record as a client read it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
    /// Content.
    pub record: Record,
}

/// Keys repeat, so that the order of one key's records shows.
const KEYS: u64 = 700;

/// `count` records with keys of 1 to 40 arbitrary bytes, values from null over empty to 20 KB that compress about as well
/// as text does, up to four headers, and timestamps of the last hour that now and then go backwards.
///
/// Timestamps are recent because a topic's default retention of seven days counts from them.
pub fn binary(seed: u64, count: usize) -> Vec<Record> {
    let mut random = Random::new(seed);
    let first_ms = unix_ms() - 3_600_000;
    let any: Vec<u8> = (0..=255).collect();
    let keys: Vec<Vec<u8>> = (0..KEYS)
        .map(|number| {
            let len = random.below(36) as usize;
            [&number.to_be_bytes()[4..], &random.pick(&any, len)].concat()
        })
        .collect();
    (0..count)
        .map(|index| {
            let value = match random.below(100) {
                0..=1 => None,
                2..=3 => Some(Vec::new()),
                4 => Some(random.pick(b"0123456789abcdef", 20_000)),
                5..=20 => Some(random.pick(&any, 100)),
                _ => {
                    let len = 40 + random.below(160) as usize;
                    Some(random.pick(b" eeettaoin", len))
                }
            };
            // Names that come twice stand together: kafkajs keeps the headers of one name as a list.
            let names = ["trace", "trace", "größe", "type"];
            let headers = (0..random.below(5) as usize)
                .map(|header| {
                    let len = random.below(12) as usize;
                    (names[header].to_owned(), random.pick(&any, len))
                })
                .collect();
            Record {
                timestamp_ms: first_ms + index as i64 * 10 - random.below(50) as i64,
                key: keys[random.below(KEYS) as usize].clone(),
                value,
                headers,
            }
        })
        .collect()
}

/// `count` records for tools that read and write lines: keys, values and headers of letters, digits and blanks. Such tools
/// take the timestamp from the clock, so what is here is only what it must not be below.
pub fn text(seed: u64, count: usize) -> Vec<Record> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut random = Random::new(seed);
    let now_ms = unix_ms();
    let keys: Vec<Vec<u8>> = (0..KEYS)
        .map(|number| {
            let len = random.below(20) as usize;
            [format!("{number}-").as_bytes(), &random.pick(LETTERS, len)].concat()
        })
        .collect();
    (0..count)
        .map(|index| Record {
            timestamp_ms: now_ms,
            key: keys[random.below(KEYS) as usize].clone(),
            value: {
                let len = random.below(180) as usize;
                Some([format!("{index} ").as_bytes(), &random.pick(LETTERS, len)].concat())
            },
            headers: (0..random.below(3)).map(|header| (format!("h{header}"), random.pick(LETTERS, 9))).collect(),
        })
        .collect()
}

/// How a client's timestamps are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// As they were given to the producer.
    Exact,
    /// Taken from the clock by the tool: from the record's own timestamp until now.
    Clock,
}

/// Checks that `read` holds exactly `written`: every record unchanged in the partition that `partitioner` gives its key,
/// in the order of writing, at offsets from 0 without gaps.
///
/// # Panics
/// With the first difference of the first partition that differs.
pub fn assert_read_back(
    what: &str,
    written: &[Record],
    read: &[ReadBack],
    partitioner: Partitioner,
    partitions: u32,
    timestamps: Timestamps,
) {
    let now_ms = unix_ms();
    for partition in 0..partitions {
        let mut expected =
            written.iter().filter(|record| partitioner.partition(&record.key, partitions) == partition).enumerate();
        let mut found = read.iter().filter(|record| record.partition == partition);
        loop {
            match (expected.next(), found.next()) {
                (None, None) => break,
                (Some((index, record)), Some(back)) => {
                    assert_eq!(back.offset, index as i64, "{what}, partition {partition}: the offset");
                    let mut as_expected = record.clone();
                    if timestamps == Timestamps::Clock
                        && (record.timestamp_ms..=now_ms).contains(&back.record.timestamp_ms)
                    {
                        as_expected.timestamp_ms = back.record.timestamp_ms;
                    }
                    assert!(
                        back.record == as_expected,
                        "{what}, partition {partition}, offset {index}\n   wrote {}\n    read {}",
                        shown(&as_expected),
                        shown(&back.record)
                    );
                }
                (Some((index, record)), None) => panic!(
                    "{what}, partition {partition}: ends before offset {index}, missing {} and what follows",
                    shown(record)
                ),
                (None, Some(back)) => panic!(
                    "{what}, partition {partition}: one more than was written, at offset {}: {}",
                    back.offset,
                    shown(&back.record)
                ),
            }
        }
    }
    assert_eq!(read.len(), written.len(), "{what}: records in partitions beyond {partitions}");
}

/// The file of `records`.
pub fn to_lines(records: &[Record]) -> String {
    records.iter().map(|record| line(record) + "\n").collect()
}

/// What a client program wrote down of what it read.
///
/// # Panics
/// On a line that is not in the notation.
pub fn parse_read_back(text: &str) -> Vec<ReadBack> {
    text.lines()
        .map(|line| parse_line(line).unwrap_or_else(|| panic!("a line that is no record read back: {line:?}")))
        .collect()
}

fn parse_line(line: &str) -> Option<ReadBack> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [partition, offset, timestamp_ms, key, value, headers] = columns[..] else { return None };
    let headers = match headers {
        "-" => Vec::new(),
        headers => headers
            .split(';')
            .map(|header| {
                let (name, value) = header.split_once(':')?;
                Some((name.to_owned(), unhex(value)?))
            })
            .collect::<Option<_>>()?,
    };
    let value = match value {
        "-" => None,
        value => Some(unhex(value)?),
    };
    let record = Record { timestamp_ms: timestamp_ms.parse().ok()?, key: unhex(key)?, value, headers };
    Some(ReadBack { partition: partition.parse().ok()?, offset: offset.parse().ok()?, record })
}

fn line(record: &Record) -> String {
    let headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}:{}", hex(value))).collect();
    format!(
        "{}\t{}\t{}\t{}",
        record.timestamp_ms,
        hex(&record.key),
        record.value.as_ref().map_or("-".to_owned(), |value| hex(value)),
        if headers.is_empty() { "-".to_owned() } else { headers.join(";") }
    )
}

/// A record's line, cut where it gets too long for a message.
fn shown(record: &Record) -> String {
    let line = line(record);
    line.char_indices().nth(400).map_or(line.clone(), |(end, _)| format!("{}…", &line[..end]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).expect("the clock is before the year 292 million")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_read(records: &[Record], partitions: u32) -> Vec<ReadBack> {
        let mut next = vec![0; partitions as usize];
        records
            .iter()
            .map(|record| {
                let partition = Partitioner::Murmur2.partition(&record.key, partitions);
                let offset = next[partition as usize];
                next[partition as usize] += 1;
                ReadBack { partition, offset, record: record.clone() }
            })
            .collect()
    }

    fn check(written: &[Record], read: &[ReadBack]) -> bool {
        std::panic::catch_unwind(|| {
            assert_read_back("test", written, read, Partitioner::Murmur2, 4, Timestamps::Exact);
        })
        .is_ok()
    }

    #[test]
    fn records_survive_the_notation() {
        let records = binary(1, 1000);
        let read = as_read(&records, 4);
        let text: String =
            read.iter().map(|back| format!("{}\t{}\t{}\n", back.partition, back.offset, line(&back.record))).collect();
        assert_eq!(parse_read_back(&text), read);
        assert!(records.iter().any(|record| record.value.is_none()));
        assert!(records.iter().any(|record| record.headers.len() == 4));
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let written = binary(2, 1000);
        let read = as_read(&written, 4);
        assert!(check(&written, &read));

        assert!(!check(&written, &read[..999]), "a lost record");
        let mut twice = read.clone();
        twice.push(ReadBack { offset: 5000, ..read[7].clone() });
        assert!(!check(&written, &twice), "a duplicate");
        let mut swapped = read.clone();
        let other = (1..1000).find(|index| read[*index].partition == read[0].partition).unwrap();
        let (one, two) = (swapped[0].record.clone(), swapped[other].record.clone());
        (swapped[0].record, swapped[other].record) = (two, one);
        assert!(!check(&written, &swapped), "two in the wrong order");
        let mut moved = read.clone();
        moved[5].partition = (moved[5].partition + 1) % 4;
        assert!(!check(&written, &moved), "another partition");
        let mut gap = read.clone();
        gap[999].offset += 1;
        assert!(!check(&written, &gap), "a gap in the offsets");
        let mut changed = read.clone();
        changed[3].record.timestamp_ms += 1;
        assert!(!check(&written, &changed), "another timestamp");
        let mut null = read;
        let empty = null.iter_mut().find(|back| back.record.value.as_ref().is_some_and(Vec::is_empty)).unwrap();
        empty.record.value = None;
        assert!(!check(&written, &null), "null for empty");
    }
}
