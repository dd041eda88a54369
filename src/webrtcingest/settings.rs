//! The properties that are webrtcingest's alone; those of its connections are in `bridge/connecting`.

use gst::glib;

use crate::bridge::connecting::{ConnectionRole, Connects};

/// What the end of a stream means for the pads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstWebrtcIngestOnDisconnect")]
pub enum OnDisconnect {
    /// As a server wait, as a client end.
    #[default]
    #[enum_value(name = "As a server wait for the next publisher, as a client end the stream", nick = "auto")]
    Auto,
    /// Wait for the next publisher, or for the server to have the stream again.
    #[enum_value(name = "Wait for the next publisher, or for the server to have the stream again", nick = "wait")]
    Wait,
    /// End the stream.
    #[enum_value(name = "End the stream", nick = "eos")]
    Eos,
}

/// The properties as they are set.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) latency: u32,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) max_bitrate: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { latency: 200, on_disconnect: OnDisconnect::default(), max_bitrate: 0 }
    }
}

impl OnDisconnect {
    /// Whether the end of a stream is the end of the pads'.
    pub(super) fn is_eos(self, connects: &Connects) -> bool {
        match self {
            Self::Auto => {
                !matches!(connects, Connects::Itself(connection) if matches!(connection.role, ConnectionRole::Server(_)))
            }
            Self::Wait => false,
            Self::Eos => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::connecting::{Connecting, Way};

    #[test]
    fn the_end_of_a_server_that_is_called_is_eos_unless_told_otherwise() {
        gst::init().unwrap();
        let is_eos = |uri: &str, on_disconnect: OnDisconnect| {
            let connecting = Connecting { uri: Some(uri.into()), ..Connecting::default() };
            on_disconnect.is_eos(&connecting.resolve(Way::In, None).unwrap())
        };
        assert!(is_eos("wheps://host/whep/live", OnDisconnect::Auto));
        assert!(!is_eos("HTTP://host:1985/rtc/?stream=1", OnDisconnect::Wait));
        assert!(is_eos("ws://host/ws?channel=a", OnDisconnect::Auto));
        assert!(!is_eos("whip://127.0.0.1:0/whip/live", OnDisconnect::Auto));
        assert!(is_eos("whip://127.0.0.1:0/whip/live", OnDisconnect::Eos));
    }
}
