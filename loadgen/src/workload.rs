//! The batches: prepared before the run, so that sending one costs as little as can be.
//!
//! A [`Workload`] holds several variants of the largest batch, with random payloads. A closed loop without keys and audit
//! sends finished copies of them ([`Workload::finished`]): no work per record, no CRC. Everything else goes through a
//! [`BatchWriter`], which copies the first records of a variant, patches keys and stamps in place and computes one CRC.

use std::fmt;
use std::sync::Arc;

use wire::batch::{Attributes, BatchBuilder, BuildError, HEADER_LEN, LENGTH_OVERHEAD, NewRecord, crc32c, layout};
use wire::compression::{Codec, CompressionError, compress};

use crate::audit::Stamp;
use crate::plan::{BatchBound, Keys, ProduceLoad};
use crate::random::Random;
use crate::transaction::ProducerMark;

/// Bytes of a key.
pub const KEY_LEN: usize = 8;
/// All variants together take about this much, so that the generator reads them from its core's own cache.
const VARIANT_BYTES: usize = 1 << 20;
/// At least so many variants, so that no broker sees one batch for ever.
const MIN_VARIANTS: usize = 4;
/// At most so many.
const MAX_VARIANTS: usize = 1024;
/// Sequential keys count up from the producer's number times this.
const KEYS_PER_PRODUCER: u64 = 1 << 40;

/// Why a workload cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadError {
    /// The batch would be longer than a batch can be, or the codec failed.
    Build(BuildError),
    /// The codec failed.
    Compress(CompressionError),
    /// Stamps do not fit into values of so few bytes.
    NoRoomForStamp(u32),
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkloadError::Build(error) => write!(f, "the batch cannot be built: {error}"),
            WorkloadError::Compress(error) => write!(f, "the batch cannot be compressed: {error}"),
            WorkloadError::NoRoomForStamp(bytes) => {
                write!(f, "audited records need a value of at least {} bytes, not {bytes}", Stamp::LEN)
            }
        }
    }
}

impl std::error::Error for WorkloadError {}

impl From<BuildError> for WorkloadError {
    fn from(error: BuildError) -> WorkloadError {
        WorkloadError::Build(error)
    }
}

/// Batches of one shape. Shared by all threads.
#[derive(Debug)]
pub struct Workload {
    /// Whole uncompressed batches of [`Workload::max_records`] records.
    variants: Vec<Vec<u8>>,
    /// Where each record ends and its value begins, in bytes from the start of the batch; the same in every variant.
    records: Vec<RecordPlace>,
    keys: Keys,
    stamped: bool,
    codec: Codec,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
struct RecordPlace {
    /// Not used without keys.
    key: usize,
    value: usize,
    end: usize,
}

impl Workload {
    /// Prepares the batches of `load`; `timestamp_ms` (since 1970) is the timestamp of all their records.
    pub fn new(load: &ProduceLoad, seed: u64, timestamp_ms: i64) -> Result<Workload, WorkloadError> {
        if load.audit && (load.record_bytes as usize) < Stamp::LEN {
            return Err(WorkloadError::NoRoomForStamp(load.record_bytes));
        }
        let mut random = Random::seeded(seed);
        let mut records = Vec::new();
        let mut variants = vec![build_variant(load, &mut random, timestamp_ms, &mut records)?];
        let count = (VARIANT_BYTES / variants[0].len()).clamp(MIN_VARIANTS, MAX_VARIANTS);
        // The first one decided how many records a batch has; the others follow.
        let load = ProduceLoad { batch: BatchBound::Records(records.len() as u32), ..load.clone() };
        while variants.len() < count {
            variants.push(build_variant(&load, &mut random, timestamp_ms, &mut records)?);
        }
        Ok(Workload { variants, records, keys: load.keys, stamped: load.audit, codec: load.compression, seed })
    }

    /// Records of the largest batch.
    pub fn max_records(&self) -> u32 {
        self.records.len() as u32
    }

    /// Bytes of the largest batch before compression.
    pub fn max_batch_bytes(&self) -> usize {
        self.variants[0].len()
    }

    /// Whether batches can be sent as they were prepared.
    pub fn is_constant(&self) -> bool {
        self.keys == Keys::None && !self.stamped
    }

    /// All variants, compressed and with their CRC: what a constant workload sends.
    pub fn finished(&self) -> Result<Vec<Vec<u8>>, WorkloadError> {
        self.variants
            .iter()
            .map(|variant| {
                let mut out = Vec::new();
                finish(self.codec, variant, &mut out)?;
                Ok(out)
            })
            .collect()
    }

