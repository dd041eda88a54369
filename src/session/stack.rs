//! How the WebRTC stack is set up for one session: its codecs, its interceptors, its times.

use std::{collections::HashSet, time::Duration};

use rtc::{
    ice::mdns::MulticastDnsMode,
    interceptor::Interceptor,
    peer_connection::{configuration::setting_engine::SctpMaxMessageSize, transport::RTCDtlsRole},
    rtp_transceiver::rtp_sender::{RTCRtpHeaderExtensionCapability, RtpCodecKind},
};
use webrtc::peer_connection::{
    MediaEngine, Registry, SettingEngine, SettingEngineBuilder, configure_rtcp_reports,
    configure_simulcast_extension_headers, configure_twcc_receiver_only,
};

use super::{
    connection::SessionError,
    data::LARGEST_MESSAGE,
    egress::{self, Outlet},
    nacks::{LOOKED_BACK, with_nacks},
    rtx::{self, RtxUnwrap},
    tap,
    track::Track,
    watcher::LINGER,
};
use crate::codec::{Codec, DEPENDENCY_DESCRIPTOR_URI, MediaKind};

/// 20 ms and 70 tries: a loopback connect takes 25 ms instead of 205, and a peer has 1.4 s for each candidate as before.
const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(20);
const ICE_CHECKS: u16 = 70;
/// A peer that vanishes is noticed within 10 s: ICE looks every second (its keepalive) and sees a disconnect after 3 s of
/// silence, and the watcher gives up 4 s later. At 10 % loss each way one check in five is not answered, and none is sent again.
pub(super) const ICE_DISCONNECTED: Duration = Duration::from_secs(3);
const ICE_KEEPALIVE: Duration = Duration::from_secs(1);

/// The codecs of the tracks and nothing else, so that the answer names one for each.
pub(super) fn media_engine<'a>(tracks: impl IntoIterator<Item = &'a Track>) -> Result<MediaEngine, SessionError> {
    let mut engine = MediaEngine::default();
    let mut known = HashSet::new();
    let mut has_layers = false;
    for track in tracks {
        has_layers |= track.codec == Codec::Av1;
        // A section that carries both directions has one track for each.
        if !known.insert((track.kind(), track.payload_type)) {
            continue;
        }
        let kind = match track.kind() {
            MediaKind::Audio => RtpCodecKind::Audio,
            MediaKind::Video => RtpCodecKind::Video,
        };
        for parameters in track.codec_parameters() {
            engine.register_codec(parameters, kind)?;
        }
    }
    if has_layers {
        describe_layers(&mut engine)?;
    }
    Ok(engine)
}

/// Has frames tell their layers in a header extension: for AV1, whose payloads do not.
pub(super) fn describe_layers(engine: &mut MediaEngine) -> Result<(), SessionError> {
    let uri = DEPENDENCY_DESCRIPTOR_URI.to_owned();
    engine.register_header_extension(RTCRtpHeaderExtensionCapability { uri }, RtpCodecKind::Video, None)?;
    Ok(())
}

/// From the wire to the application: arrivals reported, RTX unwrapped, losses asked for, media tapped.
pub(super) fn interceptors(
    engine: &mut MediaEngine,
    unwrap: RtxUnwrap,
    tap: impl Interceptor + 'static,
) -> Result<Registry, SessionError> {
    header_extensions(engine)?;
    let registry = configure_twcc_receiver_only(configure_rtcp_reports(Registry::new()), engine)?;
    Ok(with_nacks(registry, &unwrap.known()).with(rtx::slot(), unwrap).with(tap::slot(), tap))
}

/// For a session that only sends: nothing comes that would have to be recovered or measured.
pub(super) fn sending_interceptors(engine: &mut MediaEngine) -> Result<Registry, SessionError> {
    header_extensions(engine)?;
    // The receiver is left out again; what it registers in the engine is what a sender needs to be reported to.
    configure_twcc_receiver_only(Registry::new(), engine)?;
    Ok(Registry::new())
}

/// With what sends, next to the wire.
pub(super) fn with_egress(registry: Registry, egress: Option<&Outlet>) -> Registry {
    match egress {
        Some(outlet) => registry.with(egress::slot(), outlet.tap()),
        None => registry,
    }
}

fn header_extensions(engine: &mut MediaEngine) -> Result<(), SessionError> {
    configure_simulcast_extension_headers(engine)?;
    engine.register_header_extension(
        RTCRtpHeaderExtensionCapability { uri: rtc::sdp::extmap::SDES_MID_URI.to_owned() },
        RtpCodecKind::Audio,
        None,
    )?;
    Ok(())
}

pub(super) fn settings(offer: &str, connect_timeout: Duration) -> SettingEngine {
    // ICE would fail a peer that has not connected after the sum of both; the watcher's own times are to be the shorter.
    let failed = connect_timeout.max(LINGER) + LINGER;
    SettingEngineBuilder::new()
        .with_answering_dtls_role(dtls_role(offer))
        .with_ice_connection_attempts(Some(ICE_CHECK_INTERVAL), Some(ICE_CHECKS))
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(failed), Some(ICE_KEEPALIVE))
        .with_include_loopback_candidate(true)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(LARGEST_MESSAGE as u32))
        // Without RTX what is repeated is the packet itself, which the usual window of 64 refuses as a replay once 64 newer ones
        // have come: 50 ms of 10 Mbit/s.
        .with_srtp_replay_protection_window(LOOKED_BACK.into())
        // Of what data channels carry some 440 records may be on their way: one that comes behind 64 others would be lost.
        .with_dtls_replay_protection_window(LOOKED_BACK.into())
        // It would bind port 5353, and ask the mux for a socket of its own.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build()
}

/// Our DTLS role. The stack would answer `active` to `active` and then wait for ever (RFC 8842 section 5.3 wants the other
/// one). Where the peer leaves the choice we are the client, which saves a round trip; but for data channels alone: as the
/// client the stack hears no INIT of SCTP, and aiortc answers none of ours while it waits for that.
fn dtls_role(offer: &str) -> RTCDtlsRole {
    let mut sections = offer.lines().filter(|line| line.starts_with("m=")).peekable();
    let has_data_alone = sections.peek().is_some() && sections.all(|line| line.starts_with("m=application "));
    match offer.lines().find_map(|line| line.strip_prefix("a=setup:")).map(str::trim) {
        Some("active") => RTCDtlsRole::Server,
        Some("actpass") if has_data_alone => RTCDtlsRole::Server,
        _ => RTCDtlsRole::Client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_decides_who_opens_the_handshake() {
        for (setup, role) in [
            ("a=setup:active\r\n", RTCDtlsRole::Server),
            ("a=setup:passive\r\n", RTCDtlsRole::Client),
            ("a=setup:actpass\r\n", RTCDtlsRole::Client),
            ("", RTCDtlsRole::Client),
        ] {
            assert_eq!(dtls_role(&format!("v=0\r\n{setup}m=audio 9 x 0\r\n")), role, "{setup}");
        }
        let data = "v=0\r\nm=application 9 x y\r\na=setup:actpass\r\n";
        assert_eq!(dtls_role(data), RTCDtlsRole::Server);
        assert_eq!(dtls_role(&data.replace("actpass", "passive")), RTCDtlsRole::Client);
        assert_eq!(dtls_role(&format!("{data}m=audio 9 x 0\r\n")), RTCDtlsRole::Client);
    }
}
