//! Offers that come to the element's endpoint become viewers; what they are offered is decided first.

use std::sync::Arc;

use async_trait::async_trait;

use super::fanout::Fanout;
use crate::{
    bridge::{Sources, Viewers},
    channel::ChannelId,
    forward::Source,
    session::{ConnectionState, Outgoing, SessionError, Track},
    signaling::{Answer, AnswerError, Offer, OfferAnswerer},
};

/// Is told the state of the connections.
pub(super) type Watch = Arc<dyn Fn(ConnectionState) + Send + Sync>;

/// Answers for one element while it is started.
pub(super) struct Answerer {
    pub(super) fanout: Arc<Fanout>,
    pub(super) viewers: Viewers,
}

#[async_trait]
impl OfferAnswerer for Answerer {
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError> {
        let decided = self.fanout.decide(&offer.sdp).map_err(SessionError::from)?;
        // Held until the viewer is there: nobody else decides meanwhile.
        let _decided = decided.ok_or(AnswerError::NotLive)?;
        self.viewers.answer(offer).await
    }

    async fn counter_offer(&self, offer: Offer) -> Option<Answer> {
        self.viewers.counter_offer(offer).await
    }
}

/// The one source that there is.
pub(super) struct Only(pub(super) Arc<Fanout>);

impl Sources for Only {
    fn source(&self, _: Option<&ChannelId>) -> Result<Arc<Source>, AnswerError> {
        Ok(self.0.source().clone())
    }

    fn choices(&self) -> Option<Vec<Outgoing>> {
        let outgoing = self.0.outgoing();
        outgoing.iter().any(|outgoing| !outgoing.formats.is_empty()).then_some(outgoing)
    }

    fn chosen(&self, taken: &[Track]) -> Option<Box<dyn Send>> {
        self.0.settle(taken).map(|decided| Box::new(decided) as Box<dyn Send>)
    }
}

/// Connected as soon as one viewer is; new as long as there is none.
pub(super) fn state(viewers: &Viewers) -> ConnectionState {
    let states: Vec<_> = viewers.list().into_iter().map(|viewer| viewer.connection).collect();
    [ConnectionState::Connected, ConnectionState::Connecting, ConnectionState::Disconnected]
        .into_iter()
        .find(|state| states.contains(state))
        .unwrap_or(ConnectionState::New)
}

/// Tells the state of the connections whenever it may have changed.
pub(super) async fn follow(viewers: Viewers, watch: Watch) {
    let mut changes = viewers.changes();
    loop {
        changes.borrow_and_update();
        watch(state(&viewers));
        if changes.changed().await.is_err() {
            return;
        }
    }
}
