//! One partition's groups with a clock and a log, and what clients would ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::join_group_request::JoinGroupRequestProtocol;
use wire::messages::leave_group_request::MemberIdentity;
use wire::messages::sync_group_request::SyncGroupRequestAssignment;
use wire::messages::{ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

use crate::catalog::Action;
use crate::config::coordinators::{CoordinatorOptions, GroupOptions};
use crate::config::topic::Configs;
use crate::group::answers::{Answer, Description, Listed};
use crate::group::{AskedTopic, Caller, Committer, Groups, NewOffset};
use crate::image::Image;
use crate::state_machine::{Effects, LogRecord, LoggedRecord, Now, ProducerEpoch, StateMachine, Ticket};

/// The topic whose partition 0 the tests commit to.
const TOPIC: &str = "topic";

pub(super) struct World {
    options: GroupOptions,
    pub(super) groups: Groups,
    now: Now,
    image: Arc<Image>,
    log: Vec<Entry>,
    next_ticket: u64,
    /// Tickets that have not been answered.
    open: BTreeSet<Ticket>,
    answers: BTreeMap<Ticket, Answer>,
    /// The newest generation that a member has been told.
    newest_generation: i32,
}

enum Entry {
    Record(LogRecord, Option<ProducerEpoch>, i64),
    End(ProducerEpoch, bool),
}

pub(super) fn options() -> GroupOptions {
    CoordinatorOptions::default().groups
}

pub(super) fn id(n: u8) -> Uuid {
    Uuid([n; 16])
}

impl World {
    pub(super) fn new() -> World {
        World::with(options())
    }

    pub(super) fn with(options: GroupOptions) -> World {
        let image = image(&[(TOPIC, 1)]);
        let mut groups = Groups::new(options);
        let now = Now { ms: 1_000, unix_ms: 1_700_000_000_000 };
        let mut effects = Effects::default();
        groups.loaded(&image, now, &mut effects);
        assert!(effects.is_empty());
        World {
            options,
            groups,
            now,
            image,
            log: Vec::new(),
            next_ticket: 0,
            open: BTreeSet::new(),
            answers: BTreeMap::new(),
            newest_generation: 0,
        }
    }

    /// Replays the log into a new state. Whoever waits for an answer waits no more.
    pub(super) fn restart(&mut self) {
        self.groups = Groups::new(self.options);
        for (offset, entry) in (0..).zip(&self.log) {
            match entry {
                Entry::Record(LogRecord { key, value }, producer, timestamp_ms) => {
                    let record = LoggedRecord {
                        offset,
                        timestamp_ms: *timestamp_ms,
                        producer: *producer,
                        key,
                        value: value.as_deref(),
                    };
                    self.groups.replay(record).unwrap();
                }
                Entry::End(producer, committed) => self.groups.replay_end(*producer, *committed),
            }
        }
        self.open.clear();
        // A generation that has had no assignment is not in the log, and its number is given again.
        self.newest_generation = 0;
        let (image, now) = (self.image.clone(), self.now);
        self.with_effects(|groups, effects| groups.loaded(&image, now, effects));
    }

    /// Lets time pass, and has everything done that becomes due meanwhile.
    pub(super) fn pass_ms(&mut self, ms: i64) {
        let end_ms = self.now.ms + ms;
        loop {
            match self.groups.next_deadline_ms().filter(|at_ms| *at_ms <= end_ms) {
                Some(at_ms) => self.move_to(at_ms.max(self.now.ms)),
                None => return self.move_to(end_ms),
            }
            let now = self.now;
            self.with_effects(|groups, effects| groups.on_deadline(now, effects));
        }
    }

    fn move_to(&mut self, ms: i64) {
        self.now = Now { ms, unix_ms: self.now.unix_ms + ms - self.now.ms };
    }

    pub(super) fn set_topics(&mut self, topics: &[(&str, u8)]) {
        self.image = image(topics);
        let (image, now) = (self.image.clone(), self.now);
        self.with_effects(|groups, effects| groups.on_image(&image, now, effects));
        self.pass_ms(0);
    }

    pub(super) fn is_answered(&self, ticket: Ticket) -> bool {
        self.answers.contains_key(&ticket)
    }

    /// The answer to a request, which must be there.
    pub(super) fn answer(&mut self, ticket: Ticket) -> Answer {
        self.answers.remove(&ticket).unwrap_or_else(|| panic!("{ticket:?} is not answered"))
    }

    /// Requests that wait.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn log_len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.now.ms
    }

    pub(super) fn join(&mut self, group: &str, member: &str, instance: Option<&str>, version: i16) -> Ticket {
        self.join_with(group, member, instance, version, 10_000, "consumer", &[("range", b"x"), ("sticky", b"y")])
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a request")]
    pub(super) fn join_with(
        &mut self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        version: i16,
        session_timeout_ms: i32,
        protocol_type: &str,
        protocols: &[(&str, &[u8])],
    ) -> Ticket {
        let request = JoinGroupRequest {
            group_id: group,
            session_timeout_ms,
            rebalance_timeout_ms: 300_000,
            member_id: member,
            group_instance_id: instance,
            protocol_type,
            protocols: protocols.iter().map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata }).collect(),
            reason: None,
        };
        let new_member = format!("{:08}", self.next_ticket);
        let now = self.now;
        self.ask(|groups, ticket, effects| {
            let caller = Caller { client_id: "client", client_host: "/127.0.0.1", version, new_member: &new_member };
            groups.join(&request, &caller, (now, ticket), effects);
        })
    }

    /// Joins a group of the consumer protocol.
    pub(super) fn join_consumers(&mut self, group: &str, member: &str) -> Ticket {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group,
            member_id: member,
            member_epoch: 0,
            rebalance_timeout_ms: 300_000,
            subscribed_topic_names: Some(vec![TOPIC]),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let now = self.now;
        self.ask(|groups, ticket, effects| {
            let caller = Caller { client_id: "client", client_host: "/127.0.0.1", version: 1, new_member: "" };
            groups.consumer_heartbeat(&request, &caller, (now, ticket), effects);
        })
    }

    pub(super) fn sync(&mut self, group: &str, member: &str, generation: i32, given: &[(&str, &[u8])]) -> Ticket {
        let assignments =
            given.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment }).collect();
        let request = SyncGroupRequest {
            group_id: group,
            generation_id: generation,
            member_id: member,
            assignments,
            ..SyncGroupRequest::default()
        };
        let now = self.now;
        self.ask(|groups, ticket, effects| groups.sync(&request, (now, ticket), effects))
    }

    pub(super) fn heartbeat(&mut self, group: &str, member: &str, generation: i32) -> ErrorCode {
        self.heartbeat_of(group, member, None, generation)
    }

    pub(super) fn heartbeat_static(&mut self, group: &str, member: &str, instance: &str, gen_: i32) -> ErrorCode {
        self.heartbeat_of(group, member, Some(instance), gen_)
    }

    fn heartbeat_of(&mut self, group: &str, member: &str, instance: Option<&str>, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: group,
            generation_id: generation,
            member_id: member,
            group_instance_id: instance,
        };
        let now = self.now;
        let ticket = self.ask(|groups, ticket, effects| groups.heartbeat(&request, (now, ticket), effects));
        match self.answer(ticket) {
            Answer::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn leave(&mut self, group: &str, member: &str, instance: Option<&str>) -> ErrorCode {
        let leaving = [MemberIdentity { member_id: member, group_instance_id: instance, reason: None }];
        let now = self.now;
        let ticket = self.ask(|groups, ticket, effects| groups.leave(group, &leaving, (now, ticket), effects));
        match self.answer(ticket) {
            Answer::Leave(Ok(outcomes)) => outcomes[0],
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn commit(
        &mut self,
        group: &str,
        member: &str,
        generation: i32,
        offset: i64,
        metadata: &str,
    ) -> Result<ErrorCode, ErrorCode> {
        self.commit_as(group, member, generation, offset, metadata, None)
    }

    pub(super) fn commit_in(
        &mut self,
        group: &str,
        producer: ProducerEpoch,
        offset: i64,
    ) -> Result<ErrorCode, ErrorCode> {
        self.commit_as(group, "", -1, offset, "", Some(producer))
    }

    fn commit_as(
        &mut self,
        group: &str,
        member: &str,
        generation: i32,
        offset: i64,
        metadata: &str,
        producer: Option<ProducerEpoch>,
    ) -> Result<ErrorCode, ErrorCode> {
        let topic_id = self.image.topic(TOPIC).map_or(id(1), |topic| topic.id);
        let who = Committer {
            group_id: group,
            member_id: member,
            instance_id: None,
            generation,
            version: 9,
            retention_ms: None,
            producer,
        };
        let new = NewOffset {
            topic: TOPIC,
            topic_id,
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: Some(metadata),
            commit_unix_ms: None,
        };
        let now = self.now;
        let ticket = self.ask(|groups, ticket, effects| groups.commit(&who, &[new], (now, ticket), effects));
        match self.answer(ticket) {
            Answer::Commit(outcome) => outcome.map(|outcomes| outcomes[0]),
            other => panic!("{other:?}"),
        }
    }

    /// A producer's transaction ends: the marker is in the log.
    pub(super) fn end(&mut self, producer: ProducerEpoch, committed: bool) {
        self.log.push(Entry::End(producer, committed));
        self.groups.replay_end(producer, committed);
    }

    /// The committed offset, or -1.
    pub(super) fn offset(&mut self, group: &str) -> i64 {
        self.fetch(group, false).unwrap()
    }

    pub(super) fn stable_offset(&mut self, group: &str) -> Result<i64, ErrorCode> {
        self.fetch(group, true)
    }

    fn fetch(&mut self, group: &str, stable: bool) -> Result<i64, ErrorCode> {
        let asked = [AskedTopic { name: TOPIC, id: Uuid::ZERO, partitions: &[0] }];
        let ticket =
            self.ask(|groups, ticket, effects| groups.fetch(group, (None, -1), Some(&asked), stable, ticket, effects));
        let Answer::Fetch(Ok(topics)) = self.answer(ticket) else { panic!() };
        let found = &topics[0].partitions[0];
        if found.error == ErrorCode::None { Ok(found.offset) } else { Err(found.error) }
    }

    pub(super) fn describe(&mut self, group: &str) -> Description {
        let ticket = self.ask(|groups, ticket, effects| groups.describe(group, 5, ticket, effects));
        match self.answer(ticket) {
            Answer::Describe(description) => description,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn list(&mut self) -> Vec<Listed> {
        let ticket = self.ask(|groups, ticket, effects| groups.list(&[], &[], ticket, effects));
        match self.answer(ticket) {
            Answer::List(listed) => listed,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn delete(&mut self, group: &str) -> ErrorCode {
        let ticket = self.ask(|groups, ticket, effects| groups.delete(group, ticket, effects));
        match self.answer(ticket) {
            Answer::Delete(error) => error,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, operation: impl FnOnce(&mut Groups, Ticket, &mut Effects<Answer>)) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.open.insert(ticket);
        self.with_effects(|groups, effects| operation(groups, ticket, effects));
        ticket
    }

    fn with_effects(&mut self, work: impl FnOnce(&mut Groups, &mut Effects<Answer>)) {
        let mut effects = Effects::default();
        work(&mut self.groups, &mut effects);
        assert!(effects.records.bytes_bound_behind(0) <= crate::limits::COORDINATOR_BATCH_BYTES);
        let records = effects.records.iter();
        let records: Vec<LogRecord> =
            records.map(|(key, value)| LogRecord { key: key.to_vec(), value: value.map(<[u8]>::to_vec) }).collect();
        let unix_ms = self.now.unix_ms;
        if records.contains(&crate::group::records::no_group("group")) {
            // The next one begins anew.
            self.newest_generation = 0;
        }
        if let Some(producer) = effects.producer {
            for LogRecord { key, value } in &records {
                let record = LoggedRecord {
                    offset: 0,
                    timestamp_ms: unix_ms,
                    producer: Some(producer),
                    key,
                    value: value.as_deref(),
                };
                self.groups.replay(record).unwrap();
            }
        }
        self.log.extend(records.into_iter().map(|record| Entry::Record(record, effects.producer, unix_ms)));
        for (ticket, answer) in effects.answers {
            if let Answer::Join(answer) = &answer
                && answer.error == ErrorCode::None
            {
                let newest = std::mem::replace(&mut self.newest_generation, answer.generation);
                assert!(answer.generation >= newest, "generation {} after {newest}", answer.generation);
            }
            if self.open.remove(&ticket) {
                self.answers.insert(ticket, answer);
            } else {
                assert!(!self.answers.contains_key(&ticket), "{ticket:?} is answered twice");
            }
        }
    }
}

fn image(topics: &[(&str, u8)]) -> Arc<Image> {
    let mut draft = Image::new("test", 1, 1, Arc::new(Configs::new())).draft();
    for (name, n) in topics {
        let action =
            Action::CreateTopic { name: (*name).to_owned(), id: id(*n), partitions: 4, configs: Configs::new() };
        let mut records = Vec::new();
        action.records(1, id(99), &mut records);
        records.iter().for_each(|record| draft.apply(record).unwrap());
    }
    Arc::new(draft.finish())
}
