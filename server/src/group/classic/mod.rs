//! Classic groups: members join, the leader assigns, the broker passes the assignment on. The broker understands neither
//! the protocols nor the assignments.
//!
//! ```text
//!            first join              all have joined, or time is up       leader syncs
//!  Empty ───────────────▶ Preparing ────────────────────────────────▶ Completing ─────────▶ Stable
//!    ▲  nobody has joined    │  ▲            join, leave, silence          │                   │
//!    └───────────────────────┘  └─────────────────────────────────────────┴───────────────────┘
//! ```
//!
//! `rebalance` has the way round this circle, `requests` what members ask.

mod convert;
mod member;
mod rebalance;
mod requests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use wire::error::ErrorCode;
use wire::messages::ConsumerProtocolSubscription;
use wire::records::GroupMetadataValue;
use wire::{Message, Reader};

use self::member::Member;
use super::answers::{Answer, Description, JoinAnswer, JoinedMember};
use super::records;
use crate::hash::Hasher;
use crate::state_machine::{Effects, LogRecord, Now};

/// The protocol type of consumers: the only one whose metadata the broker looks into, for the topics subscribed to.
const CONSUMER: &str = "consumer";

/// A classic group.
#[derive(Debug)]
pub struct ClassicGroup {
    id: Arc<str>,
    state: State,
    /// When the state was entered, on the wall clock. Unknown in old records.
    since_unix_ms: Option<i64>,
    generation: i32,
    /// None: nobody has ever joined, somebody only keeps offsets here.
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    /// By id. Heartbeats are many, and each looks its member up.
    members: HashMap<String, Member, Hasher>,
    /// Static members by instance id.
    instances: BTreeMap<String, String>,
    /// Members that were given an id and have not joined with it, with the end of their patience.
    pending: BTreeMap<String, i64>,
    /// Members that wait for the end of a rebalance.
    joining: usize,
    /// How many members can each protocol.
    supported: BTreeMap<String, usize>,
    /// Members that have not asked for their assignment in this generation.
    unsynced: BTreeSet<String>,
    /// When they are given up.
    sync_deadline_ms: Option<i64>,
    /// The topics that its consumers have subscribed to, where the broker can tell.
    subscribed: Option<BTreeSet<String>>,
    /// Members by the time at which they are looked at.
    looks: BTreeSet<(i64, String)>,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    /// Members are asked to join. At the deadline those who have not are given up.
    Preparing {
        deadline_ms: i64,
        phase: Phase,
    },
    /// All have been told the generation, and the leader's assignment is waited for.
    Completing,
    Stable,
}

/// Why members are asked to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The group was empty: it waits for more members than the first, a while longer each time that one comes.
    Initial {
        delay_ms: i32,
        remaining_ms: i32,
        joined_meanwhile: bool,
    },
    Rejoin,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

