//! ElectLeaders (key 43), versions 0 to 2. Elects leaders of partitions (KIP-183; KIP-460 for unclean ones).
//!
//! - Each partition has one replica, which leads it, so no election is ever needed: what is named is told so, and an
//!   election of everything has nothing to tell.
//! - Owner core: any.

use wire::error::ErrorCode;
use wire::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use wire::messages::elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult};

use super::admin::{Refusal, Texts};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::{Image, Partition};
use crate::shard::Shard;

/// The type of elections that make the preferred replica the leader.
const PREFERRED: i8 = 0;
/// The type of elections that make any replica the leader where there is none.
const UNCLEAN: i8 = 1;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: ElectLeadersRequest<'_> = request.decode()?;
    let (image, texts) = (shard.image().clone(), Texts::new());
    request.reply(&answer(&asked, request.version, &image, &texts))
}

/// The answer. Before version 1 there is one type of election.
#[must_use]
pub fn answer<'a>(
    request: &ElectLeadersRequest<'a>,
    version: i16,
    image: &'a Image,
    texts: &'a Texts,
) -> ElectLeadersResponse<'a> {
    let kind = if version == 0 { PREFERRED } else { request.election_type };
    let known_kind = [PREFERRED, UNCLEAN].contains(&kind);
    let (error_code, of_all) = match known_kind {
        true => (ErrorCode::None, None),
        false => (ErrorCode::InvalidRequest, Some(format!("Unknown election type {kind}"))),
    };
    let elect = |topic: &TopicPartitions<'a>| ReplicaElectionResult {
        topic: topic.topic,
        partition_result: topic
            .partitions
            .iter()
            .map(|index| {
                let refusal = match &of_all {
                    Some(sentence) => Refusal::new(error_code, sentence.clone()),
                    None => elect(topic.topic, *index, kind, image),
                };
                let (error_code, error_message) = refusal.parts(texts);
                PartitionResult { partition_id: *index, error_code, error_message }
            })
            .collect(),
    };
    let replica_election_results = match &request.topic_partitions {
        Some(topics) => topics.iter().map(elect).collect(),
        // Partitions that need no election are left out, and their topics are not.
        None if known_kind => {
            let topics = image.sorted_topics().into_iter();
            topics.map(|topic| ReplicaElectionResult { topic: &topic.name, partition_result: Vec::new() }).collect()
        }
        None => Vec::new(),
    };
    ElectLeadersResponse { error_code: error_code as i16, replica_election_results, ..ElectLeadersResponse::default() }
}

/// Why one partition gets no other leader.
fn elect(topic: &str, index: i32, kind: i8, image: &Image) -> Refusal {
    let unknown = |sentence: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, sentence);
    let Some(found) = image.topic(topic) else { return unknown(format!("No such topic as {topic}")) };
    let partition = usize::try_from(index).ok().and_then(|index| found.partitions.get(index));
    match partition {
        None => unknown(format!("No such partition as {topic}-{index}")),
        Some(partition) if is_led(partition, kind) => Refusal::plain(ErrorCode::ElectionNotNeeded),
        Some(_) if kind == PREFERRED => Refusal::plain(ErrorCode::PreferredLeaderNotAvailable),
        Some(_) => Refusal::plain(ErrorCode::EligibleLeadersNotAvailable),
    }
}

/// Whether a partition has the leader that an election would give it.
fn is_led(partition: &Partition, kind: i8) -> bool {
    match kind {
        PREFERRED => partition.replicas.first() == Some(&partition.leader),
        _ => partition.leader >= 0,
    }
}

#[cfg(test)]
mod tests {
    use wire::Message;

    use super::super::test_image::image;
    use super::*;

    fn elected(kind: i8, version: i16, topics: Option<Vec<TopicPartitions<'_>>>) -> (i16, Vec<(String, i32, i16)>) {
        let (image, texts) = (image(), Texts::new());
        let request = ElectLeadersRequest { election_type: kind, topic_partitions: topics, timeout_ms: 1000 };
        let answer = answer(&request, version, &image, &texts);
        answer.encode(&mut Vec::new(), version).unwrap();
        let rows = answer.replica_election_results.iter().flat_map(|topic| {
            topic.partition_result.iter().map(|it| (topic.topic.to_owned(), it.partition_id, it.error_code))
        });
        (answer.error_code, rows.collect())
    }

    #[test]
    fn every_partition_is_led_already() {
        let topics = || {
            let plain = TopicPartitions { topic: "plain", partitions: vec![0, 2, 3, -1] };
            Some(vec![plain, TopicPartitions { topic: "nope", partitions: vec![0] }])
        };
        let row = |topic: &str, index, code| (topic.to_owned(), index, code);
        let expected =
            [row("plain", 0, 84), row("plain", 2, 84), row("plain", 3, 3), row("plain", -1, 3), row("nope", 0, 3)];
        for (kind, version) in [(0, 0), (9, 0), (0, 1), (1, 2)] {
            assert_eq!(elected(kind, version, topics()), (0, expected.to_vec()), "{kind} {version}");
        }
        assert_eq!(elected(0, 2, None), (0, vec![]));
        let (code, rows) = elected(9, 2, topics());
        assert_eq!((code, rows.iter().all(|row| row.2 == 42)), (42, true));
    }
}
