//! One group and its clients, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use harness::random::Random;
use wire::Uuid;
use wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use wire::messages::{ConsumerGroupHeartbeatRequest, SyncGroupRequest};

use super::*;
use crate::catalog::Action;
use crate::config::topic::Configs;
use crate::group::topics::Topics;
use crate::image::Image;
use crate::state_machine::Now;

const OPTIONS: ConsumerOptions = ConsumerOptions {
    session_timeout_ms: 45_000,
    heartbeat_interval_ms: 5_000,
    assignment_interval_ms: 1_000,
    regex_refresh_interval_ms: 600_000,
    max_size: 1_000,
    assignors: Vec::new(),
    migration: MigrationPolicy { upgrade: true, downgrade: false },
    classic_max_size: 1_000,
};

/// The time at which each test begins.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// How long clients may take to give partitions up.
const REBALANCE_MS: i32 = 60_000;

/// The topics, with the actions of a controller.
struct Topology(Image);

impl Topology {
    fn new() -> Topology {
        Topology(Image::new("cluster-id", 1, 1, Arc::new(Configs::new())))
    }

    fn with(topics: &[(&str, i32)]) -> Topology {
        let mut metadata = Topology::new();
        for (number, (name, partitions)) in topics.iter().enumerate() {
            metadata.create(name, number as u128 + 1, *partitions);
        }
        metadata
    }

    fn act(&mut self, action: &Action) {
        let mut draft = self.0.draft();
        let mut records = Vec::new();
        action.records(1, Uuid([8; 16]), &mut records);
        for record in &records {
            draft.apply(record).expect("the actions fit each other");
        }
        self.0 = draft.finish();
    }

    fn create(&mut self, name: &str, id: u128, partitions: i32) {
        self.act(&Action::CreateTopic { name: name.to_owned(), id: topic(id), partitions, configs: Configs::new() });
    }

    fn topics(&self) -> Topics<'_> {
        Topics::new(&self.0)
    }
}

fn topic(id: u128) -> Uuid {
    Uuid(id.to_be_bytes())
}

/// A client's subscription.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wish {
    names: BTreeSet<String>,
    regex: String,
    assignor: Option<&'static str>,
}

impl Wish {
    fn names(names: &[&str]) -> Wish {
        Wish { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Wish::default() }
    }
}

/// A client of the consumer protocol, as Kafka's behave.
#[derive(Debug)]
struct Client {
    member_id: String,
    instance_id: Option<String>,
    wish: Wish,
    epoch: i32,
    /// What it reads.
    owned: Partitions,
    /// What it was told to read, if it is not there yet.
    told: Option<Partitions>,
    /// Whether the next heartbeat says everything: after joining, after a change, after an answer was lost.
    full: bool,
}

impl Client {
    fn new(member_id: &str, wish: Wish) -> Client {
        Client {
            member_id: member_id.to_owned(),
            instance_id: None,
            wish,
            epoch: JOIN_EPOCH,
            owned: Partitions::new(),
            told: None,
            full: true,
        }
    }

