//! Recovery: what a data directory holds after a stop, clean or not.
//!
//! The journals of earlier runs say how far every partition's log reached and hold the bytes that segments may lack.
//! Recovery writes these bytes into the segments, cuts each file to its exact length, and gives the partitions to the
//! stores ([`Store::adopt`](crate::store::Store::adopt)). Nothing in a segment beyond the journal's word is trusted;
//! nothing below it is changed.
//!
//! Commits that were not known to be durable need one more look: their groups may be on the disk while their direct blocks
//! are not. They are checked, and where they do not hold the log ends before them.
//!
//! What damage is noticed, and when:
//! - In the journal: every group carries a checksum. A bad group of which a later one says that it was durable is damage,
//!   and recovery stops, naming the journal. A bad group at the very end cannot be told from a write that a crash cut
//!   short, whose commit was never acknowledged: so damage to the newest commit's group goes unnoticed, and its records
//!   are lost.
//! - In the segment that is appended to: all of it is read when the partition is taken over, and every batch's checksum and
//!   offset is checked. Damage is an error that names the file.
//! - In sealed segments: a file that the journal knows and that is missing or too short is an error. Their contents are
//!   not read at start. A reader notices where the walk over batch headers breaks off or meets another offset than it should
//!   ([`ReadError::Corrupt`](crate::read::ReadError::Corrupt)); damage within a batch is noticed by the client, which
//!   checks the batch's checksum. A write that the disk has put in the wrong place falls under the same rules at
//!   both places.
//! - Snapshots of producers, lists of aborted transactions and the indexes are made anew from the segments when they are damaged or missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use wire::batch::BatchView;

use crate::cache::Slice;
use crate::checkpoint::{checksummed, write_file};
use crate::compaction::finish_replacements;
use crate::io::{File, Open};
use crate::journal::{self, EntryKind, PartitionKey};
use crate::journal_files::{JournalName, journal_dir};
use crate::journal_reader::{Patch, read_journal};
use crate::limits::{BLOCK_BYTES, Limits, SMALL_FILE_BYTES};
use crate::reactor::Reactor;
use crate::read::{Scan, batches, one_chunk};
use crate::segment;
use crate::spares::make_spare_dir;

/// The file, in a partition's directory, that names its topic id; Kafka's own name and format.
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
/// How the name of a directory ends whose deletion has begun.
pub(crate) const DELETED_SUFFIX: &str = "-delete";
/// The file, beside the journals, that names the oldest incarnation whose journals count.
const FLOOR: &str = "oldest-incarnation";
/// Present after a clean stop, until the next start.
const CLEAN_MARKER: &str = "clean-stop";

/// What recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// The number of this start; newer than everything in the directory.
    pub incarnation: u64,
    /// The partitions.
    pub seeds: Vec<PartitionSeed>,
    /// The last run ended with a clean stop.
    pub clean: bool,
    /// What an operator should know: ranges cut, files ignored. Empty after most stops.
    pub remarks: Vec<String>,
}

/// A partition as an earlier run left it, complete in its segment files.
#[derive(Debug, Clone)]
pub struct PartitionSeed {
    /// Its identity.
    pub key: PartitionKey,
    /// The topic's name.
    pub topic: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentSeed>,
    /// The offset after the last record.
    pub end_offset: i64,
    /// First offset that readers may see.
    pub log_start: i64,
    /// Base offsets of completed segments that have a list of aborted transactions.
    pub aborted: Vec<i64>,
}

/// A segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSeed {
    /// Its base offset.
    pub base: i64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Recovers a data directory, which must exist. Only one process may do so at a time; the caller holds the lock.
