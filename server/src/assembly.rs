//! How a broker comes up and goes down: the stages, in terms of shards. What is decided between the stages (which
//! partitions there are, and their configurations) is the business of whoever calls them.
//!
//! ```text
//! run_cores     one thread, reactor and shard per core; on core 0 then:
//!   recover     journals of earlier runs → segments; a store on each core
//!   adopt       each partition to its owner core
//!   carry       every core's journal speaks for its partitions; the earlier journals go
//!   listen      on each core; clients may come
//!   …
//!   stop        no new requests; answers leave; stores closed, marker written
//! ```

use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;

use engine::io::{Io, SetupError};
use engine::limits::Limits;
use engine::mailbox::{self, MailboxEnd};
use engine::reactor::{Notify, Reactor};
use engine::recovery::{self, Recovered};
use engine::{CompactionOptions, Durability, PartitionConfig, PartitionSeed, Slot, Store, StoreOptions};

use tracing::warn;

use crate::config::live::CompactionSettings;
use crate::connection::admission::Admission;
use crate::image::Image;
use crate::limits::MAILBOX_MESSAGES;
use crate::router::CoreMsg;
use crate::shard::{Shard, ShardOptions};

/// What the cores are made of.
#[derive(Debug, Clone)]
pub struct CorePlan {
    /// The CPU of each core's thread.
    pub cpus: Vec<usize>,
    /// See [`ShardOptions`].
    pub options: ShardOptions,
    /// Who may connect.
    pub admission: Arc<Admission>,
    /// The metadata before there is any.
    pub image: Arc<Image>,
}

/// Where the records are, and what is promised of them.
#[derive(Debug, Clone)]
pub struct StorePlan {
    /// The data directory, which exists and is locked by this process.
    pub dir: PathBuf,
    /// The class of acknowledgements.
    pub durability: Durability,
    /// A thread beside each core touches memory before it is needed ([`StoreOptions::memory_ahead`]).
    pub memory_ahead: bool,
    /// The bounds of each core's store.
    pub limits: Limits,
    /// How often segments are looked at for retention, in milliseconds.
    pub retention_check_interval_ms: u64,
    /// Memory of each core for the compaction of logs, in bytes; none when they are not compacted.
    pub compaction_bytes: Option<usize>,
}

