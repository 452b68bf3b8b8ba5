//! What a client asks before it works with a coordinator: where it is, and who the client is there.

use std::time::Instant;

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse};

use crate::client::{Client, ClientError, POLL_INTERVAL, TOPIC_READY_WITHIN, host_port};

/// How long a transaction may stay open, in milliseconds: the Java producer's `transaction.timeout.ms`.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
/// From this version of FindCoordinator on a request names several keys, and so does its answer.
const MANY_KEYS: i16 = 4;

/// What a coordinator is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorOf {
    /// A consumer group.
    Group,
    /// A transactional id.
    Transaction,
}

impl Client {
    /// `HOST:PORT` of the coordinator of a group or transactional id. The first question ever makes the broker create the
    /// coordinator's topic, which is waited for.
    pub fn coordinator(&mut self, of: CoordinatorOf, key: &str) -> Result<String, ClientError> {
        let api = ApiKey::FindCoordinator;
        // Version 0 knows groups alone.
        let version = self.version(api, 1..=5)?;
        let key_type = match of {
            CoordinatorOf::Group => 0,
            CoordinatorOf::Transaction => 1,
        };
        let request = FindCoordinatorRequest {
            key: if version < MANY_KEYS { key } else { "" },
            key_type,
            coordinator_keys: if version < MANY_KEYS { Vec::new() } else { vec![key] },
        };
        self.until_it_passes(api, key, |client| {
            let answer: FindCoordinatorResponse<'_> = client.call(api, version, &request)?;
            let first = answer.coordinators.first();
            let (code, host, port) = first.map_or((answer.error_code, answer.host, answer.port), |coordinator| {
                (coordinator.error_code, coordinator.host, coordinator.port)
            });
            Ok((code, host_port(host, port)))
        })
    }

    /// A producer id and epoch for a transactional id; what its last producer left open is aborted.
    pub fn init_producer_id(&mut self, transactional_id: &str, version: i16) -> Result<(i64, i16), ClientError> {
        let api = ApiKey::InitProducerId;
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id),
            transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
            ..Default::default()
        };
        self.until_it_passes(api, transactional_id, |client| {
            let answer: InitProducerIdResponse = client.call(api, version, &request)?;
            Ok((answer.error_code, (answer.producer_id, answer.producer_epoch)))
        })
    }

    /// Asks again while the answer is an error that passes by itself.
    fn until_it_passes<T>(
        &mut self,
        api: ApiKey,
        what: &str,
        mut ask: impl FnMut(&mut Client) -> Result<(i16, T), ClientError>,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + TOPIC_READY_WITHIN;
        loop {
            let (code, answer) = ask(self)?;
            if code == 0 {
                return Ok(answer);
            }
            let known = ErrorCode::from_code(code);
            let passes = known.is_some_and(|known| known == ErrorCode::ConcurrentTransactions || known.is_retriable());
            if !passes || Instant::now() > deadline {
                return Err(ClientError::Broker { api, what: what.to_owned(), code, message: None });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
