//! Runs one kind of coordinator on one core: loads the partitions that the core owns, has requests and deadlines worked
//! on by their state machines, writes the records and gives the answers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use engine::reactor::Notify;
use engine::{AppendError, Appended, Slot, Store, TransactionGuard};
use tracing::{error, info, warn};
use wire::Uuid;
use wire::error::ErrorCode;

use super::log::{BatchMaker, Log};
use super::topics::LogTopic;
use crate::hash::Hasher;
use crate::limits::KEPT_BYTES;
use crate::shard::Shard;
use crate::state_machine::{Effects, LoggedRecord, Now, ProducerEpoch, Records, StateMachine, Ticket};

/// One core's part of a kind of coordinator.
pub struct Coordinator<M: StateMachine> {
    topic: LogTopic,
    new_machine: Box<dyn Fn(i32) -> M>,
    partitions: RefCell<BTreeMap<i32, Partition<M>>>,
    /// The request that is being worked on: most are answered before anybody has to wait.
    asking: RefCell<Option<Asking<M::Answer>>>,
    waiting: RefCell<HashMap<Ticket, Waiting<M::Answer>, Hasher>>,
    batches: RefCell<BatchMaker>,
    /// Empty, with the memory of those written before.
    spare_records: RefCell<Records>,
    next_ticket: Cell<u64>,
    next_load: Cell<u64>,
    /// When the alarm rings next, on the scale of [`Now::ms`].
    alarm_ms: Cell<i64>,
    /// Rings when the alarm is to be set anew, or the metadata have changed.
    alarm: Notify,
    images: Notify,
}

/// Why a request could not be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// The partition's log is being read.
    Loading,
    /// This core does not own the partition, or there is none.
    NotHere,
    /// The records do not fit the log.
    TooLarge,
    /// The log could not be appended to.
    Storage,
    /// The log has not taken records of a transaction. They have no effect.
    Refused(AppendError),
}

/// Why a transaction has not ended in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotEnded {
    /// The partition cannot be worked on.
    Unavailable(Unavailable),
    /// The log has not taken the marker.
    Refused(AppendError),
}

struct Partition<M: StateMachine> {
    topic_id: Uuid,
    log: Log,
    /// Told apart from earlier loads of the same partition.
    load: u64,
    state: State<M>,
    /// Batches that found no memory in the store, and answers that wait behind them, in order.
    queue: VecDeque<Queued<M::Answer>>,
    /// The commit of the newest append.
    seq: u64,
}

enum State<M> {
    Loading,
    Active(M),
}

struct Queued<A> {
    /// None: answers only.
    batch: Option<Vec<u8>>,
    /// The batch is part of a transaction: it takes effect when the log has taken it, which may refuse it.
    transaction: Option<Transaction>,
    answers: Vec<(Ticket, A)>,
}

/// Records that are part of a producer's transaction.
struct Transaction {
    producer: ProducerEpoch,
    guard: Option<TransactionGuard>,
    records: Records,
    unix_ms: i64,
}

/// A request that is being worked on.
struct Asking<A> {
    ticket: Ticket,
    partition: i32,
    outcome: Option<Result<Answered<A>, Unavailable>>,
}

/// A request that waits for its answer.
struct Waiting<A> {
    partition: i32,
    outcome: Option<Result<Answered<A>, Unavailable>>,
    done: Notify,
}

/// An answer, and the commit after which it may be given.
struct Answered<A> {
    answer: A,
    seq: u64,
}

impl Unavailable {
    /// What clients are told.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Unavailable::Loading => ErrorCode::CoordinatorLoadInProgress,
            // Kafka says the same of a broker whose log directory has failed: the client asks for another coordinator.
            Unavailable::NotHere | Unavailable::Storage => ErrorCode::NotCoordinator,
            Unavailable::TooLarge => ErrorCode::UnknownServerError,
            Unavailable::Refused(error) => match error {
                AppendError::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
                AppendError::InvalidTxnState => ErrorCode::InvalidTxnState,
                AppendError::TooManyTransactions => ErrorCode::ConcurrentTransactions,
                AppendError::TooLarge => ErrorCode::UnknownServerError,
                _ => ErrorCode::NotCoordinator,
            },
        }
    }
}

