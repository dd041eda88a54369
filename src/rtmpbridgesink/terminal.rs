//! The end of a chain: an appsink whose buffers become units on the pipeline's running time.

use std::sync::Arc;

use bytes::Bytes;
use gst::{glib, prelude::*};

use super::{RtmpBridgeSink, format, imp::CAT, input::Progress, stage::Candidate, stamps, timeline::Stamps};
use crate::rtmp::{Format, Track};

/// Makes the appsink. It calls back into `element` on the chain's streaming thread.
pub(super) fn make(
    element: &RtmpBridgeSink,
    track: Track,
    output: &gst::Caps,
    bitrate: Option<u32>,
    progress: Arc<Progress>,
) -> gst_app::AppSink {
    let mut format: Option<(gst::Caps, Arc<Format>)> = None;
    let on_sample = {
        let progress = progress.clone();
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
            let stamps = segment.map_or_else(Stamps::default, |segment| stamps::read(buffer, segment));
            element.deliver(Candidate {
                format: format.clone(),
                stamps,
                // Live video does not, and its steps back are trouble.
                may_reorder: track == Track::Video && !progress.is_live(),
                keyframe,
                data: Bytes::copy_from_slice(format::body(format, &map)),
            });
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

/// Whether upstream of a pad is live, if it answers.
pub(super) fn is_upstream_live(pad: &impl IsA<gst::Pad>) -> Option<bool> {
    let mut query = gst::query::Latency::new();
    pad.as_ref().peer_query(&mut query).then(|| query.result().0)
}

/// Asks upstream of a chain's end for a keyframe.
pub(super) fn request_keyframe(appsink: &gst_app::AppSink) -> bool {
    let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
    appsink.static_pad("sink").is_some_and(|pad| pad.push_event(event))
}

/// The weak reference that callbacks hold.
pub(super) type WeakElement = glib::WeakRef<RtmpBridgeSink>;
