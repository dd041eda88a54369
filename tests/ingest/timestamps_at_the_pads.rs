//! What timestamps the frames of a session get, through the real elements: their cadence is the sender's, both tracks are
//! on one clock, pauses and losses do not disturb that.

use std::time::{Duration, Instant};

use crate::common::{
    SOON,
    crossing::{AUDIO, Fed, Packets, VIDEO, at, send},
    wait_until,
};
use gstwebrtcbridge::session::PacketSink;

/// A depayloader that has seen nothing yet asks once.
const AT_START: usize = 1;
const MS: Duration = Duration::from_millis(1);

fn ms(time: gst::ClockTime) -> f64 {
    time.nseconds() as f64 / 1e6
}

/// Up to 20 ms, different for each frame and the same in each run.
fn jitter(frame: u32) -> Duration {
    Duration::from_micros(u64::from(frame.wrapping_mul(2_654_435_761) >> 16) % 20_000)
}

#[test]
fn frames_keep_their_cadence_through_jitter_and_pass_at_once() {
    let fed = Fed::start(200);
    let mut video = Packets::video();
    let (start, frames) = (Instant::now(), 120_u32);
    let mut arrivals = Vec::new();
    for frame in 0..frames {
        // Earlier in the first frame than on the average: this is what the others are measured by.
        let arrival = at(start, 33 * MS * frame + if frame == 0 { Duration::ZERO } else { jitter(frame) });
        arrivals.push(Instant::now());
        send(&fed, VIDEO, video.frame(frame % 60 == 0, arrival));
        video.timestamp = video.timestamp.wrapping_add(33 * 90);
    }
    let out = fed.wait_frames(VIDEO, frames as usize);
    for (number, pair) in out.windows(2).enumerate() {
        let step = ms(pair[1].pts) - ms(pair[0].pts);
        assert!((step - 33.0).abs() < 0.5, "frame {number}: {step} ms");
        assert_eq!(pair[1].pts, pair[1].dts);
    }
    let first = ms(out[0].pts) - ms(fed.running_time(start));
    assert!(first.abs() < 5.0, "the first frame is {first} ms from its arrival");
    let mut waits: Vec<_> = out.iter().zip(&arrivals).map(|(frame, arrival)| frame.at - *arrival).collect();
    waits.sort_unstable();
    assert!(waits[waits.len() / 2] < 10 * MS, "median {:?}", waits[waits.len() / 2]);
    assert_eq!(fed.keyframe_requests(), AT_START);
}

#[test]
fn audio_that_comes_150_ms_late_is_in_sync_10_s_after_the_reports() {
    let fed = Fed::start(200);
    let (mut video, mut audio) = (Packets::video(), Packets::audio());
    // A minute and a half ago: what came then is handed over now, as fast as it goes.
    let (start, late) = (Instant::now() - 90 * 1000 * MS, 150 * MS);
    let reported = 150_usize;
    for turn in 0..1500_usize {
        let now = start + 40 * MS * turn as u32;
        // What comes now was captured now, or a while ago; the sender's clock began long before.
        let wall = 1000 * 1000 * MS + 40 * MS * turn as u32;
        if turn >= reported && turn % 50 == 0 {
            fed.feed.sender_report(VIDEO, video.report(wall, now));
            fed.feed.sender_report(AUDIO, audio.report(wall - late, now));
        }
        send(&fed, VIDEO, video.frame(turn == 0, now));
        video.timestamp = video.timestamp.wrapping_add(40 * 90);
        for half in 0..2 {
            send(&fed, AUDIO, audio.frame(true, now + 20 * MS * half));
            audio.timestamp = audio.timestamp.wrapping_add(160);
        }
        if turn % 50 == 49 {
            fed.wait_frames(VIDEO, turn + 1);
            fed.wait_frames(AUDIO, 2 * turn + 2);
        }
    }
    let (video_out, audio_out) = (fed.frames(VIDEO), fed.frames(AUDIO));
    // Both arrive at the same time in a turn; audio is of 150 ms before.
    let offset = |turn: usize| ms(audio_out[2 * turn].pts) + 150.0 - ms(video_out[turn].pts);
    assert!((offset(reported - 1) - 150.0).abs() < 5.0, "before any report {} ms", offset(reported - 1));
    let after_10_s = reported + 250;
    for turn in after_10_s..video_out.len() {
        assert!(offset(turn).abs() <= 40.0, "turn {turn}: {} ms", offset(turn));
    }
    for (track, frames) in [(VIDEO, video_out), (AUDIO, audio_out)] {
        let nominal = if track == VIDEO { 40.0 } else { 20.0 };
        for (number, pair) in frames.windows(2).enumerate() {
            let moved = ms(pair[1].pts) - ms(pair[0].pts) - nominal;
            assert!(moved.abs() <= nominal / 100.0 + 0.02, "track {track}, frame {number}: {moved} ms");
            assert!(pair[1].dts >= pair[0].dts);
        }
    }
    let stats = fed.crossing.sync_stats();
    assert!(stats.in_sync && stats.offset.is_some_and(|offset| offset.abs() < 5.0), "{stats:?}");
    assert_eq!((stats.rejected_reports, stats.steps, stats.restarts), (0, 0, 0), "{stats:?}");

    // A lost packet is concealed where it was, in these timestamps and not in those of its arrival.
    let last = fed.frames(AUDIO).last().copied().expect("frames");
    audio.sequence_number = audio.sequence_number.wrapping_add(1);
    audio.timestamp = audio.timestamp.wrapping_add(160);
    send(&fed, AUDIO, audio.frame(true, start + 40 * MS * 1500 + 20 * MS));
    fed.wait_frames(AUDIO, 3001);
    let (gap, _) = *fed.gaps(AUDIO).last().expect("a gap");
    let off = ms(gap) - ms(last.pts) - 20.0;
    assert!(off.abs() < 10.0, "concealed {off} ms off");
}

