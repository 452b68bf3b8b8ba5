//! The journal's format: what one group looks like on disk, and how a file of groups is read back.
//!
//! A journal belongs to a core. Small appends of all its partitions go into one group, which costs one aligned write
//! and one fdatasync however many partitions it serves. A file is a sequence of groups, each starting on a block:
//!
//! ```text
//! 0                    64                              64+data           64+data+entries*80      multiple of 4096
//! | GroupHeader        | data: batches, as received    | Entry, Entry, … | zeros                 |
//! ```
//!
//! The table of entries follows the data because it is known only when the group closes. Batches of one partition that
//! arrive in a row lie side by side and share one entry, so that one busy partition has the same bytes in memory as in
//! its segment, and its fetch one slice.
//!
//! All integers are little-endian (the file never leaves its machine). Checksums are CRC-32C.
//!
//! Records lie in the journal as clients sent them, so a client could send what looks like a group. Every group therefore
//! carries a random number, the salt, that was drawn when the store was opened and stands in the files' names.

use crate::limits::{BLOCK_BYTES, MIN_BATCH_BYTES};

/// Bytes of a group before its data.
pub const GROUP_HEADER_BYTES: usize = 64;
/// Bytes of one entry of the table.
pub const ENTRY_BYTES: usize = 80;

/// No segment reaches further: indexes hold positions in 32 bits.
const MAX_SEGMENT_BYTES: u64 = u32::MAX as u64;
const MAGIC: u64 = u64::from_le_bytes(*b"WEIRJRN2");
const CRC_AT: usize = 48;
const SALT_AT: usize = 52;

/// Which partition, for the whole life of a topic: names may be used again, topic ids are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    /// The topic's UUID.
    pub topic_id: [u8; 16],
    /// Index of the partition in its topic.
    pub partition: u32,
}

/// What precedes a group's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// Counts the starts of the broker on this data directory; groups of a later one are newer.
    pub incarnation: u64,
    /// Tells a group from bytes that a client has made to look like one.
    pub salt: u64,
    /// Number of the group in this core's journal and incarnation, without gaps, from 0.
    pub seq: u64,
    /// Groups below this number were known to be durable when this one was closed. Recovery refuses to go on without
    /// one of them, and takes no direct block of a later one on trust.
    pub proven: u64,
    /// Groups below this number are covered by segments and may already be overwritten.
    pub oldest_needed: u64,
    /// Bytes of data.
    pub data_bytes: u32,
    /// Entries in the table.
    pub entries: u32,
}

/// What a group says about one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub key: PartitionKey,
    /// How to take it.
    pub kind: EntryKind,
    /// Base offset of the segment that the positions refer to.
    pub segment_base: i64,
    /// Position in the segment of the entry's first data byte.
    pub pos: u64,
    /// Where the data begins within the group's data, in bytes.
    pub data_off: u32,
    /// Length of the data, in bytes. The segment ends, as far as this entry knows, at `pos + data_len`.
    pub data_len: u32,
    /// Position of the first batch of this commit: a batch boundary at or before the segment's end.
    pub batch_pos: u64,
    /// Of a [`EntryKind::Direct`] entry: which batches lie between `batch_pos` and the segment's end ([`digest`]). 0 where
    /// it is not said.
    pub digest: u32,
    /// The offset of that batch's first record.
    pub batch_offset: i64,
    /// The offset after the last record.
    pub end_offset: i64,
    /// First offset that readers may see.
    pub log_start: i64,
}

/// How an entry's data relates to its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// The data are whole batches, which the segment need not hold.
    Data = 0,
    /// The segment was written by the same commit, up to `pos`; the data are the rest, less than a block.
    Direct = 1,
    /// The segment holds everything up to `pos` since an earlier commit; the data are the rest, or its first block. Of
    /// the segments before this one those are complete in their files that no `CarryOpen` names between this entry and
    /// the partition's last `Carry`: what older entries say of them is out of date.
    Carry = 2,
    /// As `Carry`, for a segment that is not complete in its file and not the newest. The newest one's `Carry` follows.
    CarryOpen = 3,
}

impl Entry {
    /// Position in the segment after the last byte.
    #[must_use]
    pub fn end_pos(&self) -> u64 {
        self.pos + u64::from(self.data_len)
    }

