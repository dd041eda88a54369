//! One connection to the other peer, from the first description to its end. Everything of it runs on the media runtime.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use tokio::{sync::watch, task::JoinError};

use super::CallConfig;
use crate::{
    bridge::{
        Peer,
        hearing::Discard,
        run::{what_is_sent, who_hears},
    },
    codec::Codec,
    rtp::SessionFeed,
    session::{
        Answered, CodecPreferences, ConnectionState, EndReason, Offering, Outlet, PacketSink, RemoteCandidate,
        RemoteIce, Session, SessionConfig, SessionError, Terms, Track, negotiate,
    },
    signaling::{SessionId, client::socket::SocketCandidate},
};

/// Candidates of the other peer that come before his answer: browsers have about a dozen.
const MOST_EARLY: usize = 64;

/// Why no connection came of a description.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    #[error("the other peer's offer cannot be answered: {0}")]
    Offer(SessionError),
    #[error("the other peer's answer cannot be used: {0}")]
    Answer(SessionError),
    #[error("no offer could be made: {0}")]
    Offering(SessionError),
    #[error("the media thread is gone: {0}")]
    Media(#[from] JoinError),
}

/// A connection, or one that is about to be. Dropping it ends it.
pub(super) struct Talk {
    peer: Peer,
    feed: Option<SessionFeed>,
    offering: Option<Offering>,
    /// When it was made.
    began: Instant,
    session: Option<Session>,
    early: Vec<SocketCandidate>,
}

impl Talk {
    fn new(peer: &Peer, feed: Option<SessionFeed>) -> Self {
        Self { peer: peer.clone(), feed, offering: None, began: Instant::now(), session: None, early: Vec::new() }
    }

    /// Answers an offer.
    pub(super) async fn answer(
        call: &CallConfig,
        peer: &Peer,
        is_local: bool,
        offer: &str,
    ) -> Result<(Self, String), TalkError> {
        let config = session_config(call).await;
        let feed = peer.feed(SessionId::random().as_str());
        let sending = peer.sending();
        let incoming = negotiate(offer, &config.codecs).unwrap_or_default();
        let receives = feed.is_some() || sending.is_none();
        let sends = what_is_sent(sending.as_ref(), &incoming, receives).await;
        let terms = Terms { sends, data: who_hears(feed.as_ref(), peer.sending().as_ref()) };
        let (sink, offer) = (sink(feed.clone()), offer.to_owned());
        let answering = async move {
            let answering = Session::exchange(&config, &offer, is_local, terms, |_| sink, ());
            Box::pin(answering).await
        };
        let answered = call.media.spawn(answering).await?.map_err(TalkError::Offer)?;
        peer.set_session(Some(answered.session.clone()));
        if let Some(sending) = sending {
            sending.answered(&answered);
        }
        if let Some(feed) = &feed {
            feed.begin(answered.session.keyframes(), answered.tracks);
        }
        Ok((Self { session: Some(answered.session), ..Self::new(peer, feed) }, answered.sdp))
    }

    /// Makes an offer.
    pub(super) async fn offer(call: &CallConfig, peer: &Peer, is_local: bool) -> Result<(Self, String), TalkError> {
        let config = session_config(call).await;
        let feed = peer.feed(SessionId::random().as_str());
        let receives = feed.is_some();
        let incoming = if receives { likely(&config.codecs) } else { Vec::new() };
        let sends = what_is_sent(peer.sending().as_ref(), &incoming, receives).await;
        let terms = Terms { sends, data: who_hears(feed.as_ref(), peer.sending().as_ref()) };
        let offering = call.media.spawn(async move { Box::pin(Offering::with(&config, is_local, terms)).await });
        let offering = offering.await?.map_err(TalkError::Offering)?;
        let sdp = offering.sdp().to_owned();
        Ok((Self { offering: Some(offering), ..Self::new(peer, feed) }, sdp))
    }

