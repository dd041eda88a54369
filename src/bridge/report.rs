//! What is told of sessions: each change of a session's state, and a look at all that there are.

use std::time::{Duration, Instant};

use crate::{
    channel::{ChannelId, Displaced},
    session::{ConnectionState, EndReason, SessionStats},
    signaling::SessionId,
};

/// How it stands with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Its offer is being answered, its pipeline started, its peer connecting.
    Starting,
    /// Its peer is connected.
    Live,
    /// What is under way is brought to its end.
    Ending,
    /// It is over.
    Ended,
    /// It is over, and something was wrong.
    Failed,
}

impl SessionState {
    /// For messages and statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// A change of a session's state.
#[derive(Clone, Debug)]
pub struct SessionChange {
    /// Which session.
    pub id: SessionId,
    /// The channel that it publishes to.
    pub channel: ChannelId,
    /// What it has come to.
    pub state: SessionState,
    /// Why, once it ends.
    pub reason: String,
}

/// Hears of sessions. Called on a thread that may wait.
pub trait Observer: Send + Sync + 'static {
    /// A session's state changed.
    fn session(&self, report: &SessionChange);

    /// Something that peers are reached by does not work: a STUN or TURN server. Others may still connect. Called on the
    /// media thread, which must not wait.
    fn problem(&self, _why: &str) {}
}

/// A session as it is now.
pub struct SessionView {
    /// Which session.
    pub id: SessionId,
    /// The channel that it publishes to.
    pub channel: ChannelId,
    /// How it stands with it.
    pub state: SessionState,
    /// Since when it is there.
    pub since: Instant,
    /// Its connection's state.
    pub connection: ConnectionState,
    /// What its connection has received.
    pub received: Option<SessionStats>,
    /// The statistics of our elements in its pipeline: the element's name, its factory, and the structure.
    pub elements: Vec<(String, &'static str, gst::Structure)>,
    /// Packets that nothing in its pipeline took.
    pub discarded: u64,
}

/// Counts of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions that there are.
    pub sessions: usize,
    /// Of these, those that nobody has connected to yet.
    pub half_open: usize,
    /// Sessions that began.
    pub started: u64,
    /// Sessions that are over, with nothing wrong.
    pub ended: u64,
    /// Sessions in which something was wrong.
    pub failed: u64,
    /// Offers for which there was no room.
    pub refused: u64,
}

/// Why a session comes to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Its peer's connection is over.
    Peer(EndReason),
    /// Its pipeline came to its end by itself.
    PipelineEnded,
    /// Its pipeline failed.
    PipelineFailed(String),
    /// It has to go.
    Displaced(Displaced),
    /// The server is being drained, and closed at this time at the latest.
    Drained { until: Instant },
}

impl Over {
    /// What the session has come to once it is over.
    pub(super) fn state(&self) -> SessionState {
        match self {
            Self::PipelineFailed(_) | Self::Peer(EndReason::ConnectTimeout | EndReason::StackFailed) => {
                SessionState::Failed
            }
            _ => SessionState::Ended,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Peer(reason) => reason.as_str(),
            Self::PipelineEnded => "the pipeline has ended",
            Self::PipelineFailed(why) => why,
            Self::Displaced(Displaced::Replaced) => EndReason::Replaced.as_str(),
            Self::Displaced(Displaced::Stopped) => "the channel was stopped",
            Self::Drained { .. } => EndReason::Shutdown.as_str(),
        }
    }

    /// How long its pipeline has for bringing things to their end; `None` if it has failed, or its successor waits.
    pub(super) fn grace(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::PipelineFailed(_) | Self::PipelineEnded | Self::Displaced(Displaced::Replaced) => None,
            Self::Drained { until } => Some(until.saturating_duration_since(now).min(GOODBYE)),
            Self::Peer(_) | Self::Displaced(Displaced::Stopped) => Some(GOODBYE),
        }
    }
}

/// What a pipeline gets to come to its end: an RTMP server behind a slow line takes seconds for what is queued.
const GOODBYE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_can_say_goodbye_gets_time_for_it() {
        let now = Instant::now();
        let until = now + Duration::from_secs(3);
        assert_eq!(Over::Peer(EndReason::ClosedByPeer).grace(now), Some(GOODBYE));
        assert_eq!(Over::Displaced(Displaced::Stopped).grace(now), Some(GOODBYE));
        assert_eq!(Over::Drained { until }.grace(now), Some(Duration::from_secs(3)));
        assert_eq!(Over::Drained { until }.grace(until + GOODBYE), Some(Duration::ZERO));
        assert_eq!(Over::Displaced(Displaced::Replaced).grace(now), None);
        assert_eq!(Over::PipelineFailed("x".into()).grace(now), None);
    }

    #[test]
    fn what_was_wrong_is_a_failure_and_all_else_an_end() {
        assert_eq!(Over::PipelineFailed("x".into()).state(), SessionState::Failed);
        assert_eq!(Over::Peer(EndReason::ConnectTimeout).state(), SessionState::Failed);
        assert_eq!(Over::Peer(EndReason::ConnectionLost).state(), SessionState::Ended);
        assert_eq!(Over::Displaced(Displaced::Replaced).state(), SessionState::Ended);
    }
}
