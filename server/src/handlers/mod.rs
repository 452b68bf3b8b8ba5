//! The handlers: one module per API, or per family of APIs that share their rules.

pub mod admin;
pub mod alter_configs;
pub mod api_versions;
pub mod consumer_groups;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
mod epochs;
pub mod fetch;
pub mod fetch_session;
pub mod find_coordinator;
pub mod group_admin;
pub mod group_calls;
pub mod group_membership;
pub mod group_offsets;
pub mod init_producer_id;
mod legacy;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
mod places;
pub mod produce;
mod produce_rules;
#[cfg(test)]
pub(crate) mod test_image;
pub mod write_txn_markers;
