//! Caps on both sides of the depayloader.

use crate::{codec::Codec, session::Track};

/// What goes into the depayloader.
pub(super) fn rtp(track: &Track) -> gst::Caps {
    let mut caps = gst::Caps::builder("application/x-rtp")
        .field("media", track.kind().as_str())
        .field("clock-rate", track.codec.clock_rate() as i32)
        .field("encoding-name", track.codec.name())
        .field("payload", i32::from(track.payload_type));
    if track.codec == Codec::Opus {
        // Always "2" (RFC 7587 section 7), and always decoded to two channels: senders need not say that they send
        // stereo, which our answer asks of them, and mono in two channels is still mono.
        caps = caps.field("encoding-params", "2").field("sprop-stereo", "1");
    }
    caps.build()
}

/// What comes out on the pad: known as soon as the answer is, but for what only the stream tells (`codec_data`, size).
pub fn media(codec: Codec) -> gst::Caps {
    let caps = gst::Caps::builder(codec.caps_name());
    match codec {
        Codec::H264 => caps.field("stream-format", "avc").field("alignment", "au").build(),
        Codec::H265 => caps.field("stream-format", "hvc1").field("alignment", "au").build(),
        Codec::Av1 => caps.field("stream-format", "obu-stream").field("alignment", "tu").build(),
        Codec::Opus => caps.field("channel-mapping-family", 0i32).field("channels", 2i32).build(),
        Codec::Pcmu | Codec::Pcma => caps.field("rate", 8000i32).field("channels", 1i32).build(),
        Codec::Vp8 | Codec::Vp9 => caps.build(),
    }
}
