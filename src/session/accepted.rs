//! What an answer promises to send: pure, from SDP text to the formats of each track (RFC 8829 section 5.3).
//!
//! An answer may leave several formats open; which one it is, the payload type of the first packet tells ([`Choice`]).

use std::{
    io::Cursor,
    time::{Duration, Instant},
};

use rtc::sdp::{MediaDescription, SessionDescription};

use super::{
    Track,
    negotiate::{CodecPreferences, Format, NegotiationError, check_transport, describe, formats},
};
use crate::codec::{Codec, MediaKind};

/// Tracks of one answer: more than we offer cannot be in it.
const MOST_TRACKS: usize = 2;

/// Reads an answer. For each section that sends something, the formats that it may come in, in the answer's order.
pub(super) fn accepted(answer: &str, preferences: &CodecPreferences) -> Result<Vec<Vec<Track>>, NegotiationError> {
    let description = SessionDescription::unmarshal(&mut Cursor::new(answer.as_bytes()))
        .map_err(|error| NegotiationError::Malformed(format!("the SDP cannot be parsed: {error}")))?;
    check_transport(&description)?;
    let mut sections = Vec::new();
    for section in &description.media_descriptions {
        let kind = match section.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => continue,
        };
        // Port 0 refuses a section, unless it is one that only the bundle's transport serves (RFC 9143 section 7.2.1).
        let is_refused = section.media_name.port.value == 0 && section.attribute("bundle-only").is_none();
        let is_silent = ["recvonly", "inactive"].into_iter().any(|direction| section.has_attribute(direction));
        if is_refused || is_silent || sections.len() >= MOST_TRACKS {
            continue;
        }
        sections.push(tracks(sections.len(), kind, section, preferences)?);
    }
    if sections.is_empty() {
        return Err(NegotiationError::Unacceptable("the server sends neither audio nor video".into()));
    }
    Ok(sections)
}

fn tracks(
    index: usize,
    kind: MediaKind,
    section: &MediaDescription,
    preferences: &CodecPreferences,
) -> Result<Vec<Track>, NegotiationError> {
    let formats = formats(section);
    let known = match kind {
        MediaKind::Audio => &preferences.audio,
        MediaKind::Video => &preferences.video,
    };
    let codec_of = |format: &Format<'_>| -> Option<Codec> {
        known.iter().copied().find(|codec| format.is(*codec) && codec.variant_rank(format.fmtp).is_some())
    };
    let tracks: Vec<Track> = formats
        .iter()
        .filter_map(|format| Some(describe(index, kind, section, &formats, codec_of(format)?, format)))
        .collect();
    match tracks.is_empty() {
        true => {
            Err(NegotiationError::Unacceptable(format!("the answer names no {kind} codec of those that were offered")))
        }
        false => Ok(tracks),
    }
}

/// A track that stays silent for so long after another one has begun is taken for its section's first format.
const PATIENCE: Duration = Duration::from_millis(500);

/// Which of its formats each section is sent in.
#[derive(Debug)]
pub(super) struct Choice {
    sections: Vec<Vec<Track>>,
    chosen: Vec<Option<Track>>,
    first_packet: Option<Instant>,
}

impl Choice {
    pub(super) fn new(sections: Vec<Vec<Track>>) -> Self {
        let chosen = sections.iter().map(|formats| (formats.len() == 1).then(|| formats.first().cloned())?).collect();
        Self { sections, chosen, first_packet: None }
    }

    /// The tracks, if nothing is open any more.
    pub(super) fn tracks(&self) -> Option<Vec<Track>> {
        self.chosen.iter().cloned().collect()
    }

    /// The tracks as they would be if every section's first format was meant.
    pub(super) fn first_formats(&self) -> Vec<Track> {
        self.sections.iter().filter_map(|formats| formats.first().cloned()).collect()
    }

