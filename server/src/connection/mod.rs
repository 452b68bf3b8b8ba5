//! One client's connection: a task that reads requests and begins their work, and a task that sends what is ready.
//!
//! ```text
//! socket ─▶ receive buffer ─▶ frames ─▶ handler ─▶ responses (in order, gated) ─▶ send buffer ─▶ socket
//!             `frame`                                `responses`, `flush`
//! ```
//!
//! A connection is read from only while its client takes its answers and the core can take work: see
//! [`Connection::fullness`]. So a slow client, or one that sends more than the disk takes, costs its own connection and
//! nobody else's.

pub mod admission;
pub(crate) mod flush;
pub(crate) mod memory;
pub mod responses;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use engine::io::Socket;
use engine::reactor::Notify;
use tracing::{debug, info};
use wire::Reader;
use wire::api::ApiKey;
use wire::header::RequestHeader;

use crate::api::{self, Handler, HandlerFn, Request, RequestError};
use crate::frame::{FrameError, Frames, ReceiveBuffer};
use crate::handlers::{api_versions, fetch, produce};
use crate::limits::{
    FETCHES_IN_FLIGHT, QUIET_BYTES, REQUESTS_IN_FLIGHT, SEND_BYTES, STALLED_MS, STOP_MS, STOP_POLL_MS, SWEEP_MS,
    UNSENT_BYTES, WAITING_BYTES,
};
use crate::shard::Shard;
use admission::Pass;
use responses::{Front, Gate, Reply, Responses, Ticket};

/// A connection. Clones are the same one; its tasks and the work it has begun hold it.
#[derive(Clone)]
pub struct Connection(Rc<Inner>);

struct Inner {
    shard: Shard,
    socket: Socket,
    peer: SocketAddr,
    /// The listener by which the client came.
    listener: usize,
    /// Its place among the core's connections.
    place: Cell<usize>,
    responses: RefCell<Responses>,
    /// Rings when there is something to send, or at the end.
    writer: Notify,
    /// Rings when the reader may go on, or at the end.
    reader: Notify,
    reader_waits: Cell<bool>,
    /// It is in one of the lists of `flush`.
    queued: Cell<bool>,
    closed: Cell<bool>,
    /// Bytes of requests whose answers come later.
    waiting_bytes: Cell<usize>,
    /// Fetches that read from disk or wait for records.
    fetches: Cell<usize>,
    /// Bytes of the send that is under way.
    sending_bytes: Cell<usize>,
    /// Bytes that the core has been told of.
    unsent_reported: Cell<usize>,
    /// When bytes moved last, and when the send under way began: monotonic, in nanoseconds.
    moved_ns: Cell<u64>,
    sending_since_ns: Cell<Option<u64>>,
    /// Work that waits and would rather end with the connection.
    on_close: RefCell<Vec<(Ticket, Notify)>>,
    pass: Pass,
}

/// The connections of one core.
#[derive(Default)]
pub(crate) struct Connections {
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
}

/// What became of a request.
pub(crate) enum Step {
    /// Its answer is ready, or will come.
    Done,
    /// The store has no memory for it at this moment: it is to be taken up where it stopped.
    Busy(Box<produce::Work>),
    /// It is to be begun when answers have left.
    Later,
}

/// Why a reader stopped handling frames.
enum Pause {
    /// There are no more.
    NoFrames,
    /// The client has too many answers to take.
    Full,
    /// Another core has too many messages to take.
    Congested,
    /// The store has no memory.
    NoMemory,
    /// Nothing more is read.
    Closing,
}

impl Connection {
    /// Takes over a socket that has been accepted.
    pub(crate) fn begin(shard: &Shard, socket: Socket, peer: SocketAddr, listener: usize, pass: Pass) {
        let connection = Connection(Rc::new(Inner {
            shard: shard.clone(),
            socket,
            peer,
            listener,
            place: Cell::new(0),
            responses: RefCell::default(),
            writer: Notify::new(),
            reader: Notify::new(),
            reader_waits: Cell::new(false),
            queued: Cell::new(false),
            closed: Cell::new(false),
            waiting_bytes: Cell::new(0),
            fetches: Cell::new(0),
            sending_bytes: Cell::new(0),
            unsent_reported: Cell::new(0),
            moved_ns: Cell::new(shard.reactor().now_ns()),
            sending_since_ns: Cell::new(None),
            on_close: RefCell::default(),
            pass,
        }));
        shard.0.connections.borrow_mut().insert(&connection);
        let reader = connection.clone();
        shard.reactor().spawn(async move { reader.read().await });
        shard.reactor().spawn(async move { connection.write().await });
    }

