//! RTP payloads become temporal units of an AV1 stream: pure, after AOM's "RTP Payload Format For AV1" 1.0.
//!
//! A unit comes out whole or not at all, and after one that did not, none until the next that stands by itself. Whatever
//! a packet claims, nothing is kept but bytes that came.

/// A temporal unit that is longer is given up: some ten times a keyframe of 4K video.
const LONGEST_UNIT: usize = 8 << 20;
/// A temporal delimiter with a size field of 0 (AV1 specification, sections 5.3.2 and 5.6): what each unit begins with.
const DELIMITER: [u8; 2] = [2 << 3 | HAS_SIZE, 0];

/// The N bit of the aggregation header.
const FIRST_OF_SEQUENCE: u8 = 0b1000;
const HAS_SIZE: u8 = 0b010;
const HAS_EXTENSION: u8 = 0b100;
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// One packet, of which the depayloader reads no more than this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) sequence_number: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) payload: &'a [u8],
}

/// A whole temporal unit in the low-overhead format, delimiter first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TemporalUnit {
    pub(super) data: Vec<u8>,
    /// The RTP timestamp of its packets.
    pub(super) timestamp: u32,
    /// It begins with a sequence header: decoding can start here.
    pub(super) is_keyframe: bool,
}

/// What became of a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is complete.
    Unit(TemporalUnit),
    /// It is of no use; a keyframe has to come.
    Dropped(Reason),
}

/// Why a unit was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// A packet is missing.
    #[error("a packet of it is missing")]
    Lost,
    /// Nothing that it could depend on has come.
    #[error("no keyframe has come before it")]
    NoKeyframe,
    /// A packet that breaks the payload format.
    #[error("it breaks the payload format: {0}")]
    Malformed(&'static str),
}

/// The state between packets.
#[derive(Debug)]
pub(super) struct Assembler {
    /// The unit so far, delimiter included.
    unit: Vec<u8>,
    /// An element whose end has not come.
    fragment: Option<Vec<u8>>,
    is_keyframe: bool,
    /// Of the unit under way, or of the one before.
    timestamp: Option<u32>,
    expected: Option<u16>,
    /// Why the unit under way will be dropped.
    spoilt: Option<Reason>,
    needs_keyframe: bool,
}

impl Default for Assembler {
    fn default() -> Self {
        Self {
            unit: Vec::new(),
            fragment: None,
            is_keyframe: false,
            timestamp: None,
            expected: None,
            spoilt: None,
            needs_keyframe: true,
        }
    }
}

impl Assembler {
    /// Takes the next packet in order of sequence numbers; returns what became of the units that end with it or before it.
    pub(super) fn push(&mut self, packet: Packet<'_>) -> Vec<Outcome> {
        let mut ended = Vec::new();
        let follows = self.expected.is_none_or(|expected| expected == packet.sequence_number);
        self.expected = Some(packet.sequence_number.wrapping_add(1));
        if !follows {
            self.spoil(Reason::Lost);
        }
        let Some(header) = packet.payload.first() else { return ended }; // padding
        if self.timestamp != Some(packet.timestamp) {
            // Markers "should" be there (section 4.2): without, a unit ends where the next begins.
            ended.extend(self.finish());
            // What is missing may have been this unit's beginning, unless this is the first packet of a sequence.
            if !follows && header & FIRST_OF_SEQUENCE == 0 {
                self.spoil(Reason::Lost);
            }
            self.timestamp = Some(packet.timestamp);
        }
        if self.spoilt.is_none()
            && let Err(why) = self.read(packet.payload)
        {
            self.spoil(Reason::Malformed(why));
        }
        if packet.marker {
            ended.extend(self.finish());
        }
        ended
    }

    fn spoil(&mut self, why: Reason) {
        self.spoilt.get_or_insert(why);
        self.needs_keyframe = true;
        self.unit.clear();
        self.fragment = None;
    }

