//! What our offer says: every variant of every codec that is wanted, so that a server finds the one that it has. Pure.

use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters};

use super::{exchange::Outgoing, negotiate::CodecPreferences};
use crate::codec::{Codec, MediaKind};

/// Dynamic payload types (RFC 3551 section 6), those that browsers use first.
const PAYLOAD_TYPES: std::ops::RangeInclusive<u8> = 96..=127;

/// The formats to offer, in order of preference, with a payload type each, and the one of its retransmissions behind it:
/// first what there is to send, then what may come.
pub(super) fn offered(
    preferences: Option<&CodecPreferences>,
    outgoing: &[Outgoing],
) -> Vec<(MediaKind, RTCRtpCodecParameters)> {
    let sent = outgoing.iter().flat_map(|track| &track.formats).map(|format| (format.codec, format.fmtp.as_str()));
    let received = preferences.into_iter().flat_map(|codecs| codecs.video.iter().chain(&codecs.audio));
    let received = received.flat_map(|codec| variants(*codec).iter().map(|fmtp| (*codec, *fmtp)));
    let mut free = PAYLOAD_TYPES;
    let mut known: Vec<(Codec, &str)> = Vec::new();
    let mut offered = Vec::new();
    for (codec, fmtp) in sent.chain(received) {
        let fixed = match codec {
            Codec::Pcmu => Some(0),
            Codec::Pcma => Some(8),
            _ => None,
        };
        // What is of one codec and has no parameters to tell it apart would be the same format twice.
        let has_it = |other: &(Codec, &str)| other.0 == codec && (other.1 == fmtp || variants(codec).len() < 2);
        if known.iter().any(has_it) {
            continue;
        }
        known.push((codec, fmtp));
        let Some(payload_type) = fixed.or_else(|| free.next()) else { return offered };
        offered.push((codec.kind(), format(codec, payload_type, fmtp)));
        if codec.kind() == MediaKind::Video
            && let Some(rtx) = free.next()
        {
            offered.push((codec.kind(), retransmissions(codec, rtx, payload_type)));
        }
    }
    offered
}

/// Format parameters to offer a codec with, the preferred ones first.
fn variants(codec: Codec) -> &'static [&'static str] {
    match codec {
        // Constrained baseline, baseline, main and high, as browsers have them: an answer keeps profile and mode (RFC 6184
        // section 8.2.2). The level binds nobody (level-asymmetry-allowed).
        Codec::H264 => &[
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
            "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f",
            "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f",
            "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f",
        ],
        Codec::Vp9 => &["profile-id=0"],
        Codec::Opus => &["minptime=10;useinbandfec=1;stereo=1"],
        _ => &[""],
    }
}

fn format(codec: Codec, payload_type: u8, fmtp: &str) -> RTCRtpCodecParameters {
    let feedback: &[(&str, &str)] = match codec.kind() {
        MediaKind::Video => &[("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("transport-cc", "")],
        MediaKind::Audio => &[("nack", ""), ("transport-cc", "")],
    };
    let channels = match (codec.kind(), codec) {
        (MediaKind::Video, _) => 0,
        (MediaKind::Audio, Codec::Opus) => 2,
        (MediaKind::Audio, _) => 1,
    };
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: codec.mime_type(),
            clock_rate: codec.clock_rate(),
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: feedback
                .iter()
                .map(|(typ, parameter)| RTCPFeedback { typ: (*typ).to_owned(), parameter: (*parameter).to_owned() })
                .collect(),
        },
        payload_type,
    }
}

fn retransmissions(codec: Codec, payload_type: u8, of: u8) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: "video/rtx".into(),
            clock_rate: codec.clock_rate(),
            channels: 0,
            sdp_fmtp_line: format!("apt={of}"),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_has_a_payload_type_of_its_own() {
        let offered = offered(Some(&CodecPreferences::default()), &[]);
        let mut payload_types: Vec<u8> = offered.iter().map(|(_, format)| format.payload_type).collect();
        for codec in Codec::ALL {
            assert!(offered.iter().any(|(_, format)| format.rtp_codec.mime_type == codec.mime_type()), "{codec}");
        }
        let count = payload_types.len();
        payload_types.sort_unstable();
        payload_types.dedup();
        assert_eq!(payload_types.len(), count);
    }

    #[test]
    fn the_order_is_that_of_the_preferences_and_retransmissions_follow_their_format() {
        let codecs = CodecPreferences { video: vec![Codec::Vp9, Codec::Vp8], audio: vec![Codec::Pcma] };
        let offered = offered(Some(&codecs), &[]);
        let names: Vec<_> = offered
            .iter()
            .map(|(_, f)| (f.rtp_codec.mime_type.as_str(), f.rtp_codec.sdp_fmtp_line.as_str(), f.payload_type))
            .collect();
        assert_eq!(
            names,
            [
                ("video/VP9", "profile-id=0", 96),
                ("video/rtx", "apt=96", 97),
                ("video/VP8", "", 98),
                ("video/rtx", "apt=98", 99),
                ("audio/PCMA", "", 8)
            ]
        );
    }

    #[test]
    fn what_there_is_to_send_comes_first_and_nothing_comes_twice() {
        let codecs = CodecPreferences { video: vec![Codec::Vp8, Codec::H264], audio: vec![Codec::Opus] };
        let h264 = "packetization-mode=1;profile-level-id=42c01f";
        let ours =
            [Outgoing::of(Codec::H264, h264), Outgoing::of(Codec::Opus, "stereo=1"), Outgoing::of(Codec::Vp8, "")];
        let names = |offered: &[(MediaKind, RTCRtpCodecParameters)]| -> Vec<(String, String)> {
            let of = |format: &RTCRtpCodecParameters| {
                (format.rtp_codec.mime_type.clone(), format.rtp_codec.sdp_fmtp_line.clone())
            };
            offered.iter().map(|(_, format)| of(format)).filter(|(name, _)| name != "video/rtx").collect()
        };
        let both = names(&offered(Some(&codecs), &ours));
        let first = [("video/H264", h264), ("audio/opus", "stereo=1"), ("video/VP8", "")];
        assert!(both.iter().zip(first).all(|(is, should)| (is.0.as_str(), is.1.as_str()) == should), "{both:?}");
        assert_eq!(both.len(), 3 + variants(Codec::H264).len());
        assert_eq!(names(&offered(None, &ours)), both[..3]);
    }
}
