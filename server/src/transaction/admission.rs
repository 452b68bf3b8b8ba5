//! The first write of a transaction to a partition: the coordinator must know of it before the record is in the log, or
//! nobody would end the transaction there (KIP-890).

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::{AppendError, Slot, TransactionGuard};
use wire::error::ErrorCode;

use super::machine::{Intent, Join};
use super::service;
use super::state::{ClientVersion, Partition, Producer};
use crate::shard::Shard;

/// Who writes what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Whose transaction.
    pub transactional_id: Arc<str>,
    /// The producer.
    pub producer: Producer,
    /// The sequence number of the first record.
    pub first_sequence: i32,
    /// Whether the write itself adds the partition to the transaction (transaction version 2).
    pub adds: bool,
}

/// Why a write is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// By the store.
    Store(AppendError),
    /// By the coordinator.
    Coordinator(ErrorCode),
}

/// Asks the coordinator, on the owner core of the partition in `slot`. The guard that results is good for
/// [`engine::Store::append_as`] until something is awaited; none is needed where the transaction is open.
pub async fn admit(
    shard: &Shard,
    slot: Slot,
    partition: &Partition,
    writer: &Writer,
) -> Result<Option<TransactionGuard>, Refused> {
    let Writer { producer, first_sequence, adds, .. } = *writer;
    let verify = || shard.store().verify_transaction(slot, producer.id, producer.epoch, first_sequence, adds);
    loop {
        let Some(guard) = verify().map_err(Refused::Store)? else { return Ok(None) };
        let is_asked = adds || shard.image().live().verifies_partitions;
        if is_asked {
            let join = Join {
                transactional_id: writer.transactional_id.clone(),
                producer,
                partitions: BTreeSet::from([partition.clone()]),
                intent: if adds { Intent::Add(ClientVersion::V2) } else { Intent::Verify },
            };
            let missing = service::join_before_write(shard, join).await.map_err(Refused::Coordinator)?;
            if !missing.is_empty() {
                return Err(Refused::Coordinator(ErrorCode::TransactionAbortable));
            }
        }
        // A marker that was written meanwhile has taken the guard back: then the coordinator must be asked once more.
        match verify().map_err(Refused::Store)? {
            Some(now) if now != guard => {}
            same => return Ok(same),
        }
    }
}
