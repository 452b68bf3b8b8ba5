//! DescribeTopicPartitions (key 75), version 0. Topics with their partitions, a page at a time (KIP-966).
//!
//! - Topics are described by name, in order; no topics in the request means all of them. A page holds as many
//!   partitions as the client wants, at most `max.request.partition.size.limit` and at least one. The cursor says where
//!   the next page begins.
//! - A topic that does not exist takes no room on the page.
//! - Owner core: any.

use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use super::admin::{OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, check_topic_name};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::{INTERNAL_TOPICS, Image, Partition};
use crate::services::Services;
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeTopicPartitionsRequest<'_> = request.decode()?;
    let image = shard.image().clone();
    request.reply(&answer(&asked, &image, Services::of(&shard).options.described_partitions))
}

/// The page that the request asks for. `limit` is the most partitions that the operator allows on it.
#[must_use]
pub fn answer<'a>(
    request: &DescribeTopicPartitionsRequest<'a>,
    image: &'a Image,
    limit: u32,
) -> DescribeTopicPartitionsResponse<'a> {
    let all = request.topics.is_empty();
    let mut names: Vec<&'a str> = if all {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| topic.name).collect()
    };
    names.sort_unstable();
    names.dedup();
    let mut first = 0;
    if let Some(cursor) = &request.cursor {
        // A topic that has been deleted since the last page may be passed over, but not one that was never asked for.
        let known = all || names.binary_search(&cursor.topic_name).is_ok();
        let Some(index) = usize::try_from(cursor.partition_index).ok().filter(|_| known) else {
            return refuse_all(request);
        };
        names.drain(..names.partition_point(|name| *name < cursor.topic_name));
        if names.first() == Some(&cursor.topic_name) {
            first = index;
        }
    }
    let wanted = usize::try_from(request.response_partition_limit).unwrap_or(0).max(1);
    let mut room = wanted.min(limit as usize);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if room == 0 {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = image.topic(name) else {
            let code =
                check_topic_name(name).map_or_else(|refusal| refusal.code, |()| ErrorCode::UnknownTopicOrPartition);
            response.topics.push(refuse(name, code, TOPIC_OPERATIONS));
            continue;
        };
        let described = topic.partitions.iter().enumerate().skip(first).take(room);
        let partitions: Vec<_> = described.map(|(index, partition)| describe(index, partition)).collect();
        let next = first + partitions.len();
        room -= partitions.len();
        first = 0;
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None as i16,
            name: Some(name),
            topic_id: topic.id,
            is_internal: topic.internal,
            partitions,
            topic_authorized_operations: TOPIC_OPERATIONS,
        });
        if next < topic.partitions.len() {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: number(next) });
            break;
        }
    }
    response
}

fn refuse_all<'a>(request: &DescribeTopicPartitionsRequest<'a>) -> DescribeTopicPartitionsResponse<'a> {
    let refused = |name| refuse(name, ErrorCode::InvalidRequest, OPERATIONS_NOT_ASKED);
    DescribeTopicPartitionsResponse {
        topics: request.topics.iter().map(|topic| refused(topic.name)).collect(),
        ..DescribeTopicPartitionsResponse::default()
    }
}

fn refuse(name: &str, code: ErrorCode, operations: i32) -> DescribeTopicPartitionsResponseTopic<'_> {
    DescribeTopicPartitionsResponseTopic {
        error_code: code as i16,
        name: Some(name),
        topic_id: Uuid::ZERO,
        is_internal: INTERNAL_TOPICS.contains(&name),
        partitions: Vec::new(),
        topic_authorized_operations: operations,
    }
}

fn describe(index: usize, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let code = if partition.leader < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
    DescribeTopicPartitionsResponsePartition {
        error_code: code as i16,
        partition_index: number(index),
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    }
}

