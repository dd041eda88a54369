//! Which packets of a stream have been asked for, when, and when to ask again: not before an answer can have come. Pure.
//!
//! Who asks again earlier gets everything several times where the way is long or either end is busy: after an outage of some
//! seconds that was a burst of thousands of packets, which took the room of others' media.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How many that were asked for before may be asked for again at once. Losses that can be made good in time are fewer; after an
/// outage hundreds are missing, and what is on its way must not be asked for again.
const MOST_AGAIN: usize = 32;
/// How often one is asked for: who has not answered by then has it no more.
const MOST_TIMES: u32 = 20;

/// By then a number means another packet: a stream of 50 Mbit/s needs 13 s for all of them.
const ROUND: Duration = Duration::from_secs(10);

/// What is missing of a stream.
#[derive(Debug, Default)]
pub(super) struct Asked {
    packets: HashMap<u16, Times>,
    /// Smoothed time from a question to its answer; none before the first.
    answered_in: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    first: Instant,
    last: Instant,
    count: u32,
}

impl Asked {
    /// Of what is missing now, in order, what is to be asked for. Everything else is forgotten.
    pub(super) fn due(&mut self, missing: &[u16], now: Instant) -> Vec<u16> {
        let patience = self.patience();
        let before = std::mem::take(&mut self.packets);
        let mut again = 0;
        let mut due = Vec::new();
        for number in missing {
            let known = before.get(number).filter(|times| now.saturating_duration_since(times.first) < ROUND);
            let mut times = known.copied().unwrap_or(Times { first: now, last: now, count: 0 });
            let is_due = now.saturating_duration_since(times.last) >= patience && times.count < MOST_TIMES;
            if times.count == 0 || is_due && again < MOST_AGAIN {
                again += usize::from(times.count > 0);
                times = Times { last: now, count: times.count + 1, ..times };
                due.push(*number);
            }
            self.packets.insert(*number, times);
        }
        due
    }

    /// A packet has come.
    pub(super) fn came(&mut self, number: u16, now: Instant) {
        let Some(times) = self.packets.remove(&number) else { return };
        let since = |question| now.saturating_duration_since(question);
        // Of several questions nobody knows which was answered, but it was one of them.
        let Some(usual) = self.answered_in else {
            self.answered_in = Some(since(times.first));
            return;
        };
        let (least, most) = (since(times.last), since(times.first));
        let took = match times.count {
            0..=2 => usual.clamp(least, most),
            // Either much gets lost, or answers take much longer than they did.
            _ => (least + most) / 2,
        };
        self.answered_in = Some((usual * 7 + took) / 8);
    }

    /// How long an answer is waited for: a quarter longer than they usually take.
    fn patience(&self) -> Duration {
        self.answered_in.map_or(Duration::ZERO, |usual| usual + usual / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    /// How often each of these is asked for where answers take so long, and one in so many questions is answered.
    fn asks(missing: u16, answer: Duration, answered: u32) -> Vec<u32> {
        let mut asked = Asked::default();
        // It has been learned on the way how long answers take.
        let mut now = Instant::now();
        for number in 60_000..60_040 {
            asked.due(&[number], now);
            asked.came(number, now + answer);
            now += answer;
        }
        let mut missing: Vec<u16> = (0..missing).collect();
        let mut counts = vec![0_u32; missing.len()];
        let mut on_their_way: Vec<(Instant, u16)> = Vec::new();
        for _ in 0..500 {
            for (_, number) in on_their_way.extract_if(.., |(at, _)| *at <= now) {
                asked.came(number, now);
                missing.retain(|other| *other != number);
            }
            for number in asked.due(&missing, now) {
                let count = &mut counts[usize::from(number)];
                *count += 1;
                if count.is_multiple_of(answered) {
                    on_their_way.push((now + answer, number));
                }
            }
            now += TICK;
        }
        assert!(missing.is_empty(), "{missing:?} never came");
        counts
    }

    #[test]
    fn what_an_outage_took_is_asked_for_once_on_any_way() {
        for ms in [1, 15, 60, 150, 400] {
            assert!(asks(600, Duration::from_millis(ms), 1).into_iter().all(|count| count == 1), "{ms} ms");
        }
    }

    #[test]
    fn on_a_short_way_what_got_lost_again_is_asked_for_at_the_next_turn() {
        let mut asked = Asked::default();
        let now = Instant::now();
        asked.due(&[1], now);
        asked.came(1, now + Duration::from_millis(3));
        for turn in 0..5 {
            assert_eq!(asked.due(&[7, 9], now + TICK * turn), [7, 9]);
        }
        asked.came(7, now + TICK * 5);
        assert_eq!(asked.due(&[9, 10], now + 12 * TICK), [9, 10]);
    }

    #[test]
    fn a_way_that_has_become_long_is_noticed() {
        let mut asked = Asked::default();
        let (mut now, answer) = (Instant::now(), Duration::from_millis(150));
        asked.due(&[0], now);
        asked.came(0, now + Duration::from_millis(2));
        let mut counts = Vec::new();
        for number in 1..60 {
            let turns = (0..8).map(|turn| now + TICK * turn).take_while(|at| *at < now + answer);
            counts.push(turns.filter(|at| !asked.due(&[number], *at).is_empty()).count());
            now += answer;
            asked.came(number, now);
        }
        assert!(counts[0] == 8 && counts[30..].iter().all(|count| *count <= 2), "{counts:?}");
    }

    #[test]
    fn losses_of_questions_and_answers_are_made_good() {
        for ms in [1, 60, 150] {
            assert!(
                asks(20, Duration::from_millis(ms), 3).into_iter().all(|count| (3..=4).contains(&count)),
                "{ms} ms"
            );
        }
    }

    #[test]
    fn before_anything_is_known_of_the_way_only_so_many_are_asked_for_again_at_once() {
        let mut asked = Asked::default();
        let missing: Vec<u16> = (65_000..=u16::MAX).chain(0..200).collect();
        let now = Instant::now();
        assert_eq!(asked.due(&missing, now), missing);
        assert_eq!(asked.due(&missing, now + TICK).len(), MOST_AGAIN);
        assert_eq!(asked.due(&missing[..10], now + 2 * TICK), missing[..10]);
        assert_eq!(asked.packets.len(), 10, "what is not missing any more is forgotten");
        let asked_again = (3..100).filter(|turn| !asked.due(&missing[..10], now + *turn * TICK).is_empty()).count();
        assert_eq!(asked_again, MOST_TIMES as usize - 3, "who has not answered by then has it no more");
        assert_eq!(asked.due(&missing[..10], now + ROUND + 3 * TICK), missing[..10], "another packet of that number");
    }
}
