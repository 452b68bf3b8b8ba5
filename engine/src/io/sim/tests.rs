//! Faults and crashes of the simulated world.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use bytes::BytesMut;

use super::disk::SECTOR_BYTES;
use super::{Call, Crash, Image, Sim, SimConfig};
use crate::io::tests::{LOCAL, NEW, NEW_DIRECT, echo, head, pattern, poll_once, receive, slice, writer};
use crate::io::{Open, Stalled};
use crate::limits::BLOCK_BYTES;
use crate::mailbox::mesh;
use crate::reactor::Reactor;

const WRITE: Open = Open { direct: false, create: true, create_new: false, write: true };
/// Enough for every choice that a crash makes to show at least once.
const SEEDS: std::ops::Range<u64> = 0..200;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// Runs `main` in a world, and returns the world as it is then.
fn world(config: SimConfig, main: impl AsyncFn(Reactor)) -> Sim {
    world_with(config, &Image::default(), main)
}

fn world_with(config: SimConfig, image: &Image, main: impl AsyncFn(Reactor)) -> Sim {
    let sim = Sim::with_image(config, image);
    let r = Reactor::new(sim.io());
    match r.try_block_on(main(r.clone())) {
        Ok(()) | Err(Stalled::Halted) => {}
        Err(Stalled::Deadlock) => panic!("deadlock"),
    }
    r.drop_tasks();
    sim
}

/// The contents of a file after a power cut, for many seeds. `None`: the file is gone.
fn after_power_cuts(sim: &Sim, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    SEEDS.map(|seed| sim.crash(Crash::Power, seed).read(path(name)).map(<[u8]>::to_vec)).collect()
}

/// A workload with files, sockets, timers and random numbers.
async fn busy(r: Reactor) {
    let listener = r.listen(LOCAL, false).unwrap();
    let addr = listener.local_addr();
    for i in 0..5_u64 {
        let r2 = r.clone();
        r.spawn(async move {
            r2.sleep_until(r2.random() % 1_000_000).await;
            let file = r2.open(path(&format!("f{i}")), NEW).await.unwrap();
            for round in 0..5 {
                r2.write_at(&file, round * 1000, slice(&pattern(round as usize, 1000))).await.unwrap();
                r2.fdatasync(&file).await.unwrap();
            }
            let socket = r2.connect(addr).await.unwrap();
            r2.send(&socket, head(&pattern(0, 5000))).await.0.unwrap();
            receive(&r2, &socket, 5000).await;
        });
    }
    for _ in 0..5 {
        let (socket, _) = r.accept(&listener).await.unwrap();
        r.spawn(echo(r.clone(), socket));
    }
    while r.live_tasks() > 0 {
        r.end_of_turn().await;
    }
}

#[test]
fn the_seed_determines_the_schedule() {
    let run = |seed| {
        let config = SimConfig { seed, stall: 50_000, short_transfer: 100_000, ..SimConfig::default() };
        let sim = world(config, busy);
        (sim.schedule_hash(), sim.steps(), sim.now_ns(), sim.crash(Crash::Power, 1))
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    let hashes: BTreeSet<u64> = (0..20).map(|seed| run(seed).0).collect();
    assert_eq!(hashes.len(), 20, "another seed is another schedule");
}

#[test]
fn what_is_synced_survives_and_the_rest_is_kept_lost_or_torn() {
    let (old, new) = (vec![1; 4 * SECTOR_BYTES], vec![2; 4 * SECTOR_BYTES]);
    let sim = world(SimConfig::default(), async |r| {
        let file = r.open(path("f"), NEW).await.unwrap();
        r.write_at(&file, 0, slice(&old)).await.unwrap();
        r.fdatasync(&file).await.unwrap();
        r.sync_dir(path("/")).await.unwrap();
        r.write_at(&file, 0, slice(&new)).await.unwrap();
    });
    let found = after_power_cuts(&sim, "f");
    assert!(found.contains(&Some(old.clone())) && found.contains(&Some(new.clone())));
    let mut torn = 0;
    for bytes in &found {
        let bytes = bytes.as_ref().expect("the name is durable");
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector == &old[..SECTOR_BYTES] || sector == &new[..SECTOR_BYTES], "sectors are written whole");
        }
        torn += usize::from(bytes != &old && bytes != &new);
    }
    assert_eq!(torn, 14, "every mixture of old and new sectors is possible");
    // A killed process loses nothing that it has written.
    assert_eq!(sim.crash(Crash::Process, 0).read(path("f")).unwrap(), new);
}

