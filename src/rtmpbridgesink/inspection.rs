//! Tells on the bus which of the preset's rules the settings and the stream break, each once.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{RtmpBridgeSink, missing::MissingTrack, settings::Settings};
use crate::{
    flv::VideoInfo,
    rtmp::{
        Format, Location,
        platform::{Inspector, Violation},
    },
};

/// The inspector while the element runs and has a preset. Its lock is never held over a message.
#[derive(Debug, Default)]
pub(super) struct Inspection(Mutex<Option<Inspector>>);

impl Inspection {
    /// A new stream begins: looks at what is known of it before.
    pub(super) fn start(&self, element: &RtmpBridgeSink, settings: &Settings) {
        let made_up = settings.missing_track == MissingTrack::Synthesise;
        let inspector = settings.preset.platform().map(|platform| Inspector::new(platform, made_up));
        self.with(|slot| *slot = inspector);
        self.settings(element, settings);
    }

    /// Looks at where the stream goes.
    pub(super) fn locations<'a>(&self, element: &RtmpBridgeSink, locations: impl IntoIterator<Item = &'a Location>) {
        let locations = locations.into_iter();
        self.tell(element, |inspector| {
            let platform = inspector.platform();
            inspector.fresh(locations.flat_map(|location| platform.check_location(location)))
        });
    }

    /// Looks at what goes out.
    pub(super) fn unit(&self, element: &RtmpBridgeSink, format: &Format, dts: i64, keyframe: bool, bytes: usize) {
        self.tell(element, |inspector| inspector.unit(format, dts, keyframe, bytes));
    }

    fn settings(&self, element: &RtmpBridgeSink, settings: &Settings) {
        self.tell(element, |inspector| {
            let platform = inspector.platform();
            let mut broken = platform.check_video(&video(settings), None);
            broken.extend(platform.check_keyframe_interval(Duration::from_millis(settings.keyframe_interval.into())));
            broken.extend(platform.check_audio_bitrate(settings.audio_bitrate.into()));
            inspector.fresh(broken)
        });
    }

    fn tell(&self, element: &RtmpBridgeSink, inspect: impl FnOnce(&mut Inspector) -> Vec<Violation>) {
        for violation in self.with(|slot| slot.as_mut().map(inspect)).unwrap_or_default() {
            gst::element_warning!(element, gst::StreamError::Format, ("{violation}"));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Option<Inspector>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the settings say of the video; its size comes with it.
fn video(settings: &Settings) -> VideoInfo {
    VideoInfo { codec: settings.video_codec.into(), ..VideoInfo::default() }
}
