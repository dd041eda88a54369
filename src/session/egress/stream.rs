//! One RTP stream that goes out: what it is called on the wire, what was sent of it, what the peer reports of it. Pure.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use rtc::{
    rtcp::{reception_report::ReceptionReport, sender_report::SenderReport},
    rtp,
};

use super::{
    History, OutgoingPacket,
    clock::{self, ClockPoint},
    numbers::Numbers,
    repeats::Repeats,
};
use crate::{
    codec::{MediaKind, Renumbered},
    session::sender::Extensions,
};

/// Sent numbers remembered: two seconds of 10 Mbit/s, as in the history; of audio a packet is 20 ms.
const MOST_SENT: [(MediaKind, usize); 2] = [(MediaKind::Video, 2048), (MediaKind::Audio, 256)];
/// Often enough for the two tracks to stay together, rarely enough to cost nothing.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What was negotiated for a stream.
#[derive(Clone, Debug)]
pub(in crate::session) struct Wire {
    pub(in crate::session) kind: MediaKind,
    pub(in crate::session) clock_rate: u32,
    pub(in crate::session) ssrc: u32,
    pub(in crate::session) payload_type: u8,
    /// SSRC and payload type of its retransmissions.
    pub(in crate::session) rtx: Option<(u32, u8)>,
    /// Whether the peer may ask for packets again.
    pub(in crate::session) nack: bool,
    /// The header extensions that the peer takes.
    pub(in crate::session) extensions: Extensions,
}

/// The stream.
pub(super) struct Stream {
    pub(super) wire: Wire,
    history: Option<Arc<History>>,
    numbers: Numbers,
    rtx_sequence: u16,
    last: Option<u16>,
    /// By sequence number modulo its length.
    sent: Vec<Option<Sent>>,
    /// The dependency descriptors of these, where they go out.
    described: VecDeque<(u16, Bytes)>,
    clock: Option<ClockPoint>,
    reported: Option<Instant>,
    pub(super) counts: Counts,
}

/// A packet that was sent, as far as its source does not keep it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    sequence: u16,
    marker: bool,
    timestamp: u32,
    stored: u64,
    renumbered: Option<Renumbered>,
    repeats: Repeats,
}

/// What is told in statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) retransmitted: u64,
    pub(super) nacked: u64,
    pub(super) unavailable: u64,
    pub(super) probes: u64,
    pub(super) plis: u64,
    pub(super) firs: u64,
    pub(super) dropped: u64,
    pub(super) skips: u64,
    pub(super) fraction_lost: f64,
    pub(super) lost: u64,
    pub(super) jitter: Duration,
    pub(super) round_trip: Option<Duration>,
}

impl Stream {
    /// `base` and `rtx_base` are random (RFC 3550 section 5.1).
    pub(super) fn new(wire: Wire, base: u16, rtx_base: u16) -> Self {
        let most = MOST_SENT.iter().find(|(kind, _)| *kind == wire.kind).map_or(256, |(_, most)| *most);
        Self {
            sent: if wire.nack { vec![None; most] } else { Vec::new() },
            described: VecDeque::new(),
            wire,
            history: None,
            numbers: Numbers::new(base),
            rtx_sequence: rtx_base,
            last: None,
            clock: None,
            reported: None,
            counts: Counts::default(),
        }
    }

    /// Where its packets are kept.
    pub(super) fn keep_in(&mut self, history: Arc<History>) {
        self.history = Some(history);
    }

    pub(super) fn set_clock(&mut self, clock: ClockPoint) {
        self.clock = Some(clock);
    }

    /// Leaves out everything up to this packet, the first of a keyframe.
    pub(super) fn skip_to(&mut self, number: u64) {
        self.numbers.skip_to(number);
    }

    /// A packet as it goes out, without a transport-wide number; `None` if it belongs to what was left out.
    pub(super) fn packet(&mut self, packet: &OutgoingPacket) -> Option<rtp::Packet> {
        let sequence = self.numbers.sequence(packet.number)?;
        self.numbers.sent(packet.number, packet.marker);
        let payload = patched(&packet.payload, packet.renumbered);
        let sent = Sent {
            sequence,
            marker: packet.marker,
            timestamp: packet.timestamp,
            stored: packet.stored,
            renumbered: packet.renumbered,
            repeats: Repeats::default(),
        };
        if let Some(place) = place(&mut self.sent, sequence) {
            *place = Some(sent);
        }
        let dependencies = packet.dependencies.clone().filter(|_| self.wire.extensions.dependencies.is_some());
        if let Some(dependencies) = dependencies.clone().filter(|_| !self.sent.is_empty()) {
            if self.described.len() >= self.sent.len() {
                self.described.pop_front();
            }
            self.described.push_back((sequence, dependencies));
        }
        self.last = Some(sequence);
        self.counts.packets += 1;
        self.counts.bytes += payload.len() as u64;
        let Wire { ssrc, payload_type, .. } = self.wire;
        Some(rtp::Packet { header: self.header((ssrc, payload_type), sequence, &sent, dependencies), payload })
    }

