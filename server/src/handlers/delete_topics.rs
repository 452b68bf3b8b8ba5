//! DeleteTopics (key 20), versions 0 to 6.
//!
//! - Topics are deleted by name or, from version 6, by id. Their records are gone at once.
//! - Refused: topics that do not exist, that occur twice, or that have both a name and an id; everything where
//!   `delete.topic.enable` is false.
//! - Owner core: 0.

use std::collections::HashSet;
use std::mem;

use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use wire::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};

use super::admin::{Plan, Refusal, Texts, check_size, count_by};
use crate::api::{Request, RequestError};
use crate::catalog::Action;
use crate::config::options::TopicOptions;
use crate::connection::responses::Reply;
use crate::image::{Image, Topic};
use crate::services::Services;
use crate::shard::Shard;

/// The first version that tells a disabled deletion apart.
const TELLS_DISABLED: i16 = 3;

/// Answers a request, after its plan has been carried out. On core 0.
pub async fn handle(core0: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DeleteTopicsRequest<'_> = request.decode()?;
    let (services, texts) = (Services::of(&core0), Texts::new());
    let turn = services.controller().turn().await;
    let image = turn.image();
    let mut plan = plan(&asked, request.version, &image, &services.options.topics, &texts);
    if let Err(error) = turn.carry_out(mem::take(&mut plan.actions)).await {
        fail(&mut plan.response, error.code());
    }
    request.reply(&plan.response)
}

/// Plans the deletion of topics.
pub fn plan<'a>(
    request: &DeleteTopicsRequest<'a>,
    version: i16,
    image: &'a Image,
    options: &TopicOptions,
    texts: &'a Texts,
) -> Plan<DeleteTopicsResponse<'a>> {
    let asked: Vec<DeleteTopicState<'a>> = request
        .topic_names
        .iter()
        .map(|name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO })
        .chain(request.topics.iter().cloned())
        .collect();
    let counts = count_by(asked.iter().map(identity));
    let mut seen = HashSet::new();
    let mut doomed = HashSet::new();
    let mut plan = Plan { response: DeleteTopicsResponse::default(), actions: Vec::new() };
    for state in asked.iter().filter(|state| is_nameless(state) || seen.insert(identity(state))) {
        let repeated = counts[&identity(state)] > 1;
        let checked = check(state, repeated, image)
            .and_then(|topic| {
                if options.may_delete {
                    Ok(topic)
                } else if version < TELLS_DISABLED {
                    Err(Refusal::plain(ErrorCode::InvalidRequest))
                } else {
                    Err(Refusal::plain(ErrorCode::TopicDeletionDisabled))
                }
            })
            .and_then(|topic| {
                // Once by its name and once by its id.
                let sentence = "The provided topic name maps to an ID that was already supplied.";
                if doomed.insert(topic.id) { Ok(topic) } else { Err(Refusal::new(ErrorCode::InvalidRequest, sentence)) }
            });
        plan.response.responses.push(match checked {
            Ok(topic) => {
                plan.actions.push(Action::DeleteTopic { id: topic.id });
                DeletableTopicResult {
                    name: Some(&topic.name),
                    topic_id: topic.id,
                    error_code: ErrorCode::None as i16,
                    error_message: None,
                }
            }
            Err(refusal) => {
                let (error_code, error_message) = refusal.parts(texts);
                DeletableTopicResult { name: state.name, topic_id: state.topic_id, error_code, error_message }
            }
        });
    }
    if let Err(refusal) = check_size(&plan.actions) {
        plan.actions.clear();
        fail(&mut plan.response, refusal.code);
    }
    plan
}

/// Makes the response one of failure, for a plan that could not be carried out.
pub fn fail(response: &mut DeleteTopicsResponse<'_>, code: ErrorCode) {
    for topic in response.responses.iter_mut().filter(|topic| topic.error_code == ErrorCode::None as i16) {
        topic.error_code = code as i16;
        topic.error_message = Some(code.message());
    }
}

fn identity<'a>(state: &DeleteTopicState<'a>) -> (Option<&'a str>, Uuid) {
    (state.name, state.topic_id)
}

fn is_nameless(state: &DeleteTopicState<'_>) -> bool {
    state.name.is_none() && state.topic_id.is_zero()
}

