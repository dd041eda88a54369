//! A viewer's offer answered from a source: the one way in for viewers, however their offers come.

use std::sync::Arc;

use super::source::{Source, Viewer};
use crate::session::{
    Answered, ConnectionState, EndReason, PacketSink, RtpPacket, SenderReport, Sends, Session, SessionConfig,
    SessionError,
};

/// A viewer that has been answered. It watches until it is dropped.
pub struct Watching {
    /// Its session.
    pub session: Session,
    /// The SDP answer, with candidates.
    pub sdp: String,
    /// Its place at the source.
    pub viewer: Viewer,
}

/// Why there is nothing to watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Nobody publishes.
    #[error("nobody is live there")]
    NotLive,
    /// The offer, or the stack.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Answers an offer to receive with what is published. Must run on the runtime that reads the mux. `peer_is_local`: the
/// request came over loopback. `guard` is dropped when the session has ended, however it ends.
pub async fn watch(
    source: &Source,
    config: &SessionConfig,
    offer: &str,
    peer_is_local: bool,
    guard: impl Send + 'static,
) -> Result<Watching, WatchError> {
    if !source.program().borrow().is_live {
        return Err(WatchError::NotLive);
    }
    let joining = source.join();
    let sends = Sends { tracks: joining.tracks().to_vec(), events: joining.events(), receives: false };
    let nothing_comes = |_: &[_]| -> Arc<dyn PacketSink> { Arc::new(NothingComes) };
    let answered = Session::exchange(config, offer, peer_is_local, Some(sends), nothing_comes, guard).await?;
    match joining.begin(&answered) {
        Some(viewer) => {
            let Answered { session, sdp, .. } = answered;
            Ok(Watching { session, sdp, viewer })
        }
        // The source has gone meanwhile.
        None => {
            answered.session.close(EndReason::Shutdown).await;
            Err(WatchError::NotLive)
        }
    }
}

/// Viewers send no media, and what becomes of their connections is seen elsewhere.
struct NothingComes;

impl PacketSink for NothingComes {
    fn rtp(&self, _: usize, _: RtpPacket) {}
    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}
