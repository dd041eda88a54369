//! Latency comes back after a stall, of the network or of downstream, with no half group of pictures; and whatever a peer
//! sends, what is kept of it is bounded.

use std::time::{Duration, Instant};

use crate::common::{
    SOON,
    crossing::{AUDIO, Fed, Frame, Packets, VIDEO, at, send},
    standstills::Standstills,
    wait_until,
};
use gstwebrtcbridge::session::{PacketSink, SenderReport};

const MS: Duration = Duration::from_millis(1);

/// A camera's pictures, in the order in which they were taken.
struct Film {
    /// When each was handed over: on a machine that stands still later than it should have been.
    sent: Vec<Option<Instant>>,
    standstills: Standstills,
}

/// A camera with a keyframe each second and when asked, 30 pictures a second. `go` decides about each picture, taken at this
/// moment, whether and when its packets arrive. How large a picture is tells its number.
fn film(fed: &Fed, seconds: u32, mut go: impl FnMut(u32, Instant) -> Option<Duration>) -> Film {
    let standstills = Standstills::watch();
    let mut video = Packets::video();
    let start = Instant::now();
    let mut held: Vec<(u32, Duration, Vec<_>)> = Vec::new();
    let mut asked = fed.keyframe_requests();
    let pictures = seconds * 30;
    let mut sent = vec![None; pictures as usize];
    let mut handed = Vec::new();
    for number in 0..pictures {
        let moment = MS * 1000 * number / 30;
        let now = at(start, moment);
        let wanted = std::mem::replace(&mut asked, fed.keyframe_requests()) != asked;
        let mut packets = video.frame(number % 30 == 0 || wanted, now);
        packets[2].payload = vec![0; LEAST + number as usize].into();
        video.timestamp = video.timestamp.wrapping_add(3000);
        if let Some(delay) = go(number, now) {
            held.push((number, moment + delay, packets));
        }
        let (due, later) = held.into_iter().partition(|(_, arrival, _)| *arrival <= moment);
        held = later;
        for (number, _, packets) in due {
            let before = Instant::now();
            sent[number as usize] = Some(before);
            send(
                fed,
                VIDEO,
                packets.into_iter().map(|packet| {
                    let arrival = Instant::now();
                    gstwebrtcbridge::session::RtpPacket { arrival, ..packet }
                }),
            );
            handed.push((before, Instant::now()));
        }
    }
    // Whoever hands over is not held up, whatever stands still behind.
    most_are_in_time(&standstills, 20 * MS, handed.into_iter());
    Film { sent, standstills }
}

/// The last packet of a film's first picture; the others hold 500 bytes, and each one that says nothing of the picture.
const LEAST: usize = 100;

fn number(frame: &Frame) -> usize {
    frame.size - (499 + 499 + LEAST - 1)
}

impl Film {
    /// From this picture on all are there, and in time.
    fn is_back(&self, fed: &Fed, from: usize) {
        let frames = fed.frames(VIDEO);
        let after: Vec<&Frame> = frames.iter().filter(|frame| number(frame) >= from).collect();
        let expected = self.sent.len() - from;
        assert!(after.len() + 8 >= expected, "{} of {expected} frames after the stall", after.len());
        let times = after.iter().map(|frame| (self.sent[number(frame)].expect("a picture that was sent"), frame.at));
        most_are_in_time(&self.standstills, 200 * MS, times);
    }
}

/// Of what was handed over and came out at these times, nine in ten within so much, but for what a processor stood still.
fn most_are_in_time(standstills: &Standstills, most: Duration, times: impl Iterator<Item = (Instant, Instant)>) {
    let taken = |(sent, out): (Instant, Instant)| (out - sent).saturating_sub(standstills.within(sent, out));
    let mut taken: Vec<Duration> = times.map(taken).collect();
    taken.sort();
    let ninth = taken[taken.len() * 9 / 10];
    assert!(ninth < most, "one in ten took {ninth:?} and more: {taken:?}");
}

/// No delta frame follows a gap: pictures are 33 ms apart, but in front of keyframes.
fn no_half_group(frames: &[Frame]) {
    for pair in frames.windows(2) {
        let step = (pair[1].pts.nseconds() - pair[0].pts.nseconds()) as f64 / 1e6;
        assert!(step < 40.0 || pair[1].key, "a delta frame {step} ms after the frame before");
    }
}

#[test]
fn what_the_network_held_up_for_2_s_comes_whole_and_latency_is_back_at_once() {
    let fed = Fed::start(200);
    // From 2 s to 4 s nothing arrives; then everything at once.
    let film = film(&fed, 8, |number, _| match number {
        60..120 => Some(MS * (120 - number) * 1000 / 30),
        _ => Some(Duration::ZERO),
    });
    let frames = fed.wait_frames(VIDEO, 238);
    film.is_back(&fed, 130);
    no_half_group(&frames);
    assert_eq!((fed.crossing.stats().lost_packets, fed.crossing.stats().dropped_backlog), (0, 0));
}

