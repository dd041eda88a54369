//! A WHEP server that is not ours: webrtcbin, or a scripted peer, behind a little HTTP, sending a clip to whoever asks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    free_port,
    peer::{Peer, Script},
    publisher::{Options, Publisher},
};

/// How the server treats its players.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// What it sends.
    pub media: Options,
    /// The bearer token that it wants.
    pub token: Option<String>,
    /// Whether it answers with an offer of its own (406).
    pub counter_offers: bool,
    /// Changes its answer.
    pub munge: Option<fn(String) -> String>,
    /// A scripted peer sends in place of webrtcbin, which cannot restart ICE.
    pub scripted: Option<Script>,
    /// The status of every answer to a PATCH with a fragment; none: ICE is restarted.
    pub refuses_fragments: Option<u16>,
    /// Offers are not answered while this is set.
    pub holds: Arc<AtomicBool>,
}

/// A PATCH with a fragment.
#[derive(Clone, Debug)]
pub struct Patch {
    pub if_match: Option<String>,
    pub body: String,
}

/// One session's sending end.
enum Sending {
    Bin(Publisher),
    Scripted(Peer),
}

/// A running server; killed when dropped.
pub struct WhepServer {
    port: u16,
    behaviour: Behaviour,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    behaviour: Behaviour,
    /// Whether there is a stream.
    live: AtomicBool,
    sessions: Mutex<HashMap<String, Sending>>,
    patches: Mutex<Vec<Patch>>,
    offers: AtomicUsize,
    deleted: AtomicUsize,
}

impl WhepServer {
    /// Starts one that sends H.264 and Opus.
    pub fn start() -> Self {
        Self::start_with(Behaviour::default())
    }

    pub fn start_with(behaviour: Behaviour) -> Self {
        let mut server = Self::stopped_with(behaviour);
        server.restart();
        server
    }

    /// The address of a server that does not run (yet).
    pub fn stopped() -> Self {
        Self::stopped_with(Behaviour::default())
    }

    fn stopped_with(behaviour: Behaviour) -> Self {
        let shared = Arc::new(Shared::new(behaviour.clone()));
        Self { port: free_port(), behaviour, shared, runtime: None }
    }

    /// Where to play from.
    pub fn url(&self) -> String {
        format!("whep://127.0.0.1:{}/live/whep", self.port)
    }

    /// The same by way of a redirection.
    pub fn redirecting_url(&self) -> String {
        format!("whep://127.0.0.1:{}/moved", self.port)
    }

    /// Dies as a crash would let it: connections are reset, players hear nothing more.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        }
        self.shared.sessions.lock().expect("sessions").clear();
    }

    /// Starts (again) on the same port, with a stream.
    pub fn restart(&mut self) {
        self.kill();
        self.shared = Arc::new(Shared::new(self.behaviour.clone()));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
        let router = axum::Router::new().fallback(serve).with_state(self.shared.clone());
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("the port");
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.runtime = Some(runtime);
    }

    /// The stream is over, or there again: without one offers get 404, and sessions end without a word.
    pub fn set_live(&self, live: bool) {
        self.shared.live.store(live, SeqCst);
        if !live {
            self.shared.sessions.lock().expect("sessions").clear();
        }
    }

    /// Offers so far, since it was started last.
    pub fn offers(&self) -> usize {
        self.shared.offers.load(SeqCst)
    }

    /// Fragments that came by PATCH.
    pub fn patches(&self) -> Vec<Patch> {
        self.shared.patches.lock().expect("patches").clone()
    }

    /// Sessions that are there.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.lock().expect("sessions").len()
    }

    /// Sessions that their player has ended.
    pub fn deleted(&self) -> usize {
        self.shared.deleted.load(SeqCst)
    }
}

