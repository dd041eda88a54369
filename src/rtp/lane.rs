//! A track's one thread: takes packets in the order of their coming, puts them in the order of their sending, and pushes them
//! into the elements behind with the timestamps of the session's clock.

#[cfg(test)]
mod stepped;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gst::prelude::*;

#[cfg(test)]
pub(super) use stepped::Stepped;

use super::{
    chain::Counts,
    clock::{Now, SessionClock},
    cut_short::CutShort,
    inlet::{Inlet, Taken},
    numbering::{Numbering, Verdict},
    packet::to_buffer,
    reorder::{Next, Reorder},
};
use crate::{
    codec::{Codec, MediaKind},
    session::RtpPacket,
};

/// Running time is asked for so often: it costs as much as carrying a packet.
const CLOCK_HOLDS: Duration = Duration::from_millis(1);

/// What others want to know of a lane.
#[derive(Default)]
pub(super) struct Signs {
    /// Running time in ns at which the last packet came that was not padding; 0 before the first.
    pub(super) heard: AtomicU64,
    /// A packet came.
    pub(super) media: AtomicBool,
    /// Downstream has refused the format.
    pub(super) not_negotiated: AtomicBool,
    /// Set after a drop: what depends on the dropped frame must not go on.
    pub(super) needs_keyframe: AtomicBool,
    /// The packet that is on its way through the chain begins a keyframe, so that there is no need to ask for one.
    pub(super) keyframe_begins: AtomicBool,
    /// From which running times on downstream wants a keyframe, such as for its next file.
    keyframes_from: Mutex<BTreeSet<gst::ClockTime>>,
}

/// Who writes files asks for one keyframe in advance; more than so many do not stand behind one pad.
const MOST_WRITERS: usize = 16;

impl Signs {
    /// A keyframe is wanted from this running time on.
    pub(super) fn want_keyframe_from(&self, time: gst::ClockTime) {
        let mut times = self.keyframes_from.lock().unwrap_or_else(PoisonError::into_inner);
        times.insert(time);
        if times.len() > MOST_WRITERS {
            times.pop_last();
        }
    }

    /// A frame of this running time goes out: whether a keyframe was wanted by then.
    pub(super) fn keyframe_is_due(&self, time: gst::ClockTime) -> bool {
        let mut times = self.keyframes_from.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_due = false;
        while times.first().is_some_and(|first| *first <= time) {
            times.pop_first();
            is_due = true;
        }
        is_due
    }
}

/// What a lane works with.
pub(super) struct Parts {
    pub(super) inlet: Arc<Inlet>,
    /// Where it pushes to.
    pub(super) source: gst::Pad,
    pub(super) bin: gst::glib::WeakRef<gst::Bin>,
    pub(super) clock: Arc<SessionClock>,
    /// The track's index in the session and on the clock.
    pub(super) track: usize,
    pub(super) codec: Codec,
    pub(super) latency: Duration,
    pub(super) counts: Arc<Counts>,
    pub(super) signs: Arc<Signs>,
}

/// Starts the thread. It ends when the inlet does.
pub(super) fn start(name: &str, parts: Parts) -> std::io::Result<JoinHandle<()>> {
    let lane = Lane::new(parts);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || lane.run())
}

/// A packet on its way through the reordering.
#[derive(Debug)]
struct Timed {
    packet: RtpPacket,
    running_time: gst::ClockTime,
    /// A stream begins with it.
    discontinuity: bool,
}

struct Lane {
    inlet: Arc<Inlet>,
    bin: gst::glib::WeakRef<gst::Bin>,
    counts: Arc<Counts>,
    signs: Arc<Signs>,
    numbering: Numbering,
    /// A packet that may begin a stream, and when it came.
    held: Option<(RtpPacket, gst::ClockTime)>,
    /// The next packet begins a stream.
    discontinuity: bool,
    reorder: Reorder<Timed>,
    output: Output,
    now: Option<Now>,
}