    /// A writer of batches. `number` tells its random keys from those of other writers.
    pub fn writer(self: &Arc<Workload>, number: u32) -> BatchWriter {
        let random = Random::seeded(self.seed ^ (u64::from(number) + 1).wrapping_mul(0xA076_1D64_78BD_642F));
        BatchWriter { workload: Arc::clone(self), next_variant: 0, random, plain: Vec::new() }
    }
}

/// What distinguishes one batch's records from those of all others.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// The stamp of the first record; the sequences of the others follow.
    pub first: Stamp,
    /// How many records the producer has sent to any partition: the number of the first record's sequential key.
    pub key_number: u64,
    /// Timestamp of all records, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The producer in whose transaction the batch is, if there is one.
    pub producer: Option<ProducerMark>,
}

/// Writes batches whose records differ. One for each thread.
#[derive(Debug)]
pub struct BatchWriter {
    workload: Arc<Workload>,
    next_variant: usize,
    random: Random,
    /// The batch before compression.
    plain: Vec<u8>,
}

impl BatchWriter {
    /// The batches' common shape.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Replaces `out` with a batch of `records` records.
    ///
    /// # Panics
    /// When there are more records than [`Workload::max_records`], or none.
    pub fn write(&mut self, out: &mut Vec<u8>, records: u32, marks: &Marks) -> Result<(), WorkloadError> {
        let workload = &*self.workload;
        let places = &workload.records[..records as usize];
        let end = places.last().expect("a batch has a record").end;
        let variant = &workload.variants[self.next_variant];
        self.next_variant = (self.next_variant + 1) % workload.variants.len();
        let plain = if workload.codec == Codec::None { &mut *out } else { &mut self.plain };
        plain.clear();
        plain.extend_from_slice(&variant[..end]);
        let put = |plain: &mut [u8], at: usize, value: &[u8]| plain[at..at + value.len()].copy_from_slice(value);
        put(plain, layout::LAST_OFFSET_DELTA, &(records - 1).to_be_bytes());
        put(plain, layout::BASE_TIMESTAMP, &marks.timestamp_ms.to_be_bytes());
        put(plain, layout::MAX_TIMESTAMP, &marks.timestamp_ms.to_be_bytes());
        put(plain, layout::RECORD_COUNT, &records.to_be_bytes());
        if let Some(ProducerMark { id, epoch, sequence }) = marks.producer {
            put(plain, layout::ATTRIBUTES, &Attributes::default().with_transactional(true).0.to_be_bytes());
            put(plain, layout::PRODUCER_ID, &id.to_be_bytes());
            put(plain, layout::PRODUCER_EPOCH, &epoch.to_be_bytes());
            put(plain, layout::BASE_SEQUENCE, &sequence.to_be_bytes());
        }
        match workload.keys {
            Keys::None => {}
            Keys::Random(of) => {
                for place in places {
                    put(plain, place.key, &self.random.below(of).to_be_bytes());
                }
            }
            Keys::Sequential => {
                let first = u64::from(marks.first.producer) * KEYS_PER_PRODUCER + marks.key_number;
                for (place, key) in places.iter().zip(first..) {
                    put(plain, place.key, &key.to_be_bytes());
                }
            }
        }
        if workload.stamped {
            for (place, sequence) in places.iter().zip(marks.first.sequence..) {
                put(plain, place.value, &Stamp { sequence, ..marks.first }.to_bytes());
            }
        }
        if workload.codec == Codec::None {
            seal(out);
            Ok(())
        } else {
            out.clear();
            finish(workload.codec, &self.plain, out)
        }
    }
}

