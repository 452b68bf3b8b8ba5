//! The records of `__consumer_offsets` as bytes: Kafka's, so that its tools and brokers read them.
//!
//! A key begins with the type of the record, a value with its version; both are 16 bits.

use std::sync::Arc;

use wire::records::group_metadata_value::MemberMetadata;
use wire::records::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use wire::{Message, Reader, Uuid};

use super::consumer::Record;
use crate::state_machine::{LogRecord, LoggedRecord, RECORD_PART_BYTES, Records, ReplayError};

/// The type of offsets before Kafka 0.9, in the form of [`OffsetCommitKey`].
const LEGACY_OFFSET: i16 = 0;
/// The newest version of offsets.
const OFFSET_VERSION: i16 = 4;
/// The version of offsets that say themselves when they expire.
const EXPIRING_OFFSET_VERSION: i16 = 1;
/// The newest version of groups in which nothing is tagged: what Kafka writes.
const GROUP_VERSION: i16 = 3;

/// A record that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupRecord<'a> {
    /// An offset, or its removal.
    Offset(OffsetCommitKey<'a>, Option<OffsetCommitValue<'a>>),
    /// A classic group, or its removal.
    Group(GroupMetadataKey<'a>, Option<GroupMetadataValue<'a>>),
    /// Of a group of the consumer protocol: its id and what is said of it.
    Consumer(&'a str, Record),
    /// Something else, by its type.
    Other(i16),
}

impl<'a> GroupRecord<'a> {
    /// Reads a record.
    pub fn parse(record: &LoggedRecord<'a>) -> Result<GroupRecord<'a>, ReplayError> {
        let mut key = Reader::new(record.key);
        match key.i16()? {
            LEGACY_OFFSET | OffsetCommitKey::API_KEY => {
                Ok(GroupRecord::Offset(OffsetCommitKey::decode(&mut key, 0)?, value(record.value)?))
            }
            GroupMetadataKey::API_KEY => {
                Ok(GroupRecord::Group(GroupMetadataKey::decode(&mut key, 0)?, value(record.value)?))
            }
            kind if Record::is_type(kind) => {
                let (group, said) = Record::decode(kind, &record.key[2..], record.value)?;
                Ok(GroupRecord::Consumer(group, said))
            }
            other => Ok(GroupRecord::Other(other)),
        }
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offset {
    /// The next record to be read.
    pub offset: i64,
    /// The leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Arc<str>,
    /// When it was committed, in milliseconds since the epoch.
    pub commit_unix_ms: i64,
    /// When it expires, where its client has said so.
    pub expire_unix_ms: Option<i64>,
    /// The id of the topic, or zero.
    pub topic_id: Uuid,
}

impl From<OffsetCommitValue<'_>> for Offset {
    fn from(value: OffsetCommitValue<'_>) -> Offset {
        Offset {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: shared(value.metadata),
            commit_unix_ms: value.commit_timestamp,
            expire_unix_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        }
    }
}

/// A classic group to be written.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its protocol type, or nothing.
    pub protocol_type: &'a str,
    /// Its generation.
    pub generation: i32,
    /// The protocol that it has chosen.
    pub protocol: Option<&'a str>,
    /// The member that assigns.
    pub leader: Option<&'a str>,
    /// When it entered its state, in milliseconds since the epoch, or -1.
    pub since_unix_ms: i64,
    /// Its members.
    pub members: Vec<Member<'a>>,
}

/// A member to be written.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name, if it is a static member.
    pub instance_id: Option<&'a str>,
    /// The client's own name.
    pub client_id: &'a str,
    /// The client's address.
    pub client_host: &'a str,
    /// How long a rebalance waits for it, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// What it said for the protocol that was chosen.
    pub subscription: Arc<[u8]>,
    /// What it was given.
    pub assignment: Arc<[u8]>,
}

/// A text that is kept. Most clients say nothing with an offset, and all of that is the same memory.
#[must_use]
pub fn shared(text: &str) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}

/// Writes the record of an offset.
pub fn offset(into: &mut Records, group: &str, topic: &str, partition: i32, offset: &Offset) {
    let version = if offset.expire_unix_ms.is_some() { EXPIRING_OFFSET_VERSION } else { OFFSET_VERSION };
    let value = OffsetCommitValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: &offset.metadata,
        commit_timestamp: offset.commit_unix_ms,
        expire_timestamp: offset.expire_unix_ms.unwrap_or(-1),
        topic_id: offset.topic_id,
    };
    into.push_with(
        |bytes| append_key(bytes, &OffsetCommitKey { group, topic, partition }),
        |bytes| append_versioned(bytes, &value, version),
    );
}

/// The record that takes an offset back.
#[must_use]
pub fn no_offset(group: &str, topic: &str, partition: i32) -> LogRecord {
    LogRecord { key: key(&OffsetCommitKey { group, topic, partition }), value: None }
}

