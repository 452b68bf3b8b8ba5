//! The simulated disk: what programs see, what is durable, and what lies between.
//!
//! A file has its contents as reads see them, its durable contents, and the changes that are not durable yet, in the order
//! in which they completed. A directory has the same three for its names. A crash keeps what is durable and a seeded
//! choice of the rest.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::super::random::Random;
use super::super::{DirEntry, Open};
use super::image::{Image, ImageNode};
use crate::limits::BLOCK_BYTES;

/// What a disk writes whole or not at all, in bytes.
pub(super) const SECTOR_BYTES: usize = 512;

/// How a simulated machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The power goes. What no sync has covered is kept or lost, sector by sector.
    Power,
    /// The process is killed. What it has written stays; what it was writing is written in part.
    Process,
}

pub(super) struct Disk {
    root: DirRef,
    /// Bytes that all files may take together, in whole blocks.
    pub(super) capacity_bytes: Option<u64>,
    used: Rc<Cell<u64>>,
    /// Renames from one directory to another: a crash keeps or loses both changes.
    moves: Vec<Move>,
}

/// A rename to another directory, as the changes that it made in both.
struct Move {
    from: (DirRef, u64),
    to: (DirRef, u64),
}

pub(super) type DirRef = Rc<RefCell<Dir>>;
pub(super) type FileRef = Rc<RefCell<FileNode>>;

#[derive(Clone)]
enum Node {
    File(FileRef),
    Dir(DirRef),
}

/// A directory.
#[derive(Default)]
pub(super) struct Dir {
    names: BTreeMap<OsString, Node>,
    durable: BTreeMap<OsString, Node>,
    pending: Vec<(u64, NameChange)>,
    next: u64,
}

#[derive(Clone)]
enum NameChange {
    Link(OsString, Node),
    Unlink(OsString),
    Rename { from: OsString, to: OsString },
}

/// A file's contents.
pub(super) struct FileNode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Completed changes that no sync has covered, numbered in order.
    pending: Vec<(u64, Change)>,
    next: u64,
    /// Writes that have begun and not completed.
    writing: BTreeMap<u64, Change>,
    allocated: u64,
    has_name: bool,
    opens: usize,
    used: Rc<Cell<u64>>,
}

#[derive(Clone)]
enum Change {
    Write { pos: usize, bytes: Vec<u8> },
    Len(usize),
}

/// Negative errors of the kernel.
type Errno = i32;

impl Disk {
    pub(super) fn new(image: &Image, capacity_bytes: Option<u64>) -> Disk {
        let used = Rc::new(Cell::new(0));
        let root = dir_of(&image.root, &used);
        Disk { root, capacity_bytes, used, moves: Vec::new() }
    }

