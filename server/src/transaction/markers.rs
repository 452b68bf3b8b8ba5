//! Telling partitions of a transaction's end: a marker in each of their logs.

use engine::{AppendError, Marker, Slot};
use tracing::warn;

use super::coordinator::Ending;
use super::state::Outcome;
use crate::coordinator::LogTopic;
use crate::limits::MARKER_PAUSE_MS;
use crate::markers;
use crate::shard::Shard;

/// A partition that is to be told.
#[derive(Debug, Clone, Copy)]
struct Place {
    slot: Slot,
    leader_epoch: i32,
}

/// Tells all partitions of an end that the coordinator in partition `number` of this core has decided; the decision is
/// durable with commit `seq`. True when all know, no later than what this core's store appends from then on; false when this
/// process will not get so far.
pub async fn write(shard: &Shard, number: i32, ending: &Ending, seq: u64) -> bool {
    let (coordinator_epoch, mut places) = {
        let image = shard.image();
        let find = |topic: &str, number: i32| image.topic(topic)?.partitions.get(usize::try_from(number).ok()?);
        let own = find(LogTopic::Transactions.name(), number);
        let mut places: Vec<Vec<Place>> = (0..shard.cores()).map(|_| Vec::new()).collect();
        // Partitions that have been deleted need not know.
        for partition in ending.partitions.iter().filter_map(|(topic, number)| find(topic, *number)) {
            places[partition.core].push(Place { slot: partition.slot, leader_epoch: partition.leader_epoch });
        }
        (own.map_or(0, |own| own.leader_epoch), places)
    };
    let marker = Marker {
        producer_id: ending.producer.id,
        producer_epoch: ending.producer.epoch,
        coordinator_epoch,
        commit: ending.outcome == Outcome::Commit,
        transaction_version: ending.client.level(),
    };
    let is_elsewhere = places.iter().enumerate().any(|(core, places)| core != shard.core() && !places.is_empty());
    if !is_elsewhere {
        // Decision and markers are in one store, which keeps their order.
        return append_all(shard, &places.swap_remove(shard.core()), &marker).await.is_some();
    }
    if shard.store().wait_commit(seq).await.is_err() {
        return false;
    }
    let calls: Vec<_> = places
        .into_iter()
        .enumerate()
        .filter(|(_, places)| !places.is_empty())
        .map(|(core, places)| shard.run_on(core, move |shard| write_here(shard, places, marker)))
        .collect();
    let mut all = true;
    for call in calls {
        all &= call.await;
    }
    all
}

/// On the core of the partitions.
async fn write_here(shard: Shard, places: Vec<Place>, marker: Marker) -> bool {
    match append_all(&shard, &places, &marker).await {
        Some(newest) => shard.store().wait_commit(newest).await.is_ok(),
        None => false,
    }
}

/// The commit that makes all markers durable. None when the store has failed.
async fn append_all(shard: &Shard, places: &[Place], marker: &Marker) -> Option<u64> {
    let mut newest = 0;
    for place in places {
        newest = newest.max(append(shard, *place, marker).await?);
    }
    Some(newest)
}

/// The commit that makes a marker durable. None when the store has failed.
async fn append(shard: &Shard, place: Place, marker: &Marker) -> Option<u64> {
    loop {
        match markers::begin(shard, place.slot, place.leader_epoch, marker).await {
            Ok(appended) => return Some(appended.seq),
            Err(AppendError::Failed) => return None,
            Err(AppendError::UnknownPartition) => return Some(0),
            Err(error @ (AppendError::InvalidProducerEpoch | AppendError::CoordinatorFenced)) => {
                // The partition knows of an end that came later than this one.
                warn!("a marker of producer {} is out of date: {error:?}", marker.producer_id);
                return Some(0);
            }
            Err(_) => {
                let reactor = shard.reactor();
                reactor.sleep_until(reactor.now_ns() + MARKER_PAUSE_MS * 1_000_000).await;
            }
        }
    }
}
