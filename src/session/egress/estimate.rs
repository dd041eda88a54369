//! How much a peer's network carries: packets are numbered across streams, the peer reports when each came (transport-wide
//! congestion control, draft-holmer-rmcat-transport-wide-cc-extensions-01), and delays and losses tell. Pure.
//!
//! The parts are the WebRTC stack's: how delays grow, whether that is overuse, what has been received. The rate is ours. The
//! stack's rises by 8 % a second, with which a viewer of a low layer waits for half a minute for the high one; and a source
//! that sends less than the network carries never finds out how much that is. So the rate rises fast as long as nothing
//! speaks against it, to what is of use and no further, and where it failed it is not tried again for a while.

use std::time::{Duration, Instant};

use rtc::{
    interceptor::{
        History as Departures, OveruseDetector, PacketReport, RateCalculator, SlopeEstimator, Usage, convert_twcc,
    },
    rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc,
};

/// What most networks carry; the first report is there after 100 ms.
const INITIAL: f64 = 1_500_000.0;
/// Audio and a very small picture.
const LEAST: f64 = 100_000.0;
const MOST: f64 = 100_000_000.0;
/// After overuse as in GCC (draft-ietf-rmcat-gcc section 5.5), so that the queue in the network empties.
const DECREASE: f64 = 0.85;
/// By how much the rate rises in a second: from 400 kbit/s to 2.5 Mbit/s in three.
const INCREASE: f64 = 2.0;
/// Loss that is congestion, and loss that is none (draft-ietf-rmcat-gcc section 6).
const HIGH_LOSS: f64 = 0.10;
const LOW_LOSS: f64 = 0.02;
/// Rates are not changed more often than that.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long a rate that failed is not exceeded; longer when it fails again. A try costs repeated packets for a second, and
/// no picture.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_PATIENCE: Duration = Duration::from_secs(5);
/// So much of what is of use is as good as all of it.
const ENOUGH: f64 = 0.9;
/// How long a new peer's estimate rises before it counts as what its network carries: to 25 Mbit/s, or to where loss stops it.
const RISE: Duration = Duration::from_secs(4);
/// Packets that one report may be of: half a second of 50 Mbit/s. A few bytes can claim 65,535, and each costs memory.
const MOST_REPORTED: u16 = 2048;
/// By so much later or earlier than the one before it no packet comes because a queue grows.
const LEAP: Duration = Duration::from_secs(1);
/// Packets that nobody has reported on by then were lost, or their reports were.
const FORGET: Duration = Duration::from_secs(2);

