//! The session as its URL sees it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::timeout};

use crate::{
    bridge::signaled::Signaled,
    signaling::{IceFragment, IceRefused, IceUpdated, SignaledSession},
};

/// What the end of a session gets before whoever asked for it is told that it is over: an RTMP server takes a fraction of it.
const LEAVING: Duration = Duration::from_secs(2);

/// A publisher's session: whoever ends it hears of that when its pipeline is gone as well.
pub(super) struct Published {
    pub(super) signaled: Signaled,
    pub(super) gone: watch::Receiver<()>,
    pub(super) ended: Arc<OnceLock<&'static str>>,
}

#[async_trait]
impl SignaledSession for Published {
    async fn close(&self) {
        self.signaled.close().await;
        // Whoever publishes again at once shall find the RTMP server free as well.
        let mut gone = self.gone.clone();
        let _ = timeout(LEAVING, async { while gone.changed().await.is_ok() {} }).await;
    }

    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused> {
        self.signaled.update_ice(fragment).await
    }

    fn ice_session_tag(&self) -> String {
        self.signaled.ice_session_tag()
    }

    fn end_reason(&self) -> Option<&'static str> {
        self.ended.get().copied()
    }
}
