//! Produce, versions 0 to 2: a message set becomes one batch, and then the rules for batches hold.
//!
//! A set is either any number of single messages or one compressed message; one that is cut at the end is as if it were not
//! there. Version 0 and 1 carry no timestamps, so their records have none (-1).

use wire::error::ErrorCode;
use wire::message_set::{SetError, to_batch};

use crate::handlers::produce_rules::{self as rules, Checked, Refusal, Terms, ZSTD_FROM};
use crate::image::Topic;
use crate::limits::DECOMPRESSED_BYTES;

/// Converts and checks the records of one partition. None when there are none: Kafka calls that a success.
pub(crate) fn check(topic: &Topic, records: Option<&[u8]>, terms: Terms<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    let mut batch = Vec::new();
    let codec = rules::stored_codec(topic);
    let count = to_batch(records.unwrap_or_default(), codec, DECOMPRESSED_BYTES, &mut batch).map_err(refusal)?;
    if count == 0 {
        return Ok(None);
    }
    // The codec may be the topic's own, whatever the client could have sent.
    let rewritten = match rules::check(topic, Some(&batch), Terms { version: ZSTD_FROM, ..terms })? {
        Checked::AsItIs(_) => None,
        Checked::Rewritten(batch) => Some(batch),
    };
    Ok(Some(rewritten.unwrap_or(batch)))
}

fn refusal(error: SetError) -> Refusal {
    let error = match error {
        SetError::Size(_) | SetError::Magic(_) | SetError::Crc | SetError::Fields => ErrorCode::CorruptMessage,
        SetError::Codec(_) => ErrorCode::UnsupportedCompressionType,
        SetError::Timestamp(_) => ErrorCode::InvalidTimestamp,
        error if error.is_too_large() => ErrorCode::MessageTooLarge,
        _ => ErrorCode::InvalidRecord,
    };
    error.into()
}
