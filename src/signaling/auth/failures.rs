//! Slows down who guesses: wrong tokens are counted for each address, and after a burst of them nobody is asked about its
//! tokens for a while.
//!
//! What is known to be right is heard at all times: behind one address, a proxy's above all, somebody else may be the one
//! who guesses. How many guesses there can be is then what the limits on requests and messages leave.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use governor::clock::{Clock, MonotonicClock, Reference as _};

use super::{
    Ask, Denied, Door, Gate, Role,
    counters::{AuthCounters, Outcome},
};
use crate::{
    channel::Credential,
    signaling::{
        per_address::{MOST_ADDRESSES, PerAddress, network},
        problem::Refusal,
    },
};

/// Twenty wrong ones at once, for a classroom with an old token; then one a second, which guesses nothing.
const WRONG: (u32, u32) = (1, 20);

/// A JWT with many claims has some 2 KiB; nothing longer is looked at.
const LONGEST_TOKEN: usize = 8 * 1024;

/// A gate behind which another one is, asked in full only by addresses that do not guess.
pub(crate) struct Patient<G, C: Clock = MonotonicClock> {
    gate: G,
    counters: Arc<AuthCounters>,
    wrong: PerAddress<C>,
    /// Addresses that are not heard in full until then. Lock order: alone.
    unheard: Mutex<HashMap<IpAddr, C::Instant>>,
    clock: C,
}

impl<G: Gate> Patient<G> {
    pub(crate) fn new(gate: G, counters: Arc<AuthCounters>) -> Self {
        Self::with_clock(gate, counters, MonotonicClock)
    }
}

impl<G: Gate, C: Clock + Clone> Patient<G, C> {
    fn with_clock(gate: G, counters: Arc<AuthCounters>, clock: C) -> Self {
        let wrong = PerAddress::new(WRONG, clock.clone());
        Self { gate, counters, wrong, unheard: Mutex::default(), clock }
    }

    /// How long an address has to wait until it is heard again.
    fn wait(&self, from: IpAddr) -> Option<Duration> {
        let unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        let until = unheard.get(&network(from))?;
        let wait = Duration::from(until.duration_since(self.clock.now()));
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts a wrong token; an error says that there were too many.
    fn wrong(&self, from: IpAddr) -> Result<(), Duration> {
        self.wrong.check(from).inspect_err(|wait| {
            let now = self.clock.now();
            let mut unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
            if unheard.len() >= MOST_ADDRESSES {
                unheard.retain(|_, until| !Duration::from(until.duration_since(now)).is_zero());
            }
            // One more than can be remembered is refused now and heard the next time.
            if unheard.len() < MOST_ADDRESSES {
                unheard.insert(network(from), now + (*wait).into());
            }
        })
    }
}

impl<G: Gate, C: Clock + Clone> Patient<G, C> {
    /// One question, which is counted once: may he do this, or else what `or` may?
    async fn hear(&self, ask: Ask<'_>, or: Option<Role>) -> Result<Credential, Refusal> {
        let is_absurd = ask.token.is_some_and(|token| token.len() > LONGEST_TOKEN);
        if let Some(wait) = self.wait(ask.from) {
            if !is_absurd && let Some(credential) = self.recognised(ask, or).await {
                self.counters.count(Outcome::Admitted);
                return Ok(credential);
            }
            self.counters.count(Outcome::Slowed);
            return Err(Refusal::TooManyFailures { wait });
        }
        let answer = match or {
            _ if is_absurd => Err(Refusal::Unauthorized(Denied::Wrong)),
            None => self.gate.admit(ask).await,
            Some(or) => self.gate.admit_either(ask, or).await,
        };
        match &answer {
            Ok(_) => self.counters.count(Outcome::Admitted),
            Err(Refusal::Unauthorized(Denied::Missing)) => self.counters.count(Outcome::Missing),
            Err(Refusal::Forbidden(_)) => self.counters.count(Outcome::Forbidden),
            Err(Refusal::Unauthorized(Denied::Wrong)) => {
                self.counters.count(Outcome::Wrong);
                self.wrong(ask.from).map_err(|wait| Refusal::TooManyFailures { wait })?;
            }
            // Nobody guesses who has a token that was right once, or cannot be told so.
            Err(Refusal::Unauthorized(Denied::OutOfTime)) => self.counters.count(Outcome::Expired),
            Err(_) => self.counters.count(Outcome::Undecided),
        }
        answer
    }

