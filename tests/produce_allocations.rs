//! A produce request whose partitions are on its connection's core is received, appended and answered without an
//! allocation of its own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::limits::Limits;
use engine::{Durability, PartitionConfig, PartitionKey, PartitionSpec};
use server::assembly::{self, CorePlan, StorePlan};
use server::catalog::Action;
use server::config::topic::Configs;
use server::connection::admission::Admission;
use server::image::Image;
use server::shard::{Shard, ShardOptions};
use wire::api::ApiKey;
use wire::batch::{BatchBuilder, NewRecord};
use wire::compression::Codec;
use wire::header::RequestHeader;
use wire::messages::ProduceRequest;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{Message, Uuid};

/// Counts the allocations of threads that ask for it.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: everything is left to the system's allocator; counting neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if COUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests sent before the first answer is read.
const WINDOW: usize = 50;

/// Windows sent for one count.
const ROUNDS: usize = 200;

#[test]
fn a_produce_allocates_nothing_in_the_steady_state() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = Image::new("test", 1, 1, Arc::new(Configs::new()));
    let plan = CorePlan {
        cpus: vec![core_affinity::get_core_ids().expect("CPUs")[0].id],
        options: ShardOptions {
            node_id: 1,
            request_max_bytes: 1 << 20,
            idle_max_ms: None,
            fetch_max_bytes: 1 << 20,
            fetch_sessions: 1,
            receive_bytes: 16 << 20,
            unsent_bytes: 16 << 20,
        },
        admission: Admission::new(image.live().connections.clone()),
        image: Arc::new(image),
    };
    let store = StorePlan {
        dir: dir.path().to_owned(),
        durability: Durability::Disk,
        memory_ahead: false,
        limits: Limits { pool_bytes: 64 << 20, ..Limits::default() },
        retention_check_interval_ms: 300_000,
        compaction_bytes: None,
    };
    assembly::run_cores(plan, async |core0: Shard| {
        let found = assembly::recover(&core0, &store, |_, cause| panic!("{cause}")).await.expect("a store");
        assembly::carry(&core0, &store, found.incarnation).await.expect("a store");
        create_topic(&core0).await;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = assembly::listen(&core0, &[any]).await.expect("a socket")[0];
        COUNTED.set(true);
        let client = std::thread::spawn(move || run_client(address));
        while !client.is_finished() {
            core0.reactor().sleep_until(core0.reactor().now_ns() + 10_000_000).await;
        }
        COUNTED.set(false);
        client.join().expect("the client's checks hold");
        assembly::stop(&core0, &store).await.expect("a clean stop");
    })
    .expect("the core runs");
}

async fn create_topic(core0: &Shard) {
    let id = Uuid([7; 16]);
    let action = Action::CreateTopic { name: "events".to_owned(), id, partitions: 1, configs: Configs::new() };
    let mut records = Vec::new();
    action.records(1, Uuid([9; 16]), &mut records);
    let mut draft = core0.image().draft();
    records.iter().for_each(|record| draft.apply(record).expect("a record that fits"));
    let key = PartitionKey { topic_id: id.0, partition: 0 };
    let spec = PartitionSpec { key, topic: "events".to_owned(), config: PartitionConfig::default() };
    let slot = core0.store().create_partition(spec).await.expect("a partition");
    draft.place(&id, 0, slot).expect("the topic");
    core0.publish(Arc::new(draft.finish())).await;
}

fn run_client(address: SocketAddr) {
    let mut socket = TcpStream::connect(address).expect("a connection");
    socket.set_nodelay(true).expect("a socket option");
    let request = request();
    let mut rounds = |window: usize| {
        let bytes = request.repeat(window);
        let mut answers = vec![0; window * ANSWER_BYTES];
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            socket.write_all(&bytes).expect("the broker reads");
            socket.read_exact(&mut answers).expect("the broker answers");
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    rounds(2 * WINDOW);
    // A commit and a send may cost some, each of which carries a window. What doubling the window adds is the requests'.
    let (some, twice) = (rounds(WINDOW), rounds(2 * WINDOW));
    let added = (ROUNDS * WINDOW) as u64;
    let limit = some + added / 20;
    assert!(twice <= limit, "{added} more requests cost {} more allocations", twice - some);
}

/// Length of the answer to [`request`], its length field included, in bytes.
const ANSWER_BYTES: usize = 4 + 5 + 1 + 7 + 1 + (4 + 2 + 8 + 8 + 8 + 1 + 1 + 1) + 1 + 4 + 1;

fn request() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(&NewRecord { timestamp: 0, key: None, value: Some(&[7; 100]), headers: &[] }).expect("a record");
    let mut batch = Vec::new();
    builder.finish(&mut batch).expect("a batch");
    let request = ProduceRequest {
        acks: 1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: "events",
            partition_data: vec![PartitionProduceData { index: 0, records: Some(&batch) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let mut frame = vec![0; 4];
    let header = RequestHeader { api: ApiKey::Produce, version: 9, correlation_id: 1, client_id: Some("test") };
    header.encode(&mut frame).expect("a header");
    request.encode(&mut frame, 9).expect("a request");
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}
