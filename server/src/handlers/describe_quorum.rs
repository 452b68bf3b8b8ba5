//! DescribeQuorum (key 55), versions 0 to 2: who decides about the metadata (KIP-595; KIP-853 for directories).
//!
//! - This node alone does. Its log ends where the catalog ends, and is in the data directory. It has no listener for
//!   controllers, so version 2 tells of none.
//! - Owner core: 0.

use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::describe_quorum_request::DescribeQuorumRequest;
use wire::messages::describe_quorum_response::{DescribeQuorumResponse, Node, PartitionData, ReplicaState, TopicData};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::{CATALOG_TOPIC, Image};
use crate::services::Services;
use crate::shard::Shard;

/// Answers a request. On core 0.
pub async fn handle(core0: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeQuorumRequest<'_> = request.decode()?;
    let directory = Services::of(&core0).controller().directory();
    let now_ms = core0.reactor().unix_ms();
    request.reply(&answer(&asked, request.version, &core0.image(), directory, now_ms))
}

/// The answer at a time, in milliseconds since the epoch. Directories have ids from version 2.
#[must_use]
pub fn answer<'a>(
    request: &DescribeQuorumRequest<'a>,
    version: i16,
    image: &Image,
    directory: Uuid,
    now_ms: i64,
) -> DescribeQuorumResponse<'a> {
    let is_catalog = match request.topics.as_slice() {
        [topic] if topic.topic_name == CATALOG_TOPIC => match topic.partitions.as_slice() {
            [partition] => partition.partition_index == 0,
            _ => false,
        },
        _ => false,
    };
    let partition = |index: i32| {
        if !is_catalog {
            let code = ErrorCode::UnknownTopicOrPartition;
            return PartitionData {
                partition_index: index,
                error_code: code.code(),
                error_message: Some(code.message()),
                ..PartitionData::default()
            };
        }
        let end = i64::try_from(image.applied()).unwrap_or(i64::MAX);
        let voter = ReplicaState {
            replica_id: image.node_id(),
            replica_directory_id: if version >= 2 { directory } else { Uuid::ZERO },
            log_end_offset: end,
            last_fetch_timestamp: now_ms,
            last_caught_up_timestamp: now_ms,
        };
        PartitionData {
            partition_index: index,
            leader_id: image.node_id(),
            leader_epoch: LEADER_EPOCH,
            high_watermark: end,
            current_voters: vec![voter],
            ..PartitionData::default()
        }
    };
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name,
        partitions: topic.partitions.iter().map(|it| partition(it.partition_index)).collect(),
    });
    let node = Node { node_id: image.node_id(), listeners: Vec::new() };
    DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: if is_catalog && version >= 2 { vec![node] } else { Vec::new() },
        ..DescribeQuorumResponse::default()
    }
}

/// The first epoch that has a leader: the catalog has had one leader from the beginning.
const LEADER_EPOCH: i32 = 1;

#[cfg(test)]
mod tests {
    use wire::Message;
    use wire::messages::describe_quorum_request;

    use super::super::test_image::image;
    use super::*;

    fn asked<'a>(topics: &[(&'a str, &[i32])]) -> DescribeQuorumRequest<'a> {
        let partition = |index: &i32| describe_quorum_request::PartitionData { partition_index: *index };
        let topic = |it: &(&'a str, &[i32])| describe_quorum_request::TopicData {
            topic_name: it.0,
            partitions: it.1.iter().map(partition).collect(),
        };
        DescribeQuorumRequest { topics: topics.iter().map(topic).collect() }
    }

    #[test]
    fn this_node_decides_alone() {
        let image = image();
        let request = asked(&[(CATALOG_TOPIC, &[0])]);
        for version in 0..=2 {
            answer(&request, version, &image, Uuid([9; 16]), 5).encode(&mut Vec::new(), version).unwrap();
        }
        let answered = answer(&request, 2, &image, Uuid([9; 16]), 5);
        let partition = &answered.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id, partition.current_voters.len()), (0, 1, 1));
        assert_eq!(partition.high_watermark, partition.current_voters[0].log_end_offset);
        assert!(partition.high_watermark > 0);
        assert_eq!(partition.current_voters[0].replica_directory_id, Uuid([9; 16]));
        assert_eq!(answered.nodes.len(), 1);
    }

    #[test]
    fn nothing_else_has_a_quorum() {
        let image = image();
        let cases: [&[(&str, &[i32])]; 4] = [
            &[("plain", &[0])],
            &[(CATALOG_TOPIC, &[1])],
            &[(CATALOG_TOPIC, &[0, 1])],
            &[(CATALOG_TOPIC, &[0]), ("plain", &[0])],
        ];
        for topics in cases {
            let answered = answer(&asked(topics), 2, &image, Uuid([9; 16]), 5);
            let codes = answered.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code);
            assert!(codes.into_iter().all(|code| code == 3), "{topics:?}");
            assert!(answered.nodes.is_empty());
        }
        assert!(answer(&asked(&[]), 2, &image, Uuid([9; 16]), 5).topics.is_empty());
    }
}
