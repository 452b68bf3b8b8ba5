//! A broker from start to end: the stages of [`crate::assembly`], and between them what the catalog says.
//!
//! ```text
//! recover the directory           every partition that it holds, with its records
//! read the catalog                which of them there are to be, and with which settings
//! adopt, create, delete           so that the stores have what the catalog says
//! bind, register, accept          clients may come
//! wait                            for a signal, or for the disk to fail
//! stop                            everything durable, the directory says so
//! ```

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::io::SetupError;
use engine::limits::Limits;
use engine::reactor::Notify;
use engine::recovery::Recovered;
use engine::{PartitionKey, PartitionSeed, PartitionSpec, ReadError, Slot, Store};
use tracing::{error, info, warn};
use wire::Uuid;
use wire::batch::{BatchError, Batches};

use crate::assembly::{self, CorePlan, StartError, StorePlan};
use crate::catalog::{Action, CatalogError, Record, new_topic_id, read_batch};
use crate::config::options::{Durability, Listener, Options};
use crate::connection::admission::Admission;
use crate::controller::{Controller, DecisionError, catalog_config, catalog_key, partition_config, partition_spec};
use crate::data_dir::DataDir;
use crate::features;
use crate::image::{ApplyError, CATALOG_TOPIC, Endpoint, Image};
use crate::limits::{METADATA_RECORDS, PROCESS_BYTES};
use crate::loggers::Loggers;
use crate::services::{ServiceOptions, Services};
use crate::shard::{Shard, ShardOptions};
use crate::signals;
use crate::transaction;

/// Why a broker did not start, or ended without being asked to.
#[derive(Debug)]
pub enum BrokerError {
    /// The cores did not start.
    Cores(StartError),
    /// An address cannot be found out.
    Resolve {
        /// The host of a listener.
        host: String,
        /// What the system says.
        error: io::Error,
    },
    /// Another process listens on a port.
    PortTaken(SocketAddr),
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The data directory cannot be recovered or written.
    Storage(io::Error),
    /// The data directory has partitions and no catalog.
    NoCatalog {
        /// One of the partitions.
        example: String,
    },
    /// The catalog cannot be read.
    Unreadable(ReadError),
    /// The catalog makes no sense.
    Damaged(ReplayError),
    /// The broker could not be registered in the catalog.
    Register(DecisionError),
    /// The file that says that clients may come cannot be written.
    ReadyFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Signals cannot be waited for.
    Signals(io::Error),
    /// A store has failed while the broker ran.
    StoreFailed(String),
}

/// Why the catalog makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayError {
    /// Its bytes are no records.
    Form(CatalogError),
    /// A record contradicts those before it.
    Sense(ApplyError),
    /// Offsets are missing, or a batch's checksum does not match.
    Batch {
        /// The offset that was expected.
        offset: i64,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Form(error) => write!(f, "{error}"),
            ReplayError::Sense(error) => write!(f, "{error}"),
            ReplayError::Batch { offset } => write!(f, "the catalog has no whole batch at offset {offset}"),
        }
    }
}

impl From<CatalogError> for ReplayError {
    fn from(error: CatalogError) -> ReplayError {
        ReplayError::Form(error)
    }
}

impl From<BatchError> for ReplayError {
    fn from(error: BatchError) -> ReplayError {
        ReplayError::Form(CatalogError::Batch(error))
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerError::Cores(error) => write!(f, "{error}"),
            BrokerError::Resolve { host, error } => {
                write!(f, "the listener's host {host} cannot be found: {error}. Use an address of this machine")
            }
            BrokerError::PortTaken(address) => {
                write!(f, "{address} is in use by another process. Stop it, or choose another --listen ADDR:PORT")
            }
            BrokerError::Listen { address, error } => write!(
                f,
                "cannot listen on {address}: {error}. Use an address of this machine, and a port that the user may bind"
            ),
            BrokerError::Storage(error) => write!(f, "the data directory cannot be used: {error}"),
            BrokerError::NoCatalog { example } => write!(
                f,
                "the data directory has partitions ({example}) but no {CATALOG_TOPIC}-0, which says what they are. \
                 Restore that directory from a copy"
            ),
            BrokerError::Unreadable(error) => write!(f, "the catalog ({CATALOG_TOPIC}-0) cannot be read: {error}"),
            BrokerError::Damaged(error) => {
                write!(f, "the catalog ({CATALOG_TOPIC}-0) is damaged: {error}. Restore that directory from a copy")
            }
            BrokerError::Register(error) => write!(f, "the broker cannot register itself: {error}"),
            BrokerError::ReadyFile { path, error } => write!(f, "cannot write {}: {error}", path.display()),
            BrokerError::Signals(error) => write!(f, "signals cannot be waited for: {error}"),
            BrokerError::StoreFailed(cause) => write!(
                f,
                "{cause}. What the disk holds is unknown now, so nothing more is acknowledged. Check the disk, then \
                 start again"
            ),
        }
    }
}

