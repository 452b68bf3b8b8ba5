//! When commits begin and when they end, in virtual time.

mod common;

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use common::{DIR, Random, batch, config, empty_disk, key, reopen};
use engine::io::Open;
use engine::io::sim::{Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{Appended, Durability, PartitionConfig, PartitionSpec, Slot, Store};
use wire::batch::BatchView;

/// What every operation of the disk takes, in ns.
const DISK_NS: u64 = 1_000_000;

/// A disk and a machine that do one thing at a time, and a store with one partition.
fn with_a_store<T>(durability: Durability, story: impl AsyncFnOnce(Reactor, Store, Slot) -> T) -> T {
    let limits = Limits { second_commit_bytes: 4 << 10, direct_commit_bytes: usize::MAX, ..Limits::tiny() };
    with_a_store_of(DISK_NS, limits, durability, story)
}

/// The same for other limits and a disk whose operations take `disk_ns`.
fn with_a_store_of<T>(
    disk_ns: u64,
    limits: Limits,
    durability: Durability,
    story: impl AsyncFnOnce(Reactor, Store, Slot) -> T,
) -> T {
    let disk = SimConfig { file_ns: (disk_ns, disk_ns), turn_ns: 1_000, ..SimConfig::default() };
    let sim = Sim::with_image(disk, &empty_disk());
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        let (store, _) = reopen(&reactor, Path::new(DIR), durability, &limits).await.unwrap();
        let spec = PartitionSpec { key: key(0), topic: "t".to_owned(), config: config() };
        let slot = store.create_partition(spec).await.unwrap();
        // What the creation leaves to do is done.
        reactor.sleep_until(reactor.now_ns() + 10 * disk_ns).await;
        story(reactor.clone(), store, slot).await
    })
}

fn append(store: &Store, slot: Slot, bytes: usize) -> Appended {
    store.append(slot, &BatchView::parse(&batch(&mut Random(1), 1, bytes)).unwrap(), 0).unwrap()
}

/// When two batches are durable, in ns after the first was appended; the second, of `second_bytes`, comes when the first
/// is half-way to the disk.
fn ends_of_two(second_bytes: usize) -> (u64, u64) {
    with_a_store(Durability::Disk, async |reactor, store, slot| {
        let began_ns = reactor.now_ns();
        let first = append(&store, slot, 100);
        reactor.sleep_until(began_ns + DISK_NS / 2).await;
        let second = append(&store, slot, second_bytes);
        assert_eq!((second.base_offset, second.seq), (1, first.seq + 1));
        store.wait_commit(first.seq).await.unwrap();
        let first_ns = reactor.now_ns() - began_ns;
        store.wait_commit(second.seq).await.unwrap();
        (first_ns, reactor.now_ns() - began_ns)
    })
}

#[test]
fn a_large_commit_begins_beside_the_one_before_it() {
    let (first_ns, second_ns) = ends_of_two(5 << 10);
    assert!((DISK_NS..DISK_NS * 11 / 10).contains(&first_ns), "{first_ns}");
    assert!((DISK_NS * 3 / 2..DISK_NS * 8 / 5).contains(&second_ns), "{second_ns}");
}

#[test]
fn a_small_commit_waits_for_the_one_before_it() {
    let (first_ns, second_ns) = ends_of_two(100);
    assert!((DISK_NS..DISK_NS * 11 / 10).contains(&first_ns), "{first_ns}");
    assert!(second_ns >= 2 * DISK_NS, "{second_ns}");
}

#[test]
fn in_the_class_os_an_append_waits_for_no_sync() {
    with_a_store(Durability::Os, async |reactor, store, slot| {
        let began_ns = reactor.now_ns();
        let carried_ns = Rc::new(Cell::new(None));
        let (clock, carrying, ended) = (reactor.clone(), store.clone(), carried_ns.clone());
        reactor.clone().spawn(async move {
            carrying.carry().await.unwrap();
            ended.set(Some(clock.now_ns()));
        });
        let appended = append(&store, slot, 100);
        store.wait_commit(appended.seq).await.unwrap();
        let committed_ns = reactor.now_ns() - began_ns;
        assert!(committed_ns < DISK_NS / 2 && carried_ns.get().is_none(), "{committed_ns}");
        reactor.sleep_until(began_ns + 3 * DISK_NS).await;
        assert!(carried_ns.get().unwrap() - began_ns >= DISK_NS, "what is carried is on the disk in either class");
    });
}

#[test]
fn a_sync_waits_for_the_one_under_way() {
    with_a_store(Durability::Os, async |reactor, store, _| {
        let began_ns = reactor.now_ns();
        let first = store.clone();
        reactor.clone().spawn(async move { first.carry().await.unwrap() });
        reactor.sleep_until(began_ns + DISK_NS / 2).await;
        // The first may be at work on files that the second does not find any more.
        store.carry().await.unwrap();
        let second_ns = reactor.now_ns() - began_ns;
        assert!(second_ns >= 2 * DISK_NS, "{second_ns}");
    });
}

#[test]
fn in_the_class_os_appends_slow_down_before_the_journal_is_full() {
    let limits =
        Limits { journal_file_bytes: 1 << 20, pool_bytes: 16 << 20, direct_commit_bytes: usize::MAX, ..Limits::tiny() };
    let disk_ns = DISK_NS / 100;
    // Of what a checkpoint moves at least: 256 groups of one batch each, a chunk at a time.
    let checkpoint_ns = 256 * 1_000 / limits.chunk_bytes as u64 * disk_ns;
    with_a_store_of(disk_ns, limits, Durability::Os, async |reactor, store, slot| {
        let mut longest_ns = 0;
        // Many times what the journal holds. That none is refused is what `append` asks for.
        for _ in 0..10_000 {
            let began_ns = reactor.now_ns();
            let appended = append(&store, slot, 1_000);
            store.wait_commit(appended.seq).await.unwrap();
            longest_ns = longest_ns.max(reactor.now_ns() - began_ns);
        }
        assert!(longest_ns < checkpoint_ns, "one waited {longest_ns} ns, a whole checkpoint takes {checkpoint_ns}");
    });
}

/// What the first commit holds is more than one chunk, and no checkpoint comes in between.
#[test]
fn a_stream_that_begins_with_requests_in_flight_goes_straight_to_its_segment() {
    let limits = Limits { journal_file_bytes: 1 << 20, ..Limits::tiny() };
    let first_bytes = 2 * limits.chunk_bytes;
    with_a_store_of(DISK_NS, limits, Durability::Disk, async |reactor, store, slot| {
        store.set_config(slot, PartitionConfig { segment_bytes: 1 << 20, ..config() });
        for bytes in [first_bytes, 2 * 7_000] {
            let mut newest = append(&store, slot, 7_000);
            for _ in (7_000..bytes).step_by(7_000) {
                newest = append(&store, slot, 7_000);
            }
            store.wait_commit(newest.seq).await.unwrap();
        }
        let segment = Path::new(DIR).join("t-0/00000000000000000000.log");
        let file = reactor.open(&segment, Open::default()).await.expect("the second commit has written it");
        assert!(reactor.file_len(&file).await.unwrap() >= first_bytes as u64);
    });
}
