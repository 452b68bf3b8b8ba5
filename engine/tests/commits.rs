//! When commits begin and when they end, in virtual time.

mod common;

use std::path::Path;

use common::{DIR, Random, batch, config, empty_disk, key, reopen};
use engine::io::sim::{Sim, SimConfig};
use engine::limits::Limits;
use engine::reactor::Reactor;
use engine::{Durability, PartitionSpec};
use wire::batch::BatchView;

/// What every operation of the disk takes, in ns.
const DISK_NS: u64 = 1_000_000;

/// When two batches are durable, in ns after the first was appended; the second, of `second_bytes`, comes when the first
/// is half-way to the disk.
fn ends_of_two(second_bytes: usize) -> (u64, u64) {
    let disk = SimConfig { file_ns: (DISK_NS, DISK_NS), turn_ns: 1_000, ..SimConfig::default() };
    let sim = Sim::with_image(disk, &empty_disk());
    let reactor = Reactor::new(sim.io());
    reactor.block_on(async {
        let limits = Limits { second_commit_bytes: 4 << 10, direct_commit_bytes: usize::MAX, ..Limits::tiny() };
        let (store, _) = reopen(&reactor, Path::new(DIR), Durability::Disk, &limits).await.unwrap();
        let spec = PartitionSpec { key: key(0), topic: "t".to_owned(), config: config() };
        let slot = store.create_partition(spec).await.unwrap();
        // What the creation leaves to do is done.
        reactor.sleep_until(reactor.now_ns() + 10 * DISK_NS).await;

        let began_ns = reactor.now_ns();
        let append =
            |bytes| store.append(slot, &BatchView::parse(&batch(&mut Random(1), 1, bytes)).unwrap(), 0).unwrap();
        let first = append(100);
        reactor.sleep_until(began_ns + DISK_NS / 2).await;
        let second = append(second_bytes);
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
