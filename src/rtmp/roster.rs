//! Who of several destinations still goes on, and what it means for all when one does not. Pure.

use super::{Failure, Location};

/// Where one destination stands in the life of all.
#[derive(Debug)]
enum Standing {
    Active,
    GaveUp(Location, Failure),
    Finished,
}

/// All destinations, by the number that each got when it was added.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: Vec<(u64, Standing)>,
    ended: bool,
}

/// What has become of all, taken together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes on.
    None,
    /// Every one has given up; the one that did last, and why.
    AllGaveUp(Location, Failure),
    /// The stream has ended, and each has been told, or could not be.
    AllFinished,
}

impl Roster {
    pub(super) fn add(&mut self, id: u64) {
        self.members.push((id, Standing::Active));
    }

    /// One was taken away: it may have been the last that the others were good for.
    pub(super) fn remove(&mut self, id: u64) -> Outcome {
        self.members.retain(|(member, _)| *member != id);
        if self.is_finished() { Outcome::AllFinished } else { self.all_gave_up() }
    }

    pub(super) fn gave_up(&mut self, id: u64, location: Location, failure: Failure) -> Outcome {
        // The last to do so stands last: it is the one to be named.
        let before = self.members.len();
        self.members.retain(|(member, _)| *member != id);
        if self.members.len() == before {
            return Outcome::None; // taken away meanwhile
        }
        self.members.push((id, Standing::GaveUp(location, failure)));
        self.all_gave_up()
    }

    pub(super) fn finished(&mut self, id: u64) -> Outcome {
        let Some((_, standing)) = self.members.iter_mut().find(|(member, _)| *member == id) else {
            return Outcome::None;
        };
        *standing = Standing::Finished;
        if self.members.iter().all(|(_, standing)| matches!(standing, Standing::Finished)) {
            Outcome::AllFinished
        } else {
            Outcome::None
        }
    }

    /// The stream has ended: with nobody to tell it to, that is all.
    pub(super) fn ended(&mut self) -> Outcome {
        self.ended = true;
        if self.is_finished() { Outcome::AllFinished } else { Outcome::None }
    }

    fn is_finished(&self) -> bool {
        self.ended && self.members.iter().all(|(_, standing)| matches!(standing, Standing::Finished))
    }

    fn all_gave_up(&self) -> Outcome {
        let all = self.members.iter().all(|(_, standing)| matches!(standing, Standing::GaveUp(..)));
        match self.members.last() {
            Some((_, Standing::GaveUp(location, failure))) if all => {
                Outcome::AllGaveUp(location.clone(), failure.clone())
            }
            _ => Outcome::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str) -> Location {
        Location::parse(&format!("rtmp://{host}/app/key")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn roster(members: u64) -> Roster {
        let mut roster = Roster::default();
        (0..members).for_each(|id| roster.add(id));
        roster
    }

    fn all_gave_up(host: &str) -> Outcome {
        Outcome::AllGaveUp(location(host), Failure::Unreachable)
    }

    #[test]
    fn one_that_gives_up_is_no_matter_until_the_last_does() {
        let mut roster = roster(3);
        assert_eq!(roster.gave_up(1, location("b"), Failure::Unreachable), Outcome::None);
        assert_eq!(roster.gave_up(2, location("c"), Failure::Unreachable), Outcome::None);
        assert_eq!(roster.gave_up(0, location("a"), Failure::Unreachable), all_gave_up("a"));
    }

    #[test]
    fn taking_the_last_good_one_away_leaves_those_that_gave_up() {
        let mut roster = roster(2);
        assert_eq!(roster.gave_up(0, location("a"), Failure::Unreachable), Outcome::None);
        assert_eq!(roster.remove(1), all_gave_up("a"));
        roster.add(2);
        assert_eq!(roster.remove(0), Outcome::None, "a new one took the place");
        assert_eq!(roster.gave_up(0, location("a"), Failure::Unreachable), Outcome::None, "it is gone");
        assert_eq!(roster.remove(2), Outcome::None, "none left is none that gave up");
    }

    #[test]
    fn the_end_waits_for_every_one() {
        let mut roster = roster(2);
        assert_eq!(roster.ended(), Outcome::None);
        assert_eq!(roster.finished(1), Outcome::None);
        assert_eq!(roster.finished(0), Outcome::AllFinished);
        let mut roster = self::roster(2);
        roster.ended();
        roster.finished(0);
        assert_eq!(roster.remove(1), Outcome::AllFinished, "nobody waits for one that was taken away");
        assert_eq!(self::roster(0).ended(), Outcome::AllFinished);
    }
}
