//! What strangers send to the ports does no harm: to the stream that is live, and to the one that comes after.

mod common;

use std::net::UdpSocket;

use common::{
    SOON,
    bridge::Bridge,
    free_udp_port, http,
    nginx::Nginx,
    publisher::{Options, Publisher},
};

#[test]
fn malformed_offers_are_refused_and_the_next_good_one_is_taken() {
    let nginx = Nginx::start();
    let mut bridge = Bridge::start(&nginx, "key");
    let huge = "a=x\r\n".repeat(200_000);
    let deep = format!("v=0\r\n{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(2000));
    let bare = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n\
                a=rtpmap:96 VP8/90000\r\na=sendonly\r\n";
    for offer in ["", "nonsense", "v=0\r\n", "\0\0\0", &huge, &deep, bare] {
        let text: String = offer.chars().take(40).collect();
        match http().post(&bridge.url()).header("Content-Type", "application/sdp").send(offer) {
            Ok(response) => {
                let status = response.status().as_u16();
                assert!((400..500).contains(&status), "{status} for {text:?}");
            }
            // A body far too large may be cut off instead of answered.
            Err(error) => assert!(offer.len() > 100_000, "{error} for {text:?}"),
        }
    }
    let status =
        http().post(&bridge.url()).header("Content-Type", "text/plain").send("v=0\r\n").expect("answer").status();
    assert_eq!(status.as_u16(), 415);

    let publisher = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    assert!(bridge.launch.is_running());
    publisher.delete();
    bridge.launch.end_cleanly();
}

#[test]
fn an_offer_that_cannot_be_answered_leaves_the_live_publisher_alone() {
    let nginx = Nginx::start();
    // With a token a good offer would take over at once.
    let bridge = Bridge::start_with(&nginx, "key", "auth-token=right", "");
    let token = Some("right".to_owned());
    let publisher = Publisher::start_with(&bridge.url(), Options { token, ..Options::default() });
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    let head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
                a=fingerprint:sha-256 00:11\r\n";
    let section = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=sendonly\r\na=rtpmap:96 H266/90000\r\n";
    let request = http().post(&bridge.url()).header("Content-Type", "application/sdp");
    let mut response =
        request.header("Authorization", "Bearer right").send(format!("{head}{section}")).expect("an answer");
    let problem = response.body_mut().read_to_string().expect("a body");
    assert_eq!(response.status().as_u16(), 422, "{problem}");
    assert!(problem.contains("H266"), "{problem}");
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(3, 3));
    publisher.assert_unharmed();
    assert_eq!(nginx.publishes("key"), 1);
}

#[test]
fn garbage_on_the_media_port_is_ignored() {
    let nginx = Nginx::start();
    let udp = free_udp_port();
    let mut bridge = Bridge::start_with(&nginx, "key", &format!("ice-udp-port={udp}"), "");
    let publisher = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));

    let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
    for first in 0..=255_u8 {
        for length in [1_usize, 12, 20, 1200] {
            let datagram: Vec<u8> = (0..length).map(|i| first ^ i.to_le_bytes()[0]).collect();
            let _ = socket.send_to(&datagram, ("127.0.0.1", udp));
        }
    }
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(3, 3));
    publisher.assert_unharmed();
    assert!(bridge.launch.is_running());
    assert_eq!(nginx.publishes("key"), 1);
    publisher.delete();
    bridge.launch.end_cleanly();
}
