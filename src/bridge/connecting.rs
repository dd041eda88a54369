//! The properties that webrtcingest and webrtcegress have in common: where they connect to and how. As they are set, and what
//! READY→PAUSED makes of them; the error says which property is wrong, why, and what to do.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use gst::prelude::*;

use super::{Peer, properties, reach, reach::IceTransportPolicy};
use crate::{
    session::{CodecPreferences, ReachConfig, UdpPorts},
    signaling::{
        EndpointConfig, EndpointUri, Scheme, TlsFiles, UriError,
        client::{
            ClientConfig, ServerUrl,
            socket::{SocketConfig, SocketUrl, SocketUrlError},
        },
    },
};

/// Which way an element's media goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever publishes here by WHIP, or from a WHEP server.
    In,
    /// To whoever watches here by WHEP, or to a WHIP server.
    Out,
}

impl Way {
    /// The scheme of what is served.
    fn served(self) -> &'static str {
        match self {
            Self::In => "whip",
            Self::Out => "whep",
        }
    }

    /// The scheme of what is called.
    fn called(self) -> &'static str {
        match self {
            Self::In => "whep",
            Self::Out => "whip",
        }
    }

    /// Who comes to what is served.
    fn guests(self) -> &'static str {
        match self {
            Self::In => "publishers",
            Self::Out => "viewers",
        }
    }
}

/// The properties as they are set.
#[derive(Clone)]
pub(crate) struct Connecting {
    pub(crate) uri: Option<String>,
    pub(crate) auth_token: Option<String>,
    pub(crate) stun_server: Option<String>,
    pub(crate) turn_servers: gst::Array,
    pub(crate) video_codecs: gst::Array,
    pub(crate) audio_codecs: gst::Array,
    pub(crate) ice_udp_port: u32,
    pub(crate) ice_udp_port_range: Option<String>,
    pub(crate) public_addresses: gst::Array,
    pub(crate) ice_tcp: bool,
    pub(crate) ice_transport_policy: IceTransportPolicy,
    pub(crate) trusted_proxies: gst::Array,
    pub(crate) tls_certificate: Option<String>,
    pub(crate) tls_key: Option<String>,
    pub(crate) connect_timeout: u32,
}

impl Default for Connecting {
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
            connect_timeout: 10_000,
        }
    }
}

/// What the properties mean, checked.
pub(crate) enum Connects {
    /// By connections of its own.
    Itself(Box<Connection>),
    /// It has part in the connection of the session around it.
    In(Peer),
}

/// A connection of an element's own, or several.
pub(crate) struct Connection {
    pub(crate) role: ConnectionRole,
    pub(crate) udp_ports: UdpPorts,
    pub(crate) public_addresses: Vec<IpAddr>,
    pub(crate) reach: ReachConfig,
    pub(crate) connect_timeout: Duration,
}

/// What an element's own connections are to.
pub(crate) enum ConnectionRole {
    /// Whoever comes here.
    Server(Box<EndpointConfig>),
    /// A WHIP or WHEP server.
    Client(ClientConfig),
    /// Another peer in a signaling server's channel.
    Meeting(SocketConfig),
}

impl Connecting {
    /// Checks everything but the codecs. Without `uri` the element belongs to the `peer` around it.
    pub(crate) fn resolve(&self, way: Way, peer: Option<Peer>) -> Result<Connects, String> {
        match (&self.uri, peer) {
            (None, Some(peer)) => Ok(Connects::In(peer)),
            (None, None) => Err(format!(
                "uri is not set, and there is no session of a webrtcbridgebin around this element; \
                 for example uri={scheme}://127.0.0.1:8080/{scheme}/live",
                scheme = way.served()
            )),
            (Some(uri), _) => Ok(Connects::Itself(Box::new(self.connection(way, Target::parse(way, uri)?)?))),
        }
    }

    /// The codecs of both kinds.
    pub(crate) fn codecs(&self) -> Result<CodecPreferences, String> {
        properties::codecs(&self.video_codecs, &self.audio_codecs)
    }

    fn connection(&self, way: Way, target: Target) -> Result<Connection, String> {
        // A launch line's empty default means none, where there is nothing that it would open.
        let auth_token = self.auth_token.clone().filter(|token| !token.is_empty());
        let ice_servers = properties::ice_servers(self.stun_server.as_deref(), &self.turn_servers)?;
        let trusted_proxies = properties::trusted_proxies(&self.trusted_proxies)?;
        let reach = reach::config(&ice_servers, self.ice_tcp, self.ice_transport_policy)?;
        let role = match target {
            Target::Serve(uri) => {
                if self.auth_token.is_some() && auth_token.is_none() {
                    let guests = way.guests();
                    return Err(format!("auth-token is empty: set it to what {guests} shall show, or leave it out"));
                }
                let tls = self.server_tls(way, uri.scheme)?;
                ConnectionRole::Server(Box::new(EndpointConfig {
                    listen: uri.listen,
                    path: uri.path,
                    tls,
                    auth_token,
                    authorizer: None,
                    ice_servers,
                    trusted_proxies,
                }))
            }
            Target::Call(server) => {
                let trusted = self.trusted(server.is_secure(), way.called())?;
                ConnectionRole::Client(ClientConfig { server, auth_token, trusted })
            }
            Target::Meet(url) => {
                let trusted = self.trusted(url.is_secure(), "ws")?;
                ConnectionRole::Meeting(SocketConfig { url, auth_token, trusted })
            }
        };
        Ok(Connection {
            role,
            udp_ports: properties::udp_ports(self.ice_udp_port, self.ice_udp_port_range.as_deref())?,
            public_addresses: properties::addresses(&self.public_addresses)?,
            reach,
            connect_timeout: Duration::from_millis(self.connect_timeout.into()),
        })
    }

