//! One track's timestamps, made fit for RTMP. Pure.

/// Makes the timestamps of one track rise, whatever comes in. All times are in ns of running time.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    last_dts: Option<i64>,
}

/// A unit's place in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dts: i64,
    pub(super) pts: i64,
    /// Whether the input's timestamps could not be taken as they were.
    pub(super) repaired: bool,
}

impl Timeline {
    /// Places a unit. `now` stands in for timestamps that are missing altogether.
    pub(super) fn place(&mut self, dts: Option<i64>, pts: Option<i64>, now: i64) -> Place {
        let given_dts = dts.or(pts);
        let floor = self.last_dts.unwrap_or(i64::MIN);
        let dts = given_dts.unwrap_or(now).max(floor);
        let pts = pts.unwrap_or(dts);
        self.last_dts = Some(dts);
        let repaired = given_dts != Some(dts) || pts < dts;
        Place { dts, pts: pts.max(dts), repaired }
    }

    /// Time starts over.
    pub(super) fn reset(&mut self) {
        self.last_dts = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dts: i64, pts: i64, repaired: bool) -> Place {
        Place { dts, pts, repaired }
    }

    #[test]
    fn good_timestamps_are_untouched() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.place(Some(0), Some(66), 500), place(0, 66, false));
        assert_eq!(timeline.place(Some(33), Some(33), 500), place(33, 33, false));
        assert_eq!(timeline.place(None, Some(66), 500), place(66, 66, false));
        assert_eq!(timeline.place(Some(99), None, 500), place(99, 99, false));
    }

    #[test]
    fn backwards_and_missing_timestamps_are_repaired() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.place(None, None, 500), place(500, 500, true));
        assert_eq!(timeline.place(Some(400), Some(450), 510), place(500, 500, true));
        assert_eq!(timeline.place(Some(600), Some(550), 520), place(600, 600, true));
    }
}
