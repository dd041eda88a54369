//! pipelines/whep-to-rtmp.launch from a WHEP server that is not ours to an RTMP server, judged by ffprobe.

use std::{path::Path, process::Command, time::Duration};

use crate::common::{SOON, flv::FlvFile, launch::Launch, nginx::Nginx, recording::Recording, whep_server::WhepServer};

/// The line that `pipelines/run` makes of the file.
fn launch(whep_url: &str, rtmp_url: &str) -> Launch {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/run");
    let output = Command::new(run)
        .args(["--dry-run", "whep-to-rtmp"])
        .args([format!("WHEP_URL={whep_url}"), format!("RTMP_URL={rtmp_url}"), "ENCODER=software".to_owned()])
        .output()
        .expect("pipelines/run");
    let line = String::from_utf8(output.stdout).expect("text");
    let description = line.trim().strip_prefix("gst-launch-1.0 -e ").expect("a launch line");
    // It shows no secrets, and takes both URLs for some.
    Launch::start(&description.replace("<WHEP_URL>", whep_url).replace("<RTMP_URL>", rtmp_url))
}

#[test]
fn a_stream_is_pulled_and_pushed_until_interrupted() {
    let (nginx, server) = (Nginx::start(), WhepServer::start());
    let launch = launch(&server.url(), &nginx.url("key"));
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(5, 5));
    launch.end_cleanly();
    assert_eq!(server.deleted(), 1, "the server is told");
    assert!(nginx.saw_goodbye());
    Recording::probe(&path).assert_good();
}

#[test]
fn the_rtmp_stream_outlives_a_restart_of_the_whep_server_and_ends_with_its_stream() {
    let (nginx, mut server) = (Nginx::start(), WhepServer::start());
    let mut launch = launch(&server.url(), &nginx.url("key"));
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(2, 2));
    server.kill();
    server.restart();
    let pictures = FlvFile::read(&path).pictures().count();
    nginx.wait_recorded("key", Duration::from_secs(30), |flv| flv.pictures().count() > pictures + 90);
    server.set_live(false);
    assert!(launch.wait_exit(Duration::from_secs(20)).success(), "{}", launch.output());
    assert!(launch.errors().is_empty(), "{}", launch.output());
    assert_eq!(nginx.publishes("key"), 1, "one RTMP connection for all of it");
    Recording::probe(&path).assert_decodes();
}
