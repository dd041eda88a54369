//! What is answered to the offers of real publishers: one codec each, in a variant that was offered, with parameters that
//! are legal for it.

use crate::common::{SOON, http, ingest::Ingest};

const CHROMIUM: &str = include_str!("../data/offers/chromium.sdp");
const FIREFOX: &str = include_str!("../data/offers/firefox.sdp");
const WEBRTCBIN: &str = include_str!("../data/offers/webrtcbin.sdp");
const OBS: &str = include_str!("../data/offers/obs-like.sdp");
const SAFARI: &str = include_str!("../data/offers/safari-like.sdp");
const TELEPHONE: &str = include_str!("../data/offers/static-payload-types.sdp");

const OPUS: &str = "111 opus/48000/2 minptime=10;useinbandfec=1;stereo=1";
const RED: &str = "63 red/48000/2 111/111";
const BASELINE: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=";

#[test]
fn chromium_is_answered_with_the_first_h264_of_packetization_mode_1_and_redundant_opus() {
    check(CHROMIUM, "", &[RED, OPUS], &[&format!("102 H264/90000 {BASELINE}42001f"), "103 rtx/90000 apt=102"]);
}

#[test]
fn every_h264_profile_is_answered_as_it_was_offered() {
    // Each alone: what is in the offer beside it goes.
    for (number, rtx, mode, profile) in [
        (102, 103, 1, "42001f"),
        (104, 107, 0, "42001f"),
        (108, 109, 1, "42e01f"),
        (114, 115, 0, "42e01f"),
        (116, 117, 1, "4d001f"),
        (39, 40, 0, "4d001f"),
    ] {
        let others = ["102", "104", "108", "114", "116", "39"].into_iter().filter(|other| *other != number.to_string());
        let offer = others.fold(CHROMIUM.to_owned(), |offer, other| without(&offer, other));
        let main = format!(
            "{number} H264/90000 level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}"
        );
        let rtx = format!("{rtx} rtx/90000 apt={number}");
        check(&offer, "", &[RED, OPUS], &[&main, &rtx]);
    }
    let high = CHROMIUM.replace("42001f", "64001f");
    let expected = format!("102 H264/90000 {BASELINE}64001f");
    check(&high, "", &[RED, OPUS], &[&expected, "103 rtx/90000 apt=102"]);
}

#[test]
fn chromium_is_answered_with_what_is_preferred() {
    for (codecs, audio, video) in [
        ("VP8", &[RED, OPUS][..], &["96 VP8/90000", "97 rtx/90000 apt=96"][..]),
        ("VP9,H264", &[RED, OPUS], &["98 VP9/90000 profile-id=0", "99 rtx/90000 apt=98"]),
        ("H265,AV1", &[RED, OPUS], &["45 AV1/90000 level-idx=5;profile=0;tier=0", "46 rtx/90000 apt=45"]),
    ] {
        check(CHROMIUM, &format!("video-codecs=<{codecs}>"), audio, video);
    }
    let properties = "audio-codecs=<PCMA,OPUS> video-codecs=<VP8>";
    check(CHROMIUM, properties, &["8 PCMA/8000"], &["96 VP8/90000", "97 rtx/90000 apt=96"]);
}

#[test]
fn firefox_which_has_no_h264_is_answered_with_vp8_and_told_nothing_of_its_own_limits() {
    check(
        FIREFOX,
        "",
        &["109 opus/48000/2 minptime=10;useinbandfec=1;stereo=1"],
        &["120 VP8/90000", "124 rtx/90000 apt=120"],
    );
    let properties = "video-codecs=<AV1,VP8>";
    check(
        FIREFOX,
        properties,
        &["109 opus/48000/2 minptime=10;useinbandfec=1;stereo=1"],
        &["99 AV1/90000", "100 rtx/90000 apt=99"],
    );
}

#[test]
fn webrtcbin_is_answered_without_its_own_parameter_sets() {
    check(
        WEBRTCBIN,
        "",
        &[OPUS, "97 rtx/48000 apt=111"],
        &["102 H264/90000 level-asymmetry-allowed=1;packetization-mode=1", "96 rtx/90000 apt=102"],
    );
}

