//! Putting a compacted segment in the place of those that it was made of, so that a crash at any step leaves one or the
//! other.
//!
//! ```text
//! <base>-<end>.cleaned   being written; means nothing
//! <base>.log             one segment was compacted: the new file takes its name
//! <base>-<end>.swap      several were: from here on the new file counts. The others go, for good, before it takes the name of
//!                        the first one: none of them may come back beside it
//! ```
//! `end` is the offset after the last segment, in the name because the file need not hold the last records any more.
//! Recovery drops files of the first kind and completes those of the last ([`finish_replacements`]).

use std::io;
use std::path::{Path, PathBuf};

use crate::reactor::Reactor;
use crate::recovery::remove_if_there;
use crate::segment;

/// How the name of a file ends that is being written.
const CLEANED: &str = ".cleaned";
/// How the name of a file ends that counts.
const SWAP: &str = ".swap";

/// The segments that a new file replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) dir: PathBuf,
    /// Base offsets, ascending. The first is the new segment's.
    pub(super) bases: Vec<i64>,
    /// The offset after the last one.
    pub(super) end_offset: i64,
}

impl Replacement {
    /// The file that is being written.
    #[must_use]
    pub(super) fn cleaned_path(&self) -> PathBuf {
        self.path(CLEANED)
    }

    /// Lets the new file count. It is complete and synced.
    pub(super) async fn begin(&self, reactor: &Reactor) -> io::Result<()> {
        let to = match self.bases.len() {
            1 => segment::log_path(&self.dir, self.bases[0]),
            _ => self.path(SWAP),
        };
        reactor.rename(&self.cleaned_path(), &to).await?;
        reactor.sync_dir(&self.dir).await
    }

    /// Removes what has been replaced and gives the new file its name. May be repeated.
    pub(super) async fn finish(&self, reactor: &Reactor) -> io::Result<()> {
        if self.bases.len() == 1 {
            return Ok(());
        }
        for &base in &self.bases[1..] {
            remove_if_there(reactor, &segment::log_path(&self.dir, base)).await?;
            remove_if_there(reactor, &segment::producers_path(&self.dir, base)).await?;
            remove_if_there(reactor, &segment::aborted_path(&self.dir, base)).await?;
        }
        reactor.sync_dir(&self.dir).await?;
        reactor.rename(&self.path(SWAP), &segment::log_path(&self.dir, self.bases[0])).await?;
        reactor.sync_dir(&self.dir).await
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{:020}-{:020}{suffix}", self.bases[0], self.end_offset))
    }
}

/// Completes the replacements that a crash has interrupted in a partition's directory.
pub(crate) async fn finish_replacements(reactor: &Reactor, dir: &Path) -> io::Result<()> {
    let names: Vec<String> =
        reactor.list_dir(dir)?.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect();
    for name in &names {
        if range_of(name, CLEANED).is_some() {
            remove_if_there(reactor, &dir.join(name)).await?;
        }
        let Some((first, end_offset)) = range_of(name, SWAP) else { continue };
        let mut others: Vec<i64> = names
            .iter()
            .filter_map(|name| segment::base_of(name).or_else(|| segment::producers_base_of(name)))
            .filter(|base| *base > first && *base < end_offset)
            .collect();
        others.sort_unstable();
        others.dedup();
        let bases = std::iter::once(first).chain(others).collect();
        let replacement = Replacement { dir: dir.to_owned(), bases, end_offset };
        if replacement.bases.len() > 1 {
            replacement.finish(reactor).await?;
        } else {
            // All that it replaces is gone but for the first, whose name it takes.
            reactor.rename(&dir.join(name), &segment::log_path(dir, first)).await?;
            reactor.sync_dir(dir).await?;
        }
    }
    Ok(())
}

/// The offsets in the name of a file that ends with `suffix`.
fn range_of(name: &str, suffix: &str) -> Option<(i64, i64)> {
    let (first, end) = name.strip_suffix(suffix)?.split_once('-')?;
    Some((segment::parse_base(first)?, segment::parse_base(end)?))
}
