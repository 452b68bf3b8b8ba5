//! What an operation owns while the kernel works on it, and the submission that describes it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::rc::Rc;

use bytes::BytesMut;
use io_uring::{opcode, squeue, types};
use socket2::SockAddr;

use super::super::WriteSync;
use super::super::send::{Progress, SendBuf};
use super::files::FileHandle;
use super::sockets::{Acceptor, SocketHandle};
use crate::cache::{ChunkWriter, Slice};
use crate::limits::MAX_IOVECS;

/// `IORING_RECVSEND_POLL_FIRST` (linux/io_uring.h): look whether the socket is ready before trying to transfer.
const POLL_FIRST: u16 = 1 << 0;

/// Permissions of new files and directories, before the umask.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// An operation and everything that its submission points to.
pub(super) enum Op {
    Open { path: CString, flags: i32 },
    Rename { from: CString, to: CString },
    Remove { path: CString, is_dir: bool },
    CreateDir { path: CString },
    Write { file: Rc<FileHandle>, pos: u64, data: Slice, from: usize, sync: WriteSync },
    Read { file: Rc<FileHandle>, pos: u64, into: ChunkWriter, len: usize },
    Sync { file: Rc<FileHandle>, data_only: bool },
    Allocate { file: Rc<FileHandle>, len: u64 },
    Truncate { file: Rc<FileHandle>, len: u64 },
    Accept(Rc<Acceptor>),
    Connect { socket: Rc<SocketHandle>, addr: Box<SockAddr> },
    Recv { socket: Rc<SocketHandle>, buf: BytesMut, poll_first: bool },
    Send { socket: Rc<SocketHandle>, state: Box<SendState> },
}

impl Op {
    /// The submission. It points only to heap memory which `self` owns, and so stays valid when `self` is moved.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        let cwd = types::Fd(libc::AT_FDCWD);
        match self {
            Op::Open { path, flags } => {
                opcode::OpenAt::new(cwd, path.as_ptr()).flags(*flags | libc::O_CLOEXEC).mode(FILE_MODE).build()
            }
            Op::Rename { from, to } => opcode::RenameAt::new(cwd, from.as_ptr(), cwd, to.as_ptr()).build(),
            Op::Remove { path, is_dir } => {
                opcode::UnlinkAt::new(cwd, path.as_ptr()).flags(if *is_dir { libc::AT_REMOVEDIR } else { 0 }).build()
            }
            Op::CreateDir { path } => opcode::MkDirAt::new(cwd, path.as_ptr()).mode(DIR_MODE).build(),
            Op::Write { file, pos, data, from, sync } => {
                let bytes = &data.as_bytes()[*from..];
                let flags = if *sync == WriteSync::Data { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(file.fd(), bytes.as_ptr(), bytes.len() as u32).offset(*pos).rw_flags(flags).build()
            }
            Op::Read { file, pos, into, len } => {
                let bytes = into.spare(*len);
                opcode::Read::new(file.fd(), bytes.as_mut_ptr(), bytes.len() as u32).offset(*pos).build()
            }
            Op::Sync { file, data_only } => {
                let flags = if *data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
                opcode::Fsync::new(file.fd()).flags(flags).build()
            }
            Op::Allocate { file, len } => opcode::Fallocate::new(file.fd(), *len).build(),
            Op::Truncate { file, len } => opcode::Ftruncate::new(file.fd(), *len).build(),
            Op::Accept(acceptor) => opcode::AcceptMulti::new(acceptor.fd()).flags(libc::SOCK_CLOEXEC).build(),
            Op::Connect { socket, addr } => opcode::Connect::new(socket.fd(), addr.as_ptr().cast(), addr.len()).build(),
            Op::Recv { socket, buf, poll_first } => {
                let room = buf.spare_capacity_mut();
                let len = u32::try_from(room.len()).unwrap_or(u32::MAX);
                opcode::Recv::new(socket.fd(), room.as_mut_ptr().cast(), len)
                    .ioprio(if *poll_first { POLL_FIRST } else { 0 })
                    .build()
            }
            Op::Send { socket, state } => state.entry(socket.fd()),
        }
    }

    /// True when the operation may last for ever, because it waits for somebody else: it is cancelled when nobody awaits
    /// it any more. Operations on files end by themselves.
    pub(super) fn waits_for_peer(&self) -> bool {
        matches!(self, Op::Accept(_) | Op::Connect { .. } | Op::Recv { .. } | Op::Send { .. })
    }
}

/// A path as the kernel takes it.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))
}

/// A send under way. Boxed in its operation, because its message header holds the address of its iovecs and the kernel is
/// given the address of the header.
pub(super) struct SendState {
    pub(super) buf: SendBuf,
    pub(super) progress: Progress,
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl SendState {
    pub(super) fn new() -> SendState {
        let header = libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        SendState { buf: SendBuf::default(), progress: Progress::default(), iovecs: Vec::new(), header }
    }

    /// The submission for what is left, or as much of it as fits into one message.
    fn entry(&mut self, fd: types::Fd) -> squeue::Entry {
        self.gather();
        // The kernel goes on by itself after a partial transfer, and a closed connection is an error, not a signal.
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        if let [only] = self.iovecs[..]
            && let Ok(len) = u32::try_from(only.iov_len)
        {
            return opcode::Send::new(fd, only.iov_base.cast(), len).flags(flags).build();
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len();
        opcode::SendMsg::new(fd, &raw const self.header).flags(flags as u32).build()
    }

    /// Lists the memory that is to be sent next. Pieces that lie side by side become one.
    fn gather(&mut self) {
        self.iovecs.clear();
        let mut offset = self.progress.offset;
        for part in &self.buf.parts[self.progress.part..] {
            let bytes = &self.buf.bytes(part)[offset..];
            offset = 0;
            if bytes.is_empty() {
                continue;
            }
            if let Some(last) = self.iovecs.last_mut()
                && last.iov_base.addr() + last.iov_len == bytes.as_ptr().addr()
            {
                last.iov_len += bytes.len();
                continue;
            }
            if self.iovecs.len() == MAX_IOVECS {
                break;
            }
            self.iovecs.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        }
    }
}
