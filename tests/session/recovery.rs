//! Lost packets are asked for and come again: as the publisher has offered, of sound as of pictures, and never twice.

use crate::common::{
    SOON,
    lossy::{Direction, LossyPath},
    peer::{Peer, Repairs, Script},
    wait_until,
    watched::Watched,
};

const VIDEO: u8 = 102;
const AUDIO: u8 = 111;

/// What is asked for may come late: all these threads have to have had their turn, and a machine may stand still for a second.
const PATIENT: &str = "latency=4000";

/// Loses one in `every` first transmissions of this payload type.
fn losing(payload_type: u8, every: u16) -> LossyPath {
    let mut seen = std::collections::HashSet::new();
    LossyPath::new(move |direction, datagram| {
        let is_media = direction == Direction::ToBridge && datagram.len() > 12 && datagram[0] >> 6 == 2;
        let number = u16::from_be_bytes([*datagram.get(2).unwrap_or(&0), *datagram.get(3).unwrap_or(&0)]);
        is_media && datagram[1] & 0x7F == payload_type && number % every == 0 && seen.insert(number)
    })
}

/// Loses one in `every` packets of this payload type, again and again until so many newer ones have come.
fn losing_until(newer: u16, payload_type: u8, every: u16) -> LossyPath {
    let mut newest = None;
    LossyPath::new(move |direction, datagram| {
        let is_media = direction == Direction::ToBridge && datagram.len() > 12 && datagram[0] >> 6 == 2;
        if !is_media || datagram[1] & 0x7F != payload_type {
            return false;
        }
        let number = u16::from_be_bytes([datagram[2], datagram[3]]);
        let behind = newest.get_or_insert(number).wrapping_sub(number) as i16;
        if behind < 0 {
            newest = Some(number);
        }
        number % every == 0 && behind < newer as i16
    })
}

fn track(watched: &Watched, pad: &str) -> gst::Structure {
    let tracks = watched.ingest.stats().get::<gst::Array>("tracks").expect("tracks");
    let mut tracks = tracks.iter().filter_map(|track| track.get::<gst::Structure>().ok());
    tracks.find(|track| track.get::<&str>("pad") == Ok(pad)).expect("the track")
}

fn pictures_survive(script: Script, path: &LossyPath) -> Watched {
    let watched = Watched::start(PATIENT, "avdec_h264");
    let peer = Peer::start(&watched.ingest.url(), Script { path: Some(path.clone()), ..script });
    wait_until("pictures", SOON, || (watched.seen().pictures.len() > 180).then_some(()));
    let (seen, sent) = (watched.seen(), peer.sent(""));
    // The pad's own first keyframe may not be the first that was sent.
    let first = sent.iter().position(|hash| *hash == seen.pictures[0].1).expect("a picture that was sent");
    let arrived: Vec<u64> = seen.pictures.iter().map(|(_, hash)| *hash).collect();
    let differs = arrived.iter().zip(&sent[first..]).position(|(arrived, sent)| arrived != sent);
    assert_eq!(differs, None, "each picture, once, in order, bit for bit: {}", watched.ingest.stats());
    watched.assert_clean();
    assert!(path.lost() > 10, "{} lost", path.lost());
    watched
}

fn pictures_survive_single_losses(script: Script) {
    let path = losing(VIDEO, 10);
    let watched = pictures_survive(script, &path);
    assert!(watched.figure("recovered") > 10, "{:?}", watched.video());
    assert!(watched.figure("nacks") > 0, "{:?}", watched.video());
    assert_eq!(watched.ingest.stats().get::<u64>("lost-packets"), Ok(0));
    path.stop();
}

#[test]
fn pictures_are_recovered_by_rtx() {
    pictures_survive_single_losses(Script::default());
}

#[test]
fn pictures_are_recovered_without_rtx_as_obs_does_it() {
    pictures_survive_single_losses(Script::obs());
}

#[test]
fn pictures_are_recovered_of_streams_that_the_offer_does_not_number() {
    for script in [Script::obs(), Script::default()] {
        pictures_survive_single_losses(Script { numbered: false, ..script });
    }
}

#[test]
fn what_comes_again_only_behind_eighty_others_is_no_replay() {
    for script in [Script::obs(), Script::default()] {
        let path = losing_until(80, VIDEO, 50);
        let watched = pictures_survive(script, &path);
        path.stop();
        assert!(watched.figure("recovered") > 5, "{:?}", watched.video());
    }
}

