//! What requests to a group are answered with, before it takes the form of a version of the protocol.

use std::sync::Arc;

use wire::Uuid;
use wire::error::ErrorCode;

use super::consumer::{ConsumerDescription, HeartbeatResponse, Refusal};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To JoinGroup.
    Join(JoinAnswer),
    /// To SyncGroup.
    Sync(SyncAnswer),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To LeaveGroup: the outcome of each member in the order of the request, or an error for all.
    Leave(Result<Vec<ErrorCode>, ErrorCode>),
    /// To OffsetCommit and TxnOffsetCommit: the outcome of each partition in the order of the request.
    Commit(Result<Vec<ErrorCode>, ErrorCode>),
    /// To OffsetFetch.
    Fetch(Result<Vec<FetchedTopic>, ErrorCode>),
    /// To OffsetDelete: the outcome of each partition in the order of the request.
    DeleteOffsets(Result<Vec<ErrorCode>, ErrorCode>),
    /// To DescribeGroups.
    Describe(Description),
    /// To ListGroups.
    List(Vec<Listed>),
    /// To DeleteGroups.
    Delete(ErrorCode),
    /// To ConsumerGroupHeartbeat.
    ConsumerHeartbeat(Result<HeartbeatResponse, Refusal>),
    /// To ConsumerGroupDescribe.
    DescribeConsumer(Result<ConsumerDescription, Refusal>),
}

/// The answer to a member that joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// What went wrong.
    pub error: ErrorCode,
    /// The generation that the member is part of, or -1.
    pub generation: i32,
    /// The protocol type of the group.
    pub protocol_type: Option<String>,
    /// The protocol that the group has chosen.
    pub protocol: Option<String>,
    /// The member that assigns.
    pub leader: String,
    /// Whether the leader keeps the assignment that there is.
    pub skip_assignment: bool,
    /// The member.
    pub member_id: String,
    /// For the leader: all members.
    pub members: Vec<JoinedMember>,
}

/// A member, as its leader is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// What it said for the protocol that was chosen.
    pub metadata: Arc<[u8]>,
}

impl JoinAnswer {
    /// An answer that is an error.
    #[must_use]
    pub fn refusal(member_id: &str, error: ErrorCode) -> JoinAnswer {
        JoinAnswer {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// The answer to a member that waits for its assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAnswer {
    /// What went wrong.
    pub error: ErrorCode,
    /// The protocol type of the group.
    pub protocol_type: Option<String>,
    /// The protocol that the group has chosen.
    pub protocol: Option<String>,
    /// What the leader has given to the member.
    pub assignment: Arc<[u8]>,
}

impl SyncAnswer {
    /// An answer that is an error.
    #[must_use]
    pub fn refusal(error: ErrorCode) -> SyncAnswer {
        SyncAnswer { error, protocol_type: None, protocol: None, assignment: Arc::default() }
    }
}

/// The offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id, where the request has named it by one.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// The offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: i32,
    /// The offset, or -1.
    pub offset: i64,
    /// The leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Arc<str>,
    /// What went wrong.
    pub error: ErrorCode,
}

impl FetchedOffset {
    /// A partition without an offset.
    #[must_use]
    pub fn none(partition: i32, error: ErrorCode) -> FetchedOffset {
        FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: "".into(), error }
    }
}

/// A group as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Why there is nothing to show.
    pub error: Option<(ErrorCode, String)>,
    /// The name of its state.
    pub state: &'static str,
    /// Its protocol type, or nothing.
    pub protocol_type: String,
    /// The protocol that it has chosen, or nothing.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// The client's own name.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// What it said for the protocol that was chosen.
    pub metadata: Arc<[u8]>,
    /// What it was given.
    pub assignment: Arc<[u8]>,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub group_id: Arc<str>,
    /// Its protocol type, or nothing.
    pub protocol_type: String,
    /// The name of its state.
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub kind: &'static str,
}
