//! How the elements in a session's pipeline find its connection: a GstContext on the pipeline holds a handle on it.
//!
//! Whoever receives its media says so when it starts, and gets the packets once the offer is answered. Whoever sends says
//! so too ([`Sending`]), is asked what there is to send when an offer has come, and hears what the peer takes of it.
//! Elements whose getters hide secrets fill in their own placeholders, as nobody else can see them.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use gst::{glib, prelude::*};
use tokio::runtime::Handle;

use super::{placeholders::Names, sending::Sending};
use crate::{
    forward::Source,
    rtp::{Crossing, SessionFeed},
    session::{EndReason, Mux, Session},
};

/// The type of the context.
const CONTEXT: &str = "webrtcbridge.peer";

/// The connection of the session around an element.
#[derive(Clone, glib::Boxed)]
#[boxed_type(name = "GstWebrtcBridgePeer")]
pub struct Peer(Arc<Inner>);

struct Inner {
    names: Names,
    /// `None` for a description that is only tried.
    connection: Option<Connection>,
    unknown: Mutex<Option<UnknownPlaceholder>>,
    useless: Mutex<Option<UselessValue>>,
    /// Lock order: each alone.
    crossing: Mutex<Option<Arc<Crossing>>>,
    sending: Mutex<Option<Arc<dyn Sending>>>,
    session: Mutex<Option<Session>>,
    feeds_viewers: AtomicBool,
}

struct Connection {
    media: Handle,
    mux: Arc<Mux>,
    /// What viewers of the channel watch.
    source: Arc<Source>,
}

/// A placeholder that means nothing, and where it stands.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "there is no placeholder {placeholder} (property \"{property}\" of {element}); there are {{channel}}, {{session}} and {{started}}"
)]
pub(super) struct UnknownPlaceholder {
    pub(super) placeholder: String,
    property: String,
    element: String,
}

/// A value that an element cannot do anything with once its placeholders are filled in.
#[derive(Clone, Debug, thiserror::Error)]
#[error("property \"{property}\" of {element}: {why}")]
pub(super) struct UselessValue {
    pub(super) property: String,
    pub(super) element: String,
    why: String,
}

/// Why an element cannot have the media of the session.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// There are two of them.
    #[error("another webrtcingest of this session has the publisher's media already; use one, and tee behind it")]
    Taken,
    /// There are two of them.
    #[error("another webrtcegress of this session sends to the peer already; use one, with a pad for each track")]
    SenderTaken,
}

impl Peer {
    /// Of a session that an offer has come for.
    pub(super) fn new(names: Names, media: Handle, mux: Arc<Mux>, source: Arc<Source>) -> Self {
        Self::with(names, Some(Connection { media, mux, source }))
    }

    /// Of no session: to see whether everything can be filled in.
    pub(super) fn trial() -> Self {
        Self::with(Names::new("channel", "session"), None)
    }

    fn with(names: Names, connection: Option<Connection>) -> Self {
        let (unknown, useless, crossing, sending, session, feeds_viewers) = Default::default();
        Self(Arc::new(Inner { names, connection, unknown, useless, crossing, sending, session, feeds_viewers }))
    }

    /// As a context for a pipeline.
    pub(super) fn context(&self) -> gst::Context {
        let mut context = gst::Context::new(CONTEXT, true);
        if let Some(context) = context.get_mut() {
            context.structure_mut().set("peer", self);
        }
        context
    }

    /// The one that a context holds, if it is of this kind.
    pub fn of(context: &gst::Context) -> Option<Self> {
        context.has_context_type(CONTEXT).then(|| context.structure().get::<Self>("peer").ok())?
    }

    /// The one around an element, if it is in a session's pipeline.
    pub fn around(element: &impl IsA<gst::Element>) -> Option<Self> {
        Self::of(&element.context(CONTEXT)?)
    }

