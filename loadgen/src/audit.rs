//! The audit: was every acknowledged record stored, once, in order, and nothing that was never sent?
//!
//! Every audited record carries a [`Stamp`]: its run, its producer (one per connection), its partition and its number
//! in the stream of that producer to that partition. A [`SentLog`] keeps what was sent and acknowledged, a [`ReadLog`]
//! what a reader found; [`judge`] compares the two. Streams are numbered without gaps, so both logs are sets of
//! intervals and a healthy run of any length takes one interval for each stream, or one for each transaction where some are
//! aborted.
//!
//! Where records are written in transactions the reader is one of committed records, and what counts as acknowledged is
//! what a commit was answered for. Nothing of an aborted transaction may be found, and of one whose commit was never
//! answered all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Serialize;

/// How many intervals one log may hold. Beyond this the audit gives up, says so, and fails: only a broker that refuses
/// or loses records one by one comes near.
const MAX_INTERVALS: usize = 4_000_000;
/// How many anomalies are described one by one; all are counted.
const MAX_EXAMPLES: usize = 20;

/// What an audited record's value begins with. The bytes after it are payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Random number of the run, so that records of other runs in the topic are told apart.
    pub run: u64,
    /// Number of the producing connection.
    pub producer: u32,
    /// The partition that the record was sent to.
    pub partition: i32,
    /// The record's number in the stream of this producer to this partition, from 0.
    pub sequence: u64,
    /// Intended send time, in nanoseconds from the start of the run.
    pub intended_ns: u64,
}

impl Stamp {
    /// Bytes of a stamp; big-endian fields in the order of the struct.
    pub const LEN: usize = 32;

    /// The bytes that a record's value begins with.
    pub fn to_bytes(self) -> [u8; Stamp::LEN] {
        let mut bytes = [0; Stamp::LEN];
        bytes[..8].copy_from_slice(&self.run.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.producer.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.partition.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[24..].copy_from_slice(&self.intended_ns.to_be_bytes());
        bytes
    }

    /// The stamp at the beginning of a record's value, or `None` when the value is too short to carry one.
    pub fn from_value(value: &[u8]) -> Option<Stamp> {
        let (run, rest) = value.split_first_chunk()?;
        let (producer, rest) = rest.split_first_chunk()?;
        let (partition, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (intended_ns, _) = rest.split_first_chunk()?;
        Some(Stamp {
            run: u64::from_be_bytes(*run),
            producer: u32::from_be_bytes(*producer),
            partition: i32::from_be_bytes(*partition),
            sequence: u64::from_be_bytes(*sequence),
            intended_ns: u64::from_be_bytes(*intended_ns),
        })
    }
}

/// The run whose records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedRun {
    /// Its number in the stamps.
    pub number: u64,
    /// Whether its records were written in transactions, so that committed ones alone are read.
    pub transactional: bool,
}

/// The records of one producer to one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// Number of the producing connection.
    pub producer: u32,
    /// Partition index.
    pub partition: i32,
}

/// What the producers did.
#[derive(Debug, Clone, Default)]
pub struct SentLog {
    streams: BTreeMap<StreamId, SentStream>,
}

/// How a transaction ended, as far as its producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// Its commit was answered without an error.
    Committed,
    /// It was aborted, or given up before its commit was asked for.
    Aborted,
    /// Its commit was asked for, and no answer says what came of it.
    InDoubt,
}

/// What a producer knows of its records to one partition.
#[derive(Debug, Clone, Default)]
pub struct SentStream {
    /// Numbers below this were sent.
    sent: u64,
    /// Acknowledged without an error; within transactions also those of the one that is open.
    acked: Intervals,
    /// Where the open transaction begins.
    open_from: u64,
    /// Of transactions that were aborted, whatever the answers were.
    aborted: Intervals,
    /// Acknowledged, of a transaction in doubt.
    in_doubt: Intervals,
}

impl SentStream {
    /// Notes that so many more records were sent. Answers the number of the first.
    pub fn send(&mut self, records: u64) -> u64 {
        let first = self.sent;
        self.sent += records;
        first
    }

    /// Notes that these records were acknowledged without an error.
    pub fn acknowledge(&mut self, sequences: Range<u64>) {
        self.acked.insert(sequences);
    }

