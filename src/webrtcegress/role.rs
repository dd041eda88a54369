//! What a started element does: serve viewers, push to a server, or send to the peer of the session around it.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    answerer::{Answerer, Only, Watch, follow},
    data::Messages,
    fanout::Fanout,
    push::Push,
    session::Half,
};
use crate::{
    bridge::{
        CallConfig, CallCounts, Client, ClientCounts, ClientParts, Learned, Notices, Peer, Seat, Viewers,
        ViewersConfig, connecting::ConnectionRole,
    },
    session::SessionConfig,
    signaling::{
        Mount,
        client::{ClientConfig, WhipClient, socket::SocketConfig},
        mount_viewers,
    },
};

/// What all roles are made of.
pub(super) struct Parts {
    pub(super) media: Handle,
    pub(super) http: Handle,
    pub(super) config: SessionConfig,
    pub(super) fanout: Arc<Fanout>,
    pub(super) watch: Watch,
    pub(super) element: gst::glib::WeakRef<super::WebrtcEgress>,
    pub(super) messages: Arc<Messages>,
}

/// What a started element does.
pub(super) enum Role {
    /// Serves.
    Server { mount: Mount, viewers: Viewers, http: Handle, following: AbortHandle },
    /// Sends to the peer of the session around it.
    InSession { peer: Peer, half: Arc<Half> },
    /// Meets another peer.
    Meeting { seat: Seat, half: Arc<Half> },
    /// Pushes to a server, from when the pipeline plays.
    Client { url: String, http: Handle, ready: Mutex<Option<ClientParts>>, client: OnceLock<Client>, half: Arc<Half> },
}

/// How long stopping waits for sessions to close, which takes the network's part 100 ms at most, and a second where there is
/// something left to say by data channels.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);

impl Role {
    /// Begins to serve at most so many viewers (0: any), or to call; the error says which setting is wrong.
    pub(super) fn start(role: ConnectionRole, max_viewers: u32, parts: Parts) -> Result<Self, String> {
        match role {
            ConnectionRole::Server(endpoint) => {
                let Parts { media, http, config, fanout, watch, messages, .. } = parts;
                let config = ViewersConfig { session: config, media, http: http.clone(), data: Some(messages) };
                let viewers = Viewers::new(config, Arc::new(Only(fanout.clone())));
                let answerer = Answerer { fanout, viewers: viewers.clone() };
                let mount = mount_viewers(&http, *endpoint, Arc::new(answerer), max_viewers)
                    .map_err(|error| error.to_string())?;
                let following = http.spawn(follow(viewers.clone(), watch)).abort_handle();
                Ok(Self::Server { mount, viewers, http, following })
            }
            ConnectionRole::Client(called) => Self::push(&called, parts),
            ConnectionRole::Meeting(socket) => Self::meet(socket, parts),
        }
    }

    /// Sends to the peer of the session around it.
    pub(super) fn in_session(peer: Peer, half: Arc<Half>) -> Result<Self, String> {
        peer.send(half.clone()).map_err(|error| error.to_string())?;
        Ok(Self::InSession { peer, half })
    }

    fn push(called: &ClientConfig, parts: Parts) -> Result<Self, String> {
        let Parts { media, http, config, fanout, watch, element, messages } = parts;
        let (server, url) = (WhipClient::new(called)?, called.server.to_string());
        let notices = Notices::new(element.upgrade(), url.clone());
        let half = Half::new(fanout, element, http.clone(), watch, messages);
        let learned = Learned::default();
        let calls = Push { media: media.clone(), server, url: url.clone(), config, half: half.clone(), learned };
        let ready = ClientParts { media, url: url.clone(), eos: false, calls: Arc::new(calls), notices };
        Ok(Self::Client { url, http, ready: Mutex::new(Some(ready)), client: OnceLock::new(), half })
    }

    fn meet(socket: SocketConfig, parts: Parts) -> Result<Self, String> {
        let Parts { media, http, config, fanout, watch, element, messages } = parts;
        let around = element.upgrade().ok_or("the element is gone")?;
        let notices = Mutex::new(Notices::new(Some(around.clone()), socket.url.to_string()));
        // Only what a webrtcingest of the same call takes is received, and it says what.
        let codecs = config.codecs.clone();
        let codecs = Arc::new(move || codecs.clone());
        let call = CallConfig { socket, session: config, codecs, ends: false, media, http: http.clone() };
        let seat = Seat::take(&around, call, Arc::new(notices))?;
        let half = Half::new(fanout, element, http, watch, messages);
        seat.peer().send(half.clone()).map_err(|error| error.to_string())?;
        Ok(Self::Meeting { seat, half })
    }

