//! The GObject shell: properties, signals, state changes, EOS.
#![allow(missing_docs)] // the derive makes public accessors; each property is documented by its blurb

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gst::{glib, prelude::*, subclass::prelude::*};
use once_cell::sync::Lazy;

use super::{settings::Settings, stats};
use crate::{
    bridge::{
        Application, Description, IceTransportPolicy, Observer, Server, SessionBuilder, SessionChange, properties,
    },
    channel::ChannelId,
    runtime,
    signaling::{SessionId, abbreviate, client::HttpUrl},
};

pub(super) static CAT: Lazy<gst::DebugCategory> =
    Lazy::new(|| gst::DebugCategory::new("webrtcbridgebin", gst::DebugColorFlags::empty(), Some("Bridge server")));

/// What sessions get for their end before EOS is posted, which is to be within 3 s.
const END_OF_STREAM: Duration = Duration::from_millis(2500);

/// Lock order: `settings` and `server` alone; neither is held while states change or messages are posted.
#[derive(Default, glib::Properties)]
#[properties(wrapper_type = super::WebrtcBridgeBin)]
pub struct WebrtcBridgeBin {
    #[property(name = "listen", get, set, type = String, member = listen, mutable_ready, default = Some("127.0.0.1:8080"), nick = "Listen address",
        blurb = "HOST:PORT of the server; port 0 picks a free one, [::]:8080 is for all interfaces")]
    #[property(name = "session", get = Self::shown_session, set, type = String, member = session, mutable_ready, nick = "Session",
        blurb = "Pipeline description run for each publisher; {channel}, {session} and {started} are filled in; empty: signaling only; shown without the values in it")]
    #[property(name = "max-channels", get, set, type = u32, member = max_channels, mutable_ready, default = 100, nick = "Most channels",
        blurb = "Most channels at a time")]
    #[property(name = "channel-ttl", get, set, type = u32, member = channel_ttl, mutable_ready, default = 3600, nick = "Channels' time to live",
        blurb = "After so many seconds without a publisher or a sign of life a channel goes")]
    #[property(name = "max-sessions", get, set, type = u32, member = max_sessions, mutable_ready, default = 100, nick = "Most sessions",
        blurb = "Most sessions at a time")]
    #[property(name = "max-viewers", get, set, type = u32, member = max_viewers, mutable_ready, default = 1000, nick = "Most viewers",
        blurb = "Most viewers at a time, of all channels together; 0 for no limit")]
    #[property(name = "p2p-viewers", get, set, type = u32, member = p2p_viewers, mutable_ready, default = 0, nick = "Peer-to-peer viewers",
        blurb = "Up to so many viewers of a channel get media from its publisher directly")]
    #[property(name = "publish-token", get = Self::shown_publish_token, set, type = Option<String>, member = publish_token, mutable_ready,
        nick = "Token for publishing", blurb = "Bearer token that publishers must have; shown redacted")]
    #[property(name = "view-token", get = Self::shown_view_token, set, type = Option<String>, member = view_token, mutable_ready,
        nick = "Token for viewing", blurb = "Bearer token that viewers must have; shown redacted")]
    #[property(name = "admin-token", get = Self::shown_admin_token, set, type = Option<String>, member = admin_token, mutable_ready,
        nick = "Token for everything", blurb = "Bearer token for DELETE, /metrics and /status; without one these are for this machine alone; shown redacted")]
    #[property(name = "jwt-secret", get = Self::shown_jwt_secret, set, type = Option<String>, member = jwt_secret, mutable_ready,
        nick = "JWT secret", blurb = "Secret of tokens signed with HS256; shown redacted")]
    #[property(name = "jwks-uri", get = Self::shown_jwks_uri, set, type = Option<String>, member = jwks_uri, mutable_ready, nick = "JWKS address",
        blurb = "Where the keys are of tokens signed with RS256 or ES256; shown without its query")]
    #[property(name = "auth-url", get = Self::shown_auth_url, set, type = Option<String>, member = auth_url, mutable_ready, nick = "Authorization webhook",
        blurb = "Is asked by POST who may do what; shown without its query")]
    #[property(name = "allowed-origins", get, set, type = gst::Array, member = allowed_origins, mutable_ready, nick = "Allowed origins",
        blurb = "Origins of pages that may use the server, beside its own")]
    #[property(name = "trusted-proxies", get, set, type = gst::Array, member = trusted_proxies, mutable_ready, nick = "Trusted proxies",
        blurb = "Addresses and networks of proxies in front, whose X-Forwarded-For, -Host and -Prefix or Forwarded are believed")]
    #[property(name = "tls-certificate", get, set, type = Option<String>, member = tls_certificate, mutable_ready, nick = "TLS certificate",
        blurb = "PEM file with the certificate chain, for HTTPS; cert.pem and key.pem of the working directory when unset")]
    #[property(name = "tls-key", get, set, type = Option<String>, member = tls_key, mutable_ready, nick = "TLS key",
        blurb = "PEM file with the private key")]
    #[property(name = "stun-server", get, set, type = Option<String>, member = stun_server, mutable_ready, nick = "STUN server",
        blurb = "STUN server that peers are told of, and that is asked where this machine is seen: stun://host:port")]
    #[property(name = "turn-servers", get = Self::shown_turn_servers, set, type = gst::Array, member = turn_servers, mutable_ready, nick = "TURN servers",
        blurb = "TURN servers that peers are told of, and that media is relayed through where nothing else works: turn(s)://user:password@host:port?transport=udp; shown redacted")]
    #[property(name = "ice-udp-port", get, set, type = u32, member = ice_udp_port, mutable_ready, maximum = 65535, nick = "UDP port",
        blurb = "UDP port for the media of all sessions; 0 picks a free one")]
    #[property(name = "ice-udp-port-range", get, set, type = Option<String>, member = ice_udp_port_range, mutable_ready, nick = "UDP port range",
        blurb = "from-to: takes the first free port of these; who sets the same range shares it")]
    #[property(name = "public-addresses", get, set, type = gst::Array, member = public_addresses, mutable_ready, nick = "Public addresses",
        blurb = "IP addresses to announce in place of this machine's")]
    #[property(name = "ice-tcp", get, set, type = bool, member = ice_tcp, mutable_ready, nick = "ICE over TCP",
        blurb = "Peers may connect by TCP as well, to the port that has the number of the UDP port")]
    #[property(name = "ice-transport-policy", get, set, type = IceTransportPolicy, member = ice_transport_policy, mutable_ready, builder(IceTransportPolicy::All).nick("ICE transport policy").blurb("Which ways media may take"))]
    #[property(name = "video-codecs", get, set, type = gst::Array, member = video_codecs, mutable_ready, nick = "Video codecs",
        blurb = "Video codecs in order of preference")]
    #[property(name = "audio-codecs", get, set, type = gst::Array, member = audio_codecs, mutable_ready, nick = "Audio codecs",
        blurb = "Audio codecs in order of preference")]
    #[property(name = "max-bitrate", get, set, type = u32, member = max_bitrate, mutable_ready, nick = "Most bitrate",
        blurb = "Upper bound that publishers are told for video, in bit/s; 0 for none")]
    #[property(name = "connect-timeout", get, set, type = u32, member = connect_timeout, mutable_ready, default = 10_000, nick = "Connect timeout",
        blurb = "How long a peer has from the answer to being connected, in ms")]
    #[property(name = "page", get, set, type = bool, member = page, mutable_ready, default = true, nick = "Page",
        blurb = "Serve the page at /")]
    settings: Mutex<Settings>,
    /// Between READY→PAUSED and PAUSED→READY.
    server: Mutex<Option<Server>>,
}