    pub(super) fn open(&mut self, path: &Path, how: Open) -> Result<FileRef, Errno> {
        let (dir, name) = self.parent(path)?;
        let mut dir = dir.borrow_mut();
        let file = match dir.names.get(name) {
            Some(Node::File(_)) if how.create_new => return Err(-libc::EEXIST),
            Some(Node::File(file)) => file.clone(),
            Some(Node::Dir(_)) => return Err(-libc::EISDIR),
            None if how.create || how.create_new => {
                let file = Rc::new(RefCell::new(FileNode::new(Vec::new(), self.used.clone())));
                dir.change(NameChange::Link(name.to_owned(), Node::File(file.clone())));
                file
            }
            None => return Err(-libc::ENOENT),
        };
        file.borrow_mut().opens += 1;
        Ok(file)
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> Result<(), Errno> {
        let (dir, name) = self.parent(path)?;
        let mut dir = dir.borrow_mut();
        if dir.names.contains_key(name) {
            return Err(-libc::EEXIST);
        }
        dir.change(NameChange::Link(name.to_owned(), Node::Dir(DirRef::default())));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, is_dir: bool) -> Result<(), Errno> {
        let (dir, name) = self.parent(path)?;
        let mut dir = dir.borrow_mut();
        match dir.names.get(name).ok_or(-libc::ENOENT)? {
            Node::Dir(_) if !is_dir => return Err(-libc::EISDIR),
            Node::Dir(child) if !child.borrow().names.is_empty() => return Err(-libc::ENOTEMPTY),
            Node::File(_) if is_dir => return Err(-libc::ENOTDIR),
            Node::Dir(_) => {}
            Node::File(file) => file.borrow_mut().unlinked(),
        }
        dir.change(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    /// Directories keep their place: only files go from one to another.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (dir, from) = self.parent(from)?;
        let (to_dir, to) = self.parent(to)?;
        if !Rc::ptr_eq(&dir, &to_dir) {
            return self.move_file((dir, from), (to_dir, to));
        }
        let mut dir = dir.borrow_mut();
        let moved = dir.names.get(from).ok_or(-libc::ENOENT)?;
        if from == to {
            return Ok(());
        }
        match (moved, dir.names.get(to)) {
            (_, None) => {}
            (Node::File(_), Some(Node::File(replaced))) => replaced.borrow_mut().unlinked(),
            (Node::File(_), Some(Node::Dir(_))) => return Err(-libc::EISDIR),
            (Node::Dir(_), Some(Node::File(_))) => return Err(-libc::ENOTDIR),
            (Node::Dir(_), Some(Node::Dir(replaced))) if replaced.borrow().names.is_empty() => {}
            (Node::Dir(_), Some(Node::Dir(_))) => return Err(-libc::ENOTEMPTY),
        }
        dir.change(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn move_file(&mut self, from: (DirRef, &OsStr), to: (DirRef, &OsStr)) -> Result<(), Errno> {
        let node = from.0.borrow().names.get(from.1).cloned().ok_or(-libc::ENOENT)?;
        match (&node, to.0.borrow().names.get(to.1)) {
            (Node::Dir(_), _) => return Err(-libc::EXDEV),
            (_, Some(Node::Dir(_))) => return Err(-libc::EISDIR),
            (_, Some(Node::File(replaced))) => replaced.borrow_mut().unlinked(),
            (_, None) => {}
        }
        let linked = to.0.borrow_mut().change(NameChange::Link(to.1.to_owned(), node));
        let unlinked = from.0.borrow_mut().change(NameChange::Unlink(from.1.to_owned()));
        self.moves.push(Move { from: (from.0, unlinked), to: (to.0, linked) });
        Ok(())
    }

    pub(super) fn dir(&self, path: &Path) -> Result<DirRef, Errno> {
        let mut dir = self.root.clone();
        for component in path.components() {
            let name = match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => name,
                Component::ParentDir | Component::Prefix(_) => return Err(-libc::EINVAL),
            };
            let next = match dir.borrow().names.get(name).ok_or(-libc::ENOENT)? {
                Node::Dir(next) => next.clone(),
                Node::File(_) => return Err(-libc::ENOTDIR),
            };
            dir = next;
        }
        Ok(dir)
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<DirEntry>, Errno> {
        let dir = self.dir(path)?;
        let dir = dir.borrow();
        let entry =
            |(name, node): (&OsString, &Node)| DirEntry { name: name.clone(), is_dir: matches!(node, Node::Dir(_)) };
        Ok(dir.names.iter().map(entry).collect())
    }

    /// The bytes that may be written at `pos`, of `len`, before the disk is full.
    pub(super) fn room(&self, file: &FileNode, pos: u64, len: usize) -> Result<usize, Errno> {
        let Some(capacity) = self.capacity_bytes else { return Ok(len) };
        let writable_to =
            file.allocated + capacity.saturating_sub(self.used.get()) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let end = (pos + len as u64).min(writable_to);
        if end <= pos && len > 0 { Err(-libc::ENOSPC) } else { Ok((end.max(pos) - pos) as usize) }
    }

    /// What is found after a crash. The same seed makes the same choice.
    pub(super) fn crash(&self, crash: Crash, random: &mut Random) -> Image {
        let kept = self.keep_moves(random);
        let ImageNode::Dir(root) = crash_dir(&self.root, crash, &kept, random) else {
            unreachable!("the root is a directory")
        };
        Image { root }
    }

    /// The number of changes that a crash keeps in directories which files were moved from or to. Where one of them keeps
    /// a move the other one does, with all that came before it there.
    fn keep_moves(&self, random: &mut Random) -> Kept {
        let mut kept = Kept::new();
        for (dir, _) in self.moves.iter().flat_map(|moved| [&moved.from, &moved.to]) {
            kept.entry(Rc::as_ptr(dir)).or_insert_with(|| dir.borrow().keep_some(random));
        }
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for Move { from, to } in &self.moves {
                let keeps = |kept: &Kept, (dir, number): &(DirRef, u64)| *number < kept[&Rc::as_ptr(dir)];
                let (from_keeps, to_keeps) = (keeps(&kept, from), keeps(&kept, to));
                if from_keeps != to_keeps {
                    let (dir, number) = if from_keeps { to } else { from };
                    kept.insert(Rc::as_ptr(dir), number + 1);
                    has_changed = true;
                }
            }
        }
        kept
    }

    fn parent<'a>(&self, path: &'a Path) -> Result<(DirRef, &'a OsStr), Errno> {
        let name = path.file_name().ok_or(-libc::EINVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.dir(parent)?, name))
    }
}

fn dir_of(names: &BTreeMap<OsString, ImageNode>, used: &Rc<Cell<u64>>) -> DirRef {
    let mut dir = Dir::default();
    for (name, node) in names {
        let node = match node {
            ImageNode::Dir(names) => Node::Dir(dir_of(names, used)),
            ImageNode::File(bytes) => Node::File(Rc::new(RefCell::new(FileNode::new(bytes.clone(), used.clone())))),
        };
        dir.names.insert(name.clone(), node.clone());
        dir.durable.insert(name.clone(), node);
    }
    Rc::new(RefCell::new(dir))
}

/// For some directories: the number below which a crash keeps their changes.
type Kept = HashMap<*const RefCell<Dir>, u64>;

fn crash_dir(dir: &DirRef, crash: Crash, kept: &Kept, random: &mut Random) -> ImageNode {
    let upto = kept.get(&Rc::as_ptr(dir)).copied();
    let dir = dir.borrow();
    let names = match crash {
        Crash::Process => dir.names.clone(),
        Crash::Power => {
            let upto = upto.unwrap_or_else(|| dir.keep_some(random));
            let mut names = dir.durable.clone();
            for (_, change) in dir.pending.iter().filter(|(number, _)| *number < upto) {
                apply(&mut names, change.clone());
            }
            names
        }
    };
    let image = |node: &Node, random: &mut Random| match node {
        Node::Dir(dir) => crash_dir(dir, crash, kept, random),
        Node::File(file) => ImageNode::File(file.borrow().crash(crash, random)),
    };
    ImageNode::Dir(names.iter().map(|(name, node)| (name.clone(), image(node, random))).collect())
}

fn apply(names: &mut BTreeMap<OsString, Node>, change: NameChange) {
    match change {
        NameChange::Link(name, node) => {
            names.insert(name, node);
        }
        NameChange::Unlink(name) => {
            names.remove(&name);
        }
        NameChange::Rename { from, to } => {
            if let Some(node) = names.remove(&from) {
                names.insert(to, node);
            }
        }
    }
}

impl Dir {
    /// Returns the number of the change.
    fn change(&mut self, change: NameChange) -> u64 {
        apply(&mut self.names, change.clone());
        self.pending.push((self.next, change));
        self.next += 1;
        self.next - 1
    }

