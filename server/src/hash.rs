//! A fast hash for the small keys of the data path: topic names, ids, numbers.
//!
//! It has no per-process random seed, so that a simulated run is the same each time. A client can therefore choose
//! names that collide; what such a table holds is bounded by what an operator lets clients create.

use std::hash::BuildHasherDefault;

/// For `HashMap`'s third parameter.
pub type Hasher = BuildHasherDefault<Mixer>;

/// Multiplies and folds eight bytes at a time.
#[derive(Debug, Default, Clone, Copy)]
pub struct Mixer(u64);

/// 2^64 divided by the golden ratio, made odd: its multiples spread evenly.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Mixer {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0.rotate_left(5) ^ word ^ SPREAD) * u128::from(SPREAD);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl std::hash::Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    use super::*;

    fn hash(value: impl Hash) -> u64 {
        Hasher::default().hash_one(value)
    }

    #[test]
    fn names_that_differ_little_hash_apart() {
        let hashes: HashSet<u64> = (0..10_000).map(|n| hash(format!("sensor-{n}"))).collect();
        assert_eq!(hashes.len(), 10_000);
        let low: HashSet<u64> = (0..10_000).map(|n| hash(format!("sensor-{n}")) >> 57).collect();
        assert_eq!(low.len(), 128, "the bits that a table uses as tags are spread");
        assert_ne!(hash("a"), hash("a\0"));
    }
}
