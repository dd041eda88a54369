//! The bounded queue between the media thread and a track's thread. The network never waits: while downstream does not take
//! anything, packets are dropped and counted.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::chain::Counts;
use crate::session::RtpPacket;

/// So much may wait while downstream is blocked or threads are slow: a stall of 3 s loses nothing.
const BACKLOG: Duration = Duration::from_secs(3);
/// And no more packets than this: 20 Mbit/s for as long.
const MOST_PACKETS: usize = 8192;
/// And no more bytes: 40 Mbit/s for as long.
const MOST_BYTES: usize = 16 << 20;

/// What comes out.
pub(super) enum Taken {
    Packet(RtpPacket),
    /// Nothing comes in this time, and everything before has gone out.
    Pause {
        start: gst::ClockTime,
        duration: gst::ClockTime,
    },
    /// Nothing came in time.
    TimedOut,
    /// All has been taken, and no more comes.
    Finished,
    Stopped,
}

/// One track of one session. It holds packets that come before its chain runs.
pub(super) struct Inlet {
    state: Mutex<State>,
    filled: Condvar,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct State {
    packets: VecDeque<RtpPacket>,
    bytes: usize,
    pause: Option<(gst::ClockTime, gst::ClockTime)>,
    phase: Phase,
    consumer_waits: bool,
    /// Nothing is inside, and nothing behind it.
    idle: bool,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// What is inside still counts.
    Finishing,
    Stopped,
}

impl Inlet {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), counts }
    }

    /// Queues a packet, or drops it and counts it. One that is not urgent does not wake the consumer: a later one will.
    pub(super) fn push(&self, packet: RtpPacket, urgent: bool) {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            self.counts.unusable.fetch_add(1, Relaxed);
            return;
        }
        let stalled = state.packets.front().is_some_and(|oldest| {
            packet.arrival.saturating_duration_since(oldest.arrival) > BACKLOG
                // Of a sender that pauses, what it sent before is old and nobody is to blame.
                && !state.consumer_waits
        });
        if stalled || state.packets.len() >= MOST_PACKETS || state.bytes + packet.payload.len() > MOST_BYTES {
            self.counts.backlog.fetch_add(1, Relaxed);
            return;
        }
        state.bytes += packet.payload.len();
        state.packets.push_back(packet);
        if urgent {
            self.wake(state);
        }
    }

    /// Tells downstream of a pause, behind all that went in before; not while something is still on its way.
    pub(super) fn pause(&self, start: gst::ClockTime, duration: gst::ClockTime) -> bool {
        let mut state = self.lock();
        let only_padding = state.packets.iter().all(|packet| packet.payload.is_empty());
        let idle = state.idle && only_padding && state.pause.is_none();
        if idle {
            state.pause = Some((start, duration));
            self.wake(state);
        }
        idle
    }

    /// Takes packets again: its session goes on.
    pub(super) fn open(&self) {
        self.lock().phase = Phase::Open;
    }

    /// No more comes; what is inside goes out.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Finishing;
        }
        self.wake(state);
    }

    /// Drops what is inside.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.phase = Phase::Stopped;
        self.counts.unusable.fetch_add(state.packets.len() as u64, Relaxed);
        state.packets.clear();
        (state.bytes, state.pause) = (0, None);
        self.wake(state);
    }

    /// What is next; waits for it until `due`. `holds`: the caller keeps packets back that came before.
    pub(super) fn take(&self, due: Option<Instant>, holds: bool) -> Taken {
        let mut state = self.lock();
        loop {
            if let Some(packet) = state.packets.pop_front() {
                state.bytes -= packet.payload.len();
                state.idle = false;
                return Taken::Packet(packet);
            }
            if let Some((start, duration)) = state.pause.take() {
                return Taken::Pause { start, duration };
            }
            match state.phase {
                Phase::Open => {}
                Phase::Finishing => return Taken::Finished,
                Phase::Stopped => return Taken::Stopped,
            }
            (state.idle, state.consumer_waits) = (!holds, true);
            let waits = |state: &mut State| state.consumer_waits;
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            let timed_out;
            (state, timed_out) = match wait {
                Some(wait) => {
                    let (state, timeout) =
                        self.filled.wait_timeout_while(state, wait, waits).unwrap_or_else(PoisonError::into_inner);
                    (state, timeout.timed_out())
                }
                None => (self.filled.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner), false),
            };
            state.consumer_waits = false;
            // What waits in the middle of a frame was not worth a waking, but is taken before anything is given up.
            if timed_out && state.packets.is_empty() {
                return Taken::TimedOut;
            }
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if std::mem::take(&mut state.consumer_waits) {
            drop(state);
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    struct Case {
        inlet: Inlet,
        start: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self { inlet: Inlet::new(Arc::default()), start: Instant::now() }
        }

        fn packet(&self, at_ms: u64, size: usize) -> RtpPacket {
            RtpPacket {
                dependencies: None,
                marker: false,
                payload_type: 96,
                sequence_number: 0,
                timestamp: 0,
                ssrc: 1,
                payload: Bytes::from(vec![0; size]),
                arrival: self.start + Duration::from_millis(at_ms),
            }
        }

        fn push(&self, at_ms: u64, size: usize) {
            self.inlet.push(self.packet(at_ms, size), false);
        }

        fn take(&self) -> Taken {
            self.inlet.take(Some(self.start), false)
        }

        /// How many were dropped for want of room, and as of no use.
        fn dropped(&self) -> (u64, u64) {
            (self.inlet.counts.backlog.load(Relaxed), self.inlet.counts.unusable.load(Relaxed))
        }
    }

    const PAUSE: (gst::ClockTime, gst::ClockTime) = (gst::ClockTime::SECOND, gst::ClockTime::SECOND);

    #[test]
    fn a_blocked_downstream_is_a_bounded_backlog_and_a_pause_of_the_sender_is_none() {
        let case = Case::new();
        (0..100).for_each(|tenth| case.push(tenth * 100, 1));
        assert_eq!(case.dropped(), (100 - 31, 0), "3 s wait");
        while let Taken::Packet(_) = case.take() {}
        case.push(60_000, 1);
        assert_eq!(case.dropped(), (69, 0));
        assert!(matches!(case.take(), Taken::Packet(_)));
    }

    #[test]
    fn what_waits_is_bounded_in_packets_and_bytes() {
        for (size, most) in [(1, MOST_PACKETS), (60_000, MOST_BYTES / 60_000)] {
            let case = Case::new();
            (0..most + 7).for_each(|_| case.push(0, size));
            assert_eq!(case.dropped(), (7, 0));
        }
    }

    #[test]
    fn what_is_inside_goes_out_before_the_end_and_nothing_goes_in_behind_it_until_it_goes_on() {
        let case = Case::new();
        case.push(0, 1);
        case.inlet.finish();
        case.push(0, 1);
        assert!(matches!(case.take(), Taken::Packet(_)));
        assert!(matches!(case.take(), Taken::Finished));
        case.inlet.open();
        case.push(0, 1);
        case.push(0, 1);
        case.inlet.stop();
        assert!(matches!(case.take(), Taken::Stopped));
        assert_eq!(case.dropped(), (0, 3));
    }

    #[test]
    fn a_pause_is_told_behind_padding_but_not_while_media_is_on_its_way() {
        let case = Case::new();
        assert!(!case.inlet.pause(PAUSE.0, PAUSE.1), "nobody has begun to take anything");
        assert!(matches!(case.take(), Taken::TimedOut));
        case.push(0, 1);
        assert!(!case.inlet.pause(PAUSE.0, PAUSE.1));
        assert!(matches!(case.take(), Taken::Packet(_)));
        assert!(!case.inlet.pause(PAUSE.0, PAUSE.1), "it is being pushed");
        assert!(matches!(case.inlet.take(Some(case.start), true), Taken::TimedOut));
        assert!(!case.inlet.pause(PAUSE.0, PAUSE.1), "some are held for a missing one");
        assert!(matches!(case.take(), Taken::TimedOut));
        case.push(0, 0);
        assert!(case.inlet.pause(PAUSE.0, PAUSE.1));
        assert!(matches!(case.take(), Taken::Packet(_)));
        assert!(matches!(case.take(), Taken::Pause { start: gst::ClockTime::SECOND, .. }));
    }

    /// Two threads bring packets, one takes them, and it ends in the midst of that.
    #[test]
    fn at_an_end_among_threads_each_packet_has_come_out_or_is_counted() {
        const PACKETS: u64 = 400;
        for (round, stops) in (0..60).zip([true, false].into_iter().cycle()) {
            let case = Case::new();
            let taken = std::thread::scope(|scope| {
                let consumer = scope.spawn(|| {
                    let mut taken = 0;
                    loop {
                        match case.inlet.take(None, false) {
                            Taken::Packet(_) => taken += 1,
                            Taken::Finished | Taken::Stopped => return taken,
                            Taken::Pause { .. } | Taken::TimedOut => {}
                        }
                    }
                });
                let push = |urgent: bool| (0..PACKETS).for_each(|_| case.inlet.push(case.packet(0, 1), urgent));
                let producers = [scope.spawn(move || push(true)), scope.spawn(move || push(false))];
                case.inlet.pause(PAUSE.0, PAUSE.1);
                (0..round * 10).for_each(|_| std::thread::yield_now());
                if stops {
                    case.inlet.stop()
                } else {
                    case.inlet.finish()
                }
                producers.into_iter().for_each(|producer| producer.join().unwrap());
                consumer.join().unwrap()
            });
            let (backlog, unusable) = case.dropped();
            assert_eq!((taken + unusable, backlog), (2 * PACKETS, 0), "round {round}");
        }
    }
}