impl ClassicGroup {
    /// A group that nobody has joined.
    #[must_use]
    pub fn new(id: Arc<str>, now_unix_ms: i64) -> ClassicGroup {
        ClassicGroup {
            id,
            state: State::Empty,
            since_unix_ms: Some(now_unix_ms),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: HashMap::default(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            joining: 0,
            supported: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            sync_deadline_ms: None,
            subscribed: None,
            looks: BTreeSet::new(),
        }
    }

    /// A group as its record describes it. [`ClassicGroup::loaded`] starts its clocks.
    #[must_use]
    pub fn from_record(id: Arc<str>, record: &GroupMetadataValue<'_>) -> ClassicGroup {
        let mut group = ClassicGroup::new(id, 0);
        group.since_unix_ms = (record.current_state_timestamp != -1).then_some(record.current_state_timestamp);
        group.generation = record.generation;
        group.protocol_type = (!record.protocol_type.is_empty()).then(|| record.protocol_type.to_owned());
        group.protocol = record.protocol.map(str::to_owned);
        group.leader = record.leader.map(str::to_owned);
        group.state = if record.members.is_empty() { State::Empty } else { State::Stable };
        for it in &record.members {
            let protocol = record.protocol.unwrap_or_default().to_owned();
            let rebalance_timeout_ms =
                if it.rebalance_timeout == -1 { it.session_timeout } else { it.rebalance_timeout };
            group.insert(Member {
                id: it.member_id.to_owned(),
                instance_id: it.group_instance_id.map(str::to_owned),
                client_id: it.client_id.to_owned(),
                client_host: it.client_host.to_owned(),
                rebalance_timeout_ms,
                session_timeout_ms: it.session_timeout,
                protocols: vec![(protocol, it.subscription.into())],
                assignment: it.assignment.into(),
                is_new: false,
                join: None,
                sync: None,
                deadline_ms: 0,
                looked_at_ms: None,
            });
        }
        group.subscribed = group.compute_subscribed();
        group
    }

    /// The log has been read: every member gets a session's time to be heard of.
    pub fn loaded(&mut self, max_size: usize, now: Now, effects: &mut Effects<Answer>) {
        let members: Vec<(String, i32)> =
            self.members.values().map(|member| (member.id.clone(), member.session_timeout_ms)).collect();
        for (member, timeout_ms) in members {
            self.expect_by(&member, now.ms + i64::from(timeout_ms));
        }
        // The bound may be another one than before.
        if self.members.len() > max_size {
            self.prepare_rebalance(0, now, effects);
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The name of its state.
    #[must_use]
    pub fn state(&self) -> &'static str {
        self.state.name()
    }

    /// Its protocol type, or nothing.
    #[must_use]
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether its consumers have subscribed to a topic. Where that is not known, they may have.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or_else(|| self.has_consumers(), |topics| topics.contains(topic))
    }

    /// From when on the age of an offset counts that was committed at `commit_unix_ms`; none while offsets do not age.
    #[must_use]
    pub fn offsets_age_from(&self, commit_unix_ms: i64) -> Option<i64> {
        if self.protocol_type.is_none() {
            return Some(commit_unix_ms);
        }
        match self.state {
            State::Empty => Some(self.since_unix_ms.unwrap_or(commit_unix_ms)),
            State::Stable if self.has_consumers() && self.subscribed.is_some() => Some(commit_unix_ms),
            _ => None,
        }
    }

    /// Whether the group's offsets may be deleted, those of topics that it does not subscribe to.
    pub fn may_delete_offsets(&self) -> Result<(), ErrorCode> {
        if self.is_empty() || self.has_consumers() { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// As DescribeGroups shows it: what members say and were given only once that is agreed.
    #[must_use]
    pub fn describe(&self) -> Description {
        let agreed = self.state == State::Stable;
        let protocol = if agreed { self.protocol.as_deref() } else { None };
        Description {
            error: None,
            state: self.state(),
            protocol_type: self.protocol_type().to_owned(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: self.in_order().map(|member| member.described(member.metadata(protocol))).collect(),
        }
    }

    /// The record that describes the group as it is.
    fn record(&self) -> LogRecord {
        let members = self.in_order().map(|member| records::Member {
            id: &member.id,
            instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: member.assignment.clone(),
        });
        records::group(&records::Group {
            id: &self.id,
            protocol_type: self.protocol_type(),
            generation: self.generation,
            protocol: self.protocol.as_deref(),
            leader: self.leader.as_deref(),
            since_unix_ms: self.since_unix_ms.unwrap_or(-1),
            members: members.collect(),
        })
    }

    /// The record of a group that has been created and has no generation yet.
    pub(super) fn first_record(&self) -> LogRecord {
        records::group(&records::Group {
            id: &self.id,
            protocol_type: "",
            generation: 0,
            protocol: None,
            leader: None,
            since_unix_ms: self.since_unix_ms.unwrap_or(-1),
            members: Vec::new(),
        })
    }

    fn has_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.since_unix_ms = Some(now.unix_ms);
    }

    /// Adds a member whose protocols have been checked.
    fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.count_protocols(&member.protocols, true);
        self.joining += usize::from(member.join.is_some());
        self.pending.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out, or one that has not joined yet.
    fn remove(&mut self, id: &str) -> Option<Member> {
        let removed = self.members.remove(id);
        if let Some(member) = &removed {
            self.count_protocols(&member.protocols, false);
            self.joining -= usize::from(member.join.is_some());
            if let Some(instance) = &member.instance_id {
                self.instances.remove(instance);
            }
            if let Some(at_ms) = member.looked_at_ms {
                self.looks.remove(&(at_ms, member.id.clone()));
            }
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().min().cloned();
        }
        if let Some(deadline_ms) = self.pending.remove(id) {
            self.looks.remove(&(deadline_ms, id.to_owned()));
        }
        self.unsynced.remove(id);
        removed
    }

    fn count_protocols(&mut self, protocols: &[(String, Arc<[u8]>)], up: bool) {
        // A name that a member repeats counts once.
        let names: BTreeSet<&str> = protocols.iter().map(|(name, _)| name.as_str()).collect();
        for name in names {
            let count = self.supported.entry(name.to_owned()).or_default();
            *count = if up { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.supported.remove(name);
            }
        }
    }

    /// Whether all members can a protocol.
    fn is_common(&self, protocol: &str) -> bool {
        self.supported.get(protocol).is_some_and(|count| *count == self.members.len())
    }

    /// The protocol that all can and most like best; among equals the first by name.
    fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(|name| self.is_common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// The members in the order of their ids: wherever something that is told or written follows from the order.
    fn in_order(&self) -> impl Iterator<Item = &Member> {
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        members.into_iter()
    }

    fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    fn have_all_joined(&self) -> bool {
        self.members.len() == self.joining && self.pending.is_empty()
    }

    fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(0)
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        self.in_order().map(|member| member.joined(self.protocol.as_deref())).collect()
    }

    /// What a member is told about the generation that there is.
    fn generation_for(&self, id: &str, members: Vec<JoinedMember>) -> JoinAnswer {
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members,
        }
    }

    /// The topics in the subscriptions of all members. None where they are no consumers or say it in a way that is not
    /// understood. Every version of the subscription begins with what version 0 has.
    fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if !self.has_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        if !self.members.is_empty() && self.protocol.is_none() {
            return None;
        }
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref());
            let mut reader = Reader::new(&metadata);
            reader.i16().ok()?;
            let subscription = ConsumerProtocolSubscription::decode(&mut reader, 0).ok()?;
            topics.extend(subscription.topics.iter().map(|topic| (*topic).to_owned()));
        }
        Some(topics)
    }

    /// A member is to be heard of by then.
    fn expect_by(&mut self, id: &str, deadline_ms: i64) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.deadline_ms = deadline_ms;
        if member.looked_at_ms.is_none_or(|at_ms| at_ms > deadline_ms) {
            if let Some(at_ms) = member.looked_at_ms.replace(deadline_ms) {
                self.looks.remove(&(at_ms, id.to_owned()));
            }
            self.looks.insert((deadline_ms, id.to_owned()));
        }
    }

    /// A member has been heard of.
    fn heard_of(&mut self, id: &str, now: Now) {
        if let Some(member) = self.members.get(id) {
            let deadline_ms = now.ms + i64::from(member.session_timeout_ms);
            self.expect_by(id, deadline_ms);
        }
    }
}
