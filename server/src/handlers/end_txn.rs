//! EndTxn (key 26), versions 0 to 5. Commits or aborts a transaction (KIP-98).
//!
//! - The answer comes when the decision is durable; the partitions are told afterwards.
//! - From version 5 the client speaks transaction version 2 (KIP-890): the end takes an epoch, and the answer says which
//!   one the next transaction has.
//! - Owner core: that of the transactional id.

use wire::error::ErrorCode;
use wire::messages::{EndTxnRequest, EndTxnResponse};

use super::init_producer_id::fenced;
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::shard::Shard;
use crate::transaction::machine::End;
use crate::transaction::service;
use crate::transaction::state::{ClientVersion, Outcome, Producer};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;
/// The first version of clients that speak transaction version 2.
const BUMPS_FROM: i16 = 5;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: EndTxnRequest<'_> = request.decode()?;
    let client = if request.version >= BUMPS_FROM { ClientVersion::V2 } else { ClientVersion::V1 };
    let end = End {
        transactional_id: asked.transactional_id.into(),
        producer: Producer { id: asked.producer_id, epoch: asked.producer_epoch },
        outcome: if asked.committed { Outcome::Commit } else { Outcome::Abort },
        client,
    };
    let response = match service::end(&shard, end).await {
        Ok(producer) if client == ClientVersion::V2 => {
            EndTxnResponse { producer_id: producer.id, producer_epoch: producer.epoch, ..EndTxnResponse::default() }
        }
        Ok(_) => EndTxnResponse::default(),
        Err(error) => EndTxnResponse {
            error_code: fenced(error, request.version, FENCED_FROM).code(),
            ..EndTxnResponse::default()
        },
    };
    debug_assert!(response.error_code == ErrorCode::None.code() || response.producer_id == -1);
    request.reply(&response)
}
