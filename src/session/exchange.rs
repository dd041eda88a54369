//! What each section of an offer is used for: what the peer sends in it, what we send in it, both, or nothing. Pure (RFC
//! 8829 section 5.3.1).
//!
//! A section has one codec, whichever way media goes. What we have to send goes into the first section of its kind that
//! takes it; of a section that carries both directions the peer's is taken in that same codec.

use rtc::sdp::MediaDescription;

use super::{
    Track,
    data::{PeerData, peer_data},
    negotiate::{CodecPreferences, Format, NegotiationError, check_transport, describe, formats, parse, track},
};
use crate::codec::{Codec, MediaKind};

/// Media sections of one offer that are looked at: a camera, a screen and their sounds, with room to spare.
const MOST_TRACKS: usize = 8;

/// A track that we have to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Audio or video.
    pub kind: MediaKind,
    /// What it can be had in, the preferred first.
    pub formats: Vec<OutgoingFormat>,
}

/// A codec and its format parameters, as in `a=fmtp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingFormat {
    /// The codec.
    pub codec: Codec,
    /// Its format parameters; may be empty.
    pub fmtp: String,
}

impl Outgoing {
    /// A track that is there in one format only.
    pub fn of(codec: Codec, fmtp: &str) -> Self {
        Self { kind: codec.kind(), formats: vec![OutgoingFormat { codec, fmtp: fmtp.to_owned() }] }
    }
}

/// What an offer comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exchange {
    /// What the peer sends and we take.
    pub(super) incoming: Vec<Track>,
    /// What we send; the index is that of the [`Outgoing`].
    pub(super) outgoing: Vec<Track>,
    /// One for each section of the offer.
    pub(super) sections: Vec<Section>,
    /// What the offer says of data channels.
    pub(super) data: Option<PeerData>,
}

/// What becomes of one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Not ours to decide: data channels, and what nobody sends in.
    AsItIs,
    /// Nothing flows: there is nothing for it.
    Silent,
    /// The formats are those of this track.
    Carries { track: Track, direction: &'static str },
}

/// Reads an offer: `incoming` are the codecs that are taken, nothing is if there are none; `outgoing` is what there is to
/// send; `data_will_do`: data channels without any media are enough.
pub(super) fn exchange(
    offer: &str,
    incoming: Option<&CodecPreferences>,
    outgoing: &[Outgoing],
    data_will_do: bool,
) -> Result<Exchange, NegotiationError> {
    let description = parse(offer)?;
    check_transport(&description)?;
    let mut found = Exchange { data: peer_data(&description), ..Exchange::default() };
    let mut to_send: Vec<(usize, &Outgoing)> = outgoing.iter().enumerate().collect();
    for section in &description.media_descriptions {
        let Some(directions) = Directions::of(section) else {
            found.sections.push(Section::AsItIs);
            continue;
        };
        if found.incoming.len().max(found.outgoing.len()) >= MOST_TRACKS {
            return Err(NegotiationError::Unacceptable(format!("more than {MOST_TRACKS} tracks are offered")));
        }
        let sent = if directions.peer_receives { sendable(section, directions.kind, &mut to_send) } else { None };
        let taken = match (incoming.filter(|_| directions.peer_sends), &sent) {
            (None, _) => None,
            (Some(preferences), None) => Some(track(found.incoming.len(), directions.kind, section, preferences)?),
            (Some(preferences), Some(sent)) => {
                let takes = preferences.video.contains(&sent.codec) || preferences.audio.contains(&sent.codec);
                let is_usable = takes && sent.codec.variant_rank(&sent.fmtp).is_some();
                is_usable.then(|| Track { index: found.incoming.len(), ..sent.clone() })
            }
        };
        found.sections.push(match (&taken, &sent) {
            (Some(track), None) if directions.peer_receives && !outgoing.is_empty() => {
                Section::Carries { track: track.clone(), direction: "sendonly" }
            }
            (Some(track), None) => Section::Carries { track: track.clone(), direction: directions.name },
            (Some(track), Some(_)) => Section::Carries { track: track.clone(), direction: "sendrecv" },
            (None, Some(track)) => Section::Carries { track: track.clone(), direction: "recvonly" },
            (None, None) if incoming.is_none() || directions.peer_sends => Section::Silent,
            (None, None) => Section::AsItIs,
        });
        found.incoming.extend(taken);
        found.outgoing.extend(sent);
    }
    let has_data = data_will_do && found.data.is_some();
    if found.incoming.is_empty() && found.outgoing.is_empty() && !has_data {
        return Err(NegotiationError::Unacceptable(nothing(&description.media_descriptions, incoming, outgoing)));
    }
    Ok(found)
}