#[test]
fn a_sync_covers_what_had_completed_when_it_began() {
    let bytes = vec![9; SECTOR_BYTES];
    for seed in 0..50 {
        let sim = world(SimConfig { seed, ..SimConfig::default() }, async |r| {
            let file = r.open(path("f"), NEW).await.unwrap();
            r.sync_dir(path("/")).await.unwrap();
            let (r2, file2, bytes2) = (r.clone(), file.clone(), bytes.clone());
            let done = Rc::new(Cell::new(false));
            let done2 = done.clone();
            r.spawn(async move {
                r2.write_at(&file2, 0, slice(&bytes2)).await.unwrap();
                done2.set(true);
            });
            // Begins while the write is in flight, and may end after it.
            r.fdatasync(&file).await.unwrap();
            while !done.get() {
                r.end_of_turn().await;
            }
        });
        assert!(after_power_cuts(&sim, "f").contains(&Some(Vec::new())), "the write may be lost");
    }
}

#[test]
fn a_write_in_flight_may_be_there_after_a_crash() {
    let sim = Sim::new(SimConfig::default());
    let r = Reactor::new(sim.io());
    r.block_on(async {
        let file = r.open(path("f"), NEW).await.unwrap();
        r.sync_dir(path("/")).await.unwrap();
        assert!(poll_once(r.write_at(&file, 0, slice(&[5; 2 * SECTOR_BYTES]))).await.is_none());
        let found = after_power_cuts(&sim, "f");
        assert!(found.contains(&Some(Vec::new())) && found.contains(&Some(vec![5; 2 * SECTOR_BYTES])), "{found:?}");
        let killed: BTreeSet<usize> =
            SEEDS.map(|s| sim.crash(Crash::Process, s).read(path("f")).unwrap().len()).collect();
        assert!(killed.contains(&0) && killed.contains(&(2 * SECTOR_BYTES)));
    });
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let mut lost_once = false;
    for seed in 0..50 {
        let sim = Sim::new(SimConfig { seed, ..SimConfig::default() });
        let r = Reactor::new(sim.io());
        r.block_on(async {
            let file = r.open(path("f"), NEW).await.unwrap();
            r.sync_dir(path("/")).await.unwrap();
            r.write_at(&file, 0, slice(b"gone?")).await.unwrap();
            sim.fail_next(Call::Sync, path("/f"), libc::EIO);
            assert_eq!(r.fdatasync(&file).await.unwrap_err().raw_os_error(), Some(libc::EIO));
            r.fdatasync(&file).await.unwrap();
            let (read, w) = r.read_at(&file, 0, writer(), 5).await;
            assert_eq!((read.unwrap(), w.slice(0, 5).as_bytes()), (5, &b"gone?"[..]), "reads see it all the same");
        });
        let found = after_power_cuts(&sim, "f");
        assert_eq!(found.len(), 1, "the disk has decided: {found:?}");
        lost_once |= found.contains(&Some(Vec::new()));
    }
    assert!(lost_once);
}