    /// One heartbeat. A lost answer is one that the client does not see.
    fn heartbeat(&mut self, world: &mut World, lost: bool) -> Result<(), Refusal> {
        let names: Vec<&str> = self.wish.names.iter().map(String::as_str).collect();
        let owned = self.owned.iter().map(|(topic, partitions)| TopicPartitions {
            topic_id: *topic,
            partitions: partitions.iter().copied().collect(),
        });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "group",
            member_id: &self.member_id,
            member_epoch: self.epoch,
            instance_id: self.instance_id.as_deref(),
            rebalance_timeout_ms: if self.full { REBALANCE_MS } else { -1 },
            subscribed_topic_names: self.full.then_some(names),
            subscribed_topic_regex: self.full.then_some(&self.wish.regex),
            server_assignor: self.wish.assignor,
            topic_partitions: self.full.then(|| owned.collect()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        check_request(&request, 1, &Assignor::ALL).expect("clients send what is right");
        let answer = world.heartbeat(&request);
        if lost {
            self.full = true;
            return Ok(());
        }
        let response = match answer {
            Ok(response) => response,
            Err(refusal) => {
                if matches!(refusal.code, ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) {
                    self.rejoin();
                }
                return Err(refusal);
            }
        };
        assert!(response.member_epoch >= self.epoch, "epochs go forward: {} {response:?}", self.epoch);
        assert_eq!(response.heartbeat_interval_ms, OPTIONS.heartbeat_interval_ms);
        self.epoch = response.member_epoch;
        self.full = false;
        if let Some(assignment) = response.assignment {
            self.told = Some(assignment);
        }
        Ok(())
    }

    /// Gives up what it is to give up, then takes what it is to take, and says so with the next heartbeat.
    fn settle(&mut self) {
        if let Some(told) = self.told.take().filter(|told| *told != self.owned) {
            self.owned = told;
            self.full = true;
        }
    }

    /// Only the first half of [`Client::settle`].
    fn revoke(&mut self) {
        let Some(told) = &self.told else { return };
        let mut kept = self.owned.clone();
        for (topic, partitions) in &mut kept {
            partitions.retain(|partition| told.get(topic).is_some_and(|told| told.contains(partition)));
        }
        kept.retain(|_, partitions| !partitions.is_empty());
        self.full |= kept != self.owned;
        self.owned = kept;
    }

    fn rejoin(&mut self) {
        self.epoch = JOIN_EPOCH;
        self.owned.clear();
        self.told = None;
        self.full = true;
    }
}

/// The coordinator with one group, and everything it has written.
struct World {
    now: Now,
    metadata: Topology,
    group: ConsumerGroup,
    options: ConsumerOptions,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    epoch_before: i32,
}

impl World {
    fn new(metadata: Topology) -> World {
        World {
            now: Now { ms: 0, unix_ms: BEGIN_MS },
            metadata,
            group: ConsumerGroup::new("group"),
            options: ConsumerOptions { assignors: Assignor::ALL.to_vec(), ..OPTIONS },
            log: Vec::new(),
            epoch_before: 0,
        }
    }

    fn write(&mut self, records: Vec<Record>) {
        self.log.extend(records.iter().map(|record| record.encode("group").expect("records are written")));
        assert!(self.group.epoch() >= self.epoch_before, "the group's epoch goes forward");
        assert!(self.group.target_epoch() <= self.group.epoch());
        self.epoch_before = self.group.epoch();
    }

    fn heartbeat(&mut self, request: &ConsumerGroupHeartbeatRequest<'_>) -> Result<HeartbeatResponse, Refusal> {
        let mut out = Vec::new();
        let caller = Caller { client_id: "client", client_host: "/127.0.0.1", new_member_id: "generated" };
        let topics = Topics::new(&self.metadata.0);
        let answer = if request.member_epoch < JOIN_EPOCH {
            let answer = self.group.leave(request, &topics, &self.options, &mut out);
            answer.map(|(response, aftermath)| {
                assert_eq!(aftermath, Aftermath::Remains);
                response
            })
        } else {
            self.group.heartbeat(self.now, request, caller, &topics, &self.options, &mut out)
        };
        assert!(answer.is_ok() || out.is_empty(), "a refused request leaves nothing: {out:?}");
        self.write(out);
        answer
    }

    fn leave(&mut self, client: &Client, epoch: i32) -> Result<HeartbeatResponse, Refusal> {
        self.heartbeat(&ConsumerGroupHeartbeatRequest {
            group_id: "group",
            member_id: &client.member_id,
            member_epoch: epoch,
            instance_id: client.instance_id.as_deref(),
            ..ConsumerGroupHeartbeatRequest::default()
        })
    }

    /// Time passes, and time-outs with it.
    fn pass(&mut self, ms: i64) {
        let (end_ms, wall_ms) = (self.now.ms + ms, self.now.unix_ms - self.now.ms);
        while let Some(deadline_ms) = self.group.next_deadline().filter(|deadline_ms| *deadline_ms <= end_ms) {
            self.now.ms = self.now.ms.max(deadline_ms);
            self.now.unix_ms = wall_ms + self.now.ms;
            let mut out = Vec::new();
            let topics = Topics::new(&self.metadata.0);
            let aftermath = self.group.on_timeout(self.now, &topics, &self.options, &mut out);
            assert_eq!(aftermath, Aftermath::Remains);
            self.write(out);
        }
        self.now = Now { ms: end_ms, unix_ms: wall_ms + end_ms };
    }

