//! The order in which tasks run.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::{Notify, Reactor};
use crate::io::sim::{Sim, SimConfig};
use crate::io::{Io, Stalled};
use crate::limits::TURN_ROUNDS;

fn reactor() -> Reactor {
    Reactor::new(Sim::new(SimConfig::default()).io())
}

type Log = Rc<RefCell<Vec<&'static str>>>;

#[test]
fn tasks_run_in_the_order_of_their_wakes() {
    let r = reactor();
    let log = Log::default();
    for name in ["a", "b", "c"] {
        let (log, r2) = (log.clone(), r.clone());
        r.spawn(async move {
            log.borrow_mut().push(name);
            let log2 = log.clone();
            r2.spawn(async move { log2.borrow_mut().push("child") });
            r2.end_of_turn().await;
            log.borrow_mut().push(name);
        });
    }
    assert_eq!(r.live_tasks(), 3);
    r.run();
    assert_eq!(*log.borrow(), ["a", "b", "c", "child", "child", "child", "a", "b", "c"]);
    assert_eq!(r.live_tasks(), 0);
}

#[test]
fn the_end_of_a_turn_comes_after_everything_that_was_ready() {
    let r = reactor();
    let log = Log::default();
    let notify = Notify::new();
    r.block_on(async {
        // A chain of wake-ups, begun by a task that runs after the one that waits for the end.
        let (log2, r2) = (log.clone(), r.clone());
        r.spawn(async move {
            r2.end_of_turn().await;
            log2.borrow_mut().push("end");
            r2.end_of_turn().await;
            log2.borrow_mut().push("next end");
        });
        let (log2, notify2) = (log.clone(), notify.clone());
        r.spawn(async move {
            notify2.wait().await;
            log2.borrow_mut().push("notified");
        });
        let (log2, r2) = (log.clone(), r.clone());
        r.spawn(async move {
            log2.borrow_mut().push("notifies");
            notify.notify();
            let turns = r2.stats().turns;
            r2.end_of_turn().await;
            assert_eq!(r2.stats().turns, turns, "the end of this turn");
            r2.end_of_turn().await;
            assert_eq!(r2.stats().turns, turns + 1, "the end of the next");
            assert_eq!(r2.stats().io.waits, 0, "without sleeping in between");
        });
        while r.live_tasks() > 0 {
            r.end_of_turn().await;
        }
    });
    assert_eq!(*log.borrow(), ["notifies", "notified", "end", "next end"]);
}

#[test]
fn two_tasks_that_wake_each_other_do_not_keep_the_core() {
    let r = reactor();
    let (ping, pong) = (Notify::new(), Notify::new());
    let count = Rc::new(Cell::new(0));
    for (mine, other) in [(ping.clone(), pong.clone()), (pong, ping.clone())] {
        let count = count.clone();
        r.spawn(async move {
            loop {
                mine.wait().await;
                count.set(count.get() + 1);
                other.notify();
            }
        });
    }
    ping.notify();
    r.block_on(async {
        r.sleep_until(1_000_000).await;
    });
    assert!(count.get() > 0 && count.get() <= r.stats().turns as usize * 2 * TURN_ROUNDS);
    r.drop_tasks();
    assert_eq!(r.live_tasks(), 0);
}

#[test]
fn a_notification_is_remembered_once_and_never_lost() {
    let r = reactor();
    r.block_on(async {
        let event = Notify::new();
        event.notify();
        event.notify();
        event.wait().await;
        let woken = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (event, woken) = (event.clone(), woken.clone());
            r.spawn(async move {
                event.wait().await;
                woken.set(woken.get() + 1);
            });
        }
        r.end_of_turn().await;
        assert_eq!(woken.get(), 0, "two notifications without a waiter are one");
        event.notify();
        r.end_of_turn().await;
        assert_eq!(woken.get(), 3, "a notification wakes all who wait");
        // A waiter that is woken and dropped before it runs passes the notification on.
        let mut wait = Box::pin(event.wait());
        poll_fn(|cx| {
            assert!(wait.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        event.notify();
        drop(wait);
        event.wait().await;
        // One that is dropped before leaves nothing.
        let mut wait = Box::pin(event.wait());
        poll_fn(|cx| {
            assert!(wait.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(wait);
        assert_eq!(format!("{event:?}"), "Notify { remembered: false, waiting: 0 }");
    });
}

#[test]
fn a_waker_of_an_ended_task_wakes_nobody_wrongly() {
    let r = reactor();
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let kept2 = kept.clone();
    r.spawn(poll_fn(move |cx| {
        *kept2.borrow_mut() = Some(cx.waker().clone());
        Poll::Ready(())
    }));
    r.run();
    kept.borrow().as_ref().unwrap().wake_by_ref();
    r.block_on(r.end_of_turn());
    // The number is used again; the old waker only causes a poll more.
    let polls = Rc::new(Cell::new(0));
    let (polls2, r2) = (polls.clone(), r.clone());
    r.spawn(async move {
        r2.sleep_until(r2.now_ns() + 1_000_000).await;
        polls2.set(polls2.get() + 1);
    });
    kept.borrow().as_ref().unwrap().wake_by_ref();
    r.run();
    assert_eq!(polls.get(), 1);
}

#[test]
fn tasks_are_dropped_with_what_they_hold() {
    let r = reactor();
    let token = Rc::new(());
    for _ in 0..3 {
        let (token, r2) = (token.clone(), r.clone());
        r.spawn(async move {
            r2.sleep_until(u64::MAX).await;
            drop(token);
        });
    }
    assert_eq!(r.try_block_on(r.sleep_until(1)), Ok(()));
    assert_eq!(Rc::strong_count(&token), 4);
    r.drop_tasks();
    assert_eq!(Rc::strong_count(&token), 1);
    assert_eq!(r.try_block_on(std::future::pending::<()>()), Err(Stalled::Deadlock), "their timers are gone as well");
    r.spawn(async move { drop(token) });
    r.run();
}

#[test]
fn random_numbers_follow_the_seed() {
    let numbers = |seed| {
        let r = Reactor::new(Sim::new(SimConfig { seed, ..SimConfig::default() }).io());
        (0..10).map(|_| r.random()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(1), numbers(1));
    assert_ne!(numbers(1), numbers(2));
}

#[test]
fn clocks_of_a_ring_go_on() {
    let r = Reactor::new(Io::ring().expect("tests need io_uring"));
    let (ns, ms) = (r.now_ns(), r.unix_ms());
    assert!(ms > 1_700_000_000_000);
    r.block_on(async {
        r.sleep_until(ns + 3_000_000).await;
        assert!(r.now_ns() >= ns + 3_000_000);
    });
    assert!(r.stats().io.waits > 0, "it slept");
}
