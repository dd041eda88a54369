//! A session that sends: what is handed over arrives at a peer as it was, also through loss; what the peer asks for is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    lossy::LossyPath,
    media::Media,
    viewer::{Viewer, Wants},
    wait_until,
};
use bytes::Bytes;
use gstwebrtcbridge::{
    codec::Codec,
    session::{
        Answered, ClockPoint, History, Outgoing, OutgoingPacket, Outlet, SendEvents, Sends, SessionError, Track,
    },
};

const VP8: u8 = 96;
const OPUS: u8 = 111;

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

/// One viewer and what it is sent.
struct Pair {
    viewer: Viewer,
    answered: Answered,
    outlet: Outlet,
    events: Arc<Events>,
    history: Arc<History>,
    number: u64,
    /// Payloads of video in order.
    sent: Vec<Bytes>,
}

impl Pair {
    fn connect(media: &Media, wants: Wants) -> Self {
        let viewer = Viewer::new(wants);
        let events = Arc::<Events>::default();
        let tracks = vec![Outgoing::of(Codec::Vp8, ""), Outgoing::of(Codec::Opus, "")];
        let answered = media
            .exchange(viewer.offer(), Sends { tracks, events: events.clone(), receives: false })
            .expect("an answer");
        let outlet = answered.outlet.clone().expect("an outlet");
        let history = Arc::<History>::default();
        outlet.keep_in(0, history.clone());
        viewer.answered(&answered.sdp);
        viewer.wait_connected();
        wait_until("the sending half", SOON, || (events.ready.load(SeqCst) == 1).then_some(()));
        Self { viewer, answered, outlet, events, history, number: 0, sent: Vec::new() }
    }

    /// A picture of so many packets.
    fn picture(&mut self, packets: usize) {
        let timestamp = self.number as u32 * 3000;
        let first = self.number;
        let packets = (0..packets).map(|index| {
            let mut payload = vec![0x10, u8::from(first > 0)];
            payload.extend(self.number.to_be_bytes().repeat(130));
            let payload = Bytes::from(payload);
            self.sent.push(payload.clone());
            let packet = OutgoingPacket {
                dependencies: None,
                number: self.number,
                timestamp,
                marker: index + 1 == packets,
                starts_keyframe: self.number == 0,
                stored: self.history.store(payload.clone()),
                payload,
                renumbered: None,
            };
            self.number += 1;
            packet
        });
        let packets: Vec<OutgoingPacket> = packets.collect();
        self.outlet.send(0, packets);
    }

    /// Sends pictures at their pace.
    fn pictures(&mut self, count: usize, packets: usize) {
        let start = Instant::now();
        for index in 0..count as u32 {
            std::thread::sleep((start + Duration::from_millis(33) * index).saturating_duration_since(Instant::now()));
            self.picture(packets);
        }
    }

    /// Waits until everything is there, and compares.
    fn wait_all(&self) {
        wait_until("every packet", SOON, || (self.viewer.count(VP8) == self.sent.len()).then_some(()));
        let stream = self.viewer.stream(VP8);
        let payloads: Vec<&Bytes> = stream.packets.values().map(|got| &got.payload).collect();
        assert!(payloads.iter().zip(&self.sent).all(|(got, sent)| *got == sent), "bit for bit and in order");
        assert_eq!(stream.missing(), Vec::<i64>::new());
    }
}

fn tracks(tracks: &[Track]) -> Vec<(usize, Codec, u8)> {
    tracks.iter().map(|track| (track.index, track.codec, track.payload_type)).collect()
}

