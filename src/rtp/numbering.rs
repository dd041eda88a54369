//! Sequence numbers for `reorder` that follow on each other, whatever the peer's do. Pure.
//!
//! Left alone with a jump it would take what comes next as hours late, or wait for thousands of packets.
//! Here a jump is either a stray packet or the beginning of another stream, as in RFC 3550 appendix A.1: one packet may
//! be wrong, a second that follows on it is not.

/// Beyond so many missing packets a stream begins anew: with a keyframe, which is what would be needed anyway. The
/// session's retransmissions do not fill such gaps in time.
const MOST_MISSING: u16 = 512;
/// What was sent again after an outage may be so far behind, in numbers and on the RTP clock (10 s of video): it is late, not
/// the beginning of another stream, whose times are others. Of streams that begin at random one in a hundred thousand would be
/// mistaken.
const MOST_LATE: u16 = 4096;
const MOST_LATE_TICKS: u32 = 900_000;
/// So many that are missing at once are counted; beyond that it is another stream, for the session's statistics as well.
const MOST_PASSED_OVER: u16 = 3000;
/// Of the RTP clock, each of them: 10,000 packets of video a second. Numbers that jump faster are the sender's doing.
const LEAST_TICKS: u32 = 9;

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on under this number.
    Pass(u16),
    /// It is one of those that were counted as missing in front of a stream that began anew: too late for anything.
    Late,
    /// It fits nowhere; it is to be kept until the next packet comes, in the place of one kept before.
    Hold,
    /// A stream begins: with the packet that was kept, if the first number is there, and this one.
    Begin(Option<u16>, u16),
}

/// The numbers of one track.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    current: Option<Current>,
    /// How many numbers were passed over when a stream began anew behind an outage.
    passed_over: u64,
    /// The last of these: the first one, and how many.
    gap: Option<(u16, u16)>,
}

#[derive(Debug)]
struct Current {
    ssrc: u32,
    /// The highest number that has come, and its RTP timestamp.
    newest: u16,
    timestamp: u32,
    /// What is added to the peer's numbers.
    offset: u16,
    /// The number that would show that the packet being kept begins a stream.
    expected: Option<u16>,
}

impl Numbering {
    pub(super) fn judge(&mut self, ssrc: u32, number: u16, timestamp: u32) -> Verdict {
        let Some(current) = &mut self.current else {
            self.current = Some(Current { ssrc, newest: number, timestamp, offset: 0, expected: None });
            return Verdict::Pass(number);
        };
        if ssrc != current.ssrc {
            self.gap = None;
            let first = current.begin(ssrc, number, timestamp);
            return Verdict::Begin(None, first);
        }
        let (ahead, behind) = (number.wrapping_sub(current.newest), current.newest.wrapping_sub(number));
        let age = current.timestamp.wrapping_sub(timestamp);
        let is_late = behind <= MOST_MISSING || behind <= MOST_LATE && (1..=MOST_LATE_TICKS).contains(&age);
        if ahead <= MOST_MISSING {
            // The stream goes on, without the one that is kept. What is sent again from before says nothing of that.
            (current.newest, current.timestamp, current.expected) = (number, timestamp, None);
        } else if !is_late {
            if current.expected.replace(number.wrapping_add(1)) != Some(number) {
                return Verdict::Hold;
            }
            // Where its time goes on as well it is the same stream, of which so much did not come.
            let missing = ahead.saturating_sub(2);
            let (least, passed) = (u32::from(missing) * LEAST_TICKS, timestamp.wrapping_sub(current.timestamp));
            self.gap = None;
            if missing <= MOST_PASSED_OVER && (least..=MOST_LATE_TICKS).contains(&passed) {
                self.passed_over += u64::from(missing);
                self.gap = Some((current.newest.wrapping_add(1), missing));
            }
            let first = current.begin(ssrc, number.wrapping_sub(1), timestamp);
            current.newest = number;
            return Verdict::Begin(Some(first), first.wrapping_add(1));
        }
        if ahead > MOST_MISSING && self.gap.is_some_and(|(first, count)| number.wrapping_sub(first) < count) {
            return Verdict::Late;
        }
        Verdict::Pass(number.wrapping_add(current.offset))
    }

    /// How many packets are missing for good in front of streams that began anew, since this was last asked.
    pub(super) fn take_passed_over(&mut self) -> u64 {
        std::mem::take(&mut self.passed_over)
    }

    /// Whether this packet comes behind later ones.
    pub(super) fn is_behind(&self, number: u16) -> bool {
        self.current.as_ref().is_some_and(|current| number != current.newest)
    }
}

