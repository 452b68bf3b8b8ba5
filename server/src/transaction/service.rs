//! The coordinators of a core's partitions of `__transaction_state`, and how every core reaches them.
//!
//! A request goes to the core of its transactional id. What it changes is durable when it is answered. An end that is
//! decided goes on by itself: the markers are written ([`super::markers`]), and then the record that says that all are. After
//! a restart, what was decided before is taken up where it stopped.
//!
//! Where one core has both the coordinator and the partitions, it waits for no commit in between: its store keeps their
//! order ([`Coordinator::run_early`]). Then a decision, its markers and the note that they are written share one commit.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use tracing::{info, warn};
use wire::error::ErrorCode;

use super::coordinator::Ending;
use super::ids::next_producer_id;
use super::machine::{Answer, End, Init, Join, Loads, Machine};
use super::markers;
use super::state::{ClientVersion, Partition, Producer, State};
use crate::config::coordinators::TransactionOptions;
use crate::coordinator::{Coordinator, LogTopic, partition_among};
use crate::features::TRANSACTION_VERSION;
use crate::services::Services;
use crate::shard::Shard;
use crate::state_machine::{Effects, Now, Ticket};

/// One core's part.
pub struct Transactions {
    coordinator: Rc<Coordinator<Machine>>,
    options: TransactionOptions,
    loads: Rc<Loads>,
    /// Ends whose partitions are being told.
    telling: Cell<usize>,
}

/// Starts the coordinators of all cores. What is decided is finished in the background.
pub async fn start(core0: &Shard) {
    for core in 0..core0.cores() {
        core0.run_on(core, |shard| async move { start_core(&shard) }).await;
    }
}

/// A producer begins. CONCURRENT_TRANSACTIONS: a transaction of another one has to end first.
pub async fn init(shard: &Shard, init: Init) -> Result<Producer, ErrorCode> {
    let max_ms = Services::of(shard).options.coordinators.transactions.max_timeout_ms;
    if init.timeout_ms <= 0 || init.timeout_ms > max_ms {
        return Err(ErrorCode::InvalidTransactionTimeout);
    }
    let place = place(shard, &init.transactional_id)?;
    shard.run_on(place.core, move |shard| async move { of(&shard).init(&shard, place.number, init).await }).await
}

/// A producer writes to partitions: those that are not part of its transaction, when they had to be.
pub async fn join(shard: &Shard, join: Join) -> Result<BTreeSet<Partition>, ErrorCode> {
    let place = place(shard, &join.transactional_id)?;
    shard.run_on(place.core, move |shard| async move { of(&shard).join(&shard, place.number, join).await }).await
}

/// As [`join`], for a write to a partition of this core: what resolves is durable no later than what this core's store
/// appends from now on.
pub(super) async fn join_before_write(shard: &Shard, join: Join) -> Result<BTreeSet<Partition>, ErrorCode> {
    let place = place(shard, &join.transactional_id)?;
    if place.core != shard.core() {
        return self::join(shard, join).await;
    }
    joined(
        of(shard)
            .ask_early(shard, place.number, |machine, now, ticket, effects| {
                machine.join(join, now, ticket, effects);
            })
            .await
            .map(|(answer, _)| answer)?,
    )
}

/// As [`join_before_write`], where nothing has to be waited for. None: ask there.
pub(super) fn join_at_once(shard: &Shard, join: &Join) -> Option<BTreeSet<Partition>> {
    let place = place(shard, &join.transactional_id).ok().filter(|place| place.core == shard.core())?;
    let asked = |machine: &mut Machine, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
        machine.join_at_once(join, now, ticket, effects);
    };
    let answer = of(shard).coordinator.run_at_once(shard, place.number, asked).ok()??;
    joined(answer).ok()
}

/// A producer ends its transaction. What it is known by from then on is the answer.
pub async fn end(shard: &Shard, end: End) -> Result<Producer, ErrorCode> {
    let place = place(shard, &end.transactional_id)?;
    shard.run_on(place.core, move |shard| async move { of(&shard).end(&shard, place.number, end).await }).await
}

/// The state of one id.
pub async fn describe(shard: &Shard, id: Arc<str>) -> Result<State, ErrorCode> {
    let place = place(shard, &id)?;
    let find = move |shard: Shard| async move {
        let is_it = move |other: &str, _: &State| *other == *id;
        let mut found = of(&shard).states(&shard, place.number, is_it).await?;
        found.pop().map(|(_, state)| state).ok_or(ErrorCode::TransactionalIdNotFound)
    };
    shard.run_on(place.core, find).await
}

