//! When the machine stood still: where its host takes processors away for a while, what would be in time is late as well.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often it is looked. Each takes some ten microseconds.
const TICK: Duration = Duration::from_millis(5);

/// Less is what busy machines do all the time.
const WORTH_NOTING: Duration = Duration::from_millis(30);

/// Standstills of any processor since it was begun to watch, which ends when this is dropped.
pub struct Standstills(Arc<Mutex<Vec<(Instant, Instant)>>>);

impl Standstills {
    /// A thread on each processor does nothing but sleep for a moment: it is late by as much as the processor stands still.
    pub fn watch() -> Self {
        let noted = Arc::<Mutex<Vec<_>>>::default();
        let processors = rustix::thread::sched_getaffinity(None).expect("this process's processors");
        for processor in (0..rustix::thread::CpuSet::MAX_CPU).filter(|processor| processors.is_set(*processor)) {
            let noted = Arc::downgrade(&noted);
            std::thread::spawn(move || {
                let mut here = rustix::thread::CpuSet::new();
                here.set(processor);
                rustix::thread::sched_setaffinity(None, &here).expect("a thread of this processor");
                let mut before = Instant::now();
                // Held for a moment only, or those of other processors would keep it for this one.
                while noted.strong_count() > 0 {
                    std::thread::sleep(TICK);
                    let now = Instant::now();
                    if let Some(noted) = noted.upgrade().filter(|_| now - before > WORTH_NOTING) {
                        noted.lock().unwrap_or_else(PoisonError::into_inner).push((before, now));
                    }
                    before = now;
                }
            });
        }
        Self(noted)
    }

    /// How much of this time a processor stood still.
    pub fn within(&self, from: Instant, until: Instant) -> Duration {
        let mut noted = self.noted();
        noted.sort();
        let (mut still, mut counted) = (Duration::ZERO, from);
        for (began, ended) in noted {
            let (began, ended) = (began.max(counted), ended.min(until));
            still += ended.saturating_duration_since(began);
            counted = counted.max(ended);
        }
        still
    }

    /// The longest of them.
    pub fn longest(&self) -> Duration {
        self.noted().iter().map(|(began, ended)| *ended - *began).max().unwrap_or_default()
    }

    fn noted(&self) -> Vec<(Instant, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
