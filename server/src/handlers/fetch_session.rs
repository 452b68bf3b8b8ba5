//! Incremental fetch sessions (KIP-227): what a consumer asked for is remembered, so that it sends only what changes
//! and is sent only what changed.
//!
//! Each core keeps the sessions that its connections began. A client that comes back on a connection of another core
//! gets FETCH_SESSION_ID_NOT_FOUND and begins anew, as after a broker's restart. Ids of different cores never collide.

use std::collections::HashMap;
use std::rc::Rc;

use wire::Uuid;
use wire::error::ErrorCode;

use crate::hash::Hasher;
use crate::limits::SESSION_PARTITIONS;

/// The session id that names none.
pub const NO_SESSION: i32 = 0;

/// The epoch that begins a session.
const INITIAL_EPOCH: i32 = 0;

/// The epoch that ends a session, or wants none.
const FINAL_EPOCH: i32 = -1;

/// A session that was not used for this long may be evicted by any other, in milliseconds: Kafka's
/// `FetchSession.MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`.
const EVICTION_MS: i64 = 120_000;

/// How a request names a topic: by id from version 13, by name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(Rc<str>),
    /// By id.
    Id(Uuid),
}

impl TopicRef {
    /// The form of the protocol.
    #[must_use]
    pub fn as_wire(&self) -> wire::fetch::TopicRef<'_> {
        match self {
            TopicRef::Name(name) => wire::fetch::TopicRef::Name(name),
            TopicRef::Id(id) => wire::fetch::TopicRef::Id(*id),
        }
    }
}

impl From<wire::fetch::TopicRef<'_>> for TopicRef {
    fn from(topic: wire::fetch::TopicRef<'_>) -> TopicRef {
        match topic {
            wire::fetch::TopicRef::Name(name) => TopicRef::Name(name.into()),
            wire::fetch::TopicRef::Id(id) => TopicRef::Id(id),
        }
    }
}

/// What is asked of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The topic.
    pub topic: TopicRef,
    /// The partition's index in the topic.
    pub partition: i32,
    /// The first offset wanted.
    pub offset: i64,
    /// How many bytes of records at most.
    pub max_bytes: i32,
    /// The leader epoch that the client knows, -1 if none.
    pub leader_epoch: i32,
    /// The epoch of the last record that the client has, -1 if it does not say.
    pub last_fetched_epoch: i32,
}

/// What a response says of one partition, as far as sessions care.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// The error, or [`ErrorCode::None`].
    pub error: ErrorCode,
    /// The high watermark, -1 if unknown.
    pub high_watermark: i64,
    /// The log's start, -1 if unknown.
    pub log_start: i64,
    /// True when the response has records of the partition, or tells the client where its log diverges.
    pub has_data: bool,
}

/// Session part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRequest {
    /// The session, [`NO_SESSION`] if none.
    pub id: i32,
    /// Its epoch: 0 begins one, -1 ends it.
    pub epoch: i32,
    /// True when the request names topics by id.
    pub uses_topic_ids: bool,
}

/// How a request is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// As it stands; no session.
    Sessionless,
    /// As it stands, and remembered as a new session.
    Full {
        /// See [`SessionRequest::uses_topic_ids`].
        uses_topic_ids: bool,
    },
    /// From the session, with what has changed.
    Incremental {
        /// The session.
        id: i32,
        /// The epoch that the session has until the next request.
        epoch: i32,
    },
}

/// The sessions of one core.
#[derive(Debug)]
pub struct Sessions {
    by_id: HashMap<i32, Session, Hasher>,
    max_sessions: usize,
    partitions: usize,
    core: u32,
    cores: u32,
}

#[derive(Debug)]
struct Session {
    uses_topic_ids: bool,
    epoch: i32,
    created_ms: i64,
    used_ms: i64,
    partitions: Partitions,
}

impl Sessions {
    /// No sessions yet. At most `max_sessions` will be kept; ids are unique among the `cores`.
    #[must_use]
    pub fn new(max_sessions: usize, core: u32, cores: u32) -> Sessions {
        Sessions { by_id: HashMap::default(), max_sessions, partitions: 0, core, cores }
    }

