//! One session, from its offer to its end: a task that owns all of it.
//!
//! ```text
//!   offer ─▶ place ─▶ channel ─▶ pipeline ─▶ answer ─▶ live ─▶ ending ─▶ over
//!               refused: 503       409, 503   500       400, 422    EOS, bounded   NULL; channel and place are free
//! ```

mod begin;
mod running;
mod signaled;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    pipeline::{Event, SessionPipeline},
    sessions::Shared,
};
use crate::{
    session::EndReason,
    signaling::{Answer, AnswerError, Offer, abbreviate},
};

pub(super) use begin::{incoming, what_is_sent, who_hears};

/// What a pipeline gets to stop before the session is over without it.
const STOPPING: Duration = Duration::from_secs(10);

/// A session's pipeline and what it says; nothing when the session needs none.
type Started = Option<(Arc<SessionPipeline>, mpsc::Receiver<Event>)>;

/// Answers an offer, and runs what comes of it.
pub(super) async fn run(shared: Arc<Shared>, offer: Offer, tell: oneshot::Sender<Result<Answer, AnswerError>>) {
    match begin::begin(&shared, offer).await {
        Err(error) => {
            let _ = tell.send(Err(error));
        }
        Ok((answer, running)) => {
            let unheard = tell.send(Ok(answer)).is_err();
            if unheard {
                debug!(session = abbreviate(running.id().as_str()), "nobody waits for the answer any more");
                running.session.close(EndReason::ClosedByPeer).await;
            }
            running.run().await;
        }
    }
}

async fn stop(pipeline: &Arc<SessionPipeline>) {
    let stopping = pipeline.clone();
    if timeout(STOPPING, tokio::task::spawn_blocking(move || stopping.stop())).await.is_err() {
        warn!("a session's pipeline does not stop; it is left alone");
    }
}
