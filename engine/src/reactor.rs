//! The executor of one core: tasks, timers and I/O on one thread.
//!
//! A **turn** submits what the last one asked for and fetches completions (one call of the kernel, which sleeps if nothing
//! else is to be done), samples the clocks, wakes what completions, timers and mail concern, polls everything that is
//! ready in the order of waking, and then does the same for those who asked for the turn's end
//! ([`Reactor::end_of_turn`]): a group commit and the flush of responses wait there, so that they cover all that the turn
//! has brought.
//!
//! Nothing here is shared between threads, so nothing is atomic. Wakers are numbers; see the module `ready`.

mod calls;
mod doorbell;
mod notify;
mod ready;
#[cfg(test)]
mod tests;
mod timers;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::io::random::Random;
use crate::io::{Io, IoStats, Stalled, Wait};
use crate::limits::TURN_ROUNDS;
use ready::Ready;
use timers::{Sleep, Timers};

pub(crate) use doorbell::{Doorbell, Doors};
pub use notify::Notify;

/// The number of the future that [`Reactor::block_on`] polls.
const MAIN: u32 = 0;

/// The executor of one core. Clones are the same executor.
#[derive(Clone)]
pub struct Reactor(Rc<Inner>);

struct Inner {
    io: Io,
    ready: Rc<Ready>,
    tasks: RefCell<Tasks>,
    timers: RefCell<Timers>,
    turn_end: TurnEnd,
    /// Where other cores ring.
    doorbells: RefCell<Vec<Rc<Doorbell>>>,
    now_ns: Cell<u64>,
    unix_ms: Cell<i64>,
    random: RefCell<Random>,
    running: Cell<bool>,
    turns: Cell<u64>,
    polls: Cell<u64>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks by number. A slot is empty while its task is polled, and while it is free.
struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<u32>,
}

/// Those who wait for the end of the turn.
#[derive(Default)]
struct TurnEnd {
    waiting: RefCell<Vec<Waker>>,
    /// Empty between uses: swapped with `waiting`, so that both keep their memory.
    spare: RefCell<Vec<Waker>>,
    count: Cell<u64>,
}

/// Counters of one core since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Turns of the loop.
    pub turns: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// The core's ring.
    pub io: IoStats,
}

impl Reactor {
    /// An executor on `io`, for the calling thread.
    #[must_use]
    pub fn new(io: Io) -> Reactor {
        let ready = Ready::register();
        ready.grow(1);
        Reactor(Rc::new(Inner {
            ready,
            tasks: RefCell::new(Tasks { slots: vec![None], free: Vec::new() }),
            timers: RefCell::default(),
            turn_end: TurnEnd::default(),
            doorbells: RefCell::default(),
            now_ns: Cell::new(io.now_ns()),
            unix_ms: Cell::new(io.unix_ms()),
            random: RefCell::new(Random::new(io.seed())),
            running: Cell::new(false),
            turns: Cell::new(0),
            polls: Cell::new(0),
            io,
        }))
    }

