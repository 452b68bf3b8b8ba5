//! Transactions in whole brokers of two cores, in the simulated world: over the network as clients speak, and through a
//! crash at any step.

use std::cell::RefCell;
use std::net::SocketAddr;

use engine::io::sim::{Crash, Image as Disk, Sim, SimConfig};
use engine::{Durability, Origin, Slot};
use wire::api::ApiKey;
use wire::batch::{BatchBuilder, BatchView, Batches, ControlRecord, EndTransaction, NewRecord};
use wire::compression::Codec;
use wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest,
    ListTransactionsResponse, ProduceRequest, ProduceResponse,
};
use wire::{Message, Reader, Uuid, header};

use super::super::admission::{Writer, admit};
use super::super::state::{ClientVersion, NO_EPOCH, Outcome, Phase};
use super::*;
use crate::assembly;
use crate::broker::tests::{life, new_disk};
use crate::catalog::{Action, ConfigTarget};
use crate::config::topic::Configs;
use crate::controller::Controller;
use crate::coordinator::ensure;
use crate::plane_tests::Client;

const PARTITIONS: i32 = 4;

/// A broker with a topic of four partitions, on both cores, and a topic for the coordinators.
async fn prepare(core0: &Shard, controller: &Rc<Controller>) {
    let create = Action::CreateTopic {
        name: "t".to_owned(),
        id: Uuid([7; 16]),
        partitions: PARTITIONS,
        configs: Configs::new(),
    };
    controller.turn().await.carry_out(vec![create]).await.unwrap();
    ensure(core0, LogTopic::Transactions).await.unwrap();
}

async fn in_a_broker(core0: &Shard, controller: &Rc<Controller>) -> Client {
    prepare(core0, controller).await;
    start(core0).await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = assembly::listen(core0, &[any]).await.unwrap()[0];
    Client::connect(core0.reactor(), address).await.unwrap()
}

fn decoded<'a, M: Message<'a>>(body: &'a [u8], version: i16) -> M {
    M::decode(&mut Reader::new(body), version).unwrap()
}

async fn init_id(client: &mut Client, id: &str) -> Result<Producer, i16> {
    let request = InitProducerIdRequest {
        transactional_id: Some(id),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    client
        .call(ApiKey::InitProducerId, 5, &request, |body| {
            let response: InitProducerIdResponse = decoded(body, 5);
            match response.error_code {
                0 => Ok(Producer { id: response.producer_id, epoch: response.producer_epoch }),
                error => Err(error),
            }
        })
        .await
}

async fn end_by(client: &mut Client, version: i16, producer: Producer, committed: bool) -> Result<Producer, i16> {
    let request =
        EndTxnRequest { transactional_id: "pay", producer_id: producer.id, producer_epoch: producer.epoch, committed };
    client
        .call(ApiKey::EndTxn, version, &request, |body| {
            let response: EndTxnResponse = decoded(body, version);
            match response.error_code {
                0 => Ok(Producer { id: response.producer_id, epoch: response.producer_epoch }),
                error => Err(error),
            }
        })
        .await
}

async fn add_partitions(client: &mut Client, producer: Producer, partitions: Vec<i32>) -> Vec<i16> {
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "pay",
        v3_and_below_producer_id: producer.id,
        v3_and_below_producer_epoch: producer.epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: "t", partitions }],
        ..AddPartitionsToTxnRequest::default()
    };
    client
        .call(ApiKey::AddPartitionsToTxn, 3, &request, |body| {
            let response: AddPartitionsToTxnResponse<'_> = decoded(body, 3);
            let topics = response.results_by_topic_v3_and_below.iter();
            topics.flat_map(|topic| topic.results_by_partition.iter().map(|it| it.partition_error_code)).collect()
        })
        .await
}

fn batch(producer: Producer, sequence: i32, value: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(producer.id, producer.epoch, sequence).transactional(true);
    builder.push(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() }).unwrap();
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

async fn send_batches(client: &mut Client, version: i16, batches: &[(i32, Vec<u8>)]) {
    let partition_data =
        batches.iter().map(|(index, records)| PartitionProduceData { index: *index, records: Some(records) }).collect();
    let request = ProduceRequest {
        transactional_id: Some("pay"),
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData { name: "t", topic_id: Uuid::default(), partition_data }],
    };
    client.send(ApiKey::Produce, version, &request).await;
}

