//! The task of a call: calls the server, stays in the channel, and keeps a connection to whoever else is there.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep_until};

use super::{
    CallConfig, CallObserver, CallState, Counters, GOODBYE, Orders,
    meeting::{Do, Meeting},
    patience::{Next, Patience},
    talk::{Talk, TalkError},
};
use crate::{
    bridge::Peer,
    session::{ConnectionState, EndReason},
    signaling::client::{
        ClientError, Verdict,
        socket::{Room, RoomEvent, SocketClient, Tell},
    },
};

/// How often this machine's addresses are looked at.
const LOOK: Duration = Duration::from_secs(5);

const LOST: &str = "the connection to the other peer was lost";
const NEVER: &str = "no media connection to the other peer came about: UDP may be blocked on the way";
const GONE: &str = "the other peer has gone";
const STOPPED: &str = "it was stopped here";
const UNANSWERED: &str = "the other peer has not answered our offer";
/// What a server that ends says to everybody.
const SHUTDOWN: &str = "shutdown";
const MISSED: &str = "the other peer has not come back";

pub(super) struct Task {
    pub(super) client: SocketClient,
    pub(super) config: Arc<Mutex<CallConfig>>,
    pub(super) peer: Peer,
    pub(super) url: String,
    pub(super) counters: Arc<Counters>,
    pub(super) observers: Arc<Mutex<Vec<Arc<dyn CallObserver>>>>,
    /// Dropped when the last goodbye is said.
    pub(super) _alive: mpsc::Sender<()>,
}

/// How a stay in the channel ends.
enum Left {
    /// We are told to stop.
    Stopped,
    /// It is over: nothing follows.
    Over(String),
    /// The server is gone, or has put us out.
    Failed(Verdict, String),
}

impl Task {
    pub(super) async fn run(self, mut orders: watch::Receiver<Orders>) {
        // An error says that nobody wants it any more.
        let begun = orders.wait_for(|orders| orders.begin || orders.stop).await.map(|orders| *orders);
        if begun.is_ok_and(|orders| !orders.stop) {
            let last = self.call(&mut orders).await;
            self.tell(last).await;
        }
    }

    /// Calls until it is over; how it ended.
    async fn call(&self, orders: &mut watch::Receiver<Orders>) -> CallState {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A connection outlives the one to the server if it is well.
        let mut talk = None;
        let last = self.until_over(&config, &mut talk, orders).await;
        if let Some(talk) = talk {
            talk.end(&config, EndReason::Shutdown).await;
        }
        last
    }

    async fn until_over(
        &self,
        config: &CallConfig,
        talk: &mut Option<Talk>,
        orders: &mut watch::Receiver<Orders>,
    ) -> CallState {
        let mut patience = Patience::new(config.ends);
        loop {
            if talk.is_none() {
                self.tell(CallState::Connecting).await;
            }
            self.counters.attempts.fetch_add(1, Relaxed);
            let joined = tokio::select! {
                joined = Box::pin(self.client.join()) => joined,
                () = over(talk) => match self.lost(config, talk, &mut patience).await {
                    Next::Retry(_) => continue,
                    Next::End | Next::Fail => return self.end(LOST.into()),
                },
                () = stopped(orders) => return CallState::Stopped { reason: STOPPED.into() },
            };
            let left = match joined {
                Ok(room) => {
                    let is_local = self.client.is_local().await;
                    let stay = Stay { task: self, config, is_local, patience: &mut patience };
                    Box::pin(stay.run(room, talk, orders)).await
                }
                Err(error) => Left::Failed(error.verdict(), error.to_string()),
            };
            let (next, reason) = match left {
                Left::Stopped => return CallState::Stopped { reason: STOPPED.into() },
                Left::Over(reason) => return self.end(reason),
                Left::Failed(verdict, reason) => (patience.failed(verdict, Instant::now(), rand::random()), reason),
            };
            let after = match next {
                Next::Retry(after) => after,
                Next::End => return self.end(reason),
                Next::Fail => return CallState::Refused { reason },
            };
            self.tell(CallState::Retrying { reason, after }).await;
            tokio::select! {
                () = tokio::time::sleep(after) => {}
                () = over(talk) => match self.lost(config, talk, &mut patience).await {
                    Next::Retry(_) => {}
                    Next::End | Next::Fail => return self.end(LOST.into()),
                },
                () = stopped(orders) => return CallState::Stopped { reason: STOPPED.into() },
            }
        }
    }

    /// The connection that was kept is over.
    async fn lost(&self, config: &CallConfig, talk: &mut Option<Talk>, patience: &mut Patience) -> Next {
        let had_media = match talk.take() {
            Some(talk) => talk.end(config, EndReason::ConnectionLost).await,
            None => false,
        };
        patience.ended(had_media, false, Instant::now(), rand::random())
    }

    fn end(&self, reason: String) -> CallState {
        self.peer.end_of_stream();
        CallState::Stopped { reason }
    }

