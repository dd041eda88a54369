//! Servers that ask for a password, and servers that mean no good: scripted, byte by byte.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    neighbour::Neighbour,
    rtmp_support::{KEY, Pipeline, wait_for},
};

const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! sink.video rtmpbridgesink name=sink";

/// Runs a script on each connection, which is told the connection's number; the port.
fn serve(script: impl Fn(usize, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let script = Arc::new(script);
        for (number, stream) in listener.incoming().enumerate() {
            let script = script.clone();
            std::thread::spawn(move || script(number, &mut stream.unwrap())); // ends with the connection
        }
    });
    port
}

/// The server's side of the handshake.
fn shake_hands(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut packets = [0; 1 + 1536];
    stream.read_exact(&mut packets)?;
    stream.write_all(&packets)?;
    stream.write_all(&packets[1..])?;
    stream.read_exact(&mut packets[1..])
}

/// The body of the message that comes next, of chunks of 128 bytes.
fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut header = [0; 12];
    stream.read_exact(&mut header)?;
    let length = u32::from_be_bytes([0, header[4], header[5], header[6]]) as usize;
    let mut bytes = vec![0; length + (length - 1) / 128];
    stream.read_exact(&mut bytes)?;
    Ok(bytes.chunks(129).flat_map(|chunk| &chunk[..chunk.len().min(128)]).copied().collect())
}

/// Says no to connect, with a description.
fn reject(stream: &mut TcpStream, description: &str) -> std::io::Result<()> {
    let mut body =
        b"\x02\0\x06_error\0\x3f\xf0\0\0\0\0\0\0\x05\x03\0\x05level\x02\0\x05error\0\x04code\x02\0\x1e".to_vec();
    body.extend(b"NetConnection.Connect.Rejected\0\x0bdescription\x02");
    body.extend((description.len() as u16).to_be_bytes());
    body.extend(description.as_bytes());
    body.extend([0, 0, 9]);
    let mut bytes = vec![3, 0, 0, 0, 0];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend([20, 0, 0, 0, 0]);
    for (index, chunk) in body.chunks(128).enumerate() {
        bytes.extend(&[0xc3][..usize::from(index > 0)]);
        bytes.extend(chunk);
    }
    stream.write_all(&bytes)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// What the sink says of a server after its first attempt. Another stream of the process does not notice.
fn retries_with(port: u16, more: &str) -> String {
    let neighbour = Neighbour::start();
    let url = format!("rtmp://127.0.0.1:{port}/live/{KEY}");
    let mut pipeline = Pipeline::start(&format!("{LIVE} location={url} reconnect-min=5000 {more}"));
    let reason = pipeline.wait_for_state("retrying");
    neighbour.assert_unharmed();
    reason
}

#[test]
fn server_of_another_protocol_is_told_as_such() {
    let port = serve(|_, stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(|_| ())
    });
    let reason = retries_with(port, "");
    assert!(reason.contains("does not speak RTMP"), "{reason}");
}

#[test]
fn message_of_16_megabytes_is_not_waited_for() {
    let port = serve(|_, stream| {
        shake_hands(stream)?;
        stream.write_all(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff])?;
        stream.write_all(&[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0])?;
        stream.read_to_end(&mut Vec::new()).map(|_| ())
    });
    let reason = retries_with(port, "");
    assert!(reason.contains("too long"), "{reason}");
}

#[test]
fn server_that_asks_and_asks_is_left() {
    let port = serve(|_, stream| {
        shake_hands(stream)?;
        let pings = [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 1, 2, 3, 4].repeat(1000);
        loop {
            stream.write_all(&pings)?;
        }
    });
    let reason = retries_with(port, "connect-timeout=15000");
    assert!(reason.contains("asks too much"), "{reason}");
}

#[test]
fn server_that_never_stops_talking_does_not_hold_up_connect_timeout() {
    let port = serve(|_, stream| {
        shake_hands(stream)?;
        let acknowledgements = [2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 1].repeat(1000);
        loop {
            stream.write_all(&acknowledgements)?;
        }
    });
    assert_eq!(retries_with(port, "connect-timeout=300"), "no connection within connect-timeout");
}

#[test]
fn server_that_asks_for_a_password_gets_its_answers_and_no_password() {
    let connections = Arc::new(AtomicUsize::new(0));
    let port = serve({
        let connections = connections.clone();
        move |number, stream| {
            shake_hands(stream)?;
            let connect = message(stream)?;
            assert!(!contains(&connect, "p455w0rd"));
            connections.fetch_add(1, Ordering::SeqCst);
            match number {
                0 => reject(stream, "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ")?,
                1 if contains(&connect, "live?authmod=adobe&user=bob") => reject(
                    stream,
                    "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=bob&salt=s&challenge=c&opaque=o",
                )?,
                2 if contains(&connect, "&response=") && contains(&connect, "&opaque=o") => reject(
                    stream,
                    &format!("[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed&user=bob&key={KEY}"),
                )?,
                _ => return Ok(()),
            }
            stream.read_to_end(&mut Vec::new()).map(|_| ())
        }
    });
    let url = format!("rtmp://bob:p455w0rd@127.0.0.1:{port}/live/{KEY}");
    let mut pipeline = Pipeline::start(&format!("{LIVE} location={url}"));
    let reason = pipeline.wait_for_state("refused");
    assert!(reason.contains("does not take this user name and password"), "{reason}");
    let error = pipeline.wait_for_error();
    assert!(!error.contains(KEY) && !error.contains("p455w0rd"), "{error}");
    wait_for("three connections", || connections.load(Ordering::SeqCst) == 3);
}