impl std::error::Error for BrokerError {}

impl From<io::Error> for BrokerError {
    fn from(error: io::Error) -> BrokerError {
        BrokerError::Storage(error)
    }
}

impl BrokerError {
    /// The refusal of a ring, if that is what it is.
    #[must_use]
    pub fn ring_refusal(&self) -> Option<&SetupError> {
        match self {
            BrokerError::Cores(StartError::Ring(error)) => Some(error),
            _ => None,
        }
    }
}

/// Runs a broker until it is asked to end, or until its disk fails. `loggers` is what clients may change of its log.
pub fn run(options: &Options, data: &DataDir, loggers: &Arc<Loggers>) -> Result<(), BrokerError> {
    if let Some(path) = &options.ready_file {
        // One that a killed run has left would lie. There is none at most starts.
        let _ = std::fs::remove_file(path);
    }
    let addresses = resolve(&options.listeners)?;
    for address in &addresses {
        check_free(*address)?;
    }
    let shares = Shares::divide(options.memory_bytes, options.cores.len(), options.compacts);
    let image =
        Image::new(&data.identity.cluster_id, options.node_id, options.cores.len(), Arc::new(options.fixed.clone()));
    let limits = &options.limits;
    let cores = CorePlan {
        cpus: options.cores.clone(),
        options: ShardOptions {
            node_id: options.node_id,
            request_max_bytes: limits.request_bytes as usize,
            idle_max_ms: limits.idle_ms,
            fetch_max_bytes: limits.fetch_bytes as usize,
            fetch_sessions: (limits.fetch_sessions as usize).div_ceil(options.cores.len()),
            receive_bytes: shares.receive_bytes,
            unsent_bytes: shares.unsent_bytes,
        },
        admission: Admission::new(image.live().connections.clone()),
        image: Arc::new(image),
    };
    let stores = StorePlan {
        dir: data.path.clone(),
        durability: match options.durability {
            Durability::Disk => engine::Durability::Disk,
            Durability::Os => engine::Durability::Os,
        },
        memory_ahead: true,
        limits: Limits { pool_bytes: shares.pool_bytes, ..Limits::default() },
        retention_check_interval_ms: options.retention_check_interval_ms,
        compaction_bytes: options.compacts.then_some(shares.compaction_bytes),
    };
    let life = async |core0: Shard| live(core0, options, data, loggers, &stores, &addresses).await;
    assembly::run_cores(cores, life).map_err(BrokerError::Cores)?
}

async fn live(
    core0: Shard,
    options: &Options,
    data: &DataDir,
    loggers: &Arc<Loggers>,
    stores: &StorePlan,
    addresses: &[SocketAddr],
) -> Result<(), BrokerError> {
    let services = ServiceOptions {
        topics: options.topics,
        coordinators: options.coordinators,
        described_partitions: options.limits.described_partitions,
        data_dir: data.path.to_string_lossy().into_owned(),
        loggers: loggers.clone(),
    };
    Services::install(&core0, &services).await;
    let asked_to_end = signals::stop(core0.reactor()).map_err(BrokerError::Signals)?;
    let controller = open(&core0, stores, data.identity.directory_id).await?;
    Services::start_coordinators(&core0).await;
    let bound = bind(&core0, addresses).await?;
    register(&controller, &core0, options, &bound).await?;
    transaction::service::start(&core0).await;
    assembly::accept(&core0).await;
    for (listener, address) in options.listeners.iter().zip(&bound) {
        info!("listening on {}://{address}, {}", listener.name, Advertised(listener, *address));
    }
    if let Some(path) = &options.ready_file {
        write_ready_file(path, &options.listeners, &bound)?;
    }
    info!("ready");

    let failure = wait(&core0, asked_to_end).await;
    if let Some(path) = &options.ready_file {
        // Whoever reads it must not find it when nobody listens any more. That it is gone already is fine.
        let _ = std::fs::remove_file(path);
    }
    if let Some(cause) = failure {
        return Err(BrokerError::StoreFailed(cause));
    }
    info!("stopping");
    // A decision under way comes to its end; no other begins.
    let _turn = controller.turn().await;
    assembly::stop(&core0, stores).await?;
    info!("stopped, everything is on disk");
    Ok(())
}

