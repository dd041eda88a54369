//! What came by at one place of the pipeline, kept to be compared.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use gst::prelude::*;

/// What passed an `appsink`, and when.
#[derive(Default)]
pub(crate) struct Recording {
    kept: Mutex<Vec<(u64, Vec<u8>)>>,
    has_ended: AtomicBool,
}

impl Recording {
    /// Everything that comes from now on.
    pub(crate) fn of(sink: &gst::Element) -> Arc<Self> {
        let recording = Arc::new(Self::default());
        let (keeps, ends) = (recording.clone(), recording.clone());
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                keeps.kept().extend(timed(&sample));
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| ends.has_ended.store(true, Relaxed));
        sink.downcast_ref::<gst_app::AppSink>().expect("an appsink").set_callbacks(callbacks.build());
        recording
    }

    /// How much has come so far.
    pub(crate) fn len(&self) -> usize {
        self.kept().len()
    }

    /// Whether that was all.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }

    /// All of it.
    pub(crate) fn kept(&self) -> MutexGuard<'_, Vec<(u64, Vec<u8>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer's content, and the pipeline's time that it is for.
fn timed(sample: &gst::Sample) -> Option<(u64, Vec<u8>)> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    Some((segment.to_running_time(buffer.pts()?)?.nseconds(), buffer.map_readable().ok()?.to_vec()))
}
