//! Groups of the consumer protocol (KIP-848): the coordinator decides who reads what, and leads each member there by the
//! answers to its heartbeats.
//!
//! A change of the members, their subscriptions or the topics raises the *group epoch*. The next heartbeat makes the
//! *target assignment* of that epoch. Each member then goes there on its own: it is told what to give up, says when it
//! has, and gets what others have given up (`reconcile`).
//!
//! Everything here is pure. A method changes the group by records: each is applied at once, as it is when the log is
//! read again, and left in `out` to be written. So a group always is what its records make of it. A refused request
//! leaves no record.

mod classic;
mod convert;
mod describe;
mod heartbeat;
mod member;
mod reconcile;
mod record;

mod replay;
mod resolve;
mod target;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use wire::Uuid;
use wire::error::ErrorCode;

pub use self::classic::{ClassicJoin, ClassicJoined};
pub use self::convert::{ClassicSeed, ClassicSeedMember};
pub use self::describe::{ConsumerDescription, DescribedConsumer, DescribedPartitions};
pub use self::heartbeat::{Caller, HeartbeatResponse, check_request};
pub use self::member::{
    Assigned, ClassicMember, Current, JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Member, MemberState, Metadata,
};
pub use self::record::{GroupEpoch, Record, ResolvedRegex, TargetEpoch};
use self::timers::Timers;
use crate::group::assignor::{Assignor, Partitions};

/// What the operator decides about consumer groups, with what is set for one group taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// How long a member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How often members are told to send heartbeats, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// The shortest time between two target assignments, in milliseconds.
    pub assignment_interval_ms: i32,
    /// How often regular expressions are looked up again though no topic has changed, in milliseconds.
    pub regex_refresh_interval_ms: i32,
    /// The most members.
    pub max_size: usize,
    /// The assignors that members may ask for. The first is used where they do not.
    pub assignors: Vec<Assignor>,
    /// Which way groups with members may change their protocol.
    pub migration: MigrationPolicy,
    /// The most members of a group of the classic protocol.
    pub classic_max_size: usize,
}

/// Which way groups with members may change their protocol (`group.consumer.migration.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationPolicy {
    /// From the classic to the consumer protocol.
    pub upgrade: bool,
    /// From the consumer to the classic protocol.
    pub downgrade: bool,
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error.
    pub code: ErrorCode,
    /// What clients show.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// How a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Its target assignment is out of date.
    Assigning,
    /// Members are on their way to the target assignment.
    Reconciling,
    /// Every member has what it is to have.
    Stable,
}

impl GroupState {
    /// Its name in Kafka.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
        }
    }
}

/// What becomes of a group that members were taken out of.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Aftermath {
    /// It goes on.
    Remains,
    /// All who are left use the classic protocol: it goes on as a group of that protocol. The records that end this one
    /// are written; those of the new group are the caller's.
    Downgraded(ClassicSeed),
}

/// The group and member epoch before the first member.
const FIRST_EPOCH: i32 = 1;

/// A group.
#[derive(Debug)]
pub struct ConsumerGroup {
    id: Arc<str>,
    epoch: i32,
    metadata_hash: i64,
    has_partition_metadata: bool,
    members: BTreeMap<Arc<str>, Member>,
    target_epoch: i32,
    target_timestamp_ms: i64,
    target: BTreeMap<Arc<str>, Partitions>,
    regexes: BTreeMap<String, ResolvedRegex>,
    index: Index,
    timers: Timers,
    /// The version of the metadata that `metadata_hash` was last compared with.
    compared: Option<u64>,
    /// When all regular expressions were last looked up, and in which version of the metadata.
    regex_lookup: Option<(i64, u64)>,
}

/// What follows from the members and the resolved regular expressions, kept up to date.
#[derive(Debug, Default, PartialEq, Eq)]
struct Index {
    /// Members by what static ones call themselves.
    static_members: BTreeMap<String, Arc<str>>,
    /// Who has a partition or is giving it up.
    owners: BTreeMap<Uuid, BTreeMap<i32, Arc<str>>>,
    /// How often each topic is subscribed to.
    topics: BTreeMap<String, SubscriptionCount>,
    /// How many members subscribe to each regular expression.
    regex_members: BTreeMap<String, usize>,
    /// How many members want each assignor.
    assignors: BTreeMap<String, usize>,
    /// How many members use the classic protocol.
    classic_members: usize,
    /// How many of them know each of its assignors.
    classic_protocols: BTreeMap<String, usize>,
}

/// How often a topic is subscribed to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct SubscriptionCount {
    /// Members that name it.
    by_name: usize,
    /// Regular expressions that match it.
    by_regex: usize,
}

impl ConsumerGroup {
    /// A group without members.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> ConsumerGroup {
        ConsumerGroup {
            id: id.into(),
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            has_partition_metadata: false,
            members: BTreeMap::new(),
            target_epoch: FIRST_EPOCH,
            target_timestamp_ms: 0,
            target: BTreeMap::new(),
            regexes: BTreeMap::new(),
            index: Index::default(),
            timers: Timers::default(),
            compared: None,
            regex_lookup: None,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The epoch of its target assignment.
    #[must_use]
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// Its members, by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<Arc<str>, Member> {
        &self.members
    }

    /// What a member is to have.
    #[must_use]
    pub fn target(&self, member_id: &str) -> Option<&Partitions> {
        self.target.get(member_id)
    }

