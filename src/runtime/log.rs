//! The core's `tracing` events in GStreamer's log, as category `webrtcbridge`.
//!
//! Set as default on our own threads only: a plugin must not take the process's global subscriber.

use std::fmt::{self, Write as _};

use once_cell::sync::Lazy;
use tracing::{Event, Level, Metadata, Subscriber, field, span};

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("webrtcbridge", gst::DebugColorFlags::empty(), Some("webrtcbridge: sessions and signaling"))
});

/// The subscriber.
pub(super) struct GstLog;

impl Subscriber for GstLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gstwebrtcbridge") && CAT.threshold() >= level(metadata.level())
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes() // the threshold may change at any time
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        let file = gst::glib::GString::from(metadata.file().unwrap_or(""));
        let module = metadata.module_path().unwrap_or("");
        CAT.log(
            None::<&gst::glib::Object>,
            level(metadata.level()),
            file.as_gstr(),
            module,
            metadata.line().unwrap_or(0),
            format_args!("{}{}", line.message, line.fields),
        );
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn level(level: &Level) -> gst::DebugLevel {
    match *level {
        Level::ERROR => gst::DebugLevel::Error,
        Level::WARN => gst::DebugLevel::Warning,
        Level::INFO => gst::DebugLevel::Info,
        Level::DEBUG => gst::DebugLevel::Debug,
        Level::TRACE => gst::DebugLevel::Trace,
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