    fn finish(&mut self) -> Option<Outcome> {
        if self.fragment.is_some() {
            self.spoil(Reason::Malformed("its last element has no end"));
        }
        let data = std::mem::take(&mut self.unit);
        let is_keyframe = std::mem::take(&mut self.is_keyframe);
        if let Some(why) = self.spoilt.take() {
            return Some(Outcome::Dropped(why));
        }
        let timestamp = self.timestamp.filter(|_| !data.is_empty())?;
        if self.needs_keyframe && !is_keyframe {
            return Some(Outcome::Dropped(Reason::NoKeyframe));
        }
        self.needs_keyframe = false;
        Some(Outcome::Unit(TemporalUnit { data, timestamp, is_keyframe }))
    }

    /// The elements of a payload (section 4.3 and 4.4).
    fn read(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        let (&header, mut rest) = payload.split_first().ok_or("it is empty")?;
        let continues = header & 0x80 != 0;
        let is_continued = header & 0x40 != 0;
        let count = usize::from(header >> 4 & 0b11); // 0: each element has its length before it
        if continues != self.fragment.is_some() {
            return Err("a fragment without its beginning or its end");
        }
        let mut index = 0;
        while !rest.is_empty() {
            index += 1;
            if count > 0 && index > count {
                return Err("more elements than announced");
            }
            let length = if index == count { rest.len() } else { take_leb128(&mut rest)? };
            let (element, after) = rest.split_at_checked(length).ok_or("an element longer than the packet")?;
            rest = after;
            let is_last = rest.is_empty();
            if self.unit.len() + self.fragment.as_ref().map_or(0, Vec::len) + element.len() > LONGEST_UNIT {
                return Err("it is too long");
            }
            match (self.fragment.take(), is_last && is_continued) {
                (Some(mut fragment), continued) => {
                    fragment.extend_from_slice(element);
                    if continued {
                        self.fragment = Some(fragment);
                    } else {
                        self.append(&fragment)?;
                    }
                }
                (None, true) => self.fragment = Some(element.to_vec()),
                (None, false) => self.append(element)?,
            }
        }
        if index < count {
            return Err("fewer elements than announced");
        }
        Ok(())
    }

    /// One OBU, which gets its size field back (AV1 specification, section 5.3).
    fn append(&mut self, element: &[u8]) -> Result<(), &'static str> {
        let Some((&header, mut rest)) = element.split_first() else { return Ok(()) };
        if header & 0x80 != 0 {
            return Err("an OBU whose forbidden bit is set");
        }
        let extension = if header & HAS_EXTENSION != 0 {
            let (&extension, after) = rest.split_first().ok_or("an OBU without its extension")?;
            rest = after;
            Some(extension)
        } else {
            None
        };
        if header & HAS_SIZE != 0 {
            let size = take_leb128(&mut rest)?;
            rest = rest.get(..size).ok_or("an OBU longer than its element")?;
        }
        let obu_type = header >> 3 & 0x0F;
        if matches!(obu_type, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            return Ok(()); // section 5: not to be sent, and of no use
        }
        if self.unit.is_empty() {
            self.unit.extend_from_slice(&DELIMITER);
        }
        self.is_keyframe |= obu_type == SEQUENCE_HEADER;
        self.unit.push(header | HAS_SIZE);
        self.unit.extend(extension);
        put_leb128(&mut self.unit, rest.len());
        self.unit.extend_from_slice(rest);
        Ok(())
    }
}

/// A length of up to 2³² - 1 in seven bits a byte, the lowest first (AV1 specification, section 4.10.5).
pub(super) fn take_leb128(bytes: &mut &[u8]) -> Result<usize, &'static str> {
    let mut value = 0_u64;
    for index in 0..8 {
        let (&byte, rest) = bytes.split_first().ok_or("a length without its end")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| "a length beyond 32 bits")?;
            return Ok(value as usize);
        }
    }
    Err("a length of more than 8 bytes")
}