/// Errors and base offsets of the partitions.
async fn receive_produced(client: &mut Client, version: i16) -> Vec<(i16, i64)> {
    let response = client.receive().await.expect("a response");
    let mut reader = Reader::new(&response);
    header::decode_response(&mut reader, ApiKey::Produce, version).unwrap();
    let response: ProduceResponse<'_> = decoded(reader.rest(), version);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.map(|it| (it.error_code, it.base_offset)).collect()
}

#[test]
fn the_first_writes_of_a_transaction_add_its_partitions_and_keep_their_order() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, controller| {
        let mut client = in_a_broker(core0, controller).await;
        let mut producer = init_id(&mut client, "pay").await.unwrap();
        assert_eq!(producer.epoch, 0);
        let mut next = 0;
        for round in 0..3 {
            // Nothing is waited for: the first batches meet partitions whose last transaction is still ending.
            for sequence in 0..5 {
                let batches: Vec<_> =
                    (0..PARTITIONS).map(|it| (it, batch(producer, sequence, &format!("{round}")))).collect();
                send_batches(&mut client, 12, &batches).await;
            }
            for _ in 0..5 {
                assert_eq!(receive_produced(&mut client, 12).await, [(0, next); PARTITIONS as usize]);
                next += 1;
            }
            let ended = end_by(&mut client, 5, producer, round != 1).await.unwrap();
            assert_eq!(ended, Producer { epoch: producer.epoch + 1, ..producer });
            // The marker.
            next += 1;
            producer = ended;
        }
        let old = Producer { epoch: 0, ..producer };
        send_batches(&mut client, 12, &[(1, batch(old, 5, "zombie"))]).await;
        let fenced = ErrorCode::InvalidProducerEpoch.code();
        assert_eq!(receive_produced(&mut client, 12).await[0].0, fenced);
    })
    .expect("the script ends");
}

#[test]
fn by_the_older_protocol_partitions_are_added_before_they_are_written_to() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, controller| {
        let mut client = in_a_broker(core0, controller).await;
        let producer = init_id(&mut client, "pay").await.unwrap();
        for (version, error) in [(10, ErrorCode::InvalidTxnState), (11, ErrorCode::TransactionAbortable)] {
            send_batches(&mut client, version, &[(0, batch(producer, 0, "not added"))]).await;
            assert_eq!(receive_produced(&mut client, version).await[0].0, error.code(), "version {version}");
        }
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let other = ErrorCode::OperationNotAttempted.code();
        assert_eq!(add_partitions(&mut client, producer, vec![0, 99]).await, [other, unknown]);
        for sequence in 0..3 {
            assert_eq!(add_partitions(&mut client, producer, vec![0, 1]).await, [0, 0]);
            let batches = [(0, batch(producer, sequence, "a")), (1, batch(producer, sequence, "b"))];
            send_batches(&mut client, 11, &batches).await;
            assert_eq!(receive_produced(&mut client, 11).await, [(0, i64::from(sequence) * 2); 2]);
            end_by(&mut client, 4, producer, true).await.unwrap();
        }
        // Another producer takes over.
        assert_eq!(add_partitions(&mut client, producer, vec![0]).await, [0]);
        let waits = ErrorCode::ConcurrentTransactions.code();
        let mut new = Err(waits);
        while new == Err(waits) {
            new = init_id(&mut client, "pay").await;
        }
        assert_eq!(new, Ok(Producer { epoch: 2, ..producer }));
        assert_eq!(add_partitions(&mut client, producer, vec![0]).await, [ErrorCode::ProducerFenced.code()]);
        send_batches(&mut client, 11, &[(0, batch(producer, 3, "zombie"))]).await;
        assert_eq!(receive_produced(&mut client, 11).await[0].0, ErrorCode::InvalidProducerEpoch.code());
        assert_eq!(end_by(&mut client, 4, producer, true).await, Err(ErrorCode::ProducerFenced.code()));
    })
    .expect("the script ends");
}

