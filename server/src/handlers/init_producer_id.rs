//! InitProducerId (key 22), versions 0 to 5. Gives an idempotent producer its id (KIP-98).
//!
//! - Ids come in blocks: core 0 notes in the catalog which have been given away, and each core hands out its own block.
//!   A block that a stop cuts short is lost, as in Kafka.
//! - Every producer begins with epoch 0: one that asks to raise its epoch (version 3 and later) gets a new id, which
//!   serves an idempotent producer as well.
//! - There are no transactions: a transactional id is refused.
//! - Owner core: any; blocks core 0.

use wire::error::ErrorCode;
use wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::api::{Request, RequestError};
use crate::catalog::Action;
use crate::connection::responses::Reply;
use crate::services::{IdBlock, Services};
use crate::shard::Shard;

/// Ids in a block (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE` in Kafka).
const BLOCK: i64 = 1000;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: InitProducerIdRequest<'_> = request.decode()?;
    let id = match asked.transactional_id {
        None => next_id(&shard).await,
        Some("") => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::UnsupportedVersion),
    };
    let response = match id {
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
        }
        Err(error) => InitProducerIdResponse {
            error_code: error.code(),
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        },
    };
    request.reply(&response)
}

async fn next_id(shard: &Shard) -> Result<i64, ErrorCode> {
    let services = Services::of(shard);
    loop {
        if let Some(id) = services.take_producer_id() {
            return Ok(id);
        }
        services.add_producer_ids(shard.run_on(0, reserve).await?);
    }
}

/// Takes the next block out of the catalog, on core 0.
async fn reserve(core0: Shard) -> Result<IdBlock, ErrorCode> {
    let services = Services::of(&core0);
    let turn = services.controller().turn().await;
    let first = turn.image().next_producer_id();
    let next = first.checked_add(BLOCK).ok_or(ErrorCode::UnknownServerError)?;
    turn.carry_out(vec![Action::ReserveProducerIds { next }]).await.map_err(|error| error.code())?;
    Ok(IdBlock { next: first, end: next })
}
