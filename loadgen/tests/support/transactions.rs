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

/// The transactions of a broker.
#[derive(Default)]
pub struct Transactions {
    by_id: BTreeMap<String, Producer>,
    /// The answer to an EndTxn whose number is a multiple of this.
    pub refuse_end: Option<(u32, ErrorCode)>,
    ends: u32,
}

#[derive(Default)]
struct Producer {
    id: i64,
    epoch: i16,
    added: Vec<i32>,
    sequences: BTreeMap<i32, i32>,
    committed: u32,
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
                let producer_id = 100 + self.by_id.len() as i64;
                self.by_id.insert(id.to_owned(), Producer { id: producer_id, epoch: 3, ..Producer::default() });
                let response = InitProducerIdResponse { producer_id, producer_epoch: 3, ..Default::default() };
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
                assert!(request.committed);
                self.ends += 1;
                let refused = self.refuse_end.filter(|(every, _)| self.ends.is_multiple_of(*every));
                let error_code = refused.map_or(0, |(_, error)| error.code());
                if error_code == 0 {
                    producer.batches.push(std::mem::take(&mut producer.open));
                    producer.added.clear();
                    if version >= 5 {
                        producer.epoch += 1;
                        producer.sequences.clear();
                    }
                    producer.committed += 1;
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
