//! A track's sender reports: what they say, and whether to believe it. Pure.

use std::collections::VecDeque;

use super::{MILLISECOND, Nanos, SECOND};

/// A sender report as it concerns timing (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug)]
pub(in crate::rtp) struct Report {
    /// Which stream it is of.
    pub(in crate::rtp) ssrc: u32,
    /// The sender's clock, 32.32 fixed point.
    pub(in crate::rtp) ntp_time: u64,
    /// The RTP timestamp of the same instant.
    pub(in crate::rtp) rtp_time: u32,
    /// Running time at which it came.
    pub(in crate::rtp) arrival: Nanos,
}

impl Report {
    /// The sender's clock; `None` where it has none and says so with 0.
    pub(super) fn wall_clock(&self) -> Option<Nanos> {
        let seconds = self.ntp_time >> 32;
        let fraction = ((self.ntp_time & 0xFFFF_FFFF) * SECOND as u64) >> 32;
        (seconds > 0).then(|| seconds as Nanos * SECOND + fraction as Nanos)
    }
}

/// Reports of which the median is taken: one in two may be wrong, and 25 s of audio reports are not outdated by drift.
const RECENT: usize = 5;

/// Reports differ by so much without meaning anything: senders estimate the RTP time of the instant.
pub(super) const TOLERANCE: Nanos = 100 * MILLISECOND;

/// Reports are sent every 5 s at least (RFC 3550 section 6.2); those of so long ago are outdated by drift.
const OUTDATED: Nanos = 60 * SECOND;

/// The relation of one stream's media time to its sender's clock.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Sender's clock minus media time, oldest first.
    recent: VecDeque<Nanos>,
    /// The value that counts.
    trusted: Option<Nanos>,
    /// What the median was when it began to depart from that, and the reports since.
    in_doubt: Option<(Nanos, u32)>,
    /// When the last one came.
    last: Nanos,
}

impl Reports {
    /// Takes what a report says; false if it disagrees with what was trusted before.
    pub(super) fn add(&mut self, relation: Nanos, arrival: Nanos) -> bool {
        if self.trusted(arrival).is_none() {
            *self = Self::default();
        }
        self.last = arrival;
        self.recent.push_back(relation);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        if let Some((_, count)) = &mut self.in_doubt {
            *count += 1;
        }
        let trusted = *self.trusted.get_or_insert(relation);
        relation.abs_diff(trusted) <= TOLERANCE as u64
    }

    /// What counts; `None` before the first report, and when the last one is long gone.
    pub(super) fn trusted(&self, now: Nanos) -> Option<Nanos> {
        self.trusted.filter(|_| now - self.last <= OUTDATED)
    }

    /// Whether the median has departed from what counts.
    pub(super) fn departs(&self) -> bool {
        self.trusted.zip(self.median()).is_some_and(|(trusted, median)| median.abs_diff(trusted) > TOLERANCE as u64)
    }

    /// Lets the median count from now on.
    pub(super) fn trust(&mut self) {
        self.trusted = self.median().or(self.trusted);
        self.in_doubt = None;
    }

    /// Notes that what reports say is not trusted for now. True if they say something new since that was noted last.
    pub(super) fn doubt(&mut self) -> bool {
        let Some(median) = self.median() else { return false };
        match self.in_doubt {
            Some((noted, _)) if median.abs_diff(noted) <= TOLERANCE as u64 => false,
            _ => {
                self.in_doubt = Some((median, 0));
                true
            }
        }
    }

    /// Whether two reports have come since the doubt.
    pub(super) fn confirmed(&self) -> bool {
        self.trusted.is_none() || self.in_doubt.is_some_and(|(_, count)| count >= 2)
    }

    fn median(&self) -> Option<Nanos> {
        let mut sorted: Vec<_> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_is_read_to_the_nanosecond_and_zero_is_no_time() {
        let report = |ntp_time| Report { ssrc: 1, ntp_time, rtp_time: 0, arrival: 0 };
        assert_eq!(report(3 << 32 | 1 << 31).wall_clock(), Some(3 * SECOND + SECOND / 2));
        assert_eq!(report(u64::MAX).wall_clock(), Some((1_i64 << 32) * SECOND - 1));
        assert_eq!(report(0).wall_clock(), None);
        assert_eq!(report(0xFFFF_FFFF).wall_clock(), None);
    }

    #[test]
    fn one_wrong_report_among_good_ones_changes_nothing() {
        let mut reports = Reports::default();
        for relation in [1000, 1010, 1020] {
            assert!(reports.add(relation, 0));
            reports.trust();
        }
        assert!(!reports.add(3600 * SECOND, 0));
        assert!(!reports.departs());
        reports.trust();
        assert!(reports.trusted(0).unwrap() < 1100);
    }

    #[test]
    fn a_lasting_change_departs_and_is_confirmed_by_two_more() {
        let mut reports = Reports::default();
        reports.add(0, 0);
        reports.trust();
        let told = (0..10).map_while(|_| {
            reports.add(10 * SECOND, 0);
            (!reports.departs()).then_some(())
        });
        assert_eq!(told.count(), 1); // of 0 and 10 s the lower counts
        assert!(reports.doubt() && !reports.doubt());
        assert!(!reports.confirmed());
        reports.add(10 * SECOND, 0);
        reports.add(10 * SECOND, 0);
        assert!(reports.confirmed());
        reports.trust();
        assert_eq!(reports.trusted(0), Some(10 * SECOND));
    }

    #[test]
    fn outdated_reports_do_not_count() {
        let mut reports = Reports::default();
        reports.add(5, 0);
        assert_eq!((reports.trusted(OUTDATED), reports.trusted(OUTDATED + 1)), (Some(5), None));
        assert!(reports.add(10 * SECOND, OUTDATED + 1), "there is nothing to disagree with");
        assert_eq!(reports.trusted(OUTDATED + 1), Some(10 * SECOND));
    }
}
