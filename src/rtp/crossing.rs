//! The thread that carries packets over, and the order of things: a session's begin, its packets, its end, EOS.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    caps,
    chain::{Chain, ChainError, Gate},
    queue::{Item, Queue},
};
use crate::{
    codec::{Codec, MediaKind},
    session::{ConnectionState, EndReason, KeyframeControl, PacketSink, RtpPacket, SenderReport, Track},
};

/// How often a pause is bridged by GAP events.
const GAP_INTERVAL: Duration = Duration::from_millis(250);

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
    /// A track cannot be received.
    fn failed(&self, error: &ChainError);
    /// Media comes but no pad is linked to anything.
    fn nothing_linked(&self);
}

/// Counters over all sessions of one element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossingStats {
    /// RTP packets dropped because the queue was full or the pipeline not playing.
    pub dropped_packets: u64,
    /// Frames pushed downstream.
    pub frames: u64,
    /// Frames dropped because a pad was not linked.
    pub dropped_unlinked: u64,
    /// Frames dropped while waiting for a keyframe.
    pub dropped_waiting: u64,
    /// RTP packets dropped because downstream takes nothing.
    pub dropped_backlog: u64,
}

enum Message {
    Begin { number: u64, id: String, keyframes: Arc<dyn KeyframeControl>, tracks: Vec<Track> },
    Rtp { number: u64, track: usize, packet: RtpPacket },
    State(ConnectionState),
    Ended { number: u64, id: String, reason: EndReason },
    Eos,
    Stop,
}

impl Item for Message {
    fn is_packet(&self) -> bool {
        matches!(self, Self::Rtp { .. })
    }
}

/// The crossing of one element: a queue and the thread that empties it.
pub struct Crossing {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Queue<Message>,
    sessions: AtomicU64,
    not_playing: AtomicU64,
    /// One for each kind of pad; all pads of a kind count together.
    gates: [Arc<Gate>; 2],
}

impl Shared {
    fn gate(&self, kind: MediaKind) -> &Arc<Gate> {
        &self.gates[usize::from(kind == MediaKind::Video)]
    }
}

impl Crossing {
    /// Starts the thread. `latency` in ms is that of the jitter buffers; with `eos_on_end`, the end of a session is EOS.
    pub fn start(name: &str, receiver: impl Receiver, latency: u32, eos_on_end: bool) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Queue::new(),
            sessions: AtomicU64::new(0),
            not_playing: AtomicU64::new(0),
            gates: Default::default(),
        });
        let worker = Worker {
            shared: shared.clone(),
            receiver,
            latency,
            eos_on_end,
            pads: BTreeMap::new(),
            live: None,
            bridged: None,
            told_unlinked: false,
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The sink for a session to come; its packets count once [`SessionFeed::begin`] was called.
    pub fn feed(&self, id: &str) -> SessionFeed {
        let number = self.shared.sessions.fetch_add(1, Relaxed);
        SessionFeed { shared: self.shared.clone(), number, id: id.to_owned(), progress: Arc::default() }
    }

    /// Sends EOS downstream on every pad, adding the pads that an unlinked pipeline still waits for.
    pub fn end_of_stream(&self) {
        self.shared.queue.push(Message::Eos, true);
    }

    /// Counters so far.
    pub fn stats(&self) -> CrossingStats {
        let sum = |counter: fn(&Gate) -> &AtomicU64| {
            self.shared.gates.iter().map(|gate| counter(gate).load(Relaxed)).sum::<u64>()
        };
        CrossingStats {
            dropped_packets: self.shared.queue.dropped() + self.shared.not_playing.load(Relaxed),
            frames: sum(|gate| &gate.frames),
            dropped_unlinked: sum(|gate| &gate.unlinked),
            dropped_waiting: sum(|gate| &gate.waiting),
            dropped_backlog: sum(|gate| &gate.backlog),
        }
    }

    /// Stops the thread and its chains; pads stay as they are. Downstream must not be blocking for good. Called on the
    /// crossing thread itself (by a signal handler that stops the pipeline), it returns without waiting.
    pub fn stop(&self) {
        self.shared.queue.push(Message::Stop, true);
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
    progress: Arc<[Progress; 8]>,
}

/// How far a track's packets have come, to tell when a frame may be complete. A picture is of many packets; waking the
/// crossing for each would cost more than carrying them.
#[derive(Default)]
struct Progress {
    /// Sequence number and timestamp of the last packet; used by one thread, the media thread.
    last: AtomicU64,
}

impl Progress {
    /// Whether somebody may be waiting for just this packet: it ends a frame, begins the next, or fills or makes a gap.
    fn completes(&self, packet: &RtpPacket) -> bool {
        let this = u64::from(packet.sequence_number) << 32 | u64::from(packet.timestamp);
        let last = self.last.swap(this, Relaxed);
        let follows = packet.sequence_number == ((last >> 32) as u16).wrapping_add(1);
        packet.marker || !follows || packet.timestamp != last as u32
    }
}

impl SessionFeed {
    /// The session has been answered: its pads are added, then its packets follow.
    pub fn begin(&self, keyframes: Arc<dyn KeyframeControl>, tracks: Vec<Track>) {
        let (number, id) = (self.number, self.id.clone());
        self.shared.queue.push(Message::Begin { number, id, keyframes, tracks }, true);
    }
}

impl PacketSink for SessionFeed {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        let urgent = self.progress.get(track).is_none_or(|progress| progress.completes(&packet));
        self.shared.queue.push(Message::Rtp { number: self.number, track, packet }, urgent);
    }

    fn sender_report(&self, _: usize, _: SenderReport) {}

    fn state_changed(&self, state: ConnectionState) {
        self.shared.queue.push(Message::State(state), true);
    }

    fn ended(&self, reason: EndReason) {
        self.shared.queue.push(Message::Ended { number: self.number, id: self.id.clone(), reason }, true);
    }
}

