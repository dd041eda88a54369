//! Puts packets back in order, and says which are lost: a packet passes at once unless one before it is missing, and then as
//! soon as that has come or its time is over. Pure: times are arguments.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Packets that may wait for a missing one: 20 Mbit/s for three seconds.
const MOST_PACKETS: usize = 8192;
/// And their bytes.
const MOST_BYTES: usize = 16 << 20;
/// How far back it is known which numbers were lost, to tell what is late from what came twice.
const REMEMBERED: u64 = 4096;

/// What is next in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<P> {
    /// A packet.
    Packet(P),
    /// So many numbers in a row, for which there will be none.
    Lost(u64),
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Packets that did not come in time.
    pub(super) lost: u64,
    /// Of these, such that came after all.
    pub(super) late: u64,
    /// Packets that came more than once.
    pub(super) duplicates: u64,
}

/// The packets of one stream whose numbers have no jumps: `numbering` has removed them.
#[derive(Debug)]
pub(super) struct Reorder<P> {
    /// How long a missing packet is waited for, from when the first one behind it came.
    latency: Duration,
    /// The number, counted on beyond 16 bits, that is to go out next.
    next: Option<u64>,
    /// By number; there is always one missing before the first.
    waiting: BTreeMap<u64, Waiting<P>>,
    bytes: usize,
    /// Numbers that were given up, oldest first.
    lost: VecDeque<u64>,
    counts: Counts,
}

#[derive(Debug)]
struct Waiting<P> {
    packet: P,
    size: usize,
    /// When the first packet came that shows that one before this is missing.
    shown: Instant,
}

