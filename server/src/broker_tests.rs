//! The controller on a simulated disk: decisions take effect as a whole or not at all, whenever the power fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use engine::io::sim::{Call, Crash, Image as Disk, Sim, SimConfig};
use engine::mailbox;
use engine::reactor::Reactor;
use wire::batch::{BatchBuilder, BatchView, NewRecord};
use wire::compression::Codec;
use wire::error::ErrorCode;

use super::*;
use crate::catalog::ConfigTarget;
use crate::config::coordinators::CoordinatorOptions;
use crate::config::live::LiveSettings;
use crate::config::options::TopicOptions;
use crate::config::topic::Configs;
use crate::limits::MAILBOX_MESSAGES;
use crate::loggers::{Level, Loggers};

const CORES: usize = 2;
const DIRECTORY: Uuid = Uuid([9; 16]);

/// Runs `script` against a broker that has been opened. None when the world ended first.
pub(crate) fn life<T>(
    sim: &Sim,
    durability: engine::Durability,
    script: impl AsyncFnOnce(&Shard, &Rc<Controller>) -> T,
) -> Option<T> {
    let before = Arc::new(Image::new("test", 1, CORES, Arc::new(Configs::new())));
    let admission = Admission::new(LiveSettings::default().connections);
    let options = ShardOptions {
        node_id: 1,
        request_max_bytes: 1 << 20,
        idle_max_ms: None,
        fetch_max_bytes: 1 << 20,
        fetch_sessions: 1,
        receive_bytes: 1 << 20,
        unsent_bytes: 1 << 20,
    };
    let start = |end: mailbox::MailboxEnd<_>| {
        let reactor = Reactor::new(sim.io());
        let mailbox = end.bind(&reactor);
        let shard = Shard::new(reactor, mailbox, before.clone(), admission.clone(), options.clone());
        shard.start();
        shard
    };
    let shards: Vec<Shard> = mailbox::mesh(CORES, MAILBOX_MESSAGES).into_iter().map(start).collect();
    let reactors: Vec<Reactor> = shards.iter().map(|shard| shard.reactor().clone()).collect();
    let stores = StorePlan {
        dir: PathBuf::from("data"),
        durability,
        memory_ahead: false,
        limits: Limits::tiny(),
        retention_check_interval_ms: 1_000_000,
        compaction_bytes: None,
    };
    let services = ServiceOptions {
        topics: TopicOptions { auto_create: true, may_delete: true, num_partitions: 1, replication_factor: 1 },
        coordinators: CoordinatorOptions::default(),
        described_partitions: 10,
        data_dir: "data".to_owned(),
        loggers: Loggers::new(Level::Info, drop),
    };
    let output = Reactor::block_on_cores(&reactors, async {
        Services::install(&shards[0], &services).await;
        match open(&shards[0], &stores, DIRECTORY).await {
            Ok(controller) => script(&shards[0], &controller).await,
            Err(_) if sim.is_halted() => std::future::pending().await,
            Err(error) => panic!("{durability:?}: {error}"),
        }
    });
    reactors.iter().for_each(Reactor::drop_tasks);
    output.ok()
}

pub(crate) fn new_disk() -> Disk {
    let sim = Sim::new(SimConfig::default());
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        reactor.create_dir(Path::new("data")).await.unwrap();
        reactor.sync_dir(Path::new("")).await.unwrap();
    });
    sim.crash(Crash::Power, 0)
}

/// Everything that has been decided, without what differs between runs.
#[derive(Debug, Clone, Default, PartialEq)]
struct Summary {
    topics: BTreeMap<String, (Uuid, usize, Configs)>,
    defaults: Configs,
    own: Configs,
    groups: BTreeMap<String, Configs>,
    next_producer_id: i64,
    features: BTreeMap<String, i16>,
}

impl Summary {
    fn of(image: &Image) -> Summary {
        let topic =
            |it: &Arc<crate::image::Topic>| (it.name.to_string(), (it.id, it.partitions.len(), it.configs.clone()));
        Summary {
            topics: image.topics().map(topic).collect(),
            defaults: image.layers().dynamic_default.clone(),
            own: image.layers().dynamic_broker.clone(),
            groups: image.configured_groups().clone(),
            next_producer_id: image.next_producer_id(),
            features: image.features().clone(),
        }
    }

