//! How many connectivity checks an address gets that has not answered one yet: pure policy, time is an argument.
//!
//! An offer names the addresses that the stack then checks, 50 times a second each: without a limit anybody who may post
//! offers could aim us at others. An address that has answered a check of ours is wanted by its owner and is checked as
//! the stack likes (RFC 8445 section 19.5.1, RFC 8656 section 21 on the same for relays). Until then an address gets a
//! check at once and further ones after growing pauses, and all of them together, of the session and of the port, what
//! the constants say. Addresses that have sent us a check themselves are not counted against what an offer made up: a
//! publisher that reaches us connects however many others are held.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::bucket::Bucket;

/// The second check follows the first as fast as the stack would send it; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// RFC 8445 section 14.3: no transaction is repeated faster than this for long.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// One for each candidate that an offer may name, then one every 50 ms (RFC 8445 section 14.2).
const SESSION_BURST: u32 = 20;
const SESSION_PER_SECOND: u32 = 20;
/// All sessions of a port: 25 that start at once. About 400 kbit/s, whatever is posted.
const PORT_BURST: u32 = 500;
const PORT_PER_SECOND: u32 = 500;
/// Addresses remembered, of either kind; as many candidates are checked, and peers answer from a few.
const MOST_ADDRESSES: usize = 32;
/// Checks of one address whose answer is waited for: those of [`LONGEST_PAUSE`] round trips.
const MOST_PENDING: usize = 8;

/// The transaction ID of a STUN message (RFC 8489 section 5). Nobody but who gets the request can know it.
pub(super) type Transaction = [u8; 12];

/// The limit of all sessions of a port.
#[derive(Debug)]
pub(super) struct PortChecks(Bucket);

impl Default for PortChecks {
    fn default() -> Self {
        Self(Bucket::new(PORT_BURST, PORT_PER_SECOND))
    }
}

impl PortChecks {
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.0.take(now)
    }
}

/// The checks of one session.
#[derive(Debug)]
pub(super) struct Checks {
    /// Addresses that have answered, oldest first.
    confirmed: Vec<SocketAddr>,
    waiting: HashMap<SocketAddr, Waiting>,
    /// For addresses that only the offer speaks for.
    named: Bucket,
    /// For addresses that a checked request came from, which may be forged.
    callers: Bucket,
}

#[derive(Debug)]
struct Waiting {
    next: Instant,
    pause: Duration,
    pending: Vec<Transaction>,
}

impl Default for Checks {
    fn default() -> Self {
        let bucket = || Bucket::new(SESSION_BURST, SESSION_PER_SECOND);
        Self { confirmed: Vec::new(), waiting: HashMap::new(), named: bucket(), callers: bucket() }
    }
}

impl Checks {
    /// Whether a check may go there. `caller`: a request whose integrity held came from there.
    pub(super) fn may_send(
        &mut self,
        destination: SocketAddr,
        transaction: Transaction,
        caller: bool,
        mut port: impl FnMut() -> bool,
        now: Instant,
    ) -> bool {
        if self.confirmed.contains(&destination) {
            return true;
        }
        let waiting = self.waiting.get(&destination);
        if waiting.is_some_and(|waiting| now < waiting.next)
            || waiting.is_none() && self.waiting.len() >= MOST_ADDRESSES && !self.make_room(now)
        {
            return false;
        }
        let allowed = if caller { self.callers.take(now) } else { self.named.take(now) && port() };
        if allowed {
            let first = || Waiting { next: now, pause: FIRST_PAUSE, pending: Vec::new() };
            let waiting = self.waiting.entry(destination).or_insert_with(first);
            waiting.next = now + waiting.pause;
            waiting.pause = (waiting.pause * 2).min(LONGEST_PAUSE);
            if waiting.pending.len() >= MOST_PENDING {
                waiting.pending.remove(0);
            }
            waiting.pending.push(transaction);
        }
        allowed
    }

