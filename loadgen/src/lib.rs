//! Weir's load generator: load, latency and audit of any Kafka-protocol broker.
//!
//! ```text
//! main → cli → run → crew → worker → producer, consumer → link, committed
//!                  ↘ group → driver → member → link
//!                ↘ cluster → client, assign     ↘ workload, frame, schedule
//!        report ← collect, gauges ← tally, histogram, audit, cpu
//! ```
//! The supervising thread (`run`, `crew`) prepares everything and then only collects. Each thread of the load (`worker`) owns its
//! connections, one epoll and one timer, and shares nothing with the others on its path. What a request costs in the
//! closed loop is a copy of prepared bytes with two fields set, its part of one write and of one read, and one comparison
//! of its answer.
//!
//! The generator stands on `epoll` on purpose: it must not share the scheduler that it measures.

pub mod assign;
pub mod audit;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod collect;
pub mod committed;
pub mod consumer;
pub mod coordinators;
pub mod cpu;
pub mod crew;
pub mod error;
pub mod frame;
pub mod gauges;
pub mod group;
pub mod histogram;
pub mod link;
pub mod plan;
pub mod producer;
pub mod progress;
pub mod random;
pub mod report;
pub mod run;
pub mod schedule;
pub mod tally;
pub mod transaction;
pub mod units;
pub mod worker;
pub mod workload;
