//! Log compaction: of the records of a key only the newest stays (`cleanup.policy=compact`). Off the request path.
//!
//! A pass over a partition reads what is *dirty*, the sealed segments that no pass has covered, into a map from key to newest
//! offset ([`key_map`]), reads everything up to there again, and writes what is left of each batch ([`filter`]) into new
//! segments that replace the old ones ([`replace`]). Neighbours that fit into one segment together become one. When the map
//! is full the pass covers less, and the next one goes on there. The segment that is appended to is left alone.
//!
//! Where a partition's passes have come to is kept in a file beside its segments. Without it the next pass begins anew and
//! finds nothing to remove.
//!
//! The journal speaks of segments until they are known to be complete. A pass therefore carries its partition first: from
//! then on recovery takes the segments as their files are.

mod filter;
mod key_map;
mod output;
mod replace;

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use wire::batch::BatchView;

use self::filter::{Damaged, Filter, LastRecord, Outcome, Rules, Transactions, for_each_record};
use self::key_map::KeyMap;
use self::output::Output;
use self::replace::Replacement;
use crate::checkpoint::{checksummed, write_file};
use crate::commit::is_full;
use crate::io::File;
use crate::join::first;
use crate::limits::{BLOCK_BYTES, COMPACTION_TURN_BYTES, COMPACTION_TURN_PARTITIONS};
use crate::log::Log;
use crate::partition::Partition;
use crate::reactor::{Notify, Reactor};
use crate::read::{ReadError, Scan, batches};
use crate::recovery::{read_checksummed, remove_if_there};
use crate::segment::{self, Segment};
use crate::store::{Slot, Store};
use crate::transactions::{AbortedTransaction, encode_aborted};

pub(crate) use self::replace::finish_replacements;

/// The file, in a partition's directory, that says which offset passes have come to.
pub(crate) const CLEANER_OFFSET: &str = "cleaner-offset";

/// How a core compacts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionOptions {
    /// Memory for the map of keys, in bytes (`log.cleaner.dedupe.buffer.size`).
    pub map_bytes: usize,
    /// The part of the map that is used (`log.cleaner.io.buffer.load.factor`): 0 to 1.
    pub load_factor: f64,
    /// Memory for reading and writing, in bytes (`log.cleaner.io.buffer.size`). It grows for a batch that needs more.
    pub io_bytes: usize,
    /// Bytes read and written in a second at most (`log.cleaner.io.max.bytes.per.second`).
    pub max_bytes_per_second: f64,
    /// How often logs are looked at while there is nothing to compact, in ms (`log.cleaner.backoff.ms`).
    pub backoff_ms: u64,
}

impl Default for CompactionOptions {
    /// Kafka's defaults.
    fn default() -> CompactionOptions {
        CompactionOptions {
            map_bytes: 128 << 20,
            load_factor: 0.9,
            io_bytes: 512 << 10,
            max_bytes_per_second: f64::MAX,
            backoff_ms: 15_000,
        }
    }
}

/// How a core compacts at present.
#[derive(Default)]
pub(crate) struct CompactionControl {
    options: Cell<CompactionOptions>,
    /// Rings when the options have changed.
    changed: Notify,
}

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The partition.
    pub slot: Slot,
    /// What is below this offset has been covered.
    pub cleaned_to: i64,
    /// Bytes of the segments that were looked at.
    pub bytes_before: u64,
    /// Bytes of the segments that are there instead.
    pub bytes_after: u64,
}

/// A segment that a pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source {
    base: i64,
    end_offset: i64,
    bytes: u64,
    generation: u32,
}

/// A partition that can be compacted, and what makes it urgent.
#[derive(Debug, Clone)]
struct Plan {
    slot: Slot,
    /// All sealed segments up to the first one that has to be left alone.
    sources: Vec<Source>,
    first_dirty: i64,
    /// Dirty bytes, of all bytes that a pass would read.
    ratio: f64,
    is_due: bool,
}