#[test]
fn what_the_network_lost_for_2_s_ends_at_a_keyframe_and_latency_is_back_at_once() {
    let fed = Fed::start(200);
    let film = film(&fed, 8, |number, _| (!(60..120).contains(&number)).then_some(Duration::ZERO));
    wait_until("the loss", SOON, || (fed.crossing.stats().lost_packets > 0).then_some(()));
    wait_until("the last frames", SOON, || fed.frames(VIDEO).last().filter(|last| number(last) >= 238).map(|_| ()));
    film.is_back(&fed, 135);
    no_half_group(&fed.frames(VIDEO));
}

#[test]
fn a_downstream_that_stood_still_for_2_s_has_everything_and_its_latency_back_soon() {
    let fed = Fed::start(200);
    let mut blocked = false;
    let film = film(&fed, 8, |number, now| {
        if number >= 60 && !std::mem::replace(&mut blocked, true) {
            *fed.outputs[VIDEO].blocked_until.lock().unwrap() = Some(now + 2000 * MS);
        }
        Some(Duration::ZERO)
    });
    let frames = fed.wait_frames(VIDEO, 238);
    film.is_back(&fed, 130);
    no_half_group(&frames);
    assert_eq!((fed.crossing.stats().lost_packets, fed.crossing.stats().dropped_backlog), (0, 0));
}

#[test]
fn a_downstream_that_stood_still_for_5_s_goes_on_at_a_keyframe_and_has_its_latency_back() {
    let fed = Fed::start(200);
    let mut blocked = false;
    let film = film(&fed, 12, |number, _| {
        if number >= 60 && !std::mem::replace(&mut blocked, true) {
            *fed.outputs[VIDEO].blocked_until.lock().unwrap() = Some(Instant::now() + 5000 * MS);
        }
        Some(Duration::ZERO)
    });
    wait_until("the last frames", SOON, || fed.frames(VIDEO).last().filter(|last| number(last) >= 358).map(|_| ()));
    film.is_back(&fed, 270);
    no_half_group(&fed.frames(VIDEO));
    assert!(fed.crossing.stats().dropped_backlog > 0);
}

#[test]
fn what_has_come_goes_out_before_the_end_of_the_stream() {
    let fed = Fed::start(200);
    let mut video = Packets::video();
    send(&fed, VIDEO, video.frame(true, Instant::now()));
    fed.wait_frames(VIDEO, 1);
    *fed.outputs[VIDEO].blocked_until.lock().unwrap() = Some(Instant::now() + 500 * MS);
    for _ in 0..20 {
        video.timestamp = video.timestamp.wrapping_add(3000);
        let frame = video.frame(false, Instant::now());
        send(&fed, VIDEO, frame);
    }
    fed.crossing.end_of_stream();
    fed.wait_frames(VIDEO, 21);
    assert_eq!(fed.crossing.stats().dropped_packets, 0);
}

/// Resident memory of this process in MB. Tests run in processes of their own.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("kB") / 1024
}

/// Sends so many packets, resting a millisecond after each `rest`, and says by how many MB memory grew at most.
fn flood(fed: &Fed, packets: u32, rest: u32, mut change: impl FnMut(u32, &mut Packets)) -> u64 {
    let mut video = Packets::video();
    let before = resident();
    let mut most = before;
    for number in 0..packets {
        change(number, &mut video);
        let marker = number % 3 == 0;
        let packet = video.next(marker, vec![0x10; 1200], Instant::now());
        fed.feed.rtp(VIDEO, packet);
        if number % rest == 0 {
            most = most.max(resident());
            std::thread::sleep(MS);
        }
    }
    most.max(resident()) - before
}

/// What a flood may take: queue and jitter buffer full of large packets, and what the allocator keeps of them.
const MOST_MB: u64 = 80;

#[track_caller]
fn goes_on_after(fed: &Fed) {
    wait_until("frames again", SOON, || {
        let start = Instant::now();
        let before = fed.frames(VIDEO).len();
        let mut video = Packets { ssrc: 77, sequence_number: 100, timestamp: 5, ..Packets::video() };
        for frame in 0..30 {
            let now = at(start, 20 * MS * frame);
            let packets = video.frame(frame % 10 == 0, now);
            send(fed, VIDEO, packets);
            video.timestamp = video.timestamp.wrapping_add(1800);
        }
        (fed.frames(VIDEO).len() > before + 10).then_some(())
    });
}

/// What happens to the numbers before a packet.
type Jump = fn(u32, &mut Packets);

#[test]
fn floods_with_jumping_sequence_numbers_are_bounded_and_survived() {
    let jumps: [(&str, Jump); 6] = [
        ("every other number missing", |_, video| video.sequence_number = video.sequence_number.wrapping_add(1)),
        ("500 missing", |_, video| video.sequence_number = video.sequence_number.wrapping_add(500)),
        ("2900 missing", |_, video| video.sequence_number = video.sequence_number.wrapping_add(2900)),
        ("65535 ahead", |_, video| video.sequence_number = video.sequence_number.wrapping_add(65_534)),
        ("half the range ahead", |_, video| video.sequence_number = video.sequence_number.wrapping_add(0x8000)),
        ("at random, timestamps too", |number, video| {
            video.sequence_number = (number.wrapping_mul(2_654_435_761) >> 7) as u16;
            video.timestamp = number.wrapping_mul(0x9E37_79B9);
        }),
    ];
    for (name, jump) in jumps {
        // As fast as it goes, and at a rate at which every packet gets through.
        for (packets, rest) in [(30_000, 1000), (4_000, 4)] {
            let fed = Fed::start(200);
            let grown = flood(&fed, packets, rest, jump);
            assert!(grown <= MOST_MB, "{name}: {grown} MB");
            goes_on_after(&fed);
        }
    }
}