#[test]
fn names_that_are_not_synced_may_be_lost_and_come_back() {
    let exists = |sim: &Sim, name: &str| -> BTreeSet<bool> {
        SEEDS.map(|seed| sim.crash(Crash::Power, seed).read(path(name)).is_some()).collect()
    };
    let both = BTreeSet::from([false, true]);
    let sim = world(SimConfig::default(), async |r| {
        let file = r.open(path("d"), NEW).await.unwrap();
        r.fsync(&file).await.unwrap();
    });
    assert_eq!(exists(&sim, "d"), both, "a synced file has no durable name without a sync of its directory");

    let sim = world(SimConfig::default(), async |r| {
        r.open(path("d"), NEW).await.unwrap();
        r.sync_dir(path("/")).await.unwrap();
        r.remove_file(path("d")).await.unwrap();
    });
    assert_eq!(exists(&sim, "d"), both, "a removed file may come back");

    let sim = world(SimConfig::default(), async |r| {
        let old = r.open(path("old"), NEW).await.unwrap();
        let new = r.open(path("new"), NEW).await.unwrap();
        r.write_at(&old, 0, slice(b"old")).await.unwrap();
        r.write_at(&new, 0, slice(b"new")).await.unwrap();
        r.fsync(&old).await.unwrap();
        r.fsync(&new).await.unwrap();
        r.sync_dir(path("/")).await.unwrap();
        r.rename(path("new"), path("old")).await.unwrap();
    });
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let image = sim.crash(Crash::Power, seed);
        let files: Vec<_> = image.files().into_iter().map(|(p, b)| (p.display().to_string(), b.to_vec())).collect();
        seen.insert(files);
    }
    let before = vec![("new".to_owned(), b"new".to_vec()), ("old".to_owned(), b"old".to_vec())];
    let after = vec![("old".to_owned(), b"new".to_vec())];
    assert_eq!(seen, BTreeSet::from([before, after]), "a rename is whole or has not happened");

    // Of a file that goes to another directory nothing is seen at both places, or at neither.
    let sim = world(SimConfig::default(), async |r| {
        r.create_dir(path("a")).await.unwrap();
        r.create_dir(path("b")).await.unwrap();
        r.open(path("a/f"), NEW).await.unwrap();
        r.sync_dir(path("a")).await.unwrap();
        r.sync_dir(path("/")).await.unwrap();
        r.rename(path("a/f"), path("b/f")).await.unwrap();
        r.rename(path("b/f"), path("a/g")).await.unwrap();
        r.rename(path("a/g"), path("b/g")).await.unwrap();
    });
    let found: BTreeSet<Vec<String>> = SEEDS
        .map(|seed| sim.crash(Crash::Power, seed).files().into_iter().map(|(p, _)| p.display().to_string()).collect())
        .collect();
    assert_eq!(found, ["a/f", "a/g", "b/f", "b/g"].map(|name| vec![name.to_owned()]).into());

    // A directory whose own name is not durable takes its files with it.
    let sim = world(SimConfig::default(), async |r| {
        r.create_dir(path("t")).await.unwrap();
        r.open(path("t/f"), NEW).await.unwrap();
        r.sync_dir(path("t")).await.unwrap();
    });
    assert_eq!(exists(&sim, "t/f"), both);
}

