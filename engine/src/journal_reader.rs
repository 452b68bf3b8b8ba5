//! Reads a core's journal back: which groups count, and what they hold for each partition.
//!
//! Groups are numbered without gaps, and a commit's groups are only written when the commit before it is durable. So a
//! group with a bad checksum ends the journal, and its commit was never acknowledged; what the same commit left behind
//! it, in the next file perhaps, does not count either. A gap that cannot be explained like this is damage: recovery
//! stops with it rather than lose what was acknowledged.

use std::io;
use std::path::PathBuf;

use crate::cache::Slice;
use crate::io::{File, Open};
use crate::journal::{Entry, GROUP_HEADER_BYTES, Group, GroupHeader, PartitionKey};
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
    /// From the newest commit of its core: direct blocks need proof.
    pub(crate) newest: bool,
}

/// Consecutive groups, over one or more files.
struct Run {
    first_seq: u64,
    first_commit: u64,
    last: GroupHeader,
    patches: Vec<(PartitionKey, u64, Patch)>,
}

/// Reads one core's journal of one incarnation. The files read are added to `files`.
pub(crate) async fn read_journal(
    reactor: &Reactor,
    (incarnation, core): (u64, u16),
    paths: &[PathBuf],
    limits: &Limits,
    files: &mut Vec<File>,
) -> io::Result<Vec<(PartitionKey, Patch)>> {
    let mut opened = Vec::new();
    for path in paths {
        let file = reactor.open(path, Open::default()).await?;
        let mut window = Window::new(file.clone(), limits.chunk_bytes);
        if let Some((header, _)) = window.group(reactor, 0).await?
            && header.incarnation == incarnation
        {
            opened.push((header.seq, file));
        }
    }
    opened.sort_by_key(|(seq, _)| *seq);

    let mut runs: Vec<Run> = Vec::new();
    for (first_seq, file) in opened {
        let number = files.len();
        files.push(file.clone());
        let mut window = Window::new(file, limits.chunk_bytes);
        let (mut expected, mut pos) = (first_seq, 0);
        while let Some((header, bytes)) = window.group(reactor, pos).await? {
            // Behind the newest group lie those of the file's last use, if any.
            if header.seq != expected || header.incarnation != incarnation {
                break;
            }
            let Some(group) = Group::parse(bytes.as_bytes()) else { break };
            if runs.last().is_none_or(|run| run.last.seq + 1 != header.seq) {
                let (first_seq, first_commit) = (header.seq, header.commit);
                runs.push(Run { first_seq, first_commit, last: header, patches: Vec::new() });
            }
            let run = runs.last_mut().expect("pushed above");
            run.last = header;
            for entry in group.entries() {
                let Some(entry) = entry else {
                    return Err(damage(format!("journal {incarnation}/{core}, group {}: bad entry", header.seq)));
                };
                let at = pos + GROUP_HEADER_BYTES as u64 + u64::from(entry.data_off);
                run.patches.push((entry.key, header.commit, Patch { file: number, at, entry, newest: false }));
            }
            expected += 1;
            pos += group.file_bytes() as u64;
        }
    }
    let Some(run) = newest_run(runs, &format!("journal {incarnation}/{core}"))? else { return Ok(Vec::new()) };
    let newest = run.last.commit;
    Ok(run.patches.into_iter().map(|(key, commit, patch)| (key, Patch { newest: commit == newest, ..patch })).collect())
}

/// The run that counts: the newest one that holds everything it needs. Later ones must be pieces of the commit that
/// came after it, of which some group was lost.
fn newest_run(mut runs: Vec<Run>, name: &str) -> io::Result<Option<Run>> {
    let mut torn_commit: Option<u64> = None;
    while let Some(run) = runs.pop() {
        let precedes = torn_commit.is_none_or(|torn| run.last.commit == torn || run.last.commit + 1 == torn);
        if run.first_seq <= run.last.oldest_needed && precedes {
            return Ok(Some(run));
        }
        let one_commit = run.first_commit == run.last.commit && torn_commit.is_none_or(|torn| torn == run.last.commit);
        if !one_commit {
            return Err(damage(format!(
                "{name} has groups {} to {}, but groups from {} on are needed",
                run.first_seq, run.last.seq, run.last.oldest_needed
            )));
        }
        torn_commit = Some(run.last.commit);
    }
    match torn_commit {
        // The very first commit of this incarnation was cut short.
        None | Some(1) => Ok(None),
        Some(torn) => Err(damage(format!("{name} holds pieces of commit {torn} alone"))),
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

    /// The header of the group at `pos` and all its bytes, unchecked. None where no header is.
    async fn group(&mut self, reactor: &Reactor, pos: u64) -> io::Result<Option<(GroupHeader, Slice)>> {
        let head = self.read(reactor, pos, BLOCK_BYTES).await?;
        let Some((header, _)) = GroupHeader::parse(head.as_bytes()) else { return Ok(None) };
        // Lengths that lie would reach beyond the file.
        if pos + header.file_bytes() as u64 > reactor.file_len(&self.file).await? {
            return Ok(None);
        }
        let bytes = self.read(reactor, pos, header.file_bytes()).await?;
        Ok(Some((header, bytes)))
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