/// A pad, and the chain that feeds it while a session has a track for it.
struct Pad {
    ghost: gst::GhostPad,
    chain: Option<Chain>,
    /// Up to where a pause has been bridged.
    last: Option<gst::ClockTime>,
}

type PadKey = (MediaKind, usize);

struct Live {
    number: u64,
    /// The pad of each track, by the track's index.
    tracks: Vec<PadKey>,
}

struct Worker<R> {
    shared: Arc<Shared>,
    receiver: R,
    latency: u32,
    eos_on_end: bool,
    pads: BTreeMap<PadKey, Pad>,
    live: Option<Live>,
    bridged: Option<Instant>,
    told_unlinked: bool,
}

impl<R: Receiver> Worker<R> {
    fn run(mut self) {
        let mut messages = VecDeque::new();
        'running: loop {
            self.shared.queue.take_all(&mut messages, GAP_INTERVAL);
            for message in messages.drain(..) {
                match message {
                    Message::Begin { number, id, keyframes, tracks } => self.begin(number, &id, &keyframes, &tracks),
                    Message::Rtp { number, track, packet } => self.packet(number, track, &packet),
                    Message::State(state) => self.receiver.state_changed(state),
                    Message::Ended { number, id, reason } => self.ended(number, &id, reason),
                    Message::Eos => self.end_of_stream(),
                    Message::Stop => break 'running,
                }
            }
            if self.bridged.is_none_or(|at| at.elapsed() >= GAP_INTERVAL) {
                self.bridged = Some(Instant::now());
                self.bridge_pauses();
            }
        }
        if let Some(bin) = self.receiver.bin() {
            self.stop_chains(&bin);
        }
    }

    fn begin(&mut self, number: u64, id: &str, keyframes: &Arc<dyn KeyframeControl>, tracks: &[Track]) {
        let Some(bin) = self.receiver.bin() else { return };
        self.stop_chains(&bin);
        self.told_unlinked = false;
        let mut live = Live { number, tracks: Vec::new() };
        let mut counts = [0; 2];
        for track in tracks {
            let count = &mut counts[usize::from(track.kind() == MediaKind::Video)];
            let key = (track.kind(), *count);
            *count += 1;
            live.tracks.push(key);
            if let Err(error) = self.start_track(&bin, key, track, keyframes) {
                self.receiver.failed(&error);
            }
        }
        self.live = Some(live);
        self.receiver.no_more_pads();
        self.receiver.session_started(id);
    }

    fn start_track(
        &mut self,
        bin: &gst::Bin,
        key: PadKey,
        track: &Track,
        keyframes: &Arc<dyn KeyframeControl>,
    ) -> Result<(), ChainError> {
        let Some(ghost) = self.pad(key, Some(track.codec)).map(|pad| pad.ghost.clone()) else { return Ok(()) };
        let gate = self.shared.gate(track.kind()).clone();
        let chain = Chain::start(bin, &ghost, track, keyframes, &gate, self.latency)?;
        if let Some(pad) = self.pads.get_mut(&key) {
            pad.chain = Some(chain);
        }
        Ok(())
    }

    /// The pad of this kind and number, made if it is not there yet.
    fn pad(&mut self, key: PadKey, codec: Option<Codec>) -> Option<&Pad> {
        if !self.pads.contains_key(&key) {
            let caps = codec.map(caps::media);
            let ghost = self.receiver.add_pad(key.0, key.1, caps.as_ref())?;
            self.pads.insert(key, Pad { ghost, chain: None, last: None });
        }
        self.pads.get(&key)
    }

    fn packet(&mut self, number: u64, track: usize, packet: &RtpPacket) {
        let Some(key) = self.live.as_ref().filter(|live| live.number == number).and_then(|live| live.tracks.get(track))
        else {
            return; // the last packets of a session that has been replaced
        };
        let Some(running_time) = self.running_time(packet.arrival) else {
            self.shared.not_playing.fetch_add(1, Relaxed);
            return;
        };
        let Some(pad) = self.pads.get_mut(key) else { return };
        let Some(chain) = &mut pad.chain else { return };
        pad.last = Some(running_time);
        // Downstream's errors are posted where they happen; here they only mean that nobody listens.
        let _ = chain.push(packet, running_time);
        if !self.told_unlinked && self.pads.values().all(|pad| !pad.ghost.is_linked()) {
            self.told_unlinked = true;
            self.receiver.nothing_linked();
        }
    }

    /// The running time at which something arrived; `None` unless the pipeline plays.
    fn running_time(&self, arrival: Instant) -> Option<gst::ClockTime> {
        let bin = self.receiver.bin()?;
        let now = bin.current_running_time()?;
        let age = gst::ClockTime::from_nseconds(u64::try_from(arrival.elapsed().as_nanos()).unwrap_or(0));
        Some(now.saturating_sub(age))
    }

    fn ended(&mut self, number: u64, id: &str, reason: EndReason) {
        self.receiver.session_ended(id, reason);
        if self.live.as_ref().is_none_or(|live| live.number != number) {
            return;
        }
        self.live = None;
        if self.eos_on_end {
            self.end_of_stream();
        }
    }

    /// Keeps pads without media going: running time goes on for those who mix or mux.
    fn bridge_pauses(&mut self) {
        let Some(now) = self.running_time(Instant::now()) else { return };
        for (key, pad) in &mut self.pads {
            if self.live.as_ref().is_some_and(|live| live.tracks.contains(key)) {
                continue;
            }
            let (Some(chain), Some(last)) = (&pad.chain, pad.last) else { continue };
            if now > last {
                chain.gap(last, now);
                pad.last = Some(now);
            }
        }
    }

    fn end_of_stream(&mut self) {
        if self.pads.is_empty() {
            // Links of a launch line wait for these pads, and the sinks behind them for EOS.
            for kind in [MediaKind::Video, MediaKind::Audio] {
                self.pad((kind, 0), None);
            }
            self.receiver.no_more_pads();
        }
        self.live = None;
        for pad in self.pads.values() {
            pad.ghost.push_event(gst::event::Eos::new());
        }
    }

    fn stop_chains(&mut self, bin: &gst::Bin) {
        for pad in self.pads.values_mut() {
            if let Some(chain) = pad.chain.take() {
                let _ = pad.ghost.set_target(None::<&gst::Pad>);
                chain.stop(bin);
            }
        }
    }
}
