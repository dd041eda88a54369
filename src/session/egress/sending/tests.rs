//! Tests of what goes out and when.

use super::*;

fn wire(kind: MediaKind, ssrc: u32) -> Wire {
    let is_video = kind == MediaKind::Video;
    Wire {
        kind,
        clock_rate: if is_video { 90_000 } else { 48_000 },
        ssrc,
        payload_type: if is_video { 96 } else { 111 },
        rtx: is_video.then_some((ssrc + 1, 97)),
        nack: is_video,
        extensions: Extensions { transport_cc: Some(3), ..Extensions::default() },
    }
}

/// Video is track 0, audio track 1.
struct Peer {
    sending: Sending,
    history: Arc<History>,
    now: Instant,
    number: u64,
    wanted: usize,
}

impl Peer {
    fn new() -> Self {
        let mut sending = Sending::new(vec![Some(wire(MediaKind::Video, 10)), Some(wire(MediaKind::Audio, 20))], "c");
        let history = Arc::new(History::default());
        sending.keep_in(0, history.clone());
        sending.open();
        Self { sending, history, now: Instant::now(), number: 0, wanted: 0 }
    }

    fn picture(&mut self, packets: usize, starts_keyframe: bool) {
        for index in 0..packets {
            let payload = Bytes::from(vec![0; 1100]);
            let packet = OutgoingPacket {
                dependencies: None,
                number: self.number,
                timestamp: (self.number - index as u64) as u32,
                marker: index + 1 == packets,
                starts_keyframe: starts_keyframe && index == 0,
                stored: self.history.store(payload.clone()),
                payload,
                renumbered: None,
            };
            self.number += 1;
            self.wanted += usize::from(self.sending.push(0, packet, self.now));
        }
    }

    fn audio(&mut self) {
        let payload = Bytes::from_static(&[1; 80]);
        let packet = OutgoingPacket {
            dependencies: None,
            number: 0,
            timestamp: 0,
            marker: false,
            starts_keyframe: true,
            stored: 0,
            payload,
            renumbered: None,
        };
        self.sending.push(1, packet, self.now);
    }

    /// The SSRCs and sequence numbers of what goes out now.
    fn out(&mut self) -> Vec<(u32, u16)> {
        let mut out = Vec::new();
        self.sending.poll(self.now, &mut out);
        let rtp = |packet: &Packet| match packet {
            Packet::Rtp(packet) => Some((packet.header.ssrc, packet.header.sequence_number)),
            _ => None,
        };
        out.iter().filter_map(rtp).collect()
    }

    fn passes(&mut self, milliseconds: u64) -> Vec<(u32, u16)> {
        let end = self.now + Duration::from_millis(milliseconds);
        let mut all = self.out();
        while self.now < end {
            self.now += Duration::from_millis(5);
            all.extend(self.out());
        }
        all
    }

    fn video(&self) -> SendTrackStats {
        self.sending.stats().tracks[0].unwrap()
    }
}

#[test]
fn nothing_is_kept_for_a_peer_that_is_not_there_yet() {
    let mut peer = Peer::new();
    peer.sending.is_open = false;
    peer.picture(3, true);
    peer.audio();
    peer.sending.open();
    assert_eq!((peer.passes(100).len(), peer.video().packets), (0, 0));
}

#[test]
fn audio_overtakes_a_keyframe_that_is_being_spread() {
    let mut peer = Peer::new();
    peer.sending.estimator.limit(1_000_000);
    peer.picture(400, true);
    assert!(peer.out().len() < 100);
    peer.audio();
    assert_eq!(peer.out().first().unwrap().0, 20);
    let rest = peer.passes(1000);
    assert_eq!(peer.video().packets, 400, "{}", rest.len());
    assert!(rest.windows(2).all(|pair| pair[1].1 == pair[0].1.wrapping_add(1)), "in order");
}

#[test]
fn a_peer_that_lags_gets_whole_pictures_and_then_a_keyframe() {
    let mut peer = Peer::new();
    peer.picture(60, true);
    peer.passes(200);
    // More than goes through, for a second and a half.
    let mut sent = Vec::new();
    for _ in 0..45 {
        peer.picture(120, false);
        sent.extend(peer.passes(33));
    }
    let stats = peer.video();
    assert_eq!((stats.skips, peer.wanted), (1, 1), "{stats:?}");
    sent.extend(peer.passes(1000));
    let before = peer.video().packets;
    peer.picture(10, false);
    assert_eq!((peer.passes(100).len(), peer.video().packets), (0, before), "of no use without a keyframe");
    peer.picture(10, true);
    peer.picture(5, false);
    sent.extend(peer.passes(100));
    assert_eq!(peer.video().packets, before + 15);
    let gap = sent.windows(2).position(|pair| pair[1].1 != pair[0].1.wrapping_add(1));
    assert_eq!(gap.map(|at| (at, sent.len(), sent[at], sent[at + 1])), None, "the picture was finished");
    let waiting = peer.sending.stats().waiting;
    assert!(waiting < 200, "{waiting}");
}

#[test]
fn what_was_lost_comes_before_what_is_new() {
    let mut peer = Peer::new();
    peer.picture(5, true);
    let sent = peer.out();
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: 10,
        nacks: rtc::rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers(&[
            sent[1].1, sent[3].1,
        ]),
    };
    let mut wishes = Vec::new();
    peer.sending.hear(&nack, peer.now, &mut wishes);
    assert_eq!(wishes, [Wish::Repairs]);
    peer.picture(2, false);
    let ssrcs: Vec<u32> = peer.passes(50).iter().map(|(ssrc, _)| *ssrc).collect();
    assert_eq!(ssrcs, [11, 11, 10, 10]);
    for _ in 0..1000 {
        peer.sending.hear(&nack, peer.now, &mut Vec::new());
    }
    assert!(peer.sending.repairs.len() <= MOST_REPAIRS);
}

#[test]
fn keyframe_requests_name_the_track_and_are_counted() {
    let mut peer = Peer::new();
    let mut wishes = Vec::new();
    let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: 10 };
    peer.sending.hear(&pli, peer.now, &mut wishes);
    let foreign = PictureLossIndication { sender_ssrc: 1, media_ssrc: 99 };
    peer.sending.hear(&foreign, peer.now, &mut wishes);
    assert_eq!((wishes, peer.video().plis), (vec![Wish::Keyframe(0)], 1));
}

#[test]
fn reports_say_when_each_track_was_captured_and_whose_it_is() {
    let mut peer = Peer::new();
    let clock = ClockPoint { rtp_time: 1, at: peer.now };
    peer.sending.set_clock(0, clock);
    peer.sending.set_clock(1, clock);
    peer.picture(1, true);
    peer.audio();
    let mut out = Vec::new();
    peer.sending.poll(peer.now, &mut out);
    let reports: Vec<&SenderReport> = out
        .iter()
        .filter_map(|packet| match packet {
            Packet::Rtcp(packets) => packets[0].as_any().downcast_ref(),
            _ => None,
        })
        .collect();
    assert_eq!(reports.iter().map(|report| report.ssrc).collect::<Vec<_>>(), [10, 20]);
    assert_eq!(reports[0].ntp_time, reports[1].ntp_time);
}
