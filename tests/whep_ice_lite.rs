//! A WHEP server with ICE lite: it answers our checks and makes none, so it is known by its answers alone.

mod common;

use std::sync::Arc;

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use common::{
    SOON,
    lossy::{Direction, LossyPath},
    wait_until,
};
use gst::prelude::*;
use rtc::{
    media_stream::MediaStreamTrack,
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
    },
};
use webrtc::{
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
        SettingEngineBuilder,
    },
};

struct Quiet;

impl PeerConnectionEventHandler for Quiet {}

/// A connection that answers the offer as a lite agent with one audio track.
async fn lite(offer: String) -> (Arc<dyn PeerConnection>, String) {
    let codec = RTCRtpCodec {
        mime_type: "audio/opus".into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        rtcp_feedback: Vec::new(),
    };
    let mut engine = MediaEngine::default();
    let format = RTCRtpCodecParameters { rtp_codec: codec.clone(), payload_type: 114 };
    engine.register_codec(format, RtpCodecKind::Audio).expect("a codec");
    let settings = SettingEngineBuilder::new().with_lite(true).with_include_loopback_candidate(true).build();
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_handler(Arc::new(Quiet))
        .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
        .build()
        .await
        .expect("a connection");
    let coding = RTCRtpCodingParameters { ssrc: Some(7), ..Default::default() };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() };
    let track = MediaStreamTrack::new("s".into(), "t".into(), "l".into(), RtpCodecKind::Audio, vec![encoding]);
    let track: Arc<dyn TrackLocal> = Arc::new(TrackLocalStaticRTP::new(track));
    connection.add_track(track).await.expect("a track");
    connection.set_remote_description(RTCSessionDescription::offer(offer).expect("an offer")).await.expect("taken");
    let answer = connection.create_answer(None).await.expect("an answer");
    connection.set_local_description(answer).await.expect("set");
    let sdp = loop {
        let sdp = connection.local_description().await.expect("a description").sdp;
        if sdp.contains("a=candidate") {
            break sdp;
        }
        tokio::task::yield_now().await;
    };
    (Arc::new(connection), sdp)
}

#[test]
fn a_server_that_only_answers_is_connected_to() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("whep://{}/live", listener.local_addr().expect("an address"));
    let answer = |offer: String| async move {
        let offer: String = offer.split_inclusive('\n').filter(|line| !line.starts_with("a=candidate")).collect();
        let (connection, sdp) = Box::pin(lite(offer)).await;
        assert!(sdp.contains("a=ice-lite"), "{sdp}");
        std::mem::forget(connection); // for as long as the test runs
        // The stack's lite agent does make checks all the same: none of them arrives.
        let sdp =
            LossyPath::new(|direction, datagram| direction == Direction::ToPublisher && datagram.starts_with(&[0, 1]))
                .reroute(&sdp);
        (StatusCode::CREATED, [("location", "/session"), ("content-type", "application/sdp")], sdp).into_response()
    };
    let router =
        axum::Router::new().route("/live", post(async move |offer: String| -> Response { answer(offer).await }));
    runtime.spawn(async move { axum::serve(listener, router).await });

    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let pipeline =
        gst::parse::launch(&format!("webrtcingest name=in uri={url} in.audio_0 ! fakesink")).expect("a pipeline");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("playing");
    let element = pipeline.by_name("in").expect("the element");
    wait_until("the connection", SOON, || {
        let state = element.property_value("connection-state");
        let (_, state) = gst::glib::EnumValue::from_value(&state).expect("an enum");
        (state.nick() == "connected").then_some(())
    });
    pipeline.set_state(gst::State::Null).expect("null");
}