impl<M: StateMachine> Coordinator<M> {
    /// A coordinator without partitions; `new_machine` makes the empty state of one. [`Coordinator::start`] comes next.
    #[must_use]
    pub fn new(topic: LogTopic, new_machine: impl Fn(i32) -> M + 'static) -> Rc<Coordinator<M>> {
        Rc::new(Coordinator {
            topic,
            new_machine: Box::new(new_machine),
            partitions: RefCell::default(),
            asking: RefCell::new(None),
            waiting: RefCell::default(),
            batches: RefCell::new(BatchMaker::new()),
            spare_records: RefCell::default(),
            next_ticket: Cell::new(0),
            next_load: Cell::new(0),
            alarm_ms: Cell::new(i64::MAX),
            alarm: Notify::new(),
            images: Notify::new(),
        })
    }

    /// Loads the partitions that this core owns, in the background, and keeps deadlines from then on.
    pub fn start(self: &Rc<Self>, shard: &Shard) {
        shard.watch_image(self.images.clone());
        self.follow_image(shard);
        let (this, shard) = (self.clone(), shard.clone());
        shard.clone().reactor().spawn(async move {
            loop {
                let changed = this.wait(&shard).await;
                if changed {
                    this.follow_image(&shard);
                }
                this.do_what_is_due(&shard);
            }
        });
    }

    /// Has the state machine of a partition work on a request, on its owner core, and resolves with the answer that it
    /// gives to the request's ticket, at once or later. What it writes is durable by then.
    pub async fn run(
        self: &Rc<Self>,
        shard: &Shard,
        partition: i32,
        operation: impl FnOnce(&mut M, Now, Ticket, &mut Effects<M::Answer>),
    ) -> Result<M::Answer, Unavailable> {
        self.run_guarded(shard, partition, None, operation).await
    }

    /// Like [`Coordinator::run`], for an operation whose records are part of a transaction. `guard` is what the partition's
    /// store has asked for ([`Store::verify_transaction`]).
    pub async fn run_guarded(
        self: &Rc<Self>,
        shard: &Shard,
        partition: i32,
        guard: Option<TransactionGuard>,
        operation: impl FnOnce(&mut M, Now, Ticket, &mut Effects<M::Answer>),
    ) -> Result<M::Answer, Unavailable> {
        let Answered { answer, seq } = self.begin(shard, partition, guard, operation)?.outcome().await?;
        shard.store().wait_commit(seq).await.map_err(|_| Unavailable::Storage)?;
        Ok(answer)
    }

    /// Has a producer's transaction end in a partition's log and in its state. `append` writes the marker. An error means
    /// that nothing has happened; what was refused for want of memory, or while the log is read, is worth another try.
    pub fn end_transaction(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        producer: ProducerEpoch,
        committed: bool,
        append: impl FnOnce(&Store, Slot, i32) -> Result<Appended, AppendError>,
    ) -> Result<Appended, NotEnded> {
        self.find(shard, number).map_err(NotEnded::Unavailable)?;
        let appended = {
            let mut partitions = self.partitions.borrow_mut();
            let partition = partitions.get_mut(&number).ok_or(NotEnded::Unavailable(Unavailable::NotHere))?;
            let State::Active(machine) = &mut partition.state else {
                return Err(NotEnded::Unavailable(Unavailable::Loading));
            };
            if !partition.queue.is_empty() {
                // Records of the transaction may be among what waits.
                return Err(NotEnded::Refused(AppendError::Busy));
            }
            let Log { slot, leader_epoch } = partition.log;
            let appended = append(shard.store(), slot, leader_epoch).map_err(NotEnded::Refused)?;
            partition.seq = partition.seq.max(appended.seq);
            machine.replay_end(producer, committed);
            appended
        };
        self.set_alarm(number);
        Ok(appended)
    }