pub async fn recover(reactor: &Reactor, dir: &Path, limits: &Limits) -> io::Result<Recovered> {
    let mut remarks = Vec::new();
    let journals = journal_dir(dir);
    match reactor.create_dir(&journals).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    make_spare_dir(reactor, dir).await?;
    reactor.sync_dir(dir).await?;
    let clean = take_clean_marker(reactor, dir).await?;

    let mut by_core: BTreeMap<JournalName, Vec<PathBuf>> = BTreeMap::new();
    let mut has_floor = false;
    for entry in reactor.list_dir(&journals)? {
        match entry.name.to_str().and_then(JournalName::parse) {
            Some(key) => by_core.entry(key).or_default().push(journals.join(&entry.name)),
            None if entry.name == FLOOR => has_floor = true,
            None if entry.name.to_str().is_some_and(|name| name.starts_with(FLOOR)) => {}
            None => remarks.push(format!("ignored a foreign file in the journal's directory: {:?}", entry.name)),
        }
    }
    let incarnations: BTreeSet<u64> = by_core.keys().map(|name| name.incarnation).collect();
    let floor = read_checksummed(reactor, &journals.join(FLOOR)).await?;
    let floor = match floor.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?))) {
        Some(floor) => floor,
        None if has_floor && incarnations.len() > 1 => {
            // Journals that were being removed are there in parts, and would contradict the others.
            return Err(damage(format!(
                "{} is damaged, and there are journals of several incarnations: {incarnations:?}",
                journals.join(FLOOR).display()
            )));
        }
        None => {
            if has_floor {
                remarks.push(format!("{FLOOR} is damaged; there are journals of one incarnation only"));
            }
            0
        }
    };
    by_core.retain(|name, _| name.incarnation >= floor);
    let newest = incarnations.last().copied().unwrap_or(0).max(floor);
    let incarnation = newest.checked_add(1).ok_or_else(|| damage(format!("no incarnation follows {newest}")))?;

    let mut files: Vec<File> = Vec::new();
    let mut patches: HashMap<PartitionKey, Vec<Patch>> = HashMap::new();
    for (name, paths) in &by_core {
        let read = read_journal(reactor, name, paths, limits, &mut files).await;
        for (key, patch) in read.map_err(|error| at(&paths[0], &error))? {
            patches.entry(key).or_default().push(patch);
        }
    }

    let mut seeds = Vec::new();
    for entry in reactor.list_dir(dir)? {
        let (true, Some(name)) = (entry.is_dir, entry.name.to_str()) else { continue };
        let path = dir.join(name);
        if name.ends_with(DELETED_SUFFIX) {
            remove_tree(reactor, &path).await.map_err(|error| at(&path, &error))?;
            continue;
        }
        let Some((topic, partition)) = parse_directory_name(name) else { continue };
        let metadata = match read_file(reactor, &path.join(PARTITION_METADATA)).await {
            Ok(bytes) => decode_partition_metadata(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&path, &error)),
        };
        let Some(topic_id) = metadata else {
            // Its creation did not finish, or it is not ours. Either way nothing in it was acknowledged by us.
            remarks.push(format!("ignored {name}: it has no valid {PARTITION_METADATA}"));
            continue;
        };
        let key = PartitionKey { topic_id, partition };
        let found = patches.remove(&key).unwrap_or_default();
        let target = Target { key, topic: topic.to_owned(), dir: path.clone() };
        let seed = target.recover(reactor, limits, &files, found, &mut remarks).await;
        seeds.push(seed.map_err(|error| at(&path, &error))?);
    }
    Ok(Recovered { incarnation, seeds, clean, remarks })
}

/// Deletes the journals of all incarnations before this one. Every partition's state must be durable in the present
/// one ([`Store::carry`](crate::store::Store::carry) on every core).
pub async fn discard_journals_before(reactor: &Reactor, dir: &Path, incarnation: u64) -> io::Result<()> {
    let journals = journal_dir(dir);
    // Said first: a crash may undo some of the removals and not the others, and what is left would make no sense.
    let floor = checksummed(&incarnation.to_le_bytes());
    write_file(reactor, &journals.join(FLOOR), &floor).await?;
    for entry in reactor.list_dir(&journals)? {
        let older = entry.name.to_str().and_then(JournalName::parse).is_some_and(|of| of.incarnation < incarnation);
        if older {
            reactor.remove_file(&journals.join(&entry.name)).await?;
        }
    }
    reactor.sync_dir(&journals).await
}

/// Leaves word that the stop was clean. Every core's store must have been closed.
pub async fn mark_clean(reactor: &Reactor, dir: &Path) -> io::Result<()> {
    write_file(reactor, &dir.join(CLEAN_MARKER), b"clean\n").await
}