#[test]
fn whether_partitions_are_verified_may_change_while_the_broker_runs() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, controller| {
        let mut client = in_a_broker(core0, controller).await;
        let producer = init_id(&mut client, "pay").await.unwrap();
        // Two partitions, one on each core.
        let refused = ErrorCode::TransactionAbortable.code();
        for (partition, verifies, outcome) in [(0, None, refused), (0, Some("false"), 0), (1, Some("false"), 0)] {
            let set = Action::SetConfigs {
                target: ConfigTarget::AllBrokers,
                changes: vec![("transaction.partition.verification.enable".to_owned(), verifies.map(str::to_owned))],
            };
            controller.turn().await.carry_out(vec![set]).await.unwrap();
            send_batches(&mut client, 11, &[(partition, batch(producer, 0, "not added"))]).await;
            assert_eq!(receive_produced(&mut client, 11).await[0].0, outcome, "{partition} {verifies:?}");
        }
    })
    .expect("the script ends");
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, controller| {
        let mut client = in_a_broker(core0, controller).await;
        assert_eq!(init_id(&mut client, "").await, Err(ErrorCode::InvalidRequest.code()));
        let stranger = Producer { id: 77, epoch: 0 };
        let mapping = ErrorCode::InvalidProducerIdMapping.code();
        assert_eq!(end_by(&mut client, 5, stranger, true).await, Err(mapping));
        send_batches(&mut client, 12, &[(0, batch(stranger, 0, "a"))]).await;
        assert_eq!(receive_produced(&mut client, 12).await[0].0, mapping);
        let two = [(0, batch(stranger, 0, "a")), (1, batch(Producer { id: 78, epoch: 0 }, 0, "a"))];
        send_batches(&mut client, 12, &two).await;
        assert_eq!(receive_produced(&mut client, 12).await, [(mapping, -1); 2]);
        let request = InitProducerIdRequest {
            transactional_id: Some("pay"),
            transaction_timeout_ms: 900_001,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let refused = |body: &[u8]| decoded::<InitProducerIdResponse>(body, 5).error_code;
        let error = client.call(ApiKey::InitProducerId, 5, &request, refused).await;
        assert_eq!(error, ErrorCode::InvalidTransactionTimeout.code());
        // Half of what a producer was known by is an error for idempotent producers too.
        for transactional_id in [Some("pay"), None] {
            for (producer_id, producer_epoch, error) in
                [(5, -1, ErrorCode::InvalidRequest), (-1, 5, ErrorCode::InvalidRequest), (-1, -1, ErrorCode::None)]
            {
                let asked = InitProducerIdRequest {
                    transactional_id,
                    transaction_timeout_ms: 1,
                    producer_id,
                    producer_epoch,
                    ..InitProducerIdRequest::default()
                };
                let answered = client.call(ApiKey::InitProducerId, 5, &asked, refused).await;
                assert_eq!(answered, error.code(), "{asked:?}");
            }
        }
    })
    .expect("the script ends");
}

#[test]
fn a_producer_that_falls_silent_is_fenced() {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, controller| {
        let mut client = in_a_broker(core0, controller).await;
        let find = FindCoordinatorRequest { key_type: 1, coordinator_keys: vec!["pay"], ..Default::default() };
        let found = client
            .call(ApiKey::FindCoordinator, 4, &find, |body| {
                decoded::<FindCoordinatorResponse<'_>>(body, 4).coordinators.len()
            })
            .await;
        assert_eq!(found, 1);
        let producer = init_id(&mut client, "pay").await.unwrap();
        send_batches(&mut client, 12, &[(2, batch(producer, 0, "a"))]).await;
        assert_eq!(receive_produced(&mut client, 12).await, [(0, 0)]);
        assert_eq!(listed(&mut client).await, ["pay Ongoing"]);
        sleep_ms(core0, 75_000).await;
        assert_eq!(listed(&mut client).await, ["pay CompleteAbort"]);
        assert_eq!(end_by(&mut client, 5, producer, true).await, Err(ErrorCode::InvalidTxnState.code()));
        send_batches(&mut client, 12, &[(2, batch(producer, 1, "late"))]).await;
        assert_eq!(receive_produced(&mut client, 12).await[0].0, ErrorCode::InvalidProducerEpoch.code());
        assert_eq!(init_id(&mut client, "pay").await, Ok(Producer { epoch: 2, ..producer }));
    })
    .expect("the script ends");
}