    /// Whether any member subscribes to a topic.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.index.topics.contains_key(topic)
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target_epoch {
            GroupState::Assigning
        } else if self.members.values().any(|member| !member.is_reconciled_to(self.target_epoch)) {
            GroupState::Reconciling
        } else {
            GroupState::Stable
        }
    }

    /// The assignor that most members want; `None`: no member wants any.
    #[must_use]
    pub fn preferred_assignor(&self) -> Option<Assignor> {
        let known = self.index.assignors.iter().filter_map(|(name, count)| Some((*count, Assignor::of_name(name)?)));
        // Of equals the first of the table, which is also the one that Kafka takes.
        known.max_by_key(|(count, assignor)| (*count, std::cmp::Reverse(*assignor))).map(|(_, assignor)| assignor)
    }

    /// When [`ConsumerGroup::on_timeout`] is to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next_deadline()
    }

    /// Checks a commit of offsets by a member: with the epoch that the member is known to have, everything may be
    /// committed; with an older one, the partitions that the returned check accepts.
    ///
    /// `epoch` below 0 comes from a client that is not a member. `version` is that of OffsetCommit.
    pub fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        epoch: i32,
        transactional: bool,
        version: i16,
    ) -> Result<CommitCheck<'_>, Refusal> {
        let outsider = epoch < 0 && self.members.is_empty();
        let transactional_outsider = transactional && epoch == -1 && member_id.is_empty() && instance_id.is_none();
        if outsider || transactional_outsider {
            return Ok(CommitCheck(None));
        }
        let member = self.member(member_id)?;
        if !transactional && !member.is_classic() && version < 9 {
            let message = "OffsetCommit version 9 or above must be used by members using the consumer group protocol";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
        }
        match epoch.cmp(&member.current.epoch) {
            std::cmp::Ordering::Equal => Ok(CommitCheck(None)),
            std::cmp::Ordering::Less => Ok(CommitCheck(Some((member, epoch)))),
            std::cmp::Ordering::Greater => {
                let (code, what) = stale(member);
                let known = member.current.epoch;
                Err(Refusal::new(code, format!("Received {what} {epoch} is newer than current member epoch {known}.")))
            }
        }
    }

    /// Checks that a member may fetch offsets.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), Refusal> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.member(member_id.unwrap_or_default())?;
        let known = member.current.epoch;
        if epoch == known {
            return Ok(());
        }
        let (code, what) = stale(member);
        let message = format!("The received {what} {epoch} does not match the expected member epoch {known}.");
        Err(Refusal::new(code, message))
    }

    /// Leaves the records that delete the group, and is empty afterwards.
    pub fn delete(&mut self, out: &mut Vec<Record>) {
        let members: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for member in &members {
            self.emit(Record::Current(member.clone(), None), out);
        }
        for member in &members {
            self.emit(Record::Target(member.clone(), None), out);
        }
        self.emit(Record::TargetEpoch(None), out);
        for member in members {
            self.emit(Record::Member(member, None), out);
        }
        for regex in self.regexes.keys().cloned().collect::<Vec<_>>() {
            self.emit(Record::Regex(regex, None), out);
        }
        self.emit(Record::PartitionMetadata { present: false }, out);
        self.emit(Record::Group(None), out);
    }

    /// Applies a record and leaves it to be written.
    fn emit(&mut self, record: Record, out: &mut Vec<Record>) {
        self.apply(&record);
        out.push(record);
    }

    fn member(&self, member_id: &str) -> Result<&Member, Refusal> {
        self.members.get(member_id).ok_or_else(|| {
            let message = format!("Member {member_id} is not a member of group {}.", self.id);
            Refusal::new(ErrorCode::UnknownMemberId, message)
        })
    }

    /// Whether a partition is free for a member: nobody else has it or is giving it up.
    fn is_taken(&self, topic: &Uuid, partition: i32, by_other_than: &str) -> bool {
        let owner = self.index.owners.get(topic).and_then(|owners| owners.get(&partition));
        owner.is_some_and(|owner| **owner != *by_other_than)
    }

    /// The names that a member subscribes to, itself and by its regular expression.
    fn subscription<'g>(&'g self, metadata: &'g Metadata) -> impl Iterator<Item = &'g str> {
        let resolved = self.regexes.get(&metadata.regex).filter(|_| !metadata.regex.is_empty());
        let by_regex = resolved.into_iter().flat_map(|resolved| &resolved.topics);
        metadata.topics.iter().chain(by_regex).map(String::as_str)
    }

    /// The ids of the topics that a member subscribes to, of those that exist.
    fn subscribed_ids(&self, metadata: &Metadata, topics: &crate::group::topics::Topics<'_>) -> BTreeSet<Uuid> {
        self.subscription(metadata).filter_map(|name| topics.id(name)).collect()
    }
}

/// What the partitions of a commit have to pass.
#[derive(Debug)]
pub struct CommitCheck<'g>(Option<(&'g Member, i32)>);

impl CommitCheck<'_> {
    /// Whether an offset of a partition may be committed: with an older epoch only if the partition has been the
    /// member's since then.
    pub fn partition(&self, topic_name: &str, topic: &Uuid, partition: i32) -> Result<(), Refusal> {
        let Some((member, epoch)) = self.0 else { return Ok(()) };
        let (code, what) = stale(member);
        match member.current.assignment_epoch(topic, partition) {
            Some(assigned) if epoch >= assigned => Ok(()),
            Some(assigned) => Err(Refusal::new(
                code,
                format!(
                    "Received {what} {epoch} is older than assignment epoch {assigned} for partition \
                     {topic_name}-{partition}."
                ),
            )),
            None => Err(Refusal::new(
                code,
                format!("Partition {topic_name}-{partition} is not assigned or pending revocation for member."),
            )),
        }
    }
}

/// How a member's wrong epoch is called in its protocol.
fn stale(member: &Member) -> (ErrorCode, &'static str) {
    if member.is_classic() {
        (ErrorCode::IllegalGeneration, "generation id")
    } else {
        (ErrorCode::StaleMemberEpoch, "member epoch")
    }
}
