//! Every bound of the broker, in one place, with its reason.
//!
//! A bound that depends on the machine or on the operator is a field of [`Limits`]; one that follows from a format or
//! from the kernel is a constant, and what must hold between them is asserted at compile time.

/// The unit of direct I/O, in bytes: file positions, lengths and memory of an `O_DIRECT` transfer are multiples of it.
/// 4 KiB satisfies every block device and file system in use; devices with 512-byte sectors accept it as well.
pub const BLOCK_BYTES: usize = 4096;

/// The iovecs that one `sendmsg` takes: `UIO_MAXIOV` of Linux.
pub const MAX_IOVECS: usize = 1024;

/// Submissions of one core that fit between two calls of the kernel. More of them only cost a call in between.
pub const SQ_ENTRIES: u32 = 2048;

/// Completions of one core that fit until its next turn; 16 bytes each. Every connection has a receive in flight, so this
/// is the number of connections that may speak at once before the kernel must put completions aside, which is slow.
pub const CQ_ENTRIES: u32 = 16 << 10;

/// Kernel threads that one core's ring may use for calls which block (fsync, fallocate, directory operations): for
/// each of the two kinds that the kernel distinguishes. A commit flushes several files at once; more threads than
/// these would only compete with the core for its processor.
pub const IO_WORKERS: u32 = 8;

/// Connections accepted and not yet asked for by the listener's task, at which accepting stops until they are taken. Those
/// that the kernel had already completed then, up to [`LISTEN_BACKLOG`], may still come on top.
pub const ACCEPT_QUEUE: usize = 1024;

/// Connections that the kernel completes before they are accepted, per listening socket. The kernel caps it by
/// `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The longest that a small commit waits for more appends when the disk is free, in nanoseconds: clients on the same or a
/// near machine are back within it.
pub const PACE_NS: u64 = 100_000;

/// Bytes of batches at which a commit does not wait for more: from there on writing takes longer than the disk's fixed cost
/// per commit.
pub const PACE_BYTES: u64 = 64 << 10;

/// The longest that a commit of the class `Os` waits because the journal fills, in nanoseconds: about what a slow disk takes
/// for the bytes of a commit.
pub const BRAKE_NS: u64 = 20_000_000;

/// Commits of a core that are written at the same time: with two the disk has always something to do.
pub const COMMITS_IN_FLIGHT: usize = 2;

/// Between two attempts of a commit to get space on a full disk, in nanoseconds.
pub const FULL_DISK_PAUSE_NS: u64 = 500_000_000;

/// Chunks of journaled bytes that a partition may have when it takes the direct path: they are copied and written with its
/// first commit there. A stream of large batches begins with some requests in flight, and would else have to wait for
/// a checkpoint to come up with it.
pub const DIRECT_START_CHUNKS: usize = 4;

/// Rounds of a checkpoint between two syncs. Memory is not freed in between.
pub const ROUNDS_PER_SYNC: usize = 16;

/// Between two attempts of a checkpoint to get memory that readers hold, in nanoseconds.
pub const MEMORY_PAUSE_NS: u64 = 1_000_000;

/// The smallest size of a record batch of magic 2: its header, with no records.
pub const MIN_BATCH_BYTES: usize = 61;

/// Batches remembered per producer for the detection of duplicates. Kafka's clients keep at most five requests in
/// flight when they are idempotent, so five are enough to answer any retry.
pub const PRODUCER_BATCHES: usize = 5;

/// Bytes that one compressed batch may have when its records are looked at: as much as `message.max.bytes` of data that
/// compresses 100 times. The broker refuses larger ones where it has to look at them itself.
pub const DECOMPRESSED_BYTES: usize = 128 << 20;

/// Bytes of a log that compaction works through in one turn of its core, beside the batch that crosses the bound. At the
/// speed of the slowest codec, which a rewrite needs twice, that is about a millisecond.
pub const COMPACTION_TURN_BYTES: usize = 32 << 10;

/// Partitions that compaction looks at in one turn of its core: some microseconds for each that is compacted.
pub const COMPACTION_TURN_PARTITIONS: u32 = 256;

/// Directories of deleted partitions renamed in one turn, and made durable by one sync of their parent. Others wait for the
/// turn meanwhile.
pub const UNNAMED_AT_ONCE: usize = 64;

/// Neighbouring batches in memory are kept as one entry up to this many bytes: a fetch walks at most this far over
/// batch headers to find its offset.
pub const HOT_ENTRY_BYTES: usize = 64 << 10;

/// Chunks that appends leave to readers of segments, where the pool is large enough.
pub const READ_CHUNKS: usize = 4;

/// The largest small file that is read as a whole, in bytes: far more than the snapshot of a table full of producers takes.
pub const SMALL_FILE_BYTES: u64 = 64 << 20;

