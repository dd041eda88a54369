//! Properties as they are set, and what READY→PAUSED makes of them.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use crate::{
    bridge::{IceTransportPolicy, Peer, properties, reach},
    session::{CodecPreferences, ReachConfig, UdpPorts},
    signaling::{
        EndpointConfig, EndpointUri, Scheme, UriError,
        client::{
            ClientConfig, ServerUrl,
            socket::{SocketConfig, SocketUrl, SocketUrlError},
        },
    },
};

/// The properties as they are set.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) uri: Option<String>,
    pub(super) auth_token: Option<String>,
    pub(super) stun_server: Option<String>,
    pub(super) turn_servers: gst::Array,
    pub(super) video_codecs: gst::Array,
    pub(super) audio_codecs: gst::Array,
    pub(super) ice_udp_port: u32,
    pub(super) ice_udp_port_range: Option<String>,
    pub(super) public_addresses: gst::Array,
    pub(super) ice_tcp: bool,
    pub(super) ice_transport_policy: IceTransportPolicy,
    pub(super) trusted_proxies: gst::Array,
    pub(super) tls_certificate: Option<String>,
    pub(super) tls_key: Option<String>,
    pub(super) encoder: String,
    pub(super) video_bitrate: u32,
    pub(super) audio_bitrate: u32,
    pub(super) max_viewers: u32,
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
            ice_udp_port: 0,
            ice_udp_port_range: None,
            public_addresses: gst::Array::default(),
            ice_tcp: false,
            ice_transport_policy: IceTransportPolicy::All,
            trusted_proxies: gst::Array::default(),
            tls_certificate: None,
            tls_key: None,
            encoder: "auto".into(),
            video_bitrate: 2_500_000,
            audio_bitrate: 96_000,
            max_viewers: 0,
            connect_timeout: 10_000,
        }
    }
}

/// What the settings mean, checked.
pub(super) struct ResolvedSettings {
    pub(super) sink: Sink,
    pub(super) codecs: CodecPreferences,
}

/// Where media goes.
pub(super) enum Sink {
    /// A connection of its own, or many.
    Own(Box<ResolvedConnection>),
    /// The connection of the session around it.
    Peer(Peer),
}

/// Connections of its own.
pub(super) struct ResolvedConnection {
    pub(super) role: ResolvedRole,
    pub(super) udp_ports: UdpPorts,
    pub(super) public_addresses: Vec<IpAddr>,
    pub(super) reach: ReachConfig,
    pub(super) connect_timeout: Duration,
}

/// What connections of its own are to.
pub(super) enum ResolvedRole {
    /// To whoever watches here.
    Server { endpoint: EndpointConfig, max_viewers: u32 },
    /// To a WHIP server.
    Client(ClientConfig),
    /// To another peer in a signaling server's channel.
    Meeting(SocketConfig),
}

impl Settings {
    /// Checks everything; the error says which property is wrong, why, and what to do. Without `uri` media goes to the `peer`
    /// of the session around the element.
    pub(super) fn resolve(&self, peer: Option<Peer>) -> Result<ResolvedSettings, String> {
        let codecs = properties::codecs(&self.video_codecs, &self.audio_codecs)?;
        let sink = match (&self.uri, peer) {
            (None, Some(peer)) => Sink::Peer(peer),
            (None, None) => {
                return Err("uri is not set, and there is no session of a webrtcbridgebin around this element; \
                            for example uri=whep://127.0.0.1:8080/whep/live"
                    .into());
            }
            (Some(uri), _) => Sink::Own(Box::new(self.connection(parse_uri(uri)?)?)),
        };
        Ok(ResolvedSettings { sink, codecs })
    }

