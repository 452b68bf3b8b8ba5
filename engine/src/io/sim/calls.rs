//! What the operations of a simulated core do when their time has come.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;

use bytes::BytesMut;

use super::super::send::{Progress, SendBuf};
use super::super::slots::{Done, InFlight, Key};
use super::super::transfer::count;
use super::super::{DirEntry, Open, WriteSync};
use super::disk::{DirRef, FileRef, SECTOR_BYTES};
use super::net::{SimListener, SimSocket, pair};
use super::{Call, Core, SimCore, State};
use crate::cache::{ChunkWriter, Slice};
use crate::limits::BLOCK_BYTES;

/// An open file of the simulated disk.
#[derive(Clone)]
pub(in crate::io) struct SimFile(Rc<Opened>);

struct Opened {
    file: FileRef,
    /// The name under which it was opened.
    path: PathBuf,
    direct: bool,
    writable: bool,
}

impl SimFile {
    pub(in crate::io) fn is_direct(&self) -> bool {
        self.0.direct
    }

    pub(in crate::io) fn is_only_user(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.file.borrow_mut().closed();
    }
}

/// An operation and what it owns.
pub(super) enum Op {
    Open { path: PathBuf, how: Open, opened: Option<SimFile> },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf, is_dir: bool },
    CreateDir { path: PathBuf },
    SyncDir { path: PathBuf, begun: Result<(DirRef, u64), i32> },
    Write { file: SimFile, pos: u64, data: Slice, from: usize, sync: WriteSync, number: u64 },
    Read { file: SimFile, pos: u64, into: ChunkWriter, len: usize },
    Sync { file: SimFile, upto: u64 },
    Allocate { file: SimFile, len: u64 },
    Truncate { file: SimFile, len: u64 },
    Connect { addr: SocketAddr, connected: Option<SimSocket> },
    Recv { socket: SimSocket, buf: BytesMut },
    Send { socket: SimSocket, buf: SendBuf, progress: Progress },
}

impl Op {
    pub(super) fn is_on_files(&self) -> bool {
        !matches!(self, Op::Connect { .. } | Op::Recv { .. } | Op::Send { .. })
    }

    /// A number for the digest of the schedule.
    pub(super) fn kind(&self) -> u64 {
        match self {
            Op::Open { .. } => 1,
            Op::Rename { .. } => 2,
            Op::Remove { .. } => 3,
            Op::CreateDir { .. } => 4,
            Op::SyncDir { .. } => 5,
            Op::Write { .. } => 6,
            Op::Read { .. } => 7,
            Op::Sync { .. } => 8,
            Op::Allocate { .. } => 9,
            Op::Truncate { .. } => 10,
            Op::Connect { .. } => 11,
            Op::Recv { .. } => 12,
            Op::Send { .. } => 13,
        }
    }

    /// What it is called by in ordered failures, and on which path it works.
    fn call(&self) -> Option<(Call, &Path)> {
        Some(match self {
            Op::Open { path, .. } => (Call::Open, path),
            Op::Rename { from, .. } => (Call::Rename, from),
            Op::Remove { path, .. } => (Call::Remove, path),
            Op::CreateDir { path } => (Call::CreateDir, path),
            Op::SyncDir { path, .. } => (Call::SyncDir, path),
            Op::Write { file, .. } => (Call::Write, &file.0.path),
            Op::Read { file, .. } => (Call::Read, &file.0.path),
            Op::Sync { file, .. } => (Call::Sync, &file.0.path),
            Op::Allocate { file, .. } => (Call::Allocate, &file.0.path),
            Op::Truncate { file, .. } => (Call::Truncate, &file.0.path),
            Op::Connect { .. } | Op::Recv { .. } | Op::Send { .. } => return None,
        })
    }
}

/// Carries out an operation whose time has come. `None`: it goes on later.
pub(super) fn happen(core: &Core, state: &mut State, key: Key, op: &mut Op) -> Option<i32> {
    let failure = op.call().and_then(|(call, path)| state.ordered_failure(call, path));
    match op {
        Op::Connect { addr, connected } => return Some(connect(core, state, *addr, connected)),
        Op::Recv { socket, buf } => return receive(core, state, key, socket, buf),
        Op::Send { socket, buf, progress } => return send(core, state, key, socket, buf, progress),
        Op::Write { file, pos, data, from, sync, number } => {
            file.0.file.borrow_mut().end_write(*number);
            return Some(write(state, file, *pos, &data.as_bytes()[*from..], *sync, failure));
        }
        Op::Sync { file, upto } => return Some(sync(state, file, *upto, failure)),
        _ => {}
    }
    if failure.is_some() {
        return failure;
    }
    let done = match op {
        Op::Open { path, how, opened } => open(state, path, *how).map(|file| *opened = Some(file)),
        Op::Rename { from, to } => state.disk.rename(from, to),
        Op::Remove { path, is_dir } => state.disk.remove(path, *is_dir),
        Op::CreateDir { path } => state.disk.create_dir(path),
        Op::SyncDir { begun, .. } => begun.clone().and_then(|(dir, upto)| {
            if state.random.chance(state.config.sync_error) {
                return Err(-libc::EIO);
            }
            dir.borrow_mut().sync(upto);
            Ok(())
        }),
        Op::Read { file, pos, into, len } => return Some(read(state, file, *pos, into.spare(*len))),
        Op::Allocate { file, len } => allocate(state, file, *len),
        Op::Truncate { file, len } => truncate(file, *len),
        Op::Write { .. } | Op::Sync { .. } | Op::Connect { .. } | Op::Recv { .. } | Op::Send { .. } => {
            unreachable!("handled above")
        }
    };
    Some(done.map_or_else(|errno| errno, |()| 0))
}