    /// Notes how the transaction ended that all records since the last end belong to.
    pub fn end_transaction(&mut self, end: TransactionEnd) {
        let first = std::mem::replace(&mut self.open_from, self.sent);
        match end {
            TransactionEnd::Committed => {}
            TransactionEnd::Aborted => {
                self.acked.split_off(first);
                self.aborted.insert(first..self.sent);
            }
            TransactionEnd::InDoubt => {
                for range in self.acked.split_off(first).iter() {
                    self.in_doubt.insert(range);
                }
            }
        }
    }

    /// Whether records were sent since the last end of a transaction.
    pub fn is_transaction_open(&self) -> bool {
        self.open_from < self.sent
    }
}

impl SentLog {
    /// Adds what a producer knows of one of its streams.
    pub fn add(&mut self, id: StreamId, stream: SentStream) {
        self.streams.insert(id, stream);
    }

    /// Adds what another thread's producers did.
    pub fn merge(&mut self, other: &SentLog) {
        self.streams.extend(other.streams.iter().map(|(id, stream)| (*id, stream.clone())));
    }

    /// Producers of whose transaction in doubt something was found: it was committed.
    fn committed_after_all(&self, read: &ReadLog) -> BTreeSet<u32> {
        let is_found = |(id, stream): &(&StreamId, &SentStream)| {
            read.streams.get(id).is_some_and(|found| stream.in_doubt.common(&found.seen) > 0)
        };
        self.streams.iter().filter(is_found).map(|(id, _)| id.producer).collect()
    }
}

/// What readers found. Each partition is read by one reader, in the order of its offsets.
#[derive(Debug, Clone)]
pub struct ReadLog {
    run: u64,
    streams: BTreeMap<StreamId, ReadStream>,
    last_offset: BTreeMap<i32, i64>,
    counts: ReadCounts,
    intervals: usize,
    examples: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct ReadStream {
    seen: Intervals,
    highest: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ReadCounts {
    records: u64,
    foreign: u64,
    duplicates: u64,
    reordered: u64,
    misplaced: u64,
    offsets_backwards: u64,
    corrupt_batches: u64,
    gave_up: bool,
}

impl ReadLog {
    /// An empty log of the records of run `run`.
    pub fn new(run: u64) -> ReadLog {
        ReadLog {
            run,
            streams: BTreeMap::new(),
            last_offset: BTreeMap::new(),
            counts: ReadCounts::default(),
            intervals: 0,
            examples: Vec::new(),
        }
    }

    /// Notes a record that was found in `partition` at `offset`. Answers its stamp if it is one of this run.
    pub fn record(&mut self, partition: i32, offset: i64, value: &[u8]) -> Option<Stamp> {
        let last = self.last_offset.entry(partition).or_insert(-1);
        let backwards = offset <= *last;
        *last = offset;
        if backwards {
            self.counts.offsets_backwards += 1;
            self.example(|| format!("offset {offset} of partition {partition} came after a higher or equal one"));
        }
        // No producer ever counts to the highest number: such a stamp is someone else's bytes.
        let own = |stamp: &Stamp| stamp.run == self.run && stamp.sequence < u64::MAX;
        let Some(stamp) = Stamp::from_value(value).filter(own) else {
            self.counts.foreign += 1;
            return None;
        };
        self.counts.records += 1;
        if stamp.partition != partition {
            self.counts.misplaced += 1;
            self.example(|| format!("{stamp:?} was found in partition {partition} at offset {offset}"));
            return Some(stamp);
        }
        let stream = self.streams.entry(StreamId { producer: stamp.producer, partition }).or_default();
        let before = stream.seen.len();
        let first_time = stream.seen.insert(stamp.sequence..stamp.sequence + 1);
        self.intervals = self.intervals + stream.seen.len() - before;
        if self.intervals > MAX_INTERVALS {
            self.counts.gave_up = true;
        }
        let highest = stream.highest.replace(stream.highest.map_or(stamp.sequence, |high| high.max(stamp.sequence)));
        if !first_time {
            self.counts.duplicates += 1;
            self.example(|| format!("{stamp:?} was found again at offset {offset}"));
        } else if let Some(high) = highest.filter(|high| *high > stamp.sequence) {
            self.counts.reordered += 1;
            self.example(|| format!("{stamp:?} was found at offset {offset}, after sequence {high}"));
        }
        Some(stamp)
    }

    /// Notes a batch whose CRC is wrong.
    pub fn corrupt_batch(&mut self, partition: i32, base_offset: i64) {
        self.counts.corrupt_batches += 1;
        self.example(|| format!("the batch at offset {base_offset} of partition {partition} has a wrong CRC"));
    }

    /// Whether the log is full and the audit can only fail; reading on is pointless.
    pub fn gave_up(&self) -> bool {
        self.counts.gave_up
    }

    /// Adds what another reader found in other partitions.
    pub fn merge(&mut self, other: ReadLog) {
        self.intervals += other.intervals;
        self.streams.extend(other.streams);
        self.last_offset.extend(other.last_offset);
        self.counts.records += other.counts.records;
        self.counts.foreign += other.counts.foreign;
        self.counts.duplicates += other.counts.duplicates;
        self.counts.reordered += other.counts.reordered;
        self.counts.misplaced += other.counts.misplaced;
        self.counts.offsets_backwards += other.counts.offsets_backwards;
        self.counts.corrupt_batches += other.counts.corrupt_batches;
        self.counts.gave_up |= other.counts.gave_up;
        let room = MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(text());
        }
    }
}

/// The outcome of an audit. All counts are records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Nothing lost, duplicated, reordered, misplaced, invented or aborted, and everything was read.
    pub passed: bool,
    /// Sent, whatever the answer was.
    pub sent: u64,
    /// Acknowledged without an error; within transactions, those whose commit was.
    pub acked: u64,
    /// Found by the readers, duplicates included.
    pub read: u64,
    /// Acknowledged and not found; or of a transaction in doubt of which others were found.
    pub lost: u64,
    /// Found more than once; each further finding counts.
    pub duplicates: u64,
    /// Found after a record that the same producer sent later to the same partition.
    pub reordered: u64,
    /// Found in another partition than the one they were sent to.
    pub misplaced: u64,
    /// Found but never sent: a damaged stamp or a broker's invention.
    pub invented: u64,
    /// Found although their transaction was aborted.
    pub aborted: u64,
    /// Offsets that did not rise.
    pub offsets_backwards: u64,
    /// Batches whose CRC was wrong when they were read.
    pub corrupt_batches: u64,
    /// Found although not acknowledged (an error or no answer). Legal; a broker promises nothing about these.
    pub stored_unacked: u64,
    /// Found, but from another run. Not judged.
    pub foreign: u64,
    /// False when the reader could not reach the end of a partition, or the logs grew too large to keep.
    pub complete: bool,
    /// The first anomalies, described.
    pub examples: Vec<String>,
}

