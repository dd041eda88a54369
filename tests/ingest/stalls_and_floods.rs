//! Latency comes back after a stall, of the network or of downstream, with no half group of pictures; and whatever a peer
//! sends, what is kept of it is bounded.

use std::time::{Duration, Instant};

use crate::common::{
    SOON,
    crossing::{AUDIO, Fed, Frame, Packets, VIDEO, at, send},
    wait_until,
};
use gstwebrtcbridge::session::{PacketSink, SenderReport};

const MS: Duration = Duration::from_millis(1);

/// A camera with a keyframe each second and when asked, 30 pictures a second. `go` decides about each picture whether
/// and when its packets arrive.
fn film(fed: &Fed, seconds: u32, mut go: impl FnMut(u32) -> Option<Duration>) -> Vec<Instant> {
    let mut video = Packets::video();
    let start = Instant::now();
    let mut held: Vec<(Duration, Vec<_>)> = Vec::new();
    let mut asked = fed.keyframe_requests();
    let mut captured = Vec::new();
    for frame in 0..seconds * 30 {
        let moment = MS * 1000 * frame / 30;
        let now = at(start, moment);
        captured.push(now);
        let wanted = std::mem::replace(&mut asked, fed.keyframe_requests()) != asked;
        let packets = video.frame(frame % 30 == 0 || wanted, now);
        video.timestamp = video.timestamp.wrapping_add(3000);
        if let Some(delay) = go(frame) {
            held.push((moment + delay, packets));
        }
        let (due, later) = held.into_iter().partition(|(arrival, _)| *arrival <= moment);
        held = later;
        for (_, packets) in due {
            send(
                fed,
                VIDEO,
                packets.into_iter().map(|packet| {
                    let arrival = Instant::now();
                    gstwebrtcbridge::session::RtpPacket { arrival, ..packet }
                }),
            );
        }
    }
    captured
}

/// After `settled` all frames are there, nine in ten within 200 ms of their capture: a machine that stands still for a while
/// makes some late that nothing has held up.
fn is_back(fed: &Fed, captured: &[Instant], settled: Instant) {
    let frames = fed.frames(VIDEO);
    let expected = captured.iter().filter(|capture| **capture > settled).count();
    let after: Vec<&Frame> = frames.iter().filter(|frame| frame.at > settled).collect();
    assert!(after.len() + 8 >= expected, "{} of {expected} frames after the stall", after.len());
    let lags = after.iter().map(|frame| {
        frame.at.saturating_duration_since(captured[0]).as_secs_f64() * 1e3
            - (frame.pts.nseconds() as f64 - frames[0].pts.nseconds() as f64) / 1e6
    });
    most_are_below(200.0, lags.collect());
}

/// Nine in ten of these times in ms.
fn most_are_below(most: f64, mut lags: Vec<f64>) {
    lags.sort_by(f64::total_cmp);
    let ninth = lags.get(lags.len() * 9 / 10).copied().unwrap_or_default();
    assert!(ninth < most, "a frame in ten came {ninth} ms and more after its capture: {lags:?}");
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
    let captured = film(&fed, 8, |frame| match frame {
        60..120 => Some(MS * (120 - frame) * 1000 / 30),
        _ => Some(Duration::ZERO),
    });
    let frames = fed.wait_frames(VIDEO, 238);
    is_back(&fed, &captured, captured[130]);
    no_half_group(&frames);
    assert_eq!((fed.crossing.stats().lost_packets, fed.crossing.stats().dropped_backlog), (0, 0));
}

#[test]
fn what_the_network_lost_for_2_s_ends_at_a_keyframe_and_latency_is_back_at_once() {
    let fed = Fed::start(200);
    let captured = film(&fed, 8, |frame| (!(60..120).contains(&frame)).then_some(Duration::ZERO));
    wait_until("the loss", SOON, || (fed.crossing.stats().lost_packets > 0).then_some(()));
    let frames = fed.frames(VIDEO);
    is_back(&fed, &captured, captured[135]);
    no_half_group(&frames);
}

#[test]
fn a_downstream_that_stood_still_for_2_s_has_everything_and_its_latency_back_soon() {
    let fed = Fed::start(200);
    let mut blocked = false;
    let captured = film(&fed, 8, |frame| {
        if frame >= 60 && !std::mem::replace(&mut blocked, true) {
            *fed.outputs[VIDEO].blocked_until.lock().unwrap() = Some(Instant::now() + 2000 * MS);
        }
        Some(Duration::ZERO)
    });
    let frames = fed.wait_frames(VIDEO, 238);
    is_back(&fed, &captured, captured[130]);
    no_half_group(&frames);
    assert_eq!((fed.crossing.stats().lost_packets, fed.crossing.stats().dropped_backlog), (0, 0));
}

#[test]
fn a_downstream_that_stood_still_for_5_s_goes_on_at_a_keyframe_and_has_its_latency_back() {
    let fed = Fed::start(200);
    let mut blocked = false;
    let captured = film(&fed, 12, |frame| {
        if frame >= 60 && !std::mem::replace(&mut blocked, true) {
            *fed.outputs[VIDEO].blocked_until.lock().unwrap() = Some(Instant::now() + 5000 * MS);
        }
        Some(Duration::ZERO)
    });
    wait_until("frames", SOON, || fed.frames(VIDEO).last().filter(|last| last.at > captured[340]).map(|_| ()));
    is_back(&fed, &captured, captured[270]);
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
    let mut video = Packets::video();
    let start = Instant::now();
    let jumps = [600, 2900, 0x4000, 0x8000, 0xA000, 65_000 - 90];
    let per_group = 12;
    for (turn, frame) in (0..jumps.len() * per_group).zip(0..) {
        if turn > 0 && turn % per_group == 0 {
            video.sequence_number = video.sequence_number.wrapping_add(jumps[turn / per_group]);
        }
        let now = at(start, 33 * MS * frame);
        let packets = video.frame(turn % per_group == 0, now);
        send(&fed, VIDEO, packets);
        video.timestamp = video.timestamp.wrapping_add(33 * 90);
    }
    let frames = fed.wait_frames(VIDEO, jumps.len() * per_group);
    let lags =
        frames.iter().zip(0..).map(|(frame, number)| (frame.at - (start + 33 * MS * number)).as_secs_f64() * 1e3);
    most_are_below(150.0, lags.collect());
    no_half_group(&frames);
    assert_eq!(fed.crossing.stats().lost_packets, 0);
}

#[test]
fn another_stream_on_the_track_goes_on_at_once_whatever_its_numbers() {
    let fed = Fed::start(200);
    let mut video = Packets::video();
    let (start, mut turn) = (Instant::now(), 0);
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
            send(&fed, VIDEO, packets);
            (video.timestamp, turn) = (video.timestamp.wrapping_add(33 * 90), turn + 1);
        }
    }
    let (frames, mut lags) = (fed.wait_frames(VIDEO, 20 * count), Vec::new());
    for (number, frame) in frames.iter().enumerate() {
        let captured = start + 33 * MS * number as u32;
        lags.push((frame.at - captured).as_secs_f64() * 1e3);
        let off = frame.pts.nseconds().abs_diff(fed.running_time(captured).nseconds());
        assert!(off < 40_000_000, "frame {number} is {off} ns off");
    }
    most_are_below(150.0, lags);
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
