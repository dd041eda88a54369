//! A track on its way out: what comes in on its pad, in which formats it could be sent, and in which one it is. Pure.

use crate::{
    codec::{Codec, MediaKind},
    session::{OutgoingFormat, Track},
};

/// Dynamic payload types begin here (RFC 3551). Viewers see those of their own offers.
const PAYLOAD_TYPE: u8 = 96;

/// What comes in on a pad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// Nothing has been said of it yet.
    Unknown,
    /// It has to be encoded, in whichever codec.
    Raw,
    /// It is there in one format.
    Encoded(OutgoingFormat),
    /// Its pad is gone.
    Nothing,
}

/// One track.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) kind: MediaKind,
    pub(super) comes: Comes,
    /// What it is sent in, as long as there are viewers.
    pub(super) chosen: Option<OutgoingFormat>,
    /// What the peer sends of this kind, which may be what comes here.
    pub(super) expected: Option<Expected>,
}

/// A format that may be had without encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) format: OutgoingFormat,
    /// Whether it can come as it is; else it comes raw, and is at best what to encode it in.
    pub(super) passes: bool,
}

impl Lane {
    /// The formats that it can be had in, the preferred first: what comes encoded is sent as it is if that is among the
    /// `preferred`; all else is encoded, in what is `makeable`.
    pub(super) fn formats(&self, preferred: &[Codec], makeable: &[Codec]) -> Vec<OutgoingFormat> {
        match &self.comes {
            Comes::Encoded(format) if preferred.contains(&format.codec) => vec![format.clone()],
            Comes::Nothing if self.expected.is_none() => Vec::new(),
            _ => {
                let mut formats: Vec<OutgoingFormat> =
                    makeable.iter().filter(|codec| codec.kind() == self.kind).map(|codec| encoded(*codec)).collect();
                if let Some(Expected { format, passes }) = &self.expected {
                    let place = formats.iter().position(|made| made.codec == format.codec);
                    let made = place.map(|place| formats.remove(place));
                    let is_wanted = *passes && self.comes != Comes::Raw && preferred.contains(&format.codec);
                    formats.splice(0..0, if is_wanted { Some(format.clone()) } else { made });
                }
                formats
            }
        }
    }

    /// As the source of all viewers has it.
    pub(super) fn track(&self, index: usize) -> Track {
        let fallback = if self.kind == MediaKind::Video { Codec::H264 } else { Codec::Opus };
        let format = self.chosen.clone().unwrap_or_else(|| encoded(fallback));
        Track {
            index,
            mid: None,
            codec: format.codec,
            payload_type: PAYLOAD_TYPE,
            channels: 0,
            fmtp: format.fmtp,
            rtx: None,
            red: None,
            ssrcs: Vec::new(),
            feedback: Vec::new(),
        }
    }
}

impl Comes {
    /// What caps say.
    pub(super) fn of(caps: &gst::CapsRef) -> Self {
        let Some(structure) = caps.structure(0) else { return Self::Unknown };
        let name = structure.name().as_str();
        if name.ends_with("/x-raw") {
            return Self::Raw;
        }
        let codec = Codec::ALL.into_iter().find(|codec| codec.caps_name() == name);
        codec.map_or(Self::Unknown, |codec| Self::Encoded(OutgoingFormat { codec, fmtp: fmtp(codec, structure) }))
    }
}

/// The variant of a codec that our encoders make.
fn encoded(codec: Codec) -> OutgoingFormat {
    let fmtp = match codec {
        Codec::H264 => h264("42e0", "1f"),
        Codec::Vp9 => "profile-id=0".to_owned(),
        Codec::Av1 => "profile=0".to_owned(),
        Codec::H265 => "profile-id=1;tier-flag=0;tx-mode=SRST".to_owned(),
        Codec::Vp8 | Codec::Opus | Codec::Pcmu | Codec::Pcma => String::new(),
    };
    OutgoingFormat { codec, fmtp }
}

