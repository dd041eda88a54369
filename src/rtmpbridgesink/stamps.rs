//! Rewrites what comes in to placed time: one plain segment for ever, and buffers on it. What `timeline` decides is done
//! here; whatever is behind the pad never sees a jump.

use super::timeline::{Kind, Stamps};

/// Time 0 of our segment. Decoding may begin before the first presentation, and time cannot be negative; x264enc shifts by
/// the same for the same reason.
const ORIGIN: gst::ClockTime = gst::ClockTime::from_seconds(1000 * 3600);
/// What is further away than 95 years is no time, and could not be calculated with. Wall clock time since 1970 can.
const MOST: i64 = 3_000_000_000_000_000_000;

/// The segment of everything behind a pad.
pub(super) fn segment() -> gst::FormattedSegment<gst::ClockTime> {
    let mut segment = gst::FormattedSegment::new();
    segment.set_start(ORIGIN);
    segment.set_position(ORIGIN);
    segment
}

/// A buffer's timestamps in running time.
pub(super) fn read(buffer: &gst::BufferRef, segment: &gst::FormattedSegment<gst::ClockTime>) -> Stamps {
    let running = |time: Option<gst::ClockTime>| signed(segment.to_running_time_full(time?)?);
    Stamps { dts: running(buffer.dts()), pts: running(buffer.pts()) }
}

/// Puts a buffer where it belongs in our segment.
pub(super) fn write(buffer: &mut gst::BufferRef, stamps: Stamps) {
    buffer.set_dts(stamps.dts.map(position));
    buffer.set_pts(stamps.pts.map(position));
}

/// A running time as a place in our segment.
pub(super) fn position(running: i64) -> gst::ClockTime {
    let ns = i64::try_from(ORIGIN.nseconds()).unwrap_or(i64::MAX).saturating_add(running);
    gst::ClockTime::from_nseconds(ns.max(0).unsigned_abs())
}

/// A running time as a number; `None` if no show can have it.
pub(super) fn signed(time: gst::Signed<gst::ClockTime>) -> Option<i64> {
    let (time, sign) = match time {
        gst::Signed::Positive(time) => (time, 1),
        gst::Signed::Negative(time) => (time, -1),
    };
    i64::try_from(time.nseconds()).ok().filter(|ns| *ns <= MOST).map(|ns| sign * ns)
}

/// What buffers of these caps are.
pub(super) fn kind(caps: &gst::CapsRef) -> Kind {
    let Some(structure) = caps.structure(0) else { return Kind::Stream };
    let is = |field: &str, value: &str| structure.get::<&str>(field) == Ok(value);
    match structure.name().as_str() {
        "video/x-raw" | "audio/x-raw" | "video/x-vp8" | "video/x-vp9" => Kind::Frames,
        "audio/x-opus" | "audio/x-alaw" | "audio/x-mulaw" => Kind::Frames,
        "video/x-h264" | "video/x-h265" if is("alignment", "au") => Kind::Pictures,
        "audio/mpeg" if is("stream-format", "raw") => Kind::Pictures,
        _ => Kind::Stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let stamps = Stamps { dts: Some(-80_000_000), pts: Some(33_333_333) };
        write(buffer.make_mut(), stamps);
        assert_eq!(read(&buffer, &segment()), stamps);
    }

    #[test]
    fn times_beyond_reason_are_none() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        buffer.make_mut().set_pts(gst::ClockTime::from_nseconds(u64::MAX - 1));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert_eq!(read(&buffer, &segment), Stamps::default());
    }
}
