//! AddPartitionsToTxn (key 24), versions 0 to 5. Partitions join a transaction before its records do (KIP-98).
//!
//! - Up to version 3 it comes from a producer and names one transaction. Versions 4 and 5 are for brokers that lead a
//!   partition and ask for several transactions at once (KIP-890): to add, or only to verify.
//! - A partition that does not exist refuses all of its transaction; the others are told OPERATION_NOT_ATTEMPTED.
//! - Owner core: that of each transactional id.

use std::collections::BTreeSet;

use wire::error::ErrorCode;
use wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use wire::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::init_producer_id::fenced;
use super::places;
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::shard::Shard;
use crate::transaction::machine::{Intent, Join};
use crate::transaction::service;
use crate::transaction::state::{ClientVersion, Partition, Producer};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;
/// The first version for brokers, with several transactions.
const SEVERAL_FROM: i16 = 4;

/// What is asked for one transaction.
struct Asked<'a> {
    transactional_id: &'a str,
    producer: Producer,
    intent: Intent,
    topics: &'a [AddPartitionsToTxnTopic<'a>],
}

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: AddPartitionsToTxnRequest<'_> = request.decode()?;
    let version = request.version;
    if version < SEVERAL_FROM {
        let one = Asked {
            transactional_id: asked.v3_and_below_transactional_id,
            producer: Producer { id: asked.v3_and_below_producer_id, epoch: asked.v3_and_below_producer_epoch },
            intent: Intent::Add(ClientVersion::V1),
            topics: &asked.v3_and_below_topics,
        };
        let results_by_topic_v3_and_below = join(&shard, &one, version).await;
        return request.reply(&AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below,
            ..AddPartitionsToTxnResponse::default()
        });
    }
    let mut results = Vec::with_capacity(asked.transactions.len());
    for one in &asked.transactions {
        let one = Asked {
            transactional_id: one.transactional_id,
            producer: Producer { id: one.producer_id, epoch: one.producer_epoch },
            intent: if one.verify_only { Intent::Verify } else { Intent::Add(ClientVersion::V2) },
            topics: &one.topics,
        };
        let topic_results = join(&shard, &one, version).await;
        results.push(AddPartitionsToTxnResult { transactional_id: one.transactional_id, topic_results });
    }
    request
        .reply(&AddPartitionsToTxnResponse { results_by_transaction: results, ..AddPartitionsToTxnResponse::default() })
}

async fn join<'a>(shard: &Shard, asked: &Asked<'a>, version: i16) -> Vec<AddPartitionsToTxnTopicResult<'a>> {
    let exists = |topic: &str, partition| places::find(shard, topic, partition).is_ok();
    let all_exist = asked.topics.iter().all(|topic| topic.partitions.iter().all(|it| exists(topic.name, *it)));
    if !all_exist {
        return results(asked.topics, |topic, partition| match exists(topic, partition) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        });
    }
    let partitions: BTreeSet<Partition> = asked
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.into(), *partition)))
        .collect();
    let wanted = Join {
        transactional_id: asked.transactional_id.into(),
        producer: asked.producer,
        partitions,
        intent: asked.intent,
    };
    match service::join(shard, wanted).await {
        Ok(missing) => results(asked.topics, |topic, partition| {
            match missing.iter().any(|(name, number)| &**name == topic && *number == partition) {
                false => ErrorCode::None,
                true => ErrorCode::TransactionAbortable,
            }
        }),
        Err(error) => results(asked.topics, |_, _| fenced(error, version, FENCED_FROM)),
    }
}

fn results<'a>(
    topics: &'a [AddPartitionsToTxnTopic<'a>],
    error: impl Fn(&str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult<'a>> {
    let of_topic = |topic: &'a AddPartitionsToTxnTopic<'a>| AddPartitionsToTxnTopicResult {
        name: topic.name,
        results_by_partition: topic
            .partitions
            .iter()
            .map(|partition| AddPartitionsToTxnPartitionResult {
                partition_index: *partition,
                partition_error_code: error(topic.name, *partition).code(),
            })
            .collect(),
    };
    topics.iter().map(of_topic).collect()
}
