//! Tests of who gets what.

use bytes::Bytes;

use super::*;

fn track(index: usize, codec: Codec) -> Track {
    Track {
        index,
        mid: None,
        codec,
        payload_type: 96,
        channels: 0,
        fmtp: String::new(),
        rtx: None,
        red: None,
        ssrcs: Vec::new(),
        feedback: Vec::new(),
    }
}

struct Room {
    state: State,
    now: Instant,
    publication: u64,
    sequence: u16,
    actions: Vec<Action>,
}

impl Room {
    fn new() -> Self {
        let mut state = State::default();
        let publication = state.publish(&[track(0, Codec::Vp8), track(1, Codec::Opus)]);
        Self { state, now: Instant::now(), publication, sequence: 0, actions: Vec::new() }
    }

    fn joins(&mut self, viewer: u64) {
        self.state.join(viewer, &[track(0, Codec::Vp8), track(1, Codec::Opus)]);
        self.state.ready(viewer, self.now, &mut self.actions);
    }

    fn picture(&mut self, ssrc: u32, is_key: bool, layered: bool) {
        let payload = Bytes::from(vec![0x10, u8::from(!is_key)]);
        let packet = self.packet(ssrc, payload);
        self.state.rtp(self.publication, 0, packet, layered, &mut self.actions);
    }

    fn packet(&mut self, ssrc: u32, payload: Bytes) -> RtpPacket {
        self.now += Duration::from_millis(33);
        self.sequence += 1;
        let (sequence_number, arrival) = (self.sequence, self.now);
        let timestamp = u32::from(self.sequence) * 2970;
        RtpPacket {
            dependencies: None,
            marker: true,
            payload_type: 96,
            sequence_number,
            timestamp,
            ssrc,
            payload,
            arrival,
        }
    }

    fn sound(&mut self) {
        let packet = self.packet(9, Bytes::from_static(&[1]));
        self.state.rtp(self.publication, 1, packet, false, &mut self.actions);
    }

    /// How many packets each viewer got of a slot.
    fn got(&mut self, slot: usize) -> HashMap<u64, Vec<u64>> {
        let mut got: HashMap<u64, Vec<u64>> = HashMap::new();
        self.state.drain(|viewer, of, packets| {
            let numbers = packets.map(|packet| packet.number);
            if of == slot {
                got.entry(viewer).or_default().extend(numbers);
            }
        });
        got
    }
}

#[test]
fn a_viewer_that_joins_asks_once_and_begins_with_the_keyframe_and_hears_at_once() {
    let mut room = Room::new();
    room.picture(5, true, false);
    room.actions.clear();
    room.now += Duration::from_secs(1);
    room.joins(1);
    assert_eq!(room.actions, [Action::Ask { track: 0, ssrc: None }]);
    room.picture(5, false, false);
    assert!(room.got(0).is_empty());
    room.sound();
    assert_eq!(room.got(1)[&1].len(), 1);
    room.picture(5, true, false);
    room.picture(5, false, false);
    assert_eq!(room.got(0)[&1].len(), 2);
}

#[test]
fn who_comes_soon_after_a_keyframe_begins_with_it_and_asks_for_none() {
    let mut room = Room::new();
    for is_key in [true, false, false] {
        room.picture(5, is_key, false);
    }
    room.actions.clear();
    room.joins(1);
    room.state.ready(1, room.now, &mut room.actions);
    assert!(matches!(room.actions[..], [Action::Clock { viewer: 1, slot: 0, .. }]), "{:?}", room.actions);
    room.picture(5, false, false);
    let got = room.got(0)[&1].clone();
    assert!(got.len() == 4 && got.windows(2).all(|pair| pair[1] == pair[0] + 1), "{got:?}");
    room.state.decide(1, None, room.now, &mut room.actions);
    assert!(!room.actions.contains(&Action::Ask { track: 0, ssrc: None }), "{:?}", room.actions);
}

#[test]
fn viewers_go_on_with_the_next_publisher_of_the_same_codec() {
    let mut room = Room::new();
    room.joins(1);
    room.picture(5, true, false);
    let before = room.got(0)[&1].clone();
    room.publication = room.state.publish(&[track(3, Codec::Opus), track(0, Codec::Vp8)]);
    room.picture(77, false, false);
    assert!(room.got(0).is_empty(), "not without a keyframe");
    room.picture(77, true, false);
    assert_eq!(room.got(0)[&1], [before[0] + 1]);
    assert!(room.state.fits(1));
    let late = room.packet(77, Bytes::from_static(&[0x10, 0]));
    room.state.rtp(1, 0, late, false, &mut room.actions);
    assert!(room.got(0).is_empty(), "the former publisher's");
    room.state.publish(&[track(0, Codec::H264)]);
    assert!(!room.state.fits(1), "another codec has to be agreed upon");
}

#[test]
fn who_came_while_there_was_sound_alone_comes_anew_for_the_picture_if_it_wants_one() {
    let mut state = State::default();
    state.publish(&[track(0, Codec::Opus)]);
    for (viewer, lacks) in [(1, vec![MediaKind::Video]), (2, Vec::new())] {
        state.join(viewer, &[track(0, Codec::Opus)]);
        state.lacks(viewer, lacks);
    }
    state.publish(&[track(0, Codec::Opus)]);
    assert!(state.fits(1) && state.fits(2));
    state.publish(&[track(0, Codec::Vp8), track(1, Codec::Opus)]);
    assert!(!state.fits(1) && state.fits(2));
}

