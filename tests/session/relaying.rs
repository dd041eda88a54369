//! Peers that reach the bridge through a TURN server, and what a STUN server sees of it. The server is coturn.
#![allow(clippy::print_stderr)] // the figures that are measured on the way

use std::sync::{Arc, Mutex};

use crate::common::{
    SOON, half_open,
    ingest::Ingest,
    lossy::LossyPath,
    nat::{again, role},
    publisher::{Options, Publisher},
    turn::{PASSWORD, Turn, USER},
    wait_until,
};
use gst::prelude::*;

/// An ingest with these TURN servers, in the syntax of a launch line.
fn ingest(turn: &[String], more: &str) -> Ingest {
    let servers: Vec<String> = turn.iter().map(|url| format!("(string)\\\"{url}\\\"")).collect();
    Ingest::start(&format!("turn-servers=\"<{}>\" {more}", servers.join(",")))
}

/// The warning that the pipeline is told first.
fn warning(ingest: &Ingest) -> String {
    let bus = ingest.pipeline.bus().expect("a bus");
    wait_until("a warning", SOON, || match bus.pop_filtered(&[gst::MessageType::Warning])?.view() {
        gst::MessageView::Warning(warning) => Some(format!("{} {:?}", warning.error(), warning.debug())),
        _ => None,
    })
}

fn candidates(answer: &str) -> Vec<&str> {
    answer.lines().filter(|line| line.starts_with("a=candidate:")).collect()
}

/// Media comes although no address but the relay's is known.
fn publishes_by_relay_alone(transport: &str) {
    let turn = Turn::start();
    let ingest = ingest(&[turn.url(transport)], "ice-transport-policy=relay");
    let url = ingest.url();
    let answer = half_open::post(&url, &[]);
    assert!(candidates(&answer).iter().all(|line| line.contains(" typ relay ")), "{answer}");
    assert_eq!(candidates(&answer).len(), 1, "{answer}");
    let ingest = self::ingest(&[turn.url(transport)], "ice-transport-policy=relay");
    let publisher = Publisher::start(&ingest.url());
    wait_until("frames", SOON, || (ingest.frames() > 90).then_some(()));
    publisher.assert_unharmed();
    publisher.delete();
}

#[test]
fn media_comes_through_a_relay_that_is_reached_by_udp() {
    publishes_by_relay_alone("udp");
}

#[test]
fn media_comes_through_a_relay_that_is_reached_by_tcp() {
    publishes_by_relay_alone("tcp");
}

#[test]
fn media_comes_through_a_relay_that_is_reached_by_tls() {
    // Its certificate is trusted as one of the system's, for a process of its own.
    if let Some(url) = role() {
        let ingest = ingest(&[url], "ice-transport-policy=relay");
        let publisher = Publisher::start(&ingest.url());
        wait_until("frames", SOON, || (ingest.frames() > 90).then_some(()));
        return publisher.delete();
    }
    let turn = Turn::start();
    let mut again = again("relaying::media_comes_through_a_relay_that_is_reached_by_tls", &turn.url("tls"));
    let trusting = again.env("SSL_CERT_FILE", turn.certificate()).status().expect("the test once more");
    assert!(trusting.success());
    let ingest = ingest(&[turn.url("tls")], "");
    let warning = warning(&ingest);
    assert!(warning.contains("its certificate or TLS is not accepted"), "{warning}");
}

/// What goes between the bridge and its TURN server.
#[derive(Clone, Copy, Debug, Default)]
struct Relayed {
    channel: usize,
    channel_bytes: usize,
    /// Since the first datagram of a channel.
    indications: usize,
}

