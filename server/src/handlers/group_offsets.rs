//! OffsetCommit (key 8, versions 0 to 10), OffsetFetch (9, 0 to 10) and OffsetDelete (47, version 0): how far a group
//! has read.
//!
//! - Offsets are kept for topics that exist. From version 10 on topics are named by id; an offset of an earlier topic of
//!   the same name does not count.
//! - A client without a group commits with an empty member id and generation -1. Version 0 knows of no members, so its
//!   clients have none. Version 1 says of each offset when it was committed.
//! - Before Kafka 4, version 0 of both was kept in ZooKeeper. Here it is the same offsets as in the others; as ever,
//!   OffsetFetch of version 0 answers UNKNOWN_TOPIC_OR_PARTITION where none is committed.
//! - OffsetFetch of version 8 and later asks for several groups, and `require_stable` refuses offsets that an open
//!   transaction may still change (KIP-447).
//! - TxnOffsetCommit keeps offsets that count when a transaction is committed. Up to version 4 the group's partition must
//!   have joined it before (AddOffsetsToTxn); from version 5 on this does it (KIP-890).
//! - OffsetDelete spares the topics that a group subscribes to.
//! - Owner core: that of the group's partition of `__consumer_offsets`.

use engine::{Slot, TransactionGuard};
use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use wire::messages::txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
use wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::group_calls::{Owner, again, ask, ask_after};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::coordinator::{LogTopic, Unavailable};
use crate::group::answers::{Answer, FetchedOffset, FetchedTopic};
use crate::group::{AskedTopic, Committer, NewOffset};
use crate::image::Image;
use crate::shard::Shard;
use crate::state_machine::ProducerEpoch;
use crate::transaction::admission::{self, Refused, Writer};
use crate::transaction::state::Producer;

/// The first version of OffsetCommit and OffsetFetch that names topics by id.
const IDS_FROM: i16 = 10;
/// The version of OffsetCommit in which each offset has a time.
const TIME_OF_EACH_IN: i16 = 1;
/// The last version of OffsetCommit that says how long an offset is to be kept.
const RETENTION_UP_TO: i16 = 4;
/// The first version of TxnOffsetCommit whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_FROM: i16 = 4;
/// The first version of TxnOffsetCommit that adds the group's partition to the transaction (KIP-890).
const ADDS_FROM: i16 = 5;
/// The first version of OffsetFetch that asks for several groups.
const SEVERAL_GROUPS_FROM: i16 = 8;
/// The last version of OffsetFetch to which a partition without an offset is an error.
const NONE_IS_ERROR_UP_TO: i16 = 0;
/// The first version of OffsetFetch with one error for the whole group.
const GROUP_ERROR_FROM: i16 = 2;

/// Answers OffsetCommit.
pub async fn handle_commit(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: OffsetCommitRequest<'_> = request.decode()?;
    let image = shard.image().clone();
    let (offsets, mut outcomes) = check_commit(&asked, request.version, &image);
    if !offsets.is_empty() {
        let image = image.clone();
        let answer = ask(&shard, asked.group_id, &request, move |own, groups, now, ticket, effects| {
            let asked: OffsetCommitRequest<'_> = again(own);
            let (offsets, _) = check_commit(&asked, own.version, &image);
            let who = Committer {
                group_id: asked.group_id,
                member_id: asked.member_id,
                instance_id: asked.group_instance_id,
                generation: asked.generation_id_or_member_epoch,
                version: own.version,
                retention_ms: Some(asked.retention_time_ms).filter(|ms| own.version <= RETENTION_UP_TO && *ms != -1),
                producer: None,
            };
            groups.commit(&who, &offsets, (now, ticket), effects);
        });
        take_outcomes(answer.await, &mut outcomes);
    }
    let mut outcomes = outcomes.into_iter();
    let topics = asked.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .zip(outcomes.by_ref())
            .map(|(partition, outcome)| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: outcome as i16,
            })
            .collect(),
    });
    request.reply(&OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() })
}

