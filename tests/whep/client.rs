//! `webrtcingest` as a WHEP client of a server that is not ours: media comes, and the client copes with what servers do.

use crate::common::{
    SOON,
    player::Player,
    publisher::{Options, Video},
    wait_until,
    whep_server::{Behaviour, WhepServer},
};
use gst::prelude::*;

#[test]
fn a_stream_is_pulled_and_the_server_told_at_the_end() {
    let server = WhepServer::start();
    let player = Player::start(&server.url(), "");
    player.wait_frames(60);
    let caps =
        |pad: &str| player.element.static_pad(pad).and_then(|pad| pad.current_caps()).map(|caps| caps.to_string());
    assert!(caps("video_0").is_some_and(|caps| caps.starts_with("video/x-h264")));
    assert!(caps("audio_0").is_some_and(|caps| caps.starts_with("audio/x-opus")));
    assert_eq!(player.wait_state("live"), "");
    assert_eq!(player.stats().get::<u64>("sessions"), Ok(1));
    player.stop();
    assert_eq!((server.deleted(), server.sessions()), (1, 0));
}

#[test]
fn vp8_is_pulled_as_well() {
    let media = Options { video: Some(Video::Vp8), ..Options::default() };
    let server = WhepServer::start_with(Behaviour { media, ..Behaviour::default() });
    let player = Player::start(&server.url(), "");
    player.wait_frames(60);
    let caps = player.element.static_pad("video_0").and_then(|pad| pad.current_caps()).expect("caps");
    assert!(caps.to_string().starts_with("video/x-vp8"), "{caps}");
}

#[test]
fn a_redirection_is_followed() {
    let server = WhepServer::start();
    let player = Player::start(&server.redirecting_url(), "");
    player.wait_frames(30);
    assert_eq!(server.sessions(), 1);
}

#[test]
fn a_counter_offer_is_answered() {
    let server = WhepServer::start_with(Behaviour { counter_offers: true, ..Behaviour::default() });
    let player = Player::start(&server.url(), "");
    player.wait_frames(60);
    player.stop();
    assert_eq!(server.deleted(), 1);
}

#[test]
fn the_first_packets_tell_which_of_the_answered_formats_is_sent() {
    // As servers answer that know all codecs and send what their publisher has: the first format is not the one.
    let munge = |answer: String| {
        let vp8 = "a=rtpmap:110 VP8/90000\r\n";
        let mut munged = String::new();
        for line in answer.lines() {
            match line.split_once("UDP/TLS/RTP/SAVPF ") {
                Some((start, formats)) if start.starts_with("m=video") => {
                    munged.push_str(&format!("{start}UDP/TLS/RTP/SAVPF 110 {formats}\r\n"));
                }
                _ => munged.push_str(&format!("{line}\r\n")),
            }
        }
        let at = munged.find("a=rtpmap:96 ").expect("the format that is sent");
        munged.insert_str(at, vp8);
        munged
    };
    let server = WhepServer::start_with(Behaviour { munge: Some(munge), ..Behaviour::default() });
    let player = Player::start(&server.url(), "");
    player.wait_frames(60);
    let caps = player.element.static_pad("video_0").and_then(|pad| pad.current_caps()).expect("caps");
    assert!(caps.to_string().starts_with("video/x-h264"), "{caps}");
}

#[test]
fn an_answer_that_does_not_number_its_streams_is_taken() {
    let munge =
        |answer: String| {
            // As who names them all the same does, which RFC 8829 section 5.3.1 wants.
            let lines = answer.lines().filter(|line| !line.starts_with("a=ssrc"));
            lines
                .map(|line| {
                    if line.starts_with("a=mid:") { format!("{line}\r\na=msid:s t\r\n") } else { format!("{line}\r\n") }
                })
                .collect()
        };
    let server = WhepServer::start_with(Behaviour { munge: Some(munge), ..Behaviour::default() });
    let player = Player::start(&server.url(), "");
    player.wait_frames(60);
}

