//! Fetch, versions 0 to 3: batches become message sets, of magic 0 up to version 1 and of magic 1 from 2 on.
//!
//! One batch is converted in a turn of the core, and an answer has at most
//! [`CONVERTED_FETCH_BYTES`](crate::limits::CONVERTED_FETCH_BYTES): what is more comes with the next request. Where Kafka
//! gave a client of version 2 and older a part of a message that is larger than it asked for, it gets the whole one here.
//! Control batches are passed over, headers are dropped, and Zstandard is refused.

use engine::ReadData;
use engine::cache::Slice;
use wire::batch::{BatchError, Batches};
use wire::compression::CompressionError;
use wire::error::ErrorCode;
use wire::message_set::{Down, Magic, from_batch};

use crate::handlers::fetch_session::Wanted;
use crate::limits::DECOMPRESSED_BYTES;
use crate::shard::Shard;

/// The first version that carries messages of magic 1.
const MAGIC_1_FROM: i16 = 2;

/// The first version that has a limit for the whole answer. Its clients put another partition first each time (KIP-74).
const MAX_BYTES_FROM: i16 = 3;

/// What became of a partition's batches.
#[derive(Debug)]
pub(crate) enum Converted {
    /// A message set.
    Set(ReadData),
    /// No message: they were control batches, and the log goes on at this offset.
    Nothing {
        /// The offset behind the last of them.
        next: i64,
    },
}

/// Converts the batches of one partition, which were read from `offset` on, to a set of about `room` bytes. The first
/// message comes whatever its size.
pub(crate) async fn convert(
    shard: &Shard,
    data: &ReadData,
    version: i16,
    offset: i64,
    room: usize,
) -> Result<Converted, ErrorCode> {
    let magic = if version < MAGIC_1_FROM { Magic::V0 } else { Magic::V1 };
    let mut set = Vec::new();
    let mut next = offset;
    'all: for slice in &data.slices {
        for batch in Batches::new(slice.as_bytes()) {
            let batch = batch.map_err(|_| ErrorCode::CorruptMessage)?;
            match from_batch(&batch, magic, offset, room, DECOMPRESSED_BYTES, &mut set) {
                Ok(Down::Whole) => next = batch.last_offset().wrapping_add(1),
                Ok(Down::Full) => break 'all,
                // What is before it can be read; the error comes when it is asked for.
                Err(_) if !set.is_empty() => break 'all,
                Err(error) => return Err(error_of(&error)),
            }
            shard.reactor().end_of_turn().await;
        }
    }
    if set.is_empty() {
        return Ok(Converted::Nothing { next });
    }
    let slice = Slice::copied(&set);
    Ok(Converted::Set(ReadData { bytes: slice.len(), slices: vec![slice] }))
}

/// Puts another partition first, by chance, where the client does not do it: else one with much to read would keep those
/// behind it from being read at all. The partitions of a topic stay together.
pub(crate) fn rotate(wanted: &mut [Wanted], version: i16, random: u64) {
    if version >= MAX_BYTES_FROM || wanted.is_empty() {
        return;
    }
    let at = (random % wanted.len() as u64) as usize;
    let topic = wanted[at].topic.clone();
    let start = wanted[..at].iter().rposition(|before| before.topic != topic).map_or(0, |before| before + 1);
    let len = wanted[start..].iter().take_while(|one| one.topic == topic).count();
    wanted[start..start + len].rotate_left(at - start);
    wanted.rotate_left(start);
}

fn error_of(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
        BatchError::Compression(CompressionError::TooLarge { .. }) => ErrorCode::MessageTooLarge,
        _ => ErrorCode::CorruptMessage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::fetch_session::TopicRef;

    #[test]
    fn every_partition_comes_first_at_some_time_and_topics_stay_together() {
        let name = |name: &str| TopicRef::from(wire::fetch::TopicRef::Name(name));
        let wanted: Vec<Wanted> = [("a", 0), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]
            .into_iter()
            .map(|(topic, partition)| Wanted {
                topic: name(topic),
                partition,
                offset: 0,
                max_bytes: 1,
                leader_epoch: -1,
                last_fetched_epoch: -1,
            })
            .collect();
        for (random, first) in wanted.iter().enumerate() {
            let mut rotated = wanted.clone();
            rotate(&mut rotated, 2, random as u64);
            assert_eq!((&rotated[0].topic, rotated[0].partition), (&first.topic, first.partition));
            assert_eq!(rotated.chunk_by(|a, b| a.topic == b.topic).count(), 3);
            let mut sorted: Vec<_> = rotated.iter().map(|one| (one.topic.clone(), one.partition)).collect();
            sorted.sort_by_key(|(topic, partition)| (format!("{topic:?}"), *partition));
            assert!(sorted.iter().zip(&wanted).all(|(a, b)| *a == (b.topic.clone(), b.partition)));
            let mut same = wanted.clone();
            rotate(&mut same, 3, random as u64);
            assert_eq!(same[0].topic, wanted[0].topic);
        }
        rotate(&mut [], 0, 7);
    }
}