    /// The broker starts again: the group is what its log makes of it.
    fn restart(&mut self) {
        let mut again = ConsumerGroup::new("group");
        for (key, value) in &self.log {
            let kind = i16::from_be_bytes([key[0], key[1]]);
            assert!(Record::is_type(kind));
            let (id, record) = Record::decode(kind, &key[2..], value.as_deref()).expect("what was written is read");
            assert_eq!(id, "group");
            again.apply(&record);
        }
        assert!(again.recorded() == self.group.recorded(), "{:?}\n{:?}", again.recorded(), self.group.recorded());
        again.on_loaded(self.now, &self.options);
        self.group = again;
    }

    /// Who has or gives up each partition, by the coordinator's account.
    fn owners(&self) -> BTreeMap<(Uuid, i32), Vec<Arc<str>>> {
        let mut owners: BTreeMap<(Uuid, i32), Vec<Arc<str>>> = BTreeMap::new();
        for (id, member) in self.group.members() {
            for assigned in [&member.current.assigned, &member.current.revoking] {
                for (topic, partitions) in assigned {
                    for partition in partitions.keys() {
                        owners.entry((*topic, *partition)).or_default().push(id.clone());
                    }
                }
            }
        }
        owners
    }

    /// At no time two members have a partition: neither by the coordinator's account, nor of those clients that are
    /// members.
    fn check(&self, clients: &[Client]) {
        for (partition, owners) in self.owners() {
            assert_eq!(owners.len(), 1, "{partition:?} has {owners:?}");
        }
        let mut read = BTreeMap::new();
        for client in clients {
            let Some(member) = self.group.members().get(client.member_id.as_str()) else { continue };
            // One that was fenced, or whose place was taken, does not know it yet.
            if client.epoch == JOIN_EPOCH || member.current.epoch < client.epoch {
                continue;
            }
            for (topic, partitions) in &client.owned {
                for partition in partitions {
                    let other = read.insert((*topic, *partition), client.member_id.clone());
                    assert_eq!(other, None, "{partition} is read by {} too", client.member_id);
                    let is_ours = member.current.assignment_epoch(topic, *partition).is_some();
                    assert!(is_ours, "{} reads {topic}-{partition}, which it has not: {member:?}", client.member_id);
                }
            }
        }
    }

