//! The inner half of a fuzz target's entry: packets of any streams, on their way to one viewer. No other use.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{rewrite::Rewrite, streams::Streams, thin::Thinning};
use crate::{
    codec::{Codec, PictureInfo},
    session::RtpPacket,
};

/// Packets: the stream and the marker, how sequence number and time go on, the payload's length, the payload. The first byte
/// says of which codec. No two packets of a viewer have one number, and a payload keeps all but the numbers of its picture.
pub(crate) fn rewrite(input: &[u8]) {
    let Some((first, mut rest)) = input.split_first() else { return };
    let codec = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265][usize::from(first % 4)];
    let (mut streams, mut next_id) = (Streams::new(codec), 0);
    let (mut rewrite, mut thinning) = (Rewrite::new(codec), Thinning::default());
    let (mut arrival, mut told) = (Instant::now(), HashMap::new());
    let mut numbers = HashMap::<u32, (u16, u32)>::new();
    while let Some((&[what, step, length], tail)) = rest.split_first_chunk() {
        let (payload, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        arrival += Duration::from_millis(u64::from(what >> 4 & 0x7) * 10);
        let ssrc = u32::from(what & 0xF);
        let (sequence_number, timestamp) = numbers.entry(ssrc).or_insert((65_500, u32::MAX - 9000));
        // Mostly the next one; some are far off.
        *sequence_number = match step {
            0x70..=0x8F => u16::from(step) << 8,
            near => sequence_number.wrapping_add_signed(i16::from(near as i8 / 8)).wrapping_add(1),
        };
        *timestamp = timestamp.wrapping_add(u32::from(step & 0x7) * 1000);
        let packet = RtpPacket {
            marker: what & 0x80 != 0,
            payload_type: 96,
            sequence_number: *sequence_number,
            timestamp: *timestamp,
            ssrc,
            payload: Bytes::copy_from_slice(payload),
            dependencies: None,
            arrival,
        };
        let Some(packet) = streams.take(packet, &mut next_id, |_| 0) else { continue };
        if packet.starts_keyframe && rewrite.stream() != Some(packet.stream) {
            rewrite.begin(&packet, what & 0x40 != 0);
        }
        let points = streams.get(packet.stream).map(|stream| stream.points()).unwrap_or_default();
        thinning.decide(&points, &Default::default(), true, Some(u64::from(length) * 2000), arrival);
        let verdict = thinning.judge(&packet, rewrite.stream() == Some(packet.stream));
        let Some(rewritten) = rewrite.rewrite(&packet, verdict) else { continue };
        let of = (packet.stream, packet.number);
        assert_eq!(*told.entry(rewritten.number).or_insert(of), of, "number {} of two packets", rewritten.number);
        if let Some(renumbered) = rewritten.renumbered {
            let changed = renumbered.apply(&packet.payload);
            assert_eq!(changed.len(), packet.payload.len());
            let read = |payload: &[u8]| PictureInfo::parse(codec, payload);
            let (before, after) = (read(&packet.payload), read(&changed));
            assert_eq!(before.map(|info| info.layer), after.map(|info| info.layer), "{changed:?}");
            if let Some((picture, is_long)) = after.and_then(|info| info.picture) {
                let bits = if is_long { 0x7FFF } else { 0x7F };
                assert_eq!(picture, renumbered.picture & bits, "{changed:?}");
            }
        }
    }
}
