//! The policy in simulated time: hours of clocks that drift, reports that lie, jumps and stalls.

mod world;

use super::{IN_SYNC, MILLISECOND, Nanos, Report, SECOND, Sync};
use crate::codec::MediaKind;
use world::{AUDIO, CAMERA, MICROPHONE, NAMES, START, Sender, VIDEO, World};

#[test]
fn an_hour_of_clocks_100_ppm_apart_is_in_sync_after_10_s_and_stays_so() {
    for (video, audio, wall) in [(100, -100, 0), (-100, 100, 100), (100, 0, -100), (0, 100, -100), (-100, -100, 100)] {
        let mut world = World::new(
            Sender { ppm: video, ..CAMERA },
            Sender { ppm: audio, transit: 130 * MILLISECOND, ..MICROPHONE },
        );
        world.wall_ppm = wall;
        world.run(12 * SECOND); // both have reported after 2 s
        world.stays_in_sync_for(3600 * SECOND);
        for (track, transit) in [(VIDEO, 50 * MILLISECOND), (AUDIO, 130 * MILLISECOND)] {
            let late = world.lateness(track) - transit;
            assert!(late.abs() < 100 * MILLISECOND, "{} is {late} ns from its arrival", NAMES[track]);
        }
        let stats = world.stats();
        let drift: Vec<_> = stats.drift.iter().map(|(_, ppm)| ppm.unwrap()).collect();
        assert!((drift[VIDEO] - video as f64).abs() < 1.0 && (drift[AUDIO] - audio as f64).abs() < 1.0, "{drift:?}");
        assert_eq!((stats.rejected_reports, stats.steps, stats.restarts), (0, 0, 0), "{stats:?}");
    }
}

#[test]
fn without_reports_drift_is_followed_by_arrivals() {
    let mut world =
        World::new(Sender { ppm: 100, reports: 0, ..CAMERA }, Sender { ppm: -100, reports: 0, ..MICROPHONE });
    world.run(3600 * SECOND);
    assert!(world.offset().abs() < 5 * MILLISECOND, "{}", world.offset());
    assert_eq!((world.stats().offset, world.stats().in_sync), (None, false));
}

#[test]
fn an_offset_of_200_ms_is_gone_after_10_s_and_no_track_moves_by_more_than_10_ms_a_second() {
    for (video, audio) in [(250, 50), (50, 250)] {
        let mut world = World::new(
            Sender { transit: video * MILLISECOND, jitter: 0, ..CAMERA },
            Sender { transit: audio * MILLISECOND, jitter: 0, ..MICROPHONE },
        );
        world.run(2 * SECOND);
        assert!((world.offset().abs() - 200 * MILLISECOND).abs() < MILLISECOND, "starts on arrivals");
        let mut before = [world.lateness(VIDEO), world.lateness(AUDIO)];
        for _ in 0..10 {
            world.run(SECOND);
            for track in [VIDEO, AUDIO] {
                let moved = world.lateness(track) - before[track];
                assert!(moved.abs() <= 11 * MILLISECOND, "{} moved by {moved} ns", NAMES[track]); // a second and a frame
                before[track] = world.lateness(track);
            }
        }
        world.stays_in_sync_for(60 * SECOND);
        assert_eq!(world.stats().steps, 0);
    }
}

#[test]
fn a_larger_offset_is_gone_as_soon_by_one_step_forward() {
    for (video, audio) in [(50, 1500), (2900, 50)] {
        let mut world = World::new(
            Sender { transit: video * MILLISECOND, ..CAMERA },
            Sender { transit: audio * MILLISECOND, ..MICROPHONE },
        );
        world.run(12 * SECOND);
        world.stays_in_sync_for(60 * SECOND);
        // The late track is not placed so early that a sink would drop it.
        let late = if video > audio { VIDEO } else { AUDIO };
        assert!(world.lateness(late) >= (video.max(audio) - 110) * MILLISECOND);
        assert!((1..=2).contains(&world.stats().steps), "{:?}", world.stats());
    }
}

#[test]
fn a_report_that_is_there_before_the_first_packet_counts_at_once() {
    let mut world = World::new(CAMERA, Sender { transit: 250 * MILLISECOND, ..MICROPHONE });
    world.muted[AUDIO] = 4 * SECOND;
    world.run(4 * SECOND);
    let report = world.report_of(AUDIO);
    world.sync.report(AUDIO, report);
    world.run(SECOND / 10);
    assert!(world.offset().abs() <= IN_SYNC, "{}", world.offset());
}

#[test]
fn frames_keep_their_cadence_through_jitter() {
    let mut world =
        World::new(Sender { jitter: 60 * MILLISECOND, ..CAMERA }, Sender { jitter: 60 * MILLISECOND, ..MICROPHONE });
    world.run(20 * SECOND);
    let mut last: [Option<u64>; 2] = [None; 2];
    world.run_and(60 * SECOND, |world, track| {
        let pts = world.last[track].unwrap().0.pts;
        if let Some(last) = last[track].replace(pts) {
            let off = (pts - last) as Nanos - world.senders[track].interval;
            assert!(off.abs() < MILLISECOND / 4, "{} is {off} ns off its cadence", NAMES[track]);
        }
    });
}