/// Recovers the directory and brings the stores to what the catalog says. The result is the controller, which core 0
/// has from then on; the image has been published.
pub async fn open(core0: &Shard, stores: &StorePlan, directory: Uuid) -> Result<Rc<Controller>, BrokerError> {
    let failed = |core0: Shard, cause: String| Services::of(&core0).fail(cause);
    let recovered = assembly::recover(core0, stores, failed).await?;
    for remark in &recovered.remarks {
        warn!("recovery: {remark}");
    }
    let clean = recovered.clean;
    let (catalog, image) = adopt(core0, stores, recovered).await?;
    let controller = Controller::new(core0.clone(), catalog, directory);
    Services::of(core0).set_controller(controller.clone());
    core0.publish(Arc::new(image)).await;
    let is_new = core0.image().features().is_empty();
    if is_new {
        let features = features::SUPPORTED.iter();
        let actions = features.map(|it| Action::SetFeature { name: it.name.to_owned(), level: it.max }).collect();
        controller.turn().await.carry_out(actions).await.map_err(BrokerError::Register)?;
    }
    if !clean && stores.durability == engine::Durability::Os {
        lead_anew(&controller).await?;
    }
    Ok(controller)
}

/// Adopts what recovery found as the catalog demands: the catalog itself, then every partition, in its owner's store.
async fn adopt(core0: &Shard, stores: &StorePlan, recovered: Recovered) -> Result<(Slot, Image), BrokerError> {
    let Recovered { incarnation, seeds, .. } = recovered;
    let mut found: HashMap<PartitionKey, PartitionSeed> = seeds.into_iter().map(|seed| (seed.key, seed)).collect();
    let before = core0.image().clone();
    let mut catalog = None;
    let mut replayed = Replayed { image: Image::clone(&before), removed: HashSet::new() };
    match found.remove(&catalog_key()) {
        Some(seed) => {
            let slots = assembly::adopt(core0, 0, vec![(seed, catalog_config())]).await?;
            let slot = slots.first().copied().expect("one seed gives one slot");
            replayed = replay(core0.store(), slot, &before).await?;
            catalog = Some(slot);
        }
        // A partition that has records was created by a decision, and those are in the catalog.
        None => {
            if let Some(seed) = found.values().find(|seed| seed.end_offset > 0) {
                return Err(BrokerError::NoCatalog { example: format!("{}-{}", seed.topic, seed.key.partition) });
            }
        }
    }
    let image = &replayed.image;
    let mut wanted: Vec<Vec<(Uuid, i32)>> = vec![Vec::new(); core0.cores()];
    let mut seeds: Vec<Vec<_>> = (0..core0.cores()).map(|_| Vec::new()).collect();
    let mut missing: Vec<(Uuid, i32, usize, PartitionSpec)> = Vec::new();
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            let spec = partition_spec(topic, index);
            let number = i32::try_from(index).unwrap_or(i32::MAX);
            match found.remove(&spec.key) {
                Some(seed) => {
                    wanted[partition.core].push((topic.id, number));
                    seeds[partition.core].push((seed, partition_config(&topic.settings, &topic.id, index)));
                }
                None => missing.push((topic.id, number, partition.core, spec)),
            }
        }
    }
    let orphans: Vec<PartitionSeed> = found.into_values().collect();
    let doomed = adopt_orphans(core0, orphans, &replayed.removed).await?;

    let calls: Vec<_> = seeds
        .into_iter()
        .enumerate()
        .map(|(core, seeds)| {
            let core0 = core0.clone();
            async move { assembly::adopt(&core0, core, seeds).await }
        })
        .collect();
    let mut draft = image.draft();
    for (call, wanted) in calls.into_iter().zip(wanted) {
        for (slot, (topic, partition)) in call.await?.into_iter().zip(wanted) {
            draft.place(&topic, partition, slot).map_err(|error| BrokerError::Damaged(ReplayError::Sense(error)))?;
        }
    }
    assembly::carry(core0, stores, incarnation).await?;

    for slot in doomed {
        core0.store().delete_partition(slot).await?;
    }
    let catalog = match catalog {
        Some(slot) => slot,
        None => {
            let spec = PartitionSpec { key: catalog_key(), topic: CATALOG_TOPIC.to_owned(), config: catalog_config() };
            core0.store().create_partition(spec).await?
        }
    };
    for (topic, partition, core, spec) in missing {
        error!("the records of {}-{partition} are gone from the data directory; it begins empty", spec.topic);
        let created = core0.run_on(core, |shard| async move { shard.store().create_partition(spec).await });
        let slot = created.await?;
        draft.place(&topic, partition, slot).map_err(|error| BrokerError::Damaged(ReplayError::Sense(error)))?;
    }
    Ok((catalog, draft.finish()))
}

