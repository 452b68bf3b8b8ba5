use super::*;
use crate::test_random::Random;

const COMPRESSING: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Bytes that compress by about a half: words of a small vocabulary and some noise.
fn text(len: usize) -> Vec<u8> {
    let mut random = Random::new(len as u64);
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        if random.below(4) == 0 {
            bytes.extend_from_slice(&random.bits().to_le_bytes());
        } else {
            bytes.extend_from_slice(["sensor", "temperature", "pressure", "-", "21.5"][random.below(5)].as_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, input, &mut out).unwrap();
    out
}

fn unpacked(codec: Codec, input: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = b"before".to_vec();
    let result = decompress(codec, input, cap, &mut out);
    assert!(out.starts_with(b"before"));
    assert!(out.capacity() <= cap.max(16) + 6, "{codec}: capacity {} with cap {cap}", out.capacity());
    if result.is_err() {
        assert_eq!(out.len(), 6, "{codec}: output left after an error");
    }
    result.map(|()| out.split_off(6))
}

#[test]
fn ids_and_names() {
    for codec in Codec::ALL {
        assert_eq!(Codec::from_id(codec.id()), Some(codec));
        assert_eq!(codec.name().parse(), Ok(codec));
    }
    assert_eq!(Codec::from_id(5), None);
    assert_eq!("brotli".parse::<Codec>(), Err(UnknownCodecName));
}

#[test]
fn round_trips() {
    for codec in Codec::ALL {
        for len in [0, 1, 5, 100, 4096, 32 << 10, (32 << 10) + 1, 65536, 65537, 1 << 20, 3_000_001] {
            let input = text(len);
            let packed = compressed(codec, &input);
            if codec != Codec::None && len > 1000 {
                assert!(packed.len() < len, "{codec} does not compress");
            }
            assert!(unpacked(codec, &packed, len) == Ok(input), "{codec}, {len} bytes");
        }
    }
}

#[test]
fn compress_appends() {
    for codec in Codec::ALL {
        let mut out = b"head".to_vec();
        compress(codec, b"some text, some text", &mut out).unwrap();
        assert_eq!(&out[..4], b"head");
        assert_eq!(unpacked(codec, &out[4..], 100).unwrap(), b"some text, some text");
    }
}

#[test]
fn the_cap_is_exact() {
    for codec in Codec::ALL {
        for len in [1, 1000, 65536, 200_000] {
            let packed = compressed(codec, &text(len));
            assert!(unpacked(codec, &packed, len).is_ok(), "{codec}, {len}");
            for cap in [0, len / 2, len - 1] {
                assert_eq!(unpacked(codec, &packed, cap), Err(CompressionError::TooLarge { cap }), "{codec}, {len}");
            }
        }
    }
}

#[test]
fn a_bomb_stops_at_the_cap() {
    let bomb = vec![0; 64 << 20];
    for codec in COMPRESSING {
        let packed = compressed(codec, &bomb);
        assert!(packed.len() < 4 << 20);
        assert_eq!(unpacked(codec, &packed, 100_000), Err(CompressionError::TooLarge { cap: 100_000 }), "{codec}");
    }
}

#[test]
fn zstd_without_a_content_size_grows_to_the_cap() {
    // The streaming encoder writes no content size, as Kafka's Java client does.
    let input = vec![7; 5_000_000];
    let packed = ::zstd::stream::encode_all(&input[..], 3).unwrap();
    assert_eq!(::zstd::zstd_safe::get_frame_content_size(&packed).unwrap(), None);
    assert!(unpacked(Codec::Zstd, &packed, 5_000_000) == Ok(input));
    assert_eq!(unpacked(Codec::Zstd, &packed, 4_999_999), Err(CompressionError::TooLarge { cap: 4_999_999 }));
}

#[test]
fn concatenated_gzip_members_and_zstd_frames() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let mut packed = compressed(codec, b"one ");
        packed.extend(compressed(codec, b"two"));
        assert_eq!(unpacked(codec, &packed, 100).unwrap(), b"one two", "{codec}");
        assert_eq!(unpacked(codec, &packed, 6), Err(CompressionError::TooLarge { cap: 6 }), "{codec}");
    }
}

