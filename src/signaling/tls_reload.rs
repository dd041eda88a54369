//! Takes a new certificate and key into use when their files change, without a restart: new handshakes get the new pair,
//! connections that run go on.
//!
//! The files are read every two seconds and compared by their content. That finds every kind of change (written in
//! place, renamed over, a symbolic link anywhere on the way turned, a volume mounted over) on every file system, which
//! notifications do not; and two files of a few KiB are cheaper than a thread that watches all folders on the way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum_server::tls_rustls::RustlsConfig;
use sha2::{Digest as _, Sha256};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::tls::{BadFile, TlsFiles, load, read};

const EVERY: Duration = Duration::from_secs(2);

/// Counts since the start of a server.
#[derive(Debug, Default)]
pub(crate) struct TlsCounters {
    reloaded: AtomicU64,
    failed: AtomicU64,
}

impl TlsCounters {
    /// How often a new pair was taken into use.
    pub(crate) fn reloaded(&self) -> u64 {
        self.reloaded.load(Relaxed)
    }

    /// How often a new pair was no good, so that the old one stayed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// A pair in use, and what its files held.
pub(crate) struct Loaded {
    files: TlsFiles,
    seen: Seen,
    pub(crate) config: RustlsConfig,
}

impl Loaded {
    /// Loads a pair for the first time.
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, BadFile> {
        // Before they are loaded: what changes meanwhile is found.
        let seen = Seen::of(files);
        Ok(Self { files: files.clone(), seen, config: RustlsConfig::from_config(load(files)?) })
    }
}

/// Looks after the files for as long as it is polled.
pub(crate) async fn run(Loaded { files, seen, config }: Loaded, counters: Arc<TlsCounters>) {
    let mut watch = Watch::new(seen);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A file on a network may let us wait.
        let looked = files.clone();
        let Ok(seen) = tokio::task::spawn_blocking(move || Seen::of(&looked)).await else { continue };
        if !watch.look(seen) {
            continue;
        }
        let loading = files.clone();
        match tokio::task::spawn_blocking(move || load(&loading)).await {
            Ok(Ok(new)) => {
                config.reload_from_config(new);
                counters.reloaded.fetch_add(1, Relaxed);
                info!(certificate = %files.certificate.display(), "a new certificate is in use");
            }
            Ok(Err(bad)) => {
                counters.failed.fetch_add(1, Relaxed);
                warn!(file = %bad.path.display(), why = %bad.what, "the new certificate or key is no good; the old ones stay in use");
            }
            Err(_) => {}
        }
    }
}

/// What is in both files, or that one cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen([Option<[u8; 32]>; 2]);

impl Seen {
    fn of(files: &TlsFiles) -> Self {
        Self([&files.certificate, &files.key].map(|path| read(path).ok().map(|pem| Sha256::digest(pem).into())))
    }
}

/// Decides when to load: a pair that is new and has been the same twice in a row. Two files are never replaced at once,
/// and half of a new pair is no news worth a warning.
#[derive(Debug)]
struct Watch {
    last: Seen,
    /// What was loaded, or tried.
    done: Seen,
}

impl Watch {
    fn new(loaded: Seen) -> Self {
        Self { last: loaded, done: loaded }
    }

    fn look(&mut self, seen: Seen) -> bool {
        let last = std::mem::replace(&mut self.last, seen);
        let is_due = last == seen && self.done != seen;
        if is_due {
            self.done = seen;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(certificate: u8, key: u8) -> Seen {
        Seen([certificate, key].map(|byte| (byte > 0).then_some([byte; 32])))
    }

    #[test]
    fn a_pair_is_loaded_once_when_it_has_settled() {
        let mut watch = Watch::new(seen(1, 1));
        let looks = [
            (seen(1, 1), false, "nothing new"),
            (seen(2, 1), false, "half of a pair"),
            (seen(2, 2), false, "just now"),
            (seen(2, 2), true, "settled"),
            (seen(2, 2), false, "done"),
            (seen(0, 2), false, "gone for a moment"),
            (seen(2, 2), false, "and back"),
            (seen(2, 2), false, "as it was"),
            (seen(3, 2), false, "a bad one"),
            (seen(3, 2), true, "stays"),
            (seen(3, 2), false, "and is told once"),
            (seen(2, 2), false, "put back"),
            (seen(2, 2), true, "the old one again"),
        ];
        for (seen, load, what) in looks {
            assert_eq!(watch.look(seen), load, "{what}");
        }
    }
}