fn open(state: &mut State, path: &Path, how: Open) -> Result<SimFile, i32> {
    if how.direct && !state.config.has_direct {
        return Err(-libc::EINVAL);
    }
    let file = state.disk.open(path, how)?;
    Ok(SimFile(Rc::new(Opened { file, path: path.to_owned(), direct: how.direct, writable: how.write })))
}

fn write(state: &mut State, file: &SimFile, pos: u64, bytes: &[u8], sync: WriteSync, failure: Option<i32>) -> i32 {
    if !file.0.writable {
        return -libc::EBADF;
    }
    if file.0.direct && !is_aligned(pos, bytes) {
        return -libc::EINVAL;
    }
    let mut node = file.0.file.borrow_mut();
    let errno = failure.or_else(|| state.random.chance(state.config.write_error).then_some(-libc::EIO));
    if let Some(errno) = errno {
        // Any part of it may have been written.
        let part = state.random.below(bytes.len() as u64 + 1) as usize;
        let part = state.disk.room(&node, pos, part).unwrap_or(0);
        if errno != -libc::ENOSPC && part > 0 {
            node.write(pos, &bytes[..part]);
        }
        return errno;
    }
    let mut len = match state.disk.room(&node, pos, bytes.len()) {
        Ok(len) => len,
        Err(errno) => return errno,
    };
    // A direct transfer is short by whole sectors.
    len = shorten(state, len, if file.0.direct { SECTOR_BYTES } else { 1 });
    let mut at = pos;
    if state.random.chance(state.config.misdirected_write) {
        at = state.random.below(node.len() as u64 / BLOCK_BYTES as u64 + 1) * BLOCK_BYTES as u64;
        len = state.disk.room(&node, at, len).unwrap_or(0);
    }
    if sync == WriteSync::No {
        node.write(at, &bytes[..len]);
    } else if state.random.chance(state.config.sync_error) {
        // The sync inside of the call fails: of what was written nothing is known.
        node.write(at, &bytes[..len]);
        return -libc::EIO;
    } else {
        node.write_durable(at, &bytes[..len]);
    }
    len as i32
}

fn read(state: &mut State, file: &SimFile, pos: u64, out: &mut [u8]) -> i32 {
    if file.0.direct && !is_aligned(pos, out) {
        return -libc::EINVAL;
    }
    if state.random.chance(state.config.read_error) {
        return -libc::EIO;
    }
    let node = file.0.file.borrow();
    // A direct read ends within a block only at the end of the file.
    let len = shorten(state, out.len(), if file.0.direct { BLOCK_BYTES } else { 1 });
    node.read(pos, &mut out[..len]) as i32
}

/// All of a transfer of `len` bytes, or, at the configured rate, some units of it.
fn shorten(state: &mut State, len: usize, unit: usize) -> usize {
    if len < 2 * unit || !state.random.chance(state.config.short_transfer) {
        return len;
    }
    state.random.between(1, (len / unit) as u64 - 1) as usize * unit
}

fn sync(state: &mut State, file: &SimFile, upto: u64, failure: Option<i32>) -> i32 {
    let mut node = file.0.file.borrow_mut();
    let errno = failure.or_else(|| state.random.chance(state.config.sync_error).then_some(-libc::EIO));
    match errno {
        Some(errno) => {
            node.sync_failed(upto, &mut state.random);
            errno
        }
        None => {
            node.sync(upto);
            0
        }
    }
}

fn allocate(state: &mut State, file: &SimFile, len: u64) -> Result<(), i32> {
    if !state.config.has_allocate {
        return Err(-libc::EOPNOTSUPP);
    }
    if !file.0.writable {
        return Err(-libc::EBADF);
    }
    let mut node = file.0.file.borrow_mut();
    let now = node.len() as u64;
    if len > now {
        let missing = (len - now) as usize;
        if state.disk.room(&node, now, missing)? < missing {
            return Err(-libc::ENOSPC);
        }
        node.set_len(len);
    }
    Ok(())
}

