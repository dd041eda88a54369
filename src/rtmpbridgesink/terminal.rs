//! The end of a chain: an appsink whose buffers become units on the pipeline's running time.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gst::{glib, prelude::*};

use super::{RtmpBridgeSink, format, imp::CAT, input::Progress, timeline::Timeline};
use crate::rtmp::{Format, Track, Unit};

/// Makes the appsink. It calls back into `element` on the chain's streaming thread.
pub(super) fn make(
    element: &RtmpBridgeSink,
    track: Track,
    output: &gst::Caps,
    bitrate: Option<u32>,
    progress: Arc<Progress>,
    timeline: Arc<Mutex<Timeline>>,
) -> gst_app::AppSink {
    let mut format: Option<(gst::Caps, Arc<Format>)> = None;
    let on_sample = {
        let element = element.downgrade();
        move |appsink: &gst_app::AppSink| {
            let sample = appsink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let Some(element) = element.upgrade() else { return Err(gst::FlowError::Flushing) };
            let (Some(caps), Some(buffer)) = (sample.caps(), sample.buffer()) else { return Ok(gst::FlowSuccess::Ok) };
            let Ok(map) = buffer.map_readable() else { return Ok(gst::FlowSuccess::Ok) };
            let keyframe = track == Track::Audio || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            let known = format.as_ref().filter(|(known, _)| known.as_ref() == caps);
            if known.is_none_or(|(_, format)| keyframe && format::is_in_band(format)) {
                match (format::read(track, caps, bitrate, &map), &mut format) {
                    // What nobody could tell apart goes on being shared.
                    (Some(new), Some((of, known))) if new == **known => *of = caps.to_owned(),
                    (Some(new), _) => {
                        format = Some((caps.to_owned(), Arc::new(new)));
                        gst::debug!(CAT, obj = element, "{track:?} is now {caps}");
                    }
                    // The next keyframe tells.
                    (None, Some((_, known))) if !keyframe && format::is_in_band(known) => {}
                    (None, _) => format = None,
                }
            }
            // Without a decoder configuration nobody could decode it.
            let Some((_, format)) = &format else { return Ok(gst::FlowSuccess::Ok) };
            let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
            let running = |time: Option<gst::ClockTime>| signed(segment?.to_running_time_full(time?)?);
            let now = || element.current_running_time().map_or(0, |now| now.nseconds().cast_signed());
            let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
            let place = timeline.place(running(buffer.dts()), running(buffer.pts()), now());
            drop(timeline);
            element.push(
                Unit {
                    format: format.clone(),
                    dts: place.dts,
                    pts: place.pts,
                    keyframe,
                    data: Bytes::copy_from_slice(format::body(format, &map)),
                },
                place.repaired,
            );
            Ok(gst::FlowSuccess::Ok)
        }
    };
    let on_eos = {
        let element = element.downgrade();
        move |_: &gst_app::AppSink| {
            progress.set_drained();
            if let Some(element) = element.upgrade() {
                element.check_ending();
            }
        }
    };
    gst_app::AppSink::builder()
        .caps(output)
        // Set anew before the first buffer, when it is known whether upstream is live.
        .sync(false)
        .async_(false)
        .qos(false)
        .enable_last_sample(false)
        .callbacks(gst_app::AppSinkCallbacks::builder().new_sample(on_sample).eos(on_eos).build())
        .build()
}

fn signed(time: gst::Signed<gst::ClockTime>) -> Option<i64> {
    match time {
        gst::Signed::Positive(time) => i64::try_from(time.nseconds()).ok(),
        gst::Signed::Negative(time) => i64::try_from(time.nseconds()).ok().map(|ns| -ns),
    }
}

/// Whether upstream of a pad is live. One that does not answer is taken as live: waiting for the clock would be wrong
/// for it, and only files need it.
pub(super) fn is_upstream_live(pad: &impl IsA<gst::Pad>) -> bool {
    let mut query = gst::query::Latency::new();
    !pad.as_ref().peer_query(&mut query) || query.result().0
}

/// Asks upstream of a chain's end for a keyframe.
pub(super) fn request_keyframe(appsink: &gst_app::AppSink) -> bool {
    let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
    appsink.static_pad("sink").is_some_and(|pad| pad.push_event(event))
}

/// The weak reference that callbacks hold.
pub(super) type WeakElement = glib::WeakRef<RtmpBridgeSink>;
