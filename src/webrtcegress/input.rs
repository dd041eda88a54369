//! A request pad: a ghost pad, a pacer behind it, and behind that the chain that the viewers need, as long as there are any.
//!
//! ```text
//!   ghost pad ─ clocksync ┄ gate ┄ [decode, encode] ─ payload ─ Sender
//! ```
//!
//! The pacer lets files play in real time and live media pass at once. Without viewers the gate drops everything, which
//! costs nothing; with the first one it puts the chain in place (`installed`), on the streaming thread.

mod caps;
mod installed;
mod progress;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::Instant,
};

use gst::{glib, prelude::*};

pub(super) use self::progress::Progress;
use self::{
    caps::{answer, lacks_configuration},
    installed::{Installed, Purpose, from},
};
use super::{
    WebrtcEgress,
    ending::PadEnd,
    fanout::{AsksForKeyframes, Fanout},
    imp::CAT,
    lane::Comes,
    sender::Stream,
};
use crate::{
    codec::{Codec, MediaKind},
    rtp::announced_caps,
    session::{KeyframePolicy, Means},
    transcode::Chain,
};

/// Asked by an event that cannot get lost.
const MEANS: Means = Means { pli: true, fir: false };

/// One pad.
pub(super) struct Input {
    pub(super) pad: gst::GhostPad,
    pub(super) kind: MediaKind,
    pacer: gst::Element,
    element: glib::WeakRef<WebrtcEgress>,
    progress: Arc<Progress>,
    stream: Arc<Mutex<Stream>>,
    keyframes: Mutex<KeyframePolicy>,
    requests: AtomicU64,
    /// Buffers that nobody was there for.
    unwatched: AtomicU64,
    /// The bitrate that the encoder was told.
    bitrate: AtomicU32,
    /// Locked alone.
    place: Mutex<Option<Place>>,
    installed: Mutex<Option<Installed>>,
    /// What there is no chain for: it is not tried again.
    refused: Mutex<Option<Purpose>>,
}

/// Its place among what goes out, while the element is started.
#[derive(Clone)]
struct Place {
    fanout: Arc<Fanout>,
    index: usize,
}

