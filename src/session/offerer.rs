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
    connection::{Parts, Session, SessionConfig, SessionError, Terms},
    data::{Channels, widen},
    ice_side::IceSide,
    late_tap::{LateTap, Slot},
    mux::{IceCredentials, MuxHandle},
    narrow::unnamed,
    offered::offered,
    promise::Promise,
    remote_candidates::RemoteCandidates,
    rtx::{LateKnown, RtxUnwrap},
    setup::{Announced, Handler, announce, build, gathered_description},
    stack::{describe_layers, interceptors, sending_interceptors, settings, with_egress},
    tap::{MediaTap, TapState},
    track::Track,
};
use crate::codec::{Codec, MediaKind};

/// A connection with an offer, waiting for its answer. Dropping it closes the connection.
pub struct Offering {
    connection: Option<Arc<dyn PeerConnection>>,
    /// The runtime that it was made on.
    media: Handle,
    config: SessionConfig,
    server_is_local: bool,
    receives: bool,
    sends: Option<Promise>,
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

    /// Makes an offer of what the terms say: to send, to receive what `config` names unless the terms are not to, and to have
    /// data channels. Of a kind that there is something to send of, everything goes in one section.
    pub async fn with(config: &SessionConfig, server_is_local: bool, terms: Terms) -> Result<Self, SessionError> {
        let Terms { sends, data } = terms;
        let codecs = &config.codecs;
        if let Some(reach) = &config.reach {
            reach.gathered().await;
            reach.obstacle().map_or(Ok(()), |why| Err(SessionError::Unreachable(why)))?;
        }
        let receives = sends.as_ref().is_none_or(|sends| sends.receives);
        let receives = receives && !(codecs.video.is_empty() && codecs.audio.is_empty());
        let sends = sends.map(Promise::new).transpose()?;
        let outgoing = sends.as_ref().map(Promise::tracks).unwrap_or_default();
        let data = Channels::new(data);
        let (handler, events, gathered) = Handler::new(data.clone());
        let mut engine = MediaEngine::default();
        for (kind, format) in offered(Some(codecs).filter(|_| receives), &outgoing) {
            engine.register_codec(format, kind_of(kind))?;
        }
        if outgoing.iter().flat_map(|track| &track.formats).any(|format| format.codec == Codec::Av1) {
            describe_layers(&mut engine)?;
        }
        let tap = Slot::default();
        let known = LateKnown::default();
        let registry = match receives {
            true => interceptors(&mut engine, RtxUnwrap::late(known.clone()), LateTap::new(tap.clone()))?,
            false => sending_interceptors(&mut engine)?,
        };
        let registry = with_egress(registry, sends.as_ref().map(Promise::outlet));
        let (connection, routes) =
            build(config, settings("", config.connect_timeout), engine, registry, handler).await?;
        routes.calls();
        let mut offering = Self {
            connection: Some(connection.clone()),
            media: Handle::current(),
            config: config.clone(),
            server_is_local,
            receives,
            sends,
            data,
            routes,
            sdp: String::new(),
            tap,
            known,
            events: Some(events),
        };
        for (kind, codecs) in [(MediaKind::Video, &codecs.video), (MediaKind::Audio, &codecs.audio)] {
            let receives = receives && !codecs.is_empty();
            let is_added = match &offering.sends {
                Some(sends) => sends.add_to(&*connection, kind, receives).await?,
                None => false,
            };
            if receives && !is_added {
                let direction = RTCRtpTransceiverDirection::Recvonly;
                let receive = RTCRtpTransceiverInit { direction, ..Default::default() };
                connection.add_transceiver_from_kind(kind_of(kind), Some(receive)).await?;
            }
        }
        if offering.data.are_wanted() {
            // The stack offers data channels only where there is one. This one is never opened.
            connection.create_data_channel("", None).await?.close().await?;
        }
        let offer = connection.create_offer(None).await?;
        let offer = gathered_description(&*connection, offer, gathered).await?;
        let Announced { sdp, .. } = announce(config, &offering.routes, &offer, server_is_local);
        let sdp = mux_only(&bandwidth::limit(&sdp, if receives { config.max_bitrate } else { 0 }));
        offering.sdp = if receives { sdp } else { bundle_only(&sdp) };
        Ok(offering)
    }

