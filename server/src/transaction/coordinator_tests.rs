//! The rules one by one, and then thousands of seeded schedules of producers, partitions, markers, time and crashes.

use std::collections::HashMap;

use super::*;
use crate::transaction::record;

fn id() -> Arc<str> {
    Arc::from("pay")
}

fn partition(number: i32) -> Partition {
    (Arc::from("t"), number)
}

fn some(numbers: &[i32]) -> BTreeSet<Partition> {
    numbers.iter().map(|number| partition(*number)).collect()
}

/// Carries a step out at once.
fn carry_out(coordinator: &mut Coordinator, step: Result<Step, ErrorCode>) -> (Producer, Option<Ending>) {
    match step.unwrap() {
        Step::Done(producer) => (producer, None),
        Step::Changed(change) => (change.state.unwrap().producer, coordinator.ending(&change.transactional_id)),
        Step::NeedId => panic!("an id was given"),
    }
}

/// A producer that has begun, with the id 7.
fn begun(coordinator: &mut Coordinator) -> Producer {
    let step = coordinator.init("pay", 1000, None, Some(7), 0);
    carry_out(coordinator, step).0
}

fn with_epoch(epoch: i16, phase: Phase) -> Coordinator {
    let mut coordinator = Coordinator::default();
    let mut state = State::new(7, 1000, 0);
    (state.producer.epoch, state.phase) = (epoch, phase);
    coordinator.load(id(), Some(state));
    coordinator
}

