//! Files on the ring.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::rc::Rc;

use super::ops::{Op, c_path};
use super::{Handle, Ring, count, is_interrupted};
use crate::cache::{ChunkWriter, Slice};
use crate::io::{DirEntry, Open, WriteSync};

/// An open file. `direct` tells whether it bypasses the page cache.
#[derive(Clone)]
pub(in crate::io) struct RingFile {
    handle: Rc<FileHandle>,
    direct: bool,
}

pub(super) type FileHandle = Handle<fs::File>;

impl RingFile {
    pub(in crate::io) fn is_direct(&self) -> bool {
        self.direct
    }

    /// A backup may have given the file another name.
    pub(in crate::io) fn is_only_user(&self) -> bool {
        let has_one_name = || self.handle.get().metadata().is_ok_and(|metadata| metadata.nlink() == 1);
        Rc::strong_count(&self.handle) == 1 && has_one_name()
    }
}

impl Ring {
    pub(in crate::io) async fn open(&self, path: &Path, how: Open) -> io::Result<RingFile> {
        let mut flags = if how.write { libc::O_RDWR } else { libc::O_RDONLY };
        if how.create || how.create_new {
            flags |= libc::O_CREAT;
        }
        if how.create_new {
            flags |= libc::O_EXCL;
        }
        if how.direct {
            flags |= libc::O_DIRECT;
        }
        Ok(RingFile { handle: self.open_with(path, flags).await?, direct: how.direct })
    }

    async fn open_with(&self, path: &Path, flags: i32) -> io::Result<Rc<FileHandle>> {
        let path = c_path(path)?;
        let fd = self.run(|| Op::Open { path: path.clone(), flags }).await?;
        Ok(Rc::new(Handle::new(fs::File::from(self.0.own(fd as i32)), &self.0)))
    }

    pub(in crate::io) async fn write_some(
        &self,
        file: &RingFile,
        pos: u64,
        data: Slice,
        from: usize,
        sync: WriteSync,
    ) -> (i32, Slice) {
        let done = self.0.submit(Op::Write { file: file.handle.clone(), pos, data, from, sync }).await;
        let Op::Write { data, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        (done.result, data)
    }

    /// Writes through the page cache with an inline `pwrite`. ext4 makes io_uring hand every buffered write to a worker
    /// thread, which costs more than the copy itself (about 5 µs for 16 KiB) and delays it by two context switches. So
    /// small buffered writes, and only they, are made on the spot. The call may block when the kernel throttles writers
    /// of dirty pages: callers write little at a time, into files whose pages are in memory.
    pub(in crate::io) fn write_now(&self, file: &RingFile, pos: u64, data: &Slice) -> io::Result<()> {
        file.handle.get().write_all_at(data.as_bytes(), pos)
    }

    pub(in crate::io) async fn read_some(
        &self,
        file: &RingFile,
        pos: u64,
        into: ChunkWriter,
        len: usize,
    ) -> (i32, ChunkWriter) {
        let done = self.0.submit(Op::Read { file: file.handle.clone(), pos, into, len }).await;
        let Op::Read { into, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        (done.result, into)
    }

    pub(in crate::io) async fn sync(&self, file: &RingFile, data_only: bool) -> io::Result<()> {
        self.sync_handle(&file.handle, data_only).await
    }

    async fn sync_handle(&self, file: &Rc<FileHandle>, data_only: bool) -> io::Result<()> {
        // Never tried again after an error: the kernel has marked the pages clean by then. An interrupted call has not
        // begun to wait, which io_uring does not report as a result.
        let done = self.0.submit(Op::Sync { file: file.clone(), data_only }).await;
        count(done.result).map(|_| ())
    }

    pub(in crate::io) async fn allocate(&self, file: &RingFile, len: u64) -> io::Result<()> {
        self.run(|| Op::Allocate { file: file.handle.clone(), len }).await.map(|_| ())
    }

    pub(in crate::io) async fn truncate(&self, file: &RingFile, len: u64) -> io::Result<()> {
        if !self.0.has_ftruncate {
            // Linux before 6.9 has no such operation. Files are cut on recovery and when a segment is closed: rarely.
            return file.handle.get().set_len(len);
        }
        self.run(|| Op::Truncate { file: file.handle.clone(), len }).await.map(|_| ())
    }

    /// An `fstat` of an open file reads memory only; io_uring would hand it to a worker thread.
    pub(in crate::io) fn file_len(&self, file: &RingFile) -> io::Result<u64> {
        file.handle.get().metadata().map(|metadata| metadata.len())
    }

    pub(in crate::io) async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (c_path(from)?, c_path(to)?);
        self.run(|| Op::Rename { from: from.clone(), to: to.clone() }).await.map(|_| ())
    }

    pub(in crate::io) async fn remove(&self, path: &Path, is_dir: bool) -> io::Result<()> {
        let path = c_path(path)?;
        self.run(|| Op::Remove { path: path.clone(), is_dir }).await.map(|_| ())
    }

    pub(in crate::io) async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        self.run(|| Op::CreateDir { path: path.clone() }).await.map(|_| ())
    }

    pub(in crate::io) async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = self.open_with(path, libc::O_RDONLY | libc::O_DIRECTORY).await?;
        self.sync_handle(&dir, false).await
    }

    /// io_uring has no `getdents`: this blocks, and is for start-up.
    pub(in crate::io) fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            entries.push(DirEntry { name: entry.file_name(), is_dir: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    /// Runs an operation that gives nothing back but its result, again when it was interrupted.
    async fn run(&self, op: impl Fn() -> Op) -> io::Result<usize> {
        loop {
            let result = self.0.submit(op()).await.result;
            if !is_interrupted(result) {
                return count(result);
            }
        }
    }
}
