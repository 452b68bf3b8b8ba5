//! The records of a consumer group in `__consumer_offsets`, in Kafka's formats.
//!
//! A record's key is a type (16 bits), the group's id and perhaps more; its value has a version (16 bits) before its
//! body. A null value takes back what the key names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::records::consumer_group_current_member_assignment_value::TopicPartitions;
use wire::records::consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol};
use wire::records::consumer_group_target_assignment_member_value::TopicPartition;
use wire::records::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey, ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
};
use wire::{DecodeError, EncodeError, Message, Reader, Uuid};

use super::member::{Assigned, ClassicMember, Current, MemberState, Metadata};
use crate::group::assignor::Partitions;

/// A change of a consumer group. The group that it belongs to is said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The group has an epoch, or is no more.
    Group(Option<GroupEpoch>),
    /// Kafka before 4.1 kept the topics' partition counts here. They are only ever taken back.
    PartitionMetadata {
        /// Whether there is something to be taken back.
        present: bool,
    },
    /// What a member says of itself, or that it is gone.
    Member(Arc<str>, Option<Metadata>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to have.
    Target(Arc<str>, Option<Partitions>),
    /// What a member has.
    Current(Arc<str>, Option<Current>),
    /// The topics that match a regular expression.
    Regex(String, Option<ResolvedRegex>),
}

/// The group's epoch: it rises with each change that the assignment depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEpoch {
    /// The epoch.
    pub epoch: i32,
    /// The hash of the subscribed topics (see [`crate::group::topics`]).
    pub metadata_hash: i64,
}

/// The group's epoch that the target assignment was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetEpoch {
    /// The epoch.
    pub epoch: i32,
    /// When the assignment was made, in milliseconds since 1970. 0: not known.
    pub timestamp_ms: i64,
}

/// What a regular expression was found to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// The names.
    pub topics: BTreeSet<String>,
    /// The version of the metadata that was looked through.
    pub version: i64,
    /// When, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// The types of the records' keys.
const TYPES: std::ops::RangeInclusive<i16> = 3..=8;

impl Record {
    /// Whether keys of a type are of records of consumer groups.
    #[must_use]
    pub fn is_type(kind: i16) -> bool {
        TYPES.contains(&kind) || kind == ConsumerGroupRegularExpressionKey::API_KEY
    }

    /// Whether it only takes back what was said before.
    #[must_use]
    pub fn takes_back(&self) -> bool {
        match self {
            Record::Group(value) => value.is_none(),
            Record::PartitionMetadata { present } => !present,
            Record::Member(_, value) => value.is_none(),
            Record::TargetEpoch(value) => value.is_none(),
            Record::Target(_, value) => value.is_none(),
            Record::Current(_, value) => value.is_none(),
            Record::Regex(_, value) => value.is_none(),
        }
    }

