//! The bounds of the broker, in one place, each with its reason. Those that an operator sets are settings; those of the
//! store are in [`engine::limits`].

pub use engine::limits::DECOMPRESSED_BYTES;

/// Memory that a core needs, in bytes: chunks for a few partitions that are written at once, and requests and answers beside
/// them.
pub const CORE_BYTES: u64 = 32 << 20;

/// Memory that the program itself takes, in bytes: code, metadata, connections.
pub const PROCESS_BYTES: u64 = 32 << 20;

/// What a quiet connection receives into, in bytes: enough for the requests of an idle consumer or a small producer.
pub const QUIET_BYTES: usize = 4 << 10;

/// What a busy connection receives into, in bytes, unless a single frame is larger. Larger buffers would save few system
/// calls and fall out of the core's second-level cache.
pub const BUSY_BYTES: usize = 256 << 10;

/// A frame of at most this many bytes is copied when it is kept: cheaper than to keep the buffer around it.
pub const COPIED_BYTES: usize = 1 << 10;

/// Requests of one connection that may be unanswered. Kafka's clients have 5 in flight, load generators tens; beyond
/// this the connection is not read until answers have left.
pub const REQUESTS_IN_FLIGHT: usize = 1024;

/// Fetches of one connection that may wait for records or the disk at a time. Kafka's clients have one per broker, and
/// each may come to hold as much memory as its response has bytes.
pub const FETCHES_IN_FLIGHT: usize = 2;

/// Bytes of one connection's answers that may wait to be sent, beside the one that crosses the bound. A client that does
/// not read is not read from either.
pub const UNSENT_BYTES: usize = 1 << 20;

/// Bytes of one connection's requests that may wait for another core, for a long poll or for a disk read.
pub const WAITING_BYTES: usize = 4 << 20;

/// Bytes that one send carries, beside the answer that crosses the bound: enough that the number of calls does not
/// matter, and little enough that the pieces of the log in it are released soon.
pub const SEND_BYTES: usize = 1 << 20;

/// A message to another core that finds the queue full waits here; above this many the core's connections are not read.
pub const OUTBOX_MESSAGES: usize = 4096;

/// Slots of the queue from each core to each other core.
pub const MAILBOX_MESSAGES: usize = 4096;

/// Produce requests whose memory is kept for the next ones.
pub const KEPT_REQUESTS: usize = 256;

/// A produce request with more partitions than this does not keep its memory for the next one.
pub const KEPT_ENTRIES: usize = 64;

/// Send buffers whose memory is kept for the next sends.
pub const KEPT_SENDS: usize = 256;

/// A kept buffer is not larger than this, in bytes.
pub const KEPT_BYTES: usize = 64 << 10;

/// How long a send may make no end before its connection is closed while memory is short, in milliseconds. Slow clients
/// are welcome while there is memory for them; appends wait no longer than this for what they hold.
pub const STALLED_MS: u64 = 2_000;

/// How often connections are looked at for being idle or stalled, and the disk for being full, in milliseconds.
pub const SWEEP_MS: u64 = 1_000;

/// How long a clean stop waits for answers to leave, in milliseconds.
pub const STOP_MS: u64 = 1_000;

/// How often a clean stop looks whether they have left, in milliseconds.
pub const STOP_POLL_MS: u64 = 5;

/// How long the listener rests after an error of accept that will not go away by itself at once (no file descriptor, no
/// memory), in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 100;

/// Records of a refused batch that are named in the answer. Each costs memory and bytes; the first ones say it all.
pub const RECORD_ERRORS: usize = 1000;

/// Partitions that the fetch sessions of one core remember in all. A session that would exceed it is not kept; its client
/// then sends full requests. At about 100 bytes each this is the bound on the memory of sessions.
pub const SESSION_PARTITIONS: usize = 200_000;

/// The most records of metadata that one request may cause (`MAX_RECORDS_PER_USER_OP` in Kafka's controller).
pub const METADATA_RECORDS: usize = 10_000;

/// The most bytes of records of metadata that one request may cause. They make one batch, and a batch must fit into one
/// chunk of the store's memory.
pub const METADATA_BYTES: usize = 1_000_000;

/// Bytes of records that a coordinator writes as one batch: with the batch's header they fit `max.message.bytes` of its
/// topic, by default 1,048,588.
pub const COORDINATOR_BATCH_BYTES: usize = 1_048_000;

/// How long the end of a transaction waits for a coordinator that reads its log, before it looks again, in milliseconds.
pub const LOADING_PAUSE_MS: u64 = 5;

/// Members of one group that were given an id and have not joined with it yet. They cost nothing to ask for, and stay for
/// a session's time.
pub const PENDING_MEMBERS: usize = 10_000;

/// Members that a group of the consumer protocol loses at a time: each takes some hundred bytes of records, and a batch holds
/// a million.
pub const REMOVED_MEMBERS: usize = 500;

/// Transactional ids that one batch of their log forgets: what is left is forgotten by the next one.
pub const EXPIRED_TRANSACTIONAL_IDS: usize = 1000;

/// How long the end of a transaction waits before it is written again to a partition that could not take it (a full disk),
/// in milliseconds.
pub const MARKER_PAUSE_MS: u64 = 100;

/// Bytes of records in one answer to a Fetch of a client that knows no batches of magic 2, beside the message that crosses
/// the bound. Each is converted, so that it is memory of its own and not a piece of the log; and up to version 2 the client
/// gives no limit for the whole answer.
pub const CONVERTED_FETCH_BYTES: usize = 8 << 20;

/// Bytes that a compiled regular expression of a client may take, and its matcher. Classes of Unicode letters take some tens
/// of thousands; a repetition of repetitions can take anything.
pub const REGEX_BYTES: usize = 1 << 20;

/// How deep a regular expression of a client may be nested.
pub const REGEX_NESTING: u32 = 100;

/// Groups that may have configurations of their own, beside those of the request that crosses the bound. They need not exist,
/// so nothing else bounds them, and each change of one copies the names of all.
pub const CONFIGURED_GROUPS: usize = 10_000;

const _: () = assert!(COORDINATOR_BATCH_BYTES + engine::limits::MIN_BATCH_BYTES <= 1_048_588);

// An answer of the common size never crosses both bounds at once.
const _: () = assert!(UNSENT_BYTES >= SEND_BYTES);
