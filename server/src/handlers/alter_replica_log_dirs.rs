//! AlterReplicaLogDirs (key 34), versions 1 and 2: moves replicas to another directory of their broker (KIP-113).
//!
//! - There is one directory. Every replica is there already, which is a success, and there is no other to move to.
//! - Owner core: any.

use std::collections::BTreeMap;

use wire::error::ErrorCode;
use wire::messages::AlterReplicaLogDirsRequest;
use wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::Image;
use crate::services::Services;
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: AlterReplicaLogDirsRequest<'_> = request.decode()?;
    let services = Services::of(&shard);
    request.reply(&answer(&asked, &shard.image().clone(), &services.options.data_dir))
}

/// The answer of a broker whose one directory is `directory`.
#[must_use]
pub fn answer<'a>(
    request: &AlterReplicaLogDirsRequest<'a>,
    image: &Image,
    directory: &str,
) -> AlterReplicaLogDirsResponse<'a> {
    // The last directory that a partition is to move to counts.
    let mut wanted: BTreeMap<&'a str, BTreeMap<i32, &'a str>> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            let partitions = wanted.entry(topic.name).or_default();
            partitions.extend(topic.partitions.iter().map(|index| (*index, dir.path)));
        }
    }
    let moved = |topic: &str, index: i32, path: &str| {
        let found = image.topic(topic);
        let known = found.is_some_and(|it| usize::try_from(index).is_ok_and(|index| index < it.partitions.len()));
        let digits = index.to_string().len();
        if topic.len() + digits + MOVING_NAME_BYTES > FILE_NAME_BYTES {
            ErrorCode::InvalidTopicException
        } else if path != directory {
            ErrorCode::LogDirNotFound
        } else if known {
            ErrorCode::None
        } else {
            ErrorCode::UnknownTopicOrPartition
        }
    };
    let results = wanted.into_iter().map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult {
        topic_name,
        partitions: partitions
            .into_iter()
            .map(|(index, path)| AlterReplicaLogDirPartitionResult {
                partition_index: index,
                error_code: moved(topic_name, index, path).code(),
            })
            .collect(),
    });
    AlterReplicaLogDirsResponse { results: results.collect(), ..AlterReplicaLogDirsResponse::default() }
}

/// The longest name of a file.
const FILE_NAME_BYTES: usize = 255;

/// What Kafka adds to topic and partition while it moves a replica: `-`, `.` and a random id of 32 digits, `-future`.
const MOVING_NAME_BYTES: usize = 1 + 1 + 32 + 7;

#[cfg(test)]
mod tests {
    use wire::Message;
    use wire::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};

    use super::super::test_image::image;
    use super::*;

    #[test]
    fn there_is_one_directory() {
        let long = "a".repeat(249);
        let topic = |name, partitions: &[i32]| AlterReplicaLogDirTopic { name, partitions: partitions.to_vec() };
        let dir = |path, topics| AlterReplicaLogDir { path, topics };
        let request = AlterReplicaLogDirsRequest {
            dirs: vec![
                dir("/data", vec![topic("plain", &[0, 1, 3]), topic("nope", &[0])]),
                dir("/other", vec![topic("plain", &[1]), topic(&long, &[0])]),
            ],
        };
        let answer = answer(&request, &image(), "/data");
        for version in 1..=2 {
            answer.encode(&mut Vec::new(), version).unwrap();
        }
        let rows = answer
            .results
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|it| (topic.topic_name, it.partition_index, it.error_code)));
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [(&long[..], 0, 17), ("nope", 0, 3), ("plain", 0, 0), ("plain", 1, 57), ("plain", 3, 3)]
        );
    }
}
