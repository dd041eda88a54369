//! Who may publish: one at a time, and when the next may take over. Pure: time is an argument.

use std::time::{Duration, Instant};

/// A publisher that sends nothing for so long may be replaced by anyone: it has crashed, or its network has.
pub const SILENCE: Duration = Duration::from_secs(2);

/// What is known of the publisher that is there.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// When it was answered.
    pub since: Instant,
    /// When its last media packet came.
    pub last_media: Option<Instant>,
}

/// Whether a new publisher may replace the present one.
///
/// With a token all publishers have the same credential, so the newcomer is the old one come back and takes over at once:
/// encoders reconnect with the same key before we can know that they were gone.
pub fn may_replace(present: Present, same_credential: bool, now: Instant) -> bool {
    let last_sign = present.last_media.unwrap_or(present.since);
    same_credential || now.saturating_duration_since(last_sign) >= SILENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(silence: u64, media: bool, same_credential: bool) -> bool {
        let since = Instant::now();
        let last_media = media.then_some(since);
        may_replace(Present { since, last_media }, same_credential, since + Duration::from_millis(silence))
    }

    #[test]
    fn a_live_publisher_keeps_its_place() {
        assert!(!after(1999, true, false));
    }

    #[test]
    fn a_silent_one_loses_it_after_2_s_whether_it_ever_sent_or_not() {
        assert!(after(2000, true, false));
        assert!(after(2000, false, false));
        assert!(!after(1999, false, false));
    }

    #[test]
    fn the_same_credential_takes_over_at_once() {
        assert!(after(0, true, true));
    }
}
