//! Bounded decoding of one frame.

use std::fmt;
use std::mem::size_of;

use crate::Uuid;

/// Bytes of decoded memory that one frame may ask for unless [`Reader::with_budget`] says otherwise.
///
/// A response about 100,000 partitions with three replicas each needs about 30 MiB.
pub const DEFAULT_BUDGET: usize = 64 << 20;

/// A cursor over the bytes of one frame.
///
/// Decoded values borrow from the frame. The only memory that decoding allocates is that of arrays, and two rules bound
/// it: a count never exceeds what the bytes left could hold, and all arrays of one reader share a budget.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    frame: &'a [u8],
    /// What is left; inside a tagged field, what is left of that field.
    rest: &'a [u8],
    budget: usize,
}

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside a value, or a length says more than is left.
    UnexpectedEnd,
    /// A varint is longer than its type, five bytes for 32 bits.
    VarintTooLong,
    /// A length below -1.
    NegativeLength,
    /// A null where the version has none.
    UnexpectedNull,
    /// A string longer than 32,767 bytes.
    StringTooLong,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// An array whose elements, each as small as can be, need more than the bytes left.
    ArrayTooLong,
    /// The arrays of the frame need more memory than the reader's budget.
    BudgetExceeded,
    /// Tagged fields out of order, or one of them twice.
    TagOutOfOrder,
    /// A tagged field that is longer than its content.
    TagTooLong,
    /// Bytes after the end of the message.
    TrailingBytes,
    /// A version that the tables do not describe.
    UnsupportedVersion,
    /// A request of an API that Kafka 4.3 does not have.
    UnknownApi(i16),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::UnknownApi(key) => return write!(f, "there is no API {key}"),
            DecodeError::UnexpectedEnd => "the bytes end inside a value",
            DecodeError::VarintTooLong => "a varint is longer than its type",
            DecodeError::NegativeLength => "a length is negative",
            DecodeError::UnexpectedNull => "a value is null that must not be",
            DecodeError::StringTooLong => "a string is longer than 32767 bytes",
            DecodeError::InvalidUtf8 => "a string is not UTF-8",
            DecodeError::ArrayTooLong => "an array counts more elements than the bytes left can hold",
            DecodeError::BudgetExceeded => "the arrays need more memory than one frame may",
            DecodeError::TagOutOfOrder => "tagged fields are out of order",
            DecodeError::TagTooLong => "a tagged field is longer than its content",
            DecodeError::TrailingBytes => "bytes follow the end of the message",
            DecodeError::UnsupportedVersion => "the version is not supported",
        })
    }
}

impl std::error::Error for DecodeError {}

impl<'a> Reader<'a> {
    /// A reader over one frame, with [`DEFAULT_BUDGET`].
    #[inline]
    pub fn new(frame: &'a [u8]) -> Self {
        Self::with_budget(frame, DEFAULT_BUDGET)
    }

    /// A reader whose arrays may take `budget` bytes of memory together.
    #[inline]
    pub fn with_budget(frame: &'a [u8], budget: usize) -> Self {
        Self { frame, rest: frame, budget }
    }