    /// After actions that are about to be carried out.
    fn after(image: &Image, actions: &[Action]) -> Summary {
        let mut records = Vec::new();
        actions.iter().for_each(|action| action.records(1, DIRECTORY, &mut records));
        let mut draft = image.draft();
        records.iter().for_each(|record| draft.apply(record).unwrap());
        Summary::of(&draft.finish())
    }
}

fn create(name: &str, n: u8, partitions: i32) -> Action {
    let configs = Configs::from([("retention.ms".to_owned(), "-1".to_owned())]);
    Action::CreateTopic { name: name.to_owned(), id: Uuid([n; 16]), partitions, configs }
}

/// Decisions of every kind, some of them together.
fn decisions() -> Vec<Vec<Action>> {
    let id = |n| Uuid([n; 16]);
    let set = |target, key: &str, value: Option<&str>| Action::SetConfigs {
        target,
        changes: vec![(key.to_owned(), value.map(str::to_owned))],
    };
    vec![
        vec![create("a", 1, 3)],
        vec![create("b", 2, 2), create("c", 3, 1)],
        vec![Action::AddPartitions { id: id(1), from: 3, to: 5 }],
        vec![set(ConfigTarget::Topic("a".to_owned()), "segment.ms", Some("5"))],
        vec![Action::DeleteTopic { id: id(2) }, Action::DeleteTopic { id: id(3) }],
        vec![create("b", 4, 1)],
        vec![Action::ReserveProducerIds { next: 1000 }],
        vec![set(ConfigTarget::AllBrokers, "log.segment.bytes", Some("2000000"))],
        vec![Action::DeleteTopic { id: id(4) }, create("d", 5, 2)],
        vec![set(ConfigTarget::Group("g".to_owned()), "consumer.session.timeout.ms", Some("50000"))],
        vec![set(ConfigTarget::Broker("1".to_owned()), "max.connections", Some("5"))],
    ]
}

/// What the operator knows of a life.
#[derive(Debug, Clone, Default)]
struct Known {
    /// What was decided, as far as it was said.
    decided: Summary,
    /// What was being decided.
    attempted: Option<Summary>,
    /// Records of a-0 that were acknowledged.
    written: i64,
}

async fn script(core0: &Shard, controller: &Rc<Controller>, known: &RefCell<Known>) {
    known.borrow_mut().decided = Summary::of(&core0.image());
    for actions in decisions() {
        let turn = controller.turn().await;
        known.borrow_mut().attempted = Some(Summary::after(&turn.image(), &actions));
        if turn.carry_out(actions).await.is_err() {
            // The world has ended for the disk; there is nothing to wait for.
            return std::future::pending().await;
        }
        {
            let mut known = known.borrow_mut();
            known.decided = known.attempted.take().unwrap();
            assert_eq!(known.decided, Summary::of(&core0.image()));
        }
        if let Some(end) = write(core0).await {
            known.borrow_mut().written = end;
        }
    }
}

/// Writes one record to a-0 and waits for it. The result is the offset behind it.
async fn write(core0: &Shard) -> Option<i64> {
    let place = core0.image().topic("a").unwrap().partitions[0].clone();
    let written = core0.run_on(place.core, move |shard| async move {
        let mut batch = Vec::new();
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(&NewRecord { timestamp: 1, value: Some(b"value"), ..NewRecord::default() }).unwrap();
        builder.finish(&mut batch).unwrap();
        let Ok(appended) = shard.store().append(place.slot, &BatchView::parse(&batch).unwrap(), 0) else { return None };
        shard.store().wait_commit(appended.seq).await.ok().map(|()| appended.last_offset + 1)
    });
    written.await
}

/// Checks that stores and directory hold what the image says, no more and no less.
async fn check_stores(core0: &Shard, context: &str) {
    let image = core0.image().clone();
    let mut expected = BTreeSet::from(["__cluster_metadata-0".to_owned(), "journal".to_owned()]);
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            expected.insert(format!("{}-{index}", topic.name));
            let slot = partition.slot;
            let known = core0.run_on(partition.core, move |shard| std::future::ready(shard.store().info(slot)));
            assert!(known.await.is_some(), "{context}: {}-{index} is in no store", topic.name);
        }
    }
    let found = core0.reactor().list_dir(Path::new("data")).unwrap();
    let found: BTreeSet<String> = found.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
    assert!(found.is_superset(&expected), "{context}: {found:?} lacks some of {expected:?}");
    for left in found.difference(&expected) {
        // A partition whose creation was cut short before it had an identity: recovery says so and leaves it alone.
        let files = core0.reactor().list_dir(&Path::new("data").join(left)).unwrap();
        let is_log = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".log");
        assert!(!files.iter().any(|file| is_log(&file.name)), "{context}: {left} has records and no topic");
    }
}

