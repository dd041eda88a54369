//! A request pad: a ghost pad, and behind it the chain for the caps that came in.

mod caps;
mod installed;
mod progress;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use installed::Installed;
pub(super) use progress::Progress;

use super::{
    RtmpBridgeSink,
    ending::PadEnd,
    imp::CAT,
    stamps, terminal,
    timeline::{Kind, Placed, Timeline},
};
use crate::{
    rtmp::Track,
    transcode::{ChainError, Route},
};

/// After a longer silence than this the chain starts anew: audiorate would fill hours of it, all at once.
const LONGEST_FILLED_GAP_NS: i64 = 5_000_000_000;

/// One pad. Its lock is never held while something is pushed or a state changes.
pub(super) struct Input {
    pub(super) track: Track,
    pub(super) pad: gst::GhostPad,
    progress: Arc<Progress>,
    /// Of both pads.
    timeline: Arc<Mutex<Timeline>>,
    installed: Mutex<Option<Installed>>,
    /// Caps for which no chain could be made, and an error told so.
    refused: Mutex<Option<gst::Caps>>,
    /// Where the last buffer or gap ended, in placed time.
    last_end: Mutex<Option<i64>>,
}

impl Input {
    /// Makes the pad; `on_event` and `on_query` find their way back by its track.
    pub(super) fn new(
        element: &RtmpBridgeSink,
        track: Track,
        template: &gst::PadTemplate,
        timeline: Arc<Mutex<Timeline>>,
    ) -> Arc<Self> {
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
            .query_function(caps::query)
            .build();
        let input = Arc::new(Self {
            track,
            pad,
            progress,
            timeline,
            installed: Mutex::new(None),
            refused: Mutex::new(None),
            last_end: Mutex::new(None),
        });
        let weak = Arc::downgrade(&input);
        let weak_element = element.downgrade();
        input.pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |pad, info| {
            if let (Some(input), Some(element), Some(data)) = (weak.upgrade(), weak_element.upgrade(), &mut info.data) {
                input.before_data(&element, pad, data);
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
        self.progress.end(self.pad.is_linked())
    }

    /// The encoder's name, or `passthrough`; `None` before caps came.
    pub(super) fn encoder_name(&self) -> Option<String> {
        self.lock().as_ref().map(|installed| installed.chain.name())
    }

    /// The encoders that were passed over, with the reasons, and how many raw frames none took.
    pub(super) fn encoder_losses(&self) -> (Vec<String>, u64) {
        let chain = self.lock().as_ref().map(|installed| installed.chain.clone());
        chain.map(|chain| (chain.passed_over(), chain.frames_skipped())).unwrap_or_default()
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
        self.progress.reset();
        *lock(&self.last_end) = None;
        *lock(&self.refused) = None;
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
            gst::EventView::Caps(caps) if caps::lacks_configuration(caps.caps()) => return true,
            gst::EventView::Caps(caps) => {
                if let Err(error) = self.prepare(element, caps.caps()) {
                    // Upstream may send them again with every buffer until it hears of the error.
                    let told = lock(&self.refused).replace(caps.caps_owned());
                    if told.as_deref() != Some(caps.caps()) {
                        gst::error!(CAT, obj = pad, "{error}");
                        gst::element_error!(element, gst::StreamError::CodecNotFound, ("{}: {error}", pad.name()));
                    }
                    return false;
                }
                *lock(&self.refused) = None;
            }
            gst::EventView::Eos(_) => {
                gst::debug!(CAT, obj = pad, "EOS");
                self.progress.set_arrived();
                // Parsers call a stream without data an error; there is nothing to drain, either.
                let has_chain = self.lock().is_some();
                if !has_chain || !self.progress.has_data() {
                    self.progress.set_drained();
                    element.check_ending();
                    return true;
                }
                element.check_ending();
            }
            gst::EventView::Gap(gap) => return self.gap(pad, parent, gap),
            gst::EventView::Segment(segment) if segment.segment().format() == gst::Format::Time => {
                // Buffers are rewritten to it, so that nothing behind ever sees another one.
                let plain = gst::event::Segment::builder(&stamps::segment()).seqnum(event.seqnum()).build();
                return gst::Pad::event_default(pad, parent, plain);
            }
            gst::EventView::FlushStop(_) => {
                self.reset();
                lock(&self.timeline).flushed(self.track);
            }
            // After EOS it is a new stream's.
            gst::EventView::StreamStart(_) => {
                self.progress.stream_starts();
            }
            _ => {}
        }
        gst::Pad::event_default(pad, parent, event)
    }

    /// A gap has its place among the buffers.
    fn gap(&self, pad: &gst::GhostPad, parent: Option<&gst::Object>, gap: &gst::event::Gap) -> bool {
        let (start, duration) = gap.get();
        let place = || {
            let segment = upstream_segment(pad)?;
            let running = stamps::signed(segment.to_running_time_full(start)?)?;
            Some(lock(&self.timeline).shift(self.track, running))
        };
        let Some(at) = place() else { return true };
        self.passes(Some(at), duration);
        let placed = gst::event::Gap::builder(stamps::position(at)).duration(duration).seqnum(gap.seqnum()).build();
        gst::Pad::event_default(pad, parent, placed)
    }

    /// Places what is about to go in.
    fn before_data(&self, element: &RtmpBridgeSink, pad: &gst::GhostPad, data: &mut gst::PadProbeData<'_>) {
        if self.progress.data_comes() {
            self.learn_liveness(element);
        }
        let kind = pad.current_caps().map_or(Kind::Stream, |caps| stamps::kind(&caps));
        let segment = upstream_segment(pad);
        let before = |buffer: &mut gst::BufferRef| {
            let at = segment.as_ref().and_then(|segment| self.place(element, buffer, segment, kind));
            self.before_buffer(element, pad, at, buffer.duration());
        };
        match data {
            gst::PadProbeData::Buffer(buffer) => before(buffer.make_mut()),
            gst::PadProbeData::BufferList(list) => {
                list.make_mut().foreach_mut(|mut buffer, _| {
                    before(buffer.make_mut());
                    std::ops::ControlFlow::Continue(Some(buffer))
                });
            }
            _ => {}
        }
    }

    /// Writes a buffer's timestamps in placed time; returns where it begins.
    fn place(
        &self,
        element: &RtmpBridgeSink,
        buffer: &mut gst::BufferRef,
        segment: &gst::FormattedSegment<gst::ClockTime>,
        kind: Kind,
    ) -> Option<i64> {
        let given = stamps::read(buffer, segment);
        let now = element.now();
        let mut timeline = lock(&self.timeline);
        let Placed { stamps, repair } = timeline.place(self.track, given, kind, now);
        let pace = timeline.pace(self.track, now);
        drop(timeline);
        stamps::write(buffer, stamps);
        if let Some(repair) = repair {
            gst::debug!(CAT, obj = self.pad, "{repair:?}: {given:?} becomes {stamps:?}");
            element.count(repair);
        }
        if let Some(installed) = &*self.lock()
            && installed.appsink.ts_offset() != pace
        {
            installed.appsink.set_ts_offset(pace);
        }
        stamps.pts.or(stamps.dts)
    }

    fn before_buffer(
        &self,
        element: &RtmpBridgeSink,
        pad: &gst::GhostPad,
        start: Option<i64>,
        duration: Option<gst::ClockTime>,
    ) {
        let silence = self.passes(start, duration);
        if self.track == Track::Audio && silence > LONGEST_FILLED_GAP_NS {
            let seconds = silence / 1_000_000_000;
            gst::info!(CAT, obj = pad, "starting anew after {seconds} s without audio");
            self.clear(element);
            let caps = pad.current_caps();
            if let Some(Err(error)) = caps.map(|caps| self.prepare(element, &caps)) {
                gst::error!(CAT, obj = pad, "{error}");
            }
        }
    }

    /// Takes note of what passes; returns how much time is missing before it.
    fn passes(&self, start: Option<i64>, duration: Option<gst::ClockTime>) -> i64 {
        let Some(start) = start else { return 0 };
        let mut last_end = lock(&self.last_end);
        let silence = last_end.map_or(0, |end| start - end);
        let duration = duration.and_then(|duration| i64::try_from(duration.nseconds()).ok()).unwrap_or_default();
        *last_end = Some(start.saturating_add(duration));
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
        let installed = Installed::put(element, &self.pad, self.track, route, caps, &settings, &self.progress)?;
        let (name, passed_over) = (installed.chain.name(), installed.chain.passed_over());
        gst::info!(CAT, obj = self.pad, "{caps} goes through: {name}; passed over: {passed_over:?}");
        self.progress.has_no_data();
        *self.lock() = Some(installed);
        self.learn_liveness(element);
        Ok(())
    }

    /// Waits for the clock only where upstream does not.
    fn learn_liveness(&self, element: &RtmpBridgeSink) {
        let live = terminal::is_upstream_live(&self.pad);
        self.progress.set_live(live != Some(false));
        let installed = self.lock().as_ref().map(|installed| (installed.appsink.clone(), installed.chain.clone()));
        if let Some((appsink, chain)) = installed {
            // One that does not say is taken as live: waiting for the clock would be wrong for it, and only files need it.
            appsink.set_sync(live == Some(false) && element.waits_for_clock());
            // But it may be a file, all of which is wanted.
            chain.set_live(live == Some(true));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Installed>> {
        lock(&self.installed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The segment of what comes in, if it is one of time.
fn upstream_segment(pad: &gst::GhostPad) -> Option<gst::FormattedSegment<gst::ClockTime>> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    event.segment().clone().downcast().ok()
}
