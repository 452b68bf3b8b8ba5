//! One core's share of the broker: its store, its connections, its view of the metadata, and its queues to the other
//! cores (see `router`). Everything here belongs to one thread.
//!
//! A share begins without a store and with an empty image, so that the start-up (see `assembly`) can already be run on
//! the cores by messages.

use std::any::Any;
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use engine::Store;
use engine::io::{Listener, SendBuf};
use engine::mailbox::Mailbox;
use engine::reactor::{Notify, Reactor};

use crate::connection::Connections;
use crate::connection::admission::Admission;
use crate::connection::flush::Flush;
use crate::connection::memory::Memory;
use crate::disk::DiskLog;
use crate::handlers::fetch::FetchState;
use crate::handlers::produce::ProduceState;
use crate::image::Image;
use crate::limits::{KEPT_BYTES, KEPT_SENDS};
use crate::router::{CoreMsg, Router};

/// What an operator decides about the data path.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// `node.id`.
    pub node_id: i32,
    /// `socket.request.max.bytes`: the largest request, in bytes.
    pub request_max_bytes: usize,
    /// `connections.max.idle.ms`: a connection on which nothing moved for this long is closed. None: never.
    pub idle_max_ms: Option<u64>,
    /// `fetch.max.bytes`: records in one fetch response, in bytes, beside the batch that crosses the bound.
    pub fetch_max_bytes: usize,
    /// Incremental fetch sessions per core: its part of `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions: usize,
    /// Memory of one core for requests that are being received or that wait, in bytes.
    pub receive_bytes: usize,
    /// Bytes of answers that may wait to be sent on one core.
    pub unsent_bytes: usize,
}

/// One core's share. Clones are the same share.
#[derive(Clone)]
pub struct Shard(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    reactor: Reactor,
    pub(crate) store: OnceCell<Store>,
    options: ShardOptions,
    core: usize,
    cores: usize,
    image: RefCell<Arc<Image>>,
    /// To be rung when there is another.
    image_watchers: RefCell<Vec<Notify>>,
    pub(crate) router: Router,
    pub(crate) admission: Arc<Admission>,
    pub(crate) connections: RefCell<Connections>,
    pub(crate) flush: Flush,
    pub(crate) memory: Memory,
    pub(crate) disk_log: DiskLog,
    pub(crate) produce: RefCell<ProduceState>,
    pub(crate) fetch: RefCell<FetchState>,
    /// Bytes of answers which are ready or on their way.
    pub(crate) unsent_bytes: Cell<usize>,
    pub(crate) stopping: Cell<bool>,
    /// Rings when the core's work is over.
    pub(crate) ended: Notify,
    pub(crate) listeners: RefCell<Vec<Listener>>,
    send_bufs: RefCell<Vec<SendBuf>>,
    extension: RefCell<Option<Rc<dyn Any>>>,
}

impl Shard {
    /// The share of the core that `mailbox` belongs to, which is bound to `reactor`. [`Shard::start`] comes next.
    #[must_use]
    pub fn new(
        reactor: Reactor,
        mailbox: Mailbox<CoreMsg>,
        image: Arc<Image>,
        admission: Arc<Admission>,
        options: ShardOptions,
    ) -> Shard {
        let (core, cores) = (mailbox.core(), mailbox.cores());
        Shard(Rc::new(Inner {
            reactor,
            store: OnceCell::new(),
            core,
            cores,
            image: RefCell::new(image),
            image_watchers: RefCell::default(),
            router: Router::new(mailbox),
            admission,
            connections: RefCell::default(),
            flush: Flush::default(),
            memory: Memory::new(options.receive_bytes),
            disk_log: DiskLog::default(),
            produce: RefCell::default(),
            fetch: RefCell::new(FetchState::new(options.fetch_sessions, core, cores)),
            unsent_bytes: Cell::new(0),
            stopping: Cell::new(false),
            ended: Notify::new(),
            listeners: RefCell::default(),
            send_bufs: RefCell::default(),
            extension: RefCell::new(None),
            options,
        }))
    }

    /// Starts the tasks of the core that need no store: messages between cores, and the look-out for idle connections and a
    /// full disk.
    pub fn start(&self) {
        self.start_router();
        self.start_sweep();
    }

    /// Gives the core its store, and starts the tasks that need one.
    ///
    /// # Panics
    /// If it has one.
    pub fn set_store(&self, store: Store) {
        assert!(self.0.store.set(store).is_ok(), "a core has one store");
        self.start_append_parked();
        self.start_flush();
    }

    /// This core's number, from 0.
    #[must_use]
    pub fn core(&self) -> usize {
        self.0.core
    }

    /// How many cores there are.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.0.cores
    }

    /// This core's executor.
    #[must_use]
    pub fn reactor(&self) -> &Reactor {
        &self.0.reactor
    }

    /// This core's store.
    ///
    /// # Panics
    /// Before [`Shard::set_store`].
    #[must_use]
    pub fn store(&self) -> &Store {
        self.0.store.get().expect("the store is opened before it is used")
    }

    /// What the operator has decided.
    #[must_use]
    pub fn options(&self) -> &ShardOptions {
        &self.0.options
    }

    /// The metadata as this core sees it. Not to be held over an await: clone it for that.
    #[must_use]
    pub fn image(&self) -> Ref<'_, Arc<Image>> {
        self.0.image.borrow()
    }

    /// Takes a newer view of the metadata into use on this core.
    pub fn set_image(&self, image: Arc<Image>) {
        self.0.image.replace(image);
        self.0.image_watchers.borrow().iter().for_each(Notify::notify);
    }

    /// Has `notify` rung whenever this core has taken a newer view of the metadata into use.
    pub fn watch_image(&self, notify: Notify) {
        self.0.image_watchers.borrow_mut().push(notify);
    }

    /// Gives every core a newer view of the metadata. When it resolves, no request begins any more that sees the older.
    pub async fn publish(&self, image: Arc<Image>) {
        self.0.admission.set_limits(&image.live().connections);
        let mut calls = Vec::new();
        for core in 0..self.cores() {
            let image = image.clone();
            calls.push(self.run_on(core, move |shard| {
                shard.set_image(image);
                std::future::ready(())
            }));
        }
        for call in calls {
            call.await;
        }
    }

    /// Leaves something with the core for the handlers that run there: on core 0 the controller.
    pub fn set_extension(&self, extension: Rc<dyn Any>) {
        self.0.extension.replace(Some(extension));
    }

    /// What [`Shard::set_extension`] left, if it is a `T`.
    #[must_use]
    pub fn extension<T: 'static>(&self) -> Option<Rc<T>> {
        self.0.extension.borrow().clone()?.downcast().ok()
    }

    /// An empty buffer for a send.
    pub(crate) fn take_send_buf(&self) -> SendBuf {
        self.0.send_bufs.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a buffer's memory for the next send, and lets go of what it refers to.
    pub(crate) fn keep_send_buf(&self, mut buf: SendBuf) {
        buf.clear();
        let mut kept = self.0.send_bufs.borrow_mut();
        if kept.len() < KEPT_SENDS && buf.head.capacity() <= KEPT_BYTES {
            kept.push(buf);
        }
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shard({} of {})", self.core(), self.cores())
    }
}