/// Answers TxnOffsetCommit: the offsets count when the transaction ends, and the group's partition takes part in it.
pub async fn handle_txn_commit(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: TxnOffsetCommitRequest<'_> = request.decode()?;
    let image = shard.image().clone();
    let (offsets, mut outcomes) = check_txn_commit(&asked, &image);
    if asked.group_id.is_empty() {
        take_outcomes(Err(ErrorCode::InvalidGroupId), &mut outcomes);
    } else if !offsets.is_empty() {
        let image = image.clone();
        let transactional_id = asked.transactional_id.into();
        let producer = Producer { id: asked.producer_id, epoch: asked.producer_epoch };
        let version = request.version;
        let admit = move |core: Shard, group: Owner| async move {
            let partition = (LogTopic::Offsets.name().into(), group.partition);
            let adds = version >= ADDS_FROM;
            let writer = Writer { transactional_id, producer, first_sequence: 0, partition, adds };
            admit(&core, group.slot, &writer, version).await
        };
        let answer = ask_after(&shard, asked.group_id, &request, admit, move |own, groups, now, ticket, effects| {
            let asked: TxnOffsetCommitRequest<'_> = again(own);
            let (offsets, _) = check_txn_commit(&asked, &image);
            let who = Committer {
                group_id: asked.group_id,
                member_id: asked.member_id,
                instance_id: asked.group_instance_id,
                generation: asked.generation_id,
                version: own.version,
                retention_ms: None,
                producer: Some(ProducerEpoch { id: asked.producer_id, epoch: asked.producer_epoch }),
            };
            groups.commit(&who, &offsets, (now, ticket), effects);
        });
        take_outcomes(answer.await, &mut outcomes);
    }
    let mut outcomes = outcomes.into_iter();
    let topics = asked.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .zip(outcomes.by_ref())
            .map(|(partition, outcome)| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: outcome as i16,
            })
            .collect(),
    });
    request.reply(&TxnOffsetCommitResponse { topics: topics.collect(), ..TxnOffsetCommitResponse::default() })
}

/// Has the coordinator of a transaction let the offsets of a group into it, on the core that owns the group.
async fn admit(core: &Shard, slot: Slot, writer: &Writer, version: i16) -> Result<Option<TransactionGuard>, ErrorCode> {
    admission::admit(core, slot, writer).await.map_err(|refused| match refused {
        Refused::Store(error) => Unavailable::Refused(error).code(),
        Refused::Coordinator(ErrorCode::ProducerFenced) => ErrorCode::InvalidProducerEpoch,
        Refused::Coordinator(ErrorCode::TransactionAbortable) if version < ABORTABLE_FROM => ErrorCode::InvalidTxnState,
        Refused::Coordinator(error) => error,
    })
}

/// Answers OffsetFetch.
pub async fn handle_fetch(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: OffsetFetchRequest<'_> = request.decode()?;
    let image = shard.image().clone();
    let groups = AskedGroup::all(&asked, request.version);
    let mut answers = Vec::with_capacity(groups.len());
    for (number, group) in groups.iter().enumerate() {
        let image = image.clone();
        let answer = ask(&shard, group.id, &request, move |own, groups, _, ticket, effects| {
            let asked: OffsetFetchRequest<'_> = again(own);
            let group = AskedGroup::all(&asked, own.version).swap_remove(number);
            let known: Option<Vec<AskedTopic<'_>>> = group.topics.as_ref().map(|topics| {
                let named = topics.iter().filter_map(|topic| Some(AskedTopic { name: name(topic, &image)?, ..*topic }));
                named.collect()
            });
            groups.fetch(group.id, group.member, known.as_deref(), asked.require_stable, ticket, effects);
        });
        answers.push(match answer.await {
            Ok(Answer::Fetch(answer)) => answer,
            Ok(_) => Err(ErrorCode::UnknownServerError),
            Err(error) => Err(error),
        });
    }
    let by_id = request.version >= IDS_FROM;
    let told: Vec<(Vec<FetchedTopic>, ErrorCode)> = groups
        .iter()
        .zip(answers)
        .map(|(group, answer)| match answer {
            Ok(found) => {
                let mut topics = group.tell(found, by_id, &image);
                if request.version <= NONE_IS_ERROR_UP_TO {
                    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                    partitions
                        .filter(|it| it.offset == -1 && it.error == ErrorCode::None)
                        .for_each(|it| it.error = ErrorCode::UnknownTopicOrPartition);
                }
                (topics, ErrorCode::None)
            }
            Err(error) if request.version < GROUP_ERROR_FROM => (group.all_refused(error), ErrorCode::None),
            Err(error) => (Vec::new(), error),
        })
        .collect();
    if request.version >= SEVERAL_GROUPS_FROM {
        let groups = groups.iter().zip(&told).map(|(group, (topics, error))| OffsetFetchResponseGroup {
            group_id: group.id,
            topics: topics.iter().map(new_form).collect(),
            error_code: *error as i16,
        });
        return request.reply(&OffsetFetchResponse { groups: groups.collect(), ..OffsetFetchResponse::default() });
    }
    let (topics, error) =
        told.first().map(|(topics, error)| (topics.as_slice(), *error)).unwrap_or((&[], ErrorCode::None));
    request.reply(&OffsetFetchResponse {
        topics: topics.iter().map(old_form).collect(),
        error_code: error as i16,
        ..OffsetFetchResponse::default()
    })
}

