//! Side-by-side runs of Weir and Apache Kafka, and the means to run a stock Kafka: [`kafka`] serves the tests as well.

pub mod kafka;
