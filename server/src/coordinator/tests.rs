//! The driver on a simulated disk, with a state machine that counts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use engine::Durability;
use engine::io::sim::{Crash, Sim, SimConfig};
use engine::reactor::Notify;
use wire::error::ErrorCode;

use super::*;
use crate::broker::tests::{life, new_disk};
use crate::image::Image;
use crate::shard::Shard;
use crate::state_machine::{Effects, LogRecord, LoggedRecord, Now, ProducerEpoch, ReplayError, StateMachine, Ticket};

/// Sums by name, and requests that wait for a moment.
#[derive(Debug, Default)]
struct Sums {
    sums: BTreeMap<String, i64>,
    waiting: BTreeMap<(i64, Ticket), String>,
    images: usize,
}

impl Sums {
    fn add(&mut self, name: &str, by: i64, ticket: Ticket, effects: &mut Effects<i64>) {
        let sum = self.sums.entry(name.to_owned()).or_default();
        *sum += by;
        let value = Some(sum.to_string().into_bytes());
        effects.write(LogRecord { key: name.as_bytes().to_vec(), value });
        effects.answer(ticket, *sum);
    }
}

impl StateMachine for Sums {
    type Answer = i64;

    fn replay(&mut self, record: LoggedRecord<'_>) -> Result<(), ReplayError> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| ReplayError(error.to_string()));
        let value = text(record.value.unwrap_or_default())?;
        let value = value.parse().map_err(|_| ReplayError("no number".to_owned()))?;
        self.sums.insert(text(record.key)?, value);
        Ok(())
    }

    fn replay_end(&mut self, _: ProducerEpoch, _: bool) {}

    fn loaded(&mut self, _: &Arc<Image>, _: Now, _: &mut Effects<i64>) {}

    fn next_deadline_ms(&self) -> Option<i64> {
        self.waiting.keys().next().map(|(at_ms, _)| *at_ms)
    }

    fn on_deadline(&mut self, now: Now, effects: &mut Effects<i64>) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= now.ms) {
            let ((_, ticket), name) = entry.remove_entry();
            self.add(&name, 1000, ticket, effects);
        }
    }

    fn on_image(&mut self, _: &Arc<Image>, _: Now, _: &mut Effects<i64>) {
        self.images += 1;
    }
}

thread_local! {
    /// The coordinator of each core: the cores of a simulation are one thread.
    static CORES: RefCell<BTreeMap<usize, Rc<Coordinator<Sums>>>> = RefCell::default();
}

async fn start(core0: &Shard) {
    for core in 0..core0.cores() {
        let start = |shard: Shard| {
            let coordinator = Coordinator::new(LogTopic::Offsets, |_| Sums::default());
            coordinator.start(&shard);
            CORES.with_borrow_mut(|cores| cores.insert(shard.core(), coordinator));
            std::future::ready(())
        };
        core0.run_on(core, start).await;
    }
}

/// Asks the coordinator of `name`, once it is loaded.
async fn ask(
    core0: &Shard,
    name: &'static str,
    operation: impl Fn(&mut Sums, Now, Ticket, &mut Effects<i64>) + Send + Copy + 'static,
) -> Result<i64, Unavailable> {
    let image = core0.image().clone();
    let partition = partition_of(name, LogTopic::Offsets, &image).unwrap();
    let core = image.topic("__consumer_offsets").unwrap().partitions[partition as usize].core;
    let run = move |shard: Shard| async move {
        let coordinator = CORES.with_borrow(|cores| cores[&shard.core()].clone());
        loop {
            match coordinator.run(&shard, partition, operation).await {
                Err(Unavailable::Loading) => shard.reactor().sleep_until(shard.reactor().now_ns() + 1_000_000).await,
                outcome => return outcome,
            }
        }
    };
    core0.run_on(core, run).await
}

async fn add(core0: &Shard, name: &'static str, by: i64) -> Result<i64, Unavailable> {
    ask(core0, name, move |sums, _, ticket, effects| sums.add(name, by, ticket, effects)).await
}

const NAMES: [&str; 4] = ["a", "b", "test-group", "polygenelubricants"];

#[test]
fn ids_belong_to_the_partitions_that_kafka_chooses() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, _| {
        assert_eq!(partition_of("any", LogTopic::Offsets, &core0.image()), None);
        ensure(core0, LogTopic::Offsets).await.unwrap();
        // From Java's String.hashCode; the third hashes to the smallest integer, which has no absolute value.
        let ids = [("", 0), ("test-group", 12), ("polygenelubricants", 0), ("gruppe-ä", 48), ("connect-😀", 30)];
        for (id, partition) in ids {
            assert_eq!(partition_of(id, LogTopic::Offsets, &core0.image()), Some(partition), "{id}");
        }
        let topic = core0.image().topic("__consumer_offsets").unwrap().clone();
        assert!(topic.internal && topic.settings.cleanup.compact && topic.partitions.len() == 50);
        assert_eq!(topic.settings.segment_bytes, 104_857_600);
    })
    .expect("the script ends");
}

