//! What the fuzz target `av1` does with an input; the same file serves the tests. No other use.

use super::unit::{Assembler, Outcome, Packet, TemporalUnit};

/// Packets: how sequence number and time go on, whether the marker is set, the payload's length, the payload. Units come
/// out whole or not at all, and their OBUs can be walked by their sizes.
pub(crate) fn av1(packets: &[u8]) {
    let (mut assembler, mut rest) = (Assembler::default(), packets);
    let (mut sequence_number, mut timestamp, mut came) = (0_u16, 0_u32, 0);
    while let Some((&[steps, length], tail)) = rest.split_first_chunk() {
        let (payload, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        sequence_number = sequence_number.wrapping_add(if steps & 0b111 == 0b111 { 2 } else { 1 });
        timestamp = timestamp.wrapping_add((steps >> 4 & 1).into());
        came += payload.len();
        for outcome in assembler.push(Packet { sequence_number, timestamp, marker: steps & 0x80 != 0, payload }) {
            match outcome {
                Outcome::Unit(unit) => check(&unit, came),
                Outcome::Dropped(why) => drop(why.to_string()),
            }
        }
    }
}

fn check(TemporalUnit { data, is_keyframe, .. }: &TemporalUnit, came: usize) {
    // An OBU gets three bytes of size at most here, and a unit two of delimiter.
    assert!(data.len() <= 2 + came * 4, "{} bytes out of {came}", data.len());
    let mut rest = data.strip_prefix(&[0x12, 0]).expect("a delimiter first");
    let mut keyframe = false;
    while let Some((&header, mut tail)) = rest.split_first() {
        assert!(header & 0x82 == 2, "OBU header {header:#x}");
        keyframe |= header >> 3 & 0xF == 1;
        if header & 4 != 0 {
            tail = &tail[1..];
        }
        let (mut size, mut shift) = (0, 0);
        while let Some((&byte, after)) = tail.split_first() {
            tail = after;
            size |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = &tail[size..];
    }
    assert_eq!(keyframe, *is_keyframe);
}
