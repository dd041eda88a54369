//! What is counted of each stream and track of a session while it runs; `stats` makes a snapshot of it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rtc::rtp;

use super::{
    keyframe::Ask,
    reception::{Rate, Reception},
};

/// SSRCs counted one by one. Simulcast and restarts use a few; a peer that makes up more is not served.
pub(super) const MOST_STREAMS: usize = 32;

/// All of a session.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) streams: HashMap<u32, StreamRecord>,
    pub(super) tracks: Vec<TrackRecord>,
    pub(super) round_trip: Option<Duration>,
}

/// One track, over all of its streams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrackRecord {
    /// The SSRC that goes out.
    pub(super) active: Option<u32>,
    /// Nothing goes out until the keyframe of another layer comes.
    pub(super) is_waiting: bool,
    pub(super) switches: u64,
    pub(super) plis: u64,
    pub(super) firs: u64,
}

/// One stream: a simulcast layer, or all there is of a track.
#[derive(Debug, Default)]
pub(super) struct StreamRecord {
    pub(super) track: usize,
    pub(super) rid: Option<String>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) byte_rate: Rate,
    /// Ends of frames, by the marker bit.
    pub(super) frame_rate: Rate,
    pub(super) reception: Reception,
    pub(super) last: Option<Instant>,
    pub(super) size: Option<(u16, u16)>,
    /// Packets that came after they were asked for again.
    pub(super) recovered: u64,
    pub(super) duplicates: u64,
    /// NACK messages sent.
    pub(super) nacks: u64,
}

impl Record {
    pub(super) fn new(tracks: usize) -> Self {
        Self { tracks: vec![TrackRecord::default(); tracks], ..Self::default() }
    }

    /// The record of a stream. One too many goes on with what was counted of that of its track which has been silent for the
    /// longest; `None` if there is none.
    pub(super) fn stream(&mut self, ssrc: u32, track: usize) -> Option<&mut StreamRecord> {
        if self.streams.len() >= MOST_STREAMS && !self.streams.contains_key(&ssrc) {
            let of_track = self.streams.iter().filter(|(_, stream)| stream.track == track);
            let silent = *of_track.min_by_key(|(_, stream)| stream.last)?.0;
            let silent = self.streams.remove(&silent)?;
            self.streams.insert(ssrc, StreamRecord { rid: None, reception: Reception::default(), ..silent });
        }
        Some(self.streams.entry(ssrc).or_insert_with(|| StreamRecord { track, ..StreamRecord::default() }))
    }
}

impl TrackRecord {
    /// A keyframe has been asked for.
    pub(super) fn count(&mut self, ask: Ask) {
        match ask {
            Ask::Pli => self.plis += 1,
            Ask::Fir => self.firs += 1,
        }
    }
}

impl StreamRecord {
    /// A packet has come, for the first time.
    pub(super) fn received(&mut self, header: &rtp::Header, payload: usize, clock_rate: u32, now: Instant) {
        self.packets += 1;
        self.bytes += payload as u64;
        self.byte_rate.add(payload, now);
        self.frame_rate.add(usize::from(header.marker), now);
        self.reception.received(header.sequence_number, header.timestamp, clock_rate, now);
        self.last = Some(now);
    }
}