#[test]
fn what_is_handed_over_arrives_in_the_viewers_own_terms() {
    let media = Media::start();
    let mut pair = Pair::connect(&media, Wants::default());
    assert_eq!(tracks(&pair.answered.outgoing), [(1, Codec::Opus, OPUS), (0, Codec::Vp8, VP8)]);
    assert!(!pair.answered.sdp.contains("a=inactive") && pair.answered.sdp.matches("a=sendonly").count() == 2);
    let now = Instant::now();
    pair.outlet.set_clock(0, ClockPoint { rtp_time: 0, at: now });
    pair.outlet.set_clock(1, ClockPoint { rtp_time: 960, at: now });
    pair.pictures(30, 7);
    let audio = OutgoingPacket {
        dependencies: None,
        number: 5,
        timestamp: 77,
        marker: false,
        starts_keyframe: true,
        payload: Bytes::from_static(&[0xFC, 1, 2]),
        stored: 0,
        renumbered: None,
    };
    pair.outlet.send(1, [audio]);
    pair.wait_all();
    wait_until("audio", SOON, || (pair.viewer.count(OPUS) == 1).then_some(()));
    let sound = pair.viewer.stream(OPUS).packets.into_values().next().unwrap();
    assert_eq!((sound.timestamp, &sound.payload[..]), (77, &[0xFC, 1, 2][..]));
    let stream = pair.viewer.stream(VP8);
    assert_eq!(stream.packets.values().filter(|got| got.marker).count(), 30);
    // Both clocks in one report each: the same instant is 90 kHz and 48 kHz apart.
    let reports = wait_until("reports of both", SOON, || {
        let (video, audio) = (pair.viewer.stream(VP8).reports, pair.viewer.stream(OPUS).reports);
        Some((*video.first()?, *audio.first()?))
    });
    let seconds = (reports.1.0 as f64 - reports.0.0 as f64) / f64::from(u32::MAX);
    let by_rtp = f64::from(reports.1.1 - 960) / 48_000.0 - f64::from(reports.0.1) / 90_000.0;
    assert!((seconds - by_rtp).abs() < 0.001, "{seconds} {by_rtp}");
}

#[test]
fn lost_packets_are_sent_again() {
    for rtx in [true, false] {
        let media = Media::start();
        let path = LossyPath::percent_seeded(8, 3);
        let mut pair = Pair::connect(&media, Wants { rtx, path: Some(path.clone()), ..Wants::default() });
        pair.pictures(60, 7);
        pair.picture(1);
        pair.wait_all();
        let repaired = pair.viewer.stream(VP8).repaired;
        let stats = pair.outlet.stats();
        let video = stats.tracks[0].unwrap();
        assert!(repaired > 10 && path.lost() > 20, "{repaired} of {}", path.lost());
        assert!(video.retransmitted as usize >= repaired && video.unavailable == 0, "{video:?}");
        path.stop();
    }
}

#[test]
fn a_viewers_request_for_a_keyframe_is_told_and_its_network_is_estimated() {
    let media = Media::start();
    let mut pair = Pair::connect(&media, Wants::default());
    pair.pictures(20, 5);
    pair.viewer.request_keyframe(VP8);
    wait_until("the request", SOON, || (pair.events.keyframes.load(SeqCst) == 1).then_some(()));
    let estimate = pair.outlet.estimate();
    wait_until("an estimate", SOON, || {
        pair.picture(5);
        estimate.borrow().filter(|estimate| *estimate > 1_000_000)
    });
    let video = pair.outlet.stats().tracks[0].unwrap();
    assert_eq!(video.plis, 1);
    pair.outlet.set_clock(0, ClockPoint { rtp_time: 0, at: Instant::now() });
    wait_until("a round trip by reports", SOON, || {
        pair.picture(1);
        std::thread::sleep(Duration::from_millis(20));
        pair.outlet.stats().tracks[0].unwrap().round_trip
    });
}

#[test]
fn what_a_viewer_cannot_take_is_left_out_and_nothing_at_all_is_refused() {
    let media = Media::start();
    let viewer = Viewer::new(Wants::default());
    let answer = |codecs: &[Codec]| {
        let tracks = codecs.iter().map(|codec| Outgoing::of(*codec, "")).collect();
        media.exchange(viewer.offer(), Sends { tracks, events: Arc::<Events>::default(), receives: false })
    };
    let answered = answer(&[Codec::Av1, Codec::Opus]).expect("an answer");
    assert_eq!(tracks(&answered.outgoing), [(1, Codec::Opus, OPUS)]);
    let video = answered.sdp.split("m=video").nth(1).expect("a video section");
    assert!(video.starts_with(" 0 ") || video.contains("a=inactive"), "{video}");
    let Err(error) = answer(&[Codec::Av1]) else { panic!("an answer") };
    assert!(matches!(error, SessionError::Negotiation(_)) && error.to_string().contains("AV1"), "{error}");
}
