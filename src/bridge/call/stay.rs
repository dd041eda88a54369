//! A stay in a signaling server's channel: a connection to whoever else is there, for as long as both are.

use std::{
    ops::ControlFlow::{self, Break, Continue},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep_until};

use super::{
    CallConfig, CallState, GOODBYE, Orders,
    meeting::{Do, Meeting},
    patience::{Next, Patience},
    talk::{Talk, TalkError},
    task::{LOST, Task, stopped},
};
use crate::{
    session::{ConnectionState, EndReason},
    signaling::client::{
        ClientError, Verdict,
        socket::{Room, RoomEvent, Tell},
    },
};

/// How often this machine's addresses are looked at.
const LOOK: Duration = Duration::from_secs(5);

const NEVER: &str = "no media connection to the other peer came about: UDP may be blocked on the way";
const GONE: &str = "the other peer has gone";
const UNANSWERED: &str = "the other peer has not answered our offer";
const MISSED: &str = "the other peer has not come back";
/// What a server that ends says to everybody.
const SHUTDOWN: &str = "shutdown";

/// How a stay in the channel ends.
pub(super) enum Left {
    /// We are told to stop.
    Stopped,
    /// It is over: nothing follows.
    Over(String),
    /// The server is gone, or has put us out.
    Failed(Verdict, String),
}

/// A stay in the channel.
pub(super) struct Stay<'a> {
    task: &'a Task,
    config: &'a CallConfig,
    is_local: bool,
    patience: &'a mut Patience,
    room: Room,
    meeting: Meeting,
    /// The connection, which may be older than the stay and outlive it.
    talk: &'a mut Option<Talk>,
    /// What becomes of the connection, if there is one.
    states: Option<watch::Receiver<ConnectionState>>,
    is_live: bool,
    /// When this machine's addresses are looked at next.
    look: Option<Instant>,
    /// When it is tried again, and what is done then.
    retry: Option<(Instant, Do)>,
}

/// What happens next.
enum Event {
    Room(Result<RoomEvent, ClientError>),
    State(ConnectionState),
    Look,
    Retry,
    Unanswered,
    Missed,
    Stop,
}

impl<'a> Stay<'a> {
    pub(super) fn new(
        task: &'a Task,
        config: &'a CallConfig,
        is_local: bool,
        patience: &'a mut Patience,
        room: Room,
        talk: &'a mut Option<Talk>,
    ) -> Self {
        let (meeting, states) = (Meeting::new(room.me()), talk.as_ref().and_then(Talk::states));
        let is_live = talk.is_some();
        Self { task, config, is_local, patience, room, meeting, talk, states, is_live, look: None, retry: None }
    }

    /// To its end; what is well of the connection to the other peer then stays.
    pub(super) async fn run(mut self, orders: &mut watch::Receiver<Orders>) -> Left {
        if self.is_live {
            self.meeting.keep();
            self.look = Some(Instant::now() + LOOK);
            self.task.tell(CallState::Live).await;
        } else {
            self.task.tell(CallState::Waiting).await;
        }
        let left = loop {
            if let Break(left) = self.turn(orders).await {
                break left;
            }
        };
        let failed = matches!(left, Left::Failed(..));
        if let Some(ended) = self.talk.take_if(|talk| !failed || !talk.is_healthy()) {
            let had_media = ended.end(self.config, EndReason::Shutdown).await;
            if failed {
                let _ = self.patience.ended(had_media, false, Instant::now(), rand::random());
            }
        }
        // After what there was to be said to the other peer, who hangs up when he hears of it.
        if !failed {
            let _ = tokio::time::timeout(GOODBYE, self.room.leave()).await;
        }
        left
    }

    /// Waits for what happens next, and does what there is to be done.
    async fn turn(&mut self, orders: &mut watch::Receiver<Orders>) -> ControlFlow<Left> {
        let to_do = match self.next(orders).await {
            Event::Stop => return Break(Left::Stopped),
            Event::Missed => return Break(Left::Over(MISSED.into())),
            Event::Room(Ok(event)) => self.hear(event).await?,
            Event::Room(Err(error)) => return failed(&error),
            Event::State(state) => return self.changed(state).await,
            Event::Unanswered => return self.try_again(EndReason::ConnectTimeout, UNANSWERED.into()).await,
            Event::Retry => self.retry.take().map_or(Do::Nothing, |(_, to_do)| to_do),
            Event::Look => {
                self.look = Some(Instant::now() + LOOK);
                return match self.tell_news().await {
                    Ok(()) => Continue(()),
                    Err(error) => failed(&error),
                };
            }
        };
        self.act(to_do).await
    }

    async fn next(&mut self, orders: &mut watch::Receiver<Orders>) -> Event {
        // Somebody may be asked first, in front of his browser.
        let patience = self.config.session.connect_timeout * 3;
        let unanswered = self.talk.as_ref().and_then(Talk::unanswered).map(|since| since + patience);
        let retry = self.retry.as_ref().map(|(when, _)| *when);
        tokio::select! {
            event = self.room.next() => Event::Room(event),
            state = changed(&mut self.states) => Event::State(state),
            () = at(self.look) => Event::Look,
            () = at(retry) => Event::Retry,
            () = at(unanswered) => Event::Unanswered,
            () = at(self.patience.deadline().filter(|_| !self.is_live)) => Event::Missed,
            () = stopped(orders) => Event::Stop,
        }
    }

