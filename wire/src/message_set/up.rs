//! From a message set to one batch: what a broker does with the records of an old producer.

use super::{Magic, Messages, OldMessage, SetError};
use crate::batch::{BatchBuilder, BuildError, NewRecord};
use crate::compression::{self, Codec, CompressionError};

/// Appends the messages of `set` as one batch and returns how many they are; none at all append nothing.
///
/// The batch is compressed with `codec`, or as the messages were where that is `None`. The offsets of the messages are
/// dropped: a broker assigns new ones, in the order of the set. `cap` bounds what a wrapper may decompress to, in bytes. On
/// an error `out` is as long as it was.
pub fn to_batch(set: &[u8], codec: Option<Codec>, cap: usize, out: &mut Vec<u8>) -> Result<usize, SetError> {
    let mut messages = Messages::new(set);
    let Some(first) = messages.next().transpose()? else { return Ok(0) };
    let mut builder = BatchBuilder::new(codec.unwrap_or(first.codec));
    if first.codec == Codec::None {
        push(&mut builder, &first, first.timestamp)?;
        for message in messages {
            let message = message?;
            if message.codec != Codec::None {
                return Err(SetError::NotAlone);
            }
            if message.magic != first.magic {
                return Err(SetError::MixedMagic);
            }
            push(&mut builder, &message, message.timestamp)?;
        }
        builder.log_append_time(first.is_stamped.then_some(first.timestamp));
    } else {
        if messages.next().transpose()?.is_some() {
            return Err(SetError::NotAlone);
        }
        unwrap(&first, cap, &mut builder)?;
        builder.log_append_time(first.is_stamped.then_some(first.timestamp));
    }
    builder.finish(out).map_err(error_of)?;
    Ok(builder.record_count())
}

/// Gives the messages of a wrapper to the builder.
fn unwrap(wrapper: &OldMessage<'_>, cap: usize, builder: &mut BatchBuilder) -> Result<(), SetError> {
    let packed = wrapper.value.ok_or(SetError::EmptyWrapper)?;
    let mut plain = Vec::new();
    match (wrapper.magic, wrapper.codec) {
        (Magic::V0, Codec::Lz4) => compression::decompress_old_lz4(packed, cap, &mut plain)?,
        (_, codec) => compression::decompress(codec, packed, cap, &mut plain)?,
    }
    let mut messages = Messages::new(&plain);
    for message in messages.by_ref() {
        let message = message?;
        if message.codec != Codec::None {
            return Err(SetError::Nested);
        }
        if message.magic != wrapper.magic {
            return Err(SetError::MixedMagic);
        }
        push(builder, &message, if wrapper.is_stamped { wrapper.timestamp } else { message.timestamp })?;
    }
    if !messages.rest().is_empty() {
        return Err(SetError::CutWrapper);
    }
    if builder.is_empty() { Err(SetError::EmptyWrapper) } else { Ok(()) }
}

fn push(builder: &mut BatchBuilder, message: &OldMessage<'_>, timestamp: i64) -> Result<(), SetError> {
    let record = NewRecord { timestamp, key: message.key, value: message.value, headers: &[] };
    builder.push(&record).map_err(error_of)
}

fn error_of(error: BuildError) -> SetError {
    match error {
        BuildError::Compression(error) => SetError::Compression(error),
        BuildError::Empty => SetError::EmptyWrapper,
        BuildError::RecordTooLarge | BuildError::BatchTooLarge | BuildError::TooManyRecords => SetError::TooLarge,
    }
}

impl SetError {
    /// True where what a wrapper holds is more than the caller allows.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, SetError::TooLarge | SetError::Compression(CompressionError::TooLarge { .. }))
    }
}
