//! DescribeCluster (key 60), versions 0 to 2. The brokers, without the topics (KIP-700; KIP-919 for endpoint types;
//! KIP-1073 for fenced brokers).
//!
//! - There are no controllers to be described, only brokers.
//! - Owner core: any.

use wire::error::ErrorCode;
use wire::messages::describe_cluster_request::DescribeClusterRequest;
use wire::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};

use super::admin::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, Refusal, Texts};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::Image;
use crate::shard::Shard;

/// The type of endpoints that brokers are.
const BROKERS: i8 = 1;
/// The type of endpoints that controllers are.
const CONTROLLERS: i8 = 2;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeClusterRequest = request.decode()?;
    let (image, texts) = (shard.image().clone(), Texts::new());
    request.reply(&answer(&asked, &image, image.listener(request.listener), &texts))
}

/// The answer to a client that is connected through the listener of this name.
#[must_use]
pub fn answer<'a>(
    request: &DescribeClusterRequest,
    image: &'a Image,
    listener: &str,
    texts: &'a Texts,
) -> DescribeClusterResponse<'a> {
    let refusal = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(Refusal::new(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )),
        other => Some(Refusal::new(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    };
    if let Some(refusal) = refusal {
        let (error_code, error_message) = refusal.parts(texts);
        return DescribeClusterResponse { error_code, error_message, ..DescribeClusterResponse::default() };
    }
    let brokers = image.brokers().iter().filter(|(_, broker)| request.include_fenced_brokers || !broker.fenced);
    let described = brokers.filter_map(|(id, broker)| {
        let endpoint = broker.endpoints.iter().find(|endpoint| endpoint.listener == listener)?;
        Some(DescribeClusterBroker {
            broker_id: *id,
            host: &endpoint.host,
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref(),
            is_fenced: broker.fenced,
        })
    });
    let operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { OPERATIONS_NOT_ASKED };
    DescribeClusterResponse {
        cluster_id: image.cluster_id(),
        controller_id: image.node_id(),
        brokers: described.collect(),
        cluster_authorized_operations: operations,
        ..DescribeClusterResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use wire::Message;

    use super::super::test_image::image;
    use super::*;

    #[test]
    fn brokers_and_what_is_no_broker() {
        let image = image();
        let texts = Texts::new();
        let mut request = DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() };
        let answer_of = |request: &DescribeClusterRequest| answer(request, &image, "PLAINTEXT", &texts);
        let described = answer_of(&request);
        assert_eq!((described.error_code, described.error_message), (0, None));
        assert_eq!((described.cluster_id, described.controller_id), ("cluster-id", 1));
        assert_eq!((described.brokers[0].port, described.brokers[0].rack), (9092, Some("rack")));
        assert_eq!(described.cluster_authorized_operations, 8096);
        for version in 0..=2 {
            described.encode(&mut Vec::new(), version).unwrap();
        }
        for (kind, code, message) in [
            (
                2,
                114,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
            ),
            (3, 115, "Unsupported endpoint type 3"),
        ] {
            request.endpoint_type = kind;
            let refused = answer_of(&request);
            assert_eq!((refused.error_code, refused.error_message), (code, Some(message)));
            assert_eq!((refused.cluster_id, refused.controller_id, refused.brokers.len()), ("", -1, 0));
        }
    }
}
