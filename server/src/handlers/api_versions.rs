//! ApiVersions (key 18), versions 0 to 4: what this broker serves, from the table in `api`. Answered on any core.
//!
//! A version that is not served gets an answer of version 0 with UNSUPPORTED_VERSION and the range of this API, so that
//! the client can ask again (KIP-511).

use wire::Message;
use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::api::{self, Api, Request, RequestError, begin_response, end_response};
use crate::connection::responses::Reply;
use crate::features::SUPPORTED;
use crate::image::Image;
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: ApiVersionsRequest<'_> = request.decode()?;
    let is_valid =
        request.version < 3 || (is_name(asked.client_software_name) && is_name(asked.client_software_version));
    if !is_valid {
        return request.reply(&ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..ApiVersionsResponse::default()
        });
    }
    request.reply(&answer(&shard.image(), request.version))
}

/// Appends the answer to a request of a version that is not served.
pub(crate) fn refuse_version(out: &mut Vec<u8>, correlation_id: i32) -> Result<(), RequestError> {
    let start = out.len();
    begin_response(out, ApiKey::ApiVersions, 0, correlation_id);
    let refusal = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: api::APIS.iter().filter(|api| api.key == ApiKey::ApiVersions).map(advertised).collect(),
        ..ApiVersionsResponse::default()
    };
    refusal.encode(out, 0)?;
    end_response(out, start)
}

/// The first version whose clients understand a feature that begins at level 0 (KIP-584).
const FEATURES_FROM_0: i16 = 4;

fn answer(image: &Image, version: i16) -> ApiVersionsResponse<'_> {
    let supported = SUPPORTED.iter().filter(|feature| feature.min > 0 || version >= FEATURES_FROM_0);
    let finalized = image.features().iter();
    ApiVersionsResponse {
        api_keys: api::APIS.iter().map(advertised).collect(),
        supported_features: supported
            .map(|feature| SupportedFeatureKey {
                name: feature.name,
                min_version: feature.min,
                max_version: feature.max,
            })
            .collect(),
        // The epoch tells a client which of two answers is newer.
        finalized_features_epoch: image.applied() as i64,
        finalized_features: finalized
            .map(|(name, level)| FinalizedFeatureKey { name, min_version_level: *level, max_version_level: *level })
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

fn advertised(api: &Api) -> ApiVersion {
    ApiVersion { api_key: api.key.key(), min_version: api.min, max_version: api.max }
}

/// Whether a software name or version is of the form that KIP-511 asks for: letters, digits, dashes and dots, the ends
/// neither dash nor dot.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(|byte| inner(*byte))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wire::{Reader, header};

    use super::*;

    #[test]
    fn what_is_served_is_advertised_and_nothing_else() {
        let image = Image::new("cluster", 1, 1, Arc::default());
        let answer = answer(&image, 4);
        assert_eq!(answer.api_keys.len(), api::APIS.len());
        for (row, told) in api::APIS.iter().zip(&answer.api_keys) {
            assert_eq!((told.api_key, told.max_version), (row.key.key(), row.max));
            assert_eq!(told.min_version, row.min);
        }
        // librdkafka before 2.8 takes a broker that does not advertise this for one that cannot decompress (KAFKA-18659).
        assert_eq!((answer.api_keys[0].api_key, answer.api_keys[0].min_version), (ApiKey::Produce.key(), 0));
    }

    #[test]
    fn features_that_begin_at_0_are_told_from_version_4_on() {
        let image = Image::new("cluster", 1, 1, Arc::default());
        let told = |version| answer(&image, version).supported_features.iter().map(|f| f.name).collect::<Vec<_>>();
        assert_eq!(told(3), ["metadata.version"]);
        assert_eq!(told(4), ["metadata.version", "group.version", "transaction.version"]);
    }

    #[test]
    fn a_refusal_can_be_read_by_a_client_of_any_version() {
        let mut out = Vec::new();
        refuse_version(&mut out, 7).unwrap();
        // As Apache Kafka 4.3.1 answers version 99.
        assert_eq!(out, [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
        let mut reader = Reader::new(&out[4..]);
        assert_eq!(header::decode_response(&mut reader, ApiKey::ApiVersions, 99), Ok(7));
        assert!(ApiVersionsResponse::decode(&mut reader, 0).is_ok());
    }

    #[test]
    fn names_of_software() {
        for good in ["a", "librdkafka", "kafka-python", "2.8.0", "A-b.c9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", " ", "-a", "a-", ".", "a b", "ä", "a_b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