async fn listed(client: &mut Client) -> Vec<String> {
    let all = ListTransactionsRequest { duration_filter: -1, ..ListTransactionsRequest::default() };
    client
        .call(ApiKey::ListTransactions, 2, &all, |body| {
            let response: ListTransactionsResponse<'_> = decoded(body, 2);
            let states = response.transaction_states.iter();
            states.map(|it| format!("{} {}", it.transactional_id, it.transaction_state)).collect()
        })
        .await
}

/// Transactions, one after another, in all partitions: what was to become of each, as far as it was told.
type Told = Rc<RefCell<Vec<Option<Outcome>>>>;

async fn write_transactions(core0: &Shard, told: &Told, client: ClientVersion, partitions: &[i32]) {
    let id: Arc<str> = "pay".into();
    let mut producer = begin(core0, &id).await;
    let mut sequences = [0; PARTITIONS as usize];
    for number in 0..6 {
        told.borrow_mut().push(None);
        for at in partitions.iter().copied() {
            let sequence = &mut sequences[at as usize];
            if client == ClientVersion::V1 {
                let partitions = BTreeSet::from([(Arc::from("t"), at)]);
                let intent = super::super::machine::Intent::Add(client);
                let added = join(core0, Join { transactional_id: id.clone(), producer, partitions, intent }).await;
                assert_eq!(added, Ok(BTreeSet::new()));
            }
            let writer = Writer {
                transactional_id: id.clone(),
                producer,
                first_sequence: *sequence,
                partition: ("t".into(), at),
                adds: client == ClientVersion::V2,
            };
            *sequence += 1;
            let bytes = batch(producer, *sequence - 1, &number.to_string());
            let (core, slot) = partition(core0, at);
            core0.run_on(core, move |shard| append(shard, slot, writer, bytes)).await;
        }
        let outcome = if number % 3 == 1 { Outcome::Abort } else { Outcome::Commit };
        let asked = End { transactional_id: id.clone(), producer, outcome, client };
        let after = end(core0, asked).await.expect("the transaction ends");
        *told.borrow_mut().last_mut().unwrap() = Some(outcome);
        if client == ClientVersion::V2 {
            producer = after;
            sequences = [0; PARTITIONS as usize];
        }
    }
}

async fn append(shard: Shard, slot: Slot, writer: Writer, bytes: Vec<u8>) {
    let guard = admit(&shard, slot, &writer).await.expect("the coordinator agrees");
    let view = BatchView::parse(&bytes).unwrap();
    let appended = shard.store().append_as(Origin::Client, guard, slot, &view, 0).expect("there is room");
    if shard.store().wait_commit(appended.seq).await.is_err() {
        std::future::pending().await
    }
}

