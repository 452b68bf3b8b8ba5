//! Which offset of each key is the newest, in memory whose size is fixed in advance.
//!
//! Keys are not kept: 128 bits of SipHash-2-4 under a secret drawn for each map stand for them. Two keys with equal bits
//! would cost a record, so the hash must not be one for which clients can find such keys: an unkeyed fast hash is out, and a
//! keyed one costs less than Kafka's digests. By accident it takes 2^64 keys.

/// Bytes of one place in the map.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: [u64; 2],
    /// Negative: the place is free.
    offset: i64,
}

/// From the hashes of keys to offsets.
pub(super) struct KeyMap {
    secret: [u64; 2],
    entries: Vec<Entry>,
    used: usize,
    /// Keys that are taken; the rest of the places keeps searches short.
    capacity: usize,
}

impl KeyMap {
    /// A map in `max_bytes` of memory, of which `load_factor` is used at most, that need not hold more than `expected`
    /// keys. It holds one in any case.
    #[must_use]
    pub(super) fn new(secret: [u64; 2], expected: u64, max_bytes: usize, load_factor: f64) -> KeyMap {
        let places = |keys: u64| (keys as f64 / load_factor).ceil() as usize + 1;
        let len = places(expected).min(max_bytes / ENTRY_BYTES).max(2);
        let capacity = ((len as f64 * load_factor) as usize).clamp(1, len - 1);
        KeyMap { secret, entries: vec![Entry { hash: [0; 2], offset: -1 }; len], used: 0, capacity }
    }

    /// Notes that a key has been written at `offset`. False, and nothing is noted, when the map is full.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = hash(self.secret, key);
        let at = self.place_of(hash);
        let entry = &mut self.entries[at];
        if entry.offset < 0 {
            if self.used == self.capacity {
                return false;
            }
            self.used += 1;
        }
        *entry = Entry { hash, offset };
        true
    }

    /// The newest offset noted for a key.
    #[must_use]
    pub(super) fn get(&self, key: &[u8]) -> Option<i64> {
        let entry = self.entries[self.place_of(hash(self.secret, key))];
        (entry.offset >= 0).then_some(entry.offset)
    }

    /// The place of a hash, or the free one where it would go. There is always a free one.
    fn place_of(&self, hash: [u64; 2]) -> usize {
        let len = self.entries.len();
        let mut at = ((u128::from(hash[0]) * len as u128) >> 64) as usize;
        while self.entries[at].offset >= 0 && self.entries[at].hash != hash {
            at = if at + 1 == len { 0 } else { at + 1 };
        }
        at
    }
}

/// SipHash-2-4 with 128 bits (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, and its reference code).
fn hash(secret: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let [k0, k1] = secret;
    let mut v = [
        k0 ^ u64::from_be_bytes(*b"somepseu"),
        k1 ^ u64::from_be_bytes(*b"dorandom") ^ 0xee,
        k0 ^ u64::from_be_bytes(*b"lygenera"),
        k1 ^ u64::from_be_bytes(*b"tedbytes"),
    ];
    let mut absorb = |word: u64| {
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| absorb(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    absorb(u64::from_le_bytes(last));
    v[2] ^= 0xee;
    rounds(&mut v, 4);
    let first = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(&mut v, 4);
    [first, v[0] ^ v[1] ^ v[2] ^ v[3]]
}

fn rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_reference() {
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let half = |from: usize| u64::from_le_bytes(key[from..from + 8].try_into().unwrap());
        let of = |bytes: &[u8]| {
            let [first, second] = hash([half(0), half(8)], bytes);
            [first.to_le_bytes(), second.to_le_bytes()].concat()
        };
        // The first two vectors of the reference code.
        let empty = [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93];
        let zero = [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45];
        assert_eq!(of(&[]), empty);
        assert_eq!(of(&[0]), zero);
    }

    #[test]
    fn a_full_map_takes_known_keys_only() {
        let mut map = KeyMap::new([1, 2], 1_000_000, 100 * ENTRY_BYTES, 0.9);
        let mut taken = 0_i64;
        while map.put(&taken.to_be_bytes(), taken) {
            taken += 1;
        }
        assert_eq!(taken, 90);
        assert!(map.put(&3_i64.to_be_bytes(), 500));
        assert_eq!(map.get(&3_i64.to_be_bytes()), Some(500));
        assert_eq!(map.get(&4_i64.to_be_bytes()), Some(4));
        assert_eq!(map.get(&90_i64.to_be_bytes()), None);
    }

    #[test]
    fn the_smallest_map_takes_one_key() {
        let mut map = KeyMap::new([1, 2], 50, 0, 0.5);
        assert!(map.put(b"a", 1) && map.put(b"a", 2) && !map.put(b"b", 3));
        assert_eq!((map.get(b"a"), map.get(b"b")), (Some(2), None));
    }
}
