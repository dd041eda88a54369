//! Keyframes by time: a group of pictures lasts keyframe-interval at any frame rate, constant or not.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use gst::prelude::*;

/// Running times are rounded on their way here; without slack the keyframe would come a frame late.
const SLACK_NS: i64 = 1_000_000;

/// Asks `encoder` for a keyframe whenever one is due.
pub(super) fn keep(encoder: &gst::Element, interval: Duration) {
    let (Some(sink), Some(src)) = (encoder.static_pad("sink"), encoder.static_pad("src")) else { return };
    let src = src.downgrade();
    let schedule = Mutex::new(Schedule::new(i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX)));
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(running_time), Some(src)) =
            (info.buffer().and_then(|buffer| running_time(pad, buffer)), src.upgrade())
            && schedule.lock().unwrap_or_else(PoisonError::into_inner).is_due(running_time)
        {
            // The encoder handles it at once: it applies to the frame that is about to come in.
            src.send_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        gst::PadProbeReturn::Ok
    });
}

fn running_time(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<i64> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(buffer.pts()?).and_then(|time| i64::try_from(time.nseconds()).ok())
}

/// When keyframes are due. Pure.
#[derive(Debug)]
struct Schedule {
    interval_ns: i64,
    last: Option<i64>,
}

impl Schedule {
    fn new(interval_ns: i64) -> Self {
        Self { interval_ns: interval_ns.max(SLACK_NS * 2), last: None }
    }

    /// Whether the frame at this time has to be a keyframe. The first one is, without being asked.
    fn is_due(&mut self, now: i64) -> bool {
        let Some(last) = self.last else {
            self.last = Some(now);
            return false;
        };
        let periods = (now - last + SLACK_NS).div_euclid(self.interval_ns);
        if periods == 0 {
            return false;
        }
        // On the grid, so that the frame rate does not make it drift; after a jump backwards it starts anew.
        self.last = Some(last + periods * self.interval_ns);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn keyframes(frame_ns: impl Fn(i64) -> i64, frames: i64) -> Vec<i64> {
        let mut schedule = Schedule::new(2 * SECOND);
        (0..frames).filter(|frame| schedule.is_due(frame_ns(*frame))).collect()
    }

    #[test]
    fn thirty_frames_a_second_make_groups_of_sixty() {
        assert_eq!(keyframes(|frame| frame * SECOND / 30, 200), [60, 120, 180]);
    }

    #[test]
    fn odd_frame_rates_do_not_drift() {
        // 7 frames a second: frames at 2, 4, 6 s exactly.
        assert_eq!(keyframes(|frame| frame * SECOND / 7, 43), [14, 28, 42]);
        // 29.97: the first frame at or after each 2 s.
        assert_eq!(keyframes(|frame| frame * SECOND * 1001 / 30000, 200), [60, 120, 180]);
    }

    #[test]
    fn gap_makes_one_keyframe_and_keeps_the_grid() {
        let times = [0, 1, 11, 12, 13];
        let mut schedule = Schedule::new(2 * SECOND);
        let due: Vec<_> = times.into_iter().filter(|time| schedule.is_due(time * SECOND)).collect();
        assert_eq!(due, [11, 12]);
    }
}
