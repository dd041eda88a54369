//! The GObject shell: properties, templates, request pads, state changes, events.
#![allow(missing_docs)] // the derive makes public accessors; each property is documented by its blurb

mod asked;
mod pads;
mod running;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use gst::{glib, prelude::*, subclass::prelude::*};
use once_cell::sync::Lazy;

use self::running::{Started, Told};
use super::{
    data,
    ending::{PadEnd, has_ended},
    input::Input,
    settings::Settings,
    stats, templates,
};
use crate::{
    bridge::{
        ConnectionState, IceTransportPolicy, Peer,
        connecting::{Connecting, Way, check_uri},
        properties,
    },
    codec::MediaKind,
    rtp::data::DataPads,
};

pub(super) static CAT: Lazy<gst::DebugCategory> =
    Lazy::new(|| gst::DebugCategory::new("webrtcegress", gst::DebugColorFlags::empty(), Some("Media to WebRTC peers")));

/// Lock order: `inputs`, then `started`, then `connecting` or `settings`; each is held for a copy only, never over a push, a state change or
/// a message.
#[derive(Default, glib::Properties)]
#[properties(wrapper_type = super::WebrtcEgress)]
pub struct WebrtcEgress {
    #[property(name = "uri", get = Self::redacted_uri, set = Self::change_uri, type = Option<String>, member = uri, nick = "URI", mutable_ready,
        blurb = "Where to serve viewers: whep(s)://HOST:PORT/PATH, port 0 picks a free one; or where to push to: whip(s)://HOST:PORT/PATH; or where to meet another peer: ws(s)://HOST:PORT/ws?channel=ID; a query is shown redacted")]
    #[property(name = "auth-token", get = Self::redacted_token, set, type = Option<String>, member = auth_token, mutable_ready,
        nick = "Bearer token", blurb = "Bearer token that viewers must have, or that is sent to the server; shown redacted")]
    #[property(name = "stun-server", get, set, type = Option<String>, member = stun_server, mutable_ready, nick = "STUN server",
        blurb = "STUN server that viewers are told of, and that is asked where this machine is seen: stun://host:port")]
    #[property(name = "turn-servers", get = Self::redacted_turn_servers, set, type = gst::Array, member = turn_servers, mutable_ready,
        nick = "TURN servers",
        blurb = "TURN servers that viewers are told of, and that media is relayed through where nothing else works: turn(s)://user:password@host:port?transport=udp; shown redacted")]
    #[property(name = "video-codecs", get, set, type = gst::Array, member = video_codecs, mutable_ready, nick = "Video codecs",
        blurb = "Video codecs in order of preference; the first peer's choice of them holds for all")]
    #[property(name = "audio-codecs", get, set, type = gst::Array, member = audio_codecs, mutable_ready, nick = "Audio codecs",
        blurb = "Audio codecs in order of preference; the first peer's choice of them holds for all")]
    #[property(name = "ice-udp-port", get, set, type = u32, member = ice_udp_port, mutable_ready, maximum = 65535, nick = "UDP port",
        blurb = "UDP port for the media of all sessions; 0 picks a free one")]
    #[property(name = "ice-udp-port-range", get, set, type = Option<String>, member = ice_udp_port_range, mutable_ready,
        nick = "UDP port range", blurb = "from-to: takes the first free port of these; who sets the same range shares it")]
    #[property(name = "public-addresses", get, set, type = gst::Array, member = public_addresses, mutable_ready,
        nick = "Public addresses", blurb = "IP addresses to announce in place of this machine's")]
    #[property(name = "ice-tcp", get, set, type = bool, member = ice_tcp, mutable_ready, nick = "ICE over TCP",
        blurb = "Peers may connect by TCP as well, to the port that has the number of the UDP port")]
    #[property(name = "ice-transport-policy", get, set, type = IceTransportPolicy, member = ice_transport_policy, mutable_ready, builder(IceTransportPolicy::All).nick("ICE transport policy").blurb("Which ways media may take"))]
    #[property(name = "trusted-proxies", get, set, type = gst::Array, member = trusted_proxies, mutable_ready, nick = "Trusted proxies",
        blurb = "As a server: addresses and networks of proxies in front, whose X-Forwarded-For, -Host and -Prefix or Forwarded are believed")]
    #[property(name = "tls-certificate", get, set, type = Option<String>, member = tls_certificate, mutable_ready,
        nick = "TLS certificate", blurb = "PEM file with the certificate chain, for wheps://; or with certificates to trust beside the system's, for whips://")]
    #[property(name = "tls-key", get, set, type = Option<String>, member = tls_key, mutable_ready,
        nick = "TLS key", blurb = "PEM file with the private key, for wheps://")]
    #[property(name = "connect-timeout", get, set, type = u32, member = connect_timeout, mutable_ready, default = 10_000,
        nick = "Connect timeout", blurb = "How long a peer has from the answer to being connected, in ms")]
    connecting: Mutex<Connecting>,
    #[property(name = "encoder", get, set, type = String, member = encoder, mutable_ready, default = Some("auto"), nick = "Encoder",
        blurb = "Video encoder: auto (the best hardware that works, else software), hardware, software, or the name of an encoder's factory")]
    #[property(name = "video-bitrate", get, set = Self::set_video_bitrate, type = u32, member = video_bitrate, nick = "Video bitrate",
        minimum = 1000, maximum = 2_000_000_000, default = 2_500_000, mutable_playing,
        blurb = "Most that encoded video has, in bit/s; congestion control goes below")]
    #[property(name = "audio-bitrate", get, set = Self::set_audio_bitrate, type = u32, member = audio_bitrate, nick = "Audio bitrate",
        minimum = 6000, maximum = 510_000, default = 96_000, mutable_playing, blurb = "Bitrate of encoded audio in bit/s, where the codec has a choice")]
    #[property(name = "max-viewers", get, set, type = u32, member = max_viewers, mutable_ready, nick = "Most viewers",
        blurb = "Viewers that are let in at once; 0 for no limit")]
    settings: Mutex<Settings>,
    #[property(name = "connection-state", get, type = ConnectionState, builder(ConnectionState::New).nick("Connection state").blurb("State of the connection; as a server connected while anybody watches"))]
    state: Mutex<ConnectionState>,
    /// What the connections have told last, while the element is started. Lock order: before `state`.
    told: Mutex<Option<Arc<Told>>>,
    inputs: Mutex<Vec<Arc<Input>>>,
    data: DataPads,
    started: Mutex<Option<Started>>,
    eos_posted: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for WebrtcEgress {
    const NAME: &'static str = "GstWebrtcEgress";
    type Type = super::WebrtcEgress;
    type ParentType = gst::Bin;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for WebrtcEgress {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let mut properties = WebrtcEgress::derived_properties().to_vec();
            properties.push(
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("Viewers, what each track is sent in, and what was dropped")
                    .read_only()
                    .build(),
            );
            properties
        });
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: Lazy<Vec<glib::subclass::Signal>> = Lazy::new(data::signals);
        &SIGNALS
    }

    fn set_property(&self, id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.derived_set_property(id, value, pspec);
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats().to_value(),
            _ => self.derived_property(id, pspec),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        // Chains come and go, and GstBin would drop the flag with the last of them.
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SINK);
    }
}

