//! The load generator: one thread, blocking sockets, one write for a connection's whole window, one read for its answers.
//! Each connection sends its next window when the last one is answered; connections take turns.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::work::{ANSWER_BYTES, FRAME_HEADER_BYTES, Phase, cpu_ns};

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    /// Requests in flight per connection.
    pub(crate) window: usize,
    /// Records of 100 bytes per batch.
    pub(crate) records: usize,
    /// The receive buffer of a connection, in bytes: the same in all versions.
    pub(crate) receive_bytes: usize,
    /// A provided buffer of the multishot versions, in bytes.
    pub(crate) piece_bytes: usize,
}

/// How long.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// Turns of all connections, of which the first is the warm-up.
    Turns(usize),
    /// A tenth of this before, and this much measured.
    Time(Duration),
}

/// CPU of others than the server's thread while it was measured, in ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// The load generator.
    pub(crate) generator_ns: u64,
    /// The whole process.
    pub(crate) process_ns: u64,
}

struct Connection {
    stream: TcpStream,
    /// The answers to the window in flight.
    answers: Vec<u8>,
    last_offset: i64,
}

/// Drives the server at `addr` and checks every answer.
pub(crate) fn drive(addr: SocketAddr, case: &Case, length: Length, phase: &Phase) -> io::Result<Spent> {
    let window = window(case);
    let connect = |_| {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, answers: vec![0; case.window * ANSWER_BYTES], last_offset: -1 })
    };
    let mut connections = (0..case.connections).map(connect).collect::<io::Result<Vec<Connection>>>()?;
    refuses_damage(&mut connections[0], case)?;
    for connection in &mut connections {
        connection.stream.write_all(&window)?;
    }
    let mut turn = || {
        for connection in &mut connections {
            connection.take_answers()?;
            connection.stream.write_all(&window)?;
        }
        io::Result::Ok(())
    };
    let clocks = || (cpu_ns(ClockId::ThreadCPUTime), cpu_ns(ClockId::ProcessCPUTime));

    let mut run = |length: Length| {
        let started = Instant::now();
        let mut turns = 0;
        while match length {
            Length::Turns(wanted) => turns < wanted,
            Length::Time(wanted) => started.elapsed() < wanted,
        } {
            turn()?;
            turns += 1;
        }
        io::Result::Ok(())
    };
    run(match length {
        Length::Turns(_) => Length::Turns(1),
        Length::Time(time) => Length::Time(time / 10),
    })?;
    let before = clocks();
    phase.set(Phase::MEASURED);
    run(length)?;
    let after = clocks();
    phase.set(Phase::OVER);
    // Every connection speaks once more, so that the server sees the end.
    run(Length::Turns(1))?;
    for connection in &mut connections {
        connection.take_answers()?;
    }
    Ok(Spent { generator_ns: after.0 - before.0, process_ns: after.1 - before.1 })
}

impl Connection {
    fn take_answers(&mut self) -> io::Result<()> {
        self.stream.read_exact(&mut self.answers)?;
        for (correlation, answer) in self.answers.chunks_exact(ANSWER_BYTES).enumerate() {
            let (len, rest) = answer.split_first_chunk().expect("an answer's length is fixed");
            let (id, offset) = rest.split_first_chunk().expect("an answer's length is fixed");
            assert_eq!(i32::from_be_bytes(*len) as usize, ANSWER_BYTES - 4);
            assert_eq!(i32::from_be_bytes(*id) as usize, correlation, "answers come in the order of their requests");
            let offset = i64::from_be_bytes(*offset.first_chunk().expect("an answer's length is fixed"));
            assert!(offset > self.last_offset, "offset {offset} after {}", self.last_offset);
            self.last_offset = offset;
        }
        Ok(())
    }
}

/// A server that skips the check would win any comparison.
fn refuses_damage(connection: &mut Connection, case: &Case) -> io::Result<()> {
    let mut request = request(case, 42);
    *request.last_mut().expect("a batch is not empty") ^= 1;
    connection.stream.write_all(&request)?;
    let mut answer = [0; ANSWER_BYTES];
    connection.stream.read_exact(&mut answer)?;
    assert_eq!(answer[4..8], 42_i32.to_be_bytes());
    assert_eq!(answer[8..], (-1_i64).to_be_bytes(), "a damaged batch is refused");
    Ok(())
}

fn window(case: &Case) -> Vec<u8> {
    (0..case.window).flat_map(|correlation| request(case, correlation as i32)).collect()
}

fn request(case: &Case, correlation: i32) -> Vec<u8> {
    let batch = micro_bench::batch(case.records, wire::compression::Codec::None);
    let mut request = Vec::with_capacity(FRAME_HEADER_BYTES + batch.len());
    request.extend_from_slice(&(4 + batch.len() as i32).to_be_bytes());
    request.extend_from_slice(&correlation.to_be_bytes());
    request.extend_from_slice(&batch);
    request
}
