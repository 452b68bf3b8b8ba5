//! What is said of the disk: to clients, which error a failed read comes to; in the log, that the disk is full and has space
//! again, and which partition cannot be read. The log says each thing once, since clients try again and again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use engine::{ReadError, Slot};
use tracing::{info, warn};
use wire::error::ErrorCode;

use crate::image::Partition;
use crate::shard::Shard;

/// What the log says of one core's disk at present.
#[derive(Debug, Default)]
pub(crate) struct DiskLog {
    is_full: Cell<bool>,
    unreadable: RefCell<BTreeSet<Slot>>,
}

impl Shard {
    /// Says that the disk has become full, or has space again, if it has since the last call.
    pub(crate) fn log_full_disk(&self) {
        let is_full = self.0.store.get().is_some_and(|store| store.is_disk_full());
        match (self.0.disk_log.is_full.replace(is_full), is_full) {
            (false, true) => {
                warn!("core {}: the disk is full, so that nothing is appended until there is space", self.core())
            }
            (true, false) => info!("core {}: the disk has space again", self.core()),
            _ => {}
        }
    }

    /// The error of a read that failed in a partition of this core; `out_of_range` where there is no such offset.
    pub(crate) fn read_failed(&self, slot: Slot, error: &ReadError, out_of_range: ErrorCode) -> ErrorCode {
        let code = match error {
            ReadError::UnknownPartition => return ErrorCode::UnknownTopicOrPartition,
            ReadError::OutOfRange => return out_of_range,
            ReadError::Corrupt => ErrorCode::CorruptMessage,
            ReadError::Io(_) => ErrorCode::KafkaStorageError,
        };
        if self.0.disk_log.unreadable.borrow_mut().insert(slot) {
            warn!("{} cannot be read: {error}", self.name_of(slot));
        }
        code
    }

    /// The name of a partition of this core, by a search through all.
    fn name_of(&self, slot: Slot) -> String {
        let image = self.image();
        let is_it = |partition: &Partition| partition.core == self.core() && partition.slot == slot;
        let named = image.topics().find_map(|topic| Some((topic, topic.partitions.iter().position(is_it)?)));
        named.map_or_else(|| "a partition".to_owned(), |(topic, index)| format!("{}-{index}", topic.name))
    }
}
