//! A session from its answer to its end.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};
use tracing::{info, warn};

use super::{STOPPING, Started, stop};
use crate::{
    bridge::{
        admission::Place,
        hearing::Heard,
        pipeline::{Event, SessionPipeline, Timing},
        report::{Over, SessionState},
        sessions::{Member, Orders},
    },
    channel::{Displaced, PublisherLease},
    session::{EndReason, Session},
    signaling::{SessionId, abbreviate},
};

/// A session that has been answered.
pub(super) struct Running {
    // Dropped in this order: the channel is free when nothing of the session is left.
    pub(super) session: Session,
    pub(super) heard: watch::Receiver<Heard>,
    pub(super) pipeline: Started,
    pub(super) orders: watch::Receiver<Orders>,
    /// What its pipeline plays on; nothing when it is paused.
    pub(super) plays_on: Option<Timing>,
    /// Set when it comes to its end, with what its publisher is told of that.
    pub(super) ended: Arc<OnceLock<&'static str>>,
    pub(super) member: Member,
    pub(super) lease: PublisherLease,
    pub(super) place: Place,
}

impl Running {
    pub(super) fn id(&self) -> &SessionId {
        &self.member.entry.id
    }

    pub(super) async fn run(mut self) {
        let over = self.until_over().await;
        self.ended.get_or_init(|| match over {
            Over::Displaced(Displaced::Replaced) => "replaced",
            Over::Displaced(Displaced::Stopped) => "stopped",
            _ => "ended",
        });
        let id = self.member.entry.id.clone();
        info!(session = abbreviate(id.as_str()), reason = over.reason(), "session is over");
        if over.grace(Instant::now()).is_some_and(|grace| !grace.is_zero()) {
            self.member.tell(SessionState::Ending, over.reason()).await;
            self.say_goodbye(&over).await;
        }
        let reason = match &over {
            Over::Displaced(Displaced::Replaced) => EndReason::Replaced,
            _ => EndReason::Shutdown,
        };
        let Self { session, pipeline, mut member, lease, place, .. } = self;
        let stopped = async {
            if let Some((pipeline, events)) = pipeline {
                stop(&pipeline).await;
                drop(events);
            }
        };
        tokio::join!(session.close(reason), stopped);
        member.entry.peer.set_session(None);
        drop(session);
        drop(lease);
        drop(place);
        member.tell(over.state(), over.reason()).await;
    }

    async fn until_over(&mut self) -> Over {
        let mut is_live = false;
        loop {
            let heard = *self.heard.borrow_and_update();
            if let Some(reason) = heard.ended {
                return Over::Peer(reason);
            }
            if heard.connected && !is_live {
                is_live = true;
                self.place.connected();
                self.member.tell(SessionState::Live, "").await;
            }
            let orders = self.orders.borrow_and_update().clone();
            if let Some(until) = orders.drain {
                return Over::Drained { until };
            }
            // By comparing: an order that came while something else was done, or before the pipeline was there, counts too.
            if orders.timing != self.plays_on {
                self.follow(orders.timing).await;
                continue;
            }
            tokio::select! {
                heard = self.heard.changed() => if heard.is_err() {
                    return Over::Peer(EndReason::ConnectionLost);
                },
                event = next(&mut self.pipeline) => match event {
                    Event::Ended => return Over::PipelineEnded,
                    Event::Failed(why) => return Over::PipelineFailed(why),
                    Event::Warned(why) => self.log_warning(&why),
                    Event::Latency => self.with_pipeline(SessionPipeline::recalculate_latency).await.unwrap_or(()),
                },
                why = self.lease.displaced() => return Over::Displaced(why),
                // Never an error: the sender lives as long as this task.
                _ = self.orders.changed() => {}
            }
        }
    }

    /// Plays or pauses as everybody does.
    async fn follow(&mut self, timing: Option<Timing>) {
        self.plays_on.clone_from(&timing);
        self.with_pipeline(move |pipeline| match timing {
            // If that fails, an element has said so.
            Some(timing) => drop(pipeline.play(&timing)),
            None => pipeline.pause(),
        })
        .await;
    }

    /// Its bus is nobody's but ours: what is in trouble, a destination for example, is in the log or nowhere.
    fn log_warning(&self, why: &str) {
        let entry = &self.member.entry;
        warn!(session = abbreviate(entry.id.as_str()), channel = %entry.channel, why, "a session has a warning");
    }

    /// Brings the stream to its end, so that servers hear of it; not longer than there is time, or until the next wants the
    /// channel.
    async fn say_goodbye(&mut self, over: &Over) {
        if self.with_pipeline(SessionPipeline::end_of_stream).await != Some(true) {
            return;
        }
        let now = Instant::now();
        let mut until = now + over.grace(now).unwrap_or_default();
        loop {
            if let Some(drained) = self.orders.borrow_and_update().drain {
                until = until.min(drained);
            }
            tokio::select! {
                event = next(&mut self.pipeline) => match event {
                    Event::Ended | Event::Failed(_) => return,
                    Event::Warned(why) => self.log_warning(&why),
                    Event::Latency => {}
                },
                why = self.lease.displaced(), if !matches!(over, Over::Displaced(_)) => {
                    if why == Displaced::Replaced {
                        return;
                    }
                }
                changed = self.orders.changed() => if changed.is_err() { return },
                () = sleep_until(until.into()) => return,
            }
        }
    }

    /// Does something with the pipeline on a thread that may wait.
    async fn with_pipeline<T: Send + 'static>(
        &self,
        f: impl FnOnce(&SessionPipeline) -> T + Send + 'static,
    ) -> Option<T> {
        let (pipeline, _) = self.pipeline.as_ref()?;
        let pipeline = pipeline.clone();
        timeout(STOPPING, tokio::task::spawn_blocking(move || f(&pipeline))).await.ok()?.ok()
    }
}

/// What the pipeline says next; nothing, ever, if there is none.
async fn next(pipeline: &mut Started) -> Event {
    match pipeline {
        Some((_, events)) => match events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
