//! What a batch must be for a topic to take it, beyond what the store checks: the rules of Kafka 4.3 and their errors.

use engine::partition::AppendError;
use wire::batch::{BatchError, BatchHeader, BatchView, NO_TIMESTAMP, Record, Records, TimestampType, layout};
use wire::compression::{self, Codec, CompressionError};
use wire::error::ErrorCode;

use crate::config::topic::StoredCodec;
use crate::image::Topic;
use crate::limits::{DECOMPRESSED_BYTES, RECORD_ERRORS};

/// The client id with which Kafka's own tools may write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// The first version of Produce that allows zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

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
    /// The same records in the compression of the topic.
    Recompressed(Vec<u8>),
}

/// Checks the records of one partition of a produce request, in the order in which Kafka does: form, acks, topic, batch.
pub(crate) fn check<'a>(
    topic: &Topic,
    records: Option<&'a [u8]>,
    version: i16,
    acks: i16,
    client_id: Option<&str>,
) -> Result<Checked<'a>, Refusal> {
    let batch = only_batch(records.unwrap_or_default(), version)?;
    if !matches!(acks, -1..=1) {
        return Err(ErrorCode::InvalidRequiredAcks.into());
    }
    if topic.internal && client_id != Some(ADMIN_CLIENT) {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    let attributes = batch.attributes();
    if batch.base_offset() != 0 || attributes.is_control() {
        return Err(ErrorCode::InvalidRecord.into());
    }
    if attributes.is_transactional() {
        return Err(ErrorCode::InvalidTxnState.into());
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        let message = "The timestamp type LogAppendTime is the broker's to set".to_owned();
        return Err(Refusal::with(ErrorCode::InvalidTimestamp, message, Vec::new()));
    }
    let codec = batch.codec().map_err(|_| ErrorCode::UnsupportedCompressionType)?;
    if topic.settings.cleanup.compact {
        check_keys(&batch)?;
    }
    match stored_codec(topic) {
        Some(wanted) if wanted != codec => recompress(&batch, wanted).map(Checked::Recompressed),
        _ => Ok(Checked::AsItIs(batch.bytes())),
    }
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
        // Busy is waited out before anything is answered; should it come here, a retry is right.
        AppendError::Busy | AppendError::DiskFull | AppendError::Failed => ErrorCode::KafkaStorageError,
    };
    error.into()
}

/// Names the records of a batch whose timestamps its topic does not allow at `now_ms`.
pub(crate) fn timestamps_out_of_bounds(topic: &Topic, batch: &BatchView<'_>, now_ms: i64) -> Refusal {
    let earliest = now_ms.saturating_sub(topic.settings.timestamp_before_max_ms);
    let latest = now_ms.saturating_add(topic.settings.timestamp_after_max_ms);
    let mut scratch = Vec::new();
    let failures = plain_body(batch, &mut scratch).map(|body| {
        failures(batch.records_in(body), |record| {
            let fits = record.timestamp == NO_TIMESTAMP || (earliest..=latest).contains(&record.timestamp);
            (!fits).then(|| format!("Timestamp {} is outside of {earliest} to {latest}", record.timestamp))
        })
    });
    let message = "The batch has timestamps that its topic does not allow".to_owned();
    Refusal::with(ErrorCode::InvalidTimestamp, message, failures.unwrap_or_default())
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
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, ErrorCode> {
    if bytes.len() < UP_TO_MAGIC {
        return Ok(None);
    }
    let length: [u8; 4] = bytes[layout::BATCH_LENGTH..layout::LEADER_EPOCH].try_into().expect("four bytes");
    let length = i32::from_be_bytes(length);
    let magic = bytes[layout::MAGIC];
    if length < MIN_LENGTH || magic > 2 {
        return Err(ErrorCode::CorruptMessage);
    }
    let total = layout::LEADER_EPOCH + length as usize;
    Ok((total <= bytes.len()).then_some(total))
}

/// A compacted topic keeps the last record of each key, so each record must have one.
fn check_keys(batch: &BatchView<'_>) -> Result<(), Refusal> {
    check_crc(batch)?;
    let mut scratch = Vec::new();
    let records = batch.records_in(plain_body(batch, &mut scratch)?);
    records.clone().validate().map_err(|_| ErrorCode::InvalidRecord)?;
    let failures = failures(records, |record| record.key.is_none().then(|| "The record has no key".to_owned()));
    if failures.is_empty() {
        return Ok(());
    }
    let message = "A compacted topic takes records with keys only".to_owned();
    Err(Refusal::with(ErrorCode::InvalidRecord, message, failures))
}

fn failures<'a>(records: Records<'a>, check: impl Fn(&Record<'a>) -> Option<String>) -> Vec<(i32, String)> {
    let check = |(index, record): (usize, Result<Record<'a>, _>)| Some((index as i32, check(&record.ok()?)?));
    records.enumerate().filter_map(check).take(RECORD_ERRORS).collect()
}

/// The batch with its records compressed by `wanted`.
fn recompress(batch: &BatchView<'_>, wanted: Codec) -> Result<Vec<u8>, Refusal> {
    check_crc(batch)?;
    let mut scratch = Vec::new();
    let plain = plain_body(batch, &mut scratch)?;
    batch.records_in(plain).validate().map_err(|_| ErrorCode::InvalidRecord)?;
    let mut compressed = Vec::new();
    let body = match wanted {
        Codec::None => plain,
        _ => {
            compression::compress(wanted, plain, &mut compressed).map_err(|_| ErrorCode::UnknownServerError)?;
            &compressed
        }
    };
    let header = BatchHeader { attributes: batch.attributes().with_codec(wanted), ..batch.header() };
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