/// The verdict when nothing could be read, and why: it judges no record.
pub fn unread(sent: &SentLog, why: String) -> Verdict {
    let nothing = SentLog::default();
    let mut verdict = judge(&nothing, &ReadLog::new(0), false);
    verdict.sent = sent.streams.values().map(|stream| stream.sent).sum();
    verdict.acked = sent.streams.values().map(|stream| stream.acked.total()).sum();
    verdict.examples.push(why);
    verdict
}

/// Compares what was sent and acknowledged with what was found. `read_to_end` tells whether the readers reached the
/// end of every partition.
pub fn judge(sent: &SentLog, read: &ReadLog, read_to_end: bool) -> Verdict {
    let mut verdict = Verdict {
        passed: false,
        sent: 0,
        acked: 0,
        read: read.counts.records,
        lost: 0,
        duplicates: read.counts.duplicates,
        reordered: read.counts.reordered,
        misplaced: read.counts.misplaced,
        invented: 0,
        aborted: 0,
        offsets_backwards: read.counts.offsets_backwards,
        corrupt_batches: read.counts.corrupt_batches,
        stored_unacked: 0,
        foreign: read.counts.foreign,
        complete: read_to_end && !read.counts.gave_up,
        examples: read.examples.clone(),
    };
    let nothing = Intervals::default();
    let committed_after_all = sent.committed_after_all(read);
    for (id, stream) in &sent.streams {
        let StreamId { producer, partition } = id;
        let seen = read.streams.get(id).map_or(&nothing, |found| &found.seen);
        verdict.sent += stream.sent;
        verdict.acked += stream.acked.total();
        let aborted = stream.aborted.common(seen);
        verdict.aborted += aborted;
        if aborted > 0 && verdict.examples.len() < MAX_EXAMPLES {
            verdict.examples.push(format!(
                "{aborted} records of producer {producer} in partition {partition} are of aborted transactions"
            ));
        }
        let unacked = seen.minus(&stream.acked).map(|gap| gap.end.min(stream.sent).saturating_sub(gap.start));
        verdict.stored_unacked += unacked.sum::<u64>() - aborted;
        let in_doubt = if committed_after_all.contains(producer) { &stream.in_doubt } else { &nothing };
        for (due, why) in [(&stream.acked, "were acknowledged"), (in_doubt, "are of a transaction that was committed")]
        {
            for gap in due.minus(seen) {
                verdict.lost += gap.end - gap.start;
                if verdict.examples.len() < MAX_EXAMPLES {
                    let (first, last) = (gap.start, gap.end - 1);
                    verdict.examples.push(format!(
                        "producer {producer}'s sequences {first} to {last} of partition {partition} {why} and not found"
                    ));
                }
            }
        }
    }
    for (id, found) in &read.streams {
        let sent = sent.streams.get(id).map_or(0, |stream| stream.sent);
        let beyond: u64 = found.seen.iter().map(|range| range.end.saturating_sub(range.start.max(sent))).sum();
        verdict.invented += beyond;
        if beyond > 0 && verdict.examples.len() < MAX_EXAMPLES {
            let StreamId { producer, partition } = id;
            let text = format!("{beyond} records of producer {producer} in partition {partition} were never sent");
            verdict.examples.push(text);
        }
    }
    verdict.passed = verdict.complete
        && [
            verdict.lost,
            verdict.duplicates,
            verdict.reordered,
            verdict.misplaced,
            verdict.invented,
            verdict.aborted,
            verdict.offsets_backwards,
            verdict.corrupt_batches,
        ] == [0; 8];
    verdict
}