/// The estimate for one peer.
pub(super) struct Estimator {
    next: u16,
    departures: Departures,
    pruned: Option<Instant>,
    slope: SlopeEstimator,
    detector: OveruseDetector,
    received: RateCalculator,
    loss: f64,
    rate: f64,
    /// More than this is of no use.
    useful: f64,
    changed: Option<Instant>,
    failed: Option<Failed>,
    /// When the peer reported first.
    first: Option<Instant>,
    /// From the sending of the last packet of a report to that.
    round_trip: Option<Duration>,
    /// When the packet left and came of which the last report was.
    last: Option<(Instant, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    at: Instant,
    rate: f64,
    patience: Duration,
}

impl Estimator {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            departures: Departures::new(),
            pruned: None,
            slope: SlopeEstimator::new(),
            detector: OveruseDetector::new(),
            received: RateCalculator::default(),
            loss: 0.0,
            rate: INITIAL,
            useful: MOST,
            changed: None,
            failed: None,
            first: None,
            round_trip: None,
            last: None,
        }
    }

    /// The number of the next packet, which goes out now.
    pub(super) fn departs(&mut self, ssrc: u32, sequence: u16, size: usize, now: Instant) -> u16 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.departures.add_outgoing(ssrc, sequence, true, number, size, now);
        let due = self.pruned.is_none_or(|last| now.saturating_duration_since(last) >= FORGET);
        if due {
            self.pruned = Some(now);
            self.departures.prune_before(now.checked_sub(FORGET).unwrap_or(now));
        }
        number
    }

    /// More than so many bits per second need not be found out.
    pub(super) fn limit(&mut self, useful: u64) {
        self.useful = (useful as f64).clamp(LEAST, MOST);
    }

    /// Bits per second; `None` as long as the peer has reported nothing.
    pub(super) fn rate(&self) -> Option<u64> {
        self.first.map(|_| self.rate as u64)
    }

    /// The rate as soon as anything has spoken against what was tried, and at last after as long as it takes to rise to what
    /// is of use: before that it is how far the trying has come, and says nothing of the network.
    pub(super) fn bound(&self, now: Instant) -> Option<u64> {
        let is_over = self.first.is_some_and(|first| now.saturating_duration_since(first) >= RISE);
        (self.failed.is_some() || is_over).then(|| self.rate()).flatten()
    }

    /// By how much the rate is above what is sent, in bit/s: whether the network carries that can be found out by sending
    /// more. `None` while it does not rise, or is as high as is of use.
    pub(super) fn unproven(&self, sent: f64, now: Instant) -> Option<f64> {
        // Where nobody says how much is of use, nothing is sent for its own sake.
        let rises = self.first.is_some() && self.useful < MOST && self.loss < LOW_LOSS && self.rate < self.ceiling(now);
        let surplus = self.rate - sent;
        (rises && self.rate < self.useful * ENOUGH && surplus > 0.0).then_some(surplus)
    }

    /// How long a packet and what the peer says of it take, by the last report; none before that.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The share of packets that were lost of late.
    pub(super) fn loss(&self) -> f64 {
        self.loss
    }

    /// A report of the peer's.
    pub(super) fn report(&mut self, feedback: &TransportLayerCc, now: Instant) {
        if feedback.packet_status_count > MOST_REPORTED {
            return;
        }
        let mut round_trip: Option<Duration> = None;
        for acknowledgement in convert_twcc(feedback) {
            let arrived = acknowledgement.arrived;
            let trip = self.departures.on_twcc_feedback(now, acknowledgement).filter(|_| arrived);
            round_trip = [round_trip, trip].into_iter().flatten().min();
        }
        self.round_trip = round_trip.or(self.round_trip);
        let reports = self.departures.take_reports();
        if reports.is_empty() {
            return;
        }
        let mut usage = self.detector.usage();
        for report in &reports {
            if report.arrived {
                self.received.add(now, report.size);
            }
            usage = self.looks(report).unwrap_or(usage);
        }
        let lost = reports.iter().filter(|report| !report.arrived).count();
        let received = self.received.rate_bits_per_second(now);
        self.first.get_or_insert(now);
        self.decide(usage == Usage::Over, lost as f64 / reports.len() as f64, received, now);
    }

    /// What the delay of one more packet says, if it says anything.
    fn looks(&mut self, report: &PacketReport) -> Option<Usage> {
        if report.arrival.is_some_and(|arrival| self.leaps(report.departure, arrival)) {
            (self.slope, self.detector) = (SlopeEstimator::new(), OveruseDetector::new());
        }
        let trend = self.slope.accumulate(report)?;
        Some(self.detector.update(trend.at, trend.estimate_ms))
    }

    /// Whether a packet came much later or earlier than the one before it lets expect. Then the peer's clock has gone round, which
    /// that of the reports does every 12 days, or everything stood still: what the filter learns of that it would take minutes to
    /// hours to forget, and see no delay grow meanwhile.
    fn leaps(&mut self, departure: Instant, arrival: Duration) -> bool {
        let last = self.last.replace((departure, arrival));
        last.is_some_and(|(departed, arrived)| {
            let left = departure.saturating_duration_since(departed).as_secs_f64()
                - departed.saturating_duration_since(departure).as_secs_f64();
            (arrival.as_secs_f64() - arrived.as_secs_f64() - left).abs() > LEAP.as_secs_f64()
        })
    }

    /// `is_over`: delays grow. `lost` is the share of packets that were lost, `received` the bits per second that came.
    fn decide(&mut self, is_over: bool, lost: f64, received: Option<f64>, now: Instant) {
        self.loss += 0.2 * (lost - self.loss);
        let elapsed = self.changed.map_or(INTERVAL, |changed| now.saturating_duration_since(changed));
        if elapsed < INTERVAL {
            return;
        }
        let before = self.rate;
        match received {
            Some(received) if is_over => self.rate = self.rate.min(received * DECREASE),
            _ if self.loss > HIGH_LOSS && lost > HIGH_LOSS => self.rate *= 1.0 - 0.5 * self.loss,
            _ if !is_over && self.loss < LOW_LOSS => {
                let grown = self.rate * INCREASE.powf(elapsed.as_secs_f64().min(1.0));
                self.rate = self.rate.max(grown.min(self.ceiling(now)).min(self.useful));
            }
            _ => {}
        }
        self.rate = self.rate.clamp(LEAST, MOST);
        if self.rate < before {
            self.fail(before, received, now);
        }
        self.changed = Some(now);
    }

    /// What may be tried now.
    fn ceiling(&self, now: Instant) -> f64 {
        match self.failed {
            Some(failed) if now.saturating_duration_since(failed.at) < failed.patience => failed.rate,
            _ => MOST,
        }
    }

    fn fail(&mut self, tried: f64, received: Option<f64>, now: Instant) {
        let rate = received.map_or(tried, |received| received.min(tried)).max(self.rate);
        // The same attempt once more: one that comes right after another is still the first.
        let again = self.failed.filter(|last| {
            let since = now.saturating_duration_since(last.at);
            since >= last.patience && since < last.patience * 4
        });
        let patience = match (again, self.failed) {
            (Some(last), _) => (last.patience * 2).min(MOST_PATIENCE),
            (None, Some(last)) if now.saturating_duration_since(last.at) < last.patience => last.patience,
            _ => PATIENCE,
        };
        self.failed = Some(Failed { at: now, rate, patience });
    }
}

