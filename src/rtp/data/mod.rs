//! Data channels as pads: a channel is a pad, a message a buffer.
//!
//! ```text
//!  media thread                │ a thread for each pad
//!  DataFeed (a DataSink) ──────┼─▶ queue ─▶ lane ─▶ signal ─▶ pad data_%u           what comes
//!  Session's channels ◀────────┼─────────────────────────── DataOut ◀─ chain        what goes
//! ```
//!
//! The caps are `application/x-webrtc-data` with `label` and `protocol` (string) and `ordered` (boolean). Whether a message is
//! text or binary is on its buffer: a custom meta `WebRtcDataMeta` whose structure has `kind`, "text" or "binary". In C,
//! `gst_custom_meta_get_structure(gst_buffer_get_custom_meta(buffer, "WebRtcDataMeta"))`; in Rust
//! `gst::meta::CustomMeta::from_buffer`.
//!
//! Nothing is kept without bound: a lane that does not get rid of its messages holds up its peer, as the peer's other channels
//! are in the end, and what nobody takes is dropped and counted.

mod incoming;
mod lane;
mod outgoing;
mod outgoing_pads;

use std::sync::Once;

use bytes::Bytes;
pub use {
    incoming::{DataFeed, DataIn, DataInStats, DataReceiver},
    outgoing::{DataOut, DataOutStats},
    outgoing_pads::{DataPads, Ended},
};

use crate::session::{DataMessage, DataOptions};

/// The caps of messages.
pub const MEDIA_TYPE: &str = "application/x-webrtc-data";

/// The meta that tells text from bytes.
pub const META: &str = "WebRtcDataMeta";

/// The field of it that does.
const KIND: &str = "kind";
const TEXT: &str = "text";
const BINARY: &str = "binary";

/// The caps of a pad template.
pub fn template_caps() -> gst::Caps {
    gst::Caps::builder(MEDIA_TYPE).build()
}

/// The caps of one channel.
pub(super) fn caps(label: &str, options: &DataOptions) -> gst::Caps {
    gst::Caps::builder(MEDIA_TYPE)
        .field("label", label)
        .field("ordered", options.ordered)
        .field("protocol", options.protocol.as_str())
        .build()
}

/// Registers the meta; before the first buffer, and as often as one likes.
pub fn register_meta() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| gst::meta::CustomMeta::register_simple(META));
}

/// A message as a buffer.
pub fn buffer(message: DataMessage) -> gst::Buffer {
    register_meta();
    let (kind, bytes) = match message {
        DataMessage::Text(text) => (TEXT, Bytes::from(text)),
        DataMessage::Binary(bytes) => (BINARY, bytes),
    };
    let mut buffer = gst::Buffer::from_slice(bytes);
    if let Some(buffer) = buffer.get_mut()
        && let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, META)
    {
        meta.mut_structure().set(KIND, kind);
    }
    buffer
}

/// What a buffer says it is: `Some(true)` for text, `None` if it has no such meta.
pub fn is_text(buffer: &gst::BufferRef) -> Option<bool> {
    register_meta();
    let meta = gst::meta::CustomMeta::from_buffer(buffer, META).ok()?;
    let kind = meta.structure().get::<String>(KIND).ok()?;
    Some(kind == TEXT)
}

/// A buffer as a message: what its meta says, else `text`. Bytes that are no text are sent as bytes.
pub fn message(buffer: &gst::BufferRef, text: bool) -> Option<DataMessage> {
    let bytes = buffer.map_readable().ok()?;
    let message = match is_text(buffer).unwrap_or(text) {
        true => std::str::from_utf8(&bytes).ok().map(DataMessage::from),
        false => None,
    };
    Some(message.unwrap_or_else(|| Bytes::copy_from_slice(&bytes).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_kind_in_a_buffer_and_in_its_copies() {
        gst::init().unwrap();
        for message in [DataMessage::from("grüß"), DataMessage::from(""), vec![0, 255].into(), Vec::new().into()] {
            let buffer = buffer(message.clone());
            assert_eq!(super::message(&buffer, false), Some(message.clone()));
            assert_eq!(super::message(&buffer.copy(), true), Some(message));
        }
    }

    #[test]
    fn what_has_no_meta_is_what_the_caps_say_and_what_is_no_text_is_sent_as_bytes() {
        gst::init().unwrap();
        let plain = gst::Buffer::from_slice(*b"hello");
        assert_eq!(
            (message(&plain, true), message(&plain, false)),
            (Some("hello".into()), Some(b"hello".to_vec().into()))
        );
        assert_eq!(message(&gst::Buffer::from_slice([0xFF]), true), Some(vec![0xFF].into()));
    }
}
