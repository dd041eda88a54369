//! Who has part in a call: elements of one pipeline that name the same URL share one.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use gst::{glib, prelude::*};

use super::{Call, CallConfig, CallCounts, CallObserver};
use crate::{
    bridge::{Peer, placeholders::Names},
    forward::Source,
    session::CodecPreferences,
};

/// An element's part in a call. Dropping it ends the call, for all who have part in it.
pub struct Seat {
    line: Arc<Line>,
}

struct Line {
    /// The outermost bin of the elements.
    around: glib::WeakRef<gst::Object>,
    config: Arc<Mutex<CallConfig>>,
    call: Call,
}

/// Lock order: before a line's own.
static LINES: LazyLock<Mutex<Vec<Weak<Line>>>> = LazyLock::new(Mutex::default);

impl Seat {
    /// Takes part in a call to `config.socket`: in the one that another element of the same pipeline has begun, or in a
    /// new one. The error says which setting is wrong.
    pub fn take(
        element: &impl IsA<gst::Element>,
        config: CallConfig,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, String> {
        let around = outermost(element.upcast_ref());
        let mut lines = lock(&LINES);
        lines.retain(|line| line.strong_count() > 0);
        let there = lines.iter().filter_map(Weak::upgrade).find(|line| {
            line.around.upgrade().as_ref() == Some(&around)
                && !line.call.is_stopped()
                && lock(&line.config).socket.url == config.socket.url
        });
        let line = match there {
            Some(line) => {
                check(&lock(&line.config), &config)?;
                line
            }
            None => {
                let names = Names::new(config.socket.url.channel(), "");
                let source = Arc::new(Source::new(&config.media));
                let peer = Peer::new(names, config.media.clone(), config.session.mux.clone(), source);
                let config = Arc::new(Mutex::new(config));
                let call = Call::new(peer, config.clone())?;
                let line = Arc::new(Line { around: around.downgrade(), config, call });
                lines.push(Arc::downgrade(&line));
                line
            }
        };
        line.call.observe(observer);
        Ok(Self { line })
    }

    /// What is received, and what its end means, is this one's business.
    pub fn decide(&self, codecs: Arc<dyn Fn() -> CodecPreferences + Send + Sync>, ends: bool, max_bitrate: u32) {
        let mut config = lock(&self.line.config);
        (config.codecs, config.ends, config.session.max_bitrate) = (codecs, ends, max_bitrate);
    }

    /// The connection.
    pub fn peer(&self) -> &Peer {
        &self.line.call.peer
    }

    /// Begins the call: everybody who has part in it is there.
    pub fn begin(&self) {
        self.line.call.begin();
    }

    /// Ends the call. Does not wait.
    pub fn end(&self) {
        self.line.call.stop();
    }

    /// Waits a moment for the goodbyes.
    pub fn wait(&self) {
        self.line.call.wait();
    }

    /// Where is called, without the query.
    pub fn url(&self) -> &str {
        &self.line.call.url
    }

    /// What the call has done so far.
    pub fn counts(&self) -> CallCounts {
        self.line.call.counts()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end();
    }
}

/// Two elements of one call must not contradict each other.
fn check(there: &CallConfig, new: &CallConfig) -> Result<(), String> {
    let other = if there.socket.auth_token != new.socket.auth_token {
        "auth-token"
    } else if there.socket.trusted != new.socket.trusted {
        "tls-certificate"
    } else if !Arc::ptr_eq(&there.session.mux, &new.session.mux) {
        "ice-udp-port or ice-udp-port-range"
    } else if there.session.public_addresses != new.session.public_addresses {
        "public-addresses"
    } else {
        return Ok(());
    };
    Err(format!(
        "another element of this pipeline has the same uri with another {other}: they share one connection; give both the same"
    ))
}

fn outermost(element: &gst::Element) -> gst::Object {
    let mut outermost: gst::Object = element.clone().upcast();
    while let Some(parent) = outermost.parent() {
        outermost = parent;
    }
    outermost
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