    /// Everybody sends heartbeats until nothing changes any more. Then each has what it is to have.
    fn converge(&mut self, clients: &mut [Client]) {
        for _ in 0..40 {
            self.pass(5_000);
            for client in clients.iter_mut() {
                let _ = client.heartbeat(self, false);
                client.settle();
            }
            self.check(clients);
        }
        assert_eq!(self.group.state(), if clients.is_empty() { GroupState::Empty } else { GroupState::Stable });
        let loads = clients.iter().map(|client| client.owned.values().map(BTreeSet::len).sum::<usize>());
        let same = clients.windows(2).all(|pair| pair[0].wish == pair[1].wish);
        if same && self.group.preferred_assignor() != Some(Assignor::Range) {
            let (least, most) = (loads.clone().min().unwrap_or(0), loads.max().unwrap_or(0));
            assert!(most - least <= 1, "uneven: {clients:?}");
        }
        let mut shared: BTreeMap<(Uuid, i32), usize> = BTreeMap::new();
        for client in clients.iter() {
            let member = &self.group.members()[client.member_id.as_str()];
            assert_eq!(client.epoch, self.group.target_epoch());
            let target = self.group.target(&client.member_id).cloned().unwrap_or_default();
            assert_eq!(client.owned, target, "{}", client.member_id);
            assert_eq!(super::member::without_epochs(&member.current.assigned), target);
            for (topic, partitions) in &client.owned {
                let name = self.metadata.topics().name(topic).expect("topics that are read exist");
                let by_regex = regex::Regex::new(&format!("^(?:{})$", client.wish.regex)).unwrap();
                let wanted = !client.wish.regex.is_empty() && by_regex.is_match(name);
                assert!(wanted || client.wish.names.contains(name), "{name} is not wanted by {client:?}");
                for partition in partitions {
                    *shared.entry((*topic, *partition)).or_default() += 1;
                }
            }
        }
        for name in self.metadata.topics().names() {
            let id = self.metadata.topics().id(name).unwrap();
            for partition in 0..self.metadata.topics().partition_count(&id).unwrap() {
                let readers = shared.get(&(id, partition)).copied().unwrap_or_default();
                assert_eq!(readers, usize::from(self.group.is_subscribed_to(name)), "{name}-{partition}");
            }
        }
    }
}

#[test]
fn two_members_share_and_a_partition_moves_only_when_given_up() {
    let mut world = World::new(Topology::with(&[("t", 4)]));
    let mut first = Client::new("a", Wish::names(&["t"]));
    first.heartbeat(&mut world, false).unwrap();
    assert_eq!((world.group.epoch(), first.epoch), (2, 2), "epochs begin as in Kafka");
    assert_eq!(first.told, Some(Partitions::from([(topic(1), (0..4).collect())])));
    first.settle();
    first.heartbeat(&mut world, false).unwrap();

    world.pass(2_000);
    let mut second = Client::new("b", Wish::names(&["t"]));
    second.heartbeat(&mut world, false).unwrap();
    assert_eq!(second.told, Some(Partitions::new()), "the first one has everything still");
    assert_eq!(world.group.state(), GroupState::Reconciling);
    first.heartbeat(&mut world, false).unwrap();
    assert_eq!(first.told, Some(Partitions::from([(topic(1), BTreeSet::from([0, 1]))])));
    assert_eq!(first.epoch, 2, "the epoch stays until it has given up");
    second.heartbeat(&mut world, false).unwrap();
    second.settle();
    assert!(second.owned.is_empty());
    first.settle();
    first.heartbeat(&mut world, false).unwrap();
    assert_eq!(first.epoch, 3);
    second.heartbeat(&mut world, false).unwrap();
    assert_eq!(second.told, Some(Partitions::from([(topic(1), BTreeSet::from([2, 3]))])));
    world.check(&[first, second]);
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_fenced() {
    let mut world = World::new(Topology::with(&[("t", 4)]));
    let mut slow = Client::new("slow", Wish::names(&["t"]));
    slow.heartbeat(&mut world, false).unwrap();
    slow.settle();
    slow.heartbeat(&mut world, false).unwrap();
    world.pass(2_000);
    let mut second = Client::new("b", Wish::names(&["t"]));
    second.heartbeat(&mut world, false).unwrap();
    for _ in 0..20 {
        let _ = slow.heartbeat(&mut world, false);
        if slow.epoch == JOIN_EPOCH {
            break;
        }
        second.heartbeat(&mut world, false).unwrap();
        world.pass(5_000);
    }
    assert_eq!(slow.epoch, JOIN_EPOCH, "fenced after the rebalance time-out");
    second.heartbeat(&mut world, false).unwrap();
    second.settle();
    assert_eq!(second.owned, Partitions::from([(topic(1), (0..4).collect())]));
}

#[test]
fn epochs_and_ids_that_are_wrong_are_refused_as_kafka_does() {
    let mut world = World::new(Topology::with(&[("t", 1)]));
    let refused = |world: &mut World, request: ConsumerGroupHeartbeatRequest<'_>| {
        world.heartbeat(&ConsumerGroupHeartbeatRequest { group_id: "group", ..request }).unwrap_err()
    };
    let mut member = Client { instance_id: Some("i".to_owned()), ..Client::new("a", Wish::names(&["t"])) };
    member.heartbeat(&mut world, false).unwrap();

    let base = ConsumerGroupHeartbeatRequest { member_id: "a", member_epoch: 3, ..Default::default() };
    let refusal = refused(&mut world, base.clone());
    assert_eq!(refusal.code, ErrorCode::FencedMemberEpoch);
    assert!(refusal.message.contains("greater member epoch (3) than the one known by the group coordinator (2)"));
    let refusal = refused(&mut world, ConsumerGroupHeartbeatRequest { member_epoch: 1, ..base.clone() });
    assert_eq!(refusal.code, ErrorCode::FencedMemberEpoch);
    let refusal = refused(&mut world, ConsumerGroupHeartbeatRequest { member_id: "b", ..base.clone() });
    assert_eq!(refusal, Refusal::new(ErrorCode::UnknownMemberId, "Member b is not a member of group group."));
    let by_instance = |member_id, instance_id| ConsumerGroupHeartbeatRequest {
        member_id,
        instance_id: Some(instance_id),
        ..base.clone()
    };
    assert_eq!(refused(&mut world, by_instance("b", "i")).code, ErrorCode::FencedInstanceId);
    assert_eq!(refused(&mut world, by_instance("a", "j")).code, ErrorCode::UnknownMemberId);

    let mut again = Client { instance_id: Some("i".to_owned()), ..Client::new("b", Wish::names(&["t"])) };
    assert_eq!(again.heartbeat(&mut world, false).unwrap_err().code, ErrorCode::UnreleasedInstanceId);
    world.leave(&member, LEAVE_STATIC_EPOCH).unwrap();
    let epoch = world.group.epoch();
    again.heartbeat(&mut world, false).unwrap();
    assert_eq!(world.group.epoch(), epoch, "a static member that comes back changes nothing");
    assert_eq!(again.told, Some(Partitions::from([(topic(1), BTreeSet::from([0]))])));
    world.restart();

    world.options.max_size = 1;
    let mut third = Client::new("c", Wish::names(&["t"]));
    assert_eq!(third.heartbeat(&mut world, false).unwrap_err().code, ErrorCode::GroupMaxSizeReached);
    third.wish.regex = "(".to_owned();
    world.options.max_size = 2;
    assert_eq!(third.heartbeat(&mut world, false).unwrap_err().code, ErrorCode::InvalidRegularExpression);
}

#[test]
fn requests_that_contradict_themselves_are_refused_as_kafka_does() {
    let join = ConsumerGroupHeartbeatRequest {
        group_id: "group",
        member_id: "a",
        rebalance_timeout_ms: 1,
        subscribed_topic_names: Some(vec!["t"]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let refused = |request: ConsumerGroupHeartbeatRequest<'_>, version| {
        check_request(&request, version, &Assignor::ALL).map_err(|refusal| refusal.message)
    };
    let err = |message: &str| Err(message.to_owned());
    assert_eq!(refused(join.clone(), 1), Ok(()));
    let nameless = ConsumerGroupHeartbeatRequest { member_id: "", ..join.clone() };
    assert_eq!(refused(nameless.clone(), 0), Ok(()), "the coordinator names it");
    assert_eq!(refused(nameless, 1), err("MemberId can't be empty."));
    let request = ConsumerGroupHeartbeatRequest { group_id: " ", ..join.clone() };
    assert_eq!(refused(request, 1), err("GroupId can't be empty."));
    let request = ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..join.clone() };
    assert_eq!(refused(request, 1), err("RebalanceTimeoutMs must be provided in first request."));
    let request = ConsumerGroupHeartbeatRequest { topic_partitions: None, ..join.clone() };
    assert_eq!(refused(request, 1), err("TopicPartitions must be empty when (re-)joining."));
    let request = ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..join.clone() };
    let message = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
    assert_eq!(refused(request, 1), err(message));
    let request = ConsumerGroupHeartbeatRequest { member_epoch: -2, ..join.clone() };
    assert_eq!(refused(request, 1), err("InstanceId can't be null."));
    let request = ConsumerGroupHeartbeatRequest { member_epoch: -3, ..join.clone() };
    assert_eq!(refused(request, 1), err("MemberEpoch is invalid."));
    let request = ConsumerGroupHeartbeatRequest { server_assignor: Some("x"), ..join };
    assert_eq!(refused(request, 1), err("ServerAssignor x is not supported. Supported assignors: uniform, range."));
}

