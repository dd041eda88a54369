//! Which packets of a stream have been asked for, when, and when to ask again: not as long as an answer is likely to be on its way. Pure.
//!
//! Who asks at each turn gets everything several times where the way is long or either end is busy: after an outage of some
//! seconds that was a burst of thousands of packets, which took the room of others' media.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How many that were asked for before may be asked for again at once. Losses that can be made good in time are fewer; after an
/// outage hundreds are missing, and what is on its way must not be asked for again.
const MOST_AGAIN: usize = 32;
/// After so many times its usual wait a packet is asked for more and more seldom: each time when it has been missing for an eighth
/// longer. A way that was interrupted for a second may bring it yet; the most have it no more.
const EAGER: u32 = 8;
/// Answers in a row of which it is not known what they took, before the longest that it can have been is believed.
const UNCLEAR: u32 = 16;
/// What nothing is known of takes so long, if it is much.
const UNKNOWN: Duration = Duration::from_millis(100);
/// What comes later is no answer, but another packet of that number.
const ROUND: Duration = Duration::from_secs(3);

/// What is missing of a stream.
#[derive(Debug, Default)]
pub(super) struct Asked {
    packets: HashMap<u16, Times>,
    /// Smoothed time from a question to its answer; none before the first.
    answered_in: Option<Duration>,
    /// Answers that came after several questions, since the last one that came after one.
    unclear: u32,
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
        let patience = self.patience(missing.len());
        let before = std::mem::take(&mut self.packets);
        let mut again = 0;
        let mut due = Vec::new();
        // The newest first: of the oldest it is the least likely that they come in time, or at all.
        for number in missing.iter().rev() {
            let known = before.get(number).filter(|times| now.saturating_duration_since(times.first) < ROUND);
            let mut times = known.copied().unwrap_or(Times { first: now, last: now, count: 0 });
            let wait = patience.max((times.last - times.first) / EAGER);
            let is_due = now.saturating_duration_since(times.last) >= wait;
            if times.count == 0 || is_due && again < MOST_AGAIN {
                again += usize::from(times.count > 0);
                times = Times { last: now, count: times.count + 1, ..times };
                due.push(*number);
            }
            self.packets.insert(*number, times);
        }
        due.reverse();
        due
    }

    /// A packet has come.
    pub(super) fn came(&mut self, number: u16, now: Instant) {
        let Some(times) = self.packets.remove(&number) else { return };
        let took = now.saturating_duration_since(times.first);
        if took >= ROUND {
            return;
        }
        // Of several questions nobody knows which one was answered (as with TCP: Karn's algorithm, RFC 6298 section 3).
        if times.count > 1 {
            self.unclear += 1;
            if self.answered_in.is_none() || self.unclear >= UNCLEAR {
                (self.answered_in, self.unclear) = (Some(took), 0);
            }
            return;
        }
        self.unclear = 0;
        self.answered_in = Some(match self.answered_in {
            None => took,
            // What was too long is soon forgotten: until then less is made good in time.
            Some(usual) if took < usual => (usual * 3 + took) / 4,
            Some(usual) => (usual * 7 + took) / 8,
        });
    }

    /// How long an answer is waited for: a quarter longer than they usually take.
    fn patience(&self, missing: usize) -> Duration {
        match self.answered_in {
            Some(usual) => usual + usual / 4,
            None if missing > MOST_AGAIN => UNKNOWN,
            None => Duration::ZERO,
        }
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
    fn what_was_never_answered_is_no_answer_when_its_number_means_another_packet() {
        let mut asked = Asked::default();
        let now = Instant::now();
        asked.due(&[1, 2], now);
        asked.came(1, now + TICK);
        asked.came(2, now + Duration::from_secs(240));
        assert_eq!(asked.answered_in, Some(TICK));
        assert_eq!(asked.due(&[3], now + Duration::from_secs(241)), [3]);
    }

    /// The share of 4,000 lost packets that is there within 200 ms, where this share of questions and of answers gets lost too.
    fn made_good(
        way: Duration,
        lost: f64,
        asked: &mut Asked,
        mut due: impl FnMut(&mut Asked, &[u16], Instant) -> Vec<u16>,
    ) -> f64 {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut is_lost = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) as f64 / (1_u64 << 53) as f64 <= lost
        };
        let start = Instant::now();
        let (mut missing, mut next, mut good) = (Vec::<(u16, Instant)>::new(), 0, 0);
        let mut on_their_way: Vec<(Instant, u16)> = Vec::new();
        for turn in 0..3000 {
            let now = start + TICK * turn;
            for (at, number) in on_their_way.extract_if(.., |(at, _)| *at <= now) {
                if let Some(place) = missing.iter().position(|(of, _)| *of == number) {
                    let (_, noticed) = missing.remove(place);
                    asked.came(number, at);
                    good += u32::from(at <= noticed + Duration::from_millis(200));
                }
            }
            missing.retain(|(_, noticed)| now < *noticed + Duration::from_secs(2));
            for _ in 0..2 {
                if next < 4000 {
                    missing.push((next, now));
                    next += 1;
                }
            }
            let numbers: Vec<u16> = missing.iter().map(|(number, _)| *number).collect();
            for number in due(asked, &numbers, now) {
                if !is_lost() && !is_lost() {
                    on_their_way.push((now + way, number));
                }
            }
        }
        f64::from(good) / 4000.0
    }

    #[test]
    fn as_much_is_made_good_as_if_it_was_known_how_long_answers_take() {
        for (ms, lost) in [(10, 0.1), (10, 0.4), (30, 0.2), (30, 0.4), (50, 0.3), (50, 0.4), (90, 0.2), (150, 0.1)] {
            let way = Duration::from_millis(ms);
            let ours = made_good(way, lost, &mut Asked::default(), |asked, missing, now| asked.due(missing, now));
            // One that is told the truth at each turn.
            let ideal = made_good(way, lost, &mut Asked::default(), |asked, missing, now| {
                asked.answered_in = Some(way);
                asked.due(missing, now)
            });
            assert!(ours > ideal - 0.05, "{ms} ms, {lost} lost: {ours} instead of {ideal}");
        }
    }

    #[test]
    fn what_nobody_can_answer_does_not_take_the_turns_of_what_is_lost_now() {
        let mut asked = Asked::default();
        let now = Instant::now();
        asked.due(&[0], now);
        asked.came(0, now + Duration::from_millis(30));
        let dead: Vec<u16> = (1..600).collect();
        asked.due(&dead, now);
        for turn in 2..50 {
            let fresh = 1000 + turn as u16;
            let missing: Vec<u16> = dead.iter().copied().chain([fresh - 2, fresh]).collect();
            let due = asked.due(&missing, now + TICK * turn);
            assert!(due.contains(&fresh) && (turn < 4 || due.contains(&(fresh - 2))), "turn {turn}: {due:?}");
        }
    }

    #[test]
    fn before_anything_is_known_of_the_way_only_so_many_are_asked_for_again_at_once() {
        let mut asked = Asked::default();
        let missing: Vec<u16> = (65_000..=u16::MAX).chain(0..200).collect();
        let now = Instant::now();
        assert_eq!(asked.due(&missing, now), missing);
        assert!(asked.due(&missing, now + TICK).is_empty(), "that they are so many is an outage");
        let newest = &missing[missing.len() - MOST_AGAIN..];
        assert_eq!(asked.due(&missing, now + UNKNOWN), newest);
        let now = now + UNKNOWN - TICK;
        assert_eq!(asked.due(&missing[..10], now + 2 * TICK), missing[..10]);
        assert_eq!(asked.packets.len(), 10, "what is not missing any more is forgotten");
        let turns: Vec<u32> =
            (3..100).filter(|turn| !asked.due(&missing[..10], now + *turn * TICK).is_empty()).collect();
        assert!(turns.starts_with(&[3, 4, 5]) && turns.last() > Some(&85) && turns.len() < 30, "{turns:?}");
        assert_eq!(asked.due(&missing[..10], now + ROUND + 3 * TICK), missing[..10], "another packet of that number");
    }
}