async fn take_clean_marker(reactor: &Reactor, dir: &Path) -> io::Result<bool> {
    match reactor.remove_file(&dir.join(CLEAN_MARKER)).await {
        Ok(()) => reactor.sync_dir(dir).await.map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A partition that is being recovered.
struct Target {
    key: PartitionKey,
    topic: String,
    dir: PathBuf,
}

/// How far a segment reaches.
#[derive(Debug, Clone, Copy)]
struct End {
    pos: u64,
    offset: i64,
}

impl Target {
    async fn recover(
        self,
        reactor: &Reactor,
        limits: &Limits,
        journals: &[File],
        patches: Vec<Patch>,
        remarks: &mut Vec<String>,
    ) -> io::Result<PartitionSeed> {
        let patches = without_completed(patches);
        finish_replacements(reactor, &self.dir).await?;
        let entries = reactor.list_dir(&self.dir)?;
        let mut on_disk: BTreeSet<i64> =
            entries.iter().filter_map(|entry| segment::base_of(entry.name.to_str()?)).collect();
        let snapshots: BTreeSet<i64> =
            entries.iter().filter_map(|entry| segment::producers_base_of(entry.name.to_str()?)).collect();
        let reused: BTreeSet<i64> =
            entries.iter().filter_map(|entry| segment::reused_base_of(entry.name.to_str()?)).collect();
        let known_start = patches.iter().map(|p| p.entry.log_start).max();
        let mut log_start = known_start.or_else(|| on_disk.first().copied()).unwrap_or(0);
        let mut ends: BTreeMap<i64, End> = BTreeMap::new();
        for Patch { entry, .. } in &patches {
            let end = ends.entry(entry.segment_base).or_insert(End { pos: 0, offset: entry.segment_base });
            if entry.end_pos() >= end.pos {
                *end = End { pos: entry.end_pos(), offset: entry.end_offset.max(end.offset) };
            }
        }
        let mut newest = ends.keys().next_back().copied();
        // A segment that lies before the log's start, or before all that is there and is not the newest, was complete
        // once and has been deleted, and so has all before it. A snapshot of producers behind it says that it was
        // complete; without one all of it may be in the journal, and is needed for its producers. What the journal does
        // not say to be deleted must have been complete: retention on a full disk does not wait for the journal.
        let first = on_disk.first().copied().unwrap_or(i64::MAX);
        let was_complete = |base: i64| snapshots.range(base + 1..).next().is_some();
        let deleted = ends.iter().rev().find(|&(base, end)| {
            let is_before = end.offset <= log_start || (*base < first && Some(*base) != newest);
            let is_gone = !on_disk.contains(base);
            is_before && is_gone && (was_complete(*base) || covered(&patches, *base, 0) != Ok(end.pos))
        });
        if let Some((deleted, end)) = deleted.map(|(&base, &end)| (base, end)) {
            if end.offset > log_start && !was_complete(deleted) {
                return Err(damage(format!("segment {deleted} is gone, and it had never been completed")));
            }
            ends.retain(|base, _| *base > deleted || on_disk.contains(base));
            if Some(deleted) == newest {
                // It went before the journal knew of the segment that follows it, which nothing was appended to.
                ends.insert(log_start, End { pos: 0, offset: log_start });
                newest = Some(log_start);
            }
        }
        for (base, end) in ends.clone() {
            let completed = self.complete_segment(reactor, limits, journals, &patches, base, end, remarks).await?;
            on_disk.insert(base);
            ends.insert(base, completed);
            if completed.pos < end.pos {
                // What the same commit put into later segments would follow a gap.
                ends.split_off(&(base + 1));
                newest = Some(base);
                break;
            }
        }
        match newest {
            Some(newest) => {
                // Begun by a commit that was never acknowledged.
                for base in on_disk.split_off(&(newest + 1)) {
                    reactor.remove_file(&segment::log_path(&self.dir, base)).await?;
                    remarks.push(format!("{}: removed segment {base}, of which nothing was committed", self.name()));
                }
            }
            None if reused.is_empty() => ends = self.scan_unknown(reactor, limits, &on_disk, remarks).await?,
            None => {
                return Err(damage(format!(
                    "no journal says where the segments {reused:?} end, whose files were used before; without their \
                     .reused files they are taken as far as there are batches"
                )));
            }
        }
        for &base in &reused {
            // Every segment has been cut to its length.
            reactor.remove_file(&segment::reused_path(&self.dir, base)).await?;
        }
        if let Some(&first) = on_disk.first()
            && first > log_start
        {
            // Retention on a full disk removes segments before it can say so. Anything else has removed them from outside.
            remarks.push(format!("{}: begins at offset {first}; {log_start} to it are gone", self.name()));
            log_start = first;
        }
        let active = on_disk.last().copied().unwrap_or(log_start);
        for &base in snapshots.range(active.saturating_add(1)..) {
            // It counts batches that are not in the log.
            reactor.remove_file(&segment::producers_path(&self.dir, base)).await?;
        }
        let mut aborted = Vec::new();
        for base in entries.iter().filter_map(|entry| segment::aborted_base_of(entry.name.to_str()?)) {
            if base < active && on_disk.contains(&base) {
                aborted.push(base);
            } else {
                // Of a segment that is not there, or not complete after all.
                reactor.remove_file(&segment::aborted_path(&self.dir, base)).await?;
            }
        }
        let mut segments = Vec::new();
        let mut end_offset = log_start;
        for &base in &on_disk {
            let bytes = match ends.get(&base) {
                Some(end) => {
                    end_offset = end.offset;
                    end.pos
                }
                None => {
                    let file = reactor.open(&segment::log_path(&self.dir, base), Open::default()).await?;
                    reactor.file_len(&file).await?
                }
            };
            segments.push(SegmentSeed { base, bytes });
        }
        reactor.sync_dir(&self.dir).await?;
        let end_offset = end_offset.max(log_start);
        Ok(PartitionSeed { key: self.key, topic: self.topic, dir: self.dir, segments, end_offset, log_start, aborted })
    }

    /// Writes the journal's bytes into a segment and cuts the file to its length.
    #[allow(clippy::too_many_arguments)]
    async fn complete_segment(
        &self,
        reactor: &Reactor,
        limits: &Limits,
        journals: &[File],
        patches: &[Patch],
        base: i64,
        mut end: End,
        remarks: &mut Vec<String>,
    ) -> io::Result<End> {
        let path = segment::log_path(&self.dir, base);
        let file = reactor.open(&path, Open { create: true, write: true, ..Open::default() }).await?;
        // What needs proof.
        let mut doubtful: Vec<Doubt> = Vec::new();
        let before = reactor.file_len(&file).await?;
        // A hole would read as zeros.
        covered(patches, base, before)
            .map_err(|hole| damage(format!("segment {base} lacks its bytes from {hole} on")))?;
        for patch in patches.iter().filter(|p| p.entry.segment_base == base) {
            let entry = &patch.entry;
            if entry.data_len > 0 {
                let bytes = read_exact(reactor, &journals[patch.file], patch.at, entry.data_len as usize).await?;
                reactor.write_at(&file, entry.pos, bytes).await?;
            }
            if patch.unproven && entry.kind == EntryKind::Direct {
                let from = End { pos: entry.batch_pos, offset: entry.batch_offset };
                doubtful.push(Doubt { from, to: entry.end_pos(), digest: entry.digest });
            }
        }
        doubtful.sort_unstable_by_key(|doubt| (doubt.from.pos, doubt.to));
        if let Some(&Doubt { from, .. }) = doubtful.first() {
            let checked = check_batches(reactor, &file, base, from, end.pos, Gaps::Refused, &doubtful, limits).await?;
            if checked.pos < end.pos {
                remarks.push(format!(
                    "{}: cut {} bytes of an unacknowledged commit at offset {}",
                    self.name(),
                    end.pos - checked.pos,
                    checked.offset
                ));
                end = checked;
            }
        }
        let len = reactor.file_len(&file).await?;
        if len < end.pos {
            return Err(damage(format!("segment {base} has {len} bytes of {}", end.pos)));
        }
        reactor.truncate(&file, end.pos).await?;
        reactor.fsync(&file).await?;
        Ok(end)
    }

    /// Checks a log that no journal knows, copied here from elsewhere perhaps. Only its end may be torn.
    async fn scan_unknown(
        &self,
        reactor: &Reactor,
        limits: &Limits,
        bases: &BTreeSet<i64>,
        remarks: &mut Vec<String>,
    ) -> io::Result<BTreeMap<i64, End>> {
        let mut ends: BTreeMap<i64, End> = BTreeMap::new();
        for &base in bases {
            // Only compaction leaves gaps, and it leaves the last segment alone.
            let gaps = if Some(&base) == bases.last() { Gaps::Refused } else { Gaps::Taken };
            if let Some((&last, end)) = ends.iter().next_back()
                && end.offset > base
            {
                return Err(damage(format!(
                    "segment {last} ends at offset {}, but the next one begins at {base}",
                    end.offset
                )));
            }
            let path = segment::log_path(&self.dir, base);
            let file = reactor.open(&path, Open { write: true, ..Open::default() }).await?;
            let len = reactor.file_len(&file).await?;
            let begin = End { pos: 0, offset: base };
            let end = check_batches(reactor, &file, base, begin, len, gaps, &[], limits).await?;
            if end.pos < len && Some(&base) == bases.last() {
                remarks.push(format!("{}: segment {base} ends at {} of {len} bytes", self.name(), end.pos));
                reactor.truncate(&file, end.pos).await?;
                reactor.fsync(&file).await?;
            }
            ends.insert(base, end);
        }
        if ends.values().any(|end| end.pos > 0) {
            remarks.push(format!("{}: no journal knows it; it is taken as its files are", self.name()));
        }
        Ok(ends)
    }

    fn name(&self) -> String {
        format!("{}-{}", self.topic, self.key.partition)
    }
}

/// How far a segment reaches without a hole when the journal's bytes are added to the first `from`. The error is where a
/// hole begins that durable bytes follow; what follows one in an unproven group is looked at later.
fn covered(patches: &[Patch], base: i64, from: u64) -> Result<u64, u64> {
    let of_segment = patches.iter().filter(|p| p.entry.segment_base == base);
    let mut ranges: Vec<(u64, u64, bool)> = of_segment.map(|p| (p.entry.pos, p.entry.end_pos(), p.unproven)).collect();
    ranges.sort_unstable();
    ranges.into_iter().try_fold(from, |end, (pos, to, unproven)| match pos <= end {
        true => Ok(end.max(to)),
        false if unproven => Ok(end),
        false => Err(end),
    })
}

/// Drops what the journal says of segments that it says later to be complete in their files.
fn without_completed(patches: Vec<Patch>) -> Vec<Patch> {
    let mut current: Vec<Patch> = Vec::new();
    let mut open: BTreeSet<i64> = BTreeSet::new();
    for patch in patches {
        match patch.entry.kind {
            EntryKind::Data | EntryKind::Direct => {}
            EntryKind::CarryOpen => {
                open.insert(patch.entry.segment_base);
            }
            EntryKind::Carry => {
                let newest = patch.entry.segment_base;
                current.retain(|p| p.entry.segment_base >= newest || open.contains(&p.entry.segment_base));
                open.clear();
            }
        }
        current.push(patch);
    }
    current
}

/// What to make of a batch that does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gaps {
    /// It does not hold.
    Refused,
    /// It may have records less than it had, and so may the log before it.
    Taken,
}

/// Batches of one commit, of which its group says what they are and nobody that they are on the disk.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    from: End,
    to: u64,
    digest: u32,
}

