//! Chance that is the same every time: whatever becomes of the crates that make random numbers, a seed means what it meant.

/// xorshift64*.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds are to have nothing in common, and none may be 0.
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self((mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    /// From `from` to `to`, both among them.
    pub(crate) fn between(&mut self, from: u32, to: u32) -> u32 {
        from + (self.next() % (u64::from(to.saturating_sub(from)) + 1)) as u32
    }

    /// True so many times out of a thousand.
    pub(crate) fn permille(&mut self, permille: u32) -> bool {
        self.between(1, 1000) <= permille
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.between(0, of.len() as u32 - 1) as usize]
    }
}