/// Whether an offer is of a peer that sends nothing and wants something.
pub fn only_receives(offer: &str) -> bool {
    let Ok(description) = parse(offer) else { return false };
    let mut sections = description.media_descriptions.iter().filter_map(Directions::of).peekable();
    sections.peek().is_some() && sections.all(|section| section.peer_receives && !section.peer_sends)
}

/// The kinds of media that a peer wants to get, whether there is any.
pub fn wanted_kinds(offer: &str) -> Vec<MediaKind> {
    let Ok(description) = parse(offer) else { return Vec::new() };
    let sections = description.media_descriptions.iter().filter_map(Directions::of);
    let wanted: Vec<_> = sections.filter(|section| section.peer_receives).map(|section| section.kind).collect();
    [MediaKind::Video, MediaKind::Audio].into_iter().filter(|kind| wanted.contains(kind)).collect()
}

/// What a peer would take of what there is to send. One that wants a kind of media of which it takes nothing is told so, as
/// an answer with half of it would be a surprise.
pub fn takes(offer: &str, outgoing: &[Outgoing]) -> Result<Vec<Track>, NegotiationError> {
    let found = exchange(offer, None, outgoing, false)?.outgoing;
    let description = parse(offer)?;
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let ours: Vec<Outgoing> = outgoing.iter().filter(|outgoing| outgoing.kind == kind).cloned().collect();
        let of_kind =
            |section: &&MediaDescription| Directions::of(section).is_some_and(|d| d.kind == kind && d.peer_receives);
        let wanted: Vec<_> = description.media_descriptions.iter().filter(of_kind).cloned().collect();
        if !ours.is_empty() && !wanted.is_empty() && found.iter().all(|track| track.kind() != kind) {
            return Err(NegotiationError::Unacceptable(nothing(&wanted, None, &ours)));
        }
    }
    Ok(found)
}

/// What flows in a section, as the peer has it.
struct Directions {
    kind: MediaKind,
    name: &'static str,
    peer_sends: bool,
    peer_receives: bool,
}

impl Directions {
    /// `None` for data channels.
    fn of(section: &MediaDescription) -> Option<Self> {
        let kind = match section.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => return None,
        };
        let has = |direction: &&str| section.has_attribute(direction);
        // Port 0: not used, unless it is a part of a bundle (RFC 9143 section 6).
        let is_used = section.media_name.port.value != 0 || section.attribute("bundle-only").is_some();
        let told = ["inactive", "recvonly", "sendonly"].into_iter().find(has).unwrap_or("sendrecv");
        let name = if is_used { told } else { "inactive" };
        let (peer_sends, peer_receives) = match name {
            "inactive" => (false, false),
            "recvonly" => (false, true),
            "sendonly" => (true, false),
            _ => (true, true),
        };
        Some(Self { kind, name, peer_sends, peer_receives })
    }
}

/// The track that goes into a section, taken from those that wait for one.
fn sendable(section: &MediaDescription, kind: MediaKind, to_send: &mut Vec<(usize, &Outgoing)>) -> Option<Track> {
    let formats = formats(section);
    let (place, found) = to_send
        .iter()
        .enumerate()
        .filter(|(_, (_, ours))| ours.kind == kind)
        .find_map(|(place, (index, ours))| Some((place, fitting(ours, &formats).map(|found| (*index, found))?)))?;
    to_send.remove(place);
    let (index, (codec, format)) = found;
    Some(Track { red: None, ..describe(index, kind, section, &formats, codec, format) })
}