/// Walks batches from `from`, a boundary, and returns where they stop holding: at position `end` if all is well. Those of a
/// doubtful commit, in the order of their ends, hold together or not at all.
#[allow(clippy::too_many_arguments)]
async fn check_batches(
    reactor: &Reactor,
    file: &File,
    base: i64,
    from: End,
    end: u64,
    gaps: Gaps,
    doubtful: &[Doubt],
    limits: &Limits,
) -> io::Result<End> {
    let mut at = from;
    // Up to here there is no doubt.
    let mut good = from;
    let mut doubtful = doubtful.iter().peekable();
    // Where the commit begins that is being walked through, and the digest of what it has had.
    let mut begun: Option<(u64, u32)> = None;
    let mut scan = Scan::starting_at(file.clone(), base, from.pos, end, limits.chunk_bytes);
    loop {
        let piece = match scan.next(reactor).await {
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(good),
            Err(error) => return Err(error),
        };
        let Some((pos, bytes)) = piece else { return Ok(good) };
        for (in_piece, batch) in batches(bytes.as_bytes()) {
            let follows = match gaps {
                Gaps::Refused => batch.base_offset() == at.offset && holds(&batch),
                Gaps::Taken => batch.base_offset() >= at.offset && holds_compacted(&batch),
            };
            if !follows {
                return Ok(good);
            }
            let begins = at.pos;
            at = End { pos: pos + (in_piece + batch.total_len()) as u64, offset: batch.last_offset() + 1 };
            let Some(doubt) = doubtful.peek().filter(|doubt| doubt.from.pos <= begins) else {
                good = at;
                continue;
            };
            let before = begun.filter(|(from, _)| *from == doubt.from.pos).map_or(0, |(_, digest)| digest);
            let digest = journal::digest(before, batch.bytes());
            begun = Some((doubt.from.pos, digest));
            // A commit that closes a segment may say the same again.
            while let Some(doubt) = doubtful.next_if(|doubt| doubt.from.pos <= begins && doubt.to <= at.pos) {
                // Earlier versions have not said the digest.
                if doubt.to < at.pos || (doubt.digest != 0 && doubt.digest != digest) {
                    return Ok(good);
                }
                good = at;
            }
        }
    }
}

