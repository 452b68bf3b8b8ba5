//! The seam to the outside world: files, sockets, time and randomness pass through [`Io`], which is either the kernel's
//! ring or a seeded simulation of it. Everything above is deterministic under the latter.
//!
//! The types here are handles and arguments; the operations are methods of [`Reactor`](crate::reactor::Reactor).

pub mod ring;
mod send;
mod setup;
mod slots;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use bytes::BytesMut;

use crate::cache::{ChunkWriter, Slice};
use ring::{Ring, RingFile, RingListener, RingSocket};

pub use send::{Part, SendBuf};
pub use setup::SetupError;

/// One core's access to files, sockets, time and randomness.
pub enum Io {
    /// The kernel, through io_uring.
    Ring(Ring),
}

/// How long [`Io::turn`] may wait for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: tasks are ready to run.
    No,
    /// Until this time of [`Io::now_ns`].
    Until(u64),
    /// Until something completes.
    Forever,
}

/// How a file is opened. All false: an existing file, for reading, through the page cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    /// Past the page cache (`O_DIRECT`): positions, lengths and memory are multiples of
    /// [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES).
    pub direct: bool,
    /// Create the file if it is missing. The name is durable after a sync of its directory.
    pub create: bool,
    /// Create the file; fail if it exists.
    pub create_new: bool,
    /// For reading and writing.
    pub write: bool,
}

/// An open file. Clones share it; it is closed when the last one is dropped and its operations have ended.
#[derive(Clone)]
pub struct File(FileOf);

#[derive(Clone)]
enum FileOf {
    Ring(RingFile),
}

/// A connected socket. Clones share it; it is closed when the last one is dropped and its operations have ended.
#[derive(Clone)]
pub struct Socket(SocketOf);

#[derive(Clone)]
enum SocketOf {
    Ring(RingSocket),
}

/// A listening socket.
#[derive(Clone)]
pub struct Listener(ListenerOf);

#[derive(Clone)]
enum ListenerOf {
    Ring(RingListener),
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without its directory.
    pub name: OsString,
    /// True for a directory, false for anything else.
    pub is_dir: bool,
}

/// The cause inside the error of an open that asked for `O_DIRECT` where the file system refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectRefused {
    /// The file that was to be opened.
    pub path: PathBuf,
}

impl fmt::Display for DirectRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the file system of {} refuses O_DIRECT (tmpfs and some overlays do). \
             Put the data directory on ext4, XFS or another file system that has it",
            self.path.display()
        )
    }
}

impl std::error::Error for DirectRefused {}

/// Counters of one core's ring since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Calls that could sleep, for want of anything else to do.
    pub waits: u64,
    /// Submissions.
    pub sqes: u64,
    /// Completions.
    pub cqes: u64,
    /// Turns that found completions held back by the kernel because the completion queue was full.
    pub overflows: u64,
}

impl Io {
    /// A ring of the calling thread, which alone may use it.
    pub fn ring() -> Result<Io, SetupError> {
        Ring::new().map(Io::Ring)
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> IoStats {
        match self {
            Io::Ring(ring) => ring.stats(),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Io::Ring(ring) => ring.now_ns(),
        }
    }

    pub(crate) fn unix_ms(&self) -> i64 {
        match self {
            Io::Ring(ring) => ring.unix_ms(),
        }
    }

    /// A seed for this core's random numbers.
    pub(crate) fn seed(&self) -> u64 {
        match self {
            Io::Ring(ring) => ring.seed(),
        }
    }

    /// Submits what has been queued, waits as `wait` says, and wakes the owners of whatever has completed.
    pub(crate) fn turn(&self, wait: Wait) {
        match self {
            Io::Ring(ring) => ring.turn(wait),
        }
    }

    /// Where other cores of the process send wake-ups, if a core on this can sleep.
    pub(crate) fn wake_fd(&self) -> Option<RawFd> {
        match self {
            Io::Ring(ring) => Some(ring.wake_fd()),
        }
    }

    /// Ends the wait of the core whose [`Io::wake_fd`] is `fd`, when this turn's submissions go out.
    pub(crate) fn wake(&self, fd: RawFd) {
        match self {
            Io::Ring(ring) => ring.wake(fd),
        }
    }

    pub(crate) async fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        match self {
            Io::Ring(ring) => ring.open(path, how).await.map(|file| File(FileOf::Ring(file))),
        }
    }

    pub(crate) async fn write_at(&self, file: &File, pos: u64, data: Slice) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.write_at(file, pos, data).await,
        }
    }

    pub(crate) fn write_now(&self, file: &File, pos: u64, data: &Slice) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.write_now(file, pos, data),
        }
    }

    pub(crate) async fn read_at(
        &self,
        file: &File,
        pos: u64,
        into: ChunkWriter,
        len: usize,
    ) -> (io::Result<usize>, ChunkWriter) {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.read_at(file, pos, into, len).await,
        }
    }

    pub(crate) async fn sync(&self, file: &File, data_only: bool) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.sync(file, data_only).await,
        }
    }

    pub(crate) async fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.allocate(file, len).await,
        }
    }

    pub(crate) async fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.truncate(file, len).await,
        }
    }

    pub(crate) fn file_len(&self, file: &File) -> io::Result<u64> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.file_len(file),
        }
    }

    pub(crate) async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.rename(from, to).await,
        }
    }

    pub(crate) async fn remove(&self, path: &Path, is_dir: bool) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.remove(path, is_dir).await,
        }
    }

    pub(crate) async fn create_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.create_dir(path).await,
        }
    }

    pub(crate) async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.sync_dir(path).await,
        }
    }

    pub(crate) fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match self {
            Io::Ring(ring) => ring.list_dir(path),
        }
    }

    pub(crate) fn listen(&self, addr: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
        match self {
            Io::Ring(ring) => ring.listen(addr, reuse_port).map(|listener| Listener(ListenerOf::Ring(listener))),
        }
    }

    pub(crate) async fn accept(&self, listener: &Listener) -> io::Result<(Socket, SocketAddr)> {
        match (self, &listener.0) {
            (Io::Ring(ring), ListenerOf::Ring(listener)) => {
                ring.accept(listener).await.map(|(socket, peer)| (Socket(SocketOf::Ring(socket)), peer))
            }
        }
    }

    pub(crate) async fn connect(&self, addr: SocketAddr) -> io::Result<Socket> {
        match self {
            Io::Ring(ring) => ring.connect(addr).await.map(|socket| Socket(SocketOf::Ring(socket))),
        }
    }

    pub(crate) async fn recv(&self, socket: &Socket, buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        match (self, &socket.0) {
            (Io::Ring(ring), SocketOf::Ring(socket)) => ring.recv(socket, buf).await,
        }
    }

    pub(crate) async fn send(&self, socket: &Socket, data: SendBuf) -> (io::Result<()>, SendBuf) {
        match (self, &socket.0) {
            (Io::Ring(ring), SocketOf::Ring(socket)) => ring.send(socket, data).await,
        }
    }

    pub(crate) fn shutdown(&self, socket: &Socket) {
        match (self, &socket.0) {
            (Io::Ring(ring), SocketOf::Ring(socket)) => ring.shutdown(socket),
        }
    }
}

impl Listener {
    /// The address that it is bound to, with the port that the system chose if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            ListenerOf::Ring(listener) => listener.local_addr(),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File")
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.local_addr())
    }
}
