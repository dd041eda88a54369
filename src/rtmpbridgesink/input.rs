//! A request pad: a ghost pad, and behind it the chain for the caps that came in.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use gst::{glib, prelude::*};

use super::{RtmpBridgeSink, ending::PadEnd, imp::CAT, terminal, timeline::Timeline};
use crate::{
    rtmp::Track,
    transcode::{Chain, ChainError, Route, Settings},
};

/// After a longer silence than this the chain starts anew: audiorate would fill hours of it, all at once.
const LONGEST_FILLED_GAP: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// How far EOS has come on a pad.
#[derive(Debug, Default)]
pub(super) struct Progress {
    has_data: AtomicBool,
    arrived: AtomicBool,
    drained: AtomicBool,
}

impl Progress {
    pub(super) fn set_drained(&self) {
        self.drained.store(true, Ordering::SeqCst);
    }
}

/// One pad. Its lock is never held while something is pushed or a state changes.
pub(super) struct Input {
    pub(super) track: Track,
    pub(super) pad: gst::GhostPad,
    progress: Arc<Progress>,
    timeline: Arc<Mutex<Timeline>>,
    installed: Mutex<Option<Installed>>,
    /// Where the last buffer or gap ended, in the input's own time.
    last_end: Mutex<Option<gst::ClockTime>>,
}

struct Installed {
    route: Route,
    chain: Arc<Chain>,
    appsink: gst_app::AppSink,
}

