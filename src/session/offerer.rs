//! A session that makes the offer: the way of a client, whose server answers (or makes an offer of its own, which
//! [`Session::answer`] takes).

use std::sync::Arc;

use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, rtp_sender::RtpCodecKind};
use tokio::{runtime::Handle, sync::mpsc};
use webrtc::peer_connection::{MediaEngine, PeerConnection, RTCPeerConnectionState, RTCSessionDescription};

use super::{
    PacketSink,
    accepted::{Accepted, Choice, Offered, accepted},
    bandwidth,
    caller_ice::{Announcer, CallerIce},
    connection::{
        Announced, Handler, Parts, Session, SessionConfig, SessionError, Terms, announce, build,
        gathered_description,
    },
    data::{Channels, widen},
    ice_side::IceSide,
    late_tap::{LateTap, Slot},
    mux::{IceCredentials, MuxHandle},
    offered::offered,
    remote_candidates::RemoteCandidates,
    rtx::{LateKnown, RtxUnwrap},
    stack::{interceptors, settings},
    tap::{MediaTap, TapState},
    track::Track,
};
use crate::codec::MediaKind;

/// A connection with an offer, waiting for its answer. Dropping it closes the connection.
pub struct Offering {
    connection: Option<Arc<dyn PeerConnection>>,
    /// The runtime that it was made on.
    media: Handle,
    config: SessionConfig,
    server_is_local: bool,
    receives: bool,
    data: Arc<Channels>,
    routes: MuxHandle,
    sdp: String,
    tap: Slot,
    known: LateKnown,
    events: Option<mpsc::Receiver<RTCPeerConnectionState>>,
}

impl Offering {
    /// Makes an offer to receive one video and one audio track, of the codecs that `config` names. Must run on the runtime
    /// that reads the mux; everything of the session then does. `server_is_local`: it is on this machine.
    pub async fn new(config: &SessionConfig, server_is_local: bool) -> Result<Self, SessionError> {
        Self::with(config, server_is_local, Terms::default()).await
    }

    /// Makes an offer of what the terms say.
    pub async fn with(config: &SessionConfig, server_is_local: bool, terms: Terms) -> Result<Self, SessionError> {
        let Terms { data, .. } = terms;
        let receives = !config.codecs.video.is_empty() || !config.codecs.audio.is_empty();
        let data = Channels::new(data);
        let (handler, events, gathered) = Handler::new(data.clone());
        let mut engine = MediaEngine::default();
        for (kind, format) in offered(&config.codecs) {
            engine.register_codec(format, kind_of(kind))?;
        }
        let tap = Slot::default();
        let known = LateKnown::default();
        let registry = interceptors(&mut engine, RtxUnwrap::late(known.clone()), LateTap::new(tap.clone()))?;
        let (connection, routes) =
            build(config, settings("", config.connect_timeout), engine, registry, handler).await?;
        routes.calls();
        let mut offering = Self {
            connection: Some(connection.clone()),
            media: Handle::current(),
            config: config.clone(),
            server_is_local,
            receives,
            data,
            routes,
            sdp: String::new(),
            tap,
            known,
            events: Some(events),
        };
        let wanted = [(MediaKind::Video, &config.codecs.video), (MediaKind::Audio, &config.codecs.audio)];
        for (kind, _) in wanted.into_iter().filter(|(_, codecs)| !codecs.is_empty()) {
            let receive =
                RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
            connection.add_transceiver_from_kind(kind_of(kind), Some(receive)).await?;
        }
        if offering.data.are_wanted() {
            // The stack offers data channels only where there is one. This one is never opened.
            connection.create_data_channel("", None).await?.close().await?;
        }
        let offer = connection.create_offer(None).await?;
        let offer = gathered_description(&*connection, offer, gathered).await?;
        let Announced { sdp, .. } = announce(config, &offering.routes, &offer, server_is_local);
        offering.sdp = mux_only(&bandwidth::limit(&sdp, config.max_bitrate));
        Ok(offering)
    }

    /// The SDP offer, with all candidates.
    pub fn sdp(&self) -> &str {
        &self.sdp
    }

    /// Takes the answer. `begin` is called with the tracks once these are known: at once, or with the first packets if the
    /// answer leaves formats open; then on the media thread, so it must hand over and return. `guard` is dropped when the
    /// session has ended.
    pub async fn answered(
        mut self,
        answer: &str,
        sink: Arc<dyn PacketSink>,
        begin: impl FnOnce(Session, Vec<Track>) + Send + Sync + 'static,
        guard: impl Send + 'static,
    ) -> Result<Session, SessionError> {
        let offered = Offered {
            incoming: Some(&self.config.codecs).filter(|_| self.receives),
            outgoing: &[],
            data: self.data.are_wanted(),
        };
        let Accepted { incoming, data: peer_data, .. } = accepted(answer, &offered)?;
        let choice = Choice::new(incoming);
        let gone = || SessionError::Stack("the offer has been answered before".into());
        let connection = self.connection.clone().ok_or_else(gone)?;
        let mut remote = RemoteCandidates::of_server(self.server_is_local);
        let answer = widen(&remote.keep_admitted(answer))?;
        if let Some(credentials) = IceCredentials::of_description(&answer) {
            self.routes.set_remote_password(credentials.password().to_owned());
        }
        let described = answer.clone();
        let announcer = Announcer {
            configured: self.config.public_addresses.clone(),
            server_is_local: self.server_is_local,
            ipv6: self.config.mux.is_dual_stack(),
            port: self.config.mux.port(),
        };
        let ice = CallerIce::new(&self.sdp, &answer, remote, self.routes.clone(), announcer)
            .ok_or_else(|| SessionError::Stack("the offer has no ICE credentials".into()))?;
        let description = RTCSessionDescription::answer(answer)?;

        // The kinds are known, and that is all that the session itself looks at.
        let tracks = choice.first_formats();
        let tap = Arc::new(TapState::new(tracks.len()));
        self.routes.announce_ssrcs(tracks.iter().flat_map(|track| track.ssrcs.iter().copied()));
        tap.tell(self.routes.clone());
        self.data.agreed(Arc::downgrade(&connection), peer_data);
        connection.set_remote_description(description).await?;
        let events = self.events.take().ok_or_else(gone)?;
        self.connection = None; // the session's from here on
        let parts = Parts {
            connection,
            ice: IceSide::Called(Box::new(ice)),
            sink: sink.clone(),
            events,
            tap: tap.clone(),
            red: Arc::default(),
            tracks,
            outlet: None,
            data: self.data.clone(),
        };
        let session = Session::watched(parts, self.config.connect_timeout, guard);
        // In time for the first packet: keys are agreed upon after what is on its way now.
        let (begun, known) = (session.clone(), self.known.clone());
        self.tap.fill(
            choice,
            Box::new(move |tracks| {
                begin(begun, tracks.clone());
                let tapping = MediaTap::new(&described, tracks, sink, tap);
                let _ = known.set(tapping.known()); // filled once
                tapping
            }),
        );
        Ok(session)
    }
}

impl Drop for Offering {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.data.end();
            // Dropping a connection does not stop it.
            self.media.spawn(async move {
                let _ = connection.close().await;
            });
        }
    }
}

fn kind_of(kind: MediaKind) -> RtpCodecKind {
    match kind {
        MediaKind::Audio => RtpCodecKind::Audio,
        MediaKind::Video => RtpCodecKind::Video,
    }
}

/// Says of each section that RTCP has no port of its own (RFC 8858 section 3), which the stack leaves out.
fn mux_only(offer: &str) -> String {
    offer.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=rtcp-mux-only\r\n")
}
