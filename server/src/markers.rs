//! The ends of transactions on their way into partitions: for the coordinator of this broker, and for those of others.

use engine::{AppendError, Marker, Slot};

use crate::shard::Shard;

/// Appends a marker to a partition of this core, as soon as there is memory for it. It is durable when this resolves: the
/// coordinator may count on it.
pub(crate) async fn append(shard: &Shard, slot: Slot, leader_epoch: i32, marker: &Marker) -> Result<(), AppendError> {
    let appended = loop {
        match shard.store().append_marker(slot, marker, leader_epoch) {
            Err(AppendError::Busy) => shard.wait_for_memory().await,
            result => break result?,
        }
    };
    shard.store().wait_commit(appended.seq).await.map_err(|_| AppendError::Failed)
}
