//! Stock clients against the broker, each provisioned by itself in a pinned version (`tests/versions.toml`).
//!
//! `cargo test --test clients -- --ignored` runs them against Weir. With `WEIR_TEST_PEER=kafka` they run against Apache
//! Kafka, which shows that what they expect is what Kafka does.

mod go;
mod groups;
mod java;
mod kcat;
mod legacy;
mod node;
mod page;
mod python;
mod transactions;
