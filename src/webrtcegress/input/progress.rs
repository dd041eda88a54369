//! How far a pad has come on its way to the end of its stream.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// How far a pad has come.
#[derive(Debug, Default)]
pub(in crate::webrtcegress) struct Progress {
    pub(super) has_data: AtomicBool,
    /// EOS has come in.
    pub(super) arrived: AtomicBool,
    pub(super) drained: AtomicBool,
}

impl Progress {
    /// All is out.
    pub(in crate::webrtcegress) fn set_drained(&self) {
        if self.arrived.load(SeqCst) {
            self.drained.store(true, SeqCst);
        }
    }

    pub(super) fn reset(&self) {
        self.has_data.store(false, SeqCst);
        self.starts();
    }

    pub(super) fn starts(&self) {
        self.arrived.store(false, SeqCst);
        self.drained.store(false, SeqCst);
    }
}
