//! The GObject shell: properties, templates, state changes, events.
#![allow(missing_docs)] // the derive makes public accessors; each property is documented by its blurb

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use gst::{glib, prelude::*, subclass::prelude::*};
use once_cell::sync::Lazy;

use super::{
    answerer::{Answerer, Slot},
    codecs,
    pads::ElementReceiver,
    settings::{ConnectionState, OnDisconnect, ResolvedSettings, Settings, parse_uri},
    stats,
};
use crate::{
    codec::{Codec, MediaKind},
    rtp::{Crossing, announced_caps},
    runtime,
    session::{EndReason, Mux, Session, SessionConfig},
    signaling::{Mount, mount},
};

pub(super) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("webrtcingest", gst::DebugColorFlags::empty(), Some("Media from a WebRTC publisher"))
});

/// Lock order: `started` before anything inside; no lock is held while pads are pushed to or states change.
#[derive(Default, glib::Properties)]
#[properties(wrapper_type = super::WebrtcIngest)]
pub struct WebrtcIngest {
    #[property(name = "uri", get, set, type = Option<String>, member = uri, nick = "URI",
        blurb = "Where to serve: whip://HOST:PORT/PATH, or whips:// with TLS; port 0 picks a free one")]
    #[property(name = "auth-token", get = Self::redacted_token, set, type = Option<String>, member = auth_token,
        nick = "Bearer token", blurb = "Bearer token that publishers must have; shown redacted")]
    #[property(name = "video-codecs", get, set, type = gst::Array, member = video_codecs, nick = "Video codecs",
        blurb = "Video codecs in order of preference")]
    #[property(name = "audio-codecs", get, set, type = gst::Array, member = audio_codecs, nick = "Audio codecs",
        blurb = "Audio codecs in order of preference")]
    #[property(name = "latency", get, set, type = u32, member = latency, default = 200, nick = "Latency",
        blurb = "Most that the jitter buffer may hold, in ms; in-order packets pass at once")]
    #[property(name = "on-disconnect", get, set, type = OnDisconnect, member = on_disconnect, builder(OnDisconnect::Wait).nick("On disconnect").blurb("What the end of a session means"))]
    #[property(name = "ice-udp-port", get, set, type = u32, member = ice_udp_port, maximum = 65535, nick = "UDP port",
        blurb = "UDP port for the media of all sessions; 0 picks a free one")]
    #[property(name = "public-addresses", get, set, type = gst::Array, member = public_addresses,
        nick = "Public addresses", blurb = "IP addresses to announce in place of this machine's")]
    #[property(name = "tls-certificate", get, set, type = Option<String>, member = tls_certificate,
        nick = "TLS certificate", blurb = "PEM file with the certificate chain, for whips://")]
    #[property(name = "tls-key", get, set, type = Option<String>, member = tls_key,
        nick = "TLS key", blurb = "PEM file with the private key, for whips://")]
    #[property(name = "connect-timeout", get, set, type = u32, member = connect_timeout, default = 10_000,
        nick = "Connect timeout", blurb = "How long a publisher has from the answer to being connected, in ms")]
    settings: Mutex<Settings>,
    #[property(name = "connection-state", get, type = ConnectionState, builder(ConnectionState::New).nick("Connection state").blurb("State of the current session's connection"))]
    state: Mutex<ConnectionState>,
    started: Mutex<Option<Started>>,
}

/// What exists between READY→PAUSED and PAUSED→READY.
struct Started {
    mount: Mount,
    mux: Arc<Mux>,
    crossing: Arc<Crossing>,
    slot: Arc<Slot>,
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
                glib::subclass::Signal::builder("request-keyframe")
                    .action()
                    .class_handler(|values| {
                        let element = values.first()?.get::<super::WebrtcIngest>().ok()?;
                        element.imp().request_keyframe();
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
                "Receives audio and video that a browser or an encoder publishes by WHIP",
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
                .collect()
        });
        &TEMPLATES
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => self.start()?,
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

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Eos {
            return self.parent_send_event(event);
        }
        let Some((crossing, slot)) = self.started().as_ref().map(|s| (s.crossing.clone(), s.slot.clone())) else {
            return false;
        };
        gst::debug!(CAT, imp = self, "end of stream was asked for");
        close(slot.end(), EndReason::Shutdown);
        crossing.end_of_stream();
        true
    }
}

impl BinImpl for WebrtcIngest {}

impl URIHandlerImpl for WebrtcIngest {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &["whip", "whips"]
    }

    fn uri(&self) -> Option<String> {
        self.settings().uri.clone()
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        parse_uri(uri).map_err(|error| glib::Error::new(gst::URIError::BadUri, &error))?;
        self.settings().uri = Some(uri.to_owned());
        Ok(())
    }
}

