//! Seeded pseudo-random numbers for tests, so that every run sees the same cases.

/// A linear congruential generator; its upper bits are good enough to choose test cases with.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) ^ (self.0 << 20)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.bits() & 0xffff_ffff) % n as u64) as usize
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// Mostly small numbers, and now and then any.
    pub(crate) fn i32(&mut self) -> i32 {
        if self.chance(4) { self.bits() as i32 } else { self.below(300) as i32 - 1 }
    }

    /// Mostly small numbers, and now and then any.
    pub(crate) fn i64(&mut self) -> i64 {
        if self.chance(4) { self.bits() as i64 } else { self.below(300) as i64 - 1 }
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Changes some bytes, cuts some off, or puts some in.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.bits() as u8),
                2 if at < bytes.len() => {
                    bytes.remove(at);
                }
                3 => {
                    let (value, end) = (self.pick(&[0, 0x7f, 0x80, 0xff]), bytes.len().min(at + 1 + self.below(5)));
                    bytes[at..end].fill(value);
                }
                _ if at < bytes.len() => bytes[at] = self.bits() as u8,
                _ => {}
            }
        }
    }
}
