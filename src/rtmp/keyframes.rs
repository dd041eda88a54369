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

#[cfg(test)]
mod tests {
    use super::*;

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
