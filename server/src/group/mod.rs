//! Groups: who consumes together, which generation they are in, and how far they are. [`Groups`] is the state of one
//! partition of `__consumer_offsets`; the coordinator (`crate::coordinator`) drives it.
//!
//! ```text
//! Groups ─ Group: classic                   members, generations
//!        │        consumer                  members, epochs, assignments (KIP-848)
//!        └ Offsets                          committed, and pending in transactions
//!          records                          both as bytes
//! ```

pub mod answers;
pub mod assignor;
pub mod classic;
pub mod consumer;
mod modern;
pub mod offsets;
pub mod records;
pub mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::leave_group_request::MemberIdentity;
use wire::messages::{HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

use self::answers::{Answer, Description, FetchedOffset, FetchedTopic, JoinAnswer, Listed, SyncAnswer};
use self::classic::ClassicGroup;
use self::consumer::ConsumerGroup;
use self::offsets::Offsets;
use self::records::{GroupRecord, Offset};
use crate::config::coordinators::GroupOptions;
use crate::image::Image;
use crate::limits::COORDINATOR_BATCH_BYTES;
use crate::state_machine::{Effects, LogRecord, LoggedRecord, Now, ProducerEpoch, ReplayError, StateMachine, Ticket};

/// The first version of OffsetCommit that tells a group which does not exist apart.
const TELLS_NO_GROUP_FROM: i16 = 9;
/// The first version of DescribeGroups that tells a group which does not exist apart (KIP-1043).
const DESCRIBES_ERRORS_FROM: i16 = 6;

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Groups {
    options: GroupOptions,
    /// The newest metadata. None before the log has been read.
    image: Option<Arc<Image>>,
    groups: BTreeMap<Arc<str>, Group>,
    offsets: Offsets,
    /// Groups by the time at which something is due, with what the group has been entered under.
    due: BTreeSet<(i64, Arc<str>)>,
    due_of: BTreeMap<Arc<str>, i64>,
    /// When old offsets are looked for next. None before the log has been read.
    sweep_ms: Option<i64>,
    /// The group with which the sweep goes on, if it did not fit one batch.
    sweep_from: Option<Arc<str>>,
    /// Offsets of topics that are gone, to be removed.
    doomed: Vec<(Arc<str>, Arc<str>, i32)>,
}

/// A group, by the protocol that its members speak.
#[derive(Debug)]
pub enum Group {
    /// The members agree among themselves.
    Classic(ClassicGroup),
    /// The coordinator assigns.
    Consumer(ConsumerGroup),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The client's own name.
    pub client_id: &'a str,
    /// The client's address, as it is shown.
    pub client_host: &'a str,
    /// The version of the request.
    pub version: i16,
    /// What makes the id of a member unique, should a new one join: a random UUID.
    pub new_member: &'a str,
}

/// Who commits offsets.
#[derive(Debug, Clone, Copy)]
pub struct Committer<'a> {
    /// The group.
    pub group_id: &'a str,
    /// The member, or nothing.
    pub member_id: &'a str,
    /// Its name, if it is a static member.
    pub instance_id: Option<&'a str>,
    /// The generation, or -1.
    pub generation: i32,
    /// The version of OffsetCommit.
    pub version: i16,
    /// How long the offsets are to be kept, in milliseconds, where an old client says so.
    pub retention_ms: Option<i64>,
    /// The transaction that they are part of.
    pub producer: Option<ProducerEpoch>,
}

/// An offset to be committed.
#[derive(Debug, Clone, Copy)]
pub struct NewOffset<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its id, or zero.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The next record to be read.
    pub offset: i64,
    /// The leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Option<&'a str>,
    /// When it counts as committed, in milliseconds since 1970, where the client says so. Else now.
    pub commit_unix_ms: Option<i64>,
}

/// A topic whose offsets are asked for.
#[derive(Debug, Clone)]
pub struct AskedTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id, or zero.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: &'a [i32],
}

impl Groups {
    /// No groups.
    #[must_use]
    pub fn new(options: GroupOptions) -> Groups {
        Groups {
            options,
            image: None,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            due: BTreeSet::new(),
            due_of: BTreeMap::new(),
            sweep_ms: None,
            sweep_from: None,
            doomed: Vec::new(),
        }
    }

