//! Clients that take their time over a request, or make it too large, are let go and keep nobody out.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::whip_support::{Response, Served, TIMEOUT, exchange, offer};

/// A connection with the beginning of a request.
fn begun(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT * 2)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Sends `drop` again and again until the server has had enough; how long that took, and what it said.
fn drip(mut stream: TcpStream, drop: &str) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 1024];
    while start.elapsed() < TIMEOUT * 2 {
        match stream.read(&mut buffer) {
            Ok(0) => return (start.elapsed(), answer),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                let _ = stream.write_all(drop.as_bytes());
            }
            Err(_) => return (start.elapsed(), answer), // reset
        }
    }
    panic!("the server waits for ever; it said {}", String::from_utf8_lossy(&answer));
}

#[test]
fn who_sends_a_request_by_drops_is_let_go_and_keeps_nobody_out() {
    let server = Served::new("/whip/a");
    let headers = "POST /whip/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n";
    let body = format!("{headers}Content-Length: 60000\r\n\r\n");
    let dripping: Vec<_> = [("", "P"), (headers, "X-A: b\r\n"), (&body, "v")]
        .map(|(begin, drop)| (begin.to_owned(), drop.to_owned()))
        .into_iter()
        .map(|(begin, drop)| {
            let stream = begun(server.addr(), &begin);
            std::thread::spawn(move || drip(stream, &drop))
        })
        .collect();
    assert_eq!(server.post(&offer(1)).status, 201, "others are served meanwhile");
    for dripping in dripping {
        let (took, answer) = dripping.join().unwrap();
        assert!(took >= Duration::from_secs(5), "who is on a slow network has time; {took:?}");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 40"), "{answer}");
    }
    assert_eq!(server.answerer.offers.lock().unwrap().len(), 1, "nothing but the whole offer was handed on");
}

#[test]
fn headers_are_bounded_in_size_and_number() {
    let server = Served::new("/whip/a");
    let request = |headers: &str| {
        let answer =
            exchange(server.addr(), &format!("GET /whip/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"));
        // A connection may be cut off while the client still writes.
        (!answer.is_empty()).then(|| Response::parse(&answer).status)
    };
    assert_eq!(request("X-A: b\r\n"), Some(204));
    assert_eq!(request(&format!("X-A: {}\r\n", "b".repeat(16_000))), Some(204), "as long as no token is");
    for headers in [
        format!("X-A: {}\r\n", "b".repeat(40_000)),
        format!("X-A: {}\r\n", "b".repeat(2_000_000)),
        "X-A: b\r\n".repeat(10_000),
    ] {
        let status = request(&headers);
        assert!(status.is_none_or(|status| status == 431), "{status:?} for {} bytes", headers.len());
    }
    assert_eq!(server.post(&offer(1)).status, 201);
}
