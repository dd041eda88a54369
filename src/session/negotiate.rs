//! What we take of an offer: pure, from SDP text to a list of tracks (RFC 8829, RFC 9725 section 4.2).

use std::io::Cursor;

use rtc::sdp::{MediaDescription, SessionDescription};

use super::{Track, exchange::exchange};
use crate::codec::{Codec, MediaKind};

/// SSRCs of one section: three simulcast layers and their retransmissions, and FEC.
const MOST_SSRCS: usize = 16;

/// The codecs that may be answered with, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecPreferences {
    /// For `m=video` sections.
    pub video: Vec<Codec>,
    /// For `m=audio` sections.
    pub audio: Vec<Codec>,
}

impl Default for CodecPreferences {
    fn default() -> Self {
        let of = |kind| Codec::ALL.into_iter().filter(|codec| codec.kind() == kind).collect();
        Self { video: of(MediaKind::Video), audio: of(MediaKind::Audio) }
    }
}

/// Why an offer cannot be answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// It is not SDP, or lacks what every WebRTC offer has.
    #[error("{0}")]
    Malformed(String),
    /// It is fine, but offers nothing that we take.
    #[error("{0}")]
    Unacceptable(String),
}

/// Reads an offer and decides which tracks and codecs the answer will have, of a session that only receives.
pub fn negotiate(offer: &str, preferences: &CodecPreferences) -> Result<Vec<Track>, NegotiationError> {
    exchange(offer, Some(preferences), &[], false).map(|exchange| exchange.incoming)
}

/// The same for a session that takes data channels as well: an offer of nothing else will do.
pub fn negotiate_with_data(offer: &str, preferences: &CodecPreferences) -> Result<Vec<Track>, NegotiationError> {
    exchange(offer, Some(preferences), &[], true).map(|exchange| exchange.incoming)
}

pub(super) fn parse(offer: &str) -> Result<SessionDescription, NegotiationError> {
    SessionDescription::unmarshal(&mut Cursor::new(offer.as_bytes()))
        .map_err(|error| NegotiationError::Malformed(format!("the SDP cannot be parsed: {error}")))
}

/// ICE credentials and a fingerprint must be there, at session or media level (RFC 8839 section 5.4, RFC 8122 section 5).
pub(super) fn check_transport(description: &SessionDescription) -> Result<(), NegotiationError> {
    if description.media_descriptions.is_empty() {
        return Err(NegotiationError::Malformed("it has no media section (m=)".into()));
    }
    for name in ["ice-ufrag", "ice-pwd", "fingerprint"] {
        let everywhere = description.attribute(name).is_some()
            || description
                .media_descriptions
                .iter()
                .filter(|section| section.media_name.port.value != 0 || section.attribute("bundle-only").is_some())
                .all(|section| section.attribute(name).is_some());
        if !everywhere {
            return Err(NegotiationError::Malformed(format!("a={name} is missing")));
        }
    }
    Ok(())
}

/// A payload type as a section describes it.
#[derive(Debug, Default)]
pub(super) struct Format<'a> {
    pub(super) payload_type: u8,
    pub(super) encoding: &'a str,
    clock_rate: u32,
    channels: u16,
    pub(super) fmtp: &'a str,
    feedback: Vec<(&'a str, &'a str)>,
}

/// The track that is taken of a section which the peer sends.
pub(super) fn track(
    index: usize,
    kind: MediaKind,
    section: &MediaDescription,
    preferences: &CodecPreferences,
) -> Result<Track, NegotiationError> {
    let formats = formats(section);
    let preferred = match kind {
        MediaKind::Audio => &preferences.audio,
        MediaKind::Video => &preferences.video,
    };
    let chosen = preferred.iter().find_map(|&codec| {
        formats
            .iter()
            .filter(|format| format.is(codec))
            .filter_map(|format| Some((codec.variant_rank(format.fmtp)?, format)))
            .min_by_key(|(rank, _)| *rank) // the first of equals: the offer's own order
            .map(|(_, format)| (codec, format))
    });
    let Some((codec, format)) = chosen else {
        let names = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
        let offered: Vec<_> = formats.iter().map(|format| format.encoding.to_owned()).collect();
        let accepted: Vec<_> = preferred.iter().map(ToString::to_string).collect();
        return Err(NegotiationError::Unacceptable(format!(
            "no {kind} codec in common: {} offered, {} accepted here",
            names(&offered),
            names(&accepted)
        )));
    };
    Ok(describe(index, kind, section, &formats, codec, format))
}