    async fn recognised(&self, ask: Ask<'_>, or: Option<Role>) -> Option<Credential> {
        let first = self.gate.recognise(ask).await;
        match or {
            Some(role) if first.is_none() => self.gate.recognise(Ask { role, ..ask }).await,
            _ => first,
        }
    }
}

#[async_trait]
impl<G: Gate, C> Gate for Patient<G, C>
where
    C: Clock + Clone + Send + Sync + 'static,
    C::Instant: Send + Sync,
{
    async fn admit(&self, ask: Ask<'_>) -> Result<Credential, Refusal> {
        self.hear(ask, None).await
    }

    async fn admit_either(&self, ask: Ask<'_>, or: Role) -> Result<Credential, Refusal> {
        self.hear(ask, Some(or)).await
    }

    async fn recognise(&self, ask: Ask<'_>) -> Option<Credential> {
        self.gate.recognise(ask).await
    }

    fn needs_token(&self, role: Role) -> bool {
        self.gate.needs_token(role)
    }

    fn door(&self, role: Role) -> Door {
        self.gate.door(role)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use governor::clock::FakeRelativeClock;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        channel::{ChannelLimits, MemoryRegistry},
        signaling::auth::{Access, TokenGate},
    };

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn gate(clock: &FakeRelativeClock) -> Patient<TokenGate, FakeRelativeClock> {
        Patient::with_clock(TokenGate::new(Some("right")), Arc::default(), clock.clone())
    }

    async fn status<C>(gate: &Patient<TokenGate, C>, token: Option<&str>, from: IpAddr) -> u16
    where
        C: Clock + Clone + Send + Sync + 'static,
        C::Instant: Send + Sync,
    {
        match gate.admit(Ask { role: Role::Publish, channel: None, token, from }).await {
            Ok(_) => 200,
            Err(Refusal::TooManyFailures { .. }) => 429,
            Err(Refusal::Unauthorized(_)) => 401,
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn who_guesses_is_not_heard_for_a_while_and_who_is_right_always_is() {
        let clock = FakeRelativeClock::default();
        let gate = gate(&clock);
        for _ in 0..20 {
            assert_eq!(status(&gate, Some("guess"), HOME).await, 401);
        }
        assert_eq!(status(&gate, Some("guess"), HOME).await, 429);
        assert_eq!(status(&gate, None, HOME).await, 429);
        assert_eq!(status(&gate, Some("right"), HOME).await, 200, "somebody else behind the same address");
        assert_eq!(status(&gate, Some("guess"), HOME).await, 429, "which forgives nothing");
        assert_eq!(status(&gate, Some("guess"), AWAY).await, 401, "others are not touched");
        clock.advance(Duration::from_secs(2));
        assert_eq!(status(&gate, Some("guess"), HOME).await, 401);
        let counts = gate.counters.read();
        assert_eq!((counts.admitted, counts.wrong, counts.slowed), (1, 23, 2));
    }

    #[tokio::test]
    async fn who_may_by_either_of_two_roles_has_not_failed_at_the_other() {
        let access =
            Access { publish_token: Some("right".into()), view_token: Some("another".into()), ..Access::default() };
        let registry =
            MemoryRegistry::new(ChannelLimits { max_channels: 1, ttl: Duration::from_secs(1) }, &Handle::current());
        let counters = Arc::<AuthCounters>::default();
        let gate = access.gate(Arc::new(registry), counters.clone()).unwrap();
        let ask = |token| Ask { role: Role::View, channel: None, token: Some(token), from: HOME };
        for _ in 0..100 {
            assert!(gate.admit_either(ask("right"), Role::Publish).await.is_ok());
        }
        for _ in 0..100 {
            assert!(gate.admit_either(ask("guess"), Role::Publish).await.is_err());
        }
        assert!(gate.admit_either(ask("right"), Role::Publish).await.is_ok(), "also behind such an address");
        let counts = counters.read();
        assert_eq!((counts.admitted, counts.wrong + counts.slowed), (101, 100), "one question each");
        assert!(counts.slowed > 0);
    }

    #[tokio::test]
    async fn guesses_are_one_a_second_in_the_long_run() {
        let clock = FakeRelativeClock::default();
        let gate = gate(&clock);
        let mut heard = 0;
        for _ in 0..1000 {
            heard += usize::from(status(&gate, Some("guess"), HOME).await == 401);
            clock.advance(Duration::from_millis(100));
        }
        assert!(heard <= 20 + 100, "{heard} of 1000 in 100 s");
    }

    #[tokio::test]
    async fn right_tokens_and_none_are_not_failures() {
        let gate = gate(&FakeRelativeClock::default());
        for _ in 0..100 {
            assert_eq!(status(&gate, Some("right"), HOME).await, 200);
            assert_eq!(status(&gate, None, HOME).await, 401);
        }
        assert_eq!(gate.counters.read().missing, 100);
    }

    #[tokio::test]
    async fn memory_is_bounded_whatever_comes() {
        let gate = gate(&FakeRelativeClock::default());
        for number in 0..(MOST_ADDRESSES as u32 + 100) {
            for _ in 0..21 {
                status(&gate, Some("guess"), IpAddr::from(number.to_be_bytes())).await;
            }
        }
        assert!(gate.wrong.len() <= MOST_ADDRESSES + 1);
        assert!(gate.unheard.lock().unwrap().len() <= MOST_ADDRESSES);
        assert_eq!(status(&gate, Some("right"), "203.0.113.1".parse().unwrap()).await, 200, "a stranger is heard");
    }

    #[tokio::test]
    async fn a_token_of_absurd_length_is_not_looked_at() {
        let gate = gate(&FakeRelativeClock::default());
        assert_eq!(status(&gate, Some(&"x".repeat(LONGEST_TOKEN + 1)), HOME).await, 401);
    }
}
