//! The application's own say: the signal `authorize`, which elements that serve have.

use std::{ops::ControlFlow, sync::Arc, thread};

use async_trait::async_trait;
use gst::{
    glib::{
        self,
        signal::signal_has_handler_pending,
        subclass::{Signal, SignalId},
    },
    prelude::*,
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    channel::ChannelId,
    signaling::{Authorizer, Role},
};

const SIGNAL: &str = "authorize";

/// Asks the application who may do what: so many at a time, each on a thread of its own. The runtime's are the sessions',
/// and an application that does not answer must not have those.
pub(crate) struct Application {
    element: glib::WeakRef<gst::Element>,
    turns: Arc<Semaphore>,
}

/// More than a database behind it wants to be asked at a time; further ones wait for their turn.
const MOST_ASKED: usize = 16;

impl Application {
    /// `authorize(channel, token) → gboolean`, either of which may be NULL. Of several handlers the first yes counts.
    pub(crate) fn signal() -> Signal {
        let string = String::static_type();
        Signal::builder(SIGNAL)
            .param_types([string, string])
            .return_type::<bool>()
            .accumulator(|_, _, may| match may.get() {
                Ok(true) => ControlFlow::Break(may.clone()),
                _ => ControlFlow::Continue(may.clone()),
            })
            .build()
    }

    /// The application behind an element, if it has connected to the signal.
    pub(crate) fn of(element: &impl IsA<gst::Element>) -> Option<Arc<dyn Authorizer>> {
        let element = element.upcast_ref::<gst::Element>();
        let signal = SignalId::lookup(SIGNAL, element.type_())?;
        if !signal_has_handler_pending(element, signal, None, true) {
            return None;
        }
        Some(Arc::new(Self { element: element.downgrade(), turns: Arc::new(Semaphore::new(MOST_ASKED)) }))
    }
}

#[async_trait]
impl Authorizer for Application {
    async fn authorize(&self, _: Role, channel: Option<&ChannelId>, token: Option<&str>) -> bool {
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return false };
        let (element, channel, token) =
            (self.element.clone(), channel.map(ToString::to_string), token.map(str::to_owned));
        let (tell, told) = oneshot::channel();
        let asking = thread::Builder::new().name("authorize".into()).spawn(move || {
            // Until it has answered, also when nobody waits for it any more.
            let _turn = turn;
            let may =
                element.upgrade().is_some_and(|element| element.emit_by_name::<bool>(SIGNAL, &[&channel, &token]));
            let _ = tell.send(may);
        });
        asking.is_ok() && told.await.unwrap_or(false)
    }
}