/// The track of a section that is sent in this format.
pub(super) fn describe(
    index: usize,
    kind: MediaKind,
    section: &MediaDescription,
    formats: &[Format<'_>],
    codec: Codec,
    format: &Format<'_>,
) -> Track {
    let apt = format!("apt={}", format.payload_type);
    let rtx = formats
        .iter()
        .find(|other| other.encoding.eq_ignore_ascii_case("rtx") && other.fmtp.split(';').any(|p| p.trim() == apt))
        .map(|rtx| rtx.payload_type);
    let red =
        formats.iter().find(|other| kind == MediaKind::Audio && other.repeats(format)).map(|red| red.payload_type);
    Track {
        index,
        mid: section.attribute("mid").flatten().map(str::to_owned),
        codec,
        payload_type: format.payload_type,
        channels: if kind == MediaKind::Audio { format.channels } else { 0 },
        fmtp: format.fmtp.to_owned(),
        rtx,
        red,
        ssrcs: ssrcs(section),
        feedback: format.feedback.iter().filter(|(typ, parameter)| wanted(typ, parameter)).map(owned).collect(),
    }
}

/// Feedback that we make: NACK, PLI, FIR and transport-wide congestion control; not REMB.
fn wanted(typ: &str, parameter: &str) -> bool {
    matches!((typ, parameter), ("nack", "" | "pli") | ("ccm", "fir") | ("transport-cc", ""))
}

fn owned((a, b): &(&str, &str)) -> (String, String) {
    ((*a).to_owned(), (*b).to_owned())
}

impl Format<'_> {
    pub(super) fn is(&self, codec: Codec) -> bool {
        self.encoding.eq_ignore_ascii_case(codec.name()) && self.clock_rate == codec.clock_rate()
    }

    /// Whether this is RED of nothing but the other format: `111/111`, one for each generation (RFC 2198 section 5).
    fn repeats(&self, other: &Format<'_>) -> bool {
        self.encoding.eq_ignore_ascii_case("red")
            && (self.clock_rate, self.channels) == (other.clock_rate, other.channels)
            && self.fmtp.contains('/')
            && self.fmtp.split('/').all(|payload_type| payload_type.trim().parse() == Ok(other.payload_type))
    }
}

/// The formats of a section in the order of its media line (RFC 8866 section 5.14).
pub(super) fn formats(section: &MediaDescription) -> Vec<Format<'_>> {
    let mut formats: Vec<Format<'_>> = section
        .media_name
        .formats
        .iter()
        .filter_map(|format| format.parse().ok())
        .map(|payload_type| match payload_type {
            // Static payload types need no rtpmap (RFC 3551 section 6).
            0 => Format { payload_type, encoding: "PCMU", clock_rate: 8000, channels: 1, ..Format::default() },
            8 => Format { payload_type, encoding: "PCMA", clock_rate: 8000, channels: 1, ..Format::default() },
            _ => Format { payload_type, ..Format::default() },
        })
        .collect();
    for attribute in &section.attributes {
        let Some((number, value)) = attribute.value.as_deref().and_then(|value| value.split_once(' ')) else {
            continue;
        };
        let matching = |format: &&mut Format<'_>| number == "*" || number.parse() == Ok(format.payload_type);
        match attribute.key.as_str() {
            "rtpmap" => {
                let mut parts = value.trim().split('/');
                let encoding = parts.next().unwrap_or_default();
                let clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
                let channels = parts.next().and_then(|channels| channels.parse().ok()).filter(|count| *count > 0);
                let channels = channels.unwrap_or(1);
                for format in formats.iter_mut().filter(matching) {
                    (format.encoding, format.clock_rate, format.channels) = (encoding, clock_rate, channels);
                }
            }
            "fmtp" => formats.iter_mut().filter(matching).for_each(|format| format.fmtp = value.trim()),
            "rtcp-fb" => {
                let (typ, parameter) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
                formats.iter_mut().filter(matching).for_each(|format| format.feedback.push((typ, parameter.trim())));
            }
            _ => {}
        }
    }
    formats.retain(|format| !format.encoding.is_empty());
    formats
}

