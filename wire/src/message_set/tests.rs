use super::*;
use crate::batch::{BatchBuilder, BatchView, Header, NewRecord, TimestampType};
use crate::compression::compress;
use crate::test_random::Random;

const CAP: usize = 1 << 20;
const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4];

/// What both formats have of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn random_records(random: &mut Random) -> Vec<Plain> {
    let field = |random: &mut Random| {
        (!random.chance(6)).then(|| {
            let (byte, len) = (random.bits() as u8, random.below(200));
            (0..len).map(|at| byte.wrapping_add((at % 7) as u8)).collect()
        })
    };
    (0..1 + random.below(20))
        .map(|_| Plain { timestamp: 1000 + random.below(500) as i64, key: field(random), value: field(random) })
        .collect()
}

fn batch(records: &[Plain], codec: Codec, base_offset: i64, append_time: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    builder.assigned(base_offset, 3).log_append_time(append_time);
    for (index, record) in records.iter().enumerate() {
        let headers = [Header { key: b"lost", value: None }];
        let record = NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers[..index % 2],
        };
        builder.push(&record).unwrap();
    }
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

fn down(batch: &[u8], magic: Magic) -> Vec<u8> {
    let mut set = Vec::new();
    let batch = BatchView::parse(batch).unwrap();
    assert_eq!(from_batch(&batch, magic, 0, usize::MAX, CAP, &mut set), Ok(Down::Whole));
    set
}

fn up(set: &[u8]) -> Result<Vec<u8>, SetError> {
    let mut out = b"head".to_vec();
    let result = to_batch(set, None, CAP, &mut out);
    assert!(result.is_ok() || out == b"head", "output left after an error");
    result.map(|_| out.split_off(4))
}

fn records_of(bytes: &[u8]) -> Vec<Plain> {
    let batch = BatchView::parse(bytes).unwrap();
    assert!(batch.crc_matches() && batch.total_len() == bytes.len());
    batch.validate_counts().unwrap();
    let mut scratch = Vec::new();
    let records = batch.records_in(batch.decompress(CAP, &mut scratch).unwrap());
    let own = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
    records
        .map(|record| {
            let record = record.unwrap();
            Plain { timestamp: record.timestamp, key: own(record.key), value: own(record.value) }
        })
        .collect()
}

/// A set of one message, made by hand but for its CRC.
fn message(magic: u8, attributes: u8, rest: &[u8]) -> Vec<u8> {
    let covered = [&[magic, attributes], rest].concat();
    let crc = crc32(&covered);
    let size = covered.len() as i32 + 4;
    [&7i64.to_be_bytes()[..], &size.to_be_bytes(), &crc.to_be_bytes(), &covered].concat()
}

#[test]
fn down_and_up_again_keeps_what_both_formats_have() {
    let mut random = Random::new(11);
    for round in 0..400 {
        let (codec, magic) = (random.pick(&CODECS), random.pick(&[Magic::V0, Magic::V1]));
        let stamp = random.chance(3).then_some(77_000);
        let mut records = random_records(&mut random);
        let stored = batch(&records, codec, 1 + random.below(1000) as i64, stamp);
        let back = up(&down(&stored, magic)).unwrap();
        let view = BatchView::parse(&back).unwrap();
        assert_eq!(view.codec(), Ok(codec));
        for record in &mut records {
            record.timestamp = match magic {
                Magic::V0 => NO_TIMESTAMP,
                Magic::V1 => stamp.unwrap_or(record.timestamp),
            };
        }
        assert_eq!(records_of(&back), records, "round {round}: {codec}, {magic:?}");
        let stamped = stamp.is_some() && magic == Magic::V1;
        assert_eq!(view.attributes().timestamp_type() == TimestampType::LogAppendTime, stamped);
    }
}

