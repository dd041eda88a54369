//! Makes one RTP stream of several: sequence numbers and timestamps go on where one layer ends and another begins. Pure.
//!
//! The jitter buffer and the depayloader behind see one sender. A single layer passes as it came; which layer it should
//! be, and when to change, is decided in `switch`.

use std::time::{Duration, Instant};

use super::{RtpPacket, SenderReport};

/// How long retransmissions of the layer that was left still fill its gaps.
const TAIL: Duration = Duration::from_secs(1);
/// Reports and timestamps that disagree with arrival by more are not believed.
const MOST_DISAGREEMENT: Duration = Duration::from_secs(2);
/// Layers whose timestamps agree with arrival so closely are of one time base.
const SAME_BASE: Duration = Duration::from_millis(300);
/// Older reports no longer tell the time of a clock that drifts.
const REPORT_AGE: Duration = Duration::from_secs(60);

/// How the numbers of one layer become those that go out.
#[derive(Clone, Copy, Debug, Default)]
struct Mapping {
    sequence: u16,
    timestamp: u32,
}

impl Mapping {
    fn apply(self, packet: &mut RtpPacket) {
        packet.sequence_number = packet.sequence_number.wrapping_add(self.sequence);
        packet.timestamp = packet.timestamp.wrapping_add(self.timestamp);
    }
}

/// The newest packet that went out, by sequence number.
#[derive(Clone, Copy, Debug)]
struct Newest {
    sequence: u16,
    timestamp: u32,
    arrival: Instant,
    /// More of its frame is to come.
    is_open: bool,
}

/// The layer that was left.
#[derive(Clone, Copy, Debug)]
struct Tail {
    mapping: Mapping,
    /// Its last number that went out.
    last: u16,
    since: Instant,
}

/// One outgoing stream.
#[derive(Debug)]
pub(super) struct Splice {
    clock_rate: u32,
    ssrc: Option<u32>,
    current: Mapping,
    /// The first number that is taken of the current layer; `None` once it is long past.
    from: Option<u16>,
    newest: Option<Newest>,
    tail: Option<Tail>,
}

impl Splice {
    pub(super) fn new(clock_rate: u32) -> Self {
        Self { clock_rate, ssrc: None, current: Mapping::default(), from: None, newest: None, tail: None }
    }

    /// A packet of the current layer as it goes out; `None` if it belongs before the switch.
    pub(super) fn current(&mut self, mut packet: RtpPacket) -> Option<RtpPacket> {
        if let Some(from) = self.from {
            let ahead = packet.sequence_number.wrapping_sub(from);
            if ahead >= 0x8000 {
                return None;
            }
            if ahead > 0x4000 {
                self.from = None;
            }
        }
        packet.ssrc = *self.ssrc.get_or_insert(packet.ssrc);
        self.current.apply(&mut packet);
        let is_newest =
            self.newest.is_none_or(|newest| packet.sequence_number.wrapping_sub(newest.sequence).cast_signed() > 0);
        if is_newest {
            // Packets of padding alone come between frames and are no part of one.
            let is_open = if packet.payload.is_empty() { self.is_open() } else { !packet.marker };
            self.newest = Some(Newest {
                sequence: packet.sequence_number,
                timestamp: packet.timestamp,
                arrival: packet.arrival,
                is_open,
            });
        }
        Some(packet)
    }

    /// A packet of the layer that was left, if it fills a gap before the switch.
    pub(super) fn tail(&self, mut packet: RtpPacket) -> Option<RtpPacket> {
        let tail = self.tail.filter(|tail| packet.arrival.saturating_duration_since(tail.since) < TAIL)?;
        if tail.last.wrapping_sub(packet.sequence_number) >= 0x8000 {
            return None;
        }
        packet.ssrc = self.ssrc?;
        tail.mapping.apply(&mut packet);
        Some(packet)
    }

    /// Whether the last frame that went out still lacks its end.
    pub(super) fn is_open(&self) -> bool {
        self.newest.is_some_and(|newest| newest.is_open)
    }

    /// Goes over to the layer that this packet is of, the first of a keyframe if `is_clean`. `reports` are the last ones of
    /// the layer that is left and of this one.
    pub(super) fn switch(
        &mut self,
        first: &RtpPacket,
        is_clean: bool,
        reports: (Option<SenderReport>, Option<SenderReport>),
    ) {
        let Some(newest) = self.newest else { return };
        // A frame that was cut off must not look whole: with a number missing the depayloader drops it.
        let skipped = if newest.is_open || !is_clean { 2 } else { 1 };
        let timestamp = self.continued(first, newest, reports);
        self.tail = Some(Tail {
            mapping: self.current,
            last: newest.sequence.wrapping_sub(self.current.sequence),
            since: first.arrival,
        });
        self.current = Mapping {
            sequence: newest.sequence.wrapping_add(skipped).wrapping_sub(first.sequence_number),
            timestamp: timestamp.wrapping_sub(first.timestamp),
        };
        self.from = Some(first.sequence_number);
    }

