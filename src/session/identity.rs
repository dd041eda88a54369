//! How the streams of one session are told apart: by SSRC where the description announces them, by the `mid` and `rid`
//! header extensions (RFC 8852, RFC 8843 section 15), else by payload type. Pure.

use std::io::Cursor;

use bytes::Bytes;
use rtc::{
    rtp::Header,
    sdp::{MediaDescription, SessionDescription},
};

use super::{layers::MOST_LAYERS, track::Track};
use crate::codec::{DEPENDENCY_DESCRIPTOR_URI, MediaKind};

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

/// What the peer's description says of its streams.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// The ids of the header extensions; 0 where there is none.
    mid: u8,
    rid: u8,
    repaired_rid: u8,
    dependencies: u8,
    tracks: Vec<Streams>,
}

/// The streams of one track.
#[derive(Clone, Debug, Default)]
struct Streams {
    mid: Option<String>,
    payload_type: u8,
    /// Payload type of its redundant audio.
    red: Option<u8>,
    rtx: Option<u8>,
    ssrcs: Vec<u32>,
    /// Its kind, if it may be asked for again what is lost (RFC 4585 section 6.2.1).
    asked: Option<MediaKind>,
    /// The layers' names, as announced.
    rids: Vec<String>,
    /// Layers announced by their SSRCs only (`a=ssrc-group:SIM`), as browsers did before there were rids.
    group: usize,
}

impl Streams {
    fn has_format(&self, payload_type: u8) -> bool {
        self.payload_type == payload_type || self.red == Some(payload_type)
    }
}

fn is_nack((kind, parameter): &(String, String)) -> bool {
    kind == "nack" && parameter.is_empty()
}

impl Identity {
    /// From the peer's description and the tracks that are taken of it.
    pub(super) fn new(description: &str, tracks: &[Track]) -> Self {
        let mut identity = Self {
            tracks: tracks
                .iter()
                .map(|track| Streams {
                    mid: track.mid.clone(),
                    payload_type: track.payload_type,
                    red: track.red,
                    rtx: track.rtx,
                    ssrcs: track.ssrcs.clone(),
                    asked: track.feedback.iter().any(is_nack).then(|| track.kind()),
                    ..Streams::default()
                })
                .collect(),
            ..Self::default()
        };
        if let Ok(description) = SessionDescription::unmarshal(&mut Cursor::new(description.as_bytes())) {
            for section in &description.media_descriptions {
                identity.read(section);
            }
        }
        identity
    }

    fn read(&mut self, section: &MediaDescription) {
        let mid = section.attribute("mid").flatten();
        let mut layers = (Vec::new(), 0);
        for attribute in &section.attributes {
            let Some(value) = attribute.value.as_deref() else { continue };
            let mut words = value.split_ascii_whitespace();
            match (attribute.key.as_str(), words.next(), words.next()) {
                ("extmap", Some(id), Some(uri)) => {
                    let id = id.split('/').next().and_then(|id| id.parse().ok()).unwrap_or(0);
                    match uri {
                        MID => self.mid = id,
                        RID => self.rid = id,
                        REPAIRED_RID => self.repaired_rid = id,
                        DEPENDENCY_DESCRIPTOR_URI => self.dependencies = id,
                        _ => {}
                    }
                }
                ("rid", Some(rid), Some("send")) if layers.0.len() < MOST_LAYERS => layers.0.push(rid.to_owned()),
                ("ssrc-group", Some("SIM"), Some(_)) => layers.1 = (words.count() + 1).min(MOST_LAYERS),
                _ => {}
            }
        }
        if let Some(track) = self.tracks.iter_mut().find(|track| mid.is_some() && track.mid.as_deref() == mid) {
            (track.rids, track.group) = layers;
        }
    }

    /// How many layers a track was announced with, at least 1.
    pub(super) fn layers(&self, track: usize) -> usize {
        self.tracks.get(track).map_or(1, |track| track.rids.len().max(track.group).max(1))
    }

    /// The track of a media packet (BUNDLE demands that one of these tells, RFC 9143 section 9.2).
    pub(super) fn track(&self, header: &Header) -> Option<usize> {
        self.find(header, |track| track.has_format(header.payload_type))
    }