/// Answers OffsetDelete.
pub async fn handle_delete(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: OffsetDeleteRequest<'_> = request.decode()?;
    let image = shard.image().clone();
    let known = known_partitions(&asked, &image);
    let outcomes = if asked.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        let answer = ask(&shard, asked.group_id, &request, move |own, groups, _, ticket, effects| {
            let asked: OffsetDeleteRequest<'_> = again(own);
            let known: Vec<(&str, i32)> = known_partitions(&asked, &image).into_iter().flatten().collect();
            groups.delete_offsets(asked.group_id, &known, ticket, effects);
        });
        match answer.await {
            Ok(Answer::DeleteOffsets(outcomes)) => outcomes,
            Ok(_) => Err(ErrorCode::UnknownServerError),
            Err(error) => Err(error),
        }
    };
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => {
            return request
                .reply(&OffsetDeleteResponse { error_code: error as i16, ..OffsetDeleteResponse::default() });
        }
    };
    let (mut known, mut outcomes) = (known.into_iter(), outcomes.into_iter());
    let mut outcome = || match known.next().flatten() {
        Some(_) => outcomes.next().unwrap_or(ErrorCode::UnknownServerError),
        None => ErrorCode::UnknownTopicOrPartition,
    };
    let topics = asked.topics.iter().map(|topic| OffsetDeleteResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: outcome() as i16,
            })
            .collect(),
    });
    request.reply(&OffsetDeleteResponse { topics: topics.collect(), ..OffsetDeleteResponse::default() })
}

/// Puts what the coordinator says in the place of each success.
fn take_outcomes(answer: Result<Answer, ErrorCode>, outcomes: &mut [ErrorCode]) {
    let answer = match answer {
        Ok(Answer::Commit(answer)) => answer,
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error),
    };
    let mut accepted = answer.as_ref().map(Vec::as_slice).unwrap_or_default().iter();
    for outcome in outcomes.iter_mut().filter(|outcome| **outcome == ErrorCode::None) {
        *outcome = match &answer {
            Ok(_) => accepted.next().copied().unwrap_or(ErrorCode::UnknownServerError),
            Err(error) => *error,
        };
    }
}

/// As [`check_commit`], for TxnOffsetCommit.
fn check_txn_commit<'a>(asked: &TxnOffsetCommitRequest<'a>, image: &'a Image) -> (Vec<NewOffset<'a>>, Vec<ErrorCode>) {
    let (mut offsets, mut outcomes) = (Vec::new(), Vec::new());
    for topic in &asked.topics {
        let known = image.topic(topic.name);
        for partition in &topic.partitions {
            let index = usize::try_from(partition.partition_index).ok();
            let known = known.filter(|known| index.is_some_and(|index| index < known.partitions.len()));
            outcomes.push(if known.is_some() { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition });
            offsets.extend(known.map(|known| NewOffset {
                topic: &known.name,
                // Kafka notes none here.
                topic_id: Uuid::ZERO,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata,
                commit_unix_ms: None,
            }));
        }
    }
    (offsets, outcomes)
}

/// The offsets for partitions that exist, and what is wrong with each of the others, in the order of the request.
fn check_commit<'a>(
    asked: &OffsetCommitRequest<'a>,
    version: i16,
    image: &'a Image,
) -> (Vec<NewOffset<'a>>, Vec<ErrorCode>) {
    let count = asked.topics.iter().map(|topic| topic.partitions.len()).sum();
    let (mut offsets, mut outcomes) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for topic in &asked.topics {
        let (known, unknown) = match version >= IDS_FROM {
            true => (image.topic_by_id(&topic.topic_id), ErrorCode::UnknownTopicId),
            false => (image.topic(topic.name), ErrorCode::UnknownTopicOrPartition),
        };
        for partition in &topic.partitions {
            let index = usize::try_from(partition.partition_index).ok();
            outcomes.push(match known {
                None => unknown,
                Some(known) if index.is_none_or(|index| index >= known.partitions.len()) => {
                    ErrorCode::UnknownTopicOrPartition
                }
                Some(known) => {
                    offsets.push(NewOffset {
                        topic: &known.name,
                        topic_id: known.id,
                        partition: partition.partition_index,
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.committed_metadata,
                        commit_unix_ms: Some(partition.commit_timestamp)
                            .filter(|ms| version == TIME_OF_EACH_IN && *ms != -1),
                    });
                    ErrorCode::None
                }
            });
        }
    }
    (offsets, outcomes)
}

