//! Sequence numbers of one stream that goes out: continuous, also where pictures were left out for want of time. Pure.

/// How numbers that are handed over become those on the wire.
#[derive(Debug)]
pub(super) struct Numbers {
    base: u16,
    /// How many have been left out so far.
    removed: u64,
    highest: Option<u64>,
    /// The highest was not the last of its picture.
    is_open: bool,
    cut: Option<Cut>,
}

/// The last place where something was left out.
#[derive(Clone, Copy, Debug)]
struct Cut {
    last: u64,
    from: u64,
    removed_before: u64,
    /// Where the one before it ended: of what came earlier nobody knows the numbers any more.
    since: u64,
}

impl Numbers {
    pub(super) fn new(base: u16) -> Self {
        Self { base, removed: 0, highest: None, is_open: false, cut: None }
    }

    /// The sequence number of a packet; `None` if it was left out.
    pub(super) fn sequence(&self, number: u64) -> Option<u16> {
        let removed = match self.cut {
            Some(cut) if number < cut.since => return None,
            Some(cut) if number <= cut.last => cut.removed_before,
            Some(cut) if number < cut.from => return None,
            _ => self.removed,
        };
        Some(self.base.wrapping_add(number.wrapping_sub(removed) as u16))
    }

    /// A packet goes out.
    pub(super) fn sent(&mut self, number: u64, ends_picture: bool) {
        if self.highest.is_none_or(|highest| number > highest) {
            self.highest = Some(number);
            self.is_open = !ends_picture;
        }
    }

    /// Everything after what has gone out is left out, up to this one.
    pub(super) fn skip_to(&mut self, from: u64) {
        let Some(last) = self.highest.filter(|last| from > *last) else { return };
        // A picture that was cut off must not look whole: one number is missing behind it.
        let missing = u64::from(self.is_open);
        let between = from - last - 1;
        let removed = (self.removed + between).saturating_sub(missing);
        if removed > self.removed || between > 0 {
            let since = self.cut.map_or(0, |before| before.from);
            self.cut = Some(Cut { last, from, removed_before: self.removed, since });
            self.removed = removed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_a_skip() {
        let mut numbers = Numbers::new(65_530);
        assert_eq!(numbers.sequence(0), Some(65_530));
        for number in 0..10 {
            numbers.sent(number, number % 5 == 4);
        }
        assert_eq!(numbers.sequence(9), Some(3));
        numbers.skip_to(30);
        assert_eq!((numbers.sequence(29), numbers.sequence(30), numbers.sequence(31)), (None, Some(4), Some(5)));
        assert_eq!(numbers.sequence(9), Some(3), "what went before keeps its number");
        assert_eq!(numbers.sequence(10), None);
    }

    #[test]
    fn a_picture_that_was_cut_off_lacks_its_end() {
        let mut numbers = Numbers::new(0);
        numbers.sent(7, false);
        numbers.skip_to(20);
        assert_eq!((numbers.sequence(7), numbers.sequence(20)), (Some(7), Some(9)));
        numbers.sent(20, true);
        numbers.skip_to(21);
        assert_eq!((numbers.sequence(20), numbers.sequence(21)), (Some(9), Some(10)), "nothing was left out");
    }

    /// A packet that is late beyond two skips has no number: the one that it had may be another's by now, and a number that
    /// is used twice is a key stream that is used twice (RFC 3711 section 9.1).
    #[test]
    fn no_number_is_given_to_two_packets() {
        let mut numbers = Numbers::new(0);
        let mut given = std::collections::HashMap::new();
        let mut give = |numbers: &Numbers, number: u64| {
            if let Some(sequence) = numbers.sequence(number) {
                assert_eq!(*given.entry(sequence).or_insert(number), number, "{sequence} is given to two");
            }
        };
        for (from, to) in [(0, 10), (50, 60), (100, 110), (111, 120)] {
            numbers.skip_to(from);
            for number in (from..to).filter(|number| *number != from + 5) {
                give(&numbers, number);
                numbers.sent(number, number % 5 == 4);
            }
            for late in 0..to {
                give(&numbers, late);
            }
        }
        assert_eq!(numbers.sequence(105), Some(25), "late, and in its place");
    }

    #[test]
    fn nothing_is_skipped_before_the_first_packet_or_backwards() {
        let mut numbers = Numbers::new(5);
        numbers.skip_to(100);
        assert_eq!(numbers.sequence(100), Some(105));
        numbers.sent(100, true);
        numbers.skip_to(50);
        assert_eq!(numbers.sequence(101), Some(106));
    }
}