#[test]
fn a_new_stream_or_a_jump_of_rtp_time_goes_on_where_the_old_one_was() {
    let mut world = World::new(CAMERA, Sender { transit: 120 * MILLISECOND, ..MICROPHONE });
    world.run(30 * SECOND);
    let changes: [fn(&mut Sender); 5] = [
        |sender| (sender.ssrc, sender.base) = (sender.ssrc + 10, 12_345),
        |sender| sender.base = sender.base.wrapping_add(90_000 * 3600 * 3),
        |sender| sender.base = sender.base.wrapping_sub(90_000 * 3600 * 3),
        |sender| sender.base = sender.base.wrapping_add(1 << 31),
        |sender| sender.base = sender.base.wrapping_sub(90_000 * 2),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        for track in [VIDEO, AUDIO] {
            let before = world.lateness(track);
            change(&mut world.senders[track]);
            world.run(SECOND / 10);
            let jump = world.lateness(track) - before;
            assert!(jump.abs() <= 25 * MILLISECOND, "change {number}: {} jumped by {jump} ns", NAMES[track]);
            world.stays_in_sync_for_all_but_reports(6 * SECOND);
            world.run(10 * SECOND);
            world.stays_in_sync_for(10 * SECOND);
        }
    }
    assert_eq!(world.stats().restarts, 10);
}

#[test]
fn a_media_clock_that_stood_still_goes_on_at_the_right_time() {
    let mut world = World::new(CAMERA, MICROPHONE);
    world.run(30 * SECOND);
    world.muted[AUDIO] = world.now + 60 * SECOND;
    world.senders[AUDIO].base = world.senders[AUDIO].base.wrapping_sub(48_000 * 60);
    world.run(60 * SECOND + SECOND / 10);
    assert!(world.offset().abs() <= IN_SYNC, "{}", world.offset());
    world.run(10 * SECOND);
    world.stays_in_sync_for(30 * SECOND);
}

#[test]
fn a_muted_track_comes_back_in_sync_and_does_not_move_the_other_meanwhile() {
    let mut world = World::new(Sender { ppm: 100, ..CAMERA }, Sender { ppm: -100, ..MICROPHONE });
    world.run(30 * SECOND);
    world.muted[VIDEO] = world.now + 1800 * SECOND;
    world.run(1700 * SECOND);
    let moved = world.lateness(AUDIO) - MICROPHONE.transit;
    assert!(moved.abs() < 30 * MILLISECOND, "{moved}");
    world.run(112 * SECOND);
    world.stays_in_sync_for(60 * SECOND);
}

#[test]
fn one_frame_a_second_is_in_sync() {
    let mut world =
        World::new(Sender { interval: SECOND, ..CAMERA }, Sender { transit: 200 * MILLISECOND, ..MICROPHONE });
    world.run(15 * SECOND);
    world.stays_in_sync_for(120 * SECOND);
}

#[test]
fn reports_that_lie_are_counted_and_change_nothing() {
    let mut world = World::new(CAMERA, MICROPHONE);
    world.run(15 * SECOND);
    for (number, ntp_time) in [0, 1, u64::MAX, 3 << 32, 0xFFFF_FFFF, 3_900_000_000 << 32].into_iter().enumerate() {
        let track = number % 2;
        let report = Report { ntp_time, ..world.report_of(track) };
        world.sync.report(track, report);
        let report = Report { rtp_time: number as u32 * 0x2AAA_AAAA, ..world.report_of(track) };
        world.sync.report(track, report);
        world.stays_in_sync_for(10 * SECOND);
    }
    let stats = world.stats();
    assert_eq!((stats.rejected_reports, stats.steps), (12, 0), "{stats:?}");
}

#[test]
fn a_track_whose_reports_are_all_made_up_stays_on_arrivals() {
    let mut world = World::new(Sender { lie: -3600 * SECOND, ..CAMERA }, MICROPHONE);
    world.run_and(120 * SECOND, |_, _| ());
    assert!(world.offset().abs() < 5 * MILLISECOND, "{}", world.offset());
    assert_eq!(world.stats().offset, None);
    // They come right, and count after a while.
    world.senders[VIDEO].lie = 0;
    world.senders[AUDIO].transit += 100 * MILLISECOND;
    world.run(45 * SECOND);
    world.stays_in_sync_for(30 * SECOND);
}

#[test]
fn a_sender_that_sets_its_clock_stays_in_sync_meanwhile() {
    for set in [700 * MILLISECOND, -2 * SECOND, 3600 * SECOND] {
        let mut world = World::new(CAMERA, Sender { transit: 130 * MILLISECOND, ..MICROPHONE });
        world.run(30 * SECOND);
        for sender in &mut world.senders {
            sender.lie = set;
        }
        world.stays_in_sync_for_all_but_reports(90 * SECOND);
        world.stays_in_sync_for(30 * SECOND);
        assert_eq!(world.stats().steps, 0, "set by {set} ns");
    }
}