#[test]
fn obs_is_answered_in_stereo_without_retransmission_format() {
    check(OBS, "", &[OPUS], &[&format!("96 H264/90000 {BASELINE}42e01f")]);
}

#[test]
fn safari_is_answered_with_constrained_high_or_h265_main() {
    check(SAFARI, "", &[RED, OPUS], &[&format!("96 H264/90000 {BASELINE}640c1f"), "97 rtx/90000 apt=96"]);
    check(
        SAFARI,
        "video-codecs=<H265>",
        &[RED, OPUS],
        &["100 H265/90000 level-id=93;tx-mode=SRST", "101 rtx/90000 apt=100"],
    );
}

#[test]
fn payload_types_without_rtpmap_are_answered_with_one() {
    check(TELEPHONE, "", &["0 PCMU/8000"], &[]);
    check(TELEPHONE, "audio-codecs=<PCMA>", &["8 PCMA/8000"], &[]);
}

#[test]
fn an_offer_that_does_not_number_its_streams_is_answered_all_the_same() {
    // RFC 8829 needs no a=ssrc; some senders name their streams by msid alone, others not at all.
    for (offer, video) in [(CHROMIUM, "102 H264/90000"), (OBS, "96 H264/90000")] {
        for left_out in [&["a=ssrc"][..], &["a=ssrc", "a=msid"]] {
            let kept = offer.lines().filter(|line| !left_out.iter().any(|start| line.starts_with(start)));
            let offer: String = kept.map(|line| format!("{line}\r\n")).collect();
            assert_eq!(offer.contains("a=msid:"), left_out.len() == 1);
            let ingest = Ingest::start("");
            let mut response =
                http().post(ingest.url()).header("Content-Type", "application/sdp").send(&offer).expect("an answer");
            let answer = response.body_mut().read_to_string().expect("SDP");
            assert_eq!(response.status().as_u16(), 201, "{answer}");
            assert!(formats(&answer, "video")[0].starts_with(video), "{answer}");
        }
    }
}

/// What the answer says of the payload types of each section: number, rtpmap, fmtp.
fn check(offer: &str, properties: &str, audio: &[&str], video: &[&str]) {
    let ingest = Ingest::start(properties);
    let mut response =
        http().post(ingest.url()).header("Content-Type", "application/sdp").send(offer).expect("an answer");
    let answer = response.body_mut().read_to_string().expect("SDP");
    assert_eq!(response.status().as_u16(), 201, "{answer}");
    assert_eq!(formats(&answer, "audio"), audio, "{answer}");
    assert_eq!(formats(&answer, "video"), video, "{answer}");
    let pads = usize::from(!audio.is_empty()) + usize::from(!video.is_empty());
    crate::common::wait_until("the pads", SOON, || (ingest.pads() == pads).then_some(()));
}

/// `number rtpmap fmtp` of each format of a section, in the order of its media line.
fn formats(sdp: &str, kind: &str) -> Vec<String> {
    let Some(section) = sdp.split("\r\nm=").find(|section| section.starts_with(kind)) else { return Vec::new() };
    let media = section.lines().next().expect("a media line");
    let value = |key: &str, number: &str| {
        let start = format!("a={key}:{number} ");
        section.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
    };
    media
        .split(' ')
        .skip(3)
        .map(|number| {
            let parts = [Some(number.to_owned()), value("rtpmap", number), value("fmtp", number)];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// The offer without one payload type.
fn without(offer: &str, number: &str) -> String {
    let lines = offer.lines().filter(|line| {
        let Some((key, value)) = line.split_once(':') else { return true };
        !(["a=rtpmap", "a=fmtp", "a=rtcp-fb"].contains(&key) && value.split(' ').next() == Some(number))
    });
    lines
        .map(|line| {
            let kept = |word: &&str| !line.starts_with("m=video") || *word != number;
            line.split(' ').filter(kept).collect::<Vec<_>>().join(" ") + "\r\n"
        })
        .collect()
}
