//! Reads a core's journal back: which groups count, and what they hold for each partition.
//!
//! Groups are numbered without gaps, and each says up to which number all were durable when it was closed. Beyond the
//! highest such number lies what was being written, in any order, when the journal's writer ended: there the first gap
//! ends the journal, and what follows it was never acknowledged as being on disk, unless it needs nothing before the gap.
//! Below that number no group that is needed can be missing but by damage: recovery stops with it rather than lose what
//! was acknowledged.

use std::io;
use std::path::PathBuf;

use crate::cache::Slice;
use crate::io::{File, Open};
use crate::journal::{Entry, GROUP_HEADER_BYTES, Group, GroupHeader, PartitionKey};
use crate::journal_files::JournalName;
use crate::limits::{BLOCK_BYTES, Limits};
use crate::reactor::Reactor;
use crate::read::one_chunk;
use crate::recovery::damage;

/// Data of the journal on its way into a segment.
pub(crate) struct Patch {
    /// Index of the journal file in the list that was read.
    pub(crate) file: usize,
    /// Position of the data in the journal file.
    pub(crate) at: u64,
    pub(crate) entry: Entry,
    /// From a group that is not known to have been durable: direct blocks need proof.
    pub(crate) unproven: bool,
}

/// Consecutive groups, over one or more files.
struct Run {
    first_seq: u64,
    last: GroupHeader,
    patches: Vec<(PartitionKey, Patch)>,
}

/// Reads one core's journal of one incarnation. The files read are added to `files`.
pub(crate) async fn read_journal(
    reactor: &Reactor,
    name: &JournalName,
    paths: &[PathBuf],
    limits: &Limits,
    files: &mut Vec<File>,
) -> io::Result<Vec<(PartitionKey, Patch)>> {
    let mut found: Vec<Found> = Vec::new();
    for path in paths {
        let number = files.len();
        let file = reactor.open(path, Open::default()).await?;
        files.push(file.clone());
        find_groups(reactor, name, file, number, limits, &mut found).await?;
    }
    found.sort_by_key(|group| group.header.seq);
    let proven = found.iter().map(|group| group.header.proven).max().unwrap_or(0);

    let mut runs: Vec<Run> = Vec::new();
    for Found { header, patches } in found {
        if runs.last().is_none_or(|run| run.last.seq + 1 != header.seq) {
            runs.push(Run { first_seq: header.seq, last: header, patches: Vec::new() });
        }
        let run = runs.last_mut().expect("pushed above");
        run.last = header;
        let unproven = header.seq >= proven;
        run.patches.extend(patches.into_iter().map(|(key, patch)| (key, Patch { unproven, ..patch })));
    }
    match run_that_counts(runs, proven)? {
        Some(run) => Ok(run.patches),
        None => Ok(Vec::new()),
    }
}

/// A group that is whole.
struct Found {
    header: GroupHeader,
    patches: Vec<(PartitionKey, Patch)>,
}

/// Collects the groups of a journal file. Behind the newest one lie those of the file's last use, which are older and
/// covered by segments. But where the newest one is bad, newer ones behind it say that it had been durable; so all of the
/// file is looked through.
async fn find_groups(
    reactor: &Reactor,
    name: &JournalName,
    file: File,
    number: usize,
    limits: &Limits,
    found: &mut Vec<Found>,
) -> io::Result<()> {
    let len = reactor.file_len(&file).await?;
    let mut window = Window::new(file, limits.chunk_bytes);
    let mut newest: Option<u64> = None;
    let mut pos = 0;
    while pos < len {
        let bytes = window.group(reactor, name, pos, len).await?;
        let Some(group) = bytes.as_ref().and_then(|bytes| Group::parse(bytes.as_bytes())) else {
            pos += BLOCK_BYTES as u64;
            continue;
        };
        let header = group.header;
        if newest.is_some_and(|newest| header.seq <= newest) {
            pos += group.file_bytes() as u64;
            continue;
        }
        let mut patches = Vec::new();
        for entry in group.entries() {
            let Some(entry) = entry else {
                return Err(damage(format!("group {} has an entry that contradicts itself", header.seq)));
            };
            let at = pos + GROUP_HEADER_BYTES as u64 + u64::from(entry.data_off);
            patches.push((entry.key, Patch { file: number, at, entry, unproven: false }));
        }
        found.push(Found { header, patches });
        newest = Some(header.seq);
        pos += group.file_bytes() as u64;
    }
    Ok(())
}

/// The newest run that has all that is needed, and everything up to `proven`. None when nothing was durable and the very
/// first group is missing.
///
/// A run has what is needed when it begins at or before the oldest group that its last header asks for: what older groups
/// held was in segments before that header was written. So an older run may be full of holes. In the class `Os` that is
/// so where the word of the newest header was synced, files were used again by this word, and no header that calls it
/// durable came to the disk.
fn run_that_counts(mut runs: Vec<Run>, proven: u64) -> io::Result<Option<Run>> {
    let newest = proven.saturating_sub(1);
    let counts = |run: &Run| run.first_seq <= run.last.oldest_needed && run.last.seq >= newest;
    if let Some(at) = runs.iter().rposition(counts) {
        return Ok(Some(runs.swap_remove(at)));
    }
    match runs.iter().find(|run| (run.first_seq..=run.last.seq).contains(&newest)) {
        _ if proven == 0 => Ok(None),
        Some(run) => Err(damage(format!(
            "it has groups {} to {}, but groups from {} on are needed",
            run.first_seq, run.last.seq, run.last.oldest_needed
        ))),
        None => Err(damage(format!("group {newest} was durable and is gone"))),
    }
}

/// A journal file, read in large pieces.
struct Window {
    file: File,
    bytes: usize,
    at: u64,
    held: Option<Slice>,
}

impl Window {
    fn new(file: File, chunk_bytes: usize) -> Window {
        Window { file, bytes: 2 * chunk_bytes, at: 0, held: None }
    }

    /// The bytes, of which only the header has been looked at, of a group that the block at `pos` may begin.
    async fn group(
        &mut self,
        reactor: &Reactor,
        name: &JournalName,
        pos: u64,
        file_len: u64,
    ) -> io::Result<Option<Slice>> {
        let head = self.read(reactor, pos, BLOCK_BYTES).await?;
        let Some((header, _)) = GroupHeader::parse(head.as_bytes()) else { return Ok(None) };
        let is_ours = (header.incarnation, header.salt) == (name.incarnation, name.salt);
        // Lengths that lie would reach beyond the file.
        if !is_ours || pos + header.file_bytes() as u64 > file_len {
            return Ok(None);
        }
        self.read(reactor, pos, header.file_bytes()).await.map(Some)
    }

    async fn read(&mut self, reactor: &Reactor, pos: u64, len: usize) -> io::Result<Slice> {
        if let Some(held) = &self.held
            && pos >= self.at
            && pos + len as u64 <= self.at + held.len() as u64
        {
            let from = (pos - self.at) as usize;
            return Ok(held.part(from, from + len));
        }
        let want = self.bytes.max(len);
        let (result, writer) = reactor.read_at(&self.file, pos, one_chunk(want), want).await;
        result?;
        let held = writer.slice(0, writer.filled());
        let part = held.part(0, len.min(held.len()));
        (self.at, self.held) = (pos, Some(held));
        Ok(part)
    }
}