    /// A packet of this payload type has come; the tracks, if nothing is open any more.
    pub(super) fn heard(&mut self, payload_type: u8, now: Instant) -> Option<Vec<Track>> {
        for (formats, chosen) in self.sections.iter().zip(&mut self.chosen) {
            if chosen.is_none() {
                *chosen = formats.iter().find(|format| format.payload_type == payload_type).cloned();
            }
        }
        let since = *self.first_packet.get_or_insert(now);
        if now.saturating_duration_since(since) >= PATIENCE {
            for (formats, chosen) in self.sections.iter().zip(&mut self.chosen) {
                *chosen = chosen.take().or_else(|| formats.first().cloned());
            }
        }
        self.tracks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
         a=fingerprint:sha-256 00:11\r\n";
    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
         a=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:x\r\n";
    const VIDEO: &str = "m=video 0 UDP/TLS/RTP/SAVPF 125 96 97 98\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=bundle-only\r\na=sendonly\r\n\
         a=rtpmap:125 AV2/90000\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
         a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\n";

    fn read(sections: &str) -> Result<Vec<Vec<Track>>, NegotiationError> {
        accepted(&format!("{HEAD}{sections}"), &CodecPreferences::default())
    }

    fn codecs(sections: &[Vec<Track>]) -> Vec<Vec<Codec>> {
        sections.iter().map(|formats| formats.iter().map(|track| track.codec).collect()).collect()
    }

    #[test]
    fn every_known_format_is_kept_in_the_answers_order() {
        let sections = read(&format!("{AUDIO}{VIDEO}")).unwrap();
        assert_eq!(codecs(&sections), [vec![Codec::Opus], vec![Codec::Vp8, Codec::H264]]);
        let (audio, vp8) = (&sections[0][0], &sections[1][0]);
        assert_eq!((audio.index, audio.ssrcs.as_slice(), vp8.index, vp8.rtx), (0, [7].as_slice(), 1, Some(97)));
    }

    #[test]
    fn refused_and_silent_sections_are_left_out() {
        let refused = AUDIO.replace("m=audio 9", "m=audio 0");
        assert_eq!(codecs(&read(&format!("{refused}{VIDEO}")).unwrap()), [[Codec::Vp8, Codec::H264]]);
        let silent = VIDEO.replace("sendonly", "inactive");
        assert_eq!(codecs(&read(&format!("{AUDIO}{silent}")).unwrap()), [[Codec::Opus]]);
        let nothing = NegotiationError::Unacceptable("the server sends neither audio nor video".into());
        assert_eq!(read(&format!("{refused}{silent}")), Err(nothing));
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_told_why() {
        assert!(matches!(accepted("nonsense", &CodecPreferences::default()), Err(NegotiationError::Malformed(_))));
        assert!(matches!(accepted("v=0\r\n", &CodecPreferences::default()), Err(NegotiationError::Malformed(_))));
        let error = read(&AUDIO.replace("opus", "speex")).unwrap_err();
        assert!(error.to_string().contains("no audio codec"), "{error}");
        for length in 0..VIDEO.len() {
            let _ = read(&VIDEO[..length]);
        }
    }

    #[test]
    fn what_is_not_open_is_known_at_once() {
        assert_eq!(Choice::new(read(AUDIO).unwrap()).tracks().unwrap()[0].codec, Codec::Opus);
        assert_eq!(Choice::new(read(VIDEO).unwrap()).tracks(), None);
    }

    #[test]
    fn the_first_packet_tells_the_format() {
        let (mut choice, now) = (Choice::new(read(&format!("{AUDIO}{VIDEO}")).unwrap()), Instant::now());
        assert_eq!(choice.heard(111, now), None, "video is still open");
        let tracks = choice.heard(98, now).unwrap();
        assert_eq!((tracks[0].codec, tracks[1].codec), (Codec::Opus, Codec::H264));
    }

    #[test]
    fn silence_is_not_waited_for_longer_than_patience() {
        let (mut choice, now) = (Choice::new(read(&format!("{AUDIO}{VIDEO}")).unwrap()), Instant::now());
        assert_eq!(choice.heard(111, now), None);
        assert_eq!(choice.heard(111, now + PATIENCE - Duration::from_millis(1)), None);
        assert_eq!(choice.heard(111, now + PATIENCE).unwrap()[1].codec, Codec::Vp8);
    }
}