/// Adopts, on core 0, partitions that the catalog does not name, so that they can be deleted: those of deleted topics,
/// and those whose creation was cut short and which are therefore empty. Others are left alone, and said.
async fn adopt_orphans(
    core0: &Shard,
    orphans: Vec<PartitionSeed>,
    removed: &HashSet<Uuid>,
) -> Result<Vec<Slot>, BrokerError> {
    let mut doomed = Vec::new();
    for seed in orphans {
        if removed.contains(&Uuid(seed.key.topic_id)) || seed.end_offset == 0 {
            doomed.push((seed, catalog_config()));
        } else {
            warn!("{} belongs to no topic that the catalog knows; it is left alone", seed.dir.display());
        }
    }
    Ok(assembly::adopt(core0, 0, doomed).await?)
}

/// What the catalog says.
struct Replayed {
    image: Image,
    /// Topics that were deleted at any time.
    removed: HashSet<Uuid>,
}

async fn replay(store: &Store, catalog: Slot, before: &Image) -> Result<Replayed, BrokerError> {
    let info = store.info(catalog).ok_or(BrokerError::Unreadable(ReadError::UnknownPartition))?;
    let mut draft = before.draft();
    let mut removed = HashSet::new();
    let mut offset = 0;
    while offset < info.high_watermark {
        let data = store.read_any(catalog, offset).await.map_err(BrokerError::Unreadable)?;
        let expected = offset;
        for slice in &data.slices {
            for batch in Batches::new(slice.as_bytes()) {
                let batch = batch.map_err(|error| BrokerError::Damaged(error.into()))?;
                if batch.base_offset() != offset || !batch.crc_matches() {
                    return Err(BrokerError::Damaged(ReplayError::Batch { offset }));
                }
                let apply = |record: &Record<'_>| {
                    if let Record::RemoveTopic(record) = record {
                        removed.insert(record.topic_id);
                    }
                    draft.apply(record).map_err(ReplayError::Sense)
                };
                read_batch(&batch, apply).map_err(BrokerError::Damaged)?;
                offset = batch.last_offset() + 1;
            }
        }
        if offset == expected {
            return Err(BrokerError::Damaged(ReplayError::Batch { offset }));
        }
    }
    Ok(Replayed { image: draft.finish(), removed })
}

/// Raises every partition's leader epoch. After a stop that was not clean, records that clients have seen may be gone
/// where acknowledgements do not wait for the disk, and others get their offsets: the epoch lets clients notice.
async fn lead_anew(controller: &Rc<Controller>) -> Result<(), BrokerError> {
    let turn = controller.turn().await;
    let mut decisions: Vec<Vec<Action>> = Vec::new();
    let mut room = 0;
    for topic in turn.image().topics() {
        let partitions = topic.partitions.len();
        if decisions.is_empty() || partitions > room {
            decisions.push(Vec::new());
            room = METADATA_RECORDS;
        }
        room = room.saturating_sub(partitions);
        let action = Action::Lead { id: topic.id, partitions: i32::try_from(partitions).unwrap_or(i32::MAX) };
        decisions.last_mut().expect("one was pushed").push(action);
    }
    drop(turn);
    // Nobody else decides at this point: clients have not come yet.
    for actions in decisions {
        controller.turn().await.carry_out(actions).await.map_err(BrokerError::Register)?;
    }
    Ok(())
}

/// Tells the catalog where the broker is reached, if it does not know yet.
async fn register(
    controller: &Rc<Controller>,
    core0: &Shard,
    options: &Options,
    bound: &[SocketAddr],
) -> Result<(), BrokerError> {
    let endpoint = |(listener, address): (&Listener, &SocketAddr)| Endpoint {
        listener: listener.name.clone(),
        host: listener.advertised_host.clone(),
        port: listener.advertised_port.unwrap_or(address.port()),
    };
    let endpoints: Vec<Endpoint> = options.listeners.iter().zip(bound).map(endpoint).collect();
    let turn = controller.turn().await;
    let image = turn.image();
    let known = image.brokers().get(&options.node_id);
    if known.is_some_and(|known| known.endpoints == endpoints && known.rack == options.rack && !known.fenced) {
        return Ok(());
    }
    let incarnation = new_topic_id(|| core0.reactor().random());
    let action = Action::RegisterBroker { endpoints, rack: options.rack.clone(), incarnation };
    turn.carry_out(vec![action]).await.map_err(BrokerError::Register)
}