#[test]
fn offsets_are_committed_with_the_epoch_in_which_the_partition_was_assigned() {
    let mut world = World::new(Topology::with(&[("t", 2)]));
    let mut first = Client::new("a", Wish::names(&["t"]));
    first.heartbeat(&mut world, false).unwrap();
    first.settle();
    assert!(world.group.check_commit("", None, -1, false, 9).is_err(), "it has members");
    assert_eq!(world.group.check_commit("b", None, 2, false, 9).unwrap_err().code, ErrorCode::UnknownMemberId);
    assert_eq!(world.group.check_commit("a", None, 2, false, 8).unwrap_err().code, ErrorCode::UnsupportedVersion);
    assert_eq!(world.group.check_commit("a", None, 3, false, 9).unwrap_err().code, ErrorCode::StaleMemberEpoch);
    assert_eq!(world.group.check_fetch(Some("a"), 1).unwrap_err().code, ErrorCode::StaleMemberEpoch);
    world.group.check_fetch(Some("a"), 2).unwrap();
    world.group.check_fetch(None, -1).unwrap();
    world.pass(2_000);
    Client::new("b", Wish::names(&["t"])).heartbeat(&mut world, false).unwrap();
    first.heartbeat(&mut world, false).unwrap();
    first.settle();
    first.heartbeat(&mut world, false).unwrap();
    assert_eq!(first.epoch, 3);
    // It kept partition 0 since epoch 2, and has lost partition 1.
    let check = world.group.check_commit("a", None, 2, false, 9).unwrap();
    check.partition("t", &topic(1), 0).unwrap();
    assert_eq!(check.partition("t", &topic(1), 1).unwrap_err().code, ErrorCode::StaleMemberEpoch);
    let check = world.group.check_commit("a", None, 1, false, 9).unwrap();
    assert_eq!(check.partition("t", &topic(1), 0).unwrap_err().code, ErrorCode::StaleMemberEpoch);
}