#[test]
fn a_still_screen_with_probes_between_its_pictures_loses_nothing_and_starves_nobody() {
    let fed = Fed::start(200);
    let mut video = Packets::video();
    let start = Instant::now();
    // One picture a second for 3 s, then none; probes all the time, as a browser sends them.
    for turn in 0..60_u32 {
        let now = at(start, 100 * MS * turn);
        if turn % 10 == 0 && turn <= 30 {
            let frame = video.frame(turn == 0, now);
            send(&fed, VIDEO, frame);
        }
        send(&fed, VIDEO, [video.padding(now), video.padding(now)]);
        if turn % 10 == 9 {
            video.timestamp = video.timestamp.wrapping_add(90_000);
        }
    }
    // The pause is bridged up to about now while probes go on, behind the last frame.
    let (frames, gaps) = (fed.wait_frames(VIDEO, 4), fed.gaps(VIDEO));
    let mut reached = frames[3].pts;
    for (start, end) in gaps.into_iter().filter(|(start, _)| *start >= frames[3].pts) {
        assert!(start >= reached && end > start, "{start} to {end}, after {reached}");
        reached = end;
    }
    assert!(ms(reached) > ms(frames[3].pts) + 2000.0, "{} ms bridged", ms(reached) - ms(frames[3].pts));
    assert!(frames.windows(2).all(|pair| (ms(pair[1].pts) - ms(pair[0].pts) - 1000.0).abs() < 12.0), "{frames:?}");
    let stats =
        wait_until("probes counted", SOON, || Some(fed.crossing.stats()).filter(|stats| stats.padding_packets == 120));
    assert_eq!((stats.lost_packets, stats.late_packets, stats.dropped_waiting), (0, 0, 0), "{stats:?}");
    assert_eq!(fed.keyframe_requests(), AT_START);
    // And what comes after the pause is on time.
    let now = Instant::now();
    video.timestamp = video.timestamp.wrapping_add(((now - start).as_millis() as u32).saturating_sub(6000) * 90);
    send(&fed, VIDEO, video.frame(false, now));
    let frames = fed.wait_frames(VIDEO, 5);
    let off = ms(frames[4].pts) - ms(fed.running_time(now));
    assert!(off.abs() < 15.0, "{off} ms off");
    assert!(frames[4].pts >= reached);
}

#[test]
fn probes_between_the_packets_of_a_frame_do_not_damage_it() {
    let fed = Fed::start(200);
    let mut video = Packets::video();
    let mut sent = Vec::new();
    for frame in 0..20 {
        let now = Instant::now();
        // Numbered as they are sent: a probe after the first packet.
        let first = video.frame(frame == 0, now);
        let last = first.len() as u16 - 1;
        for (number, mut packet) in first.into_iter().enumerate() {
            packet.sequence_number = packet.sequence_number.wrapping_add(u16::from(number > 0));
            sent.push(packet);
        }
        video.sequence_number = video.sequence_number.wrapping_sub(last);
        let probe = video.padding(now);
        sent.insert(sent.len() - usize::from(last), probe);
        video.sequence_number = video.sequence_number.wrapping_add(last);
        video.timestamp = video.timestamp.wrapping_add(3000);
    }
    send(&fed, VIDEO, sent);
    let frames = fed.wait_frames(VIDEO, 20);
    assert!(frames.iter().all(|frame| frame.size == 3 * 499), "{frames:?}");
    assert_eq!((fed.keyframe_requests(), fed.crossing.stats().lost_packets), (AT_START, 0));
}