impl Input {
    /// A pad by this name, already in the element with its pacer.
    pub(super) fn new(
        element: &WebrtcEgress,
        kind: MediaKind,
        template: &gst::PadTemplate,
        name: &str,
    ) -> Option<Arc<Self>> {
        let pacer = gst::ElementFactory::make("clocksync").build().ok()?;
        element.add(&pacer).ok()?;
        let input = Arc::new_cyclic(|weak: &std::sync::Weak<Self>| {
            let (for_events, for_queries) = (weak.clone(), weak.clone());
            let pad = gst::GhostPad::builder_from_template(template)
                .name(name)
                .event_function(move |pad, parent, event| match for_events.upgrade() {
                    Some(input) => input.event(pad, parent, event),
                    None => false,
                })
                .query_function(move |pad, parent, query| match for_queries.upgrade() {
                    Some(_) => answer(pad, parent, query),
                    None => false,
                })
                .build();
            Self {
                pad,
                kind,
                pacer: pacer.clone(),
                element: element.downgrade(),
                progress: Arc::default(),
                stream: Arc::new(Mutex::new(Stream::new())),
                keyframes: Mutex::default(),
                requests: AtomicU64::new(0),
                unwatched: AtomicU64::new(0),
                bitrate: AtomicU32::new(0),
                place: Mutex::new(None),
                installed: Mutex::new(None),
                refused: Mutex::new(None),
            }
        });
        input.pad.set_target(pacer.static_pad("sink").as_ref()).ok()?;
        let weak = Arc::downgrade(&input);
        input.pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            if let Some(input) = weak.upgrade().filter(|input| !input.progress.has_data.swap(true, SeqCst)) {
                input.learn_liveness();
            }
            gst::PadProbeReturn::Ok
        });
        let weak = Arc::downgrade(&input);
        pacer.static_pad("src")?.add_probe(
            gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST,
            move |pad, _| match weak.upgrade() {
                Some(input) if input.opens(pad) => gst::PadProbeReturn::Ok,
                _ => gst::PadProbeReturn::Drop,
            },
        );
        let weak = element.downgrade();
        input.pad.connect_unlinked(move |_, _| {
            if let Some(element) = weak.upgrade() {
                element.check_ending();
            }
        });
        let _ = pacer.sync_state_with_parent();
        Some(input)
    }

    /// The element starts, or has started when the pad was asked for.
    pub(super) fn start(self: &Arc<Self>, fanout: &Arc<Fanout>) {
        let weak: std::sync::Weak<dyn AsksForKeyframes> = Arc::downgrade(&(self.clone() as Arc<dyn AsksForKeyframes>));
        let index = {
            let mut place = lock(&self.place);
            // Both who asks for a pad and who starts the element do this; what an earlier start has left is of no use.
            if place.as_ref().is_some_and(|place| Arc::ptr_eq(&place.fanout, fanout)) {
                return;
            }
            let index = fanout.add(self.kind, weak);
            *place = Some(Place { fanout: fanout.clone(), index });
            index
        };
        if let Some(caps) = self.pad.current_caps() {
            fanout.set_comes(index, Comes::of(&caps));
        }
    }

    /// The element has stopped, or the pad goes.
    pub(super) fn stop(&self) {
        self.clear();
        self.progress.reset();
        *lock(&self.refused) = None;
        if let Some(Place { fanout, index }) = lock(&self.place).take() {
            fanout.set_comes(index, Comes::Nothing);
        }
    }

    /// Takes its elements out of the element; before the pad goes.
    pub(super) fn remove(&self, element: &WebrtcEgress) {
        // The pacer may be holding the streaming thread until a buffer is due.
        let _ = self.pacer.set_state(gst::State::Null);
        self.stop();
        let _ = self.pad.set_active(false);
        let _ = element.remove(&self.pacer);
    }

    /// The number of its track, once it has started.
    pub(super) fn index(&self) -> Option<usize> {
        lock(&self.place).as_ref().map(|place| place.index)
    }

    /// Whether upstream could send this codec; that is not known before it is linked.
    pub(super) fn may_get(&self, codec: Codec) -> bool {
        !self.pad.is_linked() || self.pad.peer_query_caps(None).can_intersect(&announced_caps(codec))
    }

    /// How far EOS has come.
    pub(super) fn end(&self) -> PadEnd {
        PadEnd { linked: self.pad.is_linked(), drained: self.progress.drained.load(SeqCst) }
    }

    /// Whether it is in an end whose last frames are being sent.
    pub(super) fn is_draining(&self, child: &gst::Object) -> bool {
        self.progress.arrived.load(SeqCst)
            && self.lock().as_ref().is_some_and(|i| i.elements.iter().any(|e| e.upcast_ref::<gst::Object>() == child))
    }

    /// The chain at work.
    pub(super) fn chain(&self) -> Option<Arc<Chain>> {
        self.lock().as_ref()?.chain.clone()
    }

    /// What is sent at present.
    pub(super) fn codec(&self) -> Option<Codec> {
        self.lock().as_ref().map(|installed| installed.purpose.to)
    }

    /// Keyframes asked for, buffers that nobody was there for, bit/s of the video encoder.
    pub(super) fn counts(&self) -> (u64, u64, u32) {
        (self.requests.load(Relaxed), self.unwatched.load(Relaxed), self.bitrate.load(Relaxed))
    }

    fn event(&self, pad: &gst::GhostPad, parent: Option<&gst::Object>, event: gst::Event) -> bool {
        match event.view() {
            // A parser would refuse them. Complete ones follow before data does.
            gst::EventView::Caps(caps) => {
                if let Some(Place { fanout, index }) = lock(&self.place).clone() {
                    fanout.set_comes(index, Comes::of(caps.caps()));
                }
                if lacks_configuration(caps.caps()) {
                    return true;
                }
                *lock(&self.refused) = None;
            }
            gst::EventView::Eos(_) => {
                self.progress.arrived.store(true, SeqCst);
                // Parsers call a stream without data an error, and there is nothing to drain.
                let drains = self.lock().is_some() && self.progress.has_data.load(SeqCst);
                let taken = !drains || gst::Pad::event_default(pad, parent, event);
                if !drains {
                    self.progress.set_drained();
                    if let Some(element) = self.element.upgrade() {
                        element.check_ending();
                    }
                }
                return taken;
            }
            gst::EventView::FlushStop(_) => self.progress.reset(),
            // After EOS it is a new stream's.
            gst::EventView::StreamStart(_) => {
                self.progress.starts();
                if let Some(element) = self.element.upgrade() {
                    element.starts_again();
                }
            }
            _ => {}
        }
        gst::Pad::event_default(pad, parent, event)
    }

    /// Waits for the clock only where upstream does not. One that does not say is taken as live: only files need it.
    fn learn_liveness(&self) {
        let mut query = gst::query::Latency::new();
        let is_live = !self.pad.peer_query(&mut query) || query.result().0;
        gst::debug!(CAT, obj = self.pad, "upstream is {}", if is_live { "live" } else { "not live" });
        self.pacer.set_property("sync", !is_live);
    }

    /// Whether a buffer goes on, and what it goes through. On the streaming thread.
    fn opens(&self, pad: &gst::Pad) -> bool {
        let place = lock(&self.place).clone();
        let wanted = place.as_ref().and_then(|place| Some((place, place.fanout.wanted(place.index)?)));
        let (Some((place, to)), Some(caps)) = (wanted, pad.current_caps()) else {
            self.unwatched.fetch_add(1, Relaxed);
            return false;
        };
        let now = Instant::now();
        let bitrate = place.fanout.video_bitrate(now);
        let purpose = Purpose { from: from(&caps), to };
        let is_there = self.lock().as_ref().is_some_and(|installed| installed.purpose == purpose);
        if !is_there {
            let is_refused = lock(&self.refused).as_ref() == Some(&purpose);
            if is_refused || !self.install(pad, &caps, purpose, place, bitrate) {
                return false;
            }
        }
        if self.kind == MediaKind::Video {
            if self.bitrate.swap(bitrate, Relaxed) != bitrate
                && let Some(chain) = self.chain()
            {
                gst::debug!(CAT, obj = self.pad, "{bitrate} bit/s");
                chain.set_video_bitrate(bitrate);
            }
            self.ask_if_due(now);
        }
        true
    }

    /// Asks for a keyframe if one is wanted and it is time: requests of several viewers become one.
    fn ask_if_due(&self, now: Instant) {
        let sink = self.lock().as_ref().and_then(|installed| installed.sink.static_pad("sink"));
        let Some((pad, element)) = sink.zip(self.element.upgrade()) else { return };
        if lock(&self.keyframes).poll(MEANS, now).is_none() {
            return;
        }
        self.requests.fetch_add(1, Relaxed);
        if self.chain().is_some_and(|chain| chain.begin_anew_if_deaf()) {
            return;
        }
        // What is in front of us may take its time to hear of it.
        element.call_async(move |_| {
            // Headers come with each keyframe: the payloader sees to that.
            let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(false).build();
            let heard = pad.push_event(event);
            gst::debug!(CAT, obj = pad, "asked for a keyframe, {}", if heard { "heard" } else { "unheard" });
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Installed>> {
        lock(&self.installed)
    }
}

impl AsksForKeyframes for Input {
    fn want(&self) {
        lock(&self.keyframes).want();
        self.ask_if_due(Instant::now());
    }

    fn arrived(&self) {
        lock(&self.keyframes).arrived();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
