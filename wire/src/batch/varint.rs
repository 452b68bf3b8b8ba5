//! Variable-length integers of records: zigzag, then seven bits a byte, the lowest first (KIP-98; the encoding of
//! Protocol Buffers' `sint32` and `sint64`).

/// Why a varint cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VarintError {
    /// The bytes end within it.
    Cut,
    /// It goes on beyond what its type can hold.
    TooLong,
}

/// Reads an `i32` from the front of `bytes` and moves `bytes` behind it.
#[inline(always)]
pub(super) fn read_i32(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    let raw = match read(bytes)? {
        raw if raw <= u64::from(u32::MAX) => raw as u32,
        _ => return Err(VarintError::TooLong),
    };
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads an `i64` from the front of `bytes` and moves `bytes` behind it.
#[inline(always)]
pub(super) fn read_i64(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    let raw = read(bytes)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Appends an `i32`: one byte for -64 to 63, five at most.
#[inline]
pub(super) fn write_i32(out: &mut Vec<u8>, value: i32) {
    write(out, u64::from((value << 1 ^ value >> 31) as u32));
}

/// Appends an `i64`: ten bytes at most.
#[inline]
pub(super) fn write_i64(out: &mut Vec<u8>, value: i64) {
    write(out, (value << 1 ^ value >> 63) as u64);
}

/// The bytes that [`write_i32`] takes.
#[inline]
pub(super) fn len_i32(value: i32) -> usize {
    len(u64::from((value << 1 ^ value >> 31) as u32))
}

/// The bytes that [`write_i64`] takes.
#[inline]
pub(super) fn len_i64(value: i64) -> usize {
    len((value << 1 ^ value >> 63) as u64)
}

#[inline(always)]
fn read(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    // Most lengths and deltas take one byte or two.
    match *bytes {
        [first, rest @ ..] if *first < 0x80 => {
            *bytes = rest;
            Ok(u64::from(*first))
        }
        [first, second, rest @ ..] if *second < 0x80 => {
            *bytes = rest;
            Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
        }
        _ => read_long(bytes),
    }
}

fn read_long(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        // The tenth byte carries the last bit of 64.
        if i == 9 && byte > 1 {
            return Err(VarintError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::Cut)
}

#[inline]
fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn len(value: u64) -> usize {
    // One byte for each seven bits, and one for zero.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            write_i32(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(len_i32(value), bytes.len());
            let mut rest = &out[..];
            assert_eq!(read_i32(&mut rest), Ok(value));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn every_length_of_i64() {
        for shift in 0..64 {
            for value in [i64::MAX >> shift, i64::MIN >> shift, (i64::MAX >> shift) + (shift.min(1) as i64)] {
                let mut out = Vec::new();
                write_i64(&mut out, value);
                assert_eq!(len_i64(value), out.len());
                assert_eq!(read_i64(&mut &out[..]), Ok(value));
                assert_eq!(read_i64(&mut &out[..out.len() - 1]), Err(VarintError::Cut));
            }
        }
    }

    #[test]
    fn too_long() {
        assert_eq!(read_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), Err(VarintError::TooLong));
        assert_eq!(read_i32(&mut &[0xff; 20][..]), Err(VarintError::TooLong));
        assert_eq!(read_i64(&mut &[0x80; 20][..]), Err(VarintError::TooLong));
        let mut most = [0xff; 10];
        most[9] = 2;
        assert_eq!(read_i64(&mut &most[..]), Err(VarintError::TooLong));
        most[9] = 1;
        assert_eq!(read_i64(&mut &most[..]), Ok(i64::MIN));
    }
}
