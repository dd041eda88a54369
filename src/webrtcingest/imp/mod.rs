//! The GObject shell: properties, templates, state changes, events.
#![allow(missing_docs)] // the derive makes public accessors; each property is documented by its blurb

mod running;

use std::sync::{Mutex, MutexGuard, PoisonError};

use gst::{glib, prelude::*, subclass::prelude::*};
use once_cell::sync::Lazy;

use self::running::Started;
use super::{
    data,
    settings::{OnDisconnect, Settings},
    stats,
};
use crate::{
    bridge::{
        Application, ConnectionState, IceTransportPolicy, Peer,
        connecting::{Connecting, Way, check_uri},
        properties,
    },
    codec::{Codec, MediaKind},
    rtp::{announced_caps, data::template_caps},
};

pub(super) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("webrtcingest", gst::DebugColorFlags::empty(), Some("Media from a WebRTC publisher"))
});

/// Lock order: `started` before anything inside; no lock is held while pads are pushed to or states change.
#[derive(Default, glib::Properties)]
#[properties(wrapper_type = super::WebrtcIngest)]
pub struct WebrtcIngest {
    #[property(name = "uri", get = Self::redacted_uri, set = Self::change_uri, type = Option<String>, member = uri, nick = "URI", mutable_ready,
        blurb = "Where to serve: whip(s)://HOST:PORT/PATH, port 0 picks a free one; or where to pull from: whep(s)://HOST:PORT/PATH; or where to meet another peer: ws(s)://HOST:PORT/ws?channel=ID; a query is shown redacted")]
    #[property(name = "auth-token", get = Self::redacted_token, set, type = Option<String>, member = auth_token, mutable_ready,
        nick = "Bearer token", blurb = "Bearer token that publishers must have, or that is sent to the server; shown redacted")]
    #[property(name = "stun-server", get, set, type = Option<String>, member = stun_server, mutable_ready, nick = "STUN server",
        blurb = "STUN server that publishers are told of, and that is asked where this machine is seen: stun://host:port")]
    #[property(name = "turn-servers", get = Self::redacted_turn_servers, set, type = gst::Array, member = turn_servers, mutable_ready,
        nick = "TURN servers",
        blurb = "TURN servers that publishers are told of, and that media is relayed through where nothing else works: turn(s)://user:password@host:port?transport=udp; shown redacted")]
    #[property(name = "video-codecs", get, set, type = gst::Array, member = video_codecs, mutable_ready, nick = "Video codecs",
        blurb = "Video codecs in order of preference")]
    #[property(name = "audio-codecs", get, set, type = gst::Array, member = audio_codecs, mutable_ready, nick = "Audio codecs",
        blurb = "Audio codecs in order of preference")]
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
        nick = "TLS certificate", blurb = "PEM file with the certificate chain, for whips://; or with certificates to trust beside the system's, for wheps://")]
    #[property(name = "tls-key", get, set, type = Option<String>, member = tls_key, mutable_ready,
        nick = "TLS key", blurb = "PEM file with the private key, for whips://")]
    #[property(name = "connect-timeout", get, set, type = u32, member = connect_timeout, mutable_ready, default = 10_000,
        nick = "Connect timeout", blurb = "How long the peer has from the answer to being connected, in ms")]
    connecting: Mutex<Connecting>,
    #[property(name = "latency", get, set, type = u32, member = latency, mutable_ready, default = 200, nick = "Latency",
        blurb = "Most that packets wait for a missing one, in ms; in order they pass at once")]
    #[property(name = "on-disconnect", get, set, type = OnDisconnect, member = on_disconnect, mutable_ready, builder(OnDisconnect::Auto).nick("On disconnect").blurb("What the end of the stream means"))]
    #[property(name = "max-bitrate", get, set, type = u32, member = max_bitrate, mutable_ready, nick = "Most bitrate",
        blurb = "Upper bound that publishers are told for video, in bit/s; 0 for none")]
    settings: Mutex<Settings>,
    #[property(name = "connection-state", get, type = ConnectionState, builder(ConnectionState::New).nick("Connection state").blurb("State of the current session's connection"))]
    state: Mutex<ConnectionState>,
    /// The session that `state` is of.
    session: Mutex<Option<String>>,
    started: Mutex<Option<Started>>,
}

#[glib::object_subclass]
impl ObjectSubclass for WebrtcIngest {
    const NAME: &'static str = "GstWebrtcIngest";
    type Type = super::WebrtcIngest;
    type ParentType = gst::Bin;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for WebrtcIngest {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let mut properties = WebrtcIngest::derived_properties().to_vec();
            properties.push(
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("Counters of the session and of what was dropped")
                    .read_only()
                    .build(),
            );
            properties
        });
        &PROPERTIES
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

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: Lazy<Vec<glib::subclass::Signal>> = Lazy::new(|| {
            let string = String::static_type();
            vec![
                glib::subclass::Signal::builder("session-started").param_types([string]).build(),
                glib::subclass::Signal::builder("session-ended").param_types([string, string]).build(),
                Application::signal(),
                glib::subclass::Signal::builder("request-keyframe")
                    .action()
                    .class_handler(|values| {
                        let element = values.first()?.get::<super::WebrtcIngest>().ok()?;
                        element.imp().request_keyframe();
                        None
                    })
                    .build(),
            ]
            .into_iter()
            .chain(data::signals())
            .collect()
        });
        &SIGNALS
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SOURCE);
    }
}

