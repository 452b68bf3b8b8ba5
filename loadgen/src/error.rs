//! Why a run could not begin, or could not be judged.

use std::fmt;

use wire::EncodeError;
use wire::api::ApiKey;
use wire::compression::Codec;

use crate::assign::TooFewConnections;
use crate::client::ClientError;
use crate::cpu::Meter;
use crate::link::Lost;
use crate::workload::WorkloadError;

/// Why a run could not begin, or could not be judged.
#[derive(Debug)]
pub enum RunError {
    /// The broker could not be talked to.
    Client(ClientError),
    /// Not all partitions would have a connection.
    Connections(TooFewConnections),
    /// The batches cannot be made.
    Workload(WorkloadError),
    /// A request cannot be written.
    Encode(EncodeError),
    /// A prepared request cannot be written.
    Prepare(Lost),
    /// The broker's versions do not know this codec.
    CodecUnknown {
        /// The codec.
        codec: Codec,
        /// The API whose version is too old.
        api: ApiKey,
        /// The newest version that both sides speak.
        version: i16,
    },
    /// The broker's CPU time cannot be read.
    Meter {
        /// Where it was to be read.
        meter: Meter,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The coordinator of a transactional id is not the broker that its connection writes to.
    CoordinatorElsewhere {
        /// The transactional id.
        id: String,
        /// `HOST:PORT` of its coordinator.
        coordinator: String,
        /// `HOST:PORT` of the leader.
        leader: String,
    },
    /// Groups did not settle in time.
    NotSettled {
        /// Groups whose partitions all had one owner.
        settled: usize,
        /// All groups.
        groups: usize,
        /// Why the first connection was lost, if one was.
        why: Option<String>,
    },
    /// A thread of the generator died.
    ThreadDied,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Client(error) => error.fmt(f),
            RunError::Connections(error) => error.fmt(f),
            RunError::Workload(error) => error.fmt(f),
            RunError::Encode(error) => write!(f, "a request cannot be written: {error}"),
            RunError::Prepare(error) => error.fmt(f),
            RunError::CodecUnknown { codec, api, version } => {
                write!(f, "{api} version {version}, the newest that the broker speaks, knows no {codec}")
            }
            RunError::Meter { meter, source } => {
                write!(f, "the CPU time of {} cannot be read: {source}", meter.describe())
            }
            RunError::CoordinatorElsewhere { id, coordinator, leader } => write!(
                f,
                "the coordinator of {id} is {coordinator}, its connection writes to {leader}: only one broker can be loaded so"
            ),
            RunError::NotSettled { settled, groups, why } => {
                write!(f, "of {groups} groups {settled} came to an assignment of every partition to one member")?;
                why.as_ref().map_or(Ok(()), |why| write!(f, "; a connection was lost because {why}"))
            }
            RunError::ThreadDied => f.write_str("a thread of the generator died"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Client(error) => Some(error),
            RunError::Connections(error) => Some(error),
            RunError::Workload(error) => Some(error),
            RunError::Encode(error) => Some(error),
            RunError::Prepare(error) => Some(error),
            RunError::Meter { source, .. } => Some(source),
            RunError::CodecUnknown { .. }
            | RunError::CoordinatorElsewhere { .. }
            | RunError::NotSettled { .. }
            | RunError::ThreadDied => None,
        }
    }
}

impl From<ClientError> for RunError {
    fn from(error: ClientError) -> RunError {
        RunError::Client(error)
    }
}

impl From<TooFewConnections> for RunError {
    fn from(error: TooFewConnections) -> RunError {
        RunError::Connections(error)
    }
}

impl From<WorkloadError> for RunError {
    fn from(error: WorkloadError) -> RunError {
        RunError::Workload(error)
    }
}

impl From<EncodeError> for RunError {
    fn from(error: EncodeError) -> RunError {
        RunError::Encode(error)
    }
}
