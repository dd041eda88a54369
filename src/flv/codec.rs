//! The codecs that FLV tags can carry, and what each is called in them.

/// Video codecs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// The one that every server takes.
    #[default]
    H264,
    /// HEVC; enhanced RTMP v1.
    H265,
    /// AV1; enhanced RTMP v1.
    Av1,
    /// VP9; enhanced RTMP v1.
    Vp9,
}

/// Audio codecs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// The one that every server takes.
    #[default]
    Aac,
    /// Opus; enhanced RTMP v2.
    Opus,
}

impl VideoCodec {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Av1 => "AV1",
            Self::Vp9 => "VP9",
        }
    }

    /// What its enhanced tags carry; H.264 goes in legacy tags, which every server understands.
    pub fn four_cc(self) -> Option<[u8; 4]> {
        match self {
            Self::H264 => None,
            Self::H265 => Some(*b"hvc1"),
            Self::Av1 => Some(*b"av01"),
            Self::Vp9 => Some(*b"vp09"),
        }
    }

    /// `videocodecid` in onMetaData: 7 is AVC (section E.4.3.1), others are the FourCC as a number (enhanced RTMP v1,
    /// "Enhancing onMetaData").
    pub(super) fn metadata_id(self) -> f64 {
        self.four_cc().map_or(7.0, number)
    }
}

impl AudioCodec {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aac => "AAC",
            Self::Opus => "Opus",
        }
    }

    /// What its enhanced tags carry; AAC goes in legacy tags.
    pub fn four_cc(self) -> Option<[u8; 4]> {
        match self {
            Self::Aac => None,
            Self::Opus => Some(*b"Opus"),
        }
    }

    /// `audiocodecid` in onMetaData: 10 is AAC (section E.4.2.1), others are the FourCC as a number.
    pub(super) fn metadata_id(self) -> f64 {
        self.four_cc().map_or(10.0, number)
    }
}

fn number(four_cc: [u8; 4]) -> f64 {
    f64::from(u32::from_be_bytes(four_cc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_names_codecs_by_legacy_number_or_four_cc() {
        assert_eq!(VideoCodec::H264.metadata_id(), 7.0);
        assert_eq!(VideoCodec::H265.metadata_id(), 1_752_589_105.0);
        assert_eq!(VideoCodec::Av1.metadata_id(), 1_635_135_537.0);
        assert_eq!(VideoCodec::Vp9.metadata_id(), 1_987_063_865.0);
        assert_eq!(AudioCodec::Aac.metadata_id(), 10.0);
        assert_eq!(AudioCodec::Opus.metadata_id(), 1_332_770_163.0);
    }
}