    /// Whether media of a track comes with this payload type; nothing else was agreed upon.
    pub(super) fn has_format(&self, track: usize, payload_type: u8) -> bool {
        self.tracks.get(track).is_some_and(|track| track.has_format(payload_type))
    }

    /// The kind of a media packet of whose stream what is lost may be asked for again.
    pub(super) fn asked(&self, header: &Header) -> Option<MediaKind> {
        self.tracks.get(self.track(header)?)?.asked
    }

    /// The track that a retransmission belongs to, by its payload type.
    pub(super) fn repaired_track(&self, header: &Header) -> Option<usize> {
        self.find(header, |track| track.rtx == Some(header.payload_type))
    }

    /// The layer's name in a media packet, or in a retransmission that of the layer it repairs; only announced ones count.
    pub(super) fn rid(&self, track: usize, header: &Header) -> Option<&str> {
        let extension = |id: u8| (id > 0).then(|| header.get_extension(id)).flatten();
        let name = extension(self.rid).or_else(|| extension(self.repaired_rid))?;
        self.tracks.get(track)?.rids.iter().find(|rid| rid.as_bytes() == name.as_ref()).map(String::as_str)
    }

    /// What a packet tells of its frame's layer. It comes only where our answer agreed to it.
    pub(super) fn dependencies(&self, header: &Header) -> Option<Bytes> {
        (self.dependencies > 0).then(|| header.get_extension(self.dependencies)).flatten()
    }

    fn find(&self, header: &Header, takes: impl Fn(&Streams) -> bool) -> Option<usize> {
        let mid = (self.mid > 0).then(|| header.get_extension(self.mid)).flatten();
        let by = |is: &dyn Fn(&Streams) -> bool| self.tracks.iter().position(|track| takes(track) && is(track));
        by(&|track| track.ssrcs.contains(&header.ssrc))
            .or_else(|| {
                let mid = mid.as_ref()?;
                by(&|track| track.mid.as_ref().is_some_and(|own| own.as_bytes() == mid.as_ref()))
            })
            .or_else(|| by(&|_| true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{CodecPreferences, negotiate};

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 00:11\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:cam\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n\
        a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        a=extmap:10/sendonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
        a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
        a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:screen\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n\
        a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc:7 cname:x\r\na=ssrc-group:SIM 7 8\r\n";

    fn identity() -> Identity {
        Identity::new(OFFER, &negotiate(OFFER, &CodecPreferences::default()).unwrap())
    }

    fn header(ssrc: u32, payload_type: u8, extensions: &[(u8, &'static str)]) -> Header {
        let mut header = Header { ssrc, payload_type, ..Header::default() };
        for (id, value) in extensions {
            header.set_extension(*id, Bytes::from_static(value.as_bytes())).unwrap();
        }
        header
    }

    #[test]
    fn extensions_and_announced_numbers_tell_the_track_where_payload_types_do_not() {
        let identity = identity();
        assert_eq!(identity.track(&header(1, 96, &[(4, "screen")])), Some(1));
        assert_eq!(identity.track(&header(7, 96, &[])), Some(1));
        assert_eq!(identity.track(&header(1, 96, &[])), Some(0), "the first that it fits");
        assert_eq!(identity.track(&header(1, 99, &[(4, "cam")])), None, "nobody negotiated 99");
        assert_eq!(identity.repaired_track(&header(1, 97, &[(4, "screen")])), Some(1));
    }

    #[test]
    fn layers_are_named_by_the_offer_alone() {
        let identity = identity();
        assert_eq!((identity.layers(0), identity.layers(1), identity.layers(9)), (3, 2, 1));
        assert_eq!(identity.rid(0, &header(1, 96, &[(10, "h")])), Some("h"));
        assert_eq!(identity.rid(0, &header(1, 97, &[(11, "f")])), Some("f"));
        assert_eq!(identity.rid(0, &header(1, 96, &[(10, "made-up")])), None);
        assert_eq!(identity.rid(1, &header(1, 96, &[(10, "h")])), None);
    }
}
