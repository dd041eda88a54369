//! Properties as they are set, and what READY→PAUSED makes of them.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use gst::glib;

pub(super) use crate::bridge::ConnectionState;
use crate::{
    bridge::{IceTransportPolicy, Peer, properties, reach},
    session::{CodecPreferences, ReachConfig, UdpPorts},
    signaling::{
        EndpointConfig, EndpointUri, Scheme, TlsFiles, UriError,
        client::{
            ClientConfig, ServerUrl,
            socket::{SocketConfig, SocketUrl, SocketUrlError},
        },
    },
};

/// What the end of a stream means for the pads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstWebrtcIngestOnDisconnect")]
pub enum OnDisconnect {
    /// As a server wait, as a client end.
    #[default]
    #[enum_value(name = "As a server wait for the next publisher, as a client end the stream", nick = "auto")]
    Auto,
    /// Wait for the next publisher, or for the server to have the stream again.
    #[enum_value(name = "Wait for the next publisher, or for the server to have the stream again", nick = "wait")]
    Wait,
    /// End the stream.
    #[enum_value(name = "End the stream", nick = "eos")]
    Eos,
}

/// The properties as they are set.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) uri: Option<String>,
    pub(super) auth_token: Option<String>,
    pub(super) stun_server: Option<String>,
    pub(super) turn_servers: gst::Array,
    pub(super) video_codecs: gst::Array,
    pub(super) audio_codecs: gst::Array,
    pub(super) latency: u32,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) ice_udp_port: u32,
    pub(super) ice_udp_port_range: Option<String>,
    pub(super) public_addresses: gst::Array,
    pub(super) ice_tcp: bool,
    pub(super) ice_transport_policy: IceTransportPolicy,
    pub(super) trusted_proxies: gst::Array,
    pub(super) tls_certificate: Option<String>,
    pub(super) tls_key: Option<String>,
    pub(super) max_bitrate: u32,
    pub(super) connect_timeout: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let CodecPreferences { video, audio } = CodecPreferences::default();
        Self {
            uri: None,
            auth_token: None,
            stun_server: None,
            turn_servers: gst::Array::default(),
            video_codecs: properties::codec_names(video),
            audio_codecs: properties::codec_names(audio),
            latency: 200,
            on_disconnect: OnDisconnect::default(),
            ice_udp_port: 0,
            ice_udp_port_range: None,
            public_addresses: gst::Array::default(),
            ice_tcp: false,
            ice_transport_policy: IceTransportPolicy::All,
            trusted_proxies: gst::Array::default(),
            tls_certificate: None,
            tls_key: None,
            max_bitrate: 0,
            connect_timeout: 10_000,
        }
    }
}

/// What the settings mean, checked.
pub(super) struct ResolvedSettings {
    pub(super) source: Source,
    pub(super) latency: u32,
    pub(super) eos_on_disconnect: bool,
}

/// Where media comes from.
pub(super) enum Source {
    /// A connection of its own.
    Own(Box<ResolvedConnection>),
    /// The connection of the session around it.
    Peer(Peer),
}

/// A connection of its own.
pub(super) struct ResolvedConnection {
    pub(super) role: ResolvedRole,
    pub(super) codecs: CodecPreferences,
    pub(super) udp_ports: UdpPorts,
    pub(super) public_addresses: Vec<IpAddr>,
    pub(super) reach: ReachConfig,
    pub(super) max_bitrate: u32,
    pub(super) connect_timeout: Duration,
}

/// What a connection of its own is to.
pub(super) enum ResolvedRole {
    /// From whoever publishes here.
    Server(Box<EndpointConfig>),
    /// From a WHEP server.
    Client(ClientConfig),
    /// From another peer in a signaling server's channel.
    Meeting(SocketConfig),
}

impl Settings {
    /// Checks everything; the error says which property is wrong, why, and what to do. Without `uri` media is that of the
    /// `peer` around the element.
    pub(super) fn resolve(&self, peer: Option<Peer>) -> Result<ResolvedSettings, String> {
        let (source, eos) = match (&self.uri, peer) {
            (None, Some(peer)) => (Source::Peer(peer), true),
            (None, None) => {
                return Err("uri is not set, and there is no session of a webrtcbridgebin around this element; \
                            for example uri=whip://127.0.0.1:8080/whip/live"
                    .into());
            }
            (Some(uri), _) => {
                let connection = self.connection(parse_uri(uri)?)?;
                let is_client = !matches!(connection.role, ResolvedRole::Server(_));
                (Source::Own(Box::new(connection)), is_client)
            }
        };
        let eos_on_disconnect = match self.on_disconnect {
            OnDisconnect::Auto => eos,
            OnDisconnect::Wait => false,
            OnDisconnect::Eos => true,
        };
        Ok(ResolvedSettings { source, latency: self.latency, eos_on_disconnect })
    }

