//! A broker that stores what it is sent, serves it again, and does wrong when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use wire::api::ApiKey;
use wire::batch::{BatchView, EndTransaction, assign, write_end_transaction};
use wire::error::ErrorCode;
use wire::header::{RequestHeader, encode_response};
use wire::messages::{
    FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, fetch_request, fetch_response, produce_response,
};
use wire::{Message, Reader, Uuid};

use super::control::{self, Control, Speaks, Topic};
use super::groups::{GroupFault, Groups};
use super::transactions::{Ended, TransactionFault, Transactions};

/// What the broker does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Acknowledges the batch of this number (over all partitions, from 0) without storing it.
    Lose(usize),
    /// Stores it twice.
    Duplicate(usize),
    /// Stores it behind the next batch of the same partition.
    Swap(usize),
    /// Changes a byte of it after storing.
    Corrupt(usize),
    /// Refuses every batch whose number is a multiple of this.
    Refuse(usize, ErrorCode),
    /// Closes the connection at the batch of this number, without an answer.
    Hang(usize),
    /// Takes the batch of this number and all that follow, and answers none of them.
    Silence(usize),
    /// Answers the batch of this number with another request's correlation id.
    WrongCorrelation(usize),
    /// Is gone from the batch of this number on: every connection is closed.
    Die(usize),
    /// Takes this long for every batch.
    Slow(Duration),
    /// Waits this long before it answers the batch of this number.
    Stall(usize, Duration),
}

/// How the broker is made.
#[derive(Debug, Clone)]
pub struct Setup {
    pub speaks: Speaks,
    pub fault: Fault,
    pub topic: Option<(&'static str, i32)>,
    pub refuse_creation: Option<ErrorCode>,
    pub group_fault: GroupFault,
    /// Every EndTxn of a number that is a multiple of this is refused.
    pub refuse_end: Option<(u32, ErrorCode)>,
    pub transaction_fault: TransactionFault,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            speaks: Speaks::NEWEST,
            fault: Fault::None,
            topic: None,
            refuse_creation: None,
            group_fault: GroupFault::None,
            refuse_end: None,
            transaction_fault: TransactionFault::None,
        }
    }
}

/// A running broker. It ends with its process.
pub struct Broker {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    setup: Setup,
    address: SocketAddr,
    inner: Mutex<Inner>,
    appended: Condvar,
    groups: Groups,
}

#[derive(Default)]
struct Inner {
    topic: Option<Topic>,
    logs: Vec<Log>,
    dead: bool,
    /// Batches that were sent, over all partitions.
    batches: usize,
    /// A batch of this partition that is stored after the next one.
    swapped: Option<(usize, Vec<u8>)>,
    /// Requests by connection that were read in one go, the most.
    deepest: usize,
    keys: Vec<Option<Vec<u8>>>,
    transactions: Transactions,
}

#[derive(Default)]
struct Log {
    batches: Vec<Vec<u8>>,
    next: i64,
    /// First offsets of open transactions, by producer id.
    open: BTreeMap<i64, i64>,
    /// Aborted transactions: producer id, first offset, offset of the marker.
    aborted: Vec<(i64, i64, i64)>,
    markers: i64,
}

impl Broker {
    pub fn start(setup: Setup) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut inner = Inner::default();
        if let Some((name, partitions)) = setup.topic {
            let topic = Topic { name: name.to_owned(), id: Uuid([5; 16]), partitions, configs: Vec::new() };
            inner.logs.resize_with(partitions as usize, Log::default);
            inner.topic = Some(topic);
        }
        inner.transactions.refuse_end = setup.refuse_end;
        inner.transactions.fault = setup.transaction_fault;
        let groups = Groups::new(setup.group_fault);
        let state = Arc::new(State { setup, address, inner: Mutex::new(inner), appended: Condvar::new(), groups });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || serve(&state, stream));
            }
        });
        Broker { address, state }
    }

    /// The topic, once it was made.
    pub fn topic(&self) -> Option<Topic> {
        self.state.inner.lock().unwrap().topic.clone()
    }

    /// Records stored in each partition.
    pub fn stored(&self) -> Vec<i64> {
        self.state.inner.lock().unwrap().logs.iter().map(|log| log.next - log.markers).collect()
    }

    /// Batches that were sent to it.
    pub fn batches(&self) -> usize {
        self.state.inner.lock().unwrap().batches
    }

    /// Batches of each committed transaction, by transactional id.
    pub fn committed(&self) -> BTreeMap<String, Vec<u32>> {
        self.state.inner.lock().unwrap().transactions.committed()
    }

    /// Its groups.
    pub fn groups(&self) -> &Groups {
        &self.state.groups
    }

    /// The bytes of all stored batches.
    pub fn all_batches(&self) -> Vec<Vec<u8>> {
        self.state.inner.lock().unwrap().logs.iter().flat_map(|log| log.batches.clone()).collect()
    }

    /// The largest number of Produce requests that one connection had sent before it got an answer.
    pub fn deepest(&self) -> usize {
        self.state.inner.lock().unwrap().deepest
    }
}

