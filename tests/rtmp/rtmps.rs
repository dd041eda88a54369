//! RTMPS: certificates are checked unless the user says otherwise, and what is wrong with one is told.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use crate::rtmp_support::{KEY, Pipeline, Server, check_recording, wait_for};
use crate::tls_front::{Authority, TlsFront};
use gst::prelude::*;

const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

/// Everything but who has signed it.
const ANY_AUTHORITY: &str = "tls-validation-flags=bad-identity+not-activated+expired+revoked+insecure+generic-error";

fn port(server: &Server) -> u16 {
    let url = server.url();
    url.split(['/', ':']).find_map(|part| part.parse().ok()).unwrap()
}

fn description(front: &TlsFront, more: &str) -> String {
    format!("{LIVE} rtmpbridgesink name=sink location=rtmps://localhost:{}/live/{KEY} {more}", front.port())
}

fn assert_refused(front: &TlsFront, more: &str) {
    let mut pipeline = Pipeline::start(&description(front, &format!("{more} max-retries=0")));
    let error = pipeline.wait_for_error();
    assert!(error.contains("certificate is not valid") && error.contains("tls-validation-flags"), "{error}");
    assert!(!error.contains(KEY), "{error}");
    assert!(!front.names().is_empty(), "the client came");
    assert_eq!(front.accepted(), 0, "it said nothing to a server that it does not know");
}

#[test]
fn self_signed_certificate_is_refused_by_default() {
    let server = Server::start();
    assert_refused(&TlsFront::start(port(&server), "localhost", None), "");
}

#[test]
fn self_signed_certificate_is_taken_when_flags_allow_it_and_the_name_is_sent() {
    let server = Server::start();
    let front = TlsFront::start(port(&server), "localhost", None);
    let mut pipeline = Pipeline::start(&description(&front, ANY_AUTHORITY));
    pipeline.wait_for_state("live");
    wait_for("frames", || pipeline.frames() > 60);
    assert!(pipeline.pipeline.send_event(gst::event::Eos::new()));
    pipeline.wait_for_eos();
    check_recording(&server.recording());
    assert_eq!(front.names(), [Some("localhost".to_owned())]);
}

#[test]
fn certificate_of_another_host_is_refused_whoever_signed_it() {
    let server = Server::start();
    assert_refused(&TlsFront::start(port(&server), "elsewhere.invalid", None), ANY_AUTHORITY);
}

/// The system's authorities are a file that GIO's TLS has built in, so this runs where that file is another one.
#[test]
fn certificate_of_an_authority_that_the_system_knows_is_taken_by_default() {
    let server = Server::start();
    let authority = Authority::new();
    let front = TlsFront::start(port(&server), "localhost", Some(&authority));
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("ca.pem");
    std::fs::write(&bundle, &authority.pem).unwrap();
    let script = "mount --bind \"$1\" /etc/ssl/certs/ca-certificates.crt && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(&bundle)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "rtmps::with_the_systems_authorities"])
        .env("RTMPS_TEST_PORT", front.port().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(front.accepted(), 1);
    check_recording(&server.recording());
}

#[test]
#[ignore = "the part of another test that runs in a mount namespace of its own"]
fn with_the_systems_authorities() {
    let Ok(port) = std::env::var("RTMPS_TEST_PORT") else { return };
    let url = format!("rtmps://localhost:{port}/live/{KEY}");
    let mut pipeline = Pipeline::start(&format!("{LIVE} rtmpbridgesink name=sink location={url} max-retries=0"));
    pipeline.wait_for_state("live");
    wait_for("frames", || pipeline.frames() > 60);
    assert!(pipeline.pipeline.send_event(gst::event::Eos::new()));
    pipeline.wait_for_eos();
}