    /// What the server has told, or somebody by it.
    async fn hear(&mut self, event: RoomEvent) -> ControlFlow<Left, Do> {
        match event {
            // The server is restarted, as far as is known.
            RoomEvent::Closed(reason) if reason == SHUTDOWN => {
                Break(Left::Failed(Verdict::Retry(None), "the signaling server is closing".into()))
            }
            RoomEvent::Closed(reason) => {
                let had_media = self.hang_up(EndReason::ClosedByPeer).await;
                let reason = format!("the channel is closed: {reason}");
                Break(match self.patience.ended(had_media, true, Instant::now(), rand::random()) {
                    Next::End => Left::Over(reason),
                    _ => Left::Failed(Verdict::Retry(None), reason),
                })
            }
            RoomEvent::Refused { code, message } => {
                tracing::warn!(code, message, "the signaling server refuses what it was told");
                Continue(Do::Nothing)
            }
            RoomEvent::Candidate { from, candidate } => {
                if let (Some(talk), true) = (self.talk.as_mut(), self.meeting.partner() == Some(from.as_str())) {
                    talk.trickle(candidate).await;
                }
                Continue(Do::Nothing)
            }
            event => Continue(self.meeting.hear(event)),
        }
    }

    /// What has become of the connection.
    async fn changed(&mut self, state: ConnectionState) -> ControlFlow<Left> {
        if state == ConnectionState::Connected && !self.is_live {
            self.is_live = true;
            self.look = Some(Instant::now() + LOOK);
            self.patience.connected();
            self.task.tell(CallState::Live).await;
        } else if state.is_over() {
            let reason = if self.is_live { LOST } else { NEVER };
            return self.try_again(EndReason::ConnectionLost, reason.into()).await;
        }
        Continue(())
    }

    async fn act(&mut self, to_do: Do) -> ControlFlow<Left> {
        let done = match to_do {
            Do::Nothing => return Continue(()),
            Do::Lost if self.is_live && self.talk.as_ref().is_some_and(Talk::is_healthy) => {
                tracing::info!(url = self.task.url, "the server has lost the other peer; the connection to him stays");
                self.meeting.keep();
                return Continue(());
            }
            Do::Gone | Do::Lost => {
                let had_media = self.hang_up(EndReason::ClosedByPeer).await;
                if self.patience.ended(had_media, true, Instant::now(), rand::random()) == Next::End {
                    return Break(Left::Over(GONE.into()));
                }
                self.task.tell(CallState::Waiting).await;
                return Continue(());
            }
            Do::Offer => {
                self.hang_up(EndReason::Replaced).await;
                self.offer().await
            }
            Do::Answer(offer) => {
                self.hang_up(EndReason::Replaced).await;
                self.answer(&offer).await
            }
            Do::Take(answer) => match self.talk.as_mut() {
                Some(talk) => talk.answered(self.config, answer).await.map_err(Trouble::Talk),
                None => return Continue(()),
            },
        };
        match done {
            Ok(()) => {
                self.states = self.talk.as_ref().and_then(Talk::states);
                if let Some(states) = &mut self.states {
                    states.mark_changed(); // it may have come further already
                    self.task.counters.sessions.fetch_add(1, Relaxed);
                }
                Continue(())
            }
            Err(Trouble::Room(error)) => failed(&error),
            Err(Trouble::Talk(error)) => self.try_again(EndReason::Shutdown, error.to_string()).await,
        }
    }

    async fn offer(&mut self) -> Result<(), Trouble> {
        self.meeting.offered();
        let Some(partner) = self.meeting.partner() else { return Ok(()) };
        let (made, sdp) = Talk::offer(self.config, &self.task.peer, self.is_local).await?;
        *self.talk = Some(made);
        Ok(self.room.tell(partner, &Tell::Offer(sdp)).await?)
    }

    async fn answer(&mut self, offer: &str) -> Result<(), Trouble> {
        let Some(partner) = self.meeting.partner() else { return Ok(()) };
        let (made, sdp) = Talk::answer(self.config, &self.task.peer, self.is_local, offer).await?;
        *self.talk = Some(made);
        Ok(self.room.tell(partner, &Tell::Answer(sdp)).await?)
    }

    /// Tells the other peer of addresses that this machine has got.
    async fn tell_news(&mut self) -> Result<(), ClientError> {
        let (Some(talk), Some(partner)) = (self.talk.as_ref(), self.meeting.partner()) else { return Ok(()) };
        for candidate in talk.new_candidates().await {
            self.room.tell(partner, &Tell::Candidate(candidate)).await?;
        }
        Ok(())
    }

    /// No connection came about, or the one that there was is over: another one is tried for later, unless this is the end.
    async fn try_again(&mut self, ended: EndReason, reason: String) -> ControlFlow<Left> {
        let had_media = self.hang_up(ended).await;
        let Next::Retry(after) = self.patience.ended(had_media, false, Instant::now(), rand::random()) else {
            return Break(Left::Over(reason));
        };
        self.task.tell(CallState::Retrying { reason, after }).await;
        let to_do = self.meeting.again();
        self.retry = (to_do != Do::Nothing).then(|| (Instant::now() + after, to_do));
        Continue(())
    }

    /// Ends the connection that there is, and no other one is waited for; whether it had media.
    async fn hang_up(&mut self, reason: EndReason) -> bool {
        (self.states, self.is_live, self.look, self.retry) = (None, false, None, None);
        match self.talk.take() {
            Some(talk) => talk.end(self.config, reason).await,
            None => false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error(transparent)]
    Room(#[from] ClientError),
}

fn failed(error: &ClientError) -> ControlFlow<Left> {
    Break(Left::Failed(error.verdict(), error.to_string()))
}

/// The connection's next state; nothing, ever, if there is none.
async fn changed(states: &mut Option<watch::Receiver<ConnectionState>>) -> ConnectionState {
    match states {
        Some(states) => match states.changed().await {
            Ok(()) => *states.borrow_and_update(),
            Err(_) => ConnectionState::Closed,
        },
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