/// The partitions of a request, those that exist, in its order.
fn known_partitions<'a>(asked: &OffsetDeleteRequest<'a>, image: &Image) -> Vec<Option<(&'a str, i32)>> {
    let partitions = asked.topics.iter().flat_map(|topic| {
        let count = image.topic(topic.name).map_or(0, |topic| topic.partitions.len());
        topic.partitions.iter().map(move |partition| {
            let index = usize::try_from(partition.partition_index).ok();
            index.is_some_and(|index| index < count).then_some((topic.name, partition.partition_index))
        })
    });
    partitions.collect()
}

/// One group of an OffsetFetch, in whichever form it was asked for.
struct AskedGroup<'a> {
    id: &'a str,
    /// The member that asks and its epoch, where it says so.
    member: (Option<&'a str>, i32),
    /// None: all that there are.
    topics: Option<Vec<AskedTopic<'a>>>,
}

impl<'a> AskedGroup<'a> {
    fn all(asked: &'a OffsetFetchRequest<'a>, version: i16) -> Vec<AskedGroup<'a>> {
        if version < SEVERAL_GROUPS_FROM {
            let topics = asked.topics.as_ref().map(|topics| {
                let topic = topics.iter().map(|topic| AskedTopic {
                    name: topic.name,
                    id: Uuid::ZERO,
                    partitions: &topic.partition_indexes,
                });
                topic.collect()
            });
            return vec![AskedGroup { id: asked.group_id, member: (None, -1), topics }];
        }
        let group = asked.groups.iter().map(|group| AskedGroup {
            id: group.group_id,
            member: (group.member_id, group.member_epoch),
            topics: group.topics.as_ref().map(|topics| {
                let topic = topics.iter().map(|topic| AskedTopic {
                    name: topic.name,
                    id: topic.topic_id,
                    partitions: &topic.partition_indexes,
                });
                topic.collect()
            }),
        });
        group.collect()
    }

    /// What the client is told: its own topics in its own order, with those that it has named by an unknown id.
    fn tell(&self, found: Vec<FetchedTopic>, by_id: bool, image: &Image) -> Vec<FetchedTopic> {
        let Some(asked) = &self.topics else {
            let named = found.into_iter().filter_map(|topic| match (by_id, image.topic(&topic.name)) {
                (false, _) => Some(topic),
                // Without an id it cannot be told.
                (true, known) => Some(FetchedTopic { id: known?.id, ..topic }),
            });
            return named.collect();
        };
        let mut found = found.into_iter();
        let topic = asked.iter().filter_map(|topic| match name(topic, image) {
            Some(_) => found.next(),
            None => Some(refused(topic, ErrorCode::UnknownTopicId)),
        });
        topic.collect()
    }

    fn all_refused(&self, error: ErrorCode) -> Vec<FetchedTopic> {
        self.topics.iter().flatten().map(|topic| refused(topic, error)).collect()
    }
}

/// The name of a topic; none where there is no topic of its id.
fn name<'a>(topic: &AskedTopic<'a>, image: &'a Image) -> Option<&'a str> {
    match topic.id.is_zero() && !topic.name.is_empty() {
        true => Some(topic.name),
        false => image.topic_by_id(&topic.id).map(|topic| &*topic.name),
    }
}

fn refused(topic: &AskedTopic<'_>, error: ErrorCode) -> FetchedTopic {
    let partitions = topic.partitions.iter().map(|partition| FetchedOffset::none(*partition, error)).collect();
    FetchedTopic { name: topic.name.into(), id: topic.id, partitions }
}

fn new_form(topic: &FetchedTopic) -> OffsetFetchResponseTopics<'_> {
    OffsetFetchResponseTopics {
        name: &topic.name,
        topic_id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .map(|it| OffsetFetchResponsePartitions {
                partition_index: it.partition,
                committed_offset: it.offset,
                committed_leader_epoch: it.leader_epoch,
                metadata: Some(&it.metadata),
                error_code: it.error as i16,
            })
            .collect(),
    }
}

fn old_form(topic: &FetchedTopic) -> OffsetFetchResponseTopic<'_> {
    OffsetFetchResponseTopic {
        name: &topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|it| OffsetFetchResponsePartition {
                partition_index: it.partition,
                committed_offset: it.offset,
                committed_leader_epoch: it.leader_epoch,
                metadata: Some(&it.metadata),
                error_code: it.error as i16,
            })
            .collect(),
    }
}
