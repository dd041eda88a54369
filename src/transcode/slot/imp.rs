//! The slot's pads and its state: what becomes of each frame, and when an encoder is of no use any more.

use std::{
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    super::{
        CAT,
        candidates::Candidates,
        entrance::{Entrance, sink_pad},
        unit::{self, Tuning, Unit},
        watch::Watch,
    },
    renewal::Renewal,
};

/// Raw frames that wait for the encoder: enough to let both sides run at once, few enough to add no latency worth
/// naming.
const FRAMES_WAITING: u32 = 3;
/// How often a waiting thread looks whether the encoder is stuck.
const LOOK: Duration = Duration::from_millis(250);

/// Chosen and replaced on the streaming thread of the sink pad alone. The lock is never held while something is pushed,
/// posted or changes its state.
#[derive(Default)]
pub struct Slot {
    pub(super) pads: OnceLock<(gst::GhostPad, gst::GhostPad)>,
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) unit: Option<Unit>,
    /// Its name, also between one unit and the next.
    pub(super) name: String,
    pub(super) candidates: Candidates,
    pub(super) tuning: Option<Tuning>,
    /// Which unit this is: news of an earlier one do not count.
    pub(super) run: u64,
    pub(super) queued: u32,
    pub(super) watch: Watch,
    pub(super) failure: Option<String>,
    /// A setting that only a new encoder takes.
    pub(super) stale: bool,
    /// A bitrate that only a new encoder takes.
    pub(super) renewal: Renewal,
    pub(super) live: bool,
    flushing: bool,
    ended: bool,
    pub(super) skipped: u64,
}

impl State {
    /// Another encoder begins. The frames that waited for the one before are lost with it.
    pub(super) fn begin_run(&mut self) {
        self.skipped += u64::from(self.queued);
        (self.stale, self.run, self.queued) = (false, self.run + 1, 0);
        self.watch = Watch::default();
    }

    /// Nothing has gone in yet.
    fn begin_stream(&mut self) {
        (self.flushing, self.ended, self.queued) = (false, false, 0);
        self.watch = Watch::default();
    }
}

/// What is to be done with a frame.
enum Turn {
    Push,
    Skip,
    Flush,
    Replace,
}

#[glib::object_subclass]
impl ObjectSubclass for Slot {
    const NAME: &'static str = "GstRtmpBridgeEncoderSlot";
    type Type = super::Slot;
    type ParentType = gst::Bin;
}

