//! One peer connection: from an SDP offer to RTP packets, in and out, and its end.
//!
//! A session answers one offer, receives and sends what it negotiated, asks for keyframes, and ends by itself when its peer
//! goes, never comes or is told to. What it sends it is handed through an [`Outlet`] (`egress`). It hands everything to a
//! [`PacketSink`], and what comes by data channels to a [`DataSink`] ([`data`]), and knows nothing of what becomes of it; it
//! speaks no HTTP. What the WebRTC stack below does not do well by itself is done here: one UDP port for all sessions and the
//! repeating of lost handshake flights (`mux`), retransmissions before loss detection (`rtx`), an answer with the codecs
//! that we choose (`narrow`), redundant audio (`red`).

mod accepted;
mod bandwidth;
mod bundle;
mod caller_ice;
mod candidates;
mod commands;
mod connection;
pub mod data;
mod egress;
mod exchange;
mod feedback;
#[doc(hidden)]
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod ice;
mod ice_side;
mod identity;
mod keyframe;
mod late_tap;
mod layers;
mod mux;
mod nacks;
mod narrow;
mod negotiate;
mod offered;
mod offerer;
mod promise;
mod reach;
mod reception;
mod record;
mod red;
mod remote_candidates;
mod reporter;
mod restart;
mod rtt;
mod rtx;
mod seen;
mod sender;
mod setup;
#[cfg(test)]
pub(crate) mod simulation;
mod splice;
mod ssrcs;
mod stack;
mod stats;
mod switch;
mod tap;
mod time;
mod track;
mod watcher;

use std::time::Instant;

use bytes::Bytes;

pub use {
    candidates::local_addresses,
    connection::{Answered, Session, SessionConfig, SessionError, Terms},
    data::{ChannelEnd, DataChannel, DataError, DataMessage, DataOptions, DataSink, Reliability},
    egress::{ClockPoint, History, OutgoingPacket, Outlet, SendEvents, SendStats, SendTrackStats},
    exchange::{Outgoing, OutgoingFormat, only_receives, takes, wanted_kinds},
    ice::{IceChange, IceError, LocalIce, RemoteCandidate, RemoteIce},
    keyframe::{Ask, Due, KeyframePolicy, Means, SHORTEST_PAUSE},
    mux::{
        Mux, MuxError, MuxStats, NamedBy, PortRangeError, PortsInUse, StunServer, TcpPortError, TurnServer,
        TurnTransport, UdpPorts,
    },
    negotiate::{CodecPreferences, NegotiationError, negotiate, negotiate_with_data},
    offerer::Offering,
    reach::{Reach, ReachConfig, ReachError},
    sender::Sends,
    stats::{LayerStats, SessionStats, TrackStats},
    track::Track,
};

/// Takes what a session receives. Called on the media thread with the connection locked: hand over and return, never
/// block, never call back into the session.
pub trait PacketSink: Send + Sync + 'static {
    /// One RTP packet of the track with this index, as it came: duplicates are gone, order is not restored.
    fn rtp(&self, track: usize, packet: RtpPacket);

    /// A packet of one of a track's several layers, as it came; one layer of them comes by [`rtp`](Self::rtp) as well. For
    /// whoever makes its own choice.
    fn layer_rtp(&self, _track: usize, _packet: &RtpPacket) {}

    /// A sender report of one of a track's several layers.
    fn layer_report(&self, _track: usize, _report: SenderReport) {}

    /// A sender report: which RTP time of the track was which time of the sender's clock (RFC 3550 section 6.4.1).
    fn sender_report(&self, track: usize, report: SenderReport);

    /// The connection's state changed.
    fn state_changed(&self, state: ConnectionState);

    /// The session is over; nothing comes after this, unless it is [`resumed`](Self::resumed).
    fn ended(&self, reason: EndReason);

    /// A peer that was lost, and for which [`ended`](Self::ended) was called, is back on the same connection.
    fn resumed(&self);
}

/// Asks a session for keyframes; what takes its packets tells it what it needs and what it got.
pub trait KeyframeControl: Send + Sync + 'static {
    /// A keyframe of this track is needed: something was lost, or somebody joins.
    fn request_keyframe(&self, track: usize);

    /// A whole keyframe of this track has come.
    fn keyframe_arrived(&self, track: usize);

    /// A keyframe of one of the track's several layers is needed.
    fn request_layer_keyframe(&self, track: usize, _ssrc: u32) {
        self.request_keyframe(track);
    }

    /// A keyframe of one of the track's several layers has come.
    fn layer_keyframe_arrived(&self, track: usize, _ssrc: u32) {
        self.keyframe_arrived(track);
    }
}

/// An RTP packet without its header extensions, but for one (RFC 3550 section 5.1).
#[derive(Clone, Debug)]
pub struct RtpPacket {
    /// The marker bit.
    pub marker: bool,
    /// The payload type.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence_number: u16,
    /// The timestamp, in units of the codec's clock rate.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
    /// What it carries, without padding.
    pub payload: Bytes,
    /// Its dependency descriptor, if that was negotiated.
    pub dependencies: Option<Bytes>,
    /// When it came.
    pub arrival: Instant,
}

/// The timing half of an RTCP sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The stream that it is of.
    pub ssrc: u32,
    /// NTP timestamp, 32.32 fixed point.
    pub ntp_time: u64,
    /// The RTP timestamp of the same instant.
    pub rtp_time: u32,
    /// When the report came.
    pub arrival: Instant,
}

/// The state of a connection, as in the W3C's RTCPeerConnectionState.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// Nobody yet.
    #[default]
    New,
    /// Answered; ICE and DTLS under way.
    Connecting,
    /// Media can flow.
    Connected,
    /// The peer has been silent for some seconds.
    Disconnected,
    /// Given up.
    Failed,
    /// Ended.
    Closed,
}

impl ConnectionState {
    /// Nothing more will come.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer asked for it.
    ClosedByPeer,
    /// The peer never connected within the time it had.
    ConnectTimeout,
    /// The peer went silent, or the transport failed.
    ConnectionLost,
    /// The peer flooded us with data channels.
    Flooded,
    /// What runs the connection came to its end by itself: a mistake of the WebRTC stack, or of what takes its packets.
    StackFailed,
    /// Another publisher took its place.
    Replaced,
    /// We are shutting down.
    Shutdown,
}

impl EndReason {
    /// For signals, logs and statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClosedByPeer => "closed by the peer",
            Self::ConnectTimeout => "the peer never connected",
            Self::ConnectionLost => "the connection was lost",
            Self::Flooded => "the peer opened too many data channels",
            Self::StackFailed => "the WebRTC stack failed",
            Self::Replaced => "replaced by another publisher",
            Self::Shutdown => "shut down",
        }
    }
}