    /// A packet once more: by RTX if that was negotiated (RFC 4588), else as it was. `round_trip` is what is known of it better
    /// than by the peer's reports of this stream.
    pub(super) fn repeat(&mut self, sequence: u16, now: Instant, round_trip: Option<Duration>) -> Option<rtp::Packet> {
        let round_trip = round_trip.or(self.counts.round_trip);
        self.counts.nacked += 1;
        let sent = place(&mut self.sent, sequence).and_then(Option::as_mut).filter(|sent| sent.sequence == sequence);
        let found = sent.and_then(|sent| Some((self.history.as_ref()?.get(sent.stored)?, sent)));
        let Some((payload, sent)) = found else {
            self.counts.unavailable += 1;
            return None;
        };
        if !sent.repeats.take(now, round_trip) {
            return None;
        }
        self.counts.retransmitted += 1;
        let (payload, sent) = (patched(&payload, sent.renumbered), *sent);
        match self.wire.rtx {
            Some(rtx) => Some(self.wrapped(rtx, &sent, &payload)),
            None => {
                let Wire { ssrc, payload_type, .. } = self.wire;
                let dependencies = self.dependencies(sequence);
                Some(rtp::Packet { header: self.header((ssrc, payload_type), sequence, &sent, dependencies), payload })
            }
        }
    }

    /// The last packet once more though nobody has asked, to find out what the network carries; only by RTX, where a peer
    /// takes no harm.
    pub(super) fn probe(&mut self) -> Option<rtp::Packet> {
        let rtx = self.wire.rtx?;
        let sequence = self.last?;
        let sent = (*place(&mut self.sent, sequence)?).filter(|sent| sent.sequence == sequence)?;
        let payload = patched(&self.history.as_ref()?.get(sent.stored)?, sent.renumbered);
        self.counts.probes += 1;
        Some(self.wrapped(rtx, &sent, &payload))
    }

    fn wrapped(&mut self, rtx: (u32, u8), sent: &Sent, payload: &[u8]) -> rtp::Packet {
        let mut wrapped = BytesMut::with_capacity(2 + payload.len());
        wrapped.put_u16(sent.sequence);
        wrapped.extend_from_slice(payload);
        let header = self.header(rtx, self.rtx_sequence, sent, self.dependencies(sent.sequence));
        self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
        rtp::Packet { header, payload: wrapped.freeze() }
    }

    /// What was told of a packet's layer.
    fn dependencies(&self, sequence: u16) -> Option<Bytes> {
        self.described.iter().rev().find(|(of, _)| *of == sequence).map(|(_, told)| told.clone())
    }

    fn header(
        &self,
        (ssrc, payload_type): (u32, u8),
        sequence_number: u16,
        sent: &Sent,
        dependencies: Option<Bytes>,
    ) -> rtp::Header {
        let Sent { marker, timestamp, .. } = *sent;
        let mut header = rtp::Header {
            version: 2,
            marker,
            payload_type,
            sequence_number,
            timestamp,
            ssrc,
            ..rtp::Header::default()
        };
        if let Some((id, told)) = self.wire.extensions.dependencies.zip(dependencies) {
            // The first of the extensions: its length decides how all of them are written. It fails for none that was
            // negotiated.
            let _ = header.set_extension(id, told);
        }
        header
    }

    /// When a sender report is due; `None` as long as there is nothing to report.
    pub(super) fn report_due(&self) -> Option<Instant> {
        let clock = self.clock.filter(|_| self.counts.packets > 0)?;
        Some(self.reported.map_or(clock.at, |last| last + REPORT_INTERVAL))
    }

    /// The sender report of now.
    pub(super) fn report(&mut self, now: Instant) -> Option<SenderReport> {
        let clock = self.clock?;
        self.reported = Some(now);
        Some(SenderReport {
            ssrc: self.wire.ssrc,
            ntp_time: clock::ntp(now),
            rtp_time: clock.rtp_at(now, self.wire.clock_rate),
            packet_count: self.counts.packets as u32,
            octet_count: self.counts.bytes as u32,
            ..SenderReport::default()
        })
    }

    /// What the peer says of this stream.
    pub(super) fn heard(&mut self, report: &ReceptionReport, now: Instant) {
        self.counts.fraction_lost = f64::from(report.fraction_lost) / 256.0;
        self.counts.lost = lost(report.total_lost);
        let jitter = f64::from(report.jitter) / f64::from(self.wire.clock_rate.max(1));
        self.counts.jitter = Duration::from_secs(1).mul_f64(jitter);
        let trip = clock::round_trip(report.last_sender_report, report.delay, now);
        self.counts.round_trip = trip.or(self.counts.round_trip);
    }
}

/// What a report says is lost in all: 24 bits with a sign, as what came twice counts against it (RFC 3550 section 6.4.1).
fn lost(told: u32) -> u64 {
    let signed = (told << 8).cast_signed() >> 8;
    u64::try_from(signed).unwrap_or(0)
}

