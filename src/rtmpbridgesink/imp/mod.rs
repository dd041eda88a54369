//! The GObject: properties, pad templates, state changes and EOS. What happens in them is in `running` and elsewhere.
#![allow(missing_docs)] // glib::Properties expands to undocumented accessors

mod running;
mod templates;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use gst::{glib, prelude::*, subclass::prelude::*};
use once_cell::sync::Lazy;

use super::{
    codecs::{AudioCodec, VideoCodec},
    input::Input,
    inspection::Inspection,
    keeper::Keeper,
    missing::MissingTrack,
    preset::Preset,
    settings::Settings,
    stage::Stage,
    stats::{self, ElementStats},
    timeline::Timeline,
    tls::TlsValidationFlags,
};
use crate::{
    bridge::Peer,
    rtmp::{Destinations, Track},
};

pub(super) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("rtmpbridgesink", gst::DebugColorFlags::empty(), Some("Audio and video to RTMP"))
});

/// Elements without which nothing works here, and their Debian packages.
const NEEDED: &[(&str, &str)] = &[("h264parse", "gstreamer1.0-plugins-bad"), ("aacparse", "gstreamer1.0-plugins-good")];

/// Lock order: `inputs`, then `destinations`, then `settings`, then `stage`; each is held for a copy only, never over a
/// push, a state change or a message. The stage has a lock of its own, under which units go to the destinations.
#[derive(Default, glib::Properties)]
#[properties(wrapper_type = super::RtmpBridgeSink)]
pub struct RtmpBridgeSink {
    #[property(name = "location", type = Option<String>, get = Self::location, set = Self::set_location, mutable_playing,
        blurb = "RTMP URL to publish to, or several separated by spaces: rtmp[s]://host[:port]/application/stream-key; reading it gives it without its secrets")]
    #[property(name = "locations", type = gst::Array, get = Self::locations, set = Self::set_locations, mutable_playing,
        blurb = "The same URLs as an array; reading it gives them without their secrets")]
    #[property(name = "preset", type = Preset, get, set, member = preset, mutable_ready,
        blurb = "Platform whose rules the stream keeps: sets what is not set, takes a stream key alone as location, warns of what breaks a rule", builder(Preset::None))]
    #[property(name = "encoder", type = String, get, set, member = encoder, mutable_ready, default = Some("auto"),
        blurb = "Video encoder: auto (the best hardware that works, else software), hardware, software, or the name of an encoder's factory")]
    #[property(name = "video-codec", type = VideoCodec, get, set, member = video_codec, mutable_ready,
        blurb = "What video is sent as; others than H.264 need a server that understands enhanced RTMP", builder(VideoCodec::Auto))]
    #[property(name = "audio-codec", type = AudioCodec, get, set, member = audio_codec, mutable_ready,
        blurb = "What audio is sent as; Opus needs a server that understands enhanced RTMP v2", builder(AudioCodec::Auto))]
    #[property(name = "video-bitrate", type = u32, get, set = Self::set_video_bitrate, member = video_bitrate,
        minimum = 1000, maximum = 2_000_000_000, default = 2_500_000, mutable_playing, blurb = "Bitrate of encoded video in bit/s")]
    #[property(name = "audio-bitrate", type = u32, get, set, member = audio_bitrate, mutable_ready, minimum = 8000, maximum = 320_000,
        default = 128_000,
        blurb = "Bitrate of encoded audio in bit/s")]
    #[property(name = "width", type = u32, get, set, member = width, mutable_ready, maximum = 16_384, default = 0,
        blurb = "Width of the canvas that video is transcoded to, with borders where the shape differs (0: as height and the input have it)")]
    #[property(name = "height", type = u32, get, set, member = height, mutable_ready, maximum = 16_384, default = 0,
        blurb = "Height of the canvas that video is transcoded to (0: as width and the input have it)")]
    #[property(name = "framerate", type = gst::Fraction, get, set, member = framerate, mutable_ready, minimum = gst::Fraction::new(0, 1),
        maximum = gst::Fraction::new(240, 1), default = gst::Fraction::new(0, 1),
        blurb = "Frame rate that video is transcoded to (0/1: as it comes)")]
    #[property(name = "keyframe-interval", type = u32, get, set, member = keyframe_interval, mutable_ready, minimum = 100,
        default = 2000, blurb = "Time from keyframe to keyframe in ms: encoders make them, publishers whose video passes through are asked")]
    #[property(name = "max-queue-time", type = u32, get, set, member = max_queue_time, mutable_ready, minimum = 100,
        default = 3000,
        blurb = "How far the server may lag in ms before whole groups of pictures are left out")]
    #[property(name = "reconnect-min", type = u32, get, set, member = reconnect_min, mutable_ready, default = 500,
        blurb = "Delay before the first retry in ms; it doubles with each")]
    #[property(name = "reconnect-max", type = u32, get, set, member = reconnect_max, mutable_ready, default = 5000,
        blurb = "Longest delay before a retry in ms")]
    #[property(name = "max-retries", type = i32, get, set, member = max_retries, mutable_ready, minimum = -1, default = -1,
        blurb = "Retries in one outage before giving up with an error (-1: no limit)")]
    #[property(name = "connect-timeout", type = u32, get, set, member = connect_timeout, mutable_ready, minimum = 1, default = 5000,
        blurb = "How long connecting may take in ms")]
    #[property(name = "stall-timeout", type = u32, get, set, member = stall_timeout, mutable_ready, minimum = 1, default = 8000,
        blurb = "How long data may wait in ms while the server takes none, before connecting again")]
    #[property(name = "tls-validation-flags", type = TlsValidationFlags, get, set, member = tls_validation_flags, mutable_ready,
        default = TlsValidationFlags::VALIDATE_ALL, blurb = "What of an RTMPS server's certificate is checked")]
    #[property(name = "sync", type = bool, get, set, member = sync, mutable_ready, default = true,
        blurb = "Wait for the clock where upstream is not live")]
    #[property(name = "missing-track", type = MissingTrack, get, set, member = missing_track, mutable_ready,
        blurb = "What becomes of a track that does not come within 2 s of the other one", builder(MissingTrack::Ignore))]
    #[property(name = "gap-grace", type = u32, get, set, member = gap_grace, mutable_ready, default = 0,
        blurb = "How long in ms the show is kept up when input stops, with the last picture or the slate, and silence")]
    #[property(name = "slate-file", type = Option<String>, get, set, member = slate_file, mutable_ready,
        blurb = "PNG or JPEG file to show for missing video, instead of the last picture or black")]
    settings: Mutex<Settings>,
    inputs: Mutex<Vec<Arc<Input>>>,
    destinations: Mutex<Option<Arc<Destinations>>>,
    stage: Mutex<Arc<Stage>>,
    inspection: Inspection,
    timeline: Arc<Mutex<Timeline>>,
    keeper: Mutex<Option<Keeper>>,
    /// A keyframe has been asked for by somebody who could not wait for the stage.
    keyframe_wanted: AtomicBool,
    /// All input has ended, and the destinations were told. What comes later is a new stream.
    ended: AtomicBool,
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
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(templates::templates);
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
            let input = Input::new(&self.obj(), track, template, self.timeline.clone());
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

    /// In a session's pipeline: fills in the placeholders, which nobody else can as the getters hide the URLs.
    fn set_context(&self, context: &gst::Context) {
        if let Some(peer) = Peer::of(context) {
            let mut settings = lock(&self.settings);
            let filled = settings.locations.iter().map(|url| peer.fill(&*self.obj(), "location", url)).collect();
            settings.locations = filled;
            if let Err(why) = settings.locations() {
                peer.object(&*self.obj(), "location", &why);
            }
        }
        self.parent_set_context(context);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        let destinations = lock(&self.destinations).clone();
        match (event.type_(), destinations) {
            (gst::EventType::Eos, Some(destinations)) => {
                destinations.ended();
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
            // Live media wait for nothing here, so that no latency has to be told; gst-launch would print a line for each.
            gst::MessageView::Latency(_) => {}
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
        lock(&self.settings).redacted_location()
    }

    fn set_location(&self, location: Option<String>) {
        self.set_urls(location.unwrap_or_default().split_whitespace().map(str::to_owned).collect());
    }

    fn locations(&self) -> gst::Array {
        gst::Array::new(lock(&self.settings).redacted_locations())
    }

    fn set_locations(&self, locations: gst::Array) {
        // What is no text is no URL either: it is named as an empty one.
        self.set_urls(locations.iter().map(|url| url.get::<String>().unwrap_or_default()).collect());
    }

    /// While it runs, destinations come and go; those that stay are not touched.
    fn set_urls(&self, urls: Vec<String>) {
        let Some(destinations) = lock(&self.destinations).clone() else {
            lock(&self.settings).locations = urls;
            return;
        };
        let parsed = lock(&self.settings).parse_locations(&urls);
        let wrong = match parsed {
            Ok(locations) => {
                lock(&self.settings).locations = urls;
                self.inspection.locations(&self.obj(), &locations);
                destinations.set_locations(locations).err().map(|error| format!("cannot start a thread: {error}"))
            }
            Err(error) => Some(format!("{error}; the destinations stay as they were")),
        };
        // The streams that run are worth more than the typing error.
        if let Some(wrong) = wrong {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{wrong}"));
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
        let (passed_over, frames_skipped) =
            self.inputs_of(Track::Video).first().map(|input| input.encoder_losses()).unwrap_or_default();
        let element = ElementStats {
            passed_over,
            frames_skipped,
            video_encoder: encoder(Track::Video),
            audio_encoder: encoder(Track::Audio),
            counts: self.stage().counts(),
        };
        let destinations = lock(&self.destinations).clone();
        stats::structure(&element, &destinations.map(|destinations| destinations.stats()).unwrap_or_default())
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

    fn stage(&self) -> Arc<Stage> {
        lock(&self.stage).clone()
    }

    /// Asks for a keyframe if one is wanted, unless somebody holds the stage: then he does when he lets it go.
    fn answer_keyframe_request(&self) {
        let stage = self.stage();
        if stage.is_busy() || !self.keyframe_wanted.swap(false, Ordering::SeqCst) {
            return;
        }
        stage.begin_group();
        for input in self.inputs_of(Track::Video) {
            input.request_keyframe();
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
