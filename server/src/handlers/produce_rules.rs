//! What a batch must be for a topic to take it, beyond what the store checks: the rules of Kafka 4.3 and their errors.

use engine::AppendError;
use wire::batch::{BatchError, BatchHeader, BatchView, NO_TIMESTAMP, TimestampType, layout};
use wire::compression::{self, Codec, CompressionError};
use wire::error::ErrorCode;

use crate::config::topic::StoredCodec;
use crate::image::Topic;
use crate::limits::{DECOMPRESSED_BYTES, RECORD_ERRORS};

/// The client id with which Kafka's own tools may write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// The first version of Produce whose records are batches of magic 2 (KIP-98).
pub(super) const MAGIC_2_FROM: i16 = 3;

/// The first version of Produce that allows zstd (KIP-110).
pub(super) const ZSTD_FROM: i16 = 7;

/// The first version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_FROM: i16 = 11;

/// The first version whose clients know CONCURRENT_TRANSACTIONS as an answer to a write.
const CONCURRENT_FROM: i16 = 12;

/// What a message set of any magic has in front of its magic, and the magic: below this there is no batch.
const UP_TO_MAGIC: usize = layout::MAGIC + 1;

/// The smallest length that a message set of any magic can announce.
const MIN_LENGTH: i32 = 14;

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: ErrorCode,
    /// What is told beside the error (KIP-467).
    pub(crate) detail: Option<Box<Detail>>,
}

/// More about a refused batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) message: String,
    /// Records by their place in the batch, and what is wrong with each.
    pub(crate) records: Vec<(i32, String)>,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Refusal {
        Refusal { error, detail: None }
    }
}

impl Refusal {
    fn with(error: ErrorCode, message: String, records: Vec<(i32, String)>) -> Refusal {
        Refusal { error, detail: Some(Box::new(Detail { message, records })) }
    }
}

/// A batch that may be appended.
#[derive(Debug)]
pub(crate) enum Checked<'a> {
    /// The bytes of the batch, as they came.
    AsItIs(&'a [u8]),
    /// The same records in the form of the topic.
    Rewritten(Vec<u8>),
}

/// What a produce request says for all its partitions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) version: i16,
    pub(crate) acks: i16,
    pub(crate) client_id: Option<&'a str>,
    /// Wall clock, in milliseconds.
    pub(crate) now_ms: i64,
}

