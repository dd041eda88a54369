//! A lane without a thread: whoever has it says when it is. For simulations.

use std::time::{Duration, Instant};

use super::{Lane, Parts};
use crate::{
    rtp::clock::Now,
    session::{RtpPacket, SenderReport},
};

/// Longer than any simulation.
const FAR: Duration = Duration::from_secs(24 * 3600);

pub(in crate::rtp) struct Stepped(Lane);

impl Stepped {
    pub(in crate::rtp) fn new(parts: Parts, now: Now) -> Self {
        let mut lane = Lane::new(parts);
        // The lane asks the pipeline again for what is not of late.
        let far = gst::ClockTime::from_seconds(FAR.as_secs());
        lane.now = Some(Now { instant: now.instant + FAR, running_time: now.running_time + far });
        Self(lane)
    }

    /// A packet comes.
    pub(in crate::rtp) fn packet(&mut self, packet: RtpPacket) {
        self.expire(packet.arrival);
        self.0.packet(packet);
        self.0.count();
    }

    /// When something is to be given up.
    pub(in crate::rtp) fn due(&self) -> Option<Instant> {
        self.0.reorder.due()
    }

    /// Time has passed.
    pub(in crate::rtp) fn expire(&mut self, now: Instant) {
        let Lane { reorder, output, .. } = &mut self.0;
        reorder.expire(now, |next| output.take(next));
        self.0.count();
    }

    pub(in crate::rtp) fn report(&self, report: &SenderReport, now: Now) {
        self.0.output.clock.report(self.0.output.track, report, now);
    }

    /// How many packets wait, and their bytes.
    pub(in crate::rtp) fn waiting(&self) -> (usize, usize) {
        self.0.reorder.waiting()
    }
}
