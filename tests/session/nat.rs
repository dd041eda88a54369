//! Publisher and bridge with real NATs between: one before the publisher, one before the bridge, and one before each.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use gst::prelude::*;

use crate::common::{
    SOON,
    nat::{Inside, Nat, TwoLinks, role},
    publisher::{Options, Publisher},
    turn::Turn,
    wait_until,
};

/// Serves in this process, for whoever reaches it; returns when so many frames have come.
struct Served(gst::Pipeline);

impl Served {
    fn start(listen: &str, properties: &str) -> Self {
        gst::init().expect("GStreamer");
        gstwebrtcbridge::plugin_register_static().expect("the plugin");
        let description = format!(
            "webrtcingest name=in auth-token=t uri=whip://{listen}/whip/live {properties} \
             in.video_0 ! fakesink sync=false async=false in.audio_0 ! fakesink sync=false async=false"
        );
        let pipeline = gst::parse::launch(&description).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
        pipeline.set_state(gst::State::Playing).expect("playing");
        Self(pipeline)
    }

    fn stats<T: for<'a> gst::glib::value::FromValue<'a> + Default + 'static>(&self, name: &str) -> T {
        let stats: gst::Structure = self.0.by_name("in").expect("the element").property("stats");
        stats.get(name).unwrap_or_default()
    }

    fn wait_for_frames(&self, more: u64) {
        let before: u64 = self.stats("frames");
        wait_until("frames", SOON * 2, || (self.stats::<u64>("frames") > before + more).then_some(()));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// Inside: publishes there until it is ended.
fn publish(url: &str, stun: Option<&str>) {
    let options = Options { token: Some("t".into()), stun: stun.map(str::to_owned), ..Options::default() };
    let _publisher = Publisher::start_with(url, options);
    std::thread::sleep(Duration::from_secs(300)); // the test ends it before
}

/// Hands TCP connections on, as there is no way from one network to the other.
fn hand_on(listen: &str, to: String) -> SocketAddr {
    let listener = TcpListener::bind((listen, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { continue };
            for (mut from, mut to) in [
                (client.try_clone().expect("it"), server.try_clone().expect("it")),
                (server.try_clone().expect("it"), client.try_clone().expect("it")),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    address
}

/// Publishes to a bridge that may not listen yet.
fn publish_when_it_listens(url: &str, inside: &mut Inside) -> Publisher {
    let address = url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    wait_until("the bridge to listen", SOON * 2, || {
        assert!(inside.is_running(), "the bridge has ended");
        let address = address.parse().expect("an address");
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok().then_some(())
    });
    Publisher::start_with(url, Options { token: Some("t".into()), ..Options::default() })
}

#[test]
fn a_publisher_behind_a_symmetric_nat_goes_on_when_the_nat_forgets_it() {
    if let Some(url) = role() {
        return publish(&url, None);
    }
    let nat = Nat::open(&[]);
    let address = format!("public-addresses=\"<(string){}>\"", nat.test_address);
    let bridge = Served::start("0.0.0.0:0", &address);
    let port = wait_until("the URL", SOON, || {
        let url = bridge.stats::<Option<String>>("url")?;
        Some(url.rsplit(':').next()?.split('/').next()?.to_owned())
    });
    let url = format!("http://{}:{port}/whip/live", nat.test_address);
    let test = "nat::a_publisher_behind_a_symmetric_nat_goes_on_when_the_nat_forgets_it";
    let _publisher = nat.run_inside(test, &url);
    bridge.wait_for_frames(90);
    nat.forget();
    wait_until("the move", SOON, || (bridge.stats::<u64>("udp-rebinds") >= 1).then_some(()));
    bridge.wait_for_frames(90);
}

#[test]
fn a_bridge_behind_a_one_to_one_nat_is_reached_at_the_address_that_it_announces() {
    if let Some(outside) = role() {
        let properties = format!("ice-udp-port=5555 public-addresses=\"<(string){outside}>\"");
        let bridge = Served::start("0.0.0.0:8080", &properties);
        std::thread::sleep(Duration::from_secs(300)); // the test ends it before
        drop(bridge);
        return;
    }
    let nat = Nat::open(&["udp 5555", "tcp 8080"]);
    let test = "nat::a_bridge_behind_a_one_to_one_nat_is_reached_at_the_address_that_it_announces";
    let mut inside = nat.run_inside(test, &nat.outside_address);
    let url = format!("http://{}:8080/whip/live", nat.outside_address);
    let publisher = publish_when_it_listens(&url, &mut inside);
    wait_until("media to be sent", SOON, || (publisher.sent().len() > 60).then_some(()));
    publisher.assert_unharmed();
}

#[test]
fn with_a_symmetric_nat_before_each_media_goes_through_the_relay() {
    const TEST: &str = "nat::with_a_symmetric_nat_before_each_media_goes_through_the_relay";
    if let Some(role) = role() {
        match role.split_once(' ').expect("what to do, and with what") {
            ("bridge", properties) => {
                let _bridge = Served::start("0.0.0.0:8080", properties);
                std::thread::sleep(Duration::from_secs(300)); // the test ends it before
            }
            (url, stun) => publish(url, Some(stun)),
        }
        return;
    }
    // Of the bridge only HTTP is let in.
    let (of_bridge, of_publisher) = (Nat::open(&["tcp 8080"]), Nat::open(&[]));
    let turn = Turn::listening(&of_bridge.test_address, &[]);
    let properties =
        format!("bridge stun-server={} turn-servers=\"<(string)\\\"{}\\\">\"", turn.stun_url(), turn.url("udp"));
    let mut bridge = of_bridge.run_inside(TEST, &properties);
    let http = hand_on(&of_publisher.test_address, format!("{}:8080", of_bridge.outside_address));
    wait_until("the bridge to listen", SOON * 2, || {
        assert!(bridge.is_running(), "the bridge has ended");
        TcpStream::connect((of_bridge.outside_address.as_str(), 8080)).is_ok().then_some(())
    });
    let mut publisher = of_publisher.run_inside(TEST, &format!("http://{http}/whip/live {}", turn.stun_url()));
    // What coturn relays of one session it tells when that ends; until then, that peers were permitted.
    let peer = format!("peer {} lifetime updated", of_publisher.outside_address);
    wait_until("the relay to be used", SOON, || turn.log().contains(&peer).then_some(()));
    wait_until("the publisher to be connected", SOON * 2, || {
        assert!(publisher.is_running() && bridge.is_running(), "one of them has ended");
        turn.log().lines().any(|line| line.contains("usage") && line.contains("sp=")).then_some(())
    });
}

/// Inside: pushes there until it is ended.
fn push(url: &str) {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let description = format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=15/1 ! out.video_0 \
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! out.audio_0 \
         webrtcegress name=out auth-token=t uri={url}"
    );
    let pipeline = gst::parse::launch(&description).expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("playing");
    std::thread::sleep(Duration::from_secs(300)); // the test ends it before
    let _ = pipeline.set_state(gst::State::Null);
}

#[test]
fn media_goes_on_by_the_other_interface_when_one_goes_down() {
    if let Some(url) = role() {
        return push(&url);
    }
    let links = TwoLinks::open();
    let [first, second] = &links.test_addresses;
    let bridge = Served::start("0.0.0.0:0", &format!("public-addresses=\"<(string){first},(string){second}>\""));
    let port = wait_until("the URL", SOON, || {
        let url = bridge.stats::<Option<String>>("url")?;
        Some(url.rsplit(':').next()?.split('/').next()?.to_owned())
    });
    // Offers and answers take the one that stays, and name both.
    let url = format!("whip://{second}:{port}/whip/live");
    let mut pushing = links.run_inside("nat::media_goes_on_by_the_other_interface_when_one_goes_down", &url);
    bridge.wait_for_frames(90);
    links.let_udp_through();
    links.first_goes_down();
    // What was on its way has come by then; what comes after the loss was noticed comes by the other one.
    wait_until("the loss", SOON, || {
        let state = bridge.0.by_name("in").expect("the element").property_value("connection-state");
        let state = state.serialize().expect("a state");
        (state != "connected").then_some(())
    });
    bridge.wait_for_frames(90);
    assert!(pushing.is_running());
}
