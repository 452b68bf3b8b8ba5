//! ListOffsets, version 0: the offsets at which segments begin, newest first, and before them the end of the log. A client
//! asks for as many as it wants of those before a time.
//!
//! Where Kafka looks at the time at which a segment's file was written, the newest timestamp in it is used here: a file is
//! written more than once.

use wire::error::ErrorCode;
use wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::handlers::list_offsets::{CONSUMER, EARLIEST, LATEST};
use crate::handlers::places::{self, Place};
use crate::shard::Shard;

/// The first version that asks for one offset (KIP-79).
pub(crate) const ONE_OFFSET_FROM: i16 = 1;

/// What is asked of a partition.
#[derive(Debug, Clone, Copy)]
struct Question {
    timestamp: i64,
    count: usize,
    /// A replica may see beyond the high watermark.
    from_client: bool,
}

/// Answers a request.
pub(crate) async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: ListOffsetsRequest<'_> = request.decode()?;
    let from_client = asked.replica_id == CONSUMER;
    let questions = asked
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic.name, partition)))
        .map(|(topic, partition)| {
            let count = usize::try_from(partition.max_num_offsets).unwrap_or(0);
            let question = Question { timestamp: partition.timestamp, count, from_client };
            places::find(&shard, topic, partition.partition_index).map(|place| (place, question))
        })
        .collect();
    let mut answers = places::ask(&shard, questions, answer).await.into_iter();
    let topics = asked
        .topics
        .iter()
        .map(|topic| ListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(answers.by_ref())
                .map(|(partition, answer)| {
                    let (offsets, error) =
                        answer.map_or_else(|error| (Vec::new(), error), |offsets| (offsets, ErrorCode::None));
                    ListOffsetsPartitionResponse {
                        partition_index: partition.partition_index,
                        error_code: error.code(),
                        old_style_offsets: offsets,
                        ..ListOffsetsPartitionResponse::default()
                    }
                })
                .collect(),
        })
        .collect();
    request.reply(&ListOffsetsResponse { topics, ..ListOffsetsResponse::default() })
}

async fn answer(shard: Shard, place: Place, asked: Question) -> Result<Vec<i64>, ErrorCode> {
    let starts = shard.store().segment_starts(place.slot).await;
    let starts = starts.map_err(|error| shard.read_failed(place.slot, &error, ErrorCode::OffsetNotAvailable))?;
    let info = shard.store().info(place.slot).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let visible_end = if asked.from_client { info.high_watermark } else { info.log_end };
    Ok(offsets(&starts, info.log_start, info.log_end, visible_end, shard.reactor().unix_ms(), asked))
}

/// The offsets asked for, newest first. `starts` are the segments with records, oldest first, each with its newest timestamp.
fn offsets(
    starts: &[(i64, i64)],
    log_start: i64,
    log_end: i64,
    visible_end: i64,
    now_ms: i64,
    asked: Question,
) -> Vec<i64> {
    let mut points = starts.to_vec();
    match points.is_empty() {
        // An empty log has its one segment, which begins where the log does.
        true => points.push((log_start, now_ms)),
        false => points.push((log_end, now_ms)),
    }
    let before = match asked.timestamp {
        LATEST => points.len(),
        EARLIEST => 1,
        time => points.iter().rposition(|(_, newest_ms)| *newest_ms <= time).map_or(0, |at| at + 1),
    };
    let chosen: Vec<i64> = points[..before].iter().rev().take(asked.count).map(|(offset, _)| *offset).collect();
    let hidden = chosen.iter().take_while(|offset| **offset > visible_end).count();
    match hidden {
        0 => chosen,
        _ => std::iter::once(visible_end).chain(chosen[hidden..].iter().copied()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1000;
    const STARTS: [(i64, i64); 3] = [(5, 100), (10, 200), (20, 300)];

    fn ask(timestamp: i64, count: usize) -> Question {
        Question { timestamp, count, from_client: true }
    }

    #[test]
    fn the_newest_come_first() {
        let of = |timestamp, count| offsets(&STARTS, 5, 25, 25, NOW, ask(timestamp, count));
        assert_eq!(of(LATEST, 1), [25]);
        assert_eq!(of(LATEST, 3), [25, 20, 10]);
        assert_eq!(of(LATEST, 9), [25, 20, 10, 5]);
        assert_eq!(of(EARLIEST, 9), [5]);
        assert_eq!(of(250, 9), [10, 5]);
        assert_eq!(of(200, 1), [10]);
        assert_eq!(of(NOW, 2), [25, 20]);
        assert_eq!(of(99, 9), [0i64; 0]);
        assert_eq!(of(LATEST, 0), [0i64; 0]);
    }

    #[test]
    fn what_is_not_committed_is_not_seen() {
        assert_eq!(offsets(&STARTS, 5, 25, 22, NOW, ask(LATEST, 2)), [22, 20]);
        assert_eq!(offsets(&STARTS, 5, 25, 15, NOW, ask(LATEST, 3)), [15, 10]);
    }

    #[test]
    fn an_empty_log_ends_where_it_begins() {
        assert_eq!(offsets(&[], 7, 7, 7, NOW, ask(LATEST, 5)), [7]);
        assert_eq!(offsets(&[], 7, 7, 7, NOW, ask(EARLIEST, 5)), [7]);
    }
}
