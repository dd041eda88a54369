//! RED: what an audio packet repeats of those before it becomes these again (RFC 2198), where they have not come.
//!
//! Stands between the tap and the session's [`PacketSink`], which sees packets of the codec itself and nothing of RED.
//! Sequence numbers are inferred: a sender repeats what it sent last, so the last of the repeated blocks was in the packet
//! before this one. That packet's time is in the block's header.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;

use super::{ConnectionState, EndReason, PacketSink, RtpPacket, SenderReport, track::Track};

/// Repeated blocks read of one packet. Chromium sends one; the jitter buffer has no use for what is older than this.
const MOST_BLOCKS: usize = 8;

/// What has become of packets with redundancy.
#[derive(Debug, Default)]
pub(super) struct RedCounts {
    /// Lost packets that a later one repeated.
    pub(super) recovered: AtomicU64,
    /// Packets that are no RED, although their payload type says so: dropped.
    pub(super) malformed: AtomicU64,
}

/// A sink that takes what the tap gives, redundancy included, and hands on plain packets, each once.
pub(super) struct RedSink {
    inner: Arc<dyn PacketSink>,
    /// By the track's index; `None` where no redundancy was negotiated.
    tracks: Vec<Option<Mutex<Unwrap>>>,
    counts: Arc<RedCounts>,
}

impl RedSink {
    pub(super) fn new(inner: Arc<dyn PacketSink>, tracks: &[Track], counts: Arc<RedCounts>) -> Self {
        let unwrap = |track: &Track| track.red.map(|red| Mutex::new(Unwrap::new(red, track.payload_type)));
        Self { inner, tracks: tracks.iter().map(unwrap).collect(), counts }
    }
}

