//! When the stream has ended: every linked pad has seen EOS. Pure.

/// A pad as far as EOS goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PadEnd {
    /// A pad that nothing is linked to never ends and must not be waited for.
    pub(super) linked: bool,
    /// EOS has come in.
    pub(super) arrived: bool,
    /// Everything before it has gone out.
    pub(super) drained: bool,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// Some pad goes on.
    No,
    /// EOS is in on every linked pad; some still drain.
    Arrived,
    /// All is out.
    Drained,
}

/// Judges all pads together. Without any EOS there is no end, also when all pads are unlinked.
pub(super) fn judge(pads: &[PadEnd]) -> Ending {
    let ended = |end: fn(&PadEnd) -> bool| pads.iter().any(end) && pads.iter().all(|pad| end(pad) || !pad.linked);
    if !ended(|pad| pad.arrived) {
        Ending::No
    } else if ended(|pad| pad.drained) {
        Ending::Drained
    } else {
        Ending::Arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: PadEnd = PadEnd { linked: true, arrived: false, drained: false };
    const UNLINKED: PadEnd = PadEnd { linked: false, arrived: false, drained: false };
    const ARRIVED: PadEnd = PadEnd { linked: true, arrived: true, drained: false };
    const DRAINED: PadEnd = PadEnd { linked: true, arrived: true, drained: true };

    #[test]
    fn every_linked_pad_has_to_end() {
        assert_eq!(judge(&[DRAINED, RUNS]), Ending::No);
        assert_eq!(judge(&[DRAINED, ARRIVED]), Ending::Arrived);
        assert_eq!(judge(&[DRAINED, DRAINED]), Ending::Drained);
    }

    #[test]
    fn unlinked_pads_hold_nothing_back_and_end_nothing() {
        assert_eq!(judge(&[DRAINED, UNLINKED]), Ending::Drained);
        assert_eq!(judge(&[UNLINKED]), Ending::No);
        assert_eq!(judge(&[]), Ending::No);
    }
}