#[test]
fn snappy_raw_and_framed() {
    let input = text(100_000);
    let mut raw = Vec::new();
    compress_snappy_raw(&input, &mut raw).unwrap();
    assert!(unpacked(Codec::Snappy, &raw, input.len()) == Ok(input.clone()));

    let framed = compressed(Codec::Snappy, &input);
    assert_eq!(&framed[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let twice = [&framed[..], &framed[..]].concat();
    assert!(unpacked(Codec::Snappy, &twice, 200_000) == Ok([&input[..], &input[..]].concat()));
    assert_eq!(unpacked(Codec::Snappy, &twice, 199_999), Err(CompressionError::TooLarge { cap: 199_999 }));
}

#[test]
fn snappy_lengths_that_lie() {
    // The raw preamble promises 1 GiB; the block holds one byte.
    let lie = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00, b'a'];
    assert!(matches!(unpacked(Codec::Snappy, &lie, 2 << 30), Err(CompressionError::Corrupt { .. })));
    for block_len in [-1, 5, i32::MAX] {
        let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        framed.extend(i32::to_be_bytes(block_len));
        framed.extend([1, 0, b'a']);
        assert!(matches!(unpacked(Codec::Snappy, &framed, 100), Err(CompressionError::Corrupt { .. })));
    }
}

/// A frame made by hand from the specification: linked blocks, both checksums, a content size.
#[test]
fn lz4_linked_blocks_with_checksums() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let input = text(500_000);
    for (mode, block, sum) in [
        (BlockMode::Linked, BlockSize::Max64KB, true),
        (BlockMode::Independent, BlockSize::Max256KB, true),
        (BlockMode::Linked, BlockSize::Max1MB, false),
        (BlockMode::Independent, BlockSize::Max4MB, false),
    ] {
        let info = FrameInfo::new()
            .block_mode(mode)
            .block_size(block)
            .block_checksums(sum)
            .content_checksum(sum)
            .content_size(Some(input.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&input).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(unpacked(Codec::Lz4, &packed, input.len()) == Ok(input.clone()));
        // A changed bit somewhere in the data: found wherever the frame has a checksum.
        for at in (7..packed.len()).step_by(packed.len() / 50) {
            let mut changed = packed.clone();
            changed[at] ^= 0x10;
            let result = unpacked(Codec::Lz4, &changed, input.len());
            assert!(!sum || result.is_err(), "byte {at}");
        }
    }
}

#[test]
fn lz4_stored_block() {
    // FLG 60: version 1, independent blocks. BD 40: 64 KiB. 82 is the header checksum.
    let frame = b"\x04\x22\x4d\x18\x60\x40\x82\x03\0\0\x80abc\0\0\0\0";
    assert_eq!(unpacked(Codec::Lz4, frame, 3).unwrap(), b"abc");
    assert_eq!(unpacked(Codec::Lz4, frame, 2), Err(CompressionError::TooLarge { cap: 2 }));
    let trailing = [&frame[..], b"xy"].concat();
    assert_eq!(
        unpacked(Codec::Lz4, &trailing, 3),
        Err(CompressionError::TrailingBytes { codec: Codec::Lz4, bytes: 2 })
    );
}

#[test]
fn input_cut_anywhere_is_corrupt() {
    for codec in COMPRESSING {
        let packed = compressed(codec, &text(70_000));
        for len in (0..packed.len()).step_by(7).chain(packed.len() - 9..packed.len()) {
            // A framed snappy stream may end between two blocks; a cut there gives less, not an error. Nor has no input at
            // all a checksum that could be missing.
            match unpacked(codec, &packed[..len], 70_000) {
                Err(CompressionError::Corrupt { .. }) => {}
                Ok(short) => {
                    assert!(short.len() < 70_000 && (codec == Codec::Snappy || len == 0), "{codec}, {len}");
                }
                Err(e) => panic!("{codec}, {len}: {e}"),
            }
        }
    }
}

#[test]
fn garbage_never_panics_nor_exceeds_the_cap() {
    let mut random = Random::new(7);
    for codec in COMPRESSING {
        let packed = compressed(codec, &text(3000));
        for round in 0..4000 {
            let mut input = packed.clone();
            if round % 8 == 0 {
                let keep = random.below(24);
                input.truncate(keep);
                input.extend((0..random.below(100)).map(|_| 0).collect::<Vec<u8>>());
                for byte in &mut input[keep..] {
                    *byte = random.bits() as u8;
                }
            } else {
                for _ in 0..=random.below(6) {
                    let at = random.below(input.len());
                    input[at] = random.bits() as u8;
                }
            }
            if let Ok(out) = unpacked(codec, &input, 5000) {
                assert!(out.len() <= 5000);
            }
        }
    }
}
