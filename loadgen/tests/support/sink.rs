//! A broker that stores nothing and answers Produce with a copy of one answer: what the generator can drive against it
//! is the generator's own ceiling. One thread, one epoll, one write for all answers of a read.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use wire::api::ApiKey;
use wire::header::{RequestHeader, encode_response};
use wire::messages::{ProduceRequest, ProduceResponse, produce_response};
use wire::{Message, Reader};

use super::control::{self, Control, Speaks, Topic};

const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    end: usize,
    /// Bytes of the current request that are still to be thrown away, and its correlation id, answered when they came.
    skip: usize,
    owed: [u8; 4],
    out: Vec<u8>,
}

/// Starts a sink on loopback. `prepare` runs on its thread first, to pin it.
pub fn start(prepare: impl FnOnce() + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        prepare();
        serve(&listener, address);
    });
    address
}

fn serve(listener: &TcpListener, address: SocketAddr) {
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).unwrap();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut sink = Sink { address, topic: None, answer: Vec::new() };
    let mut events = vec![EpollEvent::empty(); 1024];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
        for event in &events[..count] {
            if event.data() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
                    epoll.add(&stream, EpollEvent::new(interest, connections.len() as u64)).unwrap();
                    let buffer = vec![0; 256 << 10];
                    connections.push(Some(Connection {
                        stream,
                        buffer,
                        end: 0,
                        skip: 0,
                        owed: [0; 4],
                        out: Vec::new(),
                    }));
                }
                continue;
            }
            let place = event.data() as usize;
            let gone = connections[place].as_mut().is_none_or(|connection| !sink.ready(connection));
            if gone {
                connections[place] = None;
            }
        }
    }
}

struct Sink {
    address: SocketAddr,
    topic: Option<Topic>,
    /// The answer to Produce, with its length; only the correlation id changes.
    answer: Vec<u8>,
}

impl Sink {
    /// Answers whether the connection goes on.
    fn ready(&mut self, connection: &mut Connection) -> bool {
        loop {
            let wanted = connection.buffer.len() - connection.end;
            let read = match connection.stream.read(&mut connection.buffer[connection.end..]) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            connection.end += read;
            self.take_frames(connection);
            if !connection.out.is_empty() {
                // The answers of one read always fit into an empty socket.
                connection.stream.write_all(&connection.out).unwrap();
                connection.out.clear();
            }
            if read < wanted {
                return true;
            }
        }
    }

    fn take_frames(&mut self, connection: &mut Connection) {
        let Connection { buffer, end, skip, owed, out, .. } = connection;
        let mut at = (*skip).min(*end);
        if *skip > 0 {
            *skip -= at;
            if *skip == 0 {
                self.answer_produce(*owed, out);
            }
        }
        while *skip == 0 {
            let Some(head) = buffer[at..*end].first_chunk::<12>() else { break };
            let len = i32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let correlation_id = [head[8], head[9], head[10], head[11]];
            let next = at + 4 + len;
            let produce = head[4..6] == ApiKey::Produce.key().to_be_bytes();
            if produce && !self.answer.is_empty() {
                // The bytes of a large request are only thrown away.
                if next <= *end {
                    self.answer_produce(correlation_id, out);
                } else {
                    *skip = next - *end;
                    *owed = correlation_id;
                }
            } else if next > *end {
                break;
            } else if produce {
                self.learn_answer(&buffer[at + 4..next]);
                continue;
            } else {
                self.answer_control(&buffer[at + 4..next], out);
            }
            at = next.min(*end);
        }
        buffer.copy_within(at..*end, 0);
        *end -= at;
        if *end == buffer.len() {
            buffer.resize(2 * *end, 0);
        }
    }

    fn answer_produce(&self, correlation_id: [u8; 4], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.answer);
        out[start + 4..start + 8].copy_from_slice(&correlation_id);
    }

    /// The first request shows what all answers look like.
    fn learn_answer(&mut self, frame: &[u8]) {
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader).unwrap();
        let request = ProduceRequest::decode(&mut reader, header.version).unwrap();
        let topic = &request.topic_data[0];
        let partition_responses = vec![produce_response::PartitionProduceResponse {
            index: topic.partition_data[0].index,
            ..Default::default()
        }];
        let response = ProduceResponse {
            responses: vec![produce_response::TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses,
            }],
            ..Default::default()
        };
        self.answer.resize(4, 0);
        encode_response(&mut self.answer, ApiKey::Produce, header.version, 0);
        response.encode(&mut self.answer, header.version).unwrap();
        let len = (self.answer.len() - 4) as i32;
        self.answer[..4].copy_from_slice(&len.to_be_bytes());
    }

    fn answer_control(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader).unwrap();
        let mut answer = vec![0; 4];
        let mut control = Control {
            speaks: Speaks::NEWEST,
            address: self.address,
            topic: &mut self.topic,
            refuse_creation: None,
            ends: &|_| (0, 0),
        };
        control::answer(&header, &mut reader, &mut control, &mut answer);
        let len = (answer.len() - 4) as i32;
        answer[..4].copy_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&answer);
    }
}