pub(super) fn put_leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u8 = 6 << 3;
    const SEQUENCE: u8 = SEQUENCE_HEADER << 3;

    /// Feeds packets of (timestamp, marker, payload) with consecutive sequence numbers.
    fn run(assembler: &mut Assembler, packets: &[(u32, bool, &[u8])]) -> Vec<Outcome> {
        let first = assembler.expected.unwrap_or(65_535);
        let numbers = (0..).map(|index| first.wrapping_add(index));
        let outcomes = numbers.zip(packets).flat_map(|(sequence_number, &(timestamp, marker, payload))| {
            assembler.push(Packet { sequence_number, timestamp, marker, payload })
        });
        outcomes.collect()
    }

    fn unit(timestamp: u32, data: &[u8], is_keyframe: bool) -> Outcome {
        Outcome::Unit(TemporalUnit { data: [&DELIMITER, data].concat(), timestamp, is_keyframe })
    }

    const KEY: (u32, bool, &[u8]) = (1, true, &[0b0001_1000, SEQUENCE, 7]);
    const KEY_UNIT: &[u8] = &[SEQUENCE | HAS_SIZE, 1, 7];

    fn after_key() -> Assembler {
        let mut assembler = Assembler::default();
        assert_eq!(run(&mut assembler, &[KEY]), [unit(1, KEY_UNIT, true)]);
        assembler
    }

    #[test]
    fn elements_get_their_sizes_back() {
        // Two elements, the first with its length; one with an extension byte, one that has a size field already.
        let outcomes = run(
            &mut Assembler::default(),
            &[(1, true, &[0b0010_1000, 2, SEQUENCE, 7, FRAME | HAS_EXTENSION | HAS_SIZE, 0x20, 3, 1, 2, 3])],
        );
        let data = [SEQUENCE | HAS_SIZE, 1, 7, FRAME | HAS_EXTENSION | HAS_SIZE, 0x20, 3, 1, 2, 3];
        assert_eq!(outcomes, [unit(1, &data, true)]);
    }

    #[test]
    fn elements_may_all_have_their_length_before_them() {
        let outcomes = run(&mut Assembler::default(), &[(1, true, &[0b0000_1000, 2, SEQUENCE, 7, 3, FRAME, 1, 2])]);
        assert_eq!(outcomes, [unit(1, &[SEQUENCE | HAS_SIZE, 1, 7, FRAME | HAS_SIZE, 2, 1, 2], true)]);
    }

    #[test]
    fn a_frame_over_three_packets_is_put_together_with_a_size_of_two_bytes() {
        let part = [5_u8; 100];
        let first = [&[0b0101_0000, FRAME][..], &part].concat();
        let middle = [&[0b1101_0000][..], &part].concat();
        let last = [&[0b1001_0000][..], &part].concat();
        let outcomes = run(&mut after_key(), &[(2, false, &first), (2, false, &middle), (2, true, &last)]);
        let data = [&[FRAME | HAS_SIZE, 0xAC, 0x02][..], &[5; 300]].concat();
        assert_eq!(outcomes, [unit(2, &data, false)]);
    }

    #[test]
    fn delimiters_tile_lists_and_padding_are_left_out() {
        let junk = [0b0000_0000, 1, TEMPORAL_DELIMITER << 3, 2, PADDING << 3, 0, 2, TILE_LIST << 3, 0, 2, FRAME, 9];
        assert_eq!(run(&mut after_key(), &[(2, true, &junk)]), [unit(2, &[FRAME | HAS_SIZE, 1, 9], false)]);
    }

    #[test]
    fn nothing_comes_before_the_first_keyframe() {
        let delta: (u32, bool, &[u8]) = (1, true, &[0b0001_0000, FRAME, 9]);
        let outcomes = run(&mut Assembler::default(), &[delta, (2, true, KEY.2), (3, true, delta.2)]);
        let dropped = Outcome::Dropped(Reason::NoKeyframe);
        assert_eq!(outcomes, [dropped, unit(2, KEY_UNIT, true), unit(3, &[FRAME | HAS_SIZE, 1, 9], false)]);
    }

    #[test]
    fn a_lost_packet_costs_its_unit_and_what_depends_on_it() {
        let mut assembler = after_key();
        let delta = |sequence_number, timestamp, header| Packet {
            sequence_number,
            timestamp,
            marker: header & 0x40 == 0,
            payload: if header & 0x40 == 0 { &[0b1001_0000, 9] } else { &[0b0101_0000, FRAME, 9] },
        };
        // The middle one of three is missing, in the next unit nothing, then a keyframe comes.
        assert_eq!(assembler.push(delta(0, 2, 0x40)), []);
        assert_eq!(assembler.push(delta(2, 2, 0)), [Outcome::Dropped(Reason::Lost)]);
        assert_eq!(assembler.push(delta(3, 3, 0x40)), []);
        assert_eq!(assembler.push(delta(4, 3, 0)), [Outcome::Dropped(Reason::NoKeyframe)]);
        let key = Packet { sequence_number: 5, timestamp: 4, marker: true, payload: KEY.2 };
        assert_eq!(assembler.push(key), [unit(4, KEY_UNIT, true)]);
    }

    #[test]
    fn a_loss_between_two_units_spoils_both() {
        let mut assembler = after_key();
        let start = Packet { sequence_number: 0, timestamp: 2, marker: false, payload: &[0b0001_0000, FRAME, 9] };
        assert_eq!(assembler.push(start), []);
        let other = Packet { sequence_number: 2, timestamp: 3, ..start };
        assert_eq!(assembler.push(other), [Outcome::Dropped(Reason::Lost)]);
        let end = Packet { sequence_number: 3, marker: true, ..other };
        assert_eq!(assembler.push(end), [Outcome::Dropped(Reason::Lost)]);
    }

    #[test]
    fn a_keyframe_right_after_a_loss_is_whole() {
        let mut assembler = after_key();
        let key = Packet { sequence_number: 9, timestamp: 2, marker: true, payload: KEY.2 };
        assert_eq!(assembler.push(key), [Outcome::Dropped(Reason::Lost), unit(2, KEY_UNIT, true)]);
    }

    #[test]
    fn padding_between_units_is_no_loss() {
        let padding: (u32, bool, &[u8]) = (1, false, &[]);
        let delta: (u32, bool, &[u8]) = (2, true, &[0b0001_0000, FRAME, 9]);
        assert_eq!(run(&mut after_key(), &[padding, padding, delta]), [unit(2, &[FRAME | HAS_SIZE, 1, 9], false)]);
    }

    #[test]
    fn a_unit_without_marker_ends_where_the_next_begins() {
        let payload = &[0b0001_0000, FRAME, 9][..];
        let outcomes = run(&mut after_key(), &[(2, false, payload), (3, false, payload)]);
        assert_eq!(outcomes, [unit(2, &[FRAME | HAS_SIZE, 1, 9], false)]);
    }

    #[test]
    fn what_packets_claim_costs_no_memory_and_spoils_the_unit() {
        let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        for payload in [
            [&[0b0010_0000][..], &huge, &[FRAME]].concat(), // an element of 4 GB
            [&[0b0001_0000, FRAME | HAS_SIZE][..], &huge, &[1]].concat(), // an OBU of 4 GB
            vec![0b1001_0000, 1],                           // the end of what never began
            vec![0b0011_0000, 1, FRAME],                    // announces three
            vec![0b0000_0000, 0x80],                        // half a length
            vec![0b0001_0000, FRAME | 0x80],
            vec![0b0001_0000, FRAME | HAS_EXTENSION],
            [&[0b0000_0000][..], &[0xFF; 9]].concat(),
        ] {
            let mut assembler = after_key();
            let outcomes = run(&mut assembler, &[(2, true, &payload), (3, true, KEY.2)]);
            assert!(
                matches!(outcomes[..], [Outcome::Dropped(Reason::Malformed(_)), Outcome::Unit(_)]),
                "{payload:?}: {outcomes:?}"
            );
        }
    }

    #[test]
    fn a_unit_without_end_is_given_up() {
        let mut assembler = after_key();
        let part = [&[0b1101_0000][..], &[0; 60_000]].concat();
        let start: (u32, bool, &[u8]) = (2, false, &[0b0101_0000, FRAME]);
        run(&mut assembler, &[start]);
        for _ in 0..1000 {
            run(&mut assembler, &[(2, false, &part)]);
            assert!(assembler.fragment.as_ref().map_or(0, Vec::capacity) <= 2 * LONGEST_UNIT);
        }
        assert_eq!(run(&mut assembler, &[(2, true, &part)]), [Outcome::Dropped(Reason::Malformed("it is too long"))]);
    }
}
