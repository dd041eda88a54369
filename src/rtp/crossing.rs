//! The media thread's side: what is handed over to the tracks' threads and to the crossing thread, and when they are woken.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use super::{
    chain::Counts,
    clock::SessionClock,
    data::{DataFeed, DataIn},
    elements::ChainError,
    inlet::Inlet,
    queue::{Item, Queue},
    sync::SyncStats,
    worker::Worker,
};
use crate::{
    codec::MediaKind,
    session::{ConnectionState, DataSink, EndReason, KeyframeControl, PacketSink, RtpPacket, SenderReport, Track},
};

/// The element's side: it owns the bin and its pads. Called on the crossing thread only.
pub trait Receiver: Send + 'static {
    /// The bin to put elements into; `None` when it is going away.
    fn bin(&self) -> Option<gst::Bin>;
    /// Makes the pad of this kind and number, shows `caps` on it and adds it to the element.
    fn add_pad(&self, kind: MediaKind, number: usize, caps: Option<&gst::Caps>) -> Option<gst::GhostPad>;
    /// All pads of the session have been added.
    fn no_more_pads(&self);
    /// The connection's state changed.
    fn state_changed(&self, state: ConnectionState);
    /// A session began; `id` is for logs and signals.
    fn session_started(&self, id: &str);
    /// A session is over.
    fn session_ended(&self, id: &str, reason: EndReason);
    /// EOS has been sent on every pad: no session can follow.
    fn stream_ended(&self);
    /// A track cannot be received.
    fn failed(&self, error: &ChainError);
    /// Media comes but no pad is linked to anything.
    fn nothing_linked(&self);
    /// Downstream of a pad does not take what comes.
    fn not_negotiated(&self, pad: &gst::GhostPad);
}

/// Counters over all sessions of one element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossingStats {
    /// RTP packets dropped here: the pipeline was not playing, the session over, downstream refused, or the sequence number
    /// fits nowhere; and reports that were too many.
    pub dropped_packets: u64,
    /// RTP packets dropped because downstream takes nothing.
    pub dropped_backlog: u64,
    /// RTP packets that did not come in time.
    pub lost_packets: u64,
    /// Of these, such that came after all.
    pub late_packets: u64,
    /// RTP packets that came more than once.
    pub repeated_packets: u64,
    /// RTP packets that came behind later ones, sent again or overtaken, and still in time.
    pub reordered_packets: u64,
    /// Pictures whose sender has thrown the end of them away, and made another keyframe instead.
    pub cut_short_pictures: u64,
    /// RTP packets of padding only: bandwidth probes, not media and not loss.
    pub padding_packets: u64,
    /// Frames pushed downstream.
    pub frames: u64,
    /// Frames dropped because a pad was not linked.
    pub dropped_unlinked: u64,
    /// Frames dropped while waiting for a keyframe, whole ones; damaged ones count as lost packets.
    pub dropped_waiting: u64,
}

pub(super) enum Message {
    Begin { number: u64, id: String, begun: Begun },
    Report { number: u64, track: usize, report: SenderReport },
    State(ConnectionState),
    Ended { number: u64, id: String, reason: EndReason },
    Eos,
    Stop,
}

impl Item for Message {
    fn is_droppable(&self) -> bool {
        // A peer may send as many reports as it likes.
        matches!(self, Self::Report { .. })
    }
}

/// What both sides share.
pub(super) struct Shared {
    pub(super) queue: Queue<Message>,
    sessions: AtomicU64,
    pub(super) counts: Arc<Counts>,
    clock: Mutex<Option<Arc<SessionClock>>>,
    data: OnceLock<Arc<DataIn>>,
}

impl Shared {
    /// The stream is over for the data pads too.
    pub(super) fn end_data(&self) {
        if let Some(data) = self.data.get() {
            data.end_of_stream();
        }
    }

    /// The clock of the last session.
    pub(super) fn clock(&self) -> MutexGuard<'_, Option<Arc<SessionClock>>> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The crossing of one element: a queue and the thread that empties it.
pub struct Crossing {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Crossing {
    /// Starts the thread. `latency` in ms is the most that packets are held for a missing one; with `eos_on_end`, the end of
    /// a session that was connected is EOS.
    pub fn start(name: &str, receiver: impl Receiver, latency: u32, eos_on_end: bool) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Queue::new(),
            sessions: AtomicU64::new(0),
            counts: Arc::default(),
            clock: Mutex::default(),
            data: OnceLock::new(),
        });
        let worker = Worker::new(shared.clone(), receiver, latency, eos_on_end);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The sink for a session to come; its packets count once [`SessionFeed::begin`] was called.
    pub fn feed(&self, id: &str) -> SessionFeed {
        let number = self.shared.sessions.fetch_add(1, Relaxed);
        SessionFeed { shared: self.shared.clone(), number, id: id.to_owned(), begun: Arc::default() }
    }

    /// Data channels come out of these pads. Without any, sessions have none.
    pub fn take_data(&self, data: Arc<DataIn>) {
        let _ = self.shared.data.set(data); // set once
    }

    /// The data pads.
    pub fn data(&self) -> Option<&DataIn> {
        self.shared.data.get().map(|data| &**data)
    }

    /// Sends EOS downstream on every pad, adding the pads that a pipeline still waits for. Nothing can follow.
    pub fn end_of_stream(&self) {
        self.shared.queue.push(Message::Eos, true);
    }

