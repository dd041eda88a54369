//! When to ask the sender for a keyframe: a policy without clock or network.
//!
//! Asked shortly after the start (unless the stream starts with one), on loss and on request; asked again with growing
//! pauses until one comes, by FIR when PLI does not help; never more often than [`SHORTEST_PAUSE`], so that a burst of
//! losses does not become a burst of keyframes. A sender that agreed to neither is waited for.

use std::time::{Duration, Instant};

/// Least time between two requests: a keyframe of a slow encoder and a round trip fit in.
pub const SHORTEST_PAUSE: Duration = Duration::from_millis(300);
/// A stream usually starts with a keyframe: only when none has come by then is one asked for.
const START_GRACE: Duration = Duration::from_millis(100);
/// A sender that has not answered by then cannot be asked (some encoders ignore requests); its own keyframe will come.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Requests by PLI (RFC 4585 section 6.3.1) before FIR is tried: it says what is the matter, and a sender that knows
/// both can answer it more cheaply.
const PLIS_FIRST: u32 = 2;

/// A message that asks for a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Picture Loss Indication, RFC 4585 section 6.3.1.
    Pli,
    /// Full Intra Request, RFC 5104 section 4.3.1.
    Fir,
}

/// What the sender has agreed to be asked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// `a=rtcp-fb:… nack pli`
    pub pli: bool,
    /// `a=rtcp-fb:… ccm fir`
    pub fir: bool,
}

/// The state for one video stream.
#[derive(Debug, Default)]
pub struct KeyframePolicy {
    wanted: bool,
    last_request: Option<Instant>,
    /// Not asked before this: the stream has just started.
    grace: Option<Instant>,
    /// Requests since the last keyframe.
    unanswered: u32,
}

impl KeyframePolicy {
    /// The stream starts.
    pub fn start(&mut self, now: Instant) {
        *self = Self { wanted: true, grace: Some(now + START_GRACE), ..Self::default() };
    }

    /// A keyframe is wanted: something was lost, or somebody asks.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A whole keyframe has come.
    pub fn arrived(&mut self) {
        self.wanted = false;
        self.grace = None;
        self.unanswered = 0;
    }

    /// Whether a keyframe is being waited for.
    pub fn is_waiting(&self) -> bool {
        self.wanted
    }

    /// When [`Self::poll`] will next say yes; `None` if no keyframe is wanted.
    pub fn due(&self) -> Option<Due> {
        if !self.wanted {
            return None;
        }
        let next = self.last_request.map(|last| last + self.pause());
        Some(next.max(self.grace).map_or(Due::Now, Due::At))
    }

    /// The request to send now, if any; it counts as sent.
    pub fn poll(&mut self, means: Means, now: Instant) -> Option<Ask> {
        let ask = match means {
            Means { pli: true, fir: true } if self.unanswered >= PLIS_FIRST => Ask::Fir,
            Means { pli: true, .. } => Ask::Pli,
            Means { fir: true, .. } => Ask::Fir,
            Means { .. } => return None, // its own keyframe will come
        };
        let due = match self.due() {
            None => false,
            Some(Due::Now) => true,
            Some(Due::At(time)) => time <= now,
        };
        if due {
            self.last_request = Some(now);
            self.unanswered += 1;
        }
        due.then_some(ask)
    }

    fn pause(&self) -> Duration {
        let doublings = self.unanswered.saturating_sub(1).min(5);
        (SHORTEST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
    }
}

/// When a request is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// Not before this.
    At(Instant),
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLI: Means = Means { pli: true, fir: false };

    /// The milliseconds at which a policy asks, when polled every millisecond of the range.
    fn requests(policy: &mut KeyframePolicy, start: Instant, range: std::ops::Range<u64>) -> Vec<u64> {
        range.filter(|ms| policy.poll(PLI, start + Duration::from_millis(*ms)).is_some()).collect()
    }

    #[test]
    fn nothing_is_asked_unless_a_keyframe_is_wanted() {
        assert!(requests(&mut KeyframePolicy::default(), Instant::now(), 0..5000).is_empty());
    }

    #[test]
    fn an_unanswered_request_is_repeated_with_growing_pauses() {
        let mut policy = KeyframePolicy::default();
        policy.want();
        assert_eq!(requests(&mut policy, Instant::now(), 0..10_000), [0, 300, 900, 2100, 4500, 9300]);
    }

    #[test]
    fn a_stream_that_starts_with_a_keyframe_is_not_asked_for_another() {
        let (mut policy, start) = (KeyframePolicy::default(), Instant::now());
        policy.start(start);
        assert!(requests(&mut policy, start, 0..50).is_empty());
        policy.arrived();
        assert!(requests(&mut policy, start, 50..5000).is_empty());
    }

    #[test]
    fn a_stream_that_starts_without_one_is_asked_after_a_moment() {
        let (mut policy, start) = (KeyframePolicy::default(), Instant::now());
        policy.start(start);
        assert_eq!(requests(&mut policy, start, 0..1500), [100, 400, 1000]);
    }

    #[test]
    fn a_keyframe_ends_the_asking() {
        let (mut policy, start) = (KeyframePolicy::default(), Instant::now());
        policy.want();
        assert_eq!(requests(&mut policy, start, 0..400), [0, 300]);
        policy.arrived();
        assert!(requests(&mut policy, start, 400..5000).is_empty());
    }

    #[test]
    fn a_burst_of_losses_is_one_request_in_300_ms() {
        let (mut policy, start) = (KeyframePolicy::default(), Instant::now());
        let mut asked = Vec::new();
        for ms in 0..1000 {
            policy.want();
            if policy.poll(PLI, start + Duration::from_millis(ms)).is_some() {
                asked.push(ms);
                policy.arrived(); // each request is answered at once
            }
        }
        assert_eq!(asked, [0, 300, 600, 900]);
    }

    #[test]
    fn what_pli_does_not_bring_fir_may() {
        let (start, both) = (Instant::now(), Means { pli: true, fir: true });
        let mut policy = KeyframePolicy::default();
        policy.want();
        let asked: Vec<Ask> = (0..5000).filter_map(|ms| policy.poll(both, start + Duration::from_millis(ms))).collect();
        assert_eq!(asked, [Ask::Pli, Ask::Pli, Ask::Fir, Ask::Fir, Ask::Fir]);
        policy.arrived();
        policy.want();
        assert_eq!(policy.poll(both, start + Duration::from_secs(9)), Some(Ask::Pli), "and then PLI again");
        let fir = Means { pli: false, fir: true };
        assert_eq!(policy.poll(fir, start + Duration::from_secs(19)), Some(Ask::Fir));
    }

    #[test]
    fn who_cannot_be_asked_is_waited_for() {
        let (mut policy, start) = (KeyframePolicy::default(), Instant::now());
        policy.start(start);
        assert_eq!(policy.poll(Means::default(), start + Duration::from_secs(1)), None);
        assert!(policy.is_waiting());
        policy.arrived();
        assert!(!policy.is_waiting());
    }
}
