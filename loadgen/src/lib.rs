//! Weir's load generator: load, latency and audit of any Kafka-protocol broker.
pub mod audit;
pub mod cpu;
pub mod histogram;
pub mod schedule;
pub mod units;
