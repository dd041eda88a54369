//! What the element does while it runs: the show from its start to its end, and the units in between.

use std::sync::{Arc, atomic::Ordering};

use gst::{prelude::*, subclass::prelude::*};

use super::{
    super::{
        ending::{self, Ending},
        input::Input,
        keeper::Keeper,
        missing::MissingTrack,
        observer::ElementObserver,
        stage::{Candidate, Outcome, Stage},
        timeline::{Repair, Timeline},
    },
    CAT, RtmpBridgeSink, lock,
};
use crate::{
    rtmp::{Destinations, Track, Tracks},
    transcode,
};

impl RtmpBridgeSink {
    pub(super) fn start(&self) -> Result<(), gst::StateChangeError> {
        let slate = lock(&self.settings).slate().map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            gst::StateChangeError
        })?;
        let inputs = lock(&self.inputs).clone();
        inputs.iter().for_each(|input| input.reset());
        *lock(&self.timeline) = Timeline::default();
        let (policy, audio_codec) = {
            let settings = lock(&self.settings);
            (settings.policy(), settings.audio_codec.into())
        };
        let stage = Arc::new(Stage::new(policy, audio_codec));
        *lock(&self.stage) = stage.clone();
        self.connect()?;
        if policy != Default::default() {
            let keeper = Keeper::start(&self.obj(), stage, slate).map_err(|error| self.no_thread(&error))?;
            *lock(&self.keeper) = Some(keeper);
        }
        Ok(())
    }

    /// Makes destinations that know of nothing yet.
    fn connect(&self) -> Result<(), gst::StateChangeError> {
        let settings = lock(&self.settings).clone();
        let locations = settings.locations().map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            gst::StateChangeError
        })?;
        self.ended.store(false, Ordering::SeqCst);
        self.eos_posted.store(false, Ordering::SeqCst);
        let observer = Arc::new(ElementObserver::new(&self.obj()));
        let destinations = Arc::new(Destinations::new(settings.destinations(), observer));
        self.inspection.start(&self.obj(), &settings);
        self.inspection.locations(&self.obj(), &locations);
        destinations.set_locations(locations).map_err(|error| self.no_thread(&error))?;
        // Dropping those before may wait for their threads: not under the lock.
        let before = lock(&self.destinations).replace(destinations);
        drop(before);
        self.tell_tracks();
        Ok(())
    }

    fn no_thread(&self, error: &std::io::Error) -> gst::StateChangeError {
        gst::element_imp_error!(self, gst::LibraryError::Init, ("cannot start a thread: {error}"));
        gst::StateChangeError
    }

    pub(super) fn stop(&self) {
        *lock(&self.keeper) = None;
        let inputs = lock(&self.inputs).clone();
        inputs.iter().for_each(|input| input.clear(&self.obj()));
        // Dropping them may wait for their threads: not under the lock.
        let destinations = lock(&self.destinations).take();
        drop(destinations);
    }

    pub(super) fn tell_tracks(&self) {
        let tracks = {
            let inputs = lock(&self.inputs);
            let has = |track| inputs.iter().any(|input| input.track == track);
            Tracks { video: has(Track::Video), audio: has(Track::Audio) }
        };
        // What does not come is made up: it is worth waiting for.
        let tracks = match lock(&self.settings).missing_track {
            MissingTrack::Ignore => tracks,
            MissingTrack::Synthesise => Tracks { video: true, audio: true },
        };
        if let Some(destinations) = lock(&self.destinations).clone() {
            destinations.set_tracks(tracks);
        }
    }

    pub(super) fn check_ending(&self) {
        let ends: Vec<_> = lock(&self.inputs).iter().map(|input| input.end()).collect();
        let Some(destinations) = lock(&self.destinations).clone() else { return };
        match ending::judge(&ends) {
            Ending::No => {}
            Ending::Arrived => {
                self.stage().end();
                destinations.ending();
            }
            Ending::Drained => {
                self.stage().end();
                destinations.ended();
                self.ended.store(true, Ordering::SeqCst);
            }
        }
    }

    /// After the end, a seek back to the beginning: the show starts again.
    pub(super) fn start_again(&self) {
        gst::info!(CAT, imp = self, "a new stream after the end of the last one");
        let policy = lock(&self.settings).policy();
        self.stage().restart(policy);
        let _ = self.connect(); // says why it cannot
    }
}

/// What the element's other files ask of it.
impl super::super::RtmpBridgeSink {
    pub(in super::super) fn input(&self, track: Track) -> Option<Arc<Input>> {
        self.imp().inputs_of(track).pop()
    }

    /// Takes what came out of a chain.
    pub(in super::super) fn deliver(&self, candidate: Candidate) {
        let imp = self.imp();
        if imp.ended.swap(false, Ordering::SeqCst) {
            imp.start_again();
        }
        let destinations = lock(&imp.destinations).clone();
        let Some(destinations) = destinations else { return };
        if let Some(dts) = candidate.stamps.dts.or(candidate.stamps.pts) {
            imp.inspection.unit(self, &candidate.format, dts, candidate.keyframe, candidate.data.len());
        }
        let Outcome { ask, gone } = imp.stage().unit(candidate, self.now(), |unit| destinations.push(unit));
        if let Some(track) = gone {
            destinations.forget(track);
        }
        if ask {
            imp.keyframe_wanted.store(true, Ordering::SeqCst);
        }
        imp.answer_keyframe_request();
    }

    /// Hands over what has to stand in for missing input.
    pub(in super::super) fn stand_in(&self, stage: &Stage) {
        let Some(destinations) = lock(&self.imp().destinations).clone() else { return };
        stage.tick(self.now(), |unit| destinations.push(unit));
        self.imp().answer_keyframe_request();
    }

    pub(in super::super) fn count(&self, repair: Repair) {
        self.imp().stage().count(repair);
    }

    /// The clock in ns of running time.
    pub(in super::super) fn now(&self) -> i64 {
        self.current_running_time().map_or(0, |now| now.nseconds().cast_signed())
    }

    pub(in super::super) fn check_ending(&self) {
        self.imp().check_ending();
    }

    pub(in super::super) fn post_eos(&self) {
        if !self.imp().eos_posted.swap(true, Ordering::SeqCst) {
            let _ = self.post_message(gst::message::Eos::builder().src(self).build());
        }
    }

    /// Never waits: it is called while the stage hands over as well.
    pub(in super::super) fn request_keyframe(&self) {
        self.imp().keyframe_wanted.store(true, Ordering::SeqCst);
        self.imp().answer_keyframe_request();
    }

    pub(in super::super) fn transcode_settings(&self) -> transcode::Settings {
        lock(&self.imp().settings).transcode()
    }

    pub(in super::super) fn waits_for_clock(&self) -> bool {
        lock(&self.imp().settings).sync
    }
}