    /// The record's key and value.
    pub fn encode(&self, group_id: &str) -> Result<(Vec<u8>, Option<Vec<u8>>), EncodeError> {
        match self {
            Record::Group(value) => pair(
                &ConsumerGroupMetadataKey { group_id },
                value
                    .map(|value| ConsumerGroupMetadataValue { epoch: value.epoch, metadata_hash: value.metadata_hash }),
            ),
            Record::PartitionMetadata { .. } => {
                pair(&ConsumerGroupPartitionMetadataKey { group_id }, None::<ConsumerGroupMetadataValue>)
            }
            Record::Member(member_id, value) => {
                pair(&ConsumerGroupMemberMetadataKey { group_id, member_id }, value.as_ref().map(member_value))
            }
            Record::TargetEpoch(value) => pair(
                &ConsumerGroupTargetAssignmentMetadataKey { group_id },
                value.map(|value| ConsumerGroupTargetAssignmentMetadataValue {
                    assignment_epoch: value.epoch,
                    assignment_timestamp: value.timestamp_ms,
                }),
            ),
            Record::Target(member_id, value) => pair(
                &ConsumerGroupTargetAssignmentMemberKey { group_id, member_id },
                value.as_ref().map(|partitions| ConsumerGroupTargetAssignmentMemberValue {
                    topic_partitions: partitions
                        .iter()
                        .map(|(topic, partitions)| TopicPartition {
                            topic_id: *topic,
                            partitions: partitions.iter().copied().collect(),
                        })
                        .collect(),
                }),
            ),
            Record::Current(member_id, value) => pair(
                &ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id },
                value.as_ref().map(|current| ConsumerGroupCurrentMemberAssignmentValue {
                    member_epoch: current.epoch,
                    previous_member_epoch: current.previous_epoch,
                    state: current.state.code(),
                    assigned_partitions: assigned_value(&current.assigned),
                    partitions_pending_revocation: assigned_value(&current.revoking),
                }),
            ),
            Record::Regex(regex, value) => pair(
                &ConsumerGroupRegularExpressionKey { group_id, regular_expression: regex },
                value.as_ref().map(|resolved| ConsumerGroupRegularExpressionValue {
                    topics: resolved.topics.iter().map(String::as_str).collect(),
                    version: resolved.version,
                    timestamp: resolved.timestamp_ms,
                }),
            ),
        }
    }

    /// Reads a record whose key has a type that [`Record::is_type`] knows: the group's id and the record. `key` begins
    /// behind the type.
    pub fn decode<'k>(kind: i16, key: &'k [u8], value: Option<&[u8]>) -> Result<(&'k str, Record), DecodeError> {
        match kind {
            ConsumerGroupMetadataKey::API_KEY => {
                let key: ConsumerGroupMetadataKey<'_> = body(key, 0)?;
                let value: Option<ConsumerGroupMetadataValue> = versioned(value)?;
                let value = value.map(|value| GroupEpoch { epoch: value.epoch, metadata_hash: value.metadata_hash });
                Ok((key.group_id, Record::Group(value)))
            }
            ConsumerGroupPartitionMetadataKey::API_KEY => {
                let key: ConsumerGroupPartitionMetadataKey<'_> = body(key, 0)?;
                Ok((key.group_id, Record::PartitionMetadata { present: value.is_some() }))
            }
            ConsumerGroupMemberMetadataKey::API_KEY => {
                let key: ConsumerGroupMemberMetadataKey<'_> = body(key, 0)?;
                let value: Option<ConsumerGroupMemberMetadataValue<'_>> = versioned(value)?;
                Ok((key.group_id, Record::Member(key.member_id.into(), value.map(member_of))))
            }
            ConsumerGroupTargetAssignmentMetadataKey::API_KEY => {
                let key: ConsumerGroupTargetAssignmentMetadataKey<'_> = body(key, 0)?;
                let value: Option<ConsumerGroupTargetAssignmentMetadataValue> = versioned(value)?;
                let value = value.map(|value| TargetEpoch {
                    epoch: value.assignment_epoch,
                    timestamp_ms: value.assignment_timestamp,
                });
                Ok((key.group_id, Record::TargetEpoch(value)))
            }
            ConsumerGroupTargetAssignmentMemberKey::API_KEY => {
                let key: ConsumerGroupTargetAssignmentMemberKey<'_> = body(key, 0)?;
                let value: Option<ConsumerGroupTargetAssignmentMemberValue> = versioned(value)?;
                let partitions = value.map(|value| {
                    let of_topic = |it: TopicPartition| (it.topic_id, it.partitions.into_iter().collect());
                    value.topic_partitions.into_iter().map(of_topic).collect()
                });
                Ok((key.group_id, Record::Target(key.member_id.into(), partitions)))
            }
            ConsumerGroupCurrentMemberAssignmentKey::API_KEY => {
                let key: ConsumerGroupCurrentMemberAssignmentKey<'_> = body(key, 0)?;
                let value: Option<ConsumerGroupCurrentMemberAssignmentValue> = versioned(value)?;
                let current = value.map(|value| Current {
                    epoch: value.member_epoch,
                    previous_epoch: value.previous_member_epoch,
                    state: MemberState::of_code(value.state),
                    assigned: assigned_of(value.assigned_partitions, value.member_epoch),
                    revoking: assigned_of(value.partitions_pending_revocation, value.member_epoch),
                });
                Ok((key.group_id, Record::Current(key.member_id.into(), current)))
            }
            ConsumerGroupRegularExpressionKey::API_KEY => {
                let key: ConsumerGroupRegularExpressionKey<'_> = body(key, 0)?;
                let value: Option<ConsumerGroupRegularExpressionValue<'_>> = versioned(value)?;
                let resolved = value.map(|value| ResolvedRegex {
                    topics: value.topics.into_iter().map(str::to_owned).collect(),
                    version: value.version,
                    timestamp_ms: value.timestamp,
                });
                Ok((key.group_id, Record::Regex(key.regular_expression.to_owned(), resolved)))
            }
            _ => Err(DecodeError::UnsupportedVersion),
        }
    }
}

