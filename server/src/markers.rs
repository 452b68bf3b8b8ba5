//! The ends of transactions on their way into partitions: for the coordinator of this broker, and for those of others.

use engine::{AppendError, Appended, Marker, Slot};

use crate::coordinator::{LogTopic, NotEnded, Unavailable};
use crate::limits::LOADING_PAUSE_MS;
use crate::services::Services;
use crate::shard::Shard;
use crate::state_machine::ProducerEpoch;

/// Appends a marker to a partition of this core, as soon as there is memory for it. It is durable when this resolves: the
/// coordinator may count on it.
pub(crate) async fn append(shard: &Shard, slot: Slot, leader_epoch: i32, marker: &Marker) -> Result<(), AppendError> {
    let appended = begin(shard, slot, leader_epoch, marker).await?;
    shard.store().wait_commit(appended.seq).await.map_err(|_| AppendError::Failed)
}

/// Appends a marker like [`append`]. It is durable when the store has committed what resolves.
pub(crate) async fn begin(
    shard: &Shard,
    slot: Slot,
    leader_epoch: i32,
    marker: &Marker,
) -> Result<Appended, AppendError> {
    let is_offsets = offsets_partition(shard, slot).is_some();
    loop {
        let result = match is_offsets {
            false => shard.store().append_marker(slot, marker, leader_epoch),
            true => match end_offsets(shard, slot, marker) {
                Err(NotEnded::Unavailable(Unavailable::Loading)) => {
                    let reactor = shard.reactor();
                    reactor.sleep_until(reactor.now_ns() + LOADING_PAUSE_MS * 1_000_000).await;
                    continue;
                }
                Err(NotEnded::Unavailable(_)) => Err(AppendError::UnknownPartition),
                Err(NotEnded::Refused(error)) => Err(error),
                Ok(appended) => Ok(appended),
            },
        };
        match result {
            Err(AppendError::Busy) => shard.wait_for_memory().await,
            result => return result,
        }
    }
}

/// Tells a partition of `__consumer_offsets` through its coordinator: offsets of the transaction count, or are forgotten.
fn end_offsets(shard: &Shard, slot: Slot, marker: &Marker) -> Result<Appended, NotEnded> {
    let number = offsets_partition(shard, slot).ok_or(NotEnded::Unavailable(Unavailable::NotHere))?;
    let producer = ProducerEpoch { id: marker.producer_id, epoch: marker.producer_epoch };
    let append = |store: &engine::Store, slot, epoch| store.append_marker(slot, marker, epoch);
    Services::of(shard).groups().end_transaction(shard, number, producer, marker.commit, append)
}

/// The number of a partition of `__consumer_offsets` that this core owns.
fn offsets_partition(shard: &Shard, slot: Slot) -> Option<i32> {
    let image = shard.image();
    let partitions = &image.topic(LogTopic::Offsets.name())?.partitions;
    let is_it = |core, found| core == shard.core() && found == slot;
    (0..).zip(partitions).find(|(_, partition)| is_it(partition.core, partition.slot)).map(|(number, _)| number)
}