    /// A STUN response has come from there: if it answers a check, the address wants more of them.
    pub(super) fn answered(&mut self, from: SocketAddr, transaction: Transaction) {
        if self.is_pending(from, transaction) {
            self.waiting.remove(&from);
            if self.confirmed.len() >= MOST_ADDRESSES {
                self.confirmed.remove(0);
            }
            self.confirmed.push(from);
        }
    }

    /// Whether the address has answered a check: whoever is there has got it.
    pub(super) fn has_answered(&self, address: SocketAddr) -> bool {
        self.confirmed.contains(&address)
    }

    /// Whether a check with this ID has gone there and not been answered.
    pub(super) fn is_pending(&self, from: SocketAddr, transaction: Transaction) -> bool {
        self.waiting.get(&from).is_some_and(|waiting| waiting.pending.contains(&transaction))
    }

    /// ICE is restarted: other addresses, or the same again, start anew; the limits stay.
    pub(super) fn restart(&mut self) {
        self.waiting.clear();
    }

    /// Forgets addresses that have not been checked for long.
    fn make_room(&mut self, now: Instant) -> bool {
        self.waiting.retain(|_, waiting| now < waiting.next + LONGEST_PAUSE * 4);
        self.waiting.len() < MOST_ADDRESSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The times in ms at which the address is checked when the stack wants to every 20 ms for 1.4 s.
    fn sent(checks: &mut Checks, port: u16, caller: bool, start: Instant) -> Vec<u64> {
        (0..1400)
            .step_by(20)
            .filter(|at| checks.may_send(address(port), [0; 12], caller, || true, start + ms(*at)))
            .collect()
    }

    #[test]
    fn an_address_that_does_not_answer_is_checked_with_growing_pauses() {
        for caller in [false, true] {
            let times = sent(&mut Checks::default(), 1, caller, Instant::now());
            assert_eq!(times, [0, 20, 60, 140, 300, 620, 1120]);
        }
    }

    #[test]
    fn an_address_that_answers_is_checked_without_limit() {
        let (mut checks, start) = (Checks::default(), Instant::now());
        assert!(checks.may_send(address(1), [7; 12], false, || true, start));
        checks.answered(address(2), [7; 12]);
        checks.answered(address(1), [8; 12]);
        assert!(!checks.may_send(address(1), [9; 12], false, || true, start), "neither was its answer");
        checks.answered(address(1), [7; 12]);
        assert_eq!(sent(&mut checks, 1, false, start).len(), 70);
    }

    #[test]
    fn many_addresses_share_what_a_session_has() {
        let (mut checks, start) = (Checks::default(), Instant::now());
        let mut sent = 0;
        for at in (0..1400).step_by(20) {
            for port in 1..=200 {
                sent += u32::from(checks.may_send(address(port), [0; 12], false, || true, start + ms(at)));
            }
        }
        assert!((SESSION_BURST..=SESSION_BURST + 28).contains(&sent), "{sent}");
        assert!(checks.waiting.len() <= MOST_ADDRESSES);
    }

    #[test]
    fn who_reaches_us_is_checked_however_many_others_are_held() {
        let (mut checks, start) = (Checks::default(), Instant::now());
        for port in 1..=200 {
            checks.may_send(address(port), [0; 12], false, || false, start);
        }
        assert!(!checks.may_send(address(300), [0; 12], false, || true, start));
        assert!(checks.may_send(address(301), [0; 12], true, || false, start));
    }

    #[test]
    fn requests_in_others_names_do_not_get_us_to_flood_them() {
        let (mut checks, start) = (Checks::default(), Instant::now());
        let sent = (1..=10_000)
            .filter(|port| checks.may_send(address(*port), [0; 12], true, || true, start + ms(u64::from(*port) / 10)))
            .count();
        assert!(sent <= 40, "{sent} in a second");
    }

    #[test]
    fn all_sessions_of_a_port_share_what_it_has() {
        let (mut port, start) = (PortChecks::default(), Instant::now());
        let mut sent = 0;
        for _ in 0..100 {
            let mut checks = Checks::default();
            for candidate in 1..=20 {
                sent += u32::from(checks.may_send(address(candidate), [0; 12], false, || port.take(start), start));
            }
        }
        assert_eq!(sent, PORT_BURST);
    }
}
