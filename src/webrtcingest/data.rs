//! Data channels of the element: pads `data_%u`, signals when messages come, action signals to send some.
//!
//! A message may be taken from its pad, from a signal, or both. Signals come on the thread that then pushes the buffer.

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{WebrtcIngest, imp::CAT};
use crate::{
    rtp::data::DataReceiver,
    session::{DataChannel, DataError, DataMessage, DataOptions, Session},
};

/// The signals of data channels:
///
/// | signal | parameters | |
/// | --- | --- | --- |
/// | `data-channel-opened`, `data-channel-closed` | label | whoever opened or closed it |
/// | `data-received` | label, GBytes | a binary message has come |
/// | `text-received` | label, text | a text message has come |
/// | `send-data` | label, GBytes | action: sends a binary message, by a new channel if none has this label |
/// | `send-text` | label, text | action: the same with text |
pub(super) fn signals() -> impl Iterator<Item = glib::subclass::Signal> {
    let (string, bytes) = (String::static_type(), glib::Bytes::static_type());
    let send = |name: &str, of: glib::Type, message: fn(&glib::Value) -> Option<DataMessage>| {
        glib::subclass::Signal::builder(name)
            .param_types([String::static_type(), of])
            .action()
            .class_handler(move |values| {
                let element = values.first()?.get::<WebrtcIngest>().ok()?;
                let label = values.get(1)?.get::<Option<String>>().ok()??;
                send(&element, &label, message(values.get(2)?)?);
                None
            })
            .build()
    };
    [
        glib::subclass::Signal::builder("data-channel-opened").param_types([string]).build(),
        glib::subclass::Signal::builder("data-channel-closed").param_types([string]).build(),
        glib::subclass::Signal::builder("data-received").param_types([string, bytes]).build(),
        glib::subclass::Signal::builder("text-received").param_types([string, string]).build(),
        send("send-data", bytes, |value| {
            let bytes = value.get::<Option<glib::Bytes>>().ok()??;
            Some(bytes::Bytes::from_owner(bytes).into())
        }),
        send("send-text", string, |value| value.get::<Option<String>>().ok()?.map(DataMessage::from)),
    ]
    .into_iter()
}

/// Sends without waiting; what cannot be sent is counted, and said in the log.
fn send(element: &WebrtcIngest, label: &str, message: DataMessage) {
    let Some(session) = element.imp().current() else {
        gst::warning!(CAT, obj = element, "a message for \"{label}\" is dropped: there is no session");
        return;
    };
    if let Err(error) = channel(&session, label).and_then(|channel| channel.try_send(message)) {
        gst::warning!(CAT, obj = element, "a message for \"{label}\" is dropped: {error}");
    }
}

fn channel(session: &Session, label: &str) -> Result<DataChannel, DataError> {
    match session.channel(label) {
        Some(channel) => Ok(channel),
        None => session.open_channel(label, DataOptions::default()),
    }
}

/// The element, as long as it is there.
pub(super) struct ElementData(pub(super) glib::WeakRef<WebrtcIngest>);

impl DataReceiver for ElementData {
    fn add_data_pad(&self, number: usize, caps: Option<&gst::Caps>) -> Option<gst::Pad> {
        let element = self.0.upgrade()?;
        let template = element.pad_template("data_%u")?;
        let name = format!("data_{number}");
        let pad = gst::Pad::builder_from_template(&template).name(name.as_str()).build();
        pad.set_active(true).ok()?;
        let stream = format!("webrtcbridge/{name}");
        let _ = pad.store_sticky_event(&gst::event::StreamStart::builder(&stream).build());
        if let Some(caps) = caps {
            let _ = pad.store_sticky_event(&gst::event::Caps::new(caps));
        }
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let _ = pad.store_sticky_event(&gst::event::Segment::new(&segment));
        element.add_pad(&pad).ok()?;
        Some(pad)
    }

    fn running_time(&self) -> Option<gst::ClockTime> {
        let element = self.0.upgrade()?;
        (element.current_state() == gst::State::Playing).then(|| element.current_running_time()).flatten()
    }

    fn channel_opened(&self, label: &str) {
        if let Some(element) = self.0.upgrade() {
            gst::info!(CAT, obj = element, "data channel \"{label}\" is open");
            element.emit_by_name::<()>("data-channel-opened", &[&label]);
        }
    }

    fn message(&self, label: &str, message: &DataMessage) {
        let Some(element) = self.0.upgrade() else { return };
        match message {
            DataMessage::Text(text) => element.emit_by_name::<()>("text-received", &[&label, text]),
            DataMessage::Binary(bytes) => {
                let bytes = glib::Bytes::from_owned(bytes.clone());
                element.emit_by_name::<()>("data-received", &[&label, &bytes]);
            }
        }
    }

    fn channel_closed(&self, label: &str) {
        if let Some(element) = self.0.upgrade() {
            gst::info!(CAT, obj = element, "data channel \"{label}\" is closed");
            element.emit_by_name::<()>("data-channel-closed", &[&label]);
        }
    }
}
