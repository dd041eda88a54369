//! AV1 on the way out: a temporal unit becomes RTP payloads (AOM, "RTP Payload Format For AV1", section 4). Pure.
//!
//! Several small units of the stream (OBUs) share a packet, large ones are cut. Every element has its length before it, so
//! that nothing depends on how many there are.

use bytes::{BufMut, Bytes, BytesMut};

use super::unit::{put_leb128, take_leb128};

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// The aggregation header's bits: the first element goes on, the last one will, a coded video sequence starts.
const GOES_ON: u8 = 0x80;
const WILL_GO_ON: u8 = 0x40;
const STARTS: u8 = 0x08;
/// Less than this is not worth beginning an element in a packet for.
const LEAST: usize = 16;

/// The payloads of one temporal unit whose OBUs have sizes (the "low-overhead format"), none longer than `most` bytes. What is
/// broken ends it.
pub(in crate::rtp) fn payloads(unit: &[u8], most: usize) -> Vec<Bytes> {
    let most = most.max(LEAST * 2);
    let obus = obus(unit);
    let mut starts = obus.iter().any(|obu| obu.first().is_some_and(|header| kind(*header) == SEQUENCE_HEADER));
    let mut done = Vec::new();
    let mut packet = Packet::default();
    for obu in &obus {
        let mut rest: &[u8] = obu;
        let mut is_first = true;
        while !rest.is_empty() {
            // The aggregation header, and a length of two bytes.
            let room = most.saturating_sub(packet.body.len() + 3);
            if room < LEAST.min(rest.len()) {
                done.push(std::mem::take(&mut packet).finish(&mut starts));
                continue;
            }
            let (part, later) = rest.split_at(rest.len().min(room));
            packet.goes_on |= packet.body.is_empty() && !is_first;
            packet.element(part);
            (rest, is_first) = (later, false);
            if !rest.is_empty() {
                packet.will_go_on = true;
                done.push(std::mem::take(&mut packet).finish(&mut starts));
            }
        }
    }
    if !packet.body.is_empty() {
        done.push(packet.finish(&mut starts));
    }
    done
}

#[derive(Default)]
struct Packet {
    body: Vec<u8>,
    goes_on: bool,
    will_go_on: bool,
}

impl Packet {
    fn element(&mut self, element: &[u8]) {
        put_leb128(&mut self.body, element.len());
        self.body.extend_from_slice(element);
    }

    fn finish(self, starts: &mut bool) -> Bytes {
        let mut payload = BytesMut::with_capacity(1 + self.body.len());
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let first = std::mem::take(starts);
        payload.put_u8(flag(self.goes_on, GOES_ON) | flag(self.will_go_on, WILL_GO_ON) | flag(first, STARTS));
        payload.extend_from_slice(&self.body);
        payload.freeze()
    }
}

/// The OBUs without their sizes, and without those that do not travel.
fn obus(mut unit: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((&header, mut rest)) = unit.split_first() {
        let mut obu = vec![header & !2];
        if header & 4 != 0 {
            let Some((&extension, after)) = rest.split_first() else { break };
            obu.push(extension);
            rest = after;
        }
        let size = if header & 2 != 0 { take_leb128(&mut rest).unwrap_or(usize::MAX) } else { rest.len() };
        let Some((body, after)) = rest.split_at_checked(size) else { break };
        if !matches!(kind(header), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            obu.extend_from_slice(body);
            found.push(obu);
        }
        unit = after;
    }
    found
}

fn kind(header: u8) -> u8 {
    header >> 3 & 15
}

#[cfg(test)]
mod tests {
    use super::{
        super::unit::{Assembler, Outcome, Packet as Received},
        *,
    };

    /// An OBU with its size.
    fn obu(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut obu = vec![kind << 3 | 2];
        put_leb128(&mut obu, body.len());
        obu.extend_from_slice(body);
        obu
    }

    fn assembled(payloads: &[Bytes]) -> Vec<u8> {
        let mut assembler = Assembler::default();
        let mut unit = Vec::new();
        for (index, payload) in payloads.iter().enumerate() {
            let marker = index + 1 == payloads.len();
            let packet = Received { sequence_number: index as u16, timestamp: 1, marker, payload };
            for outcome in assembler.push(packet) {
                match outcome {
                    Outcome::Unit(done) => unit = done.data,
                    _ => panic!("spoilt"),
                }
            }
        }
        unit
    }

    #[test]
    fn a_receiver_puts_together_what_was_cut_at_any_size() {
        let frame: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
        let sent = [obu(SEQUENCE_HEADER, &[7; 11]), obu(6, &frame), obu(6, &[9; 40])].concat();
        let unit = [obu(TEMPORAL_DELIMITER, &[]), sent.clone()].concat();
        for most in [40, 100, 1188, 5100, 9000] {
            let payloads = payloads(&unit, most);
            assert!(payloads.iter().all(|payload| payload.len() <= most), "{most}");
            assert_eq!(payloads[0][0] & STARTS, STARTS);
            assert!(payloads[1..].iter().all(|payload| payload[0] & STARTS == 0));
            let back = assembled(&payloads);
            assert!(back.ends_with(&sent), "{most}: {} of {} bytes", back.len(), sent.len());
        }
    }

    #[test]
    fn small_units_share_a_packet() {
        let unit = [obu(SEQUENCE_HEADER, &[7; 11]), obu(6, &[1; 300])].concat();
        assert_eq!(payloads(&unit, 1188).len(), 1);
    }

    #[test]
    fn nonsense_ends_it() {
        assert!(payloads(&[], 1188).is_empty());
        assert!(payloads(&[6 << 3 | 2, 0x7F, 1], 1188).is_empty());
        assert!(payloads(&[6 << 3 | 4], 1188).is_empty());
    }
}
