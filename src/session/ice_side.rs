//! Whose word began a session: the peer's, which then restarts ICE as it likes, or ours, and then the restart is ours too.

use std::sync::Arc;

use webrtc::peer_connection::PeerConnection;

use super::{
    IceChange, IceError, LocalIce, RemoteIce, caller_ice::CallerIce, mux::MuxHandle, reach::Reach, restart::IceAgent,
};

/// One connection's ICE after the descriptions.
pub(super) enum IceSide {
    /// The peer offered, and we answered.
    Answered(IceAgent),
    /// We offered, and the peer answered.
    Called(Box<CallerIce>),
}

impl IceSide {
    /// Takes what the peer tells of its ICE.
    pub(super) async fn tell(
        &mut self,
        connection: &dyn PeerConnection,
        told: RemoteIce,
    ) -> Result<IceChange, IceError> {
        match self {
            Self::Answered(ice) => ice.tell(connection, told).await,
            Self::Called(ice) => ice.tell(connection, told).await,
        }
    }

    /// Begins a restart of our own.
    pub(super) async fn offer_restart(&mut self, connection: &dyn PeerConnection) -> Result<LocalIce, IceError> {
        match self {
            Self::Answered(_) => Err(IceError::Refused("the offer was the peer's".into())),
            Self::Called(ice) => ice.offer_restart(connection).await,
        }
    }

    /// Uses further ways, which were not known when the descriptions were made.
    pub(super) async fn reach_by(&mut self, connection: &dyn PeerConnection, reach: Arc<Reach>) {
        match self {
            Self::Answered(_) => {} // who answers has his ways before
            Self::Called(ice) => ice.reach_by(connection, reach).await,
        }
    }

    /// Candidates that the peer does not know yet.
    pub(super) fn new_candidates(&mut self) -> Option<LocalIce> {
        match self {
            Self::Answered(_) => None, // nowhere to tell them: a server does not call its clients
            Self::Called(ice) => ice.new_candidates(),
        }
    }

    /// It knows them now.
    pub(super) fn candidates_told(&mut self) {
        match self {
            Self::Answered(_) => {}
            Self::Called(ice) => ice.candidates_told(),
        }
    }

    /// The connection's place on the shared port.
    pub(super) fn routes(&self) -> &MuxHandle {
        match self {
            Self::Answered(ice) => ice.routes(),
            Self::Called(ice) => ice.routes(),
        }
    }
}
