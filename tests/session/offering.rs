//! Sessions that make the offer and send: what it says, and that everything which an answering session can do they can too.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    data::{Listener, answered, run},
    lossy::LossyPath,
    media::Media,
    wait_until,
};
use bytes::Bytes;
use gstwebrtcbridge::{
    codec::{Codec, MediaKind},
    session::{
        Answered, CodecPreferences, ConnectionState, DataOptions, EndReason, History, KeyframeControl, Offering,
        Outgoing, OutgoingFormat, OutgoingPacket, Outlet, PacketSink, RtpPacket, SendEvents, SenderReport, Sends,
        Session, SessionConfig, SessionError, Terms, Track,
    },
};

#[derive(Default)]
struct Events {
    ready: AtomicUsize,
    keyframes: AtomicUsize,
}

impl SendEvents for Events {
    fn ready(&self) {
        self.ready.fetch_add(1, SeqCst);
    }

    fn keyframe_wanted(&self, _: usize) {
        self.keyframes.fetch_add(1, SeqCst);
    }
}

/// Keeps what comes, by track.
#[derive(Default)]
struct Received(Mutex<BTreeMap<usize, Vec<RtpPacket>>>);

impl Received {
    fn of(&self, track: usize) -> Vec<RtpPacket> {
        self.0.lock().unwrap().get(&track).cloned().unwrap_or_default()
    }
}

impl PacketSink for Received {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        self.0.lock().unwrap().entry(track).or_default().push(packet);
    }
    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}

fn vp8_and_opus() -> Vec<Outgoing> {
    vec![Outgoing::of(Codec::Vp8, ""), Outgoing::of(Codec::Opus, "minptime=10")]
}

fn sends(tracks: Vec<Outgoing>, receives: bool) -> (Option<Sends>, Arc<Events>) {
    let events = Arc::<Events>::default();
    (Some(Sends { tracks, events: events.clone(), receives }), events)
}

fn offer(media: &Media, terms: Terms) -> Result<Offering, SessionError> {
    let config = media.config.clone();
    run(media, async move { Offering::with(&config, true, terms).await })
}

fn answer(media: &Media, config: SessionConfig, offer: &str, terms: Terms) -> (Answered, Arc<Received>) {
    let received = Arc::<Received>::default();
    let (sink, offer) = (received.clone(), offer.to_owned());
    let answered = run(media, async move { Session::exchange(&config, &offer, true, terms, |_| sink, ()).await });
    (answered.expect("an answer"), received)
}

/// One way of an outlet, and what is to arrive there.
struct Feed {
    outlet: Outlet,
    history: Arc<History>,
    number: u64,
    sent: Vec<Bytes>,
}

impl Feed {
    fn new(outlet: &Outlet) -> Self {
        let history = Arc::<History>::default();
        outlet.keep_in(0, history.clone());
        Self { outlet: outlet.clone(), history, number: 0, sent: Vec::new() }
    }

    /// A picture of so many packets on track 0, and a packet of sound on track 1.
    fn picture(&mut self, packets: u64) {
        let first = self.number;
        let timestamp = first as u32 * 3000;
        let pictures = (first..first + packets).map(|number| {
            let mut payload = vec![0x10, u8::from(first > 0)];
            payload.extend(number.to_be_bytes().repeat(130));
            let payload = Bytes::from(payload);
            self.sent.push(payload.clone());
            let (starts_keyframe, stored) = (number == 0, self.history.store(payload.clone()));
            let marker = number + 1 == first + packets;
            OutgoingPacket {
                dependencies: None,
                number,
                timestamp,
                marker,
                starts_keyframe,
                payload,
                stored,
                renumbered: None,
            }
        });
        let pictures: Vec<_> = pictures.collect();
        self.outlet.send(0, pictures);
        let payload = Bytes::from(vec![0xFC, first as u8]);
        let starts_keyframe = true;
        self.outlet.send(
            1,
            [OutgoingPacket {
                dependencies: None,
                number: first,
                timestamp,
                marker: false,
                starts_keyframe,
                payload,
                stored: 0,
                renumbered: None,
            }],
        );
        self.number += packets;
    }

    fn pictures(&mut self, count: u32, packets: u64) {
        let start = Instant::now();
        for index in 0..count {
            std::thread::sleep((start + Duration::from_millis(33) * index).saturating_duration_since(Instant::now()));
            self.picture(packets);
        }
    }

    /// Waits until all of it is there, and compares.
    fn wait_all(&self, received: &Received, track: usize) {
        let mut packets = wait_until("every packet", SOON, || {
            let packets = received.of(track);
            (packets.len() == self.sent.len()).then_some(packets)
        });
        packets.sort_by_key(|packet| packet.payload.get(2..10).map(<[u8]>::to_vec));
        assert!(packets.iter().zip(&self.sent).all(|(got, sent)| got.payload == sent), "bit for bit");
    }
}

fn formats(tracks: &[Track]) -> Vec<(usize, Codec)> {
    tracks.iter().map(|track| (track.index, track.codec)).collect()
}