    /// Appends the 80 bytes of the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.topic_id);
        out.extend_from_slice(&self.key.partition.to_le_bytes());
        out.extend_from_slice(&(self.kind as u32).to_le_bytes());
        out.extend_from_slice(&self.segment_base.to_le_bytes());
        out.extend_from_slice(&self.pos.to_le_bytes());
        out.extend_from_slice(&self.data_off.to_le_bytes());
        out.extend_from_slice(&self.data_len.to_le_bytes());
        // A position in a segment takes the lower half of its field; the upper half was zero before there were digests.
        out.extend_from_slice(&(self.batch_pos | u64::from(self.digest) << 32).to_le_bytes());
        out.extend_from_slice(&self.batch_offset.to_le_bytes());
        out.extend_from_slice(&self.end_offset.to_le_bytes());
        out.extend_from_slice(&self.log_start.to_le_bytes());
    }

    /// Reads an entry, or `None` when its fields cannot be those of one.
    fn decode(bytes: &[u8; ENTRY_BYTES], data_bytes: u32) -> Option<Entry> {
        let mut fields = Fields(bytes);
        let entry = Entry {
            key: PartitionKey { topic_id: fields.take(), partition: u32::from_le_bytes(fields.take()) },
            kind: match u32::from_le_bytes(fields.take()) {
                0 => EntryKind::Data,
                1 => EntryKind::Direct,
                2 => EntryKind::Carry,
                3 => EntryKind::CarryOpen,
                _ => return None,
            },
            segment_base: i64::from_le_bytes(fields.take()),
            pos: u64::from_le_bytes(fields.take()),
            data_off: u32::from_le_bytes(fields.take()),
            data_len: u32::from_le_bytes(fields.take()),
            batch_pos: u64::from(u32::from_le_bytes(fields.take())),
            digest: u32::from_le_bytes(fields.take()),
            batch_offset: i64::from_le_bytes(fields.take()),
            end_offset: i64::from_le_bytes(fields.take()),
            log_start: i64::from_le_bytes(fields.take()),
        };
        let data_fits = entry.data_off.checked_add(entry.data_len).is_some_and(|end| end <= data_bytes);
        let end_pos = entry.pos.checked_add(u64::from(entry.data_len)).filter(|end| *end <= MAX_SEGMENT_BYTES)?;
        (data_fits && entry.batch_pos <= end_pos && entry.segment_base >= 0 && entry.end_offset >= entry.segment_base)
            .then_some(entry)
    }
}

/// What a sequence of batches is known by: the CRC-32C of their headers, each with what came before it. A header holds the
/// checksum of its batch, so two sequences with the same digest are the same. `before` is 0 at the first batch, and the result
/// is never 0.
///
/// The blocks of a commit that a crash has cut short may hold something older: a segment's file may have been another's
/// ([`crate::spares`]), and batches of that one hold by themselves.
#[must_use]
pub fn digest(before: u32, batch: &[u8]) -> u32 {
    let mut bytes = [0; 4 + MIN_BATCH_BYTES];
    bytes[..4].copy_from_slice(&before.to_le_bytes());
    bytes[4..].copy_from_slice(&batch[..MIN_BATCH_BYTES]);
    wire::batch::crc32c(&bytes).max(1)
}

/// The bytes of a group's header; `crc` covers what [`group_crc`] says.
#[must_use]
pub fn encode_header(header: &GroupHeader, crc: u32) -> [u8; GROUP_HEADER_BYTES] {
    let mut out = [0; GROUP_HEADER_BYTES];
    out[0..8].copy_from_slice(&MAGIC.to_le_bytes());
    out[8..16].copy_from_slice(&header.incarnation.to_le_bytes());
    out[16..24].copy_from_slice(&header.seq.to_le_bytes());
    out[24..32].copy_from_slice(&header.proven.to_le_bytes());
    out[32..40].copy_from_slice(&header.oldest_needed.to_le_bytes());
    out[40..44].copy_from_slice(&header.data_bytes.to_le_bytes());
    out[44..48].copy_from_slice(&header.entries.to_le_bytes());
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    out[SALT_AT..SALT_AT + 8].copy_from_slice(&header.salt.to_le_bytes());
    out
}

/// The checksum of a group: that of its header, whose own field holds the checksum of `body`, the data and the table.
#[must_use]
pub fn group_crc(header: &GroupHeader, body: &[u8]) -> u32 {
    wire::batch::crc32c(&encode_header(header, wire::batch::crc32c(body)))
}

/// Bytes that a group takes in its file.
#[must_use]
pub fn group_bytes(data_bytes: usize, entries: usize) -> usize {
    (GROUP_HEADER_BYTES + data_bytes + entries * ENTRY_BYTES).next_multiple_of(BLOCK_BYTES)
}

/// One group, read back whole and checked.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its header.
    pub header: GroupHeader,
    /// Its data.
    pub data: &'a [u8],
    table: &'a [u8],
}