impl Lane {
    fn new(parts: Parts) -> Self {
        let reorder = Reorder::new(parts.latency);
        let output = Output {
            source: parts.source,
            clock: parts.clock,
            track: parts.track,
            kind: parts.codec.kind(),
            cut_short: (parts.codec.kind() == MediaKind::Video).then(|| CutShort::new(parts.codec)),
            counts: parts.counts.clone(),
            signs: parts.signs.clone(),
            number: 0,
            lost: 0,
            last: None,
            discontinuity: false,
        };
        Self {
            inlet: parts.inlet,
            bin: parts.bin,
            counts: parts.counts,
            signs: parts.signs,
            numbering: Numbering::default(),
            held: None,
            discontinuity: true,
            reorder,
            output,
            now: None,
        }
    }

    fn run(mut self) {
        loop {
            match self.inlet.take(self.reorder.due(), self.reorder.holds()) {
                Taken::Packet(packet) => {
                    // While this thread was held up, time went on for packets by when they came.
                    let Self { reorder, output, .. } = &mut self;
                    reorder.expire(packet.arrival, |next| output.take(next));
                    self.packet(packet);
                }
                Taken::Pause { start, duration } => {
                    self.output.source.push_event(gst::event::Gap::builder(start).duration(duration).build());
                }
                Taken::TimedOut => {
                    let Self { reorder, output, .. } = &mut self;
                    reorder.expire(Instant::now(), |next| output.take(next));
                }
                Taken::Finished => {
                    let Self { reorder, output, .. } = &mut self;
                    reorder.flush(|next| output.take(next));
                    self.count();
                    return;
                }
                Taken::Stopped => return,
            }
            self.count();
        }
    }

    fn count(&mut self) {
        let new = self.reorder.take_counts();
        self.counts.lost.fetch_add(new.lost, Relaxed);
        self.counts.late.fetch_add(new.late, Relaxed);
        self.counts.duplicates.fetch_add(new.duplicates, Relaxed);
    }

    fn packet(&mut self, packet: RtpPacket) {
        self.signs.media.store(true, Relaxed);
        let Some(running_time) = self.running_time(packet.arrival) else {
            self.counts.unusable.fetch_add(1, Relaxed); // the pipeline does not play
            return;
        };
        if !packet.payload.is_empty() {
            self.signs.heard.fetch_max(running_time.nseconds(), Relaxed);
        }
        match self.numbering.judge(packet.ssrc, packet.sequence_number, packet.timestamp) {
            Verdict::Pass(number) => {
                if self.numbering.is_behind(packet.sequence_number) {
                    self.counts.disordered.fetch_add(1, Relaxed);
                } else {
                    self.counts.stray.fetch_add(self.held.take().is_some().into(), Relaxed);
                }
                self.order(number, packet, running_time);
            }
            Verdict::Late => {
                self.counts.disordered.fetch_add(1, Relaxed);
                self.counts.late.fetch_add(1, Relaxed);
            }
            Verdict::Hold => {
                let stray = self.held.replace((packet, running_time)).is_some();
                self.counts.stray.fetch_add(stray.into(), Relaxed);
            }
            Verdict::Begin(first, number) => {
                self.discontinuity = true;
                self.counts.lost.fetch_add(self.numbering.take_passed_over(), Relaxed);
                match (first, self.held.take()) {
                    (Some(first), Some((held, running_time))) => self.order(first, held, running_time),
                    (_, stray) => _ = self.counts.stray.fetch_add(stray.is_some().into(), Relaxed),
                }
                self.order(number, packet, running_time);
            }
        }
    }

    fn order(&mut self, number: u16, packet: RtpPacket, running_time: gst::ClockTime) {
        let (size, arrival) = (packet.payload.len(), packet.arrival);
        let discontinuity = std::mem::take(&mut self.discontinuity);
        let timed = Timed { packet, running_time, discontinuity };
        let Self { reorder, output, .. } = self;
        reorder.push(number, timed, size, arrival, |next| output.take(next));
    }

    /// `None` unless the pipeline plays.
    fn running_time(&mut self, at: Instant) -> Option<gst::ClockTime> {
        let instant = Instant::now();
        if self.now.is_none_or(|now| instant.saturating_duration_since(now.instant) > CLOCK_HOLDS) {
            let running_time = self.bin.upgrade().and_then(|bin| bin.current_running_time());
            self.now = running_time.map(|running_time| Now { instant, running_time });
        }
        Some(self.now?.running_time_at(at))
    }
}

