//! FindCoordinator (key 10), versions 0 to 6. Which broker coordinates a group or a transactional id (KIP-699 for several
//! keys at once).
//!
//! - This broker coordinates everything, as it is alone. The topic that keeps the state is created when its coordinator
//!   is first asked for.
//! - An answer for one key has the word for success as its message, where those for several have an empty one.
//! - Share groups (key type 2) are unknown to it, as to a Kafka whose feature `share.version` is 0.
//! - librdkafka writes lz4 only to brokers that list this API.
//! - Owner core: any.

use tracing::info;
use wire::error::ErrorCode;
use wire::messages::find_coordinator_request::FindCoordinatorRequest;
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::coordinator::{LogTopic, ensure};
use crate::image::Image;
use crate::shard::Shard;

/// The key is the id of a group.
const GROUP: i8 = 0;
/// The key is a transactional id.
const TRANSACTION: i8 = 1;
/// The first version that asks for several keys.
const SEVERAL_KEYS: i16 = 4;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: FindCoordinatorRequest<'_> = request.decode()?;
    let created = match asked.key_type {
        GROUP => ensure(&shard, LogTopic::Offsets).await,
        TRANSACTION => ensure(&shard, LogTopic::Transactions).await,
        _ => Ok(()),
    };
    let image = shard.image().clone();
    if let Err(error) = created {
        info!("the coordinator's topic is not created: {error}");
        return request.reply(&unavailable(&asked, request.version));
    }
    request.reply(&answer(&asked, request.version, &image, image.listener(request.listener)))
}

/// The answer while there is no coordinator.
fn unavailable<'a>(request: &FindCoordinatorRequest<'a>, version: i16) -> FindCoordinatorResponse<'a> {
    let error = ErrorCode::CoordinatorNotAvailable;
    if version >= SEVERAL_KEYS {
        let coordinators = request.coordinator_keys.iter().map(|key| nowhere(key, error));
        return FindCoordinatorResponse { coordinators: coordinators.collect(), ..FindCoordinatorResponse::default() };
    }
    FindCoordinatorResponse {
        error_code: error as i16,
        error_message: Some(error.message()),
        node_id: -1,
        port: -1,
        ..FindCoordinatorResponse::default()
    }
}

/// The answer to a client that is connected through the listener of this name.
#[must_use]
pub fn answer<'a>(
    request: &FindCoordinatorRequest<'a>,
    version: i16,
    image: &'a Image,
    listener: &str,
) -> FindCoordinatorResponse<'a> {
    if version >= SEVERAL_KEYS {
        let coordinators = request.coordinator_keys.iter();
        return FindCoordinatorResponse {
            coordinators: coordinators.map(|key| coordinator(key, request.key_type, image, listener)).collect(),
            ..FindCoordinatorResponse::default()
        };
    }
    let one = coordinator(request.key, request.key_type, image, listener);
    let found = one.error_code == ErrorCode::None as i16;
    FindCoordinatorResponse {
        error_code: one.error_code,
        error_message: if found { Some(ErrorCode::None.name()) } else { one.error_message },
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..FindCoordinatorResponse::default()
    }
}

fn coordinator<'a>(key: &'a str, key_type: i8, image: &'a Image, listener: &str) -> Coordinator<'a> {
    let id = image.node_id();
    let own = image.brokers().iter().find(|(broker, _)| **broker == id).map(|(_, broker)| broker);
    let endpoint = own.and_then(|own| own.endpoints.iter().find(|endpoint| endpoint.listener == listener));
    match (key_type, endpoint) {
        (GROUP | TRANSACTION, Some(endpoint)) => Coordinator {
            key,
            node_id: id,
            host: &endpoint.host,
            port: i32::from(endpoint.port),
            error_code: ErrorCode::None as i16,
            error_message: Some(""),
        },
        (GROUP | TRANSACTION, None) => nowhere(key, ErrorCode::CoordinatorNotAvailable),
        _ => nowhere(key, ErrorCode::InvalidRequest),
    }
}

fn nowhere(key: &str, error: ErrorCode) -> Coordinator<'_> {
    let error_code = error as i16;
    Coordinator { key, node_id: -1, host: "", port: -1, error_code, error_message: Some(error.message()) }
}

#[cfg(test)]
mod tests {
    use super::super::test_image::image;
    use super::*;

    fn asked(key_type: i8) -> FindCoordinatorRequest<'static> {
        FindCoordinatorRequest { key: "one", key_type, coordinator_keys: vec!["two", "three"] }
    }

    #[test]
    fn this_broker_coordinates_groups_and_transactions() {
        let image = image();
        for key_type in [GROUP, TRANSACTION] {
            let old = answer(&asked(key_type), 3, &image, image.listener(0));
            assert_eq!((old.error_code, old.error_message, old.node_id), (0, Some("NONE"), image.node_id()));
            let new = answer(&asked(key_type), 4, &image, image.listener(0));
            let found = new.coordinators.iter().map(|one| (one.key, one.error_message, one.node_id, one.port));
            let expected = ["two", "three"].map(|key| (key, Some(""), image.node_id(), old.port));
            assert!(found.eq(expected), "{:?}", new.coordinators);
        }
    }

    #[test]
    fn other_keys_have_no_coordinator() {
        let image = image();
        let old = answer(&asked(2), 3, &image, image.listener(0));
        assert_eq!((old.error_code, old.node_id), (ErrorCode::InvalidRequest as i16, -1));
        let new = answer(&asked(9), 6, &image, image.listener(0));
        assert!(new.coordinators.iter().all(|one| one.error_code == ErrorCode::InvalidRequest as i16));
        let elsewhere = answer(&asked(GROUP), 3, &image, "NO SUCH LISTENER");
        assert_eq!(elsewhere.error_code, ErrorCode::CoordinatorNotAvailable as i16);
    }
}
