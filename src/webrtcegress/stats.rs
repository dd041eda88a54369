//! The `stats` property: a structure `webrtcegress-stats`.
//!
//! | field | type | since | what |
//! | --- | --- | --- | --- |
//! | `url` | string | start | where it serves, or what it calls |
//! | `viewers` | guint | now | viewers that are there |
//! | `viewers-total` | guint64 | start | viewers that there have been |
//! | `channel-viewers` | guint | now | in a session: viewers of its channel, who get the same |
//! | `connect-attempts`, `sessions`, `ice-restarts` | guint64 | start | a client's: calls, sessions that came of them, ICE restarts of these |
//! | `overflowed` | guint64 | start | packets dropped as they came faster than they could be handed on |
//! | `udp-port` | guint | start | the UDP port for media |
//! | `estimate` | guint64 | now | the least that a viewer's network carries, in bit/s; absent as long as none is known |
//! | `messages-received` | guint64 | start | messages that came by data channels |
//! | `messages-sent`, `messages-dropped` | guint64 | start | messages of `send-text` and `send-data`: handed to a session, one for each; and those for which there was no room, no channel, or nobody |
//! | `tracks` | GstArray | start | a structure `webrtcegress-track` for each pad |
//! | `data` | GstArray | start | a structure `webrtcegress-data` for each data pad: `pad`; `messages`, handed to a peer; `dropped`, for want of room, of a channel, or of anybody |
//!
//! A track:
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `pad` | string | the pad |
//! | `codec`, `encoder` | string | what it is sent in, and by which encoder, `passthrough` if it comes so; absent before the first viewer |
//! | `bitrate` | guint | what the video encoder is told, in bit/s |
//! | `keyframe-requests` | guint64 | how often a keyframe was asked for |
//! | `unwatched` | guint64 | buffers dropped because nobody watched |
//! | `frames-skipped` | guint64 | raw frames that the encoder was too slow for |

use gst::prelude::*;

use super::{data::Messages, fanout::Fanout, input::Input, role::Role};
use crate::{codec::MediaKind, rtp::data::DataPads, session::Mux};

/// What an element that is started tells of itself.
pub(super) struct Running<'a> {
    pub(super) role: &'a Role,
    pub(super) mux: &'a Mux,
    pub(super) fanout: &'a Fanout,
    pub(super) messages: &'a Messages,
}

pub(super) fn structure(
    running: Option<Running<'_>>,
    inputs: &[std::sync::Arc<Input>],
    data: &DataPads,
) -> gst::Structure {
    let mut stats = gst::Structure::builder("webrtcegress-stats");
    if let Some(Running { role, mux, fanout, messages }) = running {
        let (viewers, total) = role.viewers();
        let said = messages.counts();
        if let Some(counts) = role.client_counts() {
            stats = stats
                .field("connect-attempts", counts.attempts)
                .field("sessions", counts.sessions)
                .field("ice-restarts", counts.restarts);
        }
        stats = stats
            .field_if_some("url", role.listening().or_else(|| role.calls()))
            .field("viewers", u32::try_from(viewers).unwrap_or(u32::MAX))
            .field("viewers-total", total)
            .field_if_some("channel-viewers", fanout.channel_viewers().map(|n| u32::try_from(n).unwrap_or(u32::MAX)))
            .field("overflowed", fanout.overflowed())
            .field("udp-port", u32::from(mux.port()))
            .field("messages-received", said.received)
            .field("messages-sent", said.sent)
            .field("messages-dropped", said.dropped)
            .field_if_some("estimate", fanout.estimate());
    }
    let data = data.stats().into_iter().map(|(pad, counts)| {
        gst::Structure::builder("webrtcegress-data")
            .field("pad", pad)
            .field("messages", counts.messages)
            .field("dropped", counts.dropped)
            .build()
    });
    stats
        .field("tracks", gst::Array::new(inputs.iter().map(|input| of_track(input))))
        .field("data", gst::Array::new(data))
        .build()
}

fn of_track(input: &Input) -> gst::Structure {
    let (requests, unwatched, bitrate) = input.counts();
    let chain = input.chain();
    let codec = input.codec();
    let encoder = codec.map(|_| chain.as_ref().map_or_else(|| "passthrough".to_owned(), |chain| chain.name()));
    let mut stats = gst::Structure::builder("webrtcegress-track")
        .field("pad", input.pad.name().as_str())
        .field_if_some("codec", codec.map(|codec| codec.name()))
        .field_if_some("encoder", encoder)
        .field("unwatched", unwatched);
    if input.kind == MediaKind::Video {
        stats = stats
            .field_if_some("bitrate", chain.as_ref().map(|_| bitrate))
            .field("keyframe-requests", requests)
            .field("frames-skipped", chain.map_or(0, |chain| chain.frames_skipped()));
    }
    stats.build()
}
