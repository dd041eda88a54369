//! The pipeline of one session: started on the bin's clock, listened to, ended. Everything here may block.
//!
//! Of its messages only what matters crosses to the session's task; the rest is dropped where it is posted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use gst::prelude::*;
use tokio::sync::mpsc;

use super::{
    description::{elements, fill_in, kind},
    peer::Peer,
    words::without_addresses,
};

/// What a session's pipeline runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) clock: gst::Clock,
    pub(super) base_time: gst::ClockTime,
}

/// What a pipeline says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// All its sinks have seen the end.
    Ended,
    /// An element failed; what it said, without what may be secret.
    Failed(String),
    /// An element has a warning, a failed destination for example; in its words, likewise.
    Warned(String),
    /// Latencies have changed.
    Latency,
}

/// More than a failing pipeline says before anybody listens; what does not fit is not missed.
const EVENTS: usize = 16;

/// A running pipeline. Dropping it stops it, on a thread of its own, as that may take its time.
#[derive(Debug)]
pub(super) struct SessionPipeline {
    pipeline: gst::Pipeline,
    stopped: AtomicBool,
}

impl SessionPipeline {
    /// Starts what the application or the description made.
    pub(super) fn start(
        element: gst::Element,
        peer: &Peer,
        timing: &Timing,
    ) -> Result<(Self, mpsc::Receiver<Event>), String> {
        let pipeline = match element.downcast::<gst::Pipeline>() {
            Ok(pipeline) => pipeline,
            Err(element) => {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&element).map_err(|_| format!("{} is in another bin already", element.name()))?;
                pipeline
            }
        };
        // From here on it is stopped, whatever happens.
        let started = Self { pipeline: pipeline.clone(), stopped: AtomicBool::new(false) };
        fill_in(pipeline.upcast_ref(), peer);
        if let Some(unknown) = peer.unknown_placeholder() {
            return Err(unknown.to_string());
        }
        let mut events = listen(&pipeline);
        started.play(timing).map_err(|()| match events.try_recv() {
            Ok(Event::Failed(why)) => why,
            _ => "the pipeline does not start".into(),
        })?;
        Ok((started, events))
    }

    /// Plays it, or plays it on, on this clock.
    pub(super) fn play(&self, timing: &Timing) -> Result<(), ()> {
        self.pipeline.use_clock(Some(&timing.clock));
        self.pipeline.set_start_time(gst::ClockTime::NONE);
        self.pipeline.set_base_time(timing.base_time);
        self.pipeline.set_state(gst::State::Playing).map(drop).map_err(drop)
    }

    pub(super) fn pause(&self) {
        let _ = self.pipeline.set_state(gst::State::Paused);
    }

    /// Ends its stream; false if there is nothing in it that could say so to the rest.
    pub(super) fn end_of_stream(&self) -> bool {
        self.pipeline.send_event(gst::event::Eos::new())
    }

    pub(super) fn recalculate_latency(&self) {
        let _ = self.pipeline.recalculate_latency();
    }

    /// For looking at it.
    pub(super) fn weak(&self) -> gst::glib::WeakRef<gst::Pipeline> {
        self.pipeline.downgrade()
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        stop(&self.pipeline);
    }
}

impl Drop for SessionPipeline {
    fn drop(&mut self) {
        if !*self.stopped.get_mut() {
            let pipeline = self.pipeline.clone();
            let thread = std::thread::Builder::new().name("session-stop".into()).spawn(move || stop(&pipeline));
            if thread.is_err() {
                stop(&self.pipeline);
            }
        }
    }
}

fn stop(pipeline: &gst::Pipeline) {
    let _ = pipeline.set_state(gst::State::Null);
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
}

fn listen(pipeline: &gst::Pipeline) -> mpsc::Receiver<Event> {
    let (tell, events) = mpsc::channel(EVENTS);
    if let Some(bus) = pipeline.bus() {
        bus.set_sync_handler(move |_, message| {
            let event = match message.view() {
                gst::MessageView::Eos(_) => Some(Event::Ended),
                gst::MessageView::Error(error) => Some(Event::Failed(explain(error.src(), &error.error()))),
                gst::MessageView::Warning(warning) if tell.capacity() > EVENTS / 2 => {
                    Some(Event::Warned(explain(warning.src(), &warning.error())))
                }
                // Of several one is as good as all; there must be room for what matters.
                gst::MessageView::Latency(_) if tell.capacity() > EVENTS / 2 => Some(Event::Latency),
                _ => None,
            };
            if let Some(event) = event {
                let _ = tell.try_send(event);
            }
            gst::BusSyncReply::Drop
        });
    }
    events
}

/// Never the debug text, which may hold whole launch lines.
fn explain(source: Option<&gst::Object>, error: &gst::glib::Error) -> String {
    let name = source.map(|source| source.name()).unwrap_or_default();
    format!("{name}: {}", without_addresses(error.message()))
}

/// The statistics of the pipeline's elements that have any: the element's name, its kind, and the structure.
pub(super) fn statistics(pipeline: &gst::Pipeline) -> Vec<(String, &'static str, gst::Structure)> {
    let stats = |element: gst::Element| {
        let kind = kind(&element)?;
        let stats = element.property::<Option<gst::Structure>>("stats")?;
        Some((element.name().to_string(), kind, stats))
    };
    elements(pipeline.upcast_ref()).into_iter().filter_map(stats).collect()
}