/// One batch as `load` describes it. `places` is set to where its records are.
fn build_variant(
    load: &ProduceLoad,
    random: &mut Random,
    timestamp_ms: i64,
    places: &mut Vec<RecordPlace>,
) -> Result<Vec<u8>, WorkloadError> {
    let (max_records, max_bytes) = match load.batch {
        BatchBound::Records(records) => (records as usize, usize::MAX),
        BatchBound::Bytes(bytes) => (usize::MAX, bytes as usize),
    };
    let mut builder = BatchBuilder::new(Codec::None);
    let mut value = vec![0; load.record_bytes as usize];
    let random_bytes = (load.record_bytes as f64 * load.entropy).round() as usize;
    places.clear();
    let mut batch = Vec::new();
    while places.len() < max_records {
        random.fill(&mut value[..random_bytes]);
        let key = (load.keys != Keys::None).then_some([0; KEY_LEN]);
        let key = key.as_ref().map(<[u8; KEY_LEN]>::as_slice);
        builder.push(&NewRecord { timestamp: timestamp_ms, key, value: Some(&value), headers: &[] })?;
        let end = builder.uncompressed_len();
        if end > max_bytes && !places.is_empty() {
            break;
        }
        // A record ends with its value and the number of its headers, a zero of one byte.
        let value_at = end - 1 - value.len();
        let key_at = value_at - varint_len(value.len()) - KEY_LEN;
        places.push(RecordPlace { key: key_at, value: value_at, end });
        if end > max_bytes {
            break;
        }
    }
    builder.finish(&mut batch)?;
    // The record that broke the byte bound is still in the builder: cut it off and count again.
    batch.truncate(places.last().expect("at least one record is placed").end);
    let records = places.len() as u32;
    batch[layout::LAST_OFFSET_DELTA..][..4].copy_from_slice(&(records - 1).to_be_bytes());
    batch[layout::RECORD_COUNT..][..4].copy_from_slice(&records.to_be_bytes());
    seal(&mut batch);
    Ok(batch)
}

/// Appends the batch `plain`, compressed with `codec`.
fn finish(codec: Codec, plain: &[u8], out: &mut Vec<u8>) -> Result<(), WorkloadError> {
    let start = out.len();
    if codec == Codec::None {
        out.extend_from_slice(plain);
        return Ok(());
    }
    out.extend_from_slice(&plain[..HEADER_LEN]);
    compress(codec, &plain[HEADER_LEN..], out).map_err(WorkloadError::Compress)?;
    let [high, low, ..] = plain[layout::ATTRIBUTES..] else { unreachable!("a batch has a header") };
    let attributes = Attributes(i16::from_be_bytes([high, low])).with_codec(codec).0;
    out[start + layout::ATTRIBUTES..][..2].copy_from_slice(&attributes.to_be_bytes());
    seal(&mut out[start..]);
    Ok(())
}

/// Sets a batch's length and CRC, which follow from its other bytes.
fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - LENGTH_OVERHEAD).expect("bounded by the builder");
    batch[layout::BATCH_LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[layout::ATTRIBUTES..]);
    batch[layout::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
}