#[cfg(test)]
mod tests {
    use rtc::rtcp::transport_feedbacks::{
        cc_feedback_report::Ecn,
        transport_layer_cc::{PacketStatusChunk, RunLengthChunk, StatusChunkTypeTcc, SymbolTypeTcc},
    };

    use super::*;

    struct Network {
        estimator: Estimator,
        now: Instant,
    }

    impl Network {
        fn new() -> Self {
            let mut estimator = Estimator::new();
            let now = Instant::now();
            estimator.first = Some(now);
            Self { estimator, now }
        }

        /// So many seconds in which this much goes through, of as much as is estimated.
        fn runs(&mut self, seconds: u32, capacity: f64) -> f64 {
            for _ in 0..seconds * 10 {
                self.now += Duration::from_millis(100);
                let rate = self.estimator.rate;
                self.estimator.decide(rate > capacity, 0.0, Some(rate.min(capacity)), self.now);
            }
            self.estimator.rate
        }
    }

    #[test]
    fn a_throttled_network_is_followed_within_a_second_and_its_return_within_ten() {
        let mut network = Network::new();
        network.estimator.limit(4_000_000);
        assert_eq!(network.runs(5, 50_000_000.0), 4_000_000.0, "no further than is of use");
        let throttled = network.runs(1, 400_000.0);
        assert!(throttled <= 400_000.0, "{throttled}");
        network.runs(10, 400_000.0);
        let back = network.runs(10, 50_000_000.0);
        assert!(back > 2_500_000.0, "{back}");
    }

    #[test]
    fn a_new_estimate_bounds_nothing_until_the_network_has_shown_what_it_carries() {
        let mut good = Network::new();
        good.estimator.limit(4_000_000);
        good.runs(1, 50_000_000.0);
        assert_eq!(good.estimator.bound(good.now), None);
        good.runs(4, 50_000_000.0);
        assert_eq!(good.estimator.bound(good.now), Some(4_000_000));
        let mut narrow = Network::new();
        narrow.runs(1, 400_000.0);
        let bound = narrow.estimator.bound(narrow.now);
        assert!(bound.is_some_and(|bound| bound <= 400_000), "{bound:?}");
        assert_eq!(Estimator::new().bound(Instant::now()), None, "nobody has reported");
    }

