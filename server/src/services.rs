//! What handlers on a core need beside the data path: the operator's decisions, and on core 0 the controller.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use engine::reactor::Notify;

use crate::config::coordinators::CoordinatorOptions;
use crate::config::options::TopicOptions;
use crate::controller::Controller;
use crate::coordinator::{Coordinator, LogTopic};
use crate::group::Groups;
use crate::loggers::Loggers;
use crate::shard::Shard;
use crate::transaction::service::Transactions;

/// What the operator decides about the admin APIs.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// How topics are created and deleted.
    pub topics: TopicOptions,
    /// Groups and transactions.
    pub coordinators: CoordinatorOptions,
    /// Partitions in one response of DescribeTopicPartitions.
    pub described_partitions: u32,
    /// The absolute path of the data directory.
    pub data_dir: String,
    /// What the broker says, and how much.
    pub loggers: Arc<Loggers>,
}

/// The services of a core. They are left with its shard ([`Shard::set_extension`]).
pub struct Services {
    /// What the operator decides.
    pub options: ServiceOptions,
    controller: OnceCell<Rc<Controller>>,
    groups: Rc<Coordinator<Groups>>,
    transactions: OnceCell<Rc<Transactions>>,
    producer_ids: Cell<IdBlock>,
    failure: RefCell<Option<String>>,
    ending: Notify,
}

/// Producer ids that a core may hand out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IdBlock {
    /// The next one.
    pub next: i64,
    /// The first one that is not the core's.
    pub end: i64,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Services {
    /// Leaves services with every core.
    pub async fn install(core0: &Shard, options: &ServiceOptions) {
        for core in 0..core0.cores() {
            let options = options.clone();
            let install = move |shard: Shard| {
                shard.set_extension(Rc::new(Services::new(options)));
                std::future::ready(())
            };
            core0.run_on(core, install).await;
        }
    }

    /// Starts the coordinators of every core: they load the state that they find. Once the partitions have been adopted.
    pub async fn start_coordinators(core0: &Shard) {
        for core in 0..core0.cores() {
            let start = |shard: Shard| {
                Services::of(&shard).groups().start(&shard);
                std::future::ready(())
            };
            core0.run_on(core, start).await;
        }
    }

    fn new(options: ServiceOptions) -> Services {
        let groups = options.coordinators.groups;
        Services {
            options,
            controller: OnceCell::new(),
            groups: Coordinator::new(LogTopic::Offsets, move |_| Groups::new(groups)),
            transactions: OnceCell::new(),
            producer_ids: Cell::default(),
            failure: RefCell::default(),
            ending: Notify::new(),
        }
    }

    /// Notes on core 0 that a store has failed. The first cause counts.
    pub fn fail(&self, cause: String) {
        self.failure.borrow_mut().get_or_insert(cause);
        self.ending.notify();
    }

    /// Why a store has failed, if one has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Rings when there may be a reason to end.
    #[must_use]
    pub fn ending(&self) -> &Notify {
        &self.ending
    }

    /// The services of a core, which have been installed before clients come.
    #[must_use]
    pub fn of(shard: &Shard) -> Rc<Services> {
        shard.extension().expect("the services are installed before clients come")
    }

    /// Gives core 0 its controller, once.
    pub fn set_controller(&self, controller: Rc<Controller>) {
        assert!(self.controller.set(controller).is_ok(), "there is one controller");
    }

    /// The controller. Only core 0 has it.
    ///
    /// # Panics
    /// On other cores, and before it has been set.
    #[must_use]
    pub fn controller(&self) -> &Rc<Controller> {
        self.controller.get().expect("only core 0 decides, after it has its controller")
    }

    /// This core's part of the group coordinator.
    #[must_use]
    pub fn groups(&self) -> &Rc<Coordinator<Groups>> {
        &self.groups
    }

    /// Gives the core its transaction coordinators, once.
    pub(crate) fn set_transactions(&self, transactions: Rc<Transactions>) {
        assert!(self.transactions.set(transactions).is_ok(), "a core's coordinators are started once");
    }

    /// The core's transaction coordinators.
    ///
    /// # Panics
    /// Before they have been started.
    pub(crate) fn transactions(&self) -> Rc<Transactions> {
        self.transactions.get().expect("the coordinators are started before clients come").clone()
    }

    /// An id for a producer, if the core has one left.
    pub(crate) fn take_producer_id(&self) -> Option<i64> {
        let block = self.producer_ids.get();
        if block.next == block.end {
            return None;
        }
        self.producer_ids.set(IdBlock { next: block.next + 1, ..block });
        Some(block.next)
    }

    /// Gives the core a block of producer ids. What it had is forgotten.
    pub(crate) fn add_producer_ids(&self, block: IdBlock) {
        self.producer_ids.set(block);
    }
}