fn serve(state: &State, mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut frames = VecDeque::new();
    let mut received = Vec::new();
    let mut silent = false;
    loop {
        let mut chunk = [0; 1 << 16];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => received.extend_from_slice(&chunk[..read]),
        }
        while let Some(len) = received.first_chunk::<4>().map(|len| i32::from_be_bytes(*len) as usize)
            && received.len() >= 4 + len
        {
            let rest = received.split_off(4 + len);
            frames.push_back(std::mem::replace(&mut received, rest).split_off(4));
        }
        let produces = frames.iter().filter(|frame| frame[..2] == ApiKey::Produce.key().to_be_bytes()).count();
        {
            let mut inner = state.inner.lock().unwrap();
            inner.deepest = inner.deepest.max(produces);
        }
        while let Some(frame) = frames.pop_front() {
            let mut out = vec![0; 4];
            match handle(state, &frame, &mut out) {
                Reply::Answer if !silent => {
                    let len = (out.len() - 4) as i32;
                    out[..4].copy_from_slice(&len.to_be_bytes());
                    if stream.write_all(&out).is_err() {
                        return;
                    }
                }
                Reply::Answer | Reply::None => {}
                Reply::Silence => silent = true,
                Reply::Close => return,
            }
        }
    }
}

enum Reply {
    Answer,
    None,
    Silence,
    Close,
}

fn handle(state: &State, frame: &[u8], out: &mut Vec<u8>) -> Reply {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).unwrap();
    if state.inner.lock().unwrap().dead {
        return Reply::Close;
    }
    match header.api {
        ApiKey::Produce => produce(state, &header, &ProduceRequest::decode(&mut reader, header.version).unwrap(), out),
        ApiKey::Fetch => {
            fetch(state, &header, &FetchRequest::decode(&mut reader, header.version).unwrap(), out);
            Reply::Answer
        }
        _ => {
            let topic = state.inner.lock().unwrap().topic.as_ref().map(|topic| (topic.id, topic.partitions));
            // Without the lock: members wait for each other.
            if topic.is_some_and(|topic| state.groups.answer(&header, &mut reader, topic, out)) {
                return Reply::Answer;
            }
            let mut inner = state.inner.lock().unwrap();
            if inner.transactions.answer(&header, &mut reader, out) {
                let Some(ended) = inner.transactions.ended.take() else { return Reply::Answer };
                for (partition, log) in inner.logs.iter_mut().enumerate() {
                    log.end_transaction(&ended, partition < ended.committed_below);
                }
                drop(inner);
                state.appended.notify_all();
                return if ended.unanswered { Reply::Close } else { Reply::Answer };
            }
            let Inner { topic, logs, .. } = &mut *inner;
            let ends = |partition: i32| (0, logs.get(partition as usize).map_or(0, |log| log.next));
            let mut control = Control {
                speaks: state.setup.speaks,
                address: state.address,
                topic,
                refuse_creation: state.setup.refuse_creation,
                ends: &ends,
            };
            control::answer(&header, &mut reader, &mut control, out);
            let partitions = inner.topic.as_ref().map_or(0, |topic| topic.partitions as usize);
            inner.logs.resize_with(partitions, Log::default);
            Reply::Answer
        }
    }
}