/// The states of all ids that a filter takes.
pub async fn list(
    shard: &Shard,
    is_wanted: impl Fn(&str, &State) -> bool + Clone + Send + 'static,
) -> Result<Vec<(Arc<str>, State)>, ErrorCode> {
    let places: Vec<(i32, usize)> = {
        let image = shard.image();
        let topic = image.topic(LogTopic::Transactions.name());
        let partitions = topic.map_or(&[][..], |topic| &topic.partitions);
        (0..).zip(partitions).map(|(number, partition)| (number, partition.core)).collect()
    };
    let calls: Vec<_> = (0..shard.cores())
        .map(|core| {
            let numbers: Vec<i32> =
                places.iter().filter(|(_, owner)| *owner == core).map(|(number, _)| *number).collect();
            let is_wanted = is_wanted.clone();
            shard.run_on(core, move |shard| async move {
                let mut found = Vec::new();
                for number in numbers {
                    found.extend(of(&shard).states(&shard, number, is_wanted.clone()).await?);
                }
                Ok::<_, ErrorCode>(found)
            })
        })
        .collect();
    let mut found = Vec::new();
    for call in calls {
        found.extend(call.await?);
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// Where the state of a transactional id is.
#[derive(Debug, Clone, Copy)]
struct Place {
    core: usize,
    number: i32,
}

fn place(shard: &Shard, id: &str) -> Result<Place, ErrorCode> {
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let image = shard.image();
    let place = image.topic(LogTopic::Transactions.name()).and_then(|topic| {
        let number = partition_among(id, topic.partitions.len())?;
        let partition = topic.partitions.get(usize::try_from(number).ok()?)?;
        Some(Place { core: partition.core, number })
    });
    place.ok_or(ErrorCode::NotCoordinator)
}

fn of(shard: &Shard) -> Rc<Transactions> {
    Services::of(shard).transactions()
}

/// The protocol of transactions that the cluster goes by.
fn cluster(shard: &Shard) -> ClientVersion {
    ClientVersion::of(shard.image().features().get(TRANSACTION_VERSION).copied().unwrap_or_default())
}

fn start_core(shard: &Shard) {
    let services = Services::of(shard);
    let options = services.options.coordinators.transactions;
    let loads = Rc::new(Loads::default());
    let told = loads.clone();
    let new_machine = move |number| Machine::new(number, options.join_patience_ms, told.clone());
    let coordinator = Coordinator::new(LogTopic::Transactions, new_machine);
    let transactions = Rc::new(Transactions { coordinator, options, loads, telling: Cell::new(0) });
    services.set_transactions(transactions.clone());
    transactions.coordinator.start(shard);
    let (this, on) = (transactions.clone(), shard.clone());
    shard.reactor().spawn(async move { this.finish_loaded(&on).await });
    let (this, on) = (transactions.clone(), shard.clone());
    shard.reactor().spawn(async move { this.abort_overdue(&on).await });
    let (this, on) = (transactions, shard.clone());
    shard.reactor().spawn(async move { this.forget_expired(&on).await });
}

impl Transactions {
    async fn init(self: &Rc<Self>, shard: &Shard, number: i32, init: Init) -> Result<Producer, ErrorCode> {
        let mut fresh_id = None;
        loop {
            let cluster = cluster(shard);
            let asked = |machine: &mut Machine, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
                machine.set_cluster(cluster);
                machine.init(&init, fresh_id, now, ticket, effects);
            };
            match self.decide(shard, number, asked).await? {
                Answer::NeedId => fresh_id = Some(next_producer_id(shard).await?),
                // The transaction of an older producer has to end first.
                Answer::Done { ending: Some(_), .. } => return Err(ErrorCode::ConcurrentTransactions),
                Answer::Done { producer, ending: None } => return Ok(producer),
                answer => return Err(refused(&answer)),
            }
        }
    }

    async fn join(self: &Rc<Self>, shard: &Shard, number: i32, join: Join) -> Result<BTreeSet<Partition>, ErrorCode> {
        let asked = |machine: &mut Machine, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
            machine.join(join, now, ticket, effects);
        };
        joined(self.ask(shard, number, asked).await?)
    }

    async fn end(self: &Rc<Self>, shard: &Shard, number: i32, end: End) -> Result<Producer, ErrorCode> {
        let mut fresh_id = None;
        loop {
            let asked = |machine: &mut Machine, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
                machine.end(&end, fresh_id, now, ticket, effects);
            };
            match self.decide(shard, number, asked).await? {
                Answer::NeedId => fresh_id = Some(next_producer_id(shard).await?),
                Answer::Done { producer, .. } => return Ok(producer),
                answer => return Err(refused(&answer)),
            }
        }
    }

    async fn states(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        is_wanted: impl Fn(&str, &State) -> bool,
    ) -> Result<Vec<(Arc<str>, State)>, ErrorCode> {
        let asked = |machine: &mut Machine, _: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
            machine.list(is_wanted, ticket, effects);
        };
        match self.ask(shard, number, asked).await? {
            Answer::States(states) => Ok(states),
            answer => Err(refused(&answer)),
        }
    }

    async fn ask(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        operation: impl FnOnce(&mut Machine, Now, Ticket, &mut Effects<Answer>),
    ) -> Result<Answer, ErrorCode> {
        self.coordinator.run(shard, number, operation).await.map_err(|why| why.code())
    }

    async fn ask_early(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        operation: impl FnOnce(&mut Machine, Now, Ticket, &mut Effects<Answer>),
    ) -> Result<(Answer, u64), ErrorCode> {
        self.coordinator.run_early(shard, number, operation).await.map_err(|why| why.code())
    }

    /// As [`Transactions::ask`], for what may decide the end of a transaction. Its partitions are told.
    async fn decide(
        self: &Rc<Self>,
        shard: &Shard,
        number: i32,
        operation: impl FnOnce(&mut Machine, Now, Ticket, &mut Effects<Answer>),
    ) -> Result<Answer, ErrorCode> {
        let (answer, seq) = self.ask_early(shard, number, operation).await?;
        if let Answer::Done { ending: Some(ending), .. } = &answer {
            self.tell(shard, number, ending.clone(), seq);
        }
        shard.store().wait_commit(seq).await.map_err(|_| ErrorCode::NotCoordinator)?;
        Ok(answer)
    }

    /// Has the partitions of a transaction told of its end, which is durable with a commit, and notes that they were.
    fn tell(self: &Rc<Self>, shard: &Shard, number: i32, ending: Ending, seq: u64) {
        self.telling.set(self.telling.get() + 1);
        let (this, shard) = (self.clone(), shard.clone());
        shard.clone().reactor().spawn(async move {
            if markers::write(&shard, number, &ending, seq).await {
                let told = |machine: &mut Machine, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
                    machine.told(&ending, now, ticket, effects);
                };
                // Where that cannot be noted, the log is read anew, and the partitions are told again.
                let _ = this.ask_early(&shard, number, told).await;
            }
            this.telling.set(this.telling.get() - 1);
        });
    }

    /// Takes up what was decided before the log was loaded.
    async fn finish_loaded(self: &Rc<Self>, shard: &Shard) {
        loop {
            let numbers = self.loads.numbers.take();
            for number in numbers {
                let Ok(Answer::Endings(endings)) =
                    self.ask(shard, number, |machine, _, ticket, effects| machine.unfinished(ticket, effects)).await
                else {
                    continue;
                };
                endings.into_iter().for_each(|ending| self.tell(shard, number, ending, 0));
            }
            if self.loads.numbers.borrow().is_empty() {
                self.loads.bell.wait().await;
            }
        }
    }

    async fn abort_overdue(self: &Rc<Self>, shard: &Shard) {
        loop {
            sleep_ms(shard, self.options.abort_interval_ms).await;
            for number in self.coordinator.active() {
                let cluster = cluster(shard);
                let asked = |machine: &mut Machine, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
                    machine.set_cluster(cluster);
                    machine.abort_overdue(now, ticket, effects);
                };
                let Ok(Answer::Endings(endings)) = self.ask(shard, number, asked).await else {
                    continue;
                };
                for ending in endings {
                    info!("the transaction of {} took too long and is aborted", ending.transactional_id);
                    self.tell(shard, number, ending, 0);
                }
            }
        }
    }

    async fn forget_expired(self: &Rc<Self>, shard: &Shard) {
        let after_ms = self.options.expiration_ms;
        loop {
            sleep_ms(shard, self.options.expiration_interval_ms).await;
            for number in self.coordinator.active() {
                let forget = move |machine: &mut Machine, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
                    machine.forget_expired(after_ms, now, ticket, effects);
                };
                while let Ok(Answer::Forgotten { more: true }) = self.ask(shard, number, forget).await {}
            }
        }
    }
}

fn joined(answer: Answer) -> Result<BTreeSet<Partition>, ErrorCode> {
    match answer {
        Answer::Done { .. } => Ok(BTreeSet::new()),
        Answer::Missing(missing) => Ok(missing),
        answer => Err(refused(&answer)),
    }
}

fn refused(answer: &Answer) -> ErrorCode {
    match answer {
        Answer::Refused(error) => *error,
        answer => {
            warn!("a transaction coordinator gave an answer that was not asked for: {answer:?}");
            ErrorCode::UnknownServerError
        }
    }
}

async fn sleep_ms(shard: &Shard, ms: u64) {
    let reactor = shard.reactor();
    reactor.sleep_until(reactor.now_ns().saturating_add(ms.saturating_mul(1_000_000))).await;
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions")
            .field("coordinator", &self.coordinator)
            .field("telling", &self.telling.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