    /// The core that the connection belongs to.
    pub(crate) fn shard(&self) -> &Shard {
        &self.0.shard
    }

    /// True when nobody waits for answers any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// What keeps the first response from leaving.
    pub(crate) fn front(&self) -> Front {
        self.0.responses.borrow().front()
    }

    /// Notes whether the connection is in a list of `flush`; returns whether it was.
    pub(crate) fn set_queued(&self, queued: bool) -> bool {
        self.0.queued.replace(queued)
    }

    /// Has the writer send what may leave.
    pub(crate) fn begin_send(&self) {
        self.0.writer.notify();
    }

    /// Queues a response that is ready, encoded by `encode` with its length in front, which leaves after commit `gate`.
    pub(crate) fn respond(
        &self,
        gate: Gate,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let mut responses = self.0.responses.borrow_mut();
        let mut open = responses.open();
        encode(open.out())?;
        open.seal(gate);
        Ok(())
    }

    /// Holds the place of a response that comes later, to a request that keeps `kept_bytes` of memory until then.
    pub(crate) fn respond_later(&self, kept_bytes: usize) -> Ticket {
        self.0.waiting_bytes.set(self.0.waiting_bytes.get() + kept_bytes);
        self.0.shard.0.memory.add(kept_bytes);
        self.0.responses.borrow_mut().reserve()
    }

    /// Delivers the response for a place held by [`Connection::respond_later`], with the same `kept_bytes`. An error ends
    /// the connection in its place.
    pub(crate) fn complete(&self, ticket: Ticket, kept_bytes: usize, gate: Gate, reply: Result<Reply, RequestError>) {
        self.0.waiting_bytes.set(self.0.waiting_bytes.get() - kept_bytes);
        self.0.shard.0.memory.give(kept_bytes);
        if self.is_closed() {
            return;
        }
        match reply {
            Ok(reply) => self.0.responses.borrow_mut().complete(ticket, gate, reply),
            Err(error) => {
                self.log_refusal(&error);
                self.0.responses.borrow_mut().complete_with_close(ticket);
            }
        }
        self.settle();
    }

    /// Queues a response that is ready.
    pub(crate) fn respond_whole(&self, reply: Reply) {
        self.0.responses.borrow_mut().push(reply);
    }

    /// Counts a fetch that takes its time, until the count is dropped.
    pub(crate) fn count_fetch(&self) -> FetchCount {
        self.0.fetches.set(self.0.fetches.get() + 1);
        FetchCount(self.clone())
    }

    /// Has `notify` rung when the connection ends, or is to end, before the response of `ticket` is there.
    pub(crate) fn notify_on_close(&self, ticket: Ticket, notify: Notify) {
        self.0.on_close.borrow_mut().push((ticket, notify));
    }

    /// Takes back [`Connection::notify_on_close`].
    pub(crate) fn forget_on_close(&self, ticket: Ticket) {
        self.0.on_close.borrow_mut().retain(|(of, _)| *of != ticket);
    }

    /// Ends the connection at once. What was not sent is lost.
    pub(crate) fn end(&self) {
        if self.0.closed.replace(true) {
            return;
        }
        let shard = &self.0.shard;
        shard.reactor().shutdown(&self.0.socket);
        shard.0.connections.borrow_mut().remove(self.0.place.get());
        self.0.responses.replace(Responses::new());
        self.0.sending_bytes.set(0);
        self.account();
        self.0.writer.notify();
        self.0.reader.notify();
        for (_, notify) in self.0.on_close.take() {
            notify.notify();
        }
    }

    /// Has everything that waits for time to pass go on.
    pub(crate) fn hurry(&self) {
        for (_, notify) in &*self.0.on_close.borrow() {
            notify.notify();
        }
    }

