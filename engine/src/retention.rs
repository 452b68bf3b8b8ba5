//! Retention by time and by size: the oldest segments go when they are too old or too many, and so do producers that
//! have been silent for long. Off the request path.
//!
//! Besides all partitions at intervals, each one is looked at when a segment of it has been completed: a log that has
//! reached its size deletes as it grows, and the next segment finds a file to be written into ([`crate::spares`]).

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use crate::join::first;
use crate::log::Log;
use crate::partition::PartitionConfig;
use crate::store::{Health, Slot, Store};

impl Store {
    /// Applies retention to all partitions every `interval_ms`, and to each one when a segment of it has been completed, and
    /// gives up spare files, for as long as the store lives. An error is one of the disk: see [`Store::run`].
    pub async fn run_retention(&self, interval_ms: u64) -> io::Error {
        let reactor = &self.shared.reactor;
        let (spares, wake) = (&self.shared.spares, &self.shared.retention_wake);
        let mut next_ns = reactor.now_ns() + interval_ms * 1_000_000;
        loop {
            let until_ns = spares.until_ns().map_or(next_ns, |spare_ns| spare_ns.min(next_ns));
            first(reactor.sleep_until(until_ns), wake.wait()).await;
            let mut result = self.discard_spares(reactor.now_ns()).await.map(|_| ());
            if result.is_ok() && reactor.now_ns() >= next_ns {
                result = self.apply_retention().await;
                next_ns = reactor.now_ns() + interval_ms * 1_000_000;
            }
            if result.is_ok() {
                result = self.retain_completed().await;
            }
            if let Err(error) = result {
                return self.fail(&error).into();
            }
        }
    }

    /// Changes after which silence a producer is forgotten, in milliseconds: from the next look at its partition on.
    pub fn set_producer_expiration(&self, silence_ms: i64) {
        self.state_mut().options.limits.producer_expiration_ms = silence_ms;
    }

    /// Applies retention to the partitions of which segments have been completed.
    async fn retain_completed(&self) -> io::Result<()> {
        let completed = std::mem::take(&mut self.state_mut().completed);
        for slot in completed {
            self.retain(slot).await?;
        }
        Ok(())
    }

    /// Applies retention to all partitions once.
    pub async fn apply_retention(&self) -> io::Result<()> {
        let slots = self.state().partitions.len() as Slot;
        for slot in 0..slots {
            self.retain(slot).await?;
        }
        Ok(())
    }

    async fn retain(&self, slot: Slot) -> io::Result<()> {
        self.load_oldest_index(slot).await;
        let moved_to = {
            let now_ms = self.shared.reactor.unix_ms();
            let mut state = self.state_mut();
            let silent_since_ms = now_ms - state.options.limits.producer_expiration_ms;
            let Some(partition) = state.live_mut(slot) else { return Ok(()) };
            partition.producers.expire(silent_since_ms);
            partition.transactions.expire(silent_since_ms);
            if !partition.config.delete_by_retention {
                return Ok(());
            }
            let start = retained_from(&partition.log, &partition.config, now_ms);
            if start >= partition.log.end_offset() && partition.log.active().end_pos > 0 {
                // Even the active segment has expired: it is closed, so that it can go. Without memory for that the next
                // round does it.
                let _ = state.roll(slot);
                self.shared.work.notify();
                self.shared.pressure.notify();
                return Ok(());
            }
            // Also one that the journal did not take in an earlier round.
            let moves = start > partition.log.durable_start;
            partition.log.log_start = partition.log.log_start.max(start);
            partition.ring_stable();
            moves.then_some(start)
        };
        if let Some(start) = moved_to {
            let is_carried = self.unless_disk_is_full(self.carry_slots(&[slot])).await?;
            let removable = if is_carried { start } else { start.min(self.newest_journaled(slot)) };
            self.start_is_durable(slot, removable);
        }
        self.remove_segments(slot).await.map(|_| ())
    }

    /// Waits for the journal to take a new log start, but not on a full disk: no commit may be possible there before
    /// segments are removed. Nothing is lost by that: recovery begins a log at its first segment. Returns whether the
    /// journal has it.
    async fn unless_disk_is_full(&self, carried: impl Future<Output = io::Result<()>>) -> io::Result<bool> {
        let mut carried = pin!(carried);
        poll_fn(|context| {
            if self.state().health == Health::DiskFull {
                return Poll::Ready(Ok(false));
            }
            if let Poll::Ready(result) = carried.as_mut().poll(context) {
                return Poll::Ready(result.map(|()| true));
            }
            // Woken when the disk is found to be full, among others.
            self.state_mut().capacity_waiters.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The newest segment that the journal knows for certain. Without the log's new start in the journal, this one has
    /// to stay: recovery looks for it.
    fn newest_journaled(&self, slot: Slot) -> i64 {
        let state = self.state();
        let Some(partition) = state.live(slot) else { return 0 };
        let durable = partition.log.durable;
        let at = partition.log.find_base(durable.segment_base).expect("the segment of the durable end is not sealed");
        match durable.pos {
            // It was begun while the log rested: the journal learns of it with the next commit or carry.
            0 => partition.log.segments[at.saturating_sub(1)].base,
            _ => durable.segment_base,
        }
    }

    /// Retention by time needs the newest timestamp of the oldest segment, which its index knows.
    async fn load_oldest_index(&self, slot: Slot) {
        let base = {
            let state = self.state();
            let Some(partition) = state.live(slot) else { return };
            if partition.config.retention_ms < 0 || !partition.config.delete_by_retention {
                return;
            }
            partition.log.segments[0].base
        };
        // A segment that cannot be read stays: what it holds is not known to be old. The next round looks again.
        let _ = self.load_index(slot, base).await;
    }
}

/// The offset at which the log begins when the segments that retention does not cover are gone.
fn retained_from(log: &Log, config: &PartitionConfig, now_ms: i64) -> i64 {
    let mut bytes = log.bytes();
    let mut start = log.log_start;
    for segment in &log.segments {
        let is_active = segment.base == log.active().base;
        let newest_ms = segment.index.as_ref().map(|index| index.max_timestamp_ms());
        let is_expired = |newest: i64| newest >= 0 && now_ms.saturating_sub(newest) > config.retention_ms;
        // One that compaction has left without a record holds none that is young.
        let is_empty = segment.sealed && newest_ms == Some(i64::MIN);
        let too_old =
            config.retention_ms >= 0 && (is_empty || (segment.end_pos > 0 && newest_ms.is_some_and(is_expired)));
        // A segment goes by size only if what remains still fills the limit, as in Kafka.
        let too_many =
            config.retention_bytes >= 0 && !is_active && bytes - segment.end_pos >= config.retention_bytes as u64;
        let durable = segment.end_offset <= log.durable.offset;
        if !(too_old || too_many) || !durable {
            break;
        }
        bytes -= segment.end_pos;
        start = segment.end_offset;
    }
    start.max(log.log_start)
}
