//! ListOffsets (key 2), versions 0 to 11: the offset that a timestamp, or one of the named points of a log, stands for.
//! Each partition's owner answers for it.
//!
//! Version 0 asks for several offsets, see `legacy`.
//!
//! There is no tiered storage, so the earliest local offset is the earliest, and what is tiered ends before the first.

use std::collections::HashSet;

use engine::{ReadData, ReadError};
use wire::batch::{BatchView, Record};
use wire::error::ErrorCode;
use wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::epochs::check_epoch;
use super::legacy;
use super::places::{self, Place};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::limits::DECOMPRESSED_BYTES;
use crate::shard::Shard;

/// Timestamps that stand for points of a log (`ListOffsetsRequest` in Kafka), and the version from which they do.
pub(super) const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
const SINCE: [(i64, i16); 6] = [
    (LATEST, 1),
    (EARLIEST, 1),
    (MAX_TIMESTAMP, 7),
    (EARLIEST_LOCAL, 8),
    (LATEST_TIERED, 9),
    (EARLIEST_PENDING_UPLOAD, 11),
];

/// The first version whose answers have a leader epoch (KIP-320).
const EPOCHS_FROM: i16 = 4;

/// The replica id of a client.
pub(super) const CONSUMER: i32 = -1;

/// What is asked of a partition.
#[derive(Debug, Clone, Copy)]
struct Question {
    known_epoch: i32,
    timestamp: i64,
    reader: Reader,
}

/// Where a reader's view of a log ends.
#[derive(Debug, Clone, Copy)]
enum Reader {
    /// At the log's end.
    Replica,
    /// At the high watermark.
    Uncommitted,
    /// At the last stable offset.
    Committed,
}

/// What it answers. All -1 when no record is that late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found { timestamp: -1, offset: -1, leader_epoch: -1 };

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    if request.version < legacy::list_offsets::ONE_OFFSET_FROM {
        return legacy::list_offsets::handle(shard, request).await;
    }
    let asked: ListOffsetsRequest<'_> = request.decode()?;
    let reader = match (asked.replica_id, asked.isolation_level) {
        (CONSUMER, 0) => Ok(Reader::Uncommitted),
        (CONSUMER, 1) => Ok(Reader::Committed),
        // There are no more levels of isolation.
        (CONSUMER, _) => Err(ErrorCode::InvalidRequest),
        _ => Ok(Reader::Replica),
    };
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &asked.topics {
        for partition in &topic.partitions {
            let key = (topic.name, partition.partition_index);
            if !seen.insert(key) {
                twice.insert(key);
            }
        }
    }
    let mut questions = Vec::new();
    for topic in &asked.topics {
        for partition in &topic.partitions {
            let timestamp = partition.timestamp;
            let is_known =
                timestamp >= 0 || SINCE.iter().any(|(of, since)| *of == timestamp && request.version >= *since);
            let place = places::find(&shard, topic.name, partition.partition_index);
            let known_epoch = partition.current_leader_epoch;
            questions.push(if twice.contains(&(topic.name, partition.partition_index)) {
                Err(ErrorCode::InvalidRequest)
            } else if !is_known {
                Err(ErrorCode::UnsupportedVersion)
            } else {
                place.and_then(|place| Ok((place, Question { known_epoch, timestamp, reader: reader? })))
            });
        }
    }
    let mut answers = places::ask(&shard, questions, answer).await.into_iter();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let answered = topic.partitions.iter().zip(answers.by_ref());
        let partitions = answered
            .map(|(partition, answer)| {
                let (found, error) = answer.map_or_else(|error| (NOTHING, error), |found| (found, ErrorCode::None));
                ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: if request.version >= EPOCHS_FROM { found.leader_epoch } else { -1 },
                    ..ListOffsetsPartitionResponse::default()
                }
            })
            .collect();
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    request.reply(&ListOffsetsResponse { topics, ..ListOffsetsResponse::default() })
}

