//! What a started element does: serve a place to publish to, or call a server.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    answerer::{Answerer, Slot},
    codecs,
    pull::Pull,
};
use crate::{
    bridge::{
        Application, CallConfig, CallCounts, Client, ClientCounts, ClientParts, Learned, Notices, Peer, Seat,
        connecting::ConnectionRole,
    },
    rtp::Crossing,
    session::{CodecPreferences, EndReason, Session, SessionConfig},
    signaling::{
        Mount,
        client::{WhepClient, socket::SocketConfig},
        mount,
    },
};

/// What both roles are made of.
pub(super) struct Parts {
    pub(super) media: Handle,
    pub(super) http: Handle,
    pub(super) config: SessionConfig,
    pub(super) crossing: Arc<Crossing>,
    pub(super) eos: bool,
    pub(super) element: gst::glib::WeakRef<super::WebrtcIngest>,
}

/// What a started element does.
pub(super) enum Role {
    /// Serves, and takes one publisher at a time.
    Server { mount: Mount, slot: Arc<Slot>, media: Handle },
    /// Calls.
    Client(Client),
    /// Takes the media of the session around it.
    InSession(Peer),
    /// Meets another peer.
    Meeting(Seat),
}

/// How long stopping waits for a session to close, which takes the network's part 100 ms at most, and a second where there is
/// something left to say by data channels.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);

impl Role {
    /// Begins to serve or to call; the error says which setting is wrong.
    pub(super) fn start(role: ConnectionRole, parts: Parts) -> Result<Self, String> {
        let Parts { media, http, config, crossing, eos, element } = parts;
        match role {
            ConnectionRole::Server(mut endpoint) => {
                let slot = Arc::new(Slot::default());
                endpoint.authorizer = element.upgrade().and_then(|element| Application::of(&element));
                let answerer = Answerer { media: media.clone(), config, crossing, slot: slot.clone(), element };
                let mount = mount(&http, *endpoint, Arc::new(answerer)).map_err(|error| error.to_string())?;
                Ok(Self::Server { mount, slot, media })
            }
            ConnectionRole::Client(called) => {
                let (server, url) = (WhepClient::new(&called)?, called.server.to_string());
                let notices = Notices::new(element.upgrade(), url.clone());
                let learned = Learned::default();
                let calls = Pull { media: media.clone(), server, url: url.clone(), config, crossing, element, learned };
                let parts = ClientParts { media, url, eos, calls: Arc::new(calls), notices };
                Ok(Self::Client(Client::start(&http, parts)))
            }
            ConnectionRole::Meeting(socket) => {
                Self::meet(socket, Parts { media, http, config, crossing, eos, element }).map(Self::Meeting)
            }
        }
    }

    fn meet(socket: SocketConfig, parts: Parts) -> Result<Seat, String> {
        let Parts { media, http, config, crossing, eos, element } = parts;
        let around = element.upgrade().ok_or("the element is gone")?;
        let notices = Mutex::new(Notices::new(Some(around.clone()), socket.url.to_string()));
        let (wanted, max_bitrate) = (config.codecs.clone(), config.max_bitrate);
        let codecs: Arc<dyn Fn() -> CodecPreferences + Send + Sync> =
            Arc::new(move || codecs::usable(&element, wanted.clone()));
        let call = CallConfig { socket, session: config, codecs: codecs.clone(), ends: eos, media, http };
        let seat = Seat::take(&around, call, Arc::new(notices))?;
        seat.peer().receive(&crossing).map_err(|error| error.to_string())?;
        seat.decide(codecs, eos, max_bitrate);
        Ok(seat)
    }

    /// The pipeline plays: everybody who has part in a call is there.
    pub(super) fn play(&self) {
        if let Self::Meeting(seat) = self {
            seat.begin();
        }
    }

    /// Takes the media of the session around it.
    pub(super) fn in_session(peer: Peer, crossing: &Arc<Crossing>) -> Result<Self, String> {
        peer.receive(crossing).map_err(|error| error.to_string())?;
        Ok(Self::InSession(peer))
    }

    /// The endpoint and the page, if it serves any.
    pub(super) fn listening(&self) -> Option<(String, String)> {
        match self {
            Self::Server { mount, .. } => Some((mount.url(), mount.page_url())),
            Self::Client(_) | Self::InSession(_) | Self::Meeting(_) => None,
        }
    }

    /// What its user should be warned of.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Server { mount, .. } => mount.warning(),
            Self::Client(_) | Self::InSession(_) | Self::Meeting(_) => None,
        }
    }

    /// Its own endpoint, or the one that it calls, if any.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Self::Server { mount, .. } => Some(mount.url()),
            Self::Client(client) => Some(client.url().to_owned()),
            Self::Meeting(seat) => Some(seat.url().to_owned()),
            Self::InSession(_) => None,
        }
    }

    /// What a client has done so far.
    pub(super) fn client_counts(&self) -> Option<ClientCounts> {
        match self {
            Self::Server { .. } | Self::InSession(_) => None,
            Self::Client(client) => Some(client.counts()),
            Self::Meeting(seat) => {
                let CallCounts { attempts, sessions } = seat.counts();
                Some(ClientCounts { attempts, sessions, restarts: 0 })
            }
        }
    }

    /// The session that is there.
    pub(super) fn current(&self) -> Option<Session> {
        match self {
            Self::Server { slot, .. } => slot.current(),
            Self::Client(client) => client.current(),
            Self::InSession(peer) => peer.session(),
            Self::Meeting(seat) => seat.peer().session(),
        }
    }

    /// Ends the session that is there, in the background, and lets no other follow.
    pub(super) fn end(&self) -> Ending<'_> {
        match self {
            Self::Server { slot, media, .. } => {
                let (done, closed) = mpsc::channel();
                if let Some(session) = slot.end() {
                    media.spawn(async move {
                        session.close(EndReason::Shutdown).await;
                        drop(done);
                    });
                }
                Ending::Session(closed)
            }
            Self::Client(client) => {
                client.stop();
                Ending::Client(client)
            }
            Self::InSession(peer) => {
                peer.close();
                Ending::InSession
            }
            Self::Meeting(seat) => {
                seat.end();
                Ending::Meeting(seat)
            }
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        match self {
            Self::InSession(peer) => peer.leave(),
            Self::Meeting(seat) => seat.peer().leave(),
            Self::Server { .. } | Self::Client(_) => {}
        }
    }
}

/// An end under way.
pub(super) enum Ending<'a> {
    /// The receiver is disconnected when the session has closed.
    Session(mpsc::Receiver<()>),
    Client(&'a Client),
    /// The other peer and the server are told.
    Meeting(&'a Seat),
    /// Whoever runs the session waits for it.
    InSession,
}

impl Ending<'_> {
    /// Waits for it, not long.
    pub(super) fn wait(self) {
        match self {
            Self::Session(closed) => {
                let _: Result<(), _> = closed.recv_timeout(CLOSE_TIMEOUT);
            }
            Self::Client(client) => client.wait(),
            Self::Meeting(seat) => seat.wait(),
            Self::InSession => {}
        }
    }
}
