//! What the cores send each other, and how it travels.
//!
//! Batches for a partition of another core go as [`CoreMsg::Append`] and come back as [`CoreMsg::Appended`] once they are
//! durable there: both are plain values without an allocation of their own. Everything else is a function that runs on
//! the other core ([`Shard::run_on`]).
//!
//! ```text
//! core 0: connection ── Append{batch} ──▶ core 1: store.append, its commit, fdatasync
//!         response   ◀── Appended{offsets} ──────┘
//! ```
//!
//! The first batch of a transaction for a partition waits on the partition's core until the coordinator of the transaction
//! knows of it ([`admission`]), and its producer's later ones for that partition wait behind it. From then on they are
//! appended like all others.
//!
//! Messages from one core to another keep their order, also while they wait because the queue is full or because the
//! other core's store is short of memory. So two batches that a connection sends for one partition are appended in the
//! order in which it sent them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use engine::mailbox::Mailbox;
use engine::reactor::Notify;
use engine::{AppendError, Appended, Origin, Slot, TransactionGuard};
use wire::batch::BatchView;

use crate::connection::responses::Gate;
use crate::handlers::produce::{self, JobId};
use crate::hash::Hasher;
use crate::limits::OUTBOX_MESSAGES;
use crate::shard::Shard;
use crate::transaction::admission::{self, Refused, Writer};

/// A message between cores.
pub enum CoreMsg {
    /// Append a batch to a partition of the receiver.
    Append(Append),
    /// The answer to [`CoreMsg::Append`].
    Appended {
        /// From the request.
        job: JobId,
        /// From the request.
        entry: u32,
        /// A success is durable.
        result: Result<Appended, Refused>,
    },
    /// Run a function.
    Call {
        /// Names the call among those of its sender.
        id: u64,
        /// The function.
        run: RemoteFn,
    },
    /// The result of a call is not wanted any more.
    Cancel {
        /// From the call.
        id: u64,
    },
    /// The result of a call.
    Called {
        /// From the call.
        id: u64,
        /// Of the type that the caller expects.
        result: Box<dyn Any + Send>,
    },
}

/// A function that runs on another core. It may watch for the loss of its caller's interest.
pub type RemoteFn = Box<dyn FnOnce(Shard, Cancelled) -> Pin<Box<dyn Future<Output = Box<dyn Any + Send>>>> + Send>;

/// Rings when the caller of a remote function has gone.
pub type Cancelled = Notify;

/// A batch for a partition of another core. Its header has been checked against the rules of its topic.
#[derive(Debug, Clone)]
pub struct Append {
    /// The produce request that it belongs to, on the sender's core.
    pub job: JobId,
    /// Its place in that request.
    pub entry: u32,
    /// The partition, in the receiver's store.
    pub slot: Slot,
    /// The epoch under which it is appended.
    pub leader_epoch: i32,
    /// One whole batch.
    pub batch: Bytes,
    /// Who writes it, where it is part of a transaction.
    pub writer: Option<Writer>,
}

/// A core's queues to the others, and what it owes them.
pub(crate) struct Router {
    mailbox: Mailbox<CoreMsg>,
    /// By receiver: messages that found the queue full.
    outbox: Box<[Lane]>,
    waiting: Cell<usize>,
    /// Rings when messages wait no more.
    pub(crate) relaxed: Notify,
    /// Batches of other cores that the store had no memory for, in order of arrival.
    parked: RefCell<VecDeque<(usize, Append)>>,
    parked_work: Notify,
    /// Batches that wait for the coordinator of their transaction, by partition and producer id, in order of arrival.
    joining: RefCell<Joining>,
    /// Appends of other cores whose commit is not durable yet, in order of arrival.
    uncommitted: RefCell<VecDeque<Uncommitted>>,
    calls: RefCell<Calls>,
}

/// Batches with the cores that sent them, by partition and producer id.
type Joining = HashMap<(Slot, i64), VecDeque<(usize, Append)>, Hasher>;

#[derive(Default)]
struct Lane {
    messages: RefCell<VecDeque<CoreMsg>>,
    work: Notify,
}

struct Uncommitted {
    to: usize,
    job: JobId,
    entry: u32,
    appended: Appended,
}