impl Drop for WhepServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            live: AtomicBool::new(true),
            sessions: Mutex::default(),
            patches: Mutex::default(),
            offers: AtomicUsize::new(0),
            deleted: AtomicUsize::new(0),
        }
    }

    fn respond(&self, method: &Method, path: &str, headers: &HeaderMap, body: &str) -> Response {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if path == "/moved" {
            return (StatusCode::TEMPORARY_REDIRECT, [("location", "/live/whep")]).into_response();
        }
        if let Some(token) = &self.behaviour.token
            && header("authorization") != Some(format!("Bearer {token}").as_str())
        {
            return (StatusCode::UNAUTHORIZED, "{\"detail\":\"who are you?\"}").into_response();
        }
        match (method, path) {
            (&Method::POST, "/live/whep") => self.offered(body),
            (&Method::PATCH, _) if header("content-type") == Some("application/trickle-ice-sdpfrag") => {
                let patch = Patch { if_match: header("if-match").map(str::to_owned), body: body.to_owned() };
                self.patches.lock().expect("patches").push(patch);
                self.restarted(path, body)
            }
            (&Method::PATCH, _) => match self.sessions.lock().expect("sessions").get(path) {
                Some(Sending::Bin(session)) => {
                    session.accept(body);
                    StatusCode::NO_CONTENT.into_response()
                }
                _ => StatusCode::NOT_FOUND.into_response(),
            },
            (&Method::DELETE, _) => match self.sessions.lock().expect("sessions").remove(path) {
                Some(session) => {
                    if let Sending::Bin(session) = session {
                        session.end();
                    }
                    self.deleted.fetch_add(1, SeqCst);
                    StatusCode::OK.into_response()
                }
                None => StatusCode::NOT_FOUND.into_response(),
            },
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn offered(&self, offer: &str) -> Response {
        let number = self.offers.fetch_add(1, SeqCst) + 1;
        if !self.live.load(SeqCst) {
            return (StatusCode::NOT_FOUND, "no such stream").into_response();
        }
        while self.behaviour.holds.load(SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let media = self.behaviour.media.clone();
        let bin = |(session, sdp)| (Sending::Bin(session), sdp);
        let (status, (session, sdp)) = match (&self.behaviour.scripted, self.behaviour.counter_offers) {
            (Some(script), _) => {
                let peer = Peer::answer(offer, script.clone());
                let sdp = peer.answer_sdp().to_owned();
                (StatusCode::CREATED, (Sending::Scripted(peer), sdp))
            }
            (None, true) => (StatusCode::NOT_ACCEPTABLE, bin(Publisher::describe(media))),
            (None, false) => (StatusCode::CREATED, bin(Publisher::answer(offer, media))),
        };
        let sdp = self.behaviour.munge.map_or(sdp.clone(), |munge| munge(sdp));
        let location = format!("/session/{number}");
        self.sessions.lock().expect("sessions").insert(location.clone(), session);
        (status, [("location", location.as_str()), ("content-type", "application/sdp")], sdp).into_response()
    }
}

impl Shared {
    fn restarted(&self, path: &str, fragment: &str) -> Response {
        if let Some(status) = self.behaviour.refuses_fragments {
            return StatusCode::from_u16(status).expect("a status").into_response();
        }
        let sessions = self.sessions.lock().expect("sessions");
        let value = |name: &str| fragment.lines().find_map(|line| line.strip_prefix(name)).expect("credentials");
        match sessions.get(path) {
            Some(Sending::Scripted(peer)) => {
                let (ufrag, password) = peer.restart_ice(value("a=ice-ufrag:"), value("a=ice-pwd:"));
                let headers = [("content-type", "application/trickle-ice-sdpfrag"), ("etag", "\"restarted\"")];
                (headers, format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n")).into_response()
            }
            Some(Sending::Bin(_)) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let responding = tokio::task::spawn_blocking(move || {
        let body = String::from_utf8_lossy(&body).into_owned();
        shared.respond(&head.method, head.uri.path(), &head.headers, &body)
    });
    responding.await.expect("a response")
}