    /// True when every request has been answered and the answers have been sent.
    pub(crate) fn is_quiet(&self) -> bool {
        self.front() == Front::Empty && self.0.sending_since_ns.get().is_none()
    }

    async fn read(&self) {
        let shard = &self.0.shard;
        let memory = &shard.0.memory;
        let mut buffer = ReceiveBuffer::new(shard.options().request_max_bytes);
        let mut counted = 0;
        while !self.is_closed() {
            let mut lent = buffer.lend(self.grow_to(&buffer, &mut counted).await);
            self.count_held(&buffer, &mut counted);
            let received;
            (received, lent) = shard.reactor().recv(&self.0.socket, lent).await;
            let received = match received {
                Ok(received) if received > 0 => received,
                ended => {
                    debug!(peer = %self.0.peer, ?ended, "the client has gone");
                    self.end();
                    break;
                }
            };
            self.0.moved_ns.set(shard.reactor().now_ns());
            let (mut frames, error) = buffer.give_back(lent, received);
            if !self.handle(&mut frames).await {
                break;
            }
            if let Some(error) = error {
                self.refuse_frame(error);
                break;
            }
        }
        // After a refusal the writer ends the connection, when what is before it has been sent.
        memory.give(counted);
        self.settle();
    }

    /// Waits until the core has memory for what the buffer needs next, and counts it. Returns whether the buffer may be
    /// larger than its next frame.
    async fn grow_to(&self, buffer: &ReceiveBuffer, counted: &mut usize) -> bool {
        let memory = &self.0.shard.0.memory;
        let ample = memory.is_ample();
        let needed = buffer.wanted(ample).saturating_sub(QUIET_BYTES);
        if needed > *counted {
            memory.change(*counted, needed).await;
            *counted = needed;
        }
        ample
    }

    /// Corrects the count to what the buffer has become.
    fn count_held(&self, buffer: &ReceiveBuffer, counted: &mut usize) {
        let memory = &self.0.shard.0.memory;
        let held = buffer.held().saturating_sub(QUIET_BYTES);
        if held < *counted {
            memory.give(*counted - held);
        } else {
            memory.add(held - *counted);
        }
        *counted = held;
    }

    /// Begins the work of all frames, waiting where there is no room for it. False when the connection ends.
    async fn handle(&self, frames: &mut Frames) -> bool {
        let shard = &self.0.shard;
        let mut parked = None;
        loop {
            let pause = self.handle_some(frames, &mut parked);
            self.settle();
            match pause {
                Pause::NoFrames => return true,
                Pause::Closing => return false,
                Pause::Congested => shard.0.router.relaxed.wait().await,
                Pause::NoMemory => shard.wait_for_memory().await,
                Pause::Full => {
                    self.0.reader_waits.set(true);
                    self.0.reader.wait().await;
                    self.0.reader_waits.set(false);
                }
            }
            if self.is_closed() {
                return false;
            }
        }
    }

    fn handle_some(&self, frames: &mut Frames, parked: &mut Option<Box<produce::Work>>) -> Pause {
        loop {
            if let Some(pause) = self.fullness() {
                return pause;
            }
            let Some(frame) = frames.peek() else { return Pause::NoFrames };
            let step = match parked.take() {
                Some(work) => produce::go_on(self, work, frame, frames),
                None => self.begin_request(frame, frames),
            };
            match step {
                Ok(Step::Done) => frames.advance(),
                Ok(Step::Later) => return Pause::Full,
                Ok(Step::Busy(work)) => {
                    *parked = Some(work);
                    return Pause::NoMemory;
                }
                Err(error) => {
                    self.log_refusal(&error);
                    self.0.responses.borrow_mut().close();
                    return Pause::Closing;
                }
            }
        }
    }

    /// Why no further request may be begun, if so.
    fn fullness(&self) -> Option<Pause> {
        let responses = self.0.responses.borrow();
        if self.0.shard.0.stopping.get() {
            // What has been begun is answered; the assembly ends the connection then.
            Some(Pause::Full)
        } else if responses.requests() >= REQUESTS_IN_FLIGHT
            || responses.unsent_bytes() >= UNSENT_BYTES
            || self.0.waiting_bytes.get() >= WAITING_BYTES
        {
            Some(Pause::Full)
        } else if self.0.shard.0.router.is_congested() {
            Some(Pause::Congested)
        } else {
            None
        }
    }