    /// Tells of a change. Returns when that is done: whoever listens may take his time, which must not be this thread's.
    async fn tell(&self, state: CallState) {
        let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tracing::debug!(url = self.url, state = state.name(), reason = state.reason(), "call");
        let _ = spawn_blocking(move || observers.iter().for_each(|observer| observer.changed(&state))).await;
    }
}

/// A stay in the channel.
struct Stay<'a> {
    task: &'a Task,
    config: &'a CallConfig,
    is_local: bool,
    patience: &'a mut Patience,
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

impl Stay<'_> {
    /// To its end; what is well of the connection to the other peer then stays.
    async fn run(mut self, mut room: Room, talk: &mut Option<Talk>, orders: &mut watch::Receiver<Orders>) -> Left {
        let mut meeting = Meeting::new(room.me());
        let left = self.stay(&mut room, &mut meeting, talk, orders).await;
        let failed = matches!(left, Left::Failed(..));
        if let Some(ended) = talk.take_if(|talk| !failed || !talk.is_healthy()) {
            let had_media = ended.end(self.config, EndReason::Shutdown).await;
            if failed {
                let _ = self.patience.ended(had_media, false, Instant::now(), rand::random());
            }
        }
        // After what there was to be said to the other peer, who hangs up when he hears of it.
        if !failed {
            let _ = tokio::time::timeout(GOODBYE, room.leave()).await;
        }
        left
    }

    async fn stay(
        &mut self,
        room: &mut Room,
        meeting: &mut Meeting,
        talk: &mut Option<Talk>,
        orders: &mut watch::Receiver<Orders>,
    ) -> Left {
        let mut is_live = talk.is_some();
        let (mut states, mut look, mut retry) = (talk.as_ref().and_then(Talk::states), None, None);
        if is_live {
            meeting.keep();
            look = Some(Instant::now() + LOOK);
            self.task.tell(CallState::Live).await;
        } else {
            self.task.tell(CallState::Waiting).await;
        }
        // What is done when it is tried again.
        let mut postponed = Do::Nothing;
        loop {
            // Somebody may be asked first, in front of his browser.
            let patience = self.config.session.connect_timeout * 3;
            let unanswered = talk.as_ref().and_then(Talk::unanswered).map(|since| since + patience);
            let event = tokio::select! {
                event = room.next() => Event::Room(event),
                state = changed(&mut states) => Event::State(state),
                () = at(look) => Event::Look,
                () = at(retry) => Event::Retry,
                () = at(unanswered) => Event::Unanswered,
                () = at(self.patience.deadline().filter(|_| !is_live)) => Event::Missed,
                () = stopped(orders) => Event::Stop,
            };
            let to_do = match event {
                Event::Stop => return Left::Stopped,
                Event::Missed => return Left::Over(MISSED.into()),
                Event::Room(Err(error)) => return Left::Failed(error.verdict(), error.to_string()),
                // The server is restarted, as far as is known.
                Event::Room(Ok(RoomEvent::Closed(reason))) if reason == SHUTDOWN => {
                    return Left::Failed(Verdict::Retry(None), "the signaling server is closing".into());
                }
                Event::Room(Ok(RoomEvent::Closed(reason))) => {
                    let had_media = self.hang_up(talk, EndReason::ClosedByPeer).await;
                    let reason = format!("the channel is closed: {reason}");
                    return match self.patience.ended(had_media, true, Instant::now(), rand::random()) {
                        Next::End => Left::Over(reason),
                        _ => Left::Failed(Verdict::Retry(None), reason),
                    };
                }
                Event::Room(Ok(RoomEvent::Refused { code, message })) => {
                    tracing::warn!(code, message, "the signaling server refuses what it was told");
                    continue;
                }
                Event::Room(Ok(RoomEvent::Candidate { from, candidate })) => {
                    if let (Some(talk), true) = (talk.as_mut(), meeting.partner() == Some(from.as_str())) {
                        talk.trickle(candidate).await;
                    }
                    continue;
                }
                Event::Room(Ok(event)) => meeting.hear(event),
                Event::Retry => {
                    retry = None;
                    std::mem::replace(&mut postponed, Do::Nothing)
                }
                Event::Unanswered => {
                    self.hang_up(talk, EndReason::ConnectTimeout).await;
                    let next = self.patience.ended(false, false, Instant::now(), rand::random());
                    let Next::Retry(after) = next else { return Left::Over(UNANSWERED.into()) };
                    self.task.tell(CallState::Retrying { reason: UNANSWERED.into(), after }).await;
                    (postponed, retry) = postpone(meeting, after);
                    continue;
                }
                Event::Look => {
                    look = Some(Instant::now() + LOOK);
                    if let Err(error) = self.tell_news(room, meeting, talk).await {
                        return Left::Failed(error.verdict(), error.to_string());
                    }
                    continue;
                }
                Event::State(ConnectionState::Connected) => {
                    if !is_live {
                        is_live = true;
                        look = Some(Instant::now() + LOOK);
                        self.patience.connected();
                        self.task.tell(CallState::Live).await;
                    }
                    continue;
                }
                Event::State(state) if state.is_over() => {
                    let reason = if is_live { LOST } else { NEVER };
                    (states, is_live, look) = (None, false, None);
                    let had_media = self.hang_up(talk, EndReason::ConnectionLost).await;
                    let next = self.patience.ended(had_media, false, Instant::now(), rand::random());
                    let Next::Retry(after) = next else { return Left::Over(reason.into()) };
                    self.task.tell(CallState::Retrying { reason: reason.into(), after }).await;
                    (postponed, retry) = postpone(meeting, after);
                    continue;
                }
                Event::State(_) => continue,
            };
            let done = match to_do {
                Do::Nothing => continue,
                Do::Lost if is_live && talk.as_ref().is_some_and(Talk::is_healthy) => {
                    tracing::info!(
                        url = self.task.url,
                        "the server has lost the other peer; the connection to him stays"
                    );
                    meeting.keep();
                    continue;
                }
                Do::Gone | Do::Lost => {
                    (states, is_live, look, retry) = (None, false, None, None);
                    let had_media = self.hang_up(talk, EndReason::ClosedByPeer).await;
                    if self.patience.ended(had_media, true, Instant::now(), rand::random()) == Next::End {
                        return Left::Over(GONE.into());
                    }
                    self.task.tell(CallState::Waiting).await;
                    continue;
                }
                Do::Offer => {
                    (states, is_live) = (None, false);
                    self.hang_up(talk, EndReason::Replaced).await;
                    self.offer(room, meeting, talk).await
                }
                Do::Answer(offer) => {
                    (states, is_live, retry) = (None, false, None);
                    self.hang_up(talk, EndReason::Replaced).await;
                    self.answer(room, meeting, talk, &offer).await
                }
                Do::Take(answer) => match talk.as_mut() {
                    Some(talk) => talk.answered(self.config, answer).await.map_err(Trouble::Talk),
                    None => continue,
                },
            };
            match done {
                Ok(()) => {
                    states = talk.as_ref().and_then(Talk::states);
                    if let Some(states) = &mut states {
                        states.mark_changed(); // it may have come further already
                        self.task.counters.sessions.fetch_add(1, Relaxed);
                    }
                }
                Err(Trouble::Room(error)) => return Left::Failed(error.verdict(), error.to_string()),
                Err(Trouble::Talk(error)) => {
                    self.hang_up(talk, EndReason::Shutdown).await;
                    let next = self.patience.ended(false, false, Instant::now(), rand::random());
                    let Next::Retry(after) = next else { return Left::Over(error.to_string()) };
                    self.task.tell(CallState::Retrying { reason: error.to_string(), after }).await;
                    (postponed, retry) = postpone(meeting, after);
                }
            }
        }
    }

    async fn offer(&self, room: &mut Room, meeting: &mut Meeting, talk: &mut Option<Talk>) -> Result<(), Trouble> {
        meeting.offered();
        let Some(partner) = meeting.partner() else { return Ok(()) };
        let (made, sdp) = Talk::offer(self.config, &self.task.peer, self.is_local).await?;
        *talk = Some(made);
        Ok(room.tell(partner, &Tell::Offer(sdp)).await?)
    }

    async fn answer(
        &self,
        room: &mut Room,
        meeting: &Meeting,
        talk: &mut Option<Talk>,
        offer: &str,
    ) -> Result<(), Trouble> {
        let Some(partner) = meeting.partner() else { return Ok(()) };
        let (made, sdp) = Talk::answer(self.config, &self.task.peer, self.is_local, offer).await?;
        *talk = Some(made);
        Ok(room.tell(partner, &Tell::Answer(sdp)).await?)
    }

    /// Tells the other peer of addresses that this machine has got.
    async fn tell_news(&self, room: &mut Room, meeting: &Meeting, talk: &Option<Talk>) -> Result<(), ClientError> {
        let (Some(talk), Some(partner)) = (talk, meeting.partner()) else { return Ok(()) };
        for candidate in talk.new_candidates().await {
            room.tell(partner, &Tell::Candidate(candidate)).await?;
        }
        Ok(())
    }

    /// Ends the connection that there is; whether it had media.
    async fn hang_up(&self, talk: &mut Option<Talk>, reason: EndReason) -> bool {
        match talk.take() {
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

async fn stopped(orders: &mut watch::Receiver<Orders>) {
    let _ = orders.wait_for(|orders| orders.stop).await;
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

/// What is to be done when it is tried again, and when that is.
fn postpone(meeting: &mut Meeting, after: Duration) -> (Do, Option<Instant>) {
    let to_do = meeting.again();
    let when = (to_do != Do::Nothing).then(|| Instant::now() + after);
    (to_do, when)
}

/// Returns when the connection is over; never without one.
async fn over(talk: &Option<Talk>) {
    match talk.as_ref().and_then(Talk::states) {
        Some(mut states) => _ = states.wait_for(|state| state.is_over()).await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