#[derive(Default)]
struct Calls {
    next: u64,
    /// Calls of this core whose results are awaited.
    made: HashMap<u64, Made, Hasher>,
    /// Calls of others, by sender and id, that run here.
    running: HashMap<(usize, u64), Cancelled, Hasher>,
}

#[derive(Default)]
struct Made {
    result: Option<Box<dyn Any + Send>>,
    done: Notify,
}

impl Router {
    pub(crate) fn new(mailbox: Mailbox<CoreMsg>) -> Router {
        Router {
            outbox: (0..mailbox.cores()).map(|_| Lane::default()).collect(),
            mailbox,
            waiting: Cell::new(0),
            relaxed: Notify::new(),
            parked: RefCell::default(),
            parked_work: Notify::new(),
            joining: RefCell::default(),
            uncommitted: RefCell::default(),
            calls: RefCell::default(),
        }
    }

    /// True when so many messages wait that nothing should be begun which would send more.
    pub(crate) fn is_congested(&self) -> bool {
        self.waiting.get() >= OUTBOX_MESSAGES
    }

    /// True when a batch of this producer for this partition would overtake one that waits for its coordinator.
    pub(crate) fn is_joining(&self, slot: Slot, producer_id: i64) -> bool {
        self.joining.borrow().contains_key(&(slot, producer_id))
    }
}