    /// Fills in the placeholders of what the getters hide, which nobody else can.
    pub(crate) fn fill_in(&mut self, element: &impl IsA<gst::Object>, peer: &Peer) {
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

    /// `uri` as it may be shown: a client's query may hold a key, and anything what cannot be understood.
    pub(crate) fn redacted_uri(&self, way: Way) -> Option<String> {
        let uri = self.uri.clone()?;
        Some(match (Target::parse(way, &uri), uri.split_once('?'), uri.split_once("://")) {
            (Ok(Target::Call(_) | Target::Meet(_)), Some((shown, _)), _) => format!("{shown}?…"),
            (Ok(_), ..) => uri,
            (Err(_), _, Some((scheme, _))) => format!("{scheme}://***"),
            (Err(_), _, None) => "***".to_owned(),
        })
    }

    /// `auth-token` as it may be shown.
    pub(crate) fn redacted_token(&self) -> Option<String> {
        self.auth_token.as_ref().map(|_| "***".to_owned())
    }

    /// `turn-servers` as they may be shown.
    pub(crate) fn redacted_turn_servers(&self) -> gst::Array {
        properties::redacted_turn_servers(&self.turn_servers)
    }

    fn server_tls(&self, way: Way, scheme: Scheme) -> Result<Option<TlsFiles>, String> {
        let served = way.served();
        match (scheme.is_secure(), &self.tls_certificate, &self.tls_key) {
            (true, Some(certificate), Some(key)) => Ok(Some(properties::tls_files(certificate, key))),
            (true, _, _) => Err(format!("{served}s:// needs tls-certificate and tls-key, both PEM files")),
            (false, None, None) => Ok(None),
            (false, _, _) => {
                Err(format!("tls-certificate and tls-key are set, but uri is {served}://: use {served}s://"))
            }
        }
    }

    /// The file of certificates to trust as a client; `scheme` is the one without TLS.
    fn trusted(&self, is_secure: bool, scheme: &str) -> Result<Option<PathBuf>, String> {
        match (is_secure, &self.tls_certificate, &self.tls_key) {
            (_, _, Some(_)) => {
                Err("tls-key is set, but a server that is called asks for no certificate of ours".into())
            }
            (false, Some(_), _) => Err(format!("tls-certificate is set, but uri is without TLS: use {scheme}s://")),
            (_, certificate, None) => Ok(certificate.as_ref().map(PathBuf::from)),
        }
    }
}

/// Where the `uri` property leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// A place that is served: `whip(s)://` where media comes in, `whep(s)://` where it goes out.
    Serve(EndpointUri),
    /// A server that is called, by the other of these; or pasted as http(s)://.
    Call(ServerUrl),
    /// `ws(s)://`: a channel of a signaling server, where another peer is met.
    Meet(SocketUrl),
}

impl Target {
    fn parse(way: Way, uri: &str) -> Result<Self, String> {
        let scheme = uri.split("://").next().unwrap_or_default().to_ascii_lowercase();
        let calls = matches!(scheme.as_str(), "http" | "https")
            || scheme.strip_prefix(way.called()).is_some_and(|rest| matches!(rest, "" | "s"));
        if calls {
            return uri.parse().map(Self::Call).map_err(|error| format!("uri: {error}"));
        }
        if matches!(scheme.as_str(), "ws" | "wss") {
            return uri.parse().map(Self::Meet).map_err(|error: SocketUrlError| format!("uri: {error}"));
        }
        uri.parse().map(Self::Serve).map_err(|error: UriError| format!("uri: {error}"))
    }
}