    /// The pipeline plays: everybody who has part in a call is there.
    pub(super) fn play(&self) {
        match self {
            Self::Meeting { seat, .. } => seat.begin(),
            Self::Client { http, ready, client, .. } => {
                if let Some(parts) = lock(ready).take() {
                    let _ = client.set(Client::start(http, parts)); // once
                }
            }
            Self::Server { .. } | Self::InSession { .. } => {}
        }
    }

    /// Where it calls, if it does.
    pub(super) fn calls(&self) -> Option<String> {
        match self {
            Self::Meeting { seat, .. } => Some(seat.url().to_owned()),
            Self::Client { url, .. } => Some(url.clone()),
            Self::Server { .. } | Self::InSession { .. } => None,
        }
    }

    /// What a client has done so far.
    pub(super) fn client_counts(&self) -> Option<ClientCounts> {
        match self {
            Self::Client { client, .. } => client.get().map(Client::counts),
            Self::Meeting { seat, .. } => {
                let CallCounts { attempts, sessions } = seat.counts();
                Some(ClientCounts { attempts, sessions, restarts: 0 })
            }
            Self::Server { .. } | Self::InSession { .. } => None,
        }
    }

    /// The endpoint, if it serves one.
    pub(super) fn listening(&self) -> Option<String> {
        match self {
            Self::Server { mount, .. } => Some(mount.url()),
            Self::InSession { .. } | Self::Meeting { .. } | Self::Client { .. } => None,
        }
    }

    /// What its user should be warned of.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Server { mount, .. } => mount.warning(),
            Self::InSession { .. } | Self::Meeting { .. } | Self::Client { .. } => None,
        }
    }

    /// Viewers that are there, and how many there have been.
    pub(super) fn viewers(&self) -> (usize, u64) {
        match self {
            Self::Server { viewers, .. } => (viewers.count(), viewers.started()),
            Self::InSession { half, .. } | Self::Meeting { half, .. } | Self::Client { half, .. } => half.peers(),
        }
    }

    /// Ends the sessions that are there, in the background, and lets no other follow.
    pub(super) fn end(&self) -> Ending<'_> {
        match self {
            Self::Server { viewers, http, following, .. } => {
                following.abort();
                viewers.close();
                let (done, closed) = mpsc::channel::<()>();
                let viewers = viewers.clone();
                http.spawn(async move {
                    viewers.emptied().await;
                    drop(done);
                });
                Ending::Sessions(closed)
            }
            // Whoever runs the session waits for it.
            Self::InSession { peer, .. } => {
                peer.close();
                Ending::Elsewhere
            }
            Self::Meeting { seat, .. } => {
                seat.end();
                Ending::Meeting(seat)
            }
            Self::Client { ready, client, .. } => {
                drop(lock(ready).take());
                match client.get() {
                    Some(client) => {
                        client.stop();
                        Ending::Client(client)
                    }
                    None => Ending::Elsewhere,
                }
            }
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        match self {
            Self::InSession { peer, .. } => peer.stop_sending(),
            Self::Meeting { seat, .. } => seat.peer().stop_sending(),
            Self::Server { .. } | Self::Client { .. } => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An end under way.
pub(super) enum Ending<'a> {
    /// The receiver is disconnected when all sessions have closed.
    Sessions(mpsc::Receiver<()>),
    /// The other peer and the server are told.
    Meeting(&'a Seat),
    /// The server is told.
    Client(&'a Client),
    /// Not here.
    Elsewhere,
}

impl Ending<'_> {
    /// Waits for it, not long.
    pub(super) fn wait(self) {
        match self {
            Self::Sessions(closed) => {
                let _: Result<(), _> = closed.recv_timeout(CLOSE_TIMEOUT);
            }
            Self::Meeting(seat) => seat.wait(),
            Self::Client(client) => client.wait(),
            Self::Elsewhere => {}
        }
    }
}