    /// The SDP offer, with all candidates.
    pub fn sdp(&self) -> &str {
        &self.sdp
    }

    /// Takes the answer. Where what we send is handed over, and what the peer takes of it, the session tells
    /// ([`Session::outlet`], [`Session::outgoing`]). `begin` is called with the tracks once these are known: at once, or with the first packets if the
    /// answer leaves formats open; then on the media thread, so it must hand over and return. `guard` is dropped when the
    /// session has ended.
    pub async fn answered(
        mut self,
        answer: &str,
        sink: Arc<dyn PacketSink>,
        begin: impl FnOnce(Session, Vec<Track>) + Send + Sync + 'static,
        guard: impl Send + 'static,
    ) -> Result<Session, SessionError> {
        let outgoing = self.sends.as_ref().map(Promise::tracks).unwrap_or_default();
        let offered = Offered {
            incoming: Some(&self.config.codecs).filter(|_| self.receives),
            outgoing: &outgoing,
            data: self.data.are_wanted(),
        };
        let Accepted { incoming, outgoing, data: peer_data } = accepted(answer, &offered)?;
        let choice = Choice::new(incoming);
        let gone = || SessionError::Stack("the offer has been answered before".into());
        let connection = self.connection.clone().ok_or_else(gone)?;
        let mut remote = RemoteCandidates::of_server(self.server_is_local);
        let answer = unnamed(&widen(&remote.keep_admitted(answer))?)?;
        if let Some(credentials) = IceCredentials::of_description(&answer) {
            self.routes.set_remote_password(credentials.password().to_owned());
        }
        let described = answer.clone();
        let announcer = Announcer {
            configured: self.config.public_addresses.clone(),
            server_is_local: self.server_is_local,
            ipv6: self.config.mux.is_dual_stack(),
            port: self.config.mux.port(),
            reach: self.config.reach.clone(),
        };
        let ice = CallerIce::new(&self.sdp, &answer, remote, self.routes.clone(), announcer)
            .ok_or_else(|| SessionError::Stack("the offer has no ICE credentials".into()))?;
        let description = RTCSessionDescription::answer(match &self.config.reach {
            Some(reach) => reach.lead(&answer, true),
            None => answer.clone(),
        })?;

        // The kinds are known, and that is all that the session itself looks at.
        let tracks = choice.first_formats();
        let tap = Arc::new(TapState::new(tracks.len()));
        self.routes.announce_ssrcs(tracks.iter().flat_map(|track| track.ssrcs.iter().copied()));
        tap.tell(self.routes.clone());
        let outlet = self.sends.as_ref().filter(|_| !outgoing.is_empty()).map(|sends| {
            sends.kept(&outgoing, &answer);
            sends.outlet().wakes(self.routes.clone());
            sends.outlet().clone()
        });
        self.data.agreed(Arc::downgrade(&connection), peer_data, self.routes.clone());
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
            outgoing,
            outlet,
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

/// Says that there is one transport for all, as a WHIP client has to (RFC 9725 section 4.4.1: the policy "max-bundle" of RFC
/// 9429 section 5.2.1).
fn bundle_only(offer: &str) -> String {
    let mut sections = offer.split("\r\nm=");
    let session = sections.next().unwrap_or_default().to_owned();
    let bundled = |(place, section): (usize, &str)| match (place, section.split_once("a=mid:")) {
        (1.., Some((head, tail))) => format!("\r\nm={}a=bundle-only\r\na=mid:{tail}", head.replacen(" 9 ", " 0 ", 1)),
        _ => format!("\r\nm={section}"),
    };
    session + &sections.enumerate().map(bundled).collect::<String>()
}

/// Says of each section that RTCP has no port of its own (RFC 8858 section 3), which the stack leaves out.
fn mux_only(offer: &str) -> String {
    offer.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=rtcp-mux-only\r\n")
}