impl Input {
    /// Makes the pad; `on_event` and `on_query` find their way back by its track.
    pub(super) fn new(element: &RtmpBridgeSink, track: Track, template: &gst::PadTemplate) -> Arc<Self> {
        let progress = Arc::new(Progress::default());
        let pad = gst::GhostPad::builder_from_template(template)
            .name(template.name_template())
            .event_function({
                let element = element.downgrade();
                move |pad, parent, event| match element
                    .upgrade()
                    .and_then(|element| Some((element.input(track)?, element)))
                {
                    Some((input, element)) => input.event(&element, pad, parent, event),
                    None => gst::Pad::event_default(pad, parent, event),
                }
            })
            .query_function(query)
            .build();
        let input = Arc::new(Self {
            track,
            pad,
            progress,
            timeline: Arc::default(),
            installed: Mutex::new(None),
            last_end: Mutex::new(None),
        });
        let weak = Arc::downgrade(&input);
        let weak_element = element.downgrade();
        input.pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |pad, info| {
            let list = || info.buffer_list().and_then(|list| list.get(0));
            let buffer = info.buffer().map(|buffer| buffer.as_ref()).or_else(list);
            if let (Some(input), Some(element), Some(buffer)) = (weak.upgrade(), weak_element.upgrade(), buffer) {
                input.before_buffer(&element, pad, buffer.pts(), buffer.duration());
            }
            gst::PadProbeReturn::Ok
        });
        let weak = element.downgrade();
        input.pad.connect_unlinked(move |_, _| {
            if let Some(element) = weak.upgrade() {
                element.check_ending();
            }
        });
        input
    }

    /// How far EOS has come.
    pub(super) fn end(&self) -> PadEnd {
        PadEnd {
            linked: self.pad.is_linked(),
            arrived: self.progress.arrived.load(Ordering::SeqCst),
            drained: self.progress.drained.load(Ordering::SeqCst),
        }
    }

    /// The encoder's name, or `passthrough`; `None` before caps came.
    pub(super) fn encoder_name(&self) -> Option<String> {
        self.lock().as_ref().map(|installed| installed.chain.name())
    }

    /// Whether an element is one of its chain.
    pub(super) fn owns(&self, child: &gst::Object) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|installed| installed.elements().any(|element| element.upcast_ref::<gst::Object>() == child))
    }

    /// Asks for a keyframe: the chain's encoder, or upstream.
    pub(super) fn request_keyframe(&self) {
        let appsink = self.lock().as_ref().map(|installed| installed.appsink.clone());
        let answered = appsink.is_some_and(|appsink| terminal::request_keyframe(&appsink));
        gst::debug!(CAT, obj = self.pad, "asked for a keyframe, {}", if answered { "heard" } else { "unheard" });
    }

    /// Changes the bitrate of a running video encoder.
    pub(super) fn set_video_bitrate(&self, bitrate: u32) {
        let chain = self.lock().as_ref().map(|installed| installed.chain.clone());
        if let Some(chain) = chain {
            chain.set_video_bitrate(bitrate);
        }
    }

    /// Takes the chain away: the element has stopped, or other caps need another one.
    pub(super) fn clear(&self, element: &RtmpBridgeSink) {
        let Some(installed) = self.lock().take() else { return };
        let _ = self.pad.set_target(None::<&gst::Pad>);
        installed.remove_from(element);
    }

    /// Forgets the last stream.
    pub(super) fn reset(&self) {
        for flag in [&self.progress.has_data, &self.progress.arrived, &self.progress.drained] {
            flag.store(false, Ordering::SeqCst);
        }
        lock(&self.timeline).reset();
        *lock(&self.last_end) = None;
    }

    fn event(
        &self,
        element: &RtmpBridgeSink,
        pad: &gst::GhostPad,
        parent: Option<&gst::Object>,
        event: gst::Event,
    ) -> bool {
        match event.view() {
            // A parser would refuse them. Complete ones follow before data does.
            gst::EventView::Caps(caps) if lacks_configuration(caps.caps()) => return true,
            gst::EventView::Caps(caps) => {
                if let Err(error) = self.prepare(element, caps.caps()) {
                    gst::error!(CAT, obj = pad, "{error}");
                    gst::element_error!(element, gst::StreamError::CodecNotFound, ("{}: {error}", pad.name()));
                    return false;
                }
            }
            gst::EventView::Eos(_) => {
                gst::debug!(CAT, obj = pad, "EOS");
                self.progress.arrived.store(true, Ordering::SeqCst);
                // Parsers call a stream without data an error; there is nothing to drain, either.
                let has_chain = self.lock().is_some();
                if !has_chain || !self.progress.has_data.load(Ordering::SeqCst) {
                    self.progress.set_drained();
                    element.check_ending();
                    return true;
                }
                element.check_ending();
            }
            gst::EventView::Gap(gap) => {
                let (start, duration) = gap.get();
                self.passes(Some(start), duration);
            }
            gst::EventView::Segment(_) => *lock(&self.last_end) = None,
            gst::EventView::FlushStop(_) => self.reset(),
            // After EOS it is a new stream's.
            gst::EventView::StreamStart(_) => {
                self.progress.arrived.store(false, Ordering::SeqCst);
                self.progress.drained.store(false, Ordering::SeqCst);
            }
            _ => {}
        }
        gst::Pad::event_default(pad, parent, event)
    }

    fn before_buffer(
        &self,
        element: &RtmpBridgeSink,
        pad: &gst::GhostPad,
        start: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) {
        let silence = self.passes(start, duration);
        if self.track == Track::Audio && silence > LONGEST_FILLED_GAP {
            gst::info!(CAT, obj = pad, "starting anew after {silence} without audio");
            self.clear(element);
            let caps = pad.current_caps();
            if let Some(Err(error)) = caps.map(|caps| self.prepare(element, &caps)) {
                gst::error!(CAT, obj = pad, "{error}");
            }
        }
        if !self.progress.has_data.swap(true, Ordering::SeqCst) {
            self.learn_liveness(element);
        }
    }

    /// Takes note of what passes; returns how much time is missing before it.
    fn passes(&self, start: Option<gst::ClockTime>, duration: Option<gst::ClockTime>) -> gst::ClockTime {
        let Some(start) = start else { return gst::ClockTime::ZERO };
        let mut last_end = lock(&self.last_end);
        let silence = last_end.map_or(gst::ClockTime::ZERO, |end| start.saturating_sub(end));
        *last_end = Some(start + duration.unwrap_or_default());
        silence
    }

    /// Makes the chain fit the caps, which are about to go into it.
    fn prepare(&self, element: &RtmpBridgeSink, caps: &gst::CapsRef) -> Result<(), ChainError> {
        let settings = element.transcode_settings();
        let route = Route::of(caps, &settings)?;
        if self.lock().as_ref().is_some_and(|installed| installed.route == route) {
            return Ok(());
        }
        self.clear(element);
        let installed = self.install(element, route, caps, &settings)?;
        self.progress.has_data.store(false, Ordering::SeqCst);
        *self.lock() = Some(installed);
        self.learn_liveness(element);
        Ok(())
    }

    fn install(
        &self,
        element: &RtmpBridgeSink,
        route: Route,
        caps: &gst::CapsRef,
        settings: &Settings,
    ) -> Result<Installed, ChainError> {
        let chain = Arc::new(Chain::build(caps, settings)?);
        let (progress, timeline) = (self.progress.clone(), self.timeline.clone());
        let appsink = terminal::make(element, self.track, &chain.output, chain.bitrate, progress, timeline);
        let installed = Installed { route, chain, appsink };
        let wire = || -> Result<(), glib::BoolError> {
            element.add_many(installed.elements())?;
            gst::Element::link_many(installed.elements())?;
            for child in installed.elements() {
                child.sync_state_with_parent()?;
            }
            let first = installed.elements().next().and_then(|first| first.static_pad("sink"));
            self.pad.set_target(first.as_ref())
        };
        if let Err(error) = wire() {
            installed.remove_from(element);
            return Err(ChainError::Unsupported(format!("{caps} ({})", error.message)));
        }
        gst::info!(CAT, obj = self.pad, "{} goes through: {}", caps, installed.chain.name());
        Ok(installed)
    }

    /// Waits for the clock only where upstream does not.
    fn learn_liveness(&self, element: &RtmpBridgeSink) {
        let live = terminal::is_upstream_live(&self.pad);
        let installed = self.lock().as_ref().map(|installed| (installed.appsink.clone(), installed.chain.clone()));
        if let Some((appsink, chain)) = installed {
            appsink.set_sync(!live && element.waits_for_clock());
            chain.set_live(live);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Installed>> {
        lock(&self.installed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Installed {
    /// Stops the chain and takes it out. The appsink first: it may be holding a streaming thread until a frame is due.
    fn remove_from(&self, element: &RtmpBridgeSink) {
        let _ = self.appsink.set_state(gst::State::Null);
        for child in self.elements() {
            let _ = child.set_state(gst::State::Null);
            if child.parent().is_some() {
                let _ = element.remove(child);
            }
        }
    }

    fn elements(&self) -> impl Iterator<Item = &gst::Element> {
        self.chain.elements.iter().chain([self.appsink.upcast_ref()])
    }
}

/// Whether these are caps that promise a decoder configuration and do not have it yet.
fn lacks_configuration(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|structure| {
        let format = structure.get::<&str>("stream-format").unwrap_or_default();
        let wants = matches!(
            (structure.name().as_str(), format),
            ("video/x-h264", "avc" | "avc3") | ("video/x-h265", "hvc1" | "hev1") | ("audio/mpeg", "raw")
        );
        wants && !structure.has_field("codec_data")
    })
}

/// Caps are those of the template whatever chain stands behind the pad: another codec makes another chain.
fn query(pad: &gst::GhostPad, parent: Option<&gst::Object>, query: &mut gst::QueryRef) -> bool {
    match query.view_mut() {
        gst::QueryViewMut::Caps(query) => {
            let caps = pad.pad_template_caps();
            let caps = query
                .filter()
                .map(|filter| caps.intersect_with_mode(filter, gst::CapsIntersectMode::First))
                .unwrap_or(caps);
            query.set_result(&caps);
            true
        }
        gst::QueryViewMut::AcceptCaps(query) => {
            let accepted = query.caps().can_intersect(&pad.pad_template_caps());
            query.set_result(accepted);
            true
        }
        _ => gst::Pad::query_default(pad, parent, query),
    }
}
