//! ListConfigResources (key 74), versions 0 and 1: what has configurations (KIP-1142).
//!
//! - All topics, this broker and its loggers, and the groups that have configurations of their own. Nothing is kept of
//!   client metrics, which is all that version 0 asks for.
//! - Owner core: any.

use wire::error::ErrorCode;
use wire::messages::ListConfigResourcesRequest;
use wire::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};

use super::admin::Texts;
use super::describe_configs::{RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::{Image, RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: ListConfigResourcesRequest = request.decode()?;
    let (image, texts) = (shard.image().clone(), Texts::new());
    request.reply(&answer(&asked, request.version, &image, &texts))
}

/// The answer.
#[must_use]
pub fn answer<'a>(
    request: &ListConfigResourcesRequest,
    version: i16,
    image: &'a Image,
    texts: &'a Texts,
) -> ListConfigResourcesResponse<'a> {
    let every = [RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP];
    let kinds = match (version, request.resource_types.as_slice()) {
        (0, _) => &[RESOURCE_CLIENT_METRICS],
        (_, []) => &every[..],
        (_, asked) => asked,
    };
    if !kinds.iter().all(|kind| every.contains(kind)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..ListConfigResourcesResponse::default()
        };
    }
    let mut config_resources = Vec::new();
    for kind in every.into_iter().filter(|kind| kinds.contains(kind)) {
        let mut add = |resource_name| config_resources.push(ConfigResource { resource_name, resource_type: kind });
        match kind {
            RESOURCE_TOPIC => image.sorted_topics().into_iter().for_each(|topic| add(&topic.name)),
            RESOURCE_BROKER | RESOURCE_BROKER_LOGGER => {
                image.brokers().keys().for_each(|id| add(texts.push_get(id.to_string())));
            }
            RESOURCE_GROUP => image.configured_groups().keys().for_each(|group| add(group)),
            _ => {}
        }
    }
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}

#[cfg(test)]
mod tests {
    use wire::Message;

    use super::super::test_image::image;
    use super::*;

    #[test]
    fn topics_brokers_and_loggers() {
        let (image, texts) = (image(), Texts::new());
        let listed = |version, resource_types: &[i8]| {
            let request = ListConfigResourcesRequest { resource_types: resource_types.to_vec() };
            let answer = answer(&request, version, &image, &texts);
            answer.encode(&mut Vec::new(), version).unwrap();
            let rows: Vec<_> =
                answer.config_resources.iter().map(|it| (it.resource_type, it.resource_name.to_owned())).collect();
            (answer.error_code, rows)
        };
        let row = |kind, name: &str| (kind, name.to_owned());
        let topics = ["__consumer_offsets", "configured", "dot.ted", "plain"].map(|name| row(2, name));
        assert_eq!(listed(1, &[2]), (0, topics.to_vec()));
        let all: Vec<_> = topics.into_iter().chain([row(4, "1"), row(8, "1"), row(32, "configured")]).collect();
        assert_eq!(listed(1, &[]), (0, all));
        assert_eq!(listed(0, &[]), (0, vec![]));
        assert_eq!(listed(1, &[16, 32]), (0, vec![row(32, "configured")]));
        assert_eq!(listed(1, &[2, 3]), (35, vec![]));
    }
}