#[test]
fn a_transaction_from_beginning_to_end() {
    for client in [ClientVersion::V1, ClientVersion::V2] {
        let mut all = Coordinator::default();
        assert_eq!(all.init("pay", 1000, None, None, 0), Ok(Step::NeedId));
        let producer = begun(&mut all);
        assert_eq!(producer, Producer { id: 7, epoch: 0 });
        assert_eq!(all.verify("pay", producer, &some(&[0])), Ok(some(&[0])));
        let step = all.add("pay", producer, &some(&[0, 1]), client, 10);
        assert!(matches!(step, Ok(Step::Changed(_))));
        assert_eq!(all.add("pay", producer, &some(&[1]), client, 11), Ok(Step::Done(producer)));
        assert_eq!(all.verify("pay", producer, &some(&[1, 2])), Ok(some(&[2])));
        let step = all.end("pay", producer, Outcome::Commit, client, None, 20);
        let (ended, ending) = carry_out(&mut all, step);
        let bump = i16::from(client == ClientVersion::V2);
        assert_eq!(ended, Producer { id: 7, epoch: bump });
        let ending = ending.unwrap();
        assert_eq!((ending.producer, ending.outcome), (ended, Outcome::Commit));
        assert_eq!(ending.partitions, some(&[0, 1]));
        let retry = all.end("pay", producer, Outcome::Commit, client, None, 21);
        assert_eq!(retry, Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(all.add("pay", ended, &some(&[0]), client, 21), Err(ErrorCode::ConcurrentTransactions));
        let step = all.told(&ending, 30);
        carry_out(&mut all, step);
        let described = all.describe("pay").unwrap();
        assert_eq!((described.phase, described.partitions.len()), (Phase::CompleteCommit, 0));
        assert_eq!(all.end("pay", producer, Outcome::Commit, client, None, 31), Ok(Step::Done(ended)), "a retry");
        let other = all.end("pay", producer, Outcome::Abort, client, None, 31);
        assert_eq!(other, Err(ErrorCode::InvalidTxnState));
        assert_eq!(all.told(&ending, 40), Err(ErrorCode::InvalidTxnState), "told already");
    }
}

#[test]
fn strangers_and_the_fenced_are_refused() {
    let mut all = Coordinator::default();
    let old = begun(&mut all);
    let new = begun(&mut all);
    assert_eq!(new, Producer { id: 7, epoch: 1 });
    let stranger = Producer { id: 8, epoch: 1 };
    for client in [ClientVersion::V1, ClientVersion::V2] {
        assert_eq!(all.add("pay", old, &some(&[0]), client, 0), Err(ErrorCode::ProducerFenced));
        assert_eq!(all.add("pay", stranger, &some(&[0]), client, 0), Err(ErrorCode::InvalidProducerIdMapping));
        assert_eq!(all.add("nobody", new, &some(&[0]), client, 0), Err(ErrorCode::InvalidProducerIdMapping));
        let end = |all: &mut Coordinator, producer| all.end("pay", producer, Outcome::Commit, client, None, 0);
        assert_eq!(end(&mut all, old), Err(ErrorCode::ProducerFenced));
        assert_eq!(end(&mut all, stranger), Err(ErrorCode::InvalidProducerIdMapping));
        assert_eq!(end(&mut all, new), Err(ErrorCode::InvalidTxnState), "nothing to commit");
    }
    assert_eq!(all.verify("pay", old, &some(&[0])), Err(ErrorCode::ProducerFenced));
    let again = all.init("pay", 1000, Some(old), None, 0);
    assert_eq!(again, Err(ErrorCode::ProducerFenced));
    let again = all.init("pay", 1000, Some(stranger), None, 0);
    assert_eq!(again, Err(ErrorCode::ProducerFenced));
}

#[test]
fn whoever_is_shut_out_of_a_transaction_loses_one_epoch() {
    use ClientVersion::{V1, V2};
    // What the producer speaks decides nothing.
    for (client, cluster) in [(V1, V1), (V1, V2), (V2, V1), (V2, V2)] {
        for is_overdue in [true, false] {
            let mut all = Coordinator::default();
            all.set_cluster(cluster);
            let old = begun(&mut all);
            all.add("pay", old, &some(&[0]), client, 10).unwrap();
            if is_overdue {
                assert_eq!(all.abort_overdue(10_000).len(), 1);
            } else {
                all.init("pay", 1000, None, None, 11).unwrap();
            }
            let ending = all.ending(&id()).unwrap();
            assert_eq!((ending.producer, ending.outcome), (Producer { id: 7, epoch: 1 }, Outcome::Abort));
            assert_eq!(ending.client, cluster);
            assert_eq!(all.add("pay", old, &some(&[0]), client, 12), Err(ErrorCode::ProducerFenced));
            all.told(&ending, 20).unwrap();
            let goes_on = all.init("pay", 1000, Some(old), None, 30);
            match cluster {
                V1 => assert_eq!(goes_on, Err(ErrorCode::ProducerFenced)),
                V2 => assert_eq!(carry_out(&mut all, goes_on).0, Producer { id: 7, epoch: 1 }),
            }
            assert_eq!(begun(&mut all), Producer { id: 7, epoch: 2 });
            assert_eq!(all.init("pay", 1000, Some(old), None, 40), Err(ErrorCode::ProducerFenced));
        }
    }
}

#[test]
fn a_producer_that_goes_on_may_ask_twice() {
    let mut all = Coordinator::default();
    let first = begun(&mut all);
    let step = all.init("pay", 1000, Some(first), None, 0);
    let second = carry_out(&mut all, step).0;
    assert_eq!(second.epoch, 1);
    let step = all.init("pay", 1000, Some(first), None, 0);
    assert_eq!(carry_out(&mut all, step).0, second, "the same answer");
    begun(&mut all);
    assert_eq!(all.init("pay", 1000, Some(first), None, 0), Err(ErrorCode::ProducerFenced), "another has begun");
}

#[test]
fn a_new_producer_ends_the_transaction_of_the_old_one() {
    let mut all = Coordinator::default();
    let old = begun(&mut all);
    let step = all.add("pay", old, &some(&[3]), ClientVersion::V1, 0);
    carry_out(&mut all, step);
    let step = all.init("pay", 1000, None, None, 5);
    let (_, ending) = carry_out(&mut all, step);
    let ending = ending.unwrap();
    assert_eq!((ending.outcome, ending.producer.epoch), (Outcome::Abort, 1));
    assert_eq!(all.init("pay", 1000, None, None, 5), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(all.end("pay", old, Outcome::Commit, ClientVersion::V1, None, 5), Err(ErrorCode::ProducerFenced));
    let step = all.told(&ending, 6);
    carry_out(&mut all, step);
    assert_eq!(begun(&mut all).epoch, 2);
}

#[test]
fn epochs_that_are_used_up_give_another_id() {
    // By a producer that begins.
    let mut all = with_epoch(i16::MAX - 1, Phase::Empty);
    assert_eq!(all.init("pay", 1000, None, None, 0), Ok(Step::NeedId));
    let step = all.init("pay", 1000, None, Some(99), 0);
    assert_eq!(carry_out(&mut all, step).0, Producer { id: 99, epoch: 0 });
    // By a transaction that ends.
    let mut all = with_epoch(i16::MAX - 1, Phase::Ongoing);
    let last = Producer { id: 7, epoch: i16::MAX - 1 };
    let end = |all: &mut Coordinator, fresh| all.end("pay", last, Outcome::Commit, ClientVersion::V2, fresh, 0);
    assert_eq!(end(&mut all, None), Ok(Step::NeedId));
    let step = end(&mut all, Some(99));
    let ending = carry_out(&mut all, step).1.unwrap();
    assert_eq!(ending.producer, Producer { id: 7, epoch: i16::MAX }, "markers are of the old id");
    let told = Producer { id: 99, epoch: 0 };
    assert_eq!(all.describe("pay").unwrap().announced(), told);
    let early = all.add("pay", told, &some(&[0]), ClientVersion::V2, 0);
    assert_eq!(early, Err(ErrorCode::ConcurrentTransactions));
    let step = all.told(&ending, 1);
    assert_eq!(carry_out(&mut all, step).0, told);
    assert_eq!(end(&mut all, None), Ok(Step::Done(Producer { id: 99, epoch: 0 })), "the answer was lost");
    // By the coordinator, which has the highest epoch for itself.
    let mut all = with_epoch(i16::MAX - 1, Phase::Ongoing);
    let overdue = all.abort_overdue(i64::MAX);
    assert_eq!(overdue[0].state.as_ref().unwrap().producer.epoch, i16::MAX);
    let ending = all.ending("pay").unwrap();
    let step = all.told(&ending, 1);
    carry_out(&mut all, step);
    let step = all.init("pay", 1000, None, Some(99), 2);
    assert_eq!(carry_out(&mut all, step).0, Producer { id: 99, epoch: 0 });
}

#[test]
fn aborts_of_nothing() {
    let mut all = Coordinator::default();
    let producer = begun(&mut all);
    let old = all.end("pay", producer, Outcome::Abort, ClientVersion::V1, None, 0);
    assert_eq!(old, Err(ErrorCode::InvalidTxnState));
    let step = all.end("pay", producer, Outcome::Abort, ClientVersion::V2, None, 5);
    let (ended, ending) = carry_out(&mut all, step);
    assert_eq!(ended.epoch, 1);
    let step = all.told(&ending.unwrap(), 6);
    carry_out(&mut all, step);
    let step = all.end("pay", ended, Outcome::Abort, ClientVersion::V2, None, 7);
    assert_eq!(carry_out(&mut all, step).0.epoch, 2, "the next abort of nothing");
}

#[test]
fn what_is_late_is_aborted_and_what_is_silent_forgotten() {
    let mut all = Coordinator::default();
    let producer = begun(&mut all);
    let step = all.add("pay", producer, &some(&[0]), ClientVersion::V2, 100);
    carry_out(&mut all, step);
    assert!(all.forget_expired(0, i64::MAX, 9).is_empty(), "a transaction is open");
    assert!(all.abort_overdue(1100).is_empty());
    assert_eq!(all.abort_overdue(1101).len(), 1);
    assert!(all.abort_overdue(1101).is_empty(), "once");
    let ending = all.ending("pay").unwrap();
    assert!(all.forget_expired(0, i64::MAX, 9).is_empty(), "partitions do not know");
    let step = all.told(&ending, 2000);
    carry_out(&mut all, step);
    assert!(all.forget_expired(500, 2499, 9).is_empty());
    assert!(all.forget_expired(500, 2500, 0).is_empty());
    let forgotten = all.forget_expired(500, 2500, 9);
    assert_eq!(forgotten, [Change { transactional_id: id(), state: None }]);
    assert!(all.describe("pay").is_none());
}

/// A partition's log, as far as transactions go.
#[derive(Default)]
struct Log {
    entries: Vec<Written>,
    epochs: HashMap<i64, i16>,
    /// By producer id, the epoch of its open transaction.
    open: HashMap<i64, i16>,
}

enum Written {
    Record { producer: Producer, transaction: usize },
    Marker { producer: Producer, outcome: Outcome },
}

impl Log {
    fn append(&mut self, producer: Producer, transaction: usize) -> bool {
        if self.epochs.get(&producer.id).is_some_and(|epoch| producer.epoch < *epoch) {
            return false;
        }
        self.epochs.insert(producer.id, producer.epoch);
        self.open.insert(producer.id, producer.epoch);
        self.entries.push(Written::Record { producer, transaction });
        true
    }

    fn mark(&mut self, producer: Producer, outcome: Outcome) {
        assert!(self.epochs.get(&producer.id).is_none_or(|epoch| *epoch <= producer.epoch), "epochs only grow");
        self.epochs.insert(producer.id, producer.epoch);
        self.open.remove(&producer.id);
        self.entries.push(Written::Marker { producer, outcome });
    }

    /// What became of each record.
    fn outcomes(&self) -> Vec<(usize, Option<Outcome>)> {
        let mut found = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if let Written::Record { producer, transaction } = entry {
                let outcome = self.entries[at..].iter().find_map(|later| match later {
                    Written::Marker { producer: ended, outcome } if ended.id == producer.id => Some(*outcome),
                    _ => None,
                });
                found.push((*transaction, outcome));
            }
        }
        found
    }
}

/// Something under way.
enum Task {
    /// Something waits for its record, and those before it, to be durable.
    Durable { appended: usize, then: Then },
    /// The coordinator's word is on its way to the partition. A marker that overtakes it makes it void.
    Verified { client: usize, partition: usize, producer: Producer, transaction: usize, is_void: bool },
    /// Markers on their way.
    Tell { ending: Ending, left: BTreeSet<Partition> },
}

enum Then {
    Init(usize, Option<Producer>),
    Verified { client: usize, partition: usize, producer: Producer, transaction: usize, is_void: bool },
    Join { client: usize, partition: usize },
    End { client: usize, outcome: Outcome, producer: Producer },
    Tell(Ending),
    Nothing,
}

/// A program with a producer. It may believe in itself long after another one has taken its place.
struct Client {
    version: ClientVersion,
    producer: Option<Producer>,
    transaction: Option<usize>,
    /// Partitions that it has been told are part of its transaction: by the older protocol it asks before it writes.
    joined: BTreeSet<usize>,
    /// It has asked for the end, and asks again until it knows.
    ending: Option<Outcome>,
    /// Requests without an answer. A crash of the broker loses them.
    waiting: usize,
}

/// A transaction as its client knows it.
#[derive(Default)]
struct Known {
    acknowledged: usize,
    told: Option<Outcome>,
}

struct World {
    random: u64,
    now_ms: i64,
    coordinator: Coordinator,
    /// The log of the coordinator, and how much of it is durable.
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    durable: usize,
    logs: Vec<Log>,
    tasks: Vec<Task>,
    clients: Vec<Client>,
    known: Vec<Known>,
    next_id: i64,
}

const PARTITIONS: usize = 3;

impl World {
    fn new(seed: u64) -> World {
        World {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now_ms: 0,
            coordinator: Coordinator::default(),
            log: Vec::new(),
            durable: 0,
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            tasks: Vec::new(),
            clients: Vec::new(),
            known: Vec::new(),
            next_id: 1,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }

    fn fresh(&mut self) -> Option<i64> {
        self.next_id += 1;
        Some(self.next_id)
    }

    fn step(&mut self) {
        match self.below(100) {
            0..2 => self.crash(),
            2..6 => {
                let version = if self.below(2) == 0 { ClientVersion::V1 } else { ClientVersion::V2 };
                self.clients.push(Client {
                    version,
                    producer: None,
                    transaction: None,
                    joined: BTreeSet::new(),
                    ending: None,
                    waiting: 0,
                });
            }
            6..10 => self.now_ms += 400,
            10..12 => self.abort_overdue(),
            12..55 => self.act(),
            _ => {
                if !self.tasks.is_empty() {
                    let at = self.below(self.tasks.len());
                    let task = self.tasks.swap_remove(at);
                    self.advance(task);
                }
            }
        }
    }

    /// Everything that was in memory is gone; what was being written is on disk up to some record.
    fn crash(&mut self) {
        self.tasks.clear();
        let survived = self.durable + self.below(self.log.len() - self.durable + 1);
        self.log.truncate(survived);
        self.durable = survived;
        self.coordinator = Coordinator::default();
        for (key, value) in &self.log {
            let read = record::decode(Some(key), value.as_deref()).unwrap();
            self.coordinator.load(read.transactional_id, read.state);
        }
        self.clients.iter_mut().for_each(|client| client.waiting = 0);
        let unfinished = self.coordinator.unfinished();
        self.tasks.extend(unfinished.into_iter().map(|ending| Task::Tell { left: ending.partitions.clone(), ending }));
    }

    /// Appends a change. What follows it waits until it is durable.
    fn append_change(&mut self, before: Option<Producer>, change: &Change, then: Then) {
        let state = change.state.as_ref().expect("nothing expires here");
        if let Some(before) = before {
            let after = state.producer;
            assert!(
                after.id > before.id || (after.id == before.id && after.epoch >= before.epoch),
                "{before:?} {after:?}"
            );
        }
        self.log.push((record::encode_key("pay").unwrap(), Some(record::encode_value(state).unwrap())));
        self.tasks.push(Task::Durable { appended: self.log.len(), then });
        if let Some(ending) = self.coordinator.ending("pay") {
            self.tasks.push(Task::Durable { appended: self.log.len(), then: Then::Tell(ending) });
        }
    }

    fn producer(&self) -> Option<Producer> {
        self.coordinator.describe("pay").map(|state| state.producer)
    }

    fn abort_overdue(&mut self) {
        let before = self.producer();
        for change in self.coordinator.abort_overdue(self.now_ms) {
            self.append_change(before, &change, Then::Nothing);
        }
    }

    fn act(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        // Mostly the newest ones; the others are zombies.
        let client = self.clients.len() - 1 - self.below(self.clients.len().min(3));
        let Client { version, producer, transaction, ending, waiting, .. } = self.clients[client];
        let Some(producer) = producer else {
            if waiting == 0 {
                let fresh = self.fresh();
                let before = self.producer();
                let step = self.coordinator.init("pay", 1000, None, fresh, self.now_ms);
                if let Ok(Step::Changed(change)) = step {
                    self.clients[client].waiting += 1;
                    let state = change.state.as_ref().unwrap();
                    let given = (state.phase == Phase::Empty).then_some(state.producer);
                    self.append_change(before, &change, Then::Init(client, given));
                }
            }
            return;
        };
        match transaction {
            None => {
                self.known.push(Known::default());
                self.clients[client].joined.clear();
                self.clients[client].transaction = Some(self.known.len() - 1);
            }
            Some(transaction) if ending.is_none() && self.below(4) > 0 => {
                let partition = self.below(PARTITIONS);
                if version == ClientVersion::V2 || self.clients[client].joined.contains(&partition) {
                    self.write(client, partition, producer, transaction);
                } else {
                    self.join(client, partition, producer);
                }
            }
            Some(_) if waiting == 0 => {
                let wished = if self.below(3) == 0 { Outcome::Abort } else { Outcome::Commit };
                let outcome = ending.unwrap_or(wished);
                self.clients[client].ending = Some(outcome);
                let fresh = self.fresh();
                let before = self.producer();
                match self.coordinator.end("pay", producer, outcome, version, fresh, self.now_ms) {
                    Ok(Step::Changed(change)) => {
                        self.clients[client].waiting += 1;
                        let producer = change.state.as_ref().unwrap().announced();
                        self.append_change(before, &change, Then::End { client, outcome, producer });
                    }
                    Ok(Step::NeedId) => unreachable!("an id was given"),
                    Ok(Step::Done(producer)) => self.ended(client, outcome, producer),
                    Err(ErrorCode::ConcurrentTransactions) => {}
                    // Nothing was written, or another producer has taken over.
                    Err(_) => (self.clients[client].transaction, self.clients[client].ending) = (None, None),
                }
            }
            Some(_) => {}
        }
    }

    /// A client of the older protocol asks for a partition.
    fn join(&mut self, client: usize, at: usize, producer: Producer) {
        let joining = some(&[at as i32]);
        match self.coordinator.add("pay", producer, &joining, ClientVersion::V1, self.now_ms) {
            Ok(Step::Changed(change)) => {
                self.clients[client].waiting += 1;
                self.append_change(None, &change, Then::Join { client, partition: at });
            }
            Ok(_) => {
                self.clients[client].waiting += 1;
                let then = Then::Join { client, partition: at };
                self.tasks.push(Task::Durable { appended: self.log.len(), then });
            }
            Err(_) => {}
        }
    }

    /// A record arrives at a partition.
    fn write(&mut self, client: usize, at: usize, producer: Producer, transaction: usize) {
        if self.logs[at].open.get(&producer.id) == Some(&producer.epoch) {
            return self.append(client, at, producer, transaction);
        }
        let version = self.clients[client].version;
        let joining = some(&[at as i32]);
        // The answer rests on all that has been decided, and leaves when that is durable.
        let then = Then::Verified { client, partition: at, producer, transaction, is_void: false };
        let is_verified = match version {
            ClientVersion::V2 => match self.coordinator.add("pay", producer, &joining, version, self.now_ms) {
                Ok(Step::Changed(change)) => {
                    self.append_change(None, &change, Then::Nothing);
                    true
                }
                joined => joined.is_ok(),
            },
            ClientVersion::V1 => {
                self.coordinator.verify("pay", producer, &joining).is_ok_and(|missing| missing.is_empty())
            }
        };
        if is_verified {
            self.clients[client].waiting += 1;
            self.tasks.push(Task::Durable { appended: self.log.len(), then });
        }
    }

    fn append(&mut self, client: usize, at: usize, producer: Producer, transaction: usize) {
        if self.logs[at].append(producer, transaction) {
            let state = self.coordinator.describe("pay").unwrap();
            assert!(state.phase == Phase::Ongoing || state.phase.is_prepared(), "nobody would end this transaction");
            assert!(state.partitions.contains(&partition(at as i32)), "this partition would not be told");
            if self.clients[client].transaction == Some(transaction) {
                self.known[transaction].acknowledged += 1;
            }
        }
    }

    /// The client learns that its transaction has ended.
    fn ended(&mut self, client: usize, outcome: Outcome, producer: Producer) {
        let client = &mut self.clients[client];
        client.ending = None;
        if let Some(transaction) = client.transaction.take() {
            self.known[transaction].told = Some(outcome);
        }
        if client.version == ClientVersion::V2 {
            client.producer = Some(producer);
        }
    }

    fn advance(&mut self, task: Task) {
        match task {
            Task::Durable { appended, then } => {
                self.durable = self.durable.max(appended);
                match then {
                    Then::Init(client, given) => {
                        self.clients[client].waiting -= 1;
                        self.clients[client].producer = given;
                    }
                    Then::Verified { client, partition, producer, transaction, is_void } => {
                        let verified = Task::Verified { client, partition, producer, transaction, is_void };
                        self.tasks.push(verified);
                    }
                    Then::Join { client, partition } => {
                        self.clients[client].waiting -= 1;
                        self.clients[client].joined.insert(partition);
                    }
                    Then::End { client, outcome, producer } => {
                        self.clients[client].waiting -= 1;
                        self.ended(client, outcome, producer);
                    }
                    Then::Tell(ending) => {
                        self.tasks.push(Task::Tell { left: ending.partitions.clone(), ending });
                    }
                    Then::Nothing => {}
                }
            }
            Task::Verified { client, partition, producer, transaction, is_void } => {
                self.clients[client].waiting -= 1;
                if is_void {
                    self.write(client, partition, producer, transaction);
                } else {
                    self.append(client, partition, producer, transaction);
                }
            }
            Task::Tell { ending, mut left } => match left.pop_first() {
                Some((_, at)) => {
                    self.logs[at as usize].mark(ending.producer, ending.outcome);
                    for task in &mut self.tasks {
                        if let Task::Verified { partition, producer, is_void, .. }
                        | Task::Durable { then: Then::Verified { partition, producer, is_void, .. }, .. } = task
                            && (*partition, producer.id) == (at as usize, ending.producer.id)
                        {
                            *is_void = true;
                        }
                    }
                    self.tasks.push(Task::Tell { ending, left });
                }
                None => {
                    if let Ok(Step::Changed(change)) = self.coordinator.told(&ending, self.now_ms) {
                        self.append_change(None, &change, Then::Nothing);
                    }
                }
            },
        }
    }

    fn drain(&mut self) {
        while let Some(task) = self.tasks.pop() {
            self.advance(task);
        }
    }

    fn check(&mut self) {
        self.drain();
        self.now_ms += 10_000;
        self.abort_overdue();
        self.drain();
        let mut seen: HashMap<usize, (Outcome, usize)> = HashMap::new();
        for log in &self.logs {
            assert!(log.open.is_empty(), "a transaction hangs");
            for (transaction, outcome) in log.outcomes() {
                let outcome = outcome.expect("every record's transaction has ended");
                let (first, count) = seen.entry(transaction).or_insert((outcome, 0));
                assert_eq!(*first, outcome, "transaction {transaction} is in two halves");
                *count += 1;
            }
        }
        for (transaction, known) in self.known.iter().enumerate() {
            let (outcome, count) = seen.get(&transaction).copied().unzip();
            if known.told == Some(Outcome::Commit) {
                assert_eq!(count.unwrap_or(0), known.acknowledged, "transaction {transaction}");
                assert!(outcome.is_none_or(|outcome| outcome == Outcome::Commit), "transaction {transaction}");
            }
            if known.told == Some(Outcome::Abort) {
                assert!(outcome.is_none_or(|outcome| outcome == Outcome::Abort), "transaction {transaction}");
            }
        }
    }
}

/// Every transaction is committed or aborted as a whole, as its client was told; epochs only grow; no record enters a
/// partition whose transaction nobody would end.
#[test]
fn schedules() {
    let mut committed = 0;
    for seed in 0..20_000 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
        world.check();
        committed += world.known.iter().filter(|it| it.told == Some(Outcome::Commit) && it.acknowledged > 0).count();
    }
    assert!(committed > 10_000, "the schedules do something: {committed}");
}
