//! What all generated messages share.

use crate::{DecodeError, EncodeError, Reader};

/// A request, response, record or piece of data, generated from the field tables.
pub trait Message<'a>: Sized {
    /// API key of a request or response, type of a record, -1 for other data.
    const API_KEY: i16;
    /// The oldest version.
    const MIN_VERSION: i16;
    /// The newest version.
    const MAX_VERSION: i16;
    /// The first version in the compact form with tagged fields (KIP-482); `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Reads the message. Bytes after it stay in the reader: see [`Reader::finish`].
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message to `out`. After an error `out` holds a part of it.
    fn encode(&self, out: &mut Vec<u8>, version: i16) -> Result<(), EncodeError>;
}
