//! Producer ids. They come in blocks: core 0 notes in the catalog which have been given away, and each core hands out its
//! own block. A block that a stop cuts short is lost, as in Kafka.

use wire::error::ErrorCode;

use crate::catalog::Action;
use crate::services::{IdBlock, Services};
use crate::shard::Shard;

/// Ids in a block (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE` in Kafka).
const BLOCK: i64 = 1000;

/// An id that no producer has had.
pub async fn next_producer_id(shard: &Shard) -> Result<i64, ErrorCode> {
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