impl Shard {
    /// Runs a function on a core, which may be this one, and resolves with its result. It begins whether or not the
    /// result is awaited; calls to one core begin in the order in which they are made.
    pub fn run_on<T, F, Fut>(&self, core: usize, function: F) -> impl Future<Output = T> + use<T, F, Fut>
    where
        T: Send + 'static,
        F: FnOnce(Shard) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.run_on_while(core, move |shard, _| function(shard))
    }

    /// Like [`Shard::run_on`], for a function that may wait long: it is told when the returned future has been dropped.
    pub fn run_on_while<T, F, Fut>(&self, core: usize, function: F) -> impl Future<Output = T> + use<T, F, Fut>
    where
        T: Send + 'static,
        F: FnOnce(Shard, Cancelled) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let run: RemoteFn = Box::new(move |shard, cancelled| {
            let future = function(shard, cancelled);
            Box::pin(async move { Box::new(future.await) as Box<dyn Any + Send> })
        });
        let (id, done) = {
            let mut calls = self.0.router.calls.borrow_mut();
            calls.next += 1;
            let id = calls.next;
            (id, calls.made.entry(id).or_default().done.clone())
        };
        self.send(core, CoreMsg::Call { id, run });
        let call = Call { shard: self.clone(), core, id };
        async move {
            loop {
                if let Some(result) = call.result() {
                    return *result.downcast().expect("the function's result has its type");
                }
                done.wait().await;
            }
        }
    }

    /// Sends a message to a core, which may be this one. Messages to one core arrive in order; when its queue is full
    /// they wait here.
    pub(crate) fn send(&self, core: usize, message: CoreMsg) {
        if core == self.core() {
            return self.deliver(core, message);
        }
        let router = &self.0.router;
        let lane = &router.outbox[core];
        let mut messages = lane.messages.borrow_mut();
        let refused = if messages.is_empty() { router.mailbox.send(core, message).err() } else { Some(message) };
        if let Some(message) = refused {
            messages.push_back(message);
            router.waiting.set(router.waiting.get() + 1);
            lane.work.notify();
        }
    }

    /// Starts the tasks that move messages.
    pub(crate) fn start_router(&self) {
        let shard = self.clone();
        self.reactor().spawn(async move {
            loop {
                while let Some((from, message)) = shard.0.router.mailbox.recv() {
                    shard.deliver(from, message);
                }
                shard.0.router.mailbox.ready().await;
            }
        });
        for core in (0..self.cores()).filter(|core| *core != self.core()) {
            let shard = self.clone();
            self.reactor().spawn(async move { shard.drain_outbox(core).await });
        }
    }

    /// Starts the task that appends what found no memory.
    pub(crate) fn start_append_parked(&self) {
        let shard = self.clone();
        self.reactor().spawn(async move { shard.append_parked().await });
    }

    /// Tells other cores of their appends which a commit of this core has made durable.
    pub(crate) fn answer_committed(&self, committed: Gate) {
        let mut uncommitted = self.0.router.uncommitted.borrow_mut();
        while uncommitted.front().is_some_and(|append| append.appended.seq <= committed) {
            if let Some(Uncommitted { to, job, entry, appended }) = uncommitted.pop_front() {
                self.send(to, CoreMsg::Appended { job, entry, result: Ok(appended) });
            }
        }
    }

    fn deliver(&self, from: usize, message: CoreMsg) {
        let router = &self.0.router;
        match message {
            CoreMsg::Append(append) => {
                let mut parked = router.parked.borrow_mut();
                if !parked.is_empty() || self.append_for(from, &append).is_err() {
                    parked.push_back((from, append));
                    router.parked_work.notify();
                }
            }
            CoreMsg::Appended { job, entry, result } => produce::on_appended(self, job, entry, result),
            CoreMsg::Call { id, run } => {
                let cancelled = Cancelled::new();
                router.calls.borrow_mut().running.insert((from, id), cancelled.clone());
                let shard = self.clone();
                let future = run(self.clone(), cancelled);
                self.reactor().spawn(async move {
                    let result = future.await;
                    let wanted = shard.0.router.calls.borrow_mut().running.remove(&(from, id)).is_some();
                    if wanted {
                        shard.send(from, CoreMsg::Called { id, result });
                    }
                });
            }
            CoreMsg::Cancel { id } => {
                let cancelled = router.calls.borrow_mut().running.remove(&(from, id));
                if let Some(cancelled) = cancelled {
                    cancelled.notify();
                }
            }
            CoreMsg::Called { id, result } => {
                if let Some(made) = router.calls.borrow_mut().made.get_mut(&id) {
                    made.result = Some(result);
                    made.done.notify();
                }
            }
        }
    }

    /// Appends a batch of another core, or one that its own core cannot append at once. An error means that there is no
    /// memory for it at this moment.
    fn append_for(&self, from: usize, append: &Append) -> Result<(), Busy> {
        let joining = append.writer.as_ref().map(|writer| (append.slot, writer.producer.id));
        if let Some(key) = joining
            && let Some(queue) = self.0.router.joining.borrow_mut().get_mut(&key)
        {
            queue.push_back((from, append.clone()));
            return Ok(());
        }
        // What this core sends itself it has tried already: its records need not be checked again to be refused again.
        let is_refused = |(slot, producer): &(Slot, i64)| {
            from == self.core() && self.store().open_transaction(*slot, *producer).is_none()
        };
        let result = match joining {
            Some(key) if is_refused(&key) => Err(AppendError::InvalidTxnState),
            _ => self.append_batch(append, None),
        };
        match (result, joining) {
            (Err(AppendError::Busy), _) => return Err(Busy),
            (Err(AppendError::InvalidTxnState), Some(key)) => {
                self.0.router.joining.borrow_mut().insert(key, VecDeque::from([(from, append.clone())]));
                let shard = self.clone();
                self.reactor().spawn(async move { shard.append_joining(key).await });
            }
            (result, _) => self.answer_append(from, append, result.map_err(Refused::Store)),
        }
        Ok(())
    }

    fn append_batch(&self, append: &Append, guard: Option<TransactionGuard>) -> Result<Appended, AppendError> {
        let batch = BatchView::parse(&append.batch).map_err(|_| AppendError::InvalidRecord)?;
        self.store().append_as(Origin::Client, guard, append.slot, &batch, append.leader_epoch)
    }

    fn answer_append(&self, to: usize, append: &Append, result: Result<Appended, Refused>) {
        let Append { job, entry, .. } = *append;
        match result {
            Ok(appended) if appended.seq > self.store().committed() => {
                self.0.router.uncommitted.borrow_mut().push_back(Uncommitted { to, job, entry, appended });
            }
            result => self.send(to, CoreMsg::Appended { job, entry, result }),
        }
    }

    /// Appends the batches of a producer for a partition in which its transaction is not open, once its coordinator knows
    /// of it. Those that arrive meanwhile go behind them.
    async fn append_joining(&self, key: (Slot, i64)) {
        loop {
            let Some((from, append)) = self.first_joining(key) else { return };
            let Some(writer) = &append.writer else { return };
            match admission::admit(self, append.slot, writer).await {
                Ok(guard) => {
                    if let Err(Busy) = self.append_joined(key, guard) {
                        self.wait_for_memory().await;
                    }
                }
                Err(refused) => {
                    self.drop_joining(key);
                    self.answer_append(from, &append, Err(refused));
                }
            }
        }
    }

    /// Appends the first batch of a queue with its guard, and those behind it which need none any more.
    fn append_joined(&self, key: (Slot, i64), mut guard: Option<TransactionGuard>) -> Result<(), Busy> {
        let mut is_first = true;
        while let Some((from, append)) = self.first_joining(key) {
            match self.append_batch(&append, guard.take()) {
                Err(AppendError::Busy) => return Err(Busy),
                // Another transaction of the producer, which its coordinator has to be asked for.
                Err(AppendError::InvalidTxnState) if !is_first => return Ok(()),
                result => {
                    self.drop_joining(key);
                    self.answer_append(from, &append, result.map_err(Refused::Store));
                }
            }
            is_first = false;
        }
        Ok(())
    }

    /// The first batch of a queue. A queue that is empty goes.
    fn first_joining(&self, key: (Slot, i64)) -> Option<(usize, Append)> {
        let mut joining = self.0.router.joining.borrow_mut();
        let first = joining.get(&key)?.front().cloned();
        if first.is_none() {
            joining.remove(&key);
        }
        first
    }

    fn drop_joining(&self, key: (Slot, i64)) {
        if let Some(queue) = self.0.router.joining.borrow_mut().get_mut(&key) {
            queue.pop_front();
        }
    }

    async fn append_parked(&self) {
        let router = &self.0.router;
        loop {
            router.parked_work.wait().await;
            loop {
                let appended = match router.parked.borrow().front() {
                    Some((from, append)) => self.append_for(*from, append),
                    None => break,
                };
                match appended {
                    Ok(()) => drop(router.parked.borrow_mut().pop_front()),
                    Err(Busy) => self.wait_for_memory().await,
                }
            }
        }
    }

    async fn drain_outbox(&self, core: usize) {
        let router = &self.0.router;
        let lane = &router.outbox[core];
        loop {
            lane.work.wait().await;
            loop {
                let Some(message) = lane.messages.borrow_mut().pop_front() else { break };
                match router.mailbox.send(core, message) {
                    Ok(()) => {
                        router.waiting.set(router.waiting.get() - 1);
                        if router.waiting.get() < OUTBOX_MESSAGES {
                            router.relaxed.notify();
                        }
                    }
                    Err(message) => {
                        lane.messages.borrow_mut().push_front(message);
                        router.mailbox.room(core).await;
                    }
                }
            }
        }
    }
}

/// The store has no memory at this moment.
struct Busy;

/// A call whose result is awaited. Dropped before the result is there, it tells the other core.
struct Call {
    shard: Shard,
    core: usize,
    id: u64,
}

impl Call {
    fn result(&self) -> Option<Box<dyn Any + Send>> {
        let mut calls = self.shard.0.router.calls.borrow_mut();
        let result = calls.made.get_mut(&self.id)?.result.take()?;
        calls.made.remove(&self.id);
        Some(result)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let unanswered = match self.shard.0.router.calls.borrow_mut().made.remove(&self.id) {
            Some(made) => made.result.is_none(),
            None => false,
        };
        if unanswered {
            self.shard.send(self.core, CoreMsg::Cancel { id: self.id });
        }
    }
}

impl fmt::Debug for CoreMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreMsg::Append(append) => append.fmt(f),
            CoreMsg::Appended { job, entry, result } => write!(f, "Appended({job:?}, {entry}, {result:?})"),
            CoreMsg::Call { id, .. } => write!(f, "Call({id})"),
            CoreMsg::Cancel { id } => write!(f, "Cancel({id})"),
            CoreMsg::Called { id, .. } => write!(f, "Called({id})"),
        }
    }
}