    fn connection(&self, uri: EgressUri) -> Result<ResolvedConnection, String> {
        // A launch line's empty default means none, where there is nothing that it would open.
        let auth_token = self.auth_token.clone().filter(|token| !token.is_empty());
        let ice_servers = properties::ice_servers(self.stun_server.as_deref(), &self.turn_servers)?;
        let trusted_proxies = properties::trusted_proxies(&self.trusted_proxies)?;
        let reach = reach::config(&ice_servers, self.ice_tcp, self.ice_transport_policy)?;
        let role = match uri {
            EgressUri::Serve(uri) => {
                if self.auth_token.is_some() && auth_token.is_none() {
                    return Err("auth-token is empty: set it to what viewers shall show, or leave it out".into());
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
                ResolvedRole::Server { endpoint, max_viewers: self.max_viewers }
            }
            EgressUri::Call(server) => {
                let trusted = self.trusted(server.is_secure(), "whips://")?;
                ResolvedRole::Client(ClientConfig { server, auth_token, trusted })
            }
            EgressUri::Meet(url) => {
                let trusted = self.trusted(url.is_secure(), "wss://")?;
                ResolvedRole::Meeting(SocketConfig { url, auth_token, trusted })
            }
        };
        Ok(ResolvedConnection {
            role,
            udp_ports: properties::udp_ports(self.ice_udp_port, self.ice_udp_port_range.as_deref())?,
            public_addresses: properties::addresses(&self.public_addresses)?,
            reach,
            connect_timeout: Duration::from_millis(self.connect_timeout.into()),
        })
    }

    /// Fills in the placeholders of what the getters hide, which nobody else can.
    pub(super) fn fill_in(&mut self, element: &super::WebrtcEgress, peer: &Peer) {
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

    fn server_tls(&self, scheme: Scheme) -> Result<Option<crate::signaling::TlsFiles>, String> {
        match (scheme.is_secure(), &self.tls_certificate, &self.tls_key) {
            (true, Some(certificate), Some(key)) => Ok(Some(properties::tls_files(certificate, key))),
            (true, _, _) => Err("wheps:// needs tls-certificate and tls-key, both PEM files".into()),
            (false, None, None) => Ok(None),
            (false, _, _) => Err("tls-certificate and tls-key are set, but uri is whep://: use wheps://".into()),
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
pub(super) enum EgressUri {
    /// `whep(s)://`: a place to watch.
    Serve(EndpointUri),
    /// `whip(s)://`, or pasted as http(s)://: a server to publish to.
    Call(ServerUrl),
    /// `ws(s)://`: a channel of a signaling server, where another peer is met.
    Meet(SocketUrl),
}

/// Reads the `uri` property.
pub(super) fn parse_uri(uri: &str) -> Result<EgressUri, String> {
    let scheme = uri.split("://").next().unwrap_or_default().to_ascii_lowercase();
    if matches!(scheme.as_str(), "whip" | "whips" | "http" | "https") {
        return uri.parse().map(EgressUri::Call).map_err(|error| format!("uri: {error}"));
    }
    if matches!(scheme.as_str(), "ws" | "wss") {
        return uri.parse().map(EgressUri::Meet).map_err(|error: SocketUrlError| format!("uri: {error}"));
    }
    uri.parse().map(EgressUri::Serve).map_err(|error: UriError| format!("uri: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings { uri: Some("whep://127.0.0.1:0/whep/live".into()), ..Settings::default() };
        change(&mut settings);
        settings.resolve(None).err().unwrap_or_default()
    }

    #[test]
    fn defaults_with_a_uri_are_fine() {
        gst::init().unwrap();
        assert_eq!(error(|_| {}), "");
    }

    #[test]
    fn whep_is_served_and_whip_or_http_is_called() {
        let serves = |uri: &str| matches!(parse_uri(uri), Ok(EgressUri::Serve(_)));
        let calls = |uri: &str| matches!(parse_uri(uri), Ok(EgressUri::Call(_)));
        assert!(serves("whep://127.0.0.1:0/whep/live") && serves("wheps://0.0.0.0:8443/x"));
        assert!(calls("whip://h/live") && calls("WHIPS://h/live") && calls("https://h/whip?key=1"));
        assert!(parse_uri("rtsp://h:1/x").unwrap_err().contains("\"rtsp\""));
    }

    #[test]
    fn what_is_wrong_is_named() {
        gst::init().unwrap();
        assert!(error(|s| s.uri = None).contains("uri is not set"));
        assert!(error(|s| s.uri = Some("whip://me:pw@127.0.0.1/x".into())).contains("auth-token"));
        assert!(error(|s| s.uri = Some("wheps://127.0.0.1:8080/x".into())).contains("tls-certificate"));
        assert!(error(|s| s.tls_key = Some("key.pem".into())).contains("wheps://"));
        assert!(error(|s| s.auth_token = Some(String::new())).contains("auth-token is empty"));
        assert!(error(|s| s.video_codecs = gst::Array::new(["H266"])).contains("\"H266\""));
        assert!(error(|s| s.audio_codecs = gst::Array::new(["VP8"])).contains("VP8 is no audio codec"));
        assert!(error(|s| s.public_addresses = gst::Array::new(["here"])).contains("\"here\""));
        assert!(error(|s| s.ice_udp_port_range = Some("50000".into())).contains("ice-udp-port-range: \"50000\""));
        assert!(error(|s| s.trusted_proxies = gst::Array::new(["nginx"])).starts_with("trusted-proxies: "));
        assert!(error(|s| s.stun_server = Some("turn://a:b@h".into())).contains("stun://"));
        let client = error(|s| (s.uri, s.tls_key) = (Some("whips://h/x".into()), Some("key.pem".into())));
        assert!(client.contains("tls-key"), "{client}");
    }
}
