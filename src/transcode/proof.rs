//! Whether an encoder works here: it starts, and encodes the first frames of a small pipeline of its own. What has been
//! found out is remembered for the process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{
    CAT,
    candidates::Candidate,
    factory::{filter, make},
    unit::{Tuning, Unit},
};

/// How long a trial may take, with everything that a driver does first.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a driver may take for five frames. Less, or one that is slow would look like one that hangs.
const FRAMES: Duration = Duration::from_secs(2);
const _: () = assert!(FRAMES.as_millis() < DEADLINE.as_millis());
/// After this a failed encoder may be tried again: another program may have had all of a graphics card's sessions.
const FAILURE_LASTS: Duration = Duration::from_secs(60);

/// After this one that hung may be tried again, at the cost of another thread if it still does: the machine may have been
/// too busy.
const HANG_LASTS: Duration = Duration::from_secs(3600);

enum Proof {
    Works,
    Failed {
        reason: String,
        at: Instant,
    },
    /// Its thread is still in there, and another one would be lost as well.
    Hangs {
        since: Instant,
    },
}

impl Proof {
    fn of(result: &Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Works,
            Err(reason) => Self::Failed { reason: reason.clone(), at: Instant::now() },
        }
    }

    /// What is to be thought of the encoder; nothing, if that is too long ago.
    fn verdict(&self, now: Instant) -> Option<Result<(), String>> {
        let lasts = |at: Instant, time| now.saturating_duration_since(at) < time;
        match self {
            Self::Works => Some(Ok(())),
            Self::Failed { reason, at } => lasts(*at, FAILURE_LASTS).then(|| Err(reason.clone())),
            Self::Hangs { since } => lasts(*since, HANG_LASTS).then(|| Err("its driver hangs".to_owned())),
        }
    }
}

static PROOFS: Mutex<BTreeMap<String, Proof>> = Mutex::new(BTreeMap::new());

/// Proves that an encoder works, or says why not. Returns within [`DEADLINE`].
pub(super) fn prove(candidate: &Candidate, tuning: &Tuning) -> Result<(), String> {
    let name = candidate.name();
    if let Some(verdict) = known(&name) {
        return verdict;
    }
    let started = Instant::now();
    let (candidate, tuning) = (candidate.clone(), tuning.clone());
    let result = attempt_in_time(&name, DEADLINE, move || attempt(&candidate, &tuning));
    gst::debug!(CAT, "{name}: {result:?} after {:?}", started.elapsed());
    result
}

/// It worked, and then it did not any more.
pub(super) fn has_failed(candidate: &Candidate, reason: &str) {
    proofs().insert(candidate.name(), Proof::of(&Err(reason.to_owned())));
}

fn known(name: &str) -> Option<Result<(), String>> {
    proofs().get(name)?.verdict(Instant::now())
}

/// A driver may hang in any call, so it gets a thread that can be left behind. What comes of it then is remembered all the
/// same.
fn attempt_in_time(
    name: &str,
    deadline: Duration,
    attempt: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    let owned = name.to_owned();
    let spawned = thread::Builder::new().name("encoder-proof".to_owned()).spawn(move || {
        let result = attempt();
        let mut proofs = proofs();
        proofs.insert(owned, Proof::of(&result));
        // Nobody waits any more if it took too long.
        let _ = tell.send(result);
    });
    if let Err(error) = spawned {
        let result = Err(format!("cannot be tried: {error}"));
        proofs().insert(name.to_owned(), Proof::of(&result));
        return result;
    }
    if let Ok(result) = told.recv_timeout(deadline) {
        return result;
    }
    let mut proofs = proofs();
    // It is told under the lock: what has come is there by now, and what comes later replaces this.
    if let Ok(result) = told.try_recv() {
        return result;
    }
    proofs.insert(name.to_owned(), Proof::Hangs { since: Instant::now() });
    Err(format!("encodes no frame within {} s", deadline.as_secs()))
}