/// Why the cores did not start.
#[derive(Debug)]
pub enum StartError {
    /// A core's ring could not be set up.
    Ring(SetupError),
    /// A thread could not be started.
    Thread(io::Error),
    /// A thread could not be bound to its CPU.
    Pin(usize),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Ring(error) => error.fmt(f),
            StartError::Thread(error) => write!(f, "a core's thread cannot be started: {error}"),
            StartError::Pin(cpu) => {
                write!(f, "no thread can be bound to CPU {cpu}: it does not exist, or is not allowed")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Starts a thread for each core, runs `main` on core 0 (the calling thread), and ends all when it is done.
pub fn run_cores<T, F, Fut>(plan: CorePlan, main: F) -> Result<T, StartError>
where
    F: FnOnce(Shard) -> Fut,
    Fut: Future<Output = T>,
{
    let mut ends = mailbox::mesh::<CoreMsg>(plan.cpus.len(), MAILBOX_MESSAGES).into_iter();
    let first = ends.next().expect("there is at least one core");
    let mut threads = Vec::new();
    let (report, reports) = mpsc::channel();
    for (core, end) in (1..).zip(ends) {
        let (plan, report) = (plan.clone(), report.clone());
        let thread = thread::Builder::new().name(format!("weir-core-{core}")).spawn(move || {
            let shard = match start_core(&plan, core, end) {
                Ok(shard) => shard,
                Err(error) => return drop(report.send(Err(error))),
            };
            // Core 0 waits for the report before it goes on, so it is there.
            let _ = report.send(Ok(()));
            shard.reactor().block_on(shard.0.ended.wait());
            shard.reactor().drop_tasks();
        });
        threads.push(thread.map_err(StartError::Thread)?);
    }
    for _ in &threads {
        reports.recv().expect("each thread reports once")?;
    }
    let shard = start_core(&plan, 0, first)?;
    let reactor = shard.reactor().clone();
    let output = reactor.block_on(async {
        let output = main(shard.clone()).await;
        let ends: Vec<_> =
            (1..shard.cores()).map(|core| shard.run_on(core, |shard| async move { shard.0.ended.notify() })).collect();
        for end in ends {
            end.await;
        }
        output
    });
    for thread in threads {
        // A panic of a core has been reported by its own thread.
        let _ = thread.join();
    }
    reactor.drop_tasks();
    Ok(output)
}

/// The reactor and the share of the calling thread's core.
fn start_core(plan: &CorePlan, core: usize, end: MailboxEnd<CoreMsg>) -> Result<Shard, StartError> {
    let cpu = plan.cpus[core];
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        return Err(StartError::Pin(cpu));
    }
    let reactor = Reactor::new(Io::ring().map_err(StartError::Ring)?);
    let mailbox = end.bind(&reactor);
    let shard = Shard::new(reactor, mailbox, plan.image.clone(), plan.admission.clone(), plan.options.clone());
    shard.start();
    Ok(shard)
}

/// Recovers the data directory and opens a store on each core. `on_failure` runs on core 0 when a store has failed: what
/// its disk holds is unknown then, nothing is acknowledged any more, and the process should stop.
pub async fn recover(
    core0: &Shard,
    plan: &StorePlan,
    on_failure: impl Fn(Shard, String) + Clone + Send + 'static,
) -> io::Result<Recovered> {
    let found = recovery::recover(core0.reactor(), &plan.dir, &plan.limits).await?;
    let opened: Vec<_> = (0..core0.cores())
        .map(|core| {
            let options = StoreOptions {
                dir: plan.dir.clone(),
                core: core as u16,
                incarnation: found.incarnation,
                durability: plan.durability,
                memory_ahead: plan.memory_ahead,
                limits: plan.limits.clone(),
            };
            let (interval_ms, compaction_bytes) = (plan.retention_check_interval_ms, plan.compaction_bytes);
            let on_failure = on_failure.clone();
            core0.run_on(core, move |shard| open_store(shard, options, interval_ms, compaction_bytes, on_failure))
        })
        .collect();
    for opened in opened {
        opened.await?;
    }
    Ok(found)
}

async fn open_store(
    shard: Shard,
    options: StoreOptions,
    retention_check_interval_ms: u64,
    compaction_bytes: Option<usize>,
    on_failure: impl Fn(Shard, String) + Clone + Send + 'static,
) -> io::Result<()> {
    let store = Store::open(shard.reactor().clone(), options).await?;
    follow_settings(&shard, &store, compaction_bytes);
    let fail = move |shard: Shard, cause: String| {
        if shard.0.stopping.get() {
            // A store that is being closed refuses work as a failed one does.
            return;
        }
        let on_failure = on_failure.clone();
        // The result is of no interest; the call has left when this returns.
        drop(shard.run_on(0, move |core0| async move { on_failure(core0, cause) }));
    };
    let (running, failing, failed) = (store.clone(), shard.clone(), fail.clone());
    shard.reactor().spawn(async move { failed(failing, running.run().await.to_string()) });
    let (running, failing, failed) = (store.clone(), shard.clone(), fail.clone());
    shard.reactor().spawn(async move { failed(failing, running.run_checkpoints().await.to_string()) });
    if compaction_bytes.is_some() {
        let (running, failing, failed) = (store.clone(), shard.clone(), fail.clone());
        let report = |remark: String| warn!("compaction: {remark}");
        shard.reactor().spawn(async move {
            failed(failing, running.run_compaction(report).await.to_string());
        });
    }
    let (running, failing) = (store.clone(), shard.clone());
    shard.reactor().spawn(async move {
        fail(failing, running.run_retention(retention_check_interval_ms).await.to_string());
    });
    shard.set_store(store);
    Ok(())
}

/// Gives the store the settings that are in force, now and whenever there is another image.
fn follow_settings(shard: &Shard, store: &Store, compaction_bytes: Option<usize>) {
    let changed = Notify::new();
    shard.watch_image(changed.clone());
    apply_settings(shard, store, compaction_bytes);
    let (following, store) = (shard.clone(), store.clone());
    shard.reactor().spawn(async move {
        loop {
            changed.wait().await;
            apply_settings(&following, &store, compaction_bytes);
        }
    });
}

fn apply_settings(shard: &Shard, store: &Store, compaction_bytes: Option<usize>) {
    let image = shard.image();
    let live = image.live();
    store.set_producer_expiration(i64::try_from(live.producer_expiration_ms).unwrap_or(i64::MAX));
    if let Some(bytes) = compaction_bytes {
        store.set_compaction(compaction_options(&live.compaction, shard.cores(), bytes));
    }
}

/// A core's share of what the operator says of compaction, within its memory in bytes.
fn compaction_options(settings: &CompactionSettings, cores: usize, bytes: usize) -> CompactionOptions {
    let share = |bytes: u64| usize::try_from(bytes / cores as u64).unwrap_or(usize::MAX);
    // Small pieces would cost more than they save.
    let io_bytes = share(settings.io_bytes).min(bytes / 4).max(128 << 10);
    CompactionOptions {
        map_bytes: share(settings.map_bytes).min(bytes.saturating_sub(io_bytes)),
        // A map that is full is searched for ever, and one that takes nothing never ends.
        load_factor: settings.load_factor.clamp(0.05, 0.95),
        io_bytes,
        // Kafka takes what is not positive too, and stands still; a byte in a second is as good.
        max_bytes_per_second: (settings.bytes_per_second / cores as f64).max(1.0),
        backoff_ms: settings.backoff_ms,
    }
}

/// Gives a core partitions of an earlier run, and returns their slots in the same order.
pub async fn adopt(core0: &Shard, core: usize, found: Vec<(PartitionSeed, PartitionConfig)>) -> io::Result<Vec<Slot>> {
    let adopted = core0.run_on(core, |shard| async move {
        let mut slots = Vec::with_capacity(found.len());
        for (seed, config) in found {
            slots.push(shard.store().adopt(seed, config).await?);
        }
        Ok(slots)
    });
    adopted.await
}

/// Makes every core's journal speak for its partitions, and discards the journals of earlier runs. After that
/// partitions may be used.
pub async fn carry(core0: &Shard, plan: &StorePlan, incarnation: u64) -> io::Result<()> {
    let carried: Vec<_> =
        (0..core0.cores()).map(|core| core0.run_on(core, |shard| async move { shard.store().carry().await })).collect();
    for carried in carried {
        carried.await?;
    }
    recovery::discard_journals_before(core0.reactor(), &plan.dir, incarnation).await
}

/// Listens on each address on each core, and accepts. Port 0 takes a free one. Returns the addresses bound.
pub async fn listen(core0: &Shard, addresses: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    let bound = bind(core0, addresses).await?;
    accept(core0).await;
    Ok(bound)
}

/// Binds each address on each core. All are bound before the first connection is accepted, so that a port which is taken
/// is found out in time, and what clients are told of is known before they come.
pub async fn bind(core0: &Shard, addresses: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    let mut bound = Vec::new();
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = core0.listen(*address)?;
        bound.push(listener.local_addr());
        listeners.push(listener);
    }
    for core in 1..core0.cores() {
        let addresses = bound.clone();
        let listening = core0.run_on(core, move |shard| {
            ready(addresses.iter().try_for_each(|address| shard.listen(*address).map(|listener| shard.hold(listener))))
        });
        listening.await?;
    }
    listeners.into_iter().for_each(|listener| core0.hold(listener));
    Ok(bound)
}