/// Opens what a crash has left, and compares it with what was known.
fn verify(disk: &Disk, durability: engine::Durability, known: &Known, context: &str) {
    let sim = Sim::with_image(SimConfig { seed: 77, ..SimConfig::default() }, disk);
    let checked = life(&sim, durability, async |core0, controller| {
        let mut found = Summary::of(&core0.image());
        if known.decided == Summary::default() {
            // The first start had not ended.
            found.features.clear();
        }
        let as_decided = found == known.decided;
        let as_attempted = known.attempted.as_ref() == Some(&found);
        assert!(as_decided || as_attempted, "{context}: found {found:?}, known {known:?}");
        check_stores(core0, context).await;
        let a = core0.image().topic("a").cloned();
        if let Some(topic) = a {
            let slot = topic.partitions[0].slot;
            let info =
                core0.run_on(topic.partitions[0].core, move |shard| std::future::ready(shard.store().info(slot)));
            assert!(info.await.unwrap().high_watermark >= known.written, "{context}: records of a-0 are gone");
        }
        // It goes on from there.
        controller.turn().await.carry_out(vec![create("after", 99, 2)]).await.unwrap();
        check_stores(core0, context).await;
    });
    assert!(checked.is_some(), "{context}: the second life did not end");
}

fn crash_everywhere(durability: engine::Durability, crash: Crash, seed: u64) {
    let disk = new_disk();
    let whole = Sim::with_image(SimConfig { seed, ..SimConfig::default() }, &disk);
    // Without syncs, records may be lost with the power; decisions may not.
    let records_last = (durability, crash) != (engine::Durability::Os, Crash::Power);
    let promised = |known: &RefCell<Known>| {
        let known = known.borrow().clone();
        Known { written: if records_last { known.written } else { 0 }, ..known }
    };
    let known = RefCell::default();
    assert!(life(&whole, durability, async |core0, controller| script(core0, controller, &known).await).is_some());
    let steps = whole.steps();
    assert!(steps > 100, "the script has only {steps} steps");
    verify(&whole.crash(crash, 0), durability, &promised(&known), "after the whole script");
    for step in 0..steps {
        let context = format!("{durability:?}, {crash:?}, seed {seed}, step {step} of {steps}");
        let sim = Sim::with_image(SimConfig { seed, crash_at: Some(step), ..SimConfig::default() }, &disk);
        let known = RefCell::default();
        life(&sim, durability, async |core0, controller| script(core0, controller, &known).await);
        assert!(sim.is_halted(), "{context}: did not crash");
        verify(&sim.crash(crash, step), durability, &promised(&known), &context);
    }
}

#[test]
fn a_decision_takes_effect_whole_or_not_at_all_when_the_power_fails() {
    for seed in 1..=3 {
        crash_everywhere(engine::Durability::Disk, Crash::Power, seed);
    }
    // Decisions are on the disk in this class as well.
    crash_everywhere(engine::Durability::Os, Crash::Power, 4);
}

#[test]
fn a_decision_survives_the_end_of_the_process() {
    crash_everywhere(engine::Durability::Disk, Crash::Process, 11);
    crash_everywhere(engine::Durability::Os, Crash::Process, 12);
}

#[test]
fn a_partition_that_cannot_be_created_leaves_nothing() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, engine::Durability::Disk, async |core0, controller| {
        controller.turn().await.carry_out(vec![create("a", 1, 1)]).await.unwrap();
        let before = core0.image().clone();
        sim.fail_next(Call::CreateDir, Path::new("data/b-2"), 28);
        let error = controller.turn().await.carry_out(vec![create("b", 2, 4)]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::KafkaStorageError);
        assert!(Arc::ptr_eq(&before, &core0.image()), "nothing was published");
        check_stores(core0, "after the failure").await;
        controller.turn().await.carry_out(vec![create("b", 3, 4)]).await.unwrap();
        check_stores(core0, "after the second try").await;
    })
    .expect("the script ends");
}

