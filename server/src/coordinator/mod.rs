//! The coordinators: what runs the state machines of groups and transactions on the partitions of their own topics.
//!
//! `__consumer_offsets` and `__transaction_state` are topics like others, and the core that owns a partition owns the
//! state that its records describe. A request for a group or a transactional id goes to the core of its partition:
//!
//! ```text
//! request ─▶ owner core: state machine ─▶ records ─▶ Store::append ─▶ durable ─▶ answer
//!                             ▲                                                  │
//!              log, at start ─┘     deadlines, changes of the metadata ─▶ records┘
//! ```
//!
//! The state changes when a record is appended, as in Kafka, and the answer leaves when the record is durable. So many
//! requests of one partition share one commit, and nothing that a client was told is lost with the process.

mod driver;
mod log;
mod topics;

pub use driver::{Coordinator, NotEnded, Unavailable};
pub use topics::{LogTopic, ensure, partition_among, partition_of};

#[cfg(test)]
mod tests;