    /// Takes the answer to our offer.
    pub(super) async fn answered(&mut self, call: &CallConfig, answer: String) -> Result<(), TalkError> {
        let Some(offering) = self.offering.take() else { return Ok(()) };
        let feed = self.feed.clone();
        let sink = sink(feed.clone());
        let begin = move |session: Session, tracks| {
            if let Some(feed) = feed {
                feed.begin(session.keyframes(), tracks);
            }
        };
        let sdp = answer.clone();
        let answering = call.media.spawn(async move { Box::pin(offering.answered(&answer, sink, begin, ())).await });
        let session = answering.await?.map_err(TalkError::Answer)?;
        self.peer.set_session(Some(session.clone()));
        if let Some(sending) = self.peer.sending() {
            let (outgoing, outlet) = (session.outgoing().to_vec(), session.outlet().cloned());
            // What comes is known with its first packets.
            sending.answered(&Answered { session: session.clone(), sdp, tracks: Vec::new(), outgoing, outlet });
        }
        self.session = Some(session);
        for candidate in std::mem::take(&mut self.early) {
            self.trickle(candidate).await;
        }
        Ok(())
    }

    /// Takes a candidate of the other peer's.
    pub(super) async fn trickle(&mut self, candidate: SocketCandidate) {
        let Some(session) = &self.session else {
            if self.early.len() < MOST_EARLY {
                self.early.push(candidate);
            }
            return;
        };
        let SocketCandidate { candidate, mid, ufrag, .. } = candidate;
        // The last one says only that it is the last.
        let Some(line) = candidate.filter(|line| !line.is_empty()) else { return };
        let told = RemoteIce { ufrag, password: None, candidates: vec![RemoteCandidate { mid, line }] };
        if let Err(error) = session.update_ice(told).await {
            tracing::debug!(%error, "a candidate of the other peer is not taken");
        }
    }

    /// Addresses that this machine has got meanwhile.
    pub(super) async fn new_candidates(&self) -> Vec<SocketCandidate> {
        let Some(session) = &self.session else { return Vec::new() };
        let Some(news) = session.new_candidates().await else { return Vec::new() };
        let (mid, ufrag) = (news.mid, news.ufrag);
        let candidate = |line| SocketCandidate {
            candidate: Some(line),
            mid: mid.clone(),
            m_line_index: None,
            ufrag: Some(ufrag.clone()),
        };
        news.candidates.into_iter().map(candidate).collect()
    }

    /// Since when an offer of ours waits for its answer.
    pub(super) fn unanswered(&self) -> Option<Instant> {
        self.offering.as_ref().map(|_| self.began)
    }

    /// Whether media can flow, or will again by itself as far as is known.
    pub(super) fn is_healthy(&self) -> bool {
        let state = self.session.as_ref().map(Session::state);
        matches!(state, Some(ConnectionState::Connected | ConnectionState::Disconnected))
    }

    /// Follows the connection's state; nothing as long as there is none.
    pub(super) fn states(&self) -> Option<watch::Receiver<ConnectionState>> {
        self.session.as_ref().map(Session::states)
    }

    /// Ends it. Whether any media has come or gone.
    pub(super) async fn end(self, call: &CallConfig, reason: EndReason) -> bool {
        let Some(session) = self.session else { return false };
        self.peer.set_session(None);
        let sent = |outlet: &Outlet| outlet.stats().tracks.iter().flatten().any(|track| track.packets > 0);
        let had_media = session.last_media().is_some() || session.outlet().is_some_and(sent);
        let _ = call.media.spawn(async move { session.close(reason).await }).await;
        had_media
    }
}

/// With the codecs that are of use now.
async fn session_config(call: &CallConfig) -> SessionConfig {
    let mut config = call.session.clone();
    let codecs = call.codecs.clone();
    // A caps query goes wherever the pipeline leads.
    if let Ok(codecs) = tokio::task::spawn_blocking(move || codecs()).await {
        config.codecs = codecs;
    }
    config
}

/// What another peer sends most likely: a track of each kind that is taken, in the codec that we like best.
fn likely(codecs: &CodecPreferences) -> Vec<Track> {
    let fmtp = |codec: Codec| match codec {
        Codec::H264 => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        Codec::Vp9 => "profile-id=0",
        _ => "",
    };
    let track = |(index, codec): (usize, &Codec)| Track {
        index,
        mid: None,
        codec: *codec,
        payload_type: 0,
        channels: 0,
        fmtp: fmtp(*codec).to_owned(),
        rtx: None,
        red: None,
        ssrcs: Vec::new(),
        feedback: Vec::new(),
    };
    [codecs.video.first(), codecs.audio.first()].into_iter().flatten().enumerate().map(track).collect()
}

fn sink(feed: Option<SessionFeed>) -> Arc<dyn PacketSink> {
    match feed {
        Some(feed) => Arc::new(feed),
        None => Arc::new(Discard(Arc::new(AtomicU64::new(0)))),
    }
}