#[test]
fn what_was_answered_survives_a_crash_at_any_step() {
    let disk = new_disk();
    let answered = Rc::new(RefCell::new(BTreeMap::new()));
    let script = |answered: Rc<RefCell<BTreeMap<&'static str, i64>>>| {
        async move |core0: &Shard, _: &Rc<crate::controller::Controller>| {
            ensure(core0, LogTopic::Offsets).await.unwrap();
            start(core0).await;
            for round in 1..=5 {
                for name in NAMES {
                    match add(core0, name, round).await {
                        Ok(sum) => drop(answered.borrow_mut().insert(name, sum)),
                        // The disk's world has ended.
                        Err(_) => return std::future::pending().await,
                    }
                }
            }
        }
    };
    let whole = Sim::with_image(SimConfig { seed: 5, ..SimConfig::default() }, &disk);
    life(&whole, Durability::Disk, script(answered.clone())).expect("the script ends");
    assert_eq!(answered.borrow().values().copied().collect::<Vec<_>>(), [15; 4]);
    let created = 400;
    assert!(whole.steps() > created + 20, "{} steps", whole.steps());
    for step in (created..whole.steps()).step_by(3) {
        let sim = Sim::with_image(SimConfig { seed: 5, crash_at: Some(step), ..SimConfig::default() }, &disk);
        answered.borrow_mut().clear();
        life(&sim, Durability::Disk, script(answered.clone()));
        let after = Sim::with_image(SimConfig::default(), &sim.crash(Crash::Power, step));
        life(&after, Durability::Disk, async |core0, _| {
            start(core0).await;
            for (name, sum) in answered.take() {
                let found = add(core0, name, 0).await.unwrap();
                // One more may have been written and not answered.
                assert!(found >= sum && found <= sum + 5, "step {step}: {name} is {found}, was told {sum}");
            }
        })
        .expect("the second life ends");
    }
}

#[test]
fn many_requests_share_a_commit_and_are_answered_in_order() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, _| {
        ensure(core0, LogTopic::Offsets).await.unwrap();
        start(core0).await;
        add(core0, "a", 0).await.unwrap();
        let (done, sums) = (Notify::new(), Rc::new(RefCell::new(Vec::new())));
        let began = sim.steps();
        for _ in 0..500 {
            let (core0, done, sums) = (core0.clone(), done.clone(), sums.clone());
            core0.clone().reactor().spawn(async move {
                let sum = add(&core0, "a", 1).await.unwrap();
                sums.borrow_mut().push(sum);
                done.notify();
            });
        }
        while sums.borrow().len() < 500 {
            done.wait().await;
        }
        assert!(sums.borrow().iter().copied().eq(1..=500));
        assert!(sim.steps() - began < 500, "{} steps of the disk", sim.steps() - began);
    })
    .expect("the script ends");
}

#[test]
fn deadlines_are_kept() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, _| {
        ensure(core0, LogTopic::Offsets).await.unwrap();
        start(core0).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let done = Notify::new();
        // The later one is asked for first.
        for (name, wait_ms) in [("a", 2_000), ("b", 500), ("test-group", 1_000)] {
            let (core0, order, done) = (core0.clone(), order.clone(), done.clone());
            core0.clone().reactor().spawn(async move {
                let began_ns = core0.reactor().now_ns();
                let operation = move |sums: &mut Sums, now: Now, ticket, _: &mut Effects<i64>| {
                    sums.waiting.insert((now.ms + wait_ms, ticket), name.to_owned());
                };
                assert_eq!(ask(&core0, name, operation).await, Ok(1000));
                let waited_ms = (core0.reactor().now_ns() - began_ns) / 1_000_000;
                assert!(
                    (wait_ms as u64 - 1..wait_ms as u64 + 100).contains(&waited_ms),
                    "{name} waited {waited_ms} ms"
                );
                order.borrow_mut().push(name);
                done.notify();
            });
        }
        while order.borrow().len() < 3 {
            done.wait().await;
        }
        assert_eq!(*order.borrow(), ["b", "test-group", "a"]);
    })
    .expect("the script ends");
}

#[test]
fn a_change_that_cannot_be_written_is_taken_back() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, _| {
        ensure(core0, LogTopic::Offsets).await.unwrap();
        start(core0).await;
        assert_eq!(add(core0, "a", 7).await, Ok(7));
        let too_large = ask(core0, "a", |sums, _, ticket, effects| {
            sums.add("a", 100, ticket, effects);
            effects.write(LogRecord { key: vec![b'x'; 2 << 20], value: None });
        });
        assert_eq!(too_large.await, Err(Unavailable::TooLarge));
        assert_eq!(add(core0, "a", 1).await, Ok(8));
    })
    .expect("the script ends");
}

#[test]
fn a_deleted_topic_takes_its_state_with_it() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, controller| {
        ensure(core0, LogTopic::Offsets).await.unwrap();
        start(core0).await;
        assert_eq!(add(core0, "a", 7).await, Ok(7));
        let waiting = core0.clone();
        let told = Rc::new(RefCell::new(None));
        let (done, tell) = (Notify::new(), told.clone());
        let rung = done.clone();
        core0.reactor().spawn(async move {
            let operation = |sums: &mut Sums, now: Now, ticket, _: &mut Effects<i64>| {
                sums.waiting.insert((now.ms + 1_000_000, ticket), "a".to_owned());
            };
            tell.replace(Some(ask(&waiting, "a", operation).await));
            rung.notify();
        });
        core0.reactor().sleep_until(core0.reactor().now_ns() + 1_000_000).await;
        let id = core0.image().topic("__consumer_offsets").unwrap().id;
        let delete = vec![crate::catalog::Action::DeleteTopic { id }];
        controller.turn().await.carry_out(delete).await.unwrap();
        done.wait().await;
        assert_eq!(told.take(), Some(Err(Unavailable::NotHere)));
        assert_eq!(Unavailable::NotHere.code(), ErrorCode::NotCoordinator);
        ensure(core0, LogTopic::Offsets).await.unwrap();
        assert_eq!(add(core0, "a", 1).await, Ok(1));
    })
    .expect("the script ends");
}
