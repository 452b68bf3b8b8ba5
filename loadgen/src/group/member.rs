//! One member on its connection: what it has asked, when it asks again.

use std::collections::VecDeque;

use wire::api::ApiKey;
use wire::error::ErrorCode;
use wire::header::{RequestHeader, decode_response};
use wire::messages::{OffsetCommitRequest, OffsetCommitResponse, offset_commit_request};
use wire::{Message, Reader};

use crate::group::Context;
use crate::group::classic::Classic;
use crate::group::consumer::Consumer;
use crate::group::ledger::Ledger;
use crate::histogram::Latencies;
use crate::link::{Link, Lost, Received, push_request};
use crate::random::Random;
use crate::tally::Tally;

/// Never, as a time of the clock.
pub(crate) const NEVER: u64 = u64::MAX;

/// What members count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Whether the measurement is on.
    pub(crate) measuring: bool,
    pub(crate) heartbeats: Latencies,
    pub(crate) commits: Latencies,
    pub(crate) tally: Tally,
}

/// What a member works with.
pub(crate) struct Surroundings<'a> {
    pub(crate) context: &'a Context,
    pub(crate) group_id: &'a str,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) counts: &'a mut Counts,
    /// Nanoseconds of the clock.
    pub(crate) now: u64,
}

/// The protocol that a member follows, and where it is in it.
#[derive(Debug)]
pub(crate) enum Protocol {
    Classic(Classic),
    Consumer(Consumer),
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    link: Link,
    protocol: Protocol,
    asks: Asks,
}

/// The requests of a member, and when the next ones are due.
#[derive(Debug)]
pub(crate) struct Asks {
    /// Its number in the group.
    pub(crate) number: usize,
    pub(crate) heartbeat_due_ns: u64,
    pub(crate) commit_due_ns: u64,
    out: Vec<u8>,
    unanswered: VecDeque<Unanswered>,
    correlation_id: i32,
    commits: i64,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unanswered {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    sent_ns: u64,
}

impl Member {
    pub(crate) fn new(link: Link, number: usize, protocol: Protocol) -> Member {
        let asks = Asks {
            number,
            heartbeat_due_ns: NEVER,
            commit_due_ns: NEVER,
            out: Vec::new(),
            unanswered: VecDeque::new(),
            correlation_id: 0,
            commits: 0,
        };
        Member { link, protocol, asks }
    }

    /// Begins to join.
    pub(crate) fn join(&mut self, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        match &mut self.protocol {
            Protocol::Classic(classic) => classic.join(&mut self.asks, with)?,
            Protocol::Consumer(consumer) => consumer.join(&mut self.asks, with)?,
        }
        self.send()
    }

    /// Sends what is due.
    pub(crate) fn tick(&mut self, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        if self.asks.heartbeat_due_ns <= with.now {
            self.asks.heartbeat_due_ns = NEVER;
            match &mut self.protocol {
                Protocol::Classic(classic) => classic.heartbeat(&mut self.asks, with)?,
                Protocol::Consumer(consumer) => consumer.heartbeat(&mut self.asks, with)?,
            }
        }
        if self.asks.commit_due_ns <= with.now {
            self.asks.commit_due_ns = with.now.saturating_add(with.context.commit_ns);
            let (member_id, generation) = match &self.protocol {
                Protocol::Classic(classic) => classic.names(),
                Protocol::Consumer(consumer) => consumer.names(),
            };
            self.asks.commit(member_id, generation, with)?;
        }
        self.send()
    }

    /// Reads all answers that have come.
    pub(crate) fn ready(&mut self, readable: bool, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        let mut more = readable;
        while more {
            more = self.link.receive()? == Received::More;
            while let Some(frame) = self.link.next_frame()? {
                let asked = self.asks.unanswered.pop_front().ok_or(Lost::Unasked)?;
                answer(&mut self.protocol, &mut self.asks, asked, frame, with)?;
            }
        }
        self.send()
    }

    /// Leaves the group.
    pub(crate) fn leave(&mut self, with: &mut Surroundings<'_>) -> Result<(), Lost> {
        self.rest();
        match &mut self.protocol {
            Protocol::Classic(classic) => classic.leave(&mut self.asks, with)?,
            Protocol::Consumer(consumer) => consumer.leave(&mut self.asks, with)?,
        }
        self.send()
    }

    /// Sends nothing more by itself.
    pub(crate) fn rest(&mut self) {
        (self.asks.heartbeat_due_ns, self.asks.commit_due_ns) = (NEVER, NEVER);
    }

    /// Puts its next heartbeat and commit anywhere within their intervals, as those of clients are that did not all start
    /// in the same moment.
    pub(crate) fn spread(&mut self, random: &mut Random, context: &Context, now: u64) {
        let heartbeat_ns = self.heartbeat_ns(context).max(1);
        if self.asks.heartbeat_due_ns != NEVER {
            self.asks.heartbeat_due_ns = now + random.below(heartbeat_ns);
        }
        if context.commit_ns > 0 {
            self.asks.commit_due_ns = now + random.below(context.commit_ns);
        }
    }

