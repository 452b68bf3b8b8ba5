//! The files of one core's journal: created and zeroed once, written from front to back, and used again once segments
//! hold what they hold. Overwriting blocks that have been written before is what makes an fdatasync cheap: the file
//! system has nothing of its own to write.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::Slice;
use crate::io::{File, Open};
use crate::limits::Limits;
use crate::reactor::{Notify, Reactor};
use crate::read::one_chunk;
use crate::store::{Durability, StoreOptions};

/// Where a group goes.
pub(crate) struct Place {
    pub(crate) file: File,
    pub(crate) pos: u64,
}

/// The journal's files.
pub(crate) struct JournalFiles {
    dir: PathBuf,
    name: JournalName,
    direct: bool,
    file_bytes: u64,
    max_files: usize,
    files: RefCell<Files>,
    /// Rings when the creation of a file has ended.
    freed: Notify,
    zeros: Slice,
    creating: Cell<bool>,
}

struct JournalFile {
    file: File,
    number: usize,
    /// Groups were written to it that no sync has covered: in the class `Os` most commits go without.
    is_unsynced: bool,
}

struct Files {
    active: JournalFile,
    /// Bytes of the active file that are taken.
    pos: u64,
    /// The newest group in the active file.
    last_seq: u64,
    /// Full files, oldest first, with their newest group.
    full: VecDeque<(JournalFile, u64)>,
    free: Vec<JournalFile>,
    /// Files there are.
    count: usize,
    next_number: usize,
}

impl JournalFiles {
    /// Creates the first file.
    pub(crate) async fn open(reactor: &Reactor, options: &StoreOptions, salt: u64) -> io::Result<JournalFiles> {
        let limits = &options.limits;
        let mut zeroed = one_chunk(limits.chunk_bytes);
        zeroed.pad_to(zeroed.capacity());
        let zeros = zeroed.slice(0, zeroed.capacity());
        let dir = journal_dir(&options.dir);
        // The page cache is all that survival of the process asks for, and an inline write to it costs a tenth.
        let direct = options.durability == Durability::Disk;
        let name = JournalName { incarnation: options.incarnation, core: options.core, salt };
        let path = dir.join(name.of_file(0));
        let active = create(reactor, &path, direct, limits.journal_file_bytes, &zeros).await?;
        reactor.sync_dir(&dir).await?;
        let files = Files {
            active: JournalFile { file: active, number: 0, is_unsynced: false },
            pos: 0,
            last_seq: 0,
            full: VecDeque::new(),
            free: Vec::new(),
            count: 1,
            next_number: 1,
        };
        Ok(JournalFiles {
            dir,
            name,
            direct,
            file_bytes: limits.journal_file_bytes,
            max_files: if direct { limits.journal_files } else { files_without_syncs(limits) },
            files: RefCell::new(files),
            freed: Notify::new(),
            zeros,
            creating: Cell::new(false),
        })
    }

    /// True when files are written past the page cache, through the ring.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Finds the place of group `seq`, which takes `len` bytes. A file is made when all are full: a checkpoint needs the
    /// journal to free the journal. Appends are kept away long before ([`JournalFiles::is_short`]), so what can still
    /// come is bounded by the memory that holds it.
    pub(crate) async fn place(&self, reactor: &Reactor, seq: u64, len: u64) -> io::Result<Place> {
        loop {
            if let Some(place) = self.try_place(seq, len) {
                return Ok(place);
            }
            if self.creating.get() {
                self.freed.wait().await;
            } else {
                self.add_file(reactor).await?;
            }
        }
    }

    /// True when the last file is in use. No append should add to it until a checkpoint has freed one.
    pub(crate) fn is_short(&self) -> bool {
        let files = self.files.borrow();
        files.full.len() + 1 >= self.max_files && files.free.is_empty()
    }

    /// True when less than half a file is left until it is short.
    pub(crate) fn is_nearly_short(&self) -> bool {
        let files = self.files.borrow();
        files.full.len() + 2 >= self.max_files && files.pos > self.file_bytes / 2
    }

    fn try_place(&self, seq: u64, len: u64) -> Option<Place> {
        let files = &mut *self.files.borrow_mut();
        if files.pos + len > self.file_bytes {
            let next = files.free.pop()?;
            let full = std::mem::replace(&mut files.active, next);
            files.full.push_back((full, files.last_seq));
            files.pos = 0;
        }
        let pos = files.pos;
        files.pos += len;
        assert!(seq > files.last_seq || seq == 0, "groups lie in their order");
        files.last_seq = seq;
        files.active.is_unsynced = true;
        Some(Place { file: files.active.file.clone(), pos })
    }

    /// The files with groups from `oldest` on that no sync has covered. The caller syncs them, or nothing ever counts as
    /// durable again.
    pub(crate) fn take_unsynced(&self, oldest: u64) -> Vec<File> {
        let files = &mut *self.files.borrow_mut();
        let needed = files.full.iter_mut().filter(|(_, last_seq)| *last_seq >= oldest);
        let all = needed.map(|(file, _)| file).chain([&mut files.active]);
        all.filter_map(|file| std::mem::take(&mut file.is_unsynced).then(|| file.file.clone())).collect()
    }

