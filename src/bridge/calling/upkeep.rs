//! What a client asks of its server while a session is there: an ICE restart when the connection breaks, and to take note
//! of addresses that this machine has got. When is pure policy, with time and chance as arguments; [`ask`] does it.

use std::time::{Duration, Instant};

use tracing::debug;

use crate::{
    backoff::Backoff,
    bridge::{ours, told},
    session::{ConnectionState, IceChange, IceError, Session},
    signaling::client::{ClientError, Resource, Verdict},
};

/// How often this machine's addresses are looked at: a restart does not wait for it.
const LOOK: Duration = Duration::from_secs(5);
/// Between restarts that did not get through. The session is given up soon.
const SHORTEST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(2);

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To restart ICE.
    Restart,
    /// To take further candidates, if there are any.
    Trickle,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There was nothing to say, or it was said.
    Done,
    /// ICE is restarted.
    Restarted,
    /// This server does not do that.
    Unsupported,
    /// Not now. A server's own wish comes with it.
    Later(Option<Duration>),
    /// The server has no such session any more, or it can't be gone on with.
    Over,
}

/// When to ask what, in one session.
#[derive(Debug)]
pub(super) struct Upkeep {
    backoff: Backoff,
    restarts: bool,
    connected: bool,
    restart: Option<Instant>,
    look: Instant,
}

impl Upkeep {
    pub(super) fn new(now: Instant) -> Self {
        let backoff = Backoff::new(SHORTEST, LONGEST);
        Self { backoff, restarts: true, connected: false, restart: None, look: now + LOOK }
    }

    /// How the connection is.
    pub(super) fn state(&mut self, state: ConnectionState, now: Instant) {
        match state {
            ConnectionState::Disconnected if self.restarts => _ = self.restart.get_or_insert(now),
            ConnectionState::Connected => {
                self.backoff.reset();
                (self.connected, self.restart) = (true, None);
            }
            _ => self.restart = None,
        }
    }

    /// What is due next, and when.
    pub(super) fn next(&self) -> Option<(Instant, Request)> {
        let trickle = self.connected.then_some((self.look, Request::Trickle));
        self.restart.map(|at| (at, Request::Restart)).or(trickle)
    }

    /// What a request came to.
    pub(super) fn asked(&mut self, request: Request, outcome: Outcome, now: Instant, random: f64) {
        match (request, outcome) {
            (Request::Trickle, _) => self.look = now + LOOK,
            (Request::Restart, Outcome::Unsupported) => (self.restarts, self.restart) = (false, None),
            (Request::Restart, Outcome::Later(wish)) if self.restart.is_some() => {
                self.restart = Some(now + self.backoff.next_delay(random).max(wish.unwrap_or_default()));
            }
            (Request::Restart, _) => self.restart = None,
        }
    }
}

/// Asks. Once begun it has to be brought to its end: a server that has restarted ICE waits for us to do so.
pub(super) async fn ask(request: Request, session: Session, resource: Resource) -> Outcome {
    match request {
        Request::Restart => restart(&session, &resource).await,
        Request::Trickle => trickle(&session, &resource).await,
    }
}

async fn restart(session: &Session, resource: &Resource) -> Outcome {
    let offered = match session.offer_restart().await {
        Ok(offered) => offered,
        Err(IceError::Over) => return Outcome::Over,
        Err(error) => {
            debug!("no ICE restart: {error}");
            return Outcome::Unsupported;
        }
    };
    match resource.restart_ice(&ours(offered)).await {
        Ok(None) => Outcome::Unsupported,
        Ok(Some(fragment)) => match session.update_ice(told(fragment)).await {
            Ok(IceChange::Restarted(_)) => Outcome::Restarted,
            Ok(IceChange::Trickled) => Outcome::Done,
            Err(error) => {
                debug!("the server's ICE restart cannot be used: {error}");
                Outcome::Over
            }
        },
        Err(error) => failed(&error),
    }
}

async fn trickle(session: &Session, resource: &Resource) -> Outcome {
    let Some(news) = session.new_candidates().await else { return Outcome::Done };
    let outcome = match resource.trickle(&ours(news)).await {
        Ok(_) => Outcome::Done,
        Err(error) => failed(&error),
    };
    // A server that does not want them need not hear of them again.
    if !matches!(outcome, Outcome::Later(_)) {
        session.candidates_told().await;
    }
    outcome
}

fn failed(error: &ClientError) -> Outcome {
    debug!("the server was not reached about ICE: {error}");
    match error.verdict() {
        Verdict::Retry(wish) => Outcome::Later(wish),
        Verdict::NoStream => Outcome::Over,
        Verdict::Final => Outcome::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn connected() -> (Upkeep, Instant) {
        let now = Instant::now();
        let mut upkeep = Upkeep::new(now);
        assert_eq!(upkeep.next(), None, "the offer has just told all there is");
        upkeep.state(ConnectionState::Connected, now);
        (upkeep, now)
    }

    #[test]
    fn addresses_are_looked_at_now_and_then_while_there_is_a_connection() {
        let (mut upkeep, now) = connected();
        assert_eq!(upkeep.next(), Some((now + LOOK, Request::Trickle)));
        upkeep.asked(Request::Trickle, Outcome::Later(None), now + LOOK, 0.5);
        assert_eq!(upkeep.next(), Some((now + LOOK * 2, Request::Trickle)));
    }

    #[test]
    fn a_connection_that_breaks_is_restarted_at_once_and_again_until_the_server_hears_of_it() {
        let (mut upkeep, now) = connected();
        upkeep.state(ConnectionState::Disconnected, now);
        assert_eq!(upkeep.next(), Some((now, Request::Restart)));
        upkeep.asked(Request::Restart, Outcome::Later(None), now, 0.5);
        assert_eq!(upkeep.next(), Some((now + ms(300), Request::Restart)));
        upkeep.state(ConnectionState::Disconnected, now + ms(1));
        upkeep.asked(Request::Restart, Outcome::Later(Some(ms(1500))), now, 0.5);
        assert_eq!(upkeep.next(), Some((now + ms(1500), Request::Restart)), "the server's wish");
        upkeep.asked(Request::Restart, Outcome::Restarted, now, 0.5);
        assert_ne!(upkeep.next().map(|(_, request)| request), Some(Request::Restart));
        upkeep.state(ConnectionState::Disconnected, now);
        assert_eq!(upkeep.next(), Some((now, Request::Restart)), "the next time it breaks");
    }

    #[test]
    fn a_connection_that_comes_back_by_itself_is_let_alone() {
        let (mut upkeep, now) = connected();
        upkeep.state(ConnectionState::Disconnected, now);
        upkeep.state(ConnectionState::Connected, now);
        upkeep.asked(Request::Restart, Outcome::Later(None), now, 0.5); // it was on its way
        assert_eq!(upkeep.next().map(|(_, request)| request), Some(Request::Trickle));
    }

    #[test]
    fn a_server_that_cannot_restart_is_not_asked_again() {
        let (mut upkeep, now) = connected();
        upkeep.state(ConnectionState::Disconnected, now);
        upkeep.asked(Request::Restart, Outcome::Unsupported, now, 0.5);
        upkeep.state(ConnectionState::Connected, now);
        upkeep.state(ConnectionState::Disconnected, now);
        assert_eq!(upkeep.next().map(|(_, request)| request), Some(Request::Trickle));
    }
}