    fn begin_request(&self, frame: &[u8], frames: &Frames) -> Result<Step, RequestError> {
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader)?;
        let body = reader.position();
        let row = api::find(header.api).ok_or(RequestError::NotServed(header.api))?;
        if header.version < row.min || header.version > row.max {
            if header.api != ApiKey::ApiVersions {
                return Err(RequestError::UnsupportedVersion(header.api, header.version));
            }
            self.respond(0, |out| api_versions::refuse_version(out, header.correlation_id))?;
            return Ok(Step::Done);
        }
        match row.handler {
            Handler::Produce => return produce::begin(self, &header, frame, body, frames),
            Handler::Fetch if self.0.fetches.get() >= FETCHES_IN_FLIGHT => return Ok(Step::Later),
            Handler::Fetch => fetch::begin(self, &header, frame, body)?,
            Handler::Task(handler) => self.begin_task(handler, &header, body, frames, self.0.shard.core())?,
            Handler::Controller(handler) => self.begin_task(handler, &header, body, frames, 0)?,
        }
        Ok(Step::Done)
    }

    /// Runs a handler on `core`: as a task, unless it is done at once.
    fn begin_task(
        &self,
        handler: HandlerFn,
        header: &RequestHeader<'_>,
        body: usize,
        frames: &Frames,
        core: usize,
    ) -> Result<(), RequestError> {
        let (frame, kept_bytes) = frames.share();
        let request = Request::new(frame, header, body, self.0.peer, self.0.listener);
        let shard = self.0.shard.clone();
        let connection = self.clone();
        if core != shard.core() {
            let ticket = self.respond_later(kept_bytes);
            self.0.shard.reactor().spawn(async move {
                let reply = shard.run_on(core, move |shard| handler(shard, request)).await;
                connection.complete(ticket, kept_bytes, 0, reply);
            });
            return Ok(());
        }
        let mut work = handler(shard, request);
        // Whoever waits is polled again as a task, and is woken as one then.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => self.respond_whole(reply?),
            Poll::Pending => {
                let ticket = self.respond_later(kept_bytes);
                self.0.shard.reactor().spawn(async move {
                    let reply = work.await;
                    connection.complete(ticket, kept_bytes, 0, reply);
                });
            }
        }
        Ok(())
    }

    async fn write(&self) {
        let shard = &self.0.shard;
        loop {
            self.0.writer.wait().await;
            while !self.is_closed() {
                let mut out = shard.take_send_buf();
                let taken = self.0.responses.borrow_mut().take(shard.store().committed(), SEND_BYTES, &mut out);
                if taken.bytes > 0 {
                    self.0.sending_bytes.set(taken.bytes);
                    self.0.sending_since_ns.set(Some(shard.reactor().now_ns()));
                    let sent;
                    (sent, out) = shard.reactor().send(&self.0.socket, out).await;
                    self.0.sending_since_ns.set(None);
                    self.0.sending_bytes.set(0);
                    self.0.moved_ns.set(shard.reactor().now_ns());
                    if let Err(error) = sent {
                        debug!(peer = %self.0.peer, %error, "send failed");
                        self.end();
                    }
                }
                shard.keep_send_buf(out);
                if taken.close {
                    self.end();
                }
                self.account();
                if self.0.reader_waits.get() {
                    self.0.reader.notify();
                }
                if taken.bytes == 0 {
                    break;
                }
            }
            if self.is_closed() {
                return;
            }
            if let Front::Gated(_) = self.front() {
                shard.0.flush.mark(self);
            }
        }
    }

    /// After responses were queued or completed: counts them, and has them sent.
    fn settle(&self) {
        self.account();
        if let Front::Gated(_) = self.front() {
            self.0.shard.0.flush.mark(self);
        }
    }

    fn account(&self) {
        let unsent = self.0.responses.borrow().unsent_bytes() + self.0.sending_bytes.get();
        let reported = self.0.unsent_reported.replace(unsent);
        let core = &self.0.shard.0.unsent_bytes;
        core.set(core.get() - reported + unsent);
    }

    fn refuse_frame(&self, error: FrameError) {
        info!(peer = %self.0.peer, "closing the connection: {error}");
        self.0.responses.borrow_mut().close();
    }

    fn log_refusal(&self, error: &RequestError) {
        info!(peer = %self.0.peer, "closing the connection: {error}");
    }

    /// Ends the connection if it has been idle or stalled for too long.
    fn sweep(&self, now_ns: u64, short_of_memory: bool) {
        let ms_since = |then_ns: u64| now_ns.saturating_sub(then_ns) / 1_000_000;
        let idle_max_ms = self.0.shard.options().idle_max_ms.unwrap_or(u64::MAX);
        match self.0.sending_since_ns.get() {
            Some(since_ns) if ms_since(since_ns) > idle_max_ms => {
                info!(peer = %self.0.peer, "closing the connection: its client does not read");
                self.end();
            }
            Some(since_ns) if short_of_memory && ms_since(since_ns) > STALLED_MS => {
                info!(peer = %self.0.peer, "closing the connection: its client reads too slowly while memory is short");
                self.end();
            }
            None if self.front() == Front::Empty && ms_since(self.0.moved_ns.get()) > idle_max_ms => {
                debug!(peer = %self.0.peer, "closing the connection: idle");
                self.end();
            }
            _ => {}
        }
    }
}

