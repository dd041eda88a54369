//! Sequence numbers for `reorder` that follow on each other, whatever the peer's do. Pure.
//!
//! Left alone with a jump it would take what comes next as hours late, or wait for thousands of packets.
//! Here a jump is either a stray packet or the beginning of another stream, as in RFC 3550 appendix A.1: one packet may
//! be wrong, a second that follows on it is not.

/// Beyond so many missing packets a stream begins anew: with a keyframe, which is what would be needed anyway. The
/// session's retransmissions do not fill such gaps in time.
const MOST_MISSING: u16 = 512;

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on under this number.
    Pass(u16),
    /// It fits nowhere; it is to be kept until the next packet comes, in the place of one kept before.
    Hold,
    /// A stream begins: with the packet that was kept, if the first number is there, and this one.
    Begin(Option<u16>, u16),
}

/// The numbers of one track.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    ssrc: u32,
    /// The highest number that has come.
    newest: u16,
    /// What is added to the peer's numbers.
    offset: u16,
    /// The number that would show that the packet being kept begins a stream.
    expected: Option<u16>,
}

impl Numbering {
    pub(super) fn judge(&mut self, ssrc: u32, number: u16) -> Verdict {
        let Some(current) = &mut self.current else {
            self.current = Some(Current { ssrc, newest: number, offset: 0, expected: None });
            return Verdict::Pass(number);
        };
        if ssrc != current.ssrc {
            let first = current.begin(ssrc, number);
            return Verdict::Begin(None, first);
        }
        let (ahead, behind) = (number.wrapping_sub(current.newest), current.newest.wrapping_sub(number));
        if ahead <= MOST_MISSING {
            current.newest = number;
        } else if behind > MOST_MISSING {
            if current.expected.replace(number.wrapping_add(1)) != Some(number) {
                return Verdict::Hold;
            }
            let first = current.begin(ssrc, number.wrapping_sub(1));
            current.newest = number;
            return Verdict::Begin(Some(first), first.wrapping_add(1));
        }
        current.expected = None;
        Verdict::Pass(number.wrapping_add(current.offset))
    }

    /// Whether this packet comes behind later ones.
    pub(super) fn is_behind(&self, number: u16) -> bool {
        self.current.as_ref().is_some_and(|current| number != current.newest)
    }
}

impl Current {
    /// Goes on with another stream behind what there is; returns the number of its first packet.
    fn begin(&mut self, ssrc: u32, number: u16) -> u16 {
        let next = self.newest.wrapping_add(self.offset).wrapping_add(1);
        *self = Self { ssrc, newest: number, offset: next.wrapping_sub(number), expected: None };
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(numbering: &mut Numbering, numbers: &[u16]) -> Vec<Verdict> {
        numbers.iter().map(|number| numbering.judge(1, *number)).collect()
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
    fn another_stream_follows_on_the_last_one_at_once() {
        let mut numbering = Numbering::default();
        numbering.judge(1, 65_535);
        assert_eq!(numbering.judge(2, 30_000), Verdict::Begin(None, 0));
        assert_eq!(numbering.judge(2, 30_002), Verdict::Pass(2));
        assert_eq!(numbering.judge(1, 0), Verdict::Begin(None, 3));
    }
}