/// How often a turn looks for tasks that its own tasks have woken, before it goes on to the next turn. Chains of wake-ups
/// are short; two tasks that wake each other for ever must not keep the core from its I/O.
pub const TURN_ROUNDS: usize = 16;

/// Calls that a turn makes for completions which are ready and were not delivered by the first. With `DEFER_TASKRUN` the
/// kernel works on some 20 of them per call, and a turn is to see everything that has happened: what is parsed together is
/// committed and answered together. The cap keeps the core's tasks going whatever arrives.
pub const TURN_CALLS: usize = 256;

/// Bounds that an operator, a machine or a test chooses.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Size of one chunk of pool memory, in bytes: the largest single write and the granularity of the cache. Twice
    /// Kafka's default `max.message.bytes`, so that an ordinary batch always fits.
    pub chunk_bytes: usize,
    /// Memory of one core's chunk pool, in bytes. Batches in memory, hot reads and file reads share it.
    pub pool_bytes: usize,
    /// Size of one journal file, in bytes. Its blocks are zeroed once; after that the file is only overwritten.
    pub journal_file_bytes: u64,
    /// Journal files of one core that may hold bytes which no segment holds yet. Appends wait above it. In the class `Os`
    /// there are up to twice as many, if half of the pool holds them.
    pub journal_files: usize,
    /// Bytes of batches in the journal at which a commit does not wait for the end of the one before it.
    pub second_commit_bytes: u64,
    /// Bytes that a checkpoint writes at once while it is in no hurry, a multiple of [`BLOCK_BYTES`]: what the write of a
    /// commit may find before it in the disk's queue, a fraction of a millisecond. With fewer a checkpoint cannot keep up
    /// with the journal.
    pub checkpoint_bytes: usize,
    /// Bytes that one commit of one partition must carry for the direct path to its segment to be taken.
    pub direct_commit_bytes: usize,
    /// Partitions of one core that may hold a chunk of their own for the direct path, as a part of the pool: one in
    /// this many chunks.
    pub direct_share: usize,
    /// The part of a segment that is allocated ahead of its end, in bytes. It grows with each use up to this.
    pub segment_allocate_bytes: u64,
    /// Spare files of one core at most ([`crate::spares`]).
    pub spare_files: usize,
    /// A file becomes a spare from this length on, in bytes: below, its blocks are not worth the two renames.
    pub spare_min_bytes: u64,
    /// Distance between two entries of a segment's in-memory offset index, in bytes of the log.
    pub index_interval_bytes: u32,
    /// Producers remembered per partition. The one that has been silent longest is forgotten first.
    pub producers_per_partition: usize,
    /// Aborted transactions that one segment ends: it is rolled before there are more, and compaction joins no more than
    /// that, so that the list of the growing one, which only memory has, and the one read last stay below half a MiB each.
    pub aborted_per_segment: usize,
    /// Aborted transactions of completed segments that a partition keeps in memory besides the list read last, 32 bytes
    /// each. Files have them as well.
    pub aborted_cached: usize,
    /// A producer that has been silent for longer is forgotten, in milliseconds (`producer.id.expiration.ms`).
    pub producer_expiration_ms: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            chunk_bytes: 2 << 20,
            pool_bytes: 512 << 20,
            journal_file_bytes: 64 << 20,
            journal_files: 4,
            second_commit_bytes: 32 << 10,
            checkpoint_bytes: 512 << 10,
            direct_commit_bytes: 128 << 10,
            direct_share: 4,
            segment_allocate_bytes: 64 << 20,
            spare_files: 256,
            spare_min_bytes: 1 << 20,
            index_interval_bytes: 64 << 10,
            producers_per_partition: 10_000,
            aborted_per_segment: 16_384,
            aborted_cached: 4096,
            producer_expiration_ms: 24 * 3_600_000,
        }
    }
}

impl Limits {
    /// A configuration so small that tests reach the paths which production reaches once a day: journal files that
    /// recycle, a pool that evicts, commits that go direct.
    #[must_use]
    pub fn tiny() -> Limits {
        Limits {
            chunk_bytes: 16 << 10,
            pool_bytes: 512 << 10,
            journal_file_bytes: 64 << 10,
            journal_files: 3,
            second_commit_bytes: 1 << 10,
            checkpoint_bytes: 8 << 10,
            direct_commit_bytes: 12 << 10,
            direct_share: 4,
            segment_allocate_bytes: 64 << 10,
            spare_files: 4,
            spare_min_bytes: 4 << 10,
            index_interval_bytes: 256,
            producers_per_partition: 4,
            aborted_per_segment: 6,
            aborted_cached: 4,
            producer_expiration_ms: 24 * 3_600_000,
        }
    }
}

// A journal group is written from one chunk and starts on a block of its own.
const _: () = assert!(BLOCK_BYTES.is_power_of_two());
// An index entry per block at most: the index of a 1 GiB segment stays below 4 MiB.
const _: () = assert!(MIN_BATCH_BYTES < BLOCK_BYTES);
