//! Sends the last DTLS handshake flight again until the peer moves on.
//!
//! The DTLS stack below clears its retransmission timer on any handshake packet and never arms it again, so that one lost
//! flight can hang a handshake for good (4.7 % of connects at 8 % loss). Repeating the flight from outside, with new record
//! numbers, cures it in both roles: a peer knows what it has had already (RFC 6347 section 4.2.4).

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{Shared, fragments::Fragments, records::Records, socket::Channel};
use crate::session::time;

/// RFC 6347 section 4.2.4.1 starts at 1 s; handshakes here are between machines that are milliseconds apart.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_millis(1600);
const MOST_REPEATS: u32 = 8;
/// A flight is a few datagrams; a certificate chain may make it more.
const MOST_DATAGRAMS: usize = 24;

const ALERT: u8 = 21;
pub(super) const APPLICATION_DATA: u8 = 23;

/// The last flight that we sent, and when it is sent again.
#[derive(Default)]
pub(super) struct Flight {
    /// The same as in the state, to be asked for each packet.
    finished: AtomicBool,
    state: Mutex<State>,
    records: Mutex<Records>,
    fragments: Mutex<Fragments>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// The peer answered, so that what we send next is a new flight.
    answered: bool,
    repeats: u32,
    due: Option<Instant>,
    finished: bool,
}

impl Flight {
    /// Takes note of a datagram that goes out; returns what to send in its place, if it is DTLS.
    pub(super) fn sent(&self, destination: SocketAddr, datagram: &[u8], now: Instant) -> Option<Vec<u8>> {
        let first = *datagram.first().filter(|first| is_dtls(**first))?;
        self.fragments.lock().unwrap_or_else(PoisonError::into_inner).takes_part();
        self.remember(destination, first, datagram, now);
        Some(self.numbered(datagram.to_vec()))
    }