    #[test]
    fn what_fails_again_and_again_is_tried_less_and_less() {
        let mut network = Network::new();
        let mut attempts = Vec::new();
        for second in 0..120 {
            let before = network.estimator.failed.map(|failed| failed.patience);
            network.runs(1, 400_000.0);
            if network.estimator.failed.map(|failed| failed.patience) != before {
                attempts.push(second);
            }
        }
        assert!(attempts.len() >= 2, "{attempts:?}");
        assert_eq!(network.estimator.failed.map(|failed| failed.patience), Some(MOST_PATIENCE));
    }

    #[test]
    fn a_little_loss_is_no_congestion_and_much_is() {
        let mut network = Network::new();
        let before = network.estimator.rate;
        for _ in 0..100 {
            network.now += Duration::from_millis(100);
            network.estimator.decide(false, 0.03, Some(before), network.now);
        }
        assert!(network.estimator.rate >= before);
        for _ in 0..100 {
            network.now += Duration::from_millis(100);
            network.estimator.decide(false, 0.3, Some(before), network.now);
        }
        assert!(network.estimator.rate < before / 4.0, "{}", network.estimator.rate);
        assert!(network.estimator.rate >= LEAST);
    }

    #[test]
    fn a_report_of_more_than_can_have_been_sent_is_not_looked_at() {
        let mut estimator = Estimator::new();
        let now = Instant::now();
        estimator.departs(1, 0, 1200, now);
        let mut feedback = TransportLayerCc { packet_status_count: 65_535, ..TransportLayerCc::default() };
        estimator.report(&feedback, now);
        assert_eq!(estimator.rate(), None);
        let run = RunLengthChunk {
            type_tcc: StatusChunkTypeTcc::RunLengthChunk,
            packet_status_symbol: SymbolTypeTcc::PacketReceivedWithoutDelta,
            run_length: 1,
        };
        feedback.packet_status_count = 1;
        feedback.packet_chunks = vec![PacketStatusChunk::RunLengthChunk(run)];
        estimator.report(&feedback, now);
        assert!(estimator.rate().is_some());
    }

    #[test]
    fn delays_that_grow_are_noticed_soon_after_the_peers_clock_has_gone_round_or_all_stood_still() {
        let round = -((1_i64 << 24) * 64);
        // The last takes no notice of leaps, so that it is seen what they would do.
        for (leap, knows) in [(0, true), (3000, true), (round, true), (round, false)] {
            let (mut estimator, start) = (Estimator::new(), Instant::now());
            let mut looks = |packet: u32, late: i64| {
                estimator.last = estimator.last.filter(|_| knows);
                let departure = start + Duration::from_millis(10) * packet;
                let arrival = (1_i64 << 24) * 64 + i64::from(packet) * 10 + late;
                estimator.looks(&PacketReport {
                    ssrc: 1,
                    id: packet.into(),
                    rtp_sequence_number: packet as u16,
                    is_twcc: true,
                    twcc_sequence_number: packet as u16,
                    size: 1200,
                    arrived: true,
                    departure,
                    arrival: Some(Duration::from_millis(arrival as u64)),
                    ecn: Ecn::default(),
                })
            };
            for packet in 0..2000 {
                let over = looks(packet, i64::from(packet % 3)) == Some(Usage::Over);
                assert!(!over, "{leap}: {packet}");
            }
            for packet in 2000..2200 {
                looks(packet, leap + i64::from(packet % 3));
            }
            // The network carries two fifths of what is sent.
            let noticed = (2200..2500).find(|packet| {
                let grown = i64::from(packet - 2200) * 15;
                looks(*packet, leap + grown) == Some(Usage::Over)
            });
            assert_eq!(noticed.is_some_and(|packet| packet < 2400), knows, "{leap}: {noticed:?}");
        }
    }

    #[test]
    fn memory_of_what_departed_is_bounded_without_reports() {
        let mut estimator = Estimator::new();
        let start = Instant::now();
        for millisecond in 0..60_000 {
            estimator.departs(1, millisecond as u16, 1200, start + Duration::from_millis(millisecond));
        }
        assert!(estimator.departures.len() <= 4 * 2000, "{}", estimator.departures.len());
        assert_eq!(estimator.rate(), None);
    }
}