async fn begin(core0: &Shard, id: &Arc<str>) -> Producer {
    loop {
        let asked = Init { transactional_id: id.clone(), timeout_ms: 60_000, expected: None };
        match init(core0, asked).await {
            Ok(producer) => return producer,
            Err(ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorLoadInProgress) => sleep_ms(core0, 1).await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn partition(shard: &Shard, at: i32) -> (usize, Slot) {
    let image = shard.image();
    let partition = &image.topic("t").unwrap().partitions[at as usize];
    (partition.core, partition.slot)
}

/// Per partition, what became of the transactions that have records in it.
async fn outcomes(core0: &Shard, partitions: &[i32]) -> Vec<Vec<(usize, Outcome)>> {
    let mut all = Vec::new();
    for at in partitions.iter().copied() {
        let (core, slot) = partition(core0, at);
        let read = move |shard: Shard| async move {
            let info = shard.store().info(slot).unwrap();
            assert_eq!(info.last_stable, info.high_watermark, "a transaction hangs in partition {at}");
            let (mut offset, mut open, mut ended) = (info.log_start, None, Vec::new());
            while offset < info.high_watermark {
                let data = shard.store().read_any(slot, offset).await.unwrap();
                for slice in &data.slices {
                    for batch in Batches::new(slice.as_bytes()) {
                        let batch = batch.unwrap();
                        offset = batch.last_offset() + 1;
                        let record = batch.records().unwrap().next().unwrap().unwrap();
                        if !batch.attributes().is_control() {
                            let number = std::str::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
                            assert!(open.replace(number).is_none(), "two transactions in one");
                        } else if let Ok(ControlRecord::EndTransaction { end, .. }) = ControlRecord::parse(&record) {
                            let commit = end == EndTransaction::Commit;
                            let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
                            // A crash may have had the marker written twice.
                            ended.extend(open.take().map(|number| (number, outcome)));
                        }
                    }
                }
            }
            ended
        };
        all.push(core0.run_on(core, read).await);
    }
    all
}

/// The partitions that transactions write to: all, or those on the core of the coordinator.
fn used(shard: &Shard, is_local: bool) -> Vec<i32> {
    let own = place(shard, "pay").unwrap().core;
    let used: Vec<i32> = (0..PARTITIONS).filter(|at| !is_local || partition(shard, *at).0 == own).collect();
    assert!(!used.is_empty() && (used.len() < PARTITIONS as usize) == is_local);
    used
}

/// The disk after a broker has created its topics, and the steps that a life with transactions takes on it.
fn disk_with_topics() -> Disk {
    let sim = Sim::with_image(SimConfig::default(), &new_disk());
    life(&sim, Durability::Disk, async |core0, controller| prepare(core0, controller).await).expect("the script ends");
    sim.crash(Crash::Power, 0)
}

#[test]
fn a_crash_at_any_step_leaves_transactions_whole() {
    // Partitions of both cores, and of the coordinator's only, where nothing waits for a commit in between.
    for (client, is_local) in
        [(ClientVersion::V1, false), (ClientVersion::V2, false), (ClientVersion::V1, true), (ClientVersion::V2, true)]
    {
        let disk = disk_with_topics();
        let config = |crash_at| SimConfig { seed: 11, crash_at, ..SimConfig::default() };
        let told = Told::default();
        let script = |told: Told| {
            async move |core0: &Shard, _: &Rc<Controller>| {
                start(core0).await;
                write_transactions(core0, &told, client, &used(core0, is_local)).await;
            }
        };
        let whole = Sim::with_image(config(None), &disk);
        life(&whole, Durability::Disk, script(told.clone())).expect("the script ends");
        assert_eq!(told.borrow().len(), 6);
        let mut unfinished = 0;
        for step in (0..whole.steps()).step_by(5) {
            let sim = Sim::with_image(config(Some(step)), &disk);
            let told = Told::default();
            life(&sim, Durability::Disk, script(told.clone()));
            let after = Sim::with_image(SimConfig::default(), &sim.crash(Crash::Power, step));
            life(&after, Durability::Disk, async |core0, _| {
                start(core0).await;
                // What was decided is finished by itself, what is open is aborted for the next producer.
                let producer = begin(core0, &"pay".into()).await;
                assert!(producer.epoch > NO_EPOCH);
                let state = describe(core0, "pay".into()).await.unwrap();
                assert_eq!(state.phase, Phase::Empty);
                let told = told.borrow().clone();
                let mut seen: Vec<Option<Outcome>> = vec![None; told.len()];
                for of_partition in outcomes(core0, &used(core0, is_local)).await {
                    for (number, told) in (0..).zip(told.iter()) {
                        let here = of_partition.iter().find(|(it, _)| *it == number).map(|(_, outcome)| *outcome);
                        if let Some(told) = told {
                            assert_eq!(here, Some(*told), "step {step}: transaction {number}");
                        }
                        if let Some(outcome) = here {
                            let first = seen[number].get_or_insert(outcome);
                            assert_eq!(*first, outcome, "step {step}: transaction {number} is in two halves");
                        }
                    }
                }
                unfinished +=
                    usize::from(seen.iter().zip(told.iter()).any(|(seen, told)| seen.is_some() && told.is_none()));
            })
            .expect("the second life ends");
        }
        assert!(unfinished > 3, "some crashes hit open transactions: {unfinished}");
    }
}
