//! The `stats` property: a structure `webrtcingest-stats`, which holds nothing before READY→PAUSED.
//!
//! | field | type | since | what |
//! | --- | --- | --- | --- |
//! | `url` | string | start | where it serves, or what it calls |
//! | `connect-attempts`, `sessions`, `ice-restarts` | guint64 | start | a client's: calls, sessions that came of them, ICE restarts of these |
//! | `frames` | guint64 | start | frames pushed downstream |
//! | `dropped-packets` | guint64 | start | RTP packets dropped here: queue full, not playing, session over, refused downstream |
//! | `dropped-backlog` | guint64 | start | RTP packets dropped because downstream takes nothing |
//! | `lost-packets` | guint64 | start | RTP packets that never came, or later than `latency` |
//! | `late-packets` | guint64 | start | of these, such that came after all |
//! | `repeated-packets` | guint64 | start | RTP packets that reached a pad's order twice; one of each was taken |
//! | `reordered-packets` | guint64 | start | RTP packets that came behind later ones, sent again or overtaken, and in time |
//! | `padding-packets` | guint64 | start | RTP packets of padding only, which probe for bandwidth; no loss |
//! | `cut-short-pictures` | guint64 | start | pictures of which the sender threw the end away, as Chromium does when a keyframe comes; dropped |
//! | `dropped-unlinked` | guint64 | start | frames dropped because a pad was not linked |
//! | `dropped-waiting-for-keyframe` | guint64 | start | whole frames dropped while waiting for a keyframe |
//! | `data-messages` | guint64 | start | messages of data channels pushed downstream |
//! | `data-dropped-unlinked` | guint64 | start | messages that no pad took; signals had them |
//! | `udp-port` | guint | start | the UDP port for media |
//! | `udp-dropped-…` | guint64 | start | datagrams: `unknown` sender, `forged` credentials or one stream too many, `overflow` of a session's queue, dropped by the kernel as they were `unread` for too long (Linux), not taken by it to `send` |
//! | `udp-handshakes-repeated` | guint64 | start | DTLS flights sent again |
//! | `udp-sent` | guint64 | start | datagrams sent |
//! | `udp-rebinds` | guint64 | start | peers that were followed to another address |
//! | `udp-checks-held` | guint64 | start | connectivity checks not sent, as their address has not answered and had enough of them |
//! | `in-sync` | gboolean | now | audio and video are within 40 ms, by what their sender reports say |
//! | `sync-offset` | gdouble | now | by how much audio is presented later than video of the same instant, in ms; absent until both have reported |
//! | `sync-steps`, `timestamp-restarts` | guint64 | start | corrections too large to be made slowly; RTP timestamps that jumped, or streams that were replaced |
//! | `sender-reports`, `sender-reports-rejected` | guint64 | start | those that came; of these, such as had no possible time, or contradicted those before |
//! | `audio-clock-drift`, `video-clock-drift` | gdouble | now | of the sender's RTP clock against ours, in ppm; absent until it is known |
//! | `packets`, `bytes` | guint64 | session | RTP packets without duplicates, and their payload, of all tracks and layers |
//! | `bitrate` | guint64 | now | the same in bit/s |
//! | `ignored-packets` | guint64 | session | RTP packets of no track, or of a stream too many |
//! | `recovered-by-red`, `malformed-red` | guint64 | session | audio packets that a later one's redundancy made good (RFC 2198), and such as were no valid redundancy |
//! | `recovered-packets` | guint64 | session | packets that came after a NACK |
//! | `duplicate-packets` | guint64 | session | packets that came once more unneeded |
//! | `keyframe-requests` | guint64 | session | PLIs and FIRs sent |
//! | `waiting-for-keyframe` | gboolean | now | nothing can be shown until a keyframe comes |
//! | `round-trip-time` | guint | now | in ms, rounded up, as ICE measures it every second; absent until it has |
//! | `data-…` | guint64 | session | of its data channels: `messages-sent`, `messages-received`, `bytes-sent`, `bytes-received`; `messages-dropped` because there was no room or no channel; `channels-opened` so far, `channels-refused` because there were too many |
//! | `data-channels` | GstArray | now | a structure `webrtcingest-data-channel` for each that is open: `label`, `messages-sent`, `messages-received`, `bytes-sent`, `bytes-received`, `messages-dropped`, and `buffered`, the bytes that wait to be sent |
//! | `tracks` | GstArray | session | a structure `webrtcingest-track` for each track |
//!
//! A track has the sums over its layers:
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `pad`, `codec` | string | the pad that it comes out of; the codec, as in `video-codecs` |
//! | `mid` | string | its `a=mid`, if there is one |
//! | `ssrc` | guint | the stream that is taken, once there is one |
//! | `packets`, `bytes`, `bitrate` | guint64 | as above |
//! | `lost` | guint64 | packets that did not come, and were not made good |
//! | `recovered`, `duplicates` | guint64 | as above |
//! | `nacks`, `plis`, `firs` | guint64 | RTCP messages sent |
//! | `jitter` | guint | of arrival (RFC 3550), in ms |
//! | `waiting-for-keyframe` | gboolean | as above; video |
//! | `width`, `height` | guint | of the pictures on the pad; video, once known |
//! | `framerate` | GstFraction | frames that came in the last second; video |
//! | `layer-switches` | guint64 | how often another layer took over; video |
//! | `layers` | GstArray | a structure `webrtcingest-layer` for each stream met, the one that is taken first; video |
//!
//! A layer has `rid` (if named), `ssrc`, `active` (it is taken), `live` (it is being sent), `packets`, `bytes`, `bitrate`,
//! `lost` as above, and `width` and `height` of a simulcast layer whose keyframes tell.