    /// As [`Coordinator::run`], and resolves when what the answer rests on has been appended. It is durable with the commit
    /// that is given beside it, and not later than whatever this core's store appends afterwards: a crash leaves a prefix
    /// of what a core has appended. So it may be followed up in this store at once, and be told to nobody else.
    pub async fn run_early(
        self: &Rc<Self>,
        shard: &Shard,
        partition: i32,
        operation: impl FnOnce(&mut M, Now, Ticket, &mut Effects<M::Answer>),
    ) -> Result<(M::Answer, u64), Unavailable> {
        let Answered { answer, seq } = self.begin(shard, partition, None, operation)?.outcome().await?;
        Ok((answer, seq))
    }

    /// As [`Coordinator::run_early`], for an operation that may be asked for once more. None when its answer has to be waited
    /// for: what it changes it changes all the same.
    pub fn run_at_once(
        self: &Rc<Self>,
        shard: &Shard,
        partition: i32,
        operation: impl FnOnce(&mut M, Now, Ticket, &mut Effects<M::Answer>),
    ) -> Result<Option<M::Answer>, Unavailable> {
        match self.begin(shard, partition, None, operation)? {
            Claim::Met(outcome) => outcome.map(|answered| Some(answered.answer)),
            Claim::Open(_) => Ok(None),
        }
    }

    /// The partitions that this core has loaded.
    #[must_use]
    pub fn active(&self) -> Vec<i32> {
        let partitions = self.partitions.borrow();
        let active = partitions.iter().filter(|(_, partition)| matches!(partition.state, State::Active(_)));
        active.map(|(number, _)| *number).collect()
    }

    fn begin(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        guard: Option<TransactionGuard>,
        operation: impl FnOnce(&mut M, Now, Ticket, &mut Effects<M::Answer>),
    ) -> Result<Claim<M>, Unavailable> {
        self.find(shard, number)?;
        let ticket = Ticket(self.next_ticket.get());
        let mut effects = Effects { records: self.spare_records.take(), ..Effects::default() };
        {
            let mut partitions = self.partitions.borrow_mut();
            let partition = partitions.get_mut(&number).ok_or(Unavailable::NotHere)?;
            let State::Active(machine) = &mut partition.state else { return Err(Unavailable::Loading) };
            self.next_ticket.set(ticket.0 + 1);
            self.asking.replace(Some(Asking { ticket, partition: number, outcome: None }));
            operation(machine, now(shard), ticket, &mut effects);
        }
        self.settle(shard, number, effects, guard);
        if let Some(outcome) = self.asking.take().and_then(|asking| asking.outcome) {
            return Ok(Claim::Met(outcome));
        }
        let waiting = Waiting { partition: number, outcome: None, done: Notify::new() };
        self.waiting.borrow_mut().insert(ticket, waiting);
        Ok(Claim::Open(Waiter { coordinator: self.clone(), ticket }))
    }

    /// Makes sure that a partition is the one of the newest metadata, and begins to load it if it is not.
    fn find(self: &Rc<Self>, shard: &Shard, number: i32) -> Result<(), Unavailable> {
        let place = {
            let image = shard.image();
            let topic = image.topic(self.topic.name());
            topic.and_then(|topic| {
                let partition = topic.partitions.get(usize::try_from(number).ok()?)?;
                let log = Log { slot: partition.slot, leader_epoch: partition.leader_epoch };
                (partition.core == shard.core()).then_some((topic.id, log))
            })
        };
        let known = self.partitions.borrow().get(&number).map(|partition| (partition.topic_id, partition.log));
        if known == place {
            return known.map(|_| ()).ok_or(Unavailable::NotHere);
        }
        self.unload(number, Unavailable::NotHere);
        let (topic_id, log) = place.ok_or(Unavailable::NotHere)?;
        self.load(shard, number, topic_id, log);
        Ok(())
    }

