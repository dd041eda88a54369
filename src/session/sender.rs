//! How what we send appears in the stack and in our description: one stream for each track, under one name.
//!
//! The stack is given the tracks for the description's sake; packets go past them (`egress`).

use std::sync::Arc;

use rtc::{
    media_stream::MediaStreamTrack,
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
    },
    sdp::{MediaDescription, SessionDescription, extmap::TRANSPORT_CC_URI},
};
use webrtc::{
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::PeerConnection,
};

use super::{
    connection::SessionError,
    egress::{Outlet, SendEvents, Wire},
    exchange::Outgoing,
    negotiate::parse,
    track::Track,
};
use crate::codec::{Codec, DEPENDENCY_DESCRIPTOR_URI, MediaKind};

/// What a session has to send.
pub struct Sends {
    /// The tracks.
    pub tracks: Vec<Outgoing>,
    /// Who is told what the peer wants.
    pub events: Arc<dyn SendEvents>,
    /// Whether what the peer sends is taken as well.
    pub receives: bool,
}

/// The streams of one session.
pub(super) struct Sender {
    outlet: Outlet,
    /// The media stream's id, which is the CNAME as well: tracks with the same one are played in sync.
    name: String,
    streams: Vec<(Track, Wire)>,
}

impl Sender {
    /// For the tracks that the peer takes.
    pub(super) fn new(sends: Sends, taken: &[Track]) -> Self {
        let name = format!("bridge-{:08x}", rand::random::<u32>());
        let streams: Vec<(Track, Wire)> = taken.iter().map(|track| (track.clone(), wire(track))).collect();
        let mut wires: Vec<Option<Wire>> = vec![None; sends.tracks.len()];
        for (track, wire) in &streams {
            if let Some(place) = wires.get_mut(track.index) {
                *place = Some(wire.clone());
            }
        }
        let outlet = Outlet::new(wires, &name, sends.events);
        Self { outlet, name, streams }
    }

    pub(super) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    pub(super) fn into_outlet(self) -> Outlet {
        self.outlet
    }

    /// Makes the connection describe the streams; before it gets the offer, whose sections they go to in order.
    pub(super) async fn add_to(&self, connection: &dyn PeerConnection) -> Result<(), SessionError> {
        for (track, wire) in &self.streams {
            let codec = track.codec_parameters().into_iter().next().map(|parameters| parameters.rtp_codec);
            let ssrcs = Ssrcs { media: wire.ssrc, rtx: wire.rtx.map(|(ssrc, _)| ssrc) };
            let track = described_track(&self.name, (track.kind(), track.index), ssrcs, codec.unwrap_or_default());
            connection.add_track(track).await?;
        }
        Ok(())
    }

    /// Takes from our description what is agreed upon there: the numbers of header extensions.
    pub(super) fn described(&self, description: &str) {
        self.outlet.extended(extensions(description, self.streams.iter().map(|(track, _)| track)));
    }
}

/// What the streams of a track are called on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ssrcs {
    pub(super) media: u32,
    pub(super) rtx: Option<u32>,
}

impl Ssrcs {
    pub(super) fn random(kind: MediaKind) -> Self {
        Self { media: ssrc(), rtx: (kind == MediaKind::Video).then(ssrc) }
    }
}

/// A track that is there to be described; nothing is sent by it. `name` groups tracks. Without a codec all that the engine
/// knows are described.
pub(super) fn described_track(
    name: &str,
    (kind, index): (MediaKind, usize),
    ssrcs: Ssrcs,
    codec: RTCRtpCodec,
) -> Arc<dyn TrackLocal> {
    let rtp_coding_parameters = RTCRtpCodingParameters {
        ssrc: Some(ssrcs.media),
        rtx: ssrcs.rtx.map(|ssrc| RTCRtpRtxParameters { ssrc }),
        ..RTCRtpCodingParameters::default()
    };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..RTCRtpEncodingParameters::default() };
    let id = format!("{kind}-{index}");
    let kind = match kind {
        MediaKind::Audio => RtpCodecKind::Audio,
        MediaKind::Video => RtpCodecKind::Video,
    };
    let track = MediaStreamTrack::new(name.to_owned(), id.clone(), id, kind, vec![encoding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

/// The header extensions of what is sent, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// Carries transport-wide numbers, where the peer reports on them.
    pub(super) transport_cc: Option<u8>,
    /// Carries dependency descriptors.
    pub(super) dependencies: Option<u8>,
}

/// The header extensions that a description agrees to, by the index of each track.
pub(super) fn extensions<'a>(description: &str, tracks: impl Iterator<Item = &'a Track>) -> Vec<(usize, Extensions)> {
    let Ok(description) = parse(description) else { return Vec::new() };
    let of = |track: &Track| Extensions {
        transport_cc: extension(&description, track, TRANSPORT_CC_URI).filter(|_| is_reported(track)),
        // Keyframes' are too long for short ones (RFC 8285 section 4.2).
        dependencies: extension(&description, track, DEPENDENCY_DESCRIPTOR_URI)
            .filter(|_| track.codec == Codec::Av1 && may_be_long(&description, track)),
    };
    tracks.map(|track| (track.index, of(track))).collect()
}

fn section<'a>(description: &'a SessionDescription, track: &Track) -> Option<&'a MediaDescription> {
    let mid = track.mid.as_deref();
    description.media_descriptions.iter().find(|section| section.attribute("mid").flatten() == mid)
}

fn extension(description: &SessionDescription, track: &Track, wanted: &str) -> Option<u8> {
    let extensions = section(description, track)?.attributes.iter().filter(|attribute| attribute.key == "extmap");
    let id = extensions.filter_map(|attribute| attribute.value.as_deref()?.split_once(' ')).find_map(|(id, uri)| {
        let is_wanted = uri.split_ascii_whitespace().next() == Some(wanted);
        is_wanted.then(|| id.split('/').next()?.parse::<u8>().ok()).flatten()
    })?;
    (1..=14).contains(&id).then_some(id)
}

/// Whether packets may have header extensions of more than 16 bytes.
fn may_be_long(description: &SessionDescription, track: &Track) -> bool {
    const MIXED: &str = "extmap-allow-mixed";
    description.has_attribute(MIXED) || section(description, track).is_some_and(|section| section.has_attribute(MIXED))
}

/// Whether the peer reports on arrivals.
fn is_reported(track: &Track) -> bool {
    track.feedback.iter().any(|(typ, _)| typ == "transport-cc")
}

fn wire(track: &Track) -> Wire {
    wire_with(track, Ssrcs { media: ssrc(), rtx: Some(ssrc()) })
}

/// How a track is sent that the peer takes.
pub(super) fn wire_with(track: &Track, ssrcs: Ssrcs) -> Wire {
    let nack = track.feedback.iter().any(|(typ, parameter)| typ == "nack" && parameter.is_empty());
    Wire {
        kind: track.kind(),
        clock_rate: track.codec.clock_rate(),
        ssrc: ssrcs.media,
        payload_type: track.payload_type,
        rtx: ssrcs.rtx.zip(track.rtx).filter(|_| nack),
        nack,
        extensions: Extensions::default(),
    }
}

/// Not 0, which some take for "none".
fn ssrc() -> u32 {
    rand::random_range(1..=u32::MAX)
}