#[test]
fn what_the_network_held_up_for_2_s_keeps_its_timestamps() {
    let mut world = World::new(CAMERA, MICROPHONE);
    world.run(30 * SECOND);
    let before = world.lateness(VIDEO);
    world.stalled = world.now + 2 * SECOND;
    let mut worst: Nanos = 0;
    world.run_and(20 * SECOND, |world, track| {
        if track == VIDEO {
            worst = worst.max((world.lateness(VIDEO) - before).abs());
        }
    });
    assert!(worst < 5 * MILLISECOND, "moved by {worst} ns");
    world.stays_in_sync_for(10 * SECOND);
}

#[test]
fn a_session_that_begins_in_a_stall_is_soon_where_it_belongs() {
    let mut world = World::new(CAMERA, MICROPHONE);
    world.stalled = 2 * SECOND;
    world.run(50 * MILLISECOND);
    assert!(world.lateness(VIDEO) > 1900 * MILLISECOND);
    world.run(20 * SECOND);
    for track in [VIDEO, AUDIO] {
        assert!(world.lateness(track) < 100 * MILLISECOND, "{} ns late", world.lateness(track));
    }
    world.stays_in_sync_for(10 * SECOND);
}

#[test]
fn the_next_session_goes_on_behind_the_last_one() {
    let floor = START + 500 * MILLISECOND;
    let mut sync = Sync::new([(MediaKind::Video, 90_000, Some(floor))]);
    let stamp = sync.stamp(0, 1, 1000, START).unwrap();
    assert!(stamp.pts > floor as u64 && stamp.dts > floor as u64, "{stamp:?}");
    // And comes back to where its arrivals are.
    let mut last = stamp;
    for frame in 1..300 {
        let stamp = sync.stamp(0, 1, 1000 + frame * 3000, START + Nanos::from(frame) * SECOND / 30).unwrap();
        assert!(stamp.pts > last.pts);
        last = stamp;
    }
    let late = last.pts as Nanos - (START + 299 * SECOND / 30);
    assert!((0..90 * MILLISECOND).contains(&late), "{late}");
}

#[test]
fn b_frames_are_presented_in_their_order_and_decoded_in_theirs() {
    let mut sync = Sync::new([(MediaKind::Video, 90_000, None)]);
    let order = [0_u32, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11];
    let stamps: Vec<_> = order
        .into_iter()
        .enumerate()
        .filter_map(|(sent, shown)| sync.stamp(0, 1, shown * 3000, START + sent as Nanos * SECOND / 30))
        .collect();
    for (stamp, shown) in stamps.iter().zip(order) {
        let off = stamp.pts.abs_diff(START as u64 + u64::from(shown) * (SECOND as u64 / 30));
        assert!(off < 5 * MILLISECOND as u64, "{stamp:?}"); // moved a little
    }
    assert!(stamps.is_sorted_by_key(|stamp| stamp.dts));
    assert!(stamps.iter().skip(4).all(|stamp| stamp.dts <= stamp.pts), "{stamps:?}");
}

#[test]
fn whatever_comes_is_survived_and_decoding_time_never_goes_backwards() {
    let mut random = World::new(CAMERA, MICROPHONE);
    for round in 0..200 {
        let tracks = [(MediaKind::Video, 90_000, None), (MediaKind::Audio, 8_000, None), (MediaKind::Video, 0, None)];
        let (mut sync, mut arrival, mut rtp_time) = (Sync::new(tracks), START, 0_u32);
        let mut last = [0; 3];
        for _ in 0..500 {
            let wild = |random: &mut World| random.random(1 << 31) as u32 | (random.random(2) as u32) << 31;
            arrival +=
                if random.random(50) == 0 { random.random(100 * SECOND) } else { random.random(30 * MILLISECOND) };
            rtp_time = match random.random(20) {
                0 => wild(&mut random),
                1 => rtp_time.wrapping_sub(random.random(200_000) as u32),
                _ => rtp_time.wrapping_add(random.random(6_000) as u32),
            };
            let (track, ssrc) = (random.random(4) as usize, random.random(1 + round % 3) as u32);
            if random.random(10) == 0 {
                let ntp_time = u64::from(wild(&mut random)) << 32 | u64::from(wild(&mut random));
                sync.report(track, Report { ssrc, ntp_time, rtp_time: wild(&mut random), arrival });
            }
            match sync.stamp(track, ssrc, rtp_time, arrival) {
                Some(stamp) => {
                    assert!(stamp.dts >= last[track], "{} after {}", stamp.dts, last[track]);
                    last[track] = stamp.dts;
                    assert!(stamp.dts < (arrival + 300 * SECOND) as u64, "ran away");
                }
                None => assert_eq!(track, 3, "there is no such track"),
            }
            let _ = (sync.stats(), sync.ahead(track));
        }
    }
}