/// A set of numbers, kept as sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(Vec<Range<u64>>);

impl Intervals {
    /// Adds a range. Answers whether none of it was in the set.
    pub fn insert(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        // Almost always the next numbers of a stream: extend the last range.
        if let Some(last) = self.0.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
            return true;
        }
        let first = self.0.partition_point(|old| old.end < range.start);
        let behind = first + self.0[first..].partition_point(|old| old.start <= range.end);
        let fresh = self.0[first..behind].iter().all(|old| old.end == range.start || old.start == range.end);
        let start = self.0.get(first).map_or(range.start, |old| old.start.min(range.start));
        let end = self.0[first..behind].last().map_or(range.end, |old| old.end.max(range.end));
        self.0.splice(first..behind, std::iter::once(start..end));
        fresh
    }

    /// Takes the numbers from `first` on out of the set.
    pub fn split_off(&mut self, first: u64) -> Intervals {
        let mut taken = self.0.split_off(self.0.partition_point(|range| range.end <= first));
        if let Some(cut) = taken.first_mut().filter(|range| range.start < first) {
            self.0.push(cut.start..first);
            cut.start = first;
        }
        Intervals(taken)
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().cloned()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers are in the set.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// How many numbers are in both sets.
    fn common(&self, other: &Intervals) -> u64 {
        self.total() - self.minus(other).map(|gap| gap.end - gap.start).sum::<u64>()
    }

    /// The numbers of this set that are not in `other`, as ranges.
    fn minus<'a>(&'a self, other: &'a Intervals) -> impl Iterator<Item = Range<u64>> + 'a {
        let mut behind = 0;
        self.0.iter().flat_map(move |range| {
            while other.0.get(behind).is_some_and(|hole| hole.end <= range.start) {
                behind += 1;
            }
            let mut gaps = Vec::new();
            let mut start = range.start;
            for hole in &other.0[behind..] {
                if hole.start >= range.end {
                    break;
                }
                if hole.start > start {
                    gaps.push(start..hole.start);
                }
                start = start.max(hole.end);
            }
            if start < range.end {
                gaps.push(start..range.end);
            }
            gaps
        })
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "sets of one interval")]
mod tests {
    use super::*;

    const RUN: u64 = 7;

    fn set(ranges: &[Range<u64>]) -> Intervals {
        let mut set = Intervals::default();
        for range in ranges {
            set.insert(range.clone());
        }
        set
    }