#[glib::object_subclass]
impl ObjectSubclass for WebrtcBridgeBin {
    const NAME: &'static str = "GstWebrtcBridgeBin";
    type Type = super::WebrtcBridgeBin;
    type ParentType = gst::Bin;
}

impl ObjectImpl for WebrtcBridgeBin {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let mut properties = WebrtcBridgeBin::derived_properties().to_vec();
            properties.push(
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("The sessions that there are, and counters")
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
            "stats" => stats::structure(self.server().as_ref()).to_value(),
            _ => self.derived_property(id, pspec),
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: Lazy<Vec<glib::subclass::Signal>> = Lazy::new(|| {
            let string = String::static_type();
            vec![
                glib::subclass::Signal::builder("create-session")
                    .param_types([string, string])
                    .return_type::<Option<gst::Element>>()
                    // The first who makes one.
                    .accumulator(|_, _, made| {
                        let is_made = made.get::<Option<gst::Element>>().is_ok_and(|element| element.is_some());
                        if is_made { ControlFlow::Break(made.clone()) } else { ControlFlow::Continue(made.clone()) }
                    })
                    .build(),
                Application::signal(),
                glib::subclass::Signal::builder("drain")
                    .param_types([u32::static_type()])
                    .action()
                    .class_handler(|values| {
                        let element = values.first()?.get::<super::WebrtcBridgeBin>().ok()?;
                        let timeout = values.get(1)?.get::<u32>().ok()?;
                        element.imp().drain(Duration::from_millis(timeout.into()));
                        None
                    })
                    .build(),
            ]
        });
        &SIGNALS
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        let flags = gst::ElementFlags::SOURCE | gst::ElementFlags::SINK;
        element.set_suppressed_flags(flags);
        element.set_element_flags(flags);
    }
}

