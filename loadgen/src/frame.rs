//! The Produce request as a template, and the one look that its answer needs.
//!
//! All Produce requests of a run ask for one partition of one topic, so that their bytes differ in five places alone: the
//! frame's length, the correlation id, the partition index, the length of the batch and the batch. The template is taken
//! from what the codec writes, whatever the version; so is the place of the error code in the answer.

use wire::api::ApiKey;
use wire::header::{RequestHeader, decode_response, encode_response};
use wire::messages::{ProduceRequest, ProduceResponse, produce_request, produce_response};
use wire::{DecodeError, EncodeError, Message, Reader, Uuid, put};

/// Where the correlation id of a request stands, behind the frame's length, the API key and the version.
pub const CORRELATION_AT: usize = 8;

/// The bytes of a Produce request around its batch.
#[derive(Debug, Clone)]
pub struct ProduceFrame {
    version: i16,
    /// From the frame's length, which is zero, to the partition index.
    prefix: Vec<u8>,
    /// What follows the batch.
    suffix: Vec<u8>,
}

/// What a Produce request says besides its batch.
#[derive(Debug, Clone, Copy)]
pub struct ProduceTarget<'a> {
    /// Version of Produce, 3 or later.
    pub version: i16,
    /// The client id of the header.
    pub client_id: &'a str,
    /// The id whose transactions the batches belong to.
    pub transactional_id: Option<&'a str>,
    /// The topic's name, sent up to version 12.
    pub topic: &'a str,
    /// The topic's id, sent from version 13 on (KIP-516).
    pub topic_id: Uuid,
    /// The acknowledgements asked for: 0, 1 or -1.
    pub acks: i16,
    /// How long the broker may wait for replicas, in milliseconds.
    pub timeout_ms: i32,
}

impl ProduceFrame {
    /// The template of the requests to `target`.
    pub fn new(target: &ProduceTarget<'_>) -> Result<ProduceFrame, EncodeError> {
        /// Stands for the batch. Nothing else in the request is this long and of one byte.
        const MARK: [u8; 40] = [0xEE; 40];
        let ProduceTarget { version, client_id, transactional_id, topic, topic_id, acks, timeout_ms } = *target;
        let by_id = version >= 13;
        let request = ProduceRequest {
            transactional_id,
            acks,
            timeout_ms,
            topic_data: vec![produce_request::TopicProduceData {
                name: if by_id { "" } else { topic },
                topic_id: if by_id { topic_id } else { Uuid::default() },
                partition_data: vec![produce_request::PartitionProduceData { index: 0, records: Some(&MARK) }],
            }],
        };
        let mut bytes = vec![0; 4];
        let header = RequestHeader { api: ApiKey::Produce, version, correlation_id: 0, client_id: Some(client_id) };
        header.encode(&mut bytes)?;
        request.encode(&mut bytes, version)?;
        // The last occurrence: a client id or topic may be as odd as it likes.
        let mark = bytes.windows(MARK.len()).rposition(|window| window == MARK).expect("the batch was written");
        let length_bytes = if flexible(version) { 1 } else { 4 };
        let suffix = bytes[mark + MARK.len()..].to_vec();
        bytes.truncate(mark - length_bytes);
        Ok(ProduceFrame { version, prefix: bytes, suffix })
    }

    /// Appends what precedes a batch of `batch_len` bytes.
    ///
    /// # Errors
    /// The frame is longer than its length field can say.
    pub fn begin(
        &self,
        out: &mut Vec<u8>,
        correlation_id: i32,
        partition: i32,
        batch_len: usize,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        out.extend_from_slice(&self.prefix);
        put::len(out, flexible(self.version), batch_len)?;
        let frame_len = out.len() - start - 4 + batch_len + self.suffix.len();
        let frame_len = i32::try_from(frame_len).map_err(|_| EncodeError::TooLong)?;
        out[start..start + 4].copy_from_slice(&frame_len.to_be_bytes());
        self.aim(&mut out[start..], correlation_id, partition);
        Ok(())
    }