fn truncate(file: &SimFile, len: u64) -> Result<(), i32> {
    if !file.0.writable {
        return Err(-libc::EINVAL);
    }
    file.0.file.borrow_mut().set_len(len);
    Ok(())
}

fn is_aligned(pos: u64, memory: &[u8]) -> bool {
    (pos as usize | memory.len() | memory.as_ptr().addr()).is_multiple_of(BLOCK_BYTES)
}

fn connect(core: &Core, state: &mut State, addr: SocketAddr, connected: &mut Option<SimSocket>) -> i32 {
    let listeners = state.net.at(addr);
    if listeners.is_empty() {
        return -libc::ECONNREFUSED;
    }
    let listener = &listeners[state.random.below(listeners.len() as u64) as usize];
    let (here, there) = pair(&Rc::downgrade(&core.world));
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), state.net.free_port());
    listener.queue.borrow_mut().push_back((there, from));
    state.woken.append(&mut listener.waiters.borrow_mut());
    *connected = Some(here);
    0
}

fn receive(core: &Core, state: &mut State, key: Key, socket: &SimSocket, buf: &mut BytesMut) -> Option<i32> {
    maybe_reset(state, socket);
    let incoming = &socket.0.incoming;
    let mut pipe = incoming.borrow_mut();
    if pipe.reset {
        return Some(-libc::ECONNRESET);
    }
    if pipe.bytes.is_empty() {
        if pipe.ended {
            return Some(0);
        }
        pipe.receiving.push((core.number, key));
        return None;
    }
    let most = pipe.bytes.len().min(buf.capacity() - buf.len());
    let len = piece(state, most);
    buf.extend(pipe.bytes.drain(..len));
    drop(pipe);
    state.unpark(incoming);
    Some(len as i32)
}

fn send(
    core: &Core,
    state: &mut State,
    key: Key,
    socket: &SimSocket,
    buf: &SendBuf,
    progress: &mut Progress,
) -> Option<i32> {
    maybe_reset(state, socket);
    let outgoing = &socket.0.outgoing;
    let mut pipe = outgoing.borrow_mut();
    if pipe.reset {
        return Some(-libc::ECONNRESET);
    }
    if pipe.ended || pipe.refused {
        return Some(-libc::EPIPE);
    }
    let room = state.config.socket_buffer_bytes.max(1).saturating_sub(pipe.bytes.len());
    if room == 0 {
        pipe.sending.push((core.number, key));
        return None;
    }
    let mut left = piece(state, room);
    while left > 0 && !progress.is_done(buf) {
        let bytes = &buf.bytes(&buf.parts[progress.part])[progress.offset..];
        let len = bytes.len().min(left);
        pipe.bytes.extend(&bytes[..len]);
        progress.advance(buf, len);
        left -= len;
    }
    drop(pipe);
    state.unpark(outgoing);
    if progress.is_done(buf) {
        return Some(0);
    }
    state.schedule(core.number, key, state.config.net_ns);
    None
}

/// All of what could be transferred, or a part.
fn piece(state: &mut State, most: usize) -> usize {
    if state.random.coin() { most } else { state.random.between(1, most as u64) as usize }
}

fn maybe_reset(state: &mut State, socket: &SimSocket) {
    if state.random.chance(state.config.reset) {
        for pipe in socket.0.reset() {
            state.unpark(&pipe);
        }
    }
}

