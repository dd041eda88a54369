//! The end of a chain: payloads become RTP packets of one stream, whatever chain they come from, with reports of its clock.

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{WebrtcEgress, fanout::Fanout, input::Progress};
use crate::{
    codec::Codec,
    rtp::{Payload, Payloads, rtp_time},
    session::{RtpPacket, SenderReport},
};

/// How often the clock is told; viewers are told by their sessions.
const REPORT: Duration = Duration::from_secs(1);

/// What lasts from one chain to the next.
#[derive(Debug)]
pub(super) struct Stream {
    ssrc: u32,
    sequence: u16,
    reported: Option<Instant>,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self { ssrc: rand::random_range(1..=u32::MAX), sequence: rand::random(), reported: None }
    }
}

/// Sends what one chain makes.
pub(super) struct Sender {
    pub(super) element: glib::WeakRef<WebrtcEgress>,
    pub(super) fanout: Arc<Fanout>,
    pub(super) index: usize,
    pub(super) codec: Codec,
    pub(super) stream: Arc<Mutex<Stream>>,
    pub(super) progress: Arc<Progress>,
}

impl Payloads for Sender {
    fn packets(&mut self, packets: Vec<Payload>) {
        let arrival = Instant::now();
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let ssrc = stream.ssrc;
        let packets: Vec<_> = packets
            .into_iter()
            .map(|Payload { marker, timestamp, data: payload }| {
                stream.sequence = stream.sequence.wrapping_add(1);
                let sequence_number = stream.sequence;
                RtpPacket {
                    dependencies: None,
                    marker,
                    payload_type: 0,
                    sequence_number,
                    timestamp,
                    ssrc,
                    payload,
                    arrival,
                }
            })
            .collect();
        let is_due = stream.reported.is_none_or(|last| arrival.saturating_duration_since(last) >= REPORT);
        let report = if is_due { self.report(ssrc) } else { None };
        if report.is_some() {
            stream.reported = Some(arrival);
        }
        drop(stream);
        self.fanout.send(self.index, packets.into_iter(), report);
    }

    fn ended(&mut self) {
        self.progress.set_drained();
        if let Some(element) = self.element.upgrade() {
            element.check_ending();
        }
    }
}

impl Sender {
    /// Which RTP time is now: running time is one for all tracks, so that they are in sync.
    fn report(&self, ssrc: u32) -> Option<SenderReport> {
        let running = self.element.upgrade()?.current_running_time()?;
        let arrival = Instant::now();
        Some(SenderReport {
            ssrc,
            ntp_time: ntp(arrival),
            rtp_time: rtp_time(running, self.codec.clock_rate()),
            arrival,
        })
    }
}

/// An instant as 32.32 fixed point. Only differences count: whose clock it is nobody sees.
fn ntp(at: Instant) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = at.saturating_duration_since(*START);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + 1) << 32) | fraction
}
