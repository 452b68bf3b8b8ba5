//! DescribeAcls (key 29), CreateAcls (key 30) and DeleteAcls (key 31), versions 1 to 3 each (KIP-140).
//!
//! - Nothing is authorised, so there are no rules to see or to change. Kafka without an authorizer says the same.
//! - A rule of a kind that the protocol calls unknown is a request that cannot be read.
//! - Owner core: any.

use wire::error::ErrorCode;
use wire::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};
use wire::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsResponse};
use wire::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, DescribeAclsResponse};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::shard::Shard;

/// Kafka's sentence for a question.
const NO_RULES: &str = "No Authorizer is configured on the broker";

/// Kafka's sentence for a change.
const NO_CHANGE: &str = "No Authorizer is configured.";

/// The number that stands for a kind that the sender does not know, in every enumeration of rules.
const UNKNOWN: i8 = 0;

/// Answers a question for rules.
pub async fn handle_describe(_: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeAclsRequest<'_> = request.decode()?;
    check_kinds([asked.resource_type_filter, asked.pattern_type_filter, asked.operation, asked.permission_type])?;
    request.reply(&DescribeAclsResponse {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_RULES),
        ..DescribeAclsResponse::default()
    })
}

/// Answers a request for new rules.
pub async fn handle_create(_: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: CreateAclsRequest<'_> = request.decode()?;
    for rule in &asked.creations {
        check_kinds([rule.resource_type, rule.resource_pattern_type, rule.operation, rule.permission_type])?;
    }
    let refused = AclCreationResult { error_code: ErrorCode::SecurityDisabled.code(), error_message: Some(NO_CHANGE) };
    request
        .reply(&CreateAclsResponse { results: vec![refused; asked.creations.len()], ..CreateAclsResponse::default() })
}

/// Answers a request to remove rules.
pub async fn handle_delete(_: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DeleteAclsRequest<'_> = request.decode()?;
    for filter in &asked.filters {
        let kinds = [filter.resource_type_filter, filter.pattern_type_filter, filter.operation, filter.permission_type];
        check_kinds(kinds)?;
    }
    let refused = DeleteAclsFilterResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_CHANGE),
        ..DeleteAclsFilterResult::default()
    };
    request.reply(&DeleteAclsResponse {
        filter_results: vec![refused; asked.filters.len()],
        ..DeleteAclsResponse::default()
    })
}

/// Refuses rules of unknown kinds, as Kafka does when it reads a request.
fn check_kinds(kinds: [i8; 4]) -> Result<(), RequestError> {
    if kinds.contains(&UNKNOWN) { Err(RequestError::UnknownKind) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_an_unknown_kind_cannot_be_read() {
        assert_eq!(check_kinds([2, 3, 3, 3]), Ok(()));
        for place in 0..4 {
            let mut kinds = [2, 3, 3, 3];
            kinds[place] = UNKNOWN;
            assert!(check_kinds(kinds).is_err(), "{kinds:?}");
        }
    }
}
