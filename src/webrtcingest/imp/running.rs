//! From READY to PAUSED and back: what the element is while it runs.

use std::sync::{Arc, PoisonError};

use gst::{prelude::*, subclass::prelude::*};

use super::{
    super::{
        codecs, data,
        pads::ElementReceiver,
        role::{Parts, Role},
        settings::Settings,
    },
    CAT, WebrtcIngest,
};
use crate::{
    bridge::{
        ConnectionState, Peer,
        connecting::{Connection, ConnectionRole, Connects, Way},
        properties, reach,
    },
    rtp::{Crossing, data::DataIn},
    runtime,
    session::{Mux, Session, SessionConfig},
};

/// What exists between READY→PAUSED and PAUSED→READY.
pub(super) struct Started {
    pub(super) role: Role,
    pub(super) mux: Arc<Mux>,
    pub(super) crossing: Arc<Crossing>,
}

impl WebrtcIngest {
    pub(super) fn start(&self) -> Result<(), gst::StateChangeError> {
        let connects = self.connecting().resolve(Way::In, Peer::around(&*self.obj())).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", error));
            gst::StateChangeError
        })?;
        let started = self.open(connects).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::OpenRead, ("{}", error));
            gst::StateChangeError
        })?;
        if let Some((url, page)) = started.role.listening() {
            gst::info!(CAT, imp = self, "serving {url}; page: {page}");
            let listening =
                gst::Structure::builder("webrtcbridge-listening").field("url", url).field("page", page).build();
            let _ = self.obj().post_message(gst::message::Element::builder(listening).src(&*self.obj()).build());
        }
        if let Some(warning) = started.role.warning() {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{}", warning));
        }
        *self.started() = Some(started);
        Ok(())
    }

    fn open(&self, connects: Connects) -> Result<Started, String> {
        let Settings { latency, on_disconnect, max_bitrate } = self.settings().clone();
        let receiver = ElementReceiver(self.obj().downgrade());
        let name = format!("{}:rtp", self.obj().name());
        // A client ends the stream itself: what is lost may come back.
        let is_client =
            matches!(&connects, Connects::Itself(connection) if !matches!(connection.role, ConnectionRole::Server(_)));
        let eos = on_disconnect.is_eos(&connects);
        let data = DataIn::new(&self.obj().name(), Arc::new(data::ElementData(self.obj().downgrade())));
        let start_crossing = || match Crossing::start(&name, receiver, latency, eos && !is_client) {
            Ok(crossing) => {
                crossing.take_data(Arc::new(data));
                Ok(Arc::new(crossing))
            }
            Err(error) => Err(thread(error)),
        };
        let (crossing, mux, role) = match connects {
            Connects::In(peer) => {
                self.warn_of_ignored();
                let mux = peer.mux().ok_or("this session has no connection")?;
                let crossing = start_crossing()?;
                let role = Role::in_session(peer, &crossing);
                (crossing, mux, role)
            }
            Connects::Itself(connection) => {
                let Connection { role, udp_ports, public_addresses, reach, connect_timeout } = *connection;
                let codecs = self.connecting().codecs()?;
                let codecs = codecs::receivable(codecs)?;
                let media = runtime::media().map_err(thread)?;
                let mux = Mux::shared(media, udp_ports).map_err(|error| {
                    format!("{error}; choose another ice-udp-port or ice-udp-port-range, or leave both out")
                })?;
                let reach = reach::open(&mux, reach, &*self.obj())?;
                let http = runtime::signaling().map_err(thread)?.clone();
                let crossing = start_crossing()?;
                let parts = Parts {
                    media: media.clone(),
                    http,
                    config: SessionConfig {
                        mux: mux.clone(),
                        codecs,
                        public_addresses,
                        connect_timeout,
                        max_bitrate,
                        reach,
                    },
                    crossing: crossing.clone(),
                    eos,
                    element: self.obj().downgrade(),
                };
                let role = Role::start(role, parts);
                (crossing, mux, role)
            }
        };
        match role {
            Ok(role) => Ok(Started { role, mux, crossing }),
            Err(error) => {
                crossing.stop();
                Err(error)
            }
        }
    }

    /// Of what is set here and is the session's business.
    fn warn_of_ignored(&self) {
        let ignored = properties::ignored_in_session(self.obj().upcast_ref());
        if !ignored.is_empty() {
            let ignored = ignored.join(", ");
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("{ignored} of a webrtcingest in a session: ignored; set it on the webrtcbridgebin")
            );
        }
    }

    pub(super) fn stop(&self) {
        let Some(Started { role, mux, crossing }) = self.started().take() else { return };
        let ending = role.end();
        crossing.stop();
        // The port of the last session is to be free again when this returns, and the server told.
        ending.wait();
        drop(role);
        drop(mux);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.set_connection_state(ConnectionState::New);
    }

    /// The stream has ended: a newcomer would be received for nobody.
    pub(in super::super) fn refuse_offers(&self) {
        if let Some(started) = &*self.started() {
            started.role.end();
        }
    }

    pub(super) fn request_keyframe(&self) {
        let session = self.started().as_ref().and_then(|started| started.role.current());
        if let Some(session) = session {
            session.request_keyframes();
        }
    }

    /// The session that is there.
    pub(in super::super) fn current(&self) -> Option<Session> {
        self.started().as_ref().and_then(|started| started.role.current())
    }
}

fn thread(error: std::io::Error) -> String {
    format!("a thread could not be started: {error}")
}
