//! One call: an offer, and a session of what the server says to it.
//!
//! A call may be stopped at any time. Once the offer is on its way the server may have made a session of it; then its reply
//! is waited for, beside everything else, and the session ended where it says that this is.

use std::sync::{Arc, mpsc};

use tokio::sync::watch;

use super::{Parts, goodbye, stop};
use crate::{
    session::{EndReason, Offering, PacketSink, Session, SessionConfig, SessionError, Terms},
    signaling::{
        SessionId,
        client::{ClientError, Negotiated, Resource, Verdict},
    },
    webrtcingest::{codecs, imp::CAT},
};

/// Why an attempt came to no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(transparent)]
    Server(#[from] ClientError),
    #[error("the answer of {url} cannot be used: {why}")]
    Answer { url: String, why: SessionError },
    #[error("no offer could be made: {0}")]
    Offer(SessionError),
    #[error("the media thread is gone: {0}")]
    Media(#[from] tokio::task::JoinError),
}

impl AttemptError {
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Server(error) => error.verdict(),
            Self::Answer { .. } | Self::Offer(_) | Self::Media(_) => Verdict::Final,
        }
    }
}

/// Calls the server; `None` if it was stopped meanwhile. `alive` is kept until the server has been told.
pub(super) async fn attempt(
    parts: &Parts,
    stopped: &mut watch::Receiver<bool>,
    alive: &mpsc::Sender<()>,
) -> Result<Option<(Session, Resource)>, AttemptError> {
    let prepared = tokio::select! {
        prepared = Box::pin(prepare(parts)) => prepared?,
        () = stop(stopped) => return Ok(None),
    };
    let Prepared { config, offering, server_is_local } = prepared;
    let Some(negotiated) = post(parts, &offering, stopped, alive).await? else { return Ok(None) };
    let feed = parts.crossing.feed(SessionId::random().as_str());
    let sink: Arc<dyn PacketSink> = Arc::new(feed.clone());
    let unusable = |why| AttemptError::Answer { url: parts.url.clone(), why };
    let (made, resource) = match negotiated {
        Negotiated::Answer { sdp, resource } => {
            let begin = move |session: Session, tracks| feed.begin(session.keyframes(), tracks);
            let answered = async move { Box::pin(offering.answered(&sdp, sink, begin, ())).await };
            (parts.media.spawn(answered).await?, resource)
        }
        Negotiated::CounterOffer { sdp, resource } => {
            drop(offering);
            let terms = Terms { sends: None, data: feed.data() };
            let answer =
                async move { Box::pin(Session::exchange(&config, &sdp, server_is_local, terms, |_| sink, ())).await };
            let answered = match parts.media.spawn(answer).await? {
                Ok(answered) => answered,
                Err(why) => {
                    goodbye(&resource).await;
                    return Err(unusable(why));
                }
            };
            let session = answered.session;
            feed.begin(session.keyframes(), answered.tracks);
            let told = tokio::select! {
                told = resource.answer(&answered.sdp) => told.map(Some),
                () = stop(stopped) => Ok(None),
            };
            if !matches!(told, Ok(Some(()))) {
                tokio::join!(session.close(EndReason::Shutdown), goodbye(&resource));
                return told.map(|_| None).map_err(AttemptError::from);
            }
            (Ok(session), resource)
        }
    };
    match made {
        Ok(session) => {
            let servers = resource.ice_servers().len();
            gst::debug!(CAT, "{}: {servers} ICE servers offered, which are not used", parts.url);
            Ok(Some((session, resource)))
        }
        Err(why) => {
            goodbye(&resource).await;
            Err(unusable(why))
        }
    }
}

/// What is there before the server is called. Dropping it ends it.
struct Prepared {
    config: SessionConfig,
    offering: Offering,
    server_is_local: bool,
}

async fn prepare(parts: &Parts) -> Result<Prepared, AttemptError> {
    let mut config = parts.config.clone();
    let (element, wanted) = (parts.element.clone(), config.codecs.clone());
    // A caps query goes wherever the pipeline leads; it must not hold up other requests.
    if let Ok(usable) = tokio::task::spawn_blocking(move || codecs::usable(&element, wanted)).await {
        config.codecs = usable;
    }
    let server_is_local = parts.server.is_local().await;
    let offering = {
        let config = config.clone();
        parts.media.spawn(async move { Box::pin(Offering::new(&config, server_is_local)).await }).await?
    };
    Ok(Prepared { config, offering: offering.map_err(AttemptError::Offer)?, server_is_local })
}

/// Posts the offer; `None` if it was stopped meanwhile.
async fn post(
    parts: &Parts,
    offering: &Offering,
    stopped: &mut watch::Receiver<bool>,
    alive: &mpsc::Sender<()>,
) -> Result<Option<Negotiated>, AttemptError> {
    let (server, sdp) = (parts.server.clone(), offering.sdp().to_owned());
    let mut posting = tokio::spawn(async move { server.offer(&sdp).await });
    tokio::select! {
        negotiated = &mut posting => Ok(Some(negotiated??)),
        () = stop(stopped) => {
            let alive = alive.clone();
            // With nothing of ours in it, so that ports are free while it goes on.
            tokio::spawn(async move {
                if let Ok(Ok(negotiated)) = posting.await {
                    goodbye(negotiated.resource()).await;
                }
                drop(alive);
            });
            Ok(None)
        }
    }
}
