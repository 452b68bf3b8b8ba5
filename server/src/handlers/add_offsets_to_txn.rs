//! AddOffsetsToTxn (key 25), versions 0 to 4. The offsets of a group join a transaction before they are committed in it
//! (KIP-98): what joins is the partition of `__consumer_offsets` that the group belongs to.
//!
//! - Clients of transaction version 2 leave it out: their TxnOffsetCommit does it.
//! - Owner core: that of the transactional id.

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::error::ErrorCode;
use wire::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::init_producer_id::fenced;
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::coordinator::{LogTopic, ensure, partition_of};
use crate::shard::Shard;
use crate::transaction::machine::{Intent, Join};
use crate::transaction::service;
use crate::transaction::state::{ClientVersion, Producer};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: AddOffsetsToTxnRequest<'_> = request.decode()?;
    let error = join(&shard, &asked).await.err().unwrap_or(ErrorCode::None);
    request.reply(&AddOffsetsToTxnResponse {
        error_code: fenced(error, request.version, FENCED_FROM).code(),
        ..AddOffsetsToTxnResponse::default()
    })
}

async fn join(shard: &Shard, asked: &AddOffsetsToTxnRequest<'_>) -> Result<(), ErrorCode> {
    ensure(shard, LogTopic::Offsets).await?;
    let number = partition_of(asked.group_id, LogTopic::Offsets, &shard.image());
    let partition = (Arc::from(LogTopic::Offsets.name()), number.ok_or(ErrorCode::CoordinatorNotAvailable)?);
    let join = Join {
        transactional_id: asked.transactional_id.into(),
        producer: Producer { id: asked.producer_id, epoch: asked.producer_epoch },
        partitions: BTreeSet::from([partition]),
        intent: Intent::Add(ClientVersion::V1),
    };
    service::join(shard, join).await.map(drop)
}
