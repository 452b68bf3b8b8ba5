//! Records of the catalog and their form: a batch holds the records of one decision, so that all of it takes effect or
//! nothing.
//!
//! The value of a record is a frame (KIP-631): the frame's version 1, the record's type and version, all three as
//! unsigned varints, then the body. Keys are null.

use std::fmt;

use wire::batch::{BatchBuilder, BatchError, BatchView, BuildError, NewRecord};
use wire::compression::Codec;
use wire::records::{
    ConfigRecord, FeatureLevelRecord, NoOpRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord,
};
use wire::{DecodeError, EncodeError, Message, Reader, put};

/// The version of the frame around each record.
const FRAME_VERSION: u32 = 1;

/// A record of the catalog: those of Kafka's metadata records that a broker on its own needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    /// A topic is created; its configurations and partitions follow.
    Topic(TopicRecord<'a>),
    /// A partition is created.
    Partition(PartitionRecord),
    /// A partition's leader or replicas change.
    PartitionChange(PartitionChangeRecord),
    /// A topic is deleted, with its configurations and partitions.
    RemoveTopic(RemoveTopicRecord),
    /// A configuration is set, or removed if its value is null.
    Config(ConfigRecord<'a>),
    /// A feature gets a level.
    FeatureLevel(FeatureLevelRecord<'a>),
    /// A broker says where it is reached.
    RegisterBroker(RegisterBrokerRecord<'a>),
    /// Producer ids below a number have been given away.
    ProducerIds(ProducerIdsRecord),
    /// Nothing.
    NoOp,
}

/// Why bytes are no catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogError {
    /// A batch that is damaged.
    Batch(BatchError),
    /// A record without a value.
    NoValue,
    /// A value that ends within its frame.
    Frame(DecodeError),
    /// A frame of a version that this program does not know.
    FrameVersion(u32),
    /// A record of a type that this program does not know: a newer program has written it.
    UnknownType(u32),
    /// A record's body that breaks its form, or has a version that this program does not know.
    Body {
        /// The record's type.
        kind: i16,
        /// What is wrong.
        error: DecodeError,
    },
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatalogError::Batch(error) => write!(f, "a batch of the catalog is damaged: {error}"),
            CatalogError::NoValue => f.write_str("a record of the catalog has no value"),
            CatalogError::Frame(error) => write!(f, "a record of the catalog has no whole frame: {error}"),
            CatalogError::FrameVersion(version) => {
                write!(f, "a record of the catalog has a frame of version {version}, which a newer program has written")
            }
            CatalogError::UnknownType(kind) => {
                write!(f, "a record of the catalog has the type {kind}, which a newer program has written")
            }
            CatalogError::Body { kind, error } => {
                write!(f, "a record of the catalog of type {kind} is unreadable: {error}")
            }
        }
    }
}

impl std::error::Error for CatalogError {}

impl From<BatchError> for CatalogError {
    fn from(error: BatchError) -> CatalogError {
        CatalogError::Batch(error)
    }
}

impl<'a> Record<'a> {
    /// Appends the framed record.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Record::Topic(body) => frame(body, out),
            Record::Partition(body) => frame(body, out),
            Record::PartitionChange(body) => frame(body, out),
            Record::RemoveTopic(body) => frame(body, out),
            Record::Config(body) => frame(body, out),
            Record::FeatureLevel(body) => frame(body, out),
            Record::RegisterBroker(body) => frame(body, out),
            Record::ProducerIds(body) => frame(body, out),
            Record::NoOp => frame(&NoOpRecord::default(), out),
        }
    }

    /// Reads a framed record.
    pub fn decode(value: &'a [u8]) -> Result<Record<'a>, CatalogError> {
        let mut reader = Reader::new(value);
        let header = |reader: &mut Reader<'a>| reader.uvarint().map_err(CatalogError::Frame);
        let version = header(&mut reader)?;
        if version != FRAME_VERSION {
            return Err(CatalogError::FrameVersion(version));
        }
        let kind = header(&mut reader)?;
        let version = header(&mut reader)?;
        match i16::try_from(kind).map_err(|_| CatalogError::UnknownType(kind))? {
            TopicRecord::API_KEY => Ok(Record::Topic(body(reader, version)?)),
            PartitionRecord::API_KEY => Ok(Record::Partition(body(reader, version)?)),
            PartitionChangeRecord::API_KEY => Ok(Record::PartitionChange(body(reader, version)?)),
            RemoveTopicRecord::API_KEY => Ok(Record::RemoveTopic(body(reader, version)?)),
            ConfigRecord::API_KEY => Ok(Record::Config(body(reader, version)?)),
            FeatureLevelRecord::API_KEY => Ok(Record::FeatureLevel(body(reader, version)?)),
            RegisterBrokerRecord::API_KEY => Ok(Record::RegisterBroker(body(reader, version)?)),
            ProducerIdsRecord::API_KEY => Ok(Record::ProducerIds(body(reader, version)?)),
            NoOpRecord::API_KEY => body::<NoOpRecord>(reader, version).map(|_| Record::NoOp),
            _ => Err(CatalogError::UnknownType(kind)),
        }
    }
}