    /// A property's text with its placeholders filled in. One that is unknown ends the session's start.
    pub fn fill(&self, element: &impl IsA<gst::Object>, property: &str, text: &str) -> String {
        match self.0.names.fill(text) {
            Ok(filled) => filled.into_owned(),
            Err(unknown) => {
                let (property, element) = (property.to_owned(), element.name().to_string());
                let placeholder = format!("{{{}}}", unknown.0);
                lock(&self.0.unknown).get_or_insert(UnknownPlaceholder { placeholder, property, element });
                text.to_owned()
            }
        }
    }

    /// An element's own word on what has been filled in: with this value it will fail when it starts. `why` holds no secret.
    pub fn object(&self, element: &impl IsA<gst::Object>, property: &str, why: &impl ToString) {
        let (property, element, why) = (property.to_owned(), element.name().to_string(), why.to_string());
        lock(&self.0.useless).get_or_insert(UselessValue { property, element, why });
    }

    /// The first value that an element objected to.
    pub(super) fn useless_value(&self) -> Option<UselessValue> {
        lock(&self.0.useless).clone()
    }

    /// The first placeholder that could not be filled in.
    pub(super) fn unknown_placeholder(&self) -> Option<UnknownPlaceholder> {
        lock(&self.0.unknown).clone()
    }

    /// The session's media shall go into `crossing`.
    pub fn receive(&self, crossing: &Arc<Crossing>) -> Result<(), PeerError> {
        let mut place = lock(&self.0.crossing);
        if place.is_some() {
            return Err(PeerError::Taken);
        }
        *place = Some(crossing.clone());
        Ok(())
    }

    /// The receiver is gone.
    pub fn leave(&self) {
        let gone = lock(&self.0.crossing).take();
        drop(gone);
    }

    /// `sending` is asked for what goes to the peer; when it starts, as offers are answered once the pipeline has.
    pub fn send(&self, sending: Arc<dyn Sending>) -> Result<(), PeerError> {
        let mut place = lock(&self.0.sending);
        if place.is_some() {
            return Err(PeerError::SenderTaken);
        }
        *place = Some(sending);
        Ok(())
    }

    /// The sender is gone.
    pub fn stop_sending(&self) {
        let gone = lock(&self.0.sending).take();
        drop(gone);
    }

    /// Whoever sends to the peer, if anybody.
    pub fn sending(&self) -> Option<Arc<dyn Sending>> {
        lock(&self.0.sending).clone()
    }

    /// Viewers of the channel shall get what the caller publishes at the source that this returns, in place of what the
    /// publisher sends. `None` for a description that is only tried.
    pub fn feed_viewers(&self) -> Option<Arc<Source>> {
        self.0.feeds_viewers.store(true, Relaxed);
        self.source()
    }

    /// Whether an element of the session does.
    pub(super) fn feeds_viewers(&self) -> bool {
        self.0.feeds_viewers.load(Relaxed)
    }

    /// What viewers of the channel watch.
    pub(super) fn source(&self) -> Option<Arc<Source>> {
        self.0.connection.as_ref().map(|connection| connection.source.clone())
    }

    /// Where the session's packets go, if anywhere.
    pub(super) fn feed(&self, id: &str) -> Option<SessionFeed> {
        lock(&self.0.crossing).as_ref().map(|crossing| crossing.feed(id))
    }

    /// Nothing will come any more.
    pub(super) fn end_of_stream(&self) {
        let crossing = lock(&self.0.crossing).clone();
        if let Some(crossing) = crossing {
            crossing.end_of_stream();
        }
    }

    pub(super) fn set_session(&self, session: Option<Session>) {
        let gone = std::mem::replace(&mut *lock(&self.0.session), session);
        drop(gone);
    }

    /// The session, once it has been answered.
    pub fn session(&self) -> Option<Session> {
        lock(&self.0.session).clone()
    }

    /// The UDP port that it is on.
    pub fn mux(&self) -> Option<Arc<Mux>> {
        self.0.connection.as_ref().map(|connection| connection.mux.clone())
    }

    /// Ends the session, in the background.
    pub fn close(&self) {
        if let (Some(session), Some(connection)) = (self.session(), &self.0.connection) {
            connection.media.spawn(async move { session.close(EndReason::Shutdown).await });
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peer")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
