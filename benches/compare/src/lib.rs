//! Side-by-side runs of Weir and Apache Kafka, and the means to run a stock Kafka: [`kafka`] serves the tests as well.

mod bench;
pub mod cases;
pub mod chart;
mod client;
pub mod cores;
pub mod generator;
pub mod kafka;
pub mod machine;
mod other_core;
mod peer;
pub mod prewarm;
mod process;
pub mod readme;
pub mod record;
pub mod report;
pub mod run;
pub mod stats;
pub mod summary;
mod text;
pub mod weir;
