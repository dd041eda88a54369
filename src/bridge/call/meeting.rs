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
    /// We are connected to somebody whose name is not known here, because he or we were lost to the server.
    kept: Option<Kept>,
}

/// Who would be our partner if the connection that there is broke.
#[derive(Debug, Default)]
struct Kept {
    next: Option<(String, Option<String>)>,
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
    /// The server has lost him: he has gone too, unless the connection to him says otherwise.
    Lost,
}

impl Meeting {
    /// Alone, as far as we know.
    pub(super) fn new(me: &str) -> Self {
        Self { me: me.to_owned(), partner: None, kept: None }
    }

    /// There is a connection to somebody, who keeps it whatever he is called now: nobody else is answered as long as it lasts.
    pub(super) fn keep(&mut self) {
        (self.partner, self.kept) = (None, Some(Kept::default()));
    }

    /// Whom we talk to.
    pub(super) fn partner(&self) -> Option<&str> {
        self.partner.as_ref().map(|partner| partner.name.as_str())
    }

    /// Something has come that has to do with descriptions; candidates are for whoever has a session.
    pub(super) fn hear(&mut self, event: RoomEvent) -> Do {
        if let Some(kept) = &mut self.kept {
            kept.hear(event);
            return Do::Nothing;
        }
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
            RoomEvent::PeerLost(name) if self.partner() == Some(&name) => {
                self.partner = None;
                Do::Lost
            }
            _ => Do::Nothing,
        }
    }

    /// Our offer goes out now: what answers come before are of another one.
    pub(super) fn offered(&mut self) {
        if let Some(partner) = &mut self.partner {
            partner.awaited = true;
        }
    }

    /// The connection to the partner is over: what there is to do about another one, if he or somebody else is there.
    pub(super) fn again(&mut self) -> Do {
        if let Some(Kept { next }) = self.kept.take() {
            let Some((name, offer)) = next else { return Do::Nothing };
            let ours = offer.is_none();
            self.partner = Some(Partner { name, awaited: ours, ours });
            return offer.map_or(Do::Offer, Do::Answer);
        }
        match &mut self.partner {
            Some(partner) if partner.ours => {
                partner.awaited = false;
                Do::Offer
            }
            _ => Do::Nothing,
        }
    }
}

impl Kept {
    /// An offer is worth more than somebody who waits for one, and the last one counts.
    fn hear(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Offer { from, sdp } => self.next = Some((from, Some(sdp))),
            RoomEvent::PeerJoined(name) if self.next.is_none() => self.next = Some((name, None)),
            RoomEvent::PeerLeft(name) | RoomEvent::PeerLost(name) => {
                self.next.take_if(|(next, _)| *next == name);
            }
            _ => {}
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
        assert_eq!(meeting.again(), Do::Nothing, "it is the other one's to offer");
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
        assert_eq!(meeting.again(), Do::Nothing, "to whom?");
        meeting.hear(joined("z"));
        assert_eq!(meeting.again(), Do::Offer, "he has not answered");
        assert_eq!(meeting.hear(answer("z")), Do::Nothing, "too late");
        meeting.offered();
        assert_eq!(meeting.hear(answer("z")), Do::Take("answer of z".into()));
    }

    #[test]
    fn who_is_connected_talks_to_nobody_else_until_that_is_over() {
        for (events, then) in [
            (vec![], Do::Nothing),
            (vec![joined("b")], Do::Offer),
            (vec![joined("b"), offer("c"), joined("d")], Do::Answer("offer of c".into())),
            (vec![joined("b"), RoomEvent::PeerLeft("b".into())], Do::Nothing),
            (vec![offer("b"), RoomEvent::PeerLost("c".into())], Do::Answer("offer of b".into())),
        ] {
            let mut meeting = Meeting::new("m");
            meeting.hear(offer("a"));
            assert_eq!(meeting.hear(RoomEvent::PeerLost("a".into())), Do::Lost);
            meeting.keep();
            for event in events {
                assert_eq!(meeting.hear(event), Do::Nothing);
            }
            assert_eq!(meeting.again(), then);
            assert_eq!(meeting.partner().is_some(), then != Do::Nothing);
        }
        let mut meeting = Meeting::new("m");
        meeting.keep();
        assert_eq!((meeting.again(), meeting.hear(joined("b"))), (Do::Nothing, Do::Offer), "as at first");
    }
}
