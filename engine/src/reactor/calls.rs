//! Files and sockets, as tasks use them.
//!
//! A future of these may be dropped at any time: the operation keeps its buffers until the kernel is done with them, and a
//! socket's operation is cancelled. What a dropped write has done is unknown, like after a crash.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::BytesMut;

use super::Reactor;
use crate::cache::{ChunkWriter, Slice};
use crate::io::{DirEntry, File, Listener, Open, SendBuf, Socket, WriteSync};

/// Files. Paths are absolute or relative to the process's directory; errors are the system's.
impl Reactor {
    /// Opens a file. A refusal of `O_DIRECT` by the file system is an error of kind `Unsupported` with a
    /// [`DirectRefused`](crate::io::DirectRefused) inside.
    pub async fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        self.0.io.open(path, how).await
    }

    /// Writes all of `data` at byte `pos`. Durable only after an [`fdatasync`](Reactor::fdatasync) that begins after this
    /// has ended.
    pub async fn write_at(&self, file: &File, pos: u64, data: Slice) -> io::Result<()> {
        self.0.io.write_at(file, pos, data, WriteSync::No).await
    }

    /// Like [`write_at`](Reactor::write_at), and says what the write waits for. With [`WriteSync::Data`] on a file opened
    /// `direct` the kernel syncs by itself as soon as the disk has the bytes: one completion where a write and an
    /// [`fdatasync`](Reactor::fdatasync) have two, and no worker thread of the ring between them.
    pub async fn write_with(&self, file: &File, pos: u64, data: Slice, sync: WriteSync) -> io::Result<()> {
        self.0.io.write_at(file, pos, data, sync).await
    }

    /// Writes all of `data` at byte `pos` through the page cache, before it returns. For small writes to files that were
    /// not opened `direct`, where the ring would cost more: it hands buffered writes on ext4 to a worker thread.
    pub fn write_now(&self, file: &File, pos: u64, data: &Slice) -> io::Result<()> {
        self.0.io.write_now(file, pos, data)
    }

    /// Reads `len` bytes at byte `pos` into the writer's unfilled part, and counts them as filled. Fewer only at the file's
    /// end. The caller has checked that they fit.
    pub async fn read_at(
        &self,
        file: &File,
        pos: u64,
        into: ChunkWriter,
        len: usize,
    ) -> (io::Result<usize>, ChunkWriter) {
        self.0.io.read_at(file, pos, into, len).await
    }

    /// Makes durable every write that has ended, and the length of the file. After an error nothing is known about them,
    /// and a second call would not tell: the kernel marks pages clean even when their write has failed.
    pub async fn fdatasync(&self, file: &File) -> io::Result<()> {
        self.0.io.sync(file, true).await
    }

    /// Like [`Reactor::fdatasync`], with all metadata.
    pub async fn fsync(&self, file: &File) -> io::Result<()> {
        self.0.io.sync(file, false).await
    }

    /// Allocates the first `len` bytes of the file, as zeros where nothing was; the file is at least that long then.
    /// `EOPNOTSUPP` where the file system cannot.
    pub async fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.0.io.allocate(file, len).await
    }

    /// Cuts the file to `len` bytes, or extends it with a hole.
    pub async fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.0.io.truncate(file, len).await
    }

    /// The length of the file, in bytes.
    pub async fn file_len(&self, file: &File) -> io::Result<u64> {
        self.0.io.file_len(file)
    }

    /// True when nothing else can see the file: it has one name, and nobody in this process has a clone of `file`.
    pub fn is_only_user(&self, file: &File) -> bool {
        self.0.io.is_only_user(file)
    }

    /// Renames a file or directory, and replaces a file of the new name. Durable after a [`Reactor::sync_dir`].
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.io.rename(from, to).await
    }

    /// Removes a file's name. Durable after a [`Reactor::sync_dir`].
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.io.remove(path, false).await
    }

    /// Removes an empty directory. Durable after a [`Reactor::sync_dir`] of its parent.
    pub async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.io.remove(path, true).await
    }

    /// Creates a directory. Durable after a [`Reactor::sync_dir`] of its parent.
    pub async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.io.create_dir(path).await
    }

    /// Makes durable the names in a directory.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.io.sync_dir(path).await
    }

    /// The names in a directory, sorted. It blocks: io_uring cannot list directories. For start-up.
    pub fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.io.list_dir(path)
    }
}

/// Sockets. All are TCP, with `TCP_NODELAY` set.
impl Reactor {
    /// Listens on `addr`. With `reuse_port` several cores do so, and the kernel spreads connections over them.
    pub fn listen(&self, addr: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
        self.0.io.listen(addr, reuse_port)
    }

    /// The next connection, and where it comes from. Errors such as a lack of descriptors (`EMFILE`) pass; the caller waits
    /// a little and accepts again.
    pub async fn accept(&self, listener: &Listener) -> io::Result<(Socket, SocketAddr)> {
        self.0.io.accept(listener).await
    }

    /// Connects to `addr`.
    pub async fn connect(&self, addr: SocketAddr) -> io::Result<Socket> {
        self.0.io.connect(addr).await
    }

    /// Takes over a connected stream socket that something else has made, such as one end of a pair. On the real ring only.
    pub fn adopt(&self, stream: OwnedFd) -> Socket {
        self.0.io.adopt(stream)
    }

    /// Receives into the spare capacity of `buf`, of which there is some. 0 is the end of the stream.
    pub async fn recv(&self, socket: &Socket, buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        self.0.io.recv(socket, buf).await
    }

    /// Sends all of `data`, which comes back for reuse. One send per socket at a time: two would mix.
    pub async fn send(&self, socket: &Socket, data: SendBuf) -> (io::Result<()>, SendBuf) {
        self.0.io.send(socket, data).await
    }

    /// Ends the connection in both directions. Receives and sends that wait for the peer end as well.
    pub fn shutdown(&self, socket: &Socket) {
        self.0.io.shutdown(socket);
    }
}