impl Current {
    /// Goes on with another stream behind what there is; returns the number of its first packet.
    fn begin(&mut self, ssrc: u32, number: u16, timestamp: u32) -> u16 {
        let next = self.newest.wrapping_add(self.offset).wrapping_add(1);
        *self = Self { ssrc, newest: number, timestamp, offset: next.wrapping_sub(number), expected: None };
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(numbering: &mut Numbering, numbers: &[u16]) -> Vec<Verdict> {
        numbers.iter().map(|number| numbering.judge(1, *number, 0)).collect()
    }

    #[test]
    fn order_gaps_and_the_wrap_are_left_to_the_jitter_buffer() {
        let numbers = [65_530, 65_532, 65_531, 3, 500, 2, 500];
        let passed: Vec<_> = numbers.into_iter().map(Verdict::Pass).collect();
        let mut numbering = Numbering::default();
        assert_eq!(judge(&mut numbering, &numbers), passed);
        assert!(!numbering.is_behind(500) && numbering.is_behind(499));
    }

    #[test]
    fn a_stray_packet_is_held_and_two_in_a_row_begin_a_stream() {
        let mut numbering = Numbering::default();
        let verdicts = judge(&mut numbering, &[100, 101, 40_000, 102, 40_001, 40_002, 40_003, 39_999, 103, 104]);
        let expected = [
            Verdict::Pass(100),
            Verdict::Pass(101),
            Verdict::Hold,
            Verdict::Pass(102),
            Verdict::Hold,
            Verdict::Begin(Some(103), 104),
            Verdict::Pass(105),
            Verdict::Pass(101),
            Verdict::Hold,
            Verdict::Begin(Some(106), 107),
        ];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn what_an_outage_took_is_counted_and_what_another_stream_jumps_over_is_not() {
        let mut numbering = Numbering::default();
        numbering.judge(1, 65_000, 1000);
        assert_eq!(numbering.judge(1, 64, 271_000), Verdict::Hold);
        assert_eq!(numbering.judge(1, 65, 271_000), Verdict::Begin(Some(65_001), 65_002));
        assert_eq!(numbering.take_passed_over(), 599, "65001 to 63");
        assert_eq!(numbering.take_passed_over(), 0);
        for late in [65_001, 65_400, 63] {
            assert_eq!(numbering.judge(1, late, 200_000), Verdict::Late, "{late}");
        }
        assert_eq!(numbering.judge(1, 66, 271_000), Verdict::Pass(65_003));
        for (number, timestamp) in [(9_000, 274_000), (9_700, 277_000), (700, 0), (20_000, 3_000_000)] {
            assert_eq!(numbering.judge(1, number, timestamp), Verdict::Hold);
            assert!(matches!(numbering.judge(1, number + 1, timestamp), Verdict::Begin(Some(_), _)));
            assert_eq!(numbering.take_passed_over(), 0, "{number} at {timestamp}");
        }
    }

    #[test]
    fn what_is_sent_again_between_the_first_two_behind_an_outage_costs_neither() {
        let mut numbering = Numbering::default();
        numbering.judge(1, 1000, 90_000);
        assert_eq!(numbering.judge(1, 1700, 190_000), Verdict::Hold);
        assert_eq!(numbering.judge(1, 990, 89_000), Verdict::Pass(990));
        assert_eq!(numbering.judge(1, 1701, 190_000), Verdict::Begin(Some(1001), 1002));
        assert_eq!(numbering.take_passed_over(), 699);
    }

    #[test]
    fn another_stream_follows_on_the_last_one_at_once() {
        let mut numbering = Numbering::default();
        numbering.judge(1, 65_535, 0);
        assert_eq!(numbering.judge(2, 30_000, 0), Verdict::Begin(None, 0));
        assert_eq!(numbering.judge(2, 30_002, 0), Verdict::Pass(2));
        assert_eq!(numbering.judge(1, 0, 0), Verdict::Begin(None, 3));
    }

    #[test]
    fn what_was_sent_again_long_after_is_late_and_a_stream_that_steps_back_begins() {
        let mut numbering = Numbering::default();
        let (number, time) = (600, 500_000);
        numbering.judge(1, number, time);
        for behind in [513, 514, 4000] {
            let late = numbering.judge(1, number.wrapping_sub(behind), time - 90 * u32::from(behind));
            assert_eq!(late, Verdict::Pass(number.wrapping_sub(behind)), "{behind}, over the wrap too");
        }
        assert_eq!(numbering.judge(1, number - 590, time + 3000), Verdict::Hold, "its time goes on");
        assert_eq!(numbering.judge(1, number - 589, time + 3000), Verdict::Begin(Some(601), 602));
        assert_eq!(numbering.judge(1, 10_000, 0), Verdict::Hold);
        assert_eq!(numbering.judge(1, 10_001, 0), Verdict::Begin(Some(603), 604));
        assert_eq!(
            numbering.judge(1, 9_000, 0u32.wrapping_sub(2_000_000)),
            Verdict::Hold,
            "too old to have been sent again"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A stream that goes round, with steps of at most so many numbers either way.
        #[test]
        fn a_stream_that_only_loses_and_reorders_keeps_its_numbers_round_the_wrap(
            first in any::<u16>(),
            steps in prop::collection::vec(-200..300_i32, 1..500),
        ) {
            let (mut numbering, mut newest, mut number) = (Numbering::default(), i64::from(first), i64::from(first));
            for step in steps {
                number = (number + i64::from(step)).clamp(newest - 500, newest + 500).max(i64::from(first));
                newest = newest.max(number);
                prop_assert_eq!(numbering.judge(7, number as u16, 0), Verdict::Pass(number as u16));
            }
        }

        /// Streams one after the other, each from a number of its own.
        #[test]
        fn streams_that_follow_each_other_go_on_as_one(
            streams in prop::collection::vec((any::<u32>(), any::<u16>(), 1..50_u16), 1..20),
        ) {
            let (mut numbering, mut next, mut before) = (Numbering::default(), None, None);
            for (ssrc, first, count) in streams {
                if before.replace(ssrc) == Some(ssrc) {
                    continue; // that would be a jump
                }
                for index in 0..count {
                    let placed = match numbering.judge(ssrc, first.wrapping_add(index), 0) {
                        Verdict::Pass(number) | Verdict::Begin(None, number) => number,
                        other => return Err(TestCaseError::fail(format!("{other:?}"))),
                    };
                    prop_assert!(next.is_none_or(|next| next == placed), "{next:?} and {placed}");
                    next = Some(placed.wrapping_add(1));
                }
            }
        }
    }
}
