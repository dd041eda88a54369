//! Remembers which packets of a stream have come, so that each goes on once. Pure.

/// Which of the last [`Self::SIZE`] sequence numbers have been seen.
pub(super) struct SeenWindow {
    newest: Option<u16>,
    bits: [u64; Self::SIZE as usize / 64],
}

impl Default for SeenWindow {
    fn default() -> Self {
        Self { newest: None, bits: [0; Self::SIZE as usize / 64] }
    }
}

impl SeenWindow {
    /// Ten seconds of a 2 Mbit/s stream; divides 65,536, so that numbers keep their place over the wrap.
    const SIZE: u16 = 2048;

    /// False if the number was there already, or is too old to tell.
    pub(super) fn insert(&mut self, number: u16) -> bool {
        let newest = *self.newest.get_or_insert(number.wrapping_sub(1));
        let ahead = number.wrapping_sub(newest);
        if ahead != 0 && ahead < 0x8000 {
            if ahead >= Self::SIZE {
                self.bits.fill(0);
            } else {
                for skipped in 1..=ahead {
                    self.set(newest.wrapping_add(skipped), false);
                }
            }
            self.newest = Some(number);
        } else if newest.wrapping_sub(number) >= Self::SIZE {
            return false;
        }
        !self.set(number, true)
    }

    /// Sets a bit and returns what it was.
    fn set(&mut self, number: u16, value: bool) -> bool {
        let place = usize::from(number % Self::SIZE);
        let (word, mask) = (&mut self.bits[place / 64], 1_u64 << (place % 64));
        let was = *word & mask != 0;
        if value {
            *word |= mask;
        } else {
            *word &= !mask;
        }
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reordering_and_the_wrap_are_no_duplicates() {
        let mut window = SeenWindow::default();
        for number in [65_534, 0, 65_535, 2, 1] {
            assert!(window.insert(number), "{number} was new");
            assert!(!window.insert(number), "{number} was seen");
        }
    }

    #[test]
    fn a_jump_forgets_and_the_distant_past_is_refused() {
        let mut window = SeenWindow::default();
        assert!(window.insert(10));
        assert!(window.insert(10_000));
        assert!(window.insert(10_000 - SeenWindow::SIZE + 1));
        assert!(!window.insert(10));
    }
}
