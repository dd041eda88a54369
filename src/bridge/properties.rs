//! What the properties mean that the elements have in common: texts and arrays, checked, each named when it is wrong.

use std::{net::IpAddr, path::PathBuf};

use gst::prelude::*;

use crate::{
    codec::{Codec, MediaKind},
    rtp,
    session::{CodecPreferences, UdpPorts},
    signaling::{IceServer, TlsFiles, TrustedProxies},
};

/// What is said when `uri` is set of an element that is started.
pub(crate) const URI_IN_USE: &str =
    "uri can be changed in NULL and READY only: what is set now is used from the next start on";

/// The STUN server and the TURN servers that peers are told of.
pub(crate) fn ice_servers(stun: Option<&str>, turn: &gst::Array) -> Result<Vec<IceServer>, String> {
    let mut servers = Vec::new();
    // A launch line's empty default means none.
    if let Some(stun) = stun.filter(|stun| !stun.is_empty()) {
        servers.push(ice_server("stun-server", stun, &["stun"])?);
    }
    let turn = strings("turn-servers", turn).collect::<Result<Vec<_>, _>>()?;
    for (index, turn) in turn.iter().flat_map(|turn| IceServer::several(turn)).enumerate() {
        // Its text may be nothing but a password that lacks the rest, and is not shown then.
        servers.push(ice_server(&format!("turn-servers, number {}", index + 1), turn, &["turn", "turns"])?);
    }
    Ok(servers)
}

fn ice_server(property: &str, text: &str, schemes: &[&str]) -> Result<IceServer, String> {
    // A STUN server has no password, so that all of what is wrong can be shown.
    let shown = match schemes {
        ["stun"] if !text.contains('@') => text.to_owned(),
        _ => IceServer::redacted(text),
    };
    if !schemes.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://"))) {
        return Err(format!("{property}: \"{shown}\" must begin with {}://", schemes.join(":// or ")));
    }
    IceServer::parse(text).map_err(|error| format!("{property}: \"{shown}\": {error}"))
}

/// TURN servers without their passwords.
pub(crate) fn redacted_turn_servers(servers: &gst::Array) -> gst::Array {
    let redacted = |server: &gst::glib::SendValue| server.get().map(|server: String| IceServer::redacted(&server)).ok();
    gst::Array::new(servers.iter().filter_map(redacted))
}

/// Each element of an array of strings.
pub(crate) fn strings<'a>(
    property: &'a str,
    array: &'a gst::Array,
) -> impl Iterator<Item = Result<String, String>> + 'a {
    array
        .iter()
        .map(move |value| value.get::<String>().map_err(|_| format!("{property} holds something that is no string")))
}

/// Proxies that are believed who the client is.
pub(crate) fn trusted_proxies(array: &gst::Array) -> Result<TrustedProxies, String> {
    let proxies: Vec<String> = strings("trusted-proxies", array).collect::<Result<_, _>>()?;
    let proxies = proxies.iter().map(String::as_str).filter(|proxy| !proxy.is_empty());
    TrustedProxies::parse(proxies).map_err(|error| format!("trusted-proxies: {error}"))
}

/// The codecs of both kinds.
pub(crate) fn codecs(video: &gst::Array, audio: &gst::Array) -> Result<CodecPreferences, String> {
    Ok(CodecPreferences {
        video: codecs_of("video-codecs", video, MediaKind::Video)?,
        audio: codecs_of("audio-codecs", audio, MediaKind::Audio)?,
    })
}

fn codecs_of(property: &str, array: &gst::Array, kind: MediaKind) -> Result<Vec<Codec>, String> {
    strings(property, array)
        .map(|name| {
            let codec: Codec = name?.parse().map_err(|error| format!("{property}: {error}"))?;
            (codec.kind() == kind).then_some(codec).ok_or_else(|| format!("{property}: {codec} is no {kind} codec"))
        })
        .collect()
}

/// The names of codecs, as properties hold them.
pub(crate) fn codec_names(codecs: Vec<Codec>) -> gst::Array {
    gst::Array::new(codecs.into_iter().map(|codec| codec.name()))
}

/// The codecs that this machine has the elements for, and why others are missing. That is an error only if nothing of a
/// kind is left.
pub(crate) fn receivable(mut codecs: CodecPreferences) -> Result<(CodecPreferences, Vec<String>), String> {
    let mut all_missing = Vec::new();
    for list in [&mut codecs.video, &mut codecs.audio] {
        let mut missing = None;
        list.retain(|codec| match rtp::missing(*codec) {
            None => true,
            Some(error) => {
                all_missing.push(format!("{codec} cannot be received: {error}"));
                missing = Some(error);
                false
            }
        });
        if let (true, Some(error)) = (list.is_empty(), missing) {
            return Err(error.to_string());
        }
    }
    Ok((codecs, all_missing))
}

/// The addresses to announce.
pub(crate) fn addresses(array: &gst::Array) -> Result<Vec<IpAddr>, String> {
    strings("public-addresses", array)
        .map(|address| {
            let address = address?;
            address.parse().map_err(|_| format!("public-addresses: \"{address}\" is no IP address"))
        })
        .collect()
}

/// The UDP port for media, or the range to take it from.
pub(crate) fn udp_ports(port: u32, range: Option<&str>) -> Result<UdpPorts, String> {
    let port = u16::try_from(port).map_err(|_| "ice-udp-port is above 65535".to_owned())?;
    // A launch line's empty default means none.
    match (port, range.filter(|range| !range.is_empty())) {
        (0, None) => Ok(UdpPorts::Any),
        (port, None) => Ok(UdpPorts::One(port)),
        (0, Some(range)) => range.parse().map_err(|error| format!("ice-udp-port-range: {error}")),
        (port, Some(range)) => {
            Err(format!("ice-udp-port={port} and ice-udp-port-range={range} are both set: leave one of them out"))
        }
    }
}

/// A certificate and its key.
pub(crate) fn tls_files(certificate: &str, key: &str) -> TlsFiles {
    TlsFiles { certificate: PathBuf::from(certificate), key: PathBuf::from(key) }
}

/// What the connection of a session is made with: the bin's own properties, not those of elements in the session.
const OWNED: &[&str] = &[
    "auth-token",
    "stun-server",
    "turn-servers",
    "ice-udp-port",
    "ice-udp-port-range",
    "public-addresses",
    "ice-tcp",
    "ice-transport-policy",
    "tls-certificate",
    "tls-key",
    "video-codecs",
    "audio-codecs",
    "max-bitrate",
    "connect-timeout",
];

/// The properties that somebody set on an element in a session, to no effect there.
pub(crate) fn ignored_in_session(element: &gst::Element) -> Vec<&'static str> {
    let fresh = gst::glib::Object::with_type(element.type_()).downcast::<gst::Element>();
    let Ok(fresh) = fresh else { return Vec::new() };
    let is_set = |name: &&&str| {
        let value = |of: &gst::Element| of.find_property(name).map(|_| of.property_value(name));
        match (value(element), value(&fresh)) {
            (Some(set), Some(default)) => set.compare(&default) != Some(std::cmp::Ordering::Equal),
            _ => false,
        }
    };
    OWNED.iter().filter(is_set).copied().collect()
}