impl<'a> Group<'a> {
    /// Parses the group at the start of `bytes`. `None` means that no whole group is there: the end of what was
    /// written, a torn write, or blocks of a file that was never used. The caller cannot and need not tell these apart.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Group<'a>> {
        let (header, crc) = GroupHeader::parse(bytes)?;
        let (data_bytes, entries) = (header.data_bytes as usize, header.entries as usize);
        let body_len = data_bytes.checked_add(entries.checked_mul(ENTRY_BYTES)?)?;
        let body = bytes.get(GROUP_HEADER_BYTES..GROUP_HEADER_BYTES.checked_add(body_len)?)?;
        if group_crc(&header, body) != crc {
            return None;
        }
        let (data, table) = body.split_at(data_bytes);
        Some(Group { header, data, table })
    }

    /// The entries, in the order of the appends. An entry that contradicts itself is given as `None`: its group's
    /// checksum holds, so this is a fault of the writer and not of the disk.
    pub fn entries(&self) -> impl Iterator<Item = Option<Entry>> + '_ {
        self.table.as_chunks::<ENTRY_BYTES>().0.iter().map(|bytes| Entry::decode(bytes, self.header.data_bytes))
    }

    /// The data of an entry of this group.
    #[must_use]
    pub fn data_of(&self, entry: &Entry) -> &'a [u8] {
        &self.data[entry.data_off as usize..(entry.data_off + entry.data_len) as usize]
    }

    /// Bytes that the group takes in its file.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        group_bytes(self.data.len(), self.header.entries as usize)
    }
}

impl GroupHeader {
    /// Reads a header and its checksum. `None` when the magic does not match.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(GroupHeader, u32)> {
        let mut fields = Fields(bytes.get(..GROUP_HEADER_BYTES)?);
        if u64::from_le_bytes(fields.take()) != MAGIC {
            return None;
        }
        let mut header = GroupHeader {
            incarnation: u64::from_le_bytes(fields.take()),
            salt: 0,
            seq: u64::from_le_bytes(fields.take()),
            proven: u64::from_le_bytes(fields.take()),
            oldest_needed: u64::from_le_bytes(fields.take()),
            data_bytes: u32::from_le_bytes(fields.take()),
            entries: u32::from_le_bytes(fields.take()),
        };
        let crc = u32::from_le_bytes(fields.take());
        header.salt = u64::from_le_bytes(fields.take());
        Some((header, crc))
    }

    /// Bytes that the group takes in its file, if the header is to be believed.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        group_bytes(self.data_bytes as usize, self.entries as usize)
    }
}

/// Takes fixed-size fields off the front of a slice whose length was checked by its owner.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().expect("the record's length was checked");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(data_off: u32, data_len: u32) -> Entry {
        Entry {
            key: PartitionKey { topic_id: [7; 16], partition: 3 },
            kind: EntryKind::Data,
            segment_base: 100,
            pos: 8192,
            data_off,
            data_len,
            batch_pos: 8192,
            digest: 0xfeed_beef,
            batch_offset: 110,
            end_offset: 120,
            log_start: 50,
        }
    }

    fn group(data: &[u8], entries: &[Entry]) -> Vec<u8> {
        let header = GroupHeader {
            incarnation: 2,
            salt: 0x0123_4567_89ab_cdef,
            seq: 9,
            proven: 4,
            oldest_needed: 1,
            data_bytes: data.len() as u32,
            entries: entries.len() as u32,
        };
        let mut body = data.to_vec();
        entries.iter().for_each(|e| e.encode(&mut body));
        let mut out = encode_header(&header, group_crc(&header, &body)).to_vec();
        out.extend_from_slice(&body);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
        out
    }

    #[test]
    fn a_group_reads_back_as_written() {
        let bytes = group(b"some batches", &[entry(0, 4), entry(4, 8)]);
        let read = Group::parse(&bytes).unwrap();
        assert_eq!((read.header.seq, read.header.proven, read.file_bytes()), (9, 4, BLOCK_BYTES));
        let entries: Vec<Entry> = read.entries().map(Option::unwrap).collect();
        assert_eq!(entries, [entry(0, 4), entry(4, 8)]);
        assert_eq!(read.data_of(&entries[1]), b" batches");
    }

    #[test]
    fn any_changed_bit_makes_it_no_group() {
        let bytes = group(b"some batches", &[entry(0, 12)]);
        let used = GROUP_HEADER_BYTES + 12 + ENTRY_BYTES;
        for at in 0..used {
            // The header's last bytes are padding and carry nothing.
            if (SALT_AT + 8..GROUP_HEADER_BYTES).contains(&at) {
                continue;
            }
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Group::parse(&bad).is_none(), "byte {at}");
        }
        for cut in 0..used {
            assert!(Group::parse(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn an_entry_that_reaches_outside_its_group_is_refused() {
        let bytes = group(b"some batches", &[entry(8, 5)]);
        assert_eq!(Group::parse(&bytes).unwrap().entries().next(), Some(None));
    }
}
