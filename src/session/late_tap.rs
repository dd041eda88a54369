//! A [`MediaTap`] that is put in before it is known what it taps: an offer's connection exists before its answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rtc::{
    interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket},
    sansio::Protocol,
    shared::error::Error,
};

use super::{accepted::Choice, tap::MediaTap, track::Track};

/// Packets kept while it is open what they are: half a second of 8 Mbit/s.
const MOST_HELD: usize = 500;

/// Makes the tap once the tracks are known, and tells whoever waits for these. Must not block.
pub(super) type MakeTap = Box<dyn FnOnce(Vec<Track>) -> MediaTap + Send + Sync>;

/// The interceptor.
pub(super) struct LateTap {
    state: Slot,
    /// What passes by while there is no tap.
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

/// Where the tap is put later.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    /// No answer yet, so no keys: no media can come.
    #[default]
    Empty,
    Choosing {
        choice: Choice,
        make: MakeTap,
        held: VecDeque<TaggedPacket>,
    },
    Tapping(Box<MediaTap>),
}

impl Slot {
    /// The answer is known. The tap begins at once, or with the packets that tell what is open.
    pub(super) fn fill(&self, choice: Choice, make: MakeTap) {
        let state = match choice.tracks() {
            Some(tracks) => State::Tapping(Box::new(make(tracks))),
            None => State::Choosing { choice, make, held: VecDeque::new() },
        };
        *self.lock() = state;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_tap<T>(&self, act: impl FnOnce(&mut MediaTap) -> T) -> Option<T> {
        match &mut *self.lock() {
            State::Tapping(tap) => Some(act(tap)),
            State::Empty | State::Choosing { .. } => None,
        }
    }
}

impl LateTap {
    pub(super) fn new(state: Slot) -> Self {
        Self { state, read: VecDeque::new(), write: VecDeque::new() }
    }
}

impl State {
    /// An RTP packet while it may be open what it is.
    fn media(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Self::Tapping(tap) = self {
            return tap.handle_read(packet);
        }
        let Self::Choosing { choice, held, .. } = self else { return Ok(()) };
        let Packet::Rtp(rtp) = &packet.message.packet else { return Ok(()) };
        let decided = choice.heard(rtp.header.payload_type, packet.now);
        held.push_back(packet);
        if held.len() > MOST_HELD {
            held.pop_front();
        }
        if let Some(tracks) = decided
            && let Self::Choosing { make, held, .. } = std::mem::take(self)
        {
            let mut tap = Box::new(make(tracks));
            held.into_iter().try_for_each(|packet| tap.handle_read(packet))?;
            *self = Self::Tapping(tap);
        }
        Ok(())
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for LateTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        let mut state = self.state.lock();
        match (&mut *state, &tagged.message.packet) {
            (State::Tapping(tap), _) => tap.handle_read(tagged),
            (state, Packet::Rtp(_)) => state.media(tagged),
            _ => {
                self.read.push_back(tagged);
                Ok(())
            }
        }
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front().or_else(|| self.state.with_tap(Protocol::poll_read).flatten())
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        match &mut *self.state.lock() {
            State::Tapping(tap) => tap.handle_write(tagged),
            State::Empty | State::Choosing { .. } => {
                self.write.push_back(tagged);
                Ok(())
            }
        }
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front().or_else(|| self.state.with_tap(Protocol::poll_write).flatten())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.state.with_tap(|tap| tap.handle_timeout(now)).unwrap_or(Ok(()))
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.state.with_tap(Protocol::poll_timeout).flatten()
    }
}

impl Interceptor for LateTap {
    fn bind_local_stream(&mut self, stream: &StreamInfo) {
        self.state.with_tap(|tap| tap.bind_local_stream(stream));
    }

    fn unbind_local_stream(&mut self, stream: &StreamInfo) {
        self.state.with_tap(|tap| tap.unbind_local_stream(stream));
    }

    fn bind_remote_stream(&mut self, stream: &StreamInfo) {
        self.state.with_tap(|tap| tap.bind_remote_stream(stream));
    }

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        self.state.with_tap(|tap| tap.unbind_remote_stream(stream));
    }
}