    /// Begins to load a partition. One without records is ready at once.
    fn load(self: &Rc<Self>, shard: &Shard, number: i32, topic_id: Uuid, log: Log) {
        let load = self.next_load.get();
        self.next_load.set(load + 1);
        let partition = Partition { topic_id, log, load, state: State::Loading, queue: VecDeque::new(), seq: 0 };
        self.partitions.borrow_mut().insert(number, partition);
        if log.is_empty(shard.store()) {
            return self.take_in(shard, number, load, (self.new_machine)(number));
        }
        let (this, shard) = (self.clone(), shard.clone());
        shard.clone().reactor().spawn(async move {
            let name = format!("{}-{number}", this.topic.name());
            let began_ns = shard.reactor().now_ns();
            let mut machine = (this.new_machine)(number);
            match log.replay(shard.store(), &name, &mut machine).await {
                Ok(()) => {
                    let ms = (shard.reactor().now_ns() - began_ns) / 1_000_000;
                    info!("{name}: loaded in {ms} ms");
                    this.take_in(&shard, number, load, machine);
                }
                // It stays as it is: requests for it are told to wait, since a restart may cure it.
                Err(error) => error!("{name}: cannot be loaded: {error}"),
            }
        });
    }

    /// Takes a loaded state machine into use, unless the partition has become another one meanwhile.
    fn take_in(self: &Rc<Self>, shard: &Shard, number: i32, load: u64, mut machine: M) {
        let mut effects = Effects::default();
        {
            let mut partitions = self.partitions.borrow_mut();
            let Some(partition) = partitions.get_mut(&number).filter(|partition| partition.load == load) else {
                return;
            };
            machine.loaded(&shard.image(), now(shard), &mut effects);
            partition.state = State::Active(machine);
        }
        self.settle(shard, number, effects, None);
    }

    /// Forgets the state of a partition and fails the requests that wait for it.
    fn unload(&self, number: i32, why: Unavailable) {
        if self.partitions.borrow_mut().remove(&number).is_none() {
            return;
        }
        if let Some(asking) = &mut *self.asking.borrow_mut()
            && asking.partition == number
        {
            asking.outcome.get_or_insert(Err(why));
        }
        for waiting in self.waiting.borrow_mut().values_mut() {
            if waiting.partition == number && waiting.outcome.is_none() {
                waiting.outcome = Some(Err(why));
                waiting.done.notify();
            }
        }
    }

    /// Leaves a request's outcome where it is looked for. The first one counts.
    fn meet(&self, ticket: Ticket, outcome: Result<Answered<M::Answer>, Unavailable>) {
        if let Some(asking) = &mut *self.asking.borrow_mut()
            && asking.ticket == ticket
        {
            asking.outcome.get_or_insert(outcome);
        } else if let Some(waiting) = self.waiting.borrow_mut().get_mut(&ticket)
            && waiting.outcome.is_none()
        {
            waiting.outcome = Some(outcome);
            waiting.done.notify();
        }
    }

    /// Appends records and gives answers, behind what is already on its way.
    fn settle(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        effects: Effects<M::Answer>,
        guard: Option<TransactionGuard>,
    ) {
        let Effects { records, producer, answers } = effects;
        let unix_ms = shard.reactor().unix_ms();
        let mut queued = Queued { batch: None, transaction: None, answers };
        if !records.is_empty() {
            queued.batch = self.batches.borrow_mut().batch(&records, producer, unix_ms);
            if queued.batch.is_none() {
                return self.reload(shard, number, Unavailable::TooLarge);
            }
            match producer {
                Some(producer) => queued.transaction = Some(Transaction { producer, guard, records, unix_ms }),
                None => self.keep(records),
            }
        } else {
            self.keep(records);
        }
        let has_queue = {
            let mut partitions = self.partitions.borrow_mut();
            let Some(partition) = partitions.get_mut(&number) else { return };
            if queued.batch.is_some() || !queued.answers.is_empty() {
                partition.queue.push_back(queued);
            }
            partition.queue.len() > 1
        };
        // Behind a batch that waits for memory, the task that waits for it goes on.
        if !has_queue && self.append_queued(shard, number) == Appending::Busy {
            let (this, shard) = (self.clone(), shard.clone());
            shard.clone().reactor().spawn(async move {
                let load = this.partitions.borrow().get(&number).map(|partition| partition.load);
                loop {
                    shard.wait_for_memory().await;
                    let same = this.partitions.borrow().get(&number).map(|partition| partition.load) == load;
                    if !same || this.append_queued(&shard, number) == Appending::Done {
                        return this.set_alarm(number);
                    }
                }
            });
        }
        self.set_alarm(number);
    }