    fn numbered(&self, mut datagram: Vec<u8>) -> Vec<u8> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).number(&mut datagram);
        datagram
    }

    fn remember(&self, destination: SocketAddr, first: u8, datagram: &[u8], now: Instant) {
        if self.finished.load(Relaxed) || first == ALERT || first == APPLICATION_DATA {
            return;
        }
        let mut state = self.lock();
        if state.finished {
            return;
        }
        if state.answered || state.datagrams.len() >= MOST_DATAGRAMS {
            state.datagrams.clear();
            state.answered = false;
        }
        state.datagrams.push((destination, datagram.to_vec()));
        state.repeats = 0;
        state.due = Some(now + FIRST_DELAY);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes note of a datagram that came in: media or application data mean that the handshake is over on both sides.
    /// Returns what to hand on in its place, if anything else than itself.
    pub(super) fn received(&self, datagram: &[u8], _now: Instant) -> Option<Vec<Vec<u8>>> {
        if self.finished.load(Relaxed) {
            return None;
        }
        match *datagram.first()? {
            128..=191 | APPLICATION_DATA => self.finish(),
            first if is_dtls(first) => {
                self.lock().answered = true;
                return Some(self.fragments.lock().unwrap_or_else(PoisonError::into_inner).take(datagram));
            }
            _ => {}
        }
        None
    }

    /// Nothing is repeated any more.
    pub(super) fn finish(&self) {
        self.finished.store(true, Relaxed);
        let mut state = self.lock();
        if !state.finished {
            *state = State { finished: true, ..State::default() };
            drop(state);
            self.changed.notify_one();
        }
    }

    /// What has to be sent again at `now`.
    fn take_due(&self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut state = self.lock();
        if state.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        state.repeats += 1;
        state.due =
            (state.repeats < MOST_REPEATS).then(|| now + (FIRST_DELAY * (1 << state.repeats)).min(LONGEST_DELAY));
        state.datagrams.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a datagram that starts so is of DTLS.
pub(super) fn is_dtls(first: u8) -> bool {
    (20..64).contains(&first) // RFC 7983 section 7
}

/// Whether this is an alert that only who has the session's keys can read: of an epoch behind the first (RFC 6347 section
/// 4.1).
pub(super) fn is_protected_alert(datagram: &[u8]) -> bool {
    matches!(datagram, [ALERT, _, _, epoch0, epoch1, ..] if (*epoch0, *epoch1) != (0, 0))
}

/// Repeats until the handshake is over or the session gone.
pub(super) async fn repeat(shared: Arc<Shared>, channel: Weak<Channel>, flight: Arc<Flight>) {
    loop {
        let (due, finished) = {
            let state = flight.lock();
            (state.due, state.finished)
        };
        if finished {
            return;
        }
        match due {
            None => flight.changed.notified().await,
            Some(due) => {
                tokio::select! {
                    biased;
                    () = flight.changed.notified() => {}
                    () = tokio::time::sleep_until(due.into()) => {
                        let Some(channel) = channel.upgrade() else { return };
                        for (destination, datagram) in flight.take_due(time::now()) {
                            shared.counters.repeated.fetch_add(1, Relaxed);
                            let source = channel.peer().source_for(destination);
                            shared.send(destination, source, &flight.numbered(datagram));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: u8 = 22;

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn repeats(flight: &Flight, now: Instant) -> Vec<u8> {
        flight.take_due(now).into_iter().map(|(_, datagram)| datagram[1]).collect()
    }

    #[test]
    fn an_unanswered_flight_is_repeated_with_growing_pauses_and_then_given_up() {
        let (flight, start) = (Flight::default(), Instant::now());
        flight.sent(peer(), &[HANDSHAKE, 1], start);
        flight.sent(peer(), &[HANDSHAKE, 2], start);
        let times: Vec<u128> = (0..20_000)
            .filter(|ms| !repeats(&flight, start + Duration::from_millis(*ms)).is_empty())
            .map(u128::from)
            .collect();
        assert_eq!(times, [100, 300, 700, 1500, 3100, 4700, 6300, 7900]);
    }

    #[test]
    fn what_follows_an_answer_is_a_new_flight() {
        let (flight, start) = (Flight::default(), Instant::now());
        flight.sent(peer(), &[HANDSHAKE, 1], start);
        flight.received(&[HANDSHAKE, 9], start);
        flight.sent(peer(), &[HANDSHAKE, 2], start);
        assert_eq!(repeats(&flight, start + Duration::from_secs(1)), [2]);
    }

    #[test]
    fn media_ends_the_repeating() {
        let (flight, start) = (Flight::default(), Instant::now());
        flight.sent(peer(), &[HANDSHAKE, 1], start);
        flight.received(&[0x80, 96], start);
        flight.sent(peer(), &[HANDSHAKE, 2], start);
        assert!(repeats(&flight, start + Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn alerts_application_data_and_stun_are_not_kept() {
        let (flight, start) = (Flight::default(), Instant::now());
        for first in [ALERT, APPLICATION_DATA, 0, 1, 0x80] {
            flight.sent(peer(), &[first, 1], start);
        }
        assert!(repeats(&flight, start + Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn an_alert_under_keys_is_told_from_one_of_the_handshake() {
        assert!(is_protected_alert(&[ALERT, 254, 253, 0, 1, 0, 0, 0, 0, 0, 2]));
        for other in [&[ALERT, 254, 253, 0, 0, 0][..], &[APPLICATION_DATA, 254, 253, 0, 1, 0], &[ALERT, 254], &[]] {
            assert!(!is_protected_alert(other), "{other:?}");
        }
    }

    #[test]
    fn a_flight_is_bounded() {
        let (flight, start) = (Flight::default(), Instant::now());
        for _ in 0..1000 {
            flight.sent(peer(), &[HANDSHAKE, 1], start);
        }
        assert!(repeats(&flight, start + Duration::from_secs(1)).len() <= MOST_DATAGRAMS);
    }
}
