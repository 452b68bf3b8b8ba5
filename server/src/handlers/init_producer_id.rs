//! InitProducerId (key 22), versions 0 to 5. Gives a producer its id and epoch (KIP-98, KIP-360).
//!
//! - Without a transactional id every producer begins with a new id and epoch 0: also one that asks to raise its epoch
//!   (version 3 and later), which serves an idempotent producer as well. An id without an epoch, or an epoch without an
//!   id, is an error all the same.
//! - With one the transaction coordinator decides. A transaction that is open is aborted first, and meanwhile the client is
//!   told CONCURRENT_TRANSACTIONS.
//! - Owner core: that of the transactional id; else any, and core 0 for blocks of ids.

use wire::error::ErrorCode;
use wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::shard::Shard;
use crate::transaction::ids::next_producer_id;
use crate::transaction::machine::Init;
use crate::transaction::service;
use crate::transaction::state::{NO_EPOCH, NO_PRODUCER_ID, Producer};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: InitProducerIdRequest<'_> = request.decode()?;
    let given = match (asked.transactional_id, expected(&asked)) {
        (Some(""), _) => Err(ErrorCode::InvalidRequest),
        (_, Err(error)) => Err(error),
        (None, Ok(_)) => next_producer_id(&shard).await.map(|id| Producer { id, epoch: 0 }),
        (Some(id), Ok(expected)) => {
            let timeout_ms = asked.transaction_timeout_ms;
            service::init(&shard, Init { transactional_id: id.into(), timeout_ms, expected }).await
        }
    };
    let (error, producer) = match given {
        Ok(producer) => (ErrorCode::None, producer),
        Err(error) => (fenced(error, request.version, FENCED_FROM), Producer { id: NO_PRODUCER_ID, epoch: NO_EPOCH }),
    };
    request.reply(&InitProducerIdResponse {
        error_code: error.code(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        ..InitProducerIdResponse::default()
    })
}

/// PRODUCER_FENCED as clients of a version know it.
pub(super) fn fenced(error: ErrorCode, version: i16, known_from: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < known_from => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}

/// What the producer says that it was known by: both id and epoch, or neither.
fn expected(asked: &InitProducerIdRequest<'_>) -> Result<Option<Producer>, ErrorCode> {
    match (asked.producer_id, asked.producer_epoch) {
        (NO_PRODUCER_ID, NO_EPOCH) => Ok(None),
        (NO_PRODUCER_ID, _) | (_, NO_EPOCH) => Err(ErrorCode::InvalidRequest),
        (id, epoch) => Ok(Some(Producer { id, epoch })),
    }
}