#[test]
fn an_offer_to_send_says_what_a_whip_server_must_be_told() {
    let media = Media::start();
    let video = [("42e01f", Codec::H264), ("", Codec::Vp8)].map(|(profile, codec)| OutgoingFormat {
        codec,
        fmtp: if profile.is_empty() {
            String::new()
        } else {
            format!("packetization-mode=1;profile-level-id={profile}")
        },
    });
    let tracks = vec![Outgoing { kind: MediaKind::Video, formats: video.to_vec() }, Outgoing::of(Codec::Opus, "")];
    let offering = offer(&media, Terms { sends: sends(tracks, false).0, data: None }).expect("an offer");
    let sdp = offering.sdp();
    let sections: Vec<&str> = sdp.split("\r\nm=").skip(1).collect();
    let count = |line: &str| sdp.lines().filter(|other| *other == line).count();
    assert_eq!(sections.len(), 2, "{sdp}");
    assert!(sections[0].starts_with("video 9 ") && sections[1].starts_with("audio 0 "), "{sdp}");
    for (line, times) in [
        ("a=sendonly", 2),
        ("a=rtcp-mux", 2),
        ("a=rtcp-mux-only", 2),
        ("a=setup:actpass", 2),
        ("a=bundle-only", 1),
        ("a=group:BUNDLE 0 1", 1),
        ("a=recvonly", 0),
    ] {
        assert_eq!(count(line), times, "{line} in {sdp}");
    }
    // One media stream, whose name stands before each track's.
    let streams: std::collections::HashSet<_> =
        sdp.lines().filter_map(|line| line.strip_prefix("a=msid:")).map(|msid| msid.split(' ').next()).collect();
    assert_eq!(streams.len(), 1, "{sdp}");
    let codecs: Vec<_> =
        sections[0].lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split(' ').nth(1)).collect();
    assert_eq!(codecs, ["H264/90000", "rtx/90000", "VP8/90000", "rtx/90000"], "{sdp}");
    for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
        assert!(sections[0].contains(&format!("a=rtcp-fb:96 {feedback}\r\n")), "{feedback} in {sdp}");
    }
    assert_eq!((sdp.matches("a=ssrc-group:FID").count(), sections[1].matches("ssrc-group").count()), (1, 0), "{sdp}");
    assert!(sdp.contains("a=candidate:"), "{sdp}");
    let two = vec![Outgoing::of(Codec::Vp8, ""), Outgoing::of(Codec::Vp9, "")];
    let Err(error) = offer(&media, Terms { sends: sends(two, false).0, data: None }) else { panic!("an offer") };
    assert_eq!(error.to_string(), "more than one video track cannot be offered");
}

#[test]
fn what_is_handed_over_arrives_also_through_loss_and_what_the_peer_asks_for_is_told() {
    let (here, there) = (Media::start(), Media::start());
    let path = LossyPath::percent_seeded(8, 3);
    let (sends, events) = sends(vp8_and_opus(), false);
    let offering = offer(&here, Terms { sends, data: None }).expect("an offer");
    // The peer is not told where we are, so that it finds us behind the relay only.
    let told: String = offering.sdp().split_inclusive("\r\n").filter(|line| !line.starts_with("a=candidate")).collect();
    let (answer, received) = answer(&there, there.config.clone(), &told, Terms::default());
    let session = answered(&here, offering, path.reroute(&answer.sdp));
    assert_eq!(formats(session.outgoing()), [(0, Codec::Vp8), (1, Codec::Opus)]);
    assert_eq!(formats(&answer.tracks), [(0, Codec::Vp8), (1, Codec::Opus)]);
    let outlet = session.outlet().expect("an outlet").clone();
    wait_until("the sending half", SOON, || (events.ready.load(SeqCst) == 1 && outlet.is_ready()).then_some(()));
    let mut feed = Feed::new(&outlet);
    // Of what was lost before anything came a receiver knows nothing, and asks for none of it.
    wait_until("something", SOON, || {
        feed.picture(1);
        std::thread::sleep(Duration::from_millis(20));
        (!received.of(0).is_empty()).then(|| feed.sent.clear())
    });
    feed.pictures(60, 7);
    // That the last packet was lost shows only by those that follow.
    let sent = feed.sent.clone();
    wait_until("every packet", SOON, || {
        feed.picture(1);
        std::thread::sleep(Duration::from_millis(20));
        let payloads: std::collections::HashSet<Bytes> =
            received.of(0).into_iter().map(|packet| packet.payload).collect();
        sent.iter().all(|payload| payloads.contains(payload)).then_some(())
    });
    let video = outlet.stats().tracks[0].unwrap();
    assert!(path.lost() > 20 && video.retransmitted > 10 && video.unavailable == 0, "{} {video:?}", path.lost());
    assert!(!received.of(1).is_empty());
    answer.session.request_keyframe(0);
    wait_until("the request", SOON, || {
        feed.picture(1);
        std::thread::sleep(Duration::from_millis(10));
        (events.keyframes.load(SeqCst) > 0).then_some(())
    });
    let estimate = outlet.estimate();
    wait_until("an estimate by transport-wide reports", SOON, || {
        feed.picture(5);
        std::thread::sleep(Duration::from_millis(10));
        *estimate.borrow()
    });
    path.stop();
}