#[test]
fn a_length_that_is_not_synced_may_be_lost() {
    let sim = world(SimConfig::default(), async |r| {
        let file = r.open(path("f"), NEW).await.unwrap();
        r.write_at(&file, 0, slice(&[1; 100])).await.unwrap();
        r.fdatasync(&file).await.unwrap();
        r.sync_dir(path("/")).await.unwrap();
        r.allocate(&file, 10_000).await.unwrap();
        r.write_at(&file, 100, slice(&[2; 5000])).await.unwrap();
    });
    let found = after_power_cuts(&sim, "f");
    let lengths: BTreeSet<usize> = found.iter().map(|bytes| bytes.as_ref().unwrap().len()).collect();
    assert!(lengths.contains(&100) && lengths.contains(&10_000), "{lengths:?}");
    assert!(lengths.iter().any(|len| (101..10_000).contains(len)));
    for bytes in found.iter().flatten() {
        assert_eq!(bytes[..100], [1; 100], "what was synced is whole");
        assert!(bytes[100..].iter().all(|&b| b == 0 || b == 2));
    }
    // A cut that is not synced may not have happened.
    let image = sim.crash(Crash::Process, 0);
    let sim = world_with(SimConfig::default(), &image, async |r| {
        let file = r.open(path("f"), WRITE).await.unwrap();
        r.truncate(&file, 10).await.unwrap();
    });
    let lengths: BTreeSet<usize> = after_power_cuts(&sim, "f").iter().flatten().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([10, 10_000]));
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    let block = BLOCK_BYTES as u64;
    let sim = Sim::new(SimConfig { capacity_bytes: Some(4 * block), ..SimConfig::default() });
    let r = Reactor::new(sim.io());
    r.block_on(async {
        let a = r.open(path("a"), NEW).await.unwrap();
        let b = r.open(path("b"), NEW).await.unwrap();
        r.allocate(&a, 2 * block).await.unwrap();
        assert_eq!(r.allocate(&b, 3 * block).await.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(r.file_len(&b).await.unwrap(), 0);
        // What fits is written.
        assert_eq!(
            r.write_at(&b, 0, slice(&pattern(0, 3 * BLOCK_BYTES))).await.unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        assert_eq!(r.file_len(&b).await.unwrap(), 2 * block);
        assert_eq!(r.write_now(&b, 2 * block, &slice(b"x")).unwrap_err().kind(), ErrorKind::StorageFull);
        r.write_at(&a, 0, slice(&pattern(0, 2 * BLOCK_BYTES))).await.unwrap();
        // A removed file gives its room back when it is closed, a cut one at once.
        r.remove_file(path("a")).await.unwrap();
        assert!(r.write_at(&b, 2 * block, slice(b"x")).await.is_err());
        drop(a);
        r.write_at(&b, 2 * block, slice(b"x")).await.unwrap();
        r.truncate(&b, 10).await.unwrap();
        r.allocate(&b, 4 * block).await.unwrap();
        assert!(r.allocate(&b, 5 * block).await.is_err());
        sim.change(|config| config.capacity_bytes = Some(5 * block));
        r.allocate(&b, 5 * block).await.unwrap();
    });
}

#[test]
fn failures_come_where_they_were_ordered() {
    let sim = Sim::new(SimConfig::default());
    let r = Reactor::new(sim.io());
    r.block_on(async {
        let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        let file = r.open(path("/d"), NEW).await.unwrap();
        let other = r.open(path("/e"), NEW).await.unwrap();
        for call in [Call::Write, Call::Read, Call::Sync, Call::Allocate, Call::Truncate, Call::Open] {
            sim.fail_next(call, path("d"), libc::EIO);
        }
        r.write_at(&other, 0, slice(b"x")).await.unwrap();
        assert_eq!(errno(r.write_at(&file, 0, slice(b"x")).await), Some(libc::EIO));
        r.write_at(&file, 0, slice(b"x")).await.unwrap();
        assert_eq!(errno(r.read_at(&file, 0, writer(), 1).await.0.map(|_| ())), Some(libc::EIO));
        assert_eq!(errno(r.fdatasync(&file).await), Some(libc::EIO));
        assert_eq!(errno(r.allocate(&file, 1).await), Some(libc::EIO));
        assert_eq!(errno(r.truncate(&file, 1).await), Some(libc::EIO));
        assert_eq!(errno(r.open(path("d"), WRITE).await.map(|_| ())), Some(libc::EIO));
        sim.fail_next(Call::Rename, path("d"), libc::EACCES);
        sim.fail_next(Call::SyncDir, path("/"), libc::EIO);
        sim.fail_next(Call::CreateDir, path("x"), libc::ENOSPC);
        sim.fail_next(Call::Remove, path("d"), libc::EBUSY);
        assert_eq!(errno(r.rename(path("d"), path("f")).await), Some(libc::EACCES));
        assert_eq!(errno(r.sync_dir(path("/")).await), Some(libc::EIO));
        assert_eq!(errno(r.create_dir(path("x")).await), Some(libc::ENOSPC));
        assert_eq!(errno(r.remove_file(path("d")).await), Some(libc::EBUSY));
        r.remove_file(path("d")).await.unwrap();
    });
}

#[test]
fn random_errors_come_at_their_rate() {
    let always = |f: fn(&mut SimConfig)| {
        let mut config = SimConfig::default();
        f(&mut config);
        config
    };
    let image = {
        let mut image = Image::default();
        image.write(path("f"), b"contents".to_vec());
        image
    };
    let eio = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
    world_with(always(|c| c.write_error = 1_000_000), &image, async |r| {
        let file = r.open(path("f"), WRITE).await.unwrap();
        eio(r.write_at(&file, 0, slice(b"x")).await);
        eio(r.write_now(&file, 0, &slice(b"x")));
    });
    world_with(always(|c| c.read_error = 1_000_000), &image, async |r| {
        let file = r.open(path("f"), WRITE).await.unwrap();
        eio(r.read_at(&file, 0, writer(), 1).await.0.map(|_| ()));
    });
    world_with(always(|c| c.sync_error = 1_000_000), &image, async |r| {
        let file = r.open(path("f"), WRITE).await.unwrap();
        eio(r.fdatasync(&file).await);
        eio(r.sync_dir(path("/")).await);
    });
    world_with(always(|c| c.has_allocate = false), &image, async |r| {
        let file = r.open(path("f"), WRITE).await.unwrap();
        assert_eq!(r.allocate(&file, 10).await.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    });
    world_with(always(|c| c.has_direct = false), &image, async |r| {
        let refused = r.open(path("g"), NEW_DIRECT).await.unwrap_err();
        assert!(refused.get_ref().unwrap().is::<crate::io::DirectRefused>());
    });
    let stalled = world(always(|c| c.stall = 1_000_000), async |r| drop(r.open(path("f"), NEW).await.unwrap()));
    assert!(stalled.now_ns() >= SimConfig::default().stall_ns);
}

#[test]
fn a_misdirected_write_says_nothing() {
    let mut elsewhere = 0;
    for seed in 0..50 {
        let config = SimConfig { seed, misdirected_write: 1_000_000, ..SimConfig::default() };
        let sim = world(config, async |r| {
            let file = r.open(path("f"), NEW).await.unwrap();
            r.allocate(&file, 8 * BLOCK_BYTES as u64).await.unwrap();
            r.write_at(&file, 0, slice(&[7; BLOCK_BYTES])).await.unwrap();
        });
        let image = sim.crash(Crash::Process, 0);
        let bytes = image.read(path("f")).unwrap();
        assert_eq!(bytes.iter().filter(|&&b| b == 7).count(), BLOCK_BYTES);
        elsewhere += usize::from(bytes[0] != 7);
    }
    assert!(elsewhere > 0);
}

#[test]
fn a_world_halts_at_every_step() {
    let scenario = async |r: Reactor| {
        let file = r.open(path("f"), NEW).await.unwrap();
        r.sync_dir(path("/")).await.unwrap();
        for i in 0..3 {
            r.write_at(&file, i * 512, slice(&[i as u8 + 1; 512])).await.unwrap();
            r.fdatasync(&file).await.unwrap();
        }
        r.write_now(&file, 0, &slice(&[9; 512])).unwrap_or_default();
        r.fsync(&file).await.unwrap();
    };
    let whole = world(SimConfig::default(), scenario);
    assert_eq!(whole.steps(), 10);
    for step in 0..10 {
        let sim = world(SimConfig { crash_at: Some(step), ..SimConfig::default() }, scenario);
        assert!(sim.is_halted());
        assert_eq!(sim.steps(), step);
        for seed in SEEDS {
            let image = sim.crash(Crash::Power, seed);
            let synced = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3][step as usize];
            let Some(bytes) = image.read(path("f")) else {
                assert!(step < 2);
                continue;
            };
            for i in 0..synced {
                let part = &bytes[i * 512..(i + 1) * 512];
                assert!(
                    part == [i as u8 + 1; 512] || (i == 0 && step == 9 && part == [9; 512]),
                    "step {step}: {part:?}"
                );
            }
        }
    }
    let sim = world(SimConfig { crash_at: Some(10), ..SimConfig::default() }, scenario);
    assert!(!sim.is_halted());
}

#[test]
fn a_new_world_goes_on_from_an_image() {
    let sim = world(SimConfig::default(), async |r| {
        r.create_dir(path("/data")).await.unwrap();
        let file = r.open(path("/data/log"), NEW_DIRECT).await.unwrap();
        r.write_at(&file, 0, slice(&pattern(0, BLOCK_BYTES))).await.unwrap();
    });
    let mut image = sim.crash(Crash::Process, 0);
    assert_eq!(image.files(), [(path("data/log").to_owned(), &pattern(0, BLOCK_BYTES)[..])]);
    image.write(path("/data/more/x"), b"made up".to_vec());
    assert_eq!(image.read(path("data/more/x")), Some(&b"made up"[..]));
    assert_eq!((image.read(path("data")), image.read(path("data/log/x")), image.read(path("no"))), (None, None, None));
    world_with(SimConfig::default(), &image, async |r| {
        let names: Vec<_> = r.list_dir(path("/data")).unwrap().into_iter().map(|e| (e.name, e.is_dir)).collect();
        assert_eq!(names, [("log".into(), false), ("more".into(), true)]);
        let file = r.open(path("/data/log"), Open::default()).await.unwrap();
        let (read, w) = r.read_at(&file, 0, writer(), 2 * BLOCK_BYTES).await;
        assert_eq!(read.unwrap(), BLOCK_BYTES);
        assert_eq!(w.slice(0, BLOCK_BYTES).as_bytes(), pattern(0, BLOCK_BYTES));
    });
}

#[test]
fn connections_break_where_the_seed_says() {
    let mut broken = 0;
    for seed in 0..50 {
        let sim = Sim::new(SimConfig { seed, reset: 20_000, ..SimConfig::default() });
        let r = Reactor::new(sim.io());
        broken += usize::from(r.block_on(async {
            let listener = r.listen(LOCAL, false).unwrap();
            let client = r.connect(listener.local_addr()).await.unwrap();
            let (server, _) = r.accept(&listener).await.unwrap();
            r.spawn(echo(r.clone(), server));
            for _ in 0..10 {
                if let (Err(e), _) = r.send(&client, head(&pattern(0, 1000))).await {
                    assert!(matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{e}");
                    return true;
                }
                let mut got = 0;
                while got < 1000 {
                    match r.recv(&client, BytesMut::with_capacity(1000)).await.0 {
                        Ok(0) => return true,
                        Ok(n) => got += n,
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::ConnectionReset);
                            return true;
                        }
                    }
                }
            }
            false
        }));
        r.drop_tasks();
    }
    assert!((5..50).contains(&broken), "{broken} of 50");
}

