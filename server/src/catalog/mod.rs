//! The catalog: the log of everything that is decided about topics, configurations and brokers.
//!
//! It is Kafka's metadata log on one broker: the partition `__cluster_metadata-0`, whose records are Kafka's own,
//! framed as KRaft frames them, so that stock tools read it. Replaying it gives the [`Image`](crate::image::Image).
//! Everything here is pure: bytes in, bytes out. The store keeps the bytes.

mod action;
mod record;

pub use action::{Action, ConfigTarget, new_topic_id};
pub use record::{CatalogError, Record, read_batch, write_batch};
