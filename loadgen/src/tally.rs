//! What a thread counts while it runs. Every second it hands its tally to the supervisor and goes on with an empty one.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;
use wire::api::ApiKey;

use crate::histogram::Latencies;

/// Numbers of requests, records and bytes. Bytes are those of record batches as they travel: compressed, with their
/// headers, without the requests around them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Produce requests handed to the socket.
    pub sent_requests: u64,
    /// Their records.
    pub sent_records: u64,
    /// Their batches' bytes.
    pub sent_bytes: u64,
    /// Produce requests answered without an error.
    pub acked_requests: u64,
    /// Their records.
    pub acked_records: u64,
    /// Their batches' bytes.
    pub acked_bytes: u64,
    /// Fetch requests answered, with or without records.
    pub fetched_requests: u64,
    /// Those that brought no record.
    pub empty_fetches: u64,
    /// Records fetched.
    pub fetched_records: u64,
    /// Their batches' bytes.
    pub fetched_bytes: u64,
    /// Fetched batches whose CRC was checked and wrong.
    pub corrupt_batches: u64,
    /// Transactions whose commit was answered without an error.
    pub committed_transactions: u64,
    /// Transactions whose abort was answered without an error.
    pub aborted_transactions: u64,
    /// Requests of transactions that were sent again, because the broker refused them for a moment.
    pub transaction_retries: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        let Counters {
            sent_requests,
            sent_records,
            sent_bytes,
            acked_requests,
            acked_records,
            acked_bytes,
            fetched_requests,
            empty_fetches,
            fetched_records,
            fetched_bytes,
            corrupt_batches,
            committed_transactions,
            aborted_transactions,
            transaction_retries,
        } = other;
        self.sent_requests += sent_requests;
        self.sent_records += sent_records;
        self.sent_bytes += sent_bytes;
        self.acked_requests += acked_requests;
        self.acked_records += acked_records;
        self.acked_bytes += acked_bytes;
        self.fetched_requests += fetched_requests;
        self.empty_fetches += empty_fetches;
        self.fetched_records += fetched_records;
        self.fetched_bytes += fetched_bytes;
        self.corrupt_batches += corrupt_batches;
        self.committed_transactions += committed_transactions;
        self.aborted_transactions += aborted_transactions;
        self.transaction_retries += transaction_retries;
    }
}

/// How often an error came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErrorCount {
    /// Requests, or partitions of fetch requests.
    pub times: u64,
    /// Records that were refused.
    pub records: u64,
}

/// One thread's counts of one second, or the sum of many.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Plain numbers.
    pub counters: Counters,
    /// Error codes by API.
    pub errors: BTreeMap<(ApiKey, i16), ErrorCount>,
    /// Produce: from the intended time (open loop) or the send (closed loop) to the answer; counts records.
    pub ack: Latencies,
    /// From the intended time to the consumer's receipt; counts records.
    pub end_to_end: Latencies,
    /// Fetch: from the send to the answer; counts requests.
    pub fetch: Latencies,
    /// From the first request of a transaction to the answer to its commit; counts transactions.
    pub transaction: Latencies,
}

impl Tally {
    /// Counts an error that stood for `records` refused records.
    pub fn error(&mut self, api: ApiKey, code: i16, records: u64) {
        let count = self.errors.entry((api, code)).or_default();
        count.times += 1;
        count.records += records;
    }

    /// Adds another tally's numbers and errors, but not its latencies.
    pub fn add_counts(&mut self, other: &Tally) {
        self.counters += other.counters;
        for (key, count) in &other.errors {
            let own = self.errors.entry(*key).or_default();
            own.times += count.times;
            own.records += count.records;
        }
    }

    /// Adds another tally's latencies.
    pub fn add_latencies(&mut self, other: &Tally) {
        self.ack.merge(&other.ack);
        self.end_to_end.merge(&other.end_to_end);
        self.fetch.merge(&other.fetch);
        self.transaction.merge(&other.transaction);
    }

    /// Empties it and keeps its memory, which is touched already.
    pub fn clear(&mut self) {
        self.counters = Counters::default();
        self.errors.clear();
        self.ack.clear();
        self.end_to_end.clear();
        self.fetch.clear();
        self.transaction.clear();
    }
}
