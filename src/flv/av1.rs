//! AV1's decoder configuration, made from the sequence header in the stream, and temporal units as tags carry them.
//!
//! Section numbers are those of the "AV1 Bitstream & Decoding Process Specification". What is malformed gives nothing.

use bytes::{BufMut as _, Bytes, BytesMut};

/// obu_type (section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const HAS_EXTENSION: u8 = 1 << 2;
const HAS_SIZE: u8 = 1 << 1;

/// AV1CodecConfigurationRecord (AV1 codec ISO media file format binding, section 2.3) for a temporal unit that has a
/// sequence header; the header is part of it.
pub fn av1_configuration(temporal_unit: &[u8]) -> Option<Bytes> {
    let obu = Obus(temporal_unit).find(|obu| obu.kind == SEQUENCE_HEADER)?;
    let header = SequenceHeader::read(&mut Bits { bytes: obu.payload, at: 0 })?;
    let mut record = BytesMut::with_capacity(4 + obu.whole.len());
    record.put_u8(1 << 7 | 1); // marker, version
    record.put_u8(header.profile << 5 | header.level);
    let flags = [
        header.tier,
        header.high_bit_depth,
        header.twelve_bit,
        header.monochrome,
        header.subsampling.0,
        header.subsampling.1,
    ];
    let flags = flags.iter().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
    record.put_u8(flags << 2 | header.sample_position);
    record.put_u8(0); // no initial presentation delay
    record.put_slice(obu.whole);
    Some(record.freeze())
}

/// A temporal unit without its temporal delimiter, which tags leave out as files do (section 2.5 of the binding).
pub fn av1_without_delimiter(temporal_unit: &[u8]) -> &[u8] {
    match Obus(temporal_unit).next() {
        Some(obu) if obu.kind == TEMPORAL_DELIMITER => temporal_unit.get(obu.whole.len()..).unwrap_or_default(),
        _ => temporal_unit,
    }
}

struct Obu<'a> {
    kind: u8,
    whole: &'a [u8],
    payload: &'a [u8],
}

/// The OBUs of a temporal unit in the low-overhead format (section 5.2); ends at the first that is malformed.
struct Obus<'a>(&'a [u8]);

impl<'a> Iterator for Obus<'a> {
    type Item = Obu<'a>;

    fn next(&mut self) -> Option<Obu<'a>> {
        let first = *self.0.first()?;
        let mut start = if first & HAS_EXTENSION == 0 { 1 } else { 2 };
        let size = if first & HAS_SIZE == 0 {
            self.0.len().checked_sub(start)?
        } else {
            let (size, length) = leb128(self.0.get(start..)?)?;
            start += length;
            size
        };
        let end = start.checked_add(size)?;
        let (whole, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(Obu { kind: first >> 3 & 0x0f, whole, payload: whole.get(start..)? })
    }
}

/// A number and how many bytes it took (section 4.10.5).
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (index * 7);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, index + 1));
        }
    }
    None
}

/// What the record says of it (section 5.5).
struct SequenceHeader {
    profile: u8,
    level: u8,
    tier: bool,
    high_bit_depth: bool,
    twelve_bit: bool,
    monochrome: bool,
    subsampling: (bool, bool),
    sample_position: u8,
}

impl SequenceHeader {
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let profile = bits.take(3)? as u8;
        bits.take(1)?; // still_picture
        let reduced = bits.flag()?;
        let (level, tier) = if reduced { (bits.take(5)? as u8, false) } else { operating_points(bits)? };
        skip_to_colour(bits, reduced)?;

        // color_config(), section 5.5.2
        let high_bit_depth = bits.flag()?;
        let twelve_bit = profile == 2 && high_bit_depth && bits.flag()?;
        let monochrome = profile != 1 && bits.flag()?;
        let described = bits.flag()?;
        let colours = if described { bits.take(24)? } else { 0x02_0202 };
        let mut header = Self {
            profile,
            level,
            tier,
            high_bit_depth,
            twelve_bit,
            monochrome,
            subsampling: (true, true),
            sample_position: 0,
        };
        if monochrome {
            return Some(header);
        }
        // BT.709 primaries, sRGB transfer, identity matrix: that is RGB, and never subsampled.
        if colours == 0x01_0d00 {
            header.subsampling = (false, false);
            return Some(header);
        }
        bits.take(1)?; // color_range
        header.subsampling = match profile {
            0 => (true, true),
            1 => (false, false),
            _ if twelve_bit => {
                let x = bits.flag()?;
                (x, x && bits.flag()?)
            }
            _ => (true, false),
        };
        if header.subsampling == (true, true) {
            header.sample_position = bits.take(2)? as u8;
        }
        Some(header)
    }
}

