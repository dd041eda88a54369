//! When the stream has ended: every linked pad has seen EOS, and all before it has gone out. Pure.

/// A pad as far as EOS goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PadEnd {
    /// A pad that nothing is linked to never ends and is not waited for.
    pub(super) linked: bool,
    /// EOS has come in, and everything before it has gone out.
    pub(super) drained: bool,
}

/// Judges all pads together. Without any EOS there is no end.
pub(super) fn has_ended(pads: &[PadEnd]) -> bool {
    pads.iter().any(|pad| pad.drained) && pads.iter().all(|pad| pad.drained || !pad.linked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: PadEnd = PadEnd { linked: true, drained: false };
    const UNLINKED: PadEnd = PadEnd { linked: false, drained: false };
    const DRAINED: PadEnd = PadEnd { linked: true, drained: true };

    #[test]
    fn every_linked_pad_has_to_end_and_unlinked_ones_end_nothing() {
        assert!(has_ended(&[DRAINED, UNLINKED]) && has_ended(&[DRAINED, DRAINED]));
        assert!(!has_ended(&[DRAINED, RUNS]) && !has_ended(&[UNLINKED]) && !has_ended(&[]));
    }
}