    /// Answers JoinGroup, at once or when the group is complete.
    pub fn join(
        &mut self,
        request: &JoinGroupRequest<'_>,
        caller: &Caller<'_>,
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        let (id, options) = (request.group_id, self.options);
        if request.session_timeout_ms < options.session_min_ms || request.session_timeout_ms > options.session_max_ms {
            let answer = JoinAnswer::refusal(request.member_id, ErrorCode::InvalidSessionTimeout);
            return effects.answer(ticket, Answer::Join(answer));
        }
        if self.join_consumer(request, caller, (now, ticket), effects) {
            return self.note_deadline(id);
        }
        if !self.groups.contains_key(id) {
            if !request.member_id.is_empty() {
                let answer = JoinAnswer::refusal(request.member_id, ErrorCode::UnknownMemberId);
                return effects.answer(ticket, Answer::Join(answer));
            }
            let group = ClassicGroup::new(id.into(), now.unix_ms);
            effects.write(group.first_record());
            self.groups.insert(group.id().clone(), Group::Classic(group));
        }
        let Some(group) = self.groups.get_mut(id) else { return };
        match group {
            Group::Classic(group) => group.join(request, caller, &options, (now, ticket), effects),
            // It has been joined above.
            Group::Consumer(_) => {}
        }
        self.note_deadline(id);
    }

    /// Answers SyncGroup, at once or when the leader has assigned.
    pub fn sync(
        &mut self,
        request: &SyncGroupRequest<'_>,
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        match (self.groups.get_mut(request.group_id), &self.image) {
            (Some(Group::Classic(group)), _) => group.sync(request, (now, ticket), effects),
            (Some(Group::Consumer(group)), Some(image)) => {
                effects.answer(ticket, Answer::Sync(modern::sync(group, request, now, image)));
            }
            _ => effects.answer(ticket, Answer::Sync(SyncAnswer::refusal(ErrorCode::UnknownMemberId))),
        }
        self.note_deadline(request.group_id);
    }

