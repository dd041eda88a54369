//! What our own offer says that we send, and what the answer makes of it.
//!
//! Its streams have their names before it is known what they carry: an offer lists every format that a track can be had in,
//! and the answer picks one.

use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, rtp_sender::RTCRtpCodec};
use webrtc::peer_connection::PeerConnection;

use super::{
    connection::SessionError,
    egress::Outlet,
    exchange::Outgoing,
    negotiate::NegotiationError,
    sender::{Sends, Ssrcs, described_track, extensions, wire_with},
    track::Track,
};
use crate::codec::MediaKind;

/// The tracks of an offer that has no answer yet.
pub(super) struct Promise {
    outlet: Outlet,
    name: String,
    tracks: Vec<(Outgoing, Ssrcs)>,
}

impl Promise {
    /// At most one track of a kind: more cannot be offered to a WHIP server (RFC 9725 section 4.4.2).
    pub(super) fn new(sends: Sends) -> Result<Self, SessionError> {
        for kind in [MediaKind::Video, MediaKind::Audio] {
            if sends.tracks.iter().filter(|track| track.kind == kind && !track.formats.is_empty()).count() > 1 {
                let why = format!("more than one {kind} track cannot be offered");
                return Err(NegotiationError::Unacceptable(why).into());
            }
        }
        let name = format!("bridge-{:08x}", rand::random::<u32>());
        let outlet = Outlet::new(vec![None; sends.tracks.len()], &name, sends.events);
        let named = |track: Outgoing| {
            let ssrcs = Ssrcs::random(track.kind);
            (track, ssrcs)
        };
        Ok(Self { outlet, name, tracks: sends.tracks.into_iter().map(named).collect() })
    }

    pub(super) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// The tracks as they were given.
    pub(super) fn tracks(&self) -> Vec<Outgoing> {
        self.tracks.iter().map(|(track, _)| track.clone()).collect()
    }

    /// Makes the connection offer the track of this kind, if there is one.
    pub(super) async fn add_to(
        &self,
        connection: &dyn PeerConnection,
        kind: MediaKind,
        receives: bool,
    ) -> Result<bool, SessionError> {
        let mut tracks = self.tracks.iter().enumerate();
        let is_there = |track: &Outgoing| track.kind == kind && !track.formats.is_empty();
        let Some((index, (_, ssrcs))) = tracks.find(|(_, (track, _))| is_there(track)) else { return Ok(false) };
        let track = described_track(&self.name, (kind, index), *ssrcs, RTCRtpCodec::default());
        let direction = match receives {
            true => RTCRtpTransceiverDirection::Sendrecv,
            false => RTCRtpTransceiverDirection::Sendonly,
        };
        let init = RTCRtpTransceiverInit { direction, ..Default::default() };
        connection.add_transceiver_from_track(track, Some(init)).await?;
        Ok(true)
    }

    /// The answer takes these tracks.
    pub(super) fn kept(&self, taken: &[Track], answer: &str) {
        let mut wires = vec![None; self.tracks.len()];
        for track in taken {
            if let Some((place, (_, ssrcs))) = wires.get_mut(track.index).zip(self.tracks.get(track.index)) {
                *place = Some(wire_with(track, *ssrcs));
            }
        }
        self.outlet.agreed(wires);
        self.outlet.extended(extensions(answer, taken.iter()));
    }
}