#[test]
fn a_deleted_group_leaves_nothing() {
    let mut world = World::new(Topology::with(&[("t", 2), ("u", 1)]));
    let wish = Wish { regex: "u.*".to_owned(), ..Wish::names(&["t"]) };
    let mut client = Client::new("a", wish);
    client.heartbeat(&mut world, false).unwrap();
    client.settle();
    assert_eq!(client.owned.len(), 2, "by name and by expression");
    world.leave(&client, LEAVE_EPOCH).unwrap();
    assert_eq!(world.group.state(), GroupState::Empty);
    let mut out = Vec::new();
    world.group.delete(&mut out);
    world.epoch_before = 0;
    world.write(out);
    world.restart();
    assert!(world.group.is_deleted());
    let mut live: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    for (key, value) in &world.log {
        live.insert(key.clone(), value.is_some());
    }
    assert!(!live.values().any(|live| *live), "every key is taken back");
}

/// A subscription in the form of classic clients, in version 1.
fn subscription(names: &[&str], owned: &[(&str, &[i32])]) -> Vec<u8> {
    use wire::Message;
    use wire::messages::{ConsumerProtocolSubscription, consumer_protocol_subscription::TopicPartition};
    let owned = owned.iter().map(|(topic, partitions)| TopicPartition { topic, partitions: partitions.to_vec() });
    let subscription = ConsumerProtocolSubscription {
        topics: names.to_vec(),
        owned_partitions: owned.collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let mut bytes = vec![0, 1];
    subscription.encode(&mut bytes, 1).unwrap();
    bytes
}

/// A classic group in generation 7, whose two members have half of the topic `t` each.
fn classic_seed(topics: &Topics<'_>) -> ClassicSeed {
    let member = |id: &str, partitions: &[i32]| {
        let subscription = subscription(&["t"], &[]);
        let partitions = Partitions::from([(topic(1), partitions.iter().copied().collect())]);
        ClassicSeedMember {
            id: id.into(),
            instance_id: None,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: REBALANCE_MS,
            session_timeout_ms: 30_000,
            assignment: super::classic::encode_assignment(&partitions, &subscription, topics),
            protocols: vec![("range".to_owned(), subscription)],
        }
    };
    ClassicSeed {
        generation: 7,
        protocol: "range".to_owned(),
        rebalance: false,
        members: vec![member("old-a", &[0, 1]), member("old-b", &[2, 3])],
    }
}

/// One member of each protocol, the classic one led by the answers that its kind understands.
#[test]
fn a_group_is_upgraded_and_downgraded_one_member_at_a_time() {
    let mut world = World::new(Topology::with(&[("t", 4)]));
    world.options.migration.downgrade = true;
    let topics_image = world.metadata.0.clone();
    let topics = Topics::new(&topics_image);
    let seed = classic_seed(&topics);
    let mut out = Vec::new();
    world.group = ConsumerGroup::from_classic("group", &seed, world.now, &topics, &world.options, &mut out).unwrap();
    world.write(out);
    world.restart();
    assert_eq!((world.group.epoch(), world.group.state()), (7, GroupState::Stable));

    // The first one of the new protocol comes: the old ones are told to join again, and give up.
    let mut new = Client::new("new", Wish::names(&["t"]));
    new.heartbeat(&mut world, false).unwrap();
    assert_eq!(new.epoch, 8);
    assert_eq!(new.told, Some(Partitions::new()));
    let caller = Caller { client_id: "client", client_host: "/127.0.0.1", new_member_id: "generated" };
    let now = world.now;
    let rejoin = |world: &mut World, id: &str, owned: &[i32]| {
        let bytes = subscription(&["t"], &[("t", owned)]);
        let join = ClassicJoin {
            member_id: id,
            instance_id: None,
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer",
            protocols: &[("range", &bytes)],
            needs_known_id: true,
        };
        let mut out = Vec::new();
        let joined = world.group.join_classic(now, &join, caller, &topics, &world.options, &mut out).unwrap();
        world.write(out);
        let ClassicJoined::Member { generation, protocol, aftermath, .. } = joined else { panic!("{joined:?}") };
        assert_eq!((protocol.as_str(), aftermath), ("range", Aftermath::Remains));
        let request = SyncGroupRequest {
            member_id: id,
            generation_id: generation,
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            ..SyncGroupRequest::default()
        };
        let bytes = world.group.sync_classic(now, &request, &topics).unwrap();
        let (assigned, _) = super::classic::decode_assignment(&bytes, &topics).unwrap();
        (generation, assigned.get(&topic(1)).cloned().unwrap_or_default())
    };
    assert_eq!(world.group.heartbeat_classic(now, "old-b", None, 7), Ok(true));
    assert_eq!(world.group.heartbeat_classic(now, "old-b", None, 6).unwrap_err().code, ErrorCode::IllegalGeneration);
    assert_eq!(world.group.heartbeat_classic(now, "new", None, 8).unwrap_err().code, ErrorCode::UnknownMemberId);
    // A cooperative member: it learns what to give up, and joins once more without it.
    let (generation, kept) = rejoin(&mut world, "old-b", &[2, 3]);
    assert_eq!((generation, &kept), (7, &BTreeSet::from([2])), "its epoch stays until it has given up");
    assert_eq!(world.group.heartbeat_classic(now, "old-b", None, 7), Ok(true));
    let (generation, kept) = rejoin(&mut world, "old-b", &[2]);
    assert_eq!((generation, &kept), (8, &BTreeSet::from([2])));
    assert_eq!(world.group.heartbeat_classic(now, "old-b", None, 8), Ok(false));
    // An eager one has given up everything when it joins, and gets what it is to have.
    let (generation, kept) = rejoin(&mut world, "old-a", &[]);
    assert_eq!((generation, &kept), (8, &BTreeSet::from([0, 1])));
    new.heartbeat(&mut world, false).unwrap();
    new.settle();
    assert_eq!(new.owned, Partitions::from([(topic(1), BTreeSet::from([3]))]));
    world.check(&[]);

    // The one of the new protocol goes: the others go on by themselves.
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "group",
        member_id: "new",
        member_epoch: LEAVE_EPOCH,
        ..Default::default()
    };
    let mut out = Vec::new();
    let (_, aftermath) = world.group.leave(&request, &topics, &world.options, &mut out).unwrap();
    let Aftermath::Downgraded(seed) = aftermath else { panic!("the last member of the protocol has left") };
    assert_eq!((seed.generation, seed.protocol.as_str(), seed.rebalance), (8, "range", true));
    let of = |member: &ClassicSeedMember| {
        let (assigned, _) = super::classic::decode_assignment(&member.assignment, &topics).unwrap();
        (member.id.to_string(), assigned[&topic(1)].len())
    };
    let shares: Vec<(String, usize)> = seed.members.iter().map(of).collect();
    assert_eq!(shares, [("old-a".to_owned(), 2), ("old-b".to_owned(), 1)]);
    assert!(matches!(out.last(), Some(Record::Group(None))), "the group ends");
    assert!(world.group.is_deleted());
}