impl GstObjectImpl for WebrtcIngest {}

impl ElementImpl for WebrtcIngest {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "WebRTC ingest",
                "Source/Network/WebRTC",
                "Receives audio and video that a browser or an encoder publishes by WHIP, pulls them from a WHEP server, or meets another peer at a signaling server",
                "The webrtcbridge authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            [MediaKind::Video, MediaKind::Audio]
                .into_iter()
                .filter_map(|kind| {
                    let caps = Codec::ALL.into_iter().filter(|codec| codec.kind() == kind).map(announced_caps).fold(
                        gst::Caps::new_empty(),
                        |mut all, caps| {
                            all.merge(caps);
                            all
                        },
                    );
                    gst::PadTemplate::new(
                        &format!("{kind}_%u"),
                        gst::PadDirection::Src,
                        gst::PadPresence::Sometimes,
                        &caps,
                    )
                    .ok()
                })
                .chain(
                    gst::PadTemplate::new(
                        "data_%u",
                        gst::PadDirection::Src,
                        gst::PadPresence::Sometimes,
                        &template_caps(),
                    )
                    .ok(),
                )
                .collect()
        });
        &TEMPLATES
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => self.start()?,
            gst::StateChange::PausedToPlaying => {
                if let Some(started) = &*self.started() {
                    started.role.play();
                }
            }
            gst::StateChange::PausedToReady => self.stop(),
            _ => {}
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::ReadyToPaused | gst::StateChange::PlayingToPaused => {
                Ok(gst::StateChangeSuccess::NoPreroll)
            }
            gst::StateChange::PausedToReady => {
                self.remove_pads();
                Ok(success)
            }
            _ => Ok(success),
        }
    }

    fn set_context(&self, context: &gst::Context) {
        if let Some(peer) = Peer::of(context) {
            self.connecting().fill_in(&*self.obj(), &peer);
        }
        self.parent_set_context(context);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Eos {
            return self.parent_send_event(event);
        }
        let Some(crossing) = self.started().as_ref().map(|started| {
            started.role.end();
            started.crossing.clone()
        }) else {
            return false;
        };
        gst::debug!(CAT, imp = self, "end of stream was asked for");
        crossing.end_of_stream();
        true
    }
}

impl BinImpl for WebrtcIngest {}

impl URIHandlerImpl for WebrtcIngest {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &["whip", "whips", "whep", "wheps", "ws", "wss"]
    }

    fn uri(&self) -> Option<String> {
        self.redacted_uri()
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        check_uri(Way::In, uri).map_err(|error| glib::Error::new(gst::URIError::BadUri, &error))?;
        if self.started().is_some() {
            return Err(glib::Error::new(gst::URIError::BadState, "uri can be changed in NULL and READY only"));
        }
        self.connecting().uri = Some(uri.to_owned());
        Ok(())
    }
}

impl WebrtcIngest {
    fn remove_pads(&self) {
        let element = self.obj();
        for pad in element.src_pads() {
            let _ = pad.set_active(false);
            let _ = element.remove_pad(&pad);
        }
    }

    pub(super) fn set_connection_state(&self, state: ConnectionState) {
        let previous = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state);
        if previous != state {
            gst::info!(CAT, imp = self, "connection {:?} → {:?}", previous, state);
            self.obj().notify_connection_state();
            // The ends are told with their reasons, by whoever knows these.
            if state.is_under_way() {
                self.post_session("");
            }
        }
    }

    /// The session whose states are told from here on.
    pub(super) fn set_session(&self, id: &str) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
        if self.state.lock().unwrap_or_else(PoisonError::into_inner).is_under_way() {
            self.post_session("");
        }
    }

    /// The session is over.
    pub(super) fn end_session(&self, reason: &str) {
        self.post_session(reason);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells the bus how it stands with the session.
    fn post_session(&self, reason: &str) {
        let Some(id) = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nick =
            glib::EnumValue::from_value(&state.to_value()).map_or_else(String::new, |(_, v)| v.nick().to_owned());
        let message = gst::Structure::builder("webrtcbridge-session")
            .field("id", id)
            .field("state", nick)
            .field("reason", reason)
            .build();
        let _ = self.obj().post_message(gst::message::Element::builder(message).src(&*self.obj()).build());
    }

    fn stats(&self) -> gst::Structure {
        let started = self.started();
        stats::structure(&self.obj(), started.as_ref().map(|s| (&s.role, &*s.mux, &*s.crossing)))
    }

    fn change_uri(&self, uri: Option<String>) {
        self.connecting().uri = uri;
        if self.started().is_some() {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{}", properties::URI_IN_USE));
        }
    }

    fn redacted_uri(&self) -> Option<String> {
        self.connecting().redacted_uri(Way::In)
    }

    fn redacted_turn_servers(&self) -> gst::Array {
        self.connecting().redacted_turn_servers()
    }

    fn redacted_token(&self) -> Option<String> {
        self.connecting().redacted_token()
    }

    fn connecting(&self) -> MutexGuard<'_, Connecting> {
        self.connecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self) -> MutexGuard<'_, Option<Started>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
