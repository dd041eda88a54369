//! What a client's user is told: element messages at each change, a warning where something is wrong that is new.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;

use super::{CallObserver, CallState as State};

/// Tells the element's bus.
pub(crate) struct Notices {
    element: gst::glib::WeakRef<gst::Element>,
    url: String,
    /// The last reason that was warned of: a server that stays away is not worth a warning every few seconds.
    warned: Option<String>,
}

impl Notices {
    /// Of an element that may be gone already.
    pub(crate) fn new(element: Option<impl IsA<gst::Element>>, url: String) -> Self {
        let element = element.map_or_else(gst::glib::WeakRef::new, |element| element.upcast().downgrade());
        Self { element, url, warned: None }
    }

    /// Tells of a change. Returns when that is done: whoever listens on the bus may take his time, which must not be this
    /// thread's.
    pub(crate) async fn state(&mut self, state: State) {
        let warning = self.warning(&state);
        let (element, url) = (self.element.clone(), self.url.clone());
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(element) = element.upgrade() {
                post(&element, &url, &state, warning);
            }
        })
        .await;
    }

    /// The warning that a state is worth.
    fn warning(&mut self, state: &State) -> Option<String> {
        match state {
            State::Live => {
                self.warned = None;
                None
            }
            State::Retrying { reason, .. } if self.warned.as_ref() != Some(reason) => {
                self.warned = Some(reason.clone());
                Some(format!("{reason}; trying again until it works"))
            }
            _ => None,
        }
    }
}

/// The same for a call to another peer.
impl CallObserver for Mutex<Notices> {
    fn changed(&self, state: &State) {
        let mut notices = self.lock().unwrap_or_else(PoisonError::into_inner);
        let (warning, element, url) = (notices.warning(state), notices.element.clone(), notices.url.clone());
        drop(notices);
        if let Some(element) = element.upgrade() {
            post(&element, &url, state, warning);
        }
    }
}

fn post(element: &gst::Element, url: &str, state: &State, warning: Option<String>) {
    let reason = state.reason().unwrap_or_default();
    tracing::info!(element = %element.name(), url, state = state.name(), reason, "connection");
    let mut structure = gst::Structure::builder("webrtcbridge-connection")
        .field("url", url)
        .field("state", state.name())
        .field("reason", reason);
    if let State::Retrying { after, .. } = state {
        structure = structure.field("retry-in", u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
    }
    let _ = element.post_message(gst::message::Element::builder(structure.build()).src(element).build());
    if let Some(warning) = warning {
        gst::element_warning!(element, gst::ResourceError::OpenRead, ("{}", warning));
    }
    if let State::Refused { reason } = state {
        gst::element_error!(element, gst::ResourceError::OpenRead, ("{}", reason));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_same_trouble_is_warned_of_once_until_it_was_over() {
        let mut notices = Notices::new(None::<gst::Element>, "http://h/x".into());
        let trouble = |what: &str| State::Retrying { reason: what.into(), after: Duration::ZERO };
        assert!(notices.warning(&State::Connecting).is_none());
        assert!(notices.warning(&trouble("away")).is_some());
        assert!(notices.warning(&State::Connecting).is_none());
        assert!(notices.warning(&trouble("away")).is_none());
        assert!(notices.warning(&trouble("no stream")).is_some());
        assert!(notices.warning(&State::Live).is_none());
        assert!(notices.warning(&trouble("no stream")).is_some());
    }
}