#[test]
fn media_by_a_relay_comes_by_a_channel_with_four_bytes_more_than_it_has() {
    let turn = Turn::start();
    let relayed = Arc::<Mutex<Relayed>>::default();
    let counting = relayed.clone();
    let path = LossyPath::new(move |_, datagram| {
        let mut relayed = counting.lock().expect("lock");
        match datagram {
            [0x40..=0x4F, _, l0, l1, ..] => {
                let data = usize::from(u16::from_be_bytes([*l0, *l1]));
                assert_eq!(datagram.len(), 4 + data);
                relayed.channel += 1;
                relayed.channel_bytes += datagram.len();
            }
            // Send and Data indications.
            [0x00, 0x16 | 0x17, ..] if relayed.channel > 0 => relayed.indications += 1,
            _ => {}
        }
        false
    });
    let server = turn.url("udp");
    let address = server.rsplit('@').next().and_then(|rest| rest.split('?').next()).expect("an address");
    let front = path.before(address.parse().expect("an address"));
    let ingest = ingest(&[server.replace(address, &front.to_string())], "ice-transport-policy=relay");
    let publisher = Publisher::start(&ingest.url());
    wait_until("media by a channel", SOON * 2, || (relayed.lock().expect("lock").channel > 1000).then_some(()));
    publisher.assert_unharmed();
    publisher.delete();
    let Relayed { channel, channel_bytes, indications } = *relayed.lock().expect("lock");
    eprintln!("{channel} datagrams in {channel_bytes} bytes; as indications {} more", channel * 32);
    assert!(indications < channel / 20, "{indications} indications beside {channel} datagrams of a channel");
    path.stop();
}

#[test]
fn a_stun_server_and_a_relay_are_candidates_beside_the_own_addresses() {
    let turn = Turn::start();
    let ingest = ingest(
        &[turn.url("udp")],
        &format!("stun-server={} public-addresses=\"<(string)203.0.113.7>\"", turn.stun_url()),
    );
    let answer = half_open::post(&ingest.url(), &[]);
    let port = ingest.stats().get::<u32>("udp-port").expect("a port");
    let of_type = |kind: &str| candidates(&answer).into_iter().filter(|line| line.contains(kind)).count();
    assert_eq!((of_type(" typ host"), of_type(" typ srflx "), of_type(" typ relay ")), (1, 1, 1), "{answer}");
    // No NAT is between.
    assert!(answer.contains(&format!(" {port} typ srflx ")), "{answer}");
}

#[test]
fn a_wrong_password_is_a_warning_that_does_not_show_it_and_others_connect_all_the_same() {
    let turn = Turn::start();
    let ingest = ingest(&[turn.url_for(USER, "wr0ng-s3cr3t", "udp")], "");
    let warning = warning(&ingest);
    assert!(warning.contains("refuses the user name or the password"), "{warning}");
    assert!(warning.contains(&format!(":{}?transport=udp", turn.port)), "{warning}");
    assert!(!warning.contains("wr0ng-s3cr3t") && !warning.contains(PASSWORD), "{warning}");
    let publisher = Publisher::start(&ingest.url());
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    publisher.delete();
}

#[test]
fn without_its_relay_a_session_that_may_use_nothing_else_is_refused_with_the_reason() {
    let turn = Turn::start();
    let ingest = ingest(&[turn.url_for(USER, "wr0ng-s3cr3t", "udp")], "ice-transport-policy=relay");
    warning(&ingest);
    let refused = Publisher::offer(&ingest.url(), Options::default()).err().expect("a refusal");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body.contains("refuses the user name or the password"), "{}", refused.body);
    assert!(!refused.body.contains("wr0ng-s3cr3t"), "{}", refused.body);
}

#[test]
fn a_turn_server_that_is_dead_harms_nobody_and_is_named() {
    let mut turn = Turn::start();
    turn.kill();
    let ingest = ingest(&[turn.url("udp"), turn.url("tcp")], "");
    let publisher = Publisher::start(&ingest.url());
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    let warning = warning(&ingest);
    assert!(warning.contains("TURN server turn:") && !warning.contains(PASSWORD), "{warning}");
    publisher.delete();
}

#[test]
fn relays_only_without_a_relay_is_an_error_that_says_what_to_write() {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let element = gst::parse::launch("webrtcingest uri=whip://127.0.0.1:0/whip/live ice-transport-policy=relay");
    let element = element.expect("the element");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error");
    let _ = element.set_state(gst::State::Null);
    let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
    assert!(error.error().to_string().contains("turn-servers=\"<(string)turn://"), "{}", error.error());
}
