//! A WHEP server with ICE lite (RFC 8445 section 2.5): it answers our checks and makes none, so that its address is known
//! by its answers alone.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use axum::{http::StatusCode, response::IntoResponse as _, routing::post};
use gst::prelude::*;
use rtc::stun::{
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_SUCCESS, Message, Setter, TransactionId},
    xoraddr::XorMappedAddress,
};

use crate::common::SOON;

const PASSWORD: &str = "0123456789012345678901";

fn answer(media: SocketAddr) -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE 1\r\n\
         m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=inactive\r\na=rtpmap:96 H264/90000\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 114\r\nc=IN IP4 127.0.0.1\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\na=setup:passive\r\n\
         a=ice-ufrag:lite\r\na=ice-pwd:{PASSWORD}\r\na=fingerprint:sha-256 {fingerprint}\r\na=rtpmap:114 opus/48000/2\r\n\
         a=candidate:1 1 udp 2130706431 127.0.0.1 {} typ host\r\na=end-of-candidates\r\n",
        media.port()
    )
}

/// The success response to a check.
fn response(check: &[u8], from: SocketAddr) -> Vec<u8> {
    let transaction = TransactionId(check[8..20].try_into().expect("an ID"));
    let provider = rtc::crypto::default_provider().expect("crypto");
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(PASSWORD.to_owned(), provider.crypto());
    let mapped = XorMappedAddress { ip: from.ip(), port: from.port() };
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_SUCCESS),
        Box::new(transaction),
        Box::new(mapped),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).expect("a message");
    message.raw
}

#[test]
fn a_server_that_only_answers_gets_the_handshake() {
    let media = UdpSocket::bind("127.0.0.1:0").expect("a port");
    media.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let address = media.local_addr().expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("whep://{}/live", listener.local_addr().expect("an address"));
    let created = move || async move {
        let headers = [("location", "/session"), ("content-type", "application/sdp")];
        (StatusCode::CREATED, headers, answer(address)).into_response()
    };
    let router = axum::Router::new().route("/live", post(created));
    runtime.spawn(async move { axum::serve(listener, router).await });

    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let pipeline = gst::parse::launch(&format!("webrtcingest uri={url} ! fakesink")).expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("playing");

    let (mut buffer, end) = ([0; 2048], Instant::now() + SOON);
    loop {
        assert!(Instant::now() < end, "no DTLS: our checks' answers did not arrive");
        let Ok((length, from)) = media.recv_from(&mut buffer) else { continue };
        match &buffer[..length] {
            check @ [0, 1, ..] => drop(media.send_to(&response(check, from), from)),
            // A handshake record (RFC 7983): ICE has come to its end.
            [22, ..] => break,
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).expect("null");
}