#[test]
fn numbers_that_jump_in_front_of_keyframes_cost_no_frame_and_no_time() {
    let fed = Fed::start(200);
    let standstills = Standstills::watch();
    let mut video = Packets::video();
    let (start, mut sent) = (Instant::now(), Vec::new());
    let jumps = [600, 2900, 0x4000, 0x8000, 0xA000, 65_000 - 90];
    let per_group = 12;
    for (turn, frame) in (0..jumps.len() * per_group).zip(0..) {
        if turn > 0 && turn % per_group == 0 {
            video.sequence_number = video.sequence_number.wrapping_add(jumps[turn / per_group]);
        }
        let now = at(start, 33 * MS * frame);
        let packets = video.frame(turn % per_group == 0, now);
        sent.push(Instant::now());
        send(&fed, VIDEO, packets);
        video.timestamp = video.timestamp.wrapping_add(33 * 90);
    }
    let frames = fed.wait_frames(VIDEO, jumps.len() * per_group);
    most_are_in_time(&standstills, 150 * MS, sent.into_iter().zip(frames.iter().map(|frame| frame.at)));
    no_half_group(&frames);
    assert_eq!(fed.crossing.stats().lost_packets, 0);
}

#[test]
fn another_stream_on_the_track_goes_on_at_once_whatever_its_numbers() {
    let fed = Fed::start(200);
    let mut video = Packets::video();
    let standstills = Standstills::watch();
    let (start, mut turn, mut sent) = (Instant::now(), 0, Vec::new());
    let changes: [fn(&mut Packets); 6] = [
        |_| (),
        |video| *video = Packets { ssrc: 5, sequence_number: video.sequence_number.wrapping_sub(15_000), ..*video },
        |video| {
            *video =
                Packets { ssrc: 6, sequence_number: video.sequence_number.wrapping_sub(20), timestamp: 9, ..*video }
        },
        |video| video.sequence_number = video.sequence_number.wrapping_sub(15_000),
        |video| video.timestamp = video.timestamp.wrapping_add(90_000 * 3600),
        |video| video.timestamp = video.timestamp.wrapping_sub(90_000 * 7200),
    ];
    let count = changes.len();
    for change in changes {
        change(&mut video);
        for frame in 0..20_u32 {
            let now = at(start, 33 * MS * turn);
            let packets = video.frame(frame == 0, now);
            sent.push(Instant::now());
            send(&fed, VIDEO, packets);
            (video.timestamp, turn) = (video.timestamp.wrapping_add(33 * 90), turn + 1);
        }
    }
    let frames = fed.wait_frames(VIDEO, 20 * count);
    for (number, frame) in frames.iter().enumerate() {
        let captured = start + 33 * MS * number as u32;
        let off = frame.pts.nseconds().abs_diff(fed.running_time(captured).nseconds());
        assert!(off < 40_000_000, "frame {number} is {off} ns off");
    }
    most_are_in_time(&standstills, 150 * MS, sent.into_iter().zip(frames.iter().map(|frame| frame.at)));
    no_half_group(&frames);
    assert_eq!(fed.crossing.stats().lost_packets, 0);
}

#[test]
fn a_flood_that_nobody_takes_is_bounded() {
    let fed = Fed::start(200);
    send(&fed, VIDEO, Packets::video().frame(true, Instant::now()));
    fed.wait_frames(VIDEO, 1);
    *fed.outputs[VIDEO].blocked_until.lock().unwrap() = Some(Instant::now() + 6000 * MS);
    // At a rate at which the jitter buffer takes all of it; in the time that it may be stopped up, 60 MB.
    let grown = flood(&fed, 60_000, 20, |number, video| {
        if number == 0 {
            video.sequence_number = video.sequence_number.wrapping_add(3);
        }
        video.timestamp = video.timestamp.wrapping_add(u32::from(number % 3 == 0) * 30);
    });
    let stats = fed.crossing.stats();
    // 16 MB are let in, each packet a buffer with a memory of its own.
    assert!(grown <= 40, "{grown} MB, {stats:?}");
    assert!(stats.dropped_backlog > 1000, "{stats:?}");
}

#[test]
fn a_flood_of_sender_reports_is_bounded() {
    let fed = Fed::start(200);
    let before = resident();
    for number in 0..2_000_000_u64 {
        let report = SenderReport {
            ssrc: number as u32,
            ntp_time: number << 30,
            rtp_time: number as u32,
            arrival: Instant::now(),
        };
        fed.feed.sender_report(if number % 2 == 0 { VIDEO } else { AUDIO }, report);
    }
    let grown = resident() - before;
    assert!(grown <= 10, "{grown} MB");
}
