//! The headers of requests and responses (KIP-482).
//!
//! A request header names an API and a version, and these decide the rest of its form: version 1, or 2 with tagged
//! fields where the request is flexible. Version 0, without a client id, served one API that Kafka 4 has no more.
//! A response header does not say what it is: the receiver must know from the request.

use crate::api::ApiKey;
use crate::{DecodeError, EncodeError, Reader, put};

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API asked for.
    pub api: ApiKey,
    /// The version of the request's body. It may lie outside the versions known: the header is read all the same, so
    /// that an answer is possible.
    pub version: i16,
    /// Echoed in the response.
    pub correlation_id: i32,
    /// The client's own name, for logs and quotas.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Reads a header; the body follows in the reader.
    pub fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let key = r.i16()?;
        let api = ApiKey::from_key(key).ok_or(DecodeError::UnknownApi(key))?;
        let version = r.i16()?;
        let correlation_id = r.i32()?;
        // Not compact even in version 2, so that the client id can be read before the version is understood.
        let client_id = r.nullable_string(false)?;
        if request_version(api, version) >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { api, version, correlation_id, client_id })
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put::i16(out, self.api.key());
        put::i16(out, self.version);
        put::i32(out, self.correlation_id);
        put::nullable_string(out, false, self.client_id)?;
        if request_version(self.api, self.version) >= 2 {
            put::uvarint(out, 0);
        }
        Ok(())
    }
}

/// The version of the header before a request.
pub fn request_version(api: ApiKey, version: i16) -> i16 {
    if version >= api.info().flexible_from { 2 } else { 1 }
}

/// The version of the header before a response.
///
/// Always 0 for ApiVersions: a client of a newer version must be able to read the refusal.
pub fn response_version(api: ApiKey, version: i16) -> i16 {
    if api != ApiKey::ApiVersions && version >= api.info().flexible_from { 1 } else { 0 }
}

/// Reads a response header and returns its correlation id; the body follows in the reader.
pub fn decode_response(r: &mut Reader<'_>, api: ApiKey, version: i16) -> Result<i32, DecodeError> {
    let correlation_id = r.i32()?;
    if response_version(api, version) >= 1 {
        r.skip_tags()?;
    }
    Ok(correlation_id)
}

/// Appends a response header.
pub fn encode_response(out: &mut Vec<u8>, api: ApiKey, version: i16, correlation_id: i32) {
    put::i32(out, correlation_id);
    if response_version(api, version) >= 1 {
        put::uvarint(out, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_headers() {
        for (version, tags) in [(0, false), (2, false), (3, true), (99, true)] {
            let header =
                RequestHeader { api: ApiKey::ApiVersions, version, correlation_id: 7, client_id: Some("client") };
            let mut out = Vec::new();
            header.encode(&mut out).unwrap();
            assert_eq!(out.len(), 2 + 2 + 4 + 2 + 6 + usize::from(tags));
            let mut r = Reader::new(&out);
            assert_eq!(RequestHeader::decode(&mut r), Ok(header));
            assert_eq!(r.finish(), Ok(()));
        }
    }

    #[test]
    fn tagged_fields_of_a_header_are_skipped() {
        let frame = [0, 18, 0, 3, 0, 0, 0, 7, 0xff, 0xff, 1, 5, 2, 0xaa, 0xbb];
        let mut r = Reader::new(&frame);
        let header = RequestHeader::decode(&mut r).unwrap();
        assert_eq!((header.client_id, header.correlation_id), (None, 7));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn unknown_api() {
        assert_eq!(RequestHeader::decode(&mut Reader::new(&[0x7f, 0xff, 0, 0])), Err(DecodeError::UnknownApi(0x7fff)));
    }

    #[test]
    fn response_headers() {
        let len = |api, version| {
            let mut out = Vec::new();
            encode_response(&mut out, api, version, -2);
            let mut r = Reader::new(&out);
            assert_eq!(decode_response(&mut r, api, version), Ok(-2));
            assert_eq!(r.finish(), Ok(()));
            out.len()
        };
        assert_eq!(len(ApiKey::Metadata, 8), 4);
        assert_eq!(len(ApiKey::Metadata, 9), 5);
        assert_eq!(len(ApiKey::ApiVersions, 3), 4);
    }
}