async fn answer(shard: Shard, place: Place, asked: Question) -> Result<Found, ErrorCode> {
    check_epoch(asked.known_epoch, place.leader_epoch)?;
    let info = || shard.store().info(place.slot).ok_or(ErrorCode::UnknownTopicOrPartition);
    let log_start = info()?.log_start;
    let visible_end = || {
        info().map(|info| match asked.reader {
            Reader::Replica => info.log_end,
            Reader::Uncommitted => info.high_watermark,
            Reader::Committed => info.last_stable,
        })
    };
    let failed = |error: ReadError| shard.read_failed(place.slot, &error, ErrorCode::OffsetNotAvailable);
    let point = |offset: i64, leader_epoch: i32| Found { timestamp: -1, offset, leader_epoch };
    match asked.timestamp {
        LATEST => Ok(point(visible_end()?, place.leader_epoch)),
        EARLIEST | EARLIEST_LOCAL => Ok(point(log_start, epoch_at(&shard, place, log_start))),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOTHING),
        MAX_TIMESTAMP => {
            let newest_from = async |from| {
                let batch = shard.store().batch_of_max_time(place.slot, from).await.map_err(failed)?;
                let newest = |batch: &ReadData| find(batch, Pick::Newest, |record| record.offset >= log_start);
                Ok(batch.map(|batch| (newest(&batch), batch)))
            };
            let mut found = newest_from(log_start).await?;
            // The log may start within a batch, behind the record that makes it the newest one.
            if let Some((first, batch)) = &found
                && starts_before(batch, log_start)
                && let Some(end) = batch.end_offset()
                && let Some((next, batch)) = newest_from(end).await?
                && next.map(|it| it.timestamp) > first.map(|it| it.timestamp)
            {
                found = Some((next, batch));
            }
            let visible_end = visible_end()?;
            let newest = found.and_then(|(newest, _)| newest).filter(|found| found.offset < visible_end);
            Ok(newest.unwrap_or(NOTHING))
        }
        timestamp => {
            let mut from = log_start;
            // The log may start within a batch, behind the record that makes the batch late enough.
            while let Some(batch) = shard.store().batch_at_time(place.slot, from, timestamp).await.map_err(failed)? {
                let wanted = |record: &Record<'_>| record.timestamp >= timestamp && record.offset >= log_start;
                if let Some(found) = find(&batch, Pick::First, wanted) {
                    let visible_end = visible_end()?;
                    return Ok(if found.offset < visible_end { found } else { NOTHING });
                }
                let Some(end) = batch.end_offset() else { break };
                from = end;
            }
            Ok(NOTHING)
        }
    }
}

/// The epoch of the record at an offset, or of the next one to be written.
fn epoch_at(shard: &Shard, place: Place, offset: i64) -> i32 {
    let mut epoch = place.leader_epoch;
    while let Some((earlier, end)) = shard.store().end_of_epoch(place.slot, epoch - 1) {
        if end <= offset || earlier >= epoch {
            break;
        }
        epoch = earlier;
    }
    epoch
}

/// Which of the records that are wanted.
#[derive(Debug, Clone, Copy)]
enum Pick {
    First,
    /// By its timestamp; of those with one timestamp the first.
    Newest,
}

/// A record of a batch.
fn find(data: &ReadData, pick: Pick, wanted: impl Fn(&Record<'_>) -> bool) -> Option<Found> {
    let batch = BatchView::parse(data.slices.first()?.as_bytes()).ok()?;
    let mut scratch = Vec::new();
    let body = batch.decompress(DECOMPRESSED_BYTES, &mut scratch).ok()?;
    let mut records = batch.records_in(body).flatten().filter(wanted);
    let record = match pick {
        Pick::First => records.next()?,
        Pick::Newest => records.reduce(|newest, it| if it.timestamp > newest.timestamp { it } else { newest })?,
    };
    Some(Found { timestamp: record.timestamp, offset: record.offset, leader_epoch: batch.leader_epoch() })
}

fn starts_before(data: &ReadData, offset: i64) -> bool {
    let batch = data.slices.first().and_then(|slice| BatchView::parse(slice.as_bytes()).ok());
    batch.is_some_and(|batch| batch.base_offset() < offset)
}
