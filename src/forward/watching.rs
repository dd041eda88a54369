//! A viewer's offer answered from a source, or countered by one of ours: the one way in for viewers, however they come.

use std::sync::Arc;

use super::source::{Joining, Source, Viewer};
use crate::{
    codec::MediaKind,
    session::{
        Answered, ConnectionState, DataSink, EndReason, Offering, Outgoing, PacketSink, RtpPacket, SenderReport, Sends,
        Session, SessionConfig, SessionError, Terms, Track, wanted_kinds,
    },
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
    /// What our offer said is not to be had any more.
    #[error("what is sent has changed since our offer was made; ask again")]
    Changed,
    /// The offer, or the stack.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Answers an offer to receive with what is published. Must run on the runtime that reads the mux. `peer_is_local`: the
/// request came over loopback. `data` hears what the viewer says by data channels; without it there are none. `guard` is
/// dropped when the session has ended, however it ends.
pub async fn watch(
    source: &Source,
    config: &SessionConfig,
    offer: &str,
    peer_is_local: bool,
    data: Option<Arc<dyn DataSink>>,
    guard: impl Send + 'static,
) -> Result<Watching, WatchError> {
    if !source.program().borrow().is_live {
        return Err(WatchError::NotLive);
    }
    let joining = source.join().wanting(wanted_kinds(offer));
    let sends = Sends { tracks: joining.tracks().to_vec(), events: joining.events(), receives: false };
    let terms = Terms { sends: Some(sends), data };
    let nothing_comes = |_: &[_]| -> Arc<dyn PacketSink> { Arc::new(NothingComes) };
    let answered = Session::exchange(config, offer, peer_is_local, terms, nothing_comes, guard).await?;
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

/// An offer of ours, which a viewer may answer. Dropping it is thinking better of it.
pub struct Invitation {
    joining: Joining,
    offering: Offering,
}

/// Offers what is published to a viewer whose own offer cannot be answered, or `choices` of it that are there before anybody
/// watches. Must run on the runtime that reads the mux.
pub async fn invite(
    source: &Source,
    config: &SessionConfig,
    peer_is_local: bool,
    data: Option<Arc<dyn DataSink>>,
    choices: Option<Vec<Outgoing>>,
) -> Result<Invitation, WatchError> {
    if choices.is_none() && !source.program().borrow().is_live {
        return Err(WatchError::NotLive);
    }
    let joining = source.join();
    let tracks = choices.unwrap_or_else(|| joining.tracks().to_vec());
    let is_offered = |kind: &MediaKind| tracks.iter().any(|track| track.kind == *kind && !track.formats.is_empty());
    let others = [MediaKind::Video, MediaKind::Audio].into_iter().filter(|kind| !is_offered(kind)).collect();
    let joining = joining.wanting(others);
    let sends = Sends { tracks, events: joining.events(), receives: false };
    let offering = Offering::with(config, peer_is_local, Terms { sends: Some(sends), data }).await?;
    Ok(Invitation { joining, offering })
}

impl Invitation {
    /// The SDP offer, with candidates.
    pub fn sdp(&self) -> &str {
        self.offering.sdp()
    }

    /// Takes the answer. `choose` hears what it takes, and says no if that is not to be had any more; what it returns is held
    /// until the viewer is there. `guard` is dropped when the session has ended, also if it comes to none.
    pub async fn answered<T>(
        self,
        answer: &str,
        choose: impl FnOnce(&[Track]) -> Option<T>,
        guard: impl Send + 'static,
    ) -> Result<Watching, WatchError> {
        let Self { joining, offering } = self;
        let session = offering.answered(answer, Arc::new(NothingComes), |_, _| {}, guard).await?;
        let Some(_chosen) = choose(session.outgoing()) else {
            session.close(EndReason::Shutdown).await;
            return Err(WatchError::Changed);
        };
        match joining.begin_session(&session) {
            Some(viewer) => Ok(Watching { session, sdp: answer.to_owned(), viewer }),
            None => {
                session.close(EndReason::Shutdown).await;
                Err(WatchError::NotLive)
            }
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