    /// Counters so far.
    pub fn stats(&self) -> CrossingStats {
        let counts = &self.shared.counts;
        let (late, duplicates) = (counts.late.load(Relaxed), counts.duplicates.load(Relaxed));
        CrossingStats {
            dropped_packets: self.shared.queue.dropped() + counts.unusable.load(Relaxed) + counts.stray.load(Relaxed),
            dropped_backlog: counts.backlog.load(Relaxed),
            lost_packets: counts.lost.load(Relaxed),
            late_packets: late,
            repeated_packets: duplicates,
            reordered_packets: counts.disordered.load(Relaxed).saturating_sub(late + duplicates),
            padding_packets: counts.padding.load(Relaxed),
            cut_short_pictures: counts.cut_short.load(Relaxed),
            frames: counts.frames.load(Relaxed),
            dropped_unlinked: counts.unlinked.load(Relaxed),
            dropped_waiting: counts.waiting.load(Relaxed),
        }
    }

    /// How far the tracks of the last session are in sync.
    pub fn sync_stats(&self) -> SyncStats {
        self.shared.clock().as_ref().map(|clock| clock.stats()).unwrap_or_default()
    }

    /// Stops the thread and its chains; pads stay as they are. Downstream must not be blocking for good. Called on the
    /// crossing thread itself (by a signal handler that stops the pipeline), it returns without waiting.
    pub fn stop(&self) {
        self.shared.queue.push(Message::Stop, true);
        if let Some(data) = self.shared.data.get() {
            data.stop();
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// A session's end of the crossing.
#[derive(Clone)]
pub struct SessionFeed {
    shared: Arc<Shared>,
    number: u64,
    id: String,
    begun: Arc<OnceLock<Begun>>,
}

/// What a session began with: all that there is to know of it when its peer comes back.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) keyframes: Arc<dyn KeyframeControl>,
    pub(super) tracks: Vec<Track>,
    /// One for each track, in their order.
    pub(super) entries: Arc<[Entry]>,
}

/// Where a track's packets go in.
pub(super) struct Entry {
    track: usize,
    pub(super) inlet: Arc<Inlet>,
    progress: Progress,
}

/// How far a track's packets have come, to tell when a frame may be complete. A picture is of many packets; waking the
/// track's thread for each would cost more than carrying them.
#[derive(Default)]
struct Progress {
    /// Sequence number, marker and timestamp of the last packet; used by one thread, the media thread.
    last: AtomicU64,
}

impl Progress {
    /// Whether somebody may be waiting for just this packet: it ends a frame, is behind one whose end bears no marker, or
    /// fills or makes a gap.
    fn completes(&self, packet: &RtpPacket) -> bool {
        const MARKER: u64 = 1 << 32;
        let marker = if packet.marker { MARKER } else { 0 };
        let this = u64::from(packet.sequence_number) << 33 | marker | u64::from(packet.timestamp);
        let last = self.last.swap(this, Relaxed);
        let follows = packet.sequence_number == ((last >> 33) as u16).wrapping_add(1);
        let ended = last & MARKER != 0;
        packet.marker || !follows || !ended && packet.timestamp != last as u32
    }
}

impl SessionFeed {
    /// Where the session's data channels go, if they are wanted.
    pub fn data(&self) -> Option<Arc<dyn DataSink>> {
        let data = self.shared.data.get()?.clone();
        Some(Arc::new(DataFeed::new(data)))
    }

    /// The session has been answered: its pads are added, then its packets follow.
    pub fn begin(&self, keyframes: Arc<dyn KeyframeControl>, tracks: Vec<Track>) {
        let entry = |track: &Track| Entry {
            track: track.index,
            inlet: Arc::new(Inlet::new(self.shared.counts.clone())),
            progress: Progress::default(),
        };
        let entries = tracks.iter().map(entry).collect();
        let begun = self.begun.get_or_init(|| Begun { keyframes, tracks, entries });
        self.push_begin(begun);
    }

    fn push_begin(&self, begun: &Begun) {
        begun.entries.iter().for_each(|entry| entry.inlet.open());
        let (number, id) = (self.number, self.id.clone());
        self.shared.queue.push(Message::Begin { number, id, begun: begun.clone() }, true);
    }
}

impl PacketSink for SessionFeed {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        let entry = self.begun.get().and_then(|begun| begun.entries.iter().find(|entry| entry.track == track));
        let Some(entry) = entry else {
            self.shared.counts.unusable.fetch_add(1, Relaxed);
            return;
        };
        let urgent = entry.progress.completes(&packet);
        entry.inlet.push(packet, urgent);
    }

    fn sender_report(&self, track: usize, report: SenderReport) {
        self.shared.queue.push(Message::Report { number: self.number, track, report }, true);
    }

    fn state_changed(&self, state: ConnectionState) {
        self.shared.queue.push(Message::State(state), true);
    }

    fn ended(&self, reason: EndReason) {
        self.shared.queue.push(Message::Ended { number: self.number, id: self.id.clone(), reason }, true);
    }

    fn resumed(&self) {
        if let Some(begun) = self.begun.get() {
            self.push_begin(begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_packet_is_urgent_where_a_frame_may_be_complete() {
        let progress = Progress::default();
        let urgent = |sequence_number, timestamp, marker| {
            progress.completes(&RtpPacket {
                dependencies: None,
                marker,
                payload_type: 96,
                sequence_number,
                timestamp,
                ssrc: 1,
                payload: Bytes::new(),
                arrival: Instant::now(),
            })
        };
        urgent(65_534, 100, false);
        assert!(!urgent(65_535, 100, false), "in the middle of a frame");
        assert!(!urgent(0, 100, false), "over the wrap");
        assert!(urgent(1, 100, true), "the end of a frame");
        assert!(!urgent(2, 200, false), "the begin of the next frame");
        assert!(!urgent(3, 200, false), "its middle");
        assert!(urgent(4, 300, false), "a frame has ended without a marker");
        assert!(urgent(6, 300, false), "a gap");
        assert!(urgent(5, 300, false), "what was missing");
    }
}
