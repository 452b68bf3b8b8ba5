//! Side-by-side runs of Weir and Apache Kafka.

fn main() {}