fn member_value(metadata: &Metadata) -> ConsumerGroupMemberMetadataValue<'_> {
    ConsumerGroupMemberMetadataValue {
        instance_id: metadata.instance_id.as_deref(),
        rack_id: metadata.rack_id.as_deref(),
        client_id: &metadata.client_id,
        client_host: &metadata.client_host,
        subscribed_topic_names: metadata.topics.iter().map(String::as_str).collect(),
        subscribed_topic_regex: Some(&metadata.regex),
        rebalance_timeout_ms: metadata.rebalance_timeout_ms,
        server_assignor: metadata.assignor.as_deref(),
        classic_member_metadata: metadata.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .protocols
                .iter()
                .map(|(name, metadata)| ClassicProtocol { name, metadata })
                .collect(),
        }),
    }
}

fn member_of(value: ConsumerGroupMemberMetadataValue<'_>) -> Metadata {
    Metadata {
        instance_id: value.instance_id.map(str::to_owned),
        rack_id: value.rack_id.map(str::to_owned),
        client_id: value.client_id.to_owned(),
        client_host: value.client_host.to_owned(),
        topics: value.subscribed_topic_names.into_iter().map(str::to_owned).collect(),
        regex: value.subscribed_topic_regex.unwrap_or_default().to_owned(),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor.map(str::to_owned),
        classic: value.classic_member_metadata.map(|classic| ClassicMember {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic
                .supported_protocols
                .into_iter()
                .map(|protocol| (protocol.name.to_owned(), protocol.metadata.to_vec()))
                .collect(),
        }),
    }
}

fn assigned_value(assigned: &Assigned) -> Vec<TopicPartitions> {
    let of_topic = |(topic, epochs): (&Uuid, &BTreeMap<i32, i32>)| TopicPartitions {
        topic_id: *topic,
        partitions: epochs.keys().copied().collect(),
        assignment_epochs: Some(epochs.values().copied().collect()),
    };
    assigned.iter().map(of_topic).collect()
}

/// Records of Kafka before 4.3 have no epochs: those of the member stand for them.
fn assigned_of(topics: Vec<TopicPartitions>, member_epoch: i32) -> Assigned {
    let of_topic = |topic: TopicPartitions| {
        let epochs = topic.assignment_epochs.filter(|epochs| epochs.len() == topic.partitions.len());
        let partitions: BTreeMap<i32, i32> = match epochs {
            Some(epochs) => topic.partitions.into_iter().zip(epochs).collect(),
            None => topic.partitions.into_iter().map(|partition| (partition, member_epoch.max(0))).collect(),
        };
        (topic.topic_id, partitions)
    };
    topics.into_iter().map(of_topic).collect()
}

/// Key and value, each behind its type or version.
fn pair<'k, 'v, K: Message<'k>, V: Message<'v>>(
    key: &K,
    value: Option<V>,
) -> Result<(Vec<u8>, Option<Vec<u8>>), EncodeError> {
    let mut key_bytes = K::API_KEY.to_be_bytes().to_vec();
    key.encode(&mut key_bytes, 0)?;
    let value_bytes = value
        .map(|value| {
            let mut bytes = V::MAX_VERSION.to_be_bytes().to_vec();
            value.encode(&mut bytes, V::MAX_VERSION).map(|()| bytes)
        })
        .transpose()?;
    Ok((key_bytes, value_bytes))
}

fn versioned<'v, V: Message<'v>>(value: Option<&'v [u8]>) -> Result<Option<V>, DecodeError> {
    let of_bytes = |value: &'v [u8]| {
        let mut reader = Reader::new(value);
        let version = reader.i16()?;
        V::decode(&mut reader, version)
    };
    value.map(of_bytes).transpose()
}

fn body<'v, M: Message<'v>>(bytes: &'v [u8], version: i16) -> Result<M, DecodeError> {
    M::decode(&mut Reader::new(bytes), version)
}
