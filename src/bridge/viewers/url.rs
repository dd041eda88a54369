//! A viewer's session as its URL sees it, from the answer on or from an offer of ours on that still waits for one.

use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{super::signaled::Signaled, Newcomer, lock};
use crate::{
    forward::Invitation,
    session::Track,
    signaling::{
        AnswerError, IceFragment, IceRefused, IceUpdated, LayerLimits, Program, SessionId, SessionLease,
        SignaledSession, Viewing,
    },
};

/// What passes between a viewer's task and his session's URL.
#[derive(Default)]
pub(super) struct Told {
    pub(super) program: watch::Sender<Program>,
    pub(super) limits: watch::Sender<LayerLimits>,
    pub(super) ended: Arc<OnceLock<&'static str>>,
}

/// Somebody who may answer an offer of ours.
pub(super) struct Invited {
    pub(super) newcomer: Newcomer,
    pub(super) invitation: Invitation,
    pub(super) lease: SessionLease,
}

/// The session as its URL sees it.
pub(super) struct ViewerSession {
    pub(super) id: SessionId,
    pub(super) told: Told,
    /// Once there is one.
    pub(super) signaled: OnceLock<Signaled>,
    /// Until there is.
    pub(super) invited: Option<Arc<Mutex<Option<Invited>>>>,
}

#[async_trait]
impl SignaledSession for ViewerSession {
    async fn close(&self) {
        if let Some(invited) = &self.invited {
            drop(lock(invited).take());
        }
        if let Some(signaled) = self.signaled.get() {
            signaled.close().await;
        }
    }

    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused> {
        match self.signaled.get() {
            Some(signaled) => signaled.update_ice(fragment).await,
            None => Err(IceRefused::Unacceptable("our offer has not been answered yet".into())),
        }
    }

    fn ice_session_tag(&self) -> String {
        // As it will be.
        self.signaled.get().map_or_else(|| Signaled::first_tag(&self.id), Signaled::ice_session_tag)
    }

    fn end_reason(&self) -> Option<&'static str> {
        self.told.ended.get().copied()
    }

    fn viewing(&self) -> Option<&dyn Viewing> {
        Some(self)
    }
}

#[async_trait]
impl Viewing for ViewerSession {
    async fn answered(&self, sdp: &str) -> Result<(), AnswerError> {
        let invited = self.invited.as_ref().and_then(|invited| lock(invited).take());
        let Some(Invited { newcomer, invitation, lease }) = invited else {
            return Err(AnswerError::Unacceptable("no offer of ours waits for an answer".into()));
        };
        let (shared, sdp) = (newcomer.shared.clone(), sdp.to_owned());
        let sources = shared.sources.clone();
        let choose = move |taken: &[Track]| sources.chosen(taken);
        let answering = async move { Box::pin(invitation.answered(&sdp, choose, lease)).await };
        let signaled = newcomer.attend(shared.on_media(answering).await??, &self.told).await?;
        let _ = self.signaled.set(signaled); // there is one answer
        Ok(())
    }

    fn program(&self) -> watch::Receiver<Program> {
        self.told.program.subscribe()
    }

    fn limit_layers(&self, limits: LayerLimits) {
        self.told.limits.send_replace(limits);
    }
}