    /// Appends what follows a batch.
    pub fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.suffix);
    }

    /// Changes the correlation id and the partition of a frame that this template began.
    #[inline]
    pub fn aim(&self, frame: &mut [u8], correlation_id: i32, partition: i32) {
        frame[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation_id.to_be_bytes());
        let index_at = self.prefix.len() - 4;
        frame[index_at..index_at + 4].copy_from_slice(&partition.to_be_bytes());
    }
}

/// The form of the answer to a [`ProduceFrame`].
#[derive(Debug, Clone)]
pub struct ProduceAnswer {
    version: i16,
    /// What follows the correlation id, up to the partition index, when the answer has no surprises.
    prefix: Vec<u8>,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The request answered.
    pub correlation_id: i32,
    /// The partition index.
    pub partition: i32,
    /// 0 is success.
    pub error_code: i16,
}

impl ProduceAnswer {
    /// The form of answers about this topic.
    pub fn new(target: &ProduceTarget<'_>) -> Result<ProduceAnswer, EncodeError> {
        let by_id = target.version >= 13;
        let encode = |index| {
            let response = ProduceResponse {
                responses: vec![produce_response::TopicProduceResponse {
                    name: if by_id { "" } else { target.topic },
                    topic_id: if by_id { target.topic_id } else { Uuid::default() },
                    partition_responses: vec![produce_response::PartitionProduceResponse {
                        index,
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            };
            let mut bytes = Vec::new();
            encode_response(&mut bytes, ApiKey::Produce, target.version, 0);
            response.encode(&mut bytes, target.version)?;
            Ok(bytes)
        };
        let (mut one, other) = (encode(0)?, encode(-1)?);
        let index_at = one.iter().zip(&other).position(|(one, other)| one != other).expect("the index was written");
        one.truncate(index_at);
        one.drain(..4);
        Ok(ProduceAnswer { version: target.version, prefix: one })
    }

    /// Reads an answer without its length. The usual one costs a comparison; any other is decoded in full.
    #[inline]
    pub fn read(&self, frame: &[u8]) -> Result<Answered, AnswerError> {
        if let Some((correlation_id, rest)) = frame.split_first_chunk()
            && let Some(rest) = rest.strip_prefix(self.prefix.as_slice())
            && let Some((partition, rest)) = rest.split_first_chunk()
            && let Some((error_code, _)) = rest.split_first_chunk()
        {
            return Ok(Answered {
                correlation_id: i32::from_be_bytes(*correlation_id),
                partition: i32::from_be_bytes(*partition),
                error_code: i16::from_be_bytes(*error_code),
            });
        }
        self.read_in_full(frame)
    }

    #[cold]
    fn read_in_full(&self, frame: &[u8]) -> Result<Answered, AnswerError> {
        let mut reader = Reader::new(frame);
        let correlation_id =
            decode_response(&mut reader, ApiKey::Produce, self.version).map_err(AnswerError::Decode)?;
        let response = ProduceResponse::decode(&mut reader, self.version).map_err(AnswerError::Decode)?;
        let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        match (partitions.next(), partitions.next()) {
            (Some(only), None) => Ok(Answered { correlation_id, partition: only.index, error_code: only.error_code }),
            _ => Err(AnswerError::NotOnePartition),
        }
    }
}

/// Why an answer makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerError {
    /// It breaks the protocol.
    Decode(DecodeError),
    /// It is not about exactly one partition, as the request was.
    NotOnePartition,
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AnswerError::Decode(error) => write!(f, "an answer breaks the protocol: {error}"),
            AnswerError::NotOnePartition => f.write_str("an answer is not about one partition, as the request was"),
        }
    }
}

impl std::error::Error for AnswerError {}

fn flexible(version: i16) -> bool {
    version >= ApiKey::Produce.info().flexible_from
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid([9; 16]);

    fn target(version: i16, topic: &str) -> ProduceTarget<'_> {
        ProduceTarget {
            version,
            client_id: "generator",
            transactional_id: None,
            topic,
            topic_id: ID,
            acks: -1,
            timeout_ms: 1_234,
        }
    }