impl ObjectImpl for Slot {
    fn constructed(&self) {
        self.parent_constructed();
        let sink = sink_pad::<Self>()
            .query_function(|pad, parent, query| {
                if let gst::QueryViewMut::Allocation(query) = query.view_mut() {
                    // It would wait for an encoder, and one may be stuck. What every unit begins with reads any layout.
                    query.add_allocation_meta::<gst_video::VideoMeta>(None);
                    return true;
                }
                gst::Pad::query_default(pad, parent, query)
            })
            .build();
        let slot = self.obj().downgrade();
        let src = gst::GhostPad::builder(gst::PadDirection::Src)
            .name("src")
            .proxy_pad_chain_function(move |pad, parent, buffer| {
                let slot = slot.upgrade();
                if let Some(slot) = &slot {
                    slot.imp().with_state(|state| state.watch.frame_out());
                }
                let result = gst::ProxyPad::chain_default(pad, parent, buffer);
                if let Some(slot) = &slot {
                    slot.imp().with_state(|state| state.watch.frame_gone());
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

impl GstObjectImpl for Slot {}

impl ElementImpl for Slot {
    /// The unit's state is changed here and not by GstBin, so that one that does not start is one that failed.
    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition.next() < transition.current() {
            if transition == gst::StateChange::PausedToReady {
                self.with_state(|state| state.flushing = true);
                self.changed.notify_all();
            }
            self.stop_unit(transition.next());
            return self.parent_change_state(transition);
        }
        if transition == gst::StateChange::ReadyToPaused {
            self.with_state(State::begin_stream);
        }
        let result = self.parent_change_state(transition)?;
        let started = self.unit_bin().map(|bin| bin.set_state(transition.next()));
        if let Some(Err(_)) = started {
            self.fail("does not start any more".to_owned());
        }
        Ok(result)
    }
}

impl BinImpl for Slot {
    fn handle_message(&self, message: gst::Message) {
        let gst::MessageView::Error(error) = message.view() else { return self.parent_handle_message(message) };
        let ours = self.unit_bin().is_some_and(|bin| message.src().is_some_and(|src| src.has_as_ancestor(&bin)));
        gst::info!(CAT, imp = self, "{}: {:?}", error.error(), error.debug());
        if ours {
            self.fail(error.error().to_string());
        }
    }
}

impl Entrance for Slot {
    fn chain(&self, pad: &gst::GhostPad, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        loop {
            match self.turn() {
                Turn::Push => break,
                Turn::Skip => return Ok(gst::FlowSuccess::Ok),
                Turn::Flush => return Err(gst::FlowError::Flushing),
                Turn::Replace => self.replace(pad)?,
            }
        }
        match gst::ProxyPad::chain_default(pad, Some(&*self.obj()), buffer) {
            Ok(success) => Ok(success),
            Err(flow @ (gst::FlowError::Flushing | gst::FlowError::Eos)) => Err(flow),
            // The next frame finds another encoder.
            Err(flow) => {
                self.fail(format!("takes no more frames ({flow})"));
                self.with_state(|state| state.skipped += 1);
                Ok(gst::FlowSuccess::Ok)
            }
        }
    }

    fn event(&self, pad: &gst::GhostPad, event: gst::Event) -> bool {
        let parent = self.obj();
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.with_state(|state| state.flushing = true);
                self.changed.notify_all();
            }
            gst::EventView::FlushStop(_) => {
                let taken = gst::Pad::event_default(pad, Some(&*parent), event);
                self.with_state(State::begin_stream);
                return taken;
            }
            gst::EventView::StreamStart(_) => self.with_state(|state| state.ended = false),
            gst::EventView::Eos(_) => {
                let failed = self.with_state(|state| {
                    state.ended = true;
                    state.failure.is_some() || state.unit.is_none()
                });
                // Nothing is left that would drain.
                if failed {
                    return self.push_eos();
                }
            }
            _ => {}
        }
        gst::Pad::event_default(pad, Some(&*parent), event)
    }
}

impl Slot {
    /// Puts the first encoder in.
    pub(super) fn begin(&self, unit: Unit, candidates: Candidates, tuning: Tuning) {
        self.with_state(|state| {
            state.candidates = candidates;
            state.renewal.begins(tuning.bitrate, Instant::now());
            state.tuning = Some(tuning);
        });
        if let Err(reason) = self.install(unit) {
            self.fail(reason);
        }
    }

    /// At once where the encoder can, else with another one, when that is worth it.
    pub(super) fn set_bitrate(&self, bitrate: u32) {
        let changed = self.with_state(|state| {
            let tuning = state.tuning.as_mut()?;
            tuning.bitrate = bitrate;
            Some((state.unit.as_ref()?.encoder(), tuning.clone()))
        });
        let Some((encoder, tuning)) = changed else { return };
        if !unit::set_bitrate(&encoder, &tuning) {
            self.with_state(|state| state.renewal.wants(bitrate));
        }
    }

    pub(super) fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, where upstream can wait, until the encoder has room for a frame.
    fn turn(&self) -> Turn {
        let mut state = self.lock();
        let mut blocked_since = Instant::now();
        state.watch.frame_in(blocked_since);
        loop {
            let now = Instant::now();
            if state.flushing {
                return Turn::Flush;
            }
            if state.failure.is_some() || state.stale || state.renewal.is_due(now) || state.unit.is_none() {
                return Turn::Replace;
            }
            if state.watch.is_held_up() {
                blocked_since = now;
            }
            // Without a successor it may as well come round.
            if !state.candidates.is_empty() && state.watch.is_stuck(now, now - blocked_since) {
                state.failure = Some("gives no more frames".to_owned());
                return Turn::Replace;
            }
            if state.queued < FRAMES_WAITING {
                state.queued += 1;
                return Turn::Push;
            }
            if state.live {
                state.skipped += 1;
                return Turn::Skip;
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The encoder is of no use any more. It is replaced when the next frame comes.
    fn fail(&self, reason: String) {
        let ended = self.with_state(|state| {
            let first = state.failure.is_none();
            state.failure.get_or_insert(reason);
            first && state.ended
        });
        self.changed.notify_all();
        if ended {
            self.push_eos();
        }
    }

    fn push_eos(&self) -> bool {
        self.pads.get().is_some_and(|(_, src)| src.push_event(gst::event::Eos::new()))
    }

    pub(super) fn unit_bin(&self) -> Option<gst::Bin> {
        self.with_state(|state| state.unit.as_ref().map(|unit| unit.bin.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_lost_with_an_encoder_are_counted() {
        let mut state = State { queued: FRAMES_WAITING, skipped: 7, stale: true, ..State::default() };
        state.begin_run();
        assert_eq!((state.skipped, state.queued, state.run, state.stale), (10, 0, 1, false));
        state.begin_run();
        assert_eq!(state.skipped, 10, "once");
    }
}