    fn sent(streams: &[(u32, i32, u64, &[Range<u64>])]) -> SentLog {
        let mut log = SentLog::default();
        for (producer, partition, sent, acked) in streams {
            let stream = SentStream { sent: *sent, acked: set(acked), ..SentStream::default() };
            log.add(StreamId { producer: *producer, partition: *partition }, stream);
        }
        log
    }

    fn value(producer: u32, partition: i32, sequence: u64) -> Vec<u8> {
        let stamp = Stamp { run: RUN, producer, partition, sequence, intended_ns: 1 };
        [stamp.to_bytes().as_slice(), b"payload"].concat()
    }

    /// A partition 0 as it was read, from its first offset on: (producer, sequence).
    fn read(history: &[(u32, u64)]) -> ReadLog {
        let mut log = ReadLog::new(RUN);
        for (offset, (producer, sequence)) in history.iter().enumerate() {
            log.record(0, offset as i64, &value(*producer, 0, *sequence));
        }
        log
    }

    #[test]
    fn a_clean_history_passes() {
        let sent = sent(&[(0, 0, 3, &[0..3]), (1, 0, 2, &[0..2])]);
        let verdict = judge(&sent, &read(&[(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)]), true);
        assert!(verdict.passed, "{verdict:?}");
        assert_eq!((verdict.sent, verdict.acked, verdict.read), (5, 5, 5));
        assert!(verdict.examples.is_empty());
    }

    #[test]
    fn a_lost_record_in_the_middle_and_at_the_end() {
        let verdict = judge(&sent(&[(0, 0, 5, &[0..5])]), &read(&[(0, 0), (0, 1), (0, 3)]), true);
        assert!(!verdict.passed);
        assert_eq!(verdict.lost, 2);
        assert_eq!(verdict.examples.len(), 2, "{:?}", verdict.examples);
    }