fn attempt(candidate: &Candidate, tuning: &Tuning) -> Result<(), String> {
    let unit = Unit::build(candidate, tuning).map_err(|error| error.to_string())?;
    // A bus of its own: a pipeline's may be empty again after a state change that failed.
    let bus = gst::Bus::new();
    unit.bin.set_bus(Some(&bus));
    let starts = unit.bin.set_state(gst::State::Ready);
    let _ = unit.bin.set_state(gst::State::Null);
    if starts.is_err() {
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        return Err(
            error.map_or_else(|| "does not start".to_owned(), |error| format!("does not start: {}", text(&error)))
        );
    }
    // What works is decided by code, not by a driver or by the other programs that use a device: starting is enough.
    if !candidate.hardware {
        return Ok(());
    }
    let pipeline = gst::Pipeline::new();
    let frames = Arc::new(AtomicBool::new(false));
    wire(&pipeline, &unit, &frames).map_err(|error| error.to_string())?;
    let started = pipeline.set_state(gst::State::Playing);
    let message = pipeline.bus().filter(|_| started.is_ok()).and_then(|bus| {
        let wait = gst::ClockTime::try_from(FRAMES).ok();
        bus.timed_pop_filtered(wait, &[gst::MessageType::Error, gst::MessageType::Eos])
    });
    let _ = pipeline.set_state(gst::State::Null);
    match message {
        Some(message) if message.type_() == gst::MessageType::Error => {
            Err(format!("fails at the first frames: {}", text(&message)))
        }
        _ if started.is_ok() && frames.load(Ordering::SeqCst) => Ok(()),
        _ => Err("encodes nothing".to_owned()),
    }
}

fn text(message: &gst::Message) -> String {
    match message.view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        _ => String::new(),
    }
}

fn wire(pipeline: &gst::Pipeline, unit: &Unit, frames: &Arc<AtomicBool>) -> Result<(), Box<dyn std::error::Error>> {
    let source = make("videotestsrc")?;
    // Some encoders look ahead and give nothing before the end.
    source.set_property("num-buffers", 5i32);
    // Some have a smallest size.
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", 640i32)
        .field("height", 360i32)
        .field("framerate", gst::Fraction::new(30, 1))
        .build();
    let sink = make("fakesink")?;
    sink.set_property("async", false);
    let elements = [source, filter(&caps)?, unit.bin.clone().upcast(), sink];
    pipeline.add_many(&elements)?;
    gst::Element::link_many(&elements)?;
    let end = unit.pad("src").ok_or_else(|| glib::bool_error!("no src pad"))?;
    let frames = frames.clone();
    end.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        frames.store(true, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn proofs() -> MutexGuard<'static, BTreeMap<String, Proof>> {
    PROOFS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_late_is_remembered_all_the_same() {
        let (finish, finished) = mpsc::channel::<()>();
        let slow = move || finished.recv().map_err(|error| error.to_string());
        let result = attempt_in_time("a slow one", Duration::from_millis(10), slow);
        assert!(result.unwrap_err().contains("encodes no frame"));
        assert_eq!(known("a slow one"), Some(Err("its driver hangs".to_owned())));
        finish.send(()).unwrap();
        let since = Instant::now();
        while known("a slow one") != Some(Ok(())) {
            assert!(since.elapsed() < Duration::from_secs(20), "it works after all");
            thread::yield_now();
        }
    }

    #[test]
    fn what_is_done_in_time_is_told_and_remembered() {
        assert_eq!(attempt_in_time("a good one", DEADLINE, || Ok(())), Ok(()));
        assert_eq!(known("a good one"), Some(Ok(())));
        let result = attempt_in_time("a bad one", DEADLINE, || Err("no device".to_owned()));
        assert_eq!((result, known("a bad one")), (Err("no device".to_owned()), Some(Err("no device".to_owned()))));
        let panics = attempt_in_time("a worse one", DEADLINE, || panic!("a driver's fault"));
        assert!(panics.is_err());
    }

    #[test]
    fn nothing_is_held_against_an_encoder_for_ever() {
        let now = Instant::now();
        let failed = Proof::of(&Err("busy".to_owned()));
        let hangs = Proof::Hangs { since: now };
        let later = |time| Instant::now() + time;
        assert_eq!(failed.verdict(now), Some(Err("busy".to_owned())));
        assert_eq!(failed.verdict(later(FAILURE_LASTS)), None);
        assert!(hangs.verdict(later(FAILURE_LASTS)).is_some(), "each trial may cost a thread");
        assert_eq!(hangs.verdict(later(HANG_LASTS)), None);
        assert_eq!(Proof::Works.verdict(later(HANG_LASTS)), Some(Ok(())));
    }
}