fn fitting<'f, 'a>(ours: &Outgoing, formats: &'f [Format<'a>]) -> Option<(Codec, &'f Format<'a>)> {
    ours.formats.iter().find_map(|OutgoingFormat { codec, fmtp }| {
        formats
            .iter()
            .filter(|format| format.is(*codec))
            .filter_map(|format| Some((codec.fit(fmtp, format.fmtp)?, format)))
            .min_by_key(|(rank, _)| *rank) // the first of equals: the offer's own order
            .map(|(_, format)| (*codec, format))
    })
}

/// Why nothing flows, with both lists where codecs are the reason.
fn nothing(sections: &[MediaDescription], incoming: Option<&CodecPreferences>, outgoing: &[Outgoing]) -> String {
    let receives = sections.iter().filter_map(|section| Some((section, Directions::of(section)?)));
    let mut receives = receives.filter(|(_, directions)| directions.peer_receives).peekable();
    if outgoing.is_empty() && incoming.is_some() {
        return "the offer sends neither audio nor video".into();
    }
    if receives.peek().is_none() {
        return "the offer receives neither audio nor video".into();
    }
    let mut offered: Vec<String> = receives
        .flat_map(|(section, _)| formats(section).into_iter().map(|f| f.encoding.to_owned()).collect::<Vec<_>>())
        .collect();
    offered.dedup();
    let ours: Vec<String> = outgoing.iter().flat_map(|o| &o.formats).map(|f| f.codec.to_string()).collect();
    let names = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    format!("no codec in common: the offer receives {}, there is {} to send", names(&offered), names(&ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
         a=fingerprint:sha-256 00:11\r\n";

    fn offer(direction: &str) -> String {
        format!(
            "{HEAD}m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na={direction}\r\n\
             a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 106\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na={direction}\r\n\
             a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
             a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42001f\r\n\
             a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
             a=rtpmap:106 H264/90000\r\na=fmtp:106 packetization-mode=1;profile-level-id=42e01f\r\n"
        )
    }

    fn ours() -> Vec<Outgoing> {
        vec![Outgoing::of(Codec::H264, "packetization-mode=1;profile-level-id=42e01f"), Outgoing::of(Codec::Opus, "")]
    }

    fn directions(exchange: &Exchange) -> Vec<&str> {
        let of = |section: &Section| match section {
            Section::AsItIs => "as it is",
            Section::Silent => "silent",
            Section::Carries { direction, .. } => direction,
        };
        exchange.sections.iter().map(of).collect()
    }

    fn types(tracks: &[Track]) -> Vec<(usize, Codec, u8)> {
        tracks.iter().map(|track| (track.index, track.codec, track.payload_type)).collect()
    }

    #[test]
    fn a_viewer_gets_what_there_is_in_the_nearest_format() {
        let found = exchange(&offer("recvonly"), None, &ours(), false).unwrap();
        assert_eq!(types(&found.outgoing), [(1, Codec::Opus, 111), (0, Codec::H264, 106)]);
        assert_eq!((found.incoming.len(), directions(&found)), (0, vec!["recvonly", "recvonly"]));
        assert_eq!((found.outgoing[1].rtx, found.outgoing[1].mid.as_deref()), (None, Some("1")));
    }

    #[test]
    fn a_section_for_both_ways_has_one_codec() {
        let preferences = CodecPreferences { video: vec![Codec::Vp8, Codec::H264], ..CodecPreferences::default() };
        let found = exchange(&offer("sendrecv"), Some(&preferences), &ours(), false).unwrap();
        assert_eq!(types(&found.incoming), [(0, Codec::Opus, 111), (1, Codec::H264, 106)]);
        assert_eq!(directions(&found), ["sendrecv", "sendrecv"]);
        let only_sends = exchange(&offer("sendrecv"), None, &ours(), false).unwrap();
        assert_eq!((only_sends.incoming.len(), directions(&only_sends)), (0, vec!["recvonly", "recvonly"]));
        let one = exchange(&offer("sendrecv"), Some(&preferences), &ours()[1..], false).unwrap();
        assert_eq!(types(&one.incoming), [(0, Codec::Opus, 111), (1, Codec::Vp8, 96)]);
        assert_eq!(directions(&one), ["sendrecv", "sendonly"]);
        let no_h264 = CodecPreferences { video: vec![Codec::Vp8], ..CodecPreferences::default() };
        let apart = exchange(&offer("sendrecv"), Some(&no_h264), &ours(), false).unwrap();
        assert_eq!((types(&apart.incoming).len(), directions(&apart)), (1, vec!["sendrecv", "recvonly"]));
    }

    #[test]
    fn what_does_not_fit_is_silent_and_nothing_at_all_is_unacceptable() {
        let vp9 = [Outgoing::of(Codec::Vp9, ""), Outgoing::of(Codec::Opus, "")];
        let found = exchange(&offer("recvonly"), None, &vp9, false).unwrap();
        assert_eq!(
            (types(&found.outgoing), directions(&found)),
            (vec![(1, Codec::Opus, 111)], vec!["recvonly", "silent"])
        );
        let error = exchange(&offer("recvonly"), None, &vp9[..1], false).unwrap_err();
        assert_eq!(
            error,
            NegotiationError::Unacceptable(
                "no codec in common: the offer receives opus, PCMU, VP8, rtx, H264, rtx, H264, there is VP9 to send"
                    .into()
            )
        );
        let error = exchange(&offer("sendonly"), None, &ours(), false).unwrap_err();
        assert_eq!(error, NegotiationError::Unacceptable("the offer receives neither audio nor video".into()));
    }

    #[test]
    fn a_section_that_the_peer_does_not_use_gets_nothing() {
        let unused = offer("recvonly").replace("m=video 9", "m=video 0");
        let found = exchange(&unused, None, &ours(), false).unwrap();
        assert_eq!(
            (types(&found.outgoing), directions(&found)),
            (vec![(1, Codec::Opus, 111)], vec!["recvonly", "silent"])
        );
        let bundled = unused.replace("a=mid:1", "a=mid:1\r\na=bundle-only");
        assert_eq!(exchange(&bundled, None, &ours(), false).unwrap().outgoing.len(), 2);
        assert_eq!(wanted_kinds(&unused), [MediaKind::Audio]);
        assert_eq!(wanted_kinds(&bundled), [MediaKind::Video, MediaKind::Audio]);
        let codecs = CodecPreferences::default();
        let sent = offer("sendrecv").replace("m=video 9", "m=video 0");
        assert_eq!(exchange(&sent, Some(&codecs), &[], false).unwrap().incoming.len(), 1);
    }

    #[test]
    fn two_cameras_go_into_two_sections() {
        let video = offer("recvonly").split("m=video").nth(1).unwrap().to_owned();
        let twice = offer("recvonly") + "m=video" + &video.replace("mid:1", "mid:2");
        let two = [ours()[0].clone(), Outgoing::of(Codec::Vp8, ""), ours()[1].clone()];
        let found = exchange(&twice, None, &two, false).unwrap();
        assert_eq!(types(&found.outgoing), [(2, Codec::Opus, 111), (0, Codec::H264, 106), (1, Codec::Vp8, 96)]);
    }

    #[test]
    fn data_alone_is_enough_where_it_is_wanted() {
        let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=max-message-size:1000\r\n";
        let codecs = CodecPreferences::default();
        let found = exchange(&format!("{HEAD}{data}"), Some(&codecs), &[], true).unwrap();
        assert_eq!((found.data.map(|data| data.largest), found.sections), (Some(1000), vec![Section::AsItIs]));
        let error = exchange(&format!("{HEAD}{data}"), Some(&codecs), &[], false).unwrap_err();
        assert_eq!(error, NegotiationError::Unacceptable("the offer sends neither audio nor video".into()));
        assert!(exchange(&offer("recvonly"), Some(&codecs), &[], true).is_err(), "neither media nor data");
        let both = exchange(&format!("{}{data}", offer("sendonly")), Some(&codecs), &[], true).unwrap();
        assert_eq!((both.incoming.len(), both.data.is_some()), (2, true));
    }
}