#[test]
fn the_layer_that_is_taken_is_recovered_by_rtx_that_names_it() {
    let path = losing(VIDEO, 10);
    let watched = Watched::start(PATIENT, "avdec_h264");
    let script = Script { path: Some(path.clone()), ..Script::default() }.with_layers();
    let peer = Peer::start(&watched.ingest.url(), script);
    wait_until("pictures", SOON, || (watched.seen().pictures.len() > 120).then_some(()));
    // Where the machine stands still for a while another layer may be taken meanwhile.
    let seen = watched.seen();
    let sent = ["q", "h", "f"].map(|rid| peer.sent(rid)).concat();
    let damaged = seen.pictures.iter().filter(|(_, hash)| !sent.contains(hash)).count();
    assert!(damaged == 0 && seen.widths.contains(&640), "{damaged} {:?}", seen.widths);
    watched.assert_clean();
    assert!(watched.figure("recovered") > 10, "{:?}", watched.video());
    path.stop();
}

#[test]
fn sound_is_asked_for_where_that_was_offered() {
    for (audio_nack, repairs) in [(true, Repairs::Plain), (false, Repairs::Plain)] {
        let path = losing(AUDIO, 10);
        let watched = Watched::start(PATIENT, "avdec_h264");
        let script = Script { audio_nack, repairs, path: Some(path.clone()), ..Script::default() };
        let peer = Peer::start(&watched.ingest.url(), script);
        wait_until("losses", SOON, || (path.lost() > 10).then_some(()));
        let figure = |name| track(&watched, "audio_0").get::<u64>(name).expect("a figure");
        let what_becomes_of_it = if audio_nack { "recovered" } else { "lost" };
        wait_until(what_becomes_of_it, SOON, || (figure(what_becomes_of_it) > 5).then_some(()));
        if !audio_nack {
            assert_eq!(figure("recovered"), 0);
        }
        let ssrc = track(&watched, "audio_0").get::<u32>("ssrc").expect("an SSRC");
        assert_eq!(peer.heard().nacks.iter().any(|(of, _)| *of == ssrc), audio_nack);
        path.stop();
    }
}

#[test]
fn what_comes_twice_goes_on_once() {
    let watched = Watched::start("", "avdec_h264");
    let peer = Peer::start(&watched.ingest.url(), Script { duplicates: true, ..Script::default() });
    wait_until("pictures", SOON, || (watched.seen().pictures.len() > 60).then_some(()));
    let seen: Vec<u64> = watched.seen().pictures.iter().map(|(_, hash)| *hash).collect();
    let sent = peer.sent("");
    let first = sent.iter().position(|hash| *hash == seen[0]).expect("a picture that was sent");
    assert_eq!(seen, sent[first..first + seen.len()]);
    let (packets, duplicates) = (watched.figure("packets"), watched.figure("duplicates"));
    assert!(duplicates.abs_diff(packets) < packets / 10, "{packets} packets, {duplicates} duplicates");
    assert_eq!(watched.figure("lost"), 0);
    watched.assert_clean();
}

#[test]
fn the_statistics_tell_of_every_track() {
    let watched = Watched::start("", "avdec_h264");
    let _peer = Peer::start(&watched.ingest.url(), Script::default());
    let stats = wait_until("the round trip", SOON, || {
        let stats = watched.ingest.stats();
        (stats.get::<u32>("round-trip-time").is_ok() && watched.seen().pictures.len() > 60).then_some(stats)
    });
    assert!((1..2000).contains(&stats.get::<u32>("round-trip-time").expect("a time")), "{stats:?}");
    let (video, audio) = (track(&watched, "video_0"), track(&watched, "audio_0"));
    assert_eq!((video.get::<&str>("codec"), audio.get::<&str>("codec")), (Ok("H264"), Ok("OPUS")));
    assert_eq!((video.get::<u32>("width"), video.get::<u32>("height")), (Ok(640), Ok(360)));
    assert!(!audio.has_field("layers") && !audio.has_field("width"));
    // Of what is measured over a second; one in which the machine stood still for a part of it tells something else.
    wait_until("about 30 pictures a second", SOON, || {
        let rate = track(&watched, "video_0").get::<gst::Fraction>("framerate").ok()?;
        (25..=35).contains(&rate.numer()).then_some(())
    });
    wait_until("about 850 kbit/s of video", SOON, || {
        let bitrate = track(&watched, "video_0").get::<u64>("bitrate").ok()?;
        (400_000..2_000_000).contains(&bitrate).then_some(())
    });
    // Ticks between silence.
    wait_until("the sound's bits, and little jitter", SOON, || {
        let audio = track(&watched, "audio_0");
        let bitrate = audio.get::<u64>("bitrate").ok()?;
        ((10_000..100_000).contains(&bitrate) && audio.get::<u32>("jitter").ok()? < 20).then_some(())
    });
}
