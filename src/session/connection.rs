//! A session: how one is made from an offer, and the handle on it.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use webrtc::peer_connection::{PeerConnection, RTCPeerConnectionState};

use super::{
    ConnectionState, EndReason, IceChange, IceError, KeyframeControl, KeyframePolicy, LocalIce, PacketSink, RemoteIce,
    bandwidth,
    bundle::{one_transport, transport_everywhere},
    commands::{Command, Commands},
    data::{Channels, DataChannel, DataError, DataOptions, DataSink},
    egress::Outlet,
    exchange::{Exchange, exchange},
    ice_side::IceSide,
    mux::{IceCredentials, Mux},
    narrow::narrow,
    negotiate::{CodecPreferences, NegotiationError},
    reach::Reach,
    red::{RedCounts, RedSink},
    remote_candidates::RemoteCandidates,
    restart::IceAgent,
    rtt,
    rtx::RtxUnwrap,
    sender::{Sender, Sends},
    setup::{Announced, Handler, announce, build, describe},
    stack::{interceptors, media_engine, sending_interceptors, settings, with_egress},
    stats::{self, SessionStats},
    tap::{MediaTap, TapState},
    time,
    track::Track,
    watcher::Watcher,
};
use crate::codec::MediaKind;

/// How sessions of one endpoint are made.
#[derive(Clone)]
pub struct SessionConfig {
    /// The UDP port for media, shared by all sessions.
    pub mux: Arc<Mux>,
    /// What may be answered with.
    pub codecs: CodecPreferences,
    /// Addresses to announce in place of this machine's; empty for these.
    pub public_addresses: Vec<IpAddr>,
    /// How long the peer has from the answer to being connected.
    pub connect_timeout: Duration,
    /// The most that the peer shall send as video, in bit/s; 0 for no limit.
    pub max_bitrate: u32,
    /// Other ways for peers to reach us than these addresses.
    pub reach: Option<Arc<Reach>>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The offer's fault.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// Ours: there is no way by which the peer could reach us now.
    #[error("no peer can reach this machine now: {0}")]
    Unreachable(String),
    /// The stack's: what it said of the offer, or of itself.
    #[error("{0}")]
    Stack(String),
}

impl From<webrtc::error::Error> for SessionError {
    fn from(error: webrtc::error::Error) -> Self {
        Self::Stack(error.to_string())
    }
}

/// A session and its answer.
pub struct Answered {
    /// The session.
    pub session: Session,
    /// The SDP answer, with candidates.
    pub sdp: String,
    /// What will be received.
    pub tracks: Vec<Track>,
    /// What the peer takes of what there is to send; the index is that of [`Sends::tracks`].
    pub outgoing: Vec<Track>,
    /// Where packets are handed over, if there is something to send.
    pub outlet: Option<Outlet>,
}

/// What a session does besides receiving media, or instead.
#[derive(Default)]
pub struct Terms {
    /// What it has to send.
    pub sends: Option<Sends>,
    /// Where that goes which comes by data channels; without one there are none.
    pub data: Option<Arc<dyn DataSink>>,
}

impl From<Option<Sends>> for Terms {
    fn from(sends: Option<Sends>) -> Self {
        Self { sends, data: None }
    }
}

/// A handle on a session; the session itself lives on the media runtime until it ends.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    tap: Arc<TapState>,
    red: Arc<RedCounts>,
    tracks: Vec<Track>,
    outgoing: Vec<Track>,
    outlet: Option<Outlet>,
    data: Arc<Channels>,
    state: watch::Receiver<ConnectionState>,
    commands: Commands,
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) connection: Arc<dyn PeerConnection>,
    pub(super) ice: IceSide,
    pub(super) sink: Arc<dyn PacketSink>,
    pub(super) events: mpsc::Receiver<RTCPeerConnectionState>,
    pub(super) tap: Arc<TapState>,
    pub(super) red: Arc<RedCounts>,
    pub(super) tracks: Vec<Track>,
    pub(super) outgoing: Vec<Track>,
    pub(super) outlet: Option<Outlet>,
    pub(super) data: Arc<Channels>,
}

impl Session {
    /// Answers an offer. Must run on the runtime that reads the mux; everything of the session then does.
    ///
    /// `peer_is_local`: the request came over loopback. `make_sink` gets the tracks and says where their packets go;
    /// `guard` is dropped when the session has ended, however it ends.
    pub async fn answer(
        config: &SessionConfig,
        offer: &str,
        peer_is_local: bool,
        make_sink: impl FnOnce(&[Track]) -> Arc<dyn PacketSink>,
        guard: impl Send + 'static,
    ) -> Result<Answered, SessionError> {
        Self::exchange(config, offer, peer_is_local, None, make_sink, guard).await
    }