#[test]
fn the_token_is_sent_and_a_wrong_one_is_an_error_that_names_the_property() {
    let behaviour = Behaviour { token: Some("right".into()), ..Behaviour::default() };
    let server = WhepServer::start_with(behaviour);
    let player = Player::start(&server.url(), "auth-token=right");
    player.wait_frames(10);
    player.stop();
    assert_eq!(server.deleted(), 1, "DELETE has the token too");
    let error = Player::start(&server.url(), "auth-token=wrong").wait_error();
    assert!(error.contains("auth-token") && error.contains("who are you?") && !error.contains("wrong"), "{error}");
    let error = Player::start(&server.url(), "").wait_error();
    assert!(error.contains("wants a bearer token: set auth-token"), "{error}");
}

#[test]
fn a_malformed_url_is_an_error_that_says_how_to_write_it() {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    for (uri, hint) in [("whep://", "whep://HOST:PORT/PATH"), ("http://me:s3cret@h/x", "auth-token")] {
        let pipeline = gst::parse::launch(&format!("webrtcingest uri={uri} ! fakesink")).expect("a pipeline");
        assert!(pipeline.set_state(gst::State::Paused).is_err(), "{uri}");
        let message = pipeline.bus().expect("a bus").pop_filtered(&[gst::MessageType::Error]).expect("an error");
        let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
        let text = error.error().to_string();
        assert!(text.contains(hint) && !text.contains("s3cret"), "{text}");
        pipeline.set_state(gst::State::Null).expect("null");
    }
}

#[test]
fn a_query_is_sent_and_not_shown() {
    let server = WhepServer::start();
    let player = Player::start(&format!("{}?key=s3cret", server.url()), "");
    player.wait_frames(10);
    let shown = format!("{} {}", player.element.property::<String>("uri"), player.stats());
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_server_and_its_stream_are_waited_for() {
    let mut server = WhepServer::stopped();
    let player = Player::start(&server.url(), "");
    let warning = player.wait_warning();
    assert!(warning.contains("cannot be reached"), "{warning}");
    server.restart();
    server.set_live(false);
    player.wait_message("the server's refusal", |message| match message.view() {
        gst::MessageView::Warning(warning) => warning.error().to_string().contains("no such stream").then_some(()),
        _ => None,
    });
    server.set_live(true);
    player.wait_frames(30);
}

#[test]
fn a_server_that_dies_and_comes_back_is_connected_to_again() {
    let mut server = WhepServer::start();
    let player = Player::start(&server.url(), "");
    player.wait_frames(60);
    let pads = player.element.src_pads().len();
    server.kill();
    let reason = player.wait_state("retrying");
    assert!(reason.contains("was lost"), "{reason}");
    server.restart();
    player.wait_frames(60);
    assert_eq!(player.stats().get::<u64>("sessions"), Ok(2));
    assert_eq!(player.element.src_pads().len(), pads, "the pads stay");
}

#[test]
fn a_stream_that_was_live_and_is_over_is_eos() {
    let server = WhepServer::start();
    let player = Player::start(&server.url(), "");
    player.wait_frames(60);
    server.set_live(false);
    player.wait_eos();
    let reason = player.wait_state("stopped");
    assert!(reason.contains("no such stream"), "{reason}");
}

#[test]
fn a_stream_that_is_over_is_waited_for_if_told_so() {
    let server = WhepServer::start();
    let player = Player::start(&server.url(), "on-disconnect=wait");
    player.wait_frames(60);
    server.set_live(false);
    let before = server.offers();
    wait_until("another try", SOON, || (server.offers() >= before + 3).then_some(()));
    server.set_live(true);
    player.wait_frames(60);
}

#[test]
fn eos_asked_for_ends_the_session_at_the_server() {
    let server = WhepServer::start();
    let player = Player::start(&server.url(), "");
    player.wait_frames(30);
    player.pipeline.send_event(gst::event::Eos::new());
    player.wait_eos();
    wait_until("DELETE", SOON, || (server.deleted() == 1).then_some(()));
    assert_eq!(server.offers(), 1, "it does not call again");
}

#[test]
fn eos_asked_for_before_anything_came_ends_too() {
    let server = WhepServer::stopped();
    let player = Player::start(&server.url(), "");
    player.wait_state("retrying");
    player.pipeline.send_event(gst::event::Eos::new());
    player.wait_eos();
}
