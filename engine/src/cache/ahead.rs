//! Memory ahead of need: a thread beside each core that touches the pool's next chunk while nobody waits for it.
//!
//! The first touch of memory is slow: the kernel clears it, and under a hypervisor the host has to find it first: milliseconds
//! for a chunk of 2 MiB. On the core's own thread that would be a pause for all its clients, again and again until the
//! pool has reached its size. The thread runs when its processor has nothing else to do (`SCHED_IDLE`, sched(7)); a core that is
//! never idle finds nothing prepared and touches its memory itself.
#![allow(unsafe_code)]

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::Chunk;

/// The thread, and what it was asked for. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ahead {
    /// `None` only while it is dropped.
    wanted: Option<Sender<()>>,
    ready: Receiver<Chunk>,
    thread: Option<JoinHandle<()>>,
    /// Chunks that were asked for and have not been taken.
    asked: usize,
}

impl Ahead {
    /// Starts the thread, on the processors that the calling thread may use.
    pub(super) fn start(chunk_bytes: usize) -> io::Result<Ahead> {
        let (wanted, asked) = channel::<()>();
        let (give, ready) = channel();
        let work = move || {
            yield_to_others();
            while asked.recv().is_ok() && give.send(Chunk::allocate(chunk_bytes)).is_ok() {}
        };
        let thread = thread::Builder::new().name("weir-memory".to_owned()).spawn(work)?;
        Ok(Ahead { wanted: Some(wanted), ready, thread: Some(thread), asked: 0 })
    }

    /// Chunks that were asked for and have not been taken.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// Asks for one more chunk. False when the thread is gone.
    pub(super) fn ask(&mut self) -> bool {
        let is_heard = self.wanted.as_ref().is_some_and(|wanted| wanted.send(()).is_ok());
        self.asked += usize::from(is_heard);
        is_heard
    }

    /// A chunk, if one is ready.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        let chunk = self.ready.try_recv().ok()?;
        self.asked -= 1;
        Some(chunk)
    }

    /// A chunk, if one was asked for; waits until it is ready.
    pub(super) fn wait(&mut self) -> Option<Chunk> {
        if self.asked == 0 {
            return None;
        }
        let chunk = self.ready.recv().ok()?;
        self.asked -= 1;
        Some(chunk)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

/// Lets the calling thread run only when no other wants its processor. A kernel that refuses changes nothing but that.
fn yield_to_others() {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the parameter lives until the call returns.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
}

#[cfg(test)]
mod tests {
    use super::super::ChunkPool;
    use super::*;

    #[test]
    fn what_was_asked_for_comes_and_nothing_else() {
        let mut ahead = Ahead::start(8192).unwrap();
        assert!(ahead.wait().is_none() && ahead.take().is_none());
        assert!(ahead.ask() && ahead.ask());
        assert_eq!(ahead.asked(), 2);
        assert!(ahead.wait().is_some() && ahead.wait().is_some());
        assert!(ahead.wait().is_none() && ahead.asked() == 0);
    }

    #[test]
    fn a_pool_with_memory_ahead_has_as_many_chunks_as_one_without() {
        let mut pool = ChunkPool::new(4096, 8 * 4096).with_memory_ahead().unwrap();
        let mut taken = Vec::new();
        for left in (0..8).rev() {
            taken.push(pool.take().expect("below the cap"));
            assert_eq!(pool.available(), left);
        }
        assert!(pool.take().is_none(), "the cap holds");
        let mut ids: Vec<_> = taken.iter().map(|writer| format!("{:?}", writer.chunk())).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8);
        taken.drain(..).for_each(|writer| pool.retire(writer));
        assert_eq!(pool.available(), 8);
        assert!(pool.take_large(8 * 4096).is_some(), "all of the pool");
    }

    #[test]
    fn a_large_chunk_takes_the_place_of_one_that_is_being_prepared() {
        let mut pool = ChunkPool::new(4096, 4 * 4096).with_memory_ahead().unwrap();
        let kept = pool.take().unwrap();
        assert_eq!(pool.available(), 3);
        assert!(pool.take_large(3 * 4096).is_some());
        drop(kept);
    }
}