    #[test]
    fn a_lost_stream() {
        let verdict = judge(
            &sent(&[(0, 0, 5, &[0..5]), (1, 0, 9, &[0..9])]),
            &read(&[(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]),
            true,
        );
        assert!(!verdict.passed);
        assert_eq!(verdict.lost, 9);
    }

    #[test]
    fn unacked_records_may_be_there_or_not() {
        // 2 and 3 got an error; the broker stored 2 all the same.
        let verdict = judge(&sent(&[(0, 0, 6, &[0..2, 4..6])]), &read(&[(0, 0), (0, 1), (0, 2), (0, 4), (0, 5)]), true);
        assert!(verdict.passed, "{verdict:?}");
        assert_eq!((verdict.acked, verdict.stored_unacked), (4, 1));
    }

    #[test]
    fn a_duplicate() {
        let verdict = judge(&sent(&[(0, 0, 3, &[0..3])]), &read(&[(0, 0), (0, 1), (0, 1), (0, 2)]), true);
        assert!(!verdict.passed);
        assert_eq!((verdict.duplicates, verdict.reordered, verdict.lost), (1, 0, 0));
    }

    #[test]
    fn a_reordering() {
        let verdict = judge(&sent(&[(0, 0, 3, &[0..3])]), &read(&[(0, 0), (0, 2), (0, 1)]), true);
        assert!(!verdict.passed);
        assert_eq!((verdict.duplicates, verdict.reordered, verdict.lost), (0, 1, 0));
    }

    #[test]
    fn a_record_that_was_never_sent() {
        let verdict = judge(&sent(&[(0, 0, 2, &[0..2])]), &read(&[(0, 0), (0, 1), (0, 2)]), true);
        assert!(!verdict.passed);
        assert_eq!((verdict.invented, verdict.stored_unacked), (1, 0));
        let verdict = judge(&SentLog::default(), &read(&[(3, 0)]), true);
        assert_eq!(verdict.invented, 1);
    }

    #[test]
    fn a_record_in_the_wrong_partition() {
        let mut log = read(&[(0, 0)]);
        log.record(1, 0, &value(0, 0, 1));
        let verdict = judge(&sent(&[(0, 0, 2, &[0..2])]), &log, true);
        assert!(!verdict.passed);
        assert_eq!((verdict.misplaced, verdict.lost), (1, 1));
    }

    #[test]
    fn offsets_that_do_not_rise() {
        let mut log = ReadLog::new(RUN);
        log.record(0, 5, &value(0, 0, 0));
        log.record(0, 5, &value(0, 0, 1));
        let verdict = judge(&sent(&[(0, 0, 2, &[0..2])]), &log, true);
        assert!(!verdict.passed);
        assert_eq!(verdict.offsets_backwards, 1);
    }

    #[test]
    fn a_corrupt_batch() {
        let mut log = read(&[(0, 0)]);
        log.corrupt_batch(0, 0);
        let verdict = judge(&sent(&[(0, 0, 1, &[0..1])]), &log, true);
        assert!(!verdict.passed);
        assert_eq!((verdict.corrupt_batches, verdict.lost), (1, 0));
    }

    #[test]
    fn an_unfinished_reading_never_passes() {
        let verdict = judge(&sent(&[(0, 0, 1, &[0..1])]), &read(&[(0, 0)]), false);
        assert!(!verdict.passed && !verdict.complete);
    }

    #[test]
    fn what_cannot_be_read_is_not_called_lost() {
        let verdict = unread(&sent(&[(0, 0, 7, &[0..5])]), "the broker is gone".to_owned());
        assert!(!verdict.passed && !verdict.complete);
        assert_eq!((verdict.sent, verdict.acked, verdict.lost), (7, 5, 0));
        assert_eq!(verdict.examples, ["the broker is gone"]);
    }

    #[test]
    fn records_of_other_runs_are_not_judged() {
        let mut log = ReadLog::new(RUN);
        assert_eq!(log.record(0, 0, b"short"), None);
        assert_eq!(log.record(0, 1, &[0xAB; 100]), None);
        assert!(log.record(0, 2, &value(0, 0, 0)).is_some());
        let verdict = judge(&sent(&[(0, 0, 1, &[0..1])]), &log, true);
        assert!(verdict.passed);
        assert_eq!((verdict.foreign, verdict.read), (2, 1));
    }

    #[test]
    fn readers_of_several_partitions_and_threads_are_merged() {
        let mut one = read(&[(0, 0), (0, 1)]);
        let mut two = ReadLog::new(RUN);
        two.record(1, 0, &value(0, 1, 0));
        two.record(1, 1, &value(0, 1, 0));
        one.merge(two);
        let mut both = sent(&[(0, 0, 2, &[0..2])]);
        both.merge(&sent(&[(0, 1, 2, &[0..2])]));
        let verdict = judge(&both, &one, true);
        assert_eq!((verdict.sent, verdict.read, verdict.duplicates, verdict.lost), (4, 4, 1, 1));
    }

    /// Transactions of two records each, all acknowledged but for the records in `refused`.
    fn transactions(ends: &[TransactionEnd], refused: Range<u64>) -> SentStream {
        let mut stream = SentStream::default();
        for end in ends {
            let first = stream.send(2);
            (first..first + 2).filter(|one| !refused.contains(one)).for_each(|one| stream.acknowledge(one..one + 1));
            assert!(stream.is_transaction_open());
            stream.end_transaction(*end);
            assert!(!stream.is_transaction_open());
        }
        stream
    }

    fn judged(streams: &[SentStream], found: &[(i32, u64)]) -> Verdict {
        let (mut sent, mut read) = (SentLog::default(), ReadLog::new(RUN));
        for (partition, stream) in streams.iter().enumerate() {
            sent.add(StreamId { producer: 0, partition: partition as i32 }, stream.clone());
        }
        for (partition, sequence) in found {
            read.record(*partition, *sequence as i64, &value(0, *partition, *sequence));
        }
        judge(&sent, &read, true)
    }

    #[test]
    fn committed_records_are_there_once_and_in_order_and_aborted_ones_are_not() {
        use TransactionEnd::{Aborted, Committed};
        let stream = [transactions(&[Committed, Aborted, Committed], 5..5)];
        let verdict = judged(&stream, &[(0, 0), (0, 1), (0, 4), (0, 5)]);
        assert!(verdict.passed, "{verdict:?}");
        assert_eq!((verdict.sent, verdict.acked, verdict.read, verdict.stored_unacked), (6, 4, 4, 0));

        let verdict = judged(&stream, &[(0, 0), (0, 1), (0, 3), (0, 4), (0, 5)]);
        assert!(!verdict.passed);
        assert_eq!((verdict.aborted, verdict.stored_unacked, verdict.lost), (1, 0, 0));
        assert_eq!(verdict.examples, ["1 records of producer 0 in partition 0 are of aborted transactions"]);

        let verdict = judged(&stream, &[(0, 0), (0, 4), (0, 4)]);
        assert_eq!((verdict.passed, verdict.lost, verdict.duplicates), (false, 2, 1));
        let verdict = judged(&stream, &[(0, 0), (0, 4), (0, 1), (0, 5)]);
        assert_eq!((verdict.passed, verdict.reordered), (false, 1));
    }

    #[test]
    fn what_was_refused_within_an_aborted_transaction_is_aborted_too() {
        use TransactionEnd::{Aborted, Committed};
        let streams = [transactions(&[Committed, Aborted], 1..3)];
        let verdict = judged(&streams, &[(0, 0), (0, 1), (0, 2)]);
        assert_eq!((verdict.passed, verdict.aborted, verdict.stored_unacked), (false, 1, 1));
    }

    #[test]
    fn a_transaction_in_doubt_is_there_as_a_whole_or_not_at_all() {
        use TransactionEnd::{Committed, InDoubt};
        let streams = [transactions(&[Committed, InDoubt], 5..5), transactions(&[Committed, InDoubt], 5..5)];
        let committed = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let verdict = judged(&streams, &committed);
        assert_eq!((verdict.passed, verdict.acked, verdict.stored_unacked), (true, 4, 0));
        let verdict = judged(&streams, &[&committed[..], &[(0, 2), (0, 3), (1, 2), (1, 3)]].concat());
        assert_eq!((verdict.passed, verdict.acked, verdict.stored_unacked), (true, 4, 4));
        let verdict = judged(&streams, &[&committed[..], &[(0, 2), (0, 3), (1, 3)]].concat());
        assert_eq!((verdict.passed, verdict.lost), (false, 1), "{verdict:?}");
        let verdict = judged(&streams, &[&committed[..], &[(0, 2), (0, 3)]].concat());
        assert_eq!((verdict.passed, verdict.lost), (false, 2), "the other partition's part: {verdict:?}");
    }

    #[test]
    fn stamps_survive_their_bytes() {
        let stamp = Stamp { run: u64::MAX - 1, producer: 3, partition: -4, sequence: 1 << 40, intended_ns: 17 };
        assert_eq!(Stamp::from_value(&stamp.to_bytes()), Some(stamp));
        assert_eq!(Stamp::from_value(&stamp.to_bytes()[..31]), None);
    }

    #[test]
    fn intervals_agree_with_a_plain_set() {
        use std::collections::BTreeSet;
        // A small multiplicative generator: every state of 7 bits, so that all kinds of overlap occur.
        let mut state = 1_u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..300 {
            let mut intervals = [Intervals::default(), Intervals::default()];
            let mut plain = [BTreeSet::new(), BTreeSet::new()];
            for _ in 0..next(30) {
                let which = next(2) as usize;
                let start = next(60);
                let range = start..start + next(6);
                let fresh = range.clone().all(|number| !plain[which].contains(&number));
                assert_eq!(intervals[which].insert(range.clone()), fresh, "{range:?} into {:?}", plain[which]);
                plain[which].extend(range);
            }
            for which in 0..2 {
                let listed: Vec<u64> = intervals[which].iter().flatten().collect();
                assert!(listed.iter().copied().eq(plain[which].iter().copied()));
                assert_eq!(intervals[which].total(), plain[which].len() as u64);
                assert!(intervals[which].0.windows(2).all(|pair| pair[0].end < pair[1].start), "merged when touching");
            }
            assert_eq!(intervals[0].common(&intervals[1]), plain[0].intersection(&plain[1]).count() as u64);
            let at = next(70);
            let (mut below, whole) = (intervals[0].clone(), &plain[0]);
            let above: Vec<u64> = below.split_off(at).iter().flatten().collect();
            assert!(above.iter().copied().eq(whole.range(at..).copied()), "{whole:?} from {at}");
            assert!(below.iter().flatten().eq(whole.range(..at).copied()), "{whole:?} below {at}");
            let minus: Vec<u64> = intervals[0].minus(&intervals[1]).flatten().collect();
            assert!(minus.iter().copied().eq(plain[0].difference(&plain[1]).copied()));
        }
    }
}
