//! The state of a connection as a property of elements.

use gst::glib;

/// The state of the current session's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstWebrtcBridgeConnectionState")]
pub enum ConnectionState {
    /// Nobody yet.
    #[default]
    #[enum_value(name = "Nobody yet", nick = "new")]
    New,
    /// ICE and DTLS under way.
    #[enum_value(name = "ICE and DTLS under way", nick = "connecting")]
    Connecting,
    /// Media can flow.
    #[enum_value(name = "Media can flow", nick = "connected")]
    Connected,
    /// The peer is silent.
    #[enum_value(name = "The peer is silent", nick = "disconnected")]
    Disconnected,
    /// Given up.
    #[enum_value(name = "Given up", nick = "failed")]
    Failed,
    /// Ended.
    #[enum_value(name = "Ended", nick = "closed")]
    Closed,
}

impl ConnectionState {
    /// There is a session, and it is not over.
    pub(crate) fn is_under_way(self) -> bool {
        matches!(self, Self::Connecting | Self::Connected | Self::Disconnected)
    }
}

impl From<crate::session::ConnectionState> for ConnectionState {
    fn from(state: crate::session::ConnectionState) -> Self {
        use crate::session::ConnectionState as S;
        match state {
            S::New => Self::New,
            S::Connecting => Self::Connecting,
            S::Connected => Self::Connected,
            S::Disconnected => Self::Disconnected,
            S::Failed => Self::Failed,
            S::Closed => Self::Closed,
        }
    }
}