/// Checks the records of one partition of a produce request, in the order in which Kafka does: form, acks, topic, batch.
pub(crate) fn check<'a>(topic: &Topic, records: Option<&'a [u8]>, terms: Terms<'_>) -> Result<Checked<'a>, Refusal> {
    let batch = only_batch(records.unwrap_or_default(), terms.version)?;
    if !matches!(terms.acks, -1..=1) {
        return Err(ErrorCode::InvalidRequiredAcks.into());
    }
    if topic.internal && terms.client_id != Some(ADMIN_CLIENT) {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    let attributes = batch.attributes();
    if batch.base_offset() != 0 || attributes.is_control() {
        return Err(ErrorCode::InvalidRecord.into());
    }
    // Once as it came, and again by the store as it is stored: the broker may have to change the codec.
    if batch.total_len() > topic.settings.max_message_bytes.unsigned_abs() as usize {
        return Err(ErrorCode::MessageTooLarge.into());
    }
    let codec = batch.codec().map_err(|_| ErrorCode::UnsupportedCompressionType)?;
    if needs_records(topic, &batch, terms.now_ms) {
        check_records(topic, &batch, terms.now_ms)?;
    }
    let wanted = stored_codec(topic).unwrap_or(codec);
    // The timestamp type is the broker's to set: a batch that says otherwise is put right, as in Kafka.
    if wanted != codec || attributes.timestamp_type() == TimestampType::LogAppendTime {
        return rewrite(&batch, codec, wanted).map(Checked::Rewritten);
    }
    Ok(Checked::AsItIs(batch.bytes()))
}

/// The codec in which a topic's batches are stored, if it is not that of their producer.
pub(crate) fn stored_codec(topic: &Topic) -> Option<Codec> {
    match topic.settings.codec {
        StoredCodec::Producer => None,
        StoredCodec::Uncompressed => Some(Codec::None),
        StoredCodec::Gzip => Some(Codec::Gzip),
        StoredCodec::Snappy => Some(Codec::Snappy),
        StoredCodec::Lz4 => Some(Codec::Lz4),
        StoredCodec::Zstd => Some(Codec::Zstd),
    }
}

/// What the client is told when the store refuses a batch.
pub(crate) fn refusal(error: AppendError) -> Refusal {
    let error = match error {
        AppendError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        AppendError::InvalidCrc => ErrorCode::CorruptMessage,
        AppendError::InvalidRecord => ErrorCode::InvalidRecord,
        AppendError::TooLarge => ErrorCode::MessageTooLarge,
        AppendError::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        AppendError::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        AppendError::InvalidTxnState => ErrorCode::InvalidTxnState,
        AppendError::CoordinatorFenced => ErrorCode::TransactionCoordinatorFenced,
        // Busy is waited out before anything is answered; should it come here, a retry is right. So it is where too many
        // transactions are open, for which Kafka has no bound and no error.
        AppendError::Busy | AppendError::DiskFull | AppendError::Failed | AppendError::TooManyTransactions => {
            ErrorCode::KafkaStorageError
        }
    };
    error.into()
}

/// What the client is told when the coordinator does not let a batch into its transaction.
pub(crate) fn coordinator_refusal(error: ErrorCode, version: i16) -> Refusal {
    match error {
        ErrorCode::TransactionAbortable if version < ABORTABLE_FROM => {
            let message = "Partition was not added to the transaction".to_owned();
            Refusal::with(ErrorCode::InvalidTxnState, message, Vec::new())
        }
        // This API has no other word for it.
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch.into(),
        ErrorCode::ConcurrentTransactions if version >= CONCURRENT_FROM => error.into(),
        // Clients of all ages try again on that, and ask for no metadata.
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => {
            let message = format!("The coordinator cannot say that the partition is part of the transaction: {error}");
            Refusal::with(ErrorCode::NotEnoughReplicas, message, Vec::new())
        }
        error => error.into(),
    }
}

/// Whether the rules of the topic are about single records. Timestamps that are too late show in the batch's header.
fn needs_records(topic: &Topic, batch: &BatchView<'_>, now_ms: i64) -> bool {
    let settings = &topic.settings;
    let is_stamped = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
    let is_early = settings.timestamp_before_max_ms < i64::MAX;
    let is_late = batch.max_timestamp() > now_ms.saturating_add(settings.timestamp_after_max_ms);
    settings.cleanup.compact || if settings.log_append_time { is_stamped } else { is_early || is_late }
}

/// Checks each record by the rules of the topic: a compacted one keeps the last record of each key, so each must have one;
/// timestamps lie within bounds, or are the broker's.
pub(crate) fn check_records(topic: &Topic, batch: &BatchView<'_>, now_ms: i64) -> Result<(), Refusal> {
    check_crc(batch)?;
    let mut scratch = Vec::new();
    let records = batch.records_in(plain_body(batch, &mut scratch)?);
    records.clone().validate().map_err(|_| ErrorCode::InvalidRecord)?;
    let settings = &topic.settings;
    let earliest = now_ms.saturating_sub(settings.timestamp_before_max_ms);
    let latest = now_ms.saturating_add(settings.timestamp_after_max_ms);
    let is_stamped = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
    let mut failures = Vec::new();
    let mut is_about_time = false;
    for (index, record) in (0..).zip(records.flatten()) {
        let in_bounds = record.timestamp == NO_TIMESTAMP || (earliest..=latest).contains(&record.timestamp);
        let failure = if settings.cleanup.compact && record.key.is_none() {
            "The record has no key, and the topic is compacted".to_owned()
        } else if settings.log_append_time && is_stamped {
            is_about_time = true;
            "The timestamp type LogAppendTime is the broker's to set".to_owned()
        } else if !settings.log_append_time && !in_bounds {
            is_about_time = true;
            format!("The timestamp {} is outside of {earliest} to {latest}", record.timestamp)
        } else {
            continue;
        };
        if failures.len() < RECORD_ERRORS {
            failures.push((index, failure));
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let error = if is_about_time { ErrorCode::InvalidTimestamp } else { ErrorCode::InvalidRecord };
    let message = format!("The topic does not take {} of the batch's records", failures.len());
    Err(Refusal::with(error, message, failures))
}

/// The one batch of magic 2 that a partition of a produce request must hold.
fn only_batch(bytes: &[u8], version: i16) -> Result<BatchView<'_>, Refusal> {
    let len = next_batch(bytes)?.ok_or(ErrorCode::InvalidRecord)?;
    let batch = BatchView::parse(&bytes[..len]).map_err(|error| match error {
        BatchError::Magic(_) => ErrorCode::InvalidRecord,
        _ => ErrorCode::CorruptMessage,
    })?;
    if version < ZSTD_FROM && batch.attributes().codec() == Some(Codec::Zstd) {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    // Bytes behind the batch that are not a whole one are ignored, as Kafka does.
    if next_batch(&bytes[len..])?.is_some() {
        return Err(ErrorCode::InvalidRecord.into());
    }
    Ok(batch)
}

/// Length of the message set or batch of any magic at the front of `bytes`; none if it is not there as a whole.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    if bytes.len() < UP_TO_MAGIC {
        return Ok(None);
    }
    let length: [u8; 4] = bytes[layout::BATCH_LENGTH..layout::LEADER_EPOCH].try_into().expect("four bytes");
    let length = i32::from_be_bytes(length);
    let magic = bytes[layout::MAGIC];
    if length < MIN_LENGTH || magic > 2 {
        let message = format!("A batch of length {length} and magic {} is no batch", magic as i8);
        return Err(Refusal::with(ErrorCode::CorruptMessage, message, Vec::new()));
    }
    let total = layout::LEADER_EPOCH + length as usize;
    Ok((total <= bytes.len()).then_some(total))
}

/// The batch with its records compressed by `wanted`, and the timestamp type of a producer.
fn rewrite(batch: &BatchView<'_>, codec: Codec, wanted: Codec) -> Result<Vec<u8>, Refusal> {
    check_crc(batch)?;
    let (mut plain, mut compressed) = (Vec::new(), Vec::new());
    let body = if codec == wanted {
        batch.body()
    } else {
        let body = plain_body(batch, &mut plain)?;
        batch.records_in(body).validate().map_err(|_| ErrorCode::InvalidRecord)?;
        match wanted {
            Codec::None => body,
            _ => {
                compression::compress(wanted, body, &mut compressed).map_err(|_| ErrorCode::UnknownServerError)?;
                &compressed
            }
        }
    };
    let attributes = batch.attributes().with_codec(wanted).with_timestamp_type(TimestampType::CreateTime);
    let header = BatchHeader { attributes, ..batch.header() };
    let mut out = Vec::new();
    header.write(body, &mut out).map_err(|_| ErrorCode::MessageTooLarge)?;
    Ok(out)
}

/// The store checks the CRC of what is appended. What is read or rewritten before that needs a check of its own.
fn check_crc(batch: &BatchView<'_>) -> Result<(), Refusal> {
    if batch.crc_matches() { Ok(()) } else { Err(ErrorCode::CorruptMessage.into()) }
}

fn plain_body<'s>(batch: &BatchView<'s>, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Refusal> {
    batch.decompress(DECOMPRESSED_BYTES, scratch).map_err(|error| match error {
        BatchError::Compression(CompressionError::TooLarge { .. }) => ErrorCode::MessageTooLarge.into(),
        _ => ErrorCode::InvalidRecord.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_was_not_added_is_told_in_words_where_the_error_has_several_meanings() {
        let told = |version| {
            let refusal = coordinator_refusal(ErrorCode::TransactionAbortable, version);
            (refusal.error, refusal.detail.map(|detail| detail.message))
        };
        let words = Some("Partition was not added to the transaction".to_owned());
        assert_eq!(told(10), (ErrorCode::InvalidTxnState, words));
        assert_eq!(told(11), (ErrorCode::TransactionAbortable, None));
    }
}
