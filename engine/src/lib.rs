//! The store and the per-core runtime of Weir.

pub mod cache;
mod checkpoint;
mod commit;
mod direct;
mod gather;
mod index;
pub mod io;
mod join;
pub mod journal;
mod journal_files;
mod journal_reader;
mod lifecycle;
pub mod limits;
mod log;
pub mod mailbox;
mod markers;
mod pace;
pub mod partition;
mod producer;
pub mod reactor;
pub mod read;
pub mod recovery;
mod retention;
mod segment;
pub mod store;
mod transactions;

pub use commit::StoreFailed;
pub use journal::PartitionKey;
pub use lifecycle::PartitionSpec;
pub use partition::{AppendError, Appended, Origin, PartitionConfig};
pub use producer::{Marker, ProducerInfo};
pub use read::{Isolation, PartitionInfo, Read, ReadData, ReadError};
pub use recovery::PartitionSeed;
pub use store::{Durability, Slot, Store, StoreOptions};
pub use transactions::{AbortedTransaction, TransactionGuard};