    fn connection(&self, uri: IngestUri) -> Result<ResolvedConnection, String> {
        // A launch line's empty default means none, where there is nothing that it would open.
        let auth_token = self.auth_token.clone().filter(|token| !token.is_empty());
        let ice_servers = properties::ice_servers(self.stun_server.as_deref(), &self.turn_servers)?;
        let trusted_proxies = properties::trusted_proxies(&self.trusted_proxies)?;
        let reach = reach::config(&ice_servers, self.ice_tcp, self.ice_transport_policy)?;
        let role = match uri {
            IngestUri::Serve(uri) => {
                if self.auth_token.is_some() && auth_token.is_none() {
                    return Err("auth-token is empty: set it to what publishers shall show, or leave it out".into());
                }
                let tls = self.server_tls(uri.scheme)?;
                let endpoint = EndpointConfig {
                    listen: uri.listen,
                    path: uri.path,
                    tls,
                    auth_token,
                    authorizer: None,
                    ice_servers,
                    trusted_proxies,
                };
                ResolvedRole::Server(Box::new(endpoint))
            }
            IngestUri::Call(server) => {
                let trusted = self.trusted(server.is_secure(), "wheps://")?;
                ResolvedRole::Client(ClientConfig { server, auth_token, trusted })
            }
            IngestUri::Meet(url) => {
                let trusted = self.trusted(url.is_secure(), "wss://")?;
                ResolvedRole::Meeting(SocketConfig { url, auth_token, trusted })
            }
        };
        Ok(ResolvedConnection {
            role,
            codecs: properties::codecs(&self.video_codecs, &self.audio_codecs)?,
            udp_ports: properties::udp_ports(self.ice_udp_port, self.ice_udp_port_range.as_deref())?,
            public_addresses: properties::addresses(&self.public_addresses)?,
            reach,
            max_bitrate: self.max_bitrate,
            connect_timeout: Duration::from_millis(self.connect_timeout.into()),
        })
    }

    /// Fills in the placeholders of what the getters hide, which nobody else can.
    pub(super) fn fill_in(&mut self, element: &super::WebrtcIngest, peer: &Peer) {
        for (property, text) in [("uri", &mut self.uri), ("auth-token", &mut self.auth_token)] {
            if let Some(text) = text {
                *text = peer.fill(element, property, text);
            }
        }
        // What is no string is told of when the settings are looked at.
        let turn_servers = properties::strings("turn-servers", &self.turn_servers).collect::<Result<Vec<_>, _>>();
        if let Ok(turn_servers) = turn_servers {
            let filled = turn_servers.iter().map(|text| peer.fill(element, "turn-servers", text));
            self.turn_servers = gst::Array::new(filled);
        }
    }

    fn server_tls(&self, scheme: Scheme) -> Result<Option<TlsFiles>, String> {
        match (scheme.is_secure(), &self.tls_certificate, &self.tls_key) {
            (true, Some(certificate), Some(key)) => Ok(Some(properties::tls_files(certificate, key))),
            (true, _, _) => Err("whips:// needs tls-certificate and tls-key, both PEM files".into()),
            (false, None, None) => Ok(None),
            (false, _, _) => Err("tls-certificate and tls-key are set, but uri is whip://: use whips://".into()),
        }
    }

    /// The file of certificates to trust as a client.
    fn trusted(&self, is_secure: bool, secure: &str) -> Result<Option<PathBuf>, String> {
        match (is_secure, &self.tls_certificate, &self.tls_key) {
            (_, _, Some(_)) => {
                Err("tls-key is set, but a server that is called asks for no certificate of ours".into())
            }
            (false, Some(_), _) => Err(format!("tls-certificate is set, but uri is without TLS: use {secure}")),
            (_, certificate, None) => Ok(certificate.as_ref().map(PathBuf::from)),
        }
    }
}

/// Where the `uri` property leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IngestUri {
    /// `whip(s)://`: a place to publish to.
    Serve(EndpointUri),
    /// `whep(s)://`, or pasted as http(s)://: a server to pull from.
    Call(ServerUrl),
    /// `ws(s)://`: a channel of a signaling server, where another peer is met.
    Meet(SocketUrl),
}