impl SimCore {
    pub(in crate::io) async fn open(&self, path: &Path, how: Open) -> io::Result<SimFile> {
        let done = self.on_files(Op::Open { path: path.to_owned(), how, opened: None }).await;
        let Op::Open { opened, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        count(done.result).map(|_| opened.expect("opened without an error"))
    }

    pub(in crate::io) async fn write_some(
        &self,
        file: &SimFile,
        pos: u64,
        data: Slice,
        from: usize,
        sync: WriteSync,
    ) -> (i32, Slice) {
        let number = file.0.file.borrow_mut().begin_write(pos, &data.as_bytes()[from..]);
        let done = self.on_files(Op::Write { file: file.clone(), pos, data, from, sync, number }).await;
        let Op::Write { data, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        (done.result, data)
    }

    pub(in crate::io) fn write_now(&self, file: &SimFile, pos: u64, data: &Slice) -> io::Result<()> {
        let mut state = self.state().borrow_mut();
        if state.halted || state.config.crash_at == Some(state.steps) {
            state.halted = true;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.steps += 1;
        let failure = state.ordered_failure(Call::Write, &file.0.path);
        // A short write is continued by the call itself.
        let mut from = 0;
        while from < data.len() {
            let result = write(&mut state, file, pos + from as u64, &data.as_bytes()[from..], WriteSync::No, failure);
            let now_ns = state.now_ns;
            state.digest([now_ns, self.0.number as u64, 14, result as u64]);
            match count(result)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => from += written,
            }
        }
        Ok(())
    }

    pub(in crate::io) async fn read_some(
        &self,
        file: &SimFile,
        pos: u64,
        into: ChunkWriter,
        len: usize,
    ) -> (i32, ChunkWriter) {
        let done = self.on_files(Op::Read { file: file.clone(), pos, into, len }).await;
        let Op::Read { into, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        (done.result, into)
    }

    pub(in crate::io) async fn sync(&self, file: &SimFile) -> io::Result<()> {
        // It covers what has completed by now, and nothing that is in flight.
        let upto = file.0.file.borrow().sync_point();
        self.run(Op::Sync { file: file.clone(), upto }).await
    }

    pub(in crate::io) async fn allocate(&self, file: &SimFile, len: u64) -> io::Result<()> {
        self.run(Op::Allocate { file: file.clone(), len }).await
    }

    pub(in crate::io) async fn truncate(&self, file: &SimFile, len: u64) -> io::Result<()> {
        self.run(Op::Truncate { file: file.clone(), len }).await
    }

    pub(in crate::io) fn file_len(&self, file: &SimFile) -> u64 {
        file.0.file.borrow().len() as u64
    }

    pub(in crate::io) async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Op::Rename { from: from.to_owned(), to: to.to_owned() }).await
    }

    pub(in crate::io) async fn remove(&self, path: &Path, is_dir: bool) -> io::Result<()> {
        self.run(Op::Remove { path: path.to_owned(), is_dir }).await
    }

    pub(in crate::io) async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Op::CreateDir { path: path.to_owned() }).await
    }

    pub(in crate::io) async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = self.state().borrow().disk.dir(path);
        let begun = dir.map(|dir| {
            let upto = dir.borrow().sync_point();
            (dir, upto)
        });
        self.run(Op::SyncDir { path: path.to_owned(), begun }).await
    }

    pub(in crate::io) fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.state().borrow().disk.list(path).map_err(|errno| io::Error::from_raw_os_error(-errno))
    }

    pub(in crate::io) fn listen(&self, addr: SocketAddr, reuse_port: bool) -> io::Result<SimListener> {
        let mut state = self.state().borrow_mut();
        state.net.listen(addr, reuse_port).map_err(|errno| io::Error::from_raw_os_error(-errno))
    }

    pub(in crate::io) async fn accept(&self, listener: &SimListener) -> (SimSocket, SocketAddr) {
        poll_fn(|cx| {
            if let Some(accepted) = listener.0.queue.borrow_mut().pop_front() {
                return Poll::Ready(accepted);
            }
            let mut waiters = listener.0.waiters.borrow_mut();
            if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    pub(in crate::io) async fn connect(&self, addr: SocketAddr) -> io::Result<SimSocket> {
        let done = self.on_net(Op::Connect { addr, connected: None }).await;
        let Op::Connect { connected, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        count(done.result).map(|_| connected.expect("connected without an error"))
    }

    pub(in crate::io) async fn recv(&self, socket: &SimSocket, buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        assert!(buf.capacity() > buf.len(), "a receive needs spare capacity");
        let done = self.on_net(Op::Recv { socket: socket.clone(), buf }).await;
        let Op::Recv { buf, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        (count(done.result), buf)
    }

    pub(in crate::io) async fn send(&self, socket: &SimSocket, buf: SendBuf) -> (io::Result<()>, SendBuf) {
        let mut progress = Progress::default();
        progress.advance(&buf, 0);
        if progress.is_done(&buf) {
            return (Ok(()), buf);
        }
        let done = self.on_net(Op::Send { socket: socket.clone(), buf, progress }).await;
        let Op::Send { buf, .. } = done.payload else { unreachable!("an operation keeps its kind") };
        (count(done.result).map(|_| ()), buf)
    }

    async fn run(&self, op: Op) -> io::Result<()> {
        count(self.on_files(op).await.result).map(|_| ())
    }

    async fn on_files(&self, op: Op) -> Done<Op> {
        let delay_ns = self.state().borrow().config.file_ns;
        self.submit(op, delay_ns).await
    }

    async fn on_net(&self, op: Op) -> Done<Op> {
        let delay_ns = self.state().borrow().config.net_ns;
        self.submit(op, delay_ns).await
    }

    fn submit(&self, op: Op, delay_ns: (u64, u64)) -> InFlight<'_, Op> {
        let mut stats = self.0.stats.get();
        stats.sqes += 1;
        self.0.stats.set(stats);
        let key = self.0.slots.borrow_mut().insert(op);
        self.state().borrow_mut().schedule(self.0.number, key, delay_ns);
        InFlight::new(&self.0.slots, key)
    }
}
