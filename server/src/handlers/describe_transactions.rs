//! DescribeTransactions (key 65), version 0. The state of transactional ids, for tools (KIP-664).
//!
//! - Owner core: that of each id.

use wire::error::ErrorCode;
use wire::messages::describe_transactions_response::{TopicData, TransactionState};
use wire::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::shard::Shard;
use crate::transaction::service;
use crate::transaction::state::State;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeTransactionsRequest<'_> = request.decode()?;
    let mut found: Vec<(&str, Result<State, ErrorCode>)> = Vec::with_capacity(asked.transactional_ids.len());
    for id in &asked.transactional_ids {
        found.push((id, service::describe(&shard, (*id).into()).await));
    }
    let states = found.iter().map(|(id, state)| match state {
        Ok(state) => described(id, state),
        Err(error) => {
            TransactionState { error_code: error.code(), transactional_id: id, ..TransactionState::default() }
        }
    });
    request.reply(&DescribeTransactionsResponse {
        transaction_states: states.collect(),
        ..DescribeTransactionsResponse::default()
    })
}

fn described<'a>(id: &'a str, state: &'a State) -> TransactionState<'a> {
    let mut topics: Vec<TopicData<'a>> = Vec::new();
    for (topic, partition) in &state.partitions {
        match topics.last_mut() {
            Some(last) if last.topic == &**topic => last.partitions.push(*partition),
            _ => topics.push(TopicData { topic, partitions: vec![*partition] }),
        }
    }
    TransactionState {
        error_code: ErrorCode::None.code(),
        transactional_id: id,
        transaction_state: state.phase.name(),
        transaction_timeout_ms: state.timeout_ms,
        transaction_start_time_ms: state.started_ms,
        producer_id: state.producer.id,
        producer_epoch: state.producer.epoch,
        topics,
    }
}
