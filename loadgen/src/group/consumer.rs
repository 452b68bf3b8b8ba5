//! The consumer protocol (KIP-848): the coordinator assigns, and leads each member there by the answers to its heartbeats.

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, consumer_group_heartbeat_request};
use wire::{Message, Reader, Uuid};

use crate::group::member::{Asks, NEVER, Surroundings};
use crate::link::Lost;

/// `max.poll.interval.ms` of Kafka's consumer.
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
/// The epoch of a member that joins, and of one that leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

/// A member of a group of the consumer protocol.
#[derive(Debug)]
pub(crate) struct Consumer {
    member_id: String,
    epoch: i32,
    /// As the coordinator wants it, in milliseconds.
    interval_ms: i32,
}

impl Consumer {
    /// A member that is called by `id`.
    pub(crate) fn new(id: Uuid) -> Consumer {
        Consumer { member_id: id.to_string(), epoch: JOINS, interval_ms: 0 }
    }

    /// The member id, and the epoch that it is in.
    pub(crate) fn names(&self) -> (&str, i32) {
        (&self.member_id, self.epoch)
    }

    pub(crate) fn heartbeat_ns(&self) -> u64 {
        u64::from(self.interval_ms.unsigned_abs()) * 1_000_000
    }

    pub(crate) fn join(&mut self, asks: &mut Asks, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        with.ledger.drops(asks.number);
        with.ledger.asks(asks.number, with.now);
        (asks.heartbeat_due_ns, asks.commit_due_ns) = (NEVER, NEVER);
        self.epoch = JOINS;
        let request = ConsumerGroupHeartbeatRequest {
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            subscribed_topic_names: Some(vec![&with.context.topic.name]),
            topic_partitions: Some(Vec::new()),
            ..self.request(with)
        };
        asks.push(ApiKey::ConsumerGroupHeartbeat, with.context.versions.consumer_heartbeat, &request, with)
    }

    /// What has not changed is left out.
    pub(crate) fn heartbeat(&self, asks: &mut Asks, with: &Surroundings<'_>) -> Result<(), Lost> {
        let request = self.request(with);
        asks.push(ApiKey::ConsumerGroupHeartbeat, with.context.versions.consumer_heartbeat, &request, with)
    }

    pub(crate) fn leave(&mut self, asks: &mut Asks, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        self.epoch = LEAVES;
        self.heartbeat(asks, with)
    }

    /// Reads an answer; answers whether it has no error.
    pub(crate) fn answer(
        &mut self,
        asks: &mut Asks,
        version: i16,
        reader: &mut Reader<'_>,
        with: &mut Surroundings<'_>,
    ) -> Result<bool, Lost> {
        let api = ApiKey::ConsumerGroupHeartbeat;
        let answer =
            ConsumerGroupHeartbeatResponse::decode(reader, version).map_err(|error| Lost::Protocol(api, error))?;
        if self.epoch == LEAVES {
            return Ok(false);
        }
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch) => {
                with.counts.tally.error(api, answer.error_code, 0);
                self.join(asks, with)?;
                return Ok(false);
            }
            _ => {
                with.counts.tally.error(api, answer.error_code, 0);
                return Err(Lost::Refused { api, code: answer.error_code });
            }
        }
        if self.epoch == JOINS && with.context.commit_ns > 0 {
            asks.commit_due_ns = with.now + with.context.commit_ns;
        }
        self.epoch = answer.member_epoch;
        self.interval_ms = answer.heartbeat_interval_ms.max(1);
        asks.heartbeat_due_ns = with.now + self.heartbeat_ns();
        let before = with.ledger.partitions(asks.number).to_vec();
        let mut partitions = match &answer.assignment {
            None => before.clone(),
            Some(assignment) => assignment
                .topic_partitions
                .iter()
                .filter(|topic| topic.topic_id == with.context.topic.id)
                .flat_map(|topic| topic.partitions.iter().copied())
                .collect(),
        };
        partitions.sort_unstable();
        with.ledger.assigned(asks.number, self.epoch, &partitions, with.now);
        if partitions != before {
            // What was given up or taken is told at once, so that others need not wait for the next heartbeat.
            asks.heartbeat_due_ns = NEVER;
            self.tell(asks, &partitions, with)?;
        }
        Ok(true)
    }

    fn tell(&self, asks: &mut Asks, partitions: &[i32], with: &Surroundings<'_>) -> Result<(), Lost> {
        let owned = consumer_group_heartbeat_request::TopicPartitions {
            topic_id: with.context.topic.id,
            partitions: partitions.to_vec(),
        };
        let owned = if partitions.is_empty() { Vec::new() } else { vec![owned] };
        let request = ConsumerGroupHeartbeatRequest { topic_partitions: Some(owned), ..self.request(with) };
        asks.push(ApiKey::ConsumerGroupHeartbeat, with.context.versions.consumer_heartbeat, &request, with)
    }

    fn request<'a>(&'a self, with: &Surroundings<'a>) -> ConsumerGroupHeartbeatRequest<'a> {
        ConsumerGroupHeartbeatRequest {
            group_id: with.group_id,
            member_id: &self.member_id,
            member_epoch: self.epoch,
            ..Default::default()
        }
    }
}
