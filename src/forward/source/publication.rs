//! A publisher's session as its source sees it: what comes of it is handed over, and so is its end.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use super::{Control, Event, Inner, lock};
use crate::session::{ConnectionState, EndReason, KeyframeControl, PacketSink, RtpPacket, SenderReport};

/// A publisher's session, as its [`PacketSink`].
pub struct Publication {
    pub(super) id: u64,
    pub(super) source: Weak<Inner>,
    pub(super) control: Control,
    /// The tracks of sound, if there are pictures as well.
    pub(super) audible: Vec<usize>,
    pub(super) also: Option<Arc<dyn PacketSink>>,
}

impl Publication {
    /// The session is there: it is asked for keyframes.
    pub fn begin(&self, control: Arc<dyn KeyframeControl>) {
        let _ = self.control.set(control);
    }

    fn push(&self, event: Event) {
        if let Some(source) = self.source.upgrade() {
            source.push(event);
        }
    }

    fn set_live(&self, is_live: bool) {
        if let Some(source) = self.source.upgrade() {
            lock(&source.state).set_live(self.id, is_live);
            source.survey(Instant::now());
        }
    }
}

/// Whoever has it is the publisher's session.
impl Drop for Publication {
    fn drop(&mut self) {
        self.set_live(false);
    }
}

impl PacketSink for Publication {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        if let Some(also) = &self.also {
            also.rtp(track, packet.clone());
        }
        let waits = self.audible.contains(&track);
        self.push(Event::Rtp { publication: self.id, track, packet, layered: false, waits });
    }

    fn layer_rtp(&self, track: usize, packet: &RtpPacket) {
        let packet = packet.clone();
        self.push(Event::Rtp { publication: self.id, track, packet, layered: true, waits: false });
    }

    fn sender_report(&self, track: usize, report: SenderReport) {
        if let Some(also) = &self.also {
            also.sender_report(track, report);
        }
        self.push(Event::Report { publication: self.id, track, report });
    }

    fn layer_report(&self, track: usize, report: SenderReport) {
        self.push(Event::Report { publication: self.id, track, report });
    }

    fn state_changed(&self, state: ConnectionState) {
        if let Some(also) = &self.also {
            also.state_changed(state);
        }
    }

    fn ended(&self, reason: EndReason) {
        self.set_live(false);
        if let Some(also) = &self.also {
            also.ended(reason);
        }
    }

    fn resumed(&self) {
        self.set_live(true);
        if let Some(also) = &self.also {
            also.resumed();
        }
    }
}