#[test]
fn layers_are_changed_at_the_keyframe_of_the_wanted_one() {
    let mut room = Room::new();
    room.joins(1);
    for step in 0..60 {
        room.picture(5, step == 0, true);
        let big = room.packet(6, Bytes::from(vec![0x11; 500]));
        room.state.rtp(room.publication, 0, big, true, &mut room.actions);
    }
    let numbers = room.got(0)[&1].clone();
    assert!(numbers.windows(2).all(|pair| pair[1] - pair[0] <= 2), "of one layer only");
    room.actions.clear();
    room.state.decide(1, Some(10_000_000), room.now, &mut room.actions);
    room.now += Duration::from_secs(1);
    let now = room.now;
    room.picture(5, false, true);
    room.picture(6, false, true);
    room.actions.clear();
    room.state.decide(1, Some(10_000_000), now, &mut room.actions);
    room.state.decide(1, Some(10_000_000), now + Duration::from_secs(1), &mut room.actions);
    assert!(room.actions.contains(&Action::Ask { track: 0, ssrc: Some(6) }), "{:?}", room.actions);
    room.got(0);
    room.picture(6, true, true);
    room.picture(5, false, true);
    assert_eq!(room.got(0)[&1].len(), 1, "the larger layer, and the smaller no more");
}

#[test]
fn one_viewer_that_wants_keyframes_all_the_time_does_not_get_the_publisher_to_make_them() {
    let mut room = Room::new();
    room.joins(1);
    room.joins(2);
    room.picture(5, true, false);
    let (start, mut asked) = (room.now, 0);
    for step in 0..1000 {
        let now = start + Duration::from_millis(10) * step;
        room.actions.clear();
        room.state.wants(1, 0, now, &mut room.actions);
        room.state.decide(1, None, now, &mut room.actions);
        asked += room.actions.len();
    }
    assert!((4..=10).contains(&asked), "{asked} in ten seconds");
    room.actions.clear();
    room.state.wants(2, 0, start, &mut room.actions);
    assert_eq!(room.actions, [Action::Ask { track: 0, ssrc: None }], "others are heard");
}

#[test]
fn a_slow_viewer_and_one_that_left_disturb_nobody() {
    let mut room = Room::new();
    room.joins(1);
    room.joins(2);
    room.picture(5, true, false);
    room.state.leave(2);
    room.picture(5, false, false);
    let got = room.got(0);
    assert_eq!((got[&1].len(), got.get(&2), room.state.viewers()), (2, None, 1));
}

/// A keyframe of AV1 whose descriptor tells of two layers in time, or a picture behind it.
fn av1(frame: u16, temporal: Option<u8>) -> (Bytes, Bytes) {
    let [high, low] = frame.to_be_bytes();
    match temporal {
        None => {
            let structure = [0x80, 0x01, 0x1E, 0xA8, 0x40];
            let descriptor = [&[0xC0, high, low][..], &structure].concat();
            (Bytes::from_static(&[0x18, 0x0A]), descriptor.into())
        }
        // Templates 1 and 2.
        Some(temporal) => (Bytes::from_static(&[0x10, 0x32]), vec![0xC1 + temporal, high, low].into()),
    }
}

#[test]
fn frames_of_av1_are_numbered_on_from_one_publisher_to_the_next() {
    let mut room = Room::new();
    let (mut told, mut frames) = (None, Vec::new());
    room.publication = room.state.publish(&[track(0, Codec::Av1)]);
    room.state.join(1, &[track(0, Codec::Av1)]);
    room.state.ready(1, room.now, &mut room.actions);
    let mut send = |room: &mut Room, ssrc: u32, frame: u16, temporal: Option<u8>| {
        let (payload, descriptor) = av1(frame, temporal);
        let packet = RtpPacket { dependencies: Some(descriptor), ..room.packet(ssrc, payload) };
        room.state.rtp(room.publication, 0, packet, false, &mut room.actions);
        room.state.drain(|_, _, packets| {
            for packet in packets {
                let known = told.as_ref();
                let read = crate::codec::DependencyDescriptor::parse(&packet.dependencies.unwrap(), known).unwrap();
                told = Some(read.structure.clone());
                frames.push((read.frame, read.active));
            }
        });
    };
    send(&mut room, 5, 65_535, None);
    send(&mut room, 5, 0, Some(1));
    room.state.limit(1, LayerLimits { temporal: Some(0), ..LayerLimits::default() });
    for frame in 1..80 {
        room.state.decide(1, None, room.now, &mut Vec::new());
        send(&mut room, 5, frame, Some((frame % 2) as u8));
    }
    room.publication = room.state.publish(&[track(0, Codec::Av1)]);
    send(&mut room, 6, 40_000, None);
    assert_eq!(frames[..2], [(65_535, Some(0b11)), (0, None)]);
    let upper = |(frame, active): &(u16, Option<u32>)| *active == Some(0b01) && frame % 2 == 1;
    assert!(!frames[2..frames.len() - 1].iter().any(upper), "{frames:?}");
    assert!(frames.contains(&(78, Some(0b01))), "gaps stay, and what is left out is told: {frames:?}");
    assert_eq!(frames.last(), Some(&(79, Some(0b01))), "the next publisher's first one");
}