    #[test]
    fn frames_decode_to_what_was_meant_in_every_version() {
        for version in 3..=13 {
            // A topic of the mark's own byte cannot mislead the template.
            for (topic, batch_len) in [("t", 0), ("topic", 61), (&*"î".repeat(60), 127), ("big", 500_000)] {
                let frame = ProduceFrame::new(&target(version, topic)).unwrap();
                let batch: Vec<u8> = (0..batch_len).map(|byte| byte as u8).collect();
                let mut out = b"before".to_vec();
                frame.begin(&mut out, 1, 2, batch.len()).unwrap();
                out.extend_from_slice(&batch);
                frame.end(&mut out);
                frame.aim(&mut out[6..], 77, 5);
                let len = i32::from_be_bytes(*out[6..].first_chunk().unwrap());
                assert_eq!(len as usize, out.len() - 10, "version {version}");
                let mut reader = Reader::new(&out[10..]);
                let header = RequestHeader::decode(&mut reader).unwrap();
                assert_eq!(header.api, ApiKey::Produce);
                assert_eq!((header.version, header.correlation_id), (version, 77));
                assert_eq!(header.client_id, Some("generator"));
                let request = ProduceRequest::decode(&mut reader, version).unwrap();
                reader.finish().unwrap();
                assert_eq!((request.acks, request.timeout_ms), (-1, 1_234));
                let [topic_data] = request.topic_data.as_slice() else { panic!("one topic") };
                if version >= 13 {
                    assert_eq!(topic_data.topic_id, ID);
                } else {
                    assert_eq!(topic_data.name, topic);
                }
                let [partition] = topic_data.partition_data.as_slice() else { panic!("one partition") };
                assert_eq!((partition.index, partition.records), (5, Some(batch.as_slice())));
            }
        }
    }

    fn answer(version: i16, topic: &str, error_code: i16, leader_id: i32) -> Vec<u8> {
        let by_id = version >= 13;
        let mut partition = produce_response::PartitionProduceResponse {
            index: 3,
            error_code,
            base_offset: 1 << 40,
            log_append_time_ms: -1,
            ..Default::default()
        };
        if version >= 10 {
            partition.current_leader.leader_id = leader_id;
        }
        let response = ProduceResponse {
            responses: vec![produce_response::TopicProduceResponse {
                name: if by_id { "" } else { topic },
                topic_id: if by_id { ID } else { Uuid::default() },
                partition_responses: vec![partition],
            }],
            ..Default::default()
        };
        let mut out = Vec::new();
        encode_response(&mut out, ApiKey::Produce, version, 42);
        response.encode(&mut out, version).unwrap();
        out
    }

    #[test]
    fn answers_of_every_version_with_and_without_errors() {
        for version in 3..=13 {
            let form = ProduceAnswer::new(&target(version, "topic")).unwrap();
            for error_code in [0, 7, -1] {
                let bytes = answer(version, "topic", error_code, 4);
                let want = Answered { correlation_id: 42, partition: 3, error_code };
                assert_eq!(form.read(&bytes), Ok(want), "version {version}");
                assert_eq!(form.read_in_full(&bytes), Ok(want), "version {version}");
            }
        }
    }

    #[test]
    fn unusual_answers_are_decoded_in_full() {
        let form = ProduceAnswer::new(&target(9, "topic")).unwrap();
        // A tagged field in the response header, as a later broker may send.
        let mut bytes = answer(9, "topic", 6, -1);
        bytes.splice(4..5, [1, 100, 2, 0xAA, 0xBB]);
        assert_eq!(form.read(&bytes), Ok(Answered { correlation_id: 42, partition: 3, error_code: 6 }));
        assert!(matches!(form.read(&bytes[..12]), Err(AnswerError::Decode(_))));
        // No partition at all.
        let mut empty = Vec::new();
        encode_response(&mut empty, ApiKey::Produce, 9, 42);
        ProduceResponse::default().encode(&mut empty, 9).unwrap();
        assert_eq!(form.read(&empty), Err(AnswerError::NotOnePartition));
    }
}