/// Why a pass has ended early.
enum Ended {
    /// The partition, or segments of it, have gone meanwhile.
    Overtaken,
    /// There is no space for the new segments. The next look at the partition tries again.
    DiskFull,
    /// The partition cannot be read. It is left alone until the next start.
    Unreadable(String),
    /// The disk has failed.
    Failed(io::Error),
}

impl Store {
    /// Changes how this core compacts, from Kafka's defaults at first. Pauses and pace change at once, memory with the next
    /// pass.
    pub fn set_compaction(&self, options: CompactionOptions) {
        let control = &self.shared.compaction;
        if control.options.replace(options) != options {
            control.changed.notify();
        }
    }

    /// Compacts partitions that are due, the dirtiest first, for as long as the store lives. `report` is told of partitions
    /// that cannot be compacted. An error is one of the disk: see [`Store::run`].
    pub async fn run_compaction(&self, report: impl Fn(String)) -> io::Error {
        let CompactionControl { options, changed } = &self.shared.compaction;
        loop {
            match self.compact_next(&report).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let pause_ns = options.get().backoff_ms.max(1).saturating_mul(1_000_000);
                    let again_ns = self.shared.reactor.now_ns().saturating_add(pause_ns);
                    first(self.shared.reactor.sleep_until(again_ns), changed.wait()).await;
                }
                Err(error) => return self.fail(&error).into(),
            }
        }
    }

    /// One pass over the partition that is due and dirtiest. None when no partition is due.
    pub async fn compact_next(&self, report: &impl Fn(String)) -> io::Result<Option<Compacted>> {
        let mut passed_over = BTreeSet::new();
        while let Some(plan) = self.dirtiest(&passed_over).await {
            let slot = plan.slot;
            passed_over.insert(slot);
            match self.pass(&plan).await {
                Ok(done) => return Ok(Some(done)),
                Err(Ended::Failed(error)) => return Err(error),
                Err(Ended::Overtaken | Ended::DiskFull) => {}
                Err(Ended::Unreadable(cause)) => {
                    if let Some(partition) = self.state_mut().live_mut(slot) {
                        partition.is_uncleanable = true;
                        report(format!("{} is not compacted any more: {cause}", partition.log.dir.display()));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn dirtiest(&self, passed_over: &BTreeSet<Slot>) -> Option<Plan> {
        let mut dirtiest: Option<Plan> = None;
        let slots = self.state().partitions.len() as Slot;
        for slot in (0..slots).filter(|slot| !passed_over.contains(slot)) {
            if slot % COMPACTION_TURN_PARTITIONS == COMPACTION_TURN_PARTITIONS - 1 {
                self.shared.reactor.end_of_turn().await;
            }
            self.load_times(slot).await;
            let now_ms = self.shared.reactor.unix_ms();
            let plan = self.state().live(slot).and_then(|partition| plan(slot, partition, now_ms));
            let Some(plan) = plan.filter(|plan| plan.is_due) else { continue };
            if dirtiest.as_ref().is_none_or(|other| plan.ratio > other.ratio) {
                dirtiest = Some(plan);
            }
        }
        dirtiest
    }

    /// The lags ask for the times of dirty segments, which their indexes know.
    async fn load_times(&self, slot: Slot) {
        let bases: Vec<i64> = {
            let state = self.state();
            let Some(partition) = state.live(slot) else { return };
            let config = &partition.config;
            if !config.compact || (config.min_compaction_lag_ms <= 0 && config.max_compaction_lag_ms == i64::MAX) {
                return;
            }
            let first_dirty = first_dirty(partition);
            let segments = partition.log.segments.iter();
            segments.filter(|s| s.sealed && s.end_offset > first_dirty && s.index.is_none()).map(|s| s.base).collect()
        };
        for base in bases {
            // One that cannot be read will say so when it is compacted.
            let _ = self.load_index(slot, base).await;
        }
    }

    async fn pass(&self, plan: &Plan) -> Result<Compacted, Ended> {
        let slot = plan.slot;
        let options = &self.shared.compaction.options.get();
        self.carry_slots(&[slot]).await.map_err(Ended::Failed)?;
        let pace = Pace::new(&self.shared.reactor, &self.shared.compaction);
        let expected = plan.sources.last().map_or(0, |last| last.end_offset - plan.first_dirty);
        let secret = [self.shared.reactor.random(), self.shared.reactor.random()];
        let expected = u64::try_from(expected).unwrap_or(0);
        let mut newest = KeyMap::new(secret, expected, options.map_bytes, options.load_factor);
        let mapped_to = self.map_keys(plan, options, &pace, &mut newest).await?;
        let first_base = plan.sources.first().map_or(0, |first| first.base);
        let aborted = self.aborted_from(plan, first_base).await?;
        let (groups, delete_retention_ms) = {
            let state = self.state();
            let config = &state.live(slot).ok_or(Ended::Overtaken)?.config;
            let max = Max { bytes: config.segment_bytes, aborted: state.options.limits.aborted_per_segment };
            (groups(&plan.sources, mapped_to, &aborted, max), config.delete_retention_ms)
        };
        let rules = Rules {
            newest: &newest,
            mapped_to,
            end_offset: plan.sources.last().map_or(0, |last| last.end_offset),
            now_ms: self.shared.reactor.unix_ms(),
            delete_retention_ms,
        };
        let mut filter = Filter::new(rules, Transactions::new(aborted));
        let mut done = Compacted { slot, cleaned_to: mapped_to, bytes_before: 0, bytes_after: 0 };
        for group in groups {
            done.bytes_before += group.iter().map(|source| source.bytes).sum::<u64>();
            done.bytes_after += self.compact_group(slot, group, options, &pace, &mut filter).await?;
        }
        self.note_cleaned(slot, mapped_to).await?;
        Ok(done)
    }

    /// The aborted transactions that end behind `from`, a segment's base, and begin within what may be read.
    async fn aborted_from(&self, plan: &Plan, from: i64) -> Result<Vec<AbortedTransaction>, Ended> {
        let to = plan.sources.last().map_or(0, |last| last.end_offset);
        self.aborted_cold(plan.slot, from, to).await.map_err(|error| match error {
            ReadError::UnknownPartition | ReadError::OutOfRange => Ended::Overtaken,
            ReadError::Corrupt => Ended::Unreadable("its aborted transactions cannot be found".to_owned()),
            ReadError::Io(error) => unreadable(error),
        })
    }

    /// Fills the map with the keys of dirty segments, as far as they fit. Returns the offset that it reaches.
    async fn map_keys(
        &self,
        plan: &Plan,
        options: &CompactionOptions,
        pace: &Pace<'_>,
        newest: &mut KeyMap,
    ) -> Result<i64, Ended> {
        let first_base = plan.dirty().next().map_or(0, |first| first.base);
        let mut transactions = Transactions::new(self.aborted_from(plan, first_base).await?);
        let mut scratch = Vec::new();
        let mut mapped_to = plan.first_dirty;
        for source in plan.dirty() {
            let mut walk = self.walk(plan.slot, source, options).await?;
            while let Some((_, piece)) = walk.next(pace).await? {
                for (_, batch) in batches(piece.as_bytes()) {
                    walk.check(&batch)?;
                    let is_unneeded = transactions.note(&batch);
                    if !is_unneeded && !batch.attributes().is_control() {
                        let mut is_full = false;
                        for_each_record(&batch, &mut scratch, |record| {
                            if let Some(key) = record.key.filter(|_| record.offset >= plan.first_dirty) {
                                is_full = !newest.put(key, record.offset);
                                if !is_full {
                                    mapped_to = mapped_to.max(record.offset + 1);
                                }
                            }
                            !is_full
                        })?;
                        if is_full {
                            return Ok(mapped_to);
                        }
                    }
                    mapped_to = mapped_to.max(batch.last_offset() + 1);
                    pace.breathe(batch.total_len()).await;
                }
            }
            mapped_to = source.end_offset;
        }
        Ok(mapped_to)
    }

    /// Writes what is left of neighbouring segments into one and puts it in their place. Returns its length in bytes.
    async fn compact_group(
        &self,
        slot: Slot,
        group: &[Source],
        options: &CompactionOptions,
        pace: &Pace<'_>,
        filter: &mut Filter<'_>,
    ) -> Result<u64, Ended> {
        let interval = self.state().options.limits.index_interval_bytes;
        let (mut output, replacement) = {
            let _turn = self.shared.names_turn.enter().await;
            let dir = self.dir_of(slot)?;
            let bases = group.iter().map(|source| source.base).collect();
            let end_offset = group.last().expect("a group has a segment").end_offset;
            let replacement = Replacement { dir, bases, end_offset };
            let path = replacement.cleaned_path();
            let output = Output::create(&self.shared.reactor, &path, group[0].base, interval, options.io_bytes / 2);
            (output.await.map_err(no_space)?, replacement)
        };
        let written = self.write_group(slot, group, options, pace, filter, &mut output).await;
        let result = match written {
            // Nothing has gone, and there is nothing to be joined.
            Ok(false) if group.len() == 1 => {
                filter.transactions.take_met();
                Ok(group[0].bytes)
            }
            Ok(_) => return self.replace(slot, group, output, replacement, filter.transactions.take_met()).await,
            Err(ended) => Err(ended),
        };
        drop(output);
        self.discard(slot, &replacement).await?;
        result
    }

    /// Writes what is left of segments. Returns whether that is not the same.
    async fn write_group(
        &self,
        slot: Slot,
        group: &[Source],
        options: &CompactionOptions,
        pace: &Pace<'_>,
        filter: &mut Filter<'_>,
        output: &mut Output,
    ) -> Result<bool, Ended> {
        let mut has_changed = false;
        let mut changed = Vec::new();
        let last_records = self.state().live(slot).ok_or(Ended::Overtaken)?.last_records();
        for source in group {
            let mut walk = self.walk(slot, source, options).await?;
            while let Some((_, piece)) = walk.next(pace).await? {
                for (_, batch) in batches(piece.as_bytes()) {
                    walk.check(&batch)?;
                    changed.clear();
                    let last = last_records.get(&batch.producer_id()).copied();
                    let outcome = filter.batch(&batch, last, &mut changed)?;
                    has_changed |= outcome != Outcome::Same;
                    let stays = match outcome {
                        Outcome::Same => batch.bytes(),
                        Outcome::Changed => &changed,
                        Outcome::Gone => &[],
                    };
                    if let Ok(stays) = BatchView::parse(stays) {
                        output.push(&self.shared.reactor, &stays).await.map_err(no_space)?;
                    }
                    pace.breathe(batch.total_len()).await;
                }
            }
            pace.account(output.take_written()).await;
        }
        Ok(has_changed)
    }

    /// Makes the new segment durable and puts it in the place of the old ones.
    async fn replace(
        &self,
        slot: Slot,
        group: &[Source],
        output: Output,
        replacement: Replacement,
        aborted: Vec<AbortedTransaction>,
    ) -> Result<u64, Ended> {
        let reactor = &self.shared.reactor;
        let last = group.last().expect("a group has a segment");
        let mut segment = match output.finish(reactor, last.end_offset).await {
            Ok(segment) => segment,
            Err(error) => {
                self.discard(slot, &replacement).await?;
                return Err(no_space(error));
            }
        };
        segment.generation = group.iter().map(|source| source.generation).max().unwrap_or(0) + 1;
        let bytes = segment.end_pos;
        let _turn = self.shared.names_turn.enter().await;
        // Nobody removes or renames files of the partition but in a turn, so what holds here holds to the end.
        let place = self.state().live(slot).and_then(|partition| place_of(&partition.log, group));
        let Some(place) = place else {
            if self.state().live(slot).is_some() {
                remove_if_there(reactor, &replacement.cleaned_path()).await.map_err(Ended::Failed)?;
            }
            return Err(Ended::Overtaken);
        };
        let has_lists = {
            let state = self.state();
            let has_list = |base: &i64| state.live(slot).is_some_and(|it| it.transactions.has_list(*base));
            replacement.bases.iter().any(has_list)
        };
        // Before the segment: a transaction whose end has gone must not be known as aborted any more.
        if has_lists || !aborted.is_empty() {
            let bytes = checksummed(&encode_aborted(&aborted));
            let path = segment::aborted_path(&replacement.dir, replacement.bases[0]);
            write_file(reactor, &path, &bytes).await.map_err(Ended::Failed)?;
        }
        replacement.begin(reactor).await.map_err(Ended::Failed)?;
        {
            let mut state = self.state_mut();
            let max_cached = state.options.limits.aborted_cached;
            if let Some(partition) = state.partition_mut(slot) {
                partition.log.replace(place..place + group.len(), segment);
                partition.transactions.replace(&replacement.bases, aborted, max_cached);
            }
        }
        self.when_there_is_space(async || replacement.finish(reactor).await).await.map_err(Ended::Failed)?;
        Ok(bytes)
    }

    /// Removes a file that is not going to be used.
    async fn discard(&self, slot: Slot, replacement: &Replacement) -> Result<(), Ended> {
        let _turn = self.shared.names_turn.enter().await;
        // The directory of a partition that was deleted goes with all that is in it.
        if self.dir_of(slot).is_ok() {
            let removed = remove_if_there(&self.shared.reactor, &replacement.cleaned_path()).await;
            removed.map_err(Ended::Failed)?;
        }
        Ok(())
    }

    async fn note_cleaned(&self, slot: Slot, cleaned_to: i64) -> Result<(), Ended> {
        let _turn = self.shared.names_turn.enter().await;
        let dir = self.dir_of(slot)?;
        if let Some(partition) = self.state_mut().live_mut(slot) {
            partition.cleaned_to = cleaned_to;
        }
        let bytes = checksummed(&cleaned_to.to_le_bytes());
        match write_file(&self.shared.reactor, &dir.join(CLEANER_OFFSET), &bytes).await {
            Err(error) if !is_full(&error) => Err(Ended::Failed(error)),
            _ => Ok(()),
        }
    }

    /// The directory of a partition, for its files: in a turn.
    fn dir_of(&self, slot: Slot) -> Result<PathBuf, Ended> {
        Ok(self.state().live(slot).ok_or(Ended::Overtaken)?.log.dir.clone())
    }

    /// Begins to read a segment.
    async fn walk(&self, slot: Slot, source: &Source, options: &CompactionOptions) -> Result<Walk, Ended> {
        let opened = self.segment_file(slot, source.base, 0).await;
        let file: File = opened.map_err(unreadable)?.ok_or(Ended::Overtaken)?;
        let state = self.state();
        let partition = state.live(slot).ok_or(Ended::Overtaken)?;
        place_of(&partition.log, std::slice::from_ref(source)).ok_or(Ended::Overtaken)?;
        let scan = Scan::new(file, source.base, source.bytes, (options.io_bytes / 2).max(BLOCK_BYTES));
        Ok(Walk { reactor: self.shared.reactor.clone(), scan, next: source.base, end_offset: source.end_offset })
    }
}

/// A segment that is being read. Damage in it is the partition's alone.
struct Walk {
    reactor: Reactor,
    scan: Scan,
    /// No batch may begin before this offset.
    next: i64,
    end_offset: i64,
}

impl Walk {
    async fn next(&mut self, pace: &Pace<'_>) -> Result<Option<(u64, crate::cache::Slice)>, Ended> {
        let read = self.scan.next(&self.reactor).await.map_err(unreadable)?;
        if let Some((_, piece)) = &read {
            pace.account(piece.len() as u64).await;
        }
        Ok(read)
    }

    /// A batch is copied with a new checksum, so one that does not hold must not pass.
    fn check(&mut self, batch: &BatchView<'_>) -> Result<(), Ended> {
        let (first, last) = (batch.base_offset(), batch.last_offset());
        if first < self.next || last < first || last >= self.end_offset || !batch.crc_matches() {
            return Err(Ended::Unreadable(format!("what should be the batch at offset {} does not hold", self.next)));
        }
        self.next = last + 1;
        Ok(())
    }
}

/// Keeps a pass from taking the core or the disk for itself.
struct Pace<'a> {
    reactor: &'a Reactor,
    control: &'a CompactionControl,
    /// What it keeps to, in bytes, and since when.
    bytes_per_second: Cell<f64>,
    began_ns: Cell<u64>,
    /// Read and written since then.
    bytes: Cell<u64>,
    /// Worked on in this turn.
    turn_bytes: Cell<usize>,
}

impl<'a> Pace<'a> {
    fn new(reactor: &'a Reactor, control: &'a CompactionControl) -> Pace<'a> {
        Pace {
            reactor,
            control,
            bytes_per_second: Cell::new(control.options.get().max_bytes_per_second),
            began_ns: Cell::new(reactor.now_ns()),
            bytes: Cell::new(0),
            turn_bytes: Cell::new(0),
        }
    }

    /// Notes work on memory, and lets others have their turn from time to time.
    async fn breathe(&self, bytes: usize) {
        let worked = self.turn_bytes.get() + bytes;
        self.turn_bytes.set(worked);
        if worked >= COMPACTION_TURN_BYTES {
            self.turn_bytes.set(0);
            self.reactor.end_of_turn().await;
        }
    }

    /// Notes bytes read or written, and waits while they are more than is allowed for the time that has passed. Another
    /// allowance counts from the moment on in which it comes.
    async fn account(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        loop {
            let allowed = self.control.options.get().max_bytes_per_second;
            if self.bytes_per_second.replace(allowed) != allowed {
                self.began_ns.set(self.reactor.now_ns());
                self.bytes.set(0);
            }
            let needed_ns = self.bytes.get() as f64 / allowed * 1e9;
            let until_ns = self.began_ns.get().saturating_add(needed_ns as u64);
            if until_ns <= self.reactor.now_ns() {
                return;
            }
            first(self.reactor.sleep_until(until_ns), self.control.changed.wait()).await;
        }
    }
}

impl From<Damaged> for Ended {
    fn from(damaged: Damaged) -> Ended {
        Ended::Unreadable(damaged.0)
    }
}

fn unreadable(error: io::Error) -> Ended {
    Ended::Unreadable(error.to_string())
}

/// What an error of the new file means.
fn no_space(error: io::Error) -> Ended {
    if is_full(&error) { Ended::DiskFull } else { Ended::Failed(error) }
}

/// The first offset that no pass has covered. A file from elsewhere, or of a log that was longer, says nothing.
fn first_dirty(partition: &Partition) -> i64 {
    let log = &partition.log;
    if (log.log_start..=log.end_offset()).contains(&partition.cleaned_to) {
        partition.cleaned_to
    } else {
        log.log_start
    }
}

/// What there is to compact in a partition; none when nothing may be. The times of dirty segments are known as far as they
/// can be.
fn plan(slot: Slot, partition: &Partition, now_ms: i64) -> Option<Plan> {
    let config = &partition.config;
    if !config.compact || partition.is_uncleanable {
        return None;
    }
    let first_dirty = first_dirty(partition);
    let stable_end = partition.last_stable();
    let is_dirty = |segment: &Segment| segment.end_offset > first_dirty;
    let is_young = |segment: &Segment| {
        let newest_ms = segment.index.as_ref().map_or(i64::MAX, |index| index.max_timestamp_ms());
        config.min_compaction_lag_ms > 0 && newest_ms > now_ms.saturating_sub(config.min_compaction_lag_ms)
    };
    let may_be_read = |segment: &&Segment| {
        segment.sealed && segment.end_offset <= stable_end && !(is_dirty(segment) && is_young(segment))
    };
    let segments: Vec<&Segment> = partition.log.segments.iter().take_while(may_be_read).collect();
    let bytes_of = |of: &dyn Fn(&Segment) -> bool| -> u64 {
        segments.iter().filter(|segment| of(segment)).map(|segment| segment.end_pos).sum()
    };
    let dirty_bytes = bytes_of(&is_dirty);
    let all_bytes = dirty_bytes + bytes_of(&|segment| segment.base < first_dirty);
    if dirty_bytes == 0 {
        return None;
    }
    let begun = partition.log.segments.iter().filter(|segment| segment.rolled && is_dirty(segment));
    let oldest_ms = begun.filter_map(|segment| segment.first_timestamp_ms).filter(|time_ms| *time_ms > 0).min();
    let is_overdue = oldest_ms.is_some_and(|oldest_ms| now_ms.saturating_sub(config.max_compaction_lag_ms) > oldest_ms);
    let ratio = dirty_bytes as f64 / all_bytes as f64;
    let is_due = is_overdue || ratio > config.min_cleanable_dirty_ratio;
    let sources = segments.iter().map(|segment| Source::of(segment)).collect();
    Some(Plan { slot, sources, first_dirty, ratio, is_due })
}

impl Plan {
    /// The sources that no pass has covered, or only a part of them.
    fn dirty(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.end_offset > self.first_dirty)
    }
}

impl Source {
    fn of(segment: &Segment) -> Source {
        let Segment { base, end_offset, end_pos, generation, .. } = *segment;
        Source { base, end_offset, bytes: end_pos, generation }
    }
}

/// Where these segments are in the log; none when one has gone or is another one by now.
fn place_of(log: &Log, group: &[Source]) -> Option<usize> {
    let at = log.find_base(group.first()?.base)?;
    let is_there = |(segment, source): (&Segment, &Source)| segment.sealed && Source::of(segment) == *source;
    let there = log.segments.range(at..).zip(group).take_while(|pair| is_there(*pair)).count();
    (there == group.len()).then_some(at)
}

/// What one segment may have.
#[derive(Debug, Clone, Copy)]
struct Max {
    bytes: u64,
    /// Aborted transactions that it ends.
    aborted: usize,
}

/// The segments that begin before `mapped_to`, in groups that fit into one segment each. `aborted` is in the order in which
/// the transactions end.
fn groups<'a>(sources: &'a [Source], mapped_to: i64, aborted: &[AbortedTransaction], max: Max) -> Vec<&'a [Source]> {
    let ended_before = |offset| aborted.partition_point(|it| it.last_offset < offset);
    let mut rest = &sources[..sources.partition_point(|source| source.base < mapped_to)];
    let mut groups = Vec::new();
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = |source: &&Source| {
            bytes += source.bytes;
            bytes <= max.bytes
                && ended_before(source.end_offset) - ended_before(first.base) <= max.aborted
                && source.end_offset - 1 - first.base <= i64::from(i32::MAX)
        };
        // A segment may be larger than they are now to be.
        let (group, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        groups.push(group);
        rest = others;
    }
    groups
}

/// Reads which offset passes have come to.
pub(crate) async fn read_cleaner_offset(reactor: &Reactor, dir: &Path) -> io::Result<i64> {
    let found = read_checksummed(reactor, &dir.join(CLEANER_OFFSET)).await?;
    Ok(found.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(0))
}

impl Partition {
    /// What each producer that is still known wrote last.
    fn last_records(&self) -> HashMap<i64, LastRecord> {
        let last = self.producers.last_records();
        last.map(|(id, epoch, data_offset)| (id, LastRecord { data_offset, epoch })).collect()
    }
}