    /// Below which number a crash keeps changes. A file system's journal keeps them in order: some of them, from the first
    /// on, have made it.
    fn keep_some(&self, random: &mut Random) -> u64 {
        let pending = self.pending.len() as u64;
        self.next - pending + random.between(0, pending)
    }

    /// The number that a sync which begins now makes everything below durable.
    pub(super) fn sync_point(&self) -> u64 {
        self.next
    }

    pub(super) fn sync(&mut self, upto: u64) {
        let covered = self.pending.partition_point(|(number, _)| *number < upto);
        for (_, change) in self.pending.drain(..covered) {
            apply(&mut self.durable, change);
        }
    }
}

impl FileNode {
    fn new(bytes: Vec<u8>, used: Rc<Cell<u64>>) -> FileNode {
        let mut file = FileNode {
            durable: bytes.clone(),
            bytes,
            pending: Vec::new(),
            next: 0,
            writing: BTreeMap::new(),
            allocated: 0,
            has_name: true,
            opens: 0,
            used,
        };
        file.account();
        file
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Fills `out` from `pos` on. Returns how much there was.
    pub(super) fn read(&self, pos: u64, out: &mut [u8]) -> usize {
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(self.bytes.len());
        let count = out.len().min(self.bytes.len() - from);
        out[..count].copy_from_slice(&self.bytes[from..from + count]);
        count
    }

    /// Notes a write that has begun. A crash before its end may keep any of its sectors.
    pub(super) fn begin_write(&mut self, pos: u64, bytes: &[u8]) -> u64 {
        let number = self.writing.last_key_value().map_or(0, |(last, _)| last + 1);
        self.writing.insert(number, Change::Write { pos: pos as usize, bytes: bytes.to_vec() });
        number
    }

    pub(super) fn end_write(&mut self, number: u64) {
        self.writing.remove(&number);
    }

    /// A completed write: visible, and durable after the next sync.
    pub(super) fn write(&mut self, pos: u64, bytes: &[u8]) {
        self.change(Change::Write { pos: pos as usize, bytes: bytes.to_vec() });
    }

    /// A completed write that has synced itself. Only its own bytes count as durable, as far as what came before lets
    /// them: a change of the same bytes, or of the length, cannot come after it.
    pub(super) fn write_durable(&mut self, pos: u64, bytes: &[u8]) {
        let (start, end) = (pos as usize, pos as usize + bytes.len());
        let precedes = |change: &Change| match change {
            Change::Len(len) => *len < end,
            Change::Write { pos, bytes } => *pos < end && start < pos + bytes.len(),
        };
        let change = Change::Write { pos: start, bytes: bytes.to_vec() };
        if self.pending.iter().any(|(_, change)| precedes(change)) {
            self.change(change);
            self.sync(self.next);
        } else {
            change.apply(&mut self.bytes);
            change.apply(&mut self.durable);
            self.account();
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.change(Change::Len(len as usize));
    }

    /// The number that a sync which begins now makes everything below durable.
    pub(super) fn sync_point(&self) -> u64 {
        self.next
    }

    pub(super) fn sync(&mut self, upto: u64) {
        let covered = self.pending.partition_point(|(number, _)| *number < upto);
        for (_, change) in self.pending.drain(..covered) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: what it covered is on the disk or lost, and no later sync writes it, because the kernel takes
    /// it for written. Reads go on to see it.
    pub(super) fn sync_failed(&mut self, upto: u64, random: &mut Random) {
        let covered = self.pending.partition_point(|(number, _)| *number < upto);
        for (_, change) in self.pending.drain(..covered) {
            change.apply_partly(&mut self.durable, random);
        }
    }

    pub(super) fn closed(&mut self) {
        self.opens -= 1;
        self.account();
    }

    fn unlinked(&mut self) {
        self.has_name = false;
        self.account();
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.pending.push((self.next, change));
        self.next += 1;
        self.account();
    }

    /// Counts the blocks that the file takes: none once it has neither a name nor a user.
    fn account(&mut self) {
        let needed = if self.has_name || self.opens > 0 { self.bytes.len().next_multiple_of(BLOCK_BYTES) } else { 0 };
        self.used.set(self.used.get() - self.allocated + needed as u64);
        self.allocated = needed as u64;
    }

    fn crash(&self, crash: Crash, random: &mut Random) -> Vec<u8> {
        match crash {
            Crash::Process => {
                let mut bytes = self.bytes.clone();
                for change in self.writing.values() {
                    change.apply_partly(&mut bytes, random);
                }
                bytes
            }
            Crash::Power => {
                let mut bytes = self.durable.clone();
                let unsynced = self.pending.iter().map(|(_, change)| change).chain(self.writing.values());
                for change in unsynced {
                    change.apply_partly(&mut bytes, random);
                }
                // A length that was not synced may be lost even where the data behind it was written.
                if bytes.len() > self.durable.len() {
                    let len = match random.below(3) {
                        0 => self.durable.len(),
                        1 => random.between(self.durable.len() as u64, bytes.len() as u64) as usize,
                        _ => bytes.len(),
                    };
                    bytes.truncate(len);
                }
                bytes
            }
        }
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Len(len) => to.resize(*len, 0),
            Change::Write { pos, bytes } => {
                if to.len() < pos + bytes.len() {
                    to.resize(pos + bytes.len(), 0);
                }
                to[*pos..pos + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// Applies nothing, all, or any of the sectors.
    fn apply_partly(&self, to: &mut Vec<u8>, random: &mut Random) {
        match (random.below(4), self) {
            (0, _) => {}
            (1, _) => self.apply(to),
            (_, Change::Len(_)) if random.coin() => self.apply(to),
            (_, Change::Len(_)) => {}
            (_, Change::Write { pos, bytes }) => {
                let mut from = 0;
                while from < bytes.len() {
                    let sector_end = (pos + from + 1).next_multiple_of(SECTOR_BYTES) - pos;
                    let end = sector_end.min(bytes.len());
                    if random.coin() {
                        Change::Write { pos: pos + from, bytes: bytes[from..end].to_vec() }.apply(to);
                    }
                    from = end;
                }
            }
        }
    }
}

/// A path without the parts that mean nothing, to compare by.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().filter(|component| matches!(component, Component::Normal(_))).collect()
}
