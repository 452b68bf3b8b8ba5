//! What clients older than Kafka 0.11 send and read: message sets of magic 0 and 1, and lists of offsets. Kafka 4 has dropped
//! these versions; the behaviour here is that of Kafka 3.9. All of it is off the paths of newer clients, whose records are
//! stored and sent as they are.

pub(super) mod fetch;
pub(super) mod list_offsets;
pub(super) mod produce;
