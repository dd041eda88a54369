//! A connection whose own code fails, as the WebRTC stack might for what a peer sends: its session ends, and no other.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::common::{
    SOON,
    data::{answered, run},
    media::Media,
    wait_until,
};
use bytes::Bytes;
use gstwebrtcbridge::{
    codec::Codec,
    session::{
        ConnectionState, EndReason, History, Offering, Outgoing, OutgoingPacket, PacketSink, RtpPacket, SendEvents,
        SenderReport, Sends, Session, Terms,
    },
};

/// Counts packets; one that begins with a certain byte is too much for it.
#[derive(Default)]
struct Brittle {
    packets: AtomicUsize,
    ended: Mutex<Option<EndReason>>,
}

const TOO_MUCH: u8 = 0xEE;

impl PacketSink for Brittle {
    fn rtp(&self, _: usize, packet: RtpPacket) {
        assert!(packet.payload.first() != Some(&TOO_MUCH), "a mistake, made on purpose");
        self.packets.fetch_add(1, SeqCst);
    }
    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, reason: EndReason) {
        *self.ended.lock().unwrap() = Some(reason);
    }
    fn resumed(&self) {}
}

struct Nothing;

impl SendEvents for Nothing {
    fn ready(&self) {}
    fn keyframe_wanted(&self, _: usize) {}
}

/// Both ends of a connection, and what the second one got.
struct Pair {
    sends: Session,
    receives: Session,
    received: Arc<Brittle>,
    history: Arc<History>,
    number: AtomicUsize,
}

impl Pair {
    fn connect(here: &Media, there: &Media) -> Self {
        let sends = Sends { tracks: vec![Outgoing::of(Codec::Vp8, "")], events: Arc::new(Nothing), receives: false };
        let (from, terms) = (here.config.clone(), Terms { sends: Some(sends), data: None });
        let offering = run(here, async move { Offering::with(&from, true, terms).await }).expect("an offer");
        let received = Arc::<Brittle>::default();
        let (sink, offer, to) = (received.clone(), offering.sdp().to_owned(), there.config.clone());
        let answer =
            run(there, async move { Session::exchange(&to, &offer, true, Terms::default(), |_| sink, ()).await });
        let answer = answer.expect("an answer");
        let sends = answered(here, offering, answer.sdp);
        let history = Arc::<History>::default();
        sends.outlet().expect("an outlet").keep_in(0, history.clone());
        let pair = Self { sends, receives: answer.session, received, history, number: AtomicUsize::new(0) };
        wait_until("the first packet", SOON, || {
            pair.send(0);
            pair.arrived()
        });
        pair
    }

    fn send(&self, first: u8) {
        let number = self.number.fetch_add(1, SeqCst) as u64;
        let payload = Bytes::from(vec![first; 50]);
        self.sends.outlet().expect("an outlet").send(
            0,
            [OutgoingPacket {
                dependencies: None,
                number,
                timestamp: number as u32 * 3000,
                marker: true,
                starts_keyframe: number == 0,
                stored: self.history.store(payload.clone()),
                payload,
                renumbered: None,
            }],
        );
    }

    /// Whether anything has come since it was asked last.
    fn arrived(&self) -> Option<()> {
        (self.received.packets.swap(0, SeqCst) > 0).then_some(())
    }

    fn ended(&self) -> Option<EndReason> {
        *self.received.ended.lock().unwrap()
    }
}

#[test]
fn a_session_whose_connection_fails_ends_at_once_and_no_other_does() {
    // Each comes from a port of its own: who sends is known by that.
    let (there, comes_from) = (Media::start(), [Media::start(), Media::start(), Media::start()]);
    let [doomed, other] = [0, 1].map(|index| Pair::connect(&comes_from[index], &there));
    let reason = wait_until("the end of the session", SOON, || {
        doomed.send(TOO_MUCH);
        other.send(0);
        doomed.ended()
    });
    assert_eq!(reason, EndReason::StackFailed);
    assert_eq!(doomed.receives.state(), ConnectionState::Failed);
    assert_eq!(other.ended(), None);
    wait_until("what the other sends", SOON, || {
        other.send(0);
        other.arrived()
    });
    // The port takes newcomers as before.
    let late = Pair::connect(&comes_from[2], &there);
    assert_eq!(late.ended(), None);
    // Nor does closing what has failed wait for ever.
    run(&there, {
        let session = doomed.receives;
        async move { session.close(EndReason::Shutdown).await }
    });
}