    /// A report of the current layer, in the time that goes out.
    pub(super) fn report(&self, report: SenderReport) -> SenderReport {
        let ssrc = self.ssrc.unwrap_or(report.ssrc);
        SenderReport { ssrc, rtp_time: report.rtp_time.wrapping_add(self.current.timestamp), ..report }
    }

    /// The outgoing timestamp of the new layer's first frame: by both layers' reports, else by their common base, else by
    /// when it came; in any case after what went out.
    fn continued(
        &self,
        first: &RtpPacket,
        newest: Newest,
        reports: (Option<SenderReport>, Option<SenderReport>),
    ) -> u32 {
        let elapsed = first.arrival.saturating_duration_since(newest.arrival);
        let by_arrival = newest.timestamp.wrapping_add(self.ticks(elapsed));
        let off = |timestamp: u32| timestamp.wrapping_sub(by_arrival).cast_signed().unsigned_abs();
        let by_reports = self.by_reports(first, reports).filter(|time| off(*time) < self.ticks(MOST_DISAGREEMENT));
        let by_base = Some(first.timestamp.wrapping_add(self.current.timestamp))
            .filter(|time| off(*time) < self.ticks(SAME_BASE));
        let timestamp = by_reports.or(by_base).unwrap_or(by_arrival);
        let ahead = timestamp.wrapping_sub(newest.timestamp).cast_signed();
        let least = (self.clock_rate / 1000).max(1).cast_signed(); // a millisecond, which is what RTMP can tell apart
        if ahead < least { newest.timestamp.wrapping_add(least.cast_unsigned()) } else { timestamp }
    }

    fn by_reports(&self, first: &RtpPacket, reports: (Option<SenderReport>, Option<SenderReport>)) -> Option<u32> {
        let (old, new) = (reports.0?, reports.1?);
        let is_fresh = |report: SenderReport| first.arrival.saturating_duration_since(report.arrival) < REPORT_AGE;
        (is_fresh(old) && is_fresh(new)).then_some(())?;
        // How much later the new layer's report is on the sender's clock, in RTP units.
        let later = i128::from(new.ntp_time.wrapping_sub(old.ntp_time).cast_signed()) * i128::from(self.clock_rate);
        let since_new = i128::from(first.timestamp.wrapping_sub(new.rtp_time).cast_signed());
        let old_time = i128::from(old.rtp_time) + (later >> 32) + since_new;
        Some((old_time as u32).wrapping_add(self.current.timestamp)) // modulo 2^32, as RTP time is
    }