fn place(sent: &mut [Option<Sent>], sequence: u16) -> Option<&mut Option<Sent>> {
    let length = sent.len().max(1);
    sent.get_mut(usize::from(sequence) % length)
}

fn patched(payload: &Bytes, renumbered: Option<Renumbered>) -> Bytes {
    match renumbered {
        Some(renumbered) => renumbered.apply(payload),
        None => payload.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(rtx: Option<(u32, u8)>) -> Wire {
        Wire {
            kind: MediaKind::Video,
            clock_rate: 90_000,
            ssrc: 7,
            payload_type: 96,
            rtx,
            nack: true,
            extensions: Extensions::default(),
        }
    }

    fn sent(stream: &mut Stream, history: &History, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let payload = Bytes::from(vec![number as u8; 10]);
            let stored = history.store(payload.clone());
            let packet = OutgoingPacket {
                dependencies: None,
                number,
                timestamp: number as u32 * 3000,
                marker: true,
                starts_keyframe: number == 0,
                payload,
                stored,
                renumbered: None,
            };
            assert!(stream.packet(&packet).is_some());
        }
    }

    #[test]
    fn a_lost_packet_comes_again_in_a_stream_of_its_own() {
        let history = Arc::new(History::default());
        let mut stream = Stream::new(wire(Some((8, 97))), 65_534, 9);
        stream.keep_in(history.clone());
        sent(&mut stream, &history, 0..5);
        let now = Instant::now();
        let repeated = stream.repeat(1, now, None).unwrap();
        assert_eq!((repeated.header.ssrc, repeated.header.payload_type, repeated.header.sequence_number), (8, 97, 9));
        assert_eq!(repeated.payload[..], [&[0, 1][..], &[3; 10]].concat());
        assert_eq!((repeated.header.timestamp, repeated.header.marker), (9000, true));
        assert!(stream.repeat(1, now, None).is_none(), "it is on its way");
        assert!(stream.repeat(1, now + Duration::from_millis(20), None).is_some());
        assert!(stream.repeat(60_000, now, None).is_none());
        assert_eq!((stream.counts.nacked, stream.counts.retransmitted, stream.counts.unavailable), (4, 2, 1));
    }

    #[test]
    fn without_rtx_the_packet_itself_comes_again() {
        let history = Arc::new(History::default());
        let mut stream = Stream::new(wire(None), 100, 0);
        stream.keep_in(history.clone());
        sent(&mut stream, &history, 0..3);
        let repeated = stream.repeat(101, Instant::now(), None).unwrap();
        assert_eq!((repeated.header.ssrc, repeated.header.sequence_number, repeated.payload[0]), (7, 101, 1));
    }

    #[test]
    fn numbers_that_came_round_are_not_confused() {
        let history = Arc::new(History::default());
        let mut stream = Stream::new(wire(None), 0, 0);
        stream.keep_in(history.clone());
        sent(&mut stream, &history, 0..2048 + 5);
        assert!(stream.repeat(3, Instant::now(), None).is_none(), "another has its place");
        assert!(stream.repeat(2048 + 3, Instant::now(), None).is_some());
    }

    #[test]
    fn more_that_came_than_was_sent_is_no_loss() {
        assert_eq!([0, 5, 0x7F_FFFF, 0xFF_FFFF, 0x80_0000].map(lost), [0, 5, 0x7F_FFFF, 0, 0]);
    }

    #[test]
    fn reports_go_out_once_a_second_as_soon_as_there_is_something_to_report() {
        let history = Arc::new(History::default());
        let mut stream = Stream::new(wire(None), 0, 0);
        let now = Instant::now();
        stream.set_clock(ClockPoint { rtp_time: 1000, at: now });
        assert_eq!(stream.report_due(), None, "nothing was sent");
        sent(&mut stream, &history, 0..2);
        assert!(stream.report_due().unwrap() <= now);
        let later = now + Duration::from_millis(500);
        let report = stream.report(later).unwrap();
        assert_eq!((report.ssrc, report.rtp_time, report.packet_count, report.octet_count), (7, 46_000, 2, 20));
        assert_eq!(stream.report_due(), Some(later + REPORT_INTERVAL));
        let answer = ReceptionReport {
            ssrc: 7,
            fraction_lost: 64,
            total_lost: 5,
            jitter: 900,
            last_sender_report: (report.ntp_time >> 16) as u32,
            delay: 65_536,
            ..ReceptionReport::default()
        };
        stream.heard(&answer, later + Duration::from_millis(1040));
        assert_eq!((stream.counts.fraction_lost, stream.counts.lost), (0.25, 5));
        assert_eq!(stream.counts.jitter, Duration::from_millis(10));
        assert!(stream.counts.round_trip.unwrap().abs_diff(Duration::from_millis(40)) < Duration::from_millis(1));
    }
}