/// Accepts the connections of all that was bound.
pub async fn accept(core0: &Shard) {
    for core in 0..core0.cores() {
        core0.run_on(core, |shard| async move { shard.accept_held() }).await;
    }
}

/// Stops cleanly: no new requests; what has begun is answered, for a while; everything is made durable, and the
/// directory says so.
pub async fn stop(core0: &Shard, plan: &StorePlan) -> io::Result<()> {
    let stopped: Vec<_> = (0..core0.cores()).map(|core| core0.run_on(core, Shard::finish_connections)).collect();
    for stopped in stopped {
        stopped.await;
    }
    let closed: Vec<_> =
        (0..core0.cores()).map(|core| core0.run_on(core, |shard| async move { shard.store().close().await })).collect();
    for closed in closed {
        closed.await?;
    }
    recovery::mark_clean(core0.reactor(), &plan.dir).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compaction_stays_within_its_memory() {
        let settings = |map_bytes, io_bytes| CompactionSettings {
            map_bytes,
            load_factor: 2.0,
            io_bytes,
            bytes_per_second: -1.0,
            backoff_ms: 5,
        };
        let (mib, memory) = (1 << 20, 16 << 20);
        for (map_bytes, io_bytes, expected) in [
            (4 << 20, 2 << 20, (2 * mib, mib)),
            (1 << 40, 2 << 20, (15 * mib, mib)),
            (1 << 40, 1 << 40, (12 * mib, 4 * mib)),
            (1 << 40, 0, (memory - (128 << 10), 128 << 10)),
        ] {
            let options = compaction_options(&settings(map_bytes, io_bytes), 2, memory);
            assert_eq!((options.map_bytes, options.io_bytes), expected, "{map_bytes} {io_bytes}");
            assert_eq!((options.load_factor, options.max_bytes_per_second, options.backoff_ms), (0.95, 1.0, 5));
        }
    }
}
