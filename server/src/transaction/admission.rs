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
    /// Where to.
    pub partition: Partition,
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

impl Writer {
    /// What its coordinator is asked. None: it need not be.
    fn join(&self, shard: &Shard) -> Option<Join> {
        let is_asked = self.adds || shard.image().live().verifies_partitions;
        is_asked.then(|| Join {
            transactional_id: self.transactional_id.clone(),
            producer: self.producer,
            partitions: BTreeSet::from([self.partition.clone()]),
            intent: if self.adds { Intent::Add(ClientVersion::V2) } else { Intent::Verify },
        })
    }

    /// What the partition is asked.
    fn verify(&self, shard: &Shard, slot: Slot) -> Result<Option<TransactionGuard>, AppendError> {
        let Writer { producer, first_sequence, adds, .. } = *self;
        shard.store().verify_transaction(slot, producer.id, producer.epoch, first_sequence, adds)
    }
}

/// As [`admit`], where nothing has to be waited for: most often the coordinator is on the partition's core, and the
/// transaction before has ended. None: ask there.
pub fn admit_at_once(shard: &Shard, slot: Slot, writer: &Writer) -> Option<TransactionGuard> {
    let guard = writer.verify(shard, slot).ok()??;
    match writer.join(shard) {
        None => Some(guard),
        Some(join) => service::join_at_once(shard, &join)?.is_empty().then_some(guard),
    }
}

/// Asks the coordinator, on the owner core of the partition in `slot`. The guard that results is good for
/// [`engine::Store::append_as`] until something is awaited; none is needed where the transaction is open.
pub async fn admit(shard: &Shard, slot: Slot, writer: &Writer) -> Result<Option<TransactionGuard>, Refused> {
    loop {
        let Some(guard) = writer.verify(shard, slot).map_err(Refused::Store)? else { return Ok(None) };
        if let Some(join) = writer.join(shard) {
            let missing = service::join_before_write(shard, join).await.map_err(Refused::Coordinator)?;
            if !missing.is_empty() {
                return Err(Refused::Coordinator(ErrorCode::TransactionAbortable));
            }
        }
        // A marker that was written meanwhile has taken the guard back: then the coordinator must be asked once more.
        match writer.verify(shard, slot).map_err(Refused::Store)? {
            Some(now) if now != guard => {}
            same => return Ok(same),
        }
    }
}
