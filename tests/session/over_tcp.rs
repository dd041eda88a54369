//! Peers whose network lets no UDP out connect by TCP (RFC 6544), to the port that has the number of the UDP port.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::common::{
    SOON,
    framed::{FramedPath, address, passive_candidates, with_candidates},
    half_open,
    ingest::Ingest,
    publisher::{Options, Publisher},
    wait_until, whip,
};

fn answer_to(url: &str, options: Options) -> (Publisher, String, whip::Resource) {
    let (publisher, offer) = Publisher::describe(options);
    let (resource, answer) = whip::post(url, None, &offer).unwrap_or_else(|r| panic!("refused: {}", r.body));
    (publisher, answer, resource)
}

#[test]
fn media_comes_over_tcp_when_nothing_else_does() {
    let ingest = Ingest::start("ice-tcp=true");
    let options = Options { candidates: false, ..Options::default() };
    let (publisher, answer, _resource) = answer_to(&ingest.url(), options);
    let (path, answer) = FramedPath::reroute(&answer);
    publisher.accept(&answer);
    wait_until("frames", SOON, || (ingest.frames() > 90).then_some(()));
    assert!(path.carried() > 90, "{} datagrams went by TCP", path.carried());
    publisher.assert_unharmed();
}

#[test]
fn libnice_connects_to_the_passive_candidate_by_itself() {
    let ingest = Ingest::start("ice-tcp=true");
    let (publisher, answer, _resource) = answer_to(&ingest.url(), Options::default());
    publisher.accept(&with_candidates(&answer, |line| line.contains(" tcp ")));
    wait_until("frames", SOON, || (ingest.frames() > 90).then_some(()));
    publisher.assert_unharmed();
}

#[test]
fn the_tcp_port_has_the_number_of_the_udp_port_and_is_announced_last() {
    let ingest = Ingest::start("ice-tcp=true public-addresses=\"<(string)203.0.113.7>\"");
    let answer = half_open::post(&ingest.url(), &[]);
    let port = ingest.stats().get::<u32>("udp-port").expect("a port");
    let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("a=candidate:")).collect();
    assert_eq!(lines.len(), 2, "{answer}");
    assert!(lines[1].ends_with(&format!(" 203.0.113.7 {port} typ host tcptype passive")), "{answer}");
    let without = Ingest::start("");
    assert!(passive_candidates(&half_open::post(&without.url(), &[])).is_empty());
}

#[test]
fn who_speaks_no_ice_is_closed_at_once() {
    let ingest = Ingest::start("ice-tcp=true");
    let answer = half_open::post(&ingest.url(), &[]);
    let bridge = address(passive_candidates(&answer)[0]);
    // A frame of four bytes that is no check, and one whose end never comes.
    for said in [&b"\x00\x04GET "[..], b"\xff\xffGET / HTTP/1.1\r\n"] {
        let mut stream = TcpStream::connect(bridge).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.write_all(said).expect("written");
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() && !matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock), "{end:?}");
    }
}

#[test]
fn one_address_cannot_take_all_connections() {
    let ingest = Ingest::start("ice-tcp=true");
    let answer = half_open::post(&ingest.url(), &[]);
    let bridge = address(passive_candidates(&answer)[0]);
    let open: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(bridge).expect("a connection")).collect();
    let is_closed = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        matches!(stream.read(&mut [0]), Ok(0))
    };
    wait_until("some to be closed", Duration::from_secs(4), || {
        let closed = open.iter().filter(|stream| is_closed(stream)).count();
        (closed >= 8).then_some(())
    });
}