#[test]
fn an_upgrade_that_would_lose_something_is_refused() {
    let world = World::new(Topology::with(&[("t", 4)]));
    let topics = world.metadata.topics();
    let refused = |seed: &ClassicSeed, options: &ConsumerOptions| {
        let mut out = Vec::new();
        let refusal = ConsumerGroup::from_classic("g", seed, world.now, &topics, options, &mut out).unwrap_err();
        assert!(out.is_empty());
        assert_eq!(refusal.code, ErrorCode::GroupIdNotFound);
        refusal.message
    };
    let seed = classic_seed(&topics);
    let mut options = world.options.clone();
    options.max_size = 1;
    assert!(refused(&seed, &options).contains("exceeds the consumer group maximum size"));
    options = world.options.clone();
    options.migration.upgrade = false;
    assert!(refused(&seed, &options).contains("online upgrade is disabled"));
    let mut own_data = seed.clone();
    let length = own_data.members[0].assignment.len();
    own_data.members[0].assignment.splice(length - 4.., [0, 0, 0, 1, 9]);
    assert!(refused(&own_data, &world.options).contains("custom assignor"));
    for damaged in [vec![0], vec![0, 1, 0, 0, 0, 9]] {
        let mut seed = seed.clone();
        seed.members[0].protocols[0].1 = damaged;
        assert!(refused(&seed, &world.options).contains("malformed"));
    }
}

