//! When to ask the encoder or the publisher for a keyframe. Pure.

use std::time::{Duration, Instant};

/// A keyframe takes a round trip and a frame to come; asking more often only makes the publisher send several.
const FIRST: Duration = Duration::from_millis(300);
/// A source that ignored that many requests has no keyframe to give before its time.
const LAST: Duration = Duration::from_millis(2400);

/// Spaces requests: at once, then after 300 ms, then twice as long each time, until a keyframe comes.
#[derive(Debug, Default)]
pub struct KeyframeRequests {
    last: Option<(Instant, Duration)>,
}

impl KeyframeRequests {
    /// A keyframe is needed at `now`: whether to ask for it.
    pub fn should_ask(&mut self, now: Instant) -> bool {
        let spacing = match self.last {
            None => FIRST,
            Some((asked, spacing)) if now.duration_since(asked) >= spacing => (spacing * 2).min(LAST),
            Some(_) => return false,
        };
        self.last = Some((now, spacing));
        true
    }

    /// One came. The next request still keeps its distance from the last one.
    pub fn came(&mut self) {
        if let Some((_, spacing)) = &mut self.last {
            *spacing = FIRST;
        }
    }
}

/// Tells when a stream's keyframes are further apart than they should be. Browsers make them only when asked; players
/// can begin, and servers can cut segments, only at one.
#[derive(Debug)]
pub struct Cadence {
    longest_ns: i64,
    last_keyframe: Option<i64>,
}

impl Cadence {
    /// For keyframes `interval` apart. A tenth more is let pass, so that a sender's own keyframes come first.
    pub fn new(interval: Duration) -> Self {
        let longest_ns = i64::try_from((interval + interval / 10).as_nanos()).unwrap_or(i64::MAX);
        Self { longest_ns, last_keyframe: None }
    }

    /// Takes note of a picture; whether a keyframe is overdue.
    pub fn is_overdue(&mut self, dts: i64, keyframe: bool) -> bool {
        if keyframe {
            self.last_keyframe = Some(dts);
        }
        self.last_keyframe.is_some_and(|last| dts.saturating_sub(last) > self.longest_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_with_regular_keyframes_is_never_overdue() {
        let mut cadence = Cadence::new(Duration::from_secs(2));
        assert!((0..300).all(|picture| !cadence.is_overdue(picture * 33_333_333, picture % 60 == 0)));
    }

    #[test]
    fn a_stream_without_keyframes_is_overdue_until_one_comes() {
        let mut cadence = Cadence::new(Duration::from_secs(2));
        assert!(!cadence.is_overdue(0, true));
        assert!(!cadence.is_overdue(2_200_000_000, false));
        assert!(cadence.is_overdue(2_233_000_000, false));
        assert!(!cadence.is_overdue(2_266_000_000, true));
    }

    #[test]
    fn requests_are_spaced_further_and_further() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::default();
        let asked: Vec<u64> = (0..4000).filter(|ms| requests.should_ask(start + Duration::from_millis(*ms))).collect();
        assert_eq!(asked, [0, 300, 900, 2100]);
    }

    #[test]
    fn keyframe_resets_the_spacing_but_not_the_distance() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::default();
        assert!(requests.should_ask(start));
        requests.came();
        assert!(!requests.should_ask(start + Duration::from_millis(299)));
        assert!(requests.should_ask(start + Duration::from_millis(300)));
    }
}