fn frame<'a, M: Message<'a>>(body: &M, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    put::uvarint(out, FRAME_VERSION);
    put::uvarint(out, u32::from(M::API_KEY.unsigned_abs()));
    put::uvarint(out, u32::from(M::MAX_VERSION.unsigned_abs()));
    body.encode(out, M::MAX_VERSION)
}

fn body<'a, M: Message<'a>>(mut reader: Reader<'a>, version: u32) -> Result<M, CatalogError> {
    // A version beyond 16 bits is beyond every known one.
    let version = i16::try_from(version).unwrap_or(i16::MAX);
    M::decode(&mut reader, version)
        .and_then(|message| reader.finish().map(|()| message))
        .map_err(|error| CatalogError::Body { kind: M::API_KEY, error })
}

/// The batch of one decision, to be appended to the catalog. `now_ms` is the time of its records.
pub fn write_batch(records: &[Record<'_>], now_ms: i64) -> Result<Vec<u8>, BuildError> {
    let mut builder = BatchBuilder::new(Codec::None);
    let mut value = Vec::new();
    for record in records {
        value.clear();
        record.encode(&mut value).expect("the newest version has every field, and names are bounded by requests");
        builder.push(&NewRecord { timestamp: now_ms, value: Some(&value), ..NewRecord::default() })?;
    }
    let mut batch = Vec::new();
    builder.finish(&mut batch)?;
    Ok(batch)
}

/// Hands the records of one batch of the catalog to `each`, in order. Control batches hold none.
pub fn read_batch<E: From<CatalogError>>(
    batch: &BatchView<'_>,
    mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if batch.attributes().is_control() {
        return Ok(());
    }
    for record in batch.records().map_err(CatalogError::from)? {
        let record = record.map_err(|error| CatalogError::Batch(error.into()))?;
        each(&Record::decode(record.value.ok_or(CatalogError::NoValue)?)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wire::Uuid;

    use super::*;

    #[test]
    fn frames_are_kafkas() {
        let record = Record::Topic(TopicRecord {
            name: "foo",
            topic_id: Uuid(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128.to_be_bytes()),
        });
        let mut value = Vec::new();
        record.encode(&mut value).unwrap();
        // Frame version, type 2, version 0; a compact string; the id; no tags.
        let expected = [&[1, 2, 0, 4][..], b"foo", &(1..=16).collect::<Vec<u8>>(), &[0]].concat();
        assert_eq!(value, expected);
        assert_eq!(Record::decode(&value), Ok(record));
    }

    #[test]
    fn what_a_newer_program_wrote_is_told_apart() {
        assert_eq!(Record::decode(&[2, 2, 0]), Err(CatalogError::FrameVersion(2)));
        assert_eq!(Record::decode(&[1, 99, 0]), Err(CatalogError::UnknownType(99)));
        assert_eq!(Record::decode(&[1, 0xff, 0xff, 0x7f, 0]), Err(CatalogError::UnknownType(0x1f_ffff)));
        let newer = CatalogError::Body { kind: 2, error: DecodeError::UnsupportedVersion };
        assert_eq!(Record::decode(&[1, 2, 9, 0]), Err(newer));
        assert!(matches!(Record::decode(&[1]), Err(CatalogError::Frame(_))));
        assert!(matches!(Record::decode(&[1, 2, 0, 4, b'f']), Err(CatalogError::Body { kind: 2, .. })));
    }

    #[test]
    fn a_batch_gives_back_its_records() {
        let records = [Record::NoOp, Record::RemoveTopic(RemoveTopicRecord { topic_id: Uuid([3; 16]) })];
        let batch = write_batch(&records, 1_700_000_000_000).unwrap();
        let view = BatchView::parse(&batch).unwrap();
        assert!(view.crc_matches());
        assert_eq!(view.max_timestamp(), 1_700_000_000_000);
        let mut seen = Vec::new();
        read_batch(&view, |record| {
            seen.push(format!("{record:?}"));
            Ok::<_, CatalogError>(())
        })
        .unwrap();
        assert_eq!(seen, records.map(|record| format!("{record:?}")));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
            // Past the frame, too.
            for kind in 0..32 {
                let _ = Record::decode(&[&[1, kind, 0], bytes.as_slice()].concat());
            }
        }
    }
}
