//! Records of `__transaction_state`, byte for byte as Kafka writes them: the key is the transactional id, the value its
//! state, and a null value says that the id is forgotten.
//!
//! ```text
//! key:   version i16 (0) | transactional id
//! value: version i16 (1) | TransactionLogValue
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use wire::records::transaction_log_value::PartitionsSchema;
use wire::records::{TransactionLogKey, TransactionLogValue};
use wire::{DecodeError, EncodeError, Message, Reader};

use super::state::{ClientVersion, NO_EPOCH, Phase, Producer, State};
use crate::state_machine::RECORD_PART_BYTES;

/// The version of values under `transaction.version` 1 and above: with tagged fields, which older brokers skip.
const VALUE_VERSION: i16 = 1;

/// A record that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Whose.
    pub transactional_id: Arc<str>,
    /// None where the id is forgotten.
    pub state: Option<State>,
}

/// Why a record is unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// There is no key.
    NoKey,
    /// A key of this version is not known.
    KeyVersion(i16),
    /// The bytes break their form.
    Form(DecodeError),
    /// The status has no meaning.
    Status(i8),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::NoKey => f.write_str("a record without a key"),
            RecordError::KeyVersion(version) => write!(f, "a record whose key has version {version}"),
            RecordError::Form(error) => write!(f, "a record that breaks its form: {error}"),
            RecordError::Status(status) => write!(f, "a record of the status {status}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> RecordError {
        RecordError::Form(error)
    }
}

/// The key of an id's records.
pub fn encode_key(transactional_id: &str) -> Result<Vec<u8>, EncodeError> {
    let mut key = Vec::with_capacity(RECORD_PART_BYTES);
    key.extend_from_slice(&TransactionLogKey::MAX_VERSION.to_be_bytes());
    TransactionLogKey { transactional_id }.encode(&mut key, TransactionLogKey::MAX_VERSION)?;
    Ok(key)
}

/// The value that says a state.
pub fn encode_value(state: &State) -> Result<Vec<u8>, EncodeError> {
    let mut topics: Vec<PartitionsSchema<'_>> = Vec::new();
    for (topic, partition) in &state.partitions {
        match topics.last_mut() {
            Some(last) if last.topic == &**topic => last.partition_ids.push(*partition),
            _ => topics.push(PartitionsSchema { topic, partition_ids: vec![*partition] }),
        }
    }
    let value = TransactionLogValue {
        producer_id: state.producer.id,
        previous_producer_id: state.previous_id,
        next_producer_id: state.next_id,
        producer_epoch: state.producer.epoch,
        transaction_timeout_ms: state.timeout_ms,
        transaction_status: state.phase as i8,
        // Kafka tells a list that is not there from one that is empty.
        transaction_partitions: (state.phase != Phase::Empty).then_some(topics),
        transaction_last_update_timestamp_ms: state.updated_ms,
        transaction_start_timestamp_ms: state.started_ms,
        client_transaction_version: state.client.level(),
        ..TransactionLogValue::default()
    };
    let mut out = Vec::with_capacity(RECORD_PART_BYTES);
    out.extend_from_slice(&VALUE_VERSION.to_be_bytes());
    value.encode(&mut out, VALUE_VERSION)?;
    Ok(out)
}

/// Reads a record.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<LogRecord, RecordError> {
    let mut reader = Reader::new(key.ok_or(RecordError::NoKey)?);
    let version = reader.i16()?;
    if !(TransactionLogKey::MIN_VERSION..=TransactionLogKey::MAX_VERSION).contains(&version) {
        return Err(RecordError::KeyVersion(version));
    }
    let key = TransactionLogKey::decode(&mut reader, version)?;
    let state = value.map(decode_value).transpose()?;
    Ok(LogRecord { transactional_id: key.transactional_id.into(), state })
}

fn decode_value(value: &[u8]) -> Result<State, RecordError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    let value = TransactionLogValue::decode(&mut reader, version)?;
    let mut partitions = BTreeSet::new();
    for topic in value.transaction_partitions.iter().flatten() {
        let name: Arc<str> = topic.topic.into();
        partitions.extend(topic.partition_ids.iter().map(|partition| (name.clone(), *partition)));
    }
    Ok(State {
        producer: Producer { id: value.producer_id, epoch: value.producer_epoch },
        previous_id: value.previous_producer_id,
        next_id: value.next_producer_id,
        last_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        phase: Phase::of(value.transaction_status).ok_or(RecordError::Status(value.transaction_status))?,
        partitions,
        started_ms: value.transaction_start_timestamp_ms,
        updated_ms: value.transaction_last_update_timestamp_ms,
        client: ClientVersion::of(value.client_transaction_version),
    })
}

#[cfg(test)]
mod tests {
    use super::super::state::NO_PRODUCER_ID;
    use super::*;

    fn state() -> State {
        let partition = |topic: &str, partition| (Arc::from(topic), partition);
        State {
            producer: Producer { id: 4000, epoch: 3 },
            previous_id: 4000,
            next_id: NO_PRODUCER_ID,
            last_epoch: NO_EPOCH,
            timeout_ms: 60_000,
            phase: Phase::Ongoing,
            partitions: [partition("a", 2), partition("a", 0), partition("b", 7)].into(),
            started_ms: 1_000,
            updated_ms: 2_000,
            client: ClientVersion::V2,
        }
    }

    #[test]
    fn records_read_back() {
        let key = encode_key("pay").unwrap();
        for phase in [Phase::Ongoing, Phase::PrepareAbort] {
            let state = State { phase, ..state() };
            let read = decode(Some(&key), Some(&encode_value(&state).unwrap())).unwrap();
            assert_eq!(read, LogRecord { transactional_id: "pay".into(), state: Some(state) });
        }
        assert_eq!(decode(Some(&key), None).unwrap().state, None);
    }

    #[test]
    fn damage_is_told_apart() {
        let key = encode_key("pay").unwrap();
        assert_eq!(decode(None, None), Err(RecordError::NoKey));
        assert_eq!(decode(Some(&[0, 1, 0, 0]), None), Err(RecordError::KeyVersion(1)));
        let mut value = encode_value(&state()).unwrap();
        assert!(matches!(decode(Some(&key), Some(&value[..9])), Err(RecordError::Form(_))));
        value[2 + 8 + 2 + 4] = 6;
        assert_eq!(decode(Some(&key), Some(&value)), Err(RecordError::Status(6)));
    }
}