fn produce(state: &State, header: &RequestHeader<'_>, request: &ProduceRequest<'_>, out: &mut Vec<u8>) -> Reply {
    let version = header.version;
    let mut inner = state.inner.lock().unwrap();
    let known = inner.topic.clone().unwrap();
    let topic = &request.topic_data[0];
    if version >= 13 {
        assert_eq!(topic.topic_id, known.id);
    } else {
        assert_eq!(topic.name, known.name);
    }
    let partition = &topic.partition_data[0];
    let records = partition.records.unwrap();
    let batch = BatchView::parse(records).unwrap();
    assert!(batch.crc_matches() && batch.total_len() == records.len());
    batch.validate_counts().unwrap();
    let number = inner.batches;
    inner.batches += 1;
    let slot = partition.index as usize;
    let mut error = ErrorCode::None;
    let mut correlation_id = header.correlation_id;
    if let Some(id) = request.transactional_id {
        let refused = matches!(state.setup.fault, Fault::Refuse(every, _) if number.is_multiple_of(every));
        inner.transactions.produce(id, version >= 12, partition.index, &batch, refused);
    }
    match state.setup.fault {
        Fault::Lose(at) if at == number => {}
        Fault::Duplicate(at) if at == number => {
            inner.logs[slot].append(records);
            inner.logs[slot].append(records);
        }
        Fault::Swap(at) if at == number => inner.swapped = Some((slot, records.to_vec())),
        Fault::Refuse(every, code) if number.is_multiple_of(every) => error = code,
        Fault::Hang(at) if at == number => return Reply::Close,
        Fault::Die(at) if at <= number => {
            inner.dead = true;
            return Reply::Close;
        }
        Fault::Silence(at) if at == number => return Reply::Silence,
        Fault::Stall(at, long) if at == number => {
            inner = delay(state, inner, long);
            inner.logs[slot].append(records);
        }
        Fault::Slow(long) => {
            inner = delay(state, inner, long);
            inner.logs[slot].append(records);
        }
        fault => {
            inner.logs[slot].append(records);
            if let Some((late_slot, late)) = inner.swapped.take_if(|(late_slot, _)| *late_slot == slot) {
                inner.logs[late_slot].append(&late);
            }
            if fault == Fault::Corrupt(number) {
                *inner.logs[slot].batches.last_mut().unwrap().last_mut().unwrap() ^= 1;
            }
            if fault == Fault::WrongCorrelation(number) {
                correlation_id += 1;
            }
        }
    }
    drop(inner);
    state.appended.notify_all();
    if request.acks == 0 {
        return Reply::None;
    }
    encode_response(out, ApiKey::Produce, version, correlation_id);
    let response = ProduceResponse {
        responses: vec![produce_response::TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: vec![produce_response::PartitionProduceResponse {
                index: partition.index,
                error_code: error.code(),
                base_offset: 1,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    response.encode(out, version).unwrap();
    Reply::Answer
}

/// Lets other connections go on for this long.
fn delay<'a>(state: &'a State, inner: MutexGuard<'a, Inner>, long: Duration) -> MutexGuard<'a, Inner> {
    drop(inner);
    std::thread::sleep(long);
    state.inner.lock().unwrap()
}

fn fetch(state: &State, header: &RequestHeader<'_>, request: &FetchRequest<'_>, out: &mut Vec<u8>) {
    let version = header.version;
    let topic = &request.topics[0];
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms as u64);
    let mut inner = state.inner.lock().unwrap();
    let committed_only = request.isolation_level == 1;
    let found = loop {
        let found: Vec<(i32, i64, Vec<u8>)> = topic
            .partitions
            .iter()
            .map(|asked| {
                let log = &inner.logs[asked.partition as usize];
                let limit = if committed_only { log.last_stable() } else { log.next };
                let records = log.read(asked.fetch_offset, limit, asked.partition_max_bytes as usize);
                (asked.partition, log.next, records)
            })
            .collect();
        let bytes: usize = found.iter().map(|(_, _, records)| records.len()).sum();
        let now = Instant::now();
        if bytes >= request.min_bytes.max(1) as usize || now >= deadline {
            break found;
        }
        inner = state.appended.wait_timeout(inner, deadline - now).unwrap().0;
    };
    let aborted = |asked: &fetch_request::FetchPartition| {
        let overlaps = inner.logs[asked.partition as usize].aborted.iter().filter(|one| one.2 >= asked.fetch_offset);
        let listed = |&(producer_id, first_offset, _)| fetch_response::AbortedTransaction { producer_id, first_offset };
        committed_only.then(|| overlaps.map(listed).collect())
    };
    let mut aborted: VecDeque<_> = topic.partitions.iter().map(aborted).collect();
    drop(inner);
    encode_response(out, ApiKey::Fetch, version, header.correlation_id);
    let response = FetchResponse {
        responses: vec![fetch_response::FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: found
                .iter()
                .map(|(partition, end, records)| fetch_response::PartitionData {
                    partition_index: *partition,
                    high_watermark: *end,
                    records: Some(records),
                    aborted_transactions: aborted.pop_front().unwrap(),
                    ..Default::default()
                })
                .collect(),
        }],
        ..Default::default()
    };
    response.encode(out, version).unwrap();
}

impl Log {
    fn append(&mut self, records: &[u8]) {
        let mut batch = records.to_vec();
        assign(&mut batch, self.next, 0);
        let view = BatchView::parse(&batch).unwrap();
        if view.attributes().is_transactional() && !view.attributes().is_control() {
            self.open.entry(view.producer_id()).or_insert(self.next);
        }
        self.next = view.last_offset() + 1;
        self.batches.push(batch);
    }

    fn end_transaction(&mut self, ended: &Ended, commit: bool) {
        let Some(first) = self.open.remove(&ended.producer_id) else { return };
        let end = if commit { EndTransaction::Commit } else { EndTransaction::Abort };
        if !commit && ended.listed {
            self.aborted.push((ended.producer_id, first, self.next));
        }
        let mut marker = Vec::new();
        write_end_transaction(&mut marker, end, ended.producer_id, ended.producer_epoch, 0, 0).unwrap();
        self.append(&marker);
        self.markers += 1;
    }

    fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.next)
    }

    /// As a broker does: whole batches from the one with the offset on, at least one, the last one perhaps cut.
    fn read(&self, offset: i64, limit: i64, max_bytes: usize) -> Vec<u8> {
        let from = self.batches.partition_point(|batch| BatchView::parse(batch).unwrap().last_offset() < offset);
        let mut bytes = Vec::new();
        let stable = |batch: &&Vec<u8>| BatchView::parse(batch).unwrap().last_offset() < limit;
        for batch in self.batches[from..].iter().take_while(stable) {
            if bytes.is_empty() || bytes.len() + batch.len() <= max_bytes {
                bytes.extend_from_slice(batch);
            } else {
                bytes.extend_from_slice(&batch[..max_bytes.saturating_sub(bytes.len()).min(batch.len())]);
                break;
            }
        }
        bytes
    }
}
