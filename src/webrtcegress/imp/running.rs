//! From READY to PAUSED and back: what a started element has, how it is opened and closed, and what its connections tell.

use std::sync::{Arc, Mutex, atomic::Ordering::SeqCst};

use gst::{prelude::*, subclass::prelude::*};

use super::{CAT, WebrtcEgress, lock};
use crate::{
    bridge::{
        ConnectionState, Peer,
        connecting::{Connection, Connects, Way},
        reach,
    },
    codec::Codec,
    rtp, runtime,
    session::{self, CodecPreferences, Mux, SessionConfig},
    transcode,
    webrtcegress::{
        answerer::Watch,
        data::Messages,
        fanout::Fanout,
        role::{Parts, Role},
        session::Half,
    },
};

/// A state of connections.
pub(super) type Told = Mutex<session::ConnectionState>;

/// What exists between READY→PAUSED and PAUSED→READY.
pub(super) struct Started {
    pub(super) role: Role,
    pub(super) mux: Arc<Mux>,
    pub(super) fanout: Arc<Fanout>,
    pub(super) messages: Arc<Messages>,
}

impl WebrtcEgress {
    pub(super) fn start(&self) -> Result<(), gst::StateChangeError> {
        let connecting = lock(&self.connecting).clone();
        let resolved = connecting.codecs().and_then(|codecs| {
            let connects = connecting.resolve(Way::Out, Peer::around(&*self.obj()))?;
            Ok((connects, codecs))
        });
        let (connects, codecs) = resolved.map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", error));
            gst::StateChangeError
        })?;
        let started = self.open(connects, codecs).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::OpenWrite, ("{}", error));
            gst::StateChangeError
        })?;
        self.eos_posted.store(false, SeqCst);
        if let Some(url) = started.role.listening() {
            gst::info!(CAT, imp = self, "serving {url}");
            let listening = gst::Structure::builder("webrtcbridge-listening").field("url", url).build();
            let _ = self.obj().post_message(gst::message::Element::builder(listening).src(&*self.obj()).build());
        }
        if let Some(warning) = started.role.warning() {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{}", warning));
        }
        let fanout = started.fanout.clone();
        // Pads that are asked for from here on find it.
        *lock(&self.started) = Some(started);
        for input in lock(&self.inputs).clone() {
            input.start(&fanout);
        }
        Ok(())
    }

    fn open(&self, connects: Connects, codecs: CodecPreferences) -> Result<Started, String> {
        let settings = lock(&self.settings).clone();
        let preferred: Vec<Codec> = codecs.video.iter().chain(&codecs.audio).copied().collect();
        let can_make = |codec: &&Codec| {
            rtp::missing_to_send(**codec).is_none() && transcode::can_encode(&settings.encoder, **codec)
        };
        let makeable = preferred.iter().filter(can_make).copied().collect();
        let media = runtime::media().map_err(thread)?;
        let http = runtime::signaling().map_err(thread)?.clone();
        let bitrates = (settings.video_bitrate, settings.audio_bitrate);
        let messages = Messages::start(&self.obj()).map_err(thread)?;
        let new = |channel| Fanout::new(media, preferred, makeable, bitrates, channel);
        match connects {
            Connects::In(peer) => {
                let mux = peer.mux().ok_or("this session has no connection")?;
                // The channel's viewers get what is made here in place of what the publisher sends.
                let fanout = new(peer.feed_viewers());
                let half = Half::new(fanout.clone(), self.obj().downgrade(), http, self.watch(), messages.clone());
                Ok(Started { role: Role::in_session(peer, half)?, mux, fanout, messages })
            }
            Connects::Itself(connection) => {
                let Connection { role, udp_ports, public_addresses, reach, connect_timeout } = *connection;
                let mux = Mux::shared(media, udp_ports).map_err(|error| {
                    format!("{error}; choose another ice-udp-port or ice-udp-port-range, or leave both out")
                })?;
                let reach = reach::open(&mux, reach, &*self.obj())?;
                let config = SessionConfig {
                    mux: mux.clone(),
                    codecs,
                    public_addresses,
                    connect_timeout,
                    max_bitrate: 0,
                    reach,
                };
                let (fanout, element) = (new(None), self.obj().downgrade());
                let (media, watch) = (media.clone(), self.watch());
                let messages = messages.clone();
                let parts =
                    Parts { media, http, config, fanout: fanout.clone(), watch, element, messages: messages.clone() };
                let role = Role::start(role, settings.max_viewers, parts)?;
                Ok(Started { role, mux, fanout, messages })
            }
        }
    }

    /// Who is told of the connections.
    fn watch(&self) -> Watch {
        let (element, told) = (self.obj().downgrade(), Arc::new(Told::new(session::ConnectionState::New)));
        *lock(&self.told) = Some(told.clone());
        Arc::new(move |state: session::ConnectionState| {
            *lock(&told) = state;
            if let Some(element) = element.upgrade() {
                let told = told.clone();
                // Whoever is notified may take his time.
                element.call_async(move |element| element.imp().follow(&told));
            }
        })
    }

    /// Takes over what was told last: these calls come in any order, and may come after the element has stopped.
    fn follow(&self, told: &Arc<Told>) {
        let current = lock(&self.told);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, told)) {
            let state = ConnectionState::from(*lock(told));
            let previous = std::mem::replace(&mut *lock(&self.state), state);
            drop(current);
            self.tell_connection_state(previous, state);
        }
    }

    fn tell_connection_state(&self, previous: ConnectionState, state: ConnectionState) {
        if previous != state {
            gst::info!(CAT, imp = self, "connection {previous:?} → {state:?}");
            self.obj().notify_connection_state();
        }
    }

    pub(super) fn stop(&self) {
        let Some(Started { role, mux, fanout, messages }) = lock(&self.started).take() else { return };
        let ending = role.end();
        for input in lock(&self.inputs).clone() {
            input.stop();
        }
        // The port of the last session is to be free again when this returns.
        ending.wait();
        messages.stop();
        drop(role);
        drop(mux);
        drop(fanout);
        *lock(&self.told) = None;
        let previous = std::mem::take(&mut *lock(&self.state));
        self.tell_connection_state(previous, ConnectionState::New);
    }

    pub(super) fn fanout(&self) -> Option<Arc<Fanout>> {
        lock(&self.started).as_ref().map(|started| started.fanout.clone())
    }

    /// What is said by data channels, as long as it is started.
    pub(in crate::webrtcegress) fn messages(&self) -> Option<Arc<Messages>> {
        lock(&self.started).as_ref().map(|started| started.messages.clone())
    }
}

fn thread(error: std::io::Error) -> String {
    format!("a thread could not be started: {error}")
}
