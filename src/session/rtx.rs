//! Retransmissions become what they repeat (RFC 4588), and every packet comes once.
//!
//! The stack below unwraps RTX only after its interceptors, so its NACK generator never sees that a gap was filled and
//! asks again and again. This one stands wire-ward of the generator. Packets also come twice without any loss: senders
//! probe for bandwidth by repeating what they have.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use rtc::{
    interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtp,
    sansio::Protocol,
    shared::error::Error,
};

/// Between the FEC decoder (6000) and the NACK generator (7000).
pub(super) fn slot() -> Slot {
    Slot::from(6500)
}

/// SSRCs remembered for one session; those of a peer that makes up more go on as they came.
const MOST_STREAMS: usize = 32;

/// The interceptor.
#[derive(Default)]
pub(super) struct RtxUnwrap {
    /// RTX SSRC → SSRC and payload type of what it repairs.
    repairs: HashMap<u32, (u32, u8)>,
    seen: HashMap<u32, SeenWindow>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl RtxUnwrap {
    /// False if the packet is of no use: an empty probe or a duplicate.
    fn accept(&mut self, packet: &mut rtp::Packet) -> bool {
        if let Some(&(ssrc, payload_type)) = self.repairs.get(&packet.header.ssrc) {
            // The original sequence number stands in front of the original payload (RFC 4588 section 4).
            let &[high, low, ref original @ ..] = packet.payload.as_ref() else { return false };
            if original.is_empty() {
                return false;
            }
            packet.header.sequence_number = u16::from_be_bytes([high, low]);
            packet.header.ssrc = ssrc;
            packet.header.payload_type = payload_type;
            packet.payload = packet.payload.slice(2..);
        }
        self.seen.get_mut(&packet.header.ssrc).is_none_or(|window| window.insert(packet.header.sequence_number))
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RtxUnwrap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut tagged: TaggedPacket) -> Result<(), Error> {
        let useful = match &mut tagged.message.packet {
            Packet::Rtp(packet) => self.accept(packet),
            _ => true,
        };
        if useful {
            self.read.push_back(tagged);
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(tagged);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for RtxUnwrap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, stream: &StreamInfo) {
        if self.repairs.len().max(self.seen.len()) >= MOST_STREAMS {
            return;
        }
        if let Some(rtx) = stream.ssrc_rtx {
            self.repairs.insert(rtx, (stream.ssrc, stream.payload_type));
        }
        if !self.repairs.contains_key(&stream.ssrc) {
            self.seen.insert(stream.ssrc, SeenWindow::default());
        }
    }

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        self.seen.remove(&stream.ssrc);
        self.repairs.retain(|rtx, (ssrc, _)| *rtx != stream.ssrc && *ssrc != stream.ssrc);
    }
}

/// Which of the last [`Self::SIZE`] sequence numbers have been seen.
struct SeenWindow {
    newest: Option<u16>,
    bits: [u64; Self::SIZE as usize / 64],
}

impl Default for SeenWindow {
    fn default() -> Self {
        Self { newest: None, bits: [0; Self::SIZE as usize / 64] }
    }
}

impl SeenWindow {
    /// Ten seconds of a 2 Mbit/s stream; divides 65,536, so that numbers keep their place over the wrap.
    const SIZE: u16 = 2048;

    /// False if the number was there already, or is too old to tell.
    fn insert(&mut self, number: u16) -> bool {
        let newest = *self.newest.get_or_insert(number.wrapping_sub(1));
        let ahead = number.wrapping_sub(newest);
        if ahead != 0 && ahead < 0x8000 {
            if ahead >= Self::SIZE {
                self.bits.fill(0);
            } else {
                for skipped in 1..=ahead {
                    self.set(newest.wrapping_add(skipped), false);
                }
            }
            self.newest = Some(number);
        } else if newest.wrapping_sub(number) >= Self::SIZE {
            return false;
        }
        !self.set(number, true)
    }

    /// Sets a bit and returns what it was.
    fn set(&mut self, number: u16, value: bool) -> bool {
        let place = usize::from(number % Self::SIZE);
        let (word, mask) = (&mut self.bits[place / 64], 1_u64 << (place % 64));
        let was = *word & mask != 0;
        if value {
            *word |= mask;
        } else {
            *word &= !mask;
        }
        was
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const VIDEO: u32 = 1;
    const RTX: u32 = 2;

    fn bound() -> RtxUnwrap {
        let mut unwrap = RtxUnwrap::default();
        unwrap.bind_remote_stream(&StreamInfo {
            ssrc: VIDEO,
            ssrc_rtx: Some(RTX),
            payload_type: 96,
            ..StreamInfo::default()
        });
        // The stack binds the repair stream in its own right afterwards.
        unwrap.bind_remote_stream(&StreamInfo { ssrc: RTX, payload_type: 97, ..StreamInfo::default() });
        unwrap
    }

    fn packet(ssrc: u32, sequence_number: u16, payload: &'static [u8]) -> rtp::Packet {
        rtp::Packet {
            header: rtp::Header { ssrc, sequence_number, payload_type: 97, ..Default::default() },
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn a_retransmission_becomes_the_packet_it_repeats() {
        let mut unwrap = bound();
        let mut rtx = packet(RTX, 7, &[0x12, 0x34, 0xAA]);
        assert!(unwrap.accept(&mut rtx));
        assert_eq!((rtx.header.ssrc, rtx.header.sequence_number, rtx.header.payload_type), (VIDEO, 0x1234, 96));
        assert_eq!(rtx.payload.as_ref(), [0xAA]);
    }

    #[test]
    fn a_packet_comes_once_whether_sent_or_sent_again() {
        let mut unwrap = bound();
        assert!(unwrap.accept(&mut packet(VIDEO, 0x1234, &[1])));
        assert!(!unwrap.accept(&mut packet(RTX, 7, &[0x12, 0x34, 1])));
        assert!(!unwrap.accept(&mut packet(VIDEO, 0x1234, &[1])));
    }

    #[test]
    fn empty_and_truncated_retransmissions_are_dropped() {
        let mut unwrap = bound();
        for payload in [&[][..], &[0x12], &[0x12, 0x34]] {
            assert!(!unwrap.accept(&mut packet(RTX, 7, payload)));
        }
    }

    #[test]
    fn reordering_and_the_wrap_are_no_duplicates() {
        let mut window = SeenWindow::default();
        for number in [65_534, 0, 65_535, 2, 1] {
            assert!(window.insert(number), "{number} was new");
            assert!(!window.insert(number), "{number} was seen");
        }
    }

    #[test]
    fn a_jump_forgets_and_the_distant_past_is_refused() {
        let mut window = SeenWindow::default();
        assert!(window.insert(10));
        assert!(window.insert(10_000));
        assert!(window.insert(10_000 - SeenWindow::SIZE + 1));
        assert!(!window.insert(10));
    }
}