    fn append_queued(self: &Rc<Self>, shard: &Shard, number: i32) -> Appending {
        loop {
            let mut partitions = self.partitions.borrow_mut();
            let Some(partition) = partitions.get_mut(&number) else { return Appending::Done };
            let Some(queued) = partition.queue.front() else { return Appending::Done };
            let mut refused = None;
            if let Some(batch) = &queued.batch {
                let guard = queued.transaction.as_ref().map(|transaction| transaction.guard);
                match partition.log.append(shard.store(), batch, guard) {
                    Ok(appended) => {
                        partition.seq = partition.seq.max(appended.seq);
                        if let (Some(transaction), State::Active(machine)) = (&queued.transaction, &mut partition.state)
                        {
                            transaction.take_effect(machine, appended.base_offset);
                        }
                    }
                    Err(AppendError::Busy) => return Appending::Busy,
                    Err(error) if queued.transaction.is_some() => refused = Some(Unavailable::Refused(error)),
                    Err(error) => {
                        drop(partitions);
                        warn!("{}-{number}: a change cannot be written: {error:?}", self.topic.name());
                        let why = match error {
                            AppendError::TooLarge => Unavailable::TooLarge,
                            _ => Unavailable::Storage,
                        };
                        self.reload(shard, number, why);
                        return Appending::Done;
                    }
                }
            }
            let seq = partition.seq;
            let Some(Queued { batch, answers, .. }) = partition.queue.pop_front() else { return Appending::Done };
            drop(partitions);
            if let Some(batch) = batch {
                self.batches.borrow_mut().keep(batch);
            }
            for (ticket, answer) in answers {
                self.meet(ticket, refused.map_or(Ok(Answered { answer, seq }), Err));
            }
        }
    }

    /// Keeps the memory of records that have been made a batch.
    fn keep(&self, mut records: Records) {
        if records.held_bytes() <= KEPT_BYTES {
            records.truncate(0);
            self.spare_records.replace(records);
        }
    }

    /// Drops the state of a partition, which says more than its log, and builds it anew when the log is durable.
    fn reload(self: &Rc<Self>, shard: &Shard, number: i32, why: Unavailable) {
        let Some((topic_id, log, seq)) =
            self.partitions.borrow().get(&number).map(|partition| (partition.topic_id, partition.log, partition.seq))
        else {
            return;
        };
        self.unload(number, why);
        let load = self.next_load.get();
        self.next_load.set(load + 1);
        let placeholder = Partition { topic_id, log, load, state: State::Loading, queue: VecDeque::new(), seq };
        self.partitions.borrow_mut().insert(number, placeholder);
        let (this, shard) = (self.clone(), shard.clone());
        shard.clone().reactor().spawn(async move {
            // What was appended before the failure becomes durable, or the store has failed for good.
            if shard.store().wait_commit(seq).await.is_err() {
                return;
            }
            let same = this.partitions.borrow().get(&number).is_some_and(|partition| partition.load == load);
            if same {
                this.load(&shard, number, topic_id, log);
            }
        });
    }