impl GstObjectImpl for WebrtcEgress {}

impl ElementImpl for WebrtcEgress {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "WebRTC egress",
                "Sink/Network/WebRTC",
                "Sends raw or encoded audio and video to viewers by WHEP, or to a WHIP server",
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
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        if template.name_template().starts_with("data") {
            return self.new_data_pad(template, name);
        }
        self.new_media_pad(template, name)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        if self.data.remove(pad) {
            let _ = pad.set_active(false);
            let _ = self.obj().remove_pad(pad);
            return self.check_ending();
        }
        self.release_media_pad(pad);
        self.check_ending();
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            self.start()?;
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToPlaying => {
                if let Some(started) = &*lock(&self.started) {
                    started.role.play();
                }
            }
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToPaused if result.is_err() => self.stop(),
            _ => {}
        }
        result
    }

    fn set_context(&self, context: &gst::Context) {
        if let Some(peer) = Peer::of(context) {
            lock(&self.connecting).fill_in(&*self.obj(), &peer);
        }
        self.parent_set_context(context);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Eos || lock(&self.started).is_none() {
            return self.parent_send_event(event);
        }
        gst::debug!(CAT, imp = self, "end of stream was asked for");
        self.end();
        true
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        let gst::QueryViewMut::Latency(latency) = query.view_mut() else { return self.parent_query(query) };
        // Nothing waits for its latency here, whatever stands behind the pads: what is in front of them tells.
        let inputs = lock(&self.inputs).clone();
        let (mut is_live, mut least, mut most) = (false, gst::ClockTime::ZERO, gst::ClockTime::NONE);
        for input in inputs {
            let mut asked = gst::query::Latency::new();
            if input.pad.peer_query(&mut asked) {
                let (live, min, max) = asked.result();
                if live {
                    (is_live, least) = (true, least.max(min));
                    most = most.map_or(max, |most| max.map_or(Some(most), |max| Some(most.min(max))));
                }
            }
        }
        latency.set(is_live, least, most);
        true
    }
}

