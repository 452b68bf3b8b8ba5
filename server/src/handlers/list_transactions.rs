//! ListTransactions (key 66), versions 0 to 2. The transactional ids that this broker coordinates, for tools (KIP-664).
//!
//! - Filters: states, producer ids, from version 1 how long a transaction has been open (KIP-994), from version 2 a pattern
//!   that the whole id must match (KIP-1152). A state that nobody knows is named in the answer and matches nothing.
//! - Owner cores: all.

use std::sync::Arc;

use regex::Regex;
use wire::error::ErrorCode;
use wire::messages::list_transactions_response::TransactionState;
use wire::messages::{ListTransactionsRequest, ListTransactionsResponse};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::pattern;
use crate::shard::Shard;
use crate::transaction::service;
use crate::transaction::state::{Phase, State};

/// What a client wants to see.
#[derive(Debug, Clone)]
struct Filter {
    states: Vec<String>,
    producer_ids: Vec<i64>,
    /// The least time that a transaction has been open, in milliseconds; negative for all.
    duration_ms: i64,
    pattern: Option<Regex>,
    now_ms: i64,
}

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: ListTransactionsRequest<'_> = request.decode()?;
    let unknown: Vec<&str> = asked.state_filters.iter().copied().filter(|name| !Phase::is_known(name)).collect();
    let found = match Filter::new(&asked, shard.reactor().unix_ms()) {
        Ok(filter) => service::list(&shard, move |id, state| filter.takes(id, state)).await,
        Err(error) => Err(error),
    };
    let (error, found) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(error) => (error, Vec::new()),
    };
    let listed = |(id, state): &(Arc<str>, State)| (id.clone(), state.producer.id, state.phase.name());
    let found: Vec<_> = found.iter().map(listed).collect();
    request.reply(&ListTransactionsResponse {
        error_code: error.code(),
        unknown_state_filters: unknown,
        transaction_states: found
            .iter()
            .map(|(id, producer_id, name)| TransactionState {
                transactional_id: id,
                producer_id: *producer_id,
                transaction_state: name,
            })
            .collect(),
        ..ListTransactionsResponse::default()
    })
}

impl Filter {
    fn new(asked: &ListTransactionsRequest<'_>, now_ms: i64) -> Result<Filter, ErrorCode> {
        let pattern = asked.transactional_id_pattern.filter(|pattern| !pattern.is_empty());
        let compile = |regex| pattern::compile(regex).map_err(|_| ErrorCode::InvalidRegularExpression);
        Ok(Filter {
            states: asked.state_filters.iter().map(|name| (*name).to_owned()).collect(),
            producer_ids: asked.producer_id_filters.clone(),
            duration_ms: asked.duration_filter,
            pattern: pattern.map(compile).transpose()?,
            now_ms,
        })
    }

    fn takes(&self, id: &str, state: &State) -> bool {
        let is_of_state = self.states.is_empty() || self.states.iter().any(|name| name == state.phase.name());
        let is_of_producer = self.producer_ids.is_empty() || self.producer_ids.contains(&state.producer.id);
        let is_old = self.duration_ms < 0 || self.now_ms.saturating_sub(state.started_ms) > self.duration_ms;
        let is_named = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
        is_of_state && is_of_producer && is_old && is_named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(asked: &ListTransactionsRequest<'_>, id: &str) -> bool {
        let mut state = State::new(7, 1000, 0);
        (state.phase, state.started_ms) = (Phase::Ongoing, 500);
        Filter::new(asked, 1000).unwrap().takes(id, &state)
    }

    #[test]
    fn filters() {
        let all = ListTransactionsRequest { duration_filter: -1, ..ListTransactionsRequest::default() };
        assert!(takes(&all, "pay-1"));
        for (asked, is_taken) in [
            (ListTransactionsRequest { state_filters: vec!["Empty", "Ongoing"], ..all.clone() }, true),
            (ListTransactionsRequest { state_filters: vec!["Nonsense"], ..all.clone() }, false),
            (ListTransactionsRequest { producer_id_filters: vec![7], ..all.clone() }, true),
            (ListTransactionsRequest { producer_id_filters: vec![8], ..all.clone() }, false),
            (ListTransactionsRequest { duration_filter: 499, ..all.clone() }, true),
            (ListTransactionsRequest { duration_filter: 500, ..all.clone() }, false),
            (ListTransactionsRequest { transactional_id_pattern: Some("pay-.*"), ..all.clone() }, true),
            (ListTransactionsRequest { transactional_id_pattern: Some("pay"), ..all.clone() }, false),
            (ListTransactionsRequest { transactional_id_pattern: Some(r"\Qpay-1\E"), ..all.clone() }, true),
            (ListTransactionsRequest { transactional_id_pattern: Some(""), ..all.clone() }, true),
        ] {
            assert_eq!(takes(&asked, "pay-1"), is_taken, "{asked:?}");
        }
        for pattern in ["(", "a)|(b"] {
            let bad = ListTransactionsRequest { transactional_id_pattern: Some(pattern), ..all.clone() };
            assert_eq!(Filter::new(&bad, 0).unwrap_err(), ErrorCode::InvalidRegularExpression, "{pattern}");
        }
    }
}
