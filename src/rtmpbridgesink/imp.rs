//! The GObject: properties, pad templates, state changes and EOS. What happens in them is elsewhere.
#![allow(missing_docs)] // glib::Properties expands to undocumented accessors

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use gst::{glib, prelude::*, subclass::prelude::*};
use once_cell::sync::Lazy;

use super::{
    codecs::{AudioCodec, VideoCodec},
    ending::{self, Ending},
    input::Input,
    inspection::Inspection,
    observer::ElementObserver,
    preset::Preset,
    settings::Settings,
    stats::{self, ElementStats},
    tls::TlsValidationFlags,
};
use crate::{
    rtmp::{self, Destination, Track, Tracks, Unit},
    transcode,
};

pub(super) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("rtmpbridgesink", gst::DebugColorFlags::empty(), Some("Audio and video to RTMP"))
});

/// Elements without which nothing works here, and their Debian packages.
const NEEDED: &[(&str, &str)] = &[
    ("rtmp2sink", "gstreamer1.0-plugins-bad"),
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("aacparse", "gstreamer1.0-plugins-good"),
];

/// Lock order: `inputs`, then `destination`, then `settings`; each is held for a copy only, never over a push, a state
/// change or a message.
#[derive(Default, glib::Properties)]
#[properties(wrapper_type = super::RtmpBridgeSink)]
pub struct RtmpBridgeSink {
    #[property(name = "location", type = Option<String>, get = Self::location, set = Self::set_location, mutable_playing,
        blurb = "RTMP URL to publish to: rtmp[s]://host[:port]/application/stream-key; reading it gives it without its secrets")]
    #[property(name = "preset", type = Preset, get, set, member = preset,
        blurb = "Platform whose rules the stream keeps: sets what is not set, takes a stream key alone as location, warns of what breaks a rule", builder(Preset::None))]
    #[property(name = "encoder", type = String, get, set, member = encoder, default = Some("auto"),
        blurb = "H.264 encoder: auto, software, or the name of an encoder's factory")]
    #[property(name = "video-codec", type = VideoCodec, get, set, member = video_codec,
        blurb = "What video is sent as; others than H.264 need a server that understands enhanced RTMP", builder(VideoCodec::Auto))]
    #[property(name = "audio-codec", type = AudioCodec, get, set, member = audio_codec,
        blurb = "What audio is sent as; Opus needs a server that understands enhanced RTMP v2", builder(AudioCodec::Auto))]
    #[property(name = "video-bitrate", type = u32, get, set = Self::set_video_bitrate, member = video_bitrate,
        minimum = 1000, maximum = 2_000_000_000, default = 2_500_000, mutable_playing, blurb = "Bitrate of encoded video in bit/s")]
    #[property(name = "audio-bitrate", type = u32, get, set, member = audio_bitrate, minimum = 8000, maximum = 320_000,
        default = 128_000,
        blurb = "Bitrate of encoded audio in bit/s")]
    #[property(name = "keyframe-interval", type = u32, get, set, member = keyframe_interval, minimum = 100,
        default = 2000, blurb = "Time from keyframe to keyframe in ms: encoders make them, publishers whose video passes through are asked")]
    #[property(name = "max-queue-time", type = u32, get, set, member = max_queue_time, minimum = 100,
        default = 3000,
        blurb = "How far the server may lag in ms before whole groups of pictures are left out")]
    #[property(name = "reconnect-min", type = u32, get, set, member = reconnect_min, default = 500,
        blurb = "Delay before the first retry in ms; it doubles with each")]
    #[property(name = "reconnect-max", type = u32, get, set, member = reconnect_max, default = 5000,
        blurb = "Longest delay before a retry in ms")]
    #[property(name = "max-retries", type = i32, get, set, member = max_retries, minimum = -1, default = -1,
        blurb = "Retries in one outage before giving up with an error (-1: no limit)")]
    #[property(name = "connect-timeout", type = u32, get, set, member = connect_timeout, minimum = 1, default = 5000,
        blurb = "How long connecting may take in ms")]
    #[property(name = "stall-timeout", type = u32, get, set, member = stall_timeout, minimum = 1, default = 8000,
        blurb = "How long data may wait in ms while the server takes none, before connecting again")]
    #[property(name = "tls-validation-flags", type = TlsValidationFlags, get, set, member = tls_validation_flags,
        default = TlsValidationFlags::VALIDATE_ALL, blurb = "What of an RTMPS server's certificate is checked")]
    #[property(name = "sync", type = bool, get, set, member = sync, default = true,
        blurb = "Wait for the clock where upstream is not live")]
    settings: Mutex<Settings>,
    inputs: Mutex<Vec<Arc<Input>>>,
    destination: Mutex<Option<Arc<Destination>>>,
    inspection: Inspection,
    timestamps_repaired: AtomicU64,
    eos_posted: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for RtmpBridgeSink {
    const NAME: &'static str = "GstRtmpBridgeSink";
    type Type = super::RtmpBridgeSink;
    type ParentType = gst::Bin;
}