impl<P> Reorder<P> {
    pub(super) fn new(latency: Duration) -> Self {
        Self {
            latency,
            next: None,
            waiting: BTreeMap::new(),
            bytes: 0,
            lost: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a packet of so many bytes that came at `arrival`; what is in order now goes to `out`.
    pub(super) fn push(&mut self, number: u16, packet: P, size: usize, arrival: Instant, mut out: impl FnMut(Next<P>)) {
        // The first number is somewhere in the middle, so that those before it are numbers too.
        let next = *self.next.get_or_insert(1 << 32 | u64::from(number));
        let number = next.wrapping_add_signed(i64::from(number.wrapping_sub(next as u16) as i16));
        if number < next {
            match self.lost.binary_search(&number) {
                Ok(index) => {
                    self.lost.remove(index);
                    self.counts.late += 1;
                }
                Err(_) => self.counts.duplicates += 1,
            }
        } else if number == next {
            self.next = Some(next + 1);
            out(Next::Packet(packet));
            self.run_on(&mut out);
        } else if self.waiting.contains_key(&number) {
            self.counts.duplicates += 1;
        } else {
            let shown = self.waiting.range(number..).next().map_or(arrival, |(_, later)| later.shown.min(arrival));
            self.waiting.insert(number, Waiting { packet, size, shown });
            self.bytes += size;
            while self.waiting.len() > MOST_PACKETS || self.bytes > MOST_BYTES {
                self.give_up(&mut out);
            }
        }
    }

    /// When the missing packet that holds the others up has had its time.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, first)| first.shown + self.latency)
    }

    /// Gives up what has had its time.
    pub(super) fn expire(&mut self, now: Instant, mut out: impl FnMut(Next<P>)) {
        while self.due().is_some_and(|due| due <= now) {
            self.give_up(&mut out);
        }
    }

    /// Gives up whatever is missing: nothing more comes.
    pub(super) fn flush(&mut self, mut out: impl FnMut(Next<P>)) {
        while !self.waiting.is_empty() {
            self.give_up(&mut out);
        }
    }

    /// Whether packets wait for one that is missing.
    pub(super) fn holds(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many packets wait, and their bytes.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }

    /// What has been counted since this was last asked.
    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Gives up what is missing before the first that waits.
    fn give_up(&mut self, out: &mut impl FnMut(Next<P>)) {
        let (Some(next), Some((&first, _))) = (self.next, self.waiting.first_key_value()) else { return };
        self.counts.lost += first - next;
        while self.lost.front().is_some_and(|lost| lost + REMEMBERED < first) {
            self.lost.pop_front();
        }
        self.lost.extend(next.max(first.saturating_sub(REMEMBERED))..first);
        self.next = Some(first);
        out(Next::Lost(first - next));
        self.run_on(out);
    }

    /// Lets those go that follow on what has gone.
    fn run_on(&mut self, out: &mut impl FnMut(Next<P>)) {
        while let (Some(next), Some(entry)) = (&mut self.next, self.waiting.first_entry())
            && *entry.key() == *next
        {
            *next += 1;
            let Waiting { packet, size, .. } = entry.remove();
            self.bytes -= size;
            out(Next::Packet(packet));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Next::*, *};

    const MS: Duration = Duration::from_millis(1);

    struct Case {
        reorder: Reorder<u16>,
        start: Instant,
        out: Vec<Next<u16>>,
    }

    impl Case {
        fn new() -> Self {
            Self { reorder: Reorder::new(100 * MS), start: Instant::now(), out: Vec::new() }
        }

        fn come(&mut self, at: u32, numbers: &[u16]) -> Vec<Next<u16>> {
            for number in numbers {
                self.reorder.push(*number, *number, 1000, self.start + MS * at, |next| self.out.push(next));
            }
            std::mem::take(&mut self.out)
        }

        fn wait(&mut self, until: u32) -> Vec<Next<u16>> {
            self.reorder.expire(self.start + MS * until, |next| self.out.push(next));
            std::mem::take(&mut self.out)
        }
    }

    fn packets(numbers: impl IntoIterator<Item = u16>) -> Vec<Next<u16>> {
        numbers.into_iter().map(Packet).collect()
    }

    #[test]
    fn what_is_in_order_passes_at_once_over_the_wrap_too() {
        let mut case = Case::new();
        assert_eq!(case.come(0, &[65_534, 65_535, 0, 1]), packets([65_534, 65_535, 0, 1]));
        assert_eq!((case.reorder.due(), case.reorder.holds()), (None, false));
    }

    #[test]
    fn what_came_too_early_waits_for_what_is_missing() {
        let mut case = Case::new();
        assert_eq!(case.come(0, &[10, 13, 12]), packets([10]));
        assert_eq!(case.come(99, &[11]), packets([11, 12, 13]));
        assert_eq!(case.reorder.take_counts(), Counts::default());
        assert!(!case.reorder.holds() && case.reorder.bytes == 0);
    }

    #[test]
    fn what_does_not_come_in_time_is_lost_and_counted_when_it_comes_after_all() {
        let mut case = Case::new();
        assert_eq!(case.come(0, &[65_533, 2]), packets([65_533]));
        assert_eq!(case.reorder.due(), Some(case.start + 100 * MS));
        assert_eq!(case.wait(99), []);
        assert_eq!(case.wait(100), [Lost(4), Packet(2)]);
        assert_eq!(case.come(101, &[65_535, 65_535, 2, 3]), packets([3]));
        assert_eq!(case.reorder.take_counts(), Counts { lost: 4, late: 1, duplicates: 2 });
    }

    #[test]
    fn each_missing_packet_has_its_own_time_from_when_it_was_missed() {
        let mut case = Case::new();
        case.come(0, &[1, 3]);
        case.come(50, &[5]);
        // That 2 is missing has been known since 3 came, whatever comes before 3 now.
        assert_eq!(case.wait(100), [Lost(1), Packet(3)]);
        assert_eq!(case.reorder.due(), Some(case.start + 150 * MS));
        case.come(120, &[7, 6]);
        assert_eq!(case.wait(150), [Lost(1), Packet(5), Packet(6), Packet(7)]);
        case.come(200, &[10]);
        case.come(260, &[9]);
        assert_eq!(case.wait(300), [Lost(1), Packet(9), Packet(10)], "8 was missed when 10 came");
    }

    #[test]
    fn what_came_twice_goes_out_once() {
        let mut case = Case::new();
        assert_eq!(case.come(0, &[1, 1, 3, 3, 2, 2, 3]), packets([1, 2, 3]));
        assert_eq!(case.reorder.take_counts(), Counts { duplicates: 4, ..Counts::default() });
    }

    #[test]
    fn what_waits_is_bounded_in_packets_and_bytes_and_what_is_remembered_too() {
        let mut case = Case::new();
        case.come(0, &[0]);
        for number in 0..60_000_u32 {
            case.come(0, &[(2 + 2 * number) as u16]); // every other one is missing
            assert!(case.reorder.waiting.len() <= MOST_PACKETS && case.reorder.lost.len() <= REMEMBERED as usize);
        }
        let mut reorder = Reorder::new(100 * MS);
        for number in [0, 2, 3, 4] {
            reorder.push(number, number, MOST_BYTES / 2, case.start, |_| ());
        }
        assert_eq!((reorder.bytes, reorder.take_counts().lost), (0, 1));
    }

    #[test]
    fn the_end_lets_everything_go() {
        let mut case = Case::new();
        case.come(0, &[1, 3, 6]);
        case.reorder.flush(|next| case.out.push(next));
        assert_eq!(case.out, [Lost(1), Packet(3), Lost(2), Packet(6)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Each packet comes by so much later than it was sent, or never, or twice; they are sent every 5 ms.
        #[test]
        fn whatever_comes_goes_out_in_order_and_once_and_what_does_not_is_counted(
            first in any::<u16>(),
            fates in prop::collection::vec((0..250_u32, prop::bool::weighted(0.1), prop::bool::weighted(0.1)), 1..300),
        ) {
            let mut case = Case::new();
            let mut arrivals: Vec<(u32, u16)> = Vec::new();
            let last = fates.len() - 1;
            for (index, (late, is_lost, is_twice)) in fates.iter().copied().enumerate() {
                let (number, sent) = (first.wrapping_add(index as u16), index as u32 * 5);
                // The ends are there, so that it is known what there is between them.
                let (late, is_lost) = if index == 0 || index == last { (0, false) } else { (late, is_lost) };
                arrivals.extend((!is_lost).then_some((sent + late, number)));
                arrivals.extend((!is_lost && is_twice).then_some((sent + late + 7, number)));
            }
            arrivals.sort();
            let mut out = Vec::new();
            for (at, number) in &arrivals {
                out.extend(case.wait(*at));
                out.extend(case.come(*at, &[*number]));
            }
            case.reorder.flush(|next| out.push(next));
            let (mut expected, mut lost) = (u64::from(first), 0);
            let mut passed = 0;
            for next in &out {
                match next {
                    Packet(number) => {
                        prop_assert_eq!(*number, expected as u16, "in order and once: {:?}", &out);
                        (expected, passed) = (expected + 1, passed + 1);
                    }
                    Lost(count) => (expected, lost) = (expected + count, lost + count),
                }
            }
            let counts = case.reorder.take_counts();
            prop_assert_eq!(expected - u64::from(first), fates.len() as u64);
            prop_assert_eq!(counts.lost, lost);
            prop_assert_eq!(passed + counts.late + counts.duplicates, arrivals.len() as u64, "{:?}", counts);
            prop_assert!(!case.reorder.holds() && case.reorder.bytes == 0);
        }
    }
}
