//! Spare files: those of deleted segments, kept for a while so that new segments are written into them.
//!
//! To the file system a block that has been written before is only data. A new one also changes its own records, with every
//! synced write. A log whose retention deletes as much as is appended, and a
//! new topic in the place of an old one, are written into blocks that are there.
//!
//! ```text
//! topic-3/00000000000000000000.log  ─ deleted ─►  spare/00002-0000000000000017  ─ reused ─►  other-0/00000000000000004711.log
//!                                                                                            other-0/00000000000000004711.reused
//! ```
//!
//! A file becomes a spare only when nothing else can see it: no task has it open, and it has no other name. It is
//! given up when nobody has wanted it for `file.delete.delay.ms` (Kafka keeps the files of deleted segments as long), when
//! the disk is full, and when the broker stops.
//!
//! Behind the end of a segment in such a file lie batches of another one, and each holds by itself. So nothing may be
//! taken for a batch of the log because it holds:
//! - The journal knows where the log ends. What it cannot know, which blocks of its last commits are on the disk, it proves by a
//!   [`digest`](crate::journal::digest) of these batches.
//! - While the file is longer than its segment, a file with the suffix `.reused` stands beside it. Recovery does not take a
//!   segment with such a file that no journal knows.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

use crate::io::File;
use crate::limits::Limits;
use crate::reactor::Reactor;
use crate::recovery::{remove_if_there, remove_tree};
use crate::store::{Health, Store, StoreOptions};

/// The spare files of one core.
pub(crate) struct Spares {
    dir: PathBuf,
    core: u16,
    max_files: usize,
    min_bytes: u64,
    /// In the order in which they came.
    files: RefCell<Vec<Spare>>,
    next_number: Cell<u64>,
}

/// A file to write a segment into.
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) bytes: u64,
    until_ns: u64,
}

impl Spares {
    pub(crate) fn new(options: &StoreOptions) -> Spares {
        let Limits { spare_files, spare_min_bytes, .. } = options.limits;
        Spares {
            dir: spare_dir(&options.dir),
            core: options.core,
            max_files: spare_files,
            min_bytes: spare_min_bytes,
            files: RefCell::default(),
            next_number: Cell::new(0),
        }
    }

    /// True when a file of so many bytes would be kept.
    pub(crate) fn wants(&self, bytes: u64) -> bool {
        bytes >= self.min_bytes && self.files.borrow().len() < self.max_files
    }

    /// The newest one: its blocks are most likely still near.
    pub(crate) fn take(&self) -> Option<Spare> {
        self.files.borrow_mut().pop()
    }

    /// Takes one back that could not be used.
    pub(crate) fn give_back(&self, spare: Spare) {
        self.files.borrow_mut().push(spare);
    }

    /// When the first one is to be given up.
    pub(crate) fn until_ns(&self) -> Option<u64> {
        self.files.borrow().iter().map(|spare| spare.until_ns).min()
    }

    /// Takes the file at `path` in, which loses that name.
    async fn put(&self, reactor: &Reactor, path: &Path, file: File, keep_ms: i64) -> io::Result<()> {
        let bytes = reactor.file_len(&file).await?;
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let to = self.dir.join(format!("{:05}-{number:016}", self.core));
        reactor.rename(path, &to).await?;
        let until_ns = reactor.now_ns().saturating_add(u64::try_from(keep_ms).unwrap_or(0).saturating_mul(1_000_000));
        self.files.borrow_mut().push(Spare { path: to, file, bytes, until_ns });
        Ok(())
    }

    fn take_older_than(&self, now_ns: u64) -> Vec<Spare> {
        self.files.borrow_mut().extract_if(.., |spare| spare.until_ns <= now_ns).collect()
    }
}

impl Store {
    /// Ends the file of a segment of `bytes` bytes, to which nothing refers any more: it becomes a spare for `keep_ms`, or is
    /// removed. `file` is the open file, if there is one. That of a path which is not there was removed before.
    pub(crate) async fn retire_file(
        &self,
        path: &Path,
        file: Option<File>,
        bytes: u64,
        keep_ms: i64,
    ) -> io::Result<()> {
        let reactor = &self.shared.reactor;
        let spares = &self.shared.spares;
        let is_wanted = keep_ms > 0 && spares.wants(bytes) && self.state().health == Health::Running;
        if is_wanted
            && let Some(file) = file
            && reactor.is_only_user(&file)
            && spares.put(reactor, path, file, keep_ms).await.is_ok()
        {
            // It has an end.
            self.shared.retention_wake.notify();
            return Ok(());
        }
        // Also where the partition is on a file system of its own.
        remove_if_there(reactor, path).await
    }

    /// Gives up the spare files whose time is over at `now_ns`. Returns whether there were any.
    pub(crate) async fn discard_spares(&self, now_ns: u64) -> io::Result<bool> {
        let old = self.shared.spares.take_older_than(now_ns);
        let has_some = !old.is_empty();
        for Spare { path, file, .. } in old {
            drop(file);
            self.shared.reactor.remove_file(&path).await?;
        }
        Ok(has_some)
    }
}

/// Makes the directory of spare files, or empties the one that an earlier run has left.
pub(crate) async fn make_spare_dir(reactor: &Reactor, data_dir: &Path) -> io::Result<()> {
    let dir = spare_dir(data_dir);
    match reactor.create_dir(&dir).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_tree(reactor, &dir).await?;
            reactor.create_dir(&dir).await
        }
        result => result,
    }
}

fn spare_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("spare")
}
