//! What the interceptors and the session's handle share of the media that comes.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::session::{
    keyframe::{Ask, KeyframePolicy, Means},
    mux::MuxHandle,
    record::{MOST_STREAMS, Record},
    reporter::reporter,
    time,
};

/// What the interceptors and the session's handle share.
///
/// Lock order: a track's policy, or the layers', before the record.
#[derive(Debug)]
pub(in crate::session) struct TapState {
    pub(super) started: Instant,
    /// Milliseconds after `started` of the last packet, plus one; 0 before the first.
    pub(super) last_media: AtomicU64,
    pub(in crate::session) packets: AtomicU64,
    pub(in crate::session) bytes: AtomicU64,
    /// Packets that belong to no track, or to a stream too many of one.
    pub(in crate::session) ignored: AtomicU64,
    /// Whether any policy wants a keyframe, to be asked for each packet.
    pub(super) keyframe_wanted: AtomicBool,
    /// One for each track, used for video only.
    keyframes: Vec<Mutex<KeyframePolicy>>,
    /// By SSRC, with its track: layers that somebody needs although another one goes out here.
    layers: Mutex<HashMap<u32, (usize, KeyframePolicy)>>,
    record: Mutex<Record>,
    /// Who is told what has come whole through SRTP; filled once the connection is there.
    routes: OnceLock<MuxHandle>,
}

impl TapState {
    pub(in crate::session) fn new(tracks: usize) -> Self {
        Self {
            started: time::now(),
            last_media: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            keyframe_wanted: AtomicBool::new(false),
            keyframes: (0..tracks).map(|_| Mutex::default()).collect(),
            layers: Mutex::default(),
            record: Mutex::new(Record::new(tracks)),
            routes: OnceLock::new(),
        }
    }

    /// Tells these routes which streams are the peer's; called once.
    pub(in crate::session) fn tell(&self, routes: MuxHandle) {
        let _ = self.routes.set(routes);
    }

    /// A stream's first packet has come through SRTP.
    pub(in crate::session) fn proven(&self, ssrc: u32) {
        if let Some(routes) = self.routes.get() {
            routes.prove_ssrc(ssrc);
        }
    }

    /// Reports have come through SRTCP.
    pub(super) fn reported(&self, packets: &[Box<dyn rtc::rtcp::Packet>]) {
        if let (Some(routes), Some(ssrc)) = (self.routes.get(), reporter(packets)) {
            routes.prove_reporter(ssrc);
        }
    }

    /// When the last packet came, to a millisecond.
    pub(in crate::session) fn last_media(&self) -> Option<Instant> {
        let stamp = self.last_media.load(Relaxed);
        (stamp > 0).then(|| self.started + Duration::from_millis(stamp - 1))
    }

    /// Changes a track's policy.
    pub(in crate::session) fn with_keyframes(&self, track: usize, change: impl FnOnce(&mut KeyframePolicy)) {
        let wanted = self.with_policy(track, |policy| {
            change(policy);
            policy.is_waiting()
        });
        if wanted == Some(true) {
            self.keyframe_wanted.store(true, Relaxed);
        }
    }

    /// Changes the policy of one layer of a track.
    pub(in crate::session) fn with_layer(&self, track: usize, ssrc: u32, change: impl FnOnce(&mut KeyframePolicy)) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if layers.len() >= MOST_STREAMS && !layers.contains_key(&ssrc) {
            // Of a stream that is no more there will be no keyframe.
            let record = self.record();
            layers.retain(|ssrc, (_, policy)| policy.is_waiting() && record.streams.contains_key(ssrc));
            drop(record);
            if layers.len() >= MOST_STREAMS {
                return;
            }
        }
        let (_, policy) = layers.entry(ssrc).or_insert_with(|| (track, KeyframePolicy::default()));
        change(policy);
        if policy.is_waiting() {
            self.keyframe_wanted.store(true, Relaxed);
        }
    }

    /// The requests that are due for single layers, by track and SSRC, and whether there will be more.
    pub(super) fn due_layers(&self, means: impl Fn(usize) -> Means, now: Instant) -> (Vec<(usize, u32, Ask)>, bool) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let due = layers
            .iter_mut()
            .filter_map(|(ssrc, (track, policy))| policy.poll(means(*track), now).map(|ask| (*track, *ssrc, ask)));
        let due = due.collect();
        (due, layers.values().any(|(_, policy)| policy.is_waiting()))
    }

    /// Looks at a track's policy.
    pub(in crate::session) fn with_policy<T>(
        &self,
        track: usize,
        look: impl FnOnce(&mut KeyframePolicy) -> T,
    ) -> Option<T> {
        self.keyframes.get(track).map(|policy| look(&mut policy.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What has been counted of each stream.
    pub(in crate::session) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_have_vanished_make_room_for_those_that_there_are() {
        let state = TapState::new(1);
        let now = Instant::now();
        let asked = |ssrc: u32| {
            state.with_layer(0, ssrc, KeyframePolicy::want);
            let (due, _) = state.due_layers(|_| Means { pli: true, fir: false }, now);
            due.iter().any(|(_, of, _)| *of == ssrc)
        };
        let vanished: Vec<u32> = (0..MOST_STREAMS as u32).collect();
        assert!(vanished.iter().all(|ssrc| asked(*ssrc)));
        for ssrc in [1000, 1001] {
            state.record().stream(ssrc, 0).unwrap();
        }
        assert!(asked(1000), "keyframes that never come were waited for");
        assert!(asked(1001));
        assert_eq!(state.layers.lock().unwrap().len(), 2);
    }
}
