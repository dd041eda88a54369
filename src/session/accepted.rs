//! What an answer promises to send, and what it takes: pure, from SDP text to the formats of each track (RFC 8829 section
//! 5.3).
//!
//! An answer may leave several formats open; which one it is, the payload type of the first packet tells ([`Choice`]).

use std::time::{Duration, Instant};

use rtc::sdp::MediaDescription;

use super::{
    Track,
    data::{PeerData, peer_data},
    exchange::Outgoing,
    negotiate::{CodecPreferences, Format, NegotiationError, check_transport, describe, formats, parse},
};
use crate::codec::{Codec, MediaKind};

/// Tracks of one answer: more than we offer cannot be in it.
const MOST_TRACKS: usize = 2;

/// What we have offered.
pub(super) struct Offered<'a> {
    /// The codecs that may come; nothing may if there are none.
    pub(super) incoming: Option<&'a CodecPreferences>,
    /// What there is to send.
    pub(super) outgoing: &'a [Outgoing],
    /// Data channels, which are enough.
    pub(super) data: bool,
}

/// What an answer makes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// For each section that sends something, the formats that it may come in, in the answer's order.
    pub(super) incoming: Vec<Vec<Track>>,
    /// What is taken of what we send; the index is that of the [`Outgoing`].
    pub(super) outgoing: Vec<Track>,
    /// Data channels.
    pub(super) data: Option<PeerData>,
}

/// Reads an answer.
pub(super) fn accepted(answer: &str, offered: &Offered<'_>) -> Result<Accepted, NegotiationError> {
    let description = parse(answer)?;
    check_transport(&description)?;
    let data = peer_data(&description).filter(|_| offered.data);
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    let mut to_send: Vec<(usize, &Outgoing)> = offered.outgoing.iter().enumerate().collect();
    for section in &description.media_descriptions {
        let kind = match section.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => continue,
        };
        // Port 0 refuses a section, unless it is one that only the bundle's transport serves (RFC 9143 section 7.2.1).
        let is_refused = section.media_name.port.value == 0 && section.attribute("bundle-only").is_none();
        if is_refused {
            continue;
        }
        let is = |directions: [&str; 2]| directions.into_iter().any(|direction| section.has_attribute(direction));
        if !is(["recvonly", "inactive"])
            && incoming.len() < MOST_TRACKS
            && let Some(preferences) = offered.incoming
        {
            incoming.push(tracks(incoming.len(), kind, section, preferences)?);
        }
        if !is(["sendonly", "inactive"]) {
            outgoing.extend(taken(kind, section, &mut to_send));
        }
    }
    if incoming.is_empty() && outgoing.is_empty() && data.is_none() {
        let nothing = match (offered.incoming, offered.outgoing) {
            (Some(_), []) => "the server sends neither audio nor video",
            (Some(_), _) => "the answer has neither audio nor video",
            (None, []) => "the answer has no data channels",
            (None, _) => "the server takes neither audio nor video of what was offered",
        };
        return Err(NegotiationError::Unacceptable(nothing.into()));
    }
    Ok(Accepted { incoming, outgoing, data })
}

/// The track that goes into a section, taken from those that wait for one. The answer's own order decides.
fn taken(kind: MediaKind, section: &MediaDescription, to_send: &mut Vec<(usize, &Outgoing)>) -> Option<Track> {
    let place = to_send.iter().position(|(_, ours)| ours.kind == kind)?;
    let (index, ours) = to_send.remove(place);
    let formats = formats(section);
    let (codec, format) = formats.iter().find_map(|format| {
        let ours =
            ours.formats.iter().find(|ours| format.is(ours.codec) && ours.codec.fit(&ours.fmtp, format.fmtp).is_some());
        Some((ours?.codec, format))
    })?;
    Some(Track { red: None, ..describe(index, kind, section, &formats, codec, format) })
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
    use crate::session::exchange::OutgoingFormat;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
         a=fingerprint:sha-256 00:11\r\n";
    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
         a=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:x\r\n";
    const VIDEO: &str = "m=video 0 UDP/TLS/RTP/SAVPF 125 96 97 98\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=bundle-only\r\na=sendonly\r\n\
         a=rtpmap:125 AV2/90000\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
         a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\n";

    fn read(sections: &str) -> Result<Vec<Vec<Track>>, NegotiationError> {
        let codecs = CodecPreferences::default();
        let offered = Offered { incoming: Some(&codecs), outgoing: &[], data: false };
        accepted(&format!("{HEAD}{sections}"), &offered).map(|accepted| accepted.incoming)
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
        let nothing = Offered { incoming: None, outgoing: &[], data: true };
        assert!(matches!(accepted("nonsense", &nothing), Err(NegotiationError::Malformed(_))));
        assert!(matches!(accepted("v=0\r\n", &nothing), Err(NegotiationError::Malformed(_))));
        let error = read(&AUDIO.replace("opus", "speex")).unwrap_err();
        assert!(error.to_string().contains("no audio codec"), "{error}");
        for length in 0..VIDEO.len() {
            let _ = read(&VIDEO[..length]);
        }
    }

    #[test]
    fn the_answers_first_format_that_there_is_gets_sent() {
        let ours = [
            Outgoing {
                kind: MediaKind::Video,
                formats: [Codec::Av1, Codec::H264, Codec::Vp8]
                    .map(|codec| OutgoingFormat { codec, fmtp: String::new() })
                    .to_vec(),
            },
            Outgoing::of(Codec::Opus, ""),
        ];
        let offered = Offered { incoming: None, outgoing: &ours, data: false };
        let sdp = format!("{HEAD}{AUDIO}{VIDEO}").replace("sendonly", "recvonly");
        let found = accepted(&sdp, &offered).unwrap();
        let types: Vec<_> = found.outgoing.iter().map(|t| (t.index, t.codec, t.payload_type, t.rtx)).collect();
        assert_eq!(types, [(1, Codec::Opus, 111, None), (0, Codec::Vp8, 96, Some(97))]);
        assert!(found.incoming.is_empty());
        let error = accepted(&sdp.replace("recvonly", "inactive"), &offered).unwrap_err();
        assert!(error.to_string().contains("takes neither audio nor video"), "{error}");
        let both = accepted(&sdp.replace("recvonly", "sendrecv"), &offered).unwrap();
        assert_eq!((both.incoming.len(), both.outgoing.len()), (0, 2), "nothing was asked for");
    }

    #[test]
    fn data_alone_is_an_answer_to_who_offered_it() {
        let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n";
        let offered = |data| Offered { incoming: None, outgoing: &[], data };
        let found = accepted(&format!("{HEAD}{data}"), &offered(true)).unwrap();
        assert_eq!(found.data.map(|data| data.largest), Some(65_536));
        assert!(accepted(&format!("{HEAD}{data}"), &offered(false)).is_err());
        let refused = data.replace("application 9", "application 0");
        let error = accepted(&format!("{HEAD}{refused}"), &offered(true)).unwrap_err();
        assert_eq!(error, NegotiationError::Unacceptable("the answer has no data channels".into()));
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
