//! CRC-32C of batches: the crate in use against the other candidate.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use micro_bench::noise;

fn crc(c: &mut Criterion) {
    let bytes = noise(1 << 20);
    let mut group = c.benchmark_group("crc32c");
    // What the CRC covers of a batch of one small record, of ten, and of three sizes of full batches.
    for len in [149, 170, 1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let bytes = &bytes[..len];
        assert_eq!(crc_fast::crc32_iscsi(bytes), crc32c::crc32c(bytes));
        assert_eq!(wire::batch::crc32c(bytes), crc32c::crc32c(bytes));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("crc-fast", len), bytes, |b, bytes| {
            b.iter(|| crc_fast::crc32_iscsi(black_box(bytes)));
        });
        group.bench_with_input(BenchmarkId::new("crc32c", len), bytes, |b, bytes| {
            b.iter(|| crc32c::crc32c(black_box(bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, crc);
criterion_main!(benches);