impl GstObjectImpl for WebrtcBridgeBin {}

impl ElementImpl for WebrtcBridgeBin {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "WebRTC bridge server",
                "Generic/Bin/Network",
                "Serves any number of WebRTC publishers, each with a pipeline of its own",
                "The webrtcbridge authors",
            )
        });
        Some(&METADATA)
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => self.start()?,
            gst::StateChange::PlayingToPaused => self.with_server(|server| server.sessions().pause()),
            gst::StateChange::PausedToReady => self.stop(),
            _ => {}
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::ReadyToPaused | gst::StateChange::PlayingToPaused => {
                Ok(gst::StateChangeSuccess::NoPreroll)
            }
            gst::StateChange::PausedToPlaying => {
                let element = self.obj();
                let clock = element.clock().unwrap_or_else(gst::SystemClock::obtain);
                let base_time = element.base_time().unwrap_or(gst::ClockTime::ZERO);
                self.with_server(|server| server.sessions().play(clock, base_time));
                Ok(success)
            }
            _ => Ok(success),
        }
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Eos {
            return self.parent_send_event(event);
        }
        gst::debug!(CAT, imp = self, "end of stream was asked for");
        let seqnum = event.seqnum();
        self.end_sessions(END_OF_STREAM, move |element, _| {
            let _ = element.post_message(gst::message::Eos::builder().src(element).seqnum(seqnum).build());
        })
    }
}

impl BinImpl for WebrtcBridgeBin {}

