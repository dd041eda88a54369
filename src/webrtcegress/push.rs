//! The element as a WHIP client: one call is an offer to send, and the one viewer that the server is.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::session::Half;
use crate::{
    bridge::{AttemptError, Calls, Learned, Sending as _, Stop, goodbye},
    session::{
        Answered, ConnectionState, EndReason, Offering, PacketSink, RtpPacket, SenderReport, Session, SessionConfig,
        Terms,
    },
    signaling::client::{Accepted, Resource, WhipClient},
};

/// How long caps are waited for: what comes encoded is best offered in the codec that it has.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// What the session is called in signals: there is one at a time.
pub(super) const SERVER: &str = "server";

/// What calls are made of.
pub(super) struct Push {
    pub(super) media: Handle,
    pub(super) server: WhipClient,
    pub(super) url: String,
    pub(super) config: SessionConfig,
    pub(super) half: Arc<Half>,
    pub(super) learned: Learned,
}

#[async_trait]
impl Calls for Push {
    async fn attempt(&self, stop: Stop) -> Result<Option<(Session, Resource)>, AttemptError> {
        Box::pin(attempt(self, stop)).await
    }

    fn had_media(&self, session: &Session) -> bool {
        let sent = session.outlet().map(|outlet| outlet.stats());
        sent.is_some_and(|sent| sent.tracks.iter().flatten().any(|track| track.packets > 0))
    }

    /// It is never over for who sends: `eos` is not set.
    fn over(&self) {}
}

async fn attempt(push: &Push, mut stop: Stop) -> Result<Option<(Session, Resource)>, AttemptError> {
    tokio::select! {
        () = comes(push) => {}
        () = stop.requested() => return Ok(None),
    }
    let sends = push.half.sends(&[]);
    if sends.tracks.iter().all(|track| track.formats.is_empty()) {
        return Err(AttemptError::Nothing);
    }
    let server_is_local = push.server.is_local().await;
    // WHIP is for media (RFC 9725 section 1): a server is not troubled with data channels that nobody has asked for.
    let data = push.half.has_data_pads().then(|| push.half.hears()).flatten();
    let (mut config, terms) = (push.config.clone(), Terms { sends: Some(sends), data });
    push.learned.fill_in(&mut config);
    let offering = push.media.spawn(async move { Box::pin(Offering::with(&config, server_is_local, terms)).await });
    let offering = offering.await?.map_err(AttemptError::Offer)?;
    let (server, sdp) = (push.server.clone(), offering.sdp().to_owned());
    let post = async move { server.offer(&sdp).await };
    let Some(Accepted { sdp, resource }) = stop.posting(post, |accepted: &Accepted| &accepted.resource).await? else {
        return Ok(None);
    };
    let answered =
        push.media.spawn(async move { Box::pin(offering.answered(&sdp, Arc::new(NothingComes), |_, _| {}, ())).await });
    let session = match answered.await? {
        Ok(session) => session,
        Err(why) => {
            goodbye(&resource).await;
            return Err(AttemptError::Answer { url: push.url.clone(), why });
        }
    };
    push.half.answered(&Answered {
        session: session.clone(),
        sdp: String::new(),
        tracks: Vec::new(),
        outgoing: session.outgoing().to_vec(),
        outlet: session.outlet().cloned(),
    });
    push.learned.take(&push.config, server_is_local, &push.media, &session, &resource);
    Ok(Some((session, resource)))
}

/// Returns when it is known what comes on every pad, or after a while.
async fn comes(push: &Push) {
    let known = async {
        while !push.half.fanout.is_known() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, known).await;
}

/// A server sends no media.
struct NothingComes;

impl PacketSink for NothingComes {
    fn rtp(&self, _: usize, _: RtpPacket) {}
    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}
