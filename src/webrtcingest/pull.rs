//! The element as a WHEP client: one call is an offer, and a session of what the server says to it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::codecs;
use crate::{
    bridge::{AttemptError, Calls, Learned, Stop, goodbye},
    rtp::Crossing,
    session::{EndReason, Offering, PacketSink, Session, SessionConfig, Terms},
    signaling::{
        SessionId,
        client::{Negotiated, Resource, WhepClient},
    },
};

/// What calls are made of.
pub(super) struct Pull {
    pub(super) media: Handle,
    pub(super) server: WhepClient,
    pub(super) url: String,
    pub(super) config: SessionConfig,
    pub(super) crossing: Arc<Crossing>,
    pub(super) element: gst::glib::WeakRef<super::WebrtcIngest>,
    pub(super) learned: Learned,
}

#[async_trait]
impl Calls for Pull {
    async fn attempt(&self, stop: Stop) -> Result<Option<(Session, Resource)>, AttemptError> {
        Box::pin(attempt(self, stop)).await
    }

    fn had_media(&self, session: &Session) -> bool {
        session.last_media().is_some()
    }

    fn over(&self) {
        self.crossing.end_of_stream();
    }
}

async fn attempt(parts: &Pull, mut stop: Stop) -> Result<Option<(Session, Resource)>, AttemptError> {
    let prepared = tokio::select! {
        prepared = Box::pin(prepare(parts)) => prepared?,
        () = stop.requested() => return Ok(None),
    };
    let Prepared { config, offering, server_is_local } = prepared;
    let (server, sdp) = (parts.server.clone(), offering.sdp().to_owned());
    let post = async move { server.offer(&sdp).await };
    let Some(negotiated) = stop.posting(post, Negotiated::resource).await? else { return Ok(None) };
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
                () = stop.requested() => Ok(None),
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
            parts.learned.take(&parts.config, server_is_local, &parts.media, &session, &resource);
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

async fn prepare(parts: &Pull) -> Result<Prepared, AttemptError> {
    let mut config = parts.config.clone();
    parts.learned.fill_in(&mut config);
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