#[test]
fn decisions_wait_for_each_other_and_go_on_without_who_asked() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, engine::Durability::Disk, async |core0, controller| {
        let first = controller.turn().await;
        let (reactor, waiting) = (core0.reactor().clone(), controller.clone());
        let order = Rc::new(RefCell::new(Vec::new()));
        let (noted, done) = (order.clone(), Notify::new());
        let rung = done.clone();
        reactor.spawn(async move {
            let turn = waiting.turn().await;
            noted.borrow_mut().push(turn.image().topic("a").is_some());
            turn.carry_out(vec![create("b", 2, 1)]).await.unwrap();
            rung.notify();
        });
        reactor.end_of_turn().await;
        assert!(order.borrow().is_empty(), "the first turn is not over");
        // Whoever asked is gone before the decision is made.
        let asked = first.carry_out(vec![create("a", 1, 1)]);
        let mut asked = Box::pin(asked);
        std::future::poll_fn(|context| {
            assert!(asked.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(asked);
        done.wait().await;
        assert_eq!(*order.borrow(), [true], "the second turn begins with what the first has left");
        assert!(core0.image().topic("a").is_some() && core0.image().topic("b").is_some());
    })
    .expect("the script ends");
}

#[test]
fn a_stop_that_is_not_clean_raises_leader_epochs_where_acknowledgements_do_not_wait_for_the_disk() {
    for (durability, epoch) in [(engine::Durability::Disk, 0), (engine::Durability::Os, 1)] {
        let sim = Sim::with_image(SimConfig::default(), &new_disk());
        life(&sim, durability, async |_, controller| {
            controller.turn().await.carry_out(vec![create("a", 1, 2)]).await.unwrap();
        })
        .expect("the script ends");
        let after = Sim::with_image(SimConfig::default(), &sim.crash(Crash::Process, 1));
        life(&after, durability, async |core0, _| {
            let image = core0.image().clone();
            let epochs = image.topic("a").unwrap().partitions.iter().map(|partition| partition.leader_epoch);
            assert!(epochs.eq([epoch; 2]), "{durability:?}");
        })
        .expect("the script ends");
    }
}

#[test]
fn records_without_a_catalog_are_not_guessed_at() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, engine::Durability::Disk, async |core0, controller| {
        controller.turn().await.carry_out(vec![create("a", 1, 1)]).await.unwrap();
        assert_eq!(write(core0).await, Some(1));
    })
    .expect("the script ends");
    let disk = sim.crash(Crash::Process, 1);
    let sim = Sim::with_image(SimConfig::default(), &disk);
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        let (from, to) = (Path::new("data/__cluster_metadata-0"), Path::new("data/elsewhere"));
        reactor.rename(from, to).await.unwrap();
        reactor.sync_dir(Path::new("data")).await.unwrap();
    });
    let sim = Sim::with_image(SimConfig::default(), &sim.crash(Crash::Power, 0));
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        life(&sim, engine::Durability::Disk, async |_, _| ());
    }));
    let message = opened.unwrap_err().downcast::<String>().expect("a panic with a sentence");
    assert!(message.contains("partitions (a-0) but no __cluster_metadata-0"), "{message}");
}

#[test]
fn memory_is_divided_without_a_rest_that_matters() {
    for compacts in [true, false] {
        let shares = Shares::divide(1 << 30, 4, compacts);
        let of_core = shares.pool_bytes + shares.compaction_bytes + shares.receive_bytes + shares.unsent_bytes;
        assert!(of_core * 4 <= (1 << 30) - PROCESS_BYTES as usize && of_core * 4 > 900 << 20, "{shares:?}");
        assert!(shares.pool_bytes > shares.receive_bytes && shares.receive_bytes > shares.unsent_bytes);
        assert_eq!(shares.compaction_bytes > 0, compacts);
    }
}

#[test]
fn a_port_that_is_taken_is_found_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert!(matches!(check_free(address), Err(BrokerError::PortTaken(found)) if found == address));
    drop(taken);
    assert!(check_free(address).is_ok());
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 9092));
    assert!(matches!(check_free(elsewhere), Err(BrokerError::Listen { .. })));
}
