//! What a session has sent, for whoever asks.

use std::time::Duration;

use super::super::stream::{Counts, Stream};

/// What a session has sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SendStats {
    /// What the peer's network carries, in bit/s.
    pub estimate: Option<u64>,
    /// The share of packets that its transport-wide reports call lost, of late.
    pub transport_loss: f64,
    /// Packets that wait to be sent.
    pub waiting: usize,
    /// By the track's index; `None` for those that the peer does not take.
    pub tracks: Vec<Option<SendTrackStats>>,
}

/// One stream that is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SendTrackStats {
    /// Its SSRC.
    pub ssrc: u32,
    /// RTP packets, without repairs.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Packets that the peer asked for again.
    pub nacked: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Packets that the peer asked for when they were not there any more.
    pub unavailable: u64,
    /// Packets sent once more to find out what the peer's network carries.
    pub probes: u64,
    /// Picture Loss Indications that came.
    pub plis: u64,
    /// Full Intra Requests that came.
    pub firs: u64,
    /// Packets left out because the peer's network did not take them in time.
    pub dropped: u64,
    /// How often that was begun.
    pub skips: u64,
    /// The share of packets lost, as the peer reported it last.
    pub fraction_lost: f64,
    /// Packets lost in all, as the peer has it.
    pub lost: u64,
    /// The jitter of arrival that the peer reports.
    pub jitter: Duration,
    /// The round trip by the peer's reports.
    pub round_trip: Option<Duration>,
}

impl SendTrackStats {
    pub(super) fn of(stream: &Stream) -> Self {
        let Counts { packets, bytes, retransmitted, nacked, unavailable, probes, plis, firs, dropped, skips, .. } =
            stream.counts;
        let Counts { fraction_lost, lost, jitter, round_trip, .. } = stream.counts;
        Self {
            ssrc: stream.wire.ssrc,
            packets,
            bytes,
            nacked,
            retransmitted,
            unavailable,
            probes,
            plis,
            firs,
            dropped,
            skips,
            fraction_lost,
            lost,
            jitter,
            round_trip,
        }
    }
}