impl WebrtcBridgeBin {
    fn start(&self) -> Result<(), gst::StateChangeError> {
        let server = self.open().map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", error));
            gst::StateChangeError
        })?;
        let url = server.url().to_owned();
        *self.server() = Some(server);
        gst::info!(CAT, imp = self, "serving at {url}");
        let page = self.settings().page.then(|| format!("{url}/"));
        let listening =
            gst::Structure::builder("webrtcbridge-listening").field("url", url).field_if_some("page", page).build();
        let _ = self.obj().post_message(gst::message::Element::builder(listening).src(&*self.obj()).build());
        Ok(())
    }

    fn open(&self) -> Result<Server, String> {
        let settings = self.settings().clone();
        let description = settings.description()?;
        for ignored in description.iter().flat_map(Description::warnings) {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{}", ignored));
        }
        let element = self.obj().downgrade();
        let builder = Builder { element: element.clone(), description };
        let authorizer = Application::of(&*self.obj());
        let config = settings.resolve(Arc::new(builder), Arc::new(Bus(element)), authorizer)?;
        let server = Server::start(config).map_err(|error| error.to_string())?;
        if let Some(warning) = server.warning() {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{}", warning));
        }
        Ok(server)
    }

    fn stop(&self) {
        let server = self.server().take();
        if let Some(server) = server {
            server.stop();
        }
    }

    fn drain(&self, time: Duration) {
        self.end_sessions(time, |element, left| {
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let drained = gst::Structure::builder("webrtcbridge-drained").field("sessions", left).build();
            let _ = element.post_message(gst::message::Element::builder(drained).src(element).build());
        });
    }

    /// Ends all sessions within the time, and then says so, with how many are left; false if it is not started.
    fn end_sessions(&self, time: Duration, done: impl FnOnce(&super::WebrtcBridgeBin, usize) + Send + 'static) -> bool {
        let Some(draining) = self.server().as_ref().map(|server| server.drain(time)) else { return false };
        let Ok(http) = runtime::signaling() else { return false };
        let element = self.obj().downgrade();
        http.spawn(async move {
            let left = draining.await;
            let _ = tokio::task::spawn_blocking(move || {
                if let Some(element) = element.upgrade() {
                    done(&element, left);
                }
            })
            .await;
        });
        true
    }

    fn with_server(&self, f: impl FnOnce(&Server)) {
        if let Some(server) = &*self.server() {
            f(server);
        }
    }

    /// What it is made of; the values may hold keys.
    fn shown_session(&self) -> String {
        Description::shown(&self.settings().session)
    }

    fn shown_publish_token(&self) -> Option<String> {
        shown(&self.settings().publish_token)
    }

    fn shown_view_token(&self) -> Option<String> {
        shown(&self.settings().view_token)
    }

    fn shown_admin_token(&self) -> Option<String> {
        shown(&self.settings().admin_token)
    }

    fn shown_jwt_secret(&self) -> Option<String> {
        shown(&self.settings().jwt_secret)
    }

    fn shown_auth_url(&self) -> Option<String> {
        shown_url(&self.settings().auth_url)
    }

    fn shown_jwks_uri(&self) -> Option<String> {
        shown_url(&self.settings().jwks_uri)
    }

    fn shown_turn_servers(&self) -> gst::Array {
        properties::redacted_turn_servers(&self.settings().turn_servers)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(secret: &Option<String>) -> Option<String> {
    secret.as_ref().map(|_| "***".to_owned())
}

/// Without its query, which may hold a key; what is no URL that we take may hold one anywhere.
fn shown_url(text: &Option<String>) -> Option<String> {
    let url = text.as_ref()?.parse::<HttpUrl>();
    Some(url.map_or_else(|_| "***".to_owned(), |url| url.to_string()))
}

/// Lets the application make a session's pipeline, or takes the description.
struct Builder {
    element: glib::WeakRef<super::WebrtcBridgeBin>,
    description: Option<Description>,
}

impl SessionBuilder for Builder {
    fn build(&self, channel: &ChannelId, id: &SessionId) -> Result<Option<gst::Element>, String> {
        let element = self.element.upgrade().ok_or("the bin is gone")?;
        let arguments: [&dyn ToValue; 2] = [&channel.as_str(), &id.as_str()];
        if let Some(made) = element.emit_by_name::<Option<gst::Element>>("create-session", &arguments) {
            return Ok(Some(made));
        }
        match &self.description {
            Some(description) => SessionBuilder::build(description, channel, id),
            None => Ok(None),
        }
    }

    fn may_send(&self) -> bool {
        self.may(SessionBuilder::may_send)
    }

    fn may_have_data(&self) -> bool {
        self.may(SessionBuilder::may_have_data)
    }
}

impl Builder {
    /// What an application makes of a session is its own affair.
    fn may(&self, may: impl FnOnce(&Description) -> bool) -> bool {
        let asked = || {
            let signal = glib::subclass::SignalId::lookup("create-session", super::WebrtcBridgeBin::static_type())?;
            Some(glib::signal::signal_has_handler_pending(&self.element.upgrade()?, signal, None, false))
        };
        asked().unwrap_or_default() || self.description.as_ref().is_some_and(may)
    }
}

/// Tells the bus of sessions.
struct Bus(glib::WeakRef<super::WebrtcBridgeBin>);

impl Observer for Bus {
    fn session(&self, report: &SessionChange) {
        let Some(element) = self.0.upgrade() else { return };
        let SessionChange { id, channel, state, reason } = report;
        gst::info!(CAT, obj = element, "session {} on {channel}: {} {reason}", abbreviate(id.as_str()), state.as_str());
        let structure = gst::Structure::builder("webrtcbridge-session")
            .field("id", id.as_str())
            .field("channel", channel.as_str())
            .field("state", state.as_str())
            .field("reason", reason.as_str())
            .build();
        let _ = element.post_message(gst::message::Element::builder(structure).src(&element).build());
    }

    fn problem(&self, why: &str) {
        let (element, why) = (self.0.clone(), why.to_owned());
        if let Some(element) = element.upgrade() {
            // Whoever reads the bus may take his time.
            element.call_async(move |element| gst::element_warning!(element, gst::ResourceError::OpenRead, ("{why}")));
        }
    }
}
