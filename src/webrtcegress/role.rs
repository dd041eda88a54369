//! What a started element does: serve viewers, push to a server, or send to the peer of the session around it.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    answerer::{Answerer, Only, Watch, follow},
    fanout::Fanout,
    settings::ResolvedRole,
};
use crate::{
    bridge::{Viewers, ViewersConfig},
    session::SessionConfig,
    signaling::{Mount, mount_viewers},
};

/// What all roles are made of.
pub(super) struct Parts {
    pub(super) media: Handle,
    pub(super) http: Handle,
    pub(super) config: SessionConfig,
    pub(super) fanout: Arc<Fanout>,
    pub(super) watch: Watch,
}

/// What a started element does.
pub(super) enum Role {
    /// Serves.
    Server { mount: Mount, viewers: Viewers, http: Handle, following: AbortHandle },
}

/// How long stopping waits for sessions to close, which takes the network's part 100 ms at most.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl Role {
    /// Begins to serve or to call; the error says which setting is wrong.
    pub(super) fn start(resolved: ResolvedRole, parts: Parts) -> Result<Self, String> {
        let Parts { media, http, config, fanout, watch } = parts;
        match resolved {
            ResolvedRole::Server { endpoint, max_viewers } => {
                let config = ViewersConfig { session: config, media, http: http.clone() };
                let viewers = Viewers::new(config, Arc::new(Only(fanout.clone())));
                let answerer = Answerer { fanout, viewers: viewers.clone() };
                let mount = mount_viewers(&http, endpoint, Arc::new(answerer), max_viewers)
                    .map_err(|error| error.to_string())?;
                let following = http.spawn(follow(viewers.clone(), watch)).abort_handle();
                Ok(Self::Server { mount, viewers, http, following })
            }
            ResolvedRole::Client(_) => Err("whip:// is not there yet".into()),
        }
    }

    /// The endpoint, if it serves one.
    pub(super) fn listening(&self) -> Option<String> {
        match self {
            Self::Server { mount, .. } => Some(mount.url()),
        }
    }

    /// What its user should be warned of.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Server { mount, .. } => mount.warning(),
        }
    }

    /// Viewers that are there, and how many there have been.
    pub(super) fn viewers(&self) -> (usize, u64) {
        match self {
            Self::Server { viewers, .. } => (viewers.count(), viewers.started()),
        }
    }

    /// Ends the sessions that are there, in the background, and lets no other follow.
    pub(super) fn end(&self) -> Ending {
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
                Ending(closed)
            }
        }
    }
}

/// An end under way: the receiver is disconnected when all sessions have closed.
pub(super) struct Ending(mpsc::Receiver<()>);

impl Ending {
    /// Waits for it, not long.
    pub(super) fn wait(self) {
        let _: Result<(), _> = self.0.recv_timeout(CLOSE_TIMEOUT);
    }
}
