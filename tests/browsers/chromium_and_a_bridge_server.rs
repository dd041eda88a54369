//! Eight publishers at once at a bridge server, two of them pages in Chromium, each to an RTMP name of its own; and the
//! page where a publisher names a channel.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{
    SOON, browser::Browser, nginx::Nginx, publisher::Publisher, recording::Recording, server::BridgeServer, wait_until,
};
use gst::prelude::*;

#[test]
fn eight_publishers_reach_eight_names_and_a_killed_pipeline_is_its_own_affair() {
    let nginx = Nginx::start();
    let url = nginx.url("");
    let pipelines = Arc::new(Mutex::new(HashMap::<String, gst::Pipeline>::new()));
    let keep = pipelines.clone();
    let server = BridgeServer::start_with(&[], move |bin| {
        bin.connect("create-session", false, move |values| {
            let channel = values[1].get::<String>().expect("a channel");
            let text = format!("webrtcingest : rtmpbridgesink name=out location={url}{channel}");
            let pipeline = gst::parse::launch(&text).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
            keep.lock().expect("pipelines").insert(channel, pipeline.clone());
            Some(pipeline.to_value())
        });
    });
    let publishers: Vec<Publisher> =
        (0..6).map(|number| Publisher::start(&server.whip(&format!("n{number}")))).collect();
    let browsers = [Browser::start(), Browser::start()];
    for (browser, channel) in browsers.iter().zip(["n6", "n7"]) {
        browser.open(&format!("{}/?broadcaster=true&codec=h264&channel={channel}", server.url()));
        browser.wait_state("idle", SOON);
        browser.click("#start");
    }
    browsers.iter().for_each(|browser| browser.wait_state("live", SOON));
    let seconds = |channel: &str, seconds: u32| {
        nginx.wait_recorded(channel, Duration::from_secs(60), |flv| flv.has_seconds(seconds, seconds))
    };
    let names: Vec<String> = (0..8).map(|number| format!("n{number}")).collect();
    names.iter().for_each(|name| drop(seconds(name, 2)));
    assert_eq!(server.sessions(), 8);

    let victim = pipelines.lock().expect("pipelines").remove("n3").expect("its pipeline");
    let out = victim.by_name("out").expect("its sink");
    gst::element_error!(out, gst::ResourceError::Failed, ("killed by the test"));
    drop((victim, out));
    assert!(server.wait_state("n3", "failed").contains("killed by the test"));
    wait_until("one less", SOON, || (server.sessions() == 7).then_some(()));

    let others: Vec<&String> = names.iter().filter(|name| *name != "n3").collect();
    others.iter().for_each(|name| drop(seconds(name, 6)));
    publishers.iter().for_each(Publisher::assert_unharmed);
    assert!(browsers.iter().all(|browser| browser.state() == "live"));

    // A recording that is still written to ends in the middle of a picture.
    drop((publishers, browsers));
    others.iter().for_each(|name| drop(server.wait_state(name, "ended")));
    for name in others {
        assert_eq!(nginx.publishes(name), 1, "{name}: one connection for the whole stream");
        let recording = Recording::probe(&nginx.recordings(name).pop().expect("a recording"));
        assert_eq!(recording.codec("video").as_deref(), Some("h264"));
        assert_eq!(recording.codec("audio").as_deref(), Some("aac"));
        recording.assert_starts_with_keyframe();
        recording.assert_decodes();
    }
    pipelines.lock().expect("pipelines").clear();
}

#[test]
fn the_page_lets_a_publisher_name_a_channel() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    let server = BridgeServer::start(&[("session", &session)]);
    let browser = Browser::start();
    browser.open(&format!("{}/?broadcaster=true", server.url()));
    browser.wait_state("idle", SOON);
    browser.fill("#channel", "no spaces");
    browser.click("#start");
    assert_eq!(browser.state(), "idle", "the form does not take it");
    browser.fill("#channel", "my_show");
    browser.click("#start");
    browser.wait_state("live", SOON);
    let link = browser.eval("return document.querySelector('#link').value");
    assert!(link.as_str().is_some_and(|link| link.ends_with("/?viewer=true&channel=my_show")), "{link}");
    browser.screenshot("bridge-server-page");
    nginx.wait_recorded("my_show", Duration::from_secs(40), |flv| flv.has_seconds(2, 2));
    browser.click("#stop");
    browser.wait_state("ended", SOON);
    assert_eq!(server.wait_state("my_show", "ended"), "closed by the peer");
}