/// Waits until the broker is to end. A cause means that it must, since a store has failed.
async fn wait(core0: &Shard, asked_to_end: impl Future<Output = ()> + 'static) -> Option<String> {
    let services = Services::of(core0);
    let (asked, ring) = (Rc::new(RefCell::new(false)), services.ending().clone());
    let (told, bell): (_, Notify) = (asked.clone(), ring.clone());
    core0.reactor().spawn(async move {
        asked_to_end.await;
        told.replace(true);
        bell.notify();
    });
    loop {
        if let Some(cause) = services.failure() {
            return Some(cause);
        }
        if *asked.borrow() {
            return None;
        }
        ring.wait().await;
    }
}

async fn bind(core0: &Shard, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, BrokerError> {
    // Which of several addresses it was, the error does not say: it is asked again.
    match assembly::bind(core0, addresses).await {
        Ok(bound) => Ok(bound),
        Err(error) => {
            addresses.iter().try_for_each(|address| check_free(*address))?;
            let address = addresses.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            Err(BrokerError::Listen { address, error })
        }
    }
}

/// How long a port may stay taken before another process is blamed. The kernel closes the sockets of a process that used
/// io_uring some milliseconds after its end, so a broker that is restarted at once meets its own old listener.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
const PORT_POLL: Duration = Duration::from_millis(2);

/// Finds out whether a port is free. The broker's own sockets share theirs with each other, and would with those of
/// another broker of the same user, also with one that is ending: it would take connections that nobody answers.
fn check_free(address: SocketAddr) -> Result<(), BrokerError> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(BrokerError::Listen { address, error });
            }
            Err(_) if Instant::now() > deadline => return Err(BrokerError::PortTaken(address)),
            Err(_) => std::thread::sleep(PORT_POLL),
        }
    }
}

fn resolve(listeners: &[Listener]) -> Result<Vec<SocketAddr>, BrokerError> {
    let resolve = |listener: &Listener| {
        // Every interface, in both families where the machine has both.
        let host = if listener.host.is_empty() { every_interface() } else { listener.host.as_str() };
        let failed = |error| BrokerError::Resolve { host: host.to_owned(), error };
        let mut addresses = (host, listener.port).to_socket_addrs().map_err(failed)?;
        let none = || failed(io::Error::from(io::ErrorKind::NotFound));
        addresses.next().ok_or_else(none)
    };
    listeners.iter().map(resolve).collect()
}

fn every_interface() -> &'static str {
    if Path::new("/proc/net/if_inet6").exists() { "::" } else { "0.0.0.0" }
}

fn write_ready_file(path: &Path, listeners: &[Listener], bound: &[SocketAddr]) -> Result<(), BrokerError> {
    let lines = listeners.iter().zip(bound).map(|(listener, address)| format!("{}://{address}\n", listener.name));
    let text: String = lines.collect();
    // Whole or not there at all, since others wait for it to appear.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| BrokerError::ReadyFile { path: path.to_owned(), error })
}

/// What clients are told, where that is something else than what is bound.
struct Advertised<'a>(&'a Listener, SocketAddr);

impl fmt::Display for Advertised<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Advertised(listener, address) = self;
        let port = listener.advertised_port.unwrap_or(address.port());
        write!(f, "advertised as {}:{port}", listener.advertised_host)
    }
}

/// How the memory cap is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    /// Of each core, for records.
    pool_bytes: usize,
    /// Of each core, for the compaction of logs.
    compaction_bytes: usize,
    /// Of each core, for requests.
    receive_bytes: usize,
    /// Of each core, for answers.
    unsent_bytes: usize,
}

impl Shares {
    /// Most goes to records, which serve every reader; requests and answers pass through. What compaction uses may change
    /// while the broker runs; it is set aside as a whole.
    fn divide(memory_bytes: u64, cores: usize, compacts: bool) -> Shares {
        let of_core = memory_bytes.saturating_sub(PROCESS_BYTES) / cores as u64;
        let part = |eighths: u64| usize::try_from(of_core / 8 * eighths).unwrap_or(usize::MAX);
        let compaction_bytes = if compacts { part(1) / 2 } else { 0 };
        Shares {
            pool_bytes: part(5) - compaction_bytes,
            compaction_bytes,
            receive_bytes: part(2),
            unsent_bytes: part(1),
        }
    }
}

#[cfg(test)]
#[path = "broker_tests.rs"]
pub(crate) mod tests;