#[test]
fn time_passes_by_itself_and_only_when_nothing_else_is_to_do() {
    let sim = Sim::new(SimConfig::default());
    let r = Reactor::new(sim.io());
    let order = Rc::new(RefCell::new(Vec::new()));
    const HOUR: u64 = 3_600_000_000_000;
    let unix_ms = r.unix_ms();
    r.block_on(async {
        for (name, at) in [("c", 2 * HOUR), ("a", HOUR), ("b", HOUR)] {
            let (r2, order) = (r.clone(), order.clone());
            r.spawn(async move {
                r2.sleep_until(at).await;
                assert!(r2.now_ns() >= at && r2.now_ns() < at + 1_000_000, "{}", r2.now_ns());
                order.borrow_mut().push(name);
            });
        }
        // A wait that is given up leaves nothing behind.
        assert!(poll_once(r.sleep_until(HOUR / 2)).await.is_none());
        r.sleep_until(3 * HOUR).await;
    });
    assert_eq!(*order.borrow(), ["a", "b", "c"]);
    assert_eq!((r.unix_ms() - unix_ms) / 1000, 3 * 3600);
    let deadlock = r.try_block_on(std::future::pending::<()>());
    assert_eq!(deadlock, Err(Stalled::Deadlock));
}

#[test]
fn cores_of_one_world_share_a_disk_a_network_and_mailboxes() {
    let run = |seed| {
        let sim = Sim::new(SimConfig { seed, ..SimConfig::default() });
        let cores: Vec<_> = (0..3).map(|_| Reactor::new(sim.io())).collect();
        let mut boxes: Vec<_> = mesh::<u64>(3, 4).into_iter().zip(&cores).map(|(end, r)| end.bind(r)).collect();
        let first = boxes.remove(0);
        // The other cores send back what they are sent, plus their number, after a write and an echo over TCP.
        let listener = cores[0].listen(LOCAL, false).unwrap();
        let addr = listener.local_addr();
        for (r, mailbox) in cores[1..].iter().cloned().zip(boxes) {
            r.clone().spawn(async move {
                let socket = r.connect(addr).await.unwrap();
                let file = r.open(path(&mailbox.core().to_string()), NEW).await.unwrap();
                loop {
                    mailbox.ready().await;
                    while let Some((from, n)) = mailbox.recv() {
                        r.write_at(&file, n * 512, slice(&[n as u8; 512])).await.unwrap();
                        r.send(&socket, head(b"ping")).await.0.unwrap();
                        assert_eq!(receive(&r, &socket, 4).await, b"ping");
                        let mut message = n + mailbox.core() as u64;
                        while let Err(back) = mailbox.send(from, message) {
                            message = back;
                            mailbox.room(from).await;
                        }
                    }
                }
            });
        }
        let r = &cores[0];
        let got = Reactor::block_on_cores(&cores, async {
            for _ in 0..2 {
                let (socket, _) = r.accept(&listener).await.unwrap();
                r.spawn(echo(r.clone(), socket));
            }
            let mut got = Vec::new();
            let mut sent = [0; 2];
            while got.len() < 40 {
                for to in 1..3 {
                    while sent[to - 1] < 20 && first.send(to, sent[to - 1]).is_ok() {
                        sent[to - 1] += 1;
                    }
                }
                first.ready().await;
                while let Some(mail) = first.recv() {
                    got.push(mail);
                }
            }
            got
        })
        .unwrap();
        for core in 1..3 {
            let of_core: Vec<u64> = got.iter().filter(|(from, _)| *from == core).map(|&(_, n)| n).collect();
            assert_eq!(of_core, (0..20).map(|n| n + core as u64).collect::<Vec<_>>());
        }
        cores.iter().for_each(Reactor::drop_tasks);
        (sim.schedule_hash(), got)
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(1), run(2));
}