use std::time::Duration;

use gst::prelude::*;

use super::role::Role;
use crate::{
    bridge::ClientCounts,
    codec::MediaKind,
    rtp::{Crossing, data::DataIn},
    session::{LayerStats, Mux, SessionStats, TrackStats, data::ChannelStats},
};

/// Counters of a started element, and of the session that is there; nothing but the name when it is stopped.
pub(super) fn structure(element: &super::WebrtcIngest, started: Option<(&Role, &Mux, &Crossing)>) -> gst::Structure {
    let mut stats = gst::Structure::builder("webrtcingest-stats");
    let Some((role, mux, crossing)) = started else { return stats.build() };
    if let Some(ClientCounts { attempts, sessions, restarts }) = role.client_counts() {
        stats = stats.field("connect-attempts", attempts).field("sessions", sessions).field("ice-restarts", restarts);
    }
    let data = crossing.data().map(DataIn::stats).unwrap_or_default();
    let (sync, crossing, port) = (crossing.sync_stats(), crossing.stats(), mux.stats());
    stats = stats
        .field_if_some("url", role.url())
        .field("frames", crossing.frames)
        .field("dropped-packets", crossing.dropped_packets)
        .field("dropped-backlog", crossing.dropped_backlog)
        .field("lost-packets", crossing.lost_packets)
        .field("late-packets", crossing.late_packets)
        .field("repeated-packets", crossing.repeated_packets)
        .field("reordered-packets", crossing.reordered_packets)
        .field("cut-short-pictures", crossing.cut_short_pictures)
        .field("padding-packets", crossing.padding_packets)
        .field("dropped-unlinked", crossing.dropped_unlinked)
        .field("dropped-waiting-for-keyframe", crossing.dropped_waiting)
        .field("data-messages", data.messages)
        .field("data-dropped-unlinked", data.unlinked)
        .field("udp-port", u32::from(mux.port()))
        .field("udp-dropped-unknown", port.unknown)
        .field("udp-dropped-forged", port.forged)
        .field("udp-dropped-overflow", port.overflowed)
        .field("udp-dropped-unread", port.unread)
        .field("udp-dropped-send", port.send_dropped)
        .field("udp-handshakes-repeated", port.repeated)
        .field("udp-rebinds", port.rebinds)
        .field("udp-checks-held", port.checks_held)
        .field("udp-sent", port.sent);
    stats = stats
        .field("in-sync", sync.in_sync)
        .field("sender-reports", sync.reports)
        .field("sender-reports-rejected", sync.rejected_reports)
        .field("sync-steps", sync.steps)
        .field("timestamp-restarts", sync.restarts)
        .field_if_some("sync-offset", sync.offset);
    for (kind, ppm) in &sync.drift {
        stats = stats.field_if_some(format!("{kind}-clock-drift"), *ppm);
    }
    if let Some(session) = role.current().map(|session| session.stats()) {
        stats = of_session(element, stats, &session);
    }
    stats.build()
}