fn check<'a>(state: &DeleteTopicState<'_>, repeated: bool, image: &'a Image) -> Result<&'a Topic, Refusal> {
    let invalid = |sentence: &'static str| Refusal::new(ErrorCode::InvalidRequest, sentence);
    match (state.name, state.topic_id.is_zero()) {
        (None, true) => Err(invalid("Neither topic name nor id were specified.")),
        (Some(_), false) => Err(invalid("You may not specify both topic name and topic id.")),
        (Some(_), true) if repeated => Err(invalid("Duplicate topic name.")),
        (None, false) if repeated => Err(invalid("Duplicate topic id.")),
        (Some(name), true) => match image.topic(name) {
            Some(topic) => Ok(topic),
            None => Err(Refusal::plain(ErrorCode::UnknownTopicOrPartition)),
        },
        (None, false) => match image.topic_by_id(&state.topic_id) {
            Some(topic) => Ok(topic),
            None => Err(Refusal::plain(ErrorCode::UnknownTopicId)),
        },
    }
}

#[cfg(test)]
mod tests {
    use wire::Message;

    use super::super::test_image::{OPTIONS, id, image};
    use super::*;

    fn state(name: Option<&str>, n: u8) -> DeleteTopicState<'_> {
        DeleteTopicState { name, topic_id: id(n) }
    }

    type Rows = Vec<(Option<String>, Uuid, i16, Option<String>)>;

    fn rows(plan: &Plan<DeleteTopicsResponse<'_>>) -> Rows {
        let row = |it: &DeletableTopicResult<'_>| {
            (it.name.map(str::to_owned), it.topic_id, it.error_code, it.error_message.map(str::to_owned))
        };
        plan.response.responses.iter().map(row).collect()
    }

    #[test]
    fn by_name_and_by_id() {
        let image = image();
        let texts = Texts::new();
        let topics = vec![
            state(Some("plain"), 0),
            state(None, 1),
            state(Some("nope"), 0),
            state(None, 77),
            state(None, 0),
            state(Some("dot.ted"), 2),
            state(Some("twice"), 0),
            state(Some("twice"), 0),
            state(None, 88),
            state(None, 88),
            state(None, 3),
        ];
        let request = DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() };
        let mut plan = plan(&request, 6, &image, &OPTIONS, &texts);
        let some = |text: &str| Some(text.to_owned());
        let unknown = |code: ErrorCode| some(code.message());
        let expected: Rows = vec![
            (some("plain"), id(3), 0, None),
            (some("configured"), id(1), 0, None),
            (some("nope"), id(0), 3, unknown(ErrorCode::UnknownTopicOrPartition)),
            (None, id(77), 100, unknown(ErrorCode::UnknownTopicId)),
            (None, id(0), 42, some("Neither topic name nor id were specified.")),
            (some("dot.ted"), id(2), 42, some("You may not specify both topic name and topic id.")),
            (some("twice"), id(0), 42, some("Duplicate topic name.")),
            (None, id(88), 42, some("Duplicate topic id.")),
            (None, id(3), 42, some("The provided topic name maps to an ID that was already supplied.")),
        ];
        assert_eq!(rows(&plan), expected);
        assert_eq!(plan.actions, [Action::DeleteTopic { id: id(3) }, Action::DeleteTopic { id: id(1) }]);
        plan.response.encode(&mut Vec::new(), 6).unwrap();
        fail(&mut plan.response, ErrorCode::KafkaStorageError);
        assert_eq!((rows(&plan)[0].2, rows(&plan)[2].2), (56, 3));
    }

    #[test]
    fn by_name_in_older_versions() {
        let image = image();
        let texts = Texts::new();
        let request = DeleteTopicsRequest { topic_names: vec!["plain", "nope"], ..DeleteTopicsRequest::default() };
        for version in 1..=5 {
            let plan = plan(&request, version, &image, &OPTIONS, &texts);
            assert_eq!((rows(&plan)[0].2, rows(&plan)[1].2), (0, 3));
            plan.response.encode(&mut Vec::new(), version).unwrap();
        }
    }

    #[test]
    fn deletion_may_be_disabled() {
        let image = image();
        let texts = Texts::new();
        let request = DeleteTopicsRequest { topic_names: vec!["plain"], ..DeleteTopicsRequest::default() };
        let options = TopicOptions { may_delete: false, ..OPTIONS };
        for (version, code) in [(2, ErrorCode::InvalidRequest), (3, ErrorCode::TopicDeletionDisabled)] {
            let plan = plan(&request, version, &image, &options, &texts);
            assert_eq!((rows(&plan)[0].2, plan.actions.len()), (code as i16, 0));
        }
    }
}