impl Shard {
    /// Waits until an append that was refused for want of memory is worth another try.
    pub(crate) async fn wait_for_memory(&self) {
        self.0.admission.note_shortage(self.reactor().now_ns());
        self.store().wait_capacity().await;
    }

    /// Starts the task that looks for idle and stalled connections.
    pub(crate) fn start_sweep(&self) {
        let shard = self.clone();
        self.reactor().spawn(async move {
            let mut next_ns = shard.reactor().now_ns();
            loop {
                next_ns += SWEEP_MS * 1_000_000;
                shard.reactor().sleep_until(next_ns).await;
                let now_ns = shard.reactor().now_ns();
                let is_full = shard.0.unsent_bytes.get() > shard.options().unsent_bytes;
                let short_of_memory = is_full || shard.0.admission.is_short(now_ns);
                for connection in shard.all_connections() {
                    connection.sweep(now_ns, short_of_memory);
                }
                if shard.0.admission.is_over() {
                    shard.end_excess();
                }
                shard.log_full_disk();
            }
        });
    }

    /// Ends connections that are too many since `max.connections` has been lowered, those that have been quiet for longest
    /// first. The cores share them: each may find that others have ended enough.
    fn end_excess(&self) {
        let mut connections = self.all_connections();
        connections.sort_by_key(|connection| connection.0.moved_ns.get());
        for connection in connections.iter().take_while(|connection| connection.0.pass.must_leave()) {
            info!(peer = %connection.0.peer, "closing the connection: max.connections has been lowered");
            connection.end();
        }
    }

    /// Begins no request any more, and ends the connections: each when its answers have left, all after a while.
    pub(crate) async fn finish_connections(self) {
        self.0.stopping.set(true);
        let deadline_ns = self.reactor().now_ns() + STOP_MS * 1_000_000;
        self.all_connections().iter().for_each(Connection::hurry);
        loop {
            let connections = self.all_connections();
            if connections.is_empty() {
                return;
            }
            let is_late = self.reactor().now_ns() >= deadline_ns;
            connections.iter().filter(|connection| is_late || connection.is_quiet()).for_each(Connection::end);
            self.reactor().sleep_until(self.reactor().now_ns() + STOP_POLL_MS * 1_000_000).await;
        }
    }

    /// The connections of this core.
    pub(crate) fn all_connections(&self) -> Vec<Connection> {
        self.0.connections.borrow().places.iter().flatten().cloned().collect()
    }
}

/// A fetch that takes its time.
pub(crate) struct FetchCount(Connection);

impl Drop for FetchCount {
    fn drop(&mut self) {
        let fetches = &self.0.0.fetches;
        fetches.set(fetches.get() - 1);
    }
}

impl Connections {
    fn insert(&mut self, connection: &Connection) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        connection.0.place.set(place);
        self.places[place] = Some(connection.clone());
    }

    fn remove(&mut self, place: usize) {
        self.places[place] = None;
        self.free.push(place);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.0.peer)
    }
}
