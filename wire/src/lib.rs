//! The Kafka protocol, pure: schema tables, generated messages, frames and record batches.

pub mod api;
pub mod batch;
pub mod compression;
pub mod error;
pub mod fetch;
pub mod header;
mod message;
pub mod message_set;
pub mod messages;
pub mod produce;
mod produce_fetch;
pub mod put;
mod reader;
pub mod records;
#[cfg(test)]
mod test_random;
mod uuid;

pub use message::Message;
pub use put::EncodeError;
pub use reader::{DEFAULT_BUDGET, DecodeError, Reader};
pub use uuid::{ParseUuidError, Uuid};