fn of_session(
    element: &super::WebrtcIngest,
    mut stats: gst::structure::Builder,
    session: &SessionStats,
) -> gst::structure::Builder {
    let sum = |of: fn(&TrackStats) -> u64| session.tracks.iter().map(of).sum::<u64>();
    let mut numbers = [0; 2];
    let tracks = session.tracks.iter().map(|track| {
        let kind = track.codec.kind();
        let number = &mut numbers[usize::from(kind == MediaKind::Video)];
        let pad = format!("{kind}_{number}");
        *number += 1;
        of_track(element, &pad, track)
    });
    stats = stats
        .field("packets", session.packets)
        .field("bytes", session.bytes)
        .field("bitrate", sum(|track| track.bitrate))
        .field("ignored-packets", session.ignored)
        .field("recovered-by-red", session.recovered_by_red)
        .field("malformed-red", session.malformed_red)
        .field("recovered-packets", sum(|track| track.recovered))
        .field("duplicate-packets", sum(|track| track.duplicates))
        .field("keyframe-requests", session.keyframe_requests)
        .field("waiting-for-keyframe", session.waiting_for_keyframe)
        .field("tracks", gst::Array::new(tracks));
    let data = &session.data;
    stats = stats
        .field("data-channels-opened", data.opened)
        .field("data-channels-refused", data.refused)
        .field("data-messages-sent", data.messages_sent)
        .field("data-bytes-sent", data.bytes_sent)
        .field("data-messages-received", data.messages_received)
        .field("data-bytes-received", data.bytes_received)
        .field("data-messages-dropped", data.dropped + data.malformed)
        .field("data-channels", gst::Array::new(data.channels.iter().map(of_channel)));
    if let Some(round_trip) = session.round_trip {
        stats = stats.field("round-trip-time", milliseconds(round_trip));
    }
    stats
}

fn of_track(element: &super::WebrtcIngest, pad: &str, track: &TrackStats) -> gst::Structure {
    let mut stats = gst::Structure::builder("webrtcingest-track")
        .field("pad", pad)
        .field("codec", track.codec.name())
        .field_if_some("mid", track.mid.as_deref())
        .field_if_some("ssrc", track.ssrc)
        .field("packets", track.packets)
        .field("bytes", track.bytes)
        .field("bitrate", track.bitrate)
        .field("lost", track.lost)
        .field("recovered", track.recovered)
        .field("duplicates", track.duplicates)
        .field("nacks", track.nacks)
        .field("plis", track.plis)
        .field("firs", track.firs)
        .field("jitter", milliseconds(track.jitter));
    if track.codec.kind() == MediaKind::Video {
        let size = size_on(element, pad).or_else(|| track.layers.first().and_then(|layer| layer.size.map(wide)));
        stats = with_size(stats, size)
            .field("waiting-for-keyframe", track.waiting_for_keyframe)
            .field("framerate", gst::Fraction::new(i32::try_from(track.frame_rate).unwrap_or(i32::MAX), 1))
            .field("layer-switches", track.switches)
            .field("layers", gst::Array::new(track.layers.iter().map(of_layer)));
    }
    stats.build()
}

fn of_channel(channel: &ChannelStats) -> gst::Structure {
    gst::Structure::builder("webrtcingest-data-channel")
        .field("label", channel.label.as_str())
        .field("messages-sent", channel.messages_sent)
        .field("bytes-sent", channel.bytes_sent)
        .field("messages-received", channel.messages_received)
        .field("bytes-received", channel.bytes_received)
        .field("messages-dropped", channel.dropped)
        .field("buffered", channel.buffered)
        .build()
}

fn of_layer(layer: &LayerStats) -> gst::Structure {
    let stats = gst::Structure::builder("webrtcingest-layer")
        .field_if_some("rid", layer.rid.as_deref())
        .field("ssrc", layer.ssrc)
        .field("active", layer.is_active)
        .field("live", layer.is_live)
        .field("packets", layer.packets)
        .field("bytes", layer.bytes)
        .field("bitrate", layer.bitrate)
        .field("lost", layer.lost);
    with_size(stats, layer.size.map(wide)).build()
}

fn with_size(stats: gst::structure::Builder, size: Option<(u32, u32)>) -> gst::structure::Builder {
    match size {
        Some((width, height)) => stats.field("width", width).field("height", height),
        None => stats,
    }
}

/// What the caps on a pad say, which is what downstream sees.
fn size_on(element: &super::WebrtcIngest, pad: &str) -> Option<(u32, u32)> {
    let caps = element.static_pad(pad)?.current_caps()?;
    let structure = caps.structure(0)?;
    let get = |name| structure.get::<i32>(name).ok().and_then(|value| u32::try_from(value).ok());
    Some((get("width")?, get("height")?))
}

fn wide((width, height): (u16, u16)) -> (u32, u32) {
    (width.into(), height.into())
}

/// Rounded up: what has been measured is not 0.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}