/// The record of a classic group.
#[must_use]
pub fn group(group: &Group<'_>) -> LogRecord {
    let members = group.members.iter().map(|it| MemberMetadata {
        member_id: it.id,
        group_instance_id: it.instance_id,
        client_id: it.client_id,
        client_host: it.client_host,
        rebalance_timeout: it.rebalance_timeout_ms,
        session_timeout: it.session_timeout_ms,
        subscription: &it.subscription,
        assignment: &it.assignment,
    });
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type,
        generation: group.generation,
        protocol: group.protocol,
        leader: group.leader,
        current_state_timestamp: group.since_unix_ms,
        members: members.collect(),
    };
    LogRecord { key: key(&GroupMetadataKey { group: group.id }), value: Some(versioned(&value, GROUP_VERSION)) }
}

/// The record that takes a classic group back.
#[must_use]
pub fn no_group(group: &str) -> LogRecord {
    LogRecord { key: key(&GroupMetadataKey { group }), value: None }
}

/// A key: the type of the record, and what it is about.
pub fn key<'a, M: Message<'a>>(key: &M) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_PART_BYTES);
    append_key(&mut bytes, key);
    bytes
}

/// A value: its version, and what is said.
pub fn versioned<'a>(value: &impl Message<'a>, version: i16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_PART_BYTES);
    append_versioned(&mut bytes, value, version);
    bytes
}

fn append_key<'a, M: Message<'a>>(bytes: &mut Vec<u8>, key: &M) {
    bytes.extend_from_slice(&M::API_KEY.to_be_bytes());
    // Texts that came in a request, or were checked, are as long as a record's may be.
    key.encode(bytes, 0).expect("a key has one form");
}

fn append_versioned<'a>(bytes: &mut Vec<u8>, value: &impl Message<'a>, version: i16) {
    bytes.extend_from_slice(&version.to_be_bytes());
    value.encode(bytes, version).expect("the version has all fields that are set");
}

/// Reads a value in the version that it says.
pub fn value<'a, M: Message<'a>>(bytes: Option<&'a [u8]>) -> Result<Option<M>, ReplayError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    Ok(Some(M::decode(&mut reader, version)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn written(committed: &Offset) -> LogRecord {
        let mut records = Records::default();
        offset(&mut records, "group", "topic", 5, committed);
        let (key, value) = records.iter().next().unwrap();
        LogRecord { key: key.to_vec(), value: value.map(<[u8]>::to_vec) }
    }

    fn logged(record: &LogRecord) -> LoggedRecord<'_> {
        LoggedRecord { offset: 0, timestamp_ms: 0, producer: None, key: &record.key, value: record.value.as_deref() }
    }

    #[test]
    fn an_offset_comes_back() {
        let mut committed = Offset {
            offset: 42,
            leader_epoch: 7,
            metadata: "text".into(),
            commit_unix_ms: 1_700_000_000_000,
            expire_unix_ms: None,
            topic_id: Uuid([3; 16]),
        };
        let record = written(&committed);
        assert_eq!(hex(&record.key), "0001000567726f75700005746f70696300000005");
        let GroupRecord::Offset(key, Some(value)) = GroupRecord::parse(&logged(&record)).unwrap() else { panic!() };
        assert_eq!((key.group, key.topic, key.partition), ("group", "topic", 5));
        assert_eq!(Offset::from(value), committed);
        // One that expires has an older form, without the epoch and the id.
        committed.expire_unix_ms = Some(9);
        let record = written(&committed);
        assert_eq!(record.value.as_ref().unwrap()[..2], [0, 1]);
        let GroupRecord::Offset(_, Some(value)) = GroupRecord::parse(&logged(&record)).unwrap() else { panic!() };
        (committed.leader_epoch, committed.topic_id) = (-1, Uuid::ZERO);
        assert_eq!(Offset::from(value), committed);
        let record = no_offset("group", "topic", 5);
        assert!(matches!(GroupRecord::parse(&logged(&record)), Ok(GroupRecord::Offset(_, None))));
    }

    #[test]
    fn records_of_other_types_and_damaged_ones_are_told_apart() {
        let record =
            |key: &[u8], value: Option<&[u8]>| LogRecord { key: key.to_vec(), value: value.map(<[u8]>::to_vec) };
        let share = record(&[0, 11, 0, 1, b'g'], None);
        assert_eq!(GroupRecord::parse(&logged(&share)), Ok(GroupRecord::Other(11)));
        for damaged in [record(&[], None), record(&[0, 2, 0, 9, b'g'], None), record(&[0, 2, 0, 1, b'g'], Some(&[0]))] {
            assert!(GroupRecord::parse(&logged(&damaged)).is_err(), "{damaged:?}");
        }
    }
}
