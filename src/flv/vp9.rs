//! VP9's decoder configuration ("VP Codec ISO Media File Format Binding" 1.0, section 2.2).

use bytes::{BufMut as _, Bytes, BytesMut};

/// What is said of a VP9 stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vp9Info {
    /// 0 to 3.
    pub profile: u8,
    /// Bits a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// Chroma subsampling.
    pub chroma: Vp9Chroma,
    /// Picture size in pixels.
    pub size: (u32, u32),
    /// Frames a second, where they are known.
    pub frame_rate: Option<f64>,
}

/// chromaSubsampling of the record; where samples lie in 4:2:0 is not told apart by GStreamer's caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vp9Chroma {
    /// 4:2:0, colocated with luma.
    Yuv420 = 1,
    /// 4:2:2.
    Yuv422 = 2,
    /// 4:4:4.
    Yuv444 = 3,
}

/// ITU-T H.273: unspecified.
const UNSPECIFIED: u8 = 2;
/// Where nobody knows.
const USUAL_FRAME_RATE: f64 = 30.0;

/// Levels of the "VP9 Bitstream Overview": ten times the number, most samples a second, most samples a picture.
const LEVELS: &[(u8, f64, u64)] = &[
    (10, 829_440.0, 36_864),
    (11, 2_764_800.0, 73_728),
    (20, 4_608_000.0, 122_880),
    (21, 9_216_000.0, 245_760),
    (30, 20_736_000.0, 552_960),
    (31, 36_864_000.0, 983_040),
    (40, 83_558_400.0, 2_228_224),
    (41, 160_432_128.0, 2_228_224),
    (50, 311_951_360.0, 8_912_896),
    (51, 588_251_136.0, 8_912_896),
    (52, 1_176_502_272.0, 8_912_896),
    (60, 1_176_502_272.0, 35_651_584),
    (61, 2_353_004_544.0, 35_651_584),
];
const HIGHEST_LEVEL: u8 = 62;

impl Vp9Info {
    /// The content of the box `vpcC`: version, flags and the record.
    pub fn configuration(&self) -> Bytes {
        let mut record = BytesMut::with_capacity(12);
        record.put_u32(1 << 24); // version 1, no flags
        record.put_u8(self.profile);
        record.put_u8(self.level());
        record.put_u8(self.bit_depth << 4 | (self.chroma as u8) << 1); // and limited range
        record.put_slice(&[UNSPECIFIED; 3]); // primaries, transfer, matrix
        record.put_u16(0); // no initialisation data
        record.freeze()
    }

    fn level(&self) -> u8 {
        let picture = u64::from(self.size.0) * u64::from(self.size.1);
        let samples = picture as f64 * self.frame_rate.unwrap_or(USUAL_FRAME_RATE);
        let fits = LEVELS.iter().find(|(_, most_samples, most)| samples <= *most_samples && picture <= *most);
        fits.map_or(HIGHEST_LEVEL, |(level, ..)| *level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HD: Vp9Info =
        Vp9Info { profile: 0, bit_depth: 8, chroma: Vp9Chroma::Yuv420, size: (1280, 720), frame_rate: Some(30.0) };

    #[test]
    fn record_is_as_in_the_binding() {
        assert_eq!(HD.configuration()[..], [1, 0, 0, 0, 0, 31, 0x82, 2, 2, 2, 0, 0]);
    }

    #[test]
    fn level_follows_size_and_rate() {
        let level = |size, rate| Vp9Info { size, frame_rate: Some(rate), ..HD }.level();
        assert_eq!(level((320, 180), 30.0), 11);
        assert_eq!(level((1280, 720), 60.0), 40);
        assert_eq!(level((1920, 1080), 30.0), 40);
        assert_eq!(level((1920, 1080), 60.0), 41);
        assert_eq!(level((u32::MAX, u32::MAX), 60.0), 62);
    }
}
