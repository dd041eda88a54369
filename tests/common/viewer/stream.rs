//! What has come to a viewer: packets as they were sent at first, and the pictures in them.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use bytes::Bytes;

use super::super::flv::hash_slices;

/// One packet, as it was sent at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Bytes,
    pub payload_type: u8,
    pub at: Instant,
}

/// One stream, by its extended sequence numbers.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub packets: BTreeMap<i64, Got>,
    pub reports: Vec<(u64, u32)>,
    pub repaired: usize,
    pub duplicates: usize,
    pub(super) highest: i64,
    pub(super) asked: HashMap<i64, u8>,
}

impl Stream {
    /// Sequence numbers that are missing between the first and the last.
    pub fn missing(&self) -> Vec<i64> {
        let (Some(first), Some(last)) = (self.packets.keys().next(), self.packets.keys().next_back()) else {
            return Vec::new();
        };
        (*first..*last).filter(|number| !self.packets.contains_key(number)).collect()
    }
}

/// The hashes of the slices of each whole picture, in order (RFC 6184).
pub fn pictures(stream: &Stream) -> Vec<u64> {
    let mut by_time: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut order: Vec<(u32, i64)> = Vec::new();
    for (number, packet) in stream.packets.iter().filter(|(_, packet)| packet.payload.len() > 2) {
        if order.last().is_none_or(|(timestamp, _)| *timestamp != packet.timestamp) {
            order.push((packet.timestamp, *number));
        }
        let nals = by_time.entry(order.last().expect("a picture").1).or_default();
        let payload = &packet.payload;
        match payload[0] & 31 {
            24 => {
                let mut rest = &payload[1..];
                while rest.len() > 2 {
                    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    nals.push(rest[2..2 + length].to_vec());
                    rest = &rest[2 + length..];
                }
            }
            28 if payload[1] & 0x80 != 0 => {
                let mut nal = vec![payload[0] & 0xE0 | payload[1] & 31];
                nal.extend_from_slice(&payload[2..]);
                nals.push(nal);
            }
            // Without the beginning, which is still missing, it is no picture that was sent.
            28 => match nals.last_mut() {
                Some(nal) => nal.extend_from_slice(&payload[2..]),
                None => nals.push(payload.to_vec()),
            },
            _ => nals.push(payload.to_vec()),
        }
    }
    by_time.values().map(|nals| hash_slices(&nals.iter().map(Vec::as_slice).collect::<Vec<_>>())).collect()
}
