//! The clock that everything of a session goes by.

use std::time::Instant;

/// Now, by tokio's clock: that of the machine, or the virtual one of a simulation (`simulation`), which the timers run on as
/// well.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
