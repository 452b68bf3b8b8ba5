//! The Kafka protocol, pure: schema tables, generated messages, frames and record batches.