    /// Sessions kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True when no session is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Brings the session up to date with a request that names `wanted` and forgets `forgotten`, and turns `wanted`
    /// into everything that the request asks for.
    pub fn begin(
        &mut self,
        request: SessionRequest,
        wanted: &mut Vec<Wanted>,
        forgotten: &[(TopicRef, i32)],
        now_ms: i64,
    ) -> Result<Context, ErrorCode> {
        if request.epoch == INITIAL_EPOCH || request.epoch == FINAL_EPOCH {
            self.remove(request.id);
            return Ok(match request.epoch {
                FINAL_EPOCH => Context::Sessionless,
                _ => Context::Full { uses_topic_ids: request.uses_topic_ids },
            });
        }
        let session = self.by_id.get_mut(&request.id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != request.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        self.partitions -= session.partitions.len();
        for partition in wanted.drain(..) {
            session.partitions.ask(partition);
        }
        for (topic, partition) in forgotten {
            session.partitions.forget(topic, *partition);
        }
        let size = session.partitions.len();
        if size == 0 {
            self.by_id.remove(&request.id);
            return Ok(Context::Sessionless);
        }
        if self.partitions + size > SESSION_PARTITIONS {
            self.by_id.remove(&request.id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        self.partitions += size;
        session.used_ms = now_ms;
        session.epoch = next_epoch(session.epoch);
        wanted.extend(session.partitions.iter().cloned());
        Ok(Context::Incremental { id: request.id, epoch: session.epoch })
    }

    /// Settles a response: which of the partitions it tells of (`tell` keeps its order), and the session id that it
    /// carries. `answers` go with `wanted` one by one; a new session takes its id from `random`.
    pub fn finish(
        &mut self,
        context: &Context,
        wanted: &[Wanted],
        answers: &[Answered],
        tell: &mut Vec<bool>,
        now_ms: i64,
        random: u64,
    ) -> Result<i32, ErrorCode> {
        tell.clear();
        match *context {
            Context::Sessionless => {
                tell.resize(wanted.len(), true);
                Ok(NO_SESSION)
            }
            Context::Full { uses_topic_ids } => {
                tell.resize(wanted.len(), true);
                let id = self.new_id(random);
                let session = self.create(uses_topic_ids, wanted, answers, now_ms);
                Ok(session.map_or(NO_SESSION, |session| {
                    self.by_id.insert(id, session);
                    id
                }))
            }
            Context::Incremental { id, epoch } => {
                // The session may have moved on, if its client sent another request before this answer.
                let session = self.by_id.get_mut(&id).filter(|session| session.epoch == epoch);
                let session = session.ok_or(ErrorCode::InvalidFetchSessionEpoch)?;
                for (wanted, answer) in wanted.iter().zip(answers) {
                    tell.push(session.partitions.settle(wanted, answer));
                }
                Ok(id)
            }
        }
    }

    fn create(
        &mut self,
        uses_topic_ids: bool,
        wanted: &[Wanted],
        answers: &[Answered],
        now_ms: i64,
    ) -> Option<Session> {
        if wanted.is_empty() || self.partitions + wanted.len() > SESSION_PARTITIONS {
            return None;
        }
        if self.by_id.len() >= self.max_sessions && !self.evict(wanted.len(), now_ms) {
            return None;
        }
        let mut partitions = Partitions::default();
        for (wanted, answer) in wanted.iter().zip(answers) {
            partitions.ask(wanted.clone());
            partitions.settle(wanted, answer);
        }
        self.partitions += partitions.len();
        let epoch = next_epoch(INITIAL_EPOCH);
        Some(Session { uses_topic_ids, epoch, created_ms: now_ms, used_ms: now_ms, partitions })
    }

    /// Makes room for a session of `size` partitions: a stale one goes first, then a smaller one that is not new.
    fn evict(&mut self, size: usize, now_ms: i64) -> bool {
        let stale = self.by_id.iter().filter(|(_, session)| now_ms - session.used_ms > EVICTION_MS);
        let smaller = self
            .by_id
            .iter()
            .filter(|(_, session)| now_ms - session.created_ms > EVICTION_MS && session.partitions.len() < size);
        let victim = stale
            .min_by_key(|(id, session)| (session.used_ms, **id))
            .or_else(|| smaller.min_by_key(|(id, session)| (session.partitions.len(), **id)));
        let Some(victim) = victim.map(|(id, _)| *id) else { return false };
        self.remove(victim);
        true
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.by_id.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    /// A positive id of this core's own range that is not in use: `random` within it, or one of the next.
    fn new_id(&self, random: u64) -> i32 {
        let range = i32::MAX as u32 / self.cores;
        let mut at = (random % u64::from(range)) as u32;
        loop {
            let id = (self.core * range + at) as i32;
            if id != NO_SESSION && !self.by_id.contains_key(&id) {
                return id;
            }
            at = (at + 1) % range;
        }
    }
}

/// The epoch after `epoch`. It never becomes 0 again, which begins a session.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// The partitions of a session, in the order in which they are served. One that had records goes to the end, so that
/// under a limit on bytes every partition has its turn.
#[derive(Debug, Default)]
struct Partitions {
    index: HashMap<(TopicRef, i32), u32, Hasher>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    ends: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Node {
    wanted: Wanted,
    /// What the client was told last; -1 so that it is told again.
    high_watermark: i64,
    log_start: i64,
    before: Option<u32>,
    after: Option<u32>,
}

impl Partitions {
    fn len(&self) -> usize {
        self.index.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Wanted> {
        let mut next = self.ends.map(|(first, _)| first);
        std::iter::from_fn(move || {
            let node = &self.nodes[next? as usize];
            next = node.after;
            Some(&node.wanted)
        })
    }

    /// Adds a partition, or changes what is asked of it.
    fn ask(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.partition);
        if let Some(at) = self.index.get(&key) {
            self.nodes[*at as usize].wanted = wanted;
            return;
        }
        let node = Node { wanted, high_watermark: -1, log_start: -1, before: None, after: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.index.insert(key, at);
        self.push_back(at);
    }

    fn forget(&mut self, topic: &TopicRef, partition: i32) {
        if let Some(at) = self.index.remove(&(topic.clone(), partition)) {
            self.unlink(at);
            self.free.push(at);
        }
    }

    /// Whether the client is to be told of the answer.
    fn settle(&mut self, wanted: &Wanted, answer: &Answered) -> bool {
        let Some(at) = self.index.get(&(wanted.topic.clone(), wanted.partition)).copied() else { return true };
        let node = &mut self.nodes[at as usize];
        let changed = node.high_watermark != answer.high_watermark || node.log_start != answer.log_start;
        let failed = answer.error != ErrorCode::None;
        node.high_watermark = if failed { -1 } else { answer.high_watermark };
        node.log_start = answer.log_start;
        if answer.has_data {
            self.unlink(at);
            self.push_back(at);
        }
        changed || failed || answer.has_data
    }

    fn push_back(&mut self, at: u32) {
        let last = self.ends.map(|(_, last)| last);
        self.nodes[at as usize].before = last;
        self.nodes[at as usize].after = None;
        if let Some(last) = last {
            self.nodes[last as usize].after = Some(at);
        }
        self.ends = Some((self.ends.map_or(at, |(first, _)| first), at));
    }

    fn unlink(&mut self, at: u32) {
        let Node { before, after, .. } = self.nodes[at as usize];
        if let Some(before) = before {
            self.nodes[before as usize].after = after;
        }
        if let Some(after) = after {
            self.nodes[after as usize].before = before;
        }
        let (first, last) = self.ends.expect("a linked node has ends");
        let first = if first == at { after } else { Some(first) };
        let last = if last == at { before } else { Some(last) };
        self.ends = first.zip(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(name: &str, partition: i32, offset: i64) -> Wanted {
        Wanted {
            topic: TopicRef::Name(name.into()),
            partition,
            offset,
            max_bytes: 1000,
            leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn answer(high_watermark: i64, has_data: bool) -> Answered {
        Answered { error: ErrorCode::None, high_watermark, log_start: 0, has_data }
    }

    fn request(id: i32, epoch: i32) -> SessionRequest {
        SessionRequest { id, epoch, uses_topic_ids: false }
    }

    /// Begins a session over partitions 0 to `n` of topic `t` and returns its id.
    fn session(sessions: &mut Sessions, n: i32, now_ms: i64) -> i32 {
        let mut wanted: Vec<Wanted> = (0..n).map(|partition| want("t", partition, 0)).collect();
        let context = sessions.begin(request(NO_SESSION, 0), &mut wanted, &[], now_ms).unwrap();
        let answers = vec![answer(0, false); wanted.len()];
        let mut tell = Vec::new();
        let id = sessions.finish(&context, &wanted, &answers, &mut tell, now_ms, 7).unwrap();
        assert_eq!(tell, vec![true; wanted.len()], "a first response is complete");
        id
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut sessions = Sessions::new(10, 0, 1);
        let id = session(&mut sessions, 3, 0);
        let mut wanted = vec![want("t", 1, 5)];
        let context = sessions.begin(request(id, 1), &mut wanted, &[], 1).unwrap();
        assert_eq!(wanted.iter().map(|w| (w.partition, w.offset)).collect::<Vec<_>>(), [(0, 0), (1, 5), (2, 0)]);
        let mut tell = Vec::new();
        let answers = [answer(0, false), answer(9, true), answer(1, false)];
        assert_eq!(sessions.finish(&context, &wanted, &answers, &mut tell, 1, 0), Ok(id));
        assert_eq!(tell, [false, true, true]);

        let mut wanted = Vec::new();
        let context = sessions.begin(request(id, 2), &mut wanted, &[], 2).unwrap();
        let order: Vec<i32> = wanted.iter().map(|w| w.partition).collect();
        assert_eq!(order, [0, 2, 1], "the partition that had records is served last");
        let answers = [answer(0, false), answer(1, false), answer(9, false)];
        sessions.finish(&context, &wanted, &answers, &mut tell, 2, 0).unwrap();
        assert_eq!(tell, [false, false, false]);
    }

    #[test]
    fn an_error_is_told_each_time_and_its_end_too() {
        let mut sessions = Sessions::new(10, 0, 1);
        let id = session(&mut sessions, 1, 0);
        let failed = Answered { error: ErrorCode::NotLeaderOrFollower, ..answer(-1, false) };
        let mut tell = Vec::new();
        for (epoch, answer) in [(1, failed), (2, failed), (3, answer(0, false))] {
            let mut wanted = Vec::new();
            let context = sessions.begin(request(id, epoch), &mut wanted, &[], 0).unwrap();
            sessions.finish(&context, &wanted, &[answer], &mut tell, 0, 0).unwrap();
            assert_eq!(tell, [true], "epoch {epoch}");
        }
    }

    #[test]
    fn forgotten_partitions_are_gone_and_an_empty_session_ends() {
        let mut sessions = Sessions::new(10, 0, 1);
        let id = session(&mut sessions, 3, 0);
        let topic = TopicRef::Name("t".into());
        let mut wanted = vec![want("u", 0, 0)];
        let forgotten = [(topic.clone(), 1), (topic.clone(), 9)];
        sessions.begin(request(id, 1), &mut wanted, &forgotten, 0).unwrap();
        assert_eq!(wanted.iter().map(|w| w.partition).collect::<Vec<_>>(), [0, 2, 0]);
        let forgotten = [(topic.clone(), 0), (topic, 2), (TopicRef::Name("u".into()), 0)];
        let mut wanted = Vec::new();
        assert_eq!(sessions.begin(request(id, 2), &mut wanted, &forgotten, 0), Ok(Context::Sessionless));
        assert!(sessions.is_empty() && wanted.is_empty());
        assert_eq!(sessions.partitions, 0);
    }

    #[test]
    fn requests_out_of_step_are_refused() {
        let mut sessions = Sessions::new(10, 0, 1);
        let id = session(&mut sessions, 1, 0);
        let mut wanted = Vec::new();
        let mut begin = |sessions: &mut Sessions, request| sessions.begin(request, &mut wanted, &[], 0);
        assert_eq!(begin(&mut sessions, request(id + 1, 1)), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(begin(&mut sessions, request(id, 2)), Err(ErrorCode::InvalidFetchSessionEpoch));
        let by_id = SessionRequest { uses_topic_ids: true, ..request(id, 1) };
        assert_eq!(begin(&mut sessions, by_id), Err(ErrorCode::FetchSessionTopicIdError));
        let first = begin(&mut sessions, request(id, 1)).unwrap();
        begin(&mut sessions, request(id, 2)).unwrap();
        let late = sessions.finish(&first, &[want("t", 0, 0)], &[answer(0, false)], &mut Vec::new(), 0, 0);
        assert_eq!(late, Err(ErrorCode::InvalidFetchSessionEpoch));
    }

    #[test]
    fn a_full_request_replaces_the_session_that_it_names() {
        let mut sessions = Sessions::new(10, 0, 1);
        let id = session(&mut sessions, 1, 0);
        let mut wanted = vec![want("t", 0, 0)];
        assert_eq!(sessions.begin(request(id, -1), &mut wanted, &[], 0), Ok(Context::Sessionless));
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_full_cache_evicts_the_stale_then_the_smaller_that_is_not_new() {
        let mut sessions = Sessions::new(2, 0, 1);
        let small = session(&mut sessions, 2, 0);
        let large = session(&mut sessions, 5, 0);
        assert_eq!(session(&mut sessions, 9, 1), NO_SESSION, "both are new");
        let later = EVICTION_MS + 1;
        for id in [small, large] {
            sessions.begin(request(id, 1), &mut Vec::new(), &[], later).unwrap();
        }
        assert_eq!(session(&mut sessions, 1, later), NO_SESSION, "neither is smaller");
        assert_ne!(session(&mut sessions, 3, later), NO_SESSION);
        assert!(!sessions.by_id.contains_key(&small) && sessions.by_id.contains_key(&large));
        assert_ne!(session(&mut sessions, 1, 2 * later + 1), NO_SESSION, "a stale one goes whatever its size");
        assert_eq!(sessions.len(), 2);
    }

    #[test]
    fn ids_of_different_cores_do_not_collide() {
        for core in 0..3 {
            let mut sessions = Sessions::new(10, core, 3);
            for _ in 0..10 {
                let id = session(&mut sessions, 1, 0);
                let range = i32::MAX as u32 / 3;
                assert_eq!(id as u32 / range, core);
            }
            assert_eq!(sessions.len(), 10);
        }
    }

    #[test]
    fn epochs_never_begin_again() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
