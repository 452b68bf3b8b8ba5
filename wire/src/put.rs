//! Encoding: primitives appended to a `Vec<u8>`.

use std::fmt;

use crate::Uuid;

/// Why a message cannot be written in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// A version that the tables do not describe.
    UnsupportedVersion(i16),
    /// A value other than the default in a field that the version lacks, and that must not be dropped.
    NotInVersion(&'static str),
    /// A null in a field that has none in this version.
    UnexpectedNull(&'static str),
    /// A string longer than 32,767 bytes.
    StringTooLong,
    /// Bytes, records or an array longer than 2,147,483,647.
    TooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::UnsupportedVersion(version) => write!(f, "version {version} is not supported"),
            EncodeError::NotInVersion(field) => write!(f, "the version has no field {field}"),
            EncodeError::UnexpectedNull(field) => write!(f, "{field} must not be null in this version"),
            EncodeError::StringTooLong => f.write_str("a string is longer than 32767 bytes"),
            EncodeError::TooLong => f.write_str("a length does not fit into 31 bits"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Appends a boolean as one byte.
#[inline]
pub fn bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Appends a signed byte.
#[inline]
pub fn i8(out: &mut Vec<u8>, value: i8) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a signed 16-bit number, big endian.
#[inline]
pub fn i16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an unsigned 16-bit number, big endian.
#[inline]
pub fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a signed 32-bit number, big endian.
#[inline]
pub fn i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a signed 64-bit number, big endian.
#[inline]
pub fn i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an IEEE 754 double, big endian.
#[inline]
pub fn f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends the sixteen bytes of a UUID.
#[inline]
pub fn uuid(out: &mut Vec<u8>, value: Uuid) {
    out.extend_from_slice(&value.0);
}

/// Appends an unsigned varint.
#[inline]
pub fn uvarint(out: &mut Vec<u8>, value: u32) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        long_uvarint(out, value);
    }
}

fn long_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a string.
pub fn string(out: &mut Vec<u8>, flexible: bool, value: &str) -> Result<(), EncodeError> {
    nullable_string(out, flexible, Some(value))
}

/// Appends a string or null.
pub fn nullable_string(out: &mut Vec<u8>, flexible: bool, value: Option<&str>) -> Result<(), EncodeError> {
    let len = match value {
        Some(value) => i16::try_from(value.len()).map_err(|_| EncodeError::StringTooLong)?,
        None => -1,
    };
    if flexible {
        uvarint(out, (i32::from(len) + 1) as u32);
    } else {
        i16(out, len);
    }
    out.extend_from_slice(value.unwrap_or_default().as_bytes());
    Ok(())
}

/// Appends bytes or records.
pub fn bytes(out: &mut Vec<u8>, flexible: bool, value: &[u8]) -> Result<(), EncodeError> {
    nullable_bytes(out, flexible, Some(value))
}

/// Appends bytes or records, or null.
pub fn nullable_bytes(out: &mut Vec<u8>, flexible: bool, value: Option<&[u8]>) -> Result<(), EncodeError> {
    nullable_len(out, flexible, value.map(<[u8]>::len))?;
    out.extend_from_slice(value.unwrap_or_default());
    Ok(())
}

/// Appends the count of an array, or the length of bytes, whose content follows.
pub fn len(out: &mut Vec<u8>, flexible: bool, len: usize) -> Result<(), EncodeError> {
    nullable_len(out, flexible, Some(len))
}

/// Appends a count or length, or null.
pub fn nullable_len(out: &mut Vec<u8>, flexible: bool, len: Option<usize>) -> Result<(), EncodeError> {
    let len = match len {
        Some(len) => i32::try_from(len).map_err(|_| EncodeError::TooLong)?,
        None => -1,
    };
    if flexible {
        uvarint(out, (i64::from(len) + 1) as u32);
    } else {
        i32(out, len);
    }
    Ok(())
}

macro_rules! primitive_arrays {
    ($($array:ident $nullable:ident $element:ty: $put:expr;)*) => { $(
        pub(crate) fn $array(out: &mut Vec<u8>, flexible: bool, value: &[$element]) -> Result<(), EncodeError> {
            $nullable(out, flexible, Some(value))
        }

        pub(crate) fn $nullable(
            out: &mut Vec<u8>,
            flexible: bool,
            value: Option<&[$element]>,
        ) -> Result<(), EncodeError> {
            nullable_len(out, flexible, value.map(<[$element]>::len))?;
            let put: fn(&mut Vec<u8>, bool, $element) -> Result<(), EncodeError> = $put;
            value.unwrap_or_default().iter().try_for_each(|element| put(out, flexible, *element))
        }
    )* };
}

primitive_arrays! {
    i8_array nullable_i8_array i8: |out, _, value| { i8(out, value); Ok(()) };
    i16_array nullable_i16_array i16: |out, _, value| { i16(out, value); Ok(()) };
    i32_array nullable_i32_array i32: |out, _, value| { i32(out, value); Ok(()) };
    i64_array nullable_i64_array i64: |out, _, value| { i64(out, value); Ok(()) };
    uuid_array nullable_uuid_array Uuid: |out, _, value| { uuid(out, value); Ok(()) };
    string_array nullable_string_array &str: |out, flexible, value| string(out, flexible, value);
}

/// Starts a tagged field. Its content follows, then [`end_tag`] with the position returned.
pub(crate) fn tag(out: &mut Vec<u8>, tag: u32) -> usize {
    uvarint(out, tag);
    out.len()
}

/// Puts the size before the content of a tagged field, which begins at `start`.
pub(crate) fn end_tag(out: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
    let end = out.len();
    let size = i32::try_from(end - start).map_err(|_| EncodeError::TooLong)?;
    uvarint(out, size as u32);
    let prefix = out.len() - end;
    out[start..].rotate_right(prefix);
    Ok(())
}
