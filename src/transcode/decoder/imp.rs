//! The bin around the decoder: its pads, and how the next decoder takes over.

use std::{
    collections::VecDeque,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    super::{
        CAT, aside,
        entrance::{Entrance, sink_pad},
    },
    working,
};

/// How long the next decoder waits for the keyframe that was asked for before it asks again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Replaced on the streaming thread of the sink pad alone. The lock is never held while something is pushed, posted or
/// changes its state.
#[derive(Default)]
pub struct Decoder {
    pads: OnceLock<(gst::GhostPad, gst::GhostPad)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<gst::Element>,
    candidates: VecDeque<gst::ElementFactory>,
    failure: Option<String>,
    /// Whether the current one has given a frame: then it may be tried again once it has failed.
    has_worked: bool,
    /// What downstream said last: an error of its own comes back through the decoder as if it were the decoder's.
    downstream: Option<gst::FlowError>,
    /// The current one knows nothing of what pictures refer to before the next keyframe; when that was asked for last.
    asked: Option<Instant>,
    ended: bool,
}

#[glib::object_subclass]
impl ObjectSubclass for Decoder {
    const NAME: &'static str = "GstRtmpBridgeDecoder";
    type Type = super::Decoder;
    type ParentType = gst::Bin;
}

impl ObjectImpl for Decoder {
    fn constructed(&self) {
        self.parent_constructed();
        let sink = sink_pad::<Self>().build();
        let decoder = self.obj().downgrade();
        let src = gst::GhostPad::builder(gst::PadDirection::Src)
            .name("src")
            .proxy_pad_chain_function(move |pad, parent, buffer| {
                let result = gst::ProxyPad::chain_default(pad, parent, buffer);
                if let Some(decoder) = decoder.upgrade() {
                    decoder.imp().with_state(|state| {
                        state.has_worked = true;
                        state.downstream = result.err();
                    });
                }
                result
            })
            .build();
        for pad in [&sink, &src] {
            if let Err(error) = self.obj().add_pad(pad) {
                gst::error!(CAT, imp = self, "{error}");
            }
        }
        let _ = self.pads.set((sink, src));
    }
}

impl GstObjectImpl for Decoder {}

impl ElementImpl for Decoder {
    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            self.with_state(|state| (state.ended, state.downstream) = (false, None));
        }
        self.parent_change_state(transition)
    }
}

impl BinImpl for Decoder {
    fn handle_message(&self, message: gst::Message) {
        let gst::MessageView::Error(error) = message.view() else { return self.parent_handle_message(message) };
        gst::info!(CAT, imp = self, "{}: {:?}", error.error(), error.debug());
        let current = self.with_state(|state| state.current.clone());
        let is_current = current.is_some_and(|current| {
            message.src().is_some_and(|src| src == current.upcast_ref::<gst::Object>() || src.has_as_ancestor(&current))
        });
        if is_current {
            self.fail(error.error().to_string());
        }
    }
}

impl Entrance for Decoder {
    fn chain(&self, pad: &gst::GhostPad, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.with_state(|state| state.failure.is_some()) {
            self.replace(pad)?;
        }
        if self.waits_for_keyframe(pad, &buffer) {
            return Ok(gst::FlowSuccess::Ok);
        }
        self.with_state(|state| state.downstream = None);
        let flow = match gst::ProxyPad::chain_default(pad, Some(&*self.obj()), buffer) {
            Ok(success) => return Ok(success),
            Err(flow @ (gst::FlowError::Flushing | gst::FlowError::Eos)) => return Err(flow),
            Err(flow) => flow,
        };
        // Its own failures have no such echo.
        if self.with_state(|state| state.downstream == Some(flow)) {
            return Err(flow);
        }
        self.fail(format!("takes no more data ({flow})"));
        Ok(gst::FlowSuccess::Ok)
    }

    fn event(&self, pad: &gst::GhostPad, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::Eos => {
                let failed = self.with_state(|state| {
                    state.ended = true;
                    state.failure.is_some()
                });
                // It may have stopped handing on anything.
                if failed {
                    return self.pads.get().is_some_and(|(_, src)| src.push_event(event));
                }
            }
            gst::EventType::StreamStart | gst::EventType::FlushStop => self.with_state(|state| state.ended = false),
            _ => {}
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }
}

