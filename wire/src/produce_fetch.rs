//! What the hand-written paths of Produce and Fetch share.

use crate::{DecodeError, EncodeError, Reader, Uuid, put};

/// How a request names a topic: Produce and Fetch by id from version 13 on (KIP-516), by name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicRef<'a> {
    /// Up to version 12.
    Name(&'a str),
    /// From version 13 on.
    Id(Uuid),
}

/// The first version of Produce and of Fetch that names topics by id.
const IDS_FROM: i16 = 13;

impl<'a> TopicRef<'a> {
    pub(crate) fn read(r: &mut Reader<'a>, flexible: bool, version: i16) -> Result<TopicRef<'a>, DecodeError> {
        if version >= IDS_FROM { r.uuid().map(TopicRef::Id) } else { r.string(flexible).map(TopicRef::Name) }
    }

    pub(crate) fn write(self, out: &mut Vec<u8>, flexible: bool, version: i16) -> Result<(), EncodeError> {
        match self {
            TopicRef::Name(_) if version >= IDS_FROM => return Err(EncodeError::NotInVersion("the name of a topic")),
            TopicRef::Id(_) if version < IDS_FROM => return Err(EncodeError::NotInVersion("the id of a topic")),
            TopicRef::Name(name) => put::string(out, flexible, name)?,
            TopicRef::Id(id) => put::uuid(out, id),
        }
        Ok(())
    }

    /// The smallest form, in bytes: what bounds the count of an array.
    pub(crate) fn min_size(flexible: bool, version: i16) -> usize {
        match (version >= IDS_FROM, flexible) {
            (true, _) => 16,
            (false, true) => 1,
            (false, false) => 2,
        }
    }
}

/// Who leads a partition now, for a client that asked someone else (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentLeader {
    /// Node id of the leader, -1 if there is none.
    pub leader_id: i32,
    /// Its epoch, -1 if unknown.
    pub leader_epoch: i32,
}

impl CurrentLeader {
    /// The content of the tagged field, its own tags included, in bytes.
    const TAG_SIZE: u32 = 9;

    pub(crate) fn write_tag(self, out: &mut Vec<u8>, tag: u32) {
        put::uvarint(out, tag);
        put::uvarint(out, CurrentLeader::TAG_SIZE);
        put::i32(out, self.leader_id);
        put::i32(out, self.leader_epoch);
        put::uvarint(out, 0);
    }
}

/// Where to find a node that leads a partition of the response (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    /// Node id.
    pub node_id: i32,
    /// Host name or address.
    pub host: &'a str,
    /// TCP port.
    pub port: i32,
    /// Rack, if the node has one.
    pub rack: Option<&'a str>,
}

impl NodeEndpoint<'_> {
    /// Writes the tagged fields of a whole response: the endpoints under tag 0, or nothing.
    pub(crate) fn write_tags(out: &mut Vec<u8>, endpoints: &[NodeEndpoint<'_>]) -> Result<(), EncodeError> {
        if endpoints.is_empty() {
            put::uvarint(out, 0);
            return Ok(());
        }
        put::uvarint(out, 1);
        let start = put::tag(out, 0);
        put::len(out, true, endpoints.len())?;
        for endpoint in endpoints {
            put::i32(out, endpoint.node_id);
            put::string(out, true, endpoint.host)?;
            put::i32(out, endpoint.port);
            put::nullable_string(out, true, endpoint.rack)?;
            put::uvarint(out, 0);
        }
        put::end_tag(out, start)
    }
}

/// Counts down what a response has announced. A response that announces more or less than it holds cannot be read, so
/// that is caught here, where the mistake is.
#[derive(Debug)]
pub(crate) struct Announced {
    topics: usize,
    partitions: usize,
}

impl Announced {
    pub(crate) fn topics(count: usize) -> Announced {
        Announced { topics: count, partitions: 0 }
    }

    /// A topic begins, with this many partitions.
    pub(crate) fn topic(&mut self, partitions: usize) {
        assert!(self.partitions == 0, "the topic before lacks {} partitions", self.partitions);
        self.topics = self.topics.checked_sub(1).expect("more topics than announced");
        self.partitions = partitions;
    }

    /// A partition begins; returns whether it is the last of its topic.
    pub(crate) fn partition(&mut self) -> bool {
        self.partitions = self.partitions.checked_sub(1).expect("more partitions than announced");
        self.partitions == 0
    }

    pub(crate) fn finish(&self) {
        assert!(self.topics == 0, "the response lacks {} topics", self.topics);
        assert!(self.partitions == 0, "the last topic lacks {} partitions", self.partitions);
    }
}
