//! What a session can tell of itself: a snapshot of counters that the tap keeps.

use std::sync::atomic::Ordering::Relaxed;

use super::{negotiate::Track, red::RedCounts, tap::TapState};
use crate::codec::MediaKind;

/// A snapshot of what a session has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// RTP packets, without duplicates.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// RTP packets that belong to no track, or to a second stream of one (a simulcast layer that is not used).
    pub ignored: u64,
    /// Lost audio packets that a later one repeated (RFC 2198).
    pub recovered_by_red: u64,
    /// Packets whose payload type says RED and that are none.
    pub malformed_red: u64,
    /// Keyframe requests sent.
    pub keyframe_requests: u64,
    /// Whether a keyframe is being waited for.
    pub waiting_for_keyframe: bool,
}

/// Reads the counters of a session with these tracks.
pub(super) fn snapshot(tap: &TapState, red: &RedCounts, tracks: &[Track]) -> SessionStats {
    let waiting = |track: &Track| {
        track.kind() == MediaKind::Video && tap.with_policy(track.index, |policy| policy.is_waiting()) == Some(true)
    };
    SessionStats {
        packets: tap.packets.load(Relaxed),
        bytes: tap.bytes.load(Relaxed),
        ignored: tap.ignored.load(Relaxed),
        recovered_by_red: red.recovered.load(Relaxed),
        malformed_red: red.malformed.load(Relaxed),
        keyframe_requests: tap.keyframe_requests.load(Relaxed),
        waiting_for_keyframe: tracks.iter().any(waiting),
    }
}