/// Partitions are numbered with 31 bits in the protocol, so every index fits.
fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use wire::Message;
    use wire::messages::describe_topic_partitions_request::{self, TopicRequest};

    use super::super::test_image::image;
    use super::*;

    type Page = (Vec<(i16, String, Vec<i32>)>, Option<(String, i32)>);

    fn page(topics: &[&str], wanted: i32, cursor: Option<(&str, i32)>) -> Page {
        let image = image();
        let request = DescribeTopicPartitionsRequest {
            topics: topics.iter().map(|name| TopicRequest { name }).collect(),
            response_partition_limit: wanted,
            cursor: cursor.map(|(topic_name, partition_index)| describe_topic_partitions_request::Cursor {
                topic_name,
                partition_index,
            }),
        };
        let answer = answer(&request, &image, 4);
        answer.encode(&mut Vec::new(), 0).unwrap();
        let topic = |it: &DescribeTopicPartitionsResponseTopic<'_>| {
            let partitions = it.partitions.iter().map(|partition| partition.partition_index).collect();
            (it.error_code, it.name.unwrap_or_default().to_owned(), partitions)
        };
        let next = answer.next_cursor.map(|cursor| (cursor.topic_name.to_owned(), cursor.partition_index));
        (answer.topics.iter().map(topic).collect(), next)
    }

    fn topic(code: i16, name: &str, partitions: &[i32]) -> (i16, String, Vec<i32>) {
        (code, name.to_owned(), partitions.to_vec())
    }

    fn next(name: &str, partition: i32) -> Option<(String, i32)> {
        Some((name.to_owned(), partition))
    }

    #[test]
    fn pages_follow_each_other() {
        let (plain, conf) = ("plain", "configured");
        let first = (vec![topic(0, conf, &[0]), topic(0, plain, &[0])], next(plain, 1));
        assert_eq!(page(&[plain, conf, plain], 2, None), first);
        assert_eq!(page(&[plain, conf], 2, Some((plain, 1))), (vec![topic(0, plain, &[1, 2])], None));
        assert_eq!(page(&[plain, conf], 1, None), (vec![topic(0, conf, &[0])], next(plain, 0)));
        assert_eq!(page(&[plain, conf], 4, None), (vec![topic(0, conf, &[0]), topic(0, plain, &[0, 1, 2])], None));
        assert_eq!(page(&[plain], 0, None), (vec![topic(0, plain, &[0])], next(plain, 1)), "at least one");
        assert_eq!(page(&[plain], 3, Some((plain, 7))), (vec![topic(0, plain, &[])], None));
    }

    #[test]
    fn all_topics_are_paged_up_to_the_operators_limit() {
        let (topics, cursor) = page(&[], 2000, None);
        assert_eq!(
            topics,
            [
                topic(0, "__consumer_offsets", &[0]),
                topic(0, "configured", &[0]),
                topic(0, "dot.ted", &[0]),
                topic(0, "plain", &[0])
            ]
        );
        assert_eq!(cursor, next("plain", 1));
        assert_eq!(page(&[], 2000, Some(("plain", 1))), (vec![topic(0, "plain", &[1, 2])], None));
        // A topic that is gone: the next one follows from its beginning.
        assert_eq!(page(&[], 1, Some(("middle", 5))), (vec![topic(0, "plain", &[0])], next("plain", 1)));
    }

    #[test]
    fn what_is_unknown_takes_no_room() {
        let expected = (vec![topic(17, "a b", &[]), topic(3, "nope", &[]), topic(0, "plain", &[0])], next("plain", 1));
        assert_eq!(page(&["plain", "nope", "a b", "zz"], 1, None), expected);
        assert_eq!(page(&["configured", "zz"], 1, None), (vec![topic(0, "configured", &[0])], next("zz", 0)));
    }

    #[test]
    fn a_cursor_must_be_one_of_ours() {
        for cursor in [("plain", -1), ("gone", 1)] {
            let expected = (vec![topic(42, "plain", &[]), topic(42, "configured", &[])], None);
            assert_eq!(page(&["plain", "configured"], 3, Some(cursor)), expected);
        }
    }
}
