//! How the process ends: a code for each kind of cause, so that whoever starts it can act without reading its log.

use crate::broker::BrokerError;
use crate::config::load::LoadError;
use crate::config::options::OptionsError;
use crate::data_dir::DataDirError;
use engine::io::SetupError;

/// The kinds of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was asked to end, and everything is on disk.
    Clean = 0,
    /// Anything that has no code of its own.
    Other = 1,
    /// Flags, variables or the file cannot be used.
    Settings = 2,
    /// Another process uses the data directory.
    Locked = 3,
    /// The data directory is somebody else's, of a newer program, or of another broker.
    ForeignDirectory = 4,
    /// A port is taken, or an address cannot be listened on.
    Address = 5,
    /// The kernel refuses io_uring.
    IoUring = 6,
    /// The file system refuses direct access.
    Direct = 7,
    /// There is too little memory, or too little that may be locked.
    Memory = 8,
    /// The disk fails, or what it holds is damaged.
    Storage = 9,
}

impl Exit {
    /// All of them, by their codes.
    pub const ALL: &[Exit] = &[
        Exit::Clean,
        Exit::Other,
        Exit::Settings,
        Exit::Locked,
        Exit::ForeignDirectory,
        Exit::Address,
        Exit::IoUring,
        Exit::Direct,
        Exit::Memory,
        Exit::Storage,
    ];

    /// What it means, for the documentation.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Clean => "asked to end; everything is on disk",
            Exit::Other => "anything else",
            Exit::Settings => "flags, variables or the file cannot be used",
            Exit::Locked => "another process uses the data directory",
            Exit::ForeignDirectory => "the data directory is not Weir's, of a newer Weir, or of another broker",
            Exit::Address => "a port is taken, or an address cannot be listened on",
            Exit::IoUring => "the kernel refuses io_uring",
            Exit::Direct => "the file system refuses direct access (O_DIRECT)",
            Exit::Memory => "too little memory, or too little that may be locked",
            Exit::Storage => "the disk fails, or what it holds is damaged",
        }
    }

    /// The code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<&LoadError> for Exit {
    fn from(_: &LoadError) -> Exit {
        Exit::Settings
    }
}

impl From<&OptionsError> for Exit {
    fn from(error: &OptionsError) -> Exit {
        match error {
            OptionsError::TooLittleMemory { .. } | OptionsError::TooMuchMemory { .. } => Exit::Memory,
            _ => Exit::Settings,
        }
    }
}

impl From<&DataDirError> for Exit {
    fn from(error: &DataDirError) -> Exit {
        match error {
            DataDirError::Locked { .. } => Exit::Locked,
            DataDirError::DirectRefused { .. } => Exit::Direct,
            DataDirError::Io { .. } | DataDirError::BadMeta { .. } => Exit::Storage,
            DataDirError::Foreign { .. }
            | DataDirError::Kafkas { .. }
            | DataDirError::Newer { .. }
            | DataDirError::OtherNode { .. }
            | DataDirError::OtherCluster { .. } => Exit::ForeignDirectory,
        }
    }
}

impl From<&BrokerError> for Exit {
    fn from(error: &BrokerError) -> Exit {
        match error {
            BrokerError::Cores(_) => match error.ring_refusal() {
                Some(SetupError::OutOfMemory) => Exit::Memory,
                Some(SetupError::TooManyFiles) | None => Exit::Other,
                Some(_) => Exit::IoUring,
            },
            BrokerError::Resolve { .. } | BrokerError::PortTaken(_) | BrokerError::Listen { .. } => Exit::Address,
            BrokerError::Storage(_)
            | BrokerError::NoCatalog { .. }
            | BrokerError::Unreadable(_)
            | BrokerError::Damaged(_)
            | BrokerError::Register(_)
            | BrokerError::StoreFailed(_) => Exit::Storage,
            BrokerError::ReadyFile { .. } | BrokerError::Signals(_) => Exit::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../docs/running.md");
        for (code, exit) in (0..).zip(Exit::ALL) {
            assert_eq!(exit.code(), code);
            let row = format!("| {code} | {} |", exit.meaning());
            assert!(page.contains(&row), "docs/running.md lacks the row {row:?}");
        }
    }
}