    /// Creates one more file. Two at once would be the same file.
    pub(crate) async fn add_file(&self, reactor: &Reactor) -> io::Result<()> {
        assert!(!self.creating.replace(true), "a journal file is being made already");
        let number = self.files.borrow().next_number;
        let path = self.dir.join(self.name.of_file(number));
        let created = create(reactor, &path, self.direct, self.file_bytes, &self.zeros).await;
        let synced = reactor.sync_dir(&self.dir).await;
        self.creating.set(false);
        // Rings in any case: whoever waits for this file has to see that it did not come.
        self.freed.notify();
        let file = created?;
        synced?;
        let files = &mut *self.files.borrow_mut();
        files.count += 1;
        files.next_number += 1;
        files.free.push(JournalFile { file, number, is_unsynced: false });
        Ok(())
    }

    /// True when the next file should be made before it is needed.
    pub(crate) fn wants_file(&self) -> bool {
        let files = self.files.borrow();
        let room_is_short = files.pos > self.file_bytes / 2;
        room_is_short && files.free.is_empty() && files.count < self.max_files && !self.creating.get()
    }

    /// True when so many files are full that a checkpoint should free some.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.files.borrow().full.len() >= self.full_at_checkpoint()
    }

    /// Half of the files: the more there is to move the larger are the pieces of each partition. In the class `Os` a
    /// quarter, since no append waits for the disk behind a checkpoint, and all that it could do is to come too late.
    fn full_at_checkpoint(&self) -> usize {
        self.max_files.div_ceil(if self.direct { 2 } else { 4 })
    }

    /// The part that is taken of the room between the beginning of a checkpoint and [`JournalFiles::is_short`].
    pub(crate) fn fill(&self) -> f64 {
        let files = self.files.borrow();
        let at_checkpoint = self.full_at_checkpoint() as u64 * self.file_bytes;
        let room = ((self.max_files as u64 - 1) * self.file_bytes).saturating_sub(at_checkpoint).max(1);
        let taken = (files.full.len() as u64 * self.file_bytes + files.pos).saturating_sub(at_checkpoint);
        (taken as f64 / room as f64).min(1.0)
    }

    /// The newest group in the full files that hold none above `durable`: what a checkpoint has to cover to free them.
    pub(crate) fn newest_full(&self, durable: u64) -> Option<u64> {
        self.files.borrow().full.iter().map(|(_, last_seq)| *last_seq).rfind(|last_seq| *last_seq <= durable)
    }

    /// Frees every full file whose groups are all below `seq`. Files were made in need, perhaps; what is not likely to
    /// be needed again is removed. The state of very many partitions may fill more files than there should be, so
    /// it is free files that are counted.
    pub(crate) async fn free_below(&self, reactor: &Reactor, seq: u64) -> io::Result<()> {
        let mut surplus = Vec::new();
        {
            let files = &mut *self.files.borrow_mut();
            while files.full.front().is_some_and(|(_, last_seq)| *last_seq < seq) {
                let (mut file, _) = files.full.pop_front().expect("looked at above");
                file.is_unsynced = false;
                if files.free.len() >= self.max_files {
                    files.count -= 1;
                    surplus.push(self.dir.join(self.name.of_file(file.number)));
                } else {
                    files.free.push(file);
                }
            }
        }
        for path in surplus {
            reactor.remove_file(&path).await?;
        }
        Ok(())
    }
}

/// The directory of all cores' journals.
pub(crate) fn journal_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

/// What the names of one journal's files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JournalName {
    /// See [`GroupHeader`](crate::journal::GroupHeader).
    pub(crate) incarnation: u64,
    pub(crate) core: u16,
    /// See [`GroupHeader`](crate::journal::GroupHeader).
    pub(crate) salt: u64,
}

impl JournalName {
    fn of_file(&self, number: usize) -> String {
        format!("{:016}-{:05}-{:016x}-{number:05}.journal", self.incarnation, self.core, self.salt)
    }

    /// `None` for the name of anything else.
    pub(crate) fn parse(name: &str) -> Option<JournalName> {
        let mut parts = name.strip_suffix(".journal")?.split('-');
        let incarnation = parts.next()?.parse().ok()?;
        let core = parts.next()?.parse().ok()?;
        let salt = u64::from_str_radix(parts.next()?, 16).ok()?;
        let number: usize = parts.next()?.parse().ok()?;
        let parsed = JournalName { incarnation, core, salt };
        (parsed.of_file(number) == name).then_some(parsed)
    }
}

/// How many files there may be in the class `Os`: appends do not wait for the disk there and fill them while a checkpoint is
/// under way. What they hold is in memory as well.
fn files_without_syncs(limits: &Limits) -> usize {
    let in_half_of_memory = limits.pool_bytes as u64 / 2 / limits.journal_file_bytes;
    (in_half_of_memory as usize).clamp(limits.journal_files, 2 * limits.journal_files)
}

/// Makes a file that reads as zeros. Where each write is synced they are written, not only allocated: the first write to an
/// allocated block changes the file system's own records, which every sync would then have to wait for.
async fn create(reactor: &Reactor, path: &Path, direct: bool, bytes: u64, zeros: &Slice) -> io::Result<File> {
    let file = reactor.open(path, Open { direct, create: true, write: true, ..Open::default() }).await?;
    match reactor.allocate(&file, bytes).await {
        Ok(()) => {}
        // Zeros or groups do the same, less well laid out.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(error) => return Err(error),
    }
    // A file that is not written past the page cache is synced now and then only.
    if direct {
        for pos in (0..bytes).step_by(zeros.len()) {
            let len = (zeros.len() as u64).min(bytes - pos);
            reactor.write_at(&file, pos, zeros.part(0, len as usize)).await?;
        }
    }
    reactor.fsync(&file).await?;
    Ok(file)
}
