//! The seam to the outside world: files, sockets, time and randomness pass through [`Io`], which is either the kernel's
//! ring or a seeded simulation of it. Everything above is deterministic under the latter.
//!
//! The types here are handles and arguments; the operations are methods of [`Reactor`](crate::reactor::Reactor).

pub(crate) mod random;
pub mod ring;
mod send;
mod setup;
pub mod sim;
mod slots;
#[cfg(test)]
mod tests;
mod transfer;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use bytes::BytesMut;

use crate::cache::{ChunkWriter, Slice};
use ring::{Ring, RingFile, RingListener, RingSocket};
use sim::{SimCore, SimFile, SimListener, SimSocket};

pub use send::{Part, SendBuf};
pub use setup::SetupError;

/// One core's access to files, sockets, time and randomness.
pub enum Io {
    /// The kernel, through io_uring.
    Ring(Ring),
    /// A core of a simulated world.
    Sim(SimCore),
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

/// Why a simulated world does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalled {
    /// It was to end here: [`SimConfig::crash_at`](sim::SimConfig::crash_at).
    Halted,
    /// Every task waits, and nothing is going to happen.
    Deadlock,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stalled::Halted => "the simulated world was halted",
            Stalled::Deadlock => "every task waits, and nothing is going to happen",
        })
    }
}

impl std::error::Error for Stalled {}

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteSync {
    /// The kernel has the bytes, or, past the page cache, the disk has them in its own cache.
    No,
    /// The bytes are durable: `RWF_DSYNC` of pwritev2(2).
    Data,
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
    Sim(SimFile),
}

/// A connected socket. Clones share it; it is closed when the last one is dropped and its operations have ended.
#[derive(Clone)]
pub struct Socket(SocketOf);

#[derive(Clone)]
enum SocketOf {
    Ring(RingSocket),
    Sim(SimSocket),
}

/// A listening socket.
#[derive(Clone)]
pub struct Listener(ListenerOf);