    /// Answers an offer to receive, or to send, or both, or to do neither and have data channels, as the terms have it.
    pub async fn exchange(
        config: &SessionConfig,
        offer: &str,
        peer_is_local: bool,
        terms: impl Into<Terms>,
        make_sink: impl FnOnce(&[Track]) -> Arc<dyn PacketSink>,
        guard: impl Send + 'static,
    ) -> Result<Answered, SessionError> {
        let Terms { sends, data } = terms.into();
        let data = Channels::new(data);
        let receives = sends.as_ref().is_none_or(|sends| sends.receives);
        let to_send = sends.as_ref().map_or(&[][..], |sends| &sends.tracks);
        let offer = &one_transport(offer)?;
        let agreed = exchange(offer, receives.then_some(&config.codecs), to_send, data.are_wanted())?;
        let Exchange { incoming: tracks, outgoing, sections, data: peer_data } = agreed;
        let mut remote_candidates = RemoteCandidates::new(peer_is_local);
        let offer = narrow(&remote_candidates.keep_admitted(offer), &sections)?;
        let reach = config.reach.as_deref();
        let offer = &match reach {
            Some(reach) => {
                reach.gathered().await;
                reach.obstacle().map_or(Ok(()), |why| Err(SessionError::Unreachable(why)))?;
                reach.lead(&offer, false)
            }
            None => offer,
        };
        let sender = sends.filter(|_| !outgoing.is_empty()).map(|sends| Sender::new(sends, &outgoing));
        let red = Arc::<RedCounts>::default();
        let sink: Arc<dyn PacketSink> = Arc::new(RedSink::new(make_sink(&tracks), &tracks, red.clone()));
        let tap = Arc::new(TapState::new(tracks.len()));
        let (handler, events, gathered) = Handler::new(data.clone());
        let mut engine = media_engine(tracks.iter().chain(&outgoing))?;
        let registry = if tracks.is_empty() {
            sending_interceptors(&mut engine)?
        } else {
            let tapping = MediaTap::new(offer, tracks.clone(), sink.clone(), tap.clone());
            interceptors(&mut engine, RtxUnwrap::new(tapping.known()), tapping)?
        };
        let registry = with_egress(registry, sender.as_ref().map(Sender::outlet));
        let (connection, routes) =
            build(config, settings(offer, config.connect_timeout), engine, registry, handler).await?;
        routes.announce_ssrcs(tracks.iter().flat_map(|track| track.ssrcs.iter().copied()));
        tap.tell(routes.clone());
        data.agreed(Arc::downgrade(&connection), peer_data, routes.clone());
        let described = async {
            if let Some(sender) = &sender {
                sender.outlet().wakes(routes.clone());
                sender.add_to(&*connection).await?;
            }
            let sdp = describe(&*connection, offer, gathered).await?;
            if let Some(sender) = &sender {
                sender.described(&sdp);
            }
            Ok(sdp)
        };
        let sdp = match described.await {
            Ok(sdp) => sdp,
            Err(error) => {
                data.end();
                let _ = connection.close().await;
                return Err(error);
            }
        };
        if let Some(credentials) = IceCredentials::of_description(offer) {
            routes.set_remote_password(credentials.password().to_owned());
        }
        let Announced { sdp, candidates } = announce(config, &routes, &sdp, peer_is_local);
        let sdp = transport_everywhere(&bandwidth::limit(&sdp, config.max_bitrate));
        let ice = IceAgent::new(offer, remote_candidates, routes, candidates, config.reach.clone());
        let outlet = sender.map(Sender::into_outlet);
        let ice = IceSide::Answered(ice);
        let parts = Parts {
            connection,
            ice,
            sink,
            events,
            tap,
            red,
            tracks: tracks.clone(),
            outgoing: outgoing.clone(),
            outlet: outlet.clone(),
            data,
        };
        Ok(Answered { session: Self::watched(parts, config.connect_timeout, guard), sdp, tracks, outgoing, outlet })
    }

    /// The session of a connection that has both descriptions: it runs from here on.
    pub(super) fn watched(parts: Parts, connect_timeout: Duration, guard: impl Send + 'static) -> Self {
        let Parts { connection, ice, sink, events, tap, red, tracks, outgoing, outlet, data } = parts;
        let (state, state_out) = watch::channel(ConnectionState::Connecting);
        let (commands, commands_out) = Commands::new();
        tokio::spawn(rtt::measure(Arc::downgrade(&connection), tap.clone()));
        let watcher = Watcher {
            connection,
            ice,
            data: data.clone(),
            sink,
            state,
            events,
            commands: commands_out,
            connect_timeout,
        };
        tokio::spawn(watcher.run(guard));
        Self { shared: Arc::new(Shared { tap, red, tracks, outgoing, outlet, data, state: state_out, commands }) }
    }