/// Reads the `uri` property.
pub(super) fn parse_uri(uri: &str) -> Result<IngestUri, String> {
    let scheme = uri.split("://").next().unwrap_or_default().to_ascii_lowercase();
    if matches!(scheme.as_str(), "whep" | "wheps" | "http" | "https") {
        return uri.parse().map(IngestUri::Call).map_err(|error| format!("uri: {error}"));
    }
    if matches!(scheme.as_str(), "ws" | "wss") {
        return uri.parse().map(IngestUri::Meet).map_err(|error: SocketUrlError| format!("uri: {error}"));
    }
    uri.parse().map(IngestUri::Serve).map_err(|error: UriError| format!("uri: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings { uri: Some("whip://127.0.0.1:0/whip/live".into()), ..Settings::default() };
        change(&mut settings);
        settings.resolve(None).err().unwrap_or_default()
    }

    #[test]
    fn defaults_with_a_uri_are_fine() {
        gst::init().unwrap();
        assert_eq!(error(|_| {}), "");
    }

    #[test]
    fn a_server_is_called_by_whep_or_http_and_its_end_is_eos_unless_told_otherwise() {
        gst::init().unwrap();
        let resolve = |uri: &str, on_disconnect| {
            let settings = Settings { uri: Some(uri.into()), on_disconnect, ..Settings::default() };
            let resolved = settings.resolve(None).unwrap();
            let Source::Own(connection) = resolved.source else { panic!("it has a uri") };
            (matches!(connection.role, ResolvedRole::Client(_)), resolved.eos_on_disconnect)
        };
        assert_eq!(resolve("wheps://host/whep/live", OnDisconnect::Auto), (true, true));
        assert_eq!(resolve("HTTP://host:1985/rtc/?stream=1", OnDisconnect::Wait), (true, false));
        assert_eq!(resolve("ws://host/ws?channel=a", OnDisconnect::Auto), (false, true));
        assert_eq!(resolve("whip://127.0.0.1:0/whip/live", OnDisconnect::Auto), (false, false));
        assert_eq!(resolve("whip://127.0.0.1:0/whip/live", OnDisconnect::Eos), (false, true));
    }

    #[test]
    fn a_client_takes_certificates_to_trust_and_no_key() {
        gst::init().unwrap();
        let client = |uri: &str, certificate: Option<&str>, key: Option<&str>| {
            error(|s| {
                s.uri = Some(uri.into());
                s.tls_certificate = certificate.map(str::to_owned);
                s.tls_key = key.map(str::to_owned);
            })
        };
        assert_eq!(client("wheps://h/x", Some("ca.pem"), None), "");
        assert!(client("whep://h/x", Some("ca.pem"), None).contains("wheps://"));
        assert!(client("wheps://h/x", Some("ca.pem"), Some("key.pem")).contains("tls-key"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        gst::init().unwrap();
        assert!(error(|s| s.uri = None).contains("uri is not set"));
        assert!(error(|s| s.uri = Some("rtsp://127.0.0.1:8080/x".into())).contains("\"rtsp\" is not supported"));
        assert!(error(|s| s.uri = Some("whep://me:pw@127.0.0.1/x".into())).contains("auth-token"));
        assert!(error(|s| s.uri = Some("ws://127.0.0.1/ws".into())).contains("channel=ID"));
        assert!(error(|s| s.uri = Some("whips://127.0.0.1:8080/x".into())).contains("tls-certificate"));
        assert!(error(|s| s.auth_token = Some(String::new())).contains("auth-token is empty"));
        assert!(error(|s| s.tls_key = Some("key.pem".into())).contains("whips://"));
        assert!(error(|s| s.video_codecs = gst::Array::new(["H266"])).contains("\"H266\""));
        assert!(error(|s| s.video_codecs = gst::Array::new(["OPUS"])).contains("OPUS is no video codec"));
        assert!(error(|s| s.public_addresses = gst::Array::new(["here"])).contains("\"here\""));
        assert!(error(|s| s.ice_udp_port_range = Some("50000".into())).contains("ice-udp-port-range: \"50000\""));
        assert!(error(|s| s.ice_udp_port_range = Some("2-1".into())).contains("2-1 is empty"));
        let both = error(|s| (s.ice_udp_port, s.ice_udp_port_range) = (50_000, Some("50000-50100".into())));
        assert!(both.contains("ice-udp-port=50000") && both.contains("ice-udp-port-range=50000-50100"), "{both}");
        assert!(error(|s| s.trusted_proxies = gst::Array::new(["nginx"])).starts_with("trusted-proxies: \"nginx\""));
        assert!(error(|s| s.ice_udp_port = 70_000).contains("ice-udp-port"));
        assert!(error(|s| s.stun_server = Some("turn://a:b@h".into())).contains("stun://"));
        let turn = error(|s| s.turn_servers = gst::Array::new(["turn://me:sec,ret@h"]));
        assert!(turn.contains("turn-servers") && turn.contains("comma") && !turn.contains("sec,ret"), "{turn}");
    }

    #[test]
    fn addresses_of_both_families_and_ranges_of_ports_are_taken() {
        gst::init().unwrap();
        assert_eq!(error(|s| s.public_addresses = gst::Array::new(["203.0.113.7", "2001:db8::1"])), "");
        assert_eq!(error(|s| s.ice_udp_port_range = Some("50000-50100".into())), "");
        assert_eq!(error(|s| (s.ice_udp_port, s.ice_udp_port_range) = (50_000, Some(String::new()))), "");
    }
}