/// What is in order, on its way to the depayloader.
struct Output {
    source: gst::Pad,
    clock: Arc<SessionClock>,
    track: usize,
    kind: MediaKind,
    /// Of video.
    cut_short: Option<CutShort>,
    counts: Arc<Counts>,
    signs: Arc<Signs>,
    /// Of the next packet. Depayloaders would miss the numbers of padding.
    number: u16,
    /// Numbers that are missing in front of the next packet.
    lost: u64,
    /// PTS of the last packet.
    last: Option<gst::ClockTime>,
    /// The next packet begins a stream.
    discontinuity: bool,
}

impl Output {
    fn take(&mut self, next: Next<Timed>) {
        match next {
            Next::Lost(count) => self.lost += count,
            Next::Packet(timed) => self.packet(&timed),
        }
    }

    fn packet(&mut self, timed: &Timed) {
        self.discontinuity |= timed.discontinuity;
        let packet = &timed.packet;
        if packet.payload.is_empty() {
            self.counts.padding.fetch_add(1, Relaxed);
            return;
        }
        let stamp = self.clock.stamp(self.track, packet.ssrc, packet.timestamp, timed.running_time);
        let Some((pts, dts)) = stamp else { return };
        if let Some(pictures) = &mut self.cut_short {
            if self.lost > 0 || self.discontinuity {
                pictures.gap();
            }
            if let Some(cut) = pictures.before(packet) {
                // How much there would have been nobody knows.
                self.lost += 1;
                self.counts.cut_short.fetch_add(1, Relaxed);
                // Asked for another keyframe, Chromium would cut the next picture short for it.
                self.signs.keyframe_begins.store(cut.begins_keyframe, Relaxed);
            }
        }
        self.tell_lost(pts);
        let Some(mut buffer) = to_buffer(packet, self.number) else {
            self.signs.keyframe_begins.store(false, Relaxed);
            return;
        };
        self.number = self.number.wrapping_add(1);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(pts);
            buffer.set_dts(dts);
            if std::mem::take(&mut self.discontinuity) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.last = Some(pts);
        let pushed = self.source.push(buffer);
        self.signs.keyframe_begins.store(false, Relaxed);
        let Err(error) = pushed else { return };
        // Flushing and EOS are downstream's wish; an error has been posted where it happened.
        self.counts.unusable.fetch_add(1, Relaxed);
        match error {
            // Nobody is linked behind a tee, perhaps: what comes when somebody is must begin with a keyframe.
            gst::FlowError::NotLinked => self.signs.needs_keyframe.store(self.kind == MediaKind::Video, Relaxed),
            gst::FlowError::NotNegotiated => self.signs.not_negotiated.store(true, Relaxed),
            _ => {}
        }
    }

    /// Tells what is missing in front of a packet: of audio each one, because each is concealed; of video all at once.
    fn tell_lost(&mut self, pts: gst::ClockTime) {
        let lost = std::mem::take(&mut self.lost);
        if lost == 0 {
            return;
        }
        let first = self.number;
        self.number = self.number.wrapping_add(lost as u16);
        let Some(last) = self.last.filter(|last| *last < pts) else {
            self.source.push_event(lost_event(first, pts, gst::ClockTime::ZERO));
            return;
        };
        let spacing = (pts - last) / (lost + 1);
        match self.kind {
            MediaKind::Video => {
                self.source.push_event(lost_event(first, last + spacing, spacing * lost));
            }
            MediaKind::Audio => {
                for index in 0..lost {
                    let number = first.wrapping_add(index as u16);
                    self.source.push_event(lost_event(number, last + spacing * (index + 1), spacing));
                }
            }
        }
    }
}

/// What depayloaders understand as the loss of packets, in the words of GStreamer's jitter buffer.
fn lost_event(number: u16, timestamp: gst::ClockTime, duration: gst::ClockTime) -> gst::Event {
    let lost = gst::Structure::builder("GstRTPPacketLost")
        .field("seqnum", u32::from(number))
        .field("timestamp", timestamp.nseconds())
        .field("duration", duration.nseconds())
        .field("retry", 0u32)
        .build();
    gst::event::CustomDownstream::new(lost)
}
