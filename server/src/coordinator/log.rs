//! One partition of a coordinator's topic as a log: read from its start to its end, and appended to.

use std::fmt;

use engine::{AppendError, Appended, Origin, ReadError, Slot, Store, TransactionGuard};
use tracing::warn;
use wire::batch::{
    BatchBuilder, BatchError, BatchView, Batches, ControlRecord, EndTransaction, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    NO_SEQUENCE, NewRecord,
};
use wire::compression::Codec;

use crate::limits::{DECOMPRESSED_BYTES, KEPT_BYTES};
use crate::state_machine::{LoggedRecord, ProducerEpoch, Records, StateMachine};

/// A partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) slot: Slot,
    pub(super) leader_epoch: i32,
}

/// Why a log was not read to its end.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The store cannot read it.
    Read(ReadError),
    /// What it holds is no batch.
    Batch(BatchError),
    /// There is nothing at an offset where there must be something.
    Gap(i64),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read(error) => write!(f, "the store cannot read it: {error}"),
            LoadError::Batch(error) => write!(f, "it holds what is no batch: {error}"),
            LoadError::Gap(offset) => write!(f, "there is nothing at offset {offset}"),
        }
    }
}

impl Log {
    /// Whether there is nothing to read.
    pub(super) fn is_empty(self, store: &Store) -> bool {
        store.info(self.slot).is_some_and(|info| info.log_start == info.log_end)
    }

    /// Replays everything up to the end of what is durable when it gets there.
    pub(super) async fn replay<M: StateMachine>(
        self,
        store: &Store,
        name: &str,
        into: &mut M,
    ) -> Result<(), LoadError> {
        let info = store.info(self.slot).ok_or(LoadError::Read(ReadError::UnknownPartition))?;
        let mut offset = info.log_start;
        let mut scratch = Vec::new();
        loop {
            let info = store.info(self.slot).ok_or(LoadError::Read(ReadError::UnknownPartition))?;
            if offset >= info.high_watermark {
                return Ok(());
            }
            let data = store.read_any(self.slot, offset).await.map_err(LoadError::Read)?;
            let from = offset;
            for slice in &data.slices {
                for batch in Batches::new(slice.as_bytes()) {
                    let batch = batch.map_err(LoadError::Batch)?;
                    replay_batch(&batch, name, &mut scratch, into)?;
                    offset = batch.last_offset() + 1;
                }
            }
            if offset == from {
                return Err(LoadError::Gap(offset));
            }
        }
    }

    /// Appends records as one batch, with the guard of its transaction where it is part of one. The outcome is durable when
    /// the store has committed `seq` of it.
    pub(super) fn append(
        self,
        store: &Store,
        batch: &[u8],
        transaction: Option<Option<TransactionGuard>>,
    ) -> Result<Appended, AppendError> {
        let view = BatchView::parse(batch).map_err(|_| AppendError::InvalidRecord)?;
        match transaction {
            None => store.append(self.slot, &view, self.leader_epoch),
            Some(guard) => store.append_as(Origin::Coordinator, guard, self.slot, &view, self.leader_epoch),
        }
    }
}

/// Makes batches, one after the other in the same memory: that of the largest one so far.
#[derive(Debug)]
pub(super) struct BatchMaker {
    builder: BatchBuilder,
    /// The memory of a batch that has been appended.
    spare: Vec<u8>,
}

impl BatchMaker {
    pub(super) fn new() -> BatchMaker {
        BatchMaker { builder: BatchBuilder::new(Codec::None), spare: Vec::new() }
    }

    /// Keeps the memory of a batch that is needed no more for the next one.
    pub(super) fn keep(&mut self, mut batch: Vec<u8>) {
        if batch.capacity() <= KEPT_BYTES {
            batch.clear();
            self.spare = batch;
        }
    }

    /// Records as one batch. None when the format cannot hold them.
    pub(super) fn batch(
        &mut self,
        records: &Records,
        producer: Option<ProducerEpoch>,
        unix_ms: i64,
    ) -> Option<Vec<u8>> {
        let BatchMaker { builder, spare } = self;
        builder.clear();
        match producer {
            // Kafka's coordinators count no sequences either.
            Some(ProducerEpoch { id, epoch }) => builder.producer(id, epoch, 0).transactional(true),
            None => builder.producer(NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE).transactional(false),
        };
        for (key, value) in records.iter() {
            let record = NewRecord { timestamp: unix_ms, key: Some(key), value, ..NewRecord::default() };
            builder.push(&record).ok()?;
        }
        let mut bytes = std::mem::take(spare);
        bytes.reserve(builder.uncompressed_len());
        builder.finish(&mut bytes).ok()?;
        Some(bytes)
    }
}

fn replay_batch<M: StateMachine>(
    batch: &BatchView<'_>,
    name: &str,
    scratch: &mut Vec<u8>,
    into: &mut M,
) -> Result<(), LoadError> {
    let attributes = batch.attributes();
    let producer = ProducerEpoch { id: batch.producer_id(), epoch: batch.producer_epoch() };
    let body = batch.decompress(DECOMPRESSED_BYTES, scratch).map_err(LoadError::Batch)?;
    for record in batch.records_in(body) {
        let record = record.map_err(|error| LoadError::Batch(error.into()))?;
        if attributes.is_control() {
            if let Ok(ControlRecord::EndTransaction { end, .. }) = ControlRecord::parse(&record) {
                into.replay_end(producer, end == EndTransaction::Commit);
            }
            continue;
        }
        let logged = LoggedRecord {
            offset: record.offset,
            timestamp_ms: record.timestamp,
            producer: attributes.is_transactional().then_some(producer),
            key: record.key.unwrap_or_default(),
            value: record.value,
        };
        if let Err(error) = into.replay(logged) {
            warn!("{name}: the record at offset {} is not understood and is left out: {error}", record.offset);
        }
    }
    Ok(())
}
