//! A coordinator of transactions that knows exactly what it must be asked next, and says so when it is asked anything else.

use std::collections::BTreeMap;

use wire::api::ApiKey;
use wire::batch::BatchView;
use wire::error::ErrorCode;
use wire::header::{RequestHeader, encode_response};
use wire::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, add_partitions_to_txn_response,
};
use wire::{Message, Reader};

/// What the coordinator does wrong. EndTxn requests are counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransactionFault {
    /// Nothing.
    #[default]
    None,
    /// Answers the commit of this number and aborts.
    AbortInstead(u32),
    /// Answers the EndTxn of this number and ends nothing in the log.
    Forget(u32),
    /// Tells no reader of the aborted transaction of this number.
    Unlisted(u32),
    /// Closes the connection instead of answering the commit of this number, and commits it in the partitions below the
    /// second number alone; in the others it aborts.
    Tear(u32, usize),
}

/// A transaction that has just ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The partitions in which it is committed: those below.
    pub committed_below: usize,
    /// Whether readers are told where it was aborted.
    pub listed: bool,
    /// Whether the client gets no answer.
    pub unanswered: bool,
}

/// The transactions of a broker.
#[derive(Default)]
pub struct Transactions {
    by_id: BTreeMap<String, Producer>,
    /// The answer to an EndTxn whose number is a multiple of this.
    pub refuse_end: Option<(u32, ErrorCode)>,
    pub fault: TransactionFault,
    ends: u32,
    /// What the last request has ended and the log does not know of yet.
    pub ended: Option<Ended>,
}

#[derive(Default)]
struct Producer {
    id: i64,
    epoch: i16,
    added: Vec<i32>,
    sequences: BTreeMap<i32, i32>,
    /// Batches of each transaction that was committed.
    batches: Vec<u32>,
    open: u32,
}

impl Transactions {
    /// Batches of each committed transaction, by transactional id.
    pub fn committed(&self) -> BTreeMap<String, Vec<u32>> {
        self.by_id.iter().map(|(id, producer)| (id.clone(), producer.batches.clone())).collect()
    }

    /// What a batch of a transaction is answered with; with 0 it counts.
    pub fn produce(&mut self, id: &str, adds: bool, partition: i32, batch: &BatchView<'_>, refused: bool) {
        let producer = self.by_id.get_mut(id).expect("it has a producer id");
        assert!(batch.attributes().is_transactional());
        assert_eq!((batch.producer_id(), batch.producer_epoch()), (producer.id, producer.epoch), "{id}");
        assert!(adds || producer.added.contains(&partition), "{partition} was not added");
        let next = producer.sequences.entry(partition).or_default();
        assert_eq!(batch.base_sequence(), *next, "{id} to {partition}");
        if !refused {
            *next += batch.record_count();
            producer.open += 1;
        }
    }

    /// Appends the answer to a request of a transaction, if it is one.
    pub fn answer(&mut self, header: &RequestHeader<'_>, body: &mut Reader<'_>, out: &mut Vec<u8>) -> bool {
        let version = header.version;
        if ![ApiKey::InitProducerId, ApiKey::AddPartitionsToTxn, ApiKey::EndTxn].contains(&header.api) {
            return false;
        }
        encode_response(out, header.api, version, header.correlation_id);
        match header.api {
            ApiKey::InitProducerId => {
                let request = InitProducerIdRequest::decode(body, version).unwrap();
                let id = request.transactional_id.unwrap();
                let first = Producer { id: 100 + self.by_id.len() as i64, epoch: 2, ..Producer::default() };
                let producer = self.by_id.entry(id.to_owned()).or_insert(first);
                if std::mem::take(&mut producer.open) > 0 {
                    self.ended = Some(producer.ended(0));
                }
                producer.epoch += 1;
                producer.added.clear();
                producer.sequences.clear();
                let (producer_id, producer_epoch) = (producer.id, producer.epoch);
                let response = InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() };
                response.encode(out, version).unwrap();
            }
            ApiKey::AddPartitionsToTxn => {
                let request = AddPartitionsToTxnRequest::decode(body, version).unwrap();
                let producer = self.by_id.get_mut(request.v3_and_below_transactional_id).unwrap();
                let topic = &request.v3_and_below_topics[0];
                producer.added.extend(&topic.partitions);
                let one = |partition_index| add_partitions_to_txn_response::AddPartitionsToTxnPartitionResult {
                    partition_index,
                    partition_error_code: 0,
                };
                let result = add_partitions_to_txn_response::AddPartitionsToTxnTopicResult {
                    name: topic.name,
                    results_by_partition: topic.partitions.iter().map(|index| one(*index)).collect(),
                };
                let results_by_topic_v3_and_below = vec![result];
                AddPartitionsToTxnResponse { results_by_topic_v3_and_below, ..Default::default() }
                    .encode(out, version)
                    .unwrap();
            }
            _ => {
                let request = EndTxnRequest::decode(body, version).unwrap();
                let producer = self.by_id.get_mut(request.transactional_id).unwrap();
                assert_eq!((request.producer_id, request.producer_epoch), (producer.id, producer.epoch));
                self.ends += 1;
                let refused = self.refuse_end.filter(|(every, _)| self.ends.is_multiple_of(*every));
                let error_code = refused.map_or(0, |(_, error)| error.code());
                if error_code == 0 {
                    let forgotten = self.fault == TransactionFault::Forget(self.ends);
                    let mut ended = producer.ended(if request.committed { usize::MAX } else { 0 });
                    match self.fault {
                        TransactionFault::AbortInstead(at) if at == self.ends => ended.committed_below = 0,
                        TransactionFault::Unlisted(at) if at == self.ends => ended.listed = false,
                        TransactionFault::Tear(at, below) if at == self.ends => {
                            (ended.committed_below, ended.unanswered) = (below, true);
                        }
                        _ => {}
                    }
                    self.ended = (!forgotten).then_some(ended);
                    let batches = std::mem::take(&mut producer.open);
                    producer.batches.extend(request.committed.then_some(batches));
                    producer.added.clear();
                    if version >= 5 {
                        producer.epoch += 1;
                        producer.sequences.clear();
                    }
                }
                let (producer_id, producer_epoch) = (producer.id, producer.epoch);
                EndTxnResponse { error_code, producer_id, producer_epoch, ..Default::default() }
                    .encode(out, version)
                    .unwrap();
            }
        }
        true
    }
}

impl Producer {
    fn ended(&self, committed_below: usize) -> Ended {
        let (producer_id, producer_epoch) = (self.id, self.epoch);
        Ended { producer_id, producer_epoch, committed_below, listed: true, unanswered: false }
    }
}