/// True when a batch of the log is one: what it says of itself and its checksum agree.
pub(crate) fn holds(batch: &BatchView<'_>) -> bool {
    batch.record_count() >= 1 && holds_compacted(batch)
}

/// As [`holds`], for a batch that compaction may have taken all records of.
fn holds_compacted(batch: &BatchView<'_>) -> bool {
    batch.record_count() >= 0
        && batch.last_offset_delta() >= 0
        && (0..i64::MAX - i64::from(i32::MAX)).contains(&batch.base_offset())
        && batch.crc_matches()
}

/// Reads a whole small file.
pub(crate) async fn read_file(reactor: &Reactor, path: &Path) -> io::Result<Vec<u8>> {
    let file = reactor.open(path, Open::default()).await?;
    let len = reactor.file_len(&file).await?;
    if len > SMALL_FILE_BYTES {
        return Err(at(path, &damage(format!("{len} bytes are too many for this file"))));
    }
    Ok(read_exact(reactor, &file, 0, len as usize).await?.as_bytes().to_vec())
}

/// What [`checksummed`] made of some bytes. None when there is no such file or it is damaged.
pub(crate) async fn read_checksummed(reactor: &Reactor, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let bytes = match read_file(reactor, path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((crc, bytes)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    Ok((wire::batch::crc32c(bytes) == u32::from_le_bytes(*crc)).then(|| bytes.to_vec()))
}

async fn read_exact(reactor: &Reactor, file: &File, pos: u64, len: usize) -> io::Result<Slice> {
    let chunk = one_chunk(len.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES));
    let (result, writer) = reactor.read_at(file, pos, chunk, len).await;
    match result? {
        read if read == len => Ok(writer.slice(0, len)),
        read => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{read} bytes of {len} at {pos}"))),
    }
}

/// Removes a file, if it is there.
pub(crate) async fn remove_if_there(reactor: &Reactor, path: &Path) -> io::Result<()> {
    match reactor.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Deletes a directory and the files in it.
pub(crate) async fn remove_tree(reactor: &Reactor, dir: &Path) -> io::Result<()> {
    for entry in reactor.list_dir(dir)? {
        reactor.remove_file(&dir.join(&entry.name)).await?;
    }
    reactor.remove_dir(dir).await
}

/// `topic-partition`, as Kafka names partition directories.
fn parse_directory_name(name: &str) -> Option<(&str, u32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let number: u32 = partition.parse().ok()?;
    // One directory per partition: `t-07` and `t-+7` are not ours.
    (number.to_string() == partition).then_some((topic, number))
}

/// Kafka's `partition.metadata`: a version and the topic id in URL-safe base64 without padding.
pub(crate) fn encode_partition_metadata(topic_id: &[u8; 16]) -> String {
    format!("version: 0\ntopic_id: {}", wire::Uuid(*topic_id))
}

fn decode_partition_metadata(bytes: &[u8]) -> Option<[u8; 16]> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != "version: 0" {
        return None;
    }
    lines.next()?.strip_prefix("topic_id: ")?.trim().parse::<wire::Uuid>().ok().map(|id| id.0)
}

pub(crate) fn damage(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// An error with the file or directory that it is about.
pub(crate) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