/// Clients come, go, die, change their minds and lose answers; topics come, grow and go; the broker starts again.
/// However it goes, no partition has two readers, and in the end each has what it is to have.
#[test]
fn thousands_of_schedules_keep_the_promises() {
    for seed in 0..3_000 {
        schedule(seed);
    }
}

fn schedule(seed: u64) {
    let mut random = Random::new(seed);
    let mut chance = move |end: u64| random.below(end);
    let names = ["alpha", "beta", "gamma", "delta"];
    let regexes = ["", "", "", "a.*", ".*a", "[ab].*", "nothing"];
    let mut world = World::new(Topology::with(&[("alpha", 1 + chance(6) as i32), ("beta", 1 + chance(6) as i32)]));
    world.options.assignment_interval_ms = [0, 1_000][chance(2) as usize];
    let mixed = chance(2) == 0;
    let assignors = [None, None, Some("uniform"), Some("range")];
    let mut next_id: u128 = 10;
    let mut clients: Vec<Client> = Vec::new();
    let mut away: Vec<Client> = Vec::new();
    let mut wish = {
        let mut random = Random::new(seed ^ 0x5eed);
        move || {
            let mut pick = |end: u64| random.below(end);
            if !mixed {
                return Wish::names(&["alpha", "beta"]);
            }
            let names = names.iter().filter(|_| pick(2) == 0).map(|name| (*name).to_owned()).collect();
            Wish { names, regex: regexes[pick(7) as usize].to_owned(), assignor: assignors[pick(4) as usize] }
        }
    };
    for step in 0..60 {
        let who = chance(clients.len().max(1) as u64) as usize;
        match chance(20) {
            0 | 1 if clients.len() < 6 => {
                let mut client = Client::new(&format!("m{seed}-{step}"), wish());
                if chance(3) == 0 {
                    client.instance_id = Some(format!("i{step}"));
                }
                clients.push(client);
            }
            2 if away.len() > 1 => {
                // A static member comes back with a new id, or with the old one.
                let mut client = away.remove(0);
                if chance(2) == 0 {
                    client.member_id = format!("m{seed}-{step}");
                }
                client.rejoin();
                clients.push(client);
            }
            3 if !clients.is_empty() => {
                let client = clients.remove(who);
                let is_static = client.instance_id.is_some();
                match chance(3) {
                    0 => {
                        let _ = world.leave(&client, LEAVE_EPOCH);
                    }
                    1 if is_static => {
                        let _ = world.leave(&client, LEAVE_STATIC_EPOCH);
                        away.push(client);
                    }
                    _ => {}
                }
            }
            4 if !clients.is_empty() => {
                clients[who].wish = wish();
                clients[who].full = true;
            }
            5 => {
                let name = names[chance(4) as usize];
                let known = world.metadata.topics().id(name);
                let count = known.and_then(|id| world.metadata.topics().partition_count(&id));
                match (known, count) {
                    (None, _) => {
                        next_id += 1;
                        world.metadata.create(name, next_id, 1 + chance(5) as i32);
                    }
                    (Some(id), Some(from)) if chance(3) > 0 => {
                        world.metadata.act(&Action::AddPartitions { id, from, to: from + 1 + chance(3) as i32 });
                    }
                    (Some(id), _) => world.metadata.act(&Action::DeleteTopic { id }),
                }
            }
            6 => world.restart(),
            7 => world.pass(chance(30_000) as i64),
            8 | 9 => world.pass(chance(3_000) as i64),
            10 | 11 if !clients.is_empty() => clients[who].revoke(),
            12 | 13 if !clients.is_empty() => clients[who].settle(),
            _ if !clients.is_empty() => {
                // While a client is on its way to an assignment, it does not report what it is about to take. If the
                // answer to such a report is lost, it may take what has been given to another: in Kafka too.
                let lost = chance(8) == 0 && clients[who].told.is_none();
                let _ = clients[who].heartbeat(&mut world, lost);
            }
            _ => {}
        }
        world.check(&clients);
    }
    // Those who are away for good are fenced when their time is over.
    world.converge(&mut clients);
    world.restart();
    world.check(&clients);
}
