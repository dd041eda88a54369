//! What strangers send to the ports does no harm: to the stream that is live, and to the one that comes after.

use std::net::UdpSocket;

use crate::common::{
    SOON,
    bridge::Bridge,
    free_udp_port, half_open, http,
    ingest::Ingest,
    nginx::Nginx,
    publisher::{Options, Publisher},
    wait_until,
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
fn an_offer_with_lines_that_only_some_parsers_see_is_refused_and_the_element_lives() {
    let ingest = Ingest::start("");
    let good = half_open::offer(&[]);
    let candidate = "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";
    for hidden in
        [format!("a=x\r{candidate}"), "a=x\rm=video 9 UDP/TLS/RTP/SAVPF 96".into(), format!(" {candidate}"), "m".into()]
    {
        let (status, kind, problem) = post(&ingest.url(), &format!("{good}{hidden}\r\n"), None);
        assert_eq!((status, kind.as_str()), (400, "application/problem+json"), "{hidden:?}: {problem}");
        assert!(problem.contains("is not of the form x=value"), "{problem}");
    }
    let publisher = Publisher::start(&ingest.url());
    wait_until("frames", SOON, || (ingest.frames() > 60).then_some(()));
    publisher.delete();
    assert_eq!(post(&ingest.url(), &good, None).0, 201, "what is hidden was the only fault");
}

#[test]
fn an_offer_that_the_stack_refuses_leaves_the_live_publisher_and_its_pads_alone() {
    // With a token a good offer would take over at once.
    let ingest = Ingest::start("auth-token=right");
    let token = Some("right".to_owned());
    let publisher = Publisher::start_with(&ingest.url(), Options { token: token.clone(), ..Options::default() });
    wait_until("frames", SOON, || (ingest.frames() > 60).then_some(()));
    let pads = ingest.pads();
    // Nothing that we look at is wrong with these; the stack takes them for what they are.
    let good = half_open::offer(&[]);
    let bad_candidate = half_open::offer(&["1 1 udp 1 192.0.2.1 5000 typ hearsay".into()]);
    let without_mid = good.replace("a=mid:0\r\n", "").replace("a=group:BUNDLE 0\r\n", "");
    for offer in [bad_candidate, without_mid] {
        let (status, _, problem) = post(&ingest.url(), &offer, token.as_deref());
        assert_eq!(status, 400, "{problem}");
    }
    let after = ingest.frames();
    wait_until("frames after the refusal", SOON, || (ingest.frames() > after + 160).then_some(()));
    assert_eq!((ingest.pads(), ingest.started(), ingest.has_ended()), (pads, 1, None));
    assert_eq!(ingest.state(), "connected");
    publisher.assert_unharmed();
    publisher.delete();
}

/// Status, media type and text of the answer to an offer.
fn post(url: &str, offer: &str, token: Option<&str>) -> (u16, String, String) {
    let mut request = http().post(url).header("Content-Type", "application/sdp");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.send(offer).expect("an answer");
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
    let body = response.body_mut().read_to_string().expect("a body");
    (response.status().as_u16(), kind.unwrap_or_default(), body)
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

/// The stack adds to the length of a congestion report in 16 bits; what it looks at before is that the report is all there,
/// which it cannot be: a datagram has at most 65,507 bytes.
#[test]
fn a_report_that_claims_to_be_larger_than_any_datagram_is_refused_before_anybody_adds_to_its_length() {
    for (size, kind) in [12, 24, 65_507].into_iter().flat_map(|size| (0..32_u8).map(move |kind| (size, kind))) {
        for packet_type in 200..=207 {
            let mut report = vec![0x80 | kind, packet_type, 0xFF, 0xFF];
            report.resize(size, 1);
            assert!(rtc::rtcp::packet::unmarshal(&mut &report[..]).is_err(), "{packet_type}/{kind} of {size} bytes");
        }
    }
}