#[derive(Clone)]
enum ListenerOf {
    Ring(RingListener),
    Sim(SimListener),
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
            Io::Sim(sim) => sim.stats(),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Io::Ring(ring) => ring.now_ns(),
            Io::Sim(sim) => sim.now_ns(),
        }
    }

    pub(crate) fn unix_ms(&self) -> i64 {
        match self {
            Io::Ring(ring) => ring.unix_ms(),
            Io::Sim(sim) => sim.unix_ms(),
        }
    }

    /// A seed for this core's random numbers.
    pub(crate) fn seed(&self) -> u64 {
        match self {
            Io::Ring(ring) => ring.seed(),
            Io::Sim(sim) => sim.seed(),
        }
    }

    /// Submits what has been queued, waits as `wait` says, and wakes the owners of whatever has completed.
    pub(crate) fn turn(&self, wait: Wait) -> Result<(), Stalled> {
        match self {
            Io::Ring(ring) => {
                ring.turn(wait);
                Ok(())
            }
            Io::Sim(sim) => sim.turn(wait),
        }
    }

    /// When something happens next on this core, in a simulated world; the kernel does not tell.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        match self {
            Io::Ring(_) => None,
            Io::Sim(sim) => sim.next_ns(),
        }
    }

    /// A seeded number below `bound`, for whoever drives the cores of a simulated world.
    pub(crate) fn draw(&self, bound: u64) -> u64 {
        match self {
            Io::Ring(_) => not_simulated(),
            Io::Sim(sim) => sim.draw(bound),
        }
    }

    /// Lets the time of a simulated world pass until `at_ns`.
    pub(crate) fn pass_until(&self, at_ns: u64) {
        match self {
            Io::Ring(_) => not_simulated(),
            Io::Sim(sim) => sim.pass_until(at_ns),
        }
    }

    /// Where other cores of the process send wake-ups, if a core on this can sleep.
    pub(crate) fn wake_fd(&self) -> Option<RawFd> {
        match self {
            Io::Ring(ring) => Some(ring.wake_fd()),
            // Whoever drives the simulation looks at the flags.
            Io::Sim(_) => None,
        }
    }

    /// Ends the wait of the core whose [`Io::wake_fd`] is `fd`, when this turn's submissions go out.
    pub(crate) fn wake(&self, fd: RawFd) {
        match self {
            Io::Ring(ring) => ring.wake(fd),
            Io::Sim(_) => unreachable!("a simulated core has no ring to wake"),
        }
    }

    pub(crate) async fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        let opened = match self {
            Io::Ring(ring) => ring.open(path, how).await.map(FileOf::Ring),
            Io::Sim(sim) => sim.open(path, how).await.map(FileOf::Sim),
        };
        match opened {
            Ok(file) => Ok(File(file)),
            // Paths and the other flags are valid, so it is O_DIRECT that the file system objects to.
            Err(e) if how.direct && e.raw_os_error() == Some(libc::EINVAL) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, DirectRefused { path: path.to_owned() }))
            }
            Err(e) => Err(e),
        }
    }

    async fn write_some(&self, file: &File, pos: u64, data: Slice, from: usize, sync: WriteSync) -> (i32, Slice) {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.write_some(file, pos, data, from, sync).await,
            (Io::Sim(sim), FileOf::Sim(file)) => sim.write_some(file, pos, data, from, sync).await,
            _ => foreign(),
        }
    }

    async fn read_some(&self, file: &File, pos: u64, into: ChunkWriter, len: usize) -> (i32, ChunkWriter) {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.read_some(file, pos, into, len).await,
            (Io::Sim(sim), FileOf::Sim(file)) => sim.read_some(file, pos, into, len).await,
            _ => foreign(),
        }
    }

    pub(crate) fn write_now(&self, file: &File, pos: u64, data: &Slice) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.write_now(file, pos, data),
            (Io::Sim(sim), FileOf::Sim(file)) => sim.write_now(file, pos, data),
            _ => foreign(),
        }
    }

    pub(crate) async fn sync(&self, file: &File, data_only: bool) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.sync(file, data_only).await,
            (Io::Sim(sim), FileOf::Sim(file)) => sim.sync(file).await,
            _ => foreign(),
        }
    }

    pub(crate) async fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.allocate(file, len).await,
            (Io::Sim(sim), FileOf::Sim(file)) => sim.allocate(file, len).await,
            _ => foreign(),
        }
    }

    pub(crate) async fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.truncate(file, len).await,
            (Io::Sim(sim), FileOf::Sim(file)) => sim.truncate(file, len).await,
            _ => foreign(),
        }
    }

    pub(crate) fn file_len(&self, file: &File) -> io::Result<u64> {
        match (self, &file.0) {
            (Io::Ring(ring), FileOf::Ring(file)) => ring.file_len(file),
            (Io::Sim(sim), FileOf::Sim(file)) => Ok(sim.file_len(file)),
            _ => foreign(),
        }
    }

    /// True when `file` is the only one of its clones, and the file has one name.
    pub(crate) fn is_only_user(&self, file: &File) -> bool {
        match &file.0 {
            FileOf::Ring(file) => file.is_only_user(),
            FileOf::Sim(file) => file.is_only_user(),
        }
    }

    pub(crate) async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.rename(from, to).await,
            Io::Sim(sim) => sim.rename(from, to).await,
        }
    }

    pub(crate) async fn remove(&self, path: &Path, is_dir: bool) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.remove(path, is_dir).await,
            Io::Sim(sim) => sim.remove(path, is_dir).await,
        }
    }

    pub(crate) async fn create_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.create_dir(path).await,
            Io::Sim(sim) => sim.create_dir(path).await,
        }
    }

    pub(crate) async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Io::Ring(ring) => ring.sync_dir(path).await,
            Io::Sim(sim) => sim.sync_dir(path).await,
        }
    }

    pub(crate) fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match self {
            Io::Ring(ring) => ring.list_dir(path),
            Io::Sim(sim) => sim.list_dir(path),
        }
    }

    pub(crate) fn listen(&self, addr: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
        match self {
            Io::Ring(ring) => ring.listen(addr, reuse_port).map(ListenerOf::Ring),
            Io::Sim(sim) => sim.listen(addr, reuse_port).map(ListenerOf::Sim),
        }
        .map(Listener)
    }

    pub(crate) async fn accept(&self, listener: &Listener) -> io::Result<(Socket, SocketAddr)> {
        let (socket, peer) = match (self, &listener.0) {
            (Io::Ring(ring), ListenerOf::Ring(listener)) => {
                let (socket, peer) = ring.accept(listener).await?;
                (SocketOf::Ring(socket), peer)
            }
            (Io::Sim(sim), ListenerOf::Sim(listener)) => {
                let (socket, peer) = sim.accept(listener).await;
                (SocketOf::Sim(socket), peer)
            }
            _ => foreign(),
        };
        Ok((Socket(socket), peer))
    }

    pub(crate) async fn connect(&self, addr: SocketAddr) -> io::Result<Socket> {
        match self {
            Io::Ring(ring) => ring.connect(addr).await.map(SocketOf::Ring),
            Io::Sim(sim) => sim.connect(addr).await.map(SocketOf::Sim),
        }
        .map(Socket)
    }

    pub(crate) fn adopt(&self, stream: OwnedFd) -> Socket {
        match self {
            Io::Ring(ring) => Socket(SocketOf::Ring(ring.adopt(stream))),
            Io::Sim(_) => panic!("a simulated world has no descriptors"),
        }
    }

    pub(crate) async fn recv(&self, socket: &Socket, buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        match (self, &socket.0) {
            (Io::Ring(ring), SocketOf::Ring(socket)) => ring.recv(socket, buf).await,
            (Io::Sim(sim), SocketOf::Sim(socket)) => sim.recv(socket, buf).await,
            _ => foreign(),
        }
    }

    pub(crate) async fn send(&self, socket: &Socket, data: SendBuf) -> (io::Result<()>, SendBuf) {
        match (self, &socket.0) {
            (Io::Ring(ring), SocketOf::Ring(socket)) => ring.send(socket, data).await,
            (Io::Sim(sim), SocketOf::Sim(socket)) => sim.send(socket, data).await,
            _ => foreign(),
        }
    }

    pub(crate) fn shutdown(&self, socket: &Socket) {
        match (self, &socket.0) {
            (Io::Ring(ring), SocketOf::Ring(socket)) => ring.shutdown(socket),
            (Io::Sim(sim), SocketOf::Sim(socket)) => sim.shutdown(socket),
            _ => foreign(),
        }
    }
}

#[cold]
fn not_simulated() -> ! {
    panic!("cores on rings run by themselves, each on its thread")
}

/// A handle goes only with the kind of [`Io`] that made it.
#[cold]
fn foreign() -> ! {
    panic!("a handle of another Io")
}

impl File {
    fn is_direct(&self) -> bool {
        match &self.0 {
            FileOf::Ring(file) => file.is_direct(),
            FileOf::Sim(file) => file.is_direct(),
        }
    }
}

impl Listener {
    /// The address that it is bound to, with the port that the system chose if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            ListenerOf::Ring(listener) => listener.local_addr(),
            ListenerOf::Sim(listener) => listener.local_addr(),
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