    /// Loads what this core owns by the newest metadata, forgets what it owns no more, and tells the others.
    fn follow_image(self: &Rc<Self>, shard: &Shard) {
        let image = shard.image().clone();
        let count = image.topic(self.topic.name()).map_or(0, |topic| topic.partitions.len());
        let mut numbers: Vec<i32> = self.partitions.borrow().keys().copied().collect();
        numbers.extend((0..).take(count));
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            // What is not here needs no answer.
            let _ = self.find(shard, number);
            self.with_active(shard, number, |machine, now, effects| machine.on_image(&image, now, effects));
        }
    }

    fn do_what_is_due(self: &Rc<Self>, shard: &Shard) {
        let now_ms = now(shard).ms;
        let due: Vec<i32> = {
            let partitions = self.partitions.borrow();
            let is_due = |partition: &Partition<M>| partition.next_deadline_ms().is_some_and(|at_ms| at_ms <= now_ms);
            partitions.iter().filter(|(_, partition)| is_due(partition)).map(|(number, _)| *number).collect()
        };
        for number in due {
            self.with_active(shard, number, M::on_deadline);
        }
    }

    fn with_active(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        work: impl FnOnce(&mut M, Now, &mut Effects<M::Answer>),
    ) {
        let mut effects = Effects::default();
        if let Some(Partition { state: State::Active(machine), .. }) = self.partitions.borrow_mut().get_mut(&number) {
            work(machine, now(shard), &mut effects);
        }
        self.settle(shard, number, effects, None);
    }

    /// Has the alarm ring in time for a partition.
    fn set_alarm(&self, number: i32) {
        let next_ms = self.partitions.borrow().get(&number).and_then(Partition::next_deadline_ms);
        if next_ms.is_some_and(|at_ms| at_ms < self.alarm_ms.get()) {
            self.alarm.notify();
        }
    }

    /// Waits for the next deadline, or until there is an earlier one, or until the metadata have changed: true then.
    async fn wait(&self, shard: &Shard) -> bool {
        let next_ms = self.partitions.borrow().values().filter_map(Partition::next_deadline_ms).min();
        self.alarm_ms.set(next_ms.unwrap_or(i64::MAX));
        let at_ns = next_ms.map_or(u64::MAX, |at_ms| u64::try_from(at_ms).unwrap_or(0).saturating_mul(1_000_000));
        let mut late = pin!(shard.reactor().sleep_until(at_ns));
        let mut earlier = pin!(self.alarm.wait());
        let mut images = pin!(self.images.wait());
        poll_fn(|context| {
            if images.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            let rung = late.as_mut().poll(context).is_ready() || earlier.as_mut().poll(context).is_ready();
            if rung { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }
}

impl<M: StateMachine> Partition<M> {
    /// When something is due. While the store has no memory for what was written, nothing is.
    fn next_deadline_ms(&self) -> Option<i64> {
        match &self.state {
            State::Active(machine) if self.queue.is_empty() => machine.next_deadline_ms(),
            _ => None,
        }
    }
}

impl Transaction {
    fn take_effect(&self, machine: &mut impl StateMachine, base_offset: i64) {
        for (offset, (key, value)) in (base_offset..).zip(self.records.iter()) {
            let logged = LoggedRecord { offset, timestamp_ms: self.unix_ms, producer: Some(self.producer), key, value };
            if let Err(error) = machine.replay(logged) {
                error!("a record that was written a moment ago is not understood: {error}");
            }
        }
    }
}

/// Whether everything that was queued has been appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Appending {
    Done,
    Busy,
}

/// A request's claim to its answer.
enum Claim<M: StateMachine> {
    /// It has been given.
    Met(Result<Answered<M::Answer>, Unavailable>),
    /// It comes later.
    Open(Waiter<M>),
}

impl<M: StateMachine> Claim<M> {
    async fn outcome(self) -> Result<Answered<M::Answer>, Unavailable> {
        match self {
            Claim::Met(outcome) => outcome,
            Claim::Open(waiter) => waiter.outcome().await,
        }
    }
}

/// Waits for an answer. Dropped, nobody wants it any more.
struct Waiter<M: StateMachine> {
    coordinator: Rc<Coordinator<M>>,
    ticket: Ticket,
}

impl<M: StateMachine> Waiter<M> {
    async fn outcome(self) -> Result<Answered<M::Answer>, Unavailable> {
        loop {
            let done = {
                let mut waiting = self.coordinator.waiting.borrow_mut();
                let waiting = waiting.get_mut(&self.ticket).expect("it stays until the waiter is dropped");
                if let Some(outcome) = waiting.outcome.take() {
                    return outcome;
                }
                waiting.done.clone()
            };
            done.wait().await;
        }
    }
}

impl<M: StateMachine> Drop for Waiter<M> {
    fn drop(&mut self) {
        self.coordinator.waiting.borrow_mut().remove(&self.ticket);
    }
}

impl<M: StateMachine> fmt::Debug for Coordinator<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("topic", &self.topic)
            .field("active", &self.active())
            .field("waiting", &self.waiting.borrow().len())
            .finish_non_exhaustive()
    }
}

fn now(shard: &Shard) -> Now {
    let ms = i64::try_from(shard.reactor().now_ns() / 1_000_000).unwrap_or(i64::MAX);
    Now { ms, unix_ms: shard.reactor().unix_ms() }
}
