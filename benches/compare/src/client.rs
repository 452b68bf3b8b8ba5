//! The few requests of the Kafka protocol that the harness sends by itself. All of them are older than flexible versions.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const CORRELATION_ID: [u8; 4] = [0, 0, 0, 1];

/// A connection to a broker of either kind.
#[derive(Debug)]
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Client(stream))
    }

    /// Deletes a topic; an error code of the broker is an error. Its files may be there for a while yet.
    pub(crate) fn delete_topic(&mut self, topic: &str) -> io::Result<()> {
        // DeleteTopics (key 20) version 1: an array of names, then the timeout in milliseconds.
        let length = u16::try_from(topic.len()).map_err(io::Error::other)?;
        let timeout_ms = 10_000u32;
        let body =
            [&1u32.to_be_bytes()[..], &length.to_be_bytes(), topic.as_bytes(), &timeout_ms.to_be_bytes()].concat();
        let answer = self.call(20, 1, &body)?;
        // Throttle time, then an array with the name and an error code of two bytes, which end the answer.
        match answer.last_chunk::<2>() {
            Some([0, 0]) => Ok(()),
            Some(code) => Err(io::Error::other(format!("error code {}", i16::from_be_bytes(*code)))),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer to DeleteTopics")),
        }
    }

    /// Sends one request with a version 1 header and returns the body of the answer after its correlation id.
    pub(crate) fn call(&mut self, api_key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
        let null_client_id = (-1i16).to_be_bytes();
        let request =
            [&api_key.to_be_bytes()[..], &version.to_be_bytes(), &CORRELATION_ID, &null_client_id, body].concat();
        let length = u32::try_from(request.len()).map_err(io::Error::other)?;
        self.0.write_all(&[&length.to_be_bytes()[..], &request].concat())?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=ANSWER_BYTES_MAX).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer of Kafka"));
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer)?;
        if answer[..4] != CORRELATION_ID {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another request"));
        }
        Ok(answer.split_off(4))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with `body` and returns the request without its length.
    fn serve_once(body: &'static [u8]) -> (SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            let answer = [&CORRELATION_ID[..], body].concat();
            stream.write_all(&[&(answer.len() as u32).to_be_bytes()[..], &answer].concat()).unwrap();
            request
        });
        (to, server)
    }

    #[test]
    fn deleting_a_topic_names_it_and_reads_the_error_code() {
        let (to, server) = serve_once(b"\0\0\0\0\0\0\0\x01\0\x01w\0\0");
        Client::connect(to).unwrap().delete_topic("w").unwrap();
        let request = server.join().unwrap();
        assert_eq!(request, b"\0\x14\0\x01\0\0\0\x01\xff\xff\0\0\0\x01\0\x01w\0\0\x27\x10");

        let (to, server) = serve_once(b"\0\0\0\0\0\0\0\x01\0\x01w\0\x03");
        let refused = Client::connect(to).unwrap().delete_topic("w").unwrap_err();
        assert!(refused.to_string().contains("error code 3"), "{refused}");
        server.join().unwrap();
    }
}