fn ssrcs(section: &MediaDescription) -> Vec<u32> {
    let mut ssrcs = Vec::new();
    for attribute in section.attributes.iter().filter(|attribute| attribute.key == "ssrc") {
        let number = attribute.value.as_deref().and_then(|value| value.split(' ').next()).and_then(|n| n.parse().ok());
        if let Some(ssrc) = number
            && !ssrcs.contains(&ssrc)
            && ssrcs.len() < MOST_SSRCS
        {
            ssrcs.push(ssrc);
        }
    }
    ssrcs
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
         a=fingerprint:sha-256 00:11\r\n";
    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtcp-fb:111 transport-cc\r\n";
    const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 106 102 103 127\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\n\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:* nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
         a=rtpmap:106 H264/90000\r\na=fmtp:106 packetization-mode=0;profile-level-id=42e01f\r\n\
         a=rtpmap:102 H264/90000\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\r\n\
         a=rtcp-fb:102 nack pli\r\na=rtcp-fb:102 goog-remb\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
         a=rtpmap:127 H264/90000\r\na=fmtp:127 packetization-mode=1;profile-level-id=640c1f\r\n\
         a=ssrc-group:FID 11 12\r\na=ssrc:11 cname:x\r\na=ssrc:11 msid:s t\r\na=ssrc:12 cname:x\r\n";

    fn offer(sections: &[&str]) -> String {
        format!("{HEAD}{}", sections.concat())
    }

    #[test]
    fn the_first_preferred_codec_is_taken_in_the_offers_own_variant() {
        let tracks = negotiate(&offer(&[AUDIO, VIDEO]), &CodecPreferences::default()).unwrap();
        assert_eq!(
            tracks.iter().map(|t| (t.codec, t.payload_type)).collect::<Vec<_>>(),
            [(Codec::Opus, 111), (Codec::H264, 102)]
        );
        let video = &tracks[1];
        assert_eq!((video.index, video.mid.as_deref(), video.rtx), (1, Some("1"), Some(103)));
        assert_eq!(video.ssrcs, [11, 12]);
        assert_eq!(video.feedback, [("nack".into(), String::new()), ("nack".into(), "pli".into())]);
    }

    #[test]
    fn audio_without_channels_has_one() {
        for none in ["", "/", "/0", "/000", "/x", "/65536"] {
            let offer = offer(&[&AUDIO.replace("opus/48000/2", &format!("opus/48000{none}"))]);
            assert_eq!(negotiate(&offer, &CodecPreferences::default()).unwrap()[0].channels, 1, "{none}");
        }
    }

    #[test]
    fn preferences_overrule_the_offer() {
        let preferences = CodecPreferences { video: vec![Codec::Vp8], audio: vec![Codec::Pcmu] };
        let tracks = negotiate(&offer(&[AUDIO, VIDEO]), &preferences).unwrap();
        assert_eq!(
            tracks.iter().map(|t| (t.codec, t.payload_type)).collect::<Vec<_>>(),
            [(Codec::Pcmu, 0), (Codec::Vp8, 96)]
        );
    }

    #[test]
    fn redundancy_is_taken_only_of_the_codec_that_was_chosen() {
        let red = |fmtp: &str, preferences: &CodecPreferences| {
            let audio = AUDIO.replace("SAVPF 111 0", "SAVPF 111 63 0")
                + "a=rtpmap:63 red/48000/2\r\na=fmtp:63 "
                + fmtp
                + "\r\n";
            negotiate(&offer(&[&audio]), preferences).unwrap()[0].red
        };
        assert_eq!(red("111/111", &CodecPreferences::default()), Some(63));
        for other in ["111/0", "111", "", "0/0"] {
            assert_eq!(red(other, &CodecPreferences::default()), None, "{other}");
        }
        let pcmu = CodecPreferences { audio: vec![Codec::Pcmu], ..CodecPreferences::default() };
        assert_eq!(red("111/111", &pcmu), None);
    }

    #[test]
    fn no_common_codec_is_told_with_both_lists() {
        let preferences = CodecPreferences { video: vec![Codec::Vp9], ..CodecPreferences::default() };
        let error = negotiate(&offer(&[VIDEO]), &preferences).unwrap_err();
        assert_eq!(
            error,
            NegotiationError::Unacceptable(
                "no video codec in common: VP8, rtx, H264, H264, rtx, H264 offered, VP9 accepted here".into()
            )
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["ice-ufrag", "ice-pwd", "fingerprint"] {
            let start = format!("a={name}:");
            let without: String =
                offer(&[AUDIO]).split_inclusive("\r\n").filter(|line| !line.starts_with(&start)).collect();
            let error = negotiate(&without, &CodecPreferences::default()).unwrap_err();
            assert_eq!(error, NegotiationError::Malformed(format!("a={name} is missing")));
        }
    }

    #[test]
    fn an_offer_that_sends_nothing_is_unacceptable() {
        let receiving = offer(&[AUDIO]).replace("sendonly", "recvonly");
        assert!(matches!(negotiate(&receiving, &CodecPreferences::default()), Err(NegotiationError::Unacceptable(_))));
    }

    #[test]
    fn every_truncation_of_an_offer_is_answered_with_an_error_or_tracks() {
        let whole = offer(&[AUDIO, VIDEO]);
        for length in 0..whole.len() {
            let _ = negotiate(&whole[..length], &CodecPreferences::default());
        }
    }
}