/// Bytes of a length in a record: a zigzag varint, seven bits a byte.
fn varint_len(length: usize) -> usize {
    let bits = usize::BITS - (length << 1).leading_zeros();
    (bits.max(1)).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::batch::BatchView;

    use super::*;
    use crate::plan::{Acks, Pace};

    fn load() -> ProduceLoad {
        ProduceLoad {
            connections: 1,
            in_flight: 1,
            pace: Pace::Closed,
            batch: BatchBound::Records(1),
            record_bytes: 100,
            acks: Acks::Leader,
            compression: Codec::None,
            keys: Keys::None,
            entropy: 1.0,
            audit: false,
            transaction_batches: None,
            abort_every: None,
            request_timeout: Duration::from_secs(30),
        }
    }

    /// Values and keys of a batch that is checked to be sound in every respect.
    fn open(bytes: &[u8]) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
        let view = BatchView::parse(bytes).unwrap();
        assert_eq!(view.total_len(), bytes.len());
        assert!(view.crc_matches());
        view.validate_counts().unwrap();
        let mut scratch = Vec::new();
        let body = view.decompress(1 << 24, &mut scratch).unwrap();
        view.records_in(body)
            .map(|record| {
                let record = record.unwrap();
                assert_eq!(record.timestamp, view.max_timestamp());
                (record.key.map(<[u8]>::to_vec), record.value.unwrap().to_vec())
            })
            .collect()
    }

    #[test]
    fn one_record_of_100_bytes_makes_170() {
        let workload = Workload::new(&load(), 1, 1_700_000_000_000).unwrap();
        assert_eq!((workload.max_records(), workload.max_batch_bytes()), (1, 170));
        assert!(workload.is_constant());
        let batches = workload.finished().unwrap();
        assert!(batches.len() > 100);
        let mut values: Vec<_> = batches.iter().flat_map(|batch| open(batch)).map(|(_, value)| value).collect();
        assert!(values.iter().all(|value| value.len() == 100));
        values.sort();
        values.dedup();
        assert_eq!(values.len(), batches.len(), "all payloads differ");
    }

    #[test]
    fn the_byte_bound_is_filled_and_kept() {
        for (bytes, record_bytes) in [(16 << 10, 100), (500_000, 1_024), (65_536, 0), (1 << 20, 63), (1 << 20, 9_000)] {
            let load = ProduceLoad { batch: BatchBound::Bytes(bytes), record_bytes, ..load() };
            let workload = Workload::new(&load, 1, 5).unwrap();
            let len = workload.max_batch_bytes();
            let one_more = len + record_bytes as usize + 20;
            assert!(len <= bytes as usize && one_more > bytes as usize, "{len} of {bytes}");
            assert_eq!(open(&workload.finished().unwrap()[0]).len(), workload.max_records() as usize);
        }
        // A record larger than the bound travels alone.
        let load = ProduceLoad { batch: BatchBound::Bytes(100), record_bytes: 1_000, ..load() };
        assert_eq!(Workload::new(&load, 1, 5).unwrap().max_records(), 1);
    }

    #[test]
    fn stamps_and_keys_of_every_prefix_and_codec() {
        for compression in Codec::ALL {
            for record_bytes in [32, 54, 63, 64, 100, 9_000] {
                let load = ProduceLoad {
                    batch: BatchBound::Records(200),
                    record_bytes,
                    compression,
                    keys: Keys::Sequential,
                    audit: true,
                    ..load()
                };
                let workload = Arc::new(Workload::new(&load, 1, 5).unwrap());
                assert!(!workload.is_constant());
                let mut writer = workload.writer(0);
                let mut out = b"old".to_vec();
                for records in [1, 2, 63, 64, 65, 200] {
                    let first = Stamp { run: 8, producer: 3, partition: 1, sequence: 1_000, intended_ns: 9 };
                    writer
                        .write(&mut out, records, &Marks { first, key_number: 70, timestamp_ms: 6, producer: None })
                        .unwrap();
                    let got = open(&out);
                    assert_eq!(got.len(), records as usize);
                    for ((key, value), i) in got.iter().zip(0_u64..) {
                        let want = Stamp { sequence: 1_000 + i, ..first };
                        assert_eq!(Stamp::from_value(value), Some(want), "{compression} {record_bytes} {i}");
                        assert_eq!(value.len(), record_bytes as usize);
                        assert_eq!(key.as_deref(), Some((3 * KEYS_PER_PRODUCER + 70 + i).to_be_bytes().as_slice()));
                    }
                }
            }
        }
    }

    #[test]
    fn random_keys_lie_in_their_space_and_fill_it() {
        let load = ProduceLoad { batch: BatchBound::Records(500), keys: Keys::Random(10), ..load() };
        let workload = Arc::new(Workload::new(&load, 1, 5).unwrap());
        let first = Stamp { run: 0, producer: 0, partition: 0, sequence: 0, intended_ns: 0 };
        let mut out = Vec::new();
        workload
            .writer(0)
            .write(&mut out, 500, &Marks { first, key_number: 0, timestamp_ms: 1, producer: None })
            .unwrap();
        let keys: std::collections::BTreeSet<Vec<u8>> = open(&out).into_iter().filter_map(|(key, _)| key).collect();
        let all: std::collections::BTreeSet<Vec<u8>> = (0..10_u64).map(|key| key.to_be_bytes().to_vec()).collect();
        assert_eq!(keys, all);
    }

    #[test]
    fn entropy_decides_how_far_a_batch_shrinks() {
        let size = |entropy| {
            let batch = BatchBound::Bytes(100_000);
            let load = ProduceLoad { batch, record_bytes: 1_000, entropy, compression: Codec::Zstd, ..load() };
            Workload::new(&load, 1, 5).unwrap().finished().unwrap()[0].len()
        };
        let (none, half, full) = (size(0.0), size(0.5), size(1.0));
        assert!(none < 5_000 && (45_000..60_000).contains(&half) && full > 95_000, "{none} {half} {full}");
    }

    #[test]
    fn stamps_need_room() {
        let load = ProduceLoad { record_bytes: 31, audit: true, ..load() };
        assert_eq!(Workload::new(&load, 1, 5).err(), Some(WorkloadError::NoRoomForStamp(31)));
    }

    #[test]
    fn varints_of_lengths() {
        for (length, bytes) in [(0, 1), (63, 1), (64, 2), (8_191, 2), (8_192, 3), (1 << 20, 4)] {
            assert_eq!(varint_len(length), bytes, "{length}");
        }
    }
}
