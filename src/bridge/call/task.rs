//! The task of a call: calls the server, stays in the channel, and calls again when that has failed.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed, mpsc},
    time::Instant,
};

use tokio::{sync::watch, task::spawn_blocking};

use super::{
    CallConfig, CallObserver, CallState, Counters, Orders,
    patience::{Next, Patience},
    stay::{Left, Stay},
    talk::Talk,
};
use crate::{bridge::Peer, session::EndReason, signaling::client::socket::SocketClient};

pub(super) const LOST: &str = "the connection to the other peer was lost";
const STOPPED: &str = "it was stopped here";

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
                    let stay = Stay::new(self, config, is_local, &mut patience, room, talk);
                    Box::pin(stay.run(orders)).await
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
    pub(super) async fn tell(&self, state: CallState) {
        let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tracing::debug!(url = self.url, state = state.name(), reason = state.reason(), "call");
        let _ = spawn_blocking(move || observers.iter().for_each(|observer| observer.changed(&state))).await;
    }
}

pub(super) async fn stopped(orders: &mut watch::Receiver<Orders>) {
    let _ = orders.wait_for(|orders| orders.stop).await;
}

/// Returns when the connection is over; never without one.
async fn over(talk: &Option<Talk>) {
    match talk.as_ref().and_then(Talk::states) {
        Some(mut states) => _ = states.wait_for(|state| state.is_over()).await,
        None => std::future::pending().await,
    }
}