    fn ticks(&self, duration: Duration) -> u32 {
        (duration.as_micros() * u128::from(self.clock_rate) / 1_000_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const RATE: u32 = 90_000;

    fn packet(start: Instant, ms: u64, sequence_number: u16, timestamp: u32, marker: bool) -> RtpPacket {
        RtpPacket {
            dependencies: None,
            marker,
            payload_type: 96,
            sequence_number,
            timestamp,
            ssrc: u32::from(sequence_number) / 1000,
            payload: Bytes::from_static(&[1]),
            arrival: start + Duration::from_millis(ms),
        }
    }

    fn report(start: Instant, ntp_ms: u64, rtp_time: u32) -> SenderReport {
        SenderReport { ssrc: 1, ntp_time: (ntp_ms << 32) / 1000, rtp_time, arrival: start }
    }

    /// A splice that has passed a frame of two packets, numbers 1000 and 1001 at 3000.
    fn started(start: Instant) -> Splice {
        let mut splice = Splice::new(RATE);
        splice.current(packet(start, 0, 1000, 3000, false)).unwrap();
        splice.current(packet(start, 0, 1001, 3000, true)).unwrap();
        splice
    }

    fn numbers(packet: Option<RtpPacket>) -> Option<(u16, u32, u32)> {
        packet.map(|packet| (packet.sequence_number, packet.timestamp, packet.ssrc))
    }

    #[test]
    fn a_single_layer_passes_as_it_came() {
        let start = Instant::now();
        let mut splice = started(start);
        assert_eq!(numbers(splice.current(packet(start, 33, 1002, 5970, true))), Some((1002, 5970, 1)));
        assert_eq!(numbers(splice.current(packet(start, 33, 999, 0, true))), Some((999, 0, 1)), "late ones as well");
    }

    #[test]
    fn a_switch_goes_on_with_the_next_number_and_by_arrival() {
        let start = Instant::now();
        let mut splice = started(start);
        let first = packet(start, 40, 50_000, 7_000_000, false);
        splice.switch(&first, true, (None, None));
        assert_eq!(numbers(splice.current(first)), Some((1002, 3000 + 3600, 1)));
        assert_eq!(
            numbers(splice.current(packet(start, 73, 50_001, 7_002_970, true))),
            Some((1003, 3000 + 3600 + 2970, 1))
        );
        assert_eq!(numbers(splice.current(packet(start, 74, 49_999, 6_997_030, true))), None, "before the keyframe");
    }

    #[test]
    fn sender_reports_tell_better_than_arrival() {
        let start = Instant::now();
        let mut splice = started(start);
        // The old layer's 3000 was at 10 s of the sender's clock; the new one's 7_000_000 is 50 ms later, and came 90 ms later.
        let first = packet(start, 90, 50_000, 7_000_000, true);
        let reports = (report(start, 10_000, 3000), report(start, 10_350, 7_000_000 + 27_000));
        splice.switch(&first, true, (Some(reports.0), Some(reports.1)));
        let (sequence, timestamp, _) = numbers(splice.current(first)).unwrap();
        assert_eq!((sequence, timestamp.abs_diff(3000 + 4500) <= 1), (1002, true), "{timestamp}");
        assert_eq!(splice.report(reports.1).rtp_time, timestamp + 27_000);
    }

    #[test]
    fn reports_that_lie_are_not_believed() {
        let start = Instant::now();
        let mut splice = started(start);
        let first = packet(start, 40, 50_000, 7_000_000, true);
        let reports = (Some(report(start, 10_000, 3000)), Some(report(start, 99_000, 7_000_000)));
        splice.switch(&first, true, reports);
        assert_eq!(numbers(splice.current(first)), Some((1002, 3000 + 3600, 1)));
    }

    #[test]
    fn layers_of_one_time_base_keep_it() {
        let start = Instant::now();
        let mut splice = started(start);
        let first = packet(start, 60, 50_000, 5970, true);
        splice.switch(&first, true, (None, None));
        assert_eq!(numbers(splice.current(first)), Some((1002, 5970, 1)), "33 ms, though it took 60");
    }

    #[test]
    fn time_never_stands_still_or_goes_back() {
        let start = Instant::now();
        for timestamp in [3000, 2000] {
            let mut splice = started(start);
            let first = packet(start, 1, 50_000, timestamp, true); // the same picture, or an earlier one
            splice.switch(&first, true, (None, None));
            assert_eq!(numbers(splice.current(first)), Some((1002, 3090, 1)));
        }
    }

    #[test]
    fn a_frame_that_was_cut_off_leaves_a_gap() {
        let start = Instant::now();
        let mut splice = started(start);
        splice.current(packet(start, 33, 1002, 5970, false)).unwrap();
        assert!(splice.is_open());
        let first = packet(start, 700, 50_000, 0, true);
        splice.switch(&first, true, (None, None));
        assert_eq!(numbers(splice.current(first)).map(|numbers| numbers.0), Some(1004));
        let middle = packet(start, 1400, 1, 0, true);
        splice.switch(&middle, false, (None, None));
        assert_eq!(
            numbers(splice.current(middle)).map(|numbers| numbers.0),
            Some(1006),
            "so does one that begins amid"
        );
    }

    #[test]
    fn padding_is_no_part_of_a_frame() {
        let start = Instant::now();
        let mut splice = started(start);
        let padding = RtpPacket { payload: Bytes::new(), ..packet(start, 5, 1002, 3000, false) };
        assert_eq!(numbers(splice.current(padding)), Some((1002, 3000, 1)));
        assert!(!splice.is_open());
    }

    #[test]
    fn retransmissions_of_the_layer_that_was_left_still_fill_its_gaps() {
        let start = Instant::now();
        let mut splice = started(start);
        splice.current(packet(start, 33, 1003, 5970, true)).unwrap();
        let first = packet(start, 40, 50_000, 0, true);
        splice.switch(&first, true, (None, None));
        splice.current(first).unwrap();
        assert_eq!(numbers(splice.tail(packet(start, 60, 1002, 5970, false))), Some((1002, 5970, 1)));
        assert_eq!(numbers(splice.tail(packet(start, 60, 1004, 8940, true))), None, "after the switch");
        assert_eq!(numbers(splice.tail(packet(start, 1500, 1002, 5970, false))), None, "too late");
        // Back again: what goes out never repeats a number.
        let back = packet(start, 2000, 1060, 180_000, true);
        splice.switch(&back, true, (None, None));
        assert_eq!(numbers(splice.current(back)).map(|numbers| numbers.0), Some(1005));
    }

    #[test]
    fn numbers_wrap() {
        let start = Instant::now();
        let mut splice = Splice::new(RATE);
        splice.current(packet(start, 0, 65_535, u32::MAX, true)).unwrap();
        let first = packet(start, 1000, 7, 7_000_000, true);
        splice.switch(&first, true, (None, None));
        assert_eq!(numbers(splice.current(first)), Some((0, RATE - 1, 65)));
    }
}