    /// Bytes read so far: after an error, about where it is.
    pub fn position(&self) -> usize {
        // Counted from the addresses because inside a tagged field `rest` ends before the frame does.
        self.rest.as_ptr().addr() - self.frame.as_ptr().addr()
    }

    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Bytes of memory that arrays may still take.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Fails where bytes are left over.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A boolean: one byte, true unless zero.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// A signed 16-bit number, big endian.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// An unsigned 16-bit number, big endian.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    /// A signed 32-bit number, big endian.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A signed 64-bit number, big endian.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// An IEEE 754 double, big endian.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    /// Sixteen bytes of a UUID.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.fixed()?))
    }

    /// An unsigned varint of 32 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u32::from(*first))
            }
            _ => self.long_uvarint(),
        }
    }

    fn long_uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = u32::from(self.fixed::<1>()?[0]);
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A length or count, of two bytes or of four where it is not a varint; `None` stands for null.
    #[inline]
    fn len(&mut self, flexible: bool, short: bool) -> Result<Option<usize>, DecodeError> {
        let len = if flexible {
            i64::from(self.uvarint()?) - 1
        } else if short {
            i64::from(self.i16()?)
        } else {
            i64::from(self.i32()?)
        };
        match usize::try_from(len) {
            Ok(len) => Ok(Some(len)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength),
        }
    }

    /// A string.
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let Some(len) = self.len(flexible, true)? else { return Ok(None) };
        // The compact form could say more, but Kafka refuses it too: strings are at most this long in memory.
        if len > i16::MAX as usize {
            return Err(DecodeError::StringTooLong);
        }
        std::str::from_utf8(self.take(len)?).map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// Bytes or records.
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8], DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Bytes or records, or null.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.len(flexible, false)? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// An array whose elements take at least `min_size` bytes each.
    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        version: i16,
        element: fn(&mut Self, i16) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, min_size, version, element)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// An array or null.
    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        version: i16,
        element: fn(&mut Self, i16) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.reserve(flexible, min_size, size_of::<T>())? else { return Ok(None) };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self, version)?);
        }
        Ok(Some(elements))
    }

    /// The count of an array whose elements take at least `min_size` bytes each, for those who read in place.
    #[inline]
    pub(crate) fn count(&mut self, flexible: bool, min_size: usize) -> Result<usize, DecodeError> {
        let count = self.len(flexible, false)?.ok_or(DecodeError::UnexpectedNull)?;
        if count.checked_mul(min_size).is_none_or(|bytes| bytes > self.rest.len()) {
            return Err(DecodeError::ArrayTooLong);
        }
        Ok(count)
    }

    /// Reads an array's count and charges its memory to the budget before anything is allocated.
    fn reserve(&mut self, flexible: bool, min_size: usize, memory: usize) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.len(flexible, false)? else { return Ok(None) };
        if count.checked_mul(min_size).is_none_or(|bytes| bytes > self.rest.len()) {
            return Err(DecodeError::ArrayTooLong);
        }
        // An element without fields takes no memory, but its count must be bounded as well.
        let needed = count.checked_mul(memory.max(1)).ok_or(DecodeError::BudgetExceeded)?;
        self.budget = self.budget.checked_sub(needed).ok_or(DecodeError::BudgetExceeded)?;
        Ok(Some(count))
    }

    /// Starts the tagged fields at the end of a struct (KIP-482).
    pub(crate) fn tags(&mut self) -> Result<Tags<'a>, DecodeError> {
        let left = self.uvarint()?;
        // A tag and a size take a byte each at least.
        if left as usize > self.rest.len() / 2 {
            return Err(DecodeError::ArrayTooLong);
        }
        Ok(Tags { left, next: 0, after: None })
    }

    /// Skips the tagged fields of a struct that knows none.
    #[inline]
    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        // Hardly a struct has any.
        if let [0, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(());
        }
        self.skip_some_tags()
    }

    fn skip_some_tags(&mut self) -> Result<(), DecodeError> {
        let mut tags = self.tags()?;
        while tags.next(self)?.is_some() {
            tags.skip(self);
        }
        Ok(())
    }
}

macro_rules! primitive_arrays {
    ($($array:ident $nullable:ident $element:ty: $size:literal $read:expr;)*) => { impl<'a> Reader<'a> { $(
        pub(crate) fn $array(&mut self, flexible: bool) -> Result<Vec<$element>, DecodeError> {
            self.$nullable(flexible)?.ok_or(DecodeError::UnexpectedNull)
        }

        pub(crate) fn $nullable(&mut self, flexible: bool) -> Result<Option<Vec<$element>>, DecodeError> {
            let Some(count) = self.reserve(flexible, $size, size_of::<$element>())? else { return Ok(None) };
            let mut elements = Vec::with_capacity(count);
            let read: fn(&mut Self, bool) -> Result<$element, DecodeError> = $read;
            for _ in 0..count {
                elements.push(read(self, flexible)?);
            }
            Ok(Some(elements))
        }
    )* } };
}

primitive_arrays! {
    i8_array nullable_i8_array i8: 1 |r, _| r.i8();
    i16_array nullable_i16_array i16: 2 |r, _| r.i16();
    i32_array nullable_i32_array i32: 4 |r, _| r.i32();
    i64_array nullable_i64_array i64: 8 |r, _| r.i64();
    uuid_array nullable_uuid_array Uuid: 16 |r, _| r.uuid();
    string_array nullable_string_array &'a str: 1 |r, flexible| r.string(flexible);
}

/// Where a walk over the tagged fields of one struct stands.
pub(crate) struct Tags<'a> {
    left: u32,
    /// The smallest tag that may come now: tags ascend.
    next: u64,
    /// What follows the tagged field that is being read.
    after: Option<&'a [u8]>,
}

impl<'a> Tags<'a> {
    /// Ends the field before, which must have been read whole, and opens the next: the reader then ends where it does.
    pub(crate) fn next(&mut self, r: &mut Reader<'a>) -> Result<Option<u32>, DecodeError> {
        if let Some(after) = self.after.take() {
            if !r.rest.is_empty() {
                return Err(DecodeError::TagTooLong);
            }
            r.rest = after;
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let tag = r.uvarint()?;
        if u64::from(tag) < self.next {
            return Err(DecodeError::TagOutOfOrder);
        }
        self.next = u64::from(tag) + 1;
        let size = r.uvarint()? as usize;
        let content = r.take(size)?;
        self.after = Some(r.rest);
        r.rest = content;
        Ok(Some(tag))
    }

    /// Passes over the field that [`Tags::next`] opened.
    pub(crate) fn skip(&self, r: &mut Reader<'a>) {
        r.rest = &r.rest[r.rest.len()..];
    }
}

/// Refuses a null in a version that has none.
#[inline]
pub(crate) fn require<T>(nullable: bool, value: Option<T>) -> Result<Option<T>, DecodeError> {
    if value.is_none() && !nullable { Err(DecodeError::UnexpectedNull) } else { Ok(value) }
}
