//! Brokers that are only as good as a test needs: they speak the protocol on loopback and keep records in memory.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test target uses its own part")]

pub mod broker;
pub mod control;
pub mod groups;
pub mod sink;
pub mod transactions;
