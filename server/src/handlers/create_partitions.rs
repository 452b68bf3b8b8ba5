//! CreatePartitions (key 37), versions 0 to 3.
//!
//! - A topic gets more partitions: the request says how many it is to have and may say on which brokers the new ones
//!   are. There is one broker.
//! - Refused: topics that do not exist or occur twice, a number that is no increase, assignments that do not fit.
//! - Owner core: 0.

use std::collections::HashSet;
use std::mem;

use wire::error::ErrorCode;
use wire::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use wire::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};

use super::admin::{Plan, Refusal, Texts, check_assignment, check_size, count_by};
use crate::api::{Request, RequestError};
use crate::catalog::Action;
use crate::connection::responses::Reply;
use crate::image::Image;
use crate::services::Services;
use crate::shard::Shard;

/// Answers a request, after its plan has been carried out. On core 0.
pub async fn handle(core0: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: CreatePartitionsRequest<'_> = request.decode()?;
    let (services, texts) = (Services::of(&core0), Texts::new());
    let turn = services.controller().turn().await;
    let image = turn.image();
    let mut plan = plan(&asked, &image, &texts);
    if let Err(error) = turn.carry_out(mem::take(&mut plan.actions)).await {
        fail(&mut plan.response, error.code());
    }
    request.reply(&plan.response)
}

/// Plans new partitions.
pub fn plan<'a>(
    request: &CreatePartitionsRequest<'a>,
    image: &Image,
    texts: &'a Texts,
) -> Plan<CreatePartitionsResponse<'a>> {
    let counts = count_by(request.topics.iter().map(|topic| topic.name));
    let mut seen = HashSet::new();
    let mut plan = Plan { response: CreatePartitionsResponse::default(), actions: Vec::new() };
    for topic in request.topics.iter().filter(|topic| seen.insert(topic.name)) {
        let checked = if counts[topic.name] > 1 {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else {
            check(topic, image)
        };
        let (error_code, error_message) = match checked {
            Ok(action) => {
                plan.actions.push(action);
                (ErrorCode::None as i16, None)
            }
            Err(refusal) => refusal.parts(texts),
        };
        plan.response.results.push(CreatePartitionsTopicResult { name: topic.name, error_code, error_message });
    }
    if let Err(refusal) = check_size(&plan.actions) {
        plan.actions.clear();
        let (code, message) = refusal.parts(texts);
        for result in plan.response.results.iter_mut().filter(|it| it.error_code == ErrorCode::None as i16) {
            (result.error_code, result.error_message) = (code, message);
        }
    }
    if request.validate_only {
        plan.actions.clear();
    }
    plan
}

/// Makes the response one of failure, for a plan that could not be carried out.
pub fn fail(response: &mut CreatePartitionsResponse<'_>, code: ErrorCode) {
    for result in response.results.iter_mut().filter(|result| result.error_code == ErrorCode::None as i16) {
        result.error_code = code as i16;
        result.error_message = Some(code.message());
    }
}

fn check(topic: &CreatePartitionsTopic<'_>, image: &Image) -> Result<Action, Refusal> {
    let name = topic.name;
    let Some(known) = image.topic(name) else {
        return Err(Refusal { code: ErrorCode::UnknownTopicOrPartition, message: None });
    };
    // Partitions are numbered with 31 bits.
    let has = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX);
    if topic.count == has {
        let sentence = format!("Topic already has {has} partition(s).");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, sentence));
    }
    if topic.count < has {
        let sentence =
            format!("The topic {name} currently has {has} partition(s); {} would not be an increase.", topic.count);
        return Err(Refusal::new(ErrorCode::InvalidPartitions, sentence));
    }
    if let Some(assignments) = &topic.assignments {
        let more = topic.count - has;
        if usize::try_from(more) != Ok(assignments.len()) {
            let sentence = format!(
                "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, sentence));
        }
        let replicas = known.partitions.first().map(|partition| partition.replicas.len());
        for assignment in assignments {
            check_assignment(&assignment.broker_ids, image.node_id(), replicas)?;
        }
    }
    Ok(Action::AddPartitions { id: known.id, from: has, to: topic.count })
}

#[cfg(test)]
mod tests {
    use wire::Message;
    use wire::messages::create_partitions_request::CreatePartitionsAssignment;

    use super::super::test_image::{id, image};
    use super::*;

    fn topic<'a>(name: &'a str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic<'a> {
        let assignment = |brokers: &&[i32]| CreatePartitionsAssignment { broker_ids: brokers.to_vec() };
        CreatePartitionsTopic { name, count, assignments: assignments.map(|it| it.iter().map(assignment).collect()) }
    }

    fn request(topics: Vec<CreatePartitionsTopic<'_>>) -> CreatePartitionsRequest<'_> {
        CreatePartitionsRequest { topics, ..CreatePartitionsRequest::default() }
    }

    #[test]
    fn topics_grow() {
        let image = image();
        let texts = Texts::new();
        let mut request = request(vec![topic("plain", 5, None), topic("configured", 2, Some(&[&[1]]))]);
        let mut planned = plan(&request, &image, &texts);
        assert_eq!(
            planned.actions,
            [Action::AddPartitions { id: id(3), from: 3, to: 5 }, Action::AddPartitions { id: id(1), from: 1, to: 2 }]
        );
        assert!(planned.response.results.iter().all(|it| it.error_code == 0 && it.error_message.is_none()));
        for version in 0..=3 {
            planned.response.encode(&mut Vec::new(), version).unwrap();
        }
        fail(&mut planned.response, ErrorCode::KafkaStorageError);
        assert_eq!(planned.response.results[1].error_code, 56);
        request.validate_only = true;
        assert_eq!(plan(&request, &image, &texts).actions, []);
    }

    #[test]
    fn what_is_refused_is_said_in_kafkas_words() {
        let image = image();
        let texts = Texts::new();
        let cases = [
            (topic("nope", 4, None), 3, None),
            (topic("plain", 3, None), 37, Some("Topic already has 3 partition(s).")),
            (
                topic("plain", 1, None),
                37,
                Some("The topic plain currently has 3 partition(s); 1 would not be an increase."),
            ),
            (
                topic("plain", 5, Some(&[&[1]])),
                39,
                Some("Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."),
            ),
            (
                topic("plain", 4, Some(&[&[2]])),
                39,
                Some("The manual partition assignment includes broker 2, but no such broker is registered."),
            ),
            (topic("plain", i32::MAX, None), 44, Some("Unable to perform excessively large batch operation.")),
        ];
        for (topic, code, message) in cases {
            let request = request(vec![topic]);
            let plan = plan(&request, &image, &texts);
            let result = &plan.response.results[0];
            assert_eq!(
                (result.error_code, result.error_message, plan.actions.len()),
                (code, message, 0),
                "{request:?}"
            );
        }
        let twice = request(vec![topic("plain", 4, None), topic("plain", 5, None)]);
        let plan = plan(&twice, &image, &texts);
        assert_eq!((plan.response.results.len(), plan.actions.len()), (1, 0));
        assert_eq!(plan.response.results[0].error_message, Some("Duplicate topic name."));
    }
}