impl PacketSink for RedSink {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        let Some(Some(unwrap)) = self.tracks.get(track) else { return self.inner.rtp(track, packet) };
        // Never contended: all packets of a session come from one thread.
        let mut unwrap = unwrap.lock().unwrap_or_else(PoisonError::into_inner);
        let recovered = unwrap.accept(packet, |packet| self.inner.rtp(track, packet));
        match recovered {
            Ok(recovered) => self.counts.recovered.fetch_add(recovered, Relaxed),
            Err(Malformed) => self.counts.malformed.fetch_add(1, Relaxed),
        };
    }

    fn layer_rtp(&self, track: usize, packet: &RtpPacket) {
        self.inner.layer_rtp(track, packet); // of video, which has no redundancy of this kind
    }

    fn layer_report(&self, track: usize, report: SenderReport) {
        self.inner.layer_report(track, report);
    }

    fn sender_report(&self, track: usize, report: SenderReport) {
        self.inner.sender_report(track, report);
    }

    fn state_changed(&self, state: ConnectionState) {
        self.inner.state_changed(state);
    }

    fn ended(&self, reason: EndReason) {
        self.inner.ended(reason);
    }

    fn resumed(&self) {
        self.inner.resumed();
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One track.
pub(super) struct Unwrap {
    red: u8,
    media: u8,
    delivered: Option<Delivered>,
}

/// Which packets went on, by sequence number: the newest, and for each of the 64 before it whether it did.
struct Delivered {
    ssrc: u32,
    newest: u16,
    before: u64,
}

impl Unwrap {
    pub(super) fn new(red: u8, media: u8) -> Self {
        Self { red, media, delivered: None }
    }

    /// Gives what is new in the packet to `deliver`, oldest first; returns how many lost packets were in it.
    pub(super) fn accept(&mut self, packet: RtpPacket, mut deliver: impl FnMut(RtpPacket)) -> Result<u64, Malformed> {
        if packet.payload_type != self.red || packet.payload.is_empty() {
            if self.is_new(packet.ssrc, packet.sequence_number) {
                deliver(RtpPacket { payload_type: self.media, ..packet });
            }
            return Ok(0);
        }
        let Blocks { repeated, primary } = blocks(&packet.payload)?;
        if primary.payload_type != self.media {
            return Err(Malformed);
        }
        let mut recovered = 0;
        for (age, block) in (1..=repeated.len() as u16).rev().zip(&repeated) {
            let sequence_number = packet.sequence_number.wrapping_sub(age);
            let useful = block.payload_type == self.media && block.offset > 0 && !block.payload.is_empty();
            if useful && self.is_missing(packet.ssrc, sequence_number) && self.is_new(packet.ssrc, sequence_number) {
                recovered += 1;
                deliver(RtpPacket {
                    marker: false,
                    payload_type: self.media,
                    sequence_number,
                    timestamp: packet.timestamp.wrapping_sub(block.offset),
                    payload: block.payload.clone(),
                    dependencies: None,
                    ..packet
                });
            }
        }
        if self.is_new(packet.ssrc, packet.sequence_number) {
            deliver(RtpPacket { payload_type: self.media, payload: primary.payload, ..packet });
        }
        Ok(recovered)
    }

    /// Whether a repeated packet fills a gap. What was before the first packet is no gap, nor is what is long past.
    fn is_missing(&self, ssrc: u32, number: u16) -> bool {
        let Some(delivered) = self.delivered.as_ref().filter(|delivered| delivered.ssrc == ssrc) else { return false };
        let behind = delivered.newest.wrapping_sub(number);
        let is_ahead = behind >= 0x8000;
        is_ahead || (1..=64).contains(&behind) && delivered.before >> (behind - 1) & 1 == 0
    }

    /// Notes that a packet goes on; false if it did before.
    fn is_new(&mut self, ssrc: u32, number: u16) -> bool {
        let Some(delivered) = self.delivered.as_mut().filter(|delivered| delivered.ssrc == ssrc) else {
            self.delivered = Some(Delivered { ssrc, newest: number, before: !0 });
            return true;
        };
        let ahead = number.wrapping_sub(delivered.newest);
        if ahead == 0 {
            return false;
        }
        if ahead < 0x8000 {
            delivered.before = match ahead {
                1..64 => delivered.before << ahead | 1 << (ahead - 1),
                64 => 1 << 63,
                _ => 0,
            };
            delivered.newest = number;
            return true;
        }
        let behind = delivered.newest.wrapping_sub(number);
        if behind > 64 {
            return true; // too late to tell; the jitter buffer knows what to do with it
        }
        let bit = 1_u64 << (behind - 1);
        let is_new = delivered.before & bit == 0;
        delivered.before |= bit;
        is_new
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Block {
    payload_type: u8,
    /// How much earlier than the packet it was, in units of the clock rate; 0 for the primary one.
    offset: u32,
    payload: Bytes,
}

#[derive(Debug, PartialEq, Eq)]
struct Blocks {
    /// Oldest first.
    repeated: Vec<Block>,
    primary: Block,
}

/// Reads a RED payload (RFC 2198 section 3).
fn blocks(payload: &Bytes) -> Result<Blocks, Malformed> {
    let mut headers = Vec::new();
    let mut at = 0;
    let primary_type = loop {
        let first = *payload.get(at).ok_or(Malformed)?;
        if first & 0x80 == 0 {
            at += 1;
            break first;
        }
        let &[first, a, b, c] = payload.get(at..at + 4).ok_or(Malformed)? else { return Err(Malformed) };
        let rest = u32::from_be_bytes([0, a, b, c]);
        headers.push((first & 0x7F, rest >> 10, (rest & 0x3FF) as usize));
        if headers.len() > MOST_BLOCKS {
            return Err(Malformed);
        }
        at += 4;
    };
    let mut repeated = Vec::with_capacity(headers.len());
    for (payload_type, offset, length) in headers {
        if at + length > payload.len() {
            return Err(Malformed);
        }
        repeated.push(Block { payload_type, offset, payload: payload.slice(at..at + length) });
        at += length;
    }
    let primary = Block { payload_type: primary_type, offset: 0, payload: payload.slice(at..) };
    Ok(Blocks { repeated, primary })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const RED: u8 = 63;
    const OPUS: u8 = 111;
    const FRAME: u32 = 960;

    /// A RED packet whose blocks hold their own sequence number.
    fn red(number: u16, repeats: u16) -> RtpPacket {
        let mut payload = Vec::new();
        let ages = (1..=repeats).rev();
        for age in ages.clone() {
            let header = (u32::from(0x80 | OPUS) << 24) | (u32::from(age) * FRAME) << 10 | 2;
            payload.extend(header.to_be_bytes());
        }
        payload.push(OPUS);
        for age in ages {
            payload.extend(number.wrapping_sub(age).to_be_bytes());
        }
        payload.extend(number.to_be_bytes());
        packet(RED, number, payload)
    }

    fn packet(payload_type: u8, number: u16, payload: Vec<u8>) -> RtpPacket {
        RtpPacket {
            dependencies: None,
            marker: false,
            payload_type,
            sequence_number: number,
            timestamp: u32::from(number).wrapping_mul(FRAME),
            ssrc: 1,
            payload: payload.into(),
            arrival: Instant::now(),
        }
    }

    /// Sequence numbers that came out, after a check that each has its own payload, time and type.
    fn run(packets: Vec<RtpPacket>) -> Vec<u16> {
        let mut unwrap = Unwrap::new(RED, OPUS);
        let mut out = Vec::new();
        for packet in packets {
            unwrap
                .accept(packet, |packet| {
                    assert_eq!(packet.payload_type, OPUS);
                    assert_eq!(packet.payload.as_ref(), packet.sequence_number.to_be_bytes());
                    out.push(packet.sequence_number);
                    if packet.sequence_number >= 100 {
                        assert_eq!(packet.timestamp, u32::from(packet.sequence_number) * FRAME);
                    }
                })
                .unwrap();
        }
        out
    }

    #[test]
    fn without_loss_each_packet_comes_once() {
        assert_eq!(run((100..105).map(|number| red(number, 1)).collect()), [100, 101, 102, 103, 104]);
    }

    #[test]
    fn a_lost_packet_is_taken_from_the_next() {
        assert_eq!(run(vec![red(100, 1), red(102, 1), red(103, 1)]), [100, 101, 102, 103]);
    }

    #[test]
    fn two_generations_fill_a_gap_of_two_in_order() {
        assert_eq!(run(vec![red(100, 2), red(103, 2)]), [100, 101, 102, 103]);
        assert_eq!(run(vec![red(100, 2), red(104, 2)]), [100, 102, 103, 104], "one stays lost");
    }

    #[test]
    fn what_comes_late_after_it_was_recovered_is_a_duplicate() {
        assert_eq!(run(vec![red(100, 1), red(102, 1), red(101, 1), red(103, 1)]), [100, 101, 102, 103]);
    }

    #[test]
    fn numbers_may_wrap_and_plain_packets_may_come_between() {
        let plain = packet(OPUS, 0, 0_u16.to_be_bytes().to_vec());
        assert_eq!(run(vec![red(65_534, 1), plain, red(2, 1)]), [65_534, 0, 1, 2]);
    }

    #[test]
    fn another_stream_begins_anew() {
        let other = RtpPacket { ssrc: 2, ..red(7, 1) };
        assert_eq!(run(vec![red(100, 1), other]), [100, 7]);
    }

    #[test]
    fn a_jump_is_no_reason_to_drop() {
        assert_eq!(run(vec![red(100, 0), red(164, 0), red(163, 0), red(100, 0), red(400, 0)]), [100, 164, 163, 400]);
    }

    #[test]
    fn what_is_no_red_is_told_and_goes_nowhere() {
        let whole = red(5, 2).payload;
        for payload in [
            &[][..],
            &[0x80 | OPUS, 0],                  // ends within a header
            &[0x80 | OPUS, 0, 15, 255, OPUS],   // a block longer than the packet
            &[0x80 | OPUS, 0, 0, 0].repeat(20), // headers without end
            &[OPUS + 1, 1, 2],                  // another codec
        ] {
            let mut unwrap = Unwrap::new(RED, OPUS);
            let packet = packet(RED, 5, payload.to_vec());
            let is_padding = payload.is_empty();
            let mut delivered = 0;
            assert_eq!(unwrap.accept(packet, |_| delivered += 1).is_err(), !is_padding, "{payload:?}");
            assert_eq!(delivered > 0, is_padding, "padding counts for the order of packets");
        }
        for length in 0..whole.len() {
            let _ = Unwrap::new(RED, OPUS).accept(packet(RED, 5, whole[..length].to_vec()), |_| {});
        }
    }
}