impl Decoder {
    /// Puts the best one in; whether there is any.
    pub(super) fn begin(&self, candidates: VecDeque<gst::ElementFactory>) -> bool {
        self.with_state(|state| state.candidates = candidates);
        self.next().is_some()
    }

    /// The current one is of no use any more. It is replaced when the next picture comes; after the end there is none, and
    /// decoders call it an error when they had too little for a first frame.
    fn fail(&self, reason: String) {
        self.with_state(|state| {
            if !state.ended {
                state.failure.get_or_insert(reason);
            }
        });
    }

    /// Whether a picture is of no use to a decoder that has just begun. Asks for a keyframe as long as none comes.
    fn waits_for_keyframe(&self, pad: &gst::GhostPad, buffer: &gst::BufferRef) -> bool {
        let ask = self.with_state(|state| {
            let last = state.asked?;
            if !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
                state.asked = None;
                return None;
            }
            let due = last.elapsed() >= ASK_AGAIN;
            if due {
                state.asked = Some(Instant::now());
            }
            Some(due)
        });
        if ask == Some(true) {
            Self::ask(pad);
        }
        ask.is_some()
    }

    fn ask(pad: &gst::GhostPad) {
        pad.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
    }

    /// Puts the next one in. On the streaming thread, so that nothing goes in meanwhile.
    fn replace(&self, pad: &gst::GhostPad) -> Result<(), gst::FlowError> {
        let (old, failure) = self.with_state(|state| {
            let old = state.current.take();
            // It worked for a while, and may do so again: after all the others.
            if std::mem::take(&mut state.has_worked)
                && let Some(factory) = old.as_ref().and_then(ElementExt::factory)
            {
                state.candidates.push_back(factory);
            }
            (old, state.failure.take().unwrap_or_default())
        });
        let name = old.as_ref().and_then(ElementExt::factory).map(|factory| factory.name().to_string());
        let name = name.unwrap_or_default();
        if let Some(old) = old {
            self.dismiss(old);
        }
        match self.next() {
            Some(next) if next == name => gst::info!(CAT, imp = self, "the decoder {name} begins anew: {failure}"),
            Some(next) => gst::element_imp_warning!(
                self,
                gst::StreamError::Decode,
                ("the decoder {name} failed: {failure}; {next} goes on in its place")
            ),
            None => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Decode,
                    ("the decoder {name} failed: {failure}; there is no other that works here")
                );
                return Err(gst::FlowError::Error);
            }
        }
        self.with_state(|state| state.asked = Some(Instant::now()));
        Self::ask(pad);
        Ok(())
    }

    /// Takes the best of those that are left and starts it; returns its name.
    fn next(&self) -> Option<String> {
        loop {
            let factory = self.with_state(|state| state.candidates.pop_front())?;
            if let Some(decoder) = working(&factory) {
                match self.install(decoder) {
                    Ok(()) => return Some(factory.name().to_string()),
                    Err(reason) => gst::info!(CAT, imp = self, "{} cannot be put in place: {reason}", factory.name()),
                }
            }
        }
    }

    fn install(&self, decoder: gst::Element) -> Result<(), glib::BoolError> {
        let lacking = || glib::bool_error!("a pad is missing");
        let (sink, src) = self.pads.get().ok_or_else(lacking)?;
        let inner = |name| decoder.static_pad(name).ok_or_else(lacking);
        let (inner_sink, inner_src) = (inner("sink")?, inner("src")?);
        self.obj().add(&decoder)?;
        let wired = src
            .set_target(Some(&inner_src))
            .and_then(|()| sink.set_target(Some(&inner_sink)))
            .and_then(|()| decoder.sync_state_with_parent());
        if wired.is_err() {
            self.dismiss(decoder);
            return wired;
        }
        self.with_state(|state| state.current = Some(decoder));
        Ok(())
    }

    fn dismiss(&self, decoder: gst::Element) {
        if let Some((sink, src)) = self.pads.get() {
            let _ = sink.set_target(None::<&gst::Pad>);
            let _ = src.set_target(None::<&gst::Pad>);
        }
        let _ = self.obj().remove(&decoder);
        aside::stop(decoder);
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