    /// Answers Heartbeat.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest<'_>,
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        let outcome = match self.groups.get_mut(request.group_id) {
            Some(Group::Classic(group)) => group.heartbeat(request, now),
            Some(Group::Consumer(group)) => modern::heartbeat(group, request, now),
            None => ErrorCode::UnknownMemberId,
        };
        effects.answer(ticket, Answer::Heartbeat(outcome));
        self.note_deadline(request.group_id);
    }

    /// Answers LeaveGroup.
    pub fn leave(
        &mut self,
        group_id: &str,
        leaving: &[MemberIdentity<'_>],
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        let outcomes = match self.groups.get_mut(group_id) {
            Some(Group::Classic(group)) => group.leave(leaving, now, effects),
            Some(Group::Consumer(_)) => self.leave_consumer(group_id, leaving, now, effects),
            None => vec![ErrorCode::UnknownMemberId; leaving.len()],
        };
        effects.answer(ticket, Answer::Leave(Ok(outcomes)));
        self.note_deadline(group_id);
    }

    /// Answers OffsetCommit, and TxnOffsetCommit where there is a producer.
    pub fn commit(
        &mut self,
        who: &Committer<'_>,
        offsets: &[NewOffset<'_>],
        (now, ticket): (Now, Ticket),
        effects: &mut Effects<Answer>,
    ) {
        let outcome = self.try_commit(who, offsets, now, effects);
        effects.answer(ticket, Answer::Commit(outcome));
        self.note_deadline(who.group_id);
    }

    /// Answers OffsetFetch for one group: the topics asked for, or all that there are. `stable` refuses those that an
    /// open transaction may still change.
    pub fn fetch(
        &mut self,
        group_id: &str,
        (member_id, epoch): (Option<&str>, i32),
        topics: Option<&[AskedTopic<'_>]>,
        stable: bool,
        ticket: Ticket,
        effects: &mut Effects<Answer>,
    ) {
        if let Some(Group::Consumer(group)) = self.groups.get(group_id)
            && let Err(refusal) = group.check_fetch(member_id, epoch)
        {
            return effects.answer(ticket, Answer::Fetch(Err(refusal.code)));
        }
        let fetched = match topics {
            None => self.offsets.fetch_all(group_id, stable),
            Some(topics) => {
                let partition = |topic: &AskedTopic<'_>, partition: i32| -> FetchedOffset {
                    self.offsets.fetch(group_id, topic.name, topic.id, partition, stable)
                };
                let topic = |topic: &AskedTopic<'_>| FetchedTopic {
                    name: topic.name.into(),
                    id: topic.id,
                    partitions: topic.partitions.iter().map(|it| partition(topic, *it)).collect(),
                };
                topics.iter().map(topic).collect()
            }
        };
        effects.answer(ticket, Answer::Fetch(Ok(fetched)));
    }

    /// Answers OffsetDelete. A topic that the group subscribes to keeps its offsets.
    pub fn delete_offsets(
        &mut self,
        group_id: &str,
        partitions: &[(&str, i32)],
        ticket: Ticket,
        effects: &mut Effects<Answer>,
    ) {
        let allowed = match self.groups.get(group_id) {
            Some(Group::Classic(group)) => group.may_delete_offsets(),
            Some(Group::Consumer(_)) => Ok(()),
            None => Err(ErrorCode::GroupIdNotFound),
        };
        if let Err(error) = allowed {
            return effects.answer(ticket, Answer::DeleteOffsets(Err(error)));
        }
        let mut outcomes = Vec::with_capacity(partitions.len());
        let mut room = COORDINATOR_BATCH_BYTES;
        for (topic, partition) in partitions {
            if self.groups.get(group_id).is_some_and(|group| group.is_subscribed_to(topic)) {
                outcomes.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            if self.offsets.has(group_id, topic, *partition) {
                if !take_room(&mut room, records::no_offset(group_id, topic, *partition), effects) {
                    outcomes.push(ErrorCode::UnknownServerError);
                    continue;
                }
                self.offsets.remove(group_id, topic, *partition);
            }
            outcomes.push(ErrorCode::None);
        }
        effects.answer(ticket, Answer::DeleteOffsets(Ok(outcomes)));
    }

    /// Answers DeleteGroups for one group: it goes with its offsets if it has no members.
    pub fn delete(&mut self, group_id: &str, ticket: Ticket, effects: &mut Effects<Answer>) {
        let outcome = match self.groups.get(group_id) {
            None => ErrorCode::GroupIdNotFound,
            Some(group) if !group.is_empty() => ErrorCode::NonEmptyGroup,
            Some(_) => self.delete_empty(group_id, effects),
        };
        effects.answer(ticket, Answer::Delete(outcome));
    }

    /// Answers DescribeGroups for one group.
    pub fn describe(&self, group_id: &str, version: i16, ticket: Ticket, effects: &mut Effects<Answer>) {
        let description = match self.groups.get(group_id) {
            Some(Group::Classic(group)) => group.describe(),
            other => {
                let what = if other.is_some() { "is not a classic group" } else { "not found" };
                let sentence = format!("Group {group_id} {what}.");
                let error = (version >= DESCRIBES_ERRORS_FROM).then_some((ErrorCode::GroupIdNotFound, sentence));
                Description { error, state: "Dead", ..Description::default() }
            }
        };
        effects.answer(ticket, Answer::Describe(description));
    }

    /// Answers ListGroups: those in one of the states and of one of the types, where any are named.
    pub fn list(&self, states: &[&str], kinds: &[&str], ticket: Ticket, effects: &mut Effects<Answer>) {
        let is_in = |filter: &[&str], word: &str| {
            filter.is_empty() || filter.iter().any(|it| it.trim().eq_ignore_ascii_case(word))
        };
        let listed = self.groups.iter().map(|(id, group)| match group {
            Group::Classic(group) => Listed {
                group_id: id.clone(),
                protocol_type: group.protocol_type().to_owned(),
                state: group.state(),
                kind: "classic",
            },
            Group::Consumer(group) => Listed {
                group_id: id.clone(),
                protocol_type: "consumer".to_owned(),
                state: group.state().name(),
                kind: "consumer",
            },
        });
        let wanted = listed.filter(|it| is_in(states, it.state) && is_in(kinds, it.kind));
        effects.answer(ticket, Answer::List(wanted.collect()));
    }

    fn try_commit(
        &mut self,
        who: &Committer<'_>,
        offsets: &[NewOffset<'_>],
        now: Now,
        effects: &mut Effects<Answer>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        match self.groups.get_mut(who.group_id) {
            Some(Group::Classic(group)) => {
                group.check_commit(who.member_id, who.instance_id, who.generation, who.producer.is_some(), now)?
            }
            Some(Group::Consumer(group)) => {
                let in_transaction = who.producer.is_some();
                // A transaction's client knows generations only.
                let code = |code: ErrorCode| match code {
                    ErrorCode::StaleMemberEpoch if in_transaction => ErrorCode::IllegalGeneration,
                    other => other,
                };
                let check =
                    group.check_commit(who.member_id, who.instance_id, who.generation, in_transaction, who.version);
                let check = check.map_err(|refusal| code(refusal.code))?;
                for offset in offsets {
                    let checked = check.partition(offset.topic, &offset.topic_id, offset.partition);
                    checked.map_err(|refusal| code(refusal.code))?;
                }
            }
            // Somebody who only keeps offsets here.
            None if who.generation < 0 => {}
            None if who.producer.is_none() && who.version >= TELLS_NO_GROUP_FROM => {
                return Err(ErrorCode::GroupIdNotFound);
            }
            None => return Err(ErrorCode::IllegalGeneration),
        }
        let mut outcomes = Vec::with_capacity(offsets.len());
        let mut accepted: Vec<(&str, i32, Offset)> = Vec::with_capacity(offsets.len());
        let written = effects.records.len();
        for new in offsets {
            let metadata = new.metadata.unwrap_or_default();
            if metadata.len() > self.options.metadata_max_chars
                && metadata.encode_utf16().count() > self.options.metadata_max_chars
            {
                outcomes.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            let offset = Offset {
                offset: new.offset,
                leader_epoch: new.leader_epoch.max(-1),
                metadata: records::shared(metadata),
                commit_unix_ms: new.commit_unix_ms.unwrap_or(now.unix_ms),
                expire_unix_ms: who.retention_ms.map(|ms| now.unix_ms.saturating_add(ms)),
                topic_id: new.topic_id,
            };
            records::offset(&mut effects.records, who.group_id, new.topic, new.partition, &offset);
            accepted.push((new.topic, new.partition, offset));
            outcomes.push(ErrorCode::None);
        }
        if effects.records.bytes_bound_behind(written) > COORDINATOR_BATCH_BYTES {
            effects.records.truncate(written);
            return Err(ErrorCode::UnknownServerError);
        }
        if accepted.is_empty() {
            return Ok(outcomes);
        }
        effects.producer = who.producer;
        // What is part of a transaction is kept when the log has it.
        if who.producer.is_none() {
            let group = self.simple_group(who.group_id, now.unix_ms);
            self.offsets.put_all(&group, accepted);
        }
        Ok(outcomes)
    }

    /// The id of a group. One that nobody has joined is made if there is none, so that its offsets belong to something.
    fn simple_group(&mut self, group_id: &str, unix_ms: i64) -> Arc<str> {
        if let Some((id, _)) = self.groups.get_key_value(group_id) {
            return id.clone();
        }
        let id: Arc<str> = group_id.into();
        self.groups.insert(id.clone(), Group::Classic(ClassicGroup::new(id.clone(), unix_ms)));
        id
    }

    fn delete_empty(&mut self, group_id: &str, effects: &mut Effects<Answer>) -> ErrorCode {
        let mut doomed: BTreeSet<(Arc<str>, i32)> =
            self.offsets.of_group(group_id).map(|(topic, partition, _)| (topic.clone(), partition)).collect();
        doomed.extend(self.offsets.pending_of_group(group_id).map(|(topic, partition)| (topic.clone(), partition)));
        let mut tombstones: Vec<LogRecord> =
            doomed.iter().map(|(topic, partition)| records::no_offset(group_id, topic, *partition)).collect();
        match self.groups.get_mut(group_id) {
            Some(Group::Consumer(group)) => tombstones.extend(modern::end(group)),
            _ => tombstones.push(records::no_group(group_id)),
        }
        if tombstones.iter().map(LogRecord::bytes_bound).sum::<usize>() > COORDINATOR_BATCH_BYTES {
            return ErrorCode::UnknownServerError;
        }
        tombstones.into_iter().for_each(|record| effects.write(record));
        for (topic, partition) in doomed {
            self.offsets.remove(group_id, &topic, partition);
        }
        self.remove_group(group_id);
        ErrorCode::None
    }

    fn remove_group(&mut self, group_id: &str) {
        self.groups.remove(group_id);
        if let Some((id, at_ms)) = self.due_of.remove_entry(group_id) {
            self.due.remove(&(at_ms, id));
        }
    }

    /// Enters a group under its next deadline.
    fn note_deadline(&mut self, group_id: &str) {
        let Some((id, group)) = self.groups.get_key_value(group_id) else { return };
        let (next_ms, known_ms) = (group.next_deadline_ms(), self.due_of.get(group_id).copied());
        if next_ms == known_ms {
            return;
        }
        let id = id.clone();
        if let Some(at_ms) = known_ms {
            self.due.remove(&(at_ms, id.clone()));
        }
        match next_ms {
            Some(at_ms) => {
                self.due.insert((at_ms, id.clone()));
                self.due_of.insert(id, at_ms);
            }
            None => drop(self.due_of.remove(&id)),
        }
    }

    /// Removes offsets that have expired, and groups that have neither members nor offsets, as many as fit one batch.
    fn sweep(&mut self, now: Now, effects: &mut Effects<Answer>) {
        let from = self.sweep_from.take();
        let ids: Vec<Arc<str>> = match &from {
            Some(from) => self.groups.range(from.clone()..).map(|(id, _)| id.clone()).collect(),
            None => self.groups.keys().cloned().collect(),
        };
        let mut room = COORDINATOR_BATCH_BYTES;
        for id in ids {
            let Some(group) = self.groups.get(&id) else { continue };
            let mut expired = Vec::new();
            let mut all_expired = true;
            for (topic, partition, offset) in self.offsets.of_group(&id) {
                let is_old = match (offset.expire_unix_ms, group.offsets_age_from(offset.commit_unix_ms)) {
                    (_, None) => false,
                    (Some(at_ms), _) => now.unix_ms >= at_ms,
                    (None, Some(from_ms)) => now.unix_ms - from_ms >= self.options.retention_ms,
                };
                let is_used = group.is_subscribed_to(topic) || self.offsets.is_pending(&id, topic, partition);
                if is_old && !is_used {
                    expired.push((topic.clone(), partition));
                } else {
                    all_expired = false;
                }
            }
            let goes = all_expired && group.is_empty() && !self.offsets.has_open(&id);
            for (topic, partition) in expired {
                if !take_room(&mut room, records::no_offset(&id, &topic, partition), effects) {
                    self.sweep_from = Some(id);
                    return;
                }
                self.offsets.remove(&id, &topic, partition);
            }
            if goes {
                // One of the consumer protocol without members has few records to take back.
                let ends = match self.groups.get_mut(&id) {
                    Some(Group::Consumer(group)) => modern::end(group),
                    _ => vec![records::no_group(&id)],
                };
                let bytes = ends.iter().map(LogRecord::bytes_bound).sum::<usize>();
                if bytes > room {
                    self.sweep_from = Some(id);
                    return;
                }
                room -= bytes;
                ends.into_iter().for_each(|record| effects.write(record));
                self.remove_group(&id);
            }
        }
    }

    /// Removes offsets of topics that are gone, as many as fit one batch.
    fn remove_doomed(&mut self, effects: &mut Effects<Answer>) {
        let mut room = COORDINATOR_BATCH_BYTES;
        while let Some((group, topic, partition)) = self.doomed.last() {
            if self.offsets.has(group, topic, *partition) {
                if !take_room(&mut room, records::no_offset(group, topic, *partition), effects) {
                    return;
                }
                self.offsets.remove(group, topic, *partition);
            }
            self.doomed.pop();
        }
    }
}

/// Writes a record if the batch has room for it.
fn take_room(room: &mut usize, record: LogRecord, effects: &mut Effects<Answer>) -> bool {
    let Some(left) = room.checked_sub(record.bytes_bound()) else { return false };
    *room = left;
    effects.write(record);
    true
}

impl Group {
    fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.members().is_empty(),
        }
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed_to(topic),
            Group::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    fn offsets_age_from(&self, commit_unix_ms: i64) -> Option<i64> {
        match self {
            Group::Classic(group) => group.offsets_age_from(commit_unix_ms),
            Group::Consumer(_) => Some(commit_unix_ms),
        }
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        match self {
            Group::Classic(group) => group.next_deadline_ms(),
            Group::Consumer(group) => group.next_deadline(),
        }
    }
}

impl StateMachine for Groups {
    type Answer = Answer;

    fn replay(&mut self, record: LoggedRecord<'_>) -> Result<(), ReplayError> {
        match GroupRecord::parse(&record)? {
            GroupRecord::Offset(key, Some(value)) => {
                let group = self.simple_group(key.group, record.timestamp_ms);
                let offset = Offset::from(value);
                match record.producer {
                    Some(producer) => {
                        self.offsets.put_pending(producer.id, &group, key.topic, key.partition, offset);
                    }
                    None => self.offsets.put(&group, key.topic, key.partition, offset),
                }
            }
            GroupRecord::Offset(key, None) => self.offsets.remove(key.group, key.topic, key.partition),
            GroupRecord::Group(key, Some(value)) => {
                let group = ClassicGroup::from_record(key.group.into(), &value);
                self.groups.insert(group.id().clone(), Group::Classic(group));
            }
            GroupRecord::Group(key, None) => {
                if matches!(self.groups.get(key.group), Some(Group::Classic(_))) {
                    self.remove_group(key.group);
                }
            }
            GroupRecord::Consumer(group_id, record) => self.replay_consumer(group_id, &record),
            // Groups of other kinds, which another broker may have had here: nothing of them is served.
            GroupRecord::Other(_) => {}
        }
        Ok(())
    }

    fn replay_end(&mut self, producer: ProducerEpoch, committed: bool) {
        self.offsets.end(producer.id, committed);
    }

    fn loaded(&mut self, image: &Arc<Image>, now: Now, effects: &mut Effects<Answer>) {
        let classic_max_size = self.options.max_size;
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            match self.groups.get_mut(&id) {
                Some(Group::Classic(group)) => group.loaded(classic_max_size, now, effects),
                Some(Group::Consumer(group)) => {
                    group.on_loaded(now, &modern::options(image, &id, classic_max_size));
                }
                None => {}
            }
            self.note_deadline(&id);
        }
        self.sweep_ms = Some(now.ms.saturating_add(self.options.retention_check_interval_ms));
        self.on_image(image, now, effects);
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        // What is left over from a batch that was full is due at once.
        let left_over = !self.doomed.is_empty() || self.sweep_from.is_some();
        let due = self.due.first().map(|(at_ms, _)| *at_ms);
        [left_over.then_some(0), due, self.sweep_ms].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, now: Now, effects: &mut Effects<Answer>) {
        // Each of these fills a batch at most.
        if !self.doomed.is_empty() {
            return self.remove_doomed(effects);
        }
        if self.sweep_from.is_some() {
            return self.sweep(now, effects);
        }
        if self.sweep_ms.is_some_and(|at_ms| at_ms <= now.ms) {
            self.sweep_ms = Some(now.ms.saturating_add(self.options.retention_check_interval_ms));
            return self.sweep(now, effects);
        }
        let mut bytes = 0;
        while let Some((_, id)) = self.due.first().filter(|(at_ms, _)| *at_ms <= now.ms).cloned() {
            let before = effects.records.len();
            match self.groups.get_mut(&id) {
                Some(Group::Classic(group)) => group.on_deadline(now, effects),
                Some(Group::Consumer(_)) => self.on_consumer_deadline(&id, now, effects),
                None => {}
            }
            self.note_deadline(&id);
            bytes += effects.records.bytes_bound_behind(before);
            if bytes > COORDINATOR_BATCH_BYTES / 2 {
                return;
            }
        }
    }

    fn on_image(&mut self, image: &Arc<Image>, _: Now, effects: &mut Effects<Answer>) {
        self.image = Some(image.clone());
        self.doomed = self.offsets.orphans(|topic| image.topic(topic).map(|topic| topic.id));
        self.remove_doomed(effects);
    }
}

#[cfg(test)]
mod tests;
