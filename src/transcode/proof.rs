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

/// How long a driver may take for five frames.
const DEADLINE: Duration = Duration::from_secs(3);
/// After this a failed encoder may be tried again: another program may have had all of a graphics card's sessions.
const FAILURE_LASTS: Duration = Duration::from_secs(60);

enum Proof {
    Works,
    Failed {
        reason: String,
        at: Instant,
    },
    /// Its thread is still in there, and another one would be lost as well.
    Hangs,
}

static PROOFS: Mutex<BTreeMap<String, Proof>> = Mutex::new(BTreeMap::new());

/// Proves that an encoder works, or says why not. Returns within [`DEADLINE`].
pub(super) fn prove(candidate: &Candidate, tuning: &Tuning) -> Result<(), String> {
    let name = candidate.name();
    match proofs().get(&name) {
        Some(Proof::Works) => return Ok(()),
        Some(Proof::Failed { reason, at }) if at.elapsed() < FAILURE_LASTS => return Err(reason.clone()),
        Some(Proof::Hangs) => return Err("its driver hangs".to_owned()),
        Some(Proof::Failed { .. }) | None => {}
    }
    let started = Instant::now();
    let (proof, result) = attempt_in_time(candidate, tuning);
    gst::debug!(CAT, "{name}: {result:?} after {:?}", started.elapsed());
    proofs().insert(name, proof);
    result
}

/// It worked, and then it did not any more.
pub(super) fn has_failed(candidate: &Candidate, reason: &str) {
    proofs().insert(candidate.name(), Proof::Failed { reason: reason.to_owned(), at: Instant::now() });
}

/// A driver may hang in any call, so it gets a thread that can be left behind.
fn attempt_in_time(candidate: &Candidate, tuning: &Tuning) -> (Proof, Result<(), String>) {
    let (result, results) = mpsc::channel();
    let spawned = thread::Builder::new().name("encoder-proof".to_owned()).spawn({
        let (candidate, tuning) = (candidate.clone(), tuning.clone());
        move || {
            // Nobody waits any more if it took too long.
            let _ = result.send(attempt(&candidate, &tuning));
        }
    });
    let outcome = match spawned {
        Ok(_) => results.recv_timeout(DEADLINE),
        Err(error) => Ok(Err(format!("cannot be tried: {error}"))),
    };
    match outcome {
        Ok(Ok(())) => (Proof::Works, Ok(())),
        Ok(Err(reason)) => (Proof::Failed { reason: reason.clone(), at: Instant::now() }, Err(reason)),
        Err(_) => (Proof::Hangs, Err(format!("encodes no frame within {} s", DEADLINE.as_secs()))),
    }
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
        let wait = gst::ClockTime::try_from(DEADLINE).ok();
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
