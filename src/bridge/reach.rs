//! What the properties say of how peers reach us: read, opened on the shared port, and problems told on the bus.

use std::sync::Arc;

use gst::{glib, prelude::*};

use crate::{
    runtime,
    session::{Mux, Reach, ReachConfig, StunServer, TurnServer, TurnTransport},
    signaling::IceServer,
};

/// Which candidates a connection may use, as in the W3C's RTCIceTransportPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstWebrtcBridgeIceTransportPolicy")]
pub enum IceTransportPolicy {
    /// All that there are.
    #[default]
    #[enum_value(name = "All that there are", nick = "all")]
    All,
    /// Relays only.
    #[enum_value(name = "TURN servers only: peers learn no address of this machine", nick = "relay")]
    Relay,
}

/// What is to be opened for these servers; `tcp`: peers may connect by TCP.
pub fn config(servers: &[IceServer], tcp: bool, policy: IceTransportPolicy) -> Result<ReachConfig, String> {
    let mut config = ReachConfig { tcp, relay_only: policy == IceTransportPolicy::Relay, ..ReachConfig::default() };
    for server in servers {
        match server.login() {
            None => config.stun = Some(stun(server)?),
            Some((username, password)) => config.turn.push(turn(server, username, password)?),
        }
    }
    Ok(config)
}

fn stun(server: &IceServer) -> Result<StunServer, String> {
    let address = server.uri().strip_prefix("stun:").unwrap_or(server.uri());
    let (host, port) = host_and_port(address, 3478).ok_or_else(|| format!("stun-server: \"{address}\" has no port"))?;
    Ok(StunServer { host, port })
}

fn turn(server: &IceServer, username: &str, password: &str) -> Result<TurnServer, String> {
    let uri = server.uri();
    let malformed = || format!("turn-servers: \"{uri}\" is not turn(s)://user:password@host:port?transport=udp or tcp");
    let (scheme, rest) = uri.split_once(':').ok_or_else(malformed)?;
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let transport = match (scheme, query) {
        ("turn", "" | "transport=udp") => TurnTransport::Udp,
        ("turn", "transport=tcp") => TurnTransport::Tcp,
        ("turns", "" | "transport=tcp") => TurnTransport::Tls,
        ("turns", "transport=udp") => {
            return Err(format!(
                "turn-servers: \"{uri}\" is TURN over DTLS, which is not supported: write turns:// with \
                 ?transport=tcp, or turn:// with ?transport=udp"
            ));
        }
        _ => return Err(malformed()),
    };
    let default = if transport == TurnTransport::Tls { 5349 } else { 3478 };
    let (host, port) = host_and_port(address, default).ok_or_else(malformed)?;
    Ok(TurnServer { host, port, transport, username: username.to_owned(), password: password.to_owned() })
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match text[after_brackets..].find(':') {
        None => (text, default),
        Some(colon) => (&text[..after_brackets + colon], text[after_brackets + colon + 1..].parse().ok()?),
    };
    Some((host.trim_matches(['[', ']']).to_owned(), port)).filter(|(host, _)| !host.is_empty())
}

/// Opens what is configured on this port; nothing, if nothing is. Servers that do not work become warnings of the element.
pub(crate) fn open<E>(mux: &Mux, config: ReachConfig, element: &E) -> Result<Option<Arc<Reach>>, String>
where
    E: IsA<gst::Element>,
{
    let element = element.upcast_ref::<gst::Element>().downgrade();
    open_telling(mux, config, move |why| {
        if let Some(element) = element.upgrade() {
            // Whoever reads the bus may take his time.
            element.call_async(move |element| {
                gst::element_warning!(element, gst::ResourceError::OpenRead, ("{why}"));
            });
        }
    })
}

/// The same without an element.
pub(crate) fn open_telling(
    mux: &Mux,
    config: ReachConfig,
    problem: impl Fn(String) + Clone + Send + 'static,
) -> Result<Option<Arc<Reach>>, String> {
    if config.is_empty() {
        return Ok(None);
    }
    let media = runtime::media().map_err(|error| format!("a thread could not be started: {error}"))?;
    let _guard = media.enter();
    Reach::open(mux, config, problem).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<ReachConfig, String> {
        let servers: Vec<IceServer> = texts.iter().map(|text| IceServer::parse(text).unwrap()).collect();
        config(&servers, false, IceTransportPolicy::All)
    }

    #[test]
    fn every_way_of_writing_a_server_is_read() {
        let servers = [
            "stun://stun.example.net",
            "turn://me:pw@turn.example.net",
            "turn://me:pw@[2001:db8::1]:80?transport=tcp",
            "turns://me:pw@turn.example.net:443?transport=tcp",
        ];
        let config = read(&servers).unwrap();
        assert_eq!(config.stun, Some(StunServer { host: "stun.example.net".into(), port: 3478 }));
        let turn: Vec<_> = config.turn.iter().map(|s| (s.host.as_str(), s.port, s.transport)).collect();
        assert_eq!(
            turn,
            [
                ("turn.example.net", 3478, TurnTransport::Udp),
                ("2001:db8::1", 80, TurnTransport::Tcp),
                ("turn.example.net", 443, TurnTransport::Tls)
            ]
        );
    }

    #[test]
    fn what_is_not_supported_is_refused_with_the_way_round_and_without_the_password() {
        let error = read(&["turns://me:secret@h?transport=udp"]).unwrap_err();
        assert!(error.contains("DTLS") && error.contains("?transport=tcp") && !error.contains("secret"), "{error}");
        let sctp = IceServer::parse("turn://me:secret@h?transport=sctp").unwrap_err().to_string();
        assert!(sctp.contains("?transport=udp or ?transport=tcp") && !sctp.contains("secret"), "{sctp}");
    }
}