/// The variant that comes in.
fn fmtp(codec: Codec, caps: &gst::StructureRef) -> String {
    if codec != Codec::H264 {
        return encoded(codec).fmtp;
    }
    let data = caps.get::<gst::Buffer>("codec_data").ok();
    let map = data.as_ref().and_then(|data| data.map_readable().ok());
    // AVCDecoderConfigurationRecord: version, profile, compatibility, level (ISO 14496-15 section 5.3.3.1).
    if let Some(&[profile, compatibility, level]) = map.as_ref().and_then(|map| map.get(1..4)) {
        return h264(&format!("{profile:02x}{compatibility:02x}"), &format!("{level:02x}"));
    }
    let profile = match caps.get::<&str>("profile") {
        Ok("high" | "progressive-high" | "constrained-high") => "6400",
        Ok("main") => "4d00",
        Ok("baseline") => "4200",
        _ => "42e0",
    };
    h264(profile, "1f")
}

fn h264(profile: &str, level: &str) -> String {
    format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}{level}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes(caps: &str) -> Comes {
        gst::init().unwrap();
        Comes::of(&caps.parse::<gst::Caps>().unwrap())
    }

    fn lane(comes: Comes) -> Lane {
        Lane { kind: MediaKind::Video, comes, chosen: None, expected: None }
    }

    #[test]
    fn raw_media_can_be_had_in_all_that_can_be_made_and_encoded_media_as_it_is() {
        let preferred = [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Opus];
        let makeable = [Codec::Vp8, Codec::H264, Codec::Opus];
        let names = |lane: Lane| lane.formats(&preferred, &makeable).into_iter().map(|f| f.codec).collect::<Vec<_>>();
        assert_eq!(names(lane(comes("video/x-raw,format=I420"))), [Codec::Vp8, Codec::H264]);
        assert_eq!(names(lane(Comes::Unknown)), [Codec::Vp8, Codec::H264]);
        assert_eq!(names(lane(comes("video/x-vp9"))), [Codec::Vp9]);
        assert_eq!(names(lane(comes("video/x-av1"))), [Codec::Vp8, Codec::H264], "not among the preferred");
        assert!(names(lane(Comes::Nothing)).is_empty());
    }

    #[test]
    fn what_the_peer_sends_comes_first_and_as_it_is_if_it_can() {
        let preferred = [Codec::Vp8, Codec::H264, Codec::Vp9];
        let makeable = [Codec::Vp8, Codec::H264];
        let format = |codec| OutgoingFormat { codec, fmtp: "theirs".into() };
        let formats = |comes, codec, passes| {
            let expected = Some(Expected { format: format(codec), passes });
            let lane = Lane { expected, ..lane(comes) };
            lane.formats(&preferred, &makeable).into_iter().map(|f| (f.codec, f.fmtp == "theirs")).collect::<Vec<_>>()
        };
        let (vp8, h264, vp9) = (Codec::Vp8, Codec::H264, Codec::Vp9);
        assert_eq!(formats(Comes::Nothing, h264, true), [(h264, true), (vp8, false)]);
        assert_eq!(formats(Comes::Unknown, vp9, true), [(vp9, true), (vp8, false), (h264, false)]);
        assert_eq!(formats(Comes::Unknown, h264, false), [(h264, false), (vp8, false)], "made in what the peer has");
        assert_eq!(formats(Comes::Unknown, vp9, false), [(vp8, false), (h264, false)], "it cannot be made");
        assert_eq!(formats(Comes::Raw, h264, true), [(h264, false), (vp8, false)]);
        assert_eq!(formats(Comes::Nothing, Codec::Av1, true), [(vp8, false), (h264, false)], "it is not wanted");
    }

    #[test]
    fn h264_is_offered_in_the_profile_that_it_has() {
        let fmtp = |caps| match comes(caps) {
            Comes::Encoded(format) => format.fmtp,
            other => panic!("{other:?}"),
        };
        let avc = "video/x-h264,stream-format=avc,alignment=au,codec_data=(buffer)01640028ffe1";
        assert!(fmtp(avc).ends_with("profile-level-id=640028"));
        assert!(fmtp("video/x-h264,stream-format=byte-stream,profile=main").ends_with("=4d001f"));
        assert!(fmtp("video/x-h264,stream-format=byte-stream").ends_with("=42e01f"));
    }
}
