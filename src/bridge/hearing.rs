//! Where a session's packets go, and what its task hears of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::watch;

use crate::session::{ConnectionState, EndReason, PacketSink, RtpPacket, SenderReport};

/// What has become of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) connected: bool,
    pub(super) ended: Option<EndReason>,
}

/// Passes everything on, and says what becomes of the connection.
pub(super) struct Hearing {
    to: Option<Arc<dyn PacketSink>>,
    heard: watch::Sender<Heard>,
}

impl Hearing {
    /// `to` nobody, if nobody wants what comes.
    pub(super) fn new(to: Option<Arc<dyn PacketSink>>, heard: watch::Sender<Heard>) -> Self {
        Self { to, heard }
    }

    fn to(&self) -> impl Iterator<Item = &Arc<dyn PacketSink>> {
        self.to.iter()
    }
}

impl PacketSink for Hearing {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        self.to().for_each(|to| to.rtp(track, packet.clone()));
    }

    fn layer_rtp(&self, track: usize, packet: &RtpPacket) {
        self.to().for_each(|to| to.layer_rtp(track, packet));
    }

    fn layer_report(&self, track: usize, report: SenderReport) {
        self.to().for_each(|to| to.layer_report(track, report));
    }

    fn sender_report(&self, track: usize, report: SenderReport) {
        self.to().for_each(|to| to.sender_report(track, report));
    }

    fn state_changed(&self, state: ConnectionState) {
        if state == ConnectionState::Connected {
            self.heard.send_modify(|heard| heard.connected = true);
        }
        self.to().for_each(|to| to.state_changed(state));
    }

    fn ended(&self, reason: EndReason) {
        self.to().for_each(|to| to.ended(reason));
        self.heard.send_modify(|heard| heard.ended = Some(reason));
    }

    fn resumed(&self) {
        self.to().for_each(|to| to.resumed());
    }
}

/// Takes what nothing in the pipeline wants, and counts it.
pub(super) struct Discard(pub(super) Arc<AtomicU64>);

impl PacketSink for Discard {
    fn rtp(&self, _: usize, _: RtpPacket) {
        self.0.fetch_add(1, Relaxed);
    }

    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}