impl BinImpl for WebrtcEgress {
    fn handle_message(&self, message: gst::Message) {
        match message.view() {
            // The end is when all pads have ended, and an unused one never does.
            gst::MessageView::Eos(_) => {}
            gst::MessageView::Latency(_) => {}
            // Decoders and parsers call it an error when the stream ends before they had enough for a first frame.
            gst::MessageView::Error(error) if self.is_draining(message.src()) => {
                gst::info!(CAT, imp = self, "at the end of the stream: {}", error.error());
            }
            _ => self.parent_handle_message(message),
        }
    }
}

impl URIHandlerImpl for WebrtcEgress {
    const URI_TYPE: gst::URIType = gst::URIType::Sink;

    fn protocols() -> &'static [&'static str] {
        &["whep", "wheps", "whip", "whips", "http", "https", "ws", "wss"]
    }

    fn uri(&self) -> Option<String> {
        self.redacted_uri()
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        check_uri(Way::Out, uri).map_err(|error| glib::Error::new(gst::URIError::BadUri, &error))?;
        if lock(&self.started).is_some() {
            return Err(glib::Error::new(gst::URIError::BadState, "uri can be changed in NULL and READY only"));
        }
        lock(&self.connecting).uri = Some(uri.to_owned());
        Ok(())
    }
}

impl WebrtcEgress {
    fn change_uri(&self, uri: Option<String>) {
        lock(&self.connecting).uri = uri;
        if lock(&self.started).is_some() {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{}", properties::URI_IN_USE));
        }
    }

    fn set_video_bitrate(&self, bitrate: u32) {
        lock(&self.settings).video_bitrate = bitrate;
        self.tell_bitrates();
    }

    fn set_audio_bitrate(&self, bitrate: u32) {
        lock(&self.settings).audio_bitrate = bitrate;
        self.tell_bitrates();
        for input in lock(&self.inputs).clone() {
            if let Some(chain) = input.chain().filter(|_| input.kind == MediaKind::Audio) {
                chain.set_audio_bitrate(bitrate);
            }
        }
    }

    fn tell_bitrates(&self) {
        let (video, audio) = {
            let settings = lock(&self.settings);
            (settings.video_bitrate, settings.audio_bitrate)
        };
        if let Some(fanout) = self.fanout() {
            fanout.set_most(video, audio);
        }
    }

    fn check_ending(&self) {
        let mut ends: Vec<_> = lock(&self.inputs).iter().map(|input| input.end()).collect();
        ends.extend(self.data.ends().into_iter().map(|(linked, drained)| PadEnd { linked, drained }));
        if has_ended(&ends) {
            self.end();
        }
    }

    fn end(&self) {
        if !self.eos_posted.swap(true, SeqCst) {
            let _ = self.obj().post_message(gst::message::Eos::builder().src(&*self.obj()).build());
        }
    }

    /// Whether a child belongs to an input whose end has come in.
    fn is_draining(&self, child: Option<&gst::Object>) -> bool {
        let inputs = lock(&self.inputs).clone();
        child.is_some_and(|child| inputs.iter().any(|input| input.is_draining(child)))
    }

    fn stats(&self) -> gst::Structure {
        let inputs = lock(&self.inputs).clone();
        let started = lock(&self.started);
        let running = started.as_ref().map(|started| stats::Running {
            role: &started.role,
            mux: &started.mux,
            fanout: &started.fanout,
            messages: &started.messages,
        });
        stats::structure(running, &inputs, &self.data)
    }

    fn redacted_uri(&self) -> Option<String> {
        lock(&self.connecting).redacted_uri(Way::Out)
    }

    fn redacted_turn_servers(&self) -> gst::Array {
        lock(&self.connecting).redacted_turn_servers()
    }

    fn redacted_token(&self) -> Option<String> {
        lock(&self.connecting).redacted_token()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
