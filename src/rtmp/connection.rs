//! One connection: an inner pipeline `appsrc ! rtmp2sink`. It is opened, fails, and is thrown away; it never retries.
//!
//! A pipeline of its own, because rtmp2sink posts EOS after an error and would take the user's pipeline with it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{Location, destination::Timing, worker::Event};
use crate::flv::SharedTag;

/// rtmp2sink's default of 128 bytes makes a chunk header for every 128 bytes; servers take up to 64 KiB.
const CHUNK_SIZE: u32 = 60_000;

/// What may wait for a server at most, whatever its time: a file can be pushed faster than real time.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// What is between us and the sink: when each tag came, oldest first, and its size.
#[derive(Default)]
struct Queued {
    tags: VecDeque<(Instant, usize)>,
    bytes: usize,
}

impl Queued {
    fn enter(&mut self, now: Instant, bytes: usize) {
        self.tags.push_back((now, bytes));
        self.bytes += bytes;
    }

    fn leave(&mut self, count: usize) {
        let count = count.min(self.tags.len());
        self.bytes -= self.tags.drain(..count).map(|(_, bytes)| bytes).sum::<usize>();
    }
}

/// How to connect.
pub(super) struct Target<'a> {
    pub(super) location: &'a Location,
    pub(super) tls_validation_flags: u32,
    pub(super) socket_timeout: Duration,
    pub(super) timing: Option<Timing>,
}

/// An open connection, or one on its way.
pub(super) struct Connection {
    pipeline: gst::Pipeline,
    appsrc: gst_app::AppSrc,
    sink: gst::Element,
    /// Since when each tag waits between us and the sink, oldest first. Innermost lock; nothing is called under it.
    /// Waiting is counted on the wall clock: media time jumps when a publisher pauses, and comes in bursts.
    queued: Arc<Mutex<Queued>>,
}

impl Connection {
    /// Builds the pipeline and begins to connect. Errors and EOS come as events that carry `generation`.
    pub(super) fn open(
        target: Target<'_>,
        events: mpsc::Sender<Event>,
        generation: u64,
    ) -> Result<Self, glib::BoolError> {
        let location = target.location;
        let caps = gst::Caps::builder("video/x-flv").build();
        let appsrc = gst_app::AppSrc::builder()
            .caps(&caps)
            .format(gst::Format::Time)
            .is_live(true)
            // Without limits here a push never waits; the gate keeps the backlog bounded.
            .max_bytes(0)
            .max_buffers(0)
            .max_time(gst::ClockTime::ZERO)
            .build();
        let sink = gst::ElementFactory::make("rtmp2sink")
            .property("host", &location.host)
            .property("port", i32::from(location.port))
            .property("application", &location.application)
            .property("stream", &location.stream)
            .property_from_str("scheme", if location.tls { "rtmps" } else { "rtmp" })
            .property("sync", false)
            .property("async", false)
            .property("enable-last-sample", false)
            .property("chunk-size", CHUNK_SIZE)
            .property("timeout", target.socket_timeout.as_secs().clamp(1, 3600) as u32)
            .build()?;
        if let Some((user, password)) = &location.credentials {
            sink.set_property("username", user);
            sink.set_property("password", password);
        }
        set_flags(&sink, "tls-validation-flags", target.tls_validation_flags);

        let pipeline = gst::Pipeline::new();
        pipeline.add_many([appsrc.upcast_ref(), &sink])?;
        appsrc.link(&sink)?;
        let queued = Arc::new(Mutex::new(Queued::default()));
        if let Some(pad) = sink.static_pad("sink") {
            let queued = queued.clone();
            pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
                lock(&queued).leave(info.buffer_list().map_or(1, |list| list.len()));
                gst::PadProbeReturn::Ok
            });
        }
        if let Some(Timing { clock, base_time }) = target.timing {
            pipeline.use_clock(Some(&clock));
            pipeline.set_start_time(gst::ClockTime::NONE);
            pipeline.set_base_time(base_time);
        }
        if let Some(bus) = pipeline.bus() {
            bus.set_sync_handler(move |_, message| {
                let event = match message.view() {
                    gst::MessageView::Error(error) => {
                        let debug = error.debug().unwrap_or_default();
                        Some(Event::Failed { generation, text: format!("{}\n{debug}", error.error().message()) })
                    }
                    gst::MessageView::Eos(_) => Some(Event::Drained { generation }),
                    _ => None,
                };
                if let Some(event) = event {
                    let _ = events.send(event); // the worker is gone when this fails, and so is the need
                }
                gst::BusSyncReply::Drop
            });
        }
        let connection = Self { pipeline, appsrc, sink, queued };
        connection
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| glib::bool_error!("rtmp2sink does not start"))?;
        Ok(connection)
    }

    /// Queues tags, each with its time in ns, as one list: that wakes the threads behind once. Never waits, and copies
    /// nothing: rtmp2sink puts the pieces together on its own thread.
    pub(super) fn push(&self, tags: impl ExactSizeIterator<Item = (SharedTag, i64)>) {
        let mut list = gst::BufferList::new_sized(tags.len());
        let Some(buffers) = list.get_mut() else { return };
        let now = Instant::now();
        for (tag, at_ns) in tags {
            let tag_size = tag.size();
            let mut buffer = gst::Buffer::new();
            if let Some(buffer) = buffer.get_mut() {
                tag.pieces().for_each(|piece| buffer.append_memory(gst::Memory::from_slice(piece)));
                buffer.set_pts(gst::ClockTime::from_nseconds(at_ns.max(0).unsigned_abs()));
            }
            buffers.add(buffer);
            lock(&self.queued).enter(now, tag_size);
        }
        // Fails only while the connection ends; what happens to the tags no longer matters then.
        let _ = self.appsrc.push_buffer_list(list);
    }

    /// How far the sink is behind: how long the oldest tag has been waiting for it. For ever, if too much waits.
    pub(super) fn lag_ns(&self) -> i64 {
        let queued = lock(&self.queued);
        if queued.bytes > MOST_BYTES {
            return i64::MAX;
        }
        let lag = queued.tags.front().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        i64::try_from(lag.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Whether anything is queued.
    pub(super) fn has_queued(&self) -> bool {
        !lock(&self.queued).tags.is_empty()
    }

    /// Bytes written to the server. More than 0 means that it has accepted the stream: rtmp2sink has no figures before.
    pub(super) fn bytes(&self) -> u64 {
        let stats = self.sink.property::<Option<gst::Structure>>("stats");
        stats.and_then(|stats| stats.get::<u64>("out-bytes-total").ok()).unwrap_or_default()
    }

    /// Lets the queue drain, then has rtmp2sink send FCUnpublish and deleteStream. `Event::Drained` follows.
    pub(super) fn end(&self) {
        let _ = self.appsrc.end_of_stream(); // fails only when the pipeline has failed, which has its own event
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

/// Sets a flags property of a type that belongs to GIO, which this crate does not link.
fn set_flags(element: &gst::Element, name: &str, bits: u32) {
    let Some(class) = element.find_property(name).and_then(|spec| glib::FlagsClass::with_type(spec.value_type()))
    else {
        return;
    };
    let single = class.values().iter().map(glib::FlagsValue::value).filter(|flag| flag.is_power_of_two());
    let value = single.filter(|flag| bits & flag != 0).fold(class.builder(), glib::FlagsBuilder::set).build();
    if let Some(value) = value {
        element.set_property_from_value(name, &value);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
