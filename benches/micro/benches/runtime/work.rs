//! What every version of the server does with the bytes that it has received, and how that is counted.
//!
//! ```text
//! request: length of what follows, i32 | correlation id, i32 | record batch
//! answer:  length of what follows, i32 | correlation id, i32 | base offset, i64, or -1 for a batch that failed its check
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use engine::cache::{ChunkPool, ChunkWriter};
use rustix::time::{ClockId, clock_gettime};
use wire::batch::{self, BatchView};

/// Length and correlation id.
pub(crate) const FRAME_HEADER_BYTES: usize = 8;

/// Length, correlation id and base offset.
pub(crate) const ANSWER_BYTES: usize = 16;

const CHUNK_BYTES: usize = 2 << 20;

/// The leader epoch written into every batch.
const LEADER_EPOCH: i32 = 7;

/// What is being done with the server: set by the load generator.
#[derive(Default)]
pub(crate) struct Phase(AtomicU32);

impl Phase {
    pub(crate) const WARM_UP: u32 = 0;
    pub(crate) const MEASURED: u32 = 1;
    pub(crate) const OVER: u32 = 2;

    pub(crate) fn set(&self, phase: u32) {
        self.0.store(phase, Ordering::Relaxed);
    }
}

/// Counters of a server between two moments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Served {
    pub(crate) requests: u64,
    /// Batch bytes.
    pub(crate) bytes: u64,
    /// Receives that brought something.
    pub(crate) receives: u64,
    /// CPU of the server's thread, in ns.
    pub(crate) cpu_ns: u64,
    pub(crate) wall_ns: u64,
}

/// What stands behind all connections of one server: memory to append to, and counters.
pub(crate) struct Work {
    phase: Arc<Phase>,
    seen: u32,
    started: Instant,
    /// The first one is being filled; the others keep what was appended before.
    chunks: VecDeque<ChunkWriter>,
    next_offset: i64,
    total: Served,
    begin: Served,
    measured: Served,
}

impl Work {
    /// Appends go through `chunks` chunks before they come back to the same one.
    pub(crate) fn new(phase: Arc<Phase>, chunks: usize) -> Work {
        let mut pool = ChunkPool::new(CHUNK_BYTES, chunks * CHUNK_BYTES);
        let chunks = (0..chunks).map(|_| {
            let mut chunk = pool.take().expect("the pool holds that many");
            // Memory is slow when it is touched first, which is not what is compared here.
            chunk.pad_to(CHUNK_BYTES);
            assert!(chunk.clear());
            chunk
        });
        Work {
            phase,
            seen: Phase::WARM_UP,
            started: Instant::now(),
            chunks: chunks.collect(),
            next_offset: 0,
            total: Served::default(),
            begin: Served::default(),
            measured: Served::default(),
        }
    }

    /// Checks and appends every whole request at the start of `received`, and adds the answers to `out`. Returns the bytes
    /// used up.
    pub(crate) fn answer(&mut self, received: &[u8], out: &mut Vec<u8>) -> usize {
        self.total.receives += 1;
        let mut at = 0;
        while let Some(len) = frame_len(&received[at..])
            && received.len() - at >= len
        {
            let frame = &received[at..at + len];
            let base_offset = self.append(&frame[FRAME_HEADER_BYTES..]);
            out.extend_from_slice(&(ANSWER_BYTES as i32 - 4).to_be_bytes());
            out.extend_from_slice(&frame[4..FRAME_HEADER_BYTES]);
            out.extend_from_slice(&base_offset.to_be_bytes());
            at += len;
        }
        self.look_at_phase();
        at
    }

    /// What was served while [`Phase::MEASURED`] was set.
    pub(crate) fn measured(&self) -> Served {
        self.measured
    }

    fn append(&mut self, bytes: &[u8]) -> i64 {
        self.total.requests += 1;
        self.total.bytes += bytes.len() as u64;
        let Ok(batch) = BatchView::parse(bytes) else { return -1 };
        if batch.validate_counts().is_err() || !batch.crc_matches() {
            return -1;
        }
        if self.chunks[0].remaining() < batch.total_len() {
            self.chunks.rotate_left(1);
            assert!(self.chunks[0].clear(), "nobody keeps a slice");
        }
        let base_offset = self.next_offset;
        self.next_offset += i64::from(batch.last_offset_delta()) + 1;
        self.chunks[0].append_with(batch.bytes(), |copy| batch::assign(copy, base_offset, LEADER_EPOCH));
        base_offset
    }

    fn look_at_phase(&mut self) {
        let phase = self.phase.0.load(Ordering::Relaxed);
        if phase == self.seen {
            return;
        }
        self.seen = phase;
        let now = Served {
            cpu_ns: cpu_ns(ClockId::ThreadCPUTime),
            wall_ns: self.started.elapsed().as_nanos() as u64,
            ..self.total
        };
        match phase {
            Phase::MEASURED => self.begin = now,
            _ => {
                self.measured = Served {
                    requests: now.requests - self.begin.requests,
                    bytes: now.bytes - self.begin.bytes,
                    receives: now.receives - self.begin.receives,
                    cpu_ns: now.cpu_ns - self.begin.cpu_ns,
                    wall_ns: now.wall_ns - self.begin.wall_ns,
                }
            }
        }
    }
}

/// Length of the request that begins at `bytes`, with its length field, if that much of it is there.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = i32::from_be_bytes(*bytes.first_chunk()?);
    Some(4 + usize::try_from(len).expect("the load generator sends positive lengths"))
}

/// Makes room for the next receive in a buffer whose first `used` bytes are done with: nothing is moved while the request
/// under way, or the next one, still fits behind what is there. Returns the new length of the buffer; the rest of a
/// request, if there is one, begins at `used` again unless it was moved to the front, as the second value says.
pub(crate) fn make_room(bytes: &mut [u8], used: usize, capacity: usize) -> (usize, usize) {
    let rest = bytes.len() - used;
    if rest == 0 {
        return (0, 0);
    }
    let wanted = frame_len(&bytes[used..]).unwrap_or(FRAME_HEADER_BYTES);
    if used + wanted <= capacity {
        return (bytes.len(), used);
    }
    bytes.copy_within(used.., 0);
    (rest, 0)
}

/// A CPU clock, in ns.
pub(crate) fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
