//! SIGTERM and SIGINT as something that a task can wait for.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::BytesMut;
use engine::reactor::Reactor;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Resolves when the process is asked to end. Being asked again ends it at once, as without this.
///
/// A signal writes one byte into a socket that the reactor reads.
pub fn stop(reactor: &Reactor) -> io::Result<impl Future<Output = ()> + use<>> {
    let (written, read) = UnixStream::pair()?;
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the second signal finds what the first one left.
        flag::register_conditional_default(signal, asked.clone())?;
        flag::register(signal, asked.clone())?;
        low_level::pipe::register(signal, written.try_clone()?)?;
    }
    let reactor = reactor.clone();
    Ok(async move {
        let socket = reactor.adopt(read.into());
        // Whatever comes, a byte or an error, there is nothing more to wait for.
        let (_, _) = reactor.recv(&socket, BytesMut::with_capacity(1)).await;
    })
}
