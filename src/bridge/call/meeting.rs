//! Who does what in a channel of a signaling server: whom we talk to, and who makes the offer. Pure.
//!
//! Two peers meet there. Who is told that the other has come makes the offer. Should both offer all the same (a server of
//! another kind, or one that was restarted), the offer of the one whose name is greater counts.

use crate::signaling::client::socket::RoomEvent;

/// A meeting, as far as it has come.
#[derive(Debug)]
pub(super) struct Meeting {
    me: String,
    partner: Option<Partner>,
}

#[derive(Debug)]
struct Partner {
    name: String,
    /// We have offered, and he has not answered.
    awaited: bool,
    /// The offer is ours to make.
    ours: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Nothing.
    Nothing,
    /// Offer.
    Offer,
    /// Answer this offer; what there was before it is over.
    Answer(String),
    /// Take this answer.
    Take(String),
    /// He has gone.
    Gone,
}

impl Meeting {
    /// Alone, as far as we know.
    pub(super) fn new(me: &str) -> Self {
        Self { me: me.to_owned(), partner: None }
    }

    /// Whom we talk to.
    pub(super) fn partner(&self) -> Option<&str> {
        self.partner.as_ref().map(|partner| partner.name.as_str())
    }

    /// Something has come that has to do with descriptions; candidates are for whoever has a session.
    pub(super) fn hear(&mut self, event: RoomEvent) -> Do {
        match event {
            RoomEvent::PeerJoined(name) if self.partner.is_none() => {
                self.partner = Some(Partner { name, awaited: true, ours: true });
                Do::Offer
            }
            RoomEvent::Offer { from, sdp } => match &self.partner {
                Some(partner) if partner.name != from => Do::Nothing, // a third one
                Some(Partner { awaited: true, .. }) if self.me > from => Do::Nothing, // ours counts
                _ => {
                    self.partner = Some(Partner { name: from, awaited: false, ours: false });
                    Do::Answer(sdp)
                }
            },
            RoomEvent::Answer { from, sdp } => match &mut self.partner {
                Some(partner) if partner.name == from && partner.awaited => {
                    partner.awaited = false;
                    Do::Take(sdp)
                }
                _ => Do::Nothing,
            },
            RoomEvent::PeerLeft(name) if self.partner() == Some(&name) => {
                self.partner = None;
                Do::Gone
            }
            _ => Do::Nothing,
        }
    }

    /// The connection to the partner is over and he is still there: whether it is ours to offer another one.
    pub(super) fn again(&mut self) -> bool {
        match &mut self.partner {
            Some(partner) if partner.ours => {
                partner.awaited = true;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(name: &str) -> RoomEvent {
        RoomEvent::PeerJoined(name.into())
    }

    fn offer(from: &str) -> RoomEvent {
        RoomEvent::Offer { from: from.into(), sdp: format!("offer of {from}") }
    }

    fn answer(from: &str) -> RoomEvent {
        RoomEvent::Answer { from: from.into(), sdp: format!("answer of {from}") }
    }

    #[test]
    fn who_was_there_first_offers_and_takes_the_answer_once() {
        let mut meeting = Meeting::new("m");
        assert_eq!(meeting.hear(joined("z")), Do::Offer);
        assert_eq!(meeting.hear(answer("other")), Do::Nothing);
        assert_eq!(meeting.hear(answer("z")), Do::Take("answer of z".into()));
        assert_eq!(meeting.hear(answer("z")), Do::Nothing);
        assert_eq!(meeting.partner(), Some("z"));
    }

    #[test]
    fn who_comes_second_answers_and_answers_again() {
        let mut meeting = Meeting::new("m");
        for _ in 0..2 {
            assert_eq!(meeting.hear(offer("a")), Do::Answer("offer of a".into()));
        }
        assert!(!meeting.again(), "it is the other one's to offer");
    }

    #[test]
    fn of_two_offers_one_counts_on_both_sides() {
        for (me, other, expected) in [("a", "b", Do::Answer("offer of b".into())), ("b", "a", Do::Nothing)] {
            let mut meeting = Meeting::new(me);
            assert_eq!(meeting.hear(joined(other)), Do::Offer);
            assert_eq!(meeting.hear(offer(other)), expected);
        }
    }

    #[test]
    fn a_third_one_is_passed_over_until_the_partner_has_gone() {
        let mut meeting = Meeting::new("m");
        meeting.hear(offer("a"));
        for event in [joined("c"), offer("c"), answer("c"), RoomEvent::PeerLeft("c".into())] {
            assert_eq!(meeting.hear(event), Do::Nothing);
        }
        assert_eq!(meeting.hear(RoomEvent::PeerLeft("a".into())), Do::Gone);
        assert_eq!(meeting.hear(joined("c")), Do::Offer);
    }

    #[test]
    fn a_connection_that_was_lost_is_offered_again_by_the_same_one() {
        let mut meeting = Meeting::new("m");
        assert!(!meeting.again(), "to whom?");
        meeting.hear(joined("z"));
        meeting.hear(answer("z"));
        assert!(meeting.again());
        assert_eq!(meeting.hear(answer("z")), Do::Take("answer of z".into()));
    }
}