    /// The time between two heartbeats, in nanoseconds.
    pub(crate) fn heartbeat_ns(&self, context: &Context) -> u64 {
        match &self.protocol {
            Protocol::Classic(_) => context.heartbeat_ns,
            Protocol::Consumer(consumer) => consumer.heartbeat_ns(),
        }
    }

    /// When it has something to send. Nanoseconds of the clock.
    pub(crate) fn due_ns(&self) -> u64 {
        self.asks.heartbeat_due_ns.min(self.asks.commit_due_ns)
    }

    /// Whether all its requests are answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.asks.unanswered.is_empty() && self.asks.out.is_empty() && self.link.out.is_empty()
    }

    /// Since when it has waited for the answer to anything but a join, which waits for other members. Nanoseconds of the clock.
    pub(crate) fn waiting_since(&self) -> Option<u64> {
        let oldest = self.asks.unanswered.front()?;
        (oldest.api != ApiKey::JoinGroup && oldest.api != ApiKey::SyncGroup).then_some(oldest.sent_ns)
    }

    fn send(&mut self) -> Result<(), Lost> {
        // Nothing is added behind bytes that the socket did not take: the rest follows when it is writable.
        if self.link.flush(&[])? && !self.asks.out.is_empty() {
            let out = std::mem::take(&mut self.asks.out);
            self.link.out.push_own(|own| {
                own.extend_from_slice(&out);
                Ok::<(), Lost>(())
            })?;
            self.link.flush(&[])?;
        }
        Ok(())
    }
}

impl Asks {
    /// Adds a request.
    pub(crate) fn push<'a>(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &impl Message<'a>,
        with: &Surroundings<'_>,
    ) -> Result<(), Lost> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let correlation_id = self.correlation_id;
        let header = RequestHeader { api, version, correlation_id, client_id: Some(&with.context.client_id) };
        push_request(&mut self.out, &header, request)?;
        self.unanswered.push_back(Unanswered { api, version, correlation_id, sent_ns: with.now });
        Ok(())
    }

    /// Commits the next offset of all partitions that the member has, as clients do even where nothing is new.
    fn commit(&mut self, member_id: &str, generation: i32, with: &Surroundings<'_>) -> Result<(), Lost> {
        let owned = with.ledger.partitions(self.number);
        if owned.is_empty() {
            return Ok(());
        }
        self.commits += 1;
        let partition = |index: &i32| offset_commit_request::OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: self.commits,
            committed_leader_epoch: -1,
            committed_metadata: Some(""),
            ..Default::default()
        };
        let topic = offset_commit_request::OffsetCommitRequestTopic {
            name: &with.context.topic.name,
            partitions: owned.iter().map(partition).collect(),
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: with.group_id,
            generation_id_or_member_epoch: generation,
            member_id,
            topics: vec![topic],
            ..Default::default()
        };
        self.push(ApiKey::OffsetCommit, with.context.versions.commit, &request, with)
    }
}

/// Takes an answer to where it belongs.
fn answer(
    protocol: &mut Protocol,
    asks: &mut Asks,
    asked: Unanswered,
    frame: &[u8],
    with: &mut Surroundings<'_>,
) -> Result<(), Lost> {
    let Unanswered { api, version, correlation_id: expected, sent_ns } = asked;
    let mut reader = Reader::new(frame);
    let got = decode_response(&mut reader, api, version).map_err(|error| Lost::Protocol(api, error))?;
    if got != expected {
        return Err(Lost::OutOfTurn { expected, got });
    }
    let waited_ns = with.now.saturating_sub(sent_ns);
    if api == ApiKey::OffsetCommit {
        let code = committed(&mut reader, version)?;
        if code == 0 && with.counts.measuring {
            with.counts.commits.record(waited_ns, 1);
        }
        // While a group is on its way to its next generation, commits of the one before come too late.
        let late = [ErrorCode::StaleMemberEpoch, ErrorCode::RebalanceInProgress].map(ErrorCode::code);
        if code != 0 && !late.contains(&code) {
            with.counts.tally.error(api, code, 0);
        }
        return Ok(());
    }
    let beat = match protocol {
        Protocol::Classic(classic) => classic.answer(asks, api, version, &mut reader, with)?,
        Protocol::Consumer(consumer) => consumer.answer(asks, version, &mut reader, with)?,
    };
    if beat && with.counts.measuring {
        with.counts.heartbeats.record(waited_ns, 1);
    }
    Ok(())
}

/// The first error of a commit's answer, or 0.
fn committed(reader: &mut Reader<'_>, version: i16) -> Result<i16, Lost> {
    let broken = |error| Lost::Protocol(ApiKey::OffsetCommit, error);
    let answer = OffsetCommitResponse::decode(reader, version).map_err(broken)?;
    let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    Ok(codes.find(|code| *code != 0).unwrap_or(0))
}