impl ObjectImpl for RtmpBridgeSink {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let mut properties = RtmpBridgeSink::derived_properties().to_vec();
            let stats = glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .blurb("What the destination has done so far, and how")
                .read_only()
                .build();
            properties.push(stats);
            properties
        });
        &PROPERTIES
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" { self.stats().to_value() } else { self.derived_property(id, pspec) }
    }

    fn set_property(&self, id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.derived_set_property(id, value, pspec);
        lock(&self.settings).was_set(pspec.name());
    }

    fn constructed(&self) {
        self.parent_constructed();
        // Chains come and go, and GstBin would drop the flag with the last of them.
        self.obj().set_suppressed_flags(gst::ElementFlags::SINK | gst::ElementFlags::SOURCE);
        self.obj().set_element_flags(gst::ElementFlags::SINK);
    }
}

impl GstObjectImpl for RtmpBridgeSink {}

impl ElementImpl for RtmpBridgeSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "RTMP bridge sink",
                "Sink/Network/RTMP",
                "Sends raw or encoded audio and video to an RTMP server, and keeps doing so",
                "The webrtcbridge authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            let video = ["x-h264", "x-h265", "x-vp8", "x-vp9", "x-av1"]
                .iter()
                .fold(gst::Caps::builder_full(), |caps, name| {
                    caps.structure(gst::Structure::new_empty(format!("video/{name}")))
                })
                // What converts best is preferred, everything else is taken.
                .structure(
                    gst::Structure::builder("video/x-raw").field("format", gst::List::new(["I420", "NV12"])).build(),
                )
                .structure_with_any_features(gst::Structure::new_empty("video/x-raw"))
                .build();
            let audio = gst::Caps::builder_full()
                .structure(gst::Structure::builder("audio/mpeg").field("mpegversion", 4i32).build())
                .structure(gst::Structure::new_empty("audio/x-opus"))
                .structure(gst::Structure::new_empty("audio/x-alaw"))
                .structure(gst::Structure::new_empty("audio/x-mulaw"))
                .structure(gst::Structure::new_empty("audio/x-raw"))
                .build();
            [("video", video), ("audio", audio)]
                .into_iter()
                .filter_map(|(name, caps)| {
                    gst::PadTemplate::new(name, gst::PadDirection::Sink, gst::PadPresence::Request, &caps).ok()
                })
                .collect()
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let track = if template.name_template() == "video" { Track::Video } else { Track::Audio };
        let input = {
            let mut inputs = lock(&self.inputs);
            if inputs.iter().any(|input| input.track == track) {
                gst::warning!(CAT, imp = self, "there is one {} pad only, and it is taken", template.name_template());
                return None;
            }
            let input = Input::new(&self.obj(), track, template);
            inputs.push(input.clone());
            input
        };
        let _ = input.pad.set_active(true);
        self.obj().add_pad(&input.pad).ok()?;
        self.tell_tracks();
        Some(input.pad.clone().upcast())
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let input = {
            let mut inputs = lock(&self.inputs);
            let index = inputs.iter().position(|input| input.pad.upcast_ref::<gst::Pad>() == pad);
            index.map(|index| inputs.remove(index))
        };
        let Some(input) = input else { return };
        // The chain first: deactivating the pad waits for a streaming thread that may wait in there.
        input.clear(&self.obj());
        let _ = input.pad.set_active(false);
        let _ = self.obj().remove_pad(&input.pad);
        self.tell_tracks();
        self.check_ending();
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => self.check_elements()?,
            gst::StateChange::ReadyToPaused => self.start()?,
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToPaused if result.is_err() => self.stop(),
            _ => {}
        }
        result
    }

    fn send_event(&self, event: gst::Event) -> bool {
        let destination = lock(&self.destination).clone();
        match (event.type_(), destination) {
            (gst::EventType::Eos, Some(destination)) => {
                destination.ended();
                true
            }
            _ => self.parent_send_event(event),
        }
    }
}

impl BinImpl for RtmpBridgeSink {
    fn handle_message(&self, message: gst::Message) {
        match message.view() {
            // The end is when the server has been told, not when the chains are empty; and an unused pad never ends.
            gst::MessageView::Eos(_) => {}
            // Decoders and parsers call it an error when the stream ends before they had enough for a first frame.
            gst::MessageView::Error(error) if self.is_draining(message.src()) => {
                gst::info!(CAT, imp = self, "at the end of the stream: {}", error.error());
            }
            _ => self.parent_handle_message(message),
        }
    }
}

impl RtmpBridgeSink {
    fn location(&self) -> Option<String> {
        lock(&self.settings).location.as_deref().map(rtmp::redact)
    }

    fn set_location(&self, location: Option<String>) {
        let parsed = {
            let mut settings = lock(&self.settings);
            let parsed = location.as_deref().map(|location| settings.parse_location(location));
            settings.location = location;
            parsed
        };
        let Some(destination) = lock(&self.destination).clone() else { return };
        match parsed {
            Some(Ok(location)) => {
                self.inspection.locations(&self.obj(), [&location]);
                destination.relocate(location);
            }
            // The stream that runs is worth more than the typing error.
            Some(Err(error)) => gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{error}")),
            None => {}
        }
    }

