//! The data path of Produce and Fetch allocates nothing, and decompression no more than its cap.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wire::batch::{BatchBuilder, BatchView, Batches, NewRecord, assign};
use wire::compression::{Codec, compress, decompress};
use wire::error::ErrorCode;
use wire::fetch::{FetchResponseWriter, FetchView, FetchedPartition};
use wire::messages::{FetchRequest, ProduceRequest, fetch_request, produce_request};
use wire::produce::{ProduceResponseWriter, ProduceView, ProducedPartition, TopicRef};
use wire::{Message, Uuid};

/// Counts the allocations of its thread, and keeps the size of the largest.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn count(size: usize) {
    COUNT.set(COUNT.get() + 1);
    LARGEST.set(LARGEST.get().max(size));
}

// SAFETY: all work is done by the system's allocator; counting touches thread-local cells alone, which need no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the rules of `alloc`, which are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the rules of `alloc_zeroed`, which are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the rules of `realloc`, which are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`, which are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations during `work`, and the size of the largest in bytes.
fn allocations(work: impl FnOnce()) -> (usize, usize) {
    COUNT.set(0);
    LARGEST.set(0);
    work();
    (COUNT.get(), LARGEST.get())
}

fn topic_ref(version: i16) -> (&'static str, Uuid) {
    if version < 13 { ("sensors", Uuid::ZERO) } else { ("", Uuid([7; 16])) }
}

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for i in 0..100 {
        builder.push(&NewRecord { timestamp: 1000 + i, value: Some(&[i as u8; 100]), ..NewRecord::default() }).unwrap();
    }
    let mut batch = Vec::new();
    builder.finish(&mut batch).unwrap();
    batch
}

#[test]
fn produce_allocates_nothing() {
    let batch = batch();
    for version in 0..=13 {
        let (name, topic_id) = topic_ref(version);
        let partition = |index| produce_request::PartitionProduceData { index, records: Some(&batch) };
        let topic =
            produce_request::TopicProduceData { name, topic_id, partition_data: (0..10).map(partition).collect() };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic; 3], ..Default::default() };
        let mut body = Vec::new();
        request.encode(&mut body, version).unwrap();
        let mut out = Vec::with_capacity(4096);
        let mut stored = vec![0; batch.len()];
        let mut appended = 0;
        let (count, _) = allocations(|| {
            let view = ProduceView::parse(&body, version).unwrap();
            for topic in view.topics() {
                for partition in topic.partitions {
                    let batch = BatchView::parse(partition.records.unwrap()).unwrap();
                    assert!(batch.crc_matches());
                    batch.validate_counts().unwrap();
                    batch.validate_records().unwrap();
                }
            }
            let topics = view.topics();
            let mut writer = ProduceResponseWriter::new(&mut out, version, topics.len()).unwrap();
            for topic in topics {
                writer.topic(topic.topic, topic.partitions.len()).unwrap();
                for partition in topic.partitions {
                    stored.copy_from_slice(partition.records.unwrap());
                    assign(&mut stored, 42, 1);
                    appended += 1;
                    let done = ProducedPartition { index: partition.index, base_offset: 42, ..Default::default() };
                    writer.partition(&done).unwrap();
                }
            }
            writer.finish(0, &[]).unwrap();
        });
        assert_eq!((appended, count), (30, 0), "version {version}");
    }
}

#[test]
fn fetch_allocates_nothing() {
    let records = [batch(), batch()].concat();
    for version in 0..=18 {
        let (topic, topic_id) = topic_ref(version);
        let partition = |partition| fetch_request::FetchPartition { partition, ..Default::default() };
        let topic = fetch_request::FetchTopic { topic, topic_id, partitions: (0..10).map(partition).collect() };
        let request = FetchRequest { max_wait_ms: 500, topics: vec![topic; 3], ..Default::default() };
        let mut body = Vec::new();
        request.encode(&mut body, version).unwrap();
        let mut out = Vec::with_capacity(4096);
        let mut written = 0;
        let (count, _) = allocations(|| {
            let view = FetchView::parse(&body, version).unwrap();
            assert_eq!(view.forgotten().count(), 0);
            out.extend([0; 4]);
            let topics = view.topics();
            let mut writer = FetchResponseWriter::new(&mut out, version, 0, ErrorCode::None, 0, topics.len()).unwrap();
            for topic in topics {
                writer.topic(topic.topic, topic.partitions.len()).unwrap();
                assert_eq!(matches!(topic.topic, TopicRef::Id(_)), version >= 13);
                for partition in topic.partitions {
                    let records_len = Some(records.len());
                    let fetched = FetchedPartition { index: partition.index, records_len, ..Default::default() };
                    writer.partition(&fetched).unwrap();
                    written += 1;
                }
            }
            writer.finish(0, &[]).unwrap();
            // What a consumer does with the records.
            for batch in Batches::new(&records) {
                assert_eq!(batch.unwrap().records().unwrap().filter(|record| record.is_ok()).count(), 100);
            }
        });
        assert_eq!((written, count), (30, 0), "version {version}");
    }
}

/// Decompressors keep some state of a fixed size (the window and tables of inflate). Beyond that only output is allocated.
/// libzstd's own context comes from the C heap and is not seen here: it is of a fixed size too.
#[test]
fn decompression_allocates_no_more_than_its_cap() {
    const CAP: usize = 1 << 20;
    const STATE: usize = 64 << 10;
    let bomb = vec![0; 16 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut packed = Vec::new();
        compress(codec, &bomb, &mut packed).unwrap();
        let (_, largest) = allocations(|| {
            let mut out = Vec::new();
            assert!(decompress(codec, &packed, CAP, &mut out).is_err());
        });
        assert!(largest <= CAP, "{codec}: {largest} bytes at once");
        let (_, largest) = allocations(|| {
            let mut out = Vec::new();
            assert!(decompress(codec, &packed, 100, &mut out).is_err());
        });
        assert!(largest <= STATE, "{codec}: {largest} bytes at once");
    }
}