    /// Ends the session; returns when it has ended.
    pub async fn close(&self, reason: EndReason) {
        let _ = self.shared.commands.ask(|done| Command::Close(reason, done)).await; // the end is the answer
    }

    /// Takes what the peer tells of its ICE after its offer: further candidates, or a restart. On an error the session goes
    /// on as it was.
    pub async fn update_ice(&self, told: RemoteIce) -> Result<IceChange, IceError> {
        self.shared.commands.ask(|answer| Command::Ice(told, answer)).await.unwrap_or(Err(IceError::Over))
    }

    /// Begins an ICE restart of a session that we have offered: what the peer is to be told. What it says to it goes to
    /// [`Self::update_ice`]; until then nothing has changed.
    pub async fn offer_restart(&self) -> Result<LocalIce, IceError> {
        self.shared.commands.ask(Command::OfferRestart).await.unwrap_or(Err(IceError::Over))
    }

    /// Candidates of addresses that this machine has got since the peer was told of ours, until it
    /// [has been](Self::candidates_told); only for a session that we have offered.
    pub async fn new_candidates(&self) -> Option<LocalIce> {
        self.shared.commands.ask(Command::NewCandidates).await?
    }

    /// Uses these ways to the peer as well from here on, if it had none of the kind; only for a session that we have offered.
    /// What they bring of candidates are [new ones](Self::new_candidates).
    pub async fn reach_by(&self, reach: Arc<Reach>) {
        self.shared.commands.tell(Command::Reach(reach)).await;
    }

    /// The peer knows those that were asked for last.
    pub async fn candidates_told(&self) {
        self.shared.commands.tell(Command::CandidatesTold).await;
    }

    /// The state of its connection.
    pub fn state(&self) -> ConnectionState {
        *self.shared.state.borrow()
    }

    /// Follows the state of its connection, to the end.
    pub fn states(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.clone()
    }

    /// When the last media packet came; `None` before the first.
    pub fn last_media(&self) -> Option<Instant> {
        self.shared.tap.last_media()
    }

    /// Asks for keyframes of all video tracks.
    pub fn request_keyframes(&self) {
        for track in self.shared.tracks.iter().filter(|track| track.kind() == MediaKind::Video) {
            self.request_keyframe(track.index);
        }
    }

    /// Where packets are handed over to be sent to the peer, if it takes any.
    pub fn outlet(&self) -> Option<&Outlet> {
        self.shared.outlet.as_ref()
    }

    /// What the peer takes of what there is to send; the index is that of [`Sends::tracks`].
    pub fn outgoing(&self) -> &[Track] {
        &self.shared.outgoing
    }

    /// Whether the peer takes data channels.
    pub fn has_data(&self) -> bool {
        self.shared.data.are_agreed()
    }

    /// Opens a data channel. It can be sent by at once; what is sent waits until the peer has accepted it. Any thread may do
    /// so.
    pub fn open_channel(&self, label: &str, options: DataOptions) -> Result<DataChannel, DataError> {
        self.shared.data.open(label, options)
    }

    /// The data channel of this label, whoever opened it; the first one, if there are several.
    pub fn channel(&self, label: &str) -> Option<DataChannel> {
        self.shared.data.find(label)
    }

    /// What it has received so far.
    pub fn stats(&self) -> SessionStats {
        let Shared { tap, red, tracks, data, .. } = &*self.shared;
        stats::snapshot(tap, red, tracks, data.stats(), time::now())
    }
}

impl Session {
    /// For whoever takes its packets. It does not keep the session alive: that ends when the last handle on it goes.
    pub fn keyframes(&self) -> Arc<dyn KeyframeControl> {
        self.shared.tap.clone()
    }
}

impl KeyframeControl for TapState {
    fn request_keyframe(&self, track: usize) {
        self.with_keyframes(track, KeyframePolicy::want);
    }

    fn keyframe_arrived(&self, track: usize) {
        self.with_keyframes(track, KeyframePolicy::arrived);
    }

    fn request_layer_keyframe(&self, track: usize, ssrc: u32) {
        self.with_layer(track, ssrc, KeyframePolicy::want);
    }

    fn layer_keyframe_arrived(&self, track: usize, ssrc: u32) {
        self.with_layer(track, ssrc, KeyframePolicy::arrived);
    }
}

impl KeyframeControl for Session {
    fn request_keyframe(&self, track: usize) {
        self.shared.tap.with_keyframes(track, KeyframePolicy::want);
    }

    fn keyframe_arrived(&self, track: usize) {
        self.shared.tap.with_keyframes(track, KeyframePolicy::arrived);
    }

    fn request_layer_keyframe(&self, track: usize, ssrc: u32) {
        self.shared.tap.request_layer_keyframe(track, ssrc);
    }

    fn layer_keyframe_arrived(&self, track: usize, ssrc: u32) {
        self.shared.tap.layer_keyframe_arrived(track, ssrc);
    }
}