    fn set_video_bitrate(&self, bitrate: u32) {
        lock(&self.settings).video_bitrate = bitrate;
        for input in self.inputs_of(Track::Video) {
            input.set_video_bitrate(bitrate);
        }
    }

    fn stats(&self) -> gst::Structure {
        let encoder = |track| self.inputs_of(track).iter().find_map(|input| input.encoder_name());
        let element = ElementStats {
            video_encoder: encoder(Track::Video),
            audio_encoder: encoder(Track::Audio),
            timestamps_repaired: self.timestamps_repaired.load(Ordering::Relaxed),
        };
        let destination = lock(&self.destination).clone();
        stats::structure(&element, destination.map(|destination| destination.stats()).as_ref())
    }

    fn check_elements(&self) -> Result<(), gst::StateChangeError> {
        match NEEDED.iter().find(|(name, _)| gst::ElementFactory::find(name).is_none()) {
            None => Ok(()),
            Some((name, package)) => {
                gst::element_imp_error!(
                    self,
                    gst::CoreError::MissingPlugin,
                    ("the GStreamer element {name} is missing; install the Debian package {package}")
                );
                Err(gst::StateChangeError)
            }
        }
    }

    fn start(&self) -> Result<(), gst::StateChangeError> {
        let settings = lock(&self.settings).clone();
        let config = settings.destination();
        let config = config.map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            gst::StateChangeError
        })?;
        self.inspection.start(&self.obj(), &settings);
        self.inspection.locations(&self.obj(), [&config.location]);
        self.timestamps_repaired.store(0, Ordering::Relaxed);
        self.eos_posted.store(false, Ordering::SeqCst);
        let inputs = lock(&self.inputs).clone();
        inputs.iter().for_each(|input| input.reset());
        let destination = Destination::start(config, Arc::new(ElementObserver::new(&self.obj()))).map_err(|error| {
            gst::element_imp_error!(self, gst::LibraryError::Init, ("cannot start a thread: {error}"));
            gst::StateChangeError
        })?;
        *lock(&self.destination) = Some(Arc::new(destination));
        self.tell_tracks();
        Ok(())
    }

    fn stop(&self) {
        let inputs = lock(&self.inputs).clone();
        inputs.iter().for_each(|input| input.clear(&self.obj()));
        // Dropping it may wait for its thread: not under the lock.
        let destination = lock(&self.destination).take();
        drop(destination);
    }

    fn tell_tracks(&self) {
        let tracks = {
            let inputs = lock(&self.inputs);
            let has = |track| inputs.iter().any(|input| input.track == track);
            Tracks { video: has(Track::Video), audio: has(Track::Audio) }
        };
        if let Some(destination) = lock(&self.destination).clone() {
            destination.set_tracks(tracks);
        }
    }

    fn check_ending(&self) {
        let ends: Vec<_> = lock(&self.inputs).iter().map(|input| input.end()).collect();
        let Some(destination) = lock(&self.destination).clone() else { return };
        match ending::judge(&ends) {
            Ending::No => {}
            Ending::Arrived => destination.ending(),
            Ending::Drained => destination.ended(),
        }
    }

    /// Whether a child belongs to an input whose end has come in.
    fn is_draining(&self, child: Option<&gst::Object>) -> bool {
        let inputs = lock(&self.inputs).clone();
        child.is_some_and(|child| inputs.iter().any(|input| input.end().arrived && input.owns(child)))
    }

    fn inputs_of(&self, track: Track) -> Vec<Arc<Input>> {
        lock(&self.inputs).iter().filter(|input| input.track == track).cloned().collect()
    }
}

/// What the element's other files ask of it.
impl super::RtmpBridgeSink {
    pub(super) fn input(&self, track: Track) -> Option<Arc<Input>> {
        self.imp().inputs_of(track).pop()
    }

    pub(super) fn push(&self, unit: Unit, repaired: bool) {
        if repaired {
            self.imp().timestamps_repaired.fetch_add(1, Ordering::Relaxed);
        }
        self.imp().inspection.unit(self, &unit.format, unit.dts, unit.keyframe, unit.data.len());
        let destination = lock(&self.imp().destination).clone();
        if let Some(destination) = destination {
            destination.push(unit);
        }
    }

    pub(super) fn check_ending(&self) {
        self.imp().check_ending();
    }

    pub(super) fn post_eos(&self) {
        if !self.imp().eos_posted.swap(true, Ordering::SeqCst) {
            let _ = self.post_message(gst::message::Eos::builder().src(self).build());
        }
    }

    pub(super) fn request_keyframe(&self) {
        for input in self.imp().inputs_of(Track::Video) {
            input.request_keyframe();
        }
    }

    pub(super) fn transcode_settings(&self) -> transcode::Settings {
        lock(&self.imp().settings).transcode()
    }

    pub(super) fn waits_for_clock(&self) -> bool {
        lock(&self.imp().settings).sync
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