/// Level and tier of the first operating point.
fn operating_points(bits: &mut Bits<'_>) -> Option<(u8, bool)> {
    let mut delay_length = None;
    if bits.flag()? {
        bits.take(32)?; // num_units_in_display_tick
        bits.take(32)?; // time_scale
        if bits.flag()? {
            bits.skip_uvlc()?; // num_ticks_per_picture_minus_1
        }
        if bits.flag()? {
            delay_length = Some(bits.take(5)? + 1);
            bits.take(32)?; // num_units_in_decoding_tick
            bits.take(10)?; // two lengths
        }
    }
    let has_initial_delay = bits.flag()?;
    let count = bits.take(5)? + 1;
    let mut first = None;
    for _ in 0..count {
        bits.take(12)?; // operating_point_idc
        let level = bits.take(5)? as u8;
        let tier = level > 7 && bits.flag()?;
        if let Some(length) = delay_length
            && bits.flag()?
        {
            bits.take(length)?; // decoder_buffer_delay
            bits.take(length)?; // encoder_buffer_delay
            bits.take(1)?; // low_delay_mode_flag
        }
        if has_initial_delay && bits.flag()? {
            bits.take(4)?;
        }
        first = first.or(Some((level, tier)));
    }
    first
}

/// What stands between the operating points and the colours.
fn skip_to_colour(bits: &mut Bits<'_>, reduced: bool) -> Option<()> {
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    bits.take(width_bits)?;
    bits.take(height_bits)?;
    if !reduced && bits.flag()? {
        bits.take(7)?; // lengths of frame ids
    }
    bits.take(3)?; // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    if !reduced {
        bits.take(4)?; // interintra, masked, warped, dual filter
        let order_hint = bits.flag()?;
        if order_hint {
            bits.take(2)?; // enable_jnt_comp, enable_ref_frame_mvs
        }
        // seq_choose_screen_content_tools, or seq_force_screen_content_tools of one bit
        let screen_content = bits.flag()? || bits.flag()?;
        // seq_choose_integer_mv, or seq_force_integer_mv of one bit
        if screen_content && !bits.flag()? {
            bits.take(1)?;
        }
        if order_hint {
            bits.take(3)?;
        }
    }
    bits.take(3)?; // enable_superres, enable_cdef, enable_restoration
    Some(())
}

/// Reads bits, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Section 4.10.3; more than 31 leading zeros say 2³² - 1 and have nothing behind.
    fn skip_uvlc(&mut self) -> Option<()> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros < 32 {
            self.take(zeros)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequence headers of libaom for 320x180, and the records that FFmpeg writes for them.
    const HEADERS: &[(&str, &[u8], [u8; 4])] = &[
        ("8 bit 4:2:0", b"\x0a\x0c\0\0\0\x04\x3c\xfe\xcf\x81\xb5\xf2\0\x80", [0x81, 0, 0x0c, 0]),
        ("8 bit 4:4:4", b"\x0a\x0a\x20\0\0\x04\x3c\xfe\xcc\xda\xf9\x02", [0x81, 0x20, 0, 0]),
        ("10 bit 4:2:0", b"\x0a\x0b\0\0\0\x04\x3c\xfe\xcc\xda\xf9\x40\x40", [0x81, 0, 0x4c, 0]),
        ("RGB", b"\x0a\x0d\x20\0\0\x04\x3c\xfe\xcc\xda\xf9\x20\x21\xa0\x04", [0x81, 0x20, 0, 0]),
    ];
    const DELIMITER: [u8; 2] = [0x12, 0];
    const FRAME: [u8; 4] = [0x32, 2, 0xaa, 0xbb];

    #[test]
    fn record_is_that_of_other_programs() {
        for (what, header, record) in HEADERS {
            let unit = [&DELIMITER, *header, &FRAME].concat();
            let expected = [&record[..], header].concat();
            assert_eq!(av1_configuration(&unit).as_deref(), Some(&expected[..]), "{what}");
        }
    }

    #[test]
    fn cut_or_missing_headers_give_nothing() {
        assert_eq!(av1_configuration(&[DELIMITER.as_slice(), &FRAME].concat()), None);
        assert_eq!(av1_configuration(&[]), None);
        for (_, header, _) in HEADERS {
            for length in 0..header.len() {
                assert_eq!(av1_configuration(&header[..length]), None);
            }
        }
        // Whatever the bits are, nothing panics.
        for seed in 0..=u16::MAX {
            let [a, b] = seed.to_be_bytes();
            av1_configuration(&[0x0a, 8, a, b, a ^ b, b, a, !a, !b, a]);
        }
    }

    #[test]
    fn only_the_delimiter_is_left_out() {
        assert_eq!(av1_without_delimiter(&[DELIMITER.as_slice(), &FRAME].concat()), FRAME);
        assert_eq!(av1_without_delimiter(&FRAME), FRAME);
        assert_eq!(av1_without_delimiter(&[]), [0u8; 0]);
    }
}