impl WebrtcIngest {
    fn start(&self) -> Result<(), gst::StateChangeError> {
        let resolved = self.settings().resolve().map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", error));
            gst::StateChangeError
        })?;
        let started = self.open(resolved).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::OpenRead, ("{}", error));
            gst::StateChangeError
        })?;
        let (url, page) = (started.mount.url(), started.mount.page_url());
        gst::info!(CAT, imp = self, "serving {url}; page: {page}");
        let listening = gst::Structure::builder("webrtcbridge-listening").field("url", url).field("page", page).build();
        let _ = self.obj().post_message(gst::message::Element::builder(listening).src(&*self.obj()).build());
        *self.started() = Some(started);
        Ok(())
    }

    fn open(&self, resolved: ResolvedSettings) -> Result<Started, String> {
        let codecs = codecs::receivable(resolved.codecs)?;
        let runtime = |error: std::io::Error| format!("a thread could not be started: {error}");
        let media = runtime::media().map_err(runtime)?;
        let port = resolved.ice_udp_port;
        let mux = Mux::shared(media, port).map_err(|error| {
            format!("UDP port {port} cannot be used for media: {error}; choose another ice-udp-port, or 0 for any")
        })?;
        let receiver = ElementReceiver(self.obj().downgrade());
        let name = format!("{}:rtp", self.obj().name());
        let crossing =
            Crossing::start(&name, receiver, resolved.latency, resolved.eos_on_disconnect).map_err(runtime)?;
        let (crossing, slot) = (Arc::new(crossing), Arc::new(Slot::default()));
        let answerer = Answerer {
            media: media.clone(),
            config: SessionConfig {
                mux: mux.clone(),
                codecs,
                public_addresses: resolved.public_addresses,
                connect_timeout: resolved.connect_timeout,
            },
            has_token: resolved.has_token,
            crossing: crossing.clone(),
            slot: slot.clone(),
            element: self.obj().downgrade(),
        };
        let mounted = mount(runtime::signaling().map_err(runtime)?, resolved.endpoint, Arc::new(answerer));
        match mounted {
            Ok(mount) => Ok(Started { mount, mux, crossing, slot }),
            Err(error) => {
                crossing.stop();
                Err(error.to_string())
            }
        }
    }

    fn stop(&self) {
        let Some(Started { mount, mux, crossing, slot }) = self.started().take() else { return };
        drop(mount); // no offer after this
        let closing = close(slot.end(), EndReason::Shutdown);
        crossing.stop();
        // The port of the last session is to be free again when this returns.
        if let Some(closed) = closing {
            let _: Result<(), _> = closed.recv_timeout(CLOSE_TIMEOUT);
        }
        drop(mux);
        self.set_connection_state(ConnectionState::New);
    }

    /// The stream has ended: a newcomer would be received for nobody.
    pub(super) fn refuse_offers(&self) {
        let slot = self.started().as_ref().map(|started| started.slot.clone());
        close(slot.and_then(|slot| slot.end()), EndReason::Shutdown);
    }

    fn remove_pads(&self) {
        let element = self.obj();
        for pad in element.src_pads() {
            let _ = pad.set_active(false);
            let _ = element.remove_pad(&pad);
        }
    }

    fn request_keyframe(&self) {
        let session = self.started().as_ref().and_then(|started| started.slot.current());
        if let Some(session) = session {
            session.request_keyframes();
        }
    }

    pub(super) fn set_connection_state(&self, state: ConnectionState) {
        let previous = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state);
        if previous != state {
            gst::info!(CAT, imp = self, "connection {:?} → {:?}", previous, state);
            self.obj().notify_connection_state();
        }
    }

    fn stats(&self) -> gst::Structure {
        let started = self.started();
        stats::structure(&self.obj(), started.as_ref().map(|s| (&s.mount, &*s.mux, &*s.crossing, s.slot.current())))
    }

    fn redacted_token(&self) -> Option<String> {
        self.settings().auth_token.as_ref().map(|_| "***".to_owned())
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self) -> MutexGuard<'_, Option<Started>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long stopping waits for a session to close, which takes the network's part 100 ms at most.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Closes a session in the background. The receiver is disconnected when that is done.
fn close(session: Option<Session>, reason: EndReason) -> Option<mpsc::Receiver<()>> {
    let (session, media) = (session?, runtime::media().ok()?);
    let (done, closed) = mpsc::channel();
    media.spawn(async move {
        session.close(reason).await;
        drop(done);
    });
    Some(closed)
}