#[test]
fn a_message_of_each_magic_by_hand() {
    let records = [Plain { timestamp: 258, key: Some(b"k".to_vec()), value: None }];
    let stored = batch(&records, Codec::None, 5, None);
    #[rustfmt::skip]
    let magic_0 = [
        0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 15, // offset 5, 15 bytes
        0x90, 0x82, 0x04, 0xf6, 0, 0,        // CRC, magic, attributes
        0, 0, 0, 1, b'k', 255, 255, 255, 255,
    ];
    let set = down(&stored, Magic::V0);
    assert_eq!(set, magic_0);
    let set = down(&batch(&records, Codec::None, 5, Some(259)), Magic::V1);
    assert_eq!(set[16..], [1, 8, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 1, b'k', 255, 255, 255, 255]);
    // The check value of CRC-32/ISO-HDLC.
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

/// A wrapper's offset is that of its last message. Inside, magic 0 has offsets as they are and magic 1 counts from the first.
#[test]
fn offsets_of_wrappers() {
    let records: Vec<Plain> = (0..3).map(|_| Plain { timestamp: 9, key: None, value: Some(b"v".to_vec()) }).collect();
    let stored = batch(&records, Codec::Gzip, 100, None);
    for (magic, inside) in [(Magic::V0, [100, 101, 102]), (Magic::V1, [0, 1, 2])] {
        let set = down(&stored, magic);
        let wrapper = Messages::new(&set).next().unwrap().unwrap();
        assert_eq!((wrapper.offset, wrapper.codec), (102, Codec::Gzip));
        assert_eq!(wrapper.timestamp, if magic == Magic::V1 { 9 } else { NO_TIMESTAMP });
        let mut plain = Vec::new();
        crate::compression::decompress(Codec::Gzip, wrapper.value.unwrap(), CAP, &mut plain).unwrap();
        let offsets: Vec<i64> = Messages::new(&plain).map(|message| message.unwrap().offset).collect();
        assert_eq!(offsets, inside);
    }
}

/// Magic 0 has a header checksum that covers the frame's magic too. Readers of magic 1 check the right one.
#[test]
fn lz4_of_magic_0_has_the_wrong_header_checksum() {
    let records = [Plain { timestamp: 9, key: None, value: Some(vec![b'x'; 1000]) }];
    let stored = batch(&records, Codec::Lz4, 0, None);
    let checksum = |magic| {
        let set = down(&stored, magic);
        let wrapper = Messages::new(&set).next().unwrap().unwrap();
        // FLG 60, BD 40.
        assert_eq!(wrapper.value.unwrap()[4..6], [0x60, 0x40]);
        wrapper.value.unwrap()[6]
    };
    assert_eq!(checksum(Magic::V1), 0x82);
    assert_ne!(checksum(Magic::V0), 0x82);

    let mut inner = Vec::new();
    compress(Codec::Lz4, &message(0, 0, &[255; 8]), &mut inner).unwrap();
    inner[6] ^= 1;
    let value = [&[255; 4][..], &(inner.len() as i32).to_be_bytes(), &inner].concat();
    assert!(up(&message(0, 3, &value)).is_ok());
    let with_time = [&9i64.to_be_bytes()[..], &value].concat();
    assert!(matches!(up(&message(1, 3, &with_time)), Err(SetError::Compression(_))));
}

#[test]
fn what_no_message_set_may_hold() {
    let null = [255; 8];
    let good = message(0, 0, &null);
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    let wrap = |inner: &[u8]| {
        let mut packed = Vec::new();
        compress(Codec::Gzip, inner, &mut packed).unwrap();
        message(0, 1, &[&[255; 4][..], &(packed.len() as i32).to_be_bytes(), &packed].concat())
    };
    let magic_1 = message(1, 0, &[&[0; 8][..], &null].concat());
    let early = message(1, 0, &[&(-2i64).to_be_bytes()[..], &null].concat());
    let cases = [
        (with(11, 13), SetError::Size(13)),
        (with(8, 0x80), SetError::Size(i32::MIN + 14)),
        (with(16, 2), SetError::Magic(2)),
        (with(16, 255), SetError::Magic(-1)),
        (with(15, 0), SetError::Crc),
        (message(0, 4, &null), SetError::Codec(4)),
        (message(0, 7, &null), SetError::Codec(7)),
        (message(0, 0, &[0, 0, 0, 1, 255, 255, 255, 255]), SetError::Fields),
        (message(0, 0, &[&null[..], b"x"].concat()), SetError::Fields),
        (message(0, 0, &[255, 255, 255, 254, 255, 255, 255, 255]), SetError::Fields),
        (message(1, 0, &null), SetError::Size(14)),
        (early, SetError::Timestamp(-2)),
        ([&good[..], &magic_1].concat(), SetError::MixedMagic),
        ([&good[..], &wrap(&good)].concat(), SetError::NotAlone),
        ([&wrap(&good)[..], &good].concat(), SetError::NotAlone),
        (wrap(&wrap(&good)), SetError::Nested),
        (wrap(&magic_1), SetError::MixedMagic),
        (wrap(&[]), SetError::EmptyWrapper),
        (wrap(&good[..20]), SetError::CutWrapper),
        (message(0, 1, &null), SetError::EmptyWrapper),
    ];
    for (set, error) in cases {
        assert_eq!(up(&set), Err(error.clone()), "{error}");
    }
    // A message that is cut at the end is none, as in Kafka.
    let cut = [&good[..], &good[..20]].concat();
    assert_eq!(records_of(&up(&cut).unwrap()).len(), 1);
    assert_eq!(up(&[]), Ok(Vec::new()));
    assert_eq!(up(&good[..25]), Ok(Vec::new()));
}

#[test]
fn a_bomb_stops_at_the_cap() {
    let mut packed = Vec::new();
    compress(Codec::Gzip, &vec![0; 4 * CAP], &mut packed).unwrap();
    let set = message(0, 1, &[&[255; 4][..], &(packed.len() as i32).to_be_bytes(), &packed].concat());
    assert!(up(&set).unwrap_err().is_too_large());

    let records = [Plain { timestamp: 1, key: None, value: Some(vec![0; 2 * CAP]) }];
    let stored = batch(&records, Codec::Gzip, 0, None);
    let mut out = Vec::new();
    let stored = BatchView::parse(&stored).unwrap();
    assert!(from_batch(&stored, Magic::V1, 0, usize::MAX, CAP, &mut out).is_err());
    // Messages are longer than records: the cap holds for them too.
    let records = vec![Plain { timestamp: 1, key: None, value: None }; 1000];
    let stored = batch(&records, Codec::Gzip, 0, None);
    let stored = BatchView::parse(&stored).unwrap();
    assert!(from_batch(&stored, Magic::V1, 0, usize::MAX, 20_000, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn single_messages_are_cut_to_what_is_asked_for() {
    let records = vec![Plain { timestamp: 1, key: None, value: Some(vec![0; 100]) }; 10];
    let stored = batch(&records, Codec::None, 20, None);
    let stored = BatchView::parse(&stored).unwrap();
    const LEN: usize = ENTRY_LEN + MIN_SIZE_V1 + 100;
    let offsets = |from: i64, room: usize| {
        let mut set = Vec::new();
        let down = from_batch(&stored, Magic::V1, from, room, CAP, &mut set).unwrap();
        let offsets: Vec<i64> = Messages::new(&set).map(|message| message.unwrap().offset).collect();
        (down, offsets)
    };
    assert_eq!(offsets(27, 3 * LEN), (Down::Whole, vec![27, 28, 29]));
    assert_eq!(offsets(27, 3 * LEN - 1), (Down::Full, vec![27, 28]));
    // The first one comes in any case.
    assert_eq!(offsets(27, 1), (Down::Full, vec![27]));
}

#[test]
fn wrappers_are_whole_or_not_there() {
    let records = vec![Plain { timestamp: 1, key: None, value: Some(vec![0; 100]) }; 10];
    let stored = batch(&records, Codec::Snappy, 20, None);
    let stored = BatchView::parse(&stored).unwrap();
    let mut set = Vec::new();
    assert_eq!(from_batch(&stored, Magic::V1, 25, 1, CAP, &mut set), Ok(Down::Whole));
    let one = set.len();
    assert_eq!(from_batch(&stored, Magic::V1, 25, 2 * one - 1, CAP, &mut set), Ok(Down::Full));
    assert_eq!(set.len(), one);
    assert_eq!(from_batch(&stored, Magic::V1, 25, 2 * one, CAP, &mut set), Ok(Down::Whole));
    assert_eq!(set.len(), 2 * one);
}

#[test]
fn what_messages_cannot_say() {
    let records = [Plain { timestamp: 1, key: None, value: None }];
    let stored = batch(&records, Codec::Zstd, 0, None);
    let mut out = b"set".to_vec();
    let zstd = from_batch(&BatchView::parse(&stored).unwrap(), Magic::V1, 0, usize::MAX, CAP, &mut out);
    assert_eq!(zstd, Err(crate::batch::BatchError::UnknownCodec(4)));
    let mut builder = BatchBuilder::new(Codec::None);
    builder.control(true).push(&NewRecord::default()).unwrap();
    let mut control = Vec::new();
    builder.finish(&mut control).unwrap();
    let control = from_batch(&BatchView::parse(&control).unwrap(), Magic::V1, 0, usize::MAX, CAP, &mut out);
    assert_eq!(control, Ok(Down::Whole));
    assert_eq!(out, b"set");
}

#[test]
fn mutated_sets_never_panic_nor_make_a_broken_batch() {
    let mut random = Random::new(5);
    for _ in 0..4000 {
        let (codec, magic) = (random.pick(&CODECS), random.pick(&[Magic::V0, Magic::V1]));
        let mut set = down(&batch(&random_records(&mut random), codec, 0, None), magic);
        random.mutate(&mut set);
        if random.chance(2) && set.len() > UP_TO_MAGIC {
            // With a CRC that holds, so that what is behind it is looked at.
            let size = i32::from_be_bytes(set[8..12].try_into().unwrap());
            let end = ENTRY_LEN.saturating_add(usize::try_from(size).unwrap_or(0)).clamp(UP_TO_MAGIC, set.len());
            let crc = crc32(&set[ENTRY_LEN + 4..end]);
            set[ENTRY_LEN..ENTRY_LEN + 4].copy_from_slice(&crc.to_be_bytes());
        }
        if let Ok(converted) = up(&set)
            && !converted.is_empty()
        {
            records_of(&converted);
        }
    }
}
