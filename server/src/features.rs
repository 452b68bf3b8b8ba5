//! Features of the cluster (KIP-584): what this broker supports, and the levels at which a new cluster begins.

/// A feature and the levels that this broker supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its name in Kafka.
    pub name: &'static str,
    /// The lowest level.
    pub min: i16,
    /// The highest level, at which a new cluster begins.
    pub max: i16,
}

/// The features of Kafka that this broker has, with Kafka's names and levels.
pub const SUPPORTED: &[Feature] = &[
    Feature { name: METADATA_VERSION, min: METADATA_4_3, max: METADATA_4_3 },
    Feature { name: GROUP_VERSION, min: 0, max: 1 },
    Feature { name: TRANSACTION_VERSION, min: 0, max: 2 },
];

/// The feature that tells which protocols groups may speak: from level 1 on the consumer protocol too (KIP-848).
pub const GROUP_VERSION: &str = "group.version";

/// The feature that tells how transactions end: from level 2 on each end takes an epoch (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";

/// The feature that tells the forms of the metadata's records.
pub const METADATA_VERSION: &str = "metadata.version";

/// The level of `metadata.version` in Kafka 4.3 (4.3-IV0).
const METADATA_4_3: i16 = 30;