/// Whether this is what `uri` may be.
pub(crate) fn check_uri(way: Way, uri: &str) -> Result<(), String> {
    Target::parse(way, uri).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(way: Way, change: impl FnOnce(&mut Connecting)) -> String {
        gst::init().unwrap();
        let scheme = way.served();
        let uri = Some(format!("{scheme}://127.0.0.1:0/{scheme}/live"));
        let mut settings = Connecting { uri, ..Connecting::default() };
        change(&mut settings);
        let resolved = settings.resolve(way, None).and_then(|_| settings.codecs());
        resolved.err().unwrap_or_default()
    }

    #[test]
    fn defaults_with_a_uri_are_fine() {
        assert_eq!((error(Way::In, |_| {}), error(Way::Out, |_| {})), Default::default());
    }

    #[test]
    fn one_of_whip_and_whep_is_served_and_the_other_or_http_is_called() {
        for (way, served, called) in [(Way::In, "whip", "whep"), (Way::Out, "whep", "whip")] {
            let serves = |uri: &str| matches!(Target::parse(way, uri), Ok(Target::Serve(_)));
            let calls = |uri: &str| matches!(Target::parse(way, uri), Ok(Target::Call(_)));
            let is = [format!("{served}://127.0.0.1:0/live"), format!("{served}s://0.0.0.0:8443/x")];
            assert!(is.iter().all(|uri| serves(uri)), "{way:?}");
            let is = [format!("{called}://h/live"), format!("{}S://h/live", called.to_uppercase())];
            assert!(is.iter().all(|uri| calls(uri)) && calls("https://h/whip?key=1"), "{way:?}");
            assert!(matches!(Target::parse(way, "wss://h/ws?channel=a"), Ok(Target::Meet(_))), "{way:?}");
            assert!(Target::parse(way, "rtsp://h:1/x").unwrap_err().contains("\"rtsp\" is not supported"), "{way:?}");
        }
    }

    #[test]
    fn a_client_takes_certificates_to_trust_and_no_key() {
        for (way, called) in [(Way::In, "whep"), (Way::Out, "whip")] {
            let client = |scheme: &str, certificate: Option<&str>, key: Option<&str>| {
                error(way, |s| {
                    s.uri = Some(format!("{scheme}://h/x"));
                    s.tls_certificate = certificate.map(str::to_owned);
                    s.tls_key = key.map(str::to_owned);
                })
            };
            let secure = format!("{called}s");
            assert_eq!(client(&secure, Some("ca.pem"), None), "");
            assert!(client(called, Some("ca.pem"), None).contains(&format!("use {secure}://")));
            assert!(client(&secure, Some("ca.pem"), Some("key.pem")).contains("tls-key"));
            assert!(client(&secure, None, Some("key.pem")).contains("tls-key"));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for way in [Way::In, Way::Out] {
            let (served, called) = (way.served(), way.called());
            let error = |change: fn(&mut Connecting)| error(way, change);
            let with_uri = |uri: String| self::error(way, |s| s.uri = Some(uri));
            let unset = error(|s| s.uri = None);
            assert!(
                unset.contains("uri is not set") && unset.contains(&format!("{served}://127.0.0.1:8080")),
                "{unset}"
            );
            assert!(with_uri(format!("{called}://me:pw@127.0.0.1/x")).contains("auth-token"));
            assert!(with_uri("ws://127.0.0.1/ws".into()).contains("channel=ID"));
            assert!(with_uri(format!("{served}s://127.0.0.1:8080/x")).contains("tls-certificate"));
            assert!(error(|s| s.auth_token = Some(String::new())).contains(way.guests()));
            assert!(error(|s| s.tls_key = Some("key.pem".into())).contains(&format!("{served}s://")));
            assert!(error(|s| s.video_codecs = gst::Array::new(["OPUS"])).contains("OPUS is no video codec"));
            assert!(error(|s| s.audio_codecs = gst::Array::new(["VP8"])).contains("VP8 is no audio codec"));
            assert!(error(|s| s.ice_udp_port = 70_000).contains("ice-udp-port"));
            assert!(error(|s| s.ice_udp_port_range = Some("2-1".into())).contains("2-1 is empty"));
            let both = error(|s| (s.ice_udp_port, s.ice_udp_port_range) = (50_000, Some("50000-50100".into())));
            assert!(both.contains("ice-udp-port=50000") && both.contains("ice-udp-port-range=50000-50100"), "{both}");
            let proxies = error(|s| s.trusted_proxies = gst::Array::new(["nginx"]));
            assert!(proxies.starts_with("trusted-proxies: \"nginx\""), "{proxies}");
            assert!(error(|s| s.video_codecs = gst::Array::new(["H266"])).contains("\"H266\""));
            assert!(error(|s| s.public_addresses = gst::Array::new(["here"])).contains("\"here\""));
            assert!(error(|s| s.ice_udp_port_range = Some("50000".into())).contains("ice-udp-port-range: \"50000\""));
            assert!(error(|s| s.stun_server = Some("turn://a:b@h".into())).contains("stun://"));
            let turn = error(|s| s.turn_servers = gst::Array::new(["turn://me:sec,ret@h"]));
            assert!(turn.contains("turn-servers") && turn.contains("comma") && !turn.contains("sec,ret"), "{turn}");
        }
    }

    #[test]
    fn addresses_of_both_families_and_ranges_of_ports_are_taken() {
        let error = |change: fn(&mut Connecting)| error(Way::In, change);
        assert_eq!(error(|s| s.public_addresses = gst::Array::new(["203.0.113.7", "2001:db8::1"])), "");
        assert_eq!(error(|s| s.ice_udp_port_range = Some("50000-50100".into())), "");
        assert_eq!(error(|s| (s.ice_udp_port, s.ice_udp_port_range) = (50_000, Some(String::new()))), "");
    }
}
