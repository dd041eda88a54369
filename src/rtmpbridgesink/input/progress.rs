//! How far a pad has come, as its chain's end has to know and to tell.

use std::sync::atomic::{AtomicBool, Ordering};

use super::PadEnd;

/// Of one pad.
#[derive(Debug, Default)]
pub(in super::super) struct Progress {
    has_data: AtomicBool,
    arrived: AtomicBool,
    drained: AtomicBool,
    live: AtomicBool,
}

impl Progress {
    /// Whether upstream is live, as far as it is known.
    pub(in super::super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }

    /// The chain has given all that it had.
    pub(in super::super) fn set_drained(&self) {
        self.drained.store(true, Ordering::SeqCst);
    }

    pub(super) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Relaxed);
    }

    pub(super) fn set_arrived(&self) {
        self.arrived.store(true, Ordering::SeqCst);
    }

    /// Data comes; whether it is the first of its chain.
    pub(super) fn data_comes(&self) -> bool {
        !self.has_data.swap(true, Ordering::SeqCst)
    }

    pub(super) fn has_data(&self) -> bool {
        self.has_data.load(Ordering::SeqCst)
    }

    /// Another chain begins.
    pub(super) fn has_no_data(&self) {
        self.has_data.store(false, Ordering::SeqCst);
    }

    /// The end that came was another stream's.
    pub(super) fn stream_starts(&self) {
        self.arrived.store(false, Ordering::SeqCst);
        self.drained.store(false, Ordering::SeqCst);
    }

    pub(super) fn reset(&self) {
        self.has_no_data();
        self.stream_starts();
    }

    /// How far EOS has come.
    pub(super) fn end(&self, linked: bool) -> PadEnd {
        PadEnd { linked, arrived: self.arrived.load(Ordering::SeqCst), drained: self.drained.load(Ordering::SeqCst) }
    }
}