#[test]
fn the_answer_picks_the_format_and_what_it_does_not_take_is_not_sent() {
    let (here, there) = (Media::start(), Media::start());
    let formats_of = |codecs: &[Codec]| {
        codecs.iter().map(|codec| OutgoingFormat { codec: *codec, fmtp: String::new() }).collect::<Vec<_>>()
    };
    let video = Outgoing { kind: MediaKind::Video, formats: formats_of(&[Codec::Av1, Codec::Vp9, Codec::Vp8]) };
    let (sends, _) = sends(vec![Outgoing::of(Codec::Opus, ""), video], false);
    let offering = offer(&here, Terms { sends, data: None }).expect("an offer");
    let codecs = CodecPreferences { video: vec![Codec::Vp8, Codec::H264], audio: vec![Codec::Opus] };
    let config = SessionConfig { codecs, ..there.config.clone() };
    let (answer, received) = answer(&there, config, offering.sdp(), Terms::default());
    let session = answered(&here, offering, answer.sdp.clone());
    assert_eq!(formats(session.outgoing()), [(1, Codec::Vp8), (0, Codec::Opus)]);
    let outlet = session.outlet().expect("an outlet").clone();
    wait_until("the sending half", SOON, || outlet.is_ready().then_some(()));
    let payload = Bytes::from_static(&[0x10, 0, 1, 2, 3]);
    let (number, timestamp) = (0, 0);
    outlet.send(
        1,
        [OutgoingPacket {
            dependencies: None,
            number,
            timestamp,
            marker: true,
            starts_keyframe: true,
            payload,
            stored: 0,
            renumbered: None,
        }],
    );
    let packets = wait_until("the picture", SOON, || Some(received.of(0)).filter(|packets| !packets.is_empty()));
    assert_eq!(packets[0].payload_type, answer.tracks[0].payload_type);
    let nobody = offer(&here, Terms { sends: self::sends(vec![Outgoing::of(Codec::Av1, "")], false).0, data: None });
    let nobody = nobody.expect("an offer");
    let refusal = nobody.sdp().replace("actpass", "active").replace("sendonly", "inactive");
    let error = run(&here, async move {
        Box::pin(nobody.answered(&refusal, Arc::new(Received::default()), |_, _| (), ())).await.err()
    });
    let error = error.expect("an error").to_string();
    assert!(error.contains("takes neither audio nor video"), "{error}");
}

#[test]
fn media_both_ways_and_data_go_over_one_connection() {
    let (here, there) = (Media::start(), Media::start());
    let (asking, replying) = (Listener::new(), Listener::new());
    let (ours, _) = sends(vp8_and_opus(), true);
    let (theirs, _) = sends(vp8_and_opus(), true);
    let offering = offer(&here, Terms { sends: ours, data: Some(asking.clone()) }).expect("an offer");
    assert_eq!(offering.sdp().matches("a=sendrecv").count(), 3, "{}", offering.sdp());
    let (answer, there_received) =
        answer(&there, there.config.clone(), offering.sdp(), Terms { sends: theirs, data: Some(replying.clone()) });
    assert_eq!(answer.sdp.matches("a=sendrecv").count(), 3, "{}", answer.sdp);
    let here_received = Arc::<Received>::default();
    let (sink, sdp) = (here_received.clone(), answer.sdp.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let session = run(&here, async move {
        let begin = move |_: Session, tracks: Vec<Track>| _ = tell.send(tracks);
        Box::pin(offering.answered(&sdp, sink, begin, ())).await.expect("a session")
    });
    assert_eq!(formats(&told.recv_timeout(SOON).expect("tracks")), [(0, Codec::Vp8), (1, Codec::Opus)]);
    let outlets = [session.outlet().expect("an outlet"), answer.outlet.as_ref().expect("an outlet")];
    wait_until("both sending halves", SOON, || outlets.iter().all(|outlet| outlet.is_ready()).then_some(()));
    let [mut out, mut back] = outlets.map(Feed::new);
    for _ in 0..20 {
        out.picture(3);
        back.picture(3);
        std::thread::sleep(Duration::from_millis(20));
    }
    out.wait_all(&there_received, 0);
    back.wait_all(&here_received, 0);
    wait_until("sound both ways", SOON, || {
        (there_received.of(1).len() == 20 && here_received.of(1).len() == 20).then_some(())
    });
    let channel = session.open_channel("chat", DataOptions::default()).expect("a channel");
    channel.try_send("hello").expect("room");
    assert_eq!(replying.opened().label(), "chat");
    assert_eq!(replying.message(), "hello".into());
}