    /// Monotonic time in nanoseconds, as of the turn's beginning. All cores of a process count from one origin.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    /// Wall clock in milliseconds since 1970, as of the turn's beginning. It may jump.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        self.0.unix_ms.get()
    }

    /// A random number: seeded by the system, or by the simulation. Not for secrets.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.0.random.borrow_mut().next()
    }

    /// Starts a task. It is polled in this turn if one is running, else in the next.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let inner = &*self.0;
        let mut tasks = inner.tasks.borrow_mut();
        let task: Option<Task> = Some(Box::pin(task));
        let number = match tasks.free.pop() {
            Some(number) => {
                tasks.slots[number as usize] = task;
                number
            }
            None => {
                tasks.slots.push(task);
                inner.ready.grow(tasks.slots.len());
                (tasks.slots.len() - 1) as u32
            }
        };
        inner.ready.push(number);
    }

    /// Tasks that have been started and have not ended.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        let tasks = self.0.tasks.borrow();
        // Slot 0 is never a task.
        tasks.slots.len() - 1 - tasks.free.len()
    }

    /// Runs turns until `main` is done: for start-up, a core's main task and tests. Other tasks run as well, and stay for
    /// the next call if they have not ended. Panics where a simulated world does not go on.
    pub fn block_on<T>(&self, main: impl Future<Output = T>) -> T {
        self.try_block_on(main).unwrap_or_else(|stalled| panic!("{stalled}"))
    }

    /// Like [`Reactor::block_on`], for a simulated world that may end or stall before `main` does.
    pub fn try_block_on<T>(&self, main: impl Future<Output = T>) -> Result<T, Stalled> {
        Reactor::block_on_cores(std::slice::from_ref(self), main)
    }

    /// Runs the cores of one simulated world, in turns of seeded order, until `main`, which belongs to the first of them,
    /// is done. Cores on rings have a thread each and are not run like this.
    pub fn block_on_cores<T>(cores: &[Reactor], main: impl Future<Output = T>) -> Result<T, Stalled> {
        let mut main = pin!(main);
        let mut output = None;
        cores[0].0.ready.push(MAIN);
        while output.is_none() {
            // A core alone may sleep by itself; among several, time passes only when all have nothing to do.
            let (core, alone) = if cores.len() == 1 { (0, true) } else { (next_core(cores)?, false) };
            let inner = &cores[core].0;
            if core > 0 {
                inner.turn(alone, &mut |_| ())?;
                continue;
            }
            inner.turn(alone, &mut |cx| {
                if output.is_none()
                    && let Poll::Ready(value) = main.as_mut().poll(cx)
                {
                    output = Some(value);
                }
            })?;
        }
        for core in cores {
            core.0.finish();
        }
        Ok(output.expect("the loop ends when there is one"))
    }

    /// Runs turns until no task is left. Panics where a simulated world does not go on.
    pub fn run(&self) {
        while self.live_tasks() > 0 {
            self.0.turn(true, &mut |_| ()).unwrap_or_else(|stalled| panic!("{stalled}"));
        }
        self.0.finish();
    }

    /// Drops every task. Tasks hold the reactor and the reactor its tasks, so whoever is done with a reactor before the
    /// process ends calls this. Not from inside a task.
    pub fn drop_tasks(&self) {
        assert!(!self.0.running.get(), "a task cannot drop all tasks");
        loop {
            // A task's end may start another, or wake one: neither is run any more.
            let dropped: Vec<Task> = self.0.tasks.borrow_mut().slots.iter_mut().filter_map(Option::take).collect();
            if dropped.is_empty() {
                break;
            }
        }
        while self.0.ready.pop().is_some() {}
        let mut tasks = self.0.tasks.borrow_mut();
        tasks.slots.truncate(1);
        tasks.free.clear();
    }

    /// Waits until [`Reactor::now_ns`] has reached `at_ns`.
    pub async fn sleep_until(&self, at_ns: u64) {
        Sleep::new(&self.0, at_ns).await;
    }

    /// Waits until every task that is ready in this turn has run. Asked for at a turn's end, it means the next turn's, which
    /// then begins without sleeping.
    pub async fn end_of_turn(&self) {
        let turn_end = &self.0.turn_end;
        let asked_at = turn_end.count.get();
        poll_fn(|cx| {
            if turn_end.count.get() != asked_at {
                return Poll::Ready(());
            }
            turn_end.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The bell at which the other cores of a mesh ring for core `me`, which is this one.
    pub(crate) fn doorbell(&self, doors: Arc<Doors>, me: usize) -> Rc<Doorbell> {
        let doorbell = Rc::new(Doorbell::new(doors, me, &self.0.io));
        self.0.doorbells.borrow_mut().push(doorbell.clone());
        doorbell
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { turns: self.0.turns.get(), polls: self.0.polls.get(), io: self.0.io.stats() }
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reactor({} tasks)", self.live_tasks())
    }
}

/// The core that takes its turn next: any that has something to do, after time has passed until there is one.
fn next_core(cores: &[Reactor]) -> Result<usize, Stalled> {
    let io = &cores[0].0.io;
    let busy: Vec<usize> = (0..cores.len()).filter(|&core| cores[core].0.is_busy(io.now_ns())).collect();
    if !busy.is_empty() {
        return Ok(busy[io.draw(busy.len() as u64) as usize]);
    }
    let next = (0..cores.len()).filter_map(|core| Some((cores[core].0.next_ns()?, core))).min();
    let (at_ns, core) = next.ok_or(Stalled::Deadlock)?;
    io.pass_until(at_ns);
    Ok(core)
}

impl Inner {
    fn turn(&self, may_sleep: bool, main: &mut dyn FnMut(&mut Context<'_>)) -> Result<(), Stalled> {
        let _running = Running::start(&self.running);
        self.turns.set(self.turns.get() + 1);

        self.call_io(may_sleep)?;
        self.now_ns.set(self.io.now_ns());
        self.unix_ms.set(self.io.unix_ms());
        self.timers.borrow_mut().fire(self.now_ns.get());
        for doorbell in &*self.doorbells.borrow() {
            doorbell.answer();
        }

        self.run_ready(main);
        if !self.turn_end.waiting.borrow().is_empty() {
            self.turn_end.count.set(self.turn_end.count.get() + 1);
            let mut waiting = self.turn_end.waiting.replace(self.turn_end.spare.take());
            for waker in waiting.drain(..) {
                waker.wake();
            }
            self.turn_end.spare.replace(waiting);
            self.run_ready(main);
        }
        Ok(())
    }

    /// Sends out what the last turn asked for (a close, a wake-up), which must not wait for a next turn that may never come.
    fn finish(&self) {
        for doorbell in &*self.doorbells.borrow() {
            doorbell.ring(&self.io);
        }
        // A simulated world that has been halted has nothing to send out.
        let _ = self.io.turn(Wait::No);
    }

    fn call_io(&self, may_sleep: bool) -> Result<(), Stalled> {
        let doorbells = self.doorbells.borrow();
        for doorbell in &*doorbells {
            doorbell.ring(&self.io);
        }
        let mut wait = if may_sleep { self.wait() } else { Wait::No };
        if wait == Wait::No || doorbells.is_empty() {
            return self.io.turn(wait);
        }
        for doorbell in &*doorbells {
            if !doorbell.fall_asleep() {
                wait = Wait::No;
            }
        }
        let turned = self.io.turn(wait);
        for doorbell in &*doorbells {
            doorbell.wake_up();
        }
        turned
    }

    /// Whether a turn now would find something to do.
    fn is_busy(&self, now_ns: u64) -> bool {
        self.wait() == Wait::No
            || self.next_ns().is_some_and(|at_ns| at_ns <= now_ns)
            || self.doorbells.borrow().iter().any(|doorbell| doorbell.has_rung() || doorbell.is_to_ring())
    }

    /// When something happens next on this simulated core.
    fn next_ns(&self) -> Option<u64> {
        let timer = self.timers.borrow().next_ns();
        timer.into_iter().chain(self.io.next_ns()).min()
    }

    fn wait(&self) -> Wait {
        if self.ready.len() > 0 || !self.turn_end.waiting.borrow().is_empty() {
            return Wait::No;
        }
        self.timers.borrow().next_ns().map_or(Wait::Forever, Wait::Until)
    }

    fn run_ready(&self, main: &mut dyn FnMut(&mut Context<'_>)) {
        for _ in 0..TURN_ROUNDS {
            let round = self.ready.len();
            if round == 0 {
                return;
            }
            self.polls.set(self.polls.get() + round as u64);
            for _ in 0..round {
                let Some(number) = self.ready.pop() else { return };
                self.poll(number, main);
            }
        }
    }

    #[inline]
    fn poll(&self, number: u32, main: &mut dyn FnMut(&mut Context<'_>)) {
        let waker = self.ready.waker(number);
        let mut cx = Context::from_waker(&waker);
        if number == MAIN {
            return main(&mut cx);
        }
        // Empty after the task's end: somebody kept its waker.
        let Some(mut task) = self.tasks.borrow_mut().slots[number as usize].take() else { return };
        match task.as_mut().poll(&mut cx) {
            Poll::Pending => self.tasks.borrow_mut().slots[number as usize] = Some(task),
            Poll::Ready(()) => {
                // Dropped before its number is free: its end may start other tasks.
                drop(task);
                self.tasks.borrow_mut().free.push(number);
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ready.remove();
    }
}

/// Marks the time in which tasks may be running.
struct Running<'a>(&'a Cell<bool>);

impl Running<'_> {
    fn start(running: &Cell<bool>) -> Running<'_> {
        assert!(!running.replace(true), "a reactor runs one turn at a time");
        Running(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
