//! Codecs of the wire: record batches, the Produce path, and a generated message.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use micro_bench::{METADATA_VERSION, PRODUCE_VERSION, batch, metadata_response, produce_request};
use wire::batch::BatchView;
use wire::compression::{Codec, compress, decompress};
use wire::messages::{MetadataResponse, ProduceRequest};
use wire::produce::{ProduceResponseWriter, ProduceView, ProducedPartition};
use wire::{Message, Reader};

/// Records per batch: one, what 16 KiB holds, what 64 KiB holds.
const RECORDS: [usize; 3] = [1, 150, 600];

fn batch_view(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for records in RECORDS {
        let bytes = batch(records, Codec::None);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        // The check that every produced batch passes.
        group.bench_with_input(BenchmarkId::new("check", records), &bytes[..], |b, bytes| {
            b.iter(|| {
                let batch = BatchView::parse(black_box(bytes)).unwrap();
                batch.validate_counts().unwrap();
                assert!(batch.crc_matches());
            });
        });
        group.bench_with_input(BenchmarkId::new("validate records", records), &bytes[..], |b, bytes| {
            let batch = BatchView::parse(bytes).unwrap();
            b.iter(|| black_box(batch).validate_records().unwrap());
        });
    }
    group.finish();
}

fn produce(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce");
    for partitions in [1, 10, 100] {
        let body = produce_request(&batch(1, Codec::None), partitions);
        group.throughput(Throughput::Elements(partitions as u64));
        // Two passes and the response, as a broker does it.
        let mut out = Vec::new();
        group.bench_with_input(BenchmarkId::new("in place", partitions), &body[..], |b, body| {
            b.iter(|| answer_in_place(black_box(body), &mut out));
        });
        group.bench_with_input(BenchmarkId::new("generated decode", partitions), &body[..], |b, body| {
            b.iter(|| ProduceRequest::decode(&mut Reader::new(black_box(body)), PRODUCE_VERSION).unwrap());
        });
    }
    group.finish();
}

fn answer_in_place(body: &[u8], out: &mut Vec<u8>) -> usize {
    out.clear();
    let view = ProduceView::parse(body, PRODUCE_VERSION).unwrap();
    let mut writer = ProduceResponseWriter::new(out, PRODUCE_VERSION, view.topics().len()).unwrap();
    let mut bytes = 0;
    for topic in view.topics() {
        writer.topic(topic.topic, topic.partitions.len()).unwrap();
        for partition in topic.partitions {
            bytes += partition.records.map_or(0, <[u8]>::len);
            let done = ProducedPartition { index: partition.index, base_offset: 42, ..Default::default() };
            writer.partition(&done).unwrap();
        }
    }
    writer.finish(0, &[]).unwrap();
    bytes
}

fn metadata(c: &mut Criterion) {
    let mut group = c.benchmark_group("metadata");
    for topics in [1, 100] {
        let response = metadata_response(topics);
        let mut encoded = Vec::new();
        response.encode(&mut encoded, METADATA_VERSION).unwrap();
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        let mut out = Vec::new();
        group.bench_with_input(BenchmarkId::new("encode", topics), &response, |b, response| {
            b.iter(|| {
                out.clear();
                response.encode(&mut out, METADATA_VERSION).unwrap();
            });
        });
        group.bench_with_input(BenchmarkId::new("decode", topics), &encoded[..], |b, encoded| {
            b.iter(|| MetadataResponse::decode(&mut Reader::new(black_box(encoded)), METADATA_VERSION).unwrap());
        });
    }
    group.finish();
}

fn compression(c: &mut Criterion) {
    let mut group = c.benchmark_group("compression");
    // Text of a kind that sensors send, 64 KiB of it.
    let input: Vec<u8> = (0..)
        .flat_map(|i: u32| format!("sensor-{} temperature {}.5\n", i % 97, i % 40).into_bytes())
        .take(65536)
        .collect();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        group.throughput(Throughput::Bytes(input.len() as u64));
        let mut packed = Vec::new();
        compress(codec, &input, &mut packed).unwrap();
        let mut out = Vec::new();
        group.bench_with_input(BenchmarkId::new("compress", codec), &input[..], |b, input| {
            b.iter(|| {
                out.clear();
                compress(codec, black_box(input), &mut out).unwrap();
            });
        });
        let mut out = Vec::new();
        group.bench_with_input(BenchmarkId::new("decompress", codec), &packed[..], |b, packed| {
            b.iter(|| {
                out.clear();
                decompress(codec, black_box(packed), 1 << 20, &mut out).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batch_view, produce, metadata, compression);
criterion_main!(benches);
